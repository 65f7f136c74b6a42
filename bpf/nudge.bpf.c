// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * iter/tcp: make TCP ask now whether the other end of a silent link is still there.
 *
 * The daemon writes the cookies of links in doubt to `nudges`. Their keepalive timers are shortened:
 * one that has been idle for a second sends a probe at once, and a further one each second while
 * none is answered (net/ipv4/tcp_timer.c, tcp_keepalive_timer). It is TCP itself that asks, on the
 * socket's own route and with whatever signature the connection has, and TCP that reads the answer:
 * an ACK is evidence of life, the RST of a host that has rebooted ends the link. With data on its
 * way no keepalive is sent; there TCP's retransmissions ask.
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
 * What to go back to. Before 6.1 these options cannot be read here; then it is what the guard itself
 * has made of them, and a socket that it leaves alone is not nudged. 0, or not 0: not known.
 */
static __always_inline int settings_before(struct tcp_sock *sk, struct link_nudge *nudge)
{
	const struct guard_policy *rules = policy_in_force();
	struct liveness_settings settings;

	if (option_read(sk, LEVEL_SOCKET, OPTION_KEEPALIVE, &nudge->keepalive) == 0 &&
	    option_read(sk, LEVEL_TCP, OPTION_KEEPIDLE, &nudge->idle_seconds) == 0 &&
	    option_read(sk, LEVEL_TCP, OPTION_KEEPINTVL, &nudge->interval_seconds) == 0 &&
	    option_read(sk, LEVEL_TCP, OPTION_KEEPCNT, &nudge->probes) == 0)
		return 0;
	if (!rules || !rules->liveness_ns || mode_in_force() != MODE_ENFORCE)
		return -1;
	settings = liveness_settings(rules->liveness_ns);
	nudge->keepalive = 1;
	nudge->idle_seconds = settings.idle_seconds;
	nudge->interval_seconds = settings.interval_seconds;
	nudge->probes = settings.probes;
	return 0;
}

SEC("iter/tcp")
int nudge(struct bpf_iter__tcp *ctx)
{
	struct tcp_sock *sk = established_socket(ctx);
	struct link_nudge *entry;
	__u64 cookie;

	if (!sk)
		return 0;
	cookie = bpf_get_socket_cookie(sk);
	entry = bpf_map_lookup_elem(&nudges, &cookie);
	if (!entry)
		return 0;
	if (entry->step == NUDGE_BEGIN && settings_before(sk, entry) == 0) {
		/* Idle time last: it is what starts the timer anew, with all the rest in force. */
		option_write(sk, LEVEL_TCP, OPTION_KEEPINTVL, NUDGE_SECONDS);
		option_write(sk, LEVEL_TCP, OPTION_KEEPCNT, NUDGE_PROBES);
		option_write(sk, LEVEL_SOCKET, OPTION_KEEPALIVE, 1);
		option_write(sk, LEVEL_TCP, OPTION_KEEPIDLE, NUDGE_SECONDS);
		entry->step = NUDGE_UNDER_WAY;
	} else if (entry->step == NUDGE_END) {
		option_write(sk, LEVEL_SOCKET, OPTION_KEEPALIVE, entry->keepalive);
		option_write(sk, LEVEL_TCP, OPTION_KEEPINTVL, entry->interval_seconds);
		option_write(sk, LEVEL_TCP, OPTION_KEEPCNT, entry->probes);
		option_write(sk, LEVEL_TCP, OPTION_KEEPIDLE, entry->idle_seconds);
	}
	return 0;
}
