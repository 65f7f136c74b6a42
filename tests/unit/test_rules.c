/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of the rules: every cell of the table of DESIGN section 3 that rules.h implements, every
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

/* ---- ordinary steps -------------------------------------------------------------------------- */

/* A claim whose SYN left. */
static void arrange_claim(struct peer *peer, const struct guard_policy *policy, __u64 cookie,
			  __u32 isn, __u64 now)
{
	struct dial dial = fixture_dial(cookie, now);

	dial.mode = MODE_OFF; /* leaves no refusal record */
	saw(dial_claim(peer, policy, &dial));
	dial_sent(peer, policy, cookie, isn, 50000, 24000, now);
	assert_non_null(fixture_slot(peer, cookie));
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
	struct guard_policy policy = policy_defaults();
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

/* A dial that fails at once, to put a peer into backoff by the ordinary way. */
static struct decision fail_dial(struct peer *peer, const struct guard_policy *policy,
				 __u64 cookie, __u64 now)
{
	arrange_claim(peer, policy, cookie, OUR_ISN, now);
	return saw(slot_end(peer, policy, cookie, now, NO_JITTER));
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

/* ---- the table of DESIGN section 3 ----------------------------------------------------------- */

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
	 * left, X an expired one. o, i: links that are just silent enough to be suspect.
	 */
	const char *slots;
	__u64 doubted_ns;        /* how long before NOW the doubt began; 0: there is none */
	__u32 max_links; /* 0: 1 */
	__u32 limit;
	enum tie_break tie_break; /* 0: TIE_BREAK_ISN */
	__u64 backoff_ns;         /* left at NOW */
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

#define CLAIM_SENT_LEFT (180 * SECOND)
#define CLAIM_UNSENT_LEFT (2 * SECOND)
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
		.dial = { CAUSE_dial_dialing, CLAIM_SENT_LEFT, 1 },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { CAUSE_knock_tie_lost, HOLD, 1 },
		.greater = { CAUSE_knock_tie_won, 0, 1 },
		.answer = { .cause = CAUSE_none },
		.crossed = { CAUSE_answer_tie_lost, SECOND, 0 },
	},
	{
		.state = "dialing, SYN not sent: nothing to break a tie with",
		.slots = "U",
		.dial = { CAUSE_dial_dialing, CLAIM_UNSENT_LEFT, 1 },
		.lookup = { .cause = CAUSE_knock_idle },
		.smaller = { .cause = CAUSE_knock_idle },
		.greater = { .cause = CAUSE_knock_idle },
		.answer = { .cause = CAUSE_none },
		.crossed = { CAUSE_answer_tie_lost, SECOND, 0 },
	},
	{
		.state = "dialing, beside a claim that has expired",
		.slots = "XC",
		.dial = { CAUSE_dial_dialing, CLAIM_SENT_LEFT, 2 },
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
		.dial = { CAUSE_dial_dialing, CLAIM_SENT_LEFT, 1 },
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
		.dial = { CAUSE_dial_dialing, CLAIM_SENT_LEFT, 1 },
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
		.dial = { CAUSE_dial_dialing, CLAIM_SENT_LEFT, 2 },
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
		.dial = { CAUSE_dial_dialing, CLAIM_SENT_LEFT, 2 },
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
		.dial = { CAUSE_dial_dialing, CLAIM_SENT_LEFT, 7 },
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
		.dial = { CAUSE_dial_suspect, DENY, 1 },
		.lookup = { CAUSE_knock_suspect, DENY, 1 },
		.smaller = { CAUSE_knock_suspect, DENY, 1 },
		.greater = { CAUSE_knock_suspect, DENY, 1 },
	},
	{
		.state = "linked, silent, in doubt for a while, in backoff",
		.slots = "i",
		.doubted_ns = DENY - 1,
		.backoff_ns = 7 * SECOND,
		.dial = { CAUSE_dial_suspect, 1, 1 },
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
		.dial = { CAUSE_dial_suspect, DENY, 1 },
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
		.dial = { CAUSE_dial_dialing, CLAIM_SENT_LEFT, 2 },
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
		.dial = { CAUSE_dial_suspect, DENY, 2 },
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
	struct guard_policy policy = policy_defaults();

	if (cell->max_links)
		policy.max_links = cell->max_links;
	if (cell->tie_break)
		policy.tie_break = cell->tie_break;
	return policy;
}

/* Bring a new peer into the state of the cell. Returns the cookie of its last claim, 0: none. */
static __u64 cell_peer(const struct cell *cell, struct peer *ret_peer)
{
	struct guard_policy policy = policy_defaults();
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
			arrange_link(&peer, cookie,
				     cell->slots[cookie - 1] == 'o' ? DIRECTION_OUTBOUND :
								       DIRECTION_INBOUND,
				     500, NOW);
			slot_of(&peer, cookie)->heard_ns = NOW - policy.suspect_after_ns;
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
			saw(slot_end(&peer, &policy, 99, NOW, NO_JITTER));
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
		struct peer peer, before;
		struct decision dial;
		__u64 claim;

		claim = cell_peer(cell, &peer);
		before = peer;
		dial = dial_verdict(&peer, &policy, 77, NOW, cell->announced_only);
		check_answer(cell, "dial", dial, &cell->dial);
		assert_int_equal(dial.attempts, peer.attempts);
		/* explain asks for a socket yet to be made: the same answer. */
		check_answer(cell, "dial of no socket",
			     dial_verdict(&peer, &policy, 0, NOW, cell->announced_only),
			     &cell->dial);
		check_answer(cell, "lookup", knock_verdict(&peer, &policy, &lookup), &cell->lookup);
		check_answer(cell, "smaller", knock_verdict(&peer, &policy, &smaller),
			     &cell->smaller);
		check_answer(cell, "greater", knock_verdict(&peer, &policy, &greater),
			     &cell->greater);
		check_answer(cell, "equal", knock_verdict(&peer, &policy, &equal), &cell->greater);
		if (claim) {
			check_answer(cell, "answer",
				     answer_verdict(&peer, &policy, &none, claim, NOW),
				     &cell->answer);
			check_answer(cell, "crossed answer",
				     answer_verdict(&peer, &policy, &winner, claim, NOW),
				     &cell->crossed);
			check_answer(cell, "answer, theirs given up",
				     answer_verdict(&peer, &policy, &past, claim, NOW),
				     &cell->answer);
			/* A claim whose SYN has not left has no number yet, and no answer. */
			if (fixture_slot(&peer, claim)->flags & SLOT_SENT)
				check_answer(cell, "crossed answer, theirs smaller",
					     answer_verdict(&peer, &policy, &loser, claim, NOW),
					     &cell->crossed);
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
		int silent = cell->slots[i] == 'o' || cell->slots[i] == 'i';

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
		int refused, room;

		mode = i % ITEMS(modes);
		cell_peer(cell, &peer);
		before = peer;
		dial.mode = modes[mode];
		dial.announced_only = cell->announced_only;
		refused = cause_verdict(expected.cause) == VERDICT_REFUSE;
		room = strlen(cell->slots) < PEER_SLOTS;
		if (!refused && !room)
			expected.cause = CAUSE_dial_unheld;
		check_answer(cell, "claim", dial_claim(&peer, &policy, &dial), &expected);

		if (expected.cause == CAUSE_dial_suspect && dial.mode != MODE_OFF)
			take_doubt_back(cell, &peer);
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
		 * A refused dial changes nothing else (edge case 18), but that under the central
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
			assert_int_equal(slot->flags, 0);
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

/* A SYN in every cell: only the refusal record and the notes on the claim may change. */
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
		for (slot = 0; slot < PEER_SLOTS; slot++) {
			struct slot *wanted = &before.slots[slot];

			if (wanted->kind != SLOT_CLAIM || wanted->cookie != expected->other_cookie)
				continue;
			if (expected->cause == CAUSE_knock_tie_won)
				wanted->yields_until_ns = NOW + 2 * HOLD;
			if (expected->cause == CAUSE_knock_hold_spent)
				wanted->yields_until_ns = NOW + HOLD / 2;
		}
		assert_unchanged_but_refusal(&before, &peer);
	}
}

/* ---- proof of life --------------------------------------------------------------------------- */

/* Refused while it shows life, in doubt when it is silent, without force when it stays so. */
static void link_refuses_for_as_long_as_it_shows_life(void **state)
{
	struct guard_policy policy = policy_defaults();
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
	assert_cause(dial_verdict(&peer, &policy, 9, now + policy.deny_max_ns - 1, 0),
		     CAUSE_dial_suspect);
	assert_cause(knocks(&peer, &policy, 6, now + policy.deny_max_ns), CAUSE_knock_unproven);
	assert_cause(dial_verdict(&peer, &policy, 9, now + policy.deny_max_ns, 0),
		     CAUSE_dial_unproven);
	assert_int_equal(peer_room(&peer, &policy, now + policy.deny_max_ns - 1), 0);
	assert_int_equal(peer_room(&peer, &policy, now + policy.deny_max_ns), 1);
	/* It is a link for all that: nobody is to be told to dial. */
	assert_false(peer_idle(&peer, now + policy.deny_max_ns));
}

/* A sign of life ends the doubt; the next one begins anew. */
static void sign_of_life_ends_the_doubt(void **state)
{
	struct guard_policy policy = policy_defaults();
	struct peer peer = fixture_peer(), before;
	__u64 doubted = NOW + 100 * SECOND, heard = doubted + 59 * SECOND;

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
	struct guard_policy policy = policy_defaults();
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
	struct guard_policy policy = policy_defaults();
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
	assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_DOOMED);
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
	struct guard_policy policy = policy_defaults();
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
		assert_cause(slot_end(&peer, &policy, 1, now, NO_JITTER), CAUSE_link_destroyed);
		assert_int_equal(peer.attempts, 0);
	}
}

/* A dial that passes because the link counts no longer fails like any other. */
static void dial_beside_a_link_without_proof_can_fail(void **state)
{
	__u64 doubted = NOW + 10 * SECOND, now = doubted + 60 * SECOND;
	struct guard_policy policy = policy_defaults();
	struct dial dial = fixture_dial(2, now);
	struct peer peer = fixture_peer();

	(void)state;
	arrange_link(&peer, 1, DIRECTION_INBOUND, 5, NOW);
	assert_cause(knocks(&peer, &policy, 4, doubted), CAUSE_knock_suspect);
	assert_cause(dial_claim(&peer, &policy, &dial), CAUSE_dial_unproven);
	dial_sent(&peer, &policy, 2, OUR_ISN, 50000, 24000, now);
	assert_cause(slot_end(&peer, &policy, 2, now, NO_JITTER), CAUSE_dial_failed);
	dial.cookie = 3;
	assert_cause(dial_claim(&peer, &policy, &dial), CAUSE_dial_backoff);
}

/* Without enforcing, the silent one is named and left. */
static void replaced_link_is_doomed_by_force_only(void **state)
{
	struct guard_policy policy = policy_defaults();
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
	struct guard_policy policy = policy_defaults();
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
	struct guard_policy policy = policy_defaults();
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

/* What the socket's last dial lost, its next one has not: it holds their knock again. */
static void new_dial_has_lost_no_tie(void **state)
{
	struct guard_policy policy = policy_defaults();
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
	dial_sent(&peer, &policy, 1, OUR_ISN, 50001, 24000, dial.now);
	assert_int_equal(fixture_slot(&peer, 1)->flags, SLOT_SENT);
	assert_cause(answer_verdict(&peer, &policy, &loser, 1, dial.now + HOLD / 2), CAUSE_none);
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
	struct guard_policy policy = policy_defaults();
	struct peer peer = fixture_peer(), before;
	const struct slot *slot;

	(void)state;
	arrange_unsent_claim(&peer, &policy, 1, NOW);
	before = peer;
	dial_sent(&peer, &policy, 2, 5, 6, 7, NOW); /* another socket's */
	assert_memory_equal(&before, &peer, sizeof(peer));
	dial_sent(&peer, &policy, 1, 0xdeadbeef, 50001, 24000, NOW + SECOND);
	slot = fixture_slot(&peer, 1);
	assert_int_equal(slot->flags, SLOT_SENT);
	assert_int_equal(slot->client_isn, 0xdeadbeef);
	assert_int_equal(slot->local_port, 50001);
	assert_int_equal(slot->remote_port, 24000);
	assert_int_equal(slot->since_ns, NOW);
	assert_int_equal(slot->expires_ns, NOW + SECOND + policy.claim_max_ns);

	/* Its retransmissions make it no younger, nor forget that it lost a tie. */
	assert_cause(knocks(&peer, &policy, 0xdeadbef0, NOW + SECOND), CAUSE_knock_tie_won);
	before = peer;
	dial_sent(&peer, &policy, 1, 5, 6, 7, NOW + 2 * SECOND);
	assert_memory_equal(&before, &peer, sizeof(peer));

	/* A link has no SYN to send. */
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, 0xdeadbeef, NOW + SECOND);
	before = peer;
	dial_sent(&peer, &policy, 1, 5, 6, 7, NOW + SECOND);
	assert_memory_equal(&before, &peer, sizeof(peer));
}

static void claims_expire_by_themselves(void **state)
{
	struct guard_policy policy = policy_defaults();
	struct peer peer = fixture_peer();
	struct decision decision;
	__u64 end;

	(void)state;
	policy.max_links = 2;
	/* The claim that never became a SYN (edge case 12). */
	arrange_unsent_claim(&peer, &policy, 1, NOW);
	arrange_unsent_claim(&peer, &policy, 2, NOW);
	end = NOW + CLAIM_UNSENT_MAX_NS;
	assert_cause(dial_verdict(&peer, &policy, 3, end - 1, 0), CAUSE_dial_dialing);
	assert_cause(dial_verdict(&peer, &policy, 3, end, 0), CAUSE_dial_idle);
	/* The claim whose socket was forgotten. */
	dial_sent(&peer, &policy, 2, OUR_ISN, 50000, 24000, NOW);
	end = NOW + policy.claim_max_ns;
	policy.max_links = 1;
	assert_cause(dial_verdict(&peer, &policy, 3, end - 1, 0), CAUSE_dial_dialing);
	assert_cause(knocks(&peer, &policy, OUR_ISN - 1, end - 1), CAUSE_knock_hold_spent);
	assert_cause(dial_verdict(&peer, &policy, 3, end, 0), CAUSE_dial_idle);
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
	assert_cause(dial_verdict(&peer, &policy, 3, ~0ULL >> 1, 0), CAUSE_dial_suspect);
}

static void announcement_is_used_up_by_a_dial_or_a_link(void **state)
{
	struct guard_policy policy = policy_defaults();
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
	assert_cause(slot_end(&peer, &policy, 1, NOW, NO_JITTER), CAUSE_claim_closed);
	assert_cause(dial_claim(&peer, &policy, &dial), CAUSE_dial_not_due);
	peer.due_ns = NOW;
	up(&peer, &policy, 2, DIRECTION_INBOUND, 1, NOW);
	assert_int_equal(peer.due_ns, 0);
	saw(slot_end(&peer, &policy, 2, NOW, NO_JITTER));
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
	struct guard_policy policy = policy_defaults();
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
	struct guard_policy policy = policy_defaults();
	struct peer peer = fixture_peer();
	const struct their_handshake none = {};

	(void)state;
	policy.max_links = 0;
	assert_int_equal(peer_limit(&peer, &policy), 1);
	assert_int_equal(peer_room(&peer, &policy, NOW), 1);
	assert_cause(dial_verdict(&peer, &policy, 1, NOW, 0), CAUSE_dial_idle);
	assert_cause(knocks(&peer, &policy, 5, NOW), CAUSE_knock_idle);
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	assert_cause(dial_verdict(&peer, &policy, 2, NOW, 0), CAUSE_dial_dialing);
	assert_cause(knocks(&peer, &policy, OUR_ISN - 1, NOW), CAUSE_knock_tie_lost);
	assert_cause(answer_verdict(&peer, &policy, &none, 1, NOW), CAUSE_none);
	assert_cause(up(&peer, &policy, 1, DIRECTION_OUTBOUND, OUR_ISN, NOW), CAUSE_link_outbound);
	assert_int_equal(peer_room(&peer, &policy, NOW), 0);
	assert_cause(dial_verdict(&peer, &policy, 2, NOW, 0), CAUSE_dial_linked);
	assert_cause(knocks(&peer, &policy, OUR_ISN + 1, NOW), CAUSE_knock_linked);
	assert_cause(up(&peer, &policy, 2, DIRECTION_INBOUND, 5, NOW), CAUSE_link_duplicate);
	/* The peer's own limit is asked first. */
	peer.limit = 2;
	assert_int_equal(peer_limit(&peer, &policy), 2);
	assert_int_equal(peer_room(&peer, &policy, NOW), 1);
}

static void all_slots_taken_lets_pass_untracked(void **state)
{
	struct guard_policy policy = policy_defaults();
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
	assert_cause(slot_end(&peer, &policy, 99, NOW, NO_JITTER), CAUSE_none);
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
	assert_cause(slot_end(&peer, &policy, 4, NOW, NO_JITTER), CAUSE_none);
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
	empty.reserved = slot->reserved;
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
	struct guard_policy policy = policy_defaults();
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
			      answer_verdict(&at_a, &policy, &pending_at_a, 1, NOW).verdict ==
				      VERDICT_ALLOW;
		b_completes = b_at_a.verdict == VERDICT_ALLOW &&
			      answer_verdict(&at_b, &policy, &pending_at_b, 2, NOW).verdict ==
				      VERDICT_ALLOW;
		if (a == b) {
			/*
			 * One pair in 2^32: both are let in, both answers wait; never both refused
			 * for good.
			 */
			assert_cause(b_at_a, CAUSE_knock_tie_won);
			assert_cause(a_at_b, CAUSE_knock_tie_won);
			assert_cause(answer_verdict(&at_a, &policy, &pending_at_a, 1, NOW),
				     CAUSE_answer_tie_lost);
			assert_cause(answer_verdict(&at_b, &policy, &pending_at_b, 2, NOW),
				     CAUSE_answer_tie_lost);
			assert_cause(answer_verdict(&at_a, &policy, &pending_at_a, 1, NOW + HOLD),
				     CAUSE_none);
			assert_cause(answer_verdict(&at_b, &policy, &none, 2, NOW), CAUSE_none);
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
	struct guard_policy policy = policy_defaults();
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
	struct guard_policy policy = policy_defaults();
	struct peer peer = fixture_peer(), before;
	const __u64 latest = NOW + 2 * HOLD;
	struct their_handshake theirs = {};
	struct decision decision;
	__u64 now;

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW), CAUSE_none);
	/* Smaller: it lost the tie, and yet it may come up. Equal or greater: it won. */
	theirs = fixture_theirs(OUR_ISN - 1, NOW + HOLD);
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW), CAUSE_answer_tie_lost);
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW + HOLD / 2 - 1),
		     CAUSE_answer_tie_lost);
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW + HOLD / 2), CAUSE_none);
	theirs.client_isn = OUR_ISN;
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW), CAUSE_answer_tie_lost);
	theirs.client_isn = OUR_ISN + 1;
	decision = answer_verdict(&peer, &policy, &theirs, 1, NOW + HOLD - 1);
	assert_cause(decision, CAUSE_answer_tie_lost);
	assert_int_equal(decision.until_ns, NOW + HOLD);
	assert_int_equal(decision.other_cookie, 0);
	/* Given up, or RST: our dial completes at once. */
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW + HOLD), CAUSE_none);
	theirs.until_ns = 0;
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW), CAUSE_none);
	/* Ever new ones, spoofed: the dial waits no longer for them. */
	before = peer;
	for (now = NOW; now < latest + SECOND; now += 100 * MILLISECOND) {
		theirs = fixture_theirs(~0U, now + HOLD);
		assert_cause(answer_verdict(&peer, &policy, &theirs, 1, now),
			     now < latest ? CAUSE_answer_tie_lost : CAUSE_none);
	}
	theirs = fixture_theirs(~0U, latest + SECOND);
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, latest - 1), CAUSE_answer_tie_lost);
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, latest), CAUSE_none);
	assert_memory_equal(&before, &peer, sizeof(peer));
	/* From connect() on, not from the SYN. */
	peer = fixture_peer();
	arrange_unsent_claim(&peer, &policy, 1, NOW);
	dial_sent(&peer, &policy, 1, OUR_ISN, 50000, 24000, NOW + SECOND);
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, latest - 1), CAUSE_answer_tie_lost);
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, latest), CAUSE_none);
	/* The hold is the policy's. */
	policy.hold_max_ns = 300 * MILLISECOND;
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW + 600 * MILLISECOND - 1),
		     CAUSE_answer_tie_lost);
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW + 600 * MILLISECOND),
		     CAUSE_none);
	/* Another socket's answer, and a link's own packets, are nobody's business. */
	assert_cause(answer_verdict(&peer, &policy, &theirs, 2, NOW), CAUSE_none);
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, OUR_ISN, NOW);
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW), CAUSE_none);
}

/* However many SYNs win it: the claim gives up once, and that alone holds no answer. */
static void claim_yields_once_and_for_all(void **state)
{
	struct guard_policy policy = policy_defaults();
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
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW), CAUSE_none);
	/* A smaller one is, let in because the claim had given up: it has won too. */
	theirs = fixture_theirs(0, NOW + HOLD);
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW), CAUSE_answer_tie_lost);
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW + HOLD), CAUSE_none);
	theirs.until_ns = NOW + 3 * HOLD;
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW + 2 * HOLD - 1),
		     CAUSE_answer_tie_lost);
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW + 2 * HOLD), CAUSE_none);
	/* As a link it has nothing to give up. */
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, OUR_ISN, NOW);
	assert_int_equal(fixture_slot(&peer, 1)->yields_until_ns, 0);
}

/*
 * A dial that has had its time gives way to a smaller number too, but for half a hold only: the other
 * end, for which the knock's dial lost the tie, waits longer, so that one of both comes through.
 */
static void dial_past_its_hold_gives_way_for_a_while(void **state)
{
	const struct their_handshake theirs = fixture_theirs(OUR_ISN - 1, NOW + 2 * HOLD);
	struct guard_policy policy = policy_defaults();
	struct peer peer = fixture_peer(), yielded;

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW - HOLD);
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW), CAUSE_none);
	assert_cause(knocks(&peer, &policy, OUR_ISN - 1, NOW), CAUSE_knock_hold_spent);
	assert_int_equal(fixture_slot(&peer, 1)->yields_until_ns, NOW + HOLD / 2);
	yielded = peer;
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW + HOLD / 2 - 1),
		     CAUSE_answer_tie_lost);
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW + HOLD / 2), CAUSE_none);
	/* Once: neither their retransmission nor a greater number makes it wait longer. */
	assert_cause(knocks(&peer, &policy, OUR_ISN - 1, NOW + HOLD / 2), CAUSE_knock_tie_won);
	assert_cause(knocks(&peer, &policy, OUR_ISN + 1, NOW + HOLD / 2), CAUSE_knock_tie_won);
	assert_memory_equal(&yielded, &peer, sizeof(peer));
}

/* When the dial fails the backoff counts from connect(), whatever it met since. */
static void giving_way_makes_a_claim_no_younger(void **state)
{
	struct guard_policy policy = policy_defaults();
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
	struct guard_policy policy = policy_defaults();
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
	assert_cause(answer_verdict(&peer, &policy, &none, 1, NOW + SECOND), CAUSE_answer_linked);
	assert_cause(slot_end(&peer, &policy, 2, NOW + SECOND, NO_JITTER), CAUSE_link_ended);
	assert_cause(answer_verdict(&peer, &policy, &none, 1, NOW + SECOND), CAUSE_none);
	assert_cause(knocks(&peer, &policy, OUR_ISN - 1, NOW + SECOND), CAUSE_knock_tie_won);
}

/* Only the claim that the knock crosses is noted upon. */
static void tie_is_noted_on_the_claim_it_crosses(void **state)
{
	struct guard_policy policy = policy_defaults();
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
	struct guard_policy policy = policy_defaults();
	struct peer peer = fixture_peer();
	const struct their_handshake none = {};
	struct decision decision;

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	assert_cause(knocks(&peer, &policy, OUR_ISN + 1, NOW), CAUSE_knock_tie_won);
	assert_cause(up(&peer, &policy, 2, DIRECTION_INBOUND, OUR_ISN + 1, NOW),
		     CAUSE_link_inbound);
	assert_cause(answer_verdict(&peer, &policy, &none, 1, NOW + HOLD), CAUSE_answer_linked);
	decision = slot_end(&peer, &policy, 1, NOW + SECOND, NO_JITTER);
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
	struct guard_policy policy = policy_defaults();

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
	struct guard_policy policy = policy_defaults();
	struct peer peer = fixture_peer();
	struct pending_handshake pending = {};
	struct their_handshake theirs;

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	assert_cause(knocks(&peer, &policy, number_of(1001), NOW), CAUSE_knock_tie_won);
	assert_cause(handshake(&pending, &peer.address, 1001, 1, NOW), CAUSE_knock_idle);
	theirs = handshake_pending(&pending, &peer.address, NOW);
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW), CAUSE_answer_tie_lost);
	/* One of another port, or in another's name, frees nothing. */
	handshake_done(&pending, &peer.address, 1002);
	handshake_done(&pending, &(struct peer_address){}, 1001);
	theirs = handshake_pending(&pending, &peer.address, NOW);
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW), CAUSE_answer_tie_lost);
	handshake_done(&pending, &peer.address, 1001);
	theirs = handshake_pending(&pending, &peer.address, NOW);
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW), CAUSE_none);
	/* The claim has given up all the same: a later one of theirs holds the answer again. */
	assert_cause(knocks(&peer, &policy, 0, NOW), CAUSE_knock_tie_won);
	assert_cause(handshake(&pending, &peer.address, 1003, 1, NOW), CAUSE_knock_idle);
	theirs = handshake_pending(&pending, &peer.address, NOW);
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW), CAUSE_answer_tie_lost);
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
	struct guard_policy policy = policy_defaults();
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
	struct guard_policy policy = policy_defaults();
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
		struct guard_policy policy = policy_defaults();
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
	struct guard_policy policy = policy_defaults();
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
	assert_cause(dial_verdict(&peer, &policy, 3, NOW, 0), CAUSE_dial_linked);
	assert_cause(knocks(&peer, &policy, ~0U, NOW), CAUSE_knock_linked);
	/* The service gives one up: no failure, and the other one is the peer's link. */
	assert_cause(slot_end(&peer, &policy, 1, NOW, NO_JITTER), CAUSE_link_ended);
	assert_int_equal(peer.attempts, 0);
	assert_int_equal(peer.next_attempt_ns, 0);
	assert_cause(dial_verdict(&peer, &policy, 3, NOW, 0), CAUSE_dial_linked);

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
		struct guard_policy policy = policy_defaults();
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
	struct guard_policy policy = policy_defaults();
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
	assert_cause(slot_end(&peer, &policy, cookie, NOW, NO_JITTER), CAUSE_link_destroyed);
	decision = up(&peer, &policy, 99, DIRECTION_INBOUND, 200, NOW);
	assert_cause(decision, CAUSE_link_duplicate);
	assert_int_equal(decision.other_cookie, 1);
	assert_int_equal(peer_census(&peer, &policy, 0, NOW).links, PEER_LINKS_MAX);
}

static void link_within_the_limit_dooms_none(void **state)
{
	struct guard_policy policy = policy_defaults();
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
	/* One older than the guard is left alone, as newcomer and as the one that was there. */
	peer.exempt_until_ns = 0;
	adopted.adopted = 1;
	assert_cause(link_up(&peer, &policy, &adopted), CAUSE_link_adopted);
	assert_int_equal(fixture_slot(&peer, 5)->flags, SLOT_ADOPTED);
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
	assert_cause(slot_end(&peer, &policy, 2, NOW, NO_JITTER), CAUSE_link_ended);
	assert_cause(up(&peer, &policy, 3, DIRECTION_INBOUND, 1, NOW), CAUSE_link_inbound);
	assert_cause(slot_end(&peer, &policy, 1, NOW, NO_JITTER), CAUSE_link_destroyed);
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
		struct guard_policy policy = policy_defaults();
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
	struct guard_policy policy = policy_defaults();
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
	static const __u64 steps[] = { 10, 20, 40, 80, 160, 300, 300, 300 };
	struct guard_policy policy = policy_defaults();
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
		/* Never idle between the failure and the backoff: edge case 9. */
		assert_false(peer_idle(&peer, now));
		assert_cause(dial_verdict(&peer, &policy, 99, decision.until_ns - 1, 0),
			     CAUSE_dial_backoff);
		now = decision.until_ns;
		assert_cause(dial_verdict(&peer, &policy, 99, now, 0), CAUSE_dial_idle);
		assert_true(peer_idle(&peer, now));
	}
	/* The count has an end, the step with it. */
	peer.attempts = ~0U - 1;
	assert_int_equal(fail_dial(&peer, &policy, 1, now).attempts, ~0U);
	now = peer.next_attempt_ns;
	assert_int_equal(fail_dial(&peer, &policy, 1, now).attempts, ~0U);
	assert_int_equal(peer.next_attempt_ns, now + 300 * SECOND);
}

static void backoff_follows_the_policy(void **state)
{
	struct guard_policy policy = policy_defaults();

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
	struct guard_policy policy = policy_defaults();
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
 * Only downwards, 0.8 to 1.0 of the step, and both ends of that are reached: edge cases 19 and 22.
 */
static void jitter_only_shortens(void **state)
{
	struct guard_policy policy = policy_defaults();
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
	struct guard_policy policy = policy_defaults();
	struct peer peer = fixture_peer();
	struct decision decision;

	(void)state;
	peer.attempts = 2;
	arrange_unsent_claim(&peer, &policy, 1, NOW);
	decision = slot_end(&peer, &policy, 1, NOW, NO_JITTER);
	assert_cause(decision, CAUSE_claim_closed);
	assert_int_equal(decision.direction, DIRECTION_OUTBOUND);
	assert_int_equal(decision.attempts, 2);
	assert_int_equal(decision.until_ns, 0);
	assert_int_equal(peer.attempts, 2);
	assert_int_equal(peer.next_attempt_ns, 0);
	assert_true(peer_idle(&peer, NOW));
}

/* How a link's life counts, by direction, age and company. */
static void end_of_a_link_counts_by_its_life(void **state)
{
	static const struct {
		const char *name;
		enum link_direction direction;
		__u32 adopted;
		__u64 lifetime_ns;
		enum cause cause;
		__u32 attempts; /* afterwards; 2 before */
		int backoff;    /* 0 none left, 1 as before, 2 a new one */
	} rows[] = {
		{ "our dial's, at once", DIRECTION_OUTBOUND, 0, 0, CAUSE_link_short, 2, 1 },
		{ "our dial's, just short", DIRECTION_OUTBOUND, 0, 10 * SECOND - 1,
		  CAUSE_link_short, 2, 1 },
		{ "our dial's, min_uptime", DIRECTION_OUTBOUND, 0, 10 * SECOND, CAUSE_link_ended,
		  2, 0 },
		{ "our dial's, not stable", DIRECTION_OUTBOUND, 0, 300 * SECOND - 1,
		  CAUSE_link_ended, 2, 0 },
		{ "our dial's, stable", DIRECTION_OUTBOUND, 0, 300 * SECOND, CAUSE_link_ended, 0,
		  0 },
		/*
		 * A peer that knocks and hangs up must not keep us from dialing, nor reset a thing.
		 */
		{ "their knock's, at once", DIRECTION_INBOUND, 0, 0, CAUSE_link_ended, 2, 1 },
		{ "their knock's, just short", DIRECTION_INBOUND, 0, 10 * SECOND - 1,
		  CAUSE_link_ended, 2, 1 },
		{ "their knock's, min_uptime", DIRECTION_INBOUND, 0, 10 * SECOND,
		  CAUSE_link_ended, 2, 0 },
		{ "their knock's, stable", DIRECTION_INBOUND, 0, 300 * SECOND, CAUSE_link_ended,
		  0, 0 },
		/* How long an adopted link has lived is not known: never short. */
		{ "adopted, at once", DIRECTION_OUTBOUND, 1, 0, CAUSE_link_ended, 2, 1 },
		{ "adopted, stable", DIRECTION_OUTBOUND, 1, 300 * SECOND, CAUSE_link_ended, 0, 0 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < ITEMS(rows); i++) {
		struct guard_policy policy = policy_defaults();
		struct peer peer = fixture_peer();
		struct link link = fixture_link(1, rows[i].direction, 7, NOW);
		__u64 now = NOW + rows[i].lifetime_ns, next;
		struct decision decision;

		link.adopted = rows[i].adopted;
		peer.attempts = 2;
		peer.next_attempt_ns = NOW + 1000 * SECOND;
		saw(link_up(&peer, &policy, &link));
		/* Nothing is reset on connect. */
		assert_int_equal(peer.attempts, 2);
		assert_int_equal(peer.next_attempt_ns, NOW + 1000 * SECOND);
		decision = saw(slot_end(&peer, &policy, 1, now, NO_JITTER));
		next = rows[i].backoff == 0 ? 0 :
		       rows[i].backoff == 1 ? NOW + 1000 * SECOND :
					      now + 40 * SECOND;
		if (decision.cause != rows[i].cause || decision.attempts != rows[i].attempts ||
		    peer.attempts != rows[i].attempts || peer.next_attempt_ns != next ||
		    decision.until_ns != next || decision.direction != rows[i].direction)
			fail_msg("%s: %s, %u attempts, next in %lld s", rows[i].name,
				 cause_name(decision.cause), peer.attempts,
				 (long long)(peer.next_attempt_ns - now) / (long long)SECOND);
		assert_int_equal(fixture_count(&peer, SLOT_FREE), PEER_SLOTS);
		assert_int_equal(peer.last_active_ns, now);
		assert_cause(dial_verdict(&peer, &policy, 9, now, 0),
			     next > now ? CAUSE_dial_backoff : CAUSE_dial_idle);
	}
}

static void end_of_one_of_several_links_is_no_failure(void **state)
{
	struct guard_policy policy = policy_defaults();
	struct peer peer = fixture_peer();

	(void)state;
	policy.max_links = 3;
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, 5, NOW);
	up(&peer, &policy, 2, DIRECTION_OUTBOUND, 6, NOW);
	assert_cause(slot_end(&peer, &policy, 1, NOW, NO_JITTER), CAUSE_link_ended);
	assert_int_equal(peer.attempts, 0);
	/* Nor is a dial that fails beside a link. */
	arrange_claim(&peer, &policy, 3, OUR_ISN, NOW);
	assert_cause(slot_end(&peer, &policy, 3, NOW, NO_JITTER), CAUSE_dial_superseded);
	/* The last one's is. */
	assert_cause(slot_end(&peer, &policy, 2, NOW, NO_JITTER), CAUSE_link_short);
	assert_int_equal(peer.attempts, 1);
	/* A doomed link is no company. */
	peer = fixture_peer();
	policy.max_links = 1;
	up(&peer, &policy, 1, DIRECTION_OUTBOUND, 9, NOW);
	up(&peer, &policy, 2, DIRECTION_INBOUND, 5, NOW);
	assert_cause(slot_end(&peer, &policy, 1, NOW, NO_JITTER), CAUSE_link_short);
	assert_cause(slot_end(&peer, &policy, 2, NOW, NO_JITTER), CAUSE_link_destroyed);
	assert_int_equal(peer.attempts, 1);
}

static void only_the_owner_ends_a_slot(void **state)
{
	static const __u64 strangers[] = { 0, 2, 11, ~0ULL };
	struct guard_policy policy = policy_defaults();
	struct peer peer = fixture_peer(), before;
	size_t i;
	int linked;

	(void)state;
	arrange_claim(&peer, &policy, 1, OUR_ISN, NOW);
	for (linked = 0; linked < 2; linked++) {
		before = peer;
		for (i = 0; i < ITEMS(strangers); i++) {
			assert_cause(slot_end(&peer, &policy, strangers[i], NOW, NO_JITTER),
				     CAUSE_none);
			assert_cause(slot_release(&peer, strangers[i], CAUSE_link_released, NOW),
				     CAUSE_none);
			assert_cause(slot_release(&peer, strangers[i], CAUSE_link_cut, NOW),
				     CAUSE_none);
			dial_sent(&peer, &policy, strangers[i], 1, 2, 3, NOW);
		}
		assert_memory_equal(&before, &peer, sizeof(peer));
		up(&peer, &policy, 1, DIRECTION_OUTBOUND, OUR_ISN, NOW);
	}
	/* The loser of edge case 7: refused while the winner is linked, then closed. */
	assert_cause(dial_verdict(&peer, &policy, 2, NOW, 0), CAUSE_dial_linked);
	assert_cause(slot_end(&peer, &policy, 2, NOW, NO_JITTER), CAUSE_none);
	assert_cause(dial_verdict(&peer, &policy, 3, NOW, 0), CAUSE_dial_linked);
}

static void end_twice_changes_nothing(void **state)
{
	struct guard_policy policy = policy_defaults();
	struct peer peer = fixture_peer(), before;
	struct decision decision;

	(void)state;
	assert_cause(fail_dial(&peer, &policy, 1, NOW), CAUSE_dial_failed);
	before = peer;
	decision = slot_end(&peer, &policy, 1, NOW + SECOND, 77);
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
	struct guard_policy policy = policy_defaults();
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
	/* Found dead: our own link, and young; that is no failure of a dial. */
	arrange_link(&peer, 3, DIRECTION_OUTBOUND, OUR_ISN, NOW + 3);
	assert_cause(slot_release(&peer, 3, CAUSE_link_dead, NOW + 4), CAUSE_link_dead);
	assert_int_equal(peer.attempts, 2);
	assert_int_equal(peer.next_attempt_ns, 0);
	arrange_link(&peer, 3, DIRECTION_OUTBOUND, OUR_ISN, NOW + 3);
	assert_cause(slot_release(&peer, 3, CAUSE_link_stalled, NOW + 4), CAUSE_link_stalled);
	assert_int_equal(peer.attempts, 2);
	arrange_link(&peer, 3, DIRECTION_INBOUND, 5, NOW + 3);
	assert_cause(slot_release(&peer, 3, CAUSE_link_unguarded, NOW + 4), CAUSE_link_unguarded);
	assert_int_equal(fixture_count(&peer, SLOT_FREE), PEER_SLOTS);
}

/* The winner of a duplicate has ended, and the loser not been destroyed yet. */
static void link_too_many_that_is_the_last_may_stay(void **state)
{
	struct guard_policy policy = policy_defaults();
	struct peer peer = fixture_peer();
	struct decision decision;

	(void)state;
	arrange_link(&peer, 1, DIRECTION_INBOUND, 5, NOW);
	assert_cause(link_spare(&peer, &policy, 1, NOW), CAUSE_none);
	assert_cause(up(&peer, &policy, 2, DIRECTION_INBOUND, 6, NOW), CAUSE_link_duplicate);
	/* The winner is there; nobody's cookie; no cookie. */
	assert_cause(link_spare(&peer, &policy, 2, NOW), CAUSE_none);
	assert_cause(slot_end(&peer, &policy, 1, NOW, NO_JITTER), CAUSE_link_ended);
	assert_cause(link_spare(&peer, &policy, 1, NOW), CAUSE_none);
	assert_cause(link_spare(&peer, &policy, 0, NOW), CAUSE_none);
	assert_int_equal(fixture_slot(&peer, 2)->flags, SLOT_DOOMED);
	/* A claim is no link. */
	arrange_claim(&peer, &policy, 3, OUR_ISN, NOW);
	assert_cause(link_spare(&peer, &policy, 3, NOW), CAUSE_none);
	decision = link_spare(&peer, &policy, 2, NOW + SECOND);
	assert_cause(decision, CAUSE_link_spared);
	assert_int_equal(decision.direction, DIRECTION_INBOUND);
	assert_int_equal(fixture_slot(&peer, 2)->flags, 0);
	assert_int_equal(fixture_slot(&peer, 2)->since_ns, NOW);
	assert_int_equal(peer.last_active_ns, NOW + SECOND);
	assert_cause(knocks(&peer, &policy, 7, NOW + SECOND), CAUSE_knock_linked);
	assert_cause(link_spare(&peer, &policy, 2, NOW + SECOND), CAUSE_none);
}

/* Its claim was void before its SYN left, and another dial has its slot. */
static void answer_of_a_dial_without_a_slot_is_held_for_a_link(void **state)
{
	struct guard_policy policy = policy_defaults();
	struct their_handshake theirs = fixture_theirs(OUR_ISN + 1, NOW + HOLD);
	struct peer peer = fixture_peer();
	struct decision decision;

	(void)state;
	/* With nothing to compare by there is no tie. */
	assert_cause(answer_verdict(&peer, &policy, &theirs, 1, NOW), CAUSE_none);
	arrange_link(&peer, 2, DIRECTION_OUTBOUND, 5, NOW);
	decision = answer_verdict(&peer, &policy, &theirs, 1, NOW);
	assert_cause(decision, CAUSE_answer_linked);
	assert_int_equal(decision.verdict, VERDICT_HOLD);
	assert_int_equal(decision.other_cookie, 2);
	/* A link's own is none of this. */
	assert_cause(answer_verdict(&peer, &policy, &theirs, 2, NOW), CAUSE_none);
}

/* ---- commands -------------------------------------------------------------------------------- */

static void due_is_idle_and_ours_to_dial(void **state)
{
	struct guard_policy policy = policy_defaults();
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
	saw(slot_end(&peer, &policy, 1, NOW, NO_JITTER));
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
		struct guard_policy policy = policy_defaults();
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
	assert_int_equal(policy.backoff_initial_ns, 10 * SECOND);
	assert_int_equal(policy.backoff_max_ns, 300 * SECOND);
	assert_int_equal(policy.min_uptime_ns, 10 * SECOND);
	assert_int_equal(policy.stable_after_ns, 300 * SECOND);
	assert_int_equal(policy.hold_max_ns, HOLD);
	assert_int_equal(policy.claim_max_ns, CLAIM_SENT_LEFT);
	assert_int_equal(policy.liveness_ns, 60 * SECOND);
	assert_int_equal(policy.suspect_after_ns, 5 * SECOND);
	assert_int_equal(policy.deny_max_ns, 60 * SECOND);
}

/* Probes, and time enough for each; never a setting of none, which the kernel refuses. */
static void liveness_bounds_silence_and_unacknowledged_data(void **state)
{
	__u32 seconds;

	(void)state;
	for (seconds = 1; seconds <= 3600; seconds++) {
		struct liveness_settings settings = liveness_settings(seconds * SECOND);
		__u32 ends = settings.idle_seconds + settings.probes * settings.interval_seconds;

		assert_true(settings.idle_seconds >= 1 && settings.interval_seconds >= 1);
		assert_int_equal(settings.probes, 3);
		assert_int_equal(settings.user_timeout_ms, seconds * 1000);
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
		    cause == CAUSE_peer_due)
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
		cmocka_unit_test(giving_way_makes_a_claim_no_younger),
		cmocka_unit_test(dial_that_lost_a_tie_has_lost_it),
		cmocka_unit_test(tie_is_noted_on_the_claim_it_crosses),
		cmocka_unit_test(dial_that_is_given_up_is_no_failure),
		cmocka_unit_test(second_handshake_of_a_peer_is_held),
		cmocka_unit_test(each_handshake_is_held_once_and_few_at_a_time),
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
		cmocka_unit_test(end_of_one_of_several_links_is_no_failure),
		cmocka_unit_test(only_the_owner_ends_a_slot),
		cmocka_unit_test(end_twice_changes_nothing),
		cmocka_unit_test(release_is_no_failure),
		cmocka_unit_test(link_too_many_that_is_the_last_may_stay),
		cmocka_unit_test(answer_of_a_dial_without_a_slot_is_held_for_a_link),
		cmocka_unit_test(due_is_idle_and_ours_to_dial),
		cmocka_unit_test(forgotten_is_only_who_nobody_needs),
		cmocka_unit_test(defaults_are_those_of_the_design),
		cmocka_unit_test(liveness_bounds_silence_and_unacknowledged_data),
		cmocka_unit_test(every_cause_was_produced),
	};

	return cmocka_run_group_tests_name("rules", tests, NULL, NULL);
}
