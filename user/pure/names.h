/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Enumerations by name: one spelling for the configuration, the control protocol, the CLI, the logs
 * and the metrics.
 *
 * Owns the tables. Every names_X() returns a constant text, "unknown" for a number outside of the
 * enumeration; every names_X_parse() returns 0, or -EINVAL and leaves its ret_ argument untouched.
 * Exact spelling, lower case (errnos: upper).
 */
#ifndef PURE_NAMES_H
#define PURE_NAMES_H

#include <stdbool.h>

#include <connguard/abi.h>

#include "base/log.h"

/* One row; a table ends with a row whose name is NULL. */
struct names_entry {
	__u32 value;
	const char *name;
};

/* Tables that a setting chooses from. */
extern const struct names_entry names_mode_table[];         /* off observe enforce */
extern const struct names_entry names_tie_break_table[];    /* isn none */
extern const struct names_entry names_dial_policy_table[];  /* shared central */
extern const struct names_entry names_reject_style_table[]; /* reset drop */
extern const struct names_entry names_adopt_table[];        /* keep trim */
extern const struct names_entry names_in_backoff_table[];   /* keep refuse */
extern const struct names_entry names_yes_no_table[];       /* no yes */
extern const struct names_entry names_log_level_table[];    /* error warning info debug */

/* The name of `value` in a table, "unknown" when it is not in it. */
const char *names_lookup(const struct names_entry *table, __u32 value);
/* The value of `name` in a table, or -EINVAL. */
int names_lookup_value(const struct names_entry *table, const char *name, __u32 *ret_value);

const char *names_mode(enum guard_mode mode);
int names_mode_parse(const char *name, enum guard_mode *ret_mode);
const char *names_tie_break(enum tie_break tie_break);
const char *names_adopt(enum adopt_policy adopt);
const char *names_dial_policy(enum dial_policy dial_policy);
const char *names_reject_style(enum reject_style reject_style);
const char *names_log_level(enum log_level level);
/* none outbound inbound */
const char *names_direction(enum link_direction direction);
/* free claim link */
const char *names_slot_kind(enum slot_kind kind);
/* none allow refuse hold */
const char *names_verdict(enum verdict verdict);
/* dial knock answer claim link peer */
const char *names_subject(enum cause_subject subject);
/* none closed peer_closed reset unreachable silence aborted local */
const char *names_ending(enum ending ending);
/* The same in words for a person; "" for ENDING_NONE. */
const char *names_ending_text(enum ending ending);

/*
 * What became of it, for a person: "refused", "held", "kept" (a dial whose SYN waits), "allowed"; of what
 * observe mode only counts "would have been refused" and so on, or "would have happened". "" for a fact.
 */
const char *names_outcome(enum cause cause, enum verdict verdict, bool enforced);

/* The cause's name as in CONNGUARD_CAUSES: "dial_backoff". */
const char *names_cause(enum cause cause);
/* The sentence that an operator reads. */
const char *names_cause_text(enum cause cause);
/*
 * What the cause is about and what it does. Of a number that is no cause: SUBJECT_PEER,
 * VERDICT_NONE.
 */
enum cause_subject names_cause_subject(enum cause cause);
enum verdict names_cause_verdict(enum cause cause);
int names_cause_parse(const char *name, enum cause *ret_cause);

/* The name of a positive errno that a refused dial may get, "unknown" for any other. */
const char *names_errno(__u32 error_number);
/*
 * A positive errno that a refused dial may get, by name. -EINVAL with *ret_problem (may be NULL), a
 * constant text: not an errno we know, or one that programs do not read as a failure.
 */
int names_errno_parse(const char *name, __u32 *ret_error_number, const char **ret_problem);

#endif
