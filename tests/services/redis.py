# SPDX-License-Identifier: BSD-2-Clause
"""Redis Cluster: two links a pair by design, each node's own to the other."""

import os
import shutil
import time

from harness import Skip, now_ns
from lanes import PAIRS
from service import Service

SLOTS = {1: "0-8191", 2: "8192-16383"}


class Redis(Service):
    """Clusters of two masters, one at each end, that knew each other before they start."""

    name = "Redis Cluster"
    client_port = 6379
    port = 16379  # the cluster bus
    example = "redis-cluster.conf"
    links = 2

    def __init__(self):
        super().__init__()
        if shutil.which("redis-server") is None:
            raise Skip("redis-server is missing; to install it: scripts/bootstrap.sh services")

    @staticmethod
    def ipv6(_number):
        return False

    @staticmethod
    def kinds():
        """Kinds of pairs whose times are of different nature: none."""
        return {"": range(1, PAIRS + 1)}

    @staticmethod
    def identity(number, side):
        return f"{side:020x}{number:020x}"

    def prepare(self, lane, host, number):
        """What the node knew when it ended; the command line."""
        side = lane.side(host)
        nodes = lane.path(host, number, "nodes.conf")
        if not os.path.exists(nodes):
            with open(nodes, "w", encoding="ascii") as file:
                for member in (side, 3 - side):
                    file.write(f"{self.identity(number, member)} "
                               f"{lane.address(number, member)}:{self.client_port}@{self.port} "
                               f"{'myself,' if member == side else ''}master - 0 0 {member} "
                               f"connected {SLOTS[member]}\n")
                file.write("vars currentEpoch 2 lastVoteEpoch 0\n")
        here = lane.address(number, side)
        return ["redis-server", "--bind", here, "--bind-source-addr", here,
                "--port", str(self.client_port), "--unixsocket", "control",
                "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
                "--save", "", "--appendonly", "no", "--loglevel", "debug", "--logfile", "log",
                "--protected-mode", "no"]

    def command(self, control, command):
        control.sendall(command.encode() + b"\r\n")
        stream = control.makefile("rb")
        first = stream.readline()
        if not first.startswith(b"$"):
            return first.decode()
        return stream.read(int(first[1:]) + 2).decode()

    def linked(self, lane, host, number, since):
        """The other node has answered on our own link to it since then, and has not failed."""
        other = self.identity(number, 3 - lane.side(host))
        for line in self.ask(lane, host, number, "CLUSTER NODES").splitlines():
            fields = line.split()
            if fields and fields[0] == other:
                answered = int(fields[5]) * 1_000_000 - time.time_ns() + now_ns()
                return "fail" not in fields[2] and fields[7] == "connected" and answered > since
        return False
