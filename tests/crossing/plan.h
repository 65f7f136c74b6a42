/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The plan of a run: which pairs of addresses dial each other, when, and what lies between them.
 *
 * Owns the file format. crossing.py writes it; the two ends (crosser.c) and the distance between
 * them (distance.c) read it, each what concerns it. One line is one round, a pair of addresses that
 * no other round uses:
 *
 *   HOME FAR ENDS TO_HOME TO_FAR JITTER EATEN HOME_DIALS FAR_DIALS
 *
 * HOME, FAR: addresses of the two ends. ENDS: when the round is over. TO_HOME, TO_FAR: how long a
 * packet takes. JITTER: by how much longer one may take, at random. EATEN: what the distance loses,
 * some of home-syn, far-syn, home-answer, far-answer separated by commas, or "-": the first SYN or
 * SYN-ACK that this end sends. HOME_DIALS, FAR_DIALS: when this end calls connect(), separated by
 * commas, or "-". All times are microseconds, moments count from the beginning of the run.
 */
#ifndef CONNGUARD_TESTS_CROSSING_PLAN_H
#define CONNGUARD_TESTS_CROSSING_PLAN_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

#define DIALS_MAX 8
#define NS_PER_US INT64_C(1000)
#define NS_PER_SECOND INT64_C(1000000000)

enum side {
	SIDE_HOME,
	SIDE_FAR,
	SIDES,
};

/* Bits of pair.eaten: of this side the first SYN, of this side the first SYN-ACK. */
#define EATEN_SYN(side) (1U << (side))
#define EATEN_ANSWER(side) (4U << (side))

/* When one side of a pair dials. */
struct dials {
	size_t count;
	int64_t at_ns[DIALS_MAX]; /* since the beginning */
};

/* One round. */
struct pair {
	struct in6_addr address[SIDES]; /* IPv4 as v4-mapped */
	size_t number;                  /* of its line, from 0 */
	int64_t ends_ns;                /* since the beginning */
	int64_t delay_ns[SIDES];        /* towards this side */
	int64_t jitter_ns;
	unsigned eaten;                 /* EATEN_ bits */
	struct dials dials[SIDES];
};

/* All rounds, sorted by the address of home. */
struct plan {
	struct pair *pairs;
	size_t count;
};

/* Read a plan. A wrong one is reported with file, line and what was expected, and ends the program. */
void plan_read(const char *path, struct plan *plan);

/* The pair of these two addresses (IPv4 as v4-mapped), or NULL. */
struct pair *plan_find(const struct plan *plan, const struct in6_addr *home,
		       const struct in6_addr *far);

/* An IPv4 address as v4-mapped. */
struct in6_addr plan_mapped(struct in_addr address);

/* The clock of everybody in a run: CLOCK_BOOTTIME, in ns. */
int64_t plan_now_ns(void);

#endif
