# SPDX-License-Identifier: BSD-2-Clause
"""A guard without a daemon: loaded with bpftool alone, taken over later."""

import json
import os
import shutil
import signal
import socket

from harness import BPFTOOL, BUILD, CGROUP_HOOKS, PORT, SECOND, TOP, Skip, run, wait_for
from prober import Prober
from registry import core, each_family, test
from steps import (assert_dial_refused, assert_knock_refused, assert_passed, assert_refused, dial,
                   link_in, link_out, listen_home, refusal)

LOAD = os.path.join(TOP, "scripts", "bpftool-load.sh")
UNLOAD = os.path.join(TOP, "scripts", "bpftool-unload.sh")
ENVIRONMENT = dict(os.environ, BPFTOOL=BPFTOOL,
                   CONNGUARD_OBJECT=os.path.join(BUILD, "bpf", "connguard.bpf.o"))


def load(lab):
    if not os.path.exists(LOAD):
        raise Skip(f"there is no {LOAD}")
    guard = lab.own_guard(start=False)
    lab.at_end(lambda: run(UNLOAD, guard.name, lab.home.cgroup, check=False, env=ENVIRONMENT))
    _status, text = run(LOAD, guard.name, lab.home.cgroup, str(PORT), env=ENVIRONMENT)
    assert "enforces" in text, text
    return guard


def in_map(guard, peer):
    """The peer's element of the map, as bpftool shows it."""
    _status, text = run(BPFTOOL, "-j", "map", "dump", "pinned", f"{guard.pins}/peers")
    number = socket.inet_pton(socket.AF_INET6, peer.address if peer.family.version == 6
                              else f"::ffff:{peer.address}")
    value, = [value for entry in json.loads(text) for value in [entry["formatted"]["value"]]
              if bytes(value["address"]["bytes"]) == number]
    return value


def enforced(guard):
    return guard.cli_json("status")[1]["counters"]["enforced"]


@each_family
@core("IPv4", "IPv6")
def alone_makes_a_guard(lab, family):
    guard, peer = load(lab), lab.fresh(family)
    listener = listen_home(lab, family)
    link_out(lab, peer)
    assert_refused(dial(lab, peer))
    # Without sk_lookup a knock is dropped.
    knock = peer.knock(blocking=False)
    wait_for(lambda: enforced(guard).get("knock_linked"), "the knock is refused")
    assert peer.host("settle", fd=knock["fd"], timeout=0.3) is None
    assert lab.home("accept", fd=listener, timeout=0.1) is None
    # The built-in policy: a backoff of a tenth of a second, less a fifth at most.
    failed = lab.fresh(family)
    assert dial(lab, failed)["errno"] == "ECONNREFUSED"
    value = in_map(guard, failed)
    assert 0.08 * SECOND <= value["next_attempt_ns"] - value["failed_ns"] <= 0.1 * SECOND, value
    assert value["failure"] == "ENDING_RESET" and value["address"]["service"] == PORT, value
    counters = enforced(guard)
    assert counters["dial_linked"] == 1 and counters["dial_failed"] == 1, counters
    _status, text = run(UNLOAD, guard.name, lab.home.cgroup, env=ENVIRONMENT)
    assert "gone" in text and not guard.attached() and not os.path.exists(guard.pins), text
    assert_passed(dial(lab, peer))


@test
def status_names_what_is_reduced(lab):
    guard = load(lab)
    _status, document = guard.cli_json("status")
    hooks = {hook["name"]: hook for hook in document["hooks"]}
    assert hooks["connect4"]["attached"] and not hooks["connect4"]["pinned"], hooks
    assert not hooks["sk_lookup"]["attached"], hooks
    assert any("sk_lookup" in problem for problem in document["problems"]), document


@each_family
@core("IPv4")
def is_taken_over_by_a_daemon(lab, family):
    guard, peer = load(lab), lab.fresh(family)
    listen_home(lab, family)
    link = link_out(lab, peer)
    prober = Prober(lab, lab.home, peer.dial)
    prober.wait_dials(20)
    guard.start()
    prober.wait_dials(50)
    prober.assert_no_gap()
    status = guard.status()
    assert status["healthy"] and all(hook["pinned"] for hook in status["hooks"]), status
    assert len(guard.attached()) == len(CGROUP_HOOKS), f"programs are attached twice: {guard.attached()}"
    assert guard.peer(peer.address)["links"][0]["cookie"] == link.cookie
    watch = guard.watch()
    assert_dial_refused(lab, watch, peer, "dial_linked")
    assert_knock_refused(watch, peer)
    link.close()
    watch.event(peer, "link_ended", cookie=link.cookie)
    guard.stop()


@test
def refuses_a_name_that_is_taken(lab):
    guard = load(lab)
    status, text = run(LOAD, guard.name, lab.home.cgroup, str(PORT), env=ENVIRONMENT, check=False)
    assert status == 1 and "already" in text, (status, text)
    assert len(guard.attached()) == len(CGROUP_HOOKS), guard.attached()


@test
@core()
def unloads_what_a_daemon_left(lab):
    guard, peer = lab.own_guard(), lab.fresh()
    link_in(lab, peer, listen_home(lab))
    guard.end(signal.SIGKILL)
    _status, text = run(UNLOAD, guard.name, env=ENVIRONMENT)
    assert "gone" in text and not guard.attached() and not os.path.exists(guard.pins), text
    assert_passed(peer.knock())


@test
def unloads_under_a_daemon_that_runs(lab):
    """Which holds the links, and must not pin again what was taken away."""
    guard, peer = lab.own_guard(), lab.fresh()
    link_out(lab, peer)
    run(UNLOAD, guard.name, env=ENVIRONMENT)
    assert not guard.attached() and not os.path.exists(guard.pins)
    assert_passed(dial(lab, peer))
    guard.wait_log("the guard was removed under its daemon")
    assert not guard.attached() and not os.path.exists(guard.pins)
    status, text = guard.cli("status")
    assert status == 1 and "removed under its daemon" in text, (status, text)


@test
def a_load_that_was_killed_is_cleared_away(lab):
    """With its programs, which hang on the cgroup alone."""
    guard = lab.own_guard(start=False)
    killer = os.path.join(guard.directory, "bpftool")
    with open(killer, "w", encoding="ascii") as file:
        # The script runs it in a subshell.
        file.write('#!/bin/sh\ncase "$*" in\n'
                   '*connect6*) kill -9 $(ps -o ppid= -p $PPID) $PPID; exit 1 ;;\nesac\n'
                   f'exec {shutil.which(BPFTOOL) or BPFTOOL} "$@"\n')
    os.chmod(killer, 0o755)
    status, _text = run(LOAD, guard.name, lab.home.cgroup, str(PORT), check=False,
                        env=dict(ENVIRONMENT, BPFTOOL=killer))
    assert status == -signal.SIGKILL and len(guard.attached()) >= 5, (status, guard.attached())
    status, text = guard.cli("status")
    assert status == 1 and "did not finish" in text, (status, text)
    guard.start()
    assert len(guard.attached()) == len(CGROUP_HOOKS), guard.attached()
    hooks = guard.status()["hooks"]
    assert all(hook["pinned"] and not hook["foreign"] for hook in hooks), hooks
