/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Short ways to say the arguments of the rules in a test.
 *
 * Owns nothing but spelling: each function fills in one argument structure of rules.h or takes one
 * ordinary step of a socket's life. Knows no expectation; the tests do.
 */
#ifndef CONNGUARD_TESTS_RULES_FIXTURE_H
#define CONNGUARD_TESTS_RULES_FIXTURE_H

#include <connguard/rules.h>

/* A peer that a hook has just created: ::ffff:192.0.2.7. */
static inline struct peer fixture_peer(void)
{
	struct peer peer = { .address = { .bytes = { [10] = 0xff, [11] = 0xff, 192, 0, 2, 7 } } };

	return peer;
}

/*
 * A dial in enforce mode under the shared dial policy. `cookie` also names the process and the
 * thread.
 */
static inline struct dial fixture_dial(__u64 cookie, __u64 now)
{
	struct dial dial = {
		.cookie = cookie,
		.now = now,
		.process_id = (__u32)cookie * 10,
		.thread_id = (__u32)cookie * 10 + 1,
		.mode = MODE_ENFORCE,
		.command = "dialer",
	};

	return dial;
}

/* The SYN of that dial, as TCP makes it. */
static inline struct dial_syn fixture_syn(__u64 cookie, __u32 client_isn, __u64 now)
{
	struct dial_syn syn = {
		.cookie = cookie,
		.now = now,
		.client_isn = client_isn,
		.local_port = 50000,
		.remote_port = 24000,
		.local_address = { [10] = 0xff, [11] = 0xff, 192, 0, 2, 8 },
	};

	return syn;
}

/* A knock as the ingress hook sees it while no daemon runs. */
static inline struct knock fixture_knock(__u32 client_isn, __u64 now)
{
	struct knock knock = {
		.now = now,
		.client_isn = client_isn,
		.isn_known = 1,
		.mode = MODE_ENFORCE,
		.remote_port = 40000,
	};

	return knock;
}

/* A knock as the sk_lookup hook sees it: no sequence number. */
static inline struct knock fixture_lookup(__u64 now)
{
	struct knock knock = { .now = now, .mode = MODE_ENFORCE, .remote_port = 40000 };

	return knock;
}

/* What the table knows of a handshake of theirs that is pending before `until_ns`. */
static inline struct their_handshake fixture_theirs(__u32 client_isn, __u64 until_ns)
{
	struct their_handshake theirs = { .until_ns = until_ns, .client_isn = client_isn };

	return theirs;
}

/* A connection that the guard saw come up, in enforce mode. */
static inline struct link fixture_link(__u64 cookie, enum link_direction direction,
				       __u32 client_isn, __u64 now)
{
	struct link link = {
		.cookie = cookie,
		.now = now,
		.direction = direction,
		.client_isn = client_isn,
		.mode = MODE_ENFORCE,
		.local_port = direction == DIRECTION_OUTBOUND ? 50000 : 24000,
		.remote_port = direction == DIRECTION_OUTBOUND ? 24000 : 40000,
	};

	return link;
}

/* An end after which the peer has sent nothing, and of whose backoff no jitter takes anything away. */
static inline struct slot_ended fixture_end(__u64 cookie, enum ending ending, __u64 now)
{
	struct slot_ended end = { .cookie = cookie, .now = now, .ending = ending };

	return end;
}

/* The slot that `cookie` holds; NULL: none. */
static inline const struct slot *fixture_slot(const struct peer *peer, __u64 cookie)
{
	int i;

	for (i = 0; i < PEER_SLOTS; i++)
		if (peer->slots[i].kind != SLOT_FREE && peer->slots[i].cookie == cookie)
			return &peer->slots[i];
	return 0;
}

/* How many slots of `kind` the peer holds. */
static inline int fixture_count(const struct peer *peer, enum slot_kind kind)
{
	int i, count = 0;

	for (i = 0; i < PEER_SLOTS; i++)
		count += peer->slots[i].kind == kind;
	return count;
}

#endif
