#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Peers that are slower than what comes for them, and memory that is bounded.

  backpressure.py --build build/release
  backpressure.py --build build/asan --only block,memory_pending --timings

Goal: who does not keep up is treated as limits.slow_consumer says; memory stays within limits.memory; publishers,
readers and the server go on. Method: real programs and sockets with small buffers; a healthy pair of clients exchanges
numbered messages beside each case (bystanders.py); the log, /varz, /connz and /proc are looked at from outside.
"""

import contextlib
import os
import re
import signal
import sys
import threading
import time

from bad_peers import Gathered
from bystanders import Mismatch, Stand, main, require, reset, wait_until

MEGABYTE = 1 << 20
SMALL = 4096  # receive buffer of who does not read: the bytes wait in the server


def subscribe(peer, subject, sid=1):
    peer.send("SUB %s %s\r\n" % (subject, sid))
    peer.read_until_pong()


def numbered(subject, first, count, size):
    """Messages that begin with their number."""
    pieces = []
    for number in range(first, first + count):
        body = (b"%d " % number).ljust(size, b".")
        pieces.append(b"PUB %s %d\r\n%s\r\n" % (subject.encode(), size, body))
    return b"".join(pieces)


def read_to_pong(peer):
    """All up to the PONG, PINGs of the server left out; None when the connection ends before."""
    data = b""
    while not data.endswith(b"PONG\r\n"):
        piece = peer.sock.recv(1 << 20)
        if not piece:
            return None
        data += piece
        if data.endswith(b"PING\r\n"):
            data = data[:-6]
    return data


class Writer:
    """Publishes in a thread, so that being held back is seen and stops nobody."""

    def __init__(self, peer, pieces, deadline_s):
        self.peer, self.deadline_s = peer, deadline_s
        self.fault = None
        self.is_done = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(pieces,), daemon=True)
        self.thread.start()

    def run(self, pieces):
        try:
            self.peer.sock.settimeout(self.deadline_s)
            for piece in pieces:
                self.peer.sock.sendall(piece)
            self.peer.sock.sendall(b"PING\r\n")
            data = read_to_pong(self.peer)
            require(data is not None, "the publisher is not closed")
            self.is_done.set()
        except (Mismatch, OSError) as fault:
            self.fault = repr(fault)

    def finish(self):
        self.thread.join(self.deadline_s + 5)
        require(self.is_done.is_set(), "the publisher has its PONG", None, self.fault)


def read_messages(peer, count, size, deadline_s, subject="all", sid=1):
    """The numbers of `count` messages, each whole."""
    numbers = []
    head = b"MSG %s %d %d\r\n" % (subject.encode(), sid, size)
    while len(numbers) < count:
        line = peer.read_line(deadline_s)
        if line == b"PING\r\n":
            peer.send("PONG\r\n")
            continue
        require(line == head, "the next message", head, line)
        body = peer.read_exact(size + 2, deadline_s)
        numbers.append(int(body.split(b" ", 1)[0]))
        require(body == (b"%d " % numbers[-1]).ljust(size, b".") + b"\r\n", "a whole message", None, body[:60])
    return numbers


def connection_of(stand, peer):
    """The row of /connz of this client."""
    for row in stand.server.http_json("/connz?limit=10000")["connections"]:
        if row["port"] == peer.local_port:
            return row
    raise Mismatch("a row of /connz for the client", peer.local_port)


def turns_of(stand, name):
    """How often the actor of the connection whose description ends so has had its turn; 0 when it is gone."""
    rows = stand.server.http_json("/actorz?type=connection&limit=1000")["actors"]
    return sum(row["turns"] for row in rows if row["description"].endswith(name))


def memory(stand):
    return stand.varz()["memory"]


# --- others go on ------------------------------------------------------------------------------------


def ten_of_a_hundred(bench):
    """10 of 100 subscribers stop reading: they are cut off, the other 90 get everything."""
    limits = {"max_pending": MEGABYTE, "write_deadline": "30s"}
    with Stand(bench, {"limits": limits}) as stand, stand.bystanders(), stand.memory_bound(120):
        stalled = [stand.client(receive_buffer=SMALL) for _ in range(10)]
        readers = [stand.client() for _ in range(90)]
        for peer in stalled + readers:
            subscribe(peer, "all")
        size, count = 4000, 2000
        gathered = Gathered(readers, count, size)
        writer = stand.client()
        for first in range(0, count, 50):
            writer.send(numbered("all", first, 50, size))
            gathered.wait_for(first - 100, 30.0 * stand.slow)  # the readers do keep up
        writer.read_until_pong(60.0 * stand.slow)
        gathered.finish(60.0 * stand.slow)
        wait_until(lambda: stand.varz()["slow_consumers"] == 10, "10 slow consumers", 20.0 * stand.slow)
        stand.expect_connections(2 + 90 + 1)
        for peer in stalled:
            stand.expect_peer_log(peer, "LOG_SLOW_CONSUMER", 'reason="Slow Consumer (Pending Bytes)"')


def feed(stand, to, size, count, is_reading):
    """Two clients that publish to each other as fast as they can."""
    peers = [stand.client(receive_buffer=SMALL) for _ in range(2)]
    for peer, subject in zip(peers, to):
        subscribe(peer, subject)
    faults = []
    got = [0, 0]

    def publish(index):
        try:
            peers[index].sock.settimeout(60.0 * stand.slow)
            for first in range(0, count, 50):
                peers[index].sock.sendall(numbered(to[1 - index], first, 50, size))
        except OSError as fault:
            if is_reading:
                faults.append(repr(fault))

    def read(index):
        head = b"MSG %s 1 %d\r\n" % (to[index].encode(), size)
        whole = len(head) + size + 2
        data = bytearray()
        pace = threading.Event()
        try:
            while got[index] < count:
                piece = peers[index].sock.recv(64 << 10)
                require(piece, "a client that reads slowly is not closed", None, got)
                data += piece
                while len(data) >= whole:
                    if data.startswith(b"PING\r\n"):
                        del data[:6]
                        continue
                    require(data.startswith(head + b"%d " % got[index]), "in order", got[index], bytes(data[:60]))
                    del data[:whole]
                    got[index] += 1
                pace.wait(0.0005)
        except (Mismatch, OSError) as fault:
            faults.append(repr(fault))

    threads = [threading.Thread(target=publish, args=(index,), daemon=True) for index in range(2)]
    threads += [threading.Thread(target=read, args=(index,), daemon=True) for index in range(2) if is_reading]
    for thread in threads:
        thread.start()
    return peers, threads, faults, got


def feeding_each_other(bench):
    """Two clients that feed each other and read slowly both get everything: within max_pending in any case, and far
    above it where their publisher waits."""
    for policy, max_pending in (("disconnect", 64 * MEGABYTE), ("block", MEGABYTE)):
        limits = {"slow_consumer": policy, "max_pending": max_pending}
        with Stand(bench, {"limits": limits}) as stand, stand.bystanders(), stand.memory_bound(80):
            _, threads, faults, got = feed(stand, ("to.a", "to.b"), 4000, 3000, True)
            for thread in threads:
                thread.join(120.0 * stand.slow)
            require(not faults and got == [3000, 3000], "both have everything", [3000, 3000], (got, faults))
            require(stand.varz()["slow_consumers"] == 0, "nobody is cut off", 0, stand.varz())


def feeding_without_reading(bench):
    """Two clients that block each other and never read: it ends at write_deadline, and nobody else waits."""
    limits = {"slow_consumer": "block", "max_pending": MEGABYTE, "write_deadline": "1s"}
    with Stand(bench, {"limits": limits}) as stand, stand.bystanders(), stand.memory_bound(60):
        _, threads, _, _ = feed(stand, ("to.a", "to.b"), 8000, 4000, False)
        wait_until(lambda: stand.varz()["slow_consumers"] >= 1, "one is cut off", 30.0 * stand.slow)
        for thread in threads:
            thread.join(60.0 * stand.slow)
            require(not thread.is_alive(), "both have been let go of")


def stalled_link(bench):
    """A link's peer stops (SIGSTOP): the link falls, publishers and local readers go on, memory is bounded."""
    far = {"service": {"name": "far-1"}, "gateway": {"name": "far", "port": 0}, "threads": {"workers": 1}}
    limits = {"max_pending": MEGABYTE, "max_payload": 65536, "write_deadline": "2s"}
    with Stand(bench, far) as other:
        url = "nats://127.0.0.1:%d" % other.server.gateway_port
        remote = {"name": "far", "urls": [url]}
        near = {
            "service": {"name": "near-1"},
            "limits": limits,
            "gateway": {"name": "near", "port": 0, "remotes": [remote]},
        }
        with Stand(bench, near) as stand:
            there, here, writer = other.client(), stand.client(), stand.client()
            subscribe(there, "all")
            subscribe(here, "all")
            wait_until(lambda: (link_row(stand) or [0, {}])[1].get("num_subs"), "its interest", 20.0 * stand.slow)
            writer.send(numbered("all", 0, 1, 4000) + b"PING\r\n")
            writer.read_until_pong()
            read_messages(there, 1, 4000, 10.0 * stand.slow)
            read_messages(here, 1, 4000, 10.0 * stand.slow)
            os.kill(other.pid, signal.SIGSTOP)
            try:
                with stand.bystanders(), stand.memory_bound(60):
                    gathered = Gathered([here], 5000, 4000)
                    for first in range(0, 5000, 50):
                        writer.send(numbered("all", first, 50, 4000))
                        gathered.wait_for(first - 100, 30.0 * stand.slow)
                    writer.read_until_pong(30.0 * stand.slow)
                    gathered.finish(30.0 * stand.slow)
                    stand.expect_log("LOG_SLOW_CONSUMER")
            finally:
                os.kill(other.pid, signal.SIGCONT)


# --- memory of what waits -----------------------------------------------------------------------------


def tiny_pieces(bench):
    """A million pieces of a few bytes, between large messages for others, wait for 10 readers that have stopped: they
    take no more memory than their bytes."""
    with Stand(bench) as stand, stand.bystanders():
        stalled = [stand.client(receive_buffer=SMALL) for _ in range(10)]
        for index, peer in enumerate(stalled):
            subscribe(peer, "tiny.%d" % index)
        reader = stand.client()
        subscribe(reader, "large")
        writer = stand.client()
        rounds, burst = 200, 500  # a million in all
        tiny = b"".join(b"PUB tiny.%d 1\r\nx\r\n" % index * burst for index in range(10))
        with stand.memory_bound(70):
            for number in range(rounds):
                writer.send(tiny + numbered("large", number, 1, 60000) + b"PING\r\n")
                writer.read_until_pong(30.0 * stand.slow)
                read_messages(reader, 1, 60000, 30.0 * stand.slow, "large")
        require(stand.varz()["slow_consumers"] == 0, "all bytes are still there", 0, stand.varz())
        for index, peer in enumerate(stalled):
            wanted = b"MSG tiny.%d 1 1\r\nx\r\n" % index * (rounds * burst)
            peer.send("PING\r\n")
            peer.sock.settimeout(60.0 * stand.slow)
            got = read_to_pong(peer).replace(b"PING\r\n", b"")
            require(got == wanted + b"PONG\r\n", "each piece once, in order", len(wanted) + 6, len(got))


def memory_pending(bench):
    """Far more than limits.memory is published for readers that have stopped: they are cut off before max_pending, the
    server stays within its bound, publisher and others go on."""
    limits = {"memory": 32 * MEGABYTE, "max_pending": 64 * MEGABYTE, "write_deadline": "30s"}
    with Stand(bench, {"limits": limits}) as stand:
        require(memory(stand)["limit"] == 32 * MEGABYTE, "the limit in /varz", 32 * MEGABYTE, memory(stand))
        with stand.bystanders(), stand.memory_bound(60):
            stalled = [stand.client(receive_buffer=SMALL) for _ in range(20)]
            for index, peer in enumerate(stalled):
                subscribe(peer, "for.%d" % index)
            pieces = (numbered("for.%d" % (part % 20), 0, 25, 40000) for part in range(200))
            Writer(stand.client(), pieces, 120.0 * stand.slow).finish()
            varz = memory(stand)
            require(varz["slow_consumers"] > 0, "some were cut off for memory", "> 0", varz)
            require(varz["pauses"] > 0, "publishers were paused", "> 0", varz)
            require(varz["transit"]["leased"] <= varz["transit"]["limit"], "within the bound", None, varz)
            stand.expect_log("LOG_SLOW_CONSUMER", 'reason="Slow Consumer (Memory)"')
        for peer in stalled:
            peer.abort()
        wait_until(lambda: not memory(stand)["transit"]["short"], "memory is there again", 20.0 * stand.slow)


def memory_fan_out(bench):
    """One message becomes many: what one read brings for a hundred readers with different lines is more than there is
    memory for. Nobody misses a message in silence: who has not all of them is closed."""
    limits = {"memory": 32 * MEGABYTE, "write_deadline": "30s"}
    with Stand(bench, {"limits": limits}) as stand, stand.memory_bound(60):
        readers = [stand.client() for _ in range(300)]
        for index, peer in enumerate(readers):
            subscribe(peer, "all", "s%d" % index)
        Writer(stand.client(), [numbered("all", 0, 64, 8000)] * 4, 60.0 * stand.slow).finish()
        with stand.bystanders():
            whole = closed = 0
            for index, peer in enumerate(readers):
                peer.send("PING\r\n")
                peer.sock.settimeout(30.0 * stand.slow)
                try:
                    data = read_to_pong(peer)
                except ConnectionError:
                    data = None
                if data is None:
                    closed += 1
                    continue
                whole += 1
                got = data.count(b"MSG all s%d 8000\r\n" % index)
                require(got == 256, "all messages for who lives", 256, got)
            require(whole > 0 and closed > 0, "some live, some are closed", None, (whole, closed))


def link_row(stand):
    """What /gatewayz says of the link to the other cluster: its connection and its account; None: there is none."""
    row = stand.server.http_json("/gatewayz")["outbound_gateways"].get("far")
    return row and (row["connection"], row["accounts"][0])


def lost_by_log(stand, event):
    """How often the log tells of lost messages by this event, and of how many in all."""
    lines = [line for line in stand.read_log() if event + " " in line + " "]
    return len(lines), sum(int(re.search(r"lost_msgs=(\d+)", line).group(1)) for line in lines)


def memory_link(bench):
    """There is no memory for messages to another cluster, because three hundred readers here take it: the log says when
    that begins, and at its end how many are missing; the pages say so too; the link stays, and carries what comes then."""
    far = {"service": {"name": "far-1"}, "gateway": {"name": "far", "port": 0}, "threads": {"workers": 1}}
    with Stand(bench, far) as other:
        remote = {"name": "far", "urls": ["nats://127.0.0.1:%d" % other.server.gateway_port]}
        near = {
            "service": {"name": "near-1"},
            "limits": {"memory": 32 * MEGABYTE, "write_deadline": "30s", "ping_interval": "1s", "ping_max": 60},
            "gateway": {"name": "near", "port": 0, "remotes": [remote]},
        }
        with Stand(bench, near) as stand, stand.memory_bound(60):
            there = other.client()
            subscribe(there, "all")
            wait_until(lambda: (link_row(stand) or [0, {}])[1].get("num_subs"), "its interest", 20.0 * stand.slow)
            cid = link_row(stand)[0]["cid"]
            readers = [stand.client() for _ in range(300)]
            for index, peer in enumerate(readers):
                subscribe(peer, "all", "s%d" % index)
            Writer(stand.client(), [numbered("all", 0, 64, 8000)] * 4, 60.0 * stand.slow).finish()
            wait_until(
                lambda: link_row(stand)[0]["out_msgs"] + link_row(stand)[1]["lost_msgs"] == 256,
                "each message is sent or counted as lost",
                30.0 * stand.slow,
            )
            connection, account = link_row(stand)
            lost = account["lost_msgs"]
            require(lost > 0, "some are lost", "> 0", lost)
            read_messages(there, 256 - lost, 8000, 30.0 * stand.slow)
            there.send("PING\r\n")
            got = read_to_pong(there)
            require(got == b"PONG\r\n", "no more than these", b"PONG", got[:80])
            require(memory(stand)["gateway_lost_msgs"] == lost, "the number in /varz", lost, memory(stand))
            metric = "\nevent_service_gateway_lost_messages_total %d\n" % lost
            require(metric in stand.server.http("/metrics")[2], "the number in /metrics", metric)
            wait_until(
                lambda: lost_by_log(stand, "LOG_GATEWAY_LOST")[1] == lost, "the end in the log", 30.0 * stand.slow
            )
            begun, ended = (lost_by_log(stand, event)[0] for event in ("LOG_GATEWAY_LOSING", "LOG_GATEWAY_LOST"))
            require(begun == ended > 0, "as many begins as ends", begun, ended)
            stand.expect_log("LOG_GATEWAY_LOSING", 'gateway="far"', "cid=%d " % cid)
            writer = stand.client()
            writer.send(numbered("all", 7, 1, 8000))
            require(read_messages(there, 1, 8000, 30.0 * stand.slow) == [7], "what comes then")
            require(link_row(stand)[0]["cid"] == cid, "it is the same link", cid, link_row(stand)[0])


def memory_input(bench):
    """Publishers that begin large messages and stop in the middle hold memory: they are closed when it is short."""
    limits = {"memory": 32 * MEGABYTE}
    with Stand(bench, {"limits": limits}) as stand, stand.bystanders():
        half = b"PUB half 1000000\r\n" + b"." * 500000
        crowd = [stand.client() for _ in range(10)]
        for peer in crowd:
            peer.sock.settimeout(30.0 * stand.slow)
            threading.Thread(target=send_quietly, args=(peer, half), daemon=True).start()
        wait_until(lambda: memory(stand)["slow_consumers"] >= 1, "some are closed", 30.0 * stand.slow)
        stand.expect_log('reason="Slow Publisher (Memory)"')
        # A large message of somebody else gets through.
        reader, writer = stand.client(), stand.client()
        subscribe(reader, "large")
        Writer(writer, [numbered("large", 0, 3, 900000)], 60.0 * stand.slow).finish()
        read_messages(reader, 3, 900000, 60.0 * stand.slow, "large")


def send_quietly(peer, data):
    try:
        peer.sock.sendall(data)
    except OSError:
        pass


def memory_subscriptions(bench):
    """Subscriptions up to the bound: the next is refused in the protocol's words, the client and all others go on, and
    there is room again when they are gone."""
    limits = {"memory": 32 * MEGABYTE}
    with Stand(bench, {"limits": limits}) as stand, stand.bystanders():
        # The largest subjects there may be, so that it does not take long.
        greedy = stand.client()
        text = b"".join(b"SUB %s.%d %d\r\n" % (b"s" * 3900, sid, sid) for sid in range(4000))
        greedy.sock.settimeout(60.0 * stand.slow)
        thread = threading.Thread(target=send_quietly, args=(greedy, text + b"PING\r\n"), daemon=True)
        thread.start()
        answers = read_to_pong(greedy)
        require(answers is not None, "the client is not closed")
        refused = answers.count(b"-ERR 'maximum subscriptions exceeded'\r\n")
        require(refused > 0, "some are refused", "> 0", answers[:100])
        varz = memory(stand)
        require(varz["owners"]["subscriptions"] > 8 * MEGABYTE, "subscriptions in the ledger", None, varz)
        require(varz["lasting"]["leased"] <= varz["lasting"]["limit"], "within the bound", None, varz)
        greedy.send("PUB %s.1 2\r\nhi\r\nPING\r\n" % ("s" * 3900))
        require(b" 1 2\r\nhi\r\n" in (read_to_pong(greedy) or b""), "the first ones are in force")
        greedy.abort()
        wait_until(
            lambda: memory(stand)["owners"]["subscriptions"] < MEGABYTE, "they are given back", 30.0 * stand.slow
        )
        subscribe(stand.client(), "s.*")


def many_subscriptions_leave(bench):
    """A client with 30000 subscriptions is gone at once: they are withdrawn without holding up anybody."""
    with Stand(bench) as stand, stand.bystanders():
        before = stand.varz()["subscriptions"]
        peer = stand.client()
        peer.send(b"".join(b"SUB a.%d %d\r\n" % (sid, sid) for sid in range(30000)))
        peer.read_until_pong(60.0 * stand.slow)
        require(stand.varz()["subscriptions"] == before + 30000, "all are there", None, stand.varz()["subscriptions"])
        peer.abort()
        wait_until(lambda: stand.varz()["subscriptions"] == before, "all are gone", 60.0 * stand.slow)


# --- policies -----------------------------------------------------------------------------------------


def disconnect(bench):
    """disconnect: above max_pending the client is closed at once, and the publisher never waits for it."""
    limits = {"slow_consumer": "disconnect", "max_pending": MEGABYTE, "write_deadline": "30s"}
    with Stand(bench, {"limits": limits}) as stand, stand.bystanders():
        peer = stand.client(receive_buffer=SMALL)
        subscribe(peer, "all")
        Writer(stand.client(), [numbered("all", 0, 20, 4000)] * 500, 60.0 * stand.slow).finish()
        wait_until(lambda: stand.varz()["slow_consumers"] == 1, "one slow consumer", 20.0 * stand.slow)
        peer.read_to_end(20.0 * stand.slow)


def drop_new(bench):
    """drop_new: above max_pending messages are left out whole and counted; what comes is in order; the client lives on,
    also past write_deadline, and gets what comes when it has caught up. What was left out counts towards no maximum of
    a subscription."""
    limits = {"slow_consumer": "drop_new", "max_pending": MEGABYTE, "write_deadline": "200ms"}
    size, count = 4000, 6000
    with Stand(bench, {"limits": limits}) as stand, stand.bystanders(), stand.memory_bound(40):
        peer = stand.client(receive_buffer=SMALL)
        subscribe(peer, "all")
        subscribe(peer, "once", 7)
        peer.send("UNSUB 7 1\r\n")
        peer.read_until_pong()
        writer = stand.client()
        pieces = [numbered("all", first, 50, size) for first in range(0, count, 50)]
        pieces.append(numbered("once", 0, 1, size))
        Writer(writer, pieces, 60.0 * stand.slow).finish()
        stand.expect_log("LOG_SLOW_CONSUMER", 'reason="Slow Consumer (Messages Dropped)"')
        dropped = connection_of(stand, peer).get("dropped_msgs", 0)
        require(0 < dropped < count, "messages are dropped, and counted in /connz", None, dropped)
        require(connection_of(stand, peer)["pending_bytes"] < 2 * MEGABYTE, "what waits is bounded")
        # It wakes up: what waited comes, then what is published from now on.
        numbers = read_messages(peer, count + 1 - dropped, size, 30.0 * stand.slow)
        require(numbers == sorted(set(numbers)), "each once, in order", None, numbers[:5])
        Writer(writer, [numbered("once", 0, 2, size), numbered("all", count, 5, size)], 30.0 * stand.slow).finish()
        # One that may still come, and no other.
        read_messages(peer, 1, size, 30.0 * stand.slow, "once", 7)
        numbers = read_messages(peer, 5, size, 30.0 * stand.slow)
        require(numbers == list(range(count, count + 5)), "nothing is dropped any more", None, numbers)
        require(connection_of(stand, peer)["dropped_msgs"] == dropped, "the count stands", dropped)
        # A peer that asks and does not read is bounded too.
        send_quietly(peer, b"PING\r\n" * 2000000)
        stand.expect_peer_log(peer, "LOG_SLOW_CONSUMER", 'reason="Slow Consumer (Pending Bytes)"')


def block(bench):
    """block: the publisher waits, others go on; when the client reads again it gets every message; when it does not it
    is closed at write_deadline, and the publisher goes on."""
    size, count = 4000, 5000
    limits = {"slow_consumer": "block", "max_pending": MEGABYTE, "write_deadline": "60s"}
    pieces = [numbered("all", first, 50, size) for first in range(0, count, 50)]
    with Stand(bench, {"limits": limits}) as stand, stand.bystanders(), stand.memory_bound(30):
        peer = stand.client(receive_buffer=SMALL)
        subscribe(peer, "all")
        writer = Writer(stand.client(), pieces, 120.0 * stand.slow)
        wait_until(
            lambda: connection_of(stand, peer)["pending_bytes"] > MEGABYTE, "max_pending is reached", 30.0 * stand.slow
        )
        require(not writer.is_done.is_set(), "the publisher waits")
        require(read_messages(peer, count, size, 60.0 * stand.slow) == list(range(count)), "every message")
        writer.finish()
        require(stand.varz()["slow_consumers"] == 0, "nobody is cut off", 0, stand.varz()["slow_consumers"])
    limits["write_deadline"] = "500ms"
    with Stand(bench, {"limits": limits}) as stand, stand.bystanders(), stand.memory_bound(30):
        peer = stand.client(receive_buffer=SMALL)
        subscribe(peer, "all")
        Writer(stand.client(), pieces, 120.0 * stand.slow).finish()
        stand.expect_peer_log(peer, "LOG_SLOW_CONSUMER", 'reason="Slow Consumer (Write Deadline)"')


def held_and_gone(bench):
    """block: a publisher that is held back and resets its connection costs nothing while it waits (the server's turns
    are counted while another client asks), and what it had sent before still comes."""
    limits = {"slow_consumer": "block", "max_pending": MEGABYTE, "write_deadline": "60s"}
    size, count = 4000, 5000
    with Stand(bench, {"limits": limits}) as stand, stand.bystanders():
        peer = stand.client(receive_buffer=SMALL)
        subscribe(peer, "all")
        before = stand.connections()
        publisher = stand.client()
        name = f":{publisher.local_port}"
        writer = Writer(publisher, [numbered("all", first, 50, size) for first in range(0, count, 50)], 0.3)
        wait_until(
            lambda: connection_of(stand, peer)["pending_bytes"] > MEGABYTE, "max_pending is reached", 30.0 * stand.slow
        )
        writer.thread.join(60.0 * stand.slow)
        reset(publisher)
        turns, start = turns_of(stand, name), time.monotonic()
        for _ in range(300):
            stand.varz()
        turns, elapsed_s = turns_of(stand, name) - turns, time.monotonic() - start
        # A pause lasts 5 ms at least, and each turn of one that spins a few microseconds.
        require(turns < 20 + 400 * elapsed_s, "turns of one that waits", 20 + 400 * elapsed_s, turns)
        # On a slow machine the first PING, 2 s after CONNECT, may have ended it already.
        require(read_messages(peer, 250, size, 60.0 * stand.slow) == list(range(250)), "what it had sent")
        peer.sock.settimeout(0.05)

        def is_gone():
            with contextlib.suppress(OSError):
                while peer.sock.recv(MEGABYTE):
                    pass
            return stand.connections() == before

        wait_until(is_gone, "the publisher's connection ends when all it had sent is taken", 60.0 * stand.slow)


def closing_trickle(bench):
    """A client that is being closed, and takes what still waits for it bit by bit, is let go of before it has all."""
    limits = {"write_deadline": f"{bench.slow}s"}  # time enough for all that is published first
    with Stand(bench, {"limits": limits}) as stand, stand.bystanders():
        peer = stand.client(receive_buffer=65536)
        subscribe(peer, "all")
        before = stand.connections() - 1
        Writer(stand.client(), [numbered("all", 0, 50, 4000)] * 150, 60.0 * stand.slow).finish()
        require(connection_of(stand, peer)["pending_bytes"] > MEGABYTE, "much still waits for it")
        peer.send("FROB\r\n")
        taken = [0]

        def trickle():
            pace = threading.Event()
            try:
                while not pace.wait(0.02 * stand.slow):
                    piece = peer.sock.recv(65536)
                    if not piece:
                        return
                    taken[0] += len(piece)
            except OSError:
                pass

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        stand.expect_connections(before + 1)
        stand.expect_peer_log(peer, "LOG_CLIENT_CLOSED", 'reason="Protocol Violation"')
        thread.join(30.0 * stand.slow)
        require(0 < taken[0] < 150 * 50 * 4000, "it was cut off in the middle", None, taken[0])


CASES = (
    stalled_link,
    tiny_pieces,
    feeding_each_other,
    ten_of_a_hundred,
    memory_pending,
    memory_fan_out,
    memory_link,
    memory_input,
    memory_subscriptions,
    many_subscriptions_leave,
    feeding_without_reading,
    block,
    held_and_gone,
    drop_new,
    disconnect,
    closing_trickle,
)

if __name__ == "__main__":
    sys.exit(main(CASES, __doc__.splitlines()[0]))
