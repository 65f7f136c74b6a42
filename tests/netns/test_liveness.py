# SPDX-License-Identifier: BSD-2-Clause
"""Dead links: a peer that crashed is not refused for the sake of its old link for ever."""

from harness import FAMILIES, IPV4, SECOND, TIME_SCALE, wait_for, wait_past
from registry import core, each, each_family, needs, test
from steps import link_in, link_out, listen_home, assert_knock_refused

LIVENESS = "3s"
# Three seconds, and the keepalive timer's own granularity; the end of a hang.
DEAD_SECONDS = 30


def crash(peer, link):
    """The peer's host dies: nothing leaves it any more, no FIN, no RST. How to bring it back."""
    revive = peer.host.silence(peer.address)
    peer.host("close", fd=link.there, reset=True)
    return revive


@each(*[f"{direction}, {data}, {family.name}" for family in FAMILIES
        for direction in ("outbound", "inbound") for data in ("idle", "unacknowledged data")])
@core("outbound, idle, IPv4", "inbound, idle, IPv6",
      "outbound, unacknowledged data, IPv6", "inbound, unacknowledged data, IPv4")
def with_a_dead_peer_end_and_let_it_in_again(lab, case):
    """Edge cases 1 and 3."""
    direction, data, family_name = case.split(", ")
    family = next(family for family in FAMILIES if family.name == family_name)
    guard, peer = lab.guard(liveness=LIVENESS, min_uptime="0s"), lab.fresh(family)
    watch = guard.watch()
    peer.listen()
    listener = listen_home(lab, family)
    link = link_out(lab, peer) if direction == "outbound" else link_in(lab, peer, listener)
    assert_knock_refused(watch, peer)
    revive = crash(peer, link)
    try:
        if data != "idle":
            lab.home("send", fd=link.here, text="is anybody there?")
        event = watch.event(peer, "link_ended", seconds=DEAD_SECONDS, cookie=link.cookie)
        assert event["direction"] == direction, event
    finally:
        revive()
    assert link_in(lab, peer, listener).accepted
    watch.counted_at_least(link_ended=1, link_inbound=1, knock_linked=1)


@each_family
@core("IPv4")
def that_is_silent_lives(lab, family):
    """Edge case 2: silence alone never kills."""
    guard, peer = lab.guard(liveness=LIVENESS, min_uptime="0s"), lab.fresh(family)
    watch = guard.watch()
    listener = listen_home(lab, family)
    link = link_in(lab, peer, listener)
    up = watch.event(peer, "link_inbound")
    # Well past the time in which a dead one ends.
    wait_past(up["time_ns"] + 8 * SECOND)
    assert link.alive()
    assert_knock_refused(watch, peer)
    watch.no_event(peer, "link_ended")


@test
@core()
def of_a_service_are_its_own_with_liveness_off(lab):
    guard, peer = lab.guard(liveness="0s", min_uptime="0s"), lab.fresh(IPV4)
    peer.listen()
    link = link_out(lab, peer)
    assert not lab.home("keepalive", fd=link.here)["on"]
    lab.guard(liveness=LIVENESS, min_uptime="0s")
    second = lab.fresh(IPV4)
    second.listen()
    assert lab.home("keepalive", fd=link_out(lab, second).here)["on"]


@test
@needs("socket_iterator")
def that_are_adopted_are_kept_honest_too(lab):
    """A link that is older than the guard dies of a dead other end as well."""
    peer = lab.fresh(IPV4)
    lab.retire_shared()
    peer.listen()
    link = link_out(lab, peer)
    guard = lab.own_guard(liveness=LIVENESS, min_uptime="0s", check_interval="1s")
    assert guard.peer(peer.address)["links"][0]["adopted"]
    assert lab.home("keepalive", fd=link.here)["on"]
    revive = crash(peer, link)
    try:
        wait_for(lambda: not guard.peer(peer.address)["links"],
                 lambda: f"the adopted link ends: {guard.peer(peer.address)}", DEAD_SECONDS)
    finally:
        revive()
