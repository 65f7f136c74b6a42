/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of the rules: every cell of the table of a peer's states that rules.h implements, every
 * transition, and every cause that a rule can give.
 *
 * One peer, one thread, made-up time. Knows no map, hook or socket; what the rules do together over
 * time and against a second host is test_rules_property.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "rules_fixture.h"

#define SECOND NS_PER_SECOND
#define MILLISECOND NS_PER_MS
/* When the tests happen; late enough that "an hour ago" is a time. */
#define NOW (10000 * SECOND)
/* The client number of our dial in the tests of the tie-break. */
#define OUR_ISN 1000U
/* No jitter: backoff_step() takes nothing away. */
#define NO_JITTER 0U
#define ITEMS(array) (sizeof(array) / sizeof((array)[0]))

/* ---- every cause is produced ----------------------------------------------------------------- */

static int seen[CAUSE_COUNT];

/* Pass a decision on and remember its cause. */
static struct decision saw(struct decision decision)
{
	assert_in_range(decision.cause, 0, CAUSE_COUNT - 1);
	seen[decision.cause]++;
	return decision;
}

static const char *cause_name(enum cause cause)
{
	static const char *const names[] = {
#define CAUSE_NAME(name, subject, verdict, text) #name,
		CONNGUARD_CAUSES(CAUSE_NAME)
#undef CAUSE_NAME
	};

	return names[cause];
}

/* The verdict that causes.h promises for a cause. */
static enum verdict cause_verdict(enum cause cause)
{
	static const enum verdict verdicts[] = {
#define CAUSE_VERDICT(name, subject, verdict, text) VERDICT_##verdict,
		CONNGUARD_CAUSES(CAUSE_VERDICT)
#undef CAUSE_VERDICT
	};

	return verdicts[cause];
}

static void check_cause(struct decision decision, enum cause expected, const char *file, int line)
{
	saw(decision);
	if (decision.cause != expected) {
		print_error("%s:%d: cause %s, expected %s\n", file, line,
			    cause_name(decision.cause), cause_name(expected));
		fail();
	}
	/* The answer that may complete has no cause of its own. */
	if (expected != CAUSE_none)
		assert_int_equal(decision.verdict, cause_verdict(expected));
}

#define assert_cause(decision, expected) check_cause(decision, expected, __FILE__, __LINE__)

/* The defaults, with backoffs that double: 1 s, 2 s and so on, up to 30 s. */
static struct guard_policy steps_policy(void)
{
	struct guard_policy policy = policy_defaults();

	policy.backoff_initial_ns = SECOND;
	policy.backoff_max_ns = 30 * SECOND;
	return policy;
}

/* ---- ordinary steps -------------------------------------------------------------------------- */

/* The SYN of the dial is ready to leave. */
static void sent(struct peer *peer, const struct guard_policy *policy, __u64 cookie, __u32 isn,
		 __u64 now)
{
	struct dial_syn syn = fixture_syn(cookie, isn, now);

	dial_sent(peer, policy, &syn);
}

/* A SYN of the dial is about to leave the host, in enforce mode. */
static struct decision leaves(struct peer *peer, const struct guard_policy *policy, __u64 cookie,
			      __u64 now)
{
	return saw(dial_leaves(peer, policy, cookie, 1, now));
}

static struct decision ends(struct peer *peer, const struct guard_policy *policy, __u64 cookie,
			    enum ending ending, __u64 now)
{
	struct slot_ended end = fixture_end(cookie, ending, now);

	return saw(slot_end(peer, policy, &end));
}

/* May a dial pass? Of this socket; 0: of one yet to be made. Looks only. */
static struct decision looks(const struct peer *peer, const struct guard_policy *policy,
			     __u64 cookie, __u64 now)
{
	struct dial dial = fixture_dial(cookie, now);

	return dial_verdict(peer, policy, &dial);
}

/*
 * SYN-ACK to the dial: all that may change is the note on its claim that an answer was held, and that none is
 * for so long any more.
 */
static struct decision answers(struct peer *peer, const struct guard_policy *policy,
			       const struct their_handshake *theirs, __u64 cookie, __u64 now)
{
	struct peer before = *peer;
	struct decision decision = saw(answer_decide(peer, policy, theirs, cookie, now));
	struct slot *claim = slot_of(&before, cookie);

	if (decision.cause == CAUSE_answer_tie_lost && claim->client_isn > theirs->client_isn &&
	    decision.until_ns < claim->yields_until_ns)
		claim->yields_until_ns = decision.until_ns;
	if (claim && decision.verdict == VERDICT_HOLD)
		claim->flags |= SLOT_ANSWERED;
	assert_memory_equal(&before, peer, sizeof(before));
	return decision;
}

/* A claim whose SYN left. */
static void arrange_claim(struct peer *peer, const struct guard_policy *policy, __u64 cookie,
			  __u32 isn, __u64 now)
{
	struct dial dial = fixture_dial(cookie, now);

	dial.mode = MODE_OFF; /* leaves no refusal record */
	saw(dial_claim(peer, policy, &dial));
	sent(peer, policy, cookie, isn, now);
	dial_leaves(peer, policy, cookie, 0, now);
	assert_non_null(fixture_slot(peer, cookie));
}

/* A claim whose SYN waits for the end of a backoff that follows from silence. */
static void arrange_kept_claim(struct peer *peer, const struct guard_policy *policy, __u64 cookie,
			       __u64 now)
{
	struct dial dial = fixture_dial(cookie, now);
	const __u64 next_attempt_ns = peer->next_attempt_ns;

	if (!next_attempt_ns)
		peer->next_attempt_ns = now + SECOND;
	peer->flags |= PEER_SILENT;
	assert_int_equal(saw(dial_claim(peer, policy, &dial)).cause, CAUSE_dial_kept);
	sent(peer, policy, cookie, OUR_ISN, now);
	assert_int_equal(leaves(peer, policy, cookie, now).verdict, VERDICT_HOLD);
	peer->next_attempt_ns = next_attempt_ns;
}

static void arrange_unsent_claim(struct peer *peer, const struct guard_policy *policy,
				 __u64 cookie, __u64 now)
{
	struct dial dial = fixture_dial(cookie, now);

	dial.mode = MODE_OFF;
	saw(dial_claim(peer, policy, &dial));
	assert_non_null(fixture_slot(peer, cookie));
}

/* A link; never one too many, whatever the policy of the test says. */
static void arrange_link(struct peer *peer, __u64 cookie, enum link_direction direction, __u32 isn,
			 __u64 now)
{
	struct guard_policy policy = steps_policy();
	struct link link = fixture_link(cookie, direction, isn, now);

	link.mode = MODE_OFF; /* dooms nobody */
	saw(link_up(peer, &policy, &link));
	assert_non_null(fixture_slot(peer, cookie));
}

static struct decision up(struct peer *peer, const struct guard_policy *policy, __u64 cookie,
			  enum link_direction direction, __u32 isn, __u64 now)
{
	struct link link = fixture_link(cookie, direction, isn, now);

	return saw(link_up(peer, policy, &link));
}

static struct decision knocks(struct peer *peer, const struct guard_policy *policy, __u32 isn,
			      __u64 now)
{
	struct knock knock = fixture_knock(isn, now);

	return saw(knock_decide(peer, policy, &knock));
}

/* A dial that is refused at once, to put a peer into backoff by the ordinary way. */
static struct decision fail_dial(struct peer *peer, const struct guard_policy *policy,
				 __u64 cookie, __u64 now)
{
	arrange_claim(peer, policy, cookie, OUR_ISN, now);
	return ends(peer, policy, cookie, ENDING_RESET, now);
}

/* Nothing changed but what a refusal records. */
static void assert_unchanged_but_refusal(const struct peer *before, const struct peer *after)
{
	struct peer masked = *after;

	masked.refused_dials = before->refused_dials;
	masked.refused_knocks = before->refused_knocks;
	masked.last_refusal_ns = before->last_refusal_ns;
	masked.last_refusal_cause = before->last_refusal_cause;
	assert_memory_equal(before, &masked, sizeof(masked));
}

/* ---- arithmetic without branches ------------------------------------------------------------- */

static void arithmetic_answers_like_the_operators(void **state)
{
	static const __u64 values[] = { 0, 1, 2, 0xffffffff, 0x100000000, (1ULL << 63) - 1,
					1ULL << 63, ~0ULL };
	size_t i, j;

	(void)state;
	for (i = 0; i < ITEMS(values); i++) {
		for (j = 0; j < ITEMS(values); j++) {
			__u64 left = values[i], right = values[j];

			assert_int_equal(same(left, right), left == right);
			assert_int_equal(pick(1, left, right), left);
			assert_int_equal(pick(0, left, right), right);
			if (left < 1ULL << 63 && right < 1ULL << 63)
				assert_int_equal(before(left, right), left < right);
		}
	}
}

/* ---- the table of a peer's states ------------------------------------------------------------ */

/*
 * What is expected of one question: its cause (which names the verdict), its deadline and the
 * socket in the way.
 */
struct expectation {
	enum cause cause;
	__u64 until_ns;
	__u64 other_cookie;
};

struct cell {
	const char *state;
	/*
	 * The slots, one letter each, the first has cookie 1: O, I our and their link, A an adopted
	 * link, D a doomed one, C a claim whose SYN left (with OUR_ISN), U one whose SYN has not
	 * left, K one that is kept, X an expired one. o, i: links that are just silent enough to be
	 * suspect; u: one that was asked in vain.
	 */
	const char *slots;
	__u64 doubted_ns;        /* how long before NOW the doubt began; 0: there is none */
	__u32 max_links; /* 0: 1 */
	__u32 limit;
	enum tie_break tie_break; /* 0: TIE_BREAK_ISN */
	__u64 backoff_ns;         /* left at NOW */
	int silent;               /* the backoff follows from silence; else from a refusal */
	int refuses;              /* in_backoff = refuse */
	__u64 pending_ns;         /* a handshake of theirs is pending for so long from NOW; 0: none is */
	__u64 exempt_ns;          /* left at NOW */
	__u32 announced_only;
	__u64 due_ns;
	struct expectation dial;    /* by a socket that holds nothing */
	struct expectation lookup;  /* their knock, number not known */
	struct expectation smaller; /* their knock, its number smaller than OUR_ISN */
	struct expectation greater;
	struct expectation answer; /* SYN-ACK to the last claim in `slots` */
	/* The same while their handshake, of whatever number, is pending for another second. */
	struct expectation crossed;
};

#define HOLD (1500 * MILLISECOND)
#define DENY (60 * SECOND)

static const struct cell cells[] = {
	/* idle, unknown, exempt */
	{
		.state = "idle",
		.slots = "",
		.dial = { .cause = CAUSE_dial_idle },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
	},
	{
		.state = "idle, a claim has expired",
		.slots = "X",
		.dial = { .cause = CAUSE_dial_idle },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
	},
	{
		.state = "idle, a duplicate is still being destroyed",
		.slots = "D",
		.dial = { .cause = CAUSE_dial_idle },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
	},
	{
		.state = "idle, the other link is doomed, room for two",
		.slots = "DO",
		.max_links = 2,
		.dial = { .cause = CAUSE_dial_idle },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
	},
	{
		.state = "exempt, linked",
		.slots = "O",
		.exempt_ns = 1,
		.dial = { .cause = CAUSE_dial_exempt },
		.lookup = { .cause = CAUSE_knock_exempt },
		.smaller = { .cause = CAUSE_knock_exempt },
		.greater = { .cause = CAUSE_knock_exempt },
	},
	{
		.state = "exempt, dialing and linked",
		.slots = "IC",
		.exempt_ns = 1,
		.dial = { .cause = CAUSE_dial_exempt },
		.lookup = { .cause = CAUSE_knock_exempt },
		.smaller = { .cause = CAUSE_knock_exempt },
		.greater = { .cause = CAUSE_knock_exempt },
		.answer = { .cause = CAUSE_none },
		.crossed = { .cause = CAUSE_none },
	},
	{
		.state = "exempt, backoff, not announced",
		.slots = "",
		.exempt_ns = 1,
		.backoff_ns = SECOND,
		.announced_only = 1,
		.dial = { .cause = CAUSE_dial_exempt },
		.lookup = { .cause = CAUSE_knock_exempt },
		.smaller = { .cause = CAUSE_knock_exempt },
		.greater = { .cause = CAUSE_knock_exempt },
	},
	/* dialing */
	{
		.state = "dialing",
		.slots = "C",
		.dial = { CAUSE_dial_dialing, 0, 1 },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { CAUSE_knock_tie_lost, HOLD, 1 },
		.greater = { CAUSE_knock_tie_won, 0, 1 },
		.answer = { .cause = CAUSE_none },
		.crossed = { CAUSE_answer_tie_lost, SECOND, 0 },
	},
	{
		.state = "dialing, SYN not sent: nothing to break a tie with",
		.slots = "U",
		.dial = { CAUSE_dial_dialing, 0, 1 },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
		.answer = { .cause = CAUSE_none },
		.crossed = { CAUSE_answer_tie_lost, SECOND, 0 },
	},
	{
		.state = "dialing, beside a claim that has expired",
		.slots = "XC",
		.dial = { CAUSE_dial_dialing, 0, 2 },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { CAUSE_knock_tie_lost, HOLD, 2 },
		.greater = { CAUSE_knock_tie_won, 0, 2 },
		.answer = { .cause = CAUSE_none },
		.crossed = { CAUSE_answer_tie_lost, SECOND, 0 },
	},
	{
		.state = "dialing, tie-break left to the service",
		.slots = "C",
		.tie_break = TIE_BREAK_NONE,
		.dial = { CAUSE_dial_dialing, 0, 1 },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { CAUSE_knock_tie_open, 0, 1 },
		.greater = { CAUSE_knock_tie_open, 0, 1 },
		.answer = { .cause = CAUSE_none },
		.crossed = { .cause = CAUSE_none },
	},
	{
		.state = "dialing, exempt no longer",
		.slots = "C",
		.exempt_ns = 0,
		.backoff_ns = SECOND,
		.dial = { CAUSE_dial_dialing, 0, 1 },
		.lookup = { .cause = CAUSE_knock_backoff },
		.smaller = { CAUSE_knock_tie_lost, HOLD, 1 },
		.greater = { CAUSE_knock_tie_won, 0, 1 },
		.answer = { .cause = CAUSE_none },
		.crossed = { CAUSE_answer_tie_lost, SECOND, 0 },
	},
	{
		.state = "dialing, room for two: nothing to break a tie about",
		.slots = "C",
		.max_links = 2,
		.dial = { .cause = CAUSE_dial_idle },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
		.answer = { .cause = CAUSE_none },
		.crossed = { .cause = CAUSE_none },
	},
	{
		.state = "dialing twice, room for two",
		.slots = "UC",
		.max_links = 2,
		.dial = { CAUSE_dial_dialing, 0, 2 },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { CAUSE_knock_tie_lost, HOLD, 2 },
		.greater = { CAUSE_knock_tie_won, 0, 2 },
		.answer = { .cause = CAUSE_none },
		.crossed = { CAUSE_answer_tie_lost, SECOND, 0 },
	},
	{
		.state = "one link and dialing, room for two",
		.slots = "IC",
		.max_links = 2,
		.dial = { CAUSE_dial_dialing, 0, 2 },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { CAUSE_knock_tie_lost, HOLD, 2 },
		.greater = { CAUSE_knock_tie_won, 0, 2 },
		.answer = { .cause = CAUSE_none },
		.crossed = { CAUSE_answer_tie_lost, SECOND, 0 },
	},
	{
		.state = "six links and dialing, room for seven",
		.slots = "OIOIOIC",
		.max_links = PEER_LINKS_MAX,
		.dial = { CAUSE_dial_dialing, 0, 7 },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { CAUSE_knock_tie_lost, HOLD, 7 },
		.greater = { CAUSE_knock_tie_won, 0, 7 },
		.answer = { .cause = CAUSE_none },
		.crossed = { CAUSE_answer_tie_lost, SECOND, 0 },
	},
	/* backoff */
	{
		.state = "backoff",
		.slots = "",
		.backoff_ns = 7 * SECOND,
		.dial = { CAUSE_dial_backoff, 7 * SECOND, 0 },
		.lookup = { .cause = CAUSE_knock_backoff },
		.smaller = { .cause = CAUSE_knock_backoff },
		.greater = { .cause = CAUSE_knock_backoff },
	},
	{
		.state = "backoff, the peer was silent",
		.slots = "",
		.backoff_ns = 7 * SECOND,
		.silent = 1,
		.dial = { CAUSE_dial_kept, 7 * SECOND, 0 },
		.lookup = { .cause = CAUSE_knock_backoff },
		.smaller = { .cause = CAUSE_knock_backoff },
		.greater = { .cause = CAUSE_knock_backoff },
	},
	{
		.state = "backoff, the peer was silent, no dial is to wait",
		.slots = "",
		.backoff_ns = 7 * SECOND,
		.silent = 1,
		.refuses = 1,
		.dial = { CAUSE_dial_backoff, 7 * SECOND, 0 },
		.lookup = { .cause = CAUSE_knock_backoff },
		.smaller = { .cause = CAUSE_knock_backoff },
		.greater = { .cause = CAUSE_knock_backoff },
	},
	{
		.state = "backoff, the peer was silent, not announced",
		.slots = "",
		.backoff_ns = 7 * SECOND,
		.silent = 1,
		.announced_only = 1,
		.dial = { CAUSE_dial_backoff, 7 * SECOND, 0 },
		.lookup = { .cause = CAUSE_knock_backoff },
		.smaller = { .cause = CAUSE_knock_backoff },
		.greater = { .cause = CAUSE_knock_backoff },
	},
	{
		.state = "backoff, the peer was silent, exempt",
		.slots = "",
		.backoff_ns = 7 * SECOND,
		.silent = 1,
		.exempt_ns = 1,
		.dial = { .cause = CAUSE_dial_exempt },
		.lookup = { .cause = CAUSE_knock_exempt },
		.smaller = { .cause = CAUSE_knock_exempt },
		.greater = { .cause = CAUSE_knock_exempt },
	},
	{
		.state = "the peer was silent, and the backoff is over",
		.slots = "",
		.silent = 1,
		.dial = { .cause = CAUSE_dial_idle },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
	},
	{
		.state = "a dial is kept: every knock wins the tie, for nothing of ours has left",
		.slots = "K",
		.backoff_ns = 7 * SECOND,
		.silent = 1,
		.dial = { CAUSE_dial_dialing, 0, 1 },
		.lookup = { .cause = CAUSE_knock_backoff },
		.smaller = { CAUSE_knock_tie_won, 0, 1 },
		.greater = { CAUSE_knock_tie_won, 0, 1 },
		.answer = { .cause = CAUSE_none },
		.crossed = { CAUSE_answer_tie_lost, SECOND, 0 },
	},
	{
		.state = "a dial is kept, room for two: a second one is kept too",
		.slots = "K",
		.max_links = 2,
		.backoff_ns = 7 * SECOND,
		.silent = 1,
		.dial = { CAUSE_dial_kept, 7 * SECOND, 0 },
		.lookup = { .cause = CAUSE_knock_backoff },
		.smaller = { .cause = CAUSE_knock_backoff },
		.greater = { .cause = CAUSE_knock_backoff },
		.answer = { .cause = CAUSE_none },
		.crossed = { .cause = CAUSE_none },
	},
	/* a handshake of theirs is pending */
	{
		.state = "their handshake is pending",
		.slots = "",
		.pending_ns = SECOND,
		.dial = { CAUSE_dial_pending, SECOND, 0 },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
	},
	{
		.state = "their handshake is pending, for a nanosecond",
		.slots = "",
		.pending_ns = 1,
		.dial = { CAUSE_dial_pending, 1, 0 },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
	},
	{
		.state = "their handshake is pending, room for two",
		.slots = "",
		.max_links = 2,
		.pending_ns = SECOND,
		.dial = { .cause = CAUSE_dial_idle },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
	},
	{
		.state = "their handshake is pending, one link, room for two",
		.slots = "O",
		.max_links = 2,
		.pending_ns = SECOND,
		.dial = { CAUSE_dial_pending, SECOND, 0 },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
	},
	{
		.state = "their handshake is pending, dialing, room for two",
		.slots = "C",
		.max_links = 2,
		.pending_ns = SECOND,
		.dial = { CAUSE_dial_pending, SECOND, 0 },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
		.answer = { .cause = CAUSE_none },
		.crossed = { .cause = CAUSE_none },
	},
	{
		.state = "their handshake is pending, tie-break left to the service",
		.slots = "",
		.tie_break = TIE_BREAK_NONE,
		.pending_ns = SECOND,
		.dial = { .cause = CAUSE_dial_idle },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
	},
	{
		.state = "their handshake is pending, exempt",
		.slots = "",
		.exempt_ns = 1,
		.pending_ns = SECOND,
		.dial = { .cause = CAUSE_dial_exempt },
		.lookup = { .cause = CAUSE_knock_exempt },
		.smaller = { .cause = CAUSE_knock_exempt },
		.greater = { .cause = CAUSE_knock_exempt },
	},
	{
		.state = "their handshake is pending, backoff",
		.slots = "",
		.backoff_ns = 7 * SECOND,
		.silent = 1,
		.pending_ns = SECOND,
		.dial = { CAUSE_dial_pending, SECOND, 0 },
		.lookup = { .cause = CAUSE_knock_backoff },
		.smaller = { .cause = CAUSE_knock_backoff },
		.greater = { .cause = CAUSE_knock_backoff },
	},
	{
		.state = "their handshake is pending, linked",
		.slots = "I",
		.pending_ns = SECOND,
		.dial = { CAUSE_dial_linked, 0, 1 },
		.lookup = { CAUSE_knock_linked, 0, 1 },
		.smaller = { CAUSE_knock_linked, 0, 1 },
		.greater = { CAUSE_knock_linked, 0, 1 },
	},
	{
		.state = "their handshake is pending, dialing",
		.slots = "C",
		.pending_ns = SECOND,
		.dial = { CAUSE_dial_dialing, 0, 1 },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { CAUSE_knock_tie_lost, HOLD, 1 },
		.greater = { CAUSE_knock_tie_won, 0, 1 },
		.answer = { .cause = CAUSE_none },
		.crossed = { CAUSE_answer_tie_lost, SECOND, 0 },
	},
	/* backoff, once more */
	{
		.state = "backoff, one nanosecond left",
		.slots = "",
		.backoff_ns = 1,
		.dial = { CAUSE_dial_backoff, 1, 0 },
		.lookup = { .cause = CAUSE_knock_backoff },
		.smaller = { .cause = CAUSE_knock_backoff },
		.greater = { .cause = CAUSE_knock_backoff },
	},
	{
		.state = "backoff, one link, room for two: a peer with a link is alive",
		.slots = "I",
		.max_links = 2,
		.backoff_ns = 7 * SECOND,
		.dial = { .cause = CAUSE_dial_idle },
		.lookup = { .cause = CAUSE_knock_backoff },
		.smaller = { .cause = CAUSE_knock_backoff },
		.greater = { .cause = CAUSE_knock_backoff },
	},
	{
		.state = "backoff comes before not due",
		.slots = "",
		.backoff_ns = 7 * SECOND,
		.announced_only = 1,
		.dial = { CAUSE_dial_backoff, 7 * SECOND, 0 },
		.lookup = { .cause = CAUSE_knock_backoff },
		.smaller = { .cause = CAUSE_knock_backoff },
		.greater = { .cause = CAUSE_knock_backoff },
	},
	/* central dial policy */
	{
		.state = "idle, central, not announced",
		.slots = "",
		.announced_only = 1,
		.dial = { .cause = CAUSE_dial_not_due },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
	},
	{
		.state = "idle, central, announced",
		.slots = "",
		.announced_only = 1,
		.due_ns = NOW - SECOND,
		.dial = { .cause = CAUSE_dial_idle },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
	},
	{
		.state = "linked, central, announced",
		.slots = "I",
		.announced_only = 1,
		.due_ns = NOW - SECOND,
		.dial = { CAUSE_dial_linked, 0, 1 },
		.lookup = { CAUSE_knock_linked, 0, 1 },
		.smaller = { CAUSE_knock_linked, 0, 1 },
		.greater = { CAUSE_knock_linked, 0, 1 },
	},
	/* linked */
	{
		.state = "linked by our dial",
		.slots = "O",
		.dial = { CAUSE_dial_linked, 0, 1 },
		.lookup = { CAUSE_knock_linked, 0, 1 },
		.smaller = { CAUSE_knock_linked, 0, 1 },
		.greater = { CAUSE_knock_linked, 0, 1 },
	},
	{
		.state = "linked by their knock, attempts not yet reset",
		.slots = "I",
		.backoff_ns = 7 * SECOND,
		.dial = { CAUSE_dial_linked, 0, 1 },
		.lookup = { CAUSE_knock_linked, 0, 1 },
		.smaller = { CAUSE_knock_linked, 0, 1 },
		.greater = { CAUSE_knock_linked, 0, 1 },
	},
	{
		.state = "linked by an adopted link",
		.slots = "A",
		.dial = { CAUSE_dial_linked, 0, 1 },
		.lookup = { CAUSE_knock_linked, 0, 1 },
		.smaller = { CAUSE_knock_linked, 0, 1 },
		.greater = { CAUSE_knock_linked, 0, 1 },
	},
	{
		.state = "linked, our dial still under way",
		.slots = "IC",
		.dial = { CAUSE_dial_linked, 0, 1 },
		.lookup = { CAUSE_knock_linked, 0, 1 },
		.smaller = { CAUSE_knock_linked, 0, 1 },
		.greater = { CAUSE_knock_linked, 0, 1 },
		.answer = { CAUSE_answer_linked, 0, 1 },
		.crossed = { CAUSE_answer_linked, 0, 1 },
	},
	{
		.state = "linked, tie-break left to the service: the answer may complete",
		.slots = "IC",
		.tie_break = TIE_BREAK_NONE,
		.dial = { CAUSE_dial_linked, 0, 1 },
		.lookup = { CAUSE_knock_linked, 0, 1 },
		.smaller = { CAUSE_knock_linked, 0, 1 },
		.greater = { CAUSE_knock_linked, 0, 1 },
		.answer = { .cause = CAUSE_none },
		.crossed = { .cause = CAUSE_none },
	},
	{
		.state = "linked, a duplicate is still being destroyed",
		.slots = "OD",
		.dial = { CAUSE_dial_linked, 0, 1 },
		.lookup = { CAUSE_knock_linked, 0, 1 },
		.smaller = { CAUSE_knock_linked, 0, 1 },
		.greater = { CAUSE_knock_linked, 0, 1 },
	},
	{
		.state = "linked once, room for two",
		.slots = "O",
		.max_links = 2,
		.dial = { .cause = CAUSE_dial_idle },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
	},
	{
		.state = "linked twice, room for two",
		.slots = "OI",
		.max_links = 2,
		.dial = { CAUSE_dial_linked, 0, 2 },
		.lookup = { CAUSE_knock_linked, 0, 2 },
		.smaller = { CAUSE_knock_linked, 0, 2 },
		.greater = { CAUSE_knock_linked, 0, 2 },
	},
	{
		.state = "linked six times, room for seven",
		.slots = "OIOIOI",
		.max_links = PEER_LINKS_MAX,
		.dial = { .cause = CAUSE_dial_idle },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
	},
	{
		.state = "linked six times, a duplicate is still being destroyed, room for seven",
		.slots = "OIOIOID",
		.max_links = PEER_LINKS_MAX,
		.dial = { .cause = CAUSE_dial_idle },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
	},
	{
		.state = "linked six times, room for seven, but duplicates fill the slots",
		.slots = "DDOIOIOI",
		.max_links = PEER_LINKS_MAX,
		.dial = { .cause = CAUSE_dial_idle },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
	},
	{
		.state = "linked seven times, room for seven",
		.slots = "OIOIOIO",
		.max_links = PEER_LINKS_MAX,
		.dial = { CAUSE_dial_linked, 0, 7 },
		.lookup = { CAUSE_knock_linked, 0, 7 },
		.smaller = { CAUSE_knock_linked, 0, 7 },
		.greater = { CAUSE_knock_linked, 0, 7 },
	},
	{
		.state = "linked once too often, room for seven",
		.slots = "OIOIOIOI",
		.max_links = PEER_LINKS_MAX,
		.dial = { CAUSE_dial_linked, 0, 8 },
		.lookup = { CAUSE_knock_linked, 0, 8 },
		.smaller = { CAUSE_knock_linked, 0, 8 },
		.greater = { CAUSE_knock_linked, 0, 8 },
	},
	{
		.state = "linked once, this peer alone may twice",
		.slots = "O",
		.limit = 2,
		.dial = { .cause = CAUSE_dial_idle },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
	},
	{
		.state = "linked once, room for seven, this peer alone only once",
		.slots = "O",
		.max_links = PEER_LINKS_MAX,
		.limit = 1,
		.dial = { CAUSE_dial_linked, 0, 1 },
		.lookup = { CAUSE_knock_linked, 0, 1 },
		.smaller = { CAUSE_knock_linked, 0, 1 },
		.greater = { CAUSE_knock_linked, 0, 1 },
	},
	/* linked, but silent */
	{
		.state = "linked, silent",
		.slots = "o",
		.dial = { CAUSE_dial_suspect, 0, 1 },
		.lookup = { CAUSE_knock_suspect, DENY, 1 },
		.smaller = { CAUSE_knock_suspect, DENY, 1 },
		.greater = { CAUSE_knock_suspect, DENY, 1 },
	},
	{
		.state = "linked, silent, in doubt for a while, in backoff",
		.slots = "i",
		.doubted_ns = DENY - 1,
		.backoff_ns = 7 * SECOND,
		.dial = { CAUSE_dial_suspect, 0, 1 },
		.lookup = { CAUSE_knock_suspect, 1, 1 },
		.smaller = { CAUSE_knock_suspect, 1, 1 },
		.greater = { CAUSE_knock_suspect, 1, 1 },
	},
	{
		.state = "linked, silent, exempt",
		.slots = "i",
		.exempt_ns = 1,
		.dial = { .cause = CAUSE_dial_exempt },
		.lookup = { .cause = CAUSE_knock_exempt },
		.smaller = { .cause = CAUSE_knock_exempt },
		.greater = { .cause = CAUSE_knock_exempt },
	},
	{
		.state = "linked, silent, our dial still under way",
		.slots = "iC",
		.dial = { CAUSE_dial_suspect, 0, 1 },
		.lookup = { CAUSE_knock_suspect, DENY, 1 },
		.smaller = { CAUSE_knock_suspect, DENY, 1 },
		.greater = { CAUSE_knock_suspect, DENY, 1 },
		.answer = { CAUSE_answer_linked, 0, 1 },
		.crossed = { CAUSE_answer_linked, 0, 1 },
	},
	{
		.state = "linked, no proof of life for deny_max",
		.slots = "i",
		.doubted_ns = DENY,
		.dial = { .cause = CAUSE_dial_unproven },
		.lookup = { .cause = CAUSE_knock_unproven },
		.smaller = { .cause = CAUSE_knock_unproven },
		.greater = { .cause = CAUSE_knock_unproven },
	},
	{
		.state = "linked, asked in vain",
		.slots = "u",
		.dial = { .cause = CAUSE_dial_unproven },
		.lookup = { .cause = CAUSE_knock_unproven },
		.smaller = { .cause = CAUSE_knock_unproven },
		.greater = { .cause = CAUSE_knock_unproven },
	},
	{
		.state = "linked twice, one was asked in vain, room for two",
		.slots = "uO",
		.max_links = 2,
		.dial = { .cause = CAUSE_dial_unproven },
		.lookup = { .cause = CAUSE_knock_unproven },
		.smaller = { .cause = CAUSE_knock_unproven },
		.greater = { .cause = CAUSE_knock_unproven },
	},
	{
		.state = "linked, no proof of life for deny_max, in backoff",
		.slots = "o",
		.doubted_ns = DENY,
		.backoff_ns = 7 * SECOND,
		.dial = { CAUSE_dial_backoff, 7 * SECOND, 0 },
		.lookup = { .cause = CAUSE_knock_unproven },
		.smaller = { .cause = CAUSE_knock_unproven },
		.greater = { .cause = CAUSE_knock_unproven },
	},
	{
		.state = "linked, no proof of life for deny_max, not announced",
		.slots = "o",
		.doubted_ns = DENY,
		.announced_only = 1,
		.dial = { .cause = CAUSE_dial_not_due },
		.lookup = { .cause = CAUSE_knock_unproven },
		.smaller = { .cause = CAUSE_knock_unproven },
		.greater = { .cause = CAUSE_knock_unproven },
	},
	{
		.state = "linked, no proof of life for deny_max, dialing",
		.slots = "iC",
		.doubted_ns = DENY,
		.dial = { CAUSE_dial_dialing, 0, 2 },
		.lookup = { .cause = CAUSE_knock_unproven },
		.smaller = { CAUSE_knock_tie_lost, HOLD, 2 },
		.greater = { CAUSE_knock_tie_won, 0, 2 },
		.answer = { .cause = CAUSE_none },
		.crossed = { CAUSE_answer_tie_lost, SECOND, 0 },
	},
	{
		.state = "linked twice, one is silent, room for two",
		.slots = "Oi",
		.max_links = 2,
		.dial = { CAUSE_dial_suspect, 0, 2 },
		.lookup = { CAUSE_knock_suspect, DENY, 2 },
		.smaller = { CAUSE_knock_suspect, DENY, 2 },
		.greater = { CAUSE_knock_suspect, DENY, 2 },
	},
	{
		.state = "linked twice, one without proof of life for deny_max, room for two",
		.slots = "Oi",
		.max_links = 2,
		.doubted_ns = DENY,
		.dial = { .cause = CAUSE_dial_unproven },
		.lookup = { .cause = CAUSE_knock_unproven },
		.smaller = { .cause = CAUSE_knock_unproven },
		.greater = { .cause = CAUSE_knock_unproven },
	},
	{
		.state = "linked once too often, one is silent, room for two",
		.slots = "oOI",
		.max_links = 2,
		.dial = { CAUSE_dial_linked, 0, 3 },
		.lookup = { CAUSE_knock_linked, 0, 3 },
		.smaller = { CAUSE_knock_linked, 0, 3 },
		.greater = { CAUSE_knock_linked, 0, 3 },
	},
	{
		.state = "linked once, silent, room for two",
		.slots = "o",
		.max_links = 2,
		.dial = { .cause = CAUSE_dial_idle },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
	},
	{
		.state = "linked by more than the limit, lowered since",
		.slots = "OIO",
		.max_links = PEER_LINKS_MAX,
		.limit = 2,
		.dial = { CAUSE_dial_linked, 0, 3 },
		.lookup = { CAUSE_knock_linked, 0, 3 },
		.smaller = { CAUSE_knock_linked, 0, 3 },
		.greater = { CAUSE_knock_linked, 0, 3 },
	},
};

static struct guard_policy cell_policy(const struct cell *cell)
{
	struct guard_policy policy = steps_policy();

	if (cell->max_links)
		policy.max_links = cell->max_links;
	if (cell->tie_break)
		policy.tie_break = cell->tie_break;
	policy.keep_dials = !cell->refuses;
	return policy;
}

/* Bring a new peer into the state of the cell. Returns the cookie of its last claim, 0: none. */
static __u64 cell_peer(const struct cell *cell, struct peer *ret_peer)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	__u64 cookie, claim = 0;
	struct link link;

	for (cookie = 1; cookie <= strlen(cell->slots); cookie++) {
		switch (cell->slots[cookie - 1]) {
		case 'O':
			arrange_link(&peer, cookie, DIRECTION_OUTBOUND, 500, NOW);
			break;
		case 'I':
			arrange_link(&peer, cookie, DIRECTION_INBOUND, 500, NOW);
			break;
		case 'o':
		case 'i':
		case 'u':
			arrange_link(&peer, cookie,
				     cell->slots[cookie - 1] == 'i' ? DIRECTION_INBOUND :
								       DIRECTION_OUTBOUND,
				     500, NOW);
			slot_of(&peer, cookie)->heard_ns = NOW - policy.suspect_after_ns;
			if (cell->slots[cookie - 1] == 'u')
				assert_cause(link_unanswered(&peer, &policy, cookie, NOW),
					     CAUSE_link_unanswered);
			if (cell->doubted_ns)
				slot_of(&peer, cookie)->doubted_ns = NOW - cell->doubted_ns;
			break;
		case 'A':
			link = fixture_link(cookie, DIRECTION_INBOUND, 0, NOW);
			link.adopted = 1;
			saw(link_up(&peer, &policy, &link));
			break;
		case 'D': /* a second one in the same direction, of the smallest number */
			arrange_link(&peer, 99, DIRECTION_OUTBOUND, 500, NOW);
			assert_cause(up(&peer, &policy, cookie, DIRECTION_OUTBOUND, 400, NOW),
				     CAUSE_link_duplicate);
			ends(&peer, &policy, 99, ENDING_CLOSED, NOW);
			peer.attempts = 0;
			peer.next_attempt_ns = 0;
			break;
		case 'C':
			arrange_claim(&peer, &policy, cookie, OUR_ISN, NOW);
			claim = cookie;
			break;
		case 'U':
			arrange_unsent_claim(&peer, &policy, cookie, NOW);
			claim = cookie;
			break;
		case 'K':
			arrange_kept_claim(&peer, &policy, cookie, NOW);
			claim = cookie;
			break;
		case 'X':
			arrange_unsent_claim(&peer, &policy, cookie, NOW - CLAIM_UNSENT_MAX_NS);
			break;
		default:
			fail_msg("slot letter %c", cell->slots[cookie - 1]);
		}
	}
	peer.limit = cell->limit;
	peer.attempts = cell->backoff_ns ? 3 : 0;
	peer.next_attempt_ns = cell->backoff_ns ? NOW + cell->backoff_ns : 0;
	peer.failed_ns = cell->backoff_ns ? NOW - SECOND : 0;
	peer.failure = cell->silent ? ENDING_SILENCE : ENDING_RESET;
	if (cell->silent)
		peer.flags |= PEER_SILENT;
	peer.exempt_until_ns = cell->exempt_ns ? NOW + cell->exempt_ns : 0;
	peer.due_ns = cell->due_ns;
	*ret_peer = peer;
	return claim;
}

static void check_answer(const struct cell *cell, const char *question, struct decision decision,
			 const struct expectation *expected)
{
	enum verdict verdict = cause_verdict(expected->cause);
	__u64 until_ns = expected->until_ns ? NOW + expected->until_ns : 0;

	if (expected->cause == CAUSE_none)
		verdict = VERDICT_ALLOW;
	saw(decision);
	if (decision.cause != expected->cause || decision.verdict != verdict ||
	    decision.until_ns != until_ns || decision.other_cookie != expected->other_cookie)
		fail_msg("%s: %s: %s, verdict %d, until %lld ms, other %llu; "
			 "expected %s, %d, %lld ms, %llu",
			 cell->state, question, cause_name(decision.cause), decision.verdict,
			 (long long)(decision.until_ns - NOW) / (long long)MILLISECOND,
			 (unsigned long long)decision.other_cookie, cause_name(expected->cause),
			 verdict, (long long)(until_ns - NOW) / (long long)MILLISECOND,
			 (unsigned long long)expected->other_cookie);
}

/* Every question of every cell, asked of the verdicts, which must look only. */
static void table_is_obeyed_by_the_verdicts(void **state)
{
	const struct knock lookup = fixture_lookup(NOW);
	const struct knock smaller = fixture_knock(OUR_ISN - 1, NOW);
	const struct knock greater = fixture_knock(OUR_ISN + 1, NOW);
	const struct knock equal = fixture_knock(OUR_ISN, NOW);
	const struct their_handshake none = {};
	const struct their_handshake winner = fixture_theirs(OUR_ISN + 1, NOW + SECOND);
	const struct their_handshake loser = fixture_theirs(OUR_ISN - 1, NOW + SECOND);
	const struct their_handshake past = fixture_theirs(OUR_ISN + 1, NOW);
	size_t i;

	(void)state;
	for (i = 0; i < ITEMS(cells); i++) {
		const struct cell *cell = &cells[i];
		struct guard_policy policy = cell_policy(cell);
		struct dial asked = fixture_dial(77, NOW);
		struct peer peer, before;
		struct decision dial;
		__u64 claim;

		claim = cell_peer(cell, &peer);
		before = peer;
		asked.announced_only = cell->announced_only;
		asked.pending_until_ns = cell->pending_ns ? NOW + cell->pending_ns : 0;
		dial = dial_verdict(&peer, &policy, &asked);
		check_answer(cell, "dial", dial, &cell->dial);
		assert_int_equal(dial.attempts, peer.attempts);
		/* What a backoff follows from is told where a backoff is the reason. */
		assert_int_equal(dial.ending, dial.cause != CAUSE_dial_backoff &&
							      dial.cause != CAUSE_dial_kept ?
						      ENDING_NONE :
					      cell->silent ? ENDING_SILENCE :
							     ENDING_RESET);
		/* explain asks for a socket yet to be made: the same answer. */
		asked.cookie = 0;
		check_answer(cell, "dial of no socket", dial_verdict(&peer, &policy, &asked),
			     &cell->dial);
		check_answer(cell, "lookup", knock_verdict(&peer, &policy, &lookup), &cell->lookup);
		check_answer(cell, "smaller", knock_verdict(&peer, &policy, &smaller),
			     &cell->smaller);
		check_answer(cell, "greater", knock_verdict(&peer, &policy, &greater),
			     &cell->greater);
		check_answer(cell, "equal", knock_verdict(&peer, &policy, &equal), &cell->greater);
		if (claim) {
			check_answer(cell, "answer",
				     answers(&peer, &policy, &none, claim, NOW),
				     &cell->answer);
			check_answer(cell, "crossed answer",
				     answers(&peer, &policy, &winner, claim, NOW),
				     &cell->crossed);
			check_answer(cell, "answer, theirs given up",
				     answers(&peer, &policy, &past, claim, NOW),
				     &cell->answer);
			/* A claim whose SYN has not left has no number yet, and no answer. */
			if (fixture_slot(&peer, claim)->flags & SLOT_SENT)
				check_answer(cell, "crossed answer, theirs smaller",
					     answers(&peer, &policy, &loser, claim, NOW),
					     &cell->crossed);
			if (cause_verdict(cell->answer.cause) == VERDICT_HOLD ||
			    cause_verdict(cell->crossed.cause) == VERDICT_HOLD)
				slot_of(&before, claim)->flags |= SLOT_ANSWERED;
		}
		assert_memory_equal(&before, &peer, sizeof(peer));
	}
}

/* The doubt has begun about the silent links, and about those only, if it did not run already. */
static void take_doubt_back(const struct cell *cell, struct peer *peer)
{
	size_t i;

	for (i = 0; i < strlen(cell->slots); i++) {
		struct slot *slot = slot_of(peer, i + 1);
		int silent = cell->slots[i] == 'o' || cell->slots[i] == 'i' || cell->slots[i] == 'u';

		if (!slot)
			continue;
		assert_int_equal(slot->doubted_ns, !silent ? 0 : NOW - cell->doubted_ns);
		if (!cell->doubted_ns)
			slot->doubted_ns = 0;
	}
}

/* connect() in each mode, in every cell. */
static void table_is_obeyed_by_the_claim(void **state)
{
	static const enum guard_mode modes[] = { MODE_OFF, MODE_OBSERVE, MODE_ENFORCE };
	size_t i, mode;

	(void)state;
	for (i = 0; i < ITEMS(cells) * ITEMS(modes); i++) {
		const struct cell *cell = &cells[i / ITEMS(modes)];
		struct guard_policy policy = cell_policy(cell);
		struct dial dial = fixture_dial(77, NOW);
		struct peer peer, before;
		struct expectation expected = cell->dial;
		int refused, kept, room;

		mode = i % ITEMS(modes);
		cell_peer(cell, &peer);
		before = peer;
		dial.mode = modes[mode];
		dial.announced_only = cell->announced_only;
		dial.pending_until_ns = cell->pending_ns ? NOW + cell->pending_ns : 0;
		refused = cause_verdict(expected.cause) == VERDICT_REFUSE;
		room = strlen(cell->slots) < PEER_SLOTS;
		kept = expected.cause == CAUSE_dial_kept && dial.mode == MODE_ENFORCE;
		if ((!refused || dial.mode == MODE_OFF) && !room)
			expected.cause = CAUSE_dial_unheld;
		check_answer(cell, "claim", dial_claim(&peer, &policy, &dial), &expected);

		/* Nobody asks: a dial that is turned away is where the doubt begins. */
		if (expected.cause == CAUSE_dial_suspect && dial.mode != MODE_OFF) {
			take_doubt_back(cell, &peer);
			assert_int_equal(peer.doubted_dial_ns, NOW);
			peer.doubted_dial_ns = 0;
		}
		if (expected.cause == CAUSE_dial_pending && dial.mode != MODE_OFF) {
			assert_int_equal(peer.refused_pending_ns, NOW);
			peer.refused_pending_ns = 0;
		}
		if (refused && dial.mode != MODE_OFF) {
			assert_int_equal(peer.refused_dials, 1);
			assert_int_equal(peer.last_refusal_ns, NOW);
			assert_int_equal(peer.last_refusal_cause, expected.cause);
		} else {
			assert_int_equal(peer.refused_dials, 0);
			assert_int_equal(peer.last_refusal_ns, 0);
			assert_int_equal(peer.last_refusal_cause, CAUSE_none);
		}
		assert_int_equal(peer.refused_knocks, 0);
		/*
		 * A refused dial changes nothing else, but that under the central
		 * policy it makes the peer one that we dial; one that goes on has its claim, even
		 * in observe.
		 */
		if (expected.cause == CAUSE_dial_not_due)
			before.flags |= PEER_DIALED;
		if ((refused && dial.mode == MODE_ENFORCE) || !room) {
			assert_unchanged_but_refusal(&before, &peer);
		} else {
			const struct slot *slot = fixture_slot(&peer, 77);

			assert_non_null(slot);
			assert_int_equal(slot->kind, SLOT_CLAIM);
			assert_int_equal(slot->direction, DIRECTION_OUTBOUND);
			assert_int_equal(slot->since_ns, NOW);
			assert_int_equal(slot->expires_ns, NOW + CLAIM_UNSENT_MAX_NS);
			assert_int_equal(slot->flags, kept ? SLOT_KEPT : 0);
			assert_int_equal(slot->syns, 0);
			assert_int_equal(slot->process_id, 770);
			assert_int_equal(slot->thread_id, 771);
			assert_string_equal(slot->command, "dialer");
			assert_true(peer.flags & PEER_DIALED);
			assert_int_equal(peer.due_ns, 0);
			assert_int_equal(peer.last_active_ns, NOW);
			assert_int_equal(peer.next_attempt_ns, before.next_attempt_ns);
			assert_int_equal(peer.attempts, before.attempts);
		}
	}
}

/*
 * A SYN in every cell: only the refusal record and the notes on the claim may change, and the backoff of
 * a peer that is let in is over.
 */
static void table_is_obeyed_by_the_knock(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < ITEMS(cells) * 3; i++) {
		const struct cell *cell = &cells[i / 3];
		const struct expectation *expected =
			(const struct expectation *[]){ &cell->lookup, &cell->smaller,
							&cell->greater }[i % 3];
		struct knock knock = fixture_knock(i % 3 == 1 ? OUR_ISN - 1 : OUR_ISN + 1, NOW);
		struct guard_policy policy = cell_policy(cell);
		struct peer peer, before;
		int refused, slot;

		knock.isn_known = i % 3 != 0;
		cell_peer(cell, &peer);
		before = peer;
		/* A hold is decided, and counted, where the whole SYN is seen. */
		refused = cause_verdict(expected->cause) == VERDICT_REFUSE ||
			  (cause_verdict(expected->cause) == VERDICT_HOLD && knock.isn_known);
		check_answer(cell, "knock", knock_decide(&peer, &policy, &knock), expected);
		if (expected->cause == CAUSE_knock_suspect && knock.isn_known)
			take_doubt_back(cell, &peer);
		assert_int_equal(peer.refused_knocks, refused);
		assert_int_equal(peer.refused_dials, 0);
		assert_int_equal(peer.last_refusal_ns, refused ? NOW : 0);
		assert_int_equal(peer.last_refusal_cause, refused ? expected->cause : CAUSE_none);
		if (cause_verdict(expected->cause) == VERDICT_ALLOW && knock.isn_known &&
		    expected->cause != CAUSE_knock_exempt && cell->backoff_ns) {
			before.wake_after_ns = NOW + cell->backoff_ns;
			before.next_attempt_ns = 0;
		}
		for (slot = 0; slot < PEER_SLOTS; slot++) {
			struct slot *wanted = &before.slots[slot];

			if (expected->cause == CAUSE_knock_unproven && knock.isn_known &&
			    wanted->doubted_ns)
				wanted->flags |= SLOT_UNANSWERED;
			if (wanted->kind != SLOT_CLAIM || wanted->cookie != expected->other_cookie)
				continue;
			if (expected->cause == CAUSE_knock_tie_won ||
			    expected->cause == CAUSE_knock_hold_spent)
				before.yielded_port = knock.remote_port;
			if (expected->cause == CAUSE_knock_tie_won ||
			    expected->cause == CAUSE_knock_hold_spent)
				wanted->yields_until_ns = NOW + 2 * HOLD;
		}
		assert_unchanged_but_refusal(&before, &peer);
	}
}

/* ---- proof of life --------------------------------------------------------------------------- */

/* Refused while it shows life, in doubt when it is silent, without force when it stays so. */
static void link_refuses_for_as_long_as_it_shows_life(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	__u64 now = NOW + policy.suspect_after_ns;
	struct decision decision;

	(void)state;
	arrange_link(&peer, 1, DIRECTION_INBOUND, 5, NOW);
	assert_cause(knocks(&peer, &policy, 6, now - 1), CAUSE_knock_linked);
	assert_int_equal(fixture_slot(&peer, 1)->doubted_ns, 0);
	decision = knocks(&peer, &policy, 6, now);
	assert_cause(decision, CAUSE_knock_suspect);
	assert_int_equal(decision.until_ns, now + policy.deny_max_ns);
	assert_int_equal(fixture_slot(&peer, 1)->doubted_ns, now);
	/* Whoever comes meanwhile, the doubt began with the first. */
	assert_cause(knocks(&peer, &policy, 6, now + 59 * SECOND), CAUSE_knock_suspect);
	assert_int_equal(fixture_slot(&peer, 1)->doubted_ns, now);
	assert_cause(looks(&peer, &policy, 9, now + policy.deny_max_ns - 1), CAUSE_dial_suspect);
	assert_int_equal(peer_room(&peer, &policy, now + policy.deny_max_ns - 1), 0);
	assert_cause(knocks(&peer, &policy, 6, now + policy.deny_max_ns), CAUSE_knock_unproven);
	assert_cause(looks(&peer, &policy, 9, now + policy.deny_max_ns), CAUSE_dial_unproven);
	assert_int_equal(peer_room(&peer, &policy, now + policy.deny_max_ns), 1);
	/* It is a link for all that: nobody is to be told to dial. */
	assert_false(peer_idle(&peer, now + policy.deny_max_ns));
}

/* A sign of life ends the doubt; the next one begins anew. */
static void sign_of_life_ends_the_doubt(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer(), before;
	__u64 doubted = NOW + 100 * SECOND, heard = doubted + DENY - SECOND / 2;

	(void)state;
	arrange_link(&peer, 1, DIRECTION_INBOUND, 5, NOW);
	assert_cause(knocks(&peer, &policy, 6, doubted), CAUSE_knock_suspect);
	/* Of another socket, of none, or older than what is known: nothing. */
	before = peer;
	link_heard(&peer, 2, heard);
	link_heard(&peer, 0, heard);
	link_heard(&peer, 1, NOW - 1);
	assert_memory_equal(&before, &peer, sizeof(peer));
	link_heard(&peer, 1, heard);
	assert_int_equal(fixture_slot(&peer, 1)->heard_ns, heard);
	assert_cause(knocks(&peer, &policy, 6, doubted + policy.deny_max_ns), CAUSE_knock_linked);
	assert_cause(knocks(&peer, &policy, 6, heard + policy.suspect_after_ns),
		     CAUSE_knock_suspect);
	doubted = heard + policy.suspect_after_ns;
	assert_int_equal(fixture_slot(&peer, 1)->doubted_ns, doubted);
	/* Older evidence, read late, does not speak against it; that of the very moment does. */
	link_heard(&peer, 1, doubted - 1);
	assert_cause(knocks(&peer, &policy, 6, doubted + policy.deny_max_ns), CAUSE_knock_unproven);
	link_heard(&peer, 1, doubted);
	assert_int_equal(fixture_slot(&peer, 1)->doubted_ns, 0);
	assert_cause(knocks(&peer, &policy, 6, doubted + policy.deny_max_ns), CAUSE_knock_suspect);
	/* A claim has no life to show. */
	peer = fixture_peer();
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	link_heard(&peer, 1, heard);
	assert_int_equal(fixture_slot(&peer, 1)->heard_ns, 0);
}

/* A segment with a hole before it says when the trouble began, and is no evidence of life. */
static void segments_with_a_hole_before_them_prove_nothing(void **state)
{
	struct guard_policy policy = steps_policy();
	__u64 silent = NOW + policy.suspect_after_ns;
	struct peer peer = fixture_peer(), before;

	(void)state;
	arrange_link(&peer, 1, DIRECTION_INBOUND, 5, NOW);
	before = peer;
	link_stalls(&peer, 2, silent);
	link_stalls(&peer, 0, silent);
	assert_memory_equal(&before, &peer, sizeof(peer));
	link_stalls(&peer, 1, silent);
	link_stalls(&peer, 1, silent + 1);
	assert_int_equal(fixture_slot(&peer, 1)->stalled_ns, silent);
	assert_int_equal(fixture_slot(&peer, 1)->heard_ns, NOW);
	assert_cause(knocks(&peer, &policy, 6, silent), CAUSE_knock_suspect);
	link_heard(&peer, 1, silent + 2);
	assert_int_equal(fixture_slot(&peer, 1)->stalled_ns, 0);
	assert_cause(knocks(&peer, &policy, 6, silent + 2), CAUSE_knock_linked);
	/* A claim has no segments. */
	peer = fixture_peer();
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	link_stalls(&peer, 1, silent);
	assert_int_equal(fixture_slot(&peer, 1)->stalled_ns, 0);
}

/* Of two links one is dead: what is heard of the other is no proof for it. */
static void doubt_ends_for_each_link_by_its_own_life(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	__u64 now = NOW + 10 * SECOND;

	(void)state;
	policy.max_links = 2;
	arrange_link(&peer, 1, DIRECTION_INBOUND, 5, NOW);
	arrange_link(&peer, 2, DIRECTION_INBOUND, 6, NOW);
	assert_cause(knocks(&peer, &policy, 7, now), CAUSE_knock_suspect);
	link_heard(&peer, 2, now + 50 * SECOND);
	assert_cause(knocks(&peer, &policy, 7, now + 59 * SECOND), CAUSE_knock_suspect);
	assert_int_equal(fixture_slot(&peer, 1)->doubted_ns, now);
	assert_int_equal(fixture_slot(&peer, 2)->doubted_ns, now + 59 * SECOND);
	assert_cause(knocks(&peer, &policy, 7, now + 60 * SECOND), CAUSE_knock_unproven);
	assert_int_equal(peer_room(&peer, &policy, now + 60 * SECOND), 1);
	assert_cause(up(&peer, &policy, 3, DIRECTION_INBOUND, 7, now + 60 * SECOND),
		     CAUSE_link_replaced);
	assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_DOOMED | SLOT_UNANSWERED);
	assert_int_equal(fixture_slot(&peer, 2)->flags, 0);
	/* The doubt about the other one runs on. */
	assert_cause(knocks(&peer, &policy, 7, now + 100 * SECOND), CAUSE_knock_suspect);
	assert_int_equal(fixture_slot(&peer, 2)->doubted_ns, now + 59 * SECOND);
	assert_int_equal(fixture_slot(&peer, 3)->doubted_ns, now + 100 * SECOND);
}

/* The newcomer takes the place of one without proof; whoever sent which SYN. */
static void newcomer_replaces_a_link_without_proof(void **state)
{
	static const enum link_direction directions[] = { DIRECTION_INBOUND, DIRECTION_OUTBOUND };
	struct guard_policy policy = steps_policy();
	__u64 doubted = NOW + 10 * SECOND, now = doubted + policy.deny_max_ns;
	struct decision decision;
	int i;

	(void)state;
	for (i = 0; i < 4; i++) {
		struct peer peer = fixture_peer();

		arrange_link(&peer, 1, directions[i % 2], 5, NOW);
		assert_cause(knocks(&peer, &policy, 4, doubted), CAUSE_knock_suspect);
		decision = up(&peer, &policy, 2, directions[i / 2], 4, now);
		assert_cause(decision, CAUSE_link_replaced);
		assert_int_equal(decision.other_cookie, 1);
		assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_DOOMED);
		assert_int_equal(fixture_slot(&peer, 2)->flags, 0);
		assert_int_equal(fixture_slot(&peer, 2)->heard_ns, now);
		assert_cause(knocks(&peer, &policy, 6, now), CAUSE_knock_linked);
		assert_cause(ends(&peer, &policy, 1, ENDING_CLOSED, now), CAUSE_link_destroyed);
		assert_int_equal(peer.attempts, 0);
	}
}

/* A dial that passes because the link counts no longer fails like any other. */
static void dial_beside_a_link_without_proof_can_fail(void **state)
{
	__u64 doubted = NOW + 10 * SECOND, now = doubted + 60 * SECOND;
	struct guard_policy policy = steps_policy();
	struct dial dial = fixture_dial(2, now);
	struct peer peer = fixture_peer();

	(void)state;
	arrange_link(&peer, 1, DIRECTION_INBOUND, 5, NOW);
	assert_cause(knocks(&peer, &policy, 4, doubted), CAUSE_knock_suspect);
	assert_cause(dial_claim(&peer, &policy, &dial), CAUSE_dial_unproven);
	sent(&peer, &policy, 2, OUR_ISN, now);
	assert_cause(ends(&peer, &policy, 2, ENDING_RESET, now), CAUSE_dial_failed);
	dial.cookie = 3;
	assert_cause(dial_claim(&peer, &policy, &dial), CAUSE_dial_backoff);
}

/* Without enforcing, the silent one is named and left. */
static void replaced_link_is_doomed_by_force_only(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	struct link link = fixture_link(2, DIRECTION_INBOUND, 4, NOW + 100 * SECOND);

	(void)state;
	arrange_link(&peer, 1, DIRECTION_INBOUND, 5, NOW);
	link.mode = MODE_OBSERVE;
	assert_cause(saw(link_up(&peer, &policy, &link)), CAUSE_link_replaced);
	assert_int_equal(fixture_slot(&peer, 1)->flags, 0);
}

/*
 * Two that came up side by side in one direction: the established one stays while it shows life, and
 * goes when it is silent. A crossing pair is for the tie-break, which both ends agree on.
 */
static void newcomer_of_the_same_direction_replaces_a_silent_link(void **state)
{
	struct guard_policy policy = steps_policy();
	__u64 silent = NOW + policy.suspect_after_ns;
	struct peer peer = fixture_peer();
	struct decision decision;

	(void)state;
	arrange_link(&peer, 1, DIRECTION_INBOUND, 5, NOW);
	decision = up(&peer, &policy, 2, DIRECTION_INBOUND, 4, silent - 1);
	assert_cause(decision, CAUSE_link_duplicate);
	assert_int_equal(decision.other_cookie, 2);
	peer = fixture_peer();
	arrange_link(&peer, 1, DIRECTION_INBOUND, 5, NOW);
	decision = up(&peer, &policy, 2, DIRECTION_INBOUND, 4, silent);
	assert_cause(decision, CAUSE_link_replaced);
	assert_int_equal(decision.other_cookie, 1);
	peer = fixture_peer();
	arrange_link(&peer, 1, DIRECTION_OUTBOUND, 5, NOW);
	decision = up(&peer, &policy, 2, DIRECTION_INBOUND, 4, silent);
	assert_cause(decision, CAUSE_link_duplicate);
	assert_int_equal(decision.other_cookie, 2);
}

/* ---- our dial -------------------------------------------------------------------------------- */

static void claim_may_be_dialed_again_by_its_socket(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	struct dial dial = fixture_dial(1, NOW);

	(void)state;
	assert_cause(dial_claim(&peer, &policy, &dial), CAUSE_dial_idle);
	dial.now += SECOND;
	assert_cause(dial_claim(&peer, &policy, &dial), CAUSE_dial_again);
	assert_int_equal(fixture_count(&peer, SLOT_CLAIM), 1);
	assert_int_equal(fixture_slot(&peer, 1)->since_ns, NOW + SECOND);
	assert_int_equal(fixture_slot(&peer, 1)->expires_ns, NOW + SECOND + CLAIM_UNSENT_MAX_NS);
	/* Its second try is no way round the backoff that another socket's failure began. */
	dial.now += CLAIM_UNSENT_MAX_NS;
	peer.next_attempt_ns = dial.now + SECOND;
	assert_cause(dial_claim(&peer, &policy, &dial), CAUSE_dial_backoff);
}

/*
 * A user whose connect() fails, again and again and before a packet leaves, keeps no other user from
 * dialing. What has left is in everybody's way, and one's own dials are in one's own.
 */
static void unsent_claim_is_in_no_other_users_way(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	struct dial failing = fixture_dial(1, NOW), own = fixture_dial(2, NOW),
		    others = fixture_dial(3, NOW), third = fixture_dial(4, NOW);
	struct dial_syn syn = fixture_syn(1, OUR_ISN, NOW);

	(void)state;
	failing.user_id = own.user_id = 1000;
	others.user_id = 1001;
	assert_cause(dial_claim(&peer, &policy, &failing), CAUSE_dial_idle);
	assert_int_equal(fixture_slot(&peer, 1)->user_id, 1000);
	assert_cause(dial_claim(&peer, &policy, &own), CAUSE_dial_dialing);
	assert_cause(dial_verdict(&peer, &policy, &others), CAUSE_dial_idle);
	assert_cause(dial_verdict(&peer, &policy, &third), CAUSE_dial_idle);
	dial_sent(&peer, &policy, &syn);
	assert_cause(dial_verdict(&peer, &policy, &others), CAUSE_dial_dialing);
	slot_release(&peer, 1, CAUSE_link_released, NOW);
	/* It goes by the one that is in the way, and not by their number. */
	assert_cause(dial_claim(&peer, &policy, &failing), CAUSE_dial_idle);
	assert_cause(dial_claim(&peer, &policy, &others), CAUSE_dial_idle);
	assert_int_equal(fixture_count(&peer, SLOT_CLAIM), 2);
	third.user_id = 1001;
	assert_cause(dial_claim(&peer, &policy, &third), CAUSE_dial_dialing);
}

/* What the socket's last dial lost, its next one has not: it holds their knock again. */
static void new_dial_has_lost_no_tie(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	struct dial dial = fixture_dial(1, NOW + MILLISECOND);
	const struct their_handshake loser = fixture_theirs(OUR_ISN - 1, NOW + HOLD);

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	assert_cause(knocks(&peer, &policy, OUR_ISN + 1, NOW), CAUSE_knock_tie_won);
	assert_int_equal(fixture_slot(&peer, 1)->yields_until_ns, NOW + 2 * HOLD);
	assert_cause(dial_claim(&peer, &policy, &dial), CAUSE_dial_again);
	assert_int_equal(fixture_slot(&peer, 1)->flags, 0);
	assert_int_equal(fixture_slot(&peer, 1)->yields_until_ns, 0);
	sent(&peer, &policy, 1, OUR_ISN, dial.now);
	assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_SENT);
	assert_cause(answers(&peer, &policy, &loser, 1, dial.now + HOLD / 2), CAUSE_none);
	assert_cause(knocks(&peer, &policy, OUR_ISN - 1, dial.now), CAUSE_knock_tie_lost);
	/* Nor when the claim had become void meanwhile. */
	assert_cause(knocks(&peer, &policy, OUR_ISN + 1, dial.now), CAUSE_knock_tie_won);
	dial.now += policy.claim_max_ns;
	assert_cause(dial_claim(&peer, &policy, &dial), CAUSE_dial_idle);
	assert_int_equal(fixture_slot(&peer, 1)->flags, 0);
	assert_int_equal(fixture_slot(&peer, 1)->yields_until_ns, 0);
}

static void claim_becomes_real_when_its_syn_leaves(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer(), before;
	const struct slot *slot;
	struct dial_syn syn;

	(void)state;
	arrange_unsent_claim(&peer, &policy, 1, NOW);
	before = peer;
	sent(&peer, &policy, 2, 5, NOW); /* another socket's */
	assert_memory_equal(&before, &peer, sizeof(peer));
	syn = fixture_syn(1, 0xdeadbeef, NOW + SECOND);
	syn.local_port = 50001;
	dial_sent(&peer, &policy, &syn);
	slot = fixture_slot(&peer, 1);
	assert_int_equal(slot->flags, SLOT_SENT);
	assert_int_equal(slot->client_isn, 0xdeadbeef);
	assert_int_equal(slot->local_port, 50001);
	assert_int_equal(slot->remote_port, 24000);
	assert_memory_equal(slot->local_address, syn.local_address, sizeof(syn.local_address));
	assert_int_equal(slot->since_ns, NOW);
	assert_int_equal(slot->expires_ns, NOW + SECOND + policy.claim_max_ns);
	/* Ready is not gone: what has left is counted where it leaves. */
	assert_int_equal(slot->syns, 0);

	/* Its retransmissions make it no younger, nor forget that it lost a tie. */
	assert_cause(knocks(&peer, &policy, 0xdeadbef0, NOW + SECOND), CAUSE_knock_tie_won);
	before = peer;
	sent(&peer, &policy, 1, 5, NOW + 2 * SECOND);
	assert_memory_equal(&before, &peer, sizeof(peer));

	/* A link has no SYN to send. */
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, 0xdeadbeef, NOW + SECOND);
	before = peer;
	sent(&peer, &policy, 1, 5, NOW + SECOND);
	assert_memory_equal(&before, &peer, sizeof(peer));
}

static void claims_expire_by_themselves(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	struct decision decision;
	__u64 end;

	(void)state;
	policy.max_links = 2;
	/* The claim that never became a SYN. */
	arrange_unsent_claim(&peer, &policy, 1, NOW);
	arrange_unsent_claim(&peer, &policy, 2, NOW);
	end = NOW + CLAIM_UNSENT_MAX_NS;
	assert_cause(looks(&peer, &policy, 3, end - 1), CAUSE_dial_dialing);
	assert_cause(looks(&peer, &policy, 3, end), CAUSE_dial_idle);
	/* The claim whose socket was forgotten. */
	sent(&peer, &policy, 2, OUR_ISN, NOW);
	end = NOW + policy.claim_max_ns;
	policy.max_links = 1;
	assert_cause(looks(&peer, &policy, 3, end - 1), CAUSE_dial_dialing);
	assert_cause(knocks(&peer, &policy, OUR_ISN - 1, end - 1), CAUSE_knock_hold_spent);
	assert_cause(looks(&peer, &policy, 3, end), CAUSE_dial_idle);
	assert_cause(knocks(&peer, &policy, OUR_ISN - 1, end), CAUSE_knock_idle);
	assert_true(peer_idle(&peer, end));
	assert_false(peer_idle(&peer, end - 1));

	/* Only the expired ones are freed, without a failure. */
	decision = claims_expire(&peer, NOW + CLAIM_UNSENT_MAX_NS);
	assert_cause(decision, CAUSE_claim_expired);
	assert_int_equal(decision.other_cookie, 1);
	assert_int_equal(decision.direction, DIRECTION_OUTBOUND);
	assert_null(fixture_slot(&peer, 1));
	assert_non_null(fixture_slot(&peer, 2));
	assert_cause(claims_expire(&peer, NOW + CLAIM_UNSENT_MAX_NS), CAUSE_none);
	assert_cause(claims_expire(&peer, end - 1), CAUSE_none);
	assert_cause(claims_expire(&peer, end), CAUSE_claim_expired);
	assert_int_equal(fixture_count(&peer, SLOT_FREE), PEER_SLOTS);
	assert_int_equal(peer.attempts, 0);
	assert_int_equal(peer.next_attempt_ns, 0);

	/* A link never expires: it only falls silent. */
	arrange_link(&peer, 9, DIRECTION_OUTBOUND, OUR_ISN, NOW);
	assert_cause(claims_expire(&peer, ~0ULL >> 1), CAUSE_none);
	assert_cause(looks(&peer, &policy, 3, ~0ULL >> 1), CAUSE_dial_suspect);
}

static void announcement_is_used_up_by_a_dial_or_a_link(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	struct dial dial = fixture_dial(1, NOW);

	(void)state;
	policy.dial_policy = DIAL_POLICY_CENTRAL;
	dial.announced_only = 1;
	assert_false(peer_due(&peer, NOW)); /* nobody has dialed it */
	assert_cause(dial_claim(&peer, &policy, &dial), CAUSE_dial_not_due);
	/* That somebody wants to is learned from the refusal: else it would never be announced. */
	assert_int_equal(peer.flags, PEER_DIALED);
	assert_int_equal(fixture_count(&peer, SLOT_FREE), PEER_SLOTS);
	assert_true(peer_due(&peer, NOW));
	peer.due_ns = NOW;
	assert_cause(dial_claim(&peer, &policy, &dial), CAUSE_dial_idle);
	assert_int_equal(peer.due_ns, 0);
	/*
	 * Closed before its SYN left: the daemon announces it again, the socket does not help
	 * itself.
	 */
	assert_cause(ends(&peer, &policy, 1, ENDING_CLOSED, NOW), CAUSE_claim_closed);
	assert_cause(dial_claim(&peer, &policy, &dial), CAUSE_dial_not_due);
	peer.due_ns = NOW;
	up(&peer, &policy, 2, DIRECTION_INBOUND, 1, NOW);
	assert_int_equal(peer.due_ns, 0);
	ends(&peer, &policy, 2, ENDING_CLOSED, NOW);
	assert_cause(dial_claim(&peer, &policy, &dial), CAUSE_dial_not_due);
	/* No daemon: the shared policy holds, nobody is locked out. */
	dial.announced_only = 0;
	assert_cause(dial_claim(&peer, &policy, &dial), CAUSE_dial_idle);
}

static void entry_is_taken_only_for_its_address(void **state)
{
	struct peer_address ours = address_from_ipv4(0x070200c0), other = address_from_ipv4(1);
	struct peer peer = {}, before;

	(void)state;
	/* A new entry takes the address of its first hook. */
	assert_true(peer_is(&peer, &ours, NOW));
	assert_true(address_equal(&peer.address, &ours));
	assert_int_equal(peer.first_seen_ns, NOW);
	assert_int_equal(peer.last_active_ns, NOW);
	before = peer;
	assert_true(peer_is(&peer, &ours, NOW + 1));
	assert_false(peer_is(&peer, &other, NOW + 1));
	assert_memory_equal(&before, &peer, sizeof(peer));
	/* Being deleted: absent for everybody, a new one as well. */
	peer.flags |= PEER_LEAVING;
	assert_false(peer_is(&peer, &ours, NOW + 1));
	peer = (struct peer){ .flags = PEER_LEAVING };
	assert_false(peer_is(&peer, &ours, NOW));
}

static void room_is_what_links_leave(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();

	(void)state;
	assert_int_equal(peer_room(&peer, &policy, NOW), 1);
	policy.max_links = 3;
	assert_int_equal(peer_room(&peer, &policy, NOW), 3);
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW); /* no link yet */
	assert_int_equal(peer_room(&peer, &policy, NOW), 3);
	arrange_link(&peer, 2, DIRECTION_INBOUND, 5, NOW);
	assert_int_equal(peer_room(&peer, &policy, NOW), 2);
	peer.limit = 1;
	assert_int_equal(peer_room(&peer, &policy, NOW), 0);
	arrange_link(&peer, 3, DIRECTION_INBOUND, 5, NOW);
	assert_int_equal(peer_room(&peer, &policy, NOW), 0);
}

/* A policy that is seen half written must not lock a peer out: it may have one link. */
static void limit_of_none_counts_as_one(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	const struct their_handshake none = {};

	(void)state;
	policy.max_links = 0;
	assert_int_equal(peer_limit(&peer, &policy), 1);
	assert_int_equal(peer_room(&peer, &policy, NOW), 1);
	assert_cause(looks(&peer, &policy, 1, NOW), CAUSE_dial_idle);
	assert_cause(knocks(&peer, &policy, 5, NOW), CAUSE_knock_idle);
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	assert_cause(looks(&peer, &policy, 2, NOW), CAUSE_dial_dialing);
	assert_cause(knocks(&peer, &policy, OUR_ISN - 1, NOW), CAUSE_knock_tie_lost);
	assert_cause(answers(&peer, &policy, &none, 1, NOW), CAUSE_none);
	assert_cause(up(&peer, &policy, 1, DIRECTION_OUTBOUND, OUR_ISN, NOW), CAUSE_link_outbound);
	assert_int_equal(peer_room(&peer, &policy, NOW), 0);
	assert_cause(looks(&peer, &policy, 2, NOW), CAUSE_dial_linked);
	assert_cause(knocks(&peer, &policy, OUR_ISN + 1, NOW), CAUSE_knock_linked);
	assert_cause(up(&peer, &policy, 2, DIRECTION_INBOUND, 5, NOW), CAUSE_link_duplicate);
	/* The peer's own limit is asked first: by command, then by the peers file. */
	peer.named_limit = 3;
	assert_int_equal(peer_limit(&peer, &policy), 3);
	peer.limit = 2;
	assert_int_equal(peer_limit(&peer, &policy), 2);
	assert_int_equal(peer_room(&peer, &policy, NOW), 1);
}

static void all_slots_taken_lets_pass_untracked(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer(), before;
	struct link link = fixture_link(99, DIRECTION_INBOUND, 5, NOW);
	struct dial dial = fixture_dial(99, NOW);
	__u64 cookie;

	(void)state;
	for (cookie = 1; cookie <= PEER_SLOTS; cookie++)
		arrange_link(&peer, cookie, DIRECTION_INBOUND, 5, NOW);
	/* One too many is named, to be destroyed, though it has no slot. */
	assert_int_equal(link_up(&peer, &policy, &link).other_cookie, 99);
	link.mode = MODE_OBSERVE;
	assert_int_equal(link_up(&peer, &policy, &link).other_cookie, 0);
	link.mode = MODE_ENFORCE;
	link.adopted = 1;
	assert_int_equal(link_up(&peer, &policy, &link).other_cookie, 0);
	link.adopted = 0;
	peer.exempt_until_ns = NEVER_ENDS_NS;
	assert_cause(link_up(&peer, &policy, &link), CAUSE_link_unheld);
	assert_int_equal(link_up(&peer, &policy, &link).other_cookie, 0);

	peer = fixture_peer();
	policy.max_links = PEER_LINKS_MAX;
	for (cookie = 1; cookie <= PEER_SLOTS; cookie++)
		arrange_claim(&peer, &policy, cookie, OUR_ISN, NOW);
	/* Within the limit it is not too many. */
	assert_int_equal(link_up(&peer, &policy, &link).other_cookie, 0);
	assert_int_equal(fixture_count(&peer, SLOT_CLAIM), PEER_SLOTS);
	assert_null(slot_take(&peer, 99, NOW));
	peer.exempt_until_ns = NEVER_ENDS_NS;
	before = peer;
	assert_cause(dial_claim(&peer, &policy, &dial), CAUSE_dial_unheld);
	assert_memory_equal(&before, &peer, sizeof(peer));
	peer.exempt_until_ns = 0;
	/* Observe: said to be refused, and goes on without a claim. */
	dial.mode = MODE_OBSERVE;
	assert_cause(dial_claim(&peer, &policy, &dial), CAUSE_dial_dialing);
	assert_null(fixture_slot(&peer, 99));
	assert_cause(up(&peer, &policy, 99, DIRECTION_INBOUND, 5, NOW), CAUSE_link_unheld);
	assert_null(fixture_slot(&peer, 99));
	assert_cause(ends(&peer, &policy, 99, ENDING_CLOSED, NOW), CAUSE_none);
	/* The owner of a slot finds it even now. */
	assert_ptr_equal(slot_take(&peer, 5, NOW), fixture_slot(&peer, 5));
	/* An expired one makes room, and nothing of its owner is left in it. */
	peer.slots[3].expires_ns = NOW;
	peer.slots[3].yields_until_ns = NOW + HOLD;
	assert_cause(up(&peer, &policy, 99, DIRECTION_INBOUND, 5, NOW), CAUSE_link_inbound);
	assert_null(fixture_slot(&peer, 4));
	assert_non_null(fixture_slot(&peer, 99));
	assert_int_equal(fixture_slot(&peer, 99)->process_id, 0);
	assert_int_equal(fixture_slot(&peer, 99)->thread_id, 0);
	assert_string_equal(fixture_slot(&peer, 99)->command, "");
	assert_int_equal(fixture_slot(&peer, 99)->expires_ns, 0);
	assert_int_equal(fixture_slot(&peer, 99)->flags, 0);
	assert_int_equal(fixture_slot(&peer, 99)->yields_until_ns, 0);
	assert_cause(ends(&peer, &policy, 4, ENDING_CLOSED, NOW), CAUSE_none);
}

/*
 * Of the one that held a slot before, nothing is left for who reads the map. since_ns is the
 * taker's to set.
 */
static void taken_slot_is_empty(void **state)
{
	struct peer peer = fixture_peer();
	struct slot *slot = &peer.slots[0], empty = {};

	(void)state;
	memset(slot, 0xff, sizeof(*slot));
	slot->kind = SLOT_CLAIM;
	slot->expires_ns = NOW;
	assert_ptr_not_equal(slot_take(&peer, 7, NOW - 1), slot);
	assert_ptr_equal(slot_take(&peer, 7, NOW), slot);
	empty.cookie = 7;
	empty.since_ns = slot->since_ns;
	assert_memory_equal(&empty, slot, sizeof(empty));
}

/* ---- crossing dials -------------------------------------------------------------------------- */

/*
 * Both ends dial, both SYNs meet the other's claim: exactly one is let in, the same one at both
 * ends.
 */
static void both_ends_agree_on_every_pair_of_numbers(void **state)
{
	static const __u32 numbers[] = {
		0,          1,          2,          0x7ffffffe, 0x7fffffff, 0x80000000,
		0x80000001, 0xfffffffe, 0xffffffff, 1000,       0x12345678, 0x87654321,
	};
	struct guard_policy policy = steps_policy();
	size_t i;

	(void)state;
	for (i = 0; i < ITEMS(numbers) * ITEMS(numbers); i++) {
		__u32 a = numbers[i / ITEMS(numbers)], b = numbers[i % ITEMS(numbers)];
		struct peer at_a = fixture_peer(), at_b = fixture_peer();
		struct their_handshake pending_at_a = {}, pending_at_b = {};
		const struct their_handshake none = {};
		struct decision b_at_a, a_at_b;
		int a_completes, b_completes;

		arrange_claim(&at_a, &policy, 1, a, NOW);
		arrange_claim(&at_b, &policy, 2, b, NOW);
		b_at_a = knocks(&at_a, &policy, b, NOW);
		a_at_b = knocks(&at_b, &policy, a, NOW);
		if (b_at_a.verdict == VERDICT_ALLOW)
			pending_at_a = fixture_theirs(b, NOW + HOLD);
		if (a_at_b.verdict == VERDICT_ALLOW)
			pending_at_b = fixture_theirs(a, NOW + HOLD);
		a_completes = a_at_b.verdict == VERDICT_ALLOW &&
			      answers(&at_a, &policy, &pending_at_a, 1, NOW).verdict ==
				      VERDICT_ALLOW;
		b_completes = b_at_a.verdict == VERDICT_ALLOW &&
			      answers(&at_b, &policy, &pending_at_b, 2, NOW).verdict ==
				      VERDICT_ALLOW;
		if (a == b) {
			/*
			 * One pair in 2^32: both are let in, both answers wait; never both refused
			 * for good.
			 */
			assert_cause(b_at_a, CAUSE_knock_tie_won);
			assert_cause(a_at_b, CAUSE_knock_tie_won);
			assert_cause(answers(&at_a, &policy, &pending_at_a, 1, NOW),
				     CAUSE_answer_tie_lost);
			assert_cause(answers(&at_b, &policy, &pending_at_b, 2, NOW),
				     CAUSE_answer_tie_lost);
			assert_cause(answers(&at_a, &policy, &pending_at_a, 1, NOW + HOLD),
				     CAUSE_none);
			assert_cause(answers(&at_b, &policy, &none, 2, NOW), CAUSE_none);
			/*
			 * Both become links, each end sees its own first: nobody is doomed at
			 * either, or none would be left.
			 */
			up(&at_a, &policy, 1, DIRECTION_OUTBOUND, a, NOW + HOLD);
			up(&at_b, &policy, 2, DIRECTION_OUTBOUND, b, NOW + HOLD);
			b_at_a = up(&at_a, &policy, 22, DIRECTION_INBOUND, b, NOW + HOLD);
			a_at_b = up(&at_b, &policy, 11, DIRECTION_INBOUND, a, NOW + HOLD);
			assert_cause(b_at_a, CAUSE_link_crossed);
			assert_cause(a_at_b, CAUSE_link_crossed);
			assert_int_equal(b_at_a.other_cookie, 1);
			assert_int_equal(a_at_b.other_cookie, 2);
			assert_int_equal(peer_census(&at_a, &policy, 0, NOW + HOLD).links, 2);
			assert_int_equal(peer_census(&at_b, &policy, 0, NOW + HOLD).links, 2);
			continue;
		}
		if (a_completes + b_completes != 1 || a_completes != (a > b))
			fail_msg("a %#x completes %d, b %#x completes %d", a, a_completes, b,
				 b_completes);
		assert_cause(a > b ? b_at_a : a_at_b, CAUSE_knock_tie_lost);
		assert_cause(a > b ? a_at_b : b_at_a, CAUSE_knock_tie_won);

		/*
		 * If both became links anyway, both ends name the same loser, whichever came up
		 * first.
		 */
		up(&at_a, &policy, 1, DIRECTION_OUTBOUND, a, NOW);
		b_at_a = up(&at_a, &policy, 22, DIRECTION_INBOUND, b, NOW);
		up(&at_b, &policy, 11, DIRECTION_INBOUND, a, NOW);
		a_at_b = up(&at_b, &policy, 2, DIRECTION_OUTBOUND, b, NOW);
		assert_cause(b_at_a, CAUSE_link_duplicate);
		assert_cause(a_at_b, CAUSE_link_duplicate);
		assert_int_equal(b_at_a.other_cookie, a > b ? 22 : 1);
		assert_int_equal(a_at_b.other_cookie, a > b ? 2 : 11);

		at_a = fixture_peer();
		up(&at_a, &policy, 22, DIRECTION_INBOUND, b, NOW);
		b_at_a = up(&at_a, &policy, 1, DIRECTION_OUTBOUND, a, NOW);
		assert_cause(b_at_a, CAUSE_link_duplicate);
		assert_int_equal(b_at_a.other_cookie, a > b ? 22 : 1);
	}
}

/* Our dial has hold_max from connect() on, however many knocks come and whenever the first does. */
static void losing_knock_is_held_while_our_dial_is_young(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	struct decision decision;
	__u64 now;

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	for (now = NOW; now < NOW + HOLD; now += 100 * MILLISECOND) {
		decision = knocks(&peer, &policy, OUR_ISN - 1, now);
		assert_cause(decision, CAUSE_knock_tie_lost);
		assert_int_equal(decision.until_ns, NOW + HOLD);
	}
	assert_cause(knocks(&peer, &policy, OUR_ISN - 1, NOW + HOLD - 1), CAUSE_knock_tie_lost);
	/*
	 * Our SYN was eaten, or the peer is there only now: theirs gets in, and nothing begins
	 * another hold.
	 */
	assert_cause(knocks(&peer, &policy, OUR_ISN - 1, NOW + HOLD), CAUSE_knock_hold_spent);
	assert_cause(knocks(&peer, &policy, 0, NOW + 100 * SECOND), CAUSE_knock_tie_won);
	/* The hold is the policy's. */
	peer = fixture_peer();
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	policy.hold_max_ns = 300 * MILLISECOND;
	decision = knocks(&peer, &policy, OUR_ISN - 1, NOW + 300 * MILLISECOND - 1);
	assert_cause(decision, CAUSE_knock_tie_lost);
	assert_int_equal(decision.until_ns, NOW + 300 * MILLISECOND);
	assert_cause(knocks(&peer, &policy, OUR_ISN - 1, NOW + 300 * MILLISECOND),
		     CAUSE_knock_hold_spent);
}

/*
 * Whatever is known of a handshake of theirs, our answer waits for it while it is pending and no
 * longer than HOLD_PERIODS times hold_max from our dial on.
 */
static void answer_is_held_while_a_winner_of_theirs_is_pending(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer(), before;
	const __u64 latest = NOW + 2 * HOLD;
	struct their_handshake theirs = {};
	struct decision decision;
	__u64 now;

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW), CAUSE_none);
	/* Smaller: it lost the tie, and yet it may come up. Equal or greater: it won. */
	theirs = fixture_theirs(OUR_ISN - 1, NOW + HOLD);
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW), CAUSE_answer_tie_lost);
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW + HOLD / 2 - 1),
		     CAUSE_answer_tie_lost);
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW + HOLD / 2), CAUSE_none);
	theirs.client_isn = OUR_ISN;
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW), CAUSE_answer_tie_lost);
	theirs.client_isn = OUR_ISN + 1;
	decision = answers(&peer, &policy, &theirs, 1, NOW + HOLD - 1);
	assert_cause(decision, CAUSE_answer_tie_lost);
	assert_int_equal(decision.until_ns, NOW + HOLD);
	assert_int_equal(decision.other_cookie, 0);
	/* Given up, or RST: our dial completes at once. */
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW + HOLD), CAUSE_none);
	theirs.until_ns = 0;
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW), CAUSE_none);
	/* Ever new ones, spoofed: the dial waits no longer for them. */
	before = peer;
	for (now = NOW; now < latest + SECOND; now += 100 * MILLISECOND) {
		theirs = fixture_theirs(~0U, now + HOLD);
		assert_cause(answers(&peer, &policy, &theirs, 1, now),
			     now < latest ? CAUSE_answer_tie_lost : CAUSE_none);
	}
	theirs = fixture_theirs(~0U, latest + SECOND);
	assert_cause(answers(&peer, &policy, &theirs, 1, latest - 1), CAUSE_answer_tie_lost);
	assert_cause(answers(&peer, &policy, &theirs, 1, latest), CAUSE_none);
	assert_memory_equal(&before, &peer, sizeof(peer));
	/* From connect() on, not from the SYN. */
	peer = fixture_peer();
	arrange_unsent_claim(&peer, &policy, 1, NOW);
	sent(&peer, &policy, 1, OUR_ISN, NOW + SECOND);
	assert_cause(answers(&peer, &policy, &theirs, 1, latest - 1), CAUSE_answer_tie_lost);
	assert_cause(answers(&peer, &policy, &theirs, 1, latest), CAUSE_none);
	/* The hold is the policy's. */
	policy.hold_max_ns = 300 * MILLISECOND;
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW + 600 * MILLISECOND - 1),
		     CAUSE_answer_tie_lost);
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW + 600 * MILLISECOND),
		     CAUSE_none);
	/* Another socket's answer, and a link's own packets, are nobody's business. */
	assert_cause(answers(&peer, &policy, &theirs, 2, NOW), CAUSE_none);
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, OUR_ISN, NOW);
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW), CAUSE_none);
}

/* However many SYNs win it: the claim gives up once, and that alone holds no answer. */
static void claim_yields_once_and_for_all(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer(), yielded;
	struct their_handshake theirs = {};
	__u64 now;

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	assert_cause(knocks(&peer, &policy, OUR_ISN + 1, NOW), CAUSE_knock_tie_won);
	assert_int_equal(fixture_slot(&peer, 1)->yields_until_ns, NOW + 2 * HOLD);
	yielded = peer;
	/* From now on every number wins the tie, whenever. */
	for (now = NOW; now < NOW + 10 * HOLD; now += 100 * MILLISECOND) {
		assert_cause(knocks(&peer, &policy, OUR_ISN + 1, now), CAUSE_knock_tie_won);
		assert_cause(knocks(&peer, &policy, OUR_ISN - 1, now), CAUSE_knock_tie_won);
		assert_cause(knocks(&peer, &policy, 0, now), CAUSE_knock_tie_won);
	}
	assert_int_equal(peer.refused_knocks, 0);
	assert_memory_equal(&yielded, &peer, sizeof(peer));
	/* Nothing of theirs is on its way: our dial completes after all. */
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW), CAUSE_none);
	theirs = fixture_theirs(OUR_ISN + 1, NOW + HOLD);
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW), CAUSE_answer_tie_lost);
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW + HOLD), CAUSE_none);
	theirs.until_ns = NOW + 3 * HOLD;
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW + 2 * HOLD - 1),
		     CAUSE_answer_tie_lost);
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW + 2 * HOLD), CAUSE_none);
	/* As a link it has nothing to give up. */
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, OUR_ISN, NOW);
	assert_int_equal(fixture_slot(&peer, 1)->yields_until_ns, 0);
}

/*
 * A dial that has had its time gives way to a smaller number too, but for two round trips after an answer
 * only: the other end, for which the knock's dial lost the tie, waits longer, so that one of both comes through.
 */
static void dial_past_its_hold_gives_way_for_a_while(void **state)
{
	static const struct {
		__u64 round_trip_ns, waits_ns;
	} cases[] = {
		{ 40 * NS_PER_MS, 80 * NS_PER_MS },
		{ NS_PER_MS, 20 * NS_PER_MS },
		{ 10 * NS_PER_MS, 20 * NS_PER_MS },
		{ 200 * NS_PER_MS, 400 * NS_PER_MS },
		/* As long as the smaller number is the longest. */
		{ HOLD, HOLD },
	};
	const struct their_handshake theirs = fixture_theirs(OUR_ISN - 1, NOW + 4 * HOLD);
	struct guard_policy policy = steps_policy();

	(void)state;
	for (size_t i = 0; i < ITEMS(cases); i++) {
		const __u64 answered = NOW + cases[i].round_trip_ns;
		struct peer peer = fixture_peer(), yielded;
		struct decision decision;

		arrange_claim(&peer, &policy, 1, OUR_ISN, NOW - HOLD);
		assert_cause(answers(&peer, &policy, &theirs, 1, NOW), CAUSE_none);
		leaves(&peer, &policy, 1, NOW);
		assert_cause(knocks(&peer, &policy, OUR_ISN - 1, NOW), CAUSE_knock_hold_spent);
		assert_int_equal(fixture_slot(&peer, 1)->yields_until_ns, NOW + 2 * HOLD);
		decision = answers(&peer, &policy, &theirs, 1, answered);
		assert_cause(decision, CAUSE_answer_tie_lost);
		assert_int_equal(decision.until_ns, answered + cases[i].waits_ns);
		/* Once: a later answer makes it wait no longer. */
		assert_cause(answers(&peer, &policy, &theirs, 1, decision.until_ns - 1),
			     CAUSE_answer_tie_lost);
		yielded = peer;
		assert_cause(answers(&peer, &policy, &theirs, 1, decision.until_ns), CAUSE_none);
		/* Nor does their retransmission, or a greater number. */
		assert_cause(knocks(&peer, &policy, OUR_ISN - 1, decision.until_ns),
			     CAUSE_knock_tie_won);
		assert_cause(knocks(&peer, &policy, OUR_ISN + 1, decision.until_ns),
			     CAUSE_knock_tie_won);
		assert_memory_equal(&yielded, &peer, sizeof(peer));
	}
}

/* A hook that has read the time late, while the SYN was repeated: the shortest wait. */
static void answer_that_seems_older_than_its_syn_waits_the_shortest(void **state)
{
	const struct their_handshake theirs = fixture_theirs(OUR_ISN - 1, NOW + 4 * HOLD);
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW - HOLD);
	assert_cause(knocks(&peer, &policy, OUR_ISN - 1, NOW), CAUSE_knock_hold_spent);
	leaves(&peer, &policy, 1, NOW + MILLISECOND);
	assert_int_equal(answers(&peer, &policy, &theirs, 1, NOW).until_ns, NOW + 20 * MILLISECOND);
}

/* The smaller number waits for its whole time: the other end, if it is guarded, does not wait so long. */
static void dial_that_loses_waits_whatever_the_round_trip(void **state)
{
	const struct their_handshake theirs = fixture_theirs(OUR_ISN + 1, NOW + 2 * HOLD);
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	assert_cause(knocks(&peer, &policy, OUR_ISN + 1, NOW), CAUSE_knock_tie_won);
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW + NS_PER_MS), CAUSE_answer_tie_lost);
	assert_int_equal(fixture_slot(&peer, 1)->yields_until_ns, NOW + 2 * HOLD);
}

/* When the dial fails the backoff counts from connect(), whatever it met since. */
static void giving_way_makes_a_claim_no_younger(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	knocks(&peer, &policy, OUR_ISN + 1, NOW + SECOND);
	assert_int_equal(fixture_slot(&peer, 1)->since_ns, NOW);
}

/*
 * A dial that was given up holds nobody any more, not even when the link it lost to has come and
 * gone; then it completes at once.
 */
static void dial_that_lost_a_tie_has_lost_it(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	const struct their_handshake none = {};

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	assert_cause(knocks(&peer, &policy, OUR_ISN - 1, NOW), CAUSE_knock_tie_lost);
	assert_cause(knocks(&peer, &policy, OUR_ISN + 1, NOW), CAUSE_knock_tie_won);
	assert_cause(knocks(&peer, &policy, OUR_ISN - 1, NOW), CAUSE_knock_tie_won);
	assert_cause(up(&peer, &policy, 2, DIRECTION_INBOUND, OUR_ISN + 1, NOW + SECOND),
		     CAUSE_link_inbound);
	assert_int_equal(fixture_slot(&peer, 1)->yields_until_ns, NOW + 2 * HOLD);
	assert_cause(answers(&peer, &policy, &none, 1, NOW + SECOND), CAUSE_answer_linked);
	assert_cause(ends(&peer, &policy, 2, ENDING_CLOSED, NOW + SECOND), CAUSE_link_ended);
	assert_cause(answers(&peer, &policy, &none, 1, NOW + SECOND), CAUSE_none);
	assert_cause(knocks(&peer, &policy, OUR_ISN - 1, NOW + SECOND), CAUSE_knock_tie_won);
}

/* Only the claim that the knock crosses is noted upon. */
static void tie_is_noted_on_the_claim_it_crosses(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();

	(void)state;
	policy.max_links = 3;
	arrange_unsent_claim(&peer, &policy, 1, NOW);
	arrange_claim(&peer, &policy, 2, OUR_ISN, NOW);
	arrange_link(&peer, 3, DIRECTION_INBOUND, 5, NOW);
	knocks(&peer, &policy, OUR_ISN - 1, NOW);
	assert_int_equal(fixture_slot(&peer, 2)->yields_until_ns, 0);
	knocks(&peer, &policy, OUR_ISN + 1, NOW);
	assert_int_equal(fixture_slot(&peer, 1)->yields_until_ns, 0);
	assert_int_equal(fixture_slot(&peer, 2)->yields_until_ns, NOW + 2 * HOLD);
	assert_int_equal(fixture_slot(&peer, 3)->yields_until_ns, 0);
}

static void dial_that_is_given_up_is_no_failure(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	const struct their_handshake none = {};
	struct decision decision;

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	assert_cause(knocks(&peer, &policy, OUR_ISN + 1, NOW), CAUSE_knock_tie_won);
	assert_cause(up(&peer, &policy, 2, DIRECTION_INBOUND, OUR_ISN + 1, NOW),
		     CAUSE_link_inbound);
	assert_cause(answers(&peer, &policy, &none, 1, NOW + HOLD), CAUSE_answer_linked);
	decision = ends(&peer, &policy, 1, ENDING_CLOSED, NOW + SECOND);
	assert_cause(decision, CAUSE_dial_superseded);
	assert_int_equal(decision.direction, DIRECTION_OUTBOUND);
	assert_int_equal(decision.until_ns, 0);
	assert_int_equal(peer.attempts, 0);
	assert_int_equal(peer.next_attempt_ns, 0);
	assert_non_null(fixture_slot(&peer, 2));
}

/* ---- pending handshakes ---------------------------------------------------------------------- */

/* When SYNs that were held are forgotten, counted from the first of them. */
#define FORGOTTEN (2 * HOLD)

/* The client number of the SYN from this port, in these tests. */
static __u32 number_of(__u16 port)
{
	return 0x70000000U + port;
}

static struct decision handshake(struct pending_handshake *pending,
				 const struct peer_address *address, __u16 port, __u32 room,
				 __u64 now)
{
	struct guard_policy policy = steps_policy();

	return saw(handshake_decide(pending, address, &policy, port, number_of(port), room, now));
}

static void second_handshake_of_a_peer_is_held(void **state)
{
	struct pending_handshake pending = {};
	struct peer_address peer = address_from_ipv4(0x070200c0), other = address_from_ipv4(1);
	struct decision decision;

	(void)state;
	assert_cause(handshake(&pending, &peer, 1001, 1, NOW), CAUSE_knock_idle);
	assert_int_equal(pending.until_ns, NOW + HOLD);
	assert_int_equal(pending.client_isn, number_of(1001));
	/* Its own SYN again, as often as it likes; it does not stretch the time. */
	assert_cause(handshake(&pending, &peer, 1001, 1, NOW + SECOND), CAUSE_knock_idle);
	assert_int_equal(pending.until_ns, NOW + HOLD);
	decision = handshake(&pending, &peer, 1002, 1, NOW + SECOND);
	assert_cause(decision, CAUSE_knock_pending);
	assert_int_equal(decision.until_ns, NOW + HOLD);
	assert_int_equal(pending.remote_port, 1001);
	assert_int_equal(pending.client_isn, number_of(1001));
	/* Room for both. */
	assert_cause(handshake(&pending, &peer, 1002, 2, NOW + SECOND), CAUSE_knock_idle);
	assert_int_equal(pending.remote_port, 1001);
	/* The element is somebody else's: no memory, no hold, and the owner keeps it. */
	assert_cause(handshake(&pending, &other, 1003, 1, NOW + SECOND), CAUSE_knock_idle);
	assert_true(address_equal(&pending.address, &peer));
	assert_int_equal(pending.remote_port, 1001);
	assert_int_equal(pending.client_isn, number_of(1001));
	assert_cause(handshake(&pending, &peer, 1003, 1, NOW + HOLD - 1), CAUSE_knock_pending);
	/* Given up: the next one may, and is the pending one now. */
	assert_cause(handshake(&pending, &peer, 1002, 1, NOW + HOLD), CAUSE_knock_idle);
	assert_int_equal(pending.remote_port, 1002);
	assert_int_equal(pending.client_isn, number_of(1002));
	assert_int_equal(pending.until_ns, NOW + 2 * HOLD);
	/* A link came of it: done at once, but only for the one that it was. */
	handshake_done(&pending, &peer, 1001);
	handshake_done(&pending, &other, 1002);
	assert_int_equal(pending.until_ns, NOW + 2 * HOLD);
	handshake_done(&pending, &peer, 1002);
	assert_int_equal(pending.until_ns, 0);
	assert_cause(handshake(&pending, &other, 1003, 1, NOW + HOLD), CAUSE_knock_idle);
	assert_true(address_equal(&pending.address, &other));
}

/* Whatever was let in before the service started anew has met nobody: the next one need not wait for it. */
static void handshake_ends_with_the_service_it_came_to(void **state)
{
	struct pending_handshake pending = {};
	struct peer_address peer = address_from_ipv4(0x070200c0);

	(void)state;
	assert_cause(handshake(&pending, &peer, 1001, 1, NOW), CAUSE_knock_idle);
	assert_int_equal(pending.let_in_ns, NOW);
	handshake_forget_before(&pending, 0);
	handshake_forget_before(&pending, NOW - 1);
	assert_int_equal(handshake_pending(&pending, &peer, NOW).until_ns, NOW + HOLD);
	/* Its SYN again is the same one: what it has begun with is gone. */
	assert_cause(handshake(&pending, &peer, 1001, 1, NOW + 2), CAUSE_knock_idle);
	handshake_forget_before(&pending, NOW + 1);
	assert_int_equal(handshake_pending(&pending, &peer, NOW + 2).until_ns, 0);
	assert_cause(handshake(&pending, &peer, 1002, 1, NOW + 2), CAUSE_knock_idle);
	assert_int_equal(pending.let_in_ns, NOW + 2);
	/* What has come since is pending as ever. */
	handshake_forget_before(&pending, NOW + 1);
	assert_cause(handshake(&pending, &peer, 1003, 1, NOW + 3), CAUSE_knock_pending);
}

/* Its own retransmission passes, and so does one more than can be remembered. */
static void each_handshake_is_held_once_and_few_at_a_time(void **state)
{
	struct peer_address peer = address_from_ipv4(0x070200c0);
	struct pending_handshake pending = {};
	const __u64 first = NOW + 10 * MILLISECOND;
	struct decision decision;
	__u16 port;

	(void)state;
	assert_cause(handshake(&pending, &peer, 1000, 1, NOW), CAUSE_knock_idle);
	for (port = 1001; port <= 1000 + HELD_PORTS; port++)
		assert_cause(handshake(&pending, &peer, port, 1, first), CAUSE_knock_pending);
	assert_int_equal(pending.remote_port, 1000);
	assert_int_equal(pending.until_ns, NOW + HOLD);
	/* All places are taken: let in, and the pending one from now on. */
	decision = handshake(&pending, &peer, port, 1, first);
	assert_cause(decision, CAUSE_knock_hold_spent);
	assert_int_equal(decision.until_ns, 0);
	assert_int_equal(pending.remote_port, port);
	assert_int_equal(pending.client_isn, number_of(port));
	assert_int_equal(pending.until_ns, first + HOLD);
	/* Every one that was held passes when it comes again. */
	for (port = 1001; port <= 1000 + HELD_PORTS; port++) {
		assert_cause(handshake(&pending, &peer, port, 1, first + SECOND),
			     CAUSE_knock_hold_spent);
		assert_int_equal(pending.remote_port, port);
	}
	/* The first one was never held: it is not known, but there is no place. */
	assert_cause(handshake(&pending, &peer, 1000, 1, first + HOLD), CAUSE_knock_hold_spent);
	/* Forgotten after a time that counts from the first hold, and only then. */
	assert_cause(handshake(&pending, &peer, 1001, 1, first + FORGOTTEN - 1),
		     CAUSE_knock_hold_spent);
	assert_cause(handshake(&pending, &peer, 1002, 1, first + FORGOTTEN), CAUSE_knock_pending);
	assert_cause(handshake(&pending, &peer, 1002, 1, first + FORGOTTEN),
		     CAUSE_knock_hold_spent);
	assert_cause(handshake(&pending, &peer, 1001, 1, first + FORGOTTEN), CAUSE_knock_pending);
	/* One that is over holds nobody, whoever has been held. */
	handshake_done(&pending, &peer, 1002);
	assert_cause(handshake(&pending, &peer, 1005, 1, first + FORGOTTEN), CAUSE_knock_idle);
}

/*
 * Its last ACK has come, and it becomes a link when our SYN-ACK is repeated: whatever passes meanwhile
 * would be one link too many.
 */
static void nothing_passes_beside_a_handshake_that_is_acknowledged(void **state)
{
	struct peer_address peer = address_from_ipv4(0x070200c0), other = address_from_ipv4(1);
	struct guard_policy policy = steps_policy();
	const __u64 waits = NOW + 40 * MILLISECOND, passes = waits + FORGOTTEN;
	struct pending_handshake pending = {}, before;
	struct decision decision;
	__u16 port;

	(void)state;
	assert_cause(handshake(&pending, &peer, 1000, 1, NOW), CAUSE_knock_idle);
	for (port = 1001; port <= 1000 + HELD_PORTS; port++)
		assert_cause(handshake(&pending, &peer, port, 1, NOW), CAUSE_knock_pending);
	/* Not by that of another one, nor of one that is over. */
	before = pending;
	handshake_waits(&pending, &peer, &policy, 1001, waits);
	handshake_waits(&pending, &other, &policy, 1000, waits);
	handshake_waits(&pending, &peer, &policy, 1000, NOW + HOLD);
	assert_memory_equal(&before, &pending, sizeof(pending));
	handshake_waits(&pending, &peer, &policy, 1000, waits);
	assert_int_equal(pending.until_ns, passes);
	assert_int_equal(handshake_pending(&pending, &peer, waits).until_ns, passes);
	assert_true(handshake_awaited(&pending, &peer, 1000, passes - 1));
	/* Neither one that was held before nor one for which no place is left; its own SYN does. */
	decision = handshake(&pending, &peer, 1001, 1, waits);
	assert_cause(decision, CAUSE_knock_pending);
	assert_int_equal(decision.until_ns, passes);
	assert_cause(handshake(&pending, &peer, 2000, 1, waits), CAUSE_knock_pending);
	assert_cause(handshake(&pending, &peer, 1001, 1, passes - 1), CAUSE_knock_pending);
	assert_int_equal(pending.remote_port, 1000);
	assert_cause(handshake(&pending, &peer, 1000, 1, waits), CAUSE_knock_idle);
	/* With room for both there is no reason to; and the element is of one address. */
	assert_cause(handshake(&pending, &peer, 1001, 2, waits), CAUSE_knock_idle);
	assert_cause(handshake(&pending, &other, 1001, 1, waits), CAUSE_knock_idle);
	/* Bounded: the next one is a handshake like any other. */
	before = pending;
	assert_cause(handshake(&pending, &peer, 1001, 1, passes), CAUSE_knock_idle);
	assert_int_equal(pending.until_ns, passes + HOLD);
	assert_cause(handshake(&pending, &peer, 1002, 1, passes), CAUSE_knock_pending);
	assert_cause(handshake(&pending, &peer, 1002, 1, passes), CAUSE_knock_hold_spent);
	/* It has become a link, or the other end knows nothing of it. */
	pending = before;
	handshake_done(&pending, &peer, 1000);
	assert_cause(handshake(&pending, &peer, 1001, 1, waits), CAUSE_knock_idle);
	assert_cause(handshake(&pending, &peer, 1009, 1, waits), CAUSE_knock_pending);
	assert_cause(handshake(&pending, &peer, 1009, 1, waits), CAUSE_knock_hold_spent);
}

static void held_handshakes_are_remembered_across_addresses(void **state)
{
	struct peer_address peer = address_from_ipv4(0x070200c0), other = address_from_ipv4(1);
	struct pending_handshake pending = {};
	__u16 port;

	(void)state;
	assert_cause(handshake(&pending, &peer, 1000, 1, NOW), CAUSE_knock_idle);
	assert_cause(handshake(&pending, &peer, 1001, 1, NOW), CAUSE_knock_pending);
	/* The other one takes the element, uses up the places, and gives it back. */
	handshake_done(&pending, &peer, 1000);
	assert_cause(handshake(&pending, &other, 2000, 1, NOW), CAUSE_knock_idle);
	for (port = 2001; port < 2000 + HELD_PORTS; port++)
		assert_cause(handshake(&pending, &other, port, 1, NOW), CAUSE_knock_pending);
	assert_cause(handshake(&pending, &other, port, 1, NOW), CAUSE_knock_hold_spent);
	handshake_done(&pending, &other, port);
	assert_cause(handshake(&pending, &peer, 1002, 1, NOW + SECOND), CAUSE_knock_idle);
	assert_cause(handshake(&pending, &peer, 1001, 1, NOW + SECOND), CAUSE_knock_hold_spent);
	assert_cause(handshake(&pending, &peer, 1003, 1, NOW + SECOND), CAUSE_knock_hold_spent);
	/* By expiry as well as by its end. */
	assert_cause(handshake(&pending, &other, 2000, 1, NOW + SECOND + HOLD), CAUSE_knock_idle);
	assert_cause(handshake(&pending, &other, 2009, 1, NOW + FORGOTTEN - 1),
		     CAUSE_knock_hold_spent);
	assert_cause(handshake(&pending, &other, 2010, 1, NOW + FORGOTTEN), CAUSE_knock_pending);
}

/*
 * Two addresses that share an element, each with ever new ports, a SYN a millisecond, every
 * handshake ended after ten: together they hold what one address could.
 */
static void alternating_addresses_hold_no_more_than_one(void **state)
{
	const struct peer_address peers[] = { address_from_ipv4(0x070200c0), address_from_ipv4(1) };
	struct pending_handshake pending = {};
	__u64 holds[HELD_PORTS] = {}, now;
	unsigned held = 0, step = 0;

	(void)state;
	for (now = NOW; now < NOW + 60 * SECOND; now += MILLISECOND) {
		const struct peer_address *peer = &peers[++step / 5 % 2];

		if (step % 10 == 0) {
			struct peer_address owner = pending.address;

			handshake_done(&pending, &owner, pending.remote_port);
		}
		if (handshake(&pending, peer, step, 1, now).verdict != VERDICT_HOLD)
			continue;
		/* The hold that came HELD_PORTS holds earlier belongs to a time forgotten. */
		assert_true(held < HELD_PORTS || holds[held % HELD_PORTS] + FORGOTTEN <= now);
		holds[held++ % HELD_PORTS] = now;
	}
	assert_in_range(held, 19 * HELD_PORTS, 20 * HELD_PORTS);
}

static void their_handshake_is_known_while_it_is_pending(void **state)
{
	struct peer_address peer = address_from_ipv4(0x070200c0), other = address_from_ipv4(1);
	struct pending_handshake pending = {}, before;
	struct their_handshake theirs;

	(void)state;
	assert_int_equal(handshake_pending(&pending, &peer, NOW).until_ns, 0);
	handshake(&pending, &peer, 1001, 1, NOW);
	before = pending;
	theirs = handshake_pending(&pending, &peer, NOW + HOLD - 1);
	assert_int_equal(theirs.until_ns, NOW + HOLD);
	assert_int_equal(theirs.client_isn, number_of(1001));
	theirs = handshake_pending(&pending, &peer, NOW + HOLD);
	assert_int_equal(theirs.until_ns, 0);
	assert_int_equal(theirs.client_isn, 0);
	theirs = handshake_pending(&pending, &other, NOW);
	assert_int_equal(theirs.until_ns, 0);
	assert_int_equal(theirs.client_isn, 0);
	assert_true(handshake_awaited(&pending, &peer, 1001, NOW + HOLD - 1));
	assert_false(handshake_awaited(&pending, &peer, 1001, NOW + HOLD));
	assert_false(handshake_awaited(&pending, &peer, 1002, NOW));
	assert_false(handshake_awaited(&pending, &other, 1001, NOW));
	assert_memory_equal(&before, &pending, sizeof(pending));
	/* A SYN that is held is not the pending one, one that takes its place is. */
	handshake(&pending, &peer, 1002, 1, NOW);
	assert_int_equal(handshake_pending(&pending, &peer, NOW).client_isn, number_of(1001));
	handshake(&pending, &peer, 1002, 1, NOW);
	assert_int_equal(handshake_pending(&pending, &peer, NOW).client_isn, number_of(1002));
	handshake_done(&pending, &peer, 1002);
	assert_int_equal(handshake_pending(&pending, &peer, NOW).until_ns, 0);
}

/* What the ingress hook does: RST to a listener ends the handshake of its port. */
static void reset_to_the_listener_frees_the_answer(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	struct pending_handshake pending = {};
	struct their_handshake theirs;

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	assert_cause(knocks(&peer, &policy, number_of(1001), NOW), CAUSE_knock_tie_won);
	assert_cause(handshake(&pending, &peer.address, 1001, 1, NOW), CAUSE_knock_idle);
	theirs = handshake_pending(&pending, &peer.address, NOW);
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW), CAUSE_answer_tie_lost);
	/* One of another port, or in another's name, frees nothing. */
	handshake_done(&pending, &peer.address, 1002);
	handshake_done(&pending, &(struct peer_address){}, 1001);
	theirs = handshake_pending(&pending, &peer.address, NOW);
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW), CAUSE_answer_tie_lost);
	handshake_done(&pending, &peer.address, 1001);
	theirs = handshake_pending(&pending, &peer.address, NOW);
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW), CAUSE_none);
	/* The claim has given up all the same: a later one of theirs holds the answer again. */
	assert_cause(knocks(&peer, &policy, 0, NOW), CAUSE_knock_tie_won);
	assert_cause(handshake(&pending, &peer.address, 1003, 1, NOW), CAUSE_knock_idle);
	theirs = handshake_pending(&pending, &peer.address, NOW);
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW), CAUSE_answer_tie_lost);
}

/*
 * SYNs in the peer's name from ever new ports, fast and slow, with a RST for every other one that
 * was let in or without; a real one comes into it at any time, and again 1 s and 3 s later.
 */
static void spoofed_flood_holds_a_real_knock_twice_at_most(void **state)
{
	static const __u64 paces[] = { MILLISECOND, 20 * MILLISECOND, 130 * MILLISECOND,
				       375 * MILLISECOND, 700 * MILLISECOND, 1490 * MILLISECOND };
	static const __u64 retransmissions[] = { 0, SECOND, 3 * SECOND };
	const struct peer_address peer = address_from_ipv4(0x070200c0);
	unsigned most = 0, total = 0;
	size_t pace, tries;
	__u64 begins;
	int reset;

	(void)state;
	for (pace = 0; pace < ITEMS(paces); pace++) {
		/* Reset or not, and any beginning within the time after which holds repeat. */
		for (begins = 0; begins < 8 * SECOND; begins += 7 * MILLISECOND) {
			struct pending_handshake pending = {};
			__u64 now = NOW, knocks_at = NOW + begins;
			enum verdict verdict = VERDICT_HOLD;
			unsigned held = 0;
			__u16 port = 0;

			reset = begins / (7 * MILLISECOND) % 2;
			for (tries = 0; tries < ITEMS(retransmissions); tries++) {
				__u64 at = knocks_at + retransmissions[tries];

				for (; now <= at; now += paces[pace]) {
					struct decision spoofed =
						handshake(&pending, &peer, ++port, 1, now);

					if (reset && spoofed.verdict == VERDICT_ALLOW &&
					    port % 2)
						handshake_done(&pending, &peer, port);
				}
				verdict = handshake(&pending, &peer, 60000, 1, at).verdict;
				if (verdict == VERDICT_ALLOW)
					break;
				held++;
			}
			if (verdict != VERDICT_ALLOW)
				fail_msg("a SYN every %llu ms: the real one at %llu ms is held "
					 "three times",
					 (unsigned long long)(paces[pace] / MILLISECOND),
					 (unsigned long long)(begins / MILLISECOND));
			most = held > most ? held : most;
			total += held != 0;
		}
	}
	/* The test can see holds: some there are, and the worst case is met. */
	assert_int_equal(most, 2);
	assert_true(total > 0);
	assert_true(seen[CAUSE_knock_hold_spent]);
}

/* ---- links ----------------------------------------------------------------------------------- */

static void dial_becomes_a_link_in_its_own_slot(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	const struct slot *slot;

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	assert_cause(up(&peer, &policy, 1, DIRECTION_OUTBOUND, OUR_ISN, NOW + SECOND),
		     CAUSE_link_outbound);
	assert_int_equal(fixture_count(&peer, SLOT_LINK), 1);
	assert_int_equal(fixture_count(&peer, SLOT_CLAIM), 0);
	slot = fixture_slot(&peer, 1);
	assert_int_equal(slot->kind, SLOT_LINK);
	assert_int_equal(slot->direction, DIRECTION_OUTBOUND);
	assert_int_equal(slot->since_ns, NOW + SECOND);
	assert_int_equal(slot->expires_ns, 0);
	assert_int_equal(slot->client_isn, OUR_ISN);
	assert_int_equal(slot->flags, 0);
	assert_int_equal(slot->local_port, 50000);
	assert_int_equal(slot->remote_port, 24000);
	assert_int_equal(slot->process_id, 10); /* who dialed is still known */
	assert_string_equal(slot->command, "dialer");
	assert_int_equal(peer.last_active_ns, NOW + SECOND);
}

static void link_up_twice_changes_nothing(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer(), before;

	(void)state;
	assert_cause(up(&peer, &policy, 1, DIRECTION_INBOUND, 7, NOW), CAUSE_link_inbound);
	before = peer;
	assert_cause(up(&peer, &policy, 1, DIRECTION_INBOUND, 7, NOW), CAUSE_none);
	assert_memory_equal(&before, &peer, sizeof(peer));
	/* Nor for the loser of a duplicate, nor does it become the winner by being told twice. */
	assert_cause(up(&peer, &policy, 2, DIRECTION_OUTBOUND, 5, NOW), CAUSE_link_duplicate);
	assert_true(fixture_slot(&peer, 2)->flags & SLOT_DOOMED);
	before = peer;
	assert_cause(up(&peer, &policy, 2, DIRECTION_OUTBOUND, 9, NOW), CAUSE_none);
	assert_memory_equal(&before, &peer, sizeof(peer));
}

static void link_too_many_dooms_one(void **state)
{
	static const struct {
		const char *name;
		enum tie_break tie_break;
		enum link_direction first, second;
		__u32 first_isn, second_isn;
		enum cause cause;
		__u64 loser; /* of the sockets 1 and 2 */
	} rows[] = {
		{ "crossing, ours greater", TIE_BREAK_ISN, DIRECTION_OUTBOUND, DIRECTION_INBOUND, 9,
		  5, CAUSE_link_duplicate, 2 },
		{ "crossing, theirs greater", TIE_BREAK_ISN, DIRECTION_OUTBOUND,
		  DIRECTION_INBOUND, 5, 9, CAUSE_link_duplicate, 1 },
		{ "crossing, theirs first, ours greater", TIE_BREAK_ISN, DIRECTION_INBOUND,
		  DIRECTION_OUTBOUND, 5, 9, CAUSE_link_duplicate, 1 },
		{ "crossing, theirs first and greater", TIE_BREAK_ISN, DIRECTION_INBOUND,
		  DIRECTION_OUTBOUND, 9, 5, CAUSE_link_duplicate, 2 },
		{ "crossing, equal", TIE_BREAK_ISN, DIRECTION_OUTBOUND, DIRECTION_INBOUND, 9, 9,
		  CAUSE_link_crossed, 1 },
		{ "crossing, equal, theirs first", TIE_BREAK_ISN, DIRECTION_INBOUND,
		  DIRECTION_OUTBOUND, 9, 9, CAUSE_link_crossed, 1 },
		{ "crossing, both 0", TIE_BREAK_ISN, DIRECTION_OUTBOUND, DIRECTION_INBOUND, 0, 0,
		  CAUSE_link_crossed, 1 },
		{ "same direction, equal", TIE_BREAK_ISN, DIRECTION_INBOUND, DIRECTION_INBOUND, 9,
		  9, CAUSE_link_duplicate, 2 },
		{ "crossing, equal, left to the service", TIE_BREAK_NONE, DIRECTION_OUTBOUND,
		  DIRECTION_INBOUND, 9, 9, CAUSE_link_crossed, 1 },
		{ "same direction, smaller first", TIE_BREAK_ISN, DIRECTION_INBOUND,
		  DIRECTION_INBOUND, 5, 9, CAUSE_link_duplicate, 2 },
		{ "same direction, greater first", TIE_BREAK_ISN, DIRECTION_OUTBOUND,
		  DIRECTION_OUTBOUND, 9, 5, CAUSE_link_duplicate, 2 },
		{ "crossing, left to the service", TIE_BREAK_NONE, DIRECTION_OUTBOUND,
		  DIRECTION_INBOUND, 5, 9, CAUSE_link_crossed, 1 },
		{ "same direction, nothing crosses", TIE_BREAK_NONE, DIRECTION_INBOUND,
		  DIRECTION_INBOUND, 5, 9, CAUSE_link_duplicate, 2 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < ITEMS(rows); i++) {
		struct guard_policy policy = steps_policy();
		struct peer peer = fixture_peer();
		struct decision decision;
		__u64 cookie;

		policy.tie_break = rows[i].tie_break;
		up(&peer, &policy, 1, rows[i].first, rows[i].first_isn, NOW);
		decision = up(&peer, &policy, 2, rows[i].second, rows[i].second_isn, NOW);
		if (decision.cause != rows[i].cause || decision.other_cookie != rows[i].loser)
			fail_msg("%s: %s, loser %llu", rows[i].name, cause_name(decision.cause),
				 (unsigned long long)decision.other_cookie);
		for (cookie = 1; cookie <= 2; cookie++) {
			int doomed = !!(fixture_slot(&peer, cookie)->flags & SLOT_DOOMED);

			if (doomed != (decision.cause == CAUSE_link_duplicate &&
				       cookie == rows[i].loser))
				fail_msg("%s: link %llu doomed: %d", rows[i].name,
					 (unsigned long long)cookie, doomed);
		}
	}
}

/* Both stay, and everything else goes on as with one link too many that nobody destroys. */
static void equal_numbers_name_no_loser(void **state)
{
	static const enum guard_mode modes[] = { MODE_OBSERVE, MODE_ENFORCE };
	struct guard_policy policy = steps_policy();
	struct peer peer;
	struct link link = fixture_link(2, DIRECTION_INBOUND, OUR_ISN, NOW);
	struct decision decision;
	size_t i;

	(void)state;
	for (i = 0; i < ITEMS(modes); i++) {
		peer = fixture_peer();
		arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
		up(&peer, &policy, 1, DIRECTION_OUTBOUND, OUR_ISN, NOW);
		link.mode = modes[i];
		decision = saw(link_up(&peer, &policy, &link));
		assert_cause(decision, CAUSE_link_crossed);
		assert_int_equal(decision.other_cookie, 1);
		assert_int_equal(decision.direction, DIRECTION_INBOUND);
		assert_int_equal(fixture_slot(&peer, 1)->flags, 0);
		assert_int_equal(fixture_slot(&peer, 2)->flags, 0);
		/* Told twice, it is crossed no more than once. */
		assert_cause(link_up(&peer, &policy, &link), CAUSE_none);
	}
	assert_int_equal(peer_room(&peer, &policy, NOW), 0);
	assert_cause(looks(&peer, &policy, 3, NOW), CAUSE_dial_linked);
	assert_cause(knocks(&peer, &policy, ~0U, NOW), CAUSE_knock_linked);
	/* The service gives one up: no failure, and the other one is the peer's link. */
	assert_cause(ends(&peer, &policy, 1, ENDING_CLOSED, NOW), CAUSE_link_ended);
	assert_int_equal(peer.attempts, 0);
	assert_int_equal(peer.next_attempt_ns, 0);
	assert_cause(looks(&peer, &policy, 3, NOW), CAUSE_dial_linked);

	/* One of several is equal: as many stay as there are, even beside a smaller one. */
	peer = fixture_peer();
	policy.max_links = 2;
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, 5, NOW);
	up(&peer, &policy, 2, DIRECTION_OUTBOUND, 9, NOW);
	decision = up(&peer, &policy, 3, DIRECTION_INBOUND, 9, NOW);
	assert_cause(decision, CAUSE_link_crossed);
	assert_int_equal(fixture_slot(&peer, decision.other_cookie)->direction,
			 DIRECTION_OUTBOUND);
	assert_int_equal(peer_census(&peer, &policy, 0, NOW).links, 3);
	/* Two that came before have nothing to do with the tie of a third. */
	peer = fixture_peer();
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, 7, NOW);
	up(&peer, &policy, 2, DIRECTION_INBOUND, 7, NOW);
	decision = up(&peer, &policy, 3, DIRECTION_INBOUND, 9, NOW);
	assert_cause(decision, CAUSE_link_duplicate);
	assert_int_equal(decision.other_cookie, 1);
	/* Within the limit there is no tie. */
	peer = fixture_peer();
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, 9, NOW);
	assert_cause(up(&peer, &policy, 2, DIRECTION_INBOUND, 9, NOW), CAUSE_link_inbound);
	/* Nor with one that goes already. */
	peer = fixture_peer();
	policy.max_links = 1;
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, 5, NOW);
	assert_cause(up(&peer, &policy, 2, DIRECTION_INBOUND, 9, NOW), CAUSE_link_duplicate);
	assert_true(fixture_slot(&peer, 1)->flags & SLOT_DOOMED);
	assert_cause(up(&peer, &policy, 3, DIRECTION_INBOUND, 5, NOW), CAUSE_link_duplicate);
	assert_true(fixture_slot(&peer, 3)->flags & SLOT_DOOMED);
	/* Nor with an adopted one, whose number is not known. */
	peer = fixture_peer();
	link = fixture_link(1, DIRECTION_INBOUND, 0, NOW);
	link.adopted = 1;
	assert_cause(link_up(&peer, &policy, &link), CAUSE_link_adopted);
	decision = up(&peer, &policy, 2, DIRECTION_OUTBOUND, 0, NOW);
	assert_cause(decision, CAUSE_link_duplicate);
	assert_int_equal(decision.other_cookie, 2);
}

/* Wherever in the slots it is, and the newcomer's number counts as well. */
static void smallest_number_of_several_rivals_loses(void **state)
{
	static const __u32 orders[][3] = { { 5, 7, 9 }, { 5, 9, 7 }, { 7, 5, 9 },
					   { 7, 9, 5 }, { 9, 5, 7 }, { 9, 7, 5 } };
	static const __u32 newcomers[] = { 4, 6, 8, 10 };
	size_t i;
	__u64 cookie;

	(void)state;
	for (i = 0; i < ITEMS(orders) * ITEMS(newcomers); i++) {
		const __u32 *order = orders[i / ITEMS(newcomers)];
		__u32 newcomer = newcomers[i % ITEMS(newcomers)];
		struct guard_policy policy = steps_policy();
		struct peer peer = fixture_peer();
		struct decision decision;
		__u64 loser = 4;

		policy.max_links = 3;
		for (cookie = 1; cookie <= 3; cookie++) {
			up(&peer, &policy, cookie, DIRECTION_OUTBOUND, order[cookie - 1], NOW);
			if (order[cookie - 1] == 5 && newcomer > 5)
				loser = cookie;
		}
		decision = up(&peer, &policy, 4, DIRECTION_INBOUND, newcomer, NOW);
		assert_cause(decision, CAUSE_link_duplicate);
		if (decision.other_cookie != loser)
			fail_msg("%u after %u, %u, %u: loser %llu", newcomer, order[0], order[1],
				 order[2], (unsigned long long)decision.other_cookie);
		for (cookie = 1; cookie <= 4; cookie++)
			assert_int_equal(fixture_slot(&peer, cookie)->flags,
					 cookie == loser ? SLOT_DOOMED : 0);
	}
}

/* At the greatest limit too, a slot is left in which the link too many is seen and named. */
static void link_too_many_is_seen_at_the_greatest_limit(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	struct decision decision;
	__u64 cookie;

	(void)state;
	assert_int_equal(PEER_LINKS_MAX, PEER_SLOTS - 1);
	policy.max_links = PEER_LINKS_MAX;
	for (cookie = 1; cookie <= PEER_LINKS_MAX; cookie++)
		assert_cause(up(&peer, &policy, cookie, DIRECTION_OUTBOUND, 100 + cookie, NOW),
			     CAUSE_link_outbound);
	decision = up(&peer, &policy, cookie, DIRECTION_INBOUND, 5, NOW);
	assert_cause(decision, CAUSE_link_duplicate);
	assert_int_equal(decision.other_cookie, cookie);
	assert_true(fixture_slot(&peer, cookie)->flags & SLOT_DOOMED);
	/* So is the next when that one is gone, and when the loser is an older one. */
	assert_cause(ends(&peer, &policy, cookie, ENDING_CLOSED, NOW), CAUSE_link_destroyed);
	decision = up(&peer, &policy, 99, DIRECTION_INBOUND, 200, NOW);
	assert_cause(decision, CAUSE_link_duplicate);
	assert_int_equal(decision.other_cookie, 1);
	assert_int_equal(peer_census(&peer, &policy, 0, NOW).links, PEER_LINKS_MAX);
}

static void link_within_the_limit_dooms_none(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	struct link adopted = fixture_link(5, DIRECTION_INBOUND, 0, NOW);

	(void)state;
	policy.max_links = 2;
	assert_cause(up(&peer, &policy, 1, DIRECTION_OUTBOUND, 9, NOW), CAUSE_link_outbound);
	assert_cause(up(&peer, &policy, 2, DIRECTION_INBOUND, 5, NOW), CAUSE_link_inbound);
	assert_cause(up(&peer, &policy, 3, DIRECTION_INBOUND, 7, NOW), CAUSE_link_duplicate);
	assert_true(fixture_slot(&peer, 3)->flags & SLOT_DOOMED);
	/* An exempt peer may have what it likes. */
	peer.exempt_until_ns = NOW + 1;
	assert_cause(up(&peer, &policy, 4, DIRECTION_INBOUND, 99, NOW), CAUSE_link_inbound);
	/* One older than the guard is left alone, as newcomer and as the one that was there; as newcomer it is told. */
	peer.exempt_until_ns = 0;
	adopted.adopted = 1;
	assert_cause(link_up(&peer, &policy, &adopted), CAUSE_link_surplus);
	assert_int_equal(fixture_slot(&peer, 5)->flags, SLOT_ADOPTED | SLOT_SURPLUS);
	peer = fixture_peer();
	policy.max_links = 1;
	assert_cause(link_up(&peer, &policy, &adopted), CAUSE_link_adopted);
	assert_cause(up(&peer, &policy, 6, DIRECTION_OUTBOUND, ~0U, NOW), CAUSE_link_duplicate);
	assert_true(fixture_slot(&peer, 6)->flags & SLOT_DOOMED);
	assert_false(fixture_slot(&peer, 5)->flags & SLOT_DOOMED);
	/* A doomed one is no rival: the newcomer has to go, not the one that goes already. */
	peer = fixture_peer();
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, 5, NOW);
	assert_cause(up(&peer, &policy, 2, DIRECTION_INBOUND, 9, NOW), CAUSE_link_duplicate);
	assert_cause(up(&peer, &policy, 3, DIRECTION_INBOUND, 8, NOW), CAUSE_link_duplicate);
	assert_true(fixture_slot(&peer, 1)->flags & SLOT_DOOMED);
	assert_false(fixture_slot(&peer, 2)->flags & SLOT_DOOMED);
	assert_true(fixture_slot(&peer, 3)->flags & SLOT_DOOMED);
	/* The doomed one is none: its place is free for the next. */
	peer = fixture_peer();
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, 5, NOW);
	assert_cause(up(&peer, &policy, 2, DIRECTION_INBOUND, 9, NOW), CAUSE_link_duplicate);
	assert_cause(ends(&peer, &policy, 2, ENDING_CLOSED, NOW), CAUSE_link_ended);
	assert_cause(up(&peer, &policy, 3, DIRECTION_INBOUND, 1, NOW), CAUSE_link_inbound);
	assert_cause(ends(&peer, &policy, 1, ENDING_CLOSED, NOW), CAUSE_link_destroyed);
	assert_int_equal(peer.attempts, 0);
}

/* Only enforce mode dooms; observe says what it would have done, off says nothing. */
static void link_too_many_is_doomed_in_enforce_mode_only(void **state)
{
	static const struct {
		enum guard_mode mode;
		enum cause cause;
		__u64 loser;
		__u32 flags;
	} rows[] = {
		{ MODE_ENFORCE, CAUSE_link_duplicate, 1, SLOT_DOOMED },
		{ MODE_OBSERVE, CAUSE_link_duplicate, 1, 0 },
		{ MODE_OFF, CAUSE_link_inbound, 0, 0 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < ITEMS(rows); i++) {
		struct guard_policy policy = steps_policy();
		struct peer peer = fixture_peer();
		struct link link = fixture_link(2, DIRECTION_INBOUND, 9, NOW);
		struct decision decision;

		link.mode = rows[i].mode;
		arrange_link(&peer, 1, DIRECTION_OUTBOUND, 5, NOW);
		decision = link_up(&peer, &policy, &link);
		assert_cause(decision, rows[i].cause);
		assert_int_equal(decision.other_cookie, rows[i].loser);
		assert_int_equal(fixture_slot(&peer, 1)->flags, rows[i].flags);
		assert_int_equal(fixture_slot(&peer, 2)->flags, 0);
	}
}

/* The number that a claim sent decides, whatever the hook could still find out at establishment. */
static void number_of_the_claim_stays(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, 0, NOW);
	assert_int_equal(fixture_slot(&peer, 1)->client_isn, OUR_ISN);
	assert_int_equal(
		up(&peer, &policy, 2, DIRECTION_INBOUND, OUR_ISN - 1, NOW).other_cookie, 2);

	peer = fixture_peer();
	arrange_unsent_claim(&peer, &policy, 1, NOW);
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, 77, NOW);
	assert_int_equal(fixture_slot(&peer, 1)->client_isn, 77);
}

/* ---- ends and backoff ------------------------------------------------------------------------ */

static void backoff_doubles_up_to_its_cap(void **state)
{
	static const __u64 steps[] = { 1, 2, 4, 8, 16, 30, 30, 30 };
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	__u64 now = NOW;
	size_t i;

	(void)state;
	for (i = 0; i < ITEMS(steps); i++) {
		struct decision decision = fail_dial(&peer, &policy, i + 1, now);

		assert_cause(decision, CAUSE_dial_failed);
		assert_int_equal(decision.until_ns, now + steps[i] * SECOND);
		assert_int_equal(decision.attempts, i + 1);
		assert_int_equal(decision.direction, DIRECTION_OUTBOUND);
		assert_int_equal(peer.next_attempt_ns, decision.until_ns);
		assert_int_equal(peer.attempts, i + 1);
		assert_int_equal(peer.last_active_ns, now);
		/* Never idle between the failure and the backoff. */
		assert_false(peer_idle(&peer, now));
		assert_cause(looks(&peer, &policy, 99, decision.until_ns - 1),
			     CAUSE_dial_backoff);
		now = decision.until_ns;
		assert_cause(looks(&peer, &policy, 99, now), CAUSE_dial_idle);
		assert_true(peer_idle(&peer, now));
	}
	/* The count has an end, the step with it. */
	peer.attempts = ~0U - 1;
	assert_int_equal(fail_dial(&peer, &policy, 1, now).attempts, ~0U);
	now = peer.next_attempt_ns;
	assert_int_equal(fail_dial(&peer, &policy, 1, now).attempts, ~0U);
	assert_int_equal(peer.next_attempt_ns, now + 30 * SECOND);
}

static void backoff_follows_the_policy(void **state)
{
	struct guard_policy policy = steps_policy();

	(void)state;
	policy.backoff_initial_ns = SECOND;
	policy.backoff_max_ns = 5 * SECOND;
	assert_int_equal(backoff_step(&policy, 1, 0), SECOND);
	assert_int_equal(backoff_step(&policy, 3, 0), 4 * SECOND);
	assert_int_equal(backoff_step(&policy, 4, 0), 5 * SECOND);
	/* A cap below the first step caps the first step. */
	policy.backoff_max_ns = 500 * MILLISECOND;
	assert_int_equal(backoff_step(&policy, 1, 0), 500 * MILLISECOND);
	/* However many failures: the cap, up to the longest that a configuration takes. */
	policy.backoff_max_ns = 86400 * SECOND;
	policy.backoff_initial_ns = 100 * MILLISECOND;
	assert_int_equal(backoff_step(&policy, 20, 0), (100 * MILLISECOND) << 19);
	assert_int_equal(backoff_step(&policy, 21, 0), 86400 * SECOND);
	assert_int_equal(backoff_step(&policy, 64, 0), 86400 * SECOND);
	assert_int_equal(backoff_step(&policy, ~0U, 0), 86400 * SECOND);
	policy.backoff_initial_ns = 86400 * SECOND;
	assert_int_equal(backoff_step(&policy, ~0U, 0), 86400 * SECOND);
}

/* 31 times from the smallest step, and no further; what does not fit in 64 bits is the cap. */
static void backoff_doubles_without_overflow(void **state)
{
	static const __u64 caps[] = { 1, 300 * SECOND, 86400 * SECOND, 1ULL << 62, ~0ULL };
	struct guard_policy policy = steps_policy();
	__u32 attempts;
	size_t i, bit;

	(void)state;
	policy.backoff_initial_ns = MILLISECOND;
	policy.backoff_max_ns = 1ULL << 62;
	for (attempts = 1; attempts <= 32; attempts++)
		assert_int_equal(backoff_step(&policy, attempts, 0), MILLISECOND << (attempts - 1));
	assert_int_equal(backoff_step(&policy, 33, 0), MILLISECOND << 31);
	assert_int_equal(backoff_step(&policy, 64, 0), MILLISECOND << 31);
	assert_int_equal(backoff_step(&policy, ~0U, 0), MILLISECOND << 31);
	/* No failure yet is as good as one. */
	assert_int_equal(backoff_step(&policy, 0, 0), MILLISECOND);
	/* Equal to the cap, and a nanosecond off it. */
	policy.backoff_max_ns = MILLISECOND << 31;
	assert_int_equal(backoff_step(&policy, 32, 0), MILLISECOND << 31);
	policy.backoff_max_ns = (MILLISECOND << 31) - 1;
	assert_int_equal(backoff_step(&policy, 32, 0), (MILLISECOND << 31) - 1);
	policy.backoff_max_ns = (MILLISECOND << 31) + 1;
	assert_int_equal(backoff_step(&policy, 32, 0), MILLISECOND << 31);
	for (i = 0; i < ITEMS(caps); i++) {
		policy.backoff_max_ns = caps[i];
		for (bit = 0; bit < 64; bit++) {
			__u64 last = 0;

			policy.backoff_initial_ns = 1ULL << bit;
			for (attempts = 1; attempts < 70; attempts++) {
				__u32 shift = attempts > 32 ? 31 : attempts - 1;
				__u64 step = backoff_step(&policy, attempts, 0);
				__u64 expected = bit + shift < 64 ? 1ULL << (bit + shift) : ~0ULL;

				assert_int_equal(step, expected < caps[i] ? expected : caps[i]);
				assert_true(step >= last);
				last = step;
			}
		}
	}
}

/*
 * Only downwards, 0.8 to 1.0 of the step, and both ends of that are reached.
 */
static void jitter_only_shortens(void **state)
{
	struct guard_policy policy = steps_policy();
	__u32 attempts, random;

	(void)state;
	for (attempts = 1; attempts < 9; attempts++) {
		__u64 whole = backoff_step(&policy, attempts, 0), shortest = ~0ULL, longest = 0;

		for (random = 0; random < 2000; random++) {
			/* Spread over all 32 bits: 2654435761 is odd, so nothing repeats. */
			__u64 step = backoff_step(&policy, attempts, random * 2654435761U);

			shortest = step < shortest ? step : shortest;
			longest = step > longest ? step : longest;
		}
		assert_int_equal(longest, whole);
		assert_int_equal(shortest, whole / 10 * 8);
		assert_in_range(backoff_step(&policy, attempts, ~0U), whole / 10 * 8, whole);
	}
}

static void claim_closed_before_its_syn_is_no_failure(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	struct decision decision;

	(void)state;
	peer.attempts = 2;
	arrange_unsent_claim(&peer, &policy, 1, NOW);
	decision = ends(&peer, &policy, 1, ENDING_CLOSED, NOW);
	assert_cause(decision, CAUSE_claim_closed);
	assert_int_equal(decision.direction, DIRECTION_OUTBOUND);
	assert_int_equal(decision.attempts, 2);
	assert_int_equal(decision.until_ns, 0);
	assert_int_equal(peer.attempts, 2);
	assert_int_equal(peer.next_attempt_ns, 0);
	assert_true(peer_idle(&peer, NOW));
}

/* How a link's life counts, by direction and age, whoever ended it. */
static void end_of_a_link_counts_by_its_life(void **state)
{
	static const struct {
		const char *name;
		enum link_direction direction;
		__u32 adopted;
		__u64 lifetime_ns;
		enum cause cause; /* the second time in a row that the peer hangs up without a byte */
		__u32 attempts;   /* afterwards; 2 before */
	} rows[] = {
		{ "our dial's, at once", DIRECTION_OUTBOUND, 0, 0, CAUSE_link_hung_up, 3 },
		{ "our dial's, just short", DIRECTION_OUTBOUND, 0, 10 * SECOND - 1, CAUSE_link_hung_up, 3 },
		{ "our dial's, min_uptime", DIRECTION_OUTBOUND, 0, 10 * SECOND, CAUSE_link_ended, 2 },
		{ "our dial's, not stable", DIRECTION_OUTBOUND, 0, 300 * SECOND - 1, CAUSE_link_ended, 2 },
		{ "our dial's, stable", DIRECTION_OUTBOUND, 0, 300 * SECOND, CAUSE_link_ended, 0 },
		/* A peer that knocks and hangs up must not keep us from dialing. */
		{ "their knock's, at once", DIRECTION_INBOUND, 0, 0, CAUSE_link_ended, 2 },
		{ "their knock's, just short", DIRECTION_INBOUND, 0, 10 * SECOND - 1, CAUSE_link_ended, 2 },
		{ "their knock's, min_uptime", DIRECTION_INBOUND, 0, 10 * SECOND, CAUSE_link_ended, 2 },
		{ "their knock's, stable", DIRECTION_INBOUND, 0, 300 * SECOND, CAUSE_link_ended, 0 },
		/* How long an adopted link has lived is not known: never short. */
		{ "adopted, at once", DIRECTION_OUTBOUND, 1, 0, CAUSE_link_ended, 2 },
		{ "adopted, stable", DIRECTION_OUTBOUND, 1, 300 * SECOND, CAUSE_link_ended, 0 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < ITEMS(rows) * 2; i++) {
		const __u64 now = NOW + rows[i / 2].lifetime_ns;
		const int hung_up = rows[i / 2].cause == CAUSE_link_hung_up;
		struct guard_policy policy = steps_policy();
		struct peer peer = fixture_peer();
		struct link link = fixture_link(1, rows[i / 2].direction, 7, NOW);
		struct decision decision;

		link.adopted = rows[i / 2].adopted;
		peer.attempts = 2;
		peer.short_links = 1;
		saw(link_up(&peer, &policy, &link));
		assert_int_equal(peer.attempts, 2);
		decision = ends(&peer, &policy, 1, i % 2 ? ENDING_PEER_CLOSED : ENDING_RESET, now);
		if (decision.cause != rows[i / 2].cause || decision.attempts != rows[i / 2].attempts ||
		    peer.attempts != rows[i / 2].attempts ||
		    decision.direction != rows[i / 2].direction ||
		    peer.next_attempt_ns != (hung_up ? now + 4 * SECOND : 0) ||
		    decision.until_ns != peer.next_attempt_ns)
			fail_msg("%s: %s, %u attempts, next in %lld s", rows[i / 2].name,
				 cause_name(decision.cause), peer.attempts,
				 (long long)(peer.next_attempt_ns - now) / (long long)SECOND);
		assert_int_equal(decision.ending, i % 2 ? ENDING_PEER_CLOSED : ENDING_RESET);
		assert_int_equal(fixture_count(&peer, SLOT_FREE), PEER_SLOTS);
		assert_int_equal(peer.last_active_ns, now);
		/* It answers: who asks again is told at once, and does not wait. */
		decision = looks(&peer, &policy, 9, now);
		assert_cause(decision, hung_up ? CAUSE_dial_backoff : CAUSE_dial_idle);
		assert_int_equal(decision.ending, !hung_up ? ENDING_NONE :
						  i % 2	   ? ENDING_PEER_CLOSED :
							     ENDING_RESET);
	}
}

/*
 * The first is none: a peer may say in that way that it wants something else (bitcoin/bitcoin#28331). Nor
 * is one that said something, nor one that somebody else ended.
 */
static void hanging_up_counts_the_second_time_in_a_row(void **state)
{
	static const struct {
		const char *name;
		enum ending ending;
		__u32 spoke;
		int counts;
	} between[] = {
		{ "the peer closes", ENDING_PEER_CLOSED, 0, 1 },
		{ "the peer resets", ENDING_RESET, 0, 1 },
		{ "the peer speaks and closes", ENDING_PEER_CLOSED, 1, 0 },
		{ "the peer speaks and resets", ENDING_RESET, 1, 0 },
		{ "we close", ENDING_CLOSED, 0, 0 },
		{ "nobody saw it", ENDING_NONE, 0, 0 },
		{ "no route", ENDING_UNREACHABLE, 0, 0 },
		{ "no answer", ENDING_SILENCE, 0, 0 },
		{ "destroyed", ENDING_ABORTED, 0, 0 },
		{ "an error of this host", ENDING_LOCAL, 0, 0 },
	};
	struct guard_policy policy = steps_policy();
	size_t i;

	(void)state;
	for (i = 0; i < ITEMS(between); i++) {
		struct slot_ended end = fixture_end(2, between[i].ending, NOW);
		struct peer peer = fixture_peer();
		struct decision decision;

		up(&peer, &policy, 1, DIRECTION_OUTBOUND, 5, NOW);
		assert_cause(ends(&peer, &policy, 1, ENDING_PEER_CLOSED, NOW), CAUSE_link_short);
		assert_int_equal(peer.attempts, 0);
		assert_int_equal(peer.next_attempt_ns, 0);
		assert_cause(looks(&peer, &policy, 2, NOW), CAUSE_dial_idle);
		up(&peer, &policy, 2, DIRECTION_OUTBOUND, 5, NOW);
		end.spoke = between[i].spoke;
		decision = saw(slot_end(&peer, &policy, &end));
		if (decision.cause != (between[i].counts ? CAUSE_link_hung_up : CAUSE_link_ended) ||
		    peer.attempts != (__u32)between[i].counts)
			fail_msg("%s: %s, %u attempts", between[i].name, cause_name(decision.cause),
				 peer.attempts);
		/* In a row means in a row; and once it counts, each one does until another end comes. */
		up(&peer, &policy, 3, DIRECTION_OUTBOUND, 5, NOW);
		decision = ends(&peer, &policy, 3, ENDING_RESET, NOW);
		assert_cause(decision, between[i].counts ? CAUSE_link_hung_up : CAUSE_link_short);
		assert_int_equal(peer.attempts, between[i].counts ? 2 : 0);
	}
}

/* What their knocks come to says nothing of our dials, neither way. */
static void links_of_theirs_are_no_part_of_the_row(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();

	(void)state;
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, 5, NOW);
	assert_cause(ends(&peer, &policy, 1, ENDING_PEER_CLOSED, NOW), CAUSE_link_short);
	up(&peer, &policy, 2, DIRECTION_INBOUND, 5, NOW);
	assert_cause(ends(&peer, &policy, 2, ENDING_PEER_CLOSED, NOW), CAUSE_link_ended);
	up(&peer, &policy, 3, DIRECTION_INBOUND, 5, NOW);
	assert_cause(ends(&peer, &policy, 3, ENDING_CLOSED, NOW + SECOND), CAUSE_link_ended);
	up(&peer, &policy, 4, DIRECTION_OUTBOUND, 5, NOW);
	assert_cause(ends(&peer, &policy, 4, ENDING_PEER_CLOSED, NOW), CAUSE_link_hung_up);
	assert_int_equal(peer.attempts, 1);
}

static void end_of_one_of_several_links_is_no_failure(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();

	(void)state;
	policy.max_links = 3;
	peer.short_links = 1;
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, 5, NOW);
	up(&peer, &policy, 2, DIRECTION_OUTBOUND, 6, NOW);
	assert_cause(ends(&peer, &policy, 1, ENDING_RESET, NOW), CAUSE_link_ended);
	assert_int_equal(peer.attempts, 0);
	/* Nor is a dial that fails beside a link. */
	arrange_claim(&peer, &policy, 3, OUR_ISN, NOW);
	assert_cause(ends(&peer, &policy, 3, ENDING_RESET, NOW), CAUSE_dial_superseded);
	assert_int_equal(peer.attempts, 0);
	/* The last one's is. */
	assert_cause(ends(&peer, &policy, 2, ENDING_RESET, NOW), CAUSE_link_hung_up);
	assert_int_equal(peer.attempts, 1);
	/* A doomed link is no company. */
	peer = fixture_peer();
	peer.short_links = 1;
	policy.max_links = 1;
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, 9, NOW);
	up(&peer, &policy, 2, DIRECTION_INBOUND, 5, NOW);
	assert_cause(ends(&peer, &policy, 1, ENDING_RESET, NOW), CAUSE_link_hung_up);
	assert_cause(ends(&peer, &policy, 2, ENDING_RESET, NOW), CAUSE_link_destroyed);
	assert_int_equal(peer.attempts, 1);
}

/* ---- what a failure of a dial is ------------------------------------------------------------- */

static const enum ending endings[] = { ENDING_NONE,    ENDING_CLOSED,  ENDING_PEER_CLOSED,
				       ENDING_RESET,   ENDING_UNREACHABLE, ENDING_SILENCE,
				       ENDING_ABORTED, ENDING_LOCAL };

/* Each ending, after 0 to 3 SYNs, of a claim in each state. */
static void dial_fails_by_refusal_or_silence_only(void **state)
{
	static const struct {
		const char *name;
		__u32 flags; /* of the claim */
		__u64 yields_ns; /* from NOW on */
		__u32 peer_flags;
		enum cause cause; /* none: as the ending has it */
	} states[] = {
		{ "its SYN has not left", 0, 0, 0, CAUSE_claim_closed },
		{ "nothing befell it", SLOT_SENT, 0, 0, CAUSE_none },
		{ "it was given up", SLOT_SENT | SLOT_GIVEN_UP, HOLD, PEER_YIELDED, CAUSE_dial_yielded },
		{ "it was given up long ago", SLOT_SENT | SLOT_GIVEN_UP, 0, PEER_YIELDED,
		  CAUSE_dial_yielded },
		{ "it gives way", SLOT_SENT, 1, 0, CAUSE_dial_yielded },
		{ "its answer was held, and it gives way", SLOT_SENT | SLOT_ANSWERED, 1, 0,
		  CAUSE_dial_yielded },
		/* Whoever sends SYNs in the peer's name must not keep every dial from failing. */
		{ "it gives way, not the first", SLOT_SENT, HOLD, PEER_YIELDED, CAUSE_none },
		{ "it is kept", SLOT_SENT | SLOT_KEPT, 0, 0, CAUSE_dial_unheard },
	};
	struct guard_policy policy = steps_policy();
	size_t i, j;
	__u32 syns;

	(void)state;
	for (i = 0; i < ITEMS(states) * ITEMS(endings); i++) {
		for (syns = 0; syns < 4; syns++) {
			enum ending ending = endings[i % ITEMS(endings)];
			enum cause expected = states[i / ITEMS(endings)].cause;
			struct peer peer = fixture_peer();
			struct decision decision;
			struct slot *claim;
			int silent;

			arrange_unsent_claim(&peer, &policy, 1, NOW);
			claim = slot_of(&peer, 1);
			for (j = 0; j < syns; j++)
				assert_cause(leaves(&peer, &policy, 1, NOW), CAUSE_none);
			assert_int_equal(claim->syns, syns);
			claim->flags = states[i / ITEMS(endings)].flags;
			claim->yields_until_ns = states[i / ITEMS(endings)].yields_ns ?
							 NOW + states[i / ITEMS(endings)].yields_ns :
							 0;
			/* Whatever the failure before this one was. */
			peer.flags = states[i / ITEMS(endings)].peer_flags | PEER_SILENT;
			peer.failure = ENDING_NONE;
			silent = ending != ENDING_RESET;
			if (expected == CAUSE_none)
				expected = ending == ENDING_RESET || ending == ENDING_UNREACHABLE ||
							   (syns >= 2 && (ending == ENDING_CLOSED ||
									  ending == ENDING_SILENCE)) ?
						   CAUSE_dial_failed :
						   CAUSE_dial_unheard;
			decision = ends(&peer, &policy, 1, ending, NOW);
			if (decision.cause != expected)
				fail_msg("%s, %u SYNs, ending %d: %s", states[i / ITEMS(endings)].name,
					 syns, ending, cause_name(decision.cause));
			assert_int_equal(decision.ending, ending);
			if (expected != CAUSE_dial_failed) {
				assert_int_equal(peer.attempts, 0);
				assert_int_equal(peer.next_attempt_ns, 0);
				assert_int_equal(decision.until_ns, 0);
				assert_int_equal(peer.failure, ENDING_NONE);
				continue;
			}
			assert_int_equal(peer.attempts, 1);
			assert_int_equal(peer.next_attempt_ns, NOW + SECOND);
			assert_int_equal(decision.until_ns, NOW + SECOND);
			assert_int_equal(peer.failed_ns, NOW);
			assert_int_equal(peer.failure, ending);
			/* The next dial fares as this one did. */
			assert_int_equal(!!(peer.flags & PEER_SILENT), silent);
			decision = looks(&peer, &policy, 2, NOW);
			assert_cause(decision, silent ? CAUSE_dial_kept : CAUSE_dial_backoff);
			assert_int_equal(decision.ending, ending);
			assert_int_equal(decision.until_ns, NOW + SECOND);
		}
	}
}

/* An answer that we held was one; what comes after it is no silence. But a refusal is a refusal. */
static void dial_whose_answer_was_held_was_heard(void **state)
{
	struct guard_policy policy = steps_policy();
	const struct their_handshake theirs = fixture_theirs(OUR_ISN + 1, NOW + HOLD);
	size_t i;

	(void)state;
	for (i = 0; i < ITEMS(endings); i++) {
		int refused = endings[i] == ENDING_RESET || endings[i] == ENDING_UNREACHABLE;
		struct peer peer = fixture_peer();

		arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
		leaves(&peer, &policy, 1, NOW);
		leaves(&peer, &policy, 1, NOW);
		assert_cause(answers(&peer, &policy, &theirs, 1, NOW), CAUSE_answer_tie_lost);
		assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_SENT | SLOT_ANSWERED);
		peer.unheard_dials = UNHEARD_DIALS - 1;
		assert_cause(ends(&peer, &policy, 1, endings[i], NOW),
			     refused ? CAUSE_dial_failed : CAUSE_dial_unheard);
		assert_int_equal(peer.attempts, refused);
		/* Nor is it one in a row of dials that nobody heard. */
		assert_int_equal(peer.unheard_dials, refused ? 0 : UNHEARD_DIALS - 1);
		assert_int_equal(!!(peer.flags & PEER_ANSWERED), !refused);
	}
}

/* An application may give its dials less time than we hold an answer. */
static void answer_is_held_for_one_dial_until_a_link_is_up(void **state)
{
	struct guard_policy policy = steps_policy();
	const struct their_handshake theirs = fixture_theirs(OUR_ISN + 1, NOW + HOLD);
	struct peer peer = fixture_peer();
	__u64 cookie;

	(void)state;
	for (cookie = 1; cookie <= 2; cookie++) {
		arrange_claim(&peer, &policy, cookie, OUR_ISN, NOW);
		assert_cause(answers(&peer, &policy, &theirs, cookie, NOW),
			     cookie == 1 ? CAUSE_answer_tie_lost : CAUSE_none);
		ends(&peer, &policy, cookie, ENDING_CLOSED, NOW);
	}
	arrange_link(&peer, cookie, DIRECTION_OUTBOUND, OUR_ISN, NOW);
	assert_int_equal(peer.flags & PEER_ANSWERED, 0);
}

/* Which end gave way, by what the knock does to the claim, and for how long. */
static void dial_gives_way_for_as_long_as_its_answer_waits(void **state)
{
	struct guard_policy policy = steps_policy();
	__u64 late;

	(void)state;
	for (late = 0; late < 2; late++) {
		struct peer peer = fixture_peer();

		arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
		leaves(&peer, &policy, 1, NOW);
		/* No daemon: it is not given up. */
		assert_cause(knocks(&peer, &policy, OUR_ISN + 1, NOW), CAUSE_knock_tie_won);
		assert_cause(ends(&peer, &policy, 1, ENDING_CLOSED, NOW + 2 * HOLD - 1 + late),
			     late ? CAUSE_dial_failed : CAUSE_dial_yielded);
		assert_int_equal(peer.attempts, late);
	}
}

/* A dial that its application gives up before a second SYN. */
static void one_unheard(struct peer *peer, const struct guard_policy *policy, __u64 cookie, __u64 now,
			enum cause expected)
{
	arrange_claim(peer, policy, cookie, OUR_ISN, now);
	assert_cause(ends(peer, policy, cookie, ENDING_CLOSED, now), expected);
}

/* A time-out of half a second must not become a flood, nor a single one a failure. */
static void third_unheard_dial_in_a_row_is_a_failure(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer(), row;
	struct decision decision;
	size_t i;

	(void)state;
	one_unheard(&peer, &policy, 1, NOW, CAUSE_dial_unheard);
	one_unheard(&peer, &policy, 2, NOW, CAUSE_dial_unheard);
	assert_int_equal(peer.attempts, 0);
	row = peer;
	one_unheard(&peer, &policy, 3, NOW, CAUSE_dial_failed);
	assert_int_equal(peer.attempts, 1);
	assert_int_equal(peer.next_attempt_ns, NOW + SECOND);
	/* It was silent, as far as anybody knows. */
	assert_cause(looks(&peer, &policy, 4, NOW), CAUSE_dial_kept);
	/* The row goes on: one more for the next one, which makes it one SYN a step. */
	one_unheard(&peer, &policy, 4, NOW + SECOND, CAUSE_dial_failed);
	assert_int_equal(peer.attempts, 2);
	assert_int_equal(peer.next_attempt_ns, NOW + 3 * SECOND);
	/* A longer silence is the same. */
	arrange_claim(&peer, &policy, 5, OUR_ISN, NOW + 3 * SECOND);
	leaves(&peer, &policy, 5, NOW + 3 * SECOND);
	leaves(&peer, &policy, 5, NOW + 4 * SECOND);
	assert_cause(ends(&peer, &policy, 5, ENDING_CLOSED, NOW + 5 * SECOND), CAUSE_dial_failed);
	one_unheard(&peer, &policy, 6, NOW + 9 * SECOND, CAUSE_dial_failed);
	assert_int_equal(peer.unheard_dials, UNHEARD_DIALS);

	/* It ends with an answer, which a refusal is, and with a link in either direction. */
	peer = row;
	assert_cause(fail_dial(&peer, &policy, 3, NOW), CAUSE_dial_failed);
	assert_int_equal(peer.unheard_dials, 0);
	for (i = DIRECTION_OUTBOUND; i <= DIRECTION_INBOUND; i++) {
		peer = row;
		up(&peer, &policy, 3, i, 5, NOW);
		assert_int_equal(peer.unheard_dials, 0);
	}
	/* Not with a knock, which may be anybody's: else SYNs in its name would bring the flood back. */
	peer = row;
	assert_cause(knocks(&peer, &policy, 5, NOW), CAUSE_knock_idle);
	one_unheard(&peer, &policy, 3, NOW, CAUSE_dial_failed);
	/* One whose SYN never left is no part of it, nor one of which nobody can tell. */
	peer = row;
	arrange_unsent_claim(&peer, &policy, 3, NOW);
	assert_cause(ends(&peer, &policy, 3, ENDING_CLOSED, NOW), CAUSE_claim_closed);
	sent(&peer, &policy, 3, OUR_ISN, NOW);
	arrange_unsent_claim(&peer, &policy, 3, NOW);
	sent(&peer, &policy, 3, OUR_ISN, NOW);
	assert_cause(ends(&peer, &policy, 3, ENDING_CLOSED, NOW), CAUSE_dial_unheard);
	arrange_claim(&peer, &policy, 3, OUR_ISN, NOW);
	assert_cause(ends(&peer, &policy, 3, ENDING_ABORTED, NOW), CAUSE_dial_unheard);
	assert_int_equal(peer.unheard_dials, 2);
	assert_int_equal(peer.attempts, 0);
	/* Silence as TCP sees it, after one SYN (tcp_syn_retries 0), is the same. */
	arrange_claim(&peer, &policy, 3, OUR_ISN, NOW);
	decision = ends(&peer, &policy, 3, ENDING_SILENCE, NOW);
	assert_cause(decision, CAUSE_dial_failed);
	assert_int_equal(peer.failure, ENDING_SILENCE);
}

/* One that began before the deadline that holds is none: it was made beside one that has failed. */
static void dial_of_before_the_deadline_fails_nothing(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();

	(void)state;
	policy.max_links = 2;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	arrange_claim(&peer, &policy, 2, OUR_ISN, NOW);
	leaves(&peer, &policy, 2, NOW);
	assert_cause(ends(&peer, &policy, 1, ENDING_RESET, NOW), CAUSE_dial_failed);
	assert_cause(ends(&peer, &policy, 2, ENDING_SILENCE, NOW + SECOND / 2), CAUSE_dial_failed);
	assert_int_equal(peer.attempts, 1);
	assert_int_equal(peer.next_attempt_ns, NOW + SECOND);
	assert_int_equal(peer.failure, ENDING_RESET);
	assert_false(peer.flags & PEER_SILENT);
}

/* ---- signs of life --------------------------------------------------------------------------- */

/* A peer in backoff after `attempts` failures, its deadline at `until`, since `since`. */
static struct peer backing_off(__u32 attempts, __u64 since, __u64 until)
{
	struct peer peer = fixture_peer();

	peer.attempts = attempts;
	peer.failed_ns = since;
	peer.next_attempt_ns = until;
	peer.failure = ENDING_RESET;
	return peer;
}

/* Their SYN, however often it comes, ends the one backoff and none before that one would have been over. */
static void knock_ends_one_backoff_a_step(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = backing_off(3, NOW - SECOND, NOW + 7 * SECOND);
	const struct knock lookup = fixture_lookup(NOW);
	struct decision decision;
	__u64 now, dials = 0, woken = 0;

	(void)state;
	/* Where the whole SYN is not seen nothing happens yet. */
	decision = saw(knock_decide(&peer, &policy, &lookup));
	assert_cause(decision, CAUSE_knock_backoff);
	assert_int_equal(peer.next_attempt_ns, NOW + 7 * SECOND);
	decision = knocks(&peer, &policy, 5, NOW);
	assert_cause(decision, CAUSE_knock_backoff);
	assert_int_equal(decision.until_ns, 0);
	assert_int_equal(peer.next_attempt_ns, 0);
	assert_int_equal(peer.wake_after_ns, NOW + 7 * SECOND);
	/* Flapping still climbs the steps. */
	assert_int_equal(peer.attempts, 3);
	assert_cause(looks(&peer, &policy, 9, NOW), CAUSE_dial_idle);
	assert_cause(fail_dial(&peer, &policy, 1, NOW), CAUSE_dial_failed);
	assert_int_equal(peer.attempts, 4);
	assert_int_equal(peer.next_attempt_ns, NOW + 8 * SECOND);
	for (now = NOW; now < NOW + 7 * SECOND; now += SECOND / 2) {
		decision = knocks(&peer, &policy, 5, now);
		assert_cause(decision, CAUSE_knock_backoff);
		assert_int_equal(decision.until_ns, NOW + 8 * SECOND);
	}
	assert_int_equal(knocks(&peer, &policy, 5, NOW + 7 * SECOND - 1).until_ns, NOW + 8 * SECOND);
	decision = knocks(&peer, &policy, 5, NOW + 7 * SECOND);
	assert_cause(decision, CAUSE_knock_backoff);
	assert_int_equal(decision.until_ns, 0);
	assert_int_equal(peer.wake_after_ns, NOW + 8 * SECOND);
	/* Nothing is ended where nothing is. */
	assert_cause(knocks(&peer, &policy, 5, NOW + 20 * SECOND), CAUSE_knock_idle);
	assert_int_equal(peer.wake_after_ns, NOW + 8 * SECOND);

	/* A SYN every 20 ms for an hour, and a dial as soon as one may be: two a step. */
	peer = fixture_peer();
	for (now = NOW; now < NOW + 3600 * SECOND; now += 20 * MILLISECOND) {
		woken += knocks(&peer, &policy, 5, now).cause == CAUSE_knock_backoff && !peer.next_attempt_ns;
		if (looks(&peer, &policy, 1, now).verdict != VERDICT_ALLOW)
			continue;
		fail_dial(&peer, &policy, 1, now);
		dials++;
	}
	assert_true(woken > 0);
	/* 6 steps up to the cap, then one each 30 s. */
	assert_in_range(dials, 3600 / 30, 2 * (6 + 3600 / 30));
}

/* Whatever the knock meets: when it is let in, the peer is alive; when it is not, nothing is known. */
static void knock_that_is_let_in_ends_the_backoff(void **state)
{
	size_t i, j;

	(void)state;
	for (i = 0; i < ITEMS(cells); i++) {
		for (j = 0; j < 2; j++) {
			const struct cell *cell = &cells[i];
			struct knock knock = fixture_knock(j ? OUR_ISN + 1 : OUR_ISN - 1, NOW);
			struct guard_policy policy = cell_policy(cell);
			struct decision decision;
			struct peer peer;
			int ended;

			cell_peer(cell, &peer);
			peer.next_attempt_ns = NOW + 5 * SECOND;
			peer.attempts = 3;
			decision = saw(knock_decide(&peer, &policy, &knock));
			ended = decision.verdict == VERDICT_ALLOW && decision.cause != CAUSE_knock_exempt;
			assert_int_equal(peer.next_attempt_ns, ended ? 0 : NOW + 5 * SECOND);
			assert_int_equal(peer.attempts, 3);
			/* The deadline that is told is that of the backoff, and of nothing else. */
			if (decision.verdict == VERDICT_ALLOW)
				assert_int_equal(decision.until_ns, 0);
		}
	}
}

static void link_ends_the_backoff_and_not_the_attempts(void **state)
{
	static const enum link_direction directions[] = { DIRECTION_INBOUND, DIRECTION_OUTBOUND };
	struct guard_policy policy = steps_policy();
	size_t i;

	(void)state;
	for (i = 0; i < 4; i++) {
		struct peer peer = backing_off(3, NOW - SECOND, NOW + 7 * SECOND);
		struct link link = fixture_link(1, directions[i / 2], 5, NOW);

		link.adopted = i % 2;
		peer.wake_after_ns = NOW + SECOND;
		peer.refused_pending_ns = NOW - SECOND;
		peer.doubted_dial_ns = NOW - SECOND;
		peer.unheard_dials = 2;
		peer.short_links = 1;
		peer.flags = PEER_YIELDED | PEER_DIALED;
		saw(link_up(&peer, &policy, &link));
		assert_int_equal(peer.next_attempt_ns, 0);
		assert_int_equal(peer.wake_after_ns, 0);
		assert_int_equal(peer.refused_pending_ns, 0);
		assert_int_equal(peer.doubted_dial_ns, 0);
		assert_int_equal(peer.unheard_dials, 0);
		assert_int_equal(peer.flags, PEER_DIALED);
		assert_int_equal(peer.attempts, 3);
		/* That its dials are hung up on is not over by one more link. */
		assert_int_equal(peer.short_links, 1);
	}
	/* One that finds no slot proves as much. */
	policy.max_links = PEER_LINKS_MAX;
	{
		struct peer peer = fixture_peer();
		__u64 cookie;

		for (cookie = 1; cookie <= PEER_SLOTS; cookie++)
			arrange_claim(&peer, &policy, cookie, OUR_ISN, NOW);
		peer.next_attempt_ns = NOW + 7 * SECOND;
		assert_cause(up(&peer, &policy, 99, DIRECTION_INBOUND, 5, NOW), CAUSE_link_unheld);
		assert_int_equal(peer.next_attempt_ns, 0);
	}
}

/* What began before is void, what begins afterwards is not; the attempts stay. */
static void revival_ends_what_began_before_it(void **state)
{
	struct peer peer = backing_off(3, NOW, NOW + 7 * SECOND), before = peer;
	struct guard_policy policy = steps_policy();

	(void)state;
	peer_revive(&peer, 0);
	peer_revive(&peer, NOW - 1);
	assert_memory_equal(&before, &peer, sizeof(peer));
	peer_revive(&peer, NOW);
	before.next_attempt_ns = 0;
	assert_memory_equal(&before, &peer, sizeof(peer));
	peer = backing_off(3, NOW, NOW + 7 * SECOND);
	peer_revive(&peer, NOW + SECOND);
	assert_memory_equal(&before, &peer, sizeof(peer));
	/* A failure after it has a backoff again, as long as the next step. */
	assert_cause(fail_dial(&peer, &policy, 1, NOW + 2 * SECOND),
		     CAUSE_dial_failed);
	peer_revive(&peer, NOW + SECOND);
	assert_int_equal(peer.next_attempt_ns, NOW + 10 * SECOND);
	/* Nothing has ever failed. */
	peer = before = fixture_peer();
	peer_revive(&peer, 0);
	peer_revive(&peer, NOW);
	assert_memory_equal(&before, &peer, sizeof(peer));
}

/* A service has many listeners, and starts often; only who listens without end is not believed. */
static void starts_are_counted(void **state)
{
	struct guard_revival revival = {}, before;
	__u64 now = NOW;

	(void)state;
	for (int i = 0; i < STARTS_AT_ONCE; i++, now++) {
		assert_true(revival_started(&revival, now));
		assert_int_equal(revival.since_ns, now);
	}
	before = revival;
	assert_false(revival_started(&revival, now));
	assert_memory_equal(&before, &revival, sizeof(revival));
	/* What was one too many uses nothing up. */
	for (int i = 0; i < 3; i++) {
		now = NOW + (i + 1) * STARTS_PERIOD_NS;
		assert_true(revival_started(&revival, now));
		assert_int_equal(revival.since_ns, now);
		assert_false(revival_started(&revival, now));
	}
	/* After a rest as many as ever, and no more. */
	now += 10 * STARTS_AT_ONCE * STARTS_PERIOD_NS;
	for (int i = 0; i < STARTS_AT_ONCE; i++)
		assert_true(revival_started(&revival, now));
	assert_false(revival_started(&revival, now));
}

/* ---- dials in backoff ------------------------------------------------------------------------ */

/* A peer that has been silent, in backoff until NOW + 5 s. */
static struct peer silent_peer(void)
{
	struct peer peer = backing_off(3, NOW - SECOND, NOW + 5 * SECOND);

	peer.failure = ENDING_SILENCE;
	peer.flags |= PEER_SILENT;
	return peer;
}

/* Its SYNs do not leave before, and each of them does afterwards; it is counted from then on. */
static void kept_dial_leaves_when_the_backoff_is_over(void **state)
{
	struct guard_policy policy = steps_policy();
	struct dial dial = fixture_dial(1, NOW);
	struct peer peer = silent_peer(), waiting;
	struct decision decision;
	const struct slot *slot;
	size_t i;

	(void)state;
	decision = saw(dial_claim(&peer, &policy, &dial));
	assert_cause(decision, CAUSE_dial_kept);
	assert_int_equal(decision.until_ns, NOW + 5 * SECOND);
	assert_int_equal(decision.ending, ENDING_SILENCE);
	/* No refusal: the application waits as it would without a guard. */
	assert_int_equal(peer.refused_dials, 0);
	assert_int_equal(peer.last_refusal_ns, 0);
	sent(&peer, &policy, 1, OUR_ISN, NOW);
	slot = fixture_slot(&peer, 1);
	assert_int_equal(slot->flags, SLOT_KEPT | SLOT_SENT);
	assert_int_equal(slot->expires_ns, NOW + policy.claim_max_ns);
	waiting = peer;
	for (i = 0; i < 5; i++) {
		decision = leaves(&peer, &policy, 1, NOW + i * SECOND);
		assert_cause(decision, CAUSE_none);
		assert_int_equal(decision.verdict, VERDICT_HOLD);
	}
	assert_int_equal(leaves(&peer, &policy, 1, NOW + 5 * SECOND - 1).verdict, VERDICT_HOLD);
	assert_memory_equal(&waiting, &peer, sizeof(peer));
	decision = leaves(&peer, &policy, 1, NOW + 5 * SECOND);
	assert_cause(decision, CAUSE_dial_let_go);
	assert_int_equal(decision.direction, DIRECTION_OUTBOUND);
	assert_int_equal(decision.attempts, 3);
	assert_int_equal(slot->flags, SLOT_SENT);
	assert_int_equal(slot->syns, 1);
	/* As if it had begun now: its hold, its answer and its failure count from here. */
	assert_int_equal(slot->since_ns, NOW + 5 * SECOND);
	assert_int_equal(slot->expires_ns, NOW + 5 * SECOND + policy.claim_max_ns);
	assert_cause(knocks(&peer, &policy, OUR_ISN - 1, NOW + 5 * SECOND + HOLD - 1), CAUSE_knock_tie_lost);
	decision = leaves(&peer, &policy, 1, NOW + 6 * SECOND);
	assert_cause(decision, CAUSE_none);
	assert_int_equal(decision.verdict, VERDICT_ALLOW);
	assert_int_equal(slot->syns, 2);
	assert_cause(ends(&peer, &policy, 1, ENDING_CLOSED, NOW + 7 * SECOND), CAUSE_dial_failed);
	assert_int_equal(peer.attempts, 4);

	/* Ended by a knock, a revival or a command: the same. */
	for (i = 0; i < 3; i++) {
		peer = waiting;
		if (i == 0)
			assert_cause(knocks(&peer, &policy, 5, NOW + SECOND), CAUSE_knock_tie_won);
		else if (i == 1)
			peer_revive(&peer, NOW + SECOND);
		else
			backoff_clear(&peer);
		assert_cause(leaves(&peer, &policy, 1, NOW + SECOND), CAUSE_dial_let_go);
		assert_int_equal(fixture_slot(&peer, 1)->syns, 1);
	}
	/* Nothing is kept where nothing is enforced any more. It fails nothing: it has been let through. */
	peer = waiting;
	assert_cause(saw(dial_leaves(&peer, &policy, 1, 0, NOW + SECOND)), CAUSE_dial_let_go);
	assert_cause(ends(&peer, &policy, 1, ENDING_RESET, NOW + SECOND), CAUSE_dial_failed);
	assert_int_equal(peer.attempts, 3);
	assert_int_equal(peer.next_attempt_ns, NOW + 5 * SECOND);
	/* Another socket's SYN, and a link's own segments, are nobody's business. */
	peer = waiting;
	assert_int_equal(leaves(&peer, &policy, 2, NOW).verdict, VERDICT_ALLOW);
	assert_int_equal(leaves(&peer, &policy, 0, NOW).verdict, VERDICT_ALLOW);
	assert_memory_equal(&waiting, &peer, sizeof(peer));
	arrange_link(&peer, 3, DIRECTION_OUTBOUND, 5, NOW);
	waiting = peer;
	assert_int_equal(leaves(&peer, &policy, 3, NOW).verdict, VERDICT_ALLOW);
	assert_memory_equal(&waiting, &peer, sizeof(peer));
}

/* Neither where there is no slot to let it go from, nor where nothing is enforced. */
static void kept_is_only_what_can_be_let_go(void **state)
{
	struct guard_policy policy = steps_policy();
	struct dial dial = fixture_dial(99, NOW);
	struct peer peer = silent_peer(), before;
	struct decision decision;
	__u64 cookie;

	(void)state;
	/* Said in observe mode, and let pass. */
	dial.mode = MODE_OBSERVE;
	decision = saw(dial_claim(&peer, &policy, &dial));
	assert_cause(decision, CAUSE_dial_kept);
	assert_int_equal(fixture_slot(&peer, 99)->flags, 0);
	sent(&peer, &policy, 99, OUR_ISN, NOW);
	assert_int_equal(dial_leaves(&peer, &policy, 99, 0, NOW).verdict, VERDICT_ALLOW);
	assert_int_equal(fixture_slot(&peer, 99)->syns, 1);
	assert_int_equal(peer.refused_dials, 0);

	peer = fixture_peer();
	policy.max_links = PEER_LINKS_MAX;
	for (cookie = 1; cookie <= PEER_SLOTS; cookie++) {
		arrange_link(&peer, cookie, DIRECTION_INBOUND, 5, NOW);
		slot_of(&peer, cookie)->flags = SLOT_DOOMED;
	}
	peer.next_attempt_ns = NOW + SECOND;
	peer.flags |= PEER_SILENT;
	before = peer;
	dial.mode = MODE_ENFORCE;
	decision = saw(dial_claim(&peer, &policy, &dial));
	assert_cause(decision, CAUSE_dial_unheld);
	assert_memory_equal(&before, &peer, sizeof(peer));
}

/* A dial that waits is nobody's failure, however its application ends it, and dials of others wait too. */
static void kept_dial_holds_its_claim(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = silent_peer();
	struct dial dial = fixture_dial(1, NOW);

	(void)state;
	arrange_kept_claim(&peer, &policy, 1, NOW);
	assert_cause(looks(&peer, &policy, 2, NOW), CAUSE_dial_dialing);
	assert_cause(ends(&peer, &policy, 1, ENDING_CLOSED, NOW), CAUSE_dial_unheard);
	assert_int_equal(peer.attempts, 3);
	assert_int_equal(peer.unheard_dials, 0);
	assert_cause(looks(&peer, &policy, 2, NOW), CAUSE_dial_kept);
	/* Dialed again by its socket it waits on; afterwards it does not. */
	arrange_kept_claim(&peer, &policy, 1, NOW);
	assert_cause(saw(dial_claim(&peer, &policy, &dial)), CAUSE_dial_kept);
	assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_KEPT);
	dial.now = NOW + 5 * SECOND;
	slot_of(&peer, 1)->expires_ns = dial.now + 1;
	assert_cause(saw(dial_claim(&peer, &policy, &dial)), CAUSE_dial_again);
	assert_int_equal(fixture_slot(&peer, 1)->flags, 0);
	/* The answer to what was refused is known at once. */
	peer = backing_off(3, NOW - SECOND, NOW + 5 * SECOND);
	dial = fixture_dial(2, NOW);
	assert_cause(saw(dial_claim(&peer, &policy, &dial)), CAUSE_dial_backoff);
	assert_int_equal(fixture_count(&peer, SLOT_FREE), PEER_SLOTS);
}

/* ---- the loser hears first ------------------------------------------------------------------- */

/* A SYN while a daemon is there to end a dial that is given up. */
static struct decision knocks_with_daemon(struct peer *peer, const struct guard_policy *policy, __u32 isn,
					  __u64 now)
{
	struct knock knock = fixture_knock(isn, now);

	knock.ends_dials = 1;
	knock.asks = 1;
	return saw(knock_decide(peer, policy, &knock));
}

/* The last ACK of a handshake from this port, or what follows it. */
static struct decision last_acks(struct peer *peer, __u16 port, int daemon, __u64 now)
{
	const struct knock ack = { .now = now,
				   .mode = MODE_ENFORCE,
				   .ends_dials = daemon,
				   .remote_port = port };

	return saw(last_ack_decide(peer, &ack));
}

/* Once, until a link has come up; its number must beat ours at both ends. */
static void dial_is_given_up_for_one_knock(void **state)
{
	static const enum guard_mode modes[] = { MODE_OBSERVE, MODE_ENFORCE };
	struct guard_policy policy = steps_policy();
	struct peer peer;
	struct decision decision;
	size_t i;

	(void)state;
	for (i = 0; i < ITEMS(modes); i++) {
		struct knock knock = fixture_knock(OUR_ISN + 1, NOW);

		peer = fixture_peer();
		arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
		knock.mode = modes[i];
		knock.ends_dials = 1;
		decision = saw(knock_decide(&peer, &policy, &knock));
		assert_cause(decision, CAUSE_knock_goes_first);
		assert_int_equal(decision.other_cookie, 1);
		assert_int_equal(decision.until_ns, 0);
		assert_int_equal(peer.flags & PEER_YIELDED, PEER_YIELDED);
		assert_int_equal(peer.yielded_port, knock.remote_port);
		assert_int_equal(fixture_slot(&peer, 1)->flags,
				 SLOT_SENT | (modes[i] == MODE_ENFORCE ? SLOT_GIVEN_UP : 0));
		assert_int_equal(fixture_slot(&peer, 1)->yields_until_ns, NOW + 2 * HOLD);
		assert_int_equal(peer.refused_knocks, 0);
		/* Told once. */
		assert_cause(knocks_with_daemon(&peer, &policy, OUR_ISN + 1, NOW), CAUSE_knock_tie_won);
	}
	assert_cause(ends(&peer, &policy, 1, ENDING_ABORTED, NOW), CAUSE_dial_yielded);
	assert_int_equal(peer.attempts, 0);
	/* Nothing came of it: the next dials go their own way. */
	arrange_claim(&peer, &policy, 2, OUR_ISN, NOW);
	assert_cause(knocks_with_daemon(&peer, &policy, OUR_ISN + 1, NOW), CAUSE_knock_tie_won);
	assert_int_equal(fixture_slot(&peer, 2)->flags, SLOT_SENT);
	assert_int_equal(fixture_slot(&peer, 2)->yields_until_ns, NOW + 2 * HOLD);
	assert_cause(ends(&peer, &policy, 2, ENDING_CLOSED, NOW), CAUSE_dial_unheard);
	arrange_kept_claim(&peer, &policy, 3, NOW);
	assert_cause(knocks_with_daemon(&peer, &policy, 0, NOW), CAUSE_knock_tie_won);
	ends(&peer, &policy, 3, ENDING_CLOSED, NOW);
	/* A link of theirs shows that they meant it. */
	assert_cause(up(&peer, &policy, 4, DIRECTION_INBOUND, 5, NOW), CAUSE_link_inbound);
	ends(&peer, &policy, 4, ENDING_CLOSED, NOW);
	arrange_claim(&peer, &policy, 5, OUR_ISN, NOW);
	assert_cause(knocks_with_daemon(&peer, &policy, OUR_ISN + 1, NOW), CAUSE_knock_goes_first);
}

/*
 * Where the other end, guarded as well, gives its dial up for ours, ours must not be: at a number that is
 * the greater one and has had its time, and at two equal ones.
 */
static void dial_that_wins_at_the_other_end_is_not_given_up(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW - HOLD);
	assert_cause(knocks_with_daemon(&peer, &policy, OUR_ISN - 1, NOW), CAUSE_knock_hold_spent);
	assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_SENT);
	assert_int_equal(fixture_slot(&peer, 1)->yields_until_ns, NOW + 2 * HOLD);
	assert_int_equal(peer.flags & PEER_YIELDED, 0);
	peer = fixture_peer();
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	assert_cause(knocks_with_daemon(&peer, &policy, OUR_ISN, NOW), CAUSE_knock_tie_won);
	assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_SENT);
	assert_int_equal(peer.flags & PEER_YIELDED, 0);
	/* Of one that is kept the other end knows nothing. */
	peer = silent_peer();
	arrange_kept_claim(&peer, &policy, 1, NOW);
	assert_cause(knocks_with_daemon(&peer, &policy, 0, NOW), CAUSE_knock_goes_first);
	assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_KEPT | SLOT_SENT | SLOT_GIVEN_UP);
	assert_int_equal(peer.next_attempt_ns, 0);
	/* Left to the service is left to the service. */
	peer = fixture_peer();
	policy.tie_break = TIE_BREAK_NONE;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	assert_cause(knocks_with_daemon(&peer, &policy, OUR_ISN + 1, NOW), CAUSE_knock_tie_open);
	assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_SENT);
}

/* Beside a quiet link, where two are allowed: if that one is dead there is room for both. */
static void dial_beside_a_quiet_link_is_not_given_up(void **state)
{
	struct guard_policy policy = steps_policy();
	int quiet;

	(void)state;
	policy.max_links = 2;
	for (quiet = 0; quiet < 2; quiet++) {
		struct peer peer = fixture_peer();

		arrange_link(&peer, 1, DIRECTION_INBOUND, 5, NOW - quiet * policy.suspect_after_ns);
		arrange_claim(&peer, &policy, 2, OUR_ISN, NOW);
		assert_cause(knocks_with_daemon(&peer, &policy, OUR_ISN + 1, NOW),
			     quiet ? CAUSE_knock_tie_won : CAUSE_knock_goes_first);
		assert_int_equal(fixture_slot(&peer, 2)->flags, SLOT_SENT | (quiet ? 0 : SLOT_GIVEN_UP));
		assert_int_equal(fixture_slot(&peer, 2)->yields_until_ns, NOW + 2 * HOLD);
		assert_int_equal(!!(peer.flags & PEER_YIELDED), !quiet);
	}
}

/* From its first arrival on, 5 ms at most; not at all when the dial is gone or was not given up. */
static void last_ack_waits_for_the_loser_a_moment(void **state)
{
	struct guard_policy policy = steps_policy();
	const __u64 arrives = NOW + 40 * MILLISECOND;
	struct peer peer = fixture_peer(), before;
	struct decision decision;

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	before = peer;
	assert_cause(last_acks(&peer, peer.yielded_port, 1, NOW), CAUSE_none);
	assert_memory_equal(&before, &peer, sizeof(peer));
	assert_cause(knocks_with_daemon(&peer, &policy, OUR_ISN + 1, NOW), CAUSE_knock_goes_first);
	decision = last_acks(&peer, peer.yielded_port, 1, arrives);
	assert_cause(decision, CAUSE_knock_ack_waits);
	assert_int_equal(decision.other_cookie, 1);
	assert_int_equal(decision.until_ns, arrives + 5 * MILLISECOND);
	decision = last_acks(&peer, peer.yielded_port, 1, arrives + 5 * MILLISECOND - 1);
	assert_cause(decision, CAUSE_knock_ack_waits);
	assert_int_equal(decision.until_ns, arrives + 5 * MILLISECOND);
	decision = last_acks(&peer, peer.yielded_port, 1, arrives + 5 * MILLISECOND);
	assert_cause(decision, CAUSE_none);
	assert_int_equal(decision.verdict, VERDICT_ALLOW);
	/* And never again for this one. */
	assert_cause(last_acks(&peer, peer.yielded_port, 1, arrives + SECOND), CAUSE_none);
	ends(&peer, &policy, 1, ENDING_ABORTED, arrives);
	assert_cause(last_acks(&peer, peer.yielded_port, 1, arrives), CAUSE_none);
	/* Whichever slot it is in, beside others. */
	peer = fixture_peer();
	policy.max_links = 3;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	arrange_link(&peer, 2, DIRECTION_INBOUND, 5, NOW);
	arrange_claim(&peer, &policy, 3, OUR_ISN, NOW);
	assert_int_equal(knocks_with_daemon(&peer, &policy, OUR_ISN + 1, NOW).other_cookie, 3);
	assert_int_equal(last_acks(&peer, peer.yielded_port, 1, NOW).other_cookie, 3);
	/* A claim that is void keeps nobody waiting, nor does the socket's next dial. */
	before = peer;
	assert_cause(last_acks(&peer, peer.yielded_port, 1, NOW + policy.claim_max_ns), CAUSE_none);
	peer = before;
	arrange_claim(&peer, &policy, 3, OUR_ISN, NOW);
	assert_cause(last_acks(&peer, peer.yielded_port, 1, NOW), CAUSE_none);
}

/* That of another knock must not: were it late, one more could get in beside it. */
static void last_ack_waits_only_for_the_knock_that_goes_first(void **state)
{
	struct guard_policy policy = steps_policy();
	struct knock knock = fixture_knock(OUR_ISN + 1, NOW);
	struct peer peer = fixture_peer(), before;

	(void)state;
	knock.ends_dials = 1;
	knock.remote_port = 40001;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	assert_cause(saw(knock_decide(&peer, &policy, &knock)), CAUSE_knock_goes_first);
	/* One that is let in later does not become it. */
	knock.remote_port = 40002;
	assert_cause(saw(knock_decide(&peer, &policy, &knock)), CAUSE_knock_tie_won);
	assert_int_equal(peer.yielded_port, 40001);
	before = peer;
	assert_cause(last_acks(&peer, 40000, 1, NOW), CAUSE_none);
	assert_cause(last_acks(&peer, 40002, 1, NOW), CAUSE_none);
	assert_memory_equal(&before, &peer, sizeof(peer));
	assert_cause(last_acks(&peer, 40001, 1, NOW), CAUSE_knock_ack_waits);
	assert_cause(last_acks(&peer, 40002, 1, NOW), CAUSE_none);
	/* Of one that nobody's knock has beaten, it is nobody's. */
	peer = fixture_peer();
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	before = peer;
	assert_cause(last_acks(&peer, 0, 1, NOW), CAUSE_none);
	assert_memory_equal(&before, &peer, sizeof(peer));
	/* The time for which SYNs of its own connection are held is not the moment that an ACK waits. */
	assert_cause(saw(open_decide(&peer, &policy, 1, &knock)), CAUSE_knock_open_met);
	assert_int_equal(fixture_slot(&peer, 1)->ack_waits_until_ns, NOW + HOLD);
	assert_cause(saw(knock_decide(&peer, &policy, &knock)), CAUSE_knock_goes_first);
	assert_int_equal(last_acks(&peer, 40002, 1, NOW).until_ns, NOW + 5 * MILLISECOND);
	assert_cause(last_acks(&peer, 40002, 1, NOW + 5 * MILLISECOND), CAUSE_none);
}

/*
 * A peer that hangs up on our dial may refuse newcomers while it dials, and its own dial is held for ours:
 * the next time its knock goes first. What becomes of ours shows when the knock's last ACK comes.
 */
static void knock_goes_first_after_a_link_that_was_hung_up_on(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer(), hung_up;
	struct decision decision;

	(void)state;
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, 5, NOW);
	assert_cause(ends(&peer, &policy, 1, ENDING_PEER_CLOSED, NOW), CAUSE_link_short);
	hung_up = peer;
	arrange_claim(&peer, &policy, 2, OUR_ISN, NOW);
	decision = knocks_with_daemon(&peer, &policy, OUR_ISN - 1, NOW);
	assert_cause(decision, CAUSE_knock_hold_spent);
	assert_int_equal(decision.other_cookie, 2);
	assert_int_equal(decision.until_ns, 0);
	/* It has the greater number all the same: a guarded peer gives its own up for it. */
	assert_int_equal(fixture_slot(&peer, 2)->flags, SLOT_SENT);
	assert_int_equal(fixture_slot(&peer, 2)->yields_until_ns, NOW + 2 * HOLD);
	assert_int_equal(peer.flags & PEER_YIELDED, 0);
	assert_cause(last_acks(&peer, 40000, 1, NOW), CAUSE_knock_ack_waits);
	assert_int_equal(fixture_slot(&peer, 2)->flags, SLOT_SENT | SLOT_GIVEN_UP);
	/* A link of ours that it leaves alone says that it does not do that (any more). */
	peer = hung_up;
	up(&peer, &policy, 3, DIRECTION_OUTBOUND, 5, NOW);
	assert_cause(ends(&peer, &policy, 3, ENDING_CLOSED, NOW), CAUSE_link_ended);
	arrange_claim(&peer, &policy, 4, OUR_ISN, NOW);
	assert_cause(knocks_with_daemon(&peer, &policy, OUR_ISN - 1, NOW), CAUSE_knock_tie_lost);
	/* One of its own says nothing of ours. */
	peer = hung_up;
	up(&peer, &policy, 3, DIRECTION_INBOUND, 5, NOW);
	assert_cause(ends(&peer, &policy, 3, ENDING_PEER_CLOSED, NOW + 60 * SECOND), CAUSE_link_ended);
	arrange_claim(&peer, &policy, 4, OUR_ISN, NOW + 60 * SECOND);
	assert_cause(knocks_with_daemon(&peer, &policy, OUR_ISN - 1, NOW + 60 * SECOND),
		     CAUSE_knock_hold_spent);
}

/*
 * Ours has the greater number, or neither has: the other end, were it guarded, would give its own dial up,
 * and its last ACK would not come.
 */
static void last_ack_ends_a_dial_that_was_not_given_up(void **state)
{
	static const __u32 numbers[] = { OUR_ISN - 1, OUR_ISN };
	struct guard_policy policy = steps_policy();
	const __u64 arrives = NOW + 40 * MILLISECOND;
	size_t i;

	(void)state;
	for (i = 0; i < ITEMS(numbers); i++) {
		struct peer peer = fixture_peer(), beaten;
		struct decision decision;

		arrange_claim(&peer, &policy, 1, OUR_ISN, NOW - HOLD);
		knocks_with_daemon(&peer, &policy, numbers[i], NOW);
		assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_SENT);
		assert_int_equal(peer.yielded_port, 40000);
		beaten = peer;
		decision = last_acks(&peer, 40000, 1, arrives);
		assert_cause(decision, CAUSE_knock_ack_waits);
		assert_int_equal(decision.other_cookie, 1);
		assert_int_equal(decision.until_ns, arrives + 5 * MILLISECOND);
		assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_SENT | SLOT_GIVEN_UP);
		assert_int_equal(peer.flags & PEER_YIELDED, PEER_YIELDED);
		assert_cause(last_acks(&peer, 40000, 1, arrives + 5 * MILLISECOND), CAUSE_none);
		assert_cause(ends(&peer, &policy, 1, ENDING_ABORTED, arrives), CAUSE_dial_yielded);
		assert_int_equal(peer.attempts, 0);
		/* Not by another knock's, without a daemon, or a second time before a link. */
		peer = beaten;
		assert_cause(last_acks(&peer, 40001, 1, arrives), CAUSE_none);
		assert_cause(last_acks(&peer, 40000, 0, arrives), CAUSE_none);
		assert_memory_equal(&beaten, &peer, sizeof(peer));
		peer.flags |= PEER_YIELDED;
		assert_cause(last_acks(&peer, 40000, 1, arrives), CAUSE_none);
		assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_SENT);
	}
}

/* Nor by that of a knock which was let in beside a quiet link, where several are allowed. */
static void last_ack_beside_a_quiet_link_ends_no_dial(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();

	(void)state;
	policy.max_links = 2;
	arrange_link(&peer, 1, DIRECTION_INBOUND, 5, NOW - policy.suspect_after_ns);
	arrange_claim(&peer, &policy, 2, OUR_ISN, NOW);
	/* What an earlier dial has left. */
	peer.yielded_port = 40000;
	assert_cause(knocks_with_daemon(&peer, &policy, OUR_ISN + 1, NOW), CAUSE_knock_tie_won);
	assert_int_equal(peer.yielded_port, 0);
	assert_cause(last_acks(&peer, 40000, 1, NOW), CAUSE_none);
	assert_int_equal(fixture_slot(&peer, 2)->flags, SLOT_SENT);
}

/* Refused for hold_max, then not for a minute, unless a link shows that the handshakes are meant. */
static void pending_handshakes_refuse_our_dials_for_a_while(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	struct dial dial = fixture_dial(1, NOW);
	unsigned refused = 0;
	__u64 now, first = 0, last = 0;

	(void)state;
	/* Ever new ones, spoofed, and a dial every 10 ms. */
	for (now = NOW; now < NOW + 120 * SECOND; now += 10 * MILLISECOND) {
		dial.now = now;
		dial.pending_until_ns = now + HOLD;
		if (saw(dial_claim(&peer, &policy, &dial)).cause == CAUSE_dial_pending) {
			first = first ? first : now;
			last = now;
			refused++;
		} else {
			assert_cause(ends(&peer, &policy, 1, ENDING_CLOSED, now), CAUSE_claim_closed);
		}
	}
	assert_int_equal(first, NOW);
	assert_int_equal(refused, 2 * HOLD / (10 * MILLISECOND));
	assert_int_equal(last, NOW + 60 * SECOND + HOLD - 10 * MILLISECOND);
	assert_int_equal(peer.refused_dials, refused);
	/* To the nanosecond. */
	peer = fixture_peer();
	dial.now = NOW;
	dial.pending_until_ns = NOW + 100 * SECOND;
	assert_cause(saw(dial_claim(&peer, &policy, &dial)), CAUSE_dial_pending);
	dial.now = NOW + HOLD - 1;
	assert_cause(dial_verdict(&peer, &policy, &dial), CAUSE_dial_pending);
	dial.now = NOW + HOLD;
	assert_cause(dial_verdict(&peer, &policy, &dial), CAUSE_dial_idle);
	dial.now = NOW + PENDING_REST_NS - 1;
	assert_cause(dial_verdict(&peer, &policy, &dial), CAUSE_dial_idle);
	dial.now = NOW + PENDING_REST_NS;
	assert_cause(dial_verdict(&peer, &policy, &dial), CAUSE_dial_pending);
	dial.pending_until_ns = dial.now;
	assert_cause(dial_verdict(&peer, &policy, &dial), CAUSE_dial_idle);
	/* A link: from the beginning. */
	dial.now = NOW + 2 * SECOND;
	dial.pending_until_ns = NOW + 3 * SECOND;
	assert_cause(dial_verdict(&peer, &policy, &dial), CAUSE_dial_idle);
	up(&peer, &policy, 2, DIRECTION_INBOUND, 5, NOW + 2 * SECOND);
	ends(&peer, &policy, 2, ENDING_CLOSED, NOW + 2 * SECOND);
	assert_cause(saw(dial_claim(&peer, &policy, &dial)), CAUSE_dial_pending);
	assert_int_equal(peer.refused_pending_ns, NOW + 2 * SECOND);
	/* The socket that dials already is in nobody's way. */
	peer = fixture_peer();
	dial.pending_until_ns = 0;
	assert_cause(saw(dial_claim(&peer, &policy, &dial)), CAUSE_dial_idle);
	dial.pending_until_ns = NOW + 3 * SECOND;
	assert_cause(saw(dial_claim(&peer, &policy, &dial)), CAUSE_dial_again);
	/* In observe mode it is said, noted and let pass. */
	peer = fixture_peer();
	dial.mode = MODE_OBSERVE;
	assert_cause(saw(dial_claim(&peer, &policy, &dial)), CAUSE_dial_pending);
	assert_non_null(fixture_slot(&peer, 1));
}

/* ---- one connection opened from both ends ---------------------------------------------------- */

/* A bare SYN with this number has met our dial itself. */
static struct decision meets(struct peer *peer, const struct guard_policy *policy, __u64 cookie, __u32 isn,
			     int daemon, __u64 now)
{
	struct knock knock = fixture_knock(isn, now);

	knock.ends_dials = daemon;
	return saw(open_decide(peer, policy, cookie, &knock));
}

/* What is left of one connection that both ends open in the same instant. */
enum opened {
	OPENED_TOGETHER, /* an end took the other's SYN: TCP makes one connection of both dials */
	OPENED_BY_LEFT,  /* the right one's dial was given up, and its listener answers */
	OPENED_BY_RIGHT,
	OPENED_BY_NOBODY,
};

/* Both SYNs cross, and again 1 s and 3 s later for as long as nobody takes one. */
static enum opened open_between(__u32 left_isn, int left_daemon, __u32 right_isn, int right_daemon,
				int right_guarded)
{
	struct guard_policy policy = steps_policy();
	struct peer at_left = fixture_peer(), at_right = fixture_peer();
	struct decision left, right = { .verdict = VERDICT_ALLOW };
	int round;

	arrange_claim(&at_left, &policy, 1, left_isn, NOW);
	arrange_claim(&at_right, &policy, 2, right_isn, NOW);
	for (round = 0; round < 3; round++) {
		const __u64 now = NOW + (round ? 2 * round - 1 : 0) * SECOND;

		left = meets(&at_left, &policy, 1, right_isn, left_daemon, now);
		if (right_guarded)
			right = meets(&at_right, &policy, 2, left_isn, right_daemon, now);
		if (left.cause == CAUSE_knock_open_lost && right.cause == CAUSE_knock_open_lost)
			return OPENED_BY_NOBODY;
		/* Who has given up answers the next SYN with a RST, if the other one took this one. */
		if (left.cause == CAUSE_knock_open_lost)
			return right.verdict == VERDICT_HOLD ? OPENED_BY_RIGHT : OPENED_BY_NOBODY;
		if (right.cause == CAUSE_knock_open_lost)
			return left.verdict == VERDICT_HOLD ? OPENED_BY_LEFT : OPENED_BY_NOBODY;
		if (left.verdict == VERDICT_ALLOW || right.verdict == VERDICT_ALLOW)
			return OPENED_TOGETHER;
	}
	return OPENED_BY_NOBODY;
}

static void both_ends_of_one_connection_agree(void **state)
{
	static const __u32 numbers[] = { 0, 1, 2, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff };
	size_t i;

	(void)state;
	for (i = 0; i < ITEMS(numbers) * ITEMS(numbers); i++) {
		__u32 left = numbers[i / ITEMS(numbers)], right = numbers[i % ITEMS(numbers)];
		enum opened by_greater = left == right ? OPENED_TOGETHER :
					 left > right  ? OPENED_BY_LEFT :
							 OPENED_BY_RIGHT;

		assert_int_equal(open_between(left, 1, right, 1, 1), by_greater);
		/* A daemon of the end that loses is what it takes; without it TCP opens both as one. */
		assert_int_equal(open_between(left, 0, right, 1, 1),
				 left < right ? OPENED_TOGETHER : by_greater);
		assert_int_equal(open_between(left, 1, right, 0, 1),
				 left > right ? OPENED_TOGETHER : by_greater);
		assert_int_equal(open_between(left, 0, right, 0, 1), OPENED_TOGETHER);
		/* One end alone: the other one takes our SYN, and must not find that nobody is there. */
		assert_int_equal(open_between(left, 1, right, 0, 0), OPENED_TOGETHER);
		assert_int_equal(open_between(left, 0, right, 0, 0), OPENED_TOGETHER);
	}
}

/* What is noted, and what it costs whoever is spoofed. */
static void open_from_both_ends_is_given_up_once(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer(), before;
	struct decision decision;

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	before = peer;
	decision = meets(&peer, &policy, 1, OUR_ISN - 1, 1, NOW);
	assert_cause(decision, CAUSE_knock_open_won);
	/* Since when they meet is noted. */
	slot_of(&before, 1)->ack_waits_until_ns = NOW + HOLD;
	assert_unchanged_but_refusal(&before, &peer);
	assert_int_equal(peer.refused_knocks, 1);
	assert_int_equal(peer.last_refusal_cause, CAUSE_knock_open_won);
	/* Not at the first SYN. */
	decision = meets(&peer, &policy, 1, OUR_ISN + 1, 1, NOW);
	assert_cause(decision, CAUSE_knock_open_met);
	assert_int_equal(decision.other_cookie, 0);
	assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_SENT | SLOT_MET);
	assert_int_equal(peer.flags & PEER_YIELDED, 0);
	decision = meets(&peer, &policy, 1, OUR_ISN + 1, 1, NOW);
	assert_cause(decision, CAUSE_knock_open_lost);
	assert_int_equal(decision.other_cookie, 1);
	assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_SENT | SLOT_MET | SLOT_GIVEN_UP);
	assert_int_equal(peer.flags & PEER_YIELDED, PEER_YIELDED);
	/* Until its socket is gone its SYN is held again; that end is no failure. */
	assert_cause(meets(&peer, &policy, 1, OUR_ISN + 1, 1, NOW), CAUSE_knock_open_lost);
	assert_int_equal(peer.refused_knocks, 4);
	assert_cause(ends(&peer, &policy, 1, ENDING_ABORTED, NOW), CAUSE_dial_yielded);
	/* Before a link no other dial is given up: TCP opens both as one. */
	arrange_claim(&peer, &policy, 2, OUR_ISN, NOW);
	before = peer;
	assert_cause(meets(&peer, &policy, 2, OUR_ISN + 1, 1, NOW), CAUSE_none);
	slot_of(&before, 2)->ack_waits_until_ns = NOW + HOLD;
	assert_memory_equal(&before, &peer, sizeof(peer));
	up(&peer, &policy, 2, DIRECTION_OUTBOUND, OUR_ISN, NOW);
	/* No link, no claim that has not left, nothing of another socket, nobody exempt. */
	before = peer;
	assert_cause(meets(&peer, &policy, 2, OUR_ISN + 1, 1, NOW), CAUSE_none);
	assert_cause(meets(&peer, &policy, 3, OUR_ISN + 1, 1, NOW), CAUSE_none);
	assert_memory_equal(&before, &peer, sizeof(peer));
	peer = fixture_peer();
	arrange_unsent_claim(&peer, &policy, 1, NOW);
	assert_cause(meets(&peer, &policy, 1, OUR_ISN + 1, 1, NOW), CAUSE_none);
	sent(&peer, &policy, 1, OUR_ISN, NOW);
	peer.exempt_until_ns = NOW + 1;
	assert_cause(meets(&peer, &policy, 1, OUR_ISN + 1, 1, NOW), CAUSE_none);
	peer.exempt_until_ns = 0;
	policy.tie_break = TIE_BREAK_NONE;
	assert_cause(meets(&peer, &policy, 1, OUR_ISN - 1, 1, NOW), CAUSE_none);
	/* In observe mode it is said and left. */
	policy.tie_break = TIE_BREAK_ISN;
	{
		struct knock knock = fixture_knock(OUR_ISN + 1, NOW);

		knock.mode = MODE_OBSERVE;
		knock.ends_dials = 1;
		assert_cause(saw(open_decide(&peer, &policy, 1, &knock)), CAUSE_knock_open_met);
		assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_SENT);
		slot_of(&peer, 1)->flags |= SLOT_MET;
		assert_cause(saw(open_decide(&peer, &policy, 1, &knock)), CAUSE_knock_open_lost);
		assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_SENT | SLOT_MET);
	}
}

/* What comes of that for hold_max at most: then TCP opens the connection from both ends. */
static void open_from_both_ends_is_held_for_hold_max(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer(), before;

	(void)state;
	/* A firewall eats the SYNs of ours, which has the greater number. */
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	assert_cause(meets(&peer, &policy, 1, OUR_ISN - 1, 1, NOW), CAUSE_knock_open_won);
	assert_cause(meets(&peer, &policy, 1, OUR_ISN - 1, 1, NOW + HOLD - 1), CAUSE_knock_open_won);
	before = peer;
	assert_cause(meets(&peer, &policy, 1, OUR_ISN - 1, 1, NOW + HOLD), CAUSE_none);
	assert_cause(meets(&peer, &policy, 1, OUR_ISN - 1, 1, NOW + 3 * SECOND), CAUSE_none);
	assert_memory_equal(&before, &peer, sizeof(peer));
	/* Nobody ends the one that was given up. Counted from the first SYN, however old the dial is. */
	peer = fixture_peer();
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW - 10 * SECOND);
	assert_cause(meets(&peer, &policy, 1, OUR_ISN + 1, 1, NOW), CAUSE_knock_open_met);
	assert_cause(meets(&peer, &policy, 1, OUR_ISN + 1, 1, NOW + SECOND), CAUSE_knock_open_lost);
	assert_cause(meets(&peer, &policy, 1, OUR_ISN + 1, 1, NOW + HOLD - 1), CAUSE_knock_open_lost);
	assert_cause(meets(&peer, &policy, 1, OUR_ISN + 1, 1, NOW + HOLD), CAUSE_none);
	/* The socket's next dial begins anew. */
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW + HOLD);
	assert_cause(meets(&peer, &policy, 1, OUR_ISN - 1, 1, NOW + HOLD), CAUSE_knock_open_won);
}

/* Ours waits for the end of a backoff, and their SYN is there: nobody must wait for that. */
static void kept_dial_does_not_win_what_it_has_not_sent(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = silent_peer();

	(void)state;
	arrange_kept_claim(&peer, &policy, 1, NOW);
	assert_cause(meets(&peer, &policy, 1, OUR_ISN - 1, 1, NOW), CAUSE_knock_open_met);
	assert_cause(meets(&peer, &policy, 1, OUR_ISN - 1, 1, NOW), CAUSE_knock_open_lost);
	peer = silent_peer();
	arrange_kept_claim(&peer, &policy, 1, NOW);
	assert_cause(meets(&peer, &policy, 1, OUR_ISN - 1, 0, NOW), CAUSE_none);
	assert_cause(meets(&peer, &policy, 1, OUR_ISN + 1, 0, NOW), CAUSE_none);
}

/* ---- dials beside a new link ----------------------------------------------------------------- */

/* Four round trips of 40 ms, and a tenth of a second. */
#define NEW_ENDS (NOW + 260 * NS_PER_MS)

static void arrange_new_link(struct peer *peer, const struct guard_policy *policy, __u64 cookie,
			     enum link_direction direction, int adopted)
{
	struct link link = fixture_link(cookie, direction, OUR_ISN + 1, NOW);

	link.round_trip_ms = 40;
	link.adopted = adopted;
	saw(link_up(peer, policy, &link));
}

static struct peer new_link(const struct guard_policy *policy)
{
	struct peer peer = fixture_peer();

	arrange_new_link(&peer, policy, 1, DIRECTION_INBOUND, 0);
	return peer;
}

/* A dial while a daemon lives. */
static struct dial dial_beside(__u64 cookie, __u64 now)
{
	struct dial dial = fixture_dial(cookie, now);

	dial.ends_dials = 1;
	return dial;
}

static void dial_beside_a_new_link_waits(void **state)
{
	struct guard_policy policy = steps_policy();
	struct dial dial = dial_beside(2, NOW), again, other = dial_beside(3, NOW);
	struct peer peer = new_link(&policy), waiting;
	struct decision decision;

	(void)state;
	decision = saw(dial_claim(&peer, &policy, &dial));
	assert_cause(decision, CAUSE_dial_beside);
	assert_int_equal(decision.until_ns, NEW_ENDS);
	assert_int_equal(decision.other_cookie, 1);
	assert_int_equal(peer.refused_dials, 0);
	assert_int_equal(fixture_slot(&peer, 2)->flags, SLOT_KEPT);
	/* One of ours at a time. */
	assert_cause(saw(dial_claim(&peer, &policy, &other)), CAUSE_dial_linked);
	sent(&peer, &policy, 2, OUR_ISN, NOW);
	waiting = peer;
	assert_int_equal(dial_waits_until(&peer, &policy, 2, NOW), NEW_ENDS);
	assert_int_equal(leaves(&peer, &policy, 2, NOW).verdict, VERDICT_HOLD);
	assert_int_equal(leaves(&peer, &policy, 2, NEW_ENDS - 1).verdict, VERDICT_HOLD);
	assert_memory_equal(&waiting, &peer, sizeof(peer));
	/* It is the daemon that ends it; nobody waits for one that does not. */
	assert_cause(leaves(&peer, &policy, 2, NEW_ENDS), CAUSE_dial_let_go);
	peer = waiting;
	assert_cause(ends(&peer, &policy, 2, ENDING_ABORTED, NEW_ENDS), CAUSE_dial_superseded);
	assert_int_equal(peer.attempts, 0);
	assert_cause(saw(dial_claim(&peer, &policy, &(struct dial){ .cookie = 4,
								    .now = NEW_ENDS,
								    .mode = MODE_ENFORCE,
								    .ends_dials = 1 })),
		     CAUSE_dial_linked);

	/* The link ends: there is nothing to wait for. */
	peer = waiting;
	ends(&peer, &policy, 1, ENDING_CLOSED, NOW + 1);
	assert_int_equal(dial_waits_until(&peer, &policy, 2, NOW + 1), 0);
	decision = leaves(&peer, &policy, 2, NOW + 1);
	assert_cause(decision, CAUSE_dial_let_go);
	assert_int_equal(fixture_slot(&peer, 2)->flags, SLOT_SENT);
	assert_int_equal(fixture_slot(&peer, 2)->since_ns, NOW + 1);
	/* Closed before, it is no failure. */
	peer = waiting;
	ends(&peer, &policy, 1, ENDING_CLOSED, NOW + 1);
	assert_cause(ends(&peer, &policy, 2, ENDING_CLOSED, NOW + 1), CAUSE_dial_unheard);
	/* And another knock goes first. */
	peer = waiting;
	ends(&peer, &policy, 1, ENDING_CLOSED, NOW + 1);
	assert_cause(knocks_with_daemon(&peer, &policy, OUR_ISN - 1, NOW + 1), CAUSE_knock_goes_first);

	/* Nothing is refused to the peer any more, or what becomes of two links is the service's business. */
	peer = waiting;
	peer.exempt_until_ns = NEVER_ENDS_NS;
	assert_cause(leaves(&peer, &policy, 2, NOW + 1), CAUSE_dial_let_go);
	peer = waiting;
	policy.tie_break = TIE_BREAK_NONE;
	assert_cause(leaves(&peer, &policy, 2, NOW + 1), CAUSE_dial_let_go);
	policy.tie_break = TIE_BREAK_ISN;

	/* Dialed again by its socket it is asked for anew. */
	peer = waiting;
	again = dial_beside(2, NOW + 1);
	assert_cause(saw(dial_claim(&peer, &policy, &again)), CAUSE_dial_beside);
	assert_int_equal(fixture_slot(&peer, 2)->flags, SLOT_KEPT);
	again.now = NEW_ENDS;
	slot_of(&peer, 2)->expires_ns = NEW_ENDS + 1;
	assert_cause(saw(dial_claim(&peer, &policy, &again)), CAUSE_dial_linked);
}

static void dial_beside_any_other_link_is_refused_at_once(void **state)
{
	struct guard_policy policy = steps_policy();
	struct dial dial = dial_beside(2, NOW);
	struct peer peer = new_link(&policy), other = fixture_peer();
	__u64 i;

	(void)state;
	assert_cause(dial_verdict(&peer, &policy, &dial), CAUSE_dial_beside);
	dial.now = NEW_ENDS - 1;
	assert_cause(dial_verdict(&peer, &policy, &dial), CAUSE_dial_beside);
	dial.now = NEW_ENDS;
	assert_cause(dial_verdict(&peer, &policy, &dial), CAUSE_dial_linked);
	/* Nobody would end it. */
	dial = dial_beside(2, NOW);
	dial.ends_dials = 0;
	assert_cause(dial_verdict(&peer, &policy, &dial), CAUSE_dial_linked);
	/* The service has a rule of its own. */
	dial = dial_beside(2, NOW);
	policy.tie_break = TIE_BREAK_NONE;
	assert_cause(dial_verdict(&peer, &policy, &dial), CAUSE_dial_linked);
	policy.tie_break = TIE_BREAK_ISN;
	/* What would be held is counted; nothing is when the guard is off. */
	dial = dial_beside(2, NOW);
	dial.mode = MODE_OBSERVE;
	assert_cause(dial_verdict(&peer, &policy, &dial), CAUSE_dial_beside);
	dial.mode = MODE_OFF;
	assert_cause(dial_verdict(&peer, &policy, &dial), CAUSE_dial_linked);
	/* Another handshake of theirs is pending. */
	dial = dial_beside(2, NOW);
	dial.pending_until_ns = NOW + 1;
	assert_cause(dial_verdict(&peer, &policy, &dial), CAUSE_dial_linked);
	/* Nobody has announced it. */
	dial = dial_beside(2, NOW);
	dial.announced_only = 1;
	assert_cause(dial_verdict(&peer, &policy, &dial), CAUSE_dial_linked);
	dial = dial_beside(2, NOW);
	peer.exempt_until_ns = NEVER_ENDS_NS;
	assert_cause(dial_verdict(&peer, &policy, &dial), CAUSE_dial_exempt);
	/* It shows no life. */
	peer = new_link(&policy);
	policy.suspect_after_ns = NS_PER_MS;
	dial.now = NOW + NS_PER_MS;
	assert_cause(dial_verdict(&peer, &policy, &dial), CAUSE_dial_suspect);

	/* Nobody makes us wait by being slow. */
	policy = steps_policy();
	peer = new_link(&policy);
	slot_of(&peer, 1)->round_trip_ms = 0xffff;
	dial.now = NOW;
	assert_int_equal(dial_verdict(&peer, &policy, &dial).until_ns, NOW + 800 * NS_PER_MS);

	/* Without a slot nobody would let it go. */
	policy = steps_policy();
	policy.max_links = PEER_LINKS_MAX;
	peer = fixture_peer();
	for (i = 1; i <= PEER_SLOTS; i++)
		arrange_new_link(&peer, &policy, i, DIRECTION_INBOUND, 0);
	assert_int_equal(fixture_count(&peer, SLOT_FREE), 0);
	dial = dial_beside(PEER_SLOTS + 1, NOW);
	assert_cause(dial_verdict(&peer, &policy, &dial), CAUSE_dial_beside);
	assert_cause(saw(dial_claim(&peer, &policy, &dial)), CAUSE_dial_linked);
	assert_int_equal(peer.refused_dials, 1);
	assert_int_equal(peer.last_refusal_cause, CAUSE_dial_linked);
	policy = steps_policy();
	dial = dial_beside(2, NOW);

	/* Our own, of which the application knows, and one that is older than the guard. */
	policy = steps_policy();
	dial.now = NOW;
	arrange_new_link(&other, &policy, 1, DIRECTION_OUTBOUND, 0);
	assert_cause(dial_verdict(&other, &policy, &dial), CAUSE_dial_linked);
	other = fixture_peer();
	arrange_new_link(&other, &policy, 1, DIRECTION_INBOUND, 1);
	assert_cause(dial_verdict(&other, &policy, &dial), CAUSE_dial_linked);
	/* Of several the last one counts; with room for one more nothing does. */
	policy.max_links = 2;
	arrange_new_link(&other, &policy, 3, DIRECTION_INBOUND, 0);
	assert_cause(dial_verdict(&other, &policy, &dial), CAUSE_dial_beside);
	policy.max_links = 3;
	assert_cause(dial_verdict(&other, &policy, &dial), CAUSE_dial_idle);
}

/* ---- silence ends no link on our account ----------------------------------------------------- */

/* A link of another life, quiet since NOW. */
static struct peer quiet_peer(const struct guard_policy *policy)
{
	struct peer peer = fixture_peer();

	arrange_link(&peer, 1, DIRECTION_INBOUND, 5, NOW - policy->suspect_after_ns);
	return peer;
}

/* Its peer need not wait for it, and it counts again as soon as it is heard. */
static void unanswered_link_lets_a_knock_in_and_stays(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = quiet_peer(&policy), before;
	struct decision decision;

	(void)state;
	before = peer;
	/* Not quiet yet; not there; a claim. */
	assert_cause(link_unanswered(&peer, &policy, 1, NOW - 1), CAUSE_none);
	assert_cause(link_unanswered(&peer, &policy, 2, NOW), CAUSE_none);
	assert_cause(link_unanswered(&peer, &policy, 0, NOW), CAUSE_none);
	assert_memory_equal(&before, &peer, sizeof(peer));
	arrange_claim(&peer, &policy, 3, OUR_ISN, NOW);
	assert_cause(link_unanswered(&peer, &policy, 3, NOW), CAUSE_none);
	peer = before;
	assert_cause(knocks_with_daemon(&peer, &policy, 6, NOW), CAUSE_knock_suspect);
	decision = saw(link_unanswered(&peer, &policy, 1, NOW));
	assert_cause(decision, CAUSE_link_unanswered);
	assert_int_equal(decision.direction, DIRECTION_INBOUND);
	assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_UNANSWERED);
	assert_cause(knocks_with_daemon(&peer, &policy, 6, NOW), CAUSE_knock_unproven);
	assert_cause(looks(&peer, &policy, 9, NOW), CAUSE_dial_unproven);
	/* It is there for all that. */
	assert_int_equal(fixture_count(&peer, SLOT_LINK), 1);
	assert_false(peer_idle(&peer, NOW));
	/* The outage is over, and spoofed SYNs have done nothing to it. */
	link_heard(&peer, 1, NOW + 6 * SECOND);
	assert_int_equal(fixture_slot(&peer, 1)->flags, 0);
	assert_int_equal(fixture_slot(&peer, 1)->doubted_ns, 0);
	assert_cause(knocks_with_daemon(&peer, &policy, 6, NOW + 6 * SECOND), CAUSE_knock_linked);
	/* Completed by the peer itself, another one takes its place. */
	assert_cause(link_unanswered(&peer, &policy, 1, NOW + 7 * SECOND), CAUSE_link_unanswered);
	decision = up(&peer, &policy, 2, DIRECTION_INBOUND, 4, NOW + 7 * SECOND);
	assert_cause(decision, CAUSE_link_replaced);
	assert_int_equal(decision.other_cookie, 1);
	assert_cause(ends(&peer, &policy, 1, ENDING_RESET, NOW + 7 * SECOND), CAUSE_link_destroyed);
}

/*
 * Nobody waits for a link whose own address is gone, however lively it was. What is back is as it was, and what has been
 * heard was never gone.
 */
static void stranded_link_lets_everybody_pass_and_stays(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer(), lively;
	struct decision decision;

	(void)state;
	arrange_link(&peer, 1, DIRECTION_INBOUND, 5, NOW);
	arrange_claim(&peer, &policy, 3, OUR_ISN, NOW);
	lively = peer;
	assert_cause(link_stranded(&peer, 2), CAUSE_none);
	assert_cause(link_stranded(&peer, 0), CAUSE_none);
	assert_cause(link_stranded(&peer, 3), CAUSE_none);
	assert_false(link_floats(&peer, 1) || link_floats(&peer, 2) || link_floats(&peer, 3));
	assert_memory_equal(&lively, &peer, sizeof(peer));
	slot_free(slot_of(&peer, 3));
	lively = peer;
	assert_cause(knocks_with_daemon(&peer, &policy, 6, NOW), CAUSE_knock_linked);
	peer = lively;
	decision = saw(link_stranded(&peer, 1));
	assert_cause(decision, CAUSE_link_stranded);
	assert_int_equal(decision.direction, DIRECTION_INBOUND);
	assert_cause(link_stranded(&peer, 1), CAUSE_none);
	assert_cause(knocks_with_daemon(&peer, &policy, 6, NOW), CAUSE_knock_unproven);
	assert_cause(looks(&peer, &policy, 9, NOW), CAUSE_dial_unproven);
	/* It is there for all that. */
	assert_int_equal(fixture_count(&peer, SLOT_LINK), 1);
	assert_false(peer_idle(&peer, NOW));
	links_doubt(&peer, &policy, NOW);
	assert_int_equal(fixture_slot(&peer, 1)->doubted_ns, NOW);
	assert_true(link_floats(&peer, 1));
	assert_false(link_floats(&peer, 1));
	assert_memory_equal(&lively, &peer, sizeof(peer));
	assert_cause(looks(&peer, &policy, 9, NOW), CAUSE_dial_linked);

	assert_cause(link_stranded(&peer, 1), CAUSE_link_stranded);
	link_heard(&peer, 1, NOW + 1);
	assert_int_equal(fixture_slot(&peer, 1)->flags, 0);
	assert_cause(knocks_with_daemon(&peer, &policy, 6, NOW + 1), CAUSE_knock_linked);
	/* The next one takes its place, whichever its direction and its number. */
	for (int direction = DIRECTION_OUTBOUND; direction <= DIRECTION_INBOUND; direction++) {
		peer = lively;
		assert_cause(link_stranded(&peer, 1), CAUSE_link_stranded);
		decision = up(&peer, &policy, 2, direction, 4, NOW + 2);
		assert_cause(decision, CAUSE_link_replaced);
		assert_int_equal(decision.other_cookie, 1);
		assert_true(fixture_slot(&peer, 1)->flags & SLOT_DOOMED);
		assert_cause(ends(&peer, &policy, 1, ENDING_RESET, NOW + 3), CAUSE_link_destroyed);
		assert_cause(knocks_with_daemon(&peer, &policy, 6, NOW + 3), CAUSE_knock_linked);
	}
}

/* Nobody has told what came of the question: after three seconds the knock's handshake tells more. */
static void knock_waits_for_an_answer_three_seconds_at_most(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = quiet_peer(&policy);
	struct decision decision;

	(void)state;
	decision = knocks_with_daemon(&peer, &policy, 6, NOW);
	assert_cause(decision, CAUSE_knock_suspect);
	assert_int_equal(decision.until_ns, NOW + 3 * SECOND);
	assert_int_equal(fixture_slot(&peer, 1)->doubted_ns, NOW);
	assert_cause(knocks_with_daemon(&peer, &policy, 6, NOW + 3 * SECOND - 1), CAUSE_knock_suspect);
	/* Where nobody asks, the doubt lasts as long as it may. */
	decision = knocks(&peer, &policy, 6, NOW + 3 * SECOND);
	assert_cause(decision, CAUSE_knock_suspect);
	assert_int_equal(decision.until_ns, NOW + DENY);
	assert_int_equal(fixture_slot(&peer, 1)->flags, 0);
	decision = knocks_with_daemon(&peer, &policy, 6, NOW + 3 * SECOND);
	assert_cause(decision, CAUSE_knock_unproven);
	assert_int_equal(decision.until_ns, 0);
	assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_UNANSWERED);
	assert_cause(up(&peer, &policy, 2, DIRECTION_INBOUND, 4, NOW + 3 * SECOND), CAUSE_link_replaced);
	/* A shorter deny_max is shorter. */
	policy.deny_max_ns = SECOND;
	peer = quiet_peer(&policy);
	assert_int_equal(knocks_with_daemon(&peer, &policy, 6, NOW).until_ns, NOW + SECOND);
	assert_cause(knocks_with_daemon(&peer, &policy, 6, NOW + SECOND), CAUSE_knock_unproven);
}

/* Of two links one is dead, and the other was asked, answered, and has been quiet again since. */
static void newcomer_replaces_only_a_link_that_was_asked_in_vain(void **state)
{
	struct guard_policy policy = steps_policy();
	struct decision decision;
	int dead;

	(void)state;
	policy.max_links = 2;
	for (dead = 1; dead <= 2; dead++) {
		struct peer peer = fixture_peer();

		arrange_link(&peer, 1, DIRECTION_INBOUND, 5, NOW - 2 * SECOND);
		arrange_link(&peer, 2, DIRECTION_INBOUND, 6, NOW - 2 * SECOND);
		assert_cause(knocks_with_daemon(&peer, &policy, 7, NOW), CAUSE_knock_suspect);
		link_heard(&peer, 3 - dead, NOW + SECOND / 2);
		assert_cause(link_unanswered(&peer, &policy, dead, NOW + 2 * SECOND), CAUSE_link_unanswered);
		assert_cause(knocks_with_daemon(&peer, &policy, 7, NOW + 3 * SECOND), CAUSE_knock_unproven);
		assert_int_equal(fixture_slot(&peer, 3 - dead)->flags, 0);
		decision = up(&peer, &policy, 3, DIRECTION_INBOUND, 7, NOW + 3 * SECOND);
		assert_cause(decision, CAUSE_link_replaced);
		assert_int_equal(decision.other_cookie, dead);
	}
}

/* Of two links one was in doubt, and late evidence has shown that it lived: the other has its own time. */
static void doubt_about_a_link_that_lives_lets_nobody_in(void **state)
{
	struct guard_policy policy = steps_policy();
	const __u64 quiet = NOW + 2900 * MILLISECOND;
	struct peer peer = fixture_peer();
	struct decision decision;

	(void)state;
	policy.max_links = 2;
	policy.suspect_after_ns = 60 * SECOND;
	arrange_link(&peer, 1, DIRECTION_INBOUND, 5, NOW - 60 * SECOND);
	arrange_link(&peer, 2, DIRECTION_INBOUND, 6, quiet - 60 * SECOND);
	assert_cause(knocks_with_daemon(&peer, &policy, 7, NOW), CAUSE_knock_suspect);
	link_heard(&peer, 1, NOW - SECOND);
	assert_int_equal(fixture_slot(&peer, 1)->doubted_ns, NOW);
	assert_cause(knocks_with_daemon(&peer, &policy, 7, NOW + SECOND), CAUSE_knock_linked);
	assert_cause(knocks_with_daemon(&peer, &policy, 7, quiet), CAUSE_knock_suspect);
	decision = knocks_with_daemon(&peer, &policy, 7, NOW + 3 * SECOND);
	assert_cause(decision, CAUSE_knock_suspect);
	assert_int_equal(decision.until_ns, quiet + 3 * SECOND);
}

/* Our own refused dial asks nobody, until it has been refused for deny_max. */
static void refused_dial_asks_after_deny_max(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = quiet_peer(&policy);
	struct dial dial = fixture_dial(9, NOW);
	__u64 now;

	(void)state;
	dial.asks = 1;
	for (now = NOW; now < NOW + DENY; now += SECOND) {
		dial.now = now;
		assert_cause(saw(dial_claim(&peer, &policy, &dial)), CAUSE_dial_suspect);
		assert_int_equal(fixture_slot(&peer, 1)->doubted_ns, 0);
		assert_int_equal(peer.doubted_dial_ns, NOW);
	}
	/* One that another processor has noted a moment ahead is not in the past. */
	dial.now = NOW - 1;
	slot_of(&peer, 1)->heard_ns = NOW - 10 * SECOND;
	assert_cause(saw(dial_claim(&peer, &policy, &dial)), CAUSE_dial_suspect);
	assert_int_equal(fixture_slot(&peer, 1)->doubted_ns, 0);
	dial.now = NOW + DENY - 1;
	assert_cause(saw(dial_claim(&peer, &policy, &dial)), CAUSE_dial_suspect);
	assert_int_equal(fixture_slot(&peer, 1)->doubted_ns, 0);
	dial.now = NOW + DENY;
	assert_cause(saw(dial_claim(&peer, &policy, &dial)), CAUSE_dial_suspect);
	assert_int_equal(fixture_slot(&peer, 1)->doubted_ns, NOW + DENY);
	/* Answered: from the beginning. Not: the dial passes. */
	link_heard(&peer, 1, NOW + DENY + SECOND);
	assert_int_equal(peer.doubted_dial_ns, 0);
	dial.now = NOW + DENY + 3 * SECOND;
	assert_cause(saw(dial_claim(&peer, &policy, &dial)), CAUSE_dial_suspect);
	assert_int_equal(peer.doubted_dial_ns, dial.now);
	assert_int_equal(fixture_slot(&peer, 1)->doubted_ns, 0);
	assert_cause(link_unanswered(&peer, &policy, 1, dial.now), CAUSE_link_unanswered);
	assert_cause(saw(dial_claim(&peer, &policy, &dial)), CAUSE_dial_unproven);
	/* Nobody asks: the doubt begins at once, and ends after deny_max. */
	peer = quiet_peer(&policy);
	dial = fixture_dial(9, NOW);
	assert_cause(saw(dial_claim(&peer, &policy, &dial)), CAUSE_dial_suspect);
	assert_int_equal(fixture_slot(&peer, 1)->doubted_ns, NOW);
	dial.now = NOW + DENY;
	assert_cause(saw(dial_claim(&peer, &policy, &dial)), CAUSE_dial_unproven);
}

/* ---- services -------------------------------------------------------------------------------- */

/* Two ports of one host are two peers: neither an entry nor an element of the table serves both. */
static void services_of_one_address_are_two_peers(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer_address first = address_from_ipv4(0x070200c0), second = first;
	struct pending_handshake pending = {};
	struct peer peer = {};

	(void)state;
	first.service = 2888;
	second.service = 3888;
	assert_true(address_same_host(&first, &second));
	assert_false(address_equal(&first, &second));
	assert_true(peer_is(&peer, &first, NOW));
	assert_int_equal(peer.address.service, 2888);
	assert_false(peer_is(&peer, &second, NOW));
	assert_cause(handshake(&pending, &first, 1000, 1, NOW), CAUSE_knock_idle);
	assert_int_equal(handshake_pending(&pending, &second, NOW).until_ns, 0);
	assert_int_equal(handshake_pending(&pending, &first, NOW).until_ns, NOW + HOLD);
	/* The element is the first one's: a knock at the second service waits for nobody. */
	assert_cause(handshake(&pending, &second, 1001, 1, NOW), CAUSE_knock_idle);
	assert_int_equal(pending.remote_port, 1000);
	assert_true(handshake_awaited(&pending, &first, 1000, NOW));
	assert_false(handshake_awaited(&pending, &second, 1000, NOW));
	handshake_done(&pending, &second, 1000);
	assert_true(handshake_awaited(&pending, &first, 1000, NOW));
	assert_cause(looks(&peer, &policy, 1, NOW), CAUSE_dial_idle);
}

/* ---- ends, whoever asks ---------------------------------------------------------------------- */

static void only_the_owner_ends_a_slot(void **state)
{
	static const __u64 strangers[] = { 0, 2, 11, ~0ULL };
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer(), before;
	size_t i;
	int linked;

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	for (linked = 0; linked < 2; linked++) {
		before = peer;
		for (i = 0; i < ITEMS(strangers); i++) {
			assert_cause(ends(&peer, &policy, strangers[i], ENDING_CLOSED, NOW),
				     CAUSE_none);
			assert_cause(slot_release(&peer, strangers[i], CAUSE_link_released, NOW),
				     CAUSE_none);
			assert_cause(slot_release(&peer, strangers[i], CAUSE_link_cut, NOW),
				     CAUSE_none);
			sent(&peer, &policy, strangers[i], 1, NOW);
		}
		assert_memory_equal(&before, &peer, sizeof(peer));
		up(&peer, &policy, 1, DIRECTION_OUTBOUND, OUR_ISN, NOW);
	}
	/* The loser: refused while the winner is linked, then closed. */
	assert_cause(looks(&peer, &policy, 2, NOW), CAUSE_dial_linked);
	assert_cause(ends(&peer, &policy, 2, ENDING_CLOSED, NOW), CAUSE_none);
	assert_cause(looks(&peer, &policy, 3, NOW), CAUSE_dial_linked);
}

static void end_twice_changes_nothing(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer(), before;
	struct decision decision;

	(void)state;
	assert_cause(fail_dial(&peer, &policy, 1, NOW), CAUSE_dial_failed);
	before = peer;
	decision = ends(&peer, &policy, 1, ENDING_CLOSED, NOW + SECOND);
	assert_cause(decision, CAUSE_none);
	assert_int_equal(decision.direction, DIRECTION_NONE);
	assert_int_equal(decision.attempts, 1);
	assert_memory_equal(&before, &peer, sizeof(peer));
	/* The socket dials again later: a new claim, a new failure. */
	assert_cause(fail_dial(&peer, &policy, 1, NOW + 10 * SECOND), CAUSE_dial_failed);
	assert_int_equal(peer.attempts, 2);
}

static void release_is_no_failure(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	struct decision decision;

	(void)state;
	peer.attempts = 2;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	arrange_link(&peer, 2, DIRECTION_INBOUND, 5, NOW);
	decision = slot_release(&peer, 2, CAUSE_link_released, NOW + 1);
	assert_cause(decision, CAUSE_link_released);
	assert_int_equal(decision.direction, DIRECTION_INBOUND);
	assert_non_null(fixture_slot(&peer, 1));
	assert_null(fixture_slot(&peer, 2));
	/* Cut by command: our own link of a moment ago is no failure either. */
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, OUR_ISN, NOW + 1);
	decision = slot_release(&peer, 1, CAUSE_link_cut, NOW + 2);
	assert_cause(decision, CAUSE_link_cut);
	assert_int_equal(decision.direction, DIRECTION_OUTBOUND);
	assert_int_equal(fixture_count(&peer, SLOT_FREE), PEER_SLOTS);
	assert_int_equal(peer.attempts, 2);
	assert_int_equal(peer.next_attempt_ns, 0);
	assert_int_equal(peer.last_active_ns, NOW + 2);
	assert_cause(slot_release(&peer, 1, CAUSE_link_released, NOW + 3), CAUSE_none);
	assert_cause(slot_release(&peer, 1, CAUSE_link_cut, NOW + 3), CAUSE_none);
	assert_int_equal(peer.last_active_ns, NOW + 2);
	arrange_link(&peer, 3, DIRECTION_INBOUND, 5, NOW + 3);
	assert_cause(slot_release(&peer, 3, CAUSE_link_unguarded, NOW + 4), CAUSE_link_unguarded);
	assert_int_equal(fixture_count(&peer, SLOT_FREE), PEER_SLOTS);
}

/* The winner of a duplicate has ended, and the loser not been destroyed yet. */
static void link_too_many_that_is_the_last_may_stay(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	struct decision decision;

	(void)state;
	arrange_link(&peer, 1, DIRECTION_INBOUND, 5, NOW);
	assert_cause(link_spare(&peer, &policy, 1, NOW), CAUSE_none);
	assert_cause(up(&peer, &policy, 2, DIRECTION_INBOUND, 6, NOW), CAUSE_link_duplicate);
	/* The winner is there; nobody's cookie; no cookie. */
	assert_cause(link_spare(&peer, &policy, 2, NOW), CAUSE_none);
	assert_cause(ends(&peer, &policy, 1, ENDING_CLOSED, NOW), CAUSE_link_ended);
	assert_cause(link_spare(&peer, &policy, 1, NOW), CAUSE_none);
	assert_cause(link_spare(&peer, &policy, 0, NOW), CAUSE_none);
	assert_int_equal(fixture_slot(&peer, 2)->flags, SLOT_DOOMED);
	/* A claim is no link. */
	arrange_claim(&peer, &policy, 3, OUR_ISN, NOW);
	assert_cause(link_spare(&peer, &policy, 3, NOW), CAUSE_none);
	decision = link_spare(&peer, &policy, 2, NOW + SECOND / 2);
	assert_cause(decision, CAUSE_link_spared);
	assert_int_equal(decision.direction, DIRECTION_INBOUND);
	assert_int_equal(fixture_slot(&peer, 2)->flags, 0);
	assert_int_equal(fixture_slot(&peer, 2)->since_ns, NOW);
	assert_int_equal(peer.last_active_ns, NOW + SECOND / 2);
	assert_cause(knocks(&peer, &policy, 7, NOW + SECOND / 2), CAUSE_knock_linked);
	assert_cause(link_spare(&peer, &policy, 2, NOW + SECOND / 2), CAUSE_none);
}

/* adopt = trim: what was there before the guard is ended, but never what the peer may have. */
static void link_too_many_that_is_older_may_be_trimmed(void **state)
{
	struct link adopted = fixture_link(1, DIRECTION_INBOUND, 0, NOW);
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();
	struct decision decision;

	(void)state;
	adopted.adopted = 1;
	assert_cause(link_up(&peer, &policy, &adopted), CAUSE_link_adopted);
	assert_cause(link_trim(&peer, &policy, 1, MODE_ENFORCE, NOW), CAUSE_none);
	adopted.cookie = 2;
	assert_cause(link_up(&peer, &policy, &adopted), CAUSE_link_surplus);
	/* Once is enough. */
	assert_cause(link_up(&peer, &policy, &adopted), CAUSE_none);
	adopted.cookie = 3;
	adopted.mode = MODE_OBSERVE;
	assert_cause(link_up(&peer, &policy, &adopted), CAUSE_link_surplus);
	/* Who refuses nothing tells nothing of it. */
	adopted.cookie = 4;
	adopted.mode = MODE_OFF;
	assert_cause(link_up(&peer, &policy, &adopted), CAUSE_link_adopted);
	assert_int_equal(fixture_slot(&peer, 4)->flags, SLOT_ADOPTED);
	/* Nobody's cookie; a claim; a peer to which nothing is refused; a mode in which nothing is. */
	assert_cause(link_trim(&peer, &policy, 9, MODE_ENFORCE, NOW), CAUSE_none);
	arrange_claim(&peer, &policy, 5, OUR_ISN, NOW);
	assert_cause(link_trim(&peer, &policy, 5, MODE_ENFORCE, NOW), CAUSE_none);
	peer.exempt_until_ns = NOW + 1;
	assert_cause(link_trim(&peer, &policy, 3, MODE_ENFORCE, NOW), CAUSE_none);
	peer.exempt_until_ns = 0;
	assert_cause(link_trim(&peer, &policy, 3, MODE_OFF, NOW), CAUSE_none);
	/* Who observes says which one. */
	decision = link_trim(&peer, &policy, 3, MODE_OBSERVE, NOW);
	assert_cause(decision, CAUSE_link_duplicate);
	assert_int_equal(decision.other_cookie, 3);
	assert_int_equal(decision.direction, DIRECTION_INBOUND);
	assert_false(fixture_slot(&peer, 3)->flags & SLOT_DOOMED);
	policy.max_links = 2;
	for (__u64 cookie = 3; cookie <= 4; cookie++) {
		assert_cause(link_trim(&peer, &policy, cookie, MODE_ENFORCE, NOW), CAUSE_link_duplicate);
		assert_true(fixture_slot(&peer, cookie)->flags & SLOT_DOOMED);
		assert_cause(link_trim(&peer, &policy, cookie, MODE_ENFORCE, NOW), CAUSE_none);
	}
	/* That is all: two are what it may have. */
	assert_cause(link_trim(&peer, &policy, 1, MODE_ENFORCE, NOW), CAUSE_none);
	assert_cause(link_trim(&peer, &policy, 2, MODE_ENFORCE, NOW), CAUSE_none);
	/* One that shows no life is no reason to end another. */
	policy.max_links = 1;
	slot_of(&peer, 1)->flags |= SLOT_UNANSWERED;
	assert_cause(link_trim(&peer, &policy, 2, MODE_ENFORCE, NOW + policy.suspect_after_ns), CAUSE_none);
}

/* Its claim was void before its SYN left, and another dial has its slot. */
static void answer_of_a_dial_without_a_slot_is_held_for_a_link(void **state)
{
	struct guard_policy policy = steps_policy();
	struct their_handshake theirs = fixture_theirs(OUR_ISN + 1, NOW + HOLD);
	struct peer peer = fixture_peer();
	struct decision decision;

	(void)state;
	/* With nothing to compare by there is no tie. */
	assert_cause(answers(&peer, &policy, &theirs, 1, NOW), CAUSE_none);
	arrange_link(&peer, 2, DIRECTION_OUTBOUND, 5, NOW);
	decision = answers(&peer, &policy, &theirs, 1, NOW);
	assert_cause(decision, CAUSE_answer_linked);
	assert_int_equal(decision.verdict, VERDICT_HOLD);
	assert_int_equal(decision.other_cookie, 2);
	/* A link's own is none of this. */
	assert_cause(answers(&peer, &policy, &theirs, 2, NOW), CAUSE_none);
}

/* ---- commands -------------------------------------------------------------------------------- */

static void due_is_idle_and_ours_to_dial(void **state)
{
	struct guard_policy policy = steps_policy();
	struct peer peer = fixture_peer();

	(void)state;
	assert_true(peer_idle(&peer, NOW));
	assert_false(peer_due(&peer, NOW)); /* it only knocked: no port to dial */
	peer.flags = PEER_KNOWN;
	assert_true(peer_due(&peer, NOW));
	peer.flags = PEER_DIALED;
	assert_true(peer_due(&peer, NOW));

	peer.next_attempt_ns = NOW + 1;
	assert_false(peer_due(&peer, NOW));
	assert_true(peer_due(&peer, NOW + 1));
	peer.next_attempt_ns = 0;
	arrange_unsent_claim(&peer, &policy, 1, NOW);
	assert_false(peer_due(&peer, NOW));
	assert_true(peer_due(&peer, NOW + CLAIM_UNSENT_MAX_NS));
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, 5, NOW);
	assert_false(peer_due(&peer, NOW + CLAIM_UNSENT_MAX_NS));
	/* A kick is backoff_clear(). */
	ends(&peer, &policy, 1, ENDING_CLOSED, NOW);
	assert_cause(fail_dial(&peer, &policy, 2, NOW), CAUSE_dial_failed);
	assert_false(peer_due(&peer, NOW));
	backoff_clear(&peer);
	assert_true(peer_due(&peer, NOW));
	assert_int_equal(peer.attempts, 0);
}

static void forgotten_is_only_who_nobody_needs(void **state)
{
	static const struct {
		const char *name;
		__u32 flags, limit;
		__u64 last_active_ns, next_attempt_ns, exempt_until_ns;
		char slot;
		int forgotten;
	} rows[] = {
		{ "inactive", PEER_DIALED, 0, NOW - SECOND, 0, 0, 0, 1 },
		{ "just inactive", 0, 0, NOW, 0, 0, 0, 1 },
		{ "backoff over, exemption over", 0, 0, 0, NOW, NOW, 0, 1 },
		{ "active since", 0, 0, NOW + 1, 0, 0, 0, 0 },
		{ "known", PEER_KNOWN, 0, 0, 0, 0, 0, 0 },
		{ "known and dialed", PEER_KNOWN | PEER_DIALED, 0, 0, 0, 0, 0, 0 },
		{ "backoff", 0, 0, 0, NOW + 1, 0, 0, 0 },
		{ "exempt", 0, 0, 0, 0, NOW + 1, 0, 0 },
		{ "exempt for good", 0, 0, 0, 0, NEVER_ENDS_NS, 0, 0 },
		{ "a limit of its own", 0, 2, 0, 0, 0, 0, 0 },
		{ "linked", 0, 0, 0, 0, 0, 'L', 0 },
		{ "dialing", 0, 0, 0, 0, 0, 'C', 0 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < ITEMS(rows); i++) {
		struct guard_policy policy = steps_policy();
		struct peer peer = fixture_peer(), before;
		int forgotten;

		if (rows[i].slot == 'L')
			arrange_link(&peer, 1, DIRECTION_INBOUND, 5, NOW);
		if (rows[i].slot == 'C')
			arrange_unsent_claim(&peer, &policy, 1, NOW);
		peer.flags = rows[i].flags;
		peer.limit = rows[i].limit;
		peer.last_active_ns = rows[i].last_active_ns;
		peer.next_attempt_ns = rows[i].next_attempt_ns;
		peer.exempt_until_ns = rows[i].exempt_until_ns;
		before = peer;
		forgotten = peer_forget(&peer, NOW, NOW);
		if (forgotten != rows[i].forgotten)
			fail_msg("%s: forgotten %d", rows[i].name, forgotten);
		if (forgotten)
			before.flags |= PEER_LEAVING;
		assert_memory_equal(&before, &peer, sizeof(peer));
	}
}

static void defaults_are_those_of_the_design(void **state)
{
	struct guard_policy policy = policy_defaults();

	(void)state;
	assert_int_equal(policy.set, 1);
	assert_int_equal(policy.max_links, 1);
	assert_int_equal(policy.refusal_errno, 111);
	assert_int_equal(policy.reject_style, REJECT_RESET);
	assert_int_equal(policy.tie_break, TIE_BREAK_ISN);
	assert_int_equal(policy.dial_policy, DIAL_POLICY_SHARED);
	assert_int_equal(policy.backoff_initial_ns, SECOND / 10);
	assert_int_equal(policy.backoff_max_ns, SECOND / 10);
	assert_int_equal(policy.min_uptime_ns, 10 * SECOND);
	assert_int_equal(policy.stable_after_ns, 300 * SECOND);
	assert_int_equal(policy.hold_max_ns, HOLD);
	assert_int_equal(policy.claim_max_ns, 180 * SECOND);
	assert_int_equal(policy.liveness_ns, 0);
	assert_int_equal(policy.suspect_after_ns, SECOND);
	assert_int_equal(policy.deny_max_ns, DENY);
	assert_int_equal(policy.keep_dials, 1);
}

/* Probes, and time enough for each; never a setting of none, which the kernel refuses. */
static void liveness_bounds_silence(void **state)
{
	__u32 seconds;

	(void)state;
	for (seconds = 1; seconds <= 3600; seconds++) {
		struct liveness_settings settings = liveness_settings(seconds * SECOND);
		__u32 ends = settings.idle_seconds + settings.probes * settings.interval_seconds;

		assert_true(settings.idle_seconds >= 1 && settings.interval_seconds >= 1);
		assert_int_equal(settings.probes, 3);
		/* Below six seconds whole seconds are too coarse for three probes. */
		assert_true(ends <= seconds || seconds < 6);
		assert_true(ends + settings.probes >= seconds);
	}
	assert_int_equal(liveness_settings(60 * SECOND).idle_seconds, 30);
	assert_int_equal(liveness_settings(60 * SECOND).interval_seconds, 10);
}

/* Last in the list: counts what the other tests saw. */
static void every_cause_was_produced(void **state)
{
	enum cause cause;

	(void)state;
	for (cause = 0; cause < CAUSE_COUNT; cause++) {
		/* Given by the hooks, the command program and the daemon, not by a rule. */
		if (cause == CAUSE_dial_recycled || cause == CAUSE_peer_kicked ||
		    cause == CAUSE_peer_due || cause == CAUSE_service_started ||
		    cause == CAUSE_network_back || cause == CAUSE_host_resumed)
			assert_int_equal(seen[cause], 0);
		else if (!seen[cause])
			fail_msg("no test produced %s", cause_name(cause));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arithmetic_answers_like_the_operators),
		cmocka_unit_test(table_is_obeyed_by_the_verdicts),
		cmocka_unit_test(table_is_obeyed_by_the_claim),
		cmocka_unit_test(table_is_obeyed_by_the_knock),
		cmocka_unit_test(claim_may_be_dialed_again_by_its_socket),
		cmocka_unit_test(unsent_claim_is_in_no_other_users_way),
		cmocka_unit_test(new_dial_has_lost_no_tie),
		cmocka_unit_test(claim_becomes_real_when_its_syn_leaves),
		cmocka_unit_test(claims_expire_by_themselves),
		cmocka_unit_test(link_refuses_for_as_long_as_it_shows_life),
		cmocka_unit_test(sign_of_life_ends_the_doubt),
		cmocka_unit_test(segments_with_a_hole_before_them_prove_nothing),
		cmocka_unit_test(doubt_ends_for_each_link_by_its_own_life),
		cmocka_unit_test(newcomer_replaces_a_link_without_proof),
		cmocka_unit_test(dial_beside_a_link_without_proof_can_fail),
		cmocka_unit_test(replaced_link_is_doomed_by_force_only),
		cmocka_unit_test(newcomer_of_the_same_direction_replaces_a_silent_link),
		cmocka_unit_test(announcement_is_used_up_by_a_dial_or_a_link),
		cmocka_unit_test(entry_is_taken_only_for_its_address),
		cmocka_unit_test(room_is_what_links_leave),
		cmocka_unit_test(limit_of_none_counts_as_one),
		cmocka_unit_test(all_slots_taken_lets_pass_untracked),
		cmocka_unit_test(taken_slot_is_empty),
		cmocka_unit_test(both_ends_agree_on_every_pair_of_numbers),
		cmocka_unit_test(losing_knock_is_held_while_our_dial_is_young),
		cmocka_unit_test(answer_is_held_while_a_winner_of_theirs_is_pending),
		cmocka_unit_test(claim_yields_once_and_for_all),
		cmocka_unit_test(dial_past_its_hold_gives_way_for_a_while),
		cmocka_unit_test(answer_that_seems_older_than_its_syn_waits_the_shortest),
		cmocka_unit_test(dial_that_loses_waits_whatever_the_round_trip),
		cmocka_unit_test(giving_way_makes_a_claim_no_younger),
		cmocka_unit_test(dial_that_lost_a_tie_has_lost_it),
		cmocka_unit_test(tie_is_noted_on_the_claim_it_crosses),
		cmocka_unit_test(dial_that_is_given_up_is_no_failure),
		cmocka_unit_test(second_handshake_of_a_peer_is_held),
		cmocka_unit_test(handshake_ends_with_the_service_it_came_to),
		cmocka_unit_test(each_handshake_is_held_once_and_few_at_a_time),
		cmocka_unit_test(nothing_passes_beside_a_handshake_that_is_acknowledged),
		cmocka_unit_test(held_handshakes_are_remembered_across_addresses),
		cmocka_unit_test(alternating_addresses_hold_no_more_than_one),
		cmocka_unit_test(their_handshake_is_known_while_it_is_pending),
		cmocka_unit_test(reset_to_the_listener_frees_the_answer),
		cmocka_unit_test(spoofed_flood_holds_a_real_knock_twice_at_most),
		cmocka_unit_test(dial_becomes_a_link_in_its_own_slot),
		cmocka_unit_test(link_up_twice_changes_nothing),
		cmocka_unit_test(link_too_many_dooms_one),
		cmocka_unit_test(equal_numbers_name_no_loser),
		cmocka_unit_test(smallest_number_of_several_rivals_loses),
		cmocka_unit_test(link_too_many_is_seen_at_the_greatest_limit),
		cmocka_unit_test(link_within_the_limit_dooms_none),
		cmocka_unit_test(link_too_many_is_doomed_in_enforce_mode_only),
		cmocka_unit_test(number_of_the_claim_stays),
		cmocka_unit_test(backoff_doubles_up_to_its_cap),
		cmocka_unit_test(backoff_follows_the_policy),
		cmocka_unit_test(backoff_doubles_without_overflow),
		cmocka_unit_test(jitter_only_shortens),
		cmocka_unit_test(claim_closed_before_its_syn_is_no_failure),
		cmocka_unit_test(end_of_a_link_counts_by_its_life),
		cmocka_unit_test(hanging_up_counts_the_second_time_in_a_row),
		cmocka_unit_test(links_of_theirs_are_no_part_of_the_row),
		cmocka_unit_test(dial_fails_by_refusal_or_silence_only),
		cmocka_unit_test(dial_whose_answer_was_held_was_heard),
		cmocka_unit_test(answer_is_held_for_one_dial_until_a_link_is_up),
		cmocka_unit_test(dial_gives_way_for_as_long_as_its_answer_waits),
		cmocka_unit_test(third_unheard_dial_in_a_row_is_a_failure),
		cmocka_unit_test(dial_of_before_the_deadline_fails_nothing),
		cmocka_unit_test(knock_ends_one_backoff_a_step),
		cmocka_unit_test(knock_that_is_let_in_ends_the_backoff),
		cmocka_unit_test(link_ends_the_backoff_and_not_the_attempts),
		cmocka_unit_test(revival_ends_what_began_before_it),
		cmocka_unit_test(starts_are_counted),
		cmocka_unit_test(kept_dial_leaves_when_the_backoff_is_over),
		cmocka_unit_test(kept_is_only_what_can_be_let_go),
		cmocka_unit_test(kept_dial_holds_its_claim),
		cmocka_unit_test(dial_is_given_up_for_one_knock),
		cmocka_unit_test(dial_that_wins_at_the_other_end_is_not_given_up),
		cmocka_unit_test(dial_beside_a_quiet_link_is_not_given_up),
		cmocka_unit_test(last_ack_waits_for_the_loser_a_moment),
		cmocka_unit_test(last_ack_waits_only_for_the_knock_that_goes_first),
		cmocka_unit_test(knock_goes_first_after_a_link_that_was_hung_up_on),
		cmocka_unit_test(last_ack_ends_a_dial_that_was_not_given_up),
		cmocka_unit_test(last_ack_beside_a_quiet_link_ends_no_dial),
		cmocka_unit_test(pending_handshakes_refuse_our_dials_for_a_while),
		cmocka_unit_test(both_ends_of_one_connection_agree),
		cmocka_unit_test(open_from_both_ends_is_given_up_once),
		cmocka_unit_test(open_from_both_ends_is_held_for_hold_max),
		cmocka_unit_test(kept_dial_does_not_win_what_it_has_not_sent),
		cmocka_unit_test(dial_beside_a_new_link_waits),
		cmocka_unit_test(dial_beside_any_other_link_is_refused_at_once),
		cmocka_unit_test(unanswered_link_lets_a_knock_in_and_stays),
		cmocka_unit_test(stranded_link_lets_everybody_pass_and_stays),
		cmocka_unit_test(knock_waits_for_an_answer_three_seconds_at_most),
		cmocka_unit_test(newcomer_replaces_only_a_link_that_was_asked_in_vain),
		cmocka_unit_test(doubt_about_a_link_that_lives_lets_nobody_in),
		cmocka_unit_test(refused_dial_asks_after_deny_max),
		cmocka_unit_test(services_of_one_address_are_two_peers),
		cmocka_unit_test(end_of_one_of_several_links_is_no_failure),
		cmocka_unit_test(only_the_owner_ends_a_slot),
		cmocka_unit_test(end_twice_changes_nothing),
		cmocka_unit_test(release_is_no_failure),
		cmocka_unit_test(link_too_many_that_is_the_last_may_stay),
		cmocka_unit_test(link_too_many_that_is_older_may_be_trimmed),
		cmocka_unit_test(answer_of_a_dial_without_a_slot_is_held_for_a_link),
		cmocka_unit_test(due_is_idle_and_ours_to_dial),
		cmocka_unit_test(forgotten_is_only_who_nobody_needs),
		cmocka_unit_test(defaults_are_those_of_the_design),
		cmocka_unit_test(liveness_bounds_silence),
		cmocka_unit_test(every_cause_was_produced),
	};

	return cmocka_run_group_tests_name("rules", tests, NULL, NULL);
}
