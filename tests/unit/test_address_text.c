/* SPDX-License-Identifier: BSD-2-Clause */
/* Addresses and prefixes as text, in both directions. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pure/address_text.h"

static void addresses(void **state)
{
	static const struct {
		const char *text;
		const char *back; /* how it prints */
	} rows[] = {
		{ "192.0.2.7", "192.0.2.7" },
		{ "::ffff:192.0.2.7", "192.0.2.7" },
		{ "::ffff:c000:207", "192.0.2.7" },
		{ "2001:DB8:0::7", "2001:db8::7" },
		{ "::1", "::1" },
		{ "::", "::" },
		{ "::ffff:0:0:0", "::ffff:0:0:0" },
		{ "255.255.255.255", "255.255.255.255" },
		{ "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
		  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
	};
	size_t row;

	(void)state;
	for (row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
		struct peer_address address, again;
		char text[ADDRESS_TEXT_MAX];

		assert_int_equal(address_from_text(rows[row].text, &address), 0);
		assert_string_equal(address_to_text(&address, text), rows[row].back);
		assert_int_equal(address_from_text(text, &again), 0);
		assert_true(address_equal(&address, &again));
	}
}

static void ipv4_is_mapped(void **state)
{
	static const __u8 expected[16] = { [10] = 0xff, [11] = 0xff, 192, 0, 2, 7 };
	struct peer_address address;

	(void)state;
	assert_int_equal(address_from_text("192.0.2.7", &address), 0);
	assert_memory_equal(address.bytes, expected, sizeof(expected));
}

static void not_addresses(void **state)
{
	static const char *const rows[] = {
		"",
		" 192.0.2.7",
		"192.0.2.7 ",
		"192.0.2",
		"192.0.2.256",
		"192.0.2.07x",
		"[2001::1]",
		"fe80::1%eth0",
		"192.0.2.7:80",
		"localhost",
		"2001:db8:::7",
		"1:2:3",
	};
	size_t row;

	(void)state;
	for (row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
		struct peer_address address = { .bytes = { 1 } }, before = address;

		assert_int_equal(address_from_text(rows[row], &address), -EINVAL);
		assert_true(address_equal(&address, &before));
	}
}

static void prefixes(void **state)
{
	static const struct {
		const char *text;
		__u32 length;
		const char *back;
	} rows[] = {
		{ "10.0.0.0/8", 104, "10.0.0.0/8" },
		{ "0.0.0.0/0", 96, "0.0.0.0/0" },
		{ "192.0.2.7", 128, "192.0.2.7/32" },
		{ "192.0.2.7/32", 128, "192.0.2.7/32" },
		{ "192.0.2.6/31", 127, "192.0.2.6/31" },
		{ "::ffff:10.0.0.0/104", 104, "10.0.0.0/8" },
		{ "2001:db8::/32", 32, "2001:db8::/32" },
		{ "2001:db8::7", 128, "2001:db8::7/128" },
		{ "fe80::/10", 10, "fe80::/10" },
		{ "::/0", 0, "::/0" },
	};
	size_t row;

	(void)state;
	for (row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
		struct exempt_prefix prefix, again;
		char text[PREFIX_TEXT_MAX];

		assert_int_equal(prefix_from_text(rows[row].text, &prefix, NULL), 0);
		assert_int_equal(prefix.prefix_length, rows[row].length);
		assert_string_equal(prefix_to_text(&prefix, text), rows[row].back);
		assert_int_equal(prefix_from_text(text, &again, NULL), 0);
		assert_memory_equal(&prefix, &again, sizeof(prefix));
	}
}

static void not_prefixes(void **state)
{
	static const char host_bits[] = "bits set behind the prefix length";
	static const char length4[] = "prefix length is not a number from 0 to 32";
	static const char length6[] = "prefix length is not a number from 0 to 128";
	static const struct {
		const char *text;
		const char *problem;
	} rows[] = {
		{ "", "not an address" },
		{ "/8", "not an address" },
		{ "10.0.0/8", "not an address" },
		{ "10.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0/8", "not an address" },
		{ "10.0.0.1/8", host_bits },
		{ "10.0.0.1/31", host_bits },
		{ "2001:db8::1/127", host_bits },
		{ "8000::/0", host_bits },
		{ "10.0.0.0/", length4 },
		{ "10.0.0.0/33", length4 },
		{ "10.0.0.0/8x", length4 },
		{ "10.0.0.0/-1", length4 },
		{ "10.0.0.0/8/8", length4 },
		{ "10.0.0.0/4294967304", length4 },
		{ "2001:db8::/129", length6 },
	};
	size_t row;

	(void)state;
	for (row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
		struct exempt_prefix prefix = { .prefix_length = 77 };
		const char *problem = NULL;

		assert_int_equal(prefix_from_text(rows[row].text, &prefix, &problem), -EINVAL);
		assert_string_equal(problem, rows[row].problem);
		assert_int_equal(prefix.prefix_length, 77);
		assert_int_equal(prefix_from_text(rows[row].text, &prefix, NULL), -EINVAL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses), cmocka_unit_test(ipv4_is_mapped),
		cmocka_unit_test(not_addresses), cmocka_unit_test(prefixes),
		cmocka_unit_test(not_prefixes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
