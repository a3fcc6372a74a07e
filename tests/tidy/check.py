#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the code and checks the rules of docs/style.md (section 15) that no compiler knows.

    usage: tests/tidy/check.py [--root DIR] [--build DIR] [--only RULE,...] [--no-notes] [--list]

A finding is one line, "FILE:LINE: [RULE] what is wrong"; sizes are only reported ("note:"). The last line is
"N passed, N failed", a rule each. Objects, the library and the compilers' options come from --build (build/release).

A rule is never weakened for one file: the file goes into a table below, with its reason, and an entry of a table that
names a file that is no longer there is a finding as well. tests/tidy/test_check.py plants a fault for every rule.
"""
import argparse
import concurrent.futures
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(HERE)), "scripts", "pages"))
sys.dont_write_bytecode = True

import all_pages  # noqa: E402
import log_events_page  # noqa: E402
import metrics_page  # noqa: E402  (these stand in scripts/pages)
from c_source import (  # noqa: E402
    ATOMIC,
    DIRECTIVE,
    LOCK,
    MEMORY_ORDERS,
    RCU_READ,
    Tree,
    blank,
    functions,
    line_of,
    lock_purpose,
    matching_close,
    memory_orders,
    order_reason,
)

# --- tables: the facts and the reasoned exceptions -------------------------------------------------------------------

# A layer includes itself and what its row names (docs/style.md, section 1).
BELOW_ACTORS = "base env proto config event runtime net auth broker journal"
LAYERS = {
    "base": "",
    "env": "base",
    "proto": "base",
    "config": "base env",
    "event": "base proto",
    "runtime": "base env",
    "net": "base env",
    "auth": "base env proto",
    "broker": "base proto auth",
    "journal": "base env event",
    "actors": BELOW_ACTORS,
    "server": BELOW_ACTORS + " actors",
    "programs": "",
    "event_bench": "base env proto net",
    "event_docs": "base config env",
    "event_top": "base env proto net",
}
# Folders of src/programs that are checked as layers: everything but their main is a library.
PROGRAM_LAYERS = {"event_bench", "event_docs", "event_top"}

# Who may include <eventservice/...>, the public interface.
PUBLIC_INCLUDERS = {
    "include/eventservice/": "the public headers themselves",
    "src/base/err.h": "the error codes are public; inside they are taken from here",
    "src/server/": "implements the public interface",
    "src/programs/": "programs are users of the public interface",
}

# Third-party headers, each in its file or files; a header that is neither here nor in C_LIBRARY is refused.
THIRD_PARTY = {
    "wolfssl/": {
        "src/net/tls.c": "TLS: the library as a whole",
        "src/net/tls_context.c": "TLS: settings",
        "src/net/tls_files.c": "TLS: certificates and keys",
        "src/net/tls_session.c": "TLS: connections",
        "src/net/tls_verify.c": "TLS: who the peer is",
        "src/base/crypto.c": "ciphers and digests",
    },
    "urcu/": {"src/base/rcu.c": "the only door to liburcu; stricter than base/rcu.h, so that no user sees it"},
    "yaml.h": {"src/config/yaml_reader.c": "reads YAML"},
    "nghttp2/": {"src/net/http2_internal.h": "HTTP/2 frames; included by the files behind net/http2.h alone"},
    "crypt.h": {"src/base/crypto.c": "bcrypt"},
    "jansson.h": {
        "src/event/event_json.c": "events as JSON",
        "src/programs/event_bench/bench_client.c": "INFO, read apart from the server's own reader that it measures",
    },
    # protobuf-c and what protoc-c generates.
    "protobuf-c/": {"src/event/": "the protobuf form of events"},
    "event/event.pb-c.h": {"src/event/": "generated from event.proto"},
    "event/ingest.pb-c.h": {"src/event/": "generated from ingest.proto"},
    "event/compliance_ingest.pb-c.h": {"src/event/": "generated from compliance_ingest.proto"},
    "event/event_feed.pb-c.h": {"src/event/": "generated from event_feed.proto"},
    "google/protobuf/": {"src/event/": "generated from protobuf's own files"},
}

C_LIBRARY = set(
    """assert.h complex.h ctype.h errno.h fenv.h float.h inttypes.h limits.h locale.h math.h setjmp.h signal.h
    stdalign.h stdarg.h stdatomic.h stdbool.h stddef.h stdint.h stdio.h stdlib.h stdnoreturn.h string.h time.h wchar.h
    arpa/inet.h dirent.h execinfo.h fcntl.h getopt.h malloc.h netdb.h netinet/in.h netinet/tcp.h poll.h pthread.h
    sched.h strings.h unistd.h sys/epoll.h sys/eventfd.h sys/file.h sys/mman.h sys/prctl.h sys/random.h sys/resource.h
    sys/socket.h sys/stat.h sys/sysinfo.h sys/syscall.h sys/time.h sys/types.h sys/uio.h sys/un.h sys/utsname.h
    sys/wait.h""".split()
)
# src/env is the one door to sockets, polling and randomness, so that a simulated world can stand behind it.
DOOR_HEADERS = {
    "netdb.h", "netinet/in.h", "netinet/tcp.h", "poll.h", "sys/epoll.h", "sys/eventfd.h", "sys/random.h", "sys/socket.h",
}

# Global symbols of X.o begin with esi_X (or es_, the public interface); these files have other prefixes.
SYMBOL_PREFIXES = {
    "src/env/env_sim_net.c": {"esi_env_sim_": "the network of env_sim; declared in env_sim.h"},
    "src/env/env_sim_trace.c": {"esi_env_sim_": "the trace of env_sim; declared in env_sim.h"},
    "src/runtime/move.c": {"esi_actor_move": "the actor's side of a move; declared in actor.h"},
    "src/net/http1_request.c": {"esi_http1_": "a request of http1.h: what it says"},
    "src/journal/journal_memory.c": {"esi_journal_": "implements journal.h, which other stores implement too"},
    "src/broker/batch.c": {"esi_delivery_": "a delivery is what a batch hands over; declared in batch.h"},
    "src/broker/target.c": {"esi_targets_": "the set of all targets, named by the plural"},
}

# Headers that are no headers of their own: included more than once.
REPEATED_HEADERS = {"src/config/schema_undef.h": "forgets the macros of schema.def after each use"}

# Files that read RCU pointers without a named section of their own.
RCU_READ_ELSEWHERE = {
    "src/base/rcu.h": "defines the macro",
    "src/broker/rcu_map.c": "a look-up belongs to the section of its caller",
}

# Functions that no source calls, each with what it is there for; a place that ends with an underscore stands for all
# that begin so.
NOT_CALLED = {
    # For tests.
    "esi_env_sim_": "the simulated world: tests/sim is built on it",
    "esi_event_json_encode": "tests and fuzzing decode what it writes",
    "esi_event_protobuf_append_publish_request": "the simulation's publisher",
    "esi_grpc_client_in_flight": "tests look inside",
    "esi_grpc_client_is_done": "the simulation's publisher",
    "esi_http2_session_bytes": "tests look inside",
    "esi_stream_tls_alpn": "tests see that ALPN is agreed on",
    "esi_subject_is_subset": "the plain rule that the walks of permissions are compared with",
    "esi_subject_overlaps": "as esi_subject_is_subset",
    "esi_token_file_at": "tests and fuzzing look at what was parsed",
    # For features that are still to be built.
    "esi_dead_letters_remove": "replay and purge of dead letters",
}

# Refused in the code of all C files: (pattern, what to do instead).
REFUSED_CODE = [
    (r"\bvolatile\b", "volatile orders nothing: use an atomic"),
    (r"\b(?:strcpy|strcat|stpcpy|strncpy|strncat)\s*\(", "use base/str.h, base/bytes.h or memcpy"),
    (r"\bv?sprintf\s*\(", "use snprintf or base/bytes.h"),
    (r"\b(?:atoi|atol|atoll|atof)\s*\(", "use base/num.h, which tells errors"),
    (r"(?<![\w.>])(?:rand|srand|random|srandom|rand_r|drand48)\s*\(", "use the randomness of env, or a seeded generator"),
    (r"\balloca\s*\(", "the stack has no bound check"),
    (r"\bgets\s*\(", "has no bound"),
    (r"\bstrtok(?:_r)?\s*\(", "changes what it reads"),
    (r"\btypedef\b[^;{]*\b\w+_t\s*;", "names in _t belong to POSIX: write struct or enum out"),
    (r"\b__(?:atomic|sync)_\w+\s*\(", "use the atomic_*_explicit functions of C11"),
]
REFUSED_WORDS = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
REFUSED_NAMES = {"util", "utils", "common", "misc", "helper", "helpers"}
# Files that must name what they refuse.
NAMES_WHAT_IS_REFUSED = {
    "docs/style.md": "states the rules",
    "tests/tidy/check.py": "checks the rules",
    "tests/tidy/test_check.py": "plants faults",
}

# Tests wait for events, never for time. File: how many calls may stand there, and why.
SLEEPS = {
    "tests/integration/events.py": (1, "case_restart: paces a publisher, nothing waits on it"),
    "tests/integration/run_once.py": (1, "wait_until: looks again for an event that nobody signals, with a deadline"),
    "tests/support/grpc_peer.h": (1, "peer_stop: looks again for the end of a child, with a deadline"),
    "tests/support/grpc_worker.py": (1, "plays a slow worker service: the delay is what the test asks for"),
}

# What says where or how the work was done means nothing to a reader of the project.
FOREIGN_TEXT = [
    (re.compile(r"(?<![\w.$}*])/(?:home|root|work|farm|Users|mnt|scratch)/[\w.]"), "a path of somebody's machine"),
    (re.compile(r"(?<![\w.$}])/tmp/(?![^\s\"']*X{6})\w"), "a fixed name in /tmp: use mkdtemp, or say where it is made"),
    (re.compile(r"\b(?:work|coding|chat|earlier|previous|later|another)[ -]sessions?\b", re.I), "how work was organised"),
    (re.compile(r"\b(?:helper|coding|ai|sub)[ -]?agents?\b|\blanguage models?\b|\bAI assistants?\b", re.I),
     "how work was organised"),
    (re.compile(r"\b(?:registry|pypi|mirror|proxy|artifactory|nexus)(?:\.[a-z0-9-]+)+\.[a-z]{2,}\b", re.I),
     "a host of a package registry"),
]
# Hosts that a URL in the project may name; a host without a dot and documentation names are free.
URL_HOSTS = {
    "127.0.0.1": "this machine",
    "0.0.0.0": "any address",
    "github.com": "public projects",
    "json-schema.org": "names the version of JSON Schema",
    "nats.io": "the protocol's home",
    "docs.nats.io": "the protocol's documentation",
    "www.gnu.org": "the licence",
    "www.w3.org": "names the format SVG",
}

# src/actors holds one file an actor; these are their parts.
ACTOR_PARTS = {
    "auth_check.c": "the question to the authenticator, and its answer",
    "byte_pipe.c": "a state machine's bytes to and from a stream, for the gRPC actors",
    "client_subs.c": "the subscriptions of one connection",
    "connection_auth.c": "connection: INFO, the TLS handshake, CONNECT",
    "connection_close.c": "connection: its end",
    "connection_input.c": "connection: reading, parsing, publishing",
    "connection_output.c": "connection: deliveries and writing",
    "connection_pressure.c": "connection: short memory, and targets that hold publishers back",
    "connection_subs.c": "connection: SUB and UNSUB",
    "context.c": "what all actors of one server share",
    "credentials.c": "authenticator: users and tokens of the configuration",
    "fair_queue.c": "whose turn it is before it is known who they are, for the listener and the authenticator",
    "gateway_acceptor.c": "gateway link: the role of the accepting side",
    "gateway_dialler.c": "gateway link: the role of the dialling side",
    "gateway_gossip.c": "gateway: what peers tell of clusters, and are told",
    "gateway_interest.c": "gateway link: what each side has said about interest",
    "gateway_link_close.c": "gateway link: its end",
    "gateway_link_input.c": "gateway link: reading and parsing",
    "gateway_link_output.c": "gateway link: deliveries and writing",
    "gateway_pursuit.c": "gateway: when to dial which cluster",
    "gateway_remotes.c": "gateway: the clusters it knows and their addresses",
    "gateway_routes.c": "which link leads to which server, read by all workers",
    "handler_connect.c": "handler: the way to its worker",
    "handler_verdict.c": "handler: what a worker's answer means for the event",
    "monitor_access.c": "monitor: who may see the pages",
    "monitor_actorz.c": "monitor: one page",
    "monitor_answer.c": "monitor: what is answered at once, and how",
    "monitor_client.c": "monitor: one HTTP client",
    "monitor_closed.c": "monitor: connections that have ended",
    "monitor_connz.c": "monitor: one page",
    "monitor_eventz.c": "monitor: one page",
    "monitor_gatewayz.c": "monitor: one page",
    "monitor_health.c": "monitor: what /healthz tells",
    "monitor_healthz.c": "monitor: when who is told of the health",
    "monitor_list.c": "monitor: sorting and paging of lists",
    "monitor_metrics.c": "monitor: one page",
    "monitor_page.c": "monitor: the table of pages",
    "monitor_query.c": "monitor: the query of a request",
    "monitor_routez.c": "monitor: one page",
    "monitor_sample.c": "monitor: memory and CPU of the process",
    "monitor_sentinel.c": "monitor: tells it of the stop",
    "monitor_steps.c": "monitor: the page in hand",
    "monitor_subsz.c": "monitor: one page",
    "monitor_text.c": "monitor: times and numbers as text",
    "monitor_varz.c": "monitor: one page",
    "origin.c": "what counts as one peer where places are shared out",
    "outbound.c": "what waits to be written to one peer",
    "password_checks.c": "authenticator: bcrypt, on service threads",
    "queue_dispatch.c": "queue: the way out, jobs of the handlers",
    "queue_intake.c": "queue: the way in, publishers and their answers",
    "queue_record.c": "queue: one published message",
    "queue_report.c": "queue: what monitoring sees",
    "queue_stop.c": "queue: how it stops",
    "reader.c": "reading into the worker's block, for connection and gateway link",
    "route_ops.c": "the run of SUB and UNSUB that goes to a router",
    "tls_section.c": "a TLS section of the configuration as options of TLS, for every door and call",
    "token_reload.c": "authenticator: the tokens in force",
    "token_sweep.c": "authenticator: closes the connections of revoked tokens",
    "token_watch.c": "authenticator: sees changes of the token file",
}

# Sources without a unit test of their own.
NO_UNIT_TEST = {
    **{f"src/broker/batch_{part}.c": "stands behind broker/batch.h: test_batch.c" for part in "output run".split()},
    **{
        f"src/broker/{part}.c": "stands behind broker/match_cache.h: test_match_cache.c"
        for part in "match match_builder match_slots".split()
    },
    **{
        f"src/broker/subtable_{part}.c": "stands behind broker/subtable.h: test_subtable.c"
        for part in "place trie walk".split()
    },
    "src/net/http1_request.c": "stands behind net/http1.h: test_http1.c",
    **{
        f"src/net/http2_{part}.c": "stands behind net/http2.h: test_http2.c" for part in "callbacks flood memory".split()
    },
    **{
        f"src/net/tls_{part}.c": "stands behind net/tls.h: test_tls.c" for part in "context files session verify".split()
    },
    **{
        f"src/actors/monitor_{part}.c": "seen over HTTP: test_monitor.c, integration/monitoring.py"
        for part in "actorz answer client connz eventz gatewayz health healthz metrics page routez sentinel steps subsz varz".split()
    },
    **{
        f"src/programs/event_bench/{name}.c": "run against servers that lose, double and damage: test_event_bench.py"
        for name in "bench_client bench_control bench_group bench_part bench_shard bench_worker".split()
    },
    **{
        f"src/programs/event_bench/{name}.c": "what it prints is read by tests/integration/test_event_bench.py"
        for name in "bench_meter bench_progress bench_report bench_report_json".split()
    },
    "src/programs/event_bench/bench_options.c": "the command line: tests/integration/test_event_bench.py",
    "src/programs/event_bench/event_bench.c": "main: tests/integration/test_event_bench.py",
    "src/programs/event_docs/event_docs.c": "prints what config/describe.c makes, which has its test",
    "src/programs/program.c": "command line and signals of a process: tests/integration/bad_start.py and conformance",
    "src/server/assemble.c": "makes a whole server: every integration test; what cannot start: bad_start.py",
    "src/server/server.c": "a whole server by the public interface: every integration test; bad_start.py",
    **{
        f"src/env/env_sim_net_{part}.c": "a part of the simulated network: test_env_sim_net.c"
        for part in "poller socket stream".split()
    },
    "src/actors/connection.c": "needs a whole server and a client: tests/conformance, suite client, has a check a rule",
    **{
        f"src/actors/connection_{part}.c": "a part of the connection: tests/conformance, suite client"
        for part in "auth close input output subs".split()
    },
    "src/actors/connection_pressure.c": "needs peers that do not read: tests/integration/backpressure.py",
    "src/actors/listener.c": "needs sockets that run out: tests/integration/bad_peers.py and bad_doors.py",
    "src/runtime/reclaimer.c": "stands behind runtime/runtime.h: test_runtime.c",
    "src/runtime/services.c": "stands behind runtime/runtime.h: test_runtime.c",
    "src/server/library.c": "has no code",
    "src/server/health_check.c": "needs a whole server: tests/integration/tokens.py, health and health-of-others",
    "src/server/tokens.c": "token_file.c and env_files.c have theirs; the edits: tests/integration/tokens.py",
    "src/actors/auth_check.c": "the authenticator's question: test_authenticator.c and test_credentials.c",
    "src/actors/password_checks.c": "a part of the authenticator: test_authenticator.c",
    "src/actors/token_reload.c": "needs a server and clients: tests/integration/tokens.py",
    "src/actors/token_sweep.c": "needs a server and clients: tests/integration/tokens.py",
    "src/actors/byte_pipe.c": "reads and writes for the gRPC actors; tests/integration/events.py with every size",
    "src/actors/gateway.c": "needs peers on real links: tests/conformance, suite gateway, and gateway_pair.py",
    "src/actors/gateway_acceptor.c": "a part of the link: tests/conformance, suite gateway, has a check a row",
    "src/actors/gateway_dialler.c": "a part of the link: tests/conformance, suite gateway, has a check a row",
    "src/actors/gateway_gossip.c": "needs peers that lie: tests/integration/gateway_liars.py, gateway_whole.py",
    "src/actors/gateway_pursuit.c": "needs peers that come and go: tests/integration/gateway_liars.py, gateway_whole.py",
    **{
        f"src/actors/gateway_link_{part}.c": "a part of the link: tests/conformance, suite gateway, and gateway_liars.py"
        for part in "close input output".split()
    },
    "src/actors/gateway_link.c": "needs peers on real links: tests/conformance, suite gateway, and gateway_pair.py",
    "src/actors/grpc_connection.c": "needs the queue, TLS and a gRPC client: tests/integration/events.py",
    "src/actors/handler_connect.c": "needs a worker and the queue: tests/integration/events.py",
    "src/actors/handler.c": "needs a worker and the queue: tests/integration/events.py",
    "src/actors/queue.c": "needs routers and handlers: tests/integration/events.py",
    "src/actors/queue_dispatch.c": "a part of the queue: tests/integration/events.py",
    "src/actors/queue_intake.c": "a part of the queue: tests/integration/events.py",
    "src/actors/queue_report.c": "a part of the queue: tests/integration/events.py reads each figure",
    "src/actors/queue_stop.c": "a part of the queue: tests/integration/events.py, stop and stop_...",
    "src/programs/event_service.c": "one call, with a table; run by every integration test",
    "src/programs/event_gateway.c": "one call, with a table; run by every integration test",
    "src/programs/health_check.c": "options and one call: tests/integration/tokens.py, health",
    "src/programs/token_command.c": "options and three calls: tests/integration/tokens.py, command-line",
}

COLUMNS_MAX = 100

# Reported, not failed.
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 700
PARAMETERS_MAX = 5

# --- rules and findings ------------------------------------------------------------------------------------------------

class Finding:
    def __init__(self, path, line, rule, text):
        self.path, self.line, self.rule, self.text = path, line, rule, text

    def __str__(self):
        return f"{self.path}:{self.line}: [{self.rule}] {self.text}"


RULES = {}


def rule(name):
    """Registers a function that yields (path, line, text) as a rule."""

    def register(function):
        RULES[name] = function
        return function

    return register


def matches(path, places):
    """True where the path is one of the places; a place that ends with a slash stands for all below it."""
    return any(path.startswith(p) if p.endswith("/") else path == p for p in places)


INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.M)


def includes(tree, path):
    """(line, "<" or '"', name) of each include. Read from the text: the code has no insides of strings."""
    text = tree.text(path)
    return [(line_of(text, m.start()), m.group(1), m.group(2)) for m in INCLUDE.finditer(text)]


def layer_of(path):
    """The layer of a file below src."""
    parts = path.split("/")
    if parts[1] == "programs" and len(parts) > 3 and parts[2] in PROGRAM_LAYERS:
        return parts[2]
    return parts[1]


def third_party(name):
    for header in THIRD_PARTY:
        if name.startswith(header) if header.endswith("/") else name == header:
            return header
    return None


# --- includes ---------------------------------------------------------------------------------------------------------


@rule("layers")
def check_layers(tree):
    for path in tree.under("src/"):
        layer = layer_of(path)
        if layer not in LAYERS:
            yield path, 1, f"'{layer}' is no layer of docs/style.md"
            continue
        allowed = {layer, *LAYERS[layer].split()}
        for line, kind, name in includes(tree, path):
            other = name.split("/")[0]
            if kind == '"' and third_party(name) is None and other in LAYERS and other not in allowed:
                yield path, line, f'{layer} may not include "{name}": it may use {LAYERS[layer] or "no other layer"}'


@rule("include-form")
def check_include_form(tree):
    for path in tree.under("src/", "include/", "tests/", "bench/", ends=(".c", ".h", ".def")):
        for line, kind, name in includes(tree, path):
            if ".." in name.split("/"):
                yield path, line, f'"{name}": no way up; the form is "layer/file.h"'
            elif path.startswith("src/") and kind == '"' and third_party(name) is None:
                own = os.path.join(os.path.dirname(path), name)
                is_own = path.startswith("src/programs/") and "/" not in name and tree.has(own)
                if not is_own and (name.count("/") != 1 or name.split("/")[0] not in LAYERS):
                    yield path, line, f'"{name}": the form is "layer/file.h"'
            elif path.startswith("include/") and kind == '"':
                yield path, line, f'"{name}": a public header is found as <eventservice/file.h>'


@rule("third-party")
def check_third_party(tree):
    for path in tree.under("src/", "include/"):
        for line, _, name in includes(tree, path):
            header = third_party(name)
            if header is not None:
                if not matches(path, THIRD_PARTY[header]):
                    yield path, line, f"{name} belongs in {', '.join(THIRD_PARTY[header])} only"
            elif name.startswith("eventservice/"):
                if not matches(path, PUBLIC_INCLUDERS):
                    yield path, line, f"<{name}>: the public interface is for {', '.join(PUBLIC_INCLUDERS)}"
            elif name in DOOR_HEADERS and not path.startswith("src/env/"):
                yield path, line, f"<{name}>: src/env is the one door to it"
            elif "." not in name or (name.split("/")[0] not in LAYERS and "/" in name and name not in C_LIBRARY):
                yield path, line, f"{name} is in neither table of headers (tests/tidy/check.py)"
            elif "/" not in name and name not in C_LIBRARY and not tree.has(os.path.join(os.path.dirname(path), name)):
                yield path, line, f"{name} is in neither table of headers (tests/tidy/check.py)"


@rule("internal-header")
def check_internal_headers(tree):
    for path in tree.under("src/", "tests/"):
        own = layer_of(path) if path.startswith("src/") else path.split("/")[2] if path.startswith("tests/unit/") else ""
        for line, kind, name in includes(tree, path):
            # A fuzz target is a test of one parser, whichever layer that is in.
            is_fuzz = path.startswith("tests/fuzz/")
            if kind == '"' and name.endswith("_internal.h") and "/" in name and name.split("/")[0] != own and not is_fuzz:
                yield path, line, f'"{name}" is private to {name.split("/")[0]}'


@rule("own-header-first")
def check_own_header_first(tree):
    """Else a header that lacks an include is only found by its next user."""
    for path in tree.under("src/", ends=(".c",)):
        if tree.has(path[:-2] + ".h"):
            found = includes(tree, path)
            if not found or found[0][2].split("/")[-1] != os.path.basename(path)[:-2] + ".h":
                yield path, found[0][0] if found else 1, "includes its own header first"


@rule("actor-headers")
def check_actor_headers(tree):
    actors = {a.replace(" ", "_") for a in actor_rows(tree)}
    for path in tree.under("src/actors/", ends=(".h",)):
        stem = os.path.basename(path)[:-2]
        for line, _, name in includes(tree, path):
            other = name[len("actors/"):-2] if name.startswith("actors/") else ""
            if stem in actors and other in actors and other != stem:
                yield path, line, f'the header of an actor includes no other actor\'s: "{name}"'


# --- objects and the library ------------------------------------------------------------------------------------------


def run(command, folder=None, text=None):
    """(status, output) of a command."""
    done = subprocess.run(command, cwd=folder, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    return done.returncode, done.stdout


def global_symbols(path, *options):
    """The defined global names of an object or a library; what sanitizers add is theirs."""
    status, output = run(["nm", "-P", "--defined-only", *options, path])
    if status != 0:
        return None
    # NAME LETTER ...; of a file without any nm says so in a line.
    names = {line.split()[0].split("@")[0] for line in output.splitlines() if re.match(r"\S+ [A-Za-z]( |$)", line)}
    return {n for n in names if not n.startswith(("__odr_asan", "__asan_", "__tsan_", "__sanitizer_", "__start_", "__stop_"))}


@rule("symbols")
def check_symbols(tree):
    commands = tree.compile_commands()
    if not commands:
        yield os.path.relpath(tree.build, tree.root), 1, "no compile_commands.json there: build this preset first"
    for path, (words, folder) in sorted(commands.items()):
        if not tree.has(path):
            continue
        stem = os.path.basename(path)[:-2]
        names = global_symbols(os.path.join(folder, words[words.index("-o") + 1]), "-g")
        if names is None:
            yield path, 1, "has no object file: build this preset first"
            continue
        allowed = (f"esi_{stem}_", "es_", *SYMBOL_PREFIXES.get(path, {}))
        for name in sorted(names):
            is_main = name == "main" and path.startswith("src/programs/")
            if not name.startswith(allowed) and name != f"esi_{stem}" and not is_main:
                yield path, 1, f"global symbol {name}: begins with esi_{stem}_ or es_, or is static"


def calls_in_header(tree, path):
    """The words of a header that call: what stands in its inline functions and macros, less the functions' own names."""
    code, words = tree.code(path), []
    for _, start, end, _ in functions(tree, path):
        words += re.findall(r"\w+", code[start:end])[1:]
    for match in DIRECTIVE.finditer(code):
        words += re.findall(r"\w+", match.group())
    return set(words)


@rule("not-called")
def check_not_called(tree):
    """What only its own tests call is kept right for nobody."""
    callers = {}
    for path in tree.under("src/"):
        words = calls_in_header(tree, path) if path.endswith(".h") else set(re.findall(r"\w+", tree.code(path)))
        for word in words:
            callers.setdefault(word, set()).add(path)
    excused = set()
    for path in tree.under("src/"):
        code = tree.code(path)
        for name, start, _, _ in functions(tree, path):
            if not name.startswith("esi_") or callers.get(name, set()) - {path}:
                continue
            excuse = next((e for e in NOT_CALLED if name == e or (e.endswith("_") and name.startswith(e))), None)
            is_called_here = len(re.findall(rf"\b{name}\b", code)) > 1
            if excuse is not None:
                excused.add(excuse)
            elif not is_called_here:
                yield path, line_of(code, start), f"no source calls {name}: it goes, or NOT_CALLED says what it is for"
    for excuse in set(NOT_CALLED) - excused:
        yield "tests/tidy/check.py", 1, f"NOT_CALLED names {excuse}, which is called or not there"


EXPORTS = "tests/tidy/exported_symbols.txt"


@rule("exports")
def check_exports(tree):
    library = os.path.join(tree.build, "lib", "libeventservice.so")
    listed = {}
    for number, line in enumerate(tree.lines(EXPORTS), 1):
        if line.strip() and not line.startswith("#"):
            listed[line.strip()] = number
    exported = global_symbols(library, "-D")
    if exported is None:
        yield os.path.relpath(library, tree.root), 1, "cannot be read: build this preset first"
        return
    for name in sorted(exported - set(listed)):
        yield EXPORTS, 1, f"libeventservice.so exports {name}, which is not listed"
    for name in sorted(set(listed) - exported):
        yield EXPORTS, listed[name], f"libeventservice.so does not export {name}"


# For a layer that the build folder does not know (yet).
DEFAULT_OPTIONS = "-std=gnu17 -D_GNU_SOURCE -I{root}/include -I{root}/src -I{root}/src/programs"


@rule("headers")
def check_headers(tree):
    """Each header alone in a source of its own, with the options of its layer; public ones also as C++."""
    options = {}
    for path, (words, folder) in tree.compile_commands().items():
        kept = []
        for i, word in enumerate(words):
            if word.startswith(("-I", "-D", "-std=")):
                kept.append(word)
            elif word == "-isystem":
                kept += words[i : i + 2]
        options.setdefault(layer_of(path), (kept, folder))
    warnings = ["-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    work = []
    for path in tree.under("src/", "include/", ends=(".h",)):
        if path.startswith("include/"):
            name = os.path.relpath(path, "include")
            place = ["-I", os.path.join(tree.root, "include")]
            work.append((path, ["cc", "-std=c17", "-Wpedantic", *warnings, *place, "-x", "c", "-"], None, f"<{name}>"))
            work.append((path, ["c++", "-std=c++17", *warnings, *place, "-x", "c++", "-"], None, f"<{name}>"))
            continue
        layer = layer_of(path)
        kept, folder = options.get(layer, (DEFAULT_OPTIONS.format(root=tree.root).split(), None))
        if layer == "programs":
            kept, name = [*kept, "-I", os.path.join(tree.root, os.path.dirname(path))], os.path.basename(path)
        else:
            name = f"{layer}/{os.path.basename(path)}"
        work.append((path, ["cc", *kept, *warnings, "-x", "c", "-"], folder, f'"{name}"'))

    def compile_one(item):
        path, command, folder, name = item
        return path, command, run(command, folder, f"#include {name}\n")

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, command, (status, output) in pool.map(compile_one, work):
            if status != 0:
                first = next((o for o in output.splitlines() if "error" in o), output.strip())
                yield path, 1, f"does not compile alone ({command[0]}): {first}"


@rule("pragma-once")
def check_pragma_once(tree):
    for path in tree.under("src/", "include/", "tests/", ends=(".h",)):
        if not re.search(r"^#pragma once$", tree.code(path), re.M) and path not in REPEATED_HEADERS:
            yield path, 1, "has no #pragma once"


# --- atomics and RCU --------------------------------------------------------------------------------------------------

def defined_names(tree):
    """Functions and macros of the sources."""
    names = set()
    for path in tree.under("src/", "include/"):
        names |= {name for name, _, _, _ in functions(tree, path)}
        names |= set(re.findall(r"^#define (\w+)", tree.code(path), re.M))
    return names


@rule("atomics")
def check_atomics(tree):
    names = defined_names(tree)
    for path in tree.under("src/", "include/"):
        code = tree.code(path)
        codes, lines = code.split("\n"), tree.lines(path)
        for match in ATOMIC.finditer(code):
            number = line_of(code, match.start())
            if match.group("explicit") is None and match.group("fence") is None:
                yield path, number, f"{match.group().rstrip('( ')}: only atomic_*_explicit, with its memory order"
                continue
            reason = order_reason(lines, codes, number)
            if not reason:
                yield path, number, f"{match.group().rstrip('( ')}: no comment above that begins with order:"
                continue
            orders = memory_orders(code[match.start() : matching_close(code, match.end() - 1)])
            said = reason.split()[0].rstrip(";,.:")
            for other in re.findall(r"\b(?:in|of|see) ([A-Za-z]+_\w+)", reason):
                if other not in names:
                    yield path, number, f"order: names {other}, which is neither function nor macro"
            if said in MEMORY_ORDERS and orders and said not in orders:
                yield path, number, f"{match.group().rstrip('( ')}: order: says {said}, the code {' and '.join(orders)}"


@rule("locks")
def check_locks(tree):
    for path in tree.under("src/", "include/"):
        code = tree.code(path)
        for match in LOCK.finditer(code):
            number = line_of(code, match.start())
            if not lock_purpose(tree.lines(path), code.split("\n"), number):
                yield path, number, f"{match['name']}: no comment at it that says what it guards, or what it tells of"


@rule("rcu-read")
def check_rcu_read(tree):
    seen = {}
    for path in tree.under("src/"):
        text = tree.text(path)
        named = 0
        for match in RCU_READ.finditer(text):
            number = line_of(text, match.start())
            words = " ".join(re.sub(r"\n\s*\*", " ", match.group(1)).split())
            form = re.match(r"(?P<name>[a-z][\w -]*) \(.+\)$", words)
            named += 1
            if form is None:
                yield path, number, "the form is rcu-read: NAME (what bounds it)"
                continue
            name = form.group("name")
            if name in seen:
                yield path, number, f"the name '{name}' stands already in {seen[name]}"
            seen[name] = f"{path}:{number}"
        use = re.search(r"\bESI_RCU_READ\s*\(", tree.code(path))
        if use and named == 0 and path not in RCU_READ_ELSEWHERE:
            yield path, line_of(text, use.start()), "reads an RCU pointer, and no rcu-read: comment names the section"


# --- functions --------------------------------------------------------------------------------------------------------

@rule("if-in-body")
def check_if_in_body(tree):
    for path in tree.under("src/", "include/", "tests/"):
        code = tree.code(path)
        bodies = [(start, end, name) for name, start, end, _ in functions(tree, path)]
        for match in re.finditer(r"^[ \t]*#[ \t]*(?:if|ifdef|ifndef|elif)\b", code, re.M):
            for start, end, name in bodies:
                if start < match.start() < end:
                    yield path, line_of(code, match.start()), f"#if in the body of {name}: write two functions or files"


def notes(tree):
    """What is only reported: a hint to look for two ideas in one place."""
    for path in tree.under("src/", "include/"):
        code = tree.code(path)
        count = tree.text(path).count("\n")
        if count > FILE_LINES_MAX:
            yield path, 1, f"{count} lines (over {FILE_LINES_MAX})"
        for name, start, end, parameters in functions(tree, path):
            first = line_of(code, start)
            length = line_of(code, end) - first + 1
            if length > FUNCTION_LINES_MAX:
                yield path, first, f"{name}: {length} lines (over {FUNCTION_LINES_MAX})"
            if parameters > PARAMETERS_MAX:
                yield path, first, f"{name}: {parameters} parameters (over {PARAMETERS_MAX})"


# --- refused patterns -------------------------------------------------------------------------------------------------


def text_files(tree):
    """Everything that people read: not the licence, not lists that tools make."""
    for path in tree.files:
        name = os.path.basename(path)
        if name not in ("LICENSE", "package-lock.json") and not name.endswith((".pem", ".png", ".svg", ".bin")):
            yield path


@rule("refused-code")
def check_refused_code(tree):
    for path in tree.under("src/", "include/", "tests/", "bench/"):
        code = tree.code(path)
        for pattern, instead in REFUSED_CODE:
            for match in re.finditer(pattern, code):
                yield path, line_of(code, match.start()), f"{match.group().split('(')[0].strip()}: {instead}"


@rule("refused-words")
def check_refused_words(tree):
    for path in text_files(tree):
        if path in NAMES_WHAT_IS_REFUSED:
            continue
        for number, line in enumerate(tree.lines(path), 1):
            match = REFUSED_WORDS.search(line)
            if match:
                yield path, number, f"{match.group()}: open an issue, or say the limit as a fact in docs"


COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
DEAD_CODE = re.compile(r"^\s*(?:/\*+|//|\*)?\s*(?:[\w>.\[\]-]+ [=+|-]?= [^;]*|(?:\w+\s+)*\w+\([^;]*\)|return\b[^;]*|\}[^;]*);\s*(?:\*/)?$")


@rule("dead-code")
def check_dead_code(tree):
    for path in tree.under("src/", "include/", "tests/"):
        text = tree.text(path)
        for match in COMMENT.finditer(text):
            for offset, line in enumerate(match.group().split("\n")):
                if DEAD_CODE.match(line):
                    yield path, line_of(text, match.start()) + offset, f"code in a comment: {line.strip()}"


@rule("comment-width")
def check_comment_width(tree):
    """clang-format keeps code within its columns and leaves comments alone (.clang-format says why)."""
    for path in tree.under("src/", "include/", "tests/", "bench/"):
        codes = tree.code(path).split("\n")
        for number, line in enumerate(tree.lines(path), 1):
            if len(line) > COLUMNS_MAX and len(codes[number - 1].rstrip()) <= COLUMNS_MAX:
                yield path, number, f"a comment of {len(line)} columns (over {COLUMNS_MAX}): scripts/format wraps all but tables"


@rule("sleep")
def check_sleep(tree):
    wait = re.compile(
        r"\b(?:usleep|nanosleep|clock_nanosleep|thrd_sleep|sleep)\s*\(|\bpoll\s*\(\s*NULL\s*,"
    )
    for path in tree.under("tests/", ends=(".c", ".h", ".py", ".js", ".sh")) + [
        p for p in tree.files if p.startswith("tests/") and "." not in os.path.basename(p)
    ]:
        is_c = path.endswith((".c", ".h"))
        text = tree.code(path) if is_c else tree.text(path)
        shell = text.startswith("#!") and "sh" in text.split("\n", 1)[0]
        pattern = re.compile(r"^\s*sleep\s+[\d$.]", re.M) if shell else wait
        found = [line_of(text, m.start()) for m in pattern.finditer(text)]
        allowed = SLEEPS.get(path, (0, ""))[0]
        if path not in NAMES_WHAT_IS_REFUSED:
            for number in found[allowed:]:
                yield path, number, "a test waits for an event with a deadline, never for time"


@rule("names")
def check_names(tree):
    for path in tree.folders:
        if os.path.basename(path) in REFUSED_NAMES:
            yield path, 1, "a folder has a purpose of one sentence, and its name says which"
    for path in tree.files:
        if os.path.splitext(os.path.basename(path))[0] in REFUSED_NAMES:
            yield path, 1, "a file has one subject, and its name says which"


@rule("foreign-text")
def check_foreign_text(tree):
    for path in text_files(tree):
        if path in NAMES_WHAT_IS_REFUSED:
            continue
        for number, line in enumerate(tree.lines(path), 1):
            for pattern, what in FOREIGN_TEXT:
                match = pattern.search(line)
                if match:
                    yield path, number, f"'{match.group()}': {what}"
            for match in re.finditer(r"\bhttps?://([A-Za-z0-9][A-Za-z0-9._-]*)", line):
                host = match.group(1).rstrip(".").lower()
                is_free = "." not in host or re.search(r"(?:^|\.)(?:example(?:\.com|\.org|\.net)?|test|invalid)$", host)
                if not is_free and host not in URL_HOSTS:
                    yield path, number, f"the host {host} is not in the table of hosts (tests/tidy/check.py)"


# --- every file has its place -----------------------------------------------------------------------------------------

SPDX = "SPDX-License-Identifier: GPL-2.0-or-later"


@rule("head")
def check_head(tree):
    for path in tree.under("src/", "include/", "tests/", "bench/", ends=(".c", ".h", ".def")):
        text = tree.text(path)
        if not text.startswith(f"/* {SPDX} */\n"):
            yield path, 1, f"begins with /* {SPDX} */"
            continue
        comment = re.match(r"\s*/\*(.*?)\*/", text.split("\n", 1)[1], re.S)
        if comment is None or len(re.findall(r"\w+", comment.group(1))) < 4:
            yield path, 2, "no comment that says purpose and invariants below the licence"
    for path in tree.files:
        name = os.path.basename(path)
        is_script = path.startswith(("scripts/", "tests/", "bench/", ".ci/")) and "." not in name
        is_ours = is_script or name == "CMakeLists.txt" or name.endswith((".py", ".sh", ".cmake", ".proto"))
        if is_ours and SPDX not in "\n".join(tree.lines(path)[:3]):
            yield path, 1, f"says {SPDX} in its first three lines"


def names_file(tree, listing, word):
    """True where a CMake file names a word."""
    return re.search(rf"(?<![\w./-]){re.escape(word)}(?![\w.-])", tree.text(listing)) is not None


@rule("built")
def check_built(tree):
    sources = tree.under("src/", ends=(".c",)) + tree.under("tests/unit/", "tests/fuzz/", "tests/stress/", ends=(".c",))
    for path in sources:
        folder, name = os.path.split(path)
        listing = os.path.join(folder, "CMakeLists.txt")
        words = [name] if path.startswith("src/") else [name, name[:-2], re.sub("^test_", "", name[:-2])]
        is_listed = tree.has(listing) and any(names_file(tree, listing, word) for word in words)
        if not is_listed and not any(f"/{path}" in tree.text(f) for f in tree.under("cmake/", ends=(".cmake",))):
            yield path, 1, f"nobody builds it: {listing} does not name it"
    used = {}
    for path in tree.under("src/", "include/", "tests/", ends=(".c", ".h", ".def")):
        for _, _, name in includes(tree, path):
            used.setdefault(name, set()).add(path)
    for path in tree.under("src/", ends=(".h", ".def")):
        name = "/".join(path.split("/")[-2:])
        users = used.get(name, set()) | (used.get(os.path.basename(path), set()) if "/programs/" in path else set())
        if not users - {path}:
            yield path, 1, "nobody includes it"


def actor_rows(tree):
    """The actors of docs/architecture.md -> line of the row."""
    rows, is_inside = {}, False
    for number, line in enumerate(tree.lines("docs/architecture.md"), 1):
        if line.startswith("## "):
            is_inside = line.strip() == "## Actors"
        cells = [c.strip() for c in line.strip().strip("|").split("|")]
        if is_inside and line.startswith("|") and cells[0] not in ("actor", "") and set(cells[0]) != {"-"}:
            rows[cells[0]] = number
    return rows


@rule("actors")
def check_actors(tree):
    rows = actor_rows(tree)
    for path in tree.under("src/actors/", ends=(".c",)):
        name = os.path.basename(path)
        if name not in ACTOR_PARTS and name[:-2].replace("_", " ") not in rows:
            yield path, 1, "no row among the actors of docs/architecture.md, and no entry in ACTOR_PARTS"
    for row, number in rows.items():
        if not tree.has(f"src/actors/{row.replace(' ', '_')}.c"):
            yield "docs/architecture.md", number, f"the actor '{row}' has no file in src/actors"


@rule("log-events")
def check_log_events(tree):
    """People look an event up to learn what to do; one that nobody writes is a promise."""
    written = {event for _, ids, _ in log_events_page.calls(tree) for event in ids}
    rows = log_events_page.events(tree)
    for _, event, _, _, advice, line in rows:
        if not advice:
            yield log_events_page.TABLE, line, f"{event} does not say what to do about it (fourth column)"
        if event not in written:
            yield log_events_page.TABLE, line, f"{event} is written by nobody"
    lines = sum(line.startswith("X(") for line in tree.lines(log_events_page.TABLE))
    if lines != len(rows):
        yield log_events_page.TABLE, 1, f"{lines} rows, of which {len(rows)} have the form X(id, level, sentence, advice)"


@rule("metrics")
def check_metrics(tree):
    rows = metrics_page.metrics(tree)
    code = " ".join(tree.code(path) for path in tree.under("src/actors/", ends=(".c",)))
    for _, row, line in rows:
        if not re.search(rf"\b{row['id']}\b", code):
            yield metrics_page.TABLE, line, f"{row['id']} is filled in by nobody"
        if row["unit"] and not row["name"].endswith("_" + row["unit"]):
            yield metrics_page.TABLE, line, f"{row['name']} does not end with its unit, {row['unit']}"
    lines = sum(line.startswith("METRIC(") for line in tree.lines(metrics_page.TABLE))
    if lines != len(rows):
        yield metrics_page.TABLE, 1, f"{lines} rows, of which {len(rows)} have the form of the head"


@rule("unit-tests")
def check_unit_tests(tree):
    for path in tree.under("src/", ends=(".c",)):
        layer, name = layer_of(path), os.path.basename(path)
        test = f"tests/unit/{layer}/test_{name}"
        if path not in NO_UNIT_TEST and not tree.has(test):
            yield path, 1, f"no {test}, and no entry in NO_UNIT_TEST"


# A test in docs/threat-model.md: a file, then names of its cases up to the next mark.
NAMED_TESTS = re.compile(r"`(test_\w+\.c|\w+\.py)`((?: [a-z][a-z0-9_]*(?: \([^)]*\))?,?)*)")


@rule("threat-model")
def check_threat_model(tree):
    """What is said to show a defence is there: a test that was renamed is missed here."""
    path = "docs/threat-model.md"
    tests = {os.path.basename(name): name for name in tree.under("tests/unit/", "tests/integration/", ends=(".c", ".py"))}
    for number, line in enumerate(tree.lines(path), 1):
        for name, cases in NAMED_TESTS.findall(line):
            if name not in tests:
                yield path, number, f"names the test {name}, which is not there"
                continue
            words = set(re.findall(r"\w+", "\n".join(tree.lines(tests[name]))))
            for case in re.findall(r"[a-z][a-z0-9_]*", re.sub(r"\([^)]*\)", "", cases)):
                if case not in words and f"case_{case}" not in words:
                    yield path, number, f"names the case {case} of {name}, which is not there"


@rule("tables")
def check_tables(tree):
    """An exception outlives its file only as a trap for the next one of that name."""
    entries = [p for table in THIRD_PARTY.values() for p in table]
    entries += [*PUBLIC_INCLUDERS, *SYMBOL_PREFIXES, *REPEATED_HEADERS, *RCU_READ_ELSEWHERE, *NO_UNIT_TEST]
    entries += [f"src/actors/{name}" for name in ACTOR_PARTS] + [*SLEEPS, *NAMES_WHAT_IS_REFUSED]
    for entry in sorted(set(entries)):
        if not tree.has(entry):
            yield "tests/tidy/check.py", 1, f"a table names {entry}, which is not there"
    for path in NO_UNIT_TEST:
        layer, name = layer_of(path), os.path.basename(path)
        if tree.has(f"tests/unit/{layer}/test_{name}"):
            yield "tests/tidy/check.py", 1, f"{path} stands in NO_UNIT_TEST, and has a test"


# --- documents and tests ----------------------------------------------------------------------------------------------


@rule("generated")
def check_generated(tree):
    """Tables and sources change; the pages that are made of them must follow."""
    for path in all_pages.PAGES:
        try:
            if all_pages.is_stale(path, tree.root, tree.build):
                yield path, 1, "stale: run scripts/generate-docs"
        except (OSError, subprocess.CalledProcessError) as error:
            yield path, 1, f"cannot be made: {error}"


@rule("manual-pages")
def check_manual_pages(tree):
    pages = [path for path in tree.files if path.startswith("docs/man/")]
    if not pages:
        yield "docs/man", 1, "no manual pages"
    for path in pages:
        try:
            _, output = run(["mandoc", "-T", "lint", "-W", "warning", os.path.join(tree.root, path)])
        except FileNotFoundError:
            yield path, 1, "mandoc is not there: run scripts/setup --tests"
            return
        for line in output.splitlines():
            yield path, 1, line.split(": ", 1)[-1]


LINK = re.compile(r"\]\((?!https?:|mailto:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]*))?\)")


def anchors(tree, path):
    """The anchors of a page's headings, as they are made of their words."""
    headings = re.findall(r"^#+ (.*)$", tree.text(path), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@rule("links")
def check_links(tree):
    for path in tree.files:
        if not path.endswith(".md"):
            continue
        text = re.sub(r"```.*?```|`[^`\n]*`", lambda match: blank(match.group()), tree.text(path), flags=re.S)
        for match in LINK.finditer(text):
            target = path
            if match["path"]:
                target = os.path.normpath(os.path.join(os.path.dirname(path), match["path"]))
            if not tree.has(target):
                yield path, line_of(text, match.start()), f"a link to {target}, which is not there"
            elif match["anchor"] and target.endswith(".md") and match["anchor"] not in anchors(tree, target):
                yield path, line_of(text, match.start()), f"a link to #{match['anchor']}, which is no heading of {target}"


CODE = ("src/", "include/")
TESTS = ("tests/",)
# A tool that measures is neither product nor test.
NEITHER = ("src/programs/event_bench/",)


def code_lines(tree, folders):
    """Lines that say something: neither blank nor a comment alone. Corpora and lists that tools made are no lines."""
    count = 0
    for path in tree.files:
        if not path.startswith(folders) or path.startswith(NEITHER):
            continue
        if path.endswith((".c", ".h")):
            lines = tree.code(path).split("\n")
        elif path.endswith((".py", ".js")) or "." not in os.path.basename(path):
            lines = [re.sub(r"^\s*(?:#|//).*", "", line) for line in tree.lines(path)]
        else:
            continue
        count += sum(1 for line in lines if line.strip())
    return count


@rule("tests-to-code")
def check_tests_to_code(tree):
    code, tests = code_lines(tree, CODE), code_lines(tree, TESTS)
    if tests < code:
        yield "tests", 1, f"{tests} lines of tests, {code} of code: tests are to be as many at least"


# --- the command ------------------------------------------------------------------------------------------------------


def check(tree, names):
    """The findings of the named rules, by rule."""
    return {name: [Finding(path, line, name, text) for path, line, text in RULES[name](tree)] for name in names}


def main():
    parser = argparse.ArgumentParser(description="Checks the rules of docs/style.md that no compiler knows.")
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(HERE)))
    parser.add_argument("--build", default="build/release", help="a build folder, relative to the root")
    parser.add_argument("--only", default=",".join(RULES), help="rules, separated by commas")
    parser.add_argument("--no-notes", action="store_true", help="leave out what is only reported")
    parser.add_argument("--list", action="store_true", help="print the names of the rules")
    options = parser.parse_args()
    if options.list:
        print("\n".join(RULES))
        return 0
    unknown = [name for name in options.only.split(",") if name not in RULES]
    if unknown:
        parser.error(f"no such rule: {', '.join(unknown)}")
    tree = Tree(os.path.abspath(options.root), options.build)
    results = check(tree, options.only.split(","))
    if not options.no_notes:
        for path, line, text in notes(tree):
            print(f"note: {path}:{line}: {text}")
    for findings in results.values():
        for finding in findings:
            print(finding)
    failed = [name for name, findings in results.items() if findings]
    if not options.no_notes:
        print(f"note: {code_lines(tree, CODE)} lines of code, {code_lines(tree, TESTS)} of tests")
    for name in failed:
        print(f"NOT OK  {name}: {len(results[name])} findings")
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
