# SPDX-License-Identifier: BSD-2-Clause
"""Dials that are kept: to a peer that was silent, inside its backoff; beside a link that the peer has just made.

To the application such a dial is one that is not answered yet. Its SYN does not leave before the backoff
ends or is ended; what has left is seen by a witness at home's interfaces, by the kernel's own time stamps.
"""

import os
import signal

from harness import (DELAY_MS, IPV4, IPV6, OTHER_PORT, PATIENCE, PORT, SECOND, TIME_SCALE, Skip, helper, run,
                     wait_for)
from registry import core, each, each_family, test
from steps import (LINK_NEW_S, UNHEARD_DIALS, InLink, assert_dial_refused, assert_passed, assert_refused, connections_of,
                   dial, fail_dial, fail_silently, link_in, link_new_s, link_out, listen_home, refusal, wait_state)

# A failure of theirs would be the end of the backoff; what is kept is kept for so long.
LONG = {"initial": "60s", "max": "60s"}
# Long enough for a second SYN of TCP's own, and over between two of them: 1, 3 and 7 s after the first.
SHORT = {"initial": "4s", "max": "4s"}
CLOSED = 7
# Two clocks, one of which is computed from the other.
CLOCKS_NS = 1_000_000


class Silence:
    """A peer that listens, and that nothing is heard of until it is back."""

    def __init__(self, lab, family=None):
        self.peer = lab.fresh(family) if family else lab.fresh()
        self.peer.listen()
        self.mend = self.peer.host.silence(self.peer.address)
        self.lab = lab
        self.over = False
        lab.at_end(self.end)

    def end(self):
        if not self.over:
            self.mend()
        self.over = True


def double_at_once(lab):
    """TCP's time-out doubles from the first one on, as before Linux 6.5."""
    name = "net.ipv4.tcp_syn_linear_timeouts"
    if os.path.exists("/proc/sys/" + name.replace(".", "/")):
        _status, text = run(*lab.home.inside("sysctl", "-n", name))
        lab.home.sysctl(name, 0)
        lab.at_end(lab.home.sysctl, name, int(text))


def left(lab, witness, peer):
    """The SYNs to the peer that have left home, since it has a witness."""
    return lab.home("witnessed", thread=witness, address=peer.address)


def all_left(lab, witness, peer):
    """The same, with nothing that has left by now still unread: another SYN that follows has been seen."""
    marker = lab.void()
    pending = dial(lab, marker, port=OTHER_PORT, blocking=False)
    wait_for(lambda: left(lab, witness, marker), "the witness has read what has left")
    lab.home("close", fd=pending["fd"])
    return left(lab, witness, peer)


def kept(lab, watch, peer, until_ns=None):
    """Dial a peer that was silent: the dial is kept. Its result and its event."""
    pending = dial(lab, peer, blocking=False)
    assert pending["errno"] == "EINPROGRESS", pending
    event = watch.event(peer, "dial_kept", cookie=pending["cookie"])
    assert event["subject"] == "dial" and event["verdict"] == "hold" and event["enforced"] is True, event
    assert "no answer" in event["detail"] and event["process_id"] == pending["process"], event
    assert until_ns is None or event["until_ns"] == until_ns, (event, until_ns)
    slot, = watch.guard.peer(peer.address)["claims"]
    assert slot["cookie"] == pending["cookie"] and slot["kept"], slot
    return pending, event


def tried_twice(lab, before):
    """TCP has sent the SYN of a dial twice more, after 1 and 3 s, and tries again 4 s later: whoever lets it
    go before is not TCP."""
    wait_for(lambda: lab.home.snmp("TcpExt", "TCPSynRetrans") >= before + 2, "TCP has tried three times")


def settled(lab, pending, errno="success"):
    outcome = lab.home("settle", fd=pending["fd"], timeout=PATIENCE * TIME_SCALE)
    assert outcome and outcome["errno"] == errno, outcome
    return outcome


def assert_left_after(lab, witness, peer, pending, moment_ns):
    """Its SYN has left, and none of them before this moment."""
    own = [syn for syn in all_left(lab, witness, peer) if syn["source_port"] == pending["local"][1]]
    assert own and len(connections_of(own)) == 1, own
    early = (moment_ns - own[0]["at"]) / SECOND
    assert own[0]["at"] >= moment_ns - CLOCKS_NS, f"a SYN has left {early:.6f} s early"


@each_family
@core("IPv4", "IPv6")
def leave_when_the_backoff_ends(lab, family):
    """Sent by the daemon at that moment, not by TCP at its next try."""
    double_at_once(lab)
    guard, silence = lab.own_guard(**SHORT), Silence(lab, family)
    peer, watch = silence.peer, guard.watch()
    failure = fail_silently(lab, watch, peer)
    silence.end()
    witness = lab.home("witness")
    pending, _event = kept(lab, watch, peer, failure["until_ns"])
    # Another one is refused meanwhile, as while any dial is under way.
    assert_dial_refused(lab, watch, peer, "dial_dialing")
    outcome = settled(lab, pending)
    assert_left_after(lab, witness, peer, pending, failure["until_ns"])
    gone = watch.event(peer, "dial_let_go", cookie=pending["cookie"])
    assert gone["time_ns"] >= failure["until_ns"], (gone, failure)
    # TCP has tried after 1 and 3 s, in vain, and not yet after 7 s.
    assert outcome["resent"] <= 2, outcome
    watch.event(peer, "link_outbound", cookie=pending["cookie"])
    there = peer.host("accept", fd=peer.listener, timeout=PATIENCE)
    lab.home("send", fd=pending["fd"], text="hello")
    assert peer.host("receive", fd=there["fd"], timeout=PATIENCE) == "hello"
    watch.counted(dial_idle=3, dial_unheard=2, dial_failed=1, dial_kept=1, dial_dialing=1, dial_let_go=1,
                  link_outbound=1)


@test
@core()
def that_block_are_pending_as_long(lab):
    guard, silence = lab.own_guard(**SHORT), Silence(lab)
    peer, watch = silence.peer, guard.watch()
    failure = fail_silently(lab, watch, peer)
    silence.end()
    witness = lab.home("witness")
    number = lab.home.start("dial", address=peer.dial, port=PORT)
    event = watch.event(peer, "dial_kept")
    assert event["until_ns"] == failure["until_ns"] and not lab.home.worker.finished(number), event
    result = assert_passed(lab.home.finish(number))
    assert result["ended"] >= failure["until_ns"], (result, failure)
    assert_left_after(lab, witness, peer, result, failure["until_ns"])


@test
@core()
def leave_by_the_timer_of_tcp_without_a_daemon(lab):
    double_at_once(lab)
    guard, silence = lab.own_guard(initial="2s", max="2s"), Silence(lab)
    peer, watch = silence.peer, guard.watch()
    failure = fail_silently(lab, watch, peer)
    silence.end()
    witness = lab.home("witness")
    pending, _event = kept(lab, watch, peer, failure["until_ns"])
    guard.end(signal.SIGQUIT)
    outcome = settled(lab, pending)
    assert_left_after(lab, witness, peer, pending, failure["until_ns"])
    # The backoff is over after 1.6 s or more: the try after 1 s is in vain.
    assert outcome["resent"] >= 2, outcome
    guard.start()
    assert guard.counters()["dial_let_go"] == 1, guard.counters()


@test
@core()
def leave_at_a_kick(lab):
    double_at_once(lab)
    guard, silence = lab.own_guard(**LONG), Silence(lab)
    peer, watch = silence.peer, guard.watch()
    fail_silently(lab, watch, peer)
    silence.end()
    witness = lab.home("witness")
    before = lab.home.snmp("TcpExt", "TCPSynRetrans")
    pending, _event = kept(lab, watch, peer)
    tried_twice(lab, before)
    guard.tell("kick", peer.address)
    assert settled(lab, pending)["resent"] == 2, "it has waited for TCP's next try"
    kicked = watch.event(peer, "peer_kicked")
    assert_left_after(lab, witness, peer, pending, kicked["time_ns"])
    watch.event(peer, "dial_let_go", cookie=pending["cookie"])


@test
@core()
def leave_when_the_service_starts_anew(lab):
    double_at_once(lab)
    guard, silence = lab.own_guard(**LONG), Silence(lab)
    peer, watch = silence.peer, guard.watch()
    fail_silently(lab, watch, peer)
    silence.end()
    witness = lab.home("witness")
    before = lab.home.snmp("TcpExt", "TCPSynRetrans")
    pending, _event = kept(lab, watch, peer)
    tried_twice(lab, before)
    listen_home(lab)
    assert settled(lab, pending)["resent"] == 2, "it has waited for TCP's next try"
    started, = guard.events.find(watch.since, cause="service_started")
    assert_left_after(lab, witness, peer, pending, started["time_ns"])


@each_family
@core("IPv4", "IPv6")
def give_way_to_a_knock(lab, family):
    """The peer is back, and has dialed us: nothing of our dial has left, and nothing does."""
    guard, silence = lab.own_guard(**LONG), Silence(lab, family)
    peer, watch, listener = silence.peer, guard.watch(), listen_home(lab, family)
    fail_silently(lab, watch, peer)
    silence.end()
    witness = lab.home("witness")
    pending, _event = kept(lab, watch, peer)
    link = link_in(lab, peer, listener)
    first = watch.event(peer, "knock_goes_first", other_cookie=pending["cookie"])
    assert first["enforced"] is True, first
    settled(lab, pending, "ECONNABORTED")
    yielded = watch.event(peer, "dial_yielded", cookie=pending["cookie"])
    assert yielded["time_ns"] < watch.event(peer, "link_inbound", cookie=link.cookie)["time_ns"], yielded
    assert all_left(lab, witness, peer) == []
    assert guard.peer(peer.address)["next_attempt_ns"] is None
    # No failure came of it.
    assert guard.peer(peer.address)["attempts"] == 1


@test
@core()
def that_are_given_up_are_no_failures(lab):
    """And none of their SYNs leaves, whatever the application does."""
    guard, peer = lab.own_guard(**LONG), lab.void()
    watch = guard.watch()
    failure = fail_silently(lab, watch, peer)
    witness = lab.home("witness")
    for _ in range(10):
        pending, _event = kept(lab, watch, peer, failure["until_ns"])
        lab.home("close", fd=pending["fd"])
        event = watch.event(peer, "dial_unheard", cookie=pending["cookie"])
        assert event["attempts"] == 1 and event["until_ns"] == failure["until_ns"], event
    # One that is given time for tries of TCP's own.
    pending, _event = kept(lab, watch, peer, failure["until_ns"])
    before = lab.home.snmp("TcpExt", "TCPSynRetrans")
    tried_twice(lab, before)
    lab.home("close", fd=pending["fd"])
    watch.event(peer, "dial_unheard", cookie=pending["cookie"])
    assert all_left(lab, witness, peer) == []
    watch.counted(dial_idle=3, dial_unheard=2 + 11, dial_failed=1, dial_kept=11)


@test
@core()
def are_refused_where_that_is_asked_for(lab):
    guard, peer = lab.own_guard(in_backoff="refuse", **LONG), lab.void()
    watch = guard.watch()
    failure = fail_silently(lab, watch, peer)
    event = assert_dial_refused(lab, watch, peer, "dial_backoff")
    assert event["until_ns"] == failure["until_ns"] and "no answer" in event["detail"], event
    watch.counted(dial_idle=3, dial_unheard=2, dial_failed=1, dial_backoff=1)


@test
@core()
def are_none_of_a_peer_that_has_refused(lab):
    """The last failure counts: after an RST it is ECONNREFUSED at once."""
    guard = lab.own_guard(initial="300ms", max="60s")
    silence = Silence(lab)
    peer, watch = silence.peer, guard.watch()
    fail_silently(lab, watch, peer)
    lab.home("close", fd=kept(lab, watch, peer)[0]["fd"])
    guard.tell("kick", peer.address)
    silence.end()
    peer.host("close", fd=peer.listener)
    fail_dial(lab, watch, peer)
    assert_dial_refused(lab, watch, peer, "dial_backoff")


@test
def fail_by_the_timers_of_tcp_when_they_have_left(lab):
    """A blocking dial that was kept and is not answered either is the next failure."""
    guard, peer = lab.own_guard(initial="1500ms", max="3s"), lab.void()
    watch = guard.watch()
    failure = fail_silently(lab, watch, peer)
    witness = lab.home("witness")
    pending, _event = kept(lab, watch, peer, failure["until_ns"])
    wait_for(lambda: len(left(lab, witness, peer)) >= 2, "two of its SYNs have left")
    lab.home("close", fd=pending["fd"])
    event = watch.event(peer, "dial_failed", cookie=pending["cookie"])
    assert event["attempts"] == 2 and event["until_ns"] > event["time_ns"], event
    assert_left_after(lab, witness, peer, pending, failure["until_ns"])


@test
def of_observe_mode_leave_at_once(lab):
    guard, peer = lab.own_guard(mode="observe", **LONG), lab.void()
    watch = guard.watch()
    fail_silently(lab, watch, peer)
    witness = lab.home("witness")
    pending = dial(lab, peer, blocking=False)
    event = watch.event(peer, "dial_kept", cookie=pending["cookie"])
    assert event["enforced"] is False, event
    wait_for(lambda: left(lab, witness, peer), "its SYN leaves")


@test
def leave_at_once_when_the_guard_stops_enforcing(lab):
    """By TCP's next try at the latest: panic is for the time after it."""
    guard, silence = lab.own_guard(**LONG), Silence(lab)
    peer, watch = silence.peer, guard.watch()
    fail_silently(lab, watch, peer)
    silence.end()
    pending, _event = kept(lab, watch, peer)
    guard.tell("panic")
    settled(lab, pending)


# What dials: of its dials one leaves in each step, the others are kept, or refused.
FLOODERS = {
    "one that waits for 0.2 s": {"wait": 0.2},
    "sixteen threads": {"wait": 4, "count": 16},
    "a process for each dial": {"program": "dialer"},
}


@each(*FLOODERS)
@core(*FLOODERS)
def of_a_dead_peer_leave_once_in_each_step(lab, flooder):
    """Whatever the application does, it is no flood: counted in dials whose SYN has left, by the failures
    that the guard has counted in the same time."""
    options = FLOODERS[flooder]
    if "program" in options:
        options = {"program": helper(options["program"], fast=True)}
    guard, peer = lab.own_guard(initial="500ms", max="1s"), lab.void()
    watch = guard.watch()
    witness = lab.home("witness")
    hammers = lab.home("hammer", address=peer.dial, port=PORT, **options)
    # One step is nothing to count by; the last one of these is the fourth.
    wait_for(lambda: watch.grown().get("dial_failed", 0) >= 4, lambda: f"it fails: {watch.grown()}",
             3 * PATIENCE)
    made = lab.home("hammered", hammers=hammers)
    grown = watch.grown()
    dials = connections_of(all_left(lab, witness, peer))
    failures = grown["dial_failed"]
    print(f"# {flooder}: {made} dials, of which {len(dials)} have left in {failures} steps")
    # The last one may not have failed yet. Three dials make the first failure.
    assert len(dials) <= failures + 1 + UNHEARD_DIALS - 1, (len(dials), grown)
    assert made >= len(dials), (made, grown)
    assert grown.get("dial_kept"), grown


@test
def end_with_their_process(lab):
    guard, peer = lab.own_guard(**LONG), lab.void()
    watch = guard.watch()
    failure = fail_silently(lab, watch, peer)
    second = lab.home.add_worker()
    second.start("dial", address=peer.dial, port=PORT)
    watch.event(peer, "dial_kept")
    second.kill()
    event = watch.event(peer, "dial_unheard", count=3)
    assert guard.peer(peer.address)["claims"] == [], event
    assert guard.peer(peer.address)["next_attempt_ns"] == failure["until_ns"]


@test
def time_out_as_any_dial_does(lab):
    """The application's own time-out, and TCP's: it is the same to both as without a guard."""
    lab.home.sysctl("net.ipv4.tcp_syn_retries", 1)
    lab.at_end(lab.home.sysctl, "net.ipv4.tcp_syn_retries", 6)
    guard, peer = lab.own_guard(**LONG), lab.void()
    watch = guard.watch()
    failure = fail_silently(lab, watch, peer)
    pending, _event = kept(lab, watch, peer)
    settled(lab, pending, "ETIMEDOUT")
    event = watch.event(peer, "dial_unheard", cookie=pending["cookie"])
    assert event["attempts"] == 1 and event["until_ns"] == failure["until_ns"], event
    wait_state(lab.home, pending["fd"], CLOSED, "the socket is closed")
    if guard.counters().get("dial_let_go"):
        raise Skip("the machine is too slow: the backoff has ended")


# ---- beside a new link -------------------------------------------------------------------------

LATE_TIMES = 20
HOME_FROM_FAR = {4: "10.78.0.1", 6: "fd78::1"}


class NewLink:
    """A peer, a wire's length away, that has just dialed home, and a dial of ours beside its link."""

    def __init__(self, lab, guard, family=IPV4):
        lab.need_delay()
        self.lab = lab
        self.peer = lab.fresh(family, lab.far)
        self.peer.listen()
        self.watch = guard.watch()
        self.listener = lab.home("listen", address="::", port=PORT)
        # On a machine that is busy enough the link is not new any more.
        for _ in range(LATE_TIMES):
            knock = assert_passed(self.peer.knock(HOME_FROM_FAR[self.peer.family.version]))
            accepted = lab.home("accept", fd=self.listener, timeout=PATIENCE)
            self.link = InLink(lab, self.peer, accepted["fd"], knock["fd"], knock, accepted)
            up = self.watch.event(self.peer, "link_inbound", cookie=self.link.cookie)
            self.dial = dial(lab, self.peer, blocking=False)
            if self.dial["errno"] == "EINPROGRESS":
                break
            late = self.watch.event(self.peer, "dial_linked", cookie=self.dial["cookie"])
            assert late["time_ns"] - up["time_ns"] > LINK_NEW_S * SECOND, late
            self.link.close()
            self.watch.event(self.peer, "link_ended", cookie=self.link.cookie)
        self.event = self.watch.event(self.peer, "dial_beside", cookie=self.dial["cookie"])
        self.lasts_ns = self.event["until_ns"] - up["time_ns"]

    def ends(self):
        """How the dial ends."""
        outcome = self.lab.home("settle", fd=self.dial["fd"], timeout=PATIENCE * TIME_SCALE)
        assert outcome, "the dial does not end"
        return outcome["errno"]

    def accepted(self):
        """What the peer's own service gets of it."""
        return self.peer.host("accept", fd=self.peer.listener, timeout=PATIENCE)


@each(IPV4, IPV6)
@core("IPv4")
def beside_a_new_link_that_stays_fail_when_it_is_new_no_longer(lab, family):
    """Refused at once the dial would fail while the service is still taking the link in."""
    new = NewLink(lab, lab.own_guard(), family)
    event = new.event
    assert event["verdict"] == "hold" and event["enforced"] is True, event
    assert event["other_cookie"] == new.link.cookie and event["process_id"] == new.dial["process"], event
    # By the round trip of its handshake, in milliseconds; which is no longer than it seems.
    assert new.lasts_ns >= link_new_s((2 * DELAY_MS - 2) / 1000) * SECOND, new.lasts_ns
    assert new.watch.guard.state(new.peer.address) == "linked"
    # One at a time.
    other = dial(lab, new.peer, blocking=False)
    assert other["errno"] == refusal(), other
    assert new.ends() == "ECONNABORTED"
    over = new.watch.event(new.peer, "dial_superseded", cookie=new.dial["cookie"])
    assert over["time_ns"] >= event["until_ns"] and over["attempts"] == 0, (over, event)
    assert new.peer.host("accept", fd=new.peer.listener, timeout=0.1) is None, "its SYN has left"
    assert new.link.alive()
    assert_dial_refused(lab, new.watch, new.peer, "dial_linked")


@each("we close", "they close")
@core("we close")
def beside_a_new_link_that_ends_leave_then(lab, who):
    """An application that turns the newcomer away because it dials has its own dial."""
    guard = lab.own_guard()
    for _ in range(LATE_TIMES):
        new = NewLink(lab, guard)
        if who == "we close":
            lab.home("close", fd=new.link.here)
        else:
            new.peer.host("close", fd=new.link.there)
        outcome = new.ends()
        if outcome == "success":
            break
        # The machine was too busy for a link that ends while it is new.
        late = new.watch.event(new.peer, "dial_superseded", cookie=new.dial["cookie"])
        assert outcome == "ECONNABORTED" and late["time_ns"] >= new.event["until_ns"], (outcome, late, new.event)
        lab.home("close", fd=new.listener)
    ended = new.watch.event(new.peer, "link_ended", cookie=new.link.cookie)
    gone = new.watch.event(new.peer, "dial_let_go", cookie=new.dial["cookie"])
    assert ended["time_ns"] <= gone["time_ns"], (ended, gone)
    assert outcome == "success" and new.accepted()
    new.watch.event(new.peer, "link_outbound", cookie=new.dial["cookie"])
    assert "dial_failed" not in new.watch.grown(), new.watch.grown()


@test
def beside_a_new_link_end_even_if_the_daemon_is_late(lab):
    """The SYN leaves when TCP repeats it, the answer is held, and the daemon ends the dial when it can."""
    guard = lab.own_guard()
    witness = lab.home("witness")
    new = NewLink(lab, guard)
    guard.signal(signal.SIGSTOP)
    wait_for(lambda: left(lab, witness, new.peer), "a SYN leaves")
    assert new.peer.host("accept", fd=new.peer.listener, timeout=0.1) is None, "the peer's service has a duplicate"
    guard.signal(signal.SIGCONT)
    assert new.ends() == "ECONNABORTED"
    new.watch.event(new.peer, "dial_superseded", cookie=new.dial["cookie"])
    assert new.link.alive()


@test
@core()
def are_refused_at_once_beside_a_new_link_that_is_our_own(lab):
    """The application has made that one itself."""
    guard, peer = lab.guard(), lab.fresh()
    watch = guard.watch()
    link_out(lab, peer)
    assert_refused(dial(lab, peer))
    watch.event(peer, "dial_linked")
