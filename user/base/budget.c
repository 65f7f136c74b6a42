/* SPDX-License-Identifier: BSD-2-Clause */
/* See budget.h. */
#include "base/budget.h"

static bool period_over(const struct budget *budget, __u64 now_ns)
{
	return !budget->started_ns || now_ns - budget->started_ns >= budget->period_ns;
}

bool budget_spend(struct budget *budget, __u64 now_ns)
{
	if (!budget->max)
		return true;
	if (period_over(budget, now_ns)) {
		budget->started_ns = now_ns;
		budget->spent = 0;
	}
	if (budget->spent >= budget->max) {
		budget->left_out++;
		return false;
	}
	budget->spent++;
	return true;
}

bool budget_tell(struct budget *budget, __u64 now_ns, __u64 *ret_left_out)
{
	if (!budget->left_out || !period_over(budget, now_ns))
		return false;
	*ret_left_out = budget->left_out;
	budget->left_out = 0;
	return true;
}
