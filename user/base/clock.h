/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Time: the clock that the kernel side uses too, and durations as text.
 *
 * Owns the one reading of the clock in userspace. Knows nothing of what times mean.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <linux/types.h>
#include <stddef.h>

/* Room for any duration as text, NUL included. */
#define CLOCK_DURATION_TEXT_MAX 48

/*
 * Nanoseconds of CLOCK_BOOTTIME, which goes on during suspend. Cannot fail: the clock is older than
 * our kernel floor.
 */
__u64 clock_now_ns(void);

/* Nanoseconds that a processor has worked for this process so far. */
__u64 clock_worked_ns(void);

/*
 * A duration in ns for a person: the two greatest units, rounded down ("1m 20s", "166ms", "2d 3h",
 * "0s"). The text can be parsed again by clock_duration_parse(). Writes to ret_text
 * (CLOCK_DURATION_TEXT_MAX bytes) and returns it.
 */
const char *clock_duration_format(__u64 duration_ns, char ret_text[CLOCK_DURATION_TEXT_MAX]);

/*
 * A duration from text: whole numbers, each with one of the units ns us ms s m h d, greater units
 * first, blanks allowed between ("10s", "166ms", "1m 20s"). -EINVAL when it is none of that, a bare
 * number included; -ERANGE when it does not fit 64 bits. On failure *ret_problem (may be NULL) is a
 * constant text such as "unit missing".
 */
int clock_duration_parse(const char *text, __u64 *ret_duration_ns, const char **ret_problem);

#endif
