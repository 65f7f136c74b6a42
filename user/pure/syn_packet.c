// SPDX-License-Identifier: BSD-2-Clause
/* A SYN, as a packet. See syn_packet.h. */
#include "pure/syn_packet.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <string.h>

/* Options (RFC 9293, section 3.2; RFC 7323; RFC 5925). */
#define OPTION_END 0
#define OPTION_NOTHING 1
#define OPTION_TIMESTAMP 8
#define OPTION_TIMESTAMP_LENGTH 10
#define OPTION_AUTHENTICATION 29

/* The sum of 16-bit words, network byte order, before it is folded. */
static __u32 sum_of(const __u8 *bytes, size_t length, __u32 sum)
{
	size_t i;

	for (i = 0; i + 1 < length; i += 2)
		sum += (__u32)(bytes[i] << 8 | bytes[i + 1]);
	return length % 2 ? sum + (__u32)(bytes[length - 1] << 8) : sum;
}

static __u16 fold(__u32 sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((__u16)~sum);
}

/* False: the options are not what they should be, or signed. */
static bool options_renew(__u8 *options, size_t length, __u32 aged_ms)
{
	size_t i = 0;
	__u32 value;

	while (i < length && options[i] != OPTION_END) {
		if (options[i] == OPTION_NOTHING) {
			i++;
			continue;
		}
		if (options[i] == OPTION_AUTHENTICATION || i + 1 >= length || options[i + 1] < 2 ||
		    i + options[i + 1] > length)
			return false;
		if (options[i] == OPTION_TIMESTAMP && options[i + 1] == OPTION_TIMESTAMP_LENGTH) {
			memcpy(&value, &options[i + 2], sizeof(value));
			value = htonl(ntohl(value) + aged_ms);
			memcpy(&options[i + 2], &value, sizeof(value));
		}
		i += options[i + 1];
	}
	return true;
}

bool syn_packet_renew(__u8 *bytes, size_t length, __u32 aged_ms)
{
	size_t start, addresses, address_length, tcp_length;
	__u32 sum;
	__u16 checksum;
	__u8 *tcp;

	if (length && bytes[0] >> 4 == 4) {
		start = (size_t)(bytes[0] & 0xf) * 4;
		addresses = offsetof(struct iphdr, saddr);
		address_length = 8;
		if (length < sizeof(struct iphdr) || bytes[offsetof(struct iphdr, protocol)] != IPPROTO_TCP)
			return false;
	} else if (length && bytes[0] >> 4 == 6) {
		start = sizeof(struct ip6_hdr);
		addresses = offsetof(struct ip6_hdr, ip6_src);
		address_length = 32;
		if (length < start || bytes[offsetof(struct ip6_hdr, ip6_nxt)] != IPPROTO_TCP)
			return false;
	} else {
		return false;
	}
	if (start < sizeof(struct iphdr) || length < start + sizeof(struct tcphdr))
		return false;
	tcp = bytes + start;
	tcp_length = length - start;
	/* All of it is header, and of the flags, SYN without ACK, RST and FIN. */
	if ((size_t)(tcp[12] >> 4) * 4 != tcp_length || (tcp[13] & 0x17) != 0x02)
		return false;
	if (!options_renew(tcp + sizeof(struct tcphdr), tcp_length - sizeof(struct tcphdr), aged_ms))
		return false;
	memset(tcp + offsetof(struct tcphdr, th_sum), 0, sizeof(checksum));
	sum = sum_of(bytes + addresses, address_length, IPPROTO_TCP + (__u32)tcp_length);
	checksum = fold(sum_of(tcp, tcp_length, sum));
	memcpy(tcp + offsetof(struct tcphdr, th_sum), &checksum, sizeof(checksum));
	return true;
}

struct peer_address syn_packet_destination(const __u8 *bytes)
{
	__u32 words[4];

	if (bytes[0] >> 4 == 4) {
		memcpy(words, bytes + offsetof(struct iphdr, daddr), sizeof(words[0]));
		return address_from_ipv4(words[0]);
	}
	memcpy(words, bytes + offsetof(struct ip6_hdr, ip6_dst), sizeof(words));
	return address_from_ipv6(words[0], words[1], words[2], words[3]);
}
