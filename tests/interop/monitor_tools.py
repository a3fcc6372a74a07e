#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What people watch NATS servers with, against our monitoring pages.

  monitor_tools.py --build build/release

Goal: nats-top shows the clients that are there, prometheus-nats-exporter turns our pages into the
metrics that boards are made of, and /metrics itself is taken by promtool and by an OpenMetrics
parser; every figure is the one that the test has caused. Method: the real programs (Go modules built
by scripts/build-nats-tools, promtool of Debian), a server with raw clients, and a second server at
the other end of a gateway link. A tool that is missing makes the test fail.
"""
import contextlib
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(HERE, "..", "integration"))
sys.dont_write_bytecode = True

import monitoring  # noqa: E402
from monitoring import HOST, Mismatch, Ours, Server, flush, flush_messages, merge  # noqa: E402
from monitoring import require, require_equal, wait_until  # noqa: E402

TOOL_TIMEOUT_S = 60


def tool(name, hint):
    """The path of a program: what we built or fetched, or what is installed."""
    for path in (os.path.join(ROOT, ".cache", "nats-tools", name), os.path.join(ROOT, ".cache", name)):
        if os.access(path, os.X_OK):
            return path
    path = shutil.which(name)
    if not path:
        raise Mismatch("%s is not there: %s" % (name, hint))
    return path


def nats_tool(name):
    return tool(name, "run scripts/build-nats-tools")


def fetch(url, accept=None):
    request = urllib.request.Request(url, headers={"Accept": accept} if accept else {})
    with urllib.request.urlopen(request, timeout=TOOL_TIMEOUT_S) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def page_url(bench, path=""):
    return "http://%s:%d%s" % (HOST, bench.server.monitor_port, path)


def make_traffic(bench):
    """A reader with 3 subscriptions that gets 50 messages of 10 bytes from a writer, and they alone."""
    reader, writer = bench.client("the reader"), bench.client("the writer", lang="go", version="9.8.7")
    reader.send("SUB a.* 1\r\nSUB b 2\r\nSUB c q 3\r\n")
    flush(reader)
    for number in range(50):
        writer.send("PUB a.%d 10\r\n0123456789\r\n" % number)
    flush(writer)
    flush_messages(reader, 50)
    return reader, writer


# --- /metrics -------------------------------------------------------------------------------------


def samples_of(bench):
    from prometheus_client.openmetrics import parser

    kind, text = fetch(page_url(bench, "/metrics"), "application/openmetrics-text;version=1.0.0")
    require_equal(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8", "its type")
    require(text.endswith("\n# EOF\n"), "the end", "# EOF", text[-80:])
    families = list(parser.text_string_to_metric_families(text))
    for family in families:
        require(family.documentation.endswith("."), "%s has help" % family.name, None, family)
    names = [family.name for family in families]
    require_equal(len(set(names)), len(names), "each family once")
    return {
        (sample.name,) + tuple(sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def table_of_metrics():
    with open(os.path.join(ROOT, "src", "actors", "metrics.def")) as file:
        return set(re.findall(r'^METRIC\(\w+, "(\w+)"', file.read(), re.M))


def case_metrics(bench):
    """An OpenMetrics parser and promtool take the page; it has every family, and the right figures."""
    before = samples_of(bench)
    make_traffic(bench)
    after = samples_of(bench)

    def change(name, **labels):
        key = (name,) + tuple(sorted(labels.items()))
        return after[key] - before[key]

    for name, value in (
        ("event_service_received_messages_total", 50),
        ("event_service_received_bytes_total", 500),
        ("event_service_sent_messages_total", 50),
        ("event_service_sent_bytes_total", 500),
        ("event_service_connections", 2),
        ("event_service_connections_accepted_total", 2),
        ("event_service_listeners", 1),
        ("event_service_subscriptions", 3),
        ("event_service_slow_consumers_total", 0),
    ):
        require_equal(change(name), value, name)
    require_equal(change("event_service_monitor_requests_total", page="/metrics"), 1, "its own page")
    require_equal(after[("event_service_actors", ("type", "connection"))], 2, "connections by type")
    workers = bench.json("/varz")["workers"]
    for worker in range(workers):
        label = ("worker", str(worker))
        for name in ("event_service_message_waiting_seconds", "event_service_turn_service_seconds"):
            count = after[(name + "_count", label)]
            require_equal(after[(name + "_bucket", ("le", "+Inf"), label)], count, name + " in all")
            require(after[(name + "_sum", label)] >= 0 and count > 0, name + " has counted")
    families = {name for name in table_of_metrics() if any(key[0].startswith(name) for key in after)}
    missing = {name for name in table_of_metrics() - families if "tls_certificate" not in name}
    require_equal(missing, set(), "families of the table that are not on the page")

    kind, text = fetch(page_url(bench, "/metrics"), "text/plain;version=0.0.4")
    require_equal(kind, "text/plain; version=0.0.4; charset=utf-8", "the older form")
    checked = subprocess.run(
        [tool("promtool", "run scripts/setup --tests"), "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        timeout=TOOL_TIMEOUT_S,
    )
    require_equal((checked.returncode, checked.stdout + checked.stderr), (0, ""), "promtool's verdict")


# --- nats-top -------------------------------------------------------------------------------------


def run_nats_top(bench, *words):
    port = ["-s", HOST, "-m", str(bench.server.monitor_port)] if "-ms" not in words else ["-s", "localhost"]
    shown = subprocess.run(
        [nats_tool("nats-top"), *port, "-b", "-o", "-", "-l", ";", *words],
        capture_output=True,
        text=True,
        timeout=TOOL_TIMEOUT_S,
    )
    require_equal(shown.returncode, 0, "nats-top's status (%s)" % shown.stderr)
    return shown.stdout


def rows_of(shown):
    head, table = shown.split("Connections Polled:")
    lines = table.splitlines()[1:]
    start = next(index for index, line in enumerate(lines) if "HOST" in line)
    rows = list(csv.DictReader([line.replace(" ", "_") for line in lines[start:]], delimiter=";"))
    return head, [{key.strip("_"): (value or "").strip("_") for key, value in row.items()} for row in rows]


def case_nats_top(bench):
    """nats-top shows the server's figures, and a row with the right ones for each client, sorted as asked."""
    reader, writer = make_traffic(bench)
    head, rows = rows_of(run_nats_top(bench, "-u"))
    require("NATS server version;2.11.0;" in head, "the version", None, head)
    words = head.replace("\n", ";").split(";")
    require_equal(words.count("500"), 2, "bytes in and out")
    require_equal(words.count("50"), 2, "messages in and out")
    require_equal([row["NAME"] for row in rows], ["the_reader", "the_writer"], "names")
    for row, peer, figures in (
        (rows[0], reader, ("3", "50", "0", "500", "0", "test", "1.2")),
        (rows[1], writer, ("0", "0", "50", "0", "500", "go", "9.8.7")),
    ):
        require_equal(row["HOST"], "%s:%d" % peer.sock.getsockname()[:2], "HOST")
        got = tuple(
            row[key]
            for key in ("SUBS", "MSGS_TO", "MSGS_FROM", "BYTES_TO", "BYTES_FROM", "LANG", "VERSION")
        )
        require_equal(got, figures, "figures of " + row["NAME"])
        require(re.fullmatch(r"\d+s", row["UPTIME"]), "UPTIME", None, row)
        require(re.match(r"20\d\d-", row["LAST_ACTIVITY"]), "LAST_ACTIVITY", None, row)
    for sort, first in (("msgs_from", "the_writer"), ("subs", "the_reader"), ("bytes_to", "the_reader")):
        require_equal(rows_of(run_nats_top(bench, "-sort", sort))[1][0]["NAME"], first, "-sort " + sort)
    require_equal(len(rows_of(run_nats_top(bench, "-n", "1"))[1]), 1, "-n 1")


def case_nats_top_tls(bench):
    """The same over HTTPS, with the server's certificate checked."""
    make_traffic(bench)
    shown = run_nats_top(bench, "-ms", str(bench.server.monitor_port), "-cacert", bench.certs.ca())
    require_equal([row["NAME"] for row in rows_of(shown)[1]], ["the_reader", "the_writer"], "names")


# --- prometheus-nats-exporter ---------------------------------------------------------------------


def listening_port_of(process):
    """The one port that a process listens on; None: not yet."""
    inodes = set()
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/%d/fd" % process.pid):
            with contextlib.suppress(OSError):
                inodes.add(os.readlink("/proc/%d/fd/%s" % (process.pid, name)))
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(path) as file:
            for line in file.readlines()[1:]:
                words = line.split()
                if words[3] == "0A" and "socket:[%s]" % words[9] in inodes:
                    return int(words[1].rsplit(":", 1)[1], 16)
    return None


@contextlib.contextmanager
def exporter(bench):
    """Its metrics as a function that scrapes them: {name: {labels: value}}."""
    command = [nats_tool("prometheus-nats-exporter"), "-a", HOST, "-p", "0", "-ri", "1"]
    command += ["-varz", "-connz", "-subz", "-routez", "-gatewayz", page_url(bench)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        port = wait_until(
            lambda: listening_port_of(process) or process.poll() is not None,
            "the exporter listens",
            TOOL_TIMEOUT_S,
        )
        if process.poll() is not None:
            raise Mismatch("the exporter ended: " + process.stderr.read())

        def scrape():
            from prometheus_client.parser import text_string_to_metric_families

            result = {}
            for family in text_string_to_metric_families(fetch("http://%s:%d/metrics" % (HOST, port))[1]):
                for sample in family.samples:
                    labels = tuple(sorted(sample.labels.items()))
                    result.setdefault(sample.name, {})[labels] = sample.value
            return result

        yield scrape
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


def case_exporter(bench):
    """The exporter's metrics of all our pages are there, and equal to what the pages say."""
    other = Server(
        Ours(bench.server.adapter.program),
        merge(
            Ours.base,
            {
                "service": {"name": "b"},
                "gateway": {
                    "name": "B",
                    "remotes": [{"name": "A", "urls": ["nats://%s:%d" % (HOST, bench.server.gateway_port)]}],
                }
            },
        ),
        make_folder(bench),
    )
    bench.closing.callback(other.stop)
    make_traffic(bench)
    wait_until(lambda: bench.json("/gatewayz")["inbound_gateways"], "the link from B")
    wait_until(lambda: bench.json("/gatewayz")["outbound_gateways"], "the link to B")
    # The link's interest may still be coming in: figures lie between those before and after.
    before = {path: bench.json(path) for path in ("/varz", "/subsz", "/connz")}
    with exporter(bench) as scrape:
        metrics = wait_until(lambda: scrape_complete(scrape), "all families", TOOL_TIMEOUT_S)
    after = {path: bench.json(path) for path in before}
    label = (("server_id", page_url(bench)),)
    for path, names in (
        ("/varz", "max_payload ping_max port max_connections connections in_msgs out_msgs in_bytes"),
        ("/varz", "out_bytes slow_consumers total_connections subscriptions max_pending cores"),
        ("/subsz", "num_subscriptions num_inserts num_removes max_fanout"),
        ("/connz", "num_connections total limit offset"),
    ):
        for name in names.split():
            metric = "gnatsd_%s_%s" % (path[1:], name)
            values = (before[path][name], metrics[metric][label], after[path][name])
            require_equal(sorted(values), list(values), metric + " (page, metric, page)")
    require_equal(metrics["gnatsd_varz_in_msgs"][label], 50, "in_msgs")
    require_equal(metrics["gnatsd_varz_out_bytes"][label], 500, "out_bytes")
    require_equal(metrics["gnatsd_connz_num_connections"][label], 2, "num_connections")
    require_equal(metrics["gnatsd_connz_pending_bytes"][label], 0, "pending_bytes")
    require_equal(metrics["gnatsd_routez_num_routes"][label], 0, "num_routes")
    for direction in ("inbound", "outbound"):
        (links,) = [
            values
            for name, values in metrics.items()
            if name == "gnatsd_gatewayz_%s_gateway_configured" % direction
        ]
        names = [dict(labels).get("remote_gateway_name") for labels in links]
        require_equal(names, ["B"], "gateways " + direction)
        (rtt,) = metrics["gnatsd_gatewayz_%s_gateway_conn_rtt" % direction].values()
        require(0 <= rtt < TOOL_TIMEOUT_S, "rtt in seconds", None, rtt)


def scrape_complete(scrape):
    """The exporter's metrics, once it has read every page; it begins to when it is asked first."""
    with contextlib.suppress(urllib.error.URLError):
        metrics = scrape()
        wanted = ("varz_in_msgs", "subsz_num_subscriptions", "routez_num_routes", "connz_total")
        wanted += ("gatewayz_inbound_gateway_configured", "gatewayz_outbound_gateway_configured")
        if all("gnatsd_" + name in metrics for name in wanted):
            return metrics
    return None


def make_folder(bench):
    folder = os.path.join(bench.server.folder, "other")
    os.makedirs(folder)
    return folder


CASES = {
    name[len("case_") :]: body for name, body in list(globals().items()) if name.startswith("case_")
}


def settings_of(name, certs):
    settings = {"threads": {"workers": 2}}
    if name == "metrics":
        settings["gateway"] = {"name": "A"}
    if name == "exporter":
        settings["gateway"] = {"name": "A"}
    if name == "nats_top_tls":
        cert, key = certs.paths("event-service")
        settings["monitor"] = {"tls": {"cert_path": cert, "key_path": key}}
    return settings


if __name__ == "__main__":
    sys.exit(monitoring.main("what people watch NATS servers with", CASES, settings_of))
