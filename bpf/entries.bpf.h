/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How a peer gets its entry in the map, and when it gets none.
 *
 * Whoever is named gets one while there is room. Of those that only a dial or a link shows, a network has its share of
 * the map and no more (guard_policy.network_peers): a visitor may have 2^64 addresses. The place is taken before the
 * entry is made and given back after it is gone, so that the tally may be too high for a moment and is never too low.
 */
#ifndef CONNGUARD_ENTRIES_BPF_H
#define CONNGUARD_ENTRIES_BPF_H

#include "maps.bpf.h"

/* The halves of an address, to pass it as scalars. */
static __always_inline __u64 address_high(const struct peer_address *address)
{
	__u64 half;

	__builtin_memcpy(&half, &address->bytes[0], sizeof(half));
	return half;
}

static __always_inline __u64 address_low(const struct peer_address *address)
{
	__u64 half;

	__builtin_memcpy(&half, &address->bytes[8], sizeof(half));
	return half;
}

static __always_inline struct peer_address address_of_halves(__u64 high, __u64 low, __u16 service)
{
	struct peer_address address = { .service = service };

	__builtin_memcpy(&address.bytes[0], &high, sizeof(high));
	__builtin_memcpy(&address.bytes[8], &low, sizeof(low));
	return address;
}

/*
 * Peers of which nothing is known yet: a value is larger than a BPF stack. peer_is() gives them their addresses. That
 * one is counted is there from its first moment: whoever deletes it knows that it has a place. Bytes, for a variable
 * of the type would have a lock in the wrong kind of map.
 */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define FLAGS_LOW_BYTE __builtin_offsetof(struct peer, flags)
#else
#define FLAGS_LOW_BYTE (__builtin_offsetof(struct peer, flags) + sizeof(__u32) - 1)
#endif
static const __u8 blank_peer[sizeof(struct peer)] = {};
static const __u8 counted_peer[sizeof(struct peer)] = { [FLAGS_LOW_BYTE] = PEER_COUNTED };

/* What there is for a newcomer in its network. */
enum place {
	PLACE_NONE,        /* all are taken */
	PLACE_TAKEN,       /* one, which is given back when the entry goes */
	PLACE_NOT_COUNTED, /* the network is not bounded, or cannot be counted */
};

/*
 * A newcomer, and before the upper half of its address, which is its network, what makes of both a tally of which
 * nobody has a place: one piece of the little stack that there is.
 */
struct newcomer {
	__u64 none_taken; /* 0 */
	struct peer_address address;
};

_Static_assert(__builtin_offsetof(struct newcomer, address) == __builtin_offsetof(struct network_tally, network) &&
		       sizeof(struct network_tally) == 16, "a newcomer begins as a tally");

/* Is it that of this address's network, and not being deleted? Locked by the caller. */
static __always_inline int tally_is_of(const struct network_tally *tally, const struct peer_address *address)
{
	__u64 network;

	__builtin_memcpy(&network, &tally->network, sizeof(network));
	return network == address_high(address);
}

/*
 * Take one of the `max` places of the newcomer's network. Without memory for a tally, or beside its deletion, the
 * newcomer is guarded all the same.
 */
static __always_inline enum place network_take(const struct newcomer *newcomer, __u32 max)
{
	struct network_tally *tally = bpf_map_lookup_elem(&networks, &newcomer->address);
	enum place place = PLACE_NOT_COUNTED;

	if (!tally) {
		/* -EEXIST: another CPU was faster. */
		bpf_map_update_elem(&networks, &newcomer->address, newcomer, BPF_NOEXIST);
		tally = bpf_map_lookup_elem(&networks, &newcomer->address);
	}
	if (!tally)
		return place;
	bpf_spin_lock(&tally->lock);
	if (tally_is_of(tally, &newcomer->address)) {
		place = tally->peers < max ? PLACE_TAKEN : PLACE_NONE;
		if (place == PLACE_TAKEN)
			tally->peers++;
	}
	bpf_spin_unlock(&tally->lock);
	return place;
}

/* Give a place in the network of this address back; who gives back the last one takes the tally away. */
static __always_inline void network_leave(const struct peer_address *address)
{
	struct network_tally *tally = bpf_map_lookup_elem(&networks, address);
	int last = 0;

	if (!tally)
		return;
	bpf_spin_lock(&tally->lock);
	if (tally_is_of(tally, address) && tally->peers) {
		tally->peers--;
		last = !tally->peers;
		/* Nobody takes a place in it any more. */
		if (last)
			__builtin_memset(&tally->network, 0, sizeof(tally->network));
	}
	bpf_spin_unlock(&tally->lock);
	if (last)
		bpf_map_delete_elem(&networks, address);
}

/*
 * Make the entry of a peer that is learned, if there is room. 0: its network has all its `max` places (0: any number);
 * else 1. A global function of scalars, see owned.bpf.h; those that call it leave it 32 bytes of stack.
 */
__weak __attribute__((noinline)) int peer_make(__u64 high, __u64 low, __u32 service, __u32 max)
{
	struct newcomer newcomer = { .address = address_of_halves(high, low, service) };
	enum place place = PLACE_NOT_COUNTED;
	long error;

	if (max && address_is_counted(&newcomer.address))
		place = network_take(&newcomer, max);
	/* Else clang writes what follows once for each place, and keeps an address on the stack for it. */
	barrier_var(place);
	if (place == PLACE_NONE)
		return 0;
	error = bpf_map_update_elem(&peers, &newcomer.address, place == PLACE_TAKEN ? counted_peer : blank_peer,
				    BPF_NOEXIST);
	/* -EEXIST: another CPU was faster, and its entry has a place of its own. */
	if (error && place == PLACE_TAKEN)
		network_leave(&newcomer.address);
	return 1;
}

/*
 * The peer of this address, which a dial or a link shows: added when missing. NULL: the map is full, its network has
 * its share, or memory is short.
 */
static __always_inline struct peer *peer_learn(const struct peer_address *address,
					       const struct guard_policy *rules)
{
	struct peer *peer = bpf_map_lookup_elem(&peers, address);

	if (peer)
		return peer;
	if (!peer_make(address_high(address), address_low(address), address->service, rules->network_peers))
		return 0;
	return bpf_map_lookup_elem(&peers, address);
}

/* The same of a peer that a person names: never for want of a place. */
static __always_inline struct peer *peer_name(const struct peer_address *address)
{
	struct peer *peer = bpf_map_lookup_elem(&peers, address);

	if (peer)
		return peer;
	/* -EEXIST means that another CPU was faster: the second look-up finds its entry. */
	bpf_map_update_elem(&peers, address, blank_peer, BPF_NOEXIST);
	return bpf_map_lookup_elem(&peers, address);
}

#endif
