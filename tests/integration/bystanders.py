# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of bad peers share: a server under attack, and a healthy pair of clients beside it.

A Stand is one server with its clients. Its end demands what every case demands: the server stops on
request with status 0, no sanitizer has complained, and no secret stands in the log. Bystanders are a
publisher and a subscriber that exchange numbered messages all the while; one lost, doubled, changed
or late message is a failure.

All waiting is for something that can be seen, with a deadline; `slow` (3 for a build with a
sanitizer) stretches deadlines and bounds.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "conformance"))
sys.dont_write_bytecode = True

from case_pool import attempt, chosen, conclude, run_jobs  # noqa: E402
from support import (  # noqa: E402
    Mismatch,
    Ours,
    Server,
    connect,
    merge,
    require,
    stop_on_signal,
    wait_until,
)

ROOT = os.path.join(HERE, "..", "..")
HOST = "127.0.0.1"
SECRET = "sEcReT-"  # every secret of these tests begins so: one look tells that none is in a log
COMPLAINTS = ("Sanitizer", "runtime error:", "assertion", "Assertion")


class Adapter(Ours):
    """One of our programs; a port of its own for gRPC too, where it is asked for."""

    def __init__(self, program, limit_files=None):
        super().__init__(program)
        self.limit_files = limit_files

    def ports_of(self, settings):
        return super().ports_of(settings) + (["grpc"] if "grpc" in settings else [])

    def command(self, path):
        words = super().command(path)
        if self.limit_files:
            words = ["prlimit", "--nofile=%d:%d" % self.limit_files] + words
        return words

    def environment(self):
        # A quarantine of hundreds of megabytes would hide what the memory bounds look for.
        options = "quarantine_size_mb=4:malloc_context_size=8:" + os.environ.get("ASAN_OPTIONS", "")
        return dict(os.environ, ASAN_OPTIONS=options)


class Bench:
    """What the cases of a run share: the programs, one folder, certificates made once."""

    def __init__(self, build, keep=False):
        self.build = os.path.abspath(build)
        self.keep = keep
        self.folder = tempfile.mkdtemp(prefix="es-bad.")
        os.chmod(self.folder, 0o755)
        self.certs = os.path.join(self.folder, "certs")
        self.lock = threading.Lock()
        self.has_certs = False
        with open(os.path.join(self.build, "CMakeCache.txt")) as file:
            found = re.search(r"(?m)^ES_SANITIZE:\w+=(\w+)$", file.read())
        self.sanitizer = found.group(1) if found else ""
        self.slow = 3 if self.sanitizer else 1

    def program(self, kind):
        return os.path.join(self.build, "bin", kind)

    def cert(self, name):
        """The path of NAME.crt; bad ones are bad/NAME.crt. All are made when the first is wanted."""
        with self.lock:
            if not self.has_certs:
                subprocess.run(
                    [os.path.join(ROOT, "scripts", "make-certs"), self.certs, "--bad"],
                    check=True,
                    stdout=subprocess.DEVNULL,
                    stdin=subprocess.DEVNULL,
                    timeout=60,
                )
                self.has_certs = True
        return os.path.join(self.certs, name + ".crt")

    def pair(self, name):
        """{cert_path, key_path} of the settings."""
        return {"cert_path": self.cert(name), "key_path": self.cert(name)[:-4] + ".key"}

    def close(self):
        if self.keep:
            print("files kept in " + self.folder)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


class Stand:
    """One server, and all that a case opens."""

    count = 0

    def __init__(self, bench, settings=None, kind="event-service", limit_files=None):
        self.bench, self.slow, self.kind = bench, bench.slow, kind
        with bench.lock:
            Stand.count += 1
            folder = os.path.join(bench.folder, "server%d" % Stand.count)
        os.makedirs(folder)
        base = {"log": {"level": "debug"}, "threads": {"workers": 2, "placement": "spread"}}
        adapter = Adapter(bench.program(kind), limit_files)
        self.closing = contextlib.ExitStack()
        self.server = Server(adapter, merge(base, settings or {}), folder)
        self.pid = self.server.process.pid
        self.log_lines = []
        self.log_at = 0

    def __enter__(self):
        return self

    def __exit__(self, kind, fault, trace):
        try:
            self.closing.close()
            status = self.server.stop()
            if kind is None:
                require(status == 0, "ended with status %s" % status, 0, self.tail())
                self.check_log()
            elif isinstance(fault, Exception):
                self.show_log(status)
        finally:
            self.server.stop()

    def show_log(self, status):
        text = "the server ended with %s; its log ends:\n%s" % (status, self.tail())
        print("    " + text.replace("\n", "\n    | "), flush=True)

    def tail(self):
        return "\n".join(self.server.log_text().splitlines()[-150:])

    def check_log(self):
        text = self.server.log_text()
        for complaint in COMPLAINTS:
            at = text.find(complaint)
            require(at < 0, "no complaint in the log", None, text[max(0, at - 300) : at + 3000])
        at = text.find(SECRET)
        require(at < 0, "no secret in the log", None, text[max(0, at - 300) : at + 100])

    # --- the server, from outside ---

    def read_log(self):
        with open(os.path.join(self.server.folder, "log"), "rb") as file:
            file.seek(self.log_at)
            data = file.read()
        end = data.rfind(b"\n") + 1
        self.log_at += end
        self.log_lines += data[:end].decode(errors="replace").splitlines()
        return self.log_lines

    def expect_log(self, *words):
        """A line that holds all the words, now or soon."""
        wait_until(
            lambda: any(all(word in line for word in words) for line in self.read_log()),
            "a line in the log with %s" % (words,),
            15.0 * self.slow,
        )

    def expect_peer_log(self, peer, event, reason=""):
        """The log names this peer, by address and port, and says why."""
        self.expect_log(event, 'remote="%s"' % HOST, "port=%d" % peer.local_port, reason)

    def varz(self):
        return self.server.http_json("/varz")

    def connections(self):
        return self.varz()["connections"]

    def expect_connections(self, count):
        wait_until(lambda: self.connections() == count, "%d connections are left" % count, 20.0 * self.slow)

    def memory(self):
        """The most resident memory the process has ever had, in bytes."""
        with open("/proc/%d/status" % self.pid) as file:
            return int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1)) * 1024

    def files(self):
        return len(os.listdir("/proc/%d/fd" % self.pid))

    def worker_seconds(self):
        """CPU time of the worker threads alone."""
        ticks = 0
        for task in os.listdir("/proc/%d/task" % self.pid):
            with open("/proc/%d/task/%s/stat" % (self.pid, task)) as file:
                head, _, rest = file.read().rpartition(")")
            if "(worker-" in head:
                ticks += sum(map(int, rest.split()[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")

    @contextlib.contextmanager
    def memory_bound(self, megabytes):
        before = self.memory()
        yield
        grown = (self.memory() - before) / 1e6
        require(
            grown <= megabytes * self.slow,
            "memory stays within bounds",
            "at most %d MB more" % (megabytes * self.slow),
            "%.1f MB" % grown,
        )

    # --- clients ---

    def raw(self, port=None, receive_buffer=None):
        """A TCP connection of which nothing has been read; to the client port by default."""
        peer = connect(port or self.server.port, "peer", receive_buffer=receive_buffer)
        peer.local_port = peer.sock.getsockname()[1]
        self.closing.callback(peer.abort)
        return peer

    def greeted(self, **more):
        peer = self.raw(**more)
        peer.read_info()
        return peer

    def client(self, token=None, tls=None, name="client", receive_buffer=None, tls_name="localhost"):
        """A client that is in: CONNECT has been answered."""
        peer = self.greeted(receive_buffer=receive_buffer)
        if tls is not None:
            peer.start_tls(tls, tls_name)
        peer.send(connect_line(token, name) + "PING\r\n")
        peer.expect("PONG\r\n", 15.0 * self.slow)
        return peer

    def bystanders(self, token=None, tls=None):
        return Bystanders(self, token, tls)


def connect_line(token=None, name="client", **more):
    words = dict({"verbose": False, "pedantic": False, "name": name, "headers": True}, **more)
    if token is not None:
        words["auth_token"] = token
    return "CONNECT %s\r\n" % json.dumps(words)


def reset(peer):
    """Closes so that the other side gets an RST."""
    with contextlib.suppress(OSError):
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.abort()


class Bystanders:
    """A healthy pair. Use as a context: its end demands that all was well, also once more then."""

    BATCH = 16
    PATIENCE_S = 15.0  # for one batch: far above what a busy machine needs, far below a hang

    def __init__(self, stand, token=None, tls=None):
        self.patience_s = self.PATIENCE_S * stand.slow
        self.reader = stand.client(token, tls, "bystander")
        self.writer = stand.client(token, tls, "bystander")
        self.subject = "bystander.%d" % id(self)
        self.reader.send("SUB %s 1\r\n" % self.subject)
        self.flush(self.reader)
        self.number = 0
        self.rounds = 0
        self.slowest_s = 0.0
        self.is_ending = threading.Event()
        self.fault = None
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, fault, trace):
        self.is_ending.set()
        self.thread.join()
        if kind is None:
            if self.fault is None:
                self.exchange()
            else:
                raise Mismatch("the bystanders were harmed", None, self.fault)
            require(self.rounds >= 3, "the bystanders took part", ">= 3 rounds", self.rounds)

    def run(self):
        try:
            while not self.is_ending.is_set() or self.rounds < 3:
                began = time.monotonic()
                self.exchange()
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                self.rounds += 1
                self.is_ending.wait(0.003)  # a steady trickle, not a load of its own
        except Mismatch as fault:
            self.fault = str(fault)
        except Exception:
            self.fault = traceback.format_exc(limit=-3)

    def flush(self, peer):
        peer.send("PING\r\n")
        while True:
            line = peer.read_line(self.patience_s)
            if line == b"PONG\r\n":
                return
            require(line == b"PING\r\n", "PONG for a bystander", b"PONG", line)
            peer.send("PONG\r\n")

    def exchange(self):
        wanted = []
        for _ in range(self.BATCH):
            # Small ones are copied into a shared block, large ones travel by reference.
            size = 20 + (self.number * 977) % 12000
            body = b"%d:" % self.number
            wanted.append(body + b"x" * (size - len(body)))
            self.number += 1
        subject = self.subject.encode()
        self.writer.send(b"".join(b"PUB %s %d\r\n%s\r\n" % (subject, len(b), b) for b in wanted))
        self.flush(self.writer)
        for body in wanted:
            while True:
                line = self.reader.read_line(self.patience_s)
                if line != b"PING\r\n":
                    break
                self.reader.send("PONG\r\n")
            head = b"MSG %s 1 %d\r\n" % (subject, len(body))
            require(line == head, "a bystander's next message", head, line)
            got = self.reader.read_exact(len(body) + 2, self.patience_s)
            require(got == body + b"\r\n", "a bystander's payload", body[:40], got[:40])


# --- the runner -----------------------------------------------------------------------------------


def main(cases, purpose, threads=3):
    """cases: functions of the bench. The longest stand first, so that the last one is short."""
    known = {case.__name__: case for case in cases}
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--build", required=True, help="a build folder")
    parser.add_argument("--only", help="cases, separated by commas: " + ", ".join(known))
    parser.add_argument("--threads", type=int, default=threads, help="cases at once")
    parser.add_argument("--timings", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep configuration files and logs")
    options = parser.parse_args()
    names = chosen(parser, options.only, known)
    stop_on_signal()
    bench = Bench(options.build, options.keep)
    try:
        jobs = [lambda name=name: [attempt(name, known[name], bench)] for name in names]
        counts = run_jobs(jobs, options.threads, options.timings)
    finally:
        bench.close()
    return conclude(*counts)


def main_seeded(case, purpose, repeats, default):
    """Of a test that is one case, case(bench, seed, count); the option --`repeats` says the count."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--build", required=True, help="a build folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--" + repeats, type=int, default=default, dest="count")
    parser.add_argument("--keep", action="store_true", help="keep configuration files and logs")
    options = parser.parse_args()
    stop_on_signal()
    bench = Bench(options.build, options.keep)
    name = "%s, seed %d, %d %s" % (case.__name__, options.seed, options.count, repeats)
    try:
        counts = run_jobs([lambda: [attempt(name, case, bench, options.seed, options.count)]], 1)
    finally:
        bench.close()
    return conclude(*counts)
