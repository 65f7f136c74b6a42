// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: any bytes as a packet that the kernel side has kept, a SYN or the last ACK of a handshake with data.
 *
 * They are what others have sent. What is taken has a checksum that is right, and is taken again as it is; what is not
 * is left unsent.
 */
#include "input.h"

#include <netinet/in.h>
#include <netinet/ip6.h>

#include "pure/packet.h"

static size_t start_of_tcp(const __u8 *bytes)
{
	return bytes[0] >> 4 == 4 ? (size_t)(bytes[0] & 0xf) * 4 : sizeof(struct ip6_hdr);
}

/* The sum of RFC 1071 over the pseudo header of `tcp_length` bytes and what there is of them, `length` counted from the
 * IP header: 0xffff where all is there and the checksum is right. */
static unsigned int sum(const __u8 *bytes, size_t tcp_length, size_t length)
{
	size_t start = start_of_tcp(bytes);
	size_t addresses = bytes[0] >> 4 == 4 ? 12 : 8, behind = bytes[0] >> 4 == 4 ? 20 : 40;
	unsigned int total = IPPROTO_TCP + (unsigned int)tcp_length;

	for (size_t i = addresses; i < behind; i++)
		total += (unsigned int)bytes[i] << (i % 2 ? 0 : 8);
	for (size_t i = start; i < length; i++)
		total += (unsigned int)bytes[i] << ((i - start) % 2 ? 0 : 8);
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return total;
}

/* As the kernel leaves it, the sum of the pseudo header alone, which no fuzzer finds. */
static void seal(__u8 *bytes, size_t length)
{
	size_t start, total;
	unsigned int checksum;

	if (length < 40)
		return;
	start = start_of_tcp(bytes);
	total = bytes[0] >> 4 == 4 ? (size_t)(bytes[2] << 8 | bytes[3]) : (size_t)(bytes[4] << 8 | bytes[5]) + start;
	if (start + 18 > length || total < start)
		return;
	checksum = sum(bytes, total - start, 0);
	bytes[start + 16] = (__u8)(checksum >> 8);
	bytes[start + 17] = (__u8)checksum;
}

static bool renewed(__u8 *bytes, size_t length, bool syn)
{
	return syn ? packet_renew_syn(bytes, length, 0) : packet_renew_segment(bytes, length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Of exactly this size, so that the sanitizer sees each byte beyond. */
	__u8 *bytes = malloc(size + !size), *again = malloc(size + !size);

	must(bytes && again);
	for (int syn = 0; syn < 2; syn++) {
		memcpy(bytes, data, size);
		seal(bytes, size);
		if (!renewed(bytes, size, syn))
			continue;
		must(size >= 40 && sum(bytes, size - start_of_tcp(bytes), size) == 0xffff);
		must(bytes[0] >> 4 == 4 || bytes[0] >> 4 == 6);
		if (bytes[0] >> 4 == 6 && !syn)
			must((size_t)(bytes[4] << 8 | bytes[5]) + sizeof(struct ip6_hdr) == size);
		memcpy(again, bytes, size);
		(void)packet_destination(again);
		/* The kernel writes the length of IPv4. */
		must(renewed(again, size, syn) || (bytes[0] >> 4 == 4 && !syn));
		must(!memcmp(again, bytes, size));
	}
	free(bytes);
	free(again);
	return 0;
}
