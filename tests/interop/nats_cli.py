# SPDX-License-Identifier: GPL-2.0-or-later
"""Goal: what users do with the command line client `nats` works against the server, over every way to
connect: pub, sub, request, reply, bench, rtt and `server check connection`.
Method: arguments are the path of `nats` and then those of nats_c.c. Each scenario runs the program as
a user would and reads what it prints. A subscriber is ready when it has printed a message that was
sent to it for this purpose.

usage: nats_cli.py NATS [--ca FILE] [--cert FILE --key FILE] WAY=URL...
"""

import contextlib
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from urllib.parse import urlsplit

DEADLINE_S = 30
MIB = 1 << 20


class Fault(Exception):
    """What was expected and what came."""


def require(good, what, *words):
    if not good:
        raise Fault(what % words if words else what)


class Scene:
    """One way to connect, and the long-running programs of one scenario."""

    def __init__(self, program, files, way, url, home):
        parts = urlsplit(url)
        self.command = [program, "--no-context", "--timeout", "20s"]
        self.command += ["--server", "%s://%s:%d" % (parts.scheme, parts.hostname, parts.port)]
        if parts.password:
            self.command += ["--user", parts.username, "--password", parts.password]
        elif parts.username:
            self.command += ["--token", parts.username]
        if parts.scheme == "tls":
            self.command += ["--tlsca", files["ca"]]
        if way == "mutual":
            self.command += ["--tlscert", files["cert"], "--tlskey", files["key"]]
        # A user's own contexts and NATS_ variables must not count.
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("NATS_")}
        self.environment["HOME"] = home
        self.children = []
        self.number = 0

    def run(self, *words, data=b""):
        """(status, both outputs together as text) of one command."""
        done = subprocess.run(
            self.command + list(words),
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
            timeout=DEADLINE_S,
        )
        return done.returncode, done.stdout.decode("utf-8", "replace")

    def succeed(self, *words, **more):
        status, text = self.run(*words, **more)
        require(status == 0, "nats %s: status %d: %s", " ".join(words), status, text)
        return text

    def start(self, *words):
        child = Child(self.command + list(words), self.environment)
        self.children.append(child)
        return child

    def subscribe(self, *words):
        """A running `nats sub --raw`, ready: its subscriptions are in force."""
        self.number += 1
        ready = "ready.%d" % self.number
        child = self.start("sub", "--raw", *words, ready)
        child.until(lambda: self.run("pub", ready, "READY"), b"READY\n")
        # Behind this one no READY is on its way any more.
        self.succeed("pub", ready, "GO")
        child.until(lambda: None, b"GO\n")
        child.output = b""
        return child

    def close(self):
        for child in self.children:
            child.stop()


class Child:
    """A long-running `nats`, its standard output collected."""

    def __init__(self, command, environment):
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self.output = b""
        self.chunks = queue.Queue()
        threading.Thread(target=self.collect, daemon=True).start()

    def collect(self):
        while True:
            chunk = self.process.stdout.read1(1 << 20)
            self.chunks.put(chunk)
            if not chunk:
                return

    def fill(self, seconds):
        """Takes what has been printed, waiting so long for the first of it; False at the end."""
        with contextlib.suppress(queue.Empty):
            chunk = self.chunks.get(timeout=seconds)
            self.output += chunk
            return bool(chunk)
        return True

    def until(self, attempt, wanted):
        """Repeats the attempt until the wanted text has been printed."""
        end = time.monotonic() + DEADLINE_S
        while wanted not in self.output:
            require(time.monotonic() < end, "%r was not printed, but %r", wanted, self.output)
            require(self.process.poll() is None or not self.chunks.empty(), "sub has ended")
            attempt()
            self.fill(0.5)

    def expect(self, count, wanted):
        """So many times this text, within the deadline, and nothing else."""
        end = time.monotonic() + DEADLINE_S
        while len(self.output) < count * len(wanted) and time.monotonic() < end:
            if not self.fill(1.0):
                break
        short = self.output[:200]
        require(self.output == count * wanted, "%d times %r expected, got %r", count, wanted, short)

    def finish(self):
        """The exit status and the whole output of a program that ends by itself."""
        status = self.process.wait(DEADLINE_S)
        while self.fill(DEADLINE_S):
            pass
        return status, self.output

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def rtt(s):
    got = json.loads(s.succeed("rtt", "3", "--json"))
    times = [result["rtt"] for server in got for result in server["results"]]
    require(times and all(t > 0 for t in times), "rtt %s", got)


def check_connection(s):
    # A busy machine must not turn the answer into a warning.
    slow = ["--%s-%s=20s" % (k, v) for k in ("connect", "rtt", "req") for v in ("warn", "critical")]
    text = s.succeed("server", "check", "connection", *slow)
    require(text.startswith("OK Connection OK:"), "got %s", text)


def publish(s):
    plain, star, full = s.subscribe("a.b"), s.subscribe("a.*"), s.subscribe("a.>")
    s.succeed("pub", "a.b", "hello {{Count}}", "--count", "3")
    s.succeed("pub", "a.b.c", "deep")
    three = b"hello 1\nhello 2\nhello 3\n"
    plain.expect(1, three)
    star.expect(1, three)
    full.expect(1, three + b"deep\n")


def queue_group(s):
    members = [s.subscribe("job", "--queue", "workers") for _ in range(2)]
    everything = s.subscribe("job")
    s.succeed("pub", "job", "x", "--count", "40")
    everything.expect(40, b"x\n")
    end = time.monotonic() + DEADLINE_S
    while sum(len(m.output) for m in members) < 80 and time.monotonic() < end:
        for member in members:
            member.fill(0.05)
    shares = [m.output.count(b"x\n") for m in members]
    # None of forty at one of two: 1 in 10^12.
    require(sum(shares) == 40 and min(shares) > 0, "shares %s", shares)


def headers(s):
    child = s.start("sub", "head")
    body = ["head", "body", "-H", "Color:dark blue", "-H", "Size:0"]
    child.until(lambda: s.run("pub", *body), b"body")
    for line in (b'Received on "head"', b"Color: dark blue", b"Size: 0"):
        require(line in child.output, "%r expected in %r", line, child.output)


def large(s):
    child = s.subscribe("large")
    data = b"0123456789abcdef" * (MIB // 16)
    s.succeed("pub", "large", "--force-stdin", data=data)
    child.expect(1, data + b"\n")


def request(s):
    s.start("reply", "echo", "--echo")
    end = time.monotonic() + DEADLINE_S
    while True:
        text = s.succeed("request", "echo", "ping {{ID}}", "--raw")
        if "No responders" not in text:
            break
        require(time.monotonic() < end, "the replier does not answer")
    require(re.search(r"^ping \w+$", text, re.MULTILINE), "got %r", text)


def no_responders(s):
    text = s.succeed("request", "nobody.here", "x")
    require("No responders are available" in text, "got %r", text)


def bench(s):
    words = ["bench.subject", "--msgs", "2000", "--size", "128", "--no-progress"]
    reader = s.start("bench", "sub", *words)
    end = time.monotonic() + DEADLINE_S
    # What is published before the reader has subscribed does not count for it.
    while reader.process.poll() is None:
        require(time.monotonic() < end, "bench sub does not end")
        text = s.succeed("bench", "pub", *words)
        require(re.search(r"publisher stats: [\d,]+ msgs/sec", text), "got %r", text)
    status, output = reader.finish()
    require(status == 0 and b"msgs/sec" in output, "bench sub: status %d: %r", status, output)


SCENARIOS = {
    "rtt measures": rtt,
    "server check connection is content": check_connection,
    "pub reaches sub, with wildcards": publish,
    "sub --queue shares": queue_group,
    "pub -H brings headers": headers,
    "pub of 1 MiB arrives": large,
    "request is answered by reply": request,
    "request to nobody is told so": no_responders,
    "bench pub and bench sub": bench,
}


def violation_is_told(s):
    text = s.run("pub", "secret", "x")[1]
    require('Permissions Violation for Publish to "secret"' in text, "got %r", text)


def restart_is_survived(s):
    child = s.subscribe("again")
    print("restart", flush=True)
    child.until(lambda: s.run("pub", "again", "x"), b"x\n")


def refusal(reason):
    def run(s):
        status, text = s.run("pub", "a", "x")
        require(status != 0 and reason in text, "status %d: %s", status, text)

    return run


SPECIAL = {
    "restricted": {"a violation is told": violation_is_told},
    "restart": {"a restart is survived": restart_is_survived},
    "refused": {"the connection is refused": refusal("Authorization Violation")},
    "untrusted": {"the connection is refused": refusal("")},
}


def main(words):
    files, passed, failed = {}, 0, 0
    words = list(words)
    if not words:
        print(__doc__, file=sys.stderr)
        return 2
    program = words.pop(0)
    with tempfile.TemporaryDirectory(prefix="es-nats-cli.") as home:
        while words:
            word = words.pop(0)
            if word in ("--ca", "--cert", "--key"):
                files[word[2:]] = words.pop(0)
                continue
            way, _, url = word.partition("=")
            for name, run in SPECIAL.get(way, SCENARIOS).items():
                scene = Scene(program, files, way, url, home)
                try:
                    run(scene)
                    passed += 1
                    print("ok %s: %s" % (way, name), flush=True)
                except (Fault, OSError, ValueError, subprocess.TimeoutExpired) as fault:
                    failed += 1
                    print("not ok %s: %s: %s" % (way, name, fault), flush=True)
                finally:
                    scene.close()
    print("%d passed, %d failed" % (passed, failed))
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
