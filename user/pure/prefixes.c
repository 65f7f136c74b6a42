// SPDX-License-Identifier: BSD-2-Clause
/* Sets of address prefixes. See prefixes.h. */
#include "pure/prefixes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH_MAX 128

/* The address with the bits past the length cleared. */
static struct exempt_prefix masked(const __u8 address[16], __u32 length)
{
	struct exempt_prefix prefix = { .prefix_length = length };

	memcpy(prefix.address, address, length / 8);
	if (length % 8)
		prefix.address[length / 8] = address[length / 8] & (0xff << (8 - length % 8));
	return prefix;
}

static int compare(const void *left, const void *right)
{
	const struct exempt_prefix *a = left, *b = right;

	if (a->prefix_length != b->prefix_length)
		return a->prefix_length < b->prefix_length ? -1 : 1;
	return memcmp(a->address, b->address, sizeof(a->address));
}

void prefixes_free(struct prefix_set *set)
{
	free(set->list);
	*set = (struct prefix_set){};
}

int prefixes_add(struct prefix_set *set, const struct exempt_prefix *prefix)
{
	if (prefix->prefix_length > LENGTH_MAX)
		return -EINVAL;
	if (set->count == set->capacity) {
		size_t capacity = 2 * set->capacity + 16;
		struct exempt_prefix *larger = reallocarray(set->list, capacity, sizeof(*larger));

		if (!larger)
			return -ENOMEM;
		set->list = larger;
		set->capacity = capacity;
	}
	set->list[set->count++] = masked(prefix->address, prefix->prefix_length);
	return 0;
}

void prefixes_sort(struct prefix_set *set)
{
	size_t kept = 0;

	if (!set->count)
		return;
	qsort(set->list, set->count, sizeof(*set->list), compare);
	for (size_t i = 1; i < set->count; i++)
		if (compare(&set->list[kept], &set->list[i]))
			set->list[++kept] = set->list[i];
	set->count = kept + 1;
}

/* The first in the list that is not before this one; set->count: all are. */
static size_t find(const struct prefix_set *set, const struct exempt_prefix *prefix)
{
	size_t low = 0, high = set->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare(&set->list[middle], prefix) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool prefixes_cover(const struct prefix_set *set, const struct peer_address *address)
{
	size_t at = 0;

	while (at < set->count) {
		const struct exempt_prefix longer = { .prefix_length =
							      set->list[at].prefix_length + 1 };
		const struct exempt_prefix wanted =
			masked(address->bytes, set->list[at].prefix_length);

		at = find(set, &wanted);
		if (at < set->count && !compare(&set->list[at], &wanted))
			return true;
		at = find(set, &longer);
	}
	return false;
}

int prefixes_missing(const struct prefix_set *set, const struct prefix_set *other,
		     struct prefix_set *ret_missing)
{
	int result = 0;

	for (size_t i = 0, j = 0; !result && i < set->count; i++) {
		while (j < other->count && compare(&other->list[j], &set->list[i]) < 0)
			j++;
		if (j == other->count || compare(&other->list[j], &set->list[i]))
			result = prefixes_add(ret_missing, &set->list[i]);
	}
	return result;
}
