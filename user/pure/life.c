// SPDX-License-Identifier: BSD-2-Clause
/* Does a quiet link show life? See life.h. */
#include "pure/life.h"

enum life_verdict life_judge(struct life_trial *trial, const struct life_signs *signs, __u64 now)
{
	__u64 patience = 2 * signs->round_trip_ns;

	if (!signs->established)
		return LIFE_ENDED;
	/* Told in milliseconds, rounded down: what came just before the trial is not taken for an answer. */
	if (now > trial->began_ns && signs->silent_ns + NS_PER_MS < now - trial->began_ns) {
		if (!signs->stalled_ns)
			return LIFE_ALIVE;
		if (trial->knocked &&
		    now - signs->stalled_ns >= LIFE_STALLED_NS + 2 * signs->round_trip_ns)
			return LIFE_UNANSWERED;
	}
	if (signs->probes < LIFE_QUESTIONS && signs->retransmissions < LIFE_QUESTIONS)
		trial->exhausted_ns = 0;
	else if (!trial->exhausted_ns)
		trial->exhausted_ns = now;
	if (patience < LIFE_PATIENCE_NS)
		patience = LIFE_PATIENCE_NS;
	if (trial->exhausted_ns && now - trial->exhausted_ns >= patience)
		return LIFE_UNANSWERED;
	return now - trial->began_ns >= LIFE_GIVE_UP_NS ? LIFE_UNKNOWN : LIFE_UNDECIDED;
}
