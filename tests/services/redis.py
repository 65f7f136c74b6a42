# SPDX-License-Identifier: BSD-2-Clause
"""Redis Cluster: two links a pair by design, each node's own to the other."""

import os
import time

import phases
from application import Application, find_program
from harness import now_ns

SLOTS = {1: "0-8191", 2: "8192-16383"}
CLIENT_PORT = 6379


class Redis(Application):
    """Clusters of two masters, one at each end, that knew each other before they start."""

    name = "Redis Cluster"
    ports = (16379,)  # the cluster bus
    poll_s = 0.05
    settings = {"max_links": 2}
    pairs = 4
    links = 2
    # It looks after its links ten times a second, and when one does not come up, dials anew after 7.5 s.
    spread_s = 0.1
    spread_after_cut_s = 4.5
    phases = [*phases.MUTUAL,
              # As an operator would begin, with the default of one link; links count as lasting sooner.
              phases.Phase("dials that cross, mode = observe", "crossing",
                           options={"mode": "observe", "max_links": 1, "min_uptime": "1s"},
                           wrong="no_proposal")]

    def __init__(self):
        super().__init__()
        self.program = find_program("redis-server", "redis-server")

    @staticmethod
    def ipv6(_number):
        return False

    def units(self, _lane, _host):
        return self.numbers

    @staticmethod
    def identity(number, side):
        return f"{side:020x}{number:020x}"

    @staticmethod
    def directory(lane, host, unit):
        path = lane.path(host, f"node-{unit}")
        os.makedirs(path, exist_ok=True)
        return path

    def command(self, lane, host, unit):
        """What the node knew when it ended; the command line."""
        directory = self.directory(lane, host, unit)
        nodes = os.path.join(directory, "nodes.conf")
        if not os.path.exists(nodes):
            with open(nodes, "w", encoding="ascii") as file:
                for member in (host.side, 3 - host.side):
                    file.write(f"{self.identity(unit, member)} "
                               f"{lane.address(unit, member)}:{CLIENT_PORT}@{self.ports[0]} "
                               f"{'myself,' if member == host.side else ''}master - 0 0 {member} "
                               f"connected {SLOTS[member]}\n")
                file.write("vars currentEpoch 2 lastVoteEpoch 0\n")
        here = lane.address(unit, host.side)
        return [self.program, "--dir", directory, "--bind", here, "--bind-source-addr", here,
                "--port", str(CLIENT_PORT), "--unixsocket", os.path.join(directory, "control"),
                "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
                "--save", "", "--appendonly", "no", "--loglevel", "debug", "--logfile", "log",
                "--protected-mode", "no"]

    def tell(self, control, command):
        control.sendall(command.encode() + b"\r\n")
        stream = control.makefile("rb")
        first = stream.readline()
        if not first.startswith(b"$"):
            return first.decode()
        return stream.read(int(first[1:]) + 2).decode()

    def up(self, lane, host, since):
        return {unit for unit in self.numbers if self.linked(lane, host, unit, since)}

    def linked(self, lane, host, unit, since):
        """The other node has answered on our own link to it since then, and has not failed."""
        other = self.identity(unit, 3 - host.side)
        control = os.path.join(self.directory(lane, host, unit), "control")
        for line in self.ask(control, "CLUSTER NODES").splitlines():
            fields = line.split()
            if fields and fields[0] == other:
                answered = int(fields[5]) * 1_000_000 - time.time_ns() + now_ns()
                return "fail" not in fields[2] and fields[7] == "connected" and answered > since
        return False

    def no_proposal(self, outcome):
        """Two links of each pair are seen, and proposed as the limit."""
        found = [f"two links are wanted; {outcome.story(number)}" for number in self.numbers
                 if len(outcome.links[number]) != 2 or number not in outcome.seconds]
        wanted = {"kind": "several_links", "max_links": 2, "shown": self.pairs, "seen": self.pairs}
        return found + [f"a guard proposes {habit}, wanted is {wanted}" for habit in outcome.habits
                        if habit != wanted]
