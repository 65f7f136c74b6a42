// SPDX-License-Identifier: BSD-2-Clause
/*
 * Quiet links whose peers knock, or would find no room: is the other end still there? See daemon.h.
 *
 * TCP is made to ask (guard_nudge()); where it waits for an acknowledgment of data already, which may last a
 * minute, the same question is asked beside it. It is looked at twenty times a second, and judged by pure/life.h.
 * Of a link that lives the evidence is noted. One that does not answer is marked: its peer's next SYN gets in, and
 * the link stays until TCP ends it or a new one has come in its place (replaced.c). Nothing is ended here.
 *
 * Then the socket's own settings are set back. Unanswered questions count against a service that has
 * keepalive of its own: its timer would end the link sooner than without us. Such a link is asked on,
 * with nothing that could end it, until it answers or its own time is over.
 */
#include "connguardd/daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <connguard/rules.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "pure/life.h"
#include "pure/names.h"
#include "pure/packet.h"

/* A service whose own keepalive takes longer than this to end a link gets it back sooner. */
#define ASK_ON_MAX_NS (600 * NS_PER_SECOND)
/* Links on trial at a time; further ones wait for the next dial or knock. */
#define TRIALS_MAX 256

struct trial {
	struct peer_address address;
	struct tcp_socket socket;
	struct life_trial life;
	__u64 asked_ns; /* last time that we asked beside TCP; 0: not */
	unsigned int asked; /* times */
	__u64 restore_after_ns; /* judged; its settings are set back then, or when it answers. 0: on trial */
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

/* With data on its way TCP asks by itself, and a user timeout is for that very case. */
static bool asks_by_itself(struct daemon *daemon, const struct tcp_socket *socket)
{
	struct socket_vitals vitals;

	return sockets_vitals(daemon->surroundings.sockets, socket, &vitals) == 0 &&
	       (vitals.unacknowledged || vitals.unanswered_retransmissions);
}

/*
 * Ask beside TCP, with its own numbers. What comes of it is TCP's business: an RST ends the link, an ACK is a sign
 * of life; no answer says nothing. A connection whose segments are signed (RFC 2385, RFC 5925) is left alone: to its
 * other end a question that is not would look like an attack.
 */
static void ask(struct daemon *daemon, struct trial *trial, __u64 now)
{
	struct packet_ends ends = { .local = trial->socket.local,
				    .remote = trial->socket.remote,
				    .local_port = trial->socket.local_port,
				    .remote_port = trial->socket.remote_port };
	__u8 packet[PACKET_PROBE_MAX];
	struct link_nudge seen;

	trial->asked_ns = now;
	trial->asked++;
	if (guard_link_look(daemon->guard, trial->socket.cookie, &seen) || seen.is_signed)
		return;
	ends.unacknowledged = seen.unacknowledged;
	ends.expected = seen.expected;
	packets_send(daemon, packet, packet_probe(&ends, packet), &ends.remote, seen.mark,
		     trial->socket.interface);
}

void probing_doubt(struct daemon *daemon, const struct guard_event *event)
{
	bool knocked = names_cause_subject(event->cause) == SUBJECT_KNOCK;
	struct probing *probing = daemon->probing;
	__u64 now = clock_now_ns(), cookies[PEER_SLOTS];
	struct guard_policy policy;
	struct tcp_socket socket;
	struct peer peer;
	size_t begun = 0;
	int result;

	if (guard_peer_read(daemon->guard, &event->address, &peer) ||
	    guard_policy_read(daemon->guard, &policy))
		return;
	/* A link has come up: the next one will ask for the place of a quiet one, if there is no other. */
	if (names_cause_subject(event->cause) == SUBJECT_LINK &&
	    (peer_room(&peer, &policy, now) || peer_exempt(&peer, now) ||
	     guard_exempts(daemon->guard, &event->address, now)))
		return;
	for (int i = 0; i < PEER_SLOTS && probing->count < TRIALS_MAX; i++) {
		const struct slot *slot = &peer.slots[i];
		struct trial *trial;

		if (!slot_is_link(slot) || slot_shows_life(slot, &policy, now) ||
		    slot->flags & SLOT_UNANSWERED)
			continue;
		/* Our own dial proves nothing: only what the rules put in doubt is asked. */
		if (names_cause_subject(event->cause) == SUBJECT_DIAL && !slot->doubted_ns)
			continue;
		trial = trial_of(probing, slot->cookie);
		if (trial) {
			trial->life.knocked |= knocked;
			continue;
		}
		if (sockets_find(daemon->surroundings.sockets, slot->cookie, &socket))
			continue;
		trial = &probing->trials[probing->count++];
		*trial = (struct trial){ .address = event->address,
					 .socket = socket,
					 .life = { .began_ns = now, .knocked = knocked } };
		if (!asks_by_itself(daemon, &trial->socket))
			cookies[begun++] = slot->cookie;
		else
			ask(daemon, trial, now);
	}
	result = begun ? guard_nudge(daemon->guard, cookies, begun, true, NULL) : 0;
	if (result && result != -EOPNOTSUPP)
		log_warning("a quiet link is not asked for a sign of life: %s", strerror(-result));
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

static void unanswered(struct daemon *daemon, const struct trial *trial)
{
	const struct guard_command command = { .operation = COMMAND_UNANSWERED,
					       .address = trial->address,
					       .cookie = trial->socket.cookie,
					       .local_port = trial->socket.local_port,
					       .remote_port = trial->socket.remote_port };

	if (guard_command(daemon->guard, &command) == 0)
		syns_let_in(daemon, &trial->address);
}

/*
 * Judged: how long its settings may stay as they are for the asking, 0: not at all. The number of probes
 * that TCP has left without an answer is in nobody's hands.
 */
static __u64 keep_asking_ns(struct daemon *daemon, const struct trial *trial)
{
	struct link_nudge before;
	__u64 seconds;

	if (guard_nudge_read(daemon->guard, trial->socket.cookie, &before) || !before.keepalive)
		return 0;
	if (before.user_timeout_ms)
		return before.user_timeout_ms * NS_PER_MS;
	seconds = before.idle_seconds + (__u64)before.interval_seconds * before.probes;
	return seconds * NS_PER_SECOND < ASK_ON_MAX_NS ? seconds * NS_PER_SECOND : ASK_ON_MAX_NS;
}

static void on_look(evutil_socket_t fd, short what, void *argument)
{
	struct daemon *daemon = argument;
	struct probing *probing = daemon->probing;
	__u64 now = clock_now_ns(), over[TRIALS_MAX];
	size_t kept = 0, over_count = 0;
	bool enforcing;

	(void)fd;
	(void)what;
	/* Who observes asks nobody, and has nobody's settings changed. */
	enforcing = daemon_enforces(daemon);
	for (size_t i = 0; i < probing->count; i++) {
		struct trial *trial = &probing->trials[i];
		enum life_verdict verdict = enforcing ? judge(daemon, trial, now) : LIFE_UNKNOWN;

		if (verdict == LIFE_UNANSWERED && !trial->restore_after_ns) {
			unanswered(daemon, trial);
			trial->restore_after_ns = now + keep_asking_ns(daemon, trial);
		}
		if (verdict == LIFE_UNDECIDED ||
		    (verdict == LIFE_UNANSWERED && now < trial->restore_after_ns &&
		     !asks_by_itself(daemon, &trial->socket))) {
			if (trial->asked && trial->asked < LIFE_QUESTIONS &&
			    now - trial->asked_ns >= NS_PER_SECOND)
				ask(daemon, trial, now);
			probing->trials[kept++] = *trial;
			continue;
		}
		if (verdict == LIFE_ALIVE)
			heard(daemon, trial, now);
		if (verdict != LIFE_UNANSWERED)
			syns_let_in_later(daemon, &trial->address);
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
