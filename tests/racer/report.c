// SPDX-License-Identifier: BSD-2-Clause
/*
 * report.c: writes the lines that report.h describes. Knows nothing of connections.
 */
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

int report_open(struct report *report, const char *path, const char *name)
{
	FILE *file = strcmp(path, "-") == 0 ? stdout : fopen(path, "ae");

	if (!file)
		return -errno;
	setvbuf(file, NULL, _IOLBF, 0);
	report->file = file;
	report->name = name;
	return 0;
}

void report_event(struct report *report, const char *event, const char *members_format, ...)
{
	struct timespec now;
	va_list arguments;

	clock_gettime(CLOCK_BOOTTIME, &now);
	fprintf(report->file, "{\"time\":%lld.%06ld,\"host\":\"%s\",\"event\":\"%s\"",
		(long long)now.tv_sec, now.tv_nsec / 1000, report->name, event);
	if (*members_format) {
		fputc(',', report->file);
		va_start(arguments, members_format);
		vfprintf(report->file, members_format, arguments);
		va_end(arguments);
	}
	fputs("}\n", report->file);
}

void report_stats(struct report *report, const struct report_counts *counts)
{
	report_event(report, "stats",
		     "\"dials\":%" PRIu64 ",\"dial_results\":{\"connected\":%" PRIu64
		     ",\"refused\":%" PRIu64 ",\"timed_out\":%" PRIu64 ",\"unreachable\":%" PRIu64
		     ",\"other\":%" PRIu64 "},\"links_accepted\":%" PRIu64
		     ",\"duplicate_links_seen\":%" PRIu64 ",\"rejected_duplicates\":%" PRIu64
		     ",\"tasks_spawned\":%" PRIu64 ",\"tasks_lost\":%" PRIu64
		     ",\"tasks_over_limit\":%" PRIu64 ",\"links_up\":%" PRIu64,
		     counts->dials, counts->dials_connected, counts->dials_refused,
		     counts->dials_timed_out, counts->dials_unreachable,
		     counts->dials_failed_otherwise, counts->links_accepted,
		     counts->duplicate_links_seen, counts->rejected_duplicates,
		     counts->tasks_spawned, counts->tasks_lost, counts->tasks_over_limit,
		     counts->links_up);
}

void report_close(struct report *report)
{
	if (report->file && report->file != stdout)
		fclose(report->file);
	report->file = NULL;
}
