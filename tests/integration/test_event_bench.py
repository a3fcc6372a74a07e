#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""event-bench measures a sound server, and refuses an unsound one.

Goal: every scenario gives figures against a real nats-server, and a server that loses, repeats, swaps, damages or
misroutes one message is told so, with the right word and without figures. Method: small runs against nats-server and
against a server written here, which does exactly one thing wrong.

usage: test_event_bench.py [--bin FOLDER] [CLASS.TEST...]     (default: the newest build/*/bin, or $ES_BIN)
"""
import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request

sys.dont_write_bytecode = True

import bench_case  # noqa: E402

sys.path.insert(0, bench_case.BENCH)

from benchlib import free_port  # noqa: E402  (stands in bench)

DEADLINE_S = 60
BENCH = None  # path of event-bench, set by main


def bench(port, *arguments, allowed=True):
    """Runs event-bench; returns (exit status, standard output, standard error). Whether the generator was the
    bottleneck is nothing to most tests, and on a busy machine it is."""
    command = [BENCH, *arguments, "--server", f"127.0.0.1:{port}"] + ["--allow-bottleneck"] * allowed
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    return done.returncode, done.stdout, done.stderr


class NatsServer:
    """A nats-server on a port that it chooses itself, which it tells in its log."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            ["nats-server", "-a", "127.0.0.1", "-p", "-1", "-m", "-1", *arguments],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.port = self.monitor_port = None
        for line in self.process.stderr:
            found = re.search(r"Starting http monitor on .*:(\d+)$", line)
            if found:
                self.monitor_port = int(found.group(1))
            found = re.search(r"Listening for client connections on 127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found.group(1))
            if "Server is ready" in line:
                break
        if self.port is None:
            raise RuntimeError("nats-server did not start")
        # Whatever it writes later must not fill the pipe.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def stop(self):
        self.process.terminate()
        self.process.wait(DEADLINE_S)


class Connection:
    """One client of the fake server."""

    def __init__(self, server, sock):
        self.server = server
        self.sock = sock
        self.lock = threading.Lock()
        self.subscriptions = []  # (subject, queue, sid)
        self.pings = 0

    def send(self, data):
        with self.lock:
            try:
                self.sock.sendall(data)
            except OSError:
                pass  # the client has left, which the test sees at its own end

    def run(self):
        stream = self.sock.makefile("rb")
        self.send(b"INFO " + json.dumps(self.server.info).encode() + b" \r\n")
        while True:
            try:
                line = stream.readline()
            except OSError:
                return
            if not line:
                return
            words = line.decode().split()
            verb = words[0].upper()
            if verb == "PING":
                self.server.on_ping(self)
            elif verb == "SUB":
                with self.server.lock:
                    self.subscriptions.append((words[1], words[2] if len(words) == 4 else None, words[-1]))
            elif verb == "PUB":
                payload = stream.read(int(words[-1]) + 2)[:-2]
                self.server.on_publish(words[1], words[2] if len(words) == 4 else "", payload)


class FakeServer:
    """Delivers right, but for message number AT, with which it does what FAULT says."""

    def __init__(self, fault=None, at=100, info=None):
        self.fault = fault
        self.at = at
        self.count = 0
        self.held = None
        self.lock = threading.RLock()
        self.connections = []
        self.info = {"server_id": "FAKE", "server_name": "fake", "version": "0.0.1", "proto": 1,
                     "host": "127.0.0.1", "headers": True, "max_payload": 1048576}
        self.info.update(info or {})
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            connection = Connection(self, sock)
            with self.lock:
                self.connections.append(connection)
            threading.Thread(target=connection.run, daemon=True).start()

    def on_ping(self, connection):
        with self.lock:
            if self.fault == "no pong" and self.count > 0:
                return
            connection.pings += 1
            if self.fault == "no second pong" and connection.pings > 1:
                return
            connection.send(b"PONG\r\n")

    def targets(self, subject):
        """Every plain subscriber, and one of each queue group."""
        queues = {}
        for connection in self.connections:
            for pattern, queue, sid in connection.subscriptions:
                if pattern == subject or (pattern.endswith(".*") and subject.rsplit(".", 1)[0] == pattern[:-2]):
                    if queue is None:
                        yield connection, sid
                    else:
                        queues.setdefault(queue, []).append((connection, sid))
        for members in queues.values():
            yield members[self.count % len(members)]

    def on_publish(self, subject, reply, payload):
        with self.lock:
            for connection, sid in self.targets(subject):
                self.count += 1
                self.deliver(connection, sid, subject, reply, payload)

    def deliver(self, connection, sid, subject, reply, payload):
        if self.count == self.at:
            if self.fault == "damage":
                payload = payload[:-1] + bytes([payload[-1] ^ 1])
            elif self.fault == "shorten":
                payload = payload[:-1]
            elif self.fault == "pattern":
                payload = payload[:20] + b"?" + payload[21:]
            elif self.fault == "sid":
                sid = "77"
            elif self.fault == "header":
                head = b"NATS/1.0 503\r\n\r\n"
                connection.send(f"HMSG {subject} {sid} {len(head)} {len(head)}\r\n".encode() + head + b"\r\n")
                return
        middle = f" {reply}" if reply else ""
        data = f"MSG {subject} {sid}{middle} {len(payload)}\r\n".encode() + payload + b"\r\n"
        if self.count == self.at:
            if self.fault == "drop":
                return
            if self.fault == "duplicate":
                data += data
            if self.fault == "swap":
                self.held = (connection, data)
                return
            if self.fault == "garbage":
                data = b"\x1b]0;title\x07 NONSENSE\r\n"
            if self.fault == "error":
                data = b"-ERR 'Slow Consumer'\r\n"
            if self.fault == "close":
                connection.sock.shutdown(socket.SHUT_RDWR)
                return
        if self.held is not None and self.held[0] is connection:
            data += self.held[1]
            self.held = None
        connection.send(data)

    def stop(self):
        self.listener.close()
        with self.lock:
            for connection in self.connections:
                connection.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class AgainstNatsServer(unittest.TestCase):
    """Each scenario ends with status 0, and its figures add up."""

    @classmethod
    def setUpClass(cls):
        cls.server = NatsServer()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def run_json(self, *arguments):
        status, out, err = bench(self.server.port, *arguments, "--json", "-")
        self.assertEqual(status, 0, err)
        result = json.loads(out)
        self.assertTrue(result["valid"])
        self.assertEqual(sum(result["verification"].values()), 0)
        return result

    def test_pub_sub(self):
        """One publisher, one subscriber: as many delivered as published, with costs of both processes."""
        result = self.run_json("pub-sub", "--messages", "20000", "--server-pid", str(self.server.process.pid))
        self.assertEqual(result["published"], 20000)
        self.assertEqual(result["delivered"], 20000)
        self.assertEqual(result["latency_ns"]["count"], 20000)
        latency = result["latency_ns"]
        self.assertLessEqual(latency["min"], latency["p50"])
        self.assertLessEqual(latency["p50"], latency["p99"])
        self.assertLessEqual(latency["p99"], latency["max"])
        self.assertGreater(result["server_process"]["cpu_us_per_delivered"], 0)
        self.assertGreater(result["server_process"]["resident_bytes"], 1 << 20)
        self.assertGreater(result["generator_process"]["cpu_us_per_delivered"], 0)
        self.assertRegex(result["server"]["version"], r"^\d+\.\d+\.\d+")
        self.assertRegex(result["environment"]["date"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertGreaterEqual(result["environment"]["cores"], 1)

    def test_many_subscribers(self):
        for mode in ("same", "distinct"):
            with self.subTest(sid_mode=mode):
                result = self.run_json("pub-sub", "--subscribers", "5", "--messages", "3000", "--sid-mode", mode)
                self.assertEqual(result["delivered"], 15000)

    def test_pairs(self):
        """Eight pairs by one thread and by three; 1001 messages do not divide by eight."""
        for threads in ("1", "3"):
            with self.subTest(threads=threads):
                result = self.run_json("pub-sub", "--publishers", "8", "--messages", "1001", "--threads", threads)
                self.assertEqual(result["published"], 1001)
                self.assertEqual(result["delivered"], 1001)

    def test_processes(self):
        """Five publishers over three processes of two threads: all are counted, and all latencies."""
        result = self.run_json("pub-sub", "--publishers", "5", "--messages", "5003", "--processes", "3", "--threads", "2")
        self.assertEqual(result["published"], 5003)
        self.assertEqual(result["delivered"], 5003)
        self.assertEqual(result["latency_ns"]["count"], 5003)
        self.assertEqual(result["load"]["processes"], 3)
        self.assertEqual(result["load"]["threads"], 2)

    def test_processes_of_each_scenario(self):
        """More processes than there is to do are not started; what has no publishers is shared out too."""
        for scenario, more, processes in (("pub-sub", (), 1), ("request-reply", ("--publishers", "3"), 2),
                                          ("pub", ("--publishers", "2"), 2), ("churn", (), 2), ("connect", (), 2),
                                          ("fan-in", (), 1), ("idle", ("--subscribers", "10", "--duration", "100ms"), 2)):
            with self.subTest(scenario=scenario):
                amount = () if scenario == "idle" else ("--messages", "400")
                result = self.run_json(scenario, "--processes", "2", *amount, *more)
                self.assertEqual(result["load"]["processes"], processes)
                self.assertGreaterEqual(result["delivered"], 20 if scenario == "idle" else 400)

    def test_publishing_alone(self):
        """Nobody subscribes: what PONGs have confirmed counts as delivered."""
        result = self.run_json("pub", "--publishers", "3", "--messages", "30000")
        self.assertEqual(result["published"], 30000)
        self.assertEqual(result["delivered"], 30000)
        self.assertGreater(result["latency_ns"]["count"], 0)

    def test_apart(self):
        """Publishers and subscribers in two programs: each accounts for its side, and the order does not matter to it."""
        common = ("--subject", f"apart.{os.getpid()}", "--publishers", "3", "--messages", "30001", "--size", "64")
        for processes in ("1", "2"):
            with self.subTest(processes=processes):
                subscriber = subprocess.Popen(
                    [BENCH, "sub", *common, "--subscribers", "2", "--processes", processes, "--server",
                     f"127.0.0.1:{self.server.port}", "--timeout", "30s", "--json", "-", "--allow-bottleneck"],
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                self.await_subscriptions(6)
                self.assertEqual(self.run_json("pub", *common)["delivered"], 30001)
                out, err = subscriber.communicate(timeout=DEADLINE_S)
                self.assertEqual(subscriber.returncode, 0, err)
                result = json.loads(out)
                self.assertEqual((result["published"], result["delivered"]), (0, 60002))
                self.assertEqual(result["latency_ns"]["count"], 60002)
                self.assertLess(result["seconds"], 20)

    def await_subscriptions(self, count):
        """Until the server has so many: asked by its monitoring page."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.server.monitor_port}/subsz?subs=1&limit=1000") as page:
                if sum(entry["subject"].startswith("apart.") for entry in
                       json.load(page).get("subscriptions_list") or ()) == count:
                    return
        self.fail(f"the server does not have {count} subscriptions")

    def test_nothing_is_published(self):
        status, _, err = bench(self.server.port, "sub", "--subject", "nobody", "--messages", "10", "--timeout", "300ms")
        self.assertEqual(status, 1)
        self.assertRegex(err, "10 lost; no progress")

    def test_fan_in(self):
        """N:1 and N:N: every subscriber gets what each publisher sends."""
        for publishers, subscribers in (("4", "1"), ("3", "5"), ("1", "2")):
            with self.subTest(publishers=publishers, subscribers=subscribers):
                result = self.run_json("fan-in", "--publishers", publishers, "--subscribers", subscribers,
                                       "--messages", "2401", "--check-payload")
                self.assertEqual(result["published"], 2401)
                self.assertEqual(result["delivered"], 2401 * int(subscribers))

    def test_fan_out(self):
        result = self.run_json("fan-out", "--messages", "2000")
        self.assertEqual(result["delivered"], 20000)

    def test_queue(self):
        result = self.run_json("queue", "--messages", "5000")
        self.assertEqual(result["delivered"], 5000)

    def test_many_subjects(self):
        """Numbered subjects, literal and by wildcard, alone and in a queue group: none is lost or misrouted."""
        for scenario, more in (("pub-sub", ()), ("pub-sub", ("--wildcards", "30", "--subscribers", "2")),
                               ("queue", ("--wildcards", "100"))):
            with self.subTest(scenario=scenario, more=more):
                result = self.run_json(scenario, "--messages", "3000", "--subjects", "500", *more)
                self.assertEqual(result["delivered"], 6000 if "--subscribers" in more else 3000)

    def test_stalled_subscribers(self):
        """Subscribers that stop reading are not waited for, and their end is no failure."""
        result = self.run_json("pub-sub", "--messages", "3000", "--stalled", "3")
        self.assertEqual(result["delivered"], 3000)

    def test_several_processes(self):
        """The costs of several processes are added up."""
        own = str(self.server.process.pid)
        result = self.run_json("pub-sub", "--messages", "3000", "--server-pid", own + "," + str(os.getpid()))
        alone = self.run_json("pub-sub", "--messages", "3000", "--server-pid", own)
        self.assertGreater(result["server_process"]["threads"], alone["server_process"]["threads"])

    def test_request_reply(self):
        """One and many in flight, one and several responders: a delivery each for request and reply."""
        for in_flight, responders in (("1", "1"), ("32", "1"), ("32", "3")):
            with self.subTest(in_flight=in_flight, responders=responders):
                result = self.run_json("request-reply", "--messages", "1000", "--in-flight", in_flight,
                                       "--subscribers", responders)
                self.assertEqual(result["replies"], 1000)
                self.assertEqual(result["delivered"], 2000)
                self.assertEqual(result["latency_ns"]["count"], 1000)

    def test_sizes(self):
        """The smallest payload, sizes around the tail check, and one larger than the read block, every byte compared."""
        for size in ("16", "17", "23", "24", "25", "4KiB", "300KiB"):
            with self.subTest(size=size):
                result = self.run_json("pub-sub", "--size", size, "--messages", "100", "--check-payload")
                self.assertEqual(result["delivered"], 100)

    def test_duration_and_warmup(self):
        result = self.run_json("pub-sub", "--duration", "200ms", "--warmup", "50ms")
        self.assertGreater(result["delivered"], 100)
        self.assertGreater(result["seconds"], 0.19)
        self.assertEqual(result["latency_ns"]["count"], result["delivered"])

    def test_rate(self):
        """Open loop: 1000 messages at 5000 a second take about 0.2 s, however fast the server is."""
        result = self.run_json("pub-sub", "--messages", "1000", "--rate", "5000")
        self.assertGreater(result["seconds"], 0.19)
        self.assertLess(result["published_per_second"], 5100)

    def test_text(self):
        """The words of nats bench, and progress in lines where there is no terminal."""
        status, out, err = bench(self.server.port, "pub-sub", "--publishers", "2", "--duration", "1500ms", "--progress")
        self.assertEqual(status, 0, err)
        for part in ("msgs/sec ~", "MiB/sec", " Publisher stats:", " Subscriber stats:", "message rates min",
                     "| stddev", "P50", "P99.99", "Generator:"):
            self.assertIn(part, out)
        self.assertRegex(err, r"event-bench: +\d+%  \d+ delivered  \d+ msgs/sec")

    def test_json_file_and_text(self):
        """With a file both are written; the file holds the object alone."""
        path = os.path.join("/tmp", f"test_event_bench.{os.getpid()}.json")
        try:
            status, out, _ = bench(self.server.port, "pub-sub", "--messages", "100", "--json", path)
            self.assertEqual(status, 0)
            self.assertIn("Delivered:", out)
            with open(path, encoding="utf-8") as file:
                self.assertEqual(json.load(file)["delivered"], 100)
        finally:
            if os.path.exists(path):
                os.unlink(path)

    def test_csv(self):
        """Runs add lines to one file, below one line of headings; a failed run has no figures in its line."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "runs.csv")
            for arguments in (("pub-sub", "--messages", "1000"), ("queue", "--messages", "500", "--size", "32")):
                status, out, _ = bench(self.server.port, *arguments, "--csv", path)
                self.assertEqual(status, 0)
                self.assertIn("Delivered:", out)
            with FakeServer("drop") as fake:
                self.assertEqual(bench(fake.port, "pub-sub", "--messages", "500", "--timeout", "300ms", "--csv", path)[0], 1)
            with open(path, encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        self.assertEqual([row["scenario"] for row in rows], ["pub-sub", "queue", "pub-sub"])
        self.assertEqual([row["size_bytes"] for row in rows], ["128", "32", "128"])
        self.assertEqual([row["lost"] for row in rows], ["0", "0", "1"])
        self.assertIn("1 lost", rows[2]["error"])
        for row in rows:
            self.assertNotIn(None, row)
            self.assertNotIn(None, row.values())
            self.assertEqual(row["delivered_per_second"] != "", row["error"] == "")
        status, out, _ = bench(self.server.port, "pub-sub", "--messages", "100", "--csv", "-")
        self.assertEqual((status, len(list(csv.DictReader(io.StringIO(out))))), (0, 1))

    def test_environment_in_every_output(self):
        """Kernel, cores, compiler and TLS library stand in text, JSON and CSV."""
        for more, pattern in (((), r"Environment: .*Linux.* cores .* by (gcc|.*[Cc]lang).* TLS: wolfSSL"),
                              (("--json", "-"), r'"compiler": ".+"(.|\n)*"tls_library": ".+ [0-9.]+"'),
                              (("--csv", "-"), r'"(gcc|.*[Cc]lang)[^"]*","[^"]+ [0-9.]+"$')):
            with self.subTest(more=more):
                status, out, _ = bench(self.server.port, "pub-sub", "--messages", "100", *more)
                self.assertEqual(status, 0)
                self.assertRegex(out.strip(), pattern)

    def test_late_generator(self):
        """Open loop: a generator that was held up says so, and shows no figures unless they are asked for."""
        for allowed in (False, True):
            with self.subTest(allowed=allowed):
                command = [BENCH, "pub-sub", "--server", f"127.0.0.1:{self.server.port}", "--rate", "1000", "--duration",
                           "4s", "--timeout", "60s", "--progress", "--json", "-"] + ["--allow-bottleneck"] * allowed
                process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                self.assertIn("delivered", process.stderr.readline())  # after a second
                process.send_signal(signal.SIGSTOP)
                # As long as another one takes that is not held up.
                self.assertEqual(bench(self.server.port, "pub-sub", "--duration", "700ms")[0], 0)
                process.send_signal(signal.SIGCONT)
                out, err = process.communicate(timeout=DEADLINE_S)
                result = json.loads(out)
                self.assertTrue(result["valid"])
                self.assertEqual(process.returncode, 0 if allowed else 3, err)
                self.assertEqual("latency_ns" in result, allowed)
                self.assertEqual("REFUSED: the generator was the bottleneck" in err, not allowed)
                if allowed:
                    self.assertTrue(result["generator_process"]["is_bottleneck"])
                    self.assertGreater(result["generator_process"]["late_us"], 1000)

    def test_late_server(self):
        """Open loop: what a server that was held up makes late is not the generator's, also of what has piled up."""
        command = [BENCH, "pub-sub", "--server", f"127.0.0.1:{self.server.port}", "--rate", "20k", "--window", "256KiB",
                   "--messages", "100k", "--timeout", "60s", "--progress", "--json", "-", "--allow-bottleneck"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertIn("delivered", process.stderr.readline())  # after a second
        with FakeServer() as clock:
            self.server.process.send_signal(signal.SIGSTOP)
            try:
                # As long as another one takes that is not held up.
                self.assertEqual(bench(clock.port, "pub-sub", "--duration", "700ms")[0], 0)
            finally:
                self.server.process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=DEADLINE_S)
        self.assertEqual(process.returncode, 0, err)
        result = json.loads(out)
        self.assertGreater(result["latency_ns"]["p99"], 500e6)
        self.assertLess(result["generator_late_ns"]["p99"], result["latency_ns"]["p99"] / 2)
        self.assertEqual(result["generator_late_ns"]["count"], result["published"])

    def test_rate_not_reached(self):
        """A window of two messages does not let 10 million a second through: the report says so."""
        status, out, err = bench(self.server.port, "pub-sub", "--duration", "300ms", "--window", "1", "--rate", "10M")
        self.assertEqual(status, 0, err)
        self.assertRegex(out, r"NOTE: the rate was not reached: [\d,]+ of 10,000,000 msgs/sec")

    def test_a_process_dies(self):
        """A process of the generator that is killed is missed: no figures, and nobody waits for ever."""
        command = [BENCH, "pub-sub", "--server", f"127.0.0.1:{self.server.port}", "--publishers", "3", "--processes", "3",
                   "--duration", "2s", "--progress"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertIn("delivered", process.stderr.readline())
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
            children = [int(pid) for pid in file.read().split()]
        self.assertEqual(len(children), 2)
        os.kill(children[0], signal.SIGKILL)
        out, err = process.communicate(timeout=DEADLINE_S)
        self.assertEqual(process.returncode, 1)
        self.assertIn("a process of the generator has died", err)
        self.assertNotIn("msgs/sec ~", out)

    def test_payload_over_the_servers_limit(self):
        status, out, err = bench(self.server.port, "pub-sub", "--size", "2MiB")
        self.assertEqual(status, 1)
        self.assertIn("1048576", err)
        self.assertEqual(out, "")


class AgainstLimits(unittest.TestCase):
    """The two programs that say what the machine allows pass every message on as well."""

    def test_modes(self):
        for mode, more in (("parse", ("--publishers", "8")), ("parse", ()), ("relay", ("--raw",)),
                           ("relay", ("--raw", "--size", "64KiB"))):
            with self.subTest(mode=mode, more=more):
                port = free_port()
                limit = subprocess.Popen([os.path.join(os.path.dirname(BENCH), "bench-limit"), mode, str(port)],
                                         stderr=subprocess.DEVNULL)
                try:
                    status, _, err = bench(port, "pub-sub", "--messages", "20000", *more)
                    deadline = time.monotonic() + DEADLINE_S
                    while "cannot connect" in err and time.monotonic() < deadline:
                        status, _, err = bench(port, "pub-sub", "--messages", "20000", *more)
                    self.assertEqual(status, 0, err)
                finally:
                    limit.terminate()
                    limit.wait()


class LinkedServers(unittest.TestCase):
    """Publishers at one server of a super-cluster, subscribers at the other."""

    def test_gateway(self):
        with tempfile.TemporaryDirectory() as folder:
            gateways = [free_port(), free_port()]
            servers = []
            try:
                for name, own, other in (("a", 0, 1), ("b", 1, 0)):
                    path = os.path.join(folder, name)
                    with open(path, "w", encoding="utf-8") as file:
                        file.write('gateway { name: %s, listen: "127.0.0.1:%d", gateways: [{name: %s, '
                                   'url: "nats://127.0.0.1:%d"}] }\n'
                                   % (name, gateways[own], "ba"[own], gateways[other]))
                    servers.append(NatsServer("-c", path))
                # First the one whose replies take the other link, which may come up later.
                for scenario in ("request-reply", "pub-sub", "queue"):
                    with self.subTest(scenario=scenario):
                        status, _, err = bench(servers[0].port, scenario, "--messages", "2000", "--timeout", "30s",
                                               "--subscriber-server", "127.0.0.1:%d" % servers[1].port)
                        self.assertEqual(status, 0, err)
            finally:
                for server in servers:
                    server.stop()

    def test_not_linked(self):
        """What is published at a server that knows nothing of the other reaches nobody: this is told."""
        servers = [NatsServer(), NatsServer()]
        try:
            status, _, err = bench(servers[0].port, "pub-sub", "--messages", "10", "--timeout", "300ms",
                                   "--subscriber-server", "127.0.0.1:%d" % servers[1].port)
            self.assertEqual(status, 1)
            self.assertIn("does not reach the subscribers", err)
        finally:
            for server in servers:
                server.stop()


class Events(unittest.TestCase):
    """Events go to event-service, and come back to the worker service that event-bench serves itself."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.port, self.worker_port = free_port(), free_port()
        path = os.path.join(self.folder.name, "config.yaml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"service": {"host": "127.0.0.1", "port": self.port}, "events": {"registry": {"bench": "bench"}},
                       "handlers": {"bench": {"address": f"grpc://127.0.0.1:{self.worker_port}", "in_flight_max": 64,
                                              "retry": {"delay": "10ms", "delay_max": "10ms"}}}}, file)
        self.log = open(os.path.join(self.folder.name, "log"), "w+b")
        self.process = subprocess.Popen([os.path.join(os.path.dirname(BENCH), "event-service"), "--config", path],
                                        stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise

    def tearDown(self):
        self.process.terminate()
        self.process.wait(DEADLINE_S)
        self.log.close()
        self.folder.cleanup()

    def run_events(self, *arguments):
        return bench(self.port, "events", "--worker", f"127.0.0.1:{self.worker_port}", "--server-pid",
                     str(self.process.pid), "--timeout", "30s", "--json", "-", *arguments)

    def test_all_arrive(self):
        for more in ((), ("--publishers", "3", "--in-flight", "50"), ("--size", "64"), ("--size", "130"),
                     ("--size", "20KiB"), ("--rate", "2000")):
            with self.subTest(more=more):
                status, out, err = self.run_events("--messages", "1000", *more)
                self.assertEqual(status, 0, err)
                result = json.loads(out)
                self.assertEqual((result["published"], result["delivered"]), (1000, 1000))
                self.assertEqual(result["latency_ns"]["count"], 1000)
                self.assertGreater(result["server_process"]["cpu_us_per_delivered"], 0)

    def test_no_handler(self):
        """Events that no handler is for never come."""
        status, _, err = self.run_events("--messages", "10", "--subject", "event.other", "--timeout", "500ms")
        self.assertEqual(status, 1)
        self.assertIn("no event of subject event.other came to the worker service", err)

    def test_address_taken(self):
        with socket.create_server(("127.0.0.1", self.worker_port)):
            status, _, err = self.run_events("--messages", "10")
        self.assertEqual(status, 1)
        self.assertIn("the worker service cannot listen on 127.0.0.1", err)


class Tls(unittest.TestCase):
    """TLS with nats-server: the chain and the name are checked, a certificate of our own is shown."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.cert, cls.key, cls.other = (os.path.join(cls.folder.name, name) for name in ("cert", "key", "other"))
        for cert, key in ((cls.other, cls.key), (cls.cert, cls.key)):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                            "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
                            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
        cls.server = NatsServer("--tls", "--tlscert", cls.cert, "--tlskey", cls.key, "--tlscacert", cls.cert,
                                "--tlsverify")
        cls.own = ("--tls-cert", cls.cert, "--tls-key", cls.key)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.folder.cleanup()

    def test_scenarios(self):
        for arguments in (("pub-sub", "--messages", "5000"), ("pub-sub", "--messages", "50", "--size", "300KiB"),
                          ("request-reply", "--messages", "500", "--in-flight", "8"),
                          ("fan-out", "--messages", "500", "--check-payload")):
            with self.subTest(arguments=arguments):
                status, _, err = bench(self.server.port, *arguments, "--tls-ca", self.cert, *self.own)
                self.assertEqual(status, 0, err)

    def test_not_believed(self):
        """Another authority, another name, no certificate of our own."""
        for arguments in (("--tls-ca", self.other, *self.own),
                          ("--tls-ca", self.cert, "--tls-name", "elsewhere", *self.own), ("--tls-insecure",)):
            with self.subTest(arguments=arguments):
                status, out, err = bench(self.server.port, "pub-sub", "--messages", "10", *arguments)
                self.assertEqual((status, out.count("msgs/sec")), (1, 0))
                self.assertIn("closed the connection", err)


class WithoutMessages(unittest.TestCase):
    """Connections, subscriptions and idle clients: as many as asked for, with their cost."""

    @classmethod
    def setUpClass(cls):
        cls.server = NatsServer()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def run_json(self, *arguments):
        status, out, err = bench(self.server.port, *arguments, "--server-pid", str(self.server.process.pid),
                                 "--json", "-")
        self.assertEqual(status, 0, err)
        return json.loads(out)

    def test_connect(self):
        result = self.run_json("connect", "--messages", "300", "--in-flight", "8")
        self.assertGreaterEqual(result["delivered"], 300)
        self.assertLess(result["delivered"], 320)
        self.assertEqual(result["latency_ns"]["count"], result["delivered"])
        self.assertGreater(result["server_process"]["cpu_us_per_delivered"], 0)

    def test_churn(self):
        result = self.run_json("churn", "--messages", "4000", "--in-flight", "50", "--threads", "2")
        self.assertGreaterEqual(result["delivered"], 4000)
        self.assertGreater(result["latency_ns"]["count"], 10)

    def test_by_duration(self):
        for scenario in ("connect", "churn"):
            with self.subTest(scenario=scenario):
                result = self.run_json(scenario, "--duration", "200ms", "--warmup", "50ms")
                self.assertGreater(result["delivered"], 0)
                self.assertGreater(result["seconds"], 0.19)

    def test_idle(self):
        """nats-server keeps some 20 KB for a connection: anything from 1 to 200 KB is believable."""
        result = self.run_json("idle", "--subscribers", "300", "--duration", "200ms")
        self.assertEqual(result["delivered"], 300)
        self.assertGreater(result["seconds"], 0.19)
        self.assertGreater(result["server_process"]["resident_bytes_per_connection"], 1000)
        self.assertLess(result["server_process"]["resident_bytes_per_connection"], 200000)

    def test_text(self):
        for scenario, word in (("connect", "connections a second"), ("churn", "SUBs and UNSUBs a second"),
                               ("idle", "connections that said nothing")):
            with self.subTest(scenario=scenario):
                more = ("--subscribers", "10") if scenario == "idle" else ("--in-flight", "10")
                status, out, err = bench(self.server.port, scenario, "--duration", "100ms", *more)
                self.assertEqual(status, 0, err)
                self.assertIn(word, out)


class Credentials(unittest.TestCase):
    """A server that demands a token or a user gets it; a wrong one is told."""

    def test_token(self):
        server = NatsServer("--auth", "sesame")
        try:
            self.assertEqual(bench(server.port, "pub-sub", "--messages", "10", "--token", "sesame")[0], 0)
            status, _, err = bench(server.port, "pub-sub", "--messages", "10", "--token", "wrong")
            self.assertEqual(status, 1)
            self.assertIn("Authorization Violation", err)
            self.assertNotIn("wrong", err)
        finally:
            server.stop()

    def test_user_and_password(self):
        server = NatsServer("--user", "u", "--pass", 'p"\\<')
        try:
            self.assertEqual(bench(server.port, "pub-sub", "--messages", "10", "--user", "u", "--password",
                                   'p"\\<')[0], 0)
        finally:
            server.stop()


class AgainstUnsoundServer(unittest.TestCase):
    """One fault, one word, no figures."""

    # After others a message is missing for ever, and only the time-out ends the run: it is short then.
    ENDED_AT_ONCE = (None, "duplicate", "swap", "header", "garbage", "error", "close")

    def run_fake(self, fault, *arguments, at=100, info=None):
        server = FakeServer(fault, at, info)
        try:
            return bench(server.port, *arguments, "--timeout", "60s" if fault in self.ENDED_AT_ONCE else "1s")
        finally:
            server.stop()

    def expect(self, fault, word, *arguments, at=100):
        with self.subTest(fault=fault, arguments=arguments):
            status, out, err = self.run_fake(fault, *arguments, at=at)
            self.assertEqual(status, 1, out + err)
            self.assertIn("FAILED", err)
            self.assertRegex(err, word)
            self.assertNotIn("msgs/sec", out)
            self.assertNotIn("Delivered", out)

    SCENARIOS = (("pub-sub",), ("fan-out", "--subscribers", "3"), ("queue",),
                 ("fan-in", "--publishers", "3", "--subscribers", "2"),
                 ("request-reply", "--in-flight", "8"), ("request-reply", "--in-flight", "8", "--subscribers", "2"))

    def test_sound_fake_passes(self):
        """Without a fault the same server passes: the failures below are due to the fault."""
        for scenario in self.SCENARIOS:
            with self.subTest(scenario=scenario):
                status, out, err = self.run_fake(None, *scenario, "--messages", "500")
                self.assertEqual(status, 0, err)
                self.assertIn("msgs/sec", out)

    def test_lost(self):
        for scenario in self.SCENARIOS:
            self.expect("drop", r"\b1 lost", *scenario, "--messages", "500")

    def test_last_one_lost(self):
        self.expect("drop", r"\b1 lost", "pub-sub", "--messages", "500", at=500)

    def test_lost_beyond_the_window(self):
        """The run stops when the window is used up, and what never was sent is not called lost."""
        self.expect("drop", r"lost.*no progress", "pub-sub", "--messages", "5000", "--window", "2KiB")

    def test_duplicated(self):
        for scenario in self.SCENARIOS:
            self.expect("duplicate", r"\b1 duplicated", *scenario, "--messages", "500")

    def test_last_one_duplicated(self):
        """The duplicate of the last message comes when everything has arrived already."""
        self.expect("duplicate", r"\b1 duplicated", "pub-sub", "--messages", "500", at=500)

    def test_reordered(self):
        for scenario in (("pub-sub",), ("fan-out", "--subscribers", "3"), ("queue", "--subscribers", "1"),
                         ("fan-in", "--publishers", "2"),
                         ("request-reply", "--in-flight", "8")):
            self.expect("swap", r"\b1 reordered|\b2 reordered", *scenario, "--messages", "500")

    def test_damaged(self):
        self.expect("damage", r"\b1 damaged", "pub-sub", "--messages", "500")
        self.expect("shorten", r"\b1 damaged", "pub-sub", "--messages", "500")
        self.expect("pattern", r"\b1 damaged", "pub-sub", "--messages", "500", "--check-payload")

    def test_misrouted(self):
        self.expect("sid", r"\b1 misrouted", "pub-sub", "--messages", "500")

    def test_protocol_broken(self):
        """What the server wrote is quoted, but cannot drive the terminal."""
        status, _, err = self.run_fake("garbage", "pub-sub", "--messages", "500")
        self.assertEqual(status, 1)
        self.assertIn("broke the protocol", err)
        self.assertNotIn("\x1b", err)

    def test_error_and_close(self):
        self.expect("error", "Slow Consumer", "pub-sub", "--messages", "500")
        self.expect("close", "closed the connection", "pub-sub", "--messages", "500")
        self.expect("no pong", "no progress", "pub-sub", "--messages", "500")
        # Published to nobody, only the PONG tells that it was taken.
        self.expect("no second pong", "500 lost.*no progress", "pub", "--messages", "500")

    def test_error_in_one_of_several_processes(self):
        self.expect("error", "Slow Consumer", "pub-sub", "--messages", "500", "--publishers", "4", "--processes", "2")
        self.expect("drop", r"\b1 lost", "pub-sub", "--messages", "500", "--publishers", "4", "--processes", "2")

    def test_no_responders_status(self):
        self.expect("header", "status", "request-reply", "--messages", "500", at=2)

    def test_json_of_a_failure_has_no_figures(self):
        status, out, _ = self.run_fake("drop", "pub-sub", "--messages", "500", "--json", "-")
        result = json.loads(out)
        self.assertEqual(status, 1)
        self.assertFalse(result["valid"])
        self.assertEqual(result["verification"]["lost"], 1)
        self.assertIn("1 lost", result["error"])
        for key in ("delivered_per_second", "latency_ns", "server_process"):
            self.assertNotIn(key, result)

    def test_tls_is_told(self):
        status, _, err = self.run_fake(None, "pub-sub", info={"tls_required": True})
        self.assertEqual(status, 1)
        self.assertIn("TLS", err)

    def test_nobody_listens(self):
        port = free_port()
        for scenario in ("pub-sub", "connect"):
            status, out, err = bench(port, scenario, "--json", "-")
            self.assertEqual(status, 1)
            self.assertIn(f"cannot connect to 127.0.0.1 port {port}", err)
            result = json.loads(out)
            self.assertFalse(result["valid"])
            self.assertIn("cannot connect", result["error"])
        status, out, err = bench(port, "pub-sub")
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(err.count("\n"), 1, err)


class CommandLine(unittest.TestCase):
    """Bad usage ends with status 2 and says what is allowed; nothing is connected."""

    def test_bad(self):
        for arguments in ([], ["nonsense"], ["pub-sub", "queue"], ["pub-sub", "--size", "15"],
                          ["pub-sub", "--messages", "0"], ["pub-sub", "--messages", "5x"],
                          ["pub-sub", "--messages", "5", "--duration", "1s"], ["pub-sub", "--duration", "5"],
                          ["pub-sub", "--server", "h:99999"], ["pub-sub", "--server", "[::1"],
                          ["pub-sub", "--sid-mode", "both"], ["pub-sub", "--subject", "a.*"],
                          ["pub-sub", "--subjects", "0"], ["pub-sub", "--wildcards", "50"],
                          ["request-reply", "--subjects", "2"], ["queue", "--stalled", "1"],
                          ["sub"], ["sub", "--subject", "a", "--duration", "1s"], ["sub", "--subject", "a", "--rate", "1"],
                          ["events"], ["events", "--worker", "h:99999"], ["fan-in", "--stalled", "1"],
                          ["events", "--worker", "127.0.0.1:1", "--size", "63"], ["pub-sub", "--processes", "0"],
                          ["pub-sub", "--processes", "65"], ["churn", "--processes", "64", "--threads", "64"],
                          ["events", "--worker", "127.0.0.1:1", "--check-payload"], ["fan-in", "--subjects", "2"],
                          ["pub-sub", "--subjects", "2", "--sid-mode", "distinct"],
                          ["pub-sub", "--raw", "--subscribers", "2"], ["queue", "--raw"], ["pub-sub", "--tls"], ["pub-sub", "--tls-insecure", "--tls-ca", "x"],
                          ["pub-sub", "--tls-insecure", "--tls-cert", "x"], ["pub-sub", "--server-pid", "1,,2"],
                          ["pub-sub", "--subscriber-server", "h:0"], ["sub", "--subject", "a", "--subscriber-server", "h"],
                          ["connect", "--rate", "5"], ["churn", "--size", "20"], ["idle", "--publishers", "2"],
                          ["pub-sub", "--in-flight", "2"], ["idle", "--in-flight", "2"], ["request-reply", "--window", "9"],
                          ["pub", "--subscribers", "2"], ["connect", "--subscribers", "2"], ["idle", "--messages", "5"],
                          ["pub-sub", "--subscribers", "100000"], ["pub-sub", "--unknown"],
                          ["pub-sub", "--messages", "99999999999999999999"]):
            with self.subTest(arguments=arguments):
                done = subprocess.run([BENCH, *arguments], capture_output=True, text=True, timeout=DEADLINE_S,
                                      check=False)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertNotEqual(done.stderr, "")

    def test_help_and_version(self):
        for option in ("--help", "--version"):
            done = subprocess.run([BENCH, option], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
            self.assertEqual(done.returncode, 0)
            self.assertIn("event-bench", done.stdout)

    def test_process_must_exist(self):
        done = subprocess.run([BENCH, "pub-sub", "--server-pid", str(2**31 - 1)], capture_output=True, text=True,
                              timeout=DEADLINE_S, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no such process", done.stderr)


def main():
    global BENCH
    arguments = sys.argv[1:]
    BENCH = os.path.join(bench_case.take_bin(arguments), "event-bench")
    return bench_case.run_tests(arguments)


if __name__ == "__main__":
    sys.exit(main())
