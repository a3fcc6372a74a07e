# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/configuration.md: every key of the configuration."""
from schema import Schema, allowed_short, default_text, sentence

INTRODUCTION = """# Configuration

Every key of the file that `--config` names, for both programs. This page is generated from the table that the programs themselves
follow (`src/config/schema.def`) by `scripts/generate-docs`: do not edit it. `event-service --keys` prints the same list at a terminal, and
`--check-config` prints what is in effect: every key with its value, secrets masked, and a digest that the start log and `/varz` show as well.
[config/](../config/) has commented examples; editors that know JSON Schema check a file against
[share/event-service.schema.json](../share/event-service.schema.json) or [share/event-gateway.schema.json](../share/event-gateway.schema.json).

The file is YAML, or TOML with the same sections and names (told by its ending, else by its content). Every key has a default; an unknown key, a
key of the other program, a value out of range or two keys that contradict each other are refused, all in one run, with file, line and column.

| value | how it is written |
|---|---|
| a duration | a number of seconds (`90`), or numbers with `ns`, `us`, `ms`, `s`, `m`, `h`, `d`: `500ms`, `1h30m` |
| a size | a number of bytes (`4096`), or with `KB`, `MB`, `GB` (powers of 1000), `KiB`, `MiB`, `GiB` (of 1024) |
| a number or `true` / `false` | with or without quotes |
| a path | relative to the folder of the file |
| a list of texts | a list, or one text for a list of one |
| any text | `${NAME}` stands for the environment variable NAME, which must be set; `$${` for `${` itself |
| a secret | the text, or under the same name with `_file` the path of a file that holds it |

`[]` in a heading stands for each item of a list, `NAME` for a name that you choose.
"""


def anchor(path):
    return "".join(c for c in path.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def cell(text):
    return text.replace("|", "\\|")


def only(programs, outer):
    """" (event-service only)" where a row has fewer programs than what it stands in."""
    return "" if len(programs) == len(outer) else f" ({programs[0]} only)"


def key_line(schema, row, outer):
    programs = [p for p in row.programs if p in outer]
    allowed = allowed_short(row)
    if row.later_choices():
        allowed += " (not yet built: " + ", ".join(row.later_choices()) + ")"
    if schema.file_key(row):
        allowed += f"; or `{schema.file_key(row)}`"
    words = sentence(row.description)[:-1] + only(programs, outer) + "."
    return f"| `{row.name}` | {cell(default_text(row, programs))} | {cell(allowed)} | {cell(words)} |"


def section_lines(schema, path, row, programs):
    """One map of the file."""
    places = schema.places()
    yield f"\n{'##' if path.removesuffix('.NAME').count('.') == 0 else '###'} {path}\n"
    yield sentence(row.description)[:-1] + (f" ({programs[0]} only)" if len(programs) == 1 else "") + "."
    others = [place for place in places[row.target] if place != path]
    if others:
        yield "The same keys stand in " + ", ".join(f"`{place}`" for place in others) + "."
    shorthand = schema.role(row.target, "shorthand")
    if shorthand is not None:
        yield f"Short form: instead of the map, {shorthand.description}: {allowed_short(shorthand)}."
    keys = schema.rows(row.target, "key")
    if keys:
        yield "\n| key | default | allowed | meaning |\n|---|---|---|---|"
        for key in keys:
            yield key_line(schema, key, programs)
    inner = [(r, f"{path}.{r.name}") for r in schema.rows(row.target, "section", "list", "map")]
    if inner:
        yield "\n| map | holds |\n|---|---|"
        for r, _ in inner:
            first = places[r.target][0]
            kind = {"section": "", "list": "a list: ", "map": "a map from names: "}[r.role]
            yield f"| `{r.name}` | {kind}{cell(r.description)} ([{first}](#{anchor(first)})) |"
    for alias in schema.rows(row.target, "alias"):
        yield f"\n`{alias.name}` is a second name of `{alias.words}`."
    later = [r.name for r in schema.rows(row.target, "later")]
    if later:
        yield "\nKnown and not yet built, refused in so many words: " + ", ".join(f"`{name}`" for name in later) + "."


def write(_, build):
    schema = Schema(build)
    lines = [INTRODUCTION, "| section | is about |\n|---|---|"]
    for row in schema.rows("ROOT", "section", "list", "map"):
        path = row.name + {"section": "", "list": "[]", "map": ".NAME"}[row.role]
        words = row.description + only(row.programs, ("event-service", "event-gateway"))
        lines.append(f"| [{path}](#{anchor(path)}) | {cell(words)} |")
    later = ", ".join(f"`{r.name}`" for r in schema.rows("ROOT", "later"))
    lines.append(f"\nKnown and not yet built, refused in so many words: {later}.")
    for path, row, programs in schema.sections():
        lines += section_lines(schema, path, row, programs)
    return "\n".join(lines) + "\n"
