// SPDX-License-Identifier: GPL-2.0-or-later
// Goal: what users do through the JavaScript client of NATS works against the server, over every way
// to connect. Method and arguments are those of nats_c.c: each scenario gets two fresh connections of
// one way, and a flush (PING, PONG) proves that nothing more is on its way.
"use strict";

const assert = require("node:assert/strict");
const { connect, createInbox, Empty, ErrorCode, Events, headers, JSONCodec, StringCodec } =
    require("nats");

const DEADLINE_MS = 10000;
const MIB = 1 << 20;
const text = StringCodec();

function withDeadline(promise, what) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(
            () => reject(new Error(`${what}: expected within ${DEADLINE_MS} ms`)), DEADLINE_MS);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// The URL's user part becomes the client's options: this client reads none from the URL.
function options(files, way, address, more = {}) {
    const url = new URL(address.replace(/^(nats|tls):/, "http:"));
    const result = { servers: url.host, timeout: DEADLINE_MS, reconnectTimeWait: 50, ...more };
    if (url.password) {
        result.user = url.username;
        result.pass = url.password;
    } else if (url.username) {
        result.token = url.username;
    }
    if (address.startsWith("tls:")) {
        result.tls = { caFile: files.ca };
        if (way === "mutual") {
            Object.assign(result.tls, { certFile: files.cert, keyFile: files.key });
        }
    }
    return result;
}

// A subscription whose messages are kept in an array; `count(n)` waits until n have come.
class Inbox {
    constructor(connection, subject, more = {}) {
        this.messages = [];
        this.waiting = [];
        this.sub = connection.subscribe(subject, {
            ...more,
            callback: (error, message) => {
                this.messages.push(error || message);
                this.waiting.forEach((wake) => wake());
            },
        });
    }

    async count(wanted) {
        const enough = () => new Promise((resolve) => {
            const look = () => this.messages.length >= wanted && resolve();
            this.waiting.push(look);
            look();
        });
        await withDeadline(enough(), `${wanted} messages on ${this.sub.getSubject()}`);
        assert.equal(this.messages.length, wanted, "messages");
        return this.messages;
    }
}

// Two connections of one way; close() ends them and what else was opened.
class Scene {
    constructor(files, way, address) {
        Object.assign(this, { files, way, address, opened: [] });
    }

    async open(more) {
        const connection = await connect(options(this.files, this.way, this.address, more));
        this.opened.push(connection);
        return connection;
    }

    async start() {
        this.publisher = await this.open();
        this.listener = await this.open();
    }

    async subscribe(subject, more) {
        const inbox = new Inbox(this.listener, subject, more);
        await this.listener.flush();
        return inbox;
    }

    // Everything that the publisher has sent has come to the listener.
    async settle() {
        await withDeadline(this.publisher.flush(), "flush of the publisher");
        await withDeadline(this.listener.flush(), "flush of the listener");
    }

    async close() {
        await Promise.all(this.opened.map((c) => c.close()));
    }
}

const scenarios = {
    "the server is described in INFO": async (s) => {
        const info = s.listener.info;
        assert.match(info.server_id, /^N[A-Z2-7]{55}$/);
        assert.equal(info.max_payload, MIB);
        assert.equal(info.headers, true);
        assert.equal(info.proto, 1);
        assert.equal(info.client_ip, "127.0.0.1");
        assert.notEqual(info.client_id, s.publisher.info.client_id);
    },

    "bytes arrive unchanged": async (s) => {
        const inbox = await s.subscribe("bytes");
        const data = Uint8Array.from([97, 13, 10, 80, 73, 78, 71, 13, 10, 0, 98, 255, 254]);
        s.publisher.publish("bytes", data);
        s.publisher.publish("bytes");
        const [first, second] = await inbox.count(2);
        assert.deepEqual(new Uint8Array(first.data), data);
        assert.equal(second.data.length, 0);
        await s.settle();
        await inbox.count(2);
    },

    "JSON arrives unchanged": async (s) => {
        const inbox = await s.subscribe("json");
        s.publisher.publish("json", JSONCodec().encode({ a: [1, "ü"] }));
        const [message] = await inbox.count(1);
        assert.deepEqual(JSONCodec().decode(message.data), { a: [1, "ü"] });
    },

    "order is kept over 10000 messages": async (s) => {
        const inbox = await s.subscribe("order");
        for (let i = 0; i < 10000; i++) {
            s.publisher.publish("order", text.encode(String(i)));
        }
        const messages = await inbox.count(10000);
        messages.forEach((m, i) => assert.equal(text.decode(m.data), String(i)));
        await s.settle();
        await inbox.count(10000);
    },

    "wildcards match": async (s) => {
        const star = await s.subscribe("w.*.z");
        const full = await s.subscribe("w.>");
        for (const subject of ["w.a.z", "w.a.b.z", "w"]) {
            s.publisher.publish(subject);
        }
        await s.settle();
        assert.deepEqual((await star.count(1)).map((m) => m.subject), ["w.a.z"]);
        assert.deepEqual((await full.count(2)).map((m) => m.subject), ["w.a.z", "w.a.b.z"]);
    },

    "a queue group shares, others get all": async (s) => {
        const one = await s.subscribe("job", { queue: "workers" });
        const two = await s.subscribe("job", { queue: "workers" });
        const all = await s.subscribe("job");
        for (let i = 0; i < 200; i++) {
            s.publisher.publish("job");
        }
        await s.settle();
        await all.count(200);
        const shares = [one.messages.length, two.messages.length];
        assert.equal(shares[0] + shares[1], 200, `shares ${shares}`);
        // Fifty of two hundred is seven standard deviations away from the half.
        assert.ok(Math.min(...shares) >= 50, `shares ${shares}`);
    },

    "headers arrive": async (s) => {
        const inbox = await s.subscribe("head");
        const sent = headers();
        sent.append("Color", "red");
        sent.append("Color", "dark blue");
        sent.set("Size", "0");
        s.publisher.publish("head", text.encode("body"), { headers: sent });
        const [message] = await inbox.count(1);
        assert.deepEqual(message.headers.values("Color"), ["red", "dark blue"]);
        assert.equal(message.headers.get("Size"), "0");
        assert.equal(text.decode(message.data), "body");
    },

    "a request is answered": async (s) => {
        s.listener.subscribe("echo", { callback: (_, m) => m.respond(m.data) });
        await s.listener.flush();
        for (let i = 0; i < 20; i++) {
            const data = text.encode(`request ${i}`);
            const noMux = i % 2 === 1;  // the old style: a subscription for each request
            const answer = await s.publisher.request("echo", data, {
                timeout: DEADLINE_MS, noMux, reply: noMux ? createInbox() : undefined,
            });
            assert.equal(text.decode(answer.data), `request ${i}`);
        }
    },

    "a request to nobody fails at once": async (s) => {
        await assert.rejects(
            s.publisher.request("nobody.here", Empty, { timeout: DEADLINE_MS }),
            { code: ErrorCode.NoResponders });
    },

    "unsubscribe and auto-unsubscribe end": async (s) => {
        const limited = await s.subscribe("u", { max: 3 });
        const ended = await s.subscribe("u");
        const kept = await s.subscribe("u");
        ended.sub.unsubscribe();
        await s.settle();
        for (let i = 0; i < 5; i++) {
            s.publisher.publish("u");
        }
        await s.settle();
        await kept.count(5);
        await limited.count(3);
        await ended.count(0);
    },

    "1 MiB arrives, a byte more is refused": async (s) => {
        const inbox = await s.subscribe("large");
        const data = new Uint8Array(MIB + 1).map((_, i) => i * 31 % 251);
        for (let i = 0; i < 5; i++) {
            s.publisher.publish("large", data.subarray(0, MIB));
        }
        for (const message of await inbox.count(5)) {
            assert.equal(Buffer.compare(message.data, data.subarray(0, MIB)), 0);
        }
        assert.throws(() => s.publisher.publish("large", data),
            { code: ErrorCode.MaxPayloadExceeded });
        await s.settle();
        await inbox.count(5);
    },

    "no echo is kept": async (s) => {
        const other = await s.subscribe("quiet");
        const silent = await s.open({ noEcho: true });
        const own = new Inbox(silent, "quiet");
        silent.publish("quiet");
        await silent.flush();
        await other.count(1);
        await own.count(0);
    },

    "verbose and pedantic modes work": async (s) => {
        const strict = await s.open({ verbose: true, pedantic: true });
        const inbox = new Inbox(strict, "strict.*");
        strict.publish("strict.a", text.encode("x"));
        await strict.flush();
        await inbox.count(1);
    },

    "a subscription's drain loses nothing": async (s) => {
        const inbox = await s.subscribe("drain");
        for (let i = 0; i < 500; i++) {
            s.publisher.publish("drain");
        }
        await s.publisher.flush();
        await withDeadline(inbox.sub.drain(), "drain");
        s.publisher.publish("drain");
        await s.settle();
        await inbox.count(500);
    },

    "a connection drains and closes": async (s) => {
        const inbox = await s.subscribe("drain");
        for (let i = 0; i < 500; i++) {
            s.publisher.publish("drain");
        }
        await s.publisher.flush();
        await withDeadline(s.listener.drain(), "drain of the connection");
        assert.equal(s.listener.isClosed(), true);
        await inbox.count(500);
    },
};

// A user who may not publish to "secret" is told so and goes on.
async function violationIsTold(s) {
    const told = (async () => {
        for await (const status of s.publisher.status()) {
            if (status.type === Events.Error) {
                return status;
            }
        }
    })();
    const inbox = await s.subscribe("open");
    s.publisher.publish("secret");
    const status = await withDeadline(told, "an error status");
    assert.equal(status.data, ErrorCode.PermissionsViolation);
    assert.equal(status.permissionContext.operation, "publish");
    assert.equal(status.permissionContext.subject, "secret");
    s.publisher.publish("open");
    await inbox.count(1);
}

// A restarted server gets the same subscriptions again.
async function restartIsSurvived(s) {
    const inbox = await s.subscribe("again");
    const back = s.opened.map(async (connection) => {
        for await (const status of connection.status()) {
            if (status.type === Events.Reconnect) {
                return;
            }
        }
    });
    process.stdout.write("restart\n");
    await withDeadline(Promise.all(back), "both connections reconnect");
    await s.settle();
    s.publisher.publish("again");
    await inbox.count(1);
}

async function runScenario(files, way, address, name, run) {
    const scene = new Scene(files, way, address);
    let fault = null;
    try {
        await scene.start();
        await withDeadline(run(scene), "the scenario");
    } catch (error) {
        fault = error;
    }
    await scene.close();
    console.log(fault ? `not ok ${way}: ${name}: ${fault.message}` : `ok ${way}: ${name}`);
    return !fault;
}

// The connection must fail, with `code` if one is given.
async function runRefusal(files, way, address, code) {
    const scene = new Scene(files, way, address);
    let got = "connected";
    try {
        // This client does not notice that a server ends TLS for want of a certificate.
        await scene.open({ timeout: 2000 });
    } catch (error) {
        got = error.code || error.message;
    }
    await scene.close();
    const good = code ? got === code : got !== "connected";
    console.log(`${good ? "" : "not "}ok ${way}: the connection is refused (${got})`);
    return good;
}

async function runWay(files, way, address) {
    switch (way) {
    case "restricted":
        return [await runScenario(files, way, address, "a violation is told", violationIsTold)];
    case "restart":
        return [await runScenario(files, way, address, "a restart is survived", restartIsSurvived)];
    case "refused":
        return [await runRefusal(files, way, address, ErrorCode.AuthorizationViolation)];
    case "untrusted":
        return [await runRefusal(files, way, address, null)];
    default: {
        const results = [];
        for (const [name, run] of Object.entries(scenarios)) {
            results.push(await runScenario(files, way, address, name, run));
        }
        return results;
    }
    }
}

async function main(args) {
    const files = {};
    const results = [];
    while (args.length > 0) {
        const word = args.shift();
        const at = word.indexOf("=");
        if (["--ca", "--cert", "--key"].includes(word) && args.length > 0) {
            files[word.slice(2)] = args.shift();
        } else if (at > 0) {
            results.push(...await runWay(files, word.slice(0, at), word.slice(at + 1)));
        } else {
            console.error("usage: nats_js.js [--ca FILE] [--cert FILE --key FILE] WAY=URL...");
            return 2;
        }
    }
    const passed = results.filter(Boolean).length;
    console.log(`${passed} passed, ${results.length - passed} failed`);
    return passed > 0 && passed === results.length ? 0 : 1;
}

main(process.argv.slice(2)).then((status) => process.exit(status));
