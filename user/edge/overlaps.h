/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guards of this host that decide about the same sockets: they share a port and a network namespace, and the cgroup
 * of one is that of the other, or lies below it.
 *
 * Reads what is pinned, of all guards whose maps have our layout; knows nothing of who asks, and logs nothing.
 */
#ifndef EDGE_OVERLAPS_H
#define EDGE_OVERLAPS_H

#include <stddef.h>

#include "edge/kernel.h"

/* Another guard, and what it shares with ours. */
struct overlap {
	char name[GUARD_NAME_MAX + 1];
	char *cgroup; /* the other's, absolute */
	__u16 ports[GUARD_PORTS_MAX]; /* that both guard, host byte order, ascending */
	size_t port_count;
};

/* Room for the ports of an overlap as text. */
#define OVERLAP_PORTS_TEXT_MAX (GUARD_PORTS_MAX * 7)

/*
 * Those that overlap with the guard `name`, whose open maps are `guard`, in the order of their names. *ret_overlaps
 * is the caller's (overlaps_free()). 0, or a negative errno: the pins cannot be listed, or memory ran out. A guard
 * that is just being loaded or removed is left out.
 */
int overlaps_find(const struct guard *guard, const char *name, struct overlap **ret_overlaps, size_t *ret_count);

void overlaps_free(struct overlap *overlaps, size_t count);

/* "24000, 24001". Returns ret_text. */
const char *overlap_ports_text(const struct overlap *overlap, char ret_text[OVERLAP_PORTS_TEXT_MAX]);

#endif
