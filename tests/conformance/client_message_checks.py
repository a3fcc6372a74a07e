# SPDX-License-Identifier: GPL-2.0-or-later
"""The numbered checks C112 to C171 of the client protocol reference, section 17: headers, status
messages, subjects, verbose and pedantic mode, queue groups, on a server with default settings.
"""

from client_notation import (
    A1,
    ALL,
    CON,
    E,
    H12,
    MPV,
    NO_ECHO,
    NO_HEADERS,
    NO_STATUS,
    PA,
    PEDANTIC,
    S1,
    SILENT,
    V,
    M,
    P,
    any_order_rows,
    check,
    hello,
    no_responders,
    open_client,
    publish,
    publish_refused,
    rows,
    subscribe_refused,
    subscriber,
)
from support import (
    messages,
    require,
    require_equal,
    wire,
)

# --- headers --------------------------------------------------------------------------------------

REPEATED = "NATS/1.0⏎A: 1⏎A:2⏎a: 3⏎⏎"

rows(
    CON,
    (
        "C112",
        "`SUB a 1⏎HPUB a 12 12⏎H12⏎` → `HMSG a 1 12 12⏎H12⏎`",
        (S1 + "HPUB a 12 12⏎" + H12 + "⏎", "HMSG a 1 12 12⏎" + H12 + "⏎"),
    ),
    (
        "C113",
        "`HPUB a r 12 14⏎H12hi⏎` → `HMSG a 1 r 12 14⏎H12hi⏎`",
        (S1 + "HPUB a r 12 14⏎" + H12 + "hi⏎", "HMSG a 1 r 12 14⏎" + H12 + "hi⏎"),
    ),
    ("C114", "`HPUB a 0 2⏎hi⏎` → `MSG a 1 2⏎hi⏎`", (S1 + "HPUB a 0 2⏎hi⏎", "MSG a 1 2⏎hi⏎")),
    (
        "C115",
        "`HPUB a 2 2⏎hi⏎` → `HMSG a 1 2 2⏎hi⏎` (block not validated)",
        (S1 + "HPUB a 2 2⏎hi⏎", "HMSG a 1 2 2⏎hi⏎"),
    ),
    ("C116", "`HPUB a 14 12⏎` → SILENT", ("HPUB a 14 12⏎", SILENT)),
    ("C117", "`HPUB a 12⏎` → SILENT", ("HPUB a 12⏎", SILENT)),
    ("C118", "`HPUB a r q 12 12⏎` → SILENT", ("HPUB a r q 12 12⏎", SILENT)),
    (
        "C119",
        "`HPUB a r x 12⏎`, `HPUB a r 12 x⏎` → SILENT",
        ("HPUB a r x 12⏎", SILENT),
        ("HPUB a r 12 x⏎", SILENT),
    ),
    ("C120", "`HPUB a 12 1048577⏎` → MPV", ("HPUB a 12 1048577⏎", MPV)),
    (
        "C124",
        "header with repeated names → block unchanged byte by byte",
        (S1 + "HPUB a 29 30⏎" + REPEATED + "x⏎", "HMSG a 1 29 30⏎" + REPEATED + "x⏎"),
    ),
)

rows(
    NO_HEADERS,
    (
        "C121",
        "CONNECT without headers, `HPUB a 12 12⏎H12⏎` → SILENT",
        ("HPUB a 12 12⏎" + H12 + "⏎", SILENT),
    ),
)


@check(
    "C122",
    "subscriber without headers, HPUB with 5-byte payload and reply → " "`MSG h 1 rep 5⏎hello⏎`",
)
def c122(t):
    plain, sender = subscriber(t, "SUB h 1⏎", NO_HEADERS), open_client(t)
    publish(sender, "HPUB h rep 12 17⏎" + H12 + "hello⏎")
    plain.expect("MSG h 1 rep 5⏎hello⏎")
    plain.expect_open()


@check("C123", "subscriber without headers, HPUB with empty payload → `MSG h 1 0⏎⏎`")
def c123(t):
    plain, sender = subscriber(t, "SUB h 1⏎", NO_HEADERS), open_client(t)
    publish(sender, "HPUB h 12 12⏎" + H12 + "⏎")
    plain.expect("MSG h 1 0⏎⏎")
    plain.expect_open()


# --- no responders --------------------------------------------------------------------------------

INBOX = "SUB _INBOX.a.* 1⏎"
REQUEST = "PUB svc _INBOX.a.1 2⏎hi⏎"


def n503(count=1, subject="svc"):
    return lambda peer: no_responders(peer, "_INBOX.a.1", 1, subject) * count


rows(
    CON,
    (
        "C125",
        "`PUB svc _INBOX.a.1 2⏎hi⏎` → 2.9 - 2.11: `HMSG _INBOX.a.1 1 16 16⏎NATS/1.0 503⏎⏎⏎`",
        (INBOX + REQUEST, n503()),
    ),
    ("C127", "no subscription for the reply → nothing", (REQUEST, "")),
    (
        "C128",
        "reply covered only by own queue subscription → nothing",
        ("SUB _INBOX.a.* q 1⏎" + REQUEST, ""),
    ),
    ("C130", "`PUB svc 2⏎hi⏎` (no reply) → nothing", (INBOX + "PUB svc 2⏎hi⏎", "")),
    (
        "C133",
        "`UNSUB 1 1⏎` before, three such PUB → three 503",
        (INBOX + "UNSUB 1 1⏎" + REQUEST * 3, n503(3)),
    ),
    (
        "C135",
        "`PUB svc..x _INBOX.a.1 2⏎hi⏎` → 503",
        (INBOX + "PUB svc..x _INBOX.a.1 2⏎hi⏎", n503(subject="svc..x")),
    ),
)

rows(NO_STATUS, ("C131", "no_responders false → nothing", (INBOX + REQUEST, "")))

rows(
    NO_ECHO,
    (
        "C132",
        "echo:false and only own subscriber on svc → 503",
        (INBOX + "SUB svc 2⏎" + REQUEST, n503()),
    ),
)


@check("C129", "reply covered by two own subscriptions → exactly one 503")
def c129(t):
    peer = open_client(t)
    peer.send(INBOX + "SUB _INBOX.> 2⏎" + REQUEST)
    both = [no_responders(peer, "_INBOX.a.1", sid, "svc") for sid in (1, 2)]
    got = peer.read_exact(len(wire(both[0])))
    require(got in map(wire, both), "one 503 on either sid", both, got)
    peer.expect_open()


@check("C134", "responder on another connection → no 503, request delivered")
def c134(t):
    responder = subscriber(t, "SUB svc 7⏎")
    requester = open_client(t)
    publish(requester, INBOX + REQUEST)
    responder.expect("MSG svc 7 _INBOX.a.1 2⏎hi⏎")
    publish(responder, "PUB _INBOX.a.1 2⏎ok⏎")
    requester.expect("MSG _INBOX.a.1 1 2⏎ok⏎")
    requester.expect_open()


SERVICE = "SUB svc 2⏎"
SERVED = "MSG svc 2 _INBOX.a.1 2⏎hi⏎"


def served(count, sid=2):
    return SERVED.replace("svc 2", "svc %d" % sid) * count


rows(
    CON,
    (
        "CX1",
        "`UNSUB sid max` and more requests in one write → max of them as MSG, 503 to each other, also "
        "where max is given again, or behind messages",
        (
            INBOX + SERVICE + "UNSUB 2 2⏎" + REQUEST * 4,
            lambda peer: served(2) + n503(2)(peer),
        ),
        (
            INBOX + SERVICE + REQUEST + "UNSUB 2 2⏎" + REQUEST * 3,
            lambda peer: served(2) + n503(2)(peer),
        ),
        (
            INBOX + SERVICE + "UNSUB 2 5⏎" + REQUEST + "UNSUB 2 2⏎" + REQUEST * 2,
            lambda peer: served(2) + n503()(peer),
        ),
        (
            INBOX + SERVICE + "UNSUB 2 1⏎UNSUB 2 3⏎" + REQUEST * 4,
            lambda peer: served(3) + n503()(peer),
        ),
        (
            INBOX + SERVICE + "UNSUB 2 1⏎" + REQUEST * 2 + SERVICE + REQUEST,
            lambda peer: served(1) + n503()(peer) + served(1),
        ),
        (INBOX + "UNSUB 1 1⏎" + P("_INBOX.a.1") + REQUEST, M("_INBOX.a.1", 1)),
    ),
)


@check("CX2", "a group's member at its maximum: others get the messages, and 503 when all are at theirs")
def cx2(t):
    peer = open_client(t)
    peer.send(INBOX + "SUB svc q 2⏎UNSUB 2 2⏎SUB svc q 3⏎UNSUB 3 3⏎" + REQUEST * 7)
    got = peer.read_exact(len(wire(served(5))))
    each = {sid: wire(served(1, sid)) for sid in (2, 3)}
    counts = {sid: got.count(line) for sid, line in each.items()}
    require_equal(counts, {2: 2, 3: 3}, "messages of each member")
    peer.expect(n503(2)(peer))
    peer.expect_open()


# --- subjects -------------------------------------------------------------------------------------

INVALID = E("Invalid Subject")
DEEP = ".".join(["a"] * 1001)

rows(
    CON,
    (
        "C136",
        "`SUB foo..bar 1⏎`, `SUB .foo 1⏎`, `SUB foo. 1⏎`, `SUB . 1⏎` → E(Invalid Subject) OPEN "
        "each",
        *[("SUB %s 1⏎" % s, INVALID) for s in ("foo..bar", ".foo", "foo.", ".", "..")],
    ),
    (
        "C137",
        "`SUB foo.>.bar 1⏎`, `SUB >.foo 1⏎`, `SUB >.> 1⏎` → E(Invalid Subject) OPEN each",
        *[("SUB %s 1⏎" % s, INVALID) for s in ("foo.>.bar", ">.foo", ">.>", "foo.>.")],
    ),
    (
        "C138",
        "after a refused SUB, `SUB foo 1⏎P(foo)` → M(foo,1) (sid not consumed)",
        ("SUB foo..bar 1⏎SUB foo 1⏎" + P("foo"), INVALID + M("foo", 1)),
    ),
    (
        "C139",
        "`SUB fo*o 1⏎P(fo*o)P(foxo)` → only `fo*o`",
        ("SUB fo*o 1⏎" + P("fo*o") + P("foxo"), M("fo*o", 1)),
    ),
    (
        "C140",
        "P(foo..bar), P(.foo), P(foo.) → nothing, OPEN",
        *[(ALL + P(s), "") for s in ("foo..bar", ".foo", "foo.", ".", "..")],
    ),
    ("C142", "P(*) → `MSG * 9 1⏎x⏎`", (ALL + P("*"), M("*", 9))),
    ("C143", "P(foo.>.bar) → `MSG foo.>.bar 9 1⏎x⏎`", (ALL + P("foo.>.bar"), M("foo.>.bar", 9))),
    ("C144", "`SUB foo.> 1⏎P(foo)` → not on sid 1", (ALL + "SUB foo.> 1⏎" + P("foo"), M("foo", 9))),
    (
        "C145",
        "`SUB * 1⏎P(foo.bar)` → not on sid 1",
        (ALL + "SUB * 1⏎" + P("foo.bar"), M("foo.bar", 9)),
    ),
    ("C147", "`SUB FOO 1⏎P(foo)` → not on sid 1", (ALL + "SUB FOO 1⏎" + P("foo"), M("foo", 9))),
    (
        "C148",
        "P(`f\\xc3\\xa9o`), P(`\\xff\\xfe`), P(`f\\x01o`) → delivered unchanged",
        *[(ALL + P(s), M(s, 9)) for s in ("f\xc3\xa9o", "\xff\xfe", "f\x01o", "f\x7fo", "$SYS.x")],
    ),
    (
        "C149",
        "SUB and PUB of a 1001-token subject → delivered",
        ("SUB " + DEEP + " 1⏎" + P(DEEP), M(DEEP, 1)),
    ),
    (
        "C150",
        '`PUB _GR_.x 1⏎x⏎` → E(Permissions Violation for Publish to "_GR_.x") OPEN',
        (ALL + P("_GR_.x"), publish_refused("_GR_.x")),
    ),
    (
        "C151",
        '`PUB a _R_.x 1⏎x⏎` → E(Permissions Violation for Publish with Reply of "_R_.x") '
        "OPEN, not delivered",
        *[
            (
                ALL + "PUB a %s 1⏎x⏎" % r,
                E('Permissions Violation for Publish with Reply of "%s"' % r),
            )
            for r in ("_R_.x", "$JS.ACK.x", "_GR_.x")
        ],
    ),
)

any_order_rows(
    CON,
    (
        "C141",
        "P(foo.*) with `SUB foo.* 1`, `SUB foo.> 2`, `SUB foo.bar 3` → sids 1, 2, 9 only",
        ALL + "SUB foo.* 1⏎SUB foo.> 2⏎SUB foo.bar 3⏎" + P("foo.*"),
        [M("foo.*", 1), M("foo.*", 2), M("foo.*", 9)],
    ),
    (
        "C146",
        "`SUB *.bar 1⏎P(foo.bar)` → sid 1 and 9",
        ALL + "SUB *.bar 1⏎" + P("foo.bar"),
        [M("foo.bar", 1), M("foo.bar", 9)],
    ),
)


# --- verbose, pedantic ----------------------------------------------------------------------------

BAD_PUBLISH = E("Invalid Publish Subject")

rows(
    V,
    ("C152", "V: `SUB a 1⏎` → `+OK⏎`; repeated → `+OK⏎`", (S1 + S1, "+OK⏎+OK⏎")),
    ("C153", "V: P(a) with own sub → `+OK⏎M(a,1)`", (S1 + PA, "+OK⏎+OK⏎" + A1)),
    ("C154", "V: `UNSUB 77⏎` → `+OK⏎`", ("UNSUB 77⏎", "+OK⏎")),
    ("C155", "V: `PING⏎` → `PONG⏎` only", ("PING⏎", "PONG⏎")),
    ("C156", "V: `SUB a..b 5⏎` → E(Invalid Subject), no `+OK`", ("SUB a..b 5⏎", INVALID)),
    ("C157", "V: `HPUB a 12 12⏎H12⏎` → `+OK⏎`", ("HPUB a 12 12⏎" + H12 + "⏎", "+OK⏎")),
)

rows(
    PEDANTIC,
    (
        "C158",
        "pedantic true: P(foo.*) → E(Invalid Publish Subject), message delivered to `>`, OPEN",
        (ALL + P("foo.*"), BAD_PUBLISH + M("foo.*", 9)),
    ),
    (
        "C159",
        "pedantic true: P(foo..bar) → E(Invalid Publish Subject) OPEN",
        (ALL + P("foo..bar"), BAD_PUBLISH),
    ),
    ("C160", "pedantic true: P(a*b) → no error", (ALL + P("a*b"), M("a*b", 9))),
    (
        "C161",
        "pedantic true: `PUB ok r.* 1⏎x⏎` → no error",
        (ALL + "PUB ok r.* 1⏎x⏎", "MSG ok 9 r.* 1⏎x⏎"),
    ),
)

rows(
    hello(verbose=True, pedantic=True),
    (
        "C162",
        "pedantic and verbose: P(>) with `SUB > 9` → E(Invalid Publish Subject) "
        "`+OK⏎MSG > 9 1⏎x⏎`",
        (ALL + P(">"), "+OK⏎" + BAD_PUBLISH + "+OK⏎" + M(">", 9)),
    ),
)


# --- queue groups ---------------------------------------------------------------------------------


def received(peer):
    """The messages that have come on a connection up to now."""
    return messages(peer.read_until_pong())


@check("C163", "two members on one connection, 6 PUB → 6 MSG in all")
def c163(t):
    peer = open_client(t)
    peer.send("SUB a q 1⏎SUB a q 2⏎" + PA * 6)
    got = received(peer)
    require_equal(len(got), 6, "messages")
    require({m[1] for m in got} <= {b"1", b"2"}, "sids 1 and 2", None, got)


any_order_rows(
    CON,
    (
        "C164",
        "`SUB a q 1⏎SUB a 2⏎SUB a r 3⏎P(a)` → 3 MSG",
        "SUB a q 1⏎SUB a 2⏎SUB a r 3⏎" + PA,
        [M("a", n) for n in (1, 2, 3)],
    ),
    (
        "C169",
        "`SUB a q.* 1⏎SUB a > 2⏎P(a)` → 2 MSG (names are literal)",
        "SUB a q.* 1⏎SUB a > 2⏎" + PA,
        [M("a", 1), M("a", 2)],
    ),
)

rows(
    CON,
    (
        "C170",
        '`SUB a _sys_ 1⏎` → E(Permissions Violation for Subscription to "a" using queue '
        '"_sys_") OPEN',
        ("SUB a _sys_ 1⏎", subscribe_refused("a", "_sys_")),
    ),
)


@check("C165", "`SUB a q 1⏎SUB * q 2⏎SUB > q 3⏎P(a)` → 1 MSG")
def c165(t):
    peer = open_client(t)
    peer.send("SUB a q 1⏎SUB * q 2⏎SUB > q 3⏎" + PA)
    require_equal(len(received(peer)), 1, "messages")


@check("C166", "four connections, 1000 PUB → 1000 in all, each 180 to 320")
def c166(t):
    members = [subscriber(t, "SUB a q %d⏎" % n, name="member %d" % n) for n in range(4)]
    publish(open_client(t), PA * 1000)
    counts = [len(received(m)) for m in members]
    require_equal(sum(counts), 1000, "messages in all")
    require(all(180 <= c <= 320 for c in counts), "a fair share each", "180 to 320", repr(counts))


@check("C167", "echo:false publisher + other member, 10 PUB → other gets 10")
def c167(t):
    other = subscriber(t, "SUB a q 1⏎")
    own = subscriber(t, "SUB a q 1⏎", NO_ECHO, "publisher")
    publish(own, PA * 10)
    other.expect(A1 * 10)
    other.expect_open()


@check("C168", "echo:false publisher the only member → nobody")
def c168(t):
    witness = subscriber(t, "SUB b 1⏎", name="witness")
    own = subscriber(t, "SUB a q 1⏎", NO_ECHO, "publisher")
    publish(own, PA * 10 + P("b"))
    witness.expect(M("b", 1))
    witness.expect_open()


@check("C171", "member closes its connection, 10 PUB → the other gets all 10")
def c171(t):
    stays, leaves = subscriber(t, "SUB a q 1⏎"), subscriber(t, "SUB a q 1⏎", name="leaver")
    leaves.close()
    publish(open_client(t), PA * 10)
    stays.expect(A1 * 10)
    stays.expect_open()
