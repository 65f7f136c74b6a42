// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * iter/tcp: take sockets that the guard did not see come up under guard.
 *
 * The daemon chooses them with sock_diag (which knows cgroups) and writes their cookies to
 * `adoptions`; this gives each its socket storage, its slot and its state callbacks.
 */
#include "iterate.bpf.h"
#include "listeners.bpf.h"
#include "locate.bpf.h"

/*
 * TCP_BPF_SOCK_OPS_CB_FLAGS of bpf_setsockopt(), 6.12 and later; older kernels answer -EINVAL, and
 * the end of an adopted link then shows at close() or in the periodic check.
 */
#define OPTION_CALLBACK_FLAGS 1008

/* Be told of its states, beside what others are told of it. What is accepted has the flags of its listener. */
static __always_inline void follow_states(struct tcp_sock *sk)
{
	int flags = 0;

	bpf_getsockopt(sk, LEVEL_TCP, OPTION_CALLBACK_FLAGS, &flags, sizeof(flags));
	flags |= BPF_SOCK_OPS_STATE_CB_FLAG;
	bpf_setsockopt(sk, LEVEL_TCP, OPTION_CALLBACK_FLAGS, &flags, sizeof(flags));
}

/* Count a listener that nobody has seen begin. Not inline: the stack is small. */
static __attribute__((noinline)) void adopt_listener(struct bpf_iter__tcp *ctx)
{
	struct tcp_sock *sk = listening_socket(ctx);
	struct listening *socket;
	struct adoption *adoption;
	__u64 cookie;

	if (!sk)
		return;
	cookie = bpf_get_socket_cookie(sk);
	adoption = bpf_map_lookup_elem(&adoptions, &cookie);
	if (!adoption)
		return;
	socket = bpf_sk_storage_get(&listening, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!socket || socket->counted)
		return;
	__builtin_memcpy(socket->place.address, adoption->local.bytes, sizeof(adoption->local.bytes));
	socket->place.port = adoption->local_port;
	socket->ipv4_also = adoption->ipv4_also;
	listening_begins(socket);
	follow_states(sk);
}

SEC("iter/tcp")
int adopt(struct bpf_iter__tcp *ctx)
{
	struct tcp_sock *sk = established_socket(ctx);
	struct owned_slot *owned;
	struct adoption *adoption;
	struct peer_address address;
	union link_facts facts = {};
	__u64 cookie;

	if (!sk) {
		adopt_listener(ctx);
		return 0;
	}
	cookie = bpf_get_socket_cookie(sk);
	adoption = bpf_map_lookup_elem(&adoptions, &cookie);
	if (!adoption)
		return 0;
	owned = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owned)
		return 0;
	address = adoption->address;
	facts.local_port = adoption->local_port;
	facts.remote_port = adoption->remote_port;
	follow_states(sk);
	owned->address = address;
	link_expected(&address);
	owned->kind = link_established(address_high(&address), address_low(&address), cookie,
				       facts.scalar, adoption->direction | LINK_IS_ADOPTED) ?
			      SLOT_LINK :
			      SLOT_FREE;
	if (owned->kind == SLOT_LINK)
		link_locate(&address, cookie, adoption->local.bytes);
	keep_honest(sk);
	return 0;
}
