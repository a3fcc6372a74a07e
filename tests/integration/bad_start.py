#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts that must fail, and how: wrong configurations, wrong command lines, ports that cannot be had.

  bad_start.py --build build/release

Goal: whatever is wrong is told in one clear line that says where, what was found and what is allowed; the
exit status is 78 for a configuration, 2 for a command line, 1 for what goes wrong at run time; the program
never starts half, hangs or crashes. Method: each key of src/config/schema.def gets each kind of wrong value,
alone, by the real programs.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time

from bystanders import HOST, ROOT, SECRET, Mismatch, main, merge, require
from servers import hold_port, yaml_text

PROGRAMS = {"SERVICE": "event-service", "GATEWAY": "event-gateway"}
EXIT_RUN_TIME, EXIT_USAGE, EXIT_CONFIG = 1, 2, 78
NOBODY = 65534


def run(words, deadline_s=20.0, **more):
    """(status, standard output, standard error) of a program that must end by itself."""
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=deadline_s,
            stdin=subprocess.DEVNULL,
            **more
        )
    except subprocess.TimeoutExpired:
        raise Mismatch("%s ends by itself within %.0f s" % (words, deadline_s)) from None
    require("Sanitizer" not in done.stderr, "no complaint of a sanitizer", None, done.stderr)
    return done.returncode, done.stdout, done.stderr


def folder_of(bench, name):
    folder = os.path.join(bench.folder, name)
    os.makedirs(folder)
    os.chmod(folder, 0o755)
    return folder


# --- every key ----------------------------------------------------------------------------------------


# Where a row names the group inside, and what stands between in a path.
INNER = {
    "PART": (1, []),
    "PART_FLAG": (2, []),
    "SECTION": (2, []),
    "SECTION_FLAG": (3, []),
    "LIST": (3, [0]),
    "MAP": (3, ["some"]),
}


class Key:
    """One value of the configuration: path as messages name it, and the columns of its row."""

    def __init__(self, path, programs, kind, least=0, most=0, choices=(), default=None):
        self.path, self.programs, self.kind = path, programs, kind
        self.least, self.most, self.choices, self.default = least, most, choices, default


def split_row(text):
    """The columns of one macro call; a comma in a string is no border."""
    return [part.strip().strip('"') for part in re.findall(r'\s*("(?:[^"\\]|\\.)*"|[^,]+)', text)]


def read_schema():
    """Each key once, with the first path that leads to it, by src/config/schema.def."""
    with open(os.path.join(ROOT, "src", "config", "schema.def")) as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)
    groups = {}
    for macro, row in re.findall(r"(?m)^([A-Z_]+)\((.*)\)$", text):
        columns = split_row(row)
        groups.setdefault(columns[0], []).append((macro, columns[1:]))
    keys, later = [], []
    seen = set()

    def walk(group, path, programs):
        if group in seen:
            return
        seen.add(group)
        for macro, row in groups[group]:
            here = path + [row[0]]
            if macro == "KEY":
                keys.append(
                    Key(
                        here,
                        row[7] if row[7] != "BOTH" else programs,
                        row[1],
                        int(row[3]),
                        int(row[4]),
                        default=row[5],
                    )
                )
            elif macro == "CHOICE":
                keys.append(
                    Key(
                        here,
                        row[4] if row[4] != "BOTH" else programs,
                        "KIND_CHOICE",
                        choices=row[2].split("|"),
                    )
                )
            elif macro == "LATER":
                later.append((here, programs))
            elif macro in INNER:
                at, steps = INNER[macro]
                walk(row[at], here + steps, row[at + 1] if row[at + 1] != "BOTH" else programs)

    walk("ROOT", [], "BOTH")
    require(len(keys) > 70 and len(later) > 15, "the table of keys is read", None, (len(keys), len(later)))
    return keys, later


def path_text(path):
    text = ""
    for part in path:
        text += "[%d]" % part if isinstance(part, int) else ("." if text else "") + part
    return text


def wrong_values(key):
    """(YAML scalar, what the message must hold beside the key's name)"""
    many = str(10**18) if key.kind != "KIND_DURATION" else "300000d"
    if key.kind in ("KIND_COUNT", "KIND_PORT"):
        found = [
            ("ten", "allowed"),
            ("-1", "allowed"),
            ("1.5", "allowed"),
            ("99999999999999999999", "allowed"),
            (str(key.most + 1), "allowed"),
        ]
        found += [(str(key.least - 1), "allowed")] if key.least > 0 else []
        form = "auto or a" if key.default == "auto" else "a"
        return [(value, '"%s" was found, %s ' % (value, form)) for value, _ in found]
    if key.kind in ("KIND_SIZE", "KIND_SIZE_32"):
        values = ["big", "10 parsecs", "-5", str(key.most + 1), many] + (
            [str(key.least - 1)] if key.least > 1 else []
        )
        form = "auto or a size from" if key.default == "auto" else "a size from"
        return [(value, '"%s" was found, %s ' % (value, form)) for value in values]
    if key.kind == "KIND_DURATION":
        values = ["soon", "2y", "-1s", "1", many, "%dns" % (key.most + 1)] + (
            ["%dns" % (key.least - 1)] if key.least > 0 else []
        )
        if key.most >= 10**9 >= key.least:
            values.remove("1")  # seconds
        return [(value, '"%s" was found, a duration from ' % value) for value in values]
    if key.kind == "KIND_CHOICE":
        built = [choice for choice in key.choices if not choice.startswith("!")]
        texts = (
            [("nonsense", '"nonsense" was found, one of %s is allowed' % ", ".join(built))]
            if len(built) > 1
            else [("nonsense", "nonsense")]
        )
        return texts + [(choice[1:], "not yet built") for choice in key.choices if choice.startswith("!")]
    if key.kind == "KIND_FLAG":
        return [("maybe", "true or false is allowed"), ("1", "true or false is allowed")]
    if key.kind == "KIND_PATH":
        return [("/nonexistent/file", "/nonexistent/file cannot be read"), (".", "cannot be read")]
    if key.kind == "KIND_NEW_PATH":
        return [("/nonexistent/folder/file", "/nonexistent/folder cannot be used")]
    if key.kind == "KIND_HOST":
        return [('"bad host!"', "a host name or a numeric address is allowed"), ("1.2.3.4.5", "is allowed")]
    if key.kind in ("KIND_HOST_PORT", "KIND_HANDLER_ADDRESS"):
        return [("nonsense", "HOST:PORT"), ("a:0", "HOST:PORT"), ("a:65536", "HOST:PORT")]
    if key.kind == "KIND_URLS":
        return [('["http://a:1"]', "nats://HOST:PORT"), ('["nats://a"]', "nats://HOST:PORT")]
    if key.kind in ("KIND_TEXT", "KIND_SECRET"):
        return [
            ('"%s"' % ("x" * (key.most + 1)), "of %d to %d" % (key.least, key.most)),
            ('"a\\x07b"', "printable"),
        ] + ([('""', "of %d to %d" % (key.least, key.most))] if key.least == 1 else [])
    require(key.kind == "KIND_TEXTS", "a kind that this test knows", None, key.kind)
    return [('["%s"]' % ("x" * (key.most + 1)), "a list of texts"), ("[[1]]", "")]


def write_nested(path, value):
    """YAML with one value at this path, and the line and column where the value stands."""
    lines, indent, lead = [], 0, ""
    for at, part in enumerate(path):
        if isinstance(part, int):
            lead = " " * indent + "- "
            indent += 2
            continue
        start = lead or " " * indent
        lead = ""
        if at + 1 == len(path):
            lines.append("%s%s: %s" % (start, part, value))
            return "\n".join(lines) + "\n", len(lines), len(start) + len(part) + 3
        lines.append("%s%s:" % (start, part))
        indent += 2
    raise Mismatch("a path that ends with a name", None, path)


def programs_of(bench, programs):
    return [bench.program(PROGRAMS[name]) for name in PROGRAMS if programs in (name, "BOTH")]


def every_key(bench):
    """Each wrong value of each key: status 78, and the line of this key at its place in the file."""
    folder = folder_of(bench, "every_key")
    path = os.path.join(folder, "wrong.yaml")
    tried = 0
    for key in read_schema()[0]:
        for value, words in wrong_values(key):
            text, line, column = write_nested(key.path, value)
            with open(path, "w") as file:
                file.write(text)
            name = path_text(key.path)
            for program in programs_of(bench, key.programs):
                status, out, err = run([program, "--config", path])
                case = "%s with %s: %s" % (os.path.basename(program), name, value[:60])
                require(status == EXIT_CONFIG, case + ": status", EXIT_CONFIG, "%s %s" % (status, err))
                require(out == "", case + ": nothing on standard output", "", out)
                at = "%s:%d:" % (path, line)
                lines = [
                    row
                    for row in err.splitlines()
                    if row.startswith(at) and " %s" % name in row and words in row
                ]
                require(lines, case + ": a line with key and reason", at + " ... " + words, err)
                # In a list the place is the item's.
                place = int(lines[0][len(at) :].split(":")[0])
                require(column <= place <= column + 1, case + ": column", column, place)
                tried += 1
    require(tried > 300, "many values were tried", "> 300", tried)


def every_section(bench):
    """Unknown keys are refused in each map, keys of later versions by their name, and maps given as text."""
    folder = folder_of(bench, "every_section")
    path = os.path.join(folder, "wrong.yaml")
    keys, later = read_schema()
    wrong = [(where, "1", programs, "not yet built") for where, programs in later]
    sections = {}
    for key in keys:
        sections.setdefault(tuple(key.path[:-1]), key.programs)
    wrong += [
        (list(where) + ["no_such_key"], "1", programs, "unknown key") for where, programs in sections.items()
    ]
    wrong += [
        ([where[0]], "5", programs, "is allowed")
        for where, programs in sections.items()
        if len(where) == 1 and where[0] != "log"
    ]
    for where, value, programs, words in wrong:
        text, line, _ = write_nested(where, value)
        with open(path, "w") as file:
            file.write(text)
        for program in programs_of(bench, programs)[:1]:
            status, _, err = run([program, "--check-config", "--config", path])
            case = "%s: %s" % (os.path.basename(program), path_text(where))
            require(status == EXIT_CONFIG, case + ": status", EXIT_CONFIG, "%s %s" % (status, err))
            found = [
                row for row in err.splitlines() if row.startswith("%s:%d:" % (path, line)) and words in row
            ]
            require(found, case + ": a line with key and reason", words, err)


def many_errors(bench):
    """All that is wrong is told in one run, in one line each; secrets are not shown; no flood of lines."""
    folder = folder_of(bench, "many_errors")
    path = os.path.join(folder, "wrong.yaml")
    text = """service:
  port: 70000
  nme: x
limits: {max_payload: big, ping_max: 0}
auth:
  token: "%s\\x07"
  users:
    - {user: a, password: "%s\\x01"}
gateway:
  remotes:
    - {name: B, urls: ["nats://u:%s@"]}
log:
  level: loud
""" % (SECRET, SECRET, SECRET)
    with open(path, "w") as file:
        file.write(text)
    wanted = {
        "2:9": "service.port",
        "3:3": "service.nme",
        "4:23": "limits.max_payload",
        "4:38": "limits.ping_max",
        "6:10": "auth.token",
        "8:27": "auth.users[0].password",
        "11:24": "gateway.remotes[0].urls[0]",
        "13:10": "log.level",
    }
    for program in programs_of(bench, "BOTH"):
        status, _, err = run([program, "--config", path])
        require(status == EXIT_CONFIG, "status", EXIT_CONFIG, status)
        for place, name in wanted.items():
            require("%s:%s: %s: " % (path, place, name) in err, "the line of %s" % name, place, err)
        require(SECRET not in err, "no secret is shown", None, err)
    with open(path, "w") as file:
        file.write("".join("key%d: 1\n" % number for number in range(900)))
    status, _, err = run([program, "--config", path])
    require(
        status == EXIT_CONFIG and len(err.splitlines()) <= 110,
        "lines are bounded",
        "<= 110",
        len(err.splitlines()),
    )
    require("more errors" in err.splitlines()[-1], "and the rest is counted", None, err[-200:])


def wrong_files(bench):
    """A file that is missing, a folder, unreadable, endless, binary, cut or deep: status 78 and one line."""
    folder = folder_of(bench, "wrong_files")

    def write(name, data):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)
        return os.path.join(folder, name)

    loop = os.path.join(folder, "loop.yaml")
    os.symlink(loop, loop)
    wrong = [
        (os.path.join(folder, "missing.yaml"), "not found"),
        (folder, "cannot be read"),
        (loop, "cannot be read"),
        ("/dev/zero", "cannot be read"),
        (write("binary.yaml", bytes(range(256)) * 20), "not valid YAML"),
        (write("cut.yaml", b"service: {port: [1\n"), "not valid YAML"),
        (write("tab.yaml", b"service:\n\tport: 1\n"), "not with tabs"),
        (write("subject.yaml", b"auth: {users: [{user: a, password: b, permissions: {publish: 'a..b'}}]}\n"), '"a..b"'),
        (write("type.yaml", b"events: {registry: {'a..': feed}}\n"), "events"),
        (write("deep.yaml", b"a: " + b"[" * 100000), ""),
        (write("alias.yaml", b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"), ""),
        (write("twice.yaml", b"service: {port: 1}\nservice: {port: 2}\n"), "twice"),
        (write("cut.toml", b"[service\nport = 1\n"), ""),
        (write("twice.toml", b"[log]\nlevel = 'info'\n[log]\n"), "twice"),
        (write("deep.toml", b"a = " + b"[" * 100000), ""),
        (write("unset.yaml", b'service: {name: "${ES_THIS_IS_NOT_SET}"}\n'), "ES_THIS_IS_NOT_SET"),
        (write("huge.yaml", b"# " + b"x" * (64 << 20)), ""),
    ]
    for path, words in wrong:
        for program in programs_of(bench, "BOTH"):
            status, out, err = run([program, "--config", path])
            require(status == EXIT_CONFIG, path + ": status", EXIT_CONFIG, "%s %s" % (status, err[:300]))
            require(
                out == "" and err.startswith(path + ":"),
                path + ": a line with the file's name",
                None,
                err[:300],
            )
            require(words in err and len(err.splitlines()) <= 3, path + ": one clear line", words, err[:600])
    secret = write("secret.yaml", b"service: {}\n")
    os.chmod(secret, 0)
    with as_nobody(bench, "event-service") as words:
        status, _, err = run(words + ["--config", secret])
    require(status == EXIT_CONFIG and "permission denied" in err, "unreadable", "permission denied", err)


@contextlib.contextmanager
def as_nobody(bench, kind):
    """The words that start a program without any right; a copy where the build folder is closed to others."""
    if os.getuid() != 0:
        yield [bench.program(kind)]
        return
    copy = os.path.join(bench.folder, "nobody-%d" % time.monotonic_ns())
    os.makedirs(copy)
    os.chmod(copy, 0o755)
    program = shutil.copy(bench.program(kind), copy)
    os.chmod(program, 0o755)
    yield [
        "setpriv",
        "--reuid=%d" % NOBODY,
        "--regid=%d" % NOBODY,
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
        program,
    ]


# --- the command line -----------------------------------------------------------------------------------


def command_line(bench):
    """--help and --version end with 0; what is wrong ends with 2 and one line that names --help."""
    with open(os.path.join(folder_of(bench, "command_line"), "good.yaml"), "w") as file:
        file.write("service: {disable_frontend_tls: false}\n")
    good = os.path.join(bench.folder, "command_line", "empty.yaml")
    with open(good, "w") as file:
        file.write("")
    for kind in PROGRAMS.values():
        program = bench.program(kind)
        for word in ("--help", "-h"):
            status, out, err = run([program, word])
            require((status, err) == (0, ""), word, (0, ""), (status, err))
            for part in ("usage: " + kind, "--config", "--check-config", "--version", "exit status"):
                require(part in out, word + " names " + part, part, out)
        for word in ("--version", "-v"):
            status, out, err = run([program, word])
            require(
                status == 0 and re.fullmatch(kind + r" \d+\.\d+\.\d+\S*\n", out) and not err,
                word,
                None,
                out + err,
            )
        for words in (
            [],
            ["--nonsense"],
            ["-z"],
            ["--config"],
            ["--config", good, "more"],
            ["more"],
            ["-t"],
            ["--config=" + good, "--nonsense"],
            [""],
        ):
            status, out, err = run([program] + words)
            require(status == EXIT_USAGE, "status of %s" % words, EXIT_USAGE, "%s %s" % (status, err))
            require(
                out == "" and len(err.splitlines()) == 1 and err.startswith(kind + ": ") and "--help" in err,
                "one line for %s" % words,
                None,
                out + err,
            )
    status, out, err = run([bench.program("event-service"), "-t", "-c", good])
    require(
        status == 0 and out.startswith("service:\n") and "is valid" in err, "--check-config", None, out + err
    )
    for words in (
        ["token"],
        ["token", "nonsense"],
        ["token", "add"],
        ["health-check", "--nonsense"],
        ["health-check"],
    ):
        status, out, err = run([bench.program("event-gateway")] + words)
        require(
            status == EXIT_USAGE and err.startswith("event-gateway ") or err.startswith("event-gateway:"),
            "%s" % words,
            EXIT_USAGE,
            "%s %s" % (status, err),
        )
        require(
            status == EXIT_USAGE and len(err.splitlines()) == 1,
            "%s" % words,
            EXIT_USAGE,
            "%s %s" % (status, err),
        )
    # What is written cannot be: a full disk under --help is no success.
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [bench.program("event-service"), "--check-config", "--config", good],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=20,
        )
    require(
        done.returncode == EXIT_RUN_TIME, "--check-config onto a full disk", EXIT_RUN_TIME, done.returncode
    )


# --- ports ----------------------------------------------------------------------------------------------

DOORS = {
    "event-service": {"service": "clients", "gateway": "gateways", "monitor": "monitoring", "grpc": "gRPC"},
    "event-gateway": {"service": "clients", "gateway": "gateways", "monitor": "monitoring"},
}


def start_settings(kind, ports):
    settings = {key: {"host": HOST, "port": port} for key, port in ports.items()}
    return merge(
        settings,
        (
            {"service": {"disable_frontend_tls": True}, "auth": {"token": SECRET + "token"}}
            if kind == "event-gateway"
            else {}
        ),
    )


def write_settings(folder, settings):
    path = os.path.join(folder, "server-%d.yaml" % time.monotonic_ns())
    with open(path, "w") as file:
        file.write(yaml_text(settings) + "\n")
    os.chmod(path, 0o644)
    return path


def last_line(err):
    """What is told beside the log, which goes to standard error too."""
    lines = [line for line in err.splitlines() if not line.startswith("[")]
    require(len(lines) == 1, "one clear line", 1, err)
    return lines[0]


def taken_ports(bench):
    """Each door's port is another's: status 1, and one line with door, address and advice."""
    folder = folder_of(bench, "taken_ports")
    for kind, doors in DOORS.items():
        for door, word in doors.items():
            held = {key: hold_port() for key in doors}
            try:
                held[door][0].listen()
                path = write_settings(
                    folder, start_settings(kind, {key: port for key, (_, port) in held.items()})
                )
                for key, (sock, _) in held.items():
                    if key != door:
                        sock.close()
                status, _, err = run([bench.program(kind), "--config", path])
            finally:
                for sock, _ in held.values():
                    sock.close()
            wanted = "%s: cannot listen for %s on %s:%d: another process has this port" % (
                kind,
                word,
                HOST,
                held[door][1],
            )
            require(
                status == EXIT_RUN_TIME,
                "%s %s: status" % (kind, door),
                EXIT_RUN_TIME,
                "%s %s" % (status, err),
            )
            require(last_line(err).startswith(wanted), "%s %s" % (kind, door), wanted, err)
            require(SECRET not in err, "no secret is shown", None, err)


def foreign_address(bench):
    """An address that this machine does not have: the same."""
    folder = folder_of(bench, "foreign_address")
    for kind in DOORS:
        settings = merge(
            start_settings(kind, {"service": 4222}), {"service": {"host": "192.0.2.1", "insecure": True}}
        )
        status, _, err = run([bench.program(kind), "--config", write_settings(folder, settings)])
        require(
            status == EXIT_RUN_TIME and "192.0.2.1:4222" in last_line(err),
            kind,
            "this machine has no such address",
            err,
        )


def privileged_ports(bench):
    """A port that needs a right, without it: status 1 and one line that says which right."""
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
        first = int(file.read())
    # Where the system lets everybody have all ports there is nothing to refuse.
    require(first > 1, "this system has privileged ports (net.ipv4.ip_unprivileged_port_start)", "> 1", first)
    if os.getuid() != 0:
        with open("/proc/self/status") as file:
            capabilities = int(re.search(r"CapEff:\s+(\w+)", file.read()).group(1), 16)
        require(capabilities & 1 << 10 == 0, "this test runs as root or without CAP_NET_BIND_SERVICE")
    folder = folder_of(bench, "privileged_ports")
    for kind, doors in DOORS.items():
        for door, word in doors.items():
            held = {key: hold_port() for key in doors}
            ports = {key: port for key, (_, port) in held.items()}
            ports[door] = free_port_below(first)
            path = write_settings(folder, start_settings(kind, ports))
            for sock, _ in held.values():
                sock.close()
            with as_nobody(bench, kind) as words:
                status, _, err = run(words + ["--config", path])
            wanted = "%s: cannot listen for %s on %s:%d: no right to listen there" % (
                kind,
                word,
                HOST,
                ports[door],
            )
            require(
                status == EXIT_RUN_TIME,
                "%s %s: status" % (kind, door),
                EXIT_RUN_TIME,
                "%s %s" % (status, err),
            )
            require(last_line(err).startswith(wanted), "%s %s" % (kind, door), wanted, err)


def free_port_below(first):
    for port in range(first - 1, 0, -1):
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) != 0:
                return port
    raise Mismatch("a free port below %d" % first)


def wrong_material(bench):
    """Files that are there and wrong: key of another certificate, garbage, an empty authority: no start."""
    folder = folder_of(bench, "wrong_material")
    good, bad = bench.pair("event-service"), os.path.join(bench.certs, "bad")
    good["root_ca_path"] = bench.cert("ca")
    garbage, empty = os.path.join(bad, "garbage.crt"), os.path.join(bad, "empty.crt")
    mismatch = {
        "cert_path": os.path.join(bad, "key-mismatch.crt"),
        "key_path": os.path.join(bad, "key-mismatch.key"),
    }
    wrong = [
        ("tls", merge(good, mismatch)),
        ("tls", merge(good, {"cert_path": garbage})),
        ("tls", merge(good, {"cert_path": empty})),
        ("tls", merge(good, {"key_path": garbage})),
        ("tls", merge(good, {"key_path": empty})),
        ("tls", merge(good, {"root_ca_path": garbage})),
        ("tls", merge(good, {"root_ca_path": empty})),
    ]
    for number, (section, tls) in enumerate(wrong):
        sock, port = hold_port()
        sock.close()
        path = write_settings(folder, {"service": {"host": HOST, "port": port}, section: tls})
        status, _, err = run([bench.program("event-service"), "--config", path])
        require(
            status in (EXIT_RUN_TIME, EXIT_CONFIG),
            "wrong TLS file %d: status" % number,
            "1 or 78",
            "%s %s" % (status, err),
        )
        name = next(os.path.basename(value) for key, value in tls.items() if value != good[key])
        require(os.path.splitext(name)[0] in last_line(err), "wrong TLS file %d: named" % number, name, err)
    for text in (b"nonsense\n", b"\0\1\2", b"name sha256:00 publish:> extra\n"):
        tokens = os.path.join(folder, "tokens")
        with open(tokens, "wb") as file:
            file.write(text)
        os.chmod(tokens, 0o600)
        settings = merge(
            start_settings("event-gateway", {"service": port}),
            {"auth": {"token_file": tokens, "token": None}},
        )
        status, _, err = run([bench.program("event-gateway"), "--config", write_settings(folder, settings)])
        require(
            status in (EXIT_RUN_TIME, EXIT_CONFIG) and "tokens" in last_line(err),
            "a wrong token file stops the start",
            "1 or 78",
            "%s %s" % (status, err),
        )


def printed_configuration(bench):
    """What --check-config prints is a configuration: read again it prints the same, with the same digest. Secrets are
    masked in it, so that it is refused when it is to run."""
    folder = folder_of(bench, "printed")
    given, printed = (os.path.join(folder, name) for name in ("given.yaml", "printed.yaml"))
    with open(given, "w") as file:
        file.write(
            "service: {port: 0}\nauth: {token: %s}\nlog: {file: here.log}\n"
            "gateway: {port: 0, remotes: [{name: other, urls: [nats://user:%s@127.0.0.1:1]}]}\n" % (SECRET, SECRET)
        )
    for program in programs_of(bench, "BOTH"):
        status, first, err = run([program, "--check-config", "--config", given])
        require(status == 0 and SECRET not in first + err, "the secret is not shown", None, first + err)
        require(re.search(r"^# config_digest: sha256:[0-9a-f]{64}$", first, re.M), "a digest", None, first)
        with open(printed, "w") as file:
            file.write(first)
        # From another folder: what is printed does not lean on where it was read.
        status, second, err = run([program, "--check-config", "--config", os.path.relpath(printed, "/")], cwd="/")
        require(status == 0 and second == first, "the same again", first, second + err)
        require('file: "%s/here.log"' % folder in first, "paths are absolute", None, first)
        status, _, err = run([program, "--config", printed])
        require(
            status == EXIT_CONFIG and "******" in last_line(err),
            "masked secrets are no secrets",
            EXIT_CONFIG,
            "%s %s" % (status, err),
        )
        status, keys, err = run([program, "--keys"])
        require(status == 0 and "\nauth.token_file\n" in keys and not err, "--keys", None, keys + err)


CASES = [
    every_key,
    every_section,
    wrong_files,
    privileged_ports,
    taken_ports,
    command_line,
    printed_configuration,
    many_errors,
    wrong_material,
    foreign_address,
]

if __name__ == "__main__":
    sys.exit(main(CASES, "starts that must fail"))
