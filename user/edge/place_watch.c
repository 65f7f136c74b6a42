// SPDX-License-Identifier: BSD-2-Clause
/* Paths that come and go. See place_watch.h. */
#include "edge/place_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/cleanup.h"

/* An entry comes or goes, or the directory itself does. */
#define EVENTS \
	(IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

struct place_watch {
	int epoll_fd;
	int inotify_fd;
	int mounts_fd;
	int descriptors[PLACE_WATCH_PATHS]; /* of inotify; -1: none */
};

void place_watch_close(struct place_watch *watch)
{
	if (!watch)
		return;
	if (watch->epoll_fd >= 0)
		close(watch->epoll_fd);
	if (watch->inotify_fd >= 0)
		close(watch->inotify_fd);
	if (watch->mounts_fd >= 0)
		close(watch->mounts_fd);
	free(watch);
}

static void place_watch_close_pointer(struct place_watch **watch)
{
	place_watch_close(*watch);
}

int place_watch_open(struct place_watch **ret_watch, int *ret_fd)
{
	struct place_watch *watch __attribute__((cleanup(place_watch_close_pointer))) =
		calloc(1, sizeof(*watch));
	struct epoll_event events = { .events = EPOLLIN };
	/* proc_pid_mountinfo(5): a change of the mounts is an exceptional condition of the file. */
	struct epoll_event exceptions = { .events = EPOLLPRI };

	if (!watch)
		return -ENOMEM;
	for (int i = 0; i < PLACE_WATCH_PATHS; i++)
		watch->descriptors[i] = -1;
	watch->inotify_fd = watch->mounts_fd = -1;
	watch->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (watch->epoll_fd < 0)
		return -errno;
	watch->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (watch->inotify_fd < 0)
		return -errno;
	watch->mounts_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	if (watch->mounts_fd < 0)
		return -errno;
	if (epoll_ctl(watch->epoll_fd, EPOLL_CTL_ADD, watch->inotify_fd, &events) ||
	    epoll_ctl(watch->epoll_fd, EPOLL_CTL_ADD, watch->mounts_fd, &exceptions))
		return -errno;
	*ret_fd = watch->epoll_fd;
	*ret_watch = take_pointer(watch);
	return 0;
}

/* Cut the path down to the directory that its last component is in; "/" stays. */
static void cut_component(char path[PATH_MAX])
{
	char *slash = strrchr(path, '/');

	if (slash == path || !slash)
		strcpy(path, "/");
	else
		*slash = '\0';
}

/* Watch this directory no more, unless another path needs it. */
static void forget(struct place_watch *watch, unsigned int index, int descriptor)
{
	for (unsigned int i = 0; i < PLACE_WATCH_PATHS; i++)
		if (i != index && watch->descriptors[i] == descriptor)
			return;
	inotify_rm_watch(watch->inotify_fd, descriptor);
}

int place_watch_path(struct place_watch *watch, unsigned int index, const char *path)
{
	char directory[PATH_MAX], deeper[PATH_MAX];
	int descriptor;

	if (snprintf(directory, sizeof(directory), "%s", path) >= (int)sizeof(directory))
		return -ENAMETOOLONG;
	do {
		cut_component(directory);
		descriptor = inotify_add_watch(watch->inotify_fd, directory, EVENTS);
	} while (descriptor < 0 && (errno == ENOENT || errno == ENOTDIR) &&
		 strcmp(directory, "/"));
	if (descriptor < 0)
		return -errno;
	/* The next component may have come before the watch was there: then that one is to be watched. */
	for (;;) {
		size_t length = strcmp(directory, "/") ? strlen(directory) : 0;
		const char *next = strchr(path + length + 1, '/');
		int found;

		if (!next)
			break;
		snprintf(deeper, sizeof(deeper), "%.*s", (int)(next - path), path);
		found = inotify_add_watch(watch->inotify_fd, deeper, EVENTS);
		if (found < 0)
			break;
		if (found != descriptor)
			forget(watch, index, descriptor);
		descriptor = found;
		strcpy(directory, deeper);
	}
	if (watch->descriptors[index] >= 0 && watch->descriptors[index] != descriptor)
		forget(watch, index, watch->descriptors[index]);
	watch->descriptors[index] = descriptor;
	return 0;
}

void place_watch_drain(struct place_watch *watch)
{
	struct epoll_event happened[2];
	char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));

	while (read(watch->inotify_fd, events, sizeof(events)) > 0)
		;
	/* To ask for it is to have heard of it: a change of the mounts is told once. */
	epoll_wait(watch->epoll_fd, happened, 2, 0);
}
