/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which process holds a socket, from /proc.
 *
 * Owns the walk over /proc/PID/fd. Knows nothing of TCP, peers or guards, logs nothing. For a
 * person's question (`explain`, `peers`) and for the log: never on a path that decides.
 */
#ifndef EDGE_PROCESSES_H
#define EDGE_PROCESSES_H

#include <stddef.h>

#include <linux/types.h>

#include <connguard/abi.h>

/*
 * Descriptors that one walk looks at, at most: it must end in seconds on any host. What it has not
 * met by then stays unknown.
 */
#define PROCESSES_DESCRIPTORS_MAX (1U << 20)

/* A process, as seen from this PID namespace. */
struct process_info {
	__u32 process_id;             /* 0: unknown */
	char command[COMMAND_LENGTH]; /* comm of its main thread, NUL-terminated; empty: unknown */
};

/*
 * Fill ret_processes[i] with the process that holds the socket whose inode is inodes[i] (0:
 * nobody's, stays unknown), for `count` sockets in one walk. Of several processes that share a
 * socket the lowest-numbered one is named, commonly the parent. Processes we may not look into, and
 * threads with a descriptor table of their own, hold nothing here. Every element is written.
 * Returns how many are known, or a negative errno: -ENOENT /proc is not mounted, -ENOMEM.
 */
int processes_of_sockets(const __u32 *inodes, size_t count, struct process_info *ret_processes);

#endif
