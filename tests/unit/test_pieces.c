// SPDX-License-Identifier: BSD-2-Clause
/* Work in pieces, in a real loop: everything else has its turn, the rests, and what is asked for meanwhile. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <event2/event.h>

#include "base/clock.h"
#include "base/pieces.h"

#define STEPS_MAX 64
/* Long beside what the loop's timers are late or early by: a tick of the kernel's, 10 ms at most. */
#define LONG_NS 30000000ULL
#define TICK_NS 10000000ULL
#define REST_RATIO 4
#define BETWEEN_RATIO 5

/* Of one test. */
static struct {
	struct event_base *base;
	struct pieces *pieces;
	int steps_wanted;       /* a time */
	__u64 step_ns;          /* each takes */
	int begin_result, step_result; /* else: an errno to end with */
	int asks_in_step;       /* so often it is asked for in the first step of all */
	bool gives_up;          /* another event does, after the first step */

	int begun, steps, ended, steps_of_this;
	int last_result;
	bool agains[STEPS_MAX]; /* of the ends */
	int turns;              /* of the other event */
	int turns_at[STEPS_MAX]; /* as of each step */
	__u64 began_ns[STEPS_MAX], done_ns[STEPS_MAX]; /* the steps */
	__u64 worked_ns;        /* of a processor, by the steps since it began */
	__u64 worked_at_end_ns; /* as pieces_worked_ns() has it */
} work;

/* Use up a processor, or wait for it, for so long. */
static void spend(__u64 ns)
{
	__u64 began = clock_now_ns();

	while (clock_now_ns() - began < ns)
		;
}

static int begin(void *argument)
{
	assert_ptr_equal(argument, &work);
	work.begun++;
	work.steps_of_this = 0;
	work.worked_ns = 0;
	return work.begin_result;
}

static int step(void *argument)
{
	__u64 worked = clock_worked_ns();
	int index = work.steps++;

	assert_ptr_equal(argument, &work);
	assert_true(index < STEPS_MAX);
	work.turns_at[index] = work.turns;
	work.began_ns[index] = clock_now_ns();
	for (int i = 0; !index && i < work.asks_in_step; i++)
		pieces_ask(work.pieces);
	spend(work.step_ns);
	work.done_ns[index] = clock_now_ns();
	work.worked_ns += clock_worked_ns() - worked;
	if (work.step_result)
		return work.step_result;
	return ++work.steps_of_this < work.steps_wanted;
}

static void end(int result, bool again, void *argument)
{
	assert_ptr_equal(argument, &work);
	assert_true(work.ended < STEPS_MAX);
	work.agains[work.ended++] = again;
	work.last_result = result;
	work.worked_at_end_ns = pieces_worked_ns(work.pieces);
}

static const struct pieces_work kind = {
	.begin = begin,
	.step = step,
	.end = end,
	.rest_ratio = REST_RATIO,
	.between_ratio = BETWEEN_RATIO,
};

static const struct pieces_work restless = { .begin = begin, .step = step, .end = end };

static int set_up(void **state)
{
	(void)state;
	memset(&work, 0, sizeof(work));
	work.steps_wanted = 1;
	work.base = event_base_new();
	work.pieces = work.base ? pieces_new(work.base, &kind, &work) : NULL;
	return work.pieces ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	pieces_free(work.pieces);
	event_base_free(work.base);
	return 0;
}

/* The other event: as often as the loop lets it, until all is done. */
static void on_turn(evutil_socket_t fd, short what, void *argument)
{
	static const struct timeval at_once;
	struct event **turn = argument;

	(void)fd;
	(void)what;
	work.turns++;
	if (work.gives_up && work.steps)
		pieces_give_up(work.pieces);
	if (pieces_asked(work.pieces))
		evtimer_add(*turn, &at_once);
}

/* Until nothing is left to be done. */
static void run(void)
{
	struct event *turn = evtimer_new(work.base, on_turn, &turn);
	static const struct timeval at_once;

	assert_non_null(turn);
	assert_int_equal(evtimer_add(turn, &at_once), 0);
	assert_true(event_base_dispatch(work.base) >= 0);
	event_free(turn);
}

static void everything_else_has_its_turn(void **state)
{
	(void)state;
	pieces_free(work.pieces);
	work.pieces = pieces_new(work.base, &restless, &work);
	assert_non_null(work.pieces);
	work.steps_wanted = 6;
	work.step_ns = PIECES_NS;
	pieces_ask(work.pieces);
	assert_int_equal(work.begun, 0);
	run();
	assert_int_equal(work.begun, 1);
	assert_int_equal(work.steps, 6);
	assert_int_equal(work.ended, 1);
	assert_int_equal(work.last_result, 0);
	/* Which of two timers of the same moment comes first is the loop's choice, in each pass anew. */
	for (int i = 2; i < 6; i++)
		assert_true(work.turns_at[i] > work.turns_at[i - 2]);
}

static void it_rests_after_a_piece(void **state)
{
	(void)state;
	work.steps_wanted = 3;
	work.step_ns = LONG_NS;
	pieces_ask(work.pieces);
	run();
	assert_int_equal(work.steps, 3);
	for (int i = 1; i < 3; i++)
		assert_true(work.began_ns[i] - work.done_ns[i - 1] + TICK_NS >=
			    REST_RATIO * (work.done_ns[i - 1] - work.began_ns[i - 1]));
}

static void it_rests_between_two_times(void **state)
{
	__u64 between;

	(void)state;
	work.step_ns = LONG_NS;
	work.asks_in_step = 1;
	pieces_ask(work.pieces);
	run();
	assert_int_equal(work.ended, 2);
	assert_true(work.worked_at_end_ns >= work.worked_ns);
	work.asks_in_step = 0;
	pieces_ask(work.pieces);
	assert_true(pieces_asked(work.pieces));
	/* Less than so many times as long as it took, where others had the processor. */
	between = BETWEEN_RATIO * work.worked_at_end_ns;
	run();
	assert_int_equal(work.steps, 3);
	assert_true(work.began_ns[2] - work.done_ns[1] + TICK_NS >= between);
}

static void asked_for_meanwhile_it_is_done_once_more(void **state)
{
	(void)state;
	work.steps_wanted = 2;
	work.asks_in_step = 3;
	for (int i = 0; i < 3; i++)
		pieces_ask(work.pieces);
	assert_true(pieces_asked(work.pieces));
	run();
	assert_int_equal(work.begun, 2);
	assert_int_equal(work.steps, 4);
	assert_int_equal(work.ended, 2);
	assert_true(work.agains[0]);
	assert_false(work.agains[1]);
	assert_false(pieces_asked(work.pieces));
}

static void an_error_is_the_end(void **state)
{
	(void)state;
	work.steps_wanted = 9;
	work.step_result = -EIO;
	pieces_ask(work.pieces);
	run();
	assert_int_equal(work.steps, 1);
	assert_int_equal(work.ended, 1);
	assert_int_equal(work.last_result, -EIO);
	work.begin_result = -ENOMEM;
	pieces_ask(work.pieces);
	run();
	assert_int_equal(work.begun, 2);
	assert_int_equal(work.steps, 1);
	assert_int_equal(work.ended, 2);
	assert_int_equal(work.last_result, -ENOMEM);
}

static void given_up_it_goes_on_no_more(void **state)
{
	(void)state;
	pieces_ask(work.pieces);
	pieces_give_up(work.pieces);
	assert_false(pieces_asked(work.pieces));
	run();
	assert_int_equal(work.begun, 0);
	/* Under way. */
	work.steps_wanted = 9;
	work.step_ns = LONG_NS;
	work.asks_in_step = 1;
	work.gives_up = true;
	pieces_ask(work.pieces);
	run();
	assert_int_equal(work.steps, 1);
	assert_int_equal(work.ended, 0);
	/* From the beginning, and nothing is left of what was asked for before. */
	work.gives_up = false;
	work.step_ns = 0;
	pieces_ask(work.pieces);
	run();
	assert_int_equal(work.begun, 2);
	assert_int_equal(work.steps, 1 + 9);
	assert_int_equal(work.ended, 1);
	assert_false(work.agains[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(everything_else_has_its_turn, set_up, tear_down),
		cmocka_unit_test_setup_teardown(it_rests_after_a_piece, set_up, tear_down),
		cmocka_unit_test_setup_teardown(it_rests_between_two_times, set_up, tear_down),
		cmocka_unit_test_setup_teardown(asked_for_meanwhile_it_is_done_once_more, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_error_is_the_end, set_up, tear_down),
		cmocka_unit_test_setup_teardown(given_up_it_goes_on_no_more, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
