#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Two ends dial each other at once, thousands of times: is there exactly one link afterwards?

usage: crossing.py [--rounds N] [--seed N] [--rate N] [-k PATTERN]...
  --rounds N    of each configuration; one half of them with SYN cookies (500)
  --seed N      the rounds are drawn from it (the time)
  --rate N      rounds begun in a second, all configurations together (300)
  -k PATTERN    only configurations whose name matches this regular expression (any of several)

Every configuration has hosts of its own, and all run side by side:

    home  --- wire ---  far         the wire delays each pair of addresses by its own times

A round (rounds.py) is a pair of addresses that dial each other at about the same moment, over a
round trip of 0 to 80 ms. The applications at both ends (crosser.c) know nothing of connguard and
dial whatever they have already. Afterwards the records of both are matched (judge.py).

Speaks TAP, and writes a table to crossing.txt and a trace of each round that went wrong to crossing/
in the build directory. Needs root.

environment: CROSSING_ROUNDS, CROSSING_SEED   when not given as options
             those of tests/netns/run.py
"""

import argparse
import collections
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "netns")]

import harness  # noqa: E402
import judge  # noqa: E402
import rounds  # noqa: E402
from harness import (CLI, PORT, SECOND, TIME_SCALE, die_with_parent, first_line, helper, now_ns,  # noqa: E402
                     wait_end, wait_for)
from rounds import FAR, HOME, SIDES  # noqa: E402

# A pair has its one link this soon, and on a busy machine LATE_TIMES what that machine was late by at most,
# with a packet that was due or a dial: a guard and its daemon have to wait for their turn as often.
LIMIT_NS = int(3 * SECOND * TIME_SCALE)
# A guarded application may see a second link where a SYN-ACK was lost: the other end completes by its
# retransmission what was superseded meanwhile. It is gone this soon.
DOUBLED_NS = int(SECOND * TIME_SCALE)
LATE_TIMES = 3
# Without a guard this share of the rounds that cross shows two links, or nothing here crosses.
CONTROL_SHARE = 0.99
# Rounds of one kind of which a trace is written, for each run.
TRACES_MAX = 5
HOLDS = ("knock_tie_lost", "knock_pending", "knock_suspect", "answer_linked", "answer_tie_lost")
DUPLICATES = ("link_duplicate", "link_replaced")
DESTROYED = ("link_destroyed",)
# The values of tcp_syncookies that a configuration runs with, and how the table calls them.
COOKIES = ((1, ""), (2, ", SYN cookies"))

Configuration = collections.namedtuple("Configuration", "name guarded options service stacked")
CONFIGURATIONS = (
    Configuration("both ends guarded", (HOME, FAR), {}, "keep-all", False),
    Configuration("one end guarded", (HOME,), {}, "keep-all", False),
    Configuration("one end guarded, the other stacks its dials", (HOME,), {}, "keep-all", True),
    Configuration("tie_break = none, both ends guarded", (HOME, FAR), {"tie_break": "none"},
                  "keep-greater", False),
    Configuration("tie_break = none, one end guarded", (HOME,), {"tie_break": "none"},
                  "keep-greater", False),
    Configuration("no guard", (), {}, "keep-all", False),
)
# What the guard does when something was not as it should be.
REPAIRS = ("link_released", "link_spared", "link_adopted", "link_surplus", "claim_expired",
           "dial_unheld", "link_unheld")
COLUMNS = ("", "rounds", "one link", "two at home", "at far", "ms to settle", "with a loss",
           "destroyed", "holds", "RSTs")


class Helper:
    """A C program in a host's namespace and cgroup."""

    def __init__(self, host, name, *arguments):
        self.name = name
        cgroup = os.path.join(host.cgroup, "cgroup.procs")

        def prepare():
            die_with_parent()
            with open(cgroup, "w", encoding="ascii") as file:
                file.write("0")
        self.process = subprocess.Popen(
            host.inside(helper(name, suite="crossing"), *map(str, arguments)), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, preexec_fn=prepare)
        line = first_line(self.process, f"{name} starts")
        assert line == b"ready\n", f"{name} does not start: {line}"

    def tell(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def finish(self, seconds):
        """Its end: asks for it, and asserts that it went well."""
        self.process.stdin.close()
        status = wait_end(self.process, f"{self.name} ends", seconds)
        self.process.stdout.close()
        assert status == 0, f"{self.name} exits {status}"

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Site:
    """The hosts of one configuration, with their guards."""

    def __init__(self, lab, number, configuration, options):
        self.lab = lab
        self.configuration = configuration
        self.options = options
        self.slug = re.sub(r"\W+", "-", configuration.name)
        self.directory = os.path.join(lab.directory, f"site{number}")
        self.hosts = {side: lab.add_host(f"{side}{number}", worker=False) for side in SIDES}
        self.wire = lab.add_host(f"wire{number}", worker=False)
        self.guards = {}
        self.followers = {}
        self.helpers = []

    # -- setting up --

    def set_up(self):
        os.makedirs(self.directory)
        self.wire.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
        for number, side, other, prefix, far_prefix in ((1, HOME, FAR, 86, 84),
                                                        (2, FAR, HOME, 84, 86)):
            host = self.hosts[side]
            self.lab.cable(host, "eth0", self.wire, side)
            host.sysctl("net.ipv6.ip_nonlocal_bind", 1)
            host.sysctl("net.core.somaxconn", 4096)
            host.sysctl("net.ipv4.tcp_max_syn_backlog", 4096)
            # Nobody has to ask for a link address, so that the first SYNs are not slower.
            host.ip(f"link set eth0 address 02:00:00:00:00:0{number}",
                    f"addr add 10.78.0.{number}/24 dev eth0",
                    f"addr add fd78::{number}/64 dev eth0 nodad",
                    *(f"neigh add {gateway} lladdr 02:00:00:00:00:0{3 - number} dev eth0 "
                      "nud permanent" for gateway in (f"10.78.0.{3 - number}",
                                                      f"fd78::{3 - number}")),
                    f"route add local 10.{prefix}.0.0/16 dev lo",
                    f"route add local fd{prefix}::/64 dev lo",
                    f"route add 10.{far_prefix}.0.0/16 via 10.78.0.{3 - number}",
                    f"route add fd{far_prefix}::/64 via fd78::{3 - number}")
        for side in self.configuration.guarded:
            # As it is shipped; there is only room for all these peers, and no link is quiet while a busy
            # machine is at its round.
            self.guards[side] = self.lab.new_guard(self.hosts[side], dict(
                self.configuration.options, port=PORT, suspect_after="1m",
                max_peers=max(8192, self.options.rounds + 1024)))
            self.guards[side].start_only()
        for side, guard in self.guards.items():
            wait_for(guard.is_up, lambda guard=guard: f"{guard.name} is up\n"
                     f"{guard.cli('status')[1]}\n{guard.log()}", 30)

    def follow(self, side, guard):
        """What the guard tells goes to a file, and is read when a round went wrong."""
        with open(self.path(f"events-{side}"), "ab") as file:
            self.followers[side] = subprocess.Popen(
                [CLI, "-n", guard.name, "--json", "events", "--follow"],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.DEVNULL,
                preexec_fn=die_with_parent)

    def path(self, name):
        return os.path.join(self.directory, name)

    # -- a run --

    def address(self, prefix, number):
        if number % 2:
            return f"fd{prefix}::{number:x}"
        return f"10.{prefix}.{number // 250}.{number % 250 + 1}"

    def draw(self, half):
        """The rounds of one half. IPv4 and IPv6 take turns."""
        count = self.options.rounds // 2
        window = count * self.options.sites * 1_000_000 // self.options.rate
        return [rounds.draw(f"{self.options.seed}/{self.slug}", number,
                            (self.address(86, number), self.address(84, number)), window,
                            self.configuration.stacked,
                            int(rounds.JUDGED_AFTER * TIME_SCALE))
                for number in range(half * count, (half + 1) * count)]

    def counters(self):
        total = collections.Counter()
        for guard in self.guards.values():
            total.update(guard.counters())
        return total

    @staticmethod
    def holds_nothing(guard):
        """No link, no claim: every round is over."""
        peers = guard.status()["peers"]
        return peers["linked"] == peers["dialing"] == 0

    def run(self, half, cookies):
        """One half of the rounds. Returns a Result."""
        plan = self.draw(half)
        rounds.write(plan, self.path("plan"))
        for host in self.hosts.values():
            host.sysctl("net.ipv4.tcp_syncookies", cookies)
        for side, guard in self.guards.items():
            # The daemon hangs up on whoever is behind by a megabyte, as after a check of all peers.
            if side not in self.followers or self.followers[side].poll() is not None:
                self.follow(side, guard)
        before = self.counters()
        wire = Helper(self.wire, "distance", HOME, FAR, self.path("plan"), self.path("wire"),
                      self.options.seed)
        ends = [Helper(self.hosts[side], "crosser", side, self.path("plan"), PORT,
                       self.path(side), self.configuration.service) for side in SIDES]
        self.helpers = [wire, *ends]
        begins = now_ns() + SECOND // 4
        for end in ends:
            end.tell(f"{begins}\n")
        lasts = max(one.ends for one in plan) / 1_000_000
        for end in ends:
            end.finish(lasts + 30)
        wire.finish(30)
        # The ends close what is left when a round is over; the guards have heard of it, too.
        for guard in self.guards.values():
            wait_for(lambda guard=guard: self.holds_nothing(guard),
                     lambda guard=guard: f"{guard.name} holds nothing: {guard.status()['peers']}")
        after = self.counters()
        seen = {side: judge.read_seen(self.path(side), side) for side in SIDES}
        # The line in the plan is the number at the ends.
        outcomes = [judge.Outcome(one, begins,
                                  {side: seen[side].get(line, []) for side in SIDES})
                    for line, one in enumerate(plan)]
        return Result(self, plan, outcomes, begins, after - before)

    # -- explaining --

    def told(self, addresses):
        """Of the guards, about a round: (time, side, text)."""
        for side in self.guards:
            with open(self.path(f"events-{side}"), encoding="utf-8") as file:
                for line in file:
                    if not any(f'"{address}"' in line for address in addresses):
                        continue
                    event = json.loads(line)
                    names = ("cookie", "other_cookie", "local_port", "remote_port", "until_ns")
                    more = " ".join(f"{name} {event[name]}" for name in names if event.get(name))
                    yield (event["time_ns"], f"{side} guard",
                           f"{event.get('verdict', '')} {event['cause']} {more}")

    def trace(self, outcome, line, begins):
        """Everything about one round, in the order in which it happened."""
        lines = []
        for side in SIDES:
            for one in outcome.seen[side]:
                what = f"{one.dialer}'s dial from port {one.port}"
                if one.asked:
                    lines.append((one.asked, f"{side} application", f"{what}: connect()"))
                if one.opened:
                    lines.append((one.opened, f"{side} application",
                                  f"{what}: is a link, beside {one.beside}"))
                if one.closed:
                    lines.append((one.closed, f"{side} application", f"{what}: {one.end}"))
        for one in judge.segments(self.path("wire")):
            if one.number == line:
                lines.append((one.taken, f"from {SIDES[not one.to]}", judge.segment_text(one)))
        lines += self.told(outcome.plan.address.values())
        lacking = [f"the events of {side} are not complete" for side, follower in
                   self.followers.items() if follower.poll() is not None]
        return [outcome.plan.text(), "; ".join(["wrong: " + outcome.kind()] + lacking)] + [
            f"{(moment - begins) / 1e6:12.3f} ms  {where:16}  {text}"
            for moment, where, text in sorted(lines)]

    def tear_down(self):
        for one in self.helpers:
            one.kill()
        for follower in self.followers.values():
            follower.kill()
            follower.wait()


class Result:
    """The outcomes of one half of a configuration's rounds."""

    def __init__(self, site, plan, outcomes, begins, counted):
        self.site = site
        self.configuration = site.configuration
        self.plan = plan
        self.outcomes = outcomes
        self.begins = begins
        self.counted = counted
        self.wrong = []
        segments = list(judge.segments(site.path("wire")))
        # Those at the end of a round are ours.
        self.resets = sum(1 for one in segments if one.flags & judge.RST
                          and one.taken < outcomes[one.number].over)
        self.packets_late = [one.sent - one.due for one in segments if one.sent]
        self.dials_late = [
            asked - (begins + planned * 1000) for one in outcomes for side in SIDES
            for asked, planned in zip(sorted(seen.asked for seen in one.seen[side] if seen.asked),
                                      one.plan.dials[side])]
        self.allowed_late = LATE_TIMES * max(self.packets_late + self.dials_late, default=0)
        self.judge()

    def count(self, names):
        return sum(self.counted[name] for name in names)

    def judge(self):
        for one in self.outcomes:
            planned = sum(len(some) for some in one.plan.dials.values())
            one.demand(len(one.asked) == planned, f"{len(one.asked)} dials of {planned}")
        if self.configuration.guarded:
            self.judge_guarded()
        else:
            self.judge_control()
        if self.count(REPAIRS):
            self.wrong.append("repairs were needed: " + ", ".join(
                f"{name} {self.counted[name]}" for name in REPAIRS if self.counted[name]))

    def judge_guarded(self):
        own_rule = self.configuration.service == "keep-greater"
        for one in self.outcomes:
            one.demand(one.left == 1, "the ends do not have the same links" if one.left < 0 else
                       f"{one.left} links are left")
            one.demand(one.settled is not None and one.settled <= LIMIT_NS + self.allowed_late,
                       f"settled after {(one.settled or 0) / 1e9:.3f} s")
            one.demand(one.first is not None and one.first <= LIMIT_NS + self.allowed_late,
                       f"linked after {(one.first or 0) / 1e9:.3f} s")
            if own_rule:
                self.judge_service(one)
                continue
            for side in self.configuration.guarded:
                one.demand(one.count[side] == 1 or one.plan.answer_eaten,
                           f"{one.count[side]} links were seen at {side}")
                one.demand(one.doubled[side] <= DOUBLED_NS + self.allowed_late,
                           f"more than one link at {side} for {one.doubled[side] / 1e9:.3f} s")
        if own_rule:
            for names, what in ((HOLDS, "held"), (DUPLICATES + DESTROYED, "destroyed")):
                if self.count(names):
                    self.wrong.append(f"the guard has {what} something: {self.counted}")

    @staticmethod
    def judge_service(one):
        """The services' own rule has decided, and nothing but it."""
        one.demand(max(one.count.values()) < 2 or one.left != 1 or one.winner == one.plan.greater,
                   "the service's rule keeps the other one")
        one.demand(not one.ended_by_nobody(), "a link ended that neither service closed")

    def judge_control(self):
        crossing = [one for one in self.outcomes if one.crosses()]
        two = sum(1 for one in crossing if one.left == 2 and min(one.together.values()) == 2)
        if not crossing or two < CONTROL_SHARE * len(crossing):
            self.wrong.append(f"{two} of {len(crossing)} rounds that cross show two links")

    def settled(self, loss):
        """Times of the rounds in which a packet was lost, or of those in which none was."""
        return judge.times_text([one.settled for one in self.outcomes
                                 if one.settled is not None and bool(one.plan.eaten) == loss])

    def row(self, suffix):
        seen = [sum(1 for one in self.outcomes if one.together[side] > 1) for side in SIDES]
        return (self.configuration.name + suffix, len(self.outcomes),
                sum(1 for one in self.outcomes if one.left == 1), *seen,
                self.settled(False), self.settled(True),
                *(self.count(names) if self.configuration.guarded else "-"
                  for names in (DESTROYED, HOLDS)), self.resets)

    def explain(self, suffix):
        """Comment lines about what is wrong; traces go to files."""
        wrong = [(line, one) for line, one in enumerate(self.outcomes) if one.wrong]
        yield from self.wrong
        kinds = collections.Counter(one.kind() for _line, one in wrong)
        yield from (f"{count} rounds: {text}" for text, count in kinds.most_common())
        traced = collections.Counter()
        for line, one in wrong:
            traced[one.kind()] += 1
            if traced[one.kind()] > TRACES_MAX:
                continue
            name = f"{self.site.slug}{suffix.replace(', ', '-').replace(' ', '-')}-" \
                   f"{one.plan.number}"
            path = os.path.join(harness.BUILD, "crossing", name)
            text = self.site.trace(one, line, self.begins)
            with open(path, "w", encoding="utf-8") as file:
                file.write("\n".join(text) + "\n")
            yield f"{path}: {text[1]}"
        if wrong:
            yield f"counted: {dict(self.counted)}"
            yield f"again: tests/crossing/crossing.py --rounds {self.site.options.rounds} " \
                  f"--seed {self.site.options.seed}"


class Report:
    """TAP, as results come from several threads."""

    def __init__(self):
        self.lock = threading.Lock()
        self.number = 0
        self.failed = 0
        self.rows = {}
        self.results = []

    def say(self, passed, name, comments=()):
        with self.lock:
            self.number += 1
            self.failed += not passed
            print(f"{'' if passed else 'not '}ok {self.number} - {name}")
            for comment in comments:
                print(f"# {comment}")
            sys.stdout.flush()

    def doubled(self):
        """Of the guards that break ties: what their applications saw of second links."""
        times = [one.doubled[side] for result in self.results for one in result.outcomes
                 for side in result.configuration.guarded
                 if result.configuration.service == "keep-all" and one.together[side] > 1]
        if times:
            yield (f"a guarded application saw two links in {len(times)} rounds that lost a SYN-ACK, "
                   f"for {max(times) / 1e6:.0f} ms at most")

    def table(self):
        rows = [COLUMNS] + [tuple(map(str, self.rows[key])) for key in sorted(self.rows)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
        return ["  ".join(cell.ljust(width) if not column else cell.rjust(width)
                          for column, (cell, width) in enumerate(zip(row, widths))).rstrip()
                for row in rows]


def run_site(site, place, report):
    """All of one configuration."""
    left = list(COOKIES)
    try:
        site.set_up()
        while left:
            cookies, suffix = left[0]
            result = site.run(len(COOKIES) - len(left), cookies)
            report.rows[place, cookies] = result.row(suffix)
            report.results.append(result)
            comments = list(result.explain(suffix))
            left.pop(0)
            report.say(not comments, f"{site.configuration.name}{suffix}: "
                       f"{len(result.outcomes)} rounds", comments)
    except Exception:
        comments = traceback.format_exc().splitlines()
        for guard in site.guards.values():
            comments += [f"-- log of {guard.name} --"] + guard.log(15).splitlines()
        for _cookies, suffix in left:
            report.say(False, site.configuration.name + suffix, comments)
            comments = ()


def interrupt(number, _frame):
    raise KeyboardInterrupt(f"signal {number}")


def read_options():
    parser = argparse.ArgumentParser(description="rounds of dials that cross")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("CROSSING_ROUNDS") or 500))
    parser.add_argument("--seed", type=int, default=int(os.environ.get("CROSSING_SEED")
                                                        or time.time() * 1000 % 1e9))
    parser.add_argument("--rate", type=int, default=300)
    parser.add_argument("-k", action="append", metavar="PATTERN", default=[])
    options = parser.parse_args()
    if not 2 <= options.rounds <= 60000:
        parser.error(f"{options.rounds} rounds, expected 2 to 60000: each has an address of its own")
    return options


def main():
    options = read_options()
    chosen = [(place, one) for place, one in enumerate(CONFIGURATIONS)
              if not options.k or any(re.search(pattern, one.name) for pattern in options.k)]
    options.sites = len(chosen)
    if os.geteuid() != 0:
        print("1..0 # SKIP making network namespaces needs root")
        return 0
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, interrupt)
    print(f"1..{len(chosen) * len(COOKIES)}", flush=True)
    traces = os.path.join(harness.BUILD, "crossing")
    shutil.rmtree(traces, ignore_errors=True)
    os.makedirs(traces)
    lab = harness.Lab()
    report = Report()
    sites = []
    began = time.monotonic()
    try:
        lab.set_up_bare()
        for place, configuration in chosen:
            sites.append(Site(lab, place, configuration, options))
        threads = [threading.Thread(target=run_site, args=(site, place, report), daemon=True)
                   for site, (place, _configuration) in zip(sites, chosen)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines = report.table()
        lines.append("ms to settle: median / 99 % / most")
        lines += report.doubled()
        for what, times in (
                ("a packet was handed on", [one for result in report.results
                                            for one in result.packets_late]),
                ("a dial was made", [one for result in report.results
                                     for one in result.dials_late])):
            lines.append(f"{what} later than planned: {judge.times_text(times, 1)} ms "
                         "(median / 99 % / most)")
        lines.append(f"seed {options.seed}, {time.monotonic() - began:.0f} s")
        with open(os.path.join(harness.BUILD, "crossing.txt"), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        for line in lines:
            print(f"# {line}")
    except KeyboardInterrupt as reason:
        print(f"Bail out! {reason}", flush=True)
        report.failed += 1
    finally:
        for site in sites:
            with contextlib.suppress(OSError):
                site.tear_down()
        lab.tear_down()
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
