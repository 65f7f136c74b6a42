/* SPDX-License-Identifier: BSD-2-Clause */
/* So many in each period, and nothing lost from the count of the rest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/budget.h"

#define PERIOD 1000ULL
#define START 77ULL

static void so_many_in_a_period(void **state)
{
	struct budget budget = { .period_ns = PERIOD, .max = 3 };
	__u64 left_out = 99;
	int i;

	(void)state;
	for (i = 0; i < 3; i++)
		assert_true(budget_spend(&budget, START + i));
	for (i = 0; i < 5; i++)
		assert_false(budget_spend(&budget, START + PERIOD - 1));
	assert_false(budget_tell(&budget, START + PERIOD - 1, &left_out));
	assert_int_equal(left_out, 99);
	assert_true(budget_tell(&budget, START + PERIOD, &left_out));
	assert_int_equal(left_out, 5);
	assert_false(budget_tell(&budget, START + PERIOD, &left_out));
	/* The next period begins with the next thing. */
	assert_true(budget_spend(&budget, START + 5 * PERIOD));
	assert_true(budget_spend(&budget, START + 6 * PERIOD - 1));
	assert_true(budget_spend(&budget, START + 6 * PERIOD - 1));
	assert_false(budget_spend(&budget, START + 6 * PERIOD - 1));
	assert_true(budget_spend(&budget, START + 6 * PERIOD));
}

/* Nobody asked in between: the count goes on. */
static void counts_add_up(void **state)
{
	struct budget budget = { .period_ns = PERIOD, .max = 2 };
	__u64 now, left_out = 0, passed = 0;

	(void)state;
	for (now = START; now < START + 10 * PERIOD; now += 10)
		passed += budget_spend(&budget, now);
	assert_int_equal(passed, 20);
	assert_true(budget_tell(&budget, START + 11 * PERIOD, &left_out));
	assert_int_equal(left_out, 1000 - 20);
}

static void none_is_no_limit(void **state)
{
	struct budget budget = { .period_ns = PERIOD };
	__u64 left_out;
	int i;

	(void)state;
	for (i = 0; i < 1000; i++)
		assert_true(budget_spend(&budget, START));
	assert_false(budget_tell(&budget, START + 2 * PERIOD, &left_out));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(so_many_in_a_period),
		cmocka_unit_test(counts_add_up),
		cmocka_unit_test(none_is_no_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
