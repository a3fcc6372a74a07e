# SPDX-License-Identifier: GPL-2.0-or-later
"""What bench/compare runs: the table of scenarios, and the series that bench/plot draws as curves.

A scenario has a name, a kind of server, and arguments of event-bench. Points of a series are scenarios too: they know
the series they belong to and their place x on its axis.
"""
import os

import benchlib
from benchlib import EVENTS, LINKED, MUTUAL_TLS, PLAIN, TLS


class Scenario:
    def __init__(self, name, kind, arguments, workers=None, series=None, x=None):
        self.name, self.kind, self.arguments = name, kind, arguments
        self.workers = workers  # threads of the server; None: as it likes
        self.series, self.x = series, x

    def runs_on(self, server):
        """Why this server cannot play it, or "" when it can."""
        if server.is_relay:
            is_one_to_one = self.arguments[0] == "pub-sub" and not set(self.arguments) - {"pub-sub", "--size"} - SIZES
            return "" if self.kind == PLAIN and is_one_to_one and self.workers is None else "1:1 only"
        if server.is_parse:
            known = self.kind == PLAIN and self.arguments[0] == "pub-sub" and self.workers is None
            return "" if known and not {"--subjects", "--rate", "1000"} & set(self.arguments) else "1:1 and pairs only"
        if self.kind == EVENTS and not server.has_config:
            return "no event queue"
        if self.kind not in (PLAIN, EVENTS) and not server.has_any_config:
            return "the command line has no {config} or {nats_config}"
        return ""


SIZES_OF_CURVE = ("16", "64", "256", "1KiB", "4KiB", "16KiB", "64KiB")
SIZES = {*SIZES_OF_CURVE, "128"}
RATES_OF_CURVE = ("10k", "20k", "50k", "100k", "200k", "300k", "500k")
PAIRS_OF_CURVE = ("1", "10", "100", "1000")
FACTORS = {"k": 1000, "KiB": 1024}


def value_of(text):
    digits = text.rstrip("KkiB")
    return int(digits) * FACTORS.get(text[len(digits):], 1)


TABLE = [
    Scenario("1:1, 16 B", PLAIN, ["pub-sub", "--size", "16"]),
    Scenario("1:1, 128 B", PLAIN, ["pub-sub", "--size", "128"]),
    Scenario("1:1, 1 KiB", PLAIN, ["pub-sub", "--size", "1KiB"]),
    Scenario("1:1, 16 KiB", PLAIN, ["pub-sub", "--size", "16KiB"]),
    Scenario("publishing alone, 128 B", PLAIN, ["pub"]),
    Scenario("fan-out 1:10, 128 B", PLAIN, ["fan-out", "--subscribers", "10"]),
    Scenario("fan-out 1:100, 128 B", PLAIN, ["fan-out", "--subscribers", "100"]),
    Scenario("fan-in 10:1, 128 B", PLAIN, ["fan-in"]),
    Scenario("all to all 8:8, 128 B", PLAIN, ["fan-in", "--publishers", "8", "--subscribers", "8"]),
    Scenario("8 pairs, 128 B", PLAIN, ["pub-sub", "--publishers", "8"]),
    Scenario("queue group of 4, 128 B", PLAIN, ["queue", "--subscribers", "4"]),
    Scenario("100k subjects, 30% wildcards, 128 B", PLAIN,
             ["pub-sub", "--subjects", "100k", "--wildcards", "30", "--timeout", "60s"]),
    Scenario("1M subjects, 30% wildcards, 128 B", PLAIN,
             ["pub-sub", "--subjects", "1M", "--wildcards", "30", "--timeout", "60s"]),
    Scenario("request-reply, 1 in flight", PLAIN, ["request-reply", "--in-flight", "1"]),
    Scenario("request-reply, 64 in flight", PLAIN, ["request-reply", "--in-flight", "64"]),
    Scenario("1:1, 128 B, open loop 20000/s", PLAIN, ["pub-sub", "--rate", "20000"]),
    Scenario("1:1, 128 B, open loop 100000/s", PLAIN, ["pub-sub", "--rate", "100k"]),
    Scenario("1:1, 128 B, open loop 300000/s", PLAIN, ["pub-sub", "--rate", "300k"]),
    Scenario("fan-out 1:90, 128 B", PLAIN, ["fan-out", "--subscribers", "90"]),
    Scenario("fan-out 1:90, 10 more stalled, 128 B", PLAIN, ["fan-out", "--subscribers", "90", "--stalled", "10"]),
    Scenario("TLS 1:1, 128 B", TLS, ["pub-sub"]),
    Scenario("TLS 1:1, 16 KiB", TLS, ["pub-sub", "--size", "16KiB"]),
    Scenario("gateway link 1:1, 128 B", LINKED, ["pub-sub"]),
    Scenario("events, 128 B, acknowledged", EVENTS, ["events"]),
    Scenario("SUB and UNSUB", PLAIN, ["churn"]),
    Scenario("connect", PLAIN, ["connect"]),
    Scenario("connect with mutual TLS", MUTUAL_TLS, ["connect"]),
    Scenario("5000 idle connections", PLAIN, ["idle", "--subscribers", "5000"]),
    Scenario("2000 idle connections with TLS", TLS, ["idle", "--subscribers", "2000"]),
    Scenario("1M subscriptions", PLAIN, ["idle", "--subscribers", "1", "--subjects", "1M", "--timeout", "60s"]),
]


def worker_counts(cores):
    """1, 2, 4, ... and all cores."""
    counts = [1]
    while counts[-1] * 2 < cores:
        counts.append(counts[-1] * 2)
    return counts + ([cores] if cores > 1 else [])


def curves(cores=None):
    """The points of all series."""
    points = [Scenario(f"size {size}", PLAIN, ["pub-sub", "--size", size], series="size", x=value_of(size))
              for size in SIZES_OF_CURVE]
    points += [Scenario(f"rate {rate}/s", PLAIN, ["pub-sub", "--rate", rate], series="rate", x=value_of(rate))
               for rate in RATES_OF_CURVE]
    # Together the pairs have as much on its way as one alone: a window each would fill the caches of any server.
    points += [Scenario(f"{count} pairs", PLAIN,
                        ["pub-sub", "--publishers", count, "--window", str(max((1 << 20) // int(count), 4096))],
                        series="pairs", x=int(count)) for count in PAIRS_OF_CURVE]
    for workers in worker_counts(cores or len(os.sched_getaffinity(0))):
        points.append(Scenario(f"{workers} server threads, {4 * workers} pairs", PLAIN,
                               ["pub-sub", "--publishers", str(4 * workers), "--processes", str(workers)],
                               workers=workers, series="threads", x=workers))
    return points


def choose(which, only):
    """The scenarios of "table", "curves" or "all" whose name (or series) holds one of the texts."""
    found = (TABLE if which in ("table", "all") else []) + (curves() if which in ("curves", "all") else [])
    return [scenario for scenario in found
            if not only or any(text in scenario.name or text == scenario.series for text in only)]


__all__ = ["Scenario", "TABLE", "choose", "curves", "benchlib"]
