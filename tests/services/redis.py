# SPDX-License-Identifier: BSD-2-Clause
"""Redis Cluster: two links a pair by design, each node's own to the other."""

import os
import shutil
import socket
import time

from harness import Skip, now_ns
from lanes import PAIRS

SLOTS = {1: "0-8191", 2: "8192-16383"}


class Redis:
    """Clusters of two masters, one at each end, that knew each other before they start."""

    name = "Redis Cluster"
    client_port = 6379
    port = 16379  # the cluster bus
    example = "redis-cluster.conf"
    links = 2

    def __init__(self):
        self.controls = {}
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

    def ended(self, lane, host, number):
        control = self.controls.pop(lane.path(host, number, "control"), None)
        if control:
            control.close()

    def ask(self, lane, host, number, command):
        """What `redis-cli COMMAND` prints; empty while the node is not there yet."""
        path = lane.path(host, number, "control")
        try:
            control = self.controls.get(path)
            if control is None:
                control = socket.socket(socket.AF_UNIX)
                control.settimeout(5)
                control.connect(path)
                self.controls[path] = control
            control.sendall(command.encode() + b"\r\n")
            stream = control.makefile("rb")
            first = stream.readline()
            if not first.startswith(b"$"):
                return first.decode()
            return stream.read(int(first[1:]) + 2).decode()
        except OSError:
            self.ended(lane, host, number)
            return ""

    def linked(self, lane, host, number, since):
        """The other node has answered on our own link to it since then, and has not failed."""
        other = self.identity(number, 3 - lane.side(host))
        for line in self.ask(lane, host, number, "CLUSTER NODES").splitlines():
            fields = line.split()
            if fields and fields[0] == other:
                answered = int(fields[5]) * 1_000_000 - time.time_ns() + now_ns()
                return "fail" not in fields[2] and fields[7] == "connected" and answered > since
        return False
