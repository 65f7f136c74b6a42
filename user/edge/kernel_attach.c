// SPDX-License-Identifier: BSD-2-Clause
/*
 * The guard in the kernel: its programs at their hooks, and moved to others. See kernel.h.
 *
 * In steps that each go over all hooks, so that a guard is never half in one place and half in
 * another, whoever is killed or fails on the way: first every new link is made, beside those that
 * there are, then all are pinned as NAME-new, then all take over the pins, and the old ones go last.
 * Until the last of them is pinned the old place is whole, from then on the new one is. What is left
 * over is used, or cleared, by the next load.
 *
 * Two links of one guard at one hook do no harm while it lasts: what the first program did for a
 * socket, the second finds done.
 */
#include "edge/kernel_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <linux/magic.h>

#include "base/cleanup.h"

/* A hook on its way: descriptors, -1 where there is none. */
struct attachment {
	char path[PIN_PATH_MAX];       /* the pin of the hook's link */
	char fresh_path[PIN_PATH_MAX]; /* NAME-new */
	int old;                       /* the link that is pinned at `path` */
	int stale;                     /* pinned at `fresh_path` by one that died, and of no use */
	int fresh;                     /* the new link; none: the old one is in the right place */
	bool waits;                    /* `fresh` is pinned at `fresh_path` already */
};

static void attachments_close(struct attachment (*attachments)[HOOK_COUNT])
{
	int saved_errno = errno;

	for (int i = 0; i < HOOK_COUNT; i++) {
		struct attachment *one = &(*attachments)[i];

		if (one->old >= 0)
			close(one->old);
		if (one->stale >= 0)
			close(one->stale);
		if (one->fresh >= 0)
			close(one->fresh);
	}
	errno = saved_errno;
}

/*
 * 1 when a program has the hook of this cgroup, or of one above it, for itself: then the kernel lets
 * nobody else attach.
 */
static bool hook_is_taken(int cgroup_fd, enum guard_hook hook)
{
	cleanup_close int fd = fcntl(cgroup_fd, F_DUPFD_CLOEXEC, 0);
	struct statfs filesystem;

	while (fd >= 0 && fstatfs(fd, &filesystem) == 0 &&
	       filesystem.f_type == CGROUP2_SUPER_MAGIC) {
		__u32 ids[64], count = 64, flags = 0;
		int above;

		if (bpf_prog_query(fd, kernel_hooks[hook].type, 0, &flags, ids, &count) == 0 &&
		    count && !(flags & BPF_F_ALLOW_MULTI))
			return true;
		above = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = above;
	}
	return false;
}

static int attaching_fails(int target_fd, enum guard_hook hook, struct guard_error *error)
{
	int code = -errno;

	if (code == -EPERM && hook != HOOK_SK_LOOKUP && hook_is_taken(target_fd, hook))
		return kernel_fail(
			error, code,
			"attaching %s: another program has this hook for itself, at the cgroup or above "
			"it (attached without BPF_F_ALLOW_MULTI, as systemd does for IPAddressDeny= and "
			"IPAccounting=): guard the cgroup above that one, or let the unit have Delegate=yes",
			kernel_hooks[hook].name);
	return kernel_fail(error, code, "attaching %s: %s", kernel_hooks[hook].name,
			   strerror(-code));
}

/* 1 when the link is attached to the place with this inode. */
static bool link_is_at(int link_fd, enum guard_hook hook, __u64 place)
{
	__u64 target;
	__u32 program;

	return link_fd >= 0 && kernel_link_target(link_fd, hook, &target, &program) == 0 &&
	       target == place;
}

/* Make the new link, if one is needed. Changes nothing that outlives this process. */
static int attachment_make(const char *name, enum guard_hook hook, int target_fd, int program_fd,
			   struct attachment *one, struct guard_error *error)
{
	struct stat place;
	char entry[32];

	if (fstat(target_fd, &place))
		return -errno;
	kernel_pin_path(one->path, name, "links", kernel_hooks[hook].name);
	snprintf(entry, sizeof(entry), "%s-new", kernel_hooks[hook].name);
	kernel_pin_path(one->fresh_path, name, "links", entry);
	one->old = bpf_obj_get(one->path);
	one->stale = bpf_obj_get(one->fresh_path);
	if (link_is_at(one->old, hook, place.st_ino))
		return 0;
	/* It may be all that enforces there by now: it is used rather than made anew. */
	if (link_is_at(one->stale, hook, place.st_ino)) {
		one->fresh = take_descriptor(&one->stale);
		one->waits = true;
		return 0;
	}
	one->fresh = bpf_link_create(program_fd, target_fd, kernel_hooks[hook].type, NULL);
	return one->fresh < 0 ? attaching_fails(target_fd, hook, error) : 0;
}

/* Put the program into a link that is in its place, or pin the new link beside the old one. */
static int attachment_wait(struct attachment *one, int program_fd, struct guard_error *error)
{
	int in_place = one->waits ? one->fresh : one->fresh < 0 ? one->old : -1;

	if (in_place >= 0 && bpf_link_update(in_place, program_fd, NULL))
		return kernel_fail(error, -errno, "replacing the program at %s: %s", one->path,
				   strerror(errno));
	if (one->stale >= 0) {
		bpf_link_detach(one->stale);
		unlink(one->fresh_path);
	}
	if (in_place < 0 && bpf_obj_pin(one->fresh, one->fresh_path))
		return kernel_fail(error, -errno, "pinning %s: %s", one->fresh_path,
				   strerror(errno));
	return 0;
}

/* Not all could be attached or pinned: take back what was. */
static void attachment_undo(struct attachment *one)
{
	if (one->fresh < 0 || one->waits)
		return;
	bpf_link_detach(one->fresh);
	unlink(one->fresh_path);
}

/* The new link takes the pin over. */
static int attachment_rename(struct attachment *one, struct guard_error *error)
{
	if (one->fresh >= 0 && rename(one->fresh_path, one->path))
		return kernel_fail(error, -errno, "pinning %s: %s", one->path, strerror(errno));
	return 0;
}

/* The old one goes. Returns the link that is in force, the caller's. */
static int attachment_finish(struct attachment *one)
{
	if (one->fresh < 0)
		return take_descriptor(&one->old);
	/* Not only unpinned: bpffs lets go of a link later, and until then both would decide. */
	if (one->old >= 0)
		bpf_link_detach(one->old);
	return take_descriptor(&one->fresh);
}

int kernel_attach(const char *name, int cgroup_fd, int netns_fd, const int programs[HOOK_COUNT],
		  int links[HOOK_COUNT], struct guard_error *error)
{
	struct attachment attachments[HOOK_COUNT] __attribute__((cleanup(attachments_close)));
	int result = 0;

	for (int i = 0; i < HOOK_COUNT; i++)
		attachments[i] = (struct attachment){ .old = -1, .stale = -1, .fresh = -1 };
	for (int i = 0; !result && i < HOOK_COUNT; i++)
		result = attachment_make(name, i, i == HOOK_SK_LOOKUP ? netns_fd : cgroup_fd,
					 programs[i], &attachments[i], error);
	for (int i = 0; !result && i < HOOK_COUNT; i++)
		result = attachment_wait(&attachments[i], programs[i], error);
	for (int i = 0; result && i < HOOK_COUNT; i++)
		attachment_undo(&attachments[i]);
	for (int i = 0; !result && i < HOOK_COUNT; i++)
		result = attachment_rename(&attachments[i], error);
	for (int i = 0; !result && i < HOOK_COUNT; i++) {
		if (links[i] >= 0)
			close(links[i]);
		links[i] = attachment_finish(&attachments[i]);
	}
	return result;
}

void kernel_detach_unlinked(int cgroup_fd, __u32 peers_id, const int keep[HOOK_COUNT])
{
	/* The hooks that make claims go first. */
	for (int hook = HOOK_COUNT - 1; hook >= 0; hook--) {
		__u32 ids[64], count = 64, flags = 0;
		__u32 kept = keep ? kernel_program_id(keep[hook]) : 0;

		if (hook == HOOK_SK_LOOKUP || bpf_prog_query(cgroup_fd, kernel_hooks[hook].type, 0,
							     &flags, ids, &count))
			continue;
		for (__u32 i = 0; i < count; i++) {
			if (ids[i] == kept || !kernel_program_uses_map(ids[i], peers_id))
				continue;
			cleanup_close int fd = bpf_prog_get_fd_by_id(ids[i]);

			/* Fails for a program attached by a link, which is not ours to break here. */
			if (fd >= 0)
				bpf_prog_detach2(fd, cgroup_fd, kernel_hooks[hook].type);
		}
	}
}

int kernel_settle(int layout_fd, int peers_fd, int cgroup_fd, const int programs[HOOK_COUNT])
{
	struct guard_layout layout = {};
	__u32 zero = 0, peers_id = kernel_map_id(peers_fd);
	cleanup_free char *left = NULL;
	struct stat place;

	if (bpf_map_lookup_elem(layout_fd, &zero, &layout))
		return -errno;
	if (cgroup_fd < 0) {
		layout.version = CONNGUARD_LAYOUT;
		return bpf_map_update_elem(layout_fd, &zero, &layout, BPF_ANY) ? -errno : 0;
	}
	if (fstat(cgroup_fd, &place))
		return -errno;
	kernel_detach_unlinked(cgroup_fd, peers_id, programs);
	if (layout.cgroup_id && layout.cgroup_id != place.st_ino &&
	    kernel_path_of_cgroup(layout.cgroup_id, &left) == 0) {
		cleanup_close int left_fd = open(left, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (left_fd >= 0)
			kernel_detach_unlinked(left_fd, peers_id, NULL);
	}
	layout = (struct guard_layout){ .version = CONNGUARD_LAYOUT, .cgroup_id = place.st_ino };
	return bpf_map_update_elem(layout_fd, &zero, &layout, BPF_ANY) ? -errno : 0;
}

int guard_follow(struct guard *guard, const char *cgroup, int netns_fd,
		 struct guard_error *ret_error)
{
	struct guard_layout layout = {};
	int result = kernel_layout_of(guard, &layout);

	ret_error->text[0] = '\0';
	if (result)
		return result;
	if (guard->programs[0] < 0)
		return -EBADF;
	cleanup_close int cgroup_fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (cgroup_fd < 0)
		return kernel_fail(ret_error, -errno, "cgroup %s: %s", cgroup, strerror(errno));
	result = kernel_attach(guard->name, cgroup_fd, netns_fd, guard->programs, guard->links,
			       ret_error);
	if (!result)
		result = kernel_settle(guard->maps[MAP_LAYOUT], guard->maps[MAP_PEERS], cgroup_fd,
				       guard->programs);
	if (result)
		return result;
	if (guard->cgroup_fd >= 0)
		close(guard->cgroup_fd);
	guard->cgroup_fd = take_descriptor(&cgroup_fd);
	return 0;
}
