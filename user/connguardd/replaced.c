// SPDX-License-Identifier: BSD-2-Clause
/*
 * Links in whose place a new one has come. See daemon.h.
 *
 * Such a link was asked for a sign of life in vain, and its peer has completed the handshake of another. That
 * may be because the peer's end is gone. Or both ends wait for TCP, which repeats what an outage has lost as
 * late as the outage was long, and a second task of the peer has dialed meanwhile, whose application ends the
 * duplicate at once. So the link is destroyed a moment later. It is spared when the new one is over by then,
 * and when it has been heard the new one goes, as any duplicate does.
 */
#include "connguardd/daemon.h"

#include <errno.h>
#include <stdlib.h>

#include <connguard/rules.h>

#include "base/clock.h"
#include "edge/links.h"
#include "edge/sockets.h"

/* Within this time two applications tell each other that a link is one too many. */
#define REPLACED_AFTER_NS (3 * NS_PER_SECOND)
/* What has just been heard may be the end of it: data that was lost first, then the FIN. */
#define HEARD_FOR_NS NS_PER_SECOND
#define LOOK_NS	     (500 * NS_PER_MS)
/* Links that are waited for at a time; of more, each goes at once. */
#define REPLACED_MAX 256

struct replaced_link {
	struct peer_address address;
	__u64 cookie, newcomer;
	__u64 since_ns; /* when the new one came */
};

struct replaced {
	struct event *look;
	struct replaced_link links[REPLACED_MAX];
	size_t count;
};

static void look_soon(struct replaced *replaced)
{
	const struct timeval interval = { .tv_usec = LOOK_NS / 1000 };

	if (replaced->count && !evtimer_pending(replaced->look, NULL))
		evtimer_add(replaced->look, &interval);
}

static void destroy(struct daemon *daemon, const struct replaced_link *link)
{
	if (links_destroy_replaced(daemon->guard, daemon->surroundings.sockets, &link->address,
				   link->cookie) == -ENOENT)
		happenings_destroy(daemon, &link->address, link->cookie);
}

/* The new one goes: when it is over the other is spared. */
static void destroy_newcomer(struct daemon *daemon, const struct replaced_link *link,
			     const struct slot *slot)
{
	struct tcp_socket newcomer;

	if (links_socket(daemon->surroundings.sockets, &link->address, slot, &newcomer) == 0)
		sockets_destroy(daemon->surroundings.sockets, &newcomer);
}

/*
 * Has the one that goes destroyed, once that can be said. True: to be looked at again, for it is too early, or
 * the new one, which goes, was there just now.
 */
static bool settle(struct daemon *daemon, const struct replaced_link *link, __u64 now)
{
	const struct slot *slot = NULL;
	struct peer peer;

	if (guard_peer_read(daemon->guard, &link->address, &peer) == 0)
		slot = slot_of(&peer, link->cookie);
	if (!slot || slot->kind != SLOT_LINK || !(slot->flags & SLOT_DOOMED))
		return false;
	if (now - link->since_ns < REPLACED_AFTER_NS)
		return true;
	if (slot->heard_ns <= link->since_ns) {
		destroy(daemon, link);
		return false;
	}
	if (now - slot->heard_ns < HEARD_FOR_NS && now - link->since_ns < 2 * REPLACED_AFTER_NS)
		return true;
	slot = slot_of(&peer, link->newcomer);
	if (slot)
		destroy_newcomer(daemon, link, slot);
	return slot != NULL;
}

static void on_look(evutil_socket_t fd, short what, void *argument)
{
	struct daemon *daemon = argument;
	struct replaced *replaced = daemon->replaced;
	__u64 now = clock_now_ns();
	size_t kept = 0;

	(void)fd;
	(void)what;
	/* Who observes destroys nothing. */
	if (!daemon_enforces(daemon))
		replaced->count = 0;
	for (size_t i = 0; i < replaced->count; i++)
		if (settle(daemon, &replaced->links[i], now))
			replaced->links[kept++] = replaced->links[i];
	replaced->count = kept;
	look_soon(replaced);
}

static void wait_for_it(struct daemon *daemon, const struct replaced_link *link)
{
	struct replaced *replaced = daemon->replaced;

	for (size_t i = 0; i < replaced->count; i++)
		if (replaced->links[i].cookie == link->cookie)
			return;
	if (replaced->count == REPLACED_MAX) {
		destroy(daemon, link);
		return;
	}
	replaced->links[replaced->count++] = *link;
	look_soon(replaced);
}

void replaced_later(struct daemon *daemon, const struct guard_event *event)
{
	wait_for_it(daemon, &(struct replaced_link){ .address = event->address,
						     .cookie = event->other_cookie,
						     .newcomer = event->cookie,
						     .since_ns = event->time_ns });
}

bool replaced_awaits(struct daemon *daemon, const struct peer_address *address, __u64 cookie)
{
	const struct slot *newcomer = NULL, *link;
	struct peer peer;

	for (size_t i = 0; i < daemon->replaced->count; i++)
		if (daemon->replaced->links[i].cookie == cookie)
			return true;
	if (guard_peer_read(daemon->guard, address, &peer))
		return false;
	link = slot_of(&peer, cookie);
	/* A duplicate that has lost otherwise has no moment. */
	if (!link || !(link->flags & SLOT_UNANSWERED))
		return false;
	for (int i = 0; i < PEER_SLOTS; i++)
		if (slot_is_link(&peer.slots[i]) &&
		    (!newcomer || peer.slots[i].since_ns > newcomer->since_ns))
			newcomer = &peer.slots[i];
	if (!newcomer || clock_now_ns() - newcomer->since_ns >= REPLACED_AFTER_NS)
		return false;
	wait_for_it(daemon, &(struct replaced_link){ .address = *address,
						     .cookie = cookie,
						     .newcomer = newcomer->cookie,
						     .since_ns = newcomer->since_ns });
	return true;
}

void replaced_newcomer_ended(struct daemon *daemon, const struct guard_event *event)
{
	for (size_t i = 0; i < daemon->replaced->count; i++) {
		const struct replaced_link *link = &daemon->replaced->links[i];
		const struct guard_command command = { .operation = COMMAND_SPARE,
						       .address = link->address,
						       .cookie = link->cookie };

		/* Where the peer has another link by now it stays doomed, and goes in its time. */
		if (link->newcomer == event->cookie)
			guard_command(daemon->guard, &command);
	}
}

int replaced_start(struct daemon *daemon)
{
	daemon->replaced = calloc(1, sizeof(*daemon->replaced));
	if (!daemon->replaced)
		return -ENOMEM;
	daemon->replaced->look = evtimer_new(daemon->base, on_look, daemon);
	return daemon->replaced->look ? 0 : -ENOMEM;
}

void replaced_stop(struct daemon *daemon)
{
	if (daemon->replaced && daemon->replaced->look)
		event_free(daemon->replaced->look);
	free(daemon->replaced);
	daemon->replaced = NULL;
}
