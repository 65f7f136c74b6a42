// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: any peers that come and go, in a few networks and a small map, on several processors.
 *
 * The programs of bpf/entries.bpf.h run on maps of this file. Before each of their calls of the kernel others may run,
 * as on another processor: hooks in hooks, and one command at a time, for commands are the daemon's. Whatever they do, no
 * network has more places taken than it may have, and at no moment more peers with a place than its tally says; when
 * all is quiet it says exactly how many, and of a network without any there is none. Whom pure/eviction.h chooses may
 * go, and goes before all that stay.
 *
 * An input is how many places a network has, then steps: a byte for what happens, one for the peer, what that takes
 * more, and a byte for each call of the kernel: 3 (of 4) lets another step come between. One more says of each tally
 * whether there is memory for it.
 */
#include "input.h"

#include <errno.h>
#include <stdbool.h>

#include <linux/bpf.h>

#include <connguard/rules.h>

#include "pure/eviction.h"

#define PEERS_MAX 10
#define PLACES_MAX 5
/* Steps within steps. */
#define DEPTH_MAX 3

/* ---- the kernel ------------------------------------------------------------------------------ */

/* An element: where it is it stays, for programs hold pointers to it. */
struct element {
	bool there;
	__u8 key[sizeof(struct peer_address)];
	void *value;
};

struct map {
	size_t key_size, value_size, max, count;
	/* Else a value is freed when nobody can have a pointer to it any more. */
	bool reuses_values;
	struct element elements[PEERS_MAX];
};

static struct map peers = { .key_size = sizeof(struct peer_address), .value_size = sizeof(struct peer),
			    .max = PEERS_MAX, .reuses_values = true };
static struct map networks = { .key_size = sizeof(struct peer_network), .value_size = sizeof(struct network_tally),
			       .max = PEERS_MAX };
/* Values that are freed when all is quiet. */
static void **graves;
static size_t grave_count;

static void meanwhile(void);
static bool no_memory(void);

static struct element *find(struct map *map, const void *key)
{
	for (size_t i = 0; i < map->max; i++)
		if (map->elements[i].there && !memcmp(map->elements[i].key, key, map->key_size))
			return &map->elements[i];
	return NULL;
}

static void *bpf_map_lookup_elem(void *map, const void *key)
{
	struct element *element;

	meanwhile();
	element = find(map, key);
	return element ? element->value : NULL;
}

static long bpf_map_update_elem(void *of, const void *key, const void *value, __u64 flags)
{
	struct element *element;
	struct map *map = of;

	must(flags == BPF_NOEXIST);
	meanwhile();
	if (find(map, key))
		return -EEXIST;
	if (map->count == map->max)
		return -E2BIG;
	if (!map->reuses_values && no_memory())
		return -ENOMEM;
	for (element = map->elements; element->there; element++)
		;
	if (!element->value)
		element->value = malloc(map->value_size);
	must(element->value);
	memcpy(element->key, key, map->key_size);
	memcpy(element->value, value, map->value_size);
	element->there = true;
	map->count++;
	return 0;
}

static long bpf_map_delete_elem(void *of, const void *key)
{
	struct element *element;
	struct map *map = of;

	meanwhile();
	element = find(map, key);
	if (!element)
		return -ENOENT;
	element->there = false;
	map->count--;
	if (map->reuses_values)
		return 0;
	graves = reallocarray(graves, grave_count + 1, sizeof(*graves));
	must(graves);
	graves[grave_count++] = element->value;
	element->value = NULL;
	return 0;
}

static void bpf_spin_lock(struct bpf_spin_lock *lock)
{
	meanwhile();
	must(!lock->val);
	lock->val = 1;
}

static void bpf_spin_unlock(struct bpf_spin_lock *lock)
{
	must(lock->val);
	lock->val = 0;
}

/* In the place of bpf/maps.bpf.h and of what libbpf has for programs. */
#define CONNGUARD_MAPS_BPF_H
#define __weak __attribute__((weak))
#define barrier_var(variable) __asm__ volatile("" : "+r"(variable))
#include "../../bpf/entries.bpf.h"

/* ---- what must hold -------------------------------------------------------------------------- */

static struct input input;
static struct guard_policy policy;
static __u64 now;
static unsigned int depth;
static bool command_runs;

/* So many peers in the map have a place of the network that the key begins with. */
static unsigned int counted_of(const void *key)
{
	unsigned int count = 0;

	for (size_t i = 0; i < PEERS_MAX; i++) {
		const struct element *element = &peers.elements[i];

		if (element->there && !memcmp(element->key, key, networks.key_size))
			count += ((const struct peer *)element->value)->flags & PEER_COUNTED ? 1 : 0;
	}
	return count;
}

/* At any moment. */
static void check_never_too_low(void)
{
	for (size_t i = 0; i < PEERS_MAX; i++) {
		const struct element *element = &peers.elements[i], *of;
		unsigned int count = element->there ? counted_of(element->key) : 0;
		const struct network_tally *tally;

		if (!count)
			continue;
		of = find(&networks, element->key);
		must(of);
		tally = of->value;
		must(!memcmp(&tally->network, of->key, networks.key_size));
		must(count <= tally->peers && tally->peers <= policy.network_peers);
	}
}

/* When nothing is half done. */
static void check_quiet(void)
{
	check_never_too_low();
	for (size_t i = 0; i < PEERS_MAX; i++) {
		const struct element *element = &networks.elements[i];
		const struct network_tally *tally = element->value;

		must(!element->there || (tally->peers && tally->peers == counted_of(element->key) && !tally->lock.val));
	}
	for (size_t i = 0; i < PEERS_MAX; i++) {
		const struct element *element = &peers.elements[i];
		const struct peer *peer = element->value;

		must(!element->there ||
		     (!memcmp(&peer->address, element->key, sizeof(peer->address)) && !peer->lock.val &&
		      !(peer->flags & PEER_LEAVING)));
	}
}

static bool may_go(const struct peer *peer, const struct peer_network *network)
{
	const struct peer_network own = network_of(&peer->address);
	struct peer copy = *peer;

	return !(peer->flags & PEER_LEAVING) && peer_forget(&copy, now, now) &&
	       (!network || (peer->flags & PEER_COUNTED && network_equal(&own, network)));
}

static bool goes_later(const struct peer *one, const struct peer *other)
{
	bool dialed = one->flags & PEER_DIALED, other_dialed = other->flags & PEER_DIALED;

	return dialed != other_dialed ? dialed : one->last_active_ns > other->last_active_ns;
}

static const struct peer *peer_at(const struct peer_address *address)
{
	const struct element *element = find(&peers, address);

	return element ? element->value : NULL;
}

static bool is_among(const struct peer_address *address, const struct peer_address *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (address_equal(&list[i], address))
			return true;
	return false;
}

/* These were chosen, of `max` that may be. */
static void check_choice(const struct peer_address *chosen, size_t count, size_t max,
			 const struct peer_network *network)
{
	must(count <= max);
	for (size_t i = 0; i < count; i++) {
		must(peer_at(&chosen[i]) && may_go(peer_at(&chosen[i]), network));
		must(!is_among(&chosen[i], chosen, i));
	}
	for (size_t i = 0; i < PEERS_MAX; i++) {
		const struct element *element = &peers.elements[i];
		const struct peer *stays = element->value;

		if (!element->there || !may_go(stays, network) || is_among(&stays->address, chosen, count))
			continue;
		must(count == max);
		for (size_t j = 0; j < count; j++)
			must(!goes_later(peer_at(&chosen[j]), stays));
	}
}

/* ---- what happens ---------------------------------------------------------------------------- */

/* Two networks, and addresses of which none is counted: of IPv4, and of what a NAT64 stands for. */
static struct peer_address an_address(void)
{
	unsigned int which = input_below(&input, 16);
	struct peer_address address = { .bytes = { [15] = which % 8 + 1 }, .service = which % 2 ? 24000 : 24001 };

	if (which < 12)
		memcpy(address.bytes, (const __u8[]){ 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, which / 6 }, 8);
	else if (which < 14)
		memcpy(address.bytes, (const __u8[]){ 0, 0x64, 0xff, 0x9b }, 4);
	else
		address.bytes[10] = address.bytes[11] = 0xff;
	return address;
}

/* A hook: a dial or a knock, which becomes a link or not. */
static void learn(const struct peer_address *address, unsigned int what)
{
	struct peer *peer = peer_learn(address, &policy);

	if (!peer)
		return;
	bpf_spin_lock(&peer->lock);
	if (peer_is(peer, address, now)) {
		peer->last_active_ns = now;
		peer->flags |= what & 1 ? PEER_DIALED : 0;
		if (what & 2)
			peer->slots[0].kind = SLOT_LINK;
	}
	bpf_spin_unlock(&peer->lock);
}

/* Another: the link is over. */
static void link_ends(const struct peer_address *address)
{
	struct peer *peer = bpf_map_lookup_elem(&peers, address);

	if (!peer)
		return;
	bpf_spin_lock(&peer->lock);
	if (peer_is(peer, address, now)) {
		peer->last_active_ns = now;
		peer->slots[0].kind = SLOT_FREE;
	}
	bpf_spin_unlock(&peer->lock);
}

/* The commands are those of bpf/command.bpf.c. */
static void name(const struct peer_address *address)
{
	struct peer *peer = peer_name(address);
	bool leaves = false;

	if (!peer)
		return;
	bpf_spin_lock(&peer->lock);
	if (peer_is(peer, address, now)) {
		leaves = peer->flags & PEER_COUNTED;
		peer->flags = (peer->flags | PEER_KNOWN) & ~(__u32)PEER_COUNTED;
	}
	bpf_spin_unlock(&peer->lock);
	if (leaves)
		network_leave(address);
}

static void name_no_more(const struct peer_address *address)
{
	struct peer *peer = bpf_map_lookup_elem(&peers, address);

	if (!peer)
		return;
	bpf_spin_lock(&peer->lock);
	if (peer_is(peer, address, now))
		peer->flags &= ~(__u32)PEER_KNOWN;
	bpf_spin_unlock(&peer->lock);
}

static void forget(const struct peer_address *address)
{
	struct peer *peer = bpf_map_lookup_elem(&peers, address);
	bool goes = false, leaves = false;

	if (!peer)
		return;
	bpf_spin_lock(&peer->lock);
	if (peer_is(peer, address, now)) {
		goes = peer_forget(peer, now, now);
		leaves = goes && peer->flags & PEER_COUNTED;
	}
	bpf_spin_unlock(&peer->lock);
	if (goes)
		bpf_map_delete_elem(&peers, address);
	if (leaves)
		network_leave(address);
}

/* As user/connguardd/room.c does, of all or (not NULL) in the network of somebody. */
static void make_room(const struct peer_address *of, size_t max)
{
	const struct peer_address *chosen;
	struct peer_network network = {};
	struct eviction *eviction;
	size_t count;

	if (of)
		network = network_of(of);
	eviction = eviction_new(max, of ? &network : NULL);
	must(eviction);
	for (size_t i = 0; i < PEERS_MAX; i++)
		if (peers.elements[i].there)
			eviction_consider(eviction, peers.elements[i].value, now);
	count = eviction_chosen(eviction, &chosen);
	/* One whose maker is yet to write its address is nobody. */
	if (!depth)
		check_choice(chosen, count, max, of ? &network : NULL);
	for (size_t i = 0; i < count; i++)
		forget(&chosen[i]);
	eviction_free(eviction);
}

static void command(unsigned int what, const struct peer_address *address)
{
	if (command_runs)
		return;
	command_runs = true;
	if (what == 0)
		name(address);
	else if (what == 1)
		name_no_more(address);
	else if (what == 2)
		forget(address);
	else
		make_room(what == 3 ? address : NULL, 1 + input_below(&input, PEERS_MAX));
	command_runs = false;
}

static void step(void)
{
	unsigned int what = input_below(&input, 8);
	const struct peer_address address = an_address();

	now += NS_PER_MS;
	if (what < 2)
		learn(&address, input_below(&input, 4));
	else if (what == 2)
		link_ends(&address);
	else
		command(what - 3, &address);
}

static void meanwhile(void)
{
	check_never_too_low();
	if (depth == DEPTH_MAX || !input.left || input_below(&input, 4) != 3)
		return;
	depth++;
	step();
	depth--;
}

static bool no_memory(void)
{
	return input_below(&input, 8) == 7;
}

static void bury(void)
{
	while (grave_count)
		free(graves[--grave_count]);
	free(graves);
	graves = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	input = (struct input){ .next = data, .left = size };
	now = NS_PER_SECOND;
	policy = policy_defaults();
	policy.network_peers = 1 + input_below(&input, PLACES_MAX);
	while (input.left) {
		step();
		check_quiet();
		bury();
	}
	/* All of them can go when nobody needs them, and leave nothing. */
	for (size_t i = 0; i < PEERS_MAX; i++) {
		const struct peer *peer = peers.elements[i].value;
		struct peer_address address;

		if (!peers.elements[i].there)
			continue;
		address = peer->address;
		now += NS_PER_MS;
		link_ends(&address);
		name_no_more(&address);
		forget(&address);
		must(!peers.elements[i].there);
	}
	must(!peers.count && !networks.count);
	bury();
	return 0;
}
