# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of events share: a publisher over raw NATS, worker processes, event-service with both, encoded events.

Every process started here is ended here, by its id. Nothing waits for time: answers and records are waited for with a
deadline.
"""
import contextlib
import itertools
import json
import os
import socket
import ssl
import subprocess
import sys
import time

import grpc

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "conformance"))

from servers import Ours, Server, hold_port, merge  # noqa: E402
from peers import Mismatch, require, require_equal, wait_until  # noqa: E402

HOST = "127.0.0.1"
PATIENCE_S = 30.0  # for one answer, with a sanitizer on a busy machine
EVENT_SERVICE = "/chef.automate.domain.event.api.EventService/"
HANDLER_OF = {
    "compliance_ingest": "feed",
    "cfgingest": "cfgingest",
    "event_feed": "event_feed",
    "scanJobCreated": "event_feed",
    "scanJobUpdated": "event_feed",
    "scanJobDeleted": "event_feed",
    "profileCreated": "event_feed",
    "profileUpdate": "event_feed",
    "profileDeleted": "event_feed",
    "nodeTerminated": "cfgingest",
}


# --- encoded events -----------------------------------------------------------------------------


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def event(event_id, event_type=None, more=b""):
    """An EventMsg; more: further fields, encoded."""
    named = field(2, field(1, event_type.encode())) if event_type is not None else b""
    return field(1, event_id.encode()) + named + more


def publish_request(message):
    return field(1, message)


# --- a publisher --------------------------------------------------------------------------------


class Client:
    """A raw NATS client that publishes with reply subjects of its own and reads the answers. One thread's."""

    numbers = itertools.count(1)

    def __init__(self, port, context=None, server_name=None):
        self.inbox = "_INBOX.t%d" % next(Client.numbers)
        self.sock = socket.create_connection((HOST, port), PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.answers = {}
        self.errors = []
        self.next = 0
        self.pongs = 0
        self.is_closed = False
        if context is not None:
            self.read_line()  # INFO, in clear
            self.sock = context.wrap_socket(self.sock, server_hostname=server_name or "localhost")
        options = {"verbose": False, "headers": True, "no_responders": True, "name": "publisher", "lang": "test"}
        self.send(b"CONNECT %s\r\nSUB %s.* 1\r\n" % (json.dumps(options).encode(), self.inbox.encode()))
        self.flush()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.settimeout(PATIENCE_S)
        try:
            self.sock.sendall(data)
        except (ConnectionError, ssl.SSLError):
            self.is_closed = True

    def publish(self, event_type, body, header=None, wants_answer=True, subject=None):
        """Sends one event; returns the number of its answer."""
        self.send(self.line(event_type, body, header, wants_answer, subject))
        return self.next

    def line(self, event_type, body, header=None, wants_answer=True, subject=None):
        subject = (subject or "event." + event_type).encode()
        reply = b""
        if wants_answer:
            self.next += 1
            reply = b" %s.%d" % (self.inbox.encode(), self.next)
        if header is None:
            return b"PUB %s%s %d\r\n%s\r\n" % (subject, reply, len(body), body)
        return b"HPUB %s%s %d %d\r\n%s%s\r\n" % (
            subject, reply, len(header), len(header) + len(body), header, body)

    def answer(self, number, deadline_s=PATIENCE_S):
        """The answer as a dict."""
        end = time.monotonic() + deadline_s
        while number not in self.answers:
            if not self.read(end):
                raise Mismatch("an answer to publication %d%s" % (number, " (closed)" if self.is_closed else ""))
        return self.answers[number]

    def ask(self, event_type, body, **more):
        return self.answer(self.publish(event_type, body, **more))

    def flush(self):
        wanted = self.pongs + 1
        self.send(b"PING\r\n")
        end = time.monotonic() + PATIENCE_S
        while self.pongs < wanted:
            if not self.read(end):
                raise Mismatch("PONG", None, self.errors)

    def fill(self, end):
        left = end - time.monotonic()
        if left <= 0 or self.is_closed:
            return False
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(1 << 18)
        except (socket.timeout, ssl.SSLWantReadError):
            return False
        except (ConnectionError, ssl.SSLError):
            data = b""
        self.is_closed = not data
        self.buffer += data
        return bool(data)

    def read_line(self):
        end = time.monotonic() + PATIENCE_S
        while b"\r\n" not in self.buffer:
            if not self.fill(end):
                raise Mismatch("a line")
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def read(self, end):
        """Handles what is there, else waits for more; False at the deadline or the end of the stream."""
        if self.handle_one():
            return True
        if not self.fill(end):
            return False
        while self.handle_one():
            pass
        return True

    def handle_one(self):
        line, found, rest = self.buffer.partition(b"\r\n")
        if not found:
            return False
        words = line.split()
        if words[:1] in ([b"MSG"], [b"HMSG"]):
            size = int(words[-1])
            if len(rest) < size + 2:
                return False
            header = int(words[-2]) if words[0] == b"HMSG" else 0
            number = int(words[1].rsplit(b".", 1)[1])
            body = rest[header:size]
            require(number not in self.answers, "one answer only to publication %d" % number)
            self.answers[number] = json.loads(body) if body else {"status": rest[:header].decode()}
            rest = rest[size + 2:]
        elif line == b"PING":
            self.send(b"PONG\r\n")
        elif line == b"PONG":
            self.pongs += 1
        elif line.startswith(b"-ERR"):
            self.errors.append(line.decode())
        self.buffer = rest
        return True


# --- workers ------------------------------------------------------------------------------------


class Worker:
    """One worker process (tests/support/grpc_worker.py) on a port of its own that it keeps over restarts."""

    def __init__(self, folder, name):
        # Bound and not listening, also while the worker listens: nobody else gets the port while it is down.
        self.holder, self.port = hold_port()
        self.record = os.path.join(folder, name + ".record")
        self.process = None

    def start(self, *options, plain=True):
        command = ["/usr/bin/python3", os.path.join(HERE, "grpc_worker.py"), "--port", str(self.port),
                   "--record", self.record, "--record-event", *options]
        if plain:
            command.append("--plain")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        require_equal(self.process.stdout.readline(), "listening %d\n" % self.port, "the worker listens")
        return self

    def wait_end(self, deadline_s=PATIENCE_S):
        """Waits until the worker has died by itself."""
        self.process.wait(deadline_s)
        self.stop()

    def stop(self, kill=False):
        if self.process is not None:
            if kill:
                self.process.kill()
            else:
                self.process.terminate()
            self.process.wait(PATIENCE_S)
            self.process.stdout.close()
            self.process = None

    def calls(self):
        """All recorded calls so far, in order. A call whose worker was killed in the middle of its line is left out."""
        text = ""
        with contextlib.suppress(FileNotFoundError), open(self.record) as file:
            text = file.read()
        # Read at one go: by lines, the rest of one that was being written would come as a line of its own.
        lines = text[: text.rfind("\n") + 1].splitlines()
        return [json.loads('{"call"' + line.rpartition('{"call"')[2]) for line in lines]

    def wait_calls(self, count, deadline_s=PATIENCE_S):
        wait_until(lambda: len(self.calls()) >= count, "%d calls at the worker" % count, deadline_s)
        return self.calls()

    def wait_ids(self, wanted, deadline_s=PATIENCE_S):
        """Waits until each of these events was taken (answered OK); returns the calls."""
        wanted = set(wanted)

        def is_complete():
            return wanted <= {call["id"] for call in self.calls() if call["answer"] == "OK"}

        try:
            wait_until(is_complete, "%d events at the worker" % len(wanted), deadline_s)
        except Mismatch:
            got = {call["id"] for call in self.calls() if call["answer"] == "OK"}
            raise Mismatch("events at the worker", sorted(wanted)[:20], sorted(wanted - got)[:20]) from None
        return self.calls()


# --- the server ---------------------------------------------------------------------------------


class EventService(Ours):
    def ports_of(self, settings):
        return super().ports_of(settings) + (["grpc"] if "grpc" in settings else [])


class Bench:
    """event-service, workers and clients of one case."""

    def __init__(self, program, folder, certs, settings=None):
        os.makedirs(folder)
        self.program, self.folder, self.certs, self.settings = program, folder, certs, settings or {}
        self.server = None
        self.closing = contextlib.ExitStack()
        self.is_ended = False

    def worker(self, name="worker", *options, **more):
        """A worker that is started with these options; none: it is down."""
        worker = Worker(self.folder, name)
        self.closing.callback(worker.holder.close)
        self.closing.callback(worker.stop)
        if options:
            worker.start(*options, **more)
        return worker

    def start(self, handlers, **settings):
        """Starts the server. handlers: name -> worker, or a map of settings with "worker" in it."""
        rows = {}
        for name, row in handlers.items():
            row = dict(row) if isinstance(row, dict) else {"worker": row}
            worker = row.pop("worker")
            row["address"] = "%s://%s:%d" % (row.pop("scheme", "grpc"), HOST, worker.port)
            rows[name] = row
        base = merge(merge(Ours.base, self.settings), {"handlers": rows, "grpc": {}})
        self.server = Server(EventService(self.program), merge(base, settings), self.folder)
        return self.server

    def client(self, **more):
        client = Client(self.server.port, **more)
        self.closing.callback(client.close)
        return client

    @property
    def grpc_port(self):
        return self.server.full["grpc"]["port"]

    def channel(self, credentials=None, name=None):
        address = "%s:%d" % (HOST, self.grpc_port)
        # A connection of its own: by default channels to one address share one.
        extra = (("grpc.use_local_subchannel_pool", 1),)
        extra += (("grpc.ssl_target_name_override", name),) if name else ()
        channel = (grpc.secure_channel(address, credentials, options=extra) if credentials
                   else grpc.insecure_channel(address, options=extra))
        self.closing.callback(channel.close)
        return channel

    def report(self):
        return self.server.http_json("/eventz")["events"]

    def handler(self, name):
        return next(row for row in self.report()["handlers"] if row["name"] == name)

    def where(self, event_id):
        return self.server.http_json("/eventz?id=" + event_id)["event"]

    def wait_connected(self, *names):
        for name in names:
            wait_until(lambda: self.handler(name)["state"] == "connected", name + " is connected", PATIENCE_S)

    def wait_log(self, text, count=1):
        wait_until(lambda: self.server.log_text().count(text) >= count, "the log says %r" % text, PATIENCE_S)

    def end(self):
        """The server must end well; a second call does nothing."""
        if self.is_ended:
            return
        self.is_ended = True
        if self.server is not None:
            status = self.server.stop()
            if status != 0:
                raise Mismatch("ended with status %s" % status, "0", self.server.log_text()[-3000:])
        self.closing.close()

    def abandon(self):
        self.closing.close()
        if self.server is not None:
            self.server.stop()


def call(channel, method, message=b"", timeout=PATIENCE_S):
    """(status name, answer bytes or details)"""
    try:
        return "OK", channel.unary_unary(EVENT_SERVICE + method)(message, timeout=timeout)
    except grpc.RpcError as error:
        return error.code().name, error.details()
