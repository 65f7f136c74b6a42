// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: any bytes as a state file.
 *
 * Whatever they are, they are refused with the line and in words, or are a list of decisions in order, which is written
 * as a file that says the same.
 */
#include "input.h"

#include <errno.h>

#include "base/cleanup.h"
#include "pure/state_file.h"

#define FILE_NAME "fuzz.state"

static int parse(const void *data, size_t size, struct state *ret_state, struct config_error *ret_error)
{
	/* An empty stream of its own: some C libraries make none out of no bytes. */
	cleanup_fclose FILE *stream = size ? fmemopen((void *)data, size, "r") : fopen("/dev/null", "re");

	must(stream);
	return state_file_parse(stream, FILE_NAME, ret_state, ret_error);
}

static void check_entry(const struct state *state, const struct state_entry *entry)
{
	must(state_find(state, entry->kind, &entry->prefix) == entry);
	must(state_by_valid(entry->by));
	switch (entry->kind) {
	case STATE_MODE:
		must(entry->value <= MODE_ENFORCE && !entry->prefix.prefix_length);
		break;
	case STATE_LIMIT:
		must(entry->value >= 1 && entry->value <= PEER_LINKS_MAX);
		must(entry->prefix.prefix_length == 128);
		break;
	case STATE_ALLOW_PEER:
		must(!entry->value && entry->prefix.prefix_length == 128);
		break;
	case STATE_ALLOW_PREFIX:
		must(!entry->value && entry->prefix.prefix_length <= 128);
		break;
	}
}

/* Written and read it is the same list, byte for byte when written once more. */
static void check_again(const struct state *state)
{
	cleanup_free char *once = NULL, *twice = NULL;
	cleanup_state struct state again = {};
	struct config_error error;
	size_t once_length, twice_length;
	FILE *stream = open_memstream(&once, &once_length);

	must(stream);
	state_file_print(stream, "fuzz", state);
	must(!fclose(stream));
	must(!parse(once, once_length, &again, &error));
	must(state_equal(state, &again));
	stream = open_memstream(&twice, &twice_length);
	must(stream);
	state_file_print(stream, "fuzz", &again);
	must(!fclose(stream));
	must(once_length == twice_length && !memcmp(once, twice, once_length));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct state state = { .count = 77 };
	struct config_error error;
	int result;

	memset(&error, 0xa5, sizeof(error));
	result = parse(data, size, &state, &error);
	if (result) {
		must(result == -EINVAL || result == -ENOMEM);
		must(state.count == 77 && !state.entries);
		must(memchr(error.text, '\0', sizeof(error.text)));
		must(!strchr(error.text, '\n'));
		if (result == -EINVAL)
			must(!strncmp(error.text, FILE_NAME ":", strlen(FILE_NAME ":")));
		return 0;
	}
	must(state.count <= STATE_ENTRIES_MAX);
	for (size_t i = 0; i < state.count; i++)
		check_entry(&state, &state.entries[i]);
	check_again(&state);
	state_free(&state);
	return 0;
}
