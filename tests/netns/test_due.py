# SPDX-License-Identifier: BSD-2-Clause
"""Due peers, known peers and the central dial policy."""

import os
import signal

from harness import DAEMON, SECOND, Events, paced, run, wait_for, wait_past
from registry import core, each, test
from steps import (assert_dial_refused, assert_passed, assert_refused, dial, fail_dial, link_in,
                   link_out, listen_home, refusal)


def guard_with_peers(lab, peers, **options):
    """A guard of its own whose peers file names these."""
    guard = lab.own_guard(start=False, **options)
    guard.peers_file = os.path.join(guard.directory, "peers")
    write_peers(guard, peers)
    guard.write(dict(guard.options, peers=guard.peers_file))
    return guard.start()


def write_peers(guard, peers, text=None):
    with open(guard.peers_file, "w", encoding="utf-8") as file:
        file.write(text or "# known peers\n" + "".join(f"{peer.address}\n" for peer in peers))


def follow_due(lab, guard):
    stream = Events(guard, "due")
    lab.at_end(stream.stop)
    return stream


@test
@core()
def the_check_announces_the_idle_and_no_others(lab):
    idle, linked, backing_off, knocked = (lab.fresh() for _ in range(4))
    dialing = lab.void()
    guard = guard_with_peers(lab, [idle, linked, dialing, backing_off], check_interval="300ms",
                             initial="60s", max="60s")
    # A listener that comes up ends every backoff.
    listener = listen_home(lab)
    watch = guard.watch()
    link_out(lab, linked)
    dial(lab, dialing, blocking=False)
    fail_dial(lab, watch, backing_off)
    # It only ever knocks: there is no port to dial it at.
    link_in(lab, knocked, listener).close()
    stream = follow_due(lab, guard)
    stream.wait(address=idle.address, count=3)
    for peer in (linked, dialing, backing_off, knocked):
        assert not stream.find(address=peer.address), peer.address
    # Who follows is told again with each check; an event is once, of each peer in the file.
    assert len(guard.events.find(cause="peer_due", address=idle.address)) <= 1
    assert guard.counters()["peer_due"] <= 4, guard.counters()
    status, document = guard.cli_json("due")
    assert status == 0 and [one["address"] for one in document["due"]] == [idle.address], document
    assert document["due"][0]["known"] is True


@test
@core()
def a_peer_is_announced_when_its_backoff_ends(lab):
    """By the timer queue, not by the check."""
    guard, peer = lab.guard(), lab.fresh()
    stream = follow_due(lab, guard)
    watch = guard.watch()
    failure = fail_dial(lab, watch, peer)
    event = watch.event(peer, "peer_due")
    late = event["time_ns"] - failure["until_ns"]
    # The check comes every two minutes.
    assert 0 <= late < 20 * SECOND, f"announced {late / 1e6:.1f} ms after the deadline"
    announced = stream.wait(address=peer.address)
    assert announced["attempts"] == 1 and announced["known"] is False, announced
    watch.counted(dial_idle=1, dial_failed=1)
    watch.counted_at_least(peer_due=1)


@test
def a_peer_whose_link_ends_is_announced(lab):
    guard, peer = lab.guard(min_uptime="0s"), lab.fresh()
    watch = guard.watch()
    link_out(lab, peer).close()
    watch.event(peer, "link_ended")
    watch.event(peer, "peer_due")


@test
def a_kicked_peer_is_announced(lab):
    guard, peer = lab.guard(initial="60s", max="60s"), lab.fresh()
    watch = guard.watch()
    fail_dial(lab, watch, peer)
    guard.tell("kick", peer.address)
    watch.event(peer, "peer_due")


@test
@core()
def central_policy_lets_only_announced_dials_pass_and_each_once(lab):
    known, unknown = lab.fresh(), lab.fresh()
    guard = guard_with_peers(lab, [known], dial_policy="central", check_interval="500ms",
                             initial=paced(2000), max=paced(2000))
    stream = follow_due(lab, guard)
    unknown.listen()
    watch = guard.watch()
    assert_dial_refused(lab, watch, unknown, "dial_not_due")
    stream.wait(address=known.address)
    failure = fail_dial(lab, watch, known)
    # The announcement is used up; the backoff goes first, then the next announcement counts.
    assert_dial_refused(lab, watch, known, "dial_backoff")
    mark = len(stream.list)
    wait_past(failure["until_ns"])
    stream.wait(mark, address=known.address)
    link_out(lab, known)
    watch.event(known, "link_outbound")
    assert_dial_refused(lab, watch, known, "dial_linked")
    watch.counted_at_least(dial_not_due=1, dial_idle=2, peer_due=1)


@test
def central_policy_learns_a_peer_from_its_refused_dial(lab):
    """One that no file names is announced by the next check, not before."""
    peer = lab.fresh()
    guard = guard_with_peers(lab, [], dial_policy="central", check_interval="1s")
    stream = follow_due(lab, guard)
    peer.listen()
    watch = guard.watch()
    assert_dial_refused(lab, watch, peer, "dial_not_due")
    status, document = guard.explain(peer.address)
    assert document["knock"]["passes"], document
    if status == 3:
        assert document["dial"]["cause"] == "dial_not_due", document
    stream.wait(address=peer.address)
    link_out(lab, peer)
    watch.counted_at_least(dial_not_due=1, dial_idle=1, peer_due=1)


@test
def central_policy_lets_everybody_knock(lab):
    guard = guard_with_peers(lab, [], dial_policy="central")
    peer = lab.fresh()
    watch = guard.watch()
    link_in(lab, peer, listen_home(lab))
    watch.event(peer, "link_inbound")
    watch.counted(knock_idle=1, link_inbound=1)


@test
@core()
def central_policy_of_many_threads_lets_one_dial(lab):
    peer = lab.fresh()
    peer.listen()
    guard = guard_with_peers(lab, [peer], dial_policy="central", check_interval="300ms")
    follow_due(lab, guard).wait(address=peer.address)
    watch = guard.watch()
    results = lab.home("storm", address=peer.dial, port=24000, dials=8, at=None)
    assert sorted(results) == [refusal()] * 7 + ["success"], results
    assert watch.grown()["dial_idle"] == 1
    watch.event(peer, "link_outbound")


@each("kill -9", "SIGQUIT")
@core("kill -9")
def central_policy_without_a_daemon_is_shared(lab, way):
    """Nobody is locked out by a daemon that died."""
    guard = guard_with_peers(lab, [], dial_policy="central")
    peer = lab.fresh()
    peer.listen()
    watch = guard.watch()
    assert_dial_refused(lab, watch, peer, "dial_not_due")
    guard.end(signal.SIGKILL if way == "kill -9" else signal.SIGQUIT)
    if way == "SIGQUIT":
        assert_passed(dial(lab, peer))
    else:
        wait_for(lambda: dial(lab, peer)["errno"] == "success", "the shared policy holds")
    # And it is a policy.
    assert_refused(dial(lab, peer))
    guard.start()
    other = lab.fresh()
    watch = guard.watch()
    assert_dial_refused(lab, watch, other, "dial_not_due")


@each("SIGHUP", "connguard reload")
def the_peers_file_is_read_again(lab, way):
    first, second = lab.fresh(), lab.fresh()
    guard = guard_with_peers(lab, [first])
    assert guard.peer(first.address)["known"] and guard.peer(second.address) is None
    write_peers(guard, [], f"{second.address} limit=2\n")
    if way == "SIGHUP":
        guard.signal(signal.SIGHUP)
    else:
        guard.tell("reload")
    wait_for(lambda: guard.peer(second.address), "the new peer is known")
    assert guard.peer(second.address)["known"] and guard.peer(second.address)["limit"] == 2
    assert not guard.peer(first.address)["known"]
    watch = guard.watch()
    link_out(lab, second)
    link_out(lab, second)
    assert_dial_refused(lab, watch, second, "dial_linked")


@test
def a_limit_that_leaves_the_peers_file_leaves_the_peer(lab):
    peer = lab.fresh()
    guard = guard_with_peers(lab, [])
    write_peers(guard, [], f"{peer.address} limit=3\n")
    guard.tell("reload")
    assert guard.peer(peer.address)["limit"] == 3
    write_peers(guard, [peer])
    guard.tell("reload")
    assert guard.peer(peer.address)["limit"] == 1, guard.peer(peer.address)


def check_config(guard):
    return run(DAEMON, "-c", guard.file, "--check-config", guard.name, check=False)


WRONG_LINES = {
    "no address": "not-an-address",
    "limit out of range": "10.0.0.2 limit=99",
    "loopback": "127.0.0.1",
    "an address twice": "10.0.0.1",
    "an unknown word": "10.0.0.2 colour=blue",
}


@test
def a_wrong_peers_file_is_refused_with_its_place(lab):
    known = lab.fresh()
    guard = guard_with_peers(lab, [known])
    status, output = check_config(guard)
    assert status == 0 and not output, output
    for case, line in WRONG_LINES.items():
        write_peers(guard, [], f"10.0.0.1\n{line}\n")
        status, output = check_config(guard)
        assert status == 2 and f"{guard.peers_file}:2:" in output, (case, status, output)
        status, output = guard.cli("reload")
        assert status == 1 and f"{guard.peers_file}:2:" in output, (case, status, output)
        assert guard.peer(known.address)["known"], f"{case}: the last good peers stay"
        assert guard.peer("10.0.0.1") is None, case
