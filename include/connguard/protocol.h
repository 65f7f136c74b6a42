/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The control protocol between connguardd and its clients, on the UNIX stream socket
 * /run/connguard/NAME.sock.
 *
 * One JSON object a line in each direction, UTF-8, ended by '\n'. A request is
 *     {"protocol": 1, "request": "kick", ...arguments}
 * and is answered by exactly one line,
 *     {"ok": true, "result": ...}    or    {"ok": false, "error": "text for a person"}
 * in the order of the requests. After a stream request ("events" with "follow", "due" with
 * "follow") the answer is followed by one object a line, without end; the client hangs up. A client
 * that shuts its side down is hung up on when its requests are answered. Unknown members are ignored,
 * an unknown request or protocol number is an error. Times are nanoseconds of CLOCK_BOOTTIME, addresses
 * are text.
 *
 * Anybody who may connect (root and the group `connguard`, by the socket's mode) may read; only
 * root (SO_PEERCRED) may change.
 *
 * This header owns names and limits. Userspace only.
 */
#ifndef CONNGUARD_PROTOCOL_H
#define CONNGUARD_PROTOCOL_H

/* The protocol number of a request. */
#define PROTOCOL_VERSION 1
/* Where the sockets are: RUN_DIRECTORY "/NAME.sock". */
#define PROTOCOL_RUN_DIRECTORY "/run/connguard"
/* Group whose members may read. */
#define PROTOCOL_GROUP "connguard"
/*
 * Longest request line in bytes, newline included; a longer one is answered with an error and the
 * client is cut off.
 */
#define PROTOCOL_REQUEST_MAX 4096
/*
 * Seconds from the first byte of a request to its last; then the client gets an error and is cut off.
 */
#define PROTOCOL_REQUEST_SECONDS 10
/*
 * Longest answer line in bytes that a client has to take (8,192 peers at about 3 KiB each); a longer
 * one becomes an error.
 */
#define PROTOCOL_ANSWER_MAX (32 * 1024 * 1024)
/* Peers that one answer lists; of more there is an error. */
#define PROTOCOL_PEERS_MAX 10000
/*
 * Clients at one time, and those of them that are not root. For a further one an idle client is hung up on: one that
 * has got all that it asked for and follows nothing, of the user who has the most, the one that has been so for the
 * longest. Where nobody is idle, one goes of a user who has at least two more than the newcomer's; or the newcomer is
 * answered with an error.
 */
#define PROTOCOL_CLIENTS_MAX 64
#define PROTOCOL_READERS_MAX 48
/*
 * Bytes that may wait for a slow reader: a follower of a stream is cut off beyond, of any other no
 * further request is read until it has read its answers.
 */
#define PROTOCOL_BACKLOG_MAX (1024 * 1024)
/*
 * Bytes that may wait for slow readers in all; beyond, requests of others than root are answered with an
 * error.
 */
#define PROTOCOL_UNREAD_MAX (64 * 1024 * 1024)

/* Why a peer is not forgotten. */
#define PROTOCOL_NOT_IDLE "the peer has a link, a dial, a backoff, a limit or an exemption, or is named in the peers file"

/*
 * X(name, changes, arguments): every request. `changes` 1: root only.
 * Arguments are members of the request: "address" (text), "port" (integer, a guarded one), "limit" (integer
 * 0..PEER_LINKS_MAX), "seconds" (integer, 0: no longer), "follow" (boolean), "by" (text, the login name of who
 * decides). A change to an address is one at all services of the guard. An answer to limit, allow and keep has
 * "not_kept" (text) if the decision is in force and could not be written to the state file.
 */
#define PROTOCOL_REQUESTS(X) \
	X(status, 0, "") \
	X(peers, 0, "") \
	X(explain, 0, "address, [port]") \
	X(events, 0, "[follow]") \
	X(due, 0, "[follow]") \
	X(kick, 1, "[address]; none: every peer") \
	X(forget, 1, "[address]; none: every learned peer without state") \
	X(limit, 1, "address, limit, [by]") \
	X(allow, 1, "address or prefix, seconds; -1: for good, 0: no longer; [by]") \
	X(keep, 1, "[by]; the mode that was written to its map") \
	X(cut, 1, "address") \
	X(reload, 1, "")

#endif
