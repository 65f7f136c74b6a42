// SPDX-License-Identifier: BSD-2-Clause
/*
 * Silent links whose peers dial or knock: is the other end still there? See daemon.h.
 *
 * TCP is made to ask (guard_nudge()), looked at ten times a second, and judged by pure/life.h. A
 * link that is dead or stalled is released and destroyed, so that the peer's next SYN gets in; of one that
 * lives the evidence is noted, and its keepalive timer is set back.
 */
#include "connguardd/daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <connguard/rules.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "edge/links.h"
#include "pure/address_text.h"
#include "pure/life.h"

/* Links on trial at a time; further ones wait for the next dial or knock. */
#define TRIALS_MAX 256

struct trial {
	struct peer_address address;
	struct tcp_socket socket;
	struct life_trial life;
};

struct probing {
	struct event *look;
	struct trial trials[TRIALS_MAX];
	size_t count;
};

static struct trial *trial_of(struct probing *probing, __u64 cookie)
{
	for (size_t i = 0; i < probing->count; i++)
		if (probing->trials[i].socket.cookie == cookie)
			return &probing->trials[i];
	return NULL;
}

static void look_soon(struct probing *probing)
{
	const struct timeval interval = { .tv_usec = LIFE_LOOK_NS / 1000 };

	if (probing->count && !evtimer_pending(probing->look, NULL))
		evtimer_add(probing->look, &interval);
}

void probing_doubt(struct daemon *daemon, const struct peer_address *address, bool knocked)
{
	struct probing *probing = daemon->probing;
	__u64 now = clock_now_ns(), cookies[PEER_SLOTS];
	struct guard_policy policy;
	struct peer peer;
	size_t begun = 0;
	int result;

	if (guard_peer_read(daemon->guard, address, &peer) ||
	    guard_policy_read(daemon->guard, &policy))
		return;
	for (int i = 0; i < PEER_SLOTS && probing->count < TRIALS_MAX; i++) {
		const struct slot *slot = &peer.slots[i];
		struct trial *trial;

		if (!slot_is_link(slot) || slot_shows_life(slot, &policy, now))
			continue;
		trial = trial_of(probing, slot->cookie);
		if (trial) {
			trial->life.knocked |= knocked;
			continue;
		}
		trial = &probing->trials[probing->count];
		if (sockets_find(daemon->surroundings.sockets, slot->cookie, &trial->socket))
			continue;
		trial->address = *address;
		trial->life = (struct life_trial){ .began_ns = now, .knocked = knocked };
		probing->count++;
		cookies[begun++] = slot->cookie;
	}
	if (!begun)
		return;
	/* With data on its way, or where the kernel cannot, TCP asks by itself or not at all. */
	result = guard_nudge(daemon->guard, cookies, begun, true, NULL);
	if (result && result != -EOPNOTSUPP)
		log_warning("a silent link is not probed: %s", strerror(-result));
	look_soon(probing);
}

/* Ask TCP, and judge. */
static enum life_verdict judge(struct daemon *daemon, struct trial *trial, __u64 now)
{
	struct socket_vitals vitals;
	struct life_signs signs = {};
	const struct slot *slot;
	struct peer peer;
	/* Before the slot: an answer is in there before TCP has seen it. */
	int result = sockets_vitals(daemon->surroundings.sockets, &trial->socket, &vitals);

	if (result && result != -ENOENT)
		return LIFE_UNDECIDED;
	if (!result) {
		signs.established = vitals.state == TCP_ESTABLISHED;
		signs.silent_ns = vitals.silent_ns;
		signs.probes = vitals.unanswered_probes;
		signs.retransmissions = vitals.unanswered_retransmissions;
		signs.round_trip_ns = vitals.round_trip_ns;
	}
	if (!guard_peer_read(daemon->guard, &trial->address, &peer)) {
		slot = slot_of(&peer, trial->socket.cookie);
		signs.stalled_ns = slot ? slot->stalled_ns : 0;
	}
	return life_judge(&trial->life, &signs, now);
}

static void heard(struct daemon *daemon, const struct trial *trial, __u64 now)
{
	const struct guard_command command = { .operation = COMMAND_HEARD,
					       .address = trial->address,
					       .cookie = trial->socket.cookie,
					       .until_ns = now };

	guard_command(daemon->guard, &command);
}

static void end(struct daemon *daemon, const struct trial *trial, enum cause cause)
{
	char text[ADDRESS_TEXT_MAX];
	int result = links_end_useless(daemon->guard, daemon->surroundings.sockets,
				       &trial->address, &trial->socket, cause);

	if (result && result != -ENOENT)
		log_warning("%s: a link that is of no use cannot be destroyed: %s",
			    address_to_text(&trial->address, text), strerror(-result));
}

static void on_look(evutil_socket_t fd, short what, void *argument)
{
	struct daemon *daemon = argument;
	struct probing *probing = daemon->probing;
	__u64 now = clock_now_ns(), over[TRIALS_MAX];
	size_t kept = 0, over_count = 0;

	(void)fd;
	(void)what;
	for (size_t i = 0; i < probing->count; i++) {
		struct trial *trial = &probing->trials[i];
		enum life_verdict verdict = judge(daemon, trial, now);

		if (verdict == LIFE_UNDECIDED) {
			probing->trials[kept++] = *trial;
			continue;
		}
		if (verdict == LIFE_ALIVE)
			heard(daemon, trial, now);
		else if (verdict == LIFE_DEAD)
			end(daemon, trial, CAUSE_link_dead);
		else if (verdict == LIFE_STALLED)
			end(daemon, trial, CAUSE_link_stalled);
		over[over_count++] = trial->socket.cookie;
	}
	probing->count = kept;
	if (over_count)
		guard_nudge(daemon->guard, over, over_count, false, NULL);
	look_soon(probing);
}

int probing_start(struct daemon *daemon)
{
	cleanup_free __u64 *left = NULL;
	size_t left_count;

	daemon->probing = calloc(1, sizeof(*daemon->probing));
	if (!daemon->probing)
		return -ENOMEM;
	daemon->probing->look = evtimer_new(daemon->base, on_look, daemon);
	if (!daemon->probing->look)
		return -ENOMEM;
	/* A daemon that died in the middle has left timers shortened. */
	if (guard_nudges_read(daemon->guard, &left, &left_count) == 0 && left_count)
		guard_nudge(daemon->guard, left, left_count, false, NULL);
	return 0;
}

void probing_stop(struct daemon *daemon)
{
	struct probing *probing = daemon->probing;
	__u64 cookies[TRIALS_MAX];

	if (!probing)
		return;
	for (size_t i = 0; i < probing->count; i++)
		cookies[i] = probing->trials[i].socket.cookie;
	if (probing->count)
		guard_nudge(daemon->guard, cookies, probing->count, false, NULL);
	if (probing->look)
		event_free(probing->look);
	free(probing);
	daemon->probing = NULL;
}
