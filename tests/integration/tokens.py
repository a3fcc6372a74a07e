#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may come in at event-gateway, and what they may do there, as its users meet it.

  tokens.py --build build/release                       every case, plain and with TLS
  tokens.py --build build/release --only revoke,health --transport tls

Method: a real event-gateway for each case, its own command line for tokens, raw clients that expect
exact bytes. What a reload does is awaited by what a client sees, with a deadline; nothing sleeps.
"""
import argparse
import concurrent.futures
import contextlib
import datetime
import functools
import hashlib
import json
import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import crypt
sys.path.insert(0, os.path.join(HERE, "..", "conformance"))
sys.dont_write_bytecode = True

from case_pool import attempt, chosen, conclude, run_jobs, scratch_folder  # noqa: E402
from support import (  # noqa: E402
    Mismatch,
    Ours,
    Server,
    connect,
    merge,
    require,
    require_equal,
    stop_on_signal,
    wait_until,
)

RELOAD_S = 10.0  # a changed token file is in force by then, on a busy machine too
REFUSED = "-ERR 'Authorization Violation'\r\n\u2404"
ALL = {"publish": {"allow": [">"]}, "subscribe": {"allow": [">"]}}
CASES = {}
LONGEST = ("bad-file", "crowd", "expiry")  # these begin first


def case(function):
    CASES[function.__name__.replace("_", "-")] = function
    return function


def bcrypt(password, cost=8):
    """A hash that takes a machine some 10 ms with cost 8, and twice that for each step more."""
    return crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=1 << cost))


def publish_refused(subject):
    return "-ERR 'Permissions Violation for Publish to \"%s\"'\r\n" % subject


def subscribe_refused(subject):
    return "-ERR 'Permissions Violation for Subscription to \"%s\"'\r\n" % subject


def message(subject, sid, payload):
    return "MSG %s %d %d\r\n%s\r\n" % (subject, sid, len(payload), payload)


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def from_now(seconds):
    """RFC 3339, with a fraction cut off: up to a second early."""
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


class Case:
    """What one case works with: a folder, a server, its command line, clients."""

    def __init__(self, args, certs, folder, transport):
        self.args, self.certs, self.folder = args, certs, folder
        self.secure = transport == "tls"
        self.servers, self.peers, self.pids = [], [], []
        self.count = 0
        self.token_file = os.path.join(folder, "tokens")
        os.makedirs(folder)

    # --- the server ---

    def settings(self, more=None):
        own = {
            "queue": None,
            "service": {"health_check_credentials_file": os.path.join(self.folder, "health")},
            # Nobody is to be let go for the machine's slowness; cases about time have their own.
            "auth": {"token_file": self.token_file, "timeout": "60s"},
            "log": {"level": "trace"},
        }
        if self.secure:
            own["frontend_tls"] = [self.cert("event-gateway")]
        else:
            own["service"]["disable_frontend_tls"] = True
        # A port of its own for the gateway, which would else be the same for all servers here.
        own["gateway"] = {"name": "G"}
        return merge(merge(Ours.base, own), more or {})

    def cert(self, name):
        return {
            "cert_path": os.path.join(self.certs, name + ".crt"),
            "key_path": os.path.join(self.certs, name + ".key"),
        }

    def start(self, more=None, program="event-gateway"):
        self.count += 1
        folder = os.path.join(self.folder, "server%d" % self.count)
        os.mkdir(folder)
        adapter = Ours(os.path.join(self.args.build, "bin", program))
        adapter.start_deadline_s = 60.0
        server = Server(adapter, self.settings(more), folder)
        self.servers.append(server)
        self.server = server
        return server

    def run(self, *words, config=None, **more):
        """A command of event-gateway: (status, standard output, standard error)."""
        config = ["--config", config or self.server.config_path] if config != "" else []
        done = subprocess.run(
            [os.path.join(self.args.build, "bin", "event-gateway"), *words, *config],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            **more
        )
        return done.returncode, done.stdout, done.stderr

    def add(self, name, *words):
        """`token add`; returns the token."""
        status, out, err = self.run("token", "add", name, *words)
        require_equal((status, err), (0, ""), "token add " + name)
        require(
            out.count("\n") == 1 and len(out) >= 22 and " " not in out, "one line, the token", out
        )
        return out.rstrip("\n")

    def write_tokens(self, *lines):
        """Replaces the token file as a whole."""
        with open(self.token_file + ".new", "w") as file:
            file.write("".join(line + "\n" for line in lines))
        os.replace(self.token_file + ".new", self.token_file)

    def lines(self):
        with open(self.token_file) as file:
            return file.read().splitlines()

    def await_log(self, event, count=1):
        wait_until(lambda: self.server.log_text().count(event) >= count, "log: " + event, RELOAD_S)

    # --- clients ---

    def open(self, **hello):
        """A connection that has sent CONNECT and PING; nothing is expected yet. The server gives a handshake 2 s, which
        all cores wanted by others can take: it is tried again, since handshakes are not the matter here."""
        for tries_left in (3, 2, 1, 0):
            try:
                return self.open_once(hello)
            except (ssl.SSLError, ConnectionError):
                require(self.secure and tries_left > 0, "a connection with CONNECT sent")

    def open_once(self, hello):
        peer = connect(self.server.port)
        self.peers.append(peer)
        peer.read_info()
        if self.secure:
            peer.start_tls(
                ssl.create_default_context(cafile=os.path.join(self.certs, "ca.crt"))
            )
        hello.setdefault("verbose", False)
        peer.send("CONNECT %s\r\nPING\r\n" % json.dumps(hello))
        return peer

    def enter(self, token=None, deadline_s=30.0, **hello):
        if token is not None:
            hello["auth_token"] = token
        peer = self.open(**hello)
        peer.expect("PONG\r\n", deadline_s)
        return peer

    def refuse(self, token=None, deadline_s=30.0, **hello):
        if token is not None:
            hello["auth_token"] = token
        self.open(**hello).expect(REFUSED, deadline_s)

    def is_in(self, token):
        """One attempt; True when it is let in."""
        peer = self.open(auth_token=token)
        line = peer.read_line(30.0)
        peer.close()
        require(line in (b"PONG\r\n", b"-ERR 'Authorization Violation'\r\n"), "an answer", None, line)
        return line == b"PONG\r\n"

    def end(self):
        for peer in self.peers:
            with contextlib.suppress(Exception):
                peer.abort()
        failures = []
        for server in self.servers:
            status = server.stop()
            log = server.log_text()
            if "Sanitizer" in log or "runtime error" in log or status not in (0, 1):
                failures.append("a server ended with status %s:\n%s" % (status, log[-3000:]))
        require(not failures, "\n".join(failures))


# --- tokens -------------------------------------------------------------------------------------


@case
def judge(t):
    """A good token gets in; a wrong, cut, lengthened, absent, misplaced or expired one does not."""
    t.start({"auth": {"timeout": "5s"}})
    good = t.add("good")
    other = t.add("other", "--expires", "1h")
    old = "old-token-0123456789abcdef"
    t.write_tokens(*t.lines(), "old %s expires=%s" % (sha256(old), from_now(-5)))
    wait_until(lambda: t.is_in(good) and t.is_in(other), "the tokens are in force", RELOAD_S)
    t.await_log("LOG_TOKENS_LOADED")
    for wrong in (old, "", "x", good[:-1], good + "x", good.swapcase(), sha256(good), good + "\0"):
        t.refuse(wrong)
    t.refuse()
    t.refuse(**{"pass": good})
    t.refuse(user=good)
    t.refuse(user=good, **{"pass": good})
    t.enter(good, user="whoever")
    t.enter(good)


@case
def reload(t):
    """A token that is added while the server runs is good soon, without a restart."""
    t.start()
    t.await_log("LOG_TOKENS_NONE")
    t.refuse("nobody-yet")
    tokens = [t.add("first")]
    wait_until(lambda: t.is_in(tokens[0]), "the first token is good", RELOAD_S)
    open_one = t.enter(tokens[0])
    tokens.append(t.add("second", "--publish", "a.>", "--subscribe", "b,c.*"))
    wait_until(lambda: t.is_in(tokens[1]), "the second token is good", RELOAD_S)
    t.enter(tokens[0])
    open_one.expect_open()
    # As an editor does that writes in place.
    with open(t.token_file, "a") as file:
        file.write("third %s\n" % sha256("third-token"))
    wait_until(lambda: t.is_in("third-token"), "the third token is good", RELOAD_S)
    open_one.expect_open()


@case
def revoke(t):
    """A revoked token's open connections are closed within 3 s, others live; it gets nobody in."""
    t.start()
    doomed, kept = t.add("doomed"), t.add("kept")
    wait_until(lambda: t.is_in(doomed) and t.is_in(kept), "the tokens are good", RELOAD_S)
    victims = [t.enter(doomed) for _ in range(20)]
    for peer in victims[:10]:
        peer.send("SUB _INBOX.%d 1\r\n" % id(peer))
        peer.expect_open()
    survivors = [t.enter(kept) for _ in range(5)]
    require_equal(t.run("token", "revoke", "doomed"), (0, "", ""), "token revoke")
    end = time.monotonic() + RELOAD_S
    for peer in victims:
        peer.expect(REFUSED, max(0.1, end - time.monotonic()))
    t.refuse(doomed)
    for peer in survivors:
        peer.expect_open()
    t.await_log("LOG_TOKENS_REVOKED")
    require_equal(t.run("token", "revoke", "kept"), (0, "", ""), "revoke the last token")
    end = time.monotonic() + RELOAD_S
    for peer in survivors:
        peer.expect(REFUSED, max(0.1, end - time.monotonic()))
    require_equal(t.lines(), [], "the file is empty")
    t.refuse(kept)


@case
def bad_file(t):
    """A changed file that is wrong is refused as a whole, with its line; the set before stays."""
    t.start()
    good = t.add("good")
    wait_until(lambda: t.is_in(good), "the token is good", RELOAD_S)
    peer = t.enter(good)
    before = t.lines()
    twice = "new " + sha256("another")
    faults = ("half a-line", "x " + sha256("x") + " publish=a..b", twice, "\xff\xfe", "y nohash")
    for count, fault in enumerate(faults, 1):
        # Both the token that is new and the one that is missing must change nothing.
        t.write_tokens("new " + sha256("new-token"), fault)
        t.await_log("LOG_TOKENS_REFUSED", count)
        require(t.server.log_text().count("tokens:2: ") == count, "the line is told")
        require(not t.is_in("new-token"), "no part of a wrong file is in force")
        t.enter(good)
        t.write_tokens(*before, "# %d" % count)
        t.await_log("LOG_TOKENS_LOADED", 1 + count)
    peer.expect_open()
    os.unlink(t.token_file)
    t.await_log("LOG_TOKENS_MISSING")
    t.enter(good)
    peer.expect_open()
    t.write_tokens("new " + sha256("new-token"))
    peer.expect(REFUSED, RELOAD_S)
    t.enter("new-token")


@case
def start_with_bad_file(t):
    """A token file that is there but wrong keeps the server from starting, and says where; so does --check-config."""
    t.write_tokens("# fine", "oops")
    t.start({"auth": {"token_file": None, "token": "s3cret-enough"}})
    config = t.server.config_path + ".wrong.yaml"
    with open(t.server.config_path) as file:
        text = file.read()
    with open(config, "w") as file:
        file.write(text.replace("auth:\n", "auth:\n  token_file: %s\n" % json.dumps(t.token_file), 1))
    status, _, err = t.run(config=config)
    require_equal(status, 1, "exit status")
    require("tokens:2: expected: NAME" in err, "the place is told", "FILE:2: ...", err[-300:])
    told = err.splitlines()[-1]
    require_equal(t.run("--check-config", config=config), (78, "", told + "\n"), "--check-config with a wrong file")
    require_equal(t.run("token", "list", config=config)[0], 78, "token list with a wrong file")
    require_equal(t.run("token", "add", "a", config=config)[0], 78, "token add with a wrong file")
    require_equal(t.lines(), ["# fine", "oops"], "the file is as it was")
    t.write_tokens("fine " + sha256("fine"))
    require_equal(t.run("--check-config", config=config)[0], 0, "--check-config with a good file")
    os.unlink(t.token_file)
    require_equal(t.run("--check-config", config=config)[0], 0, "--check-config without the file, which may come later")


@case
def changed_rules(t):
    """A token whose rules change: its connections are closed and come back under the new ones."""
    t.start()
    tokens = {name: name + "-0123456789abcdef" for name in ("widened", "shortened", "longer", "same")}
    hashes = {name: "%s %s" % (name, sha256(token)) for name, token in tokens.items()}
    t.write_tokens(
        hashes["widened"] + " publish=a",
        hashes["shortened"],
        hashes["longer"] + " expires=" + from_now(3600),
        hashes["same"] + " publish=a,b subscribe=c",
    )
    wait_until(lambda: t.is_in(tokens["same"]), "the tokens are good", RELOAD_S)
    peers = {name: t.enter(token) for name, token in tokens.items()}
    peers["widened"].send("PUB b 0\r\n\r\n")
    peers["widened"].expect(publish_refused("b"))
    t.write_tokens(
        "# moved about",
        hashes["same"] + " subscribe=c publish=a,b",
        hashes["widened"] + " publish=a,b",
        hashes["shortened"] + " expires=" + from_now(3600),
        hashes["longer"] + " expires=" + from_now(7200),
    )
    for name in ("widened", "shortened"):
        peers[name].expect(REFUSED, RELOAD_S)
    again = t.enter(tokens["widened"])
    again.send("PUB b 0\r\n\r\n")
    again.expect_open()
    t.enter(tokens["shortened"])
    for name in ("longer", "same"):
        peers[name].expect_open()
    # The same token again on an open connection with subscriptions: nothing has changed for it.
    peers["same"].send("SUB c 1\r\n")
    peers["same"].expect_open()
    peers["same"].send("CONNECT %s\r\n" % json.dumps({"auth_token": tokens["same"], "verbose": False}))
    peers["same"].expect_open()


@case
def expiry(t):
    """A connection ends when its token does; not when one does that it came in by before."""
    t.start({"auth": {"users": [{"user": "static", "password": "p"}]}})
    lasting = t.add("lasting", "--expires", "1d")
    brief = t.add("brief", "--expires", "8s")
    wait_until(lambda: t.is_in(brief), "the token is good", RELOAD_S)
    peer, other, renewed = t.enter(brief), t.enter(lasting), t.enter(brief)
    user = {"user": "static", "pass": "p", "verbose": False}
    renewed.send("CONNECT %s\r\n" % json.dumps(user))
    renewed.read_until_pong()
    began = time.monotonic()
    line = peer.read_line(20.0)
    while line == b"PING\r\n":  # of the server, to a young connection
        peer.send("PONG\r\n")
        line = peer.read_line(20.0)
    require_equal(line, b"-ERR 'User Authentication Expired'\r\n", "the last line")
    peer.expect_fin()
    require(time.monotonic() - began < 20, "in time")
    t.refuse(brief)
    other.read_until_pong()
    renewed.read_until_pong()
    listed = t.run("token", "list")[1]
    require("brief\texpired " in listed and "lasting\texpired" not in listed, "list", None, listed)


@case
def permissions(t):
    """What a token may publish and subscribe is enforced with nats-server's texts."""
    t.start({"auth": {"users": [{"user": "all", "password": "all-of-it", "permissions": ALL}]}})
    plain = t.add("plain")
    own = t.add("own", "--publish", "a.>,b", "--subscribe", "c.*")
    wait_until(lambda: t.is_in(own), "the tokens are good", RELOAD_S)
    watcher = t.enter(user="all", **{"pass": "all-of-it"})
    watcher.send("SUB > 1\r\n")
    watcher.expect_open()
    peer = t.enter(plain)
    for subject in ("event.node", "event.a.b.c", "habitat.event.x", "_INBOX.a.b"):
        peer.send("PUB %s 2\r\nhi\r\n" % subject)
        watcher.expect(message(subject, 1, "hi"))
    for subject in ("event", "events.x", "habitat.event.x.y", "other", "$SYS.x"):
        peer.send("PUB %s 2\r\nno\r\n" % subject)
        peer.expect(publish_refused(subject))
    for subject in (">", "event.>", "event.node", "_INBOX", "*.a"):
        peer.send("SUB %s 1\r\n" % subject)
        peer.expect(subscribe_refused(subject))
    peer.send("SUB event.x workers 1\r\n")
    peer.expect(
        "-ERR 'Permissions Violation for Subscription to \"event.x\" using queue \"workers\"'\r\n"
    )
    peer.send("SUB _INBOX.mine 7\r\n")
    peer.expect_open()
    watcher.send("PUB _INBOX.mine 3\r\nyes\r\n")
    peer.expect(message("_INBOX.mine", 7, "yes"))
    watcher.expect(message("_INBOX.mine", 1, "yes"))
    peer = t.enter(own)
    for subject, answer in (("b", ""), ("a.x", ""), ("event.x", publish_refused("event.x"))):
        peer.send("PUB %s 0\r\n\r\n" % subject)
        peer.expect(answer)
    peer.send("SUB c.d 1\r\nSUB c.> 2\r\nSUB _INBOX.x 3\r\n")
    peer.expect(subscribe_refused("c.>") + subscribe_refused("_INBOX.x"))
    peer.expect_open()
    watcher.expect(message("b", 1, "") + message("a.x", 1, ""))
    watcher.expect_open()


# --- users and the one token --------------------------------------------------------------------


@case
def users(t):
    """Users with plain and bcrypt passwords, with rules of their own or the default ones."""
    t.start(
        {
            "auth": {
                "timeout": "10s",
                "token_file": None,
                "token": bcrypt("the-token"),
                "users": [
                    {"user": "plain", "password": "plain-pw", "permissions": ALL},
                    {"user": "hashed", "password": bcrypt("hashed-pw")},
                    {"user": "long", "password": bcrypt("l" * 72)},
                ],
                "default_permissions": {"publish": {"allow": ["a"]}, "subscribe": ["b"]},
            }
        }
    )
    for _ in range(3):  # the first is computed, the others are remembered
        for user, password in (("plain", "plain-pw"), ("hashed", "hashed-pw"), ("long", "l" * 72)):
            t.enter(user=user, **{"pass": password})
            t.enter(user=user, auth_token="ignored", **{"pass": password})
            t.refuse(user=user, **{"pass": password + "x" if user != "long" else "l" * 71})
            t.refuse(user=user, **{"pass": ""})
            t.refuse(user=user)
            t.refuse(user=user, auth_token="the-token")
            t.refuse(user=user + "x", **{"pass": password})
            t.refuse(user=user.upper(), **{"pass": password})
        t.enter("the-token")
        t.refuse("the-tokem")
        t.refuse(**{"pass": "the-token"})
    for peer in (t.enter(user="hashed", **{"pass": "hashed-pw"}), t.enter("the-token")):
        peer.send("PUB a 0\r\n\r\nPUB b 0\r\n\r\nSUB b 1\r\nSUB a 2\r\n")
        peer.expect(publish_refused("b") + subscribe_refused("a"))
        peer.expect_open()
    peer = t.enter(user="plain", **{"pass": "plain-pw"})
    peer.send("SUB > 1\r\nPUB x 2\r\nok\r\n")
    peer.expect(message("x", 1, "ok"))


@case
def no_auth_user(t):
    """Whoever shows nothing is that user; whoever shows something wrong is nobody."""
    t.start(
        {
            "auth": {
                "users": [
                    {"user": "guest", "password": "g-pw", "permissions": {"publish": ["a"]}},
                    {"user": "staff", "password": bcrypt("s-pw"), "permissions": ALL},
                ],
                "no_auth_user": "guest",
            }
        }
    )
    token = t.add("good")
    wait_until(lambda: t.is_in(token), "the token is good", RELOAD_S)
    peer = t.open()
    require("auth_required" not in peer.info, "INFO does not ask for credentials", None, peer.info)
    peer.expect("PONG\r\n")
    peer.send("PUB a 0\r\n\r\nPUB b 0\r\n\r\n")
    peer.expect(publish_refused("b"))
    peer = t.enter(user="staff", **{"pass": "s-pw"})
    peer.send("SUB b 1\r\nPUB b 1\r\nx\r\n")
    peer.expect(message("b", 1, "x"))
    t.enter(token)
    t.refuse("wrong")
    t.refuse(user="staff")
    t.refuse(user="staff", **{"pass": "no"})
    t.refuse(**{"pass": "g-pw"})
    t.refuse(nkey="UABC")


CROWD = threading.Lock()


@case
def crowd(t):
    """Many wrong passwords at once: others get in and work unhindered, and a right one gets in."""
    with CROWD:  # one at a time: each wants all cores
        crowd_of_passwords(t)


def crowd_of_passwords(t):
    t.start(
        {
            "auth": {
                "timeout": "300s",
                "users": [
                    {"user": "slow", "password": bcrypt("slow-pw", 10)},
                    {"user": "known", "password": bcrypt("known-pw", 10)},
                ],
            }
        }
    )
    token = t.add("quick")
    wait_until(lambda: t.is_in(token), "the token is good", RELOAD_S)
    t.enter(None, 60.0, user="known", **{"pass": "known-pw"})
    worker = t.enter(token)
    crowd = 60
    under_way = threading.Event()
    refused = []

    def storm(number):
        peer = t.open(user="slow" if number % 3 else "nobody", **{"pass": "wrong-%d" % number})
        under_way.set()
        peer.expect(REFUSED, 240.0)
        refused.append(number)

    with concurrent.futures.ThreadPoolExecutor(crowd + 1) as pool:
        runs = [pool.submit(storm, number) for number in range(crowd)]
        right = pool.submit(t.enter, None, 240.0, user="slow", **{"pass": "slow-pw"})
        under_way.wait(10)
        slowest, began = 0.0, time.monotonic()
        while len(refused) < crowd // 2:
            require(time.monotonic() - began < 240, "the crowd is answered", None, len(refused))
            start = time.monotonic()
            worker.expect_open()
            t.enter(token, 60.0).close()
            t.enter(None, 60.0, user="known", **{"pass": "known-pw"}).close()
            slowest = max(slowest, time.monotonic() - start)
        right.result()
        for run in runs:
            run.result()
    require_equal(len(refused), crowd, "every wrong password is answered")
    # Three round trips, two of them with new connections, while all cores are wanted by others. Who stood behind the
    # crowd would wait about as long as it took, however busy the machine is.
    allowed = max(t.args.slow, (time.monotonic() - began) / 2)
    require(slowest < allowed, "others are not held up", allowed, slowest)


@case
def overload(t):
    """More passwords than can be checked: the rest is refused, nothing hangs, it is over at once."""
    t.start(
        {
            "auth": {
                "timeout": "1s",
                "concurrency_max": 1,
                "users": [{"user": "slow", "password": bcrypt("slow-pw", 12)}],
            }
        }
    )
    peers = [t.open(user="slow", **{"pass": "wrong-%d" % number}) for number in range(40)]
    ends = {"-ERR 'Authorization Violation'\r\n", "-ERR 'Authentication Timeout'\r\n"}
    for peer in peers:
        require(peer.read_line(15.0).decode() in ends, "an end")
        peer.expect_fin()
    wait_until(lambda: "LOG_AUTH_BUSY" in t.server.log_text(), "the log says so")
    # Those that gave up are not computed any more.
    peer = wait_until(lambda: try_enter(t, "slow", "slow-pw"), "the right one gets in", 15.0)
    peer.expect_open()


def try_enter(t, user, password):
    peer = t.open(user=user, **{"pass": password})
    return peer if peer.read_line(15.0) == b"PONG\r\n" else None


@case
def stop_while_checking(t):
    """A stop does not wait for those who wait for an answer."""
    server = t.start(
        {"auth": {"timeout": "30s", "users": [{"user": "u", "password": bcrypt("pw", 11)}]}}
    )
    peers = [t.open(user="u", **{"pass": "wrong-%d" % number}) for number in range(30)]
    server.process.terminate()
    require_equal(server.wait_exit(20.0), 0, "exit status")
    for peer in peers:
        peer.read_to_end()


# --- secrets ------------------------------------------------------------------------------------


@case
def secrets(t):
    """No secret is in a log line, on a page, in a checked configuration or in a process list."""
    hashed = bcrypt("hashed-secret-pw")
    t.start(
        {
            "auth": {
                "token": "one-secret-token",
                "users": [
                    {"user": "plain", "password": "plain-secret-pw"},
                    {"user": "hashed", "password": hashed},
                ],
            }
        }
    )
    token = t.add("named")
    wait_until(lambda: t.is_in(token), "the token is good", RELOAD_S)
    with open(os.path.join(t.folder, "health")) as file:
        health = file.read()
    wrong = "wrong-secret-guess"
    entered = [
        t.enter(token),
        t.enter("one-secret-token", name="app"),
        t.enter(user="plain", **{"pass": "plain-secret-pw"}),
        t.enter(user="hashed", **{"pass": "hashed-secret-pw"}),
        t.enter(health),
    ]
    t.refuse(wrong)
    t.refuse(user="plain", **{"pass": wrong})
    t.refuse(user="hashed", **{"pass": wrong})
    t.write_tokens(*t.lines(), "oops " + token)
    t.await_log("LOG_TOKENS_REFUSED")
    hidden = [token, health, "one-secret-token", "plain-secret-pw", "hashed-secret-pw", hashed, wrong]
    hidden += [sha256(secret) for secret in hidden]
    texts = {"the checked configuration": "".join(t.run("--check-config")[1:])}
    if t.server.monitor_port:
        for path in ("/varz", "/connz?auth=1&subs=1", "/connz?state=all&auth=1", "/actorz", "/gatewayz"):
            status, _, texts[path] = t.server.http(path)
            require_equal(status, 200, path)
        names = {conn.get("authorized_user") for conn in json.loads(texts["/connz?auth=1&subs=1"])["connections"]}
        require(
            {"named", "plain", "hashed", "token", "health-check"} <= names, "who is in", None, names
        )
    with open("/proc/%d/cmdline" % t.server.process.pid) as file:
        texts["the command line"] = file.read()
    for peer in entered:
        peer.expect_open()
    t.server.stop()
    texts["the log"] = t.server.log_text()
    require("LOG_CLIENT_AUTH_FAILED" in texts["the log"], "the log tells of refusals")
    for place, text in texts.items():
        for secret in hidden:
            require(secret not in text, "a secret in " + place, None, secret)
    for name in ("health", "tokens"):
        mode = stat.S_IMODE(os.stat(os.path.join(t.folder, name)).st_mode)
        require(name != "health" or mode == 0o600, "mode of " + name, "0600", oct(mode))


# --- the health check ---------------------------------------------------------------------------


def expect_health(t, status, words, **more):
    """The command ends with this status and says these words; its token is in nothing it says."""
    got, out, err = t.run("health-check", "--timeout", "5000", **more)
    require(
        got == status and words in out + err and (out + err).count("\n") == 1,
        "health-check",
        (status, words),
        (got, out, err),
    )


@case
def health(t):
    """The health check passes when the server works, and says what is wrong when it does not."""
    t.start()
    path = os.path.join(t.folder, "health")
    with open(path) as file:
        token = file.read()
    require(token.startswith("HEALTHCHECK-") and len(token) == 12 + 27, "its form", None, len(token))
    require_equal(stat.S_IMODE(os.stat(path).st_mode), 0o600, "its mode")
    expect_health(t, 0, "healthy")
    peer = t.enter(token)
    peer.send("PUB event.x 0\r\n\r\nSUB > 1\r\nSUB event.x 2\r\n")
    peer.expect(publish_refused("event.x") + subscribe_refused(">") + subscribe_refused("event.x"))
    peer.send("SUB healthcheck.a 3\r\nPUB healthcheck.a 2\r\nhi\r\n")
    peer.expect(message("healthcheck.a", 3, "hi"))
    t.refuse(token[:-1])
    with open(path, "w") as file:
        file.write("HEALTHCHECK-" + "A" * 27)
    expect_health(t, 1, "the server refused: 'Authorization Violation'")
    with open(path, "w") as file:
        file.write("\n")
    expect_health(t, 1, "holds no token")
    os.unlink(path)
    expect_health(t, 1, "cannot be read: not found")
    t.server.restart()
    expect_health(t, 0, "healthy")
    with open(path) as file:
        require(file.read() != token, "another token after a restart")
    t.refuse(token)
    t.server.stop()
    expect_health(t, 1, "no connection to 127.0.0.1")
    require_equal(t.run("health-check", config="")[0], 2, "without --config")
    require_equal(t.run("health-check", "--timeout", "0")[0], 2, "a timeout of nothing")
    require_equal(t.run("health-check", config=t.folder + "/none.yaml")[0], 78, "no such file")


@case
def health_of_others(t):
    """What answers in the server's place is not taken for it: silence, noise, another certificate."""
    t.start()
    with socket.socket() as impostor:
        impostor.bind(("127.0.0.1", 0))
        impostor.listen(16)
        config = os.path.join(t.folder, "impostor.yaml")
        port = impostor.getsockname()[1]
        with open(t.server.config_path) as file:
            text = file.read()
        with open(config, "w") as file:
            file.write(text.replace("port: %d" % t.server.port, "port: %d" % port, 1))
        impostor.settimeout(10)
        began = time.monotonic()
        status, _, err = t.run("health-check", "--timeout", "300", config=config)
        impostor.accept()[0].close()
        require(status == 1 and "no greeting within 300 ms" in err, "silence", None, (status, err))
        require(time.monotonic() - began < 10, "ends in time")

        def say(data, then=None):
            def run():
                sock = impostor.accept()[0]
                with contextlib.suppress(OSError, ssl.SSLError), sock:
                    sock.sendall(data)
                    if then:
                        then(sock)

            thread = threading.Thread(target=run)
            thread.start()
            return thread

        for data, words in (
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "speaks no NATS"),
            (b"", "closed the connection"),
            (b"INFO " + b"x" * 100000, "more than is expected"),
        ):
            thread = say(data, lambda sock: sock.recv(1) if data else None)
            expect_health(t, 1, words, config=config)
            thread.join()
        if not t.secure:
            return

        def other_certificate(sock):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            names = t.cert("event-service")
            context.load_cert_chain(names["cert_path"], names["key_path"])
            context.wrap_socket(sock, server_side=True).recv(1)

        thread = say(b'INFO {"server_id":"X"}\r\n', other_certificate)
        expect_health(t, 1, "another certificate than the pinned one", config=config)
        thread.join()
        thread = say(b'INFO {"server_id":"X"}\r\nMSG a 1 0\r\n\r\n', lambda sock: sock.recv(1))
        expect_health(t, 1, "more than its greeting before TLS", config=config)
        thread.join()


@case
def health_by_authority(t):
    """With the platform's authority configured the certificate is checked by it, else it is pinned."""
    if not t.secure:
        return
    t.start({"tls": dict(t.cert("event-gateway"), root_ca_path=os.path.join(t.certs, "ca.crt"))})
    expect_health(t, 0, "healthy")
    t.server.stop()
    foreign = {key: value.replace("event-gateway", "bad/unknown-ca") for key, value in t.cert("event-gateway").items()}
    t.start(
        {
            "frontend_tls": [foreign],
            "tls": dict(t.cert("event-gateway"), root_ca_path=os.path.join(t.certs, "ca.crt")),
        }
    )
    expect_health(t, 0, "healthy")


# --- the command line ---------------------------------------------------------------------------


@case
def command_line(t):
    """What a person gets wrong is told clearly, with the right exit status, and changes nothing."""
    t.start()
    token = t.add("ci", "--expires", "30d", "--publish", "event.>,a", "--subscribe", "b")
    require_equal(stat.S_IMODE(os.stat(t.token_file).st_mode), 0o600, "mode of a new file")
    require_equal(t.lines()[0].split()[:2], ["ci", sha256(token)], "what is stored")
    before = t.lines()
    status, out, err = t.run("token", "list")
    require_equal((status, err), (0, ""), "token list")
    require(
        out.splitlines()[0] == "NAME\tEXPIRES\tPUBLISH\tSUBSCRIBE"
        and out.splitlines()[1].startswith("ci\t20")
        and out.splitlines()[1].endswith("\tevent.>,a\tb")
        and sha256(token) not in out,
        "the table",
        None,
        out,
    )
    wrong = (
        (1, "there is a token named ci already", "add", "ci"),
        (1, "there is no token named nobody", "revoke", "nobody"),
        (2, "a name has 1 to 64", "add", "../ci"),
        (2, "a name has 1 to 64", "add", ""),
        (2, "a name has 1 to 64", "add", "x" * 65),
        (2, '"a..b": not a valid subject', "add", "x", "--publish", "a..b"),
        (2, "blank", "add", "x", "--publish", "a b"),
        (2, "an empty item", "add", "x", "--publish", "a,,b"),
        (2, "publish is empty", "add", "x", "--publish", ""),
        (2, "expires is empty", "add", "x", "--expires", ""),
        (2, "not a valid subject", "add", "x", "--subscribe", "a.>.b"),
        (2, "RFC 3339", "add", "x", "--expires", "tomorrow"),
        (2, "RFC 3339", "add", "x", "--expires", "2027"),
        (2, "RFC 3339", "add", "x", "--expires", "2027-02-30T00:00:00Z"),
        (2, "after the year", "add", "x", "--expires", "99999d"),
        (2, "blank", "add", "x", "--subscribe", "a\nevil " + "0" * 64),
        (2, "NAME of the token is missing", "add"),
        (2, "NAME of the token is missing", "revoke"),
        (2, "unexpected argument", "add", "x", "y"),
        (2, "unexpected argument", "list", "x"),
        (2, "are for add", "revoke", "ci", "--expires", "1h"),
        (2, "say add, list or revoke", "steal", "ci"),
        (2, "say add, list or revoke"),
        (2, "unknown option", "add", "x", "--frobnicate"),
    )
    for status, words, *rest in wrong:
        got, out, err = t.run("token", *rest)
        require_equal((got, out), (status, ""), "token %s: %s" % (rest, err))
        require(words in err and err.count("\n") == 1, "token %s" % rest, words, err)
    require_equal(t.lines(), before, "nothing has changed")
    require_equal(t.run("token", "list", config="")[0], 2, "without --config")
    require_equal(t.run("token", "list", config=t.folder + "/no.yaml")[0], 78, "no such file")
    require_equal(t.run("token", "--help")[0], 0, "--help")
    read_only_output(t, before)
    no_token_file(t)


def read_only_output(t, before):
    """The only copy of a token could not be written: it is taken back."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [os.path.join(t.args.build, "bin", "event-gateway"), "token", "add", "lost"]
            + ["--config", t.server.config_path],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    require_equal(done.returncode, 1, "no room to print a token: " + done.stderr)
    require("lost was revoked again" in done.stderr, "told", None, done.stderr)
    require_equal(t.lines(), before, "no token that nobody knows")


def no_token_file(t):
    t.start({"auth": {"token_file": None, "token": "s3cret-enough"}})
    for words in (("list",), ("add", "x"), ("revoke", "x")):
        status, _, err = t.run("token", *words)
        require_equal(status, 78, "no auth.token_file: " + err)
        require("there is no auth.token_file" in err, "told", None, err)


@case
def side_by_side(t):
    """Many add and revoke at the same moment: no edit is lost, every printed token is good."""
    t.start()
    names = ["n%d" % number for number in range(12)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        tokens = dict(zip(names, pool.map(t.add, names)))
        list(pool.map(lambda name: t.run("token", "revoke", name), names[:4]))
    require_equal(sorted(line.split()[0] for line in t.lines()), sorted(names[4:]), "who is left")
    wait_until(
        lambda: all(t.is_in(tokens[name]) == (name not in names[:4]) for name in names), "in force", RELOAD_S
    )
    for name in names:
        (t.refuse if name in names[:4] else t.enter)(tokens[name])


# --- running ------------------------------------------------------------------------------------


def run_case(name, transport, args, certs, folder):
    t = Case(args, certs, os.path.join(folder, "%s-%s" % (name, transport)), transport)

    def work():
        try:
            CASES[name](t)
        finally:
            t.end()

    def show_log():
        return t.servers[-1].log_text()[-3000:] if args.logs and t.servers else ""

    return [attempt("%s (%s)" % (name, transport), work, on_failure=show_log)]


def main():
    parser = argparse.ArgumentParser(description="tokens, users and the health check")
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"))
    parser.add_argument("--transport", default="plain,tls")
    parser.add_argument("--only", help="cases, separated by commas: " + ", ".join(CASES))
    parser.add_argument("--threads", type=int, default=6, help="cases at a time")
    parser.add_argument("--slow", type=float, default=3.0, help="s that others may take in a crowd")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--timings", action="store_true")
    parser.add_argument("--logs", action="store_true", help="show the log of a server that failed")
    parser.add_argument("--keep", action="store_true", help="keep configuration files and logs")
    args = parser.parse_args()
    if args.list:
        for name, function in CASES.items():
            print("%s %s" % (name, function.__doc__.splitlines()[0]))
        return 0
    names = chosen(parser, args.only, CASES)
    if shutil.which(os.path.join(args.build, "bin", "event-gateway")) is None:
        parser.error("no event-gateway in %s/bin" % args.build)

    stop_on_signal()
    names.sort(key=lambda name: name not in LONGEST)
    with scratch_folder("es-tokens.", args.keep) as folder:
        certs = os.path.join(folder, "certs")
        subprocess.run(
            [os.path.join(ROOT, "scripts", "make-certs"), certs, "--bad"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        jobs = [
            functools.partial(run_case, name, transport, args, certs, folder)
            for name in names
            for transport in chosen(parser, args.transport, ("plain", "tls"))
        ]
        counts = run_jobs(jobs, args.threads, args.timings)
    return conclude(*counts)


if __name__ == "__main__":
    sys.exit(main())
