# SPDX-License-Identifier: BSD-2-Clause
"""Dead links: a peer that crashed is not refused for the sake of its old link for ever."""

from harness import FAMILIES, IPV4, PORT, SECOND, now_ns, wait_for, wait_past
from registry import core, each, each_family, needs, test
from steps import assert_knock_refused, assert_passed, link_in, link_out, listen_home

LIVENESS = "3s"
# Three seconds, and the keepalive timer's own granularity; the end of a hang.
DEAD_SECONDS = 30


def crash(peer, link):
    """The peer's host dies: nothing leaves it any more, no FIN, no RST. How to bring it back."""
    revive = peer.host.silence(peer.address)
    peer.host("close", fd=link.there, reset=True)
    return revive


CASES = [f"{direction}, {family.name}" for family in FAMILIES for direction in ("outbound", "inbound")]


def made(lab, case):
    """A link of this case: who has it, and the link."""
    direction, family_name = case.split(", ")
    family = next(family for family in FAMILIES if family.name == family_name)
    peer = lab.fresh(family)
    peer.listen()
    listener = listen_home(lab, family)
    return peer, listener, link_out(lab, peer) if direction == "outbound" else link_in(lab, peer, listener)


@each(*CASES)
@core("outbound, IPv4", "inbound, IPv6")
@needs("socket_options")
def with_a_dead_peer_end_and_let_it_in_again(lab, case):
    """A peer that is gone without a word."""
    guard = lab.guard(liveness=LIVENESS, min_uptime="0s")
    watch = guard.watch()
    peer, listener, link = made(lab, case)
    assert_knock_refused(watch, peer)
    revive = crash(peer, link)
    try:
        event = watch.event(peer, "link_ended", seconds=DEAD_SECONDS, cookie=link.cookie)
        assert event["direction"] == case.split(", ")[0] and event["ending"] == "silence", event
    finally:
        revive()
    assert link_in(lab, peer, listener).accepted
    watch.counted_at_least(link_ended=1, link_inbound=1, knock_linked=1)


@each(*CASES)
@core("outbound, IPv6", "inbound, IPv4")
def with_data_on_their_way_end_by_the_verdict_of_tcp(lab, case):
    """No user timeout of ours ends a link while TCP still tries: only that the peer knows nothing of it."""
    guard = lab.guard(liveness=LIVENESS, min_uptime="0s")
    watch = guard.watch()
    peer, listener, link = made(lab, case)
    revive = crash(peer, link)
    try:
        lab.home("send", fd=link.here, text="is anybody there?")
        # Longer than a user timeout of this length would let it live.
        wait_past(now_ns() + 5 * SECOND)
        assert lab.home("state", fd=link.here) == 1
        watch.no_event(peer, "link_ended")
    finally:
        revive()
    event = watch.event(peer, "link_ended", cookie=link.cookie)
    assert event["ending"] == "reset", event
    assert link_in(lab, peer, listener).accepted


@each("inbound", "outbound")
@core()
@needs("socket_options")
def that_have_settings_of_their_own_keep_them(lab, direction):
    """Keepalive is switched on only where the service has set neither that nor a user timeout."""
    guard = lab.guard(liveness=LIVENESS, min_uptime="0s")
    none = {"on": False, "idle": 7200, "interval": 75, "probes": 9, "user_timeout": 0}
    ours = dict(none, on=True, idle=1, interval=1, probes=3)
    for settings, expected in (({}, ours),
                               ({"on": True}, dict(none, on=True)),
                               ({"on": True, "idle": 600, "probes": 5}, dict(none, on=True, idle=600, probes=5)),
                               ({"user_timeout": 90}, dict(none, user_timeout=90)),
                               ({"on": True, "user_timeout": 90}, dict(none, on=True, user_timeout=90))):
        peer = lab.fresh()
        if direction == "outbound":
            peer.listen()
            fd = lab.home("socket", address=peer.dial)["fd"]
            lab.home("set_keepalive", fd=fd, **settings)
            assert_passed(lab.home("connect", fd=fd, address=peer.dial, port=PORT))
        else:
            listener = listen_home(lab)
            # What a listener is set to its links inherit.
            lab.home("set_keepalive", fd=listener, **settings)
            fd = link_in(lab, peer, listener).here
            lab.home("close", fd=listener)
        guard.wait_state(peer.address, "linked")
        found = lab.home("keepalive", fd=fd)
        assert found == expected, (settings, found)


@test
def is_off_unless_asked_for(lab):
    guard = lab.guard(min_uptime="0s")
    assert guard.status()["policy"]["liveness_ns"] == 0
    peer = lab.fresh()
    assert not lab.home("keepalive", fd=link_out(lab, peer).here)["on"]


@each_family
@core("IPv4")
def that_is_silent_lives(lab, family):
    """Silence alone never kills."""
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
@needs("socket_options")
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
@needs("socket_iterator", "socket_options")
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
