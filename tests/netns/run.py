#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs the namespace tests: real sockets, real guards. Speaks TAP.

usage: run.py [--list] [-k PATTERN]... [--fail-fast]
  -k PATTERN    only tests whose name matches this regular expression (any of several)

Tests are the functions that test_*.py beside this file register (registry.py). Needs root. Exit
status 1 when a test failed.

environment: BUILD                  where the test programs were built (build)
             CONNGUARD_BUILD        where the daemon and the CLI under test were built (BUILD)
             CONNGUARD_TIME_SCALE   multiplies all deadlines, for slow machines (1)
             CONNGUARD_TEST_TIMES   anything: print how long each test took
"""

import argparse
import glob
import importlib
import os
import re
import signal
import sys
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness  # noqa: E402
import registry  # noqa: E402
import truth  # noqa: E402

TEST_SECONDS = 90


class Interrupted(Exception):
    """A signal asks the runner to end."""


def interrupt(number, _frame):
    raise Interrupted(f"signal {number}")


def too_long(_number, _frame):
    raise AssertionError(f"the test takes longer than {TEST_SECONDS * harness.TIME_SCALE:g} s")


def load_tests(patterns):
    here = os.path.dirname(os.path.abspath(__file__))
    for path in sorted(glob.glob(os.path.join(here, "test_*.py"))):
        importlib.import_module(os.path.basename(path)[:-3])
    return [test for test in registry.tests
            if not patterns or any(re.search(pattern, test.name) for pattern in patterns)]


def explain_failure(lab, test):
    """Comment lines: what a person needs to see."""
    lines = traceback.format_exc().splitlines()
    for guard in lab.guards[-2:]:
        log = guard.log(15)
        if log:
            lines += [f"-- log of {guard.name} --"] + log.splitlines()
    for line in lines:
        print(f"# {line}")
    print(f"# again: python3 tests/netns/run.py -k '^{re.escape(test.name)}$'", flush=True)


def run_test(lab, number, test):
    """True unless it failed."""
    began = time.monotonic()
    name = test.name.replace("#", "")
    signal.setitimer(signal.ITIMER_REAL, TEST_SECONDS * harness.TIME_SCALE)
    try:
        try:
            test.run(lab)
            truth.check(lab)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 30 * harness.TIME_SCALE)
            lab.clear()
    except harness.Skip as reason:
        print(f"ok {number} - {name} # SKIP {reason}", flush=True)
        return True
    except Interrupted:
        raise
    except Exception:
        print(f"not ok {number} - {name}")
        explain_failure(lab, test)
        lab.abandon_shared()
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    print(f"ok {number} - {name}", flush=True)
    if "CONNGUARD_TEST_TIMES" in os.environ:
        print(f"# {time.monotonic() - began:.2f} s", flush=True)
    return True


def main():
    parser = argparse.ArgumentParser(description="namespace tests")
    parser.add_argument("-k", action="append", metavar="PATTERN", default=[])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--fail-fast", action="store_true")
    options = parser.parse_args()
    tests = load_tests(options.k)
    if options.list:
        for test in tests:
            print(test.name)
        return 0
    if os.geteuid() != 0:
        print("1..0 # SKIP making network namespaces needs root")
        return 0
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, interrupt)
    signal.signal(signal.SIGALRM, too_long)
    print(f"1..{len(tests)}", flush=True)
    lab = harness.Lab()
    failed = 0
    try:
        lab.set_up()
        for number, test in enumerate(tests, 1):
            if not run_test(lab, number, test):
                failed += 1
                if options.fail_fast:
                    break
        try:
            lab.retire_shared()
        except AssertionError:
            traceback.print_exc()
            failed += 1
    except Interrupted as reason:
        print(f"Bail out! {reason}", flush=True)
        failed += 1
    finally:
        lab.tear_down()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
