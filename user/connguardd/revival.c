// SPDX-License-Identifier: BSD-2-Clause
/*
 * The network or the host is back: every backoff is over. See daemon.h. (That the service has started
 * anew the kernel side sees by itself.)
 *
 * A dial that has failed while the cable was out says nothing about its peer. So each backoff that began
 * before is void, in one step for all peers; whoever waits for the end of one is let go within a second,
 * not all at once.
 */
#include "connguardd/daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <connguard/rules.h>

#include "base/budget.h"
#include "base/clock.h"
#include "base/log.h"
#include "edge/network_watch.h"

/* What belongs together, such as carrier, addresses and routes, comes within so long. */
#define SETTLES_MS 100
/*
 * A few come at once: carrier, and the address two seconds later. A host whose routes change all the time, of a router
 * say, revives no more often than this.
 */
#define REST_NS (5 * NS_PER_SECOND)
#define AT_ONCE 4
#define AT_ONCE_PERIOD_NS (60 * NS_PER_SECOND)
/* The clock that stops in suspend has fallen behind by more than two readings can differ. */
#define SLEPT_NS (500 * NS_PER_MS)

struct revival {
	struct network_watch *watch;
	struct event *news, *settled;
	__u64 revived_ns;
	struct budget at_once;
	__u64 slept_ns; /* all the time since boot that the host has slept, when last looked at */
};

static void revive(struct daemon *daemon, enum cause cause)
{
	const struct guard_command command = { .operation = COMMAND_REVIVE, .value = cause };
	int result = guard_command(daemon->guard, &command);

	if (result)
		log_warning("ending the backoffs: %s", strerror(-result));
}

static void on_settled(evutil_socket_t fd, short what, void *argument)
{
	struct daemon *daemon = argument;

	(void)fd;
	(void)what;
	daemon->revival->revived_ns = clock_now_ns();
	revive(daemon, CAUSE_network_back);
}

static void on_news(evutil_socket_t fd, short what, void *argument)
{
	struct daemon *daemon = argument;
	struct revival *revival = daemon->revival;
	struct timeval soon = { .tv_usec = SETTLES_MS * 1000 };
	__u64 now = clock_now_ns(), rested = revival->revived_ns + REST_NS;
	unsigned int news = network_watch_drain(revival->watch);

	(void)fd;
	(void)what;
	if (news & NETWORK_SELF)
		own_changed(daemon);
	if (!(news & NETWORK_BACK) || evtimer_pending(revival->settled, NULL))
		return;
	if (revival->revived_ns && rested > now && !budget_spend(&revival->at_once, now)) {
		soon.tv_sec = (rested - now) / NS_PER_SECOND;
		soon.tv_usec = (rested - now) % NS_PER_SECOND / 1000;
	}
	evtimer_add(revival->settled, &soon);
}

/* How long the host has slept since boot. */
static __u64 slept_ns(void)
{
	struct timespec awake;

	/* Read first: what comes in between looks like sleep, and is next to nothing. */
	clock_gettime(CLOCK_MONOTONIC, &awake);
	return clock_now_ns() - (awake.tv_sec * NS_PER_SECOND + awake.tv_nsec);
}

void revival_look(struct daemon *daemon)
{
	struct revival *revival = daemon->revival;
	__u64 slept = slept_ns();

	if (!revival)
		return;
	if (slept > revival->slept_ns + SLEPT_NS)
		revive(daemon, CAUSE_host_resumed);
	revival->slept_ns = slept;
}

static void stop_watching(struct revival *revival)
{
	if (revival->news)
		event_free(revival->news);
	revival->news = NULL;
	network_watch_close(revival->watch);
	revival->watch = NULL;
}

static int watch(struct daemon *daemon)
{
	struct revival *revival = daemon->revival;
	int fd, result = network_watch_open(&revival->watch, &fd);

	if (result)
		return result;
	revival->news = event_new(daemon->base, fd, EV_READ | EV_PERSIST, on_news, daemon);
	return revival->news && !event_add(revival->news, NULL) ? 0 : -ENOMEM;
}

void revival_follow(struct daemon *daemon)
{
	int result;

	if (!daemon->revival)
		return;
	stop_watching(daemon->revival);
	result = watch(daemon);
	if (result)
		log_warning("nobody will tell when the network is back: %s", strerror(-result));
	/* What has happened there before somebody told. */
	own_changed(daemon);
}

bool revival_is_told(const struct daemon *daemon)
{
	return daemon->revival && daemon->revival->news;
}

int revival_start(struct daemon *daemon)
{
	struct revival *revival = calloc(1, sizeof(*revival));

	if (!revival)
		return -ENOMEM;
	daemon->revival = revival;
	revival->at_once = (struct budget){ .period_ns = AT_ONCE_PERIOD_NS, .max = AT_ONCE };
	revival->slept_ns = slept_ns();
	revival->settled = evtimer_new(daemon->base, on_settled, daemon);
	if (!revival->settled)
		return -ENOMEM;
	/* What has happened before somebody told. */
	own_changed(daemon);
	return watch(daemon);
}

void revival_stop(struct daemon *daemon)
{
	struct revival *revival = daemon->revival;

	if (!revival)
		return;
	stop_watching(revival);
	if (revival->settled)
		event_free(revival->settled);
	free(revival);
	daemon->revival = NULL;
}
