// SPDX-License-Identifier: BSD-2-Clause
/* Does a quiet link show life? See life.h. */
#include "pure/life.h"

_Static_assert(LIFE_BESIDE_NS + 2 * NS_PER_SECOND + LIFE_PATIENCE_NS + 2 * LIFE_LOOK_NS < ASK_MAX_NS,
	       "TCP asks three times, a second apart, before a knock has waited for its longest");

static __u64 two_round_trips(const struct life_signs *signs)
{
	return 2 * signs->round_trip_ns;
}

enum life_verdict life_judge(struct life_trial *trial, const struct life_signs *signs, __u64 now)
{
	const __u64 round_trips = two_round_trips(signs);
	__u64 patience = round_trips < LIFE_PATIENCE_NS ? LIFE_PATIENCE_NS : round_trips;

	if (!signs->established)
		return LIFE_ENDED;
	/* Told in milliseconds, rounded down: what came just before the trial is not taken for an answer. */
	if (now > trial->began_ns && signs->silent_ns + NS_PER_MS < now - trial->began_ns) {
		trial->answered = true;
		if (!signs->stalled_ns)
			return LIFE_ALIVE;
		if (trial->knocked &&
		    now - signs->stalled_ns >= LIFE_STALLED_NS + round_trips)
			return LIFE_UNANSWERED;
	}
	if (signs->probes < LIFE_QUESTIONS && signs->retransmissions < LIFE_QUESTIONS)
		trial->exhausted_ns = 0;
	else if (!trial->exhausted_ns)
		trial->exhausted_ns = now;
	if (trial->exhausted_ns && now - trial->exhausted_ns >= patience)
		return LIFE_UNANSWERED;
	return now - trial->began_ns >= LIFE_GIVE_UP_NS ? LIFE_UNKNOWN : LIFE_UNDECIDED;
}

bool life_wants_tcp(const struct life_trial *trial, const struct life_signs *signs, __u64 now)
{
	return !trial->answered && now - trial->began_ns >= LIFE_BESIDE_NS + two_round_trips(signs);
}
