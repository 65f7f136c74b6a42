/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See check.h. Each peer is copied, the repairs are made on the copy with the rules themselves, and
 * the copy is asked what is due.
 */
#include "pure/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <connguard/rules.h>

#include "base/cleanup.h"

#define FIRST_CAPACITY 16
/* Sockets of peers that the map does not have: a check_end() looks at so many, and at all of the last peer. */
#define STRANGERS_AT_ONCE 1024

/*
 * A difference that every check since has seen. The cookie names the socket for as long as the host
 * is up, so it cannot mean another one.
 */
struct suspicion {
	struct peer_address address;
	__u64 cookie;
	enum check_kind kind;
	__u64 since_ns;
};

struct check_memory {
	struct suspicion *suspicions; /* in the order of compare_suspicions() */
	size_t count;
};

struct check {
	struct check_input input;
	struct check_memory *memory;
	const struct seen_socket **sockets; /* by address, then cookie; those with a cookie only */
	bool *of_peer;                      /* per element of `sockets`: a peer of the map has it */
	size_t socket_count;
	size_t next_stranger; /* those before it check_end() has passed */
	struct check_action *actions; /* of the piece in hand */
	size_t action_count;
	size_t action_capacity;
	struct suspicion *suspicions;
	size_t suspicion_count;
	size_t suspicion_capacity;
};

/* The sockets of one peer: elements first to end - 1 of check.sockets. */
struct range {
	size_t first;
	size_t end;
};

struct check_memory *check_memory_new(void)
{
	return calloc(1, sizeof(struct check_memory));
}

void check_memory_free(struct check_memory *memory)
{
	if (!memory)
		return;
	free(memory->suspicions);
	free(memory);
}

static int compare_numbers(__u64 left, __u64 right)
{
	return (left > right) - (left < right);
}

static int compare_addresses(const struct peer_address *left, const struct peer_address *right)
{
	int order = memcmp(left->bytes, right->bytes, sizeof(left->bytes));

	return order ? order : compare_numbers(left->service, right->service);
}

static int compare_suspicions(const void *left, const void *right)
{
	const struct suspicion *one = left, *other = right;
	int order = compare_addresses(&one->address, &other->address);

	if (!order)
		order = compare_numbers(one->cookie, other->cookie);
	return order ? order : compare_numbers(one->kind, other->kind);
}

static int compare_sockets(const void *left, const void *right)
{
	const struct seen_socket *one = *(const struct seen_socket *const *)left;
	const struct seen_socket *other = *(const struct seen_socket *const *)right;
	int order = compare_addresses(&one->address, &other->address);

	return order ? order : compare_numbers(one->cookie, other->cookie);
}

/* Room for one more element in a growing array. */
static int reserve(void *pointer_to_array, size_t count, size_t *capacity, size_t element_size)
{
	void **array = pointer_to_array;
	size_t wanted = *capacity ? 2 * *capacity : FIRST_CAPACITY;
	void *grown;

	if (count < *capacity)
		return 0;
	grown = reallocarray(*array, wanted, element_size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*capacity = wanted;
	return 0;
}

static int act(struct check *check, const struct check_action *action)
{
	if (reserve(&check->actions, check->action_count, &check->action_capacity, sizeof(*action)))
		return -ENOMEM;
	check->actions[check->action_count++] = *action;
	return 0;
}

/* Note a difference. 1: it is no passing state, 0: it may be one, or -ENOMEM. */
static int suspect(struct check *check, enum check_kind kind, const struct peer_address *address,
		   __u64 cookie)
{
	struct suspicion suspicion = { .address = *address,
				       .cookie = cookie,
				       .kind = kind,
				       .since_ns = check->input.now_ns };
	const struct suspicion *before =
		check->memory->count ? bsearch(&suspicion, check->memory->suspicions, check->memory->count,
					     sizeof(suspicion), compare_suspicions) :
				     NULL;

	if (before)
		suspicion.since_ns = before->since_ns;
	if (reserve(&check->suspicions, check->suspicion_count, &check->suspicion_capacity,
		    sizeof(suspicion)))
		return -ENOMEM;
	check->suspicions[check->suspicion_count++] = suspicion;
	return check->input.now_ns - suspicion.since_ns >= CHECK_LASTS_NS;
}

/* The first socket whose peer is `address` or greater. */
static size_t first_socket(const struct check *check, const struct peer_address *address)
{
	size_t low = 0, high = check->socket_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare_addresses(&check->sockets[middle]->address, address) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct range sockets_of(const struct check *check, const struct peer_address *address)
{
	struct range range = { .first = first_socket(check, address) };

	for (range.end = range.first; range.end < check->socket_count; range.end++)
		if (!address_equal(&check->sockets[range.end]->address, address))
			break;
	return range;
}

static const struct seen_socket *find_socket(const struct check *check, struct range range,
					     __u64 cookie)
{
	size_t index;

	for (index = range.first; index < range.end; index++)
		if (check->sockets[index]->cookie == cookie)
			return check->sockets[index];
	return NULL;
}

/* Whether the socket of a link slot is there and established. */
static bool link_lives(const struct check *check, struct range range, const struct slot *slot)
{
	const struct seen_socket *socket = find_socket(check, range, slot->cookie);

	return socket && socket->established;
}

/* Whether it will be soon, if its last ACK comes. Nobody can build on it, but it is no drift. */
static bool link_opens(const struct check *check, struct range range, const struct slot *slot)
{
	const struct seen_socket *socket = find_socket(check, range, slot->cookie);

	return socket && socket->opening;
}

static bool has_established(const struct check *check, struct range range)
{
	size_t index;

	for (index = range.first; index < range.end; index++)
		if (check->sockets[index]->established)
			return true;
	return false;
}

static const struct slot *find_slot(const struct peer *peer, __u64 cookie)
{
	int i;

	for (i = 0; i < PEER_SLOTS; i++)
		if (peer->slots[i].kind != SLOT_FREE && peer->slots[i].cookie == cookie)
			return &peer->slots[i];
	return NULL;
}

/* Links that are not to be destroyed and whose sockets live. */
static unsigned int count_live_links(const struct check *check, struct range range,
				     const struct peer *peer)
{
	unsigned int count = 0;
	int i;

	for (i = 0; i < PEER_SLOTS; i++)
		if (peer->slots[i].kind == SLOT_LINK && !(peer->slots[i].flags & SLOT_DOOMED) &&
		    link_lives(check, range, &peer->slots[i]))
			count++;
	return count;
}

/* Free the slots that have no live socket behind them. */
static int release_slots(struct check *check, struct range range, struct peer *peer)
{
	int i;

	for (i = 0; i < PEER_SLOTS; i++) {
		const struct slot *slot = &peer->slots[i];
		struct check_action action = { .kind = CHECK_RELEASE,
					       .address = peer->address,
					       .cookie = slot->cookie };
		int lasts;

		if (slot->kind == SLOT_LINK &&
		    (link_lives(check, range, slot) || link_opens(check, range, slot))) {
			continue;
		} else if (slot->kind == SLOT_CLAIM) {
			/*
			 * Before its SYN a socket is in no list; such a claim expires within
			 * seconds.
			 */
			if (!(slot->flags & SLOT_SENT) || find_socket(check, range, slot->cookie))
				continue;
		} else if (slot->kind == SLOT_FREE) {
			continue;
		}
		lasts = suspect(check, CHECK_RELEASE, &peer->address, slot->cookie);
		if (lasts < 0)
			return lasts;
		if (!lasts)
			continue;
		if (act(check, &action))
			return -ENOMEM;
		slot_release(peer, action.cookie, CAUSE_link_released, check->input.now_ns);
	}
	return 0;
}

/* If every link that lives is doomed, let the first of them be a link like any other. */
static int spare_last(struct check *check, struct range range, struct peer *peer)
{
	int i;

	if (count_live_links(check, range, peer))
		return 0;
	for (i = 0; i < PEER_SLOTS; i++) {
		const struct slot *slot = &peer->slots[i];
		struct check_action action = { .kind = CHECK_SPARE,
					       .address = peer->address,
					       .cookie = slot->cookie };
		int lasts;

		if (slot->kind != SLOT_LINK || !link_lives(check, range, slot))
			continue;
		lasts = suspect(check, CHECK_SPARE, &peer->address, slot->cookie);
		if (lasts < 0)
			return lasts;
		/* A link without a socket is in its way until the check has released that. */
		if (!lasts ||
		    link_spare(peer, &check->input.policy, action.cookie, check->input.now_ns)
				    .cause == CAUSE_none)
			return 0;
		return act(check, &action);
	}
	return 0;
}

/* Take the established sockets that no slot shows as links under guard. */
static int adopt_sockets(struct check *check, struct range range, struct peer *peer)
{
	size_t index;

	for (index = range.first; index < range.end; index++) {
		const struct seen_socket *socket = check->sockets[index];
		const struct slot *slot = find_slot(peer, socket->cookie);
		struct check_action action = {
			.kind = CHECK_ADOPT,
			/*
			 * A claim knows who dialed; the socket itself bears no certain trace of it.
			 */
			.direction = slot ? slot->direction : socket->direction,
			.address = socket->address,
			.cookie = socket->cookie,
			.local_port = socket->local_port,
			.remote_port = socket->remote_port,
			.local = socket->local,
			.interface = socket->interface,
		};
		struct link link = {
			.cookie = action.cookie,
			.now = check->input.now_ns,
			.direction = action.direction,
			.adopted = 1,
			.local_port = action.local_port,
			.remote_port = action.remote_port,
		};
		int lasts;

		if (!socket->established || (slot && slot->kind == SLOT_LINK))
			continue;
		lasts = suspect(check, CHECK_ADOPT, &socket->address, socket->cookie);
		if (lasts < 0)
			return lasts;
		if (!lasts ||
		    link_up(peer, &check->input.policy, &link).cause == CAUSE_link_unheld)
			continue;
		if (act(check, &action))
			return -ENOMEM;
	}
	return 0;
}

/* Destroy the links too many, as long as one that lives remains. */
static int destroy_doomed(struct check *check, struct range range, const struct peer *peer)
{
	int i;

	if (!count_live_links(check, range, peer))
		return 0;
	for (i = 0; i < PEER_SLOTS; i++) {
		const struct slot *slot = &peer->slots[i];
		struct check_action action = {
			.kind = CHECK_DESTROY,
			.direction = slot->direction,
			.address = peer->address,
			.cookie = slot->cookie,
			.local_port = slot->local_port,
			.remote_port = slot->remote_port,
		};

		if (slot->kind != SLOT_LINK || !(slot->flags & SLOT_DOOMED) ||
		    !link_lives(check, range, slot))
			continue;
		if (act(check, &action))
			return -ENOMEM;
	}
	return 0;
}

static int check_peer(struct check *check, const struct peer *seen)
{
	struct range range = sockets_of(check, &seen->address);
	const struct check_input *input = &check->input;
	__u64 now_ns = input->now_ns, idle_ns;
	struct check_action action = { .address = seen->address };
	struct peer peer = *seen, forgotten;
	size_t index;
	int result;

	/* Its entry is on its way out: its sockets are nobody's. */
	if (peer.flags & PEER_LEAVING)
		return 0;
	for (index = range.first; index < range.end; index++)
		check->of_peer[index] = true;

	if (claims_expire(&peer, now_ns).cause == CAUSE_claim_expired) {
		action.kind = CHECK_EXPIRE;
		if (act(check, &action))
			return -ENOMEM;
	}
	result = release_slots(check, range, &peer);
	if (!result)
		result = spare_last(check, range, &peer);
	if (!result)
		result = adopt_sockets(check, range, &peer);
	if (!result)
		result = destroy_doomed(check, range, &peer);
	/*
	 * An established socket that is about to be adopted is a link that the map does not know
	 * yet.
	 */
	if (result || has_established(check, range))
		return result;

	idle_ns = input->forget_after_ns;
	/* Who has only ever knocked was met by its own will, and will be again. */
	if (!(peer.flags & PEER_DIALED) && idle_ns > CHECK_KNOCKER_FORGOTTEN_NS)
		idle_ns = CHECK_KNOCKER_FORGOTTEN_NS;
	action.inactive_since_ns = now_ns > idle_ns ? now_ns - idle_ns : 0;
	forgotten = peer;
	if (peer_forget(&forgotten, now_ns, action.inactive_since_ns)) {
		action.kind = CHECK_FORGET;
		return act(check, &action);
	}
	action.inactive_since_ns = 0;
	if (!peer_due(&peer, now_ns))
		return 0;
	action.kind = CHECK_ANNOUNCE_DUE;
	action.announced = peer.due_ns != 0;
	return act(check, &action);
}

/* The next sockets of peers that the map does not have. */
static int check_strangers(struct check *check)
{
	size_t first = check->next_stranger;
	int result;

	while (check->next_stranger < check->socket_count && check->next_stranger - first < STRANGERS_AT_ONCE) {
		const struct peer_address *address = &check->sockets[check->next_stranger]->address;
		struct range range = sockets_of(check, address);
		struct peer stranger = { .address = *address };

		result = check->of_peer[check->next_stranger] ? 0 : adopt_sockets(check, range, &stranger);
		if (result)
			return result;
		check->next_stranger = range.end;
	}
	return 0;
}

static int index_sockets(struct check *check)
{
	const struct check_input *input = &check->input;
	size_t index;

	if (!input->socket_count)
		return 0;
	check->sockets = reallocarray(NULL, input->socket_count, sizeof(const struct seen_socket *));
	check->of_peer = calloc(input->socket_count, sizeof(*check->of_peer));
	if (!check->sockets || !check->of_peer)
		return -ENOMEM;
	for (index = 0; index < input->socket_count; index++)
		if (input->sockets[index].cookie)
			check->sockets[check->socket_count++] = &input->sockets[index];
	qsort(check->sockets, check->socket_count, sizeof(*check->sockets), compare_sockets);
	return 0;
}

int check_begin(const struct check_input *input, struct check_memory *memory, struct check **ret_check)
{
	struct check *check = calloc(1, sizeof(*check));

	if (!check)
		return -ENOMEM;
	check->input = *input;
	check->memory = memory;
	if (index_sockets(check)) {
		check_free(check);
		return -ENOMEM;
	}
	*ret_check = check;
	return 0;
}

int check_peers(struct check *check, const struct peer *peers, size_t count,
		const struct check_action **ret_actions, size_t *ret_count)
{
	int result = 0;

	check->action_count = 0;
	for (size_t index = 0; index < count && !result; index++)
		result = check_peer(check, &peers[index]);
	*ret_actions = check->actions;
	*ret_count = result ? 0 : check->action_count;
	return result;
}

int check_end(struct check *check, const struct check_action **ret_actions, size_t *ret_count)
{
	int result;

	check->action_count = 0;
	result = check_strangers(check);
	*ret_actions = check->actions;
	*ret_count = result ? 0 : check->action_count;
	if (result)
		return result;
	if (check->next_stranger < check->socket_count)
		return 1;
	if (check->suspicion_count)
		qsort(check->suspicions, check->suspicion_count, sizeof(*check->suspicions),
		      compare_suspicions);
	free(check->memory->suspicions);
	check->memory->suspicions = take_pointer(check->suspicions);
	check->memory->count = check->suspicion_count;
	return 0;
}

void check_free(struct check *check)
{
	if (!check)
		return;
	free(check->sockets);
	free(check->of_peer);
	free(check->actions);
	free(check->suspicions);
	free(check);
}
