/* SPDX-License-Identifier: BSD-2-Clause */
/* See names.h. Tables only; those of the causes come from the one list in connguard/causes.h. */
#include "pure/names.h"

#include <errno.h>
#include <string.h>

#define UNKNOWN "unknown"

const struct names_entry names_mode_table[] = {
	{ MODE_OFF, "off" },
	{ MODE_OBSERVE, "observe" },
	{ MODE_ENFORCE, "enforce" },
	{ 0, NULL },
};

const struct names_entry names_tie_break_table[] = {
	{ TIE_BREAK_ISN, "isn" },
	{ TIE_BREAK_NONE, "none" },
	{ 0, NULL },
};

const struct names_entry names_dial_policy_table[] = {
	{ DIAL_POLICY_SHARED, "shared" },
	{ DIAL_POLICY_CENTRAL, "central" },
	{ 0, NULL },
};

const struct names_entry names_reject_style_table[] = {
	{ REJECT_RESET, "reset" },
	{ REJECT_DROP, "drop" },
	{ 0, NULL },
};

const struct names_entry names_adopt_table[] = {
	{ ADOPT_KEEP, "keep" },
	{ ADOPT_TRIM, "trim" },
	{ 0, NULL },
};

const struct names_entry names_in_backoff_table[] = {
	{ 1, "keep" },
	{ 0, "refuse" },
	{ 0, NULL },
};

const struct names_entry names_yes_no_table[] = {
	{ 0, "no" },
	{ 1, "yes" },
	{ 0, NULL },
};

const struct names_entry names_log_level_table[] = {
	{ LOG_LEVEL_ERROR, "error" },
	{ LOG_LEVEL_WARNING, "warning" },
	{ LOG_LEVEL_INFO, "info" },
	{ LOG_LEVEL_DEBUG, "debug" },
	{ 0, NULL },
};

static const struct names_entry direction_table[] = {
	{ DIRECTION_NONE, "none" },
	{ DIRECTION_OUTBOUND, "outbound" },
	{ DIRECTION_INBOUND, "inbound" },
	{ 0, NULL },
};

static const struct names_entry slot_kind_table[] = {
	{ SLOT_FREE, "free" },
	{ SLOT_CLAIM, "claim" },
	{ SLOT_LINK, "link" },
	{ 0, NULL },
};

static const struct names_entry verdict_table[] = {
	{ VERDICT_NONE, "none" },
	{ VERDICT_ALLOW, "allow" },
	{ VERDICT_REFUSE, "refuse" },
	{ VERDICT_HOLD, "hold" },
	{ 0, NULL },
};

static const struct names_entry ending_table[] = {
	{ ENDING_NONE, "none" },
	{ ENDING_CLOSED, "closed" },
	{ ENDING_PEER_CLOSED, "peer_closed" },
	{ ENDING_RESET, "reset" },
	{ ENDING_UNREACHABLE, "unreachable" },
	{ ENDING_SILENCE, "silence" },
	{ ENDING_ABORTED, "aborted" },
	{ ENDING_LOCAL, "local" },
	{ 0, NULL },
};

static const struct names_entry subject_table[] = {
	{ SUBJECT_DIAL, "dial" },
	{ SUBJECT_KNOCK, "knock" },
	{ SUBJECT_ANSWER, "answer" },
	{ SUBJECT_CLAIM, "claim" },
	{ SUBJECT_LINK, "link" },
	{ SUBJECT_PEER, "peer" },
	{ 0, NULL },
};

/* What a refused dial may look like: failures that every runtime reports as such. */
static const struct names_entry refusal_errno_table[] = {
	{ ECONNREFUSED, "ECONNREFUSED" },
	{ EPERM, "EPERM" },
	{ EACCES, "EACCES" },
	{ EHOSTUNREACH, "EHOSTUNREACH" },
	{ ENETUNREACH, "ENETUNREACH" },
	{ ETIMEDOUT, "ETIMEDOUT" },
	{ ECONNRESET, "ECONNRESET" },
	{ 0, NULL },
};

/* What it must not look like, and how programs read it. */
static const struct {
	const char *name;
	const char *problem;
} unfit_errno_table[] = {
	{ "EISCONN", "programs read it as success" },
	{ "EALREADY", "programs read it as pending" },
	{ "EINPROGRESS", "programs read it as pending" },
	{ "EAGAIN", "programs read it as pending or retry at once" },
	{ "EWOULDBLOCK", "programs read it as pending or retry at once" },
	{ "EINTR", "programs retry at once or wait for the connection" },
	{ "EINVAL", "programs read it as pending, as an error of their own, or retry at once" },
	{ "EADDRNOTAVAIL", "programs retry at once from another port" },
};

static const struct {
	const char *name;
	const char *text;
	enum cause_subject subject;
	enum verdict verdict;
} causes[] = {
#define CAUSE_ROW(name, subject, verdict, text) \
	{ #name, text, SUBJECT_##subject, VERDICT_##verdict },
	CONNGUARD_CAUSES(CAUSE_ROW)
#undef CAUSE_ROW
};

const char *names_lookup(const struct names_entry *table, __u32 value)
{
	for (; table->name; table++)
		if (table->value == value)
			return table->name;
	return UNKNOWN;
}

int names_lookup_value(const struct names_entry *table, const char *name, __u32 *ret_value)
{
	for (; table->name; table++) {
		if (!strcmp(table->name, name)) {
			*ret_value = table->value;
			return 0;
		}
	}
	return -EINVAL;
}

const char *names_mode(enum guard_mode mode)
{
	return names_lookup(names_mode_table, mode);
}

int names_mode_parse(const char *name, enum guard_mode *ret_mode)
{
	__u32 value;

	if (names_lookup_value(names_mode_table, name, &value))
		return -EINVAL;
	*ret_mode = (enum guard_mode)value;
	return 0;
}

const char *names_tie_break(enum tie_break tie_break)
{
	return names_lookup(names_tie_break_table, tie_break);
}

const char *names_adopt(enum adopt_policy adopt)
{
	return names_lookup(names_adopt_table, adopt);
}

const char *names_dial_policy(enum dial_policy dial_policy)
{
	return names_lookup(names_dial_policy_table, dial_policy);
}

const char *names_reject_style(enum reject_style reject_style)
{
	return names_lookup(names_reject_style_table, reject_style);
}

const char *names_log_level(enum log_level level)
{
	return names_lookup(names_log_level_table, level);
}

const char *names_direction(enum link_direction direction)
{
	return names_lookup(direction_table, direction);
}

const char *names_slot_kind(enum slot_kind kind)
{
	return names_lookup(slot_kind_table, kind);
}

const char *names_verdict(enum verdict verdict)
{
	return names_lookup(verdict_table, verdict);
}

const char *names_subject(enum cause_subject subject)
{
	return names_lookup(subject_table, subject);
}

const char *names_ending_text(enum ending ending)
{
	static const char *const texts[] = {
		[ENDING_NONE] = "",
		[ENDING_CLOSED] = "closed by us",
		[ENDING_PEER_CLOSED] = "closed by the peer",
		[ENDING_RESET] = "reset by the peer",
		[ENDING_UNREACHABLE] = "the peer cannot be reached",
		[ENDING_SILENCE] = "no answer",
		[ENDING_ABORTED] = "destroyed from outside",
		[ENDING_LOCAL] = "an error of this host",
	};

	return ending < sizeof(texts) / sizeof(*texts) ? texts[ending] : UNKNOWN;
}

const char *names_ending(enum ending ending)
{
	return names_lookup(ending_table, ending);
}

const char *names_outcome(enum cause cause, enum verdict verdict, bool enforced)
{
	static const char *const outcomes[][2] = {
		[VERDICT_NONE] = { "would have happened", "" },
		[VERDICT_ALLOW] = { "would have happened", "allowed" },
		[VERDICT_REFUSE] = { "would have been refused", "refused" },
		[VERDICT_HOLD] = { "would have been held", "held" },
	};

	if (names_cause_subject(cause) == SUBJECT_DIAL && verdict == VERDICT_HOLD)
		return enforced ? "kept" : "would have been kept";
	return verdict < sizeof(outcomes) / sizeof(*outcomes) ? outcomes[verdict][enforced] : UNKNOWN;
}

const char *names_cause(enum cause cause)
{
	return cause < CAUSE_COUNT ? causes[cause].name : UNKNOWN;
}

const char *names_cause_text(enum cause cause)
{
	return cause < CAUSE_COUNT ? causes[cause].text : UNKNOWN;
}

enum cause_subject names_cause_subject(enum cause cause)
{
	return cause < CAUSE_COUNT ? causes[cause].subject : SUBJECT_PEER;
}

enum verdict names_cause_verdict(enum cause cause)
{
	return cause < CAUSE_COUNT ? causes[cause].verdict : VERDICT_NONE;
}

int names_cause_parse(const char *name, enum cause *ret_cause)
{
	__u32 cause;

	for (cause = 0; cause < CAUSE_COUNT; cause++) {
		if (!strcmp(causes[cause].name, name)) {
			*ret_cause = (enum cause)cause;
			return 0;
		}
	}
	return -EINVAL;
}

const char *names_errno(__u32 error_number)
{
	return names_lookup(refusal_errno_table, error_number);
}

int names_errno_parse(const char *name, __u32 *ret_error_number, const char **ret_problem)
{
	const char *problem = "not an errno that a refused dial may get";
	size_t row;

	if (!names_lookup_value(refusal_errno_table, name, ret_error_number))
		return 0;
	for (row = 0; row < sizeof(unfit_errno_table) / sizeof(unfit_errno_table[0]); row++)
		if (!strcmp(unfit_errno_table[row].name, name))
			problem = unfit_errno_table[row].problem;
	if (ret_problem)
		*ret_problem = problem;
	return -EINVAL;
}
