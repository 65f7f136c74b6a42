/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files kernel*.c share, and nobody else sees: what a guard is made of, and small steps on
 * objects of the kernel. See kernel.h for the whole.
 *
 *     kernel.c         names, texts, paths; looking at objects of the kernel; open and close
 *     kernel_load.c    load, take over, pin, remove
 *     kernel_attach.c the programs at their hooks, and moved to others
 *     kernel_hooks.c   what the kernel offers, and what is in force at its hooks
 *     kernel_maps.c    read and write the maps, commands, events
 */
#ifndef EDGE_KERNEL_PARTS_H
#define EDGE_KERNEL_PARTS_H

#include <stdarg.h>

#include "edge/kernel.h"

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
	MAP_REVIVAL,
	MAP_SYNS,
	MAP_HELD_SYNS,
	MAP_HANDSHAKE_KEY,
	MAP_LISTENERS,
	MAP_LISTENING,
	MAP_OWN,
	MAP_NETWORKS,
	MAP_COUNT,
};

extern const char *const kernel_map_names[MAP_COUNT];

/* Bytes of a key and of a value of each, as bpf/maps.bpf.h has them. */
struct kernel_map_sizes {
	__u32 key, value;
};

extern const struct kernel_map_sizes kernel_map_sizes[MAP_COUNT];

/* A hook, the program for it and where it goes. */
struct kernel_hook {
	const char *name;    /* of the pin links/NAME */
	const char *program; /* function name in bpf/ */
	enum bpf_attach_type type;
};

extern const struct kernel_hook kernel_hooks[HOOK_COUNT];

/* Programs that this process runs over the sockets, or the descriptors, if the kernel has the means. */
enum guard_iterator {
	ITERATOR_ADOPT,
	ITERATOR_NUDGE,
	ITERATOR_HOLDERS,
	ITERATOR_COUNT,
};

/* Programs on their way to their hooks: kernel_attach.c's alone. */
struct attaching;

struct guard {
	char name[GUARD_NAME_MAX + 1];
	int maps[MAP_COUNT];
	int command_fd;
	int look_fd; /* -1: this process did not load the guard */
	/* -1: this process did not load the guard, or the kernel has no iterators */
	int iterators[ITERATOR_COUNT];
	/*
	 * What this process has put at the hooks, and the links that hold it there: they stay attached
	 * as long as it lives, whatever becomes of the pins. -1: it did not load the guard.
	 */
	int programs[HOOK_COUNT];
	int links[HOOK_COUNT];
	int cgroup_fd; /* where they are, or will be; -1: as above, or nowhere yet */
	bool unattached; /* guard_attach() is still to come */
	struct attaching *attaching; /* what it finishes; NULL: nothing */
	__u32 max_peers;
	struct ring_buffer *ring;
	unsigned int drained; /* events, in the guard_events_drain() under way */
	guard_event_handler handler;
	void *handler_argument;
};

/* Fill in the text, return `code`. */
__attribute__((format(printf, 3, 4))) int kernel_fail(struct guard_error *error, int code,
						      const char *format, ...);

/*
 * Path of a pin of the guard `name`: `entry` in the directory `below`. "": of that directory; both
 * "": of the guard's own.
 */
void kernel_pin_path(char path[PIN_PATH_MAX], const char *name, const char *below,
		     const char *entry);

/*
 * Let libbpf say nothing by itself. What it would have said last of an error, for the operator, is
 * kernel_last_words().
 */
void kernel_hush(void);
const char *kernel_last_words(void);

/* A guard of which nothing is open yet; the caller's (guard_close()). NULL: no memory. */
struct guard *kernel_guard_new(const char *name);

/*
 * Whether a pinned map has keys and values as this build has them. -EPROTO: it has not, and `error` names it by
 * `path`.
 */
int kernel_map_check(int map_fd, enum guard_map map, const char *path, struct guard_error *error);

/* bpffs is not mounted in its place in this mount namespace: the text that says so. -ENOENT. */
int kernel_bpffs_missing(struct guard_error *error);

/* 1 when this process sees the mounts of the host. */
bool kernel_in_host_mount_namespace(void);

/* The pinned layout. -ENOENT: nothing is pinned under the name; -EPROTO: a value of another size. */
int kernel_layout_read(const char *name, struct guard_layout *ret_layout);

/* The layout of an open guard. -ENOENT: the guard has been removed since. */
int kernel_layout_of(const struct guard *guard, struct guard_layout *ret_layout);

/*
 * -EPROTO, and why what is pinned is not a guard of this version. `layout` NULL: its layout word has
 * another size.
 */
int kernel_other_layout(const char *name, const struct guard_layout *layout,
			struct guard_error *error);

/* Kernel id of an open program or map; 0: it cannot be told. */
__u32 kernel_program_id(int program_fd);
__u32 kernel_map_id(int map_fd);

/*
 * 1 when the program `id` uses the map `map_id`: that is how a program of an earlier load of this
 * guard is known. Takes CAP_SYS_ADMIN: without it the answer is no.
 */
bool kernel_program_uses_map(__u32 id, __u32 map_id);

/*
 * Where the pinned link of a hook is attached: cgroup id or namespace inode, and with which
 * program. 0: detached.
 */
int kernel_link_target(int link_fd, enum guard_hook hook, __u64 *ret_target, __u32 *ret_program);

/* Absolute path of the cgroup, or a negative errno; id 0 is none (-ENOENT). *ret_path is the caller's. */
int kernel_path_of_cgroup(__u64 id, char **ret_path);

/* ---- kernel_attach.c ---- */

/*
 * Make ready to put the programs of the guard at their hooks, at this cgroup and network namespace, through pinned
 * links: at a place where there is no link of the hook's there is one from now on, pinned beside the old one. What was
 * there goes on as it was. If not all can be made ready nothing has changed. *ret_attaching is the caller's, for one of
 * those below.
 */
int kernel_attach_prepare(const struct guard *guard, int cgroup_fd, int netns_fd,
			  struct attaching **ret_attaching, struct guard_error *error);

/*
 * Do it. A link that is pinned and in its place gets the new program; else the new link takes the pin over, and the old
 * one is detached. Programs of the guard that somebody has attached without a link (bpftool) go, here and where the
 * guard was before. guard->links takes the links that are in force; what was in it is closed. On success *attaching
 * is NULL. A failure is left to kernel_attach_cancel().
 */
int kernel_attach_commit(struct guard *guard, struct attaching **attaching, struct guard_error *error);

/* Take back what was made ready, and give back what it holds. NULL is allowed. */
void kernel_attach_cancel(struct attaching **attaching);

/*
 * Detach programs of this guard that somebody attached to the cgroup without a link: its own links are detached.
 * `peers_id` says which are ours.
 */
void kernel_detach_unlinked(int cgroup_fd, __u32 peers_id);

/*
 * All of the guard is in its place: the layout word says so, and at which cgroup it is. cgroup_fd -1: nowhere yet, or
 * where it was.
 */
int kernel_settle(const struct guard *guard, int cgroup_fd);

#endif
