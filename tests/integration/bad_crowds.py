#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Crowds before the door: many peers at once that have not shown who they are.

  bad_crowds.py --build build/release

Goal: what such peers may cost is bounded for all of them together, and a crowd from one address does not
keep others out: not by silence, not by handshakes, not by passwords that take long to check; on no port.
Method: as bad_peers.py. The crowd comes from 127.0.0.1, the good peer from 127.0.0.2, which is another
address for the server. What is asked is who got on and who did not, never how long it took.
"""

import contextlib
import select
import socket
import ssl
import sys
import time

from bad_doors import gateway_connect, gateway_info
from bystanders import HOST, SECRET, Bystanders, Mismatch, Stand, connect_line, main, require, wait_until
from peers import Peer
from tls import client_context

TOKEN = SECRET + "token-of-everybody"
BCRYPT = "$2b$10$abcdefghijklmnopqrstuuD20ZMY8lIQueKwRCO7Fj8eBf8g9HChm"  # of SECRET + "password"
OTHER = "127.0.0.2"
PLACES = 8
CROWD = 60


def stranger(stand, port=None):
    """A TCP connection from another address."""
    sock = socket.create_connection((HOST, port or stand.server.port), 10.0, source_address=(OTHER, 0))
    peer = Peer(sock, "stranger")
    peer.local_port = sock.getsockname()[1]
    stand.closing.callback(peer.abort)
    return peer


def spoken_to(crowd):
    """How many of the crowd have been sent something."""
    socks = {peer.sock.fileno(): peer.sock for peer in crowd}
    poller = select.poll()  # not select(), which takes no number past 1023
    for number in socks:
        poller.register(number, select.POLLIN)
    count = 0
    for sock in (socks[number] for number, _ in poller.poll(0)):
        with contextlib.suppress(OSError):
            count += sock.recv(1, socket.MSG_PEEK) != b""
    return count


def settle(crowd, count):
    wait_until(lambda: spoken_to(crowd) >= count, "%d of the crowd have a place" % count)


def silent_clients(bench):
    """A silent crowd holds half of the places; who comes from elsewhere is served at once, and the log tells."""
    settings = {"auth": {"token": TOKEN, "timeout": "60s"}, "limits": {"max_handshakes": PLACES}}
    with Stand(bench, settings) as stand, stand.bystanders(TOKEN), stand.memory_bound(20):
        crowd = [stand.raw() for _ in range(CROWD)]
        settle(crowd, PLACES // 2)
        for _ in range(5):
            peer = stranger(stand)
            peer.read_info()
            peer.send(connect_line(TOKEN) + "PING\r\n")
            peer.expect("PONG\r\n", 5.0 * stand.slow)
        require(stand.connections() <= 2 + PLACES + 5, "places are bounded", None, stand.connections())
        stand.expect_log("LOG_ACCEPT_REFUSED", 'remote="%s"' % HOST, "port=")
        for peer in crowd:
            peer.abort()
        wait_until(lambda: gets_in(stand), "the crowd's own address is served again", 10.0 * stand.slow)


def gets_in(stand):
    with contextlib.suppress(Mismatch):
        stand.client(TOKEN).expect_open()
        return True
    return False


def waiting_clients(bench):
    """Who waits is served when a place is free, and let go of when none is for too long."""
    settings = {"auth": {"token": TOKEN, "timeout": "60s"}, "limits": {"max_handshakes": 2}}
    with Stand(bench, settings) as stand, stand.bystanders(TOKEN):
        first = stand.raw()
        first.read_info()  # half of two
        second = stand.raw()
        third = stand.raw()
        first.abort()
        second.read_info()
        got = third.read_to_end(10.0 * stand.slow)
        require(got == b"", "who waited in vain is told nothing", b"", got)
        stand.expect_peer_log(third, "LOG_ACCEPT_REFUSED")
        second.send(connect_line(TOKEN) + "PING\r\n")
        second.expect("PONG\r\n", 5.0 * stand.slow)


def client_hello(context):
    """The first bytes of a handshake that its client then leaves alone."""
    to_server = ssl.MemoryBIO()
    session = context.wrap_bio(ssl.MemoryBIO(), to_server, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return to_server.read()


def silent_handshakes(bench):
    """The same where TLS comes first, on the port for clients and on the one for gRPC; half of the crowd makes
    the server work before it falls silent."""
    ours = bench.pair("event-service")
    settings = {
        "tls": dict(ours, root_ca_path=bench.cert("ca"), timeout="60s"),
        "grpc": {"port": 0},
        "limits": {"max_handshakes": PLACES},
    }
    with Stand(bench, settings) as stand, stand.memory_bound(30):
        tls = client_context(bench, "event-gateway")
        with stand.bystanders(tls=tls):
            hello = client_hello(tls)
            crowd = [stand.raw() for _ in range(CROWD)]
            for peer in crowd[::2]:
                peer.send(hello)
            settle(crowd, PLACES // 2)
            peer = stranger(stand)
            peer.read_info()
            peer.start_tls(tls, "localhost")
            peer.send(connect_line() + "PING\r\n")
            peer.expect("PONG\r\n", 5.0 * stand.slow)
            port = stand.server.full["grpc"]["port"]
            crowd = [stand.raw(port) for _ in range(CROWD)]
            for peer in crowd[::2]:
                peer.send(hello)
            peer = stranger(stand, port)
            peer.start_tls(tls, "localhost")
            peer.abort()


def silent_gateways(bench):
    """The same on the gateway port, where a place is held until the peer has said its name."""
    gateway = {"name": "A", "user": "link", "password": SECRET + "link"}
    settings = {"gateway": gateway, "limits": {"max_handshakes": PLACES}}
    with Stand(bench, settings) as stand, stand.bystanders(), stand.memory_bound(20):
        port = stand.server.gateway_port
        half = [stand.raw(port) for _ in range(PLACES // 2)]
        for peer in half:
            peer.read_info()
            peer.send(gateway_connect())  # and no INFO
        crowd = [stand.raw(port) for _ in range(CROWD)]
        peer = stranger(stand, port)
        peer.read_info()
        peer.send(gateway_connect() + gateway_info() + b"PING\r\n")
        wait_until(
            lambda: peer.fill(time.monotonic() + 1) and b"PONG\r\n" in peer.buffer,
            "a good gateway is served",
        )
        for peer in half + crowd:
            peer.abort()


def slow_passwords(bench):
    """A crowd that tries passwords against bcrypt: one from elsewhere is let in before its turn is over."""
    users = [{"user": "slow", "password": BCRYPT}, {"user": "quick", "password": SECRET + "quick"}]
    settings = {"auth": {"users": users, "timeout": "60s"}}
    with Stand(bench, settings) as stand:
        stand.client = lambda *_args, **_more: quick_client(stand)
        with Bystanders(stand):
            crowd = [stand.greeted() for _ in range(4 * CROWD)]
            for number, peer in enumerate(crowd):
                peer.send(connect_line(user="slow", **{"pass": SECRET + "wrong%d" % number}))
            settle(crowd, 1)
            peer = stranger(stand)
            peer.read_info()
            peer.send(connect_line(user="slow", **{"pass": SECRET + "password"}) + "PING\r\n")
            peer.expect("PONG\r\n", 20.0 * stand.slow)
            answered = spoken_to(crowd)
            require(answered < 3 * CROWD, "it came before many of the crowd", 3 * CROWD, answered)
            for each in crowd:
                each.abort()


def hungry_clients(bench):
    """A crowd that sends megabytes behind a password that takes long: what is kept of them is bounded."""
    users = [{"user": "slow", "password": BCRYPT}, {"user": "quick", "password": SECRET + "quick"}]
    settings = {
        "auth": {"users": users, "timeout": "60s"},
        "limits": {"max_handshakes": 8 * PLACES, "max_control_line": "1MiB"},
    }
    with Stand(bench, settings) as stand:
        stand.client = lambda *_args, **_more: quick_client(stand)
        with Bystanders(stand), stand.memory_bound(20):
            crowd = [stand.raw() for _ in range(2 * CROWD)]
            settle(crowd, 4 * PLACES)
            for number, peer in enumerate(crowd):
                wrong = connect_line(user="slow", **{"pass": SECRET + "wrong%d" % number})
                lines = (wrong.encode() + b"PUB a 4\r\nmore\r\n" * 100000, b'CONNECT {"name":"' + b"x" * 900000)
                peer.sock.setblocking(False)
                with contextlib.suppress(OSError):
                    peer.sock.send(lines[number % 2])
            peer = stranger(stand)
            peer.read_info()
            peer.send(connect_line(user="slow", **{"pass": SECRET + "password"}) + "PING\r\n")
            peer.expect("PONG\r\n", 20.0 * stand.slow)
            for each in crowd:
                each.abort()


def slow_gateway_passwords(bench):
    """The same on the gateway port, where a link that waits its turn behind the crowd would be closed after 2 s."""
    gateway = {"name": "A", "user": "link", "password": BCRYPT}
    with Stand(bench, {"gateway": gateway, "auth": {"timeout": "60s"}}) as stand, stand.bystanders():
        port = stand.server.gateway_port
        crowd = [stand.raw(port) for _ in range(2 * CROWD)]
        for number, peer in enumerate(crowd):
            peer.read_info()
            peer.send(gateway_connect(**{"pass": SECRET + "wrong%d" % number}))
        peer = stranger(stand, port)
        peer.read_info()
        peer.send(gateway_connect(**{"pass": SECRET + "password"}) + gateway_info() + b"PING\r\n")
        wait_until(
            lambda: peer.fill(time.monotonic() + 1) and b"PONG\r\n" in peer.buffer,
            "a good gateway is served",
            10.0 * stand.slow,
        )
        for each in crowd:
            each.abort()


def quick_client(stand):
    peer = stand.greeted()
    peer.send(connect_line(user="quick", **{"pass": SECRET + "quick"}) + "PING\r\n")
    peer.expect("PONG\r\n", 5.0 * stand.slow)
    return peer


CASES = [waiting_clients, silent_gateways, slow_passwords, slow_gateway_passwords, hungry_clients, silent_handshakes, silent_clients]

if __name__ == "__main__":
    sys.exit(main(CASES, "crowds that have not shown who they are"))
