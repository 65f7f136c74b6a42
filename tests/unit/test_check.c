/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The periodic check: what it says of every kind of difference between the map and the sockets, and
 * what it leaves alone.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <connguard/rules.h>

#include "pure/check.h"

#define NOW (100000 * NS_PER_SECOND)
#define FORGET_AFTER (1000 * NS_PER_SECOND)
/* Longer than a test looks. */
#define LATER (NOW + 100 * NS_PER_SECOND)
#define PEERS_MAX 8
#define SOCKETS_MAX 32

/* A map, the sockets and the memory of the check before. */
struct world {
	struct peer peers[PEERS_MAX];
	struct seen_socket sockets[SOCKETS_MAX];
	size_t peer_count;
	size_t socket_count;
	struct guard_policy policy;
	__u64 now_ns;
	struct check_memory *memory;
	char actions[1024];
};

static struct peer_address address_of(__u8 number)
{
	struct peer_address address = { .bytes = { [10] = 0xff, [11] = 0xff, 10, 0, 0, number } };

	return address;
}

static int begin(void **state)
{
	struct world *world = calloc(1, sizeof(*world));

	assert_non_null(world);
	world->policy = policy_defaults();
	world->now_ns = NOW;
	world->memory = check_memory_new();
	assert_non_null(world->memory);
	*state = world;
	return 0;
}

static int end(void **state)
{
	struct world *world = *state;

	check_memory_free(world->memory);
	check_memory_free(NULL);
	free(world);
	return 0;
}

/* Peer `number`, dialed once and active just now. */
static struct peer *add_peer(struct world *world, __u8 number)
{
	struct peer *peer = &world->peers[world->peer_count++];

	peer->address = address_of(number);
	peer->flags = PEER_DIALED;
	peer->last_active_ns = NOW - NS_PER_SECOND;
	return peer;
}

static struct slot *add_slot(struct peer *peer, int index, enum slot_kind kind, __u64 cookie)
{
	struct slot *slot = &peer->slots[index];

	slot->kind = kind;
	slot->cookie = cookie;
	slot->direction = DIRECTION_OUTBOUND;
	slot->local_port = (__u16)(50000 + cookie);
	slot->remote_port = 24000;
	if (kind == SLOT_CLAIM) {
		slot->flags = SLOT_SENT;
		slot->expires_ns = NOW + 100 * NS_PER_SECOND;
	}
	return slot;
}

static struct seen_socket *add_socket(struct world *world, __u8 number, __u64 cookie,
				      bool established)
{
	struct seen_socket *socket = &world->sockets[world->socket_count++];

	*socket = (struct seen_socket){
		.cookie = cookie,
		.address = address_of(number),
		.direction = DIRECTION_INBOUND,
		.established = established,
		.local_port = 24000,
		.remote_port = (__u16)(40000 + cookie),
	};
	return socket;
}

/*
 * Check once: the actions as words, "KIND PEER COOKIE DIRECTION LOCAL>REMOTE;" each, nothing that
 * is 0. Until the next time CHECK_LASTS_NS go by.
 */
static const char *check(struct world *world)
{
	static const char *const kinds[] = { [CHECK_EXPIRE] = "expire",
					     [CHECK_RELEASE] = "release",
					     [CHECK_SPARE] = "spare",
					     [CHECK_ADOPT] = "adopt",
					     [CHECK_DESTROY] = "destroy",
					     [CHECK_FORGET] = "forget",
					     [CHECK_ANNOUNCE_DUE] = "due" };
	const struct check_input input = {
		.sockets = world->sockets,
		.socket_count = world->socket_count,
		.policy = world->policy,
		.now_ns = world->now_ns,
		.forget_after_ns = FORGET_AFTER,
	};
	const struct check_action *actions;
	char *text = world->actions;
	struct check *check;
	size_t count;

	assert_int_equal(check_begin(&input, world->memory, &check), 0);
	*text = '\0';
	/* Piece by piece. */
	for (size_t piece = 0; piece <= world->peer_count; piece++) {
		if (piece < world->peer_count)
			assert_int_equal(check_peers(check, &world->peers[piece], 1, &actions, &count),
					 0);
		else
			assert_int_equal(check_end(check, &actions, &count), 0);
		for (size_t index = 0; index < count; index++) {
			const struct check_action *action = &actions[index];

			text += sprintf(text, "%s %u", kinds[action->kind], action->address.bytes[15]);
			if (action->announced)
				text += sprintf(text, " again");
			if (action->cookie)
				text += sprintf(text, " %llu", action->cookie);
			if (action->direction)
				text += sprintf(text, " %s %u>%u",
						action->direction == DIRECTION_OUTBOUND ? "out" : "in",
						action->local_port, action->remote_port);
			text += sprintf(text, ";");
		}
	}
	check_free(check);
	world->now_ns += CHECK_LASTS_NS;
	return world->actions;
}

static void nothing_there(void **state)
{
	assert_string_equal(check(*state), "");
}

static void map_and_sockets_agree(void **state)
{
	struct world *world = *state;
	struct peer *linked = add_peer(world, 1), *dialing = add_peer(world, 2);
	struct peer *both = add_peer(world, 3);
	int round;

	add_slot(linked, 0, SLOT_LINK, 11);
	add_socket(world, 1, 11, true);
	add_slot(dialing, 3, SLOT_CLAIM, 12);
	add_socket(world, 2, 12, false);
	add_slot(both, 0, SLOT_LINK, 13);
	add_slot(both, 7, SLOT_CLAIM, 14);
	add_socket(world, 3, 14, false);
	add_socket(world, 3, 13, true);
	for (round = 0; round < 3; round++)
		assert_string_equal(check(world), "");
}

static void due_peers(void **state)
{
	struct world *world = *state;
	struct peer *peer;

	/*
	 * Idle and dialed; idle and known; a knocker that we never dial; in backoff; one whose
	 * backoff is just over.
	 */
	add_peer(world, 1);
	add_peer(world, 2)->flags = PEER_KNOWN;
	add_peer(world, 3)->flags = 0;
	add_peer(world, 4)->next_attempt_ns = LATER;
	add_peer(world, 5)->next_attempt_ns = NOW;
	/* Dialing, its SYN not sent yet; leaving. */
	peer = add_peer(world, 6);
	add_slot(peer, 0, SLOT_CLAIM, 16)->flags = 0;
	add_peer(world, 7)->flags |= PEER_LEAVING;
	assert_string_equal(check(world), "due 1;due 2;due 5;");
	/* Again and again until somebody dials; who was announced is said to have been. */
	world->peers[1].due_ns = NOW;
	assert_string_equal(check(world), "due 1;due 2 again;due 5;");
}

static void closing_socket_does_not_keep_a_peer_from_being_due(void **state)
{
	struct world *world = *state;

	add_peer(world, 1);
	add_socket(world, 1, 11, false);
	assert_string_equal(check(world), "due 1;");
}

static void link_without_socket(void **state)
{
	struct world *world = *state;

	add_slot(add_peer(world, 1), 2, SLOT_LINK, 11);
	add_socket(world, 2, 11, false); /* the cookie of another peer's socket is not it */
	assert_string_equal(check(world), "");
	/* Repaired, and due by the same check. */
	assert_string_equal(check(world), "release 1 11;due 1;");
	/* Not repaired by whoever should have: said again. */
	assert_string_equal(check(world), "release 1 11;due 1;");
}

static void link_with_closing_socket(void **state)
{
	struct world *world = *state;

	add_slot(add_peer(world, 1), 0, SLOT_LINK, 11);
	add_socket(world, 1, 11, false);
	assert_string_equal(check(world), "");
	assert_string_equal(check(world), "release 1 11;due 1;");
}

static void claim_without_socket(void **state)
{
	struct world *world = *state;

	add_slot(add_peer(world, 1), 0, SLOT_CLAIM, 11);
	/* Not sent: no socket is expected. */
	add_slot(add_peer(world, 2), 0, SLOT_CLAIM, 12)->flags = 0;
	assert_string_equal(check(world), "");
	assert_string_equal(check(world), "release 1 11;due 1;");
}

static void one_look_is_no_proof(void **state)
{
	struct world *world = *state;
	struct peer *peer = add_peer(world, 1);
	struct slot *slot = add_slot(peer, 0, SLOT_LINK, 11);

	assert_string_equal(check(world), "");
	/* Another socket's slot: another suspicion. */
	slot->cookie = 12;
	assert_string_equal(check(world), "");
	/* A check that does not see it in between: begins anew. */
	add_socket(world, 1, 12, true);
	assert_string_equal(check(world), "");
	world->socket_count = 0;
	assert_string_equal(check(world), "");
	assert_string_equal(check(world), "release 1 12;due 1;");
}

static void a_difference_counts_when_it_has_lasted(void **state)
{
	struct world *world = *state;

	add_slot(add_peer(world, 1), 0, SLOT_LINK, 11);
	add_socket(world, 2, 12, true);
	check(world);
	/* Any number of looks within that time is one look. */
	world->now_ns = NOW + CHECK_LASTS_NS / 2;
	assert_string_equal(check(world), "");
	world->now_ns = NOW + CHECK_LASTS_NS - 1;
	assert_string_equal(check(world), "");
	world->now_ns = NOW + CHECK_LASTS_NS;
	assert_string_equal(check(world), "release 1 11;due 1;adopt 2 12 in 24000>40012;");
}

static void backoff_outlives_a_release(void **state)
{
	struct world *world = *state;
	struct peer *peer = add_peer(world, 1);

	add_slot(peer, 0, SLOT_LINK, 11);
	peer->next_attempt_ns = LATER;
	check(world);
	assert_string_equal(check(world), "release 1 11;");
}

static void expired_claim(void **state)
{
	struct world *world = *state;
	struct peer *peer = add_peer(world, 1);
	struct slot *slot = add_slot(peer, 0, SLOT_CLAIM, 11);

	slot->expires_ns = NOW;
	/* At once, whether or not a socket is there; and only once for a peer. */
	add_slot(peer, 1, SLOT_CLAIM, 12)->expires_ns = NOW - 1;
	add_socket(world, 1, 12, false);
	assert_string_equal(check(world), "expire 1;due 1;");
	slot->expires_ns = LATER;
	add_socket(world, 1, 11, false);
	assert_string_equal(check(world), "expire 1;");
}

static void unseen_link(void **state)
{
	struct world *world = *state;

	add_peer(world, 1);
	add_socket(world, 1, 11, true);
	add_socket(world, 9, 19, true); /* a peer that the map does not have */
	add_socket(world, 9, 18, false);
	add_socket(world, 9, 0, true); /* the kernel names no cookie */
	assert_string_equal(check(world), ""); /* not due either: it is linked */
	assert_string_equal(check(world), "adopt 1 11 in 24000>40011;adopt 9 19 in 24000>40019;");
}

static void unseen_link_of_a_leaving_peer(void **state)
{
	struct world *world = *state;
	struct peer *peer = add_peer(world, 1);

	peer->flags = PEER_LEAVING;
	add_slot(peer, 0, SLOT_LINK, 12);
	add_socket(world, 1, 11, true);
	assert_string_equal(check(world), "");
	assert_string_equal(check(world), "adopt 1 11 in 24000>40011;");
}

static void claim_that_became_a_link_unseen(void **state)
{
	struct world *world = *state;

	add_slot(add_peer(world, 1), 0, SLOT_CLAIM, 11);
	add_socket(world, 1, 11, true);
	assert_string_equal(check(world), "");
	/* The claim knows who dialed. */
	assert_string_equal(check(world), "adopt 1 11 out 24000>40011;");
}

static void no_slot_left_to_adopt_into(void **state)
{
	struct world *world = *state;
	struct peer *peer = add_peer(world, 1);
	__u64 cookie;

	for (cookie = 1; cookie <= PEER_SLOTS; cookie++) {
		add_slot(peer, (int)cookie - 1, SLOT_LINK, cookie);
		add_socket(world, 1, cookie, true);
	}
	add_socket(world, 1, 11, true);
	check(world);
	assert_string_equal(check(world), "");
	/* A dead link makes room, and what it made room for comes behind it. */
	world->sockets[4].established = false;
	check(world);
	assert_string_equal(check(world), "release 1 5;adopt 1 11 in 24000>40011;");
}

static void strangers_share_the_slots_too(void **state)
{
	struct world *world = *state;
	const char *actions;
	size_t adoptions = 0;
	__u64 cookie;

	for (cookie = 1; cookie <= PEER_SLOTS + 2; cookie++)
		add_socket(world, 9, cookie, true);
	check(world);
	for (actions = check(world); (actions = strstr(actions, "adopt 9 ")); actions++)
		adoptions++;
	assert_int_equal(adoptions, PEER_SLOTS);
}

static void link_too_many(void **state)
{
	struct world *world = *state;
	struct peer *peer = add_peer(world, 1);

	add_slot(peer, 0, SLOT_LINK, 11)->flags = SLOT_DOOMED;
	add_slot(peer, 1, SLOT_LINK, 12);
	add_socket(world, 1, 11, true);
	add_socket(world, 1, 12, true);
	assert_string_equal(check(world), "destroy 1 11 out 50011>24000;");
	/* Its socket is going already. */
	world->sockets[0].established = false;
	assert_string_equal(check(world), "");
	assert_string_equal(check(world), "release 1 11;");
}

static void last_live_link_is_not_destroyed(void **state)
{
	struct world *world = *state;
	struct peer *peer = add_peer(world, 1);

	add_slot(peer, 0, SLOT_LINK, 11)->flags = SLOT_DOOMED;
	add_slot(peer, 1, SLOT_LINK, 12); /* the winner, dead */
	add_socket(world, 1, 11, true);
	assert_string_equal(check(world), "");
	/* The loser is what is left: it stays. */
	assert_string_equal(check(world), "release 1 12;spare 1 11;");
	/* Two doomed ones: one stays, the other has a live link beside it then. */
	peer->slots[1].flags = SLOT_DOOMED;
	add_socket(world, 1, 12, true);
	assert_string_equal(check(world), "spare 1 11;"
					  "destroy 1 12 out 50012>24000;");
}

/* What a peer has at one service is neither company nor a claim at another, nor is it found there. */
static void services_are_told_apart(void **state)
{
	struct world *world = *state;
	struct peer *first = add_peer(world, 1), *second = add_peer(world, 1);
	struct seen_socket *stray;

	first->address.service = 2888;
	second->address.service = 3888;
	/* A link at each; at the second a doomed one, whose winner is dead. */
	add_slot(first, 0, SLOT_LINK, 11);
	add_socket(world, 1, 11, true)->address.service = 2888;
	add_slot(second, 0, SLOT_LINK, 12)->flags = SLOT_DOOMED;
	add_socket(world, 1, 12, true)->address.service = 3888;
	assert_string_equal(check(world), "");
	assert_string_equal(check(world), "spare 1 12;");
	second->slots[0].flags = 0;
	assert_string_equal(check(world), "");
	/* The same socket at the other service is another's: of its own neither is seen. */
	world->sockets[1].address.service = 2888;
	assert_string_equal(check(world), "");
	assert_string_equal(check(world), "adopt 1 12 in 24000>40012;release 1 12;due 1;");
	/* Adopted where it is seen; of three services the third is no peer of the map yet. */
	world->sockets[1].address.service = 3888;
	stray = add_socket(world, 1, 13, true);
	stray->address.service = 4888;
	assert_string_equal(check(world), "");
	assert_string_equal(check(world), "adopt 1 13 in 24000>40013;");
	/* Idle at one is due at that one, whatever the other has. */
	world->socket_count = 1;
	second->slots[0].kind = SLOT_FREE;
	assert_string_equal(check(world), "due 1;");
}

static void last_link_is_spared_only_when_seen_twice(void **state)
{
	struct world *world = *state;
	struct peer *peer = add_peer(world, 1);

	add_slot(peer, 0, SLOT_LINK, 11)->flags = SLOT_DOOMED;
	add_socket(world, 1, 11, true);
	assert_string_equal(check(world), "");
	/* Meanwhile it is going, as it should. */
	world->sockets[0].established = false;
	assert_string_equal(check(world), "due 1;");
	world->sockets[0].established = true;
	assert_string_equal(check(world), "");
	assert_string_equal(check(world), "spare 1 11;");
}

/* Fast Open: the application has the socket before the last ACK, and the map has the link. */
static void link_before_its_last_ack_is_no_drift(void **state)
{
	struct world *world = *state;
	struct peer *peer = add_peer(world, 1);
	struct seen_socket *socket = add_socket(world, 1, 11, false);

	add_slot(peer, 0, SLOT_LINK, 11);
	socket->opening = true;
	for (int i = 0; i < 3; i++)
		assert_string_equal(check(world), "");
	/* Too little to be taken for a link that the map lacks, or to end another one for. */
	peer->slots[0].kind = SLOT_FREE;
	for (int i = 0; i < 3; i++)
		assert_string_equal(check(world), "due 1;");
	peer->slots[0].kind = SLOT_LINK;
	add_slot(peer, 1, SLOT_LINK, 12)->flags = SLOT_DOOMED;
	add_socket(world, 1, 12, true);
	assert_string_equal(check(world), "");
	/* The ACK never came. */
	socket->opening = false;
	peer->slots[1].kind = SLOT_FREE;
	world->sockets[1].established = false;
	assert_string_equal(check(world), "");
	assert_string_equal(check(world), "release 1 11;due 1;");
}

static void forgotten_peers(void **state)
{
	struct world *world = *state;
	struct peer *peer;

	add_peer(world, 1)->last_active_ns = NOW - FORGET_AFTER;
	add_peer(world, 2)->last_active_ns = NOW - FORGET_AFTER + 1;
	peer = add_peer(world, 3);
	peer->last_active_ns = 1;
	peer->flags = PEER_KNOWN;
	peer = add_peer(world, 4);
	peer->last_active_ns = 1;
	peer->limit = 2;
	peer = add_peer(world, 5);
	peer->last_active_ns = 1;
	add_socket(world, 5, 15, true);
	peer = add_peer(world, 6);
	peer->last_active_ns = 1;
	peer->flags = 0;
	/* Who only knocks is forgotten within minutes. */
	peer = add_peer(world, 7);
	peer->last_active_ns = NOW - CHECK_KNOCKER_FORGOTTEN_NS;
	peer->flags = 0;
	peer = add_peer(world, 8);
	peer->last_active_ns = NOW - CHECK_KNOCKER_FORGOTTEN_NS + 1;
	peer->flags = 0;
	assert_string_equal(check(world), "forget 1;due 2;due 3;due 4;forget 6;forget 7;");
}

static void young_host_forgets_nobody(void **state)
{
	struct world *world = *state;

	world->now_ns = FORGET_AFTER / 2;
	add_peer(world, 1)->last_active_ns = 1;
	assert_string_equal(check(world), "due 1;");
}

/* One peer's repair does not lean on another's, whatever the order of the lists. */
static void order_does_not_matter(void **state)
{
	struct world *world = *state;
	__u8 number;

	for (number = PEERS_MAX; number > 0; number--) {
		add_slot(add_peer(world, number), number % PEER_SLOTS, SLOT_LINK, number);
		add_socket(world, (__u8)(number * 37 % 8 + 1), 100 + number, true);
	}
	check(world);
	check(world);
	for (number = 1; number <= PEERS_MAX; number++) {
		char words[64];

		sprintf(words, "release %u %u;adopt %u ", number, number, number);
		assert_non_null(strstr(world->actions, words));
	}
	assert_null(strstr(world->actions, "due"));
}

/* More sockets of peers that are not in the map than are looked at in a call. */
static void strangers_in_parts(void **state)
{
	static struct seen_socket sockets[5000];
	const size_t all = sizeof(sockets) / sizeof(*sockets);
	struct world *world = *state;
	struct check_input input = { .sockets = sockets, .socket_count = all, .policy = world->policy };

	for (size_t i = 0; i < all; i++)
		sockets[i] = (struct seen_socket){
			.cookie = i + 1,
			.address = { .bytes = { [10] = 0xff, [11] = 0xff, 10, 1, i >> 8, i & 0xff } },
			.direction = DIRECTION_INBOUND,
			.established = true,
		};
	/* The first look suspects them all. */
	for (int look = 0; look < 2; look++) {
		const struct check_action *actions;
		size_t count, parts = 0, found = 0;
		struct check *check;
		int result;

		input.now_ns = NOW + look * CHECK_LASTS_NS;
		assert_int_equal(check_begin(&input, world->memory, &check), 0);
		do {
			result = check_end(check, &actions, &count);
			assert_true(result >= 0 && count < all / 2);
			for (size_t i = 0; i < count; i++) {
				assert_int_equal(actions[i].kind, CHECK_ADOPT);
				/* By address, each once. */
				assert_int_equal(actions[i].cookie, ++found);
			}
			parts++;
		} while (result);
		assert_true(parts > 2);
		assert_int_equal(found, look ? all : 0);
		check_free(check);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nothing_there),
		TEST(map_and_sockets_agree),
		TEST(due_peers),
		TEST(closing_socket_does_not_keep_a_peer_from_being_due),
		TEST(link_without_socket),
		TEST(link_with_closing_socket),
		TEST(claim_without_socket),
		TEST(one_look_is_no_proof),
		TEST(a_difference_counts_when_it_has_lasted),
		TEST(backoff_outlives_a_release),
		TEST(expired_claim),
		TEST(unseen_link),
		TEST(unseen_link_of_a_leaving_peer),
		TEST(claim_that_became_a_link_unseen),
		TEST(no_slot_left_to_adopt_into),
		TEST(strangers_in_parts),
		TEST(strangers_share_the_slots_too),
		TEST(link_too_many),
		TEST(last_live_link_is_not_destroyed),
		TEST(services_are_told_apart),
		TEST(last_link_is_spared_only_when_seen_twice),
		TEST(link_before_its_last_ack_is_no_drift),
		TEST(forgotten_peers),
		TEST(young_host_forgets_nobody),
		TEST(order_does_not_matter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
