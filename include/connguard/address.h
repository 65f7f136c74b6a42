/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The identity of a peer: its address, one form for IPv4, IPv6 and IPv4-mapped IPv6, and the service
 * it speaks to.
 *
 * Owns the layout of the key and the few questions that can be asked of it without a map or a
 * clock. Knows nothing of peers, policies or sockets. Compiles for BPF and for userspace.
 */
#ifndef CONNGUARD_ADDRESS_H
#define CONNGUARD_ADDRESS_H

#include <linux/types.h>

#include <connguard/arithmetic.h>

/*
 * A peer's address in network byte order. An IPv4 address a.b.c.d is held as ::ffff:a.b.c.d, so
 * that one host has one key whichever socket family reached it. The scope of a
 * link-local address is not part of the key: the connect hook cannot see it.
 */
struct peer_address {
	__u8 bytes[16];
	/*
	 * The service that the peer is a peer of, by its port in host byte order: what it has at one
	 * is no duplicate of what it has at another. 0: one for all ports (share_limit), or of no
	 * matter, as in an address that a person names.
	 */
	__u16 service;
	__u16 reserved[3]; /* 0 */
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct peer_address) == 24, "the peer key is 24 bytes");

/* The key of an IPv4 address given as a 32-bit word in network byte order. */
static __always_inline struct peer_address address_from_ipv4(__u32 network_order)
{
	struct peer_address address = { .bytes = { [10] = 0xff, [11] = 0xff } };

	__builtin_memcpy(&address.bytes[12], &network_order, sizeof(network_order));
	return address;
}

/*
 * The key of an IPv6 address given as four 32-bit words in network byte order; a mapped IPv4
 * address needs no change.
 */
static __always_inline struct peer_address address_from_ipv6(__u32 word0, __u32 word1, __u32 word2,
							     __u32 word3)
{
	struct peer_address address = {};

	__builtin_memcpy(&address.bytes[0], &word0, sizeof(word0));
	__builtin_memcpy(&address.bytes[4], &word1, sizeof(word1));
	__builtin_memcpy(&address.bytes[8], &word2, sizeof(word2));
	__builtin_memcpy(&address.bytes[12], &word3, sizeof(word3));
	return address;
}

/* 1 when both are of one host, whatever the service, else 0. */
static __always_inline int address_same_host(const struct peer_address *left,
					     const struct peer_address *right)
{
	__u64 left_words[2], right_words[2];

	__builtin_memcpy(left_words, left->bytes, sizeof(left_words));
	__builtin_memcpy(right_words, right->bytes, sizeof(right_words));
	return same(left_words[0], right_words[0]) & same(left_words[1], right_words[1]);
}

/* 1 when both keys name the same peer of the same service, else 0. */
static __always_inline int address_equal(const struct peer_address *left,
					 const struct peer_address *right)
{
	return address_same_host(left, right) & same(left->service, right->service);
}

/* 1 for ::, that of an event which is about no peer, else 0. */
static __always_inline int address_is_nobody(const struct peer_address *address)
{
	const struct peer_address nobody = {};

	return address_same_host(address, &nobody);
}

/* 1 for ::ffff:0:0/96, else 0. */
static __always_inline int address_is_ipv4(const struct peer_address *address)
{
	__u64 high;
	__u32 third;

	__builtin_memcpy(&high, &address->bytes[0], sizeof(high));
	__builtin_memcpy(&third, &address->bytes[8], sizeof(third));
	return same(high, 0) & same(third, (__u32)__builtin_bswap32(0x0000ffff));
}

/*
 * The network that a visitor has with an IPv6 address: its upper 64 bits, below which a host chooses for itself
 * (RFC 4291, section 2.5.4). Network byte order.
 */
struct peer_network {
	__u8 bytes[8];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct peer_network) == 8, "the network key is 8 bytes");

/* The network of an address, whatever the service. */
static __always_inline struct peer_network network_of(const struct peer_address *address)
{
	struct peer_network network;

	__builtin_memcpy(network.bytes, address->bytes, sizeof(network.bytes));
	return network;
}

/* 1 when both are the same, else 0. */
static __always_inline int network_equal(const struct peer_network *left, const struct peer_network *right)
{
	__u64 left_word, right_word;

	__builtin_memcpy(&left_word, left->bytes, sizeof(left_word));
	__builtin_memcpy(&right_word, right->bytes, sizeof(right_word));
	return same(left_word, right_word);
}

/*
 * 1 when the learned peers of the address's network are bounded in number, else 0. Not those of IPv4, where a visitor
 * has as many addresses as somebody has given them, nor those of 64:ff9b::/32, behind which a translator has all of
 * IPv4 in one network (RFC 6052, RFC 8215).
 */
static __always_inline int address_is_counted(const struct peer_address *address)
{
	const struct peer_network none = {};
	struct peer_network network = network_of(address);
	int translated = same(network.bytes[0], 0) & same(network.bytes[1], 0x64) &
			 same(network.bytes[2], 0xff) & same(network.bytes[3], 0x9b);

	return (1 ^ network_equal(&network, &none)) & (1 ^ translated);
}

/* 1 for 127.0.0.0/8, ::1, 0.0.0.0/8 and :: ("this host", RFC 1122 section 3.2.1.3), else 0. */
static __always_inline int address_is_loopback(const struct peer_address *address)
{
	__u64 high, low;

	__builtin_memcpy(&high, &address->bytes[0], sizeof(high));
	__builtin_memcpy(&low, &address->bytes[8], sizeof(low));
	return (address_is_ipv4(address) &
		(same(address->bytes[12], 127) | same(address->bytes[12], 0))) |
	       (same(high, 0) & (same(low, 0) | same(low, __builtin_bswap64(1))));
}

/*
 * 1 for what a peer can have: neither loopback nor unspecified nor, from 224.0.0.0 and ff00:: on,
 * multicast, reserved or broadcast. For addresses that a person names.
 */
static __always_inline int address_may_be_peer(const struct peer_address *address)
{
	if (address_is_loopback(address))
		return 0;
	return address_is_ipv4(address) ? address->bytes[12] < 224 : address->bytes[0] != 0xff;
}

#endif
