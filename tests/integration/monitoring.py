#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The monitoring pages of a running server: what they say is so, and no peer of them can harm it.

  monitoring.py --build build/release
  monitoring.py --program build/asan/bin/event-service --only slow_peers,many_peers

Goal: every figure on a page that the test itself has caused is right; every page can be asked for by
many at once, in pieces, by peers that stall, leave or ask nonsense, while messages flow.
Method: a server on ports of the system's choice, raw NATS clients whose traffic is counted here, and
HTTP both by the library and byte by byte.
"""
import argparse
import concurrent.futures
import contextlib
import functools
import http.client
import json
import os
import re
import select
import signal
import socket
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "conformance"))
sys.dont_write_bytecode = True

from case_pool import attempt, chosen, conclude, run_jobs, scratch_folder  # noqa: E402
from support import (  # noqa: E402
    Certificates,
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

HOST = "127.0.0.1"
TEXT_PAGES = ("/", "/healthz", "/metrics")  # not indented JSON with a server_id
PAGES = TEXT_PAGES + ("/varz", "/connz", "/subsz", "/routez", "/gatewayz", "/actorz", "/eventz")
PATIENCE_S = 60.0  # for one answer, with a sanitizer on a busy machine
PEERS_MAX = 64  # the monitor's own bound
MODES = ("Optimistic", "Transitioning", "Interest-Only")
REQUEST_DEADLINE_S = 5.0  # for the rest of a request
LONGEST = ("slow_peers", "peers_that_do_not_read")  # these begin first


class Bench:
    """One server, and the clients that a case opens."""

    def __init__(self, program, settings, folder, certs):
        os.makedirs(folder)
        self.server = Server(Ours(program), merge(Ours.base, settings), folder)
        self.certs = certs
        self.closing = contextlib.ExitStack()

    def client(self, name, **options):
        peer = connect(self.server.port, name)
        self.closing.callback(peer.close)
        peer.read_info()
        words = {"verbose": False, "name": name, "lang": "test", "version": "1.2"}
        words.update(options)
        peer.send("CONNECT %s\r\nPING\r\n" % json.dumps(words))
        peer.expect("PONG\r\n")
        return peer

    def raw(self):
        sock = socket.create_connection((HOST, self.server.monitor_port), PATIENCE_S)
        self.closing.callback(sock.close)
        return sock

    def get(self, path, method="GET"):
        return get(self.server.monitor_port, path, method)

    def json(self, path):
        status, _, body = self.get(path)
        require_equal(status, 200, "GET " + path)
        return json.loads(body)

    def end(self):
        self.closing.close()
        status = self.server.stop()
        if status != 0:
            raise Mismatch("ended with status %s" % status, "0", self.server.log_text()[-3000:])


def get(port, path, method="GET"):
    """(status, headers, body)"""
    with contextlib.closing(http.client.HTTPConnection(HOST, port, timeout=PATIENCE_S)) as peer:
        peer.request(method, path)
        answer = peer.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def read_all(sock):
    """Everything up to the end of the stream."""
    sock.settimeout(PATIENCE_S)
    data = b""
    while True:
        try:
            piece = sock.recv(65536)
        except ConnectionError:
            return data
        if not piece:
            return data
        data += piece


def flush(peer):
    peer.send("PING\r\n")
    peer.expect("PONG\r\n")


# --- what the pages say ---------------------------------------------------------------------------


def case_pages(bench):
    """Each page is there, well-formed, with its type; others are not, and only GET and HEAD are taken."""
    for path in PAGES:
        status, headers, body = bench.get(path)
        require_equal(status, 200, path)
        kind = {
            "/": "text/html; charset=utf-8",
            "/metrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }.get(path, "application/json")
        require_equal(headers["Content-Type"], kind, path + " Content-Type")
        require_equal(headers["X-Content-Type-Options"], "nosniff", path + " nosniff")
        require_equal(int(headers["Content-Length"]), len(body), path + " Content-Length")
        if path not in TEXT_PAGES:
            value = json.loads(body)
            require_equal(len(value["server_id"]), 56, path + " server_id")
            # Indented by two spaces: exactly what Python's own writer makes of it.
            require_equal(body.decode(), normal(value), path + " indentation")
        head = bench.get(path, "HEAD")
        require_equal((head[0], head[2]), (200, b""), "HEAD " + path)
    require_equal(bench.get("/healthz")[2], b'{"status":"ok"}', "/healthz")
    digest = bench.json("/varz")["config_digest"]
    require(re.fullmatch("sha256:[0-9a-f]{64}", digest), "/varz config_digest", None, digest)
    require(digest in bench.server.log_text(), "the digest of /varz in the start log", digest, bench.server.log_text()[:600])
    for page in PAGES[1:]:
        require(page[1:].encode() in bench.get("/")[2], "the index names " + page)
    for path in ("/nope", "/varz/", "/varz/x", "/%2e%2e/varz", "//varz"):
        require_equal(bench.get(path)[0], 404, path)
    for method, wanted in (("POST", 405), ("DELETE", 405), ("BREW", 501)):
        require_equal(bench.get("/varz", method)[0], wanted, method)


def normal(value):
    text = json.dumps(value, indent=2, ensure_ascii=False)
    for char in "<>&":
        text = text.replace(char, "\\u%04x" % ord(char))
    return text


def case_counts(bench):
    """/varz and /connz count what clients send and get, and /varz keeps it when they leave."""
    before = bench.json("/varz")
    reader, writer = bench.client("reader"), bench.client("writer")
    reader.send("SUB a.* 1\r\nSUB b 2\r\nUNSUB 2\r\n")
    flush(reader)
    for number in range(50):
        writer.send("PUB a.%d 10\r\n0123456789\r\n" % number)
    flush(writer)
    flush_messages(reader, 50)
    conns = {conn["name"]: conn for conn in bench.json("/connz")["connections"]}
    require_equal(conns["writer"]["in_msgs"], 50, "in_msgs of the writer")
    require_equal(conns["writer"]["in_bytes"], 500, "in_bytes of the writer")
    require_equal(conns["reader"]["out_msgs"], 50, "out_msgs of the reader")
    require_equal(conns["reader"]["out_bytes"], 500, "out_bytes of the reader")
    require_equal(conns["reader"]["subscriptions"], 1, "subscriptions of the reader")
    require_equal(conns["reader"]["ip"], HOST, "ip")
    require_equal(conns["reader"]["port"], reader.sock.getsockname()[1], "port")
    varz = bench.json("/varz")
    require_equal(varz["in_msgs"] - before["in_msgs"], 50, "/varz in_msgs")
    require_equal(varz["out_msgs"] - before["out_msgs"], 50, "/varz out_msgs")
    require_equal(varz["in_bytes"] - before["in_bytes"], 500, "/varz in_bytes")
    require_equal(varz["connections"], 2, "/varz connections")
    require_equal(varz["subscriptions"] - before["subscriptions"], 1, "/varz subscriptions")
    require(varz["mem"] > 1 << 20, "/varz mem in bytes", None, varz["mem"])
    reader.close()
    writer.close()
    wait_until(lambda: bench.json("/varz")["connections"] == 0, "all have left")
    after = bench.json("/varz")
    require_equal(after["in_msgs"], varz["in_msgs"], "/varz in_msgs when they have left")
    require_equal(after["out_msgs"], varz["out_msgs"], "/varz out_msgs when they have left")
    for name in ("in_%smsgs", "out_%smsgs", "in_%sbytes", "out_%sbytes"):
        # There is no link.
        for page in (varz, after):
            require_equal(page[name % "client_"], page[name % ""], "/varz " + name % "client_")
    require_equal((varz["http_port"], varz["https_port"]), (bench.server.monitor_port, 0), "the port without TLS")
    require_equal(after["total_connections"] - before["total_connections"], 2, "total_connections")
    wait_until(
        lambda: bench.json("/varz")["subscriptions"] == before["subscriptions"],
        "/varz subscriptions when they have left",
    )


def case_counts_of_leavers(bench):
    """Totals never go back, also while clients come and go: a monitoring system would take that for a restart."""
    done, failures = threading.Event(), []

    def come_and_go():
        try:
            while not done.is_set():
                peer = bench.client("leaver")
                peer.send("PUB a 10\r\n0123456789\r\n" * 200)
                flush(peer)
                peer.close()
        except Exception as fault:
            failures.append(fault)

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        before = {"in_msgs": 0, "in_bytes": 0}
        for _ in range(200):
            varz = bench.json("/varz")
            for key in before:
                require(varz[key] >= before[key], key + " does not go back", before[key], varz[key])
                before[key] = varz[key]
    finally:
        done.set()
        for thread in threads:
            thread.join()
    require(not failures, "the clients", None, failures)


def flush_messages(peer, count):
    """Reads until count messages are there."""
    end = time.monotonic() + PATIENCE_S
    while peer.buffer.count(b"MSG ") < count:
        require(peer.fill(end), "%d messages" % count, count, peer.buffer.count(b"MSG "))
    peer.buffer = b""


def case_connz_windows(bench):
    """Sorted by any key and cut anywhere, each connection stands once in its place."""
    for number in range(40):
        peer = bench.client("c%d" % number)
        peer.send("SUB s.%d 1\r\n" % number * (number % 5))
        for _ in range(number % 7):
            peer.send("PUB nobody 3\r\nabc\r\n")
        flush(peer)
    whole = bench.json("/connz")
    require_equal((whole["total"], whole["num_connections"], whole["limit"]), (40, 40, 1024), "counts")
    cids = [conn["cid"] for conn in whole["connections"]]
    require_equal(cids, sorted(cids), "order by cid")
    require_equal(len(set(cids)), 40, "different cids")
    for sort, field in (
        ("subs", "subscriptions"),
        ("pending", "pending_bytes"),
        ("msgs_to", "out_msgs"),
        ("msgs_from", "in_msgs"),
        ("bytes_to", "out_bytes"),
        ("bytes_from", "in_bytes"),
        ("last", "last_activity"),
    ):
        values = [conn[field] for conn in bench.json("/connz?sort=" + sort)["connections"]]
        require_equal(len(values), 40, "all, sorted by " + sort)
        if sort != "last":  # taken at another moment for each page
            require_equal(values, sorted(values, reverse=True), "order by " + sort)
    starts = [conn["start"] for conn in bench.json("/connz?sort=start")["connections"]]
    require_equal(starts, sorted(starts), "order by start")
    for sort in ("idle", "uptime", "rtt"):
        require_equal(len(bench.json("/connz?sort=" + sort)["connections"]), 40, sort)
    seen = []
    for offset in range(0, 44, 7):
        part = bench.json("/connz?offset=%d&limit=7" % offset)
        require_equal(part["total"], 40, "total of a part")
        require_equal(part["num_connections"], len(part["connections"]), "num_connections")
        seen += [conn["cid"] for conn in part["connections"]]
    require_equal(seen, cids, "the parts together")
    for words in ("offset=9223372036854775807&limit=9223372036854775807", "offset=40"):
        require_equal(bench.json("/connz?" + words)["connections"], [], words)
    require_equal(bench.json("/connz?limit=9223372036854775807")["num_connections"], 40, "huge limit")
    one = bench.json("/connz?cid=%d" % cids[17])
    require_equal([conn["cid"] for conn in one["connections"]], [cids[17]], "cid")
    require_equal((one["total"], one["limit"]), (40, 1), "total and limit with cid")


def closed_conns(bench, words=""):
    return bench.json("/connz?state=closed&limit=20000" + words)["connections"]


def case_connz_closed(bench):
    """state=closed shows how connections ended, newest kept; any shows both kinds, each once."""
    ended = []
    for name, bytes_sent, reason in (
        ("parse", "BAD\r\n", "Protocol Violation"),
        ("gone", None, "Client Closed"),
        ("slow", "PUB a 2000000\r\n", "Maximum Message Payload Exceeded"),
    ):
        peer = bench.client(name)
        peer.send("SUB a 1\r\nPUB b 2\r\nxy\r\n")
        flush(peer)
        if bytes_sent is None:
            peer.close()
        else:
            peer.send(bytes_sent)
        wait_until(lambda: len(closed_conns(bench)) == len(ended) + 1, name + " is among the closed")
        ended.append((name, reason))
    alive = [bench.client("alive%d" % number) for number in range(3)]
    conns = closed_conns(bench)
    require_equal([(conn["name"], conn["reason"]) for conn in conns], ended, "names and reasons")
    for conn in conns:
        require_equal((conn["in_msgs"], conn["in_bytes"], conn["lang"]), (1, 2, "test"), "its figures")
        require(conn["start"] <= conn["last_activity"] <= conn["stop"], "times", None, conn)
    stops = [conn["stop"] for conn in closed_conns(bench, "&sort=stop")]
    require_equal(stops, sorted(stops), "order by stop")
    reasons = [conn["reason"] for conn in closed_conns(bench, "&sort=reason")]
    require_equal(reasons, sorted(reasons), "order by reason")
    page = bench.json("/connz?state=any")
    require_equal((page["total"], page["num_connections"]), (6, 6), "both kinds")
    names = [conn["name"] for conn in page["connections"]]
    require_equal(names, [name for name, _ in ended] + ["alive0", "alive1", "alive2"], "by cid")
    require_equal(len(bench.json("/connz")["connections"]), len(alive), "open ones alone")
    cid = conns[1]["cid"]
    (one,) = bench.json("/connz?state=closed&cid=%d" % cid)["connections"]
    require_equal(one["name"], "gone", "one by its cid")
    require_equal(bench.json("/connz?cid=%d" % cid)["connections"], [], "it is not open")
    for words in ("sort=stop", "sort=reason&state=any"):
        require_equal(bench.get("/connz?" + words)[0], 400, words)


def case_connz_many_closed(bench):
    """Windows over many closed ones are cut as over open ones; the ring keeps the newest 10,000 at most."""
    for _ in range(700):
        with contextlib.closing(socket.create_connection((HOST, bench.server.port), PATIENCE_S)) as peer:
            peer.recv(4096)
    wait_until(lambda: bench.json("/connz?state=closed")["total"] == 700, "all have ended")
    cids = [conn["cid"] for conn in closed_conns(bench)]
    require_equal(cids, sorted(set(cids)), "each once, by cid")
    require_equal(len(cids), 700, "all")
    seen = []
    for offset in range(0, 800, 90):
        part = bench.json("/connz?state=closed&limit=90&offset=%d" % offset)
        require_equal((part["total"], part["num_connections"]), (700, len(part["connections"])), "part")
        seen += [conn["cid"] for conn in part["connections"]]
    require_equal(seen, cids, "the parts together")
    huge = "state=any&offset=9223372036854775807&limit=9223372036854775807"
    require_equal(bench.json("/connz?" + huge)["connections"], [], huge)


def case_slow_consumer(bench):
    """Who does not take what waits for it is told of by subject and age, on the page and in the log."""
    slow = bench.client("slow")
    slow.send("SUB news.> 1\r\n")
    flush(slow)
    slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    writer = bench.client("writer")
    body = b"x" * 100000
    end = time.monotonic() + PATIENCE_S
    while not bench.json("/varz")["slow_consumers"]:
        require(time.monotonic() < end, "a slow consumer")
        writer.send(b"PUB news.of.today %d\r\n%s\r\n" % (len(body), body))
        flush(writer)
    (conn,) = wait_until(lambda: closed_conns(bench), "it is among the closed")
    require_equal(conn["name"], "slow", "name")
    require(conn["reason"].startswith("Slow Consumer ("), "reason", None, conn)
    require(conn["pending_bytes"] > 0, "pending_bytes", None, conn)
    require_equal(conn["slow_consumer"]["subject"], "news.of.today", "subject")
    require(conn["slow_consumer"]["stalled"].endswith("s"), "stalled", None, conn)
    (line,) = [
        line for line in bench.server.log_text().splitlines() if "Slow consumer detected" in line
    ]
    require('subject="news.of.today"' in line and "stalled_ms=" in line, "the log", None, line)


def case_subsz(bench):
    """/subsz counts what is subscribed, lists it in windows, and finds what a subject would reach."""
    before = bench.json("/subsz")
    peers = [bench.client("s%d" % number) for number in range(5)]
    for number, peer in enumerate(peers):
        for sid in range(20):
            queue = " q" if sid % 4 == 0 else ""
            peer.send("SUB s.%d.%d%s %d\r\n" % (number, sid, queue, sid + 1))
        peer.send("SUB s.> 99\r\nSUB gone 98\r\nUNSUB 98\r\n")
        flush(peer)
    writer = bench.client("writer")
    writer.send("PUB s.1.3 1\r\nx\r\n" * 3)
    flush(writer)
    after = bench.json("/subsz")
    require_equal((after["total"], after["offset"], after["limit"]), (0, 0, 1024), "no list was asked for")
    for name, change in (("num_subscriptions", 105), ("num_inserts", 110), ("num_removes", 5)):
        require_equal(after[name] - before[name], change, name)
    require(after["num_matches"] - before["num_matches"] >= 1, "num_matches", None, after)
    require(0 <= after["cache_hit_rate"] <= 1, "cache_hit_rate", None, after)
    require_equal(after["max_fanout"], 6, "max_fanout")
    require("subscriptions_list" not in after, "no list unless asked for")
    page = bench.json("/subsz?subs=1")
    require_equal((page["total"], len(page["subscriptions_list"])), (105, 105), "the whole list")
    keys = [(sub["cid"], sub["sid"]) for sub in page["subscriptions_list"]]
    require_equal(len(set(keys)), 105, "each once")
    seen = []
    for offset in range(0, 120, 17):
        part = bench.json("/subsz?subs=1&limit=17&offset=%d" % offset)
        require_equal((part["total"], part["offset"], part["limit"]), (105, offset, 17), "part")
        seen += [(sub["cid"], sub["sid"]) for sub in part["subscriptions_list"]]
    require_equal(seen, keys, "the parts together")
    found = bench.json("/subsz?subs=1&test=s.1.3")["subscriptions_list"]
    require_equal(sorted(sub["subject"] for sub in found), ["s.1.3"] + ["s.>"] * 5, "test=s.1.3")
    require_equal({sub["msgs"] for sub in found}, {3}, "msgs of those")
    (queued,) = [sub for sub in bench.json("/subsz?subs=1&test=s.2.4")["subscriptions_list"] if "qgroup" in sub]
    require_equal((queued["qgroup"], queued["account"], queued["sid"]), ("q", "$G", "5"), "with a queue")
    for words, total in (("test=other", 0), ("acc=other", 0), ("acc=$G", 105)):
        require_equal(bench.json("/subsz?subs=1&" + words)["total"], total, words)
    require_equal(bench.get("/subsz?subs=1&test=s.*")[0], 400, "a test subject with a wildcard")
    huge = "/subscriptionsz?subs=1&offset=9223372036854775807&limit=9223372036854775807"
    require_equal(bench.json(huge)["subscriptions_list"], [], "a huge window")


def case_many_subscriptions(bench):
    """A connection with very many subscriptions is listed over several turns, whole, while others work."""
    count = 30000
    many, other = bench.client("many"), bench.client("other")
    for start in range(0, count, 1000):
        many.send("".join("SUB m.%d %d\r\n" % (sid, sid) for sid in range(start, start + 1000)))
        flush(many)
    page = bench.json("/subsz?subs=1&limit=%d" % (2 * count))
    require_equal(page["total"], count, "total")
    require_equal({sub["sid"] for sub in page["subscriptions_list"]}, set(map(str, range(count))), "all sids")
    part = bench.json("/subsz?subs=1&offset=%d&limit=7" % (count - 5))
    require_equal(len(part["subscriptions_list"]), 5, "the last ones")
    (conn,) = bench.json("/connz?subs=1&limit=1")["connections"]
    require_equal(conn["subscriptions"], count, "/connz subscriptions")
    require_equal(len(conn["subscriptions_list"]), 16384, "/connz lists a bounded number")
    require_equal(conn["subscriptions_list_truncated"], True, "and says so")
    flush(other)


def case_connz_subscriptions(bench):
    """subs=1 lists subjects, subs=detail all of a subscription; escapes are as Go's."""
    peer = bench.client("<s&\u00fc>")
    peer.send("SUB a.> q 7\r\nSUB b 8\r\nUNSUB 8 5\r\nPUB b 1\r\nx\r\n")
    flush_messages(peer, 1)
    body = bench.get("/connz?subs=1")[2]
    require(b'"name": "\\u003cs\\u0026\xc3\xbc\\u003e"' in body, "escaped name", None, body)
    (conn,) = json.loads(body)["connections"]
    require_equal(sorted(conn["subscriptions_list"]), ["a.>", "b"], "subscriptions_list")
    (conn,) = bench.json("/connz?subs=detail&auth=1")["connections"]
    detail = {sub["sid"]: sub for sub in conn["subscriptions_list_detail"]}
    wanted = {"account": "$G", "subject": "a.>", "qgroup": "q", "sid": "7", "msgs": 0}
    require_equal(detail["7"], dict(wanted, cid=conn["cid"]), "detail")
    wanted = {"account": "$G", "subject": "b", "sid": "8", "msgs": 1, "max": 5}
    require_equal(detail["8"], dict(wanted, cid=conn["cid"]), "detail with max")
    require_equal(conn["account"], "$G", "account")
    require("account" not in bench.json("/connz")["connections"][0], "no account without auth")
    require_equal(bench.json("/connz?auth=1&user=nobody")["total"], 0, "another user's")


def case_actorz(bench):
    """/actorz shows each actor once, sums that agree with each other, and the routers."""
    peers = [bench.client("a%d" % number) for number in range(20)]
    peers[3].send("SUB x 1\r\n" + "PUB x 1\r\nx\r\n" * 100)
    flush_messages(peers[3], 100)
    page = bench.json("/actorz")
    require_equal(len(page["workers"]), bench.json("/varz")["workers"], "workers")
    require_equal([row["index"] for row in page["workers"]], list(range(len(page["workers"]))), "index")
    for worker in page["workers"]:
        require(0 <= worker["utilisation"] <= 1, "utilisation", None, worker)
        require(worker["turns"] > 0 and worker["run_queue_length_max"] > 0, "turns", None, worker)
    require(sum(row["batch"]["messages_in"] for row in page["workers"]) >= 100, "batch messages")
    require(len(page["routers"]) >= 1 and page["routers"][0]["messages"] > 0, "routers", None, page["routers"])
    require_equal(page["num_actors"], page["total"], "all are shown")
    require_equal(len(page["actors"]), page["total"], "actors")
    require_equal(len({row["id"] for row in page["actors"]}), page["total"], "different ids")
    types = {row["type"]: row for row in page["types"]}
    require_equal(types["connection"]["actors"], 20, "connections by type")
    require_equal(sum(row["actors"] for row in page["types"]), page["total"], "sum over the types")
    require_equal(sum(row["actors"] for row in page["workers"]), page["total"], "sum over the workers")
    require(page["headline"], "a headline")
    for row in page["actors"]:
        require(row["depth"] <= row["depth_max"], "depth", None, row)
        require(row["waiting_ns_avg"] <= row["waiting_ns_max"], "waiting", None, row)
        require(row["service_ns_avg"] <= row["service_ns_max"] <= row["service_ns"], "service", None, row)
    for row in page["actors"] + page["types"] + page["workers"]:
        for kind in ("waiting", "service"):
            shares = [row["%s_ns_%s" % (kind, share)] for share in ("p50", "p99", "p999")]
            require_equal(shares, sorted(shares), "percentiles of " + kind)
            require(kind + "_histogram" not in row, "no histogram unless asked for")
    whole = bench.json("/actorz?type=connection&histograms=1&sort=cpu")
    for row in whole["actors"]:
        counts = [bucket["count"] for bucket in row["waiting_histogram"]]
        require_equal(sum(counts), row["messages"], "messages in the histogram of waiting")
        ends = [bucket["below_ns"] for bucket in row["waiting_histogram"] if "below_ns" in bucket]
        require_equal(ends, sorted(set(ends)), "ends of its buckets")
        service = sum(bucket["count"] for bucket in row["service_histogram"])
        require_equal(service, row["turns"], "turns in the histogram of service")
    only = bench.json("/actorz?type=connection&limit=5&offset=2&sort=messages")
    require_equal((only["total"], only["num_actors"]), (20, 5), "type, limit")
    require_equal({row["type"] for row in only["actors"]}, {"connection"}, "type")
    for sort, field in (
        ("messages", "messages"),
        ("depth", "depth"),
        ("depth_max", "depth_max"),
        ("waiting_max", "waiting_ns_max"),
        ("service", "service_ns"),
        ("service_max", "service_ns_max"),
        ("cpu", "service_ns"),
    ):
        # Without the monitor itself: it works between the two passes. So does a connection that is just being pinged.
        def is_ordered(path="/actorz?type=connection&sort=" + sort, field=field):
            values = [row[field] for row in bench.json(path)["actors"]]
            return values == sorted(values, reverse=True)

        wait_until(is_ordered, "order by " + sort, PATIENCE_S)


def case_eventz(bench):
    """/eventz shows an event that was accepted, where it is, and nothing of one that was not."""
    before = bench.json("/eventz")["events"]
    peer = bench.client("producer")
    peer.send("SUB _INBOX.e 1\r\n")
    event = json.dumps({"EventID": "e-<1>", "Type": {"Name": "nodeTerminated"}})
    peer.send("PUB event.nodeTerminated _INBOX.e %d\r\n%s\r\n" % (len(event), event))
    end = time.monotonic() + PATIENCE_S
    while b"success" not in peer.buffer:
        require(peer.fill(end), "an answer to the event", None, peer.buffer)
    after = bench.json("/eventz")["events"]
    require_equal(after["queue"]["received"]["nats"], 1, "received")
    require(json.dumps(after) != json.dumps(before), "the overview has changed", None, after)
    event = bench.json("/eventz?id=e-%3C1%3E")["event"]
    require("e-<1>" in json.dumps(event), "the event's id", None, event)
    status, headers, body = bench.get("/eventz?id=unknown")
    require_equal((status, headers["Content-Type"]), (404, "text/plain; charset=utf-8"), "unknown")
    require_equal(body, b"no such event is known", "unknown")
    require_equal(bench.get("/eventz?id=" + "x" * 400)[0], 400, "an id that is too long")
    require_equal(bench.get("/eventz?limit=x")[0], 400, "a bad limit")
    bench.json("/eventz?limit=9223372036854775807&offset=9223372036854775807")


def case_gatewayz(bench):
    """Two linked servers show each other on /gatewayz, with what has crossed; a third is not reached."""
    url = "nats://127.0.0.1:%d" % bench.server.gateway_port
    with socket.socket() as unused:  # bound, and nobody listens
        unused.bind((HOST, 0))
        gone = "nats://127.0.0.1:%d" % unused.getsockname()[1]
        remotes = [{"name": "A", "urls": [url]}, {"name": "Z", "urls": [gone]}]
        folder = os.path.join(bench.server.folder, "other")
        os.mkdir(folder)
        settings = {"service": {"name": "b"}, "gateway": {"name": "B", "remotes": remotes}}
        other = Server(bench.server.adapter, merge(Ours.base, settings), folder)
        bench.closing.callback(other.stop)

        def links():
            left, right = bench.json("/gatewayz"), other.http_json("/gatewayz")
            return all(
                name in page[key]
                for page, name in ((left, "B"), (right, "A"))
                for key in ("outbound_gateways", "inbound_gateways")
            ) and (left, right)

        left, right = wait_until(links, "both links both ways", PATIENCE_S)
    require_equal((left["name"], right["name"]), ("A", "B"), "names")
    require_equal(left["port"], bench.server.gateway_port, "port")
    require_equal(right["outbound_gateways"]["A"]["configured"], True, "configured where it stands")
    require_equal(left["outbound_gateways"]["B"]["configured"], False, "learned by the other")
    require_equal(len(left["inbound_gateways"]["B"]), 1, "inbound links")
    for page, there in ((left, right), (right, left)):
        (link,) = page["outbound_gateways"].values()
        require_equal(link["connection"]["kind"], "Gateway", "kind")
        require_equal(link["connection"]["name"], there["server_id"], "the peer's server id")
        (account,) = link["accounts"]
        require_equal(account["name"], "$G", "account")
        require(account["interest_mode"] in MODES, "interest_mode", MODES, account)
    states = {remote["name"]: remote for remote in right["remotes"]}
    require_equal(states["A"]["state"], "linked", "state of A")
    require(states["Z"]["state"] != "linked" and states["Z"]["configured"], "Z", None, states["Z"])
    require_equal(bench.json("/gatewayz?gw_name=none")["outbound_gateways"], {}, "gw_name")
    require("B" in bench.json("/gatewayz?gw_name=B")["outbound_gateways"], "gw_name=B")
    require_equal(bench.json("/varz")["gateway"]["name"], "A", "/varz gateway")

    # A message crosses, and is counted at both ends.
    reader = bench.client("reader")
    reader.send("SUB across 1\r\n")
    flush(reader)
    writer = connect(other.port, "writer")
    bench.closing.callback(writer.close)
    writer.read_info()
    writer.send('CONNECT {"verbose":false}\r\n')
    end = time.monotonic() + PATIENCE_S
    while b"MSG across" not in reader.buffer:  # the interest may still be on its way
        writer.send("PUB across 3\r\nabc\r\n")
        require(time.monotonic() < end, "a message crosses")
        reader.fill(time.monotonic() + 0.05)

    def counted():
        out = other.http_json("/gatewayz")["outbound_gateways"]["A"]["connection"]
        came = bench.json("/gatewayz")["inbound_gateways"]["B"][0]["connection"]
        return 0 < came["in_msgs"] == out["out_msgs"]

    def crossed():
        """What has come in by links: (messages, bytes)."""
        varz = bench.json("/varz")
        return tuple(varz["in_" + what] - varz["in_client_" + what] for what in ("msgs", "bytes"))

    wait_until(counted, "the same count of messages at both ends", PATIENCE_S)
    before = crossed()
    require(before[0] > 0 and before[1] >= 3 * before[0], "they count as a link's on /varz", None, before)
    other.stop()
    wait_until(
        lambda: not bench.json("/gatewayz")["outbound_gateways"], "the link is gone", PATIENCE_S
    )
    # One that ends while a page is made may be counted twice on it, but never goes missing.
    after = crossed()
    require(after[0] >= before[0] and after[1] >= before[1], "they still count when it is gone", before, after)


def case_many_connections(bench):
    """Thousands of connections stand on one page, each once, whatever the portions it is made in."""
    count = 2500
    own = bench.json("/varz")["subscriptions"]
    socks = [socket.create_connection((HOST, bench.server.port), PATIENCE_S) for _ in range(count)]
    for sock in socks:
        bench.closing.callback(sock.close)
    for sock in socks:
        sock.sendall(b"CONNECT {}\r\nSUB a 1\r\n")
    wait_until(
        lambda: bench.json("/varz")["subscriptions"] == own + count, "all have subscribed", PATIENCE_S
    )
    page = bench.json("/connz?limit=100000&subs=detail")
    require_equal((page["total"], page["num_connections"]), (count, count), "connections")
    cids = [conn["cid"] for conn in page["connections"]]
    require_equal(cids, sorted(set(cids)), "each once, in order")
    require_equal(bench.json("/connz")["num_connections"], 1024, "the default limit")
    page = bench.json("/actorz?type=connection&limit=100000")
    require_equal(page["num_actors"], count, "actors")


def case_health_before_and_after(bench):
    """A server that is asked to stop says so on /healthz while it still drains, then ends with 0."""
    # A subscriber that takes nothing keeps the server busy writing until its deadline.
    slow = bench.client("slow")
    slow.send("SUB big 1\r\n")
    flush(slow)
    writer = bench.client("writer")
    body = b"x" * 1000000
    for _ in range(30):
        writer.send(b"PUB big %d\r\n%s\r\n" % (len(body), body))
    flush(writer)
    require_equal(bench.get("/healthz")[0], 200, "before")
    bench.server.signal(signal.SIGTERM)
    seen = set()
    while True:
        try:
            status, _, body = bench.get("/healthz")
        except (OSError, http.client.HTTPException):
            break
        seen.add((status, body))
        if status == 503:
            require_equal(
                json.loads(body), {"status": "error", "error": "server is stopping"}, "/healthz"
            )
            require_equal(bench.get("/varz")[0], 503, "/varz of a stopping server")
            break
    slow.close()
    require_equal(bench.server.wait_exit(PATIENCE_S), 0, "status")
    require(503 in {status for status, _ in seen}, "/healthz was 503 while it stopped", None, seen)


# --- peers that are many, slow or broken ----------------------------------------------------------


def case_many_peers(bench):
    """Hundreds of peers at once, on all pages, while messages flow: each is answered."""
    bench.client("one").send("SUB > 1\r\n")
    stop = threading.Event()

    def publish():
        peer = bench.client("writer")
        while not stop.is_set():
            peer.send("PUB a.b 5\r\nhello\r\n" * 50)
            flush(peer)

    def ask(number):
        path = PAGES[number % len(PAGES)]
        try:
            status, _, body = bench.get(path)
        except (OSError, http.client.HTTPException) as fault:
            return "%s: %r" % (path, fault)
        if status != 200 or (path not in ("/", "/metrics") and not isinstance(json.loads(body), dict)):
            return "%s: %d" % (path, status)
        return None

    with concurrent.futures.ThreadPoolExecutor(48) as pool:
        writing = pool.submit(publish)
        try:
            faults = [fault for fault in pool.map(ask, range(420)) if fault]
        finally:
            stop.set()
        writing.result()
    require_equal(faults, [], "answers")
    require_equal(bench.get("/healthz")[0], 200, "healthy afterwards")


def case_pipelines(bench):
    """One connection serves many requests, also many in one packet, in order; HTTP/1.0 ends it."""
    sock = bench.raw()
    asked = [PAGES[number % len(PAGES)] for number in range(60)]
    sock.sendall(
        b"".join(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode() for path in asked)
        + b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    data = read_all(sock)
    require_equal(data.count(b"HTTP/1.1 200 OK\r\n"), 61, "answers")
    require(data.endswith(b'{"status":"ok"}'), "the last answer is the last", None, data[-100:])
    sock = bench.raw()
    sock.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
    require(read_all(sock).endswith(b'{"status":"ok"}'), "HTTP/1.0")
    # A half-closing peer (as `nc -N`) is still answered.
    sock = bench.raw()
    sock.sendall(b"GET /varz HTTP/1.1\r\nHost: a\r\n\r\n")
    sock.shutdown(socket.SHUT_WR)
    require(read_all(sock).endswith(b"}"), "answer to a half-closed peer")
    # Byte by byte.
    sock = bench.raw()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in b"GET /connz?limit=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n":
        sock.sendall(bytes((byte,)))
    require(b"HTTP/1.1 200 OK" in read_all(sock), "byte by byte")


def case_nonsense(bench):
    """What is no request is refused and closed; the rest goes on."""
    for text, status in (
        (b"\x00\x01\x02\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 4000 + b"\r\n", b"431"),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", b"505"),
        (b"POST /varz HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n", b"4"),
        (b"CONNECT {}\r\nPING\r\n\r\n", b"400"),
    ):
        sock = bench.raw()
        with contextlib.suppress(ConnectionError):
            sock.sendall(text)
        answer = read_all(sock)
        require(
            answer.startswith(b"HTTP/1.1 " + status), "answer to %r" % text[:30], status, answer[:80]
        )
    for path, text in (
        ("/connz?sort=bogus", b"invalid sorting option: bogus"),
        (
            "/connz?limit=abc",
            b"Error decoding int for 'limit': strconv.Atoi: parsing \"abc\": invalid syntax",
        ),
    ):
        status, headers, body = bench.get(path)
        require_equal((status, body), (400, text), path)
        require_equal(headers["Content-Type"], "text/plain; charset=utf-8", path)
    require_equal(bench.get("/healthz")[0], 200, "healthy afterwards")


def case_slow_peers(bench):
    """Peers that never finish their request fill all places: others still get in at once, and the
    slow ones are cut off in time, though they go on sending."""
    slow = [bench.raw() for _ in range(PEERS_MAX)]
    for sock in slow:
        sock.sendall(b"GET /varz HT")
    began = time.monotonic()
    for _ in range(5):
        require_equal(bench.get("/healthz")[0], 200, "healthy among slow peers")
    require(time.monotonic() - began < 10.0, "answered at once", "< 10 s", time.monotonic() - began)
    last = bench.raw()
    began = time.monotonic()
    last.settimeout(0.5)
    while True:
        try:
            last.sendall(b"X")
            if last.recv(100) == b"":
                break
        except socket.timeout:
            require(time.monotonic() - began < REQUEST_DEADLINE_S + 10, "a dripping peer is cut off")
        except ConnectionError:
            break
    took = time.monotonic() - began
    require(took > REQUEST_DEADLINE_S - 1, "it has had its time", REQUEST_DEADLINE_S, took)
    for sock in slow:
        read_all(sock)  # ends: all are cut off


def case_peers_that_do_not_read(bench):
    """Answers that nobody takes hold nobody up; peers that leave in the middle neither."""
    own = bench.json("/varz")["subscriptions"]
    socks = [socket.create_connection((HOST, bench.server.port), PATIENCE_S) for _ in range(2000)]
    for sock in socks:
        bench.closing.callback(sock.close)
        sock.sendall(b'CONNECT {"name":"%s"}\r\nSUB a 1\r\n' % (b"n" * 200))
    wait_until(lambda: bench.json("/varz")["subscriptions"] == own + 2000, "subscribed", PATIENCE_S)
    request = b"GET /connz?limit=2000&subs=detail&auth=1 HTTP/1.1\r\nHost: a\r\n\r\n"
    deaf = []
    for _ in range(8):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((HOST, bench.server.monitor_port))
        bench.closing.callback(sock.close)
        sock.sendall(request * 20)
        deaf.append(sock)
    for _ in range(40):
        sock = bench.raw()
        sock.sendall(request)
        sock.close()
    began = time.monotonic()
    require_equal(bench.get("/healthz")[0], 200, "healthy")
    require(time.monotonic() - began < 10.0, "answered at once", "< 10 s", time.monotonic() - began)
    wait_until(lambda: bench.get("/connz?limit=1")[0] == 200, "/connz for others", PATIENCE_S)
    # One that reads after all gets its first answer whole.
    deaf[0].settimeout(PATIENCE_S)
    data = b""
    while b"\r\n\r\n" not in data:
        data += deaf[0].recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        piece = deaf[0].recv(1 << 20)
        require(piece, "the whole answer", length, len(body))
        body += piece
    require_equal(json.loads(body[:length])["num_connections"], 2000, "a slow reader's page")


def case_leavers(bench):
    """Peers that reset their connection while their page is made."""
    for number in range(200):
        sock = bench.raw()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        sock.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % PAGES[number % len(PAGES)].encode())
        if number % 3 == 0:
            # Not select(): numbers go past 1023 while other cases have many connections.
            poller = select.poll()
            poller.register(sock, select.POLLIN)
            poller.poll(2)
        sock.close()
    require_equal(bench.get("/healthz")[0], 200, "healthy afterwards")
    require_equal(bench.json("/varz")["http_req_stats"]["/healthz"] > 0, True, "pages afterwards")


def case_stop_under_load(bench):
    """Asked to stop while many pages are asked for, the server ends with 0."""
    stop = threading.Event()

    def ask(number):
        while not stop.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                bench.get(PAGES[number % len(PAGES)])

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for number in range(16):
            pool.submit(ask, number)
        for _ in range(20):
            bench.get("/varz")
        try:
            bench.server.signal(signal.SIGTERM)
            require_equal(bench.server.wait_exit(PATIENCE_S), 0, "status")
        finally:
            stop.set()


def case_certificates(bench):
    """/connz and /varz say how a client has come in."""
    context = bench.certs.client_context("agent")
    peer = connect(bench.server.port, "tls")
    bench.closing.callback(peer.close)
    peer.read_info()
    peer.sock.settimeout(PATIENCE_S)
    peer.sock = context.wrap_socket(peer.sock, server_hostname="localhost")
    peer.send('CONNECT {"verbose":false}\r\nPING\r\n')
    peer.expect("PONG\r\n")
    (conn,) = bench.json("/connz?auth=1")["connections"]
    require_equal(conn["tls_version"], peer.sock.version(), "tls_version")
    require(conn["tls_cipher_suite"], "tls_cipher_suite")
    require_equal(conn["tls_peer_certs"][0]["subject"], "CN=agent", "tls_peer_certs")
    varz = bench.json("/varz")
    require_equal((varz["tls_required"], varz["tls_verify"]), (True, True), "/varz")
    require(varz["tls_cert_not_after"] > varz["now"], "tls_cert_not_after", None, varz)


CASES = {
    name[len("case_") :]: body for name, body in list(globals().items()) if name.startswith("case_")
}


def settings_of(name, certs):
    settings = {"threads": {"workers": 2}}
    if name == "certificates":
        cert, key = certs.paths("event-service")
        settings["tls"] = {"cert_path": cert, "key_path": key, "root_ca_path": certs.ca()}
    if name == "gatewayz":
        settings["gateway"] = {"name": "A"}
    if name == "slow_consumer":
        settings["limits"] = {"max_pending": "2MiB", "write_deadline": "30s"}
    if name == "health_before_and_after":
        settings["limits"] = {"write_deadline": "3s"}
    return settings


def run_case(name, body, settings, program, folder, certs):
    bench = None

    def work():
        nonlocal bench
        bench = Bench(program, settings, os.path.join(folder, name), certs)
        body(bench)
        bench.end()

    def show_log():
        if bench is None:
            return ""
        bench.closing.close()
        bench.server.stop()
        lines = bench.server.log_text().splitlines()[-200:]
        return "\n".join(line for line in lines if " [DBG] " not in line)

    return [attempt(name, work, on_failure=show_log)]


def main(description, cases, settings_for):
    """Runs cases, each with a server of its own; also for the other tests of monitoring."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--build", default=os.path.join(HERE, "..", "..", "build", "release"))
    parser.add_argument("--program", help="event-service; default: the one of the build folder")
    parser.add_argument("--only", help="cases, separated by commas: " + ", ".join(cases))
    parser.add_argument("--threads", type=int, default=3, help="cases at a time")
    parser.add_argument("--timings", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep configuration files and logs")
    args = parser.parse_args()
    program = os.path.abspath(args.program or os.path.join(args.build, "bin", "event-service"))
    names = chosen(parser, args.only, cases)
    if not os.access(program, os.X_OK):
        parser.error("there is no program %s" % program)

    stop_on_signal()
    names.sort(key=lambda name: name not in LONGEST)
    with scratch_folder("es-monitoring.", args.keep) as folder:
        certs = Certificates(os.path.join(folder, "certs"))
        jobs = [
            functools.partial(
                run_case, name, cases[name], settings_for(name, certs), program, folder, certs
            )
            for name in names
        ]
        counts = run_jobs(jobs, args.threads, args.timings)
    return conclude(*counts)


if __name__ == "__main__":
    sys.exit(main("the monitoring pages of a running server", CASES, settings_of))
