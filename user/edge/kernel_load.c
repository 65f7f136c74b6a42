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
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/cleanup.h"
#include "bpf/connguard.skel.h"

/* ---- load and take over ---- */

static int make_directories(const char *name, struct guard_error *error)
{
	static const char *const below[] = { "", "links", "programs" };
	char path[PIN_PATH_MAX];

	if (!kernel_bpffs_mounted()) {
		/*
		 * Mounting is the host's business, and on the host only: elsewhere nobody else
		 * would see the pins.
		 */
		if (!kernel_in_host_mount_namespace() || mount("bpf", BPFFS, "bpf", 0, NULL))
			return kernel_bpffs_missing(error);
	}
	if (mkdir(PIN_ROOT, 0755) && errno != EEXIST)
		return kernel_fail(error, -errno, "creating " PIN_ROOT ": %s", strerror(errno));
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
		struct bpf_map_info info = {};
		__u32 length = sizeof(info);
		char path[PIN_PATH_MAX];
		int result;

		if (!map)
			return kernel_fail(error, -ENOENT, "the object has no map '%s'",
					   kernel_map_names[i]);
		kernel_pin_path(path, name, "", kernel_map_names[i]);
		cleanup_close int fd = bpf_obj_get(path);

		if (fd < 0) {
			if (errno == ENOENT)
				continue;
			return kernel_fail(error, -errno, "opening %s: %s", path, strerror(errno));
		}
		if (bpf_obj_get_info_by_fd(fd, &info, &length))
			return -errno;
		if (info.value_size != bpf_map__value_size(map) ||
		    info.key_size != bpf_map__key_size(map))
			return kernel_fail(
				error, -EPROTO,
				"%s has another layout (value of %u bytes, expected %u): the loaded guard stays as it is",
				path, info.value_size, bpf_map__value_size(map));
		result = bpf_map__reuse_fd(map, fd);
		if (result)
			return kernel_fail(error, result, "taking over %s: %s", path,
					   strerror(-result));
	}
	return 0;
}

static int pin_maps(struct connguard *skeleton, const char *name, struct guard_error *error)
{
	for (int i = 0; i < MAP_COUNT; i++) {
		struct bpf_map *map =
			bpf_object__find_map_by_name(skeleton->obj, kernel_map_names[i]);
		char path[PIN_PATH_MAX];

		kernel_pin_path(path, name, "", kernel_map_names[i]);
		if (access(path, F_OK) == 0)
			continue;
		if (bpf_obj_pin(bpf_map__fd(map), path))
			return kernel_fail(error, -errno, "pinning %s: %s", path, strerror(errno));
	}
	return 0;
}

/*
 * Detach programs of this guard that somebody attached without a link (bpftool): all but `keep`.
 * `peers_id` says which are ours.
 */
static void detach_unlinked(int cgroup_fd, enum guard_hook hook, __u32 peers_id, __u32 keep)
{
	__u32 ids[64], count = 64, flags = 0;

	if (hook == HOOK_SK_LOOKUP ||
	    bpf_prog_query(cgroup_fd, kernel_hooks[hook].type, 0, &flags, ids, &count))
		return;
	for (__u32 i = 0; i < count; i++) {
		if (ids[i] == keep || !kernel_program_uses_map(ids[i], peers_id))
			continue;
		cleanup_close int fd = bpf_prog_get_fd_by_id(ids[i]);

		/* Fails for a program attached by a link, which is not ours to break here. */
		if (fd >= 0)
			bpf_prog_detach2(fd, cgroup_fd, kernel_hooks[hook].type);
	}
}

/*
 * Put the program at its hook: replace it in the pinned link where that is attached to the right
 * place already, else make a new link first and drop the old one afterwards.
 */
static int attach_hook(const struct guard_options *options, int cgroup_fd, enum guard_hook hook,
		       int program_fd, struct guard_error *error)
{
	int target_fd = hook == HOOK_SK_LOOKUP ? options->netns_fd : cgroup_fd;
	char path[PIN_PATH_MAX], fresh_path[PIN_PATH_MAX + 8];
	__u64 target = 0;
	struct stat place;
	__u32 program;

	if (fstat(target_fd, &place))
		return -errno;
	kernel_pin_path(path, options->name, "links", kernel_hooks[hook].name);
	cleanup_close int old_fd = bpf_obj_get(path);

	if (old_fd >= 0 && kernel_link_target(old_fd, hook, &target, &program) == 0 &&
	    target == place.st_ino) {
		if (bpf_link_update(old_fd, program_fd, NULL))
			return kernel_fail(error, -errno, "replacing the program at %s: %s", path,
					   strerror(errno));
		return 0;
	}
	cleanup_close int link_fd =
		bpf_link_create(program_fd, target_fd, kernel_hooks[hook].type, NULL);

	if (link_fd < 0)
		return kernel_fail(error, -errno, "attaching %s: %s", kernel_hooks[hook].name,
				   strerror(errno));
	snprintf(fresh_path, sizeof(fresh_path), "%s-new", path);
	unlink(fresh_path);
	if (bpf_obj_pin(link_fd, fresh_path))
		return kernel_fail(error, -errno, "pinning %s: %s", fresh_path, strerror(errno));
	/*
	 * bpffs cannot rename onto an existing name: for an instant the new link lives under its
	 * own.
	 */
	unlink(path);
	if (rename(fresh_path, path))
		return kernel_fail(error, -errno, "pinning %s: %s", path, strerror(errno));
	/* Not only unpinned: bpffs lets go of a link later, and until then both would decide. */
	if (old_fd >= 0)
		bpf_link_detach(old_fd);
	return 0;
}

/* The programs directory holds `command` alone; bpftool pins every program there. */
static int pin_command(struct connguard *skeleton, const char *name, struct guard_error *error)
{
	char path[PIN_PATH_MAX];

	for (int i = 0; i < HOOK_COUNT; i++) {
		kernel_pin_path(path, name, "programs", kernel_hooks[i].program);
		unlink(path);
	}
	kernel_pin_path(path, name, "programs", "command");
	unlink(path);
	if (bpf_obj_pin(bpf_program__fd(skeleton->progs.command), path))
		return kernel_fail(error, -errno, "pinning %s: %s", path, strerror(errno));
	return 0;
}

static int write_layout(struct connguard *skeleton, __u64 cgroup_id)
{
	struct guard_layout layout = { .version = CONNGUARD_LAYOUT, .cgroup_id = cgroup_id };
	__u32 zero = 0;

	return bpf_map_update_elem(bpf_map__fd(skeleton->maps.layout), &zero, &layout, BPF_ANY) ?
		       -errno :
		       0;
}

static const char *const iterators[ITERATOR_COUNT] = {
	[ITERATOR_ADOPT] = "adopt",
	[ITERATOR_NUDGE] = "nudge",
};

/* Steps of guard_load() after which a failure of a fresh load has something to undo. */
static int load_and_attach(struct connguard *skeleton, const struct guard_options *options,
			   struct guard_error *error)
{
	bool supported[FEATURE_COUNT];
	struct stat place;
	int result;

	cleanup_close int cgroup_fd = open(options->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cgroup_fd < 0 || fstat(cgroup_fd, &place))
		return kernel_fail(error, -errno, "cgroup %s: %s", options->cgroup,
				   strerror(errno));
	bpf_map__set_max_entries(skeleton->maps.peers, options->max_peers);
	result = reuse_pins(skeleton, options->name, error);
	if (result)
		return result;
	guard_probe(supported);
	bpf_program__set_autoload(skeleton->progs.adopt, supported[FEATURE_SOCKET_ITERATOR]);
	bpf_program__set_autoload(skeleton->progs.nudge, supported[FEATURE_SOCKET_ITERATOR]);
	result = connguard__load(skeleton);
	if (result)
		return kernel_fail(error, result, "loading the programs: %s (%s)",
				   strerror(-result), kernel_last_words());
	result = pin_maps(skeleton, options->name, error);
	if (result)
		return result;
	for (int i = 0; i < HOOK_COUNT; i++) {
		struct bpf_program *program =
			bpf_object__find_program_by_name(skeleton->obj, kernel_hooks[i].program);

		result = attach_hook(options, cgroup_fd, i, bpf_program__fd(program), error);
		if (result)
			return result;
		detach_unlinked(cgroup_fd, i, kernel_map_id(bpf_map__fd(skeleton->maps.peers)),
				kernel_program_id(bpf_program__fd(program)));
	}
	result = pin_command(skeleton, options->name, error);
	if (result)
		return result;
	return write_layout(skeleton, place.st_ino);
}

static void skeleton_destroy(struct connguard **skeleton)
{
	connguard__destroy(*skeleton);
}

int guard_load(const struct guard_options *options, struct guard **ret_guard, bool *ret_taken_over,
	       struct guard_error *ret_error)
{
	struct connguard *skeleton __attribute__((cleanup(skeleton_destroy))) = NULL;
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	struct guard_layout layout = {};
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
	result = kernel_layout_read(options->name, &layout);
	if (result == -EPROTO ||
	    (result == 0 && layout.version && layout.version != CONNGUARD_LAYOUT))
		return kernel_fail(
			ret_error, -EPROTO,
			"the loaded guard '%s' has map layout %u, this program has layout %u: it stays as "
			"it is; unload it first to load this one",
			options->name, layout.version, CONNGUARD_LAYOUT);
	taken_over = result == 0 && layout.version == CONNGUARD_LAYOUT;
	/* Without the layout word the pins are what a load or a removal that died has left. */
	if (!taken_over)
		guard_remove(options->name, ret_error);
	result = make_directories(options->name, ret_error);
	if (result)
		return result;

	skeleton = connguard__open();
	if (!skeleton)
		return kernel_fail(ret_error, -errno, "opening the object: %s", strerror(errno));
	result = load_and_attach(skeleton, options, ret_error);
	if (result) {
		struct guard_error ignored;

		/* What a fresh load left is nobody's; what was taken over keeps enforcing. */
		if (!taken_over)
			guard_remove(options->name, &ignored);
		return result;
	}
	result = guard_open(options->name, ret_guard, ret_error);
	if (result)
		return result;
	for (int i = 0; i < ITERATOR_COUNT; i++) {
		struct bpf_program *program =
			bpf_object__find_program_by_name(skeleton->obj, iterators[i]);

		if (bpf_program__fd(program) >= 0)
			(*ret_guard)->iterators[i] =
				fcntl(bpf_program__fd(program), F_DUPFD_CLOEXEC, 0);
	}
	*ret_taken_over = taken_over;
	return 0;
}

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

/* From now on what is pinned is not a guard, whole or not. */
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
static void detach_links(const char *name)
{
	/* The hooks that make claims go first. */
	for (int i = HOOK_COUNT - 1; i >= 0; i--) {
		char path[PIN_PATH_MAX];

		kernel_pin_path(path, name, "links", kernel_hooks[i].name);
		cleanup_close int fd = bpf_obj_get(path);

		if (fd >= 0)
			bpf_link_detach(fd);
	}
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
		if (!kernel_bpffs_mounted())
			return kernel_bpffs_missing(ret_error);
		return kernel_fail(ret_error, -ENOENT, "no guard '%s' is loaded (nothing at %s)",
				   name, path);
	}
	detach_links(name);
	layout_void(name);
	/* Programs attached without a link (bpftool) hang on the cgroup alone. */
	if (kernel_layout_read(name, &layout) == 0 && layout.cgroup_id) {
		cleanup_free char *cgroup = NULL;
		char peers_path[PIN_PATH_MAX];

		kernel_pin_path(peers_path, name, "", kernel_map_names[MAP_PEERS]);
		cleanup_close int peers_fd = bpf_obj_get(peers_path);

		if (peers_fd >= 0 && kernel_path_of_cgroup(layout.cgroup_id, &cgroup) == 0) {
			cleanup_close int cgroup_fd =
				open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			for (int i = HOOK_COUNT - 1; cgroup_fd >= 0 && i >= 0; i--)
				detach_unlinked(cgroup_fd, i, kernel_map_id(peers_fd), 0);
		}
	}
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
