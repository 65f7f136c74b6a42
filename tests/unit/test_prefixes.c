// SPDX-License-Identifier: BSD-2-Clause
/* Sets of address prefixes. */
#include <errno.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pure/address_text.h"
#include "pure/prefixes.h"
#include "seeded_random.h"

static struct exempt_prefix prefix_of(const char *text)
{
	struct exempt_prefix prefix;

	assert_int_equal(prefix_from_text(text, &prefix, NULL), 0);
	return prefix;
}

static struct prefix_set set_of(const char *const *texts)
{
	struct prefix_set set = {};

	for (; *texts; texts++) {
		const struct exempt_prefix prefix = prefix_of(*texts);

		assert_int_equal(prefixes_add(&set, &prefix), 0);
	}
	prefixes_sort(&set);
	return set;
}

static bool covers(const struct prefix_set *set, const char *address)
{
	const struct exempt_prefix whole = prefix_of(address);
	struct peer_address key = {};

	memcpy(key.bytes, whole.address, sizeof(key.bytes));
	return prefixes_cover(set, &key);
}

static void assert_is(const struct prefix_set *set, const char *const *texts)
{
	char text[PREFIX_TEXT_MAX];
	size_t i;

	for (i = 0; texts[i]; i++) {
		assert_true(i < set->count);
		assert_string_equal(prefix_to_text(&set->list[i], text), texts[i]);
	}
	assert_int_equal(set->count, i);
}

static void each_is_there_once_in_order(void **state)
{
	cleanup_prefixes struct prefix_set set =
		set_of((const char *const[]){ "10.0.0.2/32", "fd00::/8", "10.0.0.1/32", "::1/128",
					      "10.0.0.2/32", "10.0.0.0/8", "fd00::/8", NULL });
	struct exempt_prefix loose = prefix_of("10.9.0.0/16");

	(void)state;
	assert_is(&set, (const char *const[]){ "fd00::/8", "10.0.0.0/8", "::1/128", "10.0.0.1/32",
					       "10.0.0.2/32", NULL });
	/* Bits past the length say nothing. */
	memset(&loose.address[14], 0xff, 2);
	loose.prefix_length -= 4;
	assert_int_equal(prefixes_add(&set, &loose), 0);
	assert_int_equal(prefixes_add(&set, &loose), 0);
	prefixes_sort(&set);
	assert_is(&set, (const char *const[]){ "fd00::/8", "10.0.0.0/8", "10.0.0.0/12", "::1/128",
					       "10.0.0.1/32", "10.0.0.2/32", NULL });
	loose.prefix_length = 129;
	assert_int_equal(prefixes_add(&set, &loose), -EINVAL);
	assert_int_equal(set.count, 6);
}

static void an_empty_set_holds_nothing(void **state)
{
	struct prefix_set set = {}, missing = {};

	(void)state;
	prefixes_sort(&set);
	assert_false(covers(&set, "10.0.0.1"));
	assert_false(covers(&set, "::"));
	assert_int_equal(prefixes_missing(&set, &set, &missing), 0);
	assert_int_equal(missing.count, 0);
	prefixes_free(&set);
}

static void any_prefix_holds_its_addresses(void **state)
{
	cleanup_prefixes struct prefix_set set = set_of((const char *const[]){
		"10.0.0.0/9", "10.200.0.1", "192.0.2.128/25", "fd00:1::/33", "::1", NULL });
	cleanup_prefixes struct prefix_set all = set_of((const char *const[]){ "::/0", NULL });

	(void)state;
	assert_true(covers(&set, "10.0.0.0") && covers(&set, "10.127.255.255") &&
		    covers(&set, "10.200.0.1") && covers(&set, "192.0.2.128") &&
		    covers(&set, "fd00:1:7fff::1") && covers(&set, "::1"));
	assert_false(covers(&set, "10.128.0.0") || covers(&set, "10.200.0.2") ||
		     covers(&set, "192.0.2.127") || covers(&set, "fd00:1:8000::1") ||
		     covers(&set, "::2") || covers(&set, "::"));
	assert_true(covers(&all, "::") && covers(&all, "10.0.0.1") && covers(&all, "ffff::"));
}

static void what_one_has_and_the_other_has_not(void **state)
{
	cleanup_prefixes struct prefix_set left = set_of(
		(const char *const[]){ "10.0.0.0/8", "10.0.0.1", "10.0.0.2", "fd00::/8", NULL });
	cleanup_prefixes struct prefix_set right = set_of(
		(const char *const[]){ "10.0.0.0/9", "10.0.0.2", "10.0.0.3", "fd00::/8", NULL });
	cleanup_prefixes struct prefix_set gone = {}, come = {}, none = {};

	(void)state;
	assert_int_equal(prefixes_missing(&left, &right, &gone), 0);
	assert_is(&gone, (const char *const[]){ "10.0.0.0/8", "10.0.0.1/32", NULL });
	assert_int_equal(prefixes_missing(&right, &left, &come), 0);
	assert_is(&come, (const char *const[]){ "10.0.0.0/9", "10.0.0.3/32", NULL });
	assert_int_equal(prefixes_missing(&left, &left, &none), 0);
	assert_int_equal(none.count, 0);
	/* What it is added to stays. */
	assert_int_equal(prefixes_missing(&right, &left, &gone), 0);
	assert_int_equal(gone.count, 4);
}

/* Few bits of many, so that prefixes lie in one another. */
static struct exempt_prefix drawn(struct seeded_random *random)
{
	struct exempt_prefix prefix = { .prefix_length = random_below(random, 129) };

	for (size_t i = 0; i < sizeof(prefix.address); i++)
		prefix.address[i] = random_below(random, 16) ? 0 : random_below(random, 256);
	return prefix;
}

static bool holds(const struct exempt_prefix *prefix, const __u8 address[16])
{
	for (__u32 bit = 0; bit < prefix->prefix_length; bit++)
		if ((prefix->address[bit / 8] ^ address[bit / 8]) & (0x80 >> bit % 8))
			return false;
	return true;
}

static void as_a_look_at_each_says(void **state)
{
	struct seeded_random random = { .state = 9 };

	(void)state;
	for (int round = 0; round < 300; round++) {
		cleanup_prefixes struct prefix_set set = {};
		size_t count = random_below(&random, 40);

		for (size_t i = 0; i < count; i++) {
			const struct exempt_prefix prefix = drawn(&random);

			if (prefix.prefix_length > 3)
				assert_int_equal(prefixes_add(&set, &prefix), 0);
		}
		prefixes_sort(&set);
		for (int i = 0; i < 100; i++) {
			const struct exempt_prefix asked = drawn(&random);
			struct peer_address address = { .service = 7 };
			bool found = false;

			memcpy(address.bytes, asked.address, sizeof(address.bytes));
			for (size_t j = 0; j < set.count; j++)
				found |= holds(&set.list[j], address.bytes);
			assert_int_equal(prefixes_cover(&set, &address), found);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_is_there_once_in_order),
		cmocka_unit_test(an_empty_set_holds_nothing),
		cmocka_unit_test(any_prefix_holds_its_addresses),
		cmocka_unit_test(what_one_has_and_the_other_has_not),
		cmocka_unit_test(as_a_look_at_each_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
