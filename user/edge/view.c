/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Documents: see view.h for their members. First those made from values, then those made from the
 * pinned maps.
 *
 * Memory: json_pack() takes over every "o" it is given, also when it fails, and a NULL "o" makes it
 * fail; so a document is built in one expression and memory running out shows as one NULL at its
 * end.
 */
#include "edge/view.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <connguard/rules.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/printable.h"
#include "pure/address_text.h"
#include "pure/census.h"
#include "pure/habits.h"
#include "pure/names.h"

/* ---- values ---- */

/* JSON numbers here are signed; what lies beyond (a clock of 292 years, "for good") is cut. */
static json_t *number(__u64 value)
{
	return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

static json_t *number_or_null(__u64 value)
{
	return value ? number(value) : json_null();
}

/* Signed: a few count down from 2^64 - 1 (view.h). */
static json_t *cookie_or_null(__u64 cookie)
{
	return cookie ? json_integer((json_int_t)cookie) : json_null();
}

/* A point in time, and what is left until then. */
static json_t *left_or_null(__u64 until_ns, __u64 now)
{
	return until_ns > now ? number(until_ns - now) : json_null();
}

static __u64 age(__u64 since_ns, __u64 now)
{
	return now > since_ns ? now - since_ns : 0;
}

/*
 * A command as the kernel or /proc gave it. A process names itself as it likes, and the kernel cuts it where
 * it likes: the document has to be valid and a terminal safe.
 */
static json_t *command_or_null(const char command[COMMAND_LENGTH])
{
	char text[COMMAND_LENGTH + 1];

	snprintf(text, sizeof(text), "%.*s", COMMAND_LENGTH, command);
	return *text ? json_string(text_make_printable(text)) : json_null();
}

static json_t *address_text(const struct peer_address *address)
{
	char text[ADDRESS_TEXT_MAX];

	if (address_is_nobody(address))
		return json_null();
	return json_string(address_to_text(address, text));
}

/* The service of a peer. 0 is that of all ports. */
static json_t *service_or_null(const struct peer_address *address)
{
	return number_or_null(address->service);
}

static json_t *ending_or_null(enum ending ending)
{
	return ending == ENDING_NONE ? json_null() : json_string(names_ending(ending));
}

/*
 * What a failure was, by how its dial or link ended. A dial that we have closed is one only if nothing had
 * been answered.
 */
static enum ending failure_of(enum ending ending)
{
	return ending == ENDING_CLOSED ? ENDING_SILENCE : ending;
}

static json_t *ending_sentence(enum ending ending)
{
	return ending == ENDING_NONE ? json_null() : json_string(names_ending_text(ending));
}

static json_t *text_or_null(const char *text)
{
	return *text ? json_string(text) : json_null();
}

static json_t *view_services(const __u16 *services, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, number_or_null(services[i]));
	return array;
}

static const char *source_of(const struct view_origin *origin)
{
	return origin->daemon ? "daemon" : "maps";
}

/*
 * A sentence of the given format appended; NULL arrays and memory running out show in the pack that
 * follows.
 */
static void say(json_t *sentences, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(json_t *sentences, const char *format, ...)
{
	char text[640];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	json_array_append_new(sentences, json_string(text_make_printable(text)));
}

/* ---- a peer ---- */

static int compare_holders(const void *left, const void *right)
{
	const struct socket_holder *a = left, *b = right;

	return a->cookie < b->cookie ? -1 : a->cookie > b->cookie;
}

static const struct socket_holder *holder_of(const struct view_rules *rules, __u64 cookie)
{
	const struct socket_holder key = { .cookie = cookie };

	return rules->holder_count ? bsearch(&key, rules->holders, rules->holder_count, sizeof(key),
					     compare_holders) :
				     NULL;
}

/* What is known of the life of a link; `until_ns` 0: nothing ends by time alone. */
struct life_view {
	const char *word;
	const char *sentence;
	__u64 until_ns;
};

static struct life_view life_of(const struct view_rules *rules, const struct slot *slot)
{
	const struct guard_policy *policy = &rules->policy;
	bool asks = rules->asks && rules->mode == MODE_ENFORCE;
	const struct knock question = { .asks = rules->asks };
	__u64 longest_ns = denial_lasts(policy, &question);
	struct life_view life = { .word = "alive", .sentence = "it shows life" };

	if (slot_shows_life(slot, policy, rules->now))
		return life;
	if (slot->flags & SLOT_STRANDED) {
		life.word = "stranded";
		life.sentence = "its own address is not this host's any more: a new one may take its place";
	} else if (slot_is_unproven(slot, policy, rules->now) ||
	    (slot->doubted_ns && slot->doubted_ns + longest_ns <= rules->now)) {
		life.word = "unanswered";
		life.sentence = slot->flags & SLOT_UNANSWERED || asks ?
					"quiet, was asked in vain: a new one may take its place" :
					"quiet for too long: a new one may take its place";
	} else if (!slot->doubted_ns) {
		life.word = "quiet";
		life.sentence = asks		  ? "quiet, will be asked when its peer knocks" :
				rules->asks	  ? "quiet, would be asked when its peer knocks" :
						    "quiet, and nobody asks it";
	} else {
		life.word = asks ? "asked" : "doubted";
		life.sentence = asks	    ? "quiet, being asked" :
				rules->asks ? "quiet, would be asked" :
					      "quiet, keeps its peer waiting";
		life.until_ns = slot->doubted_ns + longest_ns;
	}
	return life;
}

/*
 * The process behind a slot: who dialed, as the hook saw it; else who was found to hold the socket.
 */
static json_t *view_slot(const struct view_rules *rules, const struct slot *slot)
{
	const struct socket_holder *holder = slot->process_id ? NULL : holder_of(rules, slot->cookie);
	__u32 process_id = holder ? holder->process_id : slot->process_id;
	const char *command = holder ? holder->command : slot->command;
	struct life_view life = {};

	if (slot->kind == SLOT_LINK)
		life = life_of(rules, slot);
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:b, s:b, s:b, s:b, s:b, s:b, s:b, "
			 "s:s?, s:s?, s:o, s:o, s:o, s:o, s:o, s:o}",
			 "kind", names_slot_kind(slot->kind),
			 "direction", names_direction(slot->direction),
			 "cookie", cookie_or_null(slot->cookie),
			 "since_ns", number(slot->since_ns),
			 "age_ns", number(age(slot->since_ns, rules->now)),
			 "local_port", number_or_null(slot->local_port),
			 "remote_port", number_or_null(slot->remote_port),
			 "process_id", number_or_null(process_id),
			 "thread_id", number_or_null(slot->thread_id),
			 "command", command_or_null(command),
			 "sent", (slot->flags & SLOT_SENT) != 0,
			 "syns", number(slot->syns),
			 "adopted", (slot->flags & SLOT_ADOPTED) != 0,
			 "surplus", (slot->flags & SLOT_SURPLUS) != 0,
			 "doomed", (slot->flags & SLOT_DOOMED) != 0,
			 "kept", (slot->flags & SLOT_KEPT) != 0,
			 "given_up", (slot->flags & SLOT_GIVEN_UP) != 0,
			 "answered", (slot->flags & SLOT_ANSWERED) != 0,
			 "unanswered", (slot->flags & SLOT_UNANSWERED) != 0,
			 "life", life.word,
			 "life_sentence", life.sentence,
			 "life_until_ns", number_or_null(life.until_ns),
			 "expires_ns", number_or_null(slot->expires_ns),
			 "heard_ns", number_or_null(slot->heard_ns),
			 "silent_ns", slot->heard_ns ? number(age(slot->heard_ns, rules->now)) :
						       json_null(),
			 "doubted_ns", number_or_null(slot->doubted_ns),
			 "stalled_ns", number_or_null(slot->stalled_ns));
}

/* The links, doomed ones too, or the claims that the rules still see. */
static json_t *view_slots(const struct view_rules *rules, const struct peer *peer,
			  enum slot_kind kind)
{
	json_t *slots = json_array();
	int i;

	for (i = 0; i < PEER_SLOTS; i++) {
		const struct slot *slot = &peer->slots[i];

		if (kind == SLOT_LINK ? slot->kind == SLOT_LINK : slot_is_claim(slot, rules->now))
			json_array_append_new(slots, view_slot(rules, slot));
	}
	return slots;
}

static json_t *view_exemption(const struct peer *peer, __u64 now)
{
	if (!peer_exempt(peer, now))
		return json_null();
	if (peer->exempt_until_ns == NEVER_ENDS_NS)
		return json_pack("{s:n, s:n}", "until_ns", "left_ns");
	return json_pack("{s:o, s:o}", "until_ns", number(peer->exempt_until_ns), "left_ns",
			 number(peer->exempt_until_ns - now));
}

static json_t *view_last_refusal(const struct peer *peer, __u64 now)
{
	if (!peer->last_refusal_ns)
		return json_null();
	return json_pack("{s:s, s:s, s:o, s:o}",
			 "cause", names_cause(peer->last_refusal_cause),
			 "sentence", names_cause_text(peer->last_refusal_cause),
			 "time_ns", number(peer->last_refusal_ns),
			 "age_ns", number(age(peer->last_refusal_ns, now)));
}

json_t *view_peer(const struct view_rules *rules, const struct peer *peer)
{
	__u64 now = rules->now;
	__u64 next_attempt_ns = peer->next_attempt_ns > now ? peer->next_attempt_ns : 0;
	enum ending failure = next_attempt_ns ? failure_of(peer->failure) : ENDING_NONE;

	return json_pack("{s:o, s:o, s:s, s:b, s:b, s:b, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
			 "s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
			 "address", address_text(&peer->address),
			 "service", service_or_null(&peer->address),
			 "state", census_state_name(census_state(peer, now)),
			 "known", (peer->flags & PEER_KNOWN) != 0,
			 "dialed", (peer->flags & PEER_DIALED) != 0,
			 "due", peer_due(peer, now),
			 "limit", (int)peer_limit(peer, &rules->policy),
			 "own_limit", number_or_null(peer->limit ? peer->limit : peer->named_limit),
			 "decided_limit", number_or_null(peer->limit),
			 "named_limit", number_or_null(peer->named_limit),
			 "links", view_slots(rules, peer, SLOT_LINK),
			 "claims", view_slots(rules, peer, SLOT_CLAIM),
			 "attempts", number(peer->attempts),
			 "next_attempt_ns", number_or_null(next_attempt_ns),
			 "backoff_left_ns", left_or_null(next_attempt_ns, now),
			 "failure", ending_or_null(failure),
			 "failure_sentence", ending_sentence(failure),
			 "failed_ns", number_or_null(next_attempt_ns ? peer->failed_ns : 0),
			 "announced_ns", number_or_null(peer->due_ns),
			 "exempt", view_exemption(peer, now),
			 "first_seen_ns", number(peer->first_seen_ns),
			 "last_active_ns", number_or_null(peer->last_active_ns),
			 "refused_dials", number(peer->refused_dials),
			 "refused_knocks", number(peer->refused_knocks),
			 "last_refusal", view_last_refusal(peer, now));
}

json_t *view_due_peer(const struct peer *peer, __u64 now)
{
	return json_pack("{s:o, s:o, s:o, s:b, s:o, s:o}",
			 "address", address_text(&peer->address),
			 "service", service_or_null(&peer->address),
			 "now_ns", number(now),
			 "known", (peer->flags & PEER_KNOWN) != 0,
			 "attempts", number(peer->attempts),
			 "last_active_ns", number_or_null(peer->last_active_ns));
}

/* ---- an event ---- */

/* What a decision or an end tells beyond its cause. */
static const char *detail_of(enum cause cause, enum ending ending, __u32 attempts,
			     char ret_text[VIEW_DETAIL_MAX])
{
	enum cause_subject subject = names_cause_subject(cause);
	const char *failure = names_ending_text(failure_of(ending));

	*ret_text = '\0';
	if (ending == ENDING_NONE)
		return ret_text;
	if (cause == CAUSE_dial_backoff || cause == CAUSE_dial_kept)
		snprintf(ret_text, VIEW_DETAIL_MAX, "after %u failure%s in a row, the last: %s", attempts,
			 attempts == 1 ? "" : "s", failure);
	else if (cause == CAUSE_dial_failed || cause == CAUSE_link_hung_up)
		snprintf(ret_text, VIEW_DETAIL_MAX, "%s, failure %u in a row", failure, attempts);
	else if (subject == SUBJECT_CLAIM || subject == SUBJECT_LINK)
		snprintf(ret_text, VIEW_DETAIL_MAX, "%s", names_ending_text(ending));
	return ret_text;
}

const char *view_event_detail(const struct guard_event *event, char ret_text[VIEW_DETAIL_MAX])
{
	return detail_of(event->cause, event->ending, event->attempts, ret_text);
}

json_t *view_event(const struct guard_event *event)
{
	char detail[VIEW_DETAIL_MAX];

	return json_pack("{s:o, s:o, s:o, s:s, s:s, s:o, s:o, s:s, s:s, s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
			 "s:o, s:o, s:o}",
			 "time_ns", number(event->time_ns),
			 "address", address_text(&event->address),
			 "service", service_or_null(&event->address),
			 "cause", names_cause(event->cause),
			 "sentence", names_cause_text(event->cause),
			 "outcome", text_or_null(names_outcome(event->cause, event->verdict,
							       event->enforced != 0)),
			 "detail", text_or_null(view_event_detail(event, detail)),
			 "subject", names_subject(names_cause_subject(event->cause)),
			 "verdict", names_verdict(event->verdict),
			 "direction", names_direction(event->direction),
			 "enforced", event->enforced != 0,
			 "attempts", number(event->attempts),
			 "ending", ending_or_null(event->ending),
			 "until_ns", number_or_null(event->until_ns),
			 "cookie", cookie_or_null(event->cookie),
			 "other_cookie", cookie_or_null(event->other_cookie),
			 "process_id", number_or_null(event->process_id),
			 "thread_id", number_or_null(event->thread_id),
			 "command", command_or_null(event->command),
			 "local_port", number_or_null(event->local_port),
			 "remote_port", number_or_null(event->remote_port));
}

json_t *view_events(const struct view_origin *origin)
{
	json_t *array = json_array();
	size_t i;

	for (i = 0; i < origin->event_count; i++)
		json_array_append_new(array, view_event(&origin->events[i]));
	return json_pack("{s:s, s:s, s:o, s:o, s:o}", "name", origin->name, "source", source_of(origin),
			 "now_ns", number(origin->now),
			 "services", view_services(origin->services, origin->service_count),
			 "events", array);
}

/* ---- why ---- */

/* `own`: of this host itself. */
static json_t *view_prefix(const struct exempt_prefix *prefix, const struct exempt_value *value, bool own,
			   __u64 now)
{
	bool for_good = value->until_ns == NEVER_ENDS_NS;
	char text[PREFIX_TEXT_MAX];

	return json_pack("{s:s, s:b, s:b, s:o, s:o}",
			 "prefix", prefix_to_text(prefix, text),
			 "own", own,
			 "configured", value->configured != 0,
			 "until_ns", for_good ? json_null() : number(value->until_ns),
			 "left_ns", for_good ? json_null() : left_or_null(value->until_ns, now));
}

static bool prefix_covers(const struct exempt_prefix *prefix, const struct peer_address *address)
{
	__u32 whole = prefix->prefix_length / 8, rest = prefix->prefix_length % 8;

	if (prefix->prefix_length > 128 || memcmp(prefix->address, address->bytes, whole))
		return false;
	return !rest || !((prefix->address[whole] ^ address->bytes[whole]) >> (8 - rest));
}

/*
 * The prefixes that cover the address, expired ones left out. *ret_longest: the one of the exempt map
 * that holds; NULL: none does. The hooks look at the longest one only, so when that has expired a shorter one
 * does not hold either.
 */
static json_t *view_covering(const struct view_rules *rules, const struct peer_address *address,
			     const struct exempt_value **ret_longest)
{
	const struct exempt_value for_good = { .until_ns = NEVER_ENDS_NS, .configured = 1 };
	const struct exempt_value *found = NULL;
	json_t *covering = json_array();
	__u32 longest = 0;
	size_t i;

	if (rules->own)
		json_array_append_new(covering, view_prefix(rules->own, &for_good, true, rules->now));

	for (i = 0; i < rules->prefix_count; i++) {
		if (!prefix_covers(&rules->prefixes[i], address))
			continue;
		if (rules->values[i].until_ns > rules->now)
			json_array_append_new(covering, view_prefix(&rules->prefixes[i], &rules->values[i],
								    false, rules->now));
		if (!found || rules->prefixes[i].prefix_length >= longest) {
			found = &rules->values[i];
			longest = rules->prefixes[i].prefix_length;
		}
	}
	*ret_longest = found && found->until_ns > rules->now ? found : NULL;
	return covering;
}

static bool passes(const struct view_rules *rules, const struct decision *decision)
{
	return decision->verdict == VERDICT_ALLOW || rules->mode != MODE_ENFORCE;
}

static json_t *view_decision(const struct view_rules *rules, const struct decision *decision)
{
	enum ending ending = decision->verdict == VERDICT_ALLOW ? ENDING_NONE :
								  failure_of(decision->ending);
	char detail[VIEW_DETAIL_MAX];

	detail_of(decision->cause, ending, decision->attempts, detail);
	return json_pack("{s:s, s:b, s:s, s:s, s:o, s:o, s:o, s:o}",
			 "verdict", names_verdict(decision->verdict),
			 "passes", passes(rules, decision),
			 "cause", names_cause(decision->cause),
			 "sentence", names_cause_text(decision->cause),
			 "ending", ending_or_null(ending),
			 "detail", text_or_null(detail),
			 "until_ns", number_or_null(decision->until_ns),
			 "left_ns", left_or_null(decision->until_ns, rules->now));
}

/* Those of the peer, and what has ended every backoff since it is known. */
static json_t *view_events_of(const struct peer_address *address, const struct peer *peer,
			      const struct guard_event *events, size_t count)
{
	json_t *array = json_array();
	size_t i;

	for (i = 0; i < count; i++)
		if (address_equal(&events[i].address, address) ||
		    (peer && events[i].time_ns >= peer->first_seen_ns &&
		     address_is_nobody(&events[i].address)))
			json_array_append_new(array, view_event(&events[i]));
	return array;
}

json_t *view_explain_peer(const struct view_rules *rules, const struct peer_address *address,
			  const struct peer *peer, const struct guard_event *events, size_t event_count)
{
	/*
	 * A peer that the map does not have is decided as the entry that the hook would make for
	 * it.
	 */
	struct peer blank = { .address = *address };
	const struct peer *asked = peer ? peer : &blank;
	const struct dial question = { .now = rules->now,
				       .mode = rules->mode,
				       .announced_only = rules->announced_only,
				       .asks = rules->asks,
				       .ends_dials = rules->ends_dials };
	const struct knock knock = { .now = rules->now, .asks = rules->asks };
	struct decision dial, answer_to_knock;
	const struct exempt_value *longest;
	const struct slot_census census = peer_census(asked, &rules->policy, 0, rules->now);
	const struct crossing crossing = knock_crosses(asked, rules->now);
	bool loopback = address_is_loopback(address);
	char text[ADDRESS_TEXT_MAX];
	json_t *notes = json_array();
	json_t *covering = view_covering(rules, address, &longest);

	dial = dial_verdict(asked, &rules->policy, &question);
	answer_to_knock = knock_verdict(asked, &rules->policy, &knock);
	if (loopback || rules->own || longest) {
		dial = (struct decision){ .verdict = VERDICT_ALLOW, .cause = CAUSE_dial_exempt };
		answer_to_knock =
			(struct decision){ .verdict = VERDICT_ALLOW, .cause = CAUSE_knock_exempt };
	}

	if (loopback)
		say(notes, "loopback is this host itself, no peer: it is never refused");
	else if (rules->own)
		say(notes, "this is an address of this host, no peer: it is never refused");
	if (rules->mode == MODE_OFF)
		say(notes, "the guard is off: whatever the verdict, everything passes");
	else if (rules->mode == MODE_OBSERVE)
		say(notes, "the guard only observes: what would be refused is counted, and passes");
	if (census.links > peer_limit(asked, &rules->policy))
		say(notes,
		    "this peer has %u links where %u may be: if the service wants them, "
		    "`connguard limit %s %u` or max_links",
		    census.links, peer_limit(asked, &rules->policy), address_to_text(address, text),
		    census.links < PEER_LINKS_MAX ? census.links : PEER_LINKS_MAX);
	if (answer_to_knock.verdict == VERDICT_ALLOW && !rules->own && !longest && crossing.cookie &&
	    !crossing.yielded && rules->policy.tie_break == TIE_BREAK_ISN)
		say(notes,
		    "a dial of ours is under way: a knock that crosses it may be held up to %" PRIu64
		    " ms while the tie-break decides",
		    (uint64_t)(rules->policy.hold_max_ns / NS_PER_MS));

	return json_pack("{s:o, s:o, s:s, s:b, s:b, s:o, s:o, s:o, s:b, s:o, s:o, s:o}",
			 "address", address_text(address),
			 "service", service_or_null(address),
			 "mode", names_mode(rules->mode),
			 "known_to_guard", peer != NULL,
			 "refused", !passes(rules, &dial) || !passes(rules, &answer_to_knock),
			 "dial", view_decision(rules, &dial),
			 "knock", view_decision(rules, &answer_to_knock),
			 "exempt_prefixes", covering,
			 "loopback", loopback,
			 "peer", peer ? view_peer(rules, peer) : json_null(),
			 "events", view_events_of(address, peer, events, event_count),
			 "notes", notes);
}

/* ---- from the pinned maps ---- */

/* The rules of view.h with the arrays that they point to. */
struct loaded_rules {
	struct view_rules rules;
	struct guard_daemon daemon;
	struct exempt_prefix *prefixes;
	struct exempt_value *values;
};

static void loaded_rules_free(struct loaded_rules *loaded)
{
	free(loaded->prefixes);
	free(loaded->values);
}

static int load_rules(const struct guard *guard, const struct view_origin *origin,
		      struct loaded_rules *loaded)
{
	struct view_rules *rules = &loaded->rules;
	int error;

	rules->now = origin->now;
	rules->holders = origin->holders;
	rules->holder_count = origin->holder_count;
	error = guard_mode_read(guard, &rules->mode);
	if (!error)
		error = guard_policy_read(guard, &rules->policy);
	if (!error)
		error = guard_daemon_read(guard, &loaded->daemon);
	if (!error)
		error = guard_exempt_read(guard, &loaded->prefixes, &loaded->values,
					  &rules->prefix_count);
	if (error)
		return error;
	rules->announced_only = rules->policy.dial_policy == DIAL_POLICY_CENTRAL &&
				loaded->daemon.alive_until_ns > origin->now;
	rules->ends_dials = loaded->daemon.alive_until_ns > origin->now;
	rules->asks = rules->ends_dials && loaded->daemon.asks;
	rules->prefixes = loaded->prefixes;
	rules->values = loaded->values;
	return 0;
}

#define cleanup_rules __attribute__((cleanup(loaded_rules_free)))

static int by_address(const void *left, const void *right)
{
	return memcmp(&((const struct peer *)left)->address, &((const struct peer *)right)->address,
		      sizeof(struct peer_address));
}

/* Hand the document out, or say that memory ran out. */
static int deliver(json_t *document, json_t **ret_document)
{
	if (!document)
		return -ENOMEM;
	*ret_document = document;
	return 0;
}

/*
 * The peers that are wanted, by address, in an array of the caller's. -EMSGSIZE: more than one document may list;
 * only so many are kept in memory.
 */
static int collect_peers(const struct guard *guard, const struct view_origin *origin,
			 bool (*wanted)(const struct peer *peer, const void *argument), const void *argument,
			 struct peer **ret_peers, size_t *ret_count)
{
	cleanup_peer_walk struct peer_walk walk = {};
	cleanup_free struct peer *peers = NULL;
	size_t count = 0, capacity = 0, piece_count;
	const struct peer *piece;
	int error = guard_peers_walk(guard, &walk);

	do {
		if (!error)
			error = guard_peers_next(&walk, &piece, &piece_count);
		for (size_t i = 0; !error && i < piece_count; i++) {
			if (!wanted(&piece[i], argument))
				continue;
			if (origin->peers_max && count == origin->peers_max)
				return -EMSGSIZE;
			if (count == capacity) {
				struct peer *larger;

				capacity = 2 * capacity + 64;
				larger = reallocarray(peers, capacity, sizeof(*peers));
				if (!larger)
					return -ENOMEM;
				peers = larger;
			}
			peers[count++] = piece[i];
		}
	} while (!error && piece_count);
	if (error)
		return error;
	if (count)
		qsort(peers, count, sizeof(*peers), by_address);
	*ret_peers = take_pointer(peers);
	*ret_count = count;
	return 0;
}

static bool any_peer(const struct peer *peer, const void *argument)
{
	(void)peer;
	(void)argument;
	return true;
}

int view_peers(const struct guard *guard, const struct view_origin *origin, json_t **ret_document)
{
	cleanup_rules struct loaded_rules loaded = {};
	cleanup_free struct peer *peers = NULL;
	__u16 services[GUARD_PORTS_MAX];
	size_t count = 0, service_count = 0, i;
	json_t *array;
	int error;

	error = load_rules(guard, origin, &loaded);
	if (!error)
		error = guard_services_read(guard, services, GUARD_PORTS_MAX, &service_count);
	if (!error)
		error = collect_peers(guard, origin, any_peer, NULL, &peers, &count);
	if (error)
		return error;
	array = json_array();
	for (i = 0; i < count; i++)
		json_array_append_new(array, view_peer(&loaded.rules, &peers[i]));
	return deliver(json_pack("{s:s, s:s, s:o, s:s, s:o, s:o}", "name", origin->name,
				 "source", source_of(origin), "now_ns", number(origin->now),
				 "mode", names_mode(loaded.rules.mode),
				 "services", view_services(services, service_count), "peers", array),
		       ret_document);
}

struct due_when {
	__u64 now;
	bool announced_only; /* what is not announced yet would be refused */
};

static bool due_peer(const struct peer *peer, const void *argument)
{
	const struct due_when *when = argument;

	return peer_due(peer, when->now) && (peer->due_ns || !when->announced_only);
}

int view_due(const struct guard *guard, const struct view_origin *origin, json_t **ret_document)
{
	struct due_when when = { .now = origin->now };
	cleanup_free struct peer *peers = NULL;
	struct guard_daemon daemon = {};
	__u16 services[GUARD_PORTS_MAX];
	struct guard_policy policy;
	size_t service_count = 0, due = 0, i;
	json_t *array;
	int error;

	error = guard_services_read(guard, services, GUARD_PORTS_MAX, &service_count);
	if (!error)
		error = guard_policy_read(guard, &policy);
	if (!error)
		error = guard_daemon_read(guard, &daemon);
	if (error)
		return error;
	/* Who reads this dials. */
	when.announced_only = policy.dial_policy == DIAL_POLICY_CENTRAL &&
			      daemon.alive_until_ns > origin->now;
	error = collect_peers(guard, origin, due_peer, &when, &peers, &due);
	if (error)
		return error;
	array = json_array();
	for (i = 0; i < due; i++)
		json_array_append_new(array, view_due_peer(&peers[i], origin->now));
	return deliver(json_pack("{s:s, s:s, s:o, s:o, s:o}", "name", origin->name, "source",
				 source_of(origin), "now_ns", number(origin->now), "services",
				 view_services(services, service_count), "due", array),
		       ret_document);
}

/* 1 when the port is one of the guard's. */
static bool port_is_guarded(const struct guard *guard, __u16 port)
{
	__u16 ports[GUARD_PORTS_MAX];
	size_t count = 0;

	if (guard_ports_read(guard, ports, GUARD_PORTS_MAX, &count))
		return false;
	for (size_t i = 0; i < count; i++)
		if (ports[i] == port)
			return true;
	return false;
}

/* Where the peer stands at one service, in short. */
static json_t *view_at_service(const json_t *document)
{
	const json_t *peer = json_object_get(document, "peer");

	return json_pack("{s:O, s:O, s:O, s:s?}", "service", json_object_get(document, "service"),
			 "known_to_guard", json_object_get(document, "known_to_guard"),
			 "refused", json_object_get(document, "refused"),
			 "state", json_string_value(json_object_get(peer, "state")));
}

static bool is_refused(const json_t *document)
{
	return json_is_true(json_object_get(document, "refused"));
}

/* Of two services the one that is asked about: that which refuses, else that which knows the peer. */
static bool says_more(const json_t *document, const json_t *than)
{
	if (!than)
		return true;
	if (is_refused(document) != is_refused(than))
		return is_refused(document);
	return json_is_true(json_object_get(document, "known_to_guard")) &&
	       !json_is_true(json_object_get(than, "known_to_guard"));
}

/* The peer at one of the guard's services, and in short at all of them. */
static int explain_services(const struct guard *guard, const struct loaded_rules *loaded,
			    const struct view_origin *origin, const struct peer_address *address,
			    json_t **ret_document)
{
	__u16 services[GUARD_PORTS_MAX];
	json_t *chosen = NULL, *all;
	size_t count = 0;
	int error = guard_services_read(guard, services, GUARD_PORTS_MAX, &count);

	if (error)
		return error;
	if (address->service && !port_is_guarded(guard, address->service))
		return -ENOENT;
	/* Without a port there is no service, and nothing is refused. */
	if (!count)
		services[count++] = 0;
	all = json_array();
	for (size_t i = 0; !error && i < count; i++) {
		bool wanted = !address->service || !services[i] || services[i] == address->service;
		struct peer_address at = *address;
		json_t *document;
		struct peer peer;
		int found;

		at.service = services[i];
		found = guard_peer_read(guard, &at, &peer);
		if (found && found != -ENOENT) {
			error = found;
			break;
		}
		document = view_explain_peer(&loaded->rules, &at, found ? NULL : &peer,
					     origin->events, origin->event_count);
		if (!document || json_array_append_new(all, view_at_service(document)))
			error = -ENOMEM;
		if (!error && wanted && says_more(document, chosen)) {
			json_decref(chosen);
			chosen = json_incref(document);
		}
		json_decref(document);
	}
	if (!error && (!chosen || json_object_set(chosen, "services", all)))
		error = -ENOMEM;
	json_decref(all);
	if (error)
		json_decref(chosen);
	else
		*ret_document = chosen;
	return error;
}

int view_explain(const struct guard *guard, const struct view_origin *origin,
		 const struct peer_address *address, json_t **ret_document)
{
	cleanup_rules struct loaded_rules loaded = {};
	struct exempt_prefix own;
	json_t *document = NULL;
	int error = load_rules(guard, origin, &loaded);

	if (guard_owns(guard, address, &own))
		loaded.rules.own = &own;
	if (!error)
		error = explain_services(guard, &loaded, origin, address, &document);
	if (error)
		return error;
	if (json_object_set_new(document, "name", json_string(origin->name)) ||
	    json_object_set_new(document, "source", json_string(source_of(origin))) ||
	    json_object_set_new(document, "now_ns", number(origin->now))) {
		json_decref(document);
		document = NULL;
	}
	return deliver(document, ret_document);
}

/* ---- status ---- */

/*
 * What is attached, and a sentence for everything that is not as it should be. `nowhere`: there is no cgroup where
 * anything could be.
 */
static json_t *view_hooks(const struct hook_state hooks[HOOK_COUNT], bool nowhere, json_t *problems,
			  json_t *notes)
{
	json_t *array = json_array();
	int unpinned = 0, i;

	for (i = 0; i < HOOK_COUNT; i++) {
		const char *name = guard_hook_name(i);

		json_array_append_new(array, json_pack("{s:s, s:b, s:b, s:o, s:o}",
						       "name", name,
						       "attached", hooks[i].attached,
						       "pinned", hooks[i].pinned,
						       "program_id", number_or_null(hooks[i].program_id),
						       "foreign", number(hooks[i].foreign)));
		/* Without a cgroup that is said once. */
		if (!hooks[i].attached && !nowhere)
			say(problems, "hook %s: our program is not attached%s", name,
			    i == HOOK_SK_LOOKUP ? ": a knock is dropped where RST would be its answer" : "");
		else if (hooks[i].attached && !hooks[i].pinned)
			unpinned++;
		if (hooks[i].foreign)
			say(notes, "hook %s: %u program(s) of others run beside ours", name,
			    hooks[i].foreign);
	}
	if (unpinned)
		say(notes,
		    "%d hook(s) are attached without a pinned link: they end with the daemon, or with "
		    "anybody's detach",
		    unpinned);
	return array;
}

static json_t *view_features(const bool features[FEATURE_COUNT], json_t *notes)
{
	json_t *array = json_array();
	int i;

	for (i = 0; i < FEATURE_COUNT; i++) {
		json_t *lack = features[i] ? json_null() : json_string(guard_feature_lack(i));

		json_array_append_new(array, json_pack("{s:s, s:b, s:o}",
						       "name", guard_feature_name(i),
						       "available", features[i], "lack", lack));
		if (!features[i])
			say(notes, "this kernel lacks %s: %s", guard_feature_name(i),
			    guard_feature_lack(i));
	}
	return array;
}

static json_t *view_policy(const struct guard_policy *policy)
{
	return json_pack("{s:b, s:i, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:s}",
			 "set", policy->set != 0,
			 "max_links", (int)policy->max_links,
			 "refusal_errno", names_errno(policy->refusal_errno),
			 "reject_style", names_reject_style(policy->reject_style),
			 "tie_break", names_tie_break(policy->tie_break),
			 "dial_policy", names_dial_policy(policy->dial_policy),
			 "netns_cookie", cookie_or_null(policy->netns_cookie),
			 "netns_inode", number_or_null(policy->netns_inode),
			 "backoff_initial_ns", number(policy->backoff_initial_ns),
			 "backoff_max_ns", number(policy->backoff_max_ns),
			 "min_uptime_ns", number(policy->min_uptime_ns),
			 "stable_after_ns", number(policy->stable_after_ns),
			 "hold_max_ns", number(policy->hold_max_ns),
			 "claim_max_ns", number(policy->claim_max_ns),
			 "liveness_ns", number(policy->liveness_ns),
			 "suspect_after_ns", number(policy->suspect_after_ns),
			 "deny_max_ns", number(policy->deny_max_ns),
			 "keep_dials", policy->keep_dials != 0,
			 "adopt", names_adopt(policy->adopt));
}

/* The counters of one book that are not 0, by cause. */
static json_t *view_counters(const struct guard_counters *counters)
{
	json_t *object = json_object();

#define COUNTER_MEMBER(name, subject, verdict, text) \
	if (counters->name) \
		json_object_set_new(object, #name, number(counters->name));
	CONNGUARD_CAUSES(COUNTER_MEMBER)
#undef COUNTER_MEMBER
	return object;
}

/* How many peers are in which state. */
static json_t *view_census(const struct guard *guard, const struct census *census, json_t *problems)
{
	__u32 max = guard_peers_max(guard);
	json_t *object;

	if (census->count >= max)
		say(problems, "the peers map is full (%zu): further peers are allowed without a guard",
		    census->count);
	object = json_pack("{s:o, s:o, s:o}", "count", number(census->count), "max", number(max), "counted_ns",
			   census->partial ? json_null() : number(census->taken_ns));
	for (int state = 0; state < CENSUS_STATES; state++)
		json_object_set_new(object, census_state_name(state), number(census->in_state[state]));
	return object;
}

/*
 * Does the daemon that this guard once had still answer? A guard loaded without one is complete
 * without one.
 */
static json_t *view_daemon(const struct guard_daemon *daemon, const struct view_origin *origin,
			   json_t *problems, json_t *notes)
{
	bool alive = daemon->alive_until_ns > origin->now;

	if (!origin->daemon && daemon->process_id)
		say(problems,
		    "the daemon (process %u) does not answer: the kernel side goes on by itself, "
		    "but nothing is scheduled, checked or repaired",
		    daemon->process_id);
	else if (!origin->daemon)
		say(notes, "no daemon: nothing is scheduled, checked or repaired");
	return json_pack("{s:b, s:b, s:o}", "running", origin->daemon, "alive", alive,
			 "process_id", number_or_null(daemon->process_id));
}

/* What the daemon has left of root's powers. */
static json_t *view_confinement(const struct confinement *confinement, json_t *notes)
{
	char names[CONFINE_NAMES_MAX], *rest = names, *name;
	bool keeps_bpf = false, keeps_admin = false;
	json_t *capabilities;

	if (!confinement)
		return json_null();
	capabilities = json_array();
	snprintf(names, sizeof(names), "%s", confinement->capabilities);
	while ((name = strsep(&rest, " "))) {
		if (*name)
			json_array_append_new(capabilities, json_string(name));
		keeps_bpf |= !strcmp(name, "bpf");
		keeps_admin |= !strcmp(name, "sys_admin");
	}
	/* include/linux/capability.h: bpf_capable() and perfmon_capable() are content with CAP_SYS_ADMIN. */
	if (keeps_admin && !confinement->calls_limited)
		say(notes, "the daemon keeps sys_admin, which the kernel takes for bpf and perfmon as well: whoever took "
			   "it over could load programs and trace");
	else if (keeps_bpf && !confinement->calls_limited)
		say(notes, "the daemon keeps bpf: whoever took it over could load programs");
	if (!confinement->bounded)
		say(notes, "the daemon's bounding set has more capabilities than it keeps: it was started without setpcap");
	if (!confinement->calls_limited)
		say(notes, "the daemon's system calls are not limited: %s", confinement->calls_open);
	if (!confinement->landlock_version)
		say(notes, "the daemon's access to files is not limited: %s", confinement->files_open);
	return json_pack("{s:o, s:b, s:o, s:b}", "capabilities", capabilities, "bounded", confinement->bounded,
			 "landlock", number_or_null(confinement->landlock_version), "seccomp",
			 confinement->calls_limited);
}

/* Is the mode an operator's, and not the configuration's? */
static bool mode_decided(const struct view_rules *rules)
{
	return rules->policy.set && rules->mode != rules->policy.configured_mode;
}

/* What is known of who has decided on the mode, and when; NULL: nothing. */
static const struct state_entry *mode_entry(const struct view_rules *rules, const struct view_origin *origin)
{
	const struct exempt_prefix none = STATE_NO_PREFIX;
	const struct state_entry *entry = NULL;

	if (mode_decided(rules) && origin->state)
		entry = state_find(origin->state, STATE_MODE, &none);
	return entry && entry->value == rules->mode ? entry : NULL;
}

static json_t *view_decided(const struct view_rules *rules, const struct view_origin *origin)
{
	const struct state_entry *entry = mode_entry(rules, origin);
	size_t limits = 0, allowed = 0;

	for (size_t i = 0; origin->state && i < origin->state->count; i++) {
		limits += origin->state->entries[i].kind == STATE_LIMIT;
		allowed += origin->state->entries[i].kind == STATE_ALLOW_PEER ||
			   origin->state->entries[i].kind == STATE_ALLOW_PREFIX;
	}
	return json_pack("{s:o, s:o, s:o}",
			 "mode",
			 mode_decided(rules) ? json_pack("{s:s, s:o, s:o}", "mode", names_mode(rules->mode),
							 "since", number_or_null(entry ? entry->since : 0),
							 "by", text_or_null(entry ? entry->by : "")) :
					       json_null(),
			 "limits", origin->state ? number(limits) : json_null(),
			 "allowed", origin->state ? number(allowed) : json_null());
}

static void say_decided(const struct view_rules *rules, const struct view_origin *origin, json_t *notes)
{
	const struct state_entry *entry = mode_entry(rules, origin);
	char since[STATE_TIME_TEXT_MAX];

	if (!mode_decided(rules))
		return;
	say(notes, "the mode is an operator's decision%s%s%s%s: it stays so, through a stop and a start, until "
		   "`connguard resume%s`", entry && *entry->by ? ", by " : "", entry ? entry->by : "",
	    entry && entry->since ? ", since " : "",
	    entry && entry->since ? state_time_text(entry->since, since) : "",
	    rules->policy.configured_mode == MODE_OBSERVE ? " --observe" : "");
}

static void say_mode(const struct loaded_rules *loaded, json_t *notes)
{
	if (loaded->rules.mode == MODE_OFF)
		say(notes, "the mode is off: nothing is refused");
	else if (loaded->rules.mode == MODE_OBSERVE)
		say(notes, "the mode is observe: what would be refused is counted, and passes; nothing is "
			   "asked and nothing destroyed");
	if (loaded->rules.policy.dial_policy == DIAL_POLICY_CENTRAL && !loaded->rules.announced_only)
		say(notes, "the dial policy is central, but nobody announces: shared holds meanwhile");
}

static void say_untracked(const struct guard_counters *counters, json_t *notes)
{
	if (counters->dial_unheld || counters->link_unheld)
		say(notes,
		    "%" PRIu64 " dial(s) and %" PRIu64
		    " link(s) were allowed without a guard, for lack of a slot, of room or of memory",
		    (uint64_t)counters->dial_unheld, (uint64_t)counters->link_unheld);
	if (counters->events_lost)
		say(notes, "%" PRIu64 " event(s) were lost: the ring was full",
		    (uint64_t)counters->events_lost);
}

static void say_strange(const struct view_origin *origin, json_t *notes)
{
	for (size_t i = 0; i < origin->strange_port_count; i++)
		say(notes,
		    "somebody listens on port %u with a socket made outside the guard's cgroup "
		    "(socket activation, another service): what it accepts is not guarded",
		    origin->strange_ports[i]);
}

static json_t *view_overlaps(const struct overlap *overlaps, size_t count, json_t *notes)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++) {
		char ports_text[OVERLAP_PORTS_TEXT_MAX], cgroup[512];
		json_t *ports = json_array();

		for (size_t j = 0; j < overlaps[i].port_count; j++)
			json_array_append_new(ports, json_integer(overlaps[i].ports[j]));
		snprintf(cgroup, sizeof(cgroup), "%s", overlaps[i].cgroup);
		json_array_append_new(array, json_pack("{s:s, s:s, s:o}", "guard", overlaps[i].name, "cgroup",
						       text_make_printable(cgroup), "ports", ports));
		say(notes,
		    "guard '%s' guards port(s) %s too, for cgroup %.160s: both decide about the same sockets; let each "
		    "have ports or a cgroup of its own",
		    overlaps[i].name, overlap_ports_text(&overlaps[i], ports_text), cgroup);
	}
	return array;
}

/* The root of the hierarchy: the first node of its file system (fs/kernfs/dir.c, kernfs_create_root()). */
#define ROOT_CGROUP_ID 1

static void say_whole_host(const struct guard *guard, json_t *notes)
{
	__u64 id;

	if (!guard_cgroup_id(guard, &id) && id == ROOT_CGROUP_ID)
		say(notes, "the whole host is guarded: whatever any user of it dials on a guarded port counts as "
			   "the service's own dial; name the service's cgroup");
}

/* Links that were there before the guard, and more than their peer may have. */
static void say_surplus(const struct census *census, const struct loaded_rules *loaded,
			const struct view_origin *origin, json_t *notes)
{
	bool trims = loaded->rules.policy.adopt == ADOPT_TRIM;
	char text[ADDRESS_TEXT_MAX];

	if (!census->surplus)
		return;
	address_to_text(&census->surplus_peer, text);
	say(notes,
	    "%zu peer(s) have more links than they may, older than the guard: %s has %u where %u may be. %s",
	    census->surplus, text, census->surplus_links, census->surplus_limit,
	    !trims				   ? "They stay (adopt = keep)" :
	    loaded->rules.mode == MODE_OBSERVE ? "Those too many would be ended (adopt = trim)" :
	    loaded->rules.mode != MODE_ENFORCE || !origin->daemon ? "They stay for now (adopt = trim)" :
				 "Of those that show life the ones too many are ended (adopt = trim)");
}

/* What to know before enforcing, beside the habits. */
static void say_before_enforcing(const struct census *census, size_t port_count, size_t service_count,
				 json_t *notes)
{
	char text[ADDRESS_TEXT_MAX];

	/* Of these no further link can be tracked. */
	if (census->full)
		say(notes,
		    "%zu peer(s), %s among them, have %d links, which is all that is tracked of one peer: "
		    "further ones are not seen, and max_links is at most %d",
		    census->full, address_to_text(&census->full_peer, text), PEER_SLOTS, PEER_LINKS_MAX);
	if (port_count > 1 && service_count > 1)
		say(notes,
		    "%zu ports are guarded, each as a service of its own: a link at one is no duplicate of a "
		    "link at another; share_limit = yes lets them share",
		    port_count);
}

/* Links that end young without a fault, perhaps: what the rules make of that. */
static json_t *view_short_links(const struct habit *habit, const struct guard_policy *policy,
				json_t *notes)
{
	char min_uptime[CLOCK_DURATION_TEXT_MAX];

	if (habit->kind != HABIT_SHORT_LINKS)
		return json_null();
	clock_duration_format(policy->min_uptime_ns, min_uptime);
	if (habit->by_peer)
		say(notes,
		    "%u of %u links ended within min_uptime (%s), %u of them by the peer without a byte: if the "
		    "service's links are short by design, set min_uptime = 0s before enforcing, or two in a row "
		    "of one peer begin a backoff",
		    habit->shown, habit->seen, min_uptime, habit->by_peer);
	else
		say(notes,
		    "%u of %u links ended within min_uptime (%s), closed by us: if the service's links are "
		    "short by design, that is no failure, and nothing has to be set",
		    habit->shown, habit->seen, min_uptime);
	return json_pack("{s:o, s:o, s:o}", "shown", number(habit->shown), "seen", number(habit->seen),
			 "by_peer", number(habit->by_peer));
}

/* What the service seems to want and may not have: what to set, and why. */
static json_t *view_habit(const struct habit *habit, json_t *notes)
{
	static const char *const kinds[] = { [HABIT_SEVERAL_LINKS] = "several_links",
					     [HABIT_DIAL_BACK] = "dial_back" };

	switch (habit->kind) {
	case HABIT_NONE:
	case HABIT_SHORT_LINKS:
		return json_null();
	case HABIT_SEVERAL_LINKS:
		if (habit->shown == 1)
			say(notes,
			    "the one linked peer keeps %u links, of both directions: if the service wants that, "
			    "set max_links = %u before enforcing; if not, they are what is refused then",
			    habit->max_links, habit->max_links);
		else
			say(notes,
			    "%u of %u linked peers keep more links than they may have, up to %u: "
			    "if the service wants that, set max_links = %u before enforcing",
			    habit->shown, habit->seen, habit->max_links, habit->max_links);
		break;
	case HABIT_DIAL_BACK:
		say(notes,
		    "%u of %u links were followed by a short one in the other direction, as of a service "
		    "that dials back to test whether a peer can be reached: if it is one, set "
		    "max_links = %u before enforcing",
		    habit->shown, habit->seen, habit->max_links);
		break;
	}
	return json_pack("{s:s, s:o, s:o, s:o}", "kind", kinds[habit->kind],
			 "max_links", number(habit->max_links),
			 "shown", number(habit->shown), "seen", number(habit->seen));
}

/* Over the whole map, or as much of it as one answer may count. */
static int take_census(const struct guard *guard, const struct guard_policy *policy,
		       const struct view_origin *origin, struct census *ret_census)
{
	cleanup_peer_walk struct peer_walk walk = {};
	struct census census = { .taken_ns = origin->now };
	const struct peer *peers;
	size_t count;
	int error = guard_peers_walk(guard, &walk);

	do {
		if (!error)
			error = guard_peers_next(&walk, &peers, &count);
		for (size_t i = 0; !error && i < count; i++)
			census_count(&census, &peers[i], policy);
		census.partial = origin->counted_max && census.count > origin->counted_max;
	} while (!error && count && !census.partial);
	*ret_census = census;
	return error;
}

int view_status(const struct guard *guard, const struct view_origin *origin, json_t **ret_document)
{
	cleanup_rules struct loaded_rules loaded = {};
	struct guard_counters counters[COUNTERS_COUNT];
	struct hook_state hooks[HOOK_COUNT] = {};
	bool features[FEATURE_COUNT] = {};
	__u16 port_list[GUARD_PORTS_MAX], services[GUARD_PORTS_MAX];
	cleanup_free char *cgroup = NULL, *waits_for = origin->waits_for ? strdup(origin->waits_for) : NULL;
	json_t *problems, *notes, *ports, *prefixes, *document;
	size_t port_count = 0, service_count = 0, i;
	const struct overlap *overlaps = origin->overlaps;
	struct overlap *found = NULL;
	size_t overlap_count = origin->overlap_count;
	struct habit habit, short_links = {};
	struct census census;
	int error, removed = 0;
	bool nowhere;
	__u64 lost, cgroup_id;
	size_t own_count = 0;

	error = load_rules(guard, origin, &loaded);
	for (i = 0; !error && i < COUNTERS_COUNT; i++)
		error = guard_counters_read(guard, i, &counters[i]);
	if (!error)
		removed = guard_hooks(guard, hooks);
	if (!error && removed != -ENOENT)
		error = removed;
	if (!error)
		error = guard_ports_read(guard, port_list, GUARD_PORTS_MAX, &port_count);
	if (!error)
		error = guard_services_read(guard, services, GUARD_PORTS_MAX, &service_count);
	if (!error)
		error = origin->own_count ? 0 : guard_own_count(guard, &own_count);
	if (!error)
		error = origin->census ? 0 :
					 take_census(guard, &loaded.rules.policy, origin, &census);
	if (error)
		return error;
	if (origin->census)
		census = *origin->census;
	if (origin->own_count)
		own_count = *origin->own_count;
	if (origin->features)
		memcpy(features, origin->features, sizeof(features));
	else
		guard_probe(features);
	/* Who has no daemon to ask looks himself; what cannot be read overlaps with nobody. */
	if (!origin->daemon && !overlaps_find(guard, origin->name, &found, &overlap_count))
		overlaps = found;
	lost = counters[COUNTERS_ENFORCED].events_lost + counters[COUNTERS_OBSERVED].events_lost;

	problems = json_array();
	notes = json_array();
	ports = json_array();
	prefixes = json_array();
	for (i = 0; i < port_count; i++)
		json_array_append_new(ports, json_integer(port_list[i]));
	if (!port_count)
		say(problems, "no port is guarded");
	for (i = 0; i < loaded.rules.prefix_count; i++)
		if (loaded.values[i].until_ns > origin->now)
			json_array_append_new(prefixes, view_prefix(&loaded.prefixes[i], &loaded.values[i],
								    false, origin->now));
	for (i = 0; i < origin->problem_count; i++)
		say(problems, "%s", origin->problems[i]);
	/* A guard that was removed has its hooks detached, which says it to who has no daemon to ask. */
	nowhere = !removed && guard_cgroup(guard, &cgroup) == -ENOENT;
	if (nowhere && !guard_cgroup_id(guard, &cgroup_id) && cgroup_id)
		say(problems, "the guarded cgroup is gone: nothing is guarded%s",
		    origin->daemon ? " until it is made again" : "");
	else if (nowhere && !origin->daemon)
		say(problems, "the cgroup to be guarded was not there yet: nothing is guarded");
	say_mode(&loaded, notes);
	say_decided(&loaded.rules, origin, notes);
	say_untracked(&counters[COUNTERS_ENFORCED], notes);
	say_strange(origin, notes);
	say_whole_host(guard, notes);
	say_surplus(&census, &loaded, origin, notes);
	habit = habit_of_peers(&census.habit);
	if (habit.kind == HABIT_NONE)
		habit = habit_of_events(origin->events, origin->event_count, &loaded.rules.policy,
					origin->now);
	if (loaded.rules.mode == MODE_OBSERVE) {
		short_links = habit_of_ends(origin->events, origin->event_count, &loaded.rules.policy,
					    origin->now);
		say_before_enforcing(&census, port_count, service_count, notes);
	}

	document = json_pack("{s:s, s:b, s:s, s:o, s:i, s:s?, s:s?, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
			     "s:o, s:{s:o, s:o}, s:o, s:o, s:o, s:o, s:{s:o, s:o}, s:o}",
			     "name", origin->name,
			     "healthy", false,
			     "source", source_of(origin),
			     "now_ns", number(origin->now),
			     "layout", (int)CONNGUARD_LAYOUT,
			     "cgroup", cgroup ? text_make_printable(cgroup) : NULL,
			     "waits_for", waits_for ? text_make_printable(waits_for) : NULL,
			     "mode", names_mode(loaded.rules.mode),
			     "ports", ports,
			     "services", view_services(services, service_count),
			     "daemon", view_daemon(&loaded.daemon, origin, problems, notes),
			     "confinement", view_confinement(origin->confinement, notes),
			     "hooks", view_hooks(hooks, nowhere, problems, notes),
			     "features", view_features(features, notes),
			     "policy", view_policy(&loaded.rules.policy),
			     "peers", view_census(guard, &census, problems),
			     "exempt_prefixes", prefixes,
			     "own",
			     "count", number(own_count),
			     "max", number(guard_own_max(guard)),
			     "overlaps", view_overlaps(overlaps, overlap_count, notes),
			     "decided", view_decided(&loaded.rules, origin),
			     "habit", view_habit(&habit, notes),
			     "short_links",
			     view_short_links(&short_links, &loaded.rules.policy, notes),
			     "counters",
			     "enforced", view_counters(&counters[COUNTERS_ENFORCED]),
			     "observed", view_counters(&counters[COUNTERS_OBSERVED]),
			     "events_lost", number(lost));
	if (document && json_array_size(problems) == 0)
		json_object_set_new(document, "healthy", json_true());
	if (!document || json_object_set(document, "problems", problems) ||
	    json_object_set(document, "notes", notes)) {
		json_decref(document);
		document = NULL;
	}
	json_decref(problems);
	json_decref(notes);
	overlaps_free(found, found ? overlap_count : 0);
	return deliver(document, ret_document);
}
