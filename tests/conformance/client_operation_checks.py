# SPDX-License-Identifier: GPL-2.0-or-later
"""The numbered checks C204 to C230 of the client protocol reference, section 17: reload, TLS,
monitoring, and what was added later.
"""

import json
import re
import signal
import time

from client_notation import (
    as_user,
    users,
    A1,
    AV,
    CON,
    E,
    PA,
    PERR,
    S1,
    M,
    P,
    check,
    hello,
    no_responders,
    open_client,
    require_late,
    rows,
    subscriber,
    talk,
)
from support import (
    require,
    require_equal,
    wait_until,
    wire,
)

# --- reload ---------------------------------------------------------------------------------------


@check("C204", "reload with a changed password → AV on the live connection", settings=users(u={}))
def c204(t):
    changed, kept = open_client(t, as_user("u")), open_client(t, as_user("free"))
    t.server.rewrite(
        {"auth": {"users": [{"user": "u", "password": "new"}, {"user": "free", "password": "p"}]}}
    )
    t.server.signal(signal.SIGHUP)
    changed.expect(AV)
    kept.expect_open()
    talk(t, hello(user="u", **{"pass": "new"}), "", "")


@check(
    "C205",
    'reload narrowing subscribe → E(Permissions Violation for Subscription to "y" (sid '
    '"1")) OPEN, sub gone',
    settings=users(u={"subscribe": {"allow": ["x", "y"]}}),
)
def c205(t):
    peer = subscriber(t, "SUB y 1⏎SUB x 2⏎", as_user("u"))
    t.server.rewrite(users(u={"subscribe": {"allow": ["x"]}}))
    t.server.signal(signal.SIGHUP)
    peer.expect(E('Permissions Violation for Subscription to "y" (sid "1")'))
    peer.send(P("y") + P("x"))
    peer.expect(M("x", 2))
    peer.expect_open()


@check(
    "C206",
    "reload with a syntax error → connections and settings unchanged",
    settings={"limits": {"max_payload": 1024}},
)
def c206(t):
    peer = open_client(t)
    with open(t.server.config_path, "a") as file:
        file.write("\n}}: [ nonsense\n")
    before = t.server.log_text()
    t.server.signal(signal.SIGHUP)
    wait_until(lambda: len(t.server.log_text()) > len(before), "the reload is logged")
    peer.expect_open()
    require_equal(t.connect().info["max_payload"], 1024, "max_payload")


# --- TLS ------------------------------------------------------------------------------------------


def tls(lab, **more):
    certificate, key = lab.certs.paths("event-service")
    # A handshake takes its time on a busy machine, and more so under a sanitizer.
    return {"tls": {"cert_path": certificate, "key_path": key, "timeout": "20s", **more}}


@check(
    "C207",
    "tls: INFO tls_required; plaintext CONNECT → SILENT; handshake then CON → `PONG⏎`; no "
    "INFO is repeated",
    settings=tls,
)
def c207(t):
    peer = t.connect()
    require_equal(peer.info.get("tls_required"), True, "INFO tls_required")
    peer.start_tls(t.certs.client_context())
    peer.send(CON[0] + S1 + PA)
    peer.expect("PONG⏎" + A1)
    peer.expect_open()
    plain = t.connect()
    plain.send(CON[0])
    plain.expect_fin(reset_too=True)
    mutual = t.start(tls(t.lab, root_ca_path=t.certs.ca()))
    peer = t.connect(server=mutual)
    require_equal(peer.info.get("tls_verify"), True, "INFO tls_verify")
    peer.start_tls(t.certs.client_context("client"))
    peer.send(CON[0])
    peer.expect("PONG⏎")


@check(
    "C208",
    "tls, nothing sent for timeout (1 s) → SILENT at ~1 s",
    settings=lambda lab: tls(lab, timeout="1s"),
    seconds_long=1,
)
def c208(t):
    began = time.monotonic()
    peer = t.connect()
    peer.expect_fin()
    require_late(time.monotonic() - began, 1.0, 0.2, "close without a byte")


@check(
    "C209",
    "allow_non_tls: INFO tls_available, no tls_required; both plain and TLS clients get " "`PONG⏎`",
    settings=lambda lab: tls(lab, allow_plain=True),
)
def c209(t):
    peer = t.connect()
    require_equal(peer.info.get("tls_available"), True, "INFO tls_available")
    require("tls_required" not in peer.info, "INFO without tls_required", None, repr(peer.info))
    peer.start_tls(t.certs.client_context())
    peer.send(CON[0])
    peer.expect("PONG⏎")
    peer.expect_open()
    talk(t, CON, S1 + PA, A1)


# --- monitoring -----------------------------------------------------------------------------------

TEXT, NUMBER, WHOLE, TIME = (str,), (int, float), (int,), "time"
VARZ = {
    TEXT: "server_id server_name version uptime",
    WHOLE: "mem cores in_msgs out_msgs in_bytes out_bytes slow_consumers connections "
    "total_connections subscriptions max_connections ping_interval ping_max "
    "max_control_line max_payload max_pending write_deadline routes remotes leafnodes port "
    "proto",
    NUMBER: "cpu auth_timeout tls_timeout",
    TIME: "now start config_load_time",
    (dict,): "http_req_stats",
}
CONNZ = {
    TEXT: "server_id",
    TIME: "now",
    WHOLE: "num_connections total offset limit",
    (list,): "connections",
}
CONN = {
    WHOLE: "cid port pending_bytes in_msgs out_msgs in_bytes out_bytes subscriptions",
    TEXT: "ip kind type uptime idle rtt name lang version",
    TIME: "start last_activity",
}
GATEWAYZ = {
    TEXT: "server_id name host",
    TIME: "now",
    WHOLE: "port",
    (dict,): "outbound_gateways inbound_gateways",
}
SUBSZ = {
    WHOLE: "num_subscriptions num_cache num_inserts num_removes num_matches max_fanout",
    (int, float): "cache_hit_rate avg_fanout",
}
SUBS_LIST = {WHOLE: "total offset limit", (list,): "subscriptions_list"}
ROUTEZ = {TEXT: "server_id", TIME: "now", WHOLE: "num_routes", (list,): "routes"}
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def require_fields(value, table, what):
    for kinds, keys in table.items():
        for key in keys.split():
            got = value.get(key)
            if kinds == TIME:
                good = isinstance(got, str) and RFC3339.fullmatch(got)
            else:
                good = isinstance(got, kinds) and not isinstance(got, bool)
            names = kinds if kinds == TIME else "/".join(k.__name__ for k in kinds)
            require(good, "%s field %s" % (what, key), names, repr(got))


@check(
    "C219",
    "GET /varz, /connz, /subsz, /routez, /gatewayz, /healthz → 200 and the fields of section 11",
    settings={"gateway": {"name": "B"}},
)
def c219(t):
    peer = open_client(t, hello(name="nm", lang="py", version="9.9"))
    peer.send(S1 + "PUB a 3⏎<&>⏎")
    peer.expect("MSG a 1 3⏎<&>⏎")
    peer.expect_open()
    for path, table in (
        ("/varz", VARZ),
        ("/connz", CONNZ),
        ("/gatewayz", GATEWAYZ),
        ("/subsz", SUBSZ),
        ("/subscriptionsz", SUBSZ),
        ("/subsz?subs=1", {**SUBSZ, **SUBS_LIST}),
        ("/routez", ROUTEZ),
    ):
        status, headers, body = t.server.http(path)
        require_equal(status, 200, path)
        require_equal(headers.get("Content-Type"), "application/json", path + " Content-Type")
        require_fields(json.loads(body), table, path)
    require_equal(t.server.http_json("/gatewayz")["name"], "B", "/gatewayz name")
    varz = t.server.http_json("/varz")
    require_equal(
        (
            varz["connections"],
            varz["max_payload"],
            varz["ping_interval"],
            varz["write_deadline"],
            varz["port"],
        ),
        (1, 1 << 20, 120 * 10**9, 10 * 10**9, t.server.port),
        "/varz connections, max_payload, ping_interval, write_deadline, port",
    )
    (conn,) = t.server.http_json("/connz")["connections"]
    require_fields(conn, CONN, "/connz connection")
    require_equal(
        (
            conn["cid"],
            conn["name"],
            conn["lang"],
            conn["version"],
            conn["subscriptions"],
            conn["in_msgs"],
            conn["out_msgs"],
            conn["in_bytes"],
            conn["out_bytes"],
        ),
        (peer.info["client_id"], "nm", "py", "9.9", 1, 1, 1, 3, 3),
        "/connz cid, name, lang, version, subscriptions, messages, bytes",
    )
    require_equal(
        t.server.http_json("/connz?subs=1")["connections"][0]["subscriptions_list"],
        ["a"],
        "/connz?subs=1 subscriptions_list",
    )
    for words, found in (("test=a", 1), ("test=b", 0), ("offset=100000&limit=5", 0)):
        # nats-server leaves an empty list out.
        subs = t.server.http_json("/subsz?subs=1&" + words).get("subscriptions_list", [])
        own = [sub for sub in subs if sub["cid"] == peer.info["client_id"]]
        require_equal(
            [(sub["subject"], sub["sid"], sub["msgs"]) for sub in own],
            [("a", "1", 1)] * found,
            "/subsz?subs=1&" + words,
        )
    status, _, body = t.server.http("/healthz")
    require_equal((status, json.loads(body)["status"]), (200, "ok"), "/healthz")


@check("C220", "/connz?sort=bogus, /connz?limit=abc → 400; /connz?cid=99 → empty list; /nope → 404")
def c220(t):
    require_equal(t.server.http("/connz?sort=bogus")[0], 400, "/connz?sort=bogus")
    require_equal(t.server.http("/connz?limit=abc")[0], 400, "/connz?limit=abc")
    require_equal(
        t.server.http_json("/connz?cid=99999999")["connections"], [], "/connz?cid=99999999"
    )
    require_equal(t.server.http("/nope")[0], 404, "/nope")


@check(
    "C221",
    "/connz?subs=detail&auth=1 → subscriptions_list_detail, authorized_user, account",
    settings=users(u={}),
)
def c221(t):
    peer = open_client(t, as_user("u"))
    peer.send("SUB a.> q 7⏎UNSUB 7 5⏎" + P("a.b"))
    peer.expect(M("a.b", 7))
    peer.expect_open()
    (conn,) = t.server.http_json("/connz?subs=detail&auth=1")["connections"]
    # nats-server leaves the account out where it is the global one.
    require_equal(
        (conn.get("authorized_user"), conn.get("account", "$G")),
        ("u", "$G"),
        "authorized_user, account",
    )
    (detail,) = conn["subscriptions_list_detail"]
    require_equal(
        (
            detail["subject"],
            detail["qgroup"],
            detail["sid"],
            detail["msgs"],
            detail.get("max"),
            detail["cid"],
        ),
        ("a.>", "q", "7", 1, 5, peer.info["client_id"]),
        "subscriptions_list_detail",
    )


@check("C222", "/connz?state=closed after a parse fault → reason `Protocol Violation`")
def c222(t):
    peer = open_client(t)
    peer.send("X")
    peer.expect(PERR)

    def closed():
        found = t.server.http_json("/connz?state=closed&limit=10000")["connections"]
        return [c for c in found if c["cid"] == peer.info["client_id"]]

    (conn,) = wait_until(closed, "the connection is among the closed ones")
    require_equal(conn["reason"], "Protocol Violation", "reason")
    require_fields(conn, {TIME: "start stop"}, "closed connection")


# --- later additions ------------------------------------------------------------------------------

rows(
    CON,
    (
        "C226",
        'second CONNECT `{"verbose":false}` after `SUB a 1⏎`, then P(a) → 2.9 - 2.11: M(a,1) '
        "(kept); 2.14 and newer: nothing",
        (
            S1 + 'CONNECT {"verbose":false}⏎' + PA,
            lambda peer: "" if peer.since(2, 14) else A1,
        ),
    ),
)


@check(
    "C227",
    "deny `foo.bar` on the only subscriber `foo.*`; `PUB foo.bar R 1⏎x⏎` by a requester → "
    "503 to it",
    settings=users(u={"subscribe": {"deny": ["foo.bar"]}}),
)
def c227(t):
    denied = subscriber(t, "SUB foo.* 1⏎", as_user("u"))
    requester = open_client(t, as_user("free"))
    requester.send("SUB R 3⏎PUB foo.bar R 1⏎x⏎")
    requester.expect(no_responders(requester, "R", 3, "foo.bar"))
    requester.expect_open()
    denied.expect_open()


@check("C228", "SIGUSR2 with no client → process ends, code 0", settings={})
def c228(t):
    t.server.signal(signal.SIGUSR2)
    require_equal(t.server.wait_exit(), 0, "exit status")


@check(
    "C229",
    "reload lowering max_connections from 4 to 2 clients → two random clients get "
    "E(maximum connections exceeded) FIN",
    settings={"limits": {"max_connections": 4}},
)
def c229(t):
    peers = [open_client(t) for _ in range(4)]
    t.server.rewrite({"limits": {"max_connections": 2}})
    t.server.signal(signal.SIGHUP)
    wait_until(lambda: t.server.http_json("/varz")["connections"] == 2, "two connections are left")
    refused = wire(E("maximum connections exceeded"))
    ended = 0
    for peer in peers:
        peer.send("PING⏎")
        line = peer.read_line()
        if line == refused:
            peer.expect_fin(reset_too=True)
            ended += 1
        else:
            require_equal(line, b"PONG\r\n", "a client that stays")
    require_equal(ended, 2, "clients that were closed")


@check(
    "C230",
    "max_payload −1 → INFO shows -1, PUB of 3000000 bytes delivered",
    settings={"limits": {"max_payload": -1}},
)
def c230(t):
    peer = open_client(t)
    require_equal(peer.info["max_payload"], -1, "INFO max_payload")
    payload = "b" * 3000000 + "⏎"
    peer.send(S1 + "PUB a 3000000⏎" + payload)
    peer.expect("MSG a 1 3000000⏎")
    require(peer.read_exact(3000002, 15.0) == wire(payload), "the same 3000000 bytes")
    peer.expect_open()
