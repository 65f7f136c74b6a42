# SPDX-License-Identifier: BSD-2-Clause
"""tinc: a mesh VPN whose daemons keep a TCP connection with each other, which both ends dial."""

import os
import subprocess

from application import LoggingApplication, find_program

CONFIGURATION = """\
Name = {me}
ConnectTo = {other}
AddressFamily = ipv4
BindToAddress = {here}
DeviceType = dummy
PingTimeout = 5
"""


class Tinc(LoggingApplication):
    name = "tinc"
    ports = (655,)
    # It tries again after 5 s, 10 s and so on.
    spread_s = spread_after_cut_s = 6.0
    began = rb"Connection with \w+ \(([^)]*)\) activated"
    ended_again = rb"Closing connection with \w+ \(([^)]*)\)"

    def __init__(self):
        super().__init__()
        self.program = find_program("tincd", "tinc")
        self.keys = {}

    @staticmethod
    def ipv6(_number):
        return False

    def keys_of(self, lane, role):
        """(private, public): one pair for all instances at this end."""
        if role not in self.keys:
            directory = os.path.join(lane.lab.directory, f"key-{role}")
            os.makedirs(os.path.join(directory, "hosts"))
            with open(os.path.join(directory, "tinc.conf"), "w", encoding="ascii") as file:
                file.write(f"Name = {role}\n")
            subprocess.run([self.program, "-c", directory, "-K1024"], stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
            with open(os.path.join(directory, "rsa_key.priv"), encoding="ascii") as private, \
                    open(os.path.join(directory, "hosts", role), encoding="ascii") as public:
                self.keys[role] = private.read(), public.read()
        return self.keys[role]

    def command(self, lane, host, unit):
        directory = lane.path(host, f"tinc-{unit}")
        os.makedirs(os.path.join(directory, "hosts"), exist_ok=True)

        def write(name, text):
            with open(os.path.join(directory, name), "w", encoding="ascii",
                      opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(text)
        other = lane.far if host is lane.near else lane.near
        write("tinc.conf", CONFIGURATION.format(me=host.role, other=other.role,
                                                here=lane.address(unit, host.side)))
        write("rsa_key.priv", self.keys_of(lane, host.role)[0])
        for one in (host, other):
            write(f"hosts/{one.role}", f"Address = {lane.address(unit, one.side)}\n"
                  + self.keys_of(lane, one.role)[1])
        return [self.program, "-c", directory, "-D", "-d1", f"--pidfile={directory}/pid"]
