// SPDX-License-Identifier: BSD-2-Clause
/* Habits of a service with its links. See habits.h. */
#include "pure/habits.h"

#include <stdbool.h>

#include <connguard/rules.h>

static bool nearly(__u32 part, __u32 whole)
{
	return (__u64)part * HABIT_SHARE_DENOMINATOR >= (__u64)whole * HABIT_SHARE_NUMERATOR;
}

/* ---- several links ---- */

/* A link that has lived for `age_ns`. */
static bool lasts(const struct slot *slot, __u64 age_ns, __u64 now_ns)
{
	return slot_is_link(slot) && slot->since_ns + age_ns <= now_ns;
}

/* Links of the peer that have. */
static __u32 lasting_links(const struct peer *peer, __u64 age_ns, __u64 now_ns)
{
	__u32 count = 0;

	for (int i = 0; i < PEER_SLOTS; i++)
		count += lasts(&peer->slots[i], age_ns, now_ns);
	return count;
}

/*
 * Each end keeps a link of its own: the lasting links are of both directions, and each was heard from since
 * the youngest of them came up. max_links is not asked, the caller has.
 */
static bool each_end_keeps_one(const struct peer *peer, __u64 age_ns, __u64 now_ns)
{
	bool outbound = false, inbound = false, heard = true;
	__u64 youngest_ns = 0;

	for (int i = 0; i < PEER_SLOTS; i++) {
		const struct slot *slot = &peer->slots[i];

		if (!lasts(slot, age_ns, now_ns))
			continue;
		outbound |= slot->direction == DIRECTION_OUTBOUND;
		inbound |= slot->direction == DIRECTION_INBOUND;
		if (slot->since_ns > youngest_ns)
			youngest_ns = slot->since_ns;
	}
	for (int i = 0; i < PEER_SLOTS; i++) {
		const struct slot *slot = &peer->slots[i];

		if (lasts(slot, age_ns, now_ns))
			heard &= slot->heard_ns >= youngest_ns;
	}
	return outbound && inbound && heard;
}

void habit_count_peer(struct habit_tally *tally, const struct peer *peer, const struct guard_policy *policy,
		      __u64 now_ns)
{
	__u32 links = lasting_links(peer, policy->min_uptime_ns, now_ns);

	if (!links)
		return;
	tally->linked++;
	if (links <= peer_limit(peer, policy))
		return;
	tally->with_several++;
	tally->each_end_keeps_one |= each_end_keeps_one(peer, policy->min_uptime_ns, now_ns);
	if (links > tally->most)
		tally->most = links;
}

struct habit habit_of_peers(const struct habit_tally *tally)
{
	if ((tally->with_several < HABIT_PEERS_MIN && !tally->each_end_keeps_one) ||
	    !nearly(tally->with_several, tally->linked))
		return (struct habit){};
	return (struct habit){ .kind = HABIT_SEVERAL_LINKS,
			       .max_links = tally->most > PEER_LINKS_MAX ? PEER_LINKS_MAX : tally->most,
			       .shown = tally->with_several,
			       .seen = tally->linked };
}

/* ---- dialing back ---- */

static bool is_first_link(const struct guard_event *event)
{
	return event->cause == CAUSE_link_outbound || event->cause == CAUSE_link_inbound;
}

static bool is_link_too_many(const struct guard_event *event)
{
	return event->cause == CAUSE_link_duplicate || event->cause == CAUSE_link_crossed;
}

/* A dial or a knock of this direction that enforcing would have refused, or kept, because the peer is linked. */
static bool is_attempt_while_linked(const struct guard_event *event, enum link_direction direction)
{
	if (event->enforced)
		return false;
	if (direction == DIRECTION_INBOUND)
		return event->cause == CAUSE_knock_linked;
	return event->cause == CAUSE_dial_linked || event->cause == CAUSE_dial_beside;
}

/* The event, after `events[from]`, in which the link of the socket `cookie` ends; NULL: not yet. */
static const struct guard_event *end_of(const struct guard_event *events, size_t count, size_t from)
{
	for (size_t i = from + 1; i < count; i++)
		if (events[i].cookie == events[from].cookie &&
		    (events[i].cause == CAUSE_link_ended || events[i].cause == CAUSE_link_short ||
		     events[i].cause == CAUSE_link_hung_up) &&
		    address_equal(&events[i].address, &events[from].address))
			return &events[i];
	return NULL;
}

/*
 * Was the first link `events[first]` followed by a short one in the other direction? It must have been
 * begun after the first was up: two dials that cross are no dial back.
 */
static bool followed(const struct guard_event *events, size_t count, size_t first, __u64 short_ns)
{
	const struct guard_event *link = &events[first], *end;
	enum link_direction back = link->direction == DIRECTION_INBOUND ? DIRECTION_OUTBOUND :
									  DIRECTION_INBOUND;
	bool attempted = false;

	for (size_t i = first + 1; i < count; i++) {
		const struct guard_event *event = &events[i];

		if (event->time_ns > link->time_ns + HABIT_FOLLOWS_NS)
			return false;
		if (!address_equal(&event->address, &link->address))
			continue;
		attempted |= is_attempt_while_linked(event, back);
		if (attempted && is_link_too_many(event) && event->direction == back) {
			end = end_of(events, count, i);
			return end && end->time_ns - event->time_ns < short_ns;
		}
	}
	return false;
}

struct habit habit_of_events(const struct guard_event *events, size_t count,
			     const struct guard_policy *policy, __u64 now_ns)
{
	struct habit habit = {};
	__u32 too_many = 0;

	for (size_t i = 0; i < count; i++) {
		bool shows;

		too_many += is_link_too_many(&events[i]);
		if (!is_first_link(&events[i]))
			continue;
		shows = followed(events, count, i, policy->min_uptime_ns);
		habit.shown += shows;
		habit.seen += shows || events[i].time_ns + HABIT_FOLLOWS_NS <= now_ns;
	}
	if (habit.shown < HABIT_FIRST_LINKS_MIN || !nearly(habit.shown, habit.seen) ||
	    !nearly(habit.shown, too_many))
		return (struct habit){};
	habit.kind = HABIT_DIAL_BACK;
	habit.max_links = policy->max_links + 1 > PEER_LINKS_MAX ? PEER_LINKS_MAX :
								   policy->max_links + 1;
	return habit;
}

/* ---- short links ---- */

/* Another link of the peer came up beside the first link `events[first]`, which was there until `until_ns`. */
static bool accompanied(const struct guard_event *events, size_t count, size_t first, __u64 until_ns)
{
	for (size_t i = first + 1; i < count && events[i].time_ns <= until_ns; i++)
		if ((is_link_too_many(&events[i]) || events[i].cause == CAUSE_link_replaced ||
		     is_first_link(&events[i])) &&
		    address_equal(&events[i].address, &events[first].address))
			return true;
	return false;
}

/* It ended without a fault of the network: closed by us, or by the peer before it had sent anything. */
static bool ended_by_design(const struct guard_event *end)
{
	return end->ending == ENDING_CLOSED || end->cause != CAUSE_link_ended;
}

struct habit habit_of_ends(const struct guard_event *events, size_t count,
			   const struct guard_policy *policy, __u64 now_ns)
{
	struct habit habit = {};

	for (size_t i = 0; i < count; i++) {
		const struct guard_event *end;
		__u64 until_ns;

		if (!is_first_link(&events[i]))
			continue;
		end = end_of(events, count, i);
		until_ns = end ? end->time_ns : now_ns;
		if ((!end && until_ns - events[i].time_ns < policy->min_uptime_ns) ||
		    accompanied(events, count, i, until_ns))
			continue;
		habit.seen++;
		if (!end || until_ns - events[i].time_ns >= policy->min_uptime_ns ||
		    !ended_by_design(end))
			continue;
		habit.shown++;
		habit.by_peer += end->ending != ENDING_CLOSED;
	}
	if (habit.shown < HABIT_FIRST_LINKS_MIN || habit.shown * 2 < habit.seen)
		return (struct habit){};
	habit.kind = HABIT_SHORT_LINKS;
	return habit;
}
