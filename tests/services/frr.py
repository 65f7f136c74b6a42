# SPDX-License-Identifier: BSD-2-Clause
"""FRR's bgpd: BGP with both ends active, plain and with signatures (RFC 2385)."""

import json
import os

import phases
from application import Application, find_program

GENERAL = """\
frr defaults traditional
log file {log} debugging
debug bgp neighbor-events
router bgp {as_here}
 bgp router-id 10.90.{side}.1
 no bgp ebgp-requires-policy
 no bgp network import-check
 timers bgp 3 15
"""
# No zebra tells it of interfaces, so it must not ask whether the neighbour is on one.
NEIGHBOUR = """\
 neighbor {there} remote-as {as_there}
 neighbor {there} update-source {here}
 neighbor {there} disable-connected-check
"""
PASSWORD = " neighbor {there} password connguard\n"
END = b"\0\0\0"  # of an answer; the status is the byte after it


class Frr(Application):
    """One bgpd for each host. A cut of 6 seconds, a keepalive before it and what TCP needs afterwards are
    shorter than the hold time together, a cut of 20 is longer; connect retry is FRR's own 120 s."""

    name = "FRR bgpd"
    ports = (179,)
    poll_s = 0.05
    stall_s = 1.2
    stale_s = 12.0
    # It draws the delay of a start from a second.
    spread_s = 1.0
    spread_after_cut_s = 4.5
    phases = [*phases.MUTUAL, phases.Phase("`clear bgp *` three times", "command", 3, 3)]

    def __init__(self):
        super().__init__()
        self.program = find_program("bgpd", "frr", "/usr/lib/frr", "/usr/libexec/frr")

    def signed(self, number):
        return number > self.pairs // 2

    def kinds(self):
        return {"plain": [n for n in self.numbers if not self.signed(n)],
                "MD5": [n for n in self.numbers if self.signed(n)]}

    def command(self, lane, host, unit):
        text = GENERAL.format(log=lane.path(host, "log"), side=host.side, as_here=65000 + host.side)
        for number in self.numbers:
            text += (NEIGHBOUR + (PASSWORD if self.signed(number) else "")).format(
                here=lane.address(number, host.side), there=lane.address(number, 3 - host.side),
                as_there=65003 - host.side)
        path = lane.path(host, "bgpd.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        directory = lane.path(host, "control")
        os.makedirs(directory, exist_ok=True)
        return [self.program, "--skip_runas", "--no_zebra", "--config_file", path,
                "--pid_file", lane.path(host, "pid"), "--vty_port", "0", "--vty_socket", directory]

    @staticmethod
    def control(lane, host):
        return lane.path(host, "control/bgpd.vty")

    def greet(self, control):
        self.tell(control, "enable")

    def tell(self, control, command):
        control.sendall(command.encode() + b"\0")
        text = b""
        while text[-4:-1] != END:
            more = control.recv(65536)
            if not more:
                raise OSError("closed")
            text += more
        return text[:-4].decode()

    def up(self, lane, host, since):
        answer = self.ask(self.control(lane, host), "show bgp summary json")
        found = set()
        for family in (json.loads(answer) if answer else {}).values():
            for address, peer in family.get("peers", {}).items():
                if peer["state"] == "Established":
                    found.add(int(address.replace(":", ".").rpartition(".")[2]))
        return found

    def do(self, lane):
        self.ask(self.control(lane, lane.near), "clear bgp *")
