# SPDX-License-Identifier: BSD-2-Clause
"""Links: a connection that leaves ESTABLISHED, by whatever way, is a link no more."""

import itertools

from harness import FAMILIES, PATIENCE, PORT, wait_past
from registry import core, each, test
from steps import (assert_dial_refused, assert_passed, dial, link_in, link_out, listen_home,
                   refusal, wait_state)

FIN_WAIT2, CLOSE_WAIT = 5, 8

CASES = [f"{direction}, {end}, {family}" for direction, end, family in itertools.product(
    ("outbound", "inbound"),
    ("we close", "we reset", "we shut down", "they close", "they reset", "they shut down"),
    ("IPv4", "IPv6", "v4-mapped"))]


@each(*CASES)
@core(*(case for case in CASES if case.endswith("IPv4" if case.startswith("outbound") else "IPv6")))
def that_end_make_room(lab, case):
    """FIN_WAIT and CLOSE_WAIT are not links, also while the sockets are still open."""
    direction, end, family_name = case.split(", ")
    family = next(family for family in FAMILIES if family.name == family_name)
    guard, peer = lab.guard(min_uptime="0s"), lab.fresh(family)
    watch = guard.watch()
    peer.listen()
    listener = listen_home(lab, family)
    link = link_out(lab, peer) if direction == "outbound" else link_in(lab, peer, listener)
    assert_dial_refused(lab, watch, peer, "dial_linked")
    if end == "we close":
        lab.home("close", fd=link.here)
    elif end == "we reset":
        lab.home("close", fd=link.here, reset=True)
    elif end == "we shut down":
        lab.home("shutdown", fd=link.here)
        wait_state(lab.home, link.here, FIN_WAIT2, "FIN_WAIT2")
    elif end == "they close":
        peer.host("close", fd=link.there)
        wait_state(lab.home, link.here, CLOSE_WAIT, "CLOSE_WAIT")
    elif end == "they reset":
        peer.host("close", fd=link.there, reset=True)
    else:
        peer.host("shutdown", fd=link.there)
        wait_state(lab.home, link.here, CLOSE_WAIT, "CLOSE_WAIT")
    event = watch.event(peer, "link_ended", cookie=link.cookie)
    assert event["direction"] == direction and event["until_ns"] is None, event
    assert event["subject"] == "link" and event["verdict"] == "none", event
    link_out(lab, peer)
    if direction == "outbound":
        watch.counted(dial_idle=2, link_outbound=2, dial_linked=1, link_ended=1)
    else:
        watch.counted(knock_idle=1, link_inbound=1, dial_idle=1, link_outbound=1, dial_linked=1,
                      link_ended=1)


@test
@core()
def a_knock_is_let_in_while_the_old_link_closes(lab):
    guard, peer = lab.guard(min_uptime="0s"), lab.fresh()
    listener = listen_home(lab)
    watch = guard.watch()
    first = link_in(lab, peer, listener)
    peer.host("shutdown", fd=first.there)
    wait_state(lab.home, first.here, CLOSE_WAIT, "CLOSE_WAIT")
    link_in(lab, peer, listener)
    watch.event(peer, "link_inbound", count=2)
    watch.counted(knock_idle=2, link_inbound=2, link_ended=1)


@test
@core()
def an_old_link_that_ends_late_does_not_end_the_new_one(lab):
    """The half-closed old socket is closed after the new link is up."""
    guard, peer = lab.guard(min_uptime="0s"), lab.fresh()
    watch = guard.watch()
    old = link_out(lab, peer)
    peer.host("close", fd=old.there)
    watch.event(peer, "link_ended", cookie=old.cookie)
    new = link_out(lab, peer)
    lab.home("close", fd=old.here, reset=True)
    event = assert_dial_refused(lab, watch, peer, "dial_linked")
    assert event["other_cookie"] == new.cookie, event
    watch.counted(dial_idle=2, link_outbound=2, link_ended=1, dial_linked=1)


@test
@core()
def a_link_that_lived_longer_than_min_uptime_is_no_failure(lab):
    guard, peer = lab.guard(min_uptime="200ms"), lab.fresh()
    watch = guard.watch()
    link = link_out(lab, peer)
    up = watch.event(peer, "link_outbound")
    wait_past(up["time_ns"] + 200_000_000)
    link.close()
    event = watch.event(peer, "link_ended", cookie=link.cookie)
    assert event["attempts"] == 0 and event["until_ns"] is None, event
    watch.counted(dial_idle=1, link_outbound=1, link_ended=1)


@test
@core()
def one_of_two_links_ends_and_makes_room_for_one(lab):
    guard, peer = lab.guard(max_links=2, min_uptime="0s"), lab.fresh()
    watch = guard.watch()
    first, second = link_out(lab, peer), link_out(lab, peer)
    first.close()
    watch.event(peer, "link_ended", cookie=first.cookie)
    link_out(lab, peer)
    assert_dial_refused(lab, watch, peer, "dial_linked")
    watch.counted(dial_idle=3, link_outbound=3, link_ended=1, dial_linked=1)
    assert second.alive()


@test
@core()
def data_flows_over_a_guarded_link(lab):
    guard, peer = lab.guard(), lab.fresh()
    link = link_out(lab, peer)
    lab.home("send", fd=link.here, text="there")
    assert peer.host("receive", fd=link.there, timeout=PATIENCE) == "there"
    peer.host("send", fd=link.there, text="and back")
    assert lab.home("receive", fd=link.here, timeout=PATIENCE) == "and back"
    assert guard.state(peer.address) == "linked"


@test
@core()
def a_link_that_was_dialed_and_connected_answers_a_second_connect_as_ever(lab):
    """EISCONN and EALREADY are the kernel's own business: the hook is not asked."""
    guard, peer = lab.guard(), lab.fresh()
    watch = guard.watch()
    link = link_out(lab, peer)
    result = lab.home("connect", fd=link.here, address=peer.dial, port=PORT)
    assert result["errno"] == "EISCONN", result
    void = lab.void()
    pending = dial(lab, void, blocking=False)
    result = lab.home("connect", fd=pending["fd"], address=void.dial, port=PORT, blocking=False)
    assert result["errno"] == "EALREADY", result
    watch.event(peer, "link_outbound")
    watch.counted(dial_idle=2, link_outbound=1)


@test
@core()
def fast_open_is_a_dial_like_any_other(lab):
    """Its SYN carries data."""
    guard, peer, other = lab.guard(), lab.fresh(), lab.fresh()
    for host in (lab.home, lab.left):
        host.sysctl("net.ipv4.tcp_fastopen", 3)
        lab.at_end(host.sysctl, "net.ipv4.tcp_fastopen", 1)
    watch = guard.watch()
    other.listen()
    result = assert_passed(lab.home("fast_open", address=other.address, port=PORT, text="hello"))
    watch.event(other, "link_outbound", cookie=result["cookie"])
    link_out(lab, peer)
    result = lab.home("fast_open", address=peer.address, port=PORT, text="hello")
    assert result["errno"] == refusal(), result
    watch.event(peer, "dial_linked", cookie=result["cookie"])
    watch.counted(dial_idle=2, link_outbound=2, dial_linked=1)
