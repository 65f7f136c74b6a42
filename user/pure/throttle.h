/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * At most one log line a minute per peer and cause, and so many per cause, with counts of what was left
 * out: SYNs in the name of ever new peers must not fill the log either.
 *
 * Owns the counts, logs nothing and reads no clock: time is an argument, in ns of CLOCK_BOOTTIME.
 */
#ifndef PURE_THROTTLE_H
#define PURE_THROTTLE_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include <connguard/address.h>
#include <connguard/causes.h>

/* One line about a pair in this time, and THROTTLE_CAUSE_LINES about all peers with the same cause. */
#define THROTTLE_PERIOD_NS (60 * 1000000000ULL)
#define THROTTLE_CAUSE_LINES 100

struct throttle;

/*
 * For at most `max` (1 or more) pairs of peer and cause at one time. NULL: no memory. The caller's,
 * until throttle_free().
 */
struct throttle *throttle_new(size_t max);

/* NULL is allowed. */
void throttle_free(struct throttle *throttle);

/*
 * May a line about this pair be written now? True: yes, and *ret_left_out lines about it were left
 * out since the last one. False: no, it is counted (ret_left_out untouched), with the pair or, where that
 * has no line yet, with the cause. With the table full the pair whose last line is oldest is dropped, with
 * its count. Without memory a pair is not known again.
 */
bool throttle_pass(struct throttle *throttle, const struct peer_address *address, enum cause cause,
		   __u64 now_ns, __u64 *ret_left_out);

/*
 * Take out a pair whose period is over and of which lines were left out, so that the last count of
 * a burst is said too. False: there is none. Call it until then, about once a period.
 */
bool throttle_pop_left_out(struct throttle *throttle, __u64 now_ns,
			   struct peer_address *ret_address, enum cause *ret_cause,
			   __u64 *ret_left_out);

/*
 * The same for a cause: lines about peers that have none of their own, because there were too many. Each
 * cause is told once a period.
 */
bool throttle_pop_cause(struct throttle *throttle, __u64 now_ns, enum cause *ret_cause,
			__u64 *ret_left_out);

#endif
