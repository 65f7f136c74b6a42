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
 * What a slot of a peer knows of its socket: all but the state, the cgroup, the inode, and the interface that it may be
 * bound to. The address of this end may not be known yet.
 */
struct tcp_socket links_known(const struct peer_address *address, const struct slot *slot);

/*
 * The socket that holds this claim or link of a peer, looked up by what its slot knows, so it is quick whatever
 * the number of sockets; one that is bound to an interface is looked for among all. -ENOENT: it is gone; else as
 * sockets_find().
 */
int links_socket(struct sockets *sockets, const struct peer_address *address, const struct slot *slot,
		 struct tcp_socket *ret_socket);

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
 * Destroy the socket of a link in whose place another one has come: its peer left what it was asked
 * unanswered and has completed the handshake of that one. -ENOENT: it is gone,
 * or no such link; or the error of sockets_destroy().
 */
int links_destroy_replaced(const struct guard *guard, struct sockets *sockets,
			   const struct peer_address *address, __u64 cookie);

/*
 * Destroy the socket of a dial that is under way. -ENOENT: it is gone, or no dial any more.
 */
int links_end_dial(struct sockets *sockets, const struct peer_address *address,
		   const struct slot *claim);

#endif
