/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Elements of a table, found by the address that each is about.
 *
 * Owns the chains, not the table: the caller compares addresses. Elements that leave are taken out by making the index
 * anew. Whoever chooses addresses may make a chain as long as the table, and no longer.
 */
#ifndef PURE_ADDRESS_INDEX_H
#define PURE_ADDRESS_INDEX_H

#include <stddef.h>

#include <linux/types.h>

#include <connguard/address.h>

/* Elements that a table may have. */
#define ADDRESS_INDEX_MAX 1024
#define ADDRESS_INDEX_END ((size_t)-1)

/* All 0: nothing is in it. */
struct address_index {
	__u16 first[ADDRESS_INDEX_MAX]; /* of a chain: the element's number, and one; 0: none */
	__u16 next[ADDRESS_INDEX_MAX];  /* of an element: likewise */
};

/* Element `number`, below ADDRESS_INDEX_MAX and not in it yet, is about this address. */
void address_index_add(struct address_index *index, const struct peer_address *address, size_t number);

/* Nothing is in it any more. */
void address_index_clear(struct address_index *index);

/*
 * Elements that may be about this address, all that are among them, the latest first: the first one, and the one after
 * `number`. ADDRESS_INDEX_END: there is no other.
 */
size_t address_index_first(const struct address_index *index, const struct peer_address *address);
size_t address_index_next(const struct address_index *index, size_t number);

#endif
