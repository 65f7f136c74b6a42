// SPDX-License-Identifier: BSD-2-Clause
/*
 * SYNs that leave between two of TCP's own timers. See daemon.h.
 *
 * A dial that was kept is let go when the backoff ends, or the link beside it; TCP would send its SYN at its next
 * try, which may be seconds later. Of two ends that dial from the port on which they listen one gives its dial up for the
 * other's, whose SYN it had to drop for that: the other asks again, and the SYN that has ended the dial comes to the
 * listener. And of two dials that cross after an outage, the answer to
 * the older is dropped for the other's sake, which the other end may have given up already, or because there
 * is no room beside a quiet link, which ends a moment later. So the daemon sends a copy of the SYN, once more
 * than TCP does: what TCP sends, and when, stays as it is.
 *
 * A knock that was held for our own dial comes in when the dial has come to nothing, or its link has ended at once: the
 * other end turns newcomers away while it dials, say.
 * One that was held while a quiet link was asked is let in when that is left unanswered, or when our own
 * application closes that link, and not when its sender next repeats it: a dial that has lasted for long does
 * so every sixteen seconds. Not at once when the other end ends the link: many applications need a moment after
 * that, and turn away who comes in it. Then, and when the link has answered, which refuses the knock, it comes to
 * the hooks again a fifth of a second later; and when the time is over for which it is held at most,
 * whatever has come of the question.
 */
#include "connguardd/daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <connguard/rules.h>

#include "base/clock.h"
#include "base/log.h"
#include "edge/host.h"
#include "pure/life.h"
#include "pure/names.h"
#include "pure/packet.h"

/*
 * The first is asking again: at once, for TCP takes the time since its own SYN for the round trip. The second comes
 * when the other end has had the time to end its dial, and the third if it was slow.
 */
static const unsigned int again_ms[] = { 1, 60, 200 };
/*
 * The answer that is held for a race is asked for anew when the race is over, and after the half second in which
 * Linux answers a repeated SYN once (tcp_invalid_ratelimit).
 */
#define ANSWER_AGAIN_MS 700
/* So long after the first answer is one asked for when there is room for it: a quiet link has been asked by then. */
#define ROOM_AWAITED_MS 5000
/*
 * An application that learns of the end of its link has this moment before the next one comes. Not as long as the
 * sender takes to repeat its SYN: until then our own application has dialed as well, and services give a dial up
 * after a second.
 */
#define MOMENT_NS (200 * NS_PER_MS)
/* The last question leaves shortly before the hold is over, and LIFE_PATIENCE_NS is for its answer. */
#define HOLD_OVER_NS (LIFE_PATIENCE_NS + 200 * NS_PER_MS)
/* Dials that are waited for at a time; of more, TCP's own timers see to the rest. */
#define WAITING_MAX 64

struct waiting {
	struct daemon *daemon;
	struct event *timer; /* NULL: free */
	struct peer_address address;
	__u64 cookie; /* of the dial; 0: it is the peer's knock that is let in */
	enum cause cause; /* why it waits */
	__u64 let_in_ns; /* when the knock is let in; of a dial 0 */
	unsigned int times_ms[sizeof(again_ms) / sizeof(*again_ms)];
	size_t sent, count;
	bool for_room; /* its answer is held, and passes when there is room for one more link */
};

struct syns {
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
	    !packet_renew_syn(syn.bytes, syn.length, (__u32)((now - syn.time_ns) / NS_PER_MS)))
		return -EBADMSG;
	return packets_send(daemon, syn.bytes, syn.length, address, syn.mark, syn.interface);
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

	if (guard_held_syn_read(daemon->guard, address, &syn))
		return;
	guard_held_syn_forget(daemon->guard, address);
	/* An old one is of a dial that its sender may have given up. */
	if (clock_now_ns() >= syn.until_ns || syn.length > sizeof(syn.bytes) ||
	    !packet_renew_syn(syn.bytes, syn.length, 0))
		return;
	/* Who listens at another interface than it would come by would not get it, and an RST would be the answer. */
	here = packet_destination(syn.bytes);
	if (syn.interface && !host_is_at(&here, syn.interface))
		return;
	packets_let_in(daemon, syn.bytes, syn.length);
}

/* Until the SYN is to be sent again, or there is nothing left to wait for. */
static void wait_on(struct waiting *waiting)
{
	unsigned int ms = waiting->sent < waiting->count ? waiting->times_ms[waiting->sent] :
							   ROOM_AWAITED_MS;
	const struct timeval soon = { .tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000 };

	evtimer_add(waiting->timer, &soon);
}

static void wait_no_more(struct waiting *waiting)
{
	event_free(waiting->timer);
	waiting->timer = NULL;
}

/* Is its dial under way still? What follows from *ret_peer is the caller's. */
static bool is_dialing(const struct waiting *waiting, struct peer *ret_peer)
{
	const struct slot *claim;

	if (guard_peer_read(waiting->daemon->guard, &waiting->address, ret_peer))
		return false;
	claim = slot_of(ret_peer, waiting->cookie);
	return claim && claim->kind == SLOT_CLAIM;
}

static void on_wait(evutil_socket_t fd, short what, void *argument)
{
	struct waiting *waiting = argument;
	struct peer peer;

	(void)fd;
	(void)what;
	if (!waiting->cookie)
		syns_let_in(waiting->daemon, &waiting->address);
	if (is_dialing(waiting, &peer) && waiting->sent < waiting->count &&
	    (send_again(waiting->daemon, &waiting->address, waiting->cookie) == 0 || waiting->for_room) &&
	    (++waiting->sent < waiting->count || waiting->for_room))
		wait_on(waiting);
	else
		wait_no_more(waiting);
}

/* When the SYN of the event's dial leaves again, from now on. */
static void plan(struct waiting *waiting, const struct guard_event *event)
{
	__u64 now = clock_now_ns(), race_ms = 0;

	if (names_cause_subject(event->cause) != SUBJECT_ANSWER) {
		memcpy(waiting->times_ms, again_ms, sizeof(again_ms));
		waiting->count = sizeof(again_ms) / sizeof(*again_ms);
		return;
	}
	waiting->for_room = true;
	if (event->cause != CAUSE_answer_tie_lost)
		return;
	if (event->until_ns > now)
		race_ms = (event->until_ns - now) / NS_PER_MS + 1;
	if (race_ms < ANSWER_AGAIN_MS)
		waiting->times_ms[waiting->count++] = (unsigned int)race_ms;
	waiting->times_ms[waiting->count++] = ANSWER_AGAIN_MS;
}

void syns_send_into_room(struct daemon *daemon, const struct peer_address *address)
{
	struct guard_policy policy;
	struct peer peer;

	for (size_t i = 0; i < WAITING_MAX; i++) {
		struct waiting *waiting = &daemon->syns->waiting[i];

		if (!waiting->timer || !waiting->for_room || !address_equal(&waiting->address, address))
			continue;
		/* A SYN without its dial would be a knock of nobody's. */
		if (!is_dialing(waiting, &peer))
			wait_no_more(waiting);
		else if (guard_policy_read(daemon->guard, &policy) == 0 &&
			 peer_room(&peer, &policy, clock_now_ns()) &&
			 send_again(daemon, address, waiting->cookie) == 0)
			waiting->for_room = false;
	}
}

/* The place of this dial, or with cookie 0 of this peer's knock, or a free one; NULL: there is none. */
static struct waiting *place_of(struct syns *syns, const struct peer_address *address, __u64 cookie)
{
	struct waiting *free_place = NULL;
	struct peer peer;

	for (size_t i = 0; i < WAITING_MAX; i++) {
		struct waiting *waiting = &syns->waiting[i];

		if (waiting->timer && waiting->cookie == cookie &&
		    address_equal(&waiting->address, address))
			return waiting;
		if (!waiting->timer)
			free_place = waiting;
	}
	for (size_t i = 0; i < WAITING_MAX && !free_place; i++)
		if (syns->waiting[i].cookie && !is_dialing(&syns->waiting[i], &peer)) {
			free_place = &syns->waiting[i];
			wait_no_more(free_place);
		}
	return free_place;
}

/* The knock that is kept comes in then, if nothing has let it in before. */
static void let_in_by(struct daemon *daemon, const struct peer_address *address, __u64 time_ns)
{
	__u64 now = clock_now_ns(), left = time_ns > now ? time_ns - now : 0;
	const struct timeval interval = { .tv_sec = (time_t)(left / NS_PER_SECOND),
					  .tv_usec = (suseconds_t)(left % NS_PER_SECOND / 1000) };
	struct waiting *place;
	struct ready_syn syn;

	place = place_of(daemon->syns, address, 0);
	if (!place || (place->timer && place->let_in_ns <= time_ns) ||
	    guard_held_syn_read(daemon->guard, address, &syn))
		return;
	if (place->timer)
		wait_no_more(place);
	*place = (struct waiting){ .daemon = daemon,
				   .address = *address,
				   .let_in_ns = time_ns,
				   .timer = evtimer_new(daemon->base, on_wait, place) };
	if (place->timer)
		evtimer_add(place->timer, &interval);
}

void syns_let_in_later(struct daemon *daemon, const struct peer_address *address)
{
	let_in_by(daemon, address, clock_now_ns() + MOMENT_NS);
}

void syns_let_in_at_last(struct daemon *daemon, const struct guard_event *event)
{
	let_in_by(daemon, &event->address, event->until_ns + HOLD_OVER_NS);
}

void syns_send_soon(struct daemon *daemon, const struct guard_event *event)
{
	struct waiting *place = place_of(daemon->syns, &event->address, event->cookie);

	/* The same again says nothing new. */
	if (!place || (place->timer && place->cause == event->cause))
		return;
	if (place->timer)
		wait_no_more(place);
	*place = (struct waiting){ .daemon = daemon,
				   .address = event->address,
				   .cookie = event->cookie,
				   .cause = event->cause,
				   .timer = evtimer_new(daemon->base, on_wait, place) };
	if (!place->timer)
		return;
	plan(place, event);
	wait_on(place);
}

int syns_start(struct daemon *daemon)
{
	daemon->syns = calloc(1, sizeof(*daemon->syns));
	return daemon->syns ? 0 : -ENOMEM;
}

void syns_stop(struct daemon *daemon)
{
	if (!daemon->syns)
		return;
	for (size_t i = 0; i < WAITING_MAX; i++)
		if (daemon->syns->waiting[i].timer)
			event_free(daemon->syns->waiting[i].timer);
	free(daemon->syns);
	daemon->syns = NULL;
}
