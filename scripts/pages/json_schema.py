# SPDX-License-Identifier: GPL-2.0-or-later
"""share/*.schema.json: JSON Schema of a configuration file, for editors and other tools.

It says what the table says (keys, kinds, ranges, words) and which keys a map cannot do without. What is only valid
together, and what depends on files and the environment, is told by --check-config alone.
"""
import json

from schema import REQUIRED, Schema, sentence

VARIABLE = {"$ref": "#/$defs/variable"}
NUMBER = "(0|[1-9][0-9]{0,17})"
SIZE = f"^{NUMBER}( ?([Kk][Ii]?[Bb]|[Mm][Ii]?[Bb]|[Gg][Ii]?[Bb]|[Bb]))?$"
DURATION = f"^({NUMBER}|({NUMBER}(d|h|m|s|ms|us|ns))+)$"
SECOND_NS = 1000000000
PORT = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
# Letters, digits and what addresses are made of; the rest is told by the program.
HOST = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9._-]*)"
BARE_HOST = r"(\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?|[A-Za-z0-9_][A-Za-z0-9._-]*)"


def printable(least, most):
    """Text as the program counts it: characters, none of them a control character."""
    return {"type": "string", "minLength": least, "maxLength": most, "pattern": r"^[^\u0000-\u001f\u007f]*$"}


def text(least, most):
    """A number or a word without quotes is a text too."""
    return [printable(least, most), {"type": ["number", "boolean"]}]


def whole(row):
    return [{"type": "integer", "minimum": row.least, "maximum": row.most}]


def quoted_whole(row):
    """In the original's packaged file numbers stand in quotes."""
    return [{"type": "string", "pattern": f"^{NUMBER}$"}] if row.kind in ("port", "count") else []


def choice(row):
    words = []
    for word in row.choices():
        words.append(word)
        if word.replace(".", "", 1).isdigit():
            words.append(float(word))
    return [{"enum": words}]


def value_forms(row):
    """The forms that one value may have."""
    if row.kind in ("port", "count"):
        return whole(row) + quoted_whole(row)
    if row.kind == "size":
        return whole(row) + [{"type": "string", "pattern": SIZE}]
    if row.kind == "duration":
        least = -(-row.least // SECOND_NS)
        return [
            {"type": "integer", "minimum": least, "maximum": row.most // SECOND_NS},
            {"type": "string", "pattern": DURATION},
        ]
    if row.kind == "flag":
        return [{"type": "boolean"}, {"enum": ["true", "false"]}]
    if row.kind == "choice":
        return choice(row)
    if row.kind == "host":
        return [{"type": "string", "pattern": f"^{BARE_HOST}$"}]
    if row.kind == "host_port":
        return [{"type": "string", "pattern": f"^{HOST}:{PORT}$"}]
    if row.kind == "handler_address":
        return [{"type": "string", "pattern": f"^(grpcs?://)?{HOST}:{PORT}$"}]
    if row.kind == "urls":
        return [{"type": "string", "pattern": f"^((nats|tls)://)?(?!(nats|tls)://)([^:@]+:.+@)?{HOST}:{PORT}/?$"}]
    if row.kind in ("path", "new_path"):
        return text(1, 4096)
    return text(row.least, row.most)


def value_schema(row):
    forms = value_forms(row) + ([{"const": "auto"}] if row.has_auto() else []) + [VARIABLE]
    if row.kind in ("texts", "urls"):
        return {"anyOf": forms + [{"type": "array", "items": {"anyOf": forms}}]}
    return {"anyOf": forms}


class Writer:
    def __init__(self, schema, program):
        self.schema, self.program = schema, program

    def key(self, row):
        found = {"description": sentence(row.description)}
        value = row.defaults[self.program]
        if value is not None:
            found["default"] = value if row.has_auto() or row.kind not in ("flag", "port", "count") else json.loads(value)
        return {**found, **value_schema(row)}

    def member(self, row):
        if row.role == "key":
            return self.key(row)
        target = {"$ref": f"#/$defs/{row.target.lower()}"}
        words = {"description": sentence(row.description)}
        if row.role == "list":
            return {**words, "type": "array", "items": target}
        if row.role == "map":
            names = {"minLength": 1, "maxLength": 128}
            return {**words, "type": ["object", "null"], "propertyNames": names, "additionalProperties": target}
        return {**words, "allOf": [target]}

    def not_both(self, first, second):
        return {"not": {"required": [first, second]}}

    def group(self, group):
        """The map of one group of keys."""
        members, rules = {}, []
        for row in self.schema.rows(group, "key", "section", "list", "map"):
            if self.program not in row.programs:
                continue
            members[row.name] = self.member(row)
            from_file = self.schema.file_key(row)
            needed = (group, row.name) in REQUIRED
            if from_file:
                members[from_file] = {
                    "description": f"The path of a file that holds {row.name}.",
                    "type": "string",
                    "minLength": 1,
                }
                rules.append(self.not_both(row.name, from_file))
            if needed:
                rules.append({"anyOf": [{"required": [n]} for n in (row.name, from_file) if n]})
        for row in self.schema.rows(group, "alias"):
            members[row.name] = {**members[row.words], "description": f"A second name of {row.words}."}
            rules.append(self.not_both(row.name, row.words))
        found = {"type": "object", "additionalProperties": False, "properties": members}
        if rules:
            found["allOf"] = rules
        forms = [found]
        shorthand = self.schema.role(group, "shorthand")
        if shorthand is not None:
            forms.append(value_schema(shorthand))
        if not any((group, row.name) in REQUIRED for row in self.schema.groups[group]):
            forms.append({"type": "null"})  # everything below is a comment
        return forms[0] if len(forms) == 1 else {"anyOf": forms}

    def reached(self):
        """The groups that this program's file has, in the order of the table."""
        found = set()

        def walk(group):
            if group not in found:
                found.add(group)
                for row in self.schema.rows(group, "section", "list", "map"):
                    if self.program in row.programs:
                        walk(row.target)

        walk("ROOT")
        return [group for group in self.schema.groups if group in found]

    def document(self):
        groups = {g.lower(): self.group(g) for g in self.reached() if g != "ROOT"}
        variable = {
            "description": "A text with variables of the environment: ${NAME}.",
            "type": "string",
            "pattern": r"(^|[^$])\$\{[A-Za-z_][A-Za-z0-9_]{0,126}\}",
        }
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"Configuration of {self.program}",
            "description": "Generated by scripts/generate-docs from src/config/schema.def.",
            **self.group("ROOT"),
            "$defs": {"variable": variable, **groups},
        }


def writer(program):
    def write(_, build):
        return json.dumps(Writer(Schema(build), program).document(), indent=2, ensure_ascii=False) + "\n"

    return write
