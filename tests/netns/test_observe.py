# SPDX-License-Identifier: BSD-2-Clause
"""Observe and off: everything is decided and counted, or nothing; refused is nothing."""

from harness import wait_for
from registry import core, each_family, test
from steps import assert_refused, dial, fail_dial, link_in, link_out, listen_home


@each_family
@core("IPv4", "IPv6")
def observe_counts_what_it_would_refuse(lab, family):
    guard, peer = lab.guard(mode="observe"), lab.fresh(family)
    listener = listen_home(lab, family)
    watch = guard.watch()
    links = [link_out(lab, peer), link_out(lab, peer), link_in(lab, peer, listener)]
    event = watch.event(peer, "dial_linked")
    assert event["enforced"] is False and event["verdict"] == "refuse", event
    assert event["other_cookie"] == links[0].cookie, event
    event = watch.event(peer, "knock_linked")
    assert event["enforced"] is False, event
    observed = watch.grown("observed")
    assert observed.get("dial_linked") == 1 and observed.get("knock_linked") == 1, observed
    enforced = watch.grown()
    assert "dial_linked" not in enforced and "knock_linked" not in enforced, enforced
    assert all(link.alive() for link in links)
    status, document = guard.explain(peer.address)
    assert status == 0 and document["dial"]["passes"], document
    assert document["dial"]["cause"] == "dial_linked", document
    assert document["peer"]["refused_dials"] == 1, document


@test
@core()
def observe_lets_dials_in_backoff_pass(lab):
    guard, peer = lab.guard(mode="observe", initial="30s", max="30s"), lab.fresh()
    watch = guard.watch()
    fail_dial(lab, watch, peer)
    second = dial(lab, peer)
    assert second["errno"] == "ECONNREFUSED", second
    event = watch.event(peer, "dial_backoff", cookie=second["cookie"])
    assert event["enforced"] is False, event
    # It reached the peer, and failed there.
    watch.event(peer, "dial_failed", cookie=second["cookie"])
    assert watch.grown("observed") == {"dial_backoff": 1}


@test
@core()
def observe_destroys_nothing(lab):
    guard, peer = lab.guard(mode="observe"), lab.fresh()
    watch = guard.watch()
    links = [link_out(lab, peer) for _ in range(4)]
    watch.counted_at_least("observed", dial_linked=3)
    # The daemon has handled all of it when it has told the last of it.
    watch.event(peer, "dial_linked", cookie=links[-1].cookie)
    wait_for(lambda: len(guard.peer(peer.address)["links"]) == 4, "four links are tracked")
    assert all(link.alive() for link in links)
    assert "link_destroyed" not in watch.grown(), watch.grown()


def habit(guard):
    """What `connguard status` proposes, in text and as a document."""
    status, document = guard.cli_json("status")
    assert status == 0, document
    return document["habit"], "\n".join(document["notes"])


@test
def observe_recognises_several_links_by_design(lab):
    """Edge case 25: each end keeps a link of its own to the other."""
    guard = lab.own_guard(mode="observe", min_uptime="300ms")
    peers = [lab.fresh() for _ in range(3)]
    listener = listen_home(lab)
    assert habit(guard)[0] is None
    for peer in peers:
        link_out(lab, peer)
        link_in(lab, peer, listener)
    wait_for(lambda: habit(guard)[0] == {"kind": "several_links", "max_links": 2, "shown": 3,
                                         "seen": 3},
             lambda: f"the habit is recognised: {habit(guard)}")
    assert "set max_links = 2" in habit(guard)[1], habit(guard)
    assert "max_links = 2" in guard.tell("status")
    _status, document = guard.explain(peers[0].address)
    assert any(f"connguard limit {peers[0].address} 2" in note for note in document["notes"]), \
        document
    # Done as proposed, there is nothing to propose, and the links stay.
    guard.write(dict(guard.options, max_links=2))
    guard.tell("reload")
    guard.tell("resume")
    assert habit(guard)[0] is None
    assert all(len(guard.peer(peer.address)["links"]) == 2 for peer in peers)


@test
def observe_recognises_a_service_that_dials_back(lab):
    """Edge case 42: each knock is answered by a short dial that tests the way back."""
    guard = lab.own_guard(mode="observe", min_uptime="10s", stable_after="20s")
    watch = guard.watch()
    listener = listen_home(lab)
    for peer in [lab.fresh() for _ in range(3)]:
        assert habit(guard)[0] is None
        link_in(lab, peer, listener)
        link_out(lab, peer).close()
    watch.counted_at_least("observed", link_duplicate=3, dial_linked=3)
    wait_for(lambda: habit(guard)[0] == {"kind": "dial_back", "max_links": 2, "shown": 3,
                                         "seen": 3},
             lambda: f"the habit is recognised: {habit(guard)}")
    assert "dials back" in habit(guard)[1] and "max_links = 2" in habit(guard)[1], habit(guard)


@test
@core()
def off_tracks_links_and_refuses_nothing(lab):
    guard, peer = lab.guard(mode="off"), lab.fresh()
    listener = listen_home(lab)
    watch = guard.watch()
    links = [link_out(lab, peer), link_out(lab, peer), link_in(lab, peer, listener)]
    assert all(link.alive() for link in links)
    grown = dict(watch.grown(), **watch.grown("observed"))
    assert "dial_linked" not in grown and "knock_linked" not in grown, grown
    assert guard.state(peer.address) == "linked"
    # Enforcing again knows the links: the mode never was a hole in the tracking.
    guard.tell("resume")
    assert_refused(dial(lab, peer))
    watch.event(peer, "dial_linked")
