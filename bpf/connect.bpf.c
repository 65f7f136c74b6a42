// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * cgroup/connect4 and cgroup/connect6: our dials.
 *
 * Runs once per connect() of a TCP socket, before route and source port exist. Decodes the address,
 * asks dial_claim() under the peer's lock, and refuses with the configured errno. A claim made here
 * may never become a SYN (no route, a later program refuses): sock_ops confirms it, sock_release
 * ends it, and until confirmed it is void after CLAIM_UNSENT_MAX_NS.
 */
#include "netns.bpf.h"
#include "owned.bpf.h"

#include <bpf/bpf_core_read.h>

#define SOCKET_STREAM 1 /* SOCK_STREAM, include/linux/net.h */
#define PROTOCOL_TCP 6
#define MAX_ERRNO 4095    /* include/linux/err.h */
#define ERROR_REFUSED 111 /* ECONNREFUSED */

/*
 * bpf_set_retval() and bpf_get_retval() exist since 5.18 but are offered to the connect hooks only
 * since 6.1. A helper that appeared in 6.1 marks the kernels where they are: the loader resolves
 * the constant and the verifier then drops the dead branch.
 */
enum bpf_func_id___since_6_1 {
	BPF_FUNC_user_ringbuf_drain___since_6_1 = 209,
};
static int (*const set_retval)(long) = (void *)187;
static int (*const get_retval)(void) = (void *)186;

static __always_inline int retval_offered(void)
{
	return bpf_core_enum_value_exists(enum bpf_func_id___since_6_1,
					  BPF_FUNC_user_ringbuf_drain___since_6_1);
}

/*
 * The errno as a return value. Recent verifiers (7.x) want to see that it is one; the compiler
 * knows better than to test for it, unless it is kept from knowing.
 */
static __always_inline long refusal_retval(__u32 refusal_errno)
{
	long retval = (long)opaque(-(__u64)refusal_errno);

	return retval < -MAX_ERRNO || retval > 0 ? -ERROR_REFUSED : retval;
}

#define HOOK_REFUSE 0
#define HOOK_ALLOW 1

/* Until when a handshake of the peer is pending; 0: none is. Not inline: the stack is small. */
static __attribute__((noinline)) __u64 pending_until_ns(const struct peer_address *address, __u64 now)
{
	struct their_handshake theirs = handshake_that_waits(address, now);

	return theirs.until_ns;
}

/*
 * The same socket dials something else after a dial that never left: the old claim is over, whether or
 * not the new dial is one of ours. A step of its own, before the dial's: the stack is small.
 */
__weak __attribute__((noinline)) int leave_old_claim(struct bpf_sock_addr *ctx, __u64 high, __u64 low,
						     __u32 port)
{
	struct peer_address address = address_of_halves(high, low, service_of_port(port));
	struct bpf_sock *sk = ctx->sk;
	struct owned_slot *owned;

	barrier_var(sk);
	if (!sk)
		return 0;
	owned = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (owned && owned->kind == SLOT_CLAIM &&
	    (!port_guarded(port) || !address_equal(&owned->address, &address)))
		owned_end(owned, bpf_get_socket_cookie(ctx), ENDING_CLOSED, 0);
	return 0;
}

/* One global function for both families: the verifier checks it once (see owned.bpf.h). */
__weak __attribute__((noinline)) int guard_dial(struct bpf_sock_addr *ctx, __u64 high, __u64 low,
						__u32 port)
{
	const struct guard_policy *rules = policy_in_force();
	struct bpf_sock *sk = ctx->sk;
	struct happening happening = {
		.address = address_of_halves(high, low, service_of_port(port)),
		.direction = DIRECTION_OUTBOUND,
		.remote_port = port,
	};
	struct decision decision = { .verdict = VERDICT_ALLOW, .cause = CAUSE_dial_unheld };
	enum guard_mode mode = mode_in_force();
	struct dial dial = { .mode = mode };
	enum exemption exemption = EXEMPT_SELF;
	struct daemon_signs signs;
	struct owned_slot *owned;
	struct peer *peer;
	__u64 task, revived;
	int guarded;

	/*
	 * Else clang tests ctx->sk and loads it again, and the verifier takes the second load for
	 * one that may be NULL.
	 */
	barrier_var(sk);
	if (!sk || !rules)
		return HOOK_ALLOW;
	dial.now = bpf_ktime_get_boot_ns();
	dial.cookie = bpf_get_socket_cookie(ctx);
	owned = bpf_sk_storage_get(&sockets, sk, 0, 0);
	guarded = port_guarded(port) &&
		  (!rules->netns_cookie || rules->netns_cookie == bpf_get_netns_cookie(ctx)) &&
		  inode_is_guarded(rules, sk);
	if (guarded) {
		exemption = exemption_of(&happening.address, dial.now);
		guarded = exemption != EXEMPT_SELF;
	}
	if (!guarded)
		return HOOK_ALLOW;
	/*
	 * An exempt prefix is tracked but neither refused nor recorded as refused, as if the guard
	 * were off for it.
	 */
	dial.mode = pick(same(exemption, EXEMPT_PEER), MODE_OFF, mode);

	task = bpf_get_current_pid_tgid();
	dial.process_id = task >> 32;
	dial.thread_id = (__u32)task;
	dial.user_id = (__u32)bpf_get_current_uid_gid();
	bpf_get_current_comm(dial.command, sizeof(dial.command));
	signs = daemon_signs(dial.now);
	dial.announced_only = rules->dial_policy == DIAL_POLICY_CENTRAL && signs.alive;
	dial.asks = signs.asks;
	dial.ends_dials = signs.alive;
	happening.now = dial.now;
	happening.cookie = dial.cookie;

	if (!owned)
		owned = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	peer = owned ? peer_learn(&happening.address, rules) : 0;
	if (!peer) {
		if (mode != MODE_OFF)
			report(&decision, &happening, &dial, 1);
		return HOOK_ALLOW;
	}

	/* One lock at a time: what is learned here may be a little old below, as on the wire. */
	dial.pending_until_ns = pending_until_ns(&happening.address, dial.now);
	revived = revived_ns();
	bpf_spin_lock(&peer->lock);
	peer_revive(peer, revived);
	if (peer_is(peer, &happening.address, dial.now))
		decision = dial_claim(peer, rules, &dial);
	else
		decision.cause = CAUSE_dial_recycled;
	bpf_spin_unlock(&peer->lock);

	if (decision.verdict == VERDICT_REFUSE && dial.mode == MODE_ENFORCE) {
		report(&decision, &happening, &dial, 1);
		if (retval_offered())
			set_retval(refusal_retval(rules->refusal_errno));
		return HOOK_REFUSE;
	}
	if (decision.cause != CAUSE_dial_unheld && decision.cause != CAUSE_dial_recycled) {
		owned->address = happening.address;
		owned->kind = SLOT_CLAIM;
	}
	if (mode == MODE_OFF)
		return HOOK_ALLOW;
	/* One that has made no claim is told as what it is: the sums of the counters hold. */
	if (exemption == EXEMPT_PEER && decision.cause != CAUSE_dial_unheld &&
	    decision.cause != CAUSE_dial_recycled && decision.cause != CAUSE_dial_again) {
		decision.verdict = VERDICT_ALLOW;
		decision.cause = CAUSE_dial_exempt;
	}
	report(&decision, &happening, &dial,
	       decision.verdict == VERDICT_ALLOW || mode == MODE_ENFORCE);
	return HOOK_ALLOW;
}

static __always_inline int on_connect(struct bpf_sock_addr *ctx, const struct peer_address *address,
				      __u32 port)
{
	__u64 high = address_high(address), low = address_low(address);

	/* Every program at the hook runs: a dial that an earlier one refused is no dial. */
	if (retval_offered() && get_retval() < 0)
		return HOOK_ALLOW;
	leave_old_claim(ctx, high, low, port);
	/* The verifier knows nothing of what a global function returns. */
	return guard_dial(ctx, high, low, port) ? HOOK_ALLOW : HOOK_REFUSE;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	__u32 type = ctx->type, protocol = ctx->protocol, ip = ctx->user_ip4, port = ctx->user_port;
	struct peer_address address = address_from_ipv4(ip);

	if (type != SOCKET_STREAM || protocol != PROTOCOL_TCP)
		return HOOK_ALLOW;
	return on_connect(ctx, &address, bpf_ntohs((__u16)port));
}

/* An IPv6 socket that dials ::ffff:a.b.c.d runs this hook, not connect4: the key is the same. */
SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	__u32 type = ctx->type, protocol = ctx->protocol, port = ctx->user_port;
	__u32 word0 = ctx->user_ip6[0], word1 = ctx->user_ip6[1];
	__u32 word2 = ctx->user_ip6[2], word3 = ctx->user_ip6[3];
	struct peer_address address = address_from_ipv6(word0, word1, word2, word3);

	if (type != SOCKET_STREAM || protocol != PROTOCOL_TCP)
		return HOOK_ALLOW;
	return on_connect(ctx, &address, bpf_ntohs((__u16)port));
}

char guard_license[] SEC("license") = "Dual BSD/GPL";
