// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: any bytes as what the kernel side hands out, events and map values, made into JSON
 * documents.
 *
 * A guard of another build, or a bug, may have written anything there: every document must come
 * about, be valid JSON, and say again what was in the bytes.
 */
#include "input.h"

#include <stdbool.h>

#include "base/cleanup.h"
#include "edge/view.h"
#include "pure/address_text.h"
#include "pure/names.h"

#define EVENTS 2
#define PREFIXES 2

/* Takes the document over: it must be there, and come back from its text as it was. */
static void check_document(json_t *document)
{
	cleanup_free char *text = document ? json_dumps(document, JSON_COMPACT) : NULL;
	json_t *again = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;

	must(document);
	must(text);
	must(again && json_equal(document, again));
	/* A terminal shows it as it is. */
	for (const char *byte = text; *byte; byte++)
		must((unsigned char)*byte >= ' ' && *byte != 0x7f);
	json_decref(again);
	json_decref(document);
}

static const char *text_of(const json_t *document, const char *member)
{
	const char *text = json_string_value(json_object_get(document, member));

	must(text);
	return text;
}

static void check_event(const struct guard_event *event)
{
	json_t *document = view_event(event);
	const struct peer_address nobody = {};
	struct peer_address address = {};

	must(document);
	/* Of the guard and no peer: its address is null. */
	if (address_same_host(&event->address, &nobody))
		must(json_is_null(json_object_get(document, "address")));
	else
		must(!address_from_text(text_of(document, "address"), &address));
	address.service = json_integer_value(json_object_get(document, "service"));
	must(address_equal(&address, &event->address));
	must(!strcmp(text_of(document, "cause"), names_cause(event->cause)));
	must(!strcmp(text_of(document, "verdict"), names_verdict(event->verdict)));
	must(!strcmp(text_of(document, "direction"), names_direction(event->direction)));
	must(json_is_true(json_object_get(document, "enforced")) == !!event->enforced);
	check_document(document);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { .next = data, .left = size };
	struct guard_event events[EVENTS];
	struct exempt_prefix prefixes[PREFIXES];
	struct exempt_value values[PREFIXES];
	struct socket_holder holder = {};
	struct view_origin origin = { .name = "fuzz", .events = events, .event_count = EVENTS };
	struct view_rules rules = { .prefixes = prefixes,
				    .values = values,
				    .prefix_count = PREFIXES,
				    .holders = &holder,
				    .holder_count = 1 };
	struct peer peer;
	bool of_first;
	int i;

	/* The events first: an event as it lies in memory is an input. */
	input_bytes(&input, events, sizeof(events));
	of_first = input_byte(&input) & 1;
	input_bytes(&input, &rules.now, sizeof(rules.now));
	input_bytes(&input, &rules.mode, sizeof(rules.mode));
	input_bytes(&input, &rules.policy, sizeof(rules.policy));
	rules.announced_only = input_byte(&input) & 1;
	input_bytes(&input, prefixes, sizeof(prefixes));
	input_bytes(&input, values, sizeof(values));
	input_bytes(&input, &holder.cookie, sizeof(holder.cookie));
	input_bytes(&input, holder.command, sizeof(holder.command) - 1);
	input_bytes(&input, &peer, sizeof(peer));
	origin.now = rules.now;
	if (of_first)
		peer.address = events[0].address;

	for (i = 0; i < EVENTS; i++)
		check_event(&events[i]);
	check_document(view_events(&origin));
	check_document(view_peer(&rules, &peer));
	check_document(view_due_peer(&peer, rules.now));
	check_document(view_explain_peer(&rules, &peer.address, &peer, events, EVENTS));
	check_document(view_explain_peer(&rules, &events[0].address, NULL, events, EVENTS));
	return 0;
}
