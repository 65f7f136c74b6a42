/* SPDX-License-Identifier: BSD-2-Clause */
/* See clock.h. Owns the units and their spelling; the clock itself is the kernel's. */
#include "base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Greatest first: both directions go through it once. */
static const struct {
	const char *name;
	__u64 length_ns;
} units[] = {
	{ "d", 24 * 3600 * 1000000000ULL }, { "h", 3600 * 1000000000ULL },
	{ "m", 60 * 1000000000ULL },	    { "s", 1000000000ULL },
	{ "ms", 1000000ULL },		    { "us", 1000ULL },
	{ "ns", 1ULL },
};

#define UNIT_COUNT (sizeof(units) / sizeof(units[0]))
#define SECOND_NS 1000000000ULL

static __u64 reading(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (__u64)now.tv_sec * SECOND_NS + (__u64)now.tv_nsec;
}

__u64 clock_now_ns(void)
{
	return reading(CLOCK_BOOTTIME);
}

__u64 clock_worked_ns(void)
{
	return reading(CLOCK_PROCESS_CPUTIME_ID);
}

const char *clock_duration_format(__u64 duration_ns, char ret_text[CLOCK_DURATION_TEXT_MAX])
{
	size_t unit;
	__u64 count, rest;

	if (!duration_ns)
		return strcpy(ret_text, "0s");
	for (unit = 0; duration_ns < units[unit].length_ns;)
		unit++;
	count = duration_ns / units[unit].length_ns;
	rest = 0;
	/* "41s 250ms" says no more to a person than "41s" does. */
	if (unit + 1 < UNIT_COUNT && (units[unit].length_ns > SECOND_NS || count < 10))
		rest = duration_ns % units[unit].length_ns / units[unit + 1].length_ns;
	if (rest)
		snprintf(ret_text, CLOCK_DURATION_TEXT_MAX, "%llu%s %llu%s", count,
			 units[unit].name, rest, units[unit + 1].name);
	else
		snprintf(ret_text, CLOCK_DURATION_TEXT_MAX, "%llu%s", count, units[unit].name);
	return ret_text;
}

/*
 * The unit whose name is the `length` letters at `text`, among those from `first` on; UNIT_COUNT:
 * none.
 */
static size_t find_unit(const char *text, size_t length, size_t first)
{
	size_t unit;

	for (unit = first; unit < UNIT_COUNT; unit++)
		if (strlen(units[unit].name) == length && !memcmp(units[unit].name, text, length))
			break;
	return unit;
}

int clock_duration_parse(const char *text, __u64 *ret_duration_ns, const char **ret_problem)
{
	const char *problem = NULL;
	size_t unit = 0;
	__u64 total = 0;
	int result = -EINVAL;

	if (!*text)
		problem = "empty";
	while (*text && !problem) {
		__u64 number = 0, part;
		size_t letters = 0;

		if (!isdigit((unsigned char)*text)) {
			problem = "not a whole number with a unit";
			break;
		}
		for (; isdigit((unsigned char)*text); text++) {
			if (__builtin_mul_overflow(number, 10, &number) ||
			    __builtin_add_overflow(number, (__u64)(*text - '0'), &number)) {
				result = -ERANGE;
				problem = "too long";
				break;
			}
		}
		if (problem)
			break;
		while (isalpha((unsigned char)text[letters]))
			letters++;
		if (!letters) {
			problem = *text == '.' || *text == ',' ? "not a whole number with a unit" :
								 "unit missing";
			break;
		}
		if (find_unit(text, letters, 0) == UNIT_COUNT) {
			problem = "unknown unit";
			break;
		}
		unit = find_unit(text, letters, unit);
		if (unit == UNIT_COUNT) {
			problem = "units not in falling order";
			break;
		}
		text += letters;
		if (__builtin_mul_overflow(number, units[unit].length_ns, &part) ||
		    __builtin_add_overflow(total, part, &total)) {
			result = -ERANGE;
			problem = "too long";
			break;
		}
		unit++;
		while (*text == ' ' && text[1])
			text++;
	}
	if (problem) {
		if (ret_problem)
			*ret_problem = problem;
		return result;
	}
	*ret_duration_ns = total;
	return 0;
}
