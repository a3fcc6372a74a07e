#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The tools that measure parts and count instructions do what docs/benchmarks.md says of them.

Goal: bench-micro runs every part and its JSON is whole; a baseline of instruction counts finds growth, and is compared
only with what is alike. Method: bench-micro --quick, whose figures mean nothing; made-up baselines and counts. That the
server's own counts have not grown is a step of scripts/test (bench/instructions --check).
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True

import bench_case  # noqa: E402

sys.path.insert(0, bench_case.BENCH)

import instruction_baseline as baseline  # noqa: E402

DEADLINE_S = 240
PARTS = {"parser", "match", "mailbox", "format", "timer"}
bin_folder = None


def micro(*arguments):
    return subprocess.run([os.path.join(bin_folder, "bench-micro"), *arguments], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=DEADLINE_S, check=False)


class Micro(unittest.TestCase):
    def test_every_part(self):
        done = micro("--quick", "--json", "-")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        report = json.loads(done.stdout)
        self.assertTrue(report["quick"])
        self.assertEqual({result["part"] for result in report["results"]}, PARTS)
        names = ["%(part)s: %(name)s" % result for result in report["results"]]
        self.assertEqual(len(set(names)), len(names), "a name stands for one case")
        for result in report["results"]:
            with self.subTest(result["name"]):
                self.assertGreater(result["least"], 0)
                self.assertLessEqual(result["least"], result["median"])
                self.assertLessEqual(result["median"], result["most"])
                self.assertGreater(result["operations"], 0)
                self.assertGreater(result["sum"], 0)
        listed = micro("--quick", "--list")
        self.assertEqual(listed.stdout.splitlines(), names)

    def test_a_choice(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "micro.json")
            done = micro("--quick", "--only", "parser: PUB 16 B", "--rounds", "5", "--json", path)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            with open(path, encoding="utf-8") as file:
                report = json.load(file)
        self.assertEqual([result["name"] for result in report["results"]],
                         ["PUB 16 B, whole", "PUB 16 B, cut at random"])
        self.assertEqual(report["rounds"], 5)
        table = done.stdout.splitlines()
        self.assertEqual(len(table), 3, "a heading and a line for each case")
        self.assertRegex(table[1], r"^parser +PUB 16 B, whole( +[0-9.]+){3}$")

    def test_refusals(self):
        for arguments, status in ((("--only", "nothing of this name"), 1), (("--rounds", "0"), 1), (("--rounds", "x"), 1),
                                  (("--json", "/nonexistent/file", "--quick", "--only", "format: MSG"), 1),
                                  (("surplus",), 2), (("--unknown",), 2)):
            with self.subTest(arguments):
                done = micro(*arguments)
                self.assertEqual(done.returncode, status)
                self.assertIn("bench-micro", done.stderr)


HERE_NOW = {"compiler": "gcc 12.2.0", "libc": "glibc 2.36", "machine": "x86_64", "vectors": "avx2", "size": "128"}


class Baseline(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "baseline.json")
        baseline.write(HERE_NOW, {"pub-sub": [1000, 1010, 900], "fan-out": [70, 70, 70]}, self.path)

    def kept(self):
        return baseline.find(baseline.read(self.path), HERE_NOW)

    def test_growth(self):
        kept = self.kept()
        for count, is_well in ((1000, True), (1049, True), (500, True), (1051, False), (2000, False)):
            with self.subTest(count):
                lines, result = baseline.table(kept, {"pub-sub": count, "fan-out": 70})
                self.assertEqual(result, is_well)
                self.assertEqual("GROWN" in "\n".join(lines), not is_well)

    def test_gaps(self):
        kept = self.kept()
        self.assertFalse(baseline.table(kept, {"pub-sub": 1000})[1], "a scenario was not measured")
        self.assertFalse(baseline.table(kept, {"pub-sub": 1000, "fan-out": "lost messages"})[1], "one was refused")
        lines, is_well = baseline.table(kept, {"pub-sub": 1000, "fan-out": 70, "queue": 5})
        self.assertFalse(is_well)
        self.assertIn("no baseline", lines[-1])

    def test_environments(self):
        other = dict(HERE_NOW, compiler="gcc 14.1.0")
        with self.assertRaises(baseline.Unlike) as told:
            baseline.find(baseline.read(self.path), other)
        self.assertIn("compiler is gcc 14.1.0, of the nearest baseline gcc 12.2.0", str(told.exception))
        baseline.write(other, {"pub-sub": [800]}, self.path)
        self.assertEqual(baseline.find(baseline.read(self.path), other)["pub-sub"]["instructions"], 800)
        self.assertEqual(self.kept()["pub-sub"]["instructions"], 1000, "the other environment's stays")

    def test_one_scenario_renewed(self):
        baseline.write(HERE_NOW, {"pub-sub": [500]}, self.path)
        self.assertEqual({name: entry["instructions"] for name, entry in self.kept().items()},
                         {"pub-sub": 500, "fan-out": 70})

    def test_program(self):
        """The compiler is told by the program itself."""
        self.assertRegex(baseline.compiler_of(os.path.join(bin_folder, "bench-micro")), r"^(gcc|clang) \d+\.\d+")

    def test_the_kept_one(self):
        """The file beside bench/instructions has every scenario, for each environment that it names."""
        for entry in baseline.read():
            self.assertEqual(set(entry["environment"]), set(baseline.ENVIRONMENT))
            self.assertGreaterEqual(set(entry["scenarios"]), {"pub-sub", "fan-out", "queue", "request-reply", "subjects"})


def main():
    global bin_folder
    arguments = sys.argv[1:]
    bin_folder = bench_case.take_bin(arguments)
    return bench_case.run_tests(arguments)


if __name__ == "__main__":
    sys.exit(main())
