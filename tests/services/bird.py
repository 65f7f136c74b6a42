# SPDX-License-Identifier: BSD-2-Clause
"""BIRD: BGP with both ends active."""

import re

import phases
from application import Application, find_program

GENERAL = """\
log "{log}" all;
router id 10.90.{side}.1;
debug protocols {{ states, events }};
protocol device {{ }}
"""
# The defaults are hours to a test: connect delay 5, connect retry 120, hold 240, keepalive 80,
# error wait 60 to 300 seconds. All else is as the distribution has it. A cut of 6 seconds, a
# keepalive before it and what TCP needs afterwards are shorter than the hold time together, a cut of 20 is longer.
NEIGHBOUR = """\
protocol bgp peer{number} {{
    local {here} as {as_here};
    neighbor {there} as {as_there};
    strict bind yes;
    connect delay time 1;
    connect retry time 5;
    hold time 15;
    keepalive time 3;
    error wait time 2, 8;
    graceful restart {restart};
    ipv4 {{ import all; export all; }};
}}
"""


class Bird(Application):
    """One BIRD for each host; the pairs with even numbers speak IPv6."""

    name = "BIRD"
    ports = (179,)
    poll_s = 0.05
    stall_s = 1.2
    stale_s = 12.0
    # It draws its connect delay between 0.75 and 1 s anew for each attempt.
    spread_s = 0.25
    spread_after_cut_s = 2.0
    phases = [*phases.MUTUAL,
              # BGP has a collision rule of its own, and it can be left to that.
              phases.Phase("dials that cross, tie_break = none", "crossing", options={"tie_break": "none"},
                           wrong="not_left_to_bgp"),
              phases.Phase("dials that cross, mode = observe", "crossing", options={"mode": "observe"},
                           wrong="taken_for_a_habit")]

    def __init__(self):
        super().__init__()
        self.program = find_program("bird", "bird2")

    def restarts(self, number):
        """Do both ends of this pair announce graceful restart?"""
        return number > self.pairs // 2

    def kinds(self):
        return {"plain": [n for n in self.numbers if not self.restarts(n)],
                "graceful restart": [n for n in self.numbers if self.restarts(n)]}

    def command(self, lane, host, unit):
        text = GENERAL.format(log=lane.path(host, "log"), side=host.side)
        for number in self.numbers:
            text += NEIGHBOUR.format(
                number=number, here=lane.address(number, host.side),
                there=lane.address(number, 3 - host.side), as_here=65000 + host.side,
                as_there=65003 - host.side, restart="on" if self.restarts(number) else "aware")
        path = lane.path(host, "bird.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return [self.program, "-f", "-c", path, "-s", lane.path(host, "control")]

    def greet(self, control):
        self.answer(control, "0001 ")

    def tell(self, control, command):
        control.sendall(command.encode() + b"\n")
        return self.answer(control, "0000 ")

    @staticmethod
    def answer(control, last):
        text = b""
        while not text.endswith(b"\n") or not text[:-1].rpartition(b"\n")[2].startswith(
                last.encode()):
            more = control.recv(4096)
            if not more:
                raise OSError("closed")
            text += more
        return text.decode()

    def up(self, lane, host, since):
        text = self.ask(lane.path(host, "control"), "show protocols")
        return {int(number) for number in re.findall(r"\bpeer(\d+) .*Established", text)}

    def not_left_to_bgp(self, outcome):
        """Both links of each collision come up, and it is BGP then that ends one."""
        return [f"two links are wanted, of which one is short-lived; {outcome.story(number)}"
                for number in self.numbers if len(outcome.links[number]) != 2
                or sum(link.ended is None for link in outcome.links[number]) != 1
                or number not in outcome.seconds]

    def taken_for_a_habit(self, outcome):
        """Collisions are no reason to propose another limit."""
        return self.not_left_to_bgp(outcome) + [f"a guard proposes {habit}" for habit in outcome.habits
                                                if habit]
