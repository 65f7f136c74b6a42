// SPDX-License-Identifier: BSD-2-Clause
/*
 * Quiet links whose peers knock, or would find no room: is the other end still there? See daemon.h.
 *
 * The question is asked beside TCP first, which changes nothing of the service's socket and which nearly every
 * peer that lives answers. Where no answer comes TCP itself is made to ask (guard_nudge()), unless it waits for an
 * acknowledgment of data already, which may last a minute: then the question beside it is repeated. All is looked
 * at twenty times a second, and judged by pure/life.h.
 * Of a link that lives the evidence is noted. One that does not answer is marked: its peer's next SYN gets in, and
 * the link stays until TCP ends it or a new one has come in its place (replaced.c). Nothing is ended here.
 *
 * Then what was changed for the asking is set back. Unanswered questions count against a service that has
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
#include "edge/links.h"
#include "pure/life.h"
#include "pure/names.h"
#include "pure/packet.h"
#include "pure/surplus.h"

/* A service whose own keepalive takes longer than this to end a link gets it back sooner. */
#define ASK_ON_MAX_NS (600 * NS_PER_SECOND)
/*
 * Links on trial at a time, no more than can be nudged (NUDGES_MAX of bpf/maps.bpf.h); further ones wait for the next
 * knock. Ten thousand SYNs a second in the names of as many quiet peers, which are alive, do not fill it.
 */
#define TRIALS_MAX 1024

struct trial {
	struct peer_address address;
	struct tcp_socket socket;
	struct life_trial life;
	__u64 asked_ns; /* last time that we asked beside TCP; 0: not */
	unsigned int asked; /* times */
	bool nudged; /* TCP is made to ask */
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

/*
 * Ask the question that TCP's keepalive asks, with TCP's own numbers. What comes of it is TCP's business: an RST ends
 * the link, an ACK is a sign of life; no answer says nothing. A connection whose segments are signed (RFC 2385,
 * RFC 5925) is left alone: to its other end a question that is not would look like an attack.
 */
static void ask(struct daemon *daemon, struct trial *trial, __u64 now)
{
	struct packet_ends ends = { .local = trial->socket.local,
				    .remote = trial->socket.remote,
				    .local_port = trial->socket.local_port,
				    .remote_port = trial->socket.remote_port };
	struct link_sight sight = { .cookie = trial->socket.cookie,
				    .local = ends.local,
				    .remote = ends.remote,
				    .local_port = ends.local_port,
				    .remote_port = ends.remote_port };
	__u8 packet[PACKET_PROBE_MAX];

	if (guard_link_look(daemon->guard, trial->socket.interface, &sight) || sight.is_signed)
		return;
	ends.unacknowledged = sight.unacknowledged;
	ends.expected = sight.expected;
	if (packets_send(daemon, packet, packet_probe(&ends, packet), &ends.remote, sight.mark,
			 trial->socket.interface))
		return;
	trial->asked_ns = now;
	trial->asked++;
}

/* Make TCP ask in all these trials. */
static void make_tcp_ask(struct daemon *daemon, struct trial *const *trials, size_t count)
{
	__u64 cookies[TRIALS_MAX];
	int result;

	for (size_t i = 0; i < count; i++) {
		cookies[i] = trials[i]->socket.cookie;
		trials[i]->nudged = true;
	}
	result = count ? guard_nudge(daemon->guard, cookies, count, true, NULL) : 0;
	if (result && result != -EOPNOTSUPP)
		log_warning("a quiet link is not asked for a sign of life: %s", strerror(-result));
}

/* Ask a link, unless it is asked already or there is no room: `knocked`, its peer knocks. */
static void begin(struct daemon *daemon, const struct peer_address *address, const struct slot *slot,
		  bool knocked, __u64 now)
{
	struct probing *probing = daemon->probing;
	struct trial *trial = trial_of(probing, slot->cookie);
	struct tcp_socket socket;

	if (trial)
		trial->life.knocked |= knocked;
	if (trial || probing->count == TRIALS_MAX ||
	    links_socket(daemon->surroundings.sockets, address, slot, &socket))
		return;
	trial = &probing->trials[probing->count++];
	*trial = (struct trial){ .address = *address,
				 .socket = socket,
				 .life = { .began_ns = now, .knocked = knocked } };
	ask(daemon, trial, now);
}

void probing_prove(struct daemon *daemon, const struct peer *peer)
{
	__u64 now = clock_now_ns();
	struct guard_policy policy;

	if (guard_policy_read(daemon->guard, &policy))
		return;
	for (int i = 0; i < PEER_SLOTS; i++)
		if (slot_is_link(&peer->slots[i]) && !surplus_proven(&peer->slots[i], &policy, now, now))
			begin(daemon, &peer->address, &peer->slots[i], false, now);
	look_soon(daemon->probing);
}

void probing_doubt(struct daemon *daemon, const struct guard_event *event)
{
	bool knocked = names_cause_subject(event->cause) == SUBJECT_KNOCK;
	__u64 now = clock_now_ns();
	struct guard_policy policy;
	struct peer peer;

	if (guard_peer_read(daemon->guard, &event->address, &peer) ||
	    guard_policy_read(daemon->guard, &policy))
		return;
	/* A link has come up: the next one will ask for the place of a quiet one, if there is no other. */
	if (names_cause_subject(event->cause) == SUBJECT_LINK &&
	    (peer_room(&peer, &policy, now) || peer_exempt(&peer, now) ||
	     guard_exempts(daemon->guard, &event->address, now)))
		return;
	for (int i = 0; i < PEER_SLOTS; i++) {
		const struct slot *slot = &peer.slots[i];

		if (!slot_is_link(slot) || slot_shows_life(slot, &policy, now) ||
		    slot->flags & SLOT_UNANSWERED)
			continue;
		/* Our own dial proves nothing: only what the rules put in doubt is asked. */
		if (names_cause_subject(event->cause) == SUBJECT_DIAL && !slot->doubted_ns)
			continue;
		begin(daemon, &event->address, slot, knocked, now);
	}
	look_soon(daemon->probing);
}

/* What there is to know of a link on trial at one time. */
struct signs {
	struct life_signs of_life;
	bool tcp_asks; /* with data on its way it does by itself, and a user timeout is for that very case */
};

/* 0, or a negative errno: TCP does not tell. */
static int read_signs(struct daemon *daemon, const struct trial *trial, struct signs *ret_signs)
{
	struct socket_vitals vitals;
	struct life_signs signs = {};
	const struct slot *slot;
	struct peer peer;
	/* Before the slot: an answer is in there before TCP has seen it. */
	int result = sockets_vitals(daemon->surroundings.sockets, &trial->socket, &vitals);

	*ret_signs = (struct signs){};
	if (result && result != -ENOENT)
		return result;
	if (!result) {
		ret_signs->tcp_asks = vitals.unacknowledged || vitals.unanswered_retransmissions;
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
	ret_signs->of_life = signs;
	return 0;
}

/* Has the link been heard since it was asked? The hook has noted it then, so nobody else need be asked. */
static bool heard_since(struct daemon *daemon, const struct trial *trial)
{
	const struct slot *slot;
	struct peer peer;

	if (guard_peer_read(daemon->guard, &trial->address, &peer))
		return false;
	slot = slot_of(&peer, trial->socket.cookie);
	return slot && slot->kind == SLOT_LINK && slot->heard_ns > trial->life.began_ns;
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

/* A verdict other than LIFE_UNDECIDED: what follows from it. True: it is asked on all the same. */
static bool settle(struct daemon *daemon, struct trial *trial, enum life_verdict verdict,
		   const struct signs *signs, __u64 now)
{
	if (verdict == LIFE_UNANSWERED) {
		if (!trial->restore_after_ns) {
			unanswered(daemon, trial);
			trial->restore_after_ns = now + keep_asking_ns(daemon, trial);
		}
		return now < trial->restore_after_ns && !signs->tcp_asks;
	}
	syns_let_in_later(daemon, &trial->address);
	return false;
}

static void on_look(evutil_socket_t fd, short what, void *argument)
{
	struct daemon *daemon = argument;
	struct probing *probing = daemon->probing;
	size_t kept = 0, by_tcp_count = 0, over_count = 0;
	struct trial *by_tcp[TRIALS_MAX] = {};
	__u64 now = clock_now_ns(), over[TRIALS_MAX];
	bool enforcing;

	(void)fd;
	(void)what;
	/* Who observes asks nobody, and has nobody's settings changed. */
	enforcing = daemon_enforces(daemon);
	for (size_t i = 0; i < probing->count; i++) {
		struct trial *trial = &probing->trials[i];
		enum life_verdict verdict = LIFE_UNKNOWN;
		struct signs signs = {};

		if (enforcing && heard_since(daemon, trial)) {
			verdict = LIFE_ALIVE;
		} else if (enforcing) {
			verdict = read_signs(daemon, trial, &signs) ?
					  LIFE_UNDECIDED :
					  life_judge(&trial->life, &signs.of_life, now);
			if (verdict == LIFE_ALIVE)
				heard(daemon, trial, now);
		}
		if (verdict != LIFE_UNDECIDED && !settle(daemon, trial, verdict, &signs, now)) {
			if (trial->nudged)
				over[over_count++] = trial->socket.cookie;
			continue;
		}
		probing->trials[kept] = *trial;
		trial = &probing->trials[kept++];
		if (signs.tcp_asks && trial->asked && trial->asked < LIFE_QUESTIONS &&
		    now - trial->asked_ns >= NS_PER_SECOND)
			ask(daemon, trial, now);
		else if (!signs.tcp_asks && !trial->nudged &&
			 (!trial->asked || life_wants_tcp(&trial->life, &signs.of_life, now)))
			by_tcp[by_tcp_count++] = trial;
	}
	probing->count = kept;
	make_tcp_ask(daemon, by_tcp, by_tcp_count);
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
	size_t nudged = 0;

	if (!probing)
		return;
	for (size_t i = 0; i < probing->count; i++)
		if (probing->trials[i].nudged)
			cookies[nudged++] = probing->trials[i].socket.cookie;
	if (nudged)
		guard_nudge(daemon->guard, cookies, nudged, false, NULL);
	if (probing->look)
		event_free(probing->look);
	free(probing);
	daemon->probing = NULL;
}
