/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of the verdict on a silent link: what proves life, what proves death, and what neither does.
 *
 * A trial is a made-up series of looks, each with what TCP would say then.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pure/life.h"

#define BEGAN (1000 * NS_PER_SECOND)
#define LONG_SILENT (500 * NS_PER_SECOND)

static struct life_signs silence(__u32 probes, __u32 retransmissions, __u64 now)
{
	return (struct life_signs){ .established = true,
				    .silent_ns = LONG_SILENT + now - BEGAN,
				    .probes = probes,
				    .retransmissions = retransmissions };
}

static enum life_verdict look(struct life_trial *trial, __u32 probes, __u32 retransmissions,
			      __u64 now)
{
	const struct life_signs signs = silence(probes, retransmissions, now);

	return life_judge(trial, &signs, now);
}

static void an_answer_is_life(void **state)
{
	struct life_trial trial = { .began_ns = BEGAN };
	__u64 now = BEGAN + 50 * NS_PER_MS;
	struct life_signs signs = silence(1, 0, now);

	(void)state;
	assert_int_equal(life_judge(&trial, &signs, now), LIFE_UNDECIDED);
	signs.silent_ns = 40 * NS_PER_MS;
	assert_int_equal(life_judge(&trial, &signs, now), LIFE_ALIVE);
	/* What came before the trial, or may have, is no answer. */
	signs.silent_ns = 50 * NS_PER_MS;
	assert_int_equal(life_judge(&trial, &signs, now), LIFE_UNDECIDED);
	signs.silent_ns = 49 * NS_PER_MS;
	assert_int_equal(life_judge(&trial, &signs, now), LIFE_UNDECIDED);
	/* Nor is anything at the very beginning. */
	signs.silent_ns = 0;
	assert_int_equal(life_judge(&trial, &signs, BEGAN), LIFE_UNDECIDED);
	/* However many questions had gone unanswered before. */
	signs = silence(9, 9, now);
	signs.silent_ns = 1 * NS_PER_MS;
	assert_int_equal(life_judge(&trial, &signs, now), LIFE_ALIVE);
}

/* An answer with a hole before it: the peer is there and cannot use the link. */
static void an_answer_with_a_hole_before_it_is_none(void **state)
{
	struct life_trial trial = { .began_ns = BEGAN, .knocked = true };
	__u64 stalled = BEGAN + 10 * NS_PER_MS, late = stalled + LIFE_STALLED_NS;
	struct life_signs signs = silence(0, 0, BEGAN);

	(void)state;
	signs.silent_ns = 1 * NS_PER_MS;
	signs.stalled_ns = stalled;
	assert_int_equal(life_judge(&trial, &signs, late - 1), LIFE_UNDECIDED);
	assert_int_equal(life_judge(&trial, &signs, late), LIFE_UNANSWERED);
	/* On a long way TCP repeats later. */
	signs.round_trip_ns = 50 * NS_PER_MS;
	assert_int_equal(life_judge(&trial, &signs, late + 100 * NS_PER_MS - 1), LIFE_UNDECIDED);
	assert_int_equal(life_judge(&trial, &signs, late + 100 * NS_PER_MS), LIFE_UNANSWERED);
	signs.round_trip_ns = 0;
	/* What was missing has come. */
	signs.stalled_ns = 0;
	assert_int_equal(life_judge(&trial, &signs, late), LIFE_ALIVE);
	/* It has been so for long, but the peer has not answered in the trial. */
	signs.stalled_ns = BEGAN - 60 * NS_PER_SECOND;
	signs.silent_ns = LONG_SILENT;
	assert_int_equal(life_judge(&trial, &signs, late), LIFE_UNDECIDED);
	signs.silent_ns = 1 * NS_PER_MS;
	assert_int_equal(life_judge(&trial, &signs, BEGAN + NS_PER_SECOND), LIFE_UNANSWERED);
	/* The peer has not knocked: nobody asks for another link but us. */
	trial.knocked = false;
	assert_int_equal(life_judge(&trial, &signs, late), LIFE_UNDECIDED);
	assert_int_equal(life_judge(&trial, &signs, BEGAN + LIFE_GIVE_UP_NS), LIFE_UNKNOWN);
}

static void no_link_is_the_end(void **state)
{
	const struct life_signs gone = {};
	struct life_trial trial = { .began_ns = BEGAN };

	(void)state;
	assert_int_equal(life_judge(&trial, &gone, BEGAN + NS_PER_MS), LIFE_ENDED);
}

/* Three questions, and patience after the last of them. */
static void three_questions_without_an_answer(void **state)
{
	__u64 third = BEGAN + 2 * NS_PER_SECOND;
	int retransmitted;

	(void)state;
	for (retransmitted = 0; retransmitted < 2; retransmitted++) {
		struct life_trial trial = { .began_ns = BEGAN };
		__u32 probes = retransmitted ? 0 : 1, sent = retransmitted ? 1 : 0;

		assert_int_equal(look(&trial, probes, sent, BEGAN + NS_PER_MS), LIFE_UNDECIDED);
		assert_int_equal(look(&trial, 2 * probes, 2 * sent, third - 1), LIFE_UNDECIDED);
		assert_int_equal(look(&trial, 3 * probes, 3 * sent, third), LIFE_UNDECIDED);
		assert_int_equal(look(&trial, 3 * probes, 3 * sent, third + LIFE_PATIENCE_NS - 1),
				 LIFE_UNDECIDED);
		assert_int_equal(look(&trial, 3 * probes, 3 * sent, third + LIFE_PATIENCE_NS),
				 LIFE_UNANSWERED);
	}
}

/* Not one by one: two of each kind are two questions, asked twice. */
static void kinds_of_questions_do_not_add_up(void **state)
{
	struct life_trial trial = { .began_ns = BEGAN };

	(void)state;
	assert_int_equal(look(&trial, 2, 2, BEGAN + NS_PER_MS), LIFE_UNDECIDED);
	assert_int_equal(look(&trial, 2, 2, BEGAN + 5 * NS_PER_SECOND), LIFE_UNDECIDED);
}

/* The counts fall when something is acknowledged, even if the time of it was not seen. */
static void patience_begins_anew(void **state)
{
	struct life_trial trial = { .began_ns = BEGAN };

	(void)state;
	assert_int_equal(look(&trial, 3, 0, BEGAN + 1 * NS_PER_SECOND), LIFE_UNDECIDED);
	assert_int_equal(look(&trial, 0, 0, BEGAN + 1300 * NS_PER_MS), LIFE_UNDECIDED);
	assert_int_equal(look(&trial, 3, 0, BEGAN + 5 * NS_PER_SECOND), LIFE_UNDECIDED);
	assert_int_equal(look(&trial, 4, 0, BEGAN + 5 * NS_PER_SECOND + LIFE_PATIENCE_NS),
			 LIFE_UNANSWERED);
}

static void long_paths_get_two_round_trips(void **state)
{
	struct life_trial trial = { .began_ns = BEGAN };
	struct life_signs signs = silence(3, 0, BEGAN + NS_PER_SECOND);

	(void)state;
	signs.round_trip_ns = 600 * NS_PER_MS;
	assert_int_equal(life_judge(&trial, &signs, BEGAN + NS_PER_SECOND), LIFE_UNDECIDED);
	assert_int_equal(life_judge(&trial, &signs, BEGAN + 2200 * NS_PER_MS - 1), LIFE_UNDECIDED);
	assert_int_equal(life_judge(&trial, &signs, BEGAN + 2200 * NS_PER_MS), LIFE_UNANSWERED);
}

/* Silence alone never kills, however long it lasts. */
static void silence_alone_proves_nothing(void **state)
{
	struct life_trial trial = { .began_ns = BEGAN };
	__u64 now;

	(void)state;
	for (now = BEGAN; now < BEGAN + LIFE_GIVE_UP_NS; now += LIFE_LOOK_NS)
		assert_int_equal(look(&trial, 2, 0, now), LIFE_UNDECIDED);
	assert_int_equal(look(&trial, 2, 0, BEGAN + LIFE_GIVE_UP_NS), LIFE_UNKNOWN);
}

/* TCP is made to ask when what was asked beside it has had the time for an answer, and none came. */
static void tcp_asks_when_nothing_is_answered(void **state)
{
	struct life_trial trial = { .began_ns = BEGAN };
	struct life_signs signs = silence(0, 0, BEGAN);

	(void)state;
	assert_false(life_wants_tcp(&trial, &signs, BEGAN + LIFE_BESIDE_NS - 1));
	assert_true(life_wants_tcp(&trial, &signs, BEGAN + LIFE_BESIDE_NS));
	signs.round_trip_ns = 100 * NS_PER_MS;
	assert_false(life_wants_tcp(&trial, &signs, BEGAN + LIFE_BESIDE_NS + 200 * NS_PER_MS - 1));
	assert_true(life_wants_tcp(&trial, &signs, BEGAN + LIFE_BESIDE_NS + 200 * NS_PER_MS));
	/* Answered, if with a hole before it: it is there. */
	signs.silent_ns = 1 * NS_PER_MS;
	signs.stalled_ns = BEGAN + 10 * NS_PER_MS;
	assert_int_equal(life_judge(&trial, &signs, BEGAN + 50 * NS_PER_MS), LIFE_UNDECIDED);
	assert_false(life_wants_tcp(&trial, &signs, BEGAN + 2 * NS_PER_SECOND));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_is_life),
		cmocka_unit_test(an_answer_with_a_hole_before_it_is_none),
		cmocka_unit_test(no_link_is_the_end),
		cmocka_unit_test(three_questions_without_an_answer),
		cmocka_unit_test(kinds_of_questions_do_not_add_up),
		cmocka_unit_test(patience_begins_anew),
		cmocka_unit_test(long_paths_get_two_round_trips),
		cmocka_unit_test(silence_alone_proves_nothing),
		cmocka_unit_test(tcp_asks_when_nothing_is_answered),
	};

	return cmocka_run_group_tests_name("life", tests, NULL, NULL);
}
