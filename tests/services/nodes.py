# SPDX-License-Identifier: BSD-2-Clause
"""The small nodes of nodes/, each a class of behaviour of its own. One process for all pairs of a host."""

import json
import os
import sys

import phases
from application import Application

DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nodes")
sys.path.insert(0, DIRECTORY)

from common import Board  # noqa: E402

# Seconds by which (near, far) of each pair begin later: at the same moment, one within the other's handshake,
# one when the other has failed once.
AFTER = [(0, 0), (0, 0), (0, 0.03), (0.03, 0), (0, 0.5), (0.5, 0)]


class NodeApplication(Application):
    """Ours, and tells us on a board (nodes/common.py)."""

    program = ""
    speaks = True     # now and then, so that both ends know whether the other is there
    one_way = False   # near dials in pairs of odd number, far in the others
    waits = True

    def __init__(self):
        super().__init__()
        self.boards = {}

    @staticmethod
    def board_path(lane, host):
        return lane.path(host, "board")

    def board(self, lane, host):
        path = self.board_path(lane, host)
        if path not in self.boards:
            self.boards[path] = Board(path)
        return self.boards[path]

    def command(self, lane, host, unit):
        path = self.board_path(lane, host)
        if not os.path.exists(path):
            Board.make(path)
        other = lane.far if host is lane.near else lane.near
        # Both families dial at either end.
        dialer = {number: 1 if number in (1, 4, 5) else 2 for number in self.numbers}
        settings = {"board": path, "cgroup": host.cgroup, "instances": [
            {"number": number, "me": lane.address(number, host.side),
             "peer": lane.address(number, other.side), "port": self.ports[0],
             "dials": not self.one_way or dialer[number] == host.side,
             "after": AFTER[number - 1][host.side - 1]} for number in self.numbers]}
        file = lane.path(host, "settings.json")
        with open(file, "w", encoding="utf-8") as stream:
            json.dump(settings, stream)
        return [sys.executable, "-S", os.path.join(DIRECTORY, self.program), file]

    def ready(self, lane, host, process):
        return self.board(lane, host).read(0)[0] == process.pid

    def ended(self, lane, host):
        path = self.board_path(lane, host)
        if os.path.exists(path):
            writer = Board(path, writes=True)
            for number in self.numbers:
                writer.write(number, first=0, second=0)

    def up(self, lane, host, since):
        board = self.board(lane, host)
        found = set()
        for number in self.numbers:
            began, heard = board.read(number)
            if began and (heard > since or not self.speaks):
                found.add(number)
        return found


class MiniConnected(NodeApplication):
    name = "mini_node connected"
    program = "mini.py"


class MiniConnecting(NodeApplication):
    name = "mini_node connecting"
    program = "connecting.py"

    def wrong_links(self, outcome, number):
        """An end without a guard turns our dial away while its own is under way: once, and then there is one."""
        standing = [link for link in outcome.links[number] if link.ended is None]
        if outcome.lane.variant.name == phases.ONE and len(standing) == self.links:
            return None
        return super().wrong_links(outcome, number)


class Unit(MiniConnected):
    """Its service manager makes it a new cgroup with each start."""

    name = "restarted unit"
    phases = [phases.COLD_START, phases.UNIT_RESTARTS, phases.PEER_UNIT_RESTARTS, phases.PEER_DOWN]


class Fallback(NodeApplication):
    name = "protocol fallback"
    program = "fallback.py"
    one_way = True
    passing = 1
    phases = phases.ONE_WAY


class Budget(NodeApplication):
    name = "retry budget"
    program = "budget.py"


class ListeningPort(NodeApplication):
    name = "dials from its listening port"
    program = "listening_port.py"

    def wrong_links(self, outcome, number):
        """Of two SYNs that cross on one connection, or meet a dial that is given up, the witness cannot tell whose
        it became: that there is no second one it can."""
        standing = [link for link in outcome.links[number] if link.ended is None]
        return f"{len(standing)} links" if len(standing) > self.links else None


class OneWay(NodeApplication):
    name = "client and server"
    program = "one_way.py"
    one_way = True
    phases = phases.ONE_WAY


class TwoTasks(NodeApplication):
    name = "two dialing tasks"
    program = "two_tasks.py"


class Idle(NodeApplication):
    name = "idle client and server"
    program = "idle.py"
    one_way = True
    speaks = False
    phases = phases.ONE_WAY


class ServerFirst(NodeApplication):
    name = "server speaks first"
    program = "server_first.py"


class Hasty(NodeApplication):
    name = "half a second of patience"
    program = "hasty.py"
    passing = 2  # it closes what comes too late


APPLICATIONS = [MiniConnected, MiniConnecting, Unit, Fallback, Budget, ListeningPort, OneWay, TwoTasks, Idle,
                ServerFirst, Hasty]
