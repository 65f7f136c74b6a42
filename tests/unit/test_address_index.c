/* SPDX-License-Identifier: BSD-2-Clause */
/* Elements of a table are found by their addresses, and no other is taken for one of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pure/address_index.h"

static struct address_index index_of_all;
static struct peer_address table[ADDRESS_INDEX_MAX];

static int before_each(void **state)
{
	(void)state;
	address_index_clear(&index_of_all);
	return 0;
}

static struct peer_address address_of(__u32 number, __u16 service)
{
	struct peer_address address = address_from_ipv6(0x82fd, 0, 0, number);

	address.service = service;
	return address;
}

static void add(size_t number, struct peer_address address)
{
	table[number] = address;
	address_index_add(&index_of_all, &address, number);
}

/* How many elements are about this address, and that each comes once. */
static size_t found(const struct peer_address *address)
{
	bool seen[ADDRESS_INDEX_MAX] = {};
	size_t count = 0;

	for (size_t i = address_index_first(&index_of_all, address); i != ADDRESS_INDEX_END;
	     i = address_index_next(&index_of_all, i)) {
		assert_true(i < ADDRESS_INDEX_MAX);
		assert_false(seen[i]);
		seen[i] = true;
		count += address_equal(&table[i], address);
	}
	return count;
}

static void each_is_found_in_a_full_table(void **state)
{
	struct peer_address none = address_of(ADDRESS_INDEX_MAX, 1);

	(void)state;
	for (size_t i = 0; i < ADDRESS_INDEX_MAX; i++)
		add(i, address_of((__u32)i, 1));
	for (size_t i = 0; i < ADDRESS_INDEX_MAX; i++)
		assert_int_equal(found(&table[i]), 1);
	assert_int_equal(found(&none), 0);
}

/* Several links of a peer, and the same host at another service. */
static void several_are_about_one_address(void **state)
{
	struct peer_address one = address_of(7, 1), other = address_of(7, 2);

	(void)state;
	for (size_t i = 0; i < ADDRESS_INDEX_MAX; i++)
		add(i, i % 4 ? one : other);
	assert_int_equal(found(&one), ADDRESS_INDEX_MAX * 3 / 4);
	assert_int_equal(found(&other), ADDRESS_INDEX_MAX / 4);
}

static void nothing_is_found_afterwards(void **state)
{
	struct peer_address address = address_of(7, 1);

	(void)state;
	assert_int_equal(found(&address), 0);
	add(0, address);
	assert_int_equal(found(&address), 1);
	address_index_clear(&index_of_all);
	assert_int_equal(found(&address), 0);
	/* The numbers are free again. */
	add(0, address_of(8, 1));
	assert_int_equal(found(&address), 0);
	assert_int_equal(found(&table[0]), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(each_is_found_in_a_full_table, before_each),
		cmocka_unit_test_setup(several_are_about_one_address, before_each),
		cmocka_unit_test_setup(nothing_is_found_afterwards, before_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
