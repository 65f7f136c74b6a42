/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ending links from outside: by an operator's wish, or because there is one too many.
 *
 * Owns the order of slot and socket, knows nothing of who asks. Functions return 0 or a negative
 * errno.
 */
#ifndef EDGE_LINKS_H
#define EDGE_LINKS_H

#include "edge/kernel.h"
#include "edge/sockets.h"

/*
 * Destroy the sockets of all links of a peer. Each slot is freed first: a cut is no failure and
 * brings no backoff. Returns how many were destroyed; *ret_missing links had no socket in the
 * namespace of `sockets`. -ENOENT: no such peer; or the error of sockets_destroy().
 */
int links_cut(const struct guard *guard, struct sockets *sockets,
	      const struct peer_address *address, int *ret_missing);

/*
 * Destroy the socket that holds one slot of a peer (a duplicate, or a dial that lost), provided
 * that another link of the peer is established by the word of its socket: never the last one.
 * -EBUSY: it must stay; -ENOENT: peer or socket are gone; or the error of sockets_destroy().
 */
int links_destroy_surplus(const struct guard *guard, struct sockets *sockets,
			  const struct peer_address *address, __u64 cookie);

/*
 * End a link that its peer cannot use, `cause` is link_dead or link_stalled: its slot is freed first,
 * so that no later end of the socket is taken for a failure. In observe mode it is only told, and
 * stays. 0, -ENOENT: it is gone already, or the errno of destroying it.
 */
int links_end_useless(const struct guard *guard, struct sockets *sockets,
		      const struct peer_address *address, const struct tcp_socket *socket,
		      enum cause cause);

#endif
