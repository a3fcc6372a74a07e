# SPDX-License-Identifier: GPL-2.0-or-later
"""Goal: what users do through the Python client of NATS works against the server, over every way to
connect. Method and arguments are those of nats_c.c: each scenario gets two fresh connections of one
way, and a flush (PING, PONG) proves that nothing more is on its way.
"""

import asyncio
import contextlib
import logging
import ssl
import sys

import nats
from nats.errors import MaxPayloadError, NoRespondersError

DEADLINE_S = 10
MIB = 1 << 20


class Fault(Exception):
    """What was expected and what came."""


def require(good, what, *words):
    if not good:
        raise Fault(what % words if words else what)


async def flush(connection):
    """PING and PONG behind all that was published. Twice, because this client writes its PING ahead
    of what is still in its own buffer; when the first PONG is there, that has been written."""
    for _ in range(2):
        await connection.flush(DEADLINE_S)


class Inbox:
    """A subscription whose messages are kept in a list; count(n) waits until n have come."""

    def __init__(self):
        self.messages = []
        self.arrived = asyncio.Event()
        self.sub = None

    async def take(self, message):
        self.messages.append(message)
        self.arrived.set()

    async def count(self, wanted):
        async def enough():
            while len(self.messages) < wanted:
                self.arrived.clear()
                await self.arrived.wait()

        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(enough(), DEADLINE_S)
        got = len(self.messages)
        require(got == wanted, "%d messages expected, %d came", wanted, got)
        return self.messages


class Scene:
    """Two connections of one way, and what a scenario opens beside them."""

    def __init__(self, files, way, url):
        self.files, self.way, self.url = files, way, url
        self.opened = []
        self.errors = asyncio.Queue()
        self.reconnected = asyncio.Queue()
        self.closed = asyncio.Event()

    def tls(self):
        context = ssl.create_default_context(cafile=self.files["ca"])
        if self.way == "mutual":
            context.load_cert_chain(self.files["cert"], self.files["key"])
        return context

    async def open(self, **more):
        async def on_error(error):
            self.errors.put_nowait(error)

        async def on_reconnect():
            self.reconnected.put_nowait(None)

        async def on_closed():
            self.closed.set()

        options = {
            "servers": self.url,
            "connect_timeout": DEADLINE_S,
            "reconnect_time_wait": 0.05,
            "max_reconnect_attempts": -1,
            "error_cb": on_error,
            "reconnected_cb": on_reconnect,
            "closed_cb": on_closed,
        }
        if self.url.startswith("tls:"):
            options.update(tls=self.tls(), tls_hostname="localhost")
        options.update(more)
        connection = await nats.connect(**options)
        self.opened.append(connection)
        return connection

    async def start(self):
        self.publisher, self.listener = await self.open(), await self.open()

    async def subscribe(self, subject, queue="", connection=None, **more):
        connection = connection or self.listener
        inbox = Inbox()
        inbox.sub = await connection.subscribe(
            subject,
            queue=queue,
            cb=inbox.take,
            pending_msgs_limit=-1,
            pending_bytes_limit=-1,
            **more,
        )
        await flush(connection)
        return inbox

    async def settle(self):
        """Everything that the publisher has sent has come to the listener."""
        await flush(self.publisher)
        await flush(self.listener)

    async def close(self):
        for connection in self.opened:
            if not connection.is_closed:
                await connection.close()


async def described(s):
    info = s.listener._server_info
    require(len(info["server_id"]) == 56 and info["server_id"][0] == "N", "%s", info["server_id"])
    require(s.listener.max_payload == MIB, "max_payload %s", s.listener.max_payload)
    require(info["headers"] is True and info["proto"] == 1, "%s", info)
    require(info["client_ip"] == "127.0.0.1", "client_ip %s", info["client_ip"])
    require(s.listener.client_id != s.publisher.client_id, "client_id %s", s.listener.client_id)


async def bytes_unchanged(s):
    inbox = await s.subscribe("bytes")
    data = b"a\r\nPING\r\n\0b\xff\xfe"
    await s.publisher.publish("bytes", data)
    await s.publisher.publish("bytes")
    first, second = await inbox.count(2)
    require(first.data == data and second.data == b"", "got %r, %r", first.data, second.data)
    await s.settle()
    await inbox.count(2)


async def order_is_kept(s):
    inbox = await s.subscribe("order")
    for i in range(10000):
        await s.publisher.publish("order", b"%d" % i)
    got = [message.data for message in await inbox.count(10000)]
    require(got == [b"%d" % i for i in range(10000)], "another order")
    await s.settle()
    await inbox.count(10000)


async def wildcards(s):
    star, full = await s.subscribe("w.*.z"), await s.subscribe("w.>")
    for subject in ("w.a.z", "w.a.b.z", "w"):
        await s.publisher.publish(subject)
    await s.settle()
    require([m.subject for m in await star.count(1)] == ["w.a.z"], "other subjects")
    require([m.subject for m in await full.count(2)] == ["w.a.z", "w.a.b.z"], "other subjects")


async def queue_groups(s):
    one, two = await s.subscribe("job", "workers"), await s.subscribe("job", "workers")
    everything = await s.subscribe("job")
    for _ in range(200):
        await s.publisher.publish("job")
    await s.settle()
    await everything.count(200)
    shares = [len(one.messages), len(two.messages)]
    # Fifty of two hundred is seven standard deviations away from the half.
    require(sum(shares) == 200 and min(shares) >= 50, "shares %s", shares)


async def headers(s):
    inbox = await s.subscribe("head")
    sent = {"Color": "dark blue", "Size": "0"}
    await s.publisher.publish("head", b"body", headers=sent)
    (message,) = await inbox.count(1)
    require(dict(message.headers) == sent and message.data == b"body", "got %s", message.headers)


async def requests(s):
    async def answer(message):
        await message.respond(message.data)

    await s.listener.subscribe("echo", cb=answer)
    await flush(s.listener)
    for i in range(20):
        data = b"request %d" % i
        # The old style: a subscription for each request.
        got = await s.publisher.request("echo", data, timeout=DEADLINE_S, old_style=i % 2 == 1)
        require(got.data == data, "got %r", got.data)


async def no_responders(s):
    with contextlib.suppress(NoRespondersError):
        await s.publisher.request("nobody.here", b"", timeout=DEADLINE_S)
        raise Fault("NoRespondersError expected")


async def unsubscribe(s):
    limited = await s.subscribe("u")
    ended, kept = await s.subscribe("u"), await s.subscribe("u")
    await limited.sub.unsubscribe(3)
    await ended.sub.unsubscribe()
    await s.settle()
    for _ in range(5):
        await s.publisher.publish("u")
    await s.settle()
    await kept.count(5)
    await limited.count(3)
    await ended.count(0)


async def large(s):
    inbox = await s.subscribe("large")
    data = bytes(i * 31 % 251 for i in range(MIB + 1))
    for _ in range(5):
        await s.publisher.publish("large", data[:MIB])
    for message in await inbox.count(5):
        require(message.data == data[:MIB], "other bytes")
    with contextlib.suppress(MaxPayloadError):
        await s.publisher.publish("large", data)
        raise Fault("MaxPayloadError expected")
    await s.settle()
    await inbox.count(5)


async def no_echo(s):
    other = await s.subscribe("quiet")
    silent = await s.open(no_echo=True)
    own = await s.subscribe("quiet", connection=silent)
    await silent.publish("quiet")
    await flush(silent)
    await other.count(1)
    await own.count(0)


async def strict(s):
    connection = await s.open(verbose=True, pedantic=True)
    inbox = await s.subscribe("strict.*", connection=connection)
    await connection.publish("strict.a", b"x")
    await flush(connection)
    await inbox.count(1)


async def drain_subscription(s):
    inbox = await s.subscribe("drain")
    for _ in range(500):
        await s.publisher.publish("drain")
    await flush(s.publisher)
    await asyncio.wait_for(inbox.sub.drain(), DEADLINE_S)
    await s.publisher.publish("drain")
    await s.settle()
    await inbox.count(500)


async def drain_connection(s):
    inbox = await s.subscribe("drain")
    for _ in range(500):
        await s.publisher.publish("drain")
    await flush(s.publisher)
    await asyncio.wait_for(s.listener.drain(), DEADLINE_S)
    await asyncio.wait_for(s.closed.wait(), DEADLINE_S)
    await inbox.count(500)


SCENARIOS = {
    "the server is described in INFO": described,
    "bytes arrive unchanged": bytes_unchanged,
    "order is kept over 10000 messages": order_is_kept,
    "wildcards match": wildcards,
    "a queue group shares, others get all": queue_groups,
    "headers arrive": headers,
    "a request is answered": requests,
    "a request to nobody fails at once": no_responders,
    "unsubscribe and auto-unsubscribe end": unsubscribe,
    "1 MiB arrives, a byte more is refused": large,
    "no echo is kept": no_echo,
    "verbose and pedantic modes work": strict,
    "a subscription's drain loses nothing": drain_subscription,
    "a connection drains and closes": drain_connection,
}


async def violation_is_told(s):
    """A user who may not publish to "secret" is told so and goes on."""
    inbox = await s.subscribe("open")
    await s.publisher.publish("secret")
    error = await asyncio.wait_for(s.errors.get(), DEADLINE_S)
    text = str(error).lower()
    require("permissions violation" in text and '"secret"' in text, "got %s", error)
    await s.publisher.publish("open")
    await inbox.count(1)


async def restart_is_survived(s):
    """A restarted server gets the same subscriptions again."""
    inbox = await s.subscribe("again")
    print("restart", flush=True)
    for _ in range(2):
        await asyncio.wait_for(s.reconnected.get(), 3 * DEADLINE_S)
    await s.settle()
    await s.publisher.publish("again")
    await inbox.count(1)


async def run_scenario(files, way, url, name, run):
    scene = Scene(files, way, url)
    fault = None
    try:
        await scene.start()
        await asyncio.wait_for(run(scene), 5 * DEADLINE_S)
    except Exception as error:
        fault = "%s: %s" % (type(error).__name__, error)
    with contextlib.suppress(Exception):
        await scene.close()
    print("not ok %s: %s: %s" % (way, name, fault) if fault else "ok %s: %s" % (way, name))
    return fault is None


async def run_refusal(files, way, url, wanted):
    """The connection must fail, with `wanted` in its errors if that is given."""
    scene = Scene(files, way, url)
    got = "connected"
    try:
        await scene.open(allow_reconnect=False, connect_timeout=5)
    except Exception as error:
        got = "%s: %s" % (type(error).__name__, error)
    with contextlib.suppress(Exception):
        await scene.close()
    while not scene.errors.empty():
        got += "; %s" % scene.errors.get_nowait()
    good = not got.startswith("connected") and (not wanted or wanted in got.lower())
    print("%sok %s: the connection is refused (%s)" % ("" if good else "not ", way, got))
    return good


async def run_way(files, way, url):
    if way == "restricted":
        return [await run_scenario(files, way, url, "a violation is told", violation_is_told)]
    if way == "restart":
        return [await run_scenario(files, way, url, "a restart is survived", restart_is_survived)]
    if way == "refused":
        return [await run_refusal(files, way, url, "authorization violation")]
    if way == "untrusted":
        return [await run_refusal(files, way, url, None)]
    return [await run_scenario(files, way, url, name, run) for name, run in SCENARIOS.items()]


async def main(words):
    files, results = {}, []
    words = list(words)
    while words:
        word = words.pop(0)
        way, found, url = word.partition("=")
        if word in ("--ca", "--cert", "--key") and words:
            files[word[2:]] = words.pop(0)
        elif found:
            results += await run_way(files, way, url)
        else:
            print("usage: nats_py.py [--ca F] [--cert F --key F] WAY=URL...", file=sys.stderr)
            return 2
    print("%d passed, %d failed" % (results.count(True), results.count(False)))
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    # asyncio warns of its own stream protocol at each end of a TLS connection.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit(asyncio.run(main(sys.argv[1:])))
