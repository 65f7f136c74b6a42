/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Does a quiet link show life? Judges one that is being asked by what TCP says of it.
 *
 * Pure: what is seen and when come in as arguments. Knows no socket and no map; the caller asks the other
 * end for a sign of life, looks now and then, and acts on the verdict.
 *
 * The law it keeps: silence never ends a link on our account. A link is unanswered only when TCP itself
 * has asked several times and nobody has answered, and then all that follows is that a knock of its
 * peer need not wait any longer: what ends the link is that the peer has completed the handshake of the
 * new one, which nobody else can, and keeps it. It is alive as soon as anything has come in order.
 *
 * A third case lies between: the other end answers, but with segments that begin beyond what has
 * come. What it had sent before was lost with a cut wire, and it repeats that as seldom as TCP's
 * backoff has it, up to the length of the outage later (RFC 6298). That may have been its FIN: its
 * application closed the link long ago. So while it also knocks, that is no answer.
 */
#ifndef PURE_LIFE_H
#define PURE_LIFE_H

#include <stdbool.h>

#include <connguard/rules.h>

/*
 * This many questions without an answer are proof: keepalive probes, a second apart, or
 * retransmissions, of which the first three leave within a second and a half on a path of short
 * round trips. What loses three packets in a row, or their answers, is no path for a link.
 */
#define LIFE_QUESTIONS 3
/* The last question's answer is waited for at least this long, and for two round trips. */
#define LIFE_PATIENCE_NS (400 * NS_PER_MS)
/*
 * So long, and two round trips, may something be missing of a link whose peer knocks: TCP has repeated by then
 * what was lost once on a path that works, for Linux waits for 200 ms and what the path takes (TCP_RTO_MIN). What
 * was lost more often, or with an outage, takes longer; the new link comes up beside this one, and which of the
 * two stays shows afterwards.
 */
#define LIFE_STALLED_NS (250 * NS_PER_MS)
/* Without a verdict by then the asking is given up; deny_max goes on. */
#define LIFE_GIVE_UP_NS (20 * NS_PER_SECOND)
/*
 * A question beside TCP, which changes nothing of the socket, has so long, and two round trips, for its answer;
 * then TCP is made to ask. Three questions of TCP and LIFE_PATIENCE_NS are over before a knock may have waited
 * for ASK_MAX_NS.
 */
#define LIFE_BESIDE_NS (100 * NS_PER_MS)
/* How often to look: the peer's SYN comes again after 1 s and after 3 s (RFC 6298). */
#define LIFE_LOOK_NS (50 * NS_PER_MS)

enum life_verdict {
	LIFE_UNDECIDED, /* look again after LIFE_LOOK_NS */
	LIFE_ALIVE,
	LIFE_UNANSWERED, /* or answered by a peer that asks for a new link and cannot use this one */
	LIFE_ENDED,     /* no link any more: there is nothing left to judge */
	LIFE_UNKNOWN,   /* given up */
};

/* A link under trial. Set began_ns and zero the rest. */
struct life_trial {
	__u64 began_ns;     /* when it was asked first */
	__u64 exhausted_ns; /* since when LIFE_QUESTIONS are unanswered; 0: not yet */
	bool knocked;       /* the peer itself asks for a new link */
	bool answered;      /* something of it has come since, if not in order */
};

/* What TCP and the hooks say of it at one time. */
struct life_signs {
	bool established;
	__u64 silent_ns;     /* since the last segment that TCP accepted */
	__u64 stalled_ns;    /* slot.stalled_ns: since when something is missing, and nothing came in
			      * order; 0: nothing is */
	__u32 probes;        /* keepalive or zero-window probes unanswered so far */
	__u32 retransmissions; /* time-outs in a row of unacknowledged data */
	__u64 round_trip_ns; /* 0: not measured */
};

/* The verdict as of now. Notes in `trial` what the next look has to know. */
enum life_verdict life_judge(struct life_trial *trial, const struct life_signs *signs, __u64 now);

/* Is it time to make TCP ask, because what was asked beside it has found no answer? For LIFE_UNDECIDED. */
bool life_wants_tcp(const struct life_trial *trial, const struct life_signs *signs, __u64 now);

#endif
