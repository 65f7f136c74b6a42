/* SPDX-License-Identifier: BSD-2-Clause */
/* The timer queue, against a plain array that does the same. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <string.h>

#include <cmocka.h>

#include "pure/deadlines.h"

/* The peer 10.0.x.y. */
static struct peer_address peer(unsigned int number)
{
	struct peer_address address = { .bytes = { [10] = 0xff, [11] = 0xff, 10, 0 } };

	address.bytes[14] = (__u8)(number >> 8);
	address.bytes[15] = (__u8)number;
	return address;
}

static void set(struct deadlines *queue, unsigned int number, __u64 deadline_ns)
{
	struct peer_address address = peer(number);

	assert_int_equal(deadlines_set(queue, &address, deadline_ns), 0);
}

static void expect_due(struct deadlines *queue, __u64 now_ns, unsigned int number)
{
	struct peer_address expected = peer(number), address;

	assert_true(deadlines_pop_due(queue, now_ns, &address));
	assert_true(address_equal(&address, &expected));
}

static void earliest_comes_first(void **state)
{
	struct deadlines *queue = deadlines_new(8);
	struct peer_address address = peer(99), untouched = address;
	__u64 deadline_ns = 77;

	(void)state;
	assert_non_null(queue);
	assert_false(deadlines_next(queue, &deadline_ns));
	assert_false(deadlines_pop_due(queue, ~0ULL, &address));
	assert_int_equal(deadline_ns, 77);
	set(queue, 1, 300);
	set(queue, 2, 100);
	set(queue, 3, 200);
	assert_int_equal(deadlines_count(queue), 3);
	assert_true(deadlines_next(queue, &deadline_ns));
	assert_int_equal(deadline_ns, 100);
	assert_false(deadlines_pop_due(queue, 99, &address));
	assert_true(address_equal(&address, &untouched));
	expect_due(queue, 100, 2);
	assert_false(deadlines_pop_due(queue, 199, &address));
	expect_due(queue, 1000, 3);
	expect_due(queue, 1000, 1);
	assert_false(deadlines_pop_due(queue, ~0ULL, &address));
	deadlines_free(queue);
}

static void one_deadline_per_peer(void **state)
{
	struct deadlines *queue = deadlines_new(8);
	__u64 deadline_ns;

	(void)state;
	set(queue, 1, 300);
	set(queue, 2, 200);
	set(queue, 1, 100); /* earlier */
	assert_int_equal(deadlines_count(queue), 2);
	assert_true(deadlines_next(queue, &deadline_ns));
	assert_int_equal(deadline_ns, 100);
	set(queue, 1, 400); /* later */
	expect_due(queue, 1000, 2);
	expect_due(queue, 1000, 1);
	deadlines_free(queue);
}

static void each_is_told(void **state)
{
	struct deadlines *queue = deadlines_new(4);
	struct peer_address seventh = peer(7);
	__u64 deadline = 1;

	(void)state;
	assert_false(deadlines_get(queue, &seventh, &deadline));
	assert_int_equal(deadline, 1);
	set(queue, 7, 30);
	set(queue, 7, 20);
	assert_true(deadlines_get(queue, &seventh, &deadline));
	assert_int_equal(deadline, 20);
	deadlines_free(queue);
}

static void removed_is_gone(void **state)
{
	struct deadlines *queue = deadlines_new(8);
	struct peer_address address = peer(2);

	(void)state;
	set(queue, 1, 100);
	set(queue, 2, 50);
	assert_true(deadlines_remove(queue, &address));
	assert_false(deadlines_remove(queue, &address));
	assert_int_equal(deadlines_count(queue), 1);
	expect_due(queue, 1000, 1);
	assert_int_equal(deadlines_count(queue), 0);
	deadlines_free(queue);
	deadlines_free(NULL);
}

static void bounded(void **state)
{
	struct deadlines *queue = deadlines_new(2);
	struct peer_address third = peer(3);

	(void)state;
	set(queue, 1, 100);
	set(queue, 2, 200);
	assert_int_equal(deadlines_set(queue, &third, 1), -ENOSPC);
	assert_int_equal(deadlines_count(queue), 2);
	set(queue, 2, 50); /* known peers still move */
	expect_due(queue, 1000, 2);
	set(queue, 3, 1);
	expect_due(queue, 1000, 3);
	deadlines_free(queue);
}

/* Many random steps, each compared with an array in which the deadline of peer i is element i. */
static void as_an_array_does(void **state)
{
	enum { PEERS = 500, STEPS = 50000 };
	static __u64 model[PEERS]; /* 0: none */
	struct deadlines *queue = deadlines_new(PEERS);
	__u32 random = 12345;
	size_t count = 0;
	int step;

	(void)state;
	for (step = 0; step < STEPS; step++) {
		unsigned int number, i;
		struct peer_address address;
		__u64 earliest = ~0ULL, deadline_ns;

		random = random * 1664525 + 1013904223;
		number = (random >> 8) % PEERS;
		address = peer(number);
		switch (random >> 30) {
		case 0:
		case 1:
			count += !model[number];
			model[number] = 1 + (random >> 4) % 1000;
			set(queue, number, model[number]);
			break;
		case 2:
			assert_int_equal(deadlines_remove(queue, &address), model[number] != 0);
			count -= model[number] != 0;
			model[number] = 0;
			break;
		case 3:
			for (i = 0; i < PEERS; i++)
				if (model[i] && model[i] < earliest)
					earliest = model[i];
			assert_int_equal(deadlines_next(queue, &deadline_ns), count != 0);
			if (!count)
				break;
			assert_true(deadline_ns == earliest);
			assert_false(deadlines_pop_due(queue, earliest - 1, &address));
			assert_true(deadlines_pop_due(queue, earliest, &address));
			number = address.bytes[14] << 8 | address.bytes[15];
			assert_true(model[number] == earliest);
			model[number] = 0;
			count--;
			break;
		}
		assert_int_equal(deadlines_count(queue), count);
	}
	assert_true(count > 0); /* freed with entries in it */
	deadlines_free(queue);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(earliest_comes_first), cmocka_unit_test(one_deadline_per_peer),
		cmocka_unit_test(each_is_told),
		cmocka_unit_test(removed_is_gone),	cmocka_unit_test(bounded),
		cmocka_unit_test(as_an_array_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
