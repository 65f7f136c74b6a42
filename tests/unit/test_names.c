/* SPDX-License-Identifier: BSD-2-Clause */
/* Enumerations by name: every one has a name of its own, in both directions. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pure/names.h"

static void causes(void **state)
{
	__u32 cause, other;

	(void)state;
	for (cause = 0; cause < CAUSE_COUNT; cause++) {
		enum cause parsed = CAUSE_COUNT;

		assert_string_not_equal(names_cause((enum cause)cause), "unknown");
		assert_true(*names_cause_text((enum cause)cause));
		assert_string_not_equal(names_subject(names_cause_subject((enum cause)cause)),
					"unknown");
		assert_string_not_equal(names_verdict(names_cause_verdict((enum cause)cause)),
					"unknown");
		assert_int_equal(names_cause_parse(names_cause((enum cause)cause), &parsed), 0);
		assert_int_equal(parsed, cause);
		for (other = 0; other < cause; other++)
			assert_string_not_equal(names_cause((enum cause)other),
						names_cause((enum cause)cause));
	}
	assert_string_equal(names_cause(CAUSE_dial_backoff), "dial_backoff");
	assert_string_equal(names_cause_text(CAUSE_dial_backoff), "the peer is in backoff");
	assert_int_equal(names_cause_subject(CAUSE_knock_linked), SUBJECT_KNOCK);
	assert_int_equal(names_cause_verdict(CAUSE_knock_tie_lost), VERDICT_HOLD);
}

static void outside_of_the_causes(void **state)
{
	enum cause cause = CAUSE_dial_idle;

	(void)state;
	assert_string_equal(names_cause(CAUSE_COUNT), "unknown");
	assert_string_equal(names_cause_text((enum cause)~0U), "unknown");
	assert_int_equal(names_cause_subject(CAUSE_COUNT), SUBJECT_PEER);
	assert_int_equal(names_cause_verdict(CAUSE_COUNT), VERDICT_NONE);
	assert_int_equal(names_cause_parse("dial_Idle", &cause), -EINVAL);
	assert_int_equal(names_cause_parse("", &cause), -EINVAL);
	assert_int_equal(cause, CAUSE_dial_idle);
}

static void enumerations(void **state)
{
	enum guard_mode mode = MODE_OFF;

	(void)state;
	assert_string_equal(names_mode(MODE_OFF), "off");
	assert_string_equal(names_mode(MODE_OBSERVE), "observe");
	assert_string_equal(names_mode(MODE_ENFORCE), "enforce");
	assert_string_equal(names_mode((enum guard_mode)3), "unknown");
	assert_int_equal(names_mode_parse("observe", &mode), 0);
	assert_int_equal(mode, MODE_OBSERVE);
	assert_int_equal(names_mode_parse("unknown", &mode), -EINVAL);
	assert_int_equal(names_mode_parse("Enforce", &mode), -EINVAL);
	assert_int_equal(mode, MODE_OBSERVE);

	assert_string_equal(names_tie_break(TIE_BREAK_ISN), "isn");
	assert_string_equal(names_tie_break(TIE_BREAK_NONE), "none");
	assert_string_equal(names_dial_policy(DIAL_POLICY_SHARED), "shared");
	assert_string_equal(names_dial_policy(DIAL_POLICY_CENTRAL), "central");
	assert_string_equal(names_reject_style(REJECT_RESET), "reset");
	assert_string_equal(names_reject_style(REJECT_DROP), "drop");
	assert_string_equal(names_log_level(LOG_LEVEL_ERROR), "error");
	assert_string_equal(names_log_level(LOG_LEVEL_WARNING), "warning");
	assert_string_equal(names_log_level(LOG_LEVEL_INFO), "info");
	assert_string_equal(names_log_level(LOG_LEVEL_DEBUG), "debug");
	assert_string_equal(names_direction(DIRECTION_NONE), "none");
	assert_string_equal(names_direction(DIRECTION_OUTBOUND), "outbound");
	assert_string_equal(names_direction(DIRECTION_INBOUND), "inbound");
	assert_string_equal(names_slot_kind(SLOT_FREE), "free");
	assert_string_equal(names_slot_kind(SLOT_CLAIM), "claim");
	assert_string_equal(names_slot_kind(SLOT_LINK), "link");
	assert_string_equal(names_verdict(VERDICT_NONE), "none");
	assert_string_equal(names_verdict(VERDICT_ALLOW), "allow");
	assert_string_equal(names_verdict(VERDICT_REFUSE), "refuse");
	assert_string_equal(names_verdict(VERDICT_HOLD), "hold");
	assert_string_equal(names_subject((enum cause_subject)0), "unknown");
}

static void endings(void **state)
{
	__u32 ending, other;

	(void)state;
	for (ending = ENDING_NONE; ending <= ENDING_LOCAL; ending++) {
		assert_string_not_equal(names_ending((enum ending)ending), "unknown");
		assert_string_not_equal(names_ending_text((enum ending)ending), "unknown");
		for (other = ENDING_NONE; other < ending; other++) {
			assert_string_not_equal(names_ending((enum ending)other),
						names_ending((enum ending)ending));
			assert_string_not_equal(names_ending_text((enum ending)other),
						names_ending_text((enum ending)ending));
		}
	}
	assert_string_equal(names_ending(ENDING_NONE), "none");
	assert_string_equal(names_ending_text(ENDING_NONE), "");
	assert_string_equal(names_ending(ENDING_PEER_CLOSED), "peer_closed");
	assert_string_equal(names_ending_text(ENDING_PEER_CLOSED), "closed by the peer");
	assert_string_equal(names_ending_text(ENDING_CLOSED), "closed by us");
	assert_string_equal(names_ending((enum ending)(ENDING_LOCAL + 1)), "unknown");
	assert_string_equal(names_ending_text((enum ending)(ENDING_LOCAL + 1)), "unknown");
}

static void outcomes(void **state)
{
	(void)state;
	assert_string_equal(names_outcome(CAUSE_dial_linked, VERDICT_REFUSE, true), "refused");
	assert_string_equal(names_outcome(CAUSE_knock_pending, VERDICT_HOLD, true), "held");
	assert_string_equal(names_outcome(CAUSE_dial_idle, VERDICT_ALLOW, true), "allowed");
	assert_string_equal(names_outcome(CAUSE_dial_kept, VERDICT_HOLD, true), "kept");
	assert_string_equal(names_outcome(CAUSE_link_ended, VERDICT_NONE, true), "");
	assert_string_equal(names_outcome(CAUSE_dial_linked, VERDICT_REFUSE, false),
			    "would have been refused");
	assert_string_equal(names_outcome(CAUSE_knock_pending, VERDICT_HOLD, false),
			    "would have been held");
	assert_string_equal(names_outcome(CAUSE_dial_kept, VERDICT_HOLD, false), "would have been kept");
	/* It was let in all the same; what it is let in for is not done. */
	assert_string_equal(names_outcome(CAUSE_knock_goes_first, VERDICT_ALLOW, false),
			    "would have happened");
	assert_string_equal(names_outcome(CAUSE_link_duplicate, VERDICT_NONE, false),
			    "would have happened");
	assert_string_equal(names_outcome(CAUSE_dial_linked, (enum verdict)4, true), "unknown");
}

static void tables_are_read_both_ways(void **state)
{
	static const struct names_entry *const tables[] = {
		names_mode_table,	  names_tie_break_table, names_dial_policy_table,
		names_reject_style_table, names_log_level_table, names_in_backoff_table,
		names_yes_no_table,
	};
	const struct names_entry *entry;
	size_t table;
	__u32 value;

	(void)state;
	for (table = 0; table < sizeof(tables) / sizeof(tables[0]); table++) {
		for (entry = tables[table]; entry->name; entry++) {
			assert_string_equal(names_lookup(tables[table], entry->value), entry->name);
			assert_int_equal(names_lookup_value(tables[table], entry->name, &value), 0);
			assert_int_equal(value, entry->value);
		}
		assert_int_equal(names_lookup_value(tables[table], "", &value), -EINVAL);
	}
}

static void errnos(void **state)
{
	static const struct {
		const char *name;
		__u32 number;
	} fit[] = {
		{ "ECONNREFUSED", ECONNREFUSED }, { "EPERM", EPERM },
		{ "EACCES", EACCES },		  { "EHOSTUNREACH", EHOSTUNREACH },
		{ "ENETUNREACH", ENETUNREACH },	  { "ETIMEDOUT", ETIMEDOUT },
		{ "ECONNRESET", ECONNRESET },
	};
	static const char *const unfit[] = {
		"EISCONN", "EALREADY", "EINPROGRESS", "EAGAIN",
		"EWOULDBLOCK", "EINTR", "EINVAL", "EADDRNOTAVAIL",
	};
	const char *problem;
	__u32 number;
	size_t row;

	(void)state;
	for (row = 0; row < sizeof(fit) / sizeof(fit[0]); row++) {
		assert_int_equal(names_errno_parse(fit[row].name, &number, NULL), 0);
		assert_int_equal(number, fit[row].number);
		assert_string_equal(names_errno(number), fit[row].name);
	}
	number = 77;
	for (row = 0; row < sizeof(unfit) / sizeof(unfit[0]); row++) {
		assert_int_equal(names_errno_parse(unfit[row], &number, &problem), -EINVAL);
		assert_non_null(strstr(problem, "programs "));
		assert_int_equal(names_errno_parse(unfit[row], &number, NULL), -EINVAL);
	}
	assert_int_equal(names_errno_parse("ENOENT", &number, &problem), -EINVAL);
	assert_string_equal(problem, "not an errno that a refused dial may get");
	assert_int_equal(names_errno_parse("111", &number, &problem), -EINVAL);
	assert_int_equal(number, 77);
	assert_string_equal(names_errno(EINPROGRESS), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(causes), cmocka_unit_test(outside_of_the_causes),
		cmocka_unit_test(enumerations), cmocka_unit_test(tables_are_read_both_ways),
		cmocka_unit_test(errnos),
		cmocka_unit_test(endings), cmocka_unit_test(outcomes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
