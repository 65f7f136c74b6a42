// SPDX-License-Identifier: BSD-2-Clause
/* Who goes first. See eviction.h. A heap of those chosen so far, the last to go at its top. */
#include "pure/eviction.h"

#include <stdbool.h>
#include <stdlib.h>

#include <connguard/rules.h>

struct eviction {
	size_t max, count;
	bool in_network;
	struct peer_network network;
	__u64 *ranks; /* a heap: of each element and those below it this is the greatest */
	struct peer_address *addresses;
};

/* The least goes first. Boot time takes 2^63 ns in three centuries. */
static __u64 rank_of(const struct peer *peer)
{
	return (peer->flags & PEER_DIALED ? 1ULL << 63 : 0) | peer->last_active_ns >> 1;
}

struct eviction *eviction_new(size_t max, const struct peer_network *network)
{
	struct eviction *eviction = calloc(1, sizeof(*eviction));

	if (!eviction)
		return NULL;
	eviction->max = max;
	eviction->in_network = network;
	if (network)
		eviction->network = *network;
	eviction->ranks = calloc(max, sizeof(*eviction->ranks));
	eviction->addresses = calloc(max, sizeof(*eviction->addresses));
	if (!eviction->ranks || !eviction->addresses) {
		eviction_free(eviction);
		return NULL;
	}
	return eviction;
}

void eviction_free(struct eviction *eviction)
{
	if (!eviction)
		return;
	free(eviction->ranks);
	free(eviction->addresses);
	free(eviction);
}

static void put(struct eviction *eviction, size_t place, __u64 rank, const struct peer_address *address)
{
	eviction->ranks[place] = rank;
	eviction->addresses[place] = *address;
}

/* Move the element at `from` to `to`. */
static void move(struct eviction *eviction, size_t from, size_t to)
{
	put(eviction, to, eviction->ranks[from], &eviction->addresses[from]);
}

static void add(struct eviction *eviction, __u64 rank, const struct peer_address *address)
{
	size_t place = eviction->count++;

	for (; place && eviction->ranks[(place - 1) / 2] < rank; place = (place - 1) / 2)
		move(eviction, (place - 1) / 2, place);
	put(eviction, place, rank, address);
}

/* In the place of the one at the top. */
static void replace(struct eviction *eviction, __u64 rank, const struct peer_address *address)
{
	size_t place = 0, child;

	for (; (child = 2 * place + 1) < eviction->count; place = child) {
		if (child + 1 < eviction->count && eviction->ranks[child + 1] > eviction->ranks[child])
			child++;
		if (eviction->ranks[child] <= rank)
			break;
		move(eviction, child, place);
	}
	put(eviction, place, rank, address);
}

/* Has it a place in the network that wants one? */
static bool is_of_network(const struct eviction *eviction, const struct peer *peer)
{
	struct peer_network network = network_of(&peer->address);

	return peer->flags & PEER_COUNTED && network_equal(&network, &eviction->network);
}

void eviction_consider(struct eviction *eviction, const struct peer *peer, __u64 now_ns)
{
	__u64 rank = rank_of(peer);
	struct peer copy = *peer;

	if (eviction->in_network && !is_of_network(eviction, peer))
		return;
	if (peer->flags & PEER_LEAVING || !peer_forget(&copy, now_ns, now_ns))
		return;
	if (eviction->count < eviction->max)
		add(eviction, rank, &peer->address);
	else if (rank < eviction->ranks[0])
		replace(eviction, rank, &peer->address);
}

size_t eviction_chosen(const struct eviction *eviction, const struct peer_address **ret_addresses)
{
	*ret_addresses = eviction->addresses;
	return eviction->count;
}
