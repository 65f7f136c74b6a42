/* SPDX-License-Identifier: BSD-2-Clause */
/* See log.h. Owns the level, the limit and the form of a line. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/budget.h"
#include "base/clock.h"
#include "base/printable.h"

#define MINUTE_NS 60000000000ULL
/* Bytes of a line's text, NUL included. */
#define TEXT_MAX 1024

static enum log_level greatest_level = LOG_LEVEL_INFO;
static struct budget lines_a_minute = { .period_ns = MINUTE_NS };

void log_set_level(enum log_level level)
{
	greatest_level = level;
}

bool log_says(enum log_level level)
{
	return level <= greatest_level;
}

/*
 * JOURNAL_STREAM is "DEVICE:INODE" of the stream that systemd connected to the journal; a program
 * that had its standard error redirected since still inherits the variable (systemd.exec(5)).
 */
static bool stream_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat status;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
	       !fstat(STDERR_FILENO, &status) && status.st_dev == device && status.st_ino == inode;
}

static void write_text(enum log_level level, const char *name, char *text)
{
	char line[TEXT_MAX + 64], when[16] = "";
	struct tm local_time;
	const char *rest;
	time_t now;
	int length;

	text_make_printable(text);
	if (stream_is_journal()) {
		length = snprintf(line, sizeof(line), "<%u>%s\n", level, text);
	} else {
		now = time(NULL);
		if (localtime_r(&now, &local_time))
			strftime(when, sizeof(when), "%H:%M:%S", &local_time);
		length = snprintf(line, sizeof(line), "%s %s: %s\n", when, name, text);
	}
	/*
	 * One write(2) as a rule, so that lines of several processes do not mix. A log that cannot
	 * be written is lost.
	 */
	for (rest = line; length > 0;) {
		ssize_t written = write(STDERR_FILENO, rest, (size_t)length);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			break;
		rest += written;
		length -= (int)written;
	}
}

void log_set_limit(unsigned int lines)
{
	lines_a_minute.max = lines;
}

void log_catch_up(void)
{
	int saved_errno = errno;
	char text[TEXT_MAX];
	__u64 left_out;

	if (budget_tell(&lines_a_minute, clock_now_ns(), &left_out)) {
		snprintf(text, sizeof(text), "%llu lines were left out: more than %u a minute",
			 (unsigned long long)left_out, lines_a_minute.max);
		write_text(LOG_LEVEL_WARNING, "warning", text);
	}
	errno = saved_errno;
}

static void write_line(enum log_level level, const char *name, const char *format,
		       va_list arguments)
{
	int saved_errno = errno;
	char text[TEXT_MAX];

	if (!log_says(level))
		return;
	log_catch_up();
	if (level == LOG_LEVEL_ERROR || budget_spend(&lines_a_minute, clock_now_ns())) {
		vsnprintf(text, sizeof(text), format, arguments);
		write_text(level, name, text);
	}
	errno = saved_errno;
}

void log_error(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	write_line(LOG_LEVEL_ERROR, "error", format, arguments);
	va_end(arguments);
}

void log_warning(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	write_line(LOG_LEVEL_WARNING, "warning", format, arguments);
	va_end(arguments);
}

void log_info(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	write_line(LOG_LEVEL_INFO, "info", format, arguments);
	va_end(arguments);
}

void log_debug(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	write_line(LOG_LEVEL_DEBUG, "debug", format, arguments);
	va_end(arguments);
}
