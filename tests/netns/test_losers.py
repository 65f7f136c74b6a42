# SPDX-License-Identifier: BSD-2-Clause
"""The loser of two crossing dials hears first: services that refuse whoever comes while they dial.

Unguarded, two such nodes that dial at one moment refuse each other, and again a second later, for as long as
their clocks agree. A node (worker.py) that is a second late is in by itself.
"""

import signal
from collections import Counter

from harness import IPV4, IPV6, PATIENCE, PORT, SECOND, TIME_SCALE, now_ns, wait_for
from registry import core, each, each_family, test
from steps import assert_passed, dial, listen_home
from test_crossing import Race

PAIRS = 6
# Of include/connguard/rules.h: a knock that lost to a dial is kept for so long, and the last ACK waits for so long.
KNOCK_KEPT_NS = SECOND
ACK_WAITS_NS = 5_000_000


class Nodes:
    """Pairs of such nodes, one at home and one far away, whose first dials leave at one moment."""

    def __init__(self, lab, family):
        lab.need_delay()
        self.lab = lab
        self.pairs = [(lab.fresh(family, lab.home).address, lab.fresh(family, lab.far).address)
                      for _ in range(PAIRS)]
        at = now_ns() + round(SECOND / 2 * min(TIME_SCALE, 4))
        self.here = lab.home("picky_nodes", pairs=self.pairs, port=PORT, at=at)
        self.there = lab.far("picky_nodes", pairs=[(far, home) for home, far in self.pairs], port=PORT,
                             at=at)

    def reports(self):
        return list(zip(self.lab.home("picky_report", nodes=self.here),
                        self.lab.far("picky_report", nodes=self.there)))

    def wait_linked(self, guard):
        """Until each pair has one session, the same at both ends."""
        def linked():
            return all(here["session"] and there["session"] for here, there in self.reports()) and \
                all(len(guard.peer(far)["links"]) == 1 for _home, far in self.pairs if guard.peer(far)) and \
                all(guard.peer(far) for _home, far in self.pairs)
        wait_for(linked, lambda: f"each pair has a session: {self.reports()}")


def guards(lab, ends, **options):
    """The guard at home, and with two guarded ends one far away."""
    guard = lab.own_guard(**options)
    if ends == 1:
        return [guard]
    remote = lab.new_guard(lab.far, guard.options)
    lab.at_end(remote.destroy)
    remote.start()
    return [guard, remote]


@each(*[f"{ends} guarded, {family}" for ends in (1, 2) for family in (IPV4, IPV6)])
@core("1 guarded, IPv4", "2 guarded, IPv4", "2 guarded, IPv6")
def end_with_a_link(lab, case):
    ends, family = int(case[0]), IPV6 if "IPv6" in case else IPV4
    all_guards = guards(lab, ends)
    watches = [guard.watch() for guard in all_guards]
    reports, grown = [], Counter()
    # Which end loses is a throw of the initial numbers: once more where the one guarded end has won them all.
    for _throw in range(6):
        nodes = Nodes(lab, family)
        nodes.wait_linked(all_guards[0])
        reports += nodes.reports()
        grown = sum((Counter(watch.grown()) for watch in watches), Counter())
        if grown["knock_goes_first"]:
            break
    dials = sum(report["dials"] for pair in reports for report in pair)
    refused = sum(report["refused"] for pair in reports for report in pair)
    lost = sum(report["lost"] for pair in reports for report in pair)
    print(f"# {ends} guarded: {len(reports)} links after {dials} dials; {refused} newcomers were refused, "
          f"{lost} sessions ended")
    assert grown["knock_goes_first"], grown
    # Not one failure, and no second try; but on a machine so busy that the daemon comes too late.
    assert "dial_failed" not in grown and "link_hung_up" not in grown, grown
    if ends == 2:
        assert 2 * PAIRS <= dials and refused < PAIRS, reports


@test
@core()
def are_waited_for_a_moment_and_no_longer(lab):
    """The daemon sleeps and ends no dial: the handshake waits 5 ms for it, and comes through."""
    guard, = guards(lab, 1)
    lab.need_delay()
    watch = guard.watch()
    guard.signal(signal.SIGSTOP)
    try:
        race = Race(lab, IPV4, rounds=20)
        race.wait_one_link_each()
    finally:
        guard.signal(signal.SIGCONT)
    race.wait_dials_over()
    watch.counted_at_least(knock_goes_first=1, knock_ack_waits=1)
    for _home, far in race.pairs:
        waits = guard.events.find(watch.since, address=far, cause="knock_ack_waits")
        if not waits:
            continue
        assert {event["verdict"] for event in waits} == {"hold"}, waits
        until_ns, = {event["until_ns"] for event in waits}
        first = min(event["time_ns"] for event in waits)
        assert until_ns - first == ACK_WAITS_NS, waits
        assert all(event["time_ns"] < until_ns for event in waits), waits
        up = watch.event(far, "link_inbound")
        assert up["time_ns"] >= until_ns, (up, waits)
        # Its dial is the daemon's to end, when it is awake.
        watch.event(far, "dial_superseded")
    assert "dial_failed" not in watch.grown(), watch.grown()


@each_family
@core("IPv4", "IPv6")
def let_in_what_has_waited_when_the_daemon_comes(lab, family):
    """It sleeps when the last ACK of their handshake comes, with data. Both are late by that, and not by the time after
    which their TCP repeats them."""
    guard, = guards(lab, 1)
    listener = listen_home(lab, family)
    # Here it repeats nothing.
    lab.left.ip(f"route add {family.home} dev eth0 rto_min 300s")
    lab.at_end(lab.left.ip, f"route del {family.home} dev eth0")
    # Their number may not be the greater one.
    for _throw in range(20):
        peer = lab.fresh(family)
        let_pass = peer.host.eat_syns_from(family.home)
        ours = dial(lab, peer, blocking=False)
        guard.signal(signal.SIGSTOP)
        try:
            before = guard.counters_in_kernel()
            knock = peer.host.start("dial", address=family.home, port=PORT, source=peer.address, text="hello")
            wait_for(lambda: (guard.counters_in_kernel() - before).keys()
                     & {"knock_goes_first", "knock_tie_lost", "knock_tie_won"}, "the knock has come")
            if "knock_goes_first" in guard.counters_in_kernel() - before:
                wait_for(lambda: peer.host.worker.finished(knock), "their end has sent")
            waited = (guard.counters_in_kernel() - before)["knock_ack_waits"]
        finally:
            guard.signal(signal.SIGCONT)
        knock = assert_passed(peer.host.finish(knock))
        accepted = lab.home("accept", fd=listener, timeout=PATIENCE)
        assert accepted and accepted["remote"][0].endswith(peer.address), accepted
        assert lab.home("receive", fd=accepted["fd"], timeout=PATIENCE) == "hello"
        let_pass()
        peer.host("close", fd=knock["fd"])
        for fd in (accepted["fd"], ours["fd"]):
            lab.home("close", fd=fd)
        if waited:
            return
    raise AssertionError("it has never waited")


@test
@core()
def are_not_waited_for_without_a_daemon(lab):
    """Nobody could end them: both sides hold what they have always held, and one link is left."""
    guard, = guards(lab, 1)
    lab.need_delay()
    guard.end(signal.SIGQUIT)
    race = Race(lab, IPV4, rounds=20)
    race.wait_one_link_each()
    guard.start()
    race.wait_dials_over()
    counters = guard.counters()
    assert counters.get("knock_tie_won") and counters.get("answer_tie_lost"), counters
    assert not {"knock_goes_first", "knock_ack_waits", "dial_failed"} & set(counters), counters


@test
def let_in_what_was_held_for_them_when_they_come_to_nothing(lab):
    """The knock goes second, and its sender repeats it a second later only: here never."""
    from test_floods import alone, flood
    guard = lab.own_guard()
    listen_home(lab)
    # On a busy machine the second may be over before.
    for _throw in range(20):
        peer = lab.void()
        watch = guard.watch()
        ours = lab.home("dial", address=peer.dial, port=PORT, blocking=False)
        assert ours["errno"] == "EINPROGRESS", ours
        # The smallest number there is: any dial of ours beats it.
        flood(lab, IPV4, alone(IPV4, peer.address), 1, sequence=0)
        held = watch.event(peer, "knock_tie_lost", verdict="hold")
        assert "knock_idle" not in watch.grown(), watch.grown()
        lab.home("close", fd=ours["fd"])
        over = watch.event(peer, "dial_unheard", cookie=ours["cookie"])
        if over["time_ns"] - held["time_ns"] < KNOCK_KEPT_NS / 2:
            watch.counted_at_least(knock_idle=1)
            return
    raise AssertionError("the machine is too busy to see it")


@test
def are_given_up_once_for_syns_that_become_no_link(lab):
    """Off-path: who sends SYNs in the peer's name costs one dial, until a link has come up."""
    from test_floods import alone, flood
    guard, peer = lab.own_guard(), lab.void()
    watch = guard.watch()
    listener = lab.home("listen", address="10.77.0.1", port=PORT)

    def pending_dial():
        """One that is out; what is pending by what was let in may keep it for hold_max."""
        def passes():
            result = lab.home("dial", address=peer.dial, port=PORT, blocking=False)
            return result["errno"] == "EINPROGRESS" and result
        return wait_for(passes, "our dial passes")

    def spoof():
        # The greatest number there is: it beats any dial of ours.
        flood(lab, IPV4, alone(IPV4, peer.address), 20, sequence=0xFFFFFFFF)
    first = pending_dial()
    spoof()
    outcome = lab.home("settle", fd=first["fd"], timeout=60)
    assert outcome and outcome["errno"] == "ECONNABORTED", outcome
    watch.event(peer, "dial_yielded", cookie=first["cookie"])
    second = pending_dial()
    before = watch.grown()
    spoof()
    wait_for(lambda: sum(watch.grown().get(name, 0) - before.get(name, 0) for name in
                         ("knock_tie_won", "knock_tie_lost", "knock_hold_spent", "knock_pending")) >= 20,
             lambda: f"all are seen: {watch.grown()}")
    assert watch.grown()["knock_goes_first"] == 1, watch.grown()
    assert lab.home("settle", fd=second["fd"], timeout=0.2) is None, "the second dial is given up too"
    assert listener
