#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS peers that show the wrong certificate, or none, or do not speak TLS as they should.

  tls.py --build build/release

Goal: on each TLS port a peer without a good certificate is refused, with TLS 1.2 and with 1.3, and the log says
which peer and why; a handshake that is not finished costs a bounded time and memory; event-gateway shows the
certificate of the name that was asked for; clients that are in notice nothing. Nothing here depends on which
TLS library the programs are built with. Method: certificates by scripts/make-certs --bad; OpenSSL, by Python,
as the other side; the log is looked at for peer and reason.
"""

import contextlib
import os
import re
import socket
import ssl
import sys
import time
import warnings

from bystanders import HOST, SECRET, Mismatch, Stand, connect_line, main, merge, require, reset
from support import Certificates

warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.1 is asked for on purpose

TOKEN = SECRET + "token"
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def bad(name):
    return "bad/" + name


def client_context(bench, name=None, version=None, trusts="ca"):
    """A client that trusts the authority and shows NAME's certificate."""
    context = ssl.create_default_context(cafile=bench.cert(trusts))
    if name:
        pair = bench.pair(name)
        context.load_cert_chain(pair["cert_path"], pair["key_path"])
    if version:
        context.minimum_version = context.maximum_version = VERSIONS[version]
    return context


def mutual(bench, **more):
    return {"tls": merge(bench.pair("event-service"), dict({"root_ca_path": bench.cert("ca")}, **more))}


def try_in(stand, context, name="localhost", port=None, greets=True):
    """The peer, and None when CONNECT was answered, else how the attempt ended."""
    peer = stand.raw(port)
    if greets:
        peer.read_info()
    try:
        peer.start_tls(context, name)
        # With TLS 1.3 a server's refusal comes after the client's side of the handshake.
        peer.send(connect_line() + "PING\r\n")
        line = peer.read_line(5.0 * stand.slow)
        require(line == b"PONG\r\n", "PONG", b"PONG", line)
        return peer, None
    except (ssl.SSLError, OSError, Mismatch) as fault:
        return peer, str(fault)


# Certificates that must be refused from a client, and what the log says then.
REFUSED = {
    None: "showed no certificate",
    "unknown-ca": "unknown authority",
    "expired": "has expired",
    "not-yet-valid": "not valid yet",
    "server-auth-only": "not for this role",
    "leaf-signed": "the peer's certificate is ",
    "wrong-name": "(somebody-else) has none of the allowed names",
    "nul-name": "names in the peer's certificate cannot be read",
    "short-key": "key is shorter than 2048 bits",
}


def wrong_certificates(bench):
    """A client certificate that is missing or wrong in each way, with TLS 1.2 and 1.3: refused and told."""
    with Stand(bench, mutual(bench, allowed_names=["client", "event-service"])) as stand:
        with stand.bystanders(None, client_context(bench, "client")), stand.memory_bound(30):
            for name, reason in REFUSED.items():
                for version in VERSIONS:
                    shown = bad(name) if name else None
                    if name == "short-key":
                        context = short_key_context(bench, version)
                    else:
                        context = client_context(bench, shown, version)
                    peer, fault = try_in(stand, context)
                    require(fault is not None, "%s with TLS %s is refused" % (name, version))
                    peer.abort()
                    stand.expect_peer_log(peer, "LOG_CLIENT_TLS_FAILED", reason)
            for name in ("client", bad("client-auth-only")):
                for version in VERSIONS:
                    peer, fault = try_in(stand, client_context(bench, name, version))
                    require(fault is None, "%s with TLS %s is let in" % (name, version), None, fault)
                    require(peer.sock.version() == "TLSv" + version, "version", version, peer.sock.version())


def short_key_context(bench, version):
    """OpenSSL itself refuses such a key, unless told otherwise."""
    context = ssl.create_default_context(cafile=bench.cert("ca"))
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.load_cert_chain(*bench.pair(bad("short-key")).values())
    context.minimum_version = context.maximum_version = VERSIONS[version]
    return context


def no_tls(bench):
    """Plain text, old versions, weak ciphers and garbage on a TLS port: refused, told, and bounded."""
    with Stand(bench, mutual(bench)) as stand, stand.bystanders(None, client_context(bench, "client")):
        with stand.memory_bound(30):
            for data in (
                connect_line().encode() + b"PING\r\n",
                b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                b"\0" * 100,
                b"\r\n",
                b"P",
            ):
                peer = stand.greeted()
                peer.send(data)
                peer.half_close()
                got = peer.read_to_end(5.0 * stand.slow)
                # A TLS alert at most: no answer in clear.
                require(
                    got == b"" or got[:1] == b"\x15" and len(got) < 64,
                    "no answer to %r" % data[:20],
                    b"",
                    got,
                )
                peer.abort()
                stand.expect_peer_log(
                    peer,
                    "LOG_CLIENT_TLS_FAILED",
                    "plain text instead of TLS" if len(data) > 5 and data[0] else "reason=",
                )
            for name, ciphers, version in (
                ("TLS 1.1", "DEFAULT@SECLEVEL=0", ssl.TLSVersion.TLSv1_1),
                ("no forward secrecy", "AES128-SHA", ssl.TLSVersion.TLSv1_2),
            ):
                context = ssl.create_default_context(cafile=bench.cert("ca"))
                context.set_ciphers(ciphers)
                context.load_cert_chain(*bench.pair("client").values())
                context.minimum_version = context.maximum_version = version
                peer, fault = try_in(stand, context)
                require(fault is not None, name + " is refused")
                peer.abort()
                stand.expect_peer_log(peer, "LOG_CLIENT_TLS_FAILED", "reason=")
            for data in (
                b"\x16\x03\x01\xff\xff" + b"x" * 70000,
                b"\x16\x03\x01\x00\x04\x01\xff\xff\xff" + b"\x16\x03\x01\x40\x00" * 3000,
                b"\x17\x03\x03\x00\x10" + b"x" * 16,
                b"\x15\x03\x03\x00\x02\x02\x28",
                b"\x14\x03\x03\x00\x01\x01" * 1000,
                b"\x16\x03\x01\x00\x00" * 10000,
            ):
                peer = stand.greeted()
                peer.send(data)
                peer.half_close()
                peer.read_to_end(5.0 * stand.slow)
                peer.abort()
                stand.expect_peer_log(peer, "LOG_CLIENT_TLS_FAILED", "reason=")
        stand.expect_connections(2)


def slow_handshakes(bench):
    """Handshakes half done and silent, or a byte at a time, are ended at tls.timeout; hundreds too."""
    with Stand(bench, mutual(bench, timeout="1s")) as stand:
        hello = client_hello()
        with stand.bystanders(None, client_context(bench, "client")), stand.memory_bound(60):
            began = time.monotonic()
            crowd = []
            for number in range(200):
                peer = stand.greeted()
                peer.send(hello[: (0, 3, 50, len(hello))[number % 4]])
                crowd.append(peer)
            for peer in crowd:
                peer.read_to_end(6.0 * stand.slow)
                peer.abort()
            took = time.monotonic() - began
            require(0.9 < took < 8.0 * stand.slow, "all are closed at tls.timeout", "about 1 s", took)
            stand.expect_log("LOG_CLIENT_TLS_FAILED", "port=", "the handshake took too long")
            peer = stand.greeted()
            began = time.monotonic()
            for at in range(len(hello)):
                peer.send(hello[at : at + 1])
                if peer.fill(time.monotonic() + 0.02) or peer.ended:
                    break
            peer.read_to_end(3.0 * stand.slow)
            took = time.monotonic() - began
            require(
                0.9 < took < 8.0 * stand.slow, "a dripping hello is ended at tls.timeout", "about 1 s", took
            )
            peer.abort()
            stand.expect_peer_log(peer, "LOG_CLIENT_TLS_FAILED", "the handshake took too long")
            # Resets in every part of a handshake.
            for number in range(100):
                peer = stand.greeted()
                peer.send(hello[: len(hello) * (number % 5) // 4])
                if number % 2:
                    peer.settle()
                reset(peer)
        stand.expect_connections(2)


def client_hello():
    """The first bytes of OpenSSL's client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def broken_records(bench):
    """Damage after the handshake ends that connection, and what came before it counts."""
    with Stand(bench, mutual(bench)) as stand, stand.bystanders(None, client_context(bench, "client")):
        for version in VERSIONS:
            for damage in (
                b"\x17\x03\x03\x00\x20" + b"x" * 32,
                b"PING\r\n" * 10,
                b"\x17\x03\x03\xff\xff" + b"x" * 70000,
                b"\x16\x03\x03\x00\x04\0\0\0\0",
            ):
                peer, fault = try_in(stand, client_context(bench, "client", version))
                require(fault is None, "in", None, fault)
                under = socket.socket(fileno=os.dup(peer.sock.fileno()))
                with contextlib.suppress(OSError):
                    under.sendall(damage)
                    under.shutdown(socket.SHUT_WR)
                under.settimeout(5.0 * stand.slow)
                with contextlib.suppress(ConnectionError):
                    while under.recv(65536):
                        pass
                under.close()
                peer.abort()
                stand.expect_peer_log(peer, "LOG_CLIENT_ERROR", "fault=")
        stand.expect_connections(2)


def half_close(bench):
    """Who ends its direction right behind its last lines, by close_notify and without a FIN, is
    answered, and then told that we end too."""
    with Stand(bench, mutual(bench)) as stand:
        for version in VERSIONS:
            peer = stand.greeted()
            peer.sock.settimeout(15.0 * stand.slow)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            context = client_context(bench, "client", version)
            side = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

            def go_on(step):
                while True:
                    try:
                        return step()
                    except ssl.SSLWantReadError:
                        peer.sock.sendall(outgoing.read())
                        data = peer.sock.recv(65536)
                        require(data, "an end by close_notify", "close_notify", "FIN")
                        incoming.write(data)

            go_on(side.do_handshake)
            side.write(connect_line().encode() + b"PING\r\n")
            with contextlib.suppress(ssl.SSLWantReadError):
                side.unwrap()  # close_notify stands behind the lines now, in one segment
            got = b""
            with contextlib.suppress(ssl.SSLZeroReturnError):
                while data := go_on(lambda: side.read(65536)):
                    got += data
            require(got.endswith(b"PONG\r\n"), "the answer, with TLS " + version, b"PONG", got)


def plain_beside_tls(bench):
    """With allow_plain the first bytes tell; the rest is as on either port."""
    settings = mutual(bench, allow_plain=True, timeout="1s")
    with Stand(bench, settings) as stand, stand.bystanders(), stand.bystanders(
        None, client_context(bench, "client")
    ):
        info = stand.raw().read_info()
        require("tls_required" not in info and info.get("tls_available"), "INFO", "tls_available", info)
        _, fault = try_in(stand, client_context(bench))
        require(fault is not None, "TLS without a certificate is refused here too")
        peer = stand.greeted()
        peer.send(b"P")
        peer.settle()
        peer.send(b"ING\r\n")
        peer.expect("PONG\r\n")
        peer = stand.greeted()
        got = peer.read_to_end(4.0 * stand.slow)
        require(got == b"", "who says nothing is closed at tls.timeout", b"", got)


# --- event-gateway ----------------------------------------------------------------------------------------


def names_of(peer):
    """The DNS names of the certificate that was shown."""
    return sorted(value for kind, value in peer.sock.getpeercert().get("subjectAltName", ()) if kind == "DNS")


def choice_by_name(bench):
    """event-gateway shows the certificate of the name that is asked for, else its first."""
    certs = Certificates(os.path.join(bench.folder, "sni"))
    hosts = ("first.example", "second.example", "*.third.example")
    pairs = [
        certs.paths(name.replace("*", "any"), hosts=False) if "*" not in name else wildcard(certs, name)
        for name in hosts
    ]
    settings = {
        "frontend_tls": [{"cert_path": cert, "key_path": key} for cert, key in pairs],
        "auth": {"token": TOKEN},
    }
    context = ssl.create_default_context(cafile=certs.ca())
    context.check_hostname = False
    with Stand(bench, settings, "event-gateway") as stand:
        for asked, shown in (
            ("first.example", "first.example"),
            ("second.example", "second.example"),
            ("SECOND.Example", "second.example"),
            ("any.third.example", "*.third.example"),
            ("a.b.third.example", "first.example"),
            ("third.example", "first.example"),
            ("secondXexample", "first.example"),
            ("second.example.evil", "first.example"),
            ("nobody.example", "first.example"),
            (None, "first.example"),
            ("127.0.0.1", "first.example"),
        ):
            for version in VERSIONS:
                context.minimum_version = context.maximum_version = VERSIONS[version]
                peer = stand.greeted()
                peer.start_tls(context, asked)
                require(
                    names_of(peer) == [shown],
                    "shown for %s with TLS %s" % (asked, version),
                    shown,
                    names_of(peer),
                )
                peer.send(connect_line(TOKEN) + "PING\r\n")
                peer.expect("PONG\r\n", 5.0 * stand.slow)
                peer.abort()
        # Names by the hundred, too long, and no text: the hello is read within bounds.
        for name in ("a" * 63 + ".example", ".".join(["a" * 50] * 4)):
            peer = stand.greeted()
            peer.start_tls(context, name)
            require(names_of(peer) == ["first.example"], "shown for a long name", None, names_of(peer))
            peer.abort()


def wildcard(certs, name):
    """A certificate for a wildcard name; its file's name has no star."""
    stem = "wildcard"
    certs.ca()
    with open(certs.path(stem + ".ext"), "w") as file:
        file.write(
            "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:%s\n"
            % name
        )
    certs.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", stem + ".key")
    certs.openssl("req", "-new", "-key", stem + ".key", "-subj", "/CN=" + name, "-out", stem + ".csr")
    certs.openssl(
        "x509",
        "-req",
        "-in",
        stem + ".csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "30",
        "-extfile",
        stem + ".ext",
        "-out",
        stem + ".crt",
    )
    return certs.path(stem + ".crt"), certs.path(stem + ".key")


def outside_clients(bench):
    """event-gateway asks for no certificate and for a token; without one nothing helps."""
    settings = {
        "frontend_tls": [bench.pair("client")],
        "auth": {"token": TOKEN, "timeout": "500ms"},
        "tls": {"timeout": "500ms"},
    }
    settings["tls"].update(bench.pair("event-gateway"), root_ca_path=bench.cert("ca"))
    everything = {"publish": {"allow": [">"]}, "subscribe": {"allow": [">"]}}
    settings["auth"]["default_permissions"] = everything
    with Stand(bench, settings, "event-gateway") as stand, stand.bystanders(TOKEN, client_context(bench)):
        for token in (None, "", SECRET + "wrong", TOKEN + "x"):
            peer = stand.greeted()
            peer.start_tls(client_context(bench, "client"))  # a certificate of the inside is no token
            peer.send(connect_line(token) + "PING\r\n")
            got = peer.read_to_end(5.0 * stand.slow)
            require(got == b"-ERR 'Authorization Violation'\r\n", "answer", None, got)
            peer.abort()
            stand.expect_peer_log(peer, "LOG_CLIENT_AUTH_FAILED")
        peer = stand.greeted()
        peer.start_tls(client_context(bench))
        got = peer.read_to_end(5.0 * stand.slow)
        require(got == b"-ERR 'Authentication Timeout'\r\n", "who says nothing inside TLS", None, got)


# --- links ------------------------------------------------------------------------------------------------


def link_certificates(bench):
    """A gateway link needs good certificates on both sides; both logs say what is wrong."""
    cases = (
        ("event-gateway", "event-service", ["event-gateway"], ["event-service"], None, None),
        (bad("expired"), "event-service", ["event-service"], ["event-service"], "has expired", None),
        (bad("unknown-ca"), "event-service", ["event-service"], ["event-service"], "unknown authority", None),
        (
            bad("server-auth-only"),
            "event-service",
            ["event-service"],
            ["event-service"],
            "not for this role",
            None,
        ),
        (
            "client",
            "event-service",
            ["event-gateway"],
            ["event-service"],
            "(client) has none of the allowed names",
            None,
        ),
        ("event-gateway", bad("expired"), ["event-gateway"], ["event-service"], None, "has expired"),
        ("event-gateway", bad("unknown-ca"), ["event-gateway"], ["event-service"], None, "unknown authority"),
        (
            "event-gateway",
            bad("client-auth-only"),
            ["event-gateway"],
            ["event-service"],
            None,
            "not for this role",
        ),
        (
            "event-gateway",
            "client",
            ["event-gateway"],
            ["event-service"],
            None,
            "(client) has none of the allowed names",
        ),
    )
    for dialler, acceptor, allowed_here, allowed_there, told_here, told_there in cases:
        ca = {"root_ca_path": bench.cert("ca")}
        service = {
            "tls": merge(bench.pair("event-service"), ca),
            "gateway": {"name": "S", "tls": merge(bench.pair(acceptor), ca), "allowed_names": allowed_here},
        }
        with Stand(bench, service) as stand, stand.bystanders(None, client_context(bench, "client")):
            url = "nats://%s:%d" % (HOST, stand.server.gateway_port)
            gateway = {
                "service": {"disable_frontend_tls": True},
                "auth": {"token": TOKEN},
                "gateway": {
                    "name": "G",
                    "tls": merge(bench.pair(dialler), ca),
                    "allowed_names": allowed_there,
                    "remotes": [{"name": "S", "urls": [url]}],
                },
            }
            with Stand(bench, gateway, "event-gateway") as other:
                if told_here is None and told_there is None:
                    stand.expect_log("LOG_GATEWAY_LINK_OPEN", 'gateway="G"', 'direction="inbound"')
                    other.expect_log("LOG_GATEWAY_LINK_OPEN", 'gateway="S"', 'direction="outbound"')
                    continue
                for side, told in ((stand, told_here), (other, told_there)):
                    side.expect_log(
                        "LOG_GATEWAY_TLS_FAILED", 'remote="127.0.0.1"', "port=", told or "reason="
                    )
                for side in (stand, other):
                    page = side.server.http_json("/gatewayz")
                    is_linked = any(page["inbound_gateways"].values())
                    require(
                        not is_linked
                        and not any("LOG_GATEWAY_LINK_OPEN" in line for line in side.read_log()),
                        "no link is open",
                        None,
                        page,
                    )


def link_port(bench):
    """The gateway port refuses whom the client port refuses, and plain text."""
    settings = mutual(bench)
    settings["gateway"] = {"name": "S", "allowed_names": ["event-gateway"]}
    settings["tls"]["timeout"] = "1s"
    with Stand(bench, settings) as stand, stand.bystanders(None, client_context(bench, "client")):
        names = {
            None: "showed no certificate",
            bad("expired"): "has expired",
            "client": "(client) has none of the allowed names",
        }
        for name, reason in names.items():
            for version in VERSIONS:
                peer, fault = try_in(
                    stand, client_context(bench, name, version), port=stand.server.gateway_port, greets=False
                )
                require(fault is not None, "%s is refused" % name)
                peer.abort()
                stand.expect_peer_log(peer, "LOG_GATEWAY_TLS_FAILED", reason)
        peer = stand.raw(stand.server.gateway_port)
        peer.send("CONNECT {}\r\n")
        got = peer.read_to_end(5.0 * stand.slow)
        require(got == b"" or got[:1] == b"\x15", "no answer in clear", b"", got)
        stand.expect_peer_log(peer, "LOG_GATEWAY_TLS_FAILED", "plain text instead of TLS")
        peer = stand.raw(stand.server.gateway_port)
        peer.read_to_end(5.0 * stand.slow)
        stand.expect_peer_log(peer, "LOG_GATEWAY_LINK_FAILED", "TLS Handshake Timeout")


def grpc_port(bench):
    """The gRPC port: the same."""
    settings = merge(mutual(bench, timeout="1s"), {"grpc": {}})
    with Stand(bench, settings) as stand, stand.bystanders(None, client_context(bench, "client")):
        port = stand.server.full["grpc"]["port"]
        for name, reason in (
            (None, "showed no certificate"),
            (bad("expired"), "has expired"),
            (bad("unknown-ca"), "unknown authority"),
        ):
            for version in VERSIONS:
                peer, fault = try_in(stand, client_context(bench, name, version), port=port, greets=False)
                require(fault is not None, "%s is refused" % name)
                peer.abort()
                stand.expect_peer_log(peer, "LOG_GRPC_TLS_FAILED", reason)
        peer = stand.raw(port)
        peer.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        got = peer.read_to_end(5.0 * stand.slow)
        require(got == b"" or got[:1] == b"\x15", "no answer in clear", b"", got)
        stand.expect_peer_log(peer, "LOG_GRPC_TLS_FAILED", "plain text instead of TLS")
        peer = stand.raw(port)
        peer.read_to_end(5.0 * stand.slow)
        stand.expect_peer_log(peer, "LOG_GRPC_TLS_FAILED", "the handshake took too long")


def library_is_named(bench):
    """/varz and the log name the TLS library, whichever it is."""
    with Stand(bench, mutual(bench)) as stand:
        library = stand.varz()["tls_library"]
        require(re.fullmatch(r"\w+ \d+\.\d+\.\d+.*", library), "tls_library", "system 5.5.4", library)
        stand.expect_log("LOG_SERVER_STARTING", 'tls_library="%s"' % library)
        print("the programs use the TLS library '%s'" % library)


CASES = [
    link_certificates,
    slow_handshakes,
    link_port,
    grpc_port,
    no_tls,
    wrong_certificates,
    choice_by_name,
    broken_records,
    half_close,
    outside_clients,
    plain_beside_tls,
    library_is_named,
]

if __name__ == "__main__":
    sys.exit(main(CASES, "TLS peers that must be refused"))
