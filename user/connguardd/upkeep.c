// SPDX-License-Identifier: BSD-2-Clause
/* Time and truth: due peers, the periodic check, own addresses. See daemon.h. */
#include "connguardd/daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <connguard/rules.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/notify.h"
#include "edge/furnish.h"
#include "pure/address_text.h"
#include "pure/names.h"

/*
 * Sign of life to the kernel side and to the service manager; also how soon a new own address is
 * known.
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
/*
 * Peers that are announced, or let go, before everything else has its turn: each is an event in the kernel's ring,
 * which has room for some thousands, and of which as many are read at a time (EVENTS_AT_ONCE).
 */
#define DUE_AT_A_TIME 64
/* The second look of a check, later than CHECK_LASTS_NS. */
#define CONFIRM_SECONDS 1

/* ---- due peers ---- */

/* The claim whose SYN waits for the end of the backoff, or NULL: one at a time has it. */
static const struct slot *kept_claim(const struct peer *peer)
{
	for (int i = 0; i < PEER_SLOTS; i++)
		if (peer->slots[i].kind == SLOT_CLAIM && peer->slots[i].flags & SLOT_KEPT)
			return &peer->slots[i];
	return NULL;
}

/* The backoff is over. */
static void let_go(struct daemon *daemon, const struct peer_address *address)
{
	const struct slot *claim;
	struct peer peer;

	if (guard_peer_read(daemon->guard, address, &peer))
		return;
	claim = kept_claim(&peer);
	if (claim)
		syns_let_go(daemon, address, claim->cookie);
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

void upkeep_not_due(struct daemon *daemon, const struct peer_address *address)
{
	if (deadlines_remove(daemon->deadlines, address))
		arm_deadline(daemon);
}

/*
 * Whoever waited for the end of a backoff has not to any more: announced, or let go, within a second and
 * not all at once. (The jitter is for others' sake and none of theirs: an application's own dial passes
 * at once.)
 */
void upkeep_revived(struct daemon *daemon)
{
	cleanup_free struct peer *peers = NULL;
	__u64 now = clock_now_ns();
	size_t count;
	int result = guard_peers_read(daemon->guard, &peers, &count);

	if (result) {
		log_warning("the peers that were in backoff wait for the periodic check: %s",
			    strerror(-result));
		return;
	}
	for (size_t i = 0; i < count; i++)
		if (peers[i].attempts && (peer_due(&peers[i], now) || kept_claim(&peers[i])))
			deadlines_set(daemon->deadlines, &peers[i].address,
				      now + (__u64)rand() % REVIVED_WITHIN_NS);
	arm_deadline(daemon);
}

/* Backoffs whose beginning no event has told: of the time without a daemon, or lost. */
static void queue_backoffs(struct daemon *daemon, const struct peer *peers, size_t count, __u64 now)
{
	for (size_t i = 0; i < count; i++)
		if (peers[i].next_attempt_ns > now)
			deadlines_set(daemon->deadlines, &peers[i].address,
				      peers[i].next_attempt_ns);
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

/* ---- the periodic check ---- */

/* Say and count a repair: zero is normal, so each one deserves its line. */
static void repaired(struct daemon *daemon, const struct check_action *action, const char *what,
		     int result)
{
	char text[ADDRESS_TEXT_MAX];

	address_to_text(&action->address, text);
	if (result == -ENOENT || result == -EBUSY)
		return; /* the world has moved on by itself */
	if (result) {
		log_warning("repair of %s (%s, socket %llu) failed: %s", text, what,
			    (unsigned long long)action->cookie, strerror(-result));
		return;
	}
	daemon->repairs++;
	log_warning("repaired: %s: %s (socket %llu); %llu repairs so far", text, what,
		    (unsigned long long)action->cookie, (unsigned long long)daemon->repairs);
}

/*
 * Take a link under guard that no slot showed. For lack of room or memory it may not come to be, and
 * that is no repair: it is tried again with each check, and a problem until then.
 */
static void adopt(struct daemon *daemon, const struct check_action *action, bool map_full)
{
	const struct adoption adoption = { .address = action->address,
					   .direction = action->direction,
					   .local_port = action->local_port,
					   .remote_port = action->remote_port,
					   .local = action->local };
	struct tcp_socket socket;
	struct peer peer;
	int result = -ENOSPC;

	/* To try it in vain would be counted as one more link that could not be held. */
	if (!map_full || guard_peer_read(daemon->guard, &action->address, &peer) == 0)
		result = guard_adopt(daemon->guard, &action->cookie, &adoption, 1);
	if (result != -ENOSPC && result != -ENOMEM && result != -E2BIG &&
	    (result || furnish_shown(daemon->guard, &action->address, action->cookie))) {
		repaired(daemon, action, "a link that no slot showed", result);
		return;
	}
	/* Gone by itself meanwhile, or still there and not guarded. */
	if (sockets_find(daemon->surroundings.sockets, action->cookie, &socket) == 0 &&
	    socket.state == TCP_ESTABLISHED)
		daemon->unguarded++;
}

static void act(struct daemon *daemon, const struct check_action *action,
		const struct check_input *input, bool confirming)
{
	struct guard_command command = { .address = action->address, .cookie = action->cookie };

	switch (action->kind) {
	case CHECK_EXPIRE:
		command.operation = COMMAND_EXPIRE;
		guard_command(daemon->guard, &command);
		break;
	case CHECK_RELEASE:
		command.operation = COMMAND_RELEASE;
		command.value = CAUSE_link_released;
		repaired(daemon, action, "a slot with no socket behind it",
			 guard_command(daemon->guard, &command));
		break;
	case CHECK_SPARE:
		command.operation = COMMAND_SPARE;
		repaired(daemon, action, "a link too many is the last one: it stays",
			 guard_command(daemon->guard, &command));
		break;
	case CHECK_ADOPT:
		adopt(daemon, action, input->peer_count >= guard_peers_max(daemon->guard));
		break;
	case CHECK_DESTROY:
		/* One that a new link has only just come in the place of has its time first. */
		if (!replaced_awaits(daemon, &action->address, action->cookie))
			happenings_destroy(daemon, &action->address, action->cookie);
		break;
	case CHECK_FORGET:
		command.operation = COMMAND_FORGET;
		command.until_ns = input->now_ns > input->forget_after_ns ?
					   input->now_ns - input->forget_after_ns :
					   0;
		guard_command(daemon->guard, &command);
		break;
	case CHECK_ANNOUNCE_DUE:
		if (!confirming)
			deadlines_set(daemon->deadlines, &action->address, input->now_ns);
		break;
	}
}

static bool port_among(const __u16 *ports, size_t count, __u16 port)
{
	for (size_t i = 0; i < count; i++)
		if (ports[i] == port)
			return true;
	return false;
}

/* Say it once of each port whose connections pass by the guard, until that has changed. */
static void look_for_strange_ports(struct daemon *daemon)
{
	__u16 ports[CONFIG_PORTS_MAX];
	size_t count;

	if (surroundings_strange_ports(&daemon->surroundings, &daemon->config, ports, &count))
		return;
	for (size_t i = 0; i < count; i++)
		if (!port_among(daemon->strange_ports, daemon->strange_port_count, ports[i]))
			log_warning("somebody listens on port %u with a socket made outside cgroup %s: "
				    "what it accepts is not guarded",
				    ports[i], daemon->config.cgroup);
	memcpy(daemon->strange_ports, ports, count * sizeof(*ports));
	daemon->strange_port_count = count;
}

/*
 * Compare the map with the sockets and act on it. `confirming`: the second look, which announces
 * nobody again.
 */
static void check(struct daemon *daemon, bool confirming)
{
	cleanup_free struct check_action *actions = NULL;
	cleanup_free struct seen_socket *seen = NULL;
	cleanup_free struct peer *peers = NULL;
	struct check_input input = { .forget_after_ns = daemon->config.forget_after_ns };
	struct guard_policy policy;
	size_t action_count;
	int result;

	/*
	 * The sockets first. A link that comes up in between is then a slot without a socket, one that
	 * ends (its slot goes first, its socket a moment later) a socket without a slot, and neither
	 * happens to a link twice. Were the map first, both would make a socket without a slot, and a
	 * link that begins in one look and ends in the next would be adopted dead.
	 */
	result = surroundings_sockets(&daemon->surroundings, &daemon->config, &seen,
				      &input.socket_count);
	if (!result)
		result = guard_peers_read(daemon->guard, &peers, &input.peer_count);
	if (!result)
		result = guard_policy_read(daemon->guard, &policy);
	if (!result) {
		input.peers = peers;
		input.sockets = seen;
		input.policy = &policy;
		input.now_ns = clock_now_ns();
		result = check_run(&input, daemon->check_memory, &actions, &action_count);
	}
	if (result) {
		log_warning("the periodic check could not look: %s", strerror(-result));
		return;
	}
	daemon->unguarded = 0;
	for (size_t i = 0; i < action_count; i++)
		act(daemon, &actions[i], &input, confirming);
	if (daemon->unguarded)
		problem_set(daemon, PROBLEM_UNGUARDED,
			    "%u link(s) are not guarded, for lack of room in the peers map or of memory "
			    "for their sockets: tried again until there is some",
			    daemon->unguarded);
	else
		problem_clear(daemon, PROBLEM_UNGUARDED);
	queue_backoffs(daemon, peers, input.peer_count, input.now_ns);
}

static void on_check(evutil_socket_t fd, short what, void *argument)
{
	(void)fd;
	(void)what;
	upkeep_check_now(argument);
}

static void on_confirm(evutil_socket_t fd, short what, void *argument)
{
	(void)fd;
	(void)what;
	check(argument, true);
}

void upkeep_check_now(struct daemon *daemon)
{
	const struct timeval soon = { .tv_sec = CONFIRM_SECONDS };

	check(daemon, false);
	look_for_strange_ports(daemon);
	if (!evtimer_pending(daemon->confirm_event, NULL))
		evtimer_add(daemon->confirm_event, &soon);
}

void upkeep_reschedule(struct daemon *daemon)
{
	const struct timeval interval = {
		.tv_sec = daemon->config.check_interval_ns / NS_PER_SECOND,
		.tv_usec = daemon->config.check_interval_ns % NS_PER_SECOND / 1000,
	};

	event_add(daemon->check_event, &interval);
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

/* What was lost or could not be held is looked for among the sockets. */
static void make_up(struct daemon *daemon)
{
	struct guard_counters counters;
	__u64 unheld;
	bool missing;

	upkeep_count_losses(daemon);
	if (guard_counters_read(daemon->guard, COUNTERS_ENFORCED, &counters))
		return;
	daemon->beats_without_loss++;
	if (counters.events_lost > daemon->events_lost)
		daemon->beats_without_loss = 0;
	else if (daemon->beats_without_loss >= LOSS_BEATS)
		problem_clear(daemon, PROBLEM_EVENTS);
	unheld = counters.dial_unheld + counters.link_unheld;
	missing = counters.events_lost > daemon->events_lost || unheld > daemon->unheld;
	if (daemon->unguarded && ++daemon->beats_unguarded >= RETRY_BEATS)
		missing = true;
	if (!missing)
		return;
	daemon->events_lost = counters.events_lost;
	daemon->unheld = unheld;
	daemon->beats_unguarded = 0;
	upkeep_check_now(daemon);
}

static void on_heartbeat(evutil_socket_t fd, short what, void *argument)
{
	struct daemon *daemon = argument;
	const struct guard_daemon sign = { .alive_until_ns = clock_now_ns() + ALIVE_NS,
					   .process_id = getpid(),
					   .asks = daemon->features[FEATURE_SOCKET_OPTIONS] };
	struct peer_address address;
	char text[ADDRESS_TEXT_MAX];
	enum cause cause;
	__u64 left_out;
	int result;

	(void)fd;
	(void)what;
	guard_daemon_write(daemon->guard, &sign);
	notify_watchdog();
	places_look(daemon);
	revival_look(daemon);
	/* Addresses of this host come and go. */
	result = furnish_exempt(daemon->guard, &daemon->config);
	if (result && result != daemon->exempt_result)
		log_warning("writing the exempt addresses: %s", strerror(-result));
	daemon->exempt_result = result;
	make_up(daemon);
	while (throttle_pop_left_out(daemon->throttle, clock_now_ns(), &address, &cause, &left_out))
		log_info("%s: %s: %llu more, not logged one by one", address_to_text(&address, text),
			 names_cause_text(cause), (unsigned long long)left_out);
	while (throttle_pop_cause(daemon->throttle, clock_now_ns(), &cause, &left_out))
		log_info("%s: %llu more, of too many peers to be logged one by one",
			 names_cause_text(cause), (unsigned long long)left_out);
	log_catch_up();
}

int upkeep_start(struct daemon *daemon)
{
	const struct timeval heartbeat = { .tv_sec = HEARTBEAT_SECONDS };
	struct guard_counters counters;
	int result;

	daemon->check_memory = check_memory_new();
	daemon->deadlines = deadlines_new(daemon->config.max_peers);
	daemon->deadline_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	if (!daemon->check_memory || !daemon->deadlines || daemon->deadline_fd < 0)
		return daemon->deadline_fd < 0 ? -errno : -ENOMEM;
	daemon->deadline_event = event_new(daemon->base, daemon->deadline_fd, EV_READ | EV_PERSIST,
					   on_deadline, daemon);
	daemon->check_event = event_new(daemon->base, -1, EV_PERSIST, on_check, daemon);
	daemon->confirm_event = evtimer_new(daemon->base, on_confirm, daemon);
	daemon->heartbeat_event = event_new(daemon->base, -1, EV_PERSIST, on_heartbeat, daemon);
	if (!daemon->deadline_event || !daemon->check_event || !daemon->confirm_event ||
	    !daemon->heartbeat_event)
		return -ENOMEM;
	result = guard_counters_read(daemon->guard, COUNTERS_ENFORCED, &counters);
	if (result)
		return result;
	daemon->events_lost = counters.events_lost;
	daemon->unheld = counters.dial_unheld + counters.link_unheld;
	event_add(daemon->deadline_event, NULL);
	event_add(daemon->heartbeat_event, &heartbeat);
	upkeep_reschedule(daemon);
	on_heartbeat(-1, 0, daemon);
	/*
	 * The first look at once: what nobody watched while there was no daemon, backoffs that have
	 * begun, and the peers that are due.
	 */
	on_check(-1, 0, daemon);
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
	drop_event(&daemon->check_event);
	drop_event(&daemon->confirm_event);
	drop_event(&daemon->heartbeat_event);
	if (daemon->deadline_fd >= 0)
		close(daemon->deadline_fd);
	daemon->deadline_fd = -1;
	deadlines_free(daemon->deadlines);
	check_memory_free(daemon->check_memory);
	daemon->deadlines = NULL;
	daemon->check_memory = NULL;
}
