# SPDX-License-Identifier: GPL-2.0-or-later
"""The report of bench/compare as Markdown: one table for each server that the first one is compared with."""

# key, heading, factor for the medians
COLUMNS = [
    ("throughput", "throughput, msgs/s (or requests/s, connections/s, SUBs and UNSUBs/s)", 1),
    ("cpu_us", "server CPU for each, us", 1),
    ("memory_bytes", "memory of an idle connection or a subscription, bytes", 1),
    ("p50_ns", "p50, us", 1e-3),
    ("p99_ns", "p99, us", 1e-3),
    ("p99_9_ns", "p99.9, us", 1e-3),
]
HEALTHY, WITH_STALLED = "fan-out 1:90, 128 B", "fan-out 1:90, 10 more stalled, 128 B"


def number(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def ratio(found):
    return f"**{found['median']:.2f}** ({found['least']:.2f}-{found['most']:.2f})"


def is_limited(row, name):
    """In most of the rounds the generator was what limited the rate, or was late itself."""
    return row["servers"][name]["generator_limited"] * 2 > len(row["rounds"])


def bound(row, first, other):
    """What a generator that was the limit makes of a ratio of rates: a bound, or nothing at all."""
    limited = [is_limited(row, name) and not row["is_open_loop"] for name in (first, other)]
    return {(False, False): "", (True, False): "at least ", (False, True): "at most "}.get(tuple(limited))


def cell(row, first, other, key, factor):
    """Median ratio, its range, and the medians that it comes from."""
    found = row["ratios"][other][key]
    if found is None:
        return "-"
    medians = " : ".join(number(row["servers"][name][key]["median"] * factor) for name in (first, other))
    before = bound(row, first, other) if key == "throughput" else ""
    return f"no ratio: the generator was the limit<br>{medians}" if before is None else \
        f"{before}{ratio(found)}<br>{medians}"


def share(row, first, limit):
    """How a server stands to what the machine allows at all: "at most" where the generator could not do more."""
    found = row.get("ratios", {}).get(limit)
    if found is None:
        return "-"
    before = bound(row, first, limit)
    rate = "no ratio: the generator was the limit" if before is None else before + ratio(found["throughput"])
    return f"{rate}<br>CPU {ratio(found['cpu_us'])}"


def table(report, first, other, limits):
    lines = [
        "| scenario | " + " | ".join(heading for _, heading, _ in COLUMNS)
        + "".join(f" | share of {limit}: throughput, CPU" for limit in limits) + " |",
        "|---" * (1 + len(COLUMNS) + len(limits)) + "|",
    ]
    for name, row in report["scenarios"].items():
        refused = [f"{who} refused: {why}" for who, why in row["refused"].items() if who in (first, other)]
        if refused:
            lines.append(f"| {name} | {'; '.join(refused)} |" + " |" * (len(COLUMNS) - 1 + len(limits)))
        elif other in row.get("ratios", {}):
            cells = [cell(row, first, other, key, factor) for key, _, factor in COLUMNS]
            late = [who for who in (first, other) if row["is_open_loop"] and is_limited(row, who)]
            name += f" (the generator itself was late with {' and '.join(late)})" if late else ""
            lines.append(f"| {name} | " + " | ".join(cells + [share(row, first, limit) for limit in limits]) + " |")
    return lines


def single(report, first):
    """Of one server alone: its medians."""
    lines = ["| scenario | " + " | ".join(heading for _, heading, _ in COLUMNS) + " |",
             "|---" * (1 + len(COLUMNS)) + "|"]
    for name, row in report["scenarios"].items():
        found = row.get("servers", {}).get(first)
        cells = [number(found[key]["median"] * factor) if found[key]["median"] else "-"
                 for key, _, factor in COLUMNS] if found else \
                [row["refused"].get(first) or row["not_for"].get(first, "-")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |" + " |" * (len(COLUMNS) - len(cells)))
    return lines


def healthy_beside_stalled(report):
    """What subscribers that stop reading take from those that go on."""
    rows = [report["scenarios"].get(name, {}).get("servers", {}) for name in (HEALTHY, WITH_STALLED)]
    lines = []
    for name in rows[0]:
        if name in rows[1]:
            alone, beside = rows[0][name], rows[1][name]
            kept = beside["throughput"]["median"] / alone["throughput"]["median"]
            later = beside["p99_ns"]["median"] / alone["p99_ns"]["median"]
            pause = beside["longest_pause_ns"]["most"] / 1e6
            lines.append(f"- {name}: beside 10 stalled subscribers the 90 healthy ones keep {kept:.0%} of their throughput, "
                         f"p99 times {later:.2f}; the longest time without a delivery was {pause:.0f} ms.")
    return lines


def wakeups_when_idle(report):
    """Who is asleep costs nothing, and wakes up for nothing."""
    return [f"- {name}: with {scenario} {found['wakeups_per_second']['median']:.1f} wake-ups a second."
            for scenario, row in report["scenarios"].items() if "idle connections" in scenario
            for name, found in row.get("servers", {}).items()]


def stamp(report):
    where = report["environment"]
    lines = [f"{where['date']}, {where['kernel']} {where['machine']}, {where['cores']} cores ({where['cpu']}), load average "
             f"{where['load_average'][0]:.2f} before and {where['load_average_after'][0]:.2f} after, {where['transport']}. "
             f"{report['rounds']} rounds of {report['duration']} each, generator threads: {report['threads']}.", ""]
    for name, facts in report["servers"].items():
        lines.append(f"- {name}: `{facts['command']}`, {facts['version']}; built by {facts['compiler']}; "
                     f"TLS: {facts['tls']}")
    return lines


def markdown(report):
    names = list(report["servers"])
    first, others = names[0], names[1:]
    limits = [name for name in others if report["servers"][name]["is_limit"]]
    # A limit alone is what is compared with; beside a real server it is a column of its table.
    rivals = [name for name in others if name not in limits] or others
    lines = stamp(report)
    lines += ["", f"Ratio {first} / other: median of the rounds (least-most), below it the medians of both. Messages of all "
              "subscribers count. Except with request-reply and in open loop the latency is that of full buffers: a window "
              "of 1 MiB divided by the rate."]
    if not rivals:
        lines += ["", *single(report, first)]
    for rival in rivals:
        shown = [limit for limit in limits if limit != rival]
        lines += ["", f"### {first} against {rival}", "", *table(report, first, rival, shown)]
    lines += ["", *healthy_beside_stalled(report), *wakeups_when_idle(report)]
    while lines[-1] == "":
        lines.pop()
    return "\n".join(lines) + "\n"
