# SPDX-License-Identifier: BSD-2-Clause
"""What the applications under study have in common."""

import os
import re
import shutil
import socket

import phases
from harness import Skip


class Application:
    """An application under study. A subclass says what it is called, how it is started, and when an instance
    takes its session with the other end for established.

    Instance N of one host and instance N of the other are one pair, the only ones that speak with each
    other. A process of a host is called a unit here; it has one instance or all of them.
    """

    name = ""
    ports = (24000,)     # where it listens for its like
    settings = {}        # of its guards, beside the ports: what is not the default
    hosts = 2            # of a lane
    pairs = 6
    links = 1            # of a pair, by design
    passing = 0          # further ones that the application makes and ends by itself when it starts
    signal_to_end = 15   # SIGTERM
    stall_s = 0.3        # after so long both ends have dialed, from their start on
    # Of its first start: seconds by which units begin later, {unit: (near, far)}.
    after = None
    # How long after a cut an end may still take a session for alive that is not.
    stale_s = 3.0
    # How far apart the application's own timers put equal cases, and the same after a cut, where it is a matter
    # of luck as well when the SYN of a dial is repeated next, or a dial made anew. The judgement of one run
    # allows so much more.
    spread_s = 0.0
    spread_after_cut_s = 0.0
    poll_s = 0.02        # how often it is asked
    phases = phases.MUTUAL

    def __init__(self):
        self.controls = {}

    def __repr__(self):
        return self.name

    @property
    def numbers(self):
        return range(1, self.pairs + 1)

    @staticmethod
    def ipv6(number):
        """Does this pair speak IPv6?"""
        return number % 2 == 0

    def uri(self, lane, number, side):
        """Where an end of a pair listens, as the applications write it that name a protocol with it."""
        address = lane.address(number, side)
        return f"tcp://[{address}]:{self.ports[0]}" if ":" in address else f"tcp://{address}:{self.ports[0]}"

    def kinds(self):
        """Kinds of pairs whose times are of different nature, by name."""
        return {"": list(self.numbers)}

    def spread(self, phase):
        return self.spread_after_cut_s if phase.kept else self.spread_s

    # -- processes --

    @staticmethod
    def units(_lane, _host):
        """The processes of a host."""
        return [1]

    def command(self, lane, host, unit):
        """Write what the unit reads; its command line."""
        raise NotImplementedError

    # Does a unit wait for the gate and enter its cgroup by itself?
    waits = False

    def ready(self, _lane, _host, _process):
        """Does a unit that was launched wait at the gate?"""
        return True

    def ended(self, lane, host):
        """The units of this host are gone."""
        for path in [path for path in self.controls if path.startswith(lane.path(host, ""))]:
            self.forget(path)

    # -- its own word --

    def up(self, lane, host, since):
        """Numbers of the pairs whose session this host's end takes for established. What it heard before
        `since` is no reason."""
        raise NotImplementedError

    def wrong_links(self, outcome, number):
        """After a start: in words, what is wrong with the links of a pair. None: nothing."""
        links = outcome.links[number]
        standing = [link for link in links if link.ended is None]
        if len(standing) == self.links and len(links) - len(standing) <= self.passing:
            return None
        return (f"{len(standing)} link(s) and {len(links) - len(standing)} short-lived, wanted are "
                f"{self.links} and {self.passing or 'none'}")

    # -- control sockets --

    def forget(self, path):
        control = self.controls.pop(path, None)
        if control:
            control.close()

    def ask(self, path, command):
        """What is answered to a command at this control socket; empty while nobody is there."""
        try:
            control = self.controls.get(path)
            if control is None:
                control = socket.socket(socket.AF_UNIX)
                control.settimeout(5)
                control.connect(path)
                self.controls[path] = control
                self.greet(control)
            return self.tell(control, command)
        except OSError:
            self.forget(path)
            return ""

    def greet(self, control):
        """Read what is said to a new client."""

    def tell(self, control, command):
        """Send a command and read the answer. OSError: there is nobody any more."""
        raise NotImplementedError


# For who would not find together, unguarded, if both ends began at one moment.
APART = {1: (0, 0.5), 2: (0.5, 0), 3: (0, 2.3)}


class LoggingApplication(Application):
    """One unit for each pair, which says when a session begins and when it ends."""

    pairs = 3
    after = APART
    phases = phases.ONE_WAY
    # Of bytes; what the first group matches is the name of the session.
    began = ended_again = None

    def __init__(self):
        super().__init__()
        self.logs = {}  # path: [where to read on, sessions]

    def units(self, _lane, _host):
        return self.numbers

    def ended(self, lane, host):
        """What was written until now was written by units that are gone."""
        for unit in self.numbers:
            path = lane.path(host, f"output-{unit}")
            if os.path.exists(path):
                self.logs[path] = [os.path.getsize(path), set()]

    def up(self, lane, host, since):
        return {unit for unit in self.numbers if self.sessions(lane.path(host, f"output-{unit}"))}

    def sessions(self, path):
        log = self.logs.setdefault(path, [0, set()])
        with open(path, "rb") as file:
            file.seek(log[0])
            text = file.read()
        text = text[:text.rfind(b"\n") + 1]
        log[0] += len(text)
        for line in text.splitlines():
            if found := re.search(self.began, line):
                log[1].add(found.group(1))
            elif found := re.search(self.ended_again, line):
                log[1].discard(found.group(1))
        return log[1]


def find_program(name, package, *places):
    """The path of a program, in these places only if any are named."""
    path = shutil.which(name, path=":".join(places) or os.environ["PATH"] + ":/usr/sbin")
    if path is None:
        raise Skip(f"{name} is missing: it is of the package {package}; scripts/bootstrap.sh services installs "
                   "all but the further applications")
    return path
