# SPDX-License-Identifier: GPL-2.0-or-later
"""Worlds of several servers joined by gateways: ours, nats-servers, and clusters of nats-servers.

A World belongs to one case. Everything started through it is ended at its close, in reverse order;
ours must then end with status 0 and without a complaint of a sanitizer. Servers get their ports from
the system and keep them when they are started again.
"""

import contextlib
import json
import os
import re
import tempfile
import threading
import time
import traceback

from bystanders import COMPLAINTS, Adapter
from gateway_peer import WAIT, Client, want
from gateway_traffic import interest_across
from support import Mismatch, NatsServer, Server, merge, require, wait_until

NATS_SERVER = os.environ.get("ES_NATS_SERVER", "nats-server")
TOKEN = "outside-token-0123456789abcdef0123456789abcdef"
ALL = {"publish": {"allow": [">"]}, "subscribe": {"allow": [">"]}}
LINK_S = 15.0  # a link must be there or back by then; a dialler tries once a second


class ClusterMember(NatsServer):
    """A nats-server that may be one of several joined by routes (section `cluster`)."""

    def ports_of(self, settings):
        return super().ports_of(settings) + (["cluster"] if "cluster" in settings else [])

    def config_text(self, settings):
        conf = json.loads(super().config_text(settings))
        if "cluster" in settings:
            conf["cluster"] = settings["cluster"]
        return json.dumps(conf, indent=1) + "\n"


class Node(Server):
    """One server of a world."""

    def __init__(self, world, adapter, settings, name):
        self.world, self.name = world, name
        self.token = None
        super().__init__(adapter, settings, tempfile.mkdtemp(dir=world.bench.folder))

    @property
    def is_ours(self):
        return not isinstance(self.adapter, NatsServer)

    @property
    def url(self):
        return "nats://127.0.0.1:%d" % self.gateway_port

    @property
    def route(self):
        return "nats://127.0.0.1:%d" % self.full["cluster"]["port"]

    def client(self, label="client"):
        client = Client(self.port, "%s on %s" % (label, self.name), token=self.token)
        self.world.closing.callback(client.close)
        return client

    def relaunch(self, kill=False):
        """Ends it, asked to or by force, and starts it again on its ports."""
        if kill:
            self.process.kill()
            self.process.wait()
        else:
            self.end_well()
        ports = {self.port, self.monitor_port, self.gateway_port} - {0}
        require(self.spawn(ports), "%s starts again" % self.name, None, self.log_text()[-2000:])

    def end_well(self):
        status = self.end()
        if self.is_ours:
            require(status == 0, "%s ended with %s" % (self.name, status), 0, self.tail())
            text = self.log_text()
            for complaint in COMPLAINTS:
                at = text.find(complaint)
                require(at < 0, "no complaint in the log", None, text[max(0, at - 300) : at + 3000])

    def tail(self):
        return "\n".join(self.log_text().splitlines()[-60:])

    def memory(self):
        """The most resident memory the process has ever had, in bytes."""
        with open("/proc/%d/status" % self.process.pid) as file:
            return int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1)) * 1024

    # --- what its pages say of links ---

    def links(self):
        """(outbound names, [inbound name, ...] with repeats) of the links that are open."""
        page = self.http_json("/gatewayz")
        outbound = sorted(page.get("outbound_gateways") or {})
        inbound = [
            name for name, rows in (page.get("inbound_gateways") or {}).items() for _ in rows
        ]
        return outbound, sorted(inbound)

    def account(self, name, kind="outbound_gateways"):
        """The account row of $G of the link to `name`, {} without one."""
        page = self.http_json("/gatewayz?accs=1")
        link = (page.get(kind) or {}).get(name) or {}
        rows = [row for row in link.get("accounts") or [] if row["name"] == "$G"]
        return rows[0] if rows else {}

    def await_outbound(self, *names):
        wait_until(
            lambda: self.links()[0] == sorted(names),
            "%s has outbound links to exactly %s (has %s)" % (self.name, names, self.links()[0]),
            LINK_S,
        )


class World:
    """The servers of one case."""

    def __init__(self, bench):
        self.bench, self.slow = bench, bench.slow
        self.closing = contextlib.ExitStack()
        self.nodes = []

    def __enter__(self):
        return self

    def __exit__(self, kind, fault, trace):
        try:
            self.closing.close()
            for node in reversed(self.nodes):
                if kind is None:
                    node.end_well()
        finally:
            for node in reversed(self.nodes):
                node.stop()
            if isinstance(fault, Exception):
                for node in self.nodes:
                    print("    log of %s:\n    | " % node.name, end="")
                    print(node.tail().replace("\n", "\n    | "), flush=True)

    def add(self, adapter, settings, name):
        node = Node(self, adapter, settings, name)
        self.nodes.append(node)
        return node

    @staticmethod
    def section(name, remotes, more):
        entries = [r if isinstance(r, tuple) else (r.name, [r.url]) for r in remotes]
        gateway = {"name": name}
        if entries:
            gateway["remotes"] = [{"name": n, "urls": urls} for n, urls in entries]
        return merge(gateway, more or {})

    def ours(self, name, remotes=(), gateway=None, **settings):
        """An event-service; remotes: nodes, or (name, urls)."""
        adapter = Adapter(self.bench.program("event-service"))
        base = {
            "log": {"level": "debug"},
            "queue": {"storage": "memory"},
            "threads": {"workers": 2, "placement": "spread"},
            "service": {"name": "srv-" + name.lower()},
            "gateway": self.section(name, remotes, gateway),
        }
        return self.add(adapter, merge(base, settings), name)

    def outside(self, name, remotes=(), gateway=None, **settings):
        """An event-gateway, without TLS; its clients show a token."""
        adapter = Adapter(self.bench.program("event-gateway"))
        base = {
            "log": {"level": "debug"},
            "threads": {"workers": 2, "placement": "spread"},
            "service": {"name": "srv-" + name.lower(), "disable_frontend_tls": True},
            "auth": {"token": TOKEN, "default_permissions": ALL},
            "gateway": self.section(name, remotes, gateway),
        }
        node = self.add(adapter, merge(base, settings), name)
        node.token = TOKEN
        return node

    def nats(self, name, remotes=(), gateway=None, server_name=None, **settings):
        """A nats-server, a cluster of its own unless `cluster` is among the settings."""
        base = {
            "service": {"name": server_name or "srv-" + name.lower()},
            "gateway": self.section(name, remotes, gateway),
            "nats-server": {"no_system_account": True},
        }
        return self.add(ClusterMember(NATS_SERVER), merge(base, settings), server_name or name)

    def cluster(self, name, size, remotes=()):
        """nats-servers joined by routes, one cluster."""
        members = []
        for number in range(1, size + 1):
            routes = [member.route for member in members]
            members.append(
                self.nats(
                    name,
                    remotes,
                    server_name="srv-%s-%d" % (name.lower(), number),
                    cluster={"name": name, "routes": routes},
                )
            )
        for member in members:
            self.await_routes(member, size - 1)
        return members

    @staticmethod
    def await_routes(member, count):
        wait_until(
            lambda: member.http_json("/routez")["num_routes"] >= count,
            "%s has %d routes" % (member.name, count),
            LINK_S,
        )

    @staticmethod
    def known(*pairs):
        """Waits until what each (subscriber, publisher) pair's first has subscribed is known where
        the second publishes."""
        for subscriber, publisher in pairs:
            interest_across(subscriber, publisher, LINK_S)


class Crossing:
    """A subscriber and a publisher on two servers that exchange numbers over the link while the
    case goes on. A context: its end demands that each number came, in order, once."""

    def __init__(self, publisher, subscriber, subject="crossing"):
        self.publisher, self.subscriber, self.subject = publisher, subscriber, subject
        subscriber.sub(subject, 1)
        interest_across(subscriber, publisher, LINK_S)
        self.rounds, self.slowest_s, self.fault = 0, 0.0, None
        self.is_ending = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, fault, trace):
        self.is_ending.set()
        self.thread.join()
        if kind is None:
            require(self.fault is None, "traffic over the link goes on", None, self.fault)
            require(self.rounds >= 3, "numbers crossed", ">= 3", self.rounds)
            self.subscriber.quiet("after the last number")

    def run(self):
        try:
            while not self.is_ending.is_set() or self.rounds < 3:
                began = time.monotonic()
                self.publisher.pub(self.subject, str(self.rounds))
                frame = self.subscriber.take(3 * WAIT, "number %d" % self.rounds)
                want(int(frame.payload) == self.rounds, "number %d: %r" % (self.rounds, frame))
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                self.rounds += 1
                self.is_ending.wait(0.005)
        except Mismatch as fault:
            self.fault = str(fault)
        except Exception:
            self.fault = traceback.format_exc(limit=-3)


def everywhere(clients):
    """All pairs of different clients."""
    return [(a, b) for a in clients for b in clients if a is not b]


def numbers(frames):
    return [int(frame.payload) for frame in frames]


def settle(publishers, receivers):
    """Everything that was published has arrived: a marker of each publisher has come to each
    receiver behind it, by the same way."""
    for publisher in publishers:
        publisher.flush()
    for receiver in receivers:
        for publisher in publishers:
            if publisher is not receiver:
                interest_across(receiver, publisher, LINK_S)


def expect_numbers(client, wanted, what):
    """All that waits at the client now: exactly these numbers, in any order, none twice."""
    got = numbers(client.fence())
    want(
        sorted(got) == sorted(wanted),
        "%s: %s: expected %s numbers, got %s" % (client.label, what, len(wanted), sorted(got)),
    )


__all__ = [
    "ALL",
    "Client",
    "ClusterMember",
    "Crossing",
    "LINK_S",
    "Node",
    "TOKEN",
    "World",
    "everywhere",
    "expect_numbers",
    "numbers",
    "settle",
]
