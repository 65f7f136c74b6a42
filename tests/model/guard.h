/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guard of the model: the real rules.h at work on what the model remembers of it.
 *
 * Spin keeps states by the million, so a guard is remembered as an image of bytes: no process ids,
 * no counters, and times as ticks from now, no further than any rule looks. Before a rule is asked,
 * the image becomes a struct peer and a struct pending_handshake, and an image again afterwards.
 * Each model_NAME() stands for one hook or one command and asks the rule NAME().
 *
 * Included into the verifier that spin makes of two_hosts.pml. Decides nothing.
 */
#ifndef CONNGUARD_TESTS_MODEL_GUARD_H
#define CONNGUARD_TESTS_MODEL_GUARD_H

#include <string.h>

#include <connguard/rules.h>

#include "words.h"

/* Any time will do: images are relative to it. */
#define NOW_NS (1000 * NS_PER_SECOND)
/* An image of a time: 0 is no time; else ticks from now plus this. */
#define IMAGE_NOW 128
/*
 * And this one is further away than anything that is awaited: claim_max is longer than TCP tries,
 * so a claim whose SYN has left is ended by its socket.
 */
#define IMAGE_FAR 255

_Static_assert(DENY_MAX < IMAGE_NOW && BACKOFF_MAX < IMAGE_FAR - IMAGE_NOW,
	       "times fit into their images");
_Static_assert(HOLD_MAX % 2 == 0, "half of hold_max is a number of ticks");
_Static_assert(CONNECTIONS < PEER_SLOTS, "a guard has slots enough for all connections");

/* Of a slot; a free one is all zero. Cookies are the number of the connection plus one. */
struct slot_image {
	unsigned char kind;
	unsigned char cookie;
	unsigned char direction;
	unsigned char flags;
	unsigned char number;
	unsigned char since;
	unsigned char expires;
	unsigned char yields_until;
	unsigned char heard;
	unsigned char doubted;
	unsigned char syns;      /* so many as make a silence, or fewer */
	unsigned char left;
	unsigned char ack_waits; /* a time, or ACK_WAITS: five milliseconds end within the tick, some time */
};

#define ACK_WAITS 1

struct guard_image {
	struct slot_image slots[CONNECTIONS];
	unsigned char next_attempt;
	unsigned char wake_after;
	unsigned char refused_pending;
	unsigned char doubted_dial;
	unsigned char flags; /* PEER_YIELDED, PEER_SILENT, PEER_ANSWERED */
	unsigned char attempts;
	unsigned char unheard_dials;
	unsigned char short_links;
	unsigned char yielded_port; /* the number of the connection plus one, while a claim gives way */
	/*
	 * Of the handshakes element. Ports are the number of the connection plus one, or PORT_GONE.
	 */
	unsigned char pending_until;
	unsigned char pending_port;
	unsigned char pending_number;
	unsigned char acknowledged;
	unsigned char held_until;
	unsigned char held_ports; /* a bit each */
	unsigned char held_gone;  /* so many beside them, of connections that are no more */
};

#define PORT_GONE 200
#define SERVICE_PORT 24000

static const struct guard_policy guard_policy_of_model = {
	.set = 1,
	.max_links = LINKS,
	.refusal_errno = 111,
	.reject_style = REJECT_RESET,
	.tie_break = TIE_OPEN ? TIE_BREAK_NONE : TIE_BREAK_ISN,
	.dial_policy = DIAL_POLICY_SHARED,
	.backoff_initial_ns = BACKOFF_FIRST * TICK_NS,
	.backoff_max_ns = BACKOFF_MAX * TICK_NS,
	.min_uptime_ns = MIN_UPTIME * TICK_NS,
	.stable_after_ns = STABLE_AFTER * TICK_NS,
	.hold_max_ns = HOLD_MAX * TICK_NS,
	.claim_max_ns = (IMAGE_FAR - IMAGE_NOW) * TICK_NS,
	.liveness_ns = KEEPALIVE * TICK_NS,
	.suspect_after_ns = SUSPECT_AFTER * TICK_NS,
	.deny_max_ns = DENY_MAX * TICK_NS,
	.keep_dials = KEEPS,
};

/* One address will do for the other host of either. */
static const struct peer_address guard_remote = {
	.bytes = { [10] = 0xff, [11] = 0xff, 192, 0, 2, 1 }
};

/* The guard that is being asked, between guard_from_image() and guard_to_image(). */
static struct peer peer;
static struct pending_handshake pending;

/* ---- images ---------------------------------------------------------------------------------- */

static __u64 image_to_time(unsigned char image)
{
	return image ? NOW_NS + image * TICK_NS - IMAGE_NOW * TICK_NS : 0;
}

/* What is longer ago than `oldest` ticks is as old as that. */
static unsigned char image_from_time(__u64 time_ns, int oldest)
{
	int ticks;

	if (!time_ns)
		return 0;
	ticks = ((__s64)time_ns - (__s64)NOW_NS) / (__s64)TICK_NS;
	return IMAGE_NOW + (ticks < -oldest ? -oldest : ticks);
}

/* The same time, seen a tick later. */
static unsigned char image_older(unsigned char image, int oldest)
{
	return image == IMAGE_FAR || image <= IMAGE_NOW - oldest ? image : image - 1;
}

static void slot_from_image(struct slot *slot, const struct slot_image *image)
{
	slot->kind = image->kind;
	slot->cookie = image->cookie;
	slot->direction = image->direction;
	slot->flags = image->flags;
	slot->client_isn = image->number;
	slot->since_ns = image_to_time(image->since);
	slot->expires_ns = image_to_time(image->expires);
	slot->yields_until_ns = image_to_time(image->yields_until);
	slot->heard_ns = image_to_time(image->heard);
	slot->doubted_ns = image_to_time(image->doubted);
	slot->syns = image->syns;
	slot->left_ns = image_to_time(image->left);
	slot->ack_waits_until_ns = image->ack_waits == ACK_WAITS ?
					   NOW_NS + ACK_WAITS_NS :
					   image_to_time(image->ack_waits);
}

static void slot_to_image(struct slot_image *image, const struct slot *slot)
{
	memset(image, 0, sizeof(*image));
	if (slot->kind == SLOT_FREE)
		return;
	image->kind = slot->kind;
	image->cookie = slot->cookie;
	image->direction = slot->direction;
	image->flags = slot->flags;
	image->number = slot->client_isn;
	image->since = image_from_time(slot->since_ns, STABLE_AFTER);
	image->expires = image_from_time(slot->expires_ns, 0);
	image->yields_until = image_from_time(slot->yields_until_ns, 0);
	image->heard = image_from_time(slot->heard_ns, SUSPECT_AFTER);
	image->doubted = image_from_time(slot->doubted_ns, DENY_MAX);
	if (slot->kind != SLOT_CLAIM)
		return;
	image->syns = slot->syns < SYNS_UNANSWERED ? slot->syns : SYNS_UNANSWERED;
	image->left = image_from_time(slot->left_ns, HOLD_MAX);
	image->ack_waits = slot->ack_waits_until_ns == NOW_NS + ACK_WAITS_NS ?
				   ACK_WAITS :
				   image_from_time(slot->ack_waits_until_ns, 0);
}

static void guard_from_image(const struct guard_image *image)
{
	int i, place = HELD_PORTS;

	memset(&peer, 0, sizeof(peer));
	memset(&pending, 0, sizeof(pending));
	peer.address = guard_remote;
	peer.next_attempt_ns = image_to_time(image->next_attempt);
	peer.wake_after_ns = image_to_time(image->wake_after);
	peer.refused_pending_ns = image_to_time(image->refused_pending);
	peer.doubted_dial_ns = image_to_time(image->doubted_dial);
	peer.flags = image->flags;
	peer.attempts = image->attempts;
	peer.unheard_dials = image->unheard_dials;
	peer.short_links = image->short_links;
	peer.yielded_port = image->yielded_port;
	for (i = 0; i < CONNECTIONS; i++)
		slot_from_image(&peer.slots[i], &image->slots[i]);
	pending.until_ns = image_to_time(image->pending_until);
	pending.held_until_ns = image_to_time(image->held_until);
	if (pending.until_ns) {
		pending.address = guard_remote;
		pending.remote_port = image->pending_port;
		pending.client_isn = image->pending_number;
		pending.acknowledged = image->acknowledged;
	}
	/* The last empty place is taken first. */
	for (i = 0; i < CONNECTIONS; i++)
		if (image->held_ports & 1 << i)
			pending.held_ports[--place] = i + 1;
	for (i = 0; i < image->held_gone; i++)
		pending.held_ports[--place] = PORT_GONE + i;
}

/*
 * What is past and means nothing any more is forgotten, so that guards are equal which decide
 * equally: a backoff that ended before any claim or link that is still told apart by its age, a
 * handshake, what was held.
 */
static void guard_forget_the_past(struct guard_image *image)
{
	if (image->next_attempt == IMAGE_NOW - STABLE_AFTER)
		image->next_attempt = 0;
	if (image->wake_after <= IMAGE_NOW)
		image->wake_after = 0;
	if (image->pending_until <= IMAGE_NOW)
		image->pending_until = image->pending_port = image->pending_number =
			image->acknowledged = 0;
	if (image->held_until <= IMAGE_NOW)
		image->held_until = image->held_ports = image->held_gone = 0;
}

/*
 * Of `attempts` no more is remembered than there are steps of backoff of different lengths. Our dials
 * that have been refused for a pending handshake are not refused for one again, for no variant lasts
 * as long as the rest of a minute.
 */
static void guard_to_image(struct guard_image *image)
{
	int i, yields = 0;

	image->next_attempt = image_from_time(peer.next_attempt_ns, STABLE_AFTER);
	image->wake_after = image_from_time(peer.wake_after_ns, 0);
	image->refused_pending = image_from_time(peer.refused_pending_ns, HOLD_MAX);
	image->doubted_dial = image_from_time(peer.doubted_dial_ns, DENY_MAX);
	image->flags = peer.flags & (PEER_YIELDED | PEER_SILENT | PEER_ANSWERED);
	image->attempts = STEPS == 1 ? 0 : peer.attempts < STEPS ? peer.attempts : STEPS;
	image->unheard_dials = peer.unheard_dials;
	image->short_links = peer.short_links;
	for (i = 0; i < CONNECTIONS; i++) {
		slot_to_image(&image->slots[i], &peer.slots[i]);
		yields |= peer.slots[i].kind == SLOT_CLAIM && peer.slots[i].yields_until_ns;
	}
	image->yielded_port = yields ? peer.yielded_port : 0;
	image->pending_until = image_from_time(pending.until_ns, 0);
	image->pending_port = pending.remote_port;
	image->pending_number = pending.client_isn;
	image->acknowledged = pending.acknowledged;
	image->held_until = image_from_time(pending.held_until_ns, 0);
	image->held_ports = 0;
	image->held_gone = 0;
	for (i = 0; i < HELD_PORTS; i++) {
		if (pending.held_ports[i] >= PORT_GONE)
			image->held_gone++;
		else if (pending.held_ports[i])
			image->held_ports |= 1 << (pending.held_ports[i] - 1);
	}
	guard_forget_the_past(image);
}

/* A tick has passed. */
static void guard_tick(struct guard_image *image)
{
	int i;

	for (i = 0; i < CONNECTIONS; i++) {
		struct slot_image *slot = &image->slots[i];

		slot->since = image_older(slot->since, STABLE_AFTER);
		slot->expires = image_older(slot->expires, 0);
		slot->yields_until = image_older(slot->yields_until, 0);
		slot->heard = image_older(slot->heard, SUSPECT_AFTER);
		slot->doubted = image_older(slot->doubted, DENY_MAX);
		slot->left = image_older(slot->left, HOLD_MAX);
		slot->ack_waits = slot->ack_waits == ACK_WAITS ? IMAGE_NOW :
								 image_older(slot->ack_waits, 0);
	}
	image->next_attempt = image_older(image->next_attempt, STABLE_AFTER);
	image->wake_after = image_older(image->wake_after, 0);
	image->refused_pending = image_older(image->refused_pending, HOLD_MAX);
	image->doubted_dial = image_older(image->doubted_dial, DENY_MAX);
	image->pending_until = image_older(image->pending_until, 0);
	image->held_until = image_older(image->held_until, 0);
	guard_forget_the_past(image);
}

/* The connection is no more, and its number will mean another one. */
static void guard_forget_port(struct guard_image *image, int connection)
{
	if (image->held_ports & 1 << connection) {
		image->held_ports &= ~(1 << connection);
		image->held_gone++;
	}
	if (image->pending_port == connection + 1)
		image->pending_port = PORT_GONE;
	if (image->yielded_port == connection + 1)
		image->yielded_port = 0;
}

/* ---- the rules ------------------------------------------------------------------------------- */

/* connect4, connect6. `daemon`: there is one, as in all that follow. */
static struct decision model_dial_claim(struct guard_image *image, int connection, int daemon)
{
	struct dial dial = { .cookie = connection + 1,
			     .now = NOW_NS,
			     .mode = MODE_ENFORCE,
			     .asks = daemon,
			     .ends_dials = daemon };
	struct decision decision;

	guard_from_image(image);
	dial.pending_until_ns = handshake_pending(&pending, &guard_remote, NOW_NS).until_ns;
	decision = dial_claim(&peer, &guard_policy_of_model, &dial);
	guard_to_image(image);
	return decision;
}

/* sock_ops. */
static void model_dial_sent(struct guard_image *image, int connection, int number)
{
	const struct dial_syn syn = { .cookie = connection + 1,
				      .now = NOW_NS,
				      .client_isn = number,
				      .local_port = connection + 1,
				      .remote_port = SERVICE_PORT };

	guard_from_image(image);
	dial_sent(&peer, &guard_policy_of_model, &syn);
	guard_to_image(image);
}

/* egress. */
static struct decision model_dial_leaves(struct guard_image *image, int connection)
{
	struct decision decision;

	guard_from_image(image);
	decision = dial_leaves(&peer, &guard_policy_of_model, connection + 1, 1, NOW_NS);
	guard_to_image(image);
	return decision;
}

/* sk_lookup, which does not see the number. */
static struct decision model_knock_decide(struct guard_image *image, int connection)
{
	const struct knock knock = { .now = NOW_NS,
				     .mode = MODE_ENFORCE,
				     .remote_port = connection + 1 };
	struct decision decision;

	guard_from_image(image);
	decision = knock_decide(&peer, &guard_policy_of_model, &knock);
	guard_to_image(image);
	return decision;
}

static struct knock knock_seen(int connection, int number, int daemon)
{
	return (struct knock){ .now = NOW_NS,
			       .client_isn = number,
			       .isn_known = 1,
			       .mode = MODE_ENFORCE,
			       .ends_dials = daemon,
			       .asks = daemon,
			       .remote_port = connection + 1 };
}

/*
 * ingress: the same with the number, then the table of handshakes. `ret_told` is what the daemon has
 * to act on, whatever becomes of the SYN.
 */
static struct decision model_handshake_decide(struct guard_image *image, int connection, int number,
					      int daemon, struct decision *ret_told)
{
	const struct knock knock = knock_seen(connection, number, daemon);
	struct decision decision, held;

	guard_from_image(image);
	decision = knock_decide(&peer, &guard_policy_of_model, &knock);
	*ret_told = decision;
	if (decision.verdict == VERDICT_ALLOW) {
		held = handshake_decide(&pending, &guard_remote, &guard_policy_of_model,
					connection + 1, number,
					peer_room(&peer, &guard_policy_of_model, NOW_NS), NOW_NS);
		if (held.verdict != VERDICT_ALLOW ||
		    (held.cause != CAUSE_knock_idle && decision.cause != CAUSE_knock_goes_first &&
		     decision.cause != CAUSE_knock_backoff))
			decision = held;
	}
	guard_to_image(image);
	return decision;
}

/* ingress, on a SYN that meets our own dial. */
static struct decision model_open_decide(struct guard_image *image, int connection, int number,
					 int daemon)
{
	const struct knock knock = knock_seen(connection, number, daemon);
	struct decision decision;

	guard_from_image(image);
	decision = open_decide(&peer, &guard_policy_of_model, connection + 1, &knock);
	guard_to_image(image);
	return decision;
}

/* ingress, on an ACK to the listener. */
static struct decision model_last_ack_decide(struct guard_image *image, int connection, int daemon)
{
	const struct knock ack = { .now = NOW_NS,
				   .mode = MODE_ENFORCE,
				   .ends_dials = daemon,
				   .remote_port = connection + 1 };
	struct decision decision = { .verdict = VERDICT_ALLOW, .cause = CAUSE_none };

	if (image->yielded_port != connection + 1)
		return decision;
	guard_from_image(image);
	decision = last_ack_decide(&peer, &ack);
	if (decision.verdict == VERDICT_HOLD)
		handshake_waits(&pending, &guard_remote, &guard_policy_of_model, connection + 1,
				NOW_NS);
	guard_to_image(image);
	return decision;
}

/* ingress, on an RST to the listener. */
static void model_handshake_done(struct guard_image *image, int connection)
{
	guard_from_image(image);
	handshake_done(&pending, &guard_remote, connection + 1);
	guard_to_image(image);
}

/* ingress. */
static struct decision model_answer_decide(struct guard_image *image, int connection)
{
	struct their_handshake theirs;
	struct decision decision;

	guard_from_image(image);
	theirs = handshake_pending(&pending, &guard_remote, NOW_NS);
	decision = answer_decide(&peer, &guard_policy_of_model, &theirs, connection + 1, NOW_NS);
	guard_to_image(image);
	return decision;
}

/* sock_ops. */
static struct decision model_link_up(struct guard_image *image, int connection, int outbound,
				     int number)
{
	const struct link link = {
		.cookie = connection + 1,
		.now = NOW_NS,
		.direction = outbound ? DIRECTION_OUTBOUND : DIRECTION_INBOUND,
		.client_isn = number,
		.mode = MODE_ENFORCE,
		.local_port = outbound ? connection + 1 : SERVICE_PORT,
		.remote_port = outbound ? SERVICE_PORT : connection + 1,
	};
	struct decision decision;

	guard_from_image(image);
	decision = link_up(&peer, &guard_policy_of_model, &link);
	handshake_done(&pending, &guard_remote, link.remote_port);
	guard_to_image(image);
	return decision;
}

/* ingress. */
static void model_link_heard(struct guard_image *image, int connection)
{
	guard_from_image(image);
	link_heard(&peer, connection + 1, NOW_NS);
	guard_to_image(image);
}

/* sock_ops, sock_release. `spoke`: the other end has sent data. */
static struct decision model_slot_end(struct guard_image *image, int connection, enum ending ending,
				      int spoke)
{
	const struct slot_ended end = {
		.cookie = connection + 1, .now = NOW_NS, .ending = ending, .spoke = spoke
	};
	struct decision decision;

	guard_from_image(image);
	decision = slot_end(&peer, &guard_policy_of_model, &end);
	guard_to_image(image);
	return decision;
}

/* 1: the dial, which was kept, waits on. Nothing changes. */
static int guard_dial_waits(const struct guard_image *image, int connection)
{
	guard_from_image(image);
	return dial_waits_until(&peer, &guard_policy_of_model, connection + 1, NOW_NS) > NOW_NS;
}

/* happenings_dial_lost() of user/connguardd/happenings.c. Nothing changes. */
static int guard_dial_lost(const struct guard_image *image)
{
	guard_from_image(image);
	return !peer_room(&peer, &guard_policy_of_model, NOW_NS) && !TIE_OPEN;
}

/* COMMAND_LET_GO. */
static struct decision model_dial_let_go(struct guard_image *image, int connection)
{
	struct decision decision;

	guard_from_image(image);
	decision = dial_let_go(&peer, &guard_policy_of_model, slot_of(&peer, connection + 1), NOW_NS);
	dial_syn_left(slot_of(&peer, connection + 1), NOW_NS);
	guard_to_image(image);
	return decision;
}

/* COMMAND_UNANSWERED. */
static struct decision model_link_unanswered(struct guard_image *image, int connection)
{
	struct decision decision;

	guard_from_image(image);
	decision = link_unanswered(&peer, &guard_policy_of_model, connection + 1, NOW_NS);
	guard_to_image(image);
	return decision;
}

/* COMMAND_SPARE. */
static struct decision model_link_spare(struct guard_image *image, int connection)
{
	struct decision decision;

	guard_from_image(image);
	decision = link_spare(&peer, &guard_policy_of_model, connection + 1, NOW_NS);
	guard_to_image(image);
	return decision;
}

/* COMMAND_REVIVE, as each hook applies it before it asks anything. */
static void model_peer_revive(struct guard_image *image)
{
	guard_from_image(image);
	peer_revive(&peer, NOW_NS);
	guard_to_image(image);
}

/* ---- what the daemon reads in the map -------------------------------------------------------- */

/* The slot of the connection, or NULL. rules: slot_of() */
static const struct slot_image *guard_slot(const struct guard_image *image, int connection)
{
	int i;

	for (i = 0; i < CONNECTIONS; i++)
		if (image->slots[i].kind != SLOT_FREE && image->slots[i].cookie == connection + 1)
			return &image->slots[i];
	return 0;
}

/* A link, not doomed, that is quiet and was not asked in vain; with `in_doubt` one that is in doubt. */
static int guard_suspects(const struct guard_image *image, int connection, int in_doubt)
{
	const struct slot_image *slot = guard_slot(image, connection);
	struct slot real = {};

	if (!slot)
		return 0;
	slot_from_image(&real, slot);
	return slot_is_link(&real) && !slot_shows_life(&real, &guard_policy_of_model, NOW_NS) &&
	       !(real.flags & SLOT_UNANSWERED) && (!in_doubt || real.doubted_ns);
}

/* A link that the guard means to keep, and that has not been asked for a sign of life in vain. */
static int guard_keeps(const struct guard_image *image, int connection)
{
	const struct slot_image *slot = guard_slot(image, connection);

	return slot && slot->kind == SLOT_LINK &&
	       !(slot->flags & (SLOT_DOOMED | SLOT_UNANSWERED)) &&
	       (!slot->doubted || slot->doubted > IMAGE_NOW - DENY_MAX);
}

/* A link in whose place another one has come, after it was asked for a sign of life in vain. */
static int guard_has_replaced(const struct guard_image *image, int connection)
{
	const struct slot_image *slot = guard_slot(image, connection);

	return slot && slot->kind == SLOT_LINK && slot->flags & SLOT_DOOMED &&
	       slot->flags & SLOT_UNANSWERED;
}

/* A last ACK waits for the end of a dial that was given up. */
static int guard_ack_waits(const struct guard_image *image)
{
	int i;

	for (i = 0; i < CONNECTIONS; i++)
		if (image->slots[i].ack_waits == ACK_WAITS)
			return 1;
	return 0;
}

/* And has waited for long enough. */
static void guard_ack_has_waited(struct guard_image *image)
{
	int i;

	for (i = 0; i < CONNECTIONS; i++)
		if (image->slots[i].ack_waits == ACK_WAITS)
			image->slots[i].ack_waits = IMAGE_NOW;
}

#endif
