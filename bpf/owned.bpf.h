/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a socket owns, and how it ends: shared by the hooks that see a socket's life.
 *
 * The socket storage names the peer and the kind of the slot; the slot itself is in the peer, under
 * its lock. A socket whose storage says SLOT_FREE can end nothing, whatever happens to it.
 */
#ifndef CONNGUARD_OWNED_BPF_H
#define CONNGUARD_OWNED_BPF_H

#include "entries.bpf.h"
#include "report.bpf.h"

/*
 * The two steps below are global functions of scalars: the verifier checks each once, by itself,
 * instead of once for every path that leads to a call. (Before Linux 5.12 a global function takes
 * no pointer but the context.)
 */

/* What slot_over() needs beside address and cookie, as one scalar. */
union end_facts {
	struct {
		__u16 service;
		__u8 ending; /* enum ending */
		__u8 spoke;
	};
	__u64 scalar;
};

/*
 * The claim or link of `cookie` at this peer is over: free the slot, with the failure and the
 * backoff that follow.
 */
__weak __attribute__((noinline)) int slot_over(__u64 high, __u64 low, __u64 cookie,
					       __u64 facts_scalar)
{
	const struct guard_policy *rules = policy_in_force();
	union end_facts facts = { .scalar = facts_scalar };
	struct happening happening = { .address = address_of_halves(high, low, facts.service),
				       .cookie = cookie };
	struct slot_ended end = { .cookie = cookie,
				  .now = bpf_ktime_get_boot_ns(),
				  .ending = facts.ending,
				  .spoke = facts.spoke,
				  .random = bpf_get_prandom_u32() };
	struct decision decision = {};
	__u64 revived = revived_ns();
	struct peer *peer;

	peer = bpf_map_lookup_elem(&peers, &happening.address);
	if (!peer || !rules)
		return 0;
	happening.now = end.now;
	bpf_spin_lock(&peer->lock);
	if (peer_is(peer, &happening.address, end.now)) {
		peer_revive(peer, revived);
		decision = slot_end(peer, rules, &end);
	}
	bpf_spin_unlock(&peer->lock);
	happening.direction = decision.direction;
	if (decision.cause != CAUSE_none)
		report(&decision, &happening, 0, 1);
	return 0;
}

/* The dial of `cookie` to this peer became a link with another one: see dial_led_away(). */
__weak __attribute__((noinline)) int claim_led_away(__u64 high, __u64 low, __u64 cookie,
						    __u32 service)
{
	struct peer_address address = address_of_halves(high, low, service);
	__u64 now = bpf_ktime_get_boot_ns();
	struct peer *peer = bpf_map_lookup_elem(&peers, &address);

	if (!peer)
		return 0;
	bpf_spin_lock(&peer->lock);
	if (peer_is(peer, &address, now))
		dial_led_away(peer, cookie, now);
	bpf_spin_unlock(&peer->lock);
	return 0;
}

/* What link_established() needs beside address and cookie, as one scalar. */
union link_facts {
	struct {
		__u32 client_isn;
		__u16 local_port;
		__u16 remote_port;
	};
	__u64 scalar;
};

/* Beside the direction: a bit, the link is older than the guard; above it the round trip in ms, up to a minute. */
#define LINK_IS_ADOPTED 0x100
#define LINK_ROUND_TRIP_SHIFT 16
#define LINK_ROUND_TRIP_MAX_MS 0xffff

/*
 * The connection of `cookie` is established: it becomes a link of the peer. 1: it holds a slot now;
 * 0: none could be had, and it is not tracked. link_expected() comes before, from the same caller: the stack is small.
 */
__weak __attribute__((noinline)) int link_established(__u64 high, __u64 low, __u64 cookie,
						      __u64 facts_scalar,
						      __u32 direction_and_more)
{
	enum link_direction direction = direction_and_more & (LINK_IS_ADOPTED - 1);
	const struct guard_policy *rules = policy_in_force();
	union link_facts facts = { .scalar = facts_scalar };
	struct link link = {
		.cookie = cookie,
		.now = bpf_ktime_get_boot_ns(),
		.direction = direction,
		.client_isn = facts.client_isn,
		.adopted = direction_and_more & LINK_IS_ADOPTED ? 1 : 0,
		.round_trip_ms = direction_and_more >> LINK_ROUND_TRIP_SHIFT,
		.local_port = facts.local_port,
		.remote_port = facts.remote_port,
	};
	__u16 port = direction == DIRECTION_OUTBOUND ? facts.remote_port : facts.local_port;
	struct happening happening = {
		.address = address_of_halves(high, low, service_of_port(port)),
		.now = link.now,
		.cookie = cookie,
		.direction = direction,
		.local_port = facts.local_port,
		.remote_port = facts.remote_port,
	};
	struct decision decision = { .cause = CAUSE_link_unheld };
	struct pending_handshake *pending;
	struct peer *peer;
	int loses;

	if (!rules)
		return 0;
	/* Nothing is refused to an exempt peer, nor too many. */
	link.mode = pick(same(exemption_of(&happening.address, link.now), EXEMPT_PEER), MODE_OFF,
			 mode_in_force());
	peer = bpf_map_lookup_elem(&peers, &happening.address);
	if (peer) {
		bpf_spin_lock(&peer->lock);
		if (peer_is(peer, &happening.address, link.now))
			decision = link_up(peer, rules, &link);
		bpf_spin_unlock(&peer->lock);
	}
	pending = handshake_of(&happening.address, link.now);
	if (pending) {
		bpf_spin_lock(&pending->lock);
		handshake_done(pending, &happening.address, link.remote_port);
		bpf_spin_unlock(&pending->lock);
	}
	if (direction == DIRECTION_INBOUND)
		held_syn_forget(&happening.address);
	/* That one of them goes is what observe mode only counts. */
	loses = decision.cause == CAUSE_link_duplicate || decision.cause == CAUSE_link_replaced;
	if (decision.cause != CAUSE_none)
		report(&decision, &happening, 0, !loses || link.mode == MODE_ENFORCE);
	return decision.cause != CAUSE_link_unheld;
}

/* A peer of which there is to be a link has its entry from here on, or can have none. */
static __always_inline void link_expected(const struct peer_address *address)
{
	const struct guard_policy *rules = policy_in_force();

	if (rules)
		peer_learn(address, rules);
}

#define LEVEL_SOCKET 1
#define LEVEL_TCP 6
#define OPTION_KEEPALIVE 9     /* SO_KEEPALIVE */
#define OPTION_KEEPIDLE 4      /* TCP_KEEPIDLE and so on, include/uapi/linux/tcp.h */
#define OPTION_KEEPINTVL 5
#define OPTION_KEEPCNT 6
#define OPTION_USER_TIMEOUT 18

/*
 * Make the link die in bounded time when its other end is dead. `socket` is what bpf_setsockopt() takes in
 * the program at hand. Only while the guard enforces, only where an operator asks for it, and only where
 * the service has neither keepalive nor a user timeout of its own: before 6.1 that cannot be read, and the
 * link is left alone.
 */
static __always_inline void keep_honest(void *socket)
{
	const struct guard_policy *rules = policy_in_force();
	struct liveness_settings settings;
	__u32 keepalive = 1, user_timeout = 1;
	int on = 1;

	if (!rules || !rules->liveness_ns || mode_in_force() != MODE_ENFORCE)
		return;
	if (bpf_getsockopt(socket, LEVEL_SOCKET, OPTION_KEEPALIVE, &keepalive, sizeof(keepalive)) ||
	    bpf_getsockopt(socket, LEVEL_TCP, OPTION_USER_TIMEOUT, &user_timeout,
			   sizeof(user_timeout)) ||
	    keepalive || user_timeout)
		return;
	settings = liveness_settings(rules->liveness_ns);
	bpf_setsockopt(socket, LEVEL_TCP, OPTION_KEEPIDLE, &settings.idle_seconds, sizeof(__u32));
	bpf_setsockopt(socket, LEVEL_TCP, OPTION_KEEPINTVL, &settings.interval_seconds,
		       sizeof(__u32));
	bpf_setsockopt(socket, LEVEL_TCP, OPTION_KEEPCNT, &settings.probes, sizeof(__u32));
	bpf_setsockopt(socket, LEVEL_SOCKET, OPTION_KEEPALIVE, &on, sizeof(on));
}

/* The socket holds its claim or link no longer. `spoke`: the peer has sent a byte of data. */
static __always_inline void owned_end(struct owned_slot *owned, __u64 cookie, enum ending ending,
				      int spoke)
{
	union end_facts facts = {};

	facts.service = owned->address.service;
	facts.ending = ending;
	facts.spoke = spoke;
	owned->kind = SLOT_FREE;
	slot_over(address_high(&owned->address), address_low(&owned->address), cookie,
		  facts.scalar);
}

#endif
