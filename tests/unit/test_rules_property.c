/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rules over time: random sequences of steps against a second, simpler account of the same
 * peer, and two hosts that dial each other.
 *
 * The account ("model") is a list of sockets with a state each; it knows nothing of slots. Where
 * the rules may choose (which of two links is named as the one in the way, which void claim makes
 * room) it accepts every right choice.
 *
 * CONNGUARD_SEED repeats a run, CONNGUARD_STEPS makes it longer. The default seed is fixed, so that
 * a failure is the fault of the change at hand.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "rules_fixture.h"
#include "seeded_random.h"
#include "two_hosts.h"

#define SECOND NS_PER_SECOND
#define MS NS_PER_MS
#define DEFAULT_SEED 20240229
#define DEFAULT_STEPS 2000000
#define STEPS_PER_LIFE 200
/* One simulated meeting of two hosts costs about as much as this many steps. */
#define STEPS_PER_MEETING 200
#define TRACE_LINES 40
#define SOCKETS_MAX 512

static uint64_t seed, steps;
/* How often the random steps came to a cause. */
static uint64_t met[CAUSE_COUNT];

/* ---- the model ------------------------------------------------------------------------------- */

enum socket_state {
	SOCKET_GONE,
	SOCKET_DIALING, /* connect() called */
	SOCKET_SENT,    /* its SYN left */
	SOCKET_LINKED,
	SOCKET_DOOMED,
};

struct socket {
	enum socket_state state;
	enum link_direction direction;
	int adopted;
	int surplus;           /* adopted when it was one too many */
	__u32 isn;
	__u64 since;
	__u64 void_at; /* dialing and sent: the claim is worth nothing from then on */
	__u64 yields_until; /* its claim gave way; 0: not */
	int kept;           /* its SYN does not leave before the end of the backoff, or beside a link that is new */
	int beside;         /* a dial that began beside as many links as there may be */
	int given_up;       /* the daemon is to end it */
	int met;            /* a SYN of the other end has met it */
	int answered;       /* and the answer was held */
	__u32 syns;         /* that have left */
	__u64 left;         /* when the last one did; 0: none has */
	__u64 ack_waits;    /* until when the last ACK waits for its end, or SYNs that have met it are held;
			     * 0: none has come */
	__u64 heard;        /* a link's last sign of life */
	__u64 new_until;    /* dialed by the peer: a dial of ours that is refused beside it is kept until then */
	int unanswered;     /* it was asked for one in vain */
	int stranded;       /* its own address is gone */
	__u64 stalled;      /* something of it is missing, since when; 0: nothing */
	__u64 doubted;      /* somebody was first turned away for its sake, in its silence; 0: not */
};

/* A life: one peer from its first sight, under one policy. The cookie of a socket is its index. */
struct life {
	struct seeded_random random;
	struct guard_policy policy;
	enum guard_mode mode;
	/* The hooks are obeyed and nobody meddles: the strong invariants hold. */
	int obedient;
	__u64 now;
	struct peer peer;

	struct socket sockets[SOCKETS_MAX];
	__u64 socket_count; /* index 0 is no socket */
	__u32 attempts;
	__u64 next_attempt, failed_at;
	__u64 wake_after;      /* no SYN ends a backoff before */
	__u64 refused_pending; /* since when dials are refused for pending handshakes */
	__u64 doubted_dial;    /* since when they are for quiet links */
	enum ending failure;
	int silent;            /* the last failure was silence */
	int yielded;           /* a dial was given up, and no link has come up since */
	int answered;          /* one has come to nothing whose answer was held, likewise */
	__u16 yielded_port;    /* of the knock that the last dial gave way to, or gives way to now */
	unsigned unheard, hung_up; /* in a row */
	__u64 due;
	__u64 exempt_until;
	__u32 limit;
	__u32 tied; /* links too many that stay because their numbers were equal */
	int dialed;
	__u64 refused_dials, refused_knocks;

	char trace[TRACE_LINES][120];
	unsigned trace_length;
};

static void tell(struct life *life, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void tell(struct life *life, const char *format, ...)
{
	char *line = life->trace[life->trace_length++ % TRACE_LINES];
	va_list arguments;
	int length;

	length = snprintf(line, sizeof(life->trace[0]), "%14.6f  ", life->now / 1e9);
	va_start(arguments, format);
	vsnprintf(line + length, sizeof(life->trace[0]) - length, format, arguments);
	va_end(arguments);
}

static void broken(struct life *life, const char *what, int line)
{
	unsigned i = life->trace_length < TRACE_LINES ? 0 : life->trace_length - TRACE_LINES;

	for (; i < life->trace_length; i++)
		print_error("%s\n", life->trace[i % TRACE_LINES]);
	print_error("limit %u, tie-break %d, mode %d, obedient %d, attempts %u, next in %.6f s\n",
		    peer_limit(&life->peer, &life->policy), life->policy.tie_break, life->mode,
		    life->obedient, life->peer.attempts,
		    ((double)life->peer.next_attempt_ns - (double)life->now) / 1e9);
	print_error("line %d: broken: %s\n", line, what);
	fail_msg("repeat with CONNGUARD_SEED=%" PRIu64 " CONNGUARD_STEPS=%" PRIu64, seed, steps);
}

#define must(life, condition) \
	do { \
		if (!(condition)) \
			broken(life, #condition, __LINE__); \
	} while (0)

static int claim_counts(const struct life *life, const struct socket *socket)
{
	return (socket->state == SOCKET_DIALING || socket->state == SOCKET_SENT) &&
	       socket->void_at > life->now;
}

static int beside_links(const struct life *life, const struct socket *socket)
{
	return claim_counts(life, socket) && socket->beside;
}

static int is_link(const struct life *life, const struct socket *socket)
{
	(void)life;
	return socket->state == SOCKET_LINKED;
}

static int shows_life(const struct life *life, const struct socket *socket)
{
	return is_link(life, socket) && !socket->stranded &&
	       life->now - socket->heard < life->policy.suspect_after_ns;
}

static int is_unproven(const struct life *life, const struct socket *socket)
{
	return is_link(life, socket) && !shows_life(life, socket) &&
	       (socket->unanswered ||
		(socket->doubted && life->now - socket->doubted >= life->policy.deny_max_ns));
}

static int link_counts(const struct life *life, const struct socket *socket)
{
	return is_link(life, socket) && !is_unproven(life, socket);
}

static int syn_is_out(const struct life *life, const struct socket *socket)
{
	return socket->state == SOCKET_SENT && claim_counts(life, socket);
}

/* Sockets other than `but` of which `counts` is true. */
static __u32 how_many(const struct life *life, __u64 but,
		      int (*counts)(const struct life *, const struct socket *))
{
	__u64 cookie;
	__u32 number = 0;

	for (cookie = 1; cookie < life->socket_count; cookie++)
		number += cookie != but && counts(life, &life->sockets[cookie]);
	return number;
}

/* When the last of those that the peer has dialed is new no longer. */
static __u64 links_are_new_until(const struct life *life)
{
	__u64 cookie, until = 0;

	for (cookie = 1; cookie < life->socket_count; cookie++)
		if (is_link(life, &life->sockets[cookie]) && life->sockets[cookie].new_until > until)
			until = life->sockets[cookie].new_until;
	return until;
}

/* Somebody is turned away for the sake of links that do not all show life. */
static void doubt(struct life *life)
{
	__u64 cookie;

	for (cookie = 1; cookie < life->socket_count; cookie++) {
		struct socket *socket = &life->sockets[cookie];

		if (is_link(life, socket) && !shows_life(life, socket) && !socket->doubted)
			socket->doubted = life->now;
	}
}

/* When the first of these will have turned somebody away for `lasts`. */
static __u64 doubt_ends_after(const struct life *life, __u64 lasts)
{
	__u64 cookie, ends = life->now + lasts;

	for (cookie = 1; cookie < life->socket_count; cookie++) {
		const struct socket *socket = &life->sockets[cookie];

		if (link_counts(life, socket) && !shows_life(life, socket) && socket->doubted &&
		    socket->doubted + lasts < ends)
			ends = socket->doubted + lasts;
	}
	return ends;
}

/* Those that have had so long to answer have not. */
static void give_links_up(struct life *life, __u64 lasts)
{
	__u64 cookie;

	for (cookie = 1; cookie < life->socket_count; cookie++) {
		struct socket *socket = &life->sockets[cookie];

		if (is_link(life, socket) && !shows_life(life, socket) && socket->doubted &&
		    life->now - socket->doubted >= lasts)
			socket->unanswered = 1;
	}
}

/* The peer has completed a handshake. */
static void model_life_proven(struct life *life)
{
	life->next_attempt = life->wake_after = 0;
	life->refused_pending = life->doubted_dial = 0;
	life->unheard = 0;
	life->yielded = life->answered = 0;
}

/* Is `cookie` one of them? */
static int one_of(const struct life *life, __u64 cookie, __u64 but,
		  int (*counts)(const struct life *, const struct socket *))
{
	return cookie && cookie < life->socket_count && cookie != but &&
	       counts(life, &life->sockets[cookie]);
}

static __u32 limit_of(const struct life *life)
{
	if (life->limit)
		return life->limit;
	return life->policy.max_links ? life->policy.max_links : 1;
}

static int exempt(const struct life *life)
{
	return life->exempt_until > life->now;
}

static __u64 new_socket(struct life *life)
{
	life->sockets[life->socket_count] = (struct socket){ .state = SOCKET_GONE };
	return life->socket_count++;
}

/* A socket in one of the states of the mask (bit per state), or 0. */
static __u64 any_socket(struct life *life, unsigned states)
{
	__u64 found[SOCKETS_MAX], cookie;
	unsigned number = 0;

	for (cookie = 1; cookie < life->socket_count; cookie++)
		if (states & 1U << life->sockets[cookie].state)
			found[number++] = cookie;
	return number ? found[random_below(&life->random, number)] : 0;
}

/* Of several knocks, so that of a last ACK it matters which it is of. */
static __u16 any_port(struct life *life)
{
	return 40000 + random_below(&life->random, 3);
}

#define STATE(name) (1U << SOCKET_##name)
#define CLAIMS (STATE(DIALING) | STATE(SENT))
#define LINKS (STATE(LINKED) | STATE(DOOMED))

/* A dial of a socket yet to be made. */
static struct decision dial_of_nobody(const struct life *life)
{
	struct dial dial = fixture_dial(0, life->now);

	return dial_verdict(&life->peer, &life->policy, &dial);
}

/* One more failure: the deadline of the rules must be what the steps of the policy make it. */
static void model_failure(struct life *life, __u64 since, enum ending ending, int silent)
{
	double whole = life->policy.backoff_initial_ns;
	double wait;
	__u32 i;

	life->unheard = 0;
	if (life->next_attempt > since)
		return;
	life->failed_at = life->now;
	life->failure = ending;
	life->silent = silent;
	if (life->attempts != ~0U)
		life->attempts++;
	for (i = 1; i < life->attempts && whole < life->policy.backoff_max_ns; i++)
		whole *= 2;
	if (whole > life->policy.backoff_max_ns)
		whole = life->policy.backoff_max_ns;
	wait = (double)life->peer.next_attempt_ns - (double)life->now;
	must(life, wait <= whole);
	must(life, wait >= whole * 0.8 - 1);
	/* The deadline only ever moves on. */
	must(life, life->peer.next_attempt_ns >= life->next_attempt);
	life->next_attempt = life->peer.next_attempt_ns;
	/* Never idle between the failure and the backoff. */
	must(life, life->peer.next_attempt_ns > life->now);
	must(life, !peer_idle(&life->peer, life->now));
	must(life, !peer_due(&life->peer, life->now));
	/* The next dial fares as this one did. */
	if (!exempt(life) && !how_many(life, 0, link_counts) &&
	    how_many(life, 0, claim_counts) < limit_of(life))
		must(life, dial_of_nobody(life).cause == (silent && life->policy.keep_dials ?
								  CAUSE_dial_kept :
								  CAUSE_dial_backoff));
}

/* ---- the peer and the model say the same ----------------------------------------------------- */

static void compare_slot(struct life *life, const struct slot *slot)
{
	const struct socket *socket;

	must(life, slot->cookie && slot->cookie < life->socket_count);
	socket = &life->sockets[slot->cookie];
	must(life, slot->direction == socket->direction);
	must(life, slot->since_ns == socket->since);
	if (slot->kind == SLOT_CLAIM) {
		must(life, socket->state == SOCKET_DIALING || socket->state == SOCKET_SENT);
		must(life, !!(slot->flags & SLOT_SENT) == (socket->state == SOCKET_SENT));
		must(life, !(slot->flags &
			     (SLOT_ADOPTED | SLOT_DOOMED | SLOT_UNANSWERED | SLOT_STRANDED)));
		must(life, !!(slot->flags & SLOT_KEPT) == socket->kept);
		must(life, !!(slot->flags & SLOT_GIVEN_UP) == socket->given_up);
		must(life, !!(slot->flags & SLOT_ANSWERED) == socket->answered);
		must(life, !!(slot->flags & SLOT_MET) == socket->met);
		must(life, slot->syns == socket->syns);
		must(life, slot->left_ns == socket->left);
		must(life, slot->ack_waits_until_ns == socket->ack_waits);
		/* Nothing is kept in a mode that refuses nothing. */
		must(life, !socket->kept || life->mode == MODE_ENFORCE);
		must(life, slot->expires_ns == socket->void_at);
		must(life, slot->yields_until_ns == socket->yields_until);
		must(life, !slot->heard_ns && !slot->doubted_ns && !slot->stalled_ns);
		/* Every claim ends. */
		must(life, slot->expires_ns > slot->since_ns);
		must(life, slot->expires_ns <= life->now + life->policy.claim_max_ns ||
				   slot->expires_ns <= life->now + CLAIM_UNSENT_MAX_NS);
	} else {
		must(life, slot->kind == SLOT_LINK);
		must(life, socket->state == SOCKET_LINKED || socket->state == SOCKET_DOOMED);
		must(life, !!(slot->flags & SLOT_DOOMED) == (socket->state == SOCKET_DOOMED));
		must(life, !!(slot->flags & SLOT_ADOPTED) == socket->adopted);
		must(life, !!(slot->flags & SLOT_SURPLUS) == socket->surplus);
		must(life, !!(slot->flags & SLOT_UNANSWERED) == socket->unanswered);
		must(life, !!(slot->flags & SLOT_STRANDED) == socket->stranded);
		must(life, !(slot->flags &
			     (SLOT_KEPT | SLOT_GIVEN_UP | SLOT_ANSWERED | SLOT_MET)));
		must(life, !slot->yields_until_ns);
		must(life, slot->heard_ns == socket->heard);
		must(life, slot->doubted_ns == socket->doubted);
		must(life, slot->stalled_ns == socket->stalled);
		must(life, slot->expires_ns == 0);
	}
	if (socket->state != SOCKET_DIALING)
		must(life, slot->client_isn == socket->isn);
}

static void compare(struct life *life)
{
	const struct peer *peer = &life->peer;
	__u64 cookie;
	int i, j;

	for (i = 0; i < PEER_SLOTS; i++) {
		if (peer->slots[i].kind == SLOT_FREE)
			continue;
		compare_slot(life, &peer->slots[i]);
		for (j = 0; j < i; j++)
			must(life, peer->slots[j].kind == SLOT_FREE ||
					   peer->slots[j].cookie != peer->slots[i].cookie);
	}
	for (cookie = 1; cookie < life->socket_count; cookie++) {
		struct socket *socket = &life->sockets[cookie];

		if (socket->state == SOCKET_GONE || fixture_slot(peer, cookie))
			continue;
		/* A void claim may have made room for another socket; nothing else may be lost. */
		must(life, !is_link(life, socket) && !claim_counts(life, socket));
		must(life, socket->state != SOCKET_DOOMED);
		socket->state = SOCKET_GONE;
	}
	must(life, peer->attempts == life->attempts);
	must(life, peer->next_attempt_ns == life->next_attempt);
	must(life, peer->next_attempt_ns <= life->now + life->policy.backoff_max_ns);
	must(life, peer->failed_ns == life->failed_at);
	must(life, peer->failure == life->failure);
	must(life, !!(peer->flags & PEER_SILENT) == life->silent);
	must(life, !!(peer->flags & PEER_YIELDED) == life->yielded);
	must(life, !!(peer->flags & PEER_ANSWERED) == life->answered);
	must(life, peer->yielded_port == life->yielded_port);
	must(life, peer->wake_after_ns == life->wake_after);
	must(life, peer->refused_pending_ns == life->refused_pending);
	must(life, peer->doubted_dial_ns == life->doubted_dial);
	must(life, peer->unheard_dials == life->unheard);
	must(life, peer->short_links == life->hung_up);
	must(life, peer->due_ns == life->due);
	must(life, !!(peer->flags & PEER_DIALED) == life->dialed);
	must(life, peer->refused_dials == life->refused_dials);
	must(life, peer->refused_knocks == life->refused_knocks);
	must(life, peer_idle(peer, life->now) ==
			   (!how_many(life, 0, claim_counts) && !how_many(life, 0, is_link) &&
			    life->next_attempt <= life->now));

	if (life->obedient) {
		__u32 ours = how_many(life, 0, claim_counts) - how_many(life, 0, beside_links);

		/* One at a time, of which no SYN leaves before the links are new no longer. */
		must(life, how_many(life, 0, beside_links) <= 1);
		for (cookie = 1; cookie < life->socket_count; cookie++)
			ours += link_counts(life, &life->sockets[cookie]) &&
				life->sockets[cookie].direction == DIRECTION_OUTBOUND;
		must(life, ours <= limit_of(life));
		if (how_many(life, 0, link_counts) <= limit_of(life))
			life->tied = 0;
		if (life->policy.tie_break == TIE_BREAK_ISN)
			must(life, how_many(life, 0, link_counts) <= limit_of(life) + life->tied);
	}
}

/* ---- steps ----------------------------------------------------------------------------------- */

/* connect(), by a new socket or by one that holds a claim. */
static void step_dial(struct life *life)
{
	__u64 cookie = random_once_in(&life->random, 4) ? any_socket(life, CLAIMS) : 0;
	int announced_only = life->policy.dial_policy == DIAL_POLICY_CENTRAL;
	struct dial dial;
	struct decision decision;
	struct socket *socket;
	struct peer before = life->peer;
	__u32 links, claims, attempts = life->attempts;
	int again, refused, had_slot, backoff, waits, pending, beside, i;
	enum cause expected;

	if (!cookie)
		cookie = new_socket(life);
	socket = &life->sockets[cookie];
	dial = fixture_dial(cookie, life->now);
	dial.mode = life->mode;
	dial.announced_only = announced_only;
	dial.asks = random_below(&life->random, 2);
	dial.ends_dials = random_below(&life->random, 2);
	if (random_once_in(&life->random, 3))
		dial.pending_until_ns =
			life->now + random_below(&life->random, life->policy.hold_max_ns + 1);
	links = how_many(life, cookie, link_counts);
	claims = how_many(life, cookie, claim_counts);
	again = claim_counts(life, socket) && !(socket->kept && links >= limit_of(life));
	had_slot = socket->state != SOCKET_GONE;
	backoff = !links && life->next_attempt > life->now;
	waits = backoff && life->silent && life->policy.keep_dials;
	pending = dial.pending_until_ns > life->now && life->policy.tie_break == TIE_BREAK_ISN &&
		  links + claims + 1 >= limit_of(life) &&
		  (!life->refused_pending ||
		   life->now - life->refused_pending < life->policy.hold_max_ns ||
		   life->now - life->refused_pending >= 60 * SECOND);
	beside = dial.ends_dials && life->mode != MODE_OFF && life->policy.tie_break == TIE_BREAK_ISN &&
		 life->now < links_are_new_until(life) && !claims && !pending && (!announced_only || life->due);
	expected = exempt(life)                         ? (again ? CAUSE_dial_again : CAUSE_dial_exempt) :
		   again && waits                       ? CAUSE_dial_kept :
		   again                                ? CAUSE_dial_again :
		   links >= limit_of(life) && how_many(life, cookie, shows_life) < limit_of(life) ?
							  CAUSE_dial_suspect :
		   links >= limit_of(life)              ? (beside ? CAUSE_dial_beside : CAUSE_dial_linked) :
		   links + claims >= limit_of(life)     ? CAUSE_dial_dialing :
		   pending                              ? CAUSE_dial_pending :
		   backoff && (!waits || (announced_only && !life->due)) ?
							  CAUSE_dial_backoff :
		   announced_only && !life->due         ? CAUSE_dial_not_due :
		   waits                                ? CAUSE_dial_kept :
		   how_many(life, cookie, is_link) >= limit_of(life) ? CAUSE_dial_unproven :
							  CAUSE_dial_idle;
	refused = expected == CAUSE_dial_linked || expected == CAUSE_dial_suspect || expected == CAUSE_dial_dialing ||
		  expected == CAUSE_dial_backoff || expected == CAUSE_dial_not_due || expected == CAUSE_dial_pending;

	decision = dial_claim(&life->peer, &life->policy, &dial);
	met[decision.cause]++;
	tell(life, "socket %llu dials: cause %d", cookie, decision.cause);
	if (decision.cause == CAUSE_dial_unheld) {
		/* Only when every slot holds something that counts or is being destroyed. */
		must(life, (!refused || life->mode == MODE_OFF) && !had_slot);
		must(life, fixture_count(&life->peer, SLOT_FREE) == 0);
		must(life, !memcmp(&before, &life->peer, sizeof(before)));
		return;
	}
	/* Without a slot nobody would let it go. */
	if (expected == CAUSE_dial_beside && !had_slot && decision.cause == CAUSE_dial_linked) {
		must(life, fixture_count(&life->peer, SLOT_FREE) == 0);
		expected = CAUSE_dial_linked;
		refused = 1;
	}
	must(life, decision.cause == expected);
	beside = expected == CAUSE_dial_beside;
	must(life, decision.verdict == (refused				      ? VERDICT_REFUSE :
					expected == CAUSE_dial_kept || beside ? VERDICT_HOLD :
										VERDICT_ALLOW));
	must(life, decision.attempts == attempts);
	/* Who waits is told for how long at most, and by what. */
	must(life, decision.until_ns == (expected == CAUSE_dial_pending ? dial.pending_until_ns :
					 beside ? links_are_new_until(life) :
					 expected == CAUSE_dial_backoff || expected == CAUSE_dial_kept ?
									  life->next_attempt :
									  0));
	must(life, decision.ending == (expected == CAUSE_dial_backoff || expected == CAUSE_dial_kept ?
					       life->failure :
					       ENDING_NONE));
	must(life, expected != CAUSE_dial_kept || decision.ending != ENDING_RESET);
	if (expected == CAUSE_dial_linked || expected == CAUSE_dial_suspect || beside)
		must(life, one_of(life, decision.other_cookie, cookie, link_counts));
	if (expected == CAUSE_dial_suspect && life->mode != MODE_OFF) {
		if (!life->doubted_dial)
			life->doubted_dial = life->now;
		/* It asks nobody, until it has been refused for long. */
		if (!dial.asks || life->now - life->doubted_dial >= life->policy.deny_max_ns) {
			doubt(life);
			for (i = 0; i < PEER_SLOTS; i++)
				before.slots[i].doubted_ns = life->peer.slots[i].doubted_ns;
		}
		before.doubted_dial_ns = life->doubted_dial;
	}
	if (expected == CAUSE_dial_pending && life->mode != MODE_OFF) {
		if (!life->refused_pending || life->now - life->refused_pending >= 60 * SECOND)
			life->refused_pending = life->now;
		must(life, life->now - life->refused_pending < life->policy.hold_max_ns);
		before.refused_pending_ns = life->refused_pending;
	}
	if (expected == CAUSE_dial_dialing)
		must(life, one_of(life, decision.other_cookie, cookie, claim_counts));
	if (refused && life->mode != MODE_OFF)
		life->refused_dials++;
	if (refused && life->mode == MODE_ENFORCE) {
		struct peer masked = life->peer;

		must(life, masked.last_refusal_cause == expected);
		must(life, masked.last_refusal_ns == life->now);
		masked.refused_dials = before.refused_dials;
		masked.last_refusal_ns = before.last_refusal_ns;
		masked.last_refusal_cause = before.last_refusal_cause;
		/* That somebody wants to dial the peer is learned; compare() sees to it. */
		if (expected == CAUSE_dial_not_due) {
			life->dialed = 1;
			before.flags |= PEER_DIALED;
		}
		must(life, !memcmp(&before, &masked, sizeof(masked)));
		return;
	}
	if (expected == CAUSE_dial_not_due)
		life->dialed = 1;
	if (!had_slot && !fixture_slot(&life->peer, cookie)) {
		must(life, refused && fixture_count(&life->peer, SLOT_FREE) == 0);
		return;
	}
	must(life, fixture_slot(&life->peer, cookie) != NULL);
	socket->yields_until = socket->ack_waits = 0;
	socket->given_up = socket->answered = socket->met = 0;
	socket->syns = 0;
	socket->left = 0;
	socket->kept = (expected == CAUSE_dial_kept || beside) && life->mode == MODE_ENFORCE;
	socket->beside = beside || (again && socket->beside);
	socket->state = SOCKET_DIALING;
	socket->direction = DIRECTION_OUTBOUND;
	socket->adopted = 0;
	socket->since = life->now;
	socket->void_at = life->now + CLAIM_UNSENT_MAX_NS;
	life->dialed = 1;
	life->due = 0;
}

static void step_syn_leaves(struct life *life)
{
	__u64 cookie = any_socket(life, CLAIMS);
	struct socket *socket = &life->sockets[cookie];
	/* Near its neighbours now and then, so that ties are close. */
	__u32 isn = random_once_in(&life->random, 2) ? random_below(&life->random, 4) :
						       (__u32)random_next(&life->random);
	const struct peer before = life->peer;
	struct decision decision;
	struct dial_syn syn;

	if (!cookie)
		return;
	syn = fixture_syn(cookie, isn, life->now);
	dial_sent(&life->peer, &life->policy, &syn);
	tell(life, "the SYN of %llu is made with %#x", cookie, isn);
	if (socket->state == SOCKET_SENT) {
		/* A retransmission: the claim is as old as it was. */
		must(life, !memcmp(&before, &life->peer, sizeof(before)));
	} else {
		socket->state = SOCKET_SENT;
		socket->isn = isn;
		socket->void_at = life->now + life->policy.claim_max_ns;
	}
	if (random_once_in(&life->random, 8))
		return;
	/* The daemon has ended it by now. */
	if (life->obedient && socket->beside && how_many(life, cookie, link_counts) >= limit_of(life) &&
	    links_are_new_until(life) <= life->now)
		return;
	decision = dial_leaves(&life->peer, &life->policy, cookie, life->mode == MODE_ENFORCE,
			       life->now);
	met[decision.cause]++;
	tell(life, "and leaves: cause %d, verdict %d", decision.cause, decision.verdict);
	/* Kept: not before the backoff is over, or the link beside it new no longer, and then at once. */
	if (socket->kept && life->mode == MODE_ENFORCE &&
	    (life->next_attempt > life->now ||
	     (how_many(life, cookie, link_counts) >= limit_of(life) && links_are_new_until(life) > life->now &&
	      life->policy.tie_break == TIE_BREAK_ISN && !exempt(life)))) {
		must(life, decision.verdict == VERDICT_HOLD && decision.cause == CAUSE_none);
		return;
	}
	must(life, decision.cause == (socket->kept ? CAUSE_dial_let_go : CAUSE_none));
	must(life, decision.verdict != VERDICT_HOLD);
	if (socket->kept) {
		socket->since = life->now;
		socket->void_at = life->now + life->policy.claim_max_ns;
	}
	socket->kept = 0;
	socket->syns++;
	socket->left = life->now;
}

/* An established connection. Returns the decision's cause for those who must know. */
static void establish(struct life *life, __u64 cookie, enum link_direction direction, __u32 isn,
		      int adopted)
{
	struct socket *socket = &life->sockets[cookie];
	struct link link = fixture_link(cookie, direction, isn, life->now);
	__u32 links = how_many(life, cookie, is_link), limit = limit_of(life), silent = 0;
	__u32 unproven = how_many(life, cookie, is_unproven);
	int was_link = socket->state == SOCKET_LINKED || socket->state == SOCKET_DOOMED;
	int crossed = 0, beaten = 0, tied = 0, room;
	__u32 smallest;
	struct decision decision;
	__u64 other;

	link.adopted = adopted;
	link.mode = life->mode;
	link.round_trip_ms = random_below(&life->random, 300);
	decision = link_up(&life->peer, &life->policy, &link);
	met[decision.cause]++;
	tell(life, "socket %llu is established, direction %d, number %#x%s: cause %d, other %llu",
	     cookie, direction, isn, adopted ? ", adopted" : "", decision.cause,
	     (unsigned long long)decision.other_cookie);
	life->due = 0;
	model_life_proven(life);
	if (was_link) {
		must(life, decision.cause == CAUSE_none);
		return;
	}
	if (decision.cause == CAUSE_link_unheld) {
		must(life, socket->state == SOCKET_GONE);
		must(life, fixture_count(&life->peer, SLOT_FREE) == 0);
		return;
	}
	if (socket->state != SOCKET_SENT)
		socket->isn = isn;
	socket->yields_until = 0;
	socket->state = SOCKET_LINKED;
	socket->direction = direction;
	socket->adopted = adopted;
	socket->surplus = adopted && links >= limit && !exempt(life) && life->mode != MODE_OFF;
	socket->since = socket->heard = life->now;
	socket->new_until = 0;
	if (direction == DIRECTION_INBOUND && !adopted)
		socket->new_until = life->now + (link.round_trip_ms < 175 ? 100 * MS + 4 * MS * link.round_trip_ms :
									   800 * MS);
	socket->kept = socket->given_up = socket->answered = socket->met = 0;
	socket->unanswered = socket->stranded = 0;
	socket->doubted = 0;
	socket->stalled = 0;
	must(life, decision.verdict == VERDICT_NONE);
	must(life, decision.attempts == life->attempts);
	if (links < limit || exempt(life) || adopted || life->mode == MODE_OFF) {
		must(life, decision.cause == (socket->surplus	? CAUSE_link_surplus :
					      adopted		? CAUSE_link_adopted :
					      direction == DIRECTION_OUTBOUND ?
							CAUSE_link_outbound :
							CAUSE_link_inbound));
		must(life, !decision.other_cookie);
		return;
	}
	smallest = socket->isn;
	for (other = 1; other < life->socket_count; other++) {
		const struct socket *rival = &life->sockets[other];

		if (!link_counts(life, rival) || other == cookie)
			continue;
		if (rival->adopted || rival->direction == direction) {
			silent += !shows_life(life, rival);
			continue;
		}
		crossed++;
		beaten += rival->isn < socket->isn;
		tied += rival->isn == socket->isn;
		if (rival->isn < smallest)
			smallest = rival->isn;
	}
	other = decision.other_cookie;
	room = links - unproven < limit;
	if (room || silent) {
		must(life, decision.cause == CAUSE_link_replaced);
		must(life, one_of(life, other, cookie, room ? is_unproven : is_link));
		must(life, !shows_life(life, &life->sockets[other]));
		if (life->mode == MODE_ENFORCE)
			life->sockets[other].state = SOCKET_DOOMED;
		return;
	}
	/* Nobody is doomed, as compare() sees. */
	if (crossed && (tied || life->policy.tie_break == TIE_BREAK_NONE)) {
		must(life, decision.cause == CAUSE_link_crossed);
		must(life, one_of(life, other, cookie, link_counts));
		must(life, life->sockets[other].direction != direction);
		must(life, !life->sockets[other].adopted);
		life->tied++;
		return;
	}
	must(life, decision.cause == CAUSE_link_duplicate);
	if (beaten) {
		must(life, one_of(life, other, cookie, link_counts));
		must(life, life->sockets[other].direction != direction);
		must(life, !life->sockets[other].adopted);
		must(life, life->sockets[other].isn < socket->isn);
		must(life, life->sockets[other].isn == smallest);
	} else {
		must(life, other == cookie);
	}
	if (life->mode == MODE_ENFORCE)
		life->sockets[other].state = SOCKET_DOOMED;
	/* One too many came, one has to go: never fewer than the limit remain because of it. */
	must(life, how_many(life, 0, is_link) >= limit);
	must(life, how_many(life, 0, is_link) == links + (life->mode != MODE_ENFORCE));
	if (life->obedient && life->policy.tie_break == TIE_BREAK_ISN && !life->tied)
		must(life, how_many(life, 0, link_counts) == limit);
}

/* Their SYN; when it passes it may become a link. */
static void step_knock(struct life *life)
{
	struct knock knock = fixture_knock(random_once_in(&life->random, 2) ?
						   random_below(&life->random, 4) :
						   (__u32)random_next(&life->random),
					   life->now);
	__u32 links = how_many(life, 0, link_counts), claims = how_many(life, 0, claim_counts);
	struct peer before = life->peer, masked;
	struct decision decision, looked;
	int refused, woken = 0, beats, given_up, i;
	struct socket *claim;
	__u64 lasts, ends;

	knock.isn_known = !random_once_in(&life->random, 4);
	knock.mode = life->mode;
	knock.ends_dials = random_below(&life->random, 2);
	knock.asks = random_below(&life->random, 2);
	knock.remote_port = any_port(life);
	lasts = knock.asks && life->policy.deny_max_ns > 3 * SECOND ? 3 * SECOND :
								      life->policy.deny_max_ns;
	ends = doubt_ends_after(life, lasts);
	looked = knock_verdict(&life->peer, &life->policy, &knock);
	must(life, !memcmp(&before, &life->peer, sizeof(before)));
	decision = knock_decide(&life->peer, &life->policy, &knock);
	met[decision.cause]++;
	tell(life, "a knock with number %#x (known: %u): cause %d, other %llu", knock.client_isn,
	     knock.isn_known, decision.cause, (unsigned long long)decision.other_cookie);
	must(life, looked.cause == decision.cause || (decision.cause == CAUSE_knock_goes_first &&
						      (looked.cause == CAUSE_knock_tie_won ||
						       looked.cause == CAUSE_knock_hold_spent)));
	must(life, looked.verdict == decision.verdict &&
			   (looked.until_ns == decision.until_ns ||
			    decision.cause == CAUSE_knock_backoff) &&
			   looked.other_cookie == decision.other_cookie);
	must(life, decision.attempts == life->attempts);

	if (exempt(life)) {
		must(life, decision.cause == CAUSE_knock_exempt);
	} else if (links >= limit_of(life) && how_many(life, 0, shows_life) < limit_of(life) &&
		   ends <= life->now) {
		/* Asked for long enough: its handshake tells more. */
		must(life, decision.cause == CAUSE_knock_unproven);
		must(life, !decision.until_ns);
	} else if (links >= limit_of(life) && how_many(life, 0, shows_life) < limit_of(life)) {
		must(life, decision.cause == CAUSE_knock_suspect);
		must(life, one_of(life, decision.other_cookie, 0, link_counts));
		must(life, decision.until_ns == ends);
		/* A denial without proof is bounded. */
		must(life, decision.until_ns <= life->now + life->policy.deny_max_ns);
		must(life, !knock.asks || decision.until_ns <= life->now + 3 * SECOND);
		if (knock.isn_known)
			doubt(life);
	} else if (links >= limit_of(life)) {
		must(life, decision.cause == CAUSE_knock_linked);
		must(life, one_of(life, decision.other_cookie, 0, link_counts));
	} else if (knock.isn_known && links + claims >= limit_of(life) &&
		   how_many(life, 0, syn_is_out)) {
		must(life, one_of(life, decision.other_cookie, 0, syn_is_out));
		claim = &life->sockets[decision.other_cookie];
		/*
		 * Once, and only what loses at the other end as well; of another one the last ACK of the
		 * knock tells.
		 */
		beats = !claim->yields_until && how_many(life, 0, shows_life) >= links;
		given_up = beats && knock.ends_dials && !life->yielded &&
			   (claim->kept || knock.client_isn > claim->isn);
		if (life->policy.tie_break == TIE_BREAK_NONE) {
			given_up = 0;
			claim = NULL;
			must(life, decision.cause == CAUSE_knock_tie_open);
		} else if (claim->yields_until || claim->kept || knock.client_isn >= claim->isn) {
			must(life, decision.cause ==
					   (given_up ? CAUSE_knock_goes_first : CAUSE_knock_tie_won));
			if (claim->yields_until)
				claim = NULL;
			else
				claim->yields_until = life->now + 2 * life->policy.hold_max_ns;
		} else if (claim->since + life->policy.hold_max_ns <= life->now || life->hung_up) {
			must(life, decision.cause ==
					   (given_up ? CAUSE_knock_goes_first : CAUSE_knock_hold_spent));
			claim->yields_until = life->now + 2 * life->policy.hold_max_ns;
		} else {
			given_up = 0;
			must(life, decision.cause == CAUSE_knock_tie_lost);
			must(life, decision.until_ns == claim->since + life->policy.hold_max_ns);
			must(life, decision.until_ns > life->now);
			must(life, decision.until_ns <= life->now + life->policy.hold_max_ns);
			claim = NULL;
		}
		if (given_up) {
			life->yielded = 1;
			claim->given_up = life->mode == MODE_ENFORCE;
		}
		/* What it has met before is no part of this. */
		if (claim) {
			life->yielded_port = beats ? knock.remote_port : 0;
			claim->ack_waits = 0;
		}
	} else {
		must(life, decision.cause ==
				   (how_many(life, 0, is_link) >= limit_of(life) ? CAUSE_knock_unproven :
				    life->next_attempt > life->now		  ? CAUSE_knock_backoff :
										    CAUSE_knock_idle));
	}
	must(life, decision.verdict == (decision.cause == CAUSE_knock_linked	? VERDICT_REFUSE :
					decision.cause == CAUSE_knock_tie_lost	? VERDICT_HOLD :
					decision.cause == CAUSE_knock_suspect	? VERDICT_HOLD :
										  VERDICT_ALLOW));
	/* It ends the backoff, each once, and none before the last one of these would be over. */
	if (decision.verdict == VERDICT_ALLOW && knock.isn_known && !exempt(life)) {
		woken = life->next_attempt > life->now && life->now >= life->wake_after;
		if (decision.cause == CAUSE_knock_backoff)
			must(life, decision.until_ns == (woken ? 0 : life->next_attempt));
		else
			must(life, !decision.until_ns);
		if (woken) {
			life->wake_after = life->next_attempt;
			life->next_attempt = 0;
		}
		if (decision.cause == CAUSE_knock_unproven)
			give_links_up(life, lasts);
	}
	/* What is held is held, and counted, where the whole SYN is seen. */
	refused = decision.verdict == VERDICT_REFUSE ||
		  (decision.verdict == VERDICT_HOLD && knock.isn_known);
	life->refused_knocks += refused;

	/*
	 * Nothing but the refusal record, the notes on claims and links, and the end of the backoff
	 * (compare() sees to them): it may be spoofed.
	 */
	masked = life->peer;
	masked.refused_knocks = before.refused_knocks;
	masked.last_refusal_ns = before.last_refusal_ns;
	masked.last_refusal_cause = before.last_refusal_cause;
	masked.next_attempt_ns = before.next_attempt_ns;
	masked.wake_after_ns = before.wake_after_ns;
	masked.flags = before.flags;
	masked.yielded_port = before.yielded_port;
	for (i = 0; i < PEER_SLOTS; i++) {
		masked.slots[i].yields_until_ns = before.slots[i].yields_until_ns;
		masked.slots[i].doubted_ns = before.slots[i].doubted_ns;
		masked.slots[i].ack_waits_until_ns = before.slots[i].ack_waits_until_ns;
		masked.slots[i].flags = before.slots[i].flags;
	}
	must(life, !memcmp(&before, &masked, sizeof(masked)));

	if (decision.verdict != VERDICT_ALLOW && life->mode == MODE_ENFORCE)
		return;
	if (random_once_in(&life->random, 2))
		establish(life, new_socket(life), DIRECTION_INBOUND, knock.client_isn, 0);
}

static __u64 earlier(__u64 one, __u64 other)
{
	return one < other ? one : other;
}

/* SYN-ACK to a dial, while the table says anything of theirs; when it passes the dial is a link. */
static void step_answer(struct life *life)
{
	__u64 cookie = any_socket(life, STATE(SENT));
	struct socket *socket = &life->sockets[cookie];
	struct decision decision;
	enum cause expected = CAUSE_none;
	struct their_handshake theirs = {};

	/* A SYN that was kept is answered by nobody. */
	if (!cookie || socket->kept)
		return;
	if (random_once_in(&life->random, 2))
		theirs = fixture_theirs(random_once_in(&life->random, 2) ?
						random_below(&life->random, 4) :
						(__u32)random_next(&life->random),
					life->now + random_below(&life->random,
								 life->policy.hold_max_ns + 1));
	decision = answer_decide(&life->peer, &life->policy, &theirs, cookie, life->now);
	met[decision.cause]++;
	tell(life, "the dial of %llu is answered, theirs %#x pending for %lld ns: cause %d", cookie,
	     theirs.client_isn, theirs.until_ns ? (long long)(theirs.until_ns - life->now) : 0,
	     decision.cause);
	if (!exempt(life) && life->policy.tie_break != TIE_BREAK_NONE) {
		__u32 links = how_many(life, cookie, link_counts);
		__u32 claims = how_many(life, cookie, claim_counts);

		if (links >= limit_of(life))
			expected = CAUSE_answer_linked;
		else if (theirs.until_ns > life->now && !life->answered &&
			 (socket->yields_until ?
				  life->now < socket->yields_until :
				  links + claims + 2 > limit_of(life) &&
					  life->now - socket->since <
						  (theirs.client_isn >= socket->isn ?
							   2 * life->policy.hold_max_ns :
							   life->policy.hold_max_ns / 2)))
			expected = CAUSE_answer_tie_lost;
	}
	must(life, decision.cause == expected);
	must(life, decision.verdict == (expected == CAUSE_none ? VERDICT_ALLOW : VERDICT_HOLD));
	if (expected == CAUSE_answer_tie_lost) {
		/* The greater number waits for two round trips more. */
		if (socket->yields_until && socket->left && socket->isn > theirs.client_isn)
			socket->yields_until =
				earlier(socket->yields_until,
					life->now + (life->now - socket->left < 10 * NS_PER_MS ?
							     20 * NS_PER_MS :
							     2 * (life->now - socket->left)));
		must(life, decision.until_ns == (socket->yields_until ?
							 earlier(socket->yields_until,
								 theirs.until_ns) :
							 theirs.until_ns));
	}
	/* Whatever the mode: what would have been held is one that the peer has answered. */
	socket->answered |= decision.verdict == VERDICT_HOLD;
	if (decision.verdict == VERDICT_HOLD && life->mode == MODE_ENFORCE)
		return;
	establish(life, cookie, DIRECTION_OUTBOUND, (__u32)random_next(&life->random), 0);
}

/* A callback that comes twice, a knock let in a while ago, or a link that nobody saw come up. */
static void step_odd_link(struct life *life)
{
	__u64 cookie;

	if (random_once_in(&life->random, 3)) {
		establish(life, new_socket(life), DIRECTION_INBOUND,
			  random_below(&life->random, 4), 0);
	} else if (random_once_in(&life->random, 2)) {
		cookie = any_socket(life, LINKS);
		if (cookie)
			establish(life, cookie, life->sockets[cookie].direction,
				  (__u32)random_next(&life->random), 0);
	} else if (!life->obedient) {
		establish(life, new_socket(life),
			  random_once_in(&life->random, 2) ? DIRECTION_INBOUND :
							     DIRECTION_OUTBOUND,
			  0, 1);
	}
}

static void end(struct life *life, __u64 cookie)
{
	struct socket *socket = &life->sockets[cookie];
	struct socket was = *socket;
	__u32 others = how_many(life, cookie, link_counts);
	__u64 age = life->now - was.since;
	const struct slot_ended ended = {
		.cookie = cookie,
		.now = life->now,
		.ending = random_below(&life->random, ENDING_LOCAL + 1),
		.spoke = random_once_in(&life->random, 4),
		.random = (__u32)random_next(&life->random),
	};
	int gave_way, refused, heard, by_peer;
	struct decision decision;

	decision = slot_end(&life->peer, &life->policy, &ended);
	met[decision.cause]++;
	tell(life, "socket %llu ends as %d: cause %d, attempts %u", cookie, ended.ending,
	     decision.cause, decision.attempts);
	socket->state = SOCKET_GONE;
	switch (was.state) {
	case SOCKET_GONE:
		must(life, decision.cause == CAUSE_none);
		break;
	case SOCKET_DIALING:
		must(life, decision.cause == CAUSE_claim_closed);
		break;
	case SOCKET_SENT:
		/* The peer's refusal or its silence, nothing else. */
		gave_way = was.given_up || (was.yields_until > life->now && !life->yielded);
		refused = ended.ending == ENDING_RESET || ended.ending == ENDING_UNREACHABLE;
		heard = was.answered ||
			(ended.ending != ENDING_CLOSED && ended.ending != ENDING_SILENCE);
		if (others) {
			must(life, decision.cause == CAUSE_dial_superseded);
		} else if (gave_way) {
			must(life, decision.cause == CAUSE_dial_yielded);
		} else if (was.kept || (!refused && heard)) {
			must(life, decision.cause == CAUSE_dial_unheard);
			life->answered |= was.answered && !was.kept;
		} else if (!refused && was.syns < 2 && life->unheard + (was.syns == 1) < 3) {
			must(life, decision.cause == CAUSE_dial_unheard);
			life->unheard += was.syns == 1;
		} else {
			unsigned row = life->unheard;

			must(life, decision.cause == CAUSE_dial_failed);
			model_failure(life, was.since, ended.ending,
				      ended.ending != ENDING_RESET);
			if (!refused)
				life->unheard = row + (was.syns == 1 && row < 3);
		}
		break;
	case SOCKET_DOOMED:
		must(life, decision.cause == CAUSE_link_destroyed);
		break;
	case SOCKET_LINKED:
		by_peer = ended.ending == ENDING_PEER_CLOSED || ended.ending == ENDING_RESET;
		if (age >= life->policy.stable_after_ns) {
			life->attempts = life->unheard = 0;
			life->next_attempt = 0;
		} else if (others) {
			must(life, decision.cause == CAUSE_link_ended);
			break;
		}
		if (was.direction != DIRECTION_OUTBOUND || was.adopted) {
			must(life, decision.cause == CAUSE_link_ended);
		} else if (!by_peer || ended.spoke || age >= life->policy.min_uptime_ns) {
			must(life, decision.cause == CAUSE_link_ended);
			life->hung_up = 0;
		} else if (!life->hung_up) {
			must(life, decision.cause == CAUSE_link_short);
			life->hung_up = 1;
		} else {
			must(life, decision.cause == CAUSE_link_hung_up);
			life->hung_up = 2;
			model_failure(life, was.since, ended.ending, 0);
		}
		break;
	}
	must(life, decision.ending == (was.state == SOCKET_GONE ? ENDING_NONE : ended.ending));
	must(life, decision.verdict == VERDICT_NONE);
	must(life, decision.attempts == life->attempts);
	if (was.state == SOCKET_GONE)
		return;
	must(life, decision.direction == was.direction);
	must(life, decision.until_ns == (life->next_attempt > life->now ? life->next_attempt : 0));
}

/*
 * Any socket ends, those included that own nothing (any more): a loser must not end the winner's
 * slot.
 */
static void step_end(struct life *life)
{
	unsigned which = random_below(&life->random, 6);
	__u64 cookie = which == 0 ? any_socket(life, STATE(GONE)) :
		       which == 1 ? any_socket(life, STATE(DOOMED)) :
		       which == 2 ? any_socket(life, STATE(DIALING)) :
		       which == 3 ? any_socket(life, STATE(LINKED)) :
				    any_socket(life, STATE(SENT));

	if (cookie)
		end(life, cookie);
}

/* A segment arrives that begins beyond what has come, on a link or on what is none. */
static void step_stalls(struct life *life)
{
	__u64 cookie = any_socket(life, CLAIMS | LINKS | STATE(GONE));
	struct socket *socket = &life->sockets[cookie];

	link_stalls(&life->peer, cookie, life->now);
	tell(life, "socket %llu stalls", cookie);
	if (cookie && 1U << socket->state & LINKS && !socket->stalled)
		socket->stalled = life->now;
}

/* A valid segment arrives on a link, or on what is none. */
static void step_heard(struct life *life)
{
	__u64 cookie = any_socket(life, CLAIMS | LINKS | STATE(GONE));
	__u64 heard = life->now - random_below(&life->random, 2) * random_below(&life->random, SECOND);
	struct socket *socket = &life->sockets[cookie];

	/* Of a link that was given up something may come after all; then there are two for a while. */
	if (life->obedient && is_unproven(life, socket))
		return;
	link_heard(&life->peer, cookie, heard);
	tell(life, "socket %llu is heard", cookie);
	if (!cookie || !(1U << socket->state & LINKS) || socket->heard >= heard)
		return;
	socket->heard = heard;
	socket->unanswered = socket->stranded = 0;
	life->doubted_dial = 0;
	socket->stalled = 0;
	if (socket->doubted <= heard)
		socket->doubted = 0;
}

static void step_release(struct life *life)
{
	__u64 cookie = any_socket(life, CLAIMS | LINKS | STATE(GONE));
	int held = cookie && life->sockets[cookie].state != SOCKET_GONE;
	static const enum cause causes[] = { CAUSE_link_cut, CAUSE_link_released,
					     CAUSE_link_unguarded };
	enum cause cause = causes[random_below(&life->random, 3)];
	struct decision decision;

	decision = slot_release(&life->peer, cookie, cause, life->now);
	met[decision.cause]++;
	tell(life, "socket %llu is released: cause %d", cookie, decision.cause);
	must(life, decision.cause == (held ? cause : CAUSE_none));
	if (held)
		life->sockets[cookie].state = SOCKET_GONE;
}

static void step_expire(struct life *life)
{
	struct decision decision = claims_expire(&life->peer, life->now);
	__u64 cookie;
	int expired = 0;

	met[decision.cause]++;
	tell(life, "void claims are freed: cause %d", decision.cause);
	for (cookie = 1; cookie < life->socket_count; cookie++) {
		struct socket *socket = &life->sockets[cookie];

		if (1U << socket->state & CLAIMS && !claim_counts(life, socket)) {
			expired = 1;
			socket->state = SOCKET_GONE;
		}
	}
	must(life, decision.cause == (expired ? CAUSE_claim_expired : CAUSE_none));
}

/* What the command program does. */
static void step_command(struct life *life)
{
	int idle, leaving;

	switch (random_below(&life->random, 5)) {
	case 0:
		tell(life, "kick");
		backoff_clear(&life->peer);
		life->attempts = life->unheard = 0;
		life->next_attempt = 0;
		break;
	case 1:
		if (!peer_due(&life->peer, life->now))
			break;
		tell(life, "announced");
		must(life, life->dialed);
		life->due = life->peer.due_ns = life->now;
		break;
	case 2:
		if (life->obedient)
			break;
		life->limit = life->peer.limit = random_below(&life->random, 4);
		tell(life, "limit %u", life->limit);
		break;
	case 3:
		if (life->obedient)
			break;
		life->exempt_until = random_once_in(&life->random, 2) ?
					     0 :
					     life->now + random_below(&life->random, 5 * SECOND);
		life->peer.exempt_until_ns = life->exempt_until;
		tell(life, "exempt for %lld ns", (long long)(life->exempt_until - life->now));
		break;
	case 4:
		idle = life->next_attempt <= life->now && !exempt(life) && !life->limit &&
		       fixture_count(&life->peer, SLOT_FREE) == PEER_SLOTS;
		leaving = peer_forget(&life->peer, life->now, life->now);
		must(life, leaving == idle);
		must(life, !!(life->peer.flags & PEER_LEAVING) == leaving);
		if (leaving) {
			tell(life, "forgotten, and seen anew");
			life->peer = fixture_peer();
			life->attempts = 0;
			life->next_attempt = life->due = 0;
			model_life_proven(life);
			life->failed_at = 0;
			life->failure = ENDING_NONE;
			life->silent = life->dialed = 0;
			life->hung_up = 0;
			life->yielded_port = 0;
			life->refused_dials = life->refused_knocks = 0;
		}
		break;
	}
}

/* A SYN without an ACK meets a dial itself. */
static void step_open(struct life *life)
{
	__u64 cookie = any_socket(life, CLAIMS | LINKS | STATE(GONE));
	struct socket *socket = &life->sockets[cookie];
	struct knock knock = fixture_knock(random_below(&life->random, 4), life->now);
	enum cause expected = CAUSE_none;
	struct decision decision;

	knock.mode = life->mode;
	knock.ends_dials = random_below(&life->random, 2);
	knock.remote_port = any_port(life);
	if (cookie && socket->state == SOCKET_SENT && !exempt(life) &&
	    life->policy.tie_break == TIE_BREAK_ISN && socket->isn != knock.client_isn) {
		if (!socket->ack_waits)
			socket->ack_waits = life->now + life->policy.hold_max_ns;
		/* Longer than that it is held by nobody: TCP opens the connection from both ends. */
		if (socket->ack_waits <= life->now)
			expected = CAUSE_none;
		else if (socket->isn > knock.client_isn && !socket->kept)
			expected = CAUSE_knock_open_won;
		else if (!socket->met && !life->yielded && knock.ends_dials)
			expected = CAUSE_knock_open_met;
		else if (socket->given_up || (knock.ends_dials && !life->yielded))
			expected = CAUSE_knock_open_lost;
	}
	decision = open_decide(&life->peer, &life->policy, cookie, &knock);
	met[decision.cause]++;
	tell(life, "a SYN with %#x meets the dial of %llu: cause %d", knock.client_isn, cookie,
	     decision.cause);
	must(life, decision.cause == expected);
	must(life, decision.verdict == (expected == CAUSE_none ? VERDICT_ALLOW : VERDICT_HOLD));
	life->refused_knocks += expected != CAUSE_none;
	if (expected == CAUSE_knock_open_met)
		socket->met = life->mode == MODE_ENFORCE;
	if (expected != CAUSE_knock_open_lost)
		return;
	must(life, decision.other_cookie == cookie);
	/* Given up before, a link may have come up since. */
	life->yielded |= !socket->given_up;
	socket->given_up |= life->mode == MODE_ENFORCE;
}

static int has_given_way(const struct life *life, const struct socket *socket)
{
	return claim_counts(life, socket) && socket->yields_until;
}

static int has_waited(const struct life *life, const struct socket *socket)
{
	return socket->ack_waits && socket->ack_waits <= life->now;
}

/*
 * The last ACK of some handshake. That of the knock that a dial gave way to last ends the dial, if it has
 * not been given up before, and waits for that, a moment and no longer.
 */
static void step_last_ack(struct life *life)
{
	struct knock ack = { .now = life->now, .mode = MODE_ENFORCE };
	struct decision decision;
	struct socket *dial;
	__u64 cookie, waits;
	int may_pass;

	/* In other modes nobody asks. */
	if (life->mode != MODE_ENFORCE)
		return;
	ack.remote_port = any_port(life);
	ack.ends_dials = random_below(&life->random, 2);
	decision = last_ack_decide(&life->peer, &ack);
	met[decision.cause]++;
	tell(life, "a last ACK from %u: verdict %d, other %llu", ack.remote_port, decision.verdict,
	     (unsigned long long)decision.other_cookie);
	if (decision.verdict == VERDICT_HOLD) {
		must(life, decision.cause == CAUSE_knock_ack_waits);
		must(life, ack.remote_port == life->yielded_port);
		must(life, one_of(life, decision.other_cookie, 0, has_given_way));
		dial = &life->sockets[decision.other_cookie];
		/* Once, until a link comes up, and only where somebody ends it. */
		must(life, dial->given_up || (ack.ends_dials && !life->yielded));
		life->yielded |= !dial->given_up;
		dial->given_up = 1;
		waits = dial->ack_waits;
		if (!waits)
			waits = life->now + 5 * NS_PER_MS;
		must(life, decision.until_ns == waits && waits > life->now);
		dial->ack_waits = waits;
		return;
	}
	must(life, decision.verdict == VERDICT_ALLOW && decision.cause == CAUSE_none);
	if (ack.remote_port != life->yielded_port)
		return;
	/* Which of several dials it is of is the choice of the rules. */
	may_pass = !how_many(life, 0, has_given_way);
	for (cookie = 1; cookie < life->socket_count; cookie++) {
		dial = &life->sockets[cookie];
		if (!has_given_way(life, dial))
			continue;
		if (!dial->given_up && ack.ends_dials && !life->yielded && has_waited(life, dial) &&
		    fixture_slot(&life->peer, cookie)->flags & SLOT_GIVEN_UP) {
			/* Given up now, it has no time left to wait. */
			dial->given_up = life->yielded = 1;
			return;
		}
		may_pass |= dial->given_up ? has_waited(life, dial) :
					     !ack.ends_dials || life->yielded;
	}
	must(life, may_pass);
}

/* The daemon has asked a link in vain, or what is none. */
static void step_unanswered(struct life *life)
{
	__u64 cookie = any_socket(life, CLAIMS | LINKS | STATE(GONE));
	struct socket *socket = &life->sockets[cookie];
	int quiet = cookie && 1U << socket->state & LINKS &&
		    (socket->stranded || life->now - socket->heard >= life->policy.suspect_after_ns);
	struct decision decision;

	decision = link_unanswered(&life->peer, &life->policy, cookie, life->now);
	met[decision.cause]++;
	tell(life, "socket %llu was asked in vain: cause %d", cookie, decision.cause);
	must(life, decision.cause == (quiet ? CAUSE_link_unanswered : CAUSE_none));
	if (quiet)
		socket->unanswered = 1;
}

/* A link shall end for others that its peer has, older than the guard or not. */
static void step_trim(struct life *life)
{
	__u64 cookie = any_socket(life, CLAIMS | LINKS | STATE(GONE));
	struct socket *socket = &life->sockets[cookie];
	int surplus = cookie && is_link(life, socket) && !exempt(life) && life->mode != MODE_OFF &&
		      how_many(life, cookie, link_counts) >= limit_of(life);
	struct decision decision =
		link_trim(&life->peer, &life->policy, cookie, life->mode, life->now);

	met[decision.cause]++;
	tell(life, "socket %llu is to be trimmed: cause %d", cookie, decision.cause);
	must(life, decision.cause == (surplus ? CAUSE_link_duplicate : CAUSE_none));
	must(life, decision.other_cookie == (surplus ? cookie : 0));
	if (surplus && life->mode == MODE_ENFORCE)
		socket->state = SOCKET_DOOMED;
}

/* The own address of a link goes or comes back, or of what is none. */
static void step_stranded(struct life *life)
{
	__u64 cookie = any_socket(life, CLAIMS | LINKS | STATE(GONE));
	struct socket *socket = &life->sockets[cookie];
	int there = cookie && 1U << socket->state & LINKS;
	struct decision decision;

	if (random_once_in(&life->random, 2)) {
		decision = link_stranded(&life->peer, cookie);
		met[decision.cause]++;
		tell(life, "the address of socket %llu is gone: cause %d", cookie, decision.cause);
		must(life, decision.cause ==
				   (there && !socket->stranded ? CAUSE_link_stranded : CAUSE_none));
		if (there)
			socket->unanswered = socket->stranded = 1;
		return;
	}
	/* Another one may have taken its place; then there are two for a while. */
	if (life->obedient)
		return;
	there = there && socket->stranded;
	must(life, link_floats(&life->peer, cookie) == there);
	tell(life, "the address of socket %llu is back", cookie);
	if (there) {
		socket->unanswered = socket->stranded = 0;
		socket->doubted = 0;
	}
}

/* The service starts anew, or the network is back: now, or before what failed last. */
static void step_revive(struct life *life)
{
	__u64 revived = random_once_in(&life->random, 2) ? life->now : life->failed_at - 1;

	if (!life->failed_at)
		return;
	peer_revive(&life->peer, revived);
	tell(life, "what failed before %.6f is void", revived / 1e9);
	if (revived >= life->failed_at)
		life->next_attempt = 0;
}

/* A dial fails or is answered before its claim is void: what TCP does to every socket. */
static void end_what_tcp_ends(struct life *life)
{
	__u64 cookie;

	for (cookie = 1; cookie < life->socket_count; cookie++)
		if (1U << life->sockets[cookie].state & CLAIMS &&
		    !claim_counts(life, &life->sockets[cookie]))
			end(life, cookie);
}

static void step_time(struct life *life)
{
	static const __u64 spans[] = { NS_PER_MS / 10, 10 * NS_PER_MS, SECOND, 10 * SECOND,
				       100 * SECOND,   1000 * SECOND };
	__u64 passed = random_below(&life->random, spans[random_below(&life->random, 6)]);

	life->now += passed;
	tell(life, "%.6f s pass", passed / 1e9);
	if (life->obedient)
		end_what_tcp_ends(life);
}

static void life_begins(struct life *life, uint64_t number)
{
	memset(life, 0, sizeof(*life));
	life->random.state = seed + number * 0x632be59bd9b4e019ULL;
	life->policy = policy_defaults();
	life->policy.max_links = random_once_in(&life->random, 2) ?
					 1 :
					 random_below(&life->random, PEER_LINKS_MAX + 1);
	if (random_once_in(&life->random, 4))
		life->policy.tie_break = TIE_BREAK_NONE;
	if (random_once_in(&life->random, 4))
		life->policy.dial_policy = DIAL_POLICY_CENTRAL;
	if (random_once_in(&life->random, 4))
		life->policy.keep_dials = 0;
	if (random_once_in(&life->random, 4)) {
		life->policy.backoff_initial_ns = SECOND + random_below(&life->random, 60 * SECOND);
		life->policy.backoff_max_ns = SECOND + random_below(&life->random, 600 * SECOND);
		life->policy.hold_max_ns = NS_PER_MS + random_below(&life->random, 5 * SECOND);
		life->policy.min_uptime_ns = random_below(&life->random, 30 * SECOND);
		life->policy.stable_after_ns = random_below(&life->random, 600 * SECOND);
		life->policy.suspect_after_ns = 1 + random_below(&life->random, 60 * SECOND);
		life->policy.deny_max_ns = 1 + random_below(&life->random, 600 * SECOND);
	}
	life->obedient = random_once_in(&life->random, 2);
	life->mode = life->obedient || random_once_in(&life->random, 2) ? MODE_ENFORCE :
		     random_once_in(&life->random, 2)                   ? MODE_OBSERVE :
									  MODE_OFF;
	life->now = 100000 * SECOND;
	life->peer = fixture_peer();
	life->socket_count = 1;
}

/* After the last step, time alone must free the way: every claim ends. */
static void life_ends(struct life *life)
{
	__u64 longest = life->policy.claim_max_ns > life->policy.backoff_max_ns ?
				life->policy.claim_max_ns :
				life->policy.backoff_max_ns;
	__u64 cookie;

	life->now += longest;
	must(life, how_many(life, 0, claim_counts) == 0);
	must(life, dial_of_nobody(life).cause != CAUSE_dial_dialing);
	must(life, dial_of_nobody(life).cause != CAUSE_dial_backoff);
	must(life, dial_of_nobody(life).cause != CAUSE_dial_kept);
	step_expire(life);
	/* A link that nobody hears of refuses nobody for longer than deny_max. */
	life->now += life->policy.suspect_after_ns;
	if (how_many(life, 0, link_counts) >= limit_of(life)) {
		links_doubt(&life->peer, &life->policy, life->now);
		life->now += life->policy.deny_max_ns;
		must(life, dial_of_nobody(life).verdict == VERDICT_ALLOW);
	}
	for (cookie = 1; cookie < life->socket_count; cookie++)
		if (1U << life->sockets[cookie].state & LINKS)
			end(life, cookie);
	must(life, fixture_count(&life->peer, SLOT_FREE) == PEER_SLOTS);
}

static void peer_and_model_agree(void **state)
{
	static struct life life;
	uint64_t number, step;
	enum cause cause;

	(void)state;
	for (number = 0; number < steps / STEPS_PER_LIFE; number++) {
		life_begins(&life, number);
		for (step = 0; step < STEPS_PER_LIFE; step++) {
			switch (random_below(&life.random, 19)) {
			case 0 ... 2:
				step_dial(&life);
				break;
			case 3 ... 4:
				step_syn_leaves(&life);
				break;
			case 5 ... 6:
				step_knock(&life);
				break;
			case 7 ... 8:
				step_answer(&life);
				break;
			case 9 ... 10:
				step_end(&life);
				break;
			case 11:
				step_odd_link(&life);
				break;
			case 12:
				if (random_once_in(&life.random, 4))
					step_release(&life);
				else if (random_once_in(&life.random, 4))
					step_expire(&life);
				else if (random_once_in(&life.random, 4))
					step_stalls(&life);
				else
					step_heard(&life);
				break;
			case 13:
				if (random_once_in(&life.random, 2))
					step_command(&life);
				else if (random_once_in(&life.random, 4))
					step_revive(&life);
				break;
			case 14:
				step_last_ack(&life);
				break;
			case 15:
				step_open(&life);
				break;
			case 16:
				if (random_once_in(&life.random, 4))
					step_unanswered(&life);
				else if (random_once_in(&life.random, 8))
					step_trim(&life);
				else if (random_once_in(&life.random, 8))
					step_stranded(&life);
				break;
			default:
				step_time(&life);
				break;
			}
			compare(&life);
		}
		life_ends(&life);
	}
	print_message("%" PRIu64 " steps in %" PRIu64 " lives\n", number * STEPS_PER_LIFE, number);
	/* What the steps never come to they say nothing about. */
	for (cause = 0; cause < CAUSE_COUNT && steps >= DEFAULT_STEPS; cause++) {
		switch (cause) {
		case CAUSE_knock_pending: /* of the table of handshakes, below */
		case CAUSE_dial_recycled: /* of the hooks, the command program and the daemon */
		case CAUSE_link_spared:
		case CAUSE_peer_kicked:
		case CAUSE_peer_due:
		case CAUSE_service_started:
		case CAUSE_network_back:
		case CAUSE_host_resumed:
			break;
		default:
			if (!met[cause])
				fail_msg("no step came to %s", world_cause(cause));
		}
	}
}

/* ---- one element of the table of handshakes -------------------------------------------------- */

#define ADDRESSES 3
#define PORTS 12
#define STEPS_PER_ELEMENT 500

/* What an element should know, told in sets instead of places. */
struct element {
	int owner; /* address; -1: nobody yet */
	__u16 port;
	__u32 isn;
	__u64 let_in;
	__u64 until;
	__u64 forgotten_at;
	int acknowledged; /* its last ACK waits */
	int held[PORTS + 1]; /* by port */
	int held_ports;
};

static void element_syn(struct pending_handshake *pending, struct element *model,
			const struct guard_policy *policy, struct seeded_random *random, __u64 now)
{
	int who = random_below(random, ADDRESSES);
	const struct peer_address address = address_from_ipv4(1 + who);
	__u16 port = 1 + random_below(random, PORTS);
	__u32 isn = (__u32)random_next(random), room = random_below(random, 8) ? 1 : 2;
	struct pending_handshake before = *pending;
	struct decision decision;

	decision = handshake_decide(pending, &address, policy, port, isn, room, now);
	if (model->until > now) {
		if (model->owner != who || model->port == port || room > 1) {
			assert_int_equal(decision.cause, CAUSE_knock_idle);
			assert_int_equal(decision.verdict, VERDICT_ALLOW);
			assert_memory_equal(&before, pending, sizeof(before));
			return;
		}
		if (model->forgotten_at <= now) {
			memset(model->held, 0, sizeof(model->held));
			model->held_ports = 0;
			model->forgotten_at = now + 2 * policy->hold_max_ns;
		}
		if (model->acknowledged || (!model->held[port] && model->held_ports < HELD_PORTS)) {
			if (!model->held[port] && model->held_ports < HELD_PORTS) {
				model->held[port] = 1;
				model->held_ports++;
			}
			assert_int_equal(decision.cause, CAUSE_knock_pending);
			assert_int_equal(decision.verdict, VERDICT_HOLD);
			assert_int_equal(decision.until_ns, model->until);
			return;
		}
		assert_int_equal(decision.cause, CAUSE_knock_hold_spent);
	} else {
		assert_int_equal(decision.cause, CAUSE_knock_idle);
	}
	assert_int_equal(decision.verdict, VERDICT_ALLOW);
	model->owner = who;
	model->port = port;
	model->isn = isn;
	model->acknowledged = 0;
	model->let_in = now;
	model->until = now + policy->hold_max_ns;
}

/* The last ACK of some handshake has come and waits: one that is over, or is another one, it says nothing of. */
static void element_waits(struct pending_handshake *pending, struct element *model,
			  const struct guard_policy *policy, struct seeded_random *random, __u64 now)
{
	int who = random_once_in(random, 2) && model->owner >= 0 ? model->owner :
								   (int)random_below(random, ADDRESSES);
	const struct peer_address address = address_from_ipv4(1 + who);
	__u16 port = random_once_in(random, 2) ? model->port : 1 + random_below(random, PORTS);
	struct pending_handshake before = *pending;

	handshake_waits(pending, &address, policy, port, now);
	if (who != model->owner || port != model->port || model->until <= now) {
		assert_memory_equal(&before, pending, sizeof(before));
		return;
	}
	model->acknowledged = 1;
	model->until = now + 2 * policy->hold_max_ns;
}

static void element_compare(const struct pending_handshake *pending, const struct element *model,
			    __u64 now)
{
	int who;

	for (who = 0; who < ADDRESSES; who++) {
		const struct peer_address address = address_from_ipv4(1 + who);
		struct their_handshake theirs = handshake_pending(pending, &address, now);
		int known = model->owner == who && model->until > now;

		assert_int_equal(theirs.until_ns, known ? model->until : 0);
		assert_int_equal(theirs.client_isn, known ? model->isn : 0);
	}
}

static void element_and_model_agree(void **state)
{
	uint64_t number, step;

	(void)state;
	for (number = 0; number < steps / STEPS_PER_ELEMENT; number++) {
		struct seeded_random random = { .state = seed + number };
		struct guard_policy policy = policy_defaults();
		struct pending_handshake pending = {};
		struct element model = { .owner = -1 };
		__u64 now = 1000 * SECOND;

		for (step = 0; step < STEPS_PER_ELEMENT; step++) {
			now += random_below(&random, random_once_in(&random, 4) ? 2 * SECOND :
										  SECOND / 20);
			if (random_once_in(&random, 8)) {
				int who = random_below(&random, ADDRESSES);
				const struct peer_address address = address_from_ipv4(1 + who);
				__u16 port = random_once_in(&random, 2) ?
						     model.port :
						     1 + random_below(&random, PORTS);

				handshake_done(&pending, &address, port);
				if (who == model.owner && port == model.port)
					model.until = 0;
			} else if (random_once_in(&random, 16)) {
				element_waits(&pending, &model, &policy, &random, now);
			} else if (random_once_in(&random, 16)) {
				__u64 started = now - random_below(&random, SECOND);

				handshake_forget_before(&pending, started);
				if (model.let_in <= started)
					model.until = 0;
			} else {
				element_syn(&pending, &model, &policy, &random, now);
			}
			element_compare(&pending, &model, now);
		}
	}
}

/* ---- two hosts ------------------------------------------------------------------------------- */

#define MILLISECONDS(number) ((number) * NS_PER_MS)
#define SECONDS(number) ((number) * NS_PER_SECOND)

struct expected_meeting {
	struct scenario scenario;
	int single;  /* no application of either host ever sees two links */
	int single_at_guarded; /* the application of host 0 never does */
	int steady;  /* no application ever loses its last link */
	unsigned lost_one_in; /* it may be lost in one of so many meetings; 0: in any, unless steady */
	int tied;    /* two links may be left, the same at both ends; else one */
	__u64 linked_within_ns; /* of what was out, both have a link from then on; 0: nothing is promised */
};

static const struct expected_meeting meetings[] = {
	{
		.scenario = { .name = "both guarded, in order",
			      .guarded = { 1, 1 },
			      .delay_max_ns = MILLISECONDS(500),
			      .lasts_ns = SECONDS(10) },
		.single = 1,
		.steady = 1,
	},
	{
		.scenario = { .name = "one guarded, in order",
			      .guarded = { 1, 0 },
			      .delay_max_ns = MILLISECONDS(450), /* round trips below the second of a SYN */
			      .lasts_ns = SECONDS(10) },
		.single = 1,
		.steady = 1,
	},
	{
		.scenario = { .name = "both guarded, reordering",
			      .guarded = { 1, 1 },
			      .reordering = 1,
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(10) },
		.single = 1,
		.steady = 1,
	},
	{
		.scenario = { .name = "one guarded, reordering",
			      .guarded = { 1, 0 },
			      .reordering = 1,
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(10) },
		.single = 1,
		.steady = 1,
	},
	/* A round trip longer than hold_max: two links are seen, never none is left. */
	{
		.scenario = { .name = "both guarded, in order, up to 2 s one way",
			      .guarded = { 1, 1 },
			      .delay_max_ns = SECONDS(2),
			      .lasts_ns = SECONDS(30) },
		.steady = 1,
	},
	{
		.scenario = { .name = "one guarded, in order, up to 2 s one way",
			      .guarded = { 1, 0 },
			      .delay_max_ns = SECONDS(2),
			      .lasts_ns = SECONDS(30) },
		.steady = 1,
	},
	{
		.scenario = { .name = "both guarded, reordering, up to 2 s one way",
			      .guarded = { 1, 1 },
			      .reordering = 1,
			      .delay_max_ns = SECONDS(2),
			      .lasts_ns = SECONDS(30) },
	},
	/* No redials: the first crossing has to come out well. */
	{
		.scenario = { .name = "both guarded, the SYNs of one are eaten",
			      .guarded = { 1, 1 },
			      .eaten_syns = 1,
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(10) },
		.single = 1,
		.steady = 1,
	},
	{
		.scenario = { .name = "one guarded, its SYNs are eaten",
			      .guarded = { 1, 0 },
			      .eaten_syns = 1,
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(10) },
		.single = 1,
		.steady = 1,
	},
	{
		.scenario = { .name = "both guarded, no daemon",
			      .guarded = { 1, 1 },
			      .daemon_dead = 1,
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(10) },
		.single = 1,
		.steady = 1,
	},
	{
		.scenario = { .name = "both guarded, spoofed SYNs",
			      .guarded = { 1, 1 },
			      .spoofed_syns = 1,
			      .redials = 1,
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(10) },
		.steady = 1,
	},
	{
		.scenario = { .name = "one guarded, spoofed SYNs",
			      .guarded = { 1, 0 },
			      .spoofed_syns = 1,
			      .redials = 1,
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(10) },
		.steady = 1,
	},
	/* No loser: two links may stay. No redials, which would hide that none was left. */
	{
		.scenario = { .name = "both guarded, equal client numbers",
			      .guarded = { 1, 1 },
			      .equal_numbers = 1,
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(20) },
		.steady = 1,
		.tied = 1,
	},
	{
		.scenario = { .name = "both guarded, equal client numbers, up to 2 s one way",
			      .guarded = { 1, 1 },
			      .equal_numbers = 1,
			      .delay_max_ns = SECONDS(2),
			      .lasts_ns = SECONDS(30) },
		.steady = 1,
		.tied = 1,
	},
	{
		.scenario = { .name = "one guarded, equal client numbers",
			      .guarded = { 1, 0 },
			      .equal_numbers = 1,
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(20) },
		.single = 1,
		.steady = 1,
	},
	{
		.scenario = { .name = "both guarded, a tenth is lost",
			      .guarded = { 1, 1 },
			      .loss_percent = 10,
			      .redials = 1,
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(60) },
	},
	{
		.scenario = { .name = "one guarded, a tenth is lost",
			      .guarded = { 1, 0 },
			      .loss_percent = 10,
			      .redials = 1,
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(60) },
	},
	/*
	 * The retransmission of an old dial crosses fresh ones when the cable is back. Of two ends
	 * that both give way one comes through a second later, in time for round trips of up to half
	 * a second.
	 */
	{
		.scenario = { .name = "both guarded, the cable was out",
			      .guarded = { 1, 1 },
			      .cable_out_ns = SECONDS(3),
			      .delay_max_ns = MILLISECONDS(200),
			      .lasts_ns = SECONDS(20) },
		.single = 1,
		.steady = 1,
	},
	{
		.scenario = { .name = "one guarded, the cable was out",
			      .guarded = { 1, 0 },
			      .cable_out_ns = SECONDS(3),
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(20) },
		.single_at_guarded = 1,
		.steady = 1,
	},
	/* The other end stacks its dials; each is held once while the first of them is pending. */
	{
		.scenario = { .name = "one guarded, in order, two to eight dials stacked",
			      .guarded = { 1, 0 },
			      .stacked_dials = 1 + HELD_PORTS,
			      .delay_max_ns = MILLISECONDS(400),
			      .lasts_ns = SECONDS(10) },
		.single = 1,
		.steady = 1,
	},
	/* Links end by its application's will; redials, for it may close the only one. */
	{
		.scenario = { .name = "the same, and it closes newcomers while it dials",
			      .guarded = { 1, 0 },
			      .stacked_dials = 1 + HELD_PORTS,
			      .closes_newcomers = { 0, 1 },
			      .redials = 1,
			      .delay_max_ns = MILLISECONDS(400),
			      .lasts_ns = SECONDS(60) },
		.single_at_guarded = 1,
	},
	/*
	 * A round trip longer than the second after which a SYN is sent again: held once, it passes
	 * beside the first one, and two links are seen.
	 */
	{
		.scenario = { .name = "one guarded, in order, two to eight dials stacked, to 1.1 s",
			      .guarded = { 1, 0 },
			      .stacked_dials = 1 + HELD_PORTS,
			      .delay_max_ns = MILLISECONDS(500),
			      .lasts_ns = SECONDS(10) },
		.steady = 1,
	},
	{
		.scenario = { .name = "the same, and it closes newcomers while it dials",
			      .guarded = { 1, 0 },
			      .stacked_dials = 1 + HELD_PORTS,
			      .closes_newcomers = { 0, 1 },
			      .redials = 1,
			      .delay_max_ns = MILLISECONDS(500),
			      .lasts_ns = SECONDS(60) },
	},
	/* More than can be held at a time. */
	{
		.scenario = { .name = "one guarded, in order, two to twelve dials stacked",
			      .guarded = { 1, 0 },
			      .stacked_dials = 5 + HELD_PORTS,
			      .delay_max_ns = MILLISECONDS(400),
			      .lasts_ns = SECONDS(10) },
		.steady = 1,
	},
	/*
	 * An application that refuses inbound while it dials ends with a link, and next to never loses one
	 * on the way: the loser is ended before the winner's handshake is complete. What is left is a SYN
	 * that leaves in the tenth of a millisecond after their SYN was let in.
	 */
	{
		.scenario = { .name = "both guarded, both close newcomers while they dial",
			      .guarded = { 1, 1 },
			      .closes_newcomers = { 1, 1 },
			      .redials = 1,
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(30) },
		.single = 1,
		.lost_one_in = 1000,
		.linked_within_ns = SECONDS(5),
	},
	/*
	 * A link that was hung up on for whatever reason (the peer's service was stopped, say) says nothing of
	 * dials that cross: no redials, which would hide that both were given up.
	 */
	{
		.scenario = { .name = "both guarded, one was hung up on before",
			      .guarded = { 1, 1 },
			      .hung_up_on = { 1, 0 },
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(10) },
		.single = 1,
		.steady = 1,
		.linked_within_ns = SECONDS(5),
	},
	{
		.scenario = { .name = "both guarded, both were hung up on before",
			      .guarded = { 1, 1 },
			      .hung_up_on = { 1, 1 },
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(10) },
		.single = 1,
		.steady = 1,
		.linked_within_ns = SECONDS(5),
	},
	/* Where the other end has no guard it closes what it has accepted, again and again by chance. */
	{
		.scenario = { .name = "one guarded, both close newcomers while they dial",
			      .guarded = { 1, 0 },
			      .closes_newcomers = { 1, 1 },
			      .redials = 1,
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(60) },
		.linked_within_ns = SECONDS(40),
	},
	/*
	 * What was out comes back, and within the three seconds after it the dials of host 1 begin. Kept
	 * dials, failures and whoever sends SYNs in between keep nobody from a link for longer than that,
	 * and a retransmission.
	 */
	{
		.scenario = { .name = "both guarded, the cable out 20 s, time-outs of 5 s",
			      .guarded = { 1, 1 },
			      .cable_out_ns = SECONDS(20),
			      .redials = 1,
			      .redials_at_once = 1,
			      .dial_timeout_ns = SECONDS(5),
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(80) },
		.linked_within_ns = SECONDS(5),
	},
	{
		.scenario = { .name = "both guarded, the cable out 20 s, backoffs of 10 to 300 s",
			      .guarded = { 1, 1 },
			      .cable_out_ns = SECONDS(20),
			      .redials = 1,
			      .redials_at_once = 1,
			      .dial_timeout_ns = SECONDS(5),
			      .backoff_initial_ns = SECONDS(10),
			      .backoff_max_ns = SECONDS(300),
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(80) },
		.linked_within_ns = SECONDS(5),
	},
	{
		.scenario = { .name = "both guarded, the cable out 20 s, time-outs of half a second",
			      .guarded = { 1, 1 },
			      .cable_out_ns = SECONDS(20),
			      .redials = 1,
			      .redials_at_once = 1,
			      .dial_timeout_ns = MILLISECONDS(500),
			      .delay_max_ns = MILLISECONDS(100),
			      .lasts_ns = SECONDS(80) },
		.linked_within_ns = SECONDS(5),
	},
	{
		.scenario = { .name = "both guarded, the cable out 20 s, both close newcomers",
			      .guarded = { 1, 1 },
			      .cable_out_ns = SECONDS(20),
			      .closes_newcomers = { 1, 1 },
			      .redials = 1,
			      .redials_at_once = 1,
			      .dial_timeout_ns = SECONDS(5),
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(80) },
		.lost_one_in = 100,
		.linked_within_ns = SECONDS(8),
	},
	{
		.scenario = { .name = "both guarded, the service of one out 20 s",
			      .guarded = { 1, 1 },
			      .service_out_ns = SECONDS(20),
			      .redials = 1,
			      .redials_at_once = 1,
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(80) },
		.linked_within_ns = SECONDS(5),
	},
	{
		.scenario = { .name = "one guarded, the cable out 20 s, time-outs of 5 s",
			      .guarded = { 1, 0 },
			      .cable_out_ns = SECONDS(20),
			      .redials = 1,
			      .redials_at_once = 1,
			      .dial_timeout_ns = SECONDS(5),
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(80) },
		.linked_within_ns = SECONDS(5),
	},
	{
		.scenario = { .name = "both guarded, the cable out 20 s, spoofed SYNs",
			      .guarded = { 1, 1 },
			      .cable_out_ns = SECONDS(20),
			      .spoofed_syns = 1,
			      .redials = 1,
			      .redials_at_once = 1,
			      .dial_timeout_ns = SECONDS(5),
			      .delay_max_ns = MILLISECONDS(250),
			      .lasts_ns = SECONDS(80) },
		.linked_within_ns = SECONDS(8),
	},
};

static void meeting_failed(const struct scenario *scenario, uint64_t world_seed, const char *what)
{
	static struct world world;

	print_error("%s: %s\n", scenario->name, what);
	world_begin(&world, scenario, world_seed, 1);
	world_run(&world);
	fail_msg("repeat with CONNGUARD_SEED=%" PRIu64 " CONNGUARD_STEPS=%" PRIu64, seed, steps);
}

/*
 * Both ends dial, one to three times each. At the end both have one link, the same one, whatever
 * happened; after a tie that names no loser they have one or two, the same ones, never none.
 */
static void two_hosts_end_with_one_link(void **state)
{
	static struct world world;
	uint64_t number, each = steps / STEPS_PER_MEETING;
	size_t i;

	(void)state;
	print_message("of %" PRIu64 " meetings: in how many an application saw two links, a "
		      "guarded one did, one lost its last, one keeps two; latest change; linked for "
		      "good, counted from when what was out is back\n",
		      each);
	for (i = 0; i < sizeof(meetings) / sizeof(meetings[0]); i++) {
		const struct expected_meeting *expected = &meetings[i];
		const __u64 back_ns = WORLD_BEGINS + expected->scenario.cable_out_ns +
				      expected->scenario.service_out_ns;
		uint64_t doubled = 0, guarded = 0, lost = 0, kept = 0;
		__u64 latest = 0, linkless = back_ns;

		for (number = 0; number < each; number++) {
			uint64_t world_seed = seed + i * 0x100000001b3ULL + number * 0x9e3779b1ULL;
			int seen_two, lost_all, host, links, at_guarded = 0;

			world_begin(&world, &expected->scenario, world_seed, 0);
			world_run(&world);
			assert_false(world.overflowed);
			seen_two = world.hosts[0].most_links > 1 || world.hosts[1].most_links > 1;
			lost_all = world.hosts[0].lost_all || world.hosts[1].lost_all;
			doubled += seen_two;
			for (host = 0; host < 2; host++)
				at_guarded |= world.hosts[host].guarded &&
					      world.hosts[host].most_links > 1;
			guarded += at_guarded;
			lost += lost_all;
			for (host = 0; host < 2; host++) {
				if (world.hosts[host].latest_change_ns > latest)
					latest = world.hosts[host].latest_change_ns;
				if (world.hosts[host].linkless_until_ns > linkless)
					linkless = world.hosts[host].linkless_until_ns;
			}
			links = world_links(&world);
			kept += links == 2;
			if (links != 1 && !(expected->tied && links == 2))
				meeting_failed(&expected->scenario, world_seed,
					       expected->tied ?
						       "not the same one or two links" :
						       "not one link at both ends");
			if (expected->single && seen_two)
				meeting_failed(&expected->scenario, world_seed,
					       "two links were seen");
			if (expected->single_at_guarded && world.hosts[0].most_links > 1)
				meeting_failed(&expected->scenario, world_seed,
					       "two links were seen at the guarded host");
			if (expected->linked_within_ns &&
			    linkless > back_ns + expected->linked_within_ns)
				meeting_failed(&expected->scenario, world_seed,
					       "without a link for too long");
			if (expected->steady && lost_all)
				meeting_failed(&expected->scenario, world_seed,
					       "the last link was lost");
		}
		if (expected->lost_one_in && lost > 1 + each / expected->lost_one_in)
			fail_msg("%s: the last link was lost in %" PRIu64 " of %" PRIu64 " meetings",
				 expected->scenario.name, lost, each);
		print_message("%6" PRIu64 " %6" PRIu64 " %6" PRIu64 " %6" PRIu64
			      "  %5.1f s  %5.1f s  %s\n",
			      doubled, guarded, lost, kept, (double)(latest - WORLD_BEGINS) / 1e9,
			      (double)(linkless - back_ns) / 1e9, expected->scenario.name);
	}
}

/*
 * A peer that is not there, and an application that dials again as soon as its dial has ended: a dial a
 * step, and with SYNs in the peer's name, fifty a second, one more. Of one that gives up before a second SYN, or
 * soon after a dial that was kept is let go, the first two are none of the steps.
 */
static void dead_peer_gets_few_syns(void **state)
{
	static const struct {
		__u64 timeout_ns; /* 0: TCP's */
		int syns;         /* of a step, at most */
	} applications[] = {
		{ MILLISECONDS(500), 1 },
		{ MILLISECONDS(1500), 2 },
		{ SECONDS(5), 5 },
		{ 0, 7 },
	};
	static struct world world;
	const __u64 lasts_ns = SECONDS(120);
	/* 1, 2, 4, 8, 16 s and then 30, less a fifth: the fifth of them ends after 24 s. */
	const int steps_max = 5 + 1 + (int)((lasts_ns - SECONDS(24)) / SECONDS(24));
	uint64_t number, each = steps / STEPS_PER_MEETING / 100 + 1;
	size_t i;

	(void)state;
	for (i = 0; i < 2 * sizeof(applications) / sizeof(applications[0]); i++) {
		const int spoofed = i % 2;
		const struct scenario scenario = {
			.name = spoofed ? "a dead peer, spoofed SYNs" : "a dead peer",
			.guarded = { 1, 0 },
			.dead = 1,
			.spoofed_syns = spoofed,
			.redials = 1,
			.redials_at_once = 1,
			.dial_timeout_ns = applications[i / 2].timeout_ns,
			.backoff_initial_ns = SECONDS(1),
			.backoff_max_ns = SECONDS(30),
			.delay_max_ns = MILLISECONDS(50),
			.lasts_ns = lasts_ns,
		};
		const int most = (steps_max * applications[i / 2].syns + UNHEARD_DIALS - 1) * (1 + spoofed);
		int worst = 0, kept = 0;

		for (number = 0; number < each; number++) {
			world_begin(&world, &scenario, seed + number, 0);
			world_run(&world);
			assert_false(world.overflowed);
			worst = world.hosts[0].syns > worst ? world.hosts[0].syns : worst;
			kept += world.hosts[0].dials_kept;
			if (world.hosts[0].syns > most) {
				world_begin(&world, &scenario, seed + number, 1);
				world_run(&world);
				fail_msg("%s, time-outs of %.1f s: %d SYNs in two minutes, %d expected at most",
					 scenario.name, scenario.dial_timeout_ns / 1e9,
					 world.hosts[0].syns, most);
			}
		}
		assert_true(kept > 0 || !scenario.dial_timeout_ns);
		print_message("%6d SYNs in two minutes at most  %s, time-outs of %.1f s\n", worst,
			      scenario.name, scenario.dial_timeout_ns / 1e9);
	}
}

/* The simulation can fail: without a guard crossing dials leave more than one link. */
static void unguarded_hosts_end_with_several(void **state)
{
	static const struct scenario unguarded = {
		.name = "none guarded",
		.delay_max_ns = MILLISECONDS(250),
		.lasts_ns = SECONDS(10),
	};
	static struct world world;
	int number, single = 0;

	(void)state;
	for (number = 0; number < 100; number++) {
		world_begin(&world, &unguarded, seed + number, 0);
		world_run(&world);
		single += world_links(&world) == 1;
		assert_true(host_links(&world, 0) >= 1);
	}
	assert_int_equal(single, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(peer_and_model_agree),
		cmocka_unit_test(element_and_model_agree),
		cmocka_unit_test(two_hosts_end_with_one_link),
		cmocka_unit_test(dead_peer_gets_few_syns),
		cmocka_unit_test(unguarded_hosts_end_with_several),
	};

	seed = number_from_environment("CONNGUARD_SEED", DEFAULT_SEED);
	steps = number_from_environment("CONNGUARD_STEPS", DEFAULT_STEPS);
	printf("CONNGUARD_SEED=%" PRIu64 " CONNGUARD_STEPS=%" PRIu64 "\n", seed, steps);
	return cmocka_run_group_tests_name("rules over time", tests, NULL, NULL);
}
