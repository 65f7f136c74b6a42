/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Excerpts of the kernel's types: the members that the programs read, found by their names in the types of the
 * kernel that runs (CO-RE). include/net/sock.h, include/net/net_namespace.h,
 * include/linux/tcp.h.
 */
#ifndef CONNGUARD_KERNEL_TYPES_BPF_H
#define CONNGUARD_KERNEL_TYPES_BPF_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct ns_common {
	unsigned int inum;
} __attribute__((preserve_access_index));

struct net {
	struct ns_common ns;
} __attribute__((preserve_access_index));

typedef struct {
	struct net *net;
} __attribute__((preserve_access_index)) possible_net_t;

struct sock_common {
	unsigned char skc_state;
	unsigned char skc_ipv6only : 1;
	possible_net_t skc_net;
} __attribute__((preserve_access_index));

typedef struct {
	int owned;
} __attribute__((preserve_access_index)) socket_lock_t;

struct sock {
	struct sock_common __sk_common;
	socket_lock_t sk_lock;
	int sk_err;
} __attribute__((preserve_access_index));

struct tcp_sock {
	__u32 rcv_nxt;
	__u32 rcv_wup;
	__u32 rcv_wnd;
	__u32 snd_una;
	__u32 snd_nxt;
	__u32 write_seq;
} __attribute__((preserve_access_index));

#endif
