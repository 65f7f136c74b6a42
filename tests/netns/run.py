#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs the namespace tests: real sockets, real guards. Speaks TAP.

usage: run.py [--list] [--core] [-k PATTERN]... [--fail-fast] [--jobs NUMBER]
  --core         only those that are run on every kernel (registry.py says which)
  -k PATTERN     only tests whose name matches this regular expression (any of several)
  --jobs NUMBER  so many runners side by side, each with hosts of its own (1). Tests wait most of their
                 time. A runner takes file after file; results come in the order in which tests end

Every test has a deadline (registry.py has those that may take longer than others). One that is not over
then fails with what it waited for, its processes are ended, and the next one has its turn. Should even
that hang, the runner ends itself, with a traceback of all its threads.

Tests are the functions that test_*.py beside this file register (registry.py). Without patterns there
is one result more: that together they made every cause of include/connguard/causes.h happen. Needs
root. Exit status 1 when a test failed.

environment: BUILD                  where the test programs were built (build)
             CONNGUARD_BUILD        where the daemon and the CLI under test were built (BUILD)
             CONNGUARD_TIME_SCALE   multiplies all deadlines, for slow machines (1)
             CONNGUARD_TEST_TIMES   anything: print how long each test took
"""

import argparse
import contextlib
import faulthandler
import glob
import importlib
import io
import itertools
import os
import re
import signal
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)

import harness  # noqa: E402
import registry  # noqa: E402
import truth  # noqa: E402

TEST_SECONDS = 120
# To clean up after a test; to set up and to take down a laboratory.
CLEAN_UP_SECONDS = 60
SET_UP_SECONDS = 180
# A deadline that something has swallowed comes again; then, if not even that is heard, the runner ends.
AGAIN_SECONDS = 10
LAST_SECONDS = 120
# Causes that no test can bring about at will.
ELUSIVE = {
    "none",           # nothing happened
    "dial_recycled",  # a dial between the two instructions that delete its peer's entry
    "host_resumed",   # a suspend of the machine
}
# Causes that need a feature.
OF_PROBING = {"link_unanswered"}


class Interrupted(Exception):
    """A signal asks the runner to end."""


def interrupt(number, _frame):
    raise Interrupted(f"signal {number}")


def too_long(_number, _frame):
    raise harness.TooLong()


@contextlib.contextmanager
def deadline(seconds):
    """What takes longer ends with TooLong; the deadline of before, if there is one, is over then."""
    seconds *= harness.TIME_SCALE
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
    # A thread of C code, which needs nothing of this interpreter.
    faulthandler.dump_traceback_later(seconds + LAST_SECONDS * harness.TIME_SCALE, exit=True)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()


def load_tests(directory, core, patterns):
    for path in sorted(glob.glob(os.path.join(directory, "test_*.py"))):
        importlib.import_module(os.path.basename(path)[:-3])
    return [test for test in registry.tests
            if (test.core or not core)
            and (not patterns or any(re.search(pattern, test.name) for pattern in patterns))]


def by_file(tests):
    """The tests of each file, with their numbers."""
    return [list(file) for _module, file in itertools.groupby(
        enumerate(tests, 1), lambda numbered: numbered[1].function.__module__)]


def to_be_shared(files):
    """A pipe of one octet for each file: who reads it has the file. The large ones first, so that none is
    left for the end."""
    left, entry = os.pipe()
    os.write(entry, bytes(sorted(range(len(files)), key=lambda file: -len(files[file]))))
    os.close(entry)
    return left


def taken_from(left, files):
    """The tests, with their numbers, of the files that other runners leave."""
    while taken := os.read(left, 1):
        yield from files[taken[0]]


@contextlib.contextmanager
def in_one_piece():
    """What is printed meanwhile comes out at once, not mixed with what another runner prints."""
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            yield
    finally:
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), text.getvalue().encode())


def explain_failure(lab, test):
    """Comment lines: what a person needs to see."""
    lines = traceback.format_exc().splitlines()
    for guard in lab.guards[-2:]:
        log = guard.log(15)
        if log:
            lines += [f"-- log of {guard.name} --"] + log.splitlines()
    program = os.path.relpath(sys.argv[0], harness.TOP)
    print_comment([*lines, f"again: python3 {program} -k '^{re.escape(test.name)}$'"])


def print_comment(lines):
    print("".join(f"# {line}\n" for line in lines), end="", flush=True)


@contextlib.contextmanager
def told_if_wrong(what, seconds, failures):
    """Something besides the tests that must go well and be over in time: if not, a result that failed."""
    try:
        with in_time(what, seconds):
            yield
    except Interrupted:
        raise
    except Exception:
        failures.append(what)
        with in_one_piece():
            print(f"not ok - {what}")
            print_comment(traceback.format_exc().splitlines())


class Hung(AssertionError):
    """Something was not over in time."""


@contextlib.contextmanager
def in_time(what, seconds):
    """Asserts that what is done meanwhile ends in time; says what it waits for if not."""
    harness.waits.clear()
    try:
        with deadline(seconds):
            yield
    except harness.TooLong as error:
        try:
            with deadline(CLEAN_UP_SECONDS):
                waits = error.text()
        except (Exception, harness.TooLong) as wrong:
            waits = f"what cannot be said any more ({wrong!r})"
        raise Hung(f"{what} is not over within {seconds * harness.TIME_SCALE:g} s. "
                   f"It waits for: {waits}") from error


def clean_up(lab, hung, before):
    """After a test. If it hung nothing stays of it; `before`: the processes that there were."""
    try:
        with in_time("what ends the test", CLEAN_UP_SECONDS):
            lab.clear()
    except BaseException:
        hung = True
        raise
    finally:
        if hung:
            with in_time("what ends the test by force", CLEAN_UP_SECONDS):
                lab.end_strays(before)


def run_test(lab, number, test, seconds):
    """True unless it failed."""
    began = time.monotonic()
    name = test.name.replace("#", "")
    before = harness.children()
    hung = False
    try:
        try:
            with in_time("the test", test.seconds or seconds):
                test.run(lab)
                truth.check(lab)
        except Hung:
            hung = True
            raise
        finally:
            clean_up(lab, hung, before)
    except harness.Skip as reason:
        print(f"ok {number} - {name} # SKIP {reason}", flush=True)
        return True
    except Interrupted:
        raise
    except Exception:
        print(f"not ok {number} - {name}")
        explain_failure(lab, test)
        with in_time("the end of the shared guard", CLEAN_UP_SECONDS):
            lab.abandon_shared()
        return False
    print(f"ok {number} - {name}", flush=True)
    if "CONNGUARD_TEST_TIMES" in os.environ:
        print(f"# {time.monotonic() - began:.2f} s", flush=True)
    return True


def causes_unseen():
    """Causes that happened to no guard, as far as this runner knows."""
    path = os.path.join(harness.TOP, "include", "connguard", "causes.h")
    with open(path, encoding="utf-8") as file:
        causes = set(re.findall(r"^\tX\((\w+), ", file.read(), re.MULTILINE))
    assert len(causes) > len(ELUSIVE), f"{path} is not understood"
    lost = OF_PROBING if "socket_options" in harness.lacks else set()
    return causes - harness.causes_seen - ELUSIVE - lost


def report_causes(number):
    """True unless a cause was not seen."""
    unseen = ", ".join(sorted(causes_unseen()))
    print(f"{'not ' if unseen else ''}ok {number} - every cause happens", flush=True)
    if unseen:
        print(f"# in no test: {unseen}", flush=True)
    return not unseen


def run_tests(tests, laboratory, test_seconds, fail_fast):
    """Run these tests, with their numbers, in a laboratory of this class. The exit status."""
    lab = laboratory()
    failed = []
    try:
        with in_time("the laboratory's making", SET_UP_SECONDS):
            lab.set_up()
        for number, test in tests:
            with in_one_piece():
                passed = run_test(lab, number, test, test_seconds)
            if not passed:
                failed.append(test.name)
                if fail_fast:
                    break
        with told_if_wrong("the end of the shared guard", CLEAN_UP_SECONDS, failed):
            lab.retire_shared()
    except Interrupted as reason:
        print(f"Bail out! {reason}", flush=True)
        failed.append("the rest")
    finally:
        with told_if_wrong("the end of the laboratory", SET_UP_SECONDS, failed):
            lab.tear_down()
    return 1 if failed else 0


def tell_findings(report):
    """To the runner that started this one: what is asked of all of them together."""
    lines = [f"saw {cause}\n" for cause in harness.causes_seen if cause]
    lines += [f"lacks {feature}\n" for feature in harness.lacks]
    os.write(report, "".join(lines).encode())


def run_side_by_side(jobs, files):
    """So many runners like this one, which share these files. The exit status."""
    left = to_be_shared(files)
    seen, report = os.pipe()
    runners = [subprocess.Popen(
        [sys.executable, *sys.argv, "--jobs", "1", "--share", str(left), "--report", str(report)],
        pass_fds=[left, report], preexec_fn=lambda: harness.die_with_parent(signal.SIGTERM))
               for _job in range(jobs)]
    os.close(report)
    failed = False
    for runner in runners:
        while runner.returncode is None:
            try:
                failed |= runner.wait() != 0
            except Interrupted:
                for other in runners:
                    other.terminate()
    if failed:
        # Of a runner that had to end itself.
        harness.remove_leftovers(harness.cgroup2_mount())
    with open(seen, encoding="ascii") as findings:
        for what, name in map(str.split, findings):
            if what == "saw":
                harness.causes_seen.add(name)
            else:
                harness.lacks[name] = "as another runner found"
    return 1 if failed else 0


def main(directory=HERE, laboratory=harness.Lab, test_seconds=TEST_SECONDS):
    """Run the test_*.py of a directory, in laboratories of this class."""
    parser = argparse.ArgumentParser(description="namespace tests")
    parser.add_argument("-k", action="append", metavar="PATTERN", default=[])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--fail-fast", action="store_true")
    parser.add_argument("--jobs", type=int, metavar="NUMBER", default=1)
    parser.add_argument("--core", action="store_true")
    # Of a runner beside others, descriptors: where it takes its files from, and tells what it has found.
    parser.add_argument("--share", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--report", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    tests = load_tests(directory, options.core, options.k)
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
    files = by_file(tests)
    if options.share is not None:
        status = run_tests(taken_from(options.share, files), laboratory, test_seconds, options.fail_fast)
        tell_findings(options.report)
        return status
    whole = directory == HERE and not options.k
    print(f"1..{len(tests) + whole}", flush=True)
    if options.jobs > 1:
        status = run_side_by_side(options.jobs, files)
    else:
        status = run_tests(itertools.chain(*files), laboratory, test_seconds, options.fail_fast)
    if whole and not report_causes(len(tests) + 1):
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
