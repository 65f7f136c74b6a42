// SPDX-License-Identifier: BSD-2-Clause
/* Links that are older than the guard and more than their peer may have. See surplus.h. */
#include "pure/surplus.h"

#include <stdlib.h>

#include <connguard/rules.h>

bool surplus_has(const struct peer *peer, const struct guard_policy *policy, __u64 now_ns)
{
	bool marked = false;

	for (int i = 0; i < PEER_SLOTS; i++)
		marked = marked || (slot_is_link(&peer->slots[i]) && peer->slots[i].flags & SLOT_SURPLUS);
	return marked && !peer_exempt(peer, now_ns) &&
	       peer_census(peer, policy, 0, now_ns).links > peer_limit(peer, policy);
}

bool surplus_proven(const struct slot *slot, const struct guard_policy *policy, __u64 asked_ns, __u64 now_ns)
{
	return slot->heard_ns > slot->since_ns &&
	       (slot->heard_ns >= asked_ns || slot_shows_life(slot, policy, now_ns));
}

static int compare_links(const void *left, const void *right)
{
	const struct surplus_link *one = left, *other = right;

	if (one->held != other->held)
		return one->held ? -1 : 1;
	return (one->since_ns > other->since_ns) - (one->since_ns < other->since_ns);
}

void surplus_order(struct surplus_link *links, size_t count)
{
	qsort(links, count, sizeof(*links), compare_links);
}
