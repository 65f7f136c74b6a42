// SPDX-License-Identifier: BSD-2-Clause
/* Elements of a table by address: see address_index.h. */
#include "pure/address_index.h"

#include <string.h>

/* An odd number without a pattern: the fractional part of the golden ratio. */
#define MULTIPLIER 0x9e3779b97f4a7c15ULL
#define CHAIN_BITS 10

_Static_assert(1 << CHAIN_BITS == ADDRESS_INDEX_MAX, "a chain for each element");
_Static_assert(ADDRESS_INDEX_MAX < 65536, "a number and one is 16 bits");

static size_t chain_of(const struct peer_address *address)
{
	__u64 words[2], mixed = address->service;

	memcpy(words, address->bytes, sizeof(words));
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		mixed = ((mixed << 29 | mixed >> 35) ^ words[i]) * MULTIPLIER;
	return mixed >> (64 - CHAIN_BITS);
}

void address_index_add(struct address_index *index, const struct peer_address *address, size_t number)
{
	__u16 *first = &index->first[chain_of(address)];

	index->next[number] = *first;
	*first = (__u16)(number + 1);
}

void address_index_clear(struct address_index *index)
{
	memset(index->first, 0, sizeof(index->first));
}

/* 0, which is no element, becomes the end. */
static size_t number_of(__u16 number_and_one)
{
	return (size_t)number_and_one - 1;
}

size_t address_index_first(const struct address_index *index, const struct peer_address *address)
{
	return number_of(index->first[chain_of(address)]);
}

size_t address_index_next(const struct address_index *index, size_t number)
{
	return number_of(index->next[number]);
}
