// SPDX-License-Identifier: BSD-2-Clause
/*
 * The guard in the kernel: load, take over, attach, remove. See kernel.h.
 *
 * Loading goes from harmless to effective: maps, programs, the hooks that end claims, the hooks
 * that make them, and the layout word last. A load that dies anywhere in between is recognised by
 * its missing layout word and cleared away.
 */
#include "edge/kernel_parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/cleanup.h"
#include "bpf/connguard.skel.h"

/* How often the common directory is made anew when another guard removes it meanwhile. */
#define PIN_ROOT_ATTEMPTS 100

/* ---- load and take over ---- */

int guard_bpffs_mount(struct guard_error *ret_error)
{
	ret_error->text[0] = '\0';
	/* Mounting is the host's business, and on the host only: elsewhere nobody else would see the pins. */
	if (guard_bpffs_mounted() ||
	    (kernel_in_host_mount_namespace() && !mount("bpf", PIN_FILESYSTEM, "bpf", 0, NULL)))
		return 0;
	return kernel_bpffs_missing(ret_error);
}

static int make_directories(const char *name, struct guard_error *error)
{
	static const char *const below[] = { "", "links", "programs" };
	char path[PIN_PATH_MAX];
	int result = guard_bpffs_mount(error);

	if (result)
		return result;
	/* The last guard to end takes the common directory along, maybe right now. */
	for (int attempt = 0; attempt < PIN_ROOT_ATTEMPTS; attempt++) {
		if (mkdir(PIN_ROOT, 0755) && errno != EEXIST)
			return kernel_fail(error, -errno, "creating " PIN_ROOT ": %s",
					   strerror(errno));
		kernel_pin_path(path, name, "", "");
		if (mkdir(path, 0755) == 0 || errno != ENOENT)
			break;
	}
	for (size_t i = 0; i < sizeof(below) / sizeof(below[0]); i++) {
		kernel_pin_path(path, name, below[i], "");
		if (mkdir(path, 0755) && errno != EEXIST)
			return kernel_fail(error, -errno, "creating %s: %s", path, strerror(errno));
	}
	return 0;
}

/* Let the skeleton use the pinned maps where there are any. */
static int reuse_pins(struct connguard *skeleton, const char *name, struct guard_error *error)
{
	for (int i = 0; i < MAP_COUNT; i++) {
		struct bpf_map *map =
			bpf_object__find_map_by_name(skeleton->obj, kernel_map_names[i]);
		char path[PIN_PATH_MAX];
		int result;

		/* Who opens a guard without the object goes by the table. */
		if (!map || bpf_map__key_size(map) != kernel_map_sizes[i].key ||
		    bpf_map__value_size(map) != kernel_map_sizes[i].value)
			return kernel_fail(error, -ENOENT,
					   "the object has no map '%s' as this program knows it",
					   kernel_map_names[i]);
		kernel_pin_path(path, name, "", kernel_map_names[i]);
		cleanup_close int fd = bpf_obj_get(path);

		if (fd < 0) {
			if (errno == ENOENT)
				continue;
			return kernel_fail(error, -errno, "opening %s: %s", path, strerror(errno));
		}
		result = kernel_map_check(fd, i, path, error);
		if (result)
			return result;
		result = bpf_map__reuse_fd(map, fd);
		if (result)
			return kernel_fail(error, result, "taking over %s: %s", path,
					   strerror(-result));
	}
	return 0;
}

/*
 * Pin the maps that are not pinned, the layout word last: without it the others are nobody's.
 * Returns how many were not.
 */
static int pin_maps(const int maps[MAP_COUNT], const char *name, struct guard_error *error)
{
	int made = 0;

	_Static_assert(MAP_LAYOUT == 0, "the layout word is the last one of a descending loop");
	for (int i = MAP_COUNT - 1; i >= 0; i--) {
		char path[PIN_PATH_MAX];

		kernel_pin_path(path, name, "", kernel_map_names[i]);
		if (access(path, F_OK) == 0)
			continue;
		if (bpf_obj_pin(maps[i], path))
			return kernel_fail(error, -errno, "pinning %s: %s", path, strerror(errno));
		made++;
	}
	return made;
}

/*
 * Pin in two steps, of which the second puts it in the place of what may be there: the commands of the CLI find a
 * program at any time. "-new" is also what a load that died has left.
 */
static int pin_command_new(int command_fd, const char *name, struct guard_error *error)
{
	char fresh_path[PIN_PATH_MAX];

	kernel_pin_path(fresh_path, name, "programs", "command-new");
	if (unlink(fresh_path) && errno != ENOENT)
		return kernel_fail(error, -errno, "removing %s: %s", fresh_path, strerror(errno));
	if (bpf_obj_pin(command_fd, fresh_path))
		return kernel_fail(error, -errno, "pinning %s: %s", fresh_path, strerror(errno));
	return 0;
}

static int rename_command(const char *name, struct guard_error *error)
{
	char path[PIN_PATH_MAX], fresh_path[PIN_PATH_MAX];

	kernel_pin_path(path, name, "programs", "command");
	kernel_pin_path(fresh_path, name, "programs", "command-new");
	if (rename(fresh_path, path))
		return kernel_fail(error, -errno, "pinning %s: %s", path, strerror(errno));
	return 0;
}

/* The one that was there stays. */
static void unpin_command_new(const char *name)
{
	char fresh_path[PIN_PATH_MAX];

	kernel_pin_path(fresh_path, name, "programs", "command-new");
	unlink(fresh_path);
}

/* The programs directory holds `command` alone; bpftool pins every program there. */
static void unpin_hook_programs(const char *name)
{
	char path[PIN_PATH_MAX];

	for (int i = 0; i < HOOK_COUNT; i++) {
		kernel_pin_path(path, name, "programs", kernel_hooks[i].program);
		unlink(path);
	}
}

/* Draw the key of the handshake table, unless the guard that is taken over has one. */
static int draw_handshake_key(int map, struct guard_error *error)
{
	static const struct handshake_key none;
	struct handshake_key key;
	__u32 zero = 0;

	if (bpf_map_lookup_elem(map, &zero, &key))
		return kernel_fail(error, -errno, "reading the key of the handshake table: %s",
				   strerror(errno));
	if (memcmp(&key, &none, sizeof(key)))
		return 0;
	/* Up to 256 bytes come whole, getrandom(2). */
	if (getrandom(&key, sizeof(key), 0) != sizeof(key))
		return kernel_fail(error, -errno, "drawing random numbers: %s", strerror(errno));
	if (bpf_map_update_elem(map, &zero, &key, BPF_ANY))
		return kernel_fail(error, -errno, "writing the key of the handshake table: %s",
				   strerror(errno));
	return 0;
}

/* The mode of a new guard, before anybody can see it; one that is taken over has its own. */
static int begin_mode(const int maps[MAP_COUNT], struct guard_error *error)
{
	const enum guard_mode mode = GUARD_NEW_MODE;
	struct guard_layout layout;
	__u32 zero = 0;

	if (bpf_map_lookup_elem(maps[MAP_LAYOUT], &zero, &layout) ||
	    (!layout.version && bpf_map_update_elem(maps[MAP_MODE], &zero, &mode, BPF_ANY)))
		return kernel_fail(error, -errno, "writing the mode: %s", strerror(errno));
	return 0;
}

static const char *const iterators[ITERATOR_COUNT] = {
	[ITERATOR_ADOPT] = "adopt",
	[ITERATOR_NUDGE] = "nudge",
	[ITERATOR_HOLDERS] = "holders",
};

/* Maps and programs of the guard are in the kernel; maps that are pinned are those. */
static int load(struct connguard *skeleton, const struct guard_options *options, struct guard_error *error)
{
	bool supported[FEATURE_COUNT];
	int result;

	bpf_map__set_max_entries(skeleton->maps.peers, options->max_peers);
	bpf_map__set_max_entries(skeleton->maps.networks, options->max_peers);
	result = reuse_pins(skeleton, options->name, error);
	if (result)
		return result;
	guard_probe(supported);
	bpf_program__set_autoload(skeleton->progs.adopt, supported[FEATURE_SOCKET_ITERATOR]);
	bpf_program__set_autoload(skeleton->progs.nudge, supported[FEATURE_SOCKET_ITERATOR]);
	/* What this one needs is older. */
	bpf_program__set_autoload(skeleton->progs.holders, supported[FEATURE_SOCKET_ITERATOR]);
	result = connguard__load(skeleton);
	return result ? kernel_fail(error, result, "loading the programs: %s (%s)",
				    strerror(-result), kernel_last_words()) :
			0;
}

/* Steps of guard_load() after which a failure of a fresh load has something to undo. */
static int pin(const struct guard *guard, struct guard_error *error)
{
	int result = draw_handshake_key(guard->maps[MAP_HANDSHAKE_KEY], error);

	if (!result)
		result = begin_mode(guard->maps, error);
	if (!result)
		result = pin_maps(guard->maps, guard->name, error);
	return result < 0 ? result : 0;
}

static void skeleton_destroy(struct connguard **skeleton)
{
	connguard__destroy(*skeleton);
}

/*
 * Whether a guard is pinned that can be taken over. What a load or a removal that died has left, which
 * is known by its layout word, is cleared away.
 */
static int find_pinned(const char *name, bool *ret_there, struct guard_error *error)
{
	struct guard_layout layout = {};
	int result = kernel_layout_read(name, &layout);

	if (result == -EPROTO ||
	    (result == 0 && layout.version && layout.version != CONNGUARD_LAYOUT))
		return kernel_other_layout(name, result ? NULL : &layout, error);
	/* What cannot be read may be a good guard all the same: it is not to be cleared away. */
	if (result && result != -ENOENT)
		return kernel_fail(error, result, "reading the layout of guard '%s': %s", name,
				   strerror(-result));
	*ret_there = result == 0 && layout.version == CONNGUARD_LAYOUT;
	if (*ret_there)
		return 0;
	result = guard_remove(name, error);
	return result == -ENOENT ? 0 : result;
}

/* A descriptor of our own for one of the skeleton's; -1, with errno: that has none, or there is no room for one more. */
static int own_descriptor(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

/* The guard as its loader has it: with what it takes to attach it, to move it and to pin it again. */
static int guard_of(const struct connguard *skeleton, const char *name, int *cgroup_fd, struct guard **ret_guard)
{
	struct guard *guard = kernel_guard_new(name);
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);
	int result = 0;

	if (!guard)
		return -ENOMEM;
	guard->unattached = true;
	guard->cgroup_fd = take_descriptor(cgroup_fd);
	for (int i = 0; !result && i < MAP_COUNT; i++) {
		guard->maps[i] = own_descriptor(bpf_map__fd(
			bpf_object__find_map_by_name(skeleton->obj, kernel_map_names[i])));
		result = guard->maps[i] < 0 ? -errno : 0;
	}
	for (int i = 0; !result && i < HOOK_COUNT; i++) {
		guard->programs[i] = own_descriptor(bpf_program__fd(bpf_object__find_program_by_name(
			skeleton->obj, kernel_hooks[i].program)));
		result = guard->programs[i] < 0 ? -errno : 0;
	}
	if (!result) {
		guard->command_fd = own_descriptor(bpf_program__fd(skeleton->progs.command));
		result = guard->command_fd < 0 ? -errno : 0;
	}
	if (!result && bpf_obj_get_info_by_fd(guard->maps[MAP_PEERS], &info, &length))
		result = -errno;
	if (result) {
		guard_close(guard);
		return result;
	}
	guard->max_peers = info.max_entries;
	guard->look_fd = own_descriptor(bpf_program__fd(skeleton->progs.look));
	for (int i = 0; i < ITERATOR_COUNT; i++)
		guard->iterators[i] = own_descriptor(bpf_program__fd(
			bpf_object__find_program_by_name(skeleton->obj, iterators[i])));
	*ret_guard = guard;
	return 0;
}

int guard_attach(struct guard *guard, struct guard_error *ret_error)
{
	int result;

	ret_error->text[0] = '\0';
	if (!guard->unattached)
		return 0;
	/* First what may find no memory, then what puts all in its place. */
	result = pin_command_new(guard->command_fd, guard->name, ret_error);
	if (!result && guard->attaching)
		result = kernel_attach_commit(guard, &guard->attaching, ret_error);
	if (!result)
		result = rename_command(guard->name, ret_error);
	if (result) {
		unpin_command_new(guard->name);
		return result;
	}
	guard->unattached = false;
	unpin_hook_programs(guard->name);
	return kernel_settle(guard, guard->cgroup_fd);
}

int guard_load(const struct guard_options *options, struct guard **ret_guard, bool *ret_taken_over,
	       struct guard_error *ret_error)
{
	struct connguard *skeleton __attribute__((cleanup(skeleton_destroy))) = NULL;
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	cleanup_close int cgroup_fd = -1;
	struct guard *guard = NULL;
	bool taken_over = false;
	int result;

	ret_error->text[0] = '\0';
	kernel_hush();
	if (!guard_name_valid(options->name))
		return kernel_fail(
			ret_error, -EINVAL,
			"'%s' cannot name a guard: expected letters, digits, '-', '_', at most %d",
			options->name, GUARD_NAME_MAX);
	/* Before 5.11 maps are charged to RLIMIT_MEMLOCK. */
	setrlimit(RLIMIT_MEMLOCK, &unlimited);
	result = find_pinned(options->name, &taken_over, ret_error);
	if (result)
		return result;
	if (options->cgroup)
		cgroup_fd = open(options->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (options->cgroup && cgroup_fd < 0)
		return kernel_fail(ret_error, -errno, "cgroup %s: %s", options->cgroup,
				   strerror(errno));
	skeleton = connguard__open();
	if (!skeleton)
		return kernel_fail(ret_error, -errno, "opening the object: %s", strerror(errno));
	result = make_directories(options->name, ret_error);
	if (!result)
		result = load(skeleton, options, ret_error);
	if (!result)
		result = guard_of(skeleton, options->name, &cgroup_fd, &guard);
	if (!result)
		result = pin(guard, ret_error);
	if (!result && guard->cgroup_fd >= 0)
		result = kernel_attach_prepare(guard, guard->cgroup_fd, options->netns_fd, &guard->attaching,
					       ret_error);
	if (!result && !(taken_over && options->attach_later))
		result = guard_attach(guard, ret_error);
	if (result) {
		struct guard_error ignored;

		guard_close(guard);
		/* What a fresh load left is nobody's; what was taken over keeps enforcing. */
		if (!taken_over)
			guard_remove(options->name, &ignored);
		return result;
	}
	*ret_guard = guard;
	*ret_taken_over = taken_over;
	return 0;
}

/* Pin the links of the hooks that are not pinned. Returns how many were not. */
static int pin_links(const struct guard *guard, struct guard_error *error)
{
	int made = 0;

	for (int i = 0; i < HOOK_COUNT; i++) {
		char path[PIN_PATH_MAX];

		kernel_pin_path(path, guard->name, "links", kernel_hooks[i].name);
		if (guard->links[i] < 0 || access(path, F_OK) == 0)
			continue;
		if (bpf_obj_pin(guard->links[i], path))
			return kernel_fail(error, -errno, "pinning %s: %s", path, strerror(errno));
		made++;
	}
	return made;
}

int guard_pinned(const struct guard *guard)
{
	char path[PIN_PATH_MAX];

	kernel_pin_path(path, guard->name, "", kernel_map_names[MAP_LAYOUT]);
	cleanup_close int pinned = bpf_obj_get(path);

	if (pinned < 0)
		return -errno;
	return kernel_map_id(pinned) == kernel_map_id(guard->maps[MAP_LAYOUT]) ? 0 : -EEXIST;
}

int guard_pin_again(const struct guard *guard, struct guard_error *ret_error)
{
	struct guard_layout layout;
	char path[PIN_PATH_MAX];
	int result, links, maps, commands = 0;

	ret_error->text[0] = '\0';
	result = kernel_layout_of(guard, &layout);
	if (result)
		return result;
	if (!guard_bpffs_mounted())
		return kernel_bpffs_missing(ret_error);
	if (guard_pinned(guard) == -EEXIST)
		return kernel_fail(ret_error, -EEXIST, "another guard '%s' is pinned here",
				   guard->name);
	result = make_directories(guard->name, ret_error);
	if (result)
		return result;
	kernel_pin_path(path, guard->name, "programs", "command");
	if (access(path, F_OK)) {
		result = pin_command_new(guard->command_fd, guard->name, ret_error);
		if (!result)
			result = rename_command(guard->name, ret_error);
		commands = 1;
	}
	if (result)
		return result;
	links = pin_links(guard, ret_error);
	if (links < 0)
		return links;
	maps = pin_maps(guard->maps, guard->name, ret_error);
	return maps < 0 ? maps : maps + links + commands;
}

/* ---- remove ---- */

/*
 * Remove every entry of a directory of pins, then the directory. Closing the last reference of a
 * link detaches it.
 */
static int remove_directory(const char *path)
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	int result = 0;

	if (!directory)
		return -errno;
	while ((entry = readdir(directory))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    strcmp(entry->d_name, kernel_map_names[MAP_LAYOUT]) == 0)
			continue;
		if (unlinkat(dirfd(directory), entry->d_name, 0) && errno != EISDIR &&
		    errno != EPERM)
			result = -errno;
	}
	/* The layout word goes last: a removal that dies before is known by its version 0. */
	unlinkat(dirfd(directory), kernel_map_names[MAP_LAYOUT], 0);
	closedir(directory);
	if (rmdir(path) && !result)
		result = -errno;
	return result;
}

/*
 * From now on what is pinned is not a guard, whole or not; a daemon that has it open sees that, too.
 * A layout word of another size is left: it can be told by nobody.
 */
static void layout_void(const char *name)
{
	struct guard_layout layout;
	char path[PIN_PATH_MAX];
	__u32 zero = 0;

	if (kernel_layout_read(name, &layout))
		return;
	layout.version = 0;
	kernel_pin_path(path, name, "", kernel_map_names[MAP_LAYOUT]);
	cleanup_close int fd = bpf_obj_get(path);

	if (fd >= 0)
		bpf_map_update_elem(fd, &zero, &layout, BPF_ANY);
}

/*
 * Detach at once, whoever else holds the link: a pin elsewhere must not keep a guard that was
 * removed.
 */
static void detach_link(const char *name, const char *entry)
{
	char path[PIN_PATH_MAX];

	kernel_pin_path(path, name, "links", entry);
	cleanup_close int fd = bpf_obj_get(path);

	if (fd >= 0)
		bpf_link_detach(fd);
}

static void detach_links(const char *name)
{
	/* The hooks that make claims go first. */
	for (int i = HOOK_COUNT - 1; i >= 0; i--) {
		char fresh[32];

		detach_link(name, kernel_hooks[i].name);
		/* One that was on its way when its loader died. */
		snprintf(fresh, sizeof(fresh), "%s-new", kernel_hooks[i].name);
		detach_link(name, fresh);
	}
}

/* Programs attached without a link (bpftool) hang on the cgroup alone. */
static void detach_from_cgroup(const char *name, __u64 cgroup_id)
{
	cleanup_free char *cgroup = NULL;
	char path[PIN_PATH_MAX];

	kernel_pin_path(path, name, "", kernel_map_names[MAP_PEERS]);
	cleanup_close int peers_fd = bpf_obj_get(path);

	if (peers_fd < 0 || kernel_path_of_cgroup(cgroup_id, &cgroup))
		return;
	cleanup_close int cgroup_fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (cgroup_fd >= 0)
		kernel_detach_unlinked(cgroup_fd, kernel_map_id(peers_fd));
}

int guard_remove(const char *name, struct guard_error *ret_error)
{
	struct guard_layout layout = {};
	char path[PIN_PATH_MAX];
	int result;

	ret_error->text[0] = '\0';
	if (!guard_name_valid(name))
		return kernel_fail(ret_error, -EINVAL, "'%s' cannot name a guard", name);
	kernel_pin_path(path, name, "", "");
	if (access(path, F_OK)) {
		if (errno != ENOENT)
			return kernel_fail(ret_error, -errno, "%s: %s", path, strerror(errno));
		if (!guard_bpffs_mounted())
			return kernel_bpffs_missing(ret_error);
		return kernel_fail(ret_error, -ENOENT, "no guard '%s' is loaded (nothing at %s)",
				   name, path);
	}
	detach_links(name);
	layout_void(name);
	if (kernel_layout_read(name, &layout) == 0 && layout.cgroup_id)
		detach_from_cgroup(name, layout.cgroup_id);
	kernel_pin_path(path, name, "links", "");
	remove_directory(path);
	kernel_pin_path(path, name, "programs", "");
	remove_directory(path);
	kernel_pin_path(path, name, "", "");
	result = remove_directory(path);
	if (result)
		return kernel_fail(ret_error, result, "removing %s: %s", path, strerror(-result));
	/* The last guard takes the common directory along. */
	rmdir(PIN_ROOT);
	return 0;
}
