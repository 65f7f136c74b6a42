/* SPDX-License-Identifier: BSD-2-Clause */
/* One line a minute per peer and cause, and nothing lost from the counts. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <string.h>

#include <cmocka.h>

#include "pure/throttle.h"

#define START 1000000000ULL
#define LATER(periods) (START + (periods) * THROTTLE_PERIOD_NS)

static struct peer_address peer(__u8 number)
{
	struct peer_address address = { .bytes = { [10] = 0xff, [11] = 0xff, 10, 0, 0, number } };

	return address;
}

static bool pass(struct throttle *throttle, __u8 number, enum cause cause, __u64 now_ns,
		 __u64 *ret_left_out)
{
	struct peer_address address = peer(number);

	return throttle_pass(throttle, &address, cause, now_ns, ret_left_out);
}

static void one_line_a_period(void **state)
{
	struct throttle *throttle = throttle_new(4);
	__u64 left_out = 77;
	int i;

	(void)state;
	assert_non_null(throttle);
	assert_true(pass(throttle, 1, CAUSE_dial_linked, START, &left_out));
	assert_int_equal(left_out, 0);
	left_out = 77;
	for (i = 0; i < 5; i++)
		assert_false(pass(throttle, 1, CAUSE_dial_linked, LATER(1) - 1, &left_out));
	assert_int_equal(left_out, 77);
	assert_true(pass(throttle, 1, CAUSE_dial_linked, LATER(1), &left_out));
	assert_int_equal(left_out, 5);
	/* The period begins anew with the line. */
	assert_false(pass(throttle, 1, CAUSE_dial_linked, LATER(2) - 1, &left_out));
	assert_true(pass(throttle, 1, CAUSE_dial_linked, LATER(2), &left_out));
	assert_int_equal(left_out, 1);
	assert_true(pass(throttle, 1, CAUSE_dial_linked, LATER(3), &left_out));
	assert_int_equal(left_out, 0);
	throttle_free(throttle);
	throttle_free(NULL);
}

static void pairs_are_apart(void **state)
{
	struct throttle *throttle = throttle_new(4);
	__u64 left_out;

	(void)state;
	assert_true(pass(throttle, 1, CAUSE_dial_linked, START, &left_out));
	assert_true(pass(throttle, 1, CAUSE_dial_backoff, START, &left_out));
	assert_true(pass(throttle, 2, CAUSE_dial_linked, START, &left_out));
	assert_false(pass(throttle, 1, CAUSE_dial_linked, START, &left_out));
	assert_false(pass(throttle, 1, CAUSE_dial_backoff, START, &left_out));
	assert_false(pass(throttle, 2, CAUSE_dial_linked, START, &left_out));
	throttle_free(throttle);
}

static void oldest_makes_room(void **state)
{
	struct throttle *throttle = throttle_new(2);
	__u64 left_out = 77;

	(void)state;
	assert_true(pass(throttle, 1, CAUSE_dial_linked, START, &left_out));
	assert_true(pass(throttle, 2, CAUSE_dial_linked, START + 1, &left_out));
	/* Peer 1 speaks again later than peer 2, which is now the oldest. */
	assert_true(pass(throttle, 1, CAUSE_dial_linked, LATER(1), &left_out));
	assert_true(pass(throttle, 3, CAUSE_dial_linked, LATER(1), &left_out));
	assert_false(pass(throttle, 1, CAUSE_dial_linked, LATER(1), &left_out));
	assert_false(pass(throttle, 3, CAUSE_dial_linked, LATER(1), &left_out));
	assert_true(pass(throttle, 2, CAUSE_dial_linked, LATER(1), &left_out));
	assert_int_equal(left_out, 0);
	throttle_free(throttle);
}

static void last_count_is_popped(void **state)
{
	struct throttle *throttle = throttle_new(4);
	struct peer_address address = peer(9), expected = peer(2);
	enum cause cause = CAUSE_none;
	__u64 left_out = 77;
	int i;

	(void)state;
	assert_true(pass(throttle, 1, CAUSE_dial_linked, START, &left_out));
	assert_true(pass(throttle, 2, CAUSE_knock_linked, START, &left_out));
	assert_true(pass(throttle, 3, CAUSE_dial_linked, START + 1, &left_out));
	for (i = 0; i < 3; i++)
		pass(throttle, 2, CAUSE_knock_linked, START + 1, &left_out);
	pass(throttle, 3, CAUSE_dial_linked, START + 1, &left_out);
	assert_false(throttle_pop_left_out(throttle, LATER(1) - 1, &address, &cause, &left_out));
	/* Peer 1 has nothing to say, peer 3 is still in its period. */
	assert_true(throttle_pop_left_out(throttle, LATER(1), &address, &cause, &left_out));
	assert_true(address_equal(&address, &expected));
	assert_int_equal(cause, CAUSE_knock_linked);
	assert_int_equal(left_out, 3);
	assert_false(throttle_pop_left_out(throttle, LATER(1), &address, &cause, &left_out));
	assert_true(throttle_pop_left_out(throttle, LATER(1) + 1, &address, &cause, &left_out));
	assert_int_equal(left_out, 1);
	/* What was popped starts anew. */
	assert_true(pass(throttle, 2, CAUSE_knock_linked, LATER(1), &left_out));
	assert_int_equal(left_out, 0);
	throttle_free(throttle);
}

/* Ever new peers: so many lines for the cause, the rest is counted with it, and other causes have theirs. */
static void a_cause_has_so_many_lines(void **state)
{
	enum { EVENTS = 5000 };
	struct throttle *throttle = throttle_new(EVENTS);
	struct peer_address address = {};
	__u64 left_out = 77, lines = 0;
	enum cause cause = CAUSE_none;
	int event;

	(void)state;
	for (event = 0; event < EVENTS; event++) {
		memcpy(address.bytes, &event, sizeof(event));
		lines += throttle_pass(throttle, &address, CAUSE_knock_pending, START + event, &left_out);
	}
	assert_int_equal(lines, THROTTLE_CAUSE_LINES);
	assert_true(pass(throttle, 1, CAUSE_dial_failed, START + EVENTS, &left_out));
	assert_false(throttle_pop_cause(throttle, LATER(1) - 1, &cause, &left_out));
	assert_true(throttle_pop_cause(throttle, LATER(1), &cause, &left_out));
	assert_int_equal(cause, CAUSE_knock_pending);
	assert_int_equal(left_out, EVENTS - THROTTLE_CAUSE_LINES);
	assert_false(throttle_pop_cause(throttle, LATER(1), &cause, &left_out));
	assert_true(pass(throttle, 1, CAUSE_knock_pending, LATER(1), &left_out));
	/* A number that is no cause has its lines too. */
	assert_true(pass(throttle, 1, (enum cause)(CAUSE_COUNT + 7), START, &left_out));
	throttle_free(throttle);
}

/* Whatever comes, every event is a line or in a count: with room for all pairs nothing is lost. */
static void counts_add_up(void **state)
{
	enum { PEERS = 50, EVENTS = 20000 };
	struct throttle *throttle = throttle_new(PEERS);
	__u64 now_ns = START, left_out, lines = 0, counted = 0;
	struct peer_address address;
	__u32 random = 4711;
	enum cause cause;
	int event;

	(void)state;
	for (event = 0; event < EVENTS; event++) {
		random = random * 1664525 + 1013904223;
		now_ns += random >> 6;
		if (pass(throttle, (__u8)((random >> 16) % PEERS), CAUSE_dial_linked, now_ns,
			 &left_out)) {
			lines++;
			counted += left_out;
		}
	}
	while (throttle_pop_left_out(throttle, ~0ULL, &address, &cause, &left_out))
		counted += left_out;
	assert_true(lines + counted == EVENTS);
	assert_true(lines < EVENTS / 10);
	throttle_free(throttle);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_line_a_period),	cmocka_unit_test(pairs_are_apart),
		cmocka_unit_test(oldest_makes_room),	cmocka_unit_test(last_count_is_popped),
		cmocka_unit_test(counts_add_up),	cmocka_unit_test(a_cause_has_so_many_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
