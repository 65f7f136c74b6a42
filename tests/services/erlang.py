# SPDX-License-Identifier: BSD-2-Clause
"""Erlang's distribution: nodes of a cluster, each of which dials the other by its name."""

from application import LoggingApplication, find_program

PORT = 9100
# Once a second, as applications do that keep a cluster together.
PROGRAM = """\
net_kernel:monitor_nodes(true),
[io:put_chars("node is up\\n") || _ <- nodes()],
(fun Loop() ->
    net_kernel:connect_node('{peer}'),
    (fun Tell(Left) -> receive
        {{nodeup, _}} -> io:put_chars("node is up\\n"), Tell(Left);
        {{nodedown, _}} -> io:put_chars("node is down\\n"), Tell(Left)
    after 100 -> if Left > 0 -> Tell(Left - 1); true -> ok end end end)(9),
    Loop()
end)().
"""


class Erlang(LoggingApplication):
    name = "Erlang distribution"
    ports = (PORT,)
    # Who hears nothing for a time of 12 to 20 s takes the other for gone.
    stale_s = 8.0
    # It tries once a second.
    spread_s = 1.0
    spread_after_cut_s = 3.0
    began = rb"(node) is up"
    ended_again = rb"(node) is down"

    def __init__(self):
        super().__init__()
        self.program = find_program("erl", "erlang-base")

    @staticmethod
    def ipv6(_number):
        return False

    def command(self, lane, host, unit):
        here = lane.address(unit, host.side)
        peer = f"node@{lane.address(unit, 3 - host.side)}"
        return ["env", f"HOME={lane.path(host, '')}", self.program, "-noinput", "-name", f"node@{here}",
                "-setcookie", "connguard", "-start_epmd", "false", "-erl_epmd_port", str(PORT),
                "+S", "1:1", "+A", "1", "-kernel", "net_ticktime", "16",
                "-kernel", "inet_dist_use_interface", "{" + here.replace(".", ",") + "}",
                "-eval", " ".join(PROGRAM.format(peer=peer).split())]
