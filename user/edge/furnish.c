// SPDX-License-Identifier: BSD-2-Clause
/* Make a loaded guard be what the configuration says. See furnish.h. */
#include "edge/furnish.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <connguard/rules.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "edge/host.h"

int furnish_policy(const struct guard *guard, const struct config *config, __u64 netns_cookie)
{
	struct guard_policy policy;
	int result;

	config_policy(config, &policy);
	policy.netns_cookie = netns_cookie;
	result = guard_policy_write(guard, &policy);
	return result ? result :
			guard_ports_write(guard, config->ports.number, config->ports.count,
					  config->share_limit);
}

/* ---- exemptions ---- */

static bool prefix_equal(const struct exempt_prefix *left, const struct exempt_prefix *right)
{
	return left->prefix_length == right->prefix_length &&
	       memcmp(left->address, right->address, sizeof(left->address)) == 0;
}

static struct exempt_prefix prefix_of_address(const struct peer_address *address)
{
	struct exempt_prefix prefix = { .prefix_length = 128 };

	memcpy(prefix.address, address->bytes, sizeof(prefix.address));
	return prefix;
}

/* Whether an entry of the map has to stay as it is. */
static bool entry_wanted(const struct exempt_prefix *prefix, const struct exempt_value *value,
			 const struct config *config, const struct peer_address *own,
			 size_t own_count)
{
	if (!value->configured)
		return value->until_ns > clock_now_ns();
	for (size_t i = 0; value->own && i < own_count; i++) {
		const struct exempt_prefix self = prefix_of_address(&own[i]);

		if (prefix_equal(prefix, &self))
			return true;
	}
	for (size_t i = 0; !value->own && i < config->exempt.count; i++)
		if (prefix_equal(prefix, &config->exempt.prefix[i]))
			return true;
	return false;
}

int furnish_exempt(const struct guard *guard, const struct config *config)
{
	struct exempt_value value = { .until_ns = NEVER_ENDS_NS, .configured = 1 };
	cleanup_free struct exempt_prefix *prefixes = NULL;
	cleanup_free struct exempt_value *values = NULL;
	cleanup_free struct peer_address *own = NULL;
	size_t own_count, count;
	int result = host_addresses(&own, &own_count);

	if (!result)
		result = guard_exempt_read(guard, &prefixes, &values, &count);
	if (result)
		return result;
	/* Delete first, so that a full map has room; an entry that stays is in force throughout. */
	for (size_t i = 0; i < count; i++)
		if (!entry_wanted(&prefixes[i], &values[i], config, own, own_count))
			guard_exempt_delete(guard, &prefixes[i]);
	for (size_t i = 0; !result && i < config->exempt.count; i++)
		result = guard_exempt_write(guard, &config->exempt.prefix[i], &value);
	/*
	 * After the configured ones: an own address is no peer, even where it is a prefix of 128
	 * bits too.
	 */
	value.own = 1;
	for (size_t i = 0; !result && i < own_count; i++) {
		const struct exempt_prefix self = prefix_of_address(&own[i]);

		result = guard_exempt_write(guard, &self, &value);
	}
	return result;
}

/* ---- known peers ---- */

int furnish_read_known(const struct config *config, struct known_peer **ret_known,
		       size_t *ret_count, struct config_error *ret_error)
{
	char setting[CONFIG_SETTING_TEXT_MAX], reason[CONFIG_PATH_MAX + 128];
	int result;

	*ret_known = NULL;
	*ret_count = 0;
	if (!*config->peers)
		return 0;
	result = peers_file_read(config->peers, config->max_peers, ret_known, ret_count, ret_error);
	/* A mistake in the file has its place there; that there is no such file is one of the setting. */
	if (!result || result == -EINVAL || result == -ENOMEM)
		return result;
	snprintf(reason, sizeof(reason), "%s", ret_error->text + strlen(config->peers));
	snprintf(ret_error->text, sizeof(ret_error->text), "%s%s",
		 config_setting_text(config, config_find_option("guard", "peers"), setting), reason);
	return result;
}

static int compare_known(const void *left, const void *right)
{
	/* Whatever the service: a peer is known by its address. */
	return memcmp(((const struct known_peer *)left)->address.bytes,
		      ((const struct known_peer *)right)->address.bytes,
		      sizeof(((const struct known_peer *)left)->address.bytes));
}

/* Make the peer a known one, whose entry is there. */
static int know(const struct guard *guard, const struct known_peer *known, const struct peer_address *address)
{
	struct guard_command command = { .operation = COMMAND_ADD, .address = *address };
	int result = guard_command(guard, &command);

	if (result)
		return result;
	/* Also 0: a limit that has left the file, or that a command set meanwhile, is over. */
	command.operation = COMMAND_LIMIT;
	command.value = known->limit;
	return guard_command(guard, &command);
}

/* Put an entry into the map for a known peer that it has none of. */
static int add_known(const struct guard *guard, const struct known_peer *known, const struct peer_address *address,
		     __u64 now)
{
	struct peer peer = { .limit = known->limit };
	int result;

	peer_is(&peer, address, now);
	peer.flags = PEER_KNOWN;
	result = guard_peer_add(guard, &peer);
	/* It has come meanwhile. */
	return result == -EEXIST ? know(guard, known, address) : result;
}

/* What the map has of known peers, and what it should not have as such any more. */
static int look_for_known(const struct guard *guard, const struct known_peer *known, size_t count,
			  const __u16 *services, size_t service_count, bool *there)
{
	struct guard_command unknow = { .operation = COMMAND_UNKNOW };
	cleanup_peer_walk struct peer_walk walk = {};
	const struct peer *peers;
	size_t peer_count;
	int result = guard_peers_walk(guard, &walk);

	do {
		if (!result)
			result = guard_peers_next(&walk, &peers, &peer_count);
		for (size_t i = 0; !result && i < peer_count; i++) {
			const struct known_peer wanted = { .address = peers[i].address }, *found = NULL;
			bool is_known = peers[i].flags & PEER_KNOWN;
			size_t at = 0;

			while (at < service_count && services[at] != peers[i].address.service)
				at++;
			/* One at a port that has left is nobody's peer. */
			if (count && at < service_count)
				found = bsearch(&wanted, known, count, sizeof(*known), compare_known);
			unknow.address = peers[i].address;
			if (!found && is_known)
				guard_command(guard, &unknow);
			if (!found)
				continue;
			there[(found - known) * service_count + at] = true;
			if (!is_known || peers[i].limit != found->limit)
				result = know(guard, found, &peers[i].address);
		}
	} while (!result && peer_count);
	return result;
}

int furnish_known(const struct guard *guard, struct known_peer *known, size_t count)
{
	__u16 services[GUARD_PORTS_MAX];
	cleanup_free bool *there = NULL;
	__u64 now = clock_now_ns();
	size_t service_count = 0, forgotten;
	int result = guard_services_read(guard, services, GUARD_PORTS_MAX, &service_count);

	if (result)
		return result;
	there = calloc(count * service_count + 1, sizeof(*there));
	if (!there)
		return -ENOMEM;
	if (count)
		qsort(known, count, sizeof(*known), compare_known);
	result = look_for_known(guard, known, count, services, service_count, there);
	for (size_t i = 0; !result && i < count * service_count; i++) {
		struct peer_address address = known[i / service_count].address;

		address.service = services[i % service_count];
		if (there[i])
			continue;
		result = add_known(guard, &known[i / service_count], &address, now);
		/* Who is named goes before those that nobody needs. */
		if (result == -ENOSPC && !guard_forget_idle(guard, &forgotten) && forgotten)
			result = add_known(guard, &known[i / service_count], &address, now);
	}
	return result;
}

/* ---- links that are there already ---- */

bool furnish_shown(const struct guard *guard, const struct peer_address *address, __u64 cookie)
{
	struct peer peer;

	if (guard_peer_read(guard, address, &peer))
		return false;
	for (int i = 0; i < PEER_SLOTS; i++)
		if (peer.slots[i].kind == SLOT_LINK && peer.slots[i].cookie == cookie)
			return true;
	return false;
}

static bool port_configured(const struct config *config, __u16 port)
{
	for (__u32 i = 0; i < config->ports.count; i++)
		if (config->ports.number[i] == port)
			return true;
	return false;
}

static void let_go_of(const struct guard *guard, const struct config *config, const struct peer *peer)
{
	for (int i = 0; i < PEER_SLOTS; i++) {
		const struct slot *slot = &peer->slots[i];
		const struct guard_command command = { .operation = COMMAND_RELEASE,
						       .address = peer->address,
						       .cookie = slot->cookie,
						       .value = CAUSE_link_unguarded };

		if (slot->kind != SLOT_LINK || port_configured(config, slot->local_port) ||
		    port_configured(config, slot->remote_port))
			continue;
		/* -ENOENT: it has ended meanwhile. */
		guard_command(guard, &command);
	}
}

/* Free the slots of links that the present ports would not make links. */
static int let_go(const struct guard *guard, const struct config *config)
{
	cleanup_peer_walk struct peer_walk walk = {};
	const struct peer *peers;
	size_t count;
	int result = guard_peers_walk(guard, &walk);

	do {
		if (!result)
			result = guard_peers_next(&walk, &peers, &count);
		for (size_t i = 0; !result && i < count; i++)
			let_go_of(guard, config, &peers[i]);
	} while (!result && count);
	return result;
}

static int take_in(const struct guard *guard, struct surroundings *surroundings,
		   const struct config *config)
{
	cleanup_free struct adoption *adoptions = NULL;
	cleanup_free struct seen_socket *seen = NULL;
	cleanup_free __u64 *cookies = NULL;
	size_t seen_count, count = 0;
	int shown = 0, result = surroundings_sockets(surroundings, config, &seen, &seen_count);

	if (result)
		return result;
	adoptions = calloc(seen_count + 1, sizeof(*adoptions));
	cookies = calloc(seen_count + 1, sizeof(*cookies));
	if (!adoptions || !cookies)
		return -ENOMEM;
	for (size_t i = 0; i < seen_count; i++) {
		if (!seen[i].established || furnish_shown(guard, &seen[i].address, seen[i].cookie))
			continue;
		cookies[count] = seen[i].cookie;
		adoptions[count++] = (struct adoption){ .address = seen[i].address,
							.direction = seen[i].direction,
							.local_port = seen[i].local_port,
							.remote_port = seen[i].remote_port,
							.local = seen[i].local };
	}
	result = count ? guard_adopt(guard, cookies, adoptions, count) : 0;
	if (result)
		return result;
	/* For lack of memory one may not have come to be, without a word from the kernel. */
	for (size_t i = 0; i < count; i++)
		shown += furnish_shown(guard, &adoptions[i].address, cookies[i]);
	return shown;
}

int furnish_links(const struct guard *guard, struct surroundings *surroundings,
		  const struct config *config, bool ports_left)
{
	int result = ports_left ? let_go(guard, config) : 0;

	return result ? result : take_in(guard, surroundings, config);
}

/* Is a port guarded that the configuration does not have? */
static bool ports_leave(const struct guard *guard, const struct config *config)
{
	__u16 ports[GUARD_PORTS_MAX];
	size_t count = 0;

	if (guard_ports_read(guard, ports, GUARD_PORTS_MAX, &count))
		return true;
	for (size_t i = 0; i < count; i++)
		if (!port_configured(config, ports[i]))
			return true;
	return false;
}

/*
 * 1 when the hooks were told what to do. Not yet: whoever loaded the guard died before, and its mode
 * is nobody's wish.
 */
static int was_furnished(const struct guard *guard)
{
	struct guard_policy policy;
	int result = guard_policy_read(guard, &policy);

	return result ? result : policy.set != 0;
}

int furnish_all(const struct guard *guard, struct surroundings *surroundings,
		const struct config *config, bool taken_over, struct furnished *ret_furnished,
		struct config_error *ret_error)
{
	struct furnished furnished = { .mode = config->mode };
	cleanup_free struct known_peer *known = NULL;
	bool ports_left = taken_over && ports_leave(guard, config);
	const char *step = NULL;
	size_t known_count;
	int result;

	ret_error->text[0] = '\0';
	result = furnish_read_known(config, &known, &known_count, ret_error);
	if (!result) {
		step = "the mode";
		result = taken_over ? was_furnished(guard) : 0;
		if (result >= 0)
			result = result ? guard_mode_read(guard, &furnished.mode) :
					  guard_mode_write(guard, furnished.mode);
	}
	if (!result) {
		step = "the exempt addresses";
		result = furnish_exempt(guard, config);
	}
	/* Without a policy the hooks let everything pass, so here a guard begins to refuse. */
	if (!result) {
		step = "the policy and the ports";
		result = furnish_policy(guard, config, surroundings->netns_cookie);
	}
	if (!result) {
		step = "the known peers";
		result = furnish_known(guard, known, known_count);
	}
	if (result && !*ret_error->text)
		snprintf(ret_error->text, sizeof(ret_error->text), "writing %s: %s",
			 step ? step : "the maps", strerror(-result));
	if (result)
		return result;
	furnished.adopted = furnish_links(guard, surroundings, config, ports_left);
	*ret_furnished = furnished;
	return 0;
}
