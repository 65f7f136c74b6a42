/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The words and the numbers of the model, for both of its languages: two_hosts.pml, and the C
 * beside it.
 *
 * Nothing but #defines: first what a variant sets (run.py passes -D to spin and to the compiler),
 * then what it promises, then what all variants share. Durations are in ticks unless they say
 * otherwise.
 */
#ifndef CONNGUARD_TESTS_MODEL_WORDS_H
#define CONNGUARD_TESTS_MODEL_WORDS_H

/* ---- what a variant sets --------------------------------------------------------------------- */

/* Ticks in a second; a multiple of 4, so that half of hold_max is a number of them. */
#ifndef SECOND
#define SECOND 4
#endif

/* Which host has a guard, and whose daemon lives. */
#ifndef GUARDED_0
#define GUARDED_0 1
#endif
#ifndef GUARDED_1
#define GUARDED_1 1
#endif
#ifndef DAEMON_0
#define DAEMON_0 1
#endif
#ifndef DAEMON_1
#define DAEMON_1 1
#endif
/* The daemon does what an event asks of it within so many ticks; 0: before the tick is over. */
#ifndef DAEMON_LATE
#define DAEMON_LATE 0
#endif
/* 1: tie_break = none. */
#ifndef TIE_OPEN
#define TIE_OPEN 0
#endif
/* max_links. 1: any link will do for both hosts. 2: each host wants a link of its own dialing. */
#ifndef LINKS
#define LINKS 1
#endif

/*
 * Connections that exist at a time. One that is over exists while a segment of it is under way.
 * With SPOOFED the last one is for spoofed SYNs.
 */
#ifndef CONNECTIONS
#define CONNECTIONS 3
#endif
/*
 * So many dials of each application, UNBOUNDED: no end of them. It dials at any time while it wants
 * a link, and waits no longer than PATIENCE. A dial that is refused does not count.
 */
#define UNBOUNDED 255
#ifndef DIALS_0
#define DIALS_0 1
#endif
#ifndef DIALS_1
#define DIALS_1 1
#endif
#ifndef PATIENCE
#define PATIENCE (4 * SECOND)
#endif
/*
 * 1: where there is a guard, the application also dials when it wants no link, as often as it
 * likes.
 */
#ifndef DUPLICATES
#define DUPLICATES 1
#endif
/* 1: so does the application of host 1 without a guard. */
#ifndef STACKS
#define STACKS 0
#endif
/*
 * The application of host 1 closes what it accepts while it dials, at once, so many times,
 * UNBOUNDED: each time.
 */
#ifndef CLOSINGS
#define CLOSINGS 0
#endif
/* The client's initial sequence number of a dial is one of so many. */
#ifndef NUMBERS
#define NUMBERS 3
#endif
/* 1: no two that exist at a time are equal. */
#ifndef DISTINCT
#define DISTINCT 1
#endif
/* 1: a SYN is sent again after 1, 1, 1, 1, 2 s (tcp_syn_linear_timeouts); 0: after 1, 2, 4 s. */
#ifndef LINEAR
#define LINEAR 0
#endif

/* A segment takes from DELAY_LEAST to DELAY ticks, one way. */
#ifndef DELAY
#define DELAY 1
#endif
#ifndef DELAY_LEAST
#define DELAY_LEAST 0
#endif
/* 1: segments overtake each other. */
#ifndef REORDERING
#define REORDERING 0
#endif
/* So many segments are lost. */
#ifndef LOSSES
#define LOSSES 0
#endif
/* 1: and so is every SYN of host 0. */
#ifndef EATEN
#define EATEN 0
#endif
/*
 * Everything is lost until the cable is plugged in, which is within less than so many ticks. 0: it
 * is.
 */
#ifndef CABLE_OUT
#define CABLE_OUT 0
#endif
/*
 * So many SYNs in the name of host 1, or UNBOUNDED of them, come to host 0, at the worst times,
 * with the least or the greatest number. Host 1 answers what comes of them with RST.
 */
#ifndef SPOOFED
#define SPOOFED 0
#endif
/*
 * So many times host 1 crashes. It returns within DOWN ticks, and not before its last segment has
 * arrived.
 */
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef DOWN
#define DOWN SECOND
#endif
/*
 * An application sends data when it has not heard the other end for so many ticks; 0: it is silent.
 */
#ifndef TALKS
#define TALKS 0
#endif
/* The TCP of a guarded host asks then (liveness); 0: it never does. */
#ifndef KEEPALIVE
#define KEEPALIVE 0
#endif

/* ---- what it promises ------------------------------------------------------------------------ */

/*
 * For how long an application may see more links than LINKS. NEVER; n: for less than n ticks; ANY:
 * for ever.
 */
#define NEVER 0
#define ANY 255
#ifndef SURPLUS_AT_GUARDED
#define SURPLUS_AT_GUARDED NEVER
#endif
#ifndef SURPLUS_AT_UNGUARDED
#define SURPLUS_AT_UNGUARDED ANY
#endif
/* 1: what a guard does never costs a host its last link. */
#ifndef STEADY
#define STEADY 1
#endif
/*
 * So many ticks after the last trouble the hosts have LINKS links, the same at both ends, and ever
 * after. 0: not promised. Trouble: a loss, a crash, a return, the cable, a closing, a spoofed SYN
 * or a dial if there is an end of them, an application that has not made such a dial yet.
 */
#ifndef SETTLES
#define SETTLES (3 * SECOND)
#endif
/* 1: that, at some time (an LTL formula). */
#ifndef EVENTUALLY
#define EVENTUALLY 0
#endif
/* 1: or they have one more. */
#ifndef SURPLUS_MAY_STAY
#define SURPLUS_MAY_STAY 0
#endif
/* 0: an end whose other end is gone is not seen. */
#ifndef DEAD_ENDS_COUNT
#define DEAD_ENDS_COUNT 1
#endif

/* ---- what all share -------------------------------------------------------------------------- */

/* Ends of a connection, from nothing to a link. */
#define END_NONE 0
#define END_SYN_SENT 1
#define END_SYN_RECEIVED 2
#define END_ESTABLISHED 3

/* Segments. DATA asks for an ACK: an application's data, or a probe. */
#define SEGMENT_SYN 1
#define SEGMENT_SYN_ACK 2
#define SEGMENT_ACK 3
#define SEGMENT_DATA 4
#define SEGMENT_RST 5
#define SEGMENT_FIN 6

/* Who has made a connection: host 0 or 1, plus one. */
#define NOBODY 0
#define SPOOFER 3

/* Segments under way in one direction; more are an error of the variant, and told as one. */
#define WIRE 6

#define TICK_NS (1000000000ULL / SECOND)
/* A timer that does not run. */
#define STOPPED 255
/* A SYN and a SYN-ACK are sent again so many times. */
#define SYN_RETRIES 4
#define SYN_ACK_RETRIES 3

/*
 * user/pure/life.h: questions without an answer that are proof, and how long the last one's is
 * waited for. There that is two round trips, here one and a tick.
 */
#define PROOF 3
#define PROOF_WAIT (SECOND / 2 > 2 * DELAY ? SECOND / 2 : 2 * DELAY + 1)
/* The periodic check finds a doomed link that nobody has destroyed: no sooner, and no later. */
#define CHECK_FIRST (SECOND / 2)
#define CHECK_LAST (2 * SECOND)

/*
 * The policy. hold_max is the default; what comes after it in time is shorter than the default, in
 * the same order: a round trip < half of hold_max < a second < hold_max < suspect_after < proof of
 * death < deny_max = liveness.
 */
#define HOLD_MAX (SECOND * 3 / 2)
#define SUSPECT_AFTER (2 * SECOND)
#define MIN_UPTIME (2 * SECOND)
#define STABLE_AFTER (4 * SECOND)
#define BACKOFF (2 * SECOND)
#define DENY_MAX (6 * SECOND)
#define LIVENESS (6 * SECOND)

#endif
