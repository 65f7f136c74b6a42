// SPDX-License-Identifier: BSD-2-Clause
/* See state_file.h. */
#include "pure/state_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/files.h"
#include "pure/address_text.h"
#include "pure/names.h"

#define FIRST_CAPACITY 16
#define BLANKS " \t\r\n"
/* The last second whose year has four digits: 9999-12-31T23:59:59Z. */
#define TIME_MAX 253402300799ULL

/* ---- the list ---- */

void state_free(struct state *state)
{
	free(state->entries);
	*state = (struct state){};
}

struct exempt_prefix state_prefix(const struct peer_address *address)
{
	struct exempt_prefix prefix = { .prefix_length = 8 * sizeof(prefix.address) };

	memcpy(prefix.address, address->bytes, sizeof(prefix.address));
	return prefix;
}

static int compare(enum state_kind kind, const struct exempt_prefix *prefix, const struct state_entry *entry)
{
	int order;

	if (kind != entry->kind)
		return kind < entry->kind ? -1 : 1;
	order = memcmp(prefix->address, entry->prefix.address, sizeof(prefix->address));
	if (order)
		return order;
	return (prefix->prefix_length > entry->prefix.prefix_length) -
	       (prefix->prefix_length < entry->prefix.prefix_length);
}

/* The place of such an entry, or where it would be. */
static size_t place_of(const struct state *state, enum state_kind kind, const struct exempt_prefix *prefix,
		       bool *ret_there)
{
	size_t low = 0, high = state->count;

	*ret_there = false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = compare(kind, prefix, &state->entries[middle]);

		if (!order) {
			*ret_there = true;
			return middle;
		}
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

struct state_entry *state_find(const struct state *state, enum state_kind kind, const struct exempt_prefix *prefix)
{
	bool there;
	size_t place = place_of(state, kind, prefix, &there);

	return there ? &state->entries[place] : NULL;
}

int state_set(struct state *state, const struct state_entry *entry)
{
	bool there;
	size_t place = place_of(state, entry->kind, &entry->prefix, &there);

	if (there) {
		state->entries[place] = *entry;
		return 0;
	}
	if (state->count == STATE_ENTRIES_MAX)
		return -ENOSPC;
	if (state->count == state->capacity) {
		size_t capacity = state->capacity ? 2 * state->capacity : FIRST_CAPACITY;
		struct state_entry *larger = reallocarray(state->entries, capacity, sizeof(*larger));

		if (!larger)
			return -ENOMEM;
		state->entries = larger;
		state->capacity = capacity;
	}
	memmove(&state->entries[place + 1], &state->entries[place],
		(state->count - place) * sizeof(*state->entries));
	state->entries[place] = *entry;
	state->count++;
	return 0;
}

bool state_clear(struct state *state, enum state_kind kind, const struct exempt_prefix *prefix)
{
	bool there;
	size_t place = place_of(state, kind, prefix, &there);

	if (!there)
		return false;
	state->count--;
	memmove(&state->entries[place], &state->entries[place + 1],
		(state->count - place) * sizeof(*state->entries));
	return true;
}

int state_copy(const struct state *state, struct state *ret_copy)
{
	*ret_copy = (struct state){};
	if (!state->count)
		return 0;
	ret_copy->entries = calloc(state->count, sizeof(*state->entries));
	if (!ret_copy->entries)
		return -ENOMEM;
	memcpy(ret_copy->entries, state->entries, state->count * sizeof(*state->entries));
	ret_copy->count = ret_copy->capacity = state->count;
	return 0;
}

bool state_equal(const struct state *left, const struct state *right)
{
	if (left->count != right->count)
		return false;
	for (size_t i = 0; i < left->count; i++)
		if (compare(left->entries[i].kind, &left->entries[i].prefix, &right->entries[i]) ||
		    left->entries[i].value != right->entries[i].value)
			return false;
	return true;
}

/* ---- words ---- */

bool state_by_valid(const char *by)
{
	size_t length = strspn(by, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@-");

	return !by[length] && length <= STATE_BY_MAX;
}

const char *state_time_text(__u64 since, char ret_text[STATE_TIME_TEXT_MAX])
{
	time_t seconds = (time_t)(since <= TIME_MAX ? since : TIME_MAX);
	struct tm when;

	gmtime_r(&seconds, &when);
	strftime(ret_text, STATE_TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%SZ", &when);
	return ret_text;
}

/* What state_time_text() writes, and nothing else: a date that there is not prints as another one. */
static int parse_time(const char *text, __u64 *ret_since)
{
	char printed[STATE_TIME_TEXT_MAX];
	struct tm when = {};
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &when);
	time_t seconds;

	if (!end || *end)
		return -EINVAL;
	seconds = timegm(&when);
	if (seconds <= 0 || strcmp(state_time_text((__u64)seconds, printed), text))
		return -EINVAL;
	*ret_since = (__u64)seconds;
	return 0;
}

/* The line that is read, for messages. */
struct place {
	const char *file;
	unsigned int line;
	struct config_error *error;
};

static int fail(const struct place *place, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int fail(const struct place *place, const char *format, ...)
{
	va_list arguments;
	int end;

	end = snprintf(place->error->text, sizeof(place->error->text), "%.255s:%u: ", place->file, place->line);
	va_start(arguments, format);
	vsnprintf(place->error->text + end, sizeof(place->error->text) - (size_t)end, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

/* "since=TIME" and "by=NAME", each once at most, to the end of the line. */
static int parse_origin(char **rest, const struct place *place, struct state_entry *entry)
{
	static const char since[] = "since=", by[] = "by=";
	const char *word;

	while ((word = strtok_r(NULL, BLANKS, rest))) {
		if (!strncmp(word, since, strlen(since)) && !entry->since) {
			if (parse_time(word + strlen(since), &entry->since))
				return fail(place, "%s: not a time, expected one such as since=2026-11-29T13:01:50Z",
					    word);
		} else if (!strncmp(word, by, strlen(by)) && !*entry->by) {
			word += strlen(by);
			if (!*word || !state_by_valid(word))
				return fail(place, "by=%s: not a login name, expected up to %d letters, digits and "
					    "._@-", word, STATE_BY_MAX);
			snprintf(entry->by, sizeof(entry->by), "%s", word);
		} else {
			return fail(place, "%s: not understood, expected since=TIME, by=NAME or the end of the line",
				    word);
		}
	}
	return 0;
}

static int parse_address(const char *word, const struct place *place, struct state_entry *entry)
{
	struct peer_address address = {};

	if (!word)
		return fail(place, "nothing, expected an address");
	if (address_from_text(word, &address))
		return fail(place, "%s: not an address, expected IPv4 or IPv6 without port or scope", word);
	if (!address_may_be_peer(&address))
		return fail(place, "%s: loopback, unspecified or multicast, expected a unicast address", word);
	entry->prefix = state_prefix(&address);
	return 0;
}

static int parse_mode(char **rest, const struct place *place, struct state_entry *entry)
{
	const char *word = strtok_r(NULL, BLANKS, rest);
	enum guard_mode mode;

	entry->kind = STATE_MODE;
	if (!word || names_mode_parse(word, &mode))
		return fail(place, "mode %s: expected off, observe or enforce", word ? word : "");
	entry->value = mode;
	return 0;
}

static int parse_limit(char **rest, const struct place *place, struct state_entry *entry)
{
	const char *word;
	int result;

	entry->kind = STATE_LIMIT;
	result = parse_address(strtok_r(NULL, BLANKS, rest), place, entry);
	if (result)
		return result;
	word = strtok_r(NULL, BLANKS, rest);
	if (!word || strlen(word) != 1 || *word < '1' || *word > '0' + PEER_LINKS_MAX)
		return fail(place, "%s: not a limit, expected a number of links from 1 to %d", word ? word : "nothing",
			    PEER_LINKS_MAX);
	entry->value = (__u32)(*word - '0');
	return 0;
}

static int parse_allow(char **rest, const struct place *place, struct state_entry *entry)
{
	const char *word = strtok_r(NULL, BLANKS, rest), *problem;

	entry->kind = STATE_ALLOW_PEER;
	if (!word || !strchr(word, '/'))
		return parse_address(word, place, entry);
	entry->kind = STATE_ALLOW_PREFIX;
	if (prefix_from_text(word, &entry->prefix, &problem))
		return fail(place, "%s: %s, expected a prefix such as 10.0.0.0/8", word, problem);
	return 0;
}

/* One line that begins with `word`, the rest of which strtok_r() has in *rest. */
static int parse_decision(const char *word, char **rest, const struct place *place, struct state *state)
{
	struct state_entry entry = {};
	int result;

	if (!strcmp(word, "mode"))
		result = parse_mode(rest, place, &entry);
	else if (!strcmp(word, "limit"))
		result = parse_limit(rest, place, &entry);
	else if (!strcmp(word, "allow"))
		result = parse_allow(rest, place, &entry);
	else
		return fail(place, "%s: not understood, expected mode, limit, allow or end", word);
	if (!result)
		result = parse_origin(rest, place, &entry);
	if (result)
		return result;
	if (state_find(state, entry.kind, &entry.prefix))
		return fail(place, "%s: twice, expected once", word);
	result = state_set(state, &entry);
	return result == -ENOSPC ? fail(place, "too many decisions, expected at most %d", STATE_ENTRIES_MAX) : result;
}

/* "version 1". */
static int parse_version(const char *word, char **rest, const struct place *place)
{
	const char *version = strtok_r(NULL, BLANKS, rest);
	char expected[16];

	snprintf(expected, sizeof(expected), "%d", STATE_VERSION);
	if (strcmp(word, "version"))
		return fail(place, "%s: expected version %s first", word, expected);
	if (!version || strcmp(version, expected))
		return fail(place, "version %s: expected version %s", version ? version : "", expected);
	word = strtok_r(NULL, BLANKS, rest);
	return word ? fail(place, "%s: not understood, expected the end of the line", word) : 0;
}

int state_file_parse(FILE *stream, const char *file, struct state *ret_state, struct config_error *ret_error)
{
	struct place place = { .file = file, .error = ret_error };
	cleanup_state struct state state = {};
	bool versioned = false, ended = false;
	char text[STATE_LINE_MAX + 1];
	int result = 0;

	ret_error->text[0] = '\0';
	while (fgets(text, sizeof(text), stream)) {
		size_t length = strlen(text), begin;
		char *rest = NULL, *word;

		place.line++;
		/* Also what a NUL byte in the line looks like. */
		if ((!length || text[length - 1] != '\n') && !feof(stream))
			return fail(&place, "line too long or not text, expected at most %d bytes",
				    STATE_LINE_MAX - 1);
		text[strcspn(text, "#")] = '\0';
		begin = (size_t)((place.line == 1 ? file_text_begin(text, length) : text) - text);
		word = strtok_r(text + begin, BLANKS, &rest);
		if (!word)
			continue;
		if (ended)
			return fail(&place, "%s: behind the end, expected nothing", word);
		if (!versioned) {
			result = parse_version(word, &rest, &place);
			versioned = true;
		} else if (!strcmp(word, "end")) {
			word = strtok_r(NULL, BLANKS, &rest);
			if (word)
				result = fail(&place, "%s: not understood, expected the end of the line", word);
			ended = true;
		} else {
			result = parse_decision(word, &rest, &place, &state);
		}
		if (result)
			return result;
	}
	if (ferror(stream)) {
		result = errno ? -errno : -EIO;
		snprintf(ret_error->text, sizeof(ret_error->text), "%.255s: cannot be read: %s", file,
			 strerror(-result));
		return result;
	}
	if (!ended) {
		place.line++;
		return fail(&place, "the file ends here, expected %s", versioned ? "a line with end" : "version 1");
	}
	*ret_state = state;
	state = (struct state){};
	return 0;
}

/* ---- writing ---- */

static void print_entry(FILE *stream, const struct state_entry *entry)
{
	char text[PREFIX_TEXT_MAX], time_text[STATE_TIME_TEXT_MAX];

	prefix_to_text(&entry->prefix, text);
	if (entry->kind == STATE_LIMIT || entry->kind == STATE_ALLOW_PEER)
		text[strcspn(text, "/")] = '\0';
	switch (entry->kind) {
	case STATE_MODE:
		fprintf(stream, "mode %s", names_mode(entry->value));
		break;
	case STATE_LIMIT:
		fprintf(stream, "limit %s %u", text, entry->value);
		break;
	case STATE_ALLOW_PEER:
	case STATE_ALLOW_PREFIX:
		fprintf(stream, "allow %s", text);
		break;
	}
	if (entry->since)
		fprintf(stream, " since=%s", state_time_text(entry->since, time_text));
	if (*entry->by)
		fprintf(stream, " by=%s", entry->by);
	fputc('\n', stream);
}

void state_file_print(FILE *stream, const char *name, const struct state *state)
{
	fprintf(stream, "# What operators have decided about guard '%s'. Kept by connguardd, see connguard(8).\n"
			"version %d\n", name, STATE_VERSION);
	for (size_t i = 0; i < state->count; i++)
		print_entry(stream, &state->entries[i]);
	fputs("end\n", stream);
}
