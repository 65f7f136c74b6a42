/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether a socket is in the guarded network namespace. The cgroup says nothing of it: whoever is in it may
 * make himself another one, where he has any address that he likes.
 */
#ifndef CONNGUARD_NETNS_BPF_H
#define CONNGUARD_NETNS_BPF_H

#include "kernel_types.bpf.h"
#include "maps.bpf.h"

/*
 * By the inode of the namespace, which every kernel shows of a socket. bpf_get_netns_cookie() is offered to some hooks
 * only, and userspace is not told the cookie before 5.14.
 */
static __always_inline int inode_is_guarded(const struct guard_policy *rules, void *sk)
{
	struct sock *socket;

	/* Without CONFIG_NET_NS there is one. */
	if (!rules->netns_inode || !bpf_core_field_exists(((struct sock_common *)0)->skc_net.net))
		return 1;
	socket = (struct sock *)bpf_skc_to_tcp_sock(sk);
	return !socket || socket->__sk_common.skc_net.net->ns.inum == rules->netns_inode;
}

#endif
