/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See deadlines.h. A binary heap of entries by deadline, and the C library's balanced tree
 * (tsearch) of the same entries by address. Every entry knows its place in the heap, so that
 * finding one in the tree finds it in the heap.
 */
#include "pure/deadlines.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 64

struct deadline {
	struct peer_address address;
	__u64 deadline_ns;
	size_t place; /* its index in the heap */
};

struct deadlines {
	void *tree; /* of struct deadline, by address; does not own them */
	struct deadline **heap;
	size_t count;
	size_t capacity;
	size_t max;
};

static int compare_addresses(const void *left, const void *right)
{
	const struct deadline *left_entry = left, *right_entry = right;

	return memcmp(&left_entry->address, &right_entry->address, sizeof(left_entry->address));
}

struct deadlines *deadlines_new(size_t max)
{
	struct deadlines *queue = calloc(1, sizeof(*queue));

	if (queue)
		queue->max = max;
	return queue;
}

static void leave_entry(void *entry)
{
	(void)entry;
}

void deadlines_free(struct deadlines *queue)
{
	size_t place;

	if (!queue)
		return;
	tdestroy(queue->tree, leave_entry);
	for (place = 0; place < queue->count; place++)
		free(queue->heap[place]);
	free(queue->heap);
	free(queue);
}

size_t deadlines_count(const struct deadlines *queue)
{
	return queue->count;
}

static void put(struct deadlines *queue, size_t place, struct deadline *entry)
{
	queue->heap[place] = entry;
	entry->place = place;
}

/* Move the entry at `place`, the only one that may be out of order, to where it belongs. */
static void sift(struct deadlines *queue, size_t place)
{
	struct deadline *entry = queue->heap[place];

	while (place > 0) {
		size_t parent = (place - 1) / 2;

		if (queue->heap[parent]->deadline_ns <= entry->deadline_ns)
			break;
		put(queue, place, queue->heap[parent]);
		place = parent;
	}
	for (;;) {
		size_t child = 2 * place + 1;

		if (child >= queue->count)
			break;
		if (child + 1 < queue->count &&
		    queue->heap[child + 1]->deadline_ns < queue->heap[child]->deadline_ns)
			child++;
		if (entry->deadline_ns <= queue->heap[child]->deadline_ns)
			break;
		put(queue, place, queue->heap[child]);
		place = child;
	}
	put(queue, place, entry);
}

static struct deadline *find(const struct deadlines *queue, const struct peer_address *address)
{
	struct deadline key = { .address = *address };
	struct deadline **node = tfind(&key, &queue->tree, compare_addresses);

	return node ? *node : NULL;
}

static int reserve(struct deadlines *queue)
{
	size_t capacity = queue->capacity ? 2 * queue->capacity : FIRST_CAPACITY;
	struct deadline **heap;

	if (queue->count < queue->capacity)
		return 0;
	heap = reallocarray(queue->heap, capacity, sizeof(*heap));
	if (!heap)
		return -ENOMEM;
	queue->heap = heap;
	queue->capacity = capacity;
	return 0;
}

int deadlines_set(struct deadlines *queue, const struct peer_address *address, __u64 deadline_ns)
{
	struct deadline *entry = find(queue, address);

	if (entry) {
		entry->deadline_ns = deadline_ns;
		sift(queue, entry->place);
		return 0;
	}
	if (queue->count >= queue->max)
		return -ENOSPC;
	if (reserve(queue))
		return -ENOMEM;
	entry = malloc(sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	*entry = (struct deadline){ .address = *address, .deadline_ns = deadline_ns };
	if (!tsearch(entry, &queue->tree, compare_addresses)) {
		free(entry);
		return -ENOMEM;
	}
	put(queue, queue->count++, entry);
	sift(queue, entry->place);
	return 0;
}

static void remove_entry(struct deadlines *queue, struct deadline *entry)
{
	struct deadline *last = queue->heap[--queue->count];

	tdelete(entry, &queue->tree, compare_addresses);
	if (last != entry) {
		put(queue, entry->place, last);
		sift(queue, last->place);
	}
	free(entry);
}

bool deadlines_remove(struct deadlines *queue, const struct peer_address *address)
{
	struct deadline *entry = find(queue, address);

	if (!entry)
		return false;
	remove_entry(queue, entry);
	return true;
}

bool deadlines_get(const struct deadlines *queue, const struct peer_address *address, __u64 *ret_deadline_ns)
{
	const struct deadline *entry = find(queue, address);

	if (!entry)
		return false;
	*ret_deadline_ns = entry->deadline_ns;
	return true;
}

bool deadlines_next(const struct deadlines *queue, __u64 *ret_deadline_ns)
{
	if (!queue->count)
		return false;
	*ret_deadline_ns = queue->heap[0]->deadline_ns;
	return true;
}

bool deadlines_pop_due(struct deadlines *queue, __u64 now_ns, struct peer_address *ret_address)
{
	if (!queue->count || queue->heap[0]->deadline_ns > now_ns)
		return false;
	*ret_address = queue->heap[0]->address;
	remove_entry(queue, queue->heap[0]);
	return true;
}
