# SPDX-License-Identifier: GPL-2.0-or-later
"""The kept instruction counts of bench/instructions: one set for each environment, and what differs from them.

The count of a message is made by the compiler, by the C library, and by which vector instructions that library and the
server find on the processor. A baseline is therefore only compared with a measurement that is alike in all of these.
"""
import json
import os
import platform
import re
import statistics
import subprocess

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "instructions.baseline.json")
GROWTH_MAX = 0.05
ENVIRONMENT = ("compiler", "libc", "machine", "vectors", "size")


class Unlike(Exception):
    """There is nothing to compare with, and why."""


def compiler_of(program):
    """Name and version of the compiler that made it: what it left in the program. Objects of the C library name gcc too."""
    text = subprocess.run(["readelf", "-p", ".comment", program], check=True, capture_output=True, text=True).stdout
    for name, pattern in (("clang", r"clang version (\d[\w.]*)"), ("gcc", r"GCC: \(.*\) (\d[\w.]*)")):
        found = re.search(pattern, text)
        if found:
            return f"{name} {found.group(1)}"
    raise Unlike(f"{program} does not tell which compiler made it")


def vectors():
    """The widest vector instructions that valgrind passes on to what it runs."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", file.read(), re.MULTILINE)
    flags = found.group(1).split() if found else []
    return next((name for name in ("avx2", "avx", "sse4_2", "asimd") if name in flags), "none")


def environment_of(program, size):
    return {"compiler": compiler_of(program), "libc": "%s %s" % platform.libc_ver(), "machine": platform.machine(),
            "vectors": vectors(), "size": size}


def read(path=PATH):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def find(baselines, environment):
    """The scenarios' counts kept for this environment; Unlike tells what differs from the nearest one."""
    best = None
    for entry in baselines:
        others = {key: (entry["environment"][key], environment[key]) for key in ENVIRONMENT
                  if entry["environment"][key] != environment[key]}
        if not others:
            return entry["scenarios"]
        if best is None or len(others) < len(best):
            best = others
    if best is None:
        raise Unlike("no baseline is kept")
    raise Unlike("no baseline for this environment: " + ", ".join(
        f"{key} is {now}, of the nearest baseline {kept}" for key, (kept, now) in best.items()))


def summary(counts):
    """The median of several rounds, and how far they lie apart."""
    middle = statistics.median(counts)
    return {"instructions": round(middle, 1), "spread": round((max(counts) - min(counts)) / middle, 4)}


def write(environment, scenarios, path=PATH):
    """Puts the counts ({name: [count, ...]}) in the place of those of this environment; scenarios not named stay."""
    baselines = read(path) if os.path.exists(path) else []
    entry = next((entry for entry in baselines if entry["environment"] == environment), None)
    if entry is None:
        entry = {"environment": environment, "scenarios": {}}
        baselines.append(entry)
    entry["scenarios"].update({name: summary(counts) for name, counts in scenarios.items()})
    with open(path, "w", encoding="utf-8") as file:
        json.dump(baselines, file, indent=2)
        file.write("\n")


def has_grown(kept, name, count):
    return name in kept and count > kept[name]["instructions"] * (1 + GROWTH_MAX)


def table(kept, measured):
    """Lines for people, and whether all is well: each scenario of the baseline has to be measured and not to have grown.
    measured: {name: count, or the text why there is none}."""
    lines = ["%-18s %12s %12s %8s" % ("scenario", "baseline", "now", "")]
    is_well = True
    for name in list(kept) + [name for name in measured if name not in kept]:
        before = kept.get(name, {}).get("instructions")
        now = measured.get(name, "not measured")
        if isinstance(now, str) or before is None:
            is_well = False
            lines.append("%-18s %12s  %s" % (name, "none" if before is None else "%.1f" % before,
                                             now if isinstance(now, str) else "%.1f: no baseline" % now))
            continue
        grown = has_grown(kept, name, now)
        is_well = is_well and not grown
        lines.append("%-18s %12.1f %12.1f %+7.1f%%%s" % (
            name, before, now, 100 * (now / before - 1), "  GROWN by more than %.0f%%" % (100 * GROWTH_MAX) if grown else ""))
    return lines, is_well
