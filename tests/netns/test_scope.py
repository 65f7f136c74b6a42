# SPDX-License-Identifier: BSD-2-Clause
"""What a guard leaves alone: other ports, cgroups, namespaces, UDP, this host."""

import os

from harness import IPV6, MAPPED, OTHER_PORT, PATIENCE, PORT, PREFIX, Skip, lacks, wait_for
from registry import core, each, each_family, test
from steps import (assert_dial_refused, assert_knock_refused, assert_passed, assert_refused, dial, fail_dial,
                   link_in, link_out, listen_home, refusal)


@each_family
@core("IPv4", "IPv6")
def other_ports(lab, family):
    guard, peer = lab.guard(), lab.fresh(family)
    peer.listen(OTHER_PORT)
    listen_home(lab, family, OTHER_PORT)
    watch = guard.watch()
    for _ in range(2):
        assert_passed(lab.home("dial", address=peer.dial, port=OTHER_PORT))
        assert_passed(peer.knock(port=OTHER_PORT))
    watch.counted()
    assert guard.peer(peer.address) is None


@each_family
@core("IPv4", "IPv6")
def udp(lab, family):
    """UDP connect() runs the same hooks."""
    guard, peer = lab.guard(), lab.fresh(family)
    watch = guard.watch()
    link_out(lab, peer)
    assert lab.home("udp", address=peer.dial, port=PORT) == "success"
    watch.event(peer, "link_outbound")
    watch.counted(dial_idle=1, link_outbound=1)


@each_family
@core("IPv4")
def another_cgroup_of_the_same_namespace(lab, family):
    guard, peer = lab.guard(), lab.fresh(family)
    outside = os.path.join(lab.cgroups, PREFIX, "outside")
    os.makedirs(outside, exist_ok=True)
    watch = guard.watch()
    link_out(lab, peer)
    stranger = lab.home.add_worker("cgt-stranger", cgroup=outside)
    assert_passed(dial(lab, peer, worker=stranger))
    assert_passed(dial(lab, peer, worker=stranger))
    watch.event(peer, "link_outbound")
    watch.counted(dial_idle=1, link_outbound=1)
    assert len(guard.peer(peer.address)["links"]) == 1


def stranger_listens(lab, address, **options):
    """A process of this namespace outside the guard's cgroup listens on the guarded port: worker and descriptor."""
    outside = os.path.join(lab.cgroups, PREFIX, "outside")
    os.makedirs(outside, exist_ok=True)
    stranger = lab.home.add_worker("cgt-stranger", cgroup=outside)
    return stranger, stranger("listen", address=address, port=PORT, **options)


def second_address(lab, family):
    """One more address of home."""
    address, length = ("fd77::60", 64) if family.version == 6 else ("10.77.0.60", 24)
    lab.home.ip(f"addr add {address}/{length} dev eth0" + (" nodad" if family.version == 6 else ""))
    lab.at_end(lab.home.ip, f"addr del {address}/{length} dev eth0")
    return address


@each_family
@core("IPv4", "IPv6")
def the_listener_of_another_service_on_the_same_port(lab, family):
    """On another address. What knocks there is none of the guard's, linked or not."""
    guard, peer = lab.guard(), lab.fresh(family)
    address = second_address(lab, family)
    lab.home("listen", address=family.home, port=PORT)
    watch = guard.watch()
    link_out(lab, peer)
    watch.event(peer, "link_outbound")
    stranger, listener = stranger_listens(lab, address)
    for _ in range(2):
        assert_passed(peer.knock(address=address))
        assert stranger("accept", fd=listener, timeout=PATIENCE)
    watch.counted(dial_idle=1, link_outbound=1)
    assert_knock_refused(watch, peer)
    assert len(guard.peer(peer.address)["links"]) == 1


@each("closed", "shut down", "older than the guard")
@core("closed")
def the_listener_of_another_service_in_the_place_of_ours(lab, which):
    """At once: no check looks at who listens meanwhile."""
    if which == "older than the guard" and "socket_iterator" in lacks:
        raise Skip("this kernel shows that with the next check")
    guard, peer = lab.own_guard(start=False, check_interval="1h"), lab.fresh()
    if which == "older than the guard":
        own = lab.home("listen", address="0.0.0.0", port=PORT)
    guard.start()
    if which != "older than the guard":
        own = lab.home("listen", address="0.0.0.0", port=PORT)
    watch = guard.watch()
    link_out(lab, peer)
    watch.event(peer, "link_outbound")
    assert_knock_refused(watch, peer)
    lab.home("shut" if which == "shut down" else "close", fd=own)
    stranger, listener = stranger_listens(lab, "0.0.0.0")
    assert_passed(peer.knock())
    assert stranger("accept", fd=listener, timeout=PATIENCE)
    watch.counted(dial_idle=1, link_outbound=1, knock_linked=1)
    stranger("close", fd=listener)
    lab.home("listen", address="::", port=PORT)
    assert_knock_refused(watch, peer)


@test
def the_listener_of_another_service_of_the_other_family(lab):
    guard, ours, theirs = lab.guard(), lab.fresh(), lab.fresh(IPV6)
    lab.home("listen", address="0.0.0.0", port=PORT)
    stranger, listener = stranger_listens(lab, "::", ipv6_only=True)
    watch = guard.watch()
    for peer in (ours, theirs):
        link_out(lab, peer)
        watch.event(peer, "link_outbound")
    assert_passed(theirs.knock())
    assert stranger("accept", fd=listener, timeout=PATIENCE)
    assert_knock_refused(watch, ours)
    watch.counted(dial_idle=2, link_outbound=2, knock_linked=1)


def outcome_of_knock(peer, address=None):
    """Of one that is given a moment: an errno, or None."""
    knock = peer.knock(address=address, blocking=False)
    if knock["fd"] is None:
        return knock["errno"]
    outcome = knock if knock["errno"] == "success" else peer.host("settle", fd=knock["fd"], timeout=0.1)
    peer.host("close", fd=knock["fd"], reset=True)
    return outcome and outcome["errno"]


@test
def the_listener_of_another_service_beside_ours(lab):
    """With SO_REUSEPORT either may get it: not refused before it is known who did."""
    guard, peer = lab.own_guard(check_interval="200ms"), lab.fresh()
    own = lab.home("listen", address="0.0.0.0", port=PORT, shared=True)
    watch = guard.watch()
    link_out(lab, peer)
    watch.event(peer, "link_outbound")
    assert_knock_refused(watch, peer)
    stranger, listener = stranger_listens(lab, "0.0.0.0", shared=True)
    wait_for(lambda: outcome_of_knock(peer) == "success", "a knock that is the other one's is let in")
    for _ in range(8):
        # What is the guard's own is dropped, where it is seen whose it is.
        outcome = outcome_of_knock(peer)
        assert outcome in (None, "success"), outcome
    assert lab.home("accept", fd=own, timeout=0.1) is None
    stranger("close", fd=listener)
    wait_for(lambda: outcome_of_knock(peer) == "ECONNREFUSED", "with the other one gone it is refused again")


@each_family
def the_listener_of_another_service_on_an_address_of_ours(lab, family):
    """Ours is on any, and hears the rest. No check looks at who listens meanwhile, and the link is beyond doubt."""
    guard, peer = lab.own_guard(check_interval="1h", suspect_after="10m"), lab.fresh(family)
    address = second_address(lab, family)
    lab.home("listen", address="::", port=PORT, shared=True)
    watch = guard.watch()
    link_out(lab, peer)
    watch.event(peer, "link_outbound")
    assert_knock_refused(watch, peer, address=address)
    stranger, listener = stranger_listens(lab, address, shared=True)
    wait_for(lambda: outcome_of_knock(peer, address) == "success", "what is the other one's is let in")
    guard.wait_log(f"somebody listens on port {PORT} with a socket made outside")
    assert_knock_refused(watch, peer)
    stranger("close", fd=listener)
    wait_for(lambda: outcome_of_knock(peer, address) == "ECONNREFUSED", "with the other one gone it is refused again")


# Of bpf/maps.bpf.h.
LISTENERS_MAX = 1024


@test
def listeners_of_others_at_loopback_take_no_room(lab):
    """Anybody may have thousands, and no peer's knock comes there."""
    outside = os.path.join(lab.cgroups, PREFIX, "outside")
    os.makedirs(outside, exist_ok=True)
    # A process may have no more descriptors.
    for network in range(1, 3):
        stranger = lab.home.add_worker("cgt-stranger", cgroup=outside)
        for number in range(LISTENERS_MAX // 2 + 8):
            stranger("listen", address=f"127.{network}.{number // 250}.{number % 250 + 1}", port=PORT)
    guard, peer = lab.own_guard(), lab.fresh(IPV6)
    lab.home("listen", address=IPV6.listen, port=PORT)
    watch = guard.watch()
    link_out(lab, peer)
    watch.event(peer, "link_outbound")
    assert_knock_refused(watch, peer)
    assert "made outside" not in str(guard.status()["notes"])


@test
def a_listener_of_ours_that_is_bound_to_an_interface(lab):
    """It may not be the one that gets what comes: its knocks are dropped, where it is seen that they are its."""
    guard, peer = lab.own_guard(), lab.fresh()
    own = lab.home("listen", address="0.0.0.0", port=PORT, interface="eth0")
    watch = guard.watch()
    link_out(lab, peer)
    watch.event(peer, "link_outbound")
    knock = peer.knock(blocking=False)
    event = watch.event(peer, "knock_linked")
    assert event["verdict"] == "refuse" and event["enforced"], event
    assert peer.host("settle", fd=knock["fd"], timeout=0.3) is None
    assert lab.home("accept", fd=own, timeout=0.1) is None


def in_another_namespace(lab):
    """A worker of the guard's cgroup, as whoever may unshare a namespace can make one, and whom peers of right reach."""
    lab.left.ip("route add 10.83.0.0/16 via 10.77.0.3")
    lab.at_end(lab.left.ip, "route del 10.83.0.0/16")
    return lab.home.add_worker("cgt-stranger", namespace=lab.left.namespace)


@test
@core()
def another_namespace_of_the_same_cgroup(lab):
    guard, peer = lab.guard(), lab.fresh(host=lab.right)
    watch = guard.watch()
    peer.listen()
    stranger = in_another_namespace(lab)
    for _ in range(2):
        assert_passed(dial(lab, peer, worker=stranger))
    watch.counted()
    assert guard.peer(peer.address) is None


@each("linked", "in backoff", "unknown")
@core("linked", "in backoff")
def knocks_in_another_namespace_of_the_same_cgroup(lab, state):
    """Who listens there can have SYNs sent in any name: they say nothing of the guard's peers."""
    guard, peer = lab.guard(initial="60s", max="60s"), lab.fresh(host=lab.right)
    stranger = in_another_namespace(lab)
    listener = stranger("listen", address="10.77.0.2", port=PORT)
    watch = guard.watch()
    if state == "linked":
        link_out(lab, peer)
        watch.event(peer, "link_outbound")
    elif state == "in backoff":
        fail_dial(lab, watch, peer)
    before = (guard.peer(peer.address) or {}).get("state")
    watch = guard.watch()
    for _ in range(2):
        assert_passed(peer.knock(address="10.77.0.2"))
        assert stranger("accept", fd=listener, timeout=PATIENCE)
    watch.counted()
    assert (guard.peer(peer.address) or {}).get("state") == before
    if state == "in backoff":
        assert_dial_refused(lab, watch, peer, "dial_backoff")


@each_family
@core("IPv6")
def a_cgroup_below_is_guarded_too(lab, family):
    guard, peer = lab.guard(), lab.fresh(family)
    below = os.path.join(lab.home.cgroup, "below")
    os.makedirs(below, exist_ok=True)
    watch = guard.watch()
    worker = lab.home.add_worker("cgt-below", cgroup=below)
    peer.listen()
    assert_passed(dial(lab, peer, worker=worker))
    event = watch.event(peer, "link_outbound")
    refusal = assert_dial_refused(lab, watch, peer, "dial_linked")
    assert refusal["other_cookie"] == event["cookie"], (refusal, event)
    watch.counted(dial_idle=1, link_outbound=1, dial_linked=1)


@each("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1")
@core("127.0.0.1", "::1")
def loopback(lab, address):
    guard = lab.guard()
    listen_home(lab, MAPPED)
    watch = guard.watch()
    for _ in range(3):
        assert_passed(lab.home("dial", address=address, port=PORT))
    watch.counted()
    status, document = guard.explain(address)
    assert status == 0 and document["loopback"] is True, document


@each("10.77.0.1", "fd77::1", "::ffff:10.77.0.1", "10.78.0.1")
@core("10.77.0.1", "fd77::1")
def own_addresses(lab, address):
    guard = lab.guard()
    listen_home(lab, MAPPED)
    watch = guard.watch()
    for _ in range(3):
        assert_passed(lab.home("dial", address=address, port=PORT))
    watch.counted()
    status, document = guard.explain(address)
    assert status == 0 and document["exempt_prefixes"][0]["own"] is True, document


@test
@core()
def an_own_address_that_is_new(lab):
    guard = lab.guard()
    listen_home(lab)
    lab.home.ip("addr add 10.77.0.50/24 dev eth0")
    lab.at_end(lab.home.ip, "addr del 10.77.0.50/24 dev eth0")
    wait_for(lambda: any(prefix["own"] for prefix in
                         guard.ask("explain", address="10.77.0.50")["exempt_prefixes"]),
             "the guard knows the new address")
    lab.home("close", fd=listen_home(lab, port=OTHER_PORT))
    lab.home("listen", address="10.77.0.50", port=PORT)
    watch = guard.watch()
    for _ in range(2):
        assert_passed(lab.home("dial", address="10.77.0.50", port=PORT))
    watch.counted()


@each_family
@core("IPv4", "IPv6")
def an_exempt_prefix(lab, family):
    guard = lab.guard(exempt="10.83.0.0/16, fd83::/64")
    peer, other = lab.fresh(family, lab.right), lab.fresh(family)
    listener = listen_home(lab, family)
    watch = guard.watch()
    for _ in range(2):
        link_out(lab, peer)
        link_in(lab, peer, listener)
    watch.event(peer, "link_outbound", count=2)
    watch.event(peer, "link_inbound", count=2)
    grown = watch.grown()
    assert grown["link_outbound"] == 2 and grown["link_inbound"] == 2, grown
    assert not {"dial_linked", "knock_linked", "link_duplicate"} & set(grown), grown
    assert grown["dial_exempt"] == 2 and grown["knock_exempt"] == 2, grown
    assert guard.explain(peer.address)[0] == 0
    link_out(lab, other)
    assert_dial_refused(lab, watch, other, "dial_linked")
    assert_knock_refused(watch, other)


@test
def one_link_local_address_at_two_interfaces(lab):
    """One peer: the hook that judges a dial does not see its interface. A known limit."""
    guard, address = lab.guard(), "fe80::77:1"
    lab.left.ip(f"addr add {address}/64 dev eth0 nodad")
    lab.at_end(lab.left.ip, f"addr del {address}/64 dev eth0")
    lab.left("listen", address=f"{address}%eth0", port=PORT)
    watch = guard.watch()
    assert_passed(lab.home("dial", address=f"{address}%eth0", port=PORT))
    watch.event(address, "link_outbound")
    result = assert_refused(lab.home("dial", address=f"{address}%eth1", port=PORT))
    watch.event(address, "dial_linked", cookie=result["cookie"])


@each_family
@core("IPv4")
def what_is_allowed_for_a_time(lab, family):
    guard, peer = lab.guard(), lab.fresh(family)
    listener = listen_home(lab, family)
    watch = guard.watch()
    link_out(lab, peer)
    guard.tell("allow", peer.dial, "--for", "1h")
    link_out(lab, peer)
    link_in(lab, peer, listener)
    watch.event(peer, "dial_exempt")
    watch.event(peer, "link_inbound")
    watch.counted(dial_idle=1, link_outbound=2, dial_exempt=1, knock_exempt=1, link_inbound=1)
    status, document = guard.explain(peer.address)
    assert status == 0 and document["peer"]["exempt"]["left_ns"] > 0, document
    guard.tell("allow", peer.address, "--end")
    assert_dial_refused(lab, watch, peer, "dial_linked")
    assert_knock_refused(watch, peer)
    assert len(guard.peer(peer.address)["links"]) == 3


@test
def what_is_allowed_for_a_time_that_ends(lab):
    guard, peer = lab.guard(), lab.fresh()
    watch = guard.watch()
    link_out(lab, peer)
    guard.tell("allow", peer.address, "--for", "2s")
    link_out(lab, peer)
    wait_for(lambda: dial(lab, peer)["errno"] == refusal(), "the exemption ends")
    watch.event(peer, "dial_linked")


@each("prefix", "for good")
def what_is_allowed_by(lab, way):
    guard, peer = lab.guard(), lab.fresh(IPV6, lab.right)
    watch = guard.watch()
    what = "fd83::/64" if way == "prefix" else peer.address
    guard.tell("allow", what, *(["--for", "1h"] if way == "prefix" else ["--for-good"]))
    lab.at_end(guard.cli, "allow", what, "--end")
    link_out(lab, peer)
    link_out(lab, peer)
    watch.event(peer, "link_outbound", count=2)
    watch.counted_at_least(dial_exempt=1, link_outbound=2)
    guard.tell("allow", what, "--end")
    assert_dial_refused(lab, watch, peer, "dial_linked")
