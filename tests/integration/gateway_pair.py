#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Two servers joined by a gateway: what a user of either side may expect to cross it does, once.

  gateway_pair.py                                    nats-server on both sides
  gateway_pair.py --left nats-server --right ours --build build/release
  gateway_pair.py --product --build build/release    event-gateway dials event-service
  gateway_pair.py --all --build build/release        every mix of these
  gateway_pair.py --transport tls --topology left,both --only queues,requests --count 1000

Method: the servers get their ports from the system; one, the other or both are configured to dial.
Raw clients on each side publish, ask and answer. Interest is awaited by marker messages, never by
time; "nothing twice" is told by the next message in order. After the other cases a side is stopped
(right: asked to, left: killed) and started again on its ports.
"""
import argparse
import contextlib
import functools
import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "conformance"))
sys.dont_write_bytecode = True

from case_pool import attempt, chosen, conclude, run_jobs, scratch_folder  # noqa: E402
from gateway_peer import HEADER, Client, want  # noqa: E402
from gateway_traffic import exchange, in_threads, interest_across, linked  # noqa: E402
from support import (  # noqa: E402
    Certificates,
    Mismatch,
    NatsServer,
    Ours,
    Server,
    merge,
    stop_on_signal,
    wait_until,
)

RECOVERY_S = 15.0  # a link must be back by then; a dialler tries once a second
TOKEN = "outside-token-0123456789abcdef0123456789abcdef"
TOPOLOGIES = ("left", "right", "both")
ALL = {"publish": {"allow": [">"]}, "subscribe": {"allow": [">"]}}


class PairServer(Server):
    """A server that can be started again on the ports it had."""

    def relaunch(self, kill):
        if kill:
            self.process.kill()
            self.process.wait()
        else:
            self.end_well()
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.process = subprocess.Popen(
                self.adapter.command(self.config_path),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.adapter.environment(),
            )

    def end_well(self):
        """Stops on request; ours must then end with status 0."""
        status = self.end()
        if self.adapter.name == "ours" and status != 0:
            raise Mismatch("ended with status %s" % status, "0", self.log_text()[-1500:])


class Side:
    """One end: which program, its settings, and how a client connects to it."""

    def __init__(self, kind, name, transport, programs, certs, folder):
        self.kind, self.name = kind, name
        self.secure = transport == "tls"
        self.certs, self.folder = certs, folder
        self.server = None
        self.adapter = (NatsServer if kind == "nats-server" else Ours)(programs[kind])

    def tls(self, name):
        cert, key = self.certs.paths(name)
        return {"cert_path": cert, "key_path": key, "root_ca_path": self.certs.ca()}

    def settings(self):
        """Everything but the ports and the remotes."""
        gateway = {"name": self.name}
        whole = {
            "service": {"name": "srv-" + self.name.lower()},
            "nats-server": {"no_system_account": True},
        }
        if self.kind == "event-gateway":
            whole["queue"] = None  # event-service only
            whole["auth"] = {"token": TOKEN, "default_permissions": ALL}
            if self.secure:
                cert, key = self.certs.paths("outside.example")
                whole["frontend_tls"] = [{"cert_path": cert, "key_path": key}]
                gateway.update(tls=self.tls("event-gateway"), allowed_names=["event-service"])
            else:
                whole["service"]["disable_frontend_tls"] = True
        elif self.kind == "event-service":
            if self.secure:
                whole["tls"] = self.tls("event-service")
                gateway["allowed_names"] = ["event-gateway"]
        elif self.secure:
            gateway["tls"] = self.tls("srv-" + self.name.lower())
        whole["gateway"] = gateway
        return whole

    def start(self, remote=None):
        settings = self.settings()
        if remote is not None:
            url = "nats://127.0.0.1:%d" % remote.server.gateway_port
            settings["gateway"]["remotes"] = [{"name": remote.name, "urls": [url]}]
        os.makedirs(self.folder)
        self.server = PairServer(self.adapter, merge(self.adapter.base, settings), self.folder)

    def add_remote(self, remote):
        """Both sides dial: the first one started learns of the other's port only now."""
        url = "nats://127.0.0.1:%d" % remote.server.gateway_port
        self.server.rewrite({"gateway": {"remotes": [{"name": remote.name, "urls": [url]}]}})
        self.server.relaunch(kill=False)

    def client(self, label):
        """A client as this side demands it: with a token, with a certificate, or plain."""
        label = "%s on %s" % (label, self.name)
        if self.kind == "event-gateway":
            tls = self.certs.client_context() if self.secure else None
            return Client(self.server.port, label, token=TOKEN, tls=tls)
        if self.kind == "event-service" and self.secure:
            return Client(self.server.port, label, tls=self.certs.client_context("client"))
        return Client(self.server.port, label)


class Pair:
    """Two joined servers, and an anchor client on each side.

    The anchors keep each account from being without any subscription: a message that crosses the
    UNSUB of the last one silences the account between two real servers until the link is remade.
    """

    def __init__(self, left, right, topology, count):
        self.left, self.right, self.count = left, right, count
        self.number = 0
        self.clients = contextlib.ExitStack()
        if topology == "right":
            left.start()
            right.start(left)
        else:
            right.start()
            left.start(right)
        if topology == "both":
            right.add_remote(left)
        self.link()

    def link(self):
        """Waits until messages pass both ways, and drops the clients of the time before."""
        self.clients.close()
        for side in (self.left, self.right):
            wait_until(
                lambda side=side: self.listens(side), side.name + " listens again", RECOVERY_S
            )
        self.anchors = self.client(self.left, "anchor"), self.client(self.right, "anchor")
        linked(*self.anchors, RECOVERY_S)

    @staticmethod
    def listens(side):
        try:
            side.client("probe").close()
        except (Mismatch, OSError):
            return False
        return True

    def client(self, side, label):
        client = side.client(label)
        self.clients.callback(client.close)
        return client

    def directions(self):
        """(publisher's side, subscriber's side) both ways."""
        return (self.left, self.right), (self.right, self.left)

    def subject(self, word):
        self.number += 1
        return "%s.%d" % (word, self.number)

    def close(self):
        self.clients.close()
        for side in (self.left, self.right):
            if side.server is not None:
                side.server.end_well()


def case_messages(pair):
    """Plain and wildcard subscribers on the other side get each message once, and no other."""
    for here, there in pair.directions():
        subject = pair.subject("plain")
        publisher, subscriber = pair.client(here, "publisher"), pair.client(there, "subscriber")
        own = pair.client(here, "own subscriber")
        own.sub(subject + ".*", 3)
        own.flush()
        subscriber.sub(subject + ".a", 1)
        subscriber.sub(subject + ".>", 2)
        interest_across(subscriber, publisher)
        for n in range(20):
            publisher.pub(subject + ".a", str(n))
        publisher.pub(subject, "nobody")
        publisher.pub(subject + ".end.x", "end")
        for n in range(20):
            got = [subscriber.expect_verb("MSG") for _ in range(2)]
            want(
                sorted(f.args[1] for f in got) == ["1", "2"]
                and all(f.payload == b"%d" % n for f in got),
                "message %d: %s" % (n, got),
            )
            own.expect("MSG %s.a 3 %d" % (subject, len(str(n))), b"%d" % n)
        subscriber.expect("MSG %s.end.x 2 3" % subject, b"end")
        subscriber.quiet("after the end")
        own.quiet("after the end")


def case_order(pair):
    """Many messages each way at once while SUB/UNSUB runs: all, in order, none twice."""
    exchange(
        lambda label: pair.client(pair.left, label),
        lambda label: pair.client(pair.right, label),
        pair.count,
    )


def case_queues(pair):
    """A group with a local member is served locally, another one by one remote member each."""
    for here, there in pair.directions():
        subject = pair.subject("jobs")
        publisher = pair.client(here, "publisher")
        local = pair.client(here, "local member")
        remote = [pair.client(there, "remote member %d" % n) for n in range(2)]
        for member in remote:
            member.sub(subject, 1, "g")
            interest_across(member, publisher)
        local.sub(subject, 1, "g")
        local.flush()
        for n in range(50):
            publisher.pub(subject, str(n))
        publisher.flush()
        for n in range(50):
            got = local.expect_verb("MSG")
            want(got.payload == b"%d" % n, "local member: expected %d, got %r" % (n, got))
        local.unsub(1)
        local.flush()
        for n in range(50, 100):
            publisher.pub(subject, str(n))
        publisher.flush()
        interest_across(remote[0], publisher)
        interest_across(remote[1], publisher)
        got = [int(frame.payload) for member in remote for frame in member.fence()]
        want(sorted(got) == list(range(50, 100)), "remote members got %s" % sorted(got))
        local.quiet("after UNSUB")


def case_requests(pair):
    """Requests with a fresh inbox each: the mapped reply brings every answer home."""
    for here, there in pair.directions():
        subject = pair.subject("svc")
        requester, responder = pair.client(here, "requester"), pair.client(there, "responder")
        responder.sub(subject, 1, "responders")
        interest_across(responder, requester)
        for n in range(200):
            inbox = "_INBOX.%s.%d" % (subject, n)
            header = HEADER if n % 2 else None
            requester.sub(inbox, n + 10)
            requester.unsub(n + 10, 1)
            requester.pub(subject, "rq%d" % n, reply=inbox, header=header)
            got = responder.take()
            want(
                got.args[2] == inbox
                and got.payload == b"rq%d" % n
                and got.header == (header or b""),
                "request %d: got %r" % (n, got),
            )
            responder.pub(got.args[2], "an%d" % n, header=header)
            got = requester.take()
            want(
                got.args[:2] == [inbox, str(n + 10)] and got.payload == b"an%d" % n,
                "answer %d: got %r" % (n, got),
            )
        requester.quiet("after the answers")
        responder.quiet("after the requests")


def case_parallel_requests(pair):
    """Requests in flight in both directions at once, one wildcard inbox a requester."""

    def ask(here, there, subject):
        requester, responder = pair.client(here, "requester"), pair.client(there, "responder")
        responder.sub(subject, 1)
        interest_across(responder, requester)
        inbox = "_INBOX.%s" % subject
        requester.sub(inbox + ".*", 2)
        for n in range(300):
            requester.pub(subject, str(n), reply="%s.%d" % (inbox, n))
        for n in range(300):
            got = responder.take()
            want(got.payload == b"%d" % n, "expected request %d, got %r" % (n, got))
            responder.pub(got.args[2], got.payload)
        answers = [requester.take() for _ in range(300)]
        got = sorted((int(f.payload), f.args[0]) for f in answers)
        want(got == [(n, "%s.%d" % (inbox, n)) for n in range(300)], "answers: %s" % got[:20])
        requester.quiet("after the answers")

    in_threads(
        *(functools.partial(ask, *sides, pair.subject("par")) for sides in pair.directions())
    )


def case_headers(pair):
    """Header bytes cross unchanged, with and without reply, to plain and queue subscribers."""
    header = b"NATS/1.0\r\nTrace-Id: 0af7\r\nTrace-Id: second\r\nEmpty: \r\nUtf: \xc3\xa4\r\n\r\n"
    for here, there in pair.directions():
        subject = pair.subject("hdr")
        publisher, subscriber = pair.client(here, "publisher"), pair.client(there, "subscriber")
        subscriber.sub(subject, 1)
        subscriber.sub(subject + ".q", 2, "g")
        interest_across(subscriber, publisher)
        for where, sid in ((subject, 1), (subject + ".q", 2)):
            for reply in (None, "re.ply"):
                for payload in (b"", b"body", bytes(range(256))):
                    publisher.pub(where, payload, reply=reply, header=header)
                    middle = " " + reply if reply else ""
                    sizes = "%d %d" % (len(header), len(header) + len(payload))
                    got = subscriber.expect(
                        "HMSG %s %d%s %s" % (where, sid, middle, sizes), payload
                    )
                    want(got.header == header, "header %r" % got.header)
        subscriber.quiet("after the messages")


def gets_no_responders(requester, subject, inbox):
    """One request: True if 503 came for it, False if nothing did."""
    requester.pub(subject, "?", reply=inbox)
    frames = requester.fence()
    for frame in frames:
        want(
            # 2.12 and newer name the subject in a line of the header.
            frame.text.startswith("HMSG %s 1 " % inbox)
            and frame.header.startswith(b"NATS/1.0 503\r\n"),
            "expected 503, got %r" % frame,
        )
    return bool(frames)


def case_no_responders(pair):
    """503 when nobody hears on either side; none while somebody does; again when he has gone."""
    for here, there in pair.directions():
        subject = pair.subject("gone")
        requester, responder = pair.client(here, "requester"), pair.client(there, "responder")
        inbox = "_INBOX." + subject
        requester.sub(inbox, 1)
        unheard = functools.partial(gets_no_responders, requester, subject, inbox)
        want(unheard(), "no 503 though nobody listens")
        responder.sub(subject, 1)
        interest_across(responder, requester)
        requester.pub(subject, "!", reply=inbox)
        got = responder.take()
        responder.pub(got.args[2], "answer")
        requester.expect("MSG %s 1 6" % inbox, b"answer")
        requester.quiet("beside the answer")
        responder.unsub(1)
        responder.flush()
        wait_until(unheard, "503 after the responder has gone", 8)


def case_large(pair):
    """Payloads of 1 MiB (the limit), with and without headers, byte for byte."""
    for here, there in pair.directions():
        subject = pair.subject("large")
        publisher, subscriber = pair.client(here, "publisher"), pair.client(there, "subscriber")
        subscriber.sub(subject, 1)
        interest_across(subscriber, publisher)
        for n in range(5):
            payload = os.urandom(1048576)
            publisher.pub(subject, payload)
            got = subscriber.expect("MSG %s 1 1048576" % subject)
            want(got.payload == payload, "payload %d differs" % n)
            payload = payload[len(HEADER) :]
            publisher.pub(subject, payload, header=HEADER)
            got = subscriber.expect("HMSG %s 1 %d 1048576" % (subject, len(HEADER)))
            want(got.header == HEADER and got.payload == payload, "payload %d differs" % n)
        subscriber.quiet("after the messages")


def restart(pair, side, other, kill):
    """Subscribers of the other side stay; with the side back, traffic passes both ways, once."""
    stays = other.client("subscriber that stays")
    try:
        subject = pair.subject("stays")
        stays.sub(subject, 1)
        stays.flush()
        side.server.relaunch(kill)
        pair.link()
        side_client = pair.client(side, "publisher")
        interest_across(stays, side_client)
        side_client.pub(subject, "back")
        stays.expect("MSG %s 1 4" % subject, b"back")
        stays.quiet("after one message")
        case_messages(pair)
        case_requests(pair)
        exchange(side.client, other.client, min(pair.count, 1000))
    finally:
        stays.close()


def case_restart_right(pair):
    """The right side is stopped in order and started again."""
    restart(pair, pair.right, pair.left, kill=False)


def case_restart_left(pair):
    """The left side is killed and started again."""
    restart(pair, pair.left, pair.right, kill=True)


CASES = {
    "messages": case_messages,
    "order": case_order,
    "queues": case_queues,
    "requests": case_requests,
    "parallel-requests": case_parallel_requests,
    "headers": case_headers,
    "no-responders": case_no_responders,
    "large": case_large,
    "restart-right": case_restart_right,
    "restart-left": case_restart_left,
}


def run_pair(kinds, transport, topology, names, args, programs, folder):
    """All cases on one pair of servers: [(name, None or failure, seconds)]."""
    title = "%s-%s %s %s" % (kinds[0], kinds[1], transport, topology)
    results = []
    place = os.path.join(folder, title.replace(" ", "-"))
    certs = Certificates(os.path.join(place, "certs"))
    left, right = (
        Side(kind, name, transport, programs, certs, os.path.join(place, name))
        for kind, name in zip(kinds, ("A", "B"))
    )
    pair = None

    def passes(name, work, *arguments):
        results.append(attempt("%s %s" % (title, name), work, *arguments))
        return results[-1][1] is None

    def start():
        nonlocal pair
        pair = Pair(left, right, topology, args.count)

    try:
        if passes("link", start):
            for name in names:
                passes(name, CASES[name], pair)
            passes("stop", pair.close)
    finally:
        for side in (left, right):
            if side.server is not None:
                side.server.stop()
    return results


def programs_of(args, parser, pairs):
    """Where each program lies; what a pair needs must exist."""
    bin_folder = os.path.abspath(os.path.join(args.build, "bin"))
    programs = {
        "nats-server": args.nats_server,
        "ours": os.path.join(bin_folder, "event-service"),
        "event-service": os.path.join(bin_folder, "event-service"),
        "event-gateway": os.path.join(bin_folder, "event-gateway"),
    }
    for kind in {kind for pair in pairs for kind in pair}:
        if shutil.which(programs[kind]) is None:
            parser.error("no program %s for %s" % (programs[kind], kind))
    return programs


def main():
    parser = argparse.ArgumentParser(description="two servers joined by a gateway")
    kinds = ("nats-server", "ours", "event-service", "event-gateway")
    parser.add_argument("--left", choices=kinds, default="nats-server")
    parser.add_argument("--right", choices=kinds, default="nats-server")
    parser.add_argument("--product", action="store_true", help="event-gateway and event-service")
    parser.add_argument("--all", action="store_true", help="every mix, the product too")
    parser.add_argument("--build", default=os.path.join(HERE, "..", "..", "build", "release"))
    parser.add_argument("--nats-server", default="nats-server", help="path of a real server")
    parser.add_argument("--transport", default="plain,tls")
    parser.add_argument("--topology", default="left,right,both", help="which side dials")
    parser.add_argument("--only", help="cases, separated by commas: " + ", ".join(CASES))
    parser.add_argument("--count", type=int, default=10000, help="messages each way in `order`")
    parser.add_argument("--threads", type=int, default=6, help="pairs at a time")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--timings", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep configuration files and logs")
    args = parser.parse_args()
    if args.list:
        for name, case in CASES.items():
            print("%s %s" % (name, case.__doc__.splitlines()[0]))
        return 0

    pairs = [(args.left, args.right)]
    if args.product:
        pairs = [("event-gateway", "event-service")]
    if args.all:
        plain = ("nats-server", "ours")
        pairs = [(left, right) for left in plain for right in plain]
        pairs.append(("event-gateway", "event-service"))
    transports = chosen(parser, args.transport, ("plain", "tls"))
    topologies = chosen(parser, args.topology, TOPOLOGIES)
    names = chosen(parser, args.only, CASES)
    programs = programs_of(args, parser, pairs)

    stop_on_signal()
    with scratch_folder("es-gateway-pair.", args.keep) as folder:
        jobs = [
            functools.partial(run_pair, pair, transport, topology, names, args, programs, folder)
            for pair in pairs
            for transport in transports
            for topology in topologies
        ]
        counts = run_jobs(jobs, args.threads, args.timings)
    return conclude(*counts)


if __name__ == "__main__":
    sys.exit(main())
