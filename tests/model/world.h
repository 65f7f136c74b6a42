/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the two hosts of two_hosts.pml stand on: segments under way, clocks, the daemon's errands,
 * and what an onlooker sees.
 *
 * Included into the verifier that spin makes, whose state is `now`; reads and writes that alone.
 * Asks no rule, which is guard.h's business. A function that says no more than "may", "is" or "any"
 * changes nothing.
 */
#ifndef CONNGUARD_TESTS_MODEL_WORLD_H
#define CONNGUARD_TESTS_MODEL_WORLD_H

#include <stdio.h>

#include "guard.h"

/* Spin's: whether this is a replay; how a search ends that has found something. */
extern int readtrail;
extern void (*Uerror)(char *);

#define GUARDED(host) ((host) ? GUARDED_1 : GUARDED_0)
#define DAEMON(host) (GUARDED(host) && ((host) ? DAEMON_1 : DAEMON_0))
#define DIALS(host) ((host) ? DIALS_1 : DIALS_0)
#define CLOSES(host) ((host) ? CLOSES_1 : CLOSES_0)
#define SURPLUS_ALLOWED(host) (GUARDED(host) ? SURPLUS_AT_GUARDED : SURPLUS_AT_UNGUARDED)

_Static_assert(!REORDERING || !DELAY_LEAST, "the first of a wire in no order may always arrive");
_Static_assert(!CUTS || !CLOSINGS, "a FIN is not lost for good");

/* ---- telling: no part of the state ----------------------------------------------------------- */

static int world_ticks; /* of a replay */

/* A replay tells what happens, host 1 to the right. A search is silent. */
#define tell(host, format, ...) \
	do { \
		if (readtrail) \
			printf("%8.3f s  %*s%c  " format "\n", (double)world_ticks / SECOND, \
			       (host) * 36, "", 'A' + (host), ##__VA_ARGS__); \
	} while (0)

static const char *const segment_names[] = { "", "SYN", "SYN-ACK", "ACK", "DATA", "RST", "FIN" };

static const char *const cause_names[] = {
#define CAUSE_NAME(name, subject, verdict, text) #name,
	CONNGUARD_CAUSES(CAUSE_NAME)
#undef CAUSE_NAME
};

/* Causes that some step of the search has met, so that run.py can see what no variant reaches. */
static unsigned char causes_met[CAUSE_COUNT];

static __attribute__((destructor)) void tell_causes(void)
{
	int cause;

	printf("causes:");
	for (cause = 0; cause < CAUSE_COUNT; cause++)
		if (causes_met[cause])
			printf(" %s", cause_names[cause]);
	printf("\n");
}

/* ---- connections ----------------------------------------------------------------------------- */

static int ends_in(int host, int state)
{
	int i, count = 0;

	for (i = 0; i < CONNECTIONS; i++)
		count += now.connections[i].state[host] == state;
	return count;
}

/* Ends of connections that the host itself has dialed. */
static int own_ends_in(int host, int state)
{
	int i, count = 0;

	for (i = 0; i < CONNECTIONS; i++)
		count += now.connections[i].state[host] == state &&
			 now.connections[i].dialer & (host + 1);
	return count;
}

/* The application has a dial under way, as it sees it. */
static int is_dialing(int host)
{
	return own_ends_in(host, END_SYN_SENT) || own_ends_in(host, END_SYN_RECEIVED);
}

/*
 * Where both dial on one 4-tuple: TCP knows of nothing on it, and what is under way is not of another
 * dial.
 */
static int is_tuple_free(int host)
{
	int i;

	for (i = 0; i < now.wires[host].length; i++)
		if (now.wires[host].segments[i].connection == 0 &&
		    now.wires[host].segments[i].kind != SEGMENT_SYN)
			return 0;
	for (i = 0; i < now.wires[!host].length; i++)
		if (now.wires[!host].segments[i].connection == 0)
			return 0;
	return now.connections[0].state[host] == END_NONE;
}

/* The first that is free for a dial of the host, or CONNECTIONS. */
static int connection_free(int host)
{
	int i;

	if (SAME_TUPLE)
		return is_tuple_free(host) ? 0 : CONNECTIONS;
	for (i = 0; i < CONNECTIONS - (SPOOFED > 0); i++)
		if (now.connections[i].dialer == NOBODY)
			return i;
	return CONNECTIONS;
}

/* May a new dial have this client number? */
static int may_be_number(int number)
{
	int i;

	for (i = 0; DISTINCT && i < CONNECTIONS; i++)
		if (now.connections[i].number[0] == number || now.connections[i].number[1] == number)
			return 0;
	return number <= NUMBERS;
}

/* A connection and a number for one more dial of the host. */
static int is_room(int host)
{
	int number;

	for (number = 1; number <= NUMBERS; number++)
		if (may_be_number(number))
			return connection_free(host) < CONNECTIONS;
	return 0;
}

static int is_up(int host)
{
	return host == 0 || !now.down;
}

/* ---- segments under way ---------------------------------------------------------------------- */

static int segment_compare(const struct segment_image *one, const struct segment_image *other)
{
	return memcmp(one, other, sizeof(*one));
}

/* A segment of connection `it` leaves host `at`. */
static void send(int kind)
{
	struct wire_image *wire = &now.wires[!now.at];
	struct segment_image segment = { .kind = kind, .connection = now.it };
	int place = wire->length;

	if (now.cable_out || (EATEN && now.at == 0 && kind == SEGMENT_SYN)) {
		tell(now.at, "%s of %d is lost", segment_names[kind], now.it);
		return;
	}
	tell(now.at, "%s of %d leaves", segment_names[kind], now.it);
	if (place == WIRE) {
		Uerror("more segments are under way than there is room for: raise WIRE");
		return;
	}
	/* Where the order means nothing there is one order. */
	while (REORDERING && place && segment_compare(&segment, &wire->segments[place - 1]) < 0) {
		wire->segments[place] = wire->segments[place - 1];
		place--;
	}
	wire->segments[place] = segment;
	wire->length++;
}

/* Is there a segment towards `host` in this place that may arrive next? */
static int may_arrive(int host, int place)
{
	const struct wire_image *wire = &now.wires[host];
	const struct segment_image *segment = &wire->segments[place];

	if (place >= wire->length || segment->age < DELAY_LEAST)
		return 0;
	/* Of two that are the same one will do. */
	return !place || (REORDERING && segment_compare(segment, segment - 1) != 0);
}

/* Take it from the wire. Sets `kind` and `it`. */
static void take(int place)
{
	struct wire_image *wire = &now.wires[now.at];

	now.kind = wire->segments[place].kind;
	now.it = wire->segments[place].connection;
	wire->length--;
	for (; place < wire->length; place++)
		wire->segments[place] = wire->segments[place + 1];
	memset(&wire->segments[place], 0, sizeof(wire->segments[place]));
}

static int any_under_way(int connection)
{
	int host, i;

	for (host = 0; host < 2; host++)
		for (i = 0; i < now.wires[host].length; i++)
			if (now.wires[host].segments[i].connection == connection)
				return 1;
	return 0;
}

/* ---- timers ---------------------------------------------------------------------------------- */

/* When a SYN or a SYN-ACK is sent again that has been sent so many times. */
static int resend_after(int state, int sent)
{
	if (LINEAR && state == END_SYN_SENT)
		return sent < 5 ? SECOND : SECOND << (sent - 4);
	return SECOND << (sent - 1);
}

/* When an established end that has just heard the other one asks whether it is there. */
static int ask_after(int host)
{
	return TALKS ? TALKS : GUARDED(host) && KEEPALIVE ? KEEPALIVE : STOPPED;
}

/* And then each second, until it gives up. On trial it is the daemon who says when that is. */
static int may_ask_again(int host, int connection)
{
	return now.connections[connection].tries[host] < (LIVENESS - ask_after(host)) / SECOND ||
	       now.trials[host] & 1 << connection;
}

static int is_timer_out(int host, int connection)
{
	return connection < CONNECTIONS && is_up(host) &&
	       now.connections[connection].state[host] != END_NONE &&
	       now.connections[connection].timer[host] == 0;
}

static int any_timer_out(int host)
{
	int i;

	for (i = 0; i < CONNECTIONS; i++)
		if (is_timer_out(host, i))
			return 1;
	return 0;
}

/* ---- applications ---------------------------------------------------------------------------- */

static int dials_left(int host)
{
	return DIALS(host) == UNBOUNDED || now.dials_made[host] < DIALS(host);
}

static int wants_to_dial(int host)
{
	if (!is_up(host) || !dials_left(host))
		return 0;
	if (LINKS > 1)
		return !own_ends_in(host, END_ESTABLISHED) && !is_dialing(host);
	return !ends_in(host, END_ESTABLISHED) && !is_dialing(host);
}

/* A tick at least after the last link or dial; or at any time, where that is asked for. */
static int may_dial(int host)
{
	if (!is_room(host))
		return 0;
	if (GUARDED(host) ? DUPLICATES : STACKS && host == 1)
		return is_up(host) && dials_left(host);
	return wants_to_dial(host) && now.idle[host];
}

/* Links that live, of those that its guard counts on, and dials of a host. */
static int links_and_dials(int host)
{
	int i, count = own_ends_in(host, END_SYN_SENT);

	for (i = 0; i < CONNECTIONS; i++)
		count += guard_keeps(&now.guards[host], i) &&
			 now.connections[i].state[0] == END_ESTABLISHED &&
			 now.connections[i].state[1] == END_ESTABLISHED;
	return count;
}

/* Does the application of the host want none of a link that it has just accepted? */
static int is_unwelcome(int host)
{
	return CLOSES(host) == ALWAYS || (CLOSES(host) == WHILE_DIALING && is_dialing(host));
}

/* A link that the application of the host does not want, or CONNECTIONS. */
static int newcomer(int host)
{
	int i;

	for (i = 0; i < CONNECTIONS; i++)
		if (now.connections[i].unwelcome == host + 1)
			return i;
	return CONNECTIONS;
}

/* ---- the daemon ------------------------------------------------------------------------------ */

/*
 * probing_doubt() of user/connguardd/probing.c: TCP is made to ask the other ends of quiet links, after
 * a dial only those that the rules put in doubt.
 */
static void doubt(int host, int after_dial)
{
	int i;

	for (i = 0; i < CONNECTIONS; i++) {
		if (!guard_suspects(&now.guards[host], i, after_dial) || now.trials[host] & 1 << i ||
		    now.connections[i].state[host] != END_ESTABLISHED)
			continue;
		tell(host, "the daemon has TCP ask the other end of %d", i);
		now.trials[host] |= 1 << i;
		if (!now.connections[i].tries[host])
			now.connections[i].timer[host] = 0;
	}
}

/* on_event() of user/connguardd/happenings.c: what the daemon will do. */
static void daemon_hears(int host, const struct decision *decision)
{
	switch (decision->cause) {
	case CAUSE_knock_goes_first:
	case CAUSE_knock_ack_waits:
	case CAUSE_knock_open_lost:
		if (!GIVE_UPS_LOST)
			now.given_up[host] |= 1 << (decision->other_cookie - 1);
		return;
	case CAUSE_knock_open_won:
		if (!now.again[host])
			now.again[host] = SYNS_AGAIN + 1;
		return;
	case CAUSE_link_replaced:
		now.losers[host] |= 1 << (decision->other_cookie - 1);
		break;
	case CAUSE_link_duplicate:
		now.losers[host] |= 1 << (decision->other_cookie - 1);
		return;
	case CAUSE_dial_suspect:
		doubt(host, 1);
		return;
	case CAUSE_knock_suspect:
	case CAUSE_knock_tie_lost:
	case CAUSE_answer_linked:
	case CAUSE_answer_tie_lost:
		doubt(host, 0);
		return;
	case CAUSE_link_outbound:
	case CAUSE_link_inbound:
		break;
	default:
		return;
	}
	if (!TIE_OPEN && LINKS == 1 && !now.dials_lost[host])
		now.dials_lost[host] = 1;
}

/*
 * The onlooker's account of a host's failures, kept by what PACED promises and not by what the rules
 * remember: until when it owes its peer silence, and until when no SYN excuses it from that again.
 */
static void account(int host, const struct decision *decision)
{
	if (!PACED)
		return;
	switch (decision->cause) {
	case CAUSE_dial_failed:
	case CAUSE_link_hung_up:
		now.failures[host] += now.failures[host] < STEPS;
		now.owed[host] = now.failures[host] < STEPS ? BACKOFF_FIRST : BACKOFF_MAX;
		break;
	case CAUSE_link_outbound:
	case CAUSE_link_inbound:
		now.owed[host] = now.spent[host] = 0;
		break;
	case CAUSE_knock_idle:
	case CAUSE_knock_backoff:
	case CAUSE_knock_tie_won:
	case CAUSE_knock_goes_first:
	case CAUSE_knock_hold_spent:
		if (now.spent[host])
			break;
		now.spent[host] = now.owed[host];
		now.owed[host] = 0;
		break;
	default:
		break;
	}
}

/* What the hook tells of a decision. */
static void told(const struct decision *decision)
{
	causes_met[decision->cause] = 1;
	account(now.at, decision);
	if (DAEMON(now.at))
		daemon_hears(now.at, decision);
}

/* What a rule has decided at host `at` on connection `it`. Sets `verdict` and `cause`. */
static void decided(const struct decision *decision)
{
	if (decision->cause != CAUSE_none)
		tell(now.at, "%d: %s", now.it, cause_names[decision->cause]);
	now.verdict = decision->verdict;
	now.cause = decision->cause;
	told(decision);
}

/* ingress has decided on a SYN. What follows from its being let in does, though it may be held yet. */
static void knock_decided(void)
{
	struct decision first, decision;

	decision = model_handshake_decide(&now.guards[now.at], now.it,
					  now.connections[now.it].number[!now.at], DAEMON(now.at),
					  &first);
	if (decision.verdict == VERDICT_HOLD &&
	    (first.cause == CAUSE_knock_goes_first ||
	     (first.cause == CAUSE_knock_backoff && !first.until_ns))) {
		tell(now.at, "%d: %s", now.it, cause_names[first.cause]);
		told(&first);
	}
	decided(&decision);
}

/* on_look() of user/connguardd/probing.c: its questions have been unanswered for long enough. */
static int is_unanswered(int host, int connection)
{
	return connection < CONNECTIONS && now.trials[host] & 1 << connection &&
	       now.connections[connection].waited[host] >= PATIENT_FOR;
}

static int any_unanswered(int host)
{
	int i;

	for (i = 0; i < CONNECTIONS; i++)
		if (is_unanswered(host, i))
			return 1;
	return 0;
}

/* A dial whose SYN has been kept, and the backoff is over, or the link beside it is gone or new no longer. */
static int is_kept_for_nothing(int host, int connection)
{
	const struct slot_image *slot = 0;

	if (connection < CONNECTIONS && DAEMON(host))
		slot = guard_slot(&now.guards[host], connection);
	return slot && slot->kind == SLOT_CLAIM && slot->flags & SLOT_SENT &&
	       slot->flags & SLOT_KEPT && (LETS_GO || guard_dial_lost(&now.guards[host])) &&
	       !guard_dial_waits(&now.guards[host], connection);
}

static int any_kept_for_nothing(int host)
{
	int i;

	for (i = 0; i < CONNECTIONS; i++)
		if (is_kept_for_nothing(host, i))
			return 1;
	return 0;
}

static int any_errand(int host)
{
	return now.losers[host] || now.dials_lost[host] || now.again[host] > 1 || any_unanswered(host) ||
	       any_kept_for_nothing(host);
}

/* end_given_up() of user/connguardd/happenings.c, links_end_dial() of user/edge/links.c */
static int is_given_up(int host, int connection)
{
	const struct slot_image *slot = guard_slot(&now.guards[host], connection);

	return slot && slot->kind == SLOT_CLAIM && slot->flags & SLOT_GIVEN_UP &&
	       now.connections[connection].state[host] == END_SYN_SENT;
}

/* A doomed link whose event the daemon has dealt with. */
static int is_left_doomed(int host, int connection)
{
	const struct slot_image *slot = 0;

	if (connection < CONNECTIONS && DAEMON(host) && !(now.losers[host] & 1 << connection))
		slot = guard_slot(&now.guards[host], connection);
	return slot && slot->kind == SLOT_LINK && slot->flags & SLOT_DOOMED;
}

static int any_left_doomed(int host)
{
	int i;

	for (i = 0; i < CONNECTIONS; i++)
		if (is_left_doomed(host, i))
			return 1;
	return 0;
}

/*
 * links_destroy_surplus() of user/edge/links.c: is another link, one that is to stay, established
 * by the word of its socket?
 */
static int is_another_established(int host, int connection)
{
	int i;

	for (i = 0; i < CONNECTIONS; i++) {
		const struct slot_image *slot = &now.guards[host].slots[i];

		if (slot->kind == SLOT_LINK && slot->cookie != connection + 1 &&
		    !(slot->flags & SLOT_DOOMED) &&
		    now.connections[slot->cookie - 1].state[host] == END_ESTABLISHED)
			return 1;
	}
	return 0;
}

/*
 * give_up_dials() of user/connguardd/happenings.c: a dial of before the link, whose SYN has left. One that is kept may
 * have begun beside the link, in the same tick: let_go() sees to all of them, which is later.
 */
static int is_dial_lost(int host, int connection)
{
	const struct slot_image *slot = guard_slot(&now.guards[host], connection);

	return slot && slot->kind == SLOT_CLAIM && slot->flags & SLOT_SENT && !(slot->flags & SLOT_KEPT) &&
	       slot->since <= IMAGE_NOW - (now.dials_lost[host] - 1) &&
	       now.connections[connection].state[host] == END_SYN_SENT;
}

/* ---- what an onlooker sees ------------------------------------------------------------------- */

/* Links that the application of the host sees. */
static int links_seen(int host)
{
	int i, count = 0;

	for (i = 0; i < CONNECTIONS; i++)
		count += now.connections[i].state[host] == END_ESTABLISHED &&
			 (DEAD_ENDS_COUNT || now.connections[i].state[!host] != END_NONE);
	return count;
}

/*
 * Another link that the application of the host sees, and whose other end is there, if need be when
 * the last ACK of its opening has come. Where segments are lost or overtake each other, that may be
 * so of this end as well.
 */
static int is_another_alive(int host, int connection)
{
	int i;

	for (i = 0; i < CONNECTIONS; i++) {
		int here = now.connections[i].state[host], there = now.connections[i].state[!host];

		if (i == connection)
			continue;
		if (here == END_ESTABLISHED && there >= END_SYN_RECEIVED)
			return 1;
		if ((LOSSES || REORDERING) && here == END_SYN_RECEIVED && there == END_ESTABLISHED)
			return 1;
	}
	return 0;
}

/* One end has dialed, and if the other one had, too, its number was the smaller. */
static int is_dialer_the_greater(int connection)
{
	int dialer = now.connections[connection].dialer;
	const unsigned char *numbers = now.connections[connection].number;

	return dialer != BOTH && numbers[dialer - 1] > numbers[!(dialer - 1)];
}

/* All is as it should be in the end. */
static int is_settled(void)
{
	int i, links = 0;

	for (i = 0; i < CONNECTIONS; i++) {
		int here = now.connections[i].state[0] == END_ESTABLISHED;
		int there = now.connections[i].state[1] == END_ESTABLISHED;

		links += here && there;
		if (here != there && DEAD_ENDS_COUNT)
			return 0;
		if (ONE_DIALER && here && !is_dialer_the_greater(i))
			return 0;
	}
	return links == LINKS || (SURPLUS_MAY_STAY && links == LINKS + 1);
}

/* ---- steps and ticks ------------------------------------------------------------------------- */

/* All that host 1 knows is gone, and nobody is told. */
static void crash(void)
{
	int i;

	tell(1, "crashes");
	for (i = 0; i < CONNECTIONS; i++) {
		now.connections[i].state[1] = END_NONE;
		now.connections[i].timer[1] = 0;
		now.connections[i].tries[1] = 0;
		now.connections[i].waited[1] = 0;
		now.connections[i].unwelcome = 0;
	}
	memset(&now.guards[1], 0, sizeof(now.guards[1]));
	now.losers[1] = now.dials_lost[1] = now.trials[1] = now.given_up[1] = 0;
	now.again[1] = 0;
	now.failures[1] = now.owed[1] = now.spent[1] = now.yielded[1] = 0;
	now.idle[1] = 0;
}

/*
 * A step is over: connections that are no more make room, and what served the step is forgotten.
 * The onlooker looks.
 */
static void step_over(void)
{
	int i, host;

	for (i = 0; i < CONNECTIONS; i++) {
		if (now.connections[i].state[0] != END_NONE ||
		    now.connections[i].state[1] != END_NONE || any_under_way(i))
			continue;
		memset(&now.connections[i], 0, sizeof(now.connections[i]));
		/* A port on which a host listens remains what it is. */
		if (SAME_TUPLE && i == 0)
			continue;
		for (host = 0; host < 2; host++)
			guard_forget_port(&now.guards[host], i);
	}
	for (host = 0; host < 2; host++) {
		if (!any_errand(host))
			now.late[host] = 0;
		if (!now.given_up[host])
			now.unended[host] = 0;
		if (!any_left_doomed(host))
			now.unchecked[host] = 0;
		if (links_seen(host) <= LINKS)
			now.surplus[host] = 0;
		else if (!now.surplus[host])
			now.surplus[host] = 1;
	}
	now.settled = is_settled();
	now.at = now.it = now.kind = now.verdict = now.cause = now.ending = 0;
}

/* Nothing is left that has to happen in this tick. */
static int may_tick(void)
{
	int host, i;

	for (host = 0; host < 2; host++) {
		if (any_timer_out(host))
			return 0;
		if (wants_to_dial(host) && now.idle[host] == PATIENCE && is_room(host))
			return 0;
		if (now.given_up[host] && now.unended[host] == GIVE_UP_LATE)
			return 0;
		if (newcomer(host) < CONNECTIONS)
			return 0;
		if (any_errand(host) && now.late[host] == DAEMON_LATE)
			return 0;
		if (any_left_doomed(host) && now.unchecked[host] == CHECK_LAST)
			return 0;
		for (i = 0; i < now.wires[host].length; i++)
			if (now.wires[host].segments[i].age == DELAY)
				return 0;
	}
	return now.down <= DOWN && now.cable_out != 1;
}

static void tick_of_host(int host)
{
	int i;

	for (i = 0; i < CONNECTIONS; i++) {
		if (now.connections[i].state[host] == END_NONE)
			continue;
		if (now.connections[i].timer[host] != STOPPED)
			now.connections[i].timer[host]--;
		if (now.trials[host] & 1 << i && now.connections[i].tries[host] >= QUESTIONS &&
		    now.connections[i].waited[host] < PATIENT_FOR)
			now.connections[i].waited[host]++;
	}
	for (i = 0; i < now.wires[host].length; i++)
		now.wires[host].segments[i].age++;
	guard_tick(&now.guards[host]);
	if (!wants_to_dial(host))
		now.idle[host] = 0;
	else if (now.idle[host] < PATIENCE)
		now.idle[host]++;
	if (any_errand(host) && now.late[host] < DAEMON_LATE)
		now.late[host]++;
	if (now.given_up[host] && now.unended[host] < GIVE_UP_LATE)
		now.unended[host]++;
	if (now.owed[host])
		now.owed[host]--;
	if (now.spent[host])
		now.spent[host]--;
	if (now.dials_lost[host])
		now.dials_lost[host]++;
	if (any_left_doomed(host))
		now.unchecked[host]++;
	if (now.surplus[host] && now.surplus[host] <= SURPLUS_ALLOWED(host) &&
	    SURPLUS_ALLOWED(host) != ANY)
		now.surplus[host]++;
}

static void tick(void)
{
	int host;

	world_ticks++;
	for (host = 0; host < 2; host++)
		tick_of_host(host);
	if (now.down)
		now.down++;
	if (now.cable_out)
		now.cable_out--;
	if (now.cable_out)
		now.calm = 0;
	else if (now.calm < SETTLES)
		now.calm++;
	for (host = 0; host < 2; host++)
		if (wants_to_dial(host) && DIALS(host) != UNBOUNDED)
			now.calm = 0;
}

#endif
