/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ingress program: which SYNs and SYN-ACKs it drops, and what it counts and tells.
 *
 * BPF_PROG_TEST_RUN gives a cgroup_skb program a socket that was just allocated: TCP_CLOSE, port 0,
 * neither a listener nor a dial (net/bpf/test_run.c, bpf_prog_test_run_skb; net/core/sock.c,
 * sock_init_data). The program's first test lets everything to such a socket go, so that is all
 * that can be tried that way. For the rest it is attached to the cgroup of this test, whose real
 * listeners and dials get hand-made segments through a tun device: the test is the peer.
 *
 * Runs as root, in a network namespace of its own.
 */
#include "segments.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#define UNGUARDED_PORT 24001
#define LINK_COOKIE    4711

/* What BPF_PROG_TEST_RUN returns of a cgroup_skb program: 1 lets the packet pass. */
#define PASSED 1

static struct programs *programs;
static struct guard_maps maps;
static struct watch *watch;
static int link_fd = -1, listening4 = -1, listening6 = -1, listening_unguarded = -1;

/* ---- knocks --------------------------------------------------------------------------------- */

/*
 * Send a SYN. 1: it was answered with a SYN-ACK, and a handshake is pending; 0: it was not answered
 * at all.
 */
static bool begin_handshake(const struct segment *syn, struct segment *ret_answer)
{
	switch (answer_to(syn, ret_answer)) {
	case ANSWER_SYN_ACK:
		return true;
	case NO_ANSWER:
		return false;
	default:
		fail_msg("a SYN was answered with neither SYN-ACK nor silence");
		return false;
	}
}

/* Send a SYN, and when it is answered, take it back with RST. 1: it was answered. */
static bool knock(struct segment syn)
{
	struct segment reset = syn, answer;

	if (!begin_handshake(&syn, &answer))
		return false;
	reset.flags = TH_RST;
	reset.sequence = answer.acknowledgment;
	reset.ip_options = reset.extension_header = false;
	assert_int_equal(answer_to(&reset, NULL), NO_ANSWER);
	return true;
}

#define assert_let_in(syn)  assert_true(knock(syn))
#define assert_dropped(syn) assert_false(knock(syn))
/* Let in, and left pending. */
#define assert_begins(syn) assert_true(begin_handshake(&(syn), NULL))

/* A dropped knock of a linked peer, with the event that goes with it. */
static void assert_refused_as_linked(struct segment syn)
{
	struct guard_event event;

	assert_dropped(syn);
	assert_counted(watch, ENFORCED(knock_linked, 1));
	event = next_event(watch, knock_linked);
	assert_event_of_knock(&event, syn.source, syn.source_port, syn.destination_port);
	assert_int_equal(event.verdict, VERDICT_REFUSE);
	assert_int_equal(event.enforced, 1);
	assert_int_equal(event.other_cookie, LINK_COOKIE);
	assert_no_event(watch);
}

/* Let in, and the guard has nothing to say. */
static void assert_let_in_silently(struct segment syn)
{
	assert_let_in(syn);
	assert_silent(watch);
}

/* ---- surroundings --------------------------------------------------------------------------- */

static int set_up(void **state)
{
	int cgroup;

	(void)state;
	segments_open();
	programs = programs_load("ingress", PORT, &maps);
	watch = watch_open(&maps);
	cgroup = open(own_cgroup(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(cgroup >= 0);
	link_fd = bpf_link_create(programs_fd(programs), cgroup, BPF_CGROUP_INET_INGRESS, NULL);
	assert_true(link_fd >= 0);
	close(cgroup);
	listening4 = listener(HERE4, PORT);
	listening6 = listener(HERE6, PORT);
	listening_unguarded = listener(HERE4, UNGUARDED_PORT);
	/* Nobody waits for a connection that does not come. */
	assert_int_equal(fcntl(listening4, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(fcntl(listening6, F_SETFL, O_NONBLOCK), 0);
	return 0;
}

static int before_each(void **state)
{
	(void)state;
	maps_reset(&maps);
	guard_port(&maps, PORT);
	/* A test that has guarded it and failed leaves it guarded. */
	guard_port(&maps, UNGUARDED_PORT);
	unguard_port(&maps, UNGUARDED_PORT);
	set_service(PORT);
	/* A SYN-ACK is sent once: what is not answered at once is not answered. */
	write_setting("tcp_synack_retries", 0);
	watch_reset(watch);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(listening4);
	close(listening6);
	close(listening_unguarded);
	segments_close();
	close(link_fd);
	watch_close(watch);
	programs_close(programs);
	return 0;
}

/* ---- BPF_PROG_TEST_RUN ---------------------------------------------------------------------- */

/* Run the program on a frame; its verdict, or a negative errno of the kernel. */
static int run_on_frame(const void *frame, size_t length)
{
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = length,
		    .repeat = 1);
	int result = bpf_prog_test_run_opts(programs_fd(programs), &options);

	return result ? result : (int)options.retval;
}

static size_t frame_of(const struct segment *segment, __u8 frame[ETH_HLEN + PACKET_MAX])
{
	const struct ethhdr ethernet = {
		.h_proto = htons(strchr(segment->source, ':') ? ETH_P_IPV6 : ETH_P_IP),
	};

	memcpy(frame, &ethernet, sizeof(ethernet));
	return ETH_HLEN + packet_of(segment, frame + ETH_HLEN);
}

/* What belongs to no listener and no dial passes, even the SYN of a linked peer. */
static void runs_on_no_listener(void **state)
{
	struct segment syn4 = syn_from(THERE4), syn6 = syn_from(THERE6);
	__u8 frame[ETH_HLEN + PACKET_MAX];

	(void)state;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	put_slot(&maps, THERE6, some_link(LINK_COOKIE));
	assert_int_equal(run_on_frame(frame, frame_of(&syn4, frame)), PASSED);
	assert_int_equal(run_on_frame(frame, frame_of(&syn6, frame)), PASSED);
	assert_silent(watch);
	assert_int_equal(get_peer(&maps, THERE4).refused_knocks, 0);
}

/* However little of it there is, and whatever it says of itself. */
static void runs_on_garbage(void **state)
{
	static const __u16 protocols[] = { ETH_P_IP, ETH_P_IPV6, ETH_P_ARP, 0 };
	struct segment syn = syn_from(THERE4);
	__u8 frame[ETH_HLEN + PACKET_MAX];
	int verdict;

	(void)state;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++) {
		__be16 protocol = htons(protocols[i]);

		for (size_t length = ETH_HLEN + 1; length <= sizeof(frame); length++) {
			frame_of(&syn, frame);
			memcpy(&frame[12], &protocol, sizeof(protocol));
			verdict = run_on_frame(frame, length);
			/* Some kernels run no program on less than an IP header. */
			if (verdict != -EINVAL || length >= ETH_HLEN + sizeof(struct ip6_hdr))
				assert_int_equal(verdict, PASSED);
			memset(&frame[ETH_HLEN], 0xff, sizeof(frame) - ETH_HLEN);
			verdict = run_on_frame(frame, length);
			if (verdict != -EINVAL || length >= ETH_HLEN + sizeof(struct ip6_hdr))
				assert_int_equal(verdict, PASSED);
		}
	}
	frame_of(&syn, frame);
	frame[ETH_HLEN + offsetof(struct iphdr, protocol)] = IPPROTO_UDP;
	assert_int_equal(run_on_frame(frame, sizeof(frame)), PASSED);
	assert_silent(watch);
}

/* ---- knocks --------------------------------------------------------------------------------- */

/* Nothing is known of the peer: let in, counted, and still nothing is known. */
static void unknown(void **state)
{
	(void)state;
	assert_let_in(syn_from(THERE4));
	assert_counted(watch, ENFORCED(knock_idle, 1));
	assert_let_in(syn_from(THERE6));
	assert_counted(watch, ENFORCED(knock_idle, 1));
	assert_no_event(watch);
	assert_int_equal(count_peers(&maps), 0);
}

static void check_linked(const char *peer)
{
	struct peer after;

	put_slot(&maps, peer, some_link(LINK_COOKIE));
	put_held_syn(&maps, peer);
	assert_refused_as_linked(syn_from(peer));
	assert_false(has_held_syn(&maps, peer));
	after = get_peer(&maps, peer);
	assert_int_equal(after.refused_knocks, 1);
	assert_int_equal(after.last_refusal_cause, CAUSE_knock_linked);
	assert_true(after.last_refusal_ns > 0);
	assert_int_equal(after.slots[0].kind, SLOT_LINK);

	set_mode(&maps, MODE_OBSERVE);
	assert_let_in(syn_from(peer));
	assert_counted(watch, OBSERVED(knock_linked, 1));
	assert_int_equal(next_event(watch, knock_linked).enforced, 0);
	assert_no_event(watch);
	assert_int_equal(get_peer(&maps, peer).refused_knocks, 2);

	set_mode(&maps, MODE_OFF);
	assert_let_in_silently(syn_from(peer));
	assert_int_equal(get_peer(&maps, peer).refused_knocks, 2);
}

static void linked_ipv4(void **state)
{
	(void)state;
	check_linked(THERE4);
}

static void linked_ipv6(void **state)
{
	(void)state;
	check_linked(THERE6);
}

static struct peer in_backoff(void)
{
	return (struct peer){ .attempts = 4,
			      .failed_ns = now_ns(),
			      .failure = ENDING_SILENCE,
			      .flags = PEER_DIALED | PEER_SILENT,
			      .next_attempt_ns = now_ns() + HOUR_NS };
}

/* Let in, and the backoff is over: the daemon is told. The attempts stay. */
static void check_backoff(const char *source, enum guard_mode in_force)
{
	struct peer peer = in_backoff(), after;
	struct segment syn = syn_from(source);
	struct guard_event event;

	set_mode(&maps, in_force);
	put_peer(&maps, source, &peer);
	assert_let_in(syn);
	assert_counted(watch, ENFORCED(knock_backoff, 1));
	event = next_event(watch, knock_backoff);
	assert_event_of_knock(&event, source, syn.source_port, PORT);
	assert_int_equal(event.verdict, VERDICT_ALLOW);
	assert_int_equal(event.enforced, 1);
	assert_int_equal(event.until_ns, 0);
	assert_int_equal(event.attempts, 4);
	assert_no_event(watch);
	after = get_peer(&maps, source);
	assert_int_equal(after.attempts, 4);
	assert_int_equal(after.next_attempt_ns, 0);
	assert_int_equal(after.wake_after_ns, peer.next_attempt_ns);

	/* It dials and fails again: a SYN proves nothing, and each step is ended once. */
	peer.wake_after_ns = after.wake_after_ns;
	peer.next_attempt_ns += HOUR_NS;
	put_peer(&maps, source, &peer);
	assert_let_in(syn_from(source));
	assert_counted(watch, ENFORCED(knock_backoff, 1));
	assert_no_event(watch);
	assert_int_equal(get_peer(&maps, source).next_attempt_ns, peer.next_attempt_ns);
	/* After the deadline that the first SYN has cut short, the next one may be. */
	peer.wake_after_ns = now_ns();
	put_peer(&maps, source, &peer);
	assert_let_in(syn_from(source));
	assert_counted(watch, ENFORCED(knock_backoff, 1));
	assert_int_equal(next_event(watch, knock_backoff).until_ns, 0);
	assert_int_equal(get_peer(&maps, source).next_attempt_ns, 0);
}

static void backoff_ipv4(void **state)
{
	(void)state;
	check_backoff(THERE4, MODE_ENFORCE);
}

static void backoff_ipv6(void **state)
{
	(void)state;
	check_backoff(THERE6, MODE_ENFORCE);
}

/* What the peer's dial shows is so in every mode. */
static void backoff_observed(void **state)
{
	(void)state;
	check_backoff(THERE4, MODE_OBSERVE);
}

/* Told although the SYN itself is held, for the sake of another handshake of the peer. */
static void backoff_while_pending(void **state)
{
	static const enum guard_mode in_force[] = { MODE_ENFORCE, MODE_OBSERVE };
	struct peer peer = in_backoff();

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct segment first = syn_from(THERE4), second = syn_from(THERE4);
		struct guard_event event;

		maps_reset(&maps);
		set_mode(&maps, in_force[i]);
		assert_begins(first);
		put_peer(&maps, THERE4, &peer);
		watch_reset(watch);
		if (i)
			assert_begins(second);
		else
			assert_dropped(second);
		assert_counted(watch, ENFORCED(knock_backoff, 1),
			       { i ? COUNTERS_OBSERVED : COUNTERS_ENFORCED, CAUSE_knock_pending, 1 });
		event = next_event(watch, knock_backoff);
		assert_event_of_knock(&event, THERE4, second.source_port, PORT);
		assert_int_equal(event.until_ns, 0);
		assert_int_equal(event.enforced, 1);
		assert_int_equal(next_event(watch, knock_pending).enforced, !i);
		assert_no_event(watch);
		assert_int_equal(get_peer(&maps, THERE4).next_attempt_ns, 0);
	}
}

/* What is not let in, or not asked, ends no backoff. */
static void backoff_goes_on(void **state)
{
	struct peer peer = in_backoff(), before, after;
	struct segment segment;

	(void)state;
	/* Linked. (What came before is not the SYN's to end: a link has ended it.) */
	peer.slots[0] = some_link(LINK_COOKIE);
	put_peer(&maps, THERE4, &peer);
	assert_refused_as_linked(syn_from(THERE4));
	assert_int_equal(get_peer(&maps, THERE4).next_attempt_ns, peer.next_attempt_ns);
	/* Held for our dial. */
	peer.slots[0] = some_claim(LINK_COOKIE, 6000);
	put_peer(&maps, THERE4, &peer);
	assert_dropped(syn_from(THERE4));
	next_event(watch, knock_tie_lost);
	assert_int_equal(get_peer(&maps, THERE4).next_attempt_ns, peer.next_attempt_ns);
	/* Exempt, off, or at a port that is not guarded, or is another service. */
	peer.slots[0] = (struct slot){};
	put_peer(&maps, THERE4, &peer);
	before = get_peer(&maps, THERE4);
	set_exempt(&maps, THERE4, 32, (struct exempt_value){ .until_ns = NEVER_ENDS_NS });
	assert_let_in(syn_from(THERE4));
	set_exempt(&maps, THERE4, 32, (struct exempt_value){ .until_ns = now_ns() });
	set_mode(&maps, MODE_OFF);
	assert_let_in(syn_from(THERE4));
	set_mode(&maps, MODE_ENFORCE);
	segment = syn_from(THERE4);
	segment.destination_port = UNGUARDED_PORT;
	assert_let_in(segment);
	guard_port(&maps, UNGUARDED_PORT);
	segment.source_port = fresh_port();
	assert_let_in(segment);
	/* Not a plain SYN. */
	segment = syn_from(THERE4);
	segment.flags = TH_ACK;
	assert_int_equal(answer_to(&segment, NULL), ANSWER_RESET);
	segment.flags = TH_RST;
	assert_int_equal(answer_to(&segment, NULL), NO_ANSWER);
	segment.flags = TH_SYN | TH_ACK;
	assert_int_equal(answer_to(&segment, NULL), ANSWER_RESET);
	after = get_peer(&maps, THERE4);
	assert_memory_equal(&after, &before, sizeof(after));
	assert_no_event(watch);
	/* It is over already: the service has started since it began. */
	set_revived(&maps, now_ns());
	watch_reset(watch);
	assert_let_in(syn_from(THERE4));
	assert_counted(watch, ENFORCED(knock_idle, 1));
	assert_no_event(watch);
	assert_int_equal(get_peer(&maps, THERE4).next_attempt_ns, 0);
	assert_int_equal(get_peer(&maps, THERE4).wake_after_ns, 0);
}

static void limits(void **state)
{
	struct peer peer = { .limit = 2, .slots = { some_link(1) } };

	(void)state;
	put_peer(&maps, THERE4, &peer);
	assert_let_in(syn_from(THERE4));
	assert_counted(watch, ENFORCED(knock_idle, 1));
	assert_no_event(watch);
	peer.slots[3] = some_link(LINK_COOKIE);
	put_peer(&maps, THERE4, &peer);
	assert_refused_as_linked(syn_from(THERE4));
}

/* The TCP header is found behind the options. */
static void ipv4_options(void **state)
{
	struct segment syn = syn_from(THERE4);

	(void)state;
	syn.ip_options = true;
	assert_let_in(syn);
	assert_counted(watch, ENFORCED(knock_idle, 1));
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	syn.source_port = fresh_port();
	assert_refused_as_linked(syn);
	syn.destination_port = UNGUARDED_PORT;
	assert_let_in_silently(syn);
}

/* Not looked behind, so allowed: what becomes of it shows when it is established. */
static void ipv6_extension_header(void **state)
{
	struct segment syn = syn_from(THERE6);

	(void)state;
	put_slot(&maps, THERE6, some_link(LINK_COOKIE));
	syn.extension_header = true;
	assert_let_in_silently(syn);
	syn.extension_header = false;
	assert_refused_as_linked(syn);
}

/* Only a plain SYN knocks. The rest is for TCP to answer as it does. */
static void flags(void **state)
{
	static const struct {
		__u8 flags;
		enum answer answer;
	} others[] = {
		{ 0, NO_ANSWER },
		{ TH_ACK, ANSWER_RESET },
		{ TH_RST, NO_ANSWER },
		{ TH_FIN, NO_ANSWER },
		{ TH_SYN | TH_ACK, ANSWER_RESET },
		{ TH_SYN | TH_RST, NO_ANSWER },
		{ TH_SYN | TH_FIN, NO_ANSWER },
		{ TH_SYN | TH_ACK | TH_RST | TH_FIN, NO_ANSWER },
		{ TH_FIN | TH_ACK, ANSWER_RESET },
	};
	/* ECN-setup SYN (RFC 3168), and what is strange but a SYN to TCP. */
	static const __u8 syns[] = { TH_SYN, TH_SYN | 0xc0, TH_SYN | TH_PUSH, TH_SYN | TH_URG };

	(void)state;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		struct segment segment = syn_from(THERE4);

		segment.flags = others[i].flags;
		segment.acknowledgment = 77;
		assert_int_equal(answer_to(&segment, NULL), others[i].answer);
		assert_silent(watch);
	}
	assert_int_equal(get_peer(&maps, THERE4).refused_knocks, 0);
	for (size_t i = 0; i < sizeof(syns); i++) {
		struct segment segment = syn_from(THERE4);

		segment.flags = syns[i];
		assert_refused_as_linked(segment);
	}
}

/* TCP throws it away; it neither counts nor changes anything. */
static void truncated(void **state)
{
	(void)state;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	put_slot(&maps, THERE6, some_link(LINK_COOKIE));
	for (size_t length = 1; length < sizeof(struct tcphdr); length++) {
		struct segment syn4 = syn_from(THERE4), syn6 = syn_from(THERE6);

		syn4.tcp_bytes = syn6.tcp_bytes = length;
		assert_int_equal(answer_to(&syn4, NULL), NO_ANSWER);
		assert_int_equal(answer_to(&syn6, NULL), NO_ANSWER);
	}
	assert_silent(watch);
	assert_int_equal(get_peer(&maps, THERE4).refused_knocks, 0);
}

static void other_port(void **state)
{
	struct segment syn = syn_from(THERE4);

	(void)state;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	syn.destination_port = UNGUARDED_PORT;
	assert_let_in_silently(syn);
	guard_port_of(&maps, UNGUARDED_PORT, PORT);
	assert_refused_as_linked(syn);
	unguard_port(&maps, UNGUARDED_PORT);
	syn.source_port = fresh_port();
	assert_let_in_silently(syn);
}

/*
 * A limit is per service: neither links nor claims nor handshakes of one are in the way at another,
 * unless they share their limits.
 */
static void services(void **state)
{
	struct segment syn = syn_from(THERE4), at_other = syn_from(THERE4);

	(void)state;
	guard_port(&maps, UNGUARDED_PORT);
	at_other.destination_port = UNGUARDED_PORT;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	assert_let_in(at_other);
	assert_counted(watch, ENFORCED(knock_idle, 1));
	put_slot(&maps, THERE4, some_claim(LINK_COOKIE, 6000));
	assert_let_in(at_other);
	assert_counted(watch, ENFORCED(knock_idle, 1));
	set_service(UNGUARDED_PORT);
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	assert_refused_as_linked(at_other);
	maps_reset(&maps);
	assert_begins(syn);
	at_other.source_port = fresh_port();
	assert_begins(at_other);
	assert_counted(watch, ENFORCED(knock_idle, 2));
	assert_no_event(watch);

	maps_reset(&maps);
	guard_port_of(&maps, PORT, 0);
	guard_port_of(&maps, UNGUARDED_PORT, 0);
	set_service(0);
	syn.source_port = fresh_port();
	at_other.source_port = fresh_port();
	assert_begins(syn);
	assert_dropped(at_other);
	assert_counted(watch, ENFORCED(knock_idle, 1), ENFORCED(knock_pending, 1));
	next_event(watch, knock_pending);
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	assert_refused_as_linked(at_other);
	at_other.destination_port = PORT;
	assert_refused_as_linked(at_other);
}

/* This host is no peer of itself: real connections over loopback. */
static void source_is_destination(void **state)
{
	static const char *const addresses[] = { HERE4, HERE6 };

	(void)state;
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		int dialing = bound_socket(addresses[i], 0), accepted;

		put_slot(&maps, addresses[i], some_link(LINK_COOKIE));
		assert_int_equal(dial(dialing, addresses[i], PORT), 0);
		accepted = accept(i ? listening6 : listening4, NULL, NULL);
		assert_true(accepted >= 0);
		assert_silent(watch);
		close(dialing);
		close(accepted);
	}
}

static void exempt(void **state)
{
	const struct exempt_value for_good = { .until_ns = NEVER_ENDS_NS };
	struct peer peer = { .exempt_until_ns = NEVER_ENDS_NS,
			     .slots = { some_link(LINK_COOKIE) } };
	struct segment first, second;

	(void)state;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	put_slot(&maps, THERE6, some_link(LINK_COOKIE));
	set_exempt(&maps, "10.97.1.0", 24, for_good);
	set_exempt(&maps, "fd97:1::", 64, for_good);
	assert_let_in(syn_from(THERE4));
	assert_let_in(syn_from(THERE6));
	assert_counted(watch, ENFORCED(knock_exempt, 2));
	assert_no_event(watch);
	/* The longest prefix counts: one that is over. An address of this host is none of them. */
	set_exempt(&maps, THERE4, 32, (struct exempt_value){ .until_ns = now_ns() });
	assert_refused_as_linked(syn_from(THERE4));
	set_own(&maps, THERE4, 32);
	assert_let_in_silently(syn_from(THERE4));

	/* A peer that is exempt by command; its handshakes are not held either. */
	maps_reset(&maps);
	put_peer(&maps, OTHER4, &peer);
	first = syn_from(OTHER4);
	second = syn_from(OTHER4);
	assert_begins(first);
	assert_begins(second);
	assert_counted(watch, ENFORCED(knock_exempt, 2));
	assert_no_event(watch);
	peer.exempt_until_ns = now_ns();
	put_peer(&maps, OTHER4, &peer);
	assert_refused_as_linked(syn_from(OTHER4));
}

/* An entry that is being deleted is no entry. */
static void leaving(void **state)
{
	const struct peer peer = { .flags = PEER_LEAVING, .slots = { some_link(LINK_COOKIE) } };

	(void)state;
	put_peer(&maps, THERE4, &peer);
	assert_let_in(syn_from(THERE4));
	assert_counted(watch, ENFORCED(knock_idle, 1));
	assert_no_event(watch);
}

static void no_policy(void **state)
{
	const struct guard_policy unset = {};

	(void)state;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	set_policy(&maps, &unset);
	assert_let_in_silently(syn_from(THERE4));
}

/* sk_lookup refuses with RST; a knock that comes past it is dropped here, whatever the style. */
static void reject_styles(void **state)
{
	struct guard_policy policy = patient_policy();

	(void)state;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	policy.reject_style = REJECT_DROP;
	set_policy(&maps, &policy);
	assert_refused_as_linked(syn_from(THERE4));
}

/* ---- ties ----------------------------------------------------------------------------------- */

static struct segment syn_numbered(const char *source, __u32 sequence)
{
	struct segment syn = syn_from(source);

	syn.sequence = sequence;
	return syn;
}

static void tie_won(void **state)
{
	struct peer after;

	(void)state;
	put_slot(&maps, THERE4, some_claim(LINK_COOKIE, 1000));
	assert_let_in(syn_numbered(THERE4, 1001));
	assert_counted(watch, ENFORCED(knock_tie_won, 1));
	assert_no_event(watch);
	/* Our dial gives way, and is still a dial. */
	after = get_peer(&maps, THERE4);
	assert_int_not_equal(after.slots[0].yields_until_ns, 0);
	assert_int_equal(after.slots[0].kind, SLOT_CLAIM);
	assert_int_equal(after.refused_knocks, 0);
	/* Having given way, it holds nobody: not even one that would have lost to it. */
	assert_let_in(syn_numbered(THERE4, 1));
	assert_counted(watch, ENFORCED(knock_tie_won, 1));
	assert_no_event(watch);
	/* Equal numbers are won, and the numbers are unsigned. */
	put_slot(&maps, THERE4, some_claim(LINK_COOKIE, 0xffffffff));
	assert_let_in(syn_numbered(THERE4, 0xffffffff));
	put_slot(&maps, THERE6, some_claim(LINK_COOKIE, 0x7fffffff));
	assert_let_in(syn_numbered(THERE6, 0x80000000));
	assert_counted(watch, ENFORCED(knock_tie_won, 2));
}

/* Is it kept for the daemon to let it in, as it came, and for so long? */
static bool is_kept(const char *peer, const struct segment *segment, __u64 kept_ns)
{
	struct peer_address key = key_of(peer);
	__u8 packet[PACKET_MAX];
	struct ready_syn syn;

	if (bpf_map_lookup_elem(maps.held_syns, &key, &syn))
		return false;
	assert_int_equal(syn.interface, 0);
	assert_int_equal(syn.length, packet_of(segment, packet));
	assert_memory_equal(syn.bytes, packet, syn.length);
	assert_int_equal(syn.until_ns - syn.time_ns, kept_ns);
	return true;
}

static void check_tie_lost(const char *peer)
{
	const struct guard_policy policy = patient_policy();
	struct segment syn = syn_numbered(peer, 999);
	struct slot claim = some_claim(LINK_COOKIE, 1000);
	struct guard_event event;
	struct peer after;
	__u64 before;

	put_slot(&maps, peer, claim);
	assert_dropped(syn);
	assert_counted(watch, ENFORCED(knock_tie_lost, 1));
	/* Our dial may come to nothing: then it need not wait until its sender repeats it. */
	assert_true(is_kept(peer, &syn, KNOCK_TIED_KEPT_MAX_NS));
	event = next_event(watch, knock_tie_lost);
	assert_event_of_knock(&event, peer, syn.source_port, PORT);
	assert_int_equal(event.verdict, VERDICT_HOLD);
	assert_int_equal(event.enforced, 1);
	assert_int_equal(event.other_cookie, LINK_COOKIE);
	/*
	 * The dial has its round trip from when it was made: no retransmission makes the hold
	 * longer.
	 */
	assert_int_equal(event.until_ns, claim.since_ns + policy.hold_max_ns);
	assert_no_event(watch);
	after = get_peer(&maps, peer);
	assert_int_equal(after.slots[0].yields_until_ns, 0);
	assert_int_equal(after.refused_knocks, 1);
	assert_int_equal(after.last_refusal_cause, CAUSE_knock_tie_lost);
	assert_dropped(syn);
	assert_counted(watch, ENFORCED(knock_tie_lost, 1));
	assert_int_equal(next_event(watch, knock_tie_lost).until_ns, event.until_ns);

	/* Our dial won and did not complete: a firewall ate it, and it gives way for a while. */
	claim.since_ns = now_ns() - policy.hold_max_ns;
	put_slot(&maps, peer, claim);
	before = now_ns();
	assert_let_in(syn);
	assert_counted(watch, ENFORCED(knock_hold_spent, 1));
	assert_no_event(watch);
	assert_in_range(get_peer(&maps, peer).slots[0].yields_until_ns,
			before + HOLD_PERIODS * policy.hold_max_ns,
			now_ns() + HOLD_PERIODS * policy.hold_max_ns);
}

static void tie_lost_ipv4(void **state)
{
	(void)state;
	check_tie_lost(THERE4);
}

static void tie_lost_ipv6(void **state)
{
	(void)state;
	check_tie_lost(THERE6);
}

static void tie_lost_observed(void **state)
{
	(void)state;
	put_slot(&maps, THERE4, some_claim(LINK_COOKIE, 1000));
	set_mode(&maps, MODE_OBSERVE);
	assert_let_in(syn_numbered(THERE4, 999));
	assert_counted(watch, OBSERVED(knock_tie_lost, 1));
	assert_int_equal(next_event(watch, knock_tie_lost).enforced, 0);
	assert_no_event(watch);
}

static void no_tie(void **state)
{
	struct guard_policy policy = patient_policy();
	struct slot claim = some_claim(LINK_COOKIE, 1000);
	struct peer peer = { .limit = 2, .slots = { claim } };

	(void)state;
	/* No SYN left yet: there is no number to compare with. */
	claim.flags = 0;
	put_slot(&maps, THERE4, claim);
	assert_let_in(syn_numbered(THERE4, 999));
	assert_counted(watch, ENFORCED(knock_idle, 1));
	/* The claim is void. */
	maps_reset(&maps);
	claim = some_claim(LINK_COOKIE, 1000);
	claim.expires_ns = now_ns();
	put_slot(&maps, THERE4, claim);
	assert_let_in(syn_numbered(THERE4, 999));
	assert_counted(watch, ENFORCED(knock_idle, 1));
	/* There is room for both. */
	maps_reset(&maps);
	put_peer(&maps, THERE4, &peer);
	assert_let_in(syn_numbered(THERE4, 999));
	assert_counted(watch, ENFORCED(knock_idle, 1));
	/* The service has a rule of its own. */
	maps_reset(&maps);
	policy.tie_break = TIE_BREAK_NONE;
	set_policy(&maps, &policy);
	put_slot(&maps, THERE4, some_claim(LINK_COOKIE, 1000));
	assert_let_in(syn_numbered(THERE4, 999));
	assert_counted(watch, ENFORCED(knock_tie_open, 1));
	assert_no_event(watch);
	assert_int_equal(get_peer(&maps, THERE4).slots[0].flags, SLOT_SENT);
}

/* ---- two handshakes inside one round trip --------------------------------------------------- */

static void check_pending(const char *peer, const char *other_peer)
{
	const struct guard_policy policy = patient_policy();
	struct segment first = syn_from(peer), second = syn_from(peer);
	struct pending_handshake pending;
	struct guard_event event;
	__u64 before = now_ns();

	assert_begins(first);
	assert_counted(watch, ENFORCED(knock_idle, 1));
	assert_true(find_handshake(&maps, peer, &pending) >= 0);
	assert_int_equal(pending.remote_port, first.source_port);
	assert_int_equal(pending.client_isn, first.sequence);
	assert_true(pending.until_ns >= before + policy.hold_max_ns &&
		    pending.until_ns <= now_ns() + policy.hold_max_ns);

	assert_dropped(second);
	assert_counted(watch, ENFORCED(knock_pending, 1));
	event = next_event(watch, knock_pending);
	assert_event_of_knock(&event, peer, second.source_port, PORT);
	assert_int_equal(event.verdict, VERDICT_HOLD);
	assert_int_equal(event.enforced, 1);
	assert_int_equal(event.until_ns, pending.until_ns);
	assert_no_event(watch);

	/* The first one's retransmission is the first one; another peer is not concerned. */
	assert_begins(first);
	assert_let_in(syn_from(other_peer));
	assert_counted(watch, ENFORCED(knock_idle, 2));
	/*
	 * The second one's is let in: each SYN is held once, and now this handshake is the pending
	 * one.
	 */
	assert_begins(second);
	assert_counted(watch, ENFORCED(knock_hold_spent, 1));
	assert_no_event(watch);
	find_handshake(&maps, peer, &pending);
	assert_int_equal(pending.remote_port, second.source_port);
	/* Nothing is remembered of a peer for its SYNs. */
	assert_int_equal(count_peers(&maps), 0);
}

static void pending_ipv4(void **state)
{
	(void)state;
	check_pending(THERE4, OTHER4);
}

static void pending_ipv6(void **state)
{
	(void)state;
	check_pending(THERE6, "fd97:1::3");
}

static void pending_observed(void **state)
{
	struct segment first = syn_from(THERE4), second = syn_from(THERE4);

	(void)state;
	set_mode(&maps, MODE_OBSERVE);
	assert_begins(first);
	assert_begins(second);
	assert_counted(watch, ENFORCED(knock_idle, 1), OBSERVED(knock_pending, 1));
	assert_int_equal(next_event(watch, knock_pending).enforced, 0);
	assert_no_event(watch);
}

static void pending_with_room(void **state)
{
	struct segment first = syn_from(THERE4), second = syn_from(THERE4);
	struct segment third = syn_from(OTHER4), fourth = syn_from(OTHER4);
	struct guard_policy policy = patient_policy();

	(void)state;
	policy.max_links = 2;
	set_policy(&maps, &policy);
	assert_begins(first);
	assert_begins(second);
	assert_counted(watch, ENFORCED(knock_idle, 2));
	/* Room for one more: as without a second link. */
	maps_reset(&maps);
	set_policy(&maps, &policy);
	put_slot(&maps, OTHER4, some_link(1));
	assert_begins(third);
	assert_dropped(fourth);
	assert_counted(watch, ENFORCED(knock_idle, 1), ENFORCED(knock_pending, 1));
}

/* By the clock: a handshake that did not become a link in time is not waited for any longer. */
static void pending_ends(void **state)
{
	struct segment first = syn_from(THERE4), second = syn_from(THERE4),
		       third = syn_from(THERE4);
	struct guard_policy policy = patient_policy();
	struct pending_handshake pending;

	(void)state;
	policy.hold_max_ns = 100 * NS_PER_MS;
	set_policy(&maps, &policy);
	assert_begins(first);
	assert_dropped(second);
	next_event(watch, knock_pending);
	find_handshake(&maps, THERE4, &pending);
	while (now_ns() < pending.until_ns)
		sched_yield();
	assert_begins(third);
	assert_counted(watch, ENFORCED(knock_idle, 2), ENFORCED(knock_pending, 1));
	assert_no_event(watch);
}

/* The peer that resets its handshake knows nothing of it any more: the next one need not wait. */
static void pending_reset(void **state)
{
	struct segment first = syn_from(THERE4), second = syn_from(THERE4), reset = first, answer;

	(void)state;
	assert_true(begin_handshake(&first, &answer));
	/* RST of another port, of another peer. */
	reset.flags = TH_RST;
	reset.sequence = answer.acknowledgment;
	reset.source_port = fresh_port();
	assert_int_equal(answer_to(&reset, NULL), NO_ANSWER);
	reset.source_port = first.source_port;
	reset.source = OTHER4;
	assert_int_equal(answer_to(&reset, NULL), NO_ANSWER);
	assert_dropped(second);
	next_event(watch, knock_pending);
	assert_counted(watch, ENFORCED(knock_idle, 1), ENFORCED(knock_pending, 1));
	reset.source = THERE4;
	assert_int_equal(answer_to(&reset, NULL), NO_ANSWER);
	assert_begins(second);
	assert_counted(watch, ENFORCED(knock_idle, 1));
	assert_no_event(watch);
}

/* Whoever spoofs a peer's SYNs can have a few of its own held, once each. */
static void pending_budget(void **state)
{
	const struct guard_policy policy = patient_policy();
	struct segment first = syn_from(THERE4), next;
	struct pending_handshake pending;
	__u64 before = now_ns();
	int index;

	(void)state;
	assert_begins(first);
	for (int i = 0; i < HELD_PORTS; i++) {
		next = syn_from(THERE4);
		assert_dropped(next);
		next_event(watch, knock_pending);
		index = find_handshake(&maps, THERE4, &pending);
		assert_int_equal(pending.held_ports[HELD_PORTS - 1 - i], next.source_port);
	}
	assert_counted(watch, ENFORCED(knock_idle, 1), ENFORCED(knock_pending, HELD_PORTS));
	/* Counted from the first of them. */
	assert_true(pending.held_until_ns >= before + HOLD_PERIODS * policy.hold_max_ns);
	assert_true(pending.held_until_ns <= now_ns() + HOLD_PERIODS * policy.hold_max_ns);
	/* No room to remember another: new ones are let in, as many as come. */
	for (int i = 0; i < 3; i++) {
		next = syn_from(THERE4);
		assert_begins(next);
	}
	assert_counted(watch, ENFORCED(knock_hold_spent, 3));
	assert_no_event(watch);

	/* Next period. */
	find_handshake(&maps, THERE4, &pending);
	assert_int_equal(pending.remote_port, next.source_port);
	pending.held_until_ns = now_ns();
	put_handshake(&maps, index, &pending);
	next = syn_from(THERE4);
	assert_dropped(next);
	next_event(watch, knock_pending);
	assert_begins(next);
	assert_counted(watch, ENFORCED(knock_pending, 1), ENFORCED(knock_hold_spent, 1));
	assert_no_event(watch);
}

/*
 * Peers are often neighbours. Each has its own element of the table, or they would take each
 * other's holds away.
 */
static void pending_of_neighbours(void **state)
{
	static const char *const networks[] = { "10.97.1.%u", "fd97:1::%x" };
	enum { NEIGHBOURS = 24 };
	struct pending_handshake pending;
	char address[64];
	int elements[NEIGHBOURS];

	(void)state;
	for (size_t network = 0; network < sizeof(networks) / sizeof(networks[0]); network++)
		for (unsigned int i = 0; i < NEIGHBOURS; i++) {
			snprintf(address, sizeof(address), networks[network], i + 2);
			assert_let_in(syn_from(address));
			elements[i] = find_handshake(&maps, address, &pending);
			assert_true(elements[i] >= 0);
			for (unsigned int j = 0; j < i; j++)
				assert_int_not_equal(elements[i], elements[j]);
		}
}

/* The element of the table that THERE4 has becomes another peer's. Returns its index. */
static int give_away(const char *other)
{
	struct pending_handshake pending;
	int index = find_handshake(&maps, THERE4, &pending);

	assert_true(index >= 0);
	pending.address = key_of(other);
	put_handshake(&maps, index, &pending);
	return index;
}

/*
 * A peer whose element is another's takes its second one. When that is another's as well it gets no
 * hold, and takes nothing from the others.
 */
static void pending_shared_element(void **state)
{
	struct segment first = syn_from(THERE4), second = syn_from(THERE4),
		       third = syn_from(THERE4), fourth = syn_from(THERE4),
		       fifth = syn_from(THERE4);
	static const char *const sharing = "10.98.4.77", *const sharing_too = "10.98.4.78";
	struct pending_handshake pending;
	int index, other_index;

	(void)state;
	assert_begins(first);
	index = give_away(sharing);
	assert_begins(second);
	assert_dropped(third);
	assert_counted(watch, ENFORCED(knock_idle, 2), ENFORCED(knock_pending, 1));
	next_event(watch, knock_pending);
	other_index = give_away(sharing_too);
	assert_int_not_equal(index, other_index);
	assert_begins(fourth);
	assert_begins(fifth);
	assert_counted(watch, ENFORCED(knock_idle, 2));
	assert_int_equal(find_handshake(&maps, sharing, &pending), index);
	assert_int_equal(pending.remote_port, first.source_port);
	/*
	 * Once the other's handshake is over, the element is free to take; what was held stays with
	 * it.
	 */
	pending.until_ns = now_ns();
	pending.held_until_ns = now_ns() + 100 * NS_PER_SECOND;
	for (int i = 0; i < HELD_PORTS; i++)
		pending.held_ports[i] = 1 + i;
	put_handshake(&maps, index, &pending);
	fourth.source_port = fresh_port();
	assert_begins(fourth);
	assert_int_equal(find_handshake(&maps, THERE4, &pending), index);
	fifth.source_port = fresh_port();
	assert_begins(fifth);
	assert_counted(watch, ENFORCED(knock_idle, 1), ENFORCED(knock_hold_spent, 1));
}

/*
 * Whoever could compute addresses that share both places of a peer could take its holds away. Which they
 * are follows from the key, which nobody knows.
 */
static void pending_places_are_keyed(void **state)
{
	struct segment neighbour = syn_from("10.97.1.12"), other_neighbour = syn_from("10.97.1.13"),
		       first = syn_from(THERE4), second = syn_from(THERE4);
	const struct handshake_key other_key = get_handshake_key(&maps);
	struct handshake_key key = other_key;

	(void)state;
	/* Under this key the places of all IPv4 addresses are the same two. */
	key.words[4] = 0;
	set_handshake_key(&maps, &key);
	assert_begins(neighbour);
	assert_begins(other_neighbour);
	assert_begins(first);
	assert_begins(second);
	assert_counted(watch, ENFORCED(knock_idle, 4));
	maps_reset(&maps);
	set_handshake_key(&maps, &other_key);
	neighbour.source_port = fresh_port();
	other_neighbour.source_port = fresh_port();
	first.source_port = fresh_port();
	second.source_port = fresh_port();
	assert_begins(neighbour);
	assert_begins(other_neighbour);
	assert_begins(first);
	assert_dropped(second);
	assert_counted(watch, ENFORCED(knock_idle, 3), ENFORCED(knock_pending, 1));
	next_event(watch, knock_pending);
}

/* ---- after the SYN -------------------------------------------------------------------------- */

/*
 * A handshake that was let in is brought to its end: dropping its ACK would leave the peer with
 * half a link.
 */
static void third_ack_passes(void **state)
{
	struct segment syn = syn_from(THERE4), ack = syn, answer;
	int accepted;

	(void)state;
	/* Here a handshake may take its time. */
	write_setting("tcp_synack_retries", 5);
	assert_int_equal(answer_to(&syn, &answer), ANSWER_SYN_ACK);
	assert_counted(watch, ENFORCED(knock_idle, 1));
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	ack.flags = TH_ACK;
	ack.sequence = answer.acknowledgment;
	ack.acknowledgment = answer.sequence + 1;
	pass_segment(&ack);
	accepted = accept4(listening4, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(accepted >= 0);
	/* And what follows on the link is none of the guard's business. */
	ack.flags = TH_ACK | TH_FIN;
	pass_segment(&ack);
	assert_int_equal(read(accepted, &syn, sizeof(syn)), 0);
	assert_silent(watch);
	close(accepted);
}

/* ---- silent links --------------------------------------------------------------------------- */

static struct slot silent_link(__u64 cookie)
{
	struct slot link = some_link(cookie);

	link.heard_ns = LONG_AGO;
	return link;
}

/* Held, and in doubt from now on; the doubt is a single one for all who come. */
static void check_suspect(const char *peer)
{
	const struct guard_policy policy = patient_policy();
	struct segment syn = syn_from(peer);
	__u64 before = now_ns();
	struct guard_event event;
	struct slot after;

	put_slot(&maps, peer, silent_link(LINK_COOKIE));
	assert_dropped(syn);
	assert_counted(watch, ENFORCED(knock_suspect, 1));
	event = next_event(watch, knock_suspect);
	assert_event_of_knock(&event, peer, syn.source_port, PORT);
	assert_int_equal(event.verdict, VERDICT_HOLD);
	assert_int_equal(event.enforced, 1);
	assert_int_equal(event.other_cookie, LINK_COOKIE);
	after = get_peer(&maps, peer).slots[0];
	assert_true(after.doubted_ns >= before && after.doubted_ns <= now_ns());
	assert_int_equal(event.until_ns, after.doubted_ns + policy.deny_max_ns);
	assert_dropped(syn_from(peer));
	assert_counted(watch, ENFORCED(knock_suspect, 1));
	assert_int_equal(next_event(watch, knock_suspect).until_ns, event.until_ns);
	assert_int_equal(get_peer(&maps, peer).slots[0].doubted_ns, after.doubted_ns);
	assert_int_equal(get_peer(&maps, peer).refused_knocks, 2);
	assert_no_event(watch);
	/* A daemon that asks it has its answer sooner, and without one nobody waits for longer. */
	set_daemon(&maps, true, true);
	assert_dropped(syn_from(peer));
	assert_counted(watch, ENFORCED(knock_suspect, 1));
	assert_int_equal(next_event(watch, knock_suspect).until_ns, after.doubted_ns + ASK_MAX_NS);
	/* A sign of life, and it is refused for good. */
	after.heard_ns = now_ns() + HOUR_NS;
	after.doubted_ns = 0;
	put_slot(&maps, peer, after);
	assert_refused_as_linked(syn_from(peer));
	/* Observed, it gets in. */
	put_slot(&maps, peer, silent_link(LINK_COOKIE));
	set_mode(&maps, MODE_OBSERVE);
	assert_let_in(syn_from(peer));
	assert_counted(watch, OBSERVED(knock_suspect, 1));
	assert_int_equal(next_event(watch, knock_suspect).enforced, 0);
}

static void suspect_ipv4(void **state)
{
	(void)state;
	check_suspect(THERE4);
}

static void suspect_ipv6(void **state)
{
	(void)state;
	check_suspect(THERE6);
}

/* Nothing was heard of it in time: let in, and the link that comes of it takes its place. */
static void unproven(void **state)
{
	const struct guard_policy policy = patient_policy();
	enum { DENIED_LONG_ENOUGH, ASKED_LONG_ENOUGH, ASKED_IN_VAIN, REASONS };

	(void)state;
	for (int reason = 0; reason < REASONS; reason++) {
		struct slot link = silent_link(LINK_COOKIE);

		maps_reset(&maps);
		set_daemon(&maps, reason == ASKED_LONG_ENOUGH, true);
		if (reason == DENIED_LONG_ENOUGH)
			link.doubted_ns = now_ns() - policy.deny_max_ns;
		if (reason == ASKED_LONG_ENOUGH)
			link.doubted_ns = now_ns() - ASK_MAX_NS;
		if (reason == ASKED_IN_VAIN)
			link.flags = SLOT_UNANSWERED;
		put_slot(&maps, THERE4, link);
		assert_let_in(syn_from(THERE4));
		assert_counted(watch, ENFORCED(knock_unproven, 1));
		assert_no_event(watch);
		assert_int_equal(get_peer(&maps, THERE4).slots[0].flags, SLOT_UNANSWERED);
		assert_int_equal(get_peer(&maps, THERE4).slots[0].kind, SLOT_LINK);
	}
}

/* ---- the loser hears first ------------------------------------------------------------------ */

/* With a daemon that ends what is given up: a claim of ours that gives way to their knock. */
static void put_crossed(const char *peer, __u32 client_isn, __u32 flags)
{
	struct slot claim = some_claim(LINK_COOKIE, client_isn);

	claim.flags |= flags;
	set_daemon(&maps, true, true);
	put_slot(&maps, peer, claim);
}

static void check_goes_first(const char *peer)
{
	struct segment syn = syn_numbered(peer, 1001), reset = syn, answer;
	struct guard_event event;
	struct peer after;

	put_crossed(peer, 1000, 0);
	assert_true(begin_handshake(&syn, &answer));
	assert_counted(watch, ENFORCED(knock_goes_first, 1));
	event = next_event(watch, knock_goes_first);
	assert_event_of_knock(&event, peer, syn.source_port, PORT);
	assert_int_equal(event.verdict, VERDICT_ALLOW);
	assert_int_equal(event.enforced, 1);
	assert_int_equal(event.other_cookie, LINK_COOKIE);
	assert_no_event(watch);
	after = get_peer(&maps, peer);
	assert_int_equal(after.flags, PEER_YIELDED);
	assert_int_equal(after.slots[0].kind, SLOT_CLAIM);
	assert_int_equal(after.slots[0].flags, SLOT_SENT | SLOT_GIVEN_UP);
	assert_int_not_equal(after.slots[0].yields_until_ns, 0);
	assert_int_equal(after.refused_knocks, 0);
	/* Its retransmission, and another SYN: told once. */
	assert_begins(syn);
	assert_counted(watch, ENFORCED(knock_tie_won, 1));
	assert_no_event(watch);
	/* Until a link has come up no further dial is given up: anybody can send SYNs. */
	reset.flags = TH_RST;
	reset.sequence = answer.acknowledgment;
	assert_int_equal(answer_to(&reset, NULL), NO_ANSWER);
	after.slots[0] = some_claim(LINK_COOKIE + 1, 1000);
	put_peer(&maps, peer, &after);
	assert_let_in(syn_numbered(peer, 1001));
	assert_counted(watch, ENFORCED(knock_tie_won, 1));
	assert_no_event(watch);
	after = get_peer(&maps, peer);
	assert_int_equal(after.slots[0].flags, SLOT_SENT);
	assert_int_not_equal(after.slots[0].yields_until_ns, 0);
}

static void goes_first_ipv4(void **state)
{
	(void)state;
	check_goes_first(THERE4);
}

static void goes_first_ipv6(void **state)
{
	(void)state;
	check_goes_first(THERE6);
}

/* It has not even left. */
static void goes_first_of_the_rest(void **state)
{
	struct peer peer;

	(void)state;
	put_crossed(THERE4, 1000, SLOT_KEPT);
	peer = get_peer(&maps, THERE4);
	peer.next_attempt_ns = now_ns() + HOUR_NS;
	peer.failed_ns = now_ns();
	put_peer(&maps, THERE4, &peer);
	assert_let_in(syn_numbered(THERE4, 999));
	assert_counted(watch, ENFORCED(knock_goes_first, 1));
	assert_int_equal(next_event(watch, knock_goes_first).until_ns, 0);
	assert_int_equal(get_peer(&maps, THERE4).slots[0].flags,
			 SLOT_SENT | SLOT_KEPT | SLOT_GIVEN_UP);
	assert_int_equal(get_peer(&maps, THERE4).next_attempt_ns, 0);
	assert_no_event(watch);
}

/* Nobody is there to end it, or it is only watched: then it stays a dial. */
static void nothing_is_given_up(void **state)
{
	(void)state;
	put_crossed(THERE4, 1000, 0);
	set_daemon(&maps, false, true);
	assert_let_in(syn_numbered(THERE4, 1001));
	assert_counted(watch, ENFORCED(knock_tie_won, 1));
	assert_no_event(watch);
	assert_int_equal(get_peer(&maps, THERE4).slots[0].flags, SLOT_SENT);
	assert_int_equal(get_peer(&maps, THERE4).flags, 0);

	put_crossed(THERE4, 1000, 0);
	set_mode(&maps, MODE_OBSERVE);
	assert_let_in(syn_numbered(THERE4, 1001));
	assert_counted(watch, OBSERVED(knock_goes_first, 1));
	assert_int_equal(next_event(watch, knock_goes_first).enforced, 0);
	assert_no_event(watch);
	assert_int_equal(get_peer(&maps, THERE4).slots[0].flags, SLOT_SENT);
	/* It is counted as often as it would happen. */
	assert_int_equal(get_peer(&maps, THERE4).flags, PEER_YIELDED);

	/* Theirs loses, or there is room for both. */
	set_mode(&maps, MODE_ENFORCE);
	put_crossed(THERE4, 1000, 0);
	assert_dropped(syn_numbered(THERE4, 999));
	next_event(watch, knock_tie_lost);
	put_peer(&maps, THERE4,
		 &(const struct peer){ .limit = 2, .slots = { some_claim(LINK_COOKIE, 1000) } });
	assert_let_in(syn_numbered(THERE4, 1001));
	assert_int_equal(get_peer(&maps, THERE4).slots[0].flags, SLOT_SENT);
	assert_no_event(watch);
}

/* Their handshake, whose last ACK is still to be sent. */
struct their_dial {
	struct segment syn;
	struct segment ack;
};

/* It has gone before our dial, which is given up and not yet ended. */
static struct their_dial goes_before(const char *peer)
{
	struct their_dial theirs = { .syn = syn_numbered(peer, 1001) };
	struct segment answer;

	/* Here a handshake may take its time. */
	write_setting("tcp_synack_retries", 5);
	put_crossed(peer, 1000, 0);
	assert_true(begin_handshake(&theirs.syn, &answer));
	next_event(watch, knock_goes_first);
	theirs.ack = theirs.syn;
	theirs.ack.flags = TH_ACK;
	theirs.ack.sequence = answer.acknowledgment;
	theirs.ack.acknowledgment = answer.sequence + 1;
	watch_reset(watch);
	return theirs;
}

/* The connection that the listener has. -1: none. */
static int accepted_of(const char *peer)
{
	return accept4(strchr(peer, ':') ? listening6 : listening4, NULL, NULL,
		       SOCK_NONBLOCK | SOCK_CLOEXEC);
}

/* Until when the last ACK waits, as the peer's claim has it. */
static void set_ack_waits(const char *peer, __u64 until_ns)
{
	struct peer value = get_peer(&maps, peer);

	value.slots[0].ack_waits_until_ns = until_ns;
	put_peer(&maps, peer, &value);
}

/* Ours had its time, and wins at the other end: only the knock's last ACK tells that it has to go. */
static void greater_goes_at_the_last_ack(void **state)
{
	const struct guard_policy policy = patient_policy();
	struct their_dial theirs;
	struct peer peer;
	int accepted;

	(void)state;
	theirs = goes_before(THERE4);
	peer = get_peer(&maps, THERE4);
	peer.flags &= ~PEER_YIELDED;
	peer.slots[0].flags = SLOT_SENT;
	put_peer(&maps, THERE4, &peer);
	pass_segment(&theirs.ack);
	assert_counted(watch, ENFORCED(knock_ack_waits, 1));
	assert_int_equal(next_event(watch, knock_ack_waits).other_cookie, LINK_COOKIE);
	peer = get_peer(&maps, THERE4);
	assert_int_equal(peer.slots[0].flags, SLOT_SENT | SLOT_GIVEN_UP);
	assert_true(peer.flags & PEER_YIELDED);
	assert_int_equal(accepted_of(THERE4), -1);
	/* It has ended. */
	peer.slots[0] = (struct slot){};
	put_peer(&maps, THERE4, &peer);
	pass_segment(&theirs.ack);
	accepted = accepted_of(THERE4);
	assert_true(accepted >= 0);
	close(accepted);

	maps_reset(&maps);
	put_crossed(THERE4, 1000, 0);
	peer = get_peer(&maps, THERE4);
	peer.slots[0].since_ns = now_ns() - policy.hold_max_ns;
	put_peer(&maps, THERE4, &peer);
	assert_let_in(syn_numbered(THERE4, 999));
	assert_counted(watch, ENFORCED(knock_hold_spent, 1));
	assert_no_event(watch);
	peer = get_peer(&maps, THERE4);
	assert_int_equal(peer.slots[0].flags, SLOT_SENT);
	assert_int_not_equal(peer.yielded_port, 0);
	assert_false(peer.flags & PEER_YIELDED);
}

static void check_last_ack(const char *peer)
{
	struct their_dial theirs = goes_before(peer);
	struct segment data = theirs.ack;
	struct held_packet held;
	struct guard_event event;
	struct peer value;
	char received[8];
	__u64 before;
	__u32 whole;
	int accepted;

	data.flags = TH_ACK | TH_PUSH;
	data.data = "hello";
	assert_int_equal(get_peer(&maps, peer).slots[0].ack_waits_until_ns, 0);
	/* From the first one on it waits for a moment, whenever that comes. */
	before = now_ns();
	pass_segment(&theirs.ack);
	value = get_peer(&maps, peer);
	assert_true(value.slots[0].ack_waits_until_ns >= before + ACK_WAITS_NS);
	assert_true(value.slots[0].ack_waits_until_ns <= now_ns() + ACK_WAITS_NS);
	assert_int_equal(value.refused_knocks, 0);
	assert_int_equal(accepted_of(peer), -1);
	assert_counted(watch, ENFORCED(knock_ack_waits, 1));
	event = next_event(watch, knock_ack_waits);
	assert_event_of_knock(&event, peer, theirs.syn.source_port, PORT);
	assert_int_equal(event.verdict, VERDICT_HOLD);
	assert_int_equal(event.enforced, 1);
	assert_int_equal(event.other_cookie, LINK_COOKIE);
	assert_int_equal(event.until_ns, value.slots[0].ack_waits_until_ns);
	assert_int_equal(event.until_ns, event.time_ns + ACK_WAITS_NS);
	assert_no_event(watch);
	held = take_held(watch);
	whole = held.length;
	assert_int_equal(held.event.time_ns, event.time_ns);
	assert_true(whole >= sizeof(struct iphdr) + sizeof(struct tcphdr));
	/* So does what comes behind it, and none of that makes it longer. */
	set_ack_waits(peer, now_ns() + HOUR_NS);
	value = get_peer(&maps, peer);
	pass_segment(&theirs.ack);
	pass_segment(&data);
	assert_int_equal(accepted_of(peer), -1);
	assert_counted(watch, ENFORCED(knock_ack_waits, 2));
	assert_int_equal(next_event(watch, knock_ack_waits).until_ns,
			 value.slots[0].ack_waits_until_ns);
	held = take_held(watch);
	assert_int_equal(held.length, whole + 5);
	assert_memory_equal(held.bytes + whole, "hello", 5);
	assert_int_equal(get_peer(&maps, peer).slots[0].ack_waits_until_ns,
			 value.slots[0].ack_waits_until_ns);
	discard_events(watch);
	/* Our dial has ended: data alone brings the connection about, as without the guard. */
	value.slots[0] = (struct slot){};
	put_peer(&maps, peer, &value);
	pass_segment(&data);
	accepted = accepted_of(peer);
	assert_true(accepted >= 0);
	assert_int_equal(read(accepted, received, sizeof(received)), 5);
	assert_silent(watch);
	close(accepted);
}

static void last_ack_ipv4(void **state)
{
	(void)state;
	check_last_ack(THERE4);
}

static void last_ack_ipv6(void **state)
{
	(void)state;
	check_last_ack(THERE6);
}

/* Every reason for which the last ACK does not wait. */
static void last_ack_passes(void **state)
{
	enum {
		TIME_IS_UP,
		CLAIM_EXPIRED,
		ANOTHER_CLAIM,
		OBSERVED_ONLY,
		OFF,
		NO_POLICY,
		LEAVING,
		NO_PEER,
		ANOTHER_PEER,
		REASONS,
	};

	(void)state;
	for (int reason = 0; reason < REASONS; reason++) {
		struct guard_policy policy = patient_policy();
		struct their_dial theirs;
		struct peer peer;
		int accepted;

		maps_reset(&maps);
		theirs = goes_before(THERE4);
		peer = get_peer(&maps, THERE4);
		peer.slots[0].ack_waits_until_ns = now_ns() + HOUR_NS;
		if (reason == TIME_IS_UP)
			peer.slots[0].ack_waits_until_ns = now_ns();
		if (reason == CLAIM_EXPIRED)
			peer.slots[0].expires_ns = now_ns();
		if (reason == ANOTHER_CLAIM)
			peer.slots[0].flags &= ~SLOT_GIVEN_UP;
		if (reason == LEAVING)
			peer.flags |= PEER_LEAVING;
		if (reason == NO_PEER || reason == ANOTHER_PEER)
			maps_reset(&maps);
		if (reason == ANOTHER_PEER)
			put_peer(&maps, OTHER4, &peer);
		else if (reason != NO_PEER)
			put_peer(&maps, THERE4, &peer);
		if (reason == OBSERVED_ONLY || reason == OFF)
			set_mode(&maps, reason == OFF ? MODE_OFF : MODE_OBSERVE);
		policy.set = reason != NO_POLICY;
		set_policy(&maps, &policy);
		pass_segment(&theirs.ack);
		accepted = accepted_of(THERE4);
		if (accepted < 0)
			fail_msg("reason %d", reason);
		assert_silent(watch);
		close(accepted);
	}
}

/* ---- answers to our dials ------------------------------------------------------------------- */

/* What the connect hook would have written: the socket owns a claim of the peer. */
static void own(int fd, const char *peer, enum slot_kind kind)
{
	const struct owned_slot owned = { .address = key_of(peer), .kind = kind };

	assert_int_equal(bpf_map_update_elem(maps.sockets, &fd, &owned, BPF_ANY), 0);
}

/* The SYN-ACK passes, in silence, and the dial is established. */
static void assert_answer_passes(struct our_dial *ours)
{
	assert_int_equal(answer_to(&ours->syn_ack, NULL), ANSWER_ACK);
	assert_true(connected(ours->fd));
	assert_silent(watch);
	close(ours->fd);
}

static void assert_answer_event(const struct guard_event *event, const struct our_dial *ours)
{
	assert_address(event->address, ours->syn_ack.source);
	assert_int_equal(event->verdict, VERDICT_HOLD);
	assert_int_equal(event->direction, DIRECTION_OUTBOUND);
	assert_int_equal(event->cookie, cookie_of(ours->fd));
	assert_int_equal(event->local_port, ours->syn_ack.destination_port);
	assert_int_equal(event->remote_port, PORT);
	assert_int_equal(event->process_id, 0);
}

static void check_answer_linked(const char *peer)
{
	struct our_dial ours = dial_out(peer, PORT);
	struct peer both = { .slots = { some_claim(cookie_of(ours.fd), 1),
					some_link(LINK_COOKIE) } };
	struct guard_event event;

	own(ours.fd, peer, SLOT_CLAIM);
	put_peer(&maps, peer, &both);
	assert_int_equal(answer_to(&ours.syn_ack, NULL), NO_ANSWER);
	assert_counted(watch, ENFORCED(answer_linked, 1));
	event = next_event(watch, answer_linked);
	assert_answer_event(&event, &ours);
	assert_int_equal(event.other_cookie, LINK_COOKIE);
	assert_int_equal(event.enforced, 1);
	assert_no_event(watch);
	assert_false(connected(ours.fd));
	/* That it was answered is noted: whatever becomes of it is no failure of the peer. */
	assert_int_equal(get_peer(&maps, peer).slots[0].flags, SLOT_SENT | SLOT_ANSWERED);
	/* The link is gone: the retransmitted answer completes the dial. */
	put_slot(&maps, peer, both.slots[0]);
	assert_answer_passes(&ours);
}

static void answer_linked_ipv4(void **state)
{
	(void)state;
	check_answer_linked(THERE4);
}

static void answer_linked_ipv6(void **state)
{
	(void)state;
	check_answer_linked(THERE6);
}

/* Their knock crosses our dial and wins: our dial's answer waits for what becomes of theirs. */
static void check_answer_tie_lost(const char *peer)
{
	struct segment syn = syn_numbered(peer, 1000), reset = syn, answer;
	struct our_dial ours = dial_out(peer, PORT);
	struct pending_handshake pending;
	struct guard_event event;

	own(ours.fd, peer, SLOT_CLAIM);
	put_slot(&maps, peer, some_claim(cookie_of(ours.fd), 999));
	assert_true(begin_handshake(&syn, &answer));
	assert_counted(watch, ENFORCED(knock_tie_won, 1));
	assert_int_equal(answer_to(&ours.syn_ack, NULL), NO_ANSWER);
	assert_counted(watch, ENFORCED(answer_tie_lost, 1));
	event = next_event(watch, answer_tie_lost);
	assert_answer_event(&event, &ours);
	find_handshake(&maps, peer, &pending);
	assert_int_equal(event.until_ns, pending.until_ns);
	assert_no_event(watch);
	assert_false(connected(ours.fd));
	assert_int_equal(get_peer(&maps, peer).slots[0].flags, SLOT_SENT | SLOT_ANSWERED);
	/* They take theirs back: ours may complete. */
	reset.flags = TH_RST;
	reset.sequence = answer.acknowledgment;
	assert_int_equal(answer_to(&reset, NULL), NO_ANSWER);
	assert_answer_passes(&ours);
}

/* A dial from the port that their knock has come to is on its connection: what answers it need not wait for it. */
static void answer_on_the_connection_of_both(void **state)
{
	struct segment syn = syn_numbered(THERE4, 1000), answer;
	struct our_dial ours = dial_out(THERE4, PORT);
	struct pending_handshake pending;
	int index;

	(void)state;
	own(ours.fd, THERE4, SLOT_CLAIM);
	put_slot(&maps, THERE4, some_claim(cookie_of(ours.fd), 999));
	assert_true(begin_handshake(&syn, &answer));
	assert_counted(watch, ENFORCED(knock_tie_won, 1));
	/* From the port that we dial, but to another one than we dial from. */
	index = find_handshake(&maps, THERE4, &pending);
	pending.remote_port = PORT;
	put_handshake(&maps, index, &pending);
	assert_int_equal(answer_to(&ours.syn_ack, NULL), NO_ANSWER);
	assert_counted(watch, ENFORCED(answer_tie_lost, 1));
	next_event(watch, answer_tie_lost);
	guard_port_of(&maps, ours.syn_ack.destination_port, PORT);
	assert_answer_passes(&ours);
	unguard_port(&maps, ours.syn_ack.destination_port);
}

/*
 * Their knock was let in before our dial began, so the other end is about to complete it: the answer
 * waits for it even if ours is the greater number, but not its retransmission.
 */
static void answer_to_a_later_dial(void **state)
{
	const struct guard_policy policy = patient_policy();
	struct segment syn = syn_numbered(THERE4, 1000);
	struct our_dial ours;
	struct slot claim;

	(void)state;
	assert_begins(syn);
	ours = dial_out(THERE4, PORT);
	own(ours.fd, THERE4, SLOT_CLAIM);
	claim = some_claim(cookie_of(ours.fd), 1001);
	put_slot(&maps, THERE4, claim);
	assert_int_equal(answer_to(&ours.syn_ack, NULL), NO_ANSWER);
	assert_counted(watch, ENFORCED(knock_idle, 1), ENFORCED(answer_tie_lost, 1));
	next_event(watch, answer_tie_lost);
	claim.since_ns = now_ns() - policy.hold_max_ns / HOLD_SHORTENED;
	put_slot(&maps, THERE4, claim);
	assert_answer_passes(&ours);
}

static void answer_tie_lost_ipv4(void **state)
{
	(void)state;
	check_answer_tie_lost(THERE4);
}

static void answer_tie_lost_ipv6(void **state)
{
	(void)state;
	check_answer_tie_lost(THERE6);
}

/* Their handshake is pending, but is no reason to wait. */
static void answer_tie_not_lost(void **state)
{
	const struct guard_policy policy = patient_policy();
	enum { OURS_WINS, TOO_LATE, TIME_IS_UP, REASONS };

	(void)state;
	for (int reason = 0; reason < REASONS; reason++) {
		struct segment syn = syn_numbered(THERE4, 1000);
		struct our_dial ours;
		struct slot claim;

		maps_reset(&maps);
		/* Let in before our dial began, or there would be nothing pending that loses to it.
		 */
		assert_begins(syn);
		assert_counted(watch, ENFORCED(knock_idle, 1));
		ours = dial_out(THERE4, PORT);
		own(ours.fd, THERE4, SLOT_CLAIM);
		claim = some_claim(cookie_of(ours.fd), reason == OURS_WINS ? 1001 : 1000);
		if (reason == OURS_WINS)
			claim.since_ns = now_ns() - policy.hold_max_ns / HOLD_SHORTENED;
		if (reason == TIME_IS_UP)
			claim.since_ns = now_ns() - HOLD_PERIODS * policy.hold_max_ns;
		if (reason == TOO_LATE) {
			struct pending_handshake pending;
			int index = find_handshake(&maps, THERE4, &pending);

			pending.until_ns = now_ns();
			put_handshake(&maps, index, &pending);
		}
		put_slot(&maps, THERE4, claim);
		assert_answer_passes(&ours);
	}
}

static void answer_observed(void **state)
{
	(void)state;
	set_mode(&maps, MODE_OBSERVE);
	for (int link_was_first = 0; link_was_first < 2; link_was_first++) {
		struct our_dial ours = dial_out(THERE4, PORT);
		struct peer both = { .slots = { some_claim(cookie_of(ours.fd), 1), some_link(1) } };

		/* Then it was told when the dial was made. */
		if (link_was_first)
			both.slots[1].since_ns = both.slots[0].since_ns - 1;
		own(ours.fd, THERE4, SLOT_CLAIM);
		put_peer(&maps, THERE4, &both);
		assert_int_equal(answer_to(&ours.syn_ack, NULL), ANSWER_ACK);
		assert_true(connected(ours.fd));
		if (!link_was_first) {
			assert_counted(watch, OBSERVED(answer_linked, 1));
			assert_int_equal(next_event(watch, answer_linked).enforced, 0);
		}
		assert_silent(watch);
		close(ours.fd);
	}
}

/* Every reason to let the answer to a dial pass although the peer is linked. */
static void answer_passes(void **state)
{
	enum {
		NOT_OWNED,
		OWNS_NO_CLAIM,
		OFF,
		NO_POLICY,
		TIE_LEFT_OPEN,
		EXEMPT_PREFIX,
		EXEMPT_BY_COMMAND,
		NO_PEER,
		LEAVING,
		ROOM,
		REASONS,
	};

	(void)state;
	for (int reason = 0; reason < REASONS; reason++) {
		struct guard_policy policy = patient_policy();
		struct our_dial ours = dial_out(THERE4, PORT);
		struct peer peer = { .slots = { some_claim(cookie_of(ours.fd), 1),
						some_link(LINK_COOKIE) } };

		maps_reset(&maps);
		if (reason == EXEMPT_BY_COMMAND)
			peer.exempt_until_ns = NEVER_ENDS_NS;
		if (reason == LEAVING)
			peer.flags = PEER_LEAVING;
		if (reason == ROOM)
			peer.limit = 2;
		if (reason != NO_PEER)
			put_peer(&maps, THERE4, &peer);
		if (reason == TIE_LEFT_OPEN)
			policy.tie_break = TIE_BREAK_NONE;
		if (reason == NO_POLICY)
			policy.set = 0;
		set_policy(&maps, &policy);
		if (reason == OFF)
			set_mode(&maps, MODE_OFF);
		if (reason == EXEMPT_PREFIX)
			set_exempt(&maps, THERE4, 32,
				   (struct exempt_value){ .until_ns = NEVER_ENDS_NS });
		if (reason != NOT_OWNED)
			own(ours.fd, THERE4, reason == OWNS_NO_CLAIM ? SLOT_LINK : SLOT_CLAIM);
		assert_answer_passes(&ours);
	}
}

/* A refusal by the peer is no answer that could be held: the dial fails at once. */
static void answer_reset(void **state)
{
	struct our_dial ours = dial_out(THERE4, PORT);
	const struct peer both = { .slots = { some_claim(cookie_of(ours.fd), 1), some_link(1) } };
	socklen_t length = sizeof(int);
	int error = 0;

	(void)state;
	own(ours.fd, THERE4, SLOT_CLAIM);
	put_peer(&maps, THERE4, &both);
	ours.syn_ack.flags = TH_RST | TH_ACK;
	assert_int_equal(answer_to(&ours.syn_ack, NULL), NO_ANSWER);
	assert_int_equal(getsockopt(ours.fd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
	assert_int_equal(error, ECONNREFUSED);
	assert_silent(watch);
	close(ours.fd);
}

/* ---- one connection, opened from both ends -------------------------------------------------- */

/* The number of a SYN that meets our dial. */
#define OPENING_ISN 7000

/* Our dial has this number, and their SYN comes on its own 4-tuple. */
static struct segment opening(const struct our_dial *ours, __u32 our_isn)
{
	const char *peer = ours->syn_ack.source;
	struct segment syn = ours->syn_ack;

	own(ours->fd, peer, SLOT_CLAIM);
	set_daemon(&maps, true, true);
	put_slot(&maps, peer, some_claim(cookie_of(ours->fd), our_isn));
	syn.sequence = OPENING_ISN;
	syn.flags = TH_SYN;
	syn.acknowledgment = 0;
	return syn;
}

static void assert_open_event(const struct guard_event *event, const struct our_dial *ours)
{
	assert_answer_event(event, ours);
	assert_int_equal(event->enforced, 1);
	assert_int_equal(event->until_ns, 0);
}

/* Ours is the greater number: their SYN goes nowhere, and ours stays a dial that they can answer. */
static void check_open_won(const char *peer)
{
	struct our_dial ours = dial_out(peer, PORT);
	struct segment syn = opening(&ours, OPENING_ISN + 1);
	struct guard_event event;

	for (int i = 0; i < 2; i++) {
		assert_int_equal(answer_to(&syn, NULL), NO_ANSWER);
		assert_counted(watch, ENFORCED(knock_open_won, 1));
		event = next_event(watch, knock_open_won);
		assert_open_event(&event, &ours);
		assert_int_equal(event.other_cookie, 0);
		assert_no_event(watch);
	}
	assert_int_equal(get_peer(&maps, peer).slots[0].flags, SLOT_SENT);
	assert_int_equal(get_peer(&maps, peer).flags, 0);
	assert_int_equal(get_peer(&maps, peer).refused_knocks, 2);
	assert_answer_passes(&ours);
}

static void open_won_ipv4(void **state)
{
	(void)state;
	check_open_won(THERE4);
}

static void open_won_ipv6(void **state)
{
	(void)state;
	check_open_won(THERE6);
}

/* Ours is the smaller one: it is given up, and when it is gone our listener answers. */
static void check_open_lost(const char *peer)
{
	struct our_dial ours = dial_out(peer, PORT);
	struct segment syn = opening(&ours, OPENING_ISN - 1);
	struct guard_event event;

	/* At the first one, for an end without a guard answers ours. */
	assert_int_equal(answer_to(&syn, NULL), NO_ANSWER);
	assert_counted(watch, ENFORCED(knock_open_met, 1));
	event = next_event(watch, knock_open_met);
	assert_open_event(&event, &ours);
	assert_int_equal(get_peer(&maps, peer).slots[0].flags, SLOT_SENT | SLOT_MET);
	assert_int_equal(get_peer(&maps, peer).flags, 0);
	assert_false(is_kept(peer, &syn, KNOCK_KEPT_MAX_NS));
	/* Their retransmission may come before the daemon does. */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(answer_to(&syn, NULL), NO_ANSWER);
		assert_counted(watch, ENFORCED(knock_open_lost, 1));
		event = next_event(watch, knock_open_lost);
		assert_open_event(&event, &ours);
		assert_int_equal(event.other_cookie, cookie_of(ours.fd));
		assert_true(is_kept(peer, &syn, KNOCK_KEPT_MAX_NS));
		assert_no_event(watch);
	}
	assert_int_equal(get_peer(&maps, peer).slots[0].flags,
			 SLOT_SENT | SLOT_MET | SLOT_GIVEN_UP);
	assert_int_equal(get_peer(&maps, peer).flags, PEER_YIELDED);
	assert_false(connected(ours.fd));
	close(ours.fd);
}

static void open_lost_ipv4(void **state)
{
	(void)state;
	check_open_lost(THERE4);
}

static void open_lost_ipv6(void **state)
{
	(void)state;
	check_open_lost(THERE6);
}

/* Every reason to leave it to TCP, which makes one connection of the two SYNs. */
static void open_passes(void **state)
{
	enum {
		EQUAL,
		NO_DAEMON,
		GAVE_ONE_UP_BEFORE,
		TIE_LEFT_OPEN,
		EXEMPT_PREFIX,
		EXEMPT_BY_COMMAND,
		OWNS_NO_CLAIM,
		NOT_SENT,
		LEAVING,
		NO_PEER,
		OFF,
		OBSERVED_ONLY,
		REASONS,
	};

	(void)state;
	for (int reason = 0; reason < REASONS; reason++) {
		struct our_dial ours = dial_out(THERE4, PORT);
		struct guard_policy policy = patient_policy();
		struct segment syn;
		struct peer peer;

		maps_reset(&maps);
		syn = opening(&ours, reason == EQUAL ? OPENING_ISN : OPENING_ISN - 1);
		peer = get_peer(&maps, THERE4);
		if (reason == NO_DAEMON)
			set_daemon(&maps, false, true);
		if (reason == GAVE_ONE_UP_BEFORE)
			peer.flags = PEER_YIELDED;
		if (reason == TIE_LEFT_OPEN)
			policy.tie_break = TIE_BREAK_NONE;
		if (reason == EXEMPT_PREFIX)
			set_exempt(&maps, THERE4, 32,
				   (struct exempt_value){ .until_ns = NEVER_ENDS_NS });
		if (reason == EXEMPT_BY_COMMAND)
			peer.exempt_until_ns = NEVER_ENDS_NS;
		if (reason == OWNS_NO_CLAIM)
			own(ours.fd, THERE4, SLOT_LINK);
		if (reason == NOT_SENT)
			peer.slots[0].flags = 0;
		if (reason == LEAVING)
			peer.flags = PEER_LEAVING;
		if (reason == OFF || reason == OBSERVED_ONLY)
			set_mode(&maps, reason == OFF ? MODE_OFF : MODE_OBSERVE);
		set_policy(&maps, &policy);
		put_peer(&maps, THERE4, &peer);
		if (reason == NO_PEER)
			maps_reset(&maps);
		if (answer_to(&syn, NULL) != ANSWER_SYN_ACK)
			fail_msg("reason %d", reason);
		if (reason == OBSERVED_ONLY) {
			assert_counted(watch, OBSERVED(knock_open_met, 1));
			assert_int_equal(next_event(watch, knock_open_met).enforced, 0);
			assert_int_equal(get_peer(&maps, THERE4).slots[0].flags, SLOT_SENT);
		}
		assert_silent(watch);
		close(ours.fd);
	}
}

/* ---- evidence of life ----------------------------------------------------------------------- */

/* More than the receive window of a socket that has just been established. */
#define WIDE (1 << 20)

/* The receive window in bytes; WIDE: this kernel, before 6.2, does not tell. */
static __u32 window_of(int fd)
{
	/* tcpi_rcv_wnd is word 58, include/uapi/linux/tcp.h; the C library's structure ends before. */
	enum { WINDOW_WORD = 58 };
	__u32 info[WINDOW_WORD + 1];
	socklen_t length = sizeof(info);

	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &length), 0);
	return length == sizeof(info) ? info[WINDOW_WORD] : WIDE;
}

/* A link that our dial has become, owned by its socket and silent for long. */
static struct our_dial link_out(const char *peer)
{
	struct our_dial ours = dial_out(peer, PORT);
	struct slot slot = some_link(cookie_of(ours.fd));

	assert_int_equal(answer_to(&ours.syn_ack, NULL), ANSWER_ACK);
	own(ours.fd, peer, SLOT_LINK);
	slot.heard_ns = LONG_AGO;
	slot.doubted_ns = now_ns() - NS_PER_SECOND;
	put_slot(&maps, peer, slot);
	return ours;
}

/* Of the link, after the last segment: since when something is missing before it. */
static __u64 stalled_ns;

/*
 * Send a segment on the link, whose socket storage is as new, and tell whether it was taken for a
 * sign of life. The probe behind it shows that it has arrived.
 */
static bool heard_by(struct our_dial *ours, struct segment segment)
{
	const char *peer = ours->syn_ack.source;
	struct slot slot = some_link(cookie_of(ours->fd)), after;
	__u64 before = now_ns();

	slot.heard_ns = LONG_AGO;
	slot.doubted_ns = before - NS_PER_SECOND;
	put_slot(&maps, peer, slot);
	own(ours->fd, peer, SLOT_LINK);
	answer_to(&segment, NULL);
	after = get_peer(&maps, peer).slots[0];
	stalled_ns = after.stalled_ns;
	assert_true(!stalled_ns || (stalled_ns >= before && stalled_ns <= now_ns()));
	if (after.heard_ns == slot.heard_ns) {
		assert_int_equal(after.doubted_ns, slot.doubted_ns);
		return false;
	}
	assert_true(after.heard_ns >= before && after.heard_ns <= now_ns());
	assert_int_equal(after.doubted_ns, 0);
	return true;
}

static void check_evidence(const char *peer)
{
	struct our_dial ours = link_out(peer);
	struct segment segment = next_of(&ours, TH_ACK);
	__u32 window = window_of(ours.fd);

	assert_true(heard_by(&ours, segment));
	/* A keepalive probe of theirs repeats the last octet (RFC 9293, section 3.8.4). */
	segment.sequence--;
	assert_true(heard_by(&ours, segment));
	/* What came earlier still, or is beyond the window. */
	segment.sequence--;
	assert_false(heard_by(&ours, segment));
	segment = next_of(&ours, TH_ACK);
	segment.sequence += window + 1;
	assert_false(heard_by(&ours, segment));
	assert_int_equal(stalled_ns, 0);
	/* What has a hole before it, be it of one octet, is no evidence, but remembered. */
	segment.sequence--;
	assert_false(heard_by(&ours, segment));
	if (window < WIDE)
		assert_int_not_equal(stalled_ns, 0);
	segment = next_of(&ours, TH_ACK);
	segment.sequence++;
	assert_false(heard_by(&ours, segment));
	assert_int_not_equal(stalled_ns, 0);
	segment.sequence--;
	assert_true(heard_by(&ours, segment));
	assert_int_equal(stalled_ns, 0);
	/* It acknowledges what was acknowledged before, or was never sent. */
	segment = next_of(&ours, TH_ACK);
	segment.acknowledgment--;
	assert_false(heard_by(&ours, segment));
	segment.acknowledgment += 2;
	assert_false(heard_by(&ours, segment));
	/* With data of ours on its way, that is more. */
	assert_int_equal(send(ours.fd, "abc", 3, 0), 3);
	assert_true(heard_by(&ours, segment));
	segment.acknowledgment += 2;
	assert_true(heard_by(&ours, segment));
	segment.acknowledgment++;
	assert_false(heard_by(&ours, segment));
	/* The start and the end of a connection, and what no connection sends. */
	segment = next_of(&ours, TH_ACK);
	segment.acknowledgment += 3;
	segment.sequence += 1000;
	segment.flags = TH_SYN | TH_ACK;
	assert_false(heard_by(&ours, segment));
	assert_int_equal(stalled_ns, 0);
	segment.flags = TH_RST | TH_ACK;
	assert_false(heard_by(&ours, segment));
	assert_int_equal(stalled_ns, 0);
	segment.flags = TH_PUSH;
	assert_false(heard_by(&ours, segment));
	assert_int_equal(stalled_ns, 0);
	segment.flags = TH_PUSH | TH_ACK;
	assert_false(heard_by(&ours, segment));
	assert_int_not_equal(stalled_ns, 0);
	assert_silent(watch);
	close(ours.fd);
}

static void evidence_ipv4(void **state)
{
	(void)state;
	check_evidence(THERE4);
}

static void evidence_ipv6(void **state)
{
	(void)state;
	check_evidence(THERE6);
}

/* One segment is enough for a while: the others go by. */
static void evidence_once_a_tick(void **state)
{
	struct our_dial ours = link_out(THERE4);
	struct segment segment = next_of(&ours, TH_ACK);
	struct slot slot = some_link(cookie_of(ours.fd));
	int rounds;

	(void)state;
	slot.heard_ns = LONG_AGO;
	/* Two may fall into two ticks; ten times in a row they do not. */
	for (rounds = 0; rounds < 10; rounds++) {
		assert_true(heard_by(&ours, segment));
		put_slot(&maps, THERE4, slot);
		answer_to(&segment, NULL);
		if (get_peer(&maps, THERE4).slots[0].heard_ns == slot.heard_ns)
			break;
	}
	assert_int_not_equal(rounds, 10);
	/* And the next tick has its own. */
	for (rounds = 0; rounds < 300; rounds++) {
		answer_to(&segment, NULL);
		if (get_peer(&maps, THERE4).slots[0].heard_ns != slot.heard_ns)
			break;
		usleep(10000);
	}
	assert_int_not_equal(rounds, 300);
	close(ours.fd);
}

/* A socket that owns no link speaks for none, whatever the peer holds. */
static void evidence_of_links_only(void **state)
{
	static const enum slot_kind kinds[] = { SLOT_FREE, SLOT_CLAIM };
	struct our_dial ours = link_out(THERE4);
	struct segment segment = next_of(&ours, TH_ACK);
	struct peer before = get_peer(&maps, THERE4), after;

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		own(ours.fd, THERE4, kinds[i]);
		answer_to(&segment, NULL);
		after = get_peer(&maps, THERE4);
		assert_memory_equal(&after, &before, sizeof(after));
	}
	/* The link of another socket is not this one's. */
	own(ours.fd, THERE4, SLOT_LINK);
	before.slots[0].cookie++;
	put_peer(&maps, THERE4, &before);
	answer_to(&segment, NULL);
	after = get_peer(&maps, THERE4);
	assert_memory_equal(&after, &before, sizeof(after));
	close(ours.fd);
}

#define TEST(name) cmocka_unit_test_setup(name, before_each)

static int run_all(void)
{
	const struct CMUnitTest tests[] = {
		TEST(evidence_ipv4),
		TEST(evidence_ipv6),
		TEST(evidence_once_a_tick),
		TEST(evidence_of_links_only),
		TEST(suspect_ipv4),
		TEST(suspect_ipv6),
		TEST(unproven),
		TEST(runs_on_no_listener),
		TEST(runs_on_garbage),
		TEST(unknown),
		TEST(linked_ipv4),
		TEST(linked_ipv6),
		TEST(backoff_ipv4),
		TEST(backoff_ipv6),
		TEST(backoff_observed),
		TEST(backoff_while_pending),
		TEST(backoff_goes_on),
		TEST(limits),
		TEST(ipv4_options),
		TEST(ipv6_extension_header),
		TEST(flags),
		TEST(truncated),
		TEST(other_port),
		TEST(services),
		TEST(source_is_destination),
		TEST(exempt),
		TEST(leaving),
		TEST(no_policy),
		TEST(reject_styles),
		TEST(tie_won),
		TEST(tie_lost_ipv4),
		TEST(tie_lost_ipv6),
		TEST(tie_lost_observed),
		TEST(no_tie),
		TEST(pending_ipv4),
		TEST(pending_ipv6),
		TEST(pending_observed),
		TEST(pending_with_room),
		TEST(pending_ends),
		TEST(pending_reset),
		TEST(pending_budget),
		TEST(pending_of_neighbours),
		TEST(pending_shared_element),
		TEST(pending_places_are_keyed),
		TEST(goes_first_ipv4),
		TEST(goes_first_ipv6),
		TEST(goes_first_of_the_rest),
		TEST(greater_goes_at_the_last_ack),
		TEST(nothing_is_given_up),
		TEST(last_ack_ipv4),
		TEST(last_ack_ipv6),
		TEST(last_ack_passes),
		TEST(third_ack_passes),
		TEST(answer_linked_ipv4),
		TEST(answer_linked_ipv6),
		TEST(answer_tie_lost_ipv4),
		TEST(answer_tie_lost_ipv6),
		TEST(answer_on_the_connection_of_both),
		TEST(answer_to_a_later_dial),
		TEST(answer_tie_not_lost),
		TEST(answer_observed),
		TEST(answer_passes),
		TEST(answer_reset),
		TEST(open_won_ipv4),
		TEST(open_won_ipv6),
		TEST(open_lost_ipv4),
		TEST(open_lost_ipv6),
		TEST(open_passes),
	};

	if (segments_lack())
		return 0;
	return cmocka_run_group_tests(tests, set_up, tear_down);
}

int main(void)
{
	return run_surrounded("cgt-ingress-", run_all);
}
