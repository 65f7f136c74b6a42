/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the tests of the kernel side share. See fixture.h.
 */
#include "fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "bpf/connguard.skel.h"
#include "edge/cgroups.h"
#include "edge/kernel.h"

/* More events than any test but that of a full ring leaves waiting. */
#define EVENTS_WAITING 64
/* More descriptors than any test has. */
#define DESCRIPTORS_MAX 1024
/* An event is "now" when it is at most this old. */
#define RECENT_NS      (60 * NS_PER_SECOND)
#define COUNTER_FIELDS (sizeof(struct guard_counters) / sizeof(__u64))

/* ---- surroundings ---- */

static char name_of_own[64], directory_of_own[200];
/* The child that runs the tests, for the handler that passes signals on. */
static volatile pid_t tests_process;

const char *own_name(void)
{
	return name_of_own;
}

const char *own_cgroup(void)
{
	return directory_of_own;
}

/* Outside a test there is nothing to fail. */
static void give_up(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

void run(const char *command)
{
	int status = system(command);

	if (status)
		fail_msg("'%s' ended with %d", command, status);
}

void write_setting(const char *name, int value)
{
	char path[300];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv4/%s", name);
	file = fopen(path, "we");
	if (!file || fprintf(file, "%d\n", value) < 0 || fclose(file))
		fail_msg("%s: %s", path, strerror(errno));
}

/*
 * Remove a directory of pins, or a cgroup, and everything below it: the files of a cgroup go with
 * it.
 */
static void remove_tree(const char *path)
{
	struct dirent *entry;
	char below[600];
	DIR *directory;

	if (!rmdir(path))
		return;
	directory = opendir(path);
	if (!directory)
		return;
	while ((entry = readdir(directory))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		snprintf(below, sizeof(below), "%s/%s", path, entry->d_name);
		if (entry->d_type == DT_DIR)
			remove_tree(below);
		else
			unlink(below);
	}
	closedir(directory);
	rmdir(path);
}

/*
 * 1 when the name is PREFIX and the id of a process that is no more, and perhaps a dash and
 * something.
 */
static bool is_left_over(const char *name, const char *prefix)
{
	size_t length = strlen(prefix);
	pid_t owner;

	if (strncmp(name, prefix, length))
		return false;
	owner = atoi(name + length);
	return owner > 0 && kill(owner, 0) < 0 && errno == ESRCH;
}

static void remove_left_over(const char *prefix, const char *directory_path, bool guards)
{
	DIR *directory = opendir(directory_path);
	struct guard_error ignored;
	struct dirent *entry;
	char path[600];

	if (!directory)
		return;
	while ((entry = readdir(directory))) {
		if (!is_left_over(entry->d_name, prefix))
			continue;
		if (guards)
			guard_remove(entry->d_name, &ignored);
		snprintf(path, sizeof(path), "%s/%s", directory_path, entry->d_name);
		remove_tree(path);
	}
	closedir(directory);
}

static void clean(const char *prefix, const char *mount_point)
{
	remove_left_over(prefix, PIN_ROOT, true);
	remove_left_over(prefix, mount_point, false);
}

static void move_to(const char *directory)
{
	char path[600];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", directory);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		give_up(path);
	close(fd);
}

static void surround(const char *prefix, const char *mount_point)
{
	snprintf(name_of_own, sizeof(name_of_own), "%s%d", prefix, getpid());
	snprintf(directory_of_own, sizeof(directory_of_own), "%s/%s", mount_point, name_of_own);
	if (mkdir(directory_of_own, 0755))
		give_up(directory_of_own);
	move_to(directory_of_own);
	if (unshare(CLONE_NEWNET))
		give_up("unshare");
	if (system("ip link set lo up"))
		give_up("ip link set lo up");
}

static void pass_on(int signal_number)
{
	kill(tests_process, signal_number);
}

int run_surrounded(const char *prefix, int (*body)(void))
{
	const struct sigaction passing = { .sa_handler = pass_on };
	sigset_t signals, before;
	char *mount_point;
	int status;

	if (geteuid() != 0) {
		puts("1..0 # SKIP loading BPF programs needs root");
		return 0;
	}
	errno = -cgroups_mount_point(&mount_point);
	if (errno)
		give_up("cgroup2");
	clean(prefix, mount_point);
	/* A signal between fork() and the handler waits. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, &before);
	fflush(NULL);
	tests_process = fork();
	if (tests_process < 0)
		give_up("fork");
	if (!tests_process) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		sigprocmask(SIG_SETMASK, &before, NULL);
		surround(prefix, mount_point);
		free(mount_point);
		exit(body());
	}
	sigaction(SIGINT, &passing, NULL);
	sigaction(SIGTERM, &passing, NULL);
	sigprocmask(SIG_SETMASK, &before, NULL);
	while (waitpid(tests_process, &status, 0) < 0)
		if (errno != EINTR)
			give_up("waitpid");
	clean(prefix, mount_point);
	free(mount_point);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void child_cgroup(const char *name, char ret_path[256])
{
	snprintf(ret_path, 256, "%s/%s", directory_of_own, name);
	if (mkdir(ret_path, 0755) && errno != EEXIST)
		fail_msg("mkdir %s: %s", ret_path, strerror(errno));
}

void join_cgroup(const char *directory)
{
	move_to(directory);
}

/* ---- addresses and sockets ---- */

socklen_t endpoint_of(const char *text, __u16 port, union endpoint *ret_endpoint)
{
	memset(ret_endpoint, 0, sizeof(*ret_endpoint));
	if (strchr(text, ':')) {
		ret_endpoint->ipv6.sin6_family = AF_INET6;
		ret_endpoint->ipv6.sin6_port = htons(port);
		assert_int_equal(inet_pton(AF_INET6, text, &ret_endpoint->ipv6.sin6_addr), 1);
		return sizeof(ret_endpoint->ipv6);
	}
	ret_endpoint->ipv4.sin_family = AF_INET;
	ret_endpoint->ipv4.sin_port = htons(port);
	assert_int_equal(inet_pton(AF_INET, text, &ret_endpoint->ipv4.sin_addr), 1);
	return sizeof(ret_endpoint->ipv4);
}

static __u16 service_of_peers;

void set_service(__u16 service)
{
	service_of_peers = service;
}

struct peer_address key_of(const char *text)
{
	union endpoint endpoint;
	struct peer_address key = {};

	endpoint_of(text, 0, &endpoint);
	if (endpoint.any.sa_family == AF_INET)
		key = address_from_ipv4(endpoint.ipv4.sin_addr.s_addr);
	else
		memcpy(key.bytes, &endpoint.ipv6.sin6_addr, sizeof(key.bytes));
	key.service = service_of_peers;
	return key;
}

int bound_socket(const char *address, __u16 port)
{
	union endpoint endpoint;
	socklen_t length = endpoint_of(address, port, &endpoint);
	int one = 1, fd = socket(endpoint.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	assert_int_equal(bind(fd, &endpoint.any, length), 0);
	return fd;
}

int listener(const char *address, __u16 port)
{
	int fd = bound_socket(address, port);

	assert_int_equal(listen(fd, 64), 0);
	return fd;
}

int dial(int fd, const char *address, __u16 port)
{
	union endpoint endpoint;
	socklen_t length = endpoint_of(address, port, &endpoint);

	return connect(fd, &endpoint.any, length) < 0 ? errno : 0;
}

__u64 cookie_of(int fd)
{
	__u64 cookie = 0;
	socklen_t length = sizeof(cookie);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length), 0);
	return cookie;
}

int highest_descriptor(void)
{
	int highest = 0;

	for (int fd = 0; fd < DESCRIPTORS_MAX; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			highest = fd;
	return highest;
}

__u16 port_of(int fd)
{
	union endpoint endpoint;
	socklen_t length = sizeof(endpoint);

	assert_int_equal(getsockname(fd, &endpoint.any, &length), 0);
	return ntohs(endpoint.any.sa_family == AF_INET ? endpoint.ipv4.sin_port :
							 endpoint.ipv6.sin6_port);
}

__u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

/* ---- the maps of a guard ---- */

struct programs {
	struct connguard *skeleton;
	int fd;
};

/* The names in bpf/maps.bpf.h, and where the descriptors go. */
static const struct {
	const char *name;
	size_t offset;
} map_fields[] = {
	{ "layout", offsetof(struct guard_maps, layout) },
	{ "mode", offsetof(struct guard_maps, mode) },
	{ "policy", offsetof(struct guard_maps, policy) },
	{ "daemon", offsetof(struct guard_maps, daemon) },
	{ "revival", offsetof(struct guard_maps, revival) },
	{ "ports", offsetof(struct guard_maps, ports) },
	{ "peers", offsetof(struct guard_maps, peers) },
	{ "networks", offsetof(struct guard_maps, networks) },
	{ "exempt", offsetof(struct guard_maps, exempt) },
	{ "own", offsetof(struct guard_maps, own) },
	{ "sockets", offsetof(struct guard_maps, sockets) },
	{ "handshakes", offsetof(struct guard_maps, handshakes) },
	{ "handshake_key", offsetof(struct guard_maps, handshake_key) },
	{ "listeners", offsetof(struct guard_maps, listeners) },
	{ "nudges", offsetof(struct guard_maps, nudges) },
	{ "held_syns", offsetof(struct guard_maps, held_syns) },
	{ "counters", offsetof(struct guard_maps, counters) },
	{ "events", offsetof(struct guard_maps, events) },
};
#define MAP_FIELDS (sizeof(map_fields) / sizeof(map_fields[0]))

static int *map_field(struct guard_maps *maps, size_t index)
{
	return (int *)((char *)maps + map_fields[index].offset);
}

struct programs *programs_load(const char *name, __u16 port, struct guard_maps *ret_maps)
{
	struct programs *programs = calloc(1, sizeof(*programs));
	struct bpf_program *program;

	assert_non_null(programs);
	programs->skeleton = connguard__open();
	assert_non_null(programs->skeleton);
	bpf_object__for_each_program(program, programs->skeleton->obj) {
		bpf_program__set_autoload(program, !strcmp(bpf_program__name(program), name));
	}
	assert_int_equal(connguard__load(programs->skeleton), 0);
	program = bpf_object__find_program_by_name(programs->skeleton->obj, name);
	assert_non_null(program);
	programs->fd = bpf_program__fd(program);
	for (size_t i = 0; i < MAP_FIELDS; i++)
		*map_field(ret_maps, i) = bpf_object__find_map_fd_by_name(programs->skeleton->obj,
									  map_fields[i].name);
	maps_reset(ret_maps);
	guard_port(ret_maps, port);
	set_service(port);
	return programs;
}

int programs_fd(const struct programs *programs)
{
	return programs->fd;
}

void programs_close(struct programs *programs)
{
	connguard__destroy(programs->skeleton);
	free(programs);
}

struct guard *load_guard(__u16 port, struct guard_maps *ret_maps)
{
	struct guard_options options = { .name = own_name(),
					 .cgroup = own_cgroup(),
					 .max_peers = 64 };
	struct guard *guard = NULL;
	struct guard_error error;
	bool taken_over;

	options.netns_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_true(options.netns_fd >= 0);
	if (guard_load(&options, &guard, &taken_over, &error))
		fail_msg("guard_load: %s", error.text);
	close(options.netns_fd);
	*ret_maps = pinned_maps(own_name());
	maps_reset(ret_maps);
	guard_port(ret_maps, port);
	set_service(port);
	return guard;
}

void unload_guard(struct guard *guard, struct guard_maps *maps)
{
	struct guard_error error;

	pinned_close(maps);
	guard_close(guard);
	assert_int_equal(guard_remove(own_name(), &error), 0);
}

struct guard_maps pinned_maps(const char *name)
{
	struct guard_maps maps;
	char path[256];

	for (size_t i = 0; i < MAP_FIELDS; i++) {
		snprintf(path, sizeof(path), PIN_ROOT "/%s/%s", name, map_fields[i].name);
		*map_field(&maps, i) = bpf_obj_get(path);
		if (*map_field(&maps, i) < 0)
			fail_msg("%s: %s", path, strerror(errno));
	}
	return maps;
}

void pinned_close(struct guard_maps *maps)
{
	for (size_t i = 0; i < MAP_FIELDS; i++)
		close(*map_field(maps, i));
}

static void write_element(int fd, const void *key, const void *value, __u64 flags)
{
	if (bpf_map_update_elem(fd, key, value, flags))
		fail_msg("writing a map element: %s", strerror(errno));
}

/* Delete every element of a hash or a trie. */
static void empty(int fd, size_t key_size)
{
	char key[64];

	assert_true(key_size <= sizeof(key));
	while (!bpf_map_get_next_key(fd, NULL, key))
		assert_int_equal(bpf_map_delete_elem(fd, key), 0);
}

struct guard_policy patient_policy(void)
{
	struct guard_policy policy = POLICY_DEFAULTS;

	policy.hold_max_ns = 100 * NS_PER_SECOND;
	policy.min_uptime_ns = 100 * NS_PER_SECOND;
	return policy;
}

/* Any numbers. */
static const struct handshake_key some_key = {
	{ 0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0, 0x082efa98ec4e6c89,
	  0x452821e638d01377, 0xbe5466cf34e90c6c },
};

void maps_reset(const struct guard_maps *maps)
{
	const struct guard_policy policy = patient_policy();
	const struct pending_handshake none = {};
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);

	set_policy(maps, &policy);
	set_mode(maps, MODE_ENFORCE);
	set_daemon(maps, false, false);
	set_revived(maps, 0);
	set_handshake_key(maps, &some_key);
	empty(maps->peers, sizeof(struct peer_address));
	empty(maps->networks, sizeof(struct peer_network));
	empty(maps->exempt, sizeof(struct exempt_prefix));
	empty(maps->own, sizeof(struct exempt_prefix));
	empty(maps->held_syns, sizeof(struct peer_address));
	assert_int_equal(bpf_obj_get_info_by_fd(maps->handshakes, &info, &length), 0);
	for (__u32 i = 0; i < info.max_entries; i++)
		put_handshake(maps, i, &none);
}

void set_mode(const struct guard_maps *maps, enum guard_mode mode)
{
	__u32 zero = 0;

	write_element(maps->mode, &zero, &mode, BPF_ANY);
}

void set_handshake_key(const struct guard_maps *maps, const struct handshake_key *key)
{
	__u32 zero = 0;

	write_element(maps->handshake_key, &zero, key, BPF_ANY);
}

struct handshake_key get_handshake_key(const struct guard_maps *maps)
{
	struct handshake_key key;
	__u32 zero = 0;

	assert_int_equal(bpf_map_lookup_elem(maps->handshake_key, &zero, &key), 0);
	return key;
}

void set_policy(const struct guard_maps *maps, const struct guard_policy *policy)
{
	__u32 zero = 0;

	write_element(maps->policy, &zero, policy, BPF_ANY);
}

void set_daemon(const struct guard_maps *maps, bool alive, bool asks)
{
	const struct guard_daemon daemon = {
		.alive_until_ns = alive ? now_ns() + HOUR_NS : 0,
		.process_id = getpid(),
		.asks = asks,
	};
	__u32 zero = 0;

	write_element(maps->daemon, &zero, &daemon, BPF_ANY);
}

void set_revived(const struct guard_maps *maps, __u64 since_ns)
{
	const struct guard_revival revival = { .since_ns = since_ns };
	__u32 zero = 0;

	write_element(maps->revival, &zero, &revival, BPF_ANY);
}

__u64 get_revived(const struct guard_maps *maps)
{
	struct guard_revival revival;
	__u32 zero = 0;

	assert_int_equal(bpf_map_lookup_elem(maps->revival, &zero, &revival), 0);
	return revival.since_ns;
}

void guard_port(const struct guard_maps *maps, __u16 port)
{
	guard_port_of(maps, port, port);
}

void guard_port_of(const struct guard_maps *maps, __u16 port, __u16 service)
{
	__u32 value = service;

	write_element(maps->ports, &port, &value, BPF_ANY);
}

void unguard_port(const struct guard_maps *maps, __u16 port)
{
	assert_int_equal(bpf_map_delete_elem(maps->ports, &port), 0);
}

static struct listen_place place_at(const char *address, __u16 port)
{
	struct listen_place place = { .port = port };
	struct peer_address key = key_of(address);

	memcpy(place.address, key.bytes, sizeof(place.address));
	return place;
}

void put_listeners(const struct guard_maps *maps, const char *address, __u16 port, __s32 ours, __u32 others)
{
	const struct place_listeners value = { .ours = ours, .others = others };
	struct listen_place place = place_at(address, port);

	write_element(maps->listeners, &place, &value, BPF_ANY);
}

struct place_listeners get_listeners(const struct guard_maps *maps, const char *address, __u16 port)
{
	struct listen_place place = place_at(address, port);
	struct place_listeners value = {};

	bpf_map_lookup_elem(maps->listeners, &place, &value);
	return value;
}

static struct exempt_prefix prefix_of(const char *address, __u32 prefix_length)
{
	struct exempt_prefix prefix = { .prefix_length = prefix_length };
	struct peer_address key = key_of(address);

	if (!strchr(address, ':'))
		prefix.prefix_length += 96;
	memcpy(prefix.address, key.bytes, sizeof(prefix.address));
	return prefix;
}

void set_exempt(const struct guard_maps *maps, const char *address, __u32 prefix_length,
		struct exempt_value value)
{
	const struct exempt_prefix prefix = prefix_of(address, prefix_length);

	write_element(maps->exempt, &prefix, &value, BPF_ANY);
}

void set_own(const struct guard_maps *maps, const char *address, __u32 prefix_length)
{
	const struct exempt_prefix prefix = prefix_of(address, prefix_length);
	const struct own_value value = { .prefix_length = prefix.prefix_length };

	write_element(maps->own, &prefix, &value, BPF_ANY);
}

struct slot some_link(__u64 cookie)
{
	return (struct slot){
		.cookie = cookie,
		.since_ns = now_ns(),
		.heard_ns = now_ns() + HOUR_NS,
		.kind = SLOT_LINK,
		.direction = DIRECTION_INBOUND,
		.client_isn = 1000,
		.local_port = 24000,
		.remote_port = 33333,
	};
}

struct slot some_claim(__u64 cookie, __u32 client_isn)
{
	return (struct slot){
		.cookie = cookie,
		.since_ns = now_ns(),
		.expires_ns = now_ns() + 180 * NS_PER_SECOND,
		.kind = SLOT_CLAIM,
		.direction = DIRECTION_OUTBOUND,
		.client_isn = client_isn,
		.flags = SLOT_SENT,
		.local_port = 33334,
		.remote_port = 24000,
	};
}

void put_peer(const struct guard_maps *maps, const char *address, const struct peer *peer)
{
	struct peer_address key = key_of(address);
	struct peer value = *peer;

	value.address = key;
	if (!value.first_seen_ns)
		value.first_seen_ns = now_ns();
	if (value.next_attempt_ns && !value.failed_ns)
		value.failed_ns = now_ns();
	write_element(maps->peers, &key, &value, BPF_ANY);
}

void put_slot(const struct guard_maps *maps, const char *address, struct slot slot)
{
	const struct peer peer = { .slots = { slot } };

	put_peer(maps, address, &peer);
}

static int read_peer(const struct guard_maps *maps, const char *address, struct peer *ret_peer)
{
	struct peer_address key = key_of(address);

	return bpf_map_lookup_elem_flags(maps->peers, &key, ret_peer, BPF_F_LOCK);
}

struct peer get_peer(const struct guard_maps *maps, const char *address)
{
	struct peer peer;

	if (read_peer(maps, address, &peer))
		fail_msg("no peer %s", address);
	return peer;
}

bool has_peer(const struct guard_maps *maps, const char *address)
{
	struct peer peer;

	return !read_peer(maps, address, &peer);
}

void put_held_syn(const struct guard_maps *maps, const char *address)
{
	struct peer_address key = key_of(address);
	struct ready_syn syn = { .until_ns = ~0ULL };

	assert_int_equal(bpf_map_update_elem(maps->held_syns, &key, &syn, BPF_ANY), 0);
}

bool has_held_syn(const struct guard_maps *maps, const char *address)
{
	struct peer_address key = key_of(address);
	struct ready_syn syn;

	return bpf_map_lookup_elem(maps->held_syns, &key, &syn) == 0;
}

unsigned int count_peers(const struct guard_maps *maps)
{
	struct peer_address key, *previous = NULL;
	unsigned int count = 0;

	while (!bpf_map_get_next_key(maps->peers, previous, &key)) {
		previous = &key;
		count++;
	}
	return count;
}

int count_places(const struct guard_maps *maps, const char *address)
{
	struct peer_address key = key_of(address);
	struct peer_network network = network_of(&key);
	struct network_tally tally;

	return bpf_map_lookup_elem(maps->networks, &network, &tally) ? -1 : (int)tally.peers;
}

int find_handshake(const struct guard_maps *maps, const char *address,
		   struct pending_handshake *ret_pending)
{
	struct peer_address key = key_of(address);

	for (__u32 index = 0;
	     !bpf_map_lookup_elem_flags(maps->handshakes, &index, ret_pending, BPF_F_LOCK); index++)
		if (address_equal(&ret_pending->address, &key))
			return index;
	return -1;
}

void put_handshake(const struct guard_maps *maps, __u32 index,
		   const struct pending_handshake *pending)
{
	write_element(maps->handshakes, &index, pending, BPF_F_LOCK);
}

/* ---- what the guard counts and tells ---- */

struct watch {
	int counters;
	int processors;
	struct guard_counters seen[COUNTERS_COUNT];
	struct ring_buffer *ring;
	struct guard_event waiting[EVENTS_WAITING];
	unsigned int waiting_count;
	unsigned int next;
	struct held_packet held; /* the last one, length 0: none */
	unsigned int
		told; /* all events since the last discard, the ones that found no room included */
};

static const char *const cause_names[CAUSE_COUNT] = {
#define CAUSE_NAME(name, subject, verdict, text) #name,
	CONNGUARD_CAUSES(CAUSE_NAME)
#undef CAUSE_NAME
};

static const char *counter_name(size_t field)
{
	return field < CAUSE_COUNT ? cause_names[field] : "events_lost";
}

static int take_event(void *context, void *data, size_t size)
{
	struct watch *watch = context;

	/* With a packet behind it, or without. */
	if (size == sizeof(struct held_packet))
		memcpy(&watch->held, data, size);
	else
		assert_int_equal(size, sizeof(struct guard_event));
	watch->told++;
	if (watch->waiting_count < EVENTS_WAITING)
		memcpy(&watch->waiting[watch->waiting_count++], data, sizeof(struct guard_event));
	return 0;
}

struct held_packet take_held(struct watch *watch)
{
	struct held_packet held = watch->held;

	watch->held.length = 0;
	return held;
}

static void read_counters(const struct watch *watch, struct guard_counters totals[COUNTERS_COUNT])
{
	struct guard_counters *values = calloc(watch->processors, sizeof(*values));

	assert_non_null(values);
	memset(totals, 0, COUNTERS_COUNT * sizeof(*totals));
	for (__u32 book = 0; book < COUNTERS_COUNT; book++) {
		assert_int_equal(bpf_map_lookup_elem(watch->counters, &book, values), 0);
		for (int i = 0; i < watch->processors; i++)
			for (size_t field = 0; field < COUNTER_FIELDS; field++)
				((__u64 *)&totals[book])[field] += ((__u64 *)&values[i])[field];
	}
	free(values);
}

struct watch *watch_open(const struct guard_maps *maps)
{
	struct watch *watch = calloc(1, sizeof(*watch));

	assert_non_null(watch);
	watch->counters = maps->counters;
	watch->processors = libbpf_num_possible_cpus();
	watch->ring = ring_buffer__new(maps->events, take_event, watch, NULL);
	assert_non_null(watch->ring);
	watch_reset(watch);
	return watch;
}

void watch_close(struct watch *watch)
{
	ring_buffer__free(watch->ring);
	free(watch);
}

unsigned int discard_events(struct watch *watch)
{
	unsigned int told;

	assert_true(ring_buffer__consume(watch->ring) >= 0);
	told = watch->told;
	watch->told = watch->waiting_count = watch->next = 0;
	return told;
}

void watch_reset(struct watch *watch)
{
	discard_events(watch);
	read_counters(watch, watch->seen);
}

__u64 events_lost(struct watch *watch)
{
	struct guard_counters totals[COUNTERS_COUNT];
	__u64 lost;

	read_counters(watch, totals);
	lost = totals[COUNTERS_ENFORCED].events_lost - watch->seen[COUNTERS_ENFORCED].events_lost;
	watch->seen[COUNTERS_ENFORCED].events_lost += lost;
	return lost;
}

void check_counted(struct watch *watch, const struct counted *expected, const char *file, int line)
{
	struct guard_counters totals[COUNTERS_COUNT];
	bool wrong = false;

	read_counters(watch, totals);
	for (int book = 0; book < COUNTERS_COUNT; book++)
		for (size_t field = 0; field < COUNTER_FIELDS; field++) {
			__u64 grew = ((__u64 *)&totals[book])[field] -
				     ((__u64 *)&watch->seen[book])[field];
			__u64 wanted = 0;

			for (const struct counted *entry = expected; entry->cause != CAUSE_none;
			     entry++)
				if ((int)entry->book == book && entry->cause == field)
					wanted += entry->times;
			if (grew == wanted)
				continue;
			print_error("%s counter %s grew by %llu, expected %llu\n",
				    book == COUNTERS_ENFORCED ? "enforced" : "observed",
				    counter_name(field), (unsigned long long)grew,
				    (unsigned long long)wanted);
			wrong = true;
		}
	if (wrong)
		_fail(file, line);
	memcpy(watch->seen, totals, sizeof(totals));
}

bool has_event(struct watch *watch)
{
	assert_true(ring_buffer__consume(watch->ring) >= 0);
	return watch->next != watch->waiting_count;
}

struct guard_event check_event(struct watch *watch, enum cause cause, const char *file, int line)
{
	struct guard_event event;

	if (!has_event(watch)) {
		print_error("no event, expected %s\n", cause_names[cause]);
		_fail(file, line);
	}
	event = watch->waiting[watch->next++];
	if (watch->next == watch->waiting_count)
		watch->next = watch->waiting_count = watch->told = 0;
	if (event.cause != cause) {
		print_error("event %s, expected %s\n", counter_name(event.cause),
			    cause_names[cause]);
		_fail(file, line);
	}
	return event;
}

void check_no_event(struct watch *watch, const char *file, int line)
{
	if (!has_event(watch))
		return;
	print_error("event %s, expected none\n", counter_name(watch->waiting[watch->next].cause));
	_fail(file, line);
}

void assert_recent(const struct guard_event *event)
{
	assert_true(event->time_ns <= now_ns() && event->time_ns + RECENT_NS > now_ns());
}

void assert_event_of_knock(const struct guard_event *event, const char *address, __u16 remote_port,
			   __u16 local_port)
{
	const char no_command[COMMAND_LENGTH] = "";

	assert_address(event->address, address);
	assert_recent(event);
	assert_int_equal(event->direction, DIRECTION_INBOUND);
	assert_int_equal(event->cookie, 0);
	assert_int_equal(event->remote_port, remote_port);
	assert_int_equal(event->local_port, local_port);
	assert_int_equal(event->process_id, 0);
	assert_int_equal(event->thread_id, 0);
	assert_memory_equal(event->command, no_command, COMMAND_LENGTH);
}
