// SPDX-License-Identifier: BSD-2-Clause
/*
 * What is this host: the `own` map is kept equal to the kernel's routing tables. See daemon.h.
 *
 * When the kernel tells that they have changed they are read again, whole: what it says of one route leaves open
 * whether another leads to this host as well. At once, but not all the time.
 *
 * A link whose own address is gone cannot be heard any more, which TCP takes minutes to notice, or never does. It is
 * marked: its peer need not wait for it, nor our dial. Nothing is ended, for the address may come back, and with it
 * what was marked is as it was. A link whose address has never been this host's (of a transparent proxy) is let be.
 * The peers are looked at in pieces.
 */
#include "connguardd/daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <connguard/rules.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pieces.h"
#include "edge/furnish.h"

/* After a piece of the peers the walk rests so many times as long: a million take a fifth of a processor meanwhile. */
#define WALK_REST_RATIO 4
/* Whoever takes many addresses away does so one by one: what comes within so long is read once; */
#define READ_REST_NS (10 * NS_PER_MS)
/* and a reading that takes longer is a twentieth of a processor at most. */
#define READ_REST_RATIO 20
/* What nobody tells of is found after so many heartbeats. */
#define READ_BEATS 60

struct own {
	struct event *read;
	__u64 not_before_ns; /* of the next reading */
	unsigned int beats; /* without a reading */
	bool failed; /* the last reading: it is tried again with the heartbeat */
	bool full; /* the map has no room for all */
	bool stranded; /* there are links whose own address is gone, or there may be */
	struct prefix_set gone; /* in order: what the walk looks for */
	struct pieces *pieces;  /* the walk; asked for again while it goes on: peers that were passed may be concerned */
	struct peer_walk walk;
};

/* ---- links whose own address comes and goes ---- */

static void look_at_link(struct daemon *daemon, const struct peer_address *address,
			 const struct slot *link)
{
	bool was_stranded = link->flags & SLOT_STRANDED, is_stranded = was_stranded;
	const struct guard_command command = { .operation = COMMAND_STRANDED,
					       .address = *address,
					       .cookie = link->cookie,
					       .local_port = link->local_port,
					       .remote_port = link->remote_port,
					       .value = !was_stranded };
	struct own *own = daemon->own;
	struct peer_address local = {};

	memcpy(local.bytes, link->local_address, sizeof(local.bytes));
	/* Not known yet. */
	if (address_is_nobody(&local))
		return;
	if (prefixes_cover(&daemon->surroundings.own, &local))
		is_stranded = false;
	else if (prefixes_cover(&own->gone, &local))
		is_stranded = true;
	/* -ENOENT: it has ended meanwhile, or was heard. */
	if (is_stranded != was_stranded)
		guard_command(daemon->guard, &command);
	own->stranded |= is_stranded;
}

static int begin_walk(void *argument)
{
	struct daemon *daemon = argument;

	daemon->own->stranded = false;
	return guard_peers_walk(daemon->guard, &daemon->own->walk);
}

static int walk_on(void *argument)
{
	struct daemon *daemon = argument;
	const struct peer *peers;
	size_t count;
	int result = guard_peers_next(&daemon->own->walk, &peers, &count);

	if (result)
		return result;
	for (size_t i = 0; i < count; i++)
		for (int j = 0; j < PEER_SLOTS; j++)
			if (peers[i].slots[j].kind == SLOT_LINK)
				look_at_link(daemon, &peers[i].address, &peers[i].slots[j]);
	return count != 0;
}

static void end_walk(int result, bool again, void *argument)
{
	struct own *own = ((struct daemon *)argument)->own;

	guard_peers_leave(&own->walk);
	if (result) {
		/* In what was not looked at there may be some; what is gone the next walk looks for. */
		own->stranded = true;
		log_warning("links whose own address is gone are not looked for: %s",
			    strerror(-result));
	} else if (!again) {
		prefixes_free(&own->gone);
	}
}

static const struct pieces_work walk_work = {
	.begin = begin_walk,
	.step = walk_on,
	.end = end_walk,
	.rest_ratio = WALK_REST_RATIO,
};

/* Look for links whose own address is among those that are gone, or is back. */
static void look_for_links(struct daemon *daemon)
{
	prefixes_sort(&daemon->own->gone);
	pieces_ask(daemon->own->pieces);
}

/* ---- the tables ---- */

static void say_room(struct daemon *daemon, bool full)
{
	daemon->own->full = full;
	if (full)
		problem_set(
			daemon, PROBLEM_OWN,
			"this host has more addresses, or prefixes that are local to it, than the guard has "
			"room for (%u): a dial to one of the others counts as one to a peer",
			guard_own_max(daemon->guard));
	else
		problem_clear(daemon, PROBLEM_OWN);
}

/* Bring the map in line with what is this host now, which is taken over. */
static int bring_in_line(struct daemon *daemon, struct prefix_set *now)
{
	struct prefix_set *before = &daemon->surroundings.own;
	cleanup_prefixes struct prefix_set gone = {}, come = {};
	struct own *own = daemon->own;
	int result = prefixes_missing(now, before, &come);

	/* In a full map not all of it is there. */
	if (!result)
		result = furnish_own(daemon->guard, own->full ? NULL : before, now, &gone);
	if (result && result != -ENOSPC)
		return result;
	say_room(daemon, result == -ENOSPC);
	for (size_t i = 0; i < gone.count; i++) {
		result = prefixes_add(&own->gone, &gone.list[i]);
		if (result)
			return result;
	}
	prefixes_free(before);
	*before = *now;
	*now = (struct prefix_set){};
	if (gone.count || (come.count && (own->stranded || pieces_asked(own->pieces))))
		look_for_links(daemon);
	return 0;
}

static void on_read(evutil_socket_t fd, short what, void *argument)
{
	cleanup_prefixes struct prefix_set set = {};
	struct daemon *daemon = argument;
	struct own *own = daemon->own;
	__u64 began = clock_now_ns(), ended;
	int result = local_table_read(daemon->surroundings.local_table, &set);

	(void)fd;
	(void)what;
	if (!result)
		result = bring_in_line(daemon, &set);
	if (result && !own->failed)
		log_warning(
			"reading which addresses are this host's: %s; tried again until it can be done",
			strerror(-result));
	own->failed = result;
	own->beats = 0;
	ended = clock_now_ns();
	own->not_before_ns = ended + READ_REST_NS + READ_REST_RATIO * (ended - began);
}

void own_changed(struct daemon *daemon)
{
	struct own *own = daemon->own;
	__u64 now = clock_now_ns(), left = own->not_before_ns > now ? own->not_before_ns - now : 0;
	const struct timeval when = { .tv_sec = left / NS_PER_SECOND,
				      .tv_usec = left % NS_PER_SECOND / 1000 };

	if (!evtimer_pending(own->read, NULL))
		evtimer_add(own->read, &when);
}

void own_look(struct daemon *daemon)
{
	if (daemon->own->failed || ++daemon->own->beats >= READ_BEATS || !revival_is_told(daemon))
		own_changed(daemon);
}

int own_follow(struct daemon *daemon)
{
	int result = furnish_own(daemon->guard, NULL, &daemon->surroundings.own, NULL);

	if (result && result != -ENOSPC)
		return result;
	/* The links of the other place are as they were. */
	prefixes_free(&daemon->own->gone);
	say_room(daemon, result == -ENOSPC);
	return 0;
}

int own_start(struct daemon *daemon)
{
	struct own *own = daemon->own = calloc(1, sizeof(*own));

	if (!own)
		return -ENOMEM;
	own->read = evtimer_new(daemon->base, on_read, daemon);
	own->pieces = pieces_new(daemon->base, &walk_work, daemon);
	return own->read && own->pieces ? 0 : -ENOMEM;
}

void own_furnished(struct daemon *daemon, struct furnished *furnished, bool taken_over)
{
	prefixes_free(&daemon->own->gone);
	daemon->own->gone = furnished->own_gone;
	furnished->own_gone = (struct prefix_set){};
	say_room(daemon, furnished->own_full);
	if (taken_over)
		look_for_links(daemon);
}

void own_stop(struct daemon *daemon)
{
	struct own *own = daemon->own;

	if (!own)
		return;
	if (own->read)
		event_free(own->read);
	pieces_free(own->pieces);
	guard_peers_leave(&own->walk);
	prefixes_free(&own->gone);
	free(own);
	daemon->own = NULL;
}
