# SPDX-License-Identifier: BSD-2-Clause
"""What operators decide (panic, limit, allow --for-good) is in force until it is taken back, guard or not."""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import time

from harness import (BPFTOOL, CLI, IPV6, OTHER_PORT, PATIENCE, SECOND, TIME_SCALE, Skip, helper, now_ns, run, wait_end,
                     wait_for)
from registry import core, each, test
from steps import (assert_dial_refused, assert_passed, assert_refused, dial, link_out)
from test_bpftool import load
from test_growth import Window
from test_instances import PRIVATE_RUN

FILE_HEAD = "# What operators have decided about guard"
# The least that max_peers takes.
SMALLEST_MAP = 16


def state_path(guard):
    return os.path.join(os.environ["STATE_DIRECTORY"], guard.name + ".state")


def decisions(guard):
    """The lines of the state file, without who and when; none without a file."""
    if not os.path.exists(state_path(guard)):
        return []
    with open(state_path(guard), encoding="ascii") as file:
        lines = file.read().splitlines()
    assert lines[0].startswith(FILE_HEAD) and lines[1] == "version 1" and lines[-1] == "end", lines
    return [re.sub(r" (since|by)=\S+", "", line) for line in lines[2:-1]]


def write_state(guard, text):
    os.makedirs(os.environ["STATE_DIRECTORY"], exist_ok=True)
    with open(state_path(guard), "w", encoding="utf-8") as file:
        file.write(text)


@contextlib.contextmanager
def no_directory():
    """Nothing can be kept meanwhile."""
    directory = os.environ["STATE_DIRECTORY"]
    os.rename(directory, directory + ".aside")
    with open(directory, "w", encoding="ascii"):
        pass
    try:
        yield
    finally:
        os.unlink(directory)
        os.rename(directory + ".aside", directory)


def pull_the_plug(guard):
    """As when the host's power is cut: no daemon and no guard, and nobody was asked."""
    if guard.running():
        guard.end(signal.SIGKILL)
    shutil.rmtree(guard.pins)
    wait_for(lambda: not guard.attached(), lambda: f"programs stay attached: {guard.attached()}")


# How a guard ends that a later start does not find.
def stop(guard):
    guard.stop()


def unload(guard):
    guard.end(signal.SIGKILL)
    guard.tell("unload")


ENDS = {"stop": stop, "unload": unload, "power cut": pull_the_plug}


def operator(guard, *arguments):
    """As somebody does who has logged in as alice."""
    status, text = run(CLI, "-n", guard.name, *arguments, check=False, env=dict(os.environ, SUDO_USER="alice"))
    assert status == 0, text
    return text


def up_with_problems(guard):
    """Start it where `status` has something to say."""
    guard.start_only()
    guard.wait_answers()


@each(*ENDS)
@core("stop")
def panic_holds_until_resume(lab, end):
    guard, peer = lab.own_guard(), lab.fresh()
    operator(guard, "panic")
    link_out(lab, peer)
    ENDS[end](guard)
    assert decisions(guard) == ["mode off"]
    guard.start()
    assert_passed(dial(lab, peer))
    assert_passed(dial(lab, peer))
    document = guard.status()
    mode = document["decided"]["mode"]
    assert document["mode"] == "off" and mode["mode"] == "off" and mode["by"] == "alice" and mode["since"], document
    text = guard.tell("status")
    assert re.search(r"an operator's decision, by alice, since \d{4}-\d\d-\d\dT[\d:]{8}Z", text), text
    assert "connguard resume" in text and "mode off;" in text, text
    guard.tell("resume")
    assert decisions(guard) == [] and guard.status()["decided"]["mode"] is None
    lab.close_sockets()
    ENDS[end](guard)
    guard.start()
    assert guard.status()["mode"] == "enforce"
    peer.listen()
    assert_passed(dial(lab, peer))
    assert_refused(dial(lab, peer))


def panic_with_bpftool(guard):
    run(BPFTOOL, "map", "update", "pinned", f"{guard.pins}/mode",
        "key", "0", "0", "0", "0", "value", "0", "0", "0", "0")


@each("with a daemon", "without one")
def panic_with_bpftool_is_kept_too(lab, way):
    guard = lab.own_guard()
    if way == "with a daemon":
        panic_with_bpftool(guard)
        wait_for(lambda: decisions(guard) == ["mode off"], "the daemon keeps it")
        pull_the_plug(guard)
    else:
        guard.end(signal.SIGKILL)
        panic_with_bpftool(guard)
        guard.tell("unload")
    guard.start()
    assert guard.status()["mode"] == "off"


@test
@core()
def panic_while_a_guard_comes_up(lab):
    """Between the load and what is configured: it is in force as soon as somebody can press it."""
    guard = lab.own_guard(start=False)
    guard.start_only()
    # No pause: what is between takes milliseconds.
    deadline = now_ns() + round(PATIENCE * TIME_SCALE * SECOND)
    while not os.path.exists(f"{guard.pins}/mode"):
        assert guard.running() and now_ns() < deadline, f"the mode is pinned\n{guard.log()}"
    guard.signal(signal.SIGSTOP)
    panic_with_bpftool(guard)
    guard.signal(signal.SIGCONT)
    wait_for(guard.is_up, lambda: f"the guard is up\n{guard.log()}", 60)
    assert guard.status()["mode"] == "off", guard.log()
    wait_for(lambda: decisions(guard) == ["mode off"], "the daemon keeps it")


@test
def panic_just_before_a_stop(lab):
    """Sooner than the daemon looks: what the map says at the end is kept."""
    guard = lab.own_guard()
    guard.signal(signal.SIGSTOP)
    panic_with_bpftool(guard)
    # Both wait for it, and it ends before it looks.
    guard.signal(signal.SIGTERM)
    guard.signal(signal.SIGCONT)
    assert wait_for(lambda: guard.process.poll() is not None, "the daemon ends")
    assert decisions(guard) == ["mode off"], guard.log()


@each("stop", "restart")
def to_observe_is_a_decision_like_another(lab, way):
    guard = lab.own_guard()
    guard.tell("resume", "--observe")
    if way == "stop":
        guard.stop()
    else:
        guard.end(signal.SIGQUIT)
    guard.start()
    assert guard.status()["mode"] == "observe" and decisions(guard) == ["mode observe"]
    # A file that asks for another mode than it did is later than that.
    guard.write(dict(guard.options, mode="off"))
    guard.tell("reload")
    assert guard.status()["mode"] == "off" and decisions(guard) == []


@test
def a_mode_that_nobody_decided_on_is_the_files(lab):
    guard = lab.own_guard(mode="observe")
    guard.end(signal.SIGQUIT)
    guard.write(dict(guard.options, mode="enforce"))
    guard.start()
    document = guard.status()
    assert document["mode"] == "enforce" and document["decided"]["mode"] is None, document
    assert decisions(guard) == []
    # What an operator has decided on is not.
    guard.tell("panic")
    guard.end(signal.SIGQUIT)
    guard.write(dict(guard.options, mode="observe"))
    guard.start()
    assert guard.status()["mode"] == "off"
    guard.wait_log("an operator has decided on mode off, the configuration says observe")


@each(*ENDS)
def limits_and_what_is_allowed_outlive_the_guard(lab, end):
    guard = lab.own_guard()
    limited, allowed, inside, other = (lab.fresh() for _ in range(4))
    limited6 = lab.fresh(IPV6)
    guard.tell("limit", limited.address, "2")
    guard.tell("limit", limited6.address, "3")
    guard.tell("allow", allowed.address, "--for-good")
    guard.tell("allow", f"{inside.address}/32", "--for-good")
    guard.tell("allow", other.address, "--for", "1h")
    if end == "unload":
        # Without a daemon, too.
        guard.end(signal.SIGKILL)
        guard.tell("limit", limited.address, "3")
        guard.tell("limit", limited.address, "2")
        guard.start()
    ENDS[end](guard)
    expected = [f"limit {limited.address} 2", f"limit {limited6.address} 3", f"allow {allowed.address}",
                f"allow {inside.address}/32"]
    assert decisions(guard) == expected
    assert os.stat(state_path(guard)).st_mode & 0o777 == 0o600
    guard.start()
    assert guard.status()["decided"] == {"mode": None, "limits": 2, "allowed": 2}
    assert "a limit of 2 peer(s), 2 allowed for good" in guard.tell("status")
    watch = guard.watch()
    for peer, links in ((limited, 2), (limited6, 3)):
        assert guard.peer(peer.address)["decided_limit"] == links
        for _ in range(links):
            link_out(lab, peer)
        assert_dial_refused(lab, watch, peer, "dial_linked")
    assert "by an operator's decision" in guard.cli("explain", limited.address)[1]
    for peer in (allowed, inside):
        for _ in range(3):
            link_out(lab, peer)
    # For a time is for that of the guard.
    link_out(lab, other)
    assert_dial_refused(lab, watch, other, "dial_linked")


@each("with a daemon", "without one")
def what_is_taken_back_does_not_return(lab, way):
    guard = lab.own_guard()
    peer, inside, timed = lab.fresh(), lab.fresh(), lab.fresh()
    guard.tell("panic")
    guard.tell("limit", peer.address, "2")
    for address in (peer.address, f"{inside.address}/32", timed.address):
        guard.tell("allow", address, "--for-good")
    assert len(decisions(guard)) == 5
    if way == "without one":
        guard.end(signal.SIGKILL)
    guard.tell("resume")
    guard.tell("limit", peer.address, "0")
    guard.tell("allow", peer.address, "--end")
    guard.tell("allow", f"{inside.address}/32", "--end")
    # A later decision is for a time only.
    guard.tell("allow", timed.address, "--for", "1h")
    assert decisions(guard) == []
    assert not os.path.exists(state_path(guard))
    pull_the_plug(guard)
    guard.start()
    document = guard.status()
    assert document["mode"] == "enforce" and document["decided"] == {"mode": None, "limits": 0, "allowed": 0}
    assert guard.peers() == []


@test
def forgetting_a_peer_needs_its_decisions_taken_back(lab):
    guard, peer = lab.own_guard(), lab.fresh()
    guard.tell("limit", peer.address, "2")
    status, text = guard.cli("forget", peer.address)
    assert status == 1 and "a limit" in text and decisions(guard) == [f"limit {peer.address} 2"], text
    guard.tell("limit", peer.address, "0")
    guard.tell("forget", peer.address)
    assert decisions(guard) == [] and guard.peer(peer.address) is None


@test
def a_later_limit_counts_more_than_the_peers_file(lab):
    guard, peer = lab.own_guard(start=False), lab.fresh()
    peers = os.path.join(guard.directory, "peers")

    def name(limit):
        with open(peers, "w", encoding="utf-8") as file:
            file.write(f"{peer.address} limit={limit}\n")
    name(2)
    guard.write(dict(guard.options, peers=peers))
    guard.start()

    def limits():
        document = guard.peer(peer.address)
        return document["limit"], document["decided_limit"], document["named_limit"]
    assert limits() == (2, None, 2)
    guard.tell("limit", peer.address, "4")
    assert limits() == (4, 4, 2)
    text = guard.cli("explain", peer.address)[1]
    assert "by an operator's decision (the peers file says 2)" in text, text
    name(3)
    guard.tell("reload")
    assert limits() == (4, 4, 3)
    guard.stop()
    guard.start()
    assert limits() == (4, 4, 3)
    guard.tell("limit", peer.address, "0")
    assert limits() == (3, None, 3) and "by the peers file" in guard.cli("explain", peer.address)[1]
    guard.stop()
    guard.start()
    assert limits() == (3, None, 3)
    # Also where it leaves the file.
    guard.tell("limit", peer.address, "5")
    guard.write({key: value for key, value in guard.options.items() if key != "peers"})
    guard.tell("reload")
    assert limits() == (5, 5, None)


@test
def a_new_port_takes_part(lab):
    guard, peer = lab.own_guard(), lab.fresh()
    guard.tell("limit", peer.address, "3")
    guard.tell("allow", peer.address, "--for-good")
    guard.write(dict(guard.options, port="24000, 24001"))
    guard.tell("reload")
    documents = guard.peers()
    assert [(one["service"], one["decided_limit"], one["exempt"] is not None) for one in documents] == [
        (24000, 3, True), (24001, 3, True)], documents


@test
def maps_that_are_in_force_count_more_than_the_file(lab):
    guard, kept, taken_back = lab.own_guard(), lab.fresh(), lab.fresh()
    guard.tell("limit", taken_back.address, "2")
    guard.end(signal.SIGKILL)
    with no_directory():
        for arguments in (("panic",), ("limit", kept.address, "4"), ("limit", taken_back.address, "0")):
            status, text = guard.cli(*arguments)
            assert status == 0 and "it is in force, but will be lost when the guard is stopped" in text, text
    assert decisions(guard) == [f"limit {taken_back.address} 2"]
    guard.start()
    assert guard.status()["mode"] == "off"
    assert guard.peer(kept.address)["limit"] == 4 and guard.peer(taken_back.address)["limit"] == 1
    assert decisions(guard) == ["mode off", f"limit {kept.address} 4"]


DAMAGE = {
    "a word": ("version 1\nmode off\nlimti 192.0.2.7 2\nend\n",
               r":3: limti: not understood, expected mode, limit, allow or end"),
    "a value": ("version 1\nmode off\nlimit 192.0.2.7 9\nend\n",
                r":3: 9: not a limit, expected a number of links from 1 to 7"),
    "cut off": ("version 1\nmode off\n", r":3: the file ends here, expected a line with end"),
    "empty": ("", r":1: the file ends here, expected version 1"),
    "another version": ("version 2\nend\n", r":1: version 2: expected version 1"),
}


@each(*DAMAGE)
def a_damaged_file_is_ignored_whole_and_told(lab, damage):
    guard, peer = lab.own_guard(start=False), lab.fresh()
    text, reason = DAMAGE[damage]
    write_state(guard, text)
    up_with_problems(guard)
    guard.wait_log("error: .*" + re.escape(state_path(guard)) + reason)
    status, output = guard.cli("status")
    assert status == 1 and "a panic" in output and f"{state_path(guard)} is damaged" in output, output
    document = guard.status()
    assert document["mode"] == "enforce" and document["decided"] == {"mode": None, "limits": 0, "allowed": 0}
    peer.listen()
    assert_passed(dial(lab, peer))
    assert_refused(dial(lab, peer))

    def as_it_was(path):
        with open(path, encoding="utf-8") as file:
            return file.read() == text
    assert as_it_was(state_path(guard))
    # It is told again, and by a daemon that takes over too.
    guard.end(signal.SIGQUIT)
    up_with_problems(guard)
    assert guard.cli("status")[0] == 1 and as_it_was(state_path(guard))
    # The next decision is kept, and the file set aside.
    guard.tell("limit", peer.address, "2")
    assert decisions(guard) == [f"limit {peer.address} 2"] and as_it_was(state_path(guard) + ".damaged")
    assert guard.cli("status")[0] == 0, guard.cli("status")
    guard.stop()
    guard.start()
    assert guard.peer(peer.address)["limit"] == 2


@test
def a_damaged_file_is_not_missed_where_the_maps_have_all(lab):
    guard = lab.own_guard()
    guard.tell("panic")
    guard.end(signal.SIGKILL)
    write_state(guard, "nonsense\n")
    guard.start()
    assert guard.status()["mode"] == "off" and decisions(guard) == ["mode off"]
    with open(state_path(guard) + ".damaged", encoding="utf-8") as file:
        assert file.read() == "nonsense\n"


@each("from the start", "later")
def a_directory_that_cannot_be_written_is_told(lab, when):
    guard, peer = lab.own_guard(start=False), lab.fresh()
    directory = guard.directory + "-state"
    os.mkdir(directory, 0o500 if when == "from the start" else 0o700)
    guard.environment["STATE_DIRECTORY"] = directory
    path = os.path.join(directory, guard.name + ".state")
    if when == "from the start":
        up_with_problems(guard)
    else:
        guard.start()
        os.chmod(directory, 0o500)
    text = guard.tell("limit", peer.address, "2")
    assert "it is in force, but will be lost" in text and "Permission denied" in text, text
    text = guard.tell("panic")
    assert "will be lost" in text, text
    status, text = guard.cli("status")
    assert status == 1 and "what operators decide cannot be kept" in text and path in text, text
    guard.wait_log("warning: what operators decide cannot be kept.*Permission denied")
    assert guard.peer(peer.address)["limit"] == 2 and guard.status()["mode"] == "off"
    assert not os.path.exists(path)
    # It is tried again.
    os.chmod(directory, 0o700)
    wait_for(lambda: guard.cli("status")[0] == 0, "the problem is over")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert "mode off" in text and f"limit {peer.address} 2" in text, text
    guard.stop()


@test
def without_a_directory_it_guards(lab):
    guard, peer = lab.own_guard(start=False), lab.fresh()
    guard.environment["STATE_DIRECTORY"] = os.path.join(guard.file, "below")
    up_with_problems(guard)
    status, text = guard.cli("status")
    assert status == 1 and "Not a directory" in text, text
    peer.listen()
    assert_passed(dial(lab, peer))
    assert_refused(dial(lab, peer))
    guard.stop()


@test
def a_daemon_that_hangs_keeps_it_later(lab):
    guard, peer = lab.own_guard(), lab.fresh()
    guard.signal(signal.SIGSTOP)
    try:
        for arguments in (("panic",), ("limit", peer.address, "2")):
            status, text = guard.cli(*arguments)
            assert status == 0 and "does not answer, and keeps it when it does" in text, text
        assert decisions(guard) == []
    finally:
        guard.signal(signal.SIGCONT)
    wait_for(lambda: "mode off" in decisions(guard), "the daemon keeps the mode")
    guard.stop()
    assert decisions(guard) == ["mode off", f"limit {peer.address} 2"]


# ---- on a busy disk --------------------------------------------------------------------------------


def guard_on_a_busy_disk(lab):
    """Up; and the file that has to go before anything more is on the disk (slow_disk.c)."""
    guard = lab.own_guard(start=False)
    busy = os.path.join(guard.directory, "busy")
    guard.wrapper = [helper("slow_disk"), busy]
    status, text = run(*guard.wrapper, "true", check=False)
    if status:
        raise Skip(text.strip())
    guard.start()
    with open(busy, "w", encoding="ascii"):
        pass
    return guard, busy


class Question:
    """A request of root's whose answer is read later."""

    def __init__(self, lab, guard, request, **arguments):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        lab.at_end(self.socket.close)
        self.socket.connect(guard.socket_path)
        self.socket.settimeout(PATIENCE * TIME_SCALE)
        self.socket.sendall(json.dumps(dict(arguments, protocol=1, request=request)).encode() + b"\n")

    def answered(self):
        return bool(select.select([self.socket], [], [], 0)[0])

    def answer(self):
        """The answer, None where the daemon hangs up instead."""
        with self.socket.makefile("rb") as stream:
            line = stream.readline()
        return json.loads(line) if line else None


def limit_a_peer(lab, guard):
    """(a peer whose limit is in force, the question whose answer waits for the disk)."""
    peer = lab.fresh()
    question = Question(lab, guard, "limit", address=peer.address, limit=2)
    wait_for(lambda: guard.peer(peer.address) and guard.peer(peer.address)["decided_limit"] == 2, "it is in force")
    return peer, question


@test
def who_asks_on_while_the_disk_is_busy_costs_nothing(lab):
    """More than the daemon reads of one client at a time."""
    guard, busy = guard_on_a_busy_disk(lab)
    _peer, question = limit_a_peer(lab, guard)
    requests = 1000
    question.socket.sendall(requests * b'{"protocol": 1, "request": "status"}\n')
    window = Window(guard)
    time.sleep(2)
    assert window.end().share < 1 / 4, f"the daemon works for {window.ran_s:.2f} s of {window.lasted_s:.2f} s"
    os.unlink(busy)
    with question.socket.makefile("rb") as stream:
        for _ in range(1 + requests):
            assert json.loads(stream.readline())["ok"]


@test
def who_decides_on_a_busy_disk_waits_and_nobody_else(lab):
    guard, busy = guard_on_a_busy_disk(lab)
    first, second, allowed = (lab.fresh() for _ in range(3))
    link_out(lab, first)
    questions = [Question(lab, guard, "limit", address=first.address, limit=2)]
    # In force at once; the others come while the first is being written.
    wait_for(lambda: guard.peer(first.address)["decided_limit"] == 2, "it is in force")
    questions += [Question(lab, guard, "limit", address=second.address, limit=3),
                  Question(lab, guard, "allow", address=allowed.address, seconds=-1),
                  Question(lab, guard, "reload")]
    wait_for(lambda: guard.status()["decided"] == {"mode": None, "limits": 2, "allowed": 1},
             lambda: guard.status()["decided"])
    link_out(lab, first)
    assert_refused(dial(lab, first))
    guard.tell("kick", second.address)
    assert decisions(guard) == [] and not any(question.answered() for question in questions)
    # One that hangs up is not missed.
    Question(lab, guard, "limit", address=second.address, limit=4).socket.close()
    wait_for(lambda: guard.peer(second.address)["decided_limit"] == 4, "that is in force, too")
    os.unlink(busy)
    for question in questions:
        answer = question.answer()
        assert answer["ok"] and "not_kept" not in (answer["result"] or {}), answer
    wait_for(lambda: decisions(guard) == [f"limit {first.address} 2", f"limit {second.address} 4",
                                          f"allow {allowed.address}"], lambda: decisions(guard))
    # As ever.
    guard.tell("limit", first.address, "0")
    assert len(decisions(guard)) == 2


@test
def a_stop_waits_for_a_busy_disk(lab):
    guard, busy = guard_on_a_busy_disk(lab)
    peer, question = limit_a_peer(lab, guard)
    panic_with_bpftool(guard)
    guard.signal(signal.SIGTERM)
    wait_for(lambda: not os.path.exists(guard.socket_path), "it serves nobody any more")
    assert guard.running() and decisions(guard) == [] and os.path.exists(guard.pins)
    os.unlink(busy)
    assert wait_end(guard.process, "the daemon ends") == 0, guard.log()
    assert decisions(guard) == ["mode off", f"limit {peer.address} 2"] and not os.path.exists(guard.pins)
    assert question.answer() is None


@test
def of_two_that_a_daemon_hears_of_late_the_later_counts(lab):
    guard, peer = lab.own_guard(), lab.fresh()
    guard.signal(signal.SIGSTOP)
    try:
        for limit in ("2", "3", "0"):
            assert guard.cli("limit", peer.address, limit)[0] == 0
    finally:
        guard.signal(signal.SIGCONT)
    # It has answered all of them when it answers this one.
    assert not guard.peer(peer.address)["decided_limit"]
    guard.stop()
    assert decisions(guard) == []


@test
def what_a_daemon_did_not_hear_of_is_not_undone_by_a_reload(lab):
    """Whoever decides sees another /run than the daemon, as on a host with the daemon in a container."""
    guard, peers = lab.own_guard(), [lab.fresh() for _ in range(3)]
    for peer in peers[:2]:
        operator(guard, "limit", peer.address, "2")
    for peer, limit in ((peers[1], "0"), (peers[2], "3")):
        run(*PRIVATE_RUN, CLI, "-n", guard.name, "limit", peer.address, limit)
    guard.tell("reload")
    assert [guard.peer(peer.address)["decided_limit"] or 0 for peer in peers] == [2, 0, 3]
    assert sorted(decisions(guard)) == sorted([f"limit {peers[0].address} 2", f"limit {peers[2].address} 3"])


def limited_peers(lab, guard, count):
    """So many peers may have two links each. Their addresses, in the order of the state file."""
    peers = sorted((lab.fresh().address for _ in range(count)), key=lambda text: [int(part) for part in text.split(".")])
    for address in peers:
        guard.tell("limit", address, "2")
    return peers


@test
def what_finds_no_room_after_a_reload_is_not_forgotten(lab):
    guard = lab.own_guard(max_peers=64)
    peers = limited_peers(lab, guard, 40)
    expected = decisions(guard)
    # The entries at the port that leaves have a limit too, and stay.
    guard.write(dict(guard.options, port=OTHER_PORT))
    guard.cli("reload")
    status, text = guard.cli("status")
    assert status == 1 and "not all that operators have decided is in force: the peers map is full" in text, text
    guard.stop()
    assert decisions(guard) == expected
    guard.start()
    assert all(guard.peer(address)["limit"] == 2 for address in peers)


@test
def what_finds_no_room_is_told_and_not_forgotten(lab):
    guard = lab.own_guard(max_peers=64)
    peers = limited_peers(lab, guard, 40)
    expected = [f"limit {address} 2" for address in peers]
    assert decisions(guard) == expected
    guard.stop()
    guard.write(dict(guard.options, max_peers=SMALLEST_MAP))
    up_with_problems(guard)
    status, text = guard.cli("status")
    assert status == 1 and "not all that operators have decided is in force: the peers map is full" in text, text
    assert len(guard.peers()) == SMALLEST_MAP
    # Nor is it in the way: it can be taken back, by the daemon and without one.
    known = {peer["address"] for peer in guard.peers()}
    first, second = [address for address in peers if address not in known][:2]
    guard.tell("limit", first, "0")
    guard.end(signal.SIGKILL)
    guard.tell("limit", second, "0")
    for address in (first, second):
        expected.remove(f"limit {address} 2")
        peers.remove(address)
    assert decisions(guard) == expected
    up_with_problems(guard)
    guard.stop()
    assert decisions(guard) == expected
    guard.write(dict(guard.options, max_peers=64))
    guard.start()
    assert all(guard.peer(address)["limit"] == 2 for address in peers)


@test
def loaded_without_a_daemon_it_has_them(lab):
    guard, peer = lab.own_guard(), lab.fresh()
    guard.tell("panic")
    guard.tell("limit", peer.address, "3")
    guard.stop()
    run(*lab.home.inside(CLI, "-n", guard.name, "--config", guard.file, "load"))
    _status, document = guard.cli_json("status")
    assert document["mode"] == "off" and document["decided"]["mode"]["since"], document
    assert document["decided"]["limits"] == 1
    assert guard.peers()[0]["decided_limit"] == 3
    guard.tell("resume")
    guard.tell("unload")
    assert decisions(guard) == [f"limit {peer.address} 3"]


@test
def of_one_that_bpftool_loaded_the_file_is_not_forgotten(lab):
    guard, limited, other = lab.own_guard(), lab.fresh(), lab.fresh()
    guard.tell("limit", limited.address, "3")
    guard.tell("panic")
    guard.stop()
    load(lab, guard)
    assert guard.cli_json("status")[1]["mode"] == "enforce"
    # A decision without a daemon changes that alone.
    guard.tell("limit", other.address, "2")
    assert decisions(guard) == ["mode off", f"limit {limited.address} 3", f"limit {other.address} 2"]
    guard.start()
    assert guard.status()["mode"] == "off"
    assert guard.peer(limited.address)["limit"] == 3 and guard.peer(other.address)["limit"] == 2
