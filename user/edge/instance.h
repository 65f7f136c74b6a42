/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who loads, runs or removes a guard does so alone: a lock on a file which goes when the process
 * ends, however it ends.
 *
 * Owns the file PROTOCOL_RUN_DIRECTORY/NAME.lock. Knows nothing of guards, logs nothing. Functions
 * return 0 or a negative errno.
 */
#ifndef EDGE_INSTANCE_H
#define EDGE_INSTANCE_H

#include <stdbool.h>

struct instance {
	char path[128]; /* of the lock; "": not tried yet */
	int fd;         /* -1: not locked */
};

/* Not locked. */
#define INSTANCE_NONE { .fd = -1 }

/*
 * Lock the guard `name` for this process. -EWOULDBLOCK: another process has it. `instance->path` says
 * what it is about, also on failure.
 */
int instance_lock(const char *name, struct instance *instance);

/* Let go, if it is locked, and remove the file. */
void instance_unlock(struct instance *instance);

#endif
