# SPDX-License-Identifier: BSD-2-Clause
"""Syncthing: file synchronisation between devices, which dial each other."""

import os
import shutil
import subprocess

import phases
from application import LoggingApplication, find_program

# The default is hours to a test: reconnection 60 seconds. And nobody is asked for the way.
CONFIGURATION = """\
<configuration version="36">
    {devices}
    <gui enabled="true" tls="false"><address>127.0.0.{unit}:8384</address></gui>
    <options>
        <listenAddress>{listen}</listenAddress>
        <globalAnnounceEnabled>false</globalAnnounceEnabled>
        <localAnnounceEnabled>false</localAnnounceEnabled>
        <relaysEnabled>false</relaysEnabled>
        <natEnabled>false</natEnabled>
        <crashReportingEnabled>false</crashReportingEnabled>
        <reconnectionIntervalS>5</reconnectionIntervalS>
        <urAccepted>-1</urAccepted>
        <autoUpgradeIntervalH>0</autoUpgradeIntervalH>
    </options>
</configuration>
"""
DEVICE = '<device id="{id}" name="{role}"><address>{uri}</address></device>'


class Syncthing(LoggingApplication):
    name = "Syncthing"
    ports = (22000,)
    after = None
    phases = phases.MUTUAL
    stall_s = 1.5
    # It tries again every 5 s, and both ends may end what crosses.
    spread_s = spread_after_cut_s = 6.0
    began = rb"Established secure connection to (\S+) at"
    ended_again = rb"Connection to (\S+) at .* closed"

    def __init__(self):
        super().__init__()
        self.program = find_program("syncthing", "syncthing")
        self.devices = {}

    def device(self, lane, role):
        """(directory of its key, name of the device): one for all instances at this end."""
        if role not in self.devices:
            directory = os.path.join(lane.lab.directory, f"device-{role}")
            for action in (["generate", "--no-default-folder", "--home", directory],
                           ["--home", directory, "--device-id"]):
                made = subprocess.run([self.program, *action], stdin=subprocess.DEVNULL, capture_output=True,
                                      check=True, env=dict(os.environ, HOME=directory))
            self.devices[role] = directory, made.stdout.decode().split()[-1]
        return self.devices[role]

    def command(self, lane, host, unit):
        directory = lane.path(host, f"syncthing-{unit}")
        devices = ""
        for one in (lane.near, lane.far):
            devices += DEVICE.format(id=self.device(lane, one.role)[1], role=one.role,
                                     uri=self.uri(lane, unit, one.side))
        if not os.path.exists(directory):
            os.makedirs(directory)
            for name in ("cert.pem", "key.pem"):
                shutil.copy(os.path.join(self.device(lane, host.role)[0], name), directory)
        with open(os.path.join(directory, "config.xml"), "w", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(devices=devices, unit=unit, listen=self.uri(lane, unit, host.side)))
        return ["env", f"HOME={directory}", self.program, "--no-restart", "--no-browser", "--home", directory]
