// SPDX-License-Identifier: BSD-2-Clause
/*
 * Room in the peers map. See daemon.h.
 *
 * A full map is no end: whoever comes then passes without a guard, once, and at once the learned peers that nobody
 * needs go (pure/eviction.h), an eighth of the map or so. Peers with state, and those that are named, never do: where
 * all have state there is no room, and `status` says so. A network that has its share of the map (struct
 * network_tally) is treated likewise, by itself.
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
#include "pure/address_text.h"
#include "pure/eviction.h"

/* Of the map, or of a network's share, so much is made free at a time: */
#define SHARE 8
/* but not more peers than these. */
#define EVICTED_MAX 4096
/* A map is full when so small a part of it is free; what comes and goes meanwhile is seen or not. */
#define NEARLY 16
/* So many times as long as the search has worked there is no other: it is a twentieth of a processor at most; */
#define REST_RATIO 20
/* and where there was nobody to go, none for so long. */
#define IN_VAIN_NS NS_PER_SECOND
/* Heartbeats for which a network must have had places before it is no problem any more. */
#define ROOMY_BEATS 5

struct room {
	struct pieces *pieces;     /* the search */
	struct eviction *eviction; /* NULL: nothing under way */
	struct peer_walk walk;
	size_t count; /* peers that were looked at */
	bool chosen;  /* all were */
	bool full;    /* there was still no room then; */
	size_t told;  /* so many of the chosen ones were told to go; */
	size_t gone;  /* so many of these could */
	bool in_network; /* it is for one network alone: */
	struct peer_address newcomer; /* somebody of it, who found no place */
	bool wanted;     /* meanwhile the whole map was full: that is next */
	__u64 not_before_ns[2]; /* another search in the whole map, and one for a network */
	struct peer_address crowded; /* PROBLEM_NETWORK: somebody of that network */
	unsigned int roomy_beats;
	struct known_peer *known; /* all of them, while some wait for room; else NULL */
	size_t known_count;
};

static void forget(struct room *room)
{
	guard_peers_leave(&room->walk);
	eviction_free(room->eviction);
	room->eviction = NULL;
}

/* Has this one's network all the places that it may have? */
static bool network_is_full(struct daemon *daemon, const struct peer_address *address)
{
	__u32 left;

	return guard_network_room(daemon->guard, address, &left) == 0 && !left;
}

/* Does what was searched still lack room, as far as was seen? */
static bool is_full(struct daemon *daemon)
{
	const struct room *room = daemon->room;
	size_t max = guard_peers_max(daemon->guard);

	return room->in_network ? network_is_full(daemon, &room->newcomer) : room->count >= max - max / NEARLY;
}

/* As a person writes it. */
static const char *network_text(const struct peer_address *address, char text[PREFIX_TEXT_MAX])
{
	const struct peer_network network = network_of(address);
	struct exempt_prefix prefix = { .prefix_length = 8 * sizeof(network.bytes) };

	memcpy(prefix.address, network.bytes, sizeof(network.bytes));
	return prefix_to_text(&prefix, text);
}

/* Nobody of this network can go. */
static void say_crowded(struct daemon *daemon, const struct peer_address *address)
{
	char text[PREFIX_TEXT_MAX];
	struct room *room = daemon->room;
	struct guard_policy policy;

	if (guard_policy_read(daemon->guard, &policy))
		return;
	room->crowded = *address;
	room->roomy_beats = 0;
	problem_set(daemon, PROBLEM_NETWORK,
		    "%s has %u learned peers with a link, a backoff or a limit, as many as one network may: its further "
		    "ones are allowed without a guard, unless they are named in the peers file; nobody else is affected",
		    network_text(address, text), policy.network_peers);
}

static void begin(struct daemon *daemon, const struct peer_address *newcomer);

static int begin_walk(void *argument)
{
	struct daemon *daemon = argument;

	return guard_peers_walk(daemon->guard, &daemon->room->walk);
}

static int look_on(struct daemon *daemon)
{
	struct room *room = daemon->room;
	__u64 now = clock_now_ns();
	const struct peer *peers;
	size_t count;
	int result = guard_peers_next(&room->walk, &peers, &count);

	if (result)
		return result;
	for (size_t i = 0; i < count; i++)
		eviction_consider(room->eviction, &peers[i], now);
	room->count += count;
	room->chosen = !count;
	/* Where there is room by now it helps nobody that others go. */
	room->full = room->chosen && is_full(daemon);
	return 1;
}

/* The choice is made: the next of them goes. */
static int evict_on(struct daemon *daemon)
{
	struct guard_command command = { .operation = COMMAND_FORGET, .until_ns = clock_now_ns() };
	struct room *room = daemon->room;
	const struct peer_address *addresses;
	size_t count = eviction_chosen(room->eviction, &addresses);

	if (!room->full || room->told == count)
		return 0;
	command.address = addresses[room->told++];
	/* -EBUSY: it has state by now. */
	room->gone += guard_command(daemon->guard, &command) == 0;
	return 1;
}

static int go_on(void *argument)
{
	struct daemon *daemon = argument;

	return daemon->room->chosen ? evict_on(daemon) : look_on(daemon);
}

static void end(int result, bool again, void *argument)
{
	struct daemon *daemon = argument;
	struct room *room = daemon->room;
	char text[PREFIX_TEXT_MAX];

	(void)again;
	forget(room);
	if (result) {
		log_warning("looking for idle peers: %s", strerror(-result));
		return;
	}
	room->not_before_ns[room->in_network] =
		clock_now_ns() + REST_RATIO * pieces_worked_ns(room->pieces) + (room->gone ? 0 : IN_VAIN_NS);
	if (room->gone && room->in_network)
		log_info("%s had all the peers that one network may: %zu that were idle are forgotten",
			 network_text(&room->newcomer, text), room->gone);
	else if (room->gone)
		log_info("the peers map was full: %zu that were idle are forgotten", room->gone);
	else if (room->in_network && room->full)
		say_crowded(daemon, &room->newcomer);
	/* What came meanwhile may be a link already. */
	if (room->gone)
		reconcile_now(daemon, false);
	if (room->wanted)
		begin(daemon, NULL);
}

/* Without rests: whoever comes meanwhile is not guarded. */
static const struct pieces_work search_work = { .begin = begin_walk, .step = go_on, .end = end };

/* Search the whole map, or (not NULL) for places in the network of this one. */
static void begin(struct daemon *daemon, const struct peer_address *newcomer)
{
	struct room *room = daemon->room;
	__u32 max = guard_peers_max(daemon->guard);
	size_t wanted = (newcomer ? network_share(max) : max) / SHARE;
	struct peer_network network;

	room->in_network = newcomer;
	room->wanted = room->wanted && newcomer;
	if (newcomer) {
		room->newcomer = *newcomer;
		network = network_of(newcomer);
	}
	room->count = room->told = room->gone = 0;
	room->chosen = room->full = false;
	room->eviction = eviction_new(wanted < EVICTED_MAX ? wanted : EVICTED_MAX, newcomer ? &network : NULL);
	if (room->eviction)
		pieces_ask(room->pieces);
	else
		log_warning("looking for idle peers: %s", strerror(ENOMEM));
}

void room_make(struct daemon *daemon, const struct peer_address *address)
{
	bool in_network = address && network_is_full(daemon, address);
	struct room *room = daemon->room;

	if (clock_now_ns() < room->not_before_ns[in_network])
		return;
	/* A crowd of one network does not keep others waiting. */
	if (room->eviction)
		room->wanted = room->wanted || (room->in_network && !in_network);
	else
		begin(daemon, in_network ? address : NULL);
}

void room_beat(struct daemon *daemon)
{
	struct room *room = daemon->room;

	if (!*daemon->problems[PROBLEM_NETWORK])
		return;
	if (network_is_full(daemon, &room->crowded)) {
		room->roomy_beats = 0;
		/* Some of it may have nothing by now that keeps them. */
		room_make(daemon, &room->crowded);
	} else if (++room->roomy_beats >= ROOMY_BEATS) {
		problem_clear(daemon, PROBLEM_NETWORK);
	}
}

void room_await(struct daemon *daemon, struct known_peer *known, size_t count, size_t left)
{
	struct room *room = daemon->room;

	free(room->known);
	room->known = left ? known : NULL;
	room->known_count = count;
	if (left) {
		problem_set(daemon, PROBLEM_KNOWN,
			    "%zu of the known peers have no entry: all %u of the peers map are in use; stop the guard, then "
			    "start it with a greater max_peers",
			    left, guard_peers_max(daemon->guard));
		return;
	}
	free(known);
	problem_clear(daemon, PROBLEM_KNOWN);
}

void room_look(struct daemon *daemon)
{
	struct room *room = daemon->room;
	size_t left;
	int result;

	if (!room->known)
		return;
	result = furnish_known(daemon->guard, &daemon->config, room->known, room->known_count, &left);
	if (result)
		log_warning("room for known peers: %s", strerror(-result));
	else
		room_await(daemon, take_pointer(room->known), room->known_count, left);
}

int room_start(struct daemon *daemon)
{
	struct room *room = daemon->room = calloc(1, sizeof(*room));

	if (!room)
		return -ENOMEM;
	room->pieces = pieces_new(daemon->base, &search_work, daemon);
	return room->pieces ? 0 : -ENOMEM;
}

void room_stop(struct daemon *daemon)
{
	if (!daemon->room)
		return;
	forget(daemon->room);
	pieces_free(daemon->room->pieces);
	free(daemon->room->known);
	free(daemon->room);
	daemon->room = NULL;
}
