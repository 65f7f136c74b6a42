/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two hosts, a network between them, and the rules at work in neither, one or both.
 *
 * Owns a small model of TCP's opening (SYN, SYN-ACK, ACK, RST, their retransmissions), of the
 * network (delays, order, loss), and of what the hooks and the daemon do at each of its steps:
 * sk_lookup before ingress, ingress before the listener, a SYN of a dial that is kept dropped as it
 * leaves, a dial that is given up and the loser of a duplicate destroyed milliseconds later, a quiet
 * link asked. The application of a host dials at given times and sees what is ESTABLISHED.
 * Decides nothing about links: every decision is rules.h's.
 *
 * The order of the hooks follows the kernel: a SYN that meets no socket of its 4-tuple runs
 * sk_lookup, then ingress on the listener; a SYN that meets the request of its 4-tuple (a
 * retransmission) and the last ACK run ingress only.
 */
#ifndef CONNGUARD_TESTS_TWO_HOSTS_H
#define CONNGUARD_TESTS_TWO_HOSTS_H

#include <stdio.h>
#include <string.h>

#include <connguard/rules.h>

#include "seeded_random.h"

#define CONNECTIONS_MAX 256
#define EVENTS_MAX 512
#define DIALS_MAX 3
/* Late enough that 0 is the past. */
#define WORLD_BEGINS (1000 * NS_PER_SECOND)

/* What a run is made of. Times in ns. */
struct scenario {
	const char *name;
	int guarded[2];
	int reordering;        /* else each direction keeps its order */
	__u64 delay_max_ns;    /* one way; the least is 1 % of it */
	unsigned loss_percent; /* of packets */
	int equal_numbers;     /* the first two dials have one number; else no two have */
	int eaten_syns;        /* a firewall eats every SYN of host 0 */
	int daemon_dead;       /* nobody destroys anything */
	int spoofed_syns;      /* fifty a second to host 0, in the name of host 1 */
	__u32 max_links;       /* 0: 1 */
	int redials;           /* an application without a link dials again each second or two */
	int redials_at_once;   /* and within a tenth of a second */
	__u64 dial_timeout_ns; /* and closes a dial that has not come up by then; 0: waits for TCP */
	int stacked_dials;     /* host 1 dials two to this many times in 20 ms; 0: like host 0 */
	int closes_newcomers[2]; /* the application closes what it accepts while it dials */
	int hung_up_on[2];     /* the last link that it dialed was a short one */
	__u64 cable_out_ns;    /* nothing arrives before; the dials of host 1 begin when it ends */
	__u64 service_out_ns;  /* the same, but host 1 is there and refuses what comes */
	int dead;              /* host 1 is not there, and never will be */
	__u64 backoff_initial_ns, backoff_max_ns; /* 0: the defaults */
	__u64 lasts_ns;
};

enum segment {
	SEGMENT_SYN,
	SEGMENT_SYN_ACK,
	SEGMENT_ACK,
	SEGMENT_DATA, /* acknowledges as well: the same to an opening connection */
	SEGMENT_PROBE, /* of keepalive: wants an answer */
	SEGMENT_RST,
	SEGMENT_FIN,
};

enum end_state {
	END_NONE,
	END_SYN_SENT,
	END_SYN_RECEIVED,
	END_ESTABLISHED,
};

struct connection {
	int dialer; /* host 0 or 1 */
	__u32 client_isn;
	__u16 port;
	enum end_state state[2];
	__u64 cookie[2];
	unsigned retransmissions[2];
	int spoken_to[2]; /* data has come */
	int asked[2];     /* the daemon is asking the other end for a sign of life */
};

enum event_kind {
	EVENT_DIAL,       /* the application calls connect() */
	EVENT_FIRST_SYN,  /* the SYN leaves */
	EVENT_FIRST_ANSWER, /* the SYN-ACK leaves, which a SYN that the hooks have let in gets */
	EVENT_RETRANSMIT, /* of the SYN or the SYN-ACK, if still unanswered */
	EVENT_ARRIVAL,    /* of a segment */
	EVENT_TALK,       /* an established end sends data */
	EVENT_SUPERSEDE,  /* the daemon destroys dials that a link has made superfluous */
	EVENT_DESTROY,    /* the daemon destroys a doomed link */
	EVENT_END_DIAL,   /* the daemon destroys a dial that was given up */
	EVENT_LET_GO,     /* the daemon looks after a dial that is kept */
	EVENT_ASK,        /* the daemon makes TCP ask for a sign of life */
	EVENT_TIMEOUT,    /* the application waits no longer for its dial */
	EVENT_SPOOF,      /* a SYN in the other host's name arrives */
	EVENT_DENIAL,     /* the other host's RST for a SYN-ACK that it never asked for arrives */
	EVENT_CLOSE,      /* the application closes */
	EVENT_REDIAL,     /* an application looks whether it has a link */
};

struct event {
	__u64 at;
	__u64 order; /* of two at the same time the one planned first */
	enum event_kind kind;
	int host;
	int connection;
	enum segment segment;
	__u16 port; /* EVENT_DENIAL: of the spoofed SYN */
};

struct host {
	int guarded;
	struct guard_policy policy;
	struct peer peer;
	struct pending_handshake pending;
	struct peer_address remote;
	int most_links;    /* the most the application saw at a time */
	int lost_all;      /* times its last link ended */
	int failed_dials;  /* that the rules counted as failures */
	int given_up;      /* dials that the daemon ended before the other end's handshake completed */
	int dials_kept, dials_pending; /* that waited; that were refused for a handshake */
	int syns;          /* of dials, that have left */
	__u64 latest_change_ns; /* a link came or went */
	__u64 linkless_until_ns; /* it has had a link ever since */
};

struct world {
	const struct scenario *scenario;
	struct seeded_random random;
	int traced;
	__u64 now;
	__u64 planned; /* events so far */
	__u64 cookies;
	__u64 delay_ns[2];        /* one way, towards host 0 and host 1 */
	__u64 last_arrival_ns[2];
	int linear;               /* SYN timeouts as since Linux 6.5 (tcp_syn_linear_timeouts) */
	struct host hosts[2];
	struct connection connections[CONNECTIONS_MAX];
	int connection_count;
	struct event events[EVENTS_MAX];
	int event_count;
	int overflowed;           /* more happened than there is room for: the run proves nothing */
};

/* ---- telling --------------------------------------------------------------------------------- */

#define world_tell(world, host, format, ...) \
	do { \
		if ((world)->traced) \
			fprintf(stderr, "%12.6f  %*s%c  " format "\n", \
				((world)->now - WORLD_BEGINS) / 1e9, (host) * 36, "", \
				'A' + (host), ##__VA_ARGS__); \
	} while (0)

static inline const char *world_cause(enum cause cause)
{
	static const char *const names[] = {
#define WORLD_CAUSE(name, subject, verdict, text) #name,
		CONNGUARD_CAUSES(WORLD_CAUSE)
#undef WORLD_CAUSE
	};

	return names[cause];
}

/* ---- planning -------------------------------------------------------------------------------- */

static inline void world_plan(struct world *world, __u64 at, enum event_kind kind, int host,
			      int connection, enum segment segment)
{
	if (world->event_count == EVENTS_MAX) {
		world->overflowed = 1;
		return;
	}
	world->events[world->event_count++] = (struct event){
		.at = at,
		.order = world->planned++,
		.kind = kind,
		.host = host,
		.connection = connection,
		.segment = segment,
	};
}

/* The SYN-ACK for a spoofed SYN goes to the real host, whose RST comes back here. */
static inline void world_plan_denial(struct world *world, int host, __u16 port)
{
	world_plan(world, world->now + world->delay_ns[0] + world->delay_ns[1], EVENT_DENIAL, host,
		   0, SEGMENT_RST);
	world->events[world->event_count - 1].port = port;
}

static inline int world_next(struct world *world, struct event *ret_event)
{
	int i, first = 0;

	if (!world->event_count)
		return 0;
	for (i = 1; i < world->event_count; i++) {
		const struct event *event = &world->events[i], *best = &world->events[first];

		if (event->at < best->at || (event->at == best->at && event->order < best->order))
			first = i;
	}
	*ret_event = world->events[first];
	world->events[first] = world->events[--world->event_count];
	return 1;
}

static inline void world_send(struct world *world, int from, int connection, enum segment segment)
{
	static const char *const names[] = { "SYN", "SYN-ACK", "ACK", "data", "probe", "RST", "FIN" };
	const struct scenario *scenario = world->scenario;
	int to = !from;
	__u64 arrival;

	if (random_below(&world->random, 100) < scenario->loss_percent ||
	    world->now < WORLD_BEGINS + scenario->cable_out_ns || scenario->dead ||
	    (scenario->eaten_syns && !from && segment == SEGMENT_SYN)) {
		world_tell(world, from, "%s of %d is lost", names[segment], connection);
		return;
	}
	if (scenario->reordering) {
		arrival = world->now + 1 + random_below(&world->random, scenario->delay_max_ns);
	} else {
		arrival = world->now + world->delay_ns[to] +
			  random_below(&world->random, world->delay_ns[to] / 10 + 1);
		if (arrival <= world->last_arrival_ns[to])
			arrival = world->last_arrival_ns[to] + 1;
		world->last_arrival_ns[to] = arrival;
	}
	world_tell(world, from, "%s of %d leaves", names[segment], connection);
	world_plan(world, arrival, EVENT_ARRIVAL, to, connection, segment);
}

/* The daemon hears of an event and acts: between one and five milliseconds. */
static inline __u64 world_daemon_delay(struct world *world)
{
	return NS_PER_MS + random_below(&world->random, 4 * NS_PER_MS);
}

/* When the next retransmission follows, after `sent` of them. 0: never. */
static inline __u64 world_retransmit_after(const struct world *world, unsigned sent)
{
	if (sent > 5)
		return 0;
	if (world->linear)
		return sent < 4 ? NS_PER_SECOND : NS_PER_SECOND << (sent - 4);
	return NS_PER_SECOND << sent;
}

/* ---- what the application sees --------------------------------------------------------------- */

static inline int host_links(const struct world *world, int host)
{
	int i, links = 0;

	for (i = 0; i < world->connection_count; i++)
		links += world->connections[i].state[host] == END_ESTABLISHED;
	return links;
}

static inline int host_dials(const struct world *world, int host)
{
	int i, dials = 0;

	for (i = 0; i < world->connection_count; i++)
		dials += world->connections[i].state[host] == END_SYN_SENT;
	return dials;
}

/* ---- a connection at one host ---------------------------------------------------------------- */

static inline void end_closed(struct world *world, int host, int number, enum ending ending)
{
	struct connection *connection = &world->connections[number];
	struct host *self = &world->hosts[host];
	enum end_state before = connection->state[host];
	const struct slot_ended end = {
		.cookie = connection->cookie[host],
		.now = world->now,
		.ending = ending,
		.spoke = connection->spoken_to[host],
		.random = (__u32)random_next(&world->random),
	};
	struct decision decision;
	int i;

	connection->state[host] = END_NONE;
	if (before == END_ESTABLISHED) {
		self->latest_change_ns = world->now;
		self->lost_all += host_links(world, host) == 0;
		if (!host_links(world, host))
			self->linkless_until_ns = world->now;
	}
	if (before != END_SYN_RECEIVED && world->scenario->redials_at_once)
		world_plan(world, world->now + 1 + random_below(&world->random, NS_PER_SECOND / 10),
			   EVENT_REDIAL, host, 0, SEGMENT_SYN);
	if (!self->guarded || before == END_SYN_RECEIVED) {
		world_tell(world, host, "%d is closed", number);
		return;
	}
	decision = slot_end(&self->peer, &self->policy, &end);
	self->failed_dials += decision.cause == CAUSE_dial_failed;
	world_tell(world, host, "%d is closed: %s", number, world_cause(decision.cause));
	for (i = 0; i < world->connection_count && before == END_ESTABLISHED && !world->scenario->daemon_dead; i++)
		if (world->connections[i].state[host] == END_SYN_SENT)
			world_plan(world, world->now + world_daemon_delay(world), EVENT_LET_GO, host, i, SEGMENT_SYN);
}

static inline void end_established(struct world *world, int host, int number)
{
	struct connection *connection = &world->connections[number];
	struct host *self = &world->hosts[host];
	struct link link = {
		.cookie = connection->cookie[host],
		.now = world->now,
		.direction = connection->dialer == host ? DIRECTION_OUTBOUND : DIRECTION_INBOUND,
		.client_isn = connection->client_isn,
		.mode = MODE_ENFORCE,
		.local_port = connection->dialer == host ? connection->port : 24000,
		.remote_port = connection->dialer == host ? 24000 : connection->port,
	};
	struct decision decision;
	int links, i;

	connection->state[host] = END_ESTABLISHED;
	self->latest_change_ns = world->now;
	links = host_links(world, host);
	if (links > self->most_links)
		self->most_links = links;
	if (links == 1)
		self->linkless_until_ns = world->now;
	world_plan(world, world->now + NS_PER_SECOND / 2, EVENT_TALK, host, number, SEGMENT_DATA);
	if (world->scenario->closes_newcomers[host] && connection->dialer != host &&
	    host_dials(world, host))
		world_plan(world, world->now + random_below(&world->random, 5 * NS_PER_MS),
			   EVENT_CLOSE, host, number, SEGMENT_FIN);
	if (!self->guarded) {
		world_tell(world, host, "%d is established (%d links)", number, links);
		return;
	}
	decision = link_up(&self->peer, &self->policy, &link);
	handshake_done(&self->pending, &self->remote, link.remote_port);
	world_tell(world, host, "%d is established: %s (%d links)", number,
		   world_cause(decision.cause), links);
	if (world->scenario->daemon_dead)
		return;
	if (decision.cause == CAUSE_link_duplicate || decision.cause == CAUSE_link_unheld ||
	    decision.cause == CAUSE_link_replaced)
		for (i = 0; i < world->connection_count; i++)
			if (world->connections[i].cookie[host] == decision.other_cookie)
				world_plan(world, world->now + world_daemon_delay(world),
					   EVENT_DESTROY, host, i, SEGMENT_RST);
	world_plan(world, world->now + world_daemon_delay(world), EVENT_SUPERSEDE, host, number,
		   SEGMENT_RST);
}

/* ---- segments -------------------------------------------------------------------------------- */

/* What the daemon does when it hears what became of a SYN, or of a last ACK. */
static inline void daemon_hears(struct world *world, int host, const struct decision *decision)
{
	int i;

	if (world->scenario->daemon_dead)
		return;
	for (i = 0; i < world->connection_count; i++) {
		struct connection *connection = &world->connections[i];

		if ((decision->cause == CAUSE_knock_goes_first ||
		     decision->cause == CAUSE_knock_ack_waits) &&
		    connection->cookie[host] == decision->other_cookie)
			world_plan(world, world->now + world_daemon_delay(world), EVENT_END_DIAL,
				   host, i, SEGMENT_RST);
		if (decision->cause == CAUSE_knock_suspect &&
		    connection->state[host] == END_ESTABLISHED && !connection->asked[host]) {
			connection->asked[host] = 1 + 3;
			world_plan(world, world->now + world_daemon_delay(world), EVENT_ASK, host,
				   i, SEGMENT_PROBE);
		}
	}
}

/* What sk_lookup and ingress say to a SYN: allow, refuse (RST) or hold (silence). */
static inline enum verdict host_asks_the_rules(struct world *world, int host, int number,
					       const struct connection *connection,
					       int has_request)
{
	struct host *self = &world->hosts[host];
	struct knock knock = {
		.now = world->now,
		.mode = MODE_ENFORCE,
		.remote_port = connection->port,
	};
	struct decision decision;

	if (!has_request) {
		decision = knock_decide(&self->peer, &self->policy, &knock);
		if (decision.verdict == VERDICT_REFUSE) {
			world_tell(world, host, "SYN of %d: sk_lookup %s", number,
				   world_cause(decision.cause));
			return VERDICT_REFUSE;
		}
	}
	knock.client_isn = connection->client_isn;
	knock.isn_known = 1;
	knock.ends_dials = knock.asks = !world->scenario->daemon_dead;
	decision = knock_decide(&self->peer, &self->policy, &knock);
	daemon_hears(world, host, &decision);
	if (decision.verdict == VERDICT_ALLOW) {
		struct decision held = handshake_decide(
			&self->pending, &self->remote, &self->policy, connection->port,
			connection->client_isn, peer_room(&self->peer, &self->policy, world->now),
			world->now);

		if (held.cause != CAUSE_knock_idle)
			decision = held;
	}
	world_tell(world, host, "SYN of %d: ingress %s", number, world_cause(decision.cause));
	return decision.verdict == VERDICT_ALLOW ? VERDICT_ALLOW : VERDICT_HOLD;
}

static inline void syn_arrives(struct world *world, int host, int number)
{
	struct connection *connection = &world->connections[number];
	int has_request = connection->state[host] == END_SYN_RECEIVED;

	if (host == 1 && world->now < WORLD_BEGINS + world->scenario->service_out_ns) {
		world_send(world, host, number, SEGMENT_RST); /* nobody listens */
		return;
	}
	if (connection->state[host] == END_ESTABLISHED) {
		world_send(world, host, number, SEGMENT_ACK); /* the challenge ACK */
		return;
	}
	if (world->hosts[host].guarded) {
		switch (host_asks_the_rules(world, host, number, connection, has_request)) {
		case VERDICT_REFUSE:
			world_send(world, host, number, SEGMENT_RST);
			return;
		case VERDICT_HOLD:
			return;
		default:
			break;
		}
	}
	if (!has_request) {
		connection->state[host] = END_SYN_RECEIVED;
		connection->cookie[host] = ++world->cookies;
		connection->retransmissions[host] = 0;
		world_plan(world, world->now + NS_PER_SECOND, EVENT_RETRANSMIT, host, number,
			   SEGMENT_SYN_ACK);
	}
	/* Meanwhile a SYN of ours may leave, on another processor. */
	world_plan(world, world->now + random_below(&world->random, NS_PER_MS / 10),
		   EVENT_FIRST_ANSWER, host, number, SEGMENT_SYN_ACK);
}

static inline void syn_ack_arrives(struct world *world, int host, int number)
{
	struct connection *connection = &world->connections[number];
	struct host *self = &world->hosts[host];
	struct decision decision;

	switch (connection->state[host]) {
	case END_SYN_SENT:
		if (self->guarded) {
			const struct their_handshake theirs =
				handshake_pending(&self->pending, &self->remote, world->now);

			decision = answer_decide(&self->peer, &self->policy, &theirs,
						 connection->cookie[host], world->now);
			if (decision.verdict == VERDICT_HOLD) {
				world_tell(world, host, "SYN-ACK of %d: %s", number,
					   world_cause(decision.cause));
				return;
			}
		}
		end_established(world, host, number);
		world_send(world, host, number, SEGMENT_ACK);
		break;
	case END_ESTABLISHED:
		world_send(world, host, number, SEGMENT_ACK);
		break;
	default:
		world_send(world, host, number, SEGMENT_RST);
		break;
	}
}

/*
 * What ingress says to the last ACK of a handshake: 1 when it waits for our dial, and then no other SYN
 * passes.
 */
static inline int last_ack_waits(struct world *world, int host, int number)
{
	const struct connection *connection = &world->connections[number];
	struct host *self = &world->hosts[host];
	const struct knock ack = {
		.now = world->now,
		.mode = MODE_ENFORCE,
		.ends_dials = !world->scenario->daemon_dead,
		.remote_port = connection->port,
	};
	struct decision decision;

	if (!self->guarded || self->peer.yielded_port != connection->port)
		return 0;
	decision = last_ack_decide(&self->peer, &ack);
	if (decision.verdict != VERDICT_HOLD)
		return 0;
	daemon_hears(world, host, &decision);
	handshake_waits(&self->pending, &self->remote, &self->policy, connection->port, world->now);
	world_tell(world, host, "the last ACK of %d waits", number);
	return 1;
}

/* An ACK, with data or without; a probe wants one back. */
static inline void ack_arrives(struct world *world, int host, int number, enum segment segment)
{
	struct connection *connection = &world->connections[number];
	struct host *self = &world->hosts[host];

	if (connection->state[host] == END_ESTABLISHED) {
		link_heard(&self->peer, connection->cookie[host], world->now);
		connection->spoken_to[host] |= segment == SEGMENT_DATA;
		if (segment == SEGMENT_PROBE)
			world_send(world, host, number, SEGMENT_ACK);
	}
	switch (connection->state[host]) {
	case END_SYN_RECEIVED:
		if (last_ack_waits(world, host, number))
			break;
		connection->spoken_to[host] |= segment == SEGMENT_DATA;
		end_established(world, host, number);
		break;
	case END_NONE:
		world_send(world, host, number, SEGMENT_RST);
		break;
	default:
		break;
	}
}

/*
 * One that meets no socket of its own, or a request, meets the listener, and so the ingress hook:
 * the handshake of its port is over. A socket in SYN_SENT or ESTABLISHED takes it unasked.
 */
static inline void rst_arrives(struct world *world, int host, int number)
{
	struct connection *connection = &world->connections[number];
	struct host *self = &world->hosts[host];

	if (self->guarded && connection->dialer != host &&
	    (connection->state[host] == END_NONE || connection->state[host] == END_SYN_RECEIVED))
		handshake_done(&self->pending, &self->remote, connection->port);
	if (connection->state[host] != END_NONE)
		end_closed(world, host, number, ENDING_RESET);
}

/* ---- events ---------------------------------------------------------------------------------- */

/* Now and then as near to the last one as two numbers can be, and round the corner. */
static inline __u32 world_client_isn(struct world *world)
{
	__u32 isn = (__u32)random_next(&world->random), step = 1;
	int number = world->connection_count, i;

	if (world->scenario->equal_numbers && number < 2)
		return 1000;
	if (number && random_once_in(&world->random, 8)) {
		step = random_once_in(&world->random, 2) ? 1 : ~0U;
		isn = world->connections[number - 1].client_isn + step;
	}
	for (i = 0; i < number; i++) {
		if (world->connections[i].client_isn != isn)
			continue;
		isn += step;
		i = -1; /* all of them again */
	}
	return isn;
}

static inline void host_dial(struct world *world, int host)
{
	struct host *self = &world->hosts[host];
	struct connection *connection;
	int number = world->connection_count;
	struct dial dial = {
		.cookie = ++world->cookies,
		.now = world->now,
		.mode = MODE_ENFORCE,
		.asks = !world->scenario->daemon_dead,
		.ends_dials = !world->scenario->daemon_dead,
		.pending_until_ns =
			handshake_pending(&self->pending, &self->remote, world->now).until_ns,
	};

	if (number == CONNECTIONS_MAX) {
		world->overflowed = 1;
		return;
	}
	if (self->guarded) {
		struct decision decision = dial_claim(&self->peer, &self->policy, &dial);

		world_tell(world, host, "dials %d: %s", number, world_cause(decision.cause));
		self->dials_kept += decision.cause == CAUSE_dial_kept;
		self->dials_pending += decision.cause == CAUSE_dial_pending;
		if (decision.cause == CAUSE_dial_beside)
			world_plan(world, decision.until_ns + world_daemon_delay(world), EVENT_LET_GO, host,
				   number, SEGMENT_SYN);
		if (decision.verdict == VERDICT_REFUSE) {
			if (world->scenario->redials_at_once)
				world_plan(world, world->now + NS_PER_SECOND / 10, EVENT_REDIAL,
					   host, 0, SEGMENT_SYN);
			return;
		}
	} else {
		world_tell(world, host, "dials %d", number);
	}
	connection = &world->connections[number];
	*connection = (struct connection){
		.dialer = host,
		.client_isn = world_client_isn(world),
		.port = 40000 + number,
	};
	world->connection_count++;
	connection->state[host] = END_SYN_SENT;
	connection->cookie[host] = dial.cookie;
	world_plan(world, world->now + random_below(&world->random, NS_PER_MS / 10),
		   EVENT_FIRST_SYN, host, number, SEGMENT_SYN);
	if (world->scenario->dial_timeout_ns)
		world_plan(world, world->now + world->scenario->dial_timeout_ns, EVENT_TIMEOUT,
			   host, number, SEGMENT_SYN);
}

/* Egress: a SYN of a dial that is kept does not leave, and TCP takes it for lost. */
static inline void host_sends_syn(struct world *world, int host, int number)
{
	struct host *self = &world->hosts[host];
	const __u64 cookie = world->connections[number].cookie[host];

	if (self->guarded &&
	    dial_leaves(&self->peer, &self->policy, cookie, 1, world->now).verdict == VERDICT_HOLD) {
		world_tell(world, host, "the SYN of %d is kept", number);
		return;
	}
	self->syns++;
	world_send(world, host, number, SEGMENT_SYN);
}

static inline void host_first_syn(struct world *world, int host, int number)
{
	struct connection *connection = &world->connections[number];
	struct host *self = &world->hosts[host];

	if (connection->state[host] != END_SYN_SENT)
		return;
	if (self->guarded) {
		const struct dial_syn syn = {
			.cookie = connection->cookie[host],
			.now = world->now,
			.client_isn = connection->client_isn,
			.local_port = connection->port,
			.remote_port = 24000,
		};

		dial_sent(&self->peer, &self->policy, &syn);
	}
	world_tell(world, host, "client number of %d is %#x", number, connection->client_isn);
	host_sends_syn(world, host, number);
	world_plan(world, world->now + world_retransmit_after(world, 0), EVENT_RETRANSMIT, host,
		   number, SEGMENT_SYN);
}

static inline void host_retransmit(struct world *world, const struct event *event)
{
	struct connection *connection = &world->connections[event->connection];
	int host = event->host;
	__u64 after;

	if (connection->state[host] !=
	    (event->segment == SEGMENT_SYN ? END_SYN_SENT : END_SYN_RECEIVED))
		return;
	connection->retransmissions[host]++;
	after = event->segment == SEGMENT_SYN ?
			world_retransmit_after(world, connection->retransmissions[host]) :
			NS_PER_SECOND << connection->retransmissions[host];
	if (!after) {
		end_closed(world, host, event->connection, ENDING_SILENCE);
		return;
	}
	if (event->segment == SEGMENT_SYN)
		host_sends_syn(world, host, event->connection);
	else
		world_send(world, host, event->connection, event->segment);
	world_plan(world, world->now + after, EVENT_RETRANSMIT, host, event->connection,
		   event->segment);
}

/*
 * The daemon destroys what is still under way while the peer has all the links it may have, but for what began
 * after the last of them came up.
 */
static inline void host_supersede(struct world *world, int host)
{
	struct host *self = &world->hosts[host];
	__u64 linked_ns = 0;
	struct slot *slot;
	int i;

	if (peer_room(&self->peer, &self->policy, world->now))
		return;
	for (i = 0; i < PEER_SLOTS; i++)
		if (slot_is_link(&self->peer.slots[i]) && self->peer.slots[i].since_ns > linked_ns)
			linked_ns = self->peer.slots[i].since_ns;
	for (i = 0; i < world->connection_count; i++) {
		slot = slot_of(&self->peer, world->connections[i].cookie[host]);
		if (world->connections[i].state[host] == END_SYN_SENT && slot && slot->since_ns <= linked_ns)
			end_closed(world, host, i, ENDING_ABORTED); /* nothing is sent: tcp_abort() in SYN_SENT */
	}
}

/* What a kept dial has waited for may be over: it leaves if there is room, else it ends. */
static inline void host_let_go(struct world *world, int host, int number)
{
	struct host *self = &world->hosts[host];
	const __u64 cookie = world->connections[number].cookie[host];
	struct slot *slot = slot_of(&self->peer, cookie);
	__u64 until_ns;

	if (world->connections[number].state[host] != END_SYN_SENT || !slot || !(slot->flags & SLOT_KEPT))
		return;
	until_ns = dial_waits_until(&self->peer, &self->policy, cookie, world->now);
	if (until_ns > world->now) {
		world_plan(world, until_ns, EVENT_LET_GO, host, number, SEGMENT_SYN);
	} else if (peer_room(&self->peer, &self->policy, world->now)) {
		host_sends_syn(world, host, number);
	} else {
		world_tell(world, host, "the daemon ends %d", number);
		end_closed(world, host, number, ENDING_ABORTED);
	}
}

/* The daemon asks the sockets before it takes one away: never the last one. */
static inline void host_destroy(struct world *world, int host, int number)
{
	struct connection *connection = &world->connections[number];
	struct host *self = &world->hosts[host];
	int i, another = 0;

	if (connection->state[host] != END_ESTABLISHED)
		return;
	for (i = 0; i < world->connection_count; i++) {
		struct slot *slot = slot_of(&self->peer, world->connections[i].cookie[host]);

		another |= i != number && world->connections[i].state[host] == END_ESTABLISHED &&
			   slot && slot->kind == SLOT_LINK && !(slot->flags & SLOT_DOOMED);
	}
	if (!another) {
		link_spare(&self->peer, &self->policy, connection->cookie[host], world->now);
		return;
	}
	world_tell(world, host, "the daemon destroys %d", number);
	end_closed(world, host, number, ENDING_ABORTED);
	world_send(world, host, number, SEGMENT_RST);
}

/* Three questions, a second apart. */
static inline void host_ask(struct world *world, int host, int number)
{
	struct connection *connection = &world->connections[number];

	if (connection->state[host] != END_ESTABLISHED || !connection->asked[host])
		return;
	if (!--connection->asked[host])
		return;
	world_send(world, host, number, SEGMENT_PROBE);
	world_plan(world, world->now + NS_PER_SECOND, EVENT_ASK, host, number, SEGMENT_PROBE);
}

/* Of a spoofed SYN that passes nothing is left but what the real host's RST ends. */
static inline void host_spoofed(struct world *world, int host)
{
	struct connection forged = {
		.dialer = !host,
		.client_isn = (__u32)random_next(&world->random),
		.port = (__u16)random_next(&world->random),
	};

	if (host_asks_the_rules(world, host, -1, &forged, 0) == VERDICT_ALLOW)
		world_plan_denial(world, host, forged.port);
	world_plan(world, world->now + NS_PER_SECOND / 50, EVENT_SPOOF, host, 0, SEGMENT_SYN);
}

static inline void world_event(struct world *world, const struct event *event)
{
	struct connection *connection = &world->connections[event->connection];
	int host = event->host;

	switch (event->kind) {
	case EVENT_DIAL:
		host_dial(world, host);
		break;
	case EVENT_FIRST_SYN:
		host_first_syn(world, host, event->connection);
		break;
	case EVENT_FIRST_ANSWER:
		if (connection->state[host] == END_SYN_RECEIVED)
			world_send(world, host, event->connection, SEGMENT_SYN_ACK);
		break;
	case EVENT_RETRANSMIT:
		host_retransmit(world, event);
		break;
	case EVENT_TALK:
		if (connection->state[host] != END_ESTABLISHED)
			break;
		world_send(world, host, event->connection, SEGMENT_DATA);
		world_plan(world, world->now + NS_PER_SECOND / 2, EVENT_TALK, host,
			   event->connection, SEGMENT_DATA);
		break;
	case EVENT_SUPERSEDE:
		host_supersede(world, host);
		break;
	case EVENT_DESTROY:
		host_destroy(world, host, event->connection);
		break;
	case EVENT_END_DIAL:
		if (connection->state[host] != END_SYN_SENT)
			break;
		world_tell(world, host, "the daemon ends the dial %d", event->connection);
		world->hosts[host].given_up++;
		end_closed(world, host, event->connection, ENDING_ABORTED);
		break;
	case EVENT_ASK:
		host_ask(world, host, event->connection);
		break;
	case EVENT_TIMEOUT:
		if (connection->state[host] != END_SYN_SENT)
			break;
		world_tell(world, host, "the application waits no longer for %d", event->connection);
		end_closed(world, host, event->connection, ENDING_CLOSED);
		break;
	case EVENT_SPOOF:
		host_spoofed(world, host);
		break;
	case EVENT_DENIAL:
		handshake_done(&world->hosts[host].pending, &world->hosts[host].remote,
			       event->port);
		break;
	case EVENT_CLOSE:
		if (connection->state[host] != END_ESTABLISHED)
			break;
		world_tell(world, host, "the application closes %d", event->connection);
		end_closed(world, host, event->connection, ENDING_CLOSED);
		world_send(world, host, event->connection, SEGMENT_FIN);
		break;
	case EVENT_LET_GO:
		host_let_go(world, host, event->connection);
		break;
	case EVENT_REDIAL:
		if (!host_links(world, host) && !host_dials(world, host))
			host_dial(world, host);
		if (!world->scenario->redials_at_once)
			world_plan(world, world->now + NS_PER_SECOND +
					  random_below(&world->random, NS_PER_SECOND),
				   EVENT_REDIAL, host, 0, SEGMENT_SYN);
		break;
	case EVENT_ARRIVAL:
		switch (event->segment) {
		case SEGMENT_SYN:
			syn_arrives(world, host, event->connection);
			break;
		case SEGMENT_SYN_ACK:
			syn_ack_arrives(world, host, event->connection);
			break;
		case SEGMENT_ACK:
		case SEGMENT_DATA:
		case SEGMENT_PROBE:
			ack_arrives(world, host, event->connection, event->segment);
			break;
		case SEGMENT_RST:
			rst_arrives(world, host, event->connection);
			break;
		case SEGMENT_FIN:
			if (connection->state[host] == END_ESTABLISHED)
				end_closed(world, host, event->connection, ENDING_PEER_CLOSED);
			break;
		}
		break;
	}
}

/* ---- a run ----------------------------------------------------------------------------------- */

/* One to DIALS_MAX dials by each host, crossing or nearly so, or a stack of them by host 1. */
static inline void world_begin(struct world *world, const struct scenario *scenario, __u64 seed,
			       int traced)
{
	int host, dial, dials;
	__u64 at;

	memset(world, 0, sizeof(*world));
	world->scenario = scenario;
	world->random.state = seed;
	world->traced = traced;
	world->now = WORLD_BEGINS;
	world->linear = random_once_in(&world->random, 2);
	for (host = 0; host < 2; host++) {
		struct host *self = &world->hosts[host];

		self->guarded = scenario->guarded[host];
		self->policy = policy_defaults();
		if (scenario->backoff_max_ns) {
			self->policy.backoff_initial_ns = scenario->backoff_initial_ns;
			self->policy.backoff_max_ns = scenario->backoff_max_ns;
		}
		if (scenario->max_links)
			self->policy.max_links = scenario->max_links;
		self->peer.short_links = scenario->hung_up_on[host];
		self->remote = (struct peer_address){
			.bytes = { [10] = 0xff, [11] = 0xff, 192, 0, 2, 1 + !host }
		};
		self->peer.address = self->remote;
		world->delay_ns[host] = scenario->delay_max_ns / 100 +
					random_below(&world->random, scenario->delay_max_ns);
	}
	if (scenario->spoofed_syns)
		world_plan(world, WORLD_BEGINS, EVENT_SPOOF, 0, 0, SEGMENT_SYN);
	for (host = 0; host < 2; host++) {
		int stacked = host == 1 && scenario->stacked_dials;

		dials = stacked ? 2 + random_below(&world->random, scenario->stacked_dials - 1) :
				  1 + random_below(&world->random, DIALS_MAX);
		/* Half of the runs cross closely, the others anywhere within three seconds. */
		at = WORLD_BEGINS + random_below(&world->random,
						 random_once_in(&world->random, 2) ?
							 scenario->delay_max_ns :
							 3 * NS_PER_SECOND);
		if (host == 1 && scenario->dead)
			continue;
		if (host == 1)
			at += scenario->cable_out_ns + scenario->service_out_ns;
		for (dial = 0; dial < dials; dial++) {
			world_plan(world, at, EVENT_DIAL, host, 0, SEGMENT_SYN);
			at += random_below(&world->random,
					   stacked ? 20 * NS_PER_MS / scenario->stacked_dials :
						     2 * NS_PER_SECOND);
		}
		if (scenario->redials)
			world_plan(world,
				   host == 1 ? at + 3 * NS_PER_SECOND :
					       WORLD_BEGINS + 3 * NS_PER_SECOND,
				   EVENT_REDIAL, host, 0, SEGMENT_SYN);
	}
}

static inline void world_run(struct world *world)
{
	__u64 ends = WORLD_BEGINS + world->scenario->lasts_ns;
	struct event event;
	int host;

	while (world_next(world, &event)) {
		if (event.at > ends)
			break;
		world->now = event.at;
		world_event(world, &event);
	}
	for (host = 0; host < 2; host++)
		if (!host_links(world, host))
			world->hosts[host].linkless_until_ns = ends;
}

/* How many links both ends have; -1: not the same ones. */
static inline int world_links(const struct world *world)
{
	int i, links = 0;

	for (i = 0; i < world->connection_count; i++) {
		const enum end_state *state = world->connections[i].state;

		if ((state[0] == END_ESTABLISHED) != (state[1] == END_ESTABLISHED))
			return -1;
		links += state[0] == END_ESTABLISHED;
	}
	return links;
}

#endif
