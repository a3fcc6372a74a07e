# SPDX-License-Identifier: GPL-2.0-or-later
"""The notation of the client protocol reference, section 17, as strings and small verbs.

A return mark is CR LF, FIN the close by the server. Unless a wanted string ends in FIN the
connection must still be open afterwards: a PING gets its PONG and nothing comes before it.
"""

import json

from support import FIN, SLACK_S, Suite, require, wire

SUITE = Suite("client")
check = SUITE.check


def E(text):
    return "-ERR '%s'⏎" % text


def P(subject):
    return "PUB %s 1⏎x⏎" % subject


def M(subject, sid):
    return "MSG %s %s 1⏎x⏎" % (subject, sid)


SILENT = FIN
PERR = E("Unknown Protocol Operation") + FIN
AV = E("Authorization Violation") + FIN
MPV = E("Maximum Payload Violation") + FIN
MCL = E("maximum control line exceeded") + FIN
H12 = "NATS/1.0⏎⏎"


A1 = M("a", 1)
PA = P("a")
S1 = "SUB a 1⏎"
ALL = "SUB > 9⏎"


def publish_refused(subject):
    return E('Permissions Violation for Publish to "%s"' % subject)


def subscribe_refused(subject, queue=None):
    using = ' using queue "%s"' % queue if queue else ""
    return E('Permissions Violation for Subscription to "%s"%s' % (subject, using))


def no_responders(peer, reply, sid, subject):
    """The answer to a request on `subject` that nobody hears; 2.12 and newer name the subject."""
    status = "NATS/1.0 503⏎" + ("Nats-Subject: %s⏎" % subject if peer.since(2, 12) else "") + "⏎"
    length = len(wire(status))
    return "HMSG %s %s %d %d⏎%s⏎" % (reply, sid, length, length, status)


def hello(**fields):
    """The start of a connection: what is sent and what must come back. None removes a field."""
    all_fields = {
        "verbose": False,
        "pedantic": False,
        "headers": True,
        "no_responders": True,
        "protocol": 1,
    }
    all_fields.update(fields)
    text = json.dumps({k: v for k, v in all_fields.items() if v is not None}, separators=(",", ":"))
    verbose = all_fields["verbose"]
    return "CONNECT %s⏎PING⏎" % text, ("+OK⏎" if verbose else "") + "PONG⏎"


RAW = ("", "")
CON = hello()
V = hello(verbose=True)
PEDANTIC = hello(pedantic=True)
NO_ECHO = hello(echo=False)
NO_HEADERS = hello(headers=None, no_responders=None)
NO_STATUS = hello(no_responders=None)


def open_client(t, start=CON, name="client", **more):
    """A connection on which CONNECT and PING have been answered as `start` says."""
    peer = t.connect(name, **more)
    peer.send(start[0])
    peer.expect(start[1])
    return peer


def talk(t, start, sent, wanted):
    """wanted: a notation string, or a function of the peer that gives one."""
    peer = open_client(t, start)
    wanted = wanted(peer) if callable(wanted) else wanted
    peer.send(sent)
    peer.expect(wanted)
    if not wanted.endswith(FIN):
        peer.expect_open()
    peer.close()


def rows(start, *table):
    """Table rows (number, rule, (sent, wanted)...): every pair on a connection of its own."""
    for number, rule, *pairs in table:

        def body(t, pairs=pairs):
            for sent, wanted in pairs:
                talk(t, start, sent, wanted)

        check(number, rule)(body)


def subscriber(t, text, start=CON, name="subscriber", **more):
    """A connection whose SUB lines are in force."""
    peer = open_client(t, start, name, **more)
    peer.send(text)
    peer.expect_open()
    return peer


def publish(peer, text):
    """Sends and has it all processed: the PONG comes next."""
    peer.send(text)
    peer.expect_open()


def talk_any_order(t, start, sent, pieces):
    peer = open_client(t, start)
    peer.send(sent)
    peer.expect_any_order(pieces)
    peer.expect_open()
    peer.close()


def any_order_rows(start, *table):
    """Table rows (number, rule, sent, pieces that come in any order)."""
    for number, rule, sent, pieces in table:

        def body(t, sent=sent, pieces=pieces):
            talk_any_order(t, start, sent, pieces)

        check(number, rule)(body)


def users(**permissions):
    """Settings with a user for each name, its password "p", and a free user "free"."""
    entries = [{"user": name, "password": "p"} for name in permissions]
    for entry in entries:
        if permissions[entry["user"]]:
            entry["permissions"] = permissions[entry["user"]]
    return {"auth": {"users": entries + [{"user": "free", "password": "p"}]}}


def as_user(name, **fields):
    return hello(user=name, **{"pass": "p"}, **fields)


def require_late(got_s, wanted_s, spread_s, what):
    """A timer fired at wanted_s, at most spread_s (and what a busy machine adds) later."""
    require(
        wanted_s - 0.1 <= got_s <= wanted_s + spread_s + SLACK_S,
        what,
        "%.2f s to %.2f s" % (wanted_s, wanted_s + spread_s),
        "%.2f s" % got_s,
    )
