/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Wakes a process when a path may have come or gone: a cgroup that is removed and made again with
 * its service, a network namespace that gets a new one under its name.
 *
 * Owns the descriptors for that. It says that something has happened, not what: look at the path.
 * What it cannot see (a file system that tells nobody) a look once a second must find. Knows nothing
 * of guards, logs nothing. Functions return 0 or a negative errno.
 */
#ifndef EDGE_PLACE_WATCH_H
#define EDGE_PLACE_WATCH_H

struct place_watch;

/*
 * Watch no path yet, but the mounts of this mount namespace. *ret_watch is the caller's
 * (place_watch_close), *ret_fd polls readable when something has happened.
 */
int place_watch_open(struct place_watch **ret_watch, int *ret_fd);

/* NULL is allowed. */
void place_watch_close(struct place_watch *watch);

/* Paths that can be watched at a time. */
#define PLACE_WATCH_PATHS 2

/*
 * Watch the absolute `path` (which need not exist) as the number `index`, below PLACE_WATCH_PATHS:
 * the directory that it is in, or as much of the way to that as there is. To be called again after
 * each event, since the way changes; and before looking at the path, so that nothing falls in
 * between.
 */
int place_watch_path(struct place_watch *watch, unsigned int index, const char *path);

/* The events so far have been heard. */
void place_watch_drain(struct place_watch *watch);

#endif
