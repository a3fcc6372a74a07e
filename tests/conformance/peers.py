# SPDX-License-Identifier: GPL-2.0-or-later
"""Raw connections for the conformance suites: exact bytes with deadlines.

"Nothing more" is proved by a PING whose PONG comes next, never by waiting, except where the rule
itself speaks of time. A Peer belongs to one thread.
"""

import contextlib
import json
import os
import re
import socket
import ssl
import threading
import time

DEADLINE_S = 20.0  # for every expected byte
SLACK_S = 1.5  # how late a timer may look on a busy machine; early is always a fault
HOST = "127.0.0.1"
FIN = "\u2404"  # in a notation string: the server closes here


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


def shorten(value, most=4000):
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= most else "%s... (%d characters)" % (text[:most], len(text))


def wire(text):
    """The bytes of a notation string: the return mark is CR LF, the tab mark is TAB, the rest is
    Latin-1 (so that "\\xff" is one byte); bytes pass unchanged."""
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


def since(info, major, minor):
    """Whether the server that sent this INFO is of this version or newer."""
    words = info["version"].split(".")
    return (int(words[0]), int(words[1])) >= (major, minor)


# --- sockets ------------------------------------------------------------------------------------


class Peer:
    """One connection as a raw byte stream, with what was read and not yet expected in a buffer."""

    def __init__(self, sock, name="peer"):
        self.sock, self.name = sock, name
        self.buffer = b""
        self.ended = None  # "FIN" or "RST" once the other side has closed
        self.info = None  # the parsed first INFO, where read_info() has been called
        self.connect_info = None  # the second INFO, which a server of 2.12 or newer sends
        self.born = time.monotonic()
        self.early_ping = False  # the PING of a young connection has been answered
        sock.settimeout(DEADLINE_S)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data):
        """Sends all; a reset by the other side is no error here: what follows is what counts."""
        self.sock.settimeout(DEADLINE_S)
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(wire(data))

    def send_segments(self, segments):
        """Sends each piece in a TCP segment of its own, as far as the kernel lets us tell."""
        for piece in segments:
            self.send(piece)
            self.settle()

    def settle(self):
        """Waits until the server has read all sent bytes (its receive queue in /proc/net/tcp), so
        that the next segment meets its parser in the middle of the input."""
        ours, theirs = self.sock.getsockname()[1], self.sock.getpeername()[1]
        pair = re.compile(r": \w+:%04X \w+:%04X \w+ \w+:(\w+) " % (theirs, ours))
        pause = threading.Event()
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            with open("/proc/net/tcp") as file:
                row = pair.search(file.read())
            if row is None or int(row.group(1), 16) == 0:
                return
            pause.wait(0.001)

    def since(self, major, minor):
        """Whether the server is of this version or newer, by its first INFO."""
        return since(self.info, major, minor)

    def fill(self, end):
        """Reads once into the buffer; False at the deadline or after the end of the stream."""
        while self.receive(end):
            if not self.take_connect_info():
                return True
        return False

    def take_connect_info(self):
        """A server of 2.12 or newer sends a second INFO after the first PONG. It is taken out of
        the stream and kept, so that every check but C6 is about something else. True if the buffer
        is then empty, or ends within that line: there is more to read."""
        if not self.info or self.connect_info or not self.since(2, 12):
            return False
        line = re.search(rb"(?:\A|(?<=PONG\r\n))INFO \{[^\r\n]*(\r\n)?", self.buffer)
        if not line:
            return False
        if not line.group(1):
            return line.end() == len(self.buffer)
        info = json.loads(line.group()[5:])
        if not info.get("connect_info"):
            return False
        self.connect_info = info
        self.buffer = self.buffer[: line.start()] + self.buffer[line.end() :]
        return not self.buffer

    def receive(self, end):
        """Reads once into the buffer, whatever it is; False as fill()."""
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
        """The next bytes are exactly these. A FIN mark at the end of a notation string demands the
        close there."""
        fin = isinstance(data, str) and data.endswith(FIN)
        wanted = wire(data[:-1] if fin else data)
        end = time.monotonic() + deadline_s
        while True:
            if not wanted.startswith(self.buffer[: len(wanted)]):
                if not self.answer_early_ping(wanted):
                    break
            elif len(self.buffer) >= len(wanted) or not self.fill(end):
                break
        if not self.buffer.startswith(wanted):
            raise Mismatch("%s: other bytes%s" % (self.name, self.end_text()), wanted, self.buffer)
        self.buffer = self.buffer[len(wanted) :]
        if fin:
            self.expect_fin(deadline_s)

    def answer_early_ping(self, wanted):
        """A server pings a client once when it is 2 s old. On a busy machine that meets checks
        which are about something else: it is answered and taken out of the stream, once."""
        if self.early_ping or time.monotonic() - self.born < 1.9:
            return False
        same = len(os.path.commonprefix((wanted, self.buffer)))
        at = self.buffer.find(b"PING\r\n", max(0, same - 5))
        if at < 0 or at > same:
            return False
        self.early_ping = True
        self.buffer = self.buffer[:at] + self.buffer[at + 6 :]
        self.send(b"PONG\r\n")
        return True

    def end_text(self):
        return " (then %s)" % self.ended if self.ended else " (still open)"

    def expect_fin(self, deadline_s=DEADLINE_S, reset_too=False):
        """The server closes now, without a further byte."""
        end = time.monotonic() + deadline_s
        while not self.buffer and self.fill(end):
            pass
        allowed = ("FIN", "RST") if reset_too else ("FIN",)
        if self.buffer or self.ended not in allowed:
            raise Mismatch(
                "%s: close expected" % self.name,
                " or ".join(allowed),
                "%r%s" % (self.buffer, self.end_text()),
            )

    def expect_open(self):
        """A PING is answered by PONG, and by nothing else before it."""
        self.send(b"PING\r\n")
        self.expect(b"PONG\r\n")

    def expect_quiet(self, seconds):
        """Nothing comes and nothing closes for so long; only for rules that speak of time."""
        end = time.monotonic() + seconds
        if self.buffer or self.fill(end) or self.ended:
            raise Mismatch(
                "%s: silence for %.1f s" % (self.name, seconds),
                b"",
                "%r%s" % (self.buffer, self.end_text()),
            )

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
            raise Mismatch(
                "%s: too few bytes%s" % (self.name, self.end_text()), "%d bytes" % count, data
            )
        self.buffer = data[count:]
        return data[:count]

    def read_line(self, deadline_s=DEADLINE_S):
        """The next line with its CR LF."""
        end = time.monotonic() + deadline_s
        while b"\r\n" not in self.buffer:
            if not self.fill(end):
                raise Mismatch(
                    "%s: a whole line expected%s" % (self.name, self.end_text()), None, self.buffer
                )
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
            rest = rest[len(piece) :]

    def read_until_pong(self, deadline_s=DEADLINE_S):
        """Sends PING and returns what came before its PONG (which must not hold the text PONG)."""
        self.send(b"PING\r\n")
        end = time.monotonic() + deadline_s
        while b"PONG\r\n" not in self.buffer:
            if not self.fill(end):
                raise Mismatch(
                    "%s: PONG expected%s" % (self.name, self.end_text()), b"PONG\r\n", self.buffer
                )
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
        parts = [self.buffer]
        self.buffer = b""
        while self.fill(end):
            parts.append(self.buffer)
            self.buffer = b""
        data = b"".join(parts)
        if not self.ended:
            self.buffer = data
            raise Mismatch("%s: close expected" % self.name, "FIN", data)
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
        """Closes in order and reads to the end, so that the server has noticed at the return."""
        if not self.ended and not isinstance(self.sock, ssl.SSLSocket):
            self.half_close()
            end = time.monotonic() + 1.0
            # A handshake that failed has left no socket to read from.
            with contextlib.suppress(OSError):
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
    """The MSG and HMSG lines in a byte string as (subject, sid, reply or None, header or None,
    payload)."""
    found = []
    while data:
        line, sep, data = data.partition(b"\r\n")
        words = line.split()
        if words == [b"PING"]:  # of the server, to a connection that is 2 s old
            continue
        require(
            sep and words and words[0] in (b"MSG", b"HMSG"),
            "MSG or HMSG expected",
            None,
            line + data[:80],
        )
        with_header = words[0] == b"HMSG"
        sizes = 2 if with_header else 1
        total = int(words[-1])
        header_len = int(words[-2]) if with_header else 0
        reply = words[3] if len(words) == 4 + sizes else None
        body, end, data = data[:total], data[total : total + 2], data[total + 2 :]
        require(len(body) == total and end == b"\r\n", "whole payload expected", line, body + end)
        found.append(
            (
                words[1],
                words[2],
                reply,
                body[:header_len] if with_header else None,
                body[header_len:],
            )
        )
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
            raise Mismatch(
                "%s: the server did not dial within %.1f s" % (self.name, deadline_s)
            ) from None
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
