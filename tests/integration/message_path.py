#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""No system call and no allocation a message.

  message_path.py --build build/release
  message_path.py --program build/release/bin/event-service --malloc-count build/release/tests/libmalloc_count.so

Goal: what a server with one worker asks of the system does not grow with the number of small messages that come in
large writes: fewer than 0.05 reads and writes a message, and no more allocations for 20 000 messages than for 10 000.
Method: the program runs under strace, which notes every call, and with a counter in front of malloc, in a file that is
read here. A warm-up comes first. Then 10 000 and 20 000 messages, to one subscriber and to several; calls and counter
are looked at before and after each.
"""
import argparse
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

HOST = "127.0.0.1"
PATIENCE_S = 60.0
WRITE_BYTES = 64 << 10
CALLS_MAX = 0.05  # reads and writes a message
LATE_ALLOCATIONS_MAX = 32  # of pools and maps that meet their high-water mark late; no matter how many messages
READS = {"read", "readv", "recvfrom", "recvmsg"}
WRITES = {"write", "writev", "sendto", "sendmsg"}


class Failure(Exception):
    pass


def require(holds, what):
    if not holds:
        raise Failure(what)


def wait_until(holds, what):
    deadline = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while not holds():
        require(time.monotonic() < deadline, what + " in time")
        pause.wait(0.01)


class Server:
    """The program under strace, with the counting library preloaded into it (not into strace)."""

    def __init__(self, program, library, folder):
        self.folder = folder
        self.trace = os.path.join(folder, "trace")
        self.log = os.path.join(folder, "log")
        self.counter = os.path.join(folder, "counter")
        config = os.path.join(folder, "config.yaml")
        with open(self.counter, "wb") as file:
            file.write(bytes(8))
        with open(config, "w") as file:
            file.write(
                "service: {host: %s, port: 0}\n"
                "threads: {workers: 1}\n"
                "queue: {storage: memory}\n"
                "log: {format: json, file: %s}\n" % (HOST, self.log)
            )
        self.process = subprocess.Popen(
            ["strace", "-f", "-q", "-s", "0", "-o", self.trace]
            + ["-E", "LD_PRELOAD=" + library, "-E", "MALLOC_COUNT_FILE=" + self.counter]
            + [program, "--config", config],
            stdout=subprocess.DEVNULL,
            stderr=open(os.path.join(folder, "errors"), "w"),
        )
        try:
            wait_until(self.find_port, "the server is ready (%s)" % self.errors())
        except Failure:
            self.stop()
            raise

    def errors(self):
        with open(os.path.join(self.folder, "errors")) as file:
            return file.read()[-500:]

    def find_port(self):
        require(self.process.poll() is None, "the server runs: " + self.errors())
        if os.path.exists(self.log):
            with open(self.log) as file:
                for line in file:
                    if line.endswith("\n") and "LOG_SERVER_READY" in line:
                        self.port = json.loads(line)["port"]
                        return True
        return False

    def allocations(self):
        with open(self.counter, "rb") as file:
            return struct.unpack("=Q", file.read(8))[0]

    def calls_since(self, offset):
        """(counts by name, the trace's end): each finished call is one line; one cut in two is counted once."""
        counts = {}
        with open(self.trace) as file:
            file.seek(offset)
            text = file.read()
        for name in re.findall(r"^\d+ +(\w+)\(", text, re.M):
            counts[name] = counts.get(name, 0) + 1
        return counts, offset + len(text)

    def stop(self):
        """SIGTERM to the server itself: strace ends with it."""
        if self.process.poll() is None:
            with open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)) as file:
                children = file.read().split()
            for child in children:
                os.kill(int(child), 15)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection((HOST, port), PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        require(self.file.readline().startswith(b"INFO "), "the server greets")
        self.socket.sendall(b'CONNECT {"verbose":false,"echo":true}\r\n')
        self.flush()

    def flush(self):
        self.socket.sendall(b"PING\r\n")
        line = self.file.readline()
        require(line == b"PONG\r\n", "PONG comes, not %r" % line)

    def subscribe(self, subject, sid):
        self.socket.sendall(b"SUB %s %s\r\n" % (subject, sid))
        self.flush()

    def take(self, expected):
        """Reads until all expected bytes are there, and compares them."""
        got = bytearray()
        while len(got) < len(expected):
            data = self.socket.recv(1 << 20)
            require(data, "the connection lives")
            got += data
        require(bytes(got) == expected, "what arrives is what was sent, whole and in order")

    def close(self):
        self.file.close()
        self.socket.close()


def send_all(client, data, faults):
    try:
        for at in range(0, len(data), WRITE_BYTES):
            client.socket.sendall(data[at : at + WRITE_BYTES])
    except OSError as fault:
        faults.append(fault)


def exchange(publisher, subscribers, subject, count):
    """Publishes count messages in large writes while all subscribers read."""
    body = b"0123456789abcdef"
    data = (b"PUB %s %d\r\n%s\r\n" % (subject, len(body), body)) * count
    faults = []
    threads = [threading.Thread(target=send_all, args=(publisher, data, faults))]
    for sid, subscriber in subscribers:
        expected = (b"MSG %s %s %d\r\n%s\r\n" % (subject, sid, len(body), body)) * count
        threads.append(threading.Thread(target=take_all, args=(subscriber, expected, faults)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    require(not faults, "no fault: %r" % faults)


def take_all(client, expected, faults):
    try:
        client.take(expected)
    except (OSError, Failure) as fault:
        faults.append(fault)


def measure(server, publisher, subscribers, subject, count):
    _, offset = server.calls_since(0)
    before = server.allocations()
    exchange(publisher, subscribers, subject, count)
    publisher.flush()
    calls, _ = server.calls_since(offset)
    return calls, server.allocations() - before


def check(server, name, subscriber_count):
    subject = b"path.%d" % subscriber_count
    publisher = Client(server.port)
    subscribers = []
    for index in range(subscriber_count):
        client = Client(server.port)
        sid = b"%d" % (index + 1)
        client.subscribe(subject, sid)
        subscribers.append((sid, client))
    exchange(publisher, subscribers, subject, 10000)  # warm
    exchange(publisher, subscribers, subject, 20000)
    allocations = {}
    for count in (10000, 20000):
        calls, allocations[count] = measure(server, publisher, subscribers, subject, count)
        reads = sum(calls.get(call, 0) for call in READS)
        writes = sum(calls.get(call, 0) for call in WRITES)
        print(
            "  %s, %d messages: %d reads, %d writes, %d calls in all, %d allocations"
            % (name, count, reads, writes, sum(calls.values()), allocations[count])
        )
        require(reads > 0 and writes > 0, "the trace shows reads and writes")
        deliveries = count * subscriber_count
        require(reads < CALLS_MAX * count, "%d reads for %d messages" % (reads, count))
        require(writes < CALLS_MAX * deliveries, "%d writes for %d deliveries" % (writes, deliveries))
        require(
            sum(calls.values()) < 4 * CALLS_MAX * deliveries,
            "%d system calls for %d messages: %r" % (sum(calls.values()), count, calls),
        )
    require(
        allocations[20000] <= LATE_ALLOCATIONS_MAX and allocations[10000] <= LATE_ALLOCATIONS_MAX,
        "allocations grow with messages: %r" % allocations,
    )
    publisher.close()
    for _, client in subscribers:
        client.close()


def check_counter(server):
    """The counter counts: a new connection cannot be had without memory."""
    before = server.allocations()
    Client(server.port).close()
    require(server.allocations() > before > 0, "the counter moves with a connection")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--program")
    parser.add_argument("--malloc-count")
    options = parser.parse_args()
    program = os.path.abspath(options.program or os.path.join(options.build, "bin/event-service"))
    library = os.path.abspath(
        options.malloc_count or os.path.join(options.build, "tests/libmalloc_count.so")
    )
    checks = [
        ("the counter counts", lambda server: check_counter(server)),
        ("one to one", lambda server: check(server, "one to one", 1)),
        ("one to three", lambda server: check(server, "one to three", 3)),
    ]
    passed = failed = 0
    folder = tempfile.mkdtemp(prefix="es-message-path-")
    server = None
    try:
        for needed in (program, library):
            require(os.path.exists(needed), "%s is built" % needed)
        require(shutil.which("strace"), "strace is installed")
        server = Server(program, library, folder)
    except Failure as failure:
        print("FAIL start: %s" % failure)
        failed = len(checks)
        checks = []
    for name, run in checks:
        try:
            run(server)
            passed += 1
        except (Failure, OSError) as failure:
            failed += 1
            print("FAIL %s: %s" % (name, failure))
    if server is not None:
        server.stop()
    shutil.rmtree(folder)
    print("%d passed, %d failed" % (passed, failed))
    return 0 if failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
