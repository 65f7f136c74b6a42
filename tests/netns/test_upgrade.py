# SPDX-License-Identifier: BSD-2-Clause
"""No gap, in both directions: a prober that dials and one that knocks, a dial each millisecond.

Whatever the daemon goes through meanwhile, each of their dials must be refused at once, since the
peer is linked. The link is kept talking, so that nobody has to doubt that it lives.
"""

import json
import os
import random
import shutil
import signal
import time

from harness import BPFTOOL, CGROUP_HOOKS, CLI, DAEMON, IPV4, PORT, now_ns, run, wait_past
from prober import Prober
from registry import each, test
from steps import ESTABLISHED, link_out
from test_bpftool import load

# How often it is killed at a random moment, and the moments: up to a little past a whole start.
KILLS = 6


class Besieged:
    """A guarded cgroup (default: home's) with a linked peer, dialed and knocked at all the time."""

    def __init__(self, lab, knocks=("ECONNREFUSED",), cgroup=None):
        self.knocks = knocks
        self.peer = lab.fresh()
        self.worker = lab.home.add_worker("cgt-besieged", cgroup) if cgroup else lab.home
        self.listener = self.worker("listen", address=IPV4.listen, port=PORT)
        self.link = link_out(lab, self.peer, self.worker)
        self.worker("chat", fd=self.link.here)
        self.peer.host("chat", fd=self.link.there)
        self.dialer = Prober(lab, lab.home, self.peer.dial, cgroup=cgroup)
        self.knocker = Prober(lab, lab.left, "10.77.0.1", source=self.peer.address)
        self.wait()

    def wait(self, dials=50):
        """A while under siege."""
        self.dialer.wait_dials(dials)
        self.knocker.wait_dials(dials)

    def assert_no_gap(self, least):
        results = (self.dialer.assert_no_gap(least),
                   self.knocker.assert_no_gap(least, self.knocks))
        states = self.worker("state", fd=self.link.here), self.peer.host("state", fd=self.link.there)
        assert states == (ESTABLISHED, ESTABLISHED), f"the link did not survive it: {states}"
        assert self.worker("accept", fd=self.listener, timeout=0) is None, "a knock got in"
        return results


@test
def kill_9_at_random_moments_leaves_no_gap(lab):
    guard = lab.own_guard()
    siege = Besieged(lab)
    guard.end(signal.SIGKILL)
    began = time.monotonic()
    guard.start()
    whole = time.monotonic() - began
    seed = random.randrange(1 << 32)
    moments = random.Random(seed)
    for _ in range(KILLS):
        guard.end(signal.SIGKILL)
        guard.start_only()
        wait_past(now_ns() + int(moments.uniform(0, 1.2 * whole) * 1e9))
    guard.end(signal.SIGKILL)
    guard.start()
    siege.wait()
    try:
        siege.assert_no_gap(1000)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
    status = guard.status()
    assert status["healthy"] and len(guard.attached()) == len(CGROUP_HOOKS), (status, guard.attached())
    assert sorted(os.listdir(f"{guard.pins}/links")) == [
        "connect4", "connect6", "egress", "ingress", "sk_lookup", "sock_ops", "sock_release"]
    assert guard.peer(siege.peer.address)["links"][0]["cookie"] == siege.link.cookie


def another_binary(lab, guard):
    """The daemon as another file of another version, as an upgrade brings it."""
    path = os.path.join(guard.directory, "connguardd-next")
    _status, text = run(DAEMON, "--version")
    with open(DAEMON, "rb") as old, open(path, "wb") as new:
        code = old.read()
        version = text.split()[1].encode()
        other = b"9" + version[1:]
        assert code.count(b"connguardd " + version) >= 1, "the binary does not know its version"
        new.write(code.replace(b"connguardd " + version, b"connguardd " + other))
    shutil.copymode(DAEMON, path)
    assert run(path, "--version")[1] == f"connguardd {other.decode()}\n"
    return path


@test
def reload_restart_and_upgrade_leave_no_gap(lab):
    """An upgrade is a restart: the new program takes over what the old one has left."""
    guard = lab.own_guard()
    siege = Besieged(lab)
    programs = {hook["name"]: hook["program_id"] for hook in guard.status()["hooks"]}
    for way in (lambda: guard.signal(signal.SIGHUP), lambda: guard.tell("reload")):
        way()
        siege.wait()
    assert guard.end(signal.SIGQUIT) == 0
    siege.wait()
    guard.start(program=another_binary(lab, guard))
    siege.wait()
    assert os.readlink(f"/proc/{guard.process.pid}/exe").endswith("connguardd-next")
    hooks = guard.status()["hooks"]
    assert all(hook["program_id"] != programs[hook["name"]] for hook in hooks), (programs, hooks)
    # And back.
    assert guard.end(signal.SIGQUIT) == 0
    guard.start()
    siege.wait()
    siege.assert_no_gap(300)
    assert guard.status()["healthy"] and guard.status()["counters"]["enforced"]["knock_linked"] > 300
    event = guard.events.wait(address=siege.peer.address, cause="dial_linked")
    assert event["command"] == "cgt-prober", event
    assert guard.peer(siege.peer.address)["links"][0]["cookie"] == siege.link.cookie


@test
def an_upgrade_that_cannot_start_leaves_the_guard(lab):
    guard = lab.own_guard()
    siege = Besieged(lab)
    good = guard.options
    assert guard.end(signal.SIGQUIT) == 0
    guard.write(dict(good, peers="/nonexistent/peers"))
    status, text = run(*lab.home.inside(DAEMON, "-c", guard.file, guard.name), check=False)
    assert status != 0 and "/nonexistent/peers" in text, (status, text)
    siege.wait()
    status, document = guard.cli_json("status")
    assert status == 1 and all(hook["attached"] for hook in document["hooks"]), (status, document)
    assert any("daemon" in problem for problem in document["problems"]), document["problems"]
    guard.write(good)
    guard.start()
    siege.wait()
    siege.assert_no_gap(150)


@test
def taken_over_from_bpftool_without_a_gap(lab):
    """Its knocks are dropped until the daemon brings sk_lookup, which answers them: none gets in."""
    guard = load(lab)
    siege = Besieged(lab, knocks=("ECONNREFUSED", "silent"))
    guard.start()
    siege.wait()
    dialed, knocked = siege.assert_no_gap(100)
    assert dialed["outcomes"].keys() == {"ECONNREFUSED"}, dialed
    assert knocked["outcomes"].keys() == {"ECONNREFUSED", "silent"}, knocked
    assert guard.status()["healthy"] and len(guard.attached()) == len(CGROUP_HOOKS)


def kernel_ids(guard):
    """Everything of the guard that has an id in the kernel."""
    ids = {}
    for path in [guard.pins] + [os.path.join(guard.pins, name) for name in ("links", "programs")]:
        for name in sorted(os.listdir(path)):
            kind = {"links": "link", "programs": "prog"}.get(os.path.basename(path), "map")
            pin = os.path.join(path, name)
            if os.path.isfile(pin):
                _status, text = run(BPFTOOL, kind, "show", "pinned", pin)
                ids[pin] = text.split(":")[0]
    return ids


@each("another number", "another size", "another size of one map")
def another_layout_is_refused_and_left_alone(lab, how):
    guard = lab.own_guard()
    siege = Besieged(lab)
    guard.end(signal.SIGQUIT)
    pin = f"{guard.pins}/{'networks' if 'map' in how else 'layout'}"
    kept = pin + "-kept"
    if how == "another number":
        old = json.loads(run(BPFTOOL, "-j", "map", "dump", "pinned", pin)[1])[0]["value"]
        run(BPFTOOL, "map", "update", "pinned", pin, "key", "0", "0", "0", "0",
            "value", "hex", "63", "00", "00", "00", *(byte[2:] for byte in old[4:]))
        words = ["map layout 99", "layout 3", "stays as it is", "unload it first"]
    elif how == "another size of one map":
        os.rename(pin, kept)
        run(BPFTOOL, "map", "create", pin, "type", "hash", "key", "8", "value", "24",
            "entries", "1", "name", "networks")
        words = [f"{pin} has another layout (keys of 8 bytes and values of 24, expected 8 and 16)",
                 "stays as it is", "unload it first"]
    else:
        os.rename(pin, kept)
        run(BPFTOOL, "map", "create", pin, "type", "array", "key", "4", "value", "64",
            "entries", "1", "name", "layout")
        words = ["layout word of another size", "stays as it is", "unload it first"]
    before = kernel_ids(guard)
    for command in ([DAEMON, "-c", guard.file, guard.name],
                    [CLI, "-n", guard.name, "--config", guard.file, "load"]):
        status, text = run(*lab.home.inside(*command), check=False)
        assert status == 1 and all(word in text for word in words), (status, text)
    for command in ("status", "peers", "panic"):
        status, text = guard.cli(command)
        assert status == 1 and words[0] in text, (status, text)
    siege.wait()
    assert kernel_ids(guard) == before
    # What it printed for a panic works on any version.
    assert "map update pinned" in text, text
    if how == "another number":
        run(BPFTOOL, "map", "update", "pinned", pin, "key", "0", "0", "0", "0",
            "value", *old)
    else:
        os.unlink(pin)
        os.rename(kept, pin)
    guard.start()
    siege.wait()
    siege.assert_no_gap(150)
    assert guard.status()["healthy"]
