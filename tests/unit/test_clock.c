/* SPDX-License-Identifier: BSD-2-Clause */
/* Durations as text, in both directions, and the clock. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"

#define SECOND 1000000000ULL

static void format_shows_two_units(void **state)
{
	static const struct {
		__u64 duration_ns;
		const char *text;
	} rows[] = {
		{ 0, "0s" },
		{ 1, "1ns" },
		{ 1500, "1us 500ns" },
		{ 166000000, "166ms" },
		{ 166999999, "166ms" },
		{ 1500000000, "1s 500ms" },
		{ 10 * SECOND, "10s" },
		{ 10 * SECOND + 999999999, "10s" },
		{ 80 * SECOND, "1m 20s" },
		{ 120 * SECOND, "2m" },
		{ 51 * 3600 * SECOND + 59, "2d 3h" },
		{ ~0ULL, "213503d 23h" },
	};
	char text[CLOCK_DURATION_TEXT_MAX];
	size_t row;

	(void)state;
	for (row = 0; row < sizeof(rows) / sizeof(rows[0]); row++)
		assert_string_equal(clock_duration_format(rows[row].duration_ns, text),
				    rows[row].text);
}

static void parse_takes_units(void **state)
{
	static const struct {
		const char *text;
		__u64 duration_ns;
	} rows[] = {
		{ "0s", 0 },
		{ "1ns", 1 },
		{ "500us", 500000 },
		{ "166ms", 166000000 },
		{ "10s", 10 * SECOND },
		{ "2m", 120 * SECOND },
		{ "12h", 43200 * SECOND },
		{ "1d", 86400 * SECOND },
		{ "1m 20s", 80 * SECOND },
		{ "1m20s", 80 * SECOND },
		{ "1h 5ms", 3600 * SECOND + 5000000 },
		{ "18446744073709551615ns", ~0ULL },
	};
	size_t row;

	(void)state;
	for (row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
		__u64 duration_ns = 77;

		assert_int_equal(clock_duration_parse(rows[row].text, &duration_ns, NULL), 0);
		assert_true(duration_ns == rows[row].duration_ns);
	}
}

static void parse_refuses(void **state)
{
	static const struct {
		const char *text;
		int result;
		const char *problem;
	} rows[] = {
		{ "", -EINVAL, "empty" },
		{ "10", -EINVAL, "unit missing" },
		{ "1m 20", -EINVAL, "unit missing" },
		{ "1.5s", -EINVAL, "not a whole number with a unit" },
		{ "-1s", -EINVAL, "not a whole number with a unit" },
		{ " 1s", -EINVAL, "not a whole number with a unit" },
		{ "1s ", -EINVAL, "not a whole number with a unit" },
		{ "s", -EINVAL, "not a whole number with a unit" },
		{ "10 s", -EINVAL, "unit missing" },
		{ "10sec", -EINVAL, "unknown unit" },
		{ "10M", -EINVAL, "unknown unit" },
		{ "20s 1m", -EINVAL, "units not in falling order" },
		{ "1s 1s", -EINVAL, "units not in falling order" },
		{ "18446744073709551616ns", -ERANGE, "too long" },
		{ "99999999999999999999999999s", -ERANGE, "too long" },
		{ "18446744074s", -ERANGE, "too long" },
		{ "18446744073s 1000ms", -ERANGE, "too long" },
	};
	size_t row;

	(void)state;
	for (row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
		const char *problem = NULL;
		__u64 duration_ns = 77;

		assert_int_equal(clock_duration_parse(rows[row].text, &duration_ns, &problem),
				 rows[row].result);
		assert_string_equal(problem, rows[row].problem);
		assert_int_equal(duration_ns, 77);
	}
}

static void now_is_boottime(void **state)
{
	struct timespec before, after;
	__u64 now_ns;

	(void)state;
	clock_gettime(CLOCK_BOOTTIME, &before);
	now_ns = clock_now_ns();
	clock_gettime(CLOCK_BOOTTIME, &after);
	assert_true(now_ns >= (__u64)before.tv_sec * SECOND + (__u64)before.tv_nsec);
	assert_true(now_ns <= (__u64)after.tv_sec * SECOND + (__u64)after.tv_nsec);
}

/* Work of ours, and nobody's sleep. */
static void worked_is_processor_time(void **state)
{
	const struct timespec pause = { .tv_nsec = 20000000 };
	__u64 before_ns = clock_worked_ns(), after_ns;

	(void)state;
	nanosleep(&pause, NULL);
	after_ns = clock_worked_ns();
	assert_true(after_ns - before_ns < 20000000);
	before_ns = after_ns;
	while (clock_worked_ns() - before_ns < 1000000)
		;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(format_shows_two_units),
		cmocka_unit_test(parse_takes_units),
		cmocka_unit_test(parse_refuses),
		cmocka_unit_test(now_is_boottime),
		cmocka_unit_test(worked_is_processor_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
