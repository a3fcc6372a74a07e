#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Four clusters, two of ours and two nats-servers, each linked to each, while servers are killed,
stopped, frozen and started again at random: no message comes twice, and when all is quiet every
message comes everywhere.

  gateway_chaos.py --build build/debug                      what the tests run
  gateway_chaos.py --build build/debug --seed 7 --rounds 50 more of it, by hand

Method: at each server a talker publishes numbers and listens, plainly and as a member of one queue
group; it comes back when its server does. What it hears twice is a failure; what is lost while
servers are down is not. After the last round all links must be there again, and plain subjects and
queue groups are checked message by message. The seed gives the same order of faults again.

Each server has an anchor, a subscription that lasts as long as its process: two real servers lose
interest for good when one of them loses its last subscription while messages cross.
"""
import random
import signal
import sys
import threading
import traceback

from bystanders import main_seeded
from gateway_peer import Client, let_time_pass, want
from gateway_whole import group_everywhere, plain_everywhere
from gateway_world import World, everywhere
from support import Mismatch, require

AT_A_TIME = 20


class Talkers:
    """What all talkers share: which messages of the queue group were heard."""

    def __init__(self):
        self.lock = threading.Lock()
        self.in_group = set()

    def note_in_group(self, text):
        with self.lock:
            if text in self.in_group:
                return False
            self.in_group.add(text)
            return True


class Talker:
    """A client of one server, as long as it lives, again and again."""

    def __init__(self, node, talkers):
        self.node, self.talkers = node, talkers
        self.number = self.life = self.heard = 0
        self.fault = None
        self.anchor, self.anchored = None, None  # the client, and the process that it is at
        self.is_ending = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while not self.is_ending.is_set():
                self.live()
        except Exception:  # shown by the case, never hidden
            self.fault = traceback.format_exc(limit=-3)

    def drop_anchor(self):
        process = self.node.process
        if self.anchored is not process:
            if self.anchor is not None:
                self.anchor.close()
            self.anchor = Client(self.node.port, "anchor on " + self.node.name, token=self.node.token)
            self.anchor.sub("anchor." + self.node.name, 1)
            self.anchor.flush()
            self.anchored = process

    def live(self):
        client = None
        try:
            self.drop_anchor()
            client = Client(self.node.port, "talker on " + self.node.name, token=self.node.token)
            client.sub("chaos", 1)
            client.sub("chaos.group", 2, "g")
            client.flush()
            self.life += 1
            self.talk(client, set())
        except (Mismatch, OSError):
            self.is_ending.wait(0.05)  # its server is away
        finally:
            if client is not None:
                client.close()

    def talk(self, client, seen):
        while not self.is_ending.is_set() and self.fault is None:
            for _ in range(AT_A_TIME):
                text = "%s.%d.%d" % (self.node.name, self.life, self.number)
                client.pub("chaos", text)
                client.pub("chaos.group", text)
                self.number += 1
            for frame in client.fence():
                if frame.verb == "MSG":
                    self.hear(frame, seen)
            self.is_ending.wait(0.01)

    def hear(self, frame, seen):
        text = frame.payload.decode()
        self.heard += 1
        if frame.args[0] == "chaos":
            if text in seen:
                self.fault = "%s came twice to %s" % (text, self.node.name)
            seen.add(text)
        elif not self.talkers.note_in_group(text):
            self.fault = "%s came twice in the queue group" % text

    def end(self):
        self.is_ending.set()
        self.thread.join()
        if self.anchor is not None:
            self.anchor.close()


def spawn(node):
    ports = {node.port, node.monitor_port, node.gateway_port} - {0}
    require(node.spawn(ports), "%s starts again" % node.name, None, node.log_text()[-2000:])


def disturb(choose, nodes):
    """One fault of some server, or two."""
    node = choose.choice(nodes)
    kind = choose.choice(("kill", "stop", "freeze", "freeze", "kill two"))
    if kind == "freeze":
        node.signal(signal.SIGSTOP)
        let_time_pass(choose.uniform(0.1, 1.5))
        node.signal(signal.SIGCONT)
        return
    victims = [node]
    if kind == "kill two":
        victims.append(choose.choice([other for other in nodes if other is not node]))
    for victim in victims:
        if kind == "stop":
            victim.end_well()
        else:
            victim.process.kill()
            victim.process.wait()
    let_time_pass(choose.uniform(0, 1))
    for victim in victims:
        spawn(victim)


def await_mesh(nodes):
    names = {node.name for node in nodes}
    for node in nodes:
        node.await_outbound(*(names - {node.name}))


def chaos(bench, seed, rounds):
    choose = random.Random(seed)
    with World(bench) as world:
        a = world.nats("A")
        s = world.ours("S", [a])
        t = world.outside("T", [s])
        b = world.nats("B", [a, s])
        nodes = [a, s, t, b]
        await_mesh(nodes)
        shared = Talkers()
        talkers = [Talker(node, shared) for node in nodes]
        try:
            for number in range(rounds):
                disturb(choose, nodes)
                if choose.random() < 0.5:
                    await_mesh(nodes)
                for talker in talkers:
                    want(talker.fault is None, "round %d: %s" % (number, talker.fault))
            await_mesh(nodes)
            clients = [node.client("end") for node in nodes]
            for client in clients:
                client.sub("anchor", 1)
                client.flush()
        finally:
            for talker in talkers:
                talker.end()
        for talker in talkers:
            want(talker.fault is None, talker.fault)
            want(talker.heard > 0, "%s has heard nothing" % talker.node.name)
        World.known(*everywhere(clients))
        plain_everywhere(clients, "end")
        group_everywhere(clients, clients, "end.near")
        group_everywhere(clients[:1], clients[1:], "end.far")


if __name__ == "__main__":
    sys.exit(main_seeded(chaos, __doc__.splitlines()[0], "rounds", 6))
