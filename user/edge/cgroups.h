/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The cgroup2 hierarchy: where it is mounted, and which cgroups are below which.
 *
 * Owns paths and ids of cgroups. Knows nothing of sockets, guards or BPF, makes and changes no
 * cgroup, logs nothing. An id is the number that sock_diag, bpf_get_current_cgroup_id() and a
 * cgroup directory's inode share. Functions return 0 or a negative errno.
 */
#ifndef EDGE_CGROUPS_H
#define EDGE_CGROUPS_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

/* Id of the root of the hierarchy: the first node the kernel makes of any hierarchy. */
#define CGROUP_ROOT_ID 1ULL

/*
 * Directory where cgroup2 is mounted in this mount namespace, from /proc/self/mountinfo:
 * /sys/fs/cgroup, /sys/fs/cgroup/unified in the hybrid layout, or anywhere. Where there are
 * several, one that shows the whole hierarchy. *ret_path is the caller's to free(). -ENODEV:
 * cgroup2 is not mounted; -ENOENT: /proc is not.
 */
int cgroups_mount_point(char **ret_path);

/*
 * Absolute path of the directory of the cgroup `below` ("/system.slice/timed.service", as in a
 * guard's configuration and in /proc/PID/cgroup; the leading slash may be missing; NULL, "" and
 * "/": the root). No slash at its end. *ret_absolute is the caller's to free(). -ENOENT: no such
 * cgroup; -ENOTDIR: a file of a cgroup, not a cgroup; -EINVAL: ".." in it; -EXDEV: something else
 * is mounted there; and as cgroups_mount_point().
 */
int cgroups_path(const char *below, char **ret_absolute);

/*
 * The same of a cgroup that need not be there yet: *ret_absolute is the caller's with -ENOENT too, unless it is /proc
 * that is missing (untouched then).
 */
int cgroups_place(const char *below, char **ret_absolute);

/* How much of an absolute path is there already: bytes of it, up to the deepest cgroup that is. 0: none of it. */
size_t cgroups_there(const char *absolute);

/* Id of the cgroup whose directory is `absolute`. -EXDEV: not on cgroup2; -ENOTDIR; -ENOENT. */
int cgroups_id_of_path(const char *absolute, __u64 *ret_id);

/*
 * Path of a cgroup below the mount point, as cgroups_path() takes it ("/" for the root). *ret_below
 * is the caller's to free(). -ENOENT: no such cgroup any more, or outside what the mount shows;
 * -EPERM: no CAP_DAC_READ_SEARCH in the initial user namespace.
 */
int cgroups_path_of_id(__u64 id, char **ret_below);

/*
 * The ids of a cgroup and all its descendants, as they were at the last refresh. NULL is the set of a cgroup that is not
 * there yet: it has none, and refreshing it is -ENODEV.
 */
struct cgroup_set;

/*
 * A set for the cgroup whose directory is `absolute` (cgroups_path()), filled once. It follows the
 * cgroup, not the path: one that is removed and made again is another cgroup. *ret_set is the
 * caller's: cgroup_set_close(). -EXDEV: not on cgroup2; -ENOTDIR; -ENOENT; -ENOMEM.
 */
int cgroup_set_open(const char *absolute, struct cgroup_set **ret_set);

/* NULL is allowed. */
void cgroup_set_close(struct cgroup_set *set);

/*
 * Fill the set anew. Cgroups removed meanwhile are left out without an error, as is the set's own
 * cgroup: -ENODEV then, and the set is as before. -ENOMEM, -EMFILE: the set is as before.
 */
int cgroup_set_refresh(struct cgroup_set *set);

/*
 * Whether the cgroup is in the set. The root's set has every id: also those of removed cgroups
 * whose sockets live on, and 0 (unknown). No other set has these.
 */
bool cgroup_set_contains(const struct cgroup_set *set, __u64 id);

/* Number of cgroups in the set; 1 for the root's, which is not counted out. */
size_t cgroup_set_count(const struct cgroup_set *set);

#endif
