// SPDX-License-Identifier: BSD-2-Clause
/* Who goes first when the peers map is full. */
#include <setjmp.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <connguard/rules.h>

#include "pure/eviction.h"
#include "seeded_random.h"

#define NOW (1000 * NS_PER_SECOND)
#define MANY 500

static struct peer peer_idle_since(__u16 number, __u64 last_active_ns, __u32 flags)
{
	return (struct peer){ .address.bytes = { [14] = number >> 8, [15] = number & 0xff },
			      .last_active_ns = last_active_ns,
			      .flags = flags };
}

static bool is_chosen(const struct eviction *eviction, __u16 number)
{
	const struct peer wanted = peer_idle_since(number, 0, 0);
	const struct peer_address *addresses;
	size_t count = eviction_chosen(eviction, &addresses);

	for (size_t i = 0; i < count; i++)
		if (address_equal(&addresses[i], &wanted.address))
			return true;
	return false;
}

static void only_peers_without_state(void **state)
{
	struct eviction *eviction = eviction_new(100, NULL);
	const struct peer_address *none;
	struct peer peer;

	(void)state;
	assert_non_null(eviction);
	for (int i = 0; i < 7; i++) {
		peer = peer_idle_since(i, NOW - NS_PER_SECOND, 0);
		peer.flags |= i == 0 ? PEER_KNOWN : i == 1 ? PEER_LEAVING : 0;
		peer.limit = i == 2;
		peer.next_attempt_ns = i == 3 ? NOW + 1 : 0;
		peer.exempt_until_ns = i == 4 ? NOW + 1 : 0;
		peer.slots[7].kind = i == 5 ? SLOT_LINK : i == 6 ? SLOT_CLAIM : SLOT_FREE;
		eviction_consider(eviction, &peer, NOW);
		assert_int_equal(eviction_chosen(eviction, &none), 0);
	}
	peer = peer_idle_since(9, NOW, 0);
	eviction_consider(eviction, &peer, NOW);
	assert_true(is_chosen(eviction, 9));
	eviction_free(eviction);
	eviction_free(NULL);
}

/* Whoever has only knocked before those that we dial, of each kind the longest idle. */
static void knockers_first_then_the_longest_idle(void **state)
{
	struct seeded_random random = { .state = 1 };

	(void)state;
	for (int chosen = 1; chosen <= MANY; chosen += 37) {
		struct eviction *eviction = eviction_new(chosen, NULL);
		const struct peer_address *addresses;
		int order[MANY];

		for (int i = 0; i < MANY; i++)
			order[i] = i;
		for (int i = MANY - 1; i > 0; i--) {
			int other = (int)random_below(&random, i + 1), kept = order[i];

			order[i] = order[other];
			order[other] = kept;
		}
		/* In the order of their numbers they should go. */
		for (int i = 0; i < MANY; i++) {
			int number = order[i];
			bool dialed = number >= MANY / 2;
			struct peer peer = peer_idle_since(number,
							   NOW - (MANY - number % (MANY / 2)) * NS_PER_MS,
							   dialed ? PEER_DIALED : 0);

			eviction_consider(eviction, &peer, NOW);
		}
		assert_int_equal(eviction_chosen(eviction, &addresses), chosen);
		for (int number = 0; number < MANY; number++)
			assert_int_equal(is_chosen(eviction, number), number < chosen);
		eviction_free(eviction);
	}
}

/* For a network's places: those of it that have one. */
static void of_one_network_those_with_a_place(void **state)
{
	static const __u32 flags[] = { PEER_COUNTED, PEER_COUNTED | PEER_DIALED, 0, PEER_COUNTED | PEER_KNOWN };
	const struct peer_network network = { { 0xfd, 1, 2, 3, 4, 5, 6, 7 } };
	struct eviction *eviction = eviction_new(100, &network);
	const struct peer_address *addresses;

	(void)state;
	assert_non_null(eviction);
	for (__u16 i = 0; i < 4 * 65; i++) {
		struct peer peer = peer_idle_since(i, NOW - NS_PER_SECOND, flags[i % 4]);

		memcpy(peer.address.bytes, network.bytes, sizeof(network.bytes));
		/* All but the last four are of other networks, by a bit each. */
		if (i < 4 * 64)
			peer.address.bytes[i / 4 / 8] ^= 1 << i / 4 % 8;
		eviction_consider(eviction, &peer, NOW);
	}
	assert_int_equal(eviction_chosen(eviction, &addresses), 2);
	for (size_t i = 0; i < 2; i++) {
		assert_memory_equal(addresses[i].bytes, network.bytes, sizeof(network.bytes));
		assert_in_range(addresses[i].bytes[14] << 8 | addresses[i].bytes[15], 4 * 64, 4 * 64 + 1);
	}
	eviction_free(eviction);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_peers_without_state),
		cmocka_unit_test(knockers_first_then_the_longest_idle),
		cmocka_unit_test(of_one_network_those_with_a_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
