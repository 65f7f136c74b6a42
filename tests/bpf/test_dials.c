/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Our dials in the kernel: those that wait for the end of a backoff, and how each dial ends, as the
 * kernel shows it at its socket.
 *
 * A whole guard of this test's own (prefix cgt-dials-) on its cgroup; the test is the peer, through a
 * tun device. What TCP does by its own timers is waited for, never timed. Runs as root, in a network
 * namespace of its own.
 */
#include "segments.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

#include "edge/kernel.h"
#include "edge/sockets.h"

#define OTHER_PORT 24001

/* Beyond a device on which nobody answers. */
#define SILENT4 "10.98.0.77"
#define SILENT6 "fd98::77"
/* No route leads there. */
#define NOWHERE4 "10.99.0.1"

static struct guard *guard;
static struct guard_maps maps;
static struct watch *watch;
static struct sockets *sockets;
static int own_netns = -1;
/* Descriptors above this one belong to the test that runs. */
static int last_own_descriptor;

/* ---- surroundings --------------------------------------------------------------------------- */

static int set_up(void **state)
{
	(void)state;
	segments_open();
	guard = load_guard(PORT, &maps);
	watch = watch_open(&maps);
	assert_int_equal(sockets_open(&sockets), 0);
	own_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_true(own_netns >= 0);
	last_own_descriptor = highest_descriptor();
	return 0;
}

/* SYNs after 1, 3, 7 s, or, with `linear` ones, after 1, 2, 3 s; kernels before 6.5 know only the former. */
static void set_linear_timeouts(int linear)
{
	if (!access("/proc/sys/net/ipv4/tcp_syn_linear_timeouts", F_OK))
		write_setting("tcp_syn_linear_timeouts", linear);
}

static int before_each(void **state)
{
	(void)state;
	maps_reset(&maps);
	guard_port(&maps, OTHER_PORT);
	unguard_port(&maps, OTHER_PORT);
	guard_port(&maps, PORT);
	set_service(PORT);
	set_linear_timeouts(4);
	write_setting("tcp_syn_retries", 6);
	watch_reset(watch);
	return 0;
}

static int after_each(void **state)
{
	(void)state;
	close_range(last_own_descriptor + 1, ~0U, 0);
	return setns(own_netns, CLONE_NEWNET);
}

static int tear_down(void **state)
{
	(void)state;
	close(own_netns);
	sockets_close(sockets);
	watch_close(watch);
	unload_guard(guard, &maps);
	segments_close();
	return 0;
}

/* ---- what a dial is like -------------------------------------------------------------------- */

/* What a refused dial gets on this kernel. */
static int refusal(void)
{
	bool features[FEATURE_COUNT] = {};

	guard_probe(features);
	return features[FEATURE_REFUSAL_ERRNO] ? ECONNREFUSED : EPERM;
}

static int error_of(int fd)
{
	socklen_t length = sizeof(int);
	int error = 0;

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
	return error;
}

static struct tcp_info information_of(int fd)
{
	struct tcp_info information;
	socklen_t length = sizeof(information);

	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &information, &length), 0);
	return information;
}

/* TCP has nothing to say of it: neither established nor failed. */
static bool is_pending(int fd)
{
	struct pollfd writable = { .fd = fd, .events = POLLOUT };

	return poll(&writable, 1, 0) == 0 && information_of(fd).tcpi_state == TCP_SYN_SENT;
}

/* The slot that this socket holds; the test fails when it holds none. */
static struct slot slot_of_fd(int fd, const char *peer)
{
	struct peer value = get_peer(&maps, peer);
	__u64 cookie = cookie_of(fd);

	for (int i = 0; i < PEER_SLOTS; i++)
		if (value.slots[i].kind != SLOT_FREE && value.slots[i].cookie == cookie)
			return value.slots[i];
	fail_msg("the socket holds no slot of %s", peer);
	return (struct slot){};
}

static struct peer silent_peer(void)
{
	return (struct peer){ .attempts = 2,
			      .flags = PEER_DIALED | PEER_SILENT,
			      .failed_ns = now_ns(),
			      .failure = ENDING_SILENCE,
			      .next_attempt_ns = now_ns() + HOUR_NS };
}

static int command(enum command_operation operation, const char *peer)
{
	const struct guard_command request = { .operation = operation, .address = key_of(peer) };

	return guard_command(guard, &request);
}

static void revive(void)
{
	const struct guard_command request = { .operation = COMMAND_REVIVE,
					       .value = CAUSE_network_back };

	assert_int_equal(guard_command(guard, &request), 0);
	next_event(watch, network_back);
}

/* Events of one cause that come by themselves: wait for the next one. */
#define await_event(name) await_event_of(CAUSE_##name, __FILE__, __LINE__)

static struct guard_event await_event_of(enum cause cause, const char *file, int line)
{
	__u64 patient_until = now_ns() + PATIENCE_MS * NS_PER_MS;

	while (!has_event(watch) && now_ns() < patient_until)
		usleep(1000);
	return check_event(watch, cause, file, line);
}

/* Every SYN that TCP has made of this dial has come to the peer, and was counted. */
static void assert_all_left(int fd, const char *peer)
{
	/* Each may become one more at any time, in the order in which they are asked here. */
	unsigned int made = 1 + information_of(fd).tcpi_retransmits;
	unsigned int came = syns_seen(port_of(fd));
	unsigned int counted = slot_of_fd(fd, peer).syns;

	assert_true(made <= came);
	assert_true(came <= counted);
	assert_true(counted <= 1U + information_of(fd).tcpi_retransmits);
}

/* A dial that is no longer wanted, and leaves nothing behind, however often it has asked. */
static void drop(int fd)
{
	struct tcp_socket socket;

	assert_int_equal(sockets_find(sockets, cookie_of(fd), &socket), 0);
	assert_int_equal(sockets_destroy(sockets, &socket), 0);
	assert_int_equal(next_event(watch, dial_unheard).ending, ENDING_ABORTED);
	close(fd);
}

/* ---- dials that are kept -------------------------------------------------------------------- */

/* The ways to dial a peer: by an address of each family, and an IPv4 one from an IPv6 socket. */
static const struct way {
	const char *here, *there; /* what the socket says */
	const char *peer;	  /* whom that is */
} ways[] = {
	{ HERE4, THERE4, THERE4 },
	{ HERE6, THERE6, THERE6 },
	{ "::ffff:" HERE4, "::ffff:" OTHER4, OTHER4 },
};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

/* The dial of this socket, which has just begun, is kept; its peer was put as it is. */
static void assert_kept(int fd, const struct way *way, const struct peer *before)
{
	struct guard_event event = next_event(watch, dial_kept);
	struct peer_address here;
	struct slot slot;
	struct peer peer;

	assert_address(event.address, way->peer);
	assert_recent(&event);
	assert_int_equal(event.verdict, VERDICT_HOLD);
	assert_int_equal(event.enforced, 1);
	assert_int_equal(event.cookie, cookie_of(fd));
	assert_int_equal(event.other_cookie, 0);
	assert_int_equal(event.until_ns, before->next_attempt_ns);
	assert_int_equal(event.attempts, before->attempts);
	assert_int_equal(event.ending, before->failure);
	assert_int_equal(event.process_id, getpid());
	assert_int_equal(event.remote_port, PORT);
	assert_true(is_pending(fd));
	assert_int_equal(syns_seen(port_of(fd)), 0);
	slot = slot_of_fd(fd, way->peer);
	assert_int_equal(slot.kind, SLOT_CLAIM);
	assert_int_equal(slot.flags, SLOT_SENT | SLOT_KEPT);
	assert_int_equal(slot.syns, 0);
	assert_int_equal(slot.local_port, port_of(fd));
	assert_int_equal(slot.remote_port, PORT);
	here = key_of(way->here);
	assert_memory_equal(slot.local_address, here.bytes, sizeof(here.bytes));
	/* It is neither a refusal nor a failure. */
	peer = get_peer(&maps, way->peer);
	assert_int_equal(peer.refused_dials, 0);
	assert_int_equal(peer.attempts, before->attempts);
	assert_int_equal(peer.next_attempt_ns, before->next_attempt_ns);
}

static int kept_dial(const struct way *way)
{
	int fd = dialing_socket(way->here);
	const struct peer peer = silent_peer();

	put_peer(&maps, way->peer, &peer);
	watch_reset(watch);
	assert_int_equal(dial(fd, way->there, PORT), EINPROGRESS);
	assert_counted(watch, ENFORCED(dial_kept, 1));
	assert_kept(fd, way, &peer);
	assert_no_event(watch);
	return fd;
}

/* TCP has tried once more, and it did not leave either. */
static void assert_still_kept(int fd, const struct way *way)
{
	__u8 tries = information_of(fd).tcpi_retransmits;

	await(information_of(fd).tcpi_retransmits > tries);
	assert_int_equal(syns_seen(port_of(fd)), 0);
	assert_true(is_pending(fd));
	assert_int_equal(slot_of_fd(fd, way->peer).syns, 0);
	assert_int_equal(slot_of_fd(fd, way->peer).flags, SLOT_SENT | SLOT_KEPT);
}

/* Its SYN leaves by TCP's own timer: told once, and from here on it is as any other dial. */
static struct guard_event assert_let_go(int fd, const struct way *way)
{
	const struct guard_policy policy = patient_policy();
	struct guard_event event;
	struct slot slot;

	await_syn(port_of(fd), 0);
	event = next_event(watch, dial_let_go);
	assert_address(event.address, way->peer);
	assert_recent(&event);
	assert_int_equal(event.enforced, 1);
	assert_int_equal(event.cookie, cookie_of(fd));
	assert_int_equal(event.direction, DIRECTION_OUTBOUND);
	assert_int_equal(event.local_port, port_of(fd));
	assert_int_equal(event.remote_port, PORT);
	slot = slot_of_fd(fd, way->peer);
	assert_int_equal(slot.flags, SLOT_SENT);
	assert_int_equal(slot.since_ns, event.time_ns);
	assert_int_equal(slot.expires_ns, event.time_ns + policy.claim_max_ns);
	assert_true(slot.syns >= 1 && slot.syns <= syns_seen(port_of(fd)) + 1);
	assert_true(slot.syns <= information_of(fd).tcpi_retransmits);
	return event;
}

/* The peer answers: the application has its link, and the peer no backoff, but its attempts. */
static void assert_links(int fd, const struct way *way, __u32 attempts)
{
	struct our_dial ours = dial_seen(fd, way->peer, PORT);
	struct guard_event event;

	assert_int_equal(answer_to(&ours.syn_ack, NULL), ANSWER_ACK);
	assert_true(connected(fd));
	event = next_event(watch, link_outbound);
	assert_address(event.address, way->peer);
	assert_int_equal(event.cookie, cookie_of(fd));
	assert_no_event(watch);
	assert_int_equal(slot_of_fd(fd, way->peer).kind, SLOT_LINK);
	assert_int_equal(get_peer(&maps, way->peer).next_attempt_ns, 0);
	assert_int_equal(get_peer(&maps, way->peer).attempts, attempts);
}

/* Until the peer is kicked. What others send meanwhile is none of that. */
static void kept_until_kicked(void **state)
{
	static const char *const other = "10.97.1.4";
	struct our_dial ours;
	int fds[WAYS];

	(void)state;
	for (size_t i = 0; i < WAYS; i++)
		fds[i] = kept_dial(&ways[i]);
	ours = dial_out(other, PORT);
	next_event(watch, dial_idle);
	for (size_t i = 0; i < WAYS; i++)
		assert_still_kept(fds[i], &ways[i]);
	assert_true(slot_of_fd(ours.fd, other).syns >= 1);
	assert_int_equal(answer_to(&ours.syn_ack, NULL), ANSWER_ACK);
	next_event(watch, link_outbound);
	/* What an established connection sends leaves as well. */
	assert_int_equal(send(ours.fd, "x", 1, 0), 1);
	assert_no_event(watch);
	for (size_t i = 0; i < WAYS; i++) {
		assert_int_equal(command(COMMAND_KICK, ways[i].peer), 0);
		next_event(watch, peer_kicked);
		assert_let_go(fds[i], &ways[i]);
		assert_links(fds[i], &ways[i], 0);
	}
	/* Each SYN that left was counted, and only these. */
	assert_counted(watch, ENFORCED(dial_idle, 1), ENFORCED(link_outbound, 1 + WAYS),
		       ENFORCED(peer_kicked, WAYS), ENFORCED(dial_let_go, WAYS));
}

/* One word for all peers: the network is back. */
static void kept_until_revived(void **state)
{
	int fds[WAYS];

	(void)state;
	for (size_t i = 0; i < WAYS; i++)
		fds[i] = kept_dial(&ways[i]);
	revive();
	for (size_t i = 0; i < WAYS; i++)
		await_syn(port_of(fds[i]), 0);
	for (size_t i = 0; i < WAYS; i++) {
		assert_int_equal(slot_of_fd(fds[i], ways[i].peer).flags, SLOT_SENT);
		assert_int_equal(get_peer(&maps, ways[i].peer).next_attempt_ns, 0);
		assert_int_equal(get_peer(&maps, ways[i].peer).attempts, 2);
	}
	assert_int_equal(discard_events(watch), WAYS);
	for (size_t i = 0; i < WAYS; i++)
		assert_links(fds[i], &ways[i], 2);
}

/* The backoff ends by itself: what left before is kept, and what leaves after it is not. */
static void kept_until_it_is_over(void **state)
{
	int fds[WAYS];
	struct peer peers[WAYS];
	__u64 let_go_ns[WAYS] = {};

	(void)state;
	for (size_t i = 0; i < WAYS; i++) {
		fds[i] = kept_dial(&ways[i]);
		/* What is kept for an hour nobody else writes. */
		peers[i] = get_peer(&maps, ways[i].peer);
		peers[i].next_attempt_ns = now_ns() + 1500 * NS_PER_MS;
		put_peer(&maps, ways[i].peer, &peers[i]);
	}
	for (size_t i = 0; i < WAYS; i++)
		await_syn(port_of(fds[i]), 0);
	for (size_t i = 0; i < WAYS; i++) {
		struct guard_event event = next_event(watch, dial_let_go);

		for (size_t j = 0; j < WAYS; j++)
			if (cookie_of(fds[j]) == event.cookie)
				let_go_ns[j] = event.time_ns;
		assert_int_equal(event.attempts, 2);
	}
	assert_no_event(watch);
	for (size_t i = 0; i < WAYS; i++) {
		assert_true(let_go_ns[i] >= peers[i].next_attempt_ns);
		assert_links(fds[i], &ways[i], 2);
	}
}

struct blocking_dial {
	int fd;
	int result;
};

static void *dial_blocking(void *argument)
{
	struct blocking_dial *blocking = argument;

	blocking->result = dial(blocking->fd, THERE4, PORT);
	return NULL;
}

/* An application that waits in connect() waits there, and has its link in the end. */
static void kept_in_connect(void **state)
{
	const struct peer peer = silent_peer();
	struct blocking_dial blocking = { .fd = dialing_socket(HERE4), .result = -1 };
	pthread_t thread;

	(void)state;
	put_peer(&maps, THERE4, &peer);
	assert_int_equal(fcntl(blocking.fd, F_SETFL, 0), 0);
	assert_int_equal(pthread_create(&thread, NULL, dial_blocking, &blocking), 0);
	await_event(dial_kept);
	await(get_peer(&maps, THERE4).slots[0].flags == (SLOT_SENT | SLOT_KEPT));
	assert_still_kept(blocking.fd, &ways[0]);
	assert_int_equal(blocking.result, -1);
	assert_int_equal(command(COMMAND_KICK, THERE4), 0);
	next_event(watch, peer_kicked);
	assert_let_go(blocking.fd, &ways[0]);
	assert_links(blocking.fd, &ways[0], 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(blocking.result, 0);
}

/* Enough that somebody knows the backoff to be over: the daemon says so, or the guard keeps no more. */
static void kept_no_more(void **state)
{
	enum { LET_GO_BY_COMMAND, OBSERVED_ONLY, OFF, REASONS };
	struct guard_command request;
	int fds[REASONS];

	(void)state;
	for (int reason = 0; reason < REASONS; reason++) {
		maps_reset(&maps);
		fds[reason] = kept_dial(&ways[0]);
		if (reason == LET_GO_BY_COMMAND) {
			struct peer peer = get_peer(&maps, THERE4);

			request = (struct guard_command){ .operation = COMMAND_LET_GO,
							  .address = key_of(THERE4),
							  .cookie = cookie_of(fds[reason]) };
			assert_int_equal(guard_command(guard, &request), -EBUSY);
			/* Between two retransmissions nobody else writes it. */
			peer.next_attempt_ns = now_ns();
			put_peer(&maps, THERE4, &peer);
			assert_int_equal(guard_command(guard, &request), 0);
			next_event(watch, dial_let_go);
		} else {
			set_mode(&maps, reason == OFF ? MODE_OFF : MODE_OBSERVE);
		}
		await_syn(port_of(fds[reason]), 0);
		assert_int_equal(slot_of_fd(fds[reason], THERE4).flags, SLOT_SENT);
		if (reason != LET_GO_BY_COMMAND)
			next_event(watch, dial_let_go);
		assert_no_event(watch);
		close(fds[reason]);
	}
}

/* What is kept ends without a failure, however: the peer was not asked. */
static void kept_and_ended(void **state)
{
	enum { CLOSED, DESTROYED, TIMED_OUT, ENDS };
	static const enum ending endings[] = { ENDING_CLOSED, ENDING_ABORTED, ENDING_SILENCE };
	static const int errors[] = { 0, ECONNABORTED, ETIMEDOUT };

	(void)state;
	set_linear_timeouts(0);
	for (int end = 0; end < ENDS; end++) {
		struct tcp_socket socket;
		struct guard_event event;
		struct peer before, after;
		int fd;

		if (end == TIMED_OUT)
			write_setting("tcp_syn_retries", 1);
		fd = kept_dial(&ways[0]);
		before = get_peer(&maps, THERE4);
		if (end == DESTROYED) {
			assert_int_equal(sockets_find(sockets, cookie_of(fd), &socket), 0);
			assert_int_equal(sockets_destroy(sockets, &socket), 0);
		} else if (end == TIMED_OUT) {
			await(!is_pending(fd));
		}
		assert_int_equal(error_of(fd), errors[end]);
		assert_int_equal(syns_seen(port_of(fd)), 0);
		close(fd);
		assert_counted(watch, ENFORCED(dial_unheard, 1));
		event = next_event(watch, dial_unheard);
		assert_int_equal(event.ending, endings[end]);
		assert_int_equal(event.until_ns, before.next_attempt_ns);
		assert_no_event(watch);
		after = get_peer(&maps, THERE4);
		assert_int_equal(after.slots[0].kind, SLOT_FREE);
		assert_int_equal(after.attempts, before.attempts);
		assert_int_equal(after.next_attempt_ns, before.next_attempt_ns);
		assert_int_equal(after.unheard_dials, 0);
	}
}

/* One that is kept holds the claim: another one is refused, as with any dial that is under way. */
static void kept_holds_the_claim(void **state)
{
	int fd, other = dialing_socket(HERE4);

	(void)state;
	fd = kept_dial(&ways[0]);
	assert_int_equal(dial(other, THERE4, PORT), refusal());
	assert_counted(watch, ENFORCED(dial_dialing, 1));
	assert_int_equal(next_event(watch, dial_dialing).other_cookie, cookie_of(fd));
	assert_int_equal(syns_seen(port_of(other)), 0);
}

/* The dial fares as the last one did: the peer said no, or nobody wants to wait. */
static void refused_in_backoff(void **state)
{
	enum { REFUSED_BEFORE, NOT_TO_BE_KEPT, REASONS };

	(void)state;
	for (int reason = 0; reason < REASONS; reason++) {
		struct guard_policy policy = patient_policy();
		struct peer peer = silent_peer();
		struct guard_event event;
		int fd = dialing_socket(HERE4);

		if (reason == REFUSED_BEFORE) {
			peer.flags = PEER_DIALED;
			peer.failure = ENDING_RESET;
		}
		policy.keep_dials = reason != NOT_TO_BE_KEPT;
		set_policy(&maps, &policy);
		put_peer(&maps, THERE4, &peer);
		assert_int_equal(dial(fd, THERE4, PORT), refusal());
		assert_counted(watch, ENFORCED(dial_backoff, 1));
		event = next_event(watch, dial_backoff);
		assert_int_equal(event.verdict, VERDICT_REFUSE);
		assert_int_equal(event.until_ns, peer.next_attempt_ns);
		assert_int_equal(event.ending, peer.failure);
		assert_int_equal(syns_seen(port_of(fd)), 0);
		assert_int_equal(get_peer(&maps, THERE4).slots[0].kind, SLOT_FREE);
		assert_int_equal(get_peer(&maps, THERE4).refused_dials, 1);
		close(fd);
		assert_silent(watch);
	}
}

/* Not in these modes, and not to who is exempt: the SYN leaves at once, and is counted. */
static void not_kept(void **state)
{
	enum { OBSERVED_ONLY, OFF, EXEMPT_PREFIX, EXEMPT_BY_COMMAND, REVIVED, OTHER_SERVICE, REASONS };

	(void)state;
	for (int reason = 0; reason < REASONS; reason++)
		for (size_t i = 0; i < WAYS; i++) {
			const struct way *way = &ways[i];
			struct peer peer = silent_peer();
			int fd = dialing_socket(way->here);
			__u16 port = reason == OTHER_SERVICE ? OTHER_PORT : PORT;

			maps_reset(&maps);
			if (reason == OBSERVED_ONLY || reason == OFF)
				set_mode(&maps, reason == OFF ? MODE_OFF : MODE_OBSERVE);
			if (reason == EXEMPT_PREFIX)
				set_exempt(&maps, way->peer, strchr(way->peer, ':') ? 128 : 32,
					   (struct exempt_value){ .until_ns = NEVER_ENDS_NS });
			if (reason == EXEMPT_BY_COMMAND)
				peer.exempt_until_ns = NEVER_ENDS_NS;
			if (reason == OTHER_SERVICE)
				guard_port(&maps, OTHER_PORT);
			put_peer(&maps, way->peer, &peer);
			if (reason == REVIVED)
				set_revived(&maps, now_ns());
			watch_reset(watch);
			assert_int_equal(dial(fd, way->there, port), EINPROGRESS);
			set_service(port);
			assert_all_left(fd, way->peer);
			assert_int_equal(slot_of_fd(fd, way->peer).flags, SLOT_SENT);
			set_service(PORT);
			if (reason == OBSERVED_ONLY) {
				assert_counted(watch, OBSERVED(dial_kept, 1));
				assert_int_equal(next_event(watch, dial_kept).enforced, 0);
			} else if (reason == REVIVED || reason == OTHER_SERVICE) {
				assert_counted(watch, ENFORCED(dial_idle, 1));
				next_event(watch, dial_idle);
			} else if (reason != OFF) {
				assert_counted(watch, ENFORCED(dial_exempt, 1));
				next_event(watch, dial_exempt);
			}
			assert_silent(watch);
			close(fd);
		}
	unguard_port(&maps, OTHER_PORT);
}

/* An exempt dial for which there is no slot is told as one without, whatever exempts it: it has no claim. */
static void exempt_without_a_slot(void **state)
{
	(void)state;
	for (int by_prefix = 0; by_prefix < 2; by_prefix++) {
		int fd = dialing_socket(HERE4);
		struct peer peer = {};

		maps_reset(&maps);
		if (by_prefix)
			set_exempt(&maps, THERE4, 32, (struct exempt_value){ .until_ns = NEVER_ENDS_NS });
		else
			peer.exempt_until_ns = NEVER_ENDS_NS;
		for (int i = 0; i < PEER_SLOTS; i++)
			peer.slots[i] = some_link(1 + i);
		put_peer(&maps, THERE4, &peer);
		watch_reset(watch);
		assert_int_equal(dial(fd, THERE4, PORT), EINPROGRESS);
		assert_counted(watch, ENFORCED(dial_unheld, 1));
		next_event(watch, dial_unheld);
		assert_no_event(watch);
		close(fd);
	}
}

/* What is none of a guarded service's dials leaves, whatever is kept beside it. */
static void others_leave(void **state)
{
	const struct guard_policy unset = {};
	const struct peer peer = silent_peer();
	struct our_dial ours;

	(void)state;
	kept_dial(&ways[0]);
	/* Another port; and a guard that has no policy yet. */
	ours = dial_out(THERE4, OTHER_PORT);
	assert_int_equal(answer_to(&ours.syn_ack, NULL), ANSWER_ACK);
	assert_true(connected(ours.fd));
	set_policy(&maps, &unset);
	dial_out(THERE4, PORT);
	/* One whose peer is forgotten, as when the guard is reset under it. */
	maps_reset(&maps);
	put_peer(&maps, THERE6, &peer);
	ours.fd = dialing_socket(HERE6);
	assert_int_equal(dial(ours.fd, THERE6, PORT), EINPROGRESS);
	assert_int_equal(syns_seen(port_of(ours.fd)), 0);
	maps_reset(&maps);
	await_syn(port_of(ours.fd), 0);
	assert_int_equal(count_peers(&maps), 0);
}

/* ---- how a dial ends ------------------------------------------------------------------------ */

/* How a dial can end that the peer or TCP ends, and what is to be seen of it. */
struct dial_end {
	enum cause cause;
	enum ending ending;
	bool silent; /* the next dial is kept */
};

static void check_backoff(const struct guard_event *event, const struct peer *peer,
			  __u32 attempts_before)
{
	struct guard_policy policy = patient_policy();
	__u64 step = policy.backoff_initial_ns << attempts_before;

	assert_int_equal(peer->attempts, attempts_before + 1);
	assert_int_equal(event->attempts, peer->attempts);
	assert_int_equal(event->until_ns, peer->next_attempt_ns);
	assert_int_equal(peer->failed_ns, event->time_ns);
	assert_int_equal(peer->failure, event->ending);
	assert_true(peer->next_attempt_ns <= peer->failed_ns + step);
	assert_true(peer->next_attempt_ns >=
		    peer->failed_ns + step / 100 * (100 - BACKOFF_JITTER_PERCENT));
}

/*
 * The dial of `cookie` to this peer has ended so, and is told. The peer has the failure that follows, or
 * none, and no slot.
 */
static void assert_ended(const char *peer, __u64 cookie, struct dial_end expected)
{
	struct guard_event event = await_event_of(expected.cause, __FILE__, __LINE__);
	struct peer after = get_peer(&maps, peer);

	assert_address(event.address, peer);
	assert_recent(&event);
	assert_int_equal(event.cookie, cookie);
	assert_int_equal(event.direction, DIRECTION_OUTBOUND);
	assert_int_equal(event.ending, expected.ending);
	assert_int_equal(event.enforced, 1);
	assert_no_event(watch);
	for (int i = 0; i < PEER_SLOTS; i++)
		assert_int_equal(after.slots[i].kind, SLOT_FREE);
	if (expected.cause == CAUSE_dial_failed) {
		check_backoff(&event, &after, 0);
		assert_int_equal(after.flags & PEER_SILENT, expected.silent ? PEER_SILENT : 0);
		/* A refusal is an answer. */
		if (!expected.silent)
			assert_int_equal(after.unheard_dials, 0);
	} else {
		assert_int_equal(after.attempts, 0);
		assert_int_equal(after.next_attempt_ns, 0);
		assert_int_equal(event.until_ns, 0);
	}
}

/*
 * A dial to a peer of which nothing else is known than that so many dials before it were closed early;
 * its SYN has come at least so often.
 */
static struct our_dial fresh_dial(const char *peer, unsigned int syns, __u16 unheard_dials)
{
	const struct peer before = { .unheard_dials = unheard_dials };
	struct our_dial ours;

	maps_reset(&maps);
	put_peer(&maps, peer, &before);
	watch_reset(watch);
	ours = dial_out(peer, PORT);
	next_event(watch, dial_idle);
	for (unsigned int seen = 1; seen < syns; seen++)
		await_syn(port_of(ours.fd), seen);
	assert_all_left(ours.fd, peer);
	return ours;
}

/*
 * The dial from this port has ended after its first SYN. Not: the machine was so busy that TCP sent
 * another one, and the case is to be tried again.
 */
static bool was_early(__u16 port)
{
	return syns_seen(port) == 1;
}

/* The peer refuses: whether after one SYN or more, the next dial is refused as well. */
static void ends_by_reset(void **state)
{
	static const char *const peers[] = { THERE4, THERE6 };

	(void)state;
	for (unsigned int syns = 1; syns <= 2; syns++)
		for (int i = 0; i < 2; i++) {
			struct our_dial ours = fresh_dial(peers[i], syns, 0);
			__u64 cookie = cookie_of(ours.fd);

			ours.syn_ack.flags = TH_RST | TH_ACK;
			assert_int_equal(answer_to(&ours.syn_ack, NULL), NO_ANSWER);
			assert_int_equal(error_of(ours.fd), ECONNREFUSED);
			assert_ended(peers[i], cookie,
				     (struct dial_end){ CAUSE_dial_failed, ENDING_RESET, false });
			close(ours.fd);
			assert_counted(watch, ENFORCED(dial_idle, 1), ENFORCED(dial_failed, 1));
			assert_no_event(watch);
		}
}

/*
 * Somebody on the way says no, in whichever words: a failure. Whether the peer was silent before is told
 * by the SYNs that it left without an answer.
 */
static void ends_by_icmp(void **state)
{
	enum { UNREACHABLE4 = ICMP_DEST_UNREACH, UNREACHABLE6 = ICMP6_DST_UNREACH };
	static const struct {
		const char *peer;
		__u8 type;
		__u8 code;
		int error;
	} words[] = {
		{ THERE4, UNREACHABLE4, ICMP_NET_UNREACH, ENETUNREACH },
		{ THERE4, UNREACHABLE4, ICMP_HOST_UNREACH, EHOSTUNREACH },
		{ THERE4, UNREACHABLE4, ICMP_PROT_UNREACH, ENOPROTOOPT },
		{ THERE4, UNREACHABLE4, ICMP_PORT_UNREACH, ECONNREFUSED },
		{ THERE4, UNREACHABLE4, ICMP_SR_FAILED, EOPNOTSUPP },
		{ THERE4, UNREACHABLE4, ICMP_NET_UNKNOWN, ENETUNREACH },
		{ THERE4, UNREACHABLE4, ICMP_HOST_UNKNOWN, EHOSTDOWN },
		{ THERE4, UNREACHABLE4, ICMP_HOST_ISOLATED, ENONET },
		{ THERE4, UNREACHABLE4, ICMP_NET_ANO, ENETUNREACH },
		{ THERE4, UNREACHABLE4, ICMP_HOST_ANO, EHOSTUNREACH },
		{ THERE4, UNREACHABLE4, ICMP_PKT_FILTERED, EHOSTUNREACH },
		{ THERE6, UNREACHABLE6, ICMP6_DST_UNREACH_NOROUTE, ENETUNREACH },
		/* What many firewalls answer. */
		{ THERE6, UNREACHABLE6, ICMP6_DST_UNREACH_ADMIN, EACCES },
		{ THERE6, UNREACHABLE6, ICMP6_DST_UNREACH_BEYONDSCOPE, EHOSTUNREACH },
		{ THERE6, UNREACHABLE6, ICMP6_DST_UNREACH_ADDR, EHOSTUNREACH },
		{ THERE6, UNREACHABLE6, ICMP6_DST_UNREACH_NOPORT, ECONNREFUSED },
		{ THERE6, UNREACHABLE6, 5 /* source address failed policy */, EACCES },
		{ THERE6, UNREACHABLE6, 6 /* reject route */, EACCES },
		{ THERE4, ICMP_TIME_EXCEEDED, ICMP_EXC_TTL, EHOSTUNREACH },
		{ THERE4, ICMP_PARAMETERPROB, 0, EPROTO },
		{ THERE6, ICMP6_TIME_EXCEEDED, ICMP6_TIME_EXCEED_TRANSIT, EHOSTUNREACH },
		{ THERE6, ICMP6_PARAM_PROB, ICMP6_PARAMPROB_HEADER, EPROTO },
	};

	(void)state;
	for (unsigned int syns = 1; syns <= 2; syns++)
		for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
			bool refused = words[i].error == ECONNREFUSED;
			struct our_dial ours;
			__u64 cookie;

			/* Once for each family is enough. */
			if (syns == 2 && (words[i].code || words[i].error != ENETUNREACH))
				continue;
			do {
				ours = fresh_dial(words[i].peer, syns, 0);
				cookie = cookie_of(ours.fd);
				send_icmp(&ours.syn_ack, words[i].type, words[i].code);
				await(!is_pending(ours.fd));
			} while (syns == 1 && !was_early(port_of(ours.fd)));
			assert_int_equal(error_of(ours.fd), words[i].error);
			assert_ended(words[i].peer, cookie,
				     (struct dial_end){ CAUSE_dial_failed,
							refused ? ENDING_RESET : ENDING_UNREACHABLE,
							!refused });
			close(ours.fd);
		}
}

/*
 * Nobody on the link has the peer's address: a failure. It takes TCP as long as the host asks for the
 * address, and there is no second SYN meanwhile; the application has waited all the same.
 */
static void ends_without_a_neighbour(void **state)
{
	static const char *const peers[] = { SILENT4, SILENT6 };
	static const char *const heres[] = { "10.98.0.1", "fd98::1" };
	static const char *const families[] = { "ipv4", "ipv6" };

	(void)state;
	run("ip link add silent0 type veth peer name silent1");
	run("ip link set silent1 up");
	run("ip link set silent0 up");
	run("ip address add 10.98.0.1/24 dev silent0");
	run("ip address add fd98::1/64 dev silent0 nodad");
	for (int i = 0; i < 2; i++)
		for (int probes = 1; probes <= 15; probes += 14) {
			int fd = dialing_socket(heres[i]);
			__u64 cookie = cookie_of(fd);
			struct guard_event event;
			char setting[100];

			/* For a tenth of a second, and for one and a half. */
			snprintf(setting, sizeof(setting), "../%s/neigh/silent0/mcast_solicit",
				 families[i]);
			write_setting(setting, probes);
			snprintf(setting, sizeof(setting), "../%s/neigh/silent0/retrans_time_ms",
				 families[i]);
			write_setting(setting, 100);
			run("ip neighbour flush dev silent0");
			maps_reset(&maps);
			watch_reset(watch);
			assert_int_equal(dial(fd, peers[i], PORT), EINPROGRESS);
			next_event(watch, dial_idle);
			await(!is_pending(fd));
			assert_int_equal(error_of(fd), EHOSTUNREACH);
			event = await_event(dial_failed);
			assert_int_equal(event.cookie, cookie);
			assert_int_equal(event.ending, ENDING_UNREACHABLE);
			assert_int_equal(get_peer(&maps, peers[i]).attempts, 1);
			assert_int_equal(get_peer(&maps, peers[i]).flags & ~PEER_COUNTED,
					 PEER_DIALED | PEER_SILENT);
			close(fd);
		}
	run("ip link del silent0");
}

/* TCP gives up: no answer to two SYNs. */
static void ends_by_time(void **state)
{
	static const char *const peers[] = { THERE4, THERE6 };
	struct our_dial ours[2];
	__u64 cookies[2];

	(void)state;
	set_linear_timeouts(0);
	write_setting("tcp_syn_retries", 1);
	for (int i = 0; i < 2; i++) {
		ours[i] = dial_out(peers[i], PORT);
		cookies[i] = cookie_of(ours[i].fd);
		next_event(watch, dial_idle);
	}
	for (int i = 0; i < 2; i++) {
		await(!is_pending(ours[i].fd));
		assert_int_equal(error_of(ours[i].fd), ETIMEDOUT);
		assert_int_equal(syns_seen(port_of(ours[i].fd)), 2);
	}
	for (int i = 0; i < 2; i++) {
		struct guard_event event = await_event(dial_failed);
		int which = event.cookie == cookies[1];
		struct peer peer = get_peer(&maps, peers[which]);

		assert_int_equal(event.cookie, cookies[which]);
		assert_int_equal(event.ending, ENDING_SILENCE);
		check_backoff(&event, &peer, 0);
		assert_int_equal(peer.flags & ~PEER_COUNTED, PEER_DIALED | PEER_SILENT);
	}
	assert_no_event(watch);
}

/*
 * One that was kept until its last try has asked the peer once only. That is no failure yet, but for the
 * third time in a row.
 */
static void ends_by_time_after_one(void **state)
{
	int fds[WAYS];

	(void)state;
	set_linear_timeouts(0);
	write_setting("tcp_syn_retries", 1);
	for (size_t i = 0; i < WAYS; i++) {
		struct peer peer = silent_peer();

		peer.unheard_dials = i;
		put_peer(&maps, ways[i].peer, &peer);
		fds[i] = dialing_socket(ways[i].here);
		assert_int_equal(dial(fds[i], ways[i].there, PORT), EINPROGRESS);
		next_event(watch, dial_kept);
	}
	revive();
	for (size_t i = 0; i < WAYS; i++) {
		await(!is_pending(fds[i]));
		assert_int_equal(error_of(fds[i]), ETIMEDOUT);
		assert_int_equal(syns_seen(port_of(fds[i])), 1);
	}
	assert_counted(watch, ENFORCED(dial_kept, WAYS), ENFORCED(network_back, 1),
		       ENFORCED(dial_let_go, WAYS), ENFORCED(dial_unheard, WAYS - 1),
		       ENFORCED(dial_failed, 1));
	_Static_assert(WAYS == UNHEARD_DIALS, "the last one is the third in a row");
	for (size_t i = 0; i < WAYS; i++) {
		bool failed = i == WAYS - 1;
		struct peer peer = get_peer(&maps, ways[i].peer);

		assert_int_equal(peer.attempts, failed ? 3 : 2);
		assert_int_equal(peer.unheard_dials, i + 1);
		assert_int_equal(peer.next_attempt_ns > peer.failed_ns, failed);
	}
}

/* Closed before a second SYN could be answered: no failure of the peer's, unless again and again. */
static void ends_by_close_early(void **state)
{
	(void)state;
	for (int i = 1; i <= UNHEARD_DIALS + 1; i++) {
		struct our_dial ours;
		__u64 cookie;

		do {
			ours = fresh_dial(THERE4, 1, i <= UNHEARD_DIALS ? i - 1 : UNHEARD_DIALS);
			cookie = cookie_of(ours.fd);
			close(ours.fd);
		} while (!was_early(ours.syn_ack.destination_port));
		assert_ended(THERE4, cookie,
			     i < UNHEARD_DIALS ?
				     (struct dial_end){ CAUSE_dial_unheard, ENDING_CLOSED, false } :
				     (struct dial_end){ CAUSE_dial_failed, ENDING_CLOSED, true });
		assert_int_equal(get_peer(&maps, THERE4).unheard_dials, i <= UNHEARD_DIALS ? i : UNHEARD_DIALS);
	}
}

/* Closed later: the peer has failed to answer. */
static void ends_by_close_late(void **state)
{
	struct our_dial ours = fresh_dial(THERE4, 2, 0);
	__u64 cookie = cookie_of(ours.fd);

	(void)state;
	close(ours.fd);
	assert_ended(THERE4, cookie, (struct dial_end){ CAUSE_dial_failed, ENDING_CLOSED, true });
}

/* connect() to an unspecified family, or a linger of nothing: it is we who end it. */
static void ends_by_disconnect(void **state)
{
	const struct sockaddr unspecified = { .sa_family = AF_UNSPEC };
	const struct linger abort = { .l_onoff = 1 };

	(void)state;
	for (int lingering = 0; lingering < 2; lingering++) {
		struct our_dial ours;
		__u64 cookie;

		do {
			ours = fresh_dial(THERE4, 1, 0);
			cookie = cookie_of(ours.fd);
			if (lingering) {
				assert_int_equal(setsockopt(ours.fd, SOL_SOCKET, SO_LINGER, &abort,
							    sizeof(abort)),
						 0);
				close(ours.fd);
			} else {
				assert_int_equal(
					connect(ours.fd, &unspecified, sizeof(unspecified)), 0);
			}
		} while (!was_early(ours.syn_ack.destination_port));
		assert_ended(THERE4, cookie,
			     (struct dial_end){ CAUSE_dial_unheard, ENDING_CLOSED, false });
	}
}

/* Somebody on this host has destroyed it: `ss -K`, or the daemon. However many SYNs it was. */
static void ends_by_destruction(void **state)
{
	(void)state;
	for (unsigned int syns = 1; syns <= 2; syns++) {
		struct our_dial ours = fresh_dial(THERE4, syns, 0);
		__u64 cookie = cookie_of(ours.fd);
		struct tcp_socket socket;

		assert_int_equal(sockets_find(sockets, cookie, &socket), 0);
		assert_int_equal(sockets_destroy(sockets, &socket), 0);
		assert_int_equal(error_of(ours.fd), ECONNABORTED);
		assert_ended(THERE4, cookie,
			     (struct dial_end){ CAUSE_dial_unheard, ENDING_ABORTED, false });
		close(ours.fd);
		assert_no_event(watch);
	}
}

/* Its process is killed: as if it had closed it. */
static void ends_by_death(void **state)
{
	struct our_dial ours;
	__u64 cookie;
	pid_t child;

	(void)state;
	do {
		ours = fresh_dial(THERE4, 1, 0);
		cookie = cookie_of(ours.fd);
		child = fork();
		assert_true(child >= 0);
		if (!child)
			for (;;)
				pause();
		/* Now it is the child's alone. */
		close(ours.fd);
		assert_no_event(watch);
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, NULL, 0), child);
	} while (!was_early(ours.syn_ack.destination_port));
	assert_ended(THERE4, cookie, (struct dial_end){ CAUSE_dial_unheard, ENDING_CLOSED, false });
}

/* A dial that finds no way out of this host was none of the peer's. */
static void ends_at_once(void **state)
{
	int fd = dialing_socket(HERE4);
	__u64 cookie = cookie_of(fd);

	(void)state;
	assert_int_equal(dial(fd, NOWHERE4, PORT), ENETUNREACH);
	next_event(watch, dial_idle);
	close(fd);
	assert_ended(NOWHERE4, cookie, (struct dial_end){ CAUSE_claim_closed, ENDING_CLOSED, false });
}

/*
 * A dial that observe mode has let pass in a backoff is no failure of its own, unless the backoff was
 * over when it failed.
 */
static void ends_after_a_revival(void **state)
{
	(void)state;
	for (int revived = 0; revived < 2; revived++) {
		const struct peer peer = silent_peer();
		struct guard_event event;
		struct our_dial ours;

		maps_reset(&maps);
		watch_reset(watch);
		set_mode(&maps, MODE_OBSERVE);
		put_peer(&maps, THERE4, &peer);
		ours = dial_out(THERE4, PORT);
		assert_int_equal(next_event(watch, dial_kept).enforced, 0);
		if (revived)
			revive();
		ours.syn_ack.flags = TH_RST | TH_ACK;
		assert_int_equal(answer_to(&ours.syn_ack, NULL), NO_ANSWER);
		event = next_event(watch, dial_failed);
		assert_int_equal(event.attempts, peer.attempts + revived);
		if (revived)
			assert_int_equal(get_peer(&maps, THERE4).failed_ns, event.time_ns);
		else
			assert_int_equal(event.until_ns, peer.next_attempt_ns);
		close(ours.fd);
	}
}

/* ---- dials while their handshake is pending ------------------------------------------------- */

static void handshake_is_pending(void **state)
{
	const struct segment syn = syn_from(THERE4);
	struct guard_policy policy = patient_policy();
	int listening = listener(HERE4, PORT), fd = dialing_socket(HERE4);
	struct segment answer, reset = syn;
	struct pending_handshake pending;
	struct guard_event event;
	struct peer peer;

	(void)state;
	next_event(watch, service_started);
	/* A hold that is over before the rest is. */
	policy.hold_max_ns = PENDING_REST_NS / 2;
	set_policy(&maps, &policy);
	assert_int_equal(answer_to(&syn, &answer), ANSWER_SYN_ACK);
	assert_true(find_handshake(&maps, THERE4, &pending) >= 0);
	watch_reset(watch);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(dial(fd, THERE4, PORT), refusal());
		assert_counted(watch, ENFORCED(dial_pending, 1));
		event = next_event(watch, dial_pending);
		assert_int_equal(event.verdict, VERDICT_REFUSE);
		assert_int_equal(event.until_ns, pending.until_ns);
		assert_no_event(watch);
	}
	assert_int_equal(syns_seen(port_of(fd)), 0);
	peer = get_peer(&maps, THERE4);
	assert_int_equal(peer.refused_dials, 2);
	assert_int_equal(peer.slots[0].kind, SLOT_FREE);
	/* Counted from the first one on: for as long as a hold is at most, and then not for a while. */
	assert_true(peer.refused_pending_ns < event.time_ns);
	peer.refused_pending_ns = now_ns() - policy.hold_max_ns;
	put_peer(&maps, THERE4, &peer);
	assert_int_equal(dial(fd, THERE4, PORT), EINPROGRESS);
	assert_counted(watch, ENFORCED(dial_idle, 1));
	next_event(watch, dial_idle);
	drop(fd);
	peer.refused_pending_ns = now_ns() - PENDING_REST_NS;
	put_peer(&maps, THERE4, &peer);
	fd = dialing_socket(HERE4);
	assert_int_equal(dial(fd, THERE4, PORT), refusal());
	next_event(watch, dial_pending);
	/* By their distance: sixty seconds ago is before the clock began, on a machine that has just started. */
	assert_true(get_peer(&maps, THERE4).refused_pending_ns - peer.refused_pending_ns >= PENDING_REST_NS);

	/* It is theirs to leave to the service, to take back, or another service's. */
	policy.tie_break = TIE_BREAK_NONE;
	set_policy(&maps, &policy);
	assert_int_equal(dial(fd, THERE4, PORT), EINPROGRESS);
	next_event(watch, dial_idle);
	drop(fd);
	policy.tie_break = TIE_BREAK_ISN;
	set_policy(&maps, &policy);
	guard_port(&maps, OTHER_PORT);
	fd = dialing_socket(HERE4);
	assert_int_equal(dial(fd, THERE4, OTHER_PORT), EINPROGRESS);
	next_event(watch, dial_idle);
	drop(fd);
	unguard_port(&maps, OTHER_PORT);
	reset.flags = TH_RST;
	reset.sequence = answer.acknowledgment;
	assert_int_equal(answer_to(&reset, NULL), NO_ANSWER);
	fd = dialing_socket(HERE4);
	assert_int_equal(dial(fd, THERE4, PORT), EINPROGRESS);
	next_event(watch, dial_idle);
	assert_no_event(watch);
	close(listening);
}

/* What came to the listener before has met nobody: the service that starts anew dials as it likes. */
static void check_handshake_ends_with_its_service(const char *here)
{
	struct segment syn = syn_from(THERE4);
	int listening = listener(here, PORT), fd = dialing_socket(HERE4), others;
	struct pending_handshake before, after;

	next_event(watch, service_started);
	assert_int_equal(answer_to(&syn, NULL), ANSWER_SYN_ACK);
	assert_int_equal(dial(fd, THERE4, PORT), refusal());
	next_event(watch, dial_pending);
	assert_true(find_handshake(&maps, THERE4, &before) >= 0);
	/* Others start beside it, at other addresses. */
	others = listener(HERE6, PORT);
	next_event(watch, service_started);
	assert_int_equal(dial(fd, THERE4, PORT), refusal());
	next_event(watch, dial_pending);
	close(others);
	close(listening);
	listening = listener(here, PORT);
	next_event(watch, service_started);
	assert_int_equal(dial(fd, THERE4, PORT), EINPROGRESS);
	next_event(watch, dial_idle);
	drop(fd);
	/* Nor need the peer's next SYN wait. */
	fd = dialing_socket(HERE4);
	syn.source_port = fresh_port();
	assert_int_equal(answer_to(&syn, NULL), ANSWER_SYN_ACK);
	assert_true(find_handshake(&maps, THERE4, &after) >= 0);
	assert_int_equal(after.remote_port, syn.source_port);
	assert_true(after.let_in_ns > before.let_in_ns);
	/* That one is pending as any other. */
	assert_int_equal(dial(fd, THERE4, PORT), refusal());
	next_event(watch, dial_pending);
	assert_no_event(watch);
	close(fd);
	close(listening);
}

static void handshake_ends_with_its_service(void **state)
{
	(void)state;
	check_handshake_ends_with_its_service(HERE4);
	maps_reset(&maps);
	check_handshake_ends_with_its_service("0.0.0.0");
}

/* ---- the service starts anew ---------------------------------------------------------------- */

static void service_starts(void **state)
{
	static const char *const addresses[] = { HERE4, HERE6, "0.0.0.0", "::" };
	static const struct peer_address nobody = {};

	(void)state;
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		struct peer peer = silent_peer();
		int fd = bound_socket(addresses[i], PORT), dialing = dialing_socket(HERE4);
		struct guard_event event;
		__u64 before;

		maps_reset(&maps);
		watch_reset(watch);
		peer.failed_ns = now_ns();
		put_peer(&maps, THERE4, &peer);
		before = now_ns();
		assert_int_equal(listen(fd, 8), 0);
		assert_counted(watch, ENFORCED(service_started, 1));
		event = next_event(watch, service_started);
		assert_memory_equal(&event.address, &nobody, sizeof(nobody));
		assert_int_equal(event.cookie, cookie_of(fd));
		assert_int_equal(event.local_port, PORT);
		assert_int_equal(event.enforced, 1);
		assert_true(event.time_ns >= before && event.time_ns <= now_ns());
		assert_int_equal(get_revived(&maps), event.time_ns);
		/* What failed before is void, and the attempts stay. */
		assert_int_equal(dial(dialing, THERE4, PORT), EINPROGRESS);
		assert_counted(watch, ENFORCED(dial_idle, 1));
		assert_int_equal(next_event(watch, dial_idle).attempts, peer.attempts);
		assert_int_equal(get_peer(&maps, THERE4).next_attempt_ns, 0);
		assert_int_equal(get_peer(&maps, THERE4).attempts, peer.attempts);
		/* Another backlog is no new start. */
		assert_int_equal(listen(fd, 16), 0);
		assert_silent(watch);
		assert_int_equal(get_revived(&maps), event.time_ns);
		drop(dialing);
		close(fd);
		assert_no_event(watch);
	}
	/* It does so in every mode; a guard that is off has nothing to say. */
	for (int observing = 0; observing < 2; observing++) {
		maps_reset(&maps);
		watch_reset(watch);
		set_mode(&maps, observing ? MODE_OBSERVE : MODE_OFF);
		close(listener(HERE4, PORT));
		assert_int_not_equal(get_revived(&maps), 0);
		if (observing)
			assert_int_equal(next_event(watch, service_started).enforced, 1);
		assert_no_event(watch);
	}
}

static __u32 netns_inode(void)
{
	struct stat netns;

	assert_int_equal(stat("/proc/self/ns/net", &netns), 0);
	return netns.st_ino;
}

/* Another port, another network namespace, a socket that does not listen, a guard without a policy. */
static void something_else_starts(void **state)
{
	struct guard_policy policy = patient_policy();

	(void)state;
	close(listener(HERE4, OTHER_PORT));
	close(bound_socket(HERE4, PORT));
	policy.set = 0;
	set_policy(&maps, &policy);
	close(listener(HERE4, PORT));
	assert_silent(watch);
	assert_int_equal(get_revived(&maps), 0);

	policy.set = 1;
	policy.netns_inode = netns_inode();
	set_policy(&maps, &policy);
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	run("ip link set lo up");
	close(listener("127.0.0.1", PORT));
	assert_silent(watch);
	assert_int_equal(get_revived(&maps), 0);
	/* Any below the cgroup, where no namespace is named. */
	policy.netns_inode = 0;
	set_policy(&maps, &policy);
	close(listener("127.0.0.1", PORT));
	next_event(watch, service_started);
	assert_int_equal(setns(own_netns, CLONE_NEWNET), 0);
	policy.netns_inode = netns_inode();
	set_policy(&maps, &policy);
	close(listener(HERE4, PORT));
	next_event(watch, service_started);
	assert_no_event(watch);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, before_each, after_each)

static int run_all(void)
{
	const struct CMUnitTest tests[] = {
		TEST(kept_until_kicked),
		TEST(kept_until_revived),
		TEST(kept_until_it_is_over),
		TEST(kept_in_connect),
		TEST(kept_no_more),
		TEST(kept_and_ended),
		TEST(kept_holds_the_claim),
		TEST(refused_in_backoff),
		TEST(not_kept),
		TEST(exempt_without_a_slot),
		TEST(others_leave),
		TEST(ends_by_reset),
		TEST(ends_by_icmp),
		TEST(ends_without_a_neighbour),
		TEST(ends_by_time),
		TEST(ends_by_time_after_one),
		TEST(ends_by_close_early),
		TEST(ends_by_close_late),
		TEST(ends_by_disconnect),
		TEST(ends_by_destruction),
		TEST(ends_by_death),
		TEST(ends_at_once),
		TEST(ends_after_a_revival),
		TEST(handshake_is_pending),
		TEST(handshake_ends_with_its_service),
		TEST(service_starts),
		TEST(something_else_starts),
	};

	if (segments_lack())
		return 0;
	return cmocka_run_group_tests(tests, set_up, tear_down);
}

int main(void)
{
	return run_surrounded("cgt-dials-", run_all);
}
