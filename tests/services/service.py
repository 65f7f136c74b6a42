# SPDX-License-Identifier: BSD-2-Clause
"""What the services have in common: each instance has a control socket, and is asked there."""

import socket


class Service:
    """A service under study. A subclass says what it is called, how it is started, and when an instance
    takes its session for established."""

    name = ""
    port = 0       # where it listens for its like
    example = ""   # its guard's configuration in scripts/examples
    links = 1      # of a pair, by design

    def __init__(self):
        self.controls = {}

    def ended(self, lane, host, number):
        """An instance is gone."""
        control = self.controls.pop(lane.path(host, number, "control"), None)
        if control:
            control.close()

    def ask(self, lane, host, number, command):
        """What an instance answers to a command; empty while it is not there yet."""
        path = lane.path(host, number, "control")
        try:
            control = self.controls.get(path)
            if control is None:
                control = socket.socket(socket.AF_UNIX)
                control.settimeout(5)
                control.connect(path)
                self.controls[path] = control
                self.greet(control)
            return self.command(control, command)
        except OSError:
            self.ended(lane, host, number)
            return ""

    def greet(self, control):
        """Read what is said to a new client."""

    def command(self, control, command):
        """Send a command and read the answer. OSError: there is nobody any more."""
        raise NotImplementedError
