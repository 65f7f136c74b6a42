# SPDX-License-Identifier: BSD-2-Clause
"""A refused dial is a plain failure to real programs, reported at once."""

import os
import shutil
import sys

from harness import IPV4, IPV6, PATIENCE, PORT, TIME_SCALE, Skip, helper, run
from registry import core, each, needs, test
from steps import assert_refused, dial, link_out

PYTHON = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
except ConnectionRefusedError as error:
    print("refused:", error)
    sys.exit(1)
print("connected")
"""

ASYNCIO = """
import asyncio, sys
async def main():
    try:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(sys.argv[1], int(sys.argv[2])), 30)
    except ConnectionRefusedError as error:
        print("refused:", error)
        return 1
    print("connected")
    writer.close()
    return 0
sys.exit(asyncio.run(main()))
"""

NODE = """
const socket = require('net').connect({ host: process.argv[1], port: Number(process.argv[2]) });
socket.on('connect', () => { console.log('connected'); process.exit(0); });
socket.on('error', (error) => { console.log('refused:', error.code); process.exit(1); });
setTimeout(() => { console.log('nothing'); process.exit(2); }, 30000);
"""

GO = """
package main

import (
    "errors"
    "fmt"
    "net"
    "os"
    "syscall"
    "time"
)

func main() {
    _, err := net.DialTimeout("tcp", net.JoinHostPort(os.Args[1], os.Args[2]), 30*time.Second)
    if err == nil {
        fmt.Println("connected")
        return
    }
    fmt.Println(err)
    if errors.Is(err, syscall.ECONNREFUSED) {
        fmt.Println("refused")
    }
    os.Exit(1)
}
"""


def need(program):
    path = shutil.which(program)
    if path is None:
        raise Skip(f"{program} is missing")
    return path


def go_program(lab):
    """The Go dialer, built once a run."""
    path = os.path.join(lab.directory, "godial")
    if not os.path.exists(path):
        need("go")
        source = path + ".go"
        with open(source, "w", encoding="utf-8") as file:
            file.write(GO)
        status, text = run("go", "build", "-o", path, source, check=False, timeout=100,
                           env=dict(os.environ, CGO_ENABLED="0", GO111MODULE="off"),
                           cwd=lab.directory)
        if status:
            raise Skip(f"go does not build here: {text.strip().splitlines()[-1]}")
    return path


RUNTIMES = {
    "C, blocking": lambda lab: [helper("dialer"), "blocking"],
    "C, non-blocking with poll": lambda lab: [helper("dialer"), "poll"],
    "Python": lambda lab: [sys.executable, "-S", "-c", PYTHON],
    "Python, asyncio": lambda lab: [sys.executable, "-S", "-c", ASYNCIO],
    "Node": lambda lab: [need("node"), "-e", NODE],
    "Go": lambda lab: [go_program(lab)],
}


def refused_dial_of(lab, arguments, peer):
    """Run the program against a linked peer; it must fail at once and leave no mark."""
    guard = lab.guard()
    watch = guard.watch()
    link = link_out(lab, peer)
    before = lab.home.snmp("Tcp", "ActiveOpens")
    outcome = lab.home("run", arguments=arguments, timeout=PATIENCE * TIME_SCALE)
    event = watch.event(peer, "dial_linked")
    assert event["enforced"] is True and event["other_cookie"] == link.cookie, event
    assert lab.home.snmp("Tcp", "ActiveOpens") == before, "a SYN left"
    assert watch.grown()["dial_linked"] >= 1
    assert link.alive()
    return outcome


@each(*(f"{runtime}, {family}" for runtime in RUNTIMES for family in (IPV4, IPV6)))
@core("C, blocking, IPv4", "C, non-blocking with poll, IPv6", "Python, IPv4")
@needs("refusal_errno")
def fails_as_refused(lab, case):
    runtime, family_name = case.rsplit(", ", 1)
    family = {"IPv4": IPV4, "IPv6": IPV6}[family_name]
    command = RUNTIMES[runtime](lab)
    lab.guard()
    # The same program, where nothing is in its way.
    open_peer = lab.fresh(family)
    open_peer.listen()
    outcome = lab.home("run", arguments=command + [open_peer.address, str(PORT)],
                       timeout=PATIENCE * TIME_SCALE)
    assert outcome["status"] == 0 and outcome["stdout"] == "connected\n", outcome
    peer = lab.fresh(family)
    outcome = refused_dial_of(lab, command + [peer.address, str(PORT)], peer)
    assert outcome["status"] == 1, outcome
    assert "refused" in outcome["stdout"].lower(), outcome


@each(IPV4, IPV6)
@needs("refusal_errno")
def curl_fails_as_refused(lab, family):
    curl = need("curl")
    peer = lab.fresh(family)
    host = f"[{peer.address}]" if family is IPV6 else peer.address
    outcome = refused_dial_of(lab, [curl, "-sS", "--max-time", "30", f"http://{host}:{PORT}/"], peer)
    assert outcome["status"] == 7, outcome
    assert "Couldn't connect" in outcome["stderr"] or "refused" in outcome["stderr"], outcome


@test
@core()
def a_non_blocking_socket_polls_writable_without_an_error_afterwards(lab):
    """connect() told the errno; who overlooks it finds SO_ERROR 0 and no connection."""
    guard, peer = lab.guard(), lab.fresh()
    watch = guard.watch()
    link_out(lab, peer)
    result = assert_refused(dial(lab, peer, blocking=False, keep_failed=True))
    outcome = lab.home("settle", fd=result["fd"], timeout=PATIENCE)
    assert outcome["errno"] == "success" and outcome["state"] == 7, outcome
    watch.event(peer, "dial_linked", cookie=result["cookie"])


@test
@core()
def a_refused_socket_can_dial_again_when_the_peer_is_free(lab):
    guard, peer = lab.guard(min_uptime="0s"), lab.fresh()
    watch = guard.watch()
    link = link_out(lab, peer)
    result = assert_refused(dial(lab, peer, keep_failed=True))
    link.close()
    watch.event(peer, "link_ended")
    again = lab.home("connect", fd=result["fd"], address=peer.dial, port=PORT)
    assert again["errno"] == "success", again
    watch.event(peer, "link_outbound", cookie=result["cookie"])
    watch.counted(dial_idle=2, link_outbound=2, dial_linked=1, link_ended=1)
