// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Where connections are, and when each was heard: what somebody has to know who asks their other ends a question
 * beside TCP, and waits for the answers.
 *
 * Userspace runs it on an array of struct link_sight, in the network namespace of the connections and at the interface
 * that their sockets are bound to. The kernel looks each socket up as
 * it would for a packet of the other end, however many sockets there are.
 */
#include <bpf/bpf_core_read.h>

#include "run.bpf.h"

struct atomic64 {
	__s64 counter;
} __attribute__((preserve_access_index));

struct sock_common {
	struct atomic64 skc_cookie;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
} __attribute__((preserve_access_index));

struct tcp_sock {
	void *md5sig_info; /* CONFIG_TCP_MD5SIG */
	void *ao_info;     /* since 6.7, CONFIG_TCP_AO */
} __attribute__((preserve_access_index));

static __always_inline int is_signed(struct tcp_sock *socket)
{
	int found = 0;

	if (bpf_core_field_exists(socket->md5sig_info))
		found |= socket->md5sig_info != 0;
	if (bpf_core_field_exists(socket->ao_info))
		found |= socket->ao_info != 0;
	return found;
}

/* What a packet of the other end would find. NULL: nothing. To be released. */
static __always_inline struct bpf_sock *find(struct __sk_buff *skb, const struct link_sight *sight)
{
	struct bpf_sock_tuple tuple = {};
	const __u32 *remote = (const __u32 *)sight->remote.bytes;
	const __u32 *local = (const __u32 *)sight->local.bytes;

	if (address_is_ipv4(&sight->remote)) {
		tuple.ipv4.saddr = remote[3];
		tuple.ipv4.daddr = local[3];
		tuple.ipv4.sport = bpf_htons(sight->remote_port);
		tuple.ipv4.dport = bpf_htons(sight->local_port);
		return bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	__builtin_memcpy(tuple.ipv6.saddr, remote, sizeof(tuple.ipv6.saddr));
	__builtin_memcpy(tuple.ipv6.daddr, local, sizeof(tuple.ipv6.daddr));
	tuple.ipv6.sport = bpf_htons(sight->remote_port);
	tuple.ipv6.dport = bpf_htons(sight->local_port);
	return bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
}

/* What its socket shows. Not inline: the verifier's work, and the stack, are small so. */
static __attribute__((noinline)) void see_socket(struct __sk_buff *skb, struct link_sight *sight)
{
	struct bpf_sock *sk = find(skb, sight);
	struct bpf_tcp_sock *tcp;
	struct tcp_sock *socket;

	if (!sk)
		return;
	tcp = sk->state == BPF_TCP_ESTABLISHED ? bpf_tcp_sock(sk) : 0;
	socket = tcp ? bpf_skc_to_tcp_sock(sk) : 0;
	/* Another one may have taken over its addresses and ports. */
	if (tcp && socket &&
	    (__u64)((struct sock *)socket)->__sk_common.skc_cookie.counter == sight->cookie) {
		sight->unacknowledged = tcp->snd_una;
		sight->expected = tcp->rcv_nxt;
		sight->segments_in = tcp->segs_in;
		sight->segments_out = tcp->segs_out;
		sight->mark = sk->mark;
		sight->is_signed = is_signed(socket);
		sight->is_there = 1;
	}
	bpf_sk_release(sk);
}

/* What the peer's slot says. */
static __attribute__((noinline)) void see_slot(struct link_sight *sight)
{
	struct peer_address address = sight->remote;
	struct peer *peer = bpf_map_lookup_elem(&peers, &address);
	__u64 cookie = sight->cookie, heard_ns = 0, stalled_ns = 0;
	struct slot *slot;

	if (!peer)
		return;
	bpf_spin_lock(&peer->lock);
	slot = slot_of(peer, cookie);
	if (slot && slot->kind == SLOT_LINK) {
		heard_ns = slot->heard_ns;
		stalled_ns = slot->stalled_ns;
	}
	bpf_spin_unlock(&peer->lock);
	sight->heard_ns = heard_ns;
	sight->stalled_ns = stalled_ns;
}

SEC("classifier")
int look(struct __sk_buff *skb)
{
	for (__u32 i = 0; i < SIGHTS_MAX; i++) {
		struct link_sight sight;
		__u32 offset = i * sizeof(sight);

		if (bpf_skb_load_bytes(skb, offset, &sight, sizeof(sight)))
			return i ? 0 : -ERROR_INVALID;
		sight.is_there = 0;
		sight.heard_ns = 0;
		sight.stalled_ns = 0;
		see_socket(skb, &sight);
		see_slot(&sight);
		if (bpf_skb_store_bytes(skb, offset, &sight, sizeof(sight), 0))
			return -ERROR_INVALID;
	}
	return 0;
}
