/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which process holds a socket. See processes.h.
 */
#include "edge/processes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

/* A socket that is looked for, in an array ordered by inode. */
struct wanted {
	__u32 inode;
	bool found;
	size_t index; /* in the caller's arrays */
};

/* A walk over /proc. */
struct walk {
	struct wanted *wanted;
	size_t wanted_count;
	size_t missing;           /* elements of `wanted` not found yet */
	unsigned int descriptors; /* that may still be looked at */
	struct process_info *processes;
};

static int compare_wanted(const void *left, const void *right)
{
	const struct wanted *a = left, *b = right;

	return a->inode < b->inode ? -1 : a->inode > b->inode;
}

/* comm of a process below its directory in /proc; left empty when it has gone. */
static void command_read(int process, char *ret_command)
{
	cleanup_close int fd = -1;
	ssize_t length;

	fd = openat(process, "comm", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	length = read(fd, ret_command, COMMAND_LENGTH - 1);
	ret_command[length < 0 ? 0 : length] = '\0';
	ret_command[strcspn(ret_command, "\n")] = '\0';
}

/* Note that the process holds the socket `inode`. */
static void walk_found(struct walk *walk, __u32 inode, const struct process_info *info)
{
	struct wanted key = { .inode = inode }, *match, *end = walk->wanted + walk->wanted_count;

	match = bsearch(&key, walk->wanted, walk->wanted_count, sizeof(key), compare_wanted);
	if (!match)
		return;
	/* One socket may be asked for several times. */
	while (match > walk->wanted && match[-1].inode == inode)
		match--;
	for (; match < end && match->inode == inode; match++) {
		if (match->found)
			continue;
		match->found = true;
		walk->missing--;
		walk->processes[match->index] = *info;
	}
}

/* Look at one process's descriptors. One that ends meanwhile, or is not ours to see, has none. */
static void walk_process(struct walk *walk, int proc, __u32 process_id)
{
	struct process_info info = { .process_id = process_id };
	cleanup_close int process = -1, descriptors = -1;
	struct dirent *entry;
	char name[16], target[64];
	DIR *directory;
	ssize_t length;
	unsigned long inode;
	char *end;

	snprintf(name, sizeof(name), "%u", process_id);
	process = openat(proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (process < 0)
		return;
	descriptors = openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (descriptors < 0)
		return;
	directory = fdopendir(descriptors);
	if (!directory)
		return;
	take_descriptor(&descriptors);
	command_read(process, info.command);
	while (walk->missing && walk->descriptors && (entry = readdir(directory))) {
		if (entry->d_name[0] == '.')
			continue;
		walk->descriptors--;
		length = readlinkat(dirfd(directory), entry->d_name, target, sizeof(target) - 1);
		if (length < 0)
			continue;
		target[length] = '\0';
		if (strncmp(target, "socket:[", strlen("socket:[")))
			continue;
		inode = strtoul(target + strlen("socket:["), &end, 10);
		/* sock_diag has but 32 bits of it. */
		if (*end == ']')
			walk_found(walk, (__u32)inode, &info);
	}
	closedir(directory);
}

int processes_of_sockets(const __u32 *inodes, size_t count, struct process_info *ret_processes)
{
	cleanup_free struct wanted *wanted = NULL;
	struct walk walk = {
		.descriptors = PROCESSES_DESCRIPTORS_MAX,
		.processes = ret_processes,
	};
	unsigned long process_id;
	struct dirent *entry;
	bool procfs = false;
	DIR *proc;
	char *end;
	size_t i;

	for (i = 0; i < count; i++)
		ret_processes[i] = (struct process_info){ 0 };
	wanted = calloc(count + 1, sizeof(*wanted));
	if (!wanted)
		return -ENOMEM;
	for (i = 0; i < count; i++)
		if (inodes[i])
			wanted[walk.wanted_count++] = (struct wanted){
				.inode = inodes[i],
				.index = i,
			};
	if (!walk.wanted_count)
		return 0;
	qsort(wanted, walk.wanted_count, sizeof(*wanted), compare_wanted);
	walk.wanted = wanted;
	walk.missing = walk.wanted_count;

	proc = opendir("/proc");
	if (!proc)
		return -errno;
	/* Procfs shows processes in ascending order. */
	while (walk.missing && walk.descriptors && (entry = readdir(proc))) {
		process_id = strtoul(entry->d_name, &end, 10);
		if (end == entry->d_name || *end)
			continue;
		procfs = true;
		walk_process(&walk, dirfd(proc), (__u32)process_id);
	}
	closedir(proc);
	return procfs ? (int)(walk.wanted_count - walk.missing) : -ENOENT;
}
