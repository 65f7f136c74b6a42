# SPDX-License-Identifier: BSD-2-Clause
"""Observe and off: everything is decided and counted, or nothing; refused is nothing."""

from harness import wait_for
from registry import each_family, test
from steps import assert_refused, dial, fail_dial, link_in, link_out, listen_home


@each_family
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


@test
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
