/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of the peer key: one key per host whichever socket family reached it, and what counts as
 * this host.
 *
 * The expectations come from inet_pton(), which knows nothing of address.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cmocka.h>

#include <connguard/address.h>

/* The key of `text` by way of the socket address that a hook of its family would see. */
static struct peer_address address_of(const char *text)
{
	struct in6_addr six;
	struct in_addr four;
	__u32 words[4];

	if (inet_pton(AF_INET, text, &four) == 1)
		return address_from_ipv4(four.s_addr);
	assert_int_equal(inet_pton(AF_INET6, text, &six), 1);
	memcpy(words, &six, sizeof(words));
	return address_from_ipv6(words[0], words[1], words[2], words[3]);
}

static void ipv4_is_held_mapped(void **state)
{
	static const char *const pairs[][2] = {
		{ "192.0.2.7", "::ffff:192.0.2.7" },
		{ "10.1.2.3", "::ffff:10.1.2.3" },
		{ "255.255.255.255", "::ffff:255.255.255.255" },
		{ "0.0.0.0", "::ffff:0.0.0.0" },
		{ "127.0.0.1", "::ffff:7f00:1" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		struct peer_address four = address_of(pairs[i][0]);
		struct peer_address mapped = address_of(pairs[i][1]);
		struct in6_addr expected;

		assert_int_equal(inet_pton(AF_INET6, pairs[i][1], &expected), 1);
		assert_memory_equal(four.bytes, &expected, 16);
		assert_memory_equal(mapped.bytes, &expected, 16);
		assert_true(address_equal(&four, &mapped));
		assert_true(address_is_ipv4(&four));
		assert_true(address_is_ipv4(&mapped));
	}
}

static void ipv6_is_held_unchanged(void **state)
{
	static const char *const texts[] = {
		"2001:db8:1:2:3:4:5:6",
		"fe80::1",
		"::1",
		"::",
		"::192.0.2.7",        /* IPv4-compatible, deprecated: not the mapped one */
		"::fffe:192.0.2.7",
		"::1:ffff:192.0.2.7", /* one bit outside ::ffff:0:0/96 */
		"8000::ffff:c000:207",
		"64:ff9b::192.0.2.7",
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct peer_address address = address_of(texts[i]);
		struct in6_addr expected;

		assert_int_equal(inet_pton(AF_INET6, texts[i], &expected), 1);
		assert_memory_equal(address.bytes, &expected, 16);
		if (address_is_ipv4(&address))
			fail_msg("%s is not IPv4", texts[i]);
	}
}

static void every_bit_tells_two_peers_apart(void **state)
{
	struct peer_address address = address_of("2001:db8:1:2:3:4:5:6");
	struct peer_address other = address;
	int bit;

	(void)state;
	assert_true(address_equal(&address, &other));
	for (bit = 0; bit < 128; bit++) {
		other = address;
		other.bytes[bit / 8] ^= 1U << bit % 8;
		if (address_equal(&address, &other) || address_equal(&other, &address))
			fail_msg("bit %d is not compared", bit);
		assert_false(address_same_host(&address, &other));
	}
	/* At another service the host is another peer, and the same host. */
	for (bit = 0; bit < 16; bit++) {
		other = address;
		other.service ^= 1U << bit;
		assert_false(address_equal(&address, &other));
		assert_false(address_equal(&other, &address));
		assert_true(address_same_host(&address, &other));
	}
}

static void loopback_is_this_host(void **state)
{
	static const char *const loopback[] = {
		"127.0.0.1",       "127.0.0.0",        "127.255.255.255",      "127.1.2.3",
		"0.0.0.0",         "::1",              "::",                   "::ffff:127.0.0.1",
		"::ffff:127.9.9.9", "::ffff:0.0.0.0",
	};
	static const char *const not_loopback[] = {
		"126.255.255.255", "128.0.0.1",        "192.0.2.127",
		"1.0.0.127",       "10.0.0.1",         "255.255.255.255",
		"::2",             "::1:0:0",          "1::",
		"::100:0",         "::ffff:128.0.0.1", "::ffff:192.0.2.1",
		"::7f00:1",        "fe80::1",          "2001:db8::1",
		"1::1",            "7f00::1",          "::fffe:127.0.0.1",
		"0:0:0:1::",       "0:0:0:1::1",       "ff02::1",
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(loopback) / sizeof(loopback[0]); i++) {
		struct peer_address address = address_of(loopback[i]);

		if (!address_is_loopback(&address))
			fail_msg("%s is loopback", loopback[i]);
	}
	for (i = 0; i < sizeof(not_loopback) / sizeof(not_loopback[0]); i++) {
		struct peer_address address = address_of(not_loopback[i]);

		if (address_is_loopback(&address))
			fail_msg("%s is not loopback", not_loopback[i]);
	}
}

static void a_network_is_the_upper_half(void **state)
{
	static const char *const counted[] = {
		"2001:db8::1", "fd77::1", "fe80::1", "::1:0:0:0:1", "64:ff9a::1", "64:ff9c::1", "65:ff9b::1", "164:ff9b::1",
	};
	static const char *const not_counted[] = {
		"192.0.2.1", "::ffff:192.0.2.1", "::1", "::192.0.2.1", "64:ff9b::c000:201", "64:ff9b:1:2::c000:201",
	};
	struct peer_address address = address_of("2001:db8:1:2:3:4:5:6");
	struct peer_network network = network_of(&address);

	(void)state;
	for (int bit = 0; bit < 128; bit++) {
		struct peer_address other = address;
		struct peer_network its_network;

		other.bytes[bit / 8] ^= 1U << bit % 8;
		other.service = 24000;
		its_network = network_of(&other);
		if (network_equal(&network, &its_network) != (bit >= 64))
			fail_msg("bit %d", bit);
	}
	for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++) {
		address = address_of(counted[i]);
		if (!address_is_counted(&address))
			fail_msg("%s is counted", counted[i]);
	}
	for (size_t i = 0; i < sizeof(not_counted) / sizeof(not_counted[0]); i++) {
		address = address_of(not_counted[i]);
		if (address_is_counted(&address))
			fail_msg("%s is not counted", not_counted[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ipv4_is_held_mapped),
		cmocka_unit_test(ipv6_is_held_unchanged),
		cmocka_unit_test(every_bit_tells_two_peers_apart),
		cmocka_unit_test(loopback_is_this_host),
		cmocka_unit_test(a_network_is_the_upper_half),
	};

	return cmocka_run_group_tests_name("address", tests, NULL, NULL);
}
