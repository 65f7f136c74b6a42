# SPDX-License-Identifier: BSD-2-Clause
"""Reads what one run of the demo left behind: the lines of racers, of the wire observer and of the
script itself. It knows their format and computes no result.

A run is a directory with:
  phases.jsonl     {"time", "phase", ...} written by demo.sh; the first has the run's parameters
  wire.jsonl       the observer's lines
  HOST.jsonl       one racer's lines, of all its lives
All times are seconds of CLOCK_BOOTTIME.
"""

import itertools
import json
import os


def read_lines(path):
    """The JSON objects of a file; a last line that is still being written is left out."""
    lines = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                lines.append(json.loads(line))
    return lines


class Run:
    """One run, read whole."""

    def __init__(self, directory):
        self.phases = read_lines(os.path.join(directory, "phases.jsonl"))
        self.parameters = self.phases[0]
        self.start = self.parameters["time"]
        self.time_scale = self.parameters["time_scale"]
        self.hosts = self.parameters["hosts"]
        self.guarded = self.parameters["guarded"]
        self.wire = read_lines(os.path.join(directory, "wire.jsonl"))
        self.racers = {
            host: read_lines(os.path.join(directory, host + ".jsonl")) for host in self.hosts
        }

    @property
    def pairs(self):
        """Every two hosts, once."""
        return list(itertools.combinations(sorted(self.hosts), 2))

    def phase_time(self, name):
        """When a phase began; None if it never did."""
        return next((phase["time"] for phase in self.phases if phase["phase"] == name), None)

    def pairs_linked_over_time(self):
        """[(time, number of pairs linked)], one entry for every change of any link.

        A pair is linked while both ends hold the same connection, named by its two ports. What one
        end takes for a connection and the other has closed already is no link. A racer that was
        killed writes no last word: its links end when it starts anew, and earlier by the word of
        the other end.
        """
        host_of_address = {address: host for host, address in self.hosts.items()}
        changes = []
        for host, events in self.racers.items():
            for event in events:
                if event["event"] in ("link_up", "link_down", "start"):
                    changes.append((event["time"], host, event))
        changes.sort(key=lambda change: change[0])

        held = {host: set() for host in self.hosts}
        result = [(self.start, 0)]
        for time, host, event in changes:
            if event["event"] == "start":
                held[host].clear()
            else:
                peer = host_of_address[event["peer"]]
                ports = (event["local_port"], event["remote_port"])
                if event["event"] == "link_up":
                    held[host].add((peer, ports))
                else:
                    held[host].discard((peer, ports))
            linked = sum(
                any((one, ports[::-1]) in held[other] for peer, ports in held[one] if peer == other)
                for one, other in self.pairs
            )
            result.append((time, linked))
        return result
