#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/run shows what happens, and says so when something does not.

Goal: with all in order every event takes every hop and the status is 0; with one thing broken exactly the hops behind
it are missing and the status is 1; what cannot work is told in one line; whatever ends a run, no process is left.
Method: scripts/run with the programs of a build folder and free ports, a few cases at a time, each with a state folder
that is its own meanwhile; processes are found by their parent in /proc.

usage: run_once.py --build DIR [--only CASE,CASE]
"""
import argparse
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

from case_pool import Mismatch, attempt, chosen, conclude, run_jobs  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RUN = os.path.join(ROOT, "scripts", "run")
DEADLINE_S = 120
TYPES = ("compliance_ingest", "cfgingest", "event_feed", "scanJobCreated", "scanJobUpdated", "scanJobDeleted",
         "profileCreated", "profileUpdate", "profileDeleted", "nodeTerminated")
HOPS = ("token", "gateway", "link", "event-service", "queue", "handler", "worker", "answer", "consumer")
HANDLER_OF = {"compliance_ingest": "feed", "cfgingest": "cfgingest", "nodeTerminated": "cfgingest"}  # else event_feed


def expect(wanted, got, what, evidence=""):
    if got != wanted:
        raise Mismatch("%s: expected %r, got %r\n%s" % (what, wanted, got, evidence[-4000:]))


class Bench:
    """The build folder and a state folder, lent to one case at a time; its certificates are made once."""

    def __init__(self, build):
        self.folder = tempfile.mkdtemp(prefix="es-run.")
        self.state = os.path.join(self.folder, "state")
        self.arguments = ["--build", build, "--state", self.state]

    def command(self, *more, ports="auto"):
        return [RUN, *self.arguments, "--ports", ports, *more]

    def run(self, *more, ports="auto"):
        return subprocess.run(self.command(*more, ports=ports), capture_output=True, text=True, timeout=DEADLINE_S,
                              stdin=subprocess.DEVNULL, check=False)

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


# --- processes ------------------------------------------------------------------------------------


def children_of(pid):
    found = set()
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % name) as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        if int(fields[1]) == pid and fields[0] != "Z":
            found.add(int(name))
    return found


def is_alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise Mismatch("waited in vain: " + what)
        time.sleep(0.05)


class Demonstration:
    """scripts/run without --once, up and running."""

    def __init__(self, bench):
        self.output = os.path.join(bench.folder, "output")
        with open(self.output, "w") as output:
            self.process = subprocess.Popen(bench.command(), stdin=subprocess.DEVNULL, stdout=output,
                                            stderr=subprocess.STDOUT)
        self.bench = bench
        wait_until(lambda: "Events at the workers" in self.text() or self.process.poll() is not None, "the guide")
        if self.process.poll() is not None:
            raise Mismatch("it ended: " + self.text())
        self.children = children_of(self.process.pid)

    def text(self):
        with open(self.output) as file:
            return file.read()

    def end(self, number):
        """Sends the signal, waits; returns the exit status. No process may be left."""
        os.kill(self.process.pid, number)
        status = self.process.wait(DEADLINE_S)
        wait_until(lambda: not any(map(is_alive, self.children)), "the end of all processes")
        return status

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


# --- reading what a run printed -------------------------------------------------------------------


def read_paths(text):
    """{type: {hop}} of the printed paths."""
    paths, current = {}, None
    for line in text.splitlines():
        head = re.match(r"(\w+)  once-\1-[0-9a-f-]{36}$", line)
        hop = re.match(r"    ([\w-]+) +\S", line)
        if head:
            current = paths.setdefault(head[1], set())
        elif hop and current is not None:
            current.add(hop[1])
    return paths


def expect_paths(done, lacking):
    """lacking(type): the hops that must be missing; all others must be there."""
    evidence = done.stdout + done.stderr
    paths = read_paths(done.stdout)
    expect(set(TYPES), set(paths), "types with a path", evidence)
    missing = set()
    for event_type in TYPES:
        without = set(lacking(event_type))
        expect(set(HOPS) - without, paths[event_type], "hops of " + event_type, evidence)
        missing |= {(event_type, hop) for hop in without}
    told = {
        (event_type, hop)
        for event_type, hops in re.findall(r"(?m)^MISSING (\w+): ([\w, -]+?)(?: \(.*\))?$", done.stdout)
        for hop in hops.split(", ")
    }
    expect(missing, told, "what is said to be missing", evidence)
    arrived = sum(not lacking(event_type) for event_type in TYPES)
    expect("%d of %d events arrived" % (arrived, len(TYPES)), done.stdout.splitlines()[-1], "last line", evidence)
    expect(0 if arrived == len(TYPES) else 1, done.returncode, "exit status", evidence)


def expect_refusal(done, *words):
    """Status 1 and one line, which holds the words."""
    expect(1, done.returncode, "exit status", done.stdout + done.stderr)
    lines = done.stderr.splitlines()
    expect(1, len(lines), "lines on standard error", done.stderr)
    for word in words:
        if word not in lines[0]:
            raise Mismatch("expected the word '%s', got: %s" % (word, lines[0]))


# --- cases ----------------------------------------------------------------------------------------


def all_arrive(bench):
    expect_paths(bench.run("--once"), lambda event_type: ())


def second_run_uses_what_is_there(bench):
    def files():
        return {name: os.stat(os.path.join(bench.state, name)).st_mtime_ns for name in ("token", "certs/ca.crt")}

    if not os.path.exists(os.path.join(bench.state, "token")):
        all_arrive(bench)
    before = files()
    expect_paths(bench.run("--once"), lambda event_type: ())
    expect(before, files(), "times of change of token and authority")


def without_worker(bench, handler):
    def lacking(event_type):
        return ("worker", "answer") if HANDLER_OF.get(event_type, "event_feed") == handler else ()

    expect_paths(bench.run("--once", "--leave-out", handler, "--patience", "3"), lacking)


def feed_is_not_started(bench):
    without_worker(bench, "feed")


def cfgingest_is_not_started(bench):
    without_worker(bench, "cfgingest")


def event_feed_is_not_started(bench):
    without_worker(bench, "event_feed")


def token_is_wrong(bench):
    done = bench.run("--once", "--leave-out", "token", "--patience", "3")
    expect_paths(done, lambda event_type: HOPS)
    if "Authorization Violation" not in done.stdout:
        raise Mismatch("expected that the refusal is told, got:\n" + done.stdout)


def link_is_cut(bench):
    done = bench.run("--once", "--leave-out", "link", "--patience", "3")
    expect_paths(done, lambda event_type: HOPS[HOPS.index("link"):])


def port_is_in_use(bench):
    for name in ("service", "service-gateway", "gateway-monitor", "feed"):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            expect_refusal(bench.run("--once", ports="auto,%s=%d" % (name, port)), "port %d" % port, "in use", "--ports")


def ports_are_wrong(bench):
    for ports in ("nonsense=1", "service", "service=0", "service=65536", "service=x"):
        expect_refusal(bench.run("--once", ports=ports), "--ports", "service-monitor")


def state_cannot_be_written(bench):
    with open(os.path.join(bench.folder, "file"), "w"):
        pass
    bench.arguments[3] = os.path.join(bench.folder, "file", "state")
    try:
        expect_refusal(bench.run("--once"), "cannot be written", "--state")
    finally:
        bench.arguments[3] = bench.state


def build_is_missing(bench):
    bench.arguments[1], build = os.path.join(bench.folder, "nothing"), bench.arguments[1]
    try:
        expect_refusal(bench.run("--once"), "there is no program", "cmake --build")
    finally:
        bench.arguments[1] = build


def with_demonstration(body):
    def case(bench):
        demonstration = Demonstration(bench)
        try:
            body(bench, demonstration)
        finally:
            demonstration.close()

    case.__name__ = body.__name__
    return case


@with_demonstration
def events_are_shown_and_interrupt_stops(bench, demonstration):
    publish = [os.path.join(ROOT, "scripts", "demo-publish"), "--state", bench.state, "scanJobCreated"]
    done = subprocess.run(publish, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    expect(0, done.returncode, "status of demo-publish", done.stdout + done.stderr)
    found = re.fullmatch(r'scanJobCreated answer {"success":true,"id":"([0-9a-f-]+)"}\n', done.stdout)
    if not found:
        raise Mismatch("unexpected answer: " + done.stdout)
    wait_until(lambda: re.search("event_feed +scanJobCreated +" + found[1], demonstration.text()), "the worker's line")
    expect(5, len(demonstration.children), "processes")
    expect(0, demonstration.end(signal.SIGINT), "exit status", demonstration.text())
    done = subprocess.run(publish, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    expect(1, done.returncode, "status of demo-publish when nothing runs")
    expect(True, "scripts/run is not running" in done.stderr, "its reason", done.stderr)


@with_demonstration
def sigterm_stops(bench, demonstration):
    expect(0, demonstration.end(signal.SIGTERM), "exit status", demonstration.text())


@with_demonstration
def two_at_once_are_refused(bench, demonstration):
    expect_refusal(bench.run("--once"), "another scripts/run", "--state")
    expect(0, demonstration.end(signal.SIGTERM), "exit status", demonstration.text())


@with_demonstration
def a_server_that_dies_is_told(bench, demonstration):
    victims = [pid for pid in demonstration.children if program_of(pid) == "event-service"]
    expect(1, len(victims), "processes of event-service")
    os.kill(victims[0], signal.SIGKILL)
    expect(1, demonstration.process.wait(DEADLINE_S), "exit status", demonstration.text())
    expect(True, "event-service ended with status -9" in demonstration.text(), "the reason", demonstration.text())
    wait_until(lambda: not any(map(is_alive, demonstration.children)), "the end of all processes")


@with_demonstration
def nothing_outlives_a_kill(bench, demonstration):
    expect(-signal.SIGKILL, demonstration.end(signal.SIGKILL), "exit status")


def program_of(pid):
    return os.path.basename(os.readlink("/proc/%d/exe" % pid))


def interrupted_once_is_a_failure(bench):
    process = subprocess.Popen(bench.command("--once", "--leave-out", "feed", "--patience", "60"),
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(children_of(process.pid)) >= 4, "servers and workers")
        children = children_of(process.pid)
        process.terminate()
        expect(1, process.wait(DEADLINE_S), "exit status")
        wait_until(lambda: not any(map(is_alive, children)), "the end of all processes")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


CASES = (
    all_arrive,
    second_run_uses_what_is_there,
    feed_is_not_started,
    cfgingest_is_not_started,
    event_feed_is_not_started,
    token_is_wrong,
    link_is_cut,
    port_is_in_use,
    ports_are_wrong,
    state_cannot_be_written,
    build_is_missing,
    events_are_shown_and_interrupt_stops,
    sigterm_stops,
    two_at_once_are_refused,
    a_server_that_dies_is_told,
    nothing_outlives_a_kill,
    interrupted_once_is_a_failure,
)


def run_case(name, case, benches):
    bench = benches.get()
    try:
        return [attempt(name, case, bench)]
    finally:
        benches.put(bench)


def main():
    known = {case.__name__: case for case in CASES}
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", required=True, help="a build folder")
    parser.add_argument("--threads", type=int, default=3, help="cases at a time")
    parser.add_argument("--only", help="cases, separated by commas: " + ", ".join(known))
    options = parser.parse_args()
    names = chosen(parser, options.only, known)
    benches = queue.Queue()
    for _ in range(options.threads):
        benches.put(Bench(os.path.abspath(options.build)))
    try:
        jobs = [lambda name=name: run_case(name, known[name], benches) for name in names]
        counts = run_jobs(jobs, options.threads)
    finally:
        while not benches.empty():
            benches.get().close()
    return conclude(*counts)


if __name__ == "__main__":
    sys.exit(main())
