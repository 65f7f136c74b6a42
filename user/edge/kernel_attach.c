// SPDX-License-Identifier: BSD-2-Clause
/*
 * The guard in the kernel: its programs at their hooks, and moved to others. See kernel.h.
 *
 * In steps that each go over all hooks, so that a guard is never half in one place and half in
 * another, whoever is killed or fails on the way: first every new link is made, beside those that
 * there are, then all are pinned as NAME-new. So far nothing of what there is has changed, and it can
 * be taken back. Then links that stay get their new programs, the new ones take over the pins, and the
 * old ones go last. Until the last of them is pinned the old place is whole, from then on the new one
 * is. What is left over is used, or cleared, by the next load.
 *
 * Two links of one guard at one hook do no harm while it lasts: what the first program did for a
 * socket, the second finds done.
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
#include <linux/magic.h>

#include "base/cleanup.h"

/* A hook on its way: descriptors, -1 where there is none. */
struct attachment {
	char path[PIN_PATH_MAX];       /* the pin of the hook's link */
	char fresh_path[PIN_PATH_MAX]; /* NAME-new */
	int old;                       /* the link that is pinned at `path` */
	int stale;                     /* pinned at `fresh_path` by one that died, and of no use */
	int fresh;                     /* the new link; none: the old one is in the right place */
	int before;                    /* the program of a link that is used; none: it cannot be told */
	bool waits;                    /* `fresh` was pinned at `fresh_path` already: it is no new one */
	bool pinned;                   /* `fresh` is pinned at `fresh_path` now */
	bool updated;                  /* the link that is used has the new program */
};

/* A program of the guard at a cgroup without a link. */
struct unlinked_program {
	int program_fd, cgroup_fd;
	enum guard_hook hook;
};

struct unlinked {
	struct unlinked_program *list;
	size_t count;
};

struct attaching {
	struct attachment hooks[HOOK_COUNT];
	struct unlinked unlinked;
	bool renamed; /* a link has taken a pin over: there is no way back */
};

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void unlinked_free(struct unlinked *unlinked)
{
	for (size_t i = 0; i < unlinked->count; i++) {
		close(unlinked->list[i].program_fd);
		close(unlinked->list[i].cgroup_fd);
	}
	free(unlinked->list);
	*unlinked = (struct unlinked){};
}

static void attaching_free(struct attaching *attaching)
{
	for (int i = 0; i < HOOK_COUNT; i++) {
		const struct attachment *one = &attaching->hooks[i];

		close_if_open(one->old);
		close_if_open(one->stale);
		close_if_open(one->fresh);
		close_if_open(one->before);
	}
	unlinked_free(&attaching->unlinked);
	free(attaching);
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

/* The link of this place that is there already, -1: a new one is needed. */
static int link_in_place(const struct attachment *one)
{
	return one->waits ? one->fresh : one->fresh < 0 ? one->old : -1;
}

/* What is in this link now. -1: nothing, or it takes CAP_SYS_ADMIN to tell. */
static int program_in(int link_fd, enum guard_hook hook)
{
	__u64 target;
	__u32 program;

	return kernel_link_target(link_fd, hook, &target, &program) ? -1 : bpf_prog_get_fd_by_id(program);
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
	if (link_is_at(one->old, hook, place.st_ino)) {
		one->before = program_in(one->old, hook);
		return 0;
	}
	/* It may be all that enforces there by now: it is used rather than made anew. */
	if (link_is_at(one->stale, hook, place.st_ino)) {
		one->fresh = take_descriptor(&one->stale);
		one->before = program_in(one->fresh, hook);
		one->waits = true;
		return 0;
	}
	one->fresh = bpf_link_create(program_fd, target_fd, kernel_hooks[hook].type, NULL);
	return one->fresh < 0 ? attaching_fails(target_fd, hook, error) : 0;
}

/* Pin the new link beside the old one. */
static int attachment_pin(struct attachment *one, struct guard_error *error)
{
	if (link_in_place(one) >= 0)
		return 0;
	/* Its descriptor keeps it attached. */
	if (one->stale >= 0)
		unlink(one->fresh_path);
	if (bpf_obj_pin(one->fresh, one->fresh_path))
		return kernel_fail(error, -errno, "pinning %s: %s", one->fresh_path,
				   strerror(errno));
	one->pinned = true;
	return 0;
}

/* Put the program into a link that is in its place. */
static int attachment_update(struct attachment *one, int program_fd, struct guard_error *error)
{
	int link_fd = link_in_place(one);

	if (link_fd >= 0 && bpf_link_update(link_fd, program_fd, NULL))
		return kernel_fail(error, -errno, "replacing the program at %s: %s", one->path,
				   strerror(errno));
	one->updated = link_fd >= 0;
	return 0;
}

/* Take back what was done, as far as it was. */
static void attachment_undo(struct attachment *one)
{
	if (one->updated && one->before >= 0)
		bpf_link_update(link_in_place(one), one->before, NULL);
	if (one->fresh < 0 || one->waits)
		return;
	bpf_link_detach(one->fresh);
	if (one->pinned)
		unlink(one->fresh_path);
	/* As it was; -EEXIST: it still is. */
	if (one->stale >= 0)
		bpf_obj_pin(one->stale, one->fresh_path);
}

/* The new link takes the pin over. */
static int attachment_rename(struct attachment *one, struct guard_error *error)
{
	if (one->fresh >= 0 && rename(one->fresh_path, one->path))
		return kernel_fail(error, -errno, "pinning %s: %s", one->path, strerror(errno));
	return 0;
}

/* What is of no use goes. Returns the link that is in force, the caller's. */
static int attachment_finish(struct attachment *one)
{
	if (one->stale >= 0) {
		bpf_link_detach(one->stale);
		if (one->fresh < 0)
			unlink(one->fresh_path);
	}
	if (one->fresh < 0)
		return take_descriptor(&one->old);
	/* Not only unpinned: bpffs lets go of a link later, and until then both would decide. */
	if (one->old >= 0)
		bpf_link_detach(one->old);
	return take_descriptor(&one->fresh);
}

/* ---- programs without a link ---- */

/* One that cannot be remembered for want of memory or descriptors stays where it is. */
static void unlinked_add(struct unlinked *unlinked, __u32 id, int cgroup_fd, enum guard_hook hook)
{
	struct unlinked_program *longer =
		reallocarray(unlinked->list, unlinked->count + 1, sizeof(*longer));
	cleanup_close int own_fd = fcntl(cgroup_fd, F_DUPFD_CLOEXEC, 0);
	cleanup_close int program_fd = bpf_prog_get_fd_by_id(id);

	if (longer)
		unlinked->list = longer;
	if (!longer || own_fd < 0 || program_fd < 0)
		return;
	longer[unlinked->count++] = (struct unlinked_program){ .program_fd = take_descriptor(&program_fd),
							       .cgroup_fd = take_descriptor(&own_fd),
							       .hook = hook };
}

/* Whether one of the hook's links has this program. */
static bool is_linked(const struct attachment *one, enum guard_hook hook, __u32 id)
{
	const int links[] = { one->old, one->stale, one->fresh };
	__u64 target;
	__u32 program;

	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		if (links[i] >= 0 && kernel_link_target(links[i], hook, &target, &program) == 0 &&
		    program == id)
			return true;
	return false;
}

/*
 * The programs of the guard at this cgroup; `peers_id` says which are. But those in the links of `hooks` (HOOK_COUNT of
 * them; NULL: there are no links any more).
 */
static void unlinked_find(int cgroup_fd, __u32 peers_id, const struct attachment *hooks,
			  struct unlinked *unlinked)
{
	/* The hooks that make claims go first. */
	for (int hook = HOOK_COUNT - 1; hook >= 0; hook--) {
		__u32 ids[64], count = 64, flags = 0;

		if (hook == HOOK_SK_LOOKUP || bpf_prog_query(cgroup_fd, kernel_hooks[hook].type, 0,
							     &flags, ids, &count))
			continue;
		for (__u32 i = 0; i < count; i++)
			if (kernel_program_uses_map(ids[i], peers_id) &&
			    !(hooks && is_linked(&hooks[hook], hook, ids[i])))
				unlinked_add(unlinked, ids[i], cgroup_fd, hook);
	}
}

static void unlinked_detach(const struct unlinked *unlinked)
{
	for (size_t i = 0; i < unlinked->count; i++)
		/* Fails for a program attached by a link, which is not ours to break here. */
		bpf_prog_detach2(unlinked->list[i].program_fd, unlinked->list[i].cgroup_fd,
				 kernel_hooks[unlinked->list[i].hook].type);
}

void kernel_detach_unlinked(int cgroup_fd, __u32 peers_id)
{
	struct unlinked unlinked __attribute__((cleanup(unlinked_free))) = {};

	unlinked_find(cgroup_fd, peers_id, NULL, &unlinked);
	unlinked_detach(&unlinked);
}

/* Those at the cgroup where the guard goes, and where it was. */
static void find_all_unlinked(const struct guard *guard, int cgroup_fd, struct attaching *attaching)
{
	__u32 zero = 0, peers_id = kernel_map_id(guard->maps[MAP_PEERS]);
	cleanup_free char *left = NULL;
	struct guard_layout layout;
	struct stat place;

	unlinked_find(cgroup_fd, peers_id, attaching->hooks, &attaching->unlinked);
	if (fstat(cgroup_fd, &place) ||
	    bpf_map_lookup_elem(guard->maps[MAP_LAYOUT], &zero, &layout) ||
	    layout.cgroup_id == place.st_ino || kernel_path_of_cgroup(layout.cgroup_id, &left))
		return;
	cleanup_close int left_fd = open(left, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (left_fd >= 0)
		unlinked_find(left_fd, peers_id, attaching->hooks, &attaching->unlinked);
}

/* ---- all hooks ---- */

void kernel_attach_cancel(struct attaching **attaching)
{
	if (!*attaching)
		return;
	for (int i = 0; i < HOOK_COUNT && !(*attaching)->renamed; i++)
		attachment_undo(&(*attaching)->hooks[i]);
	attaching_free(take_pointer(*attaching));
}

int kernel_attach_prepare(const struct guard *guard, int cgroup_fd, int netns_fd,
			  struct attaching **ret_attaching, struct guard_error *error)
{
	struct attaching *attaching __attribute__((cleanup(kernel_attach_cancel))) =
		calloc(1, sizeof(*attaching));
	int result = 0;

	if (!attaching)
		return -ENOMEM;
	for (int i = 0; i < HOOK_COUNT; i++)
		attaching->hooks[i] =
			(struct attachment){ .old = -1, .stale = -1, .fresh = -1, .before = -1 };
	for (int i = 0; !result && i < HOOK_COUNT; i++)
		result = attachment_make(guard->name, i, i == HOOK_SK_LOOKUP ? netns_fd : cgroup_fd,
					 guard->programs[i], &attaching->hooks[i], error);
	for (int i = 0; !result && i < HOOK_COUNT; i++)
		result = attachment_pin(&attaching->hooks[i], error);
	if (result)
		return result;
	find_all_unlinked(guard, cgroup_fd, attaching);
	*ret_attaching = take_pointer(attaching);
	return 0;
}

int kernel_attach_commit(struct guard *guard, struct attaching **attaching, struct guard_error *error)
{
	struct attachment *hooks = (*attaching)->hooks;
	int result = 0;

	for (int i = 0; !result && i < HOOK_COUNT; i++)
		result = attachment_update(&hooks[i], guard->programs[i], error);
	for (int i = 0; !result && i < HOOK_COUNT; i++) {
		result = attachment_rename(&hooks[i], error);
		if (!result)
			(*attaching)->renamed = true;
	}
	if (result)
		return result;
	for (int i = 0; i < HOOK_COUNT; i++) {
		close_if_open(guard->links[i]);
		guard->links[i] = attachment_finish(&hooks[i]);
	}
	unlinked_detach(&(*attaching)->unlinked);
	attaching_free(take_pointer(*attaching));
	return 0;
}

int kernel_settle(const struct guard *guard, int cgroup_fd)
{
	struct guard_layout layout = {};
	__u32 zero = 0;
	struct stat place;

	if (bpf_map_lookup_elem(guard->maps[MAP_LAYOUT], &zero, &layout))
		return -errno;
	layout.version = CONNGUARD_LAYOUT;
	if (cgroup_fd >= 0) {
		if (fstat(cgroup_fd, &place))
			return -errno;
		layout.cgroup_id = place.st_ino;
	}
	return bpf_map_update_elem(guard->maps[MAP_LAYOUT], &zero, &layout, BPF_ANY) ? -errno : 0;
}

int guard_follow(struct guard *guard, const char *cgroup, int netns_fd,
		 struct guard_error *ret_error)
{
	struct attaching *attaching __attribute__((cleanup(kernel_attach_cancel))) = NULL;
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
	result = kernel_attach_prepare(guard, cgroup_fd, netns_fd, &attaching, ret_error);
	if (!result)
		result = kernel_attach_commit(guard, &attaching, ret_error);
	if (!result)
		result = kernel_settle(guard, cgroup_fd);
	if (result)
		return result;
	if (guard->cgroup_fd >= 0)
		close(guard->cgroup_fd);
	guard->cgroup_fd = take_descriptor(&cgroup_fd);
	return 0;
}
