#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Peers that break the rules, on every port of a running server, and a command line that is wrong.

  bad_peers.py --build build/release
  bad_peers.py --build build/asan --only client_faults,random_bytes --timings

Goal: a peer that sends nonsense, too much, too little, too slowly or nothing gets a clear error or is
closed in time; the log says who it was and why, without secrets; memory stays bounded; and nobody
else notices. Method: real programs; a healthy pair of clients exchanges numbered messages beside each
attack (bystanders.py), and the log, /varz and /proc are looked at from outside.
"""

import contextlib
import random
import selectors
import sys
import threading
import time

from bystanders import (
    SECRET,
    Bystanders,
    Mismatch,
    Stand,
    connect_line,
    main,
    merge,
    require,
    reset,
    wait_until,
)

TOKEN = SECRET + "token-of-everybody"
BCRYPT = "$2b$10$abcdefghijklmnopqrstuuD20ZMY8lIQueKwRCO7Fj8eBf8g9HChm"  # of SECRET + "password"
MEGABYTE = 1 << 20


def collect(peer, deadline_s):
    """What comes until the server closes; then we close too. PINGs of the server are left out."""
    data = peer.read_to_end(deadline_s)
    peer.abort()
    return data.replace(b"PING\r\n", b"")


# --- the client port --------------------------------------------------------------------------------

UNKNOWN = "Unknown Protocol Operation"
# (name, what is sent after INFO, the text of the -ERR line or None for a close without one, why by the log)
FAULTS = (
    ("unknown verb", b"FROB x\r\n", UNKNOWN, "Protocol Violation"),
    ("zeros", b"\0" * 64, UNKNOWN, "Protocol Violation"),
    (
        "TLS on a plain port",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 300,
        UNKNOWN,
        "Protocol Violation",
    ),
    ("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", UNKNOWN, "Protocol Violation"),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", UNKNOWN, "Protocol Violation"),
    (
        "endless subject",
        b"SUB " + b"a" * 100000,
        "maximum control line exceeded",
        "Maximum Control Line Exceeded",
    ),
    (
        "endless CONNECT",
        b'CONNECT {"name":"' + b"a" * 100000,
        "maximum control line exceeded",
        "Maximum Control Line Exceeded",
    ),
    ("oversize", b"PUB a 1048577\r\n", "Maximum Payload Violation", "Maximum Message Payload Exceeded"),
    ("oversize by the number", b"PUB a 99999999999999999999\r\n", None, "Protocol Violation"),
    ("negative size", b"PUB a -1\r\n\r\n", None, "Protocol Violation"),
    ("size without digits", b"PUB a 0x10\r\n", None, "Protocol Violation"),
    ("no size", b"PUB a\r\n", None, "Protocol Violation"),
    ("header longer than all", connect_line().encode() + b"HPUB a 20 10\r\n", None, "Protocol Violation"),
    ("header without CONNECT", b"HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n", None, "Protocol Violation"),
    ("an error of the client", b"-ERR 'no'\r\n", None, "Parse Error"),
    ("CONNECT without JSON", b"CONNECT nonsense\r\n", None, "Protocol Violation"),
    ("CONNECT with an array", b"CONNECT []\r\n", None, "Protocol Violation"),
    ("CONNECT of wrong types", b'CONNECT {"verbose":"yes"}\r\n', None, "Protocol Violation"),
    (
        "CONNECT a thousand deep",
        b'CONNECT {"a":' + b"[" * 1000 + b"]" * 1000 + b"}\r\n",
        None,
        "Protocol Violation",
    ),
    ("INFO without JSON", b"INFO {]\r\n", None, "Protocol Violation"),
    ("protocol 7", b'CONNECT {"protocol":7}\r\n', "invalid client protocol", "Bad Client Protocol Version"),
    (
        "good lines, then a bad one",
        b"SUB own 1\r\nPUB own 2\r\nok\r\nPING\r\nBAD\r\n",
        UNKNOWN,
        "Protocol Violation",
    ),
)
BEFORE = {  # what is answered to the good part
    "header longer than all": b"",
    "good lines, then a bad one": b"+OK\r\n+OK\r\nMSG own 1 2\r\nok\r\nPONG\r\n",
}


def client_faults(bench):
    """Each fault gets its exact answer, whole or in pieces, and a line in the log with peer and reason."""
    # A log event that comes more than 20 times a second is folded, so a server gets a few of the faults.
    for start in range(0, len(FAULTS), 8):
        with Stand(bench) as stand, stand.bystanders(), stand.memory_bound(20):
            for fault in FAULTS[start : start + 8]:
                one_fault(stand, *fault)
            stand.expect_connections(2)


def one_fault(stand, name, data, text, reason):
    answer = BEFORE.get(name, b"")
    answer += b"" if text is None else b"-ERR '%s'\r\n" % text.encode()
    for pieces in ([data], [data[:1], data[1:3], data[3:]]):
        peer = stand.greeted()
        for piece in pieces:
            peer.send(piece)
        got = collect(peer, 5.0 * stand.slow)
        require(got == answer, "%s: answer" % name, answer, got)
        stand.expect_peer_log(peer, "LOG_CLIENT_CLOSED", 'reason="%s"' % reason)
        if reason != "Bad Client Protocol Version":
            stand.expect_peer_log(peer, "LOG_CLIENT_ERROR", "fault=")


def after_the_close(bench):
    """What follows a fault is read and dropped, not obeyed; a peer that goes on for ever is cut off."""
    with Stand(bench) as stand, stand.bystanders(), stand.memory_bound(20):
        witness = stand.client()
        witness.send("SUB after 1\r\n")
        witness.expect_open()
        for rest in (1, 1000, 60000):
            peer = stand.greeted()
            peer.send(b"BAD\r\n" + b"PUB after 2\r\nno\r\n" * rest)
            got = collect(peer, 5.0 * stand.slow)
            require(got == b"-ERR 'Unknown Protocol Operation'\r\n", "answer", None, got)
        peer = stand.greeted()
        peer.send("BAD\r\n")
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 10 * stand.slow:
                peer.sock.sendall(b"PUB after 2\r\nno\r\n" * 4000)
        require(time.monotonic() - began < 8 * stand.slow, "who goes on after its error is cut off")
        witness.expect_open()


def random_bytes(bench):
    """Random bytes, and good sessions with random damage: each connection ends, none stays."""
    dice = random.Random(20261124)
    good = (
        connect_line()
        + "SUB a.* 1\r\nSUB b q 2\r\nPUB a.b 5\r\nhello\r\nHPUB b 12 14\r\nNATS/1.0\r\n\r\nok\r\n"
        "UNSUB 1 3\r\nPING\r\nPUB a.c r.x 3\r\nabc\r\nUNSUB 2\r\nPONG\r\n"
    ).encode()
    with Stand(bench) as stand, stand.bystanders(), stand.memory_bound(40):
        files = stand.files()
        for _ in range(300):
            if dice.random() < 0.3:
                data = dice.randbytes(dice.randrange(1, 4000))
            else:
                data = bytearray(good)
                for _ in range(dice.randrange(1, 6)):
                    at = dice.randrange(len(data))
                    change = dice.random()
                    if change < 0.4:
                        data[at] = dice.randrange(256)
                    elif change < 0.7:
                        del data[at : at + dice.randrange(1, 30)]
                    else:
                        data[at:at] = dice.randbytes(dice.randrange(1, 30))
            peer = stand.greeted()
            peer.send(bytes(data))
            peer.half_close()
            collect(peer, 5.0 * stand.slow)
            peer.abort()
        stand.expect_connections(2)
        wait_until(lambda: stand.files() <= files, "all descriptors are given back")


def one_byte_at_a_time(bench):
    """A session that comes byte by byte is served like any other, between the others' messages."""
    text = (
        connect_line()
        + "SUB slow.* 7\r\nPUB slow.a 5\r\nhe\r\no\r\nHPUB slow.b 12 14\r\nNATS/1.0\r\n\r\nok\r\nPING\r\n"
    )
    answer = b"MSG slow.a 7 5\r\nhe\r\no\r\nHMSG slow.b 7 12 14\r\nNATS/1.0\r\n\r\nok\r\nPONG\r\n"
    with Stand(bench) as stand, stand.bystanders():
        peers = [stand.greeted() for _ in range(3)]
        for at in range(len(text)):
            for peer in peers:
                peer.send(text[at])
                if at % 7 == 0:
                    peer.settle()
        want = sorted(split_messages(answer[:-6]) * 3)
        for peer in peers:  # each gets all three sessions' messages
            got = read_besides_pings(peer, 3 * (len(answer) - 6) + 6, 5.0 * stand.slow)
            require(sorted(split_messages(got.replace(b"PONG\r\n", b""))) == want, "answer", want, got)


def read_besides_pings(peer, count, deadline_s):
    """So many bytes, without the PING that a young client gets where all this takes long."""
    end = time.monotonic() + deadline_s
    while len(peer.buffer.replace(b"PING\r\n", b"")) < count:
        require(peer.fill(end), "%d bytes" % count, None, peer.buffer[-100:])
    data = peer.buffer.replace(b"PING\r\n", b"")
    peer.buffer = b""
    return data


def split_messages(data):
    """The MSG and HMSG of a byte string, each with its payload."""
    found = []
    while data:
        line = data[: data.index(b"\r\n") + 2]
        size = len(line) + int(line.split()[-1]) + 2
        found.append(data[:size])
        data = data[size:]
    return found


def endless_blanks(bench):
    """Blank lines and blanks by the megabyte cost no memory, and stop nobody."""
    with Stand(bench) as stand, stand.bystanders(), stand.memory_bound(20):
        for start, blank in (
            (b"", b"\r\n"),
            (b"", b" "),
            (b"PUB", b" "),
            (b"SUB a", b"\t"),
            (b"CONNECT", b" "),
        ):
            peer = stand.greeted()
            with contextlib.suppress(OSError):
                peer.sock.settimeout(5.0 * stand.slow)
                peer.sock.sendall(start)
                for _ in range(64):
                    peer.sock.sendall(blank * (65536 // len(blank)))
            peer.half_close()
            collect(peer, 10.0 * stand.slow)
        stand.expect_connections(2)


def leaving_early(bench):
    """Half-closes and resets in every state: answered as far as may be, and nothing is left behind."""
    states = (
        b"",
        b"CONN",
        connect_line().encode(),
        connect_line().encode() + b"SUB a 1\r\nPING\r\n",
        connect_line().encode() + b"SUB a 1\r\nPUB a 100\r\nonly a part",
        connect_line().encode() + b"PUB a 3\r\nabc\r",
        connect_line().encode() + b"SUB a 1\r\n" + b"PUB a 3\r\nabc\r\n" * 500,
    )
    with Stand(bench) as stand, stand.bystanders(), stand.memory_bound(20):
        files = stand.files()
        for data in states:
            peer = stand.greeted()
            peer.send(data)
            peer.half_close()
            got = collect(peer, 5.0 * stand.slow)
            require(peer.ended == "FIN", "an orderly end", "FIN", peer.ended)
            wanted = data.count(b"PUB a 3\r\n") if b"SUB" in data else 0
            require(
                got.count(b"MSG a 1 3\r\nabc\r\n") == wanted, "what was published before", wanted, got[:200]
            )
            stand.expect_peer_log(peer, "LOG_CLIENT_CLOSED", 'reason="Client Closed"')
        for number in range(140):
            peer = stand.greeted()
            peer.send(states[number % len(states)])
            if number % 2:
                peer.settle()
            reset(peer)
        stand.expect_connections(2)
        wait_until(lambda: stand.files() <= files, "all descriptors are given back")


# --- before and while authenticating -----------------------------------------------------------------


def before_connect(bench):
    """Where a token is demanded nothing is obeyed before it, whatever comes."""
    refuse_before_connect(bench, "event-service", {})


def before_connect_outside(bench):
    """The same at event-gateway."""
    everything = {"publish": {"allow": [">"]}, "subscribe": {"allow": [">"]}}
    more = {"service": {"disable_frontend_tls": True}, "auth": {"default_permissions": everything}}
    refuse_before_connect(bench, "event-gateway", more)


def refuse_before_connect(bench, kind, more):
    settings = merge({"auth": {"token": TOKEN, "timeout": "1s"}}, more)
    with Stand(bench, settings, kind) as stand, stand.bystanders(TOKEN), stand.memory_bound(20):
        witness = stand.client(TOKEN)
        witness.send("SUB > 1\r\n")
        witness.expect_open()
        witness.send("UNSUB 1\r\nSUB forbidden 2\r\n")
        witness.read_until_pong()
        violation = b"-ERR 'Authorization Violation'\r\n"
        faults = [
            (b"PING\r\n", violation),
            (b"PUB forbidden 2\r\nno\r\n", violation),
            (b"SUB > 1\r\n", violation),
            (b"\r\n\r\n" + b" " * 100000, violation),
            (b"\x16\x03\x01\x02\x00" + b"r" * 500, violation),
            (b"CONNECT {}\r\nPUB forbidden 2\r\nno\r\n", violation),
            (connect_line(SECRET + "wrong").encode() + b"PUB forbidden 2\r\nno\r\n" * 9, violation),
            (connect_line(TOKEN[:-1]).encode(), violation),
            (connect_line(TOKEN + "\0").encode(), violation),
            (connect_line("").encode(), violation),
            (b'CONNECT {"user":"%s","pass":"%s"}\r\n' % ((TOKEN.encode(),) * 2), violation),
            (
                b'CONNECT {"auth_token":"%s' % SECRET.encode() + b"x" * 9000,
                b"-ERR 'maximum control line exceeded'\r\n",
            ),
            (b'CONNECT {"auth_token":["%s"]}\r\n' % TOKEN.encode(), b""),
            (b"COnnect%s\r\n" % TOKEN.encode(), None),
            (b"CROOK\r\n", b"-ERR 'Unknown Protocol Operation'\r\n"),
        ]
        for data, answer in faults:
            peer = stand.greeted()
            peer.send(data)
            got = collect(peer, 5.0 * stand.slow)
            require(answer is None or got == answer, "answer to %r" % data[:40], answer, got)
            stand.expect_peer_log(peer, "LOG_CLIENT_CLOSED")
            if answer == violation:
                stand.expect_peer_log(peer, "LOG_CLIENT_AUTH_FAILED")
        # Drops of a CONNECT that never ends do not buy time.
        peer = stand.greeted()
        began = time.monotonic()
        with contextlib.suppress(Mismatch):
            for letter in 'CONNECT {"name":"' + "x" * 3000:
                peer.send(letter)
                if peer.fill(time.monotonic() + 0.02) or peer.ended:
                    break
        got = collect(peer, 1.0 * stand.slow)
        require(got == b"-ERR 'Authentication Timeout'\r\n", "a dripping CONNECT", None, got)
        took = time.monotonic() - began
        require(0.9 < took < 6.0 * stand.slow, "closed at auth.timeout", "1 s", took)
        witness.expect_open()


def while_authenticating(bench):
    """bcrypt takes long: who sends on, leaves or floods meanwhile costs the others nothing."""
    users = [
        {"user": "slow", "password": BCRYPT},
        {"user": "quick", "password": SECRET + "quick"},
    ]
    settings = {"auth": {"users": users, "concurrency_max": 256, "timeout": "60s"}}

    def credentials(word):
        return connect_line(user="slow", **{"pass": SECRET + word}).encode()

    with Stand(bench, settings) as stand:
        stand.client = lambda *_args, **_more: quick_client(stand)
        with Bystanders(stand), stand.memory_bound(40):
            # A megabyte behind the CONNECT is not read before the verdict; then it is obeyed, or dropped.
            floods = []
            for word in ("wrong", "password"):
                peer = stand.greeted()
                peer.send(
                    credentials(word)
                    + b"SUB own.%s 1\r\n" % word.encode()
                    + b"PUB own.%s 4\r\nwait\r\n" % word.encode() * 40000
                    + b"PING\r\n"
                )
                floods.append(peer)
            got = collect(floods[0], 20.0 * stand.slow)
            require(got == b"-ERR 'Authorization Violation'\r\n", "a wrong password", None, got[:100])
            stand.expect_peer_log(floods[0], "LOG_CLIENT_AUTH_FAILED")
            message = b"MSG own.password 1 4\r\nwait\r\n"
            got = floods[1].read_exact(len(message) * 40000 + 6, 20.0 * stand.slow)
            require(got == message * 40000 + b"PONG\r\n", "a right password", message, got[:200])
            # Resets and half-closes while the password is looked at.
            used = stand.worker_seconds()
            leavers = [stand.greeted() for _ in range(30)]
            for number, peer in enumerate(leavers):
                peer.send(credentials("wrong"))
                peer.settle()
                if number % 3 == 0:
                    reset(peer)
                elif number % 3 == 1:
                    peer.half_close()
            for number, peer in enumerate(leavers):
                if number % 3 != 0:
                    collect(peer, 30.0 * stand.slow)
            stand.expect_connections(3)
            used = stand.worker_seconds() - used
            require(used < 3.0 * stand.slow, "the workers do not spin for who has left", "< 3 s", used)


def quick_client(stand):
    peer = stand.greeted()
    peer.send(connect_line(user="quick", **{"pass": SECRET + "quick"}) + "PING\r\n")
    peer.expect("PONG\r\n", 5.0 * stand.slow)
    return peer


def silent_crowd(bench):
    """500 connections that say nothing where a token is demanded: all closed at auth.timeout."""
    settings = {"auth": {"token": TOKEN, "timeout": "1s"}}
    with Stand(bench, settings) as stand, stand.bystanders(TOKEN), stand.memory_bound(30):
        began = time.monotonic()
        crowd = [stand.raw() for _ in range(500)]
        for peer in crowd:
            peer.read_info()
            got = collect(peer, 6.0 * stand.slow)
            require(got == b"-ERR 'Authentication Timeout'\r\n", "answer", None, got)
        took = time.monotonic() - began
        require(took < 10.0 * stand.slow, "closed at auth.timeout", "about 1 s", took)
        stand.expect_log("LOG_CLIENT_CLOSED", 'reason="Authentication Timeout"', "port=")
        stand.expect_connections(2)


# --- peers that stop -----------------------------------------------------------------------------------


def stop_reading(bench, limits, reason, total_bytes):
    """10 of 30 subscribers stop reading: they are cut off, and the other 20 get every message."""
    # Small kernel buffers, so that it is the server where the bytes wait.
    with Stand(bench, {"limits": limits}) as stand, stand.bystanders():
        with stand.memory_bound(180):
            stalled = [stand.client(receive_buffer=4096) for _ in range(10)]
            readers = [stand.client() for _ in range(20)]
            for peer in stalled + readers:
                peer.send("SUB all 1\r\n")
                peer.read_until_pong()
            writer = stand.client()
            size = 8000
            count = total_bytes // size
            gathered = Gathered(readers, count, size)
            for number in range(count):
                body = b"%d " % number
                writer.send(b"PUB all %d\r\n%s\r\n" % (size, body + b"." * (size - len(body))))
                if number % 16 == 0:
                    gathered.wait_for(number - 64, 20.0 * stand.slow)  # the readers do keep up
            writer.read_until_pong(60.0 * stand.slow)
            gathered.finish(60.0 * stand.slow)
            wait_until(lambda: stand.varz()["slow_consumers"] == 10, "10 slow consumers", 20.0 * stand.slow)
        for peer in stalled:
            got = peer.read_to_end(10.0 * stand.slow)
            require(b"-ERR" not in got and len(got) < total_bytes, "cut off without a word", None, len(got))
            stand.expect_peer_log(peer, "LOG_SLOW_CONSUMER", 'reason="%s"' % reason)
            stand.expect_peer_log(peer, "LOG_CLIENT_CLOSED", 'reason="%s"' % reason)
        varz = stand.varz()
        require(varz["slow_consumer_stats"]["clients"] == 10, "slow_consumer_stats", 10, varz)
        require(varz["connections"] == 2 + 20 + 1, "the others are still there", 23, varz["connections"])


class Gathered:
    """Readers of one subject in one thread: each must see all numbers in order."""

    def __init__(self, peers, count, size):
        self.peers, self.count, self.size = peers, count, size
        self.selector = selectors.DefaultSelector()
        self.state = {}
        for peer in peers:
            peer.sock.setblocking(False)
            self.state[peer] = [bytearray(), 0]
            self.selector.register(peer.sock, selectors.EVENT_READ, peer)
        self.fault = None
        self.left = len(peers)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.deadline = None
        self.thread.start()

    def run(self):
        try:
            while self.left and (self.deadline is None or time.monotonic() < self.deadline):
                for key, _ in self.selector.select(0.2):
                    self.read(key.data)
        except Mismatch as fault:
            self.fault = str(fault)

    def read(self, peer):
        buffer, number = self.state[peer]
        data = peer.sock.recv(1 << 20)
        require(data, "a reader is not closed", None, "closed after %d messages" % number)
        buffer += data
        head = b"MSG all 1 %d\r\n" % self.size
        whole = len(head) + self.size + 2
        at = 0
        while len(buffer) - at >= 6:
            if buffer.startswith(b"PING\r\n", at):
                peer.sock.send(b"PONG\r\n")
                at += 6
                continue
            if len(buffer) - at < whole:
                break
            wanted = head + b"%d " % number
            require(buffer.startswith(wanted, at), "the next message", wanted, bytes(buffer[at : at + 60]))
            at += whole
            number += 1
        del buffer[:at]
        if number == self.count and self.state[peer][1] < self.count:
            self.left -= 1
            self.selector.unregister(peer.sock)
        self.state[peer][1] = number

    def wait_for(self, number, deadline_s):
        """Until all readers have got this far."""
        wait_until(
            lambda: self.fault or min(state[1] for state in self.state.values()) >= number,
            "all readers have message %d" % number,
            deadline_s,
        )
        require(self.fault is None, "a reader was harmed", None, self.fault)

    def finish(self, deadline_s):
        self.deadline = time.monotonic() + deadline_s
        self.thread.join()
        require(self.fault is None, "a reader was harmed", None, self.fault)
        numbers = sorted(state[1] for state in self.state.values())
        require(self.left == 0, "all readers have all messages", self.count, numbers)


def stop_reading_small_room(bench):
    """max_pending is small: too many bytes wait."""
    limits = {"max_pending": "1MiB", "write_deadline": "30s"}
    stop_reading(bench, limits, "Slow Consumer (Pending Bytes)", 24 * MEGABYTE)


def stop_reading_short_time(bench):
    """write_deadline is short: nothing is taken for too long."""
    limits = {"max_pending": "256MiB", "write_deadline": "700ms"}
    stop_reading(bench, limits, "Slow Consumer (Write Deadline)", 8 * MEGABYTE)


def stop_writing(bench):
    """A peer that falls silent in the middle of a message, or drips on, is ended by keep-alive."""
    settings = {"limits": {"ping_interval": "250ms", "ping_max": 2}}
    with Stand(bench, settings) as stand, stand.bystanders():
        for data in (
            b"PUB a 100\r\nonly a part",
            b"PUB a 10",
            b"",
            b"SUB a 1\r\nHPUB a 12 2000\r\nNATS/1.0\r\n\r\n",
        ):
            peer = stand.client()
            peer.send(data)
            began = time.monotonic()
            got = collect(peer, 5.0 * stand.slow)
            require(got == b"-ERR 'Stale Connection'\r\n", "answer", None, got)
            require(time.monotonic() - began > 0.5, "not before its pings were unanswered")
            stand.expect_peer_log(peer, "LOG_CLIENT_CLOSED", 'reason="Stale Connection"')


# --- too many ------------------------------------------------------------------------------------------


def too_many_connections(bench):
    """A flood beyond max_connections: told and closed, or cut off; who was there stays."""
    with Stand(bench, {"limits": {"max_connections": 40}}) as stand, stand.bystanders():
        held = [stand.client() for _ in range(38)]
        stand.expect_connections(40)
        with stand.memory_bound(40):
            files = stand.files()
            for _ in range(3):
                flood = [stand.raw() for _ in range(300)]
                for peer in flood[:150]:
                    peer.read_info()
                    got = collect(peer, 8.0 * stand.slow)
                    require(got == b"-ERR 'maximum connections exceeded'\r\n", "answer", None, got)
                for peer in flood[150:]:
                    reset(peer)
            stand.expect_log("LOG_CLIENT_CLOSED", 'reason="Maximum Connections Exceeded"', "port=")
            # Those that say nothing and do not leave either are not kept for long.
            flood = [stand.raw() for _ in range(200)]
            wait_until(lambda: stand.files() <= files, "refused peers are let go of", 8.0 * stand.slow)
            for peer in flood:
                peer.abort()
        for peer in held:
            peer.read_until_pong()
        require(stand.connections() == 40, "all places are still taken", 40, stand.connections())
        held[0].close()
        stand.expect_connections(39)
        stand.client().expect_open()


def too_many_listeners(bench):
    """listener_limit: one more SUB than there may be is refused, and the place is free again later."""
    with Stand(bench, {"service": {"listener_limit": 6}}) as stand, stand.bystanders():
        listeners = [stand.client() for _ in range(5)]  # and the bystander that reads
        for peer in listeners:
            peer.send("SUB a 1\r\nSUB b 2\r\n")
            peer.read_until_pong()
        for _ in range(3):
            peer = stand.client()
            peer.send("SUB a 1\r\nPUB a 2\r\nno\r\n")
            got = collect(peer, 5.0 * stand.slow)
            require(got == b"-ERR 'maximum listeners exceeded'\r\n", "answer", None, got)
            stand.expect_peer_log(peer, "LOG_CLIENT_CLOSED", 'reason="Maximum Listeners Exceeded"')
        stand.client().expect_open()  # who only publishes is no listener
        listeners[0].send("SUB c 3\r\nUNSUB 1\r\nUNSUB 2\r\n")  # a listener may have as many as it likes
        listeners[0].read_until_pong()
        listeners[1].close()
        stand.expect_connections(2 + 4 + 1)
        peer = stand.client()
        peer.send("SUB a 1\r\n")
        peer.expect_open()


def stolen_events(bench):
    """Nobody joins the queue group by which event-service takes its events: they stay the workers'."""
    open_door = {"service": {"disable_frontend_tls": True}, "auth": {"token": TOKEN}}
    for kind, settings, token in (("event-service", {}, None), ("event-gateway", open_door, TOKEN)):
        with Stand(bench, settings, kind) as stand, stand.bystanders(token):
            thief = stand.client(token)
            for subject in ("event.>", "event.a", ">", "other"):
                thief.send("SUB %s event-service 1\r\n" % subject)
                thief.expect(
                    "-ERR 'Permissions Violation for Subscription to \"%s\" using queue "
                    '"event-service"\'\r\n' % subject,
                    5.0 * stand.slow,
                )
            thief.send("SUB event.> 2\r\nSUB event.> another-service 3\r\n")  # whoever else may listen
            thief.expect_open()
            if kind == "event-service":
                sender = stand.client()
                sender.send("SUB answer 1\r\n")
                for number in range(20):
                    body = b'{"EventID":"%d","Object":{"ID":"a"}}' % number
                    sender.send(b"PUB event.odd answer %d\r\n%s\r\n" % (len(body), body))
                for _ in range(20):
                    head = sender.read_line(5.0 * stand.slow)
                    require(head.startswith(b"MSG answer 1 "), "an answer of the queue", None, head)
                    got = sender.read_exact(int(head.split()[-1]) + 2, 5.0 * stand.slow)
                    require(b'"success":true' in got, "an event that is accepted", None, got)


def no_more_descriptors(bench):
    """The process is out of file descriptors: those inside go on, the door opens again afterwards."""
    with Stand(bench, limit_files=(120, 120)) as stand, stand.bystanders():
        crowd = [stand.raw() for _ in range(200)]
        wait_until(lambda: stand.files() >= 119, "no descriptor is left", 5.0 * stand.slow)
        stand.expect_log("LOG_LISTENER_FAILED", "port=%d" % stand.server.port)
        used = stand.worker_seconds()
        inside = [peer for peer in crowd if peer.fill(time.monotonic() + 0.02)]
        require(inside, "some have got in")
        used = stand.worker_seconds() - used
        require(used < 2.0 * stand.slow, "the door does not spin", "< 2 s", used)
        for peer in crowd:
            peer.abort()
        wait_until(lambda: stand.files() < 60, "descriptors are given back", 10.0 * stand.slow)
        peer = stand.client()
        peer.expect_open()
        stand.expect_connections(3)


def more_descriptors(bench):
    """What the system gives at first is no limit: the program takes what it may have."""
    with Stand(bench, limit_files=(60, 600)) as stand, stand.bystanders():
        crowd = [stand.greeted() for _ in range(300)]
        stand.expect_connections(302)
        for peer in crowd:
            peer.abort()


CASES = [
    silent_crowd,
    while_authenticating,
    stop_reading_small_room,
    stop_reading_short_time,
    stop_writing,
    too_many_connections,
    before_connect,
    before_connect_outside,
    after_the_close,
    random_bytes,
    client_faults,
    leaving_early,
    endless_blanks,
    one_byte_at_a_time,
    too_many_listeners,
    stolen_events,
    no_more_descriptors,
    more_descriptors,
]

if __name__ == "__main__":
    sys.exit(main(CASES, "peers that break the rules"))
