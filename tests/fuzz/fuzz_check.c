// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: the periodic check over any peers and any sockets.
 *
 * A small host lives through a few rounds: a check, its actions carried out as the daemon and the
 * command program would, then something changes. Every list of actions must make sense by itself;
 * the last socket of a peer is never destroyed; and when nothing changes any more the map and the
 * sockets agree after a few rounds.
 *
 * An input is a byte of what kind of story it is, the sockets and slots of each peer, and a byte or
 * more a round. Of one kind the peers are any bytes: then nothing is asked but that the check gets
 * through.
 */
#include "input.h"

#include <stdbool.h>

#include <connguard/rules.h>

#include "base/cleanup.h"
#include "pure/check.h"

/* Of these, PEERS_FIRST are in the map at first; sockets to the others are strangers'. */
#define ADDRESSES 4
#define PEERS_FIRST 3
/* A few more sockets than slots. */
#define SOCKETS_EACH 10
#define SOCKETS_MAX 64
#define ROUNDS_MAX 12
/*
 * Rounds after which nothing is left to do when nothing changes: a difference counts when it is
 * seen twice, a repair can show the next one (a doomed link that is the last one after all), and a
 * claim that became void makes room.
 */
#define ROUNDS_TO_REST 8
#define FORGET_AFTER_NS (60 * NS_PER_SECOND)

struct host {
	struct input input;
	struct guard_policy policy;
	__u64 now;
	struct peer peers[ADDRESSES];
	size_t peer_count;
	struct seen_socket sockets[SOCKETS_MAX];
	size_t socket_count;
	__u64 next_cookie;
	struct check_memory *memory;
	bool first_run;
};

/* The last one is of the other family; the first two are one host at two services. */
static struct peer_address address_of(unsigned int which)
{
	if (which == ADDRESSES - 1)
		return (struct peer_address){ .bytes = { 0x20, 0x01, 0x0d, 0xb8, [15] = 7 },
					      .service = 24000 };
	return (struct peer_address){ .bytes = { [10] = 0xff, [11] = 0xff, 192, 0, 2, which / 2 + 7 },
				      .service = 24000 + which % 2 };
}

static struct peer *peer_of(struct host *host, const struct peer_address *address)
{
	for (size_t i = 0; i < host->peer_count; i++)
		if (address_equal(&host->peers[i].address, address))
			return &host->peers[i];
	return NULL;
}

static struct seen_socket *socket_of(struct host *host, __u64 cookie)
{
	for (size_t i = 0; i < host->socket_count; i++)
		if (host->sockets[i].cookie == cookie)
			return &host->sockets[i];
	return NULL;
}

static const struct slot *slot_held(const struct peer *peer, __u64 cookie)
{
	for (int i = 0; i < PEER_SLOTS; i++)
		if (peer->slots[i].kind != SLOT_FREE && peer->slots[i].cookie == cookie)
			return &peer->slots[i];
	return NULL;
}

static bool has_established(const struct host *host, const struct peer_address *address)
{
	for (size_t i = 0; i < host->socket_count; i++)
		if (host->sockets[i].established &&
		    address_equal(&host->sockets[i].address, address))
			return true;
	return false;
}

/* ---- a host out of bytes --------------------------------------------------------------------- */

static void add_socket(struct host *host, __u64 cookie, const struct peer_address *address,
		       unsigned int bits)
{
	if (host->socket_count == SOCKETS_MAX)
		return;
	host->sockets[host->socket_count++] = (struct seen_socket){
		.cookie = cookie,
		.address = *address,
		.direction = bits & 1 ? DIRECTION_OUTBOUND : DIRECTION_INBOUND,
		/* TIME_WAIT has no cookie. */
		.established = cookie && bits & 2,
		.opening = cookie && (bits & 3) == 1,
		.local_port = 24000,
		.remote_port = 40000 + bits,
	};
}

static void remove_socket(struct host *host, __u64 cookie)
{
	struct seen_socket *socket = socket_of(host, cookie);

	if (socket)
		*socket = host->sockets[--host->socket_count];
}

/* One byte: what the slot holds and whether its socket is there. */
static void make_slot(struct host *host, struct peer *peer, struct slot *slot)
{
	unsigned int byte = input_byte(&host->input);
	bool sent = byte & 4;

	if (byte & 1) {
		*slot = (struct slot){ .kind = SLOT_CLAIM,
				       .direction = DIRECTION_OUTBOUND,
				       .expires_ns = host->now + NS_PER_SECOND,
				       .flags = sent ? SLOT_SENT : 0,
				       .syns = byte >> 6 };
		if ((byte & 0xc4) == 4)
			slot->flags |= SLOT_KEPT;
		if (byte & 8)
			slot->expires_ns = host->now - NS_PER_SECOND;
	} else if (byte & 2) {
		*slot = (struct slot){ .kind = SLOT_LINK,
				       .direction = byte & 4 ? DIRECTION_OUTBOUND :
							       DIRECTION_INBOUND,
				       .client_isn = byte,
				       .flags = (byte & 8 ? SLOT_DOOMED : 0) |
						(byte >> 7 ? SLOT_UNANSWERED : 0) };
	} else {
		return;
	}
	slot->cookie = host->next_cookie++;
	slot->since_ns = host->now - 10 * NS_PER_SECOND;
	slot->local_port = 24000;
	slot->remote_port = 40000;
	/* Before its SYN a dial's socket is in no list. */
	if (byte & 0x30 && (slot->kind == SLOT_LINK || sent))
		add_socket(host, slot->cookie, &peer->address, byte >> 4);
}

static void make_peer(struct host *host, unsigned int which)
{
	struct peer *peer = &host->peers[host->peer_count++];
	unsigned int bits = input_byte(&host->input);
	int i;

	memset(peer, 0, sizeof(*peer));
	peer->address = address_of(which);
	peer->first_seen_ns = host->now - 1000 * NS_PER_SECOND;
	peer->last_active_ns = bits & 1 ? peer->first_seen_ns : host->now;
	peer->flags = (bits & 2 ? PEER_KNOWN : 0) | (bits & 4 ? PEER_DIALED : 0) |
		      (bits & 0x38 ? 0 : PEER_LEAVING);
	peer->attempts = bits >> 6;
	peer->next_attempt_ns = peer->attempts ? host->now + 2 * NS_PER_SECOND : 0;
	for (i = 0; i < PEER_SLOTS; i++)
		make_slot(host, peer, &peer->slots[i]);
}

static void make_host(struct host *host)
{
	unsigned int i, extra;

	host->policy = policy_defaults();
	host->policy.max_links = 1 + input_below(&host->input, PEER_LINKS_MAX);
	host->now = 100000 * NS_PER_SECOND;
	host->next_cookie = 1;
	for (i = 0; i < PEERS_FIRST; i++)
		make_peer(host, i);
	extra = input_below(&host->input, SOCKETS_EACH);
	for (i = 0; i < extra; i++) {
		unsigned int byte = input_byte(&host->input);
		struct peer_address address = address_of(byte % ADDRESSES);

		add_socket(host, byte & 0x80 ? host->next_cookie++ : 0, &address, byte >> 2 & 3);
	}
}

static void slot_ends(struct host *host, struct peer *peer, __u64 cookie, unsigned int byte)
{
	const struct slot_ended end = {
		.cookie = cookie,
		.now = host->now,
		.ending = byte % (ENDING_LOCAL + 1),
		.spoke = byte >> 7,
		.random = byte,
	};

	slot_end(peer, &host->policy, &end);
}

/* What the kernel and the service do between two checks. */
static void something_changes(struct host *host)
{
	unsigned int byte = input_byte(&host->input);
	struct seen_socket *socket =
		host->socket_count ? &host->sockets[byte / 8 % host->socket_count] : NULL;
	struct peer_address address = address_of(byte / 8 % ADDRESSES);
	struct peer *peer;

	switch (byte % 8) {
	case 0:
		break;
	case 1:
		host->now += 3 * NS_PER_SECOND;
		break;
	case 2:
		host->now += 2 * FORGET_AFTER_NS;
		break;
	case 3: /* a link ends, and the hook sees it */
		if (!socket || !socket->cookie)
			break;
		peer = peer_of(host, &socket->address);
		if (peer)
			slot_ends(host, peer, socket->cookie, byte);
		remove_socket(host, socket->cookie);
		break;
	case 4: /* a link ends, unseen */
		if (socket && socket->cookie)
			remove_socket(host, socket->cookie);
		break;
	case 5: /* a link comes up, unseen */
		add_socket(host, host->next_cookie++, &address, 2 | (byte >> 7));
		break;
	case 6: /* it is established, or being closed, or its last ACK has come */
		if (socket && socket->cookie) {
			socket->established = !socket->established;
			socket->opening = false;
		}
		break;
	case 7: /* a link comes up, and the hook sees it */
		peer = peer_of(host, &address);
		if (peer && !(peer->flags & PEER_LEAVING)) {
			struct link link = { .cookie = host->next_cookie++,
					     .now = host->now,
					     .direction = DIRECTION_INBOUND,
					     .client_isn = byte,
					     .mode = MODE_ENFORCE };

			link_up(peer, &host->policy, &link);
			add_socket(host, link.cookie, &address, 2);
		}
		break;
	}
}

/* ---- a check and its actions ----------------------------------------------------------------- */

static bool is_repair(const struct check_action *action)
{
	return action->kind == CHECK_RELEASE || action->kind == CHECK_SPARE ||
	       action->kind == CHECK_ADOPT;
}

/* What can be said of an action without knowing what came before it. */
static void check_action(struct host *host, const struct check_action *action)
{
	struct peer *peer = peer_of(host, &action->address);
	struct seen_socket *socket = socket_of(host, action->cookie);
	bool one_socket = is_repair(action) || action->kind == CHECK_DESTROY;
	bool whole = action->kind == CHECK_ADOPT || action->kind == CHECK_DESTROY;

	must(action->kind >= CHECK_EXPIRE && action->kind <= CHECK_ANNOUNCE_DUE);
	must(!!action->cookie == one_socket);
	must(whole || (!action->direction && !action->local_port && !action->remote_port));
	must(peer || action->kind == CHECK_ADOPT);
	/* An entry on its way out is nobody's: a socket to it is a stranger's. */
	must(!peer || !(peer->flags & PEER_LEAVING) || action->kind == CHECK_ADOPT);
	/* Of what is seen for the first time nothing is repaired. */
	must(!host->first_run || !is_repair(action));
	if (whole) {
		must(socket && socket->established);
		must(address_equal(&socket->address, &action->address));
	}
}

/* Blocks of one address each; within a block in the order of enum check_kind. */
static void check_order(const struct check_action *actions, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		if (address_equal(&actions[i].address, &actions[i - 1].address)) {
			must(actions[i].kind >= actions[i - 1].kind);
			continue;
		}
		for (size_t j = 0; j + 1 < i; j++)
			must(!address_equal(&actions[i].address, &actions[j].address));
	}
}

/* Carry one action out, as the daemon, the command program and the kernel do. */
static void act(struct host *host, const struct check_action *action)
{
	struct peer *peer = peer_of(host, &action->address);
	const struct slot *slot = peer ? slot_held(peer, action->cookie) : NULL;
	struct link link = { .cookie = action->cookie,
			     .now = host->now,
			     .direction = action->direction,
			     .adopted = 1,
			     .local_port = action->local_port,
			     .remote_port = action->remote_port };

	switch (action->kind) {
	case CHECK_EXPIRE:
		must(claims_expire(peer, host->now).cause == CAUSE_claim_expired);
		break;
	case CHECK_RELEASE:
		must(slot);
		slot_release(peer, action->cookie, CAUSE_link_released, host->now);
		break;
	case CHECK_SPARE:
		must(slot && slot->kind == SLOT_LINK && slot->flags & SLOT_DOOMED);
		must(link_spare(peer, &host->policy, action->cookie, host->now).cause ==
		     CAUSE_link_spared);
		break;
	case CHECK_ADOPT:
		if (!peer) {
			must(host->peer_count < ADDRESSES);
			peer = &host->peers[host->peer_count++];
			memset(peer, 0, sizeof(*peer));
		} else if (peer->flags & PEER_LEAVING) {
			/* It is gone meanwhile. */
			memset(peer, 0, sizeof(*peer));
		} else {
			must(!slot || slot->kind == SLOT_CLAIM);
		}
		must(peer_is(peer, &action->address, host->now));
		must(link_up(peer, &host->policy, &link).cause == CAUSE_link_adopted);
		break;
	case CHECK_DESTROY:
		must(slot && slot->kind == SLOT_LINK && slot->flags & SLOT_DOOMED);
		remove_socket(host, action->cookie);
		must(has_established(host, &action->address));
		slot_ends(host, peer, action->cookie, 0);
		break;
	case CHECK_FORGET:
		must(!has_established(host, &action->address));
		must(peer_forget(peer, host->now, host->now - FORGET_AFTER_NS));
		*peer = host->peers[--host->peer_count];
		break;
	case CHECK_ANNOUNCE_DUE:
		must(!has_established(host, &action->address));
		must(peer_due(peer, host->now));
		peer->due_ns = host->now;
		break;
	}
}

/* A whole check, in pieces of some size. *ret_actions is the caller's. */
static size_t check_all(struct host *host, const struct check_input *input, const struct peer *peers,
			size_t peer_count, struct check_action **ret_actions)
{
	size_t piece = 1 + peer_count % 3, count = 0, more, at = 0;
	const struct check_action *actions;
	struct check_action *all = NULL;
	struct check *check;
	bool ended = false;

	must(!check_begin(input, host->memory, &check));
	while (!ended) {
		size_t left = peer_count - at, now = left < piece ? left : piece;

		ended = !now;
		must(!(now ? check_peers(check, peers + at, now, &actions, &more) :
			     check_end(check, &actions, &more)));
		at += now;
		all = reallocarray(all, count + more + 1, sizeof(*all));
		must(all);
		if (more)
			memcpy(all + count, actions, more * sizeof(*all));
		count += more;
	}
	check_free(check);
	*ret_actions = all;
	return count;
}

/* Check once. Returns how many of the actions change more than time and announcements do. */
static size_t run(struct host *host)
{
	const struct check_input input = { .sockets = host->sockets,
					   .socket_count = host->socket_count,
					   .policy = host->policy,
					   .now_ns = host->now,
					   .forget_after_ns = FORGET_AFTER_NS };
	const struct host was = *host;
	cleanup_free struct check_action *actions = NULL;
	size_t count, changes = 0, i;

	count = check_all(host, &input, host->peers, host->peer_count, &actions);
	must(!memcmp(host->peers, was.peers, sizeof(was.peers)));
	must(!memcmp(host->sockets, was.sockets, sizeof(was.sockets)));
	check_order(actions, count);
	for (i = 0; i < count; i++)
		check_action(host, &actions[i]);
	for (i = 0; i < count; i++) {
		changes += actions[i].kind != CHECK_ANNOUNCE_DUE;
		act(host, &actions[i]);
	}
	host->first_run = false;
	return changes;
}

/* No slot without its socket, no established socket without its slot if there is one left. */
static void check_agreement(struct host *host)
{
	for (size_t i = 0; i < host->peer_count; i++) {
		struct peer *peer = &host->peers[i];

		for (int j = 0; j < PEER_SLOTS; j++) {
			const struct seen_socket *socket = socket_of(host, peer->slots[j].cookie);

			if (peer->flags & PEER_LEAVING || peer->slots[j].kind != SLOT_LINK)
				continue;
			must(socket && (socket->established || socket->opening));
		}
	}
	for (size_t i = 0; i < host->socket_count; i++) {
		const struct seen_socket *socket = &host->sockets[i];
		struct peer *peer = peer_of(host, &socket->address);
		const struct slot *slot = peer ? slot_held(peer, socket->cookie) : NULL;
		unsigned int taken = 0;

		if (!socket->established || !socket->cookie ||
		    (peer && peer->flags & PEER_LEAVING))
			continue;
		must(peer);
		for (int j = 0; j < PEER_SLOTS; j++)
			taken += peer->slots[j].kind != SLOT_FREE;
		must((slot && slot->kind == SLOT_LINK) || taken == PEER_SLOTS);
	}
}

/* Peers of any bytes: the check gets through, twice. */
static void any_bytes(struct host *host)
{
	struct check_input input = { .sockets = host->sockets,
				     .policy = host->policy };
	struct check_action *actions;
	size_t i;

	input_bytes(&host->input, &host->now, sizeof(host->now));
	input_bytes(&host->input, &host->policy, sizeof(host->policy));
	input_bytes(&host->input, &input.forget_after_ns, sizeof(input.forget_after_ns));
	input_bytes(&host->input, host->peers, sizeof(host->peers));
	for (i = 0; i < SOCKETS_EACH; i++) {
		struct seen_socket *socket = &host->sockets[i];

		input_bytes(&host->input, &socket->cookie, sizeof(socket->cookie));
		socket->address = host->peers[input_below(&host->input, ADDRESSES)].address;
		input_bytes(&host->input, &socket->direction, sizeof(socket->direction));
		socket->established = input_below(&host->input, 2);
		socket->opening = !socket->established;
	}
	input.policy = host->policy;
	input.socket_count = SOCKETS_EACH;
	input.now_ns = host->now;
	for (i = 0; i < 2; i++) {
		check_all(host, &input, host->peers, ADDRESSES, &actions);
		free(actions);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct host host;
	unsigned int rounds;
	size_t changes = 0;

	memset(&host, 0, sizeof(host));
	host.input = (struct input){ .next = data, .left = size };
	host.first_run = true;
	host.memory = check_memory_new();
	must(host.memory);
	if (input_below(&host.input, 8) == 7) {
		any_bytes(&host);
	} else {
		make_host(&host);
		for (rounds = 0; host.input.left && rounds < ROUNDS_MAX; rounds++) {
			run(&host);
			something_changes(&host);
		}
		for (rounds = 0; rounds < ROUNDS_TO_REST; rounds++) {
			changes = run(&host);
			host.now += CHECK_LASTS_NS;
		}
		must(!changes);
		check_agreement(&host);
	}
	check_memory_free(host.memory);
	return 0;
}
