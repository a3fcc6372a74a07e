# SPDX-License-Identifier: GPL-2.0-or-later
"""The gateway checks on handshake, errors, timers, gossip and TLS (G1-G44, G87-G91).

Goal: the server under test does on the wire what each numbered row of the reference says. Method:
the test peer F dials it, is dialled by it, or both, and compares lines. `run --suite gateway` runs
these and the rows on messages, which are in gateway_message_checks.py.
"""
import signal
import ssl
import time

from gateway_case import SUITE, gateway_check
from gateway_peer import SHORT, WAIT, Client, PeerTls, dial, gateway_hash, old_gateway_hash, want
from gateway_traffic import in_threads, interest_across
from support import SLACK_S

WRONG_NAME = 'Connection from "B" rejected, wanted to connect to "F", this is "%s"'

want(
    gateway_hash("B") == "b2oh2L"
    and gateway_hash("F") == "yyrAQg"
    and old_gateway_hash("B") == "df7e",
    "the hash function of this suite is wrong",
)


def within(seconds, low, high, what):
    """A measured time against its limits: a busy machine may be late by the slack, never early."""
    want(
        low <= seconds <= high + SLACK_S,
        "%s: expected %.2f to %.2f s, took %.2f s" % (what, low, high, seconds),
    )


def finish(link):
    """Close our direction and wait until the server has closed its own: it has noticed then."""
    link.sock.shutdown(1)
    link.read_to_end()
    ended = time.monotonic()
    link.close()
    return ended


def gossip_of(frames):
    """The cmd-1 INFOs among these frames: [(gateway, urls)]."""
    infos = [frame.json for frame in frames if frame.verb == "INFO"]
    return [
        (info["gateway"], info.get("gateway_urls"))
        for info in infos
        if info.get("gateway_cmd") == 1
    ]


def commands_of(frames):
    """The cmd-2 and cmd-3 INFOs of account $G among these frames: [(cmd, gateway)]."""
    infos = [frame.json for frame in frames if frame.verb == "INFO"]
    return [
        (info["gateway_cmd"], info["gateway"])
        for info in infos
        if info.get("gateway_cmd") in (2, 3) and info.get("gateway_cmd_payload") == "JEc="
    ]


@gateway_check("G1", "INFO comes first, with gateway, gateway_urls, nrp, iom, headers")
def _(case):
    server = case.start()
    info = case.peer().dial(server).info
    want(info.get("gateway") == "B", "gateway is %r" % info.get("gateway"))
    for key in ("gateway_nrp", "gateway_iom", "headers"):
        want(info.get(key) is True, "%s is %r in %s" % (key, info.get(key), info))
    want(
        "127.0.0.1:%d" % server.gateway_port in info.get("gateway_urls", []),
        "gateway_urls: %s" % info,
    )


@gateway_check("G2", "dialling, it says nothing before our INFO", seconds_long=5)
def _(case):
    f = case.peer()
    case.start(f)
    f.accept().quiet_for(3, "before INFO")


@gateway_check("G3", "dialling, it answers INFO by CONNECT and INFO at once")
def _(case):
    f = case.peer()
    case.start(f)
    i = f.accept()
    i.send_info(gateway="F")
    connect, info = i.expect_verb("CONNECT"), i.expect_verb("INFO")
    want(
        connect.json.get("gateway") == "B" and info.json.get("gateway") == "B",
        "%r %r" % (connect, info),
    )
    want(info.at - connect.at < SHORT, "INFO came %.2f s after CONNECT" % (info.at - connect.at))


@gateway_check("G4", "its CONNECT: gateway, not verbose, no lang, name is the server id")
def _(case):
    f = case.peer()
    case.start(f)
    i = f.open_i()
    c = i.connect
    want(
        c.get("gateway") == "B" and c.get("verbose") is False and "lang" not in c, "CONNECT %s" % c
    )
    want(
        c.get("name") == i.info.get("server_id") and len(c["name"]) == 56,
        "CONNECT %s INFO %s" % (c, i.info),
    )


@gateway_check("G5", "the smallest opening is answered by cmd 2 and cmd 3 of $G")
def _(case):
    o = case.peer().dial(case.start())
    o.send('CONNECT {"gateway":"F"}\r\nINFO {"gateway":"F"}\r\n')
    got = commands_of(o.read_opening())
    want(got == [(2, "B"), (3, "B")], "commands %s" % got)


@gateway_check(
    "G6", "CONNECT without INFO: PING is answered, the link is not registered", seconds_long=3
)
def _(case):
    o = case.peer().dial(case.start())
    o.send('CONNECT {"gateway":"F"}\r\nPING\r\n')
    while o._next(time.monotonic() + 5).verb != "PONG":
        pass
    o.quiet_for(2, "without INFO")
    o.quiet("without INFO")


@gateway_check("G7", "INFO or PING before CONNECT is an authorization violation")
def _(case):
    server, f = case.start(), case.peer()
    for opening in ('INFO {"gateway":"F"}\r\n', "PING\r\n"):
        o = f.dial(server)
        o.send(opening)
        o.expect_close("Authorization Violation")


@gateway_check("G8", "nothing said: Authentication Timeout after 2 s", seconds_long=3)
def _(case):
    o = case.peer().dial(case.start())
    o.expect_close("Authentication Timeout")
    within(time.monotonic() - o.opened_at, 1.5, 2.5, "the timeout")


@gateway_check("G9", "a client's CONNECT is told that this is the gateway port")
def _(case):
    o = case.peer().dial(case.start())
    o.send('CONNECT {"verbose":false,"pedantic":false,"lang":"c","version":"1","protocol":1}\r\n')
    o.expect_close("attempted to connect to gateway port")


@gateway_check("G10", "a CONNECT with cut JSON closes without -ERR")
def _(case):
    o = case.peer().dial(case.start())
    o.send('CONNECT {"gateway":\r\n')
    o.expect_close()


@gateway_check("G11", "a CONNECT that names an account is refused")
def _(case):
    o = case.peer().dial(case.start())
    o.send('CONNECT {"gateway":"F","account":"X"}\r\n')
    o.expect_close("Authorization Violation")


@gateway_check("G12", "unknown fields, tabs, double and trailing blanks, lower case are accepted")
def _(case):
    o = case.peer().dial(case.start())
    o.send(
        'connect\t {"gateway":"F","zz":{"a":[1,"b"]},"y":null} \r\n'
        'info  {"gateway":"F","new":[{}]}\t\r\n'
    )
    want(
        commands_of(o.read_opening()) == [(2, "B"), (3, "B")],
        "commands %s" % o.seen(),
    )
    c = case.client()
    c.sub("foo", 1)
    c.flush()
    o.expect("RS+ $G foo")
    o.send("rmsg\t$G\tfoo  2  \r\nab\r\nRMSG $G foo 1\nx\r\nping\r\n")
    c.expect("MSG foo 1 2", b"ab")
    c.expect("MSG foo 1 1", b"x")
    o.quiet("after lower case")


@gateway_check("G13", "an INFO with the server's own server_name closes")
def _(case):
    f = case.peer()
    o = f.dial(case.start())
    o.send(f.connect_line())
    o.send_info(**f.info(server_name="srv-b"))
    frames = o.expect_close()
    want(not commands_of(frames), "registered all the same: %s" % frames)


@gateway_check("G14", "authorization: CONNECT without or with a wrong password is refused")
def _(case):
    server = case.start(gateway={"user": "gw", "password": "secret"})
    f = case.peer()
    for fields in ({}, {"user": "gw", "pass": "wrong"}):
        o = f.dial(server)
        want(o.info.get("auth_required") is True, "auth_required is missing: %s" % o.info)
        o.send(f.connect_line(**fields))
        o.expect_close("Authorization Violation")


@gateway_check("G15", "authorization: the right password passes, and it is sent when dialling")
def _(case):
    f = case.peer()
    server = case.start(f, gateway={"user": "gw", "password": "secret"})
    f.open_o(server, connect={"user": "gw", "pass": "secret"}).flush()
    i = f.open_i()
    want(
        (i.connect.get("user"), i.connect.get("pass")) == ("gw", "secret"), "CONNECT %s" % i.connect
    )


@gateway_check("G16", "user info of the URL goes before the own authorization")
def _(case):
    f = case.peer()
    case.start(("F", ["nats://u:p@" + f.address]), gateway={"user": "gw", "password": "secret"})
    i = f.open_i()
    want((i.connect.get("user"), i.connect.get("pass")) == ("u", "p"), "CONNECT %s" % i.connect)


@gateway_check("G17", "reject_unknown: a cluster that is not listed is refused")
def _(case):
    server = case.start(gateway={"reject_unknown": True})
    f = case.peer()
    o = f.dial(server)
    o.send(f.connect_line())
    o.expect_close('Connection to gateway "B" rejected')


@gateway_check(
    "G18",
    "reject_unknown: a listed cluster passes, gossip of others is not dialled",
    seconds_long=3,
)
def _(case):
    f, z = case.peer(), case.peer("Z")
    server = case.start(f, gateway={"reject_unknown": True})
    f.open_o(server).flush()
    i = f.open_i()
    i.gossip("Z", [z.address])
    i.flush()
    z.not_dialled_for(1.2, "though its name is not listed")
    i.flush()


def expect_redial(peer, since):
    """The explicit remote is dialled again 1.0 to 1.2 s after the loss."""
    link = peer.accept(4)
    within(link.opened_at - since, 0.95, 1.2, "the redial")
    return link


@gateway_check(
    "G19", "a remote with another name is refused by -ERR and dialled again", seconds_long=3
)
def _(case):
    f = case.peer()
    case.start(f)
    i = f.accept()
    i.send_info(**f.info(gateway="OTHER"))
    i.expect_close(WRONG_NAME % "OTHER")
    expect_redial(f, time.monotonic())


@gateway_check(
    "G20", "a port without gateway in INFO is refused by -ERR and dialled again", seconds_long=3
)
def _(case):
    f = case.peer()
    case.start(f)
    i = f.accept()
    i.send_info(**f.info(gateway=None, gateway_urls=None))
    i.expect_close('Attempt to connect to gateway "F" using wrong port')
    expect_redial(f, time.monotonic())


@gateway_check("G21", "a remote with our server_name is closed and dialled again", seconds_long=3)
def _(case):
    f = case.peer()
    case.start(f)
    i = f.accept()
    i.send_info(**f.info(server_name="srv-b"))
    i.expect_close()
    f.accept(4)


@gateway_check("G22", "cmd 2 with another gateway name closes")
def _(case):
    _, _, i = case.both()
    i.command(2, gateway="WRONG")
    i.expect_close(WRONG_NAME % "WRONG")


@gateway_check("G23", "cmd 2 or cmd 3 without an account closes")
def _(case):
    f, _, i = case.both()
    i.command(2, account=None)
    i.expect_close("Account absent from receive-all-subscriptions-start command")
    i = f.open_i()
    i.command(3, account=None)
    i.expect_close("Account absent from receive-all-subscriptions-complete command")


@gateway_check("G24", "an unknown command and gossip about F itself are ignored")
def _(case):
    f, _, i = case.both()
    i.command(9)
    i.gossip("F", [f.address])
    i.quiet("after odd commands")
    i.switch("foo")
    case.client().pub("foo", "x")
    i.expect("RMSG $G foo 1", b"x")


@gateway_check("G25", "-ERR from the dialler closes")
def _(case):
    _, o = case.only_o()
    o.send("-ERR 'bye'\r\n")
    o.expect_close()


@gateway_check("G26", "RS+ or RS- from the dialler closes without -ERR")
def _(case):
    case.start()
    for line in ("RS+ $G foo\r\n", "RS- $G foo\r\n"):
        _, o = case.only_o()
        o.send(line)
        o.expect_close()


@gateway_check(
    "G27", "A- and A+ from the dialler: close or ignore, other links unharmed", ours_only=True
)
def _(case):
    case.start()
    case.require_ours()
    _, other = case.only_o("K")
    c = case.client()
    c.sub("foo", 1)
    c.flush()
    other.expect("RS+ $G foo")
    for line in ("A- $G\r\n", "A+ $G\r\n", "A- nosuch\r\n"):
        _, o = case.only_o()
        o.wrong_side_allowed = True
        o.send(line)
        o.closes_or_answers()
        other.message("foo", "x")
        c.expect("MSG foo 1 1", b"x")
    other.quiet("after A- and A+ on another link")


@gateway_check("G28", "RMSG from the acceptor: close or ignore, never delivered", ours_only=True)
def _(case):
    case.start()
    case.require_ours()
    c = case.client()
    c.sub("foo", 1)
    c.flush()
    for subject in ("foo", "nobody"):
        f, o, i = case.both()
        i.wrong_side_allowed = True
        i.message(subject, "never")
        i.closes_or_answers()
        c.quiet("of what came on the wrong side")
        o.message("foo", "x")
        c.expect("MSG foo 1 1", b"x")
        f.close()


@gateway_check("G29", "unknown operations and empty lines: Unknown Protocol Operation, close")
def _(case):
    case.start()
    for line in ("\r\n", "HELLO\r\n", "LS+ $G foo\r\n", "MSG foo 1 1\r\nx\r\n"):
        _, o = case.only_o()
        o.send(line)
        o.expect_close("Unknown Protocol Operation")


@gateway_check("G30", "RMSG and HMSG with bad arguments close without -ERR")
def _(case):
    case.start()
    for text in (
        "RMSG $G 2\r\nab\r\n",
        "RMSG $G foo * q 2\r\nab\r\n",
        "RMSG $G foo -1\r\n\r\n",
        "RMSG $G foo 1234567890\r\nx\r\n",
        "HMSG $G foo 10 4\r\nabcd\r\n",
        "HMSG $G foo 4\r\nabcd\r\n",
    ):
        _, o = case.only_o()
        o.send(text)
        o.expect_close()


@gateway_check("G31", "a payload longer than its size: Unknown Protocol Operation, close")
def _(case):
    _, o = case.only_o()
    o.send("RMSG $G foo 2\r\nabcd\r\n")
    o.expect_close("Unknown Protocol Operation")


@gateway_check(
    "G33", "first PING after 1.0-1.2 s, then every 15 s; each of ours is answered", seconds_long=17
)
def _(case):
    f = case.peer()
    server = case.start()
    o = f.dial(server)
    o.send(f.connect_line() + 'INFO {"gateway":"F","gateway_urls":["%s"]}\r\n' % f.address)
    opened = {o: time.monotonic()}
    o.read_opening()
    i = f.accept()
    i.send_info(**f.info())
    opened[i] = time.monotonic()

    def watch(link):
        for _ in range(3):
            link.flush()
        while len(link.pings) < 2:
            want(link._next(time.monotonic() + 18) is not None, "%s closed" % link.label)
        within(link.pings[0] - opened[link], 0.95, 1.2, "the first PING on " + link.label)
        within(link.pings[1] - link.pings[0], 14.5, 15.0, "the second PING on " + link.label)

    in_threads(lambda: watch(o), lambda: watch(i))


@gateway_check("G34", "two unanswered PINGs: Stale Connection", seconds_long=5)
def _(case):
    f = case.peer()
    o = f.dial(case.start(limits={"ping_interval": "1s", "ping_max": 2}))
    o.answers_pings = False
    o.send(f.connect_line() + 'INFO {"gateway":"F"}\r\n')
    o.expect_close("Stale Connection")
    want(len(o.pings) == 2, "%d PINGs came before" % len(o.pings))


@gateway_check("G35", "an inbound that names its URLs is dialled back, once")
def _(case):
    f = case.peer()
    f.open_o(case.start())
    f.open_i()
    f.not_dialled_for(SHORT, "a second time")


@gateway_check("G36", "a second inbound is not dialled again, and interest goes to both")
def _(case):
    f, o, _ = case.both()
    o2 = f.open_o(case.server)
    f.not_dialled_for(SHORT, "though a link is up")
    c = case.client()
    c.sub("foo", 1)
    c.flush()
    o.expect("RS+ $G foo")
    o2.expect("RS+ $G foo")


@gateway_check(
    "G37", "without gateway_urls in INFO nothing is dialled, though host and port are there"
)
def _(case):
    f, o = case.only_o()
    f.not_dialled_for(2 * SHORT, "though it named no gateway_urls")
    o.flush()


@gateway_check(
    "G38", "losing o leaves i, losing i leaves o, and i is dialled again", seconds_long=4
)
def _(case):
    f = case.peer()
    server = case.start(f)
    i, o = f.open_i(), f.open_o(server)
    finish(o)
    i.switch("foo")
    c = case.client()
    c.pub("foo", "x")
    i.expect("RMSG $G foo 1", b"x")
    o = f.open_o(server)
    finish(i)
    o.quiet("after the loss of i")
    f.open_i().flush()
    o.quiet("after the redial of i")


@gateway_check(
    "G39",
    "an explicit remote is dialled again after 1.0-1.2 s and starts without interest",
    seconds_long=4,
)
def _(case):
    f = case.peer()
    case.start(f)
    i = f.open_i()
    i.switch("foo")
    i.interest("RS+ foo q 1")
    c = case.client()
    c.pub("foo", "x")
    i.expect("RMSG $G foo | q 1", b"x")
    i = expect_redial(f, finish(i))
    i.send_info(**f.info())
    i.expect_verb("CONNECT")
    i.expect_verb("INFO")
    i.flush()
    c.pub("foo", "y")
    c.flush()
    i.quiet("since interest starts from zero")


@gateway_check(
    "G40", "of two advertised URLs the second is reached when the first one stops", seconds_long=4
)
def _(case):
    f, second = case.peer(), case.peer(server_name="peer-f2")
    case.start(f)
    i = f.open_i(gateway_urls=[f.address, second.address])
    f.stop_listening()
    ended = finish(i)
    within(second.accept(4).opened_at - ended, 0, 2, "reaching the second URL")


@gateway_check("G41", "a later INFO replaces the learned URLs", seconds_long=5)
def _(case):
    f, second = case.peer(), case.peer(server_name="peer-f2")
    case.start(f)
    i = f.open_i()
    i.send_info(**f.info(gateway_urls=[second.address]))
    i.flush()
    f.stop_listening()
    finish(i)
    second.open_i()


@gateway_check("G42", "gossip of an unknown cluster is dialled, and passed to later inbounds")
def _(case):
    f, _, i = case.both()
    z, k = case.peer("Z"), case.peer("K")
    i.gossip("Z", [z.address])
    z.open_i()
    got = gossip_of(k.open_o(case.server).opening)
    want(sorted(got) == [("F", [f.address]), ("Z", [z.address])], "gossip to K: %s" % got)


@gateway_check("G43", "an inbound is told of every other cluster, not of itself and not of us")
def _(case):
    z = case.peer("Z")
    server = case.start(z)
    z.open_i()
    got = gossip_of(case.peer().open_o(server).opening)
    want(got == [("Z", [z.address])], "gossip to F: %s" % got)


@gateway_check("G44", "gossip that names ourselves is ignored")
def _(case):
    _, _, i = case.both()
    x = case.peer("X")
    i.gossip("B", [x.address])
    i.quiet("after gossip about B")
    x.not_dialled_for(2 * SHORT, "under our own name")
    i.gossip("X", [x.address])
    x.open_i()


@gateway_check("G87", "TLS: no byte before the handshake; INFO inside, tls_required and tls_verify")
def _(case):
    server = case.start(gateway={"tls": case.tls("srv-b")})
    peer = case.context.connect_raw(port=server.gateway_port)
    peer.expect_quiet(SHORT)
    peer.start_tls(case.certs.client_context("peer"))
    info = peer.read_info()
    want(
        info.get("gateway") == "B"
        and info.get("tls_required") is True
        and info.get("tls_verify") is True,
        "INFO %s" % info,
    )
    f = case.peer(tls=PeerTls(case.certs))
    o = f.open_o(server)
    i = f.open_i()
    want(i.connect.get("tls_required") is True, "CONNECT %s" % i.connect)
    c = case.client()
    c.sub("foo", 1)
    c.flush()
    o.expect("RS+ $G foo")
    o.message("foo", "in")
    c.expect("MSG foo 1 2", b"in")
    i.switch("bar")
    c.pub("bar", "out")
    i.expect("RMSG $G bar 3", b"out")


def said_over_tls(server, context):
    """What the server says to a dialler with this context; nothing if the handshake fails."""
    sock = dial("127.0.0.1", server.gateway_port, time.monotonic() + WAIT)
    try:
        with context.wrap_socket(sock, server_hostname="localhost") as secured:
            return secured.recv(4096)
    except (OSError, ssl.SSLError):
        return b""
    finally:
        sock.close()


@gateway_check("G88", "TLS: no certificate, or one of another authority: no INFO")
def _(case):
    server = case.start(gateway={"tls": case.tls("srv-b")})
    for name, ca in ((None, "ca"), ("peer", "other-ca")):
        got = said_over_tls(server, case.certs.client_context(name, client_ca=ca))
        want(got == b"", "certificate %s of %s: got %r" % (name, ca, got))
    got = said_over_tls(server, case.certs.client_context("peer"))
    want(got.startswith(b"INFO {"), "a good certificate: got %r" % got)


@gateway_check(
    "G89",
    "TLS: a remote whose certificate lacks the dialled name is refused and tried again",
    seconds_long=4,
)
def _(case):
    tls = PeerTls(case.certs, "elsewhere.example", hosts=False)
    f = case.peer()
    case.start(f, gateway={"tls": case.tls("srv-b")})
    for _ in range(2):
        sock = f.try_accept(5)
        want(sock is not None, "the server did not dial")
        try:
            with tls.server.wrap_socket(sock, server_side=True) as secured:
                secured.settimeout(5)
                secured.sendall(b'INFO {"gateway":"F"}\r\n')
                got = secured.recv(4096)
        except (OSError, ssl.SSLError):
            got = b""
        want(got == b"", "the server said %r" % got)


@gateway_check("G90", "a server that stops announces at most RS- and closes")
def _(case):
    _, o, i = case.both()
    c = case.client()
    c.sub("foo", 1)
    c.sub("bar", 2, "q")
    c.flush()
    want(len(o.fence()) == 2, "two lines of interest expected%s" % o.seen())
    case.server.signal(signal.SIGTERM)
    frames = o.read_to_end(12)
    want(all(frame.verb in ("RS-", "-ERR") for frame in frames), "on o: %s" % frames)
    frames = i.read_to_end(12)
    want(all(frame.verb == "-ERR" for frame in frames), "on i: %s" % frames)


@gateway_check(
    "G91",
    "two real servers that know only this one: all pairs are linked, requests pass",
    seconds_long=5,
)
def _(case):
    server = case.start()
    url = "nats://127.0.0.1:%d" % server.gateway_port
    a = case.start_real("A", [("B", url)])
    c = case.start_real("C", [("B", url)])
    began = time.monotonic()
    places = {
        name: [Client(s.port, name + str(n)) for n in range(2)]
        for name, s in (("A", a), ("B", server), ("C", c))
    }
    pairs = [(here, there) for here in places for there in places if here != there]
    for _, responder in places.values():
        responder.sub("svc." + responder.label, 1)
    for here, there in pairs:
        interest_across(places[there][1], places[here][0], 10)
    within(time.monotonic() - began, 0, 3, "linking three clusters")
    for number, (here, there) in enumerate(pairs):
        requester, responder = places[here][0], places[there][1]
        inbox = "_INBOX.%d" % number
        requester.sub(inbox, 100 + number)
        requester.pub("svc." + responder.label, "rq", reply=inbox)
        got = responder.expect("MSG svc.%s 1 %s 2" % (responder.label, inbox), b"rq")
        responder.pub(got.args[2], "an")
        requester.expect("MSG %s %d 2" % (inbox, 100 + number), b"an")
    for clients in places.values():
        for client in clients:
            client.quiet("after its requests")
            client.close()


import gateway_message_checks  # noqa: E402,F401  (registers more of SUITE)
import gateway_more_checks  # noqa: E402,F401  (and the rest)

__all__ = ["SUITE"]
