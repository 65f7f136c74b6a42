# SPDX-License-Identifier: BSD-2-Clause
"""Redis Cluster: two links a pair by design (edge case 25), so max_links = 2."""

import functools

import claims
from redis import Redis
from registry import each, test
from study import GUARDED, NUMBERS, UNGUARDED, Study

# A node looks after its links ten times a second.
SPREAD_S = 0.1
# As an operator would begin, with the default of one link; links count as lasting sooner.
OBSERVE = "mode = observe"
FIRST_LOOK = {"mode": "observe", "max_links": 1, "min_uptime": "1s"}


@functools.lru_cache
def study(lab):
    return lab.study(Study(lab, Redis(), {OBSERVE: FIRST_LOOK}))


@test
def cold_start_unguarded_brings_every_session_up(lab):
    """The control experiment."""
    outcome = study(lab).step("cold start")[UNGUARDED]
    claims.one_link_each(outcome)
    claims.over_a_round_trip(outcome)


@each(*GUARDED)
def cold_start_takes_two_links_each(lab, variant):
    claims.cold_start_takes_its_links_only(study(lab), variant)


@each(UNGUARDED, *GUARDED)
def crossing_dials_take_two_links_each(lab, variant):
    claims.one_link_each(study(lab).step("crossing")[variant])


@each(*GUARDED)
def observer_proposes_two_links(lab, variant):
    outcome = study(lab).step("crossing")[f"{variant}, {OBSERVE}"]
    claims.one_link_each(outcome)
    proposal = {"kind": "several_links", "max_links": 2, "shown": len(NUMBERS),
                "seen": len(NUMBERS)}
    assert outcome.habits and all(habit == proposal for habit in outcome.habits), outcome.habits


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
