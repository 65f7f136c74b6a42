// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * sk_lookup: their knocks, refused with RST at once.
 *
 * Runs in the guarded network namespace for every packet that belongs to no connection, before the
 * listener is found. SK_DROP there makes TCP answer with RST (net/ipv4/tcp_ipv4.c, tcp_v4_rcv,
 * no_tcp_socket). It sees neither flags nor sequence numbers, so it refuses only what needs
 * neither: a knock while linked. The rest is the ingress hook's, which runs next. A SYN on the very
 * 4-tuple of a link or a handshake finds that socket and never comes here.
 *
 * Nor does it see the listener, which may be another service's. It refuses only where the guard's own would get
 * the packet for certain, and leaves what cannot be told to the ingress hook, which runs at the guard's listeners
 * alone and drops without a word.
 */
#include "listeners.bpf.h"
#include "report.bpf.h"

#define PROTOCOL_TCP 6
#define FAMILY_IPV4 2

static __always_inline void addresses_read(struct bpf_sk_lookup *ctx, struct peer_address *remote,
					   struct peer_address *local)
{
	/*
	 * All read before the branch, or clang folds the reads into one of a modified ctx pointer.
	 */
	__u32 remote_ip = ctx->remote_ip4, local_ip = ctx->local_ip4;
	__u32 remote0 = ctx->remote_ip6[0], remote1 = ctx->remote_ip6[1];
	__u32 remote2 = ctx->remote_ip6[2], remote3 = ctx->remote_ip6[3];
	__u32 local0 = ctx->local_ip6[0], local1 = ctx->local_ip6[1];
	__u32 local2 = ctx->local_ip6[2], local3 = ctx->local_ip6[3];

	barrier_var(remote_ip);
	barrier_var(local_ip);
	if (ctx->family == FAMILY_IPV4) {
		*remote = address_from_ipv4(remote_ip);
		*local = address_from_ipv4(local_ip);
	} else {
		*remote = address_from_ipv6(remote0, remote1, remote2, remote3);
		*local = address_from_ipv6(local0, local1, local2, local3);
	}
}

/*
 * With a SYN cookie the last ACK of a handshake finds no request and comes by here. Where dials that
 * cross are left to the service, ours may have become a link since the SYN was let in. Refused now,
 * the one would die for the sake of the other, and at the other end, guarded as well, the other for
 * the sake of the one. (Under the tie-break it has lost: refusing it keeps it from the service.)
 */
static __always_inline int is_awaited(const struct peer_address *address, const struct knock *knock)
{
	struct pending_handshake *pending = handshake_of(address, knock->now);
	int awaited;

	if (!pending)
		return 0;
	bpf_spin_lock(&pending->lock);
	awaited = handshake_awaited(pending, address, knock->remote_port, knock->now);
	bpf_spin_unlock(&pending->lock);
	return awaited;
}

/*
 * Would a listener of the guard get this? Those on the address itself go before those on any (net/ipv4/
 * inet_hashtables.c, __inet_lookup_listener), whoever they belong to. At loopback, where only a translation of addresses
 * leads a peer, others' are not known.
 */
static __attribute__((noinline)) int listener_is_ours(const struct peer_address *local, __u16 port)
{
	struct listen_place place = { .port = port };
	const struct place_listeners *there;

	if (address_is_loopback(local))
		return 0;
	__builtin_memcpy(place.address, local->bytes, sizeof(place.address));
	there = bpf_map_lookup_elem(&listeners, &place);
	if (!there || (there->ours <= 0 && !there->others)) {
		place = place_of_any(port, address_is_ipv4(local));
		there = bpf_map_lookup_elem(&listeners, &place);
	}
	return there && there->ours > 0 && !there->others;
}

SEC("sk_lookup")
int lookup(struct bpf_sk_lookup *ctx)
{
	const struct guard_policy *rules = policy_in_force();
	struct happening happening = { .direction = DIRECTION_INBOUND };
	struct decision decision = {};
	struct peer_address local;
	struct knock knock = {};
	struct peer *peer;

	if (ctx->protocol != PROTOCOL_TCP || !port_guarded(ctx->local_port))
		return SK_PASS;
	/* Observe mode decides where the whole SYN is seen, so that each knock is counted once. */
	if (!rules || mode_in_force() != MODE_ENFORCE || rules->reject_style != REJECT_RESET)
		return SK_PASS;
	addresses_read(ctx, &happening.address, &local);
	if (address_same_host(&local, &happening.address))
		return SK_PASS;
	happening.address.service = service_of_port(ctx->local_port);
	peer = bpf_map_lookup_elem(&peers, &happening.address);
	knock.now = bpf_ktime_get_boot_ns();
	if (!peer || exemption_of(&happening.address, knock.now) != EXEMPT_NOT ||
	    !listener_is_ours(&local, ctx->local_port))
		return SK_PASS;
	knock.remote_port = bpf_ntohs(ctx->remote_port);
	knock.mode = MODE_ENFORCE;
	happening.now = knock.now;
	happening.local_port = ctx->local_port;
	happening.remote_port = knock.remote_port;
	if (rules->tie_break == TIE_BREAK_NONE && is_awaited(&happening.address, &knock))
		return SK_PASS;
	bpf_spin_lock(&peer->lock);
	if (peer_is(peer, &happening.address, knock.now))
		decision = knock_decide(peer, rules, &knock);
	bpf_spin_unlock(&peer->lock);
	if (decision.verdict != VERDICT_REFUSE)
		return SK_PASS;
	held_syn_forget(&happening.address);
	report(&decision, &happening, 0, 1);
	return SK_DROP;
}
