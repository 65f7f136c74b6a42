/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Links in the kernel: how each ends, as the kernel shows it at its socket, and what the guard does to a
 * socket's options.
 *
 * A whole guard of this test's own (prefix cgt-links-) on its cgroup; the test is the peer, through a tun
 * device. What TCP does by its own timers is waited for, never timed. Runs as root, in a network
 * namespace of its own.
 */
#include "segments.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "edge/holders.h"
#include "edge/kernel.h"
#include "edge/sockets.h"

static struct guard *guard;
static struct guard_maps maps;
static struct watch *watch;
static struct sockets *sockets;
static bool features[FEATURE_COUNT];
/* Descriptors above this one belong to the test that runs. */
static int last_own_descriptor;

/* ---- surroundings --------------------------------------------------------------------------- */

static int set_up(void **state)
{
	(void)state;
	segments_open();
	guard_probe(features);
	guard = load_guard(PORT, &maps);
	watch = watch_open(&maps);
	assert_int_equal(sockets_open(&sockets), 0);
	/* Fast Open without a cookie, as far as we are the client (tcp(7) does not tell: ip-sysctl.rst). */
	write_setting("tcp_fastopen", 0x5);
	last_own_descriptor = highest_descriptor();
	return 0;
}

static int before_each(void **state)
{
	(void)state;
	maps_reset(&maps);
	watch_reset(watch);
	return 0;
}

static int after_each(void **state)
{
	(void)state;
	close_range(last_own_descriptor + 1, ~0U, 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	sockets_close(sockets);
	watch_close(watch);
	unload_guard(guard, &maps);
	segments_close();
	return 0;
}

/* ---- links ---------------------------------------------------------------------------------- */

/* A link that our dial has become. */
static struct our_dial link_to(const char *peer)
{
	struct our_dial ours = dial_out(peer, PORT);
	struct guard_event event;

	assert_int_equal(answer_to(&ours.syn_ack, NULL), ANSWER_ACK);
	assert_true(connected(ours.fd));
	next_event(watch, dial_idle);
	event = next_event(watch, link_outbound);
	assert_address(event.address, peer);
	assert_int_equal(event.cookie, cookie_of(ours.fd));
	return ours;
}

/* The peer says so much, from its present place in the stream; `after` bytes of it come before this. */
static void say(const struct our_dial *ours, const char *data, __u8 flags, __u32 after)
{
	struct segment segment = next_of(ours, TH_ACK | flags);

	segment.sequence += after;
	segment.data = data;
	pass_segment(&segment);
}

static void destroy(__u64 cookie)
{
	struct tcp_socket socket;

	assert_int_equal(sockets_find(sockets, cookie, &socket), 0);
	assert_int_equal(sockets_destroy(sockets, &socket), 0);
}

/* A process that has the test's descriptors, and is killed by die(). */
static pid_t heir(void)
{
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child)
		for (;;)
			pause();
	return child;
}

static void die(pid_t child)
{
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

/* ---- how a link ends ------------------------------------------------------------------------ */

/* The ways of it. */
enum way {
	PEER_CLOSES,
	PEER_SPEAKS_AND_CLOSES,
	PEER_IS_HEARD_AND_CLOSES,
	PEER_CLOSES_WITH_ITS_WORDS,
	PEER_CLOSES_BEFORE_ITS_WORDS,
	PEER_RESETS,
	PEER_SPEAKS_AND_RESETS,
	PEER_SPEAKS_OUT_OF_TURN_AND_RESETS,
	WE_CLOSE,
	WE_CLOSE_UNHEARD,
	WE_CLOSE_FIRST,
	WE_SHUT_DOWN,
	WE_ABORT,
	WE_DIE,
	WE_DIE_UNHEARD,
	DESTROYED,
	UNACKNOWLEDGED,
	WAYS,
};

static const struct {
	enum cause cause;
	enum ending ending;
} expected[WAYS] = {
	[PEER_CLOSES] = { CAUSE_link_short, ENDING_PEER_CLOSED },
	[PEER_SPEAKS_AND_CLOSES] = { CAUSE_link_ended, ENDING_PEER_CLOSED },
	[PEER_IS_HEARD_AND_CLOSES] = { CAUSE_link_ended, ENDING_PEER_CLOSED },
	[PEER_CLOSES_WITH_ITS_WORDS] = { CAUSE_link_ended, ENDING_PEER_CLOSED },
	[PEER_CLOSES_BEFORE_ITS_WORDS] = { CAUSE_link_ended, ENDING_PEER_CLOSED },
	[PEER_RESETS] = { CAUSE_link_short, ENDING_RESET },
	[PEER_SPEAKS_AND_RESETS] = { CAUSE_link_ended, ENDING_RESET },
	[PEER_SPEAKS_OUT_OF_TURN_AND_RESETS] = { CAUSE_link_short, ENDING_RESET },
	[WE_CLOSE] = { CAUSE_link_ended, ENDING_CLOSED },
	[WE_CLOSE_UNHEARD] = { CAUSE_link_ended, ENDING_CLOSED },
	[WE_CLOSE_FIRST] = { CAUSE_link_ended, ENDING_CLOSED },
	[WE_SHUT_DOWN] = { CAUSE_link_ended, ENDING_CLOSED },
	[WE_ABORT] = { CAUSE_link_ended, ENDING_CLOSED },
	[WE_DIE] = { CAUSE_link_ended, ENDING_CLOSED },
	[WE_DIE_UNHEARD] = { CAUSE_link_ended, ENDING_CLOSED },
	[DESTROYED] = { CAUSE_link_ended, ENDING_ABORTED },
	[UNACKNOWLEDGED] = { CAUSE_link_ended, ENDING_SILENCE },
};

/* End the link in this way. */
static void end_link(const struct our_dial *ours, enum way way)
{
	const struct linger abort = { .l_onoff = 1 };
	const unsigned int timeout_ms = 1;
	char heard[8];
	pid_t child;

	switch (way) {
	case PEER_CLOSES:
		say(ours, NULL, TH_FIN, 0);
		return;
	case PEER_SPEAKS_AND_CLOSES:
		say(ours, "x", 0, 0);
		say(ours, NULL, TH_FIN, 1);
		return;
	case PEER_IS_HEARD_AND_CLOSES:
		say(ours, "x", 0, 0);
		assert_int_equal(recv(ours->fd, heard, sizeof(heard), 0), 1);
		say(ours, NULL, TH_FIN, 1);
		return;
	case PEER_CLOSES_WITH_ITS_WORDS:
		say(ours, "x", TH_FIN, 0);
		return;
	case PEER_CLOSES_BEFORE_ITS_WORDS:
		say(ours, NULL, TH_FIN, 1);
		assert_no_event(watch);
		say(ours, "x", 0, 0);
		return;
	case PEER_RESETS:
		say(ours, NULL, TH_RST, 0);
		return;
	case PEER_SPEAKS_AND_RESETS:
		say(ours, "x", 0, 0);
		say(ours, NULL, TH_RST, 1);
		return;
	case PEER_SPEAKS_OUT_OF_TURN_AND_RESETS:
		/* What is missing before it was lost: no byte of the peer has come. */
		say(ours, "x", 0, 5);
		say(ours, NULL, TH_RST, 0);
		return;
	case WE_CLOSE:
		close(ours->fd);
		return;
	case WE_CLOSE_UNHEARD:
		say(ours, "x", 0, 0);
		close(ours->fd);
		return;
	case WE_CLOSE_FIRST:
		close(ours->fd);
		say(ours, NULL, TH_FIN, 0);
		return;
	case WE_SHUT_DOWN:
		assert_int_equal(shutdown(ours->fd, SHUT_WR), 0);
		say(ours, NULL, TH_FIN, 0);
		close(ours->fd);
		return;
	case WE_ABORT:
		assert_int_equal(
			setsockopt(ours->fd, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort)), 0);
		close(ours->fd);
		return;
	case WE_DIE:
	case WE_DIE_UNHEARD:
		child = heir();
		close(ours->fd);
		assert_no_event(watch);
		if (way == WE_DIE_UNHEARD)
			say(ours, "x", 0, 0);
		die(child);
		return;
	case DESTROYED:
		destroy(cookie_of(ours->fd));
		return;
	case UNACKNOWLEDGED:
		/* TCP's own verdict. */
		assert_int_equal(setsockopt(ours->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms,
					    sizeof(timeout_ms)),
				 0);
		assert_int_equal(send(ours->fd, "x", 1, 0), 1);
		return;
	case WAYS:
		break;
	}
	fail_msg("no such way");
}

/* However it ends, once: it is not a failure the first time, and the peer has no slot any more. */
static void check_ends(const char *peer)
{
	for (enum way way = 0; way < WAYS; way++) {
		struct our_dial ours;
		struct guard_event event;
		struct peer after;
		__u64 cookie;

		maps_reset(&maps);
		ours = link_to(peer);
		cookie = cookie_of(ours.fd);
		watch_reset(watch);
		end_link(&ours, way);
		await(has_event(watch));
		event = check_event(watch, expected[way].cause, __FILE__, __LINE__);
		if (event.ending != expected[way].ending)
			fail_msg("way %d: ending %d", way, event.ending);
		assert_address(event.address, peer);
		assert_recent(&event);
		assert_int_equal(event.cookie, cookie);
		assert_int_equal(event.direction, DIRECTION_OUTBOUND);
		assert_int_equal(event.enforced, 1);
		assert_int_equal(event.until_ns, 0);
		assert_int_equal(event.attempts, 0);
		after = get_peer(&maps, peer);
		assert_int_equal(after.attempts, 0);
		assert_int_equal(after.next_attempt_ns, 0);
		assert_int_equal(after.short_links, expected[way].cause == CAUSE_link_short);
		assert_int_equal(after.slots[0].kind, SLOT_FREE);
		/* What becomes of the socket later is nobody's business. */
		close(ours.fd);
		syns_seen(0);
		assert_counted(watch, { COUNTERS_ENFORCED, expected[way].cause, 1 });
		assert_no_event(watch);
	}
}

static void ends_ipv4(void **state)
{
	(void)state;
	check_ends(THERE4);
}

static void ends_ipv6(void **state)
{
	(void)state;
	check_ends(THERE6);
}

/* Accepted and hung up upon, twice in a row: the peer refuses us. */
static void hangs_up(void **state)
{
	static const enum way ways[] = { PEER_CLOSES, PEER_RESETS };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct our_dial ours;
		struct guard_event event;
		struct peer after;
		int fd;

		maps_reset(&maps);
		watch_reset(watch);
		ours = link_to(THERE4);
		end_link(&ours, ways[i]);
		next_event(watch, link_short);
		ours = link_to(THERE4);
		end_link(&ours, ways[i]);
		event = next_event(watch, link_hung_up);
		after = get_peer(&maps, THERE4);
		assert_int_equal(event.ending, expected[ways[i]].ending);
		assert_int_equal(event.attempts, 1);
		assert_int_equal(after.attempts, 1);
		assert_int_equal(event.until_ns, after.next_attempt_ns);
		assert_true(after.next_attempt_ns > event.time_ns);
		assert_int_equal(after.failed_ns, event.time_ns);
		assert_int_equal(after.failure, event.ending);
		/* It was answered, so nobody waits for an answer the next time. */
		assert_int_equal(after.flags, PEER_DIALED);
		after.next_attempt_ns = now_ns() + HOUR_NS;
		put_peer(&maps, THERE4, &after);
		fd = dialing_socket(HERE4);
		assert_int_equal(dial(fd, THERE4, PORT),
				 features[FEATURE_REFUSAL_ERRNO] ? ECONNREFUSED : EPERM);
		assert_int_equal(next_event(watch, dial_backoff).ending, event.ending);
		close(fd);
		assert_no_event(watch);
	}
}

/* In a row: what was said, or what lasted, begins anew. */
static void hangs_up_now_and_then(void **state)
{
	enum { SPEAKS, LASTS, WE_END_IT, BETWEEN };
	const struct guard_policy policy = patient_policy();

	(void)state;
	for (int between = 0; between < BETWEEN; between++) {
		struct our_dial ours;
		struct peer peer;

		maps_reset(&maps);
		watch_reset(watch);
		ours = link_to(THERE4);
		end_link(&ours, PEER_CLOSES);
		next_event(watch, link_short);
		ours = link_to(THERE4);
		if (between == LASTS) {
			peer = get_peer(&maps, THERE4);
			peer.slots[0].since_ns = now_ns() - policy.min_uptime_ns;
			put_peer(&maps, THERE4, &peer);
		}
		end_link(&ours, between == SPEAKS    ? PEER_SPEAKS_AND_CLOSES :
				between == WE_END_IT ? WE_CLOSE :
						       PEER_CLOSES);
		next_event(watch, link_ended);
		ours = link_to(THERE4);
		end_link(&ours, PEER_CLOSES);
		next_event(watch, link_short);
		assert_int_equal(get_peer(&maps, THERE4).attempts, 0);
		assert_no_event(watch);
	}
}

/* Words that come with the handshake are words. */
static void fast_open(void **state)
{
	(void)state;
	for (int speaks = 0; speaks < 2; speaks++) {
		int fd = dialing_socket(HERE4);
		struct our_dial ours;
		union endpoint there;
		socklen_t length = endpoint_of(THERE4, PORT, &there);
		ssize_t sent;

		maps_reset(&maps);
		watch_reset(watch);
		sent = sendto(fd, "hi", 2, MSG_FASTOPEN, &there.any, length);
		assert_true(sent == 2 || (sent < 0 && errno == EINPROGRESS));
		ours = dial_seen(fd, THERE4, PORT);
		if (sent == 2)
			ours.syn_ack.acknowledgment += 2;
		ours.syn_ack.data = speaks ? "x" : NULL;
		pass_segment(&ours.syn_ack);
		assert_true(connected(fd));
		ours.syn_ack.data = NULL;
		next_event(watch, dial_idle);
		next_event(watch, link_outbound);
		say(&ours, NULL, TH_FIN, speaks);
		if (speaks)
			next_event(watch, link_ended);
		else
			next_event(watch, link_short);
		assert_no_event(watch);
		close(fd);
	}
}

/* A link that the peer has made to us, accepted. */
static struct our_dial link_from(const char *peer, int listening)
{
	struct segment syn = syn_from(peer);
	struct our_dial theirs = { .syn_ack = syn };
	struct segment answer;

	assert_int_equal(answer_to(&syn, &answer), ANSWER_SYN_ACK);
	theirs.syn_ack.acknowledgment = answer.sequence + 1;
	say(&theirs, NULL, 0, 0);
	theirs.fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	assert_true(theirs.fd >= 0);
	return theirs;
}

/* A peer that knocks and hangs up does not keep us from dialing it. */
static void knocks_and_hangs_up(void **state)
{
	static const enum way ways[] = { PEER_CLOSES, PEER_RESETS, PEER_CLOSES };
	const struct peer_address here = key_of(HERE4);
	int listening = listener(HERE4, PORT);

	(void)state;
	next_event(watch, service_started);
	for (int i = 0; i < 3; i++) {
		struct guard_event event;
		struct our_dial theirs;

		put_held_syn(&maps, THERE4);
		theirs = link_from(THERE4, listening);
		next_event(watch, link_inbound);
		assert_false(has_held_syn(&maps, THERE4));
		/* What its socket is looked up by. */
		assert_memory_equal(get_peer(&maps, THERE4).slots[0].local_address, here.bytes,
				    sizeof(here.bytes));
		end_link(&theirs, ways[i]);
		event = next_event(watch, link_ended);
		assert_int_equal(event.direction, DIRECTION_INBOUND);
		assert_int_equal(event.ending, expected[ways[i]].ending);
		assert_int_equal(event.until_ns, 0);
		assert_int_equal(get_peer(&maps, THERE4).short_links, 0);
		assert_int_equal(get_peer(&maps, THERE4).attempts, 0);
		close(theirs.fd);
	}
	assert_no_event(watch);
	close(listening);
}

/* Beyond the tun device, of the network of THERE6. */
#define BESIDE6(number) "fd97:1::" #number

/* What a dial or a link shows takes a place of its network's; when there is none it passes, and is not tracked. */
static void networks_have_their_share(void **state)
{
	struct guard_policy policy = patient_policy();
	int listening = listener(HERE6, PORT);
	struct our_dial ours;

	(void)state;
	next_event(watch, service_started);
	policy.network_peers = 2;
	set_policy(&maps, &policy);
	link_to(THERE6);
	link_from(BESIDE6(3), listening);
	next_event(watch, link_inbound);
	assert_int_equal(count_places(&maps, THERE6), 2);

	ours = dial_out(BESIDE6(4), PORT);
	next_event(watch, dial_unheld);
	assert_int_equal(answer_to(&ours.syn_ack, NULL), ANSWER_ACK);
	assert_true(connected(ours.fd));
	next_event(watch, link_unheld);
	link_from(BESIDE6(5), listening);
	next_event(watch, link_unheld);
	assert_false(has_peer(&maps, BESIDE6(4)) || has_peer(&maps, BESIDE6(5)));
	/* Those of other networks are none the worse. */
	link_to(THERE4);
	link_to(OTHER4);
	assert_int_equal(count_peers(&maps), 4);
	assert_int_equal(count_places(&maps, THERE6), 2);
	assert_no_event(watch);
	close(listening);
}

/* A quiet link stays until a new one of its peer has come in its place. */
static void quiet_link_is_replaced(void **state)
{
	struct our_dial old = link_to(THERE4), theirs;
	int listening = listener(HERE4, PORT);
	struct guard_command request = { .operation = COMMAND_UNANSWERED,
					 .address = key_of(THERE4),
					 .cookie = cookie_of(old.fd) };
	struct guard_event event;
	struct peer peer;

	(void)state;
	peer = get_peer(&maps, THERE4);
	peer.slots[0].heard_ns = LONG_AGO;
	put_peer(&maps, THERE4, &peer);
	assert_int_equal(guard_command(guard, &request), 0);
	assert_int_equal(get_peer(&maps, THERE4).slots[0].kind, SLOT_LINK);
	watch_reset(watch);
	theirs = link_from(THERE4, listening);
	assert_counted(watch, ENFORCED(knock_unproven, 1), ENFORCED(link_replaced, 1));
	event = next_event(watch, link_replaced);
	assert_int_equal(event.cookie, cookie_of(theirs.fd));
	assert_int_equal(event.other_cookie, cookie_of(old.fd));
	assert_no_event(watch);
	assert_int_equal(get_peer(&maps, THERE4).slots[0].flags & SLOT_DOOMED, SLOT_DOOMED);
	/* Nothing has ended it: that is for the daemon. */
	say(&old, "x", 0, 0);
	assert_int_equal(recv(old.fd, &peer, 1, 0), 1);
	close(listening);
}

/* ---- the service's socket options ----------------------------------------------------------- */

struct options {
	int keepalive, idle, interval, probes, user_timeout;
};

static int option_of(int fd, int level, int option)
{
	socklen_t length = sizeof(int);
	int value = -1;

	assert_int_equal(getsockopt(fd, level, option, &value, &length), 0);
	return value;
}

static void set_option(int fd, int level, int option, int value)
{
	assert_int_equal(setsockopt(fd, level, option, &value, sizeof(value)), 0);
}

static struct options options_of(int fd)
{
	return (struct options){
		.keepalive = option_of(fd, SOL_SOCKET, SO_KEEPALIVE),
		.idle = option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE),
		.interval = option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL),
		.probes = option_of(fd, IPPROTO_TCP, TCP_KEEPCNT),
		.user_timeout = option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT),
	};
}

static void assert_options(int fd, struct options wanted)
{
	const struct options found = options_of(fd);

	assert_int_equal(found.keepalive, wanted.keepalive);
	assert_int_equal(found.idle, wanted.idle);
	assert_int_equal(found.interval, wanted.interval);
	assert_int_equal(found.probes, wanted.probes);
	assert_int_equal(found.user_timeout, wanted.user_timeout);
}

/* What a service sets before it dials, or on its listener. */
static const struct {
	struct options set; /* 0: not set */
	bool own;           /* it looks after its links itself */
} services[] = {
	{ {}, false },
	{ { .keepalive = 1 }, true },
	{ { .keepalive = 1, .idle = 44, .interval = 5, .probes = 6 }, true },
	{ { .user_timeout = 20000 }, true },
	{ { .keepalive = 1, .user_timeout = 20000 }, true },
};
#define SERVICES (sizeof(services) / sizeof(services[0]))

static void set_as_service(int fd, const struct options *set)
{
	if (set->keepalive)
		set_option(fd, SOL_SOCKET, SO_KEEPALIVE, set->keepalive);
	if (set->idle)
		set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, set->idle);
	if (set->interval)
		set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, set->interval);
	if (set->probes)
		set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, set->probes);
	if (set->user_timeout)
		set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, set->user_timeout);
}

/* Links in both directions of a service that sets this: what becomes of its options. */
static void check_options(const struct options *set, bool touched)
{
	/* Of a liveness of a minute: half of it in silence, then three probes in the other half. */
	const struct options ours = { 1, 30, 10, 3, 0 };
	int listening = bound_socket(HERE4, PORT), dialing = dialing_socket(HERE4);
	struct options before_listening, before_dialing;
	struct our_dial out, in;

	set_as_service(listening, set);
	set_as_service(dialing, set);
	before_listening = options_of(listening);
	before_dialing = options_of(dialing);
	assert_int_equal(listen(listening, 8), 0);
	assert_int_equal(dial(dialing, THERE4, PORT), EINPROGRESS);
	out = dial_seen(dialing, THERE4, PORT);
	assert_int_equal(answer_to(&out.syn_ack, NULL), ANSWER_ACK);
	assert_true(connected(dialing));
	in = link_from(OTHER4, listening);
	assert_options(dialing, touched ? ours : before_dialing);
	assert_options(in.fd, touched ? ours : before_listening);
	assert_options(listening, before_listening);
	close(in.fd);
	close(dialing);
	close(listening);
}

/* By default, and wherever the service has options of its own, nothing is touched. */
static void keepalive(void **state)
{
	enum { NO_LIVENESS, ENFORCING, OBSERVING, OFF, TIMES };

	(void)state;
	for (int time = 0; time < TIMES; time++)
		for (size_t i = 0; i < SERVICES; i++) {
			struct guard_policy policy = patient_policy();

			maps_reset(&maps);
			policy.liveness_ns = time == NO_LIVENESS ? 0 : 60 * NS_PER_SECOND;
			set_policy(&maps, &policy);
			set_mode(&maps, time == OFF	  ? MODE_OFF :
					time == OBSERVING ? MODE_OBSERVE :
							    MODE_ENFORCE);
			/* Before 6.1 nobody can tell what the service has set. */
			check_options(&services[i].set, time == ENFORCING && !services[i].own &&
								features[FEATURE_SOCKET_OPTIONS]);
		}
}

/* ---- asking quiet links --------------------------------------------------------------------- */

/* What a link is set to while it is asked: nothing that could end it. */
static const struct options asking = { 1, 1, 1, 127, 0 };

static size_t nudge(__u64 cookie, bool begin)
{
	size_t nudged = 77;

	assert_int_equal(guard_nudge(guard, &cookie, begin, &cookie, !begin, &nudged), 0);
	return nudged;
}

static bool asks(void)
{
	if (features[FEATURE_SOCKET_OPTIONS])
		return true;
	print_message("this kernel cannot ask quiet links\n");
	return false;
}

/* Set for the asking, remembered, and set back. */
static void asked_and_set_back(void **state)
{
	(void)state;
	if (!asks())
		skip();
	for (size_t i = 0; i < SERVICES; i++) {
		struct link_nudge remembered;
		struct options before;
		struct our_dial ours;
		__u64 cookie;

		maps_reset(&maps);
		watch_reset(watch);
		ours = link_to(THERE4);
		cookie = cookie_of(ours.fd);
		set_as_service(ours.fd, &services[i].set);
		before = options_of(ours.fd);
		assert_int_equal(nudge(cookie, true), 1);
		assert_options(ours.fd, asking);
		assert_int_equal(guard_nudge_read(guard, cookie, &remembered), 0);
		assert_int_equal(remembered.step, NUDGE_UNDER_WAY);
		assert_int_equal(remembered.keepalive, before.keepalive);
		assert_int_equal(remembered.idle_seconds, before.idle);
		assert_int_equal(remembered.interval_seconds, before.interval);
		assert_int_equal(remembered.probes, before.probes);
		assert_int_equal(remembered.user_timeout_ms, before.user_timeout);
		nudge(cookie, false);
		assert_options(ours.fd, before);
		assert_int_equal(guard_nudge_read(guard, cookie, &remembered), -ENOENT);
		/* Set back once: a second time there is nothing to go back to. */
		nudge(cookie, false);
		assert_options(ours.fd, before);
		close(ours.fd);
		next_event(watch, link_ended);
		assert_no_event(watch);
	}
}

/* What the service sets while its link is asked is not overwritten. */
static void asked_and_changed(void **state)
{
	static const struct {
		int level, option, value;
		struct options after;
	} changes[] = {
		{ SOL_SOCKET, SO_KEEPALIVE, 0, { 0, 44, 5, 6, 20000 } },
		{ IPPROTO_TCP, TCP_KEEPIDLE, 9, { 1, 9, 5, 6, 20000 } },
		{ IPPROTO_TCP, TCP_KEEPINTVL, 9, { 1, 44, 9, 6, 20000 } },
		{ IPPROTO_TCP, TCP_KEEPCNT, 9, { 1, 44, 5, 9, 20000 } },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, 9000, { 1, 44, 5, 6, 9000 } },
	};
	static const struct options set = { 1, 44, 5, 6, 20000 };

	(void)state;
	if (!asks())
		skip();
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		struct our_dial ours;

		maps_reset(&maps);
		watch_reset(watch);
		ours = link_to(THERE4);
		set_as_service(ours.fd, &set);
		assert_int_equal(nudge(cookie_of(ours.fd), true), 1);
		set_option(ours.fd, changes[i].level, changes[i].option, changes[i].value);
		nudge(cookie_of(ours.fd), false);
		assert_options(ours.fd, changes[i].after);
		close(ours.fd);
	}
}

/* One link begins to be asked while another is set back; one that is asked already stays as it is. */
static void asked_while_another_is_set_back(void **state)
{
	static const struct options set = { 1, 44, 5, 6, 20000 };
	struct options before, before_other;
	struct our_dial ours, other;
	__u64 cookie, other_cookie;
	size_t nudged;

	(void)state;
	if (!asks())
		skip();
	ours = link_to(THERE4);
	other = link_to(OTHER4);
	cookie = cookie_of(ours.fd);
	other_cookie = cookie_of(other.fd);
	set_as_service(ours.fd, &set);
	before = options_of(ours.fd);
	before_other = options_of(other.fd);
	assert_int_equal(nudge(cookie, true), 1);
	assert_int_equal(nudge(cookie, true), 1);
	assert_int_equal(guard_nudge(guard, &other_cookie, 1, &cookie, 1, &nudged), 0);
	assert_int_equal(nudged, 1);
	assert_options(ours.fd, before);
	assert_options(other.fd, asking);
	nudge(other_cookie, false);
	assert_options(other.fd, before_other);
}

/* Connections of others, and how many sockets one step takes (bpf/iterate.bpf.h). */
#define CROWD	     200
#define CROWD_A_STEP 128

/* However many sockets there are, a step is a small one; what was given up half-way is to be ended still. */
static void asked_in_steps(void **state)
{
	static const struct options set = { 1, 44, 5, 6, 20000 };
	int listening, crowd[CROWD], step, steps = 0;
	struct link_nudge remembered;
	struct nudge_walk *walk;
	struct our_dial ours;
	size_t nudged = 0;
	__u64 cookie;

	(void)state;
	if (!asks())
		skip();
	listening = listener("127.0.0.1", 0);
	assert_int_equal(listen(listening, CROWD), 0);
	for (int i = 0; i < CROWD; i++) {
		crowd[i] = bound_socket("127.0.0.1", 0);
		assert_int_equal(dial(crowd[i], "127.0.0.1", port_of(listening)), 0);
	}
	ours = link_to(THERE4);
	cookie = cookie_of(ours.fd);
	set_as_service(ours.fd, &set);
	assert_int_equal(guard_nudge_start(guard, &cookie, 1, NULL, 0, &walk), 0);
	while ((step = guard_nudge_step(walk)) > 0)
		steps++;
	assert_int_equal(step, 0);
	/* Both ends are sockets. */
	assert_true(steps >= 2 * CROWD / CROWD_A_STEP);
	assert_int_equal(guard_nudge_finish(walk, &nudged), 0);
	assert_int_equal(nudged, 1);
	assert_options(ours.fd, asking);

	assert_int_equal(guard_nudge_start(guard, NULL, 0, &cookie, 1, &walk), 0);
	assert_int_equal(guard_nudge_finish(walk, NULL), 0);
	assert_options(ours.fd, asking);
	assert_int_equal(guard_nudge_read(guard, cookie, &remembered), 0);
	nudge(cookie, false);
	assert_options(ours.fd, set);
	assert_int_equal(guard_nudge_read(guard, cookie, &remembered), -ENOENT);
	for (int i = 0; i < CROWD; i++)
		close(crowd[i]);
	close(listening);
}

/* Neither a dial nor what is gone, nor the link beside it. */
static void asks_no_other(void **state)
{
	struct our_dial link, dialing;
	struct options before, before_dialing;
	struct link_nudge remembered;

	(void)state;
	if (!asks())
		skip();
	link = link_to(THERE4);
	dialing = dial_out(OTHER4, PORT);
	before = options_of(link.fd);
	before_dialing = options_of(dialing.fd);
	assert_int_equal(nudge(cookie_of(dialing.fd), true), 0);
	assert_int_equal(nudge(~0ULL, true), 0);
	assert_int_equal(guard_nudge_read(guard, ~0ULL, &remembered), -ENOENT);
	assert_options(link.fd, before);
	assert_options(dialing.fd, before_dialing);
	/* The peer has closed it: the connection is none to ask. */
	say(&link, NULL, TH_FIN, 0);
	assert_int_equal(nudge(cookie_of(link.fd), true), 0);
	assert_options(link.fd, before);
}

/* What a daemon that died has left before the iterator has run is not carried out by the next one. */
static void what_has_not_begun_is_forgotten(void **state)
{
	static const enum nudge_step steps[] = { NUDGE_BEGIN };
	static const struct options set = { 1, 44, 5, 6, 20000 };
	struct link_nudge left = {};
	struct our_dial ours;
	__u64 cookie;

	(void)state;
	if (!asks())
		skip();
	ours = link_to(THERE4);
	cookie = cookie_of(ours.fd);
	set_as_service(ours.fd, &set);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		left.step = steps[i];
		assert_int_equal(bpf_map_update_elem(maps.nudges, &cookie, &left, BPF_ANY), 0);
		nudge(cookie, false);
		assert_options(ours.fd, set);
		assert_int_equal(guard_nudge_read(guard, cookie, &left), -ENOENT);
	}
}

/* Sign what goes to this address from now on (TCP_MD5SIG). False: this kernel cannot. */
static bool sign(int fd, const char *address)
{
	struct tcp_md5sig key = { .tcpm_keylen = 1, .tcpm_key = "k" };
	union endpoint remote;

	memcpy(&key.tcpm_addr, &remote, endpoint_of(address, 0, &remote));
	if (setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &key, sizeof(key)) == 0)
		return true;
	assert_int_equal(errno, ENOPROTOOPT);
	return false;
}

/* What names our dial, or the link that it has become. */
static struct link_sight sight_of(int fd, const char *here, const char *there)
{
	return (struct link_sight){ .cookie = cookie_of(fd),
				    .local = key_of(here),
				    .remote = key_of(there),
				    .local_port = port_of(fd),
				    .remote_port = PORT };
}

/* Where a connection is, for who asks beside TCP. */
static void seen_where_it_is(void **state)
{
	(void)state;
	for (int ipv6 = 0; ipv6 < 2; ipv6++) {
		const char *here = ipv6 ? HERE6 : HERE4, *there = ipv6 ? THERE6 : THERE4;
		struct our_dial link = link_to(there), dialing;
		struct link_sight sight = sight_of(link.fd, here, there), seen;
		struct options before = options_of(link.fd);
		int mark = 77;

		assert_int_equal(setsockopt(link.fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)), 0);
		seen = sight;
		assert_int_equal(guard_link_look(guard, 0, &seen), 0);
		assert_int_equal(seen.unacknowledged, link.syn_ack.acknowledgment);
		assert_int_equal(seen.expected, link.syn_ack.sequence + 1);
		assert_int_equal(seen.mark, 77);
		assert_int_equal(seen.is_signed, 0);
		assert_int_equal(seen.cookie, sight.cookie);
		assert_options(link.fd, before);
		assert_int_equal(send(link.fd, "data", 4, 0), 4);
		assert_int_equal(guard_link_look(guard, 0, &seen), 0);
		assert_int_equal(seen.unacknowledged, link.syn_ack.acknowledgment);
		say(&link, "four", TH_ACK, 0);
		await(guard_link_look(guard, 0, &seen) == 0 &&
		      seen.expected == link.syn_ack.sequence + 5);
		/* Not another one at the same addresses and ports, and what is none yet neither. */
		seen = sight;
		seen.cookie++;
		assert_int_equal(guard_link_look(guard, 0, &seen), -ENOENT);
		seen = sight;
		seen.remote_port++;
		assert_int_equal(guard_link_look(guard, 0, &seen), -ENOENT);
		if (!ipv6) {
			dialing = dial_out(OTHER4, PORT);
			next_event(watch, dial_idle);
			seen = sight_of(dialing.fd, HERE4, OTHER4);
			assert_int_equal(guard_link_look(guard, 0, &seen), -ENOENT);
		}
		/* Some kernels sign nothing (CONFIG_TCP_MD5SIG). */
		seen = sight;
		if (!ipv6 && sign(link.fd, THERE4)) {
			assert_int_equal(guard_link_look(guard, 0, &seen), 0);
			assert_int_equal(seen.is_signed, 1);
		}
	}
}

/* Any number of them, those that are there and those that are not side by side. */
static void seen_many_at_once(void **state)
{
	enum { COUNT = 2 * SIGHTS_MAX + 3, IPV4_LINK = 0, IPV6_LINK, NO_LINK, KINDS };
	struct our_dial links[] = { link_to(THERE4), link_to(THERE6) };
	struct link_sight sights[COUNT];
	struct peer peers[2];
	__u32 before;

	(void)state;
	for (int i = 0; i < 2; i++) {
		const char *there = i ? THERE6 : THERE4;

		peers[i] = get_peer(&maps, there);
		assert_int_equal(peers[i].slots[0].kind, SLOT_LINK);
		peers[i].slots[0].heard_ns = LONG_AGO + i;
		peers[i].slots[0].stalled_ns = 77 + i;
		put_peer(&maps, there, &peers[i]);
	}
	for (int i = 0; i < COUNT; i++) {
		sights[i] = i % KINDS == IPV6_LINK ? sight_of(links[1].fd, HERE6, THERE6) :
						     sight_of(links[0].fd, HERE4, THERE4);
		sights[i].is_there = 1;
		if (i % KINDS == NO_LINK)
			sights[i].cookie += 1000000;
	}
	assert_int_equal(guard_links_look(guard, 0, sights, COUNT), 0);
	for (int i = 0; i < COUNT; i++) {
		int kind = i % KINDS;

		assert_int_equal(sights[i].is_there, kind != NO_LINK);
		assert_int_equal(sights[i].heard_ns, kind == NO_LINK ? 0 : LONG_AGO + kind);
		assert_int_equal(sights[i].stalled_ns, kind == NO_LINK ? 0 : 77 + kind);
		if (kind == NO_LINK)
			continue;
		assert_int_equal(sights[i].unacknowledged, links[kind].syn_ack.acknowledgment);
		assert_int_equal(sights[i].expected, links[kind].syn_ack.sequence + 1);
	}
	assert_int_equal(guard_links_look(guard, 0, sights, 0), 0);
	/* What comes and what leaves is counted. */
	before = sights[0].segments_in;
	say(&links[0], "four", TH_ACK, 0);
	await(guard_link_look(guard, 0, &sights[0]) == 0 && sights[0].segments_in != before);
	before = sights[0].segments_out;
	assert_int_equal(send(links[0].fd, "data", 4, 0), 4);
	await(guard_link_look(guard, 0, &sights[0]) == 0 && sights[0].segments_out != before);
	/* At an interface that is none of theirs they are found all the same: they are bound to none. */
	assert_int_equal(guard_links_look(guard, 1, sights, 2), 0);
	assert_int_equal(sights[1].is_there, 1);
}

/* The process that holds a socket; 0: nobody. */
static __u32 holder_of(const struct socket_holder *list, size_t count, __u64 cookie)
{
	for (size_t i = 0; i < count; i++)
		if (list[i].cookie == cookie)
			return list[i].process_id;
	return 0;
}

/* Who asks again and again has a walk that was costly for a while, and any other anew. */
static void holders_of_many_descriptors(void **state)
{
	enum { DESCRIPTORS = 3000, HEIRS = 64 };
	static const __u16 ports[] = { PORT };
	const struct socket_holder *list;
	struct rlimit limit, more;
	struct holders holders = {};
	pid_t heirs[HEIRS];
	struct our_dial ours;
	int heir_count = 0;
	__u64 cookie, until_ns;
	size_t count;

	(void)state;
	if (!features[FEATURE_SOCKET_ITERATOR])
		skip();
	ours = link_to(THERE4);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	more = (struct rlimit){ .rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &more), 0);
	for (int i = 0; i < DESCRIPTORS; i++)
		assert_true(fcntl(ours.fd, F_DUPFD, last_own_descriptor + 1) >= 0);
	assert_int_equal(holders_recent(&holders, guard, sockets, ports, 1, &list, &count), 0);
	cookie = cookie_of(ours.fd);
	assert_int_equal(holder_of(list, count, cookie), getpid());
	while (!holders.until_ns && heir_count < HEIRS) {
		heirs[heir_count++] = heir();
		assert_int_equal(holders_recent(&holders, guard, sockets, ports, 1, &list, &count), 0);
	}
	assert_true(holders.until_ns);
	/* What a walk leaves 0. */
	holders.list[0].reserved = 77;
	until_ns = holders.until_ns;
	assert_int_equal(holders_recent(&holders, guard, sockets, ports, 1, &list, &count), 0);
	if (now_ns() < until_ns)
		assert_int_equal(list[0].reserved, 77);
	while (heir_count)
		die(heirs[--heir_count]);
	close(ours.fd);
	close_range(last_own_descriptor + 1, ~0U, 0);
	next_event(watch, link_ended);
	await(now_ns() >= holders.until_ns);
	assert_int_equal(holders_recent(&holders, guard, sockets, ports, 1, &list, &count), 0);
	assert_int_equal(holder_of(list, count, cookie), 0);
	holders_forget(&holders);
	assert_null(holders.list);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/*
 * The peer hears the question, and one that does not answer several of them ends nothing, whatever user
 * timeout the service has; its answer is a sign of life.
 */
static void asked_in_vain(void **state)
{
	static const struct options set = { .keepalive = 1, .idle = 7000, .user_timeout = 1 };
	struct our_dial ours;
	struct peer peer;

	(void)state;
	if (!asks())
		skip();
	ours = link_to(THERE4);
	set_as_service(ours.fd, &set);
	watch_reset(watch);
	assert_int_equal(nudge(cookie_of(ours.fd), true), 1);
	for (int asked = 0; asked < 3;) {
		struct segment question;

		assert_true(receive_segment(&question));
		if (question.source_port != ours.syn_ack.destination_port)
			continue;
		/* It repeats the octet before (RFC 9293, section 3.8.4). */
		assert_int_equal(question.flags, TH_ACK);
		assert_int_equal(question.sequence + 1, ours.syn_ack.acknowledgment);
		asked++;
	}
	assert_silent(watch);
	peer = get_peer(&maps, THERE4);
	assert_int_equal(peer.slots[0].kind, SLOT_LINK);
	peer.slots[0].heard_ns = LONG_AGO;
	put_peer(&maps, THERE4, &peer);
	say(&ours, NULL, 0, 0);
	assert_true(get_peer(&maps, THERE4).slots[0].heard_ns > LONG_AGO);
	nudge(cookie_of(ours.fd), false);
	assert_int_equal(options_of(ours.fd).user_timeout, set.user_timeout);
	say(&ours, "x", 0, 0);
	assert_silent(watch);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, before_each, after_each)

static int run_all(void)
{
	const struct CMUnitTest tests[] = {
		TEST(ends_ipv4),
		TEST(ends_ipv6),
		TEST(hangs_up),
		TEST(hangs_up_now_and_then),
		TEST(fast_open),
		TEST(knocks_and_hangs_up),
		TEST(networks_have_their_share),
		TEST(quiet_link_is_replaced),
		TEST(keepalive),
		TEST(asked_and_set_back),
		TEST(asked_and_changed),
		TEST(asked_while_another_is_set_back),
		TEST(asked_in_steps),
		TEST(asks_no_other),
		TEST(what_has_not_begun_is_forgotten),
		TEST(seen_where_it_is),
		TEST(seen_many_at_once),
		TEST(holders_of_many_descriptors),
		TEST(asked_in_vain),
	};

	if (segments_lack())
		return 0;
	return cmocka_run_group_tests(tests, set_up, tear_down);
}

int main(void)
{
	return run_surrounded("cgt-links-", run_all);
}
