/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The peers of a guard, counted: where they stand, and what their links show.
 *
 * Pure. Counts one peer at a time, so that a map of any size can be walked piece by piece; decides where a peer
 * stands by the rules of connguard/rules.h.
 */
#ifndef PURE_CENSUS_H
#define PURE_CENSUS_H

#include <stdbool.h>
#include <stddef.h>

#include <connguard/abi.h>

#include "pure/habits.h"

/* Where a peer stands, in one word. A link or a claim says more than an exemption, which shows on its own. */
enum census_state {
	CENSUS_LINKED,
	CENSUS_DIALING,
	CENSUS_BACKOFF,
	CENSUS_IDLE,
	CENSUS_EXEMPT,
	CENSUS_STATES,
};

struct census {
	__u64 taken_ns; /* CLOCK_BOOTTIME: the peers are judged as of then; set by who begins */
	bool partial;   /* there are more that were not counted; set by who counts */
	size_t count;
	size_t in_state[CENSUS_STATES];
	size_t full; /* have links in all of their slots */
	struct peer_address full_peer; /* one of those */
	size_t surplus; /* have links older than the guard and more than they may have: surplus_has() */
	struct peer_address surplus_peer; /* one of those, */
	unsigned int surplus_links, surplus_limit; /* its links, and how many it may have */
	struct habit_tally habit;
};

enum census_state census_state(const struct peer *peer, __u64 now_ns);

/* "linked" and so on. */
const char *census_state_name(enum census_state state);

/* Count one more. A census begins zeroed but for `taken_ns`. */
void census_count(struct census *census, const struct peer *peer, const struct guard_policy *policy);

#endif
