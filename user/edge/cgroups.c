/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The cgroup2 hierarchy: mount point, paths, ids, descendants. See cgroups.h.
 */
#include "edge/cgroups.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include "base/cleanup.h"

/* FILEID_KERNFS of include/linux/exportfs.h: a file handle that is a kernfs id and nothing else. */
#define KERNFS_HANDLE_TYPE 0xfe

/* Deeper than any path of PATH_MAX bytes can name, so that a walk ends whatever is mounted. */
#define DEPTH_MAX (PATH_MAX / 2)

struct cgroup_set {
	int directory;  /* the cgroup, O_PATH */
	__u64 id;       /* its id */
	__u64 *members; /* ascending */
	size_t count;
};

/* A file handle with room for a kernfs id. */
union kernfs_handle {
	struct file_handle handle;
	unsigned char room[sizeof(struct file_handle) + sizeof(__u64)];
};

/* ---- mount point ----------------------------------------------------------------------------- */

/* Undo the octal escapes of mountinfo (\040 for a space) in place. */
static void unescape(char *text)
{
	char *to = text;

	while (*text) {
		if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' &&
		    text[2] <= '7' && text[3] >= '0' && text[3] <= '7') {
			*to++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 |
				       (text[3] - '0'));
			text += 4;
		} else {
			*to++ = *text++;
		}
	}
	*to = '\0';
}

/*
 * The root and the mount point of one line of mountinfo, when it is cgroup2. The fields are, by
 * proc_pid_mountinfo(5): id, parent, device, root, mount point, options, any number of optional
 * ones, "-", type, source, options. The line is taken apart in place.
 */
static bool mountinfo_cgroup2(char *line, char **ret_root, char **ret_mount_point)
{
	char *fields[5], *rest = line, *separator;
	size_t i;

	separator = strstr(line, " - ");
	if (!separator || strncmp(separator, " - cgroup2 ", strlen(" - cgroup2 ")))
		return false;
	for (i = 0; i < 5; i++) {
		fields[i] = strsep(&rest, " ");
		if (!rest)
			return false;
	}
	unescape(fields[3]);
	unescape(fields[4]);
	*ret_root = fields[3];
	*ret_mount_point = fields[4];
	return true;
}

int cgroups_mount_point(char **ret_path)
{
	cleanup_free char *line = NULL, *found = NULL;
	cleanup_fclose FILE *file = NULL;
	char *root, *mount_point;
	bool whole = false;
	size_t room = 0;

	file = fopen("/proc/self/mountinfo", "re");
	if (!file)
		return -errno;
	while (!whole && getline(&line, &room, file) >= 0) {
		if (!mountinfo_cgroup2(line, &root, &mount_point))
			continue;
		whole = !strcmp(root, "/");
		if (found && !whole)
			continue;
		free(found);
		found = strdup(mount_point);
		if (!found)
			return -ENOMEM;
	}
	if (ferror(file))
		return -EIO;
	if (!found)
		return -ENODEV;
	*ret_path = take_pointer(found);
	return 0;
}

/* ---- paths and ids --------------------------------------------------------------------------- */

/* Open a cgroup's directory, O_PATH. Returns the descriptor or a negative errno. */
static int cgroup_open(const char *absolute)
{
	struct statfs filesystem;
	cleanup_close int fd = -1;

	fd = open(absolute, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstatfs(fd, &filesystem) < 0)
		return -errno;
	if (filesystem.f_type != CGROUP2_SUPER_MAGIC)
		return -EXDEV;
	return take_descriptor(&fd);
}

/*
 * The id of an open cgroup. By file handle rather than by st_ino, which a 32-bit ino_t cuts off.
 */
static int cgroup_id(int fd, __u64 *ret_id)
{
	union kernfs_handle handle = { .handle.handle_bytes = sizeof(__u64) };
	int mount_id;

	if (name_to_handle_at(fd, "", &handle.handle, &mount_id, AT_EMPTY_PATH) < 0)
		return -errno;
	if (handle.handle.handle_bytes != sizeof(*ret_id))
		return -EOPNOTSUPP;
	memcpy(ret_id, handle.handle.f_handle, sizeof(*ret_id));
	return 0;
}

/* Whether a component of the path is "..". */
static bool path_climbs(const char *path)
{
	size_t length;

	for (; *path; path += length) {
		path += strspn(path, "/");
		length = strcspn(path, "/");
		if (length == 2 && !strncmp(path, "..", 2))
			return true;
	}
	return false;
}

int cgroups_place(const char *below, char **ret_absolute)
{
	cleanup_free char *mount_point = NULL, *absolute = NULL;
	cleanup_close int fd = -1;
	size_t end;
	int error;

	if (!below)
		below = "";
	if (path_climbs(below))
		return -EINVAL;
	below += strspn(below, "/");
	error = cgroups_mount_point(&mount_point);
	if (error)
		return error;
	if (asprintf(&absolute, "%s/%s", mount_point, below) < 0) {
		absolute = NULL;
		return -ENOMEM;
	}
	for (end = strlen(absolute); end > 1 && absolute[end - 1] == '/'; end--)
		absolute[end - 1] = '\0';

	fd = cgroup_open(absolute);
	if (fd < 0 && fd != -ENOENT)
		return fd;
	*ret_absolute = take_pointer(absolute);
	return fd < 0 ? fd : 0;
}

int cgroups_path(const char *below, char **ret_absolute)
{
	char *absolute = NULL;
	int error = cgroups_place(below, &absolute);

	if (error)
		free(absolute);
	else
		*ret_absolute = absolute;
	return error;
}

size_t cgroups_there(const char *absolute)
{
	cleanup_free char *part = strdup(absolute);
	char *slash;

	if (!part)
		return 0;
	for (;;) {
		cleanup_close int fd = cgroup_open(part);

		if (fd >= 0)
			return strlen(part);
		slash = strrchr(part, '/');
		if (!slash)
			return 0;
		*slash = '\0';
	}
}

int cgroups_id_of_path(const char *absolute, __u64 *ret_id)
{
	cleanup_close int fd = cgroup_open(absolute);

	return fd < 0 ? fd : cgroup_id(fd, ret_id);
}

/* The path of an open directory below the mount point, which it must be below. */
static int path_below(int fd, const char *mount_point, char **ret_below)
{
	char link[64], path[PATH_MAX];
	const char *below;
	size_t prefix;
	ssize_t length;
	char *copy;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path));
	if (length < 0)
		return -errno;
	if ((size_t)length == sizeof(path))
		return -ENAMETOOLONG;
	path[length] = '\0';

	prefix = strcmp(mount_point, "/") ? strlen(mount_point) : 0;
	if (strncmp(path, mount_point, prefix) || (path[prefix] && path[prefix] != '/'))
		return -ENOENT;
	below = path[prefix] ? path + prefix : "/";
	copy = strdup(below);
	if (!copy)
		return -ENOMEM;
	*ret_below = copy;
	return 0;
}

int cgroups_path_of_id(__u64 id, char **ret_below)
{
	union kernfs_handle handle = {
		.handle = { .handle_bytes = sizeof(id), .handle_type = KERNFS_HANDLE_TYPE },
	};
	cleanup_free char *mount_point = NULL;
	cleanup_close int mount_fd = -1, fd = -1;
	int error;

	error = cgroups_mount_point(&mount_point);
	if (error)
		return error;
	memcpy(handle.handle.f_handle, &id, sizeof(id));
	/* The kernel does not take an O_PATH descriptor for the mount. */
	mount_fd = open(mount_point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (mount_fd < 0)
		return -errno;
	fd = open_by_handle_at(mount_fd, &handle.handle, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		/* ESTALE: no such node. ENOTDIR: the id of a file of a cgroup. */
		return errno == ESTALE || errno == ENOTDIR ? -ENOENT : -errno;
	/* Linux 5.10 opens a removed cgroup too; its files are gone. */
	if (faccessat(fd, "cgroup.procs", F_OK, 0) < 0)
		return -ENOENT;
	return path_below(fd, mount_point, ret_below);
}

/* ---- sets ------------------------------------------------------------------------------------ */

static int compare_ids(const void *left, const void *right)
{
	__u64 a = *(const __u64 *)left, b = *(const __u64 *)right;

	return a < b ? -1 : a > b;
}

/* What a walk has found so far. */
struct found_ids {
	__u64 *ids;
	size_t count;
	size_t capacity;
};

static int found_add(struct found_ids *found, __u64 id)
{
	size_t capacity = found->capacity ? found->capacity * 2 : 64;
	__u64 *ids;

	if (found->count == found->capacity) {
		ids = reallocarray(found->ids, capacity, sizeof(*ids));
		if (!ids)
			return -ENOMEM;
		found->ids = ids;
		found->capacity = capacity;
	}
	found->ids[found->count++] = id;
	return 0;
}

/*
 * Add the cgroup `name` in `parent` and all below it. One that is removed under our hands is left
 * out: reading a removed directory shows nothing, opening it says ENOENT or ENODEV.
 */
static int found_walk(struct found_ids *found, int parent, const char *name, unsigned int depth)
{
	cleanup_close int fd = -1;
	struct dirent *entry;
	DIR *directory;
	__u64 id;
	int error;

	if (depth > DEPTH_MAX)
		return -ELOOP;
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ENODEV ? 0 : -errno;
	error = cgroup_id(fd, &id);
	if (!error)
		error = found_add(found, id);
	if (error)
		return error;
	directory = fdopendir(fd);
	if (!directory)
		return -errno;
	take_descriptor(&fd);
	while (!error) {
		errno = 0;
		entry = readdir(directory);
		if (!entry) {
			error = errno == ENOENT || errno == ENODEV ? 0 : -errno;
			break;
		}
		/* Kernfs always fills d_type in; files of a cgroup are the many. */
		if (entry->d_type == DT_DIR && strcmp(entry->d_name, ".") &&
		    strcmp(entry->d_name, ".."))
			error = found_walk(found, dirfd(directory), entry->d_name, depth + 1);
	}
	closedir(directory);
	return error;
}

int cgroup_set_refresh(struct cgroup_set *set)
{
	struct found_ids found = { 0 };
	int error;

	if (!set)
		return -ENODEV;
	/* A removed cgroup can still be opened and read by our descriptor; its files are gone. */
	if (faccessat(set->directory, "cgroup.procs", F_OK, 0) < 0)
		return errno == ENOENT ? -ENODEV : -errno;
	/* Everything is below the root, for good. */
	if (set->id == CGROUP_ROOT_ID)
		error = found_add(&found, set->id);
	else
		error = found_walk(&found, set->directory, ".", 0);
	if (error) {
		free(found.ids);
		return error;
	}
	if (found.count)
		qsort(found.ids, found.count, sizeof(*found.ids), compare_ids);
	free(set->members);
	set->members = found.ids;
	set->count = found.count;
	return 0;
}

int cgroup_set_open(const char *absolute, struct cgroup_set **ret_set)
{
	struct cgroup_set *set;
	int error;

	set = calloc(1, sizeof(*set));
	if (!set)
		return -ENOMEM;
	set->directory = cgroup_open(absolute);
	if (set->directory < 0) {
		error = set->directory;
		free(set);
		return error;
	}
	error = cgroup_id(set->directory, &set->id);
	if (!error)
		error = cgroup_set_refresh(set);
	if (error) {
		cgroup_set_close(set);
		return error;
	}
	*ret_set = set;
	return 0;
}

void cgroup_set_close(struct cgroup_set *set)
{
	if (!set)
		return;
	close(set->directory);
	free(set->members);
	free(set);
}

bool cgroup_set_contains(const struct cgroup_set *set, __u64 id)
{
	if (!set)
		return false;
	if (set->id == CGROUP_ROOT_ID)
		return true;
	return bsearch(&id, set->members, set->count, sizeof(id), compare_ids) != NULL;
}

size_t cgroup_set_count(const struct cgroup_set *set)
{
	return set ? set->count : 0;
}
