#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs applications unguarded, with one end guarded and with both, beside each other. Speaks TAP.

usage: run.py [--list] [-k PATTERN]... [--runs NUMBER] [--control] [--set NAME=VALUE]... [--table FILE]
  -k PATTERN     only tests whose name matches this regular expression (any of several), those of some further
                 applications among them (FURTHER). A cold start comes before everything else in any case
  --runs NUMBER  so many times (1): several are a measurement, whose last result is whether anything is over the bar
                 (report.py)
  --control      no guard anywhere: what fails then is the judgement (its tolerances, a machine that is too
                 busy), not the guard
  --set NAME=VALUE  a setting of all guards, in place of its default

A test is an application in a phase, with one share of its ends guarded. Applications run side by side, each
in a process, a lane and namespaces of its own: they mostly wait. At the end build/services.txt (--table) has the
table.
Needs root. Exit status 1 when a test failed.

environment: BUILD                  where the test programs were built (build)
             CONNGUARD_BUILD        where the daemon and the CLI under test were built (BUILD)
             CONNGUARD_TIME_SCALE   multiplies deadlines, for slow machines (1)
             CONNGUARD_RECOVERED    seconds after which a session that is not up is up never (90)
"""

import argparse
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
NETNS = os.path.join(os.path.dirname(HERE), "netns")
sys.dont_write_bytecode = True
sys.path[:0] = [HERE, NETNS]

import bird  # noqa: E402
import erlang  # noqa: E402
import frr  # noqa: E402
import gobgp  # noqa: E402
import harness  # noqa: E402
import judge  # noqa: E402
import lanes  # noqa: E402
import nats  # noqa: E402
import ngircd  # noqa: E402
import nodes  # noqa: E402
import openbgpd  # noqa: E402
import phases  # noqa: E402
import redis  # noqa: E402
import report  # noqa: E402
import study  # noqa: E402
import syncthing  # noqa: E402
import tinc  # noqa: E402
import yggdrasil  # noqa: E402
import zookeeper  # noqa: E402

# Those of one line run side by side. A virtual machine of Java starts at the expense of everybody else.
SLOTS = ([*nodes.APPLICATIONS, bird.Bird, redis.Redis, frr.Frr],
         [zookeeper.ZooKeeper])
# Only when they are asked for. Unguarded, their two ends may not find together for minutes: each ends the link
# that the other has kept.
FURTHER = [nats.Nats, ngircd.Ngircd, erlang.Erlang, tinc.Tinc, gobgp.GoBgp, openbgpd.OpenBgpd,
           yggdrasil.Yggdrasil, syncthing.Syncthing]
# The applications of a slot do the same things: not all of them at the same moment.
APART_S = 1.3
SETTING_UP = 2
# Hang guards.
SET_UP_S = 600
PHASE_S = 400
TABLE = os.path.join(harness.BUILD, "services.txt")
# Something that happens to all of them would be told by all of them.
SHOWN_COMPLAINTS = 8


class Interrupted(Exception):
    """A signal asks the runner to end."""


def interrupt(number, _frame):
    raise Interrupted(f"signal {number}")


def ignore_signals():
    """One that asks to end has been heard, and what there is to remove takes a while."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def too_long(_number, _frame):
    raise AssertionError("this takes longer than it may")


def books(kind, variant):
    return f"{kind.name}: at the end its guards know what there is ({variant})"


def test(kind, phase, variant):
    return f"{kind.name}: {phase.name} ({variant})"


def tests_of(kind):
    """(phase, variant, name) of all tests of an application, in their order."""
    for phase in kind.phases:
        for variant in phase.variants:
            yield phase, variant, test(kind, phase, variant)
    for variant in phases.GUARDED:
        yield None, variant, books(kind, variant)


class Performance:
    """One application in a process of its own, which this is when it says `perform`."""

    def __init__(self, kind, wanted, options, turns):
        self.kind = kind
        self.wanted = wanted    # names of tests
        self.options = options  # the runner's
        self.turns = turns      # who may set up
        self.left = [name for _phase, _variant, name in tests_of(kind) if name in wanted]
        self.connection, self.inner = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(target=self.perform, daemon=True)

    def start(self):
        self.process.start()
        self.inner.close()

    # -- in the process of its own --

    def perform(self):
        harness.die_with_parent(signal.SIGTERM)
        harness.PREFIX = f"cgt-nt{os.getpid()}"
        signal.signal(signal.SIGALRM, too_long)
        lab = None
        try:
            application = self.kind()
            lab = lanes.ServicesLab()
            with self.turns:
                signal.setitimer(signal.ITIMER_REAL, SET_UP_S * harness.TIME_SCALE)
                lab.set_up()
                performed = study.Study(lab, application, self.options.control, dict(self.options.set))
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.inner.send(("ready",))
            time.sleep(self.inner.recv())
            for phase in application.phases:
                if phase is application.phases[0] or self.wants(phase):
                    signal.setitimer(signal.ITIMER_REAL, PHASE_S * harness.TIME_SCALE)
                    self.tell(application, phase, performed.take(phase))
            for lane in performed.lanes:
                name = books(self.kind, lane.variant)
                if name in self.wanted:
                    wrong = performed.books(lane)
                    self.inner.send(("result", name, [wrong] if wrong else []))
        except harness.Skip as reason:
            self.inner.send(("skip", str(reason)))
        except Interrupted:
            pass
        except Exception:
            self.inner.send(("broken", traceback.format_exc()))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            ignore_signals()
            if lab:
                lab.tear_down()

    def wants(self, phase):
        return any(test(self.kind, phase, variant) in self.wanted for variant in phase.variants)

    def tell(self, application, phase, outcomes):
        measured = report.Report(0)
        for variant, outcome in outcomes.items():
            measured.add(application, phase, variant, outcome)
            name = test(self.kind, phase, variant)
            if name in self.wanted:
                self.inner.send(("result", name, judge.complaints(
                    application, phase, outcome, outcomes.get(phases.UNGUARDED))))
        self.inner.send(("report", measured))


class Runner:
    def __init__(self, options):
        self.options = options
        self.report = report.Report(options.runs)
        self.number = 0
        self.failed = 0
        self.suffix = ""
        self.patterns = options.k
        self.fell_short = []   # in the one run, and are measured once more
        self.once_more = False

    def slots(self):
        """Lists of (application, names of its tests) that are asked for."""
        for slot in (*SLOTS, FURTHER) if self.patterns else SLOTS:
            chosen = []
            for kind in slot:
                names = {name for _phase, _variant, name in tests_of(kind)
                         if not self.patterns
                         or any(re.search(pattern, name) for pattern in self.patterns)}
                if names:
                    chosen.append((kind, names))
            if chosen:
                yield chosen

    def result(self, name, wrong, skipped=None):
        """One run measures little: what falls short in it counts if it does so again."""
        if wrong and self.options.runs == 1 and not self.once_more:
            self.fell_short.append(name)
            print(f"# {name}: falls short, and is measured once more")
            for text in wrong[:SHOWN_COMPLAINTS]:
                print("".join(f"#   {line}\n" for line in text.splitlines()), end="", flush=True)
            return
        self.number += 1
        self.failed += bool(wrong)
        print(f"{'not ' if wrong else ''}ok {self.number} - {name}{self.suffix}"
              + (f" # SKIP {skipped}" if skipped else ""))
        for text in wrong[:SHOWN_COMPLAINTS]:
            for line in text.splitlines():
                print(f"# {line}")
        if wrong:
            print(f"# again: python3 tests/services/run.py -k '^{re.escape(name)}$'")
        sys.stdout.flush()

    def run(self):
        slots = list(self.slots())
        planned = self.options.runs * sum(len(names) for slot in slots for _kind, names in slot)
        print(f"1..{planned + (self.options.runs > 1)}", flush=True)
        try:
            for run in range(1, self.options.runs + 1):
                self.suffix = f", run {run}" if self.options.runs > 1 else ""
                for slot in slots:
                    self.perform(slot)
            if self.options.runs > 1:
                self.suffix = ""
                compared, over = self.report.compared()
                print(f"# {compared} comparisons")
                self.result("the worst of all runs is within the bar", over)
            if self.fell_short:
                self.once_more = True
                self.patterns = [f"^{re.escape(name)}$" for name in self.fell_short]
                for slot in list(self.slots()):
                    self.perform(slot)
        except Interrupted as reason:
            print(f"Bail out! {reason}", flush=True)
            self.failed += 1
        self.write_table()
        return 1 if self.failed else 0

    def write_table(self):
        if self.report.rows:
            with open(self.options.table, "w", encoding="utf-8") as file:
                file.write(self.report.text())

    def perform(self, slot):
        """All applications of a slot, side by side."""
        turns = multiprocessing.get_context("fork").Semaphore(SETTING_UP)
        performances = [Performance(kind, names, self.options, turns) for kind, names in slot]
        self.by_connection = {one.connection: one for one in performances}
        try:
            for performance in performances:
                performance.start()
            waiting = set(performances)
            while waiting:
                for performance, message in self.messages():
                    waiting.discard(performance)
                    if message[0] != "ready":
                        self.take(performance, message)
            for place, performance in enumerate(self.by_connection.values()):
                # One that is skipped has ended.
                with contextlib.suppress(OSError):
                    performance.connection.send(place * APART_S)
            while self.by_connection:
                for performance, message in self.messages():
                    self.take(performance, message)
        except Interrupted:
            ignore_signals()
            raise
        finally:
            for performance in performances:
                if performance.process.is_alive() and performance.connection in self.by_connection:
                    performance.process.terminate()
            for performance in performances:
                performance.process.join()

    def messages(self):
        """What the performances say. Nothing more comes from one that has ended: then that is a message."""
        for connection in multiprocessing.connection.wait(list(self.by_connection)):
            performance = self.by_connection[connection]
            try:
                yield performance, connection.recv()
            except (EOFError, ConnectionResetError):
                del self.by_connection[connection]
                yield performance, ("ended",)

    def take(self, performance, message):
        word, arguments = message[0], message[1:]
        if word == "result":
            performance.left.remove(arguments[0])
            self.result(*arguments)
        elif word == "report":
            self.report.merge(arguments[0])
        elif word == "skip":
            for name in performance.left:
                self.result(name, [], arguments[0])
            performance.left = []
        else:
            why = arguments[0] if arguments else "the study ended early"
            for name in performance.left:
                self.result(name, [why])
                why = "the study has broken down"
            performance.left = []


def setting(text):
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no setting: NAME=VALUE was expected")
    return name, value


def main():
    parser = argparse.ArgumentParser(description="applications beside each other, guarded and not")
    parser.add_argument("-k", action="append", metavar="PATTERN", default=[])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--runs", type=int, metavar="NUMBER", default=1)
    parser.add_argument("--control", action="store_true")
    parser.add_argument("--set", action="append", metavar="NAME=VALUE", default=[], type=setting)
    parser.add_argument("--table", metavar="FILE", default=TABLE)
    runner = Runner(parser.parse_args())
    if runner.options.list:
        for slot in runner.slots():
            for kind, names in slot:
                print("\n".join(name for _phase, _variant, name in tests_of(kind) if name in names))
        return 0
    if os.geteuid() != 0:
        print("1..0 # SKIP making network namespaces needs root")
        return 0
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, interrupt)
    return runner.run()


if __name__ == "__main__":
    sys.exit(main())
