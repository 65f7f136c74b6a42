/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a service does with its links by design, as far as it shows: services that want more than
 * one link a peer need another max_links before the guard refuses what they live on, and
 * links that are short by design must not pass for failures.
 *
 * Pure functions of a look at the peers and of the recent events; nothing is remembered in between.
 * Owns what counts as a habit, changes nothing: an operator decides. It shows where nothing is
 * refused, that is in observe mode.
 */
#ifndef PURE_HABITS_H
#define PURE_HABITS_H

#include <stdbool.h>
#include <stddef.h>

#include <connguard/abi.h>

enum habit_kind {
	HABIT_NONE = 0,
	/* nearly all linked peers keep more links than they may have */
	HABIT_SEVERAL_LINKS = 1,
	/*
	 * nearly every first link of a peer is followed by one short link in the other direction, which
	 * tests whether the peer can be reached, and hardly any other link is too many
	 */
	HABIT_DIAL_BACK = 2,
	/*
	 * half of the first links of a peer or more end young, closed by us, or by the peer without a byte
	 */
	HABIT_SHORT_LINKS = 3,
};

/* "Nearly" is three quarters. */
#define HABIT_SHARE_NUMERATOR 3
#define HABIT_SHARE_DENOMINATOR 4
/*
 * One peer makes a habit of several links only where it shows that each end keeps its own. Two first links
 * make none.
 */
#define HABIT_PEERS_MIN 2
#define HABIT_FIRST_LINKS_MIN 3
/* A dial back follows the first link within this time; a bug's next duplicate comes when its timer does. */
#define HABIT_FOLLOWS_NS (5 * 1000000000ULL)

struct habit {
	enum habit_kind kind;
	__u32 max_links; /* what would suit it, at most PEER_LINKS_MAX; 0: HABIT_NONE */
	__u32 shown;     /* so many peers, or first links, show it */
	__u32 seen;      /* of so many */
	__u32 by_peer;   /* HABIT_SHORT_LINKS: so many of those that show it were ended by the peer */
};

/* What peers show of their links, counted one by one; begins zeroed. */
struct habit_tally {
	__u32 linked;       /* peers with lasting links */
	__u32 with_several; /* of these, more than they may have */
	__u32 most;         /* lasting links of one of those */
	bool each_end_keeps_one;
};

/*
 * What counts are links that are older than the policy's min_uptime: a duplicate that an application rejects does
 * not live so long.
 */
void habit_count_peer(struct habit_tally *tally, const struct peer *peer, const struct guard_policy *policy,
		      __u64 now_ns);

/*
 * HABIT_SEVERAL_LINKS or HABIT_NONE. Of a single peer the links must be of both directions, and each heard from when
 * all of them were there: one that a crash has left is none.
 */
struct habit habit_of_peers(const struct habit_tally *tally);

/*
 * HABIT_DIAL_BACK or HABIT_NONE. `events` are oldest first. A first link that is younger than
 * HABIT_FOLLOWS_NS counts only when it was followed already. Short is below the policy's min_uptime.
 * Takes time in proportion to the square of `count`.
 */
struct habit habit_of_events(const struct guard_event *events, size_t count,
			     const struct guard_policy *policy, __u64 now_ns);

/*
 * HABIT_SHORT_LINKS or HABIT_NONE, of the same events. Young is below the policy's min_uptime. A first link
 * beside which another one came up is left out: one of two that crossed ends early by every rule.
 */
struct habit habit_of_ends(const struct guard_event *events, size_t count,
			   const struct guard_policy *policy, __u64 now_ns);

#endif
