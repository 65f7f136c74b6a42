// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * cgroup_skb/egress: the SYNs of our dials, as they leave.
 *
 * Counts them, for a peer that has left two of them without an answer has failed to answer, and keeps
 * those of a dial that waits for the end of a backoff, or for what becomes of a new link. TCP takes a kept SYN
 * for one that was lost and sends it again by its own timers, so connect() is pending as with a peer that does
 * not answer yet. What may have to leave between two of those is copied for the daemon, which sends it.
 *
 * Runs for every packet of the cgroup, so it leaves on the first test: only a socket in SYN_SENT is of
 * interest.
 */
#include "report.bpf.h"

#define PACKET_DROP 0
#define PACKET_PASS 1

/* Copy the SYN for the daemon. Not inline: the stack is small. */
static __attribute__((noinline)) void syn_copy(struct __sk_buff *skb, __u32 interface, __u64 cookie,
					       __u64 now)
{
	struct ready_syn syn = { .mark = skb->mark, .interface = interface };

	if (syn_read(skb, now, &syn) == 0)
		bpf_map_update_elem(&syns, &cookie, &syn, BPF_ANY);
}

static __attribute__((noinline)) int on_syn(struct __sk_buff *skb, struct bpf_sock *sk)
{
	const struct guard_policy *rules = policy_in_force();
	struct happening happening = { .direction = DIRECTION_OUTBOUND };
	int enforced = mode_in_force() == MODE_ENFORCE;
	struct owned_slot *owned = bpf_sk_storage_get(&sockets, sk, 0, 0);
	struct decision decision = {};
	__u64 revived;
	const struct slot *claim;
	struct peer *peer;
	int copied = 0;

	if (!owned || owned->kind != SLOT_CLAIM || !rules)
		return PACKET_PASS;
	happening.address = owned->address;
	happening.cookie = bpf_get_socket_cookie(skb);
	happening.now = bpf_ktime_get_boot_ns();
	happening.local_port = sk->src_port;
	happening.remote_port = bpf_ntohs(sk->dst_port);
	peer = bpf_map_lookup_elem(&peers, &happening.address);
	if (!peer)
		return PACKET_PASS;
	revived = revived_ns();
	bpf_spin_lock(&peer->lock);
	if (peer_is(peer, &happening.address, happening.now)) {
		peer_revive(peer, revived);
		decision = dial_leaves(peer, rules, happening.cookie, enforced, happening.now);
		claim = slot_of(peer, happening.cookie);
		copied = claim && (claim->syns > 1 || peer_limit(peer, rules) > 1);
	}
	bpf_spin_unlock(&peer->lock);
	if (decision.cause != CAUSE_none)
		report(&decision, &happening, 0, 1);
	/* Those that may have to leave once more: see user/connguardd/syns.c. */
	if (decision.verdict == VERDICT_HOLD || copied || port_guarded(happening.local_port))
		syn_copy(skb, sk->bound_dev_if, happening.cookie, happening.now);
	return decision.verdict == VERDICT_HOLD ? PACKET_DROP : PACKET_PASS;
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk || sk->state != BPF_TCP_SYN_SENT)
		return PACKET_PASS;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return PACKET_PASS;
	return on_syn(skb, sk) ? PACKET_PASS : PACKET_DROP;
}
