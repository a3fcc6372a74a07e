# SPDX-License-Identifier: GPL-2.0-or-later
"""What the programs of this folder share: servers started and stopped by pid, runs of event-bench, the machine's stamp."""
import collections
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
_HOLDERS = collections.deque(maxlen=64)  # of ports in use

NEWEST_NATS_SERVER = os.path.join(ROOT, ".cache", "nats-tools", "nats-server")  # scripts/build-nats-tools
GATHERING = "ours-gathering"  # with threads.gather
GATHER = "150us"
PRESETS = {
    "ours": "{bin}/event-service --config {config}",
    GATHERING: "{bin}/event-service --config {config}",
    "nats-server": "nats-server -c {nats_config}",
    "nats-server-newest": shlex.quote(NEWEST_NATS_SERVER) + " -c {nats_config}",
    # The least that can be done between two sockets: without and with parsing.
    "relay": "{bin}/bench-limit relay {port}",
    "parse": "{bin}/bench-limit parse {port}",
}
# Of two linked servers the one that publishers connect to, where it is another program.
EDGE_PRESETS = dict.fromkeys(("ours", GATHERING), "{bin}/event-gateway --config {config}")
# What a server is started for: alone, with TLS, with TLS and a certificate asked of clients, linked with another one,
# or with an event queue and a worker service.
PLAIN, TLS, MUTUAL_TLS, LINKED, EVENTS = "plain", "tls", "mutual tls", "linked", "events"
EVENT_TYPE = "bench"
EDGE_USER, EDGE_PASSWORD = "bench", "not a secret"


class Refused(Exception):
    """A run whose figures must not be used, and why."""


def default_bin():
    return os.path.join(ROOT, "build", "release", "bin")


def free_port():
    """A free port for a server that gets it on its command line, so that it cannot choose one itself. A socket that is
    bound and does not listen keeps it from others, until many more have been given."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    _HOLDERS.append(holder)
    return holder.getsockname()[1]


def program_of(command, bin_folder):
    """The program that a preset or command line runs."""
    return shlex.split(PRESETS.get(command, command).replace("{bin}", shlex.quote(bin_folder)))[0]


class Certificate:
    """One self-signed certificate for all runs, with an ECDSA key."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="bench.")
        self.cert, self.key = (os.path.join(self.folder.name, name) for name in ("cert.pem", "key.pem"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", self.key, "-out", self.cert, "-days", "2", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)


class Link:
    """The gateway section of one server: its name and port, and those of the other."""

    def __init__(self, name, port, peer_name, peer_port):
        self.name, self.port, self.peer_name, self.peer_port = name, port, peer_name, peer_port


class Setting:
    """What a server is configured for beside its port."""

    def __init__(self, certificate=None, asks_clients=False, link=None, workers=None, worker_port=None):
        self.certificate, self.asks_clients, self.link = certificate, asks_clients, link
        self.workers = workers  # threads; None: the server's own choice
        self.worker_port = worker_port  # where the worker service of the event queue listens


def our_config(port, setting, is_edge=False, gather=None):
    """The least that event-service (or event-gateway) needs, as YAML (which JSON is)."""
    config = {"service": {"host": "127.0.0.1", "port": port}}
    certificate, link = setting.certificate, setting.link
    if is_edge:
        # event-gateway lets nobody in whom it does not know.
        config["service"]["disable_frontend_tls"] = True
        config["auth"] = {"users": [{"user": EDGE_USER, "password": EDGE_PASSWORD}]}
    if certificate is not None:
        config["tls"] = {"cert_path": certificate.cert, "key_path": certificate.key}
        if setting.asks_clients:
            config["tls"]["root_ca_path"] = certificate.cert
    threads = {"workers": setting.workers, "gather": gather}
    config["threads"] = {key: value for key, value in threads.items() if value is not None}
    if setting.worker_port is not None:
        config["handlers"] = {"bench": {"address": f"grpc://127.0.0.1:{setting.worker_port}", "in_flight_max": 256}}
        config["events"] = {"registry": {EVENT_TYPE: "bench"}}
    if link is not None:
        config["service"]["name"] = "bench-" + link.name  # in a super-cluster each has its own
        config["gateway"] = {"name": link.name, "host": "127.0.0.1", "port": link.port,
                             "remotes": [{"name": link.peer_name, "urls": [f"nats://127.0.0.1:{link.peer_port}"]}]}
    return json.dumps(config) + "\n"


def nats_config(port, setting):
    certificate, link = setting.certificate, setting.link
    lines = [f'listen: "127.0.0.1:{port}"']
    if certificate is not None:
        more = f', ca_file: "{certificate.cert}", verify: true' if setting.asks_clients else ""
        lines.append(f'tls {{ cert_file: "{certificate.cert}", key_file: "{certificate.key}"{more} }}')
    if link is not None:
        lines.append(f'gateway {{ name: {link.name}, listen: "127.0.0.1:{link.port}", gateways: '
                     f'[{{name: {link.peer_name}, url: "nats://127.0.0.1:{link.peer_port}"}}] }}')
    return "\n".join(lines) + "\n"


class Server:
    """One server process. `command` may hold {port}, {config} and {nats_config} (files with a minimal configuration of
    event-service and of nats-server) and {bin}."""

    def __init__(self, command, bin_folder, prefix=(), setting=None, is_edge=False):
        self.is_edge = is_edge and command in EDGE_PRESETS
        self.gather = GATHER if command == GATHERING else None
        self.template = EDGE_PRESETS[command] if self.is_edge else PRESETS.get(command, command)
        self.setting = setting or Setting()
        if (self.setting.certificate or self.setting.link) and "config}" not in self.template:
            raise Refused(f"{self.template}: TLS and links need {{config}} or {{nats_config}} in the command")
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
        values = [("bin", self.bin_folder), ("port", str(self.port))]
        for name, text in (("config", our_config(self.port, self.setting, self.is_edge, self.gather)),
                           ("nats_config", nats_config(self.port, self.setting))):
            path = os.path.join(self.folder, name)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            values.append((name, path))
        # Not str.format: a command line may hold other braces.
        command = self.template
        for name, value in values:
            command = command.replace("{" + name + "}", shlex.quote(value))
        environment = dict(os.environ)
        if self.setting.workers is not None:
            environment["GOMAXPROCS"] = str(self.setting.workers)  # nats-server has no key for it
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.prefix + shlex.split(command), stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=environment)
        self.wait_until_ready()
        return self

    def bench_arguments(self):
        """Where event-bench finds it, and how."""
        arguments = ["--server", f"127.0.0.1:{self.port}"]
        certificate = self.setting.certificate
        if certificate is not None:
            arguments += ["--tls-ca", certificate.cert]
        if self.setting.asks_clients:
            arguments += ["--tls-cert", certificate.cert, "--tls-key", certificate.key]
        if self.setting.worker_port is not None:
            arguments += ["--worker", f"127.0.0.1:{self.setting.worker_port}", "--subject", "event." + EVENT_TYPE]
        if self.is_edge:
            arguments += ["--user", EDGE_USER, "--password", EDGE_PASSWORD]
        if "bench-limit relay" in self.template:
            arguments.append("--raw")
        return arguments

    def pids(self):
        return [self.process.pid]

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


class Pair:
    """Two servers of a kind (event-gateway and event-service), linked: publishers at the first, subscribers at the
    second."""

    def __init__(self, command, bin_folder):
        ports = [free_port(), free_port()]
        self.servers = [Server(command, bin_folder, setting=Setting(link=Link("ab"[i], ports[i], "ba"[i], ports[1 - i])),
                               is_edge=i == 0) for i in range(2)]

    @property
    def info(self):
        return self.servers[0].info

    def bench_arguments(self):
        return self.servers[0].bench_arguments() + ["--subscriber-server", f"127.0.0.1:{self.servers[1].port}"]

    def pids(self):
        return [server.process.pid for server in self.servers]

    def __enter__(self):
        try:
            for server in self.servers:
                server.start()
            return self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        for server in self.servers:
            server.stop()


def server_for(kind, command, bin_folder, certificate=None, workers=None):
    """What a scenario of this kind is run against."""
    if kind == LINKED:
        return Pair(command, bin_folder)
    setting = Setting(workers=workers)
    if kind in (TLS, MUTUAL_TLS):
        setting.certificate, setting.asks_clients = certificate, kind == MUTUAL_TLS
    if kind == EVENTS:
        setting.worker_port = free_port()
    return Server(command, bin_folder, setting=setting)


def run_bench(bin_folder, server, arguments, measure_process=True):
    """One run of event-bench against the server. Returns its JSON, which tells whether the generator was the bottleneck;
    raises Refused when verification failed."""
    command = [os.path.join(bin_folder, "event-bench"), *arguments, *server.bench_arguments(), "--json", "-",
               "--allow-bottleneck"]
    if measure_process:
        command += ["--server-pid", ",".join(str(pid) for pid in server.pids())]
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


def compiler_of(path):
    """Compilers leave their name in what they make."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        return ""
    for pattern in (rb"\xff Go buildinf:.*?(go1\.[0-9.]+)", rb"(clang version [0-9.]+)", rb"GCC: \([^)]*\) ([0-9.]+)"):
        found = re.search(pattern, content, re.DOTALL)
        if found:
            return ("gcc " if b"GCC" in pattern else "") + found.group(1).decode()
    return "unknown"


def facts_of(program):
    """What a server is: its version, its compiler, its TLS library."""
    path = shutil.which(program) or program
    version, compiler = version_of(program), compiler_of(path)
    if compiler.startswith("go"):
        tls = "Go crypto/tls"
    else:
        try:
            with open(path, "rb") as file:
                found = re.search(rb"(?:private|system) [0-9]+\.[0-9]+\.[0-9]+(?=\0)", file.read())
        except OSError:
            found = None
        tls = f"wolfSSL, {found.group().decode()}" if found else "none"
    return {"version": version, "compiler": compiler, "tls": tls}


def cpu_model():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            found = re.search(r"^model name\s*:\s*(.*)$", file.read(), re.MULTILINE)
        return found.group(1) if found else ""
    except OSError:
        return ""


def stamp(bin_folder=None):
    """Where and when: what must be known to read a figure later.
    bin_folder: of the event-bench that makes the load."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": list(os.getloadavg()),
        "transport": "TCP on loopback, TLS where the scenario says so",
        "generator": version_of(os.path.join(bin_folder, "event-bench")) if bin_folder else "",
    }
