// SPDX-License-Identifier: BSD-2-Clause
/* TCP segments as packets. See packet.h. */
#include "pure/packet.h"

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
#define OPTION_MD5 19
#define OPTION_AUTHENTICATION 29

/* Places in the TCP header (RFC 9293, section 3.1). */
#define TCP_OFFSET 12
#define TCP_FLAGS 13
#define FLAGS_LOOKED_AT (TH_SYN | TH_ACK | TH_RST | TH_FIN)

#define HOP_LIMIT 255

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

/* Of the pseudo header (RFC 9293, section 3.1), over both addresses as they stand in the IP header. */
static __u32 pseudo_sum(const __u8 *addresses, size_t address_length, size_t tcp_length)
{
	return sum_of(addresses, address_length, IPPROTO_TCP + (__u32)tcp_length);
}

static void put_checksum(const __u8 *addresses, size_t address_length, __u8 *tcp, size_t tcp_length)
{
	__u16 checksum;

	memset(tcp + offsetof(struct tcphdr, th_sum), 0, sizeof(checksum));
	checksum = fold(sum_of(tcp, tcp_length, pseudo_sum(addresses, address_length, tcp_length)));
	memcpy(tcp + offsetof(struct tcphdr, th_sum), &checksum, sizeof(checksum));
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

static bool options_have(const __u8 *options, size_t length, __u8 kind)
{
	size_t i = 0;

	while (i < length && options[i] != OPTION_END && options[i] != kind)
		i += options[i] == OPTION_NOTHING || i + 1 >= length || !options[i + 1] ? 1 : options[i + 1];
	return i < length && options[i] == kind;
}

/* A packet, taken apart. */
struct layers {
	__u8 *addresses, *tcp;
	size_t address_length;
	size_t tcp_length;  /* of what there is, from the TCP header on */
	size_t tcp_options; /* bytes of options behind the TCP header */
	size_t start;       /* bytes before the TCP header */
	size_t total;       /* of the packet, as its IP header has it */
};

/* False: it is no plain TCP segment, or its headers are not there as a whole. */
static bool take_apart(__u8 *bytes, size_t length, struct layers *ret_layers)
{
	size_t start, header;
	__be16 total;

	if (length >= sizeof(struct iphdr) && bytes[0] >> 4 == 4) {
		start = (size_t)(bytes[0] & 0xf) * 4;
		ret_layers->addresses = bytes + offsetof(struct iphdr, saddr);
		ret_layers->address_length = 8;
		memcpy(&total, bytes + offsetof(struct iphdr, tot_len), sizeof(total));
		ret_layers->total = ntohs(total);
		if (bytes[offsetof(struct iphdr, protocol)] != IPPROTO_TCP)
			return false;
	} else if (length >= sizeof(struct ip6_hdr) && bytes[0] >> 4 == 6) {
		start = sizeof(struct ip6_hdr);
		ret_layers->addresses = bytes + offsetof(struct ip6_hdr, ip6_src);
		ret_layers->address_length = 32;
		memcpy(&total, bytes + offsetof(struct ip6_hdr, ip6_plen), sizeof(total));
		ret_layers->total = start + ntohs(total);
		if (bytes[offsetof(struct ip6_hdr, ip6_nxt)] != IPPROTO_TCP)
			return false;
	} else {
		return false;
	}
	if (start < sizeof(struct iphdr) || length < start + sizeof(struct tcphdr))
		return false;
	ret_layers->start = start;
	ret_layers->tcp = bytes + start;
	ret_layers->tcp_length = length - start;
	header = (size_t)(ret_layers->tcp[TCP_OFFSET] >> 4) * 4;
	if (header < sizeof(struct tcphdr) || header > ret_layers->tcp_length)
		return false;
	ret_layers->tcp_options = header - sizeof(struct tcphdr);
	return true;
}

static void renew_checksum(const struct layers *layers)
{
	put_checksum(layers->addresses, layers->address_length, layers->tcp, layers->tcp_length);
}

bool packet_renew_syn(__u8 *bytes, size_t length, __u32 aged_ms)
{
	struct layers layers;

	if (!take_apart(bytes, length, &layers) || (layers.tcp[TCP_FLAGS] & FLAGS_LOOKED_AT) != TH_SYN ||
	    sizeof(struct tcphdr) + layers.tcp_options != layers.tcp_length ||
	    !options_renew(layers.tcp + sizeof(struct tcphdr), layers.tcp_options, aged_ms))
		return false;
	renew_checksum(&layers);
	return true;
}

/*
 * Has nothing on its way changed it? Its checksum says so, or somebody has seen that before: of a packet that was put
 * together from several, or that comes from this very host, it is the pseudo header's alone.
 */
static bool is_sound(const struct layers *layers)
{
	const size_t tcp_total = layers->total - layers->start;
	const __u32 pseudo = pseudo_sum(layers->addresses, layers->address_length, tcp_total);
	const __u16 bare = (__u16)~fold(pseudo);
	__u16 stored;

	memcpy(&stored, layers->tcp + offsetof(struct tcphdr, th_sum), sizeof(stored));
	return stored == bare ||
	       (tcp_total == layers->tcp_length && fold(sum_of(layers->tcp, tcp_total, pseudo)) == 0);
}

bool packet_renew_segment(__u8 *bytes, size_t length)
{
	struct layers layers;
	__be16 total;

	if (!take_apart(bytes, length, &layers) ||
	    (layers.tcp[TCP_FLAGS] & (TH_SYN | TH_RST | TH_ACK)) != TH_ACK || layers.total < length ||
	    !is_sound(&layers))
		return false;
	if (layers.total > length) {
		if (options_have(layers.tcp + sizeof(struct tcphdr), layers.tcp_options, OPTION_MD5) ||
		    options_have(layers.tcp + sizeof(struct tcphdr), layers.tcp_options, OPTION_AUTHENTICATION))
			return false;
		layers.tcp[TCP_FLAGS] &= (__u8)~TH_FIN;
		/* Of IPv4 the kernel adds it. */
		total = htons((__u16)(length - sizeof(struct ip6_hdr)));
		if (bytes[0] >> 4 == 6)
			memcpy(bytes + offsetof(struct ip6_hdr, ip6_plen), &total, sizeof(total));
	}
	renew_checksum(&layers);
	return true;
}

struct peer_address packet_destination(const __u8 *bytes)
{
	__u32 words[4];

	if (bytes[0] >> 4 == 4) {
		memcpy(words, bytes + offsetof(struct iphdr, daddr), sizeof(words[0]));
		return address_from_ipv4(words[0]);
	}
	memcpy(words, bytes + offsetof(struct ip6_hdr, ip6_dst), sizeof(words));
	return address_from_ipv6(words[0], words[1], words[2], words[3]);
}

size_t packet_probe(const struct packet_ends *ends, __u8 ret_bytes[PACKET_PROBE_MAX])
{
	struct tcphdr tcp = { .th_sport = htons(ends->local_port),
			      .th_dport = htons(ends->remote_port),
			      .th_seq = htonl(ends->unacknowledged - 1),
			      .th_ack = htonl(ends->expected),
			      .th_off = sizeof(tcp) / 4,
			      .th_flags = TH_ACK,
			      /* Nobody reads it: the number is not one that comes next. */
			      .th_win = htons(1) };
	struct ip6_hdr ipv6 = { .ip6_nxt = IPPROTO_TCP,
				.ip6_hlim = HOP_LIMIT,
				.ip6_plen = htons(sizeof(tcp)) };
	/* The kernel adds the checksum of this header. */
	struct iphdr ipv4 = { .version = 4,
			      .ihl = sizeof(ipv4) / 4,
			      .ttl = HOP_LIMIT,
			      .protocol = IPPROTO_TCP,
			      .frag_off = htons(IP_DF),
			      .tot_len = htons(sizeof(ipv4) + sizeof(tcp)) };
	size_t start, addresses;

	if (address_is_ipv4(&ends->remote)) {
		memcpy(&ipv4.saddr, &ends->local.bytes[12], sizeof(ipv4.saddr));
		memcpy(&ipv4.daddr, &ends->remote.bytes[12], sizeof(ipv4.daddr));
		memcpy(ret_bytes, &ipv4, sizeof(ipv4));
		start = sizeof(ipv4);
		addresses = offsetof(struct iphdr, saddr);
	} else {
		ipv6.ip6_vfc = 6 << 4;
		memcpy(&ipv6.ip6_src, ends->local.bytes, sizeof(ipv6.ip6_src));
		memcpy(&ipv6.ip6_dst, ends->remote.bytes, sizeof(ipv6.ip6_dst));
		memcpy(ret_bytes, &ipv6, sizeof(ipv6));
		start = sizeof(ipv6);
		addresses = offsetof(struct ip6_hdr, ip6_src);
	}
	memcpy(ret_bytes + start, &tcp, sizeof(tcp));
	put_checksum(ret_bytes + addresses, start - addresses, ret_bytes + start, sizeof(tcp));
	return start + sizeof(tcp);
}
