# SPDX-License-Identifier: BSD-2-Clause
"""Several links a peer: rules that one link alone never meets."""

from harness import PATIENCE, PORT, SECOND, TIME_SCALE, now_ns, wait_for, wait_past
from registry import core, each, needs, test
from steps import assert_passed, dial, fail_dial, link_in, link_out, listen_home

# The shortest that the setting takes.
SUSPECT_AFTER_S = 2
HOME = "10.78.0.1"


@test
def a_peer_with_a_link_is_in_no_backoff(lab):
    """Our own link need not wait for a failure of before to be forgiven."""
    guard, peer = lab.own_guard(max_links=2, initial="30s", max="30s"), lab.fresh()
    watch = guard.watch()
    listener = listen_home(lab)
    fail_dial(lab, watch, peer)
    peer.listen()
    assert dial(lab, peer)["errno"] == "ECONNREFUSED"
    watch.event(peer, "dial_backoff")
    link = link_in(lab, peer, listener)
    link_out(lab, peer)
    # The failure is not forgotten: without a link it is in force again.
    assert guard.peer(peer.address)["attempts"] == 1
    link.close()


@test
def two_dials_that_cross_both_become_links(lab):
    """There is room for both: nobody is held, and nobody waits for a repeated SYN."""
    guard = lab.own_guard(max_links=2)
    lab.need_delay()
    watch = guard.watch()
    peers, knocks, dials = cross(lab, 10)
    await_links(lab, knocks, dials)
    watch.counted_at_least(link_outbound=len(peers), link_inbound=len(peers))
    held = [name for name in ("knock_tie_lost", "knock_pending", "answer_tie_lost", "answer_linked",
                              "link_duplicate") if name in watch.grown()]
    assert not held, watch.grown()


@test
def a_dead_one_is_probed_when_it_leaves_no_room_for_a_race(lab):
    """One dead link, and both dial: the dead one is asked at once, not when the race is over."""
    guard = lab.own_guard(max_links=2, suspect_after=f"{SUSPECT_AFTER_S}s")
    lab.need_delay()
    peers = [lab.fresh(host=lab.far) for _ in range(10)]
    listener = listen_home_far(lab)
    links = []
    for peer in peers:
        knock = assert_passed(peer.knock(HOME))
        accepted = lab.home("accept", fd=listener, timeout=PATIENCE)
        links.append((knock["fd"], accepted["cookie"]))
    revive = lab.far.silence("10.84.0.0/16")
    for there, _cookie in links:
        lab.far("close", fd=there, reset=True)
    wait_past(now_ns() + int((SUSPECT_AFTER_S + 0.5) * SECOND * TIME_SCALE))
    revive()
    watch = guard.watch()
    _peers, knocks, dials = cross(lab, len(peers), peers, listener)
    await_links(lab, knocks, dials)
    for peer, (_there, cookie) in zip(peers, links):
        watch.event(peer, "link_ended", cookie=cookie)
        # The SYN that was held for the race finds the room that the dead link left.
        watch.no_event(peer, "knock_suspect")
    grown = watch.grown()
    assert grown.get("knock_tie_lost", 0) + grown.get("answer_tie_lost", 0) \
        + grown.get("answer_linked", 0), grown


@each("asked", "of a peer that is allowed for a while", "of a peer that is exempt")
@core()
@needs("socket_options")
def quiet_one_beside_which_another_comes_up(lab, case):
    """With that the room is full, and the next knock would want the place of the quiet one."""
    exempt = {"exempt": "10.82.0.0/16"} if case == "of a peer that is exempt" else {}
    guard = lab.own_guard(max_links=3, suspect_after=f"{SUSPECT_AFTER_S}s", **exempt)
    peer, listener = lab.fresh(), listen_home(lab)
    if case == "of a peer that is allowed for a while":
        guard.tell("allow", peer.address, "--for", "1h")
    links = [link_in(lab, peer, listener), link_in(lab, peer, listener)]

    def silent_ns():
        return {link["cookie"]: link["silent_ns"] for link in guard.peer(peer.address)["links"]}

    wait_for(lambda: min(silent_ns().values()) > 1.5 * SUSPECT_AFTER_S * SECOND, "both are quiet")
    links.append(link_in(lab, peer, listener))
    if case == "asked":
        wait_for(lambda: max(silent_ns()[link.cookie] for link in links) < SUSPECT_AFTER_S * SECOND,
                 lambda: f"all show life: {silent_ns()}")
    else:
        wait_past(now_ns() + int(1.5 * SECOND * TIME_SCALE))
        assert min(silent_ns()[link.cookie] for link in links[:2]) > 1.5 * SUSPECT_AFTER_S * SECOND, silent_ns()
    assert all(link.alive() for link in links)


def listen_home_far(lab):
    return lab.home("listen", address=HOME, port=PORT)


def cross(lab, count, peers=None, listener=None):
    """Home and each peer dial each other at one moment. The peers, their dials and ours."""
    peers = peers or [lab.fresh(host=lab.far) for _ in range(count)]
    listener = listener or listen_home_far(lab)
    for peer in peers:
        peer.listen()
    at = now_ns() + round(SECOND / 2 * min(TIME_SCALE, 4))
    numbers = []
    for peer in peers:
        numbers.append((lab.far.start("dial", address=HOME, port=PORT, source=peer.address,
                                      blocking=False, at=at),
                        lab.home.start("dial", address=peer.dial, port=PORT, source=HOME,
                                       blocking=False, at=at)))
    knocks, dials = [], []
    for knock, own in numbers:
        knocks.append(lab.far.finish(knock))
        dials.append(lab.home.finish(own))
    return peers, knocks, dials


def await_links(lab, knocks, dials):
    """Every dial of both ends becomes a link."""
    for host, made in ((lab.far, knocks), (lab.home, dials)):
        for one in made:
            assert one["errno"] == "EINPROGRESS", one
            outcome = host("settle", fd=one["fd"], timeout=PATIENCE * TIME_SCALE)
            assert outcome and outcome["errno"] == "success", (one, outcome)
