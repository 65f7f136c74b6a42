/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sets of address prefixes: what two of them differ in, and whether one holds an address.
 *
 * Pure. Knows nothing of what the prefixes are for.
 */
#ifndef PURE_PREFIXES_H
#define PURE_PREFIXES_H

#include <stdbool.h>
#include <stddef.h>

#include <connguard/abi.h>

/* A set, the caller's: prefixes_free(). All zero: an empty one. */
struct prefix_set {
	struct exempt_prefix *list;
	size_t count, capacity;
};

/* Give back what it holds; it is empty then. */
void prefixes_free(struct prefix_set *set);
#define cleanup_prefixes __attribute__((cleanup(prefixes_free)))

/* One more, with the bits past its length cleared. -ENOMEM; -EINVAL: it has more than 128 bits. */
int prefixes_add(struct prefix_set *set, const struct exempt_prefix *prefix);

/* Put it in order, each prefix once: whatever was added, what follows needs that. */
void prefixes_sort(struct prefix_set *set);

/* Whether the address is in one of the prefixes: a look for each length that they have. */
bool prefixes_cover(const struct prefix_set *set, const struct peer_address *address);

/* Add what of `set` is not in `other` to *ret_missing, which is not in order then. -ENOMEM. */
int prefixes_missing(const struct prefix_set *set, const struct prefix_set *other,
		     struct prefix_set *ret_missing);

#endif
