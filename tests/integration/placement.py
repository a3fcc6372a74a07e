# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections that live on several workers, and are moved between them.

Goal: a client cannot see on which worker it lives, nor that it is moved: each publisher's order at each
subscriber, a PONG after what came before its PING, queue groups that lose nothing when members leave,
TLS, peers that read slowly. And what one connection does takes no other's turn away. Method: real
sockets; with `placement: shuffle` every connection that does something is moved about a hundred times a
second and more. /actorz tells where connections live, how often they moved, and how many messages
crossed from worker to worker.
"""

import os
import re
import ssl
import subprocess
import sys
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

from bystanders import HOST, Stand, main, require  # noqa: E402
from support import require_equal, wait_until  # noqa: E402

SHUFFLE = {"threads": {"workers": 4, "placement": "shuffle", "rebalance": "2ms"}}
PATIENCE_S = 20.0


# --- what the cases share -------------------------------------------------------------------------


class Crew:
    """Threads whose first fault is the case's."""

    def __init__(self):
        self.threads = []
        self.fault = None
        self.is_over = threading.Event()

    def start(self, work, *arguments):
        thread = threading.Thread(target=self.run, args=(work, arguments), daemon=True)
        self.threads.append(thread)
        thread.start()

    def run(self, work, arguments):
        try:
            work(*arguments)
        except Exception:
            self.fault = self.fault or traceback.format_exc(limit=-4)
            self.is_over.set()

    def join(self, threads=None):
        for thread in threads or self.threads:
            thread.join()
        require(self.fault is None, "all threads did their work", None, self.fault)


def actorz(stand):
    return stand.server.http_json("/actorz?limit=1000")


def connections(stand):
    return [actor for actor in actorz(stand)["actors"] if actor["type"] == "connection"]


def total(stand, name):
    return sum(worker[name] for worker in actorz(stand)["workers"])


def require_moved(stand, at_least):
    """Not vacuous: those who live now have been moved, and every worker has given and taken."""
    page = actorz(stand)
    moved = sum(worker["moves_in"] for worker in page["workers"])
    require(moved >= at_least, "connections were moved", ">= %d" % at_least, moved)
    require_equal(moved, sum(worker["moves_out"] for worker in page["workers"]), "who left has arrived")
    for worker in page["workers"]:
        require(worker["moves_in"] > 0, "worker %d took somebody" % worker["index"], "> 0", 0)


def next_item(peer):
    """("MSG", subject, sid, body), ("PONG",); a PING of the server is answered."""
    while True:
        line = peer.read_line(PATIENCE_S)
        if line == b"PING\r\n":
            peer.send("PONG\r\n")
            continue
        if line == b"PONG\r\n":
            return ("PONG",)
        match = re.fullmatch(rb"MSG (\S+) (\S+) (\d+)\r\n", line)
        require(match, "a message or a PONG", None, line)
        body = peer.read_exact(int(match.group(3)) + 2, PATIENCE_S)
        return ("MSG", match.group(1), match.group(2), body[:-2])


def bodies_until_pong(peer):
    bodies = []
    while True:
        item = next_item(peer)
        if item[0] == "PONG":
            return bodies
        bodies.append(item[3])


def numbered(name, number):
    """Now and then too large to be copied."""
    body = b"%s:%d:" % (name, number)
    return body + b"x" * (9000 if number % 37 == 0 else number % 50)


def publish(peer, subject, bodies, tail=b""):
    lines = [b"PUB %s %d\r\n%s\r\n" % (subject, len(body), body) for body in bodies]
    peer.send(b"".join(lines) + tail)


# --- cases ----------------------------------------------------------------------------------------


def order_is_kept_while_all_move(bench):
    """Publishers hear themselves and are watched by a witness; subscribers hear all of them. Every
    batch stands before the PONG of its publisher, and before the PONG of a witness that asks after
    that."""
    publishers, batches, batch = 3, 150, 20

    def work(stand, name):
        subject = b"order." + name
        peer, witness = stand.client(), stand.client()
        for listener in (peer, witness):
            listener.send(b"SUB %s 1\r\n" % subject)
            listener.read_until_pong(PATIENCE_S)
        for i in range(batches):
            wanted = [numbered(name, i * batch + j) for j in range(batch)]
            publish(peer, subject, wanted, b"PING\r\n")
            require_equal(bodies_until_pong(peer), wanted, "what a publisher hears before its PONG")
            witness.send("PING\r\n")
            require_equal(bodies_until_pong(witness), wanted, "what a witness hears before its PONG")

    def listen(stand, ready):
        peer = stand.client()
        peer.send("SUB order.* 7\r\n")
        peer.read_until_pong(PATIENCE_S)
        ready.release()
        heard = {}
        for _ in range(publishers * batches * batch):
            _, subject, _, body = next_item(peer)
            name = subject.split(b".")[1]
            number = heard.get(name, 0)
            require_equal(body, numbered(name, number), "the next message of a publisher")
            heard[name] = number + 1

    with Stand(bench, SHUFFLE) as stand:
        crew, ready = Crew(), threading.Semaphore(0)
        for _ in range(3):
            crew.start(listen, stand, ready)
        for _ in range(3):
            require(ready.acquire(timeout=PATIENCE_S), "a subscriber is ready")
        for i in range(publishers):
            crew.start(work, stand, b"p%d" % i)
        crew.join()
        require_moved(stand, 100)


def groups_lose_nothing_when_members_leave(bench):
    """One member stays, others come and go: UNSUB, PING, and after the PONG nothing more comes. What
    all members got together is what was published, each message once."""
    count = 10000

    def publish_all(stand, crew):
        peer = stand.client()
        for start in range(0, count, 10):
            publish(peer, b"work.new", [b"%d" % n for n in range(start, start + 10)], b"PING\r\n")
            require_equal(next_item(peer), ("PONG",), "PONG for the publisher")
        crew.is_over.set()

    def come_and_go(stand, crew, got, rounds):
        peer, sid = stand.client(), 0
        while not crew.is_over.is_set() or sid < 2:
            sid += 1
            peer.send(b"SUB work.* crew %d\r\nPING\r\n" % sid)
            got += bodies_until_pong(peer)
            for _ in range(3):
                peer.send("PING\r\n")
                got += bodies_until_pong(peer)
            peer.send(b"UNSUB %d\r\nPING\r\n" % sid)
            got += bodies_until_pong(peer)
            peer.send("PING\r\n")
            require_equal(bodies_until_pong(peer), [], "what comes after the PONG that follows UNSUB")
            rounds.append(sid)
            if sid % 3 == 0:
                # A drain: who has its PONG may go.
                peer.abort()
                peer = stand.client()

    def stay(stand, crew, got, ready):
        peer = stand.client()
        peer.send("SUB work.* crew 1\r\n")
        got += [body for body in [peer.read_until_pong(PATIENCE_S)] if body]
        ready.release()
        while not crew.is_over.is_set():
            peer.send("PING\r\n")
            got += bodies_until_pong(peer)
        for member in members:
            member.join()
        peer.send("PING\r\n")
        got += bodies_until_pong(peer)

    with Stand(bench, SHUFFLE) as stand:
        crew, ready = Crew(), threading.Semaphore(0)
        got, rounds = [[] for _ in range(4)], []
        members = []
        crew.start(stay, stand, crew, got[0], ready)
        require(ready.acquire(timeout=PATIENCE_S), "the member that stays is ready")
        for i in range(3):
            crew.start(come_and_go, stand, crew, got[i + 1], rounds)
            members.append(crew.threads[-1])
        crew.start(publish_all, stand, crew)
        crew.join()
        numbers = sorted(int(body) for bodies in got for body in bodies)
        require(numbers == list(range(count)), "each message came once", count, describe(numbers, count))
        require(len(rounds) >= 6 and all(got), "all members took part", None, [len(g) for g in got])
        require_moved(stand, 100)


def describe(numbers, count):
    have = set(numbers)
    missing = [n for n in range(count) if n not in have]
    return "%d messages, %d doubled, missing %s" % (len(numbers), len(numbers) - len(have), missing[:20])


def a_blocked_peer_moves_with_what_waits(bench):
    """A subscriber that does not read has megabytes waiting while it is moved; then it reads all."""
    piece, pieces = 60000, 120
    with Stand(bench, SHUFFLE) as stand:
        slow = stand.client(receive_buffer=20000)
        slow.send("SUB slow 1\r\n")
        slow.read_until_pong(PATIENCE_S)
        writer = stand.client()
        wanted = [b"%d:" % i + b"y" * piece for i in range(pieces)]
        for body in wanted:
            publish(writer, b"slow", [body], b"PING\r\n")
            require_equal(next_item(writer), ("PONG",), "PONG for the publisher")
        pending = [c["pending_bytes"] for c in stand.server.http_json("/connz")["connections"]]
        require(max(pending) > piece, "bytes wait for the slow peer", "> %d" % piece, pending)
        # Each message is a turn of the slow one; it moves while it cannot write.
        wait_until(lambda: push_until_moved(writer, stand, wanted), "the blocked peer has moved", PATIENCE_S)
        slow.send("PING\r\n")
        require_equal(bodies_until_pong(slow), wanted, "what the slow peer reads in the end")


def push_until_moved(writer, stand, wanted):
    wanted.append(b"%d" % len(wanted))
    publish(writer, b"slow", [wanted[-1]], b"PING\r\n")
    require_equal(next_item(writer), ("PONG",), "PONG for the publisher")
    # The two that live are the slow one and the writer.
    return all(actor["moves"] > 2 for actor in connections(stand))


def newcomers_are_moved_in_their_handshakes(bench):
    """TLS connections come, shake hands, talk and go while all are moved."""
    settings = dict(SHUFFLE, tls=dict(bench.pair("event-service"), root_ca_path=bench.cert("ca")))
    context = tls_context(bench)

    def come_and_go(stand, name):
        for i in range(25):
            peer = stand.client(tls=context)
            subject = b"hello.%d.%d" % (name, i)
            peer.send(b"SUB %s 1\r\nPUB %s 2\r\nok\r\nPING\r\n" % (subject, subject))
            require_equal(bodies_until_pong(peer), [b"ok"], "what a newcomer hears")
            peer.abort()

    with Stand(bench, settings) as stand:
        with stand.bystanders(tls=context):
            crew = Crew()
            for name in range(3):
                crew.start(come_and_go, stand, name)
            crew.join()
        require_moved(stand, 20)


def tls_context(bench):
    context = ssl.create_default_context(cafile=bench.cert("ca"))
    context.load_cert_chain(bench.cert("client"), bench.cert("client")[:-4] + ".key")
    return context


def few_fill_one_worker(bench):
    """Light connections all live on the first worker, and what they say to each other crosses to no
    other one and wakes nobody."""
    with Stand(bench, {"threads": {"workers": 4, "placement": "fill"}}) as stand:
        others = [stand.client() for _ in range(10)]
        asker, answerer = stand.client(), stand.client()
        answerer.send("SUB ask 1\r\n")
        asker.send("SUB told 1\r\n")
        for peer in (asker, answerer):
            peer.read_until_pong(PATIENCE_S)
        before = total(stand, "messages"), total(stand, "messages_remote"), total(stand, "wakes_sent")
        for i in range(300):
            body = b"%d" % i
            publish(asker, b"ask", [body])
            require_equal(next_item(answerer)[3], body, "the question")
            publish(answerer, b"told", [body])
            require_equal(next_item(asker)[3], body, "the answer")
        after = total(stand, "messages"), total(stand, "messages_remote"), total(stand, "wakes_sent")
        require(after[0] - before[0] >= 600, "messages were sent", ">= 600", after[0] - before[0])
        # The pages themselves cost some.
        require(after[1] - before[1] < 60, "hardly any crossed", "< 60", after[1] - before[1])
        require(after[2] - before[2] < 60, "hardly any woke a worker", "< 60", after[2] - before[2])
        require_equal({c["worker"] for c in connections(stand)}, {0}, "where connections live")
        require_equal(len(connections(stand)), len(others) + 2, "connections")


def heavy_pairs_part_and_light_ones_meet(bench):
    """Two pairs that are heavy begin on one worker and end on two, each pair together; when they have become light,
    those that talk to each other end on one worker. How much processor time a worker gets on a busy machine nobody can
    say: so it counts as full when it has used a small part of the time."""
    threads = {"workers": 2, "placement": "fill", "rebalance": "200ms", "spread_above": 4}
    with Stand(bench, {"threads": threads}) as stand:
        pairs = [(stand.client(), stand.client()) for _ in range(2)]
        crew = Crew()
        for number, (writer, reader) in enumerate(pairs):
            reader.send("SUB heavy.%d 1\r\n" % number)
            reader.read_until_pong(PATIENCE_S)
        require_equal({home(stand, peer) for pair in pairs for peer in pair}, {0}, "where all begin")

        def press(number, writer, reader):
            """As much as the two can take, until it is over; then up to the last message."""
            text = b"PUB heavy.%d 1\r\nx\r\n" % number * 2000
            drain = threading.Thread(target=read_up_to, args=(reader, b" 3\r\nend\r\n"), daemon=True)
            drain.start()
            while not crew.is_over.is_set():
                writer.send(text)
                writer.read_until_pong(PATIENCE_S * stand.slow)
            publish(writer, b"heavy.%d" % number, [b"end"])
            drain.join()

        def have_parted():
            homes = [[home(stand, peer) for peer in pair] for pair in pairs]
            return sorted(homes) == [[0, 0], [1, 1]]

        for number, (writer, reader) in enumerate(pairs):
            crew.start(press, number, writer, reader)
        try:
            wait_seldom(lambda: have_parted() or crew.fault, "heavy pairs live apart", 60.0 * stand.slow)
        finally:
            crew.is_over.set()
            crew.join()
        moves = [worker["moves_in"] for worker in actorz(stand)["workers"]]
        require(moves[1] >= 2, "the second worker took a pair", ">= 2", moves)

        # Light now, and across: the writers talk to each other.
        left, right = pairs[0][0], pairs[1][0]
        for peer, subject in ((left, "left"), (right, "right")):
            peer.send("SUB %s 1\r\n" % subject)
            peer.read_until_pong(PATIENCE_S)

        def talk_and_look():
            for _ in range(10):
                for writer, reader, subject in ((left, right, b"right"), (right, left, b"left")):
                    publish(writer, subject, [b"hello"])
                    require_equal(next_item(reader)[3], b"hello", "what the other one says")
                threading.Event().wait(0.05)
            return home(stand, left) == home(stand, right)

        wait_seldom(talk_and_look, "those that talk to each other live together", 60.0 * stand.slow, pause_s=0)


def home(stand, peer):
    """The worker that a client's connection lives on."""
    rows = [c for c in connections(stand) if c["description"].endswith(":%d" % peer.local_port)]
    require_equal(len(rows), 1, "a connection on /actorz")
    return rows[0]["worker"]


def wait_seldom(condition, what, deadline_s, pause_s=0.4):
    """As wait_until, but looks seldom: the pages cost processor time too."""
    end = time.monotonic() + deadline_s
    while not condition():
        require(time.monotonic() < end, what, "within %d s" % deadline_s, "not")
        threading.Event().wait(pause_s)


def read_up_to(peer, end):
    """Unparsed: the reader must not be what takes the time."""
    data = b""
    while end not in data:
        data = data[-len(end) :] + peer.sock.recv(1 << 18)
        require(data, "the reader's connection lives")


def spread_goes_round(bench):
    with Stand(bench, {"threads": {"workers": 4, "placement": "spread", "rebalance": 0}}) as stand:
        peers = [stand.client() for _ in range(8)]
        homes = sorted(c["worker"] for c in connections(stand))
        require_equal(homes, [0, 0, 1, 1, 2, 2, 3, 3], "where connections live")
        require_equal(total(stand, "moves_in"), 0, "moves with rebalancing off")
        for peer in peers:
            peer.expect_open()


def a_hot_neighbour_starves_nobody(bench):
    """One worker; a load generator gives it all it can take, and beside it a quiet pair has its
    questions answered long before that ends."""
    with Stand(bench, {"threads": {"workers": 1}}) as stand:
        asker, answerer = stand.client(), stand.client()
        answerer.send("SUB quiet 1\r\n")
        answerer.read_until_pong(PATIENCE_S)
        load = subprocess.Popen(
            [bench.program("event-bench"), "pub-sub", "--publishers", "4", "--duration", "60s"]
            + ["--server", "%s:%d" % (HOST, stand.server.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: stand.varz()["in_msgs"] > 20000, "the load has begun", PATIENCE_S * stand.slow)
            began = stand.varz()["in_msgs"]
            for i in range(40):
                publish(asker, b"quiet", [b"%d" % i], b"PING\r\n")
                require_equal(next_item(answerer)[3], b"%d" % i, "the quiet pair's message")
                require_equal(next_item(asker), ("PONG",), "the quiet one's PONG")
            require(load.poll() is None, "the load goes on", None, load.poll())
            wait_until(lambda: stand.varz()["in_msgs"] > began + 1000, "the load went on", PATIENCE_S)
        finally:
            load.terminate()
            load.wait()


def a_ping_cut_in_two_waits_whole(bench):
    """A PING behind an UNSUB waits until no worker delivers any more, also when its bytes come by two reads."""
    with Stand(bench, SHUFFLE) as stand:
        peer = stand.client()
        others = [stand.client() for _ in range(3)]
        for number in range(200):
            for other in others:
                other.send("PUB a 1\r\nx\r\n")  # workers with something to do: the wait is not over at once
            cut = number % 6
            peer.send("SUB b.%d 1\r\nUNSUB 1\r\n%s" % (number, "PING\r\n"[:cut]))
            if number % 2 == 0:
                others[0].read_until_pong()
            peer.send("PING\r\n"[cut:])
            require_equal(next_item(peer), ("PONG",), "number %d, cut at %d" % (number, cut))


if __name__ == "__main__":
    sys.exit(
        main(
            [
                order_is_kept_while_all_move,
                groups_lose_nothing_when_members_leave,
                newcomers_are_moved_in_their_handshakes,
                a_blocked_peer_moves_with_what_waits,
                a_ping_cut_in_two_waits_whole,
                a_hot_neighbour_starves_nobody,
                few_fill_one_worker,
                heavy_pairs_part_and_light_ones_meet,
                spread_goes_round,
            ],
            __doc__,
            threads=2,
        )
    )
