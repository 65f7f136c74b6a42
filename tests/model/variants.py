# SPDX-License-Identifier: BSD-2-Clause
"""The rows of run.py: variants of the model, what lies just outside of what they promise, mistakes.

Settings are those of words.h; what a row does not set is as it is there. Owns the table and runs
nothing. A search here takes seconds, and less than a GiB.
"""

import collections

HOLDS = "holds"      # searched to the end: there is no counterexample
EDGE = "edge"        # a counterexample is known
MISTAKE = "mistake"  # in `file`, `old` becomes `new`: a counterexample must be found

Row = collections.namedtuple("Row", "kind name settings file old new")

ROWS = []

# What no variant decides: see "rules left out" in two_hosts.pml.
NOT_MET = {
    "dial_again", "dial_exempt", "dial_unheld", "dial_recycled", "dial_not_due", "knock_exempt",
}


def holds(name, **settings):
    ROWS.append(Row(HOLDS, name, settings, None, None, None))


def edge(name, **settings):
    ROWS.append(Row(EDGE, name, settings, None, None, None))


def mistake(name, variant, old, new, file="connguard/rules.h"):
    """With the settings of a variant that holds without the mistake."""
    settings = [row.settings for row in ROWS if row.kind == HOLDS and row.name == variant]
    assert len(settings) == 1, variant
    ROWS.append(Row(MISTAKE, name, settings[0], file, old, new))


# Dialing for ever: at any time when there is no link, and a second after the last one at the latest.
FOREVER = {"DIALS_0": "UNBOUNDED", "DIALS_1": "UNBOUNDED", "PATIENCE": "SECOND"}
ONE = {"GUARDED_1": 0}
NO_DAEMON = {"DAEMON_0": 0, "DAEMON_1": 0}
ANY_SURPLUS = {"SURPLUS_AT_GUARDED": "ANY", "SURPLUS_MAY_STAY": 1}

# ---- crossing dials --------------------------------------------------------------------------------

# Ticks of an eighth of a second where those of a quarter are too coarse for the round trip.
holds("both guarded, round trips to 0.5 s", SECOND=8, DELAY=2)
holds("both guarded, reordering", SECOND=8, DELAY=2, REORDERING=1)
holds("both guarded, dialing for ever", SECOND=8, SETTLES=32, **FOREVER)
holds("both guarded, round trips of 1.5 to 2 s", DELAY=4, DELAY_LEAST=3, SURPLUS_AT_GUARDED="ANY",
      SETTLES=40)
holds("both guarded, no daemon", KEEPALIVE=12, SETTLES=20, **NO_DAEMON, **FOREVER)
holds("both guarded, daemons a second late", DAEMON_LATE=4, SETTLES=20, **FOREVER)
holds("both guarded, equal numbers", NUMBERS=1, DISTINCT=0, SETTLES=24, **ANY_SURPLUS)
holds("both guarded, two closings of newcomers while dialing", CLOSINGS=2, SETTLES=32, **FOREVER)
holds("both guarded, max_links 2", LINKS=2, SECOND=8, SETTLES=40)
holds("one guarded, round trips to 1 s", DELAY=2, **ONE)
holds("one guarded, dialing for ever", SETTLES=20, **ONE, **FOREVER)
holds("one guarded, equal numbers", NUMBERS=1, DISTINCT=0, **ONE)
holds("one guarded, the other stacks two dials", DIALS_1=2, STACKS=1, **ONE)
holds("one guarded, the other stacks three dials, no delay", DIALS_1=3, STACKS=1, DELAY=0, CONNECTIONS=4,
      NUMBERS=4, **ONE)
holds("one guarded, the other closes newcomers while dialing", CLOSINGS="UNBOUNDED", SETTLES=32, **ONE,
      **FOREVER)
holds("one guarded, reordering", REORDERING=1, **ONE)
holds("one guarded, reordering, a closing", REORDERING=1, CLOSINGS=1, STEADY=0, SETTLES=40, **ONE, **FOREVER)
holds("tie_break none, both guarded", TIE_OPEN=1, **ANY_SURPLUS)
holds("tie_break none, one guarded", TIE_OPEN=1, **ONE, **ANY_SURPLUS)

edge("none guarded", GUARDED_0=0, GUARDED_1=0, SURPLUS_AT_UNGUARDED="NEVER")
edge("tie_break none, never two", TIE_OPEN=1)
edge("both guarded, equal numbers, never two", NUMBERS=1, DISTINCT=0, SETTLES=24)
edge("both guarded, round trips of 1.5 to 2 s, never two", DELAY=4, DELAY_LEAST=3, SETTLES=40)
# Each time the numbers are such that the newcomer comes in, and both ends wait for equally long.
edge("both guarded, closings without end", CLOSINGS="UNBOUNDED", SETTLES=32, **FOREVER)
# One takes a silent link for the loser, or the weakest of more links than the other one sees crossing.
edge("max_links 2, of three links the ends destroy different ones", LINKS=2, DELAY_LEAST=1, DIALS_0=2,
     DIALS_1=2, PATIENCE=4, SURPLUS_AT_GUARDED="ANY", SETTLES=40)

# ---- segments that do not arrive --------------------------------------------------------------------

holds("both guarded, the SYNs of one are eaten", EATEN=1, SETTLES=16)
holds("both guarded, the SYNs of one are eaten, linear timeouts", EATEN=1, LINEAR=1)
holds("one guarded, its SYNs are eaten", EATEN=1, SETTLES=16, **ONE)
holds("both guarded, the cable was out", SECOND=8, CABLE_OUT=28, SETTLES=64)
holds("both guarded, the cable was out, linear timeouts", SECOND=8, CABLE_OUT=28, LINEAR=1, SETTLES=40)
holds("both guarded, the cable was out, 0.5 s, daemons late", CABLE_OUT=14, DAEMON_LATE=4,
      SURPLUS_AT_GUARDED=6, SETTLES=40)
holds("one guarded, the cable was out", SECOND=8, CABLE_OUT=28, SETTLES=64, **ONE)
holds("both guarded, one loss, links talk", SECOND=8, LOSSES=1, TALKS=8, SETTLES=80, **FOREVER)
holds("both guarded, one loss, links talk, reordering", SECOND=8, REORDERING=1, LOSSES=1, NUMBERS=2, TALKS=8,
      SETTLES=64)
holds("both guarded, two losses, links talk", LOSSES=2, NUMBERS=2, TALKS=4, SURPLUS_AT_GUARDED=4, SETTLES=32)
holds("both guarded, two losses, links are silent, no delay", LOSSES=2, DELAY=0, KEEPALIVE=12, SETTLES=48,
      SURPLUS_AT_GUARDED=4, **FOREVER)
holds("one guarded, one loss, links talk", LOSSES=1, TALKS=4, NUMBERS=2, SURPLUS_AT_GUARDED=2, SETTLES=32, **ONE)
holds("one guarded, one loss, links talk, a closing, the daemon late", LOSSES=1, TALKS=4, NUMBERS=2, CLOSINGS=1,
      DAEMON_LATE=2, SURPLUS_AT_GUARDED=4, STEADY=0, SETTLES=40, **ONE, **FOREVER)
holds("one guarded, one loss, links talk, no delay", LOSSES=1, DELAY=0, TALKS=4, SURPLUS_AT_GUARDED=2,
      SETTLES=40, **ONE, **FOREVER)

edge("both guarded, the cable was out, 0.5 s, never two", CABLE_OUT=14, SETTLES=40)
edge("both guarded, three losses, links are silent", LOSSES=3, DELAY=0, KEEPALIVE=12, SETTLES=48, **FOREVER)

# ---- spoofed SYNs -----------------------------------------------------------------------------------

holds("both guarded, spoofed SYNs without end, no delay", SPOOFED="UNBOUNDED", DELAY=0, NUMBERS=2,
      PATIENCE=4, SURPLUS_AT_GUARDED=1, SETTLES=32)
holds("one guarded, spoofed SYNs without end", SPOOFED="UNBOUNDED", NUMBERS=2, PATIENCE=4,
      SURPLUS_AT_GUARDED=2, SETTLES=32, **ONE)

edge("one guarded, spoofed SYNs without end, in 6 s", SPOOFED="UNBOUNDED", NUMBERS=2, PATIENCE=4,
     SURPLUS_AT_GUARDED=2, SETTLES=24, **ONE)

# ---- crashes ----------------------------------------------------------------------------------------

holds("both guarded, one crashes, links talk", CRASHES=1, TALKS=4, SURPLUS_AT_GUARDED=2, SETTLES=48,
      **FOREVER)
holds("both guarded, one crashes, links are silent, no delay", CRASHES=1, DELAY=0, SURPLUS_AT_GUARDED=1,
      SETTLES=48, **FOREVER)
holds("one guarded, the other crashes, links are silent, no delay", CRASHES=1, DELAY=0,
      SURPLUS_AT_GUARDED=1, SETTLES=48, **ONE, **FOREVER)
holds("one crashes, no daemon, liveness, no delay", CRASHES=1, DELAY=0, KEEPALIVE=12, DEAD_ENDS_COUNT=0,
      SETTLES=56, **ANY_SURPLUS, **NO_DAEMON, **FOREVER)
holds("one crashes, no daemon, no liveness: deny_max, no delay", CRASHES=1, DELAY=0, DUPLICATES=0,
      DEAD_ENDS_COUNT=0, SETTLES=56, **ANY_SURPLUS, **NO_DAEMON, **FOREVER)

edge("both guarded, one crashes, never two", CRASHES=1, SETTLES=48, **FOREVER)
# Nothing asks whether a silent link lives, and the application dials beside it for deny_max.
edge("no daemon, no liveness, a silent link, dials beside it", SETTLES=20, **NO_DAEMON, **FOREVER)

# ---- without a bound in time ------------------------------------------------------------------------

holds("in the end: both guarded", EVENTUALLY=1, SETTLES=0, **FOREVER)
holds("in the end: one guarded", EVENTUALLY=1, SETTLES=0, **ONE, **FOREVER)
holds("in the end: one guarded, one loss, no delay", EVENTUALLY=1, SETTLES=0, LOSSES=1, DELAY=0, TALKS=4,
      SURPLUS_AT_GUARDED=2, **ONE, **FOREVER)
holds("in the end: both guarded, one crashes, no delay", EVENTUALLY=1, SETTLES=0, CRASHES=1, DELAY=0, DOWN=2,
      SURPLUS_AT_GUARDED=1, **FOREVER)

# ---- mistakes ---------------------------------------------------------------------------------------

mistake("both ends hold for equally long", "both guarded, the cable was out",
         "policy->hold_max_ns / HOLD_SHORTENED);",
         "HOLD_PERIODS * policy->hold_max_ns);")
mistake("a dial past its hold does not give way", "one guarded, the cable was out",
         "if (decision.cause != CAUSE_knock_tie_won && decision.cause != CAUSE_knock_hold_spent)",
         "if (decision.cause != CAUSE_knock_tie_won)")
mistake("the bound on giving way begins with connect()", "both guarded, the cable was out",
         "\tclaim->yields_until_ns = knock->now + (",
         "\tclaim->yields_until_ns = claim->since_ns + (")
mistake("a hold has no end", "both guarded, the SYNs of one are eaten",
         "} else if (claim.since_ns + policy->hold_max_ns <= knock->now) {",
         "} else if (0) {")
mistake("a retransmitted SYN makes a claim younger", "both guarded, the SYNs of one are eaten, linear timeouts",
         "\t/* Its retransmissions come by here too: they do not make the claim younger. */",
         "\tif (slot)\n\t\tslot->since_ns = now;")
mistake("a dial that lost the tie is answered", "both guarded, reordering",
         "} else if (claim && theirs->until_ns > now &&",
         "} else if (0 && claim && theirs->until_ns > now &&")
mistake("a dial is answered beside a link", "one guarded, round trips to 1 s",
         "\tif (census.links >= peer_limit(peer, policy)) {\n"
         "\t\tdecision.verdict = VERDICT_HOLD;\n"
         "\t\tdecision.cause = CAUSE_answer_linked;",
         "\tif (0) {\n"
         "\t\tdecision.verdict = VERDICT_HOLD;\n"
         "\t\tdecision.cause = CAUSE_answer_linked;")
mistake("a dial passes beside another dial", "both guarded, dialing for ever",
         "\trefused = (linked | dialing | backoff | not_due)",
         "\trefused = (linked | backoff | not_due)")
mistake("a dial passes beside a link", "both guarded, dialing for ever",
         "\trefused = (linked | dialing | backoff | not_due)",
         "\trefused = ((dialing & (1 ^ linked)) | backoff | not_due)")
mistake("a knock passes beside a link", "one guarded, the other stacks two dials",
         "\tif (census.links >= limit) {\n"
         "\t\tdecision.other_cookie = census.link_cookie;",
         "\tif (0) {\n"
         "\t\tdecision.other_cookie = census.link_cookie;")
mistake("two handshakes at a time pass", "one guarded, the other stacks two dials",
         "if (!known && free_places) {",
         "if (0) {")
mistake("a loser clears the winner's slot", "one guarded, dialing for ever",
         "\tslot_free(slot);\n"
         "\tpeer->last_active_ns = now;\n"
         "\tdecision.attempts = peer->attempts;",
         "\tfor (int i = 0; i < PEER_SLOTS; i++)\n"
         "\t\tslot_free(&peer->slots[i]);\n"
         "\tpeer->last_active_ns = now;\n"
         "\tdecision.attempts = peer->attempts;")
mistake("a silent link refuses, and nobody asks for it",
         "both guarded, one crashes, links are silent, no delay",
         "if (census.lively >= limit) {",
         "if (1) {")
mistake("a silent link refuses for ever", "one crashes, no daemon, no liveness: deny_max, no delay",
         "\t       (1 ^ before(now, slot->doubted_ns + policy->deny_max_ns));",
         "\t       0;")
mistake("a sign of life changes nothing", "both guarded, no daemon",
         "\tif (!slot || slot->kind != SLOT_LINK || slot->heard_ns >= heard_ns)\n"
         "\t\treturn;",
         "\treturn;")
mistake("of two equal numbers each end dooms its newcomer", "both guarded, equal numbers",
         "if (crossed && (tied || policy->tie_break == TIE_BREAK_NONE)) {",
         "if (crossed && policy->tie_break == TIE_BREAK_NONE) {")
mistake("of two crossing links each end dooms its newcomer", "both guarded, round trips of 1.5 to 2 s",
         "\t\tloser = pick(weaker, other->cookie, loser);",
         "\t\t;")
mistake("the daemon destroys without looking for another link",
         "one guarded, one loss, links talk, a closing, the daemon late",
         "\t\tif (slot->kind == SLOT_LINK && slot->cookie != connection + 1 &&\n"
         "\t\t    !(slot->flags & SLOT_DOOMED) &&\n"
         "\t\t    now.connections[slot->cookie - 1].state[host] == END_ESTABLISHED)\n"
         "\t\t\treturn 1;",
         "\t\treturn 1;", file="world.h")
mistake("the daemon does not spare a last link that is doomed",
         "one guarded, one loss, links talk, a closing, the daemon late",
         "\tASK(model_link_spare(GUARD, now.it));",
         "\tc_code { now.cause = CAUSE_none; };", file="two_hosts.pml")
mistake("the daemon takes two unanswered questions for proof",
         "both guarded, two losses, links are silent, no delay",
         "#define PROOF 3",
         "#define PROOF 2", file="words.h")
