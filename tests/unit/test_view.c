/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of the documents that are made from values: what a peer, an event and an explanation say in
 * JSON.
 *
 * The documents made from pinned maps take these apart no further; they are tested on a loaded
 * guard.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <connguard/rules.h>

#include "edge/view.h"
#include "pure/address_text.h"

#define NOW (1000 * NS_PER_SECOND)

/* ---- values to make documents from ---- */

static struct peer peer_at(const char *address)
{
	struct peer peer = { .first_seen_ns = NOW - 100 * NS_PER_SECOND };

	assert_int_equal(address_from_text(address, &peer.address), 0);
	return peer;
}

static struct view_rules enforcing(void)
{
	return (struct view_rules){ .now = NOW, .mode = MODE_ENFORCE, .policy = policy_defaults() };
}

static struct slot link_slot(__u64 cookie, enum link_direction direction)
{
	return (struct slot){ .cookie = cookie,
			      .kind = SLOT_LINK,
			      .direction = direction,
			      .since_ns = NOW - 7 * NS_PER_SECOND,
			      .heard_ns = NOW - NS_PER_SECOND / 2,
			      .local_port = 24000,
			      .remote_port = 50123 };
}

static struct slot claim_slot(__u64 cookie, __u64 expires_ns)
{
	return (struct slot){ .cookie = cookie,
			      .kind = SLOT_CLAIM,
			      .direction = DIRECTION_OUTBOUND,
			      .since_ns = NOW - NS_PER_SECOND,
			      .expires_ns = expires_ns,
			      .process_id = 42,
			      .thread_id = 43,
			      .command = "racer" };
}

/* ---- what a document must say ---- */

static void says_text(const json_t *object, const char *member, const char *expected)
{
	const char *text = json_string_value(json_object_get(object, member));

	if (!text || strcmp(text, expected))
		fail_msg("\"%s\" is %s, expected %s", member, text ? text : "no text", expected);
}

static void says_number(const json_t *object, const char *member, __u64 expected)
{
	const json_t *value = json_object_get(object, member);

	if (!json_is_integer(value) || (__u64)json_integer_value(value) != expected)
		fail_msg("\"%s\" is %lld, expected %llu", member,
			 (long long)json_integer_value(value), (unsigned long long)expected);
}

static void says_bool(const json_t *object, const char *member, bool expected)
{
	const json_t *value = json_object_get(object, member);

	if (!json_is_boolean(value) || json_is_true(value) != expected)
		fail_msg("\"%s\" is not %s", member, expected ? "true" : "false");
}

static void says_null(const json_t *object, const char *member)
{
	const json_t *value = json_object_get(object, member);

	if (!value || !json_is_null(value))
		fail_msg("\"%s\" is not null", member);
}

static const json_t *element(const json_t *object, const char *member, size_t index, size_t count)
{
	const json_t *array = json_object_get(object, member);

	assert_true(json_is_array(array));
	assert_int_equal(json_array_size(array), count);
	return count ? json_array_get(array, index) : NULL;
}

/* The members that view.h describes, all of them and no others. */
static void has_members(const json_t *object, const char *members)
{
	char text[640], *rest = text, *name;
	size_t count = 0;

	snprintf(text, sizeof(text), "%s", members);
	while ((name = strsep(&rest, " "))) {
		if (!json_object_get(object, name))
			fail_msg("\"%s\" is missing", name);
		count++;
	}
	if (json_object_size(object) != count)
		fail_msg("%zu members, %zu are described: %s", json_object_size(object), count, members);
}

#define PEER_MEMBERS                                                                               \
	"address service state known dialed due limit own_limit decided_limit named_limit links claims attempts "            \
	"next_attempt_ns backoff_left_ns failure failure_sentence failed_ns announced_ns exempt "  \
	"first_seen_ns last_active_ns refused_dials refused_knocks last_refusal"
#define SLOT_MEMBERS                                                                               \
	"kind direction cookie since_ns age_ns local_port remote_port process_id thread_id "       \
	"command sent syns adopted surplus doomed kept given_up answered unanswered life life_sentence "   \
	"life_until_ns expires_ns heard_ns silent_ns doubted_ns stalled_ns"
#define EVENT_MEMBERS                                                                              \
	"time_ns address service cause sentence outcome detail subject verdict direction "         \
	"enforced attempts ending until_ns cookie other_cookie process_id thread_id command "      \
	"local_port remote_port"
#define EXPLAIN_MEMBERS                                                                            \
	"address service mode known_to_guard refused dial knock exempt_prefixes loopback peer "    \
	"events notes"
#define DECISION_MEMBERS "verdict passes cause sentence ending detail until_ns left_ns"

static void documents_have_the_members_that_are_described(void **state)
{
	struct exempt_prefix prefix;
	struct exempt_value value = { .until_ns = NEVER_ENDS_NS };
	struct guard_event event = { .time_ns = 1, .cause = CAUSE_dial_idle };
	struct view_origin origin = { .name = "test", .events = &event, .event_count = 1 };
	struct view_rules rules = enforcing();
	struct peer peer = peer_at("192.0.2.7");
	json_t *document;

	(void)state;
	assert_int_equal(prefix_from_text("192.0.2.0/24", &prefix, NULL), 0);
	rules.prefixes = &prefix;
	rules.values = &value;
	rules.prefix_count = 1;
	event.address = peer.address;
	peer.slots[0] = link_slot(9, DIRECTION_INBOUND);
	peer.slots[1] = claim_slot(5, NOW + NS_PER_SECOND);
	peer.exempt_until_ns = NEVER_ENDS_NS;
	peer.last_refusal_ns = 1;
	document = view_explain_peer(&rules, &peer.address, &peer, &event, 1);
	has_members(document, EXPLAIN_MEMBERS);
	has_members(json_object_get(document, "dial"), DECISION_MEMBERS);
	has_members(json_object_get(document, "knock"), DECISION_MEMBERS);
	has_members(element(document, "exempt_prefixes", 0, 1), "prefix own configured until_ns left_ns");
	has_members(element(document, "events", 0, 1), EVENT_MEMBERS);
	has_members(json_object_get(document, "peer"), PEER_MEMBERS);
	has_members(element(json_object_get(document, "peer"), "links", 0, 1), SLOT_MEMBERS);
	has_members(element(json_object_get(document, "peer"), "claims", 0, 1), SLOT_MEMBERS);
	has_members(json_object_get(json_object_get(document, "peer"), "exempt"), "until_ns left_ns");
	has_members(json_object_get(json_object_get(document, "peer"), "last_refusal"),
		    "cause sentence time_ns age_ns");
	json_decref(document);
	document = view_due_peer(&peer, NOW);
	has_members(document, "address service now_ns known attempts last_active_ns");
	json_decref(document);
	document = view_events(&origin);
	has_members(document, "name source now_ns services events");
	json_decref(document);
}

/* ---- peers ---- */

static void idle_peer(void **state)
{
	struct view_rules rules = enforcing();
	struct peer peer = peer_at("192.0.2.7");
	json_t *document = view_peer(&rules, &peer);

	(void)state;
	assert_non_null(document);
	says_text(document, "address", "192.0.2.7");
	says_text(document, "state", "idle");
	says_number(document, "limit", 1);
	says_null(document, "own_limit");
	says_number(document, "attempts", 0);
	says_null(document, "next_attempt_ns");
	says_null(document, "backoff_left_ns");
	says_null(document, "exempt");
	says_null(document, "last_refusal");
	says_null(document, "announced_ns");
	says_bool(document, "known", false);
	/* Nobody dialed it and nobody named it: there is no port to dial. */
	says_bool(document, "due", false);
	element(document, "links", 0, 0);
	element(document, "claims", 0, 0);
	json_decref(document);

	peer.flags = PEER_KNOWN;
	peer.limit = 3;
	document = view_peer(&rules, &peer);
	says_bool(document, "known", true);
	says_bool(document, "due", true);
	says_number(document, "limit", 3);
	says_number(document, "own_limit", 3);
	says_number(document, "decided_limit", 3);
	says_null(document, "named_limit");
	json_decref(document);

	/* A command counts more than the file, and the file where there is none. */
	peer.named_limit = 2;
	document = view_peer(&rules, &peer);
	says_number(document, "limit", 3);
	says_number(document, "named_limit", 2);
	json_decref(document);
	peer.limit = 0;
	document = view_peer(&rules, &peer);
	says_number(document, "limit", 2);
	says_number(document, "own_limit", 2);
	says_null(document, "decided_limit");
	json_decref(document);
}

static void linked_peer(void **state)
{
	const struct socket_holder holders[] = {
		{ .cookie = 8, .process_id = 800, .command = "other" },
		{ .cookie = 9, .process_id = 900, .command = "timed" },
	};
	struct view_rules rules = enforcing();
	struct peer peer = peer_at("2001:db8::7");
	const json_t *link;
	json_t *document;

	(void)state;
	peer.slots[5] = link_slot(9, DIRECTION_INBOUND);
	document = view_peer(&rules, &peer);
	says_text(document, "state", "linked");
	link = element(document, "links", 0, 1);
	says_text(link, "kind", "link");
	says_text(link, "direction", "inbound");
	says_number(link, "cookie", 9);
	says_number(link, "since_ns", NOW - 7 * NS_PER_SECOND);
	says_number(link, "age_ns", 7 * NS_PER_SECOND);
	says_number(link, "local_port", 24000);
	says_number(link, "remote_port", 50123);
	says_bool(link, "adopted", false);
	says_bool(link, "doomed", false);
	/* No hook saw who opened it, and nobody looked. */
	says_null(link, "process_id");
	says_null(link, "command");
	says_null(link, "expires_ns");
	says_null(document, "service");
	json_decref(document);

	peer.address.service = 24000;
	rules.holders = holders;
	rules.holder_count = 2;
	peer.slots[5].flags = SLOT_ADOPTED;
	document = view_peer(&rules, &peer);
	link = element(document, "links", 0, 1);
	says_number(link, "process_id", 900);
	says_text(link, "command", "timed");
	says_bool(link, "adopted", true);
	says_number(document, "service", 24000);
	json_decref(document);

	/* Who dialed is known better than who holds the socket now. */
	peer.slots[5].process_id = 42;
	memcpy(peer.slots[5].command, "racer", 6);
	document = view_peer(&rules, &peer);
	link = element(document, "links", 0, 1);
	says_number(link, "process_id", 42);
	says_text(link, "command", "racer");
	json_decref(document);
}

static void link_life(const struct view_rules *rules, const struct slot *slot, const char *life,
		      const char *sentence, __u64 until_ns)
{
	struct peer peer = peer_at("192.0.2.7");
	const json_t *link;
	json_t *document;

	peer.slots[0] = *slot;
	document = view_peer(rules, &peer);
	link = element(document, "links", 0, 1);
	says_text(link, "life", life);
	says_text(link, "life_sentence", sentence);
	if (until_ns)
		says_number(link, "life_until_ns", until_ns);
	else
		says_null(link, "life_until_ns");
	json_decref(document);
}

/* Quiet, being asked, for so long at most: and not a refusal for as long as the doubt may last. */
static void what_is_known_of_a_links_life(void **state)
{
	struct slot slot = link_slot(9, DIRECTION_INBOUND);
	struct view_rules rules = enforcing();
	__u64 second = NS_PER_SECOND, deny_max = rules.policy.deny_max_ns;

	(void)state;
	rules.asks = true;
	link_life(&rules, &slot, "alive", "it shows life", 0);
	slot.heard_ns = NOW - 4 * second;
	link_life(&rules, &slot, "quiet", "quiet, will be asked when its peer knocks", 0);
	slot.doubted_ns = NOW - second;
	link_life(&rules, &slot, "asked", "quiet, being asked", NOW + 2 * second);
	slot.doubted_ns = NOW - ASK_MAX_NS;
	link_life(&rules, &slot, "unanswered", "quiet, was asked in vain: a new one may take its place",
		  0);
	slot.doubted_ns = NOW - second;
	slot.flags = SLOT_UNANSWERED;
	link_life(&rules, &slot, "unanswered", "quiet, was asked in vain: a new one may take its place",
		  0);
	/* Heard from since: it was wrong to doubt. */
	slot.heard_ns = NOW - second / 2;
	link_life(&rules, &slot, "alive", "it shows life", 0);
	slot.flags = SLOT_UNANSWERED | SLOT_STRANDED;
	link_life(&rules, &slot, "stranded",
		  "its own address is not this host's any more: a new one may take its place", 0);

	/* Observe mode asks nobody, and says when it would. */
	rules.mode = MODE_OBSERVE;
	slot = link_slot(9, DIRECTION_INBOUND);
	slot.heard_ns = NOW - 4 * second;
	link_life(&rules, &slot, "quiet", "quiet, would be asked when its peer knocks", 0);
	slot.doubted_ns = NOW - second;
	link_life(&rules, &slot, "doubted", "quiet, would be asked", NOW + 2 * second);

	/* Nobody is there to ask. */
	rules.mode = MODE_ENFORCE;
	rules.asks = false;
	link_life(&rules, &slot, "doubted", "quiet, keeps its peer waiting", NOW - second + deny_max);
	slot.doubted_ns = NOW - deny_max;
	link_life(&rules, &slot, "unanswered", "quiet for too long: a new one may take its place", 0);
	slot.doubted_ns = 0;
	link_life(&rules, &slot, "quiet", "quiet, and nobody asks it", 0);
}

static void dialing_peer(void **state)
{
	struct view_rules rules = enforcing();
	struct peer peer = peer_at("192.0.2.7");
	const json_t *claim;
	json_t *document;

	(void)state;
	peer.slots[0] = claim_slot(5, NOW + NS_PER_SECOND);
	document = view_peer(&rules, &peer);
	says_text(document, "state", "dialing");
	element(document, "links", 0, 0);
	claim = element(document, "claims", 0, 1);
	says_text(claim, "kind", "claim");
	says_text(claim, "direction", "outbound");
	says_number(claim, "process_id", 42);
	says_number(claim, "thread_id", 43);
	says_number(claim, "expires_ns", NOW + NS_PER_SECOND);
	says_bool(claim, "sent", false);
	says_number(claim, "syns", 0);
	says_bool(claim, "kept", false);
	says_bool(claim, "given_up", false);
	says_bool(claim, "answered", false);
	says_null(claim, "life");
	says_null(claim, "life_sentence");
	says_null(claim, "local_port");
	json_decref(document);

	peer.slots[0].flags = SLOT_SENT | SLOT_KEPT;
	peer.slots[1] = claim_slot(6, NOW + NS_PER_SECOND);
	peer.slots[1].flags = SLOT_SENT | SLOT_GIVEN_UP | SLOT_ANSWERED;
	peer.slots[1].syns = 2;
	document = view_peer(&rules, &peer);
	claim = element(document, "claims", 0, 2);
	says_bool(claim, "sent", true);
	says_bool(claim, "kept", true);
	says_bool(claim, "given_up", false);
	claim = element(document, "claims", 1, 2);
	says_bool(claim, "kept", false);
	says_bool(claim, "given_up", true);
	says_bool(claim, "answered", true);
	says_number(claim, "syns", 2);
	json_decref(document);
	peer.slots[1].kind = SLOT_FREE;

	/*
	 * A claim that has expired holds nothing back: the rules do not see it, so neither does the
	 * reader.
	 */
	peer.slots[0].expires_ns = NOW;
	document = view_peer(&rules, &peer);
	says_text(document, "state", "idle");
	element(document, "claims", 0, 0);
	json_decref(document);
}

static void backing_off_peer(void **state)
{
	struct view_rules rules = enforcing();
	struct peer peer = peer_at("192.0.2.7");
	const json_t *refusal;
	json_t *document;

	(void)state;
	peer.attempts = 3;
	peer.next_attempt_ns = NOW + 12 * NS_PER_SECOND;
	peer.failure = ENDING_SILENCE;
	peer.failed_ns = NOW - NS_PER_SECOND;
	peer.refused_dials = 17;
	peer.refused_knocks = 2;
	peer.last_refusal_ns = NOW - 4 * NS_PER_SECOND;
	peer.last_refusal_cause = CAUSE_dial_backoff;
	document = view_peer(&rules, &peer);
	says_text(document, "state", "backoff");
	says_number(document, "attempts", 3);
	says_number(document, "next_attempt_ns", NOW + 12 * NS_PER_SECOND);
	says_number(document, "backoff_left_ns", 12 * NS_PER_SECOND);
	says_text(document, "failure", "silence");
	says_text(document, "failure_sentence", "no answer");
	says_number(document, "failed_ns", NOW - NS_PER_SECOND);
	says_number(document, "refused_dials", 17);
	says_number(document, "refused_knocks", 2);
	refusal = json_object_get(document, "last_refusal");
	says_text(refusal, "cause", "dial_backoff");
	says_text(refusal, "sentence", "the peer is in backoff");
	says_number(refusal, "age_ns", 4 * NS_PER_SECOND);
	json_decref(document);

	/* A deadline that has passed is none. */
	peer.next_attempt_ns = NOW;
	document = view_peer(&rules, &peer);
	says_text(document, "state", "idle");
	says_null(document, "next_attempt_ns");
	says_null(document, "failure");
	says_null(document, "failure_sentence");
	says_null(document, "failed_ns");
	says_number(document, "attempts", 3);
	json_decref(document);
}

static void exempt_peer(void **state)
{
	struct view_rules rules = enforcing();
	struct peer peer = peer_at("192.0.2.7");
	json_t *document;

	(void)state;
	peer.exempt_until_ns = NOW + NS_PER_SECOND;
	document = view_peer(&rules, &peer);
	says_text(document, "state", "exempt");
	says_number(json_object_get(document, "exempt"), "left_ns", NS_PER_SECOND);
	json_decref(document);

	peer.exempt_until_ns = NEVER_ENDS_NS;
	peer.slots[0] = link_slot(9, DIRECTION_OUTBOUND);
	document = view_peer(&rules, &peer);
	/* A link says more than the exemption, which shows all the same. */
	says_text(document, "state", "linked");
	says_null(json_object_get(document, "exempt"), "until_ns");
	says_null(json_object_get(document, "exempt"), "left_ns");
	json_decref(document);
}

/* A process may call itself anything: the document stays valid and a terminal safe. */
static void hostile_command(void **state)
{
	struct view_rules rules = enforcing();
	struct peer peer = peer_at("192.0.2.7");
	json_t *document;

	(void)state;
	peer.slots[0] = claim_slot(5, NOW + NS_PER_SECOND);
	/* Not one byte of it is a NUL. */
	memcpy(peer.slots[0].command, "\x1b[2J\xff\xc3\nabcdefghi", COMMAND_LENGTH);
	document = view_peer(&rules, &peer);
	assert_non_null(document);
	says_text(element(document, "claims", 0, 1), "command", "?[2J???abcdefghi");
	json_decref(document);
}

/* ---- events ---- */

static void event_document(void **state)
{
	struct guard_event event = { .time_ns = NOW,
				     .address = peer_at("192.0.2.7").address,
				     .cookie = 11,
				     .until_ns = NOW + NS_PER_SECOND,
				     .cause = CAUSE_dial_backoff,
				     .verdict = VERDICT_REFUSE,
				     .direction = DIRECTION_OUTBOUND,
				     .enforced = 1,
				     .attempts = 2,
				     .process_id = 42,
				     .thread_id = 43,
				     .remote_port = 24000,
				     .command = "racer" };
	json_t *document = view_event(&event);

	(void)state;
	says_number(document, "time_ns", NOW);
	says_text(document, "address", "192.0.2.7");
	says_text(document, "cause", "dial_backoff");
	says_text(document, "sentence", "the peer is in backoff");
	says_text(document, "subject", "dial");
	says_text(document, "verdict", "refuse");
	says_text(document, "direction", "outbound");
	says_bool(document, "enforced", true);
	says_number(document, "attempts", 2);
	says_number(document, "until_ns", NOW + NS_PER_SECOND);
	says_number(document, "cookie", 11);
	says_null(document, "other_cookie");
	says_number(document, "process_id", 42);
	says_number(document, "thread_id", 43);
	says_text(document, "command", "racer");
	says_null(document, "local_port");
	says_number(document, "remote_port", 24000);
	json_decref(document);
	/* Whole, as a signed number. */
	event.other_cookie = ~0ULL - 1;
	document = view_event(&event);
	says_number(document, "other_cookie", ~0ULL - 1);
	json_decref(document);

	/* An event of a newer kernel side: unknown is said, nothing breaks. */
	event.cause = CAUSE_COUNT + 7;
	event.verdict = 77;
	event.ending = 77;
	document = view_event(&event);
	says_text(document, "cause", "unknown");
	says_text(document, "outcome", "unknown");
	json_decref(document);
}

static void event_says(const struct guard_event *event, const char *outcome, const char *detail)
{
	json_t *document = view_event(event);

	if (outcome)
		says_text(document, "outcome", outcome);
	else
		says_null(document, "outcome");
	if (detail)
		says_text(document, "detail", detail);
	else
		says_null(document, "detail");
	json_decref(document);
}

static void events_say_what_became_of_it(void **state)
{
	struct guard_event event = { .cause = CAUSE_dial_linked,
				     .verdict = VERDICT_REFUSE,
				     .enforced = 1 };

	(void)state;
	event_says(&event, "refused", NULL);
	event.enforced = 0;
	event_says(&event, "would have been refused", NULL);
	event.cause = CAUSE_link_duplicate;
	event.verdict = VERDICT_NONE;
	event_says(&event, "would have happened", NULL);
	event.enforced = 1;
	event_says(&event, NULL, NULL);
}

/* Who ended it, and what a backoff follows from. */
static void events_say_how_it_ended(void **state)
{
	struct guard_event event = { .cause = CAUSE_link_short,
				     .ending = ENDING_PEER_CLOSED,
				     .enforced = 1,
				     .attempts = 2 };

	(void)state;
	event_says(&event, NULL, "closed by the peer");
	event.cause = CAUSE_link_ended;
	event.ending = ENDING_CLOSED;
	event_says(&event, NULL, "closed by us");
	event.cause = CAUSE_link_hung_up;
	event.ending = ENDING_RESET;
	event_says(&event, NULL, "reset by the peer, failure 2 in a row");
	event.cause = CAUSE_dial_failed;
	event.ending = ENDING_SILENCE;
	event_says(&event, NULL, "no answer, failure 2 in a row");
	/* That we gave it up at last is not what it failed by. */
	event.ending = ENDING_CLOSED;
	event_says(&event, NULL, "no answer, failure 2 in a row");
	event.cause = CAUSE_dial_unheard;
	event_says(&event, NULL, "closed by us");
	event.cause = CAUSE_dial_backoff;
	event.verdict = VERDICT_REFUSE;
	event.ending = ENDING_RESET;
	event_says(&event, "refused", "after 2 failures in a row, the last: reset by the peer");
	event.cause = CAUSE_dial_kept;
	event.verdict = VERDICT_HOLD;
	event.ending = ENDING_SILENCE;
	event.attempts = 1;
	event_says(&event, "kept", "after 1 failure in a row, the last: no answer");
	/* Of a dial that is refused for another reason it would be misread. */
	event.cause = CAUSE_dial_dialing;
	event.verdict = VERDICT_REFUSE;
	event_says(&event, "refused", NULL);
}

static void events_of_all_peers_have_no_address(void **state)
{
	struct guard_event event = { .time_ns = NOW, .cause = CAUSE_network_back, .enforced = 1 };
	json_t *document = view_event(&event);

	(void)state;
	says_null(document, "address");
	says_null(document, "service");
	json_decref(document);
}

static void list_of_events_names_the_services(void **state)
{
	static const __u16 services[] = { 2888, 3888 }, shared = 0;
	struct view_origin origin = { .name = "test", .services = services, .service_count = 2 };
	json_t *document = view_events(&origin);
	const json_t *names = json_object_get(document, "services");

	(void)state;
	assert_int_equal(json_array_size(names), 2);
	assert_int_equal(json_integer_value(json_array_get(names, 1)), 3888);
	json_decref(document);
	origin.services = &shared;
	origin.service_count = 1;
	document = view_events(&origin);
	assert_true(json_is_null(json_array_get(json_object_get(document, "services"), 0)));
	json_decref(document);
}

/* ---- explain ---- */

static void explains(const struct view_rules *rules, const char *address, const struct peer *peer,
		     const char *dial_cause, const char *knock_cause, bool refused)
{
	struct peer_address key = {};
	json_t *document;

	assert_int_equal(address_from_text(address, &key), 0);
	document = view_explain_peer(rules, &key, peer, NULL, 0);
	assert_non_null(document);
	says_text(json_object_get(document, "dial"), "cause", dial_cause);
	says_text(json_object_get(document, "knock"), "cause", knock_cause);
	says_bool(document, "refused", refused);
	says_bool(document, "known_to_guard", peer != NULL);
	json_decref(document);
}

static void explain_answers_by_the_rules(void **state)
{
	struct view_rules rules = enforcing();
	struct peer peer = peer_at("192.0.2.7");

	(void)state;
	explains(&rules, "192.0.2.7", NULL, "dial_idle", "knock_idle", false);
	explains(&rules, "192.0.2.7", &peer, "dial_idle", "knock_idle", false);
	explains(&rules, "127.0.0.1", NULL, "dial_exempt", "knock_exempt", false);

	peer.next_attempt_ns = NOW + NS_PER_SECOND;
	explains(&rules, "192.0.2.7", &peer, "dial_backoff", "knock_backoff", true);
	peer.slots[0] = link_slot(9, DIRECTION_INBOUND);
	explains(&rules, "192.0.2.7", &peer, "dial_linked", "knock_linked", true);
	peer.exempt_until_ns = NEVER_ENDS_NS;
	explains(&rules, "192.0.2.7", &peer, "dial_exempt", "knock_exempt", false);
}

static void explain_knows_the_mode(void **state)
{
	struct view_rules rules = enforcing();
	struct peer peer = peer_at("192.0.2.7");
	json_t *document;

	(void)state;
	peer.slots[0] = link_slot(9, DIRECTION_INBOUND);
	rules.mode = MODE_OBSERVE;
	document = view_explain_peer(&rules, &peer.address, &peer, NULL, 0);
	says_text(json_object_get(document, "dial"), "verdict", "refuse");
	says_bool(json_object_get(document, "dial"), "passes", true);
	says_bool(document, "refused", false);
	assert_int_equal(json_array_size(json_object_get(document, "notes")), 1);
	json_decref(document);
	rules.mode = MODE_OFF;
	explains(&rules, "192.0.2.7", &peer, "dial_linked", "knock_linked", false);
}

static void explain_notes_links_too_many(void **state)
{
	struct view_rules rules = enforcing();
	struct peer peer = peer_at("192.0.2.7");
	json_t *document;

	(void)state;
	rules.mode = MODE_OBSERVE;
	peer.slots[0] = link_slot(1, DIRECTION_OUTBOUND);
	document = view_explain_peer(&rules, &peer.address, &peer, NULL, 0);
	assert_int_equal(json_array_size(json_object_get(document, "notes")), 1);
	json_decref(document);

	peer.slots[1] = link_slot(2, DIRECTION_INBOUND);
	document = view_explain_peer(&rules, &peer.address, &peer, NULL, 0);
	assert_int_equal(json_array_size(json_object_get(document, "notes")), 2);
	assert_non_null(strstr(json_string_value(json_array_get(json_object_get(document, "notes"), 1)),
			       "`connguard limit 192.0.2.7 2`"));
	json_decref(document);

	/* No more than the setting takes. */
	for (int i = 0; i < PEER_SLOTS; i++)
		peer.slots[i] = link_slot(i + 1, DIRECTION_INBOUND);
	document = view_explain_peer(&rules, &peer.address, &peer, NULL, 0);
	assert_non_null(strstr(json_string_value(json_array_get(json_object_get(document, "notes"), 1)),
			       "`connguard limit 192.0.2.7 7`"));
	json_decref(document);
}

static void explain_knows_the_central_policy(void **state)
{
	struct view_rules rules = enforcing();
	struct peer peer = peer_at("192.0.2.7");

	(void)state;
	rules.policy.dial_policy = DIAL_POLICY_CENTRAL;
	explains(&rules, "192.0.2.7", &peer, "dial_idle", "knock_idle", false);
	rules.announced_only = true;
	explains(&rules, "192.0.2.7", &peer, "dial_not_due", "knock_idle", true);
	peer.due_ns = NOW;
	explains(&rules, "192.0.2.7", &peer, "dial_idle", "knock_idle", false);
}

static void explain_says_how_long(void **state)
{
	struct view_rules rules = enforcing();
	struct peer peer = peer_at("192.0.2.7");
	json_t *document;

	(void)state;
	peer.attempts = 1;
	peer.failure = ENDING_RESET;
	peer.next_attempt_ns = NOW + 5 * NS_PER_SECOND;
	document = view_explain_peer(&rules, &peer.address, &peer, NULL, 0);
	says_number(json_object_get(document, "dial"), "until_ns", NOW + 5 * NS_PER_SECOND);
	says_number(json_object_get(document, "dial"), "left_ns", 5 * NS_PER_SECOND);
	says_text(json_object_get(document, "dial"), "ending", "reset");
	says_text(json_object_get(document, "dial"), "detail",
		  "after 1 failure in a row, the last: reset by the peer");
	says_null(json_object_get(document, "knock"), "until_ns");
	says_null(json_object_get(document, "knock"), "ending");
	json_decref(document);

	/* When another dial ends, nobody knows; that its claim expires says nothing. */
	peer.slots[0] = claim_slot(5, NOW + 100 * NS_PER_SECOND);
	document = view_explain_peer(&rules, &peer.address, &peer, NULL, 0);
	says_text(json_object_get(document, "dial"), "cause", "dial_dialing");
	says_null(json_object_get(document, "dial"), "until_ns");
	says_null(json_object_get(document, "dial"), "left_ns");
	json_decref(document);
}

static void explain_says_that_a_dial_would_be_kept(void **state)
{
	struct view_rules rules = enforcing();
	struct peer peer = peer_at("192.0.2.7");
	const json_t *dial;
	json_t *document;

	(void)state;
	peer.attempts = 2;
	/* The application gave up, and nobody had answered. */
	peer.failure = ENDING_CLOSED;
	peer.flags = PEER_SILENT;
	peer.next_attempt_ns = NOW + 3 * NS_PER_SECOND;
	document = view_explain_peer(&rules, &peer.address, &peer, NULL, 0);
	dial = json_object_get(document, "dial");
	says_text(dial, "verdict", "hold");
	says_text(dial, "cause", "dial_kept");
	says_text(dial, "ending", "silence");
	says_text(dial, "detail", "after 2 failures in a row, the last: no answer");
	says_bool(dial, "passes", false);
	says_number(dial, "left_ns", 3 * NS_PER_SECOND);
	says_bool(document, "refused", true);
	says_text(json_object_get(document, "peer"), "failure", "silence");
	json_decref(document);
	rules.mode = MODE_OBSERVE;
	explains(&rules, "192.0.2.7", &peer, "dial_kept", "knock_backoff", false);
	rules.policy.keep_dials = 0;
	explains(&rules, "192.0.2.7", &peer, "dial_backoff", "knock_backoff", false);
}

/* A quiet link holds its peer's knock for as long as it is asked, not for as long as the doubt may last. */
static void explain_says_how_long_a_quiet_link_is_asked(void **state)
{
	struct view_rules rules = enforcing();
	struct peer peer = peer_at("192.0.2.7");
	json_t *document;

	(void)state;
	peer.slots[0] = link_slot(9, DIRECTION_INBOUND);
	peer.slots[0].heard_ns = NOW - 4 * NS_PER_SECOND;
	rules.asks = true;
	document = view_explain_peer(&rules, &peer.address, &peer, NULL, 0);
	says_text(json_object_get(document, "dial"), "cause", "dial_suspect");
	says_null(json_object_get(document, "dial"), "until_ns");
	says_text(json_object_get(document, "knock"), "cause", "knock_suspect");
	says_number(json_object_get(document, "knock"), "left_ns", ASK_MAX_NS);
	json_decref(document);
	rules.asks = false;
	document = view_explain_peer(&rules, &peer.address, &peer, NULL, 0);
	says_number(json_object_get(document, "knock"), "left_ns", rules.policy.deny_max_ns);
	json_decref(document);
}

static void explain_finds_the_prefix(void **state)
{
	struct exempt_prefix prefixes[3], own;
	struct exempt_value values[3] = { { .until_ns = NEVER_ENDS_NS },
					  { .until_ns = NOW + NS_PER_SECOND },
					  { .until_ns = NEVER_ENDS_NS } };
	struct view_rules rules = enforcing();
	struct peer peer = peer_at("10.1.2.3");
	json_t *document;

	(void)state;
	assert_int_equal(prefix_from_text("10.0.0.0/8", &prefixes[0], NULL), 0);
	assert_int_equal(prefix_from_text("10.1.2.0/23", &prefixes[1], NULL), 0);
	assert_int_equal(prefix_from_text("192.0.2.1", &prefixes[2], NULL), 0);
	rules.prefixes = prefixes;
	rules.values = values;
	rules.prefix_count = 3;
	peer.slots[0] = link_slot(9, DIRECTION_INBOUND);

	document = view_explain_peer(&rules, &peer.address, &peer, NULL, 0);
	says_text(element(document, "exempt_prefixes", 0, 2), "prefix", "10.0.0.0/8");
	says_null(element(document, "exempt_prefixes", 0, 2), "left_ns");
	says_text(element(document, "exempt_prefixes", 1, 2), "prefix", "10.1.2.0/23");
	says_number(element(document, "exempt_prefixes", 1, 2), "left_ns", NS_PER_SECOND);
	json_decref(document);
	explains(&rules, "10.1.2.3", &peer, "dial_exempt", "knock_exempt", false);
	explains(&rules, "10.1.3.255", NULL, "dial_exempt", "knock_exempt", false);
	explains(&rules, "192.0.2.1", NULL, "dial_exempt", "knock_exempt", false);
	explains(&rules, "192.0.2.2", NULL, "dial_idle", "knock_idle", false);

	/* The hooks go by the longest prefix: expired, it hides the shorter one. */
	values[1].until_ns = NOW;
	explains(&rules, "10.1.2.3", &peer, "dial_linked", "knock_linked", true);
	explains(&rules, "10.1.3.255", NULL, "dial_idle", "knock_idle", false);
	explains(&rules, "10.1.4.3", NULL, "dial_exempt", "knock_exempt", false);

	/* What is this host itself is no peer, whatever else it is. */
	assert_int_equal(prefix_from_text("10.1.2.0/24", &own, NULL), 0);
	rules.own = &own;
	explains(&rules, "10.1.2.3", &peer, "dial_exempt", "knock_exempt", false);
	document = view_explain_peer(&rules, &peer.address, &peer, NULL, 0);
	says_text(element(document, "exempt_prefixes", 0, 2), "prefix", "10.1.2.0/24");
	assert_true(json_is_true(json_object_get(element(document, "exempt_prefixes", 0, 2), "own")));
	assert_true(json_is_false(json_object_get(element(document, "exempt_prefixes", 1, 2), "own")));
	json_decref(document);
}

static void explain_tells_of_this_peer_and_of_all(void **state)
{
	struct guard_event events[6] = { { .time_ns = 1, .cause = CAUSE_dial_idle },
					 { .time_ns = 2, .cause = CAUSE_dial_failed },
					 { .time_ns = 3, .cause = CAUSE_dial_backoff },
					 { .time_ns = 4, .cause = CAUSE_dial_linked },
					 { .time_ns = NOW - 101 * NS_PER_SECOND,
					   .cause = CAUSE_network_back },
					 { .time_ns = NOW - 100 * NS_PER_SECOND,
					   .cause = CAUSE_service_started } };
	struct view_rules rules = enforcing();
	struct peer peer = peer_at("192.0.2.7");
	json_t *document;

	(void)state;
	events[0].address = events[2].address = peer.address;
	events[1].address = peer_at("192.0.2.8").address;
	/* The same host at another service. */
	events[3].address = peer.address;
	events[3].address.service = 3888;
	document = view_explain_peer(&rules, &peer.address, &peer, events, 6);
	says_text(element(document, "events", 0, 3), "cause", "dial_idle");
	says_text(element(document, "events", 1, 3), "cause", "dial_backoff");
	says_text(element(document, "events", 2, 3), "cause", "service_started");
	json_decref(document);
	document = view_explain_peer(&rules, &peer.address, NULL, events, 6);
	element(document, "events", 0, 2);
	json_decref(document);
}

static void due_document(void **state)
{
	struct peer peer = peer_at("192.0.2.7");
	json_t *document;

	(void)state;
	peer.flags = PEER_KNOWN;
	peer.attempts = 4;
	document = view_due_peer(&peer, NOW);
	says_text(document, "address", "192.0.2.7");
	says_number(document, "now_ns", NOW);
	says_number(document, "attempts", 4);
	says_bool(document, "known", true);
	says_null(document, "last_active_ns");
	json_decref(document);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(documents_have_the_members_that_are_described),
		cmocka_unit_test(idle_peer),
		cmocka_unit_test(linked_peer),
		cmocka_unit_test(what_is_known_of_a_links_life),
		cmocka_unit_test(dialing_peer),
		cmocka_unit_test(backing_off_peer),
		cmocka_unit_test(exempt_peer),
		cmocka_unit_test(hostile_command),
		cmocka_unit_test(event_document),
		cmocka_unit_test(events_say_what_became_of_it),
		cmocka_unit_test(events_say_how_it_ended),
		cmocka_unit_test(events_of_all_peers_have_no_address),
		cmocka_unit_test(list_of_events_names_the_services),
		cmocka_unit_test(explain_answers_by_the_rules),
		cmocka_unit_test(explain_knows_the_mode),
		cmocka_unit_test(explain_notes_links_too_many),
		cmocka_unit_test(explain_knows_the_central_policy),
		cmocka_unit_test(explain_says_how_long),
		cmocka_unit_test(explain_says_that_a_dial_would_be_kept),
		cmocka_unit_test(explain_says_how_long_a_quiet_link_is_asked),
		cmocka_unit_test(explain_finds_the_prefix),
		cmocka_unit_test(explain_tells_of_this_peer_and_of_all),
		cmocka_unit_test(due_document),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
