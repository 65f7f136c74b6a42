/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who holds the sockets of a guard, by cookie: sock_diag and /proc put together.
 *
 * For links whose opener no hook saw: knocks, and sockets older than the guard. Knows nothing of
 * peers or documents beyond the array that view.h takes. Walks all of /proc: for a person's
 * question.
 */
#ifndef EDGE_HOLDERS_H
#define EDGE_HOLDERS_H

#include <stddef.h>

#include "edge/sockets.h"
#include "edge/view.h"

/*
 * The processes that hold sockets on these ports (local or remote, host byte order) which are or
 * may become links, in the namespace of `sockets`. *ret_holders is the caller's to free() and may
 * be NULL when *ret_count is 0. Sockets whose holder is unknown are left out. Errors of
 * sockets_list() and processes_of_sockets().
 */
int holders_read(struct sockets *sockets, const __u16 *ports, size_t port_count,
		 struct view_holder **ret_holders, size_t *ret_count);

#endif
