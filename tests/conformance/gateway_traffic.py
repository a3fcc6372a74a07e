# SPDX-License-Identifier: GPL-2.0-or-later
"""Traffic between two servers that a gateway joins: waiting for the link and for interest, and the
ordered exchange.

Interest lines and messages keep their order on a link, so a marker subject that is subscribed after
the real ones proves, once a message on it arrives, that the real ones are known too.
"""
import itertools
import threading
import time

from gateway_peer import WAIT, want
from support import Mismatch

marker_numbers = itertools.count(1)


def interest_across(subscriber, publisher, deadline_s=WAIT):
    """Waits until all that `subscriber` has subscribed so far is known where `publisher` is.

    The marker stays subscribed: its UNSUB might be the account's last one and cross a marker
    message, which silences the account between two real servers until the link is remade.
    """
    subject = "marker.%d" % next(marker_numbers)
    awaiting = [True]

    def is_marker(frame):
        return (
            frame.verb == "MSG"
            and frame.args[0].startswith("marker.")
            and not (awaiting and frame.args[0] == subject)
        )

    subscriber.ignore = is_marker
    subscriber.sub(subject, "9%s" % subject[7:])
    subscriber.flush()
    end = time.monotonic() + deadline_s
    held = []
    while awaiting:
        publisher.pub(subject, "?")
        publisher.flush()
        try:
            frame = subscriber.take(0.05)
            while frame.args[0] != subject:
                held.append(frame)
                frame = subscriber.take(0.05)
            awaiting.clear()
        except Mismatch:
            want(
                time.monotonic() < end,
                "%s: interest of %s not known there within %.1f s"
                % (publisher.label, subscriber.label, deadline_s),
            )
    subscriber.pending.extend(held)


def linked(left, right, deadline_s=WAIT):
    """Waits until messages pass both ways between two clients."""
    interest_across(right, left, deadline_s)
    interest_across(left, right, deadline_s)


def in_threads(*works):
    """Runs all at once; the first failure is raised again here."""
    failures = []

    def guarded(work):
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def publish_numbers(client, subject, count, size=16):
    """count messages that carry their number, in runs, then the word `end`."""
    for begin in range(0, count, 100):
        payloads = [("%d" % n).encode().ljust(size) for n in range(begin, min(count, begin + 100))]
        client.send(
            b"".join(b"PUB %s %d\r\n%s\r\n" % (subject.encode(), len(p), p) for p in payloads)
        )
    client.pub(subject, "end")
    client.flush(60)


def read_numbers(client, subject, count, timeout=60):
    """Exactly these messages in this order, none twice: `end` must follow the last one at once."""
    for n in range(count):
        frame = client.take(timeout, "message %d" % n)
        want(
            frame.verb == "MSG" and frame.args[0] == subject and int(frame.payload) == n,
            "%s: expected message %d on %s, got %r" % (client.label, n, subject, frame),
        )
    frame = client.take(timeout, "the end")
    want(
        frame.payload == b"end",
        "%s: expected the end after %d messages, got %r" % (client.label, count, frame),
    )


def churn(client, prefix, begun, stopped):
    """SUB and UNSUB of other subjects until told to stop; tells `begun` of its first round."""
    rounds = 0
    try:
        while not stopped.is_set():
            client.sub("%s.%d" % (prefix, rounds), "7")
            client.sub("%s.queue" % prefix, "8", "g")
            client.unsub("7")
            client.unsub("8")
            client.flush(60)
            rounds += 1
            if rounds == 1:
                begun.release()
    finally:
        if rounds == 0:
            begun.release()


def exchange(new_left, new_right, count):
    """count messages each way at once while SUB/UNSUB runs on both sides (row G92).

    new_left(label) and new_right(label) make a client on that side.
    """
    left_in, right_in = new_left("left reader"), new_right("right reader")
    left_in.sub("from.right", "1")
    right_in.sub("from.left", "1")
    left_out, right_out = new_left("left publisher"), new_right("right publisher")
    left_churn, right_churn = new_left("left churn"), new_right("right churn")
    interest_across(left_in, right_out)
    interest_across(right_in, left_out)
    begun, stopped = threading.Semaphore(0), threading.Event()

    def traffic():
        # A small count would be through before a slow machine has started the others.
        begun.acquire()
        begun.acquire()
        try:
            in_threads(
                lambda: publish_numbers(left_out, "from.left", count),
                lambda: publish_numbers(right_out, "from.right", count),
                lambda: read_numbers(left_in, "from.right", count),
                lambda: read_numbers(right_in, "from.left", count),
            )
        finally:
            stopped.set()

    in_threads(
        traffic,
        lambda: churn(left_churn, "churn.left", begun, stopped),
        lambda: churn(right_churn, "churn.right", begun, stopped),
    )
    for client in (left_in, right_in, left_out, right_out, left_churn, right_churn):
        client.close()
