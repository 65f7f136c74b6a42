// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * cgroup/sock_release: the last close() of a socket.
 *
 * The end of every claim that no state change ended: a dial without a route, refused by a later
 * program, or never begun; and of links and listeners older than the guard, where the kernel cannot give
 * them state callbacks.
 */
#include "listeners.bpf.h"
#include "owned.bpf.h"

SEC("cgroup/sock_release")
int sock_release(struct bpf_sock *sk)
{
	struct owned_slot *owned = bpf_sk_storage_get(&sockets, sk, 0, 0);

	if (owned && owned->kind != SLOT_FREE)
		owned_end(owned, bpf_get_socket_cookie(sk), ENDING_CLOSED, 1);
	listening_ends(bpf_sk_storage_get(&listening, sk, 0, 0));
	return 1;
}
