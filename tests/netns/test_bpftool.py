# SPDX-License-Identifier: BSD-2-Clause
"""A guard without a daemon: loaded with bpftool alone, taken over later."""

import json
import os
import shutil
import shlex
import signal
import socket

from harness import BPFTOOL, BUILD, CGROUP_HOOKS, PORT, RUN, SECOND, TOP, Skip, run, wait_for
from prober import Prober
from registry import core, each, each_family, test
from steps import (assert_dial_refused, assert_knock_refused, assert_passed, assert_refused, dial,
                   link_in, link_out, listen_home, refusal)

LOAD = os.path.join(TOP, "scripts", "bpftool-load.sh")
COMPLETION = os.path.join(TOP, "scripts", "completion", "connguard.bash")
UNLOAD = os.path.join(TOP, "scripts", "bpftool-unload.sh")
ENVIRONMENT = dict(os.environ, BPFTOOL=BPFTOOL,
                   CONNGUARD_OBJECT=os.path.join(BUILD, "bpf", "connguard.bpf.o"))


def load(lab, guard=None):
    """A guard, or this one, which is not there."""
    if not os.path.exists(LOAD):
        raise Skip(f"there is no {LOAD}")
    guard = guard or lab.own_guard(start=False)
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


@test
def each_load_draws_a_key_of_the_handshake_table(lab):
    def key():
        guard = load(lab)
        _status, text = run(BPFTOOL, "-j", "map", "dump", "pinned", f"{guard.pins}/handshake_key")
        run(UNLOAD, guard.name, lab.home.cgroup, env=ENVIRONMENT)
        entry, = json.loads(text)
        return entry["formatted"]["value"]["words"]

    one, other = key(), key()
    assert len(one) == 6 and all(one) and one != other, (one, other)


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
    assert os.path.exists(guard.pins + ":lock")
    _status, text = run(UNLOAD, guard.name, env=ENVIRONMENT)
    assert "gone" in text and not guard.attached() and not os.path.exists(guard.pins), text
    assert not os.path.exists(guard.pins + ":lock")
    assert_passed(peer.knock())


@test
def unloads_under_a_daemon_that_runs(lab):
    """Which holds the links, and must not pin again what was taken away."""
    guard, peer = lab.own_guard(), lab.fresh()
    link_out(lab, peer)
    run(UNLOAD, guard.name, env=ENVIRONMENT)
    assert not guard.attached() and not os.path.exists(guard.pins)
    # Which is its own still.
    assert os.path.exists(guard.pins + ":lock")
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


# What a shell would make something of; none of it may make the file.
HOSTILE = {
    "blanks": " a  b ",
    "quotes": "it's \"so\"",
    "substitution": "$(touch evaluated) `touch evaluated` $((1+1)) ${HOME}",
    "end of a quotation": "'; touch evaluated; '\"; touch evaluated; \"",
    "commands": "x;touch evaluated&touch evaluated|touch evaluated",
    "patterns and backslashes": "\\040 * ? [a-z] ~ {a,b} -n",
    "control characters": "\x1b[2J\u009b2J",
}


class HostileNames:
    """The script, bpftool, the object and the cgroup, all in places of a name that a shell would obey."""

    def __init__(self, lab, name):
        self.guard = lab.own_guard(start=False, cgroup=f"{lab.home.cgroup_below}/{name}")
        self.cgroup = os.path.join(lab.home.cgroup, name)
        os.makedirs(self.cgroup, exist_ok=True)
        self.directory = os.path.join(self.guard.directory, name)
        os.makedirs(self.directory)
        for script in (LOAD, UNLOAD):
            shutil.copy(script, self.directory)
        shutil.copy(ENVIRONMENT["CONNGUARD_OBJECT"], self.directory)
        self.bpftool = os.path.join(self.directory, "bpftool")
        self.environment = dict(os.environ, BPFTOOL=self.bpftool)
        self.environment.pop("CONNGUARD_OBJECT", None)
        self.wrap_bpftool()

    def wrap_bpftool(self, first=""):
        with open(self.bpftool, "w", encoding="ascii") as file:
            file.write(f'#!/bin/sh\n{first}\nexec {shlex.quote(shutil.which(BPFTOOL) or BPFTOOL)} "$@"\n')
        os.chmod(self.bpftool, 0o755)

    def run(self, script, *arguments, **options):
        """Where what is evaluated leaves its file: in the directory, where no name has a slash."""
        status, text = run(os.path.join(self.directory, os.path.basename(script)), self.guard.name, *arguments,
                           env=self.environment, cwd=self.directory, **options)
        assert not os.path.exists(os.path.join(self.directory, "evaluated")), text
        assert all(letter.isprintable() or letter == "\n" for letter in text), f"{text!r}"
        return status, text


@each(*HOSTILE)
def a_path_is_a_path_whatever_it_is_called(lab, kind):
    place = HostileNames(lab, HOSTILE[kind])
    guard = place.guard
    for where in ([place.cgroup], []):
        _status, text = place.run(LOAD, place.cgroup, str(PORT))
        assert "enforces" in text and sorted(guard.attached()) == sorted(CGROUP_HOOKS), (text, guard.attached())
        # What it says to copy does what it says.
        unload, = [line for line in text.splitlines() if line.startswith("unload:")]
        assert shlex.split(unload.removeprefix("unload:"))[1:2] == [guard.name], unload
        _status, text = place.run(UNLOAD, *where)
        assert "gone" in text and not guard.attached() and not os.path.exists(guard.pins), text
    # Taken back, whole, when the last hook cannot be attached.
    place.wrap_bpftool('case "$*" in *"attach"*connect6*) echo no >&2; exit 1 ;; esac')
    status, text = place.run(LOAD, place.cgroup, str(PORT), check=False)
    assert status == 1 and "is undone" in text and not guard.attached(), (status, text, guard.attached())
    assert not os.path.exists(guard.pins), os.listdir(guard.pins)


@each(*HOSTILE)
def what_is_attached_elsewhere_is_found_whatever_it_is_called(lab, kind):
    """Programs at a second cgroup, of which neither the layout nor the command line tells."""
    place = HostileNames(lab, HOSTILE[kind])
    guard = place.guard
    place.run(LOAD, lab.home.cgroup, str(PORT))
    run(BPFTOOL, "cgroup", "attach", place.cgroup, "cgroup_sock_ops", "pinned", f"{guard.pins}/programs/sock_ops",
        "multi")
    assert guard.attached() == ["sock_ops"], guard.attached()
    _status, text = place.run(UNLOAD)
    assert "gone" in text and not guard.attached(), (text, guard.attached())
    guard.cgroup = lab.home.cgroup_below
    assert not guard.attached(), guard.attached()


@test
def completion_evaluates_no_name(lab):
    guard = lab.own_guard(start=False)
    for name in (f"{guard.name}-$(touch evaluated)", f"{guard.name}-`touch evaluated`", f"{guard.name}-x"):
        path = os.path.join(RUN, name + ".sock")
        with open(path, "w", encoding="ascii"):
            lab.at_end(os.unlink, path)
    _status, text = run("bash", "-c", f'source "$1"; COMP_WORDS=(connguard -n "$2"); COMP_CWORD=2; _connguard\n'
                        'printf "%s\\n" "${COMPREPLY[@]}"', "-", COMPLETION, guard.name, cwd=guard.directory)
    assert text.split() == [f"{guard.name}-x"] and not os.path.exists(os.path.join(guard.directory, "evaluated")), text
