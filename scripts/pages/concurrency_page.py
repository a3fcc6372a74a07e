# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/concurrency.md: every atomic operation with its reason, every read-side section, every lock."""
import re

from c_source import (
    ATOMIC,
    LOCK,
    MEMORY_ORDERS,
    RCU_READ,
    Tree,
    comment_words,
    functions,
    line_of,
    lock_purpose,
    matching_close,
    memory_orders,
    order_reason,
)

INTRODUCTION = """# Concurrency

What threads share, and why it is safe: generated from the sources by `scripts/generate-docs`, do not edit. [architecture.md](architecture.md) says how
actors, mailboxes and workers fit together; this page lists every place where two threads can meet.

- An actor's state is touched by its own turn alone: it needs nothing of what stands here.
- Shared data is immutable and counted by references, or read under RCU (liburcu, QSBR): workers report a quiescent state once a loop turn and go
  offline before they sleep, and only the reclaimer waits for grace periods.
- Atomics are C11's, each with its order and the operation that it pairs with. There is no `volatile` and no sequential consistency by default.
- Locks are taken where something rare happens; none on the path of a message (`tests/integration/message_path.py` counts).
"""


def cell(text):
    return text.replace("|", "\\|")


def function_at(bodies, position, code=""):
    """The function, else the macro, that a position lies in."""
    inside = [name for name, start, end, _ in bodies if start <= position <= end]
    if inside:
        return inside[-1]
    macros = re.findall(r"^#define (\w+)", code[:position], re.M)
    return macros[-1] if macros else "-"


def operation(text, match, end):
    """("load `x->y`", "acquire") of `atomic_load_explicit(&x->y, memory_order_acquire)`."""
    verb = re.match(r"atomic_(\w+?)(?:_explicit)?\s*\(", text[match.start() :]).group(1).replace("_", " ")
    inside = " ".join(text[match.end() : end].split())
    orders = memory_orders(inside)
    target = re.split(r",(?![^()\[\]]*[)\]])", inside)[0].lstrip("&").strip() if "fence" not in verb else ""
    return f"{verb} `{target}`" if target else verb, ", ".join(orders)


def atomic_rows(tree, path):
    """Operations of one file; those of one statement and one reason stand together."""
    code, lines, bodies = tree.code(path), tree.lines(path), functions(tree, path)
    codes, rows = code.split("\n"), []
    for match in ATOMIC.finditer(code):
        what, orders = operation(code, match, matching_close(code, match.end() - 1))
        reason = order_reason(lines, codes, line_of(code, match.start())) or ""
        reason = re.sub(rf"^(?:{'|'.join(MEMORY_ORDERS)})(?: fence)?; ", "", reason)
        row = (function_at(bodies, match.start(), code), what, orders, reason)
        if row not in rows:
            rows.append(row)
    return rows


def sections(tree):
    """(name, bound, path, function) of each read-side section."""
    found = []
    for path in tree.under("src/"):
        text, bodies = tree.text(path), functions(tree, path)
        for match in RCU_READ.finditer(text):
            words = comment_words(match.group()).removeprefix("rcu-read:").strip()
            name, _, bound = words.partition(" (")
            found.append((name, bound.rstrip(")"), path, function_at(bodies, match.start())))
    return sorted(found)


def lock_users(tree, path, lock):
    """The functions that use a lock; where a header declares it, those of its source."""
    source = path[:-2] + ".c" if path.endswith(".h") and tree.has(path[:-2] + ".c") else path
    code, bodies = tree.code(source), functions(tree, source)
    users = []
    for use in re.finditer(rf"\bpthread_\w+\([^;]*\b{lock}\b", code):
        name = function_at(bodies, use.start())
        if name not in users and name != "-":
            users.append(name)
    return users


def locks(tree):
    """(name, kind, path, purpose, functions that use it)."""
    found = []
    for path in tree.under("src/", "include/"):
        code, lines = tree.code(path), tree.lines(path)
        for match in LOCK.finditer(code):
            purpose = lock_purpose(lines, code.split("\n"), line_of(code, match.start())) or ""
            found.append((match["name"], match["kind"], path, purpose, lock_users(tree, path, match["name"])))
    return found


def write(root, _):
    tree = Tree(root, root)
    lines = [INTRODUCTION, "## Read-side sections\n\n| section | function | what bounds it |\n|---|---|---|"]
    for name, bound, path, function in sections(tree):
        lines.append(f"| {name} | `{function}` in `{path}` | {cell(bound)} |")
    lines.append("\n## Locks and conditions\n\n| lock | file | what it guards or tells of | used in |\n|---|---|---|---|")
    for name, kind, path, purpose, users in locks(tree):
        lines.append(f"| `{name}` ({kind}) | `{path}` | {cell(purpose)} | {', '.join(f'`{user}`' for user in users)} |")
    lines.append("\n## Atomics")
    count = 0
    for path in tree.under("src/", "include/"):
        rows = atomic_rows(tree, path)
        if not rows:
            continue
        count += len(rows)
        lines.append(f"\n### {path}\n\n| function | operation | order | why, and what it pairs with |\n|---|---|---|---|")
        for function, what, orders, reason in rows:
            lines.append(f"| `{function}` | {cell(what)} | {orders} | {cell(reason)} |")
    lines.append(f"\n{count} operations.")
    return "\n".join(lines) + "\n"
