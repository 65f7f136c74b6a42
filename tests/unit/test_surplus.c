// SPDX-License-Identifier: BSD-2-Clause
/* Links older than the guard and more than their peer may have: who has such, and which of them go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <connguard/rules.h>

#include "pure/census.h"
#include "pure/surplus.h"

#define NOW (1000 * NS_PER_SECOND)

static const struct guard_policy policy = POLICY_DEFAULTS;

/* Adopted so long ago, heard last so long ago. */
static struct slot link_of(__u64 cookie, __u64 since_ago_ns, __u64 heard_ago_ns, __u32 flags)
{
	return (struct slot){ .cookie = cookie,
			      .kind = SLOT_LINK,
			      .since_ns = NOW - since_ago_ns,
			      .heard_ns = NOW - heard_ago_ns,
			      .flags = flags };
}

static void who_has_them(void **state)
{
	struct peer peer = { .slots = { link_of(1, 10, 10, SLOT_ADOPTED),
					link_of(2, 10, 10, SLOT_ADOPTED | SLOT_SURPLUS) } };
	struct census census = { .taken_ns = NOW };
	struct peer other = peer;

	(void)state;
	assert_true(surplus_has(&peer, &policy, NOW));
	census_count(&census, &peer, &policy);
	/* It may have them by now, or nothing is refused to it. */
	other.limit = 2;
	assert_false(surplus_has(&other, &policy, NOW));
	census_count(&census, &other, &policy);
	other.limit = 0;
	other.exempt_until_ns = NOW + 1;
	assert_false(surplus_has(&other, &policy, NOW));
	/* One of them is going, or shows no life, or is no link any more. */
	other = peer;
	other.slots[0].flags |= SLOT_DOOMED;
	assert_false(surplus_has(&other, &policy, NOW));
	other.slots[0].flags = SLOT_UNANSWERED;
	assert_true(surplus_has(&other, &policy, NOW));
	assert_false(surplus_has(&other, &policy, NOW + policy.suspect_after_ns));
	other.slots[0].kind = SLOT_FREE;
	assert_false(surplus_has(&other, &policy, NOW));
	/* What the guard saw come up is another story. */
	other = peer;
	other.slots[1].flags = 0;
	assert_false(surplus_has(&other, &policy, NOW));
	peer.address.bytes[15] = 7;
	peer.slots[2] = link_of(3, 10, 10, 0);
	census_count(&census, &peer, &policy);
	assert_int_equal(census.surplus, 2);
	/* The first of them is named. */
	assert_int_equal(census.surplus_peer.bytes[15], 0);
	assert_int_equal(census.surplus_links, 2);
	assert_int_equal(census.surplus_limit, 1);
}

static void what_is_proof(void **state)
{
	const __u64 second = NS_PER_SECOND;
	struct slot slot = link_of(1, second / 2, second / 2, SLOT_ADOPTED);

	(void)state;
	/* Taken on trust: it shows life to the rules, and proves nothing. */
	assert_true(slot_shows_life(&slot, &policy, NOW));
	assert_false(surplus_proven(&slot, &policy, NOW, NOW));
	assert_false(surplus_proven(&slot, &policy, 0, NOW));
	slot.heard_ns++;
	assert_true(surplus_proven(&slot, &policy, NOW, NOW));
	/* Long ago, and not since it was asked. */
	slot = link_of(1, 100 * second, 10 * second, SLOT_ADOPTED);
	assert_false(surplus_proven(&slot, &policy, NOW - 5 * second, NOW));
	assert_true(surplus_proven(&slot, &policy, NOW - 10 * second, NOW));
}

static void who_stays(void **state)
{
	struct surplus_link links[] = { { .cookie = 1, .since_ns = 1, .held = false },
					{ .cookie = 2, .since_ns = ~0ULL, .held = true },
					{ .cookie = 3, .since_ns = 2, .held = true },
					{ .cookie = 4, .since_ns = 0, .held = false } };
	static const __u64 order[] = { 3, 2, 4, 1 };

	(void)state;
	surplus_order(links, 4);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(links[i].cookie, order[i]);
	surplus_order(links, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_has_them),
		cmocka_unit_test(what_is_proof),
		cmocka_unit_test(who_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
