# SPDX-License-Identifier: BSD-2-Clause
"""The guard's places come and go: its cgroup, its network namespace, bpffs.

A service that is started anew has a new cgroup under the old path, and its first dials are those that
race: the guard must be told of the cgroup, not find it with its next heartbeat.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess

from harness import (BPFTOOL, CGROUP_HOOKS, CLI, DAEMON, PATIENCE, PORT, PREFIX, TIME_SCALE, Events,
                     die_with_parent, first_line, now_ns, remove_directory, run, wait_end, wait_for, wait_past)
from prober import Prober
from registry import test
from steps import (assert_dial_refused, assert_knock_refused, assert_passed, assert_refused, dial,
                   link_out, start_foreign)


# At each heartbeat of the daemon, every second, it would find what it is to be told. One may come before it
# has been told; not so often in a row.
TRIES = 20


def heartbeat(guard):
    """The daemon's sign of life: another one with each heartbeat, before it looks for anything."""
    return run(BPFTOOL, "-j", "map", "dump", "pinned", f"{guard.pins}/daemon")[1]


class Service:
    """A cgroup of its own below home's namesake, and who is in it."""

    def __init__(self, lab, name="service"):
        self.lab = lab
        self.below = f"/{PREFIX}/{name}"
        self.path = os.path.join(lab.cgroups, PREFIX, name)
        self.worker = None
        os.mkdir(self.path)
        lab.at_end(self.stop)

    def start(self):
        self.worker = self.lab.home.add_worker("cgt-service", cgroup=self.path)
        return self.worker

    def stop(self):
        """As its manager does: every process is ended, then the cgroup is removed."""
        if self.worker:
            self.worker.kill()
            self.worker = None
        wait_for(lambda: remove_directory(self.path), f"{self.path} is empty")

    def make(self):
        os.mkdir(self.path)


def in_backoff(lab, guard, worker):
    """A peer that is up and in backoff: a dial to it is refused by the guard or by nobody."""
    peer = lab.fresh()
    result = dial(lab, peer, worker)
    assert result["errno"] == "ECONNREFUSED", result
    guard.events.wait(address=peer.address, cause="dial_failed")
    peer.listen()
    assert_refused(dial(lab, peer, worker))
    return peer


def hooks_of(guard):
    return {hook["name"]: hook for hook in guard.cli_json("status")[1]["hooks"]}


# ---- cgroup ----------------------------------------------------------------------------------------


@test
def a_service_that_is_started_anew_is_followed_at_once(lab):
    service = Service(lab)
    guard = lab.own_guard(cgroup=service.below, initial="60s", max="60s", min_uptime="0s")
    worker, linked = service.start(), lab.fresh()
    link_out(lab, linked, worker)
    peer = in_backoff(lab, guard, worker)
    before = guard.peer(peer.address)
    service.stop()
    # Meanwhile the truth is told, by the daemon and in the log.
    wait_for(lambda: guard.cli("status")[0] == 1, "status tells")
    status, document = guard.cli_json("status")
    assert any("cgroup is gone" in problem for problem in document["problems"]), document["problems"]
    assert document["cgroup"] is None and not hooks_of(guard)["connect4"]["attached"], document
    guard.wait_log("the guarded cgroup .* is gone")
    told = 0
    for _ in range(TRIES):
        before_it = heartbeat(guard)
        service.make()
        wait_for(lambda: len(guard.attached()) == len(CGROUP_HOOKS), "the hooks are at the new cgroup")
        told += heartbeat(guard) == before_it
        prober = Prober(lab, lab.home, peer.address, cgroup=service.path)
        prober.wait_dials(20)
        prober.assert_no_gap(20)
        wait_for(lambda: remove_directory(service.path), "the cgroup is empty")
        if told == 3:
            break
    assert told == 3, "found by the heartbeat, not told"
    service.make()
    wait_for(lambda: guard.cli("status")[0] == 0, lambda: guard.cli("status")[1])
    guard.wait_log("has followed its service: cgroup")
    document = guard.status()
    assert document["cgroup"] == service.path and len(guard.attached()) == len(CGROUP_HOOKS), document
    assert len(os.listdir(f"{guard.pins}/links")) == len(CGROUP_HOOKS) + 1, os.listdir(f"{guard.pins}/links")
    # What it knew it knows, and what it does it does.
    after = guard.peer(peer.address)
    assert after["next_attempt_ns"] == before["next_attempt_ns"], (before, after)
    worker, watch = service.start(), guard.watch()
    assert guard.peer(linked.address)["links"] == []
    link_out(lab, linked, worker)
    assert_dial_refused(lab, watch, linked, "dial_linked", worker=worker)
    worker("listen", address="10.77.0.1", port=PORT)
    assert_knock_refused(watch, linked)
    assert "repaired" not in guard.log(1000), guard.log(1000)


@test
def a_link_that_was_there_before_the_guard_is_taken_in(lab):
    """Should the service be faster all the same: what came up unseen is adopted."""
    service = Service(lab)
    guard = lab.own_guard(cgroup=service.below, min_uptime="0s")
    service.stop()
    guard.signal(signal.SIGSTOP)
    service.make()
    peer = lab.fresh()
    link = link_out(lab, peer, service.start())
    guard.signal(signal.SIGCONT)
    guard.events.wait(address=peer.address, cause="link_adopted", cookie=link.cookie)
    assert_refused(dial(lab, peer, service.worker))


@test
def a_cgroup_made_anew_without_a_daemon_is_found_by_the_next_one(lab):
    service = Service(lab)
    guard = lab.own_guard(cgroup=service.below, initial="60s", max="60s", min_uptime="0s")
    peer = in_backoff(lab, guard, service.start())
    guard.end(signal.SIGKILL)
    service.stop()
    status, document = guard.cli_json("status")
    assert status == 1 and document["source"] == "maps", (status, document)
    assert any("cgroup is gone" in problem for problem in document["problems"]), document["problems"]
    service.make()
    # Another cgroup of that name is not the guarded one.
    status, document = guard.cli_json("status")
    assert status == 1 and document["cgroup"] is None, (status, document)
    guard.start()
    assert guard.status()["cgroup"] == service.path and len(guard.attached()) == len(CGROUP_HOOKS)
    assert_refused(dial(lab, peer, service.start()))


# ---- a cgroup that is not there yet ------------------------------------------------------------------


def start_waiting(guard, path):
    """Until the daemon answers, which it does without its cgroup. The status document."""
    def waits():
        # The socket of a daemon that was killed is there as well.
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            return guard.status()["waits_for"] == path
        return False
    guard.start_only()
    wait_for(waits, guard.log)
    guard.events = Events(guard)
    return guard.status()


@test
def a_guard_waits_for_its_cgroup_and_is_there_before_the_first_dial(lab):
    service = Service(lab)
    service.stop()
    guard = lab.own_guard(start=False, cgroup=service.below, min_uptime="0s")
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(os.path.join(guard.directory, "notify"))
    manager.settimeout(PATIENCE * TIME_SCALE)
    lab.at_end(manager.close)
    guard.environment["NOTIFY_SOCKET"] = manager.getsockname()
    start_waiting(guard, service.path)
    # Who orders services behind it is not kept waiting, and told what it does.
    told = []
    while not any("READY=1" in one for one in told):
        told.append(manager.recv(4096).decode())
    assert any(f"STATUS=nothing is guarded: waiting for cgroup {service.path}" in one for one in told), told
    # A mistake in the path would look like this: it is said by whoever is asked.
    status, text = guard.cli("status")
    parent = os.path.dirname(service.path)
    problem = (f"waiting for cgroup {service.path}, nothing is guarded until it is made: {parent} is there, "
               f"'service' is not in it ({guard.file}:2: [guard] cgroup = {service.below})")
    assert status == 1 and problem in text and "NOT WHOLE" in text, (status, text)
    assert re.search(rf"^cgroup +waiting for {re.escape(service.path)}$", text, re.M), text
    status, document = guard.cli_json("status")
    assert document["problems"] == [problem] and document["cgroup"] is None, document
    guard.wait_log("warning: " + re.escape(problem))
    guard.wait_log(rf"guard '{guard.name}' loaded: cgroup {re.escape(service.path)} \(not there yet\)")
    assert guard.peers() == [] and guard.cli("explain", "192.0.2.7")[0] == 0
    told_of_it = 0
    for _ in range(TRIES):
        before_it = heartbeat(guard)
        service.make()
        wait_for(lambda: len(guard.attached()) == len(CGROUP_HOOKS), "the hooks are at the cgroup")
        told_of_it = heartbeat(guard) == before_it
        if told_of_it:
            break
        service.stop()
        guard.stop()
        start_waiting(guard, service.path)
    assert told_of_it, "found by the heartbeat, not told"
    wait_for(lambda: guard.cli("status")[0] == 0, lambda: guard.cli("status")[1])
    document = guard.status()
    assert document["waits_for"] is None and document["cgroup"] == service.path, document
    guard.wait_log("over: waiting for cgroup")
    while not any("STATUS=guarding" in one for one in told):
        told.append(manager.recv(4096).decode())
    peer, worker, watch = lab.fresh(), service.start(), guard.watch()
    link = link_out(lab, peer, worker)
    slot, = guard.peer(peer.address)["links"]
    assert slot["cookie"] == link.cookie and not slot["adopted"], slot
    assert_dial_refused(lab, watch, peer, "dial_linked", worker=worker)
    worker("listen", address="10.77.0.1", port=PORT)
    assert_knock_refused(watch, peer)
    guard.stop()


@test
def cgroups_above_it_may_be_missing_too(lab):
    top = Service(lab, "above")
    path, below = f"{top.path}/between/service", f"{top.below}/between/service"
    top.stop()
    guard = lab.own_guard(start=False, cgroup=below, min_uptime="0s")
    document = start_waiting(guard, path)
    parent = os.path.dirname(top.path)
    assert f"{parent} is there, 'above/between/service' is not in it" in document["problems"][0], document
    top.make()
    wait_for(lambda: f"{top.path} is there, 'between/service' is not in it" in guard.status()["problems"][0],
             "what is there is told")
    assert guard.cli("status")[0] == 1
    os.makedirs(path)
    wait_for(lambda: guard.cli("status")[0] == 0, lambda: guard.cli("status")[1])
    peer, worker = lab.fresh(), lab.home.add_worker("cgt-service", cgroup=path)
    link_out(lab, peer, worker)
    assert_refused(dial(lab, peer, worker))
    worker.kill()
    for directory in (path, os.path.dirname(path)):
        wait_for(lambda directory=directory: remove_directory(directory), f"{directory} is empty")
    guard.destroy()


@test
def a_guard_that_waits_can_be_left_and_taken_over(lab):
    service = Service(lab)
    service.stop()
    guard = lab.own_guard(start=False, cgroup=service.below, initial="60s", max="60s", min_uptime="0s")
    start_waiting(guard, service.path)
    # Without a daemon nobody waits; that is said, too.
    guard.end(signal.SIGKILL)
    status, document = guard.cli_json("status")
    assert status == 1 and document["source"] == "maps" and document["waits_for"] is None, document
    assert any("was not there yet: nothing is guarded" in problem for problem in document["problems"]), document
    # The next daemon waits on; another one may not, for nobody would follow.
    status, text = run(*lab.home.inside(CLI, "-n", guard.name, "-c", guard.file, "load"), check=False)
    assert status == 1 and f"[guard] cgroup = {service.below}: No such file" in text, (status, text)
    start_waiting(guard, service.path)
    guard.wait_log(rf"guard '{guard.name}' taken over: .* \(not there yet\)")
    service.make()
    wait_for(lambda: guard.cli("status")[0] == 0, lambda: guard.cli("status")[1])
    peer = in_backoff(lab, guard, service.start())
    # What was known before the service and its cgroup went is known to a daemon that waits for them again.
    guard.end(signal.SIGQUIT)
    service.stop()
    start_waiting(guard, service.path)
    assert guard.state(peer.address) == "backoff"
    assert any("cgroup is gone" in problem for problem in guard.status()["problems"]), guard.status()
    service.make()
    wait_for(lambda: guard.cli("status")[0] == 0, lambda: guard.cli("status")[1])
    assert len(guard.attached()) == len(CGROUP_HOOKS)
    assert_refused(dial(lab, peer, service.start()))
    guard.stop()


@test
def a_guard_is_not_left_alone_for_a_cgroup_that_is_not_there(lab):
    """The path may be a mistake: the guard that is there goes on, and the start fails."""
    guard, peer = lab.own_guard(), lab.fresh()
    link_out(lab, peer)
    guard.end(signal.SIGQUIT)
    guard.cgroup = lab.home.cgroup_below + "/no-such-service"
    guard.write(guard.options)
    status, output = run(*lab.home.inside(DAEMON, "-c", guard.file, guard.name), check=False)
    assert status == 1 and re.search(rf"{re.escape(guard.file)}:\d+: \[guard\] cgroup = {re.escape(guard.cgroup)}: "
                                     rf".*the guard is at {re.escape(lab.home.cgroup)},", output), (status, output)
    guard.cgroup = lab.home.cgroup_below
    guard.write(guard.options)
    assert_refused(dial(lab, peer))
    assert len(guard.attached()) == len(CGROUP_HOOKS)
    guard.start()


@test
def checking_the_configuration_warns_of_a_missing_cgroup(lab):
    service = Service(lab)
    guard = lab.own_guard(start=False, cgroup=service.below)
    check = [DAEMON, "-c", guard.file, "--check-config", guard.name]
    assert run(*check) == (0, "")
    service.stop()
    status, text = run(*check, check=False)
    assert status == 0 and text.startswith(
        f"connguardd: warning: {guard.file}:2: [guard] cgroup = {service.below}: not there now"), (status, text)
    assert "'service' is not in it" in text, text


@test
def a_cgroup_that_the_guard_cannot_follow_to_is_named_until_it_can(lab):
    service = Service(lab)
    guard = lab.own_guard(cgroup=service.below)
    # Its manager puts a program there before anybody else can: so that happens first here.
    guard.signal(signal.SIGSTOP)
    service.stop()
    service.make()
    end = start_foreign(lab, "alone", cgroup=service.path)
    guard.signal(signal.SIGCONT)
    wait_for(lambda: any("this hook for itself" in problem
                         for problem in guard.cli_json("status")[1]["problems"]),
             lambda: f"the reason is told: {guard.cli('status')[1]}")
    assert guard.cli("status")[0] == 1
    assert len(guard.attached()) == 2, f"only in part: {guard.attached()}"
    end()
    wait_for(lambda: guard.cli("status")[0] == 0, lambda: guard.cli("status")[1])
    assert len(guard.attached()) == len(CGROUP_HOOKS)
    guard.wait_log("over: the guard cannot follow")


@test
def a_guard_that_was_unloaded_under_its_daemon_does_not_come_back(lab):
    service = Service(lab)
    guard = lab.own_guard(cgroup=service.below)
    guard.tell("unload", "--force")
    status, document = guard.cli_json("status")
    assert status == 1, document
    wait_for(lambda: any("removed under its daemon" in problem
                         for problem in guard.cli_json("status")[1]["problems"]), "it is told")
    service.stop()
    service.make()
    began = now_ns()
    wait_past(began + 1_200_000_000)
    assert not guard.attached() and not os.path.exists(guard.pins), guard.attached()
    assert guard.end(signal.SIGTERM) == 0
    assert not os.path.exists(guard.pins)


# ---- network namespace -------------------------------------------------------------------------------


def cable_up(lab, host, port):
    """Give a host that was made (anew) a cable and an address."""
    switch = next(one for one in lab.hosts if one.name == "switch")
    lab.cable(host, "eth0", switch, port)
    switch.ip(f"link set {port} master br0")
    host.ip("link set lo up", "addr add 10.77.0.9/24 dev eth0",
            "route add 10.82.0.0/16 via 10.77.0.2")


@test
def a_namespace_made_anew_under_its_name_is_guarded(lab):
    host = lab.add_host("moving", worker=False)
    lab.at_end(lab.hosts.remove, host)
    cable_up(lab, host, "port8")
    path = f"/run/netns/{host.namespace}"
    guard = lab.own_guard(host=host, start=False, netns=path, min_uptime="0s")
    with open(guard.log_path, "ab") as log:
        guard.process = subprocess.Popen([DAEMON, "-c", guard.file, guard.name],
                                         stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                         preexec_fn=die_with_parent)
    wait_for(guard.is_up, guard.log)
    for round_number in range(2):
        peer, other = lab.fresh(), lab.fresh()
        worker = host.add_worker("cgt-moving")
        worker("listen", address="10.77.0.9", port=PORT)
        link_out(lab, peer, worker)
        assert_refused(dial(lab, peer, worker))
        assert_refused(peer.knock("10.77.0.9"))
        assert_passed(other.knock("10.77.0.9"))
        assert_refused(other.knock("10.77.0.9"))
        if round_number:
            break
        worker.kill()
        for number in range(1, TRIES):
            run("ip", "netns", "delete", host.namespace)
            wait_for(lambda: guard.cli("status")[0] == 1, "status tells")
            problems = guard.cli_json("status")[1]["problems"]
            assert any(f"no network namespace at {path}" in problem for problem in problems), problems
            before_it = heartbeat(guard)
            run("ip", "netns", "add", host.namespace)
            wait_for(lambda number=number: len(re.findall("has followed its service: .*network namespace",
                                                          guard.log(1000))) == number, guard.log)
            if heartbeat(guard) == before_it:
                break
        else:
            raise AssertionError("found by the heartbeat, not told")
        wait_for(lambda: guard.cli("status")[0] == 0, lambda: guard.cli("status")[1])
        # The old namespace, and its cable, goes a little later.
        cable_up(lab, host, "port9")
        wait_for(lambda: any(prefix["own"] for prefix in guard.ask("explain", address="10.77.0.9")["exempt_prefixes"]),
                 "its address")
    guard.stop()


# ---- bpffs -------------------------------------------------------------------------------------------


class Apart:
    """A mount namespace of the test's own, with a bpffs of its own or none."""

    def __init__(self, lab):
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo in; exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=die_with_parent)
        assert first_line(self.process, "a mount namespace") == b"in\n"
        lab.at_end(self.end)

    def end(self):
        self.process.stdin.close()
        wait_end(self.process, "the mount namespace ends")
        self.process.stdout.close()

    def inside(self, *arguments):
        return ["nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt", *arguments]

    def run(self, *arguments, check=True):
        return run(*self.inside(*arguments), check=check)

    def hide(self):
        """No bpffs is to be seen."""
        self.run("mount", "-t", "tmpfs", "cgt-hidden", "/sys/fs/bpf")


@test
def a_hidden_bpffs_is_named(lab):
    guard, apart = lab.own_guard(), Apart(lab)
    apart.hide()
    # A daemon that runs can be asked all the same.
    assert apart.run(CLI, "-n", guard.name, "status")[0] == 0
    guard.end(signal.SIGKILL)
    for command in ("status", "peers", "panic", "unload"):
        status, text = apart.run(CLI, "-n", guard.name, command, check=False)
        assert status == 1 and "no bpf file system at /sys/fs/bpf in this mount namespace" in text \
            and "nsenter" in text, (command, status, text)
    status, text = apart.run("nsenter", f"--net=/run/netns/{lab.home.namespace}", DAEMON, "-c",
                             guard.file, guard.name, check=False)
    assert status == 1 and "no bpf file system" in text, (status, text)
    # What is hidden there is whole here.
    assert len(guard.attached()) == len(CGROUP_HOOKS)
    guard.start()


@test
def an_unmounted_bpffs_takes_nothing_from_a_daemon_that_runs(lab):
    apart = Apart(lab)
    # Else the host's would be in sight beneath it, and the pins be made again there.
    apart.hide()
    apart.run("mount", "-t", "bpf", "cgt-bpf", "/sys/fs/bpf")
    guard = lab.own_guard(start=False)
    peer = lab.fresh()

    def ask(*arguments):
        return apart.run(CLI, "-n", guard.name, *arguments, check=False)

    guard.wrapper = apart.inside()
    guard.start()
    link = link_out(lab, peer)
    prober = Prober(lab, lab.home, peer.dial)
    prober.wait_dials(50)
    apart.run("umount", "/sys/fs/bpf")
    wait_for(lambda: ask("status")[0] == 1, "status tells")
    status, text = ask("status")
    assert "what was pinned is gone" in text and "no bpf file system" in text, text
    prober.wait_dials(50)
    # Mounted again, it has everything again, and outlives its daemon.
    apart.run("mount", "-t", "bpf", "cgt-bpf", "/sys/fs/bpf")
    wait_for(lambda: ask("status")[0] == 0, lambda: ask("status")[1])
    # Twenty-one maps, seven links, and the program for commands.
    guard.wait_log("29 pins of the guard had been removed and are made again")
    guard.end(signal.SIGKILL)
    prober.wait_dials(50)
    guard.start()
    prober.wait_dials(50)
    prober.assert_no_gap(200)
    status, text = ask("--json", "peers")
    assert f'"cookie": {link.cookie}' in text, text
    assert guard.end(signal.SIGTERM) == 0


@test
def pins_removed_by_hand_are_made_again(lab):
    guard, peer = lab.own_guard(), lab.fresh()
    link_out(lab, peer)
    prober = Prober(lab, lab.home, peer.dial)
    run("rm", "-r", guard.pins)
    wait_for(lambda: os.path.exists(f"{guard.pins}/layout"), "they are made again")
    assert guard.cli("status")[0] == 0
    guard.end(signal.SIGKILL)
    prober.wait_dials(50)
    prober.assert_no_gap(50)
    assert len(guard.attached()) == len(CGROUP_HOOKS)
