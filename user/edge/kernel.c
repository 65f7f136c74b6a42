// SPDX-License-Identifier: BSD-2-Clause
/*
 * The guard in the kernel: load, take over, attach, remove; read and write the pinned maps. See
 * kernel.h.
 *
 * Loading goes from harmless to effective: maps, programs, the hooks that end claims, the hooks
 * that make them, and the layout word last. A load that dies anywhere in between is recognised by
 * its missing layout word and cleared away.
 */
#include "edge/kernel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <linux/magic.h>

#include <connguard/rules.h>

#include "base/cleanup.h"
#include "bpf/connguard.skel.h"
#include "edge/cgroups.h"

#define BPFFS "/sys/fs/bpf"
/* Room for any pin: PIN_ROOT, a guard name, a directory and an entry are far shorter. */
#define PIN_PATH_MAX 256

/* The pinned maps, by the names they have in bpf/maps.bpf.h. */
enum guard_map {
	MAP_LAYOUT,
	MAP_MODE,
	MAP_POLICY,
	MAP_DAEMON,
	MAP_PORTS,
	MAP_PEERS,
	MAP_EXEMPT,
	MAP_SOCKETS,
	MAP_HANDSHAKES,
	MAP_ADOPTIONS,
	MAP_NUDGES,
	MAP_COUNTERS,
	MAP_EVENTS,
	MAP_COUNT,
};

static const char *const map_names[MAP_COUNT] = {
	[MAP_LAYOUT] = "layout",	 [MAP_MODE] = "mode",	    [MAP_POLICY] = "policy",
	[MAP_DAEMON] = "daemon",	 [MAP_PORTS] = "ports",	    [MAP_PEERS] = "peers",
	[MAP_EXEMPT] = "exempt",	 [MAP_SOCKETS] = "sockets", [MAP_HANDSHAKES] = "handshakes",
	[MAP_ADOPTIONS] = "adoptions", [MAP_NUDGES] = "nudges",	    [MAP_COUNTERS] = "counters",
	[MAP_EVENTS] = "events",
};

/* A hook, the program for it and where it goes. */
static const struct {
	const char *name;    /* of the pin links/NAME */
	const char *program; /* function name in bpf/ */
	enum bpf_attach_type type;
} hooks[HOOK_COUNT] = {
	[HOOK_SOCK_OPS] = { "sock_ops", "sock_ops", BPF_CGROUP_SOCK_OPS },
	[HOOK_SOCK_RELEASE] = { "sock_release", "sock_release", BPF_CGROUP_INET_SOCK_RELEASE },
	[HOOK_INGRESS] = { "ingress", "ingress", BPF_CGROUP_INET_INGRESS },
	[HOOK_SK_LOOKUP] = { "sk_lookup", "lookup", BPF_SK_LOOKUP },
	[HOOK_CONNECT4] = { "connect4", "connect4", BPF_CGROUP_INET4_CONNECT },
	[HOOK_CONNECT6] = { "connect6", "connect6", BPF_CGROUP_INET6_CONNECT },
};

static const struct {
	const char *name;
	const char *lack;
} features[FEATURE_COUNT] = {
	[FEATURE_REFUSAL_ERRNO] = { "refusal_errno", "a refused dial gets EPERM, whatever refuse_with says" },
	[FEATURE_NETNS_COOKIE] = { "netns_cookie",
				   "inbound links are not told apart by network namespace below the cgroup" },
	[FEATURE_SOCKET_ITERATOR] = { "socket_iterator",
				      "the end of a link older than the guard shows only in the periodic check, and a "
				      "silent link is not probed when its peer knocks" },
	[FEATURE_ADOPT_CALLBACKS] = { "adopt_callbacks",
				      "the end of a link older than the guard shows when its socket is closed, "
				      "no sooner" },
};

/* Programs that this process runs over the sockets, if the kernel has the means. */
enum guard_iterator {
	ITERATOR_ADOPT,
	ITERATOR_NUDGE,
	ITERATOR_COUNT,
};

static const char *const iterators[ITERATOR_COUNT] = {
	[ITERATOR_ADOPT] = "adopt",
	[ITERATOR_NUDGE] = "nudge",
};

struct guard {
	char name[GUARD_NAME_MAX + 1];
	int maps[MAP_COUNT];
	int command_fd;
	/* -1: this process did not load the guard, or the kernel has no iterators */
	int iterators[ITERATOR_COUNT];
	__u32 max_peers;
	struct ring_buffer *ring;
	guard_event_handler handler;
	void *handler_argument;
};

/* ---- small things ---- */

/* Fill in the text, return `code`. */
__attribute__((format(printf, 3, 4))) static int fail(struct guard_error *error, int code,
						      const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);
	return code;
}

static void pin_path(char path[PIN_PATH_MAX], const char *name, const char *below, const char *entry)
{
	snprintf(path, PIN_PATH_MAX, PIN_ROOT "/%s%s%s%s%s", name, *below ? "/" : "", below,
		 *entry ? "/" : "", entry);
}

const char *guard_hook_name(enum guard_hook hook)
{
	return hooks[hook].name;
}

const char *guard_feature_name(enum guard_feature feature)
{
	return features[feature].name;
}

const char *guard_feature_lack(enum guard_feature feature)
{
	return features[feature].lack;
}

bool guard_name_valid(const char *name)
{
	size_t length = strlen(name);

	return length > 0 && length <= GUARD_NAME_MAX &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == length;
}

/*
 * libbpf explains itself at length; the last lines of an error are kept for the operator, the rest
 * is silence.
 */
static char last_words[256];

static int keep_last_words(enum libbpf_print_level level, const char *format, va_list arguments)
{
	if (level == LIBBPF_WARN)
		vsnprintf(last_words, sizeof(last_words), format, arguments);
	last_words[strcspn(last_words, "\n")] = '\0';
	return 0;
}

static bool bpffs_mounted(void)
{
	struct statfs filesystem;

	return statfs(BPFFS, &filesystem) == 0 && filesystem.f_type == BPF_FS_MAGIC;
}

/*
 * 1 when this process sees the mounts of the host: those of process 1, or where that one lets nobody
 * look, of the kernel's own threads (kthreadd is process 2).
 */
static bool in_host_mount_namespace(void)
{
	static const char *const of_host[] = { "/proc/1/ns/mnt", "/proc/2/ns/mnt" };
	struct stat own, host;

	if (stat("/proc/self/ns/mnt", &own))
		return false;
	for (size_t i = 0; i < sizeof(of_host) / sizeof(of_host[0]); i++)
		if (stat(of_host[i], &host) == 0)
			return own.st_ino == host.st_ino;
	return false;
}

static int bpffs_missing(struct guard_error *error)
{
	return fail(error, -ENOENT,
		    "no bpf file system at " BPFFS " in this mount namespace%s",
		    in_host_mount_namespace() ?
			    "; mount it with: mount -t bpf bpf " BPFFS :
			    " (`ip netns exec` hides it: use nsenter --net=/run/netns/NAME)");
}

/* ---- open ---- */

static struct guard *guard_new(const char *name)
{
	struct guard *guard = calloc(1, sizeof(*guard));

	if (!guard)
		return NULL;
	snprintf(guard->name, sizeof(guard->name), "%s", name);
	for (int i = 0; i < MAP_COUNT; i++)
		guard->maps[i] = -1;
	guard->command_fd = -1;
	for (int i = 0; i < ITERATOR_COUNT; i++)
		guard->iterators[i] = -1;
	return guard;
}

void guard_close(struct guard *guard)
{
	if (!guard)
		return;
	ring_buffer__free(guard->ring);
	for (int i = 0; i < MAP_COUNT; i++)
		if (guard->maps[i] >= 0)
			close(guard->maps[i]);
	if (guard->command_fd >= 0)
		close(guard->command_fd);
	for (int i = 0; i < ITERATOR_COUNT; i++)
		if (guard->iterators[i] >= 0)
			close(guard->iterators[i]);
	free(guard);
}

static void guard_close_pointer(struct guard **guard)
{
	guard_close(*guard);
}

/* The pinned layout. -ENOENT: nothing is pinned under the name. */
static int layout_read(const char *name, struct guard_layout *ret_layout)
{
	char path[PIN_PATH_MAX];
	__u32 zero = 0;
	int fd, result;

	pin_path(path, name, "", map_names[MAP_LAYOUT]);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return -errno;
	/* A value larger than ours must not be read into it: compare sizes first. */
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &length))
		result = -errno;
	else if (info.value_size != sizeof(*ret_layout))
		result = -EPROTO;
	else
		result = bpf_map_lookup_elem(fd, &zero, ret_layout) ? -errno : 0;
	close(fd);
	return result;
}

int guard_open(const char *name, struct guard **ret_guard, struct guard_error *ret_error)
{
	struct guard *guard __attribute__((cleanup(guard_close_pointer))) = NULL;
	struct guard_layout layout = {};
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);
	char path[PIN_PATH_MAX];
	int result;

	ret_error->text[0] = '\0';
	libbpf_set_print(keep_last_words);
	if (!guard_name_valid(name))
		return fail(ret_error, -EINVAL, "'%s' cannot name a guard: expected letters, digits, '-', '_', at most %d",
			    name, GUARD_NAME_MAX);
	result = layout_read(name, &layout);
	if (result == -EPERM || result == -EACCES)
		return fail(ret_error, result, "reading the pinned maps takes root");
	if (result == -ENOENT && !bpffs_mounted())
		return bpffs_missing(ret_error);
	if (result == -ENOENT)
		return fail(ret_error, result, "no guard '%s' is loaded (nothing at " PIN_ROOT "/%s)", name, name);
	if (result == -EPROTO || (!result && layout.version != CONNGUARD_LAYOUT))
		return fail(ret_error, -EPROTO,
			    "the loaded guard '%s' has map layout %u, this program knows layout %u: use the programs of the "
			    "version that loaded it, or unload it first",
			    name, result ? 0 : layout.version, CONNGUARD_LAYOUT);
	if (result)
		return fail(ret_error, result, "reading the layout of guard '%s': %s", name, strerror(-result));
	guard = guard_new(name);
	if (!guard)
		return -ENOMEM;
	for (int i = 0; i < MAP_COUNT; i++) {
		pin_path(path, name, "", map_names[i]);
		guard->maps[i] = bpf_obj_get(path);
		if (guard->maps[i] < 0)
			return fail(ret_error, -errno, "opening %s: %s", path, strerror(errno));
	}
	pin_path(path, name, "programs", "command");
	guard->command_fd = bpf_obj_get(path);
	if (guard->command_fd < 0)
		return fail(ret_error, -errno, "opening %s: %s", path, strerror(errno));
	if (bpf_obj_get_info_by_fd(guard->maps[MAP_PEERS], &info, &length))
		return -errno;
	guard->max_peers = info.max_entries;
	*ret_guard = guard;
	guard = NULL;
	return 0;
}

/* ---- load and take over ---- */

static int make_directories(const char *name, struct guard_error *error)
{
	static const char *const below[] = { "", "links", "programs" };
	char path[PIN_PATH_MAX];

	if (!bpffs_mounted()) {
		/*
		 * Mounting is the host's business, and on the host only: elsewhere nobody else
		 * would see the pins.
		 */
		if (!in_host_mount_namespace() || mount("bpf", BPFFS, "bpf", 0, NULL))
			return bpffs_missing(error);
	}
	if (mkdir(PIN_ROOT, 0755) && errno != EEXIST)
		return fail(error, -errno, "creating " PIN_ROOT ": %s", strerror(errno));
	for (size_t i = 0; i < sizeof(below) / sizeof(below[0]); i++) {
		pin_path(path, name, below[i], "");
		if (mkdir(path, 0755) && errno != EEXIST)
			return fail(error, -errno, "creating %s: %s", path, strerror(errno));
	}
	return 0;
}

/* Let the skeleton use the pinned maps where there are any. */
static int reuse_pins(struct connguard *skeleton, const char *name, struct guard_error *error)
{
	for (int i = 0; i < MAP_COUNT; i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(skeleton->obj, map_names[i]);
		struct bpf_map_info info = {};
		__u32 length = sizeof(info);
		char path[PIN_PATH_MAX];
		int result;

		if (!map)
			return fail(error, -ENOENT, "the object has no map '%s'", map_names[i]);
		pin_path(path, name, "", map_names[i]);
		cleanup_close int fd = bpf_obj_get(path);

		if (fd < 0) {
			if (errno == ENOENT)
				continue;
			return fail(error, -errno, "opening %s: %s", path, strerror(errno));
		}
		if (bpf_obj_get_info_by_fd(fd, &info, &length))
			return -errno;
		if (info.value_size != bpf_map__value_size(map) ||
		    info.key_size != bpf_map__key_size(map))
			return fail(error, -EPROTO,
				    "%s has another layout (value of %u bytes, expected %u): the loaded guard stays as it is",
				    path, info.value_size, bpf_map__value_size(map));
		result = bpf_map__reuse_fd(map, fd);
		if (result)
			return fail(error, result, "taking over %s: %s", path, strerror(-result));
	}
	return 0;
}

static int pin_maps(struct connguard *skeleton, const char *name, struct guard_error *error)
{
	for (int i = 0; i < MAP_COUNT; i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(skeleton->obj, map_names[i]);
		char path[PIN_PATH_MAX];

		pin_path(path, name, "", map_names[i]);
		if (access(path, F_OK) == 0)
			continue;
		if (bpf_obj_pin(bpf_map__fd(map), path))
			return fail(error, -errno, "pinning %s: %s", path, strerror(errno));
	}
	return 0;
}

/*
 * Where the pinned link of a hook is attached: cgroup id or namespace inode, and with which
 * program. 0: detached.
 */
static int link_target(int link_fd, enum guard_hook hook, __u64 *ret_target, __u32 *ret_program)
{
	struct bpf_link_info info = {};
	__u32 length = sizeof(info);

	if (bpf_obj_get_info_by_fd(link_fd, &info, &length))
		return -errno;
	*ret_target = hook == HOOK_SK_LOOKUP ? info.netns.netns_ino : info.cgroup.cgroup_id;
	*ret_program = info.prog_id;
	return 0;
}

static __u32 program_id(int program_fd)
{
	struct bpf_prog_info info = {};
	__u32 length = sizeof(info);

	return bpf_obj_get_info_by_fd(program_fd, &info, &length) ? 0 : info.id;
}

/* Absolute path of the cgroup, or a negative errno. *ret_path is the caller's. */
static int path_of_cgroup(__u64 id, char **ret_path)
{
	cleanup_free char *below = NULL;
	int result = cgroups_path_of_id(id, &below);

	return result ? result : cgroups_path(below, ret_path);
}

/*
 * 1 when the program `id` uses the map `map_id`: that is how a program of an earlier load of this
 * guard is known.
 */
static bool program_uses_map(__u32 id, __u32 map_id)
{
	__u32 ids[64];
	struct bpf_prog_info info = { .nr_map_ids = 64, .map_ids = (__u64)(unsigned long)ids };
	__u32 length = sizeof(info);
	cleanup_close int fd = bpf_prog_get_fd_by_id(id);

	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &length))
		return false;
	for (__u32 i = 0; i < info.nr_map_ids && i < 64; i++)
		if (ids[i] == map_id)
			return true;
	return false;
}

static __u32 map_id(int map_fd)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);

	return bpf_obj_get_info_by_fd(map_fd, &info, &length) ? 0 : info.id;
}

/*
 * Detach programs of this guard that somebody attached without a link (bpftool): all but `keep`.
 * `peers_id` says which are ours.
 */
static void detach_unlinked(int cgroup_fd, enum guard_hook hook, __u32 peers_id, __u32 keep)
{
	__u32 ids[64], count = 64, flags = 0;

	if (hook == HOOK_SK_LOOKUP ||
	    bpf_prog_query(cgroup_fd, hooks[hook].type, 0, &flags, ids, &count))
		return;
	for (__u32 i = 0; i < count; i++) {
		if (ids[i] == keep || !program_uses_map(ids[i], peers_id))
			continue;
		cleanup_close int fd = bpf_prog_get_fd_by_id(ids[i]);

		/* Fails for a program attached by a link, which is not ours to break here. */
		if (fd >= 0)
			bpf_prog_detach2(fd, cgroup_fd, hooks[hook].type);
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
	pin_path(path, options->name, "links", hooks[hook].name);
	cleanup_close int old_fd = bpf_obj_get(path);

	if (old_fd >= 0 && link_target(old_fd, hook, &target, &program) == 0 &&
	    target == place.st_ino) {
		if (bpf_link_update(old_fd, program_fd, NULL))
			return fail(error, -errno, "replacing the program at %s: %s", path, strerror(errno));
		return 0;
	}
	cleanup_close int link_fd =
		bpf_link_create(program_fd, target_fd, hooks[hook].type, NULL);

	if (link_fd < 0)
		return fail(error, -errno, "attaching %s: %s", hooks[hook].name, strerror(errno));
	snprintf(fresh_path, sizeof(fresh_path), "%s-new", path);
	unlink(fresh_path);
	if (bpf_obj_pin(link_fd, fresh_path))
		return fail(error, -errno, "pinning %s: %s", fresh_path, strerror(errno));
	/*
	 * bpffs cannot rename onto an existing name: for an instant the new link lives under its
	 * own.
	 */
	unlink(path);
	if (rename(fresh_path, path))
		return fail(error, -errno, "pinning %s: %s", path, strerror(errno));
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
		pin_path(path, name, "programs", hooks[i].program);
		unlink(path);
	}
	pin_path(path, name, "programs", "command");
	unlink(path);
	if (bpf_obj_pin(bpf_program__fd(skeleton->progs.command), path))
		return fail(error, -errno, "pinning %s: %s", path, strerror(errno));
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

/* Steps of guard_load() after which a failure of a fresh load has something to undo. */
static int load_and_attach(struct connguard *skeleton, const struct guard_options *options,
			   struct guard_error *error)
{
	bool supported[FEATURE_COUNT];
	struct stat place;
	int result;

	cleanup_close int cgroup_fd =
		open(options->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cgroup_fd < 0 || fstat(cgroup_fd, &place))
		return fail(error, -errno, "cgroup %s: %s", options->cgroup, strerror(errno));
	bpf_map__set_max_entries(skeleton->maps.peers, options->max_peers);
	result = reuse_pins(skeleton, options->name, error);
	if (result)
		return result;
	guard_probe(supported);
	bpf_program__set_autoload(skeleton->progs.adopt, supported[FEATURE_SOCKET_ITERATOR]);
	bpf_program__set_autoload(skeleton->progs.nudge, supported[FEATURE_SOCKET_ITERATOR]);
	result = connguard__load(skeleton);
	if (result)
		return fail(error, result, "loading the programs: %s (%s)", strerror(-result), last_words);
	result = pin_maps(skeleton, options->name, error);
	if (result)
		return result;
	for (int i = 0; i < HOOK_COUNT; i++) {
		struct bpf_program *program =
			bpf_object__find_program_by_name(skeleton->obj, hooks[i].program);

		result = attach_hook(options, cgroup_fd, i, bpf_program__fd(program), error);
		if (result)
			return result;
		detach_unlinked(cgroup_fd, i, map_id(bpf_map__fd(skeleton->maps.peers)),
				program_id(bpf_program__fd(program)));
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
	libbpf_set_print(keep_last_words);
	if (!guard_name_valid(options->name))
		return fail(ret_error, -EINVAL, "'%s' cannot name a guard: expected letters, digits, '-', '_', at most %d",
			    options->name, GUARD_NAME_MAX);
	/* Before 5.11 maps are charged to RLIMIT_MEMLOCK. */
	setrlimit(RLIMIT_MEMLOCK, &unlimited);
	result = layout_read(options->name, &layout);
	if (result == -EPROTO || (result == 0 && layout.version && layout.version != CONNGUARD_LAYOUT))
		return fail(ret_error, -EPROTO,
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
		return fail(ret_error, -errno, "opening the object: %s", strerror(errno));
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
		    strcmp(entry->d_name, map_names[MAP_LAYOUT]) == 0)
			continue;
		if (unlinkat(dirfd(directory), entry->d_name, 0) && errno != EISDIR && errno != EPERM)
			result = -errno;
	}
	/* The layout word goes last: a removal that dies before is known by its version 0. */
	unlinkat(dirfd(directory), map_names[MAP_LAYOUT], 0);
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

	if (layout_read(name, &layout))
		return;
	layout.version = 0;
	pin_path(path, name, "", map_names[MAP_LAYOUT]);
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

		pin_path(path, name, "links", hooks[i].name);
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
		return fail(ret_error, -EINVAL, "'%s' cannot name a guard", name);
	pin_path(path, name, "", "");
	if (access(path, F_OK)) {
		if (!bpffs_mounted())
			return bpffs_missing(ret_error);
		return fail(ret_error, -ENOENT, "no guard '%s' is loaded (nothing at %s)", name, path);
	}
	detach_links(name);
	layout_void(name);
	/* Programs attached without a link (bpftool) hang on the cgroup alone. */
	if (layout_read(name, &layout) == 0 && layout.cgroup_id) {
		cleanup_free char *cgroup = NULL;
		char peers_path[PIN_PATH_MAX];

		pin_path(peers_path, name, "", map_names[MAP_PEERS]);
		cleanup_close int peers_fd = bpf_obj_get(peers_path);

		if (peers_fd >= 0 && path_of_cgroup(layout.cgroup_id, &cgroup) == 0) {
			cleanup_close int cgroup_fd =
				open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			for (int i = HOOK_COUNT - 1; cgroup_fd >= 0 && i >= 0; i--)
				detach_unlinked(cgroup_fd, i, map_id(peers_fd), 0);
		}
	}
	pin_path(path, name, "links", "");
	remove_directory(path);
	pin_path(path, name, "programs", "");
	remove_directory(path);
	pin_path(path, name, "", "");
	result = remove_directory(path);
	if (result)
		return fail(ret_error, result, "removing %s: %s", path, strerror(-result));
	/* The last guard takes the common directory along. */
	rmdir(PIN_ROOT);
	return 0;
}

/* ---- what is in force ---- */

/* 1 when a program of this type with these instructions loads. */
static bool program_loads(enum bpf_prog_type type, enum bpf_attach_type attach_type, __u32 btf_id,
			  const struct bpf_insn *instructions, size_t count)
{
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = attach_type,
		    .attach_btf_id = btf_id);
	int fd = bpf_prog_load(type, "cg_feature", "GPL", instructions, count, &options);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

#define INSTRUCTION(op, dst, src, offset, value) \
	((struct bpf_insn){ .code = (op), .dst_reg = (dst), .src_reg = (src), .off = (offset), .imm = (value) })
#define MOVE_VALUE(dst, value) INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, value)
#define CALL(helper) INSTRUCTION(BPF_JMP | BPF_CALL, 0, 0, 0, helper)
#define EXIT() INSTRUCTION(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

/* 1 when an enumeration of the kernel's has a value of this name. */
static bool has_enumerator(const struct btf *types, const char *name)
{
	for (__u32 id = 1; id < btf__type_cnt(types); id++) {
		const struct btf_type *type = btf__type_by_id(types, id);

		if (!btf_is_enum(type))
			continue;
		for (int i = 0; i < btf_vlen(type); i++)
			if (strcmp(btf__name_by_offset(types, btf_enum(type)[i].name_off), name) == 0)
				return true;
	}
	return false;
}

void guard_probe(bool ret_features[FEATURE_COUNT])
{
	const struct bpf_insn set_retval[] = { MOVE_VALUE(BPF_REG_1, -1), CALL(BPF_FUNC_set_retval),
					       MOVE_VALUE(BPF_REG_0, 1), EXIT() };
	const struct bpf_insn netns_cookie[] = { CALL(BPF_FUNC_get_netns_cookie),
						 MOVE_VALUE(BPF_REG_0, 1), EXIT() };
	/* The socket as a full one, or out; then an option on it: what the iterators do. */
	const struct bpf_insn iterator[] = {
		INSTRUCTION(BPF_LDX | BPF_MEM | BPF_DW, BPF_REG_1, BPF_REG_1, 8, 0),
		INSTRUCTION(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_1, 0, 13, 0),
		CALL(BPF_FUNC_skc_to_tcp_sock),
		INSTRUCTION(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_0, 0, 11, 0),
		INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_6, BPF_REG_0, 0, 0),
		INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_1, BPF_REG_0, 0, 0),
		CALL(BPF_FUNC_get_socket_cookie),
		INSTRUCTION(BPF_ST | BPF_MEM | BPF_W, BPF_REG_10, 0, -4, 0),
		INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_1, BPF_REG_6, 0, 0),
		MOVE_VALUE(BPF_REG_2, IPPROTO_TCP),
		MOVE_VALUE(BPF_REG_3, TCP_KEEPCNT),
		INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_4, BPF_REG_10, 0, 0),
		INSTRUCTION(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_4, 0, 0, -4),
		MOVE_VALUE(BPF_REG_5, 4),
		CALL(BPF_FUNC_setsockopt),
		MOVE_VALUE(BPF_REG_0, 0),
		EXIT(),
	};
	struct btf *types;
	int iterator_id;

	libbpf_set_print(keep_last_words);
	types = btf__load_vmlinux_btf();
	iterator_id = types ? btf__find_by_name_kind(types, "bpf_iter_tcp", BTF_KIND_FUNC) : 0;
	ret_features[FEATURE_REFUSAL_ERRNO] =
		program_loads(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT, 0,
			      set_retval, sizeof(set_retval) / sizeof(set_retval[0]));
	ret_features[FEATURE_NETNS_COOKIE] =
		program_loads(BPF_PROG_TYPE_SOCK_OPS, BPF_CGROUP_SOCK_OPS, 0, netns_cookie,
			      sizeof(netns_cookie) / sizeof(netns_cookie[0]));
	ret_features[FEATURE_SOCKET_ITERATOR] =
		iterator_id > 0 &&
		program_loads(BPF_PROG_TYPE_TRACING, BPF_TRACE_ITER, iterator_id, iterator,
			      sizeof(iterator) / sizeof(iterator[0]));
	/* An option of bpf_setsockopt(), see bpf/adopt.bpf.c. */
	ret_features[FEATURE_ADOPT_CALLBACKS] =
		types && has_enumerator(types, "TCP_BPF_SOCK_OPS_CB_FLAGS");
	btf__free(types);
}

/*
 * What is effective at a hook, asked of its cgroup or network namespace: fills in `attached`,
 * `foreign`, and the program's id if only the maps tell that it is ours. -1: not to be asked.
 */
static void ask_hook(const struct guard *guard, int target_fd, enum guard_hook hook,
		     struct hook_state *state)
{
	__u32 ids[64], count = 64, flags = 0, peers_id = map_id(guard->maps[MAP_PEERS]);
	/* A namespace has no hierarchy: what is attached is what is effective. */
	__u32 query = hook == HOOK_SK_LOOKUP ? 0 : BPF_F_QUERY_EFFECTIVE;

	if (target_fd < 0 ||
	    bpf_prog_query(target_fd, hooks[hook].type, query, &flags, ids, &count))
		return;
	for (__u32 i = 0; i < count; i++) {
		if (ids[i] == state->program_id || program_uses_map(ids[i], peers_id)) {
			state->attached = true;
			state->program_id = ids[i];
		} else {
			state->foreign++;
		}
	}
}

/* The calling thread's network namespace, if that is the one with this inode; else -1. */
static int open_own_netns(__u64 inode)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	struct stat own;

	if (fd >= 0 && (fstat(fd, &own) || own.st_ino != inode)) {
		close(fd);
		return -1;
	}
	return fd;
}

int guard_hooks(const struct guard *guard, struct hook_state ret_hooks[HOOK_COUNT])
{
	cleanup_free char *cgroup = NULL;
	struct guard_layout layout = {};
	int result = layout_read(guard->name, &layout);

	if (result)
		return result;
	path_of_cgroup(layout.cgroup_id, &cgroup);
	cleanup_close int cgroup_fd =
		cgroup ? open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	for (int i = 0; i < HOOK_COUNT; i++) {
		struct hook_state state = {};
		char path[PIN_PATH_MAX];
		__u64 target = 0;

		pin_path(path, guard->name, "links", hooks[i].name);
		cleanup_close int link_fd = bpf_obj_get(path);

		/*
		 * A link whose cgroup or namespace is gone, or which was detached by force, has no
		 * target.
		 */
		if (link_fd >= 0 &&
		    link_target(link_fd, i, &target, &state.program_id) == 0)
			state.pinned = target != 0;
		if (i == HOOK_SK_LOOKUP) {
			cleanup_close int netns_fd = open_own_netns(target);

			/* From another namespace only the link can tell. */
			state.attached = state.pinned;
			ask_hook(guard, netns_fd, i, &state);
		} else {
			ask_hook(guard, cgroup_fd, i, &state);
		}
		ret_hooks[i] = state;
	}
	return 0;
}

int guard_cgroup(const struct guard *guard, char **ret_path)
{
	struct guard_layout layout = {};
	int result = layout_read(guard->name, &layout);

	return result ? result : path_of_cgroup(layout.cgroup_id, ret_path);
}

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

int guard_ports_write(const struct guard *guard, const __u16 *ports, size_t count)
{
	__u16 current[64];
	size_t current_count = 0;
	__u32 one = 1;
	int result = guard_ports_read(guard, current, 64, &current_count);

	if (result)
		return result;
	/* New ones first: a port that stays is guarded throughout. */
	for (size_t i = 0; i < count; i++)
		if (bpf_map_update_elem(guard->maps[MAP_PORTS], &ports[i], &one, BPF_ANY))
			return -errno;
	for (size_t i = 0; i < current_count; i++) {
		bool stays = false;

		for (size_t j = 0; j < count; j++)
			stays = stays || ports[j] == current[i];
		if (!stays && bpf_map_delete_elem(guard->maps[MAP_PORTS], &current[i]))
			return -errno;
	}
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
	cleanup_free struct guard_counters *values =
		calloc(cpus, sizeof(*values));

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

int guard_peer_read(const struct guard *guard, const struct peer_address *address,
		    struct peer *ret_peer)
{
	struct peer peer;

	if (bpf_map_lookup_elem_flags(guard->maps[MAP_PEERS], address, &peer, BPF_F_LOCK))
		return -errno;
	*ret_peer = peer;
	return 0;
}

__u32 guard_peers_max(const struct guard *guard)
{
	return guard->max_peers;
}

int guard_peers_read(const struct guard *guard, struct peer **ret_peers, size_t *ret_count)
{
	cleanup_free struct peer *peers = NULL;
	struct peer_address key, last, *previous = NULL;
	size_t count = 0, capacity = 0;

	/*
	 * A deletion under way makes the kernel start over from the first key: the capacity of the
	 * map ends that.
	 */
	for (__u32 steps = 0; steps < 2 * guard->max_peers; steps++) {
		if (bpf_map_get_next_key(guard->maps[MAP_PEERS], previous, &key)) {
			if (errno == ENOENT)
				break;
			return -errno;
		}
		if (count == capacity) {
			size_t wanted = capacity ? 2 * capacity : 64;
			struct peer *larger = reallocarray(peers, wanted, sizeof(*peers));

			if (!larger)
				return -ENOMEM;
			peers = larger;
			capacity = wanted;
		}
		if (guard_peer_read(guard, &key, &peers[count]) == 0) {
			/* An entry that a hook has created and not named yet. */
			peers[count].address = key;
			count++;
		}
		last = key;
		previous = &last;
	}
	*ret_peers = peers;
	peers = NULL;
	*ret_count = count;
	return 0;
}

int guard_exempt_write(const struct guard *guard, const struct exempt_prefix *prefix,
		       const struct exempt_value *value)
{
	return bpf_map_update_elem(guard->maps[MAP_EXEMPT], prefix, value, BPF_ANY) ? -errno : 0;
}

int guard_exempt_delete(const struct guard *guard, const struct exempt_prefix *prefix)
{
	return bpf_map_delete_elem(guard->maps[MAP_EXEMPT], prefix) ? -errno : 0;
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

int guard_command(const struct guard *guard, const struct guard_command *command)
{
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = command, .data_size_in = sizeof(*command),
		    .repeat = 1);

	if (bpf_prog_test_run_opts(guard->command_fd, &options))
		return -errno;
	return (int)options.retval;
}

/* Run the iterator over the TCP sockets of the calling thread's network namespace. */
static int iterate(int program_fd)
{
	char sink[256];
	ssize_t length;
	cleanup_close int link_fd =
		bpf_link_create(program_fd, 0, BPF_TRACE_ITER, NULL);

	if (link_fd < 0)
		return -errno;
	cleanup_close int iterator_fd = bpf_iter_create(link_fd);

	if (iterator_fd < 0)
		return -errno;
	while ((length = read(iterator_fd, sink, sizeof(sink))) > 0 ||
	       (length < 0 && (errno == EINTR || errno == EAGAIN)))
		;
	return length < 0 ? -errno : 0;
}

int guard_adopt(const struct guard *guard, const __u64 *cookies, const struct adoption *adoptions,
		size_t count)
{
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
	for (size_t i = 0; i < count && !result; i++)
		if (bpf_map_update_elem(guard->maps[MAP_ADOPTIONS], &cookies[i], &adoptions[i], BPF_ANY))
			result = -errno;
	if (!result)
		result = iterate(guard->iterators[ITERATOR_ADOPT]);
	for (size_t i = 0; i < count; i++)
		bpf_map_delete_elem(guard->maps[MAP_ADOPTIONS], &cookies[i]);
	return result;
}

int guard_nudge(const struct guard *guard, const __u64 *cookies, size_t count, bool begin,
		size_t *ret_nudged)
{
	int map = guard->maps[MAP_NUDGES], result = 0;
	size_t nudged = 0, written;

	if (guard->iterators[ITERATOR_NUDGE] < 0)
		return -EOPNOTSUPP;
	for (written = 0; written < count && !result; written++) {
		struct link_nudge nudge = {};

		/* How it was before is in the entry: only the step changes. */
		if (!begin && bpf_map_lookup_elem(map, &cookies[written], &nudge))
			continue;
		nudge.step = begin ? NUDGE_BEGIN : NUDGE_END;
		if (bpf_map_update_elem(map, &cookies[written], &nudge, BPF_ANY))
			result = errno == E2BIG ? -ENOSPC : -errno;
	}
	if (!result)
		result = iterate(guard->iterators[ITERATOR_NUDGE]);
	for (size_t i = 0; i < written; i++) {
		struct link_nudge nudge = {};

		if (begin && !bpf_map_lookup_elem(map, &cookies[i], &nudge) &&
		    nudge.step == NUDGE_UNDER_WAY)
			nudged++;
		else
			bpf_map_delete_elem(map, &cookies[i]);
	}
	if (ret_nudged)
		*ret_nudged = nudged;
	return result;
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

	if (size >= sizeof(struct guard_event))
		guard->handler(data, guard->handler_argument);
	return 0;
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
	return ring_buffer__consume(guard->ring);
}
