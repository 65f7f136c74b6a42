# SPDX-License-Identifier: BSD-2-Clause
"""Claims: every one ends, whatever becomes of its socket."""

import os

from harness import IPV4, IPV6, PORT, SECOND, TIME_SCALE, lacks, paced, wait_for
from registry import core, each, each_family, test
from steps import (assert_dial_refused, assert_passed, assert_refused, dial, fail_dial, link_out,
                   start_foreign)

NO_ROUTE = {"IPv4": "198.51.100.1", "IPv6": "2001:db8::1", "v4-mapped": "::ffff:198.51.100.2"}


def claims_of(guard, peer):
    document = guard.peer(peer.address)
    return document["claims"] if document else []


@each_family
@core("IPv4", "IPv6")
def of_a_dial_without_a_route_ends_with_its_socket(lab, family):
    guard = lab.guard()
    address = NO_ROUTE[family.name]
    key = address.replace("::ffff:", "")
    watch = guard.watch()
    for _ in range(2):
        result = lab.home("dial", address=address, port=PORT)
        assert result["errno"] == "ENETUNREACH", result
    event = watch.event(key, "claim_closed", count=2)
    assert event["until_ns"] is None and event["attempts"] == 0, event
    watch.counted(dial_idle=2, claim_closed=2)
    assert guard.peer(key)["claims"] == [] and guard.state(key) == "idle"


@test
@core()
def of_a_dial_without_a_route_is_void_soon_even_if_the_socket_stays(lab):
    guard = lab.guard()
    address = "198.51.100.3"
    watch = guard.watch()
    first = lab.home("dial", address=address, port=PORT, keep_failed=True)
    assert first["errno"] == "ENETUNREACH", first
    assert_refused(lab.home("dial", address=address, port=PORT))
    watch.event(address, "dial_dialing")
    # The holder itself may try again.
    result = lab.home("connect", fd=first["fd"], address=address, port=PORT)
    assert result["errno"] == "ENETUNREACH", result
    watch.event(address, "dial_again", cookie=first["cookie"])
    # Two seconds: no SYN leaves after that (CLAIM_UNSENT_MAX_NS).
    wait_for(lambda: lab.home("dial", address=address, port=PORT)["errno"] == "ENETUNREACH",
             "the unsent claim is void")
    watch.counted_at_least(dial_idle=2, dial_again=1, dial_dialing=1)


@test
@core()
def of_another_users_dial_that_fails_here_are_in_nobodys_way(lab):
    """Whoever is in the cgroup can have his dials fail as often as he likes, without a packet."""
    guard, peer = lab.guard(), lab.fresh()
    peer.listen()
    watch = guard.watch()
    stranger = lab.home.add_worker("cgt-stranger")
    stranger("become", user=65534)
    # From loopback to somewhere else: there is no such route.
    failed = stranger("dial", address=peer.dial, port=PORT, source="127.0.0.1", keep_failed=True)
    assert failed["errno"] == "EINVAL", failed
    assert_passed(dial(lab, peer))
    watch.event(peer, "link_outbound")
    watch.counted(dial_idle=2, link_outbound=1)


@test
@core()
def of_a_dial_without_a_source_port_ends_with_its_socket(lab):
    """EADDRNOTAVAIL: the 4-tuple is taken."""
    guard, peer = lab.guard(max_links=2), lab.fresh()
    peer.listen()
    watch = guard.watch()
    options = {"source": "10.77.0.1", "source_port": 40000, "reuse": True}
    assert_passed(dial(lab, peer, **options))
    result = dial(lab, peer, **options)
    assert result["errno"] == "EADDRNOTAVAIL", result
    watch.event(peer, "claim_closed", cookie=result["cookie"])
    watch.counted(dial_idle=2, link_outbound=1, claim_closed=1)
    assert claims_of(guard, peer) == []
    assert_passed(dial(lab, peer))


@test
def of_a_socket_bound_to_a_foreign_address_is_never_made(lab):
    guard, peer = lab.guard(), lab.fresh()
    watch = guard.watch()
    lab.home.sysctl("net.ipv4.ip_nonlocal_bind", 0)
    try:
        dial(lab, peer, source="192.0.2.99")
    except AssertionError as error:
        assert "EADDRNOTAVAIL" in str(error), error
    else:
        raise AssertionError("a foreign address can be bound")
    watch.counted()


@each_family
@core("IPv4", "IPv6")
def of_an_abandoned_dial_ends_when_it_is_closed(lab, family):
    guard, peer = lab.guard(), lab.void(family)
    watch = guard.watch()
    pending = dial(lab, peer, blocking=False)
    assert len(claims_of(guard, peer)) == 1
    lab.home("close", fd=pending["fd"])
    watch.event(peer, "dial_unheard", cookie=pending["cookie"])
    assert claims_of(guard, peer) == []
    watch.counted(dial_idle=1, dial_unheard=1)


@test
@core()
def of_an_abandoned_dial_expires(lab):
    """Nobody closes, nobody answers: the claim is void after claim_max."""
    guard = lab.own_guard(hold_max="500ms", claim_max=paced(1000), check_interval="200ms")
    peer = lab.void()
    watch = guard.watch()
    first = dial(lab, peer, blocking=False)
    assert_dial_refused(lab, watch, peer, "dial_dialing", blocking=False)
    event = watch.event(peer, "claim_expired")
    assert event["subject"] == "claim", event
    second = dial(lab, peer, blocking=False)
    assert second["errno"] == "EINPROGRESS", second
    watch.counted_at_least(claim_expired=1, dial_idle=2)
    # The first socket holds nothing any more: its end is nobody's failure.
    lab.home("close", fd=first["fd"])
    assert [slot["cookie"] for slot in claims_of(guard, peer)] in ([], [second["cookie"]])
    watch.no_event(peer, "dial_failed", cookie=first["cookie"])


@test
@core()
def is_void_in_the_kernel_when_it_expires_also_without_a_check(lab):
    guard = lab.guard(hold_max="500ms", claim_max="1s")
    peer = lab.void()
    watch = guard.watch()
    dial(lab, peer, blocking=False)
    wait_for(lambda: dial(lab, peer, blocking=False)["errno"] == "EINPROGRESS",
             "the claim is void")
    watch.event(peer, "dial_idle", count=2)


@each_family
@core("IPv4", "IPv6")
def of_a_disconnected_socket_ends(lab, family):
    """connect(AF_UNSPEC), then the socket dials somebody else."""
    guard, peer, other = lab.guard(), lab.void(family), lab.fresh(family)
    other.listen()
    watch = guard.watch()
    pending = dial(lab, peer, blocking=False)
    assert lab.home("disconnect", fd=pending["fd"]) == "success"
    watch.event(peer, "dial_unheard", cookie=pending["cookie"])
    result = lab.home("connect", fd=pending["fd"], address=other.dial, port=PORT)
    assert_passed(result)
    watch.event(other, "link_outbound", cookie=pending["cookie"])
    assert claims_of(guard, peer) == [] and claims_of(guard, other) == []
    watch.counted(dial_idle=2, dial_unheard=1, link_outbound=1)


@test
@core()
def of_a_dial_that_never_left_ends_when_the_socket_dials_another(lab):
    guard, other = lab.guard(), lab.fresh()
    address = "198.51.100.4"
    other.listen()
    watch = guard.watch()
    first = lab.home("dial", address=address, port=PORT, keep_failed=True)
    assert first["errno"] == "ENETUNREACH", first
    assert_passed(lab.home("connect", fd=first["fd"], address=other.address, port=PORT))
    watch.event(address, "claim_closed", cookie=first["cookie"])
    watch.event(other, "link_outbound", cookie=first["cookie"])
    watch.counted(dial_idle=2, claim_closed=1, link_outbound=1)


@each("inherited", "passed over a socket")
@core("inherited")
def of_a_socket_that_another_process_holds_too(lab, way):
    """The claim is the socket's, not the process's: it lasts while anybody holds the socket."""
    guard, peer = lab.guard(), lab.void()
    watch = guard.watch()
    pending = dial(lab, peer, blocking=False)
    if way == "inherited":
        process = lab.home("inherit", fd=pending["fd"])
        lab.home("close", fd=pending["fd"])
    else:
        process = lab.home("give", fd=pending["fd"])
    assert_dial_refused(lab, watch, peer, "dial_dialing")
    slot, = claims_of(guard, peer)
    assert slot["cookie"] == pending["cookie"], slot
    lab.home("end", process=process)
    watch.event(peer, "dial_unheard", cookie=pending["cookie"])
    assert claims_of(guard, peer) == []
    watch.counted(dial_idle=1, dial_dialing=1, dial_unheard=1)


@each("inherited", "passed over a socket")
@core("passed over a socket")
def become_links_that_last_as_long_as_anybody_holds_them(lab, way):
    guard, peer = lab.guard(min_uptime="0s"), lab.fresh()
    watch = guard.watch()
    link = link_out(lab, peer)
    if way == "inherited":
        process = lab.home("inherit", fd=link.here)
        lab.home("close", fd=link.here)
    else:
        process = lab.home("give", fd=link.here)
    assert_dial_refused(lab, watch, peer, "dial_linked")
    lab.home("end", process=process)
    watch.event(peer, "link_ended", cookie=link.cookie)
    link_out(lab, peer)
    watch.counted(dial_idle=2, link_outbound=2, dial_linked=1, link_ended=1)


@test
@core()
def of_a_killed_process_ends(lab):
    guard, peer = lab.guard(), lab.void()
    watch = guard.watch()
    second = lab.home.add_worker()
    number = second.start("dial", address=peer.dial, port=PORT, timeout=600)
    watch.event(peer, "dial_idle")
    wait_for(lambda: any(slot["sent"] for slot in claims_of(guard, peer)), "the SYN is noted")
    assert not second.finished(number)
    second.kill()
    event = watch.event(peer, "dial_unheard")
    assert event["attempts"] == 0 and event["ending"] == "closed", event
    assert claims_of(guard, peer) == []
    watch.counted(dial_idle=1, dial_unheard=1)


@each(IPV4, IPV6)
@core()
def of_a_dial_that_a_later_program_refuses(lab, family):
    guard, peer = lab.own_guard(), lab.fresh(family)
    peer.listen()
    watch = guard.watch()
    start_foreign(lab, "refuse")
    result = dial(lab, peer)
    assert result["errno"] == "EPERM", result
    watch.event(peer, "claim_closed", cookie=result["cookie"])
    watch.counted(dial_idle=1, claim_closed=1)
    assert claims_of(guard, peer) == [] and guard.state(peer.address) == "idle"
    hooks = {hook["name"]: hook for hook in guard.status()["hooks"]}
    assert hooks["connect4"]["foreign"] == 1 and hooks["connect6"]["foreign"] == 1, hooks


@each(IPV4, IPV6)
@core()
def of_a_dial_that_an_earlier_program_refuses_is_not_made(lab, family):
    lab.retire_shared()
    start_foreign(lab, "refuse")
    guard, peer = lab.own_guard(), lab.fresh(family)
    peer.listen()
    watch = guard.watch()
    result = dial(lab, peer)
    assert result["errno"] == "EPERM", result
    if "refusal_errno" in lacks:
        # Nor can the hook ask there what was said before it: the claim lasts as long as the socket.
        watch.counted(dial_idle=1, claim_closed=1)
        assert claims_of(guard, peer) == [] and guard.state(peer.address) == "idle"
    else:
        watch.counted()
        assert guard.peer(peer.address) is None


@test
@core()
def are_ended_by_failure_before_the_program_hears_of_it(lab):
    """A program that redials in a tight loop meets the backoff, not its own stale claim."""
    guard, peer = lab.guard(initial="5s", max="5s"), lab.fresh()
    watch = guard.watch()
    fail_dial(lab, watch, peer)
    result = assert_refused(dial(lab, peer))
    event = watch.event(peer, "dial_backoff", cookie=result["cookie"])
    assert event["until_ns"] - event["time_ns"] < 5 * SECOND * TIME_SCALE, event
    watch.counted(dial_idle=1, dial_failed=1, dial_backoff=1)
    assert os.path.exists(guard.pins)
