# SPDX-License-Identifier: GPL-2.0-or-later
"""The test peer F of the gateway checks, and a raw NATS client, both on blocking sockets.

Purpose: play either role of the gateway protocol against a server under test, line by line, and say
exactly what came when something else was expected. One thread uses one object; every wait has a
deadline.

Words: link `o` is the one that F dialled (F sends messages, the server sends interest); link `i` is
the one that the server dialled (the server sends messages, F sends interest). Waiting for "nothing
on the wire" is done by a fence: a PING whose PONG must be the next thing to come, because a server
answers it after all that it had to send before. PINGs of the server are answered on the way unless
`answers_pings` is False.
"""

import base64
import collections
import hashlib
import json
import socket
import ssl
import threading
import time

from support import Mismatch

WAIT = 15.0  # seconds; the deadline of one wait. Long, since several servers share the machine
SHORT = 0.5  # seconds; what "nothing on the wire" waits where no fence is possible
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
FAKE_ID = "NFAKE" + "A" * 51
HEADER = b"NATS/1.0\r\nK: v\r\n\r\n"


def want(condition, message):
    if not condition:
        raise Mismatch(message)


def let_time_pass(seconds):
    """For rows that name a time ("after 2.5 s"), never to wait for something that can be seen."""
    threading.Event().wait(seconds)


def gateway_hash(text):
    """The six characters that stand for a gateway name or a server id in a mapped reply."""
    return "".join(ALPHABET[b % 62] for b in hashlib.sha256(text.encode()).digest()[:6])


def old_gateway_hash(name):
    return hashlib.sha256(name.encode()).hexdigest()[:4]


def base64_of(account):
    return base64.b64encode(account.encode()).decode()


class Frame:
    """One protocol line, with its payload where it has one."""

    def __init__(self, line, payload=None):
        self.at = time.monotonic()
        self.line = line
        fields = line.split()
        self.verb = fields[0].upper() if fields else ""
        self.args = fields[1:]
        self.payload = payload
        self.header = b""
        if self.verb == "HMSG" and payload is not None:
            size = int(self.args[-2])
            self.header, self.payload = payload[:size], payload[size:]

    @property
    def text(self):
        """The line with single blanks, for comparison."""
        return " ".join([self.verb] + self.args) if self.verb != "-ERR" else self.line

    @property
    def json(self):
        return json.loads(self.line[len(self.verb) :])

    def __repr__(self):
        shown = self.line if len(self.line) <= 300 else self.line[:300] + "..."
        if self.payload is None:
            return shown
        body = self.header + self.payload
        return "%s %r" % (shown, body if len(body) <= 60 else body[:60] + b"...")


class Wire:
    """A connection read line by line. Frames that a flush met on its way wait in `pending`."""

    payload_verbs = ()
    skipped = ("PING", "PONG", "+OK")

    def __init__(self, sock, label, ignore=None):
        self.sock = sock
        self.label = label
        self.buffer = bytearray()
        self.pending = collections.deque()
        self.history = collections.deque(maxlen=12)
        self.answers_pings = True
        self.ignore = ignore
        self.pings = []
        self.opened_at = time.monotonic()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def seen(self):
        return "; last on %s: %s" % (self.label, list(self.history))

    def send(self, data):
        if isinstance(data, str):
            data = data.encode()
        try:
            self.sock.settimeout(30)
            self.sock.sendall(data)
        except OSError as error:
            raise Mismatch("%s: sending failed: %s%s" % (self.label, error, self.seen())) from None

    def try_send(self, data):
        """Send what may meet a closed connection."""
        try:
            self.sock.settimeout(30)
            self.sock.sendall(data.encode() if isinstance(data, str) else data)
        except OSError:
            return

    def close(self):
        try:
            self.sock.close()
        except OSError:
            return

    def _more(self, deadline):
        """Read once. False at the end of the stream; TimeoutError at the deadline."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.sock.settimeout(left)
        try:
            got = self.sock.recv(262144)
        except (socket.timeout, ssl.SSLWantReadError):
            raise TimeoutError from None
        except OSError:
            got = b""
        self.buffer += got
        return bool(got)

    def _next(self, deadline):
        """The next frame as it comes, or None at the end of the stream."""
        while True:
            end = self.buffer.find(b"\n")
            if end >= 0:
                line = bytes(self.buffer[:end]).rstrip(b"\r").decode("latin-1")
                frame = Frame(line)
                if frame.verb not in self.payload_verbs:
                    del self.buffer[: end + 1]
                    break
                size = int(frame.args[-1])
                if len(self.buffer) >= end + 1 + size + 2:
                    payload = bytes(self.buffer[end + 1 : end + 1 + size])
                    tail = bytes(self.buffer[end + 1 + size : end + 3 + size])
                    want(
                        tail == b"\r\n",
                        "%s: payload of %r not followed by CR LF" % (self.label, line),
                    )
                    del self.buffer[: end + 3 + size]
                    frame = Frame(line, payload)
                    break
            if not self._more(deadline):
                return None
        self.history.append(frame)
        if frame.verb == "PING":
            self.pings.append(frame.at)
            if self.answers_pings:
                self.try_send("PONG\r\n")
        return frame

    def _skips(self, frame):
        return frame.verb in self.skipped or (self.ignore is not None and self.ignore(frame))

    def take(self, timeout=WAIT, what="a line"):
        """The next frame that is not keep-alive. Fails at the deadline or at a close."""
        if self.pending:
            return self.pending.popleft()
        deadline = time.monotonic() + timeout
        while True:
            try:
                frame = self._next(deadline)
            except TimeoutError:
                raise Mismatch(
                    "%s: expected %s within %.1f s, nothing came%s"
                    % (self.label, what, timeout, self.seen())
                ) from None
            want(
                frame is not None,
                "%s: expected %s, connection closed%s" % (self.label, what, self.seen()),
            )
            if not self._skips(frame):
                return frame

    def expect(self, text, payload=None, timeout=WAIT):
        """The next line must be `text` (blanks made single), with that payload if one is given."""
        frame = self.take(timeout, repr(text))
        want(
            frame.text == text and (payload is None or frame.payload == payload),
            "%s: expected %r%s, got %r%s"
            % (
                self.label,
                text,
                "" if payload is None else " %r" % payload[:60],
                frame,
                self.seen(),
            ),
        )
        return frame

    def expect_verb(self, verb, timeout=WAIT):
        frame = self.take(timeout, verb)
        want(
            frame.verb == verb, "%s: expected %s, got %r%s" % (self.label, verb, frame, self.seen())
        )
        return frame

    def flush(self, timeout=WAIT):
        """PING and wait for its PONG; what comes before stays to be taken."""
        self.send("PING\r\n")
        deadline = time.monotonic() + timeout
        while True:
            try:
                frame = self._next(deadline)
            except TimeoutError:
                raise Mismatch(
                    "%s: no PONG within %.1f s%s" % (self.label, timeout, self.seen())
                ) from None
            want(frame is not None, "%s: closed instead of PONG%s" % (self.label, self.seen()))
            if frame.verb == "PONG":
                return
            if not self._skips(frame):
                self.pending.append(frame)

    def fence(self):
        """All frames that the server had to send until now."""
        self.flush()
        frames = list(self.pending)
        self.pending.clear()
        return frames

    def quiet(self, after=""):
        """Nothing on the wire, by a fence."""
        frames = self.fence()
        want(not frames, "%s: expected nothing %s, got %s" % (self.label, after, frames))

    def quiet_for(self, seconds, after=""):
        """Nothing on the wire, by time: where no fence exists. Keep-alive counts as nothing."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                frame = self.pending.popleft() if self.pending else self._next(deadline)
            except TimeoutError:
                return
            want(frame is not None, "%s: closed %s%s" % (self.label, after, self.seen()))
            want(self._skips(frame), "%s: expected nothing %s, got %r" % (self.label, after, frame))

    def read_to_end(self, timeout=WAIT):
        """All frames until the peer closes."""
        frames = list(self.pending)
        self.pending.clear()
        deadline = time.monotonic() + timeout
        while True:
            try:
                frame = self._next(deadline)
            except TimeoutError:
                raise Mismatch(
                    "%s: expected a close within %.1f s%s" % (self.label, timeout, self.seen())
                ) from None
            if frame is None:
                return frames
            if not self._skips(frame):
                frames.append(frame)

    def expect_close(self, error=None, timeout=WAIT):
        """The peer closes, after exactly this -ERR text or without any. Returns all that came."""
        frames = self.read_to_end(timeout)
        errors = [frame.line.rstrip() for frame in frames if frame.verb == "-ERR"]
        wanted = [] if error is None else ["-ERR '%s'" % error]
        want(errors == wanted, "%s: expected %s and a close, got %s" % (self.label, wanted, frames))
        return frames

    def closes_or_answers(self):
        """PING: True if a PONG comes, False if the peer closes. Frames on the way are dropped."""
        self.try_send("PING\r\n")
        deadline = time.monotonic() + WAIT
        while True:
            try:
                frame = self._next(deadline)
            except TimeoutError:
                raise Mismatch("%s: neither PONG nor close%s" % (self.label, self.seen())) from None
            if frame is None:
                return False
            if frame.verb == "PONG":
                return True


class GatewayLink(Wire):
    """One gateway connection as F holds it: link o if F dialled it, else link i."""

    payload_verbs = ("RMSG", "HMSG")

    def __init__(self, sock, peer, dialled, ignore=None):
        super().__init__(sock, "%s of %s" % ("o" if dialled else "i", peer.name), ignore)
        self.peer = peer
        self.dialled = dialled
        self.info = {}
        self.connect = {}
        self.opening = []
        self.wrong_side_allowed = False

    def send(self, data):
        """Refuses what this end never sends, unless the check (one against ours only) allows it."""
        first = (data if isinstance(data, bytes) else data.encode())[:5].upper()
        wrong = (b"A+", b"A-") if self.dialled else (b"RMSG", b"HMSG")
        if first.startswith(wrong) and not self.wrong_side_allowed:
            raise AssertionError("%s: the check sends %r on the wrong side" % (self.label, first))
        super().send(data)

    def send_info(self, **fields):
        self.send("INFO %s\r\n" % json.dumps(fields))

    def command(self, number, account="$G", **fields):
        """A gateway_cmd INFO as a real server writes it; fields override, None removes."""
        info = {
            "server_id": "",
            "server_name": "",
            "version": "",
            "proto": 0,
            "go": "",
            "host": "",
            "port": 0,
            "headers": False,
            "max_payload": 0,
            "gateway": self.peer.name,
            "gateway_cmd": number,
        }
        if account is not None:
            info["gateway_cmd_payload"] = base64_of(account)
        info.update(fields)
        self.send_info(**{key: value for key, value in info.items() if value is not None})

    def gossip(self, name, urls):
        """cmd 1: another cluster and where it listens."""
        self.command(
            1, account=None, gateway=name, gateway_urls=urls, server_id=self.peer.server_id
        )

    def message(self, subject, payload=b"", reply=None, queues=(), header=None, account="$G"):
        """RMSG or HMSG in the form that its parts demand."""
        if isinstance(payload, str):
            payload = payload.encode()
        middle = ""
        if queues:
            middle = " %s %s" % ("+ " + reply if reply else "|", " ".join(queues))
        elif reply:
            middle = " " + reply
        if header is None:
            head = "RMSG %s %s%s %d\r\n" % (account, subject, middle, len(payload))
        else:
            head = "HMSG %s %s%s %d %d\r\n" % (
                account,
                subject,
                middle,
                len(header),
                len(header) + len(payload),
            )
        self.send(head.encode() + (header or b"") + payload + b"\r\n")

    def expect_command(self, number, account="$G", gateway="B"):
        frame = self.expect_verb("INFO")
        info = frame.json
        got = (info.get("gateway_cmd"), info.get("gateway_cmd_payload"), info.get("gateway"))
        want(
            got == (number, base64_of(account), gateway),
            "%s: expected cmd %d of %s from %s, got %r"
            % (self.label, number, account, gateway, frame),
        )
        return frame

    def read_opening(self, account="$G"):
        """All that a server sends when it has registered our link, up to cmd 3 of the account."""
        frames = []
        deadline = time.monotonic() + WAIT
        while True:
            frame = self.take(max(0.01, deadline - time.monotonic()), "cmd 3 of " + account)
            frames.append(frame)
            if (
                frame.verb == "INFO"
                and frame.json.get("gateway_cmd") == 3
                and frame.json.get("gateway_cmd_payload") == base64_of(account)
            ):
                return frames

    def switch(self, *subjects, account="$G"):
        """cmd 2, the plain interest, cmd 3; then a fence, so that the server has read it."""
        self.command(2, account)
        for subject in subjects:
            self.send("RS+ %s %s\r\n" % (account, subject))
        self.command(3, account)
        self.flush()

    def interest(self, *lines):
        """Interest lines in account $G, e.g. "RS+ foo q 1"; then a fence."""
        for line in lines:
            verb, _, rest = line.partition(" ")
            self.send("%s $G %s\r\n" % (verb, rest))
        self.flush()


class Client(Wire):
    """A raw NATS client. Its reading side keeps MSG and HMSG in order."""

    payload_verbs = ("MSG", "HMSG")
    skipped = ("PING", "PONG", "+OK", "INFO")

    def __init__(self, port, label="c", host="127.0.0.1", token=None, tls=None, **options):
        deadline = time.monotonic() + WAIT
        super().__init__(dial(host, port, deadline), label)
        first = self._next(deadline)
        want(first is not None and first.verb == "INFO", "%s: no INFO, got %r" % (label, first))
        self.info = first.json
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        connect = {
            "verbose": False,
            "pedantic": False,
            "lang": "test",
            "version": "1",
            "protocol": 1,
            "headers": True,
            "no_responders": True,
            "echo": True,
            "name": label,
        }
        if token is not None:
            connect["auth_token"] = token
        connect.update(options)
        self.send("CONNECT %s\r\n" % json.dumps(connect))
        self.flush()

    def sub(self, subject, sid, queue=None):
        self.send("SUB %s %s%s\r\n" % (subject, queue + " " if queue else "", sid))

    def unsub(self, sid, maximum=None):
        self.send("UNSUB %s%s\r\n" % (sid, "" if maximum is None else " %d" % maximum))

    def pub(self, subject, payload=b"", reply=None, header=None):
        if isinstance(payload, str):
            payload = payload.encode()
        where = subject + (" " + reply if reply else "")
        if header is None:
            self.send(b"PUB %s %d\r\n%s\r\n" % (where.encode(), len(payload), payload))
        else:
            self.send(
                b"HPUB %s %d %d\r\n%s%s\r\n"
                % (where.encode(), len(header), len(header) + len(payload), header, payload)
            )


def dial(host, port, deadline):
    """TCP connect; a refused one is tried again, since the server may be about to listen."""
    while True:
        try:
            return socket.create_connection((host, port), timeout=5)
        except OSError as error:
            if time.monotonic() > deadline:
                raise Mismatch("no connection to %s:%d: %s" % (host, port, error)) from None
            let_time_pass(0.02)


class PeerTls:
    """The two contexts of a peer with TLS: for accepting and for dialling."""

    def __init__(self, certs, name="peer", ca="ca", hosts=True):
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(*certs.paths(name, ca, hosts))
        self.server.load_verify_locations(certs.ca())
        self.server.verify_mode = ssl.CERT_REQUIRED
        self.client = certs.client_context(name, client_ca=ca)


class Peer:
    """A test peer: a cluster of one server that listens for link i and dials link o."""

    def __init__(
        self,
        name="F",
        server_id=FAKE_ID,
        server_name=None,
        iom=True,
        nrp=True,
        headers=True,
        tls=None,
    ):
        self.name = name
        self.server_id = server_id
        self.server_name = server_name or "peer-" + name.lower()
        self.flags = {"gateway_iom": iom, "gateway_nrp": nrp}
        self.headers = headers
        self.tls = tls
        self.ignore = None
        self.links = []
        self.listener = listen()
        self.port = self.listener.getsockname()[1]

    @property
    def address(self):
        return "127.0.0.1:%d" % self.port

    @property
    def url(self):
        return "nats://" + self.address

    def info(self, **fields):
        """Our INFO; fields override, None removes."""
        info = {
            "server_id": self.server_id,
            "server_name": self.server_name,
            "version": "2.9.10",
            "proto": 0,
            "go": "",
            "host": "127.0.0.1",
            "port": self.port,
            "headers": self.headers,
            "max_payload": 1048576,
            "gateway": self.name,
            "gateway_urls": [self.address],
            "gateway_url": self.address,
        }
        info.update({key: True for key, value in self.flags.items() if value})
        info.update(fields)
        return {key: value for key, value in info.items() if value is not None}

    def connect_line(self, **fields):
        connect = {
            "echo": False,
            "verbose": False,
            "pedantic": False,
            "tls_required": self.tls is not None,
            "headers": False,
            "name": self.server_id,
            "cluster": "",
            "gateway": self.name,
        }
        connect.update(fields)
        return "CONNECT %s\r\n" % json.dumps(
            {key: value for key, value in connect.items() if value is not None}
        )

    def dial(self, server):
        """TCP (and TLS) to the gateway port of the server, and its INFO."""
        sock = dial("127.0.0.1", server.gateway_port, time.monotonic() + WAIT)
        if self.tls is not None:
            sock = self.tls.client.wrap_socket(sock, server_hostname="localhost")
        link = GatewayLink(sock, self, True, self.ignore)
        self.links.append(link)
        first = link.take(what="INFO")
        want(first.verb == "INFO", "the first line on the gateway port is %r, not INFO" % first)
        link.info = first.json
        return link

    def open_o(self, server, connect=None, **fields):
        """Dial and open: the link is registered when this returns; `opening` holds what came."""
        link = self.dial(server)
        link.send(
            self.connect_line(**(connect or {})) + "INFO %s\r\n" % json.dumps(self.info(**fields))
        )
        link.opening = link.read_opening()
        return link

    def accept(self, timeout=WAIT):
        """The next connection of the server to us, nothing said yet."""
        sock = self.try_accept(timeout)
        want(sock is not None, "%s: the server did not dial within %.1f s" % (self.name, timeout))
        if self.tls is not None:
            sock = self.tls.server.wrap_socket(sock, server_side=True)
        link = GatewayLink(sock, self, False, self.ignore)
        self.links.append(link)
        return link

    def try_accept(self, timeout):
        self.listener.settimeout(timeout)
        try:
            sock, _ = self.listener.accept()
        except socket.timeout:
            return None
        sock.settimeout(WAIT)
        return sock

    def not_dialled_for(self, seconds, why):
        want(self.try_accept(seconds) is None, "%s: dialled %s" % (self.name, why))

    def open_i(self, timeout=WAIT, **fields):
        """Let the server dial us and complete its opening."""
        link = self.accept(timeout)
        link.send_info(**self.info(**fields))
        link.connect = link.expect_verb("CONNECT").json
        link.info = link.expect_verb("INFO").json
        link.flush()
        return link

    def stop_listening(self):
        self.listener.close()

    def close(self):
        self.listener.close()
        for link in self.links:
            link.close()


def listen(port=0):
    """A loopback listener; the system gives the port."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(64)
    return listener
