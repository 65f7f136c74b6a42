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
    "claim_closed", "claim_expired", "link_adopted", "link_surplus", "link_unheld", "link_released", "link_cut",
    "link_unguarded", "link_stranded",
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
holds("both guarded, round trips of 1.5 to 2 s", DELAY=4, DELAY_LEAST=3, SETTLES=40)
holds("both guarded, no daemon", KEEPALIVE=12, SETTLES=20, **NO_DAEMON, **FOREVER)
holds("both guarded, daemons a second late", DAEMON_LATE=4, SETTLES=20, **FOREVER)
# Both are let in, and the last ACK of the one waits for the dial of the other: it comes again when a timer is out.
holds("both guarded, equal numbers", NUMBERS=1, DISTINCT=0, SETTLES=40, **ANY_SURPLUS)
holds("both guarded, one refuses newcomers while it dials", SECOND=8, PROMPT=1, CLOSINGS="UNBOUNDED", SETTLES=64, **FOREVER)
holds("both guarded, both refuse newcomers while they dial", SECOND=8, CLOSES_0=1, PROMPT=1, CLOSINGS="UNBOUNDED", SETTLES=64,
      **FOREVER)
holds("one guarded, that one refuses newcomers while it dials", SECOND=8, CLOSES_0=1, CLOSES_1=0, PROMPT=1, CLOSINGS="UNBOUNDED", SETTLES=64,
      **ONE, **FOREVER)
holds("one guarded, both refuse newcomers while they dial", SECOND=8, CLOSES_0=1, PROMPT=1, CLOSINGS="UNBOUNDED",
      SETTLES=64, **ONE, **FOREVER)
holds("both guarded, max_links 2", LINKS=2, SECOND=8, SETTLES=40)
holds("both guarded, max_links 2, two dials each", LINKS=2, DELAY_LEAST=1, DIALS_0=2, DIALS_1=2, PATIENCE=4,
      SURPLUS_AT_GUARDED="ANY", SETTLES=40)
holds("one guarded, round trips to 1 s", DELAY=2, SETTLES=20, **ONE)
holds("one guarded, dialing for ever", SETTLES=20, **ONE, **FOREVER)
holds("one guarded, equal numbers", NUMBERS=1, DISTINCT=0, **ONE)
holds("one guarded, the other stacks two dials", DIALS_1=2, STACKS=1, **ONE)
holds("one guarded, the other stacks three dials, no delay", PROMPT=1, DIALS_1=3, STACKS=1, DELAY=0, CONNECTIONS=4,
      NUMBERS=4, **ONE)
holds("one guarded, the other closes newcomers while dialing", CLOSINGS="UNBOUNDED", SETTLES=32, **ONE,
      **FOREVER)
holds("one guarded, reordering", REORDERING=1, **ONE)
holds("one guarded, reordering, a closing", REORDERING=1, CLOSINGS=1, STEADY=0, SETTLES=40, **ONE, **FOREVER)
holds("tie_break none, both guarded", TIE_OPEN=1, **ANY_SURPLUS)
holds("tie_break none, one guarded", TIE_OPEN=1, **ONE, **ANY_SURPLUS)

edge("none guarded", GUARDED_0=0, GUARDED_1=0, SURPLUS_AT_UNGUARDED="NEVER")
edge("tie_break none, never two", TIE_OPEN=1)
edge("both guarded, equal numbers, never two", NUMBERS=1, DISTINCT=0, SETTLES=40)
edge("none guarded, both refuse newcomers while they dial", GUARDED_0=0, SECOND=8, CLOSES_0=1, PROMPT=1, CLOSINGS="UNBOUNDED",
     SETTLES=64, **ONE, **FOREVER)
# A knock that comes between connect() and its SYN, each time: no dial is out, and so none is given up.
edge("both guarded, one refuses newcomers while it dials, a round trip within connect()", SECOND=8, CLOSINGS="UNBOUNDED",
     SETTLES=64, **FOREVER)
# The last ACK that waits comes again after 1.5 s, when the time is over for which no dial begins.
edge("both guarded, one refuses newcomers while it dials, round trips to 0.5 s", PROMPT=1, CLOSINGS="UNBOUNDED",
     SETTLES=32, **FOREVER)

holds("both guarded, nobody ends the dial that is given up", GIVE_UPS_LOST=1)
holds("both guarded, nobody ends the dial that is given up, round trips of 1.5 to 2 s", DELAY=4, DELAY_LEAST=3,
      GIVE_UPS_LOST=1, SURPLUS_AT_GUARDED="ANY", SETTLES=40)
holds("both guarded, both refuse newcomers while they dial, one crashes", CLOSES_0=1, PROMPT=1, CLOSINGS="UNBOUNDED",
      DELAY=0, DUPLICATES=0, NUMBERS=2, CRASHES=1, SURPLUS_AT_GUARDED=1, SETTLES=24, **FOREVER)
holds("both guarded, both refuse newcomers while they dial, daemons 0.5 s late", SECOND=8, DAEMON_LATE=4, CLOSES_0=1, PROMPT=1,
      CLOSINGS="UNBOUNDED", SETTLES=64, **FOREVER)
holds("both guarded, both refuse newcomers while they dial, one loss, links talk", SECOND=8, CLOSES_0=1, PROMPT=1,
      DUPLICATES=0, NUMBERS=2, CLOSINGS="UNBOUNDED", LOSSES=1, TALKS=8, SURPLUS_AT_GUARDED=4, SETTLES=96, **FOREVER)
holds("both guarded, quiet from the first second, dialing for ever", SUSPECT_AFTER="SECOND", SETTLES=24, **FOREVER)

# ---- segments that do not arrive --------------------------------------------------------------------

# The last ACK waits for the end of the dial that was eaten, and comes again a second later.
holds("both guarded, the SYNs of one are eaten", EATEN=1, SETTLES=20)
holds("both guarded, the SYNs of one are eaten, linear timeouts", EATEN=1, LINEAR=1, SETTLES=16)
holds("one guarded, its SYNs are eaten", EATEN=1, SETTLES=20, **ONE)
holds("both guarded, the cable was out", SECOND=8, CABLE_OUT=28, SETTLES=64)
holds("both guarded, the cable was out, linear timeouts", SECOND=8, CABLE_OUT=28, LINEAR=1, SETTLES=40)
holds("both guarded, the cable was out, 0.5 s, daemons late", CABLE_OUT=14, DAEMON_LATE=4, SETTLES=40)
holds("both guarded, the cable was out, no daemon", SECOND=8, CABLE_OUT=28, KEEPALIVE=24, SETTLES=64, **NO_DAEMON)
holds("one guarded, the cable was out", SECOND=8, CABLE_OUT=28, SETTLES=64, **ONE)
holds("both guarded, one loss, links talk", SECOND=8, LOSSES=1, TALKS=8, SETTLES=80, **FOREVER)
holds("both guarded, one loss, links talk, reordering", SECOND=8, REORDERING=1, LOSSES=1, NUMBERS=2, TALKS=8,
      SETTLES=64)
holds("both guarded, two losses, links talk", LOSSES=2, NUMBERS=2, TALKS=4, SURPLUS_AT_GUARDED=4, SETTLES=32)
holds("both guarded, two losses, links are silent, no delay", LOSSES=2, DELAY=0, KEEPALIVE=12, SETTLES=48,
      SURPLUS_AT_GUARDED=4, **FOREVER)
holds("one guarded, one loss, links talk", LOSSES=1, TALKS=4, NUMBERS=2, SURPLUS_AT_GUARDED=2, SETTLES=32, **ONE)
holds("one guarded, one loss, links talk, a closing, the daemon late, no delay", LOSSES=1, DELAY=0, TALKS=4, NUMBERS=2, CLOSINGS=1,
      DAEMON_LATE=2, SURPLUS_AT_GUARDED=10, STEADY=0, SETTLES=40, **ONE, **FOREVER)
holds("one guarded, one loss, links talk, no delay", LOSSES=1, DELAY=0, TALKS=4, SURPLUS_AT_GUARDED=2,
      SETTLES=40, **ONE, **FOREVER)

# The winner ends before the loser is destroyed, which stays doomed until the check; and the application dials.
edge("one guarded, one loss, links talk, a closing, the daemon late, in 1 s", LOSSES=1, TALKS=4, NUMBERS=2,
     CLOSINGS=1, DAEMON_LATE=2, SURPLUS_AT_GUARDED=4, STEADY=0, SETTLES=40, **ONE, **FOREVER)
edge("both guarded, three losses, links are silent", LOSSES=3, DELAY=0, KEEPALIVE=12, SETTLES=48, **FOREVER)

# ---- spoofed SYNs -----------------------------------------------------------------------------------

holds("both guarded, spoofed SYNs without end, no delay", SPOOFED="UNBOUNDED", DELAY=0, NUMBERS=2,
      DUPLICATES=0, PROMPT=1, DIALS_0=2, PATIENCE=4, SURPLUS_AT_GUARDED=1, SETTLES=48)
holds("one guarded, spoofed SYNs without end", SPOOFED="UNBOUNDED", NUMBERS=2, DELAY=0,
      SURPLUS_AT_GUARDED=2, SETTLES=48, **ONE, **FOREVER)

holds("one guarded, the other does not dial, spoofed SYNs without end", SPOOFED="UNBOUNDED", NUMBERS=2,
      DIALS_0="UNBOUNDED", DIALS_1=0, PATIENCE=4, SURPLUS_AT_GUARDED=2, SETTLES=64, **ONE)
holds("both guarded, a cut, spoofed SYNs without end", SPOOFED="UNBOUNDED", NUMBERS=2, CUTS=1, CUT=12, TALKS=4,
      DUPLICATES=0, DIALS_0="UNBOUNDED", DIALS_1=0, DELAY=0, SETTLES=64)
edge("one guarded, spoofed SYNs without end, in 6 s", SPOOFED="UNBOUNDED", NUMBERS=2, PATIENCE=4,
     SURPLUS_AT_GUARDED=2, SETTLES=24, **ONE)

# ---- crashes ----------------------------------------------------------------------------------------

holds("both guarded, one crashes, links talk", NUMBERS=2, CRASHES=1, TALKS=4, SURPLUS_AT_GUARDED=2, SETTLES=48,
      **FOREVER)
holds("both guarded, one crashes, links are silent, no delay", CRASHES=1, DELAY=0, SURPLUS_AT_GUARDED=1,
      SETTLES=48, **FOREVER)
holds("one guarded, the other crashes, links are silent, no delay", CRASHES=1, DELAY=0,
      SURPLUS_AT_GUARDED=1, SETTLES=48, **ONE, **FOREVER)
holds("one crashes, no daemon, liveness, no delay", CRASHES=1, DELAY=0, KEEPALIVE=12, DEAD_ENDS_COUNT=0,
      SETTLES=56, **ANY_SURPLUS, **NO_DAEMON, **FOREVER)
holds("one crashes, no daemon, no liveness: deny_max, no delay", CRASHES=1, DELAY=0, DUPLICATES=0,
      DEAD_ENDS_COUNT=0, SETTLES=56, **ANY_SURPLUS, **NO_DAEMON, **FOREVER)

# As below: each silent link makes room after deny_max, and nobody ends it.
edge("the other crashes and does not dial, no daemon, no liveness: one or two", CRASHES=1, DELAY=0,
     DIALS_0="UNBOUNDED", DIALS_1=0, PATIENCE=4, DEAD_ENDS_COUNT=0, SETTLES=56, **ANY_SURPLUS, **NO_DAEMON)
edge("both guarded, one crashes, never two", CRASHES=1, SETTLES=48, **FOREVER)
# Nothing asks whether a silent link lives, and the application dials beside it for deny_max.
edge("no daemon, no liveness, a silent link, dials beside it", SETTLES=20, **NO_DAEMON, **FOREVER)

# ---- one 4-tuple ------------------------------------------------------------------------------------

TUPLE = {"SAME_TUPLE": 1, "CONNECTIONS": 1, "NUMBERS": 2}

holds("one 4-tuple, both guarded", PROMPT=1, ONE_DIALER=1, **TUPLE)
holds("one 4-tuple, both guarded, dialing for ever", SETTLES=24, **TUPLE, **FOREVER)
holds("one 4-tuple, one guarded, a dial each", **TUPLE, **ONE)
holds("one 4-tuple, one guarded, dialing for ever", SETTLES=24, **TUPLE, **ONE, **FOREVER)
holds("one 4-tuple, both guarded, no daemon", SETTLES=24, **TUPLE, **NO_DAEMON)
holds("one 4-tuple, both guarded, daemons a second late", GIVE_UP_LATE=4, DAEMON_LATE=4, SETTLES=24, **TUPLE, **FOREVER)
holds("one 4-tuple, both guarded, nobody ends the dial", GIVE_UPS_LOST=1, SETTLES=24, **TUPLE)
holds("one 4-tuple, both guarded, the SYNs of one are eaten", EATEN=1, SETTLES=24, **TUPLE)
holds("one 4-tuple, one guarded, its SYNs are eaten", EATEN=1, SETTLES=24, **TUPLE, **ONE)
holds("one 4-tuple, both guarded, one loss, links talk", LOSSES=1, TALKS=4, SETTLES=48, **TUPLE, **FOREVER)
holds("one 4-tuple, both guarded, the cable was out", CABLE_OUT=20, SECOND=8, SETTLES=64, **TUPLE, **FOREVER)
holds("one 4-tuple, both guarded, the cable was out, a dial each", CABLE_OUT=20, SECOND=8, SETTLES=64, **TUPLE)

# ---- backoff ----------------------------------------------------------------------------------------

holds("one guarded, the other has no listener, spoofed SYNs without end", LISTENS_1=0, DIALS_1=0, DIALS_0="UNBOUNDED",
      SPOOFED="UNBOUNDED", CONNECTIONS=2, STEPS=2, PACED=1, SETTLES=0, **ONE)
holds("one guarded, the other hangs up on every link", CLOSES_1="ALWAYS", CLOSINGS="UNBOUNDED", DIALS_1=0,
      DIALS_0="UNBOUNDED", CONNECTIONS=2, STEPS=2, PACED=1, SETTLES=0, STEADY=0, **ONE)
holds("one guarded, dials are kept while the cable is out", CABLE_OUT=60, SYNS_WAITED=2, DIALS_1=0, DIALS_0="UNBOUNDED",
      PATIENCE=4, PACED=1, SETTLES=20, **ONE)
holds("one guarded, dials are kept while the cable is out, no daemon", CABLE_OUT=60, LINEAR=1, DAEMON_0=0, DIALS_1=0,
      DIALS_0="UNBOUNDED", DUPLICATES=0, PATIENCE=4, PACED=1, SETTLES=28, **ONE)
holds("one guarded, dials are refused while the cable is out, the network is back", KEEPS=0, REVIVES=1, CABLE_OUT=60,
      SYNS_WAITED=2, DIALS_1=0, DIALS_0="UNBOUNDED", PATIENCE=4, SETTLES=20, **ONE)
holds("both guarded, dials are kept while the cable is out", CABLE_OUT=24, SYNS_WAITED=2, PROMPT=1, NUMBERS=2, SETTLES=32,
      **FOREVER)
holds("both guarded, dials are refused while the cable is out", KEEPS=0, CABLE_OUT=24, SYNS_WAITED=2, PROMPT=1, NUMBERS=2,
      SETTLES=32, **FOREVER)

# ---- without a bound in time ------------------------------------------------------------------------

holds("in the end: both guarded", EVENTUALLY=1, SETTLES=0, **FOREVER)
holds("in the end: one guarded", EVENTUALLY=1, SETTLES=0, **ONE, **FOREVER)
holds("in the end: one guarded, one loss, no delay", EVENTUALLY=1, SETTLES=0, LOSSES=1, DELAY=0, TALKS=4,
      SURPLUS_AT_GUARDED=2, **ONE, **FOREVER)
holds("in the end: both guarded, one crashes, no delay", EVENTUALLY=1, SETTLES=0, CRASHES=1, DELAY=0, DOWN=2, DUPLICATES=0,
      SURPLUS_AT_GUARDED=1, **FOREVER)

# ---- mistakes ---------------------------------------------------------------------------------------

mistake("both ends hold for equally long", "both guarded, the cable was out, no daemon",
         "if (claim->client_isn > theirs->client_isn)",
         "if (0)")
mistake("a dial past its hold does not give way", "one guarded, the cable was out",
         "if (decision.cause != CAUSE_knock_tie_won && decision.cause != CAUSE_knock_hold_spent)",
         "if (decision.cause != CAUSE_knock_tie_won)")
mistake("the bound on giving way begins with connect()", "both guarded, the cable was out",
         "\tclaim->yields_until_ns = knock->now +",
         "\tclaim->yields_until_ns = claim->since_ns +")
mistake("a hold has no end", "both guarded, the SYNs of one are eaten",
         "\t\t} else if (claim.since_ns + policy->hold_max_ns <= knock->now ||",
         "\t\t} else if (0 ||")
mistake("a retransmitted SYN makes a claim younger", "both guarded, the SYNs of one are eaten, linear timeouts",
         "\t/* Its retransmissions come by here too: they do not make the claim younger. */",
         "\tif (slot)\n\t\tslot->since_ns = syn->now;")
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
         "\trefused = (linked | dialing | pending | (backoff & (1 ^ kept)) | not_due) &",
         "\trefused = (linked | pending | (backoff & (1 ^ kept)) | not_due) &")
mistake("a dial passes beside a link", "both guarded, dialing for ever",
         "\trefused = (linked | dialing | pending | (backoff & (1 ^ kept)) | not_due) &",
         "\trefused = ((dialing & (1 ^ linked)) | pending | (backoff & (1 ^ kept)) | not_due) &")
mistake("a knock passes beside a link", "one guarded, the other stacks two dials",
         "\tif (census.links >= limit) {\n"
         "\t\tdecision.other_cookie = census.link_cookie;",
         "\tif (0) {\n"
         "\t\tdecision.other_cookie = census.link_cookie;")
mistake("two handshakes at a time pass", "one guarded, the other stacks two dials",
         "if (pending->acknowledged || (!known && free_places)) {",
         "if (pending->acknowledged) {")
mistake("a loser clears the winner's slot", "one guarded, dialing for ever",
         "\tslot_free(slot);\n"
         "\tpeer->last_active_ns = end->now;\n",
         "\tfor (int i = 0; i < PEER_SLOTS; i++)\n"
         "\t\tslot_free(&peer->slots[i]);\n"
         "\tpeer->last_active_ns = end->now;\n")
mistake("a silent link refuses, and nobody asks for it",
         "both guarded, one crashes, links are silent, no delay",
         "if (census.lively >= limit) {",
         "if (1) {")
mistake("a sign of life changes nothing", "both guarded, no daemon",
         "\tif (!slot || slot->kind != SLOT_LINK || slot->heard_ns >= heard_ns)\n"
         "\t\treturn;",
         "\treturn;")
mistake("of two equal numbers each end dooms its newcomer", "both guarded, equal numbers",
         "if (crossed && (tied || policy->tie_break == TIE_BREAK_NONE)) {",
         "if (crossed && policy->tie_break == TIE_BREAK_NONE) {")
mistake("of two crossing links each end dooms its newcomer",
         "both guarded, nobody ends the dial that is given up, round trips of 1.5 to 2 s",
         "\t\tloser = pick(weaker, other->cookie, loser);",
         "\t\t;")
mistake("the daemon destroys without looking for another link",
         "one guarded, one loss, links talk, a closing, the daemon late, no delay",
         "\t\tif (slot->kind == SLOT_LINK && slot->cookie != connection + 1 &&\n"
         "\t\t    !(slot->flags & SLOT_DOOMED) &&\n"
         "\t\t    now.connections[slot->cookie - 1].state[host] == END_ESTABLISHED)\n"
         "\t\t\treturn 1;",
         "\t\treturn 1;", file="world.h")
mistake("the daemon does not spare a last link that is doomed",
         "one guarded, one loss, links talk, a closing, the daemon late, no delay",
         "\tASK(model_link_spare(GUARD, now.it));",
         "\tc_code { now.cause = CAUSE_none; };", file="two_hosts.pml")
mistake("a quiet link that was asked in vain is ended", "both guarded, a cut, spoofed SYNs without end",
         "\tASK(model_link_unanswered(GUARD, now.it));",
         "\tASK(model_link_unanswered(GUARD, now.it));\n\tdestroy();", file="two_hosts.pml")

# Of the loser that hears first:
mistake("a dial is given up for every SYN", "one guarded, the other does not dial, spoofed SYNs without end",
         "if (!knock->ends_dials || peer->flags & PEER_YIELDED)",
         "if (!knock->ends_dials)")
mistake("who gave up a dial never gives up one again",
         "both guarded, both refuse newcomers while they dial, one crashes",
         "\tpeer->unheard_dials = 0;\n\tpeer->flags &= ~(__u32)(PEER_YIELDED | PEER_ANSWERED);",
         "\tpeer->unheard_dials = 0;\n\tpeer->flags &= ~(__u32)PEER_ANSWERED;")
mistake("no dial is given up", "both guarded, both refuse newcomers while they dial",
         "if (!knock->ends_dials || peer->flags & PEER_YIELDED)",
         "if (1)")
mistake("both ends give their dials up", "both guarded, the cable was out",
         "if ((claim->flags & SLOT_KEPT || knock->client_isn > claim->client_isn) &&",
         "if (1 &&")
mistake("of two equal numbers both are given up", "both guarded, equal numbers",
         "if ((claim->flags & SLOT_KEPT || knock->client_isn > claim->client_isn) &&",
         "if ((claim->flags & SLOT_KEPT || knock->client_isn >= claim->client_isn) &&")
mistake("a peer that hangs up on newcomers is held all the same",
         "one guarded, the other closes newcomers while dialing",
         "knock->now ||\n\t\t\t   peer->short_links) {",
         "knock->now) {")
mistake("the last ACK does not wait", "both guarded, both refuse newcomers while they dial",
         "\tif (!found || peer->yielded_port != ack->remote_port)",
         "\tif (1)")
mistake("the last ACK waits for ever", "both guarded, nobody ends the dial that is given up",
         "\tif (ack->now >= claim->ack_waits_until_ns)",
         "\tif (0)")
mistake("others pass while a last ACK waits", "one guarded, the other stacks two dials",
         "if (pending->acknowledged || (!known && free_places)) {",
         "if (!known && free_places) {")
mistake("a dial begins beside a handshake that is pending", "both guarded, both refuse newcomers while they dial",
         "\trefused = (linked | dialing | pending | (backoff & (1 ^ kept)) | not_due) &",
         "\trefused = (linked | dialing | (backoff & (1 ^ kept)) | not_due) &")
mistake("handshakes that are pending keep us from dialing without end",
         "one guarded, the other does not dial, spoofed SYNs without end",
         "same(peer->refused_pending_ns, 0));",
         "1);")

# Of one 4-tuple:
mistake("of one 4-tuple the smaller number stays", "one 4-tuple, both guarded",
         "if (claim->client_isn > knock->client_isn && !(claim->flags & SLOT_KEPT)) {",
         "if (claim->client_isn < knock->client_isn && !(claim->flags & SLOT_KEPT)) {")
mistake("of one 4-tuple both ends give up", "one 4-tuple, both guarded",
         "if (claim->client_isn > knock->client_isn && !(claim->flags & SLOT_KEPT)) {",
         "if (0) {")
mistake("of one 4-tuple the smaller number gives up at once", "one 4-tuple, one guarded, a dial each",
         "} else if (!(claim->flags & SLOT_MET) && !(peer->flags & PEER_YIELDED) && knock->ends_dials) {",
         "} else if (0) {")
mistake("of one 4-tuple both ends stay", "one 4-tuple, both guarded",
         "if (claim->client_isn > knock->client_isn && !(claim->flags & SLOT_KEPT)) {",
         "if (1) {")
mistake("of one 4-tuple SYNs are held for ever", "one 4-tuple, both guarded, the SYNs of one are eaten",
         "\tif (claim->ack_waits_until_ns <= knock->now)",
         "\tif (0)")

# Of backoff:
mistake("every SYN ends a backoff", "one guarded, the other has no listener, spoofed SYNs without end",
         "if (peer->next_attempt_ns <= now || now < peer->wake_after_ns)",
         "if (peer->next_attempt_ns <= now)")
mistake("a link resets the attempts", "one guarded, the other hangs up on every link",
         "\tpeer->unheard_dials = 0;\n\tpeer->flags &= ~(__u32)(PEER_YIELDED | PEER_ANSWERED);",
         "\tpeer->attempts = 0;\n\tpeer->flags &= ~(__u32)(PEER_YIELDED | PEER_ANSWERED);")
mistake("a kept dial is never let go", "one guarded, dials are kept while the cable is out, no daemon",
         "if (enforced && now < dial_waits_until(peer, policy, cookie, now)) {",
         "if (enforced) {")
mistake("the SYN of a kept dial leaves", "one guarded, dials are kept while the cable is out",
         "if (enforced && now < dial_waits_until(peer, policy, cookie, now)) {",
         "if (0) {")
mistake("a second dial beside a new link is kept", "both guarded, dialing for ever",
         "\tbeside &= same(census.claims, 0) &",
         "\tbeside &=")
