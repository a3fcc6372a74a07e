#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Gateway peers that lie, flood, hang half-way or come twice: nobody else is harmed by them, and
what they can make grow stays bounded.

  gateway_liars.py --build build/debug
  gateway_liars.py --build build/debug --only gossip_flood --keep

Method: a test peer plays a cluster that misbehaves, against one server of ours; beside it an honest
cluster K exchanges messages over its links, and two clients among themselves. What the server holds
is read from /gatewayz and from the process; that all is well is shown by messages that come, once.
"""
import contextlib
import itertools
import json
import sys
import threading
import time

from bystanders import Stand, main, reset
from gateway_peer import WAIT, Client, Peer, dial, want
from support import Mismatch, merge, require, wait_until

numbers = itertools.count(1)


class Hall:
    """A server of ours (gateway B), an honest cluster K beside it, and clients that talk."""

    def __init__(self, bench, gateway=None, **settings):
        self.closing = contextlib.ExitStack()
        self.honest = self.peer("K")
        section = merge({"name": "B"}, gateway or {})
        whole = {
            "service": {"name": "srv-b"},
            "queue": {"storage": "memory"},
            "gateway": section,
        }
        self.stand = self.closing.enter_context(Stand(bench, merge(whole, settings)))
        self.server, self.slow = self.stand.server, self.stand.slow
        self.o = self.honest.open_o(self.server)
        self.i = self.honest.open_i()
        self.client = self.new_client("c")
        self.client.sub("to.c", 1)
        self.client.flush()
        self.o.expect("RS+ $G to.c")
        self.i.switch("to.k")

    def __enter__(self):
        return self

    def __exit__(self, kind, fault, trace):
        try:
            if kind is None:
                self.honest_is_well()
        finally:
            self.client.close()
            self.closing.__exit__(kind, fault, trace)

    def peer(self, name="F", **options):
        peer = Peer(name, **options)
        peer.ignore = is_of_others
        self.closing.callback(peer.close)
        return peer

    def new_client(self, label):
        client = Client(self.server.port, label)
        client.ignore = is_of_others
        self.closing.callback(client.close)
        return client

    def honest_is_well(self):
        """Messages pass both ways over K's links, once."""
        n = next(numbers)
        self.client.pub("to.k", str(n))
        self.i.expect("RMSG $G to.k %d" % len(str(n)), b"%d" % n, 3 * WAIT)
        self.o.message("to.c", str(n))
        self.client.expect("MSG to.c 1 %d" % len(str(n)), b"%d" % n, 3 * WAIT)
        self.i.quiet("after one message")
        self.client.quiet("after one message")
        self.o.fence()  # interest that came meanwhile; and its PINGs are answered

    def page(self):
        for _ in range(4):  # a thousand links under a sanitizer take longer than one request may
            with contextlib.suppress(TimeoutError):
                return self.server.http_json("/gatewayz")
        raise Mismatch("/gatewayz is not answered")

    def remotes(self):
        return {row["name"]: row for row in self.page()["remotes"]}

    def inbound_count(self):
        rows = self.page().get("inbound_gateways") or {}
        return sum(len(links) for links in rows.values())

    def only_honest_is_left(self):
        """The liars' links are gone, from the pages and from the process."""
        wait_until(
            lambda: self.inbound_count() == 1, "only K's link is left", 3 * WAIT * self.slow
        )


def is_of_others(frame):
    """Interest that is the server's own, and what the bystanders say."""
    if frame.verb in ("RS+", "RS-"):
        return frame.args[1].startswith(("event.", "$SYS.", "bystander."))
    if frame.verb in ("RMSG", "HMSG"):
        return frame.args[1].startswith("bystander.")
    return frame.verb == "MSG" and frame.args[0].startswith("bystander.")


def half_handshakes(bench):
    """Connections that stop half-way, at each step of the opening: each ends by its deadline,
    leaves nothing, and keeps nobody out."""
    with Hall(bench) as hall, hall.stand.bystanders():
        files = hall.stand.files()
        openings = [
            b"",
            b"C",
            b'CONNECT {"gateway":"F"',
            b'CONNECT {"gateway":"F"}\r\n',
            b'CONNECT {"gateway":"F"}\r\nINFO {"gateway":',
        ]
        links = [hall.peer("F").dial(hall.server) for _ in range(40) for _ in openings]
        for number, link in enumerate(links):
            opening = openings[number % len(openings)]
            link.answers_pings = opening.endswith(b"\n")  # else PONG would end the half line
            link.try_send(opening)
        hall.honest_is_well()
        # Those before CONNECT end after 2 s; the others, which even answer PING, after 10 s more.
        for number, link in enumerate(links):
            frames = link.read_to_end(60)
            errors = [frame.line for frame in frames if frame.verb == "-ERR"]
            want(errors == ["-ERR 'Authentication Timeout'"], "link %d: %s" % (number, frames))
            link.close()
        hall.only_honest_is_left()
        wait_until(lambda: hall.stand.files() <= files, "their sockets are closed", WAIT)


def too_many_links(bench):
    """More links than there may be are dropped at once; when they have gone there is room again."""
    with Hall(bench) as hall, hall.stand.bystanders():
        files = hall.stand.files()
        peer = hall.peer("F")
        opening = (
            peer.connect_line() + "INFO %s\r\n" % json.dumps(peer.info(gateway_urls=None))
        ).encode()
        socks = [dial("127.0.0.1", hall.server.gateway_port, time.monotonic() + WAIT) for _ in range(1100)]
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.sendall(opening)
        wait_until(lambda: hall.inbound_count() > 900, "most links are open", 3 * WAIT * hall.slow)
        require(hall.inbound_count() <= 1024, "links are bounded", 1024, hall.inbound_count())
        hall.honest_is_well()
        for sock in socks:
            sock.close()
        hall.only_honest_is_left()
        wait_until(lambda: hall.stand.files() <= files, "their sockets are closed", WAIT * hall.slow)
        late = hall.peer("L")
        late.open_o(hall.server, gateway_urls=None).flush()


def gossip_flood(bench):
    """A peer that tells of clusters without end: few are tried, memory stays bounded, and a true
    cluster that comes is learned all the same."""
    with Hall(bench) as hall, hall.stand.bystanders():
        f = hall.peer("F")
        f.open_o(hall.server)
        i = f.open_i()
        with hall.stand.memory_bound(60):
            for begin in range(0, 20000, 500):
                i.send(
                    "".join(
                        'INFO {"gateway":"liar-%d","gateway_urls":["127.0.0.1:1","no.such.%d.invalid:7"],'
                        '"gateway_cmd":1}\r\n' % (n, n)
                        for n in range(begin, begin + 500)
                    )
                )
            i.flush(60)
            hall.honest_is_well()
            require(len(hall.remotes()) <= 256 + 2, "learned clusters", 256, len(hall.remotes()))
            hall.stand.expect_log("tells of clusters without end")
        # Those that were tried have failed by now, one at least; who really comes takes its place.
        wait_until(
            lambda: any(row["failures"] > 0 for row in hall.remotes().values()),
            "one of them was tried",
            3 * WAIT,
        )
        true = hall.peer("T")
        true.open_o(hall.server)
        true.open_i().flush()
        want(hall.remotes()["T"]["state"] == "linked", "T: %s" % hall.remotes().get("T"))


def url_flood(bench):
    """A peer that gives a cluster hundreds of false addresses, twice over: the true one, told by
    the cluster itself, is kept and found; strange names and addresses are not taken."""
    with Hall(bench) as hall, hall.stand.bystanders():
        f = hall.peer("F")
        f.open_o(hall.server)
        i = f.open_i()
        for begin in range(0, 1000, 100):
            i.gossip("T", ["127.0.0.1:%d" % (1 + (n % 9)) for n in range(begin, begin + 100)])
            i.gossip("T", ["127.0.9.%d:%d" % (n % 250, 1 + n) for n in range(begin, begin + 100)])
        for name in ("", "x" * 256, "a\tb", "a\x00b", "B", "F"):
            i.gossip(name, ["127.0.0.1:9"])
        for url in ("", "host", ":1", "host:0", "host:99999", "a b:1", "[::1:4", "h\x00:1", "x" * 400 + ":1"):
            i.gossip("strange", [url])
        i.flush(WAIT * 3)
        hall.honest_is_well()
        rows = hall.remotes()
        want(sorted(rows) == ["F", "K", "T"], "clusters: %s" % sorted(rows))
        want(rows["T"]["urls"] <= 64, "addresses of T: %d" % rows["T"]["urls"])
        true = hall.peer("T")
        true.open_o(hall.server)
        true.open_i(timeout=60 * hall.slow).flush()


def interest_flood(bench):
    """A peer that wants ever more is cut off at gateway.max_interest and leaves nothing behind; so
    is one with very long subjects, and one with queue groups without end on one subject."""
    with Hall(bench, gateway={"max_interest": 20000}) as hall, hall.stand.bystanders():
        f = hall.peer("F")
        f.open_o(hall.server)
        floods = [
            b"".join(b"RS+ $G flood.%d\r\n" % n for n in range(20001)),
            b"".join(b"RS+ $G flood.%d.%s\r\n" % (n, b"x" * 60000) for n in range(100)),
            b"".join(b"RS+ $G flood g%d 1\r\n" % n for n in range(1025)),
        ]
        with hall.stand.memory_bound(120):
            for flood in floods:
                i = f.open_i(timeout=3 * WAIT)
                i.command(2)
                i.command(3)
                i.try_send(flood)
                i.expect_close(timeout=60)
                i.close()
                hall.honest_is_well()
        # One that stays below the bound is served, and may change its mind for ever.
        i = f.open_i(timeout=3 * WAIT)
        i.switch()
        for _ in range(6 if bench.sanitizer else 60):
            i.send(
                b"".join(b"RS+ $G churn.%d\r\nRS- $G churn.%d\r\n" % (k, k) for k in range(2000))
            )
        i.send("RS+ $G last\r\n")
        i.flush(60)
        hall.client.pub("last", "x")
        i.expect("RMSG $G last 1", b"x")
        row = hall.page()["outbound_gateways"]["F"]["accounts"][0]
        want(row["num_subs"] == 1, "interest of F: %s" % row)


def wrong_direction(bench):
    """Lines that only the other side may send, many of them, each on a link of its own: the link
    ends, nothing is delivered, no other link notices."""
    with Hall(bench) as hall, hall.stand.bystanders():
        listener = hall.new_client("listener")
        listener.sub(">", 1)
        listener.flush()
        hall.o.expect("RS+ $G >")
        floods = {
            True: ("A- $G\r\n", "A+ $G\r\n", "RS+ $G foo\r\n", "RS- $G to.k\r\n", "RS- $G x q\r\n"),
            False: (
                "RMSG $G secret 1\r\nx\r\n",
                "HMSG $G secret 0 1\r\nx\r\n",
                'CONNECT {"gateway":"F"}\r\n',
                "RMSG $G _GR_.b2oh2L.xxxxxx.secret 1\r\nx\r\n",
            ),
        }
        f = hall.peer("F")
        for line in floods[True]:
            o = f.open_o(hall.server, gateway_urls=None)
            o.wrong_side_allowed = True
            o.try_send(line * 500)
            o.read_to_end(3 * WAIT)
            o.close()
            listener.quiet("after %r" % line)
        f.open_o(hall.server)
        for line in floods[False]:
            i = f.open_i(timeout=3 * WAIT)
            i.wrong_side_allowed = True
            i.try_send(line * 500)
            i.read_to_end(3 * WAIT)
            i.close()
            listener.quiet("after %r" % line)


def own_name(bench):
    """A peer that calls itself by our own name, in CONNECT, INFO, gossip or a command: it is not
    dialled and gets no messages; what it sends is delivered once, as from any cluster."""
    with Hall(bench) as hall, hall.stand.bystanders():
        f = hall.peer("B")
        o = f.open_o(hall.server)
        f.not_dialled_for(1.2, "as our own cluster")
        o.message("to.c", "x")
        hall.client.expect("MSG to.c 1 1", b"x")
        hall.i.gossip("B", [f.address])
        hall.i.flush()
        f.not_dialled_for(0.5, "by gossip of our own name")
        want("B" not in hall.remotes(), "remotes: %s" % hall.remotes())
        # Our own address by another name: we meet ourselves, and part.
        hall.i.gossip("MIRROR", ["127.0.0.1:%d" % hall.server.gateway_port])
        wait_until(
            lambda: hall.remotes().get("MIRROR", {"failures": 0})["failures"] > 0,
            "ourselves were refused",
            3 * WAIT,
        )
        hall.i.command(2, gateway="B")
        hall.i.expect_close(
            'Connection from "B" rejected, wanted to connect to "K", this is "B"'
        )
        hall.i = hall.honest.open_i(timeout=3 * WAIT)
        hall.i.switch("to.k")


def wrong_names(bench):
    """A configured remote that turns out to be another cluster is refused each time and tried again
    once a second or less; behind a second address the true one is found. A peer that says one name
    in CONNECT and a forbidden one in INFO is refused."""
    f, other = Peer("F"), Peer("OTHER")
    remotes = [
        {"name": "F", "urls": [other.url, f.url]},
        {"name": "K", "urls": ["nats://127.0.0.1:1"]},
    ]
    with contextlib.closing(f), contextlib.closing(other):
        with Hall(bench, gateway={"remotes": remotes, "reject_unknown": True}) as hall:
            with hall.stand.bystanders():
                seen = threading.Event()

                def refuse():
                    while not seen.is_set():
                        sock = other.try_accept(0.1)
                        if sock is not None:
                            dials.append(time.monotonic())
                            with contextlib.suppress(OSError), sock:
                                sock.sendall(b"INFO %s\r\n" % json.dumps(other.info()).encode())
                                while sock.recv(65536):
                                    continue

                dials = []
                liar = threading.Thread(target=refuse, daemon=True)
                liar.start()
                try:
                    f.open_i(timeout=3 * WAIT).switch("to.f")
                    # Down and up again, five times: each time the liar may be asked first.
                    for _ in range(4):
                        f.links[-1].close()
                        f.open_i(timeout=3 * WAIT).switch("to.f")
                finally:
                    seen.set()
                    liar.join()
                want(len(dials) <= 6, "the wrong one was dialled %d times" % len(dials))
                hall.client.pub("to.f", "x")
                f.links[-1].expect("RMSG $G to.f 1", b"x")
                o = f.dial(hall.server)
                o.send(f.connect_line() + 'INFO {"gateway":"UNLISTED"}\r\n')
                o.expect_close('Connection to gateway "B" rejected')


def duplicates(bench):
    """Many peers by one name, as servers of a cluster or as impostors: one of them is dialled, each
    gets our interest, what any sends is delivered once, and when one goes the others stay."""
    with Hall(bench) as hall, hall.stand.bystanders():
        peers = [
            hall.peer("F", server_id="N" + "%02d" % n * 27 + "A", server_name="f-%d" % n)
            for n in range(12)
        ]
        links = [peer.open_o(hall.server) for peer in peers]
        dialled = []

        def find_dialled():
            for peer in peers:
                sock = peer.try_accept(0.01)
                if sock is not None:
                    dialled.append((peer, sock))
            return dialled

        wait_until(find_dialled, "one of them is dialled", 3 * WAIT)
        hall.client.sub("to.many", 2)
        hall.client.flush()
        for number, link in enumerate(links):
            link.expect("RS+ $G to.many")
            link.message("to.many", str(number))
            hall.client.expect("MSG to.many 2 %d" % len(str(number)), b"%d" % number)
        for link in links[::2]:
            link.close()
        hall.client.unsub(2)
        hall.client.flush()
        for link in links[1::2]:
            link.expect("RS- $G to.many")
            link.quiet("after RS-")
        find_dialled()
        want(len(dialled) == 1, "%d links were dialled to one cluster" % len(dialled))
        dialled[0][1].close()
        hall.stand.expect_log("use one gateway name")


def flapping(bench):
    """A peer that comes and goes all the time, in order and by reset, and never lets itself be
    reached: it is dialled about once a second, and leaves nothing behind."""
    with Hall(bench) as hall, hall.stand.bystanders():
        f = hall.peer("F")
        files = hall.stand.files()
        dials = []
        is_ending = threading.Event()

        def refuse():
            while not is_ending.is_set():
                sock = f.try_accept(0.05)
                if sock is not None:
                    dials.append(time.monotonic())
                    sock.close()

        acceptor = threading.Thread(target=refuse, daemon=True)
        acceptor.start()
        began = time.monotonic()
        try:
            with hall.stand.memory_bound(40):
                for n in range(300):
                    link = f.open_o(hall.server)
                    if n % 2:
                        link.local_port = 0
                        reset_link(link)
                    else:
                        link.close()
        finally:
            took = time.monotonic() - began
            is_ending.set()
            acceptor.join()
        want(len(dials) <= 3 + took * 1.2, "%d dials in %.1f s" % (len(dials), took))
        hall.only_honest_is_left()
        # F is pursued no longer once it has been gone for some rounds; its sockets go at once.
        wait_until(lambda: hall.stand.files() <= files + 1, "its sockets are closed", WAIT)


def late_welcome(bench):
    """A peer that turns us away at first, and then takes us: the page counts the rounds that came
    to nothing, and forgets them with the link."""
    with Hall(bench) as hall:
        f = hall.peer("F")
        f.open_o(hall.server)
        f.accept().close()
        wait_until(lambda: hall.remotes()["F"]["failures"] == 1, "a round is counted", WAIT)
        f.open_i()
        wait_until(lambda: hall.remotes()["F"]["state"] == "linked", "F is linked", WAIT)
        require(hall.remotes()["F"]["failures"] == 0, "no round in a row", 0, hall.remotes()["F"])


def reset_link(link):
    class Abortable:
        sock = link.sock

        @staticmethod
        def abort():
            link.close()

    reset(Abortable)


def slow_reader(bench):
    """A peer that takes nothing of what it wants: its publishers go on, its link ends by the write
    deadline, and what waited for it is given back."""
    with Hall(bench, limits={"write_deadline": "1s", "max_pending": "8MiB"}) as hall:
        with hall.stand.bystanders():
            f = hall.peer("F")
            f.open_o(hall.server)
            i = f.open_i()
            i.switch("big")
            with hall.stand.memory_bound(150):
                for _ in range(40):
                    hall.client.send((b"PUB big 65536\r\n" + b"x" * 65536 + b"\r\n") * 20)
                    hall.client.flush(3 * WAIT)
                wait_until(
                    lambda: "F" not in (hall.page().get("outbound_gateways") or {}),
                    "the link to F has ended",
                    3 * WAIT * hall.slow,
                )
            hall.stand.expect_log("Slow consumer", "Slow Consumer")
            stats = hall.stand.varz()["slow_consumer_stats"]
            want((stats["clients"], stats["gateways"]) == (0, 1), "slow consumers: %s" % stats)
            i.close()
            f.open_i(timeout=3 * WAIT).flush()


def long_optimism(bench):
    """A peer of before 2.9 that refuses thousands of subjects and takes them back by wildcards, as
    fast as it can: others have their turns, and it gets what it has not refused."""
    with Hall(bench) as hall, hall.stand.bystanders() as bystanders:
        f = hall.peer("F", iom=False)
        f.open_o(hall.server)
        i = f.open_i()
        i.interest("RS- " + bystanders.subject)  # or it would have to read all that they say
        refusals = b"".join(b"RS- $G refused.%d.x\r\n" % n for n in range(3000))
        count = 1000 if bench.sanitizer else 5000
        wildcards = b"".join(b"RS+ $G none.%d.*\r\n" % (n % 50) for n in range(count))
        i.send(refusals + wildcards)
        i.flush(60)
        hall.client.pub("refused.7.x", "no")
        hall.client.pub("fresh", "yes")
        i.expect("RMSG $G fresh 3", b"yes")
        i.interest("RS+ refused.*.x")
        hall.client.pub("refused.7.x", "yes")
        i.expect("RMSG $G refused.7.x 3", b"yes")


def long_subjects(bench):
    """Interest and messages with subjects of 60,000 bytes and 30,000 tokens, as far as a line goes:
    taken or refused, they hold nobody up; a longer line ends the link."""
    with Hall(bench) as hall, hall.stand.bystanders():
        f = hall.peer("F")
        o = f.open_o(hall.server)
        i = f.open_i()
        i.switch()
        deep = "a." * 30000
        for subject in ("*." * 30000 + ">", deep + "*", "*." * 30000 + "x", deep + "x", "b" * 60000):
            i.send("RS+ $G %s\r\nRS+ $G %s g 1\r\n" % (subject, subject))
        i.flush(60)
        hall.honest_is_well()
        hall.client.sub("deep.>", 2)
        hall.client.flush()
        o.message("deep." + deep + "z", "x")
        hall.client.expect("MSG deep.%sz 2 1" % deep, b"x")
        for subject in ("*." * 30000 + ">", "b" * 60000):
            i.send("RS- $G %s\r\nRS- $G %s g\r\n" % (subject, subject))
        i.flush(60)
        i.try_send("RS+ $G " + "c" * 70000 + "\r\n")
        i.expect_close("maximum control line exceeded")
        o.message("to.c", "x")
        hall.client.expect("MSG to.c 1 1", b"x")
        hall.client.unsub(2)
        hall.client.flush()
        wait_until(
            lambda: "F" not in (hall.page().get("outbound_gateways") or {}), "F's link is gone", WAIT
        )


def switch_in_a_stream(bench):
    """A peer of the old kind, which is sent everything, turns interest-only while a stream of what
    it wants is under way: all of it comes, once and in order."""
    with Hall(bench) as hall:
        peer = hall.peer("F", iom=False)
        peer.open_o(hall.server)
        link, client = peer.open_i(), hall.new_client("stream")
        for turn in range(8):
            subject, count = "stream.%d" % turn, 6000
            link.send("A- $G\r\nA+ $G\r\n")  # sent everything again
            link.flush(3 * WAIT)
            body = b"".join(
                b"PUB %s 200\r\n%0200d\r\n" % (subject.encode(), n) for n in range(count)
            )
            writer = threading.Thread(target=client.send, args=(body,))
            writer.start()
            frames = [link.take(3 * WAIT)]
            link.command(2)
            link.send("RS+ $G %s\r\n" % subject)
            link.command(3)
            writer.join()
            client.flush(3 * WAIT)
            link.flush(3 * WAIT)
            frames += link.fence()
            got = [int(frame.payload) for frame in frames if frame.args[1] == subject]
            missing = sorted(set(range(count)) - set(got))
            require(
                got == list(range(count)),
                "all messages of %s come in order" % subject,
                count,
                "%d, without %s" % (len(got), missing[:10]),
            )


CASES = [
    half_handshakes,
    flapping,
    late_welcome,
    gossip_flood,
    url_flood,
    wrong_names,
    too_many_links,
    interest_flood,
    slow_reader,
    own_name,
    wrong_direction,
    duplicates,
    long_optimism,
    long_subjects,
    switch_in_a_stream,
]

if __name__ == "__main__":
    sys.exit(main(CASES, __doc__.splitlines()[0]))
