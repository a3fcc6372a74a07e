#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Secrets that were planted everywhere are found nowhere.

  bad_secrets.py --build build/release

Goal: no token, password, key or payload stands in a log, on a page of the monitoring port, in an error
text, on a command line or in what the programs print; whether it was right or wrong, well-formed or not.
Method: every secret begins with the same word (bystanders.SECRET). Servers are given such secrets by all
ways there are, peers send them in all states, then everything that can be read is searched for the word.
The log is at its most talkative level. That the search finds what there is to find is shown as well.
"""

import contextlib
import hashlib
import http.client
import json
import os
import re
import subprocess
import sys
import time

from bad_doors import gateway_info
from bystanders import HOST, SECRET, Stand, connect_line, main, merge, require, wait_until

PAGES = (
    "/",
    "/healthz",
    "/varz",
    "/connz?auth=1&subs=detail&state=all&limit=1024",
    "/gatewayz?accs=1",
    "/actorz?limit=1024",
    "/eventz",
    "/subsz?subs=1",
    "/routez",
    "/metrics",
    "/nothing",
)
BCRYPT = "$2b$10$abcdefghijklmnopqrstuuD20ZMY8lIQueKwRCO7Fj8eBf8g9HChm"  # of SECRET + "password"


def without_secret(what, text):
    if isinstance(text, str):
        text = text.encode()
    for word in (SECRET.encode(), BCRYPT[7:].encode()):
        at = text.find(word)
        require(at < 0, "no secret in " + what, None, text[max(0, at - 200) : at + 60])


def page(stand, path, token=SECRET + "monitor"):
    connection = http.client.HTTPConnection(HOST, stand.server.monitor_port, timeout=20.0 * stand.slow)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Authorization": "Bearer " + token})
        answer = connection.getresponse()
        return answer.status, answer.read()


def run(stand, *words):
    done = subprocess.run(
        [stand.bench.program(stand.kind), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60 * stand.slow,
    )
    return done.stdout + done.stderr


def look_everywhere(stand, *shown):
    """All that can be read from outside; shown: what must stand on some page, so that pages are not empty."""
    seen = b""
    for path in PAGES:
        status, body = page(stand, path)
        require(status == (404 if path == "/nothing" else 200), "the page " + path, None, (status, body[:200]))
        without_secret("the page " + path, body)
        _, refused = page(stand, path, SECRET + "wrong-monitor")
        without_secret("the page %s by a wrong token" % path, refused)
        seen += body
    for word in shown:
        require(word.encode() in seen, "%s is shown" % word, word, "no page has it")
    for name in ("cmdline", "environ", "comm"):
        with open("/proc/%d/%s" % (stand.pid, name), "rb") as file:
            without_secret("/proc/PID/" + name, file.read())
    config = stand.server.config_path
    with open(config, "rb") as file:
        require(SECRET.encode() in file.read(), "the search finds what is there", None, config)
    printed = run(stand, "--check-config", "--config", config)
    require(b"max_payload" in printed, "what is in effect is printed", None, printed)
    without_secret("--check-config", printed)
    text = stand.server.log_text()
    require("LOG_" in text, "there is a log", None, text)
    without_secret("the log", text)


def try_in(stand, line, then=""):
    """One client that sends this as its first line; its answer is no secret either."""
    peer = stand.greeted()
    peer.send(line + then + "PING\r\n")
    wait_until(
        lambda: peer.ended or peer.fill(time.monotonic() + 0.1) or b"PONG" in peer.buffer or b"-ERR" in peer.buffer,
        "an answer to a client",
        20.0 * stand.slow,
    )
    without_secret("an answer to a client", peer.buffer)
    return peer


def clients(bench):
    """Users, tokens and payloads of clients at event-gateway, right and wrong, whole and broken."""
    folder = os.path.join(bench.folder, "secrets")
    os.makedirs(folder)
    token = SECRET + "of-the-file"
    with open(os.path.join(folder, "tokens"), "w") as file:
        file.write("carol %s\n" % hashlib.sha256(token.encode()).hexdigest())
    os.chmod(file.name, 0o600)
    everything = {"publish": {"allow": [">"]}, "subscribe": {"allow": [">"]}}
    settings = {
        "log": {"level": "trace"},
        "service": {
            "disable_frontend_tls": True,
            "health_check_credentials_file": os.path.join(folder, "health"),
        },
        "auth": {
            "timeout": "60s",
            "token": SECRET + "of-the-configuration",
            "token_file": file.name,
            "users": [
                {"user": "alice", "password": SECRET + "alice"},
                {"user": "bob", "password": BCRYPT},
            ],
            "default_permissions": everything,
        },
    }
    with Stand(bench, settings, "event-gateway") as stand:
        words = [
            {"user": "alice", "pass": SECRET + "alice"},
            {"user": "bob", "pass": SECRET + "password"},
            {"auth_token": SECRET + "of-the-configuration"},
            {"auth_token": SECRET + "wrong"},
            {"user": "alice", "pass": SECRET + "wrong"},
            {"user": "bob", "pass": SECRET + "wrong"},
            {"user": "nobody", "pass": SECRET + "nobody"},
            {"user": SECRET + "a-token-in-place-of-a-user"},
            {"jwt": SECRET + "jwt", "sig": SECRET + "sig", "nkey": SECRET + "nkey"},
            {"pass": SECRET + "alone"},
            {"auth_token": token, "protocol": 7},
            {"auth_token": token, "no_responders": True, "headers": False},
        ]
        for more in words:
            try_in(stand, connect_line(**more))
        with contextlib.suppress(OSError):
            try_in(stand, 'CONNECT {"auth_token":"%s"\r\n' % token)
            try_in(stand, 'CONNECT {"auth_token":"%s' % (SECRET * 2000))
            try_in(stand, 'CONNECT {"auth_token":["%s"]}\r\n' % token)
            try_in(stand, "%s\r\n" % token)
            try_in(stand, "PUB a %d\r\n%s\r\n" % (len(token), token))
        inside = try_in(stand, connect_line(token=token, name="carols-client"), "SUB mine 1\r\n")
        require(b"PONG\r\n" in inside.buffer, "a token of the file is good", None, inside.buffer)
        body = SECRET + "payload"
        inside.send("PUB mine %d\r\n%s\r\n" % (len(body), body))
        head = "NATS/1.0\r\nAuthorization: %s\r\n\r\n" % body
        inside.send("HPUB mine %d %d\r\n%s%s\r\n" % (len(head), len(head) + len(body), head, body))
        inside.read_until_pong(10.0 * stand.slow)
        inside.send("PUB mine 1\r\n%s\r\n" % body)  # the payload does not end where it says
        inside.read_to_end(10.0 * stand.slow)
        try_in(stand, connect_line(token=token), "SUB b 1\r\n")
        kept = try_in(stand, connect_line(user="alice", **{"pass": SECRET + "alice"}), "SUB a 1\r\n")
        with open(os.path.join(folder, "health")) as health:
            secret = health.read().strip()
        require(secret.startswith("HEALTHCHECK-"), "the token of the health check", None, secret)
        printed = run(stand, "health-check", "--config", stand.server.config_path)
        for text in [printed, stand.server.log_text().encode(), page(stand, PAGES[3])[1]]:
            require(secret.encode() not in text, "the health check's token is not shown", None, text[:200])
        printed = run(stand, "token", "list", "--config", stand.server.config_path)
        require(b"carol" in printed, "tokens are listed", None, printed)
        without_secret("token list", printed)
        look_everywhere(stand, "alice", "carol")
        kept.expect_open()


def gateways(bench):
    """Passwords of gateway links: of the own port, in URLs of remotes, shown by peers that are refused."""
    def settings(name, **more):
        gateway = merge({"name": name, "user": "own", "password": SECRET + "own"}, more)
        return {
            "service": {"name": "server-" + name},
            "gateway": gateway,
            "log": {"level": "trace"},
            "monitor": {"token": SECRET + "monitor"},
        }

    with Stand(bench, settings("B")) as other:
        url = "nats://own:%s%%s@%s:%d" % (SECRET, HOST, other.server.gateway_port)
        right = settings("A", remotes=[{"name": "B", "urls": [url % "own"]}])
        wrong = settings("C", remotes=[{"name": "B", "urls": [url % "wrong"]}])
        with Stand(bench, right) as stand, Stand(bench, wrong) as refused:
            stand.expect_log("LOG_GATEWAY_LINK_OPEN", 'gateway="B"')
            refused.expect_log("LOG_GATEWAY_PEER_ERROR", "Authorization Violation")
            for words in (
                {"user": "own", "pass": SECRET + "wrong", "gateway": "D"},
                {"user": SECRET + "user", "pass": SECRET + "own", "gateway": "D"},
                {"auth_token": SECRET + "token", "gateway": "D"},
            ):
                peer = stand.raw(stand.server.gateway_port)
                peer.read_info()
                peer.send(b"CONNECT %s\r\n" % json.dumps(words).encode() + gateway_info(gateway="D"))
                without_secret("an answer to a gateway", peer.read_to_end(10.0 * stand.slow))
            look_everywhere(stand, '"B"')
            look_everywhere(other, '"A"')
            look_everywhere(refused, '"B"')


def start_errors(bench):
    """What is said about a configuration that is wrong does not repeat what is secret in it."""
    with Stand(bench, {"auth": {"token": SECRET + "good"}}) as stand:
        with open(stand.server.config_path) as file:
            good = file.read()
        folder = stand.server.folder
        faults = (
            good.replace(SECRET + "good", '["%s", "%s"]' % (SECRET + "1", SECRET + "2")),
            good.replace(SECRET + "good", SECRET + "x" * 5000),
            good + '\ngateway: {name: A, password: "%s"}\n' % SECRET,
            good + '\ngateway: {name: A, remotes: [{name: B, urls: ["nats://u:%s@h:99999"]}]}\n' % SECRET,
            re.sub(r"(?m)^auth:", 'auth:\n  tokn: "%s"' % SECRET, good),
            good + '\nauth: {token: "%s"}\n' % SECRET,
        )
        for number, text in enumerate(faults):
            require(text != good and SECRET in text, "fault %d is one" % number)
            path = os.path.join(folder, "fault%d.yaml" % number)
            with open(path, "w") as file:
                file.write(text)
            for words in (["--check-config", "--config", path], ["--config", path]):
                printed = run(stand, *words)
                require(b"fault%d.yaml" % number in printed, "fault %d is told" % number, None, printed)
                without_secret("what is said about fault %d" % number, printed)
        look_everywhere(stand)


CASES = [gateways, clients, start_errors]

if __name__ == "__main__":
    sys.exit(main(CASES, "secrets are shown nowhere"))
