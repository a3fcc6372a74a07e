#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Peers that break the rules on the doors beside the client port: gateway, gRPC, monitoring.

  bad_doors.py --build build/release

Goal: nonsense, too much, too little or nothing is refused or closed in time on these ports too; the log
says who and why; memory stays bounded; clients notice nothing, and a good peer is served right after.
Method: as bad_peers.py. What a good peer of these doors gets is tested elsewhere; here one question at the
end of each case shows that the door still serves.
"""

import contextlib
import json
import random
import struct
import sys
import time

from bystanders import SECRET, Stand, connect_line, main, merge, require, reset, wait_until

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def garbage(dice):
    """Byte strings that are no protocol of ours."""
    yield b"\0" * 1000
    yield b"\xff" * 1000
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 600
    yield b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    yield b"SSH-2.0-OpenSSH_9.2\r\n"
    yield b"\r\n" * 500
    for _ in range(20):
        yield dice.randbytes(dice.randrange(1, 3000))


def send_until_closed(peer, piece, pause=None, limit_s=10.0):
    """Sends the piece again and again until the server closes; returns the seconds that took."""
    began = time.monotonic()
    peer.sock.settimeout(2.0)
    with contextlib.suppress(OSError):
        while time.monotonic() - began < limit_s:
            peer.sock.sendall(piece)
            if pause is not None and (peer.fill(time.monotonic() + pause) or peer.ended):
                if peer.ended:
                    break
    return time.monotonic() - began


# --- the gateway port -------------------------------------------------------------------------------

GATEWAY = {"gateway": {"name": "A", "user": "link", "password": SECRET + "link"}, "auth": {"timeout": "1s"}}
LINK = {"user": "link", "pass": SECRET + "link", "gateway": "B", "verbose": False, "pedantic": False}


def gateway_connect(**more):
    return b"CONNECT %s\r\n" % json.dumps(merge(LINK, more)).encode()


def gateway_info(**more):
    words = {
        "server_id": "N" + "B" * 55,
        "server_name": "b",
        "gateway": "B",
        "gateway_url": "127.0.0.1:1",
        "host": "127.0.0.1",
        "port": 1,
        "proto": 1,
        "headers": True,
    }
    return b"INFO %s\r\n" % json.dumps(merge(words, more)).encode()


def gateway_faults(bench):
    """What is no gateway's opening is refused: exact answers where there are any, a close everywhere."""
    violation = b"-ERR 'Authorization Violation'\r\n"
    unknown = b"-ERR 'Unknown Protocol Operation'\r\n"
    faults = [
        (b"PING\r\n", violation),
        (b"RMSG $G forbidden 2\r\nno\r\n", violation),
        (b"RS+ $G forbidden\r\n", violation),
        (b"A+ $G\r\n", violation),
        (gateway_info(), violation),
        (b"FROB\r\n", violation),
        (b"CROB\r\n", unknown),
        (b"CONNECT {\r\n", b""),
        (b"CONNECT " + b"[" * 3000 + b"\r\n", b""),
        (b'CONNECT {"gateway":"' + b"x" * 2000000, b"-ERR 'maximum control line exceeded'\r\n"),
        (gateway_connect(**{"pass": SECRET + "wrong"}), violation),
        (gateway_connect(user=""), violation),
        (gateway_connect(account="x"), violation),
        (connect_line(user="link", **{"pass": SECRET + "link"}).encode(), None),  # a client here
        (gateway_connect() + b"INFO {]\r\n", b""),
        (gateway_connect() + gateway_info(gateway="C") + b"FROB\r\n", None),
        (gateway_connect() + gateway_info() + b"FROB\r\n", None),
        (gateway_connect() + gateway_info() + b"RMSG $G a 99999999999\r\n", None),
        (gateway_connect() + gateway_info() + b"RMSG $G a 2\r\nnonsense\r\n", None),
        (gateway_connect() + gateway_info() + b"RMSG $G " + b"a" * 200000, None),
    ]
    for start in range(0, len(faults), 8):
        with Stand(bench, GATEWAY) as stand, stand.bystanders(), stand.memory_bound(25):
            witness = stand.client()
            witness.send("SUB forbidden 1\r\n")
            witness.expect_open()
            for data, answer in faults[start : start + 8]:
                peer = stand.raw(stand.server.gateway_port)
                peer.read_info()
                peer.send(data)
                got = peer.read_to_end(6.0 * stand.slow)
                require(answer is None or got == answer, "answer to %r" % data[:60], answer, got)
                peer.abort()
                stand.expect_peer_log(peer, "LOG_GATEWAY_LINK_")
            if start == 0 or start == 8:
                witness.expect_open()  # nothing of it has become a message


def gateway_garbage(bench):
    """Random bytes, halves and resets on the gateway port leave nothing behind."""
    with Stand(bench, GATEWAY) as stand, stand.bystanders(), stand.memory_bound(25):
        files = stand.files()
        good = gateway_connect() + gateway_info()
        for data in garbage(random.Random(1)):
            for piece in (data, good + data, good[: len(data) % len(good)]):
                peer = stand.raw(stand.server.gateway_port)
                peer.send(piece)
                if len(data) % 2:
                    peer.half_close()
                    peer.read_to_end(6.0 * stand.slow)
                    peer.abort()
                else:
                    reset(peer)
        wait_until(lambda: stand.files() <= files, "all descriptors are given back", 10 * stand.slow)
        peer = stand.raw(stand.server.gateway_port)
        peer.read_info()
        peer.send(good + b"PING\r\n")
        wait_until(
            lambda: peer.fill(time.monotonic() + 1) and b"PONG\r\n" in peer.buffer, "a good gateway is served"
        )


def gateway_silence(bench):
    """Gateway peers that say nothing, or never end their CONNECT, are closed; hundreds of them too."""
    with Stand(bench, GATEWAY) as stand, stand.bystanders(), stand.memory_bound(25):
        files = stand.files()
        began = time.monotonic()
        crowd = [stand.raw(stand.server.gateway_port) for _ in range(300)]
        for peer in crowd:
            peer.read_info()
            peer.read_to_end(6.0 * stand.slow)
            peer.abort()
        require(time.monotonic() - began < 15.0 * stand.slow, "silent peers are closed in time")
        stand.expect_log("LOG_GATEWAY_LINK_FAILED", "port=", 'reason="Authentication Timeout"')
        peer = stand.raw(stand.server.gateway_port)
        peer.read_info()
        peer.send(b'CONNECT {"x":"')
        took = send_until_closed(peer, b"x", 0.02)
        require(0.5 < took < 10.0 * stand.slow, "a dripping CONNECT is closed in time", "about 1 s", took)
        wait_until(lambda: stand.files() <= files, "all descriptors are given back", 10 * stand.slow)


# --- the gRPC port ----------------------------------------------------------------------------------


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def literal(name, value):
    """An HPACK field without indexing, lengths below 127."""
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value


def length(value, prefix, first=0):
    """An HPACK integer behind the bits of `first`."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes((first | value,))
    value -= most
    out = bytearray((first | most,))
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes(out) + bytes((value,))


def remembered(name, value):
    """An HPACK field that enters the table: the first one then is 0xbe."""
    return b"\x40" + length(len(name), 7) + name + length(len(value), 7) + value


def request_headers(path=b"/chef.automate.domain.event.api.EventService/Publish"):
    return b"".join(
        literal(*field)
        for field in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"a"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
        )
    )


OPENING = PREFACE + frame(SETTINGS, 0, 0)
GRPC = {"grpc": {"port": 0}, "limits": {"ping_interval": "30s"}}


def grpc_port(stand):
    return stand.server.full["grpc"]["port"]


def expect_grpc_serves(stand):
    """A call is answered: Publish without an event is success=false, so status 0 and an empty answer."""
    peer = stand.raw(grpc_port(stand))
    peer.send(
        OPENING
        + frame(HEADERS, END_HEADERS, 1, request_headers())
        + frame(DATA, END_STREAM, 1, b"\0\0\0\0\0")
    )
    end = time.monotonic() + 5.0 * stand.slow
    while b"grpc-status" not in peer.buffer and not huffman_status(peer.buffer):
        require(peer.fill(end), "an answer of gRPC", None, peer.buffer)
    peer.abort()


def huffman_status(data):
    """Whether a HEADERS frame with END_STREAM, so the trailers of our one call, is there."""
    at = 0
    while len(data) - at >= 9:
        size = int.from_bytes(data[at : at + 3], "big")
        if data[at + 3] == HEADERS and data[at + 4] & END_STREAM:
            return True
        at += 9 + size
    return False


def grpc_faults(bench):
    """What is no HTTP/2, and HTTP/2 that breaks its rules, ends the connection; calls go on elsewhere."""
    headers = request_headers()
    faults = [
        OPENING + frame(DATA, 0, 1, b"x" * 100),
        OPENING + frame(HEADERS, END_HEADERS, 2, headers),
        OPENING + frame(HEADERS, END_HEADERS, 0, headers),
        OPENING + frame(HEADERS, END_HEADERS, 1, b"\xff" * 200),
        OPENING + frame(CONTINUATION, END_HEADERS, 1, headers),
        OPENING + frame(SETTINGS, 0, 0, b"12345"),
        OPENING + frame(SETTINGS, 0, 1),
        OPENING + frame(PING, 0, 0, b"1"),
        OPENING + frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0"),
        OPENING + frame(PUSH_PROMISE, END_HEADERS, 1, headers),
        OPENING + b"\xff\xff\xff\0\0\0\0\0\1" + b"x" * 20000,
        PREFACE[:-1] + b"X" + frame(SETTINGS, 0, 0),
    ]
    with Stand(bench, GRPC) as stand, stand.bystanders(), stand.memory_bound(30):
        files = stand.files()
        for data in list(garbage(random.Random(2)))[:8] + faults:
            peer = stand.raw(grpc_port(stand))
            peer.send(data)
            peer.read_to_end(6.0 * stand.slow)  # most with a GOAWAY: what it says is HTTP/2's matter
            peer.abort()
            require(stand.server.process.poll() is None, "the server lives after %r" % data[:40])
        stand.expect_log("LOG_GRPC_FAULT", 'remote="127.0.0.1"', "port=")
        for number, data in enumerate(faults):
            peer = stand.raw(grpc_port(stand))
            peer.send(data[: len(data) // 2])
            if number % 2:
                reset(peer)
            else:
                peer.half_close()
                peer.read_to_end(12.0 * stand.slow)
                peer.abort()
        wait_until(lambda: stand.files() <= files, "all descriptors are given back", 10 * stand.slow)
        expect_grpc_serves(stand)


HARMLESS = ("oversize message", "a long path")  # only the call fails


def grpc_floods(bench):
    """The known floods: each ends in a close, or is served without growing."""
    headers = request_headers()
    call = frame(HEADERS, END_HEADERS, 1, headers)

    def streams(make):
        return b"".join(make(1 + 2 * number) for number in range(4000))

    floods = {
        "endless headers": OPENING
        + frame(HEADERS, 0, 1, headers)
        + frame(CONTINUATION, 0, 1, literal(b"x" * 100, b"y" * 100) * 70) * 3000,
        "empty continuations": OPENING + frame(HEADERS, 0, 1, headers) + frame(CONTINUATION, 0, 1) * 200000,
        "rapid reset": OPENING
        + streams(lambda n: frame(HEADERS, END_HEADERS, n, headers) + frame(RST_STREAM, 0, n, b"\0\0\0\x08")),
        "settings": OPENING + frame(SETTINGS, 0, 0, b"\0\x03\0\0\0\x64") * 100000,
        "pings": OPENING + frame(PING, 0, 0, b"12345678") * 100000,
        "window updates": OPENING + call + frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1") * 100000,
        "windows that open and close": OPENING
        + call
        + (frame(SETTINGS, 0, 0, b"\0\x04\0\0\0\0") + frame(SETTINGS, 0, 0, b"\0\x04\x7f\xff\xff\xff")) * 50000,
        "tables that grow and shrink": OPENING
        + (frame(SETTINGS, 0, 0, b"\0\x01\0\0\0\0") + frame(SETTINGS, 0, 0, b"\0\x01\xff\xff\xff\xff")) * 50000,
        "priorities": OPENING + frame(PRIORITY, 0, 1, b"\0\0\0\0\x10") * 100000,
        "unknown frames": OPENING + frame(0x77, 0, 0, b"x" * 20) * 100000,
        "goaways": OPENING + frame(GOAWAY, 0, 0, b"\0" * 8) * 100000,
        "a small block that unpacks to a large one": OPENING
        + frame(HEADERS, END_HEADERS, 1, headers + remembered(b"x", b"y" * 4000))
        + frame(HEADERS, END_HEADERS, 3, headers + b"\xbe" * 10000),
        "endless trailers": OPENING
        + call
        + frame(HEADERS, END_STREAM, 1, literal(b"x", b"y"))
        + frame(CONTINUATION, 0, 1, literal(b"x" * 100, b"y" * 100) * 70) * 3000,
        "empty data": OPENING + call + frame(DATA, 0, 1) * 200000,
        "too many streams": OPENING + streams(lambda n: frame(HEADERS, END_HEADERS, n, headers)),
        "oversize message": OPENING
        + call
        + frame(DATA, 0, 1, b"\0\x7f\xff\xff\xff" + b"x" * 16000)
        + frame(DATA, 0, 1, b"x" * 16384) * 200,
        "a long path": OPENING
        + frame(HEADERS, 0, 1, headers)
        + frame(CONTINUATION, END_HEADERS, 1, literal(b"y" * 126, b"z" * 126) * 60),
    }
    with Stand(bench, GRPC) as stand, stand.bystanders(), stand.memory_bound(40):
        for name, data in floods.items():
            peer = stand.raw(grpc_port(stand))
            peer.sock.settimeout(3.0 * stand.slow)
            with contextlib.suppress(OSError):
                peer.sock.sendall(data)
            if name in HARMLESS:
                peer.half_close()
            got = peer.read_to_end(5.0 * stand.slow)
            peer.abort()
            if name not in HARMLESS:
                require(got[-17:-12] == frame(GOAWAY, 0, 0, b"x" * 8)[:5], name + ": GOAWAY", None, got[-60:])
                require(got[-4:] == b"\0\0\0\x0b", name + ": ENHANCE_YOUR_CALM", None, got[-60:])
                stand.expect_peer_log(peer, "LOG_GRPC_FAULT")
        expect_grpc_serves(stand)


def grpc_silence(bench):
    """Peers that never send their preface, or fall silent in a request, are closed."""
    with Stand(bench, merge(GRPC, {"limits": {"ping_interval": "1s"}})) as stand, stand.bystanders():
        with stand.memory_bound(30):
            files = stand.files()
            headers = frame(HEADERS, END_HEADERS, 1, request_headers())
            crowd = []
            for data in (
                b"",
                PREFACE[:10],
                OPENING,
                OPENING + headers[:30],
                OPENING + headers + frame(DATA, 0, 1, b"\0")[:8],
            ):
                for _ in range(20):
                    peer = stand.raw(grpc_port(stand))
                    peer.send(data)
                    crowd.append(peer)
            for peer in crowd:
                peer.read_to_end(20.0 * stand.slow)
                peer.abort()
            stand.expect_log("LOG_GRPC_CLOSED", 'remote="127.0.0.1"', "port=", "reason=")
            wait_until(lambda: stand.files() <= files, "all descriptors are given back", 10 * stand.slow)
            expect_grpc_serves(stand)


# --- the monitoring port ----------------------------------------------------------------------------


def monitor_faults(bench):
    """Wrong methods, huge requests, nonsense, pipelines: refused or answered, always closed or served."""
    request = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    faults = [
        (b"POST /varz HTTP/1.1\r\nHost: a\r\n\r\n", b"4"),
        (b"DELETE /varz HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", b"405"),
        (b"BREW /varz HTTP/1.1\r\nHost: a\r\n\r\n", b"501"),
        (b"GET /" + b"a" * 200000, b"4"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"y" * 500000, b"431"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20000, b"4"),
        (b"GET /varz HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n", b"4"),
        (b"GET /varz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", b"4"),
        (b"GET /varz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", b"400"),
        (b"GET /\0varz HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (PREFACE, None),
        (b"\r\n" * 100000, None),
        (connect_line().encode() + b"PING\r\n", None),
    ]
    with Stand(bench) as stand, stand.bystanders(), stand.memory_bound(25):
        files = stand.files()
        for data, status in faults:
            peer = stand.raw(stand.server.monitor_port)
            peer.send(data)
            peer.half_close()
            got = peer.read_to_end(8.0 * stand.slow)
            require(
                status is None or got.startswith(b"HTTP/1.1 " + status),
                "answer to %r" % data[:40],
                status,
                got[:60],
            )
            peer.abort()
        for data in garbage(random.Random(3)):
            peer = stand.raw(stand.server.monitor_port)
            peer.send(data)
            peer.half_close()
            peer.read_to_end(8.0 * stand.slow)
            peer.abort()
        peer = stand.raw(stand.server.monitor_port)
        peer.send(request * 2000)
        got = peer.read_exact(1, 5.0)
        reset(peer)  # in the middle of 2000 answers
        require(got == b"H", "an answer to the first of a pipeline", b"H", got)
        peer = stand.raw(stand.server.monitor_port)
        peer.send(request * 200)
        peer.half_close()
        got = peer.read_to_end(10.0 * stand.slow)
        require(got.count(b"HTTP/1.1 200 OK") == 200, "a pipeline of 200", 200, got.count(b"HTTP/1.1 200 OK"))
        wait_until(lambda: stand.files() <= files, "all descriptors are given back", 10 * stand.slow)


def monitor_slowly(bench):
    """Slowloris on all places: others get their pages at once, and the slow ones are cut off."""
    with Stand(bench) as stand, stand.bystanders(), stand.memory_bound(25):
        slow = [stand.raw(stand.server.monitor_port) for _ in range(200)]
        for peer in slow:
            with contextlib.suppress(OSError):
                peer.sock.sendall(b"GET /varz HTTP/1.1\r\nHost: a\r\nX: ")
        began = time.monotonic()
        stand.varz()
        require(time.monotonic() - began < 10.0 * stand.slow, "a page among slow peers")
        took = send_until_closed(slow[-1], b"x", 0.2, 20.0)
        require(took < 20.0 * stand.slow, "a dripping request is cut off", "5 s", took)
        for peer in slow[:-1]:
            peer.read_to_end(10.0 * stand.slow)
        stand.varz()


CASES = [
    grpc_silence,
    monitor_slowly,
    gateway_silence,
    grpc_floods,
    gateway_faults,
    gateway_garbage,
    grpc_faults,
    monitor_faults,
]

if __name__ == "__main__":
    sys.exit(main(CASES, "peers that break the rules on the gateway, gRPC and monitoring ports"))
