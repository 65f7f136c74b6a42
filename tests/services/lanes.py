# SPDX-License-Identifier: BSD-2-Clause
"""Lanes: hosts side by side that differ in nothing but their guards.

    near ---- wire ---- far        DELAY_MS each way; the witness (tap.py) sits on the wire

    near ---- wire ---- far        or three hosts, each DELAY_MS / 2 from a switch in the middle
                |
              middle

Each host has an address for each pair of the application; instance N of near and instance N of far are
one pair. To a guard each pair is a peer of its own, so that a lane makes several measurements at once.
"""

import os
import re
import signal
import subprocess
import tempfile

from harness import Guard, Lab, die_with_parent, first_line, helper, run, wait_for
from tap import Tap

# One way: a round trip of 40 ms, as between two countries.
DELAY_MS = 20
NAMES = {2: ("near", "far"), 3: ("near", "middle", "far")}
END_S = 10


class Variant:
    """How the hosts of a lane are guarded."""

    def __init__(self, name, guarded=(), options=None):
        self.name = name
        self.guarded = guarded        # names of hosts
        self.options = options or {}  # the guards' configuration, beside the application's

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

    def set_up(self):
        self.set_up_bare()

    def lane(self, application, variant):
        lane = Lane(self, f"l{len(self.lanes) + 1}", application, variant)
        self.lanes.append(lane)
        return lane

    def tear_down(self):
        for lane in self.lanes:
            lane.end()
        super().tear_down()


class Wire:
    """What lies between the hosts of a lane. Cut in the middle: no host sees its carrier go."""

    def __init__(self, lab, name, hosts):
        self.hosts = hosts
        self.space = lab.add_host(name, worker=False)
        self.space.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
        self.delays = {}
        for host in hosts:
            lab.cable(host, "eth0", self.space, host.role)
        if len(hosts) == 2:
            self.parts = {host: (hosts[0].role, hosts[1].role, DELAY_MS) for host in hosts}
        else:
            self.space.ip("link add switch type bridge forward_delay 0 mcast_snooping 0",
                          "link set switch up")
            for host in hosts:
                self.space.ip(f"link add {host.role}-in type veth peer name {host.role}-out",
                              f"link set {host.role}-out master switch",
                              f"link set {host.role}-in up", f"link set {host.role}-out up")
            self.parts = {host: (host.role, f"{host.role}-in", DELAY_MS / 2) for host in hosts}
        for host in hosts:
            self.mend(host)

    def cut(self, host):
        """Nothing reaches the host, nor leaves it."""
        delay = self.delays.pop(self.parts[host], None)
        if delay:
            delay.kill()
            delay.wait()
            delay.stdout.close()

    def mend(self, host):
        part = self.parts[host]
        if part not in self.delays:
            self.delays[part] = subprocess.Popen(
                self.space.inside(helper("delay"), part[0], part[1], str(round(part[2]))),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                preexec_fn=die_with_parent)
            assert first_line(self.delays[part], "delay starts") == b"ready\n", "delay does not start"

    def stall(self):
        """Frames wait on the wire until it goes on: then SYNs of both ends have crossed."""
        for delay in self.delays.values():
            delay.send_signal(signal.SIGSTOP)

    def go_on(self):
        for delay in self.delays.values():
            delay.send_signal(signal.SIGCONT)

    def taps(self, ports):
        """Witnesses that together see each frame once."""
        if len(self.hosts) == 2:
            return [Tap(self.space.namespace, "near", ports)]
        return [Tap(self.space.namespace, "near", ports),
                Tap(self.space.namespace, "far", ports, other_than=self.hosts[0].addresses)]

    def end(self):
        for host in self.hosts:
            self.cut(host)


class Lane:
    """Some hosts and the wire between them, one application, one variant."""

    def __init__(self, lab, name, application, variant):
        self.lab = lab
        self.name = name
        self.application = application
        self.variant = variant
        self.directory = tempfile.mkdtemp(prefix=f"{name}-", dir=lab.directory)
        self.processes = {}  # (host name, unit): process
        self.guards = {}     # host name: guard
        self.ended = False
        self.hosts = []
        for side, role in enumerate(NAMES[application.hosts], 1):
            host = lab.add_host(f"{name}{role[0]}", worker=False)
            host.role, host.side = role, side
            host.addresses = {self.address(number, side) for number in application.numbers}
            self.hosts.append(host)
        self.near, self.far = self.hosts[0], self.hosts[-1]
        self.wire = Wire(lab, f"{name}w", self.hosts)
        self.give_addresses()
        self.taps = self.wire.taps(application.ports)
        for host in self.hosts:
            self.guard(host)

    def __repr__(self):
        return f"{self.application}, {self.variant}"

    def give_addresses(self):
        # The link address follows from the side, so that nobody has to ask for it.
        for host in self.hosts:
            lines = [f"link set eth0 address 02:00:00:00:00:0{host.side}"]
            for number in self.application.numbers:
                six = self.application.ipv6(number)
                lines.append(f"addr add {self.address(number, host.side)}/{'64 nodad' if six else '16'} "
                             "dev eth0")
                for other in self.hosts:
                    if other is not host:
                        there = self.address(number, other.side)
                        lines += [f"neigh replace {there} lladdr 02:00:00:00:00:0{other.side} dev eth0 "
                                  "nud permanent",
                                  # For who does not say which of our addresses he dials from.
                                  f"route replace {there}/{128 if six else 32} dev eth0 "
                                  f"src {self.address(number, host.side)}"]
            host.ip(*lines)

    def address(self, number, side):
        """Of instance `number` at the host of this side."""
        if self.application.ipv6(number):
            return f"fd90::{side}:{number}"
        return f"10.90.{side}.{number}"

    # -- guards --

    def guard(self, host):
        """A guard for the host, if it has one: all defaults but what it cannot know."""
        if host.role not in self.variant.guarded:
            return
        options = {"netns": f"/run/netns/{host.namespace}",
                   "port": ", ".join(map(str, self.application.ports)),
                   **self.application.settings, **self.variant.options}
        guard = Guard(self.lab, host, options)
        self.lab.guards.append(guard)
        self.guards[host.name] = guard
        guard.start()

    # -- units of the application --

    def path(self, host, name):
        """A file of a host."""
        directory = os.path.join(self.directory, host.role)
        os.makedirs(directory, exist_ok=True)
        return os.path.join(directory, name)

    def launch(self, host, gate, after=None):
        """Units that begin when the gate opens. The host has them when they are given to `adopt`. `after`:
        seconds later, by unit, one number for each side."""
        launched = {}
        # In its cgroup is who has begun: this may be another one by then.
        wait = 'read -r _; echo $$ >"$0"; [ "$1" = 0 ] || sleep "$1"; shift; exec "$@" </dev/null'
        for unit in self.application.units(self, host):
            arguments = self.application.command(self, host, unit)
            if not self.application.waits:
                seconds = after[unit][host.side - 1] if after else 0
                arguments = ["sh", "-c", wait, os.path.join(host.cgroup, "cgroup.procs"), str(seconds),
                             *arguments]
            with open(self.path(host, f"output-{unit}"), "ab") as output:
                launched[host.name, unit] = subprocess.Popen(
                    host.inside(*arguments), stdin=gate.behind, stdout=output, stderr=output,
                    cwd=self.path(host, ""), preexec_fn=die_with_parent)
        return launched

    def ready(self, host, launched):
        """Do all of these wait at the gate?"""
        return all(self.application.ready(self, host, process) for process in launched.values())

    def adopt(self, launched):
        self.processes.update(launched)

    def signal(self, host, number):
        for (name, _unit), process in self.processes.items():
            if name == host.name:
                process.send_signal(number)

    def wait_ended(self, host):
        """Until the units are gone, which have been asked to end."""
        for key in [key for key in self.processes if key[0] == host.name]:
            process = self.processes.pop(key)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.application.ended(self, host)

    def kill(self, host):
        """SIGKILL to all units of the host."""
        self.signal(host, signal.SIGKILL)
        self.wait_ended(host)

    def renew_cgroup(self, host):
        """What becomes of the cgroup of a unit that is started anew."""
        def removed():
            try:
                os.rmdir(host.cgroup)
            except OSError:
                return not os.path.exists(host.cgroup)
            return True
        wait_for(removed, f"{host.cgroup} is empty")
        os.mkdir(host.cgroup)

    # -- trouble --

    def crash(self, host):
        """The host is gone without a word: no FIN and no RST gets out, and it remembers nothing."""
        self.wire.cut(host)
        self.kill(host)
        guard = self.guards.pop(host.name, None)
        if guard:
            guard.destroy()
            self.lab.guards.remove(guard)
        wait_for(lambda: self.forget_sockets(host),
                 lambda: f"no socket is left: {self.sockets(host)}")

    def forget_sockets(self, host):
        run(*host.inside("ss", "--kill", "-H", "-t", "-a", "-n"))
        return not self.sockets(host)

    @staticmethod
    def sockets(host, *filters):
        """The host's TCP sockets, as the kernel lists them."""
        _status, text = run(*host.inside("ss", "-H", "-t", "-a", "-n", *filters))
        return text.splitlines()

    def end(self):
        if self.ended:
            return
        self.ended = True
        for host in self.hosts:
            self.kill(host)
        for guard in self.guards.values():
            guard.destroy()
        for tap in self.taps:
            tap.stop()
        self.wire.end()

    # -- what happened --

    def established(self):
        """The links, as the kernels of both of their ends show them: {two ends: two sockets}."""
        found = {}
        ports = " or ".join(f"sport = :{port} or dport = :{port}" for port in self.application.ports)
        for host in self.hosts:
            for line in self.sockets(host, "-e", "state", "established", f"( {ports} )"):
                # BIRD's sockets belong to an interface.
                link = frozenset(end.replace("%eth0", "") for end in line.split()[2:4])
                found.setdefault(link, set()).add(re.search(r" sk:(\w+)", line).group(1))
        return {link: sockets for link, sockets in found.items() if len(sockets) == 2}

    def links(self, number, since=0):
        """Links of a pair that came up since a moment, as the witness saw them."""
        pair = {self.address(number, host.side) for host in self.hosts}
        return [link for tap in self.taps for link in tap.links(since) if link.addresses <= pair]

    def told(self, number, since=0):
        """What the guards have told of a pair: (moment, host, verdict, cause), in order."""
        return sorted((event["time_ns"], host.role, event["verdict"], event["cause"])
                      for host in self.hosts if host.name in self.guards
                      for other in self.hosts if other is not host
                      for event in self.guards[host.name].events.find(
                          address=self.address(number, other.side))
                      if event["time_ns"] >= since)
