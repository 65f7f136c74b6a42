/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The peers file: known peers, one a line.
 *
 *     # a comment, also at the end of a line
 *     192.0.2.7
 *     2001:db8::7  limit=2
 *
 * Owns the format. Does not know what the daemon does with known peers.
 */
#ifndef PURE_PEERS_FILE_H
#define PURE_PEERS_FILE_H

#include <stddef.h>
#include <stdio.h>

#include "pure/config.h"

/* Bytes of a line, newline included. */
#define PEERS_FILE_LINE_MAX 512
/* Bytes of a file: a million peers and as much again of comments. */
#define PEERS_FILE_MAX (64 * 1024 * 1024)

/* One line. */
struct known_peer {
	struct peer_address address;
	__u32 limit; /* links this peer may have, 1..PEER_LINKS_MAX; 0: max_links */
};

/*
 * Read a file of at most `max` peers, in the order of the file. *ret_peers is the caller's to free,
 * NULL when there are none. -EINVAL with "FILE:LINE: ..." in *ret_error: not an address, an address
 * that no peer can have (loopback, unspecified, multicast), a limit out of range, a word we do not
 * know, an address twice, too many peers, a line too long, a file too large; -ENOMEM; or the errno of
 * opening or reading (-ENOTSUP: no regular file), in words in *ret_error too. The ret_ arguments but
 * ret_error are touched on success only.
 */
int peers_file_read(const char *path, size_t max, struct known_peer **ret_peers, size_t *ret_count,
		    struct config_error *ret_error);

/* The same from a stream, called `file` in messages. */
int peers_file_parse(FILE *stream, const char *file, size_t max, struct known_peer **ret_peers,
		     size_t *ret_count, struct config_error *ret_error);

#endif
