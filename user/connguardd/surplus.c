// SPDX-License-Identifier: BSD-2-Clause
/*
 * Links that are older than the guard and more than their peer may have, with `adopt = trim`. See daemon.h.
 *
 * All links of such a peer are asked for a sign of life. When each has answered or not, those too many of the ones that
 * have are doomed by the rules (link_trim()), and destroyed as any link too many is. In observe mode nobody is asked, and
 * the rules only count.
 */
#include "connguardd/daemon.h"

#include <errno.h>
#include <stdlib.h>

#include <connguard/rules.h>

#include "base/clock.h"
#include "edge/links.h"
#include "pure/surplus.h"

/* Peers that are looked at together; the links of them all are no more than may be on trial at a time. */
#define PEERS_AT_A_TIME 128
#define LOOK_NS		(200 * NS_PER_MS)
/* Who has not answered by then is as one that does not. */
#define ANSWERS_WITHIN_NS (ASK_MAX_NS + NS_PER_SECOND)

struct crowd {
	struct peer_address address;
	__u64 asked_ns; /* 0: not yet */
};

struct surplus {
	struct event *look;
	struct crowd crowds[PEERS_AT_A_TIME];
	size_t count;
	bool left_out; /* there was no room for another one */
	bool ended;    /* of these, some link had to go */
};

static void look_soon(struct surplus *surplus)
{
	const struct timeval interval = { .tv_usec = LOOK_NS / 1000 };

	if (surplus->count && !evtimer_pending(surplus->look, NULL))
		evtimer_add(surplus->look, &interval);
}

void surplus_found(struct daemon *daemon, const struct peer_address *address)
{
	struct surplus *surplus = daemon->surplus;

	if (daemon->config.adopt != ADOPT_TRIM)
		return;
	for (size_t i = 0; i < surplus->count; i++)
		if (address_equal(&surplus->crowds[i].address, address))
			return;
	if (surplus->count == PEERS_AT_A_TIME) {
		surplus->left_out = true;
		return;
	}
	surplus->crowds[surplus->count++] = (struct crowd){ .address = *address };
	look_soon(surplus);
}

void surplus_look_at(struct daemon *daemon, const struct peer *peer, const struct guard_policy *policy)
{
	/* Who observes has counted it when it was taken under guard. */
	if (daemon->config.adopt == ADOPT_TRIM && surplus_has(peer, policy, clock_now_ns()) &&
	    daemon_enforces(daemon))
		surplus_found(daemon, &peer->address);
}

/* Whether an application has the link; it does not matter of one whose socket is gone. */
static bool is_held(struct daemon *daemon, const struct peer *peer, const struct slot *slot)
{
	struct tcp_socket socket;

	return links_socket(daemon->surroundings.sockets, &peer->address, slot, &socket) == 0 && socket.inode;
}

/* Of these links, so many stay as the peer may have. */
static void trim(struct daemon *daemon, const struct peer *peer, const struct guard_policy *policy,
		 struct surplus_link *links, size_t count)
{
	struct guard_command command = { .operation = COMMAND_TRIM, .address = peer->address };

	surplus_order(links, count);
	for (size_t i = peer_limit(peer, policy); i < count; i++) {
		command.cookie = links[i].cookie;
		/* -EBUSY: another one has ended meanwhile. What is doomed the event has destroyed. */
		if (guard_command(daemon->guard, &command) == 0)
			daemon->surplus->ended = true;
	}
}

/* True: it is to be looked at again. */
static bool settle(struct daemon *daemon, struct crowd *crowd, bool enforcing, __u64 now)
{
	struct surplus_link links[PEER_SLOTS];
	size_t count = 0, undecided = 0;
	struct guard_policy policy;
	struct peer peer;

	if (guard_peer_read(daemon->guard, &crowd->address, &peer) ||
	    guard_policy_read(daemon->guard, &policy) || !surplus_has(&peer, &policy, now) ||
	    guard_exempts(daemon->guard, &crowd->address, now))
		return false;
	if (enforcing && !crowd->asked_ns) {
		crowd->asked_ns = now;
		probing_prove(daemon, &peer);
		return true;
	}
	for (int i = 0; i < PEER_SLOTS; i++) {
		const struct slot *slot = &peer.slots[i];

		if (!slot_is_link(slot))
			continue;
		if (!enforcing || surplus_proven(slot, &policy, crowd->asked_ns, now))
			links[count++] = (struct surplus_link){ .cookie = slot->cookie,
								.since_ns = slot->since_ns,
								.held = is_held(daemon, &peer, slot) };
		else if (!(slot->flags & SLOT_UNANSWERED))
			undecided++;
	}
	if (enforcing && undecided && now - crowd->asked_ns < ANSWERS_WITHIN_NS)
		return true;
	trim(daemon, &peer, &policy, links, count);
	return false;
}

static void on_look(evutil_socket_t fd, short what, void *argument)
{
	struct daemon *daemon = argument;
	struct surplus *surplus = daemon->surplus;
	bool enforcing = daemon_enforces(daemon);
	__u64 now = clock_now_ns();
	size_t kept = 0;

	(void)fd;
	(void)what;
	for (size_t i = 0; i < surplus->count; i++)
		if (daemon->config.adopt == ADOPT_TRIM &&
		    settle(daemon, &surplus->crowds[i], enforcing, now))
			surplus->crowds[kept++] = surplus->crowds[i];
	surplus->count = kept;
	look_soon(surplus);
	if (kept)
		return;
	/* The check finds those for whom there was no room; again and again only if that leads somewhere. */
	if (surplus->left_out && surplus->ended)
		reconcile_now(daemon, false);
	surplus->left_out = surplus->ended = false;
}

int surplus_start(struct daemon *daemon)
{
	daemon->surplus = calloc(1, sizeof(*daemon->surplus));
	if (!daemon->surplus)
		return -ENOMEM;
	daemon->surplus->look = evtimer_new(daemon->base, on_look, daemon);
	return daemon->surplus->look ? 0 : -ENOMEM;
}

void surplus_stop(struct daemon *daemon)
{
	if (daemon->surplus && daemon->surplus->look)
		event_free(daemon->surplus->look);
	free(daemon->surplus);
	daemon->surplus = NULL;
}
