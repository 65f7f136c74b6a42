/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The periodic check: compares what the peers map says with the sockets that there are, and says
 * what to do.
 *
 * A pure function of its input and of what the check before suspected. Owns the comparison; decides
 * about peers by the rules of connguard/rules.h only; does nothing itself. Both snapshots are a
 * little old when they are compared, and not of the same instant: so a difference is repaired only
 * when it lasts, and every action names the socket it is about, so that the kernel
 * side can refuse it when the world has moved on.
 */
#ifndef PURE_CHECK_H
#define PURE_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include <connguard/abi.h>

/*
 * A difference is repaired when each check of so long a time, two at least, has seen it. On a busy
 * processor two checks can run while one socket is between two of its states, but not so far apart.
 */
#define CHECK_LASTS_NS 500000000ULL

/* A peer that has only ever knocked is forgotten when it was idle for so long: anybody can make any number of them. */
#define CHECK_KNOCKER_FORGOTTEN_NS (10 * 60 * 1000000000ULL)

/* A real TCP socket of the guard (its namespace, cgroup and ports), as the kernel listed it. */
struct seen_socket {
	__u64 cookie;                  /* 0: the kernel names none (TIME_WAIT): ignored */
	struct peer_address address;   /* the remote end */
	enum link_direction direction; /* meaningful when established */
	bool established;              /* TCP_ESTABLISHED */
	/*
	 * TCP_SYN_RECV: the last ACK is missing. With Fast Open the application has the socket
	 * already, and it is a link of which the map may know.
	 */
	bool opening;
	__u16 local_port;              /* host byte order */
	__u16 remote_port;
	struct peer_address local;     /* this end */
	__u32 interface;               /* index of the one that it is bound to, 0: none */
};

/* What to do. In brackets what carries it out. */
enum check_kind {
	/* address: free the claims that have expired (COMMAND_EXPIRE) */
	CHECK_EXPIRE = 1,
	/* address, cookie: free a slot that has no live socket behind it (COMMAND_RELEASE) */
	CHECK_RELEASE = 2,
	/* address, cookie: a link too many has turned out to be the last one (COMMAND_SPARE) */
	CHECK_SPARE = 3,
	/* address, cookie, direction, ports: take a socket under guard (guard_adopt) */
	CHECK_ADOPT = 4,
	/* address, cookie, direction, ports: destroy the socket of a link too many (sock_diag) */
	CHECK_DESTROY = 5,
	/* address, inactive_since_ns: delete the peer if it is still inactive (COMMAND_FORGET) */
	CHECK_FORGET = 6,
	/* address, announced: announce the peer if it is still idle (COMMAND_ANNOUNCE) */
	CHECK_ANNOUNCE_DUE = 7,
};

/* One action. Fields that the kind does not name are 0. */
struct check_action {
	enum check_kind kind;
	enum link_direction direction;
	struct peer_address address;
	__u64 cookie;
	__u16 local_port;
	__u16 remote_port;
	struct peer_address local; /* CHECK_ADOPT: this end of the socket, and its interface */
	__u32 interface;
	__u64 inactive_since_ns;   /* CHECK_FORGET */
	bool announced;            /* CHECK_ANNOUNCE_DUE: it has been since it is due */
};

/* What a check looks at beside the peers; nothing in it is changed. */
struct check_input {
	/*
	 * All sockets of the guard whose peer is guarded: not loopback, not this host's own
	 * addresses. A list that could not be read completely must not be checked: absent sockets
	 * would look dead. Borrowed until the check is freed.
	 */
	const struct seen_socket *sockets;
	size_t socket_count;
	struct guard_policy policy;
	__u64 now_ns;
	__u64 forget_after_ns; /* a peer inactive for so long is forgotten, one that has only knocked no later than above */
};

/* What the last check suspected and since when. */
struct check_memory;

/* No suspicions. NULL: no memory. The caller's, until check_memory_free(). */
struct check_memory *check_memory_new(void);

/* NULL is allowed. */
void check_memory_free(struct check_memory *memory);

/*
 * A check under way. It is given the peers map piece by piece, for that may be large, and each peer once; what
 * changes meanwhile differs for a moment and is no repair.
 */
struct check;

/* Begin with the sockets, which are listed before the first peer is read. -ENOMEM. The caller's: check_free(). */
int check_begin(const struct check_input *input, struct check_memory *memory, struct check **ret_check);

/*
 * Look at a piece of the map. The actions are in the order in which they must be taken: for each peer EXPIRE,
 * RELEASE, SPARE, ADOPT, DESTROY, then FORGET or ANNOUNCE_DUE; *ret_actions is the check's until the next call.
 * -ENOMEM: nothing is returned, and the check can only be freed.
 *
 * EXPIRE, DESTROY, FORGET and ANNOUNCE_DUE follow from the rules and are given at once:
 *   EXPIRE        a claim of the peer has expired
 *   DESTROY       a slot is doomed, its socket lives, and the peer has another link that lives: the
 *                 last one is never destroyed
 *   FORGET        peer_forget() would let go of it and no socket to it is established
 *   ANNOUNCE_DUE  peer_due(), once the repairs of this very check are made, and no socket to it is
 *                 established; linked, dialing and backing-off peers are left out
 * RELEASE, SPARE and ADOPT are repairs, given when the difference has lasted for CHECK_LASTS_NS:
 *   RELEASE       a link whose socket is gone or not established any more; a claim, SYN sent and
 *                 not expired, whose socket is gone
 *   SPARE         a doomed link whose socket is established, and no other link of the peer lives
 *   ADOPT         an established socket that no slot shows as a link, if the peer has a slot left
 *                 for it
 */
int check_peers(struct check *check, const struct peer *peers, size_t count,
		const struct check_action **ret_actions, size_t *ret_count);

/*
 * The whole map was given: look at the sockets whose peers were not in it, about a thousand a call, by address, and of
 * one peer the older ones first. 1: there are more, call again; 0: that was all, and what is suspected is remembered.
 * Actions and errors as of check_peers(); on failure the memory is as before.
 */
int check_end(struct check *check, const struct check_action **ret_actions, size_t *ret_count);

/* NULL is allowed. Without check_end() to its end the memory is as before. */
void check_free(struct check *check);

#endif
