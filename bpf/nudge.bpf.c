// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * iter/tcp: make TCP ask now whether the other end of a silent link is still there.
 *
 * The daemon writes to `nudges` the cookies of links that it has asked beside TCP in vain. Their keepalive timers are
 * shortened: one that has been idle for a second sends a probe at once, and a further one each second while
 * none is answered (net/ipv4/tcp_timer.c, tcp_keepalive_timer). It is TCP itself that asks, on the
 * socket's own route and with whatever signature the connection has, and TCP that reads the answer:
 * an ACK is evidence of life, the RST of a host that has rebooted ends the link. With data on its
 * way no keepalive is sent; there TCP's retransmissions ask, which may be far apart, and the daemon beside them.
 *
 * How the socket was set before is kept in the map, and restored when the daemon knows enough.
 */
#include "iterate.bpf.h"

#define NUDGE_SECONDS 1
/* The greatest count (MAX_TCP_KEEPCNT): whether the link is dead is not for the keepalive timer to say. */
#define NUDGE_PROBES 127

static __always_inline int option_read(struct tcp_sock *sk, int level, int option, __u32 *ret_value)
{
	return bpf_getsockopt(sk, level, option, ret_value, sizeof(*ret_value));
}

static __always_inline void option_write(struct tcp_sock *sk, int level, int option, __u32 value)
{
	bpf_setsockopt(sk, level, option, &value, sizeof(value));
}

/*
 * What to go back to. 0, or not 0: not known, for before 6.1 these options cannot be read here, and the
 * socket is left alone.
 */
static __always_inline int settings_before(struct tcp_sock *sk, struct link_nudge *nudge)
{
	return option_read(sk, LEVEL_SOCKET, OPTION_KEEPALIVE, &nudge->keepalive) ||
	       option_read(sk, LEVEL_TCP, OPTION_KEEPIDLE, &nudge->idle_seconds) ||
	       option_read(sk, LEVEL_TCP, OPTION_KEEPINTVL, &nudge->interval_seconds) ||
	       option_read(sk, LEVEL_TCP, OPTION_KEEPCNT, &nudge->probes) ||
	       option_read(sk, LEVEL_TCP, OPTION_USER_TIMEOUT, &nudge->user_timeout_ms);
}

/* Set an option back, unless the service has set it meanwhile. 1: it has. */
static __always_inline int option_restore(struct tcp_sock *sk, int option, __u32 ours, __u32 before)
{
	__u32 present;

	if (option_read(sk, LEVEL_TCP, option, &present) == 0 && present == ours) {
		option_write(sk, LEVEL_TCP, option, before);
		return 0;
	}
	return 1;
}

static __always_inline void settings_restore(struct tcp_sock *sk, const struct link_nudge *before)
{
	int changed = option_restore(sk, OPTION_KEEPINTVL, NUDGE_SECONDS, before->interval_seconds) |
		      option_restore(sk, OPTION_KEEPCNT, NUDGE_PROBES, before->probes) |
		      option_restore(sk, OPTION_KEEPIDLE, NUDGE_SECONDS, before->idle_seconds);

	option_restore(sk, OPTION_USER_TIMEOUT, 0, before->user_timeout_ms);
	/* That it was switched on anew does not show. Who sets when it asks means it to be on. */
	if (!changed && !before->keepalive)
		option_write(sk, LEVEL_SOCKET, OPTION_KEEPALIVE, 0);
}

SEC("iter/tcp")
int nudge(struct bpf_iter__tcp *ctx)
{
	struct tcp_sock *sk = established_socket(ctx);
	struct link_nudge *entry;
	__u64 cookie;

	pause_now_and_then(ctx);
	if (!sk)
		return 0;
	cookie = bpf_get_socket_cookie(sk);
	entry = bpf_map_lookup_elem(&nudges, &cookie);
	if (!entry)
		return 0;
	if (entry->step == NUDGE_BEGIN && settings_before(sk, entry) == 0) {
		/*
		 * With a user timeout one lost probe would be enough to end the link. Idle time last: it is
		 * what starts the timer anew, with all the rest in force.
		 */
		option_write(sk, LEVEL_TCP, OPTION_USER_TIMEOUT, 0);
		option_write(sk, LEVEL_TCP, OPTION_KEEPINTVL, NUDGE_SECONDS);
		option_write(sk, LEVEL_TCP, OPTION_KEEPCNT, NUDGE_PROBES);
		option_write(sk, LEVEL_SOCKET, OPTION_KEEPALIVE, 1);
		option_write(sk, LEVEL_TCP, OPTION_KEEPIDLE, NUDGE_SECONDS);
		entry->step = NUDGE_UNDER_WAY;
	} else if (entry->step == NUDGE_END) {
		settings_restore(sk, entry);
	}
	return 0;
}
