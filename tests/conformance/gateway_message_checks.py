# SPDX-License-Identifier: GPL-2.0-or-later
"""The gateway checks on interest, messages, queues and mapped replies (G32, G46-G85, G92).

Goal and method as in gateway_checks.py. c, d: clients of the server under test. A fence on the
client and then one on the link say that all that a publish or SUB causes has been sent.
"""
import os

from gateway_case import gateway_check
from gateway_peer import HEADER, Client, gateway_hash, let_time_pass, want
from gateway_traffic import exchange, interest_across

F_REPLY = (
    "_GR_.yyrAQg.AKS6DY."  # what a server of F with the id of the test peer puts before a reply
)


def texts(frames):
    return [frame.text for frame in frames]


def publish(client, subject, payload="x", **options):
    """Publish, and wait until the server has passed it on."""
    client.pub(subject, payload, **options)
    client.flush()


def passes(link, client, *subjects):
    """Which of these subjects go out on the link, published one by one."""
    for subject in subjects:
        client.pub(subject, "x")
    client.flush()
    frames = link.fence()
    want(
        all(frame.verb == "RMSG" for frame in frames),
        "%s: only RMSG expected, got %s" % (link.label, frames),
    )
    return [frame.args[1] for frame in frames]


def want_passes(link, client, published, expected):
    got = passes(link, client, *published)
    want(
        got == expected,
        "published %s: expected %s on %s, got %s" % (published, expected, link.label, got),
    )


def iom_state(case, *subjects):
    """The state of row G55: i up, switched, with this plain interest. (peer, o, i, c)"""
    f, o, i = case.both()
    i.switch(*subjects)
    return f, o, i, case.client()


def own_prefix(link):
    """What the server under test puts before a fresh reply."""
    return "_GR_.b2oh2L.%s." % gateway_hash(link.info["server_id"])


@gateway_check(
    "G32", "byte by byte, CR LF in the payload, several in one segment: delivered exactly"
)
def _(case):
    _, o = case.only_o()
    c = case.client()
    c.sub("foo", 1)
    c.flush()
    o.expect("RS+ $G foo")
    for byte in (
        b"RMSG $G foo 12\r\nhello\r\nworld\r\nHMSG $G foo re 18 20\r\n" + HEADER + b"hh\r\n"
    ):
        o.send(bytes([byte]))
    c.expect("MSG foo 1 12", b"hello\r\nworld")
    got = c.expect("HMSG foo 1 re 18 20", b"hh")
    want(got.header == HEADER, "header %r" % got.header)
    o.send(b"".join(b"RMSG $G foo 2\r\n%02d\r\n" % n for n in range(50)) + b"RMSG $G foo 0\r\n\r\n")
    for n in range(50):
        c.expect("MSG foo 1 2", b"%02d" % n)
    c.expect("MSG foo 1 0", b"")
    o.quiet("after messages")


@gateway_check("G46", "opening: queue interest once, cmd 2, plain interest, cmd 3")
def _(case):
    case.start()
    c = case.client()
    for sid, (subject, queue) in enumerate(
        (("foo", None), ("bar", "q"), ("bar", "q"), ("w.>", None))
    ):
        c.sub(subject, sid, queue)
    c.flush()
    _, o = case.only_o()
    steps = [f.text if f.verb == "RS+" else "cmd %s" % f.json.get("gateway_cmd") for f in o.opening]
    want(
        steps[:2] == ["RS+ $G bar q 1", "cmd 2"]
        and sorted(steps[2:4]) == ["RS+ $G foo", "RS+ $G w.>"]
        and steps[4:] == ["cmd 3"],
        "opening: %s" % steps,
    )


@gateway_check("G47", "plain interest is counted: one RS+ for the first, one RS- for the last")
def _(case):
    _, o = case.only_o()
    c, d = case.client(), case.client("d")
    for client in (c, d):
        client.sub("foo", 1)
        client.flush()
    want(texts(o.fence()) == ["RS+ $G foo"], "one RS+ expected%s" % o.seen())
    c.unsub(1)
    c.flush()
    o.quiet("after the UNSUB of one of two")
    d.unsub(1)
    d.flush()
    want(texts(o.fence()) == ["RS- $G foo"], "one RS- expected%s" % o.seen())


@gateway_check("G48", "queue interest is counted, with weight 1 whatever the members")
def _(case):
    _, o = case.only_o()
    c, d = case.client(), case.client("d")
    c.sub("foo", 1, "q")
    c.flush()
    want(texts(o.fence()) == ["RS+ $G foo q 1"], "one RS+ expected%s" % o.seen())
    d.sub("foo", 1, "q")
    d.flush()
    o.quiet("after the second member")
    c.unsub(1)
    c.flush()
    o.quiet("after the UNSUB of one of two")
    d.unsub(1)
    d.flush()
    want(texts(o.fence()) == ["RS- $G foo q"], "one RS- expected%s" % o.seen())


@gateway_check("G49", "a message that nobody wants is answered by nothing")
def _(case):
    _, o = case.only_o()
    c = case.client()
    c.sub("x", 1)
    c.flush()
    o.expect("RS+ $G x")
    o.message("nobody.wants", "x")
    o.message("nobody.wants", "x", reply="re", queues=["q"])
    o.quiet("for a subject without interest")


@gateway_check(
    "G50", "a message for an empty account: ours answers nothing and announces the next SUB"
)
def _(case):
    _, o = case.only_o()
    c = case.client()
    o.message("foo", "1")
    answer = texts(o.fence())
    c.sub("foo", 1)
    c.flush()
    then = texts(o.fence())
    expected = ([], ["RS+ $G foo"]) if case.ours else (["A- $G"], ["A+ $G"])
    want((answer, then) == expected, "expected %s, got %s" % (expected, (answer, then)))
    o.message("foo", "2")
    c.expect("MSG foo 1 1", b"2")


@gateway_check("G51", "a client that goes takes its interest with it")
def _(case):
    _, o = case.only_o()
    c, d = case.client(), case.client("d")
    c.sub("a", 1)
    c.sub("b.*", 2)
    c.sub("c", 3, "q")
    d.sub("stays", 1)
    c.flush()
    d.flush()
    want(len(o.fence()) == 4, "four RS+ expected%s" % o.seen())
    c.close()
    got = sorted(texts([o.take() for _ in range(3)]))
    want(got == ["RS- $G a", "RS- $G b.*", "RS- $G c q"], "got %s" % got)
    o.quiet("after the three RS-")


@gateway_check("G53", "a peer with iom and no cmd gets no message")
def _(case):
    _, _, i = case.both()
    c = case.client()
    publish(c, "foo")
    publish(c, "foo", reply="re", header=HEADER)
    i.quiet("without interest")
    i.interest("RS+ foo q 1")
    want_passes(i, c, ["foo"], ["foo"])


@gateway_check("G54", "queue interest is valid before any cmd")
def _(case):
    _, _, i = case.both()
    i.interest("RS+ foo q 1")
    publish(case.client(), "foo")
    want(texts(i.fence()) == ["RMSG $G foo | q 1"], "one RMSG expected%s" % i.seen())


@gateway_check("G55", "after the switch only what matches goes out")
def _(case):
    _, _, i, c = iom_state(case, "foo")
    want_passes(i, c, ["foo", "other", "foo.x", "fo"], ["foo"])


@gateway_check("G56", "a repeated RS+ is not counted: one RS- removes it")
def _(case):
    _, _, i, c = iom_state(case, "foo")
    i.interest("RS+ foo")
    want_passes(i, c, ["foo"], ["foo"])
    i.interest("RS- foo")
    want_passes(i, c, ["foo"], [])


@gateway_check("G57", "wildcard interest matches as usual")
def _(case):
    _, _, i, c = iom_state(case, "foo")
    i.interest("RS+ wild.*", "RS+ full.>")
    want_passes(i, c, ["wild.x", "wild.x.y", "full.a.b", "full"], ["wild.x", "full.a.b"])


@gateway_check("G58", "A-, A+ after the switch: ours sends optimistically, a real server nothing")
def _(case):
    _, _, i, c = iom_state(case, "foo")
    want_passes(i, c, ["foo", "other"], ["foo"])
    i.send("A- $G\r\n")
    i.send("A+ $G\r\n")
    i.flush()
    want_passes(i, c, ["foo", "other"], ["foo", "other"] if case.ours else [])
    if case.ours:
        i.switch("bar")
        want_passes(i, c, ["other", "bar"], ["bar"])


@gateway_check("G59", "A-, then queue interest: ours sends optimistically and honours RS-")
def _(case):
    _, _, i, c = iom_state(case, "foo")
    want_passes(i, c, ["foo", "other"], ["foo"])
    i.send("A- $G\r\n")
    i.interest("RS+ q1 g 1")
    want_passes(i, c, ["other"], ["other"] if case.ours else [])
    i.interest("RS- other")
    want_passes(i, c, ["other"], [])


@gateway_check("G60", "a peer without iom gets everything but what it refused")
def _(case):
    _, _, i = case.both(iom=False)
    c = case.client()
    want_passes(i, c, ["foo"], ["foo"])
    i.interest("RS- foo")
    want_passes(i, c, ["foo", "bar"], ["bar"])
    i.interest("RS+ *")
    want_passes(i, c, ["foo"], ["foo"])


@gateway_check("G61", "a peer without iom: A- silences the account, A+ opens it")
def _(case):
    _, _, i = case.both(iom=False)
    c = case.client()
    i.send("A- $G\r\n")
    i.flush()
    want_passes(i, c, ["foo"], [])
    i.send("A+ $G\r\n")
    i.flush()
    want_passes(i, c, ["foo"], ["foo"])


@gateway_check("G62", "a peer without iom: after cmd 3 only what matches goes out")
def _(case):
    _, _, i = case.both(iom=False)
    c = case.client()
    i.command(2)
    i.flush()
    want(passes(i, c, "new") in ([], ["new"]), "more than one RMSG%s" % i.seen())
    i.interest("RS+ keep")
    i.command(3)
    i.flush()
    want_passes(i, c, ["new", "keep"], ["keep"])


@gateway_check("G63", "a peer without headers gets RMSG and the payload only")
def _(case):
    _, _, i = case.both(headers=False)
    i.switch("foo")
    c = case.client()
    publish(c, "foo", "body", reply="ib", header=HEADER)
    i.expect("RMSG $G foo ib 4", b"body")


@gateway_check("G64", "headers, reply and queue go out as HMSG with both sizes")
def _(case):
    _, _, i = case.both()
    i.interest("RS+ foo qq 1")
    c = case.client()
    publish(c, "foo", "hh", reply="ib", header=HEADER)
    got = i.expect("HMSG $G foo + ib qq 18 20", b"hh")
    want(got.header == HEADER, "header %r" % got.header)
    publish(c, "foo", "hh", header=HEADER)
    i.expect("HMSG $G foo | qq 18 20", b"hh")


@gateway_check(
    "G65", "a local queue member is preferred; plain interest gets its copy without the queue"
)
def _(case):
    _, _, i, c = iom_state(case, "svc")
    i.interest("RS+ svc g 1")
    d = case.client("d")
    d.sub("svc", 1, "g")
    d.flush()
    publish(c, "svc")
    d.expect("MSG svc 1 1", b"x")
    want(texts(i.fence()) == ["RMSG $G svc 1"], "RMSG without queues expected%s" % i.seen())


@gateway_check("G66", "a queue group with a local member is not served elsewhere")
def _(case):
    _, _, i = case.both()
    i.interest("RS+ svc g 1")
    c, d = case.client(), case.client("d")
    d.sub("svc", 1, "g")
    d.flush()
    for n in range(10):
        publish(c, "svc", str(n))
        d.expect("MSG svc 1 1", b"%d" % n)
    i.quiet("for a group served locally")


@gateway_check("G67", "each queue group is named once in one RMSG")
def _(case):
    _, _, i = case.both()
    i.interest("RS+ w.* g1 1", "RS+ w.a g2 1", "RS+ w.a g1 1")
    publish(case.client(), "w.a")
    frames = i.fence()
    want(
        len(frames) == 1
        and frames[0].args[:3] == ["$G", "w.a", "|"]
        and sorted(frames[0].args[3:-1]) == ["g1", "g2"],
        "one RMSG with g1 and g2 expected, got %s" % frames,
    )


@gateway_check("G68", "a queue group of two clusters: each message goes to exactly one of them")
def _(case):
    _, _, i_f = case.both()
    _, _, i_k = case.both("K")
    for i in (i_f, i_k):
        i.interest("RS+ job w 1")
    c = case.client()
    for n in range(10):
        c.pub("job", str(n))
    c.flush()
    frames = i_f.fence() + i_k.fence()
    want(all(f.text == "RMSG $G job | w 1" for f in frames), "got %s" % frames)
    want(
        sorted(f.payload for f in frames) == [b"%d" % n for n in range(10)],
        "each once expected, got %s" % frames,
    )


@gateway_check(
    "G69",
    "plain interest of two clusters: one copy each; what one sends is not passed to the other",
)
def _(case):
    _, o, i_f = case.both()
    _, _, i_k = case.both("K")
    for i in (i_f, i_k):
        i.switch("foo")
    c = case.client()
    publish(c, "foo")
    for i in (i_f, i_k):
        want(texts(i.fence()) == ["RMSG $G foo 1"], "one copy expected%s" % i.seen())
    c.sub("foo", 1)
    c.flush()
    o.expect("RS+ $G foo")
    o.message("foo", "y")
    c.expect("MSG foo 1 1", b"y")
    o.flush()
    i_k.quiet("of a message from F")
    i_f.quiet("of its own message")


@gateway_check("G70", "plain subscribers always, queue groups only when named, one member each")
def _(case):
    _, o = case.only_o()
    c = case.client()
    for sid, queue in enumerate(("g", "g", "h", None), 1):
        c.sub("q", sid, queue)
    c.flush()
    want(len(o.fence()) == 3, "three lines of interest expected%s" % o.seen())
    groups = {"1": "g", "2": "g", "3": "h", "4": "plain"}
    rows = (
        ((), ["plain"]),
        (("g",), ["g", "plain"]),
        (("g", "h"), ["g", "h", "plain"]),
        (("unknown",), ["plain"]),
    )
    for queues, expected in rows:
        for reply in (None, "re.ply"):
            o.message("q", "x", queues=queues, reply=reply)
            o.flush()
            frames = c.fence()
            want(
                sorted(groups[f.args[1]] for f in frames) == expected,
                "queues %s: got %s" % (queues, frames),
            )
            want(
                all(f.args[2:-1] == ([reply] if reply else []) for f in frames),
                "reply %s: %s" % (reply, frames),
            )


@gateway_check("G71", "503 for a request that nobody hears; none with interest behind the gateway")
def _(case):
    _, _, i, c = iom_state(case, "svc")
    c.sub("in.*", 1)
    c.pub("nothing", "x", reply="in.1")
    names_subject = b"Nats-Subject: nothing\r\n" if case.since(2, 12) else b""
    status = b"NATS/1.0 503\r\n%s\r\n" % names_subject
    got = c.expect("HMSG in.1 1 %d %d" % (len(status), len(status)), b"")
    want(got.header == status, "header %r" % got.header)
    i.quiet("for a request without interest")
    publish(c, "svc", reply="in.2")
    c.quiet("though there is interest behind the gateway")
    i.expect("RMSG $G svc %sin.2 1" % own_prefix(i), b"x")


@gateway_check("G72", "the reply of a fresh inbox is mapped, after 2 s it is not", seconds_long=4)
def _(case):
    _, _, i, c = iom_state(case, "svc")
    c.sub("in.1", 1)
    publish(c, "svc", reply="in.1")
    i.expect("RMSG $G svc %sin.1 1" % own_prefix(i), b"x")
    let_time_pass(2.5)
    publish(c, "svc", reply="in.1")
    i.expect("RMSG $G svc in.1 1", b"x")


@gateway_check("G73", "the fresh inbox of another client of the account is mapped as well")
def _(case):
    _, _, i, c = iom_state(case, "svc")
    d = case.client("d")
    c.sub("in.1", 1)
    c.flush()
    publish(d, "svc", reply="in.1")
    i.expect("RMSG $G svc %sin.1 1" % own_prefix(i), b"x")
    publish(d, "svc", reply="never.subscribed")
    i.expect("RMSG $G svc never.subscribed 1", b"x")


@gateway_check("G74", "fresh wildcard and queue inboxes are mapped too")
def _(case):
    _, _, i, c = iom_state(case, "svc")
    c.sub("inb.*", 1)
    publish(c, "svc", reply="inb.7")
    i.expect("RMSG $G svc %sinb.7 1" % own_prefix(i), b"x")
    c.sub("inq", 2, "g")
    publish(c, "svc", reply="inq", header=HEADER)
    i.expect("HMSG $G svc %sinq 18 19" % own_prefix(i), b"x")


@gateway_check(
    "G75", "a peer without gateway_nrp gets the old prefix (2.15 and newer know the new one only)"
)
def _(case):
    _, _, i = case.both(nrp=False)
    i.switch("svc")
    c = case.client()
    c.sub("in.1", 1)
    publish(c, "svc", reply="in.1")
    prefix = own_prefix(i) if case.since(2, 15) else "$GR.df7e."
    i.expect("RMSG $G svc %sin.1 1" % prefix, b"x")


def inbox_state(case, queue=None):
    """c has SUB in.1; (o, i, c, the prefix of the server)"""
    _, o, i = case.both()
    c = case.client()
    c.sub("in.1", 1, queue)
    c.flush()
    o.expect("RS+ $G in.1" + (" %s 1" % queue if queue else ""))
    return o, i, c, own_prefix(i)


@gateway_check(
    "G76",
    "a mapped subject comes to the client as the bare one, in both forms (2.15 and newer: in the "
    "new one only)",
)
def _(case):
    o, _, c, prefix = inbox_state(case)
    o.message(prefix + "in.1", "k1")
    c.expect("MSG in.1 1 2", b"k1")
    o.message(prefix + "in.1", "k2", header=HEADER, reply="re")
    got = c.expect("HMSG in.1 1 re 18 20", b"k2")
    want(got.header == HEADER, "header %r" % got.header)
    o.message("$GR.df7e.in.1", "k3")
    o.flush()
    if case.since(2, 15):
        c.quiet("for the old form")
    else:
        c.expect("MSG in.1 1 2", b"k3")


@gateway_check("G77", "an unknown server hash is delivered, another cluster's hash is dropped")
def _(case):
    o, _, c, _ = inbox_state(case)
    o.message("_GR_.b2oh2L.zzzzzz.in.1", "k1")
    c.expect("MSG in.1 1 2", b"k1")
    o.message("_GR_.zzzzzz.zzzzzz.in.1", "k2")
    o.message("$GR.0000.in.1", "k3")
    o.flush()
    c.quiet("for the hash of another cluster")


@gateway_check(
    "G78", "a mapped subject reaches one member of a queue group though no list is given"
)
def _(case):
    o, _, c, prefix = inbox_state(case, "g")
    c.sub("in.1", 2, "g")
    c.flush()
    o.message(prefix + "in.1", "k1")
    o.flush()
    frames = c.fence()
    want(len(frames) == 1 and frames[0].payload == b"k1", "one MSG expected, got %s" % frames)


def answered_state(case):
    """c has got a request with a mapped reply of F: (o, i, c)"""
    _, o, i = case.both()
    c = case.client()
    c.sub("svc", 1)
    c.flush()
    o.expect("RS+ $G svc")
    o.message("svc", "rq", reply=F_REPLY + "my.in")
    c.expect("MSG svc 1 my.in 2", b"rq")
    return o, i, c


@gateway_check("G79", "the client sees the bare reply, and its answers go to the mapped one")
def _(case):
    _, i, c = answered_state(case)
    for payload in (b"a1", b"a2"):
        publish(c, "my.in", payload)
        i.expect("RMSG $G %smy.in 2" % F_REPLY, payload)
    c.quiet("of its own answers")


@gateway_check(
    "G80",
    "answers of the asked client go only back; others and later ones go by interest",
    seconds_long=7,
)
def _(case):
    o, i, c = answered_state(case)
    d = case.client("d")
    d.sub("my.in", 1)
    d.flush()
    o.expect("RS+ $G my.in")
    publish(c, "my.in", "1")
    i.expect("RMSG $G %smy.in 1" % F_REPLY, b"1")
    d.quiet("of an answer that goes back")
    publish(d, "my.in", "2")
    d.expect("MSG my.in 1 1", b"2")
    i.quiet("of what another client published")
    let_time_pass(5)
    publish(c, "my.in", "3")
    d.expect("MSG my.in 1 1", b"3")
    i.quiet("after the mapping has expired")


@gateway_check("G81", "clients may not publish on _GR_ or use it as a reply")
def _(case):
    case.start()
    c = case.client()
    c.pub("_GR_.x", "1")
    c.expect("-ERR 'Permissions Violation for Publish to \"_GR_.x\"'")
    c.pub("foo", "1", reply="_GR_.x.y.z")
    c.expect("-ERR 'Permissions Violation for Publish with Reply of \"_GR_.x.y.z\"'")
    c.sub("_GR_.>", 1)
    c.quiet("after the two errors")


@gateway_check(
    "G82", "a mapped answer is delivered here; back to the answering cluster only by a real server"
)
def _(case):
    o, i, c, prefix = inbox_state(case)
    i.switch("in.1")
    o.message(prefix + "in.1", "k1")
    c.expect("MSG in.1 1 2", b"k1")
    o.flush()
    got = texts(i.fence())
    want(got == ["RMSG $G in.1 2"] or (case.ours and got == []), "on i: %s" % got)


@gateway_check("G83", "1 MiB + 1, a 60,000-byte line and 3,000 queue names are delivered")
def _(case):
    _, o = case.only_o()
    c = case.client()
    c.sub("foo", 1)
    c.flush()
    o.expect("RS+ $G foo")
    big = os.urandom(1048577)
    o.message("foo", big)
    c.expect("MSG foo 1 1048577", big)
    long_reply = "r" * 59970
    o.message("foo", "ok", reply=long_reply)
    c.expect("MSG foo 1 %s 2" % long_reply, b"ok")
    o.message("foo", "ok", queues=["q%d" % n for n in range(3000)])
    c.expect("MSG foo 1 2", b"ok")
    o.quiet("after long messages")


@gateway_check("G84", "HMSG without header bytes is plain; header bytes are not inspected")
def _(case):
    _, o = case.only_o()
    c = case.client()
    c.sub("foo", 1)
    c.flush()
    o.expect("RS+ $G foo")
    o.message("foo", "ok", header=b"")
    c.expect("MSG foo 1 2", b"ok")
    o.message("foo", "ok", header=b"abcd")
    got = c.expect("HMSG foo 1 4 6", b"ok")
    want(got.header == b"abcd", "header %r" % got.header)
    o.quiet("after odd headers")


@gateway_check("G85", "accounts that the server lacks: at most one A-, the link stays")
def _(case):
    _, o, i = case.both()
    for subject in ("foo", "bar"):
        o.message(subject, "x", account="nosuch")
    got = texts(o.fence())
    want(got == ["A- nosuch"] or (case.ours and got == []), "on o: %s" % got)
    i.send("RS+ nosuch foo\r\n")
    i.send("RS+ nosuch foo q 1\r\n")
    i.command(2, account="nosuch")
    i.command(3, account="nosuch")
    publish(case.client(), "foo")
    i.quiet("for another account's interest")


@gateway_check(
    "G92",
    "10,000 messages each way with a real server while SUB/UNSUB runs: in order, none twice",
    seconds_long=10,
)
def _(case):
    server = case.start()
    real = case.start_real("A", [("B", "nats://127.0.0.1:%d" % server.gateway_port)])
    exchange(lambda label: case.client(label), lambda label: case.client(label, real), 10000)
    c, d = case.client(), Client(real.port, "d")
    c.sub("last", 1)
    interest_across(c, d)
    publish(d, "last", "x")
    c.expect("MSG last 1 1", b"x")
    d.close()
