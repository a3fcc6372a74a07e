# SPDX-License-Identifier: GPL-2.0-or-later
"""Gateway checks beyond the numbered rows: facts of the wire description without a row (GX1-GX14).

Goal and method as in gateway_checks.py; each rule is one sentence of the sections on errors, URLs,
interest, modes and messages.
"""
import ssl

from gateway_case import gateway_check
from gateway_peer import HEADER, SHORT, PeerTls, want
from gateway_message_checks import F_REPLY, iom_state, publish, texts, want_passes


@gateway_check("GX1", "client operations from the dialler: SUB, UNSUB close; PUB by -ERR")
def _(case):
    case.start()
    for line, error in (
        ("SUB foo 1\r\n", None),
        ("UNSUB 1\r\n", None),
        ("PUB foo 1\r\nx\r\n", "Maximum Payload Violation"),
    ):
        _, o = case.only_o()
        o.send(line)
        o.expect_close(error)


@gateway_check("GX2", "a wrong JSON type in CONNECT, bad JSON in a later INFO: close without -ERR")
def _(case):
    o = case.peer().dial(case.start())
    o.send('CONNECT {"gateway":7}\r\n')
    o.expect_close()
    _, o = case.only_o()
    o.send('INFO {"gateway":\r\n')
    o.expect_close()


@gateway_check("GX3", "a second CONNECT, a later INFO, +OK and an unasked PONG change nothing")
def _(case):
    f, o, i = case.both()
    x = case.peer("X")
    o.send(f.connect_line())
    o.send_info(**f.info(gateway_urls=[x.address]))
    o.send("+OK\r\nPONG\r\n")
    o.flush()  # ends at the PONG that was sent for nothing, if the server echoes such things
    o.quiet("after harmless lines")
    i.send("+OK\r\nPONG\r\n")
    i.quiet("after harmless lines")
    x.not_dialled_for(SHORT, "by an INFO of the dialler")


@gateway_check("GX4", "-ERR from the acceptor closes, and the remote is dialled again")
def _(case):
    f = case.peer()
    case.start(f)
    i = f.open_i()
    i.send("-ERR 'go away'\r\n")
    i.expect_close()
    f.open_i()


@gateway_check("GX5", "RS+ with 3 or 5 fields, RS- with 4: close, and dial again")
def _(case):
    f, _, i = case.both()
    for line in ("RS+ $G foo q\r\n", "RS+ $G foo q 1 2\r\n", "RS- $G foo q 1\r\n"):
        i.send(line)
        i.expect_close()
        i = f.open_i()


@gateway_check(
    "GX6", "RS+ with any weight counts; an invalid subject and an unknown RS- are ignored"
)
def _(case):
    _, _, i, c = iom_state(case, "foo")
    i.interest("RS+ wq q 5", "RS+ foo..bar", "RS- never.there", "RS- never.there q")
    publish(c, "wq")
    want(texts(i.fence()) == ["RMSG $G wq | q 1"], "one RMSG expected%s" % i.seen())
    want_passes(i, c, ["foo"], ["foo"])


@gateway_check("GX7", "an inbound that names our own gateway is accepted and not dialled")
def _(case):
    case.start()
    f = case.peer()
    o = f.open_o(case.server, gateway="B", connect={"gateway": "B"})
    o.flush()
    f.not_dialled_for(SHORT, "as our own cluster")


@gateway_check("GX8", "plain interest counts from cmd 2 on, and a repeated switch keeps it")
def _(case):
    _, _, i = case.both()
    c = case.client()
    i.command(2)
    i.interest("RS+ early")
    want_passes(i, c, ["early", "other"], ["early"])
    i.interest("RS- early", "RS+ keep")
    i.command(3)
    i.flush()
    want_passes(i, c, ["early", "keep"], ["keep"])
    i.switch("more")
    want_passes(i, c, ["keep", "more"], ["keep", "more"])


@gateway_check("GX9", "every new inbound is told all interest again")
def _(case):
    case.start()
    c = case.client()
    c.sub("foo", 1)
    c.sub("bar", 2, "q")
    c.flush()
    for _ in range(3):
        _, o = case.only_o()
        got = sorted(frame.text for frame in o.opening if frame.verb == "RS+")
        want(got == ["RS+ $G bar q 1", "RS+ $G foo"], "interest: %s" % got)
        o.close()


@gateway_check("GX10", "an UNSUB with a count is one RS- once the messages have come")
def _(case):
    _, o = case.only_o()
    c = case.client()
    c.sub("foo", 1)
    c.unsub(1, 2)
    c.flush()
    want(texts(o.fence()) == ["RS+ $G foo"], "one RS+ expected%s" % o.seen())
    o.message("foo", "1")
    c.expect("MSG foo 1 1", b"1")
    o.quiet("after one of two messages")
    o.message("foo", "2")
    c.expect("MSG foo 1 1", b"2")
    o.expect("RS- $G foo")
    o.message("foo", "3")
    o.flush()
    c.quiet("after the second of two messages")


@gateway_check("GX11", "a client without headers gets the payload of an HMSG as MSG")
def _(case):
    _, o = case.only_o()
    c = case.client(headers=False, no_responders=False)
    c.sub("foo", 1)
    c.flush()
    o.expect("RS+ $G foo")
    o.message("foo", "body", reply="re", header=HEADER)
    c.expect("MSG foo 1 re 4", b"body")


@gateway_check("GX12", "a mapped request with headers to a queue member: bare there, mapped back")
def _(case):
    _, o, i = case.both()
    c = case.client()
    c.sub("svc", 1, "g")
    c.flush()
    o.expect("RS+ $G svc g 1")
    o.message("svc", "rq", reply=F_REPLY + "a.b", queues=["g"], header=HEADER)
    c.expect("HMSG svc 1 a.b 18 20", b"rq")
    publish(c, "a.b", "an", header=HEADER, reply="next")
    got = i.expect("HMSG $G %sa.b next 18 20" % F_REPLY, b"an")
    want(got.header == HEADER, "header %r" % got.header)


@gateway_check("GX13", "interest of two peers is kept apart: losing one link leaves the other")
def _(case):
    _, _, i_f = case.both()
    k, _, i_k = case.both("K")
    c = case.client()
    i_f.switch("foo", "both")
    i_k.switch("bar", "both")
    want_passes(i_f, c, ["foo", "bar", "both"], ["foo", "both"])
    want(texts(i_k.fence()) == ["RMSG $G bar 1", "RMSG $G both 1"], "on K%s" % i_k.seen())
    i_k.sock.shutdown(1)
    i_k.read_to_end()
    k.close()
    want_passes(i_f, c, ["foo", "bar", "both"], ["foo", "both"])


@gateway_check("GX14", "TLS 1.2 and TLS 1.3 are both accepted")
def _(case):
    server = case.start(gateway={"tls": case.tls("srv-b")})
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        tls = PeerTls(case.certs)
        tls.client.minimum_version = tls.client.maximum_version = version
        o = case.peer(tls=tls).open_o(server, gateway_urls=None)
        o.quiet("over " + version.name)
