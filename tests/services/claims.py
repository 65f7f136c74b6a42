# SPDX-License-Identifier: BSD-2-Clause
"""What a guard promises a real service, as assertions on the outcomes of a study."""

import truth
from harness import DELAY_MS, wait_for
from study import BACKOFF_INITIAL_S, NUMBERS, UNGUARDED

# How much longer a session may take to come back after a crash and a reboot: a second, which is when
# TCP repeats the SYN of a knock that was held (RFC 6298), and the way of that SYN.
REBOOT_SLOWER_S = 1 + 2 * DELAY_MS / 1000
# The same after a cut: the step of the backoff, which is the first one.
CUT_SLOWER_S = BACKOFF_INITIAL_S
# A cold start has no bound but this: one link within three seconds (edge case 14).
COLD_SLOWER_S = 3.0


def all_up(outcome):
    late = [number for number in NUMBERS if number not in outcome.seconds]
    assert not late, f"no session in time: {outcome.explain()}"


def one_link_each(outcome):
    """Every session up, by as many links as the service wants; not one more for any time."""
    all_up(outcome)
    wanted = outcome.lane.service.links
    wrong = [number for number in NUMBERS if len(outcome.links[number]) != wanted]
    assert not wrong, f"{wanted} link(s) a pair; pairs {wrong} differ:\n{outcome.explain()}"
    assert not outcome.short_lived(), f"links that did not stay:\n{outcome.explain()}"


def over_a_round_trip(outcome):
    """The wire is as long as it should be: no handshake takes less than the round trip."""
    for links in outcome.links.values():
        for link in links:
            assert link.established - link.began >= 0.9 * 2 * DELAY_MS * 1_000_000, link


def no_slower_than(outcome, unguarded, seconds, spread):
    """The sessions are up at most so much later than unguarded ones, the median and the worst of
    each kind. `spread`: how far apart the service's own timers put equal cases."""
    all_up(outcome)
    for kind, numbers in outcome.lane.service.kinds().items():
        for name, here, there in (
                ("median", outcome.median(numbers), unguarded.median(numbers)),
                ("worst", outcome.worst(numbers), unguarded.worst(numbers))):
            assert here <= there + seconds + spread, (
                f"{outcome.lane}{', ' + kind if kind else ''}: the {name} session is up after "
                f"{here:.2f} s, unguarded {there:.2f} s: {here - there:.2f} s later, "
                f"at most {seconds + spread:.2f} s are allowed\n"
                + "\n".join(outcome.story(number) for number in numbers
                            if outcome.seconds[number] > there + seconds + spread))


def touched_no_slower_than(outcome, unguarded, seconds, spread):
    """The same of each session of which a guard has refused or held anything. (An unguarded one waits
    for a repeated SYN of the end that stayed, a matter of luck. So does one that no guard touched.)"""
    all_up(outcome)
    for kind, numbers in outcome.lane.service.kinds().items():
        worst = unguarded.worst(numbers)
        for number in numbers:
            late = outcome.seconds[number] - worst
            assert late <= seconds + spread or not outcome.touched(number), (
                f"{outcome.lane}, pair {number}: the session is up after "
                f"{outcome.seconds[number]:.2f} s, the worst unguarded one{' ' + kind if kind else ''} "
                f"after {worst:.2f} s: {late:.2f} s later, at most {seconds + spread:.2f} s are "
                f"allowed\n{outcome.story(number)}")


def settled(outcome):
    """At the end of a step: the links that the service wants and no other, at both ends, to the
    witness, to the kernel and to the guards; and nothing that a guard had to repair."""
    lane = outcome.lane
    wanted = lane.service.links
    for number in NUMBERS:
        standing = outcome.standing(number)
        older = [link for link in lane.links(number)
                 if link.ended is None and link.established < outcome.since]
        assert len(standing + older) >= wanted, f"pair {number}: {standing} {older}"
    for host, other in ((lane.near, 2), (lane.far, 1)):
        def established():
            return len(lane.sockets(host, "state", "established", "(", "sport", "=",
                                    f":{lane.service.port}", "or", "dport", "=",
                                    f":{lane.service.port}", ")"))
        wait_for(lambda: established() == wanted * len(NUMBERS),
                 lambda: f"{host.namespace} has {wanted} sockets a pair: {established()}", 20)
        guard = lane.guards.get(host.name)
        if guard:
            truth.settle(guard)
            whole(guard)


def reboot_costs_at_most_a_second(study, variant, spread):
    outcomes = study.step("reboot")
    no_slower_than(outcomes[variant], outcomes[UNGUARDED], REBOOT_SLOWER_S, spread)
    settled(outcomes[variant])


def long_reboot_costs_at_most_a_second(study, variant, spread):
    outcomes = study.step("long reboot")
    touched_no_slower_than(outcomes[variant], outcomes[UNGUARDED], REBOOT_SLOWER_S, spread)
    settled(outcomes[variant])


def cut_wire_costs_at_most_the_backoff(study, variant, spread):
    outcomes = study.step("cut")
    no_slower_than(outcomes[variant], outcomes[UNGUARDED], CUT_SLOWER_S, spread)
    settled(outcomes[variant])


def cold_start_takes_its_links_only(study, variant):
    outcomes = study.step("cold start")
    one_link_each(outcomes[variant])
    no_slower_than(outcomes[variant], outcomes[UNGUARDED], COLD_SLOWER_S, 0)
    accounts_agree(outcomes[variant])
    settled(outcomes[variant])


def whole(guard):
    """Nothing is missing, nothing was lost or left out, and nothing had to be repaired."""
    status = guard.status()
    assert status["healthy"] and not status["events_lost"], status
    for cause in ("link_adopted", "link_released", "link_unheld", "dial_unheld"):
        assert cause not in status["counters"]["enforced"], status["counters"]


def witness_missed_nothing(study):
    for lane in study.lanes:
        dropped = lane.tap.dropped()
        assert not dropped, f"{lane}: the witness missed {dropped} frames"


def accounts_agree(outcome):
    """The guards told of the same links that the witness saw."""
    lane = outcome.lane
    for host, other in ((lane.near, 2), (lane.far, 1)):
        if host.name not in lane.guards:
            continue
        for number in NUMBERS:
            told = [event for event in lane.events(host, number, other, outcome.since)
                    if event["cause"] in ("link_outbound", "link_inbound", "link_duplicate",
                                          "link_crossed")]
            assert len(told) == len(outcome.links[number]), (
                f"{host.namespace}, pair {number}: the guard told of {told}, "
                f"the witness of {outcome.links[number]}")
