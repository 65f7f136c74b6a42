/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who holds the sockets of a guard, by cookie: from the kernel's own list of descriptors, or where the
 * guard was not loaded by this process, or the kernel is older than 5.15, from sock_diag and /proc put
 * together.
 *
 * For links whose opener no hook saw: knocks, and sockets older than the guard. Knows nothing of
 * peers or documents beyond the array that view.h takes. Walks all descriptors of all processes: for a person's
 * question, and where anybody may ask as often as he likes, by holders_recent().
 */
#ifndef EDGE_HOLDERS_H
#define EDGE_HOLDERS_H

#include <stddef.h>

#include "edge/sockets.h"
#include "edge/view.h"

/*
 * The processes that hold sockets on these ports (local or remote, host byte order) which are or
 * may become links, in the namespace of `sockets`. *ret_holders is the caller's to free() and may
 * be NULL when *ret_count is 0; it is ascending by cookie, and of several processes that share a socket
 * it has the lowest-numbered one. Sockets whose holder is unknown are left out. Errors of
 * guard_holders(), sockets_list() and processes_of_sockets().
 */
int holders_read(const struct guard *guard, struct sockets *sockets, const __u16 *ports,
		 size_t port_count, struct socket_holder **ret_holders, size_t *ret_count);

/* What one who is asked again and again has read last. Zeroed: nothing yet. */
struct holders {
	struct socket_holder *list;
	size_t count;
	__u64 until_ns; /* it is as good as new before; 0: it is not kept */
};

/*
 * The same, but a walk that has worked for longer than two milliseconds is good for forty times as long: a fortieth of
 * a processor goes into walks, however often somebody asks. *ret_holders is that of `holders`, until the next call.
 */
int holders_recent(struct holders *holders, const struct guard *guard, struct sockets *sockets, const __u16 *ports,
		   size_t port_count, const struct socket_holder **ret_holders, size_t *ret_count);

/* Forget it. */
void holders_forget(struct holders *holders);

#endif
