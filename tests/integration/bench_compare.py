#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""bench/compare and bench/plot: what is measured comes to the tables and figures as it was, and nothing unsound does.

Goal: a reader of the tables is not misled: ratios are of the right servers, a generator that was the limit makes a bound
of them, a server that fails is named. Method: made-up measurements whose tables are known, and short real runs.

usage: bench_compare.py [--bin FOLDER] [CLASS.TEST...]     (default: the newest build/*/bin, or $ES_BIN)
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import unittest
from xml.etree import ElementTree

sys.dont_write_bytecode = True

import bench_case  # noqa: E402
from bench_case import BENCH  # noqa: E402

DEADLINE_S = 120
BIN = None  # set by main
sys.path.insert(0, BENCH)

import scenarios  # noqa: E402  (stand in bench)
import svg  # noqa: E402
import tables  # noqa: E402
from benchlib import free_port  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"
FIGURES = ("throughput-by-size", "latency-by-rate", "scaling-by-connections", "scaling-by-threads")


def run(program, *arguments):
    """(exit status, standard output, standard error) of a program of bench/."""
    done = subprocess.run([os.path.join(BENCH, program), *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=DEADLINE_S, check=False)
    return done.returncode, done.stdout, done.stderr


def compare(*arguments):
    return run("compare", *arguments, "--bin", BIN)


def figures(median, limited=0):
    """What is known of a server, as bench/compare writes it: everything about the same."""
    found = {key: {"median": median, "least": median, "most": median}
             for key in ("throughput", "cpu_us", "memory_bytes", "p50_ns", "p99_ns", "p99_9_ns", "longest_pause_ns",
                         "wakeups_per_second")}
    return {**found, "generator_limited": limited}


def report_of(rows, servers=("ours", "other")):
    """rows: scenario: {server: (median, rounds of three in which the generator was the limit)}."""
    report = {"environment": {"date": "2020-02-02T00:00:00Z", "kernel": "K", "machine": "M", "cores": 2, "cpu": "C",
                              "load_average": [0, 0, 0], "load_average_after": [0, 0, 0], "transport": "T"},
              "program": "bench/compare", "rounds": 3, "duration": "1s", "threads": 1, "scenarios": {},
              "servers": {name: {"command": name, "version": name + " 1.0", "compiler": "cc", "tls": "none",
                                 "is_limit": name in ("relay", "parse")} for name in servers}}
    for place, (scenario, row) in enumerate(rows.items()):
        found = {name: figures(*values) for name, values in row.items()}
        ratios = {name: {key: {"median": row["ours"][0] / values[0], "least": 0.5, "most": 9.5}
                         for key in figures(1) if key not in ("generator_limited", "longest_pause_ns", "wakeups_per_second")}
                  for name, values in row.items() if name != "ours"}
        report["scenarios"][scenario] = {"servers": found, "ratios": ratios, "refused": {}, "not_for": {},
                                         "rounds": [0, 0, 0], "is_open_loop": "open" in scenario, "series": None,
                                         "x": place + 1}
    return report


class Tables(unittest.TestCase):
    """What is written about known figures."""

    def row(self, text, name):
        found = [line for line in text.splitlines() if line.startswith(f"| {name} ")]
        self.assertEqual(len(found), 1, text)
        return [cell.strip() for cell in found[0].strip("|").split("|")]

    def test_ratio_and_medians(self):
        cells = self.row(tables.markdown(report_of({"a": {"ours": (30, 0), "other": (20, 0)}})), "a")
        self.assertEqual(cells[1], "**1.50** (0.50-9.50)<br>30 : 20")
        self.assertEqual(cells[4], "**1.50** (0.50-9.50)<br>0.03 : 0.02")  # ns are shown as us

    def test_generator_was_the_limit(self):
        """In most of the rounds, not in one: then a rate is a bound, or no ratio at all. CPU holds."""
        for ours, other, start in ((2, 0, "at least **1.50**"), (0, 3, "at most **1.50**"), (1, 1, "**1.50**"),
                                   (3, 2, "no ratio: the generator was the limit")):
            with self.subTest(ours=ours, other=other):
                cells = self.row(tables.markdown(report_of({"a": {"ours": (30, ours), "other": (20, other)}})), "a")
                self.assertTrue(cells[1].startswith(start), cells[1])
                self.assertTrue(cells[2].startswith("**1.50**"), cells[2])

    def test_generator_was_late(self):
        text = tables.markdown(report_of({"open": {"ours": (30, 0), "other": (20, 3)}}))
        self.assertIn("| open (the generator itself was late with other) | **1.50**", text)

    def test_share_of_the_relay(self):
        """A limit beside real servers is a column of each of their tables; alone it is what is compared with."""
        rows = {"a": {"ours": (30, 0), "other": (20, 0), "third": (10, 0), "relay": (60, 0)},
                "b": {"ours": (30, 0), "other": (20, 0), "third": (10, 0)}}
        text = tables.markdown(report_of(rows, ("ours", "other", "third", "relay")))
        self.assertEqual(re.findall("### (.*)", text), ["ours against other", "ours against third"])
        for part in text.split("###")[1:]:
            self.assertIn("share of relay", part)
            self.assertEqual(self.row(part, "a")[-1], "**0.50** (0.50-9.50)<br>CPU **0.50** (0.50-9.50)")
            self.assertEqual(self.row(part, "b")[-1], "-")
        rows["a"]["relay"] = (60, 3)  # the relay could do more than the generator
        text = tables.markdown(report_of(rows, ("ours", "other", "third", "relay")))
        self.assertEqual(self.row(text.split("###")[1], "a")[-1], "at most **0.50** (0.50-9.50)<br>CPU **0.50** (0.50-9.50)")
        text = tables.markdown(report_of({"a": {"ours": (30, 0), "relay": (60, 0)}}, ("ours", "relay")))
        self.assertEqual(re.findall("### (.*)", text), ["ours against relay"])

    def test_columns_are_even(self):
        """Also where somebody was refused."""
        report = report_of({"a": {"ours": (30, 0), "other": (20, 0), "relay": (10, 0)}, "b": {"ours": (30, 0)}},
                           ("ours", "other", "relay"))
        report["scenarios"]["b"]["refused"] = {"other": "it lost messages"}
        lines = [line for line in tables.markdown(report).splitlines() if line.startswith("|")]
        self.assertEqual(len({line.count("|") for line in lines}), 1, lines)
        self.assertIn("| b | other refused: it lost messages |", "\n".join(lines))

    def test_stalled(self):
        report = report_of({tables.HEALTHY: {"ours": (200, 0)}, tables.WITH_STALLED: {"ours": (190, 0)}}, ("ours",))
        self.assertIn("- ours: beside 10 stalled subscribers the 90 healthy ones keep 95% of their throughput",
                      tables.markdown(report))


    def test_idle(self):
        text = tables.markdown(report_of({"7 idle connections": {"ours": (0.25, 0), "other": (3, 0)}}))
        self.assertIn("- ours: with 7 idle connections 0.2 wake-ups a second.\n"
                      "- other: with 7 idle connections 3.0 wake-ups a second.", text)


class Scenarios(unittest.TestCase):
    def test_arguments(self):
        """event-bench understands every scenario: where nobody listens it fails with 1, not with 2 (usage)."""
        port = str(free_port())
        everything = scenarios.choose("all", None)
        self.assertEqual(len({scenario.name for scenario in everything}), len(everything))
        for scenario in everything:
            with self.subTest(scenario=scenario.name):
                done = subprocess.run([os.path.join(BIN, "event-bench"), *scenario.arguments, "--server", "127.0.0.1:" + port,
                                       *(("--worker", "127.0.0.1:0") if scenario.kind == "events" else ())],
                                      capture_output=True, text=True, timeout=DEADLINE_S, check=False)
                if scenario.kind == "events":  # port 0 is refused, and nothing else
                    self.assertIn("--worker", done.stderr)
                else:
                    self.assertEqual(done.returncode, 1, done.stderr)
                    self.assertIn("cannot connect", done.stderr)

    def test_threads(self):
        """1, 2, 4, ... and all cores, each once."""
        for cores, counts in ((1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])):
            self.assertEqual(scenarios.worker_counts(cores), counts)


class Axes(unittest.TestCase):
    def test_ticks(self):
        """Round, in order, and around all values."""
        for is_log in (False, True):
            for least, most in ((1, 1), (3, 7), (0.02, 0.03), (1, 1e7), (4.9, 5.1), (999, 1001), (12345, 6789012)):
                with self.subTest(is_log=is_log, least=least, most=most):
                    first, last, ticks = svg.ticks_of(least, most, is_log)
                    self.assertLessEqual(first, least * 1.001)
                    self.assertGreaterEqual(last, most * 0.999)
                    self.assertEqual(ticks, sorted(set(ticks)))
                    self.assertLessEqual(len(ticks), 9)
                    self.assertGreaterEqual(len(ticks), 1)


class Figures(unittest.TestCase):
    """From JSON to SVG files."""

    def plot(self, report):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "report.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(report, file)
            status, _, err = run("plot", path, "--output", os.path.join(folder, "out"))
            self.assertEqual(status, 0, err)
            return {name[:-4]: ElementTree.parse(os.path.join(folder, "out", name)).getroot()
                    for name in os.listdir(os.path.join(folder, "out"))}

    def made_up(self, values, series="size"):
        report = report_of(values, ("ours", "nats-server", "relay"))
        for row in report["scenarios"].values():
            row["series"] = series
        return report

    def test_one_file_a_series(self):
        report = self.made_up({"1": {"ours": (30, 0), "nats-server": (20, 0)}})
        self.assertEqual(set(self.plot(report)), {"throughput-by-size"})

    def test_every_point_is_there(self):
        """In both panels a mark for each server and place, hollow where the generator was the limit, none outside."""
        report = self.made_up({str(i): {"ours": (10.0 ** i, 3 * (i == 2)), "nats-server": (5.0 ** i, 0), "relay": (20.0 ** i, 0)}
                               for i in range(4)})
        for series, name, panels in (("size", "throughput-by-size", 2), ("rate", "latency-by-rate", 3),
                                     ("pairs", "scaling-by-connections", 2), ("threads", "scaling-by-threads", 2)):
            with self.subTest(series=series):
                for row in report["scenarios"].values():
                    row["series"] = series
                root = self.plot(report)[name]
                _, _, width, height = (float(part) for part in root.get("viewBox").split())
                marks = [mark for mark in root.iter(SVG + "circle") if mark.find(SVG + "title") is not None]
                self.assertEqual(len(marks), panels * 3 * 4)
                self.assertEqual(sum("hollow" in mark.get("class") for mark in marks), panels)
                for mark in marks:
                    self.assertTrue(0 < float(mark.get("cx")) < width and 0 < float(mark.get("cy")) < height)
                for line in root.iter(SVG + "polyline"):
                    self.assertNotIn("nan", line.get("points"))

    def test_order(self):
        """More is drawn higher up, and further right."""
        root = self.plot(self.made_up({str(i): {"ours": (100, 0), "nats-server": (10, 0)} for i in range(2)}))
        marks = [(mark.find(SVG + "title").text, float(mark.get("cx")), float(mark.get("cy")))
                 for mark in root["throughput-by-size"].iter(SVG + "circle") if mark.find(SVG + "title") is not None]
        ours = [mark for mark in marks if mark[0].startswith("ours")]
        other = [mark for mark in marks if mark[0].startswith("nats-server")]
        self.assertLess(ours[0][2], other[0][2])
        self.assertLess(ours[0][1], ours[1][1])

    def test_light_and_dark(self):
        """Every class that has a color has one of each; names are escaped."""
        report = self.made_up({"1": {"ours": (30, 0), "nats-server": (20, 0)}})
        report["servers"]["ours"]["version"] = "<b>&"
        root = self.plot(report)["throughput-by-size"]
        light, dark = root.find(SVG + "style").text.split("@media (prefers-color-scheme:dark){")
        used = {name for element in root.iter() for name in (element.get("class") or "").split()
                if re.match("(stroke|fill)-", name)}
        self.assertTrue(used)
        for name in used | {"page", "title", "grid"}:
            self.assertIn(f".{name}", light)
            self.assertIn(f".{name}", dark)
        self.assertIn("<b>&", [text.text for text in root.iter(SVG + "text")])

    def test_unlike_runs(self):
        """Points of several runs are drawn together when they are of one machine; what differs else is told."""
        first, second = (self.made_up({str(i): {"ours": (30, 0), "nats-server": (20, 0)}}) for i in range(2))
        second["scenarios"] = {"later": {**second["scenarios"]["1"], "x": 2, "rounds": [0] * 7}}
        with tempfile.TemporaryDirectory() as folder:
            paths = [os.path.join(folder, name) for name in ("first", "second")]
            for machine, status, word in ((2, 0, None), (4, 1, "was measured elsewhere")):
                second["environment"]["cores"] = machine
                for path, report in zip(paths, (first, second)):
                    with open(path, "w", encoding="utf-8") as file:
                        json.dump(report, file)
                found, _, err = run("plot", *paths, "--output", folder)
                self.assertEqual(found, status, err)
                if word is not None:
                    self.assertIn(word, err)
            with open(os.path.join(folder, "throughput-by-size.svg"), encoding="utf-8") as file:
                self.assertIn("Medians of 3, 7 rounds of 1s", file.read())
            with open(paths[0], "w", encoding="utf-8") as file:
                file.write("no JSON")
            status, _, err = run("plot", paths[0], "--output", folder)
            self.assertEqual((status, err.count("\n")), (1, 1), err)

    def test_nothing_measured(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(report_of({"a": {"ours": (1, 0)}}, ("ours",)), file)
            file.flush()
            status, _, err = run("plot", file.name, "--output", file.name + ".out")
        os.rmdir(file.name + ".out")
        self.assertEqual(status, 1)
        self.assertIn("nothing measured", err)


class RealRuns(unittest.TestCase):
    """Short ones: figures mean nothing, but there are some, of each server."""

    def test_from_servers_to_figures(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "report.json")
            markdown = os.path.join(folder, "report.md")
            status, out, err = compare("ours", "nats-server", "relay", "--quick", "--set", "all", "--only", "1:1, 128 B",
                                       "--only", "size 64", "--only", "rate 10k", "--only", "10 pairs", "--only",
                                       "2 server threads", "--json", path, "--markdown", markdown)
            self.assertEqual(status, 0, err)
            with open(markdown, encoding="utf-8") as file:
                self.assertEqual(file.read(), out)
            with open(path, encoding="utf-8") as file:
                report = json.load(file)
            status, names, err = run("plot", path, "--output", folder)
            self.assertEqual(status, 0, err)
            self.assertIn("throughput-by-size.svg", names)
        self.assertEqual(set(report["servers"]), {"ours", "nats-server", "relay"})
        self.assertRegex(report["servers"]["ours"]["compiler"], r"^(gcc|clang version) \d+")
        self.assertRegex(report["servers"]["ours"]["tls"], r"^wolfSSL, .* \d+\.\d+\.\d+$")
        self.assertEqual(report["servers"]["nats-server"]["tls"], "Go crypto/tls")
        row = report["scenarios"]["1:1, 128 B"]
        for name in report["servers"]:
            self.assertGreater(row["servers"][name]["throughput"]["median"], 1000)
            self.assertGreater(row["servers"][name]["cpu_us"]["median"], 0)
        mine, other = (row["servers"][name]["throughput"]["median"] for name in ("ours", "nats-server"))
        self.assertAlmostEqual(row["ratios"]["nats-server"]["throughput"]["median"], mine / other, places=6)
        self.assertEqual(row["not_for"], {})
        self.assertEqual(report["scenarios"]["rate 10k/s"]["not_for"], {"relay": "1:1 only"})

    def test_kinds(self):
        """TLS, mutual TLS, a link and events: event-service and nats-server are configured for each, where they have it."""
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            status, _, err = compare("ours", "nats-server", "--quick", "--only", "TLS 1:1, 128 B", "--only", "mutual TLS",
                                     "--only", "gateway link", "--only", "events", "--json", file.name)
            self.assertEqual(status, 0, err)
            rows = json.load(file)["scenarios"]
        self.assertEqual(len(rows), 4)
        for name, row in rows.items():
            self.assertIn("ours", row["servers"])
            self.assertEqual("nats-server" in row["servers"], "events" not in name)

    def test_a_server_that_does_not_start(self):
        """Who cannot play is named, and the other one still has its figures."""
        status, out, err = compare("ours", "/nowhere/server {port}", "--quick", "--only", "1:1, 16 B")
        self.assertEqual((status, out), (2, ""))
        self.assertIn("cannot be started: /nowhere/server", err)
        status, out, err = compare("ours", "/bin/false {port}", "--quick", "--only", "1:1, 16 B")
        self.assertEqual(status, 1, err)
        self.assertRegex(out, r"/bin/false \{port\} refused: /bin/false ended with status 1")

    def test_broken_off(self):
        """Who ends it leaves no server behind."""
        process = subprocess.Popen([os.path.join(BENCH, "compare"), "ours", "--only", "1:1, 16 B", "--duration", "50s",
                                    "--bin", BIN], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + DEADLINE_S
        children = []
        while len(children) < 2 and time.monotonic() < deadline:  # the server and event-bench
            with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
                children = [pid for pid in file.read().split() if self.name_of(pid).startswith("event-")]
        self.assertEqual(len(children), 2)
        process.terminate()
        self.assertEqual(process.wait(DEADLINE_S), 143)
        # An event-bench that was just being started ends by itself, since its server has gone.
        while any(self.name_of(pid).startswith("event-") for pid in children) and time.monotonic() < deadline:
            pass
        self.assertFalse(any(self.name_of(pid).startswith("event-") for pid in children))

    def name_of(self, pid):
        """What the process runs; "" when it is gone."""
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:  # empty of who has ended and was not waited for
                return os.path.basename(file.read().split("\0")[0])
        except OSError:
            return ""

    def test_list(self):
        status, out, _ = compare("--list", "--set", "all")
        self.assertEqual(status, 0)
        self.assertIn("1M subscriptions: event-bench idle", out)
        self.assertEqual(compare("--list", "--only", "no such scenario")[0], 2)


def main():
    global BIN
    arguments = sys.argv[1:]
    BIN = bench_case.take_bin(arguments)
    return bench_case.run_tests(arguments)


if __name__ == "__main__":
    sys.exit(main())
