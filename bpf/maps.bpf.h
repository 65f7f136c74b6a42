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

#define PORTS_MAX 64
#define EXEMPT_MAX 1024
/* No host has so many. An element takes memory when it is written, not before. */
#define OWN_MAX (1 << 20)
#define ADOPTIONS_MAX 65536
#define NUDGES_MAX 1024
#define SYNS_MAX 1024
/* Of more places than that the guard does not know who listens there: see sk_lookup.bpf.c. */
#define LISTENERS_MAX 1024
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

/*
 * Element of the `revival` map, struct guard_revival: written by the sock_ops hook when the service starts
 * anew, and by the `command` program.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct guard_revival);
} revival __weak SEC(".maps");

/*
 * Guarded ports, host byte order: what we listen on and what we dial. The value is the service that it
 * belongs to (peer_address.service): the port itself, or 0 where all ports share their limits.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PORTS_MAX);
	__type(key, __u16);
	__type(value, __u32);
} ports __weak SEC(".maps");

/* A plain hash, not an LRU: an LRU evicts live entries. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PEERS_DEFAULT);
	__type(key, struct peer_address);
	__type(value, struct peer);
} peers __weak SEC(".maps");

/* Room for as many as there are peers. An element takes memory while a network has any. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, PEERS_DEFAULT);
	__type(key, struct peer_network);
	__type(value, struct network_tally);
} networks __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, EXEMPT_MAX);
	__type(key, struct exempt_prefix);
	__type(value, struct exempt_value);
} exempt __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, OWN_MAX);
	__type(key, struct exempt_prefix);
	__type(value, struct own_value);
} own __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct owned_slot);
} sockets __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, LISTENERS_MAX);
	__type(key, struct listen_place);
	__type(value, struct place_listeners);
} listeners __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct listening);
} listening __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HANDSHAKES);
	__type(key, __u32);
	__type(value, struct pending_handshake);
} handshakes __weak SEC(".maps");

/* Written by whoever loads the guard, before the first program is attached. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct handshake_key);
} handshake_key __weak SEC(".maps");

/* Only dials that are kept, that go unanswered, or that leave from a port on which the service listens. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SYNS_MAX);
	__type(key, __u64);
	__type(value, struct ready_syn);
} syns __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SYNS_MAX);
	__type(key, struct peer_address);
	__type(value, struct ready_syn);
} held_syns __weak SEC(".maps");

/* A knock of the peer became a link or was refused: its sender does not wait for what was held any more. */
static __always_inline void held_syn_forget(const struct peer_address *address)
{
	bpf_map_delete_elem(&held_syns, address);
}

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

/* The service of this port (host byte order); 0 for one that is not guarded. */
static __always_inline __u16 service_of_port(__u16 port)
{
	const __u32 *service = bpf_map_lookup_elem(&ports, &port);

	return service ? *service : 0;
}

/* What failed before this is void. */
static __always_inline __u64 revived_ns(void)
{
	__u32 zero = 0;
	const struct guard_revival *value = bpf_map_lookup_elem(&revival, &zero);

	return value ? value->since_ns : 0;
}

/* Everything that failed until now is void. */
static __always_inline void revive_all(__u64 now)
{
	__u32 zero = 0;
	struct guard_revival *value = bpf_map_lookup_elem(&revival, &zero);

	if (value)
		value->since_ns = now;
}

/* A listener of the service has come up: 0 when that is one too many to matter. */
static __always_inline int service_starts(__u64 now)
{
	__u32 zero = 0;
	struct guard_revival *value = bpf_map_lookup_elem(&revival, &zero);

	return value && revival_started(value, now);
}

/*
 * Since when somebody listens where the pending handshake came to, for handshake_forget_before(); 0: nobody does, or
 * it is not known. Asked without the lock: what is another peer's by then is looked at with a time that is another's,
 * and that may be forgotten too soon.
 */
static __always_inline __u64 listener_since_ns(const struct pending_handshake *pending)
{
	const struct place_listeners *there = bpf_map_lookup_elem(&listeners, &pending->place);

	return there ? there->since_ns : 0;
}

/* How the `own` and `exempt` maps see an address. */
enum exemption {
	EXEMPT_NOT,
	EXEMPT_PEER, /* a peer that is never refused; its links are tracked all the same */
	EXEMPT_SELF, /* this host: no peer at all */
};

static __always_inline enum exemption exemption_of(const struct peer_address *address, __u64 now)
{
	struct exempt_prefix key = { .prefix_length = 128 };
	const struct exempt_value *value;
	__u64 in_force;

	__builtin_memcpy(key.address, address->bytes, sizeof(key.address));
	if (address_is_loopback(address) || bpf_map_lookup_elem(&own, &key))
		return EXEMPT_SELF;
	value = bpf_map_lookup_elem(&exempt, &key);
	if (!value)
		return EXEMPT_NOT;
	in_force = before(now, value->until_ns) | same(value->until_ns, NEVER_ENDS_NS);
	return pick(in_force, EXEMPT_PEER, EXEMPT_NOT);
}

/* What can be expected of the daemon. */
struct daemon_signs {
	__u32 alive; /* 1: it is there to announce peers as due, and to end what is to end */
	__u32 asks;  /* 1: and to ask quiet links for a sign of life */
};

static __always_inline struct daemon_signs daemon_signs(__u64 now)
{
	__u32 zero = 0;
	const struct guard_daemon *value = bpf_map_lookup_elem(&daemon, &zero);
	struct daemon_signs signs = {};

	if (value && value->alive_until_ns > now) {
		signs.alive = 1;
		signs.asks = value->asks;
	}
	return signs;
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
	const struct handshake_key *key;
	__u32 first, second, place, hash, zero = 0;

	key = bpf_map_lookup_elem(&handshake_key, &zero);
	if (!key)
		return 0;
	hash = handshake_hash(key, address);
	first = hash >> (32 - HANDSHAKES_BITS);
	second = (hash >> (32 - 2 * HANDSHAKES_BITS)) & (HANDSHAKES - 1);
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

/* The peer's handshake that is pending. Never called under a lock. */
static __always_inline struct their_handshake handshake_that_waits(const struct peer_address *address, __u64 now)
{
	struct pending_handshake *pending = handshake_of(address, now);
	struct their_handshake theirs = {};
	__u64 since_ns;

	if (!pending)
		return theirs;
	since_ns = listener_since_ns(pending);
	bpf_spin_lock(&pending->lock);
	handshake_forget_before(pending, since_ns);
	theirs = handshake_pending(pending, address, now);
	bpf_spin_unlock(&pending->lock);
	return theirs;
}

/* The smallest that a packet of TCP can be: an IPv4 and a TCP header. */
#define SEGMENT_BYTES_MIN 40

/* Copy a SYN without data. 0, or -1: it is something else. */
static __always_inline int syn_read(struct __sk_buff *skb, __u64 now, struct ready_syn *ret_syn)
{
	__u32 length = skb->len;

	/* The verifier has to see the very value that it will meet. */
	barrier_var(length);
	if (length < SEGMENT_BYTES_MIN || length > SYN_BYTES_MAX)
		return -1;
	ret_syn->time_ns = now;
	ret_syn->length = length;
	return bpf_skb_load_bytes(skb, 0, ret_syn->bytes, length) ? -1 : 0;
}

#endif
