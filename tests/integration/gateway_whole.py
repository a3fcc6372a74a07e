#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Many servers joined by gateways, ours and real ones: each message comes to each place that wants
it once, in worlds of several remotes, of gossip, of clusters and of several event-gateways.

  gateway_whole.py --build build/debug
  gateway_whole.py --build build/debug --only cluster_of_three --keep

Method: each case starts its own servers and joins them; raw clients publish numbers and count what
comes. What was subscribed is awaited by markers, and so is what was published: a marker comes behind
it by the same way.
"""
import sys

from bystanders import main
from gateway_peer import Peer, want
from gateway_traffic import interest_across, linked
from gateway_world import (
    LINK_S,
    Crossing,
    World,
    everywhere,
    expect_numbers,
    numbers,
    settle,
)
from support import Mismatch, wait_until


def plain_everywhere(clients, subject, count=20):
    """Each client hears what each one publishes, itself included, once."""
    for client in clients:
        client.sub(subject, 7)
    World.known(*everywhere(clients))
    number = 0
    for client in clients:
        for _ in range(count):
            client.pub(subject, str(number))
            number += 1
    settle(clients, clients)
    for client in clients:
        expect_numbers(client, range(number), subject)
        client.unsub(7)
        client.flush()


def group_everywhere(publishers, members, subject, count=30):
    """Each message of each publisher comes to one member of one queue group."""
    for member in members:
        member.sub(subject, 8, "workers")
        member.flush()
    World.known(*((m, p) for m in members for p in publishers if m is not p))
    for index, publisher in enumerate(publishers):
        for n in range(count):
            publisher.pub(subject, str(index * count + n))
    settle(publishers, members)
    got = [number for member in members for number in numbers(member.fence())]
    want(
        sorted(got) == list(range(len(publishers) * count)),
        "%s: expected each of %d once, got %s"
        % (subject, len(publishers) * count, sorted(got)),
    )
    for member in members:
        member.unsub(8)
        member.flush()


def requests_between(requester, responder, subject, count=10):
    """Requests with a fresh inbox each come back, once."""
    responder.sub(subject, 9)
    interest_across(responder, requester, LINK_S)
    for n in range(count):
        inbox = "_INBOX.%s.%d" % (subject, n)
        requester.sub(inbox, 100 + n)
        requester.pub(subject, str(n), reply=inbox)
        got = responder.take()
        responder.pub(got.args[2], got.payload)
        answer = requester.take()
        want(
            answer.args[0] == inbox and answer.payload == b"%d" % n,
            "request %d: got %r" % (n, answer),
        )
        requester.unsub(100 + n)
    responder.unsub(9)
    responder.flush()
    requester.quiet("after the answers")


def several_remotes(bench):
    """One server with three remotes, two nats-servers and one of ours: plain interest, a queue
    group over all, and requests to each."""
    with World(bench) as world:
        remotes = [world.nats("A"), world.nats("C"), world.ours("D")]
        s = world.ours("S", remotes)
        s.await_outbound("A", "C", "D")
        for remote in remotes:
            remote.await_outbound(*({"A", "C", "D", "S"} - {remote.name}))
        clients = [node.client() for node in [s] + remotes]
        plain_everywhere(clients, "plain")
        group_everywhere(clients, clients[1:], "jobs")
        # A member here takes all that is published here.
        group_everywhere(clients[:1], clients, "jobs.here")
        for client in clients[1:]:
            requests_between(clients[0], client, "ask." + client.label[-1])
            requests_between(client, clients[0], "serve." + client.label[-1])


def gossip(bench):
    """A and C know only B between them: they link to each other, at the address that C advertises;
    and a third, learned one is forgotten by nobody while it lives."""
    with World(bench) as world:
        a = world.nats("A")
        b = world.ours("B", [a])
        b.await_outbound("A")
        c = world.ours("C", [b])
        d = world.nats("D", [b])
        for node in (a, b, c, d):
            node.await_outbound(*({"A", "B", "C", "D"} - {node.name}))
        clients = [node.client() for node in (a, b, c, d)]
        plain_everywhere(clients, "plain")
        group_everywhere(clients, clients[1:3], "jobs")
        requests_between(clients[2], clients[0], "ask")
        requests_between(clients[0], clients[2], "serve")


def advertised(bench):
    """Peers are told, and tell on, the address that is advertised: it is the one that is dialled."""
    with World(bench) as world:
        f, k = Peer("F"), Peer("K")
        world.closing.callback(f.close)
        world.closing.callback(k.close)
        b = world.ours("B", gateway={"advertise": "localhost:%d" % f.port})
        o = f.open_o(b, gateway_urls=["localhost:%d" % k.port])
        own = "localhost:%d" % f.port
        want(
            o.info["gateway_urls"] == [own] and o.info["gateway_url"] == own,
            "advertised: %s" % o.info,
        )
        # Our word for where F is leads to K's listener; that is what is dialled and told on.
        i = k.accept()
        i.send_info(**k.info(gateway="F"))
        i.expect_verb("CONNECT")
        wait_until(
            lambda: [r["state"] for r in b.http_json("/gatewayz")["remotes"]] == ["linked"],
            "B holds F to be linked",
            LINK_S,
        )
        opening = k.open_o(b).opening
        told = [
            (f.json["gateway"], f.json.get("gateway_urls"))
            for f in opening
            if f.verb == "INFO" and f.json.get("gateway_cmd") == 1
        ]
        want(told == [("F", [k.address])], "told of F: %s, wanted %s" % (told, k.address))


def triangle(bench):
    """Three clusters, each linked to each: nothing comes twice and nothing goes round; the traffic
    counters say the same."""
    with World(bench) as world:
        a = world.ours("A")
        b = world.nats("B", [a])
        c = world.ours("C", [a, b])
        nodes = (a, b, c)
        for node in nodes:
            node.await_outbound(*({"A", "B", "C"} - {node.name}))
        clients = [node.client() for node in nodes]
        plain_everywhere(clients, "all", 50)
        group_everywhere(clients, clients, "jobs")
        # Counters: one message from each to all three; each server takes in its own client's and
        # two from links, and gives out two to links and three to its client.
        for client in clients:
            client.sub("count", 3)
        World.known(*everywhere(clients))
        before = [node.http_json("/varz") for node in nodes]
        for client in clients:
            client.pub("count", "x" * 1000)
            client.flush()
        for client in clients:
            for _ in nodes:
                client.expect_verb("MSG")
        for node, old in zip(nodes, before):
            await_traffic(node, old, (3, 5, 3000, 5000))


def await_traffic(node, old, wanted):
    keys = ("in_msgs", "out_msgs", "in_bytes", "out_bytes")

    def grown():
        new = node.http_json("/varz")
        return tuple(new[key] - old[key] for key in keys)

    try:
        wait_until(lambda: grown() == wanted, "traffic of " + node.name, 5.0)
    except Mismatch:
        raise Mismatch("traffic of %s in /varz" % node.name, wanted, grown()) from None


def cluster_of_three(bench):
    """Three nats-servers joined by routes on the other side: plain interest and queue groups over
    all members; the member that holds our link is killed and comes back."""
    with World(bench) as world:
        s = world.ours("S")
        members = world.cluster("N", 3, [s])
        s.await_outbound("N")
        wait_until(
            lambda: s.links()[1] == ["N"] * 3, "S has a link from each member", LINK_S
        )
        clients = [node.client() for node in [s] + members]
        plain_everywhere(clients, "plain")
        group_everywhere(clients, clients[1:], "jobs")
        group_everywhere(clients[1:], clients[:1], "jobs.inside")
        group_everywhere(clients, clients, "jobs.all")
        for client in clients[1:]:
            requests_between(clients[0], client, "ask." + client.label[-1])
            requests_between(client, clients[0], "serve." + client.label[-1])

        # The member that our outbound link leads to.
        port = s.http_json("/gatewayz")["outbound_gateways"]["N"]["connection"]["port"]
        victim = next(member for member in members if member.gateway_port == port)
        others = [member for member in members if member is not victim]
        rest = [c for c in clients if not c.label.endswith(victim.name)]
        # Its links end; those of the others stay, and lose nothing.
        with Crossing(others[0].client("to S"), s.client("from N")):
            victim.process.kill()
            victim.process.wait()
            linked_to_other(s, victim)
            for client in rest[1:]:
                linked(rest[0], client, LINK_S)
            plain_everywhere(rest, "plain.two")
            group_everywhere(rest, rest[1:], "jobs.two")
            group_everywhere(rest, rest, "jobs.two.all")

            victim.relaunch()
            for member in members:
                world.await_routes(member, 2)
            victim.await_outbound("S")
            wait_until(
                lambda: s.links()[1] == ["N"] * 3, "S has a link from each member again", LINK_S
            )
        clients = rest + [victim.client("back")]
        plain_everywhere(clients, "plain.three")
        group_everywhere(clients, clients[1:], "jobs.three")
        requests_between(clients[0], clients[-1], "ask.back")
        requests_between(clients[-1], clients[0], "serve.back")


def linked_to_other(s, victim):
    def is_elsewhere():
        link = (s.http_json("/gatewayz").get("outbound_gateways") or {}).get("N")
        return link is not None and link["connection"]["port"] != victim.gateway_port

    wait_until(is_elsewhere, "S is linked to another member of N", LINK_S)


def several_gateways(bench):
    """Three event-gateways on one event-service: what a client of any publishes reaches the inside
    once, queue groups span all, and so do requests."""
    with World(bench) as world:
        s = world.ours("event-service")
        outside = [
            world.outside("event-gateway-%d" % n, [s], gateway={"name": "event-gateway-%d" % n})
            for n in range(1, 4)
        ]
        names = {node.name for node in [s] + outside}
        for node in [s] + outside:
            node.await_outbound(*(names - {node.name}))
        inside = [s.client("inside"), s.client("inside too")]
        users = [node.client("user") for node in outside]
        for client in inside:
            client.sub("in.>", 1)
            client.flush()
        World.known(*((i, u) for i in inside for u in users))
        for index, user in enumerate(users):
            for n in range(20):
                user.pub("in.%d" % index, str(index * 20 + n))
        settle(users, inside)
        for client in inside:
            expect_numbers(client, range(60), "from outside")
            client.unsub(1)
            client.flush()
        plain_everywhere(inside + users, "plain")
        group_everywhere(users, inside, "jobs.inside")
        group_everywhere(users, users[1:], "jobs.outside")
        group_everywhere(inside + users, inside + users, "jobs.all")
        for index, user in enumerate(users):
            requests_between(user, inside[0], "ask.%d" % index)
            requests_between(inside[0], user, "serve.%d" % index)
        requests_between(users[0], users[2], "across")
        # Events: answered once each, whatever gateway they came by.
        for index, user in enumerate(users):
            inbox = "_INBOX.event.%d" % index
            user.sub(inbox, 50)
            user.flush()
            user.pub("event.test.made", b"{}", reply=inbox)
            answer = user.take(what="the queue's answer")
            want(answer.args[0] == inbox, "answer %r" % answer)
            settle(inside, [user])
            user.quiet("after one answer")


def several_gateways_tls(bench):
    """The same with mutual TLS. Event-gateways that allow each other's name link to each other too;
    one that allows event-service alone is linked to that alone, and harms nobody."""
    with World(bench) as world:

        def gateway(certificate, names, name):
            tls = dict(bench.pair(certificate), root_ca_path=bench.cert("ca"))
            return {"name": name, "tls": tls, "allowed_names": names}

        s = world.ours(
            "event-service", gateway=gateway("event-service", ["event-gateway"], "event-service")
        )
        both = ["event-service", "event-gateway"]
        outside = [
            world.outside(name, [s], gateway=gateway("event-gateway", names, name))
            for name, names in (("one", both), ("two", both), ("strict", ["event-service"]))
        ]
        one, two, strict = outside
        s.await_outbound("one", "two", "strict")
        one.await_outbound("event-service", "two")
        two.await_outbound("event-service", "one")
        strict.await_outbound("event-service")
        inside, users = s.client("inside"), [node.client("user") for node in outside]
        plain_everywhere([inside] + users[:2], "plain")
        plain_everywhere([inside, users[2]], "plain.strict")
        group_everywhere(users, [inside], "jobs.inside")
        group_everywhere([inside], users, "jobs.outside")
        for index, user in enumerate(users):
            requests_between(user, inside, "ask.%d" % index)
            requests_between(inside, user, "serve.%d" % index)
        wait_until(
            lambda: "LOG_GATEWAY_TLS_FAILED" in strict.log_text(), "strict says why", LINK_S
        )


def same_name(bench):
    """Two event-gateways that share a name, as by default: event-service says so in its log, and what
    their clients publish still reaches the inside, once."""
    with World(bench) as world:
        s = world.ours("event-service")
        outside = [world.outside("event-gateway", [s]) for _ in range(2)]
        wait_until(lambda: s.links()[1] == ["event-gateway"] * 2, "both link to S", LINK_S)
        wait_until(lambda: "LOG_GATEWAY_SAME_NAME" in s.log_text(), "the log says so", LINK_S)
        inside, users = s.client("inside"), [node.client("user") for node in outside]
        inside.sub("in.>", 1)
        World.known(*((inside, user) for user in users))
        for index, user in enumerate(users):
            for n in range(20):
                user.pub("in.%d" % index, str(index * 20 + n))
        settle(users, [inside])
        expect_numbers(inside, range(40), "from outside")


CASES = [
    cluster_of_three,
    several_gateways_tls,
    several_gateways,
    several_remotes,
    gossip,
    triangle,
    same_name,
    advertised,
]

if __name__ == "__main__":
    sys.exit(main(CASES, __doc__.splitlines()[0]))
