// SPDX-License-Identifier: BSD-2-Clause
/* Time: due peers, the ends of backoffs, the heartbeat. See daemon.h. */
#include "connguardd/daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <connguard/rules.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/pieces.h"
#include "edge/furnish.h"
#include "pure/address_text.h"
#include "pure/names.h"

/*
 * Sign of life to the kernel side and to the service manager; also how soon what a command has exempted
 * for a time is guarded again.
 */
#define HEARTBEAT_SECONDS 1
/* The central dial policy falls back to shared when the sign of life is this old. */
#define ALIVE_NS (5 * NS_PER_SECOND)
/* Links that could not be taken under guard are tried again after so many heartbeats. */
#define RETRY_BEATS 10
/*
 * Heartbeats without a further loss after which lost events are no problem any more. They are made up
 * for sooner; but who asks `status` now and then should see it.
 */
#define LOSS_BEATS 5
/* When every backoff is over at once, those who waited for it are told so spread over this. */
#define REVIVED_WITHIN_NS NS_PER_SECOND
/* They are looked for among all peers, with rests of so many times as long: a fifth of a processor meanwhile; */
#define REVIVED_REST_RATIO 4
/* and however often that happens, it is a twentieth in the long run. */
#define REVIVED_BETWEEN_RATIO 20
/*
 * Peers that are announced, or let go, before everything else has its turn: each is an event in the kernel's ring,
 * which has room for some thousands, and of which as many are read at a time (EVENTS_AT_ONCE).
 */
#define DUE_AT_A_TIME 64

/* Every backoff was over at once: the walk over all peers for those who waited for that. */
struct revived {
	struct pieces *pieces; /* asked for again while it goes on: backoffs may have begun since, and are over too */
	struct peer_walk walk;
	__u64 began_ns;
};

/* ---- due peers ---- */

/* 1: it is a claim whose SYN waits. */
static bool is_kept(const struct slot *slot, __u64 now)
{
	return slot_is_claim(slot, now) && slot->flags & SLOT_KEPT && slot->flags & SLOT_SENT;
}

static bool any_is_kept(const struct peer *peer, __u64 now)
{
	for (int i = 0; i < PEER_SLOTS; i++)
		if (is_kept(&peer->slots[i], now))
			return true;
	return false;
}

/*
 * What the dials that are kept have waited for is over: their SYNs leave, if nothing is in their way. Else the link
 * beside them has stayed, and they end. Those that wait on are looked at again.
 */
static void let_go(struct daemon *daemon, const struct peer_address *address)
{
	__u64 now = clock_now_ns(), until_ns, next_ns = 0;
	struct guard_policy policy;
	struct peer peer;

	if (guard_peer_read(daemon->guard, address, &peer) || guard_policy_read(daemon->guard, &policy))
		return;
	for (int i = 0; i < PEER_SLOTS; i++) {
		const struct slot *claim = &peer.slots[i];

		if (!is_kept(claim, now))
			continue;
		until_ns = dial_waits_until(&peer, &policy, claim->cookie, now);
		if (until_ns > now)
			next_ns = next_ns && next_ns < until_ns ? next_ns : until_ns;
		else if (happenings_dial_lost(daemon, &peer, &policy, now))
			happenings_end_dial(daemon, address, claim);
		else
			syns_let_go(daemon, address, claim->cookie);
	}
	if (next_ns)
		upkeep_due_at(daemon, address, next_ns);
}

/* Announce a peer if it is due, as the rules say under its lock. */
static void announce(struct daemon *daemon, const struct peer_address *address)
{
	const struct guard_command command = { .operation = COMMAND_ANNOUNCE, .address = *address };

	/*
	 * -EBUSY: linked, dialing or backing off by now, or not ours to dial; -ENOENT: forgotten.
	 * Both are answers.
	 */
	guard_command(daemon->guard, &command);
}

static void arm_deadline(struct daemon *daemon)
{
	struct itimerspec when = {};
	__u64 deadline;

	if (deadlines_next(daemon->deadlines, &deadline)) {
		/* A zero it_value would disarm. */
		if (!deadline)
			deadline = 1;
		when.it_value.tv_sec = deadline / NS_PER_SECOND;
		when.it_value.tv_nsec = deadline % NS_PER_SECOND;
	}
	timerfd_settime(daemon->deadline_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

void upkeep_due_at(struct daemon *daemon, const struct peer_address *address, __u64 deadline_ns)
{
	/* Without a place in the queue the peer waits for the periodic check. */
	deadlines_set(daemon->deadlines, address, deadline_ns);
	arm_deadline(daemon);
}

/* A moment of a peer's own, within so long after `since_ns`. */
static __u64 own_moment(__u64 since_ns)
{
	return since_ns + (__u64)rand() % REVIVED_WITHIN_NS;
}

void upkeep_found_due(struct daemon *daemon, const struct peer_address *address, __u64 now)
{
	__u64 deadline;

	/* After a revival each has its own moment, or is about to get it, which a check must not make one for all. */
	if (!deadlines_get(daemon->deadlines, address, &deadline) || deadline >= now + REVIVED_WITHIN_NS)
		deadlines_set(daemon->deadlines, address,
			      pieces_asked(daemon->revived->pieces) ? own_moment(now) : now);
}

void upkeep_not_due(struct daemon *daemon, const struct peer_address *address)
{
	__u64 deadline;

	if (!deadlines_get(daemon->deadlines, address, &deadline))
		return;
	deadlines_remove(daemon->deadlines, address);
	arm_deadline(daemon);
	/* One that waits beside the link waits on. */
	let_go(daemon, address);
}

/*
 * Whoever waited for the end of a backoff has not to any more: announced, or let go, within a second of when the walk
 * begins or, of very many peers, comes to it; and not all at once. (The jitter is for others' sake and none of theirs:
 * an application's own dial passes at once.)
 */
static void look_at_revived(struct daemon *daemon, const struct peer *peer, __u64 now)
{
	__u64 when = own_moment(daemon->revived->began_ns), deadline;

	if (peer->attempts && (peer_due(peer, now) || any_is_kept(peer, now)) &&
	    (!deadlines_get(daemon->deadlines, &peer->address, &deadline) || deadline > when))
		deadlines_set(daemon->deadlines, &peer->address, when);
}

static int begin_walk(void *argument)
{
	struct daemon *daemon = argument;

	daemon->revived->began_ns = clock_now_ns();
	return guard_peers_walk(daemon->guard, &daemon->revived->walk);
}

static int walk_on(void *argument)
{
	struct daemon *daemon = argument;
	__u64 now = clock_now_ns();
	const struct peer *peers;
	size_t count;
	int result = guard_peers_next(&daemon->revived->walk, &peers, &count);

	if (result)
		return result;
	for (size_t i = 0; i < count; i++)
		look_at_revived(daemon, &peers[i], now);
	arm_deadline(daemon);
	return count != 0;
}

static void end_walk(int result, bool again, void *argument)
{
	struct daemon *daemon = argument;

	(void)again;
	guard_peers_leave(&daemon->revived->walk);
	if (result)
		log_warning("the peers that were in backoff wait for the periodic check: %s",
			    strerror(-result));
}

static const struct pieces_work walk_work = {
	.begin = begin_walk,
	.step = walk_on,
	.end = end_walk,
	.rest_ratio = REVIVED_REST_RATIO,
	.between_ratio = REVIVED_BETWEEN_RATIO,
};

void upkeep_revived(struct daemon *daemon)
{
	pieces_ask(daemon->revived->pieces);
}

void upkeep_queue_backoffs(struct daemon *daemon, const struct peer *peers, size_t count, __u64 now)
{
	for (size_t i = 0; i < count; i++)
		if (peers[i].next_attempt_ns > now)
			deadlines_set(daemon->deadlines, &peers[i].address, peers[i].next_attempt_ns);
	arm_deadline(daemon);
}

static void on_deadline(evutil_socket_t fd, short what, void *argument)
{
	struct daemon *daemon = argument;
	struct peer_address address;
	__u64 expirations;

	(void)what;
	if (read(fd, &expirations, sizeof(expirations)) < 0 && errno != EAGAIN)
		log_warning("reading the deadline timer: %s", strerror(errno));
	for (int i = 0; i < DUE_AT_A_TIME && deadlines_pop_due(daemon->deadlines, clock_now_ns(), &address);
	     i++) {
		let_go(daemon, &address);
		announce(daemon, &address);
	}
	arm_deadline(daemon);
}

/* ---- heartbeat ---- */

void upkeep_count_losses(struct daemon *daemon)
{
	struct guard_counters counters;

	if (guard_counters_read(daemon->guard, COUNTERS_ENFORCED, &counters) == 0 &&
	    counters.events_lost > daemon->events_lost)
		problem_set(daemon, PROBLEM_EVENTS,
			    "%llu event(s) were lost, the ring was full: the map is checked against the "
			    "sockets",
			    (unsigned long long)(counters.events_lost - daemon->events_lost));
}

int upkeep_count_from_now(struct daemon *daemon)
{
	struct guard_counters counters;
	int result = guard_counters_read(daemon->guard, COUNTERS_ENFORCED, &counters);

	if (result)
		return result;
	daemon->events_lost = counters.events_lost;
	daemon->unheld = counters.dial_unheld + counters.link_unheld;
	return 0;
}

/* What was lost or could not be held is looked for among the sockets. */
static void make_up(struct daemon *daemon)
{
	struct guard_counters counters;
	bool lost, missing;
	__u64 unheld;

	upkeep_count_losses(daemon);
	if (guard_counters_read(daemon->guard, COUNTERS_ENFORCED, &counters))
		return;
	daemon->beats_without_loss++;
	lost = counters.events_lost > daemon->events_lost;
	if (lost)
		daemon->beats_without_loss = 0;
	else if (daemon->beats_without_loss >= LOSS_BEATS)
		problem_clear(daemon, PROBLEM_EVENTS);
	unheld = counters.dial_unheld + counters.link_unheld;
	missing = lost || unheld > daemon->unheld;
	if (reconcile_unguarded(daemon) && ++daemon->beats_unguarded >= RETRY_BEATS)
		missing = true;
	if (!missing)
		return;
	daemon->events_lost = counters.events_lost;
	daemon->unheld = unheld;
	daemon->beats_unguarded = 0;
	/* What was lost may have been an announcement. */
	reconcile_now(daemon, lost);
}

void upkeep_beat(struct daemon *daemon)
{
	const struct guard_daemon sign = { .alive_until_ns = clock_now_ns() + ALIVE_NS,
					   .process_id = getpid(),
					   .asks = daemon->features[FEATURE_SOCKET_OPTIONS] };
	struct peer_address address;
	char text[ADDRESS_TEXT_MAX];
	enum cause cause;
	__u64 left_out;
	int result;

	daemon->beaten = true;
	notify_watchdog();
	places_look(daemon);
	/* One that was taken over gives no sign of the other's life. */
	if (!*daemon->problems[PROBLEM_TAKEN])
		guard_daemon_write(daemon->guard, &sign);
	revival_look(daemon);
	neighbours_beat(daemon);
	own_look(daemon);
	/* Nor does it keep what is decided there. */
	if (!*daemon->problems[PROBLEM_TAKEN])
		decisions_look(daemon);
	/* What was exempt for a time is not after it. */
	result = furnish_exempt(daemon->guard, &daemon->config);
	if (result && result != daemon->exempt_result)
		log_warning("writing the exempt addresses: %s", strerror(-result));
	daemon->exempt_result = result;
	make_up(daemon);
	room_beat(daemon);
	while (throttle_pop_left_out(daemon->throttle, clock_now_ns(), &address, &cause, &left_out))
		log_info("%s: %s: %llu more, not logged one by one", address_to_text(&address, text),
			 names_cause_text(cause), (unsigned long long)left_out);
	while (throttle_pop_cause(daemon->throttle, clock_now_ns(), &cause, &left_out))
		log_info("%s: %llu more, of too many peers to be logged one by one",
			 names_cause_text(cause), (unsigned long long)left_out);
	log_catch_up();
}

static void on_heartbeat(evutil_socket_t fd, short what, void *argument)
{
	(void)fd;
	(void)what;
	upkeep_beat(argument);
}

int upkeep_start(struct daemon *daemon)
{
	const struct timeval heartbeat = { .tv_sec = HEARTBEAT_SECONDS };
	int result;

	daemon->deadlines = deadlines_new(guard_peers_max(daemon->guard));
	daemon->deadline_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	if (!daemon->deadlines || daemon->deadline_fd < 0)
		return daemon->deadline_fd < 0 ? -errno : -ENOMEM;
	daemon->revived = calloc(1, sizeof(*daemon->revived));
	if (!daemon->revived)
		return -ENOMEM;
	daemon->revived->pieces = pieces_new(daemon->base, &walk_work, daemon);
	if (!daemon->revived->pieces)
		return -ENOMEM;
	daemon->deadline_event = event_new(daemon->base, daemon->deadline_fd, EV_READ | EV_PERSIST,
					   on_deadline, daemon);
	daemon->heartbeat_event = event_new(daemon->base, -1, EV_PERSIST, on_heartbeat, daemon);
	if (!daemon->deadline_event || !daemon->heartbeat_event)
		return -ENOMEM;
	/* Before file access is limited: libbpf learns the number of processors from a file, once. */
	result = upkeep_count_from_now(daemon);
	if (result)
		return result;
	event_add(daemon->deadline_event, NULL);
	event_add(daemon->heartbeat_event, &heartbeat);
	return 0;
}

static void drop_event(struct event **event)
{
	if (*event)
		event_free(*event);
	*event = NULL;
}

void upkeep_stop(struct daemon *daemon)
{
	drop_event(&daemon->deadline_event);
	drop_event(&daemon->heartbeat_event);
	if (daemon->deadline_fd >= 0)
		close(daemon->deadline_fd);
	daemon->deadline_fd = -1;
	deadlines_free(daemon->deadlines);
	daemon->deadlines = NULL;
	if (!daemon->revived)
		return;
	pieces_free(daemon->revived->pieces);
	guard_peers_leave(&daemon->revived->walk);
	free(daemon->revived);
	daemon->revived = NULL;
}
