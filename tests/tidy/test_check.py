#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Proves the rules of check.py: a rule that finds nothing may be blind.

Method: the tree is copied into a temporary folder; one small fault at a time is planted there, and the rule must name
it, at its place, where it named nothing before. Beside them stand innocent changes that look like a fault: there the
rule must stay silent. Every rule has at least one fault. The last line is "N passed, N failed".

    usage: tests/tidy/test_check.py [RULE...]      without names all of them
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

import check  # noqa: E402  (stands beside this file)

HEAD = f"/* {check.SPDX} */\n/* A planted file: it says in a sentence what it is for. */\n"


# --- ways to change a tree --------------------------------------------------------------------------------------------


def read(full):
    with open(full, encoding="utf-8") as file:
        return file.read()


def rewrite(full, text):
    """A new file in the place of the old one: copies of the tree are links to the same files."""
    mode = None
    if os.path.exists(full):
        mode = os.stat(full).st_mode
        os.unlink(full)
    with open(full, "w", encoding="utf-8") as file:
        file.write(text)
    if mode is not None:
        os.chmod(full, mode)


def append(path, text):
    """Puts text at the end of a file; makes the file, with its folder, where there is none."""

    def change(root):
        full = os.path.join(root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        rewrite(full, read(full) + text if os.path.exists(full) else text)

    return change


def replace(path, old, new):
    def change(root):
        full = os.path.join(root, path)
        text = read(full)
        if old not in text:
            raise AssertionError(f"{path} has no '{old}' to change: mend this test")
        rewrite(full, text.replace(old, new, 1))

    return change


def remove(path):
    def change(root):
        os.unlink(os.path.join(root, path))

    return change


def both(*changes):
    def change(root):
        for one in changes:
            one(root)

    return change


def build(path, text):
    """Writes a source below src and its object file into the build folder, as the only one of a compilation database."""

    def change(root):
        append(path, text)(root)
        place = os.path.join(root, "build/release")
        os.makedirs(place, exist_ok=True)
        command = ["cc", "-c", os.path.join(root, path), "-o", "planted.o"]
        subprocess.run(command, cwd=place, check=True)
        entry = {"directory": place, "command": " ".join(command), "file": os.path.join(root, path)}
        with open(os.path.join(place, "compile_commands.json"), "w", encoding="utf-8") as file:
            json.dump([entry], file)

    return change


def library(*names):
    """Makes libeventservice.so export the given names."""

    def change(root):
        place = os.path.join(root, "build/release/lib")
        os.makedirs(place, exist_ok=True)
        source = "".join(f"void {name}(void) {{}}\n" for name in names)
        command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", os.path.join(place, "libeventservice.so")]
        subprocess.run(command, input=source, text=True, check=True)

    return change


def listed_exports():
    with open(os.path.join(HERE, "exported_symbols.txt"), encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip() and not line.startswith("#")]


# --- generated pages ---------------------------------------------------------------------------------------------------

# What event-docs tells of a table with two keys, so that this needs no build.
FACTS = """{
  "ROOT": [{"role": "section", "name": "one", "description": "a section", "event_service": true, "event_gateway": true,
            "target": "ONE"}],
  "ONE": [{"role": "key", "name": "port", "description": "a port", "event_service": true, "event_gateway": true,
           "kind": "port", "least": 0, "most": 65535, "allowed": "a port from 0 to 65535",
           "default_event_service": "1", "default_event_gateway": "2"},
          {"role": "later", "name": "other", "event_service": true, "event_gateway": true}]
}
"""
TOOLS = {"event-docs": '#!/bin/sh\ncat "$(dirname "$0")/facts.json"\n', "event-gateway": '#!/bin/sh\necho "usage of $1"\n'}


def prepare_generated(root):
    """A tree whose pages are fresh, with tools that tell the table above."""
    place = os.path.join(root, "build/release/bin")
    os.makedirs(place)
    with open(os.path.join(place, "facts.json"), "w", encoding="utf-8") as file:
        file.write(FACTS)
    for name, text in TOOLS.items():
        with open(os.path.join(place, name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(os.path.join(place, name), 0o755)
    for path in check.all_pages.PAGES:
        check.all_pages.write(path, root, "build/release")


def generated(page, name, change):
    return ("generated", name, change, page, "stale")


# --- the faults -------------------------------------------------------------------------------------------------------

BASE = "src/base/planted.c"
WORD = "TO" + "DO"
BODY_IF = "int esi_planted_x(int a)\n{\n#ifdef A\n    a++;\n#endif\n    return a;\n}\n"
ATOMIC = "#include <stdatomic.h>\nstatic atomic_int x;\nint esi_planted_x(void)\n{\n%s}\n"
LOAD = "    return atomic_load_explicit(&x, memory_order_relaxed);\n"
LOOP = "    int a = 0;\n    do {\n        a++;\n%s    } while (atomic_load_explicit(&x, memory_order_acquire) > a);\n    return a;\n"

# (rule, name, change, path of the finding, a word of its text)
FAULTS = [
    ("layers", "a layer looks up", append("src/base/str.c", '#include "env/env.h"\n'), "src/base/str.c", "env/env.h"),
    ("layers", "a layer looks aside", append("src/net/tls.c", '#include "config/config.h"\n'), "src/net/tls.c", "config"),
    ("layers", "a program looks inside", append("src/programs/planted.c", '#include "base/str.h"\n'),
     "src/programs/planted.c", "base/str.h"),
    ("layers", "a folder is no layer", append("src/planted/x.c", HEAD), "src/planted/x.c", "planted"),
    ("include-form", "a way up", append("src/net/tls.c", '#include "../base/str.h"\n'), "src/net/tls.c", "no way up"),
    ("include-form", "no layer", append("src/net/tls.c", '#include "stream.h"\n'), "src/net/tls.c", "layer/file.h"),
    ("include-form", "a way up in a test", append("tests/unit/base/test_str.c", '#include "../x.h"\n'),
     "tests/unit/base/test_str.c", "no way up"),
    ("include-form", "a public header looks inside", append("include/eventservice/err.h", '#include "base/str.h"\n'),
     "include/eventservice/err.h", "eventservice/file.h"),
    ("third-party", "TLS outside its file", append("src/net/stream.c", "#include <wolfssl/ssl.h>\n"),
     "src/net/stream.c", "src/net/tls.c"),
    ("third-party", "RCU outside its door", append("src/broker/batch.c", "#include <urcu/urcu-qsbr.h>\n"),
     "src/broker/batch.c", "src/base/rcu.c"),
    ("third-party", "a library that nobody knows", append("src/net/stream.c", "#include <zlib.h>\n"),
     "src/net/stream.c", "zlib.h"),
    ("third-party", "a folder that nobody knows", append("src/net/stream.c", "#include <curl/curl.h>\n"),
     "src/net/stream.c", "curl"),
    ("third-party", "generated messages outside events",
     append("src/journal/retry.c", '#include "event/event.pb-c.h"\n'), "src/journal/retry.c", "event.pb-c.h"),
    ("third-party", "the public interface inside", append("src/net/stream.c", "#include <eventservice/eventservice.h>\n"),
     "src/net/stream.c", "public interface"),
    ("third-party", "a socket beside env", append("src/net/stream.c", "#include <sys/socket.h>\n"),
     "src/net/stream.c", "door"),
    ("internal-header", "another layer's inside", append("src/net/stream.c", '#include "proto/scan_internal.h"\n'),
     "src/net/stream.c", "private to proto"),
    ("internal-header", "another layer's inside in a test",
     append("tests/unit/net/test_stream.c", '#include "proto/scan_internal.h"\n'), "tests/unit/net/test_stream.c",
     "private to proto"),
    ("own-header-first", "the own header is second", replace("src/base/pool.c", '#include "base/pool.h"', "#include <stdlib.h>"),
     "src/base/pool.c", "own header first"),
    ("actor-headers", "an actor's header shows another actor", append("src/actors/listener.h", '#include "actors/router.h"\n'),
     "src/actors/listener.h", "actors/router.h"),
    ("symbols", "a global function without prefix", build(BASE, "int planted_x(void)\n{\n    return 1;\n}\n"), BASE, "planted_x"),
    ("symbols", "a global variable with another file's prefix", build(BASE, "int esi_other_x = 1;\n"), BASE, "esi_other_x"),
    ("symbols", "main outside programs", build(BASE, "int main(void)\n{\n    return 0;\n}\n"), BASE, "main"),
    ("exports", "one symbol too many", library("esi_planted_x", *listed_exports()),
     "tests/tidy/exported_symbols.txt", "exports esi_planted_x"),
    ("exports", "one symbol too few", library(*listed_exports()[1:]), "tests/tidy/exported_symbols.txt",
     f"does not export {listed_exports()[0]}"),
    ("headers", "a header lacks an include",
     append("src/base/planted.h", HEAD + "#pragma once\nuint32_t esi_planted_x(void);\n"), "src/base/planted.h", "uint32_t"),
    ("headers", "a public header is not C++",
     append("include/eventservice/planted.h", HEAD + "#pragma once\nint es_planted_x(int class);\n"),
     "include/eventservice/planted.h", "(c++)"),
    ("headers", "a public header needs GNU's C",
     append("include/eventservice/planted.h", HEAD + "#pragma once\nstatic inline typeof(1) es_x(void)\n{\n    return 1;\n}\n"),
     "include/eventservice/planted.h", "(cc)"),
    ("pragma-once", "a header may come twice", append("src/base/planted.h", HEAD), "src/base/planted.h", "pragma once"),
    ("atomics", "a load without reason", append(BASE, ATOMIC % LOAD), BASE, "order:"),
    ("atomics", "another statement's reason",
     append(BASE, ATOMIC % ("    /* order: relaxed; a counter. */\n    int a = 1;\n    (void)a;\n" + LOAD)), BASE, "order:"),
    ("atomics", "a reason further up", append(BASE, ATOMIC % ("    /* order: relaxed; a counter. */\n\n" + LOAD)), BASE, "order:"),
    ("atomics", "a loop without reason", append(BASE, ATOMIC % (LOOP % "")), BASE, "order:"),
    ("atomics", "a fence without reason", append(BASE, ATOMIC % "    atomic_thread_fence(memory_order_seq_cst);\n"), BASE, "fence"),
    ("atomics", "a store with the default order",
     append(BASE, ATOMIC % "    /* order: seq_cst; by default. */\n    atomic_store(&x, 1);\n"), BASE, "only atomic_*_explicit"),
    ("atomics", "a reason that pairs with nothing",
     append(BASE, ATOMIC % ("    /* order: relaxed; pairs with the store in esi_gone_away. */\n" + LOAD)), BASE, "esi_gone_away"),
    ("atomics", "a reason for another order",
     append(BASE, ATOMIC % ("    /* order: acquire; pairs with a store. */\n" + LOAD)), BASE, "order: says acquire"),
    ("locks", "a lock that guards nobody knows what", append(BASE, "int a;\npthread_mutex_t lock;\n"), BASE, "lock: no comment"),
    ("locks", "a condition below another field's comment",
     append(BASE, "/* A count. */\nint a;\nstatic pthread_cond_t changed = PTHREAD_COND_INITIALIZER;\n"), BASE, "changed"),
    ("rcu-read", "two sections of one name",
     append(BASE, "/* rcu-read: twice (bounded) */\n/* rcu-read: twice (bounded as well) */\n"), BASE, "stands already"),
    ("rcu-read", "a section without a bound", append(BASE, "/* rcu-read: endless */\n"), BASE, "what bounds it"),
    ("rcu-read", "a read outside every section", append(BASE, "int *esi_planted_x = ESI_RCU_READ(y);\n"), BASE, "names the section"),
    ("if-in-body", "a condition in a body", append(BASE, BODY_IF), BASE, "esi_planted_x"),
    ("refused-code", "a qualifier that orders nothing", append(BASE, "static volatile int x;\n"), BASE, "volatile"),
    ("refused-code", "POSIX's names", append(BASE, "typedef struct x x_t;\n"), BASE, "typedef"),
    *[("refused-code", f"{name}()", append(BASE, f"static int x(char *a)\n{{\n    return (int){name}(a);\n}}\n"), BASE, name)
      for name in "strcpy strcat sprintf vsprintf atoi atol rand srand alloca gets strtok __atomic_load_n".split()],
    ("refused-code", "a banned function in a test", append("tests/unit/base/test_str.c", "int x = atoi(y);\n"),
     "tests/unit/base/test_str.c", "atoi"),
    ("refused-words", "a reminder in a comment", append("src/base/str.c", f"/* {WORD}: later */\n"), "src/base/str.c", WORD),
    ("refused-words", "a reminder in a script", append("scripts/planted", f"# {'FIX' + 'ME'}\n"), "scripts/planted", "FIX" + "ME"),
    ("dead-code", "an assignment in a comment", append(BASE, "/* len = count + 1; */\n"), BASE, "len = count"),
    ("dead-code", "a call in a comment", append(BASE, "// wake_worker(worker);\n"), BASE, "wake_worker"),
    ("dead-code", "a statement in a block", append(BASE, "/*\n * if (a) {\n *     return a;\n * }\n */\n"), BASE, "return a"),
    ("comment-width", "a wide comment", append(BASE, "/* " + "x " * 48 + "*/\n"), BASE, "101 columns"),
    ("comment-width", "a wide comment behind code", append(BASE, "int a; /* " + "x " * 46 + "*/\n"), BASE, "columns"),
    ("sleep", "a test in C that sleeps", append("tests/unit/base/test_str.c", "void x(void)\n{\n    usleep(100);\n}\n"),
     "tests/unit/base/test_str.c", "deadline"),
    ("sleep", "a test in Python that sleeps", append("tests/integration/planted.py", "time.sleep(1)\n"),
     "tests/integration/planted.py", "deadline"),
    ("sleep", "a helper that sleeps once more", append("tests/support/grpc_worker.py", "time.sleep(1)\n"),
     "tests/support/grpc_worker.py", "deadline"),
    ("sleep", "a script that sleeps", append("tests/integration/planted", "#!/bin/sh\nsleep 1\n"),
     "tests/integration/planted", "deadline"),
    ("names", "a folder of this and that", append("src/net/helpers/x.c", HEAD), "src/net/helpers", "purpose"),
    ("names", "a file of this and that", append("src/net/util.c", HEAD), "src/net/util.c", "subject"),
    ("foreign-text", "somebody's folder", append("docs/style.txt", "see /ho" "me/joe/notes\n"), "docs/style.txt", "machine"),
    ("foreign-text", "the workplace", append("scripts/planted", "cd /wo" "rk/main\n"), "scripts/planted", "machine"),
    ("foreign-text", "a fixed temporary name", append("scripts/planted", "cmake -B /tmp/" "b-x\n"), "scripts/planted", "mkdtemp"),
    ("foreign-text", "who did the work", append("docs/planted.md", "Done by a helper" " agent.\n"), "docs/planted.md", "organised"),
    ("foreign-text", "a package registry", append("scripts/planted", "pip -i pypi" ".corp.example.com\n"), "scripts/planted", "registry"),
    ("foreign-text", "an unknown host", append("docs/planted.md", "https://files.corp.net/x\n"), "docs/planted.md", "files.corp.net"),
    ("head", "no licence", append("src/base/planted.h", "#pragma once\n"), "src/base/planted.h", "SPDX"),
    ("head", "no sentence", append("src/base/planted.h", f"/* {check.SPDX} */\n#pragma once\n"), "src/base/planted.h", "purpose"),
    ("head", "a script without licence", append("scripts/planted", "#!/bin/sh\n"), "scripts/planted", "SPDX"),
    ("built", "a source that nobody lists", append(BASE, HEAD), BASE, "nobody builds it"),
    ("built", "a test that nobody lists", append("tests/unit/base/test_planted.c", HEAD), "tests/unit/base/test_planted.c",
     "nobody builds it"),
    ("built", "a header that nobody includes", append("src/base/planted.h", HEAD), "src/base/planted.h", "nobody includes it"),
    ("actors", "an actor without a row", append("src/actors/planted.c", HEAD), "src/actors/planted.c", "no row"),
    ("actors", "a row without an actor", replace("docs/architecture.md", "| router |", "| planted |\n| router |"),
     "docs/architecture.md", "planted"),
    *[generated(page, f"{page}: edited by hand", append(page, "more\n")) for page in check.all_pages.PAGES],
    *[generated(page, f"{page}: another default", replace("build/release/bin/facts.json", '"2"', '"3"'))
      for page in ("docs/configuration.md", "share/event-gateway.schema.json", "docs/man/event-service.yaml.5")],
    *[generated(f"docs/man/{page}.8", f"{page}(8): another option",
                append("src/programs/command_line.def", "OPTION('x', \"xyz\", \"\", \"do it\")\n"))
      for page in ("event-service", "event-gateway")],
    generated("docs/man/event-bench.1", "another option of event-bench",
              replace("src/programs/event_bench/bench_options.c", "  --tls  ", "  --planted  ")),
    generated("docs/man/event-gateway.8", "another usage", replace("build/release/bin/event-gateway", "usage", "the use")),
    generated("docs/log-events.md", "another event",
              append("src/base/log_events.def", 'X(LOG_PLANTED, LOG_INFO, "Planted", "Nothing.")\n')),
    generated("docs/log-events.md", "another field",
              append("src/actors/router.c", 'void x(void)\n{\n    esi_log(LOG_SERVER_STOPPED, ESI_LOG_U64("y", 1));\n}\n')),
    generated("docs/concurrency.md", "another atomic", append(BASE, ATOMIC % ("    /* order: relaxed; new. */\n" + LOAD))),
    generated("docs/concurrency.md", "another section", append(BASE, "/* rcu-read: planted (bounded) */\n")),
    generated("docs/concurrency.md", "another lock", append(BASE, "pthread_mutex_t lock; /* of nothing */\n")),
    ("generated", "a page that is gone", remove("docs/concurrency.md"), "docs/concurrency.md", "stale"),
    ("generated", "no programs to ask", remove("build/release/bin/event-docs"), "docs/configuration.md", "cannot be made"),
    ("metrics", "a metric that nobody fills in",
     append("src/actors/metrics.def", 'METRIC(METRIC_PLANTED, "planted", GAUGE, "", "", "Planted.")\n'),
     "src/actors/metrics.def", "METRIC_PLANTED is filled in by nobody"),
    ("metrics", "a name without its unit",
     both(append("src/actors/metrics.def", 'METRIC(METRIC_PLANTED, "planted", GAUGE, "bytes", "", "Planted.")\n'),
          append("src/actors/router.c", "int x = METRIC_PLANTED;\n")),
     "src/actors/metrics.def", "does not end with its unit"),
    ("metrics", "a row of another form", append("src/actors/metrics.def", "METRIC(METRIC_PLANTED)\n"),
     "src/actors/metrics.def", "form of the head"),
    generated("docs/metrics.md", "another metric",
              append("src/actors/metrics.def", 'METRIC(METRIC_PLANTED, "planted", GAUGE, "", "", "Planted.")\n')),
    ("manual-pages", "a macro that is none", append("docs/man/event-service.8", ".Zz planted\n"), "docs/man/event-service.8", "macro"),
    ("manual-pages", "a list without end", append("docs/man/event-service.8", ".Bl -tag\n"), "docs/man/event-service.8", "Bl"),
    ("links", "a page that is gone", append("docs/planted.md", "see [this](nothing.md)\n"), "docs/planted.md", "docs/nothing.md"),
    ("links", "a heading that is gone", append("docs/planted.md", "see [this](style.md#nothing-there)\n"), "docs/planted.md",
     "#nothing-there"),
    ("tests-to-code", "code without tests", append(BASE, "int x;\n" * 30000), "tests", "lines of tests"),
    ("log-events", "an event without advice", append("src/base/log_events.def", 'X(LOG_PLANTED, LOG_INFO, "Planted")\n'),
     "src/base/log_events.def", "LOG_PLANTED does not say what to do"),
    ("log-events", "an event that nobody writes",
     append("src/base/log_events.def", 'X(LOG_PLANTED, LOG_INFO, "Planted", "Nothing.")\n'), "src/base/log_events.def",
     "LOG_PLANTED is written by nobody"),
    ("log-events", "a row of another form", append("src/base/log_events.def", "X(LOG_PLANTED)\n"),
     "src/base/log_events.def", "have the form"),
    ("not-called", "a function that nobody calls", append(BASE, "int esi_planted_x(void)\n{\n    return 1;\n}\n"), BASE,
     "esi_planted_x"),
    ("not-called", "an inline function that nobody calls",
     append("src/base/str.h", "static inline int esi_str_planted(void)\n{\n    return 1;\n}\n"), "src/base/str.h",
     "esi_str_planted"),
    ("not-called", "an exception that is called", append(BASE, "int esi_planted_y = esi_token_file_at(0);\n"),
     "tests/tidy/check.py", "esi_token_file_at"),
    ("unit-tests", "a source without a test", append(BASE, HEAD), BASE, "tests/unit/base/test_planted.c"),
    ("threat-model", "a test without its file", append("docs/threat-model.md", "`planted.py` case\n"), "docs/threat-model.md",
     "planted.py"),
    ("threat-model", "a case that has gone", append("docs/threat-model.md", "`bad_peers.py` planted_case\n"),
     "docs/threat-model.md", "planted_case"),
    ("tables", "an exception without its file", remove("src/server/library.c"), "tests/tidy/check.py", "src/server/library.c"),
    ("tables", "an exception that is not needed", append("tests/unit/server/test_library.c", HEAD), "tests/tidy/check.py",
     "has a test"),
]

# (rule, name, change): nothing to find.
INNOCENT = [
    ("layers", "a layer looks down", append("src/net/stream.c", '#include "base/list.h"\n')),
    ("layers", "the tests of a program", append("src/programs/event_bench/bench_check.c", '#include "proto/subject.h"\n')),
    ("include-form", "a program's own file", append("src/programs/program.c", '#include "program.h"\n')),
    ("third-party", "the C library", append("src/net/stream.c", "#include <inttypes.h>\n")),
    ("third-party", "a system header", append("src/net/stream.c", "#include <sys/types.h>\n")),
    ("internal-header", "the own inside", append("src/proto/info.c", '#include "proto/scan_internal.h"\n')),
    ("symbols", "the file's own prefix", build(BASE, "static int x;\nint *esi_planted_x(void)\n{\n    return &x;\n}\n")),
    ("symbols", "the file's own name", build(BASE, "int esi_planted = 1;\n")),
    ("symbols", "main of a program", build("src/programs/planted.c", "int main(void)\n{\n    return 0;\n}\n")),
    ("not-called", "a function that another inline function calls",
     both(append(BASE, "int esi_planted_x(void)\n{\n    return 1;\n}\n"),
          append("src/base/str.h", "static inline int planted(void)\n{\n    return esi_planted_x();\n}\n"))),
    ("exports", "the list", library(*listed_exports())),
    ("headers", "a header that stands alone", append("src/base/planted.h", HEAD + "#pragma once\nint esi_planted_x(void);\n")),
    ("atomics", "a reason right above", append(BASE, ATOMIC % ("    /* order: relaxed; a counter. */\n" + LOAD))),
    ("atomics", "a reason of two lines",
     append(BASE, ATOMIC % ("    /* order: relaxed; a counter that\n     * nobody waits for. */\n" + LOAD))),
    ("atomics", "a reason that names a function",
     append(BASE, ATOMIC % ("    /* order: relaxed; pairs with the store in esi_mailbox_push. */\n" + LOAD))),
    ("atomics", "a loop with a reason", append(BASE, ATOMIC % (LOOP % "        /* order: acquire; pairs with x. */\n"))),
    ("atomics", "a reason above a statement of two lines",
     append(BASE, ATOMIC % ("    /* order: relaxed; a counter. */\n    const int a =\n        " + LOAD.strip()[7:] + "\n    return a;\n"))),
    ("atomics", "in a comment", append(BASE, "/* atomic_load(x) is not used here */\n")),
    ("locks", "one comment for a lock and its condition",
     append(BASE, "/* Guards the list. */\npthread_mutex_t lock;\npthread_cond_t changed;\npthread_once_t x; /* of it */\n")),
    ("if-in-body", "a condition around a body", append(BASE, "#ifdef A\nint x(void)\n{\n    return 1;\n}\n#endif\n")),
    ("if-in-body", "a condition in a list", append(BASE, "static const int x[] = {\n#ifdef A\n    1,\n#endif\n    2};\n")),
    ("refused-code", "a member of that name", append(BASE, "static void f(void)\n{\n    env->ops->random(env);\n}\n")),
    ("refused-code", "in a string", append(BASE, 'static const char x[] = "atoi(x) volatile";\n')),
    ("refused-code", "a bounded relative", append(BASE, "static int f(void)\n{\n    return snprintf(a, sizeof a, b);\n}\n")),
    ("refused-words", "a template of mkdtemp", append("src/base/str.c", "/* /tmp/x-XX" "XXXX */\n")),
    ("dead-code", "a sentence with a semicolon", append(BASE, "/* Reads once; the rest stays (see below); nothing is lost. */\n")),
    ("comment-width", "a comment as wide as may be", append(BASE, "/* " + "x " * 47 + "*/\n")),
    ("comment-width", "a name that cannot be broken", append(BASE, "int " + "x" * 100 + ";\n")),
    ("foreign-text", "a template of mkdtemp", append("src/base/str.c", '/* "/tmp/x-XX' 'XXXX" */\n')),
    ("foreign-text", "a host of the documentation", append("docs/planted.md", "https://www.example.com and http://localhost\n")),
    ("generated", "code that says nothing to a page", append(BASE, "int esi_planted_x(void);\n")),
    ("metrics", "a metric that is filled in",
     both(append("src/actors/metrics.def", 'METRIC(METRIC_PLANTED, "planted_bytes", GAUGE, "bytes", "", "Planted.")\n'),
          append("src/actors/router.c", "int x = METRIC_PLANTED;\n"))),
    ("links", "a page and a heading that are there",
     append("docs/planted.md", "# A b, c\n[a](style.md) [b](#a-b-c) [c](../src/) [d](https://nats.io/x) `[e](x)`\n")),
    ("tests-to-code", "comments and blank lines", append(BASE, "/* a comment */\n\n" * 30000)),
    ("tests-to-code", "as many tests", both(append(BASE, "int x;\n" * 30000), append("tests/x.py", "x = 1\n" * 30000))),
    ("log-events", "an event that is chosen",
     both(append("src/base/log_events.def", 'X(LOG_PLANTED, LOG_INFO, "Planted",\n  "Nothing.")\n'),
          append(BASE, "void x(void)\n{\n    esi_log(a ? LOG_SERVER_READY : LOG_PLANTED);\n}\n"))),
    ("head", "a head of several lines", append("src/base/planted.h", f"/* {check.SPDX} */\n/*\n * What this is for.\n */\n")),
]


# --- running them -----------------------------------------------------------------------------------------------------


def copy_tree(target, folders=None):
    """Copies what check.py reads; with folders only what lies below these."""
    tree = check.Tree(ROOT, "build/none")
    for path in tree.files:
        if folders is None or path.startswith(folders):
            full = os.path.join(target, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            shutil.copy2(os.path.join(ROOT, path), full)


class Copies:
    """Copies of the tree that are mended after each change; rules that run tools get a small one."""

    SMALL = {
        "headers": ("include/", "src/base/"),
        "symbols": ("src/server/",),
        "exports": ("tests/tidy/",),
        "manual-pages": ("docs/man/",),
        "generated": ("src/base/", "src/actors/router.c", "src/actors/metrics.def", "src/programs/command_line.def",
                      "src/programs/event_bench/bench_options.c"),
        "tests-to-code": ("src/base/str", "tests/unit/base/"),
    }
    PREPARE = {"generated": prepare_generated}

    def __init__(self, folder):
        self.folder = folder
        self.roots = {}
        self.before = {}

    def pristine(self, rule):
        kind = rule if rule in self.SMALL else "all"
        if kind not in self.roots:
            self.roots[kind] = os.path.join(self.folder, kind)
            copy_tree(self.roots[kind], self.SMALL.get(kind))
            self.PREPARE.get(kind, lambda root: None)(self.roots[kind])
        return self.roots[kind]

    def findings(self, rule, root):
        tree = check.Tree(root, "build/release")
        return {(f.path, f.text) for f in check.check(tree, [rule])[rule]}

    def new_findings(self, rule, change):
        """What the rule finds after a change and did not find before."""
        origin = self.pristine(rule)
        if rule not in self.before:
            self.before[rule] = self.findings(rule, origin)
        root = os.path.join(self.folder, "changed")
        shutil.copytree(origin, root, copy_function=os.link)
        try:
            change(root)
            return self.findings(rule, root) - self.before[rule]
        finally:
            shutil.rmtree(root)


def is_wanted(rule):
    return len(sys.argv) < 2 or rule in sys.argv[1:]


def check_faults(copies):
    for rule, name, change, path, word in FAULTS:
        if not is_wanted(rule):
            continue
        found = copies.new_findings(rule, change)
        is_named = any(where == path and word in text for where, text in found)
        yield f"{rule}: {name}", is_named, f"expected a finding in {path} with '{word}', found {sorted(found)}"


def check_innocent(copies):
    for rule, name, change in INNOCENT:
        if not is_wanted(rule):
            continue
        found = copies.new_findings(rule, change)
        yield f"{rule}: {name} is no fault", not found, f"expected nothing, found {sorted(found)}"


def check_notes(copies):
    """Sizes are reported, and fail nothing."""
    root = copies.pristine("head")
    long = "void esi_planted_x(void)\n{\n" + "    a++;\n" * 80 + "}\n"
    wide = "int esi_planted_y(int a, int b, int c, int d, int e, int (*f)(int, int))\n{\n    return 1;\n}\n"
    append(BASE, HEAD + long + wide + "\n" * 700)(root)
    found = " ".join(f"{text};" for path, _, text in check.notes(check.Tree(root, "build/none")) if path == BASE)
    remove(BASE)(root)
    for word in ("83 lines (over 70)", "6 parameters (over 5)", "(over 700)"):
        yield f"notes: {word}", word in found, f"expected '{word}' in '{found}'"


def check_command(copies):
    """The command prints place and rule, counts, and tells failure by its status."""
    root = copies.pristine("head")
    command = [sys.executable, os.path.join(HERE, "check.py"), "--root", root, "--only", "pragma-once,names", "--no-notes"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    last = done.stdout.splitlines()[-1]
    yield "command: nothing found", done.returncode == 0 and last == "2 passed, 0 failed", done.stdout
    append("src/base/planted.h", HEAD)(root)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    remove("src/base/planted.h")(root)
    last = done.stdout.splitlines()[-1]
    is_told = "src/base/planted.h:1: [pragma-once]" in done.stdout and last == "1 passed, 1 failed"
    yield "command: one fault", done.returncode == 1 and is_told, done.stdout


LAYER_PROJECT = """cmake_minimum_required(VERSION 3.25)
project(planted C)
find_package(Threads REQUIRED)
set(ES_TESTS ON)
include(cmake/Optimize.cmake)
include(cmake/Layer.cmake)
add_subdirectory(low)
add_subdirectory(high)
"""
LAYER_FILES = {
    "CMakeLists.txt": LAYER_PROJECT,
    "low/CMakeLists.txt": "es_layer(low SOURCES low.c)\n",
    "low/low.h": "int esi_low_x(void);\n",
    "low/low.c": '#include "low/low.h"\nint esi_low_x(void)\n{\n    return 1;\n}\n',
    "high/CMakeLists.txt": "es_layer(high SOURCES high.c USES low)\n",
    "high/high.h": "int esi_high_x(void);\n",
    "high/high.c": '#include "high/high.h"\n#include "low/low.h"\nint esi_high_x(void)\n{\n    return esi_low_x();\n}\n',
}
# (what, text behind low.c, whether the build succeeds, a word of what it says)
LAYER_FAULTS = [
    ("a layer that keeps its row", "", True, ""),
    ("a header of a layer that is not used", '#include "high/high.h"\n', False, "high/high.h"),
    ("a function of a layer that is not used",
     "int esi_high_x(void);\nint esi_low_y(void);\nint esi_low_y(void)\n{\n    return esi_high_x();\n}\n", False, "esi_high_x"),
]


def check_layer_builds(copies):
    """The two checks of the build itself (docs/style.md, section 13), in a project of two layers."""
    if not is_wanted("layers"):
        return
    for number, (what, more, is_built, word) in enumerate(LAYER_FAULTS):
        root = os.path.join(copies.folder, f"layers{number}")
        for path, text in LAYER_FILES.items():
            append(path, text + (more if path == "low/low.c" else ""))(root)
        os.makedirs(os.path.join(root, "cmake"))
        for name in ("Optimize.cmake", "Layer.cmake", "empty_main.c"):
            shutil.copy(os.path.join(ROOT, "cmake", name), os.path.join(root, "cmake", name))
        place = os.path.join(root, "build")
        status, output = check.run(["cmake", "-G", "Ninja", "-S", root, "-B", place])
        if status == 0:
            status, output = check.run(["cmake", "--build", place])
        is_good = (status == 0) == is_built and word in output
        yield f"build: {what}", is_good, output[-800:]


# (what, command, text of a source, whether it is refused, a word of what is said)
TIDY = ["clang-tidy", "--quiet", "--config-file", os.path.join(ROOT, ".clang-tidy"), "{file}", "--", "-std=gnu17"]
FORMAT = [os.path.join(ROOT, "scripts", "format"), "--check", "{file}"]
TOOL_FAULTS = [
    ("lint: clean code", TIDY, "int f(int a)\n{\n    return a;\n}\n", False, ""),
    ("lint: a branch without braces", TIDY, "int f(int a)\n{\n    if (a > 1)\n        return 1;\n    return a;\n}\n", True,
     "readability-braces-around-statements"),
    ("lint: an atomic by operator", TIDY, "_Atomic int x;\nvoid f(void)\n{\n    x++;\n}\n", True, "atomic"),
    ("lint: a pointer that may be null", TIDY, "int f(int a)\n{\n    int *p = 0;\n    return a > 1 ? *p : a;\n}\n", True,
     "clang-analyzer"),
    ("format: clean code", FORMAT, HEAD + "int f(int a)\n{\n    return a;\n}\n", False, ""),
    ("format: another style", FORMAT, HEAD + "int f(int a) { return a; }\n", True, "planted.c"),
    ("format: a comment that is too wide", FORMAT, HEAD + "/* " + "word " * 30 + "*/\nint x;\n", True, "planted.c"),
]


def check_tools(copies):
    """clang-tidy and the format find their faults as well."""
    place = os.path.join(copies.folder, "tools")
    os.makedirs(place)
    path = os.path.join(place, "planted.c")
    shutil.copy(os.path.join(ROOT, ".clang-format"), place)
    for what, command, text, is_refused, word in TOOL_FAULTS:
        if not is_wanted(what.split(":")[0]):
            continue
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        status, output = check.run([part.replace("{file}", path) for part in command])
        yield what, (status != 0) == is_refused and word in output, output[-800:]


def check_generator(copies):
    """scripts/generate-docs tells what is stale, writes it, and then has nothing to say."""
    if not is_wanted("generated"):
        return
    root = os.path.join(copies.folder, "generator")
    shutil.copytree(copies.pristine("generated"), root)
    command = [os.path.join(ROOT, "scripts", "generate-docs"), "--root", root, "--build", "build/release"]
    log_page, schema_page = "docs/log-events.md", "docs/configuration.md"
    status, output = check.run([*command, "--check"])
    yield "generate-docs: all fresh", status == 0 and output == "", output
    append(log_page, "more\n")(root)
    append(schema_page, "more\n")(root)
    status, output = check.run([*command, "--check"])
    told = sorted(output.split("\n"))[1:]
    yield "generate-docs: two stale", status == 1 and told == [f"stale: {schema_page}", f"stale: {log_page}"], output
    status, output = check.run([*command, log_page])
    yield "generate-docs: one written", status == 0 and output == f"written: {log_page}\n", output
    status, output = check.run([*command, "--check"])
    yield "generate-docs: the other still stale", status == 1 and output == f"stale: {schema_page}\n", output
    status, output = check.run([*command])
    yield "generate-docs: all written", status == 0 and output == f"written: {schema_page}\n", output
    status, output = check.run([*command, "docs/nothing.md"])
    yield "generate-docs: a page that is none", status == 2 and "docs/nothing.md" in output, output


def check_coverage(_):
    """Every rule has a fault of its own."""
    without = sorted(set(check.RULES) - {fault[0] for fault in FAULTS})
    yield "every rule has a fault", not without, f"without: {without}"


def main():
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        copies = Copies(folder)
        for part in (check_coverage, check_faults, check_innocent, check_layer_builds, check_tools, check_generator, check_notes, check_command):
            for name, is_good, why in part(copies):
                passed += is_good
                failed += not is_good
                if not is_good:
                    print(f"NOT OK  {name}\n        {why}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
