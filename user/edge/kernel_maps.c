// SPDX-License-Identifier: BSD-2-Clause
/*
 * The guard in the kernel: its maps, read and written; commands on a peer; events. See kernel.h.
 */
#include "edge/kernel_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <connguard/rules.h>

#include "base/cleanup.h"
#include "base/clock.h"

/* Bytes asked of an iterator at a time: the kernel's buffer is eight pages (kernel/bpf/bpf_iter.c). */
#define ITERATOR_STEP 32768
/* Links that one walk over all sockets takes under guard: ADOPTIONS_MAX of bpf/maps.bpf.h. */
#define ADOPTIONS_AT_ONCE 65536
/* Peers that one guard_peers_next() reads, or more where a bucket has them: a fraction of a millisecond of work. */
#define PEERS_AT_ONCE 256
/* Events that one guard_events_drain() reads at most: a millisecond of work or so. */
#define EVENTS_AT_ONCE 64

/* ---- maps ---- */

static int element_read(const struct guard *guard, enum guard_map map, void *value)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(guard->maps[map], &zero, value) ? -errno : 0;
}

static int element_write(const struct guard *guard, enum guard_map map, const void *value)
{
	__u32 zero = 0;

	return bpf_map_update_elem(guard->maps[map], &zero, value, BPF_ANY) ? -errno : 0;
}

int guard_mode_read(const struct guard *guard, enum guard_mode *ret_mode)
{
	return element_read(guard, MAP_MODE, ret_mode);
}

int guard_mode_write(const struct guard *guard, enum guard_mode mode)
{
	return element_write(guard, MAP_MODE, &mode);
}

int guard_policy_read(const struct guard *guard, struct guard_policy *ret_policy)
{
	return element_read(guard, MAP_POLICY, ret_policy);
}

int guard_policy_write(const struct guard *guard, const struct guard_policy *policy)
{
	return element_write(guard, MAP_POLICY, policy);
}

int guard_daemon_read(const struct guard *guard, struct guard_daemon *ret_value)
{
	return element_read(guard, MAP_DAEMON, ret_value);
}

int guard_daemon_write(const struct guard *guard, const struct guard_daemon *value)
{
	return element_write(guard, MAP_DAEMON, value);
}

static int compare_ports(const void *left, const void *right)
{
	return *(const __u16 *)left - *(const __u16 *)right;
}

int guard_ports_read(const struct guard *guard, __u16 *ret_ports, size_t max, size_t *ret_count)
{
	__u16 *previous = NULL;
	size_t count = 0;
	__u16 port;

	while (bpf_map_get_next_key(guard->maps[MAP_PORTS], previous, &port) == 0) {
		if (count == max)
			return -ENOSPC;
		ret_ports[count] = port;
		previous = &ret_ports[count++];
	}
	if (errno != ENOENT)
		return -errno;
	qsort(ret_ports, count, sizeof(*ret_ports), compare_ports);
	*ret_count = count;
	return 0;
}

int guard_services_read(const struct guard *guard, __u16 *ret_services, size_t max,
			size_t *ret_count)
{
	__u16 ports[GUARD_PORTS_MAX], services[GUARD_PORTS_MAX];
	size_t port_count = 0, count = 0;
	__u32 service;
	int result = guard_ports_read(guard, ports, GUARD_PORTS_MAX, &port_count);

	if (result)
		return result;
	for (size_t i = 0; i < port_count; i++)
		if (bpf_map_lookup_elem(guard->maps[MAP_PORTS], &ports[i], &service) == 0)
			services[count++] = (__u16)service;
	qsort(services, count, sizeof(*services), compare_ports);
	*ret_count = 0;
	for (size_t i = 0; i < count; i++) {
		if (i && services[i] == services[i - 1])
			continue;
		if (*ret_count == max)
			return -ENOSPC;
		ret_services[(*ret_count)++] = services[i];
	}
	return 0;
}

static bool has_port(const __u16 *ports, size_t count, __u16 port)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (ports[i] == port)
			return true;
	return false;
}

int guard_ports_write(const struct guard *guard, const __u16 *ports, size_t count, bool shared)
{
	__u16 current[GUARD_PORTS_MAX];
	size_t current_count = 0, new_count = 0;
	int result = guard_ports_read(guard, current, GUARD_PORTS_MAX, &current_count);

	if (result)
		return result;
	for (size_t i = 0; i < count; i++)
		new_count += !has_port(current, current_count, ports[i]);
	/* Those who leave are the last to go: else it would end half-way. */
	if (current_count + new_count > GUARD_PORTS_MAX)
		return -ENOSPC;
	/* New ones first: a port that stays is guarded throughout. */
	for (size_t i = 0; i < count; i++) {
		__u32 service = shared ? 0 : ports[i];

		if (bpf_map_update_elem(guard->maps[MAP_PORTS], &ports[i], &service, BPF_ANY))
			return -errno;
	}
	for (size_t i = 0; i < current_count; i++)
		if (!has_port(ports, count, current[i]) && bpf_map_delete_elem(guard->maps[MAP_PORTS], &current[i]))
			return -errno;
	return 0;
}

int guard_counters_read(const struct guard *guard, enum counters_index index,
			struct guard_counters *ret_counters)
{
	int cpus = libbpf_num_possible_cpus();
	struct guard_counters total = {};
	__u32 key = index;

	if (cpus < 0)
		return cpus;
	cleanup_free struct guard_counters *values = calloc(cpus, sizeof(*values));

	if (!values)
		return -ENOMEM;
	if (bpf_map_lookup_elem(guard->maps[MAP_COUNTERS], &key, values))
		return -errno;
	for (int i = 0; i < cpus; i++)
		for (size_t field = 0; field < sizeof(total) / sizeof(__u64); field++)
			((__u64 *)&total)[field] += ((__u64 *)&values[i])[field];
	*ret_counters = total;
	return 0;
}

/* As the hooks will see it: what has failed before `revived` is void. */
static int peer_read(const struct guard *guard, const struct peer_address *address, __u64 revived,
		     struct peer *ret_peer)
{
	struct peer peer;

	if (bpf_map_lookup_elem_flags(guard->maps[MAP_PEERS], address, &peer, BPF_F_LOCK))
		return -errno;
	peer_revive(&peer, revived);
	*ret_peer = peer;
	return 0;
}

int guard_peer_read(const struct guard *guard, const struct peer_address *address,
		    struct peer *ret_peer)
{
	struct guard_revival revival;
	int result = element_read(guard, MAP_REVIVAL, &revival);

	return result ? result : peer_read(guard, address, revival.since_ns, ret_peer);
}

int guard_slots_read(const struct guard *guard, const struct peer_address *address, struct peer *ret_peer)
{
	return peer_read(guard, address, 0, ret_peer);
}

int guard_peer_add(const struct guard *guard, const struct peer *peer)
{
	if (!bpf_map_update_elem(guard->maps[MAP_PEERS], &peer->address, peer, BPF_NOEXIST))
		return 0;
	return errno == E2BIG ? -ENOSPC : -errno;
}

__u32 guard_peers_max(const struct guard *guard)
{
	return guard->max_peers;
}

int guard_network_room(const struct guard *guard, const struct peer_address *address, __u32 *ret_room)
{
	struct peer_network network = network_of(address);
	struct network_tally tally = {};
	struct guard_policy policy;
	int result = guard_policy_read(guard, &policy);

	if (result)
		return result;
	if (!policy.network_peers || !address_is_counted(address))
		return -ENOENT;
	if (bpf_map_lookup_elem(guard->maps[MAP_NETWORKS], &network, &tally) && errno != ENOENT)
		return -errno;
	*ret_room = tally.peers < policy.network_peers ? policy.network_peers - tally.peers : 0;
	return 0;
}

/* Room for a piece of the walk: a bucket of the map comes whole, or -ENOSPC asks for more. */
static int walk_reserve(struct peer_walk *walk, __u32 capacity)
{
	struct peer_address *keys = reallocarray(walk->keys, capacity, sizeof(*keys));
	struct peer *peers;

	if (!keys)
		return -ENOMEM;
	walk->keys = keys;
	peers = reallocarray(walk->peers, capacity, sizeof(*peers));
	if (!peers)
		return -ENOMEM;
	walk->peers = peers;
	walk->capacity = capacity;
	return 0;
}

int guard_peers_walk(const struct guard *guard, struct peer_walk *ret_walk)
{
	struct peer_walk walk = { .map = guard->maps[MAP_PEERS], .revival = guard->maps[MAP_REVIVAL] };
	int result = walk_reserve(&walk, PEERS_AT_ONCE);

	if (result)
		guard_peers_leave(&walk);
	else
		*ret_walk = walk;
	return result;
}

int guard_peers_next(struct peer_walk *walk, const struct peer **ret_peers, size_t *ret_count)
{
	LIBBPF_OPTS(bpf_map_batch_opts, options, .elem_flags = BPF_F_LOCK);
	__u32 count = 0, next = 0, zero = 0;
	struct guard_revival revival;
	int result;

	*ret_count = 0;
	while (!walk->ended && !*ret_count) {
		count = walk->capacity;
		result = bpf_map_lookup_batch(walk->map, walk->began ? &walk->place : NULL, &next,
					      walk->keys, walk->peers, &count, &options) ?
				 -errno :
				 0;
		if (result == -ENOSPC) {
			result = walk_reserve(walk, 2 * walk->capacity);
			if (result)
				return result;
			continue;
		}
		if (result && result != -ENOENT)
			return result;
		walk->ended = result == -ENOENT;
		walk->began = true;
		walk->place = next;
		*ret_count = count;
	}
	/* Of now: between two pieces every backoff may have ended. */
	if (bpf_map_lookup_elem(walk->revival, &zero, &revival))
		return -errno;
	for (__u32 i = 0; i < *ret_count; i++) {
		/* As the hooks will see it; and an entry that a hook has created and not named yet has a name. */
		peer_revive(&walk->peers[i], revival.since_ns);
		walk->peers[i].address = walk->keys[i];
	}
	*ret_peers = walk->peers;
	return 0;
}

void guard_peers_leave(struct peer_walk *walk)
{
	free(walk->keys);
	free(walk->peers);
	*walk = (struct peer_walk){};
}

int guard_exempt_write(const struct guard *guard, const struct exempt_prefix *prefix,
		       const struct exempt_value *value)
{
	return bpf_map_update_elem(guard->maps[MAP_EXEMPT], prefix, value, BPF_ANY) ? -errno : 0;
}

/* Elements that a map has room for; 0: that cannot be told. */
static __u32 room_of(const struct guard *guard, enum guard_map map)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);

	return bpf_obj_get_info_by_fd(guard->maps[map], &info, &length) ? 0 : info.max_entries;
}

__u32 guard_exempt_max(const struct guard *guard)
{
	return room_of(guard, MAP_EXEMPT);
}

int guard_exempt_delete(const struct guard *guard, const struct exempt_prefix *prefix)
{
	return bpf_map_delete_elem(guard->maps[MAP_EXEMPT], prefix) ? -errno : 0;
}

bool guard_exempts(const struct guard *guard, const struct peer_address *address, __u64 now)
{
	struct exempt_prefix whole = { .prefix_length = 8 * sizeof(whole.address) };
	struct exempt_value value;

	memcpy(whole.address, address->bytes, sizeof(whole.address));
	return bpf_map_lookup_elem(guard->maps[MAP_EXEMPT], &whole, &value) == 0 && now < value.until_ns;
}

int guard_exempt_read(const struct guard *guard, struct exempt_prefix **ret_prefixes,
		      struct exempt_value **ret_values, size_t *ret_count)
{
	cleanup_free struct exempt_prefix *prefixes = NULL;
	cleanup_free struct exempt_value *values = NULL;
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);
	size_t count = 0;

	if (bpf_obj_get_info_by_fd(guard->maps[MAP_EXEMPT], &info, &length))
		return -errno;
	prefixes = calloc(info.max_entries, sizeof(*prefixes));
	values = calloc(info.max_entries, sizeof(*values));
	if (!prefixes || !values)
		return -ENOMEM;
	while (count < info.max_entries &&
	       bpf_map_get_next_key(guard->maps[MAP_EXEMPT], count ? &prefixes[count - 1] : NULL,
				    &prefixes[count]) == 0) {
		if (bpf_map_lookup_elem(guard->maps[MAP_EXEMPT], &prefixes[count], &values[count]))
			return -errno;
		count++;
	}
	*ret_prefixes = prefixes;
	*ret_values = values;
	*ret_count = count;
	prefixes = NULL;
	values = NULL;
	return 0;
}

int guard_listeners_write(const struct guard *guard, const struct listen_place *place,
			  const struct place_listeners *value)
{
	return bpf_map_update_elem(guard->maps[MAP_LISTENERS], place, value, BPF_ANY) ? -errno : 0;
}

int guard_listeners_delete(const struct guard *guard, const struct listen_place *place)
{
	return bpf_map_delete_elem(guard->maps[MAP_LISTENERS], place) ? -errno : 0;
}

int guard_listeners_read(const struct guard *guard, struct listen_place **ret_places,
			 struct place_listeners **ret_values, size_t *ret_count)
{
	struct listen_place next, *previous = NULL;
	cleanup_free struct place_listeners *values = NULL;
	cleanup_free struct listen_place *places = NULL;
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);
	size_t count = 0;

	if (bpf_obj_get_info_by_fd(guard->maps[MAP_LISTENERS], &info, &length))
		return -errno;
	places = calloc(info.max_entries, sizeof(*places));
	values = calloc(info.max_entries, sizeof(*values));
	if (!places || !values)
		return -ENOMEM;
	while (count < info.max_entries &&
	       bpf_map_get_next_key(guard->maps[MAP_LISTENERS], previous, &next) == 0) {
		places[count] = next;
		previous = &places[count];
		/* One that has left meanwhile, which the hooks may do, has nobody. */
		if (bpf_map_lookup_elem(guard->maps[MAP_LISTENERS], &next, &values[count]))
			values[count] = (struct place_listeners){};
		count++;
	}
	*ret_places = places;
	*ret_values = values;
	*ret_count = count;
	places = NULL;
	values = NULL;
	return 0;
}

int guard_own_write(const struct guard *guard, const struct exempt_prefix *prefix)
{
	const struct own_value value = { .prefix_length = prefix->prefix_length };

	return bpf_map_update_elem(guard->maps[MAP_OWN], prefix, &value, BPF_ANY) ? -errno : 0;
}

int guard_own_delete(const struct guard *guard, const struct exempt_prefix *prefix)
{
	return bpf_map_delete_elem(guard->maps[MAP_OWN], prefix) ? -errno : 0;
}

int guard_own_read(const struct guard *guard, struct exempt_prefix **ret_prefixes, size_t *ret_count)
{
	cleanup_free struct exempt_prefix *prefixes = NULL;
	size_t count = 0, capacity = 0;

	for (;; count++) {
		if (count == capacity) {
			struct exempt_prefix *larger;

			capacity = 2 * capacity + 64;
			larger = reallocarray(prefixes, capacity, sizeof(*prefixes));
			if (!larger)
				return -ENOMEM;
			prefixes = larger;
		}
		if (bpf_map_get_next_key(guard->maps[MAP_OWN], count ? &prefixes[count - 1] : NULL,
					 &prefixes[count]))
			break;
	}
	if (errno != ENOENT)
		return -errno;
	*ret_prefixes = prefixes;
	*ret_count = count;
	prefixes = NULL;
	return 0;
}

int guard_own_count(const struct guard *guard, size_t *ret_count)
{
	struct exempt_prefix prefix, next;
	size_t count = 0;

	while (bpf_map_get_next_key(guard->maps[MAP_OWN], count ? &prefix : NULL, &next) == 0) {
		prefix = next;
		count++;
	}
	if (errno != ENOENT)
		return -errno;
	*ret_count = count;
	return 0;
}

__u32 guard_own_max(const struct guard *guard)
{
	return room_of(guard, MAP_OWN);
}

bool guard_owns(const struct guard *guard, const struct peer_address *address, struct exempt_prefix *ret_prefix)
{
	struct exempt_prefix whole = { .prefix_length = 8 * sizeof(whole.address) };
	struct own_value value;

	memcpy(whole.address, address->bytes, sizeof(whole.address));
	if (bpf_map_lookup_elem(guard->maps[MAP_OWN], &whole, &value))
		return false;
	for (__u32 bit = value.prefix_length; bit < 8 * sizeof(whole.address); bit++)
		whole.address[bit / 8] &= ~(0x80 >> bit % 8);
	whole.prefix_length = value.prefix_length;
	*ret_prefix = whole;
	return true;
}

int guard_command(const struct guard *guard, const struct guard_command *command)
{
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = command,
		    .data_size_in = sizeof(*command), .repeat = 1);

	if (bpf_prog_test_run_opts(guard->command_fd, &options))
		return -errno;
	return (int)options.retval;
}

/* Look at so many as one run takes. */
static int look_batch(const struct guard *guard, __u32 interface, struct link_sight *sights, size_t count)
{
	struct __sk_buff context = { .ifindex = interface };
	__u32 size = (__u32)(count * sizeof(*sights));
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = sights, .data_size_in = size, .data_out = sights,
		    .data_size_out = size, .ctx_in = &context, .ctx_size_in = sizeof(context), .repeat = 1);

	if (bpf_prog_test_run_opts(guard->look_fd, &options))
		return -errno;
	return (int)options.retval;
}

int guard_links_look(const struct guard *guard, __u32 interface, struct link_sight *sights, size_t count)
{
	int result = 0;

	for (size_t i = 0; i < count; i++) {
		sights[i].frame_type = 0;
		sights[i].is_there = 0;
		sights[i].heard_ns = sights[i].stalled_ns = 0;
	}
	if (guard->look_fd < 0)
		return -EOPNOTSUPP;
	for (size_t done = 0, batch; done < count && !result; done += batch) {
		batch = count - done < SIGHTS_MAX ? count - done : SIGHTS_MAX;
		result = look_batch(guard, interface, sights + done, batch);
	}
	return result;
}

int guard_link_look(const struct guard *guard, __u32 interface, struct link_sight *sight)
{
	int result = guard_links_look(guard, interface, sight, 1);

	return result || sight->is_there ? result : -ENOENT;
}

int guard_command_host(const struct guard *guard, const struct guard_command *command)
{
	__u16 services[GUARD_PORTS_MAX];
	struct guard_command one = *command;
	size_t count = 0;
	int result = guard_services_read(guard, services, GUARD_PORTS_MAX, &count);
	bool done = false;

	for (size_t i = 0; i < count; i++) {
		int each;

		one.address.service = services[i];
		each = guard_command(guard, &one);
		done = done || !each;
		if (each && each != -ENOENT)
			result = result ? result : each;
	}
	return result || done || command_takes_back(command) ? result : -ENOENT;
}

/* Run a command on each peer that wants it, as far as it is still so. *ret_done: on so many. */
static int command_all(const struct guard *guard, struct guard_command command,
		       bool (*wants)(const struct peer *peer), size_t *ret_done)
{
	cleanup_peer_walk struct peer_walk walk = {};
	const struct peer *peers;
	size_t count, done = 0;
	int result = guard_peers_walk(guard, &walk), one;

	do {
		if (!result)
			result = guard_peers_next(&walk, &peers, &count);
		for (size_t i = 0; !result && i < count; i++) {
			if (!wants(&peers[i]))
				continue;
			command.address = peers[i].address;
			one = guard_command(guard, &command);
			/* It is forgotten meanwhile, or has become another. */
			if (one && one != -ENOENT && one != -EBUSY)
				return one;
			done += !one;
		}
	} while (!result && count);
	*ret_done = done;
	return result;
}

static bool has_backoff(const struct peer *peer)
{
	return peer->next_attempt_ns || peer->attempts;
}

int guard_kick_all(const struct guard *guard, size_t *ret_kicked)
{
	return command_all(guard, (struct guard_command){ .operation = COMMAND_KICK }, has_backoff, ret_kicked);
}

static bool is_idle(const struct peer *peer)
{
	struct peer copy = *peer;
	__u64 now = clock_now_ns();

	return peer_forget(&copy, now, now);
}

int guard_forget_idle(const struct guard *guard, size_t *ret_forgotten)
{
	return command_all(guard,
			   (struct guard_command){ .operation = COMMAND_FORGET, .until_ns = clock_now_ns() },
			   is_idle, ret_forgotten);
}

/* What an iterator wrote. */
struct output {
	char *bytes;
	size_t length, capacity;
};

static void output_free(struct output *output)
{
	free(output->bytes);
}

/* A descriptor from which an iterator runs as it is read; the caller's to close. Or a negative errno. */
static int iterator_open(int program_fd)
{
	cleanup_close int link_fd = bpf_link_create(program_fd, 0, BPF_TRACE_ITER, NULL);
	int fd = link_fd < 0 ? -1 : bpf_iter_create(link_fd);

	return fd < 0 ? -errno : fd;
}

/* Run an iterator to its end. */
static int iterate(int program_fd, struct output *output)
{
	cleanup_close int iterator_fd = iterator_open(program_fd);
	ssize_t length;

	if (iterator_fd < 0)
		return iterator_fd;
	for (;;) {
		if (output->capacity - output->length < ITERATOR_STEP) {
			size_t capacity = 2 * output->capacity + ITERATOR_STEP;
			char *larger = realloc(output->bytes, capacity);

			if (!larger)
				return -ENOMEM;
			output->bytes = larger;
			output->capacity = capacity;
		}
		length = read(iterator_fd, output->bytes + output->length, ITERATOR_STEP);
		if (length > 0)
			output->length += (size_t)length;
		else if (length == 0 || (errno != EINTR && errno != EAGAIN))
			return length ? -errno : 0;
	}
}

static int compare_holders(const void *left, const void *right)
{
	const struct socket_holder *a = left, *b = right;

	if (a->cookie != b->cookie)
		return a->cookie < b->cookie ? -1 : 1;
	return (a->process_id > b->process_id) - (a->process_id < b->process_id);
}

int guard_holders(const struct guard *guard, struct socket_holder **ret_holders, size_t *ret_count)
{
	struct output output __attribute__((cleanup(output_free))) = {};
	struct socket_holder *holders;
	size_t count, kept = 0;
	int result;

	if (guard->iterators[ITERATOR_HOLDERS] < 0)
		return -EOPNOTSUPP;
	result = iterate(guard->iterators[ITERATOR_HOLDERS], &output);
	if (result)
		return result;
	holders = (struct socket_holder *)take_pointer(output.bytes);
	count = output.length / sizeof(*holders);
	qsort(holders, count, sizeof(*holders), compare_holders);
	for (size_t i = 0; i < count; i++)
		if (!kept || holders[kept - 1].cookie != holders[i].cookie)
			holders[kept++] = holders[i];
	*ret_holders = holders;
	*ret_count = kept;
	return 0;
}

/* As many as the kernel's map has room for. */
static int adopt_batch(const struct guard *guard, const __u64 *cookies, const struct adoption *adoptions,
		       size_t count)
{
	struct output nothing __attribute__((cleanup(output_free))) = {};
	int result = 0;

	for (size_t i = 0; i < count && !result; i++)
		if (bpf_map_update_elem(guard->maps[MAP_ADOPTIONS], &cookies[i], &adoptions[i],
					BPF_ANY))
			result = -errno;
	if (!result)
		result = iterate(guard->iterators[ITERATOR_ADOPT], &nothing);
	for (size_t i = 0; i < count; i++)
		bpf_map_delete_elem(guard->maps[MAP_ADOPTIONS], &cookies[i]);
	return result;
}

int guard_adopt(const struct guard *guard, const __u64 *cookies, const struct adoption *adoptions,
		size_t count)
{
	size_t done = 0, batch;
	int result = 0;

	if (guard->iterators[ITERATOR_ADOPT] < 0) {
		for (size_t i = 0; i < count; i++) {
			const struct guard_command command = {
				.operation = COMMAND_ADOPT,
				.address = adoptions[i].address,
				.cookie = cookies[i],
				.direction = adoptions[i].direction,
				.local_port = adoptions[i].local_port,
				.remote_port = adoptions[i].remote_port,
			};
			int one = guard_command(guard, &command);

			result = result ? result : one;
		}
		return result;
	}
	do {
		batch = count - done < ADOPTIONS_AT_ONCE ? count - done : ADOPTIONS_AT_ONCE;
		result = adopt_batch(guard, cookies + done, adoptions + done, batch);
		done += batch;
	} while (done < count && !result);
	return result;
}

int guard_adopt_listeners(const struct guard *guard, const __u64 *cookies,
			  const struct adoption *adoptions, size_t count)
{
	return guard->iterators[ITERATOR_ADOPT] < 0 ? -EOPNOTSUPP :
						      guard_adopt(guard, cookies, adoptions, count);
}

/* Write that this link is to be set back. False: it was not touched, and there is nothing to go back to. */
static bool nudge_end(int map, __u64 cookie)
{
	struct link_nudge nudge;

	if (bpf_map_lookup_elem(map, &cookie, &nudge) ||
	    (nudge.step != NUDGE_UNDER_WAY && nudge.step != NUDGE_END))
		return false;
	/* How it was before is in the entry: only the step changes. */
	nudge.step = NUDGE_END;
	return bpf_map_update_elem(map, &cookie, &nudge, BPF_EXIST) == 0;
}

struct nudge_walk {
	int map, iterator_fd; /* -1: nothing is to be done at any socket */
	int result;           /* of writing what is to be done */
	bool over;            /* there is no further step */
	size_t begin_count, end_count;
	__u64 cookies[];      /* to begin with, then to end with */
};

/* Write what is to be done. True: there is something. */
static bool nudge_write(struct nudge_walk *walk)
{
	const struct link_nudge fresh = { .step = NUDGE_BEGIN };
	const __u64 *begin = walk->cookies, *end = walk->cookies + walk->begin_count;
	bool written = false;

	for (size_t i = 0; i < walk->end_count; i++)
		written |= nudge_end(walk->map, end[i]);
	for (size_t i = 0; i < walk->begin_count; i++) {
		/* One that is under way already stays: how it was before is in its entry. */
		if (!bpf_map_update_elem(walk->map, &begin[i], &fresh, BPF_NOEXIST))
			written = true;
		else if (errno != EEXIST)
			walk->result = errno == E2BIG ? -ENOSPC : -errno;
	}
	return written;
}

int guard_nudge_start(const struct guard *guard, const __u64 *begin, size_t begin_count, const __u64 *end,
		      size_t end_count, struct nudge_walk **ret_walk)
{
	struct nudge_walk *walk;

	if (guard->iterators[ITERATOR_NUDGE] < 0)
		return -EOPNOTSUPP;
	walk = malloc(sizeof(*walk) + (begin_count + end_count) * sizeof(*walk->cookies));
	if (!walk)
		return -ENOMEM;
	*walk = (struct nudge_walk){ .map = guard->maps[MAP_NUDGES],
				     .iterator_fd = -1,
				     .begin_count = begin_count,
				     .end_count = end_count };
	if (begin_count)
		memcpy(walk->cookies, begin, begin_count * sizeof(*begin));
	if (end_count)
		memcpy(walk->cookies + begin_count, end, end_count * sizeof(*end));
	if (nudge_write(walk)) {
		walk->iterator_fd = iterator_open(guard->iterators[ITERATOR_NUDGE]);
		if (walk->iterator_fd < 0) {
			walk->result = walk->iterator_fd;
			walk->over = true;
			return guard_nudge_finish(walk, NULL);
		}
	}
	*ret_walk = walk;
	return 0;
}

int guard_nudge_step(struct nudge_walk *walk)
{
	ssize_t length;
	char byte;

	length = walk->iterator_fd < 0 ? 0 : read(walk->iterator_fd, &byte, sizeof(byte));
	if (length > 0 || (length < 0 && (errno == EINTR || errno == EAGAIN)))
		return 1;
	walk->over = true;
	return length ? -errno : 0;
}

int guard_nudge_finish(struct nudge_walk *walk, size_t *ret_nudged)
{
	const __u64 *begin = walk->cookies, *end = walk->cookies + walk->begin_count;
	int result = walk->result;
	size_t nudged = 0;

	for (size_t i = 0; walk->over && i < walk->end_count; i++)
		bpf_map_delete_elem(walk->map, &end[i]);
	for (size_t i = 0; i < walk->begin_count; i++) {
		struct link_nudge nudge = {};

		if (!bpf_map_lookup_elem(walk->map, &begin[i], &nudge) && nudge.step == NUDGE_UNDER_WAY)
			nudged++;
		else
			bpf_map_delete_elem(walk->map, &begin[i]);
	}
	if (ret_nudged)
		*ret_nudged = nudged;
	if (walk->iterator_fd >= 0)
		close(walk->iterator_fd);
	free(walk);
	return result;
}

int guard_nudge(const struct guard *guard, const __u64 *begin, size_t begin_count, const __u64 *end, size_t end_count,
		size_t *ret_nudged)
{
	struct nudge_walk *walk;
	int result = guard_nudge_start(guard, begin, begin_count, end, end_count, &walk), step, finish;

	if (result)
		return result;
	do
		step = guard_nudge_step(walk);
	while (step > 0);
	finish = guard_nudge_finish(walk, ret_nudged);
	return step ? step : finish;
}

int guard_syn_read(const struct guard *guard, __u64 cookie, struct ready_syn *ret_syn)
{
	return bpf_map_lookup_elem(guard->maps[MAP_SYNS], &cookie, ret_syn) ? -errno : 0;
}

int guard_held_syn_read(const struct guard *guard, const struct peer_address *address,
			struct ready_syn *ret_syn)
{
	return bpf_map_lookup_elem(guard->maps[MAP_HELD_SYNS], address, ret_syn) ? -errno : 0;
}

void guard_held_syn_forget(const struct guard *guard, const struct peer_address *address)
{
	bpf_map_delete_elem(guard->maps[MAP_HELD_SYNS], address);
}

int guard_nudge_read(const struct guard *guard, __u64 cookie, struct link_nudge *ret_nudge)
{
	return bpf_map_lookup_elem(guard->maps[MAP_NUDGES], &cookie, ret_nudge) ? -errno : 0;
}

int guard_nudges_read(const struct guard *guard, __u64 **ret_cookies, size_t *ret_count)
{
	cleanup_free __u64 *cookies = NULL;
	size_t count = 0, capacity = 0;
	__u64 key;

	while (bpf_map_get_next_key(guard->maps[MAP_NUDGES], count ? &cookies[count - 1] : NULL,
				    &key) == 0) {
		if (count == capacity) {
			__u64 *larger = reallocarray(cookies, capacity ? 2 * capacity : 16,
						     sizeof(*cookies));

			if (!larger)
				return -ENOMEM;
			cookies = larger;
			capacity = capacity ? 2 * capacity : 16;
		}
		cookies[count++] = key;
	}
	*ret_cookies = take_pointer(cookies);
	*ret_count = count;
	return 0;
}

/* ---- events ---- */

static int on_ring_record(void *context, void *data, size_t size)
{
	struct guard *guard = context;

	if (size >= sizeof(struct held_packet))
		guard->handler(&((const struct held_packet *)data)->event, data, guard->handler_argument);
	else if (size >= sizeof(struct guard_event))
		guard->handler(data, NULL, guard->handler_argument);
	/* The ring may fill as fast as it is read: a negative return ends the reading here. */
	return ++guard->drained < EVENTS_AT_ONCE ? 0 : -EAGAIN;
}

int guard_events_open(struct guard *guard, guard_event_handler handler, void *argument, int *ret_fd)
{
	guard->handler = handler;
	guard->handler_argument = argument;
	guard->ring = ring_buffer__new(guard->maps[MAP_EVENTS], on_ring_record, guard, NULL);
	if (!guard->ring)
		return -errno;
	*ret_fd = ring_buffer__epoll_fd(guard->ring);
	return 0;
}

int guard_events_drain(struct guard *guard)
{
	int result;

	guard->drained = 0;
	result = ring_buffer__consume(guard->ring);
	if (result < 0 && result != -EAGAIN)
		return result;
	return guard->drained >= EVENTS_AT_ONCE;
}
