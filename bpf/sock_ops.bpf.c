// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * sock_ops: the life of a connection after connect() and before close().
 *
 * Confirms a claim when its SYN leaves, makes links of established connections, and ends both when
 * the state changes. Asks for state callbacks on each socket it follows; sockets older than the
 * guard get them from the adopt iterator.
 */
#include "listeners.bpf.h"
#include "locate.bpf.h"
#include "netns.bpf.h"

#define FAMILY_IPV4 2
#define FAMILY_IPV6 10

static __always_inline int in_guarded_netns(struct bpf_sock *sk)
{
	const struct guard_policy *rules = policy_in_force();

	return !rules || inode_is_guarded(rules, sk);
}

static __always_inline void follow_states(struct bpf_sock_ops *ctx)
{
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

/*
 * The SYN is about to leave: snd_nxt is its sequence number (net/ipv4/tcp_output.c,
 * tcp_connect_init).
 */
static __always_inline void on_dial_sent(struct bpf_sock_ops *ctx, struct owned_slot *owned)
{
	/* All read before the first branch, as in on_established(). */
	__u32 family = ctx->family, ip = ctx->local_ip4;
	__u32 word0 = ctx->local_ip6[0], word1 = ctx->local_ip6[1];
	__u32 word2 = ctx->local_ip6[2], word3 = ctx->local_ip6[3];
	const struct guard_policy *rules = policy_in_force();
	struct peer_address address = owned->address, local;
	struct dial_syn syn = {
		.cookie = bpf_get_socket_cookie(ctx),
		.now = bpf_ktime_get_boot_ns(),
		.client_isn = ctx->snd_nxt,
		.local_port = ctx->local_port,
		.remote_port = bpf_ntohl(ctx->remote_port),
	};
	struct peer *peer;

	barrier_var(ip);
	barrier_var(word0);
	barrier_var(word1);
	barrier_var(word2);
	barrier_var(word3);
	local = family == FAMILY_IPV4 ? address_from_ipv4(ip) :
					address_from_ipv6(word0, word1, word2, word3);
	__builtin_memcpy(syn.local_address, local.bytes, sizeof(syn.local_address));
	follow_states(ctx);
	peer = bpf_map_lookup_elem(&peers, &address);
	if (!peer || !rules)
		return;
	bpf_spin_lock(&peer->lock);
	if (peer_is(peer, &address, syn.now))
		dial_sent(peer, rules, &syn);
	bpf_spin_unlock(&peer->lock);
}

/*
 * `active`: connect() established it. A passive one whose socket holds a claim is our dial all the
 * same: both ends opened the one 4-tuple together.
 */
static __always_inline void on_established(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
					   struct owned_slot *owned, int active)
{
	/*
	 * All read before the first branch, or clang folds the reads into one of a modified ctx
	 * pointer.
	 */
	__u32 sent = ctx->snd_nxt, received = ctx->rcv_nxt, family = ctx->family;
	/* Eighths of a microsecond (net/ipv4/tcp_input.c, tcp_rtt_estimator). */
	__u32 round_trip_ms = ctx->srtt_us / (8 * 1000);
	__u32 local_port = ctx->local_port, remote_port = bpf_ntohl(ctx->remote_port);
	__u32 ip = ctx->remote_ip4, word0 = ctx->remote_ip6[0], word1 = ctx->remote_ip6[1];
	__u32 word2 = ctx->remote_ip6[2], word3 = ctx->remote_ip6[3];
	__u32 local_ip = ctx->local_ip4, local0 = ctx->local_ip6[0], local1 = ctx->local_ip6[1];
	__u32 local2 = ctx->local_ip6[2], local3 = ctx->local_ip6[3];
	__u64 cookie = bpf_get_socket_cookie(ctx);
	int claimed = owned && owned->kind == SLOT_CLAIM;
	enum link_direction direction = DIRECTION_INBOUND;
	struct peer_address address, local;
	union link_facts facts = {};

	barrier_var(ip);
	barrier_var(word0);
	barrier_var(word1);
	barrier_var(word2);
	barrier_var(word3);
	barrier_var(local_ip);
	barrier_var(local0);
	barrier_var(local1);
	barrier_var(local2);
	barrier_var(local3);
	if (family == FAMILY_IPV4) {
		address = address_from_ipv4(ip);
		local = address_from_ipv4(local_ip);
	} else if (family == FAMILY_IPV6) {
		address = address_from_ipv6(word0, word1, word2, word3);
		local = address_from_ipv6(local0, local1, local2, local3);
	} else {
		return;
	}
	facts.local_port = local_port;
	facts.remote_port = remote_port;
	facts.client_isn = received - 1;
	address.service = service_of_port(active || claimed ? remote_port : local_port);
	if (active || claimed) {
		direction = DIRECTION_OUTBOUND;
		facts.client_isn = sent - 1;
	}
	if (round_trip_ms > LINK_ROUND_TRIP_MAX_MS)
		round_trip_ms = LINK_ROUND_TRIP_MAX_MS;
	if (!claimed) {
		/* A knock, or a dial that the connect hook did not see or could not hold. */
		if (!port_guarded(direction == DIRECTION_OUTBOUND ? remote_port : local_port) ||
		    !in_guarded_netns(sk) ||
		    exemption_of(&address, bpf_ktime_get_boot_ns()) == EXEMPT_SELF)
			return;
		owned = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		/*
		 * Without storage nobody would see the link end: better not tracked than tracked
		 * for ever.
		 */
		if (!owned) {
			count(CAUSE_link_unheld, 1);
			return;
		}
		follow_states(ctx);
	} else if (!address_equal(&owned->address, &address) || !port_guarded(remote_port)) {
		/*
		 * A program after ours has rewritten where the dial goes. What is there
		 * is the peer, if it is one.
		 */
		claim_led_away(address_high(&owned->address), address_low(&owned->address), cookie,
			       owned->address.service);
		owned->kind = SLOT_FREE;
		if (!port_guarded(remote_port) ||
		    exemption_of(&address, bpf_ktime_get_boot_ns()) == EXEMPT_SELF)
			return;
	}
	owned->address = address;
	link_expected(&address);
	owned->kind = link_established(address_high(&address), address_low(&address), cookie,
				       facts.scalar,
				       direction | round_trip_ms << LINK_ROUND_TRIP_SHIFT) ?
			      SLOT_LINK :
			      SLOT_FREE;
	/* A dial's is known since its SYN. */
	if (owned->kind == SLOT_LINK && !claimed)
		link_locate(&address, cookie, local.bytes);
	keep_honest(ctx);
}

/* Errors that a socket can end with, include/uapi/asm-generic/errno.h. */
enum socket_error {
	ERROR_ACCESS = 13, /* of ICMPv6: "administratively prohibited", what firewalls answer, and more */
	ERROR_BROKEN_PIPE = 32,
	ERROR_NO_SUCH_HOST = 64, /* ENONET; of ICMP, as the next five */
	ERROR_PROTOCOL = 71,
	ERROR_NO_PROTOCOL = 92,
	ERROR_NOT_SUPPORTED = 95,
	ERROR_NO_NETWORK = 101,
	ERROR_ABORTED = 103,
	ERROR_RESET = 104,
	ERROR_TIMED_OUT = 110,
	ERROR_REFUSED = 111,
	ERROR_HOST_DOWN = 112,
	ERROR_NO_HOST = 113,
};

/* How a connection ended that is closed at once; TCP sets the error first (net/ipv4/tcp.c, tcp_done). */
static __always_inline enum ending ending_of_error(int error)
{
	switch (error) {
	case 0:
		return ENDING_CLOSED;
	case ERROR_RESET:
	case ERROR_REFUSED:
	case ERROR_BROKEN_PIPE:
		return ENDING_RESET;
	case ERROR_ACCESS:
	case ERROR_NO_SUCH_HOST:
	case ERROR_PROTOCOL:
	case ERROR_NO_PROTOCOL:
	case ERROR_NOT_SUPPORTED:
	case ERROR_NO_NETWORK:
	case ERROR_HOST_DOWN:
	case ERROR_NO_HOST:
		return ENDING_UNREACHABLE;
	case ERROR_TIMED_OUT:
		return ENDING_SILENCE;
	case ERROR_ABORTED:
		return ENDING_ABORTED;
	default:
		return ENDING_LOCAL;
	}
}

static __always_inline void on_state(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
				     struct owned_slot *owned)
{
	__u64 received = ctx->bytes_received;
	__u32 next = ctx->args[1];
	enum ending ending = ENDING_CLOSED;
	struct sock *socket;

	if ((owned->kind != SLOT_CLAIM || next != BPF_TCP_CLOSE) &&
	    (owned->kind != SLOT_LINK || next == BPF_TCP_ESTABLISHED))
		return;
	if (next == BPF_TCP_CLOSE_WAIT) {
		ending = ENDING_PEER_CLOSED;
		/* A FIN counts as a byte (net/ipv4/tcp_input.c, tcp_rcv_nxt_update). */
		received--;
	} else if (next == BPF_TCP_CLOSE) {
		socket = (struct sock *)bpf_skc_to_tcp_sock(sk);
		ending = socket ? ending_of_error(socket->sk_err) : ENDING_NONE;
	}
	owned_end(owned, bpf_get_socket_cookie(ctx), ending, received > 0);
}

/* 1 when a listener on any IPv6 address takes IPv4 as well. */
static __always_inline int takes_ipv4(struct bpf_sock *sk)
{
	struct sock *socket = (struct sock *)bpf_skc_to_tcp_sock(sk);

	return socket && !BPF_CORE_READ_BITFIELD(socket, __sk_common.skc_ipv6only);
}

/* Count the listener where it listens. One that is bound to an interface may not get what comes there. */
static __attribute__((noinline)) void remember_listener(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	/* All read before the first branch, as in on_established(). */
	__u32 family = ctx->family, port = ctx->local_port, ip = ctx->local_ip4;
	__u32 word0 = ctx->local_ip6[0], word1 = ctx->local_ip6[1];
	__u32 word2 = ctx->local_ip6[2], word3 = ctx->local_ip6[3];
	struct peer_address local;
	struct listening *socket;

	barrier_var(ip);
	barrier_var(word0);
	barrier_var(word1);
	barrier_var(word2);
	barrier_var(word3);
	if (sk->bound_dev_if)
		return;
	socket = bpf_sk_storage_get(&listening, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!socket || socket->counted)
		return;
	local = family == FAMILY_IPV4 ? address_from_ipv4(ip) :
					address_from_ipv6(word0, word1, word2, word3);
	__builtin_memcpy(socket->place.address, local.bytes, sizeof(local.bytes));
	socket->place.port = port;
	socket->ipv4_also = family == FAMILY_IPV6 && place_is_any_ipv6(&socket->place) && takes_ipv4(sk);
	listening_begins(socket);
	/* One that is shut down ends before it is closed. */
	follow_states(ctx);
}

/* The service starts anew: what it has failed in before is void. Not by listeners without end. */
static __always_inline void on_listen(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	const struct guard_policy *rules = policy_in_force();
	struct decision decision = { .cause = CAUSE_service_started };
	struct happening happening = { .now = bpf_ktime_get_boot_ns(),
				       .cookie = bpf_get_socket_cookie(ctx),
				       .local_port = ctx->local_port };

	if (!rules || !port_guarded(happening.local_port) || !in_guarded_netns(sk))
		return;
	remember_listener(ctx, sk);
	if (service_starts(happening.now) && mode_in_force() != MODE_OFF)
		report(&decision, &happening, 0, 1);
}

SEC("sockops")
int sock_ops(struct bpf_sock_ops *ctx)
{
	__u32 operation = ctx->op;
	struct owned_slot *owned;
	struct bpf_sock *sk;

	if (operation != BPF_SOCK_OPS_TIMEOUT_INIT && operation != BPF_SOCK_OPS_TCP_LISTEN_CB &&
	    operation != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB &&
	    operation != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB && operation != BPF_SOCK_OPS_STATE_CB)
		return 1;
	/* NULL for a request socket: TIMEOUT_INIT of a SYN-ACK. */
	sk = ctx->sk;
	if (!sk)
		return 1;
	owned = bpf_sk_storage_get(&sockets, sk, 0, 0);
	switch (operation) {
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		if (owned && owned->kind == SLOT_CLAIM && ctx->state == BPF_TCP_SYN_SENT)
			on_dial_sent(ctx, owned);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		on_established(ctx, sk, owned, 1);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		on_established(ctx, sk, owned, 0);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		/* What listens may have dialed before. */
		if (ctx->args[0] == BPF_TCP_LISTEN)
			listening_ends(bpf_sk_storage_get(&listening, sk, 0, 0));
		else if (owned)
			on_state(ctx, sk, owned);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		on_listen(ctx, sk);
		break;
	}
	return 1;
}
