// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * cgroup_skb/ingress: their SYNs, with sequence numbers, the SYN-ACKs to our dials, and the packets
 * of links, as evidence of life.
 *
 * Runs for every packet to the cgroup's sockets, so it leaves early: a packet of a link is looked at
 * only when it is the first one in a while. Return 0 drops silently, which is a hold: the
 * sender's own retransmission asks again, or the daemon, which has a copy. It is also the backstop
 * where sk_lookup is missing or told to drop: a knock that should be refused is dropped here.
 */
#include "netns.bpf.h"
#include "report.bpf.h"

#define PROTOCOL_TCP 6
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define IPV4_HEADER_MIN 20
#define IPV6_HEADER 40
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define PACKET_DROP 0
#define PACKET_PASS 1

/* What the guard reads of a packet. */
struct segment {
	struct peer_address source;
	struct peer_address destination;
	__u16 source_port;
	__u16 destination_port;
	__u32 sequence;
	__u32 acknowledgment;
	__u8 flags;
};

/* The start of a TCP header (RFC 9293, section 3.1). */
struct tcp_start {
	__be16 source;
	__be16 destination;
	__be32 sequence;
	__be32 acknowledgment;
	__u8 offset;
	__u8 flags;
};

/*
 * 0, or -1 for what is no plain TCP segment (IPv6 extension headers included: such a SYN is
 * allowed, and what it becomes is seen when it is established).
 */
static __always_inline int segment_read(struct __sk_buff *skb, struct segment *segment)
{
	struct tcp_start tcp;
	__u32 words[10];
	__u32 offset;

	if (skb->protocol == bpf_htons(ETHERTYPE_IPV4)) {
		if (bpf_skb_load_bytes(skb, 0, words, IPV4_HEADER_MIN))
			return -1;
		if (((bpf_ntohl(words[2]) >> 16) & 0xff) != PROTOCOL_TCP)
			return -1;
		offset = ((bpf_ntohl(words[0]) >> 24) & 0xf) * 4;
		segment->source = address_from_ipv4(words[3]);
		segment->destination = address_from_ipv4(words[4]);
	} else if (skb->protocol == bpf_htons(ETHERTYPE_IPV6)) {
		if (bpf_skb_load_bytes(skb, 0, words, IPV6_HEADER))
			return -1;
		if (((bpf_ntohl(words[1]) >> 8) & 0xff) != PROTOCOL_TCP)
			return -1;
		offset = IPV6_HEADER;
		segment->source = address_from_ipv6(words[2], words[3], words[4], words[5]);
		segment->destination = address_from_ipv6(words[6], words[7], words[8], words[9]);
	} else {
		return -1;
	}
	if (bpf_skb_load_bytes(skb, offset, &tcp, sizeof(tcp)))
		return -1;
	segment->source_port = bpf_ntohs(tcp.source);
	segment->destination_port = bpf_ntohs(tcp.destination);
	segment->sequence = bpf_ntohl(tcp.sequence);
	segment->acknowledgment = bpf_ntohl(tcp.acknowledgment);
	segment->flags = tcp.flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN);
	return 0;
}

/*
 * Of what is let in, tell what somebody has to act on, which SYNs cannot bring about at will: our dial
 * ends, or the backoff is over (it is in every mode). 1: told. Of the rest the link tells when there is
 * one; anybody can send SYNs.
 */
static __always_inline int tell_if_due(const struct decision *decision,
				       const struct happening *happening, int enforced)
{
	int over = decision->cause == CAUSE_knock_backoff && !decision->until_ns;

	if (decision->cause != CAUSE_knock_goes_first && !over)
		return 0;
	report(decision, happening, 0, enforced || over);
	return 1;
}

/* Count, tell what was not let pass, and turn the decision into what becomes of the packet. */
static __always_inline int conclude(const struct decision *decision,
				    const struct happening *happening, enum guard_mode mode)
{
	int enforced = mode == MODE_ENFORCE;

	if (decision->verdict == VERDICT_ALLOW || decision->verdict == VERDICT_NONE) {
		if (!tell_if_due(decision, happening, enforced) && decision->cause != CAUSE_none)
			count(decision->cause, 1);
		return PACKET_PASS;
	}
	report(decision, happening, 0, enforced);
	return enforced ? PACKET_DROP : PACKET_PASS;
}

/*
 * The last ACK of a handshake, or data behind it: it waits a moment for our dial that was given up for
 * the knock, so that the application hears of that first.
 */
static __always_inline int on_last_ack(struct __sk_buff *skb, const struct bpf_sock *listener,
				       const struct segment *segment,
				       const struct guard_policy *rules, __u64 now,
				       enum guard_mode mode)
{
	struct happening happening = {
		.address = segment->source,
		.now = now,
		.direction = DIRECTION_INBOUND,
		.local_port = segment->destination_port,
		.remote_port = segment->source_port,
	};
	struct knock ack = { .now = now, .remote_port = segment->source_port, .mode = mode };
	struct decision decision = {};
	struct peer *peer = bpf_map_lookup_elem(&peers, &happening.address);
	struct pending_handshake *pending;

	/* Looked at without the lock: nearly always there is no such dial. */
	if (!peer || peer->yielded_port != segment->source_port || mode != MODE_ENFORCE)
		return PACKET_PASS;
	ack.ends_dials = daemon_signs(now).alive;
	bpf_spin_lock(&peer->lock);
	if (peer_is(peer, &happening.address, now))
		decision = last_ack_decide(peer, &ack);
	bpf_spin_unlock(&peer->lock);
	if (decision.verdict != VERDICT_HOLD)
		return PACKET_PASS;
	pending = handshake_of(&happening.address, now);
	if (pending) {
		bpf_spin_lock(&pending->lock);
		handshake_waits(pending, &happening.address, rules, happening.remote_port, now);
		bpf_spin_unlock(&pending->lock);
	}
	/*
	 * A copy comes by the device that has the address. To a listener that is bound to another one it would belong to
	 * nothing, and an RST would be the answer, which ends what the other end takes for a link.
	 */
	if (listener->bound_dev_if)
		report(&decision, &happening, 0, 1);
	else
		report_held(skb, &decision, &happening);
	return PACKET_DROP;
}

/*
 * Keep a SYN that the daemon lets in a little later (syns.c): its sender repeats it a second later, or, if it has
 * been at it for long, sixteen seconds. It is held while a quiet link is asked, which may be what leaves no room for
 * both dials of a race where several links are allowed; for our own dial, which goes first, and may come to nothing;
 * or it has met our own dial, which is ended for it. Not inline: the stack is small.
 */
static __attribute__((noinline)) void knock_copy(struct __sk_buff *skb,
						 const struct peer_address *address, __u64 now, __u64 kept_ns)
{
	struct ready_syn syn = { .until_ns = now + kept_ns };
	struct bpf_sock *sk = skb->sk;

	/* Who lets it in has to know: a copy comes by the device that has the address. */
	if (sk)
		syn.interface = sk->bound_dev_if;
	if (syn_read(skb, now, &syn) == 0)
		bpf_map_update_elem(&held_syns, address, &syn, BPF_ANY);
}

static __always_inline int on_knock(struct __sk_buff *skb, struct bpf_sock *sk, __u32 listen_port)
{
	const struct guard_policy *rules = policy_in_force();
	struct happening happening = { .direction = DIRECTION_INBOUND };
	struct decision decision = { .verdict = VERDICT_ALLOW, .cause = CAUSE_knock_idle };
	struct knock knock = { .isn_known = 1 };
	enum guard_mode mode = mode_in_force();
	struct pending_handshake *pending;
	struct daemon_signs signs;
	__u64 revived;
	__u32 room;
	int several = 0;
	struct segment segment;
	struct peer *peer;

	if (!rules || mode == MODE_OFF || !port_guarded(listen_port) || !inode_is_guarded(rules, sk))
		return PACKET_PASS;
	room = rules->max_links;
	if (segment_read(skb, &segment) ||
	    address_same_host(&segment.source, &segment.destination))
		return PACKET_PASS;
	segment.source.service = service_of_port(listen_port);
	knock.now = bpf_ktime_get_boot_ns();
	if ((segment.flags & (TCP_SYN | TCP_RST | TCP_ACK)) == TCP_ACK)
		return on_last_ack(skb, sk, &segment, rules, knock.now, mode);
	if (segment.flags != TCP_SYN && !(segment.flags & TCP_RST))
		return PACKET_PASS;
	pending = handshake_of(&segment.source, knock.now);
	/*
	 * RST to a listener: the other end knows nothing of the handshake any more, a new one need
	 * not wait for it.
	 */
	if (pending && segment.flags & TCP_RST) {
		bpf_spin_lock(&pending->lock);
		handshake_done(pending, &segment.source, segment.source_port);
		bpf_spin_unlock(&pending->lock);
	}
	if (segment.flags != TCP_SYN)
		return PACKET_PASS;
	switch (exemption_of(&segment.source, knock.now)) {
	case EXEMPT_SELF:
		return PACKET_PASS;
	case EXEMPT_PEER:
		count(CAUSE_knock_exempt, 1);
		return PACKET_PASS;
	case EXEMPT_NOT:
		break;
	}
	knock.remote_port = segment.source_port;
	knock.client_isn = segment.sequence;
	knock.mode = mode;
	signs = daemon_signs(knock.now);
	knock.ends_dials = signs.alive;
	knock.asks = signs.asks;
	revived = revived_ns();
	happening.address = segment.source;
	happening.now = knock.now;
	happening.local_port = segment.destination_port;
	happening.remote_port = segment.source_port;
	peer = bpf_map_lookup_elem(&peers, &happening.address);
	if (peer) {
		bpf_spin_lock(&peer->lock);
		if (peer_is(peer, &happening.address, knock.now)) {
			peer_revive(peer, revived);
			decision = knock_decide(peer, rules, &knock);
			room = peer_room(peer, rules, knock.now);
			several = peer_limit(peer, rules) > 1;
		}
		bpf_spin_unlock(&peer->lock);
	}
	if (pending && decision.verdict == VERDICT_ALLOW && decision.cause != CAUSE_knock_exempt) {
		const struct listening *listener = bpf_sk_storage_get(&listening, sk, 0, 0);
		__u64 since_ns = listener_since_ns(pending);
		struct decision held;

		bpf_spin_lock(&pending->lock);
		handshake_forget_before(pending, since_ns);
		held = handshake_decide(pending, &happening.address, rules, segment.source_port,
					segment.sequence, room, knock.now);
		if (held.verdict == VERDICT_ALLOW &&
		    handshake_awaited(pending, &happening.address, segment.source_port, knock.now)) {
			if (listener)
				pending->place = listener->place;
			else
				__builtin_memset(&pending->place, 0, sizeof(pending->place));
		}
		bpf_spin_unlock(&pending->lock);
		/* What somebody has to act on is told, whatever becomes of the SYN. */
		if (held.verdict != VERDICT_ALLOW) {
			tell_if_due(&decision, &happening, mode == MODE_ENFORCE);
			decision = held;
		} else if (held.cause != CAUSE_knock_idle &&
			   decision.cause != CAUSE_knock_goes_first &&
			   decision.cause != CAUSE_knock_backoff) {
			decision = held;
		}
	}
	if ((decision.cause == CAUSE_knock_suspect || decision.cause == CAUSE_knock_tie_lost) &&
	    mode == MODE_ENFORCE)
		knock_copy(skb, &happening.address, knock.now,
			   decision.cause == CAUSE_knock_suspect || several ? KNOCK_KEPT_MAX_NS :
									      KNOCK_TIED_KEPT_MAX_NS);
	if (decision.cause == CAUSE_knock_linked && mode == MODE_ENFORCE)
		held_syn_forget(&happening.address);
	return conclude(&decision, &happening, mode);
}

/* A SYN-ACK to our dial, or a SYN on its own 4-tuple. */
static __always_inline int on_answer(struct __sk_buff *skb, struct bpf_sock *sk)
{
	const struct guard_policy *rules = policy_in_force();
	struct happening happening = { .direction = DIRECTION_OUTBOUND };
	struct decision decision = {};
	enum guard_mode mode = mode_in_force();
	struct their_handshake theirs;
	struct owned_slot *owned;
	struct segment segment;
	struct peer *peer;
	__u64 now;

	if (!rules || mode == MODE_OFF)
		return PACKET_PASS;
	owned = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (!owned || owned->kind != SLOT_CLAIM)
		return PACKET_PASS;
	happening.address = owned->address;
	now = bpf_ktime_get_boot_ns();
	if (exemption_of(&happening.address, now) != EXEMPT_NOT)
		return PACKET_PASS;
	if (segment_read(skb, &segment) || !(segment.flags & TCP_SYN))
		return PACKET_PASS;
	peer = bpf_map_lookup_elem(&peers, &happening.address);
	if (!peer)
		return PACKET_PASS;
	happening.now = now;
	happening.cookie = bpf_get_socket_cookie(skb);
	happening.local_port = segment.destination_port;
	happening.remote_port = segment.source_port;
	if (segment.flags == TCP_SYN) {
		struct daemon_signs signs = daemon_signs(now);
		struct knock knock = { .now = now,
				       .client_isn = segment.sequence,
				       .isn_known = 1,
				       .mode = mode,
				       .ends_dials = signs.alive,
				       .remote_port = segment.source_port };

		bpf_spin_lock(&peer->lock);
		if (peer_is(peer, &happening.address, now))
			decision = open_decide(peer, rules, happening.cookie, &knock);
		bpf_spin_unlock(&peer->lock);
		if (decision.cause == CAUSE_knock_open_lost && mode == MODE_ENFORCE)
			knock_copy(skb, &happening.address, now, KNOCK_KEPT_MAX_NS);
		return conclude(&decision, &happening, mode);
	}
	if (segment.flags != (TCP_SYN | TCP_ACK))
		return PACKET_PASS;
	/* One lock at a time: what is learned here may be a little old below, as on the wire. */
	theirs = handshake_that_waits(&happening.address, now);
	/* A dial from the port that they have come to: both are one connection, and the answer is to both. */
	if (theirs.remote_port == segment.source_port && port_guarded(segment.destination_port) &&
	    service_of_port(segment.destination_port) == happening.address.service)
		theirs.until_ns = 0;
	bpf_spin_lock(&peer->lock);
	if (peer_is(peer, &happening.address, now))
		decision = answer_decide(peer, rules, &theirs, happening.cookie, now);
	if (mode == MODE_OBSERVE && decision.cause == CAUSE_answer_linked &&
	    dial_was_linked(peer, rules, happening.cookie))
		decision = (struct decision){};
	bpf_spin_unlock(&peer->lock);
	return conclude(&decision, &happening, mode);
}

/*
 * Jiffies, as a power of two, in which one packet of a link is evidence enough: 128 ms where there
 * are 1000 of them in a second, 1.28 s where there are 100. Far below any sensible suspect_after.
 */
#define TICK_SHIFT 7
/*
 * The end of what may be on its way. What the sender is about to let go counts as sent when it has left, and over a
 * virtual wire the answer is here by then: as long as somebody has the socket, it is what there is to send. TCP looks
 * at such a segment when he is done (net/ipv4/tcp_ipv4.c, tcp_add_backlog).
 */
static __always_inline __u32 sent_until(struct tcp_sock *tcp)
{
	return ((struct sock *)tcp)->sk_lock.owned ? tcp->write_seq : tcp->snd_nxt;
}

/*
 * Would TCP believe this segment (RFC 9293, section 3.10.7.4)? It acknowledges what is on its way (RFC 5961, section
 * 5.2, also takes what was acknowledged before: that says nothing of now), and is in the window, or repeats the
 * octet before, as a keepalive probe does. Who does not see the connection cannot make a dead link look alive
 * by guessing ports.
 */
static __always_inline int segment_is_valid(const struct segment *segment, struct tcp_sock *tcp)
{
	__u32 unacknowledged = tcp->snd_una, next = tcp->rcv_nxt;
	/* The right edge of what was offered never goes back (tcp_receive_window()). */
	__u32 window = tcp->rcv_wup + tcp->rcv_wnd - next;

	if ((__s32)window < 0)
		window = 0;
	return (segment->flags & (TCP_ACK | TCP_SYN | TCP_RST)) == TCP_ACK &&
	       segment->acknowledgment - unacknowledged <= sent_until(tcp) - unacknowledged &&
	       segment->sequence - (next - 1) <= window + 1;
}

/* Does it come next, or repeat what has come? Else something before it is missing. */
static __always_inline int segment_is_in_order(const struct segment *segment, struct tcp_sock *tcp)
{
	return (__s32)(segment->sequence - tcp->rcv_nxt) <= 0;
}

/* The first packet of a tick on a link. Not inline: nearly all packets go without it. */
static __attribute__((noinline)) void on_evidence(struct __sk_buff *skb, struct bpf_sock *sk,
						  struct owned_slot *owned, __u32 tick)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct peer_address address = owned->address;
	__u64 cookie = bpf_get_socket_cookie(skb);
	struct segment segment;
	struct peer *peer;
	int in_order;
	__u64 now;

	if (!tcp || segment_read(skb, &segment) || !segment_is_valid(&segment, tcp))
		return;
	in_order = segment_is_in_order(&segment, tcp);
	if (!in_order && owned->stalled_tick == tick)
		return;
	peer = bpf_map_lookup_elem(&peers, &address);
	if (!peer)
		return;
	if (in_order)
		owned->heard_tick = tick;
	else
		owned->stalled_tick = tick;
	now = bpf_ktime_get_boot_ns();
	bpf_spin_lock(&peer->lock);
	if (peer_is(peer, &address, now)) {
		if (in_order)
			link_heard(peer, cookie, now);
		else
			link_stalls(peer, cookie, now);
	}
	bpf_spin_unlock(&peer->lock);
}

static __always_inline void on_packet(struct __sk_buff *skb, struct bpf_sock *sk)
{
	struct owned_slot *owned = bpf_sk_storage_get(&sockets, sk, 0, 0);
	__u32 tick = bpf_jiffies64() >> TICK_SHIFT;

	if (owned && owned->kind == SLOT_LINK && owned->heard_tick != tick)
		on_evidence(skb, sk, owned, tick);
}

SEC("cgroup_skb/ingress")
int ingress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	__u32 state;

	if (!sk)
		return PACKET_PASS;
	state = sk->state;
	if (state == BPF_TCP_LISTEN)
		return on_knock(skb, sk, sk->src_port);
	if (state != BPF_TCP_ESTABLISHED && state != BPF_TCP_SYN_SENT)
		return PACKET_PASS;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return PACKET_PASS;
	if (state == BPF_TCP_SYN_SENT)
		return on_answer(skb, sk);
	on_packet(skb, sk);
	return PACKET_PASS;
}
