# SPDX-License-Identifier: BSD-2-Clause
"""What a backoff follows from, and what ends it: the peer's silence or refusal, and its signs of life.

What our own side does to a dial or a link is in test_dials and test_claims; what ends all backoffs at once is
in test_revival.
"""

import shutil

from harness import PATIENCE, PORT, TIME_SCALE, Skip, run, wait_for, wait_past
from registry import core, each_family, test
from steps import (assert_dial_refused, assert_passed, dial, fail_dial, fail_silently, link_in, link_out,
                   listen_home)
from test_floods import alone, flood

LONG = {"initial": "60s", "max": "60s"}


def reject(host, match, how):
    """Let a host's firewall answer so what it is sent. Returns how to end that."""
    if shutil.which("nft") is None:
        raise Skip("nft is missing: nothing here can answer with ICMP")
    run(*host.inside("nft", "add table inet cgt-reject; "
                     "add chain inet cgt-reject input { type filter hook input priority 0; }; "
                     f"add rule inet cgt-reject input {match} reject with {how}"))
    return lambda: run(*host.inside("nft", "delete", "table", "inet", "cgt-reject"))


def retransmitted(lab, before):
    """Until a SYN has been sent again since then."""
    wait_for(lambda: lab.home.snmp("TcpExt", "TCPSynRetrans") > before, "a SYN is sent again")


@each_family
@core("IPv4", "IPv6")
def follows_from_an_answer_of_the_network(lab, family):
    """ICMP: not the peer has answered, so the next dial waits for it.

    From far away: what comes while connect() still has the socket is soft, as any ICMP to a link is."""
    lab.need_delay()
    guard, peer = lab.own_guard(**LONG), lab.fresh(family, lab.far)
    word = "ip6" if family.version == 6 else "ip"
    how = "icmpv6 type addr-unreachable" if family.version == 6 else "icmp type host-unreachable"
    lab.at_end(reject(peer.host, f"{word} daddr {peer.address} tcp dport {PORT}", how))
    watch = guard.watch()
    result = dial(lab, peer)
    assert result["errno"] == "EHOSTUNREACH" and not result["resent"], result
    event = watch.event(peer, "dial_failed", cookie=result["cookie"])
    assert event["ending"] == "unreachable" and event["attempts"] == 1, event
    pending = dial(lab, peer, blocking=False)
    watch.event(peer, "dial_kept", cookie=pending["cookie"])
    watch.counted(dial_idle=1, dial_failed=1, dial_kept=1)


@test
@core()
def follows_from_a_host_that_nobody_has(lab):
    """No answer to ARP: that was waited for, and is waited for the next time."""
    guard, address = lab.own_guard(**LONG), "10.77.0.200"
    watch = guard.watch()
    result = lab.home("dial", address=address, port=PORT)
    assert result["errno"] == "EHOSTUNREACH", result
    event = watch.event(address, "dial_failed", cookie=result["cookie"])
    assert event["ending"] == "unreachable", event
    pending = lab.home("dial", address=address, port=PORT, blocking=False)
    watch.event(address, "dial_kept", cookie=pending["cookie"])


@each_family
@core("IPv4", "IPv6")
def follows_from_two_syns_without_an_answer(lab, family):
    """Then it does not matter who has ended the dial."""
    guard, peer = lab.own_guard(**LONG), lab.void(family)
    watch = guard.watch()
    before = lab.home.snmp("TcpExt", "TCPSynRetrans")
    pending = dial(lab, peer, blocking=False)
    retransmitted(lab, before)
    lab.home("close", fd=pending["fd"])
    event = watch.event(peer, "dial_failed", cookie=pending["cookie"])
    assert event["ending"] == "closed" and "no answer" in event["detail"], event
    watch.counted(dial_idle=1, dial_failed=1)


@test
@core()
def does_not_follow_from_a_dial_that_somebody_destroys(lab):
    """`ss -K` is neither the peer's silence nor its refusal, however long the dial has lasted."""
    guard, peer = lab.own_guard(**LONG), lab.void()
    watch = guard.watch()
    before = lab.home.snmp("TcpExt", "TCPSynRetrans")
    pending = dial(lab, peer, blocking=False)
    retransmitted(lab, before)
    run(*lab.home.inside("ss", "-K", "dst", peer.address))
    outcome = lab.home("settle", fd=pending["fd"], timeout=PATIENCE * TIME_SCALE)
    if outcome is None:
        raise Skip("this kernel destroys no sockets (CONFIG_INET_DIAG_DESTROY)")
    assert outcome["errno"] == "ECONNABORTED", outcome
    event = watch.event(peer, "dial_unheard", cookie=pending["cookie"])
    assert event["ending"] == "aborted" and event["attempts"] == 0, event
    watch.counted(dial_idle=1, dial_unheard=1)


@test
@core()
def does_not_follow_from_dials_that_are_given_up_between_others(lab):
    """Three in a row are one failure: a link, or a refusal, begins a new row."""
    guard, peer, silent = lab.own_guard(initial="1ms", max="1ms"), lab.fresh(), None
    watch = guard.watch()
    for _ in range(4):
        silent = peer.host.silence(peer.address)
        for _ in range(2):
            lab.home("close", fd=dial(lab, peer, blocking=False)["fd"])
        silent()
        link_out(lab, peer).close()
    watch.event(peer, "dial_unheard", count=8)
    watch.counted_at_least(dial_unheard=8, link_outbound=4)
    assert "dial_failed" not in watch.grown(), watch.grown()


@each_family
@core("IPv4", "IPv6")
def is_over_when_a_link_comes_up(lab, family):
    """And the attempts stay until one has been stable, so that flapping climbs the steps."""
    guard, peer = lab.own_guard(stable_after="60s", min_uptime="0s", **LONG), lab.fresh(family)
    watch, listener = guard.watch(), listen_home(lab, family)
    fail_dial(lab, watch, peer)
    link = link_in(lab, peer, listener)
    up = watch.event(peer, "link_inbound", cookie=link.cookie)
    # The SYN alone has ended it.
    knock = watch.event(peer, "knock_backoff")
    assert knock["time_ns"] <= up["time_ns"] and knock["until_ns"] is None, (knock, up)
    document = guard.peer(peer.address)
    assert document["attempts"] == 1 and document["next_attempt_ns"] is None, document
    link.close()
    event = watch.event(peer, "link_ended", cookie=link.cookie)
    assert event["attempts"] == 1 and event["until_ns"] is None, event
    # Nobody listens there: our dial passes, and fails.
    assert fail_dial(lab, watch, peer)["attempts"] == 2


@each_family
@core("IPv4", "IPv6")
def is_ended_by_a_knock_once_in_each_step(lab, family):
    """A SYN proves nothing about its sender: what anybody can send costs one dial a step."""
    guard, peer = lab.own_guard(stable_after="60s", min_uptime="0s", **LONG), lab.fresh(family)
    listener, watch = listen_home(lab, family), guard.watch()
    first = fail_dial(lab, watch, peer)

    def spoof():
        flood(lab, family, alone(family, peer.address), 1)
    spoof()
    event = watch.event(peer, "knock_backoff")
    assert event["until_ns"] is None and event["time_ns"] < first["until_ns"], (event, first)
    assert event["verdict"] == "allow", event
    second = fail_dial(lab, watch, peer)
    assert second["attempts"] == 2, second
    before = watch.grown()["knock_backoff"]
    for _ in range(5):
        spoof()
    wait_for(lambda: watch.grown()["knock_backoff"] >= before + 5, "the knocks are let in")
    event = assert_dial_refused(lab, watch, peer, "dial_backoff")
    assert event["until_ns"] == second["until_ns"], (event, second)
    assert len(guard.events.find(watch.since, address=peer.address, cause="knock_backoff")) == 1
    # The peer's own knock has no more to say than these. Its link has.
    link = link_in(lab, peer, listener)
    watch.event(peer, "link_inbound", cookie=link.cookie)
    assert guard.peer(peer.address)["next_attempt_ns"] is None
    link.close()
    watch.event(peer, "link_ended", cookie=link.cookie)
    assert fail_dial(lab, watch, peer)["attempts"] == 3


@test
@core()
def may_be_ended_by_a_knock_again_when_a_link_has_been_there(lab):
    """A handshake that is completed proves the peer: whoever has sent SYNs in its name is forgotten."""
    guard, peer = lab.own_guard(stable_after="60s", min_uptime="0s", **LONG), lab.fresh()
    watch, listener = guard.watch(), listen_home(lab)
    for number in range(1, 4):
        fail_dial(lab, watch, peer)
        link_in(lab, peer, listener).close()
        watch.event(peer, "knock_backoff", count=number, until_ns=None)
        watch.event(peer, "link_ended", count=number)


@test
def ends_by_itself_and_its_peer_is_announced(lab):
    guard, peer = lab.own_guard(), lab.void()
    watch = guard.watch()
    failure = fail_silently(lab, watch, peer)
    due = watch.event(peer, "peer_due", attempts=1)
    wait_past(failure["until_ns"])
    assert due["time_ns"] >= failure["until_ns"], (due, failure)
    peer = lab.fresh()
    assert_passed(link_out(lab, peer).dial)
