/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The timer queue of the backoff scheduler: at most one deadline per peer, the earliest first.
 *
 * Owns the order, reads no clock: time is an argument, in ns of CLOCK_BOOTTIME. Setting, getting,
 * removing and popping take O(log n).
 */
#ifndef PURE_DEADLINES_H
#define PURE_DEADLINES_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include <connguard/address.h>

struct deadlines;

/* An empty queue for at most `max` peers. NULL: no memory. The caller's, until deadlines_free(). */
struct deadlines *deadlines_new(size_t max);

/* NULL is allowed. */
void deadlines_free(struct deadlines *queue);

/* How many peers have a deadline. */
size_t deadlines_count(const struct deadlines *queue);

/*
 * Give the peer this deadline in place of the one it may have. -ENOMEM; -ENOSPC: `max` others have
 * one. Then all is as before.
 */
int deadlines_set(struct deadlines *queue, const struct peer_address *address, __u64 deadline_ns);

/* Take the peer's deadline away. False: it had none. */
bool deadlines_remove(struct deadlines *queue, const struct peer_address *address);

/* The peer's deadline. False: it has none, *ret_deadline_ns untouched. */
bool deadlines_get(const struct deadlines *queue, const struct peer_address *address, __u64 *ret_deadline_ns);

/* The earliest deadline. False: the queue is empty, *ret_deadline_ns untouched. */
bool deadlines_next(const struct deadlines *queue, __u64 *ret_deadline_ns);

/*
 * Take the earliest deadline out if it is `now_ns` or before. False: none is, *ret_address
 * untouched. Call it until then: peers with the same deadline come in no particular order.
 */
bool deadlines_pop_due(struct deadlines *queue, __u64 now_ns, struct peer_address *ret_address);

#endif
