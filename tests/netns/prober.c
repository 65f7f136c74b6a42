// SPDX-License-Identifier: BSD-2-Clause
/*
 * Dials one address every millisecond and says what came of each dial: to see a moment without a
 * guard.
 *
 * usage: prober CGROUP-DIRECTORY NETNS-FILE COMMAND-NAME ADDRESS PORT INTERVAL-US LIMIT [SOURCE]
 *
 * It moves itself into the cgroup and the network namespace, takes the command name as its own, and
 * dials, until its standard input ends or LIMIT dials are made (0: no limit). Dials do not wait for
 * each other. {"dials": N} is printed ten times a second, and at the end one line more:
 *
 *   {"dials": N, "outcomes": {"ECONNREFUSED": N, ...}, "median_us": N, "late_us": N, "longest_us": N,
 *    "strange": [[outcome, nanoseconds of CLOCK_BOOTTIME], ...]}
 *
 * An outcome is an errno by name, "linked", or "silent": no answer within SILENCE_MS. median_us,
 * late_us and longest_us are of the times from one dial to the next: the median, what 99 of 100 stay
 * below, and the longest, in which a gap could have hidden. "strange" has the first outcomes that are
 * not ECONNREFUSED.
 *
 * A real-time process, so that the daemon's start and other tests do not keep it from dialing.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SECOND 1000000000LL
/* A SYN that nobody answered by then was dropped; it is retransmitted after a second. */
#define SILENCE_MS 300
#define PROGRESS_NS (NS_PER_SECOND / 10)
/* Dials that wait for an answer; more than are made within SILENCE_MS. */
#define WAITING_MAX 1024
#define STRANGE_MAX 20
/* Times between dials are counted in buckets of this width. */
#define BUCKET_US 50
#define BUCKETS 20000
#define OUTCOMES_MAX 16

/* A dial that has no answer yet. */
struct waiting {
	int fd;
	int64_t since;
};

static struct {
	const char *name;
	unsigned long count;
} outcomes[OUTCOMES_MAX];

static struct {
	const char *outcome;
	int64_t when;
} strange[STRANGE_MAX];

static struct waiting waiting[WAITING_MAX];
static unsigned int waiting_count, strange_count;
static unsigned long dials, buckets[BUCKETS];
static int64_t longest;

static int64_t now_of(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "prober: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- outcomes ---- */

static void note(const char *name)
{
	int i;

	for (i = 0; i < OUTCOMES_MAX - 1 && outcomes[i].name && strcmp(outcomes[i].name, name); i++)
		;
	outcomes[i].name = name;
	outcomes[i].count++;
	if (strcmp(name, "ECONNREFUSED") && strange_count < STRANGE_MAX) {
		strange[strange_count].outcome = name;
		strange[strange_count++].when = now_of(CLOCK_BOOTTIME);
	}
}

static void end_dial(int fd, int code)
{
	const struct linger reset = { .l_onoff = 1 };

	note(code ? strerrorname_np(code) : "linked");
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
}

/* End the dials that have an answer, or have waited long enough. `all`: those that have not, too. */
static void settle(bool all)
{
	int64_t now = now_of(CLOCK_MONOTONIC);
	unsigned int kept = 0;

	for (unsigned int i = 0; i < waiting_count; i++) {
		struct pollfd answer = { .fd = waiting[i].fd, .events = POLLOUT };
		socklen_t length = sizeof(int);
		int code = 0;

		if (poll(&answer, 1, 0) == 1) {
			getsockopt(waiting[i].fd, SOL_SOCKET, SO_ERROR, &code, &length);
			end_dial(waiting[i].fd, code);
		} else if (all || now - waiting[i].since > SILENCE_MS * 1000000LL) {
			note("silent");
			close(waiting[i].fd);
		} else {
			waiting[kept++] = waiting[i];
		}
	}
	waiting_count = kept;
}

/* ---- dialing ---- */

union endpoint {
	struct sockaddr any;
	struct sockaddr_in ipv4;
	struct sockaddr_in6 ipv6;
};

static socklen_t endpoint_of(const char *text, int port, union endpoint *endpoint)
{
	memset(endpoint, 0, sizeof(*endpoint));
	if (inet_pton(AF_INET, text, &endpoint->ipv4.sin_addr) == 1) {
		endpoint->ipv4.sin_family = AF_INET;
		endpoint->ipv4.sin_port = htons(port);
		return sizeof(endpoint->ipv4);
	}
	if (inet_pton(AF_INET6, text, &endpoint->ipv6.sin6_addr) == 1) {
		endpoint->ipv6.sin6_family = AF_INET6;
		endpoint->ipv6.sin6_port = htons(port);
		return sizeof(endpoint->ipv6);
	}
	errno = EINVAL;
	die(text);
	return 0;
}

static void dial(const union endpoint *target, socklen_t target_length,
		 const union endpoint *source, socklen_t source_length)
{
	int one = 1, fd;

	fd = socket(target->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	if (source) {
		setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
		if (bind(fd, &source->any, source_length))
			die("bind");
	}
	dials++;
	if (!connect(fd, &target->any, target_length)) {
		end_dial(fd, 0);
	} else if (errno != EINPROGRESS) {
		end_dial(fd, errno);
	} else if (waiting_count < WAITING_MAX) {
		waiting[waiting_count].fd = fd;
		waiting[waiting_count++].since = now_of(CLOCK_MONOTONIC);
	} else {
		errno = ENOBUFS;
		die("too many dials wait for an answer");
	}
}

/* The time below which this share (in hundredths) of the times between dials lie, in us. */
static long percentile(unsigned int hundredths)
{
	unsigned long total = 0, sum = 0;
	long i;

	for (i = 0; i < BUCKETS; i++)
		total += buckets[i];
	for (i = 0; i < BUCKETS - 1; i++) {
		sum += buckets[i];
		if (sum * 100 >= total * hundredths)
			break;
	}
	return (i + 1) * BUCKET_US;
}

static void report(void)
{
	printf("{\"dials\": %lu, \"outcomes\": {", dials);
	for (int i = 0; i < OUTCOMES_MAX && outcomes[i].name; i++)
		printf("%s\"%s\": %lu", i ? ", " : "", outcomes[i].name, outcomes[i].count);
	printf("}, \"median_us\": %ld, \"late_us\": %ld, \"longest_us\": %lld, \"strange\": [",
	       percentile(50), percentile(99), (long long)longest / 1000);
	for (unsigned int i = 0; i < strange_count; i++)
		printf("%s[\"%s\", %lld]", i ? ", " : "", strange[i].outcome,
		       (long long)strange[i].when);
	printf("]}\n");
	fflush(stdout);
}

/* ---- surroundings ---- */

static void enter(const char *cgroup, const char *netns, const char *name, bool paced)
{
	const struct sched_param priority = { .sched_priority = 1 };
	char path[PATH_MAX];
	FILE *procs;
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	procs = fopen(path, "we");
	if (!procs || fprintf(procs, "%d", getpid()) < 0 || fclose(procs))
		die(path);
	fd = open(netns, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		die(netns);
	close(fd);
	prctl(PR_SET_NAME, name);
	prctl(PR_SET_TIMERSLACK, 1);
	mlockall(MCL_CURRENT | MCL_FUTURE);
	/* One that never rests must not keep others from running. */
	if (!paced)
		return;
	/* Where no real-time process may be, one that others yield to. */
	if (sched_setscheduler(0, SCHED_FIFO, &priority))
		setpriority(PRIO_PROCESS, 0, -20);
}

static bool input_ended(void)
{
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	char byte;

	return poll(&input, 1, 0) == 1 && read(STDIN_FILENO, &byte, 1) <= 0;
}

int main(int argc, char **argv)
{
	int64_t interval, next, last = 0, told = 0;
	union endpoint target, source;
	socklen_t target_length, source_length = 0;
	unsigned long limit;

	if (argc != 8 && argc != 9) {
		fprintf(stderr, "usage: prober CGROUP-DIRECTORY NETNS-FILE COMMAND-NAME ADDRESS PORT "
				"INTERVAL-US LIMIT [SOURCE]\n");
		return 2;
	}
	target_length = endpoint_of(argv[4], atoi(argv[5]), &target);
	interval = atoll(argv[6]) * 1000;
	limit = strtoul(argv[7], NULL, 10);
	if (argc == 9)
		source_length = endpoint_of(argv[8], 0, &source);
	enter(argv[1], argv[2], argv[3], interval > 0);

	next = now_of(CLOCK_MONOTONIC);
	while (!input_ended() && (!limit || dials < limit)) {
		int64_t now = now_of(CLOCK_MONOTONIC);

		if (last) {
			long bucket = (now - last) / (BUCKET_US * 1000L);

			buckets[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
			if (now - last > longest)
				longest = now - last;
		}
		last = now;
		dial(&target, target_length, argc == 9 ? &source : NULL, source_length);
		settle(false);
		if (now - told > PROGRESS_NS) {
			printf("{\"dials\": %lu}\n", dials);
			fflush(stdout);
			told = now;
		}
		/* What was missed is missed: no burst makes up for it. */
		now = now_of(CLOCK_MONOTONIC);
		while (interval && next <= now)
			next += interval;
		if (interval) {
			struct timespec until = { .tv_sec = next / NS_PER_SECOND,
						  .tv_nsec = next % NS_PER_SECOND };

			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		}
	}
	/* The last dials get the time that the others had. */
	for (int i = 0; waiting_count && i < SILENCE_MS; i++) {
		usleep(1000);
		settle(false);
	}
	settle(true);
	report();
	return 0;
}
