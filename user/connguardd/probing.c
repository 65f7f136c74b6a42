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
 *
 * Whoever sends SYNs in the names of linked peers has this work done, so it is bounded: peers are collected and asked
 * together, their links are looked up, TCP is not asked again what it thinks of one that has sent and received nothing,
 * and what takes a walk over all sockets rests afterwards.
 */
#include "connguardd/daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <connguard/rules.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pieces.h"
#include "edge/links.h"
#include "pure/address_index.h"
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
/*
 * Who comes into doubt is asked at once, or if others were asked less than so long before, with all who come until
 * then: with the next reading of the ring afterwards, or a little later if there is none. A peer takes far longer to
 * repeat its SYN.
 */
#define ASKED_APART_NS (10 * NS_PER_MS)
static const struct timeval asking_pause = { .tv_usec = 12000 };
/*
 * Walks over all sockets rest for so many times as long as they have worked: an eightieth of a processor at most. Who has
 * rested for longer has credit, for a twentieth of a second of work: a few links in doubt wait for nobody.
 */
#define REST_RATIO 80
#define CREDIT_NS (4 * NS_PER_SECOND)
/* Within a walk: a fifth of a processor, in pieces that hold nobody up. */
#define STEP_REST_RATIO 4
/* What TCP has told of a link is asked anew after this, though nothing has come or left. */
#define TOLD_FOR_NS NS_PER_SECOND
/* A link that has come up since shows life for as long (the least `suspect_after`). */
#define ALONE_FOR_NS NS_PER_SECOND

_Static_assert(TRIALS_MAX <= ADDRESS_INDEX_MAX, "each trial is found by its peer");

struct trial {
	struct peer_address address;
	struct tcp_socket socket;
	struct life_trial life;
	__u64 asked_ns; /* last time that we asked beside TCP; 0: not */
	unsigned int asked; /* times */
	bool nudged; /* TCP is made to ask */
	__u64 restore_after_ns; /* judged; its settings are set back then, or when it answers. 0: on trial */
	__u64 alone_until_ns; /* until then its peer has no other link that could be quiet */
	struct socket_vitals told; /* by TCP */
	__u64 told_ns; /* when; 0: never */
	__u32 segments_in, segments_out; /* shortly before that */
};

/* A peer some of whose links are in doubt. */
struct doubt {
	struct peer_address address;
	unsigned int subjects; /* SUBJECT_BIT() of what was turned away, or has come up */
};

#define SUBJECT_BIT(subject) (1U << (subject))

struct probing {
	struct event *look, *asking;
	struct trial trials[TRIALS_MAX];
	struct link_sight sights[TRIALS_MAX]; /* of the trials, as last seen */
	size_t count;
	struct address_index by_address; /* of the trials */
	struct doubt doubts[TRIALS_MAX]; /* not looked at yet */
	size_t doubt_count;
	__u64 doubts_asked_ns; /* when those before them were */
	struct address_index doubts_by_address;
	__u64 over[TRIALS_MAX]; /* cookies of links that TCP is made to ask, to be set back. With the trials no more than
				 * TRIALS_MAX */
	size_t over_count;
	struct pieces *walking; /* making TCP ask, and setting back */
	struct nudge_walk *walk; /* the one under way; NULL: none is */
	__u64 walk_after_ns;    /* what has worked for long rests until then: such a walk, */
	__u64 search_after_ns;  /* and searching for a socket */
	__u32 interface; /* of the last link that was bound to one; 0: none was */
};

static struct trial *trial_of(struct probing *probing, const struct peer_address *address, __u64 cookie)
{
	for (size_t i = address_index_first(&probing->by_address, address); i != ADDRESS_INDEX_END;
	     i = address_index_next(&probing->by_address, i))
		if (probing->trials[i].socket.cookie == cookie)
			return &probing->trials[i];
	return NULL;
}

/* Trials have left. */
static void index_anew(struct probing *probing)
{
	address_index_clear(&probing->by_address);
	for (size_t i = 0; i < probing->count; i++)
		address_index_add(&probing->by_address, &probing->trials[i].address, i);
}

static void look_soon(struct probing *probing)
{
	const struct timeval interval = { .tv_usec = LIFE_LOOK_NS / 1000 };

	if ((probing->count || probing->over_count) && !evtimer_pending(probing->look, NULL))
		evtimer_add(probing->look, &interval);
}

/*
 * When work may be done again that rested until `after_ns` and has taken a processor so long now. What it has not used
 * lately it may use at once.
 */
static __u64 rested_ns(__u64 after_ns, __u64 worked_ns)
{
	__u64 now = clock_now_ns(), from = now > CREDIT_NS ? now - CREDIT_NS : 0;

	return (after_ns > from ? after_ns : from) + REST_RATIO * worked_ns;
}

/* ---- looking up ---- */

static struct link_sight sight_of(const struct trial *trial)
{
	return (struct link_sight){ .cookie = trial->socket.cookie,
				    .local = trial->socket.local,
				    .remote = trial->address,
				    .local_port = trial->socket.local_port,
				    .remote_port = trial->socket.remote_port };
}

/* Look at the trials from `first` on. */
static void see(struct daemon *daemon, size_t first)
{
	struct probing *probing = daemon->probing;
	size_t end;

	for (size_t i = first; i < probing->count; i++)
		probing->sights[i] = sight_of(&probing->trials[i]);
	/* Nearly all are bound to no interface. */
	for (size_t begin = first; begin < probing->count; begin = end) {
		__u32 interface = probing->trials[begin].socket.interface;

		end = begin + 1;
		while (end < probing->count && probing->trials[end].socket.interface == interface)
			end++;
		guard_links_look(daemon->guard, interface, &probing->sights[begin], end - begin);
	}
}

/* Is the link at this interface? */
static bool is_at(struct daemon *daemon, struct trial *trial, __u32 interface, struct link_sight *sight)
{
	*sight = sight_of(trial);
	if (guard_link_look(daemon->guard, interface, sight))
		return false;
	trial->socket.interface = interface;
	return true;
}

/*
 * A link that was not seen where its slot says: it is bound to an interface, which no slot knows, or is about to end.
 * True: it is found. One that is at an interface of its own is searched for among all sockets, now and then.
 */
static bool find(struct daemon *daemon, struct trial *trial, struct link_sight *sight)
{
	struct probing *probing = daemon->probing;
	struct sockets *sockets = daemon->surroundings.sockets;
	__u64 worked;
	int result;

	if (probing->interface && is_at(daemon, trial, probing->interface, sight))
		return true;
	result = sockets_query(sockets, &trial->socket, &trial->socket);
	if (result == -ENOENT && clock_now_ns() >= probing->search_after_ns) {
		worked = clock_worked_ns();
		result = sockets_find(sockets, trial->socket.cookie, &trial->socket);
		probing->search_after_ns = rested_ns(probing->search_after_ns, clock_worked_ns() - worked);
	}
	if (result)
		return false;
	if (trial->socket.interface)
		probing->interface = trial->socket.interface;
	is_at(daemon, trial, trial->socket.interface, sight);
	return true;
}

/* Find what the new trials, from `first` on, are about; those whose links are gone leave. */
static void locate(struct daemon *daemon, size_t first)
{
	struct probing *probing = daemon->probing;
	size_t kept = first;

	see(daemon, first);
	for (size_t i = first; i < probing->count; i++) {
		struct trial *trial = &probing->trials[i];
		struct link_sight *sight = &probing->sights[i];

		if (!sight->is_there && !find(daemon, trial, sight)) {
			if (trial->nudged)
				probing->over[probing->over_count++] = trial->socket.cookie;
			continue;
		}
		probing->trials[kept] = *trial;
		probing->sights[kept++] = *sight;
	}
	if (kept == probing->count)
		return;
	probing->count = kept;
	index_anew(probing);
}

/* ---- asking ---- */

/*
 * Ask the question that TCP's keepalive asks, with TCP's own numbers. What comes of it is TCP's business: an RST ends
 * the link, an ACK is a sign of life; no answer says nothing. A connection whose segments are signed (RFC 2385,
 * RFC 5925) is left alone: to its other end a question that is not would look like an attack.
 */
static void ask(struct daemon *daemon, struct trial *trial, const struct link_sight *sight, __u64 now)
{
	const struct packet_ends ends = { .local = trial->socket.local,
					  .remote = trial->socket.remote,
					  .local_port = trial->socket.local_port,
					  .remote_port = trial->socket.remote_port,
					  .unacknowledged = sight->unacknowledged,
					  .expected = sight->expected };
	__u8 packet[PACKET_PROBE_MAX];

	if (!sight->is_there || sight->is_signed)
		return;
	if (packets_send(daemon, packet, packet_probe(&ends, packet), &ends.remote, sight->mark,
			 trial->socket.interface))
		return;
	trial->asked_ns = now;
	trial->asked++;
}

static void say_not_asked(int result)
{
	if (result && result != -EOPNOTSUPP)
		log_warning("a quiet link is not asked for a sign of life: %s", strerror(-result));
}

static int walk_on(void *argument)
{
	struct daemon *daemon = argument;

	return guard_nudge_step(daemon->probing->walk);
}

static void walked(int result, bool again, void *argument)
{
	struct daemon *daemon = argument;
	struct probing *probing = daemon->probing;
	int finish = guard_nudge_finish(probing->walk, NULL);

	(void)again;
	probing->walk = NULL;
	probing->walk_after_ns = rested_ns(probing->walk_after_ns, pieces_worked_ns(probing->walking));
	say_not_asked(result ? result : finish);
}

static const struct pieces_work walk_in_pieces = { .step = walk_on, .end = walked, .rest_ratio = STEP_REST_RATIO };

/*
 * Make TCP ask in these trials, and set back what is over: all in one walk over all sockets, unless one is under way, or
 * it rests from the last one. Then both wait; a knock is held for ASK_MAX_NS at most, whatever is known by then.
 */
static void make_tcp_ask(struct daemon *daemon, struct trial *const *trials, size_t count)
{
	struct probing *probing = daemon->probing;
	__u64 cookies[TRIALS_MAX];
	int result;

	if ((!count && !probing->over_count) || probing->walk || clock_now_ns() < probing->walk_after_ns)
		return;
	for (size_t i = 0; i < count; i++) {
		cookies[i] = trials[i]->socket.cookie;
		trials[i]->nudged = true;
	}
	result = guard_nudge_start(daemon->guard, cookies, count, probing->over, probing->over_count, &probing->walk);
	probing->over_count = 0;
	if (result)
		say_not_asked(result);
	else
		pieces_ask(probing->walking);
}

/* TCP is made to ask this link still: it was to be set back, and is not any more. */
static bool take_back(struct probing *probing, __u64 cookie)
{
	for (size_t i = 0; i < probing->over_count; i++)
		if (probing->over[i] == cookie) {
			probing->over[i] = probing->over[--probing->over_count];
			return true;
		}
	return false;
}

/* Put a link on trial, unless it is or there is no room: `knocked`, its peer knocks. */
static void put_on_trial(struct probing *probing, const struct peer_address *address, const struct slot *slot,
			 bool knocked, __u64 now)
{
	struct trial *trial = trial_of(probing, address, slot->cookie);

	if (trial) {
		trial->life.knocked |= knocked;
		return;
	}
	if (probing->count + probing->over_count >= TRIALS_MAX)
		return;
	trial = &probing->trials[probing->count];
	*trial = (struct trial){ .address = *address,
				 .socket = links_known(address, slot),
				 .life = { .began_ns = now, .knocked = knocked },
				 .nudged = take_back(probing, slot->cookie) };
	address_index_add(&probing->by_address, address, probing->count++);
}

/* Ask the links that were put on trial since there were `first`. */
static void begin(struct daemon *daemon, size_t first, __u64 now)
{
	struct probing *probing = daemon->probing;

	locate(daemon, first);
	for (size_t i = first; i < probing->count; i++)
		ask(daemon, &probing->trials[i], &probing->sights[i], now);
	look_soon(probing);
}

void probing_prove(struct daemon *daemon, const struct peer *peer)
{
	struct probing *probing = daemon->probing;
	size_t first = probing->count;
	__u64 now = clock_now_ns();
	struct guard_policy policy;

	if (guard_policy_read(daemon->guard, &policy))
		return;
	for (int i = 0; i < PEER_SLOTS; i++)
		if (slot_is_link(&peer->slots[i]) && !surplus_proven(&peer->slots[i], &policy, now, now))
			put_on_trial(probing, &peer->address, &peer->slots[i], false, now);
	begin(daemon, first, now);
}

/* ---- doubts ---- */

/* Which links of the peer the doubt is about. */
enum asked_links {
	ASK_NONE,
	ASK_DOUBTED, /* our own dial proves nothing: only what the rules put in doubt is asked */
	ASK_QUIET,
};

static enum asked_links links_to_ask(struct daemon *daemon, const struct doubt *doubt, const struct peer *peer,
				     const struct guard_policy *policy, __u64 now)
{
	const unsigned int dial = SUBJECT_BIT(SUBJECT_DIAL), link = SUBJECT_BIT(SUBJECT_LINK);

	if (doubt->subjects & ~(dial | link))
		return ASK_QUIET;
	/* A link has come up: the next one will ask for the place of a quiet one, if there is no other. */
	if (doubt->subjects & link && !peer_room(peer, policy, now) && !peer_exempt(peer, now) &&
	    !guard_exempts(daemon->guard, &doubt->address, now))
		return ASK_QUIET;
	return doubt->subjects & dial ? ASK_DOUBTED : ASK_NONE;
}

/* Put on trial what the doubt is about. */
static void try_links(struct daemon *daemon, const struct doubt *doubt, const struct guard_policy *policy, __u64 now)
{
	struct probing *probing = daemon->probing;
	const struct slot *quiet[PEER_SLOTS], *link = NULL;
	enum asked_links asked = ASK_NONE;
	size_t links = 0, count = 0;
	struct trial *trial;
	struct peer peer;

	if (guard_slots_read(daemon->guard, &doubt->address, &peer))
		return;
	for (int i = 0; i < PEER_SLOTS; i++) {
		const struct slot *slot = &peer.slots[i];

		if (slot->kind == SLOT_LINK) {
			link = slot;
			links++;
		}
		if (slot_is_link(slot) && !slot_shows_life(slot, policy, now) && !(slot->flags & SLOT_UNANSWERED))
			quiet[count++] = slot;
	}
	if (count)
		asked = links_to_ask(daemon, doubt, &peer, policy, now);
	for (size_t i = 0; i < count; i++)
		if (asked == ASK_QUIET || (asked == ASK_DOUBTED && quiet[i]->doubted_ns))
			put_on_trial(probing, &doubt->address, quiet[i],
				     doubt->subjects & SUBJECT_BIT(SUBJECT_KNOCK), now);
	trial = links == 1 ? trial_of(probing, &doubt->address, link->cookie) : NULL;
	if (trial)
		trial->alone_until_ns = now + ALONE_FOR_NS;
}

/* Ask all who are in doubt. */
static void ask_doubted(struct daemon *daemon)
{
	struct probing *probing = daemon->probing;
	size_t first = probing->count;
	__u64 now = clock_now_ns();
	struct guard_policy policy;

	if (guard_policy_read(daemon->guard, &policy) == 0)
		for (size_t i = 0; i < probing->doubt_count; i++)
			try_links(daemon, &probing->doubts[i], &policy, now);
	probing->doubt_count = 0;
	probing->doubts_asked_ns = now;
	address_index_clear(&probing->doubts_by_address);
	event_del(probing->asking);
	begin(daemon, first, now);
}

static void on_asking(evutil_socket_t fd, short what, void *argument)
{
	(void)fd;
	(void)what;
	ask_doubted(argument);
}

void probing_ask(struct daemon *daemon)
{
	struct probing *probing = daemon->probing;

	if (!probing->doubt_count)
		return;
	if (clock_now_ns() - probing->doubts_asked_ns >= ASKED_APART_NS)
		ask_doubted(daemon);
	else if (!evtimer_pending(probing->asking, NULL))
		evtimer_add(probing->asking, &asking_pause);
}

/*
 * What is on trial already is not looked at again, but noted: the peer of `event` knocks. True: it had no other link
 * then that could be quiet.
 */
static bool is_on_trial(struct probing *probing, const struct guard_event *event)
{
	bool knocked = names_cause_subject(event->cause) == SUBJECT_KNOCK, all = false;

	for (size_t i = address_index_first(&probing->by_address, &event->address); i != ADDRESS_INDEX_END;
	     i = address_index_next(&probing->by_address, i)) {
		struct trial *trial = &probing->trials[i];

		if (!address_equal(&trial->address, &event->address))
			continue;
		trial->life.knocked |= knocked;
		all |= event->time_ns < trial->alone_until_ns;
	}
	return all;
}

/* What is in doubt of this peer already, or room for it; NULL: there is none. */
static struct doubt *doubt_of(struct probing *probing, const struct peer_address *address)
{
	struct doubt *doubt;

	for (size_t i = address_index_first(&probing->doubts_by_address, address); i != ADDRESS_INDEX_END;
	     i = address_index_next(&probing->doubts_by_address, i))
		if (address_equal(&probing->doubts[i].address, address))
			return &probing->doubts[i];
	if (probing->doubt_count == TRIALS_MAX)
		return NULL;
	doubt = &probing->doubts[probing->doubt_count];
	*doubt = (struct doubt){ .address = *address };
	address_index_add(&probing->doubts_by_address, address, probing->doubt_count++);
	return doubt;
}

void probing_doubt(struct daemon *daemon, const struct guard_event *event)
{
	struct probing *probing = daemon->probing;
	enum cause_subject subject = names_cause_subject(event->cause);
	struct doubt *doubt;

	if (subject != SUBJECT_LINK && is_on_trial(probing, event))
		return;
	doubt = doubt_of(probing, &event->address);
	if (!doubt) {
		ask_doubted(daemon);
		doubt = doubt_of(probing, &event->address);
	}
	doubt->subjects |= SUBJECT_BIT(subject);
}

/* ---- judging ---- */

/* What there is to know of a link on trial at one time. */
struct signs {
	struct life_signs of_life;
	bool tcp_asks; /* with data on its way it does by itself, and a user timeout is for that very case */
};

/* Would TCP tell the same as it has told, but for the time? */
static bool is_as_told(const struct trial *trial, const struct link_sight *sight, __u64 now)
{
	return trial->told_ns && now - trial->told_ns < TOLD_FOR_NS && sight->is_there &&
	       sight->segments_in == trial->segments_in && sight->segments_out == trial->segments_out;
}

/* 0, or a negative errno: TCP does not tell. */
static int read_signs(struct daemon *daemon, struct trial *trial, const struct link_sight *sight, __u64 now,
		      struct signs *ret_signs)
{
	__u64 stalled_ns = sight->stalled_ns;
	const struct slot *slot;
	struct peer peer;
	int result;

	*ret_signs = (struct signs){};
	if (!is_as_told(trial, sight, now)) {
		/* Before the slot: an answer is in there before TCP has seen it. */
		result = sockets_vitals(daemon->surroundings.sockets, &trial->socket, &trial->told);
		trial->told_ns = result ? 0 : now;
		if (result)
			return result == -ENOENT ? 0 : result;
		trial->segments_in = sight->segments_in;
		trial->segments_out = sight->segments_out;
		slot = guard_slots_read(daemon->guard, &trial->address, &peer) ?
			       NULL :
			       slot_of(&peer, trial->socket.cookie);
		stalled_ns = slot ? slot->stalled_ns : 0;
	}
	ret_signs->tcp_asks = trial->told.unacknowledged || trial->told.unanswered_retransmissions;
	ret_signs->of_life = (struct life_signs){
		.established = trial->told.state == TCP_ESTABLISHED,
		.silent_ns = trial->told.silent_ns + (now - trial->told_ns),
		.stalled_ns = stalled_ns,
		.probes = trial->told.unanswered_probes,
		.retransmissions = trial->told.unanswered_retransmissions,
		.round_trip_ns = trial->told.round_trip_ns,
	};
	return 0;
}

/* Has the link been heard since it was asked? The hook has noted it then, so nobody else need be asked. */
static bool heard_since(const struct trial *trial, const struct link_sight *sight)
{
	return sight->heard_ns > trial->life.began_ns;
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
	struct trial *by_tcp[TRIALS_MAX] = {};
	size_t kept = 0, by_tcp_count = 0;
	__u64 now = clock_now_ns();
	bool enforcing;

	(void)fd;
	(void)what;
	/* Who observes asks nobody, and has nobody's settings changed. */
	enforcing = daemon_enforces(daemon);
	see(daemon, 0);
	for (size_t i = 0; i < probing->count; i++) {
		const struct link_sight *sight = &probing->sights[i];
		struct trial *trial = &probing->trials[i];
		enum life_verdict verdict = LIFE_UNKNOWN;
		struct signs signs = {};

		if (enforcing && heard_since(trial, sight)) {
			verdict = LIFE_ALIVE;
		} else if (enforcing) {
			verdict = read_signs(daemon, trial, sight, now, &signs) ?
					  LIFE_UNDECIDED :
					  life_judge(&trial->life, &signs.of_life, now);
			if (verdict == LIFE_ALIVE)
				heard(daemon, trial, now);
		}
		if (verdict != LIFE_UNDECIDED && !settle(daemon, trial, verdict, &signs, now)) {
			if (trial->nudged)
				probing->over[probing->over_count++] = trial->socket.cookie;
			continue;
		}
		probing->trials[kept] = *trial;
		trial = &probing->trials[kept++];
		if (signs.tcp_asks && trial->asked && trial->asked < LIFE_QUESTIONS &&
		    now - trial->asked_ns >= NS_PER_SECOND)
			ask(daemon, trial, sight, now);
		else if (!signs.tcp_asks && !trial->nudged &&
			 (!trial->asked || life_wants_tcp(&trial->life, &signs.of_life, now)))
			by_tcp[by_tcp_count++] = trial;
	}
	if (kept != probing->count) {
		probing->count = kept;
		index_anew(probing);
	}
	make_tcp_ask(daemon, by_tcp, by_tcp_count);
	look_soon(probing);
}

/* Nobody is asked any more: set back all that is not. */
static void set_back(const struct guard *guard)
{
	cleanup_free __u64 *left = NULL;
	size_t left_count;

	if (guard_nudges_read(guard, &left, &left_count) == 0 && left_count)
		guard_nudge(guard, NULL, 0, left, left_count, NULL);
}

int probing_start(struct daemon *daemon)
{
	daemon->probing = calloc(1, sizeof(*daemon->probing));
	if (!daemon->probing)
		return -ENOMEM;
	daemon->probing->look = evtimer_new(daemon->base, on_look, daemon);
	daemon->probing->asking = evtimer_new(daemon->base, on_asking, daemon);
	daemon->probing->walking = pieces_new(daemon->base, &walk_in_pieces, daemon);
	if (!daemon->probing->look || !daemon->probing->asking || !daemon->probing->walking)
		return -ENOMEM;
	/* A daemon that died in the middle has left timers shortened. */
	set_back(daemon->guard);
	return 0;
}

void probing_stop(struct daemon *daemon)
{
	struct probing *probing = daemon->probing;
	bool nudged;

	if (!probing)
		return;
	nudged = probing->over_count || probing->walk;
	for (size_t i = 0; i < probing->count; i++)
		nudged |= probing->trials[i].nudged;
	pieces_free(probing->walking);
	if (probing->walk)
		guard_nudge_finish(probing->walk, NULL);
	if (nudged)
		set_back(daemon->guard);
	if (probing->look)
		event_free(probing->look);
	if (probing->asking)
		event_free(probing->asking);
	free(probing);
	daemon->probing = NULL;
}
