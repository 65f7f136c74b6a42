/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The sk_lookup program, run by itself with BPF_PROG_TEST_RUN: which knocks it drops (and TCP
 * answers with RST), and what it counts and tells.
 *
 * The program is attached to nothing; its maps are its own. Runs as root.
 */
#include "fixture.h"

#include <errno.h>
#include <string.h>
#include <arpa/inet.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#define OTHER_PORT  24001
#define REMOTE_PORT 41000
#define LINK_COOKIE 4711

#define HERE4  "10.97.0.1"
#define THERE4 "10.97.0.2"
#define HERE6  "fd97::1"
#define THERE6 "fd97::2"

/* As include/uapi/linux/bpf.h names them: the verdicts of the program. */
#define PASSED	SK_PASS
#define DROPPED SK_DROP

static struct programs *programs;
static struct guard_maps maps;
static struct watch *watch;

/* ---- a packet that looks for its socket ---- */

static struct bpf_sk_lookup packet(const char *remote, const char *local, __u16 local_port)
{
	struct bpf_sk_lookup packet = {
		.protocol = IPPROTO_TCP,
		.remote_port = htons(REMOTE_PORT),
		.local_port = local_port,
	};
	union endpoint remote_end, local_end;

	endpoint_of(remote, 0, &remote_end);
	endpoint_of(local, 0, &local_end);
	packet.family = remote_end.any.sa_family;
	if (packet.family == AF_INET) {
		packet.remote_ip4 = remote_end.ipv4.sin_addr.s_addr;
		packet.local_ip4 = local_end.ipv4.sin_addr.s_addr;
	} else {
		memcpy(packet.remote_ip6, &remote_end.ipv6.sin6_addr, sizeof(packet.remote_ip6));
		memcpy(packet.local_ip6, &local_end.ipv6.sin6_addr, sizeof(packet.local_ip6));
	}
	return packet;
}

static __u32 run_program(struct bpf_sk_lookup packet, __u32 repeat)
{
	LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &packet, .ctx_size_in = sizeof(packet),
		    .repeat = repeat);
	int result = bpf_prog_test_run_opts(programs_fd(programs), &options);

	if (result)
		fail_msg("BPF_PROG_TEST_RUN: %s", strerror(-result));
	return options.retval;
}

/* What becomes of a knock at PORT. */
static __u32 knock(const char *remote, const char *local)
{
	return run_program(packet(remote, local, PORT), 1);
}

/* A knock of THERE4 passes, and the program has nothing to say about it. */
static void assert_passes_in_silence(void)
{
	assert_int_equal(knock(THERE4, HERE4), PASSED);
	assert_silent(watch);
}

/* A knock of THERE4 is refused because it is linked. */
static void assert_refused(void)
{
	assert_int_equal(knock(THERE4, HERE4), DROPPED);
	assert_counted(watch, ENFORCED(knock_linked, 1));
	next_event(watch, knock_linked);
	assert_no_event(watch);
}

static int set_up(void **state)
{
	(void)state;
	programs = programs_load("lookup", PORT, &maps);
	watch = watch_open(&maps);
	return 0;
}

static int before_each(void **state)
{
	(void)state;
	maps_reset(&maps);
	guard_port(&maps, PORT);
	/* A test that has guarded it and failed leaves it guarded. */
	guard_port(&maps, OTHER_PORT);
	unguard_port(&maps, OTHER_PORT);
	set_service(PORT);
	/* The service listens on any address, and on no other. */
	for (__u16 port = PORT; port <= OTHER_PORT; port++) {
		put_listeners(&maps, "0.0.0.0", port, 1, 0);
		put_listeners(&maps, "::", port, 1, 0);
		put_listeners(&maps, HERE4, port, 0, 0);
		put_listeners(&maps, HERE6, port, 0, 0);
	}
	watch_reset(watch);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	watch_close(watch);
	programs_close(programs);
	return 0;
}

/* ---- tests ---- */

/* Dropped, counted, told, and noted on the peer. */
static void check_linked(const char *remote, const char *local)
{
	struct peer before = { .attempts = 3, .slots = { [5] = some_link(LINK_COOKIE) } }, after;
	struct guard_event event;

	put_peer(&maps, remote, &before);
	before = get_peer(&maps, remote);
	put_held_syn(&maps, remote);
	assert_int_equal(knock(remote, local), DROPPED);
	assert_false(has_held_syn(&maps, remote));

	assert_counted(watch, ENFORCED(knock_linked, 1));
	event = next_event(watch, knock_linked);
	assert_event_of_knock(&event, remote, REMOTE_PORT, PORT);
	assert_int_equal(event.verdict, VERDICT_REFUSE);
	assert_int_equal(event.enforced, 1);
	assert_int_equal(event.other_cookie, LINK_COOKIE);
	assert_int_equal(event.until_ns, 0);
	assert_int_equal(event.attempts, 3);
	assert_no_event(watch);

	after = get_peer(&maps, remote);
	assert_int_equal(after.refused_knocks, 1);
	assert_int_equal(after.last_refusal_cause, CAUSE_knock_linked);
	assert_int_equal(after.last_refusal_ns, event.time_ns);
	/* And nothing else changed. */
	after.refused_knocks = before.refused_knocks;
	after.last_refusal_cause = before.last_refusal_cause;
	after.last_refusal_ns = before.last_refusal_ns;
	assert_memory_equal(&after, &before, sizeof(after));

	/* The next one as well. */
	assert_int_equal(knock(remote, local), DROPPED);
	assert_int_equal(get_peer(&maps, remote).refused_knocks, 2);
	assert_counted(watch, ENFORCED(knock_linked, 1));
	next_event(watch, knock_linked);
}

static void linked_ipv4(void **state)
{
	(void)state;
	check_linked(THERE4, HERE4);
}

static void linked_ipv6(void **state)
{
	(void)state;
	check_linked(THERE6, HERE6);
}

/* One key for both ways to write an IPv4 address. */
static void linked_mapped(void **state)
{
	(void)state;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	assert_int_equal(knock("::ffff:" THERE4, "::ffff:" HERE4), DROPPED);
	assert_counted(watch, ENFORCED(knock_linked, 1));
	next_event(watch, knock_linked);
}

/* An IPv4 address and the IPv6 address with the same last four bytes are two peers. */
static void families_apart(void **state)
{
	(void)state;
	put_slot(&maps, "::10.97.0.2", some_link(LINK_COOKIE));
	assert_passes_in_silence();
	assert_int_equal(knock("::10.97.0.2", HERE6), DROPPED);
}

/* Nobody knows the peer: it passes, and is known no more than before. */
static void unknown(void **state)
{
	(void)state;
	put_slot(&maps, "10.97.0.3", some_link(LINK_COOKIE));
	assert_passes_in_silence();
	assert_int_equal(knock(THERE6, HERE6), PASSED);
	assert_silent(watch);
	assert_int_equal(count_peers(&maps), 1);
}

/*
 * What comes by here is any packet without a connection, a stray one of yesterday say: no sign of
 * life of anybody. Only the hook that sees the SYN ends a backoff.
 */
static void ends_no_backoff(void **state)
{
	struct peer in_backoff = { .attempts = 4,
				   .failed_ns = now_ns(),
				   .failure = ENDING_SILENCE,
				   .flags = PEER_DIALED | PEER_SILENT,
				   .next_attempt_ns = now_ns() + HOUR_NS };
	struct peer before, after;

	(void)state;
	set_daemon(&maps, true, true);
	for (int claimed = 0; claimed < 2; claimed++) {
		in_backoff.slots[0] = claimed ? some_claim(1, 1) : (struct slot){};
		in_backoff.slots[0].flags |= claimed ? SLOT_KEPT : 0;
		put_peer(&maps, THERE4, &in_backoff);
		before = get_peer(&maps, THERE4);
		assert_passes_in_silence();
		after = get_peer(&maps, THERE4);
		assert_memory_equal(&after, &before, sizeof(after));
	}
	/* Nor does one that is refused: at that the peer has a link and its backoff is no matter. */
	in_backoff.slots[0] = some_link(LINK_COOKIE);
	put_peer(&maps, THERE4, &in_backoff);
	assert_refused();
	assert_int_equal(get_peer(&maps, THERE4).next_attempt_ns, in_backoff.next_attempt_ns);
	assert_int_equal(get_peer(&maps, THERE4).wake_after_ns, 0);
}

/* A quiet link refuses nobody here: whoever knocks is held, or let in, where the SYN is seen. */
static void quiet(void **state)
{
	struct slot link = some_link(LINK_COOKIE);
	struct peer before, after;

	(void)state;
	set_daemon(&maps, true, true);
	link.heard_ns = LONG_AGO;
	for (int unanswered = 0; unanswered < 2; unanswered++) {
		link.flags = unanswered ? SLOT_UNANSWERED : 0;
		put_slot(&maps, THERE4, link);
		before = get_peer(&maps, THERE4);
		assert_passes_in_silence();
		after = get_peer(&maps, THERE4);
		assert_memory_equal(&after, &before, sizeof(after));
	}
}

/* No link, no refusal: what a SYN means then is the ingress hook's to say, which sees all of it. */
static void not_linked(void **state)
{
	struct peer backing_off = { .attempts = 4,
				    .next_attempt_ns = now_ns() + 300 * NS_PER_SECOND };
	struct peer idle = {}, after;
	struct slot doomed = some_link(LINK_COOKIE);

	(void)state;
	put_peer(&maps, THERE4, &idle);
	assert_passes_in_silence();
	put_peer(&maps, THERE4, &backing_off);
	assert_passes_in_silence();
	put_slot(&maps, THERE4, some_claim(LINK_COOKIE, 1000));
	assert_passes_in_silence();
	doomed.flags = SLOT_DOOMED;
	put_slot(&maps, THERE4, doomed);
	assert_passes_in_silence();
	after = get_peer(&maps, THERE4);
	assert_int_equal(after.refused_knocks, 0);
	assert_int_equal(after.last_refusal_ns, 0);
	/* A claim beside a link is no excuse. */
	put_peer(&maps, THERE4,
		 &(struct peer){ .slots = { some_claim(1, 1000), some_link(LINK_COOKIE) } });
	assert_refused();
}

static void limits(void **state)
{
	struct guard_policy policy = patient_policy();
	struct peer one = { .slots = { some_link(1) } };
	struct peer two = { .slots = { some_link(1), [7] = some_link(2) } };

	(void)state;
	policy.max_links = 2;
	set_policy(&maps, &policy);
	put_peer(&maps, THERE4, &one);
	assert_passes_in_silence();
	put_peer(&maps, THERE4, &two);
	assert_refused();
	/* The peer's own limit counts more than the policy's. */
	two.limit = 3;
	put_peer(&maps, THERE4, &two);
	assert_passes_in_silence();
	one.limit = 1;
	put_peer(&maps, THERE4, &one);
	assert_refused();
}

static void other_ports_and_protocols(void **state)
{
	struct bpf_sk_lookup datagram = packet(THERE4, HERE4, PORT);

	(void)state;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	assert_int_equal(run_program(packet(THERE4, HERE4, OTHER_PORT), 1), PASSED);
	datagram.protocol = IPPROTO_UDP;
	assert_int_equal(run_program(datagram, 1), PASSED);
	assert_silent(watch);

	guard_port_of(&maps, OTHER_PORT, PORT);
	assert_int_equal(run_program(packet(THERE4, HERE4, OTHER_PORT), 1), DROPPED);
	assert_counted(watch, ENFORCED(knock_linked, 1));
	assert_int_equal(next_event(watch, knock_linked).local_port, OTHER_PORT);
	unguard_port(&maps, OTHER_PORT);
	assert_int_equal(run_program(packet(THERE4, HERE4, OTHER_PORT), 1), PASSED);
	assert_silent(watch);
}

/* A link at one port is no link too many at another, unless the ports share their limits. */
static void services(void **state)
{
	struct guard_event event;

	(void)state;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	guard_port(&maps, OTHER_PORT);
	assert_int_equal(run_program(packet(THERE4, HERE4, OTHER_PORT), 1), PASSED);
	assert_silent(watch);
	set_service(OTHER_PORT);
	put_slot(&maps, THERE4, some_link(LINK_COOKIE + 1));
	assert_int_equal(run_program(packet(THERE4, HERE4, OTHER_PORT), 1), DROPPED);
	assert_counted(watch, ENFORCED(knock_linked, 1));
	event = next_event(watch, knock_linked);
	assert_event_of_knock(&event, THERE4, REMOTE_PORT, OTHER_PORT);
	assert_int_equal(event.other_cookie, LINK_COOKIE + 1);

	maps_reset(&maps);
	guard_port_of(&maps, PORT, 0);
	guard_port_of(&maps, OTHER_PORT, 0);
	set_service(0);
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	assert_int_equal(run_program(packet(THERE4, HERE4, OTHER_PORT), 1), DROPPED);
	assert_int_equal(knock(THERE4, HERE4), DROPPED);
	assert_counted(watch, ENFORCED(knock_linked, 2));
	event = next_event(watch, knock_linked);
	assert_event_of_knock(&event, THERE4, REMOTE_PORT, OTHER_PORT);
	event = next_event(watch, knock_linked);
	assert_event_of_knock(&event, THERE4, REMOTE_PORT, PORT);
}

/* Observe mode decides at the ingress hook, so that no knock is counted twice; off refuses nothing.
 */
static void modes(void **state)
{
	(void)state;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	set_mode(&maps, MODE_OBSERVE);
	assert_passes_in_silence();
	set_mode(&maps, MODE_OFF);
	assert_passes_in_silence();
	assert_int_equal(get_peer(&maps, THERE4).refused_knocks, 0);
	set_mode(&maps, MODE_ENFORCE);
	assert_refused();
}

/* A guard that is told to drop silently does it at the ingress hook: from here an RST would follow.
 */
static void reject_style_drop(void **state)
{
	struct guard_policy policy = patient_policy();

	(void)state;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	policy.reject_style = REJECT_DROP;
	set_policy(&maps, &policy);
	assert_passes_in_silence();
	assert_int_equal(get_peer(&maps, THERE4).refused_knocks, 0);
}

/* While the guard is being loaded. */
static void no_policy(void **state)
{
	const struct guard_policy unset = {};

	(void)state;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	set_policy(&maps, &unset);
	assert_passes_in_silence();
}

/* This host is no peer of itself. */
static void remote_is_local(void **state)
{
	(void)state;
	put_slot(&maps, HERE4, some_link(LINK_COOKIE));
	put_slot(&maps, HERE6, some_link(LINK_COOKIE));
	put_slot(&maps, "127.0.0.9", some_link(LINK_COOKIE));
	put_slot(&maps, "::1", some_link(LINK_COOKIE));
	assert_int_equal(knock(HERE4, HERE4), PASSED);
	assert_int_equal(knock(HERE6, HERE6), PASSED);
	/* Nor is loopback, whatever the other end of it. */
	assert_int_equal(knock("127.0.0.9", "127.0.0.1"), PASSED);
	assert_int_equal(knock("::1", HERE6), PASSED);
	assert_silent(watch);
}

/* Where only a translation of addresses leads a peer, others may listen of whom nobody knows. */
static void local_is_loopback(void **state)
{
	(void)state;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	put_slot(&maps, THERE6, some_link(LINK_COOKIE));
	put_listeners(&maps, "127.0.0.1", PORT, 1, 0);
	assert_int_equal(knock(THERE4, "127.0.0.1"), PASSED);
	put_listeners(&maps, "127.0.0.1", PORT, 0, 0);
	assert_int_equal(knock(THERE4, "127.0.0.1"), PASSED);
	assert_int_equal(knock(THERE6, "::1"), PASSED);
	assert_silent(watch);
}

static void exempt_prefixes(void **state)
{
	const struct exempt_value for_good = { .until_ns = NEVER_ENDS_NS };
	const struct exempt_value over = { .until_ns = now_ns() };

	(void)state;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	put_slot(&maps, THERE6, some_link(LINK_COOKIE));
	put_slot(&maps, "10.98.0.2", some_link(LINK_COOKIE));
	set_exempt(&maps, "10.97.0.0", 24, for_good);
	set_exempt(&maps, "fd97::", 64, for_good);
	assert_passes_in_silence();
	assert_int_equal(knock(THERE6, HERE6), PASSED);
	assert_silent(watch);
	/* Beside the prefix. */
	assert_int_equal(knock("10.98.0.2", HERE4), DROPPED);
	assert_counted(watch, ENFORCED(knock_linked, 1));
	next_event(watch, knock_linked);

	/* The longest prefix counts: this one is over. */
	set_exempt(&maps, THERE4, 32, over);
	assert_refused();
	set_exempt(&maps, THERE4, 32,
		   (struct exempt_value){ .until_ns = now_ns() + 100 * NS_PER_SECOND });
	assert_passes_in_silence();
}

/* This host itself is no peer, whatever the exempt map says of it: an address, or all of a prefix. */
static void own_prefixes(void **state)
{
	const struct exempt_value over = { .until_ns = now_ns() };

	(void)state;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	put_slot(&maps, THERE6, some_link(LINK_COOKIE));
	set_exempt(&maps, THERE4, 32, over);
	assert_refused();
	set_own(&maps, "10.97.0.0", 16);
	set_own(&maps, THERE6, 128);
	assert_passes_in_silence();
	assert_int_equal(knock(THERE6, HERE6), PASSED);
	assert_silent(watch);
}

static void exempt_peer(void **state)
{
	struct peer peer = { .exempt_until_ns = NEVER_ENDS_NS,
			     .slots = { some_link(LINK_COOKIE) } };

	(void)state;
	put_peer(&maps, THERE4, &peer);
	assert_passes_in_silence();
	peer.exempt_until_ns = now_ns() + 100 * NS_PER_SECOND;
	put_peer(&maps, THERE4, &peer);
	assert_passes_in_silence();
	assert_int_equal(get_peer(&maps, THERE4).refused_knocks, 0);
	peer.exempt_until_ns = now_ns();
	put_peer(&maps, THERE4, &peer);
	assert_refused();
}

/* An entry that is being deleted, or that was recycled for another peer: allow. */
static void leaving(void **state)
{
	struct peer peer = { .flags = PEER_LEAVING, .slots = { some_link(LINK_COOKIE) } };
	struct peer_address key = key_of(THERE4), other = key_of("10.97.0.3");

	(void)state;
	put_peer(&maps, THERE4, &peer);
	assert_passes_in_silence();
	peer.flags = 0;
	peer.address = other;
	peer.first_seen_ns = now_ns();
	assert_int_equal(bpf_map_update_elem(maps.peers, &key, &peer, BPF_ANY), 0);
	assert_passes_in_silence();
	put_peer(&maps, THERE4, &peer);
	assert_refused();
}

/* The table says this of a handshake, wherever it is looked up. */
static void put_everywhere(const struct pending_handshake *pending)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);

	assert_int_equal(bpf_obj_get_info_by_fd(maps.handshakes, &info, &length), 0);
	for (__u32 i = 0; i < info.max_entries; i++)
		put_handshake(&maps, i, pending);
}

/*
 * What may be the last ACK of a handshake that was let in, with a SYN cookie: no flags are seen here.
 * Only where the tie-break is left to the service does it pass while the peer is linked.
 */
static void awaited(void **state)
{
	struct guard_policy policy = patient_policy();
	struct pending_handshake pending = { .address = key_of(THERE4),
					     .remote_port = REMOTE_PORT,
					     .until_ns = now_ns() + 100 * NS_PER_SECOND };

	(void)state;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	put_everywhere(&pending);
	assert_refused();
	policy.tie_break = TIE_BREAK_NONE;
	set_policy(&maps, &policy);
	assert_passes_in_silence();
	assert_int_equal(get_peer(&maps, THERE4).refused_knocks, 1);
	/* Not another one of the peer, nor one that was given up. */
	pending.remote_port = REMOTE_PORT + 1;
	put_everywhere(&pending);
	assert_refused();
	pending.remote_port = REMOTE_PORT;
	pending.until_ns = now_ns();
	put_everywhere(&pending);
	assert_refused();
	/* Another peer's. */
	pending.address = key_of("10.97.0.3");
	pending.until_ns = now_ns() + 100 * NS_PER_SECOND;
	put_everywhere(&pending);
	assert_refused();
}

/* Who gets a knock is known, and how many of ours and whether others are at the address and at any. */
static void listeners(void **state)
{
	static const struct {
		__s32 here;
		__u32 others_here;
		__s32 any;
		__u32 others_any;
		__u32 verdict;
	} cases[] = {
		{ 1, 0, 0, 0, DROPPED },
		{ 3, 0, 0, 0, DROPPED },
		{ 0, 0, 1, 0, DROPPED },
		/* Whoever is at any address gets nothing that comes to one that has a listener. */
		{ 1, 0, 0, 1, DROPPED },
		{ 0, 1, 1, 0, PASSED },
		/* It could be either. */
		{ 1, 1, 0, 0, PASSED },
		{ 0, 0, 1, 1, PASSED },
		{ 0, 0, 0, 0, PASSED },
		/* What was counted too seldom. */
		{ -1, 0, 0, 0, PASSED },
		{ 0, 0, -1, 0, PASSED },
		{ -1, 0, 1, 0, DROPPED },
	};
	static const char *const any[] = { "0.0.0.0", "::" }, *const here[] = { HERE4, HERE6 },
				*const there[] = { THERE4, THERE6 };

	(void)state;
	for (int family = 0; family < 2; family++) {
		put_slot(&maps, there[family], some_link(LINK_COOKIE));
		/* The other family's say nothing. */
		put_listeners(&maps, any[!family], PORT, family, !family);
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			put_listeners(&maps, here[family], PORT, cases[i].here, cases[i].others_here);
			put_listeners(&maps, any[family], PORT, cases[i].any, cases[i].others_any);
			assert_int_equal(knock(there[family], here[family]), cases[i].verdict);
		}
	}
	discard_events(watch);
}

/* A full ring loses events and counts them; knocks are refused and counted all the same. */
static void ring_full(void **state)
{
	enum { KNOCKS = 20000 };
	__u64 lost;

	(void)state;
	put_slot(&maps, THERE4, some_link(LINK_COOKIE));
	assert_int_equal(run_program(packet(THERE4, HERE4, PORT), KNOCKS), DROPPED);
	lost = events_lost(watch);
	assert_true(lost > 0);
	assert_counted(watch, ENFORCED(knock_linked, KNOCKS));
	assert_int_equal(get_peer(&maps, THERE4).refused_knocks, KNOCKS);
	assert_int_equal(discard_events(watch), KNOCKS - lost);
	/* Drained, it takes events again. */
	assert_refused();
	assert_int_equal(events_lost(watch), 0);
}

#define TEST(name) cmocka_unit_test_setup(name, before_each)

static int run_all(void)
{
	const struct CMUnitTest tests[] = {
		TEST(linked_ipv4),     TEST(linked_ipv6),
		TEST(linked_mapped),   TEST(families_apart),
		TEST(unknown),	       TEST(not_linked),
		TEST(limits),	       TEST(other_ports_and_protocols),
		TEST(modes),	       TEST(reject_style_drop),
		TEST(no_policy),       TEST(remote_is_local), TEST(local_is_loopback),
		TEST(exempt_prefixes), TEST(own_prefixes), TEST(exempt_peer),
		TEST(leaving),	       TEST(awaited),
		TEST(ring_full),       TEST(services),
		TEST(ends_no_backoff), TEST(quiet),
		TEST(listeners),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}

int main(void)
{
	return run_surrounded("cgt-sklookup-", run_all);
}
