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
/* What ends a dial that was given up for a knock has a lateness of its own. */
#ifndef GIVE_UP_LATE
#define GIVE_UP_LATE DAEMON_LATE
#endif
/* 1: the daemon lives, but is never told that a dial was given up. */
#ifndef GIVE_UPS_LOST
#define GIVE_UPS_LOST 0
#endif
/* 1: in_backoff = keep. */
#ifndef KEEPS
#define KEEPS 1
#endif
/* 1: the daemon sends the SYN of a kept dial when the backoff is over. 0: it waits for TCP's timer. */
#ifndef LETS_GO
#define LETS_GO 1
#endif
/* So many lengths of backoff: the second is twice the first. */
#ifndef STEPS
#define STEPS 1
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
/* 1: a SYN leaves with its connect(), and not just in the same tick, which may see a round trip. */
#ifndef PROMPT
#define PROMPT 0
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
 * An application closes what it accepts, at once: WHILE_DIALING, ALWAYS, or NEVER. CLOSINGS: so many
 * times at both hosts together, UNBOUNDED: each time.
 */
#define WHILE_DIALING 1
#define ALWAYS 2
#ifndef CLOSES_0
#define CLOSES_0 0
#endif
#ifndef CLOSES_1
#define CLOSES_1 WHILE_DIALING
#endif
#ifndef CLOSINGS
#define CLOSINGS 0
#endif
/* 0: host 1 has no listener and answers SYNs with RST. */
#ifndef LISTENS_1
#define LISTENS_1 1
#endif
/*
 * An application closes a dial of which so many SYNs have got no answer within their time. All: TCP
 * gives up by itself.
 */
#ifndef SYNS_WAITED
#define SYNS_WAITED (SYN_RETRIES + 1)
#endif
/* 1: both hosts dial from the port on which they listen, so that there is one connection at most. */
#ifndef SAME_TUPLE
#define SAME_TUPLE 0
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
/* So many times it is out later on, for less than so many ticks. */
#ifndef CUTS
#define CUTS 0
#endif
#ifndef CUT
#define CUT (4 * SECOND)
#endif
/* 1: where there is a daemon it is told when the cable is in again (carrier, an address, a route). */
#ifndef REVIVES
#define REVIVES 0
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
/*
 * 1: a host whose dial has failed sends no SYN of another one before the backoff is over, unless the
 * peer was heard of since, by a SYN once in a backoff; and of two backoffs the later one is longer,
 * up to STEPS (no link lives for long enough to end that).
 */
#ifndef PACED
#define PACED 0
#endif
/*
 * 1: of the two ends of a link one has dialed, the one whose number was the greater if both did, and the
 * other one has accepted.
 */
#ifndef ONE_DIALER
#define ONE_DIALER 0
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

/* Who has made a connection: host 0 or 1, plus one; both. */
#define NOBODY 0
#define BOTH 3
#define SPOOFER 4

/* Segments under way in one direction; more are an error of the variant, and told as one. */
#define WIRE 6

#define TICK_NS (1000000000ULL / SECOND)
/* A timer that does not run. */
#define STOPPED 255
/* A SYN and a SYN-ACK are sent again so many times. */
#define SYN_RETRIES 4
#define SYN_ACK_RETRIES 3

/*
 * user/pure/life.h: so many questions without an answer, and how long the last one's is waited for.
 * There that is two round trips, here one and a tick.
 */
#define QUESTIONS 3
#define PATIENT_FOR (SECOND / 2 > 2 * DELAY ? SECOND / 2 : 2 * DELAY + 1)
/*
 * user/connguardd/syns.c: so many times the greater one of one 4-tuple sends its SYN again. There it is
 * three times; the last is what the second was, where the other end is slow.
 */
#define SYNS_AGAIN 2
/* The periodic check finds a doomed link that nobody has destroyed: no sooner, and no later. */
#define CHECK_FIRST (SECOND / 2)
#define CHECK_LAST (2 * SECOND)

/*
 * The policy. hold_max is the default, and so is suspect_after; what comes after them in time is
 * shorter than the default, in the same order: a round trip < half of hold_max < a second =
 * suspect_after < hold_max < the three seconds of asking < deny_max = liveness.
 */
#define HOLD_MAX (SECOND * 3 / 2)
#ifndef SUSPECT_AFTER
#define SUSPECT_AFTER (2 * SECOND)
#endif
#define MIN_UPTIME (2 * SECOND)
#define STABLE_AFTER (4 * SECOND)
#define BACKOFF_MAX (2 * SECOND)
#define BACKOFF_FIRST (STEPS == 1 ? BACKOFF_MAX : BACKOFF_MAX / 2)
#define DENY_MAX (6 * SECOND)
#define LIVENESS (6 * SECOND)

#endif
