# SPDX-License-Identifier: GPL-2.0-or-later
"""What the conformance suites share: raw sockets, exact expectations, servers, the runner.

A check is one function (or one table row) named by its number in the reference. It speaks raw bytes
to a server and compares exact bytes, each with a deadline. "Nothing more" is proved by a PING whose
PONG comes next, never by waiting, except where the rule itself speaks of time.

Invariants:
- Settings are a dict with the key names of our own configuration; an adapter turns them into the file
  of the server under test, so that one check runs against every server.
- Every port is given by the system and held (bound, not listening) until the server has it.
- Every process started here is ended here, by its id; every file lies in one temporary folder.
- A default server is lent to one check at a time, and lent again only when it has no connection left.
"""
import concurrent.futures
import contextlib
import copy
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import traceback

DEADLINE_S = 5.0        # for every expected byte
SLACK_S = 0.6           # how late a timer may look on a busy machine; early is always a fault
HOST = "127.0.0.1"
FIN = "\u2404"          # in a notation string: the server closes here


class Mismatch(AssertionError):
    """A check's expectation that did not come true."""

    def __init__(self, what, expected=None, got=None):
        super().__init__(what)
        self.what, self.expected, self.got = what, expected, got

    def __str__(self):
        text = self.what
        if self.expected is not None:
            text += "\n    expected " + shorten(self.expected)
        if self.got is not None:
            text += "\n    got      " + shorten(self.got)
        return text


class CannotRun(Exception):
    """The server under test has no means for this check; the reason is the text."""


def shorten(value, most=400):
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= most else "%s... (%d characters)" % (text[:most], len(text))


def wire(text):
    """The bytes of a notation string: the line-end mark is CR LF, the tab mark is TAB, the rest is Latin-1
    (so that "\\xff" is one byte); bytes pass unchanged."""
    if isinstance(text, bytes):
        return text
    return text.replace("\u23ce", "\r\n").replace("\u2409", "\t").encode("latin-1")


def require(condition, what, expected=None, got=None):
    if not condition:
        raise Mismatch(what, expected, got)


def require_equal(got, expected, what):
    require(got == expected, what, expected, got)


def wait_until(condition, what, deadline_s=DEADLINE_S):
    """Asks until condition() is true; returns its value. For states that no socket announces."""
    pause = threading.Event()
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Mismatch("deadline: " + what)
        pause.wait(0.02)


# --- sockets ------------------------------------------------------------------------------------


class Peer:
    """One connection as a raw byte stream, with what was read and not yet expected in a buffer."""

    def __init__(self, sock, name="peer"):
        self.sock, self.name = sock, name
        self.buffer = b""
        self.ended = None       # "FIN" or "RST" once the other side has closed
        self.info = None        # the parsed first INFO, where read_info() has been called
        sock.settimeout(DEADLINE_S)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data):
        """Sends all; a reset by the other side is not an error here: what follows is what counts."""
        self.sock.settimeout(DEADLINE_S)
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(wire(data))

    def send_segments(self, segments):
        """Sends each piece in a TCP segment of its own, as far as the kernel lets us tell."""
        for piece in segments:
            self.send(piece)
            self.settle()

    def settle(self):
        """Waits until the kernel has delivered all sent bytes (SIOCOUTQ), so segments stay apart."""
        import array
        import fcntl
        left = array.array("i", [0])
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            fcntl.ioctl(self.sock.fileno(), 0x5411, left)
            if left[0] == 0:
                return

    def fill(self, end):
        """Reads once into the buffer; False at the deadline or after the end of the stream."""
        if self.ended:
            return False
        left = end - time.monotonic()
        if left <= 0:
            return False
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(1 << 20)
        except (socket.timeout, ssl.SSLWantReadError):
            return False
        except (ConnectionError, ssl.SSLError):
            self.ended = "RST"
            return False
        if not data:
            self.ended = "FIN"
            return False
        self.buffer += data
        return True

    def expect(self, data, deadline_s=DEADLINE_S):
        """The next bytes are exactly these. A FIN mark in a notation string demands the close there."""
        fin = isinstance(data, str) and data.endswith(FIN)
        wanted = wire(data[:-1] if fin else data)
        end = time.monotonic() + deadline_s
        while len(self.buffer) < len(wanted) and wanted.startswith(self.buffer):
            if not self.fill(end):
                break
        if not self.buffer.startswith(wanted):
            raise Mismatch("%s: other bytes%s" % (self.name, self.end_text()), wanted, self.buffer)
        self.buffer = self.buffer[len(wanted):]
        if fin:
            self.expect_fin(deadline_s)

    def end_text(self):
        return " (then %s)" % self.ended if self.ended else " (still open)"

    def expect_fin(self, deadline_s=DEADLINE_S, reset_too=False):
        """The server closes now, without a further byte."""
        end = time.monotonic() + deadline_s
        while not self.buffer and self.fill(end):
            pass
        allowed = ("FIN", "RST") if reset_too else ("FIN",)
        if self.buffer or self.ended not in allowed:
            raise Mismatch("%s: close expected" % self.name, " or ".join(allowed),
                           "%r%s" % (self.buffer, self.end_text()))

    def expect_open(self):
        """A PING is answered by PONG, and by nothing else before it."""
        self.send(b"PING\r\n")
        self.expect(b"PONG\r\n")

    def expect_quiet(self, seconds):
        """Nothing comes and nothing closes for so long; only for rules that speak of time."""
        end = time.monotonic() + seconds
        if self.buffer or self.fill(end) or self.ended:
            raise Mismatch("%s: silence for %.1f s" % (self.name, seconds), b"",
                           "%r%s" % (self.buffer, self.end_text()))

    def read_exact(self, count, deadline_s=DEADLINE_S):
        end = time.monotonic() + deadline_s
        parts, have = [self.buffer], len(self.buffer)
        self.buffer = b""
        while have < count and self.fill(end):
            parts.append(self.buffer)
            have += len(self.buffer)
            self.buffer = b""
        data = b"".join(parts)
        if have < count:
            self.buffer = data
            raise Mismatch("%s: too few bytes%s" % (self.name, self.end_text()), "%d bytes" % count, data)
        self.buffer = data[count:]
        return data[:count]

    def read_line(self, deadline_s=DEADLINE_S):
        """The next line with its CR LF."""
        end = time.monotonic() + deadline_s
        while b"\r\n" not in self.buffer:
            if not self.fill(end):
                raise Mismatch("%s: a whole line expected%s" % (self.name, self.end_text()), None, self.buffer)
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line + b"\r\n"

    def expect_match(self, pattern, deadline_s=DEADLINE_S):
        """The next line matches the pattern (bytes) as a whole; returns the match."""
        line = self.read_line(deadline_s)
        match = re.fullmatch(pattern, line, re.DOTALL)
        if not match:
            raise Mismatch("%s: other line" % self.name, pattern, line)
        return match

    def expect_any_order(self, pieces, deadline_s=DEADLINE_S):
        """The next bytes are these pieces, in any order."""
        left = [wire(p) for p in pieces]
        data = self.read_exact(sum(map(len, left)), deadline_s)
        rest = data
        while left:
            piece = next((p for p in left if rest.startswith(p)), None)
            if piece is None:
                raise Mismatch("%s: other bytes (any order)" % self.name, left, rest)
            left.remove(piece)
            rest = rest[len(piece):]

    def read_until_pong(self, deadline_s=DEADLINE_S):
        """Sends PING and returns what came before its PONG (which must not hold the text PONG)."""
        self.send(b"PING\r\n")
        end = time.monotonic() + deadline_s
        while b"PONG\r\n" not in self.buffer:
            if not self.fill(end):
                raise Mismatch("%s: PONG expected%s" % (self.name, self.end_text()), b"PONG\r\n", self.buffer)
        before, self.buffer = self.buffer.split(b"PONG\r\n", 1)
        return before

    def read_info(self):
        """Reads one INFO line and keeps its JSON object in self.info."""
        line = self.read_line()
        require(line.startswith(b"INFO {"), "%s: INFO expected" % self.name, b"INFO {", line)
        self.info = json.loads(line[5:])
        return self.info

    def read_to_end(self, deadline_s=DEADLINE_S):
        """Everything until the other side closes."""
        end = time.monotonic() + deadline_s
        while self.fill(end):
            pass
        if not self.ended:
            raise Mismatch("%s: close expected" % self.name, "FIN", self.buffer)
        data, self.buffer = self.buffer, b""
        return data

    def start_tls(self, context, name="localhost"):
        """The TLS handshake as the client."""
        require(not self.buffer, "%s: no bytes before TLS" % self.name, b"", self.buffer)
        self.sock.settimeout(DEADLINE_S)
        self.sock = context.wrap_socket(self.sock, server_hostname=name)

    def start_tls_server(self, context):
        """The TLS handshake as the accepting side."""
        self.sock.settimeout(DEADLINE_S)
        self.sock = context.wrap_socket(self.sock, server_side=True)

    def half_close(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        """Closes in order and reads to the end, so that the server has noticed when this returns."""
        if not self.ended and not isinstance(self.sock, ssl.SSLSocket):
            self.half_close()
            end = time.monotonic() + 1.0
            while self.fill(end):
                self.buffer = b""
        with contextlib.suppress(OSError):
            self.sock.close()
        self.ended = self.ended or "FIN"

    def abort(self):
        """Closes at once, with whatever is unread."""
        with contextlib.suppress(OSError):
            self.sock.close()
        self.ended = self.ended or "FIN"


def messages(data):
    """The MSG and HMSG lines in a byte string as (subject, sid, reply or None, header or None, payload)."""
    found = []
    while data:
        line, sep, data = data.partition(b"\r\n")
        words = line.split()
        require(sep and words and words[0] in (b"MSG", b"HMSG"), "MSG or HMSG expected", None, line + data[:80])
        with_header = words[0] == b"HMSG"
        sizes = 2 if with_header else 1
        total = int(words[-1])
        header_len = int(words[-2]) if with_header else 0
        reply = words[3] if len(words) == 4 + sizes else None
        body, end, data = data[:total], data[total:total + 2], data[total + 2:]
        require(len(body) == total and end == b"\r\n", "whole payload expected", line, body + end)
        found.append((words[1], words[2], reply, body[:header_len] if with_header else None, body[header_len:]))
    return found


def connect(port, name="client", receive_buffer=None):
    """A TCP connection to a port of the server under test; nothing is read yet."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(DEADLINE_S)
    try:
        sock.connect((HOST, port))
    except BaseException:
        sock.close()
        raise
    return Peer(sock, name)


class Listener:
    """A listening socket for the server under test to dial."""

    def __init__(self, name="peer"):
        self.name = name
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind((HOST, 0))
        self.sock.listen(16)
        self.port = self.sock.getsockname()[1]

    def accept(self, deadline_s=DEADLINE_S):
        self.sock.settimeout(deadline_s)
        try:
            sock, _ = self.sock.accept()
        except socket.timeout:
            raise Mismatch("%s: the server did not dial within %.1f s" % (self.name, deadline_s)) from None
        return Peer(sock, self.name)

    def expect_no_dial(self, seconds):
        """Nobody connects for so long."""
        self.sock.settimeout(seconds)
        with contextlib.suppress(socket.timeout):
            sock, _ = self.sock.accept()
            sock.close()
            raise Mismatch("%s: nobody dials for %.1f s" % (self.name, seconds))

    def close(self):
        self.sock.close()


# --- certificates -------------------------------------------------------------------------------


class Certificates:
    """A certificate authority in a folder, made with openssl; files are made when first asked for.

    paths(name) gives (certificate, key) for a name that is both CN and DNS name, with localhost and
    127.0.0.1 added and both extended key usages; `ca` names the authority ("ca" or another one)."""

    def __init__(self, folder):
        self.folder = folder
        self.lock = threading.Lock()
        os.makedirs(folder, exist_ok=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def openssl(self, *words):
        subprocess.run(("openssl",) + words, check=True, cwd=self.folder, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)

    def make_ca(self, ca):
        if not os.path.exists(self.path(ca + ".crt")):
            self.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", ca + ".key")
            self.openssl("req", "-x509", "-new", "-key", ca + ".key", "-subj", "/CN=" + ca, "-days", "30",
                         "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", ca + ".crt")
        return self.path(ca + ".crt")

    def ca(self, ca="ca"):
        with self.lock:
            return self.make_ca(ca)

    def paths(self, name, ca="ca", hosts=True):
        """(certificate path, key path); hosts=False leaves localhost and 127.0.0.1 out."""
        with self.lock:
            self.make_ca(ca)
            stem = "%s-%s%s" % (ca, name, "" if hosts else "-only")
            if not os.path.exists(self.path(stem + ".crt")):
                names = "DNS:" + name + (",DNS:localhost,IP:127.0.0.1" if hosts else "")
                with open(self.path(stem + ".ext"), "w") as file:
                    file.write("basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n"
                               "extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=%s\n" % names)
                self.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", stem + ".key")
                self.openssl("req", "-new", "-key", stem + ".key", "-subj", "/CN=" + name, "-out", stem + ".csr")
                self.openssl("x509", "-req", "-in", stem + ".csr", "-CA", ca + ".crt", "-CAkey", ca + ".key",
                             "-CAcreateserial", "-days", "30", "-extfile", stem + ".ext", "-out", stem + ".crt")
            return self.path(stem + ".crt"), self.path(stem + ".key")

    def client_context(self, name=None, ca="ca", client_ca="ca"):
        """A TLS client that trusts `ca` and shows the certificate of `name`, if given."""
        context = ssl.create_default_context(cafile=self.ca(ca))
        if name:
            context.load_cert_chain(*self.paths(name, client_ca))
        return context

    def server_context(self, name, ca="ca", verify=True):
        """A TLS server with the certificate of `name`, demanding one of `ca`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.paths(name, ca))
        if verify:
            context.load_verify_locations(self.ca(ca))
            context.verify_mode = ssl.CERT_REQUIRED
        return context


# --- servers ------------------------------------------------------------------------------------


def merge(base, more):
    """A deep copy of base with more laid over it; a None in more removes the key."""
    result = copy.deepcopy(base)
    for key, value in more.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merge(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def seconds(duration):
    """A duration of the settings ("2s", "600ms", "2m") in seconds."""
    match = re.fullmatch(r"([0-9.]+)(ms|s|m|h)", duration)
    return float(match.group(1)) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[match.group(2)]


def hold_port():
    """A port of the system's choice, kept from others by a bound socket that does not listen."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((HOST, 0))
    return sock, sock.getsockname()[1]


def listening_ports():
    """All ports in state LISTEN, from the kernel: asking so costs the server no connection."""
    ports = set()
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(path) as file:
            for line in file.readlines()[1:]:
                words = line.split()
                if words[3] == "0A":
                    ports.add(int(words[1].rsplit(":", 1)[1], 16))
    return ports


def yaml_text(value, indent=0):
    """Block YAML of dicts, lists and scalars; strings are written quoted, as JSON does."""
    pad = "  " * indent
    lines = []
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, (dict, list)) and item:
                lines.append("%s%s:" % (pad, key))
                lines.append(yaml_text(item, indent + 1))
            else:
                lines.append("%s%s: %s" % (pad, key, json.dumps(item)))
    else:
        for item in value:
            if isinstance(item, (dict, list)) and item:
                text = yaml_text(item, indent + 1)
                lines.append(pad + "- " + text[len(pad) + 2:])
            else:
                lines.append("%s- %s" % (pad, json.dumps(item)))
    return "\n".join(lines)


class Server:
    """One running server. port, gateway_port (0 without), monitor_port; end it with stop()."""

    def __init__(self, adapter, settings, folder):
        self.adapter, self.folder = adapter, folder
        self.settings = settings
        self.process = None
        self.port = self.gateway_port = self.monitor_port = 0
        # A server that does not allow a held port gets one that was only free a moment ago.
        for hold in (True, True, False, False):
            if self.start(hold):
                return
        raise Mismatch("the server did not start", None, self.log_text()[-2000:])

    def start(self, hold):
        held = {}
        try:
            given = {}
            for key in self.adapter.ports_of(self.settings):
                held[key], given[key] = hold_port()
            self.port = given["service"]
            self.monitor_port = given.get("monitor", 0)
            self.gateway_port = given.get("gateway", 0)
            full = merge(self.settings, {key: {"host": HOST, "port": port} for key, port in given.items()})
            self.write(full)
            if not hold:
                for sock in held.values():
                    sock.close()
            with open(os.path.join(self.folder, "log"), "ab") as log:
                self.process = subprocess.Popen(self.adapter.command(self.config_path), stdin=subprocess.DEVNULL,
                                                stdout=log, stderr=log, cwd=self.folder,
                                                env=self.adapter.environment())
            wanted = set(given.values())
            wait_until(lambda: self.process.poll() is not None or wanted <= listening_ports(),
                       "the server listens on %s" % sorted(wanted), self.adapter.start_deadline_s)
            if self.process.poll() is None:
                return True
            return False
        except BaseException:
            self.stop()
            raise
        finally:
            for sock in held.values():
                sock.close()

    @property
    def config_path(self):
        return os.path.join(self.folder, self.adapter.config_name)

    def write(self, full):
        self.full = full
        with open(self.config_path, "w") as file:
            file.write(self.adapter.config_text(full))

    def rewrite(self, changes):
        """Lays changes over the settings of the running server; signal(SIGHUP) then applies them."""
        self.write(merge(self.full, changes))

    def signal(self, number):
        os.kill(self.process.pid, number)

    def wait_exit(self, deadline_s=DEADLINE_S):
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise Mismatch("the server ends within %.1f s" % deadline_s) from None

    def stop(self):
        """Ends the process and waits for it; returns its exit status (None if it never ran)."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def connect(self, name="client", **more):
        return connect(self.port, name, **more)

    def log_text(self):
        with contextlib.suppress(OSError), open(os.path.join(self.folder, "log"), errors="replace") as file:
            return file.read()
        return ""

    def http(self, path, method="GET"):
        """(status, headers, body text) of the monitoring port."""
        if not self.monitor_port:
            raise CannotRun("no monitoring port")
        client = http.client.HTTPConnection(HOST, self.monitor_port, timeout=DEADLINE_S)
        try:
            client.request(method, path)
            answer = client.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()
        finally:
            client.close()

    def http_json(self, path):
        status, _, body = self.http(path)
        require_equal(status, 200, "GET " + path)
        return json.loads(body)


class Adapter:
    """How one kind of server is configured and started."""

    name = None
    config_name = None
    start_deadline_s = 15.0
    base = {}

    def __init__(self, program):
        self.program = program

    def ports_of(self, settings):
        """The sections of the settings that get a port of the system's choice."""
        return ["service", "monitor"] + (["gateway"] if "gateway" in settings else [])

    def command(self, path):
        raise NotImplementedError

    def config_text(self, settings):
        raise NotImplementedError

    def environment(self):
        return dict(os.environ)


class NatsServer(Adapter):
    """nats-server, from the same settings; what it has no key for is dropped (listener_limit and such)."""

    name = "nats-server"
    config_name = "server.conf"
    LIMITS = {"max_connections": "max_connections", "max_payload": "max_payload",
              "max_control_line": "max_control_line", "max_pending": "max_pending",
              "max_subscriptions": "max_subscriptions", "max_subscription_tokens": "max_subscription_tokens",
              "ping_interval": "ping_interval", "ping_max": "ping_max", "write_deadline": "write_deadline"}

    def command(self, path):
        return [self.program, "-c", path]

    def config_text(self, settings):
        service = settings["service"]
        conf = {"host": service["host"], "port": service["port"]}
        if "name" in service:
            conf["server_name"] = service["name"]
        if "monitor" in settings:
            conf["http"] = "%s:%d" % (settings["monitor"]["host"], settings["monitor"]["port"])
        for key, value in settings.get("limits", {}).items():
            if key in self.LIMITS:
                conf[self.LIMITS[key]] = value
        if "tls" in settings:
            conf["tls"] = self.tls(settings["tls"])
            if settings["tls"].get("allow_plain"):
                conf["allow_non_tls"] = True
        if "auth" in settings:
            self.auth(conf, settings["auth"])
        if "gateway" in settings:
            conf["gateway"] = self.gateway(settings["gateway"])
        if "lame_duck" in settings:
            conf.update({"lame_duck_" + key: value for key, value in settings["lame_duck"].items()})
        conf.update(settings.get("nats-server", {}))
        return json.dumps(conf, indent=1) + "\n"

    @staticmethod
    def tls(tls):
        conf = {"cert_file": tls["cert_path"], "key_file": tls["key_path"]}
        if "root_ca_path" in tls:
            conf.update(ca_file=tls["root_ca_path"], verify=True)
        if "timeout" in tls:
            conf["timeout"] = seconds(tls["timeout"])
        return conf

    @staticmethod
    def auth(conf, auth):
        block = {key: auth[key] for key in ("token", "users", "default_permissions") if key in auth}
        if "timeout" in auth:
            block["timeout"] = seconds(auth["timeout"])
        conf["authorization"] = block
        if "no_auth_user" in auth:
            conf["no_auth_user"] = auth["no_auth_user"]

    def gateway(self, gateway):
        conf = {key: gateway[key] for key in ("name", "host", "port", "advertise") if key in gateway}
        if "user" in gateway:
            conf["authorization"] = {"user": gateway["user"], "password": gateway["password"]}
        if "tls" in gateway:
            conf["tls"] = self.tls(gateway["tls"])
        if gateway.get("reject_unknown"):
            conf["reject_unknown_cluster"] = True
        remotes = []
        for remote in gateway.get("remotes", []):
            entry = {"name": remote["name"], "urls": remote["urls"]}
            if "tls" in remote:
                entry["tls"] = self.tls(remote["tls"])
            remotes.append(entry)
        if remotes:
            conf["gateways"] = remotes
        return conf


class Ours(Adapter):
    """event-service (or event-gateway): the settings are its configuration file as they stand."""

    name = "ours"
    config_name = "server.yaml"
    base = {"queue": {"storage": "memory"}, "gateway": {"name": "B"}, "log": {"level": "debug"}}

    def command(self, path):
        return [self.program, "--config", path]

    def config_text(self, settings):
        return yaml_text({key: value for key, value in settings.items() if key != "nats-server"}) + "\n"


ADAPTERS = {"nats-server": NatsServer, "ours": Ours}


class Lab:
    """Everything one run owns: the temporary folder, the certificates, the servers, the default servers."""

    def __init__(self, adapter):
        self.adapter = adapter
        self.folder = tempfile.mkdtemp(prefix="es-conformance.")
        self.certs = Certificates(os.path.join(self.folder, "certs"))
        self.lock = threading.Lock()
        self.servers = []
        self.idle = []          # default servers that no check holds

    def start(self, settings=None):
        """A server with these settings (key names of our configuration) over the adapter's base."""
        with self.lock:
            number = len(self.servers)
            self.servers.append(None)
        folder = os.path.join(self.folder, "server%d" % number)
        os.mkdir(folder)
        server = Server(self.adapter, merge(self.adapter.base, settings or {}), folder)
        with self.lock:
            self.servers[number] = server
        return server

    def lend(self):
        with self.lock:
            if self.idle:
                return self.idle.pop()
        return self.start()

    def give_back(self, server):
        """Keeps the default server for the next check once nothing of this one is left in it."""
        try:
            wait_until(lambda: server.http_json("/connz")["num_connections"] == 0, "an empty server", 2.0)
        except CannotRun:
            pass
        except (Mismatch, OSError, ValueError, KeyError, http.client.HTTPException):
            server.stop()
            return
        with self.lock:
            self.idle.append(server)

    def close(self, keep):
        for server in self.servers:
            if server:
                server.stop()
        if keep:
            print("files kept in " + self.folder)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


class Context:
    """What a check is given: its server and the means to open more, all of it closed at the check's end."""

    def __init__(self, lab, server):
        self.lab, self.server, self.certs = lab, server, lab.certs
        self.adapter = lab.adapter
        self.closing = contextlib.ExitStack()

    def connect(self, name="client", server=None, **more):
        """A connection with its INFO read (peer.info)."""
        peer = self.connect_raw(name, server, **more)
        peer.read_info()
        return peer

    def connect_raw(self, name="client", server=None, port=None, **more):
        """A connection of which nothing has been read; port: another one than the client port."""
        peer = connect(port or (server or self.server).port, name, **more)
        self.closing.callback(peer.close)
        return peer

    def start(self, settings=None):
        """One more server, of this check alone."""
        server = self.lab.start(settings)
        self.closing.callback(server.stop)
        return server

    def listen(self, name="peer"):
        listener = Listener(name)
        self.closing.callback(listener.close)
        return listener

    def accept(self, listener, deadline_s=DEADLINE_S):
        peer = listener.accept(deadline_s)
        self.closing.callback(peer.close)
        return peer


# --- suites and the runner ----------------------------------------------------------------------


class Check:
    def __init__(self, number, rule, body, settings, seconds_long):
        self.number, self.rule, self.body = number, rule, body
        self.settings = settings            # None: a default server; a dict or a function of the lab; False: none
        self.seconds_long = seconds_long    # how long it takes by its nature, so that long ones start first

    def run(self, lab):
        lent = None
        with contextlib.ExitStack() as closing:
            if self.settings is None:
                server = lent = lab.lend()
                closing.callback(lab.give_back, lent)
            elif self.settings is False:
                server = None
            else:
                server = lab.start(self.settings(lab) if callable(self.settings) else self.settings)
                closing.callback(server.stop)
            context = Context(lab, server)
            closing.push(context.closing)
            self.body(context)


class Suite:
    """The checks of one reference page, the ones left out with their reasons, and the page that repeats those."""

    def __init__(self, name):
        self.name = name
        self.checks = []
        self.left_out = {}

    def check(self, number, rule, settings=None, seconds_long=0):
        """Decorator: this function is check `number`; `rule` is a one-line quotation of the reference."""
        def register(body):
            self.add(Check(number, rule, body, settings, seconds_long))
            return body
        return register

    def add(self, check):
        if any(other.number == check.number for other in self.checks):
            raise ValueError("check %s stands twice" % check.number)
        self.checks.append(check)


def run_one(check, lab):
    """(check, None or the failure's text, seconds, kind): kind is ok, failed or cannot."""
    began = time.monotonic()
    try:
        check.run(lab)
        return check, None, time.monotonic() - began, "ok"
    except CannotRun as reason:
        return check, str(reason), time.monotonic() - began, "cannot"
    except Mismatch as fault:
        return check, str(fault), time.monotonic() - began, "failed"
    except Exception:  # a fault of the check itself, or a server that is gone: shown, never hidden
        return check, traceback.format_exc(limit=-4), time.monotonic() - began, "failed"


def run_checks(suites, lab, only, threads, timings):
    """Runs all checks, prints a line each, and returns (passed, failed)."""
    checks = [c for suite in suites for c in suite.checks if not only or c.number in only]
    left_out = {n: r for suite in suites for n, r in suite.left_out.items() if not only or n in only}
    passed = failed = 0
    cannot = []
    ordered = sorted(checks, key=lambda c: -c.seconds_long)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for done in concurrent.futures.as_completed([pool.submit(run_one, c, lab) for c in ordered]):
            check, text, took, kind = done.result()
            tail = " (%.2f s)" % took if timings else ""
            if kind == "ok":
                passed += 1
                print("ok %s %s%s" % (check.number, check.rule, tail), flush=True)
            elif kind == "cannot":
                cannot.append((check.number, text))
            else:
                failed += 1
                print("not ok %s %s%s\n    %s" % (check.number, check.rule, tail, text.rstrip()), flush=True)
    written = {c.number for c in checks}
    for number, reason in sorted(left_out.items(), key=lambda item: number_key(item[0])):
        if number not in written:
            print("left out %s: %s" % (number, reason))
    for number, reason in sorted(cannot, key=lambda item: number_key(item[0])):
        if number in left_out:
            print("left out %s: %s" % (number, left_out[number]))
        else:
            failed += 1
            print("not ok %s left out without a row in the table: %s" % (number, reason))
    return passed, failed


def number_key(number):
    match = re.fullmatch(r"([A-Z]+)([0-9]+)", number)
    return match.group(1), int(match.group(2))


def documented(path, suite):
    """The table of left-out checks of one suite in docs/compatibility.md: {number: reason}."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    match = re.search(r"<!-- left out: %s -->\n(.*?)<!-- end -->" % suite, text, re.DOTALL)
    if not match:
        return None
    rows = re.findall(r"^\| ([A-Z]+[0-9]+) \| (.*?) \|$", match.group(1), re.MULTILINE)
    return {number: reason for number, reason in rows}


def check_docs(suites, path):
    """Whether docs/compatibility.md repeats the left-out tables; returns the number of differences."""
    faults = 0
    for suite in suites:
        table = documented(path, suite.name)
        if table is None:
            print("not ok docs: no table of left-out checks for %s" % suite.name)
            faults += 1
            continue
        for number in sorted(set(table) | set(suite.left_out), key=number_key):
            if table.get(number) != suite.left_out.get(number):
                faults += 1
                print("not ok docs %s\n    expected %s\n    got      %s" %
                      (number, suite.left_out.get(number), table.get(number)))
    if not faults:
        print("ok docs the tables of left-out checks agree")
    return faults


def stop_on_signal():
    """A TERM ends the run as an exception, so that every server is still stopped."""
    def on_signal(number, _frame):
        sys.exit(128 + number)
    signal.signal(signal.SIGTERM, on_signal)
