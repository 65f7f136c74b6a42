/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Repeatable randomness for tests: the same seed gives the same run on every machine.
 *
 * Owns the generator and how its seed is chosen. Knows nothing of what is tested.
 */
#ifndef CONNGUARD_TESTS_SEEDED_RANDOM_H
#define CONNGUARD_TESTS_SEEDED_RANDOM_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct seeded_random {
	uint64_t state;
};

/*
 * 64 even bits: splitmix64, Steele, Lea and Flood, "Fast splittable pseudorandom number
 * generators", 2014.
 */
static inline uint64_t random_next(struct seeded_random *random)
{
	uint64_t mixed = random->state += 0x9e3779b97f4a7c15ULL;

	mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9ULL;
	mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebULL;
	return mixed ^ mixed >> 31;
}

/*
 * 0 up to but not including `bound`, which is not 0. The bias of the remainder does not matter
 * here.
 */
static inline uint64_t random_below(struct seeded_random *random, uint64_t bound)
{
	return random_next(random) % bound;
}

/* 1 once in `times`, else 0. */
static inline int random_once_in(struct seeded_random *random, uint64_t times)
{
	return random_below(random, times) == 0;
}

/*
 * A number from the environment, or `otherwise` when the variable is not set. Ends the program when
 * it is not a number: a run with another seed than the one asked for proves nothing.
 */
static inline uint64_t number_from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	char *end;
	uint64_t number;

	if (!text || !*text)
		return otherwise;
	errno = 0;
	number = strtoull(text, &end, 0);
	if (errno || *end) {
		fprintf(stderr, "%s=%s: not a number\n", name, text);
		exit(2);
	}
	return number;
}

#endif
