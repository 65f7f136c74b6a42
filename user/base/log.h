/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What programs say to the operator, line by line on standard error.
 *
 * Under systemd (JOURNAL_STREAM names our standard error) a line begins with its level as "<N>",
 * elsewhere with the time of day and the level by name. Owns the level and the limit, the only state.
 * Library code does not log, programs do.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

/* Levels, numbered as syslog(3) and sd-daemon(3) do: the smaller the worse. */
enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

/* Say everything up to and including `level` from now on. Before the first call: LOG_LEVEL_INFO. */
void log_set_level(enum log_level level);

/* Whether a line of this level is said, as far as its level goes. */
bool log_says(enum log_level level);

/*
 * Let at most `lines` lines a minute through, errors not counted: whoever can make us log must not be able
 * to fill a disk. 0, as before the first call: no limit. How many were left out is told
 * when their minute is over, by the next line or by log_catch_up().
 */
void log_set_limit(unsigned int lines);

/* Tell how many lines were left out, if their minute is over. For a program that may have no next line. */
void log_catch_up(void);

/*
 * One line, without a newline at its end, made printable (base/printable.h), so that no peer and no
 * file can forge a line or rule a terminal; what is longer than 1,023 bytes is cut. errno stays.
 */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
