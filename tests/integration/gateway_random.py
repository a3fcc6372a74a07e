#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A gateway peer that says anything: right lines, wrong lines and lines at the wrong time, in both
roles, cut at any byte. Whatever it says, an honest cluster and two clients beside it are served.

  gateway_random.py --build build/debug                        what the tests run
  gateway_random.py --build build/debug --seed 7 --lives 100   more of it, by hand

Method: the peer opens both links, sends batches of random lines on each, and leaves; again and again,
now with and now without gateway_iom. The honest cluster's messages are checked after each life, the
bystanders' all the time. The seed gives the same lines again.
"""
import json
import random
import sys

from bystanders import main_seeded
from gateway_liars import Hall
from gateway_peer import HEADER, base64_of, want
from support import Mismatch

SUBJECTS = (
    "a", "a.b", "a.*", "*.b", "a.>", ">", "*", "a.b.c", "*.*.*.*", "x" * 300, "foo..bar", ".a", "\x01", "",
    "_GR_.b2oh2L.xxxxxx.r", "_GR_.yyrAQg.AKS6DY.my.in", "$GR.df7e.in.1",
)  # fmt: skip
REPLIES = ("", " re.ply", " | g", " + re.ply g h", " | g7", " _GR_.yyrAQg.AKS6DY.my.in")
FATAL = ("-ERR 'x'\r\n", "\r\n", "HELLO\r\n", "RMSG $G a * 1\r\nx\r\n", "RS+ $G a b\r\n")


class Speaker:
    """Random lines of either side."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, things):
        return self.random.choice(things)

    def account(self):
        return self.pick(("$G", "$G", "$G", "$SYS", "X"))

    def info(self):
        """An INFO of which any field may be missing or wrong."""
        fields = {
            "gateway": self.pick(("F", "F", "B", "Z%d" % self.random.randrange(40), "", 7)),
            "gateway_cmd": self.pick((1, 1, 2, 3, 3, 9, "x")),
            "gateway_urls": self.pick(([], ["127.0.0.1:9"], ["h.invalid:1"], ["a"] * 100)),
            "gateway_cmd_payload": self.pick((base64_of("$G"), base64_of("X"), "!!", "")),
            "server_name": self.pick(("f", "srv-b", "")),
        }
        kept = {key: value for key, value in fields.items() if self.random.random() < 0.8}
        return "INFO %s\r\n" % json.dumps(kept)

    def other(self, wrong_side):
        """What both sides may say, and now and then what ends the link."""
        if self.random.random() < 0.02:
            return self.pick(FATAL + wrong_side)
        return self.pick(("PING\r\n", "PONG\r\n", "+OK\r\n", "PING\r\n"))

    def as_acceptor(self):
        kind = self.random.randrange(30)
        where = "%s %s" % (self.account(), self.pick(SUBJECTS))
        group = " g%d" % self.random.randrange(50)
        if kind < 8:
            return "RS+ %s%s\r\n" % (where, self.pick(("", group + " 1")))
        if kind < 14:
            return "RS- %s%s\r\n" % (where, self.pick(("", group)))
        if kind < 19:
            return self.pick(("A- %s\r\n", "A+ %s\r\n")) % self.account()
        if kind < 24:
            switch = '{"gateway":"F","gateway_cmd":%d,"gateway_cmd_payload":"JEc="}'
            return "INFO %s\r\n" % (switch % self.pick((2, 3)))
        if kind == 24:
            return self.info()
        return self.other(("RMSG $G a 1\r\nx\r\n", 'CONNECT {"gateway":"F"}\r\n'))

    def as_dialler(self):
        kind = self.random.randrange(30)
        where = "%s %s%s" % (self.account(), self.pick(SUBJECTS[:-1]), self.pick(REPLIES))
        body = self.pick(("", "x", "hello\r\n\r\n", "y" * self.random.randrange(20000)))
        if kind < 14:
            return "RMSG %s %d\r\n%s\r\n" % (where, len(body), body)
        if kind < 20:
            header = self.pick(("", "NATS/1.0\r\n\r\n", HEADER.decode()))
            return "HMSG %s %d %d\r\n%s%s\r\n" % (
                where,
                len(header),
                len(header + body),
                header,
                body,
            )
        if kind < 22:
            return self.info()
        if kind == 22:
            return 'CONNECT {"gateway":"F"}\r\n'
        return self.other(("RS+ $G a\r\n", "RS- $G a\r\n", "A- $G\r\n", "A+ $G\r\n"))

    def batch(self, say):
        data = "".join(say() for _ in range(self.random.randrange(1, 80))).encode("latin-1")
        cut = self.random.randrange(len(data) + 1)
        return data[:cut], data[cut:]


def drain(wire):
    """Takes what has come, so that nobody waits for us."""
    wire.sock.setblocking(False)
    try:
        while wire.sock.recv(1 << 20):
            continue
    except OSError:
        pass
    finally:
        wire.sock.setblocking(True)


def live(hall, speaker, client):
    """One life of the peer. Returns how many batches it got rid of."""
    peer = hall.peer("F", iom=speaker.random.random() < 0.7)
    batches = 0
    try:
        o, i = peer.open_o(hall.server), peer.open_i(timeout=20 * hall.slow)
        o.wrong_side_allowed = i.wrong_side_allowed = True
        for _ in range(speaker.random.randrange(1, 60)):
            for link, say in ((o, speaker.as_dialler), (i, speaker.as_acceptor)):
                for piece in speaker.batch(say):
                    link.try_send(piece)
                batches += 1
            client.sub(
                speaker.pick(("a", "a.*", "a.>", "x.y", "my.in")),
                speaker.random.randrange(1, 40),
                speaker.pick((None, "g")),
            )
            client.unsub(speaker.random.randrange(1, 40))
            client.pub(speaker.pick(("a", "a.b", "a.b.c", "my.in", "zz")), "x", reply="my.in")
            for wire in (o, i, client):
                drain(wire)
    finally:
        peer.close()
    return batches


def session(bench, seed, lives):
    speaker = Speaker(seed)
    with Hall(bench) as hall, hall.stand.bystanders():
        client = hall.new_client("mixed")
        batches = 0
        for number in range(lives):
            batches += live(hall, speaker, client)
            try:
                hall.honest_is_well()
            except Mismatch as fault:
                raise Mismatch("seed %d, life %d: %s" % (seed, number, fault)) from None
        want(batches >= 2 * lives, "the peer has said next to nothing")
        want(len(hall.remotes()) <= 258, "clusters: %d" % len(hall.remotes()))


if __name__ == "__main__":
    sys.exit(main_seeded(session, __doc__.splitlines()[0], "lives", 8))
