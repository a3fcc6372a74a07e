# SPDX-License-Identifier: GPL-2.0-or-later
"""Random sessions for the differential test: what one to three clients send, all from one seed.

Invariants, which make what each client sees independent of time:
- One client acts at a time. What it sends in a step ends with a PING, perhaps followed by the
  beginning of its next operation; the next step waits for the PONG.
- Several members share a queue group only under a sid that names the group ("g1.3"), and never have
  a maximum: which member gets a message is free, and a maximum would make what follows depend on it.
- Only the last step of a session may end a connection, because a server takes its time to forget the
  subscriptions of a connection that it has closed.
- What docs/compatibility.md lists as a deliberate difference is not drawn: see NOT_DRAWN.
"""

import json
import random

NOT_DRAWN = {
    "control bytes": "CR, LF or NUL in a subject, reply, queue or sid",
    "HMSG from a client": "`HMSG` from a client",
    "$GR.": "publish on `$GR.x`",
}
NOISE = b"\r\n\x00\xff .>*PINGMSG"  # payload bytes that a confused parser would trip over
GROUPS = {"g1": "workers", "g2": "q.*", "g3": ">"}
FATAL = (
    b"X",
    b"\r\n",
    b"\n",
    b" PING\r\n",
    b"SUBX",
    b"SUB\r\n",
    b"PUB\r\n",
    b"SUB \r\n",
    b"SUB a\r\n",
    b"SUB a q 1 x\r\n",
    b"UNSUB \r\n",
    b"UNSUB 1 2 3\r\n",
    b"PUB a -1\r\n",
    b"PUB a 5x\r\n",
    b"PUB a 0000000001\r\n",
    b"PUB a b c 1\r\n",
    b"PUB a 5\r\nhello\n",
    b"PUB a 4\r\nhello\r\n",
    b"PUB a 0\r\n\r\n\r\n",
    b"PUB a 1048577\r\n",
    b"PUB a 999999999\r\n",
    b"HPUB a 14 12\r\n",
    b"HPUB a 12\r\n",
    b"HPUB a r 12 x\r\n",
    b"CONNECT x\r\n",
    b"CONNECT []\r\n",
    b'CONNECT {"verbose":1}\r\n',
    b'CONNECT {"protocol":2}\r\n',
    b'CONNECT {"account":"x"}\r\n',
    b"INFO x\r\n",
    b"-ERR 'x'\r\n",
    b"-ERR\r\n",
    b"MSG a 1 1\r\na\r\n",
    b"RS+ a b\r\n",
    b"+X\r\n",
    b"SUB " + b"a" * 4095 + b" 1\r\n",
    b"PUB " + b"a" * 4095 + b" 1\r\n",
)


class Step:
    """Bytes of one client in pieces, and how many PONG it must then have got in this session."""

    def __init__(self, client, pieces, pongs):
        self.client, self.pieces, self.pongs = client, pieces, pongs


class Client:
    """What the generator knows of one client while it writes its stream."""

    def __init__(self, rng, number, second_connect, has_maxima):
        self.rng, self.number, self.second_connect = rng, number, second_connect
        self.has_maxima = has_maxima
        self.pending = b""  # of an operation whose beginning has been sent
        self.pongs = 0
        self.headers = False
        self.sids = []

    # --- words ------------------------------------------------------------------------------------

    def blank(self):
        return self.rng.choice((b" ", b" ", b" ", b" ", b"  ", b"\t", b" \t "))

    def line_end(self):
        return b"\n" if self.rng.random() < 0.1 else b"\r\n"

    def verb(self, word):
        return word.lower() if self.rng.random() < 0.1 else word

    def token(self, wild):
        rng, draw = self.rng, self.rng.random()
        if draw < 0.95 - wild:
            return rng.choice((b"a", b"a", b"b"))
        if draw < 0.95:
            return rng.choice((b"*", b"*", b">"))
        return rng.choice((b"a*", b"x>", b"A", b"\xc3\xa9", b"\xff\xfe", b"\x01", b'"', b"_INBOX", b""))

    def subject(self, wild):
        count = self.rng.choice((1, 1, 1, 2, 2, 3))
        if self.rng.random() < 0.01:
            count = self.rng.choice((16, 17, 40, 300))
        return b".".join(self.token(wild) for _ in range(count)) or b"a"

    def line(self, *words):
        text = words[0]
        for word in words[1:]:
            text += self.blank() + word
        return text + (b" " if self.rng.random() < 0.05 else b"") + self.line_end()

    def number_text(self, value):
        return (b"0%d" if self.rng.random() < 0.05 else b"%d") % value

    # --- operations -------------------------------------------------------------------------------

    def connect(self):
        rng = self.rng
        if rng.random() < 0.05:
            return b""
        fields = {}
        for name, share in (("verbose", 0.25), ("pedantic", 0.25), ("echo", 0.7)):
            if rng.random() < 0.9:
                fields[name] = rng.random() < share
        self.headers = rng.random() < 0.85
        fields["headers"] = self.headers
        if self.headers and rng.random() < 0.8:
            fields["no_responders"] = True
        if rng.random() < 0.8:
            fields["protocol"] = rng.choice((0, 1))
        if rng.random() < 0.3:
            fields["name"] = "client \u00fc %d" % self.number
        if rng.random() < 0.1:
            fields["unknown"] = {"a": [1, None, {"b": "}"}]}
        text = json.dumps(fields, ensure_ascii=rng.random() < 0.5).encode()
        return self.verb(b"CONNECT") + self.blank() + text + self.line_end()

    def subscribe(self):
        rng, draw = self.rng, self.rng.random()
        if draw < 0.6:
            queue, sid = None, b"%d" % rng.randrange(1, 6)
        elif draw < 0.9:
            group = rng.choice(sorted(GROUPS))
            queue, sid = GROUPS[group].encode(), b"%s.%d" % (group.encode(), rng.randrange(1, 4))
        else:
            sid = b"alone%d.%d" % (self.number, rng.randrange(1, 3))
            queue = sid
        self.sids.append(sid)
        words = [sid] if queue is None else [queue, sid]
        return self.line(self.verb(b"SUB"), self.subject(0.35), *words)

    def unsubscribe(self):
        rng = self.rng
        sid = rng.choice(self.sids) if self.sids and rng.random() < 0.9 else b"%d" % rng.randrange(9)
        words = [sid]
        if self.has_maxima and not sid.startswith(b"g") and rng.random() < 0.5:
            words.append(rng.choice((b"1", b"2", b"3", b"5", b"0", b"x", b"-1", b"9999999999")))
        return self.line(self.verb(b"UNSUB"), *words)

    def payload(self, key):
        rng, draw = self.rng, self.rng.random()
        if draw < 0.05:
            return b""
        length = rng.randrange(0, 40) if draw < 0.95 else rng.choice((1000, 5000, 70000))
        noise = bytes(rng.choice(NOISE) for _ in range(min(length, 200)))
        return b"#%d#" % key + (noise * (length // max(1, len(noise)) + 1))[:length]

    def reply(self):
        return self.rng.choice((b"_INBOX.a", b"_INBOX.b", b"a", b"a.b", b"r.*"))

    def publish(self, key):
        words = [self.verb(b"PUB"), self.subject(0.05)]
        if self.rng.random() < 0.3:
            words.append(self.reply())
        data = self.payload(key)
        return self.line(*words, self.number_text(len(data))) + data + b"\r\n"

    def publish_headers(self, key):
        rng = self.rng
        header = rng.choice(
            (
                b"NATS/1.0\r\n\r\n",
                b"NATS/1.0\r\nA: b\r\nA:c\r\n\r\n",
                b"NATS/1.0 503\r\n\r\n",
                b"hi",
                b"",
            )
        )
        words = [self.verb(b"HPUB"), self.subject(0.05)]
        if rng.random() < 0.3:
            words.append(self.reply())
        data = self.payload(key)
        sizes = self.number_text(len(header)), self.number_text(len(header) + len(data))
        return self.line(*words, *sizes) + header + data + b"\r\n"

    def ping(self):
        self.pongs += 1
        return self.verb(b"PING") + self.rng.choice((b"\r\n", b"\n", b" x\r\n", b"PING\r\n", b"\r\r\n"))

    def operation(self, key):
        draw = self.rng.random()
        if draw < 0.30:
            return self.subscribe()
        if draw < 0.40:
            return self.unsubscribe()
        if draw < 0.75:
            return self.publish(key)
        if draw < 0.88 and self.headers:
            return self.publish_headers(key)
        if draw < 0.95:
            return self.ping()
        if draw < 0.97 and self.second_connect:
            return self.connect_again()
        return self.rng.choice((b"PONG\r\n", b"+OK\r\n", b"+okxyz\n", b"INFO {}\r\n", b"INFO{}\n"))

    def connect_again(self):
        fields = {"verbose": self.rng.random() < 0.5, "echo": self.rng.random() < 0.7}
        return b"CONNECT " + json.dumps(fields).encode() + b"\r\n"


def split(rng, data, most=6):
    """The bytes in a few pieces, cut anywhere."""
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(most)))
    edges = [0] + cuts + [len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:]) if a < b]


def mutate(rng, data):
    """One byte of an operation's line changed, lost or doubled; never to a control byte."""
    at = rng.randrange(len(data[: data.index(b"\n")].rstrip(b"\r")))
    draw = rng.random()
    if draw < 0.6:
        byte = rng.choice(b" 0129aAbPSUCNIH*.>{}\":+-\t")
        return data[:at] + bytes([byte]) + data[at + 1 :]
    return data[:at] + data[at + 1 :] if draw < 0.8 else data[: at + 1] + data[at:]


class Session:
    """Everything that is sent in one session.

    steps       in their order
    has_maxima  whether subscriptions may be given a maximum
    last        (client, pieces): bytes after which this client closes its writing side and reads on
                to the end, or None
    """

    def __init__(self, seed, number, second_connect=True):
        rng = random.Random("%s/%d" % (seed, number))
        self.has_maxima = rng.random() < 0.5
        self.clients = [
            Client(rng, i, second_connect, self.has_maxima)
            for i in range(rng.choice((1, 1, 2, 2, 3)))
        ]
        self.steps = []
        self.last = None
        key = 0
        for client in self.clients:
            self.fence(rng, client, client.connect(), b"")
        for _ in range(rng.randrange(3, 14)):
            client = rng.choice(self.clients)
            data, client.pending = client.pending, b""
            for _ in range(rng.choice((0, 1, 2, 3, 4, 8))):
                key += 1
                data += client.operation(key)
            beginning = b""
            if rng.random() < 0.3:
                key += 1
                before = client.pongs
                whole = client.operation(key)
                # A PING that is only begun has no PONG yet.
                begun_pongs, client.pongs = client.pongs - before, before
                at = rng.randrange(len(whole))
                beginning, client.pending = whole[:at], whole[at:]
                self.fence(rng, client, data, beginning)
                client.pongs += begun_pongs
            else:
                self.fence(rng, client, data, beginning)
        for client in self.clients:
            if client.pending:
                data, client.pending = client.pending, b""
                self.fence(rng, client, data, b"")
        if rng.random() < 0.6:
            self.last = self.make_last(rng, rng.choice(self.clients), key + 1)

    def fence(self, rng, client, data, beginning):
        client.pongs += 1
        data += b"PING\r\n" + beginning
        self.steps.append(Step(client.number, split(rng, data), client.pongs))

    def make_last(self, rng, client, key):
        data = b""
        for i in range(rng.randrange(3)):
            data += client.operation(key + i)
        if rng.random() < 0.5:
            data += rng.choice(FATAL)
        else:
            data += mutate(rng, client.operation(key + 3))
        return client.number, split(rng, data)

    def text(self):
        """The session for a person to read."""
        lines = []
        for step in self.steps:
            lines.append("client %d, then %d PONG:" % (step.client, step.pongs))
            lines += ["    %r" % (p if len(p) < 600 else p[:600] + b"...") for p in step.pieces]
        if self.last:
            lines.append("client %d, then closes:" % self.last[0])
            lines += ["    %r" % piece for piece in self.last[1]]
        return "\n".join(lines)
