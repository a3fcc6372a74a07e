# SPDX-License-Identifier: GPL-2.0-or-later
"""What the conformance suites share: checks, the servers that they are lent, the runner.

A check is one function (or one table row) named by its number in the reference. It speaks raw bytes
to a server and compares exact bytes, each with a deadline.

Invariants:
- Every process started here is ended here, by its id; every file lies in one temporary folder.
- A default server is lent to one check at a time, and lent again only when it has no connection.
"""

import concurrent.futures
import contextlib
import http.client
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback

from peers import (  # noqa: F401  (the suites take them from here)
    DEADLINE_S,
    FIN,
    SLACK_S,
    CannotRun,
    Listener,
    Mismatch,
    Peer,
    connect,
    messages,
    require,
    require_equal,
    since,
    wait_until,
    wire,
)
from servers import ADAPTERS, Certificates, NatsServer, Ours, Server, merge, seconds  # noqa: F401


class Lab:
    """Everything one run owns: the temporary folder, the certificates, the servers."""

    def __init__(self, adapter):
        self.adapter = adapter
        self.folder = tempfile.mkdtemp(prefix="es-conformance.")
        self.certs = Certificates(os.path.join(self.folder, "certs"))
        self.lock = threading.Lock()
        self.servers = []
        self.idle = []  # default servers that no check holds

    def start(self, settings=None):
        """A server with these settings (key names of our configuration) over the adapter's base."""
        with self.lock:
            number = len(self.servers)
            self.servers.append(None)
        folder = os.path.join(self.folder, "server%d" % number)
        os.mkdir(folder)
        server = Server(self.adapter, merge(self.adapter.base, settings or {}), folder)
        with self.lock:
            self.servers[number] = server
        return server

    def lend(self):
        with self.lock:
            if self.idle:
                return self.idle.pop()
        return self.start()

    def give_back(self, server):
        """Keeps the default server for the next check once nothing of this one is left in it."""
        try:
            wait_until(
                lambda: server.http_json("/connz")["num_connections"] == 0, "an empty server", 2.0
            )
        except CannotRun:
            pass
        except (Mismatch, OSError, ValueError, KeyError, http.client.HTTPException):
            server.stop()
            return
        with self.lock:
            self.idle.append(server)

    def close(self, keep):
        for server in self.servers:
            if server:
                server.stop()
        if keep:
            print("files kept in " + self.folder)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


class Context:
    """What a check is given: its server and the means to open more; all is closed at its end."""

    def __init__(self, lab, server):
        self.lab, self.server, self.certs = lab, server, lab.certs
        self.adapter = lab.adapter
        self.closing = contextlib.ExitStack()

    def connect(self, name="client", server=None, **more):
        """A connection with its INFO read (peer.info)."""
        peer = self.connect_raw(name, server, **more)
        peer.read_info()
        return peer

    def connect_raw(self, name="client", server=None, port=None, **more):
        """A connection of which nothing has been read; port: another one than the client port."""
        peer = connect(port or (server or self.server).port, name, **more)
        self.closing.callback(peer.close)
        return peer

    def start(self, settings=None):
        """One more server, of this check alone."""
        server = self.lab.start(settings)
        self.closing.callback(server.stop)
        return server

    def listen(self, name="peer"):
        listener = Listener(name)
        self.closing.callback(listener.close)
        return listener

    def accept(self, listener, deadline_s=DEADLINE_S):
        peer = listener.accept(deadline_s)
        self.closing.callback(peer.close)
        return peer


# --- suites and the runner ----------------------------------------------------------------------


class Check:
    def __init__(self, number, rule, body, settings, seconds_long):
        self.number, self.rule, self.body = number, rule, body
        self.settings = (
            settings  # None: a default server; a dict or a function of the lab; False: none
        )
        self.seconds_long = (
            seconds_long  # how long it takes by its nature, so that long ones start first
        )

    def run(self, lab):
        lent = None
        with contextlib.ExitStack() as closing:
            if self.settings is None:
                server = lent = lab.lend()
                closing.callback(lab.give_back, lent)
            elif self.settings is False:
                server = None
            else:
                server = lab.start(self.settings(lab) if callable(self.settings) else self.settings)
                closing.callback(server.stop)
            context = Context(lab, server)
            closing.push(context.closing)
            self.body(context)


class Suite:
    """The checks of one reference page, and the ones left out with their reasons."""

    def __init__(self, name):
        self.name = name
        self.checks = []
        self.left_out = {}  # {number: reason}: may go unrun without counting as a failure
        self.later = set()  # those of left_out that are written and not yet run against ours

    def check(self, number, rule, settings=None, seconds_long=0):
        """Decorator: this function is check `number`; `rule` quotes the reference in a line."""

        def register(body):
            self.add(Check(number, rule, body, settings, seconds_long))
            return body

        return register

    def add(self, check):
        if any(other.number == check.number for other in self.checks):
            raise ValueError("check %s stands twice" % check.number)
        self.checks.append(check)


def run_one(check, lab):
    """(check, None or the failure's text, seconds, kind): kind is ok, failed or cannot."""
    began = time.monotonic()
    try:
        check.run(lab)
        return check, None, time.monotonic() - began, "ok"
    except CannotRun as reason:
        return check, str(reason), time.monotonic() - began, "cannot"
    except Mismatch as fault:
        return check, str(fault), time.monotonic() - began, "failed"
    except Exception:  # a fault of the check itself, or a server that is gone: shown, never hidden
        return check, traceback.format_exc(limit=-4), time.monotonic() - began, "failed"


def run_checks(suites, lab, only, threads, timings):
    """Runs all checks, prints a line each, and returns (passed, failed)."""
    checks = [c for suite in suites for c in suite.checks if not only or c.number in only]
    left_out = {
        number: reason
        for suite in suites
        for number, reason in suite.left_out.items()
        if not only or number in only
    }
    if lab.adapter.name == "ours":
        later = {number for suite in suites for number in suite.later}
        checks = [c for c in checks if c.number not in later]
    passed = failed = 0
    cannot = []
    ordered = sorted(checks, key=lambda c: -c.seconds_long)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for done in concurrent.futures.as_completed(
            [pool.submit(run_one, c, lab) for c in ordered]
        ):
            check, text, took, kind = done.result()
            tail = " (%.2f s)" % took if timings else ""
            if kind == "ok":
                passed += 1
                print("ok %s %s%s" % (check.number, check.rule, tail), flush=True)
            elif kind == "cannot":
                cannot.append((check.number, text))
            else:
                failed += 1
                print(
                    "not ok %s %s%s\n    %s" % (check.number, check.rule, tail, text.rstrip()),
                    flush=True,
                )
    written = {c.number for c in checks}
    for number, reason in sorted(left_out.items(), key=lambda item: number_key(item[0])):
        if number not in written:
            print("left out %s: %s" % (number, reason))
    for number, reason in sorted(cannot, key=lambda item: number_key(item[0])):
        if number in left_out:
            print("left out %s: %s" % (number, left_out[number]))
        else:
            failed += 1
            print("not ok %s left out without a row in the table: %s" % (number, reason))
    return passed, failed


def number_key(number):
    match = re.fullmatch(r"([A-Z]+)([0-9]+)", number)
    return match.group(1), int(match.group(2))


def documented(path, suite):
    """The table of left-out checks of one suite in docs/compatibility.md: {number: reason}."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    match = re.search(r"<!-- left out: %s -->\n(.*?)<!-- end -->" % suite, text, re.DOTALL)
    if not match:
        return None
    rows = re.findall(r"^\| ([A-Z]+[0-9]+) \| (.*?) \|$", match.group(1), re.MULTILINE)
    return {number: reason for number, reason in rows}


def check_docs(suites, path):
    """Whether docs/compatibility.md repeats the left-out tables: the number of differences."""
    faults = 0
    for suite in suites:
        table = documented(path, suite.name)
        if table is None:
            print("not ok docs: no table of left-out checks for %s" % suite.name)
            faults += 1
            continue
        for number in sorted(set(table) | set(suite.left_out), key=number_key):
            if table.get(number) != suite.left_out.get(number):
                faults += 1
                print(
                    "not ok docs %s\n    expected %s\n    got      %s"
                    % (number, suite.left_out.get(number), table.get(number))
                )
    if not faults:
        print("ok docs the tables of left-out checks agree")
    return faults


def stop_on_signal():
    """A TERM ends the run as an exception, so that every server is still stopped."""

    def on_signal(number, _frame):
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, on_signal)
