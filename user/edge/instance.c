// SPDX-License-Identifier: BSD-2-Clause
/* One process a guard. See instance.h. */
#include "edge/instance.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <connguard/protocol.h>

#include "base/cleanup.h"

int instance_lock(const char *name, struct instance *instance)
{
	struct stat locked, named;

	snprintf(instance->path, sizeof(instance->path), PROTOCOL_RUN_DIRECTORY "/%s.lock", name);
	if (mkdir(PROTOCOL_RUN_DIRECTORY, 0755) && errno != EEXIST)
		return -errno;
	for (;;) {
		cleanup_close int fd =
			open(instance->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

		if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) || fstat(fd, &locked))
			return -errno;
		/* One that was removed between open() and flock() locks nobody out. */
		if (stat(instance->path, &named) == 0 && named.st_ino == locked.st_ino) {
			instance->fd = take_descriptor(&fd);
			return 0;
		}
	}
}

void instance_unlock(struct instance *instance)
{
	if (instance->fd < 0)
		return;
	unlink(instance->path);
	close(instance->fd);
	instance->fd = -1;
}
