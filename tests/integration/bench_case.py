# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of event-bench and of bench/ share: where the programs lie, and the run of unittest's cases."""

import glob
import os
import sys
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BENCH = os.path.join(ROOT, "bench")


def take_bin(arguments):
    """Takes --bin FOLDER out of the arguments; without it $ES_BIN, or the newest build/*/bin. The folder has event-bench,
    or the run ends as failed."""
    folder = os.environ.get("ES_BIN")
    if "--bin" in arguments[:-1]:
        at = arguments.index("--bin")
        folder = arguments[at + 1]
        del arguments[at:at + 2]
    if folder is None:
        found = glob.glob(os.path.join(ROOT, "build", "*", "bin", "event-bench"))
        folder = os.path.dirname(max(found, key=os.path.getmtime)) if found else "."
    if not os.path.exists(os.path.join(folder, "event-bench")):
        print("event-bench is not built: give --bin FOLDER")
        print("0 passed, 1 failed")
        sys.exit(1)
    return os.path.abspath(folder)


def run_tests(names):
    """Runs the tests of the main module: CLASS.TEST..., or all; prints the counts, returns the exit status."""
    started = time.monotonic()
    loader, module = unittest.defaultTestLoader, sys.modules["__main__"]
    suite = loader.loadTestsFromNames(names, module) if names else loader.loadTestsFromModule(module)
    result = unittest.TextTestRunner(verbosity=1, stream=sys.stdout).run(suite)
    # A test counts once, however many of its parts have failed.
    failed = len({str(test.id()).split(" ")[0] for test, _ in result.failures + result.errors})
    print(f"{time.monotonic() - started:.1f} s")
    print(f"{result.testsRun - failed} passed, {failed} failed")
    return 0 if failed == 0 and result.testsRun > 0 else 1
