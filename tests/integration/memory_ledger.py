#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The ledger of memory: who holds what.

  memory_ledger.py --build build/release
  memory_ledger.py --build build/debug --only tls,interest --timings

Goal: what the server keeps for its peers stands in /varz by its owner; the sum of all owners grows by about what the
process grows by, whatever the load; and what is given up goes back to where it was.
Method: each case grows one thing, compares its owner's figure with what must be there, and the sum with the resident
memory of the process, then takes the thing away again. Sanitizers keep memory of their own, so with them the resident
memory is not compared.
"""

import os
import re
import ssl
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "..", "support"))
sys.dont_write_bytecode = True

from bystanders import Stand, connect, main  # noqa: E402
from gateway_peer import Peer  # noqa: E402
from support import require, wait_until  # noqa: E402

KIB = 1024
MIB = 1024 * 1024
PATIENCE_S = 20.0


class Books:
    """What the ledger and the process say now, and what they said at first."""

    def __init__(self, stand):
        self.stand = stand
        stand.varz()  # the first page of a kind makes what later ones find
        self.first, self.first_resident = self.read(), self.resident()

    def read(self):
        return self.stand.varz()["memory"]["owners"]

    def resident(self):
        with open("/proc/%d/status" % self.stand.pid) as file:
            return int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1)) * KIB

    def grown(self, owner):
        return self.read()[owner] - self.first[owner]

    def expect(self, owner, least, most):
        grown = self.grown(owner)
        require(least <= grown <= most, "growth of %s" % owner, "%d to %d" % (least, most), grown)

    def expect_sum_near_process(self, part=4):
        """All owners together against the process: the C library keeps some, and rounds. part: how much of it."""
        grown = sum(self.read().values()) - sum(self.first.values())
        resident = self.resident() - self.first_resident
        print("    %s: ledger %+d KiB, process %+d KiB" % (self.stand.case, grown / KIB, resident / KIB), flush=True)
        if not self.stand.bench.sanitizer:
            slack = 2 * MIB + resident // part
            require(abs(grown - resident) <= slack, "ledger and process", resident, grown)

    def expect_back(self, owner, slack=16 * KIB):
        wait_until(
            lambda: abs(self.grown(owner)) <= slack, "%s is back where it was" % owner, PATIENCE_S * self.stand.slow
        )


def opened(bench, case, settings=None):
    stand = Stand(bench, settings)
    stand.case = case
    return stand


# --- cases ----------------------------------------------------------------------------------------


def connections(bench):
    count = 600
    with opened(bench, "connections") as stand:
        books = Books(stand)
        peers = [stand.client() for _ in range(count)]
        books.expect("connections", count * KIB, count * 8 * KIB)
        books.expect_sum_near_process()
        for peer in peers:
            peer.abort()
        books.expect_back("connections")


def tls(bench):
    """Sessions are measured, not guessed: one in the middle of a record holds it."""
    count = 200
    settings = {"tls": dict(bench.pair("event-service"), root_ca_path=bench.cert("ca"))}
    context = ssl.create_default_context(cafile=bench.cert("ca"))
    context.load_cert_chain(bench.cert("client"), bench.cert("client")[:-4] + ".key")
    with opened(bench, "tls", settings) as stand:
        stand.client(tls=context)  # what the library makes once
        books = Books(stand)
        peers = [stand.client(tls=context) for _ in range(count)]
        books.expect("tls", count * 4 * KIB, count * 120 * KIB)
        books.expect_sum_near_process()
        for peer in peers:
            peer.abort()
        books.expect_back("tls")
        books.expect_back("connections")


def subscriptions(bench):
    """Of literal subjects, and of patterns that share nothing: a node for each of their tokens."""
    for case, subject, count, least in (("subscriptions", b"some.subject.%d", 30000, 100),
                                        ("patterns", b"%d.with.tokens.*", 10000, 600)):
        with opened(bench, case) as stand:
            books = Books(stand)
            peer = stand.client()
            peer.send(b"".join(b"SUB " + subject % n + b" %d\r\n" % n for n in range(count)))
            peer.read_until_pong(60.0 * stand.slow)
            books.expect("subscriptions", count * least, count * 8 * least)
            books.expect_sum_near_process()
            peer.send(b"".join(b"UNSUB %d\r\n" % n for n in range(count)))
            peer.read_until_pong(60.0 * stand.slow)
            books.expect_back("subscriptions")


def match_caches(bench):
    """What subjects match is remembered up to the worker's part of what is meant for that: then it is forgotten, and
    nobody is refused anything."""
    settings = {"threads": {"workers": 1}, "limits": {"memory": 64 * MIB}}
    with opened(bench, "match_caches", settings) as stand:
        listener, writer = stand.client(), stand.client()
        listener.send("SUB kept.0.end 1\r\n")
        listener.read_until_pong()
        books = Books(stand)
        for _ in range(3):
            publish(writer, 4000)
        books.expect("match_caches", 4000 * 100, 4000 * 600)
        books.expect_sum_near_process()
        for _ in range(3):
            publish(writer, 60000)
        varz = stand.varz()["memory"]
        require(varz["owners"]["match_caches"] <= varz["auxiliary"]["limit"], "it is bounded", None, varz)
        require(varz["auxiliary"]["refused"] == 0 and not varz["lasting"]["short"], "nobody is refused", None, varz)
        listener.expect_match(rb"MSG kept\.0\.end 1 1\r\n")


def publish(writer, count):
    # Not in the last token: subjects that differ only there share what they match.
    writer.send(b"".join(b"PUB kept.%d.end 1\r\nx\r\n" % n for n in range(count)))
    writer.read_until_pong(60.0)


def interest(bench):
    """A gateway peer's interest is counted, refused when what stays has no room left, and gone with its link."""
    count = 15000
    settings = {"service": {"name": "srv-b"}, "gateway": {"name": "B"}, "limits": {"memory": 32 * MIB}}
    with opened(bench, "interest", settings) as stand:
        peer = Peer("F")
        stand.closing.callback(peer.close)
        peer.open_o(stand.server)
        link = peer.open_i(timeout=PATIENCE_S)
        link.command(2)
        link.command(3)
        link.flush(60)
        books = Books(stand)
        link.send(b"".join(b"RS+ $G wanted.%d\r\n" % n for n in range(count)))
        link.flush(60)
        books.expect("interest", count * 100, count * 600)
        books.expect_sum_near_process()
        link.send(b"".join(b"RS- $G wanted.%d\r\n" % n for n in range(count)))
        link.flush(60)
        books.expect_back("interest")
        # Far more than there is room for: the link is closed, all is given back, and others go on.
        link.try_send(b"".join(b"RS+ $G wanted.%d.%s\r\n" % (n, b"x" * 3000) for n in range(4000)))
        link.expect_close(timeout=60)
        link.close()
        books.expect_back("interest")
        varz = stand.varz()["memory"]
        require(varz["lasting"]["refused"] > 0, "it was refused", "> 0", varz)
        stand.client()


def links(bench):
    """Our own interest, on its way to a new link, is counted while it waits."""
    settings = {"service": {"name": "srv-b"}, "gateway": {"name": "B"}}
    with opened(bench, "links", settings) as stand:
        books = Books(stand)
        peer = Peer("F")
        stand.closing.callback(peer.close)
        link = peer.open_o(stand.server)
        books.expect("links", KIB, 64 * KIB)
        link.close()
        peer.close()
        books.expect_back("links", 64 * KIB)


def monitor(bench):
    """Pages that wait for peers who do not read are counted, and given back when those have gone."""
    peers = []
    with opened(bench, "monitor") as stand:
        many = stand.client()
        many.send(b"".join(b"SUB %s.%d %d\r\n" % (b"s" * 200, n, n) for n in range(20000)))
        many.read_until_pong(60.0 * stand.slow)
        books = Books(stand)
        for _ in range(4):
            peer = connect(stand.server.full["monitor"]["port"], "page", receive_buffer=4096)
            peer.send("GET /subsz?subs=1&limit=20000 HTTP/1.1\r\nHost: x\r\n\r\n")
            peers.append(peer)
        wait_until(lambda: books.grown("monitor") > 8 * MIB, "pages wait", PATIENCE_S * stand.slow)
        # Buffers are made twice as large when they are full, and the new half is not touched at once.
        books.expect_sum_near_process(part=1)
        for peer in peers:
            peer.abort()
        books.expect_back("monitor", MIB)


CASES = [connections, tls, subscriptions, match_caches, interest, links, monitor]

if __name__ == "__main__":
    sys.exit(main(CASES, __doc__.splitlines()[0]))
