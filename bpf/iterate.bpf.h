/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * iter/tcp: what the programs share that userspace runs over the TCP sockets of the guarded network
 * namespace.
 *
 * Such a program sees each socket locked (net/ipv4/tcp_ipv4.c, bpf_iter_tcp_seq_show), so that no
 * state change falls in between, and does something with those whose cookies userspace has written
 * to its map.
 */
#ifndef CONNGUARD_ITERATE_BPF_H
#define CONNGUARD_ITERATE_BPF_H

#include "kernel_types.bpf.h"
#include "owned.bpf.h"

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 seq_num;
} __attribute__((preserve_access_index));

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
} __attribute__((preserve_access_index));

/* Sockets between two rests of a walk: a fraction of a millisecond of work. A power of two. */
#define SOCKETS_AT_ONCE 128

/*
 * Let whoever walks by reading a byte at a time have one now and then: the kernel goes on with the next read, and what
 * else its reader has to do comes in between.
 */
static __always_inline void pause_now_and_then(struct bpf_iter__tcp *ctx)
{
	struct bpf_iter_meta *meta = ctx->meta;
	__u8 byte = 0;

	if (meta->seq_num % SOCKETS_AT_ONCE == 0)
		bpf_seq_write(meta->seq, &byte, sizeof(byte));
}

/* The established connection that the iterator is at; NULL: it is at something else. */
static __always_inline struct tcp_sock *established_socket(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;

	if (!common || common->skc_state != BPF_TCP_ESTABLISHED)
		return 0;
	return bpf_skc_to_tcp_sock(common);
}

/* The same of a listener. */
static __always_inline struct tcp_sock *listening_socket(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;

	if (!common || common->skc_state != BPF_TCP_LISTEN)
		return 0;
	return bpf_skc_to_tcp_sock(common);
}

#endif
