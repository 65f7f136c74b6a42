// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Where a connection is: what somebody has to know who asks its other end a question beside TCP.
 *
 * Userspace runs it on a struct link_sight, in the network namespace of the connection and at the interface that its
 * socket is bound to. The kernel looks the socket up as
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

SEC("classifier")
int look(struct __sk_buff *skb)
{
	struct link_sight sight;
	struct bpf_tcp_sock *tcp;
	struct tcp_sock *socket;
	struct bpf_sock *sk;

	if (bpf_skb_load_bytes(skb, 0, &sight, sizeof(sight)))
		return -ERROR_INVALID;
	sk = find(skb, &sight);
	if (!sk)
		return -ERROR_NO_ENTRY;
	tcp = sk->state == BPF_TCP_ESTABLISHED ? bpf_tcp_sock(sk) : 0;
	socket = tcp ? bpf_skc_to_tcp_sock(sk) : 0;
	/* Another one may have taken over its addresses and ports. */
	if (!tcp || !socket ||
	    (__u64)((struct sock *)socket)->__sk_common.skc_cookie.counter != sight.cookie) {
		bpf_sk_release(sk);
		return -ERROR_NO_ENTRY;
	}
	sight.unacknowledged = tcp->snd_una;
	sight.expected = tcp->rcv_nxt;
	sight.mark = sk->mark;
	sight.is_signed = is_signed(socket);
	bpf_sk_release(sk);
	return bpf_skb_store_bytes(skb, 0, &sight, sizeof(sight), 0);
}
