// SPDX-License-Identifier: BSD-2-Clause
/* Reading the plan of a run. See plan.h. */
#include "plan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FIELDS 9
#define FIELDS_EXPECTED \
	"HOME FAR ENDS TO_HOME TO_FAR JITTER EATEN HOME_DIALS FAR_DIALS"
/* Of a time in a plan, in microseconds: an hour. */
#define TIME_MAX INT64_C(3600000000)

/* Where the reader is, for its complaints. */
struct place {
	const char *path;
	size_t line;
};

static const struct {
	const char *name;
	unsigned bit;
} eaten_names[] = {
	{ "home-syn", EATEN_SYN(SIDE_HOME) },
	{ "far-syn", EATEN_SYN(SIDE_FAR) },
	{ "home-answer", EATEN_ANSWER(SIDE_HOME) },
	{ "far-answer", EATEN_ANSWER(SIDE_FAR) },
};

static void __attribute__((noreturn)) complain(const struct place *place, const char *value,
					       const char *expected)
{
	fprintf(stderr, "%s:%zu: '%s' is wrong here, expected %s\n", place->path, place->line,
		value, expected);
	exit(2);
}

int64_t plan_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

struct in6_addr plan_mapped(struct in_addr address)
{
	struct in6_addr mapped = { .s6_addr = { [10] = 0xff, [11] = 0xff } };

	memcpy(&mapped.s6_addr[12], &address, sizeof(address));
	return mapped;
}

static struct in6_addr address_of(const struct place *place, const char *text)
{
	struct in6_addr address;
	struct in_addr ipv4;

	if (inet_pton(AF_INET6, text, &address) == 1)
		return address;
	if (inet_pton(AF_INET, text, &ipv4) != 1)
		complain(place, text, "an address");
	return plan_mapped(ipv4);
}

static int64_t time_of(const struct place *place, const char *text)
{
	char *end;
	int64_t value;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno || end == text || *end || value < 0 || value > TIME_MAX)
		complain(place, text, "microseconds, of at most an hour");
	return value * NS_PER_US;
}

static unsigned eaten_of(const struct place *place, char *text)
{
	unsigned eaten = 0;
	char *word, *rest;
	size_t i;

	if (!strcmp(text, "-"))
		return 0;
	for (word = strtok_r(text, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
		for (i = 0; i < sizeof(eaten_names) / sizeof(eaten_names[0]); i++)
			if (!strcmp(word, eaten_names[i].name))
				break;
		if (i == sizeof(eaten_names) / sizeof(eaten_names[0]))
			complain(place, word, "home-syn, far-syn, home-answer or far-answer");
		eaten |= eaten_names[i].bit;
	}
	return eaten;
}

static struct dials dials_of(const struct place *place, char *text)
{
	struct dials dials = { 0 };
	char *word, *rest;

	if (!strcmp(text, "-"))
		return dials;
	for (word = strtok_r(text, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
		if (dials.count == DIALS_MAX)
			complain(place, word, "fewer dials");
		dials.at_ns[dials.count++] = time_of(place, word);
	}
	return dials;
}

static struct pair pair_of(const struct place *place, char *line)
{
	char *fields[FIELDS], *rest, *word;
	size_t count = 0;
	struct pair pair = { .number = place->line - 1 };

	for (word = strtok_r(line, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
		if (count == FIELDS)
			complain(place, word, FIELDS_EXPECTED);
		fields[count++] = word;
	}
	if (count < FIELDS)
		complain(place, count ? fields[count - 1] : "", FIELDS_EXPECTED);
	pair.address[SIDE_HOME] = address_of(place, fields[0]);
	pair.address[SIDE_FAR] = address_of(place, fields[1]);
	pair.ends_ns = time_of(place, fields[2]);
	pair.delay_ns[SIDE_HOME] = time_of(place, fields[3]);
	pair.delay_ns[SIDE_FAR] = time_of(place, fields[4]);
	pair.jitter_ns = time_of(place, fields[5]);
	pair.eaten = eaten_of(place, fields[6]);
	pair.dials[SIDE_HOME] = dials_of(place, fields[7]);
	pair.dials[SIDE_FAR] = dials_of(place, fields[8]);
	return pair;
}

static int compare_pairs(const void *left, const void *right)
{
	const struct pair *a = left, *b = right;

	return memcmp(&a->address[SIDE_HOME], &b->address[SIDE_HOME], sizeof(struct in6_addr));
}

void plan_read(const char *path, struct plan *plan)
{
	struct place place = { .path = path };
	size_t room = 0, size = 0;
	char *line = NULL;
	FILE *file;

	*plan = (struct plan){ 0 };
	file = fopen(path, "re");
	if (!file) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(2);
	}
	while (getline(&line, &size, file) > 0) {
		place.line++;
		if (plan->count == room) {
			room = room ? room * 2 : 1024;
			plan->pairs = reallocarray(plan->pairs, room, sizeof(*plan->pairs));
			if (!plan->pairs) {
				fprintf(stderr, "%s: no memory\n", path);
				exit(1);
			}
		}
		plan->pairs[plan->count++] = pair_of(&place, line);
	}
	free(line);
	fclose(file);
	if (plan->count)
		qsort(plan->pairs, plan->count, sizeof(*plan->pairs), compare_pairs);
}

struct pair *plan_find(const struct plan *plan, const struct in6_addr *home,
		       const struct in6_addr *far)
{
	struct pair key = { .address = { [SIDE_HOME] = *home } };
	struct pair *pair;

	if (!plan->count)
		return NULL;
	pair = bsearch(&key, plan->pairs, plan->count, sizeof(key), compare_pairs);
	if (!pair || memcmp(&pair->address[SIDE_FAR], far, sizeof(*far)))
		return NULL;
	return pair;
}
