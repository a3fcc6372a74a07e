# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the cases of a test side by side: a line each as it ends, and the counts as the last line.

A job is a function without parameters that returns the results of its cases, a list of what
attempt() gives: (name, None or what went wrong, seconds).
"""

import concurrent.futures
import contextlib
import os
import shutil
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "conformance"))
sys.dont_write_bytecode = True

from support import Mismatch  # noqa: E402


def attempt(name, work, *arguments, on_failure=None):
    """Calls work(*arguments), which raises when the case fails; on_failure() then says more of it."""
    began = time.monotonic()
    try:
        work(*arguments)
        return name, None, time.monotonic() - began
    except Mismatch as fault:
        failure = str(fault)
    except Exception:  # a fault of the case itself, or a server that is gone: shown, never hidden
        failure = traceback.format_exc(limit=-6)
    if on_failure is not None:
        failure += "\n" + on_failure()
    return name, failure, time.monotonic() - began


def chosen(parser, only, known):
    """The names in `only` (separated by commas), all that are known without it; others end the run."""
    names = only.split(",") if only else list(known)
    for name in names:
        if name not in known:
            parser.error("%s is none of %s" % (name, ", ".join(known)))
    return names


@contextlib.contextmanager
def scratch_folder(prefix, keep):
    """A folder that is removed at the end, or kept and named."""
    folder = tempfile.mkdtemp(prefix=prefix)
    try:
        yield folder
    finally:
        if keep:
            print("files kept in " + folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def run_jobs(jobs, threads, timings=False):
    """Runs all, in the order given, `threads` at a time; returns (passed, failed)."""
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for done in concurrent.futures.as_completed([pool.submit(job) for job in jobs]):
            for name, failure, took in done.result():
                tail = " (%.2f s)" % took if timings else ""
                if failure is None:
                    passed += 1
                    print("ok %s%s" % (name, tail), flush=True)
                else:
                    failed += 1
                    text = failure.rstrip().replace("\n", "\n    ")
                    print("not ok %s%s\n    %s" % (name, tail, text), flush=True)
    return passed, failed


def conclude(passed, failed):
    """Prints the counts; returns the exit status. A run of nothing has not passed."""
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0
