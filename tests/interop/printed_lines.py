#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The `nats` lines that scripts/run prints work as they are printed.

Goal: a reader who copies them sees an event go from outside to inside. Method: scripts/run with the programs of a build
folder, free ports and a state folder of its own; its lines are run by the shell in the folder that scripts/run was
started in, with `nats` of scripts/build-nats-tools first in PATH.

usage: printed_lines.py --build DIR
"""
import argparse
import contextlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOLS = os.path.join(ROOT, ".cache", "nats-tools")
DEADLINE_S = 120


class Running:
    """A process group of our own, its output by lines."""

    def __init__(self, command, folder, environment, shell=False):
        self.text = ""
        self.lines = queue.Queue()
        self.process = subprocess.Popen(
            command, shell=shell, cwd=folder, env=environment, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self.collect, daemon=True).start()

    def collect(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def read(self, wanted, seconds):
        """Reads on until a line matches, so long; whether one did."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                line = self.lines.get(timeout=0.1)
                if line is None:
                    return False
                self.text += line
                if re.search(wanted, line):
                    return True
        return False

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def check(build, folder, running):
    environment = {**os.environ, "HOME": folder, "PATH": TOOLS + os.pathsep + os.environ["PATH"]}
    demo = [os.path.join(ROOT, "scripts", "run"), "--build", build, "--ports", "auto", "--state", "state"]
    stack = Running(demo, folder, environment)
    running.append(stack)
    if not stack.read("Ctrl-C stops all", DEADLINE_S):
        return "scripts/run printed no guide:\n" + stack.text
    lines = re.findall(r"^    (nats .*)$", stack.text, re.MULTILINE)
    by_verb = {line.split()[1]: line for line in lines}
    if set(by_verb) != {"req", "sub"}:
        return "one line for req and one for sub expected, got %s" % lines
    watch = Running(by_verb["sub"], folder, environment, shell=True)
    running.append(watch)
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        # The first may come before the other line's subscription is in force.
        request = Running(by_verb["req"], folder, environment, shell=True)
        running.append(request)
        if not request.read("Received with rtt", 20):
            return "%s\nwas not answered:\n%s" % (by_verb["req"], request.text)
        if request.process.wait(20) != 0:
            return "%s\nended with status %d:\n%s" % (by_verb["req"], request.process.returncode, request.text)
        if watch.read(r'Received on "event\.scanJobCreated"', 2):
            return None
    return "%s\nshowed no event:\n%s" % (by_verb["sub"], watch.text)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    build = os.path.abspath(parser.parse_args().build)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    subprocess.run([os.path.join(ROOT, "scripts", "build-nats-tools")], check=True, stdout=subprocess.DEVNULL)
    folder = tempfile.mkdtemp(prefix="es-printed.")
    running = []
    try:
        fault = check(build, folder, running)
    finally:
        for process in reversed(running):
            process.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if fault:
        print("not ok the nats lines of scripts/run: " + fault)
        print("0 passed, 1 failed")
        return 1
    print("ok the nats lines of scripts/run work as printed")
    print("1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
