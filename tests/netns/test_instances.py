# SPDX-License-Identifier: BSD-2-Clause
"""Daemons and guards beside each other: of one name there is one, and nobody removes what is another's."""

import fcntl
import os
import signal

from harness import CGROUP_HOOKS, OTHER_PORT, PINS, PORT, wait_end, wait_for
from registry import each, test
from steps import assert_refused, dial, link_out

# In front of a daemon: its /run/connguard is its own, as in a container, and the bpf file system is the host's.
PRIVATE_RUN = ["unshare", "--mount", "sh", "-c",
               'mkdir -p /run/connguard && mount -t tmpfs none /run/connguard && exec "$@"', "-"]


def second_of(lab, guard):
    """Another daemon of the same name, which sees the same pins and has a /run of its own."""
    second = lab.own_guard(start=False, name=guard.name)
    second.wrapper = PRIVATE_RUN
    return second


def lock_of(guard):
    return os.path.join(PINS, guard.name + ":lock")


def is_locked(guard):
    """Does a process hold the lock of the pins?"""
    directory = os.open(lock_of(guard), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(directory)
    return False


def daemon_of(guard):
    """What the maps say of it."""
    return guard.cli_json("status")[1]["daemon"]


def start_apart(guard):
    """Start a daemon whose socket cannot be seen from here."""
    guard.start_only()
    guard.wait_log("info: guard '.*' (taken over|loaded): cgroup")


def assert_turned_away(guard):
    guard.start_only()
    status = wait_end(guard.process, "the second daemon ends")
    guard.process = None
    assert status == 1, f"{status}: {guard.log()}"
    guard.wait_log(f"another connguardd runs for guard '{guard.name}', or connguard loads or removes it "
                   rf"\(it holds {lock_of(guard)}\)")


@test
def a_second_daemon_is_refused_whatever_run_it_sees(lab):
    guard, peer = lab.own_guard(), lab.fresh()
    link_out(lab, peer)
    second = second_of(lab, guard)
    assert_turned_away(second)
    # The first one has noticed nothing.
    assert guard.status()["healthy"] and len(guard.attached()) == len(CGROUP_HOOKS)
    assert_refused(dial(lab, peer))
    guard.stop()
    assert not os.path.exists(lock_of(guard))
    # The other way round: the one with the private /run was there first.
    start_apart(second)
    guard.start_only()
    status = wait_end(guard.process, "the second daemon ends")
    guard.process = None
    assert status == 1 and lock_of(guard) in guard.log(), (status, guard.log())
    # Nor may anybody load or remove what it has.
    for command in (["load", "-c", guard.file], ["unload"]):
        status, text = guard.cli(*command)
        assert status == 1 and lock_of(guard) in text, (command, status, text)
    assert second.end(signal.SIGTERM) == 0 and not os.path.exists(guard.pins) and not guard.attached()


@test
def a_daemon_that_was_killed_leaves_no_lock(lab):
    guard, peer = lab.own_guard(), lab.fresh()
    link_out(lab, peer)
    guard.end(signal.SIGKILL)
    assert os.path.exists(lock_of(guard)) and not is_locked(guard)
    second = second_of(lab, guard)
    start_apart(second)
    assert_refused(dial(lab, peer))
    assert is_locked(guard)
    # It leaves the guard, and no lock.
    assert second.end(signal.SIGQUIT) == 0 and not os.path.exists(lock_of(guard))
    guard.start()
    assert_refused(dial(lab, peer))
    guard.stop()


@test
def a_lock_that_was_removed_is_made_again(lab):
    guard = lab.own_guard()
    os.rmdir(lock_of(guard))
    wait_for(lambda: os.path.exists(lock_of(guard)) and is_locked(guard), "the daemon locks its pins again")
    assert_turned_away(second_of(lab, guard))
    guard.stop()


@test
def nobody_removes_what_another_daemon_has_taken_over(lab):
    """Somebody has removed the lock, and another daemon was faster to make it again."""
    guard, peer = lab.own_guard(), lab.fresh()
    link_out(lab, peer)
    second = second_of(lab, guard)
    guard.signal(signal.SIGSTOP)
    os.rmdir(lock_of(guard))
    start_apart(second)
    guard.signal(signal.SIGCONT)
    guard.wait_log("another process has taken over what is pinned")
    status, document = guard.cli_json("status")
    assert status == 1 and any(lock_of(guard) in problem for problem in document["problems"]), document
    assert guard.end(signal.SIGTERM) == 0
    assert f"guard '{guard.name}' stays" in guard.log(), guard.log()
    assert len(guard.attached()) == len(CGROUP_HOOKS) and os.path.exists(guard.pins)
    assert_refused(dial(lab, peer))
    # The daemon that lives is the second one.
    wait_for(lambda: daemon_of(guard) == {"running": False, "alive": True, "process_id": second.process.pid},
             lambda: f"the second one is the guard's daemon: {daemon_of(guard)}")
    assert second.end(signal.SIGTERM) == 0 and not os.path.exists(guard.pins) and not guard.attached()


def overlaps_of(guard):
    """Which guards `status` names, and with which ports."""
    document = guard.cli_json("status")[1]
    named = {one["guard"]: (one["cgroup"], one["ports"]) for one in document["overlaps"]}
    for name, (cgroup, ports) in named.items():
        text = f"guard '{name}' guards port(s) {', '.join(map(str, ports))} too, for cgroup {cgroup}:"
        assert any(text in note for note in document["notes"]), document["notes"]
    assert sum("both decide about the same sockets" in note for note in document["notes"]) == len(named), document
    return named


def cgroup_below(host, name):
    path = os.path.join(host.cgroup, name)
    os.makedirs(path, exist_ok=True)
    return f"{host.cgroup_below}/{name}", path


@each("below", "the same")
def guards_that_overlap_name_each_other(lab, where):
    guard = lab.own_guard(port=f"{PORT}, {OTHER_PORT}, 9")
    below, path = cgroup_below(lab.home, "below") if where == "below" else (lab.home.cgroup_below, lab.home.cgroup)
    assert overlaps_of(guard) == {}
    second = lab.own_guard(cgroup=below, port=f"10, {OTHER_PORT}, {PORT}")
    # The newcomer at once, the other one soon.
    assert overlaps_of(second) == {guard.name: (lab.home.cgroup, [PORT, OTHER_PORT])}
    wait_for(lambda: overlaps_of(guard) == {second.name: (path, [PORT, OTHER_PORT])},
             lambda: f"the first one names the second one: {overlaps_of(guard)}")
    guard.wait_log(f"warning: guard '{second.name}' guards port.s. {PORT}, {OTHER_PORT} too, for cgroup {path}: ")
    # It is a hint: both do their work.
    assert guard.status()["healthy"] and second.status()["healthy"]
    # Without a daemon the maps say the same.
    guard.end(signal.SIGKILL)
    assert overlaps_of(guard) == {second.name: (path, [PORT, OTHER_PORT])}
    guard.start()
    # Ports of their own.
    second.write(dict(second.options, port="10"))
    second.tell("reload")
    assert overlaps_of(second) == {}
    second.write(dict(second.options, port=PORT))
    second.tell("reload")
    assert overlaps_of(second) == {guard.name: (lab.home.cgroup, [PORT])}
    assert second.end(signal.SIGTERM) == 0
    wait_for(lambda: overlaps_of(guard) == {}, lambda: f"the second one is gone: {overlaps_of(guard)}")


@test
def guards_beside_each_other_do_not_overlap(lab):
    """Another port, another cgroup, whose name is the beginning of the first one's, another network namespace."""
    below, _path = cgroup_below(lab.home, "service-1")
    beside, _path = cgroup_below(lab.home, "service")
    guards = [lab.own_guard(cgroup=below), lab.own_guard(cgroup=beside),
              lab.own_guard(cgroup=below, port=OTHER_PORT), lab.own_guard(cgroup=below, host=lab.left)]
    for guard in reversed(guards):
        guard.tell("reload")
        assert overlaps_of(guard) == {}, guard.options
