// SPDX-License-Identifier: BSD-2-Clause
/* The peers of a guard, counted. See census.h. */
#include "pure/census.h"

#include <connguard/rules.h>

#include "pure/surplus.h"

enum census_state census_state(const struct peer *peer, __u64 now_ns)
{
	bool linked = false, dialing = false;

	for (int i = 0; i < PEER_SLOTS; i++) {
		linked = linked || slot_is_link(&peer->slots[i]);
		dialing = dialing || slot_is_claim(&peer->slots[i], now_ns);
	}
	if (linked)
		return CENSUS_LINKED;
	if (dialing)
		return CENSUS_DIALING;
	if (peer_exempt(peer, now_ns))
		return CENSUS_EXEMPT;
	if (peer->next_attempt_ns > now_ns)
		return CENSUS_BACKOFF;
	return CENSUS_IDLE;
}

const char *census_state_name(enum census_state state)
{
	static const char *const names[CENSUS_STATES] = { "linked", "dialing", "backoff", "idle", "exempt" };

	return names[state];
}

void census_count(struct census *census, const struct peer *peer, const struct guard_policy *policy)
{
	int links = 0;

	census->count++;
	census->in_state[census_state(peer, census->taken_ns)]++;
	for (int i = 0; i < PEER_SLOTS; i++)
		links += peer->slots[i].kind == SLOT_LINK;
	if (links == PEER_SLOTS && !census->full++)
		census->full_peer = peer->address;
	if (surplus_has(peer, policy, census->taken_ns) && !census->surplus++) {
		census->surplus_peer = peer->address;
		census->surplus_links = peer_census(peer, policy, 0, census->taken_ns).links;
		census->surplus_limit = peer_limit(peer, policy);
	}
	habit_count_peer(&census->habit, peer, policy, census->taken_ns);
}
