# SPDX-License-Identifier: GPL-2.0-or-later
"""What the programs of this folder share: servers started and stopped by pid, runs of event-bench, the machine's stamp."""
import json
import os
import platform
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
READY_S = 60
STOP_S = 30

PRESETS = {
    "ours": "{bin}/event-service --config {config}",
    "nats-server": "nats-server -a 127.0.0.1 -p {port}",
}
# The least that event-service needs: one line, which is YAML.
CONFIG = "service: {{host: 127.0.0.1, port: {port}}}\n"


class Refused(Exception):
    """A run whose figures must not be used, and why."""


def default_bin():
    return os.path.join(ROOT, "build", "release", "bin")


def free_port():
    """A port that was free a moment ago. The server gets it on its command line, so it cannot choose one itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def program_of(command, bin_folder):
    """The program that a preset or command line runs."""
    return shlex.split(PRESETS.get(command, command).replace("{bin}", shlex.quote(bin_folder)))[0]


class Server:
    """One server process. `command` may hold {port}, {config} (a file with a minimal configuration) and {bin}."""

    def __init__(self, command, bin_folder, prefix=()):
        self.template = PRESETS.get(command, command)
        self.bin_folder = bin_folder
        self.prefix = list(prefix)
        self.folder = tempfile.mkdtemp(prefix="bench.")
        self.log_path = os.path.join(self.folder, "log")
        self.port = None
        self.process = None
        self.info = {}

    def program(self):
        return program_of(self.template, self.bin_folder)

    def start(self):
        self.port = free_port()
        config = os.path.join(self.folder, "config.yaml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(CONFIG.format(port=self.port))
        # Not str.format: a command line may hold other braces.
        command = self.template
        for name, value in (("bin", self.bin_folder), ("config", config), ("port", str(self.port))):
            command = command.replace("{" + name + "}", shlex.quote(value))
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.prefix + shlex.split(command), stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        self.wait_until_ready()
        return self

    def wait_until_ready(self):
        """Ready is who greets: tries to connect until INFO has come."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Refused(f"{self.program()} ended with status {self.process.returncode}: {self.last_log()}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=READY_S) as sock:
                    line = sock.makefile("rb").readline(65536)
            except OSError:
                line = b""
            if line.startswith(b"INFO "):
                self.info = json.loads(line[5:])
                return
            time.sleep(0.01)
        raise Refused(f"{self.program()} did not answer on port {self.port} within {READY_S} s: {self.last_log()}")

    def last_log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()[-500:].strip().replace("\n", " | ")

    def stop(self):
        """Ends this very process, by its pid."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_S)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()


def run_bench(bin_folder, server, arguments, measure_process=True):
    """One run of event-bench against the server. Returns its JSON; raises Refused when verification failed."""
    command = [os.path.join(bin_folder, "event-bench"), *arguments, "--server", f"127.0.0.1:{server.port}",
               "--json", "-"]
    if measure_process:
        command += ["--server-pid", str(server.process.pid)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    try:
        result = json.loads(done.stdout)
    except ValueError:
        raise Refused(done.stderr.strip() or f"event-bench ended with status {done.returncode}") from None
    if done.returncode != 0 or not result["valid"]:
        raise Refused(result["error"] or done.stderr.strip())
    return result


def version_of(program):
    """The first line of PROGRAM --version."""
    try:
        done = subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines else ""


def cpu_model():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            found = re.search(r"^model name\s*:\s*(.*)$", file.read(), re.MULTILINE)
        return found.group(1) if found else ""
    except OSError:
        return ""


def stamp():
    """Where and when: what must be known to read a figure later."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": list(os.getloadavg()),
        "transport": "TCP on loopback, no TLS",
    }
