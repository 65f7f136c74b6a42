# SPDX-License-Identifier: BSD-2-Clause
"""Their knocks: refused with RST while linked, allowed otherwise."""

from harness import IPV4, MAPPED, PATIENCE, PORT, TIME_SCALE, wait_for, wait_past
from registry import core, each, each_family, test
from steps import (assert_knock_refused, assert_passed, assert_refused, assert_reset, dial, fail_dial,
                   link_in, link_out, listen_home, wait_not_new)


@each_family
@core("IPv4", "IPv6")
def refused_while_linked_by_our_dial(lab, family):
    guard, peer = lab.guard(), lab.fresh(family)
    listener = listen_home(lab, family)
    watch = guard.watch()
    link = link_out(lab, peer)
    event = assert_knock_refused(watch, peer)
    assert event["other_cookie"] == link.cookie, event
    watch.counted(dial_idle=1, link_outbound=1, knock_linked=1)
    assert lab.home("accept", fd=listener, timeout=0.1) is None, "the service sees a duplicate"
    assert link.alive()
    status, document = guard.explain(peer.address)
    assert status == 3 and document["knock"]["cause"] == "knock_linked", document
    assert document["peer"]["refused_knocks"] == 1, document


@each_family
@core("IPv4", "IPv6")
def refused_while_linked_by_their_knock(lab, family):
    guard, peer = lab.guard(), lab.fresh(family)
    listener = listen_home(lab, family)
    watch = guard.watch()
    link = link_in(lab, peer, listener)
    for _ in range(3):
        event = assert_knock_refused(watch, peer)
        assert event["other_cookie"] == link.cookie, event
    watch.counted(knock_idle=1, link_inbound=1, knock_linked=3)
    assert lab.home("accept", fd=listener, timeout=0.1) is None, "the service sees a duplicate"
    assert link.alive()


@each_family
@core("IPv4", "IPv6")
def allowed_in_backoff_and_the_link_is_tracked(lab, family):
    guard, peer = lab.guard(initial="30s", max="60s"), lab.fresh(family)
    listener = listen_home(lab, family)
    watch = guard.watch()
    fail_dial(lab, watch, peer)
    assert guard.explain(peer.address)[1]["knock"]["cause"] == "knock_backoff"
    link_in(lab, peer, listener)
    watch.event(peer, "link_inbound")
    peer.listen()
    wait_not_new()
    result = assert_refused(dial(lab, peer))
    watch.event(peer, "dial_linked", cookie=result["cookie"])
    watch.counted(dial_idle=1, dial_failed=1, knock_backoff=1, link_inbound=1, dial_linked=1)


@test
@core()
def a_knock_that_proves_stable_ends_the_backoff(lab):
    """Whoever made the link: the peer is there."""
    guard = lab.guard(initial="30s", max="60s", min_uptime="50ms", stable_after="400ms")
    peer = lab.fresh()
    listener = listen_home(lab)
    watch = guard.watch()
    fail_dial(lab, watch, peer)
    link = link_in(lab, peer, listener)
    up = watch.event(peer, "link_inbound")
    wait_past(up["time_ns"] + 400_000_000)
    link.close()
    event = watch.event(peer, "link_ended")
    assert event["attempts"] == 0 and event["until_ns"] is None, event
    peer.listen()
    link_out(lab, peer)


@each_family
@core("IPv4", "IPv6")
def dropped_silently_when_told_so(lab, family):
    guard, peer = lab.guard(reject="drop"), lab.fresh(family)
    listener = listen_home(lab, family)
    watch = guard.watch()
    link = link_in(lab, peer, listener)
    pending = peer.knock(blocking=False)
    assert pending["errno"] == "EINPROGRESS", pending
    event = watch.event(peer, "knock_linked", remote_port=pending["local"][1])
    assert event["enforced"] is True and event["other_cookie"] == link.cookie, event
    assert peer.host("settle", fd=pending["fd"], timeout=0.5) is None, "the knock was answered"
    watch.counted_at_least(knock_linked=1)
    assert lab.home("accept", fd=listener, timeout=0.1) is None, "the service sees a duplicate"
    # The retransmitted SYN asks again, and gets in when the link is over.
    link.close()
    outcome = peer.host("settle", fd=pending["fd"], timeout=PATIENCE * TIME_SCALE)
    assert outcome and outcome["errno"] == "success", outcome
    assert lab.home("accept", fd=listener, timeout=PATIENCE)


@each_family
@core("IPv4", "IPv6")
def a_second_knock_where_two_links_are_allowed(lab, family):
    guard, peer = lab.guard(max_links=2), lab.fresh(family)
    listener = listen_home(lab, family)
    watch = guard.watch()
    link_in(lab, peer, listener)
    link_in(lab, peer, listener)
    assert_knock_refused(watch, peer)
    watch.counted(knock_idle=2, link_inbound=2, knock_linked=1)


@test
@core()
def a_dual_stack_listener_takes_each_peer_once(lab):
    """IPv4 peers of a "::" listener are the same peers, refused in the same way."""
    guard = lab.guard()
    ipv4, ipv6 = lab.fresh(MAPPED), lab.fresh(IPV4)
    listener = listen_home(lab, MAPPED)
    watch = guard.watch()
    first = assert_passed(ipv4.knock())
    accepted = lab.home("accept", fd=listener, timeout=PATIENCE)
    assert accepted["remote"][0] == f"::ffff:{ipv4.address}", accepted
    assert_knock_refused(watch, ipv4)
    link_in(lab, ipv6, listener)
    assert_knock_refused(watch, ipv6)
    watch.counted(knock_idle=2, link_inbound=2, knock_linked=2)
    assert ipv4.host("state", fd=first["fd"]) == 1


@test
@core()
def a_knock_on_a_port_where_nobody_listens_is_not_ours(lab):
    guard, peer = lab.guard(), lab.fresh()
    watch = guard.watch()
    result = peer.knock()
    assert result["errno"] == "ECONNREFUSED", result
    watch.counted()


# Flags of TCP's header, RFC 9293, section 3.1.
FIN, ACK = 1, 16


@each("reset", "drop")
def a_stray_segment_of_a_linked_peer(lab, reject):
    """Where RST is the answer no flags are seen, and it is told as a knock: a known limit."""
    guard, peer = lab.guard(reject=reject), lab.fresh()
    listen_home(lab)
    watch = guard.watch()
    link_out(lab, peer)
    watch.event(peer, "link_outbound")
    resets = lab.home.snmp("Tcp", "OutRsts")
    for flags in (FIN, ACK):
        peer.host("stray", source=peer.address, address=IPV4.home, port=PORT, flags=flags)
    if reject == "reset":
        watch.event(peer, "knock_linked", count=2)
        wait_for(lambda: lab.home.snmp("Tcp", "OutRsts") >= resets + 2, "both are answered")
    else:
        knock = peer.knock(blocking=False)
        # The first that is told.
        event = watch.event(peer, "knock_linked")
        assert event["remote_port"] == knock["local"][1], (event, knock)


@test
@core()
def two_listeners_of_one_service(lab):
    """Told so, several ports are one service: a link on one refuses a knock on the other."""
    guard, peer = lab.own_guard(port=f"{PORT}, 24002", share_limit="yes"), lab.fresh()
    listener = listen_home(lab)
    other = listen_home(lab, port=24002)
    watch = guard.watch()
    assert sorted(guard.status()["ports"]) == [PORT, 24002]
    link_in(lab, peer, listener)
    result = assert_reset(peer.knock(port=24002))
    event = watch.event(peer, "knock_linked", remote_port=result["local"][1])
    assert event["local_port"] == 24002, event
    watch.counted(knock_idle=1, link_inbound=1, knock_linked=1)
    assert lab.home("accept", fd=other, timeout=0.1) is None
