# SPDX-License-Identifier: GPL-2.0-or-later
"""The numbered checks C172 to C203 of the client protocol reference, section 17: what depends on
settings: limits, timers, authentication, permissions.
"""

import crypt
import signal
import time
import warnings

from client_notation import (
    as_user,
    users,
    A1,
    ALL,
    AV,
    CON,
    E,
    FIN,
    MPV,
    PA,
    PERR,
    RAW,
    S1,
    M,
    P,
    check,
    hello,
    open_client,
    publish,
    publish_refused,
    require_late,
    subscribe_refused,
    subscriber,
    talk,
)
from support import (
    connect,
    require,
    require_equal,
    wait_until,
    wire,
)

# --- limits, life ---------------------------------------------------------------------------------


@check(
    "C172",
    "max_connections 2, third → INFO, E(maximum connections exceeded) FIN; after one "
    "leaves a new one works",
    settings={"limits": {"max_connections": 2}},
)
def c172(t):
    one, two = open_client(t), open_client(t)
    third = t.connect()
    third.expect(E("maximum connections exceeded") + FIN)
    one.close()

    def works():
        peer = t.connect()
        peer.send(CON[0])
        return peer.read_line() == b"PONG\r\n"

    wait_until(works, "a place is free again")
    two.expect_open()


@check(
    "C173",
    "max_payload 1024: INFO says 1024; 1024 ok, 1025 → MPV",
    settings={"limits": {"max_payload": 1024}},
)
def c173(t):
    require_equal(t.connect().info["max_payload"], 1024, "INFO max_payload")
    talk(t, CON, S1 + "PUB a 1024⏎" + "p" * 1024 + "⏎", "MSG a 1 1024⏎" + "p" * 1024 + "⏎")
    talk(t, CON, "PUB a 1025⏎", MPV)


@check(
    "C174",
    "max_subscriptions 4: fifth SUB → E(maximum subscriptions exceeded) OPEN; after UNSUB "
    "it works",
    settings={"limits": {"max_subscriptions": 4}},
)
def c174(t):
    four = "".join("SUB s%d %d⏎" % (n, n) for n in range(4))
    talk(
        t,
        CON,
        four + "SUB a 1⏎" + PA + "UNSUB 0⏎SUB a 9⏎" + PA,
        E("maximum subscriptions exceeded") + M("a", 9),
    )
    # A live sid again counts as one more, as in nats-server.
    talk(t, CON, four + "SUB s0 0⏎", E("maximum subscriptions exceeded"))


@check(
    "C175",
    "max_subscription_tokens 3: `SUB a.b.c.d 1⏎` → E(Permissions Violation for "
    'Subscription to "a.b.c.d", too many tokens) OPEN',
    settings={"limits": {"max_subscription_tokens": 3}},
)
def c175(t):
    refused = E('Permissions Violation for Subscription to "a.b.c.d", too many tokens')
    talk(t, CON, "SUB a.b.c.d 1⏎SUB a.b.c 1⏎" + P("a.b.c.d") + P("a.b.c"), refused + M("a.b.c", 1))


QUICK_PING = {"limits": {"ping_interval": "1s", "ping_max": 2}}


@check(
    "C176",
    "ping_interval 1 s, ping_max 2, silent client → `PING⏎` ~1 s, `PING⏎` ~2 s, "
    "E(Stale Connection) FIN ~3 s",
    settings=QUICK_PING,
    seconds_long=4,
)
def c176(t):
    began = time.monotonic()
    peer = open_client(t)
    for number, wanted in ((1, "PING⏎"), (2, "PING⏎"), (3, E("Stale Connection"))):
        peer.expect(wanted)
        # The first timer has up to 20 % added, so that many clients do not fall due at once.
        require_late(time.monotonic() - began, number, 0.3, repr(wanted))
    peer.expect_fin()


@check(
    "C177",
    "same, client answers PONG → `PING⏎` each second, OPEN",
    settings=QUICK_PING,
    seconds_long=5,
)
def c177(t):
    began = time.monotonic()
    peer = open_client(t)
    for number in range(1, 5):
        peer.expect("PING⏎")
        require_late(time.monotonic() - began, number, 0.3, "PING %d" % number)
        peer.send("PONG⏎")
    peer.expect_open()


@check("C178", "defaults, after CON idle → first `PING⏎` between 2.0 and 2.5 s", seconds_long=3)
def c178(t):
    began = time.monotonic()
    peer = open_client(t)
    peer.expect("PING⏎")
    require_late(time.monotonic() - began, 2.0, 0.5, "first PING")
    peer.send("PONG⏎")
    peer.expect_open()


@check("C179", "defaults, raw idle 3 s → nothing", seconds_long=3)
def c179(t):
    peer = t.connect()
    peer.expect_quiet(3.0)
    peer.expect_open()


@check(
    "C180",
    "subscriber that never reads, write_deadline 2 s, 10 MB → closed; other clients "
    "unaffected; varz slow_consumers + 1",
    settings={"limits": {"write_deadline": "2s"}},
    seconds_long=5,
)
def c180(t):
    before = t.server.http_json("/varz")["slow_consumers"]
    slow = subscriber(t, "SUB big 1⏎", name="slow", receive_buffer=4096)
    other = subscriber(t, "SUB big 1⏎SUB a 2⏎", name="other")
    sender = open_client(t, name="publisher")
    block = "PUB big 100000⏎" + "b" * 100000 + "⏎"
    whole = wire("MSG big 1 100000⏎" + "b" * 100000 + "⏎")
    for _ in range(100):
        sender.send(block)
        # The other subscriber reads all along and misses nothing.
        other.expect(whole, 15.0)
    publish(sender, PA)
    other.expect(M("a", 2))
    wait_until(
        lambda: t.server.http_json("/varz")["slow_consumers"] == before + 1,
        "varz slow_consumers + 1",
        10.0,
    )
    got = slow.read_to_end()
    require(len(got) < 100 * len(whole), "what was pending is lost", None, "%d bytes" % len(got))
    require(b"-ERR" not in got, "no -ERR", None, got[-200:])
    other.expect_open()


@check("C181", "client half-closes after `PING⏎` → `PONG⏎` then FIN")
def c181(t):
    peer = open_client(t)
    peer.send(S1 + PA + "PING⏎")
    peer.half_close()
    peer.expect(A1 + "PONG⏎" + FIN)


@check("C182", "SIGTERM → FIN, no -ERR", settings={})
def c182(t):
    peers = [open_client(t), t.connect()]
    t.server.signal(signal.SIGTERM)
    for peer in peers:
        peer.expect_fin()
    t.server.wait_exit()


@check(
    "C183",
    'SIGUSR2 → INFO with `"ldm":true` to protocol 1; nothing to protocol 0; new connects '
    "refused; later FIN without -ERR",
    settings={"lame_duck": {"duration": "30s", "grace_period": "1s"}},
    seconds_long=4,
)
def c183(t):
    new, old = open_client(t), open_client(t, hello(protocol=0))
    t.server.signal(signal.SIGUSR2)
    info = new.read_info()
    require_equal(info.get("ldm"), True, "INFO ldm")

    def refused():
        try:
            connect(t.server.port).abort()
        except ConnectionRefusedError:
            return True
        return False

    wait_until(refused, "new connections are refused")
    publish(new, S1 + PA.replace("PUB a", "PUB b"))
    old.expect_open()
    new.expect_fin(10.0)
    old.expect_fin(10.0)
    require_equal(t.server.wait_exit(10.0), 0, "exit status")


# --- authentication -------------------------------------------------------------------------------

TOKEN = {"auth": {"token": "s3cret"}}


def bcrypt(password):
    # Cost 4: the least; the check is of the form, not of the effort.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))


def attempt(t, wanted, **fields):
    """CONNECT with these credentials; PONG or AV as wanted."""
    talk(t, RAW, hello(**fields)[0], wanted)


@check("C186", "token server: right token → `PONG⏎`; wrong, none, or as pass → AV", settings=TOKEN)
def c186(t):
    require_equal(t.connect().info.get("auth_required"), True, "INFO auth_required")
    attempt(t, "PONG⏎", auth_token="s3cret")
    attempt(t, AV, auth_token="s3cre")
    attempt(t, AV, auth_token="")
    attempt(t, AV)
    attempt(t, AV, **{"pass": "s3cret"})


@check("C187", "token server raw `PING⏎` or `⏎` → AV", settings=TOKEN)
def c187(t):
    for sent in ("PING⏎", "⏎", "\n", S1, " "):
        talk(t, RAW, sent, AV)


@check("C188", "token server raw `CXXX` → PERR", settings=TOKEN)
def c188(t):
    talk(t, RAW, "CXXX", PERR)


@check(
    "C189",
    "timeout 0.7, nothing sent (or `CON`) → E(Authentication Timeout) FIN at ~0.7 s",
    settings={"auth": {"token": "s3cret", "timeout": "700ms"}},
    seconds_long=1,
)
def c189(t):
    began = time.monotonic()
    silent, begun = t.connect(), t.connect()
    begun.send("CON")
    for peer in (silent, begun):
        peer.expect(E("Authentication Timeout") + FIN)
        require_late(time.monotonic() - began, 0.7, 0.2, "Authentication Timeout")


@check("C190", "token server: good CONNECT, then CONNECT with a wrong token → AV", settings=TOKEN)
def c190(t):
    talk(t, hello(auth_token="s3cret"), 'CONNECT {"auth_token":"no"}⏎', AV)


@check("C191", 'good CONNECT, then `CONNECT {"verbose":false}⏎PING⏎` → `PONG⏎`', settings=TOKEN)
def c191(t):
    talk(t, hello(auth_token="s3cret"), 'CONNECT {"verbose":false}⏎PING⏎', "PONG⏎")


@check(
    "C192",
    "user/pass: right → `PONG⏎`; wrong user or pass → AV; bcrypt likewise",
    settings=lambda lab: {
        "auth": {"users": [{"user": "u", "password": "p"}, {"user": "b", "password": bcrypt("pw")}]}
    },
)
def c192(t):
    for user, password in (("u", "p"), ("b", "pw")):
        attempt(t, "PONG⏎", user=user, **{"pass": password})
        attempt(t, "PONG⏎", user=user, auth_token="extra", **{"pass": password})
        attempt(t, AV, user=user, **{"pass": "no"})
        attempt(t, AV, user=user)
        attempt(t, AV, user="x", **{"pass": password})
    attempt(t, AV)


NO_AUTH_USER = {
    "auth": {
        "no_auth_user": "u",
        "users": [
            {"user": "u", "password": "p", "permissions": {"publish": {"deny": ["a.secret"]}}},
            {"user": "v", "password": "q"},
        ],
    }
}


@check(
    "C193",
    "no_auth_user: INFO without auth_required; no credentials, or raw → works as that user",
    settings=NO_AUTH_USER,
)
def c193(t):
    require("auth_required" not in t.connect().info, "INFO without auth_required")
    refused = publish_refused("a.secret")
    talk(t, CON, S1 + PA + P("a.secret"), A1 + refused)
    talk(t, RAW, S1 + PA + P("a.secret"), "+OK⏎+OK⏎" + A1 + refused)
    talk(t, hello(user="v", **{"pass": "q"}), "SUB a.secret 1⏎" + P("a.secret"), M("a.secret", 1))


@check(
    "C194",
    'no_auth_user: `{"user":"x"}`, `{"auth_token":"x"}` or `{"pass":"p"}` → AV',
    settings=NO_AUTH_USER,
)
def c194(t):
    attempt(t, AV, user="x")
    attempt(t, AV, auth_token="x")
    attempt(t, AV, **{"pass": "p"})


# --- permissions ----------------------------------------------------------------------------------


@check(
    "C197",
    "publish deny: `PUB a.secret 0⏎⏎` → E(Permissions Violation for Publish to "
    '"a.secret") OPEN, no `+OK` in verbose',
    settings=users(u={"publish": {"deny": ["a.secret"]}}),
)
def c197(t):
    refused = publish_refused("a.secret")
    talk(t, as_user("u"), ALL + "PUB a.secret 0⏎⏎" + PA, refused + M("a", 9))
    talk(t, as_user("u", verbose=True), "PUB a.secret 0⏎⏎" + PA, refused + "+OK⏎")


@check(
    "C198",
    "`PUB c\"\\xff 0⏎⏎` denied → `-ERR 'Permissions Violation for Publish to "
    '"c\\"\\xff"\'⏎` (escapes as written)',
    settings=users(u={"publish": {"allow": ["a.>"]}}),
)
def c198(t):
    talk(t, as_user("u"), 'PUB c"\xff 0⏎⏎', publish_refused('c\\"\\xff'))
    talk(t, as_user("u"), 'PUB c"\xc3\xa9\x01\\ 0⏎⏎', publish_refused('c\\"\xc3\xa9\\x01\\\\'))


@check(
    "C199",
    'subscribe deny → E(Permissions Violation for Subscription to "x.no") OPEN; with '
    'queue → `... using queue "grp"`',
    settings=users(u={"subscribe": {"deny": ["x.no"]}}, w={"subscribe": {"allow": ["x.*"]}}),
)
def c199(t):
    talk(
        t,
        as_user("u"),
        "SUB x.no 1⏎SUB x.no grp 1⏎SUB x.yes 1⏎" + P("x.yes") + P("x.no"),
        subscribe_refused("x.no") + subscribe_refused("x.no", "grp") + M("x.yes", 1),
    )
    talk(
        t,
        as_user("w"),
        "SUB > 1⏎SUB c grp 1⏎SUB x.* 2⏎" + P("x.y") + P("c"),
        subscribe_refused(">") + subscribe_refused("c", "grp") + M("x.y", 2),
    )


@check(
    "C200",
    "deny `foo.bar`, `SUB > 1⏎` accepted; `foo.baz` arrives, `foo.bar` does not",
    settings=users(u={"subscribe": {"deny": ["foo.bar", "z.>"]}}),
)
def c200(t):
    talk(t, as_user("u"), "SUB > 1⏎" + P("foo.bar") + P("z.q") + P("foo.baz"), M("foo.baz", 1))


@check(
    "C201",
    "allow `foo v1`: plain `SUB foo 1⏎` refused, `SUB foo v1 1⏎` ok, `SUB foo v3 1⏎` refused",
    settings=users(u={"subscribe": {"allow": ["foo v1", "foo v2.*", "bar"]}}),
)
def c201(t):
    talk(
        t,
        as_user("u"),
        "SUB foo 1⏎SUB foo v3 1⏎SUB foo v1 1⏎" + P("foo") + "SUB bar 2⏎SUB bar q 3⏎",
        subscribe_refused("foo") + subscribe_refused("foo", "v3") + M("foo", 1),
    )
    talk(t, as_user("u"), "SUB foo v2.x 1⏎" + P("foo"), M("foo", 1))


RESPONDER = {"subscribe": {"allow": ["svc"]}, "allow_responses": {"max": 2, "expires": "600ms"}}
LONG_RESPONDER = {"subscribe": {"allow": ["svc"]}, "allow_responses": {"max": 2, "expires": "1m"}}


def request(t):
    """(responder with one request in hand, requester that waits for answers on _INBOX.1)."""
    responder = subscriber(t, "SUB svc 1⏎", as_user("r"), "responder")
    requester = subscriber(t, "SUB _INBOX.1 2⏎", as_user("free"), "requester")
    publish(requester, "PUB svc _INBOX.1 1⏎x⏎")
    responder.expect("MSG svc 1 _INBOX.1 1⏎x⏎")
    return responder, requester


@check(
    "C202",
    "allow_responses max 2: two replies pass, third → E(Permissions Violation for Publish "
    'to "_INBOX.1")',
    settings=users(r=LONG_RESPONDER),
)
def c202(t):
    responder, requester = request(t)
    responder.send(P("_INBOX.1") * 3 + P("other"))
    responder.expect(publish_refused("_INBOX.1") + publish_refused("other"))
    responder.expect_open()
    requester.expect(M("_INBOX.1", 2) * 2)
    requester.expect_open()


@check(
    "C203",
    "allow_responses expires 600 ms: reply after 800 ms → violation",
    settings=users(r=RESPONDER),
    seconds_long=1,
)
def c203(t):
    responder, requester = request(t)
    requester.expect_quiet(0.8)
    responder.send(P("_INBOX.1"))
    responder.expect(publish_refused("_INBOX.1"))
    requester.expect_open()
    # A reply in time passes, so the violation above was the clock's.
    publish(requester, "PUB svc _INBOX.1 1⏎x⏎")
    responder.expect("MSG svc 1 _INBOX.1 1⏎x⏎")
    publish(responder, P("_INBOX.1"))
    requester.expect(M("_INBOX.1", 2))
