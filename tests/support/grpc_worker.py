#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker service for tests and demonstrations: takes HandleEvent calls over gRPC and records each as a JSON line.

Prints "listening PORT" once it serves. Stops cleanly on SIGTERM and SIGINT. Needs python3-grpcio only: an event's ID and
type are read from the wire format by hand, so nothing has to be generated.

A line of the record:
  {"call": 3, "service": "cfgingest", "method": "/...", "id": "...", "type": "...", "attempt": 2, "bytes": 123,
   "sha256": "...", "peer_cn": "event-service", "peer": "ipv4:127.0.0.1:4711", "time": 1700000000.5, "answer": "OK"}
"call" counts all calls, "attempt" the calls with this event's ID. The line is written before the answer is sent.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import signal
import sys
import threading
import time

import grpc

STOP_S = 10  # calls in flight are cut off after one second; the rest is patience with the library
SERVICES = {
    "feed": ("chef.automate.domain.compliance.ingest.ingest.ComplianceIngesterService", None),
    "cfgingest": (
        "chef.automate.domain.ingest.EventHandlerService",
        "chef.automate.domain.ingest.EventHandler",
    ),
    "event_feed": ("chef.automate.domain.event_feed.api.EventFeedService", None),
}


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data):
    """Yields (number, content) of the length-delimited fields of a message."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        kind = tag & 7
        if kind == 0:
            _, at = read_varint(data, at)
        elif kind == 1:
            at += 8
        elif kind == 5:
            at += 4
        elif kind == 2:
            size, at = read_varint(data, at)
            if at + size > len(data):
                raise ValueError("cut")
            yield tag >> 3, data[at : at + size]
            at += size
        else:
            raise ValueError("wire type %d" % kind)


def id_and_type(event):
    found = {1: b"", 2: b""}
    for number, content in fields(event):
        if number in found:
            found[number] = content
    names = [content for number, content in fields(found[2]) if number == 1]
    return found[1].decode(), (names[-1] if names else b"").decode()


def status_code(text):
    for code in grpc.StatusCode:
        if text.upper() == code.name or text == str(code.value[0]):
            return code
    raise argparse.ArgumentTypeError("%r is no gRPC status; allowed: %s" % (
        text, ", ".join(code.name for code in grpc.StatusCode)))


class Worker:
    def __init__(self, options):
        self.options = options
        self.lock = threading.Lock()
        self.calls = 0
        self.attempts = {}
        self.record = open(options.record, "a", buffering=1) if options.record else None

    def choose_status(self, call, attempt):
        """The status of this call, and None for success."""
        options = self.options
        failure = options.status or grpc.StatusCode.UNAVAILABLE
        if options.fail_first or options.fail_first_each:
            if call <= options.fail_first or attempt <= options.fail_first_each:
                return failure
            return None
        return options.status if options.status != grpc.StatusCode.OK else None

    def note(self, event, service, method, context):
        """Records the call and decides its answer, in one step, so that the order of the lines is the order of both."""
        try:
            event_id, event_type = id_and_type(event)
        except (ValueError, IndexError, UnicodeDecodeError):
            event_id, event_type = "", ""
        names = context.auth_context().get("x509_common_name", [])
        with self.lock:
            self.calls += 1
            attempt = self.attempts[event_id] = self.attempts.get(event_id, 0) + 1
            status = self.choose_status(self.calls, attempt)
            line = {
                "call": self.calls,
                "service": service,
                "method": method,
                "id": event_id,
                "type": event_type,
                "attempt": attempt,
                "bytes": len(event),
                "sha256": hashlib.sha256(event).hexdigest(),
                "peer_cn": names[0].decode() if names else None,
                "peer": context.peer(),
                "time": time.time(),
                "answer": status.name if status else "OK",
            }
            if self.options.record_event:
                line["event"] = event.hex()
            if self.record:
                self.record.write(json.dumps(line) + "\n")
            self.show(line)
            if event_id == self.options.crash_on:
                os.kill(os.getpid(), signal.SIGKILL)
        return status

    def show(self, line):
        if self.options.human:
            answer = "" if line["answer"] == "OK" else "  -> " + line["answer"]
            again = "" if line["attempt"] == 1 else "  (attempt %d)" % line["attempt"]
            clock = time.strftime("%H:%M:%S", time.localtime(line["time"]))
            # An ID or type is a publisher's text: nothing of it may steer the terminal.
            texts = [json.dumps(line[key])[1:-1] for key in ("type", "id")]
            print("%s  %-10s  %-20s  %s%s%s" % (clock, line["service"], *texts, again, answer),
                  flush=True)
        elif self.options.print:
            print(json.dumps(line), flush=True)

    def handler(self, service, method):
        def handle(event, context):
            status = self.note(event, service, method, context)
            if self.options.delay:
                time.sleep(self.options.delay / 1000)
            if status:
                context.abort(status, "as the test wants it")
            if self.options.garbage:
                return b"\xff\xfe<html>this is no EventResponse</html>"
            return b"\x08\x01" if self.options.success else b""

        # Without serializers gRPC gives and takes the bytes.
        return grpc.unary_unary_rpc_method_handler(handle)

    def add_to(self, server):
        for service in self.options.service:
            name, older = SERVICES[service]
            names = [older] if self.options.unimplemented_new_name else [name]
            if None in names:
                raise SystemExit("%s has no older name: only cfgingest has" % service)
            for served in names:
                method = "/%s/HandleEvent" % served
                handlers = {"HandleEvent": self.handler(service, method)}
                server.add_generic_rpc_handlers(
                    (grpc.method_handlers_generic_handler(served, handlers),))


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--service", action="append", choices=sorted(SERVICES), required=True,
                        help="what to serve; may be given several times")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--cert", help="the worker's certificate (PEM)")
    parser.add_argument("--key", help="its key")
    parser.add_argument("--ca", help="who signs clients' certificates; a client must show one")
    parser.add_argument("--plain", action="store_true", help="no TLS")
    parser.add_argument("--record", help="append a JSON line for each call to this file")
    parser.add_argument("--record-event", action="store_true", help="with the event's bytes in hex")
    parser.add_argument("--print", action="store_true", help="the same lines to standard output")
    parser.add_argument("--human", action="store_true", help="lines for people instead")
    parser.add_argument("--threads", type=int, default=16, help="calls handled at a time")
    parser.add_argument("--streams", type=int, default=0, metavar="N",
                        help="calls that a client may have open at once; 0: any number")
    parser.add_argument("--fail-first", type=int, default=0, metavar="N",
                        help="fail the first N calls with UNAVAILABLE, or with --status")
    parser.add_argument("--fail-first-each", type=int, default=0, metavar="N",
                        help="fail the first N attempts of each event likewise")
    parser.add_argument("--status", type=status_code, help="fail all calls with this status")
    parser.add_argument("--delay", type=int, default=0, metavar="MS", help="before each answer")
    parser.add_argument("--success", type=lambda text: text == "true", default=True,
                        metavar="true|false", help="what EventResponse says")
    parser.add_argument("--unimplemented-new-name", action="store_true",
                        help="serve only the name before 2020 (cfgingest)")
    parser.add_argument("--crash-on", metavar="ID", help="die by SIGKILL when this event comes")
    parser.add_argument("--garbage", action="store_true", help="answer bytes that are no message")
    options = parser.parse_args()
    if not options.plain and not (options.cert and options.key and options.ca):
        parser.error("give --cert, --key and --ca, or --plain")
    return options


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


def main():
    options = parse_options()
    # Blocked before any thread is made, and waited for below: a handler that sets an event which the same thread waits
    # for would now and then meet the event's own lock, and hang for ever.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(options.threads),
        # Two workers on one port would each get a part of the calls: a test could not tell.
        options=(("grpc.so_reuseport", 0),)
        + ((("grpc.max_concurrent_streams", options.streams),) if options.streams else ()))
    Worker(options).add_to(server)
    address = "%s:%d" % (options.host, options.port)
    if options.plain:
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, grpc.ssl_server_credentials(
            [(read_file(options.key), read_file(options.cert))],
            root_certificates=read_file(options.ca), require_client_auth=True))
    if port == 0:
        sys.exit("cannot listen on %s" % address)
    server.start()
    print("listening %d" % port, flush=True)
    signal.sigwait(ends)
    server.stop(1).wait(STOP_S)


if __name__ == "__main__":
    main()
