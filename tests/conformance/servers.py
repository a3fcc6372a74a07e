# SPDX-License-Identifier: GPL-2.0-or-later
"""Servers for the conformance and interop suites: certificates, ports, adapters, processes.

Settings are a dict with the key names of our own configuration; an adapter turns them into the file
of the server under test, so that one check runs against every server. Every port is given by the
system and held (bound, not listening) as long as the server is used, since a port that was only
free a moment ago, or that a server gave back to take it again, is now and then lost when servers
start side by side.
"""

import contextlib
import copy
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import threading

from peers import DEADLINE_S, CannotRun, Mismatch, connect, require, require_equal, wait_until

HOST = "127.0.0.1"


# --- certificates -------------------------------------------------------------------------------


class Certificates:
    """A certificate authority in a folder, made with openssl; files are made when first asked for.

    paths(name) gives (certificate, key) for a name that is both CN and DNS name, with localhost and
    127.0.0.1 added and both extended key usages; `ca` names the authority ("ca" or another one)."""

    def __init__(self, folder):
        self.folder = folder
        self.lock = threading.Lock()
        os.makedirs(folder, exist_ok=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def openssl(self, *words):
        subprocess.run(
            ("openssl",) + words,
            check=True,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )

    def make_ca(self, ca):
        if not os.path.exists(self.path(ca + ".crt")):
            self.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", ca + ".key")
            self.openssl(
                "req",
                "-x509",
                "-new",
                "-key",
                ca + ".key",
                "-subj",
                "/CN=" + ca,
                "-days",
                "30",
                "-addext",
                "keyUsage=critical,keyCertSign,cRLSign",
                "-out",
                ca + ".crt",
            )
        return self.path(ca + ".crt")

    def ca(self, ca="ca"):
        with self.lock:
            return self.make_ca(ca)

    def paths(self, name, ca="ca", hosts=True):
        """(certificate path, key path); hosts=False leaves localhost and 127.0.0.1 out."""
        with self.lock:
            self.make_ca(ca)
            stem = "%s-%s%s" % (ca, name, "" if hosts else "-only")
            if not os.path.exists(self.path(stem + ".crt")):
                names = "DNS:" + name + (",DNS:localhost,IP:127.0.0.1" if hosts else "")
                with open(self.path(stem + ".ext"), "w") as file:
                    file.write(
                        "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n"
                        "extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=%s\n" % names
                    )
                self.openssl(
                    "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", stem + ".key"
                )
                self.openssl(
                    "req",
                    "-new",
                    "-key",
                    stem + ".key",
                    "-subj",
                    "/CN=" + name,
                    "-out",
                    stem + ".csr",
                )
                self.openssl(
                    "x509",
                    "-req",
                    "-in",
                    stem + ".csr",
                    "-CA",
                    ca + ".crt",
                    "-CAkey",
                    ca + ".key",
                    "-CAcreateserial",
                    "-days",
                    "30",
                    "-extfile",
                    stem + ".ext",
                    "-out",
                    stem + ".crt",
                )
            return self.path(stem + ".crt"), self.path(stem + ".key")

    def client_context(self, name=None, ca="ca", client_ca="ca"):
        """A TLS client that trusts `ca` and shows the certificate of `name`, if given."""
        context = ssl.create_default_context(cafile=self.ca(ca))
        if name:
            context.load_cert_chain(*self.paths(name, client_ca))
        return context

    def server_context(self, name, ca="ca", verify=True):
        """A TLS server with the certificate of `name`, demanding one of `ca`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.paths(name, ca))
        if verify:
            context.load_verify_locations(self.ca(ca))
            context.verify_mode = ssl.CERT_REQUIRED
        return context


# --- servers ------------------------------------------------------------------------------------


def merge(base, more):
    """A deep copy of base with more laid over it; a None in more removes the key."""
    result = copy.deepcopy(base)
    for key, value in more.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merge(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def seconds(duration):
    """A duration of the settings ("2s", "600ms", "2m") in seconds."""
    match = re.fullmatch(r"([0-9.]+)(ms|s|m|h)", duration)
    return float(match.group(1)) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[match.group(2)]


def hold_port():
    """A port of the system's choice, kept from others by a bound socket that does not listen."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((HOST, 0))
    return sock, sock.getsockname()[1]


def listening_ports():
    """All ports in state LISTEN, from the kernel: asking so costs the server no connection."""
    ports = set()
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(path) as file:
            for line in file.readlines()[1:]:
                words = line.split()
                if words[3] == "0A":
                    ports.add(int(words[1].rsplit(":", 1)[1], 16))
    return ports


def yaml_text(value, indent=0):
    """Block YAML of dicts, lists and scalars; strings are written quoted, as JSON does."""
    pad = "  " * indent
    lines = []
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, (dict, list)) and item:
                lines.append("%s%s:" % (pad, key))
                lines.append(yaml_text(item, indent + 1))
            else:
                lines.append("%s%s: %s" % (pad, key, json.dumps(item)))
    else:
        for item in value:
            if isinstance(item, (dict, list)) and item:
                text = yaml_text(item, indent + 1)
                lines.append(pad + "- " + text[len(pad) + 2 :])
            else:
                lines.append("%s- %s" % (pad, json.dumps(item)))
    return "\n".join(lines)


class Server:
    """One running server. port, gateway_port (0 without), monitor_port; end it with stop()."""

    def __init__(self, adapter, settings, folder):
        self.adapter, self.folder = adapter, folder
        self.settings = settings
        self.process = None
        self.held = {}
        self.port = self.gateway_port = self.monitor_port = 0
        # A server that does not allow a held port gets one that was only free a moment ago.
        for hold in (True, True, False, False):
            if self.start(hold):
                return
        raise Mismatch("the server did not start", None, self.log_text()[-2000:])

    def start(self, hold):
        try:
            given = {}
            for key in self.adapter.ports_of(self.settings):
                self.held[key], given[key] = hold_port()
            self.port = given["service"]
            self.monitor_port = given.get("monitor", 0)
            self.gateway_port = given.get("gateway", 0)
            full = merge(
                self.settings, {key: {"host": HOST, "port": port} for key, port in given.items()}
            )
            self.write(full)
            if not hold:
                self.release()
            if self.spawn(set(given.values())):
                return True
            self.release()
            return False
        except BaseException:
            self.stop()
            raise

    def release(self):
        """Lets others have the ports."""
        while self.held:
            self.held.popitem()[1].close()

    def spawn(self, wanted):
        """Starts the program; True once it listens on all wanted ports, False if it has ended."""
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.process = subprocess.Popen(
                self.adapter.command(self.config_path),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.adapter.environment(),
            )
        wait_until(
            lambda: self.process.poll() is not None or wanted <= listening_ports(),
            "the server listens on %s" % sorted(wanted),
            self.adapter.start_deadline_s,
        )
        return self.process.poll() is None

    def restart(self):
        """Ends the server and starts it again with the same file, so on the same ports."""
        self.end()
        ports = {self.port, self.monitor_port, self.gateway_port} - {0}
        require(self.spawn(ports), "the server starts again", None, self.log_text()[-2000:])

    @property
    def config_path(self):
        return os.path.join(self.folder, self.adapter.config_name)

    def write(self, full):
        self.full = full
        with open(self.config_path, "w") as file:
            file.write(self.adapter.config_text(full))

    def rewrite(self, changes):
        """Lays changes over the settings of the running server; a SIGHUP then applies them."""
        self.write(merge(self.full, changes))

    def signal(self, number):
        os.kill(self.process.pid, number)

    def wait_exit(self, deadline_s=DEADLINE_S):
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise Mismatch("the server ends within %.1f s" % deadline_s) from None

    def stop(self):
        """The server is no longer used: as end(), and its ports are let go."""
        status = self.end()
        self.release()
        return status

    def end(self):
        """Ends the process and waits for it; returns its exit status (None if it never ran)."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def connect(self, name="client", **more):
        return connect(self.port, name, **more)

    def log_text(self):
        with contextlib.suppress(OSError), open(
            os.path.join(self.folder, "log"), errors="replace"
        ) as file:
            return file.read()
        return ""

    def fault_text(self):
        """What the log says of the end: a sanitizer's report from its first line, or the tail."""
        text = self.log_text()
        report = re.search(r"(WARNING: Thread|ERROR: \w+)Sanitizer|runtime error:", text)
        return text[report.start() :][:20000] if report else text[-1500:]

    def http(self, path, method="GET"):
        """(status, headers, body text) of the monitoring port."""
        if not self.monitor_port:
            raise CannotRun("no monitoring port")
        client = http.client.HTTPConnection(HOST, self.monitor_port, timeout=DEADLINE_S)
        try:
            client.request(method, path)
            answer = client.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()
        finally:
            client.close()

    def http_json(self, path):
        status, _, body = self.http(path)
        require_equal(status, 200, "GET " + path)
        return json.loads(body)


class Adapter:
    """How one kind of server is configured and started."""

    name = None
    config_name = None
    start_deadline_s = 60.0  # with a sanitizer, on a busy machine
    base = {}

    def __init__(self, program):
        self.program = program

    def ports_of(self, settings):
        """The sections of the settings that get a port of the system's choice."""
        return ["service", "monitor"] + (["gateway"] if "gateway" in settings else [])

    def command(self, path):
        raise NotImplementedError

    def config_text(self, settings):
        raise NotImplementedError

    def environment(self):
        return dict(os.environ)


class NatsServer(Adapter):
    """nats-server, from the same settings; what it has no key for is dropped."""

    name = "nats-server"
    config_name = "server.conf"
    LIMITS = {
        "max_connections": "max_connections",
        "max_payload": "max_payload",
        "max_control_line": "max_control_line",
        "max_pending": "max_pending",
        "max_subscriptions": "max_subscriptions",
        "max_subscription_tokens": "max_subscription_tokens",
        "ping_interval": "ping_interval",
        "ping_max": "ping_max",
        "write_deadline": "write_deadline",
    }

    def command(self, path):
        return [self.program, "-c", path]

    def config_text(self, settings):
        service = settings["service"]
        conf = {"host": service["host"], "port": service["port"]}
        if "name" in service:
            conf["server_name"] = service["name"]
        if "monitor" in settings:
            conf["http"] = "%s:%d" % (settings["monitor"]["host"], settings["monitor"]["port"])
        for key, value in settings.get("limits", {}).items():
            if key in self.LIMITS:
                conf[self.LIMITS[key]] = value
        if "tls" in settings:
            conf["tls"] = self.tls(settings["tls"])
            if settings["tls"].get("allow_plain"):
                conf["allow_non_tls"] = True
        if "auth" in settings:
            self.auth(conf, settings["auth"])
        if "gateway" in settings:
            conf["gateway"] = self.gateway(settings["gateway"])
        if "lame_duck" in settings:
            conf.update({"lame_duck_" + key: value for key, value in settings["lame_duck"].items()})
        conf.update(settings.get("nats-server", {}))
        return json.dumps(conf, indent=1) + "\n"

    @staticmethod
    def tls(tls):
        conf = {"cert_file": tls["cert_path"], "key_file": tls["key_path"]}
        if "root_ca_path" in tls:
            conf.update(ca_file=tls["root_ca_path"], verify=True)
        if "timeout" in tls:
            conf["timeout"] = seconds(tls["timeout"])
        return conf

    @staticmethod
    def auth(conf, auth):
        block = {key: auth[key] for key in ("token", "users", "default_permissions") if key in auth}
        if "timeout" in auth:
            block["timeout"] = seconds(auth["timeout"])
        conf["authorization"] = block
        if "no_auth_user" in auth:
            conf["no_auth_user"] = auth["no_auth_user"]

    def gateway(self, gateway):
        conf = {
            key: gateway[key] for key in ("name", "host", "port", "advertise") if key in gateway
        }
        if "user" in gateway:
            conf["authorization"] = {"user": gateway["user"], "password": gateway["password"]}
        if "tls" in gateway:
            conf["tls"] = self.tls(gateway["tls"])
        if gateway.get("reject_unknown"):
            conf["reject_unknown_cluster"] = True
        remotes = []
        for remote in gateway.get("remotes", []):
            entry = {"name": remote["name"], "urls": remote["urls"]}
            if "tls" in remote:
                entry["tls"] = self.tls(remote["tls"])
            remotes.append(entry)
        if remotes:
            conf["gateways"] = remotes
        return conf


class Ours(Adapter):
    """event-service (or event-gateway): the settings are its configuration file as they stand."""

    name = "ours"
    config_name = "server.yaml"
    base = {"queue": {"storage": "memory"}, "log": {"level": "debug"}}

    def command(self, path):
        return [self.program, "--config", path]

    def config_text(self, settings):
        return (
            yaml_text({key: value for key, value in settings.items() if key != "nats-server"})
            + "\n"
        )


ADAPTERS = {"nats-server": NatsServer, "ours": Ours}
