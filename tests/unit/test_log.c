/* SPDX-License-Identifier: BSD-2-Clause */
/* The form of a log line, read back from standard error. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

/* Standard error, led into a pipe while `say` runs; what came out goes to ret_text. */
static void capture(void (*say)(const char *name_of_stream), char *ret_text, size_t size)
{
	int saved = dup(STDERR_FILENO), ends[2];
	char name_of_stream[64];
	struct stat status;
	ssize_t length;

	assert_int_equal(pipe(ends), 0);
	assert_int_equal(fstat(ends[1], &status), 0);
	snprintf(name_of_stream, sizeof(name_of_stream), "%llu:%llu",
		 (unsigned long long)status.st_dev, (unsigned long long)status.st_ino);
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
	say(name_of_stream);
	dup2(saved, STDERR_FILENO);
	close(saved);
	length = read(ends[0], ret_text, size - 1);
	assert_true(length >= 0);
	ret_text[length] = '\0';
	close(ends[0]);
	unsetenv("JOURNAL_STREAM");
}

static void say_plain(const char *name_of_stream)
{
	char name_of_another[80];

	/* Inherited, but of a stream that is not ours any more. */
	snprintf(name_of_another, sizeof(name_of_another), "%s0", name_of_stream);
	setenv("JOURNAL_STREAM", name_of_another, 1);
	errno = EBUSY;
	log_warning("peer %d\nforged \xc2\x9b" "2J \x9b" "2J", 7);
	assert_int_equal(errno, EBUSY);
	log_debug("not asked for");
}

static void say_to_journal(const char *name_of_stream)
{
	setenv("JOURNAL_STREAM", name_of_stream, 1);
	log_error("one");
	log_info("two");
}

static void say_long(const char *name_of_stream)
{
	static char text[4096];

	(void)name_of_stream;
	memset(text, 'x', sizeof(text) - 1);
	log_info("%s", text);
}

static void say_by_level(const char *name_of_stream)
{
	(void)name_of_stream;
	log_set_level(LOG_LEVEL_ERROR);
	if (!log_says(LOG_LEVEL_ERROR) || log_says(LOG_LEVEL_WARNING))
		log_error("what is said is not known");
	log_warning("not asked for");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("asked for");
	log_set_level(LOG_LEVEL_INFO);
}

static void say_much(const char *name_of_stream)
{
	int i;

	(void)name_of_stream;
	log_set_limit(3);
	for (i = 0; i < 100; i++)
		log_info("line %d", i);
	log_warning("left out too");
	log_error("errors pass");
	log_catch_up();
	log_set_limit(0);
	log_info("without a limit");
}

static void lines_have_a_limit(void **state)
{
	char text[2048], *line, *rest = text;
	static const char *const expected[] = { "info: line 0", "info: line 1", "info: line 2",
						"error: errors pass", "info: without a limit" };
	size_t count = 0;

	(void)state;
	capture(say_much, text, sizeof(text));
	while ((line = strsep(&rest, "\n")) && *line) {
		assert_true(count < sizeof(expected) / sizeof(expected[0]));
		assert_string_equal(line + strlen("00:00:00 "), expected[count]);
		count++;
	}
	assert_int_equal(count, sizeof(expected) / sizeof(expected[0]));
}

static void plain_line_has_time_and_level(void **state)
{
	char text[2048];

	(void)state;
	capture(say_plain, text, sizeof(text));
	assert_int_equal(strspn(text, "0123456789:"), 8);
	assert_string_equal(text + 8, " warning: peer 7?forged ??2J ?2J\n");
}

static void journal_line_has_a_number(void **state)
{
	char text[2048];

	(void)state;
	capture(say_to_journal, text, sizeof(text));
	assert_string_equal(text, "<3>one\n<6>two\n");
}

static void long_line_is_cut(void **state)
{
	char text[4096];

	(void)state;
	capture(say_long, text, sizeof(text));
	assert_int_equal(strlen(text), strlen("00:00:00 info: ") + 1023 + 1);
	assert_int_equal(text[strlen(text) - 1], '\n');
}

static void level_is_obeyed(void **state)
{
	char text[2048];

	(void)state;
	capture(say_by_level, text, sizeof(text));
	assert_string_equal(text + 8, " debug: asked for\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_line_has_time_and_level),
		cmocka_unit_test(journal_line_has_a_number),
		cmocka_unit_test(long_line_is_cut),
		cmocka_unit_test(level_is_obeyed),
		cmocka_unit_test(lines_have_a_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
