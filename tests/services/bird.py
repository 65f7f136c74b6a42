# SPDX-License-Identifier: BSD-2-Clause
"""BIRD: BGP with both ends active."""

import os
import shutil

from harness import Skip
from lanes import PAIRS
from service import Service

# The defaults are hours to a test: connect delay 5, connect retry 120, hold 240, keepalive 80,
# error wait 60 to 300 seconds. All else is as the distribution has it.
CONFIGURATION = """\
log "{log}" all;
router id 10.90.{side}.{number};
debug protocols {{ states, events }};
protocol device {{ }}
protocol bgp peer {{
    local {here} as {as_here};
    neighbor {there} as {as_there};
    strict bind yes;
    connect delay time 1;
    connect retry time 5;
    hold time 30;
    keepalive time 10;
    error wait time 2, 8;
    graceful restart {restart};
    ipv4 {{ import all; export all; }};
}}
"""


class Bird(Service):
    """One BIRD for each address; the pairs with even numbers speak IPv6."""

    name = "BIRD"
    port = 179
    example = "bird.conf"

    def __init__(self):
        super().__init__()
        self.program = shutil.which("bird", path=os.environ["PATH"] + ":/usr/sbin")
        if self.program is None:
            raise Skip("bird is missing; to install it: scripts/bootstrap.sh services")

    @staticmethod
    def ipv6(number):
        return number % 2 == 0

    @staticmethod
    def restarts(number):
        """Do both ends of this pair announce graceful restart?"""
        return number > PAIRS // 2

    def kinds(self):
        """Kinds of pairs whose times are of different nature."""
        return {"plain": [n for n in range(1, PAIRS + 1) if not self.restarts(n)],
                "graceful restart": [n for n in range(1, PAIRS + 1) if self.restarts(n)]}

    def prepare(self, lane, host, number):
        """Write the configuration; the command line."""
        side = lane.side(host)
        configuration = lane.path(host, number, "bird.conf")
        with open(configuration, "w", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(
                log=lane.path(host, number, "log"), side=side, number=number,
                here=lane.address(number, side), there=lane.address(number, 3 - side),
                as_here=65000 + side, as_there=65003 - side,
                restart="on" if self.restarts(number) else "aware"))
        return [self.program, "-f", "-c", configuration, "-s", lane.path(host, number, "control")]

    def greet(self, control):
        self.answer(control, "0001 ")

    def command(self, control, command):
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

    def linked(self, lane, host, number, _since):
        return "Established" in self.ask(lane, host, number, "show protocols peer")
