# SPDX-License-Identifier: BSD-2-Clause
"""Lanes: pairs of hosts side by side that differ in nothing but their guards.

    near ---- wire ---- far        DELAY_MS each way; the witness (tap.py) sits on the wire

Each host has PAIRS addresses, and one instance of the service for each; instance N of near and
instance N of far are one pair, the only ones who speak with each other. To a guard each pair is a
peer of its own, so that a lane makes PAIRS measurements at once. far is the one that crashes.
"""

import os
import signal
import subprocess
import tempfile

import harness
from harness import DELAY_MS, Guard, Lab, die_with_parent, first_line, helper, now_ns, run, wait_for
from tap import Tap

PAIRS = 12
TABLE = os.path.join(harness.BUILD, "services.txt")


class Variant:
    """How the hosts of a lane are guarded."""

    def __init__(self, name, near=False, far=False, options=None):
        self.name = name
        self.near, self.far = near, far  # guarded?
        self.options = options or {}     # the guards' configuration

    def __repr__(self):
        return self.name


class Gate:
    """Programs that wait behind a closed gate all begin at the moment it opens."""

    def __init__(self):
        self.behind, self.handle = os.pipe()

    def open(self):
        os.close(self.handle)
        os.close(self.behind)


class ServicesLab(Lab):
    """The laboratory without its usual hosts: lanes come and go."""

    def __init__(self):
        super().__init__()
        self.lanes = []
        self.studies = []

    def set_up(self):
        self.set_up_bare()

    def study(self, study):
        """This study's table is written at the end. One study at a time has its services running."""
        for earlier in self.studies:
            earlier.end()
        self.studies.append(study)
        return study

    def lane(self, service, variant):
        lane = Lane(self, f"l{len(self.lanes) + 1}", service, variant)
        self.lanes.append(lane)
        return lane

    def judged(self):
        """Services go on from one test to the next: claims.settled() judges their guards."""
        return []

    def tear_down(self):
        for study in self.studies:
            study.end()
        for lane in self.lanes:
            lane.end()
        super().tear_down()
        tables = [study.table() for study in self.studies if study.outcomes]
        if tables:
            with open(TABLE, "w", encoding="utf-8") as file:
                file.write("\n\n".join(tables) + "\n")


class Lane:
    """Two hosts and the wire between them, one service, one variant."""

    def __init__(self, lab, name, service, variant):
        self.lab = lab
        self.name = name
        self.service = service
        self.variant = variant
        self.directory = tempfile.mkdtemp(prefix=f"{name}-", dir=lab.directory)
        self.processes = {}  # (host name, number): process
        self.guards = {}
        self.ended = False
        self.near = lab.add_host(f"{name}n", worker=False)
        self.wire = lab.add_host(f"{name}w", worker=False)
        self.far = lab.add_host(f"{name}f", worker=False)
        self.wire.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
        for host, side in ((self.near, 1), (self.far, 2)):
            lab.cable(host, "eth0", self.wire, "near" if side == 1 else "far")
            # The link address follows from the side, so that nobody has to ask for it.
            host.ip(f"link set eth0 address 02:00:00:00:00:0{side}")
            for number in range(1, PAIRS + 1):
                other = self.address(number, 3 - side)
                host.ip(f"addr add {self.address(number, side)}/{'64' if ':' in other else '16'} "
                        f"dev eth0{' nodad' if ':' in other else ''}",
                        f"neigh replace {other} lladdr 02:00:00:00:00:0{3 - side} dev eth0 "
                        "nud permanent")
        self.tap = Tap(self.wire.namespace, "near", service.port)
        self.delay = subprocess.Popen(
            self.wire.inside(helper("delay"), "near", "far", str(DELAY_MS)),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent)
        assert first_line(self.delay, "delay starts") == b"ready\n", "delay does not start"
        if variant.near:
            self.guard(self.near)
        if variant.far:
            self.guard(self.far)

    def __repr__(self):
        return f"{self.service.name}, {self.variant}"

    @property
    def hosts(self):
        return self.near, self.far

    def side(self, host):
        return 1 if host is self.near else 2

    def address(self, number, side):
        """Of instance `number` at near (side 1) or far (side 2)."""
        if self.service.ipv6(number):
            return f"fd90::{side}:{number}"
        return f"10.90.{side}.{number}"

    def pair(self, number):
        return frozenset((self.address(number, 1), self.address(number, 2)))

    # -- guards --

    def guard(self, host):
        guard = Guard(self.lab, host, self.variant.options)
        self.lab.guards.append(guard)
        self.guards[host.name] = guard
        guard.start()

    # -- instances of the service --

    def path(self, host, number, name):
        """A file of an instance."""
        directory = os.path.join(self.directory, f"{host.name}-{number}")
        os.makedirs(directory, exist_ok=True)
        return os.path.join(directory, name)

    def launch(self, host, gate, numbers=range(1, PAIRS + 1)):
        """Start the host's instances; they begin when the gate opens."""
        for number in numbers:
            arguments = self.service.prepare(self, host, number)
            with open(self.path(host, number, "output"), "ab") as output:
                self.processes[host.name, number] = subprocess.Popen(
                    host.inside("sh", "-c", 'read -r _; exec "$@" </dev/null', "sh", *arguments),
                    stdin=gate.behind, stdout=output, stderr=output,
                    cwd=os.path.dirname(self.path(host, number, "")),
                    preexec_fn=lambda: enter(host.cgroup))

    def kill(self, host):
        """SIGKILL to all instances of the host."""
        for number in range(1, PAIRS + 1):
            process = self.processes.pop((host.name, number), None)
            if process:
                process.kill()
                process.wait()
                self.service.ended(self, host, number)

    def linked(self, host, number, since):
        """Does this instance take its session for established, made after a moment?"""
        return self.service.linked(self, host, number, since)

    # -- trouble --

    def cut(self):
        self.wire.ip("link set far down")

    def mend(self):
        self.wire.ip("link set far up")

    def stall(self):
        """Frames wait on the wire until it goes on: then SYNs of both ends have crossed."""
        self.delay.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.delay.send_signal(signal.SIGCONT)

    def crash_far(self):
        """far is gone without a word: no FIN and no RST gets out, and it remembers nothing."""
        self.cut()
        self.kill(self.far)
        guard = self.guards.pop(self.far.name, None)
        if guard:
            guard.destroy()
            self.lab.guards.remove(guard)
        wait_for(self.forget_sockets, lambda: f"no socket is left: {self.sockets(self.far)}")

    def dialing(self, host):
        """The host's dials that wait for an answer."""
        return self.sockets(host, "state", "syn-sent", "dport", "=", f":{self.service.port}")

    def forget_sockets(self):
        run(*self.far.inside("ss", "--kill", "-H", "-t", "-a", "-n"))
        return not self.sockets(self.far)

    @staticmethod
    def sockets(host, *filters):
        """The host's TCP sockets, as the kernel lists them."""
        _status, text = run(*host.inside("ss", "-H", "-t", "-a", "-n", *filters))
        return text.splitlines()

    def boot_far(self, gate):
        """far comes back: first its guard, then the network and the service (at the gate)."""
        if self.variant.far:
            self.guard(self.far)
        self.launch(self.far, gate)

    def end(self):
        if self.ended:
            return
        self.ended = True
        for host in self.hosts:
            self.kill(host)
        for guard in self.guards.values():
            guard.destroy()
        self.tap.stop()
        self.delay.kill()
        self.delay.wait()
        self.delay.stdout.close()

    # -- what happened --

    def links(self, number, since=0):
        """Links of a pair that came up since a moment, as the witness saw them."""
        return [link for link in self.tap.links(since) if link.addresses == self.pair(number)]

    def events(self, host, number, other, since):
        """What the guard of `host` told of a pair; `other` is the side of the far end."""
        guard = self.guards.get(host.name)
        if guard is None:
            return []
        return [event for event in guard.events.find(address=self.address(number, other))
                if event["time_ns"] >= since]

    def told(self, number, since=0):
        """What the guards have told of a pair: (moment, "n" or "f", verdict, cause), in order."""
        return sorted((event["time_ns"], host.name[-1], event["verdict"], event["cause"])
                      for host, other in ((self.near, 2), (self.far, 1))
                      for event in self.events(host, number, other, since))


def enter(cgroup):
    """For preexec_fn: into the cgroup, and not outliving the runner."""
    die_with_parent()
    with open(os.path.join(cgroup, "cgroup.procs"), "w", encoding="ascii") as file:
        file.write("0")
