// SPDX-License-Identifier: BSD-2-Clause
/* Copies of packets: what is changed in them before they are sent again. What asks the other end of a link. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "pure/packet.h"

#define IPV4_LENGTH 60
#define IPV6_LENGTH 80
#define TIMESTAMP 0x01020304U

/* A TCP header with MSS, SACK, a timestamp and a window scale, as Linux makes it; its checksum is junk. */
static const __u8 tcp_header[40] = {
	0xc0, 0x01, 0x5d, 0xc0, 1, 2, 3, 4, 0, 0, 0, 0, 0xa0, 0x02, 0xfa, 0xf0, 0xde, 0xad, 0, 0,
	2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7,
};

static size_t ipv4_packet(__u8 bytes[IPV6_LENGTH])
{
	static const __u8 header[20] = { 0x45, 0, 0, 60, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2 };

	memcpy(bytes, header, sizeof(header));
	memcpy(bytes + sizeof(header), tcp_header, sizeof(tcp_header));
	return IPV4_LENGTH;
}

static size_t ipv6_packet(__u8 bytes[IPV6_LENGTH])
{
	static const __u8 header[40] = { 0x60, 0, 0, 0, 0, 40, 6, 64, 0xfd, [23] = 1, [24] = 0xfd, [39] = 2 };

	memcpy(bytes, header, sizeof(header));
	memcpy(bytes + sizeof(header), tcp_header, sizeof(tcp_header));
	return IPV6_LENGTH;
}

/* The one's complement sum over pseudo header and segment: 0xffff where the checksum is right (RFC 1071). */
static unsigned int sum(const __u8 *addresses, size_t address_length, const __u8 *tcp, size_t tcp_length)
{
	unsigned int total = 6 + (unsigned int)tcp_length;

	for (size_t i = 0; i < address_length; i += 2)
		total += (unsigned int)(addresses[i] << 8 | addresses[i + 1]);
	for (size_t i = 0; i < tcp_length; i += 2)
		total += (unsigned int)(tcp[i] << 8 | (i + 1 < tcp_length ? tcp[i + 1] : 0));
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return total;
}

static __u32 timestamp_of(const __u8 *tcp)
{
	__u32 value;

	memcpy(&value, tcp + 28, sizeof(value));
	return ntohl(value);
}

static void gets_its_checksum_and_grows_older(void **state)
{
	__u8 bytes[IPV6_LENGTH];

	(void)state;
	assert_true(packet_renew_syn(bytes, ipv4_packet(bytes), 1500));
	assert_int_equal(sum(bytes + 12, 8, bytes + 20, sizeof(tcp_header)), 0xffff);
	assert_int_equal(timestamp_of(bytes + 20), TIMESTAMP + 1500);
	assert_true(packet_renew_syn(bytes, IPV4_LENGTH, 0));
	assert_int_equal(timestamp_of(bytes + 20), TIMESTAMP + 1500);
	assert_true(packet_renew_syn(bytes, ipv6_packet(bytes), 7));
	assert_int_equal(sum(bytes + 8, 32, bytes + 40, sizeof(tcp_header)), 0xffff);
	assert_int_equal(timestamp_of(bytes + 40), TIMESTAMP + 7);
}

static void goes_where_it_says(void **state)
{
	__u8 bytes[IPV6_LENGTH];
	struct peer_address address;

	(void)state;
	ipv4_packet(bytes);
	address = packet_destination(bytes);
	assert_true(address_is_ipv4(&address));
	assert_memory_equal(&address.bytes[12], ((__u8[]){ 10, 0, 0, 2 }), 4);
	ipv6_packet(bytes);
	address = packet_destination(bytes);
	assert_int_equal(address.bytes[0], 0xfd);
	assert_int_equal(address.bytes[15], 2);
	assert_int_equal(address.service, 0);
}

/* Each is no SYN, or one that must not be changed. */
static void others_are_refused(void **state)
{
	static const struct {
		size_t offset;
		__u8 value;
	} spoilt[] = {
		{ 0, 0x35 },  /* no IP version */
		{ 0, 0x44 },  /* a header shorter than one can be */
		{ 9, 17 },    /* UDP */
		{ 32, 0x90 }, /* data behind the header */
		{ 32, 0xf0 }, /* a header longer than the packet */
		{ 33, 0x12 }, /* SYN-ACK */
		{ 33, 0x06 }, /* RST beside SYN */
		{ 33, 0x10 }, /* ACK */
		{ 46, 29 },   /* signed with its options */
		{ 47, 1 },    /* an option shorter than itself */
		{ 47, 40 },   /* and one longer than the header */
	};
	__u8 bytes[IPV6_LENGTH];

	(void)state;
	for (size_t i = 0; i < sizeof(spoilt) / sizeof(spoilt[0]); i++) {
		size_t length = ipv4_packet(bytes);

		bytes[spoilt[i].offset] = spoilt[i].value;
		if (packet_renew_syn(bytes, length, 1))
			fail_msg("byte %zu as %#x", spoilt[i].offset, spoilt[i].value);
	}
	for (size_t length = 0; length < IPV4_LENGTH; length++) {
		ipv4_packet(bytes);
		assert_false(packet_renew_syn(bytes, length, 1));
	}
	for (size_t length = 0; length < IPV6_LENGTH; length++) {
		ipv6_packet(bytes);
		assert_false(packet_renew_syn(bytes, length, 1));
	}
}

#define DATA_LENGTH 7

/*
 * The packet with an ACK for its SYN and so much data behind it; `there` bytes of that are there. `bare`: its checksum
 * is that of the pseudo header, as of a packet that the kernel has put together.
 */
static size_t data_packet(__u8 bytes[IPV6_LENGTH + DATA_LENGTH], bool ipv4, __u8 there, bool bare)
{
	size_t length = ipv4 ? ipv4_packet(bytes) : ipv6_packet(bytes), start = length - sizeof(tcp_header);
	const __u8 *addresses = bytes + (ipv4 ? 12 : 8);
	size_t address_length = ipv4 ? 8 : 32;
	unsigned int checksum;

	bytes[start + 13] = 0x19; /* FIN, PSH, ACK */
	bytes[ipv4 ? 3 : 5] += DATA_LENGTH;
	memcpy(bytes + length, "connect", DATA_LENGTH);
	bytes[start + 16] = bytes[start + 17] = 0;
	checksum = bare ? sum(addresses, address_length, (const __u8[sizeof(tcp_header) + DATA_LENGTH]){},
			      sizeof(tcp_header) + DATA_LENGTH) :
			  ~sum(addresses, address_length, bytes + start, sizeof(tcp_header) + DATA_LENGTH);
	bytes[start + 16] = (__u8)(checksum >> 8);
	bytes[start + 17] = (__u8)checksum;
	return length + there;
}

static void segment_is_whole_with_what_there_is_of_it(void **state)
{
	__u8 bytes[IPV6_LENGTH + DATA_LENGTH];

	(void)state;
	for (__u8 there = 0; there <= DATA_LENGTH; there++) {
		__u8 flags = there < DATA_LENGTH ? 0x18 : 0x19;

		assert_true(packet_renew_segment(bytes, data_packet(bytes, true, there, true)));
		assert_int_equal(sum(bytes + 12, 8, bytes + 20, sizeof(tcp_header) + there), 0xffff);
		assert_int_equal(bytes[33], flags);
		assert_int_equal(timestamp_of(bytes + 20), TIMESTAMP);
		assert_true(packet_renew_segment(bytes, data_packet(bytes, false, there, true)));
		assert_int_equal(sum(bytes + 8, 32, bytes + 40, sizeof(tcp_header) + there), 0xffff);
		assert_int_equal(bytes[53], flags);
		assert_int_equal(bytes[5], sizeof(tcp_header) + there);
		assert_memory_equal(bytes + IPV6_LENGTH, "connect", there);
	}
}

static void damaged_one_is_refused(void **state)
{
	__u8 bytes[IPV6_LENGTH + DATA_LENGTH];
	size_t length;

	(void)state;
	for (int ipv4 = 0; ipv4 < 2; ipv4++) {
		length = data_packet(bytes, ipv4, DATA_LENGTH, false);
		assert_true(packet_renew_segment(bytes, length));
		for (size_t i = length - sizeof(tcp_header) - DATA_LENGTH; i < length; i++) {
			data_packet(bytes, ipv4, DATA_LENGTH, false);
			bytes[i] ^= 0x04;
			assert_false(packet_renew_segment(bytes, length));
		}
		/* Of a start of one nobody can tell, unless the kernel has. */
		assert_false(packet_renew_segment(bytes, data_packet(bytes, ipv4, DATA_LENGTH - 1, false)));
	}
}

static void signed_one_is_taken_as_a_whole_only(void **state)
{
	static const __u8 kinds[] = { 19, 29 };
	__u8 bytes[IPV6_LENGTH + DATA_LENGTH];
	size_t length;

	(void)state;
	for (size_t i = 0; i < sizeof(kinds); i++) {
		length = data_packet(bytes, true, DATA_LENGTH, true);
		bytes[46] = kinds[i];
		assert_true(packet_renew_segment(bytes, length));
		length = data_packet(bytes, true, DATA_LENGTH - 1, true);
		bytes[46] = kinds[i];
		assert_false(packet_renew_segment(bytes, length));
	}
}

static void other_segments_are_refused(void **state)
{
	static const struct {
		size_t offset;
		__u8 value;
	} spoilt[] = {
		{ 0, 0x35 },  /* no IP version */
		{ 3, 60 },    /* shorter than what there is */
		{ 9, 17 },    /* UDP */
		{ 32, 0x40 }, /* a header shorter than one can be */
		{ 32, 0xf0 }, /* and longer than the packet, as much as that is */
		{ 33, 0x02 }, /* SYN */
		{ 33, 0x12 }, /* SYN-ACK */
		{ 33, 0x14 }, /* RST */
		{ 33, 0x01 }, /* no ACK */
	};
	__u8 bytes[IPV6_LENGTH + DATA_LENGTH];

	(void)state;
	for (size_t i = 0; i < sizeof(spoilt) / sizeof(spoilt[0]); i++) {
		size_t length = data_packet(bytes, true, DATA_LENGTH, true);

		bytes[spoilt[i].offset] = spoilt[i].value;
		if (packet_renew_segment(bytes, length))
			fail_msg("byte %zu as %#x", spoilt[i].offset, spoilt[i].value);
	}
	for (size_t length = 0; length < IPV4_LENGTH; length++) {
		data_packet(bytes, true, 0, true);
		assert_false(packet_renew_segment(bytes, length));
	}
}

static void probe_asks_as_keepalive_does(void **state)
{
	static const __u8 ipv4[40] = { 0x45, 0, 0, 40, 0, 0, 0x40, 0, 255, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
				       0x9c, 0x40, 0x5d, 0xc0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 0x50, 0x10,
				       0, 1 };
	static const __u8 ipv6[60] = { 0x60, 0, 0, 0, 0, 20, 6, 255, 0xfd, [23] = 1, [24] = 0xfd, [39] = 2,
				       0x9c, 0x40, 0x5d, 0xc0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 0x50, 0x10,
				       0, 1 };
	struct packet_ends ends = { .local_port = 40000,
				    .remote_port = 24000,
				    .unacknowledged = 0,
				    .expected = 0x01020304 };
	__u8 bytes[PACKET_PROBE_MAX];

	(void)state;
	ends.local = address_from_ipv4(htonl(0x0a000001));
	ends.remote = address_from_ipv4(htonl(0x0a000002));
	assert_int_equal(packet_probe(&ends, bytes), sizeof(ipv4));
	assert_int_equal(sum(bytes + 12, 8, bytes + 20, 20), 0xffff);
	memset(bytes + 36, 0, 2);
	assert_memory_equal(bytes, ipv4, sizeof(ipv4));
	ends.local = address_from_ipv6(htonl(0xfd000000), 0, 0, htonl(1));
	ends.remote = address_from_ipv6(htonl(0xfd000000), 0, 0, htonl(2));
	assert_int_equal(packet_probe(&ends, bytes), sizeof(ipv6));
	assert_int_equal(sum(bytes + 8, 32, bytes + 40, 20), 0xffff);
	memset(bytes + 56, 0, 2);
	assert_memory_equal(bytes, ipv6, sizeof(ipv6));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gets_its_checksum_and_grows_older),
		cmocka_unit_test(goes_where_it_says),
		cmocka_unit_test(others_are_refused),
		cmocka_unit_test(segment_is_whole_with_what_there_is_of_it),
		cmocka_unit_test(damaged_one_is_refused),
		cmocka_unit_test(signed_one_is_taken_as_a_whole_only),
		cmocka_unit_test(other_segments_are_refused),
		cmocka_unit_test(probe_asks_as_keepalive_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
