#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may see the monitoring pages: monitor.token and monitor.tls.

  monitoring_access.py --build build/release

Goal: with a token set every page but /healthz is refused to who does not show it; with TLS the pages
are the same as without, whatever lies in one record, and who does not begin TLS, or has no
certificate where one is asked for, gets nothing. Method: servers on ports of the system's choice,
HTTP by the library and byte by byte.
"""
import http.client
import json
import socket
import ssl
import sys

import monitoring
from monitoring import HOST, PAGES, PATIENCE_S, Mismatch, require, require_equal

sys.dont_write_bytecode = True

TOKEN = "s3cret-t0ken"


def ask(bench, path, authorization=None, context=None):
    """(status, headers, body)"""
    kind = http.client.HTTPSConnection if context else http.client.HTTPConnection
    options = {"context": context} if context else {}
    peer = kind(HOST, bench.server.monitor_port, timeout=PATIENCE_S, **options)
    try:
        peer.request("GET", path, headers={"Authorization": authorization} if authorization else {})
        answer = peer.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        peer.close()


# --- the token ------------------------------------------------------------------------------------


def case_token(bench):
    """Without the right token there is no page, known or not, and /healthz says no more than its status."""
    wrong = (None, "Bearer", "Bearer ", "Bearer x", "Bearer " + TOKEN[:-1], "Bearer " + TOKEN + "x")
    wrong += ("Basic " + TOKEN, TOKEN, "Bearer" + TOKEN, "Bearer %s x" % TOKEN)
    for path in [page for page in PAGES if page != "/healthz"] + ["/nope", "/healthz/"]:
        for authorization in wrong:
            status, headers, body = ask(bench, path, authorization)
            require_equal(status, 401, "%s with %s" % (path, authorization))
            require_equal(headers["WWW-Authenticate"], "Bearer", "WWW-Authenticate")
            require_equal(body, b"Unauthorized\n", "body")
    for path in PAGES:
        require_equal(ask(bench, path, "Bearer " + TOKEN)[0], 200, path)
        require_equal(ask(bench, path, "bearer  " + TOKEN)[0], 200, path + ", as others write it")
    require_equal(ask(bench, "/nope", "Bearer " + TOKEN)[0], 404, "/nope with the token")
    # The gateway is not there: who has the token is told, others are not.
    require_equal(ask(bench, "/healthz")[2], b'{"status":"ok"}', "/healthz for everybody")
    health = json.loads(ask(bench, "/healthz", "Bearer " + TOKEN)[2])
    require_equal(health["status"], "ok", "/healthz with the token")
    require("gateway missing is not linked" in health["degraded"][0], "what is degraded", None, health)
    for path in PAGES:
        require(TOKEN.encode() not in ask(bench, path, "Bearer " + TOKEN)[2], "no token on " + path)
    require(TOKEN not in bench.server.log_text(), "no token in the log")


# --- TLS ------------------------------------------------------------------------------------------


def context_of(bench, agent=None):
    context = bench.certs.client_context(agent) if agent else ssl.create_default_context()
    if not agent:
        context.load_verify_locations(bench.certs.ca())
    context.check_hostname = False
    return context


def tls_socket(bench, agent=None):
    sock = bench.raw()
    sock.settimeout(PATIENCE_S)
    wrapped = context_of(bench, agent).wrap_socket(sock, server_hostname="localhost")
    bench.closing.callback(wrapped.close)
    return wrapped


def case_tls(bench):
    """All pages come by HTTPS, large ones whole, and several requests may stand in one record."""
    for number in range(200):
        bench.client("c%d" % number + "x" * 200)
    for path in PAGES:
        status, _, body = ask(bench, path, context=context_of(bench))
        require_equal(status, 200, path)
        require(body, path)
    varz = json.loads(ask(bench, "/varz", context=context_of(bench))[2])
    require_equal((varz["http_port"], varz["https_port"]), (0, bench.server.monitor_port), "the port is HTTPS's")
    page = json.loads(ask(bench, "/connz", context=context_of(bench))[2])
    require_equal(page["num_connections"], 200, "connections on one large page")
    request = b"GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n"
    many = b"".join(request % (b"/connz?limit=50", b"") for _ in range(10))
    sock = tls_socket(bench)
    sock.sendall(many + request % (b"/varz", b"Connection: close\r\n"))
    answers = monitoring.read_all(sock)
    require_equal(answers.count(b"HTTP/1.1 200 OK\r\n"), 11, "answers to what stood in one record")
    require_equal(answers.count(b'"num_connections": 50,'), 10, "pages among them")
    # Byte by byte, each in a record of its own.
    sock = tls_socket(bench)
    for byte in request % (b"/healthz", b"Connection: close\r\n"):
        sock.sendall(bytes([byte]))
    require(b'{"status":"ok"' in monitoring.read_all(sock), "an answer to a request in pieces")


def case_tls_refusals(bench):
    """Who speaks plainly, says nothing or breaks the handshake off is closed, and others are served."""
    plain = bench.raw()
    plain.sendall(b"GET /varz HTTP/1.1\r\nHost: a\r\n\r\n")
    require(b"HTTP" not in monitoring.read_all(plain), "no answer in the clear")
    silent = bench.raw()
    started = bench.raw()
    started.sendall(b"\x16\x03\x01")
    require_equal(monitoring.read_all(silent), b"", "the silent one is closed")
    require_equal(monitoring.read_all(started), b"", "the one that began is closed")
    require_equal(ask(bench, "/healthz", context=context_of(bench))[0], 200, "others")
    require("a peer of the monitoring port failed" in bench.server.log_text(), "the log names it")


def case_certificates(bench):
    """Given root_ca_path, only who has a certificate of it and an allowed name sees a page."""
    require_equal(ask(bench, "/varz", context=context_of(bench, "agent"))[0], 200, "with it")
    for agent in (None, "other"):
        try:
            sock = tls_socket(bench, agent)
            sock.sendall(b"GET /varz HTTP/1.1\r\nHost: a\r\n\r\n")
            require_equal(monitoring.read_all(sock), b"", "no page for %s" % agent)
        except (ssl.SSLError, ConnectionError, BrokenPipeError):
            pass
    require_equal(ask(bench, "/varz", context=context_of(bench, "agent"))[0], 200, "afterwards")


CASES = {
    name[len("case_") :]: body for name, body in list(globals().items()) if name.startswith("case_")
}


def settings_of(name, certs):
    settings = {"threads": {"workers": 2}}
    if name == "token":
        settings["monitor"] = {"token": TOKEN}
        with socket.socket() as closed:
            closed.bind((HOST, 0))
            url = "nats://%s:%d" % (HOST, closed.getsockname()[1])
        settings["gateway"] = {"name": "A", "remotes": [{"name": "missing", "urls": [url]}]}
        return settings
    cert, key = certs.paths("event-service")
    settings["monitor"] = {"tls": {"cert_path": cert, "key_path": key}}
    if name == "tls_refusals":
        settings["monitor"]["tls"]["timeout"] = "2s"
    if name == "certificates":
        settings["monitor"]["tls"].update(root_ca_path=certs.ca(), allowed_names=["agent"])
    return settings


if __name__ == "__main__":
    sys.exit(monitoring.main("who may see the monitoring pages", CASES, settings_of))
