# SPDX-License-Identifier: BSD-2-Clause
"""What ends every backoff at once: the service starts anew, or the network is back.

Each test has a guard of its own, which has heard of nothing before.
"""

import os

from harness import OTHER_PORT, PORT, PREFIX, SECOND, now_ns, wait_for, wait_past
from registry import core, each, each_family, test
from steps import (assert_dial_refused, assert_passed, connections_of, dial, fail_dial, fail_silently, link_out,
                   listen_home)

LONG = {"initial": "60s", "max": "60s"}
# So long the daemon waits for what belongs together; and so long after one it rests, when there were several.
SETTLED_NS = 2 * SECOND
REST_NS = 5 * SECOND
# Of include/connguard/rules.h.
STARTS_AT_ONCE = 64
PEERS = 20


def revived(guard, watch, cause):
    """The event, which is about no peer."""
    event = guard.events.wait(watch.since, cause=cause)
    assert event["address"] is None and event["subject"] == "peer" and event["verdict"] == "none", event
    watch.counted_at_least(**{cause: 1})
    return event


def assert_over(lab, guard, watch, peer):
    """Its backoff is, though nothing is forgotten."""
    document = guard.peer(peer.address)
    assert document["next_attempt_ns"] is None and document["attempts"] == 1, document
    assert fail_dial(lab, watch, peer)["attempts"] == 2


@each_family
@core("IPv4", "IPv6")
def by_a_listener_of_the_service(lab, family):
    guard, peer, other = lab.own_guard(**LONG), lab.fresh(family), lab.fresh(family)
    watch = guard.watch()
    for one in (peer, other):
        fail_dial(lab, watch, one)
        assert_dial_refused(lab, watch, one, "dial_backoff")
    listen_home(lab, family)
    for one in (peer, other):
        assert_over(lab, guard, watch, one)
    event = revived(guard, watch, "service_started")
    assert event["local_port"] == PORT, event
    # What has begun since is in force.
    assert_dial_refused(lab, watch, peer, "dial_backoff")


@each_family
@core("IPv4", "IPv6")
def forgets_the_handshake_that_came_before_it(lab, family):
    """It has met a listener that is gone: the new service's dial need not wait for it."""
    guard, peer = lab.own_guard(hold_max="10s"), lab.fresh(family)
    peer.listen()
    listener, watch = listen_home(lab, family), guard.watch()
    stop = lab.home.eat("output", "tcp flags & (syn | ack) == (syn | ack)")
    knock = peer.knock(blocking=False)
    wait_for(lambda: watch.grown().get("knock_idle"), "the knock is let in")
    assert_dial_refused(lab, watch, peer, "dial_pending")
    peer.host("close", fd=knock["fd"])
    lab.home("close", fd=listener)
    listen_home(lab, family)
    link_out(lab, peer)
    stop()


@test
def forgets_no_handshake_of_another_listener(lab):
    """Several services of one guard start one after the other."""
    guard, peer = lab.own_guard(hold_max="10s"), lab.fresh()
    peer.listen()
    listen_home(lab)
    watch = guard.watch()
    stop = lab.home.eat("output", "tcp flags & (syn | ack) == (syn | ack)")
    knock = peer.knock(blocking=False)
    wait_for(lambda: watch.grown().get("knock_idle"), "the knock is let in")
    other = lab.home("listen", address="127.0.0.9", port=PORT)
    revived(guard, watch, "service_started")
    assert_dial_refused(lab, watch, peer, "dial_pending")
    stop()
    lab.home("close", fd=other)
    peer.host("close", fd=knock["fd"])


@each("another port", "another cgroup", "another namespace")
@core("another port", "another namespace")
def not_by_a_listener_of(lab, whose):
    guard, peer = lab.own_guard(**LONG), lab.fresh()
    watch = guard.watch()
    failure = fail_dial(lab, watch, peer)
    if whose == "another port":
        listen_home(lab, port=OTHER_PORT)
    elif whose == "another cgroup":
        outside = os.path.join(lab.cgroups, PREFIX, "outside")
        os.makedirs(outside, exist_ok=True)
        lab.home.add_worker("cgt-stranger", cgroup=outside)("listen", address="10.77.0.1", port=PORT)
    else:
        stranger = lab.home.add_worker("cgt-stranger", namespace=lab.left.namespace)
        stranger("listen", address="10.77.0.2", port=PORT)
    event = assert_dial_refused(lab, watch, peer, "dial_backoff")
    assert event["until_ns"] == failure["until_ns"], event
    assert "service_started" not in watch.grown(of_the_guard=True), watch.grown(of_the_guard=True)


@test
def not_by_listeners_without_end(lab):
    """Whoever may listen for the service ends backoffs so many times, and then once a second."""
    guard = lab.own_guard(**LONG)
    watch = guard.watch()
    began = now_ns()
    for _ in range(10 * STARTS_AT_ONCE):
        lab.home("close", fd=lab.home("listen", address="127.0.0.9", port=PORT))
    seconds = (now_ns() - began) / SECOND
    watch.counted_at_least(service_started=STARTS_AT_ONCE)
    counted = watch.grown(of_the_guard=True)["service_started"]
    assert counted <= STARTS_AT_ONCE + 1 + seconds, (counted, seconds)
    print(f"# {counted} of {10 * STARTS_AT_ONCE} listeners, in {seconds:.2f} s")


def carrier(lab):
    switch = next(host for host in lab.hosts if host.name == "switch")
    lab.at_end(switch.ip, "link set port1 up")
    switch.ip("link set port1 down")
    return lambda: switch.ip("link set port1 up")


def address(lab):
    lab.at_end(lab.home.ip, "addr del 10.77.0.51/24 dev eth0")
    return lambda: lab.home.ip("addr add 10.77.0.51/24 dev eth0")


def address_of_ipv6(lab):
    lab.at_end(lab.home.ip, "addr del fd77::51/64 dev eth0")
    return lambda: lab.home.ip("addr add fd77::51/64 dev eth0 nodad")


def route(lab):
    lab.at_end(lab.home.ip, "route del 198.18.0.0/16")
    return lambda: lab.home.ip("route add 198.18.0.0/16 via 10.77.0.2")


def route_of_ipv6(lab):
    lab.at_end(lab.home.ip, "route del 2001:db8:18::/48")
    return lambda: lab.home.ip("route add 2001:db8:18::/48 via fd77::2")


COMES_BACK = {"carrier": carrier, "an address": address, "an IPv6 address": address_of_ipv6,
              "a route": route, "an IPv6 route": route_of_ipv6}


@each(*COMES_BACK)
@core(*COMES_BACK)
def by_what_comes_back(lab, what):
    guard, peer = lab.own_guard(**LONG), lab.fresh()
    come_back = COMES_BACK[what](lab)
    # What has gone before is told by now, and is no news.
    wait_past(now_ns() + SETTLED_NS)
    watch = guard.watch()
    if what == "carrier":
        # Nothing answers for it meanwhile.
        fail_silently(lab, watch, peer)
    else:
        fail_dial(lab, watch, peer)
    assert "network_back" not in watch.grown(of_the_guard=True), "what goes ends no backoff"
    come_back()
    revived(guard, watch, "network_back")
    assert_over(lab, guard, watch, peer)


@test
@core()
def by_each_of_several_at_once(lab):
    """Carrier, and then the address and a route: the daemon rests only when that goes on and on."""
    guard, peer = lab.own_guard(**LONG), lab.fresh()
    watch = guard.watch()
    lab.at_end(lab.home.ip, "route flush 198.18.0.0/15")
    for number in range(3):
        fail_dial(lab, watch, peer)
        lab.home.ip(f"route add 198.18.{number}.0/24 via 10.77.0.2")
        guard.events.wait(watch.since, cause="network_back", count=number + 1)
        assert guard.peer(peer.address)["next_attempt_ns"] is None, guard.peer(peer.address)
    moments = [event["time_ns"] for event in guard.events.find(watch.since, cause="network_back")]
    gaps = [later - sooner for sooner, later in zip(moments, moments[1:])]
    print("# " + ", ".join(f"{gap / SECOND:.2f} s" for gap in gaps))
    assert min(gaps) < REST_NS, gaps


@test
def not_by_what_goes(lab):
    guard, peer = lab.own_guard(**LONG), lab.fresh()
    lab.home.ip("route add 198.18.0.0/16 via 10.77.0.2", "addr add 10.77.0.51/24 dev eth0")
    watch = guard.watch()
    guard.events.wait(cause="network_back")
    wait_past(now_ns() + SETTLED_NS)
    watch = guard.watch()
    failure = fail_dial(lab, watch, peer)
    lab.home.ip("route del 198.18.0.0/16", "addr del 10.77.0.51/24 dev eth0")
    # Far longer than it takes to tell, and than the rest between two revivals.
    wait_past(now_ns() + 7 * SECOND)
    event = assert_dial_refused(lab, watch, peer, "dial_backoff")
    assert event["until_ns"] == failure["until_ns"], event
    assert "network_back" not in watch.grown(of_the_guard=True)


@each("1m", "100ms")
@core("1m")
def not_all_peers_at_once(lab, check_interval):
    """Each has its own moment within a second, checks or not: those that are announced, and the dials that are kept."""
    guard = lab.own_guard(check_interval=check_interval, **LONG)
    due, waiting = [lab.fresh() for _ in range(PEERS)], [lab.void() for _ in range(PEERS)]
    watch = guard.watch()
    for peer in due:
        fail_dial(lab, watch, peer)
    for peer in waiting:
        fail_silently(lab, watch, peer)
        dial(lab, peer, blocking=False)
        watch.event(peer, "dial_kept")
    witness = lab.home("witness")
    lab.home.ip("route add 198.18.0.0/16 via 10.77.0.2")
    lab.at_end(lab.home.ip, "route del 198.18.0.0/16")
    began = revived(guard, watch, "network_back")["time_ns"]
    for what, cause, peers in (("announced", "peer_due", due), ("let go", "dial_let_go", waiting)):
        moments = sorted(watch.event(peer, cause, attempts=1)["time_ns"] - began for peer in peers)
        assert moments[0] >= 0, moments
        if moments[0] > 0.3 * SECOND:
            print(f"# nobody is {what} for {moments[0] / 1e6:.0f} ms, then all whose moment was in them: the machine is busy")
            continue
        # Twenty with moments in the first four tenths of a second by chance are one case in 10^8.
        assert moments[-1] - moments[0] > SECOND / 10, f"all are {what} at once: {moments}"
        print(f"# {what} {moments[0] / 1e6:.0f} to {moments[-1] / 1e6:.0f} ms after it")
    for peer in waiting:
        syns = wait_for(lambda peer=peer: lab.home("witnessed", thread=witness, address=peer.address),
                        f"the SYN to {peer.address} leaves")
        assert len(connections_of(syns)) == 1 and syns[0]["at"] > began - 1_000_000, (syns, began)


@test
@core()
def also_of_a_peer_that_is_made_of_what_was_lost(lab):
    """A host whose cable was out for a while: its dial is out again as soon as the cable is in."""
    guard, peer = lab.own_guard(**LONG), lab.fresh()
    peer.listen()
    come_back = carrier(lab)
    watch = guard.watch()
    fail_silently(lab, watch, peer)
    pending = dial(lab, peer, blocking=False)
    watch.event(peer, "dial_kept", cookie=pending["cookie"])
    come_back()
    revived(guard, watch, "network_back")
    outcome = lab.home("settle", fd=pending["fd"], timeout=60)
    assert outcome and outcome["errno"] == "success", outcome
    watch.event(peer, "link_outbound", cookie=pending["cookie"])


@test
def in_observe_mode_as_well(lab):
    """There it shows what enforcing would do: what would be refused."""
    guard, peer = lab.own_guard(mode="observe", **LONG), lab.fresh()
    watch = guard.watch()
    fail_dial(lab, watch, peer)
    listen_home(lab)
    revived(guard, watch, "service_started")
    peer.listen()
    assert_passed(dial(lab, peer))
    assert "dial_backoff" not in watch.grown("observed"), watch.grown("observed")
    link_out(lab, lab.fresh())
