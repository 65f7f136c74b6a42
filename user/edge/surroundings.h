/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a guard is: its cgroup, its network namespace, and the sockets seen from there.
 *
 * Owns the descriptors. Changes nothing but the calling thread's network namespace, logs nothing.
 * Functions return 0 or a negative errno.
 */
#ifndef EDGE_SURROUNDINGS_H
#define EDGE_SURROUNDINGS_H

#include <stddef.h>

#include "edge/cgroups.h"
#include "edge/local_table.h"
#include "edge/sockets.h"
#include "pure/check.h"
#include "pure/config.h"

struct surroundings {
	char *cgroup;           /* absolute path of the cgroup's directory, which may have to be waited for */
	int netns_fd;           /* the guarded network namespace; the thread is in it */
	__u64 netns_cookie;     /* 0: the kernel (before 5.14) gives none */
	struct cgroup_set *cgroups; /* NULL: there was no such cgroup yet */
	struct sockets *sockets;
	struct local_table *local_table;
	struct prefix_set own; /* what of that namespace is this host, when it was last read */
	__u16 strange_ports[CONFIG_PORTS_MAX]; /* as surroundings_listeners() has last seen them, in no order */
	size_t strange_port_count;
};

/* Nothing is open. */
#define SURROUNDINGS_NONE { .netns_fd = -1 }

/*
 * Enter the places that the configuration names, in the calling thread. On success
 * *ret_surroundings is the caller's (surroundings_leave). On failure ret_error says which setting
 * is wrong and why. `may_wait`: a cgroup that is not there is no failure, surroundings_follow_cgroup() is for when it
 * has come.
 */
int surroundings_enter(const struct config *config, bool may_wait, struct surroundings *ret_surroundings,
		       struct config_error *ret_error);

/*
 * The cgroup was made, or removed and made again, under its path: look at the sockets of the new one. Without
 * success all is as before.
 */
int surroundings_follow_cgroup(struct surroundings *surroundings);

/*
 * Another network namespace has the place of the one that was entered: enter that instead, in the
 * calling thread. `netns_fd` stays the caller's. -EPERM: this process may not (CAP_SYS_ADMIN);
 * without success all is as before.
 */
int surroundings_follow_netns(struct surroundings *surroundings, int netns_fd);

/* Close everything; the thread stays in the network namespace. SURROUNDINGS_NONE is allowed. */
void surroundings_leave(struct surroundings *surroundings);

/*
 * The guard's sockets that are or may become links, as the check takes them: of its cgroup and
 * ports, neither loopback nor to an address in surroundings->own. *ret_seen is the caller's to free.
 */
int surroundings_sockets(struct surroundings *surroundings, const struct config *config,
			 struct seen_socket **ret_seen, size_t *ret_count);

/*
 * The same in two steps, for who has other things to do meanwhile: begin a listing of the sockets that may be the
 * guard's, on `sockets` of the guarded network namespace; and of a list that it has handed out, those that are.
 */
int surroundings_list_begin(const struct config *config, struct sockets *sockets,
			    struct socket_listing **ret_listing);
int surroundings_seen(struct surroundings *surroundings, const struct config *config,
		      const struct tcp_socket *list, size_t count, struct seen_socket **ret_seen,
		      size_t *ret_count);

/* Somebody who listens on a guarded port. */
struct seen_listener {
	__u64 cookie;
	struct listen_place place;
	bool ours;      /* of the guard's cgroup, and bound to no interface: it gets what comes to its place */
	bool ipv4_also; /* on any IPv6 address, and it takes IPv4 as well */
};

/*
 * All of them in the guarded network namespace, but those of others that hear nobody but this host. *ret_seen is the
 * caller's to free.
 */
int surroundings_listeners(struct surroundings *surroundings, const struct config *config,
			   struct seen_listener **ret_seen, size_t *ret_count);

/*
 * The guarded ports on which somebody listens with a socket that was made outside the guard's
 * cgroup, as surroundings_listeners() has seen it last, in the order of the configuration. A connection belongs to the
 * cgroup of its listener: what such a one accepts is not guarded. `ret_ports` has room for all of the configuration's.
 * Returns how many they are.
 */
size_t surroundings_strange_ports(const struct surroundings *surroundings, const struct config *config,
				  __u16 ret_ports[CONFIG_PORTS_MAX]);

#endif
