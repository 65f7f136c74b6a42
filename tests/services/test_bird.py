# SPDX-License-Identifier: BSD-2-Clause
"""BIRD, both ends active: BGP has a collision rule of its own, and sessions must outlive trouble."""

import functools

import claims
from bird import Bird
from registry import each, test
from study import BOTH, GUARDED, NUMBERS, ONE, UNGUARDED, Study

# BIRD draws its connect delay between 0.75 and 1 s anew for each attempt.
SPREAD_S = 0.25
NO_TIE_BREAK = "tie_break = none"
OBSERVE = "mode = observe"


@functools.lru_cache
def study(lab):
    return lab.study(Study(lab, Bird(), {NO_TIE_BREAK: {"tie_break": "none"},
                                         OBSERVE: {"mode": "observe"}}))


@test
def cold_start_unguarded_brings_every_session_up(lab):
    """The control experiment."""
    outcome = study(lab).step("cold start")[UNGUARDED]
    claims.all_up(outcome)
    claims.over_a_round_trip(outcome)


@each(*GUARDED)
def cold_start_takes_one_link_each(lab, variant):
    claims.cold_start_takes_its_links_only(study(lab), variant)


@test
def crossing_dials_unguarded_take_two_links_each(lab):
    """The control experiment: they do cross, and BGP's rule ends one of each two."""
    outcome = study(lab).step("crossing")[UNGUARDED]
    claims.all_up(outcome)
    assert all(len(links) == 2 for links in outcome.links.values()), outcome.explain()
    assert all(len(outcome.standing(number)) == 1 for number in NUMBERS), outcome.explain()


@each(*GUARDED)
def crossing_dials_take_one_link_each(lab, variant):
    claims.one_link_each(study(lab).step("crossing")[variant])


@each(ONE, BOTH)
def crossing_dials_left_to_bgp_take_two_links_each(lab, variant):
    """tie_break = none does what it says, and it is BGP then that ends one of each two."""
    outcome = study(lab).step("crossing")[f"{variant}, {NO_TIE_BREAK}"]
    claims.all_up(outcome)
    assert all(len(links) == 2 for links in outcome.links.values()), outcome.explain()
    assert all(len(outcome.standing(number)) == 1 for number in NUMBERS), outcome.explain()


@each(*GUARDED)
def crossing_dials_are_no_habit_to_an_observer(lab, variant):
    outcome = study(lab).step("crossing")[f"{variant}, {OBSERVE}"]
    claims.all_up(outcome)
    assert all(len(links) == 2 for links in outcome.links.values()), outcome.explain()
    assert outcome.habits and not any(outcome.habits), outcome.habits


@each(*GUARDED)
def reboot_costs_at_most_a_second(lab, variant):
    claims.reboot_costs_at_most_a_second(study(lab), variant, SPREAD_S)


@each(*GUARDED)
def long_reboot_costs_at_most_a_second(lab, variant):
    claims.long_reboot_costs_at_most_a_second(study(lab), variant, SPREAD_S)


@each(*GUARDED)
def cut_wire_costs_at_most_the_backoff(lab, variant):
    claims.cut_wire_costs_at_most_the_backoff(study(lab), variant, SPREAD_S)


@test
def witness_saw_every_frame(lab):
    claims.witness_missed_nothing(study(lab))
