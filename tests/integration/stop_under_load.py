#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A server that is asked to stop while everything is under way ends well.

  stop_under_load.py --build build/release
  stop_under_load.py --build build/asan --only terminate_service

Goal: with publishers, subscribers, requests, events at workers, a gateway link, TLS handshakes and pages under
way, SIGTERM or SIGINT ends the process with status 0 in time; every message that was answered (by a PONG after
it) before the signal reaches each subscriber that goes on reading, also across the gateway; no subscriber sees
a gap; other signals change nothing. Method: event-service and event-gateway, joined; clients in threads, all
of them numbered; what each has read up to the end of its stream is looked at afterwards.
"""

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

from bystanders import HOST, SECRET, Mismatch, Stand, connect_line, main, merge, require, wait_until
from support import connect

HERE = os.path.dirname(os.path.abspath(__file__))
TOKEN = SECRET + "token"
END_S = 10.0  # a stop takes no longer
BATCH = 50
WINDOW_BYTES = 4 << 20
LOAD_S = 0.8  # how long the load runs before the signal; long enough for queues to fill
PUBLISHERS = 3


class Worker:
    """A thread that goes on until its connection ends; what went wrong before the signal is kept."""

    def __init__(self, load, name, home=None, peer=None):
        self.load, self.name, self.home, self.peer = load, name, home, peer
        self.thread = threading.Thread(target=self.main, name=name, daemon=True)

    def main(self):
        try:
            self.run()
            early = "its connection ended"
        except (OSError, ssl.SSLError, Mismatch, ValueError) as fault:
            early = "%r %s" % (fault, getattr(fault, "got", ""))
        if not self.load.is_told:
            self.load.faults.append("%s: %s before the signal" % (self.name, early))

    def run(self):
        raise NotImplementedError

    def end(self, deadline):
        """Ends what it waits for, then waits for it: a socket is closed when nobody reads it any more. One
        that is closed under its reader leaves its number to the next socket, also to that of another case,
        and the reader takes bytes of that."""
        while self.thread.is_alive():
            require(time.monotonic() < deadline, self.name + ": its thread ends")
            if self.peer is not None:
                with contextlib.suppress(OSError):
                    self.peer.sock.shutdown(socket.SHUT_RDWR)
            self.thread.join(0.05)


class Publisher(Worker):
    """Numbered messages on a subject of its own; `answered` is the number that a PONG has stood behind."""

    def __init__(self, load, home, peer, subject):
        super().__init__(load, "publisher of %s in %s" % (subject, home), home, peer)
        self.subject = subject.encode()
        self.number = self.answered = self.sent = 0
        self.readers = []

    def wait_for_readers(self):
        """A few megabytes wait in servers and sockets, never so many that a reader is cut off."""
        pause = threading.Event()
        while self.sent - min(reader.received for reader in self.readers) > WINDOW_BYTES:
            pause.wait(0.002)
            require(not self.load.is_told, "still under load")

    def run(self):
        size = 64
        while True:
            parts = []
            for _ in range(BATCH):
                body = b"%08d" % self.number
                parts.append(b"PUB %s %d\r\n%s\r\n" % (self.subject, size, body + b"." * (size - 8)))
                self.number += 1
            size = 64 if size > 64 else 9000  # both ways of carrying a payload
            last = self.number
            self.sent += BATCH * size
            self.wait_for_readers()
            self.peer.sock.settimeout(30)
            self.peer.sock.sendall(b"".join(parts) + b"PING\r\n")
            wait_pong(self.peer)
            self.answered = last


def wait_pong(peer):
    while True:
        line = peer.read_line(30.0)
        if line == b"PONG\r\n":
            return
        if line == b"PING\r\n":
            peer.send("PONG\r\n")


class Subscriber(Worker):
    """Reads all it can get to the end of the stream; the numbers are looked at afterwards."""

    def __init__(self, load, home, peer, publisher):
        name = "subscriber in %s of %s" % (home, publisher.subject.decode())
        super().__init__(load, name, home, peer)
        self.publisher = publisher
        publisher.readers.append(self)
        self.pattern = re.compile(rb"MSG " + re.escape(publisher.subject) + rb" 1 \d+\r\n(\d{8})")
        peer.send(b"SUB %s 1\r\n" % publisher.subject)
        peer.read_until_pong()
        self.data, self.received = [], 0

    def run(self):
        self.peer.sock.settimeout(30)
        while True:
            data = self.peer.sock.recv(1 << 20)
            if not data:
                return
            self.data.append(data)
            self.received += len(data)
            if data[-6:] == b"PING\r\n":
                with contextlib.suppress(OSError):
                    self.peer.sock.sendall(b"PONG\r\n")

    def numbers(self):
        return [int(text) for text in self.pattern.findall(b"".join(list(self.data)))]

    def check(self, answered):
        """No gap, and nothing missing that was answered in time."""
        numbers = self.numbers()
        require(
            numbers == list(range(len(numbers))), self.name + ": no gap, no double", None, first_gap(numbers)
        )
        require(len(numbers) >= answered, self.name + ": all that was answered", answered, len(numbers))


def first_gap(numbers):
    for at, number in enumerate(numbers):
        if number != at:
            return "%d stands at %d of %d" % (number, at, len(numbers))
    return None


class Requester(Worker):
    """Requests, one at a time, each answered by a responder."""

    def __init__(self, load, peer):
        super().__init__(load, "requester", None, peer)
        self.count = 0
        peer.send("SUB answers 1\r\n")
        peer.read_until_pong()

    def run(self):
        while True:
            self.peer.sock.settimeout(30)
            self.peer.sock.sendall(b"PUB ask answers 4\r\nask?\r\n")
            line = self.peer.read_line(30.0)
            if line == b"PING\r\n":
                self.peer.send("PONG\r\n")
                line = self.peer.read_line(30.0)
            if line != b"MSG answers 1 4\r\n":
                raise Mismatch("an answer", None, line)
            self.peer.read_exact(6, 30.0)
            self.count += 1


class Responder(Worker):
    def __init__(self, load, peer):
        super().__init__(load, "responder", None, peer)
        peer.send("SUB ask 1\r\n")
        peer.read_until_pong()

    def run(self):
        while True:
            line = self.peer.read_line(30.0)
            if line == b"PING\r\n":
                self.peer.send("PONG\r\n")
                continue
            self.peer.read_exact(6, 30.0)
            self.peer.sock.sendall(b"PUB answers 4\r\ndone\r\n")


class EventPublisher(Worker):
    """Events with answers: most go to a worker, some to one that never answers."""

    def __init__(self, load, peer):
        super().__init__(load, "publisher of events", None, peer)
        self.count = 0
        peer.send("SUB event-answers 1\r\n")
        peer.read_until_pong()

    def run(self):
        number = 0
        while True:
            kind = "nodeTerminated" if number % 8 else "scanJobCreated"
            body = json.dumps({"EventID": "e%d" % number, "Verb": "v"})
            number += 1
            self.peer.sock.settimeout(30)
            self.peer.sock.sendall(
                ("PUB event.%s event-answers %d\r\n%s\r\n" % (kind, len(body), body)).encode()
            )
            line = self.peer.read_line(30.0)
            while line == b"PING\r\n":
                self.peer.send("PONG\r\n")
                line = self.peer.read_line(30.0)
            answer = self.peer.read_exact(int(line.split()[-1]) + 2, 30.0)
            self.count += b'"success":true' in answer


class Comer(Worker):
    """Comes and goes: connects, shakes hands, subscribes, hears itself, leaves without a word."""

    def __init__(self, load, stand, token, contexts):
        super().__init__(load, "comer")
        self.stand, self.token, self.contexts, self.count = stand, token, contexts, 0

    def run(self):
        while not self.load.is_told:
            self.peer = connect(self.stand.server.port)
            self.peer.read_info()
            context = self.contexts[self.count % len(self.contexts)]
            if context is not None:
                self.peer.start_tls(context)
            self.peer.send(connect_line(self.token) + "SUB come.* 1\r\nPUB come.a 2\r\nhi\r\nPING\r\n")
            self.peer.expect("MSG come.a 1 2\r\nhi\r\nPONG\r\n", 30.0)
            self.peer.abort()
            self.count += 1


class PageReader(Worker):
    def __init__(self, load, server):
        super().__init__(load, "reader of pages")
        self.server, self.count = server, 0

    def run(self):
        while not self.load.is_told:
            for path in ("/connz?subs=1", "/varz", "/actorz", "/gatewayz", "/healthz"):
                status, _, _ = self.server.http(path)
                if status != 200:
                    raise ValueError("status %d" % status)
                self.count += 1


class Load:
    """Both programs and all clients. One of them, the victim ("service" or "gateway"), is asked to stop."""

    def __init__(self, bench, victim="service"):
        self.bench, self.victim_name = bench, victim
        self.faults, self.is_told, self.workers = [], False, []
        self.closing = contextlib.ExitStack()

    def __enter__(self):
        try:
            self.start_programs()
            self.wait_for_link()
            self.start_clients()
            return self
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise

    def __exit__(self, kind, fault, trace):
        self.is_told = True
        try:
            for worker in self.workers:
                worker.end(time.monotonic() + 15.0 * self.bench.slow)
        finally:
            self.closing.__exit__(kind, fault, trace)

    def start_programs(self):
        bench = self.bench
        silent = socket.create_server((HOST, 0))  # a worker service that accepts and never answers
        self.closing.callback(silent.close)
        certificates = {"root_ca_path": bench.cert("ca"), "timeout": "10s"}
        service = {
            "tls": merge(bench.pair("event-service"), merge(certificates, {"allow_plain": True})),
            "gateway": {"name": "S", "allowed_names": ["event-gateway"]},
            "grpc": {},
            "handlers": {
                "cfgingest": "grpc://%s:%d" % (HOST, self.start_worker()),
                "event_feed": "grpc://%s:%d" % (HOST, silent.getsockname()[1]),
                "feed": "grpc://%s:1" % HOST,
            },
            "log": {"level": "info"},
            # The shortest turns: what else is done at once then stands in mailboxes when the stop comes.
            "threads": {"work_bound": 1},
        }
        stands = {"service": self.closing.enter_context(Stand(bench, service))}
        url = "nats://%s:%d" % (HOST, stands["service"].server.gateway_port)
        everything = {"publish": {"allow": [">"]}, "subscribe": {"allow": [">"]}}
        gateway = {
            "tls": merge(bench.pair("event-gateway"), certificates),
            "frontend_tls": [bench.pair("client")],
            "auth": {"token": TOKEN, "default_permissions": everything, "timeout": "10s"},
            "gateway": {
                "name": "G",
                "allowed_names": ["event-service"],
                "remotes": [{"name": "S", "urls": [url]}],
            },
            "log": {"level": "info"},
            # The shortest turns: what else is done at once then stands in mailboxes when the stop comes.
            "threads": {"work_bound": 1},
        }
        stands["gateway"] = self.closing.enter_context(Stand(bench, gateway, "event-gateway"))
        self.stands, self.victim = stands, stands[self.victim_name]

    def start_worker(self):
        script = os.path.join(HERE, "..", "support", "grpc_worker.py")
        words = ["/usr/bin/python3", script, "--service", "cfgingest", "--plain"]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.closing.callback(process.stdout.close)
        self.closing.callback(process.wait)
        self.closing.callback(process.terminate)
        line = process.stdout.readline()
        require(line.startswith("listening "), "the worker service serves", "listening PORT", line)
        return int(line.split()[1])

    def wait_for_link(self):
        for stand in self.stands.values():
            wait_until(
                lambda stand=stand: linked(stand.server.http_json("/gatewayz")),
                "the gateway link is up both ways",
                15.0 * self.bench.slow,
            )

    def client(self, home, secure=True):
        """To event-service with a certificate or plain, to event-gateway with a token."""
        if home == "gateway":
            return self.stands[home].client(TOKEN, self.outside)
        return self.stands[home].client(None, self.inside if secure else None)

    def start_clients(self):
        ca, victim = self.bench.cert("ca"), self.victim_name
        self.inside = ssl.create_default_context(cafile=ca)
        self.inside.load_cert_chain(self.bench.cert("client"), self.bench.pair("client")["key_path"])
        self.outside = ssl.create_default_context(cafile=ca)
        other = "gateway" if victim == "service" else "service"
        self.publishers = [
            Publisher(self, home, self.client(home, number % 2), "load.%d" % number)
            for number, home in enumerate((victim, victim, other))
        ]
        self.subscribers = [
            Subscriber(self, home, self.client(home, secure), publisher)
            for publisher in self.publishers
            for home, secure in (("service", False), ("service", True), ("gateway", True))
        ]
        responder = Responder(self, self.client(victim, False))
        inside = (None, self.inside) if victim == "service" else (self.outside,)
        self.counted = [
            Requester(self, self.client(victim)),
            EventPublisher(self, self.client(victim, False)),
            PageReader(self, self.victim.server),
            Comer(self, self.victim, TOKEN if victim == "gateway" else None, inside),
        ]
        self.start_idlers()
        self.wait_for_interest()
        self.workers = self.publishers + self.subscribers + [responder] + self.counted
        for worker in self.workers:
            worker.thread.start()

    def start_idlers(self):
        """Connections that have not got far: nothing said, half a handshake, half a request."""
        server = self.victim.server
        for port in [
            server.port,
            server.gateway_port,
            server.monitor_port,
            server.full.get("grpc", server.full["monitor"])["port"],
        ]:
            for data in (b"", b"\x16\x03\x01", b"GET /varz HT"):
                self.victim.raw(port).send(data)

    def wait_for_interest(self):
        """Markers, until each subject reaches all of its subscribers; no marker is a number."""
        for subscriber in self.subscribers:
            end = time.monotonic() + 15.0 * self.bench.slow
            while b"marker" not in subscriber.peer.buffer:
                require(time.monotonic() < end, "interest has crossed the gateway")
                publisher = subscriber.publisher
                publisher.peer.send(b"PUB %s 6\r\nmarker\r\n" % publisher.subject)
                publisher.peer.read_until_pong()
                subscriber.peer.fill(time.monotonic() + 0.05)
            subscriber.peer.buffer = b""

    def run_for(self, seconds):
        """Lets the load run until every kind of client has done something, and for so long at least."""
        pause = threading.Event()
        end = time.monotonic() + seconds
        while time.monotonic() < end or not self.has_done_enough():
            self.expect_well()
            require(
                time.monotonic() < end + 20.0 * self.bench.slow, "the load gets going", None, self.progress()
            )
            pause.wait(0.02)

    def has_done_enough(self):
        return all(p.answered >= 10 * BATCH for p in self.publishers) and all(
            w.count >= 5 for w in self.counted
        )

    def progress(self):
        return [(w.name, w.answered) for w in self.publishers] + [(w.name, w.count) for w in self.counted]

    def expect_well(self):
        if self.faults:
            ends = ["%s: %s %s" % (n, s.server.process.poll(), s.tail()) for n, s in self.stands.items()]
            raise Mismatch("all goes well under load", None, "\n".join(self.faults + ends))

    def tell(self, *numbers):
        """What was answered up to now is noted, then the signals are sent."""
        self.expect_well()
        for publisher in self.publishers:
            publisher.promised = publisher.answered
        self.is_told = True
        self.told_at = time.monotonic()
        for number in numbers:
            self.victim.server.signal(number)

    def expect_end(self):
        try:
            status = self.victim.server.process.wait(END_S * self.bench.slow)
        except subprocess.TimeoutExpired:
            raise Mismatch("ends within %.0f s" % END_S, None, self.victim.tail()) from None
        require(status == 0, "status", 0, "%s %s" % (status, self.victim.tail()))
        self.victim.check_log()
        self.victim.expect_log("LOG_SERVER_STOPPED")

    def expect_delivered(self):
        for worker in self.subscribers:
            if worker.home == self.victim_name:
                worker.thread.join(20.0)
                require(not worker.thread.is_alive(), worker.name + ": its stream ends")
        for worker in self.subscribers:
            # What the other program has answered it need not have handed over by then.
            is_promised = worker.publisher.home == self.victim_name or worker.home != self.victim_name
            promised = worker.publisher.promised if is_promised else 0
            if worker.home != self.victim_name:
                wait_until(
                    lambda w=worker, n=promised: len(w.numbers()) >= n,
                    worker.name + ": all that was answered",
                    10.0,
                )
            worker.check(promised)
        for name, stand in self.stands.items():
            if name != self.victim_name:
                require(stand.server.process.poll() is None, "the other program goes on")
                self.client(name).expect_open()


def linked(page):
    return bool(
        page["outbound_gateways"] and page["inbound_gateways"] and all(page["inbound_gateways"].values())
    )


# --- cases ----------------------------------------------------------------------------------------------


def terminate_service(bench):
    """SIGTERM to event-service."""
    with Load(bench) as load:
        load.run_for(LOAD_S)
        load.tell(signal.SIGTERM)
        load.expect_end()
        load.expect_delivered()


def terminate_gateway(bench):
    """SIGTERM to event-gateway."""
    with Load(bench, "gateway") as load:
        load.run_for(LOAD_S)
        load.tell(signal.SIGTERM)
        load.expect_end()
        load.expect_delivered()


def interrupt_after_others(bench):
    """SIGHUP, SIGUSR1 and SIGUSR2 under load change nothing; SIGINT ends it like SIGTERM."""
    with Load(bench) as load:
        load.run_for(0.2)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGPIPE):
            load.victim.server.signal(number)
            load.run_for(0.1)
        load.tell(signal.SIGINT)
        load.expect_end()
        load.expect_delivered()


def told_more_than_once(bench):
    """More signals during the stop do no harm."""
    with Load(bench) as load:
        load.run_for(0.3)
        load.tell(signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
        with contextlib.suppress(ProcessLookupError):
            while load.victim.server.process.poll() is None and time.monotonic() < load.told_at + END_S:
                load.victim.server.signal(signal.SIGTERM)
        load.expect_end()
        load.expect_delivered()


def stalled_subscribers(bench):
    """Subscribers that take nothing hold the stop up only for its own deadline; the others lose nothing."""
    with Load(bench) as load:
        stalled = [load.stands["service"].client(receive_buffer=4096) for _ in range(5)]
        for peer in stalled:
            peer.send("SUB load.> 1\r\n")
            peer.read_until_pong()
        load.run_for(LOAD_S)
        load.tell(signal.SIGTERM)
        load.expect_end()
        load.expect_delivered()


def idle(bench):
    """With nothing to do a stop is a matter of moments, also in the first moment of life."""
    for kind, more in (
        ("event-service", {}),
        ("event-gateway", {"service": {"disable_frontend_tls": True}, "auth": {"token": TOKEN}}),
    ):
        for number in (signal.SIGTERM, signal.SIGINT):
            with Stand(bench, more, kind) as stand:
                peers = [stand.client(TOKEN) for _ in range(3)]
                began = time.monotonic()
                stand.server.signal(number)
                require(stand.server.wait_exit(END_S) == 0, "status", 0)
                took = time.monotonic() - began
                require(took < 10.0 * stand.slow, "%s ends at once" % kind, "< 10 s", took)
                for peer in peers:
                    require(peer.read_to_end() == b"", "the end of the stream without a word")


def start_and_tell(bench, stand, log, wait):
    """Starts event-service, sends SIGTERM when `wait` returns, and returns its status."""
    with open(log, "ab") as file:
        process = subprocess.Popen(
            [bench.program("event-service"), "--config", stand.server.config_path],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        wait()
        process.send_signal(signal.SIGTERM)
        return process.wait(END_S * stand.slow)
    finally:
        process.kill()


def early(bench):
    """A signal in the middle of the start: it ends well then too."""
    pause = threading.Event()
    with Stand(bench) as stand:
        log = os.path.join(stand.server.folder, "early.log")
        stand.server.stop()

        def has_begun(log):
            with open(log, errors="replace") as file:
                return "LOG_SERVER_STARTING" in file.read()

        for number in range(30):
            status = start_and_tell(bench, stand, log, lambda ms=number: pause.wait(ms * 0.001))
            # Before its first lines of code have run the system's own default ends a process.
            require(status in (0, -signal.SIGTERM), "status", "0, or the default action", status)
        logs = [log]
        for number in range(3):
            logs.append(os.path.join(stand.server.folder, "begun.%d.log" % number))
            status = start_and_tell(
                bench,
                stand,
                logs[-1],
                lambda: wait_until(lambda: has_begun(logs[-1]), "the start is told", 10.0 * stand.slow),
            )
            require(status == 0, "told in the first moment of its life it ends in order", 0, status)
        for path in logs:
            with open(path, errors="replace") as file:
                require("Sanitizer" not in file.read(), "no complaint")


CASES = [
    terminate_service,
    terminate_gateway,
    interrupt_after_others,
    told_more_than_once,
    stalled_subscribers,
    idle,
    early,
]

if __name__ == "__main__":
    sys.exit(main(CASES, "servers that are asked to stop under load", threads=2))
