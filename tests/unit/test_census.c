// SPDX-License-Identifier: BSD-2-Clause
/* Peers counted one by one: where each stands, and which are full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <connguard/rules.h>

#include "pure/census.h"

#define NOW (1000 * NS_PER_SECOND)
#define LATER (NOW + NS_PER_SECOND)

static struct slot link_of(__u64 cookie)
{
	return (struct slot){ .cookie = cookie, .kind = SLOT_LINK, .since_ns = NOW - 100 * NS_PER_SECOND };
}

static void each_peer_stands_somewhere(void **state)
{
	static const char *const names[CENSUS_STATES] = { "linked", "dialing", "backoff", "idle", "exempt" };
	const struct slot claim = { .cookie = 2, .kind = SLOT_CLAIM, .expires_ns = LATER };
	const struct slot expired = { .cookie = 3, .kind = SLOT_CLAIM, .expires_ns = NOW };
	const struct peer peers[] = {
		/* A link says more than a claim, and that more than an exemption, and that more than a backoff. */
		{ .slots = { claim, link_of(1) }, .exempt_until_ns = LATER },
		{ .slots = { claim }, .exempt_until_ns = LATER, .next_attempt_ns = LATER },
		{ .next_attempt_ns = LATER, .slots = { expired } },
		{ .next_attempt_ns = NOW, .exempt_until_ns = NOW },
		{ .exempt_until_ns = LATER, .next_attempt_ns = LATER },
	};
	const struct guard_policy policy = POLICY_DEFAULTS;
	struct census census = { .taken_ns = NOW };

	(void)state;
	for (int i = 0; i < CENSUS_STATES; i++) {
		assert_int_equal(census_state(&peers[i], NOW), i);
		assert_string_equal(census_state_name(i), names[i]);
		for (int times = 0; times <= i; times++)
			census_count(&census, &peers[i], &policy);
	}
	assert_int_equal(census.count, 1 + 2 + 3 + 4 + 5);
	for (int i = 0; i < CENSUS_STATES; i++)
		assert_int_equal(census.in_state[i], i + 1);
	assert_int_equal(census.full, 0);
	assert_int_equal(census.habit.linked, 1);
}

static void full_peers(void **state)
{
	const struct guard_policy policy = POLICY_DEFAULTS;
	struct census census = { .taken_ns = NOW };
	struct peer peer = { .address.bytes = { [15] = 1 } };

	(void)state;
	for (int i = 0; i < PEER_SLOTS; i++) {
		assert_int_equal(census.full, 0);
		peer.slots[i] = link_of(i + 1);
		census_count(&census, &peer, &policy);
	}
	assert_int_equal(census.full, 1);
	/* The first of them is named. */
	peer.address.bytes[15] = 2;
	census_count(&census, &peer, &policy);
	assert_int_equal(census.full, 2);
	assert_int_equal(census.full_peer.bytes[15], 1);
	assert_int_equal(census.habit.with_several, PEER_SLOTS);
	assert_int_equal(census.habit.most, PEER_SLOTS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_peer_stands_somewhere),
		cmocka_unit_test(full_peers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
