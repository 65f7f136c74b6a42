# SPDX-License-Identifier: BSD-2-Clause
"""Our dials: refused while linked, while dialing and in backoff, and only then."""

import re

from harness import ALL_BUT_SYNS, PATIENCE, PORT, SECOND, TIME_SCALE, Skip, now_ns, paced, wait_past
from prober import Prober
from registry import core, each, each_family, test
from steps import (assert_dial_refused, assert_passed, assert_refused, dial, fail_dial, link_in,
                   link_out, listen_home, refusal, wait_state)

CLOSE_WAIT = 8


@each_family
@core("IPv4", "IPv6")
def refused_while_linked_by_our_dial(lab, family):
    guard, peer = lab.guard(), lab.fresh(family)
    watch = guard.watch()
    link = link_out(lab, peer)
    event = watch.event(peer, "link_outbound", cookie=link.cookie)
    assert event["direction"] == "outbound" and event["remote_port"] == PORT, event
    assert event["local_port"] == link.dial["local"][1], (event, link.dial)
    event = assert_dial_refused(lab, watch, peer, "dial_linked")
    assert event["other_cookie"] == link.cookie and event["command"] == "cgt-home", event
    watch.counted(dial_idle=1, link_outbound=1, dial_linked=1)
    assert link.alive()
    status, document = guard.explain(peer.dial)
    assert status == 3 and document["address"] == peer.address, (status, document)
    assert document["dial"]["cause"] == "dial_linked" and not document["dial"]["passes"]
    slot, = document["peer"]["links"]
    assert slot["process_id"] == lab.home.worker.pid and slot["direction"] == "outbound", slot
    assert document["peer"]["refused_dials"] == 1 and document["peer"]["state"] == "linked"
    assert document["peer"]["last_refusal"]["cause"] == "dial_linked"


@each_family
@core("IPv4", "IPv6")
def refused_while_linked_by_their_knock(lab, family):
    guard, peer = lab.guard(), lab.fresh(family)
    watch = guard.watch()
    peer.listen()
    link = link_in(lab, peer, listen_home(lab, family))
    event = watch.event(peer, "link_inbound", cookie=link.cookie)
    assert event["direction"] == "inbound", event
    event = assert_dial_refused(lab, watch, peer, "dial_linked")
    assert event["other_cookie"] == link.cookie, event
    watch.counted(knock_idle=1, link_inbound=1, dial_linked=1)
    assert link.alive()


@each_family
@core("IPv4", "IPv6")
def refused_while_dialing(lab, family):
    guard, peer = lab.guard(), lab.void(family)
    watch = guard.watch()
    first = dial(lab, peer, blocking=False)
    assert first["errno"] == "EINPROGRESS", first
    event = assert_dial_refused(lab, watch, peer, "dial_dialing")
    assert event["other_cookie"] == first["cookie"], event
    watch.counted(dial_idle=1, dial_dialing=1)
    slot, = guard.peer(peer.address)["claims"]
    assert slot["cookie"] == first["cookie"] and slot["sent"], slot
    assert slot["process_id"] == first["process"] and slot["thread_id"] == first["thread"], slot
    assert guard.state(peer.address) == "dialing"


@each_family
@core("IPv4", "IPv6")
def refused_while_their_handshake_is_pending(lab, family):
    """The peer's dial was let in and only its last ACK is missing: it becomes the link."""
    guard, peer = lab.guard(hold_max="10s", claim_max="30s"), lab.fresh(family)
    watch, listener = guard.watch(), listen_home(lab, family)
    mend = peer.host.silence(peer.address, only=ALL_BUT_SYNS)
    try:
        knock = peer.knock(blocking=False)
        watch.counted_at_least(knock_idle=1)
        assert_dial_refused(lab, watch, peer, "dial_pending")
    finally:
        mend()
    assert lab.home("accept", fd=listener, timeout=PATIENCE)
    watch.event(peer, "link_inbound")
    peer.host("close", fd=knock["fd"])


@each_family
@core("IPv4", "IPv6")
def refused_in_backoff_and_allowed_after_it(lab, family):
    guard, peer = lab.guard(initial=paced(2000), max=paced(2000)), lab.fresh(family)
    watch = guard.watch()
    failure = fail_dial(lab, watch, peer)
    assert failure["attempts"] == 1, failure
    event = assert_dial_refused(lab, watch, peer, "dial_backoff")
    assert event["until_ns"] == failure["until_ns"] and event["attempts"] == 1, (event, failure)
    watch.counted(dial_idle=1, dial_failed=1, dial_backoff=1)
    peer.listen()
    wait_past(failure["until_ns"])
    link_out(lab, peer)
    watch.event(peer, "link_outbound")
    watch.counted(dial_idle=2, dial_failed=1, dial_backoff=1, link_outbound=1)


@test
@core()
def backoff_doubles_up_to_its_cap_with_jitter_only_downwards(lab):
    guard, peer = lab.guard(initial="200ms", max="800ms"), lab.fresh()
    watch = guard.watch()
    for attempt, step in enumerate((0.2, 0.4, 0.8, 0.8), 1):
        event = fail_dial(lab, watch, peer)
        assert event["attempts"] == attempt, event
        length = (event["until_ns"] - event["time_ns"]) / SECOND
        assert step * 0.8 - 0.001 <= length <= step, f"attempt {attempt} waits {length:.3f} s"
        wait_past(event["until_ns"])
    watch.counted(dial_idle=4, dial_failed=4)


@test
@core()
def a_refused_dial_changes_nothing_of_the_backoff(lab):
    guard, peer = lab.guard(initial="30s", max="60s"), lab.fresh()
    watch = guard.watch()
    failure = fail_dial(lab, watch, peer)
    before = guard.peer(peer.address)
    for _ in range(20):
        assert_refused(dial(lab, peer))
    after = guard.peer(peer.address)
    for name in ("attempts", "next_attempt_ns", "last_active_ns"):
        assert after[name] == before[name], f"{name} was {before[name]} and is {after[name]}"
    assert after["next_attempt_ns"] == failure["until_ns"] and after["refused_dials"] == 20, after
    assert after["links"] == [] and after["claims"] == [], after
    watch.event(peer, "dial_backoff", count=20)
    watch.counted(dial_idle=1, dial_failed=1, dial_backoff=20)


@each_family
@core("IPv4")
def a_failure_and_its_backoff_are_one_step(lab, family):
    """Two processes dial all the time while a dial fails: the peer never looks idle in between."""
    guard, peer = lab.guard(initial="20s", max="20s"), lab.fresh(family)
    watch = guard.watch()
    probers = [Prober(lab, lab.home, peer.dial, interval_us=200, limit=300) for _ in range(2)]
    for prober in probers:
        prober.stop(at_limit=True)
    grown = watch.grown()
    assert grown.pop("dial_idle") == 1 and grown.pop("dial_failed") == 1, grown
    assert sum(grown.values()) == 599 and set(grown) <= {"dial_backoff", "dial_dialing"}, grown
    watch.event(peer, "dial_failed")


@each_family
@core("IPv4", "IPv6")
def of_many_threads_one_dials(lab, family):
    """Check and claim are one step: eight threads dial at once, one SYN leaves."""
    guard, peer = lab.guard(), lab.fresh(family)
    peer.listen()
    watch = guard.watch()
    results = lab.home("storm", address=peer.dial, port=PORT, dials=8, at=now_ns() + 20_000_000)
    assert sorted(results) == [refusal()] * 7 + ["success"], results
    assert peer.host("accept", fd=peer.listener, timeout=PATIENCE)
    assert peer.host("accept", fd=peer.listener, timeout=0.2) is None, "a second link"
    grown = watch.grown()
    assert grown["dial_idle"] == 1 and grown["link_outbound"] == 1, grown
    assert grown.get("dial_dialing", 0) + grown.get("dial_linked", 0) == 7, grown
    watch.event(peer, "link_outbound")


@test
@core()
def a_dial_that_times_out_has_failed(lab):
    guard, peer = lab.guard(), lab.void()
    lab.home.sysctl("net.ipv4.tcp_syn_retries", 1)
    lab.at_end(lab.home.sysctl, "net.ipv4.tcp_syn_retries", 6)
    watch = guard.watch()
    first = dial(lab, peer, blocking=False)
    outcome = lab.home("settle", fd=first["fd"], timeout=PATIENCE * TIME_SCALE)
    assert outcome and outcome["errno"] == "ETIMEDOUT", outcome
    event = watch.event(peer, "dial_failed", cookie=first["cookie"])
    assert event["attempts"] == 1 and event["until_ns"], event
    watch.counted(dial_idle=1, dial_failed=1)


@test
@core()
def closing_a_pending_dial_is_a_failure_of_it_the_third_time(lab):
    """The peer has not had the time to fail to answer; but who never waits must not become a flood."""
    guard, peer = lab.guard(initial="30s", max="30s", in_backoff="refuse"), lab.void()
    watch = guard.watch()
    for count in (1, 2, 3):
        pending = dial(lab, peer, blocking=False)
        lab.home("close", fd=pending["fd"])
        event = watch.event(peer, "dial_unheard" if count < 3 else "dial_failed", cookie=pending["cookie"])
        assert event["ending"] == "closed" and event["attempts"] == (count == 3), event
    assert event["until_ns"] > event["time_ns"], event
    assert_dial_refused(lab, watch, peer, "dial_backoff")
    watch.counted(dial_idle=3, dial_unheard=2, dial_failed=1, dial_backoff=1)


@each("we close", "we reset", "we shut down")
@core("we close")
def a_short_link_that_we_end_is_no_failure(lab, end):
    guard = lab.guard(min_uptime="30s", stable_after="60s", initial="30s", max="30s")
    peer = lab.fresh()
    watch = guard.watch()
    for _ in range(3):
        link = link_out(lab, peer)
        if end == "we shut down":
            lab.home("shutdown", fd=link.here)
        lab.home("close", fd=link.here, reset=end == "we reset")
        peer.host("close", fd=link.there)
        event = watch.event(peer, "link_ended", cookie=link.cookie)
        assert event["attempts"] == 0 and event["until_ns"] is None, event
        assert event["ending"] == "closed", event
    watch.counted(dial_idle=3, link_outbound=3, link_ended=3)


@test
@core()
def a_short_link_of_a_process_that_dies_is_no_failure(lab):
    guard = lab.guard(min_uptime="30s", stable_after="60s", initial="30s", max="30s")
    peer = lab.fresh()
    watch = guard.watch()
    for _ in range(3):
        second = lab.home.add_worker()
        link = link_out(lab, peer, second)
        second.kill()
        event = watch.event(peer, "link_ended", cookie=link.cookie)
        assert event["attempts"] == 0 and event["until_ns"] is None, event
        peer.host("close", fd=link.there)
    watch.counted(dial_idle=3, link_outbound=3, link_ended=3)


@each_family
@core("IPv4")
def a_peer_that_accepts_and_closes_is_in_backoff_from_the_second_time_on(lab, family):
    """Success of a moment is no success, and does not reset the backoff."""
    guard = lab.guard(initial="150ms", max="2s", min_uptime="30s", stable_after="60s")
    peer = lab.fresh(family)
    watch = guard.watch()
    lengths = []
    for attempt in range(4):
        link = link_out(lab, peer)
        peer.host("close", fd=link.there, reset=attempt == 2)
        event = watch.event(peer, "link_hung_up" if attempt else "link_short", cookie=link.cookie)
        assert event["attempts"] == attempt, event
        assert event["ending"] == ("reset" if attempt == 2 else "peer_closed"), event
        lab.home("close", fd=link.here)
        if attempt:
            lengths.append(event["until_ns"] - event["time_ns"])
            wait_past(event["until_ns"])
    assert lengths[0] < lengths[1] < lengths[2], lengths
    watch.counted(dial_idle=4, link_outbound=4, link_short=1, link_hung_up=3)


@test
@core()
def a_peer_that_hangs_up_is_refused_at_once_in_its_backoff(lab):
    """It has answered: nothing is kept for it."""
    guard = lab.guard(initial="30s", max="30s", min_uptime="30s", stable_after="60s")
    peer = lab.fresh()
    watch = guard.watch()
    for _ in range(2):
        link = link_out(lab, peer)
        peer.host("close", fd=link.there)
        wait_state(lab.home, link.here, CLOSE_WAIT, "CLOSE_WAIT")
    event = watch.event(peer, "link_hung_up")
    refused = assert_dial_refused(lab, watch, peer, "dial_backoff")
    assert refused["until_ns"] == event["until_ns"] and refused["ending"] == "peer_closed", refused


@each("a byte", "a longer life", "a link that we end")
@core("a byte")
def two_short_links_in_a_row_are_not_in_a_row_with(lab, between):
    """Between the first hang-up and the next one the peer has shown that it means it."""
    guard = lab.guard(initial="30s", max="30s", min_uptime="300ms", stable_after="60s")
    peer = lab.fresh()
    watch = guard.watch()

    def hang_up():
        link = link_out(lab, peer)
        peer.host("close", fd=link.there)
        wait_state(lab.home, link.here, CLOSE_WAIT, "CLOSE_WAIT")
        event = guard.events.wait(watch.since, address=peer.address, cookie=link.cookie, subject="link",
                                  direction="outbound", verdict="none", ending="peer_closed")
        lab.home("close", fd=link.here)
        return event["cause"]
    if hang_up() != "link_short":
        # A machine that is slow enough has let it live.
        raise Skip("the link has lived for min_uptime")
    link = link_out(lab, peer)
    if between == "a byte":
        peer.host("send", fd=link.there, text="x")
        assert lab.home("receive", fd=link.here, timeout=PATIENCE) == "x"
        peer.host("close", fd=link.there)
    elif between == "a longer life":
        up = watch.event(peer, "link_outbound", cookie=link.cookie)
        wait_past(up["time_ns"] + 300_000_000)
        peer.host("close", fd=link.there)
    else:
        lab.home("close", fd=link.here)
    watch.event(peer, "link_ended", cookie=link.cookie)
    hang_up()
    assert "link_hung_up" not in watch.grown(), watch.grown()


@test
@core()
def links_of_theirs_that_are_short_are_no_failures(lab):
    """Who knocks and hangs up must not keep us from dialing."""
    guard = lab.guard(min_uptime="30s", stable_after="60s", initial="30s", max="30s")
    peer, listener = lab.fresh(), listen_home(lab)
    watch = guard.watch()
    for _ in range(3):
        link = link_in(lab, peer, listener)
        peer.host("close", fd=link.there)
        event = watch.event(peer, "link_ended", cookie=link.cookie)
        assert event["attempts"] == 0 and event["until_ns"] is None, event
        lab.home("close", fd=link.here)
    watch.counted(knock_idle=3, link_inbound=3, link_ended=3)


@test
@core()
def a_short_knock_is_no_failure_of_ours(lab):
    guard, peer = lab.guard(min_uptime="30s", stable_after="60s"), lab.fresh()
    watch = guard.watch()
    link = link_in(lab, peer, listen_home(lab))
    peer.host("close", fd=link.there)
    event = watch.event(peer, "link_ended", cookie=link.cookie)
    assert event["attempts"] == 0 and event["until_ns"] is None, event
    link_out(lab, peer)
    watch.counted(knock_idle=1, link_inbound=1, link_ended=1, dial_idle=1, link_outbound=1)


@test
@core()
def attempts_reset_only_after_a_stable_link(lab):
    guard = lab.guard(initial="150ms", max="2s", min_uptime="50ms", stable_after="700ms")
    peer = lab.fresh()
    watch = guard.watch()
    wait_past(fail_dial(lab, watch, peer)["until_ns"])
    failure = fail_dial(lab, watch, peer)
    assert failure["attempts"] == 2, failure
    wait_past(failure["until_ns"])
    # Longer than min_uptime, shorter than stable_after: no failure, and no reset.
    link = link_out(lab, peer)
    up = watch.event(peer, "link_outbound", cookie=link.cookie)
    wait_past(up["time_ns"] + 60_000_000)
    link.close()
    ended = watch.event(peer, "link_ended", cookie=link.cookie)
    if ended["time_ns"] - up["time_ns"] < 0.7 * SECOND:
        assert ended["attempts"] == 2, ended
    assert ended["until_ns"] is None, ended
    link = link_out(lab, peer)
    up = watch.event(peer, "link_outbound", cookie=link.cookie)
    wait_past(up["time_ns"] + int(0.7 * SECOND))
    link.close()
    ended = watch.event(peer, "link_ended", cookie=link.cookie)
    assert ended["attempts"] == 0 and ended["until_ns"] is None, ended
    assert guard.peer(peer.address)["attempts"] == 0


@each("EPERM", "EACCES", "EHOSTUNREACH", "ENETUNREACH", "ETIMEDOUT", "ECONNRESET")
@core("EPERM", "EHOSTUNREACH")
def refused_with_the_configured_errno(lab, errno):
    guard, peer = lab.guard(refuse_with=errno), lab.fresh()
    watch = guard.watch()
    assert guard.status()["policy"]["refusal_errno"] == errno
    link_out(lab, peer)
    assert_dial_refused(lab, watch, peer, "dial_linked", errno=errno)
    watch.counted(dial_idle=1, link_outbound=1, dial_linked=1)


@each_family
@core("IPv4", "IPv6")
def a_second_link_where_two_are_allowed(lab, family):
    guard, peer = lab.guard(max_links=2), lab.fresh(family)
    watch = guard.watch()
    link_out(lab, peer)
    link_out(lab, peer)
    event = assert_dial_refused(lab, watch, peer, "dial_linked")
    assert event["other_cookie"], event
    watch.counted(dial_idle=2, link_outbound=2, dial_linked=1)
    assert len(guard.peer(peer.address)["links"]) == 2


@test
@core()
def a_loser_does_not_clear_the_winners_claim(lab):
    """Closing a refused socket ends nothing, whoever it thinks it is."""
    guard, peer = lab.guard(), lab.void()
    watch = guard.watch()
    winner = dial(lab, peer, blocking=False)
    loser = assert_refused(dial(lab, peer, keep_failed=True))
    lab.home("close", fd=loser["fd"])
    assert_dial_refused(lab, watch, peer, "dial_dialing")
    second = lab.home.add_worker()
    assert_refused(dial(lab, peer, worker=second, keep_failed=True))
    second.kill()
    event = assert_dial_refused(lab, watch, peer, "dial_dialing")
    assert event["other_cookie"] == winner["cookie"], event
    watch.counted(dial_idle=1, dial_dialing=4)


@each_family
@core("IPv4", "IPv6")
def a_loser_does_not_clear_the_winners_link(lab, family):
    guard, peer = lab.guard(), lab.fresh(family)
    watch = guard.watch()
    link = link_out(lab, peer)
    loser = assert_refused(dial(lab, peer, keep_failed=True))
    lab.home("close", fd=loser["fd"], reset=True)
    event = assert_dial_refused(lab, watch, peer, "dial_linked")
    assert event["other_cookie"] == link.cookie, event
    watch.counted(dial_idle=1, link_outbound=1, dial_linked=2)


@test
@core()
def ipv4_and_v4_mapped_are_one_peer(lab):
    """One key, whichever socket family has reached the peer."""
    guard, peer = lab.guard(), lab.fresh()
    watch = guard.watch()
    link_out(lab, peer)
    result = lab.home("dial", address=f"::ffff:{peer.address}", port=PORT)
    assert_refused(result)
    watch.event(peer, "dial_linked", cookie=result["cookie"])
    other = lab.fresh()
    other.listen()
    assert_passed(lab.home("dial", address=f"::ffff:{other.address}", port=PORT))
    watch.event(other, "link_outbound")
    result = assert_refused(lab.home("dial", address=other.address, port=PORT))
    watch.event(other, "dial_linked", cookie=result["cookie"])
    watch.counted(dial_idle=2, link_outbound=2, dial_linked=2)
    for spelling in (peer.address, f"::ffff:{peer.address}"):
        assert guard.explain(spelling)[1]["address"] == peer.address


@test
@core()
def who_dialed_is_in_the_event(lab):
    """An operator sees which task makes the duplicates."""
    guard, peer = lab.guard(), lab.fresh()
    watch = guard.watch()
    link_out(lab, peer)
    second = lab.home.add_worker("cgt-check-task")
    result = assert_refused(dial(lab, peer, worker=second))
    event = watch.event(peer, "dial_linked", cookie=result["cookie"])
    assert event["command"] == "cgt-check-task" and event["process_id"] == second.pid, event
    assert event["thread_id"] == result["thread"] != second.pid, event
    _status, text = guard.cli("events")
    assert re.search(rf"{re.escape(peer.address)}\b.*cgt-check-task", text), text
