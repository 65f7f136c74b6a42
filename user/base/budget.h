/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * So many of something in each period, and a count of what was too much.
 *
 * Owns the arithmetic. Time comes in; knows nothing of what is spent.
 */
#ifndef BASE_BUDGET_H
#define BASE_BUDGET_H

#include <stdbool.h>

#include <linux/types.h>

/*
 * A plain value: set `period_ns` and `max`, the rest is 0. `max` 0: no limit. A period begins with the
 * first thing that is spent after the last one was over.
 */
struct budget {
	__u64 period_ns;
	__u32 max;
	__u32 spent;      /* in this period */
	__u64 started_ns; /* 0: none yet */
	__u64 left_out;   /* since it was last told */
};

/* Spend one: true, or false and counted as left out. */
bool budget_spend(struct budget *budget, __u64 now_ns);

/*
 * Once in a period that is over, and in which something was left out: true and how much. Ask before
 * spending, so that the count comes before what is new.
 */
bool budget_tell(struct budget *budget, __u64 now_ns, __u64 *ret_left_out);

#endif
