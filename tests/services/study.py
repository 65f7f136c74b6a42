# SPDX-License-Identifier: BSD-2-Clause
"""What becomes of a real service: unguarded, with one end guarded and with both, in one run.

A study has three lanes (lanes.py) of one service and takes them, together, through

    cold start     both ends start at one moment
    reboot         far crashes without a word and is back soon: nobody has noticed yet
    long reboot    the same, but it is away until near has given up its session and has dialed
    cut            the wire is cut until both ends have given up, then mended

and, with lanes of its own, through

    crossing       a cold start whose first SYNs all cross: the wire holds them back until both
                   ends have dialed

For each pair of instances it records when its session is established at both ends (asked of the
service itself) and which links came up (seen on the wire). Each step begins when all sessions are
up and older than min_uptime, and with no failure counted (`connguard kick --all`), as if the last
trouble were long ago.
"""

import configparser
import copy
import os
import statistics
import time

from harness import SECOND, TIME_SCALE, TOP, now_ns, wait_for, wait_past
from lanes import PAIRS, Gate, Variant

UNGUARDED, ONE, BOTH = "unguarded", "one end guarded", "both ends guarded"
GUARDED = (ONE, BOTH)
# The policy of a guard that nobody configured (rules.h, POLICY_DEFAULTS).
MIN_UPTIME_S = 10
BACKOFF_INITIAL_S = 10
# No host boots in less. Sooner than `suspect_after` a guard would not yet doubt the old links.
REBOOT_S = 3
# Long trouble lasts at least so long, and until the sessions are given up, which takes no longer than that.
LONG_S = 28
GIVEN_UP_S = 60
# Sessions must be up again by then; what takes longer is recorded as never.
RECOVERED_S = 60
# How long the lanes are watched after the last session is up: a second link would come in this time.
WATCHED_S = 3
NUMBERS = range(1, PAIRS + 1)
NEVER = float("inf")


def example(name):
    """The settings of scripts/examples/NAME, as operators get them, but for the cgroup."""
    parser = configparser.ConfigParser(interpolation=None)
    with open(os.path.join(TOP, "scripts", "examples", name), encoding="utf-8") as file:
        parser.read_file(file)
    assert parser.sections() == ["guard"], parser.sections()
    settings = dict(parser["guard"])
    del settings["cgroup"]
    return settings


class Outcome:
    """What one step did to one lane."""

    def __init__(self, lane, began, since):
        self.lane = lane
        self.began = began      # when the step, or its trouble, began
        self.since = since      # the moment from which on time counts
        self.seconds = {}       # pair: until its session was established at both ends
        self.links = {}         # pair: the links that came up, as the witness saw them
        self.told = {}          # pair: what the guards told of it
        self.habits = []        # what `connguard status` proposed at the end, for each guard

    def finish(self):
        """The watch is over. What happens later changes nothing in here."""
        for number in NUMBERS:
            self.links[number] = [copy.copy(link) for link in self.lane.links(number, self.since)]
            self.told[number] = self.lane.told(number, self.began)
        self.habits = [guard.status()["habit"] for guard in self.lane.guards.values()]

    def touched(self, number):
        """Has a guard refused or held anything of this pair on its way to its session?"""
        up = self.since + self.seconds.get(number, NEVER) * SECOND
        return any(moment < up and verdict in ("refuse", "hold")
                   for moment, _host, verdict, _cause in self.told[number])

    def times(self, numbers=NUMBERS):
        return [self.seconds.get(number, NEVER) for number in numbers]

    def median(self, numbers=NUMBERS):
        return statistics.median(self.times(numbers))

    def worst(self, numbers=NUMBERS):
        return max(self.times(numbers))

    def short_lived(self):
        """Links that did not stay."""
        return [link for links in self.links.values() for link in links if link.ended is not None]

    def standing(self, number):
        return [link for link in self.links[number] if link.ended is None]

    def story(self, number):
        """What became of a pair."""
        told = ", ".join(f"{(moment - self.since) / 1e6:.0f} ms {host} {verdict} {cause}"
                         for moment, host, verdict, cause in self.told[number][:60])
        return (f"{self.lane}, pair {number}: up after {self.seconds.get(number, NEVER):.2f} s; "
                f"{self.links[number]}; told: {told}")

    def explain(self):
        """The stories of the pairs that have not just the links that the service wants."""
        return "\n".join(self.story(number) for number in NUMBERS
                         if len(self.links[number]) != self.lane.service.links
                         or self.standing(number) != self.links[number]
                         or number not in self.seconds)


class Study:
    """One service through all steps. Each is taken once, when its outcome is first asked for."""

    def __init__(self, lab, service, crossing_options=()):
        """The guards have the service's example configuration. `crossing_options`: others, by name,
        that are tried with crossing dials only."""
        self.lab = lab
        self.service = service
        self.lanes = []
        self.options = example(service.example)
        self.crossing_options = dict(crossing_options)
        self.outcomes = {}
        self.failure = None

    def step(self, name):
        """The outcomes of a step, by variant."""
        if name not in self.outcomes:
            # What follows a step that broke down would say nothing.
            assert not self.failure, f"an earlier step broke down: {self.failure}"
            try:
                self.outcomes[name] = getattr(self, name.replace(" ", "_"))()
            except Exception as error:
                self.failure = f"{name}: {error}"
                raise
        return self.outcomes[name]

    @staticmethod
    def variants(options, suffix=""):
        return [Variant(ONE + suffix, near=True, options=options),
                Variant(BOTH + suffix, near=True, far=True, options=options)]

    # -- the steps --

    def cold_start(self):
        self.lanes = [self.lab.lane(self.service, variant)
                      for variant in [Variant(UNGUARDED), *self.variants(self.options)]]
        return self.start(self.lanes)

    def crossing(self):
        variants = [Variant(UNGUARDED), *self.variants(self.options)]
        for name, options in self.crossing_options.items():
            variants += self.variants(dict(self.options, **options), f", {name}")
        lanes = [self.lab.lane(self.service, variant) for variant in variants]
        outcomes = self.start(lanes, stalled=True)
        for lane in lanes:
            lane.end()
        return outcomes

    def reboot(self):
        self.step("cold start")
        self.settle()
        began = now_ns()
        for lane in self.lanes:
            lane.crash_far()
        wait_past(began + REBOOT_S * SECOND)
        return self.boot(began)

    def long_reboot(self):
        self.step("reboot")
        self.settle()
        began = now_ns()
        for lane in self.lanes:
            lane.crash_far()
        self.wait_given_up([lane.near for lane in self.lanes])
        wait_past(began + LONG_S * SECOND)
        return self.boot(began)

    def cut(self):
        self.step("long reboot")
        self.settle()
        began = now_ns()
        for lane in self.lanes:
            lane.cut()
        self.wait_given_up([host for lane in self.lanes for host in lane.hosts])
        wait_past(began + LONG_S * SECOND)
        since = now_ns()
        for lane in self.lanes:
            lane.mend()
        return self.watch(self.lanes, began, since)

    # -- parts of them --

    def start(self, lanes, stalled=False):
        gate = Gate()
        for lane in lanes:
            for host in lane.hosts:
                lane.launch(host, gate)
            if stalled:
                lane.stall()
        since = now_ns()
        gate.open()
        if stalled:
            try:
                self.wait_dialing(lanes)
            finally:
                for lane in lanes:
                    lane.go_on()
        return self.watch(lanes, since, since)

    def wait_dialing(self, lanes):
        """Until both ends of every pair have sent a SYN."""
        def missing():
            return [f"{host.namespace}: {len(lane.dialing(host))}"
                    for lane in lanes for host in lane.hosts if len(lane.dialing(host)) < PAIRS]
        wait_for(lambda: not missing(), lambda: f"every instance dials; those who do: {missing()}",
                 10)

    def boot(self, began):
        gate = Gate()
        for lane in self.lanes:
            lane.boot_far(gate)
        since = now_ns()
        for lane in self.lanes:
            lane.mend()
        gate.open()
        return self.watch(self.lanes, began, since)

    def wait_given_up(self, hosts):
        """Until no instance of these hosts takes its session for established."""
        def holding():
            return [(host.namespace, number) for lane in self.lanes for host in lane.hosts
                    if host in hosts for number in NUMBERS if lane.linked(host, number, 0)]
        wait_for(lambda: not holding(), lambda: f"all sessions are given up; not {holding()}",
                 GIVEN_UP_S)

    def settle(self):
        """Until all sessions are up, their links are no young ones, and no failure counts."""
        def missing():
            return [f"{lane}, pair {number}" for lane in self.lanes for number in NUMBERS
                    for host in lane.hosts if not lane.linked(host, number, 0)]
        wait_for(lambda: not missing(), lambda: f"all sessions are up; not {missing()}", RECOVERED_S)
        youngest = max(link.established for lane in self.lanes for link in lane.tap.links()
                       if link.ended is None)
        wait_past(youngest + (MIN_UPTIME_S + 1) * SECOND)
        for lane in self.lanes:
            for guard in lane.guards.values():
                guard.tell("kick", "--all")

    def watch(self, lanes, began, since):
        """Until all sessions are up, and a little longer."""
        outcomes = {lane.variant.name: Outcome(lane, began, since) for lane in lanes}
        missing = [(outcome, number) for outcome in outcomes.values() for number in NUMBERS]
        while missing and now_ns() < since + RECOVERED_S * TIME_SCALE * SECOND:
            for outcome, number in list(missing):
                lane = outcome.lane
                # far first: the one that was away knows nothing of an old session.
                if all(lane.linked(host, number, since) for host in (lane.far, lane.near)):
                    outcome.seconds[number] = (now_ns() - since) / SECOND
                    missing.remove((outcome, number))
            time.sleep(0.01)
        wait_past(now_ns() + WATCHED_S * SECOND)
        for outcome in outcomes.values():
            outcome.finish()
        return outcomes

    def end(self):
        """Its services run no longer; what was measured stays."""
        for lane in self.lanes:
            lane.end()

    # -- telling --

    def table(self):
        """All steps taken so far, a line each and one for what the service did."""
        heads = [UNGUARDED, *GUARDED]
        lines = [f"{self.service.name:<42}" + "".join(f"{head:<20}" for head in heads).rstrip()]
        for name, outcomes in self.outcomes.items():
            rows = [(f"{name}, s", lambda outcome, numbers: seconds_text(outcome, numbers),
                     self.service.kinds()),
                    ("  links of a pair (short-lived in all)",
                     lambda outcome, _numbers: links_text(outcome), {"": NUMBERS})]
            for title, text, kinds in rows:
                for kind, numbers in kinds.items():
                    cells = "".join(f"{text(outcomes[head], numbers):<20}" for head in heads)
                    lines.append(f"{title + (', ' + kind if kind else ''):<42}{cells}".rstrip())
            for variant, outcome in outcomes.items():
                if variant not in heads:
                    lines.append(f"  {variant}: {seconds_text(outcome, NUMBERS)} s, "
                                 f"links {links_text(outcome)}")
        return "\n".join(lines)


def seconds_text(outcome, numbers):
    """The median and the worst."""
    return f"{outcome.median(numbers):.2f} ({outcome.worst(numbers):.2f})"


def links_text(outcome):
    counts = sorted(len(links) for links in outcome.links.values())
    text = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    return f"{text} ({len(outcome.short_lived())})"
