/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sends whole IP packets of one network namespace's own.
 *
 * Owns the raw sockets. Knows nothing of what is in the packets, logs nothing. Functions return 0 or a
 * negative errno.
 */
#ifndef EDGE_RAW_H
#define EDGE_RAW_H

#include <stddef.h>

#include <linux/types.h>

#include <connguard/address.h>

struct raw {
	int ipv4_fd, ipv6_fd; /* -1: none */
};

/* Nothing is open. */
#define RAW_NONE { .ipv4_fd = -1, .ipv6_fd = -1 }

/*
 * Open in the calling thread's network namespace, whichever it is in later. -EPERM: takes CAP_NET_RAW.
 * IPv6 may be missing on the host.
 */
int raw_open(struct raw *ret_raw);

void raw_close(struct raw *raw);

/*
 * Send a packet, its IP header included, to `target`, with this mark (SO_MARK) and, unless that is 0, by
 * this interface.
 */
int raw_send(const struct raw *raw, const void *packet, size_t length,
	     const struct peer_address *target, __u32 mark, __u32 interface);

#endif
