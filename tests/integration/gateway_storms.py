#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Links under strain: interest of 100,000 subjects that comes and goes, peers that hang, accounts
that lose their last subscription while messages cross. Afterwards all is as it should be, meanwhile
others are served.

  gateway_storms.py --build build/debug
  gateway_storms.py --build build/debug --only storm_of_ours --timings

Method: two or three servers, one of them ours or all; a pair of bystanders exchanges numbers over the
link all the while. What a server knows of the other's interest is read from its /gatewayz; that it is
right is shown by messages that arrive, and by 503 where nobody is left.
"""
import random
import signal
import sys
import time

from bystanders import main
from gateway_peer import WAIT, want
from gateway_traffic import interest_across, linked
from gateway_world import LINK_S, Crossing, World
from support import Mismatch, require, wait_until

SUBJECTS = 100000
SUBJECTS_SLOW = 20000  # where a sanitizer watches: what it would find does not depend on the number
STORM_S = 60.0  # for 100,000 subjects to come or go; far above what a busy machine needs


def sub_all(client, subjects):
    """SUB of all these (number, subject), in large writes; answered by a PONG."""
    for at in range(0, len(subjects), 5000):
        client.send("".join("SUB %s %d\r\n" % (s, n) for n, s in subjects[at : at + 5000]))
    client.flush(STORM_S)


def unsub_all(client, subjects):
    for at in range(0, len(subjects), 5000):
        client.send("".join("UNSUB %d\r\n" % n for n, _ in subjects[at : at + 5000]))
    client.flush(STORM_S)


def await_known(node, peer, count):
    """Until the node knows exactly so many plain subjects of the peer's cluster."""

    def known():
        return node.account(peer.name).get("num_subs", 0)

    try:
        wait_until(lambda: known() == count, "", STORM_S)
    except Mismatch:
        raise Mismatch(
            "subjects of %s known to %s" % (peer.name, node.name), count, known()
        ) from None


def expect_arrivals(publisher, subscriber, sample):
    """Each of these subjects is heard by the subscriber, under its own number, once."""
    for n, subject in sample:
        publisher.pub(subject, str(n))
    publisher.flush(WAIT * 3)
    got = [subscriber.take(3 * WAIT) for _ in sample]
    want(
        [(f.args[0], int(f.args[1]), int(f.payload)) for f in got]
        == [(s, n, n) for n, s in sample],
        "%d samples arrive in order, got %s" % (len(sample), got[:5]),
    )
    subscriber.quiet("after the samples")


def expect_nobody(requester, sample, inbox):
    """Requests on these subjects are answered by 503, so nobody is taken to listen there."""
    requester.sub(inbox, 99)
    for _, subject in sample:
        requester.pub(subject, "?", reply=inbox)
    for _ in sample:
        frame = requester.take(3 * WAIT, "503")
        want(frame.verb == "HMSG" and b" 503" in frame.header, "expected 503, got %r" % frame)
    requester.unsub(99)
    requester.quiet("after 503")


def storm(world, here, there):
    """100,000 subjects are subscribed at `here` and known at `there`; half of them go, come back
    and go while others come; then all go."""
    crossing = Crossing(there.client("crossing"), here.client("crossing"))
    back = Crossing(here.client("back"), there.client("back"), "crossing.back")
    subscriber, publisher = here.client("storm"), there.client("publisher")
    with crossing, back:
        base = there.account(here.name)["num_subs"]
        count = SUBJECTS_SLOW if world.bench.sanitizer else SUBJECTS
        subjects = [(n, "storm.%d.%d" % (n % 977, n)) for n in range(100, 100 + count)]
        half = subjects[::2]
        choose = random.Random(7)
        sub_all(subscriber, subjects)
        await_known(there, here, base + count)
        expect_arrivals(publisher, subscriber, choose.sample(subjects, 300))
        for _ in range(2):
            unsub_all(subscriber, half)
            sub_all(subscriber, half)
        unsub_all(subscriber, half)
        await_known(there, here, base + count - len(half))
        expect_nobody(publisher, choose.sample(half, 100), "_INBOX.half")
        expect_arrivals(publisher, subscriber, choose.sample(subjects[1::2], 100))
        # The rest goes at once with its client.
        subscriber.close()
        await_known(there, here, base)
        expect_nobody(publisher, choose.sample(subjects, 100), "_INBOX.all")
    require(
        crossing.slowest_s < 3 * WAIT, "numbers cross in time", 3 * WAIT, crossing.slowest_s
    )


def bounded(world, node, before, megabytes):
    grown = (node.memory() - before) / 1e6
    require(
        grown <= megabytes * world.slow,
        "memory of %s stays within bounds" % node.name,
        "at most %d MB more" % (megabytes * world.slow),
        "%.1f MB" % grown,
    )


def storm_beside_nats(bench, is_ours):
    """A storm at our server, or at the nats-server that it is linked with."""
    with World(bench) as world:
        a = world.nats("A")
        s = world.ours("S", [a])
        s.await_outbound("A")
        a.await_outbound("S")
        before = s.memory()
        storm(world, *((s, a) if is_ours else (a, s)))
        bounded(world, s, before, 150)


def storm_of_ours(bench):
    """Subjects of our clients, told to a nats-server."""
    storm_beside_nats(bench, True)


def storm_of_theirs(bench):
    """Subjects of a nats-server's clients, told to us."""
    storm_beside_nats(bench, False)


def storm_of_a_gateway(bench):
    """Subjects of an event-gateway's clients, told to event-service."""
    with World(bench) as world:
        s = world.ours("event-service")
        g = world.outside("event-gateway", [s])
        s.await_outbound("event-gateway")
        g.await_outbound("event-service")
        before = s.memory(), g.memory()
        storm(world, g, s)
        bounded(world, s, before[0], 150)
        bounded(world, g, before[1], 150)


def new_link_to_many(bench):
    """A peer that comes when 20,000 long subjects are subscribed is told all of them, though less
    than that may wait for it: limits.max_pending is for what it does not take, not for what is
    there."""
    with World(bench) as world:
        s = world.ours("S", limits={"max_pending": 262144, "max_payload": 65536})
        subscriber = s.client("storm")
        base = s.http_json("/varz")["subscriptions"]
        count = SUBJECTS_SLOW
        subjects = [(n, "storm.%d.%s" % (n, "x" * 600)) for n in range(100, 100 + count)]
        sub_all(subscriber, subjects)
        a = world.nats("A", [s])
        a.await_outbound("S")
        wait_until(
            lambda: a.account("S").get("num_subs", 0) >= count, "A knows all subjects", STORM_S
        )
        expect_arrivals(a.client(), subscriber, random.Random(8).sample(subjects, 200))
        subscriber.close()
        wait_until(
            lambda: s.http_json("/varz")["subscriptions"] <= base, "all has gone", STORM_S
        )


def peer_of_many_dies(bench):
    """A remote that wants 20,000 subjects dies and comes back with them: what it wanted is gone, and
    is known again, and the link to another remote carries on."""
    with World(bench) as world:
        a, d = world.nats("A"), world.ours("D")
        s = world.ours("S", [a, d])
        s.await_outbound("A", "D")
        a.await_outbound("D", "S")
        count = SUBJECTS_SLOW
        subjects = [(n, "many.%d" % n) for n in range(100, 100 + count)]
        publisher = s.client("publisher")
        with Crossing(s.client("crossing"), d.client("crossing")):
            subscriber = a.client("many")
            sub_all(subscriber, subjects)
            await_known(s, a, count)
            before = s.http_json("/varz")["subscriptions"]
            a.process.kill()
            a.process.wait()
            wait_until(
                lambda: s.http_json("/varz")["subscriptions"] <= before - count,
                "S has forgotten what A wanted",
                STORM_S,
            )
            expect_nobody(publisher, subjects[::1000], "_INBOX.dead")
            require(a.spawn({a.port, a.gateway_port}), "A starts again")
            subscriber = a.client("many again")
            sub_all(subscriber, subjects)
            s.await_outbound("A", "D")
            await_known(s, a, count)
            expect_arrivals(publisher, subscriber, subjects[::1000])


def hanging_peer(bench):
    """A remote that stops taking bytes is cut off by the write deadline; publishers and the link to
    another remote are not held up. When it wakes up it is linked again."""
    with World(bench) as world:
        a, d = world.nats("A"), world.ours("D")
        s = world.ours("S", [a, d], limits={"write_deadline": "2s"})
        s.await_outbound("A", "D")
        a.await_outbound("D", "S")
        publisher, far = s.client("publisher"), a.client("far")
        far.sub("big", 1)
        linked(publisher, far, LINK_S)
        with Crossing(s.client("crossing"), d.client("crossing")) as crossing:
            a.signal(signal.SIGSTOP)
            try:
                for _ in range(20):  # more than the kernel's buffers take
                    publisher.send((b"PUB big 65536\r\n" + b"x" * 65536 + b"\r\n") * 20)
                    publisher.flush(3 * WAIT)
                wait_until(
                    lambda: s.account("A") == {} and "Slow Consumer" in s.log_text(),
                    "the link to A is cut off",
                    LINK_S * world.slow,
                )
                publisher.flush(3 * WAIT)
            finally:
                a.signal(signal.SIGCONT)
            s.await_outbound("A", "D")
        far.close()
        far = a.client("far again")
        far.sub("small", 1)
        linked(publisher, far, LINK_S)
        publisher.pub("small", "7")
        want(far.take(3 * WAIT).payload == b"7", "the message after")
        far.quiet("after the message after")
        require(crossing.slowest_s < 3 * WAIT, "numbers cross in time", None, crossing.slowest_s)


def silent_peer(bench):
    """A remote that answers no PING any more is given up on after ping_max of them, both its links,
    and is linked again when it wakes up."""
    with World(bench) as world:
        a = world.nats("A")
        s = world.ours("S", [a], limits={"ping_interval": "1s", "ping_max": 2})
        s.await_outbound("A")
        a.await_outbound("S")
        ours, theirs = s.client(), a.client()
        linked(ours, theirs, LINK_S)
        a.signal(signal.SIGSTOP)
        try:
            wait_until(lambda: s.links() == ([], []), "both links are given up", LINK_S)
        finally:
            a.signal(signal.SIGCONT)
        s.await_outbound("A")
        a.await_outbound("S")
        again = a.client("again")
        linked(s.client("again"), again, LINK_S)


def cross_last_unsub(publisher, subscriber, subject, sid):
    """A stream of messages is under way when the account's last subscription goes."""
    publisher.send(b"".join(b"PUB %s 1\r\nx\r\n" % subject.encode() for _ in range(2000)))
    subscriber.take(3 * WAIT)
    subscriber.unsub(sid)
    subscriber.flush(3 * WAIT)
    publisher.flush(3 * WAIT)
    subscriber.fence()


def publish_until_heard(publisher, subscriber, subject):
    """Publishes until something comes; then what follows comes too."""
    end = time.monotonic() + LINK_S
    while True:
        publisher.pub(subject, "?")
        publisher.flush(3 * WAIT)
        try:
            subscriber.take(0.1)
            break
        except Mismatch:
            want(time.monotonic() < end, "nothing on %s comes over the link" % subject)
    publisher.pub(subject, "sure")
    while subscriber.take(3 * WAIT).payload != b"sure":
        pass


def trap_of_the_dialler(bench):
    """A real server forgets that we only send what is asked for when its account loses its last
    subscription while messages cross (A-). The next subscription, plain or of a queue group, is
    served all the same."""
    with World(bench) as world:
        a = world.nats("A")
        s = world.ours("S", [a])
        s.await_outbound("A")
        a.await_outbound("S")
        publisher, subscriber = s.client("publisher"), a.client("subscriber")
        trapped = 0
        for n in range(60):
            subject, queue = "trap.%d" % n, "g" if n % 2 else None
            subscriber.sub(subject, n + 1, queue)
            publish_until_heard(publisher, subscriber, subject)
            cross_last_unsub(publisher, subscriber, subject, n + 1)
            trapped += s.account("A")["interest_mode"] not in ("Interest-Only", "Optimistic")
            if trapped >= 6:
                break
        want(trapped >= 2, "A- was never provoked: the case shows nothing")
        # Optimistic now: what nobody there wants is refused, and then left out.
        subscriber.sub("wanted", 900)
        publish_until_heard(publisher, subscriber, "wanted")
        for _ in range(3):
            publisher.pub("unwanted", "x")
            publisher.pub("wanted", "fence")
            want(subscriber.take(3 * WAIT).args[0] == "wanted", "only what is wanted comes")
        # A new link starts from nothing, and is interest-only again.
        a.relaunch()
        s.await_outbound("A")
        subscriber = a.client("subscriber again")
        subscriber.sub("wanted", 1)
        publish_until_heard(publisher, subscriber, "wanted")
        want(s.account("A")["interest_mode"] == "Interest-Only", "the new link: %s" % s.account("A"))


def trap_of_the_acceptor(bench):
    """The same with us as the side whose account loses its last subscription: we say nothing, and a
    real server goes on honouring our interest."""
    with World(bench) as world:
        a = world.nats("A")
        g = world.outside("G", [a])  # event-service itself always has a subscription
        g.await_outbound("A")
        a.await_outbound("G")
        publisher, subscriber = a.client("publisher"), g.client("subscriber")
        for n in range(40):
            subject, queue = "trap.%d" % n, "g" if n % 2 else None
            subscriber.sub(subject, n + 1, queue)
            publish_until_heard(publisher, subscriber, subject)
            cross_last_unsub(publisher, subscriber, subject, n + 1)
        mode = a.account("G").get("interest_mode")
        want(mode == "Interest-Only", "A holds our account to be %s" % mode)


CASES = [
    hanging_peer,
    trap_of_the_dialler,
    trap_of_the_acceptor,
    silent_peer,
    storm_of_ours,
    storm_of_theirs,
    peer_of_many_dies,
    storm_of_a_gateway,
    new_link_to_many,
]

if __name__ == "__main__":
    sys.exit(main(CASES, __doc__.splitlines()[0]))
