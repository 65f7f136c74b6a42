# SPDX-License-Identifier: BSD-2-Clause
"""NATS: message brokers with a route between them, which both ends dial once a second."""

import json
import re
import socket

import phases
from application import APART, Application, find_program
from tap import inside

CONFIGURATION = """\
server_name: {me}
listen: "127.0.0.{unit}:4222"
http: "127.0.0.{unit}:8222"
cluster {{
    name: test
    listen: "{here}:6222"
    routes: ["nats-route://{there}:6222"]
}}
"""


class Nats(Application):
    """One broker for each pair. A second route between the same two is ended by the one that finds it."""

    name = "NATS"
    ports = (6222,)
    pairs = 3
    after = APART
    phases = phases.ONE_WAY
    poll_s = 0.05
    # It tries once a second, and both ends may end what crosses.
    spread_s = spread_after_cut_s = 1.5

    def __init__(self):
        super().__init__()
        self.program = find_program("nats-server", "nats-server")

    @staticmethod
    def ipv6(_number):
        return False

    def units(self, _lane, _host):
        return self.numbers

    def command(self, lane, host, unit):
        path = lane.path(host, f"nats-{unit}.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(
                me=f"{host.role}-{unit}", unit=unit, here=lane.address(unit, host.side),
                there=lane.address(unit, 3 - host.side)))
        return [self.program, "-c", path]

    def up(self, lane, host, since):
        return {unit for unit in self.numbers if self.routes(lane, host, unit)}

    def routes(self, lane, host, unit):
        """How many the broker has, by its own page."""
        key = f"{lane.path(host, '')}{unit}"
        try:
            if key not in self.controls:
                with inside(host.namespace):
                    asking = socket.socket()
                self.controls[key] = asking
                asking.settimeout(2)
                asking.connect((f"127.0.0.{unit}", 8222))
            control = self.controls[key]
            control.sendall(b"GET /routez HTTP/1.1\r\nHost: x\r\n\r\n")
            with control.makefile("rb") as stream:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = stream.readline()
                    if not line:
                        raise OSError("closed")
                    head += line
                length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
                return json.loads(stream.read(length))["num_routes"]
        except OSError:
            self.forget(key)
            return 0
