# SPDX-License-Identifier: BSD-2-Clause
"""ZooKeeper: three servers, which elect a leader on one port and follow it on another."""

import os
import re
import shutil
import socket

import phases
from application import Application
from harness import Skip
from tap import inside

LIBRARIES = "/usr/share/java"
CLASSES = ("zookeeper.jar", "slf4j-simple.jar")
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
FOLLOW_PORT, ELECT_PORT, CLIENT_PORT = 2888, 3888, 2181
# A leader whom too few follow is none any more after
# initLimit ticks. A cut of 6 seconds, and what TCP needs afterwards, is shorter than syncLimit.
CONFIGURATION = """\
tickTime=1000
initLimit=4
syncLimit=12
dataDir={directory}
clientPort={client}
clientPortAddress={here}
admin.enableServer=false
4lw.commands.whitelist=srvr
"""


class ZooKeeper(Application):
    """One ensemble, which is one "pair" here: its session is up when every server that runs serves, behind
    one leader."""

    name = "ZooKeeper"
    ports = (FOLLOW_PORT, ELECT_PORT)
    hosts = 3
    pairs = 1
    # Nine virtual machines that start at once keep each other from it.
    after = {1: (0, 1, 2)}
    poll_s = 0.1
    stale_s = 8.0
    spread_s = 1.0
    spread_after_cut_s = 7.5
    phases = [*phases.ONE_WAY,
              phases.Phase("leader killed", "kill_leader"),
              phases.Phase("server back", "bring_back")]

    def __init__(self):
        super().__init__()
        self.java = shutil.which("java")
        missing = [name for name in CLASSES if not os.path.exists(os.path.join(LIBRARIES, name))]
        if self.java is None or missing:
            raise Skip("ZooKeeper is missing; to install it: scripts/bootstrap.sh services")

    @staticmethod
    def ipv6(_number):
        return False

    def command(self, lane, host, unit):
        directory = lane.path(host, "data")
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, "myid"), "w", encoding="ascii") as file:
            file.write(f"{host.side}\n")
        text = CONFIGURATION.format(directory=directory, client=CLIENT_PORT,
                                    here=lane.address(1, host.side))
        for one in lane.hosts:
            text += f"server.{one.side}={lane.address(1, one.side)}:{FOLLOW_PORT}:{ELECT_PORT}\n"
        path = lane.path(host, "zoo.cfg")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return [self.java, "-Xmx64m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
                "-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dzookeeper.jmx.log4j.disable=true",
                "-cp", ":".join(os.path.join(LIBRARIES, name) for name in CLASSES), MAIN, path]

    def mode(self, lane, host):
        """What a server takes itself for: leader, follower, or nothing yet."""
        try:
            with inside(host.namespace):
                asking = socket.socket()
            with asking:
                asking.settimeout(2)
                asking.connect((lane.address(1, host.side), CLIENT_PORT))
                asking.sendall(b"srvr")
                with asking.makefile("rb") as stream:
                    found = re.search(rb"^Mode: (\w+)", stream.read(), re.MULTILINE)
        except OSError:
            return None
        return found and found.group(1).decode()

    def up(self, lane, host, since):
        """It serves, which it does as a leader with a quorum, or behind one."""
        return {1} if self.mode(lane, host) else set()

    def wrong_links(self, outcome, number):
        """Two follow the leader, each two have elected. For that there is one link of each two, dialed by
        who has the greater number: one that the other dials is ended by the servers themselves."""
        standing = {FOLLOW_PORT: 0, ELECT_PORT: 0}
        short = 0
        for link in outcome.links[number]:
            if link.ended is None:
                standing[link.server[1]] += 1
            elif link.server[1] != ELECT_PORT:
                short += 1
        if standing == {FOLLOW_PORT: 2, ELECT_PORT: 3} and not short:
            return None
        return f"links by port: {standing} and {short} short-lived, wanted are 2 and 3 and none"

    def leader(self, lane):
        for host in lane.hosts:
            if self.mode(lane, host) == "leader":
                return host
        return None
