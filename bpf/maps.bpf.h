/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every map of the guard, defined once.
 *
 * The definitions are weak, so that each hook's object file holds them and the linker makes one of
 * each. Owns the maps and the look-ups that every hook needs; decides nothing.
 */
#ifndef CONNGUARD_MAPS_BPF_H
#define CONNGUARD_MAPS_BPF_H

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include <connguard/rules.h>

/* Capacity of a guard loaded with bpftool; the daemon sets its own (`max_peers`). */
#define PEERS_DEFAULT 8192
#define PORTS_MAX 64
#define EXEMPT_MAX 1024
#define ADOPTIONS_MAX 65536
#define NUDGES_MAX 1024
#define EVENTS_BYTES (1 << 20)
/* Two peers that share an element lose a hold, nothing else. */
#define HANDSHAKES_BITS 12
#define HANDSHAKES (1 << HANDSHAKES_BITS)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct guard_layout);
} layout __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, enum guard_mode);
} mode __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct guard_policy);
} policy __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct guard_daemon);
} daemon __weak SEC(".maps");

/* Guarded ports, host byte order: what we listen on and what we dial. The value is 1. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PORTS_MAX);
	__type(key, __u16);
	__type(value, __u32);
} ports __weak SEC(".maps");

/* A plain hash, not an LRU: an LRU evicts live entries (edge case 29). */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PEERS_DEFAULT);
	__type(key, struct peer_address);
	__type(value, struct peer);
} peers __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, EXEMPT_MAX);
	__type(key, struct exempt_prefix);
	__type(value, struct exempt_value);
} exempt __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct owned_slot);
} sockets __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HANDSHAKES);
	__type(key, __u32);
	__type(value, struct pending_handshake);
} handshakes __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, ADOPTIONS_MAX);
	__type(key, __u64);
	__type(value, struct adoption);
} adoptions __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, NUDGES_MAX);
	__type(key, __u64);
	__type(value, struct link_nudge);
} nudges __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS_COUNT);
	__type(key, __u32);
	__type(value, struct guard_counters);
} counters __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENTS_BYTES);
} events __weak SEC(".maps");

/*
 * The policy in force. NULL: none was written yet, the guard is being loaded: let everything pass.
 */
static __always_inline const struct guard_policy *policy_in_force(void)
{
	__u32 zero = 0;
	const struct guard_policy *configured = bpf_map_lookup_elem(&policy, &zero);

	return configured && configured->set ? configured : 0;
}

/* The mode in force. */
static __always_inline enum guard_mode mode_in_force(void)
{
	__u32 zero = 0;
	const enum guard_mode *value = bpf_map_lookup_elem(&mode, &zero);

	return value ? *value : MODE_OFF;
}

/* 1 when the guard is about this port (host byte order). */
static __always_inline int port_guarded(__u16 port)
{
	return bpf_map_lookup_elem(&ports, &port) != 0;
}

/* How the exempt map sees an address. */
enum exemption {
	EXEMPT_NOT,
	EXEMPT_PEER, /* a peer that is never refused; its links are tracked all the same */
	EXEMPT_SELF, /* this host: no peer at all (edge case 26) */
};

static __always_inline enum exemption exemption_of(const struct peer_address *address, __u64 now)
{
	struct exempt_prefix key = { .prefix_length = 128 };
	__u64 loopback = address_is_loopback(address);
	const struct exempt_value *value;
	__u64 in_force;

	__builtin_memcpy(key.address, address->bytes, sizeof(key.address));
	value = bpf_map_lookup_elem(&exempt, &key);
	if (!value)
		return pick(loopback, EXEMPT_SELF, EXEMPT_NOT);
	in_force = before(now, value->until_ns) | same(value->until_ns, NEVER_ENDS_NS);
	return pick(loopback, EXEMPT_SELF,
		    pick(in_force, pick(value->own, EXEMPT_SELF, EXEMPT_PEER), EXEMPT_NOT));
}

/*
 * 1 while the daemon is there to announce peers as due: without it the central dial policy would
 * lock every peer out.
 */
static __always_inline int daemon_alive(__u64 now)
{
	__u32 zero = 0;
	const struct guard_daemon *value = bpf_map_lookup_elem(&daemon, &zero);

	return value && value->alive_until_ns > now;
}

/*
 * The peer's element of the handshake table, or NULL. It has two places to choose from: the one that
 * is its own, else the first, unless that one is another's and the second is free. So hundreds of
 * peers that knock at the same time hardly ever are without one. Looked at here without the locks:
 * whose the element is must be asked again under its lock, and the rules do.
 */
static __always_inline struct pending_handshake *
handshake_of(const struct peer_address *address, __u64 now)
{
	const struct pending_handshake *one, *other;
	__u32 first, second, place;
	__u64 words[2], hash;

	__builtin_memcpy(words, address->bytes, sizeof(words));
	/* Multiplicative hashing: a product's top bits depend on all bits, once the top is folded in. */
	hash = words[0] ^ words[1];
	hash ^= hash >> 32;
	hash *= 0x9e3779b97f4a7c15ULL;
	first = hash >> (64 - HANDSHAKES_BITS);
	second = (hash >> (64 - 2 * HANDSHAKES_BITS)) & (HANDSHAKES - 1);
	one = bpf_map_lookup_elem(&handshakes, &first);
	other = bpf_map_lookup_elem(&handshakes, &second);
	if (!one || !other)
		return 0;
	place = pick(address_equal(&one->address, address), first,
		     pick(address_equal(&other->address, address) |
				  (before(now, one->until_ns) & (1 ^ before(now, other->until_ns))),
			  second, first));
	return bpf_map_lookup_elem(&handshakes, &place);
}

/*
 * A peer of which nothing is known yet: its value is larger than a BPF stack. peer_is() gives it
 * its address.
 */
static const __u8 blank_peer[sizeof(struct peer)] = {};

/* The peer of this address, added when missing. NULL: the map is full or memory is short. */
static __always_inline struct peer *peer_get(const struct peer_address *address)
{
	struct peer *peer = bpf_map_lookup_elem(&peers, address);

	if (peer)
		return peer;
	/* -EEXIST means that another CPU was faster: the second look-up finds its entry. */
	bpf_map_update_elem(&peers, address, blank_peer, BPF_NOEXIST);
	return bpf_map_lookup_elem(&peers, address);
}

#endif
