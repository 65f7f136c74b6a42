/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Work that grows with what others do, in pieces: the loop does some of it in a pass, sees to everything else, and
 * goes on when the work has rested.
 *
 * Owns the timer of a loop and the measure of time. Knows nothing of the work. For the one thread of its loop.
 */
#ifndef BASE_PIECES_H
#define BASE_PIECES_H

#include <stdbool.h>

#include <linux/types.h>

struct event_base;

/* A piece: steps are taken for so long in one pass of the loop, and at least one. Nanoseconds. */
#define PIECES_NS 2000000ULL

/* A kind of work. What is called here may ask for pieces, and gives none up. */
struct pieces_work {
	/* Make ready, in a pass of the loop. 0, or a negative errno: the end, without a step. NULL: nothing to be done. */
	int (*begin)(void *argument);
	/* Take a step, one far shorter than a piece. 1: there is more; 0: that was all; a negative errno: the end too. */
	int (*step)(void *argument);
	/*
	 * It has come to its end; `result` is 0 or that errno. `again`: it was asked for meanwhile, and begins anew. NULL:
	 * nothing to be done.
	 */
	void (*end)(int result, bool again, void *argument);
	/* After a piece it rests so many times as long as that took. */
	unsigned int rest_ratio;
	/* After its end it begins anew no sooner than so many times as long as a processor has worked for the whole. */
	unsigned int between_ratio;
};

struct pieces;

/* `work` must outlive it. NULL: no memory. The caller's: pieces_free(), before the loop is freed. */
struct pieces *pieces_new(struct event_base *base, const struct pieces_work *work, void *argument);

/* Given up as by pieces_give_up(). NULL is allowed. */
void pieces_free(struct pieces *pieces);

/*
 * Begin as soon as the rest after the last time is over; never within this call. Asked for before it begins it is done
 * once, asked for after that once more.
 */
void pieces_ask(struct pieces *pieces);

/* Whether it is under way, or will be. */
bool pieces_asked(const struct pieces *pieces);

/* Neither go on nor begin, until asked again. end() is not called. */
void pieces_give_up(struct pieces *pieces);

/* Nanoseconds that a processor has worked for it since it began, to be asked in end(). */
__u64 pieces_worked_ns(const struct pieces *pieces);

#endif
