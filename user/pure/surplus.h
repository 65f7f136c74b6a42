/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Links that are older than the guard and more than their peer may have: which of them may end, and which first.
 *
 * Pure. The law it keeps: who ends one link for another must know that the other one lives. So only links that have
 * shown life lately are weighed against each other, and a silent one is nobody's business but TCP's.
 */
#ifndef PURE_SURPLUS_H
#define PURE_SURPLUS_H

#include <stdbool.h>
#include <stddef.h>

#include <connguard/abi.h>

/*
 * Whether the peer has more links than it may have, one at least that was too many when it was taken under guard. Doomed
 * ones and those that show no life for too long do not count.
 */
bool surplus_has(const struct peer *peer, const struct guard_policy *policy, __u64 now_ns);

/*
 * Whether the link of this slot has shown life, since `asked_ns` or within suspect_after, and since the guard knows it:
 * then it was taken on trust, which is no proof.
 */
bool surplus_proven(const struct slot *slot, const struct guard_policy *policy, __u64 asked_ns, __u64 now_ns);

/* A link that is weighed against others. */
struct surplus_link {
	__u64 cookie;
	__u64 since_ns; /* slot.since_ns */
	bool held;      /* an application has accepted it, or dialed */
};

/* Those that stay first: links that are held before others, then those that are known for longer. */
void surplus_order(struct surplus_link *links, size_t count);

#endif
