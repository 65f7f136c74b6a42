// SPDX-License-Identifier: BSD-2-Clause
/* Make a loaded guard be what the configuration says. See furnish.h. */
#include "edge/furnish.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <connguard/rules.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "edge/recall.h"

int furnish_policy(const struct guard *guard, const struct config *config,
		   const struct surroundings *surroundings)
{
	struct guard_policy policy, in_force;
	struct stat netns;
	int result = guard_policy_read(guard, &in_force);

	if (result)
		return result;
	config_policy(config, &policy);
	if (fstat(surroundings->netns_fd, &netns))
		return -errno;
	policy.netns_cookie = surroundings->netns_cookie;
	policy.netns_inode = netns.st_ino;
	policy.recalled = in_force.recalled;
	/* Of the map that is there: a guard that was taken over has its own. */
	policy.network_peers = network_share(guard_peers_max(guard));
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

static bool is_configured(const struct exempt_prefix *prefix, const struct config *config)
{
	for (size_t i = 0; i < config->exempt.count; i++)
		if (prefix_equal(prefix, &config->exempt.prefix[i]))
			return true;
	return false;
}

/* What becomes of a prefix in the map. */
struct exempt_step {
	struct exempt_prefix prefix;
	struct exempt_value before, after;
	bool was, is; /* it has an entry, before and after */
};

/* The steps, in their order. */
struct exempt_steps {
	struct exempt_step *list;
	size_t count;
};

static void exempt_steps_free(struct exempt_steps *steps)
{
	free(steps->list);
}

/* Take the step, or take it back. */
static int exempt_step_take(const struct guard *guard, const struct exempt_step *step, bool back)
{
	bool there = back ? step->was : step->is;
	int result = there ? guard_exempt_write(guard, &step->prefix, back ? &step->before : &step->after) :
			     guard_exempt_delete(guard, &step->prefix);

	/* A command has deleted it meanwhile. */
	return !there && result == -ENOENT ? 0 : result;
}

/* Writes of what is configured: of what is `there`, but not as configured, or of what is not. Returns how many. */
static size_t exempt_writes(const struct config *config, const struct exempt_prefix *prefixes,
			    const struct exempt_value *values, size_t count, bool there, struct exempt_step *steps)
{
	const struct exempt_value configured = { .until_ns = NEVER_ENDS_NS, .configured = 1 };
	size_t used = 0;

	for (size_t i = 0; i < config->exempt.count; i++) {
		struct exempt_step step = { .prefix = config->exempt.prefix[i], .after = configured, .is = true };
		size_t at = 0;

		while (at < count && !prefix_equal(&prefixes[at], &step.prefix))
			at++;
		step.was = at < count;
		if (step.was)
			step.before = values[at];
		if (step.was == there && !(there && !memcmp(&step.before, &configured, sizeof(configured))))
			steps[used++] = step;
	}
	return used;
}

/* Deletions of what is not configured any more, or was made for a time that is over. Returns how many. */
static size_t exempt_deletions(const struct config *config, const struct exempt_prefix *prefixes,
			       const struct exempt_value *values, size_t count, struct exempt_step *steps)
{
	__u64 now = clock_now_ns();
	size_t used = 0;

	for (size_t i = 0; i < count; i++)
		if ((values[i].configured || values[i].until_ns <= now) && !is_configured(&prefixes[i], config))
			steps[used++] = (struct exempt_step){ .prefix = prefixes[i], .before = values[i], .was = true };
	return used;
}

/*
 * Writes first, so that what is exempt before and after, by whatever prefix, is so throughout; and before them as many of
 * the deletions as they need room: a full map takes no write, before Linux 6.13 not even of what is there. -ENOSPC: there
 * is none.
 */
static int exempt_plan(const struct guard *guard, const struct config *config, struct exempt_steps *ret_steps)
{
	cleanup_free struct exempt_prefix *prefixes = NULL;
	cleanup_free struct exempt_value *values = NULL;
	cleanup_free struct exempt_step *writes = NULL, *deletions = NULL;
	size_t count, write_count, deletion_count, new_count, room, first = 0;
	int result = guard_exempt_read(guard, &prefixes, &values, &count);

	if (result)
		return result;
	writes = calloc(config->exempt.count + 1, sizeof(*writes));
	deletions = calloc(count + 1, sizeof(*deletions));
	ret_steps->list = calloc(config->exempt.count + count + 1, sizeof(*ret_steps->list));
	if (!writes || !deletions || !ret_steps->list)
		return -ENOMEM;
	write_count = exempt_writes(config, prefixes, values, count, true, writes);
	new_count = exempt_writes(config, prefixes, values, count, false, &writes[write_count]);
	write_count += new_count;
	deletion_count = exempt_deletions(config, prefixes, values, count, deletions);
	room = guard_exempt_max(guard);
	room = room > count ? room - count : 0;
	if (new_count > room + deletion_count)
		return -ENOSPC;
	while (first < deletion_count && room + first < (new_count ? new_count : write_count > 0))
		first++;
	memcpy(ret_steps->list, deletions, first * sizeof(*deletions));
	memcpy(&ret_steps->list[first], writes, write_count * sizeof(*writes));
	memcpy(&ret_steps->list[first + write_count], &deletions[first],
	       (deletion_count - first) * sizeof(*deletions));
	ret_steps->count = write_count + deletion_count;
	return 0;
}

int furnish_exempt(const struct guard *guard, const struct config *config)
{
	struct exempt_steps steps __attribute__((cleanup(exempt_steps_free))) = {};
	int result = exempt_plan(guard, config, &steps);
	size_t taken;

	for (taken = 0; !result && taken < steps.count; taken++)
		result = exempt_step_take(guard, &steps.list[taken], false);
	/* All, or nothing is changed: the last one was not taken, and each gives back what the one before it needs. */
	for (size_t i = taken ? taken - 1 : 0; result && i > 0; i--)
		exempt_step_take(guard, &steps.list[i - 1], true);
	return result;
}

/* ---- this host itself ---- */

int furnish_own(const struct guard *guard, const struct prefix_set *there, const struct prefix_set *own,
		struct prefix_set *ret_gone)
{
	cleanup_prefixes struct prefix_set in_map = {}, gone = {}, come = {};
	int result = 0;

	if (!there) {
		result = guard_own_read(guard, &in_map.list, &in_map.count);
		in_map.capacity = in_map.count;
		prefixes_sort(&in_map);
		there = &in_map;
	}
	if (!result)
		result = prefixes_missing(there, own, &gone);
	if (!result)
		result = prefixes_missing(own, there, &come);
	if (result)
		return result;
	/* Delete first, so that a full map has room. One that it had no room for is not there. */
	for (size_t i = 0; i < gone.count; i++)
		guard_own_delete(guard, &gone.list[i]);
	for (size_t i = 0; !result && i < come.count; i++)
		result = guard_own_write(guard, &come.list[i]);
	if (ret_gone) {
		prefixes_free(ret_gone);
		*ret_gone = gone;
		gone = (struct prefix_set){};
	}
	return result;
}

/* ---- known peers ---- */

/* The services of the peers; without duplicates. Returns how many. */
static size_t config_services(const struct config *config, __u16 *ret_services)
{
	if (config->share_limit) {
		ret_services[0] = 0;
		return 1;
	}
	memcpy(ret_services, config->ports.number, config->ports.count * sizeof(*ret_services));
	return config->ports.count;
}

int furnish_read_known(const struct config *config, struct known_peer **ret_known,
		       size_t *ret_count, struct config_error *ret_error)
{
	char setting[CONFIG_SETTING_TEXT_MAX], reason[CONFIG_PATH_MAX + 128];
	__u16 services[CONFIG_PORTS_MAX];
	int result;

	*ret_known = NULL;
	*ret_count = 0;
	if (!*config->peers)
		return 0;
	result = peers_file_read(config->peers, config->max_peers, ret_known, ret_count, ret_error);
	if (!result && *ret_count * config_services(config, services) > config->max_peers) {
		snprintf(ret_error->text, sizeof(ret_error->text),
			 "%.*s: %zu peers at %zu ports each, expected at most %u in all (max_peers)", CONFIG_PATH_MAX,
			 config->peers, *ret_count, config_services(config, services), config->max_peers);
		free(take_pointer(*ret_known));
		*ret_count = 0;
		return -EINVAL;
	}
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

/* The entry of a known peer at one service, as the map had it before. */
enum standing {
	STANDING_ABSENT,
	STANDING_THERE,
	STANDING_PLACED, /* absent, and put there */
};

/* The known peers, at each service. */
struct known_set {
	const struct known_peer *known; /* sorted by address */
	size_t count;
	__u16 services[CONFIG_PORTS_MAX]; /* without duplicates */
	size_t service_count;
	enum standing *standings; /* `service_count` of the first peer, then of the second, ... */
	bool differs; /* something that the map has of known peers is not as it should be */
};

static void known_set_free(struct known_set *set)
{
	free(set->standings);
}

static struct peer_address known_address(const struct known_set *set, size_t index)
{
	struct peer_address address = set->known[index / set->service_count].address;

	address.service = set->services[index % set->service_count];
	return address;
}

/* Make the peer a known one, whose entry is there. */
static int know(const struct guard *guard, const struct known_peer *known, const struct peer_address *address)
{
	/* Also 0: a limit that has left the file is over. One that a command has set is not the file's to end. */
	const struct guard_command command = { .operation = COMMAND_ADD, .address = *address, .value = known->limit };

	return guard_command(guard, &command);
}

/* Put an entry into the map for a known peer that it has none of. */
static int place(const struct guard *guard, struct known_set *set, size_t index, __u64 now)
{
	struct peer_address address = known_address(set, index);
	struct peer peer = { .named_limit = (__u16)set->known[index / set->service_count].limit };
	int result;

	peer_is(&peer, &address, now);
	peer.flags = PEER_KNOWN;
	result = guard_peer_add(guard, &peer);
	if (!result)
		set->standings[index] = STANDING_PLACED;
	if (result != -EEXIST)
		return result;
	/* It has come meanwhile. */
	set->standings[index] = STANDING_THERE;
	set->differs = true;
	return 0;
}

/* Take back what place() did. */
static void displace(const struct guard *guard, const struct known_set *set)
{
	static const enum command_operation steps[] = { COMMAND_UNKNOW, COMMAND_FORGET };

	for (size_t i = 0; i < set->count * set->service_count; i++) {
		struct guard_command command = { .address = known_address(set, i), .until_ns = clock_now_ns() };

		for (size_t j = 0; set->standings[i] == STANDING_PLACED && j < sizeof(steps) / sizeof(*steps); j++) {
			command.operation = steps[j];
			guard_command(guard, &command);
		}
	}
}

/*
 * Go through the map. Without `change`: see what it has of the known peers. With it: who is there and known is known,
 * with the limit of the file, and nobody else is.
 */
static int compare_with_map(const struct guard *guard, struct known_set *set, bool change)
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

			while (at < set->service_count && set->services[at] != peers[i].address.service)
				at++;
			/* One at a port that has left is nobody's peer. */
			if (set->count && at < set->service_count)
				found = bsearch(&wanted, set->known, set->count, sizeof(*set->known), compare_known);
			if (found && !change)
				set->standings[(found - set->known) * set->service_count + at] = STANDING_THERE;
			if (found ? is_known && peers[i].named_limit == found->limit : !is_known)
				continue;
			set->differs = true;
			if (!change)
				continue;
			unknow.address = peers[i].address;
			result = found ? know(guard, found, &peers[i].address) : guard_command(guard, &unknow);
			/* It was forgotten meanwhile. */
			result = result == -ENOENT ? 0 : result;
		}
	} while (!result && peer_count);
	return result;
}

/* Sorts `known`, and borrows it. */
static int known_set_make(const struct guard *guard, const struct config *config, struct known_peer *known,
			  size_t count, struct known_set *ret_set)
{
	struct known_set set = { .known = known, .count = count };

	set.service_count = config_services(config, set.services);
	set.standings = calloc(count * set.service_count + 1, sizeof(*set.standings));
	if (!set.standings)
		return -ENOMEM;
	if (count)
		qsort(known, count, sizeof(*known), compare_known);
	*ret_set = set;
	return compare_with_map(guard, ret_set, false);
}

/* Put the entries into the map that it has not: all, or as many as find room. *ret_left: those that do not. */
static int place_absent(const struct guard *guard, struct known_set *set, size_t *ret_left)
{
	__u64 now = clock_now_ns();
	size_t i, forgotten;
	bool is_full = false;
	int result = 0;

	*ret_left = 0;
	for (i = 0; !result && i < set->count * set->service_count; i++) {
		if (set->standings[i] != STANDING_ABSENT)
			continue;
		if (!is_full)
			result = place(guard, set, i, now);
		/* Who is named goes before those that nobody needs. */
		if (result == -ENOSPC && !guard_forget_idle(guard, &forgotten) && forgotten)
			result = place(guard, set, i, now);
		/* To ask again for each of a million would take long. */
		is_full = is_full || result == -ENOSPC;
		*ret_left += is_full;
		result = is_full ? 0 : result;
	}
	return result;
}

int furnish_known(const struct guard *guard, const struct config *config, struct known_peer *known, size_t count,
		  size_t *ret_left)
{
	struct known_set set __attribute__((cleanup(known_set_free))) = {};
	int result = known_set_make(guard, config, known, count, &set);

	if (!result)
		result = place_absent(guard, &set, ret_left);
	if (!result && set.differs)
		result = compare_with_map(guard, &set, true);
	return result;
}

/* ---- all that is configured ---- */

int furnish_config(const struct guard *guard, const struct config *config,
		   const struct surroundings *surroundings, struct known_peer *known, size_t count, size_t *ret_left, struct config_error *ret_error)
{
	struct known_set set __attribute__((cleanup(known_set_free))) = {};
	const char *step = "the known peers";
	size_t left = 0;
	int result;

	ret_error->text[0] = '\0';
	/* First what may find no room, then what cannot fail, so that a failure leaves all as it was. */
	result = known_set_make(guard, config, known, count, &set);
	if (!result)
		result = place_absent(guard, &set, &left);
	if (!result && left && !ret_left) {
		snprintf(ret_error->text, sizeof(ret_error->text),
			 "%.*s: %zu of its %zu peers find no room among the %u of the peers map, which are all in use: "
			 "stop the guard, then start it with a greater max_peers",
			 CONFIG_PATH_MAX, config->peers, (left + set.service_count - 1) / set.service_count, count,
			 guard_peers_max(guard));
		result = -ENOSPC;
	}
	if (!result) {
		step = "the exempt addresses";
		result = furnish_exempt(guard, config);
	}
	/* Without a policy the hooks let everything pass, so here a new guard begins to refuse. */
	if (!result) {
		step = "the policy and the ports";
		result = furnish_policy(guard, config, surroundings);
	}
	if (result) {
		displace(guard, &set);
		if (!*ret_error->text)
			snprintf(ret_error->text, sizeof(ret_error->text), "writing %s: %s", step,
				 strerror(-result));
		return result;
	}
	if (ret_left)
		*ret_left = left;
	/* All is in force. For want of memory some may stay known who are not any more, until the next time. */
	if (set.differs)
		compare_with_map(guard, &set, true);
	return 0;
}

/* ---- who listens where ---- */

/* A place with who listens there. */
struct manned_place {
	struct listen_place place;
	struct place_listeners listeners;
};

/* In order of the places, each once. */
struct place_list {
	struct manned_place *places;
	size_t count;
};

static void place_list_free(struct place_list *list)
{
	free(list->places);
}

#define cleanup_place_list __attribute__((cleanup(place_list_free)))

static int compare_places(const void *left, const void *right)
{
	return memcmp(left, right, sizeof(struct listen_place));
}

/* Who is at this place; NULL: nobody. */
static const struct place_listeners *at_place(const struct place_list *list, const struct listen_place *place)
{
	const struct manned_place *there =
		list->count ? bsearch(place, list->places, list->count, sizeof(*list->places), compare_places) : NULL;

	return there ? &there->listeners : NULL;
}

/* The places that the listeners are at: anybody may have made any number of them. */
static int places_of(const struct seen_listener *seen, size_t count, struct place_list *ret_list)
{
	const struct peer_address any_ipv4 = address_from_ipv4(0);
	struct manned_place *places;
	size_t used = 0, kept = 0;

	/* One on any IPv6 address may be at two. */
	places = ret_list->places = calloc(2 * count + 1, sizeof(*places));
	if (!places)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		const struct place_listeners one = { .ours = seen[i].ours, .others = !seen[i].ours };

		places[used++] = (struct manned_place){ .place = seen[i].place, .listeners = one };
		if (!seen[i].ipv4_also)
			continue;
		places[used] = places[used - 1];
		memcpy(places[used++].place.address, any_ipv4.bytes, sizeof(places->place.address));
	}
	qsort(places, used, sizeof(*places), compare_places);
	for (size_t i = 0; i < used; i++) {
		if (kept && !compare_places(&places[kept - 1], &places[i])) {
			places[kept - 1].listeners.ours += places[i].listeners.ours;
			places[kept - 1].listeners.others |= places[i].listeners.others;
		} else {
			places[kept++] = places[i];
		}
	}
	ret_list->count = kept;
	return 0;
}

/* Have those counted that the hooks have not seen begin: then they are seen to end. */
static int count_listeners(const struct guard *guard, const struct seen_listener *seen, size_t count,
			   const struct place_list *there, const struct place_list *wanted)
{
	cleanup_free struct adoption *adoptions = calloc(count + 1, sizeof(*adoptions));
	cleanup_free __u64 *cookies = calloc(count + 1, sizeof(*cookies));
	size_t missed = 0;
	int result;

	if (!adoptions || !cookies)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		const struct place_listeners *counted = at_place(there, &seen[i].place);

		if (!seen[i].ours || (counted && counted->ours >= at_place(wanted, &seen[i].place)->ours))
			continue;
		cookies[missed] = seen[i].cookie;
		memcpy(adoptions[missed].local.bytes, seen[i].place.address,
		       sizeof(adoptions[missed].local.bytes));
		adoptions[missed].local_port = seen[i].place.port;
		adoptions[missed++].ipv4_also = seen[i].ipv4_also;
	}
	result = missed ? guard_adopt_listeners(guard, cookies, adoptions, missed) : 0;
	/* Those are counted below, and their ends show in the next check. */
	return result == -EOPNOTSUPP ? 0 : result;
}

/* The map, as it is. */
static int places_there(const struct guard *guard, struct place_list *ret_list)
{
	cleanup_free struct listen_place *places = NULL;
	cleanup_free struct place_listeners *values = NULL;
	size_t count;
	int result = guard_listeners_read(guard, &places, &values, &count);

	if (result)
		return result;
	ret_list->places = calloc(count + 1, sizeof(*ret_list->places));
	if (!ret_list->places)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		ret_list->places[i] = (struct manned_place){ .place = places[i], .listeners = values[i] };
	ret_list->count = count;
	qsort(ret_list->places, count, sizeof(*ret_list->places), compare_places);
	return 0;
}

static bool same_listeners(const struct place_listeners *left, const struct place_listeners *right)
{
	return left && right ? left->ours == right->ours && left->others == right->others : left == right;
}

int furnish_listeners(const struct guard *guard, struct surroundings *surroundings,
		      const struct config *config)
{
	cleanup_place_list struct place_list before = {}, there = {}, wanted = {};
	cleanup_free struct seen_listener *seen = NULL;
	size_t count;
	/* First what is counted: who comes or goes until the sockets are listed is counted by a hook. */
	int result = places_there(guard, &before);

	if (!result)
		result = surroundings_listeners(surroundings, config, &seen, &count);
	if (!result)
		result = places_of(seen, count, &wanted);
	if (!result)
		result = count_listeners(guard, seen, count, &before, &wanted);
	if (!result)
		result = places_there(guard, &there);
	if (result)
		return result;
	/* Where a hook has counted meanwhile it knows better; what is wrong there the next check puts right. */
	for (size_t i = 0; i < there.count; i++) {
		const struct listen_place *place = &there.places[i].place;

		if (!at_place(&wanted, place) && same_listeners(at_place(&before, place), &there.places[i].listeners))
			guard_listeners_delete(guard, place);
	}
	for (size_t i = 0; !result && i < wanted.count; i++) {
		const struct listen_place *place = &wanted.places[i].place;
		const struct place_listeners *now = at_place(&there, place), *seen_there = &wanted.places[i].listeners;
		const struct place_listeners value = { .ours = seen_there->ours,
						       .others = seen_there->others,
						       .since_ns = now && now->ours > 0 ? now->since_ns : 0 };

		if (!same_listeners(now, &value) &&
		    (same_listeners(now, at_place(&before, place)) || (now && now->ours == value.ours)))
			result = guard_listeners_write(guard, place, &value);
	}
	/* Where nothing is known nothing is refused with RST. */
	return result == -E2BIG ? 0 : result;
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

/*
 * What operators have decided: a guard that goes on has it in its maps, another one gets what `kept` says. Changes
 * nothing. *ret_before: the mode that the maps have; of a new guard, that they had before anybody saw it.
 */
static int find_decided(const struct guard *guard, const struct config *config, bool goes_on,
			const struct state *kept, enum guard_mode *ret_before, struct furnished *furnished)
{
	const struct exempt_prefix none = STATE_NO_PREFIX;
	struct guard_policy policy = {};
	const struct state_entry *mode;
	int result = 0;

	*ret_before = GUARD_NEW_MODE;
	if (goes_on)
		result = guard_mode_read(guard, ret_before);
	if (!result && goes_on)
		result = guard_policy_read(guard, &policy);
	if (result)
		return result;
	furnished->recalled = policy.recalled;
	result = goes_on ? recall_collect(guard, kept, "", &furnished->state) : state_copy(kept, &furnished->state);
	if (result < 0)
		return result;
	furnished->left_out = (size_t)result;
	mode = state_find(&furnished->state, STATE_MODE, &none);
	if (mode)
		furnished->mode = mode->value;
	/* What the configuration says anyway is nobody's decision. */
	if (mode && mode->value == config->mode)
		state_clear(&furnished->state, STATE_MODE, &none);
	return 0;
}

/* Put the mode into force; but who has decided on another one than `before` since is not overruled. */
static int settle_mode(const struct guard *guard, enum guard_mode before, struct furnished *furnished)
{
	enum guard_mode mode;
	int result = guard_mode_read(guard, &mode);

	if (result)
		return result;
	if (mode == before)
		return mode == furnished->mode ? 0 : guard_mode_write(guard, furnished->mode);
	furnished->mode = mode;
	return 0;
}

int furnish_decided(const struct guard *guard, const struct state *state)
{
	int result = recall_prefixes(guard, state), peers = recall_peers(guard, state);

	return result ? result : peers;
}

/* What has to be there before a new guard begins to refuse, which it does as soon as it has a policy. */
static int prepare(const struct guard *guard, const struct config *config, enum guard_mode before,
		   struct furnished *furnished)
{
	int result = settle_mode(guard, before, furnished);

	/* The configured ones have room first; what has none is found out when all is decided. */
	if (!result)
		result = furnish_exempt(guard, config);
	if (!result)
		recall_prefixes(guard, &furnished->state);
	return result;
}

void furnished_free(struct furnished *furnished)
{
	prefixes_free(&furnished->own_gone);
	state_free(&furnished->state);
}

int furnish_all(const struct guard *guard, struct surroundings *surroundings, const struct config *config,
		struct known_peer *known, size_t count, bool taken_over, bool whole, const struct state *kept,
		struct furnished *ret_furnished, struct config_error *ret_error)
{
	const struct state nothing = {}, *file = kept ? kept : &nothing;
	struct furnished furnished __attribute__((cleanup(furnished_free))) = { .mode = config->mode };
	bool ports_left = taken_over && ports_leave(guard, config), goes_on;
	int result = taken_over ? was_furnished(guard) : 0;
	enum guard_mode before;

	ret_error->text[0] = '\0';
	goes_on = result > 0;
	if (result >= 0)
		result = find_decided(guard, config, goes_on, file, &before, &furnished);
	if (!result) {
		result = furnish_own(guard, NULL, &surroundings->own, &furnished.own_gone);
		/* No reason to guard nothing. */
		furnished.own_full = result == -ENOSPC;
		if (furnished.own_full)
			result = 0;
		else if (result)
			snprintf(ret_error->text, sizeof(ret_error->text), "writing the addresses of this host: %s",
				 strerror(-result));
	}
	/* Of a guard that nobody had furnished the hooks let everything pass yet, whatever the mode. */
	if (!result && !goes_on)
		result = prepare(guard, config, before, &furnished);
	if (!result)
		result = furnish_config(guard, config, surroundings, known, count,
					whole ? NULL : &furnished.left, ret_error);
	/* Only now: until here all of a guard that goes on is as it was. */
	if (!result && goes_on)
		result = settle_mode(guard, before, &furnished);
	if (result) {
		if (!*ret_error->text)
			snprintf(ret_error->text, sizeof(ret_error->text), "the mode and what is decided: %s",
				 strerror(-result));
		return result;
	}
	furnished.undecided = furnish_decided(guard, &furnished.state);
	if (furnished.undecided)
		recall_is(guard, false);
	else if (kept)
		furnished.undecided = recall_is(guard, true);
	furnished.adopted = furnish_listeners(guard, surroundings, config);
	if (!furnished.adopted)
		furnished.adopted = furnish_links(guard, surroundings, config, ports_left);
	*ret_furnished = furnished;
	furnished = (struct furnished){};
	return 0;
}
