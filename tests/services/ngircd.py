# SPDX-License-Identifier: BSD-2-Clause
"""ngIRCd: chat servers with a link between them, which both ends dial."""

from application import LoggingApplication, find_program

# The defaults are hours to a test: connect retry 60, ping timeout 120, pong timeout 20 seconds.
CONFIGURATION = """\
[Global]
Name = {me}.test
Info = a server
Listen = {here}
Ports = 6667
ServerUID = root
ServerGID = root
PidFile = {pid}
[Limits]
ConnectRetry = 5
PingTimeout = 15
PongTimeout = 15
[Options]
DNS = no
Ident = no
PAM = no
ChrootDir =
[Server]
Name = {other}.test
Host = {there}
Bind = {here}
Port = 6667
MyPassword = of-{me}
PeerPassword = of-{other}
"""


class Ngircd(LoggingApplication):
    name = "ngIRCd"
    ports = (6667,)
    # It tries again every 5 s, and both ends may end what crosses.
    spread_s = spread_after_cut_s = 8.0
    began = rb'Server "\w+\.test" registered \(connection (\d+)'
    ended_again = rb'Server "\w+\.test" unregistered \(connection (\d+)'

    def __init__(self):
        super().__init__()
        self.program = find_program("ngircd", "ngircd")

    @staticmethod
    def ipv6(_number):
        return False

    def command(self, lane, host, unit):
        other = lane.far if host is lane.near else lane.near
        path = lane.path(host, f"ngircd-{unit}.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(
                me=host.role, other=other.role, here=lane.address(unit, host.side),
                there=lane.address(unit, other.side), pid=lane.path(host, f"pid-{unit}")))
        return [self.program, "--nodaemon", "--config", path]
