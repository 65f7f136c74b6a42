// SPDX-License-Identifier: BSD-2-Clause
/* See recall.h. */
#include "edge/recall.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include <connguard/rules.h>

#include "base/cleanup.h"
#include "base/clock.h"

/* ---- found there ---- */

/* Of a decision that differs between services, the one with more links. */
static int found(struct state *state, enum state_kind kind, const struct exempt_prefix *prefix, __u32 value)
{
	const struct state_entry *there = state_find(state, kind, prefix);
	const struct state_entry entry = { .kind = kind, .prefix = *prefix, .value = value };

	return there && there->value >= value ? 0 : state_set(state, &entry);
}

static int collect_mode(const struct guard *guard, const struct guard_policy *policy, struct state *state)
{
	const struct exempt_prefix none = STATE_NO_PREFIX;
	enum guard_mode mode;
	int result = guard_mode_read(guard, &mode);

	if (result || mode == policy->configured_mode || mode > MODE_ENFORCE)
		return result;
	return found(state, STATE_MODE, &none, mode);
}

static int collect_prefixes(const struct guard *guard, const struct state *before, struct state *state)
{
	cleanup_free struct exempt_prefix *prefixes = NULL;
	cleanup_free struct exempt_value *values = NULL;
	size_t count;
	int left_out = 0, result = guard_exempt_read(guard, &prefixes, &values, &count);

	for (size_t i = 0; !result && i < count; i++) {
		bool decided = !values[i].configured && values[i].until_ns == NEVER_ENDS_NS;

		/* One that is configured as well shows as that alone. */
		if (!decided && !(values[i].configured && state_find(before, STATE_ALLOW_PREFIX, &prefixes[i])))
			continue;
		result = found(state, STATE_ALLOW_PREFIX, &prefixes[i], 0);
		if (result == -ENOSPC) {
			left_out++;
			result = 0;
		}
	}
	return result ? result : left_out;
}

static int collect_peer(const struct peer *peer, struct state *state)
{
	const struct exempt_prefix prefix = state_prefix(&peer->address);
	int result = 0;

	if (peer->limit && peer->limit <= PEER_LINKS_MAX)
		result = found(state, STATE_LIMIT, &prefix, peer->limit);
	if (!result && peer->exempt_until_ns == NEVER_ENDS_NS)
		result = found(state, STATE_ALLOW_PEER, &prefix, 0);
	return result;
}

static int collect_peers(const struct guard *guard, struct state *state)
{
	cleanup_peer_walk struct peer_walk walk = {};
	__u16 services[GUARD_PORTS_MAX];
	size_t service_count, count, at;
	const struct peer *peers;
	int left_out = 0, result = guard_services_read(guard, services, GUARD_PORTS_MAX, &service_count);

	if (!result)
		result = guard_peers_walk(guard, &walk);
	do {
		if (!result)
			result = guard_peers_next(&walk, &peers, &count);
		for (size_t i = 0; !result && i < count; i++) {
			/* A command does not reach those of a port that has left. */
			for (at = 0; at < service_count && services[at] != peers[i].address.service; at++)
				;
			if (at < service_count)
				result = collect_peer(&peers[i], state);
			if (result == -ENOSPC) {
				left_out++;
				result = 0;
			}
		}
	} while (!result && count);
	return result ? result : left_out;
}

/* Who has decided it and when, as far as that is known. */
static void name_origins(const struct state *before, const char *by, struct state *state)
{
	__u64 now = (__u64)time(NULL);

	for (size_t i = 0; i < state->count; i++) {
		struct state_entry *entry = &state->entries[i];
		const struct state_entry *known = state_find(before, entry->kind, &entry->prefix);

		if (known && known->value == entry->value) {
			*entry = *known;
			continue;
		}
		entry->since = now;
		memcpy(entry->by, by, strlen(by) + 1);
	}
}

/* What the maps were never told. */
static int add_missing(const struct state *before, struct state *state)
{
	int left_out = 0, result;

	for (size_t i = 0; i < before->count; i++) {
		const struct state_entry *entry = &before->entries[i];

		if (state_find(state, entry->kind, &entry->prefix))
			continue;
		result = state_set(state, entry);
		if (result && result != -ENOSPC)
			return result;
		left_out += result == -ENOSPC;
	}
	return left_out;
}

int recall_collect(const struct guard *guard, const struct state *before, const char *by, struct state *ret_state)
{
	cleanup_state struct state state = {};
	struct guard_policy policy;
	int left_out = 0, result = guard_policy_read(guard, &policy);

	if (!result)
		result = collect_mode(guard, &policy, &state);
	if (!result)
		result = collect_prefixes(guard, before, &state);
	if (result >= 0) {
		left_out += result;
		result = collect_peers(guard, &state);
	}
	if (result < 0)
		return result;
	left_out += result;
	name_origins(before, by, &state);
	result = policy.recalled ? 0 : add_missing(before, &state);
	if (result < 0)
		return result;
	*ret_state = state;
	state = (struct state){};
	return left_out + result;
}

/* ---- put there ---- */

int recall_prefixes(const struct guard *guard, const struct state *state)
{
	const struct exempt_value value = { .until_ns = NEVER_ENDS_NS };
	cleanup_free struct exempt_prefix *prefixes = NULL;
	cleanup_free struct exempt_value *values = NULL;
	size_t count, at;
	int result = guard_exempt_read(guard, &prefixes, &values, &count);

	for (size_t i = 0; !result && i < state->count; i++) {
		const struct state_entry *entry = &state->entries[i];

		if (entry->kind != STATE_ALLOW_PREFIX)
			continue;
		for (at = 0; at < count && memcmp(&prefixes[at], &entry->prefix, sizeof(entry->prefix)); at++)
			;
		if (at == count)
			result = guard_exempt_write(guard, &entry->prefix, &value);
	}
	return result;
}

/* The decision about one peer at one service. */
static int recall_peer(const struct guard *guard, const struct state_entry *entry,
		       const struct peer_address *address)
{
	const bool limits = entry->kind == STATE_LIMIT;
	const struct guard_command command = { .operation = limits ? COMMAND_LIMIT : COMMAND_ALLOW,
					       .address = *address,
					       .until_ns = limits ? 0 : NEVER_ENDS_NS,
					       .value = entry->value };
	struct peer peer;
	int result = guard_peer_read(guard, address, &peer);

	if (result && result != -ENOENT)
		return result;
	if (!result && (limits ? peer.limit == entry->value : peer.exempt_until_ns == NEVER_ENDS_NS))
		return 0;
	return guard_command(guard, &command);
}

int recall_peers(const struct guard *guard, const struct state *state)
{
	__u16 services[GUARD_PORTS_MAX];
	size_t service_count, forgotten;
	bool is_full = false;
	int result = guard_services_read(guard, services, GUARD_PORTS_MAX, &service_count), one, all = 0;

	for (size_t i = 0; !result && i < state->count * service_count; i++) {
		const struct state_entry *entry = &state->entries[i / service_count];
		struct peer_address address = { .service = services[i % service_count] };

		if (entry->kind != STATE_LIMIT && entry->kind != STATE_ALLOW_PEER)
			continue;
		memcpy(address.bytes, entry->prefix.address, sizeof(address.bytes));
		one = recall_peer(guard, entry, &address);
		/* Whom somebody has decided about goes before those that nobody needs, which takes a walk over all. */
		if (one == -ENOSPC && !is_full && !guard_forget_idle(guard, &forgotten) && forgotten)
			one = recall_peer(guard, entry, &address);
		is_full = is_full || one == -ENOSPC;
		all = all ? all : one;
	}
	return result ? result : all;
}

int recall_is(const struct guard *guard, bool complete)
{
	struct guard_policy policy;
	int result = guard_policy_read(guard, &policy);

	if (result || policy.recalled == complete)
		return result;
	policy.recalled = complete;
	return guard_policy_write(guard, &policy);
}
