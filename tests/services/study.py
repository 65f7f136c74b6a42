# SPDX-License-Identifier: BSD-2-Clause
"""What becomes of an application: unguarded, with one end guarded and with both, in one run.

A study has three lanes (lanes.py) of one application and takes them, together, through the phases of
that application (phases.py). In each phase it records for each pair when its session is up at both ends
(by the application's own word), and for how long it stays so; which links came up (seen on the wire); and
which lived on (to the kernels of both ends). The guards are as nobody configured them, and are not
touched: what they have learned in a phase they take into the next.
"""

import copy
import itertools
import math
import os
import statistics
import time

import truth
from harness import SECOND, TIME_SCALE, now_ns, wait_for, wait_past
from lanes import Gate, Variant
from phases import ENDS, VARIANTS

# What takes longer is recorded as never.
RECOVERED_S = float(os.environ.get("CONNGUARD_RECOVERED", "90"))
# A session that has been up for so long stays: a second link would come in this time, and end it.
WATCHED_S = 3.0
BETWEEN_PHASES_S = 2.0
NEVER = math.inf


class Outcome:
    """What one phase did to one lane."""

    def __init__(self, lane, since):
        self.lane = lane
        self.since = since   # the moment from which on time counts
        self.seconds = {}    # pair: until its session was up at both ends, to stay
        self.links = {}      # pair: the links that came up, as the witness saw them
        self.told = {}       # pair: what the guards told of it
        self.habits = []     # what `connguard status` proposed at the end, for each guard
        self.before = {}     # the links when the trouble began (lanes.py), and which of them lived on
        self.kept = {}

    def finish(self):
        """The watch is over. What happens later changes nothing in here."""
        for number in self.lane.application.numbers:
            self.links[number] = [copy.copy(link) for link in self.lane.links(number, self.since)]
            self.told[number] = self.lane.told(number, self.since)
        self.habits = [guard.status()["habit"] for guard in self.lane.guards.values()]
        if self.before:
            after = self.lane.established()
            self.kept = {link: sockets for link, sockets in self.before.items()
                         if after.get(link) == sockets}

    def times(self, numbers):
        return [self.seconds.get(number, NEVER) for number in numbers]

    def median(self, numbers):
        return statistics.median(self.times(numbers))

    def worst(self, numbers):
        return max(self.times(numbers))

    def short_lived(self):
        """Links that did not stay."""
        return [link for links in self.links.values() for link in links if link.ended is not None]

    def story(self, number):
        """What became of a pair."""
        told = []
        for what, events in itertools.groupby(self.told[number], lambda event: event[1:]):
            events = list(events)
            told.append(f"{(events[0][0] - self.since) / 1e6:.0f} ms {' '.join(what)}"
                        + (f" (times {len(events)})" if len(events) > 1 else ""))
        told = ", ".join(told[:40])
        links = ", ".join(f"{(link.established - self.since) / 1e6:.0f} ms {link}"
                          for link in self.links[number][:20])
        up = f"up after {self.seconds[number]:.2f} s" if number in self.seconds else "not up"
        return f"pair {number}: {up}; links: {links or 'none'}; told: {told or 'nothing'}"


class Study:
    """One application through its phases."""

    def __init__(self, lab, application, control=False, settings=None):
        """`control`: no lane has a guard. What differs then is chance. `settings`: of the guards, in place of defaults."""
        self.lab = lab
        self.application = application
        self.control = control
        self.settings = settings or {}
        self.lanes = self.make_lanes(VARIANTS)

    def make_lanes(self, variants, options=None):
        return [self.lab.lane(self.application, Variant(name, () if self.control else ENDS[name],
                                                        {**self.settings, **(options or {})}))
                for name in variants]

    def take(self, phase):
        """The outcomes of a phase, by variant."""
        wait_past(now_ns() + round(BETWEEN_PHASES_S * SECOND))
        if phase.options is None:
            outcomes = getattr(self, phase.method)(*phase.arguments)
        else:
            outcomes = self.apart(phase)
        return {outcome.lane.variant.name: outcome for outcome in outcomes}

    def apart(self, phase):
        """A phase in lanes of its own."""
        usual, self.lanes = self.lanes, []
        try:
            self.lanes = self.make_lanes(phase.variants, phase.options)
            return getattr(self, phase.method)(*phase.arguments)
        finally:
            for lane in self.lanes:
                lane.end()
            self.lanes = usual

    # -- the phases --

    def cold_start(self):
        return self.start_all(after=self.application.after)

    def crossing(self):
        """Both ends of each pair dial before either has heard of the other."""
        if any(lane.processes for lane in self.lanes):
            for lane in self.lanes:
                for host in lane.hosts:
                    lane.signal(host, self.application.signal_to_end)
            for lane in self.lanes:
                for host in lane.hosts:
                    lane.wait_ended(host)
            wait_past(now_ns() + 3 * SECOND)
        return self.start_all(stalled=self.application.stall_s)

    def start_all(self, stalled=0, after=None):
        gate = Gate()
        launched = [(lane, host, lane.launch(host, gate, after)) for lane in self.lanes for host in lane.hosts]
        self.wait_ready(launched)
        if stalled:
            for lane in self.lanes:
                lane.wire.stall()
        since = self.begin(gate, launched)
        if stalled:
            wait_past(since + round(stalled * SECOND))
            for lane in self.lanes:
                lane.wire.go_on()
        return self.watch(since)

    def restarts(self, role, times, pause, renewed=False):
        """Clean restarts; time counts from the last. `renewed`: its cgroup comes and goes with it."""
        for time_left in reversed(range(times)):
            began = now_ns()
            since = self.restart(role, renewed)
            if time_left:
                wait_past(began + round(pause * SECOND))
        return self.watch(since)

    def down(self, seconds):
        """far ends and is back later."""
        self.stop("far")
        wait_past(now_ns() + seconds * SECOND)
        return self.watch(self.start("far"))

    def cut(self, seconds):
        before = {lane: lane.established() for lane in self.lanes}
        began = now_ns()
        for lane in self.lanes:
            lane.wire.cut(lane.far)
        wait_past(began + seconds * SECOND)
        since = now_ns()
        for lane in self.lanes:
            lane.wire.mend(lane.far)
        return self.watch(since, self.application.stale_s, before)

    def crash(self, seconds):
        began = now_ns()
        for lane in self.lanes:
            lane.crash(lane.far)
        wait_past(began + seconds * SECOND)
        # It boots: first its guard, then the network and the application.
        for lane in self.lanes:
            lane.guard(lane.far)
        return self.watch(self.start("far", mend=True))

    def command(self, times, pause):
        """What an administrator does at near, again and again; the application knows what."""
        for time_left in reversed(range(times)):
            since = now_ns()
            for lane in self.lanes:
                self.application.do(lane)
            if time_left:
                wait_past(since + round(pause * SECOND))
        return self.watch(since)

    def kill_leader(self):
        """SIGKILL for the one that leads, in each lane whoever it is. Its host lives on."""
        # Where nobody leads, for want of links, it makes no difference who is killed.
        leaders = [(lane, self.application.leader(lane) or lane.far) for lane in self.lanes]
        since = now_ns()
        for lane, leader in leaders:
            lane.kill(leader)
        return self.watch(since)

    def bring_back(self):
        """Who does not run begins."""
        gate = Gate()
        launched = [(lane, host, lane.launch(host, gate)) for lane in self.lanes for host in lane.hosts
                    if not self.runs(lane, host)]
        self.wait_ready(launched)
        return self.watch(self.begin(gate, launched))

    # -- parts of them --

    def hosts(self, role):
        return [(lane, host) for lane in self.lanes for host in lane.hosts if host.role == role]

    def stop(self, role):
        for lane, host in self.hosts(role):
            lane.signal(host, self.application.signal_to_end)
        for lane, host in self.hosts(role):
            lane.wait_ended(host)

    def start(self, role, mend=False):
        gate = Gate()
        launched = [(lane, host, lane.launch(host, gate)) for lane, host in self.hosts(role)]
        self.wait_ready(launched)
        return self.begin(gate, launched, mend)

    def wait_ready(self, launched):
        wait_for(lambda: all(lane.ready(host, units) for lane, host, units in launched),
                 f"all units of {self.application} wait at the gate", 60)

    @staticmethod
    def begin(gate, launched, mend=False):
        for lane, host, units in launched:
            lane.adopt(units)
            if mend:
                lane.wire.mend(host)
        since = now_ns()
        gate.open()
        return since

    def restart(self, role, renewed):
        """The new units are there before the old ones end, so that a busy machine does not part them."""
        gate = Gate()
        launched = [(lane, host, lane.launch(host, gate)) for lane, host in self.hosts(role)]
        self.wait_ready(launched)
        self.stop(role)
        for lane, host, _units in launched:
            if renewed:
                lane.renew_cgroup(host)
        return self.begin(gate, launched)

    def watch(self, since, calm=WATCHED_S, before=None):
        """Until all sessions have been up for a while."""
        outcomes = [Outcome(lane, since) for lane in self.lanes]
        pairs = {(outcome, number) for outcome in outcomes for number in self.application.numbers}
        up = {}
        pause = self.application.poll_s
        ended = since + round(RECOVERED_S * TIME_SCALE * SECOND)
        while True:
            now = now_ns()
            first = not up and now < since + pause * SECOND
            for outcome in outcomes:
                numbers = self.up(outcome.lane, since)
                for number in self.application.numbers:
                    if number not in numbers:
                        up.pop((outcome, number), None)
                    else:
                        up.setdefault((outcome, number), since if first else now)
            now = now_ns()
            if len(up) == len(pairs) and now > max(up.values()) + calm * SECOND:
                break
            if now > ended and not any(now < moment + calm * SECOND for moment in up.values()):
                break
            time.sleep(pause)
        for outcome, number in up:
            outcome.seconds[number] = (up[outcome, number] - since) / SECOND
        for outcome in outcomes:
            outcome.before = before[outcome.lane] if before else {}
            outcome.finish()
        return outcomes

    def up(self, lane, since):
        """Numbers of the pairs that are up at all ends. far first: one that was away knows nothing of an
        old session."""
        numbers = set(self.application.numbers)
        for host in reversed(lane.hosts):
            if numbers and self.runs(lane, host):
                numbers &= self.application.up(lane, host, since)
        return numbers

    @staticmethod
    def runs(lane, host):
        return any(name == host.name for name, _unit in lane.processes)

    # -- the end --

    def books(self, lane):
        """At the end: what is wrong with the guards of a lane, in words. None: nothing."""
        for tap in lane.taps:
            dropped = tap.dropped()
            if dropped:
                return f"the witness missed {dropped} frames"
        for guard in lane.guards.values():
            try:
                truth.settle(guard)
            except AssertionError as error:
                return str(error)
            status = guard.status()
            if not status["healthy"] or status["events_lost"]:
                return f"{guard.name} is not whole: {status}"
            for cause in ("link_released", "link_unheld", "dial_unheld"):
                if cause in status["counters"]["enforced"]:
                    return f"{guard.name} had to repair: {status['counters']['enforced']}"
        return None
