# SPDX-License-Identifier: GPL-2.0-or-later
"""The schema of the configuration, as event-docs (built from src/config) tells it."""
import json
import os
import re
import subprocess

PROGRAMS = ("event-service", "event-gateway")

# Keys that a map cannot do without. src/config/translate.c demands them; tests/integration/config_schema.py shows that
# this table says the same. (group, key).
REQUIRED = {
    ("TLS", "cert_path"), ("TLS", "key_path"),
    ("CERTIFICATE", "cert_path"), ("CERTIFICATE", "key_path"),
    ("USER", "user"), ("USER", "password"),
    ("REMOTE", "name"), ("REMOTE", "urls"),
    ("HANDLER", "address"),
}  # fmt: skip


class Row:
    """A row of src/config/schema.def. Ranges are in the unit of the kind: nanoseconds, bytes, characters, pieces."""

    def __init__(self, group, facts):
        self.group = group
        self.role = facts["role"]
        self.name = facts.get("name", "")
        self.kind = facts.get("kind", "")
        self.least = facts.get("least", 0)
        self.most = facts.get("most", 0)
        self.allowed = facts.get("allowed", "")
        self.description = facts.get("description", "")
        self.words = facts.get("words", "")
        self.target = facts.get("target", "")
        self.programs = [p for p in PROGRAMS if facts[p.replace("-", "_")]]
        self.defaults = {p: facts.get("default_" + p.replace("-", "_")) for p in PROGRAMS}

    def has_auto(self):
        """Whether the word auto may stand for the number 0."""
        return "auto" in self.defaults.values()

    def choices(self):
        """The words of a choice that may be written."""
        return [word for word in self.words.split("|") if not word.startswith("!")]

    def later_choices(self):
        """The words that are known and not yet built."""
        return [word[1:] for word in self.words.split("|") if word.startswith("!")]


class Schema:
    def __init__(self, build):
        tool = os.path.join(build, "bin", "event-docs")
        if not os.path.exists(tool):
            raise FileNotFoundError(f"{tool} is not there: build this preset first")
        text = subprocess.run([tool], stdout=subprocess.PIPE, text=True, check=True).stdout
        self.groups = {g: [Row(g, facts) for facts in rows] for g, rows in json.loads(text).items()}

    def rows(self, group, *roles):
        return [row for row in self.groups[group] if row.role in roles]

    def role(self, group, role):
        """The group's one row of that role, or None."""
        return next(iter(self.rows(group, role)), None)

    def file_key(self, row):
        """The key that names a file with this secret, or None. auth.token_file has another meaning of its own."""
        name = row.name + "_file"
        is_taken = any(other.name == name for other in self.groups[row.group])
        return name if row.kind == "secret" and not is_taken else None

    def sections(self):
        """(path, row, programs) of every map of the file, outer ones first; a group once, at its first place."""
        found, seen = [], set()

        def walk(group, path, programs):
            for row in self.rows(group, "section", "list", "map"):
                here = f"{path}.{row.name}" if path else row.name
                here += {"section": "", "list": "[]", "map": ".NAME"}[row.role]
                own = [p for p in row.programs if p in programs]
                if row.target not in seen:
                    seen.add(row.target)
                    found.append((here, row, own))
                    walk(row.target, here, own)

        walk("ROOT", "", list(PROGRAMS))
        return found

    def places(self):
        """Group -> the paths at which its map stands, in the order of the file."""
        found = {}

        def walk(group, path):
            for row in self.rows(group, "section", "list", "map"):
                here = f"{path}.{row.name}" if path else row.name
                here += {"section": "", "list": "[]", "map": ".NAME"}[row.role]
                found.setdefault(row.target, []).append(here)
                walk(row.target, here)

        walk("ROOT", "")
        return found


def sentence(text):
    """A description of the table as a sentence. A name (of a host, a key) keeps its letters."""
    if re.match(r"[a-z]+(?![\w.:/])", text):
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else text + "."


def allowed_short(row):
    """What is allowed, without examples."""
    return row.allowed.split(", such as ")[0]


def default_text(row, programs, mark="`"):
    """`10132`; where the programs differ both with their names."""
    if (row.group, row.name) in REQUIRED:
        return "required"
    values = {p: row.defaults[p] for p in programs}
    if len(set(values.values())) == 1:
        value = next(iter(values.values()))
        return f"{mark}{value}{mark}" if value is not None else "not set"
    return ", ".join(f"{p}: {mark}{value}{mark}" for p, value in values.items())
