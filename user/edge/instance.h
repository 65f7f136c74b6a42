/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who loads, runs or removes a guard does so alone: locks which go when the process ends, however it ends.
 *
 * Owns two of them. PROTOCOL_RUN_DIRECTORY/NAME.lock is a file, and stands for the control socket beside it.
 * PIN_ROOT/NAME:lock is a directory of the bpf file system, where there are no files that could be locked and no
 * names with a dot, and stands for the pins beside it: whoever sees the same pins sees it, also one whose /run is
 * his own. Knows nothing of guards, logs nothing. Functions return 0 or a negative errno.
 */
#ifndef EDGE_INSTANCE_H
#define EDGE_INSTANCE_H

#include <stdbool.h>

/* Room for the path of a lock. */
#define INSTANCE_PATH_MAX 128

/* A lock, or none. */
struct instance_lock {
	char path[INSTANCE_PATH_MAX]; /* "": not tried yet */
	int fd;                       /* -1: not locked */
};

struct instance {
	struct instance_lock run, pins;
	const char *path; /* of the lock that was tried last; NULL: none was */
};

/* Not locked. */
#define INSTANCE_NONE { .run = { .fd = -1 }, .pins = { .fd = -1 } }

/*
 * Lock the guard `name` for this process. -EWOULDBLOCK: another process has it. `instance->path` says
 * what it is about, also on failure. Where there is no bpf file system there are no pins to lock.
 */
int instance_lock(const char *name, struct instance *instance);

/*
 * Is the lock of the pins still ours? Its directory may have been removed, or the bpf file system mounted anew: then
 * it is made again. -EWOULDBLOCK: another process has locked them meanwhile; -ENOENT: there is no bpf file system.
 */
int instance_keep(struct instance *instance);

/* Let go, if it is locked, and remove what was locked. */
void instance_unlock(struct instance *instance);

#endif
