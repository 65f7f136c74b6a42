/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The state file: what operators have decided about a guard and have not taken back, one decision a line.
 *
 *     version 1
 *     mode off since=2026-11-29T13:01:50Z by=alice
 *     limit 192.0.2.7 2 since=2026-11-29T13:02:11Z by=alice
 *     allow 2001:db8::7
 *     allow 10.0.0.0/8
 *     end
 *
 * Comments and blank lines are as in the peers file. The last line shows that nothing is missing.
 *
 * Owns the format, and the list that it holds. Does not know where the file is, nor what is done with a decision.
 */
#ifndef PURE_STATE_FILE_H
#define PURE_STATE_FILE_H

#include <stddef.h>
#include <stdio.h>

#include <connguard/abi.h>

#include "pure/config.h"

/* The version of the format. */
#define STATE_VERSION 1
/* Bytes of a line, newline included. */
#define STATE_LINE_MAX 256
/* Decisions of one guard: more than anybody makes by hand, and less than a megabyte of file. */
#define STATE_ENTRIES_MAX 10000
/* Letters of who decided. */
#define STATE_BY_MAX 32
/* Room for a time as text, NUL included: "2026-11-29T13:01:50Z". */
#define STATE_TIME_TEXT_MAX 21

/* What a decision is about. */
enum state_kind {
	STATE_MODE,         /* panic, resume: a mode other than the configuration's */
	STATE_LIMIT,        /* the links that a peer may have */
	STATE_ALLOW_PEER,   /* nothing is refused to or from a peer, for good */
	STATE_ALLOW_PREFIX, /* the same of all addresses of a prefix */
};

/* One decision. Kind and prefix tell it from the others. */
struct state_entry {
	enum state_kind kind;
	struct exempt_prefix prefix; /* STATE_MODE: zeros; of a peer: all 128 bits of its address */
	__u32 value;                 /* STATE_MODE: an enum guard_mode; STATE_LIMIT: 1..PEER_LINKS_MAX; else 0 */
	__u64 since;                 /* Unix time, seconds; 0: not known */
	char by[STATE_BY_MAX + 1];   /* who, a login name; "": not known */
};

/* All of a guard, ordered by kind and prefix, each once. Zeroed: none. state_free() gives it back. */
struct state {
	struct state_entry *entries;
	size_t count, capacity;
};

void state_free(struct state *state);
#define cleanup_state __attribute__((cleanup(state_free)))

/* The prefix of an entry that is about this peer, whatever its service. */
struct exempt_prefix state_prefix(const struct peer_address *address);

/* The decision about the mode. */
#define STATE_NO_PREFIX ((struct exempt_prefix){})

/* The decision of this kind about this prefix; NULL: there is none. The list's, until it is changed. */
struct state_entry *state_find(const struct state *state, enum state_kind kind, const struct exempt_prefix *prefix);

/* Add a decision, or put it in the place of the one there is. -ENOSPC: STATE_ENTRIES_MAX; -ENOMEM. */
int state_set(struct state *state, const struct state_entry *entry);

/* Take a decision out. True: it was there. */
bool state_clear(struct state *state, enum state_kind kind, const struct exempt_prefix *prefix);

/* Make *ret_copy the same list, its own. -ENOMEM: *ret_copy is empty. */
int state_copy(const struct state *state, struct state *ret_copy);

/* True when both lists say the same, whoever decided it and when. */
bool state_equal(const struct state *left, const struct state *right);

/* True for what can stand in state_entry.by: letters, digits and "._@-", STATE_BY_MAX at most; also "". */
bool state_by_valid(const char *by);

/* Unix seconds as text, in UTC. Writes to ret_text and returns it. */
const char *state_time_text(__u64 since, char ret_text[STATE_TIME_TEXT_MAX]);

/*
 * Read a file from a stream, called `file` in messages. -EINVAL with "FILE:LINE: ..." in *ret_error: anything that is
 * not understood, another version, a decision twice, too many, or no end; -ENOMEM; or the errno of reading, in words
 * in *ret_error too. *ret_state is touched on success only, and then the caller's (state_free()).
 */
int state_file_parse(FILE *stream, const char *file, struct state *ret_state, struct config_error *ret_error);

/* Write the list of the guard `name` as such a file. Errors show in the stream (ferror()). */
void state_file_print(FILE *stream, const char *name, const struct state *state);

#endif
