// SPDX-License-Identifier: BSD-2-Clause
/* The state file: what is written is read again, and what is said of a file that is not understood. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pure/address_text.h"
#include "pure/state_file.h"

static int parse(const char *text, struct state *ret_state, struct config_error *ret_error)
{
	FILE *stream = *text ? fmemopen((void *)text, strlen(text), "r") : fopen("/dev/null", "r");
	int result;

	assert_non_null(stream);
	result = state_file_parse(stream, "s", ret_state, ret_error);
	fclose(stream);
	return result;
}

static void refuse(const char *text, const char *expected)
{
	struct state untouched = { .count = 77 };
	struct config_error error;

	assert_int_equal(parse(text, &untouched, &error), -EINVAL);
	assert_string_equal(error.text, expected);
	assert_int_equal(untouched.count, 77);
	assert_null(untouched.entries);
}

/* A decision in the middle of a file that is right otherwise, on line 2. */
static void refuse_line(const char *line, const char *expected)
{
	char text[STATE_LINE_MAX * 2], message[512];

	snprintf(text, sizeof(text), "version 1\n%s\nend\n", line);
	snprintf(message, sizeof(message), "s:2: %s", expected);
	refuse(text, message);
}

/* As text, in memory of malloc(). */
static char *printed(const struct state *state)
{
	char *text = NULL;
	size_t length;
	FILE *stream = open_memstream(&text, &length);

	assert_non_null(stream);
	state_file_print(stream, "name", state);
	assert_int_equal(fclose(stream), 0);
	return text;
}

static struct exempt_prefix prefix_of(const char *text)
{
	struct exempt_prefix prefix;

	assert_int_equal(prefix_from_text(text, &prefix, NULL), 0);
	return prefix;
}

static void takes_decisions(void **state)
{
	static const char text[] = "\xef\xbb\xbf# by hand\n"
				   "version 1 # of the format\r\n"
				   "\n"
				   "  allow\t10.0.0.0/8 by=bob@example.org\n"
				   "allow 2001:db8::7 since=2026-11-29T13:01:50Z\n"
				   "allow 192.0.2.7/32\n"
				   "limit ::ffff:192.0.2.7 7 by=alice since=2024-02-29T23:59:59Z\n"
				   "mode off\n"
				   "end\n"
				   "# nothing\n";
	static const struct {
		enum state_kind kind;
		const char *prefix, *by;
		__u32 value;
		__u64 since;
	} expected[] = {
		{ STATE_MODE, NULL, "", MODE_OFF, 0 },
		{ STATE_LIMIT, "192.0.2.7", "alice", 7, 1709251199 },
		{ STATE_ALLOW_PEER, "2001:db8::7", "", 0, 1795957310 },
		{ STATE_ALLOW_PREFIX, "10.0.0.0/8", "bob@example.org", 0, 0 },
		{ STATE_ALLOW_PREFIX, "192.0.2.7/32", "", 0, 0 },
	};
	struct config_error error;
	struct state taken;

	(void)state;
	assert_int_equal(parse(text, &taken, &error), 0);
	assert_int_equal(taken.count, 5);
	for (size_t i = 0; i < taken.count; i++) {
		const struct exempt_prefix prefix = expected[i].prefix ? prefix_of(expected[i].prefix) :
									 STATE_NO_PREFIX;

		assert_int_equal(taken.entries[i].kind, expected[i].kind);
		assert_memory_equal(&taken.entries[i].prefix, &prefix, sizeof(prefix));
		assert_int_equal(taken.entries[i].value, expected[i].value);
		assert_int_equal(taken.entries[i].since, expected[i].since);
		assert_string_equal(taken.entries[i].by, expected[i].by);
		assert_ptr_equal(state_find(&taken, expected[i].kind, &prefix), &taken.entries[i]);
	}
	state_free(&taken);
}

static void nothing_is_decided(void **state)
{
	struct config_error error;
	struct state taken;

	(void)state;
	assert_int_equal(parse("version 1\nend", &taken, &error), 0);
	assert_int_equal(taken.count, 0);
	state_free(&taken);
}

static void writes_what_it_reads(void **state)
{
	static const char text[] = "# What operators have decided about guard 'name'. Kept by connguardd, see "
				   "connguard(8).\n"
				   "version 1\n"
				   "mode observe since=2026-11-29T13:01:50Z by=alice\n"
				   "limit 192.0.2.7 2 by=alice\n"
				   "allow 2001:db8::7 since=2026-11-29T13:01:51Z\n"
				   "allow 0.0.0.0/0\n"
				   "allow 10.0.0.0/8\n"
				   "allow 192.0.2.7/32\n"
				   "allow 2001:db8::/32\n"
				   "end\n";
	struct config_error error;
	struct state taken;
	char *again;

	(void)state;
	assert_int_equal(parse(text, &taken, &error), 0);
	again = printed(&taken);
	assert_string_equal(again, text);
	free(again);
	state_free(&taken);
}

/* A list stays in order, and says each thing once. */
static void list(void **state)
{
	static const char *const addresses[] = { "192.0.2.9", "192.0.2.1", "2001:db8::1", "192.0.2.5" };
	/* By their bytes: IPv4 begins with zeros. */
	static const char ordered[] = "\nlimit 192.0.2.1 2\nlimit 192.0.2.5 2\nlimit 192.0.2.9 3\n"
				      "limit 2001:db8::1 2\nend\n";
	struct state_entry entry = { .kind = STATE_LIMIT, .value = 2 };
	struct state all = {}, copy;
	char *text;

	(void)state;
	for (int round = 0; round < 8; round++)
		for (size_t i = 0; i < 4; i++) {
			entry.prefix = prefix_of(addresses[i]);
			assert_int_equal(state_set(&all, &entry), 0);
		}
	entry.prefix = prefix_of("192.0.2.9");
	entry.value = 3;
	assert_int_equal(state_set(&all, &entry), 0);
	assert_int_equal(all.count, 4);
	text = printed(&all);
	assert_non_null(strstr(text, ordered));
	free(text);

	assert_int_equal(state_copy(&all, &copy), 0);
	assert_true(state_equal(&all, &copy));
	/* Who and when is another matter. */
	copy.entries[0].since = 1;
	assert_true(state_equal(&all, &copy));
	copy.entries[0].value++;
	assert_false(state_equal(&all, &copy));
	assert_true(state_clear(&copy, STATE_LIMIT, &entry.prefix));
	assert_false(state_clear(&copy, STATE_LIMIT, &entry.prefix));
	assert_false(state_clear(&copy, STATE_ALLOW_PEER, &copy.entries[0].prefix));
	assert_null(state_find(&copy, STATE_LIMIT, &entry.prefix));
	assert_int_equal(copy.count, 3);
	assert_false(state_equal(&all, &copy));
	state_free(&copy);
	assert_int_equal(state_copy(&copy, &copy), 0);
	assert_int_equal(copy.count, 0);
	state_free(&all);
}

static void is_bounded(void **state)
{
	struct state_entry entry = { .kind = STATE_ALLOW_PREFIX, .prefix = { .prefix_length = 128 } };
	struct config_error error;
	struct state all = {}, again;
	char expected[128], *text, *end;

	(void)state;
	for (__u32 i = 0; i < STATE_ENTRIES_MAX; i++) {
		memcpy(entry.prefix.address, &(__u32){ __builtin_bswap32(i) }, sizeof(__u32));
		assert_int_equal(state_set(&all, &entry), 0);
	}
	assert_int_equal(state_set(&all, &entry), 0);
	text = printed(&all);
	assert_int_equal(parse(text, &again, &error), 0);
	assert_true(state_equal(&all, &again));
	entry.prefix.address[15] = 1;
	assert_int_equal(state_set(&all, &entry), -ENOSPC);

	end = strstr(text, "end\n");
	snprintf(end, sizeof("end\n"), "# x\n");
	text = realloc(text, strlen(text) + 64);
	assert_non_null(text);
	strcat(text, "allow 10.0.0.0/8\nend\n");
	snprintf(expected, sizeof(expected), "s:%d: too many decisions, expected at most %d", STATE_ENTRIES_MAX + 4,
		 STATE_ENTRIES_MAX);
	refuse(text, expected);
	free(text);
	state_free(&again);
	state_free(&all);
}

static void refuses_another_file(void **state)
{
	(void)state;
	refuse("", "s:1: the file ends here, expected version 1");
	refuse("\n# only this\n", "s:3: the file ends here, expected version 1");
	refuse("192.0.2.7\n", "s:1: 192.0.2.7: expected version 1 first");
	refuse("mode off\nend\n", "s:1: mode: expected version 1 first");
	refuse("version\n", "s:1: version : expected version 1");
	refuse("version 2\nend\n", "s:1: version 2: expected version 1");
	refuse("version 1 2\nend\n", "s:1: 2: not understood, expected the end of the line");
	refuse("version 1\nversion 1\nend\n", "s:2: version: not understood, expected mode, limit, allow or end");
}

/* Cut off anywhere, it is not the half that is believed. */
static void refuses_a_part(void **state)
{
	static const char text[] = "version 1\nmode off\nallow 192.0.2.7\nend\n";
	struct config_error error;
	struct state taken;
	char part[sizeof(text)];

	(void)state;
	for (size_t length = 0; length < strlen(text) - strlen("\n"); length++) {
		snprintf(part, sizeof(part), "%.*s", (int)length, text);
		assert_int_equal(parse(part, &taken, &error), -EINVAL);
	}
	refuse("version 1\nmode off\n", "s:3: the file ends here, expected a line with end");
	refuse("version 1\nend\nmode off\n", "s:3: mode: behind the end, expected nothing");
	refuse("version 1\nend now\n", "s:2: now: not understood, expected the end of the line");
}

static void refuses_lines(void **state)
{
	char text[STATE_LINE_MAX * 2], line[STATE_LINE_MAX + 8];
	FILE *stream;
	struct config_error error;
	struct state taken;
	static const char zero[] = "version 1\nmode off\0\nend\n";

	(void)state;
	refuse_line("panic", "panic: not understood, expected mode, limit, allow or end");
	refuse_line("mode", "mode : expected off, observe or enforce");
	refuse_line("mode on", "mode on: expected off, observe or enforce");
	refuse_line("mode off off", "off: not understood, expected since=TIME, by=NAME or the end of the line");
	refuse_line("limit", "nothing, expected an address");
	refuse_line("limit 192.0.2", "192.0.2: not an address, expected IPv4 or IPv6 without port or scope");
	refuse_line("limit 192.0.2.0/24 2",
		    "192.0.2.0/24: not an address, expected IPv4 or IPv6 without port or scope");
	refuse_line("limit 127.0.0.1 2",
		    "127.0.0.1: loopback, unspecified or multicast, expected a unicast address");
	refuse_line("limit 192.0.2.7", "nothing: not a limit, expected a number of links from 1 to 7");
	refuse_line("limit 192.0.2.7 0", "0: not a limit, expected a number of links from 1 to 7");
	refuse_line("limit 192.0.2.7 8", "8: not a limit, expected a number of links from 1 to 7");
	refuse_line("limit 192.0.2.7 12", "12: not a limit, expected a number of links from 1 to 7");
	refuse_line("allow", "nothing, expected an address");
	refuse_line("allow everybody", "everybody: not an address, expected IPv4 or IPv6 without port or scope");
	refuse_line("allow ::1", "::1: loopback, unspecified or multicast, expected a unicast address");
	refuse_line("allow 10.0.0.1/8",
		    "10.0.0.1/8: bits set behind the prefix length, expected a prefix such as 10.0.0.0/8");
	refuse_line("allow 192.0.2.7 2", "2: not understood, expected since=TIME, by=NAME or the end of the line");
	refuse_line("mode off by=", "by=: not a login name, expected up to 32 letters, digits and ._@-");
	refuse_line("mode off by=a/b", "by=a/b: not a login name, expected up to 32 letters, digits and ._@-");
	refuse_line("mode off by=a by=a", "by=a: not understood, expected since=TIME, by=NAME or the end of the line");
	refuse("version 1\nmode off\nmode observe\nend\n", "s:3: mode: twice, expected once");
	refuse("version 1\nallow 192.0.2.7\nlimit 192.0.2.7 2\nallow ::ffff:192.0.2.7\nend\n",
	       "s:4: allow: twice, expected once");

	memset(line, ' ', sizeof(line));
	line[sizeof(line) - 1] = '\0';
	snprintf(text, sizeof(text), "version 1\n%s\nend\n", line);
	refuse(text, "s:2: line too long or not text, expected at most 255 bytes");
	stream = fmemopen((void *)zero, sizeof(zero) - 1, "r");
	assert_non_null(stream);
	assert_int_equal(state_file_parse(stream, "s", &taken, &error), -EINVAL);
	assert_string_equal(error.text, "s:2: line too long or not text, expected at most 255 bytes");
	fclose(stream);
}

static void refuses_times(void **state)
{
	static const char *const times[] = {
		"",		      "now",
		"0",		      "2026-11-29",
		"2026-11-29T13:01:50", "2026-11-29T13:01:50Zz",
		"2026-02-29T13:01:50Z", "2026-11-29T24:01:50Z",
		"2026-11-29T13:01:60Z", "2026-1-29T13:01:50Z",
		"1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z",
		"12026-11-29T13:01:50Z", "-026-11-29T13:01:50Z",
	};
	char line[128], expected[256];

	(void)state;
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		snprintf(line, sizeof(line), "mode off since=%s", times[i]);
		snprintf(expected, sizeof(expected),
			 "since=%s: not a time, expected one such as since=2026-11-29T13:01:50Z", times[i]);
		refuse_line(line, expected);
	}
	refuse_line("mode off since=2026-11-29T13:01:50Z since=2026-11-29T13:01:50Z",
		    "since=2026-11-29T13:01:50Z: not understood, expected since=TIME, by=NAME or the end of the line");
}

static void login_names(void **state)
{
	char longest[STATE_BY_MAX + 2];

	(void)state;
	assert_true(state_by_valid(""));
	assert_true(state_by_valid("alice"));
	assert_true(state_by_valid("a.B-9_c@example.org"));
	assert_false(state_by_valid("a b"));
	assert_false(state_by_valid("a\n"));
	assert_false(state_by_valid("\xc3\xa4"));
	memset(longest, 'a', sizeof(longest));
	longest[STATE_BY_MAX + 1] = '\0';
	assert_false(state_by_valid(longest));
	longest[STATE_BY_MAX] = '\0';
	assert_true(state_by_valid(longest));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_decisions),
		cmocka_unit_test(nothing_is_decided),
		cmocka_unit_test(writes_what_it_reads),
		cmocka_unit_test(list),
		cmocka_unit_test(is_bounded),
		cmocka_unit_test(refuses_another_file),
		cmocka_unit_test(refuses_a_part),
		cmocka_unit_test(refuses_lines),
		cmocka_unit_test(refuses_times),
		cmocka_unit_test(login_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
