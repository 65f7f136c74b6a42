// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: any sequence of steps on one peer and one pending handshake.
 *
 * The steps are those of the hooks and of the command program, in any order, of sockets that need
 * not keep to what TCP does. After each of them the peer must be one that the rules can go on with;
 * after the last one time alone must free the way for a dial. Whether a decision was the right one
 * is for the tests that have a model of the peer.
 *
 * An input is a policy (see policy_of()) and a byte or more a step. The peer and the handshake lie
 * in memory of their own, so that a write beyond them is seen.
 */
#include "input.h"

#include <stdbool.h>

#include <connguard/rules.h>

#include "pure/names.h"

/* Sockets that there are: more than slots. */
#define COOKIES 12
/* Peers that share the element of the handshakes table. */
#define ADDRESSES 2
#define DAY_NS (24 * 3600 * NS_PER_SECOND)

struct story {
	struct input input;
	struct guard_policy policy;
	__u64 now;
	struct peer *peer;
	struct pending_handshake *pending;
	/* What was held by the handshakes table since its ports were last forgotten. */
	__u64 held_until_ns;
	__u16 held_ports[HELD_PORTS];
	unsigned int held_count;
};

static const __u64 spans_ns[] = {
	0, 1, NS_PER_MS, 100 * NS_PER_MS, NS_PER_SECOND, 5 * NS_PER_SECOND, 60 * NS_PER_SECOND,
	DAY_NS,
};

#define SPANS (sizeof(spans_ns) / sizeof(spans_ns[0]))

static struct peer_address address_of(unsigned int which)
{
	return (struct peer_address){ .bytes = { [10] = 0xff, [11] = 0xff, 192, 0, 2, which + 7 } };
}

static __u64 a_cookie(struct story *story)
{
	return 1 + input_below(&story->input, COOKIES);
}

/* Few, so that there are ties. */
static __u32 a_number(struct story *story)
{
	static const __u32 numbers[] = { 0, 1, 2, 0x7fffffff, 0x80000000, ~0U };

	return numbers[input_below(&story->input, 6)];
}

/* More than can be held. No SYN comes from port 0. */
static __u16 a_port(struct story *story)
{
	return 1 + input_below(&story->input, HELD_PORTS + 5);
}

static __u32 random_bits(struct story *story)
{
	__u32 bits;

	input_bytes(&story->input, &bits, sizeof(bits));
	return bits;
}

static __u64 a_span(struct story *story, __u64 min, __u64 max)
{
	__u64 span = spans_ns[input_below(&story->input, SPANS)];

	return span < min ? min : span > max ? max : span;
}

/* A policy that the configuration lets pass, or the defaults; max_links 0 is one half written. */
static void policy_of(struct story *story)
{
	struct guard_policy *policy = &story->policy;
	struct input *input = &story->input;

	*policy = policy_defaults();
	policy->max_links = input_below(input, PEER_LINKS_MAX + 1);
	policy->tie_break = input_below(input, 4) ? TIE_BREAK_ISN : TIE_BREAK_NONE;
	policy->keep_dials = input_below(input, 4) != 0;
	if (!input_below(input, 2))
		return;
	policy->backoff_initial_ns = a_span(story, NS_PER_MS, DAY_NS);
	policy->backoff_max_ns = a_span(story, policy->backoff_initial_ns, DAY_NS);
	policy->min_uptime_ns = a_span(story, 0, DAY_NS);
	policy->stable_after_ns = a_span(story, policy->min_uptime_ns, DAY_NS);
	policy->hold_max_ns = a_span(story, 0, 10 * NS_PER_SECOND);
	policy->claim_max_ns = a_span(story, NS_PER_SECOND, DAY_NS);
	policy->suspect_after_ns = a_span(story, NS_PER_SECOND, DAY_NS);
	policy->deny_max_ns = a_span(story, 5 * NS_PER_SECOND, DAY_NS);
}

/* ---- what must hold -------------------------------------------------------------------------- */

static const struct slot *slot_held(const struct peer *peer, __u64 cookie)
{
	int i;

	for (i = 0; i < PEER_SLOTS; i++)
		if (peer->slots[i].kind != SLOT_FREE && peer->slots[i].cookie == cookie)
			return &peer->slots[i];
	return NULL;
}

static unsigned int count_links(const struct peer *peer)
{
	unsigned int i, count = 0;

	for (i = 0; i < PEER_SLOTS; i++)
		count += peer->slots[i].kind == SLOT_LINK && !(peer->slots[i].flags & SLOT_DOOMED);
	return count;
}

static unsigned int count_claims(const struct peer *peer, __u64 now)
{
	unsigned int i, count = 0;

	for (i = 0; i < PEER_SLOTS; i++)
		count += peer->slots[i].kind == SLOT_CLAIM && peer->slots[i].expires_ns > now;
	return count;
}

static void check_slot(const struct story *story, const struct slot *slot)
{
	__u64 longest = story->policy.claim_max_ns > CLAIM_UNSENT_MAX_NS ?
				story->policy.claim_max_ns :
				CLAIM_UNSENT_MAX_NS;

	must(slot->kind == SLOT_CLAIM || slot->kind == SLOT_LINK);
	must(slot->cookie >= 1 && slot->cookie <= COOKIES);
	must(slot->since_ns <= story->now);
	must(slot->command[COMMAND_LENGTH - 1] == '\0');
	if (slot->kind == SLOT_CLAIM) {
		must(slot->direction == DIRECTION_OUTBOUND);
		must(slot->expires_ns > slot->since_ns);
		must(slot->expires_ns <= story->now + longest);
		must(!(slot->flags &
		       (SLOT_DOOMED | SLOT_ADOPTED | SLOT_UNANSWERED | SLOT_STRANDED)));
		must(!(slot->flags & SLOT_GIVEN_UP) || slot->flags & SLOT_SENT);
		must(slot->ack_waits_until_ns <= story->now + ACK_WAITS_NS ||
		     slot->ack_waits_until_ns <= story->now + story->policy.hold_max_ns);
		must(!slot->heard_ns && !slot->doubted_ns && !slot->stalled_ns);
	} else {
		must(slot->direction == DIRECTION_OUTBOUND || slot->direction == DIRECTION_INBOUND);
		must(slot->expires_ns == 0);
		must(!(slot->flags &
		       (SLOT_SENT | SLOT_KEPT | SLOT_GIVEN_UP | SLOT_ANSWERED | SLOT_MET)));
		must(!slot->yields_until_ns);
		must(slot->heard_ns >= slot->since_ns && slot->heard_ns <= story->now);
		must(slot->doubted_ns <= story->now && slot->stalled_ns <= story->now);
	}
}

static void check_peer(const struct story *story)
{
	const struct peer *peer = story->peer;
	struct slot_census census = peer_census(peer, &story->policy, 0, story->now);
	int i, j;

	for (i = 0; i < PEER_SLOTS; i++) {
		if (peer->slots[i].kind == SLOT_FREE)
			continue;
		check_slot(story, &peer->slots[i]);
		for (j = 0; j < i; j++)
			must(peer->slots[j].kind == SLOT_FREE ||
			     peer->slots[j].cookie != peer->slots[i].cookie);
	}
	must(census.links + census.unproven == count_links(peer));
	must(census.lively <= census.links);
	must(!census.unproven == !census.unproven_cookie);
	must(!census.doubt_ends_ns || census.doubt_ends_ns > story->now);
	must(census.claims == count_claims(peer, story->now));
	must(!census.links == !census.link_cookie);
	must(!census.claims == !census.claim_cookie);
	must(!census.claims || census.claim_until_ns > story->now);
	must(peer->next_attempt_ns <= story->now + story->policy.backoff_max_ns);
	must(peer->attempts || !peer->next_attempt_ns);
	must(peer->last_active_ns <= story->now && peer->last_refusal_ns <= story->now);
	must(peer->due_ns <= story->now);
	must(peer->last_refusal_cause < CAUSE_COUNT);
	must(!(peer->flags &
	       ~(PEER_KNOWN | PEER_DIALED | PEER_LEAVING | PEER_YIELDED | PEER_SILENT |
		 PEER_ANSWERED)));
	must(peer->failed_ns <= story->now && !peer->failed_ns == (peer->failure == ENDING_NONE));
	must(peer->failure != ENDING_NONE || !(peer->flags & PEER_SILENT));
	must(peer->failure != ENDING_RESET || !(peer->flags & PEER_SILENT));
	must(!peer->next_attempt_ns || peer->next_attempt_ns >= peer->failed_ns);
	must(peer->wake_after_ns <= story->now + story->policy.backoff_max_ns);
	must(peer->refused_pending_ns <= story->now && peer->doubted_dial_ns <= story->now);
	must(peer->unheard_dials <= UNHEARD_DIALS && peer->short_links <= SHORT_LINKS);
	must(peer_idle(peer, story->now) == (!count_links(peer) && !census.claims &&
					     peer->next_attempt_ns <= story->now));
	must(!peer_due(peer, story->now) || peer_idle(peer, story->now));
	must(peer_limit(peer, &story->policy) >= 1);
	must(peer_room(peer, &story->policy, story->now) <= peer_limit(peer, &story->policy));
}

static void check_pending(const struct story *story)
{
	const struct pending_handshake *pending = story->pending;
	int i, j;

	must(pending->until_ns <= story->now + (pending->acknowledged ? HOLD_PERIODS : 1) *
						       story->policy.hold_max_ns);
	must(pending->let_in_ns <= story->now);
	must(pending->held_until_ns <= story->now + HOLD_PERIODS * story->policy.hold_max_ns);
	for (i = 0; i < HELD_PORTS; i++)
		for (j = 0; j < i; j++)
			must(!pending->held_ports[i] ||
			     pending->held_ports[i] != pending->held_ports[j]);
}

/* What is said of a cause elsewhere is what was decided here. */
static void check_decision(const struct decision *decision)
{
	must(decision->cause < CAUSE_COUNT);
	must(decision->cause == CAUSE_none ||
	     decision->verdict == names_cause_verdict(decision->cause));
	must(decision->cause != CAUSE_none || decision->verdict == VERDICT_NONE ||
	     decision->verdict == VERDICT_ALLOW);
	must(decision->ending <= ENDING_LOCAL);
}

/* May a socket yet to be made dial? */
static struct decision dial_of_nobody(const struct story *story, __u64 now)
{
	const struct dial dial = { .now = now, .mode = MODE_ENFORCE };

	return dial_verdict(story->peer, &story->policy, &dial);
}

/* The peer is as it was, but for the record of refusals, and doubts that have begun. */
static void check_unchanged(const struct peer *peer, const struct peer *was, __u32 new_flags)
{
	struct peer masked = *peer;
	int i;

	for (i = 0; i < PEER_SLOTS; i++) {
		must(masked.slots[i].doubted_ns == was->slots[i].doubted_ns ||
		     masked.slots[i].kind == SLOT_LINK);
		if (!was->slots[i].doubted_ns)
			masked.slots[i].doubted_ns = 0;
	}

	masked.refused_dials = was->refused_dials;
	masked.refused_knocks = was->refused_knocks;
	masked.last_refusal_ns = was->last_refusal_ns;
	masked.last_refusal_cause = was->last_refusal_cause;
	masked.refused_pending_ns = was->refused_pending_ns;
	masked.doubted_dial_ns = was->doubted_dial_ns;
	must(masked.flags == (was->flags | new_flags));
	masked.flags = was->flags;
	must(!memcmp(&masked, was, sizeof(masked)));
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void step_dial(struct story *story)
{
	struct dial dial = {
		.cookie = a_cookie(story),
		.now = story->now,
		.process_id = 1,
		.thread_id = 1,
		.mode = input_below(&story->input, 4),
		.announced_only = !input_below(&story->input, 4),
		.asks = input_below(&story->input, 2),
		.ends_dials = input_below(&story->input, 2),
		.pending_until_ns =
			story->now + a_span(story, 0, HOLD_PERIODS * story->policy.hold_max_ns),
		.command = "fifteen letters",
	};
	const struct peer was = *story->peer;
	struct decision told, decision;

	/* Mostly the mode in which a verdict is more than counted. */
	if (dial.mode > MODE_ENFORCE)
		dial.mode = MODE_ENFORCE;
	told = dial_verdict(story->peer, &story->policy, &dial);
	must(!memcmp(story->peer, &was, sizeof(was)));
	check_decision(&told);
	decision = dial_claim(story->peer, &story->policy, &dial);
	check_decision(&decision);
	must(decision.verdict == told.verdict || decision.cause == CAUSE_dial_unheld ||
	     (told.cause == CAUSE_dial_beside && decision.cause == CAUSE_dial_linked));
	must(decision.verdict != VERDICT_NONE);
	must(decision.verdict != VERDICT_HOLD ||
	     (decision.cause == CAUSE_dial_kept && decision.until_ns == was.next_attempt_ns &&
	      decision.until_ns > story->now && was.flags & PEER_SILENT) ||
	     (decision.cause == CAUSE_dial_beside && dial.mode != MODE_OFF && dial.ends_dials &&
	      decision.until_ns > story->now && decision.until_ns <= story->now + LINK_NEW_MAX_NS));
	/* For a pending handshake nobody is refused for longer than it may be pending. */
	must(decision.cause != CAUSE_dial_pending ||
	     (decision.until_ns > story->now &&
	      decision.until_ns <= story->now + HOLD_PERIODS * story->policy.hold_max_ns));
	if (decision.verdict == VERDICT_REFUSE && dial.mode == MODE_ENFORCE) {
		must(decision.cause == told.cause || told.cause == CAUSE_dial_beside);
		must(!peer_exempt(story->peer, story->now));
		must(story->peer->refused_dials == was.refused_dials + 1);
		must(story->peer->last_refusal_ns == story->now);
		must(story->peer->last_refusal_cause == decision.cause);
		check_unchanged(story->peer, &was,
				decision.cause == CAUSE_dial_not_due ? PEER_DIALED : 0);
		return;
	}
	must(story->peer->next_attempt_ns == was.next_attempt_ns);
	must(story->peer->attempts == was.attempts);
	if (decision.cause == CAUSE_dial_unheld)
		check_unchanged(story->peer, &was, 0);
	else if (decision.verdict != VERDICT_REFUSE)
		must(slot_held(story->peer, dial.cookie)->kind == SLOT_CLAIM);
	if (decision.verdict != VERDICT_REFUSE && decision.cause != CAUSE_dial_unheld)
		must(slot_held(story->peer, dial.cookie)->flags ==
		     (decision.verdict == VERDICT_HOLD && dial.mode == MODE_ENFORCE ? SLOT_KEPT : 0));
}

static void step_sent(struct story *story)
{
	__u64 cookie = a_cookie(story);
	const struct peer was = *story->peer;

	const struct dial_syn syn = {
		.cookie = cookie,
		.now = story->now,
		.client_isn = a_number(story),
		.local_port = 50000,
		.remote_port = 24000,
	};

	dial_sent(story->peer, &story->policy, &syn);
	if (!slot_held(&was, cookie) || slot_held(&was, cookie)->kind == SLOT_LINK)
		must(!memcmp(story->peer, &was, sizeof(was)));
}

static void step_leaves(struct story *story)
{
	__u64 cookie = a_cookie(story);
	const struct peer was = *story->peer;
	const struct slot *claim = slot_held(&was, cookie);
	int enforced = input_below(&story->input, 4) != 0;
	struct decision decision;

	decision = dial_leaves(story->peer, &story->policy, cookie, enforced, story->now);
	must(decision.cause == CAUSE_none || decision.cause == CAUSE_dial_let_go);
	if (!claim || claim->kind != SLOT_CLAIM || decision.verdict == VERDICT_HOLD)
		must(!memcmp(story->peer, &was, sizeof(was)));
	else
		must(slot_held(story->peer, cookie)->syns == claim->syns + 1);
	must((decision.cause == CAUSE_dial_let_go || decision.verdict == VERDICT_HOLD) ==
	     (claim && claim->kind == SLOT_CLAIM && claim->flags & SLOT_KEPT));
	/* Nothing is kept past the end of the backoff or beside what is not new, nor where nothing is enforced. */
	must(decision.verdict != VERDICT_HOLD ||
	     (enforced && (was.next_attempt_ns > story->now || links_new_until(&was) > story->now)));
}

static void step_knock(struct story *story)
{
	struct knock knock = {
		.now = story->now,
		.isn_known = input_below(&story->input, 4) != 0,
		.client_isn = a_number(story),
		.mode = input_below(&story->input, 4) ? MODE_ENFORCE : MODE_OBSERVE,
		.ends_dials = input_below(&story->input, 2),
		.asks = input_below(&story->input, 2),
		.remote_port = a_port(story),
	};
	const struct peer was = *story->peer;
	struct peer masked;
	struct decision decision;
	int i, allowed;

	decision = knock_decide(story->peer, &story->policy, &knock);
	check_decision(&decision);
	must(decision.verdict != VERDICT_NONE);
	must(decision.verdict == VERDICT_ALLOW || !peer_exempt(&was, story->now));
	if (decision.verdict == VERDICT_HOLD) {
		must(knock.isn_known || decision.cause == CAUSE_knock_suspect);
		must(decision.until_ns > story->now);
		must(decision.until_ns <= story->now + (decision.cause == CAUSE_knock_suspect ?
							       story->policy.deny_max_ns :
							       story->policy.hold_max_ns));
		must(decision.cause != CAUSE_knock_suspect || !knock.asks ||
		     decision.until_ns <= story->now + ASK_MAX_NS);
	}
	/* A backoff is ended by what is let in, and not twice before it would have been over. */
	allowed = decision.verdict == VERDICT_ALLOW && decision.cause != CAUSE_knock_exempt &&
		  knock.isn_known;
	must(story->peer->attempts == was.attempts);
	if (story->peer->next_attempt_ns != was.next_attempt_ns) {
		must(allowed && !story->peer->next_attempt_ns);
		must(was.next_attempt_ns > story->now && was.wake_after_ns <= story->now);
		must(story->peer->wake_after_ns == was.next_attempt_ns);
	} else {
		must(story->peer->wake_after_ns == was.wake_after_ns);
		must(!allowed || was.next_attempt_ns <= story->now || was.wake_after_ns > story->now);
	}
	/* A dial is given up once, until a link comes up, and only where somebody ends it. */
	must(!(~was.flags & story->peer->flags & PEER_YIELDED) ==
	     (decision.cause != CAUSE_knock_goes_first));
	must(decision.cause != CAUSE_knock_goes_first || (knock.ends_dials && allowed));
	must(decision.cause != CAUSE_knock_goes_first ||
	     story->peer->yielded_port == knock.remote_port);
	must(story->peer->yielded_port == was.yielded_port ||
	     decision.cause == CAUSE_knock_goes_first || decision.cause == CAUSE_knock_tie_won ||
	     decision.cause == CAUSE_knock_hold_spent);
	/* What is held is held, and counted, where the whole SYN is seen. */
	must(story->peer->refused_knocks ==
	     was.refused_knocks + (decision.verdict == VERDICT_REFUSE ||
				   (decision.verdict == VERDICT_HOLD && knock.isn_known)));
	/* A claim may give way, once and for all, and a quiet link be given up; nothing else changes. */
	masked = *story->peer;
	masked.next_attempt_ns = was.next_attempt_ns;
	masked.wake_after_ns = was.wake_after_ns;
	masked.flags = was.flags | (masked.flags & ~(__u32)PEER_YIELDED);
	masked.yielded_port = was.yielded_port;
	for (i = 0; i < PEER_SLOTS; i++) {
		__u32 noted = masked.slots[i].flags & ~was.slots[i].flags;

		must(!(was.slots[i].flags & ~masked.slots[i].flags));
		must(!noted || (noted == SLOT_GIVEN_UP && knock.mode == MODE_ENFORCE &&
				decision.cause == CAUSE_knock_goes_first &&
				masked.slots[i].cookie == decision.other_cookie) ||
		     (noted == SLOT_UNANSWERED && decision.cause == CAUSE_knock_unproven &&
		      was.slots[i].doubted_ns));
		masked.slots[i].flags = was.slots[i].flags;
		if (was.slots[i].yields_until_ns)
			continue;
		must(!masked.slots[i].yields_until_ns || masked.slots[i].kind == SLOT_CLAIM);
		if (masked.slots[i].yields_until_ns)
			masked.slots[i].ack_waits_until_ns = was.slots[i].ack_waits_until_ns;
		masked.slots[i].yields_until_ns = 0;
	}
	check_unchanged(&masked, &was, 0);
}

/* Held: a port that was not held yet, of no more than there is room for; any, beside one that waits. */
static void check_hold(struct story *story, __u16 port, bool acknowledged)
{
	unsigned int i;

	if (story->held_until_ns <= story->now) {
		story->held_until_ns = story->now + HOLD_PERIODS * story->policy.hold_max_ns;
		story->held_count = 0;
	}
	for (i = 0; i < story->held_count && story->held_ports[i] != port; i++)
		;
	if (acknowledged && (i < story->held_count || story->held_count == HELD_PORTS))
		return;
	must(i == story->held_count);
	must(story->held_count < HELD_PORTS);
	story->held_ports[story->held_count++] = port;
}

static void step_handshake(struct story *story)
{
	struct peer_address address = address_of(input_below(&story->input, ADDRESSES));
	__u16 port = a_port(story);
	__u32 room = peer_room(story->peer, &story->policy, story->now);
	const struct pending_handshake was = *story->pending;
	struct their_handshake theirs;
	struct decision decision;

	decision = handshake_decide(story->pending, &address, &story->policy, port, a_number(story),
				    room, story->now);
	check_decision(&decision);
	must(decision.verdict == VERDICT_ALLOW || decision.verdict == VERDICT_HOLD);
	if (decision.verdict == VERDICT_HOLD) {
		must(room <= 1);
		must(decision.until_ns > story->now && decision.until_ns == was.until_ns);
		must(story->pending->acknowledged == was.acknowledged);
		check_hold(story, port, was.acknowledged);
	} else if (was.acknowledged && was.until_ns > story->now && room <= 1) {
		/* Beside it passes nothing but its own SYN, and what the element knows nothing of. */
		must(!memcmp(story->pending, &was, sizeof(was)));
		must(port == was.remote_port || !address_equal(&address, &was.address));
	}
	theirs = handshake_pending(story->pending, &address, story->now);
	must(!theirs.until_ns || theirs.until_ns > story->now);
}

/* The last ACK waits; of a handshake that is over, or is another one, it says nothing. */
static void step_handshake_waits(struct story *story)
{
	struct peer_address address = address_of(input_below(&story->input, ADDRESSES));
	__u16 port = a_port(story);
	struct pending_handshake was = *story->pending;
	int awaited = handshake_awaited(&was, &address, port, story->now);

	handshake_waits(story->pending, &address, &story->policy, port, story->now);
	if (awaited) {
		was.acknowledged = 1;
		was.until_ns = story->now + HOLD_PERIODS * story->policy.hold_max_ns;
	}
	must(!memcmp(story->pending, &was, sizeof(was)));
}

static void step_handshake_done(struct story *story)
{
	struct peer_address address = address_of(input_below(&story->input, ADDRESSES));
	__u16 port = a_port(story);

	handshake_done(story->pending, &address, port);
}

static void step_handshake_forgotten(struct story *story)
{
	const struct pending_handshake was = *story->pending;
	__u64 since_ns = story->now - input_below(&story->input, 3) * NS_PER_SECOND;

	handshake_forget_before(story->pending, since_ns);
	must(story->pending->until_ns == (was.let_in_ns <= since_ns ? 0 : was.until_ns));
}

static void step_answer(struct story *story)
{
	__u64 cookie = a_cookie(story);
	struct peer_address address = address_of(0);
	struct their_handshake theirs = handshake_pending(story->pending, &address, story->now);
	struct decision decision;

	decision = answer_decide(story->peer, &story->policy, &theirs, cookie, story->now);
	check_decision(&decision);
	must(decision.verdict == VERDICT_ALLOW || decision.verdict == VERDICT_HOLD);
	must(decision.verdict == VERDICT_ALLOW || !peer_exempt(story->peer, story->now));
	must(decision.verdict == VERDICT_ALLOW || !slot_held(story->peer, cookie) ||
	     slot_held(story->peer, cookie)->flags & SLOT_ANSWERED);
	/* A dial that has lost its slot, its SYN was put off for so long, gives way to a link only. */
	must(decision.verdict == VERDICT_ALLOW || slot_held(story->peer, cookie) ||
	     (decision.cause == CAUSE_answer_linked && count_links(story->peer)));
}

/* A SYN without an ACK meets a dial itself. */
static void step_open(struct story *story)
{
	__u64 cookie = a_cookie(story);
	const struct knock knock = {
		.now = story->now,
		.isn_known = 1,
		.client_isn = a_number(story),
		.mode = input_below(&story->input, 4) ? MODE_ENFORCE : MODE_OBSERVE,
		.ends_dials = input_below(&story->input, 2),
		.remote_port = a_port(story),
	};
	const struct peer was = *story->peer;
	const struct slot *claim = slot_held(&was, cookie);
	struct decision decision;

	decision = open_decide(story->peer, &story->policy, cookie, &knock);
	check_decision(&decision);
	must(decision.verdict == VERDICT_ALLOW || decision.verdict == VERDICT_HOLD);
	if (decision.verdict == VERDICT_ALLOW) {
		struct peer masked = *story->peer;
		int i;

		/* Since when they meet is noted, once. */
		for (i = 0; i < PEER_SLOTS; i++)
			if (&was.slots[i] == claim && !claim->ack_waits_until_ns)
				masked.slots[i].ack_waits_until_ns = 0;
		must(!memcmp(&masked, &was, sizeof(was)));
		return;
	}
	/* Held for hold_max at most. */
	must(slot_held(story->peer, cookie)->ack_waits_until_ns > story->now);
	must(!claim || !claim->ack_waits_until_ns || claim->ack_waits_until_ns > story->now);
	must(claim && claim->kind == SLOT_CLAIM && claim->flags & SLOT_SENT);
	must(claim->client_isn != knock.client_isn && !peer_exempt(&was, story->now));
	must(story->peer->refused_knocks == was.refused_knocks + 1);
	/* Held for good is a SYN only where ours is on its way. */
	must(decision.cause != CAUSE_knock_open_won || !(claim->flags & SLOT_KEPT));
	must(decision.cause != CAUSE_knock_open_lost || story->peer->flags & PEER_YIELDED ||
	     claim->flags & SLOT_GIVEN_UP);
}

static void step_last_ack(struct story *story)
{
	const struct knock ack = {
		.now = story->now,
		.mode = MODE_ENFORCE,
		.ends_dials = input_below(&story->input, 2),
		.remote_port = a_port(story),
	};
	const struct peer was = *story->peer;
	struct peer masked;
	struct decision decision = last_ack_decide(story->peer, &ack);
	const struct slot *claim;
	int i;

	check_decision(&decision);
	if (decision.verdict == VERDICT_HOLD) {
		claim = slot_held(story->peer, decision.other_cookie);
		must(claim && claim->kind == SLOT_CLAIM && claim->flags & SLOT_GIVEN_UP);
		must(claim->yields_until_ns && claim->ack_waits_until_ns == decision.until_ns);
		/* Longer only where a SYN has met the dial itself after it gave way. */
		must(decision.until_ns > story->now);
		must(decision.until_ns <= story->now + ACK_WAITS_NS ||
		     decision.until_ns == slot_held(&was, claim->cookie)->ack_waits_until_ns);
	}
	/* A dial may be given up, once, for this knock and where somebody ends it; nothing else changes. */
	masked = *story->peer;
	for (i = 0; i < PEER_SLOTS; i++) {
		if (masked.slots[i].flags & ~was.slots[i].flags & SLOT_GIVEN_UP)
			must(ack.ends_dials && !(was.flags & PEER_YIELDED) &&
			     story->peer->flags & PEER_YIELDED &&
			     was.slots[i].kind == SLOT_CLAIM && was.slots[i].yields_until_ns);
		else
			must(masked.slots[i].flags == was.slots[i].flags);
		if (masked.slots[i].flags & SLOT_GIVEN_UP) {
			masked.slots[i].flags = was.slots[i].flags;
			masked.slots[i].ack_waits_until_ns = was.slots[i].ack_waits_until_ns;
		}
	}
	masked.flags = was.flags | (masked.flags & ~(__u32)PEER_YIELDED);
	must(!memcmp(&masked, &was, sizeof(was)));
	must(ack.remote_port == was.yielded_port || !memcmp(story->peer, &was, sizeof(was)));
}

static void step_unanswered(struct story *story)
{
	__u64 cookie = a_cookie(story);
	const struct peer was = *story->peer;
	struct decision decision;

	decision = link_unanswered(story->peer, &story->policy, cookie, story->now);
	check_decision(&decision);
	if (decision.cause == CAUSE_none)
		must(!memcmp(story->peer, &was, sizeof(was)));
	else
		must(slot_held(story->peer, cookie)->flags & SLOT_UNANSWERED);
}

static void step_revive(struct story *story)
{
	__u64 revived = story->now - a_span(story, 0, DAY_NS);
	struct peer was = *story->peer;

	peer_revive(story->peer, revived);
	if (revived >= was.failed_ns)
		was.next_attempt_ns = 0;
	must(!memcmp(story->peer, &was, sizeof(was)));
}

static void step_link(struct story *story)
{
	struct link link = {
		.cookie = a_cookie(story),
		.now = story->now,
		.direction = 1 + input_below(&story->input, 2),
		.client_isn = a_number(story),
		.round_trip_ms = input_below(&story->input, 0x10000),
		.adopted = !input_below(&story->input, 8),
		.mode = input_below(&story->input, 4),
		.local_port = 24000,
		.remote_port = 40000,
	};
	const struct peer was = *story->peer;
	unsigned int links = count_links(&was);
	struct decision decision;
	const struct slot *held;
	int i;

	if (link.mode > MODE_ENFORCE)
		link.mode = MODE_ENFORCE;
	decision = link_up(story->peer, &story->policy, &link);
	check_decision(&decision);
	held = slot_held(story->peer, link.cookie);
	must((decision.cause == CAUSE_link_unheld) == !held);
	must(!held || held->kind == SLOT_LINK);
	/* No link is lost, at most one is doomed by it, and never the last one. */
	for (i = 0; i < PEER_SLOTS; i++) {
		const struct slot *before_it = &was.slots[i], *after_it;

		if (before_it->kind != SLOT_LINK)
			continue;
		after_it = slot_held(story->peer, before_it->cookie);
		must(after_it && after_it->kind == SLOT_LINK);
		must(after_it->since_ns == before_it->since_ns);
		if ((after_it->flags ^ before_it->flags) & SLOT_DOOMED) {
			must(decision.cause == CAUSE_link_duplicate ||
			     decision.cause == CAUSE_link_replaced);
			must(decision.other_cookie == after_it->cookie);
		}
	}
	if (decision.cause == CAUSE_link_duplicate || decision.cause == CAUSE_link_replaced) {
		must(links >= peer_limit(&was, &story->policy));
		must(!peer_exempt(&was, story->now) && !link.adopted && link.mode != MODE_OFF);
		held = slot_held(story->peer, decision.other_cookie);
		must(held && held->kind == SLOT_LINK);
		must(!!(held->flags & SLOT_DOOMED) == (link.mode == MODE_ENFORCE));
	}
	must(count_links(story->peer) >= links);
	must(!slot_held(story->peer, link.cookie) || count_links(story->peer) >= 1 ||
	     slot_held(&was, link.cookie));
	/* Established is not a success yet: attempts end with a link that proves stable. */
	must(story->peer->attempts == was.attempts);
	/* But the peer lives, and what SYNs in its name have brought about is forgotten. */
	must(!story->peer->next_attempt_ns && !story->peer->wake_after_ns);
	must(!story->peer->refused_pending_ns && !story->peer->unheard_dials);
	must(!(story->peer->flags & (PEER_YIELDED | PEER_ANSWERED)));
}

static void end(struct story *story, __u64 cookie)
{
	const struct peer was = *story->peer;
	const struct slot_ended ended = {
		.cookie = cookie,
		.now = story->now,
		.ending = input_below(&story->input, ENDING_LOCAL + 1),
		.spoke = input_below(&story->input, 2),
		.random = random_bits(story),
	};
	struct decision decision;

	decision = slot_end(story->peer, &story->policy, &ended);
	check_decision(&decision);
	must(decision.verdict == VERDICT_NONE);
	must(decision.attempts == story->peer->attempts);
	must(!slot_held(story->peer, cookie));
	/* Only the socket that holds something ends it. */
	if (!slot_held(&was, cookie)) {
		must(decision.cause == CAUSE_none);
		must(!memcmp(story->peer, &was, sizeof(was)));
	} else {
		must(decision.cause != CAUSE_none);
		must(decision.direction == slot_held(&was, cookie)->direction);
	}
	/* What we did ourselves, and errors of this host, are nobody's failure. */
	if (decision.cause == CAUSE_dial_failed)
		must(ended.ending == ENDING_CLOSED || ended.ending == ENDING_RESET ||
		     ended.ending == ENDING_UNREACHABLE || ended.ending == ENDING_SILENCE);
	if (decision.cause == CAUSE_link_hung_up || decision.cause == CAUSE_link_short)
		must(!ended.spoke &&
		     (ended.ending == ENDING_PEER_CLOSED || ended.ending == ENDING_RESET));
	if (decision.cause == CAUSE_dial_failed || decision.cause == CAUSE_link_hung_up)
		must(story->peer->next_attempt_ns >= was.next_attempt_ns || !story->peer->attempts);
	else
		must(story->peer->next_attempt_ns == was.next_attempt_ns ||
		     !story->peer->next_attempt_ns);
	must(story->peer->attempts <= was.attempts || decision.cause == CAUSE_dial_failed ||
	     decision.cause == CAUSE_link_hung_up);
}

static void step_end(struct story *story)
{
	end(story, a_cookie(story));
}

static void step_heard(struct story *story)
{
	__u64 cookie = a_cookie(story);
	struct peer was = *story->peer;
	int i;

	link_heard(story->peer, cookie, story->now);
	for (i = 0; i < PEER_SLOTS; i++) {
		struct slot *slot = &was.slots[i];

		if (slot->kind == SLOT_LINK && slot->cookie == cookie) {
			slot->doubted_ns = slot->heard_ns == story->now ? slot->doubted_ns : 0;
			slot->stalled_ns = slot->heard_ns == story->now ? slot->stalled_ns : 0;
			if (slot->heard_ns != story->now) {
				slot->flags &= ~(__u32)(SLOT_UNANSWERED | SLOT_STRANDED);
				was.doubted_dial_ns = 0;
			}
			slot->heard_ns = story->now;
		}
	}
	must(!memcmp(story->peer, &was, sizeof(was)));
}

static void step_stalls(struct story *story)
{
	__u64 cookie = a_cookie(story);
	struct peer was = *story->peer;
	int i;

	link_stalls(story->peer, cookie, story->now);
	for (i = 0; i < PEER_SLOTS; i++) {
		struct slot *slot = &was.slots[i];

		if (slot->kind == SLOT_LINK && slot->cookie == cookie && !slot->stalled_ns)
			slot->stalled_ns = story->now;
	}
	must(!memcmp(story->peer, &was, sizeof(was)));
}

static void step_release(struct story *story)
{
	static const enum cause causes[] = { CAUSE_link_released, CAUSE_link_cut,
					     CAUSE_link_unguarded };
	__u64 cookie = input_below(&story->input, COOKIES + 1);
	enum cause cause = causes[input_below(&story->input, 3)];
	const struct peer was = *story->peer;
	struct decision decision;

	decision = slot_release(story->peer, cookie, cause, story->now);
	check_decision(&decision);
	must(!slot_held(story->peer, cookie));
	must(story->peer->attempts == was.attempts);
	must(story->peer->next_attempt_ns == was.next_attempt_ns);
	must((decision.cause == cause) == !!slot_held(&was, cookie));
	if (decision.cause == CAUSE_none)
		must(!memcmp(story->peer, &was, sizeof(was)));
}

static void step_expire(struct story *story)
{
	const struct peer was = *story->peer;
	struct decision decision = claims_expire(story->peer, story->now);

	check_decision(&decision);
	must(count_links(story->peer) == count_links(&was));
	must(count_claims(story->peer, story->now) == count_claims(&was, story->now));
	must(story->peer->attempts == was.attempts);
}

/* The own address of a link goes, or comes back. */
static void step_stranded(struct story *story, int gone)
{
	__u64 cookie = a_cookie(story);
	const struct peer was = *story->peer;
	struct decision decision = {};
	int changed;

	if (gone) {
		decision = link_stranded(story->peer, cookie);
		check_decision(&decision);
		changed = decision.cause != CAUSE_none;
	} else {
		changed = link_floats(story->peer, cookie);
	}
	if (!changed)
		must(!memcmp(story->peer, &was, sizeof(was)));
	else
		must(!(slot_held(story->peer, cookie)->flags & SLOT_STRANDED) == !gone);
}

/* What the command program does to a peer. */
static void step_command(struct story *story)
{
	struct peer *peer = story->peer;
	__u64 span = a_span(story, 0, DAY_NS);

	switch (input_below(&story->input, 8)) {
	case 0:
		backoff_clear(peer);
		break;
	case 1:
		peer->limit = input_below(&story->input, PEER_LINKS_MAX + 1);
		break;
	case 2:
		peer->exempt_until_ns = span ? story->now + span : 0;
		break;
	case 3:
		peer->exempt_until_ns = NEVER_ENDS_NS;
		break;
	case 4:
		peer->flags ^= PEER_KNOWN;
		break;
	case 5:
		if (peer_due(peer, story->now))
			peer->due_ns = story->now;
		break;
	case 6:
	case 7:
		step_stranded(story, input_below(&story->input, 4) != 0);
		break;
	}
}

static void step_forget(struct story *story)
{
	const struct peer was = *story->peer;
	struct peer_address address = address_of(0), another = address_of(1);

	must(!peer_is(story->peer, &another, story->now));
	must(peer_is(story->peer, &address, story->now));
	must(!memcmp(story->peer, &was, sizeof(was)));
	if (!peer_forget(story->peer, story->now, story->now)) {
		must(!memcmp(story->peer, &was, sizeof(was)));
		return;
	}
	must(!(was.flags & PEER_KNOWN) && peer_idle(&was, story->now) && !was.limit);
	must(!peer_exempt(&was, story->now));
	/* Seen again, the entry is a new one; an entry on its way out is nobody's. */
	must(!peer_is(story->peer, &address, story->now));
	memset(story->peer, 0, sizeof(*story->peer));
	must(peer_is(story->peer, &address, story->now));
}

static void step_time(struct story *story)
{
	story->now += spans_ns[input_below(&story->input, SPANS)];
}

static void (*const steps[])(struct story *story) = {
	step_dial,      step_dial,   step_sent,    step_sent,   step_knock,   step_handshake,
	step_handshake, step_answer, step_link,    step_link,   step_end,     step_end,
	step_release,   step_heard,  step_expire, step_command, step_forget, step_handshake_done, step_time,
	step_time,      step_stalls, step_leaves,  step_leaves, step_open,    step_last_ack,
	step_unanswered, step_revive, step_handshake_waits, step_handshake_forgotten,
};

/* ---- the story ------------------------------------------------------------------------------- */

/* Every claim ends by itself, every backoff too; then a peer without links may be dialed. */
static void check_end(struct story *story)
{
	struct decision decision;
	__u64 cookie;

	story->now += 2 * DAY_NS;
	must(!count_claims(story->peer, story->now));
	decision = dial_of_nobody(story, story->now);
	must(decision.verdict == VERDICT_ALLOW || decision.cause == CAUSE_dial_suspect);
	/* A denial without proof is bounded, too. */
	links_doubt(story->peer, &story->policy, story->now);
	decision = dial_of_nobody(story, story->now + story->policy.deny_max_ns);
	must(decision.verdict == VERDICT_ALLOW);
	for (cookie = 1; cookie <= COOKIES; cookie++)
		end(story, cookie);
	check_peer(story);
	story->now += 2 * DAY_NS;
	must(peer_idle(story->peer, story->now));
	decision = dial_of_nobody(story, story->now);
	must(decision.verdict == VERDICT_ALLOW);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct story story = { .input = { .next = data, .left = size },
			       .now = 1000 * DAY_NS,
			       .peer = calloc(1, sizeof(struct peer)),
			       .pending = calloc(1, sizeof(struct pending_handshake)) };
	struct peer_address address = address_of(0);

	must(story.peer && story.pending);
	policy_of(&story);
	must(peer_is(story.peer, &address, story.now));
	while (story.input.left) {
		steps[input_below(&story.input, sizeof(steps) / sizeof(steps[0]))](&story);
		check_peer(&story);
		check_pending(&story);
	}
	check_end(&story);
	free(story.peer);
	free(story.pending);
	return 0;
}
