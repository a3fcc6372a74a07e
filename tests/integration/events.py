#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Events from publishers to workers: what is accepted arrives, what cannot be taken is said so, whatever fails between.

  events.py --build build/release
  events.py --program build/asan/bin/event-service --only full_hold,restart

Goal: each event that a publisher was told is accepted is delivered to its worker at least once, or stands in the dead
letters, or is counted in the log when the server stops; each that is not was answered with a reason; a worker's trouble
stays its own.
Method: event-service with real gRPC workers, raw NATS publishers, gRPC publishers and, in one case, a nats-server behind
a gateway; workers are stopped, slowed and made to fail; the workers' records and /eventz are compared with the answers.
"""
import argparse
import functools
import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "support"))
sys.path.insert(0, os.path.join(HERE, "..", "conformance"))
sys.dont_write_bytecode = True

import grpc  # noqa: E402
from case_pool import attempt, chosen, conclude, run_jobs, scratch_folder  # noqa: E402
from event_case import (  # noqa: E402
    HANDLER_OF,
    HOST,
    PATIENCE_S,
    Bench,
    call,
    event,
    field,
    publish_request,
    varint,
)
from support import (  # noqa: E402
    Certificates,
    Mismatch,
    NatsServer,
    Server,
    require,
    require_equal,
    stop_on_signal,
    wait_until,
)

ALL = ("--service", "feed", "--service", "cfgingest", "--service", "event_feed")
FEED = ("--service", "feed")
TYPE = "compliance_ingest"  # what goes to `feed`
QUICK = {"attempts_max": 4, "delay": "50ms", "delay_max": "2s"}
OK = b"\x08\x01"


def json_event(event_id, event_type=None):
    body = {"EventID": event_id}
    if event_type:
        body["Type"] = {"Name": event_type}
    return json.dumps(body).encode()


def publish_all(client, event_type, ids):
    """Publishes pipelined; every event must be accepted."""
    numbers = {}
    for event_id in ids:
        numbers[event_id] = client.publish(event_type, event(event_id))
    for event_id, number in numbers.items():
        answer = client.answer(number)
        require_equal(answer, {"success": True, "id": event_id}, "the answer")


def wait_settled(bench):
    """No event is open any more."""
    wait_until(lambda: bench.report()["queue"]["events"] == 0, "the queue is empty", PATIENCE_S)


# --- what arrives -------------------------------------------------------------------------------


def case_every_type(bench):
    """Each known type reaches its worker, as protobuf (byte for byte, unknown fields too) and as JSON."""
    worker = bench.worker("worker", *ALL)
    bench.start({"feed": worker, "cfgingest": worker, "event_feed": worker})
    client = bench.client()
    more = field(7, b"create") + field(10, field(1, field(1, b"k") + field(2, field(3, b"v")))) + field(99, b"unknown")
    sent = {}
    for event_type in HANDLER_OF:
        body = event("p-" + event_type, event_type, more)
        sent["p-" + event_type] = body
        require_equal(client.ask(event_type, body), {"success": True, "id": "p-" + event_type}, event_type)
        answer = client.ask(event_type, json_event("j-" + event_type, event_type))
        require_equal(answer, {"success": True, "id": "j-" + event_type}, event_type + " as JSON")
    ids = [form + event_type for event_type in HANDLER_OF for form in ("p-", "j-")]
    calls = {line["id"]: line for line in worker.wait_ids(ids)}
    require_equal(len(worker.calls()), 2 * len(HANDLER_OF), "each once")
    for event_type, handler in HANDLER_OF.items():
        for form in ("p-", "j-"):
            line = calls[form + event_type]
            require_equal((line["service"], line["type"]), (handler, event_type), form + event_type)
        require_equal(calls["p-" + event_type]["event"], sent["p-" + event_type].hex(), "the bytes of " + event_type)
        require_equal(calls["j-" + event_type]["event"], event("j-" + event_type, event_type).hex(), "from JSON")
    wait_settled(bench)
    where = bench.where("p-cfgingest")
    require_equal((where["state"], where["received_by"], where["type"]), ("finished", "nats", "cfgingest"), "/eventz")
    entry = where["handlers"][0]
    require_equal((entry["handler"], entry["state"], entry["attempts"], entry["answer"]),
                  ("cfgingest", "delivered", 1, "OK"), "the way of an event")
    require("delivered" in entry and "accepted" in where, "its times")


def case_completed(bench):
    """A missing ID is made up and told, a missing type is the subject's; headers and CloudEvent-like text do no harm."""
    worker = bench.worker("worker", *FEED)
    bench.start({"feed": worker})
    client = bench.client()
    ids = set()
    for body in (b"{}", json_event(""), event("", TYPE), field(7, b"verb"), event("", None)):
        answer = client.ask(TYPE, body)
        require_equal((answer["success"], len(answer["id"])), (True, 36), "an ID for %r" % body)
        ids.add(answer["id"])
    require_equal(len(ids), 5, "all different")
    header = b"NATS/1.0\r\nA: b\r\nContent-Type: application/json\r\n\r\n"
    require_equal(client.ask(TYPE, json_event("with-header"), header=header)["id"], "with-header", "HPUB")
    calls = worker.wait_ids(ids | {"with-header"})
    require_equal({line["type"] for line in calls}, {TYPE}, "the type")


def case_sizes(bench):
    """Bodies of every size arrive unchanged, also many large ones in one go: around the bounds of blocks and batches."""
    worker = bench.worker("worker", *FEED)
    bench.start({"feed": worker})
    client = bench.client()
    bodies = {}
    sizes = [0, 1, 100, 8000, 8190, 8191, 8192, 8193, 8300, 16384, 65400, 65535, 65536, 65537, 70000, 200000, 1048000]
    for size in sizes + 40 * [9000] + 20 * [100, 9000]:
        name = "s%d-%d" % (len(bodies), size)
        bodies[name] = event(name, TYPE, field(50, bytes(index * 7 % 251 for index in range(size % 977)) * (size // 977 + 1)))
    numbers = {name: None for name in bodies}
    out = b""
    for name, body in bodies.items():
        if len(body) < 1 << 20:
            out += client.line(TYPE, body)
            numbers[name] = client.next
    client.send(out)
    for name, number in numbers.items():
        require_equal(client.answer(number), {"success": True, "id": name}, name)
    for line in worker.wait_ids(bodies):
        require_equal(line["sha256"], hashlib.sha256(bodies[line["id"]]).hexdigest(), "the bytes of " + line["id"])


def case_many(bench):
    """Thousands of events from several publishers, with and without answers: none is lost, none comes twice."""
    worker = bench.worker("worker", *FEED)
    bench.start({"feed": {"worker": worker, "in_flight_max": 64}}, service={"event_limit": 100000})
    bench.wait_connected("feed")
    counts = {"answered": 400, "silent": 400}
    clients = [bench.client() for _ in range(4)]
    failures = []

    def publish(index):
        try:
            client = clients[index]
            publish_all(client, TYPE, ["a%d-%d" % (index, i) for i in range(counts["answered"])])
            out = b"".join(client.line(TYPE, event("s%d-%d" % (index, i)), wants_answer=False)
                           for i in range(counts["silent"]))
            client.send(out)
            client.flush()
        except Exception as fault:  # told by the main thread
            failures.append(fault)

    threads = [threading.Thread(target=publish, args=(i,)) for i in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    require(not failures, "publishers", None, failures)
    wanted = {"%s%d-%d" % (kind[0], index, i) for kind in counts for index in range(4) for i in range(counts[kind])}
    calls = worker.wait_ids(wanted, 2 * PATIENCE_S)
    require_equal(len(calls), len(wanted), "each once")
    wait_settled(bench)
    require_equal(bench.handler("feed")["delivered"], len(wanted), "/eventz")


def case_window(bench):
    """No more calls are in flight than in_flight_max says."""
    worker = bench.worker("worker", *FEED, "--delay", "150")
    bench.start({"feed": {"worker": worker, "in_flight_max": 3}})
    bench.wait_connected("feed")
    client = bench.client()
    began = time.time()
    publish_all(client, TYPE, ["w%d" % i for i in range(12)])
    times = sorted(line["time"] for line in worker.wait_calls(12))
    for at in range(3, 12):
        require(times[at] - times[at - 3] >= 0.145, "three calls at a time", None, [t - began for t in times])


# --- what is refused ----------------------------------------------------------------------------


def deep_json(depth):
    return b'{"EventID":"x","data":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"


def case_malformed(bench):
    """What is no event of its subject's type is answered with a reason, and nothing of it reaches a worker."""
    worker = bench.worker("worker", *ALL)
    bench.start({"feed": worker, "cfgingest": worker, "event_feed": worker})
    client = bench.client()
    bad = {
        "empty": b"",
        "text": b"hello",
        "cut": event("x", TYPE)[:-1],
        "json cut": b'{"EventID":"x"',
        "json array": b' [1]',
        "json number": b'{"EventID":1}',
        "json twice": b'{"EventID":"a","EventID":"b"}',
        "json unknown": b'{"Nonsense":1}',
        "not utf-8": field(1, b"\xff\xfe"),
        "long id": event("i" * 300, TYPE),
        "control in id": event("a\nb", TYPE),
        "other type": event("x", "nodeTerminated"),
        "other type in json": json_event("x", "nodeTerminated"),
        "deep json": deep_json(200),
        "group": b"\x0b\x0c",
        "huge length": b"\x0a" + varint(1 << 60),
    }
    for what, body in bad.items():
        answer = client.ask(TYPE, body)
        require_equal((answer["success"], answer["error"]), (False, "malformed"), what)
        require(len(answer["detail"]) > 5, "a reason for " + what, None, answer)
    require("nodeTerminated" in client.ask(TYPE, bad["other type"])["detail"], "the reason names the type")
    client.publish(TYPE, b"hello", wants_answer=False)
    require_equal(client.ask(TYPE, event("good")), {"success": True, "id": "good"}, "the next one")
    worker.wait_ids(["good"])
    require_equal(len(worker.calls()), 1, "calls at the worker")
    report = bench.report()["queue"]
    require_equal(report["refused"]["malformed"], len(bad) + 2, "/eventz counts")
    bench.wait_log("LOG_EVENT_REFUSED")


def case_own_reply(bench):
    """An answer never becomes an event: a reply subject of the queue's own, or with a wildcard, gets none."""
    worker = bench.worker("worker", *FEED)
    bench.start({"feed": worker})
    client = bench.client()
    client.send(b"PUB event.%s event.%s 2\r\n{}\r\n" % (TYPE.encode(), TYPE.encode()))
    client.send(b"PUB event.%s a.* 2\r\n{}\r\n" % TYPE.encode())
    require(client.ask(TYPE, event("last"))["success"], "still there")
    worker.wait_calls(3)
    report = bench.report()["queue"]
    require_equal((report["accepted"], report["refused"]["malformed"]), (3, 0), "/eventz")


def case_unrouted(bench):
    """A type without a handler, or whose handler has no address, goes to the dead letters: answered so, warned of once."""
    worker = bench.worker("worker", *FEED)
    bench.start({"feed": worker}, events={"registry": {"both": ["feed", "nobody"]}})
    client = bench.client()
    bench.wait_log("LOG_HANDLER_MISSING", 3)
    for _ in range(3):
        answer = client.ask("strange", b"{}")
        require_equal((answer["success"], answer["dead_letter"]), (True, True), "not routed")
    answer = client.ask("nodeTerminated", event("n1"))
    require_equal(answer, {"success": True, "id": "n1", "dead_letter": True}, "no address")
    require_equal(client.ask("both", event("b1")), {"success": True, "id": "b1"}, "one of two")
    worker.wait_ids(["b1"])
    require_equal(bench.server.log_text().count('type="strange"'), 1, "warnings")
    letters = bench.report()["dead_letters"]
    require_equal((letters["count"], [row["handler"] for row in letters["letters"]]),
                  (5, ["nobody", "cfgingest", "", "", ""]), "dead letters, the newest first")
    require_equal(bench.where("n1")["state"], "dead letter", "/eventz?id=")
    page = bench.server.http_json("/eventz?offset=1&limit=2")["events"]["dead_letters"]["letters"]
    require_equal([row["number"] for row in page], [4, 3], "a page of them")
    require_equal(bench.server.http("/eventz?id=unheard-of")[0], 404, "an event that nobody knows")


def case_registry(bench):
    """The configured registry decides: patterns, several handlers, a handler of the user's own."""
    feed = bench.worker("feed", *FEED)
    own = bench.worker("own", "--service", "cfgingest")
    registry = {"order.*": ["own"], "order.paid": ["feed"], "scanJob*": ["feed"]}
    bench.start({"feed": feed, "own": own}, events={"registry": registry, "subject_prefix": "evt.v1."})
    client = bench.client()
    for event_type, event_id in (("order.paid", "r1"), ("order.sent", "r2"), ("scanJobCreated", "r3")):
        require(client.ask(event_type, event(event_id), subject="evt.v1." + event_type)["success"], event_type)
    feed.wait_ids(["r1", "r3"])
    own.wait_ids(["r1", "r2"])
    entries = bench.where("r1")["handlers"]
    require_equal(sorted(entry["handler"] for entry in entries), ["feed", "own"], "both")


# --- a full queue -------------------------------------------------------------------------------


def case_full_reject(bench):
    """A dead worker fills its own share, then its types are refused, others go on; all are delivered when it is back."""
    feed = bench.worker("feed")
    other = bench.worker("other", "--service", "event_feed", "--service", "cfgingest")
    bench.start({"feed": feed, "event_feed": other, "cfgingest": other}, service={"event_limit": 8})
    client = bench.client()
    publish_all(client, TYPE, ["f%d" % i for i in range(4)])
    answer = client.ask(TYPE, event("f4"))
    require_equal((answer["success"], answer["error"]), (False, "full"), "the fifth")
    require("feed" in answer["detail"] and "4" in answer["detail"], "whose share", None, answer)
    for i in range(20):
        require(client.ask("event_feed", event("o%d" % i))["success"], "another type")
        other.wait_ids(["o%d" % i])
        wait_until(lambda: bench.report()["queue"]["events"] == 4, "delivered")
    status, detail = call(bench.channel(), "Publish", publish_request(event("f5", TYPE)))
    require_equal(status, "RESOURCE_EXHAUSTED", "by gRPC")
    require("feed" in detail, "whose share", None, detail)
    report = bench.report()
    require_equal((report["queue"]["refused"]["full"], bench.handler("feed")["queued"]), (2, 4), "/eventz")
    feed.start(*FEED)
    calls = feed.wait_ids(["f%d" % i for i in range(4)])
    require_equal(len(calls), 4, "what was refused is not delivered")


def case_full_events(bench):
    """The limit of all events together is kept too."""
    dead = [bench.worker("dead%d" % i) for i in range(3)]
    bench.start({"feed": dead[0], "event_feed": dead[1], "cfgingest": dead[2]}, service={"event_limit": 8},
                queue={"drain_timeout": 0})
    client = bench.client()
    publish_all(client, TYPE, ["f%d" % i for i in range(4)])
    publish_all(client, "event_feed", ["e%d" % i for i in range(4)])
    answer = client.ask("cfgingest", event("c0"))
    require_equal((answer["error"], "8" in answer["detail"]), ("full", True), "the ninth")
    bench.server.stop()
    require("queued=8" in bench.server.log_text(), "what is lost is said", None, bench.server.log_text()[-600:])


def case_full_hold(bench):
    """hold: publishers wait, in order, until there is room; others go past them; nobody waits for ever."""
    feed = bench.worker("feed")
    other = bench.worker("other", "--service", "event_feed")
    bench.start({"feed": {"worker": feed, "in_flight_max": 1}, "event_feed": other},
                service={"event_limit": 8}, queue={"when_full": "hold", "hold_timeout": "60s"})
    client = bench.client()
    publish_all(client, TYPE, ["h%d" % i for i in range(4)])
    held = [client.publish(TYPE, event("h%d" % i)) for i in range(4, 10)]
    channel = bench.channel()
    by_grpc = channel.unary_unary("/chef.automate.domain.event.api.EventService/Publish").future(
        publish_request(event("g0", TYPE)), timeout=2 * PATIENCE_S)
    require(client.ask("event_feed", event("past"))["success"], "another type goes past")
    other.wait_ids(["past"])
    wait_until(lambda: bench.report()["queue"]["held"] == 7, "seven are held")
    require(not set(held) & set(client.answers), "no answer before there is room")
    feed.start(*FEED)
    for at, number in enumerate(held):
        require_equal(client.answer(number), {"success": True, "id": "h%d" % (at + 4)}, "a held one")
    require_equal(by_grpc.result(), OK, "the one by gRPC")
    calls = feed.wait_ids(["h%d" % i for i in range(10)] + ["g0"])
    order = [line["id"] for line in calls if line["id"] != "g0"]
    require_equal(order, ["h%d" % i for i in range(10)], "the order")
    require_equal(bench.report()["queue"]["held"], 0, "held")


def case_hold_timeout(bench):
    """hold ends: after hold_timeout the publisher is told, not before; a client that left does no harm."""
    dead = bench.worker("dead")
    bench.start({"feed": dead}, service={"event_limit": 2},
                queue={"when_full": "hold", "hold_timeout": "400ms", "drain_timeout": 0})
    client = bench.client()
    publish_all(client, TYPE, ["t0"])
    began = time.monotonic()
    number = client.publish(TYPE, event("t1"))
    leaver = bench.client()
    leaver.publish(TYPE, event("t2"))
    leaver.flush()
    leaver.close()
    status, detail = call(bench.channel(), "Publish", publish_request(event("t3", TYPE)))
    require_equal((status, "400 ms" in detail), ("RESOURCE_EXHAUSTED", True), "by gRPC: " + detail)
    answer = client.answer(number)
    require_equal((answer["success"], answer["error"]), (False, "full"), "after the time")
    require(time.monotonic() - began >= 0.39, "not before")
    wait_until(lambda: bench.report()["queue"]["refused"]["full"] == 3, "three were refused")


def case_swamped(bench):
    """Events that come faster than they can be read are refused unread: each one is answered, and memory is bounded."""
    worker = bench.worker("worker", *FEED)
    bench.start({"feed": {"worker": worker, "in_flight_max": 64}},
                limits={"max_payload": "16KiB", "max_pending": "16KiB"})
    bench.wait_connected("feed")
    clients = [bench.client() for _ in range(6)]
    results, failures = [], []

    def publish(index):
        try:
            client = clients[index]
            body = event("x%d" % index, TYPE, field(50, bytes(12000)))
            for _ in range(40):
                client.send(b"".join(client.line(TYPE, body) for _ in range(5)))
                results.extend(client.answer(number) for number in range(client.next - 4, client.next + 1))
        except Exception as fault:  # told by the main thread
            failures.append(fault)

    threads = [threading.Thread(target=publish, args=(i,)) for i in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    require(not failures, "publishers", None, failures)
    require_equal(len(results), 6 * 200, "answers")
    accepted = sum(1 for answer in results if answer["success"])
    require({answer["error"] for answer in results if not answer["success"]} <= {"full"}, "refusals")
    wait_settled(bench)
    require_equal(bench.handler("feed")["delivered"], accepted, "what was accepted is delivered")
    require_equal(bench.report()["queue"]["refused"]["full"], len(results) - accepted, "the rest is counted")
    require(0 < accepted < len(results), "some get in, some do not", None, accepted)


# --- workers in trouble -------------------------------------------------------------------------


def case_answer_first(bench):
    """The publisher is answered when its event is accepted, not when a worker has it."""
    dead = bench.worker("dead")
    bench.start({"feed": dead})
    client = bench.client()
    require_equal(client.ask(TYPE, event("a1")), {"success": True, "id": "a1"}, "the answer")
    entry = bench.where("a1")["handlers"][0]
    require_equal((entry["state"], entry["attempts"]), ("queued", 0), "where it is")
    bench.wait_log("LOG_WORKER_DOWN")
    require(bench.handler("feed")["state"] in ("down", "connecting"), "its handler")
    dead.start(*FEED)
    dead.wait_ids(["a1"])


def case_restart(bench):
    """Workers come and go, in order and killed, under load: every accepted event is delivered, the rest is not touched."""
    # Two streams at once: most of the window waits in the handler, and must come back when the worker is lost.
    options = (*FEED, "--delay", "5", "--streams", "2")
    worker = bench.worker("worker", *options)
    steady = bench.worker("steady", "--service", "event_feed")
    bench.start({"feed": worker, "event_feed": steady}, service={"event_limit": 20000})
    client = bench.client()
    ids, done = [], threading.Event()
    failures = []

    def publish():
        try:
            while not done.is_set():
                batch = ["r%d" % (len(ids) + i) for i in range(20)]
                publish_all(client, TYPE, batch)
                ids.extend(batch)
                publish_all(client, "event_feed", ["s" + name for name in batch])
                done.wait(0.05)  # the load's rate, about what the worker can take; not a wait for anything
        except Exception as fault:
            failures.append(fault)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for kill in (True, False, True):
            worker.wait_calls(len(worker.calls()) + 40)
            worker.stop(kill=kill)
            count = len(steady.calls())
            steady.wait_calls(count + 20)
            worker.start(*options)
    finally:
        done.set()
        thread.join()
    require(not failures, "the publisher", None, failures)
    calls = worker.wait_ids(ids, 2 * PATIENCE_S)
    steady.wait_ids(["s" + name for name in ids], 2 * PATIENCE_S)
    require_equal(len(steady.calls()), len(ids), "each once where nothing failed")
    twice = len(calls) - len(ids)
    require(twice <= 3 * 16, "only what was in flight may come twice", None, twice)
    wait_settled(bench)
    require_equal(bench.report()["dead_letters"]["count"], 0, "dead letters")


def case_wake(bench):
    """What was lost with a worker is not left to long delays once the worker is back."""
    worker = bench.worker("worker", *FEED, "--delay", "60000")
    bench.start({"feed": {"worker": worker, "retry": {"delay": "10m", "delay_max": "10m"}, "timeout": "10m"}})
    client = bench.client()
    ids = ["w%d" % i for i in range(16)]
    publish_all(client, TYPE, ids)
    worker.wait_calls(16)
    worker.stop(kill=True)
    wait_until(lambda: bench.handler("feed")["retrying"] == 16, "all wait for a retry", PATIENCE_S)
    worker.start(*FEED)
    worker.wait_calls(32)
    wait_settled(bench)
    require_equal(bench.report()["dead_letters"]["count"], 0, "dead letters")


def case_retries(bench):
    """A failing call is tried again, later each time at most, then the event is a dead letter; others pass it."""
    worker = bench.worker("worker", *FEED, "--status", "INTERNAL")
    bench.start({"feed": {"worker": worker, "retry": QUICK}})
    client = bench.client()
    require(client.ask(TYPE, event("d1"))["success"], "accepted")
    calls = worker.wait_calls(4)
    wait_until(lambda: bench.report()["dead_letters"]["count"] == 1, "a dead letter", PATIENCE_S)
    times = [line["time"] for line in calls]
    for at in range(3):
        ceiling = 0.05 * 2**at
        require(times[at + 1] - times[at] <= ceiling + 1.0, "delay %d" % at, ceiling, times)
    letter = bench.report()["dead_letters"]["letters"][0]
    require_equal((letter["id"], letter["type"], letter["handler"], letter["attempts"], letter["number"]),
                  ("d1", TYPE, "feed", 4, 1), "the letter")
    require("INTERNAL" in letter["reason"] and "as the test wants it" in letter["reason"], "its reason", None, letter)
    entry = bench.where("d1")["handlers"][0]
    require_equal((entry["state"], entry["attempts"]), ("dead", 4), "/eventz?id=")
    bench.wait_log("LOG_EVENT_DEAD")
    require_equal(len(worker.calls()), 4, "no further attempt")
    require_equal(bench.handler("feed")["failed"], 4, "attempts that failed")


def case_slower_each_time(bench):
    """The delays grow: the last of several retries has waited longer than the first could."""
    worker = bench.worker("worker", *FEED, "--fail-first-each", "6", "--status", "UNKNOWN")
    bench.start({"feed": {"worker": worker, "retry": {"attempts_max": 9, "delay": "10ms", "delay_max": "10s"}}})
    client = bench.client()
    ids = ["g%d" % i for i in range(12)]
    publish_all(client, TYPE, ids)
    calls = worker.wait_ids(ids)
    gaps = {}
    for event_id in ids:
        times = [line["time"] for line in calls if line["id"] == event_id]
        require_equal(len(times), 7, "attempts of " + event_id)
        for at in range(6):
            gaps.setdefault(at, []).append(times[at + 1] - times[at])
    # Full jitter: twelve draws from 0 to 10 ms and from 0 to 320 ms; their sums cannot be mistaken.
    require(sum(gaps[5]) > 4 * sum(gaps[0]) or sum(gaps[5]) > 1.0, "later retries wait longer", None,
            [round(sum(gaps[at]), 3) for at in range(6)])
    require_equal(bench.where("g0")["handlers"][0]["attempts"], 7, "/eventz counts attempts")


def case_poison(bench):
    """What a worker will never take goes to the dead letters at once."""
    worker = bench.worker("worker", *FEED, "--status", "INVALID_ARGUMENT")
    bench.start({"feed": worker})
    client = bench.client()
    publish_all(client, TYPE, ["x1"])
    wait_until(lambda: bench.report()["dead_letters"]["count"] == 1, "a dead letter", PATIENCE_S)
    require_equal(len(worker.calls()), 1, "attempts")


def case_crashing(bench):
    """An event that kills its worker each time ends in the dead letters; those that died with it are delivered."""
    options = (*FEED, "--crash-on", "killer", "--delay", "20")
    worker = bench.worker("worker")
    bench.start({"feed": {"worker": worker, "in_flight_max": 8, "retry": {**QUICK, "attempts_max": 2}}})
    client = bench.client()
    ids = ["i%d" % i for i in range(16)]
    publish_all(client, TYPE, ids[:3] + ["killer"] + ids[3:])
    # Twice with others, then twice alone. What restarts a worker is a supervisor's job.
    for _ in range(4):
        worker.start(*options)
        worker.wait_end(2 * PATIENCE_S)
    wait_until(lambda: bench.report()["dead_letters"]["count"] == 1, "a dead letter", PATIENCE_S)
    worker.start(*options)
    worker.wait_ids(ids)
    wait_settled(bench)
    letters = bench.report()["dead_letters"]["letters"]
    require_equal([(row["id"], row["attempts"]) for row in letters], [("killer", 4)], "the letters")
    require("connection" in letters[0]["reason"], "the reason", None, letters)
    bench.wait_log("LOG_EVENT_DEAD")


def case_odd_answers(bench):
    """Success=false, garbage and a missed deadline count against the event, and only against it."""
    refusing = bench.worker("refusing", *FEED, "--success", "false")
    garbage = bench.worker("garbage", "--service", "cfgingest", "--garbage")
    slow = bench.worker("slow", "--service", "event_feed", "--delay", "1500")
    retry = {"attempts_max": 2, "delay": "20ms", "delay_max": "20ms"}
    bench.start({"feed": {"worker": refusing, "retry": retry}, "cfgingest": {"worker": garbage, "retry": retry},
                 "event_feed": {"worker": slow, "retry": retry, "timeout": "300ms"}})
    client = bench.client()
    publish_all(client, TYPE, ["o1"])
    publish_all(client, "cfgingest", ["o2"])
    publish_all(client, "event_feed", ["o3"])
    wait_until(lambda: bench.report()["dead_letters"]["count"] == 3, "three dead letters", PATIENCE_S)
    reasons = {row["id"]: row["reason"] for row in bench.report()["dead_letters"]["letters"]}
    require("Success=false" in reasons["o1"], "refused", None, reasons)
    require("EventResponse" in reasons["o2"], "garbage", None, reasons)
    require("DEADLINE_EXCEEDED" in reasons["o3"], "slow", None, reasons)
    for worker in (refusing, garbage, slow):
        require_equal(len(worker.calls()), 2, "attempts")


def case_late_reader(bench):
    """Answers that came in time count, also where the server was held up until the calls' time was over."""
    worker = bench.worker("worker", *FEED, "--delay", "300")
    bench.start({"feed": {"worker": worker, "timeout": "2s"}})
    client = bench.client()
    publish_all(client, TYPE, ["l1"])
    worker.wait_calls(1)
    held_up = time.monotonic() + 4
    os.kill(bench.server.process.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: time.monotonic() > held_up, "the timeout is over", PATIENCE_S)
    finally:
        os.kill(bench.server.process.pid, signal.SIGCONT)
    wait_settled(bench)
    require_equal(len(worker.calls()), 1, "calls")
    require_equal(bench.where("l1")["handlers"][0]["attempts"], 1, "attempts")


def case_quiet_worker(bench):
    """A call that takes too long on a connection that was idle ends alone: the connection is kept."""
    worker = bench.worker("worker", *FEED)
    clock = bench.worker("clock", "--service", "cfgingest", "--delay", "5000")
    once = {"attempts_max": 1}
    bench.start({"feed": {"worker": worker, "timeout": "1500ms", "retry": once},
                 "cfgingest": {"worker": clock, "timeout": "3100ms", "retry": once}})
    client = bench.client()
    publish_all(client, TYPE, ["q1"])
    worker.wait_ids(["q1"])
    # While it is idle: twice the time that a call may take.
    publish_all(client, "cfgingest", ["c1"])
    wait_until(lambda: bench.report()["dead_letters"]["count"] == 1, "the time is over", PATIENCE_S)
    os.kill(worker.process.pid, signal.SIGSTOP)
    try:
        publish_all(client, TYPE, ["q2"])
        wait_until(lambda: bench.report()["dead_letters"]["count"] == 2, "the call has ended", PATIENCE_S)
    finally:
        os.kill(worker.process.pid, signal.SIGCONT)
    publish_all(client, TYPE, ["q3"])
    worker.wait_ids(["q3"])
    require_equal(bench.handler("feed")["connects"], 1, "connects")


def case_busy_worker(bench):
    """A worker that is overloaded, or refuses us, keeps its events waiting: none is a dead letter."""
    busy = bench.worker("busy", *FEED, "--fail-first-each", "5", "--status", "RESOURCE_EXHAUSTED")
    closed = bench.worker("closed", "--service", "cfgingest", "--fail-first", "6", "--status", "PERMISSION_DENIED")
    retry = {"attempts_max": 2, "delay": "10ms", "delay_max": "40ms"}
    bench.start({"feed": {"worker": busy, "retry": retry}, "cfgingest": {"worker": closed, "retry": retry}})
    client = bench.client()
    publish_all(client, TYPE, ["b%d" % i for i in range(8)])
    publish_all(client, "cfgingest", ["c1"])
    busy.wait_ids(["b%d" % i for i in range(8)])
    closed.wait_ids(["c1"])
    wait_settled(bench)
    require_equal(bench.report()["dead_letters"]["count"], 0, "dead letters")
    require(bench.handler("feed")["window"] < 16, "fewer calls at once for a busy worker", None, bench.handler("feed"))
    bench.wait_log("LOG_WORKER_REFUSES")


def case_older_name(bench):
    """A worker of before 2020 serves the older name: it is found, and remembered; a newer one afterwards too."""
    worker = bench.worker("worker", "--service", "cfgingest", "--unimplemented-new-name")
    bench.start({"cfgingest": worker})
    client = bench.client()
    publish_all(client, "cfgingest", ["u%d" % i for i in range(10)])
    calls = worker.wait_ids(["u%d" % i for i in range(10)])
    require_equal({line["method"] for line in calls}, {"/chef.automate.domain.ingest.EventHandler/HandleEvent"}, "name")
    wait_settled(bench)
    entry = bench.where("u9")["handlers"][0]
    require_equal((entry["state"], entry["attempts"]), ("delivered", 1), "one attempt")
    worker.stop()
    worker.start("--service", "cfgingest")
    publish_all(client, "cfgingest", ["v%d" % i for i in range(10)])
    calls = [line for line in worker.wait_ids(["v%d" % i for i in range(10)]) if line["id"].startswith("v")]
    require_equal({line["method"] for line in calls},
                  {"/chef.automate.domain.ingest.EventHandlerService/HandleEvent"}, "name")


def case_no_such_call(bench):
    """A worker that lacks the call under either name: its events wait for an operator."""
    worker = bench.worker("worker", "--service", "event_feed")
    retry = {"attempts_max": 2, "delay": "10ms", "delay_max": "100ms"}
    bench.start({"cfgingest": {"worker": worker, "retry": retry}})
    client = bench.client()
    publish_all(client, "cfgingest", ["n1"])
    wait_until(lambda: bench.where("n1")["handlers"][0]["attempts"] >= 4, "it is tried again", PATIENCE_S)
    require("UNIMPLEMENTED" in bench.where("n1")["handlers"][0]["last_error"], "the error")
    require_equal(bench.report()["dead_letters"]["count"], 0, "dead letters")
    worker.stop()
    worker.start("--service", "cfgingest")
    worker.wait_ids(["n1"])


def case_garbage_peer(bench):
    """A worker's port that speaks no HTTP/2, or drops connections: the events wait, the server is calm."""
    listener = socket.create_server((HOST, 0))
    port = listener.getsockname()[1]
    stopped = threading.Event()
    accepted = []

    def serve():
        listener.settimeout(0.1)
        while not stopped.is_set():
            try:
                peer, _ = listener.accept()
            except socket.timeout:
                continue
            accepted.append(peer)
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" if len(accepted) % 2 else b"\x00\xff" * 5000)
            peer.close()

    thread = threading.Thread(target=serve)
    thread.start()
    worker = bench.worker("worker")
    try:
        worker.port, own_port = port, worker.port
        bench.start({"feed": {"worker": worker, "retry": QUICK}})
        worker.port = own_port
        client = bench.client()
        publish_all(client, TYPE, ["g1", "g2"])
        wait_until(lambda: len(accepted) >= 5, "it connects again", PATIENCE_S)
        require_equal(bench.report()["dead_letters"]["count"], 0, "dead letters")
        require("LOG_WORKER_DOWN" in bench.server.log_text(), "said in the log")
    finally:
        stopped.set()
        thread.join()
        listener.close()
    worker.port = port
    worker.start(*FEED)
    worker.wait_ids(["g1", "g2"])


# --- the publish API ----------------------------------------------------------------------------


def case_grpc(bench):
    """Publish answers as the contract says, with every error; Start and Stop switch the dispatching."""
    worker = bench.worker("worker", *FEED)
    bench.start({"feed": worker})
    bench.wait_connected("feed")
    channel = bench.channel()
    body = event("g1", TYPE, field(7, b"create"))
    require_equal(call(channel, "Publish", publish_request(body)), ("OK", OK), "Publish")
    require_equal(worker.wait_ids(["g1"])[0]["event"], body.hex(), "the bytes")
    require_equal(bench.where("g1")["received_by"], "grpc", "/eventz")
    status, answer = call(channel, "Publish", b"")
    require_equal((status, answer in (b"", b"\x08\x00")), ("OK", True), "without Msg: Success=false")
    for what, bad in (("no request", b"\xff"), ("empty Msg", publish_request(b"")),
                      ("no type", publish_request(event("x"))), ("cut", publish_request(event("x", TYPE)[:-1])),
                      ("long", publish_request(event("x", TYPE, field(7, b"v" * (1 << 20)))))):
        status, detail = call(channel, "Publish", bad)
        require_equal((status, len(detail) > 5), ("INVALID_ARGUMENT", True), what)
    refused = bench.report()["queue"]["refused"]
    require_equal((refused["malformed"], refused["too_large"]), (4, 1), "what was refused is counted")
    require_equal(call(channel, "Nonsense")[0], "UNIMPLEMENTED", "an unknown method")
    require_equal(call(channel, "Subscribe"), ("OK", b""), "Subscribe")
    require_equal(call(channel, "Stop"), ("OK", b""), "Stop")
    wait_until(lambda: bench.report()["queue"]["state"] == "paused", "paused")
    require_equal(call(channel, "Publish", publish_request(event("g2", TYPE))), ("OK", OK), "accepted meanwhile")
    client = bench.client()
    require(client.ask(TYPE, event("g3"))["success"], "accepted meanwhile")
    require_equal(bench.handler("feed")["queued"], 2, "queued")
    require_equal(len(worker.calls()), 1, "calls while stopped")
    require_equal(call(channel, "Start"), ("OK", b""), "Start")
    worker.wait_ids(["g2", "g3"])


def case_grpc_many(bench):
    """Many calls at once, from several connections, large ones too; a client that leaves in the middle does no harm."""
    worker = bench.worker("worker", *FEED)
    bench.start({"feed": worker}, service={"event_limit": 10000})
    bodies = {"m%d" % i: event("m%d" % i, TYPE, field(50, bytes(i * 40))) for i in range(400)}
    bodies["large"] = event("large", TYPE, field(50, bytes(1000000)))
    channels = [bench.channel() for _ in range(3)]
    calls = []
    for at, body in enumerate(bodies.values()):
        invoke = channels[at % 3].unary_unary("/chef.automate.domain.event.api.EventService/Publish")
        calls.append(invoke.future(publish_request(body), timeout=2 * PATIENCE_S))
    for future in calls:
        require_equal(future.result(), OK, "Publish")
    # It may reset streams that it never opened, which ends its connection: a fault of this client's library.
    leaver = bench.channel()
    gone = [leaver.unary_unary("/chef.automate.domain.event.api.EventService/Publish").future(
        publish_request(event("gone%d" % i, TYPE))) for i in range(50)]
    leaver.close()
    del gone
    for line in worker.wait_ids(bodies):
        if line["id"] in bodies:
            require_equal(line["sha256"], hashlib.sha256(bodies[line["id"]]).hexdigest(), line["id"])
    status, detail = call(channels[0], "Publish", publish_request(event("big", TYPE, field(50, bytes(1 << 20)))))
    require(status in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"), "over max_payload", None, (status, detail))


def case_moving(bench):
    """gRPC connections and handlers move from worker to worker all the while: each event is answered and arrives."""
    worker = bench.worker("worker", *FEED)
    bench.start({"feed": worker}, service={"event_limit": 10000},
                threads={"workers": 3, "placement": "shuffle", "rebalance": "2ms"})
    channels = [bench.channel() for _ in range(3)]
    sent = {}

    def moves(kind):
        return sum(row["moves"] for row in bench.server.http_json("/actorz?limit=1000")["actors"] if row["type"] == kind)

    def publish_some():
        calls = []
        for _ in range(60):
            name = "v%d" % len(sent)
            sent[name] = event(name, TYPE, field(50, bytes(len(sent) * 97 % 20000)))
            invoke = channels[len(sent) % 3].unary_unary("/chef.automate.domain.event.api.EventService/Publish")
            calls.append(invoke.future(publish_request(sent[name]), timeout=2 * PATIENCE_S))
        for future in calls:
            require_equal(future.result(), OK, "Publish")
        return moves("grpc_connection") >= 30 and moves("handler") >= 10

    wait_until(publish_some, "connections and handler move", 2 * PATIENCE_S)
    for line in worker.wait_ids(sent):
        require_equal(line["sha256"], hashlib.sha256(sent[line["id"]]).hexdigest(), line["id"])
    rows = [row for row in bench.server.http_json("/actorz?limit=1000")["actors"] if row["type"] == "grpc_connection"]
    require_equal(len(rows), 3, "the connections are those of the begin")


def case_memory(bench):
    """Calls that a worker does not take are counted in the ledger, as are clients' requests; then they are given back."""
    worker = bench.worker("worker", *FEED)
    bench.start({"feed": {"worker": worker, "in_flight_max": 60}}, service={"event_limit": 10000})
    bench.wait_connected("feed")
    client = bench.client()

    def owners():
        return bench.server.http_json("/varz")["memory"]["owners"]

    publish_all(client, TYPE, ["first"])
    worker.wait_ids(["first"])
    before = owners()
    os.kill(worker.process.pid, signal.SIGSTOP)
    try:
        for i in range(60):
            client.publish(TYPE, event("k%d" % i, TYPE, field(50, bytes(300000))))
        # The sockets take some megabytes of the 18.
        wait_until(lambda: owners()["handlers"] - before["handlers"] > 5000000, "calls are counted", PATIENCE_S)
        wait_until(lambda: owners()["queue"] - before["queue"] > 17000000, "events are counted", PATIENCE_S)
    finally:
        os.kill(worker.process.pid, signal.SIGCONT)
    worker.wait_ids(["k%d" % i for i in range(60)])
    wait_until(lambda: abs(owners()["handlers"] - before["handlers"]) < 500000, "and given back", PATIENCE_S)
    channel = bench.channel()
    require_equal(call(channel, "Publish", publish_request(event("last", TYPE))), ("OK", OK), "Publish")
    held = owners()["grpc"] - before["grpc"]
    require(4000 < held < 1000000, "a gRPC client", "4 KB to 1 MB", held)
    channel.close()
    wait_until(lambda: owners()["grpc"] == before["grpc"], "it has gone", PATIENCE_S)


def case_grpc_peers(bench):
    """Peers of the publish API that are silent, slow or speak something else are let go; others are served meanwhile."""
    worker = bench.worker("worker", *FEED)
    bench.start({"feed": worker})
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    peers = {
        "silent": b"",
        "half a preface": preface[:10],
        "a preface and no more": preface + b"\0\0\0\4\0\0\0\0\0",
        "HTTP/1": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "a frame too long": preface + b"\0\0\0\4\0\0\0\0\0" + b"\xff\xff\xff\0\0\0\0\0\1",
    }
    socks = {}
    for what, data in peers.items():
        socks[what] = socket.create_connection((HOST, bench.grpc_port), PATIENCE_S)
        socks[what].sendall(data)
    require_equal(call(bench.channel(), "Publish", publish_request(event("p1", TYPE))), ("OK", OK), "others")
    began = time.monotonic()
    for what, sock in socks.items():
        sock.settimeout(PATIENCE_S)
        try:
            while sock.recv(4096):
                pass
        except ConnectionError:
            pass
        sock.close()
        require(time.monotonic() - began < 25, what + " is let go in time", None, time.monotonic() - began)
    require_equal(call(bench.channel(), "Publish", publish_request(event("p2", TYPE))), ("OK", OK), "others")
    bench.wait_log("LOG_GRPC_FAULT")


def case_tls(bench):
    """Mutual TLS on every way: NATS, the publish API and the workers; who cannot show a certificate stays out."""
    certs = bench.certs
    ca = certs.ca()
    own_cert, own_key = certs.paths("event-service")

    def worker_options(name, ca_name="ca"):
        cert, key = certs.paths(name, ca_name, hosts=False)
        return ("--cert", cert, "--key", key, "--ca", ca)

    feed = bench.worker("feed", *FEED, *worker_options("compliance-service"), plain=False)
    wrong = bench.worker("wrong", "--service", "cfgingest", *worker_options("somebody-else"), plain=False)
    foreign = bench.worker("foreign", "--service", "event_feed", *worker_options("event-feed-service", "other-ca"),
                           plain=False)
    rows = {name: {"worker": worker, "scheme": "grpcs"}
            for name, worker in (("feed", feed), ("cfgingest", wrong), ("event_feed", foreign))}
    bench.start(rows, tls={"cert_path": own_cert, "key_path": own_key, "root_ca_path": ca, "timeout": "500ms"})
    client = bench.client(context=certs.client_context("client"))
    publish_all(client, TYPE, ["t1"])
    publish_all(client, "cfgingest", ["t2"])
    publish_all(client, "event_feed", ["t3"])
    line = feed.wait_ids(["t1"])[0]
    require_equal(line["peer_cn"], "event-service", "who we are")

    def read(path):
        with open(path, "rb") as file:
            return file.read()

    cert, key = certs.paths("client")
    shown = grpc.ssl_channel_credentials(read(ca), read(key), read(cert))
    require_equal(call(bench.channel(shown, "event-service"), "Publish", publish_request(event("t4", TYPE))),
                  ("OK", OK), "Publish with a certificate")
    feed.wait_ids(["t4"])
    bare = grpc.ssl_channel_credentials(read(ca))
    status, _ = call(bench.channel(bare, "event-service"), "Publish", publish_request(event("t5", TYPE)), 2)
    require(status in ("UNAVAILABLE", "DEADLINE_EXCEEDED"), "without a certificate", None, status)
    status, _ = call(bench.channel(), "Publish", publish_request(event("t6", TYPE)), 2)
    require(status in ("UNAVAILABLE", "DEADLINE_EXCEEDED"), "without TLS", None, status)
    silent = socket.create_connection((HOST, bench.grpc_port), PATIENCE_S)
    require_equal(silent.recv(1), b"", "a silent peer is let go")
    silent.close()
    for worker in (wrong, foreign):
        require_equal(worker.calls(), [], "no event to whom we do not trust")
    for name in ("cfgingest", "event_feed"):
        wait_until(lambda: bench.handler(name).get("last_error"), "an error of " + name, PATIENCE_S)
        require_equal(bench.handler(name)["queued"], 1, "it waits")
    wrong.stop()
    wrong.start("--service", "cfgingest", *worker_options("ingest-service"), plain=False)
    wrong.wait_ids(["t2"])


# --- gateway and stop ---------------------------------------------------------------------------


def case_gateway(bench):
    """An event from another cluster is accepted and answered there; its publisher learns of a full queue too."""
    worker = bench.worker("worker", *FEED)
    bench.start({"feed": worker}, gateway={"name": "inside"}, service={"event_limit": 8})
    folder = os.path.join(bench.folder, "outside")
    os.makedirs(folder)
    url = "nats://%s:%d" % (HOST, bench.server.gateway_port)
    program = shutil.which("nats-server")
    require(program is not None, "nats-server is installed")
    outside = Server(NatsServer(program), {"gateway": {"name": "outside", "remotes": [{"name": "inside", "urls": [url]}]}},
                     folder)
    bench.closing.callback(outside.stop)
    from event_case import Client

    client = Client(outside.port)
    bench.closing.callback(client.close)

    def gets_through():
        number = client.publish(TYPE, event("first"))
        try:
            return client.answer(number, 1.0).get("success")
        except Mismatch:
            return False

    wait_until(gets_through, "the clusters are joined", PATIENCE_S)
    publish_all(client, TYPE, ["z1", "z2"])
    worker.wait_ids(["first", "z1", "z2"])
    require_equal(bench.where("z2")["received_by"], "gateway", "/eventz")
    require_equal(client.ask(TYPE, b"nonsense")["error"], "malformed", "a bad one")
    wait_settled(bench)
    worker.stop()
    publish_all(client, TYPE, ["z%d" % i for i in range(3, 7)])
    require_equal(client.ask(TYPE, event("z7"))["error"], "full", "a full queue")
    require(client.ask("strange", event("z8"))["dead_letter"], "the link goes on")


def case_stop_held(bench):
    """SIGTERM while publishers are held: those by gRPC are told, the others' connections end, nobody waits for the time."""
    dead = bench.worker("dead")
    bench.start({"feed": dead}, service={"event_limit": 2}, queue={"when_full": "hold", "hold_timeout": "60s",
                                                                               "drain_timeout": 0})
    client = bench.client()
    publish_all(client, TYPE, ["s0"])
    client.publish(TYPE, event("s1"))
    future = bench.channel().unary_unary("/chef.automate.domain.event.api.EventService/Publish").future(
        publish_request(event("s2", TYPE)), timeout=2 * PATIENCE_S)
    wait_until(lambda: bench.report()["queue"]["held"] == 2, "two are held")
    bench.server.process.terminate()
    error = future.exception(PATIENCE_S)
    require_equal((error.code().name, error.details()), ("UNAVAILABLE", "the server stops"), "by gRPC")
    while client.read(time.monotonic() + PATIENCE_S):
        pass
    require(client.is_closed, "the connection ends")
    require_equal(bench.server.wait_exit(PATIENCE_S), 0, "the exit status")
    text = bench.server.log_text()
    require("did not end in time" not in text, "gRPC connections end in order", None, text[-1500:])
    require("queued=1" in text, "what is left is counted", None, text[-600:])


def case_stop_slow_worker(bench):
    """SIGTERM while a worker takes a minute for each call: the server waits for a bounded time, and counts what it had."""
    worker = bench.worker("worker", *FEED, "--delay", "60000")
    bench.start({"feed": {"worker": worker, "timeout": "10m"}}, queue={"drain_timeout": "500ms"})
    client = bench.client()
    publish_all(client, TYPE, ["y%d" % i for i in range(20)])
    worker.wait_calls(16)
    began = time.monotonic()
    bench.server.process.terminate()
    require_equal(bench.server.wait_exit(PATIENCE_S), 0, "the exit status")
    require(time.monotonic() - began < 25, "in time", None, time.monotonic() - began)
    require("queued=20" in bench.server.log_text(), "what is left is counted", None, bench.server.log_text()[-600:])
    worker.stop(kill=True)


def terminate(bench):
    """SIGTERM; waits for the end and returns the log's text."""
    bench.server.process.terminate()
    require_equal(bench.server.wait_exit(2 * PATIENCE_S), 0, "the exit status")
    return bench.server.log_text()


def log_words(text, log_event):
    """The fields of each line of this event."""
    lines = [line for line in text.splitlines() if log_event in line]
    return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]


def case_stop_drain(bench):
    """SIGTERM while a slow worker has a queue before it: all that was accepted is delivered before the server ends."""
    worker = bench.worker("worker", *FEED, "--delay", "40")
    bench.start({"feed": {"worker": worker, "in_flight_max": 2}}, queue={"drain_timeout": "2m"})
    ids = ["d%d" % i for i in range(150)]
    client = bench.client()
    publish_all(client, TYPE, ids)
    client.close()
    text = terminate(bench)
    taken = {line["id"] for line in worker.calls() if line["answer"] == "OK"}
    require_equal(taken, set(ids), "what has arrived when the server has ended")
    require(int(log_words(text, "LOG_QUEUE_DRAINING")[0]["queued"]) > 0, "events waited at the stop", None, text[-800:])
    require_equal([(words["accepted"], words["left"]) for words in log_words(text, "LOG_QUEUE_STOPPED")],
                  [("150", "0")], "the log")


def case_stop_drain_late(bench):
    """SIGTERM while the worker is away: it comes back in time and gets all; /healthz answers until then."""
    worker = bench.worker("worker")
    bench.start({"feed": {"worker": worker, "retry": {"delay": "20ms", "delay_max": "100ms"}}},
                queue={"drain_timeout": "2m"})
    ids = ["l%d" % i for i in range(50)]
    publish_all(bench.client(), TYPE, ids)
    bench.server.process.terminate()
    bench.wait_log("LOG_QUEUE_DRAINING")
    status, _, body = bench.server.http("/healthz")
    require_equal((status, "stopping" in body), (503, True), "/healthz: " + body)
    worker.start(*FEED)
    text = terminate(bench)
    require_equal({line["id"] for line in worker.calls() if line["answer"] == "OK"}, set(ids), "what has arrived")
    require("LOG_QUEUE_UNDELIVERED" not in text, "nothing is left", None, text[-800:])


def case_stop_unreachable(bench):
    """SIGTERM while one worker is gone: its events hold the stop for a bounded time and are counted, others arrive."""
    dead = bench.worker("dead")
    worker = bench.worker("worker", "--service", "event_feed", "--delay", "40")
    bench.start({"feed": dead, "event_feed": {"worker": worker, "in_flight_max": 2}}, queue={"drain_timeout": "6s"})
    client = bench.client()
    publish_all(client, TYPE, ["u%d" % i for i in range(5)])
    ids = ["o%d" % i for i in range(20)]
    publish_all(client, "event_feed", ids)
    text = terminate(bench)
    require_equal({line["id"] for line in worker.calls() if line["answer"] == "OK"}, set(ids), "what has arrived")
    left = [(words["handler"].strip('"'), words["queued"], words["in_flight"], words["retrying"])
            for words in log_words(text, "LOG_QUEUE_UNDELIVERED")]
    require_equal(left, [("feed", "5", "0", "0")], "what is left, by handlers")
    require_equal([words["left"] for words in log_words(text, "LOG_QUEUE_STOPPED")], ["5"], "what is left")


def case_stop_paused(bench):
    """SIGTERM after Stop by gRPC: events that are kept back on purpose do not hold the server, whatever the time."""
    worker = bench.worker("worker", *FEED)
    bench.start({"feed": worker}, queue={"drain_timeout": "10m"})
    bench.wait_connected("feed")
    require_equal(call(bench.channel(), "Stop")[0], "OK", "Stop")
    bench.wait_log("LOG_QUEUE_PAUSED")
    publish_all(bench.client(), TYPE, ["p0", "p1"])
    text = terminate(bench)
    require_equal([words["queued"] for words in log_words(text, "LOG_QUEUE_UNDELIVERED")], ["2"], "what is left")
    require_equal(worker.calls(), [], "calls")


def case_stop(bench):
    """SIGTERM under load: whoever waits is answered or its connection closed; what is left is counted, nothing hangs."""
    worker = bench.worker("worker", *FEED, "--delay", "20")
    bench.start({"feed": worker}, service={"event_limit": 1000},
                queue={"when_full": "hold", "hold_timeout": "60s"})
    bench.wait_connected("feed")
    clients = [bench.client() for _ in range(4)]
    channel = bench.channel()
    accepted, results = [set() for _ in clients], []
    numbers = [dict() for _ in clients]
    done = threading.Event()

    def publish(index):
        client = clients[index]
        while not client.is_closed and not done.is_set():
            event_id = "k%d-%d" % (index, len(numbers[index]))
            numbers[index][client.publish(TYPE, event(event_id))] = event_id
            client.read(time.monotonic() + 0.001)
        while client.read(time.monotonic() + PATIENCE_S):
            pass
        for number, event_id in numbers[index].items():
            if client.answers.get(number, {}).get("success"):
                accepted[index].add(event_id)

    def publish_grpc():
        for i in range(100000):
            result = call(channel, "Publish", publish_request(event("q%d" % i, TYPE)), PATIENCE_S)
            results.append(("q%d" % i, result))
            if result[0] != "OK":
                return

    threads = [threading.Thread(target=publish, args=(i,)) for i in range(len(clients))]
    threads.append(threading.Thread(target=publish_grpc))
    for thread in threads:
        thread.start()
    worker.wait_calls(60)
    began = time.monotonic()
    bench.server.process.terminate()
    status = bench.server.wait_exit(PATIENCE_S)
    took = time.monotonic() - began
    done.set()
    for thread in threads:
        thread.join(2 * PATIENCE_S)
        require(not thread.is_alive(), "every publisher is let go")
    require_equal(status, 0, "the exit status: " + bench.server.log_text()[-2000:])
    require(took < 25, "in time", None, took)
    require_equal(results[-1][1][0] in ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED", "DEADLINE_EXCEEDED"), True,
                  "the last gRPC call: %r" % (results[-1],))
    text = bench.server.log_text()
    line = next(line for line in text.splitlines() if "LOG_QUEUE_STOPPED" in line)
    words = dict(word.split("=") for word in line.split() if "=" in word)
    told = sum(len(part) for part in accepted) + sum(1 for _, result in results if result == ("OK", OK))
    delivered = {call_["id"] for call_ in worker.calls()}
    require(told <= int(words["accepted"]), "answers tell the truth", words, told)
    require(int(words["accepted"]) <= len(delivered) + int(words["left"]), "each is delivered or counted", words,
            len(delivered))


CASES = {name[5:]: value for name, value in list(globals().items()) if name.startswith("case_")}
SLOW = {"restart", "grpc_peers", "tls", "stop_unreachable"}


def run_case(name, program, folder, certs, settings):
    bench = Bench(program, os.path.join(folder, name), certs, settings)

    def work():
        CASES[name](bench)
        bench.end()

    def show_log():
        bench.abandon()
        return "\n".join(bench.server.log_text().splitlines()[-60:]) if bench.server else ""

    return [attempt(name, work, on_failure=show_log)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default=os.path.join(HERE, "..", "..", "build", "release"))
    parser.add_argument("--program", help="event-service; default: the one of the build folder")
    parser.add_argument("--only", help="cases, separated by commas: " + ", ".join(CASES))
    parser.add_argument("--threads", type=int, default=4, help="cases at a time")
    parser.add_argument("--spread", action="store_true", help="four workers, and the actors spread over them")
    parser.add_argument("--timings", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep configuration files, records and logs")
    args = parser.parse_args()
    program = os.path.abspath(args.program or os.path.join(args.build, "bin", "event-service"))
    names = chosen(parser, args.only, CASES)
    if not os.access(program, os.X_OK):
        parser.error("there is no program %s" % program)
    settings = {"threads": {"workers": 4, "placement": "spread"}} if args.spread else {}
    stop_on_signal()
    # Each case has a server and workers of its own, and mostly waits for them. Those that take long begin first.
    names.sort(key=lambda name: name not in SLOW)
    with scratch_folder("es-events.", args.keep) as folder:
        certs = Certificates(os.path.join(folder, "certs"))
        jobs = [functools.partial(run_case, name, program, folder, certs, settings) for name in names]
        counts = run_jobs(jobs, args.threads, args.timings)
    return conclude(*counts)


if __name__ == "__main__":
    sys.exit(main())
