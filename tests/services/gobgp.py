# SPDX-License-Identifier: BSD-2-Clause
"""GoBGP: BGP with both ends active, in a language with a runtime of its own."""

import phases
from application import LoggingApplication, find_program

# The defaults are hours to a test: connect retry 120, hold 90, keepalive 30, idle hold 30 seconds.
CONFIGURATION = """\
[global.config]
  as = {as_here}
  router-id = "10.90.{side}.{unit}"
  port = 179
  local-address-list = ["{here}"]
[[neighbors]]
  [neighbors.config]
    neighbor-address = "{there}"
    peer-as = {as_there}
  [neighbors.transport.config]
    local-address = "{here}"
  [neighbors.timers.config]
    connect-retry = 5
    hold-time = 15
    keepalive-interval = 3
    idle-hold-time-after-reset = 2
"""


class GoBgp(LoggingApplication):
    name = "GoBGP"
    ports = (179,)
    after = None
    phases = phases.MUTUAL
    stall_s = 6.0
    stale_s = 12.0
    # It dials when it has been idle for up to 5 s, drawn anew each time.
    spread_s = 5.0
    spread_after_cut_s = 8.0
    began = rb'msg="Peer Up" Key=(\S+)'
    ended_again = rb'msg="Peer Down" Key=(\S+)'

    def __init__(self):
        super().__init__()
        self.program = find_program("gobgpd", "gobgpd")

    def command(self, lane, host, unit):
        path = lane.path(host, f"gobgp-{unit}.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(
                unit=unit, side=host.side, as_here=65000 + host.side, as_there=65003 - host.side,
                here=lane.address(unit, host.side), there=lane.address(unit, 3 - host.side)))
        return [self.program, "--config-file", path, "--log-plain", "--api-hosts", f"127.0.0.{unit}:50051"]
