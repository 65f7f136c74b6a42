// SPDX-License-Identifier: BSD-2-Clause
/*
 * The guard in the kernel: names, texts and paths; looking at objects of the kernel; open and
 * close. See kernel.h, and kernel_parts.h for what lies in which file.
 */
#include "edge/kernel_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/magic.h>

#include "base/cleanup.h"
#include "edge/cgroups.h"

const char *const kernel_map_names[MAP_COUNT] = {
	[MAP_LAYOUT] = "layout",       [MAP_MODE] = "mode",	    [MAP_POLICY] = "policy",
	[MAP_DAEMON] = "daemon",       [MAP_PORTS] = "ports",	    [MAP_PEERS] = "peers",
	[MAP_EXEMPT] = "exempt",       [MAP_SOCKETS] = "sockets",   [MAP_HANDSHAKES] = "handshakes",
	[MAP_ADOPTIONS] = "adoptions", [MAP_NUDGES] = "nudges",	    [MAP_COUNTERS] = "counters",
	[MAP_EVENTS] = "events",       [MAP_REVIVAL] = "revival",
	[MAP_SYNS] = "syns",	       [MAP_HELD_SYNS] = "held_syns",
	[MAP_HANDSHAKE_KEY] = "handshake_key", [MAP_LISTENERS] = "listeners",
	[MAP_LISTENING] = "listening", [MAP_OWN] = "own",
	[MAP_NETWORKS] = "networks",
};

const struct kernel_map_sizes kernel_map_sizes[MAP_COUNT] = {
	[MAP_LAYOUT] = { sizeof(__u32), sizeof(struct guard_layout) },
	[MAP_MODE] = { sizeof(__u32), sizeof(enum guard_mode) },
	[MAP_POLICY] = { sizeof(__u32), sizeof(struct guard_policy) },
	[MAP_DAEMON] = { sizeof(__u32), sizeof(struct guard_daemon) },
	[MAP_PORTS] = { sizeof(__u16), sizeof(__u32) },
	[MAP_PEERS] = { sizeof(struct peer_address), sizeof(struct peer) },
	[MAP_EXEMPT] = { sizeof(struct exempt_prefix), sizeof(struct exempt_value) },
	[MAP_SOCKETS] = { sizeof(int), sizeof(struct owned_slot) },
	[MAP_HANDSHAKES] = { sizeof(__u32), sizeof(struct pending_handshake) },
	[MAP_ADOPTIONS] = { sizeof(__u64), sizeof(struct adoption) },
	[MAP_NUDGES] = { sizeof(__u64), sizeof(struct link_nudge) },
	[MAP_COUNTERS] = { sizeof(__u32), sizeof(struct guard_counters) },
	[MAP_EVENTS] = { 0, 0 },
	[MAP_REVIVAL] = { sizeof(__u32), sizeof(struct guard_revival) },
	[MAP_SYNS] = { sizeof(__u64), sizeof(struct ready_syn) },
	[MAP_HELD_SYNS] = { sizeof(struct peer_address), sizeof(struct ready_syn) },
	[MAP_HANDSHAKE_KEY] = { sizeof(__u32), sizeof(struct handshake_key) },
	[MAP_LISTENERS] = { sizeof(struct listen_place), sizeof(struct place_listeners) },
	[MAP_LISTENING] = { sizeof(int), sizeof(struct listening) },
	[MAP_OWN] = { sizeof(struct exempt_prefix), sizeof(struct own_value) },
	[MAP_NETWORKS] = { sizeof(struct peer_network), sizeof(struct network_tally) },
};

const struct kernel_hook kernel_hooks[HOOK_COUNT] = {
	[HOOK_SOCK_OPS] = { "sock_ops", "sock_ops", BPF_CGROUP_SOCK_OPS },
	[HOOK_SOCK_RELEASE] = { "sock_release", "sock_release", BPF_CGROUP_INET_SOCK_RELEASE },
	[HOOK_INGRESS] = { "ingress", "ingress", BPF_CGROUP_INET_INGRESS },
	[HOOK_EGRESS] = { "egress", "egress", BPF_CGROUP_INET_EGRESS },
	[HOOK_SK_LOOKUP] = { "sk_lookup", "lookup", BPF_SK_LOOKUP },
	[HOOK_CONNECT4] = { "connect4", "connect4", BPF_CGROUP_INET4_CONNECT },
	[HOOK_CONNECT6] = { "connect6", "connect6", BPF_CGROUP_INET6_CONNECT },
};

static const struct {
	const char *name;
	const char *lack;
} features[FEATURE_COUNT] = {
	[FEATURE_REFUSAL_ERRNO] = { "refusal_errno",
				    "a refused dial gets EPERM, whatever refuse_with says" },
	[FEATURE_SOCKET_ITERATOR] = { "socket_iterator",
				      "the end of a link older than the guard shows only in the periodic check" },
	[FEATURE_SOCKET_OPTIONS] = { "socket_options",
				     "TCP is not made to ask for a sign of life: where nothing answers for a quiet "
				     "link its peer waits for deny_max; liveness sets nothing" },
	[FEATURE_ADOPT_CALLBACKS] = { "adopt_callbacks",
				      "the end of a link older than the guard shows when its socket is closed, "
				      "no sooner" },
};

/* ---- small things ---- */

int kernel_fail(struct guard_error *error, int code, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);
	return code;
}

void kernel_pin_path(char path[PIN_PATH_MAX], const char *name, const char *below,
		     const char *entry)
{
	snprintf(path, PIN_PATH_MAX, PIN_ROOT "/%s%s%s%s%s", name, *below ? "/" : "", below,
		 *entry ? "/" : "", entry);
}

const char *guard_hook_name(enum guard_hook hook)
{
	return kernel_hooks[hook].name;
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
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") ==
		       length;
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

void kernel_hush(void)
{
	libbpf_set_print(keep_last_words);
}

const char *kernel_last_words(void)
{
	return last_words;
}

bool guard_bpffs_mounted(void)
{
	struct statfs filesystem;

	return statfs(PIN_FILESYSTEM, &filesystem) == 0 && filesystem.f_type == BPF_FS_MAGIC;
}

/*
 * The host's mounts are those of process 1, or where that one lets nobody look, of the kernel's own
 * threads (kthreadd is process 2).
 */
bool kernel_in_host_mount_namespace(void)
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

int kernel_bpffs_missing(struct guard_error *error)
{
	return kernel_fail(
		error, -ENOENT, "no bpf file system at " PIN_FILESYSTEM " in this mount namespace%s",
		kernel_in_host_mount_namespace() ?
			"; mount it with: mount -t bpf bpf " PIN_FILESYSTEM :
			" (`ip netns exec` hides it: use nsenter --net=/run/netns/NAME)");
}

/* ---- objects of the kernel ---- */

int kernel_link_target(int link_fd, enum guard_hook hook, __u64 *ret_target, __u32 *ret_program)
{
	struct bpf_link_info info = {};
	__u32 length = sizeof(info);

	if (bpf_obj_get_info_by_fd(link_fd, &info, &length))
		return -errno;
	*ret_target = hook == HOOK_SK_LOOKUP ? info.netns.netns_ino : info.cgroup.cgroup_id;
	*ret_program = info.prog_id;
	return 0;
}

__u32 kernel_program_id(int program_fd)
{
	struct bpf_prog_info info = {};
	__u32 length = sizeof(info);

	return bpf_obj_get_info_by_fd(program_fd, &info, &length) ? 0 : info.id;
}

int kernel_path_of_cgroup(__u64 id, char **ret_path)
{
	cleanup_free char *below = NULL;
	int result = id ? cgroups_path_of_id(id, &below) : -ENOENT;

	return result ? result : cgroups_path(below, ret_path);
}

bool kernel_program_uses_map(__u32 id, __u32 map_id)
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

__u32 kernel_map_id(int map_fd)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);

	return bpf_obj_get_info_by_fd(map_fd, &info, &length) ? 0 : info.id;
}

/* ---- open ---- */

struct guard *kernel_guard_new(const char *name)
{
	struct guard *guard = calloc(1, sizeof(*guard));

	if (!guard)
		return NULL;
	snprintf(guard->name, sizeof(guard->name), "%s", name);
	for (int i = 0; i < MAP_COUNT; i++)
		guard->maps[i] = -1;
	for (int i = 0; i < HOOK_COUNT; i++)
		guard->programs[i] = guard->links[i] = -1;
	for (int i = 0; i < ITERATOR_COUNT; i++)
		guard->iterators[i] = -1;
	guard->command_fd = guard->look_fd = guard->cgroup_fd = -1;
	return guard;
}

void guard_close(struct guard *guard)
{
	if (!guard)
		return;
	ring_buffer__free(guard->ring);
	kernel_attach_cancel(&guard->attaching);
	for (int i = 0; i < MAP_COUNT; i++)
		if (guard->maps[i] >= 0)
			close(guard->maps[i]);
	for (int i = 0; i < HOOK_COUNT; i++) {
		if (guard->programs[i] >= 0)
			close(guard->programs[i]);
		if (guard->links[i] >= 0)
			close(guard->links[i]);
	}
	if (guard->command_fd >= 0)
		close(guard->command_fd);
	if (guard->look_fd >= 0)
		close(guard->look_fd);
	for (int i = 0; i < ITERATOR_COUNT; i++)
		if (guard->iterators[i] >= 0)
			close(guard->iterators[i]);
	if (guard->cgroup_fd >= 0)
		close(guard->cgroup_fd);
	free(guard);
}

static void guard_close_pointer(struct guard **guard)
{
	guard_close(*guard);
}

int kernel_layout_read(const char *name, struct guard_layout *ret_layout)
{
	char path[PIN_PATH_MAX];
	__u32 zero = 0;
	int fd, result;

	kernel_pin_path(path, name, "", kernel_map_names[MAP_LAYOUT]);
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

int kernel_layout_of(const struct guard *guard, struct guard_layout *ret_layout)
{
	__u32 zero = 0;

	if (bpf_map_lookup_elem(guard->maps[MAP_LAYOUT], &zero, ret_layout))
		return -errno;
	return ret_layout->version == CONNGUARD_LAYOUT ? 0 : -ENOENT;
}

int kernel_other_layout(const char *name, const struct guard_layout *layout,
			struct guard_error *error)
{
	if (!layout)
		return kernel_fail(error, -EPROTO,
				   "the loaded guard '%s' has a layout word of another size, so another "
				   "version has loaded it: it stays as it is; use the programs of that "
				   "version, or unload it first",
				   name);
	if (!layout->version)
		return kernel_fail(error, -EPROTO,
				   "guard '%s' is not whole, its load or its removal did not finish (its "
				   "layout word is 0): start connguardd, which loads it anew, or unload it",
				   name);
	return kernel_fail(error, -EPROTO,
			   "the loaded guard '%s' has map layout %u, this program has layout %u: it stays "
			   "as it is; use the programs of the version that loaded it, or unload it first",
			   name, layout->version, CONNGUARD_LAYOUT);
}

int kernel_map_check(int map_fd, enum guard_map map, const char *path, struct guard_error *error)
{
	const struct kernel_map_sizes *ours = &kernel_map_sizes[map];
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);

	if (bpf_obj_get_info_by_fd(map_fd, &info, &length))
		return -errno;
	if (info.key_size == ours->key && info.value_size == ours->value)
		return 0;
	return kernel_fail(error, -EPROTO,
			   "%s has another layout (keys of %u bytes and values of %u, expected %u and %u), so another "
			   "version has loaded the guard: it stays as it is; use the programs of that version, or "
			   "unload it first",
			   path, info.key_size, info.value_size, ours->key, ours->value);
}

/* Open a pinned map, which must be as this build has it. */
static int open_map(struct guard *guard, enum guard_map map, struct guard_error *error)
{
	char path[PIN_PATH_MAX];

	kernel_pin_path(path, guard->name, "", kernel_map_names[map]);
	guard->maps[map] = bpf_obj_get(path);
	if (guard->maps[map] < 0)
		return kernel_fail(error, -errno, "opening %s: %s", path, strerror(errno));
	return kernel_map_check(guard->maps[map], map, path, error);
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
	kernel_hush();
	if (!guard_name_valid(name))
		return kernel_fail(
			ret_error, -EINVAL,
			"'%s' cannot name a guard: expected letters, digits, '-', '_', at most %d",
			name, GUARD_NAME_MAX);
	result = kernel_layout_read(name, &layout);
	if (result == -EPERM || result == -EACCES)
		return kernel_fail(ret_error, result, "reading the pinned maps takes root");
	if (result == -ENOENT && !guard_bpffs_mounted())
		return kernel_bpffs_missing(ret_error);
	if (result == -ENOENT)
		return kernel_fail(ret_error, result,
				   "no guard '%s' is loaded (nothing at " PIN_ROOT "/%s)", name,
				   name);
	if (result == -EPROTO || (!result && layout.version != CONNGUARD_LAYOUT))
		return kernel_other_layout(name, result ? NULL : &layout, ret_error);
	if (result)
		return kernel_fail(ret_error, result, "reading the layout of guard '%s': %s", name,
				   strerror(-result));
	guard = kernel_guard_new(name);
	if (!guard)
		return -ENOMEM;
	for (int i = 0; !result && i < MAP_COUNT; i++)
		result = open_map(guard, i, ret_error);
	if (result)
		return result;
	kernel_pin_path(path, name, "programs", "command");
	guard->command_fd = bpf_obj_get(path);
	if (guard->command_fd < 0)
		return kernel_fail(ret_error, -errno, "opening %s: %s", path, strerror(errno));
	if (bpf_obj_get_info_by_fd(guard->maps[MAP_PEERS], &info, &length))
		return -errno;
	guard->max_peers = info.max_entries;
	*ret_guard = guard;
	guard = NULL;
	return 0;
}

int guard_peek(const char *name, struct guard **ret_guard)
{
	static const int wanted[] = { MAP_LAYOUT, MAP_MODE, MAP_POLICY, MAP_PORTS };
	struct guard *guard __attribute__((cleanup(guard_close_pointer))) = NULL;
	struct guard_layout layout = {};
	struct guard_error ignored;
	int result = kernel_layout_read(name, &layout);

	if (result)
		return result;
	if (layout.version != CONNGUARD_LAYOUT)
		return -EPROTO;
	guard = kernel_guard_new(name);
	if (!guard)
		return -ENOMEM;
	for (size_t i = 0; !result && i < sizeof(wanted) / sizeof(wanted[0]); i++)
		result = open_map(guard, wanted[i], &ignored);
	if (result)
		return result;
	*ret_guard = guard;
	guard = NULL;
	return 0;
}
