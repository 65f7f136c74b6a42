/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is this host, by the kernel's own routing tables: the addresses of its interfaces, and prefixes that were made
 * local by hand (AnyIP).
 *
 * Owns a route netlink socket. Knows nothing of guards, logs nothing. Functions return 0 or a negative errno.
 */
#ifndef EDGE_LOCAL_TABLE_H
#define EDGE_LOCAL_TABLE_H

#include "pure/prefixes.h"

struct local_table;

/*
 * Open the tables of the calling thread's network namespace, whichever it is in later. *ret_table is the caller's
 * (local_table_close).
 */
int local_table_open(struct local_table **ret_table);

/* NULL is allowed. */
void local_table_close(struct local_table *table);

/*
 * The prefixes of IPv4 (96 bits more, see struct exempt_prefix) and IPv6 that the table `local` and those of VRFs lead
 * to this host itself; a table that only a rule leads to (TPROXY) is not meant. In order (prefixes_sort()), into an
 * empty set of the caller's. While they change all the time, what has just left may be among them. -ENOMEM,
 * -ETIMEDOUT, or what the kernel says.
 */
int local_table_read(struct local_table *table, struct prefix_set *ret_set);

#endif
