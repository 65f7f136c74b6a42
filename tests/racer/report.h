/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * report.h: what a racer writes down: one JSON object a line, and the counters of its last line.
 *
 * Owns the log file and the format of a line. It must not know what a peer, a task or a link is:
 * callers hand in ready members.
 */
#ifndef RACER_REPORT_H
#define RACER_REPORT_H

#include <stdint.h>
#include <stdio.h>

/** Counts of one run, as the application sees the world. They are printed once, at the end. */
struct report_counts {
	uint64_t dials;			/**< calls of connect() */
	uint64_t dials_connected;	/**< dials that became a connection, however short */
	uint64_t dials_refused;		/**< dials that ended in ECONNREFUSED */
	uint64_t dials_timed_out;	/**< dials given up at the connect timeout, or ETIMEDOUT */
	uint64_t dials_unreachable;	/**< EHOSTUNREACH or ENETUNREACH */
	uint64_t dials_failed_otherwise;
	uint64_t links_accepted;	/**< inbound connections kept */
	uint64_t duplicate_links_seen;	/**< second established connections handed over to us */
	uint64_t rejected_duplicates;	/**< inbound connections closed right after accept */
	uint64_t tasks_spawned;		/**< reconnection tasks started */
	uint64_t tasks_lost;		/**< tasks that ended because the peer was marked */
	uint64_t tasks_over_limit;	/**< tasks not started because of the memory bound */
	uint64_t links_up;		/**< links held at the moment of printing */
};

/** The log of one racer. */
struct report {
	FILE *file;		/**< owned; line buffered, so that kill -9 loses nothing */
	const char *name;	/**< borrowed: the host's name, a member of every line */
};

/**
 * Opens @path for appending ("-" is standard output).
 * @name must outlive the report and must need no JSON escaping.
 * Returns 0 or a negative errno.
 */
int report_open(struct report *report, const char *path, const char *name);

/**
 * Writes {"time": seconds of CLOCK_BOOTTIME, "host": ..., "event": @event, members}.
 * @members_format is empty or a printf format of further JSON members without the leading comma.
 */
void report_event(struct report *report, const char *event, const char *members_format, ...)
	__attribute__((format(printf, 3, 4)));

/** Writes the final line, event "stats". */
void report_stats(struct report *report, const struct report_counts *counts);

/** Closes the file. */
void report_close(struct report *report);

#endif
