/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who goes first when the peers map has no room, or a network has all the places that it may have: a choice among all
 * peers, looked at one by one.
 *
 * Pure. Only a learned peer without any state goes (peer_forget() of connguard/rules.h): no link, no dial, no
 * backoff, no limit, not exempt, not named. Those that have only ever knocked go before those that we dial, for
 * whoever has many addresses can make any number of them; then the longest idle.
 */
#ifndef PURE_EVICTION_H
#define PURE_EVICTION_H

#include <stddef.h>

#include <connguard/abi.h>

struct eviction;

/*
 * Choose at most `max`, 1 at least; of `network` only those whose places it wants, NULL: of all. NULL: no memory. The
 * caller's: eviction_free().
 */
struct eviction *eviction_new(size_t max, const struct peer_network *network);

/* NULL is allowed. */
void eviction_free(struct eviction *eviction);

/* Look at one more peer. */
void eviction_consider(struct eviction *eviction, const struct peer *peer, __u64 now_ns);

/* Those who go, in no order: the eviction's. Returns how many. */
size_t eviction_chosen(const struct eviction *eviction, const struct peer_address **ret_addresses);

#endif
