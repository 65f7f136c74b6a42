# SPDX-License-Identifier: BSD-2-Clause
"""The rounds of a run, drawn at random: who dials when, how far apart the ends are, what is lost.

Owns the choice, and the writing of the plan that the C programs read (plan.h has the format). Knows
nothing of guards. Times in microseconds since the beginning of the run.
"""

import ipaddress
import random

HOME, FAR = "home", "far"
SIDES = (HOME, FAR)
# One way, in each direction by itself: round trips from 0 to 80 ms.
DELAY_MAX = 40_000
JITTER_MAX = 5_000
# Dials that are "at the same moment as a packet arrives" are this near to it.
NEAR = 300
SKEW_MAX = 2_500_000
# A round is judged this long after its last dial: what was retransmitted after 1 and after 3 s has
# had its effect (RFC 6298, section 5.7; Linux retransmits a SYN after 1, 2, 3 ... s), on a busy machine, too.
JUDGED_AFTER = 8_000_000
STACKED_MAX = 4


class Round:
    """One pair of addresses and what happens between them."""

    def __init__(self, number, home, far):
        self.number = number
        self.address = {HOME: home, FAR: far}
        self.delay = {HOME: 0, FAR: 0}   # towards this side
        self.jitter = 0
        self.eaten = ()
        self.kind = ""                   # how the dials lie to each other, in a word
        self.dials = {HOME: [], FAR: []}
        self.ends = 0

    @property
    def greater(self):
        """The side with the greater address."""
        home, far = (ipaddress.ip_address(self.address[side]) for side in SIDES)
        return HOME if home > far else FAR

    @property
    def round_trip(self):
        return sum(self.delay.values())

    @property
    def answer_eaten(self):
        """A SYN-ACK is lost."""
        return any(one.endswith("-answer") for one in self.eaten)

    def line(self):
        dials = [",".join(map(str, self.dials[side])) or "-" for side in SIDES]
        return " ".join(map(str, (
            self.address[HOME], self.address[FAR], self.ends, self.delay[HOME], self.delay[FAR],
            self.jitter, ",".join(self.eaten) or "-", *dials)))

    def text(self):
        """For a person who reads a trace."""
        dials = ", ".join(f"{side} dials at {'+'.join(f'{at / 1000:.3f}' for at in self.dials[side])}"
                          for side in SIDES if self.dials[side])
        return (f"round {self.number} ({self.kind}): {self.address[HOME]} at home, "
                f"{self.address[FAR]} far; {self.delay[FAR] / 1000:.3f} ms to far, "
                f"{self.delay[HOME] / 1000:.3f} ms to home, jitter {self.jitter / 1000:.3f} ms, "
                f"lost: {', '.join(self.eaten) or 'nothing'}; {dials} ms")


def draw_skew(dice, delay):
    """By how much far dials later than home, and a word for it."""
    round_trip = sum(delay.values())
    near = dice.randint(-NEAR, NEAR)
    # The moments at which what the one side sent arrives at the other.
    kind = dice.choices(
        ("together", "within a round trip", "as the SYN arrives", "as the answer arrives",
         "seconds apart"), (15, 45, 20, 10, 10))[0]
    if kind == "together":
        return 0, kind
    if kind == "within a round trip":
        return dice.randint(-round_trip, round_trip), kind
    if kind == "as the SYN arrives":
        return dice.choice((delay[FAR] + near, -delay[HOME] + near)), kind
    if kind == "as the answer arrives":
        return dice.choice((round_trip + near, -round_trip + near)), kind
    return dice.choice((-1, 1)) * dice.randint(100_000, SKEW_MAX), kind


def draw_eaten(dice):
    """Mostly nothing; the first SYN of one side or of both, the first SYN-ACK of one."""
    return dice.choices(
        ((), ("home-syn",), ("far-syn",), ("home-syn", "far-syn"), ("home-answer",),
         ("far-answer",)), (86, 4, 4, 2, 2, 2))[0]


def draw(seed, number, addresses, window, stacked, judged_after):
    """A round whose dials are within the window. `stacked`: far dials several times at once."""
    dice = random.Random(f"{seed}/{number}")
    one = Round(number, *addresses)
    one.delay = {side: dice.randint(0, DELAY_MAX) for side in SIDES}
    if dice.random() < 0.15:
        one.jitter = dice.randint(0, JITTER_MAX)
    one.eaten = draw_eaten(dice)
    skew, one.kind = draw_skew(dice, one.delay)
    offsets = {HOME: [max(0, -skew)], FAR: [max(0, skew)]}
    if stacked:
        # In one half of the rounds home does not dial, so that nothing but their SYNs cross.
        if dice.random() < 0.5:
            offsets = {HOME: [], FAR: [0]}
        first = offsets[FAR][0]
        offsets[FAR] += [first + dice.randint(0, one.round_trip)
                         for _ in range(dice.randint(1, STACKED_MAX - 1))]
        offsets[FAR].sort()
    last = max(max(some, default=0) for some in offsets.values())
    begins = dice.randint(0, max(0, window - last))
    one.dials = {side: [begins + offset for offset in offsets[side]] for side in SIDES}
    one.ends = begins + last + judged_after
    return one


def write(rounds, path):
    with open(path, "w", encoding="ascii") as file:
        file.writelines(one.line() + "\n" for one in rounds)
