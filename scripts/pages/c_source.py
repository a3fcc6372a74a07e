# SPDX-License-Identifier: GPL-2.0-or-later
"""C sources as data: the files of the tree, code without comments, functions, atomics, read-side sections.

What tests/tidy/check.py judges and scripts/generate-docs tells is read here once.
"""
import json
import os
import re
import shlex

# Folders that hold nothing of ours: what is built, fetched or kept by tools; corpora end with .in.
LEFT_OUT = re.compile(r"\.(?!ci$).*|build|node_modules|__pycache__|.*\.in")

TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def blank(text):
    """The same number of lines and columns, without the words."""
    return re.sub(r"[^\n]", " ", text)


class Tree:
    """The files below a root, with what several rules want to know of them."""

    def __init__(self, root, build):
        self.root = root
        self.build = build if os.path.isabs(build) else os.path.join(root, build)
        self.files = []
        self.folders = []
        self.texts = {}
        self.codes = {}
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(f for f in folders if not LEFT_OUT.fullmatch(f))
            place = os.path.relpath(folder, root)
            self.folders += [os.path.normpath(os.path.join(place, f)) for f in folders]
            self.files += sorted(os.path.normpath(os.path.join(place, n)) for n in names)

    def under(self, *folders, ends=(".c", ".h")):
        return [f for f in self.files if f.startswith(tuple(folders)) and f.endswith(tuple(ends))]

    def has(self, path):
        return os.path.exists(os.path.join(self.root, path))

    def text(self, path):
        if path not in self.texts:
            with open(os.path.join(self.root, path), encoding="utf-8", errors="replace") as file:
                self.texts[path] = file.read()
        return self.texts[path]

    def lines(self, path):
        return self.text(path).split("\n")

    def code(self, path):
        """The text with comments and the insides of strings blanked out."""
        if path not in self.codes:

            def hide(match):
                token = match.group()
                return blank(token) if token.startswith("/") else token[0] + blank(token[1:-1]) + token[-1]

            self.codes[path] = TOKEN.sub(hide, self.text(path))
        return self.codes[path]

    def compile_commands(self):
        """Source file -> (words of its command, folder), for the sources of this tree."""
        try:
            with open(os.path.join(self.build, "compile_commands.json"), encoding="utf-8") as file:
                entries = json.load(file)
        except OSError:
            return {}
        found = {}
        for entry in entries:
            path = os.path.relpath(entry["file"], self.root)
            if path.startswith("src/"):
                found[path] = (shlex.split(entry["command"]), entry["directory"])
        return found


def line_of(text, position):
    return text.count("\n", 0, position) + 1


ATOMIC = re.compile(
    r"\batomic_(?:(?:load|store|exchange|compare_exchange_(?:weak|strong)|fetch_(?:add|sub|or|and|xor)"
    r"|flag_test_and_set|flag_clear)(?P<explicit>_explicit)?|(?P<fence>thread_fence|signal_fence))\s*\("
)
MEMORY_ORDERS = ("relaxed", "consume", "acquire", "release", "acq_rel", "seq_cst")


def memory_orders(call):
    """The orders that the text of a call names."""
    return re.findall(r"memory_order_(\w+)", call)


ORDER = re.compile(r"(?:/\*|//|^\s*\*)\s*order:\s*\S")


def comment_words(text):
    """The words of a comment, without its marks, in one line."""
    return " ".join(re.sub(r"^\s*(?:/\*+|//|\*)(?!/)|\*/\s*$", " ", text, flags=re.M).split())


def order_reason(lines, codes, number):
    """What the comment says that begins with order: and stands in or right above the statement that line `number` is
    of; None where there is none."""
    at = number - 1
    while at >= 0:
        found = ORDER.search(lines[at])
        if found:
            rest = "\n".join(lines[at : at + 12])[found.start() :]
            comment = rest[: rest.find("*/") + 2] if rest.lstrip().startswith(("/*", "*")) else lines[at][found.start() :]
            return comment_words(comment).removeprefix("order:").strip()
        code = codes[at].strip()
        if at < number - 1 and code == "" and lines[at].strip() == "":
            return None
        at -= 1
        if at >= 0:
            above = codes[at].strip()
            if above.endswith((";", "{", "}", ":")) or (above.startswith("#") and not above.endswith("\\")):
                return None
    return None


LOCK = re.compile(
    r"^[ \t]*(?:static[ \t]+)?pthread_(?P<kind>mutex|cond|once|rwlock|spinlock)(?:_t)?[ \t]+(?P<name>\w+)[^;()]*;", re.M
)


def lock_purpose(lines, codes, number):
    """What the comment says that stands on the line of a lock's declaration, or above it with no more than other locks
    between; None where there is none."""
    own = lines[number - 1]
    if "/*" in own:
        return comment_words(own[own.index("/*") :])
    at = number - 2
    while at >= 0 and LOCK.match(codes[at]):
        at -= 1
    if at < 0 or not lines[at].rstrip().endswith("*/"):
        return None
    end = at
    while at > 0 and "/*" not in lines[at]:
        at -= 1
    comment = "\n".join(lines[at : end + 1])
    return comment_words(comment[comment.index("/*") :])


RCU_READ = re.compile(r"/\*\s*rcu-read:(.*?)\*/", re.S)




DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.M)


def matching_open(code, at):
    """The position of the parenthesis that the one at `at` closes."""
    depth = 0
    while at >= 0:
        depth += (code[at] == ")") - (code[at] == "(")
        if depth == 0:
            return at
        at -= 1
    return 0


def matching_close(code, at):
    """The position of the parenthesis that closes the one at `at`."""
    depth = 0
    while at < len(code):
        depth += (code[at] == "(") - (code[at] == ")")
        if depth == 0:
            return at
        at += 1
    return len(code)


def last_before(code, at):
    """The position of the last character before `at` that is no blank; -1 where there is none."""
    at -= 1
    while at >= 0 and code[at].isspace():
        at -= 1
    return at


def word_before(code, at):
    """The word that ends before `at`, blanks between, and where it begins; "" where something else stands there."""
    end = last_before(code, at) + 1
    start = end
    while start > 0 and (code[start - 1].isalnum() or code[start - 1] == "_"):
        start -= 1
    return code[start:end], start


def functions(tree, path):
    """(name, position of its name, position of the end, number of parameters) of each function body."""
    code = DIRECTIVE.sub(lambda m: blank(m.group()), tree.code(path))
    stack, found = [], []
    for match in re.finditer(r"[{}]", code):
        at = match.start()
        if code[at] == "}":
            if stack:
                opened = stack.pop()
                if opened is not None:
                    name, start, count = opened
                    found.append((name, start, at, count))
            continue
        end = last_before(code, at)
        opened = None
        if code[end : end + 1] == ")" and not any(stack):
            start = matching_open(code, end)
            name, name_start = word_before(code, start)
            while name in ("__attribute__", "__asm__"):
                end = last_before(code, name_start)
                start = matching_open(code, end)
                name, name_start = word_before(code, start)
            if name:
                inside = code[start + 1 : end]
                while True:
                    inner = re.sub(r"\([^()]*\)", "", inside)
                    if inner == inside:
                        break
                    inside = inner
                count = 0 if inside.strip() in ("", "void") else inside.count(",") + 1
                opened = (name, name_start, count)
        stack.append(opened)
    return found
