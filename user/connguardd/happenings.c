// SPDX-License-Identifier: BSD-2-Clause
/* Events from the kernel: history, log, followers, and what has lost is ended. See daemon.h. */
#include "connguardd/daemon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <connguard/rules.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "edge/links.h"
#include "edge/view.h"
#include "pure/address_text.h"
#include "pure/names.h"

/*
 * A reading of the ring wakes the daemon, and the next event has to wake it again. So many in a second are made at
 * once: nobody waits. What others do as fast as they can send is read with pauses, shorter than the last ACK of a
 * handshake waits (ACK_WAITS_NS), though timers are rounded up to a whole millisecond.
 */
#define READINGS_A_SECOND 50
static const struct timeval reading_pause = { .tv_usec = 2000 };

/* Pairs of peer and cause whose log lines are counted at one time. */
#define THROTTLE_PAIRS 4096
/* Room for a peer as the log names it: an address and " port 65535". */
#define PEER_TEXT_MAX (ADDRESS_TEXT_MAX + 11)

/* What an operator wants to read without asking; the rest is for `events` and the debug level. */
static bool worth_a_line(enum cause cause)
{
	switch (cause) {
	case CAUSE_dial_idle:
	case CAUSE_dial_again:
	case CAUSE_dial_exempt:
	case CAUSE_dial_yielded:
	case CAUSE_claim_closed:
	case CAUSE_link_ended:
	case CAUSE_peer_due:
		return false;
	default:
		return true;
	}
}

/* The peer, with the port where the guard has several services. */
static const char *peer_text(const struct daemon *daemon, const struct peer_address *address,
			     char ret_text[PEER_TEXT_MAX])
{
	char text[ADDRESS_TEXT_MAX];

	address_to_text(address, text);
	if (address->service && daemon->config.ports.count > 1 && !daemon->config.share_limit)
		snprintf(ret_text, PEER_TEXT_MAX, "%s port %u", text, address->service);
	else
		snprintf(ret_text, PEER_TEXT_MAX, "%s", text);
	return ret_text;
}

/* From a second on to whole seconds. */
static __u64 rounded(__u64 span_ns)
{
	__u64 unit = span_ns >= NS_PER_SECOND ? NS_PER_SECOND : NS_PER_MS;

	return (span_ns + unit / 2) / unit * unit;
}

static void log_event(struct daemon *daemon, const struct guard_event *event)
{
	const char *outcome = names_outcome(event->cause, event->verdict, event->enforced != 0);
	char peer[PEER_TEXT_MAX], until[CLOCK_DURATION_TEXT_MAX] = "", more[64] = "";
	char who[64] = "", what[160] = "", detail[VIEW_DETAIL_MAX], how[VIEW_DETAIL_MAX + 4] = "";
	__u64 now = clock_now_ns(), left_out = 0;
	bool told = worth_a_line(event->cause);

	/* In a flood nearly all are not: nothing is made up for them. */
	if (told ? !throttle_pass(daemon->throttle, &event->address, event->cause, now, &left_out) :
		   !log_says(LOG_LEVEL_DEBUG))
		return;
	view_event_detail(event, detail);
	if (*detail)
		snprintf(how, sizeof(how), " (%s)", detail);
	if (!told) {
		log_debug("%s: %s%s", peer_text(daemon, &event->address, peer),
			  names_cause(event->cause), how);
		return;
	}
	if (event->until_ns > now)
		clock_duration_format(rounded(event->until_ns - now), until);
	if (left_out)
		snprintf(more, sizeof(more), " (%llu more since the last such line)",
			 (unsigned long long)left_out);
	if (address_is_nobody(&event->address)) {
		log_info("%s%s", names_cause_text(event->cause), more);
		return;
	}
	if (event->process_id)
		snprintf(who, sizeof(who), " by %.16s[%u/%u]", event->command, event->process_id,
			 event->thread_id);
	if (event->verdict == VERDICT_NONE || (event->verdict == VERDICT_ALLOW && !event->enforced))
		snprintf(what, sizeof(what), "%s%s", outcome, *outcome ? ": " : "");
	else
		snprintf(what, sizeof(what), "%s%s %s: ",
			 names_subject(names_cause_subject(event->cause)), who, outcome);
	log_info("%s: %s%s%s%s%s%s%s", peer_text(daemon, &event->address, peer), what,
		 names_cause_text(event->cause), how, *until ? ", for " : "", until,
		 *until ? " at most" : "", more);
}

/* Say what went wrong with destroying a socket; that it is gone already is no wrong. */
static void log_destroyed(const struct peer_address *address, int result)
{
	char text[ADDRESS_TEXT_MAX];

	if (result && result != -ENOENT && result != -EBUSY)
		log_warning("%s: a connection too many cannot be destroyed: %s",
			    address_to_text(address, text), strerror(-result));
}

int happenings_destroy(struct daemon *daemon, const struct peer_address *address, __u64 cookie)
{
	int result;

	if (!daemon_enforces(daemon))
		return 0;
	result = links_destroy_surplus(daemon->guard, daemon->surroundings.sockets, address, cookie);
	log_destroyed(address, result);
	return result;
}

/*
 * A link too many found no slot. If it looks like the last one, because those in the slots have all
 * ended or lost, it stays: but so do others like it, and the check takes all of them in.
 */
static void destroy_unheld(struct daemon *daemon, const struct guard_event *event)
{
	if (happenings_destroy(daemon, &event->address, event->other_cookie) != -EBUSY)
		return;
	daemon->spared[daemon->spared_next] = event->other_cookie;
	daemon->spared_next = (daemon->spared_next + 1) % SPARED_MAX;
}

/* Whether the peer has more links than it may, doomed ones left out. */
static bool over_limit(struct daemon *daemon, const struct peer_address *address)
{
	__u64 now = clock_now_ns();
	struct guard_policy policy;
	struct slot_census census;
	struct peer peer;

	if (guard_peer_read(daemon->guard, address, &peer) ||
	    guard_policy_read(daemon->guard, &policy) || peer_exempt(&peer, now))
		return false;
	census = peer_census(&peer, &policy, 0, now);
	return census.links + census.unproven > peer_limit(&peer, &policy);
}

/* A link was taken in. One that had to stay for want of another goes, if there is another now. */
static void destroy_spared(struct daemon *daemon, const struct guard_event *event)
{
	for (size_t i = 0; i < SPARED_MAX; i++) {
		if (daemon->spared[i] != event->cookie)
			continue;
		daemon->spared[i] = 0;
		if (over_limit(daemon, &event->address))
			happenings_destroy(daemon, &event->address, event->cookie);
		return;
	}
}

bool happenings_dial_lost(struct daemon *daemon, const struct peer *peer, const struct guard_policy *policy,
			  __u64 now)
{
	return !peer_room(peer, policy, now) && policy->tie_break == TIE_BREAK_ISN && !peer_exempt(peer, now) &&
	       !guard_exempts(daemon->guard, &peer->address, now);
}

int happenings_end_dial(struct daemon *daemon, const struct peer_address *address, const struct slot *claim)
{
	int result;

	if (!daemon_enforces(daemon))
		return 0;
	result = links_end_dial(daemon->surroundings.sockets, address, claim);
	log_destroyed(address, result);
	return result;
}

/*
 * The peer has become linked: dials that are still under way lost. Their answers are held in the
 * kernel; ending them tells the application now rather than when its SYN times out. A dial is no
 * link, so it may go even if the link has ended since: an application that refuses a newcomer while
 * it dials would otherwise refuse every one of them until then.
 */
static void give_up_dials(struct daemon *daemon, const struct guard_event *event)
{
	struct guard_policy policy;
	struct peer peer;

	if (!daemon_enforces(daemon) || guard_peer_read(daemon->guard, &event->address, &peer) ||
	    guard_policy_read(daemon->guard, &policy))
		return;
	if (policy.tie_break == TIE_BREAK_NONE || peer_exempt(&peer, event->time_ns) ||
	    peer_limit(&peer, &policy) > 1)
		return;
	for (int i = 0; i < PEER_SLOTS; i++) {
		const struct slot *slot = &peer.slots[i];

		/* One that was made after the link was seen is another story. */
		if (slot->kind != SLOT_CLAIM || !(slot->flags & SLOT_SENT) ||
		    slot->since_ns > event->time_ns)
			continue;
		happenings_end_dial(daemon, &event->address, slot);
	}
}

/* The SYN of a dial that waited beside a new link has left, for nobody has ended it in time: linked, it ends now. */
static void end_beside_link(struct daemon *daemon, const struct guard_event *event)
{
	struct guard_policy policy;
	const struct slot *claim;
	struct peer peer;

	if (guard_peer_read(daemon->guard, &event->address, &peer) ||
	    guard_policy_read(daemon->guard, &policy))
		return;
	claim = slot_of(&peer, event->cookie);
	if (claim && claim->kind == SLOT_CLAIM &&
	    happenings_dial_lost(daemon, &peer, &policy, clock_now_ns()))
		happenings_end_dial(daemon, &event->address, claim);
}

/*
 * A knock goes first: the dial that was given up for it ends before their handshake completes. True: it has ended, now
 * or before.
 */
static bool end_given_up(struct daemon *daemon, const struct guard_event *event)
{
	const struct slot *claim;
	struct peer peer;

	if (!event->enforced || !daemon_enforces(daemon) ||
	    guard_peer_read(daemon->guard, &event->address, &peer))
		return false;
	claim = slot_of(&peer, event->other_cookie);
	if (!claim)
		return true;
	return claim->kind == SLOT_CLAIM && claim->flags & SLOT_GIVEN_UP && happenings_end_dial(daemon, &event->address, claim) == 0;
}

/* A link or a dial has ended: their knock may have been held for it, or the answer to another dial of ours. */
static void let_in_what_waited(struct daemon *daemon, const struct guard_event *event)
{
	/* Our application has closed its link, and takes another. Or it has none to learn of. */
	if (names_cause_subject(event->cause) != SUBJECT_LINK || event->ending == ENDING_CLOSED)
		syns_let_in(daemon, &event->address);
	else
		syns_let_in_later(daemon, &event->address);
	syns_send_into_room(daemon, &event->address);
}

void happenings_publish_due(struct daemon *daemon, const struct peer_address *address, __u64 now)
{
	struct peer peer;
	json_t *object;

	if (!server_followed(daemon->server, STREAM_DUE) || guard_peer_read(daemon->guard, address, &peer))
		return;
	object = view_due_peer(&peer, now);
	server_publish(daemon->server, STREAM_DUE, object);
	json_decref(object);
}

static void on_event(const struct guard_event *event, const struct held_packet *held, void *argument)
{
	struct daemon *daemon = argument;
	__u64 now = clock_now_ns();
	struct peer peer;

	/* First what cannot wait. */
	switch (event->cause) {
	case CAUSE_knock_goes_first:
		end_given_up(daemon, event);
		break;
	case CAUSE_knock_ack_waits:
		/* Their TCP would repeat it, and what it has sent behind it, after a fifth of a second or a whole one. */
		if (end_given_up(daemon, event) && held)
			packets_let_in_soon(daemon, held);
		break;
	case CAUSE_knock_open_lost:
		/* Asked for anew its SYN would take as long again, and their TCP take that for the round trip. */
		if (end_given_up(daemon, event))
			syns_let_in(daemon, &event->address);
		break;
	case CAUSE_knock_open_won:
		if (event->enforced)
			syns_send_soon(daemon, event);
		break;
	case CAUSE_answer_tie_lost:
	case CAUSE_answer_linked:
		if (event->enforced) {
			syns_send_soon(daemon, event);
			probing_doubt(daemon, event);
		}
		break;
	case CAUSE_dial_let_go:
		end_beside_link(daemon, event);
		break;
	case CAUSE_service_started:
	case CAUSE_network_back:
	case CAUSE_host_resumed:
		upkeep_revived(daemon);
		break;
	case CAUSE_link_unheld:
		if (event->other_cookie)
			destroy_unheld(daemon, event);
		/* fall through */
	case CAUSE_dial_unheld:
		/* It has no entry: there was no room for one, in the map or for its network. */
		if (guard_peer_read(daemon->guard, &event->address, &peer) == -ENOENT)
			room_make(daemon, &event->address);
		break;
	case CAUSE_link_duplicate:
		happenings_destroy(daemon, &event->address, event->other_cookie);
		upkeep_not_due(daemon, &event->address);
		break;
	case CAUSE_link_replaced:
		if (event->enforced)
			replaced_later(daemon, event);
		give_up_dials(daemon, event);
		upkeep_not_due(daemon, &event->address);
		break;
	case CAUSE_knock_suspect:
		if (event->enforced)
			syns_let_in_at_last(daemon, event);
		/* fall through */
	case CAUSE_dial_suspect:
	/* Where several links are allowed, a quiet one may be what leaves no room for both of a race. */
	case CAUSE_knock_tie_lost:
		if (event->enforced)
			probing_doubt(daemon, event);
		break;
	case CAUSE_link_stranded:
		syns_let_in(daemon, &event->address);
		/* fall through */
	case CAUSE_link_unanswered:
		syns_send_into_room(daemon, &event->address);
		break;
	case CAUSE_link_surplus:
		surplus_found(daemon, &event->address);
		/* fall through */
	case CAUSE_link_adopted:
		destroy_spared(daemon, event);
		give_up_dials(daemon, event);
		upkeep_not_due(daemon, &event->address);
		break;
	case CAUSE_link_inbound:
	case CAUSE_link_spared:
	case CAUSE_link_outbound:
		give_up_dials(daemon, event);
		if (daemon_enforces(daemon))
			probing_doubt(daemon, event);
		upkeep_not_due(daemon, &event->address);
		break;
	case CAUSE_link_short:
	case CAUSE_link_hung_up:
	case CAUSE_link_ended:
	case CAUSE_link_released:
	case CAUSE_link_cut:
	case CAUSE_link_unguarded:
		replaced_newcomer_ended(daemon, event);
		/* fall through */
	case CAUSE_dial_failed:
	case CAUSE_dial_unheard:
		let_in_what_waited(daemon, event);
		/* fall through */
	case CAUSE_dial_yielded:
	case CAUSE_dial_kept:
	case CAUSE_dial_beside:
	case CAUSE_claim_closed:
	case CAUSE_claim_expired:
	case CAUSE_knock_backoff:
	case CAUSE_peer_kicked:
		upkeep_due_at(daemon, &event->address,
			      event->until_ns > now ? event->until_ns : now);
		break;
	default:
		break;
	}
	daemon->history[daemon->history_next] = *event;
	daemon->history_next = (daemon->history_next + 1) % HISTORY_LENGTH;
	if (daemon->history_count < HISTORY_LENGTH)
		daemon->history_count++;
	if (server_followed(daemon->server, STREAM_EVENTS)) {
		json_t *object = view_event(event);

		server_publish(daemon->server, STREAM_EVENTS, object);
		json_decref(object);
	}
	if (event->cause == CAUSE_peer_due)
		happenings_publish_due(daemon, &event->address, event->time_ns);
	log_event(daemon, event);
}

static void on_ring(evutil_socket_t fd, short what, void *argument)
{
	struct daemon *daemon = argument;
	int result = guard_events_drain(daemon->guard);

	(void)fd;
	(void)what;
	if (result < 0)
		log_warning("reading events: %s", strerror(-result));
	probing_ask(daemon);
	/* What is there is read without a pause, or the ring would fill. */
	if (result > 0 || budget_spend(&daemon->readings, clock_now_ns()))
		return;
	if (evtimer_add(daemon->ring_pause, &reading_pause) == 0)
		event_del(daemon->ring_event);
}

static void on_pause_over(evutil_socket_t fd, short what, void *argument)
{
	struct daemon *daemon = argument;

	(void)fd;
	(void)what;
	/* The kernel may lack memory for it just now. */
	if (event_add(daemon->ring_event, NULL))
		evtimer_add(daemon->ring_pause, &reading_pause);
}

size_t happenings_recent(const struct daemon *daemon, struct guard_event *ret_events)
{
	size_t first = (daemon->history_next + HISTORY_LENGTH - daemon->history_count) %
		       HISTORY_LENGTH;

	for (size_t i = 0; i < daemon->history_count; i++)
		ret_events[i] = daemon->history[(first + i) % HISTORY_LENGTH];
	return daemon->history_count;
}

int happenings_start(struct daemon *daemon)
{
	int fd, result;

	daemon->throttle = throttle_new(THROTTLE_PAIRS);
	daemon->history = calloc(HISTORY_LENGTH, sizeof(*daemon->history));
	if (!daemon->throttle || !daemon->history)
		return -ENOMEM;
	result = guard_events_open(daemon->guard, on_event, daemon, &fd);
	if (result)
		return result;
	daemon->ring_event = event_new(daemon->base, fd, EV_READ | EV_PERSIST, on_ring, daemon);
	daemon->ring_pause = evtimer_new(daemon->base, on_pause_over, daemon);
	if (!daemon->ring_event || !daemon->ring_pause)
		return -ENOMEM;
	daemon->readings = (struct budget){ .period_ns = NS_PER_SECOND, .max = READINGS_A_SECOND };
	return event_add(daemon->ring_event, NULL) ? -ENOMEM : 0;
}

void happenings_stop(struct daemon *daemon)
{
	if (daemon->ring_event)
		event_free(daemon->ring_event);
	if (daemon->ring_pause)
		event_free(daemon->ring_pause);
	daemon->ring_event = daemon->ring_pause = NULL;
	throttle_free(daemon->throttle);
	free(daemon->history);
	daemon->throttle = NULL;
	daemon->history = NULL;
}
