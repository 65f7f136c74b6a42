# SPDX-License-Identifier: BSD-2-Clause
"""What came of each round: the records of both ends, matched connection by connection.

Owns the reading of the C programs' records (crosser.c, distance.c) and the verdict on a round. It
sees what the applications saw and what was on the wire, and asks no guard. Times in ns of
CLOCK_BOOTTIME.
"""

import collections
import re
import struct

from rounds import FAR, HOME, SIDES

RECORD = struct.Struct("=qqqIIIHHBBHI")
FLAGS = ((2, "SYN"), (16, "ACK"), (1, "FIN"), (4, "RST"), (8, "PSH"))
RST = 4

# A connection as one application saw it; see crosser.c.
Seen = collections.namedtuple("Seen", "number dialer port asked opened closed beside end")
# A TCP segment between the ends; see distance.c.
Segment = collections.namedtuple(
    "Segment", "taken due sent number sequence acknowledgment source_port destination_port flags to "
    "length reserved")


def read_seen(path, side):
    """By round: the connections that the application of this side saw."""
    other = FAR if side == HOME else HOME
    found = collections.defaultdict(list)
    with open(path, encoding="ascii") as file:
        for line in file:
            number, direction, *numbers, end = line.split()
            one = Seen(int(number), side if direction == "out" else other, *map(int, numbers), end)
            found[one.number].append(one)
    return found


def segments(path):
    with open(path, "rb") as file:
        while block := file.read(RECORD.size * 4096):
            for fields in RECORD.iter_unpack(block):
                yield Segment(*fields)


def segment_text(one):
    flags = " ".join(name for bit, name in FLAGS if one.flags & bit)
    side = (HOME, FAR)[one.to]
    return (f"{flags} {one.source_port}>{one.destination_port} seq {one.sequence} "
            f"ack {one.acknowledgment}, "
            + (f"at {side} {(one.sent - one.due) / 1e6:.3f} ms late" if one.sent else "LOST"))


class Outcome:
    """The verdict on one round. `wrong`: what must not be, in words; empty: as it should be."""

    def __init__(self, plan, begins, seen):
        self.plan = plan
        self.seen = seen    # by side: list of Seen
        self.wrong = []
        self.over = begins + plan.ends * 1000
        links = {side: self.links(side) for side in SIDES}
        # How many connections came up at this application, and how many it had at one time.
        self.count = {side: len(links[side]) for side in SIDES}
        self.together = {side: max((one.beside + 1 for one in links[side]), default=0)
                         for side in SIDES}
        self.doubled = {side: self.time_doubled(links[side]) for side in SIDES}
        left = {side: [(one.dialer, one.port) for one in links[side] if one.closed >= self.over]
                for side in SIDES}
        self.left = len(left[HOME]) if sorted(left[HOME]) == sorted(left[FAR]) else -1
        self.asked = sorted(one.asked for side in SIDES for one in seen[side] if one.asked)
        self.settled, self.first = self.times(links)
        self.winner = left[HOME][0][0] if self.left == 1 else None

    def links(self, side):
        """What came up while the round lasted."""
        return [one for one in self.seen[side] if one.opened and one.opened < self.over]

    @staticmethod
    def time_doubled(links):
        """For how long this application had more than one connection, in ns."""
        changes = sorted([(one.opened, 1) for one in links]
                         + [(one.closed, -1) for one in links])
        total = count = 0
        for (moment, change), (following, _change) in zip(changes, changes[1:]):
            count += change
            total += (following - moment) * (count > 1)
        return total

    def ended_by_nobody(self):
        """Connections that were up at both ends and were closed by neither service."""
        ends = {side: {(one.dialer, one.port): one for one in self.links(side)} for side in SIDES}
        return [name for name in ends[HOME].keys() & ends[FAR].keys()
                if all(ends[side][name].closed < self.over and ends[side][name].end != "rule"
                       for side in SIDES)]

    def crosses(self):
        """Each end dialed before the other one's SYN could be there."""
        asked = {side: [one.asked for one in self.seen[side] if one.asked] for side in SIDES}
        if not asked[HOME] or not asked[FAR]:
            return False
        home, far = min(asked[HOME]), min(asked[FAR])
        return (far < home + self.plan.delay[FAR] * 1000
                and home < far + self.plan.delay[HOME] * 1000)

    def times(self, links):
        """(settled, first), in ns; None: never.

        Settled: how long after the dials the last link came or went. Counted from the first dial;
        where that was over before, from the last dial before the change (it began something new,
        which the first one had nothing to do with). First: how long after the first dial both ends
        had a link.
        """
        changes = [moment for side in SIDES for one in links[side]
                   for moment in (one.opened, one.closed) if moment < self.over]
        if not changes or not self.asked:
            return None, None
        change = max(changes)
        since = self.asked[0]
        if self.asked[-1] - since > self.plan.round_trip * 1000:
            since = max((at for at in self.asked if at < change), default=since)
        both = [max(one.opened for side in SIDES for one in links[side]
                    if (one.dialer, one.port) == name)
                for name in {(one.dialer, one.port) for one in links[HOME]}
                & {(one.dialer, one.port) for one in links[FAR]}]
        return change - since, min(both) - self.asked[0] if both else None

    def kind(self):
        """What is wrong, in words that rounds of one kind share."""
        return "; ".join(re.sub(r"[\d.]+ s\b", "... s", text) for text in self.wrong) + \
            f" ({', '.join(self.plan.eaten) or 'nothing'} lost" + \
            (", jitter)" if self.plan.jitter else ")")

    def demand(self, condition, text):
        if not condition:
            self.wrong.append(text)


def times_text(times, digits=0):
    """Median, 99 % and maximum of times in ns, in ms."""
    if not times:
        return "-"
    times = sorted(times)
    return " / ".join(f"{times[min(len(times) - 1, int(len(times) * part))] / 1e6:.{digits}f}"
                      for part in (0.5, 0.99, 1))
