#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON Schema of the configuration says what the programs say.

  config_schema.py --build build/release

Goal: an editor that checks a file by share/*.schema.json neither accepts what the program refuses as a single value,
nor refuses what it takes. Method: the same files to both, to Debian's python3-jsonschema and to --check-config: the
examples, every key with its least, its most and wrong values, and maps that lack what they need. What only the
program can know (files, keys that contradict each other) is left out.
"""
import json
import os
import re
import sys
import tempfile
import tomllib

import jsonschema
import yaml

from bad_start import EXIT_CONFIG, path_text, run
from bystanders import ROOT, Mismatch, main, require

sys.path.insert(0, os.path.join(ROOT, "scripts", "pages"))

from schema import PROGRAMS, REQUIRED, Schema  # noqa: E402  (stands in scripts/pages)

EXAMPLES = (
    ("event-service", "config/event-service.yaml"),
    ("event-gateway", "config/event-gateway.yaml"),
    ("event-service", "config/original.toml"),
)
# What a map needs beside the key that is tried, so that only this key can be wrong.
BESIDE = {
    "TLS": {"cert_path": "/a", "key_path": "/b", "root_ca_path": "/c"},
    "CERTIFICATE": {"cert_path": "/a", "key_path": "/b"},
    "USER": {"user": "u", "password": "p"},
    "REMOTE": {"name": "r", "urls": "nats://127.0.0.1:1"},
    "HANDLER": {"address": "grpc://127.0.0.1:1"},
    "GATEWAY": {"user": "u", "password": "p"},
}


def validator(program):
    with open(os.path.join(ROOT, "share", program + ".schema.json"), encoding="utf-8") as file:
        schema = json.load(file)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def is_valid(checker, document):
    return next(checker.iter_errors(document), None) is None


def check_by_program(bench, program, document):
    """(accepted, the lines of standard error) by --check-config."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", dir=bench.folder, delete=False) as file:
        yaml.safe_dump(document, file)
    status, _, err = run([bench.program(program), "--check-config", "--config", file.name])
    require(status in (0, EXIT_CONFIG), "status of --check-config", (0, EXIT_CONFIG), "%s %s" % (status, err))
    return status == 0, err


class Place:
    """A key with the way to it: ["gateway", "remotes", 0, "name"]."""

    def __init__(self, row, path, programs):
        self.row, self.path, self.programs = row, path, programs

    def document(self, value):
        """A file with this value; maps on the way have what they need."""
        inner = dict(BESIDE.get(self.row.group, {}))
        inner[self.path[-1]] = value
        for step in reversed(self.path[:-1]):
            inner = [inner] if isinstance(step, int) else {step: inner}
        if self.path[0] == "gateway" and "remotes" in self.path:
            inner["gateway"]["remotes"][0] = {**BESIDE["REMOTE"], **inner["gateway"]["remotes"][0]}
        if self.path[0] == "auth" and "users" in self.path:
            inner["auth"]["users"][0] = {**BESIDE["USER"], **inner["auth"]["users"][0]}
        if self.path[0] == "handlers":
            inner["handlers"]["some"] = {**BESIDE["HANDLER"], **inner["handlers"]["some"]}
        return inner


def places(schema):
    """Every key of every map, at its first place."""
    found = []
    for path, row, programs in schema.sections():
        steps = []
        for part in path.split("."):
            steps += [part[:-2], 0] if part.endswith("[]") else ["some"] if part == "NAME" else [part]
        for key in schema.rows(row.target, "key"):
            own = [p for p in key.programs if p in programs]
            found.append(Place(key, [*steps, key.name], own))
    require(len(found) > 70, "the keys are known", "> 70", len(found))
    return found


def good_values(row):
    """Values that both must take, in each form."""
    word = ["auto"] if row.has_auto() else []
    if row.kind in ("port", "count"):
        return [row.least, row.most, str(row.most), "%d" % max(row.least, 1), *word]
    if row.kind == "size":
        return [row.least, row.most, "%dB" % row.most, str(row.most), *word]
    if row.kind == "duration":
        return ["%dns" % row.least, "%dns" % row.most, row.most // 10**9]
    if row.kind == "flag":
        return [True, False, "true"]
    if row.kind == "choice":
        words = row.choices()
        return words + [float(word) for word in words if re.fullmatch(r"\d+\.\d+", word)]
    return {
        "text": ["x" * row.least, "x" * row.most, "two words", 5 if row.least == 1 else 55],
        "secret": ["x" * row.least, "x" * row.most],
        "host": ["localhost", "127.0.0.1", "::1", "[::1]", "a-b.example.com"],
        "host_port": ["a:1", "[::1]:65535", "10.0.0.1:4222"],
        "handler_address": ["a:1", "grpc://a:1", "grpcs://[::1]:9"],
        "urls": ["nats://a:1", ["a:1", "nats://u:p@h:2"], "tls://[::1]:4222/"],
        "texts": [["x" * row.most], "one", ["a", "b"]],
    }.get(row.kind, [])


def bad_values(row):
    """Values that both must refuse."""
    if row.kind in ("port", "count", "size"):
        least = [row.least - 1] if row.least > 0 else [-1]
        word = [] if row.has_auto() else ["auto"]
        return [*least, row.most + 1, "ten", "1.5", "Auto", *word, [1], {"a": 1}]
    if row.kind == "duration":
        return ["soon", "2y", "1 s", row.most // 10**9 + 1, [1]]
    return {
        "flag": ["yes it is", 1, [True]],
        "choice": ["nonsense", *row.later_choices(), {"a": 1}],
        "text": ["", "x" * (row.most + 1), "a\x07b", [1]],
        "secret": ["", "x" * (row.most + 1), {"a": 1}],
        "host": ["bad host!", "a/b", ""],
        "host_port": ["nonsense", "a:0", "a:65536", "a:01"],
        "handler_address": ["nonsense", "a:0", "http://a:1", "nats:x"],
        "urls": ["http://a:1", "nats://a", ["nats://a:1", "b"], "nats://u@h:1"],
        "texts": [["x" * (row.most + 1)], [[1]], {"a": 1}, [""]],
        "path": ["", [1], {"a": 1}],
        "new_path": ["", [1]],
    }[row.kind]


def examples(bench):
    """The examples are valid by the schema; the program reads them as well, but for files that are not there."""
    for program, path in EXAMPLES:
        full = os.path.join(ROOT, path)
        with open(full, "rb") as file:
            document = tomllib.load(file) if path.endswith(".toml") else yaml.safe_load(file)
        faults = [error.message for error in validator(program).iter_errors(document)]
        require(faults == [], "%s by the schema" % path, [], faults)
        _, _, err = run([bench.program(program), "--check-config", "--config", full])
        lines = [line for line in err.splitlines() if "cannot be " not in line and "is valid" not in line]
        require(lines == [], "%s by %s" % (path, program), [], lines)


def is_about(err, place):
    """True where a line of the program is about this key itself and not about what it means with others."""
    name = re.escape(path_text(place.path))
    said = r"was found|unknown key|not yet built|printable characters|the path of a file"
    return any(re.search(r": %s(\[\d+\])?: .*(%s)" % (name, said), line) for line in err.splitlines())


def put_together(first, second):
    """One document of two, each key with its own value."""
    if isinstance(first, dict) and isinstance(second, dict):
        return {**first, **{key: put_together(first.get(key, value), value) for key, value in second.items()}}
    if isinstance(first, list) and isinstance(second, list) and isinstance(first[0], dict):
        return [put_together(first[0], second[0])]
    return second


def ask_program(bench, program, cases, is_good):
    """A value each of many keys in one file: all that is wrong is told in one run, with the key's name."""
    document = {}
    for place, value in cases:
        document = put_together(document, place.document(value))
    # Values stand last: what one key needs beside it may be what another one tries.
    for place, value in cases:
        inner = document
        for step in place.path[:-1]:
            inner = inner[step]
        inner[place.path[-1]] = value
    is_taken, err = check_by_program(bench, program, document)
    for place, value in cases:
        case = "%s: %s: %.60s" % (program, path_text(place.path), value)
        by_program = is_taken or not is_about(err, place)
        require(by_program == is_good, case + ": by the program", is_good, err)


def every_value(bench):
    """Least, most and wrong values of every key, to both."""
    schema = Schema(bench.build)
    checkers = {program: validator(program) for program in PROGRAMS}
    at_once = 25  # the program tells a hundred errors at most
    tried = {True: 0, False: 0}
    for is_good, values_of in ((True, good_values), (False, bad_values)):
        for program in PROGRAMS:
            rounds = {}
            for place in places(schema):
                for number, value in enumerate(values_of(place.row) if program in place.programs else []):
                    case = "%s: %s: %.60s" % (program, path_text(place.path), value)
                    by_schema = is_valid(checkers[program], place.document(value))
                    require(by_schema == is_good, case + ": by the schema", is_good, by_schema)
                    rounds.setdefault(number, []).append((place, value))
                    tried[is_good] += 1
            for cases in rounds.values():
                for at in range(0, len(cases), at_once):
                    ask_program(bench, program, cases[at : at + at_once], is_good)
    require(tried[True] > 250 and tried[False] > 350, "many values were tried", "> 250, > 350", tried)


def wrong_keys(bench):
    """Unknown keys, keys of the other program, keys of later versions, and both of two names, in every map."""
    schema = Schema(bench.build)
    checkers = {program: validator(program) for program in PROGRAMS}
    cases = []
    for path, row, programs in schema.sections():
        for place in places(schema):
            if place.row.group == row.target:
                for name in ["no_such_key", *(later.name for later in schema.rows(row.target, "later"))]:
                    other = Place(place.row, [*place.path[:-1], name], programs)
                    cases += [(program, other, other.document("x")) for program in programs]
                for program in PROGRAMS:
                    if program not in place.programs:
                        cases.append((program, place, place.document(good_values(place.row)[-1:] or "x")))
                break
        require(path, "a path")
    for program in PROGRAMS:
        for name in ("nonsense", *(later.name for later in schema.rows("ROOT", "later"))):
            cases.append((program, Place(schema.groups["ROOT"][0], [name], [program]), {name: {"a": 1}}))
        both = {"log": {"level": "info", "log_level": "info"}}
        cases.append((program, Place(schema.groups["LOG"][0], ["log", "log_level"], [program]), both))
    for program, place, document in cases:
        case = "%s: %s" % (program, document)
        require(not is_valid(checkers[program], document), case + ": by the schema", "refused", "taken")
        is_taken, err = check_by_program(bench, program, document)
        require(not is_taken, case + ": by the program", "refused", err)
    require(len(cases) > 60, "many keys were tried", "> 60", len(cases))


def missing_keys(bench):
    """A map without a key that it needs is refused by both; a secret may come from a file instead."""
    schema = Schema(bench.build)
    checkers = {program: validator(program) for program in PROGRAMS}
    seen = set()
    for place in places(schema):
        row = place.row
        if (row.group, row.name) not in REQUIRED:
            continue
        seen.add((row.group, row.name))
        for program in place.programs:
            whole = place.document(BESIDE[row.group][row.name])
            require(is_valid(checkers[program], whole), "%s: whole" % whole, "valid", "refused")
            document = json.loads(json.dumps(whole))
            inner = document
            for step in place.path[:-1]:
                inner = inner[step]
            del inner[row.name]
            inner.setdefault("in_flight_max", 1) if row.group == "HANDLER" else None
            case = "%s: %s without %s" % (program, document, row.name)
            require(not is_valid(checkers[program], document), case + ": by the schema", "refused", "taken")
            is_taken, err = check_by_program(bench, program, document)
            said = [line for line in err.splitlines() if "missing" in line or "needs" in line]
            require(not is_taken and said, case + ": by the program", "missing", err)
            if schema.file_key(row):
                inner[schema.file_key(row)] = "/a"
                require(is_valid(checkers[program], document), case + ": from a file", "valid", "refused")
    require(seen == REQUIRED, "each was tried", REQUIRED, seen)


CASES = [examples, every_value, wrong_keys, missing_keys]

if __name__ == "__main__":
    sys.exit(main(CASES, "the JSON Schema of the configuration"))
