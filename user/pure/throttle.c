/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See throttle.h. The pairs lie in a list in the order of their last lines, and in the C library's
 * balanced tree (tsearch) by peer and cause.
 */
#include "pure/throttle.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/budget.h"

struct pair {
	TAILQ_ENTRY(pair) order;
	struct peer_address address;
	enum cause cause;
	__u64 line_ns;  /* when the last line was written */
	__u64 left_out; /* lines since */
};

struct throttle {
	void *tree;                   /* of struct pair; does not own them */
	TAILQ_HEAD(, pair) by_line;   /* oldest last line first */
	size_t count;
	size_t max;
	struct budget causes[CAUSE_COUNT];
};

static int compare_pairs(const void *left, const void *right)
{
	const struct pair *left_pair = left, *right_pair = right;
	int order = memcmp(&left_pair->address, &right_pair->address, sizeof(left_pair->address));

	if (order)
		return order;
	return (left_pair->cause > right_pair->cause) - (left_pair->cause < right_pair->cause);
}

struct throttle *throttle_new(size_t max)
{
	struct throttle *throttle = calloc(1, sizeof(*throttle));

	if (!throttle)
		return NULL;
	throttle->max = max;
	TAILQ_INIT(&throttle->by_line);
	for (int i = 0; i < CAUSE_COUNT; i++)
		throttle->causes[i] = (struct budget){ .period_ns = THROTTLE_PERIOD_NS,
						       .max = THROTTLE_CAUSE_LINES };
	return throttle;
}

static void drop(struct throttle *throttle, struct pair *pair)
{
	tdelete(pair, &throttle->tree, compare_pairs);
	TAILQ_REMOVE(&throttle->by_line, pair, order);
	throttle->count--;
	free(pair);
}

void throttle_free(struct throttle *throttle)
{
	struct pair *pair;

	if (!throttle)
		return;
	while ((pair = TAILQ_FIRST(&throttle->by_line)))
		drop(throttle, pair);
	free(throttle);
}

static bool period_over(const struct pair *pair, __u64 now_ns)
{
	return now_ns >= pair->line_ns + THROTTLE_PERIOD_NS;
}

/* Remember a pair whose line is written now, if there is memory. */
static void remember(struct throttle *throttle, const struct pair *key)
{
	struct pair *pair;

	if (throttle->count >= throttle->max)
		drop(throttle, TAILQ_FIRST(&throttle->by_line));
	pair = malloc(sizeof(*pair));
	if (!pair)
		return;
	*pair = *key;
	if (!tsearch(pair, &throttle->tree, compare_pairs)) {
		free(pair);
		return;
	}
	TAILQ_INSERT_TAIL(&throttle->by_line, pair, order);
	throttle->count++;
}

bool throttle_pass(struct throttle *throttle, const struct peer_address *address, enum cause cause,
		   __u64 now_ns, __u64 *ret_left_out)
{
	struct pair key = { .address = *address, .cause = cause, .line_ns = now_ns };
	struct pair **node = tfind(&key, &throttle->tree, compare_pairs);
	struct pair *pair;

	if (node && !period_over(*node, now_ns)) {
		(*node)->left_out++;
		return false;
	}
	if (!budget_spend(&throttle->causes[cause < CAUSE_COUNT ? cause : CAUSE_none], now_ns))
		return false;
	if (!node) {
		remember(throttle, &key);
		*ret_left_out = 0;
		return true;
	}
	pair = *node;
	*ret_left_out = pair->left_out;
	pair->left_out = 0;
	pair->line_ns = now_ns;
	TAILQ_REMOVE(&throttle->by_line, pair, order);
	TAILQ_INSERT_TAIL(&throttle->by_line, pair, order);
	return true;
}

bool throttle_pop_left_out(struct throttle *throttle, __u64 now_ns,
			   struct peer_address *ret_address, enum cause *ret_cause,
			   __u64 *ret_left_out)
{
	struct pair *pair;

	while ((pair = TAILQ_FIRST(&throttle->by_line)) && period_over(pair, now_ns)) {
		__u64 left_out = pair->left_out;

		if (left_out) {
			*ret_address = pair->address;
			*ret_cause = pair->cause;
			*ret_left_out = left_out;
		}
		drop(throttle, pair);
		if (left_out)
			return true;
	}
	return false;
}

bool throttle_pop_cause(struct throttle *throttle, __u64 now_ns, enum cause *ret_cause,
			__u64 *ret_left_out)
{
	for (int i = 0; i < CAUSE_COUNT; i++) {
		if (!budget_tell(&throttle->causes[i], now_ns, ret_left_out))
			continue;
		*ret_cause = i;
		return true;
	}
	return false;
}
