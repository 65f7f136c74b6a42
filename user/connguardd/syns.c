// SPDX-License-Identifier: BSD-2-Clause
/*
 * SYNs that leave between two of TCP's own timers. See daemon.h.
 *
 * A dial that was kept is let go when the backoff ends; TCP would send its SYN at its next try, which may be
 * seconds later. Of two ends that dial from the port on which they listen one gives its dial up for the
 * other's, whose SYN it had to drop for that. And of two dials that cross after an outage, the answer to
 * the older is dropped for the other's sake, which the other end may have given up already. So the daemon
 * sends a copy of the SYN, once more than TCP does: what TCP sends, and when, stays as it is.
 *
 * A knock that was held while a quiet link was asked is let in when that is left unanswered, or when our own
 * application closes that link, and not when its sender next repeats it: a dial that has lasted for long does
 * so every sixteen seconds. Not when an RST ends the link: many applications need a moment after that, and
 * turn away who comes in it.
 */
#include "connguardd/daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <connguard/rules.h>

#include "base/clock.h"
#include "base/log.h"
#include "edge/raw.h"
#include "pure/syn_packet.h"

/*
 * The first is asking again, the second comes when the other end has had the time to end its dial, and the
 * third if it was slow.
 */
static const unsigned int again_ms[] = { 20, 60, 200 };
/*
 * An answer is asked for anew when the other end has had a round trip, and after the half second in which
 * Linux answers a repeated SYN once (tcp_invalid_ratelimit).
 */
static const unsigned int answer_again_ms[] = { 120, 700 };
/* A knock is let in so long after it was held. */
#define HELD_MAX_NS (5 * NS_PER_SECOND)
/* Dials that are waited for at a time; of more, TCP's own timers see to the rest. */
#define WAITING_MAX 64

struct waiting {
	struct daemon *daemon;
	struct event *timer; /* NULL: free */
	struct peer_address address;
	__u64 cookie;
	const unsigned int *times_ms;
	size_t sent, count;
};

struct syns {
	struct raw raw;
	struct waiting waiting[WAITING_MAX];
};

/* 0, or a negative errno: it cannot be sent, and TCP's own timers remain. */
static int send_again(struct daemon *daemon, const struct peer_address *address, __u64 cookie)
{
	__u64 now = clock_now_ns();
	struct ready_syn syn;
	int result = guard_syn_read(daemon->guard, cookie, &syn);

	if (result)
		return result;
	if (syn.length > sizeof(syn.bytes) ||
	    !syn_packet_renew(syn.bytes, syn.length, (__u32)((now - syn.time_ns) / NS_PER_MS)))
		return -EBADMSG;
	return raw_send(&daemon->syns->raw, syn.bytes, syn.length, address, syn.mark, syn.interface);
}

void syns_let_go(struct daemon *daemon, const struct peer_address *address, __u64 cookie)
{
	const struct guard_command command = { .operation = COMMAND_LET_GO,
					       .address = *address,
					       .cookie = cookie };

	/* Not kept any more, or in a backoff anew: nothing to do. */
	if (guard_command(daemon->guard, &command) == 0)
		send_again(daemon, address, cookie);
}

void syns_let_in(struct daemon *daemon, const struct peer_address *address)
{
	struct peer_address here;
	struct ready_syn syn;

	/* An old one is of a dial that its sender may have given up. */
	if (guard_held_syn_take(daemon->guard, address, &syn) ||
	    clock_now_ns() - syn.time_ns > HELD_MAX_NS || syn.length > sizeof(syn.bytes) ||
	    !syn_packet_renew(syn.bytes, syn.length, 0))
		return;
	/* By way of the loopback device it comes to the listener, and to the hooks, as it came before. */
	here = syn_packet_destination(syn.bytes);
	raw_send(&daemon->syns->raw, syn.bytes, syn.length, &here, 0, 0);
}

static void wait_on(struct waiting *waiting)
{
	const struct timeval soon = { .tv_usec = (suseconds_t)waiting->times_ms[waiting->sent] * 1000 };

	evtimer_add(waiting->timer, &soon);
}

static void on_wait(evutil_socket_t fd, short what, void *argument)
{
	struct waiting *waiting = argument;
	struct daemon *daemon = waiting->daemon;
	const struct slot *claim = NULL;
	struct peer peer;

	(void)fd;
	(void)what;
	if (guard_peer_read(daemon->guard, &waiting->address, &peer) == 0)
		claim = slot_of(&peer, waiting->cookie);
	if (claim && claim->kind == SLOT_CLAIM &&
	    send_again(daemon, &waiting->address, waiting->cookie) == 0 &&
	    ++waiting->sent < waiting->count) {
		wait_on(waiting);
		return;
	}
	event_free(waiting->timer);
	waiting->timer = NULL;
}

void syns_send_soon(struct daemon *daemon, const struct guard_event *event)
{
	bool answered = event->cause == CAUSE_answer_tie_lost;
	struct waiting *free_place = NULL;

	for (size_t i = 0; i < WAITING_MAX; i++) {
		struct waiting *waiting = &daemon->syns->waiting[i];

		if (waiting->timer && waiting->cookie == event->cookie)
			return;
		if (!waiting->timer)
			free_place = waiting;
	}
	if (!free_place)
		return;
	*free_place = (struct waiting){ .daemon = daemon,
					.address = event->address,
					.cookie = event->cookie,
					.times_ms = answered ? answer_again_ms : again_ms,
					.count = answered ? sizeof(answer_again_ms) / sizeof(*answer_again_ms) :
							    sizeof(again_ms) / sizeof(*again_ms),
					.timer = evtimer_new(daemon->base, on_wait, free_place) };
	if (free_place->timer)
		wait_on(free_place);
}

void syns_follow(struct daemon *daemon)
{
	struct raw fresh;

	if (!daemon->syns || raw_open(&fresh))
		return;
	raw_close(&daemon->syns->raw);
	daemon->syns->raw = fresh;
}

int syns_start(struct daemon *daemon)
{
	int result;

	daemon->syns = calloc(1, sizeof(*daemon->syns));
	if (!daemon->syns)
		return -ENOMEM;
	result = raw_open(&daemon->syns->raw);
	if (result) {
		daemon->syns->raw = (struct raw)RAW_NONE;
		log_warning("the SYN of a dial that was kept waits for TCP's own timer: a raw socket "
			    "cannot be opened (%s)",
			    strerror(-result));
	}
	return 0;
}

void syns_stop(struct daemon *daemon)
{
	if (!daemon->syns)
		return;
	for (size_t i = 0; i < WAITING_MAX; i++)
		if (daemon->syns->waiting[i].timer)
			event_free(daemon->syns->waiting[i].timer);
	raw_close(&daemon->syns->raw);
	free(daemon->syns);
	daemon->syns = NULL;
}
