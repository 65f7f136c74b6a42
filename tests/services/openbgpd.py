# SPDX-License-Identifier: BSD-2-Clause
"""OpenBGPD: BGP with both ends active, in three processes."""

import os
import pwd

import phases
from application import LoggingApplication, find_program

# Connect retry is 120 s, and after an end it is idle for 30 s: both cannot be set.
CONFIGURATION = """\
AS {as_here}
router-id 10.90.{side}.{unit}
listen on {here}
fib-update no
socket "{socket}"
holdtime 15
neighbor {there} {{
    remote-as {as_there}
    local-address {here}
}}
allow from any
allow to any
"""


class OpenBgpd(LoggingApplication):
    name = "OpenBGPD"
    ports = (179,)
    after = None
    phases = phases.MUTUAL
    stall_s = 1.2
    stale_s = 12.0
    spread_after_cut_s = 2.0
    began = rb"neighbor (\S+): state change \S+ -> Established"
    ended_again = rb"neighbor (\S+): state change Established ->"

    def __init__(self):
        super().__init__()
        self.program = find_program("bgpd", "openbgpd", "/usr/sbin")
        try:
            # Without its directory, which goes with /run, it does not start.
            os.makedirs(pwd.getpwnam("_openbgpd").pw_dir, exist_ok=True)
        except KeyError:
            pass

    def command(self, lane, host, unit):
        path = lane.path(host, f"openbgpd-{unit}.conf")
        with open(path, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(CONFIGURATION.format(
                unit=unit, side=host.side, as_here=65000 + host.side, as_there=65003 - host.side,
                here=lane.address(unit, host.side), there=lane.address(unit, 3 - host.side),
                socket=lane.path(host, f"socket-{unit}")))
        return [self.program, "-d", "-v", "-f", path]
