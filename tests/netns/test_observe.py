# SPDX-License-Identifier: BSD-2-Clause
"""Observe and off: everything is decided and counted, or nothing; refused is nothing."""

from harness import ALL_BUT_SYNS, OTHER_PORT, PORT, wait_for, wait_past
from registry import core, each_family, needs, test
from steps import assert_refused, dial, fail_dial, link_in, link_out, listen_home, wait_not_new


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
    assert event["outcome"] == "would have been refused", event
    event = watch.event(peer, "knock_linked")
    assert event["enforced"] is False, event
    observed = watch.grown("observed")
    assert observed == {"dial_linked": 1, "knock_linked": 1, "link_duplicate": 2}, observed
    enforced = watch.grown()
    assert "dial_linked" not in enforced and "knock_linked" not in enforced, enforced
    assert all(link.alive() for link in links)
    # Until then it would be kept.
    wait_not_new()
    status, document = guard.explain(peer.address)
    assert status == 0 and document["dial"]["passes"], document
    assert document["dial"]["cause"] == "dial_linked", document
    assert document["peer"]["refused_dials"] == 1, document
    text = guard.tell("explain", peer.address)
    assert "passes; enforcing, it would be REFUSED: the peer is linked" in text, text
    assert "dial_linked, would have been refused: the peer is linked" in text, text
    guard.wait_log(f"{peer.address}: dial by .* would have been refused: the peer is linked")


@test
@core()
def observe_counts_what_it_would_keep(lab):
    """Beside a link that the peer has only just made: the same cause as while enforcing, and no wait."""
    guard, peer = lab.guard(mode="observe"), lab.fresh()
    watch = guard.watch()
    # The machine may be busy, and the link new no longer.
    for _ in range(10):
        link_in(lab, peer, listen_home(lab))
        link_out(lab, peer)
        if watch.grown("observed").get("dial_beside"):
            break
        lab.close_sockets()
        wait_for(lambda: guard.state(peer.address) == "idle", "no link is left")
    event = watch.event(peer, "dial_beside")
    assert event["verdict"] == "hold" and event["enforced"] is False, event
    assert event["outcome"] == "would have been kept", event


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
    event = watch.event(peer, "link_duplicate")
    assert event["enforced"] is False and event["outcome"] == "would have happened", event


@test
@core()
@needs("socket_options")
def observe_asks_nobody(lab):
    """A quiet link's socket is left as the service has set it, and a knock passes at once."""
    guard, peer = lab.own_guard(mode="observe", suspect_after="1s"), lab.fresh()
    listener = listen_home(lab)
    watch = guard.watch()
    link = link_in(lab, peer, listener)
    before = lab.home("keepalive", fd=link.here)
    wait_for(lambda: guard.peer(peer.address)["links"][0]["life"] == "quiet", "the link is quiet")
    link_in(lab, peer, listener)
    event = watch.event(peer, "knock_suspect")
    assert event["outcome"] == "would have been held", event
    assert lab.home("keepalive", fd=link.here) == before
    # The one in whose place it came stays, and that is told for what it is.
    event = watch.event(peer, "link_replaced")
    assert event["enforced"] is False and event["other_cookie"] == link.cookie, event
    assert link.alive()
    link = guard.peer(peer.address)["links"][0]
    assert link["life_sentence"].startswith("quiet, would be asked"), link
    assert "link_unanswered" not in watch.grown(), watch.grown()


@test
@core()
@needs("socket_options")
def whoever_stops_enforcing_stops_asking(lab):
    """What was changed at the socket meanwhile is as before."""
    guard, peer = lab.own_guard(suspect_after="1s"), lab.fresh()
    listener = listen_home(lab)
    watch = guard.watch()
    link = link_in(lab, peer, listener)
    before = lab.home("keepalive", fd=link.here)
    revive = peer.host.silence(peer.address, only=ALL_BUT_SYNS)
    wait_for(lambda: guard.peer(peer.address)["links"][0]["life"] == "quiet", "the link is quiet")
    peer.knock(blocking=False)
    watch.event(peer, "knock_suspect")
    wait_for(lambda: lab.home("keepalive", fd=link.here) != before, "the link is asked")
    guard.tell("resume", "--observe")
    wait_for(lambda: lab.home("keepalive", fd=link.here) == before, "the link is left alone")
    revive()


def habit(guard):
    """What `connguard status` proposes, in text and as a document."""
    status, document = guard.cli_json("status")
    assert status == 0, document
    return document["habit"], "\n".join(document["notes"])


@test
def observe_recognises_several_links_by_design(lab):
    """Each end keeps a link of its own to the other."""
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
def observe_recognises_several_links_of_one_peer(lab):
    guard = lab.own_guard(mode="observe", min_uptime="300ms")
    peer, listener = lab.fresh(), listen_home(lab)
    # Two of one direction say nothing of what the service means.
    links = [link_in(lab, peer, listener), link_in(lab, peer, listener)]
    youngest = guard.peer(peer.address)["links"][1]["since_ns"]
    wait_past(youngest + 300_000_000)
    assert habit(guard)[0] is None
    links[1].close()
    mutual = link_out(lab, peer)
    # Both are in use.
    for link in (links[0], mutual):
        peer.host("send", fd=link.there, text="hello")
    wait_for(lambda: habit(guard)[0] == {"kind": "several_links", "max_links": 2, "shown": 1, "seen": 1},
             lambda: f"the habit is recognised: {habit(guard)}")
    assert "the one linked peer keeps 2 links, of both directions" in habit(guard)[1], habit(guard)


@test
def observe_notes_more_links_than_slots(lab):
    guard, peer, listener = lab.own_guard(mode="observe"), lab.fresh(), listen_home(lab)
    watch = guard.watch()
    for _ in range(9):
        link_in(lab, peer, listener)
    watch.counted_at_least(link_unheld=1)
    assert f"1 peer(s), {peer.address} among them, have 8 links" in habit(guard)[1], habit(guard)


@test
def observe_notes_that_each_port_is_a_service(lab):
    ports = f"{PORT}, {OTHER_PORT}"
    guard = lab.own_guard(mode="observe", port=ports)
    assert "2 ports are guarded, each as a service of its own" in habit(guard)[1], habit(guard)
    guard.tell("resume")
    assert "2 ports" not in habit(guard)[1], habit(guard)
    guard.stop()
    guard = lab.own_guard(mode="observe", port=ports, share_limit="yes")
    assert "2 ports" not in habit(guard)[1], habit(guard)


@test
def observe_notes_links_that_are_short_by_design(lab):
    """They must not pass for failures."""
    guard, peer = lab.own_guard(mode="observe", min_uptime="10s", stable_after="20s"), lab.fresh()
    for number in range(3):
        assert guard.status()["short_links"] is None
        link = link_out(lab, peer)
        # The peer hangs up once, we do twice; it says nothing.
        if number:
            link.close()
        else:
            peer.host("close", fd=link.there)
            lab.home("close", fd=link.here)
    wait_for(lambda: guard.status()["short_links"] == {"shown": 3, "seen": 3, "by_peer": 1},
             lambda: f"the short links are noted: {guard.status()['short_links']}")
    assert "3 of 3 links ended within min_uptime (10s)" in habit(guard)[1], habit(guard)


@test
def observe_recognises_a_service_that_dials_back(lab):
    """Each knock is answered by a short dial that tests the way back."""
    guard = lab.own_guard(mode="observe", min_uptime="10s", stable_after="20s")
    watch = guard.watch()
    listener = listen_home(lab)
    for peer in [lab.fresh() for _ in range(3)]:
        assert habit(guard)[0] is None
        link_in(lab, peer, listener)
        link_out(lab, peer).close()
    watch.counted_at_least("observed", link_duplicate=3)
    # Beside a link that is new it would be kept: as it is while enforcing.
    grown = watch.grown("observed")
    assert grown["dial_beside"] + grown["dial_linked"] == 3, grown
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
    wait_not_new()
    assert_refused(dial(lab, peer))
    watch.event(peer, "dial_linked")
