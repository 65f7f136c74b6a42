#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Has Spin search the variants of the model two_hosts.pml, and prints a line for each.

usage: run.py [--list | --check] [-k PATTERN]... [--define NAME=VALUE]...
  --check               search nothing; see whether the settings are known and the mistakes can be
                        made (for scripts/lint.sh)
  -k PATTERN            only rows whose name matches this regular expression (any of several)
  --define NAME=VALUE   set this in all of them (words.h has the names)

Rows are of three kinds. "holds": a variant that is searched to the end, without a counterexample.
"edge": just outside of what is promised, with a counterexample that is known; were it gone, more
could be promised. "mistake": one is made in a copy of the rules or of the model, and the
counterexample must be found, or the model could not fail. When a row does not turn out so it fails,
and what Spin has found is replayed below the table, host 0 as A to the left, host 1 as B.

As its last line prints "N passed, N failed, N skipped". Exits 1 when a row failed.

environment: BUILD   where verifiers are made (build; BUILD/model is emptied)
             CC      the compiler (gcc)
"""

import argparse
import concurrent.futures
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True

import variants  # noqa: E402
from variants import EDGE, HOLDS, MISTAKE  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
WORK = os.path.join(os.path.abspath(os.environ.get("BUILD") or os.path.join(TOP, "build")), "model")
CC = shlex.split(os.environ.get("CC") or "gcc")

# Of one search: megabytes, steps in a row, seconds. They end what would not.
MEMORY_LIMIT = 2048
DEPTH_LIMIT = 100000
TIME_LIMIT = 600
# Each step reads and writes all of the state: Spin's reduction would find nothing to leave out.
FLAGS = ["-w", "-DNOREDUCE", f"-DMEMLIM={MEMORY_LIMIT}", "-DVECTORSZ=2048"]
# Of a replay. The log has all of it.
SHOWN_LINES = 120

FOUND = "counterexample"
NONE_FOUND = "holds"

# What to end when this is ended.
RUNNING = set()


class Inconclusive(Exception):
    """A search that says nothing: it did not begin, it did not end, or the model is at fault."""


def call(command, directory):
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True) as process:
        RUNNING.add(process)
        try:
            text, _ = process.communicate(timeout=TIME_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Inconclusive(f"{command[0]} takes longer than {TIME_LIMIT} s") from None
        finally:
            RUNNING.discard(process)
    if process.returncode:
        raise Inconclusive(f"{command[0]} ended with {process.returncode}:\n{text}".rstrip())
    return text


def stop(number, _frame):
    for process in list(RUNNING):
        process.kill()
    os._exit(128 + number)


def path_of(row):
    return os.path.join("include" if row.file.startswith("connguard/") else "tests/model", row.file)


def with_mistake(row):
    with open(os.path.join(TOP, path_of(row)), encoding="utf-8") as stream:
        text = stream.read()
    if text.count(row.old) != 1:
        raise Inconclusive(f"{path_of(row)} has the text that is to be changed {text.count(row.old)} "
                           f"times, expected once:\n{row.old}")
    return text.replace(row.old, row.new)


def make_mistake(row, directory):
    """Copies the model and the rules, with the row's mistake in them. Returns where they are."""
    for part in "tests/model", "include":
        shutil.copytree(os.path.join(TOP, part), os.path.join(directory, part),
                        ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    with open(os.path.join(directory, path_of(row)), "w", encoding="utf-8") as stream:
        stream.write(with_mistake(row))
    return os.path.join(directory, "tests", "model"), os.path.join(directory, "include")


def known_settings():
    with open(os.path.join(HERE, "words.h"), encoding="utf-8") as stream:
        return set(re.findall(r"^#ifndef ([A-Z_0-9]+)$", stream.read(), re.MULTILINE))


def check_table():
    """Prints "file:line: message" for each finding. Returns the exit status."""
    findings, status = [], 0
    for row in variants.ROWS:
        findings += [f"words.h has no setting {name}" for name in set(row.settings) - known_settings()]
        try:
            if row.kind == MISTAKE:
                with_mistake(row)
        except Inconclusive as error:
            findings.append(str(error))
        while findings:
            print(f"tests/model/variants.py:1: '{row.name}': {findings.pop()}")
            status = 1
    return status


def make_verifier(row, settings, directory):
    model, include = HERE, os.path.join(TOP, "include")
    if row.kind == MISTAKE:
        model, include = make_mistake(row, directory)
    defines = [f"-D{name}={value}" for name, value in settings.items()]
    # A cycle is found in a search that is fair (what could happen all the time does, at last).
    mode = ["-DNFAIR=3"] if settings.get("EVENTUALLY") else ["-DSAFETY"]
    call(["spin", *defines, "-a", os.path.join(model, "two_hosts.pml")], directory)
    # A mistake is found sooner than it is optimized.
    speed = "-O0" if row.kind == MISTAKE else "-O1"
    call([*CC, speed, *FLAGS, *mode, *defines, f"-I{model}", f"-I{include}", "-o", "pan",
          "pan.c"], directory)


def search(row, settings, directory):
    """Returns (outcome, what was violated or "", states, causes met)."""
    make_verifier(row, settings, directory)
    text = call(["./pan", f"-m{DEPTH_LIMIT}", *(["-a", "-f"] if settings.get("EVENTUALLY") else [])],
                directory)
    with open(os.path.join(directory, "search.log"), "w", encoding="utf-8") as stream:
        stream.write(text)
    errors = re.search(r"errors: (\d+)", text)
    states = re.search(r"^ *([\d.e+]+) states, stored", text, re.MULTILINE)
    causes = re.search(r"^causes:(.*)", text, re.MULTILINE)
    if not errors or not states or not causes or \
       re.search("reached -DMEMLIM|max search depth too small", text):
        raise Inconclusive(f"the search did not end:\n{text}".rstrip())
    violated = re.search(r"^pan:\d+: (.*?)(?: \(at depth \d+\))?$", text, re.MULTILINE)
    violated = violated.group(1) if violated else ""
    if violated and not violated.startswith(("assertion violated", "acceptance cycle")):
        raise Inconclusive(f"{violated}\n{replay(directory)}")
    return (FOUND if int(errors.group(1)) else NONE_FOUND, violated, int(float(states.group(1))),
            set(causes.group(1).split()))


def replay(directory):
    trail = os.path.join(directory, "two_hosts.pml.trail")
    if not os.path.exists(trail):
        return ""
    text = call(["./pan", "-r", trail], directory)
    lines = [line for line in text.splitlines() if re.match(r" *[\d.]+ s  |<<<<<START OF CYCLE", line)]
    with open(os.path.join(directory, "replay.log"), "w", encoding="utf-8") as stream:
        stream.write("\n".join(lines) + "\n")
    if len(lines) > SHOWN_LINES:
        lines[:-SHOWN_LINES] = [f"... {len(lines) - SHOWN_LINES} more lines in {directory}/replay.log"]
    return "\n".join(lines)


def promise(settings):
    """What is asserted, in words."""
    second, links = settings.get("SECOND", 4), settings.get("LINKS", 1)
    surplus = settings.get("SURPLUS_AT_GUARDED", "NEVER")
    settles = settings.get("SETTLES", 3 * second)
    number = {1: "one", 2: "two", 3: "three"}
    words = []
    if surplus == "NEVER":
        words.append(f"never {number[links + 1]}")
    elif surplus != "ANY":
        words.append(f"{number[links + 1]} for < {surplus / second:g} s")
    if settings.get("STEADY", 1):
        words.append("never none again")
    in_the_end = number[links]
    if settings.get("SURPLUS_MAY_STAY"):
        in_the_end += f" or {number[links + 1]}"
    if settings.get("EVENTUALLY"):
        words.append(f"{in_the_end} in the end")
    if settles:
        words.append(f"{in_the_end} in {settles / second:g} s")
    return ", ".join(words)


LINE = "{:5} {:8} {:62} {:48} {:14} {:>9} {:>8}"


def run_row(number, row, defined):
    """Returns (whether it passed, its line, what to say of a failure, causes met)."""
    settings = {**row.settings, **defined}
    directory = os.path.join(WORK, f"{number:02}")
    os.makedirs(directory)
    began = time.monotonic()
    try:
        outcome, violated, states, causes = search(row, settings, directory)
        good = outcome == (NONE_FOUND if row.kind == HOLDS else FOUND)
        if not violated:
            violated = "the counterexample is not found that there should be"
        explanation = "" if good else f"{violated}\n{replay(directory)}".rstrip()
    except (Inconclusive, OSError) as error:
        outcome, states, causes, good, explanation = "inconclusive", "", set(), False, str(error)
    line = LINE.format("ok" if good else "FAIL", row.kind, row.name, promise(settings), outcome, states,
                       f"{time.monotonic() - began:.1f}")
    return good, line, explanation, causes


def check_reach(met):
    """Every cause of a decision is met by some variant, or is one of NOT_MET and by none."""
    with open(os.path.join(TOP, "include", "connguard", "causes.h"), encoding="utf-8") as stream:
        names = set(re.findall(r"X\((\w+), (?:DIAL|KNOCK|ANSWER|CLAIM|LINK), ", stream.read()))
    wrong = sorted((names - met) ^ (names & variants.NOT_MET))
    if not wrong:
        return True, ""
    return False, f"met by no variant, or by one although in NOT_MET: {', '.join(wrong)}"


def setting(text):
    name, _, value = text.partition("=")
    if name not in known_settings() or not value:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE with a NAME that words.h has")
    return name, int(value) if value.isdigit() else value


def pattern(text):
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"'{text}' is no regular expression: {error}") from None


def main():
    sys.stdout.reconfigure(line_buffering=True)
    parser = argparse.ArgumentParser(usage="run.py [--list | --check] [-k PATTERN]... [--define NAME=VALUE]...")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("-k", action="append", default=[], type=pattern)
    parser.add_argument("--define", action="append", default=[], type=setting)
    options = parser.parse_args()
    defined = dict(options.define)
    rows = [row for row in variants.ROWS
            if not options.k or any(wanted.search(row.name) for wanted in options.k)]
    if options.check:
        return check_table()
    if options.list:
        for row in rows:
            print(f"{row.kind:8} {row.name}")
        return 0

    for number in signal.SIGINT, signal.SIGTERM:
        signal.signal(number, stop)
    shutil.rmtree(WORK, ignore_errors=True)
    print(LINE.format("", "KIND", "VARIANT", "PROMISED", "FOUND", "STATES", "SECONDS"))
    printing = threading.Lock()

    def work(number, row):
        result = run_row(number, row, defined)
        with printing:
            print(result[1], flush=True)
        return result

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(work, range(len(rows)), rows))
    passed, failures, met = 0, [], set()
    for row, (good, _, explanation, causes) in zip(rows, results):
        passed += good
        met |= causes if row.kind in (HOLDS, EDGE) else set()
        if not good:
            failures.append(f"{row.name}: {explanation}")
    if len(rows) == len(variants.ROWS) and not defined:
        good, explanation = check_reach(met)
        passed += good
        if not good:
            failures.append(explanation)
    for failure in failures:
        print(f"\n{failure}")
    print(f"{passed} passed, {len(failures)} failed, 0 skipped")
    return 1 if failures or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
