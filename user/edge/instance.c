// SPDX-License-Identifier: BSD-2-Clause
/* One process a guard. See instance.h. */
#include "edge/instance.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <connguard/protocol.h>
#include <linux/mount.h>

#include "base/cleanup.h"
#include "edge/kernel.h"

/* How often a lock is made anew when others remove it, or the directory that it is in. */
#define ATTEMPTS 100

/* One that was removed after it was opened locks nobody out. */
static bool is_there(const struct instance_lock *lock, int fd)
{
	struct stat locked, named;

	return fstat(fd, &locked) == 0 && stat(lock->path, &named) == 0 && named.st_dev == locked.st_dev &&
	       named.st_ino == locked.st_ino;
}

static int open_run(const char *path)
{
	int fd;

	if (mkdir(PROTOCOL_RUN_DIRECTORY, 0755) && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

/*
 * -ENOENT: whoever ends takes the directories along, perhaps right now. It is opened through a copy of its mount
 * (open_tree(2), Linux 5.2, for who may mount), where that can be had: the lock is on the directory all the same, and
 * keeps nobody from unmounting what all see.
 */
static int open_pins(const char *path)
{
	int fd;

	if ((mkdir(PIN_ROOT, 0755) && errno != EEXIST) || (mkdir(path, 0700) && errno != EEXIST))
		return -errno;
	cleanup_close int copy =
		(int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	fd = openat(copy < 0 ? AT_FDCWD : copy, copy < 0 ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int take(struct instance_lock *lock, int (*open_lock)(const char *path))
{
	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		cleanup_close int fd = open_lock(lock->path);

		if (fd == -ENOENT)
			continue;
		if (fd < 0)
			return fd;
		if (flock(fd, LOCK_EX | LOCK_NB))
			return -errno;
		if (is_there(lock, fd)) {
			lock->fd = take_descriptor(&fd);
			return 0;
		}
	}
	return -ENOENT;
}

/* The name goes first: who comes then makes another, and waits for nobody. */
static void let_go(struct instance_lock *lock, int (*remove_lock)(const char *path))
{
	if (lock->fd < 0)
		return;
	if (is_there(lock, lock->fd))
		remove_lock(lock->path);
	close(lock->fd);
	lock->fd = -1;
}

int instance_lock(const char *name, struct instance *instance)
{
	int result;

	snprintf(instance->run.path, sizeof(instance->run.path), PROTOCOL_RUN_DIRECTORY "/%s.lock", name);
	snprintf(instance->pins.path, sizeof(instance->pins.path), PIN_ROOT "/%s:lock", name);
	instance->path = instance->run.path;
	result = take(&instance->run, open_run);
	if (result || !guard_bpffs_mounted())
		return result;
	instance->path = instance->pins.path;
	result = take(&instance->pins, open_pins);
	if (result)
		let_go(&instance->run, unlink);
	return result;
}

int instance_keep(struct instance *instance)
{
	struct instance_lock fresh = { .fd = -1 };
	int result;

	if (instance->pins.fd >= 0 && is_there(&instance->pins, instance->pins.fd))
		return 0;
	if (!guard_bpffs_mounted())
		return -ENOENT;
	snprintf(fresh.path, sizeof(fresh.path), "%s", instance->pins.path);
	result = take(&fresh, open_pins);
	if (result)
		return result;
	if (instance->pins.fd >= 0)
		close(instance->pins.fd);
	instance->pins = fresh;
	return 0;
}

void instance_unlock(struct instance *instance)
{
	let_go(&instance->pins, rmdir);
	let_go(&instance->run, unlink);
	/* The last guard takes the common directory along. */
	if (*instance->pins.path)
		rmdir(PIN_ROOT);
}
