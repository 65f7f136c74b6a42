# SPDX-License-Identifier: BSD-2-Clause
"""Yggdrasil: a mesh VPN whose nodes dial each other, and keep what both have dialed."""

import json
import os
import subprocess

import phases
from application import LoggingApplication, find_program


class Yggdrasil(LoggingApplication):
    """Unguarded there are two links a pair, one from each end."""

    name = "Yggdrasil"
    ports = (9001,)
    after = None
    phases = phases.MUTUAL
    # It tries again after a second, two, four and so on.
    spread_s = spread_after_cut_s = 2.0
    began = rb"Connected ((?:in|out)bound TCP: \S+, source [^;\s]+)"
    ended_again = rb"Disconnected ((?:in|out)bound TCP: \S+, source [^;\s]+)"

    def __init__(self):
        super().__init__()
        self.program = find_program("yggdrasil", "yggdrasil")

    def command(self, lane, host, unit):
        path = lane.path(host, f"yggdrasil-{unit}.json")
        # With the same key after each start.
        if not os.path.exists(path):
            made = subprocess.run([self.program, "-genconf", "-json"], stdin=subprocess.DEVNULL,
                                  capture_output=True, check=True)
            configuration = dict(
                json.loads(made.stdout), AdminListen="none", MulticastInterfaces=[], IfName="none",
                Listen=[self.uri(lane, unit, host.side)], Peers=[self.uri(lane, unit, 3 - host.side)])
            with open(path, "w", encoding="utf-8") as file:
                json.dump(configuration, file)
        return [self.program, "-useconffile", path, "-logto", "stdout", "-loglevel", "debug"]
