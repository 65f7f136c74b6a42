// SPDX-License-Identifier: BSD-2-Clause
/* See pieces.h. */
#include "base/pieces.h"

#include <stdlib.h>

#include <event2/event.h>

#include "base/clock.h"

#define SECOND_NS 1000000000ULL

struct pieces {
	struct event_base *base;
	struct event *timer;
	const struct pieces_work *work;
	void *argument;
	enum {
		NOT_ASKED,
		ASKED,
		UNDER_WAY,
	} state;
	bool again;          /* asked for since it began */
	__u64 worked_ns;     /* of a processor, since it began */
	__u64 not_before_ns; /* the next time */
};

static void wake_in(struct pieces *pieces, __u64 rest_ns)
{
	const struct timeval rest = { .tv_sec = (time_t)(rest_ns / SECOND_NS),
				      .tv_usec = (suseconds_t)(rest_ns % SECOND_NS / 1000) };

	/* The loop's clock stands still during a pass: the piece itself would be taken for a part of the rest. */
	event_base_update_cache_time(pieces->base);
	evtimer_add(pieces->timer, &rest);
}

static int begin(struct pieces *pieces)
{
	int result;

	pieces->state = UNDER_WAY;
	pieces->worked_ns = 0;
	result = pieces->work->begin ? pieces->work->begin(pieces->argument) : 0;
	return result ? result : 1;
}

static void end(struct pieces *pieces, int result)
{
	bool again = pieces->again;

	pieces->state = NOT_ASKED;
	pieces->again = false;
	pieces->not_before_ns = clock_now_ns() + pieces->work->between_ratio * pieces->worked_ns;
	if (pieces->work->end)
		pieces->work->end(result, again, pieces->argument);
	if (again)
		pieces_ask(pieces);
}

static void on_timer(evutil_socket_t fd, short what, void *argument)
{
	struct pieces *pieces = argument;
	__u64 began = clock_now_ns(), worked = clock_worked_ns(), took;
	int result;

	(void)fd;
	(void)what;
	do {
		result = pieces->state == UNDER_WAY ? pieces->work->step(pieces->argument) : begin(pieces);
		took = clock_now_ns() - began;
	} while (result > 0 && took < PIECES_NS);
	pieces->worked_ns += clock_worked_ns() - worked;
	if (result > 0)
		wake_in(pieces, pieces->work->rest_ratio * took);
	else
		end(pieces, result);
}

struct pieces *pieces_new(struct event_base *base, const struct pieces_work *work, void *argument)
{
	struct pieces *pieces = calloc(1, sizeof(*pieces));

	if (!pieces)
		return NULL;
	pieces->base = base;
	pieces->work = work;
	pieces->argument = argument;
	pieces->timer = evtimer_new(base, on_timer, pieces);
	if (!pieces->timer) {
		free(pieces);
		return NULL;
	}
	return pieces;
}

void pieces_free(struct pieces *pieces)
{
	if (!pieces)
		return;
	event_free(pieces->timer);
	free(pieces);
}

void pieces_ask(struct pieces *pieces)
{
	__u64 now = clock_now_ns();

	pieces->again = pieces->state == UNDER_WAY;
	if (pieces->state != NOT_ASKED)
		return;
	pieces->state = ASKED;
	wake_in(pieces, pieces->not_before_ns > now ? pieces->not_before_ns - now : 0);
}

bool pieces_asked(const struct pieces *pieces)
{
	return pieces->state != NOT_ASKED;
}

void pieces_give_up(struct pieces *pieces)
{
	evtimer_del(pieces->timer);
	pieces->state = NOT_ASKED;
	pieces->again = false;
}

__u64 pieces_worked_ns(const struct pieces *pieces)
{
	return pieces->worked_ns;
}
