/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The real TCP sockets of one network namespace, over sock_diag: list them, ask for one, destroy
 * one.
 *
 * sockets.c is the one file that speaks NETLINK_SOCK_DIAG. It knows which sockets a guard's ports
 * and cgroups select, and nothing of peers, slots, links or policy. It logs nothing; functions
 * return 0 or a negative errno.
 *
 * What is a socket here: one that an application has or will get by accept(). The kernel's small
 * stand-ins are left out whatever the state mask says: request sockets (a handshake of theirs,
 * which sock_diag shows as TCP_SYN_RECV) and time-wait sockets (which it shows as TCP_TIME_WAIT, or
 * as TCP_FIN_WAIT2 once the application has closed). A socket that sock_diag shows as TCP_SYN_RECV
 * and that is listed is a full one: a simultaneous open, or TCP Fast Open.
 *
 * What sock_diag cannot show: a socket between the connect() hook and its SYN, and one that is
 * closed. A claim without a socket is therefore no drift when it is seen once.
 */
#ifndef EDGE_SOCKETS_H
#define EDGE_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>
#include <netinet/tcp.h>

#include <connguard/abi.h>
#include <connguard/address.h>

#include "edge/cgroups.h"

/* State masks for sockets_list(): one bit per TCP_* state of netinet/tcp.h; combine at will. */
enum socket_states {
	/* What can be a link. */
	SOCKET_STATES_LINK = 1 << TCP_ESTABLISHED,
	/* A dial whose SYN has left. TCP_SYN_RECV: it met their dial (simultaneous open). */
	SOCKET_STATES_DIAL = 1 << TCP_SYN_SENT | 1 << TCP_SYN_RECV,
	/* Left TCP_ESTABLISHED and not yet gone: no link any more. */
	SOCKET_STATES_CLOSING = 1 << TCP_FIN_WAIT1 | 1 << TCP_FIN_WAIT2 | 1 << TCP_CLOSE_WAIT |
				1 << TCP_LAST_ACK | 1 << TCP_CLOSING,
	SOCKET_STATES_LISTEN = 1 << TCP_LISTEN,
};

/* One TCP socket as it was when the kernel was asked. */
struct tcp_socket {
	/* Never 0; the same number the hooks see. */
	__u64 cookie;
	/* A listener has no remote, and on any address no local: all zero, or ::ffff:0.0.0.0. */
	struct peer_address local;
	struct peer_address remote;
	/*
	 * The cgroup2 the socket was made in (an accepted one: its listener's). 0: the kernel does
	 * not tell (before 5.9).
	 */
	__u64 cgroup_id;
	/* Names the socket in /proc/PID/fd. 0: nobody holds it (not accepted yet, or closed). */
	__u32 inode;
	/* Index of the interface it is bound to, as for link-local peers; 0: none. */
	__u32 interface;
	/* Host byte order; 0 as the remote port of a listener. */
	__u16 local_port;
	__u16 remote_port;
	/* TCP_* of netinet/tcp.h. */
	__u8 state;
	/* A listener of this namespace has local_port, whatever its address and cgroup. */
	bool listening_port;
	/* A listener of IPv6 that takes no IPv4 (IPV6_V6ONLY). */
	bool ipv6_only;
};

/* An open sock_diag socket. For one thread at a time. */
struct sockets;

/*
 * Open sock_diag in the calling thread's network namespace. Everything asked of *ret_sockets is
 * about that namespace, whichever namespace the thread is in later. The caller's: sockets_close().
 * -EOPNOTSUPP: the kernel has no sock_diag for TCP (CONFIG_INET_DIAG); -EMFILE, -ENOMEM.
 */
int sockets_open(struct sockets **ret_sockets);

/* NULL is allowed. */
void sockets_close(struct sockets *sockets);

/* Ports that one sockets_list() can ask for at most. */
#define SOCKETS_PORTS_MAX 64

/*
 * All TCP sockets, IPv4 and IPv6, whose state is in `state_mask` (enum socket_states) and which have one of the
 * ports (host byte order) at either end, in ascending order of their cookies, each once. `port_count` 0: whatever
 * their ports. The kernel passes over the others, so that they cost next to nothing. *ret_list is the caller's to free() and may be NULL when
 * *ret_count is 0. TCP_TIME_WAIT is never listed.
 *
 * Not a snapshot: a socket that is made, closed or changes state meanwhile may or may not be
 * listed, and one that moves between hash chains may be missed; confirm before acting on an
 * absence. -EAGAIN: the list was inconsistent at every one of a few attempts; -ETIMEDOUT: the
 * kernel did not answer; -E2BIG: more ports than that; -ENOMEM.
 */
int sockets_list(struct sockets *sockets, __u32 state_mask, const __u16 *ports, size_t port_count,
		 struct tcp_socket **ret_list, size_t *ret_count);

/*
 * The same piece by piece, for who has other things to do meanwhile. Begin; go on until it says 0 (1: there is more; or
 * a negative errno, the end too); end, in any case, which hands the list out, or with `ret_list` NULL throws away what
 * there is. Until then nothing else may be asked of `sockets`.
 */
struct socket_listing;
int sockets_list_begin(struct sockets *sockets, __u32 state_mask, const __u16 *ports, size_t port_count,
		       struct socket_listing **ret_listing);
int sockets_list_on(struct socket_listing *listing);
void sockets_list_end(struct socket_listing *listing, struct tcp_socket **ret_list, size_t *ret_count);

/*
 * The present state of one socket, which is looked up by addresses, ports and interface and must
 * still have the cookie: cheap, whatever the number of sockets. `listening_port` is taken over from
 * `socket`. `ret_socket` may be `socket`. -EINVAL: a listener; -ENOENT: that socket is gone
 * (another one may have taken over its addresses and ports).
 */
int sockets_query(struct sockets *sockets, const struct tcp_socket *socket,
		  struct tcp_socket *ret_socket);

/* How a connection is, as TCP itself has it (tcp_info, include/uapi/linux/tcp.h). */
struct socket_vitals {
	/* TCP_* of netinet/tcp.h. */
	__u8 state;
	/* Since the last segment of the other end that TCP accepted, data or ACK. */
	__u64 silent_ns;
	/* Keepalive and zero-window probes that nobody has answered, so far. */
	__u32 unanswered_probes;
	/* Time-outs in a row of data that nobody acknowledges: each has sent it once more. */
	__u32 unanswered_retransmissions;
	/* Segments that have left and are not acknowledged. */
	__u32 unacknowledged;
	/*
	 * The shortest of the last minutes (net.ipv4.tcp_min_rtt_wlen); 0: not measured. The smoothed one has an outage
	 * in it whose first acknowledgment echoes a segment from before (RFC 7323, section 4.3).
	 */
	__u64 round_trip_ns;
};

/* The vitals of one socket, found as by sockets_query(), and its errors. */
int sockets_vitals(struct sockets *sockets, const struct tcp_socket *socket,
		   struct socket_vitals *ret_vitals);

/*
 * The socket with this cookie, in any state but TCP_LISTEN. Lists all sockets: for a person's
 * question, not for a loop over peers. -ENOENT: there is none. Else as sockets_list().
 */
int sockets_find(struct sockets *sockets, __u64 cookie, struct tcp_socket *ret_socket);

/*
 * Destroy exactly this socket: the same addresses, ports and interface, and the same cookie, never
 * one that has taken over the addresses and ports. Its application gets ECONNABORTED, from
 * connect() too; the other end of an established connection gets an RST. -ENOENT: it is gone
 * already (only its stand-in may be left, which stays); -EOPNOTSUPP: the kernel cannot
 * (CONFIG_INET_DIAG_DESTROY); -EPERM: no CAP_NET_ADMIN in the user namespace that owns the network
 * namespace; -EINVAL: a listener.
 */
int sockets_destroy(struct sockets *sockets, const struct tcp_socket *socket);

/* Which sockets are a guard's. Everything is the caller's and only read. */
struct socket_filter {
	/* Guarded ports, host byte order. */
	const __u16 *ports;
	size_t port_count;
	/*
	 * The guard's cgroup and its descendants. Refresh it after listing the sockets: a cgroup
	 * made in between is then in it.
	 */
	const struct cgroup_set *cgroups;
};

/*
 * Whether the socket is one of the guard's, and who dialed, as far as a socket shows it. Pure. In
 * this order:
 *   - not one of its cgroups, or a peer that is this host (loopback, unspecified, or remote ==
 *     local): no;
 *   - TCP_SYN_SENT is a dial: outbound when remote_port is guarded, else no;
 *   - local_port is guarded and has a listener, or is guarded while remote_port is not: inbound;
 *   - remote_port is guarded: outbound;
 *   - no.
 * A service that dials from the port it listens on therefore shows as inbound once
 * it is established: its socket bears no trace of who sent the SYN. Addresses of this host other
 * than the socket's own are not known here (local_table_read()). *ret_direction is DIRECTION_INBOUND
 * or DIRECTION_OUTBOUND, untouched when false is returned.
 */
bool socket_is_guarded(const struct tcp_socket *socket, const struct socket_filter *filter,
		       enum link_direction *ret_direction);

#endif
