/* SPDX-License-Identifier: BSD-2-Clause */
/* Sockets by cookie and inode, processes by inode: see holders.h. */
#include "edge/holders.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <connguard/rules.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "edge/processes.h"

/* A walk that has worked for longer is not made for each question, but rests for so many times as long. */
#define CHEAP_NS (2 * NS_PER_MS)
#define REST_RATIO 40

/* By sock_diag, whose list is ascending by cookie, and /proc. */
static int read_from_proc(struct sockets *sockets, const __u16 *ports, size_t port_count,
			  struct socket_holder **ret_holders, size_t *ret_count)
{
	cleanup_free struct tcp_socket *list = NULL;
	cleanup_free __u32 *inodes = NULL;
	cleanup_free struct process_info *processes = NULL;
	cleanup_free struct socket_holder *holders = NULL;
	size_t listed = 0, wanted = 0, known = 0, i;
	int error = 0;

	/* Without a port nothing is guarded. */
	if (port_count)
		error = sockets_list(sockets, SOCKET_STATES_LINK | SOCKET_STATES_DIAL, ports, port_count,
				     &list, &listed);
	if (error)
		return error;
	for (i = 0; i < listed; i++)
		if (list[i].inode)
			list[wanted++] = list[i];
	if (wanted) {
		inodes = calloc(wanted, sizeof(*inodes));
		processes = calloc(wanted, sizeof(*processes));
		holders = calloc(wanted, sizeof(*holders));
		if (!inodes || !processes || !holders)
			return -ENOMEM;
		for (i = 0; i < wanted; i++)
			inodes[i] = list[i].inode;
		error = processes_of_sockets(inodes, wanted, processes);
		if (error < 0)
			return error;
	}
	for (i = 0; i < wanted; i++) {
		if (!processes[i].process_id)
			continue;
		holders[known].cookie = list[i].cookie;
		holders[known].process_id = processes[i].process_id;
		memcpy(holders[known].command, processes[i].command, COMMAND_LENGTH);
		known++;
	}
	*ret_holders = take_pointer(holders);
	*ret_count = known;
	return 0;
}

int holders_read(const struct guard *guard, struct sockets *sockets, const __u16 *ports,
		 size_t port_count, struct socket_holder **ret_holders, size_t *ret_count)
{
	int result = guard_holders(guard, ret_holders, ret_count);

	return result == -EOPNOTSUPP ?
		       read_from_proc(sockets, ports, port_count, ret_holders, ret_count) :
		       result;
}

void holders_forget(struct holders *holders)
{
	free(holders->list);
	*holders = (struct holders){};
}

int holders_recent(struct holders *holders, const struct guard *guard, struct sockets *sockets, const __u16 *ports,
		   size_t port_count, const struct socket_holder **ret_holders, size_t *ret_count)
{
	__u64 worked;
	int result;

	if (clock_now_ns() >= holders->until_ns) {
		holders_forget(holders);
		worked = clock_worked_ns();
		result = holders_read(guard, sockets, ports, port_count, &holders->list, &holders->count);
		worked = clock_worked_ns() - worked;
		if (worked > CHEAP_NS)
			holders->until_ns = clock_now_ns() + REST_RATIO * worked;
		if (result)
			return result;
	}
	*ret_holders = holders->list;
	*ret_count = holders->count;
	return 0;
}
