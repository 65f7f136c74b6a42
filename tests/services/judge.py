# SPDX-License-Identifier: BSD-2-Clause
"""What a guard promises an application, as complaints about the outcomes of a phase.

Nothing is compared with a clock on the wall: whatever slows this machine down slows the unguarded lane as
well, which is in the same run.
"""

from harness import SECOND
from lanes import DELAY_MS
from phases import UNGUARDED
from study import NEVER, RECOVERED_S

# A session may be up this much later than the last unguarded one: when TCP repeats one SYN (RFC 6298), and
# the way of that SYN. The measurement, of several runs, has a tighter bar.
TOLERANCE_S = 1 + 2 * DELAY_MS / 1000
BAR_S = 0.5
# What a guard tells when a link comes up.
OF_LINKS = ("link_outbound", "link_inbound", "link_duplicate", "link_crossed")
# As much again where a guard holds the SYN of a peer that has crashed, while it asks for the old link.
CRASHED_S = 1.0


def allowed(application, phase, tolerance):
    return tolerance + (CRASHED_S if phase.crash else 0) + application.spread(phase)


def complaints(application, phase, outcome, unguarded):
    """In words, what is wrong. `unguarded`: the outcome of the lane beside it, or this very one."""
    if phase.wrong:
        return getattr(application, phase.wrong)(outcome)
    if outcome.lane.variant.name == UNGUARDED:
        return never(outcome) + over_too_soon(outcome)
    found = []
    for kind, numbers in application.kinds().items():
        found += slower(application, phase, outcome, unguarded, kind, numbers)
    # Where nobody is guarded (run.py --control) there are duplicates.
    if phase.links and outcome.lane.variant.guarded:
        found += wrong_links(application, outcome, unguarded)
        found += accounts(outcome)
    if phase.kept and unguarded.kept == unguarded.before and outcome.kept != outcome.before:
        lost = outcome.before.keys() - outcome.kept.keys()
        found.append(f"{len(lost)} of {len(outcome.before)} links did not live on, every unguarded one did: "
                     + "; ".join(" - ".join(sorted(link)) for link in lost))
        found += [outcome.story(number) for number in outcome.links if outcome.links[number]]
    return found


def never(outcome):
    return [f"no session within {RECOVERED_S:g} s; {outcome.story(number)}"
            for number in outcome.lane.application.numbers if number not in outcome.seconds]


def over_too_soon(outcome):
    """The wire is as long as it should be: no handshake takes less than the round trip."""
    return [f"a handshake takes less than a round trip: {link}"
            for links in outcome.links.values() for link in links
            if link.crossed is None and link.established - link.began < 0.9 * 2 * DELAY_MS / 1000 * SECOND]


def slower(application, phase, outcome, unguarded, kind, numbers):
    here, there = outcome.worst(numbers), unguarded.worst(numbers)
    more = allowed(application, phase, TOLERANCE_S)
    if phase.outlived or (phase.kept and outcome.kept == outcome.before):
        # All live on, and are heard again, or hear that the other end knows them no more, when TCP next repeats
        # what was lost. It waits twice as long each time, for as long as the trouble has lasted in the end.
        more += phase.arguments[0]
    bound = there + more
    if here <= bound:
        return []
    late = [number for number in numbers if outcome.seconds.get(number, NEVER) > bound]
    when = f"not up within {RECOVERED_S:g} s" if here == NEVER else f"up after {here:.2f} s"
    return [f"{kind + ': ' if kind else ''}the last session is {when}, unguarded after {there:.2f} s; at most "
            f"{more:.2f} s more are allowed",
            *(outcome.story(number) for number in late)]


def short_lived(outcome, number):
    return sum(link.ended is not None for link in outcome.links[number])


def wrong_links(application, outcome, unguarded):
    """One link each and none short-lived; but what an application does unguarded in this very run, such as
    to end a link by a rule of its own, it may do guarded."""
    usual = max(short_lived(unguarded, number) for number in application.numbers)
    found = []
    for number in application.numbers:
        wrong = application.wrong_links(outcome, number)
        standing = len(outcome.links[number]) - short_lived(outcome, number)
        if wrong and not (standing == application.links and short_lived(outcome, number) <= usual):
            found.append(f"{wrong}; {outcome.story(number)}")
    return found


def accounts(outcome):
    """Do the guards tell of the same links as the witness?"""
    found = []
    for number, links in outcome.links.items():
        for role in outcome.lane.variant.guarded:
            told = [cause for _moment, host, _verdict, cause in outcome.told[number]
                    if host == role and cause in OF_LINKS]
            ends = [host.role for host in outcome.lane.hosts]
            if role in ends and len(ends) == 2 and len(told) != len(links):
                found.append(f"the guard of {role} tells of {len(told)} link(s), the witness of {len(links)}; "
                             + outcome.story(number))
    return found
