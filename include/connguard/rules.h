/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The rules of connguard, once: pure functions over `struct peer`.
 *
 * Everything that decides is here, and nothing here acts: no maps, no helpers, no locks, no clock.
 * Time (`now`, nanoseconds of CLOCK_BOOTTIME), randomness and the identity of the socket come in as
 * arguments. The hooks call these under the peer's bpf_spin_lock, which is what makes check and
 * claim one step; unit tests, property tests and the CLI's `explain` call the very same code.
 *
 * Read it in this order: policy, backoff, slots, proof, dial, knock, answer, ends, commands.
 *
 * Conventions. `peer` is locked by the caller (or private to it). `policy` is never NULL. A
 * `_verdict` function looks and changes nothing; dial_claim() and knock_decide() also take the
 * step. The direction of every doubt is "allow": a duplicate link costs little, a peer locked out
 * costs a node.
 *
 * Verifier notes: everything is inlined, for no call may be made under a bpf_spin_lock. All loops
 * run over the PEER_SLOTS slots of one peer, and what they look for is computed without branches
 * (same(), before(), pick()): a branch a slot would make the verifier follow every combination of
 * eight slots, which took it seconds.
 */
#ifndef CONNGUARD_RULES_H
#define CONNGUARD_RULES_H

#include <connguard/abi.h>
#include <connguard/arithmetic.h>

#define NS_PER_MS 1000000ULL
#define NS_PER_SECOND 1000000000ULL

/*
 * Backoff doubles per failure, at most this often: from a millisecond that is
 * three weeks.
 */
#define BACKOFF_DOUBLINGS_MAX 31
/*
 * Jitter takes away at most this share of a step, never adds: a service whose own timer follows the
 * same steps is never refused by our rounding.
 */
#define BACKOFF_JITTER_PERCENT 20
/*
 * A claim is void this long after connect() if no SYN left. The SYN leaves within the same system
 * call, after route and source port are found (net/ipv4/tcp_ipv4.c, tcp_v4_connect), so two seconds
 * are ample; then it never will: connect() has failed, of which no hook is told.
 */
#define CLAIM_UNSENT_MAX_NS (2 * NS_PER_SECOND)
/*
 * Times hold_max after which a SYN that was held is forgotten, and after which the answer to a dial
 * is held no more. Two: a SYN is retransmitted after 1 s and 3 s (RFC 6298, section 5.7), so with
 * the default of 1.5 s it is held twice at the very worst, and the third one passes.
 */
#define HOLD_PERIODS 2
/*
 * Share of hold_max for which a dial whose number is the greater, and whose SYN left after their knock was let
 * in, holds its answer all the same: a half, so that of two guarded ends that both wait one gives up first, and
 * its dial becomes the link. What is left of hold_max when the answer's retransmission comes, 1 s after the
 * answer (RFC 6298), is ample for its ACK to arrive.
 */
#define HOLD_SHORTENED 2
/*
 * When an answer comes to a dial that gave way to a smaller number, the round trip is known, and with it when
 * the last ACK of that knock comes, if it does: after one more at the latest. Another is added, and on short paths
 * a scheduler's delay. Then the dial completes: of two guarded ends the other one waits longer.
 */
#define ANSWER_WAITS_ROUND_TRIPS 2
#define ANSWER_WAITS_LEAST_NS	 (20 * NS_PER_MS)
/*
 * The SYN of a crossing knock that is let in ends our dial; the last ACK of that knock waits at most
 * this long for the end, counted from its arrival. The daemon has had a round trip by then.
 */
#define ACK_WAITS_NS (5 * NS_PER_MS)
/*
 * A quiet link is asked for at most this long when its peer knocks: three questions, a second apart.
 * Then the knock's own handshake decides.
 */
#define ASK_MAX_NS (3 * NS_PER_SECOND)
/*
 * For hold_max our dials are refused while a handshake of the peer is pending, and then not again for
 * this long unless a link has come up: SYNs that never become one must not keep us from dialing.
 */
#define PENDING_REST_NS (60 * NS_PER_SECOND)
/*
 * A knock that is held is kept for the daemon, which lets it in when what was in its way is gone: one that lost to our dial
 * until its sender repeats it by itself (RFC 6298), or has given it up; one that waits for what a question brings for
 * longer, for a dial that has lasted is repeated every sixteen seconds.
 */
#define KNOCK_KEPT_MAX_NS     (5 * NS_PER_SECOND)
#define KNOCK_TIED_KEPT_MAX_NS NS_PER_SECOND
/* A peer has failed to answer when it has left so many SYNs of a dial without an answer. */
#define SYNS_UNANSWERED 2
/*
 * The so manieth dial in a row that was closed earlier is a failure, and so is each one after it, until something is
 * heard of the peer: an application that waits for half a second must not become a flood.
 */
#define UNHEARD_DIALS 3
/*
 * A service that starts may have many listeners. So many in a row end every backoff, and after them one in each period:
 * whoever listens without end must not keep every failure void.
 */
#define STARTS_AT_ONCE	 64
#define STARTS_PERIOD_NS NS_PER_SECOND
/* Links in a row that the peer ends young and without a byte; that many are a failure. */
#define SHORT_LINKS 2
/*
 * For so long a link that the peer has dialed is new: the application is still taking it in, with a handshake of its
 * own that needs some round trips. A dial that is refused at once in that time fails when nobody expects it, and FRR,
 * say, takes that for the end of the link. Unguarded it would be under way for a round trip at least. How long a
 * round trip seems is the peer's doing: over before TCP repeats the SYN, which is after 1 s (RFC 6298), by the time
 * that a daemon takes.
 */
#define LINK_NEW_ROUND_TRIPS 4
#define LINK_NEW_NS	     (100 * NS_PER_MS)
#define LINK_NEW_MAX_NS	     (800 * NS_PER_MS)
/*
 * Of the peers map this part is the most that the learned peers of one network may have, so that a visitor with any
 * number of addresses keeps nobody else out; and so many at any rate, as a house or a rack has hosts.
 */
#define NETWORK_SHARE	    8
#define NETWORK_PEERS_LEAST 16
/* Exempt for good. */
#define NEVER_ENDS_NS (~0ULL)

/* What was decided and why. */
struct decision {
	enum verdict verdict;
	enum cause cause;
	__u64 until_ns;     /* when the answer may change by itself; 0: not by time alone */
	__u64 other_cookie; /* the socket in the way, or the loser of a duplicate; 0: none */
	enum link_direction direction; /* ends of claims and links: the direction of the one that ended */
	enum ending ending; /* ends of claims and links: how; dials in backoff: of the failure it follows from */
	__u32 attempts;     /* consecutive failures after the step */
};

/* A dial, as the connect hook sees it: no route, no source port yet. */
struct dial {
	__u64 cookie;
	__u64 now;
	__u32 process_id;
	__u32 thread_id;
	enum guard_mode mode; /* below enforce a refusal is only counted: the dial goes on and needs its claim */
	__u32 announced_only; /* 1: central dial policy, and the daemon is alive to announce */
	__u32 asks;           /* 1: the daemon is alive and asks quiet links for a sign of life */
	__u32 ends_dials;     /* 1: the daemon is alive to end a dial that was kept in vain */
	__u64 pending_until_ns; /* a handshake of the peer that was let in is pending before; 0: none is */
	char command[COMMAND_LENGTH];
	__u32 user_id;
};

/* A knock, as sk_lookup (without the sequence number) or ingress (with it) sees it. */
struct knock {
	__u64 now;
	__u32 client_isn;
	__u32 isn_known; /* 0: a tie cannot be decided here, it is left to the hook that sees the SYN */
	enum guard_mode mode;
	__u32 ends_dials; /* 1: the daemon is alive to end a dial of ours that is given up */
	__u32 asks;       /* 1: and to ask quiet links for a sign of life */
	__u16 remote_port;
};

/* An established connection. */
struct link {
	__u64 cookie;
	__u64 now;
	enum link_direction direction;
	__u32 client_isn;
	__u32 adopted; /* 1: older than the guard, client_isn unknown */
	__u32 round_trip_ms; /* of its handshake; 0: not known */
	enum guard_mode mode; /* enforce: a link too many is doomed. observe: it is only reported. off: it is a link */
	__u16 local_port;
	__u16 remote_port;
};

/* A claim or link whose socket holds it no longer. */
struct slot_ended {
	__u64 cookie;
	__u64 now;
	enum ending ending;
	__u32 spoke;  /* 1: the peer has sent at least a byte of data */
	__u32 random; /* any 32 bits, for the jitter of the backoff */
};

/* ---- policy ---------------------------------------------------------------------------------- */

/*
 * The policy of a guard that nobody configured (connguard.conf(5) explains every value): an
 * initializer of struct guard_policy. ECONNREFUSED is "peer down" to every runtime; claim_max is longer
 * than the 127 s after which tcp_syn_retries 6 gives up.
 */
#define POLICY_DEFAULTS                                  \
	{                                                \
		.set = 1,                                \
		.max_links = 1,                          \
		.refusal_errno = 111,                    \
		.reject_style = REJECT_RESET,            \
		.tie_break = TIE_BREAK_ISN,              \
		.dial_policy = DIAL_POLICY_SHARED,       \
		.backoff_initial_ns = 100 * NS_PER_MS,   \
		.backoff_max_ns = 100 * NS_PER_MS,       \
		.min_uptime_ns = 10 * NS_PER_SECOND,     \
		.stable_after_ns = 300 * NS_PER_SECOND,  \
		.hold_max_ns = 1500 * NS_PER_MS,         \
		.claim_max_ns = 180 * NS_PER_SECOND,     \
		.liveness_ns = 0,                        \
		.suspect_after_ns = NS_PER_SECOND,       \
		.deny_max_ns = 60 * NS_PER_SECOND,       \
		.keep_dials = 1,                         \
		.adopt = ADOPT_KEEP,                     \
		.configured_mode = MODE_ENFORCE,         \
		.network_peers = PEERS_DEFAULT / NETWORK_SHARE, \
	}

/* POLICY_DEFAULTS as a value. */
static __always_inline struct guard_policy policy_defaults(void)
{
	return (struct guard_policy)POLICY_DEFAULTS;
}

/* The `network_peers` of a peers map with room for `max_peers`. */
static __always_inline __u32 network_share(__u32 max_peers)
{
	__u32 share = max_peers / NETWORK_SHARE;

	return share > NETWORK_PEERS_LEAST ? share : NETWORK_PEERS_LEAST;
}

/* How many links the peer may have. */
static __always_inline __u32 peer_limit(const struct peer *peer, const struct guard_policy *policy)
{
	__u32 limit = peer->limit ? peer->limit : peer->named_limit ? peer->named_limit : policy->max_links;

	/* A policy that is being written may be seen half: nobody is locked out by it. */
	return limit ? limit : 1;
}

/* 1 while nothing is refused to or from this peer. */
static __always_inline int peer_exempt(const struct peer *peer, __u64 now)
{
	/* For good is the greatest time, past what before() takes. */
	return before(now, peer->exempt_until_ns) | same(peer->exempt_until_ns, NEVER_ENDS_NS);
}

/* ---- backoff --------------------------------------------------------------------------------- */

/*
 * Length in ns of the backoff after `attempts` consecutive failures (1 or more): initial, doubled
 * per failure, capped, less a jitter of up to BACKOFF_JITTER_PERCENT taken from `random` (any 32
 * bits).
 */
static __always_inline __u64 backoff_step(const struct guard_policy *policy, __u32 attempts,
					  __u32 random)
{
	__u32 doublings = attempts > 1 ? attempts - 1 : 0;
	__u64 step;

	if (doublings > BACKOFF_DOUBLINGS_MAX)
		doublings = BACKOFF_DOUBLINGS_MAX;
	/* Asked of the cap, the question cannot overflow. */
	if (policy->backoff_initial_ns > policy->backoff_max_ns >> doublings)
		step = policy->backoff_max_ns;
	else
		step = policy->backoff_initial_ns << doublings;
	return step - step / 1000 * (random % (BACKOFF_JITTER_PERCENT * 10 + 1));
}

/*
 * One more failure: count it and set the deadline that follows. Not for what began before the
 * deadline that holds: that dial was made beside one that has failed meanwhile, or observe mode let
 * it pass.
 */
static __always_inline void backoff_fail(struct peer *peer, const struct guard_policy *policy,
					 __u64 since, const struct slot_ended *end, int silent)
{
	peer->unheard_dials = 0;
	if (peer->next_attempt_ns > since)
		return;
	if (peer->attempts != ~0U)
		peer->attempts++;
	peer->next_attempt_ns = end->now + backoff_step(policy, peer->attempts, end->random);
	peer->failed_ns = end->now;
	peer->failure = end->ending;
	peer->flags &= ~(__u32)PEER_SILENT;
	if (silent)
		peer->flags |= PEER_SILENT;
}

/* No failure any more. */
static __always_inline void backoff_clear(struct peer *peer)
{
	peer->attempts = 0;
	peer->next_attempt_ns = 0;
	peer->unheard_dials = 0;
}

/*
 * Everything that failed before `revived_ns` is void (struct guard_revival): a backoff that began
 * before is over. The attempts stay, so that flapping still climbs the steps. To be called before
 * anything is asked of a peer.
 */
static __always_inline void peer_revive(struct peer *peer, __u64 revived_ns)
{
	__u64 over = 1 ^ before(revived_ns, peer->failed_ns);

	peer->next_attempt_ns = pick(over, 0, peer->next_attempt_ns);
}

/*
 * A listener of the service has come up: 1, and everything that failed until now is void. 0: too many have, and
 * nothing is changed.
 */
static __always_inline __u64 revival_started(struct guard_revival *revival, __u64 now)
{
	__u64 from_ns = pick(before(revival->starts_ns, now), now, revival->starts_ns);
	__u64 starts_ns = from_ns + STARTS_PERIOD_NS;
	__u64 counts = 1 ^ before(now + STARTS_AT_ONCE * STARTS_PERIOD_NS, starts_ns);

	revival->starts_ns = pick(counts, starts_ns, revival->starts_ns);
	revival->since_ns = pick(counts, now, revival->since_ns);
	return counts;
}

/* ---- slots ----------------------------------------------------------------------------------- */

/* What the slots of a peer hold, as seen at one time by one socket. */
struct slot_census {
	__u32 links;           /* links of other sockets that count: neither doomed nor unproven */
	__u32 lively;          /* links of other sockets that show life */
	__u32 unproven;        /* links in doubt for deny_max: they count no longer */
	__u32 claims;          /* claims of other sockets that have not expired */
	__u64 link_cookie;     /* one of those that count; 0: none */
	__u64 unproven_cookie; /* one of those that do not; 0: none */
	__u64 doubt_ends_ns;   /* when the first of the links in doubt counts no longer; 0: none is */
	__u64 claim_cookie;    /* one of those claims; 0: none */
	__u64 claim_until_ns;  /* when that claim expires */
};

/* 1 for a link that is not doomed, else 0. A doomed one is as good as gone. */
static __always_inline __u64 slot_is_link(const struct slot *slot)
{
	return same(slot->kind, SLOT_LINK) & same(slot->flags & SLOT_DOOMED, 0);
}

/* 1 when the link was heard from within suspect_after, and can be heard at all, else 0. */
static __always_inline __u64 slot_shows_life(const struct slot *slot,
					     const struct guard_policy *policy, __u64 now)
{
	return before(now, slot->heard_ns + policy->suspect_after_ns) &
	       same(slot->flags & SLOT_STRANDED, 0);
}

/*
 * 1 when a quiet link counts no longer: it was asked for a sign of life in vain, or the doubt about it has
 * lasted for deny_max. Else 0.
 */
static __always_inline __u64 slot_is_unproven(const struct slot *slot,
					      const struct guard_policy *policy, __u64 now)
{
	__u64 doubted = (1 ^ same(slot->doubted_ns, 0)) &
			(1 ^ before(now, slot->doubted_ns + policy->deny_max_ns));
	__u64 unanswered = 1 ^ same(slot->flags & SLOT_UNANSWERED, 0);

	return (doubted | unanswered) & (1 ^ slot_shows_life(slot, policy, now));
}

/* 1 for a claim that is in force, else 0. */
static __always_inline __u64 slot_is_claim(const struct slot *slot, __u64 now)
{
	return same(slot->kind, SLOT_CLAIM) & before(now, slot->expires_ns);
}

/* 1 for a slot that may be taken: free, or a claim that is void. */
static __always_inline __u64 slot_is_open(const struct slot *slot, __u64 now)
{
	return same(slot->kind, SLOT_FREE) |
	       (same(slot->kind, SLOT_CLAIM) & (1 ^ before(now, slot->expires_ns)));
}

/*
 * Count what other sockets than `cookie` (0: all) hold.
 *
 * A denial needs proof: a link refuses others for as long as it shows life, is suspect when it is
 * silent, and counts no longer when it stays silent for deny_max after the first dial or knock that
 * was turned away for its sake (links_doubt()). Silence alone never ends a link.
 */
static __always_inline struct slot_census peer_census(const struct peer *peer,
						      const struct guard_policy *policy,
						      __u64 cookie, __u64 now)
{
	struct slot_census census = {};
	int i;

	for (i = 0; i < PEER_SLOTS; i++) {
		const struct slot *slot = &peer->slots[i];
		__u64 other = 1 ^ same(slot->cookie, cookie);
		__u64 link = other & slot_is_link(slot);
		__u64 unproven = link & slot_is_unproven(slot, policy, now);
		__u64 counts = link & (1 ^ unproven);
		__u64 lively = link & slot_shows_life(slot, policy, now);
		__u64 doubted = counts & (1 ^ lively) & (1 ^ same(slot->doubted_ns, 0));
		__u64 ends_ns = slot->doubted_ns + policy->deny_max_ns;
		__u64 claim = other & slot_is_claim(slot, now);

		census.links += counts;
		census.lively += lively;
		census.unproven += unproven;
		census.claims += claim;
		census.link_cookie = pick(counts, slot->cookie, census.link_cookie);
		census.unproven_cookie = pick(unproven, slot->cookie, census.unproven_cookie);
		census.doubt_ends_ns =
			pick(doubted &
				     (same(census.doubt_ends_ns, 0) |
				      before(ends_ns, census.doubt_ends_ns)),
			     ends_ns, census.doubt_ends_ns);
		census.claim_cookie = pick(claim, slot->cookie, census.claim_cookie);
		census.claim_until_ns = pick(claim, slot->expires_ns, census.claim_until_ns);
	}
	return census;
}

/*
 * The slot of this index, which is masked: what the verifier does not see, it does not have to
 * believe.
 */
static __always_inline struct slot *slot_at(struct peer *peer, __u64 index)
{
	_Static_assert((PEER_SLOTS & (PEER_SLOTS - 1)) == 0, "the mask needs a power of two");
	return &peer->slots[opaque(index) & (PEER_SLOTS - 1)];
}

/* The slot that `cookie` holds, or NULL. 0 holds none. */
static __always_inline struct slot *slot_of(struct peer *peer, __u64 cookie)
{
	__u64 index = 0, found = 0;
	int i;

	for (i = 0; i < PEER_SLOTS; i++) {
		__u64 match = same(peer->slots[i].cookie, cookie) &
			      (1 ^ same(peer->slots[i].kind, SLOT_FREE));

		found |= match;
		index = pick(match, i, index);
	}
	return found ? slot_at(peer, index) : 0;
}

/* Empty a slot. */
static __always_inline void slot_free(struct slot *slot)
{
	slot->kind = SLOT_FREE;
	slot->cookie = 0;
}

/*
 * Give `cookie` its slot: the one it has, else a free or expired one, emptied. NULL when all are
 * taken.
 */
static __always_inline struct slot *slot_take(struct peer *peer, __u64 cookie, __u64 now)
{
	struct slot *slot = slot_of(peer, cookie);
	__u64 index = 0, found = 0;
	int i;

	if (slot)
		return slot;
	for (i = PEER_SLOTS - 1; i >= 0; i--) {
		__u64 open = slot_is_open(&peer->slots[i], now);

		found |= open;
		index = pick(open, i, index);
	}
	if (!found)
		return 0;
	slot = slot_at(peer, index);
	slot->kind = SLOT_FREE;
	slot->cookie = cookie;
	slot->since_ns = now;
	slot->expires_ns = 0;
	slot->yields_until_ns = 0;
	slot->heard_ns = 0;
	slot->doubted_ns = 0;
	slot->stalled_ns = 0;
	slot->direction = DIRECTION_NONE;
	slot->client_isn = 0;
	slot->flags = 0;
	slot->process_id = 0;
	slot->thread_id = 0;
	slot->user_id = 0;
	slot->round_trip_ms = 0;
	slot->local_port = 0;
	slot->remote_port = 0;
	slot->syns = 0;
	slot->left_ns = 0;
	slot->ack_waits_until_ns = 0;
	__builtin_memset(slot->local_address, 0, sizeof(slot->local_address));
	__builtin_memset(slot->command, 0, sizeof(slot->command));
	return slot;
}

/*
 * A hook has looked the peer up and locked it: is it still, or for the first time, the entry of
 * `address`? A new entry has no address yet and gets this one. 0: the entry was recycled for
 * another peer, or is being deleted, under the hook's hands; the hook then allows and tracks
 * nothing.
 */
static __always_inline int peer_is(struct peer *peer, const struct peer_address *address, __u64 now)
{
	if (!peer->first_seen_ns) {
		peer->address = *address;
		peer->first_seen_ns = now;
		peer->last_active_ns = now;
	}
	return address_equal(&peer->address, address) &&
	       !(peer->flags & PEER_LEAVING);
}

/* ---- proof of life --------------------------------------------------------------------------- */

/*
 * A knock is turned away for the sake of links that do not all show life: the doubt about each of those
 * that do not begins now, unless it runs already, and the daemon asks them.
 */
static __always_inline void links_doubt(struct peer *peer, const struct guard_policy *policy,
					__u64 now)
{
	int i;

	for (i = 0; i < PEER_SLOTS; i++) {
		struct slot *slot = &peer->slots[i];
		__u64 begins = slot_is_link(slot) & (1 ^ slot_shows_life(slot, policy, now)) &
			       same(slot->doubted_ns, 0);

		slot->doubted_ns = pick(begins, now, slot->doubted_ns);
	}
}

/* When the first of the links that show no life counts no longer, if nothing is heard of it. */
static __always_inline __u64 doubt_ends(const struct slot_census *census,
					const struct guard_policy *policy, __u64 now)
{
	return pick(same(census->doubt_ends_ns, 0), now + policy->deny_max_ns,
		    census->doubt_ends_ns);
}

/* Evidence of life of the link of `cookie` at `heard_ns`. No such link: nothing. */
static __always_inline void link_heard(struct peer *peer, __u64 cookie, __u64 heard_ns)
{
	struct slot *slot = slot_of(peer, cookie);

	if (!slot || slot->kind != SLOT_LINK || slot->heard_ns >= heard_ns)
		return;
	slot->heard_ns = heard_ns;
	slot->stalled_ns = 0;
	slot->flags &= ~(__u32)(SLOT_UNANSWERED | SLOT_STRANDED);
	if (slot->doubted_ns <= heard_ns)
		slot->doubted_ns = 0;
	peer->doubted_dial_ns = 0;
}

/*
 * The quiet link of `cookie` was asked for a sign of life in vain. It ends by TCP's own verdict, or when its
 * peer completes the handshake of another one. CAUSE_none: it is not quiet, or gone.
 */
static __always_inline struct decision link_unanswered(struct peer *peer,
						       const struct guard_policy *policy,
						       __u64 cookie, __u64 now)
{
	struct decision decision = { .verdict = VERDICT_NONE, .cause = CAUSE_none };
	struct slot *slot = slot_of(peer, cookie);

	if (!slot || slot->kind != SLOT_LINK || slot_shows_life(slot, policy, now))
		return decision;
	slot->flags |= SLOT_UNANSWERED;
	decision.cause = CAUSE_link_unanswered;
	decision.direction = slot->direction;
	return decision;
}

/*
 * This end's address of the link of `cookie` is not this host's any more: nothing can be heard of it, whenever it was
 * last, and it need not be asked. It ends as an unanswered one does. CAUSE_none: it was known, or it is gone.
 */
static __always_inline struct decision link_stranded(struct peer *peer, __u64 cookie)
{
	struct decision decision = { .verdict = VERDICT_NONE, .cause = CAUSE_none };
	struct slot *slot = slot_of(peer, cookie);

	if (!slot || slot->kind != SLOT_LINK || slot->flags & SLOT_STRANDED)
		return decision;
	slot->flags |= SLOT_UNANSWERED | SLOT_STRANDED;
	decision.cause = CAUSE_link_stranded;
	decision.direction = slot->direction;
	return decision;
}

/* The address is this host's again: it is as if nothing had been asked. 0: the link was not stranded, or it is gone. */
static __always_inline int link_floats(struct peer *peer, __u64 cookie)
{
	struct slot *slot = slot_of(peer, cookie);

	if (!slot || slot->kind != SLOT_LINK || !(slot->flags & SLOT_STRANDED))
		return 0;
	slot->flags &= ~(__u32)(SLOT_UNANSWERED | SLOT_STRANDED);
	slot->doubted_ns = 0;
	return 1;
}

/*
 * As link_unanswered(), of those that have been in doubt for `asked_ns`. One that was asked a moment ago, or never,
 * may be alive: the newcomer must not take its place.
 */
static __always_inline void links_unanswered(struct peer *peer, const struct guard_policy *policy,
					     __u64 asked_ns, __u64 now)
{
	int i;

	for (i = 0; i < PEER_SLOTS; i++) {
		struct slot *slot = &peer->slots[i];
		__u64 quiet = slot_is_link(slot) & (1 ^ slot_shows_life(slot, policy, now)) &
			      (1 ^ same(slot->doubted_ns, 0)) &
			      (1 ^ before(now, slot->doubted_ns + asked_ns));

		slot->flags = pick(quiet, slot->flags | SLOT_UNANSWERED, slot->flags);
	}
}

/*
 * A segment of the link of `cookie` began beyond what has come. That is no evidence of life: the
 * other end's application may have closed it long ago, and its FIN be lost with what went before.
 */
static __always_inline void link_stalls(struct peer *peer, __u64 cookie, __u64 now)
{
	struct slot *slot = slot_of(peer, cookie);

	if (slot && slot->kind == SLOT_LINK && !slot->stalled_ns)
		slot->stalled_ns = now;
}

/* How many more links the peer may have. */
static __always_inline __u32 peer_room(const struct peer *peer, const struct guard_policy *policy,
				       __u64 now)
{
	__u32 links = peer_census(peer, policy, 0, now).links;
	__u32 limit = peer_limit(peer, policy);

	return links < limit ? limit - links : 0;
}

/* ---- our dial -------------------------------------------------------------------------------- */

/* When the last of the links that the peer has dialed is new no longer. 0: there is none, or only adopted ones. */
static __always_inline __u64 links_new_until(const struct peer *peer)
{
	__u64 until_ns = 0;
	int i;

	for (i = 0; i < PEER_SLOTS; i++) {
		const struct slot *slot = &peer->slots[i];
		__u64 lasts_ns = LINK_NEW_NS + LINK_NEW_ROUND_TRIPS * NS_PER_MS * slot->round_trip_ms;
		__u64 ends_ns = slot->since_ns +
				pick(before(lasts_ns, LINK_NEW_MAX_NS), lasts_ns, LINK_NEW_MAX_NS);
		__u64 later = slot_is_link(slot) & same(slot->direction, DIRECTION_INBOUND) &
			      same(slot->flags & SLOT_ADOPTED, 0) & before(until_ns, ends_ns);

		until_ns = pick(later, ends_ns, until_ns);
	}
	return until_ns;
}

/* May this dial pass now? Looks only. `dial->cookie` 0 asks for a socket yet to be made. */
static __always_inline struct decision dial_verdict(const struct peer *peer,
						    const struct guard_policy *policy,
						    const struct dial *dial)
{
	__u64 cookie = dial->cookie, now = dial->now;
	struct slot_census census = peer_census(peer, policy, cookie, now);
	__u32 limit = peer_limit(peer, policy);
	struct decision decision = { .attempts = peer->attempts };
	__u64 unproven = 1 ^ before(census.links + census.unproven, limit);
	__u64 linked = 1 ^ before(census.links, limit);
	__u64 suspect = linked & before(census.lively, limit);
	__u64 dialing;
	/*
	 * Their dial to us is being answered: it becomes the link. For hold_max, and then not for a
	 * while, for who sends a SYN may be anybody.
	 */
	__u64 pending = before(now, dial->pending_until_ns) &
			same(policy->tie_break, TIE_BREAK_ISN) &
			(1 ^ before(census.links + census.claims + 1, limit)) &
			(before(now, peer->refused_pending_ns + policy->hold_max_ns) |
			 (1 ^ before(now, peer->refused_pending_ns + PENDING_REST_NS)) |
			 same(peer->refused_pending_ns, 0));
	/*
	 * A peer that has a link is alive, whatever failed before: where several links are allowed, the
	 * one that it made to us must not wait for our own until the backoff is over.
	 */
	__u64 backoff = before(now, peer->next_attempt_ns) & same(census.links, 0);
	/* What is refused at once burns an application's tries; what is not answered yet does not. */
	__u64 kept = backoff & same(policy->keep_dials, 1) &
		     (1 ^ same(peer->flags & PEER_SILENT, 0));
	__u64 new_until_ns = links_new_until(peer);
	/* Their dial has only just become the link: ours waits for what becomes of that. One of ours at a time. */
	__u64 beside = linked & before(now, new_until_ns) & (1 ^ same(dial->mode, MODE_OFF)) &
		       same(policy->tie_break, TIE_BREAK_ISN) & (dial->ends_dials & 1);
	__u64 not_due = (dial->announced_only & 1) & same(peer->due_ns, 0);
	__u64 exempt = peer_exempt(peer, now);
	__u64 again = 0, unsent = 0, refused;
	int i;

	/*
	 * A claim is no obstacle to the socket that holds it: connect() again after ENETUNREACH,
	 * say. Beside a link one that was kept is asked for anew.
	 */
	for (i = 0; i < PEER_SLOTS; i++) {
		const struct slot *slot = &peer->slots[i];
		__u64 claim = slot_is_claim(slot, now), mine = same(slot->cookie, cookie);

		again |= mine & claim & (1 ^ (linked & (1 ^ same(slot->flags & SLOT_KEPT, 0))));
		unsent += claim & (1 ^ mine) & (1 ^ same(slot->user_id, dial->user_id)) &
			  same(slot->flags & SLOT_SENT, 0);
	}
	/*
	 * Nor, as long as no SYN has left, to the dials of another user, whose connect() may fail without end and
	 * without a packet. One service's own dials, which are what is to be told apart, are one user's.
	 */
	dialing = 1 ^ before(census.links + census.claims - unsent, limit);
	beside &= same(census.claims, 0) & (1 ^ (suspect | pending | not_due | again | exempt));
	refused = (linked | dialing | pending | (backoff & (1 ^ kept)) | not_due) &
		  (1 ^ (again | exempt | beside));
	kept &= 1 ^ (refused | exempt);
	decision.verdict =
		pick(refused, VERDICT_REFUSE, pick(kept | beside, VERDICT_HOLD, VERDICT_ALLOW));
	/* From the weakest reason to the strongest: the last one that holds is told. */
	decision.cause = pick(unproven, CAUSE_dial_unproven, CAUSE_dial_idle);
	decision.cause = pick(again, CAUSE_dial_again, decision.cause);
	decision.cause = pick(kept, CAUSE_dial_kept, decision.cause);
	decision.cause = pick(beside, CAUSE_dial_beside, decision.cause);
	decision.cause = pick(refused & not_due, CAUSE_dial_not_due, decision.cause);
	decision.cause = pick(refused & backoff & (1 ^ kept), CAUSE_dial_backoff, decision.cause);
	decision.cause = pick(refused & pending, CAUSE_dial_pending, decision.cause);
	decision.cause = pick(refused & dialing, CAUSE_dial_dialing, decision.cause);
	decision.cause = pick(refused & linked, CAUSE_dial_linked, decision.cause);
	decision.cause = pick(refused & suspect, CAUSE_dial_suspect, decision.cause);
	decision.cause = pick(exempt & (1 ^ again), CAUSE_dial_exempt, decision.cause);
	/* When a claim or a link ends, nobody knows. */
	decision.until_ns = pick(backoff, peer->next_attempt_ns, 0);
	decision.until_ns = pick(refused & pending, dial->pending_until_ns, decision.until_ns);
	decision.until_ns = pick(kept | (refused & (1 ^ (linked | dialing))), decision.until_ns, 0);
	decision.until_ns = pick(beside, new_until_ns, decision.until_ns);
	decision.other_cookie = pick(linked, census.link_cookie, pick(dialing, census.claim_cookie, 0));
	decision.other_cookie = pick(refused | beside, decision.other_cookie, 0);
	decision.ending = pick(same(decision.cause, CAUSE_dial_backoff) |
				       same(decision.cause, CAUSE_dial_kept),
			       peer->failure, ENDING_NONE);
	return decision;
}

/*
 * A dial was refused: what is remembered of it. It proves nothing about the other end and asks nobody,
 * until quiet links have been in the way for deny_max: then those are asked once, for no peer is refused
 * for longer without evidence.
 */
static __always_inline void dial_refused(struct peer *peer, const struct guard_policy *policy,
					 const struct dial *dial, enum cause cause)
{
	__u64 now = dial->now;

	if (cause == CAUSE_dial_suspect) {
		if (!peer->doubted_dial_ns)
			peer->doubted_dial_ns = now;
		/* What another processor has just noted may be a little later than `now`. */
		if (!dial->asks || !before(now, peer->doubted_dial_ns + policy->deny_max_ns))
			links_doubt(peer, policy, now);
	}
	if (cause == CAUSE_dial_pending &&
	    (!peer->refused_pending_ns || !before(now, peer->refused_pending_ns + PENDING_REST_NS)))
		peer->refused_pending_ns = now;
	peer->refused_dials++;
	peer->last_refusal_ns = now;
	peer->last_refusal_cause = cause;
}

/*
 * connect(): check and claim in one step. A dial that passes (or that observe mode lets pass) holds
 * a claim afterwards, and so does one that is kept; dial_unheld says that no slot was left. A refused
 * dial changes nothing but the record of refusals.
 */
static __always_inline struct decision dial_claim(struct peer *peer,
						  const struct guard_policy *policy,
						  const struct dial *dial)
{
	struct decision decision = dial_verdict(peer, policy, dial);
	__u32 kept = 0;
	struct slot *slot;

	/* Somebody wants to dial the peer: under the central policy that is how it is learned. */
	if (decision.cause == CAUSE_dial_not_due)
		peer->flags |= PEER_DIALED;
	if (decision.verdict == VERDICT_REFUSE && dial->mode != MODE_OFF) {
		dial_refused(peer, policy, dial, decision.cause);
		if (dial->mode == MODE_ENFORCE)
			return decision;
	}
	if (decision.verdict == VERDICT_HOLD && dial->mode == MODE_ENFORCE)
		kept = SLOT_KEPT;
	slot = slot_take(peer, dial->cookie, dial->now);
	if (!slot && decision.cause == CAUSE_dial_beside) {
		decision.verdict = VERDICT_REFUSE;
		decision.cause = CAUSE_dial_linked;
		decision.until_ns = 0;
		dial_refused(peer, policy, dial, decision.cause);
		return decision;
	}
	if (!slot) {
		/* Without a slot nothing lets its SYN go. Who is off refuses nothing. */
		if (decision.verdict != VERDICT_REFUSE || dial->mode == MODE_OFF) {
			decision.verdict = VERDICT_ALLOW;
			decision.cause = CAUSE_dial_unheld;
		}
		return decision;
	}
	slot->kind = SLOT_CLAIM;
	slot->direction = DIRECTION_OUTBOUND;
	slot->since_ns = dial->now;
	slot->expires_ns = dial->now + CLAIM_UNSENT_MAX_NS;
	slot->yields_until_ns = 0;
	slot->heard_ns = 0;
	slot->doubted_ns = 0;
	slot->stalled_ns = 0;
	slot->flags = kept;
	slot->syns = 0;
	slot->left_ns = 0;
	slot->ack_waits_until_ns = 0;
	slot->process_id = dial->process_id;
	slot->thread_id = dial->thread_id;
	slot->user_id = dial->user_id;
	__builtin_memcpy(slot->command, dial->command, sizeof(slot->command));
	peer->flags |= PEER_DIALED;
	peer->due_ns = 0;
	peer->last_active_ns = dial->now;
	return decision;
}

/* What TCP has made of a dial when its SYN is ready. */
struct dial_syn {
	__u64 cookie;
	__u64 now;
	__u32 client_isn;
	__u16 local_port;
	__u16 remote_port;
	__u8 local_address[16]; /* network byte order, IPv4 mapped */
};

/*
 * The dial's SYN is ready to leave: the claim is real, its number and port are known. No claim:
 * nothing.
 */
static __always_inline void dial_sent(struct peer *peer, const struct guard_policy *policy,
				      const struct dial_syn *syn)
{
	struct slot *slot = slot_of(peer, syn->cookie);

	/* Its retransmissions come by here too: they do not make the claim younger. */
	if (!slot || slot->kind != SLOT_CLAIM || slot->flags & SLOT_SENT)
		return;
	slot->flags |= SLOT_SENT;
	slot->expires_ns = syn->now + policy->claim_max_ns;
	slot->client_isn = syn->client_isn;
	slot->local_port = syn->local_port;
	slot->remote_port = syn->remote_port;
	__builtin_memcpy(slot->local_address, syn->local_address, sizeof(slot->local_address));
}

/*
 * A dial that was kept is kept no longer. What follows is as if it had begun now: the hold of a knock
 * that crosses it, and the failure that may come of it.
 */
static __always_inline struct decision dial_let_go(struct peer *peer,
						   const struct guard_policy *policy,
						   struct slot *claim, __u64 now)
{
	struct decision decision = { .verdict = VERDICT_NONE, .cause = CAUSE_dial_let_go };

	claim->flags &= ~(__u32)SLOT_KEPT;
	claim->since_ns = now;
	claim->expires_ns = now + policy->claim_max_ns;
	decision.direction = DIRECTION_OUTBOUND;
	decision.attempts = peer->attempts;
	return decision;
}

/* A SYN of the dial leaves the host. */
static __always_inline void dial_syn_left(struct slot *claim, __u64 now)
{
	claim->syns++;
	claim->left_ns = now;
}

/*
 * Until when the dial of `cookie`, which was kept, waits on: for the end of the backoff, or beside links that
 * leave no room for it, for as long as one of them is new. 0 or past: it does not. Where the tie-break is the
 * service's, or nothing is refused to the peer, links are in nobody's way.
 */
static __always_inline __u64 dial_waits_until(const struct peer *peer,
					      const struct guard_policy *policy, __u64 cookie,
					      __u64 now)
{
	__u64 backoff = before(now, peer->next_attempt_ns);
	__u64 linked = 1 ^ before(peer_census(peer, policy, cookie, now).links,
				  peer_limit(peer, policy));

	linked &= same(policy->tie_break, TIE_BREAK_ISN) & (1 ^ peer_exempt(peer, now));
	return pick(backoff, peer->next_attempt_ns, pick(linked, links_new_until(peer), 0));
}

/*
 * A SYN of the dial of `cookie`, the first one or another, is about to leave the host: VERDICT_HOLD keeps
 * it. `enforced` 0: nothing is kept any more. dial_let_go when it was kept and is not now, CAUSE_none
 * otherwise.
 */
static __always_inline struct decision dial_leaves(struct peer *peer,
						   const struct guard_policy *policy, __u64 cookie,
						   int enforced, __u64 now)
{
	struct decision decision = { .verdict = VERDICT_ALLOW, .cause = CAUSE_none };
	struct slot *claim = slot_of(peer, cookie);

	if (!claim || claim->kind != SLOT_CLAIM)
		return decision;
	if (claim->flags & SLOT_KEPT) {
		if (enforced && now < dial_waits_until(peer, policy, cookie, now)) {
			decision.verdict = VERDICT_HOLD;
			return decision;
		}
		decision = dial_let_go(peer, policy, claim, now);
	}
	dial_syn_left(claim, now);
	return decision;
}

/* ---- their knock ----------------------------------------------------------------------------- */

/*
 * The claim that a knock crosses: one whose SYN left. No such claim: cookie 0, there is nothing to
 * break a tie with (a claim whose SYN has not left is answered after their handshake, when it meets
 * their link).
 */
static __always_inline struct crossing {
	__u64 cookie;
	__u64 since_ns;
	__u64 client_isn;
	__u64 yielded; /* 1: it gave way before, or its SYN has not left */
} knock_crosses(const struct peer *peer, __u64 now)
{
	struct crossing crossing = {};
	int i;

	for (i = 0; i < PEER_SLOTS; i++) {
		const struct slot *slot = &peer->slots[i];
		__u64 sent = slot_is_claim(slot, now) & same(slot->flags & SLOT_SENT, SLOT_SENT);

		crossing.cookie = pick(sent, slot->cookie, crossing.cookie);
		crossing.since_ns = pick(sent, slot->since_ns, crossing.since_ns);
		crossing.client_isn = pick(sent, slot->client_isn, crossing.client_isn);
		crossing.yielded = pick(sent,
					(1 ^ same(slot->yields_until_ns, 0)) |
						(1 ^ same(slot->flags & SLOT_KEPT, 0)),
					crossing.yielded);
	}
	return crossing;
}

/* For how long at most quiet links turn a knock away, from the first one that they have on. */
static __always_inline __u64 denial_lasts(const struct guard_policy *policy,
					  const struct knock *knock)
{
	return knock->asks && policy->deny_max_ns > ASK_MAX_NS ? ASK_MAX_NS : policy->deny_max_ns;
}

/* When a knock that quiet links turn away gets in, if nothing is heard of them. */
static __always_inline __u64 denial_ends(const struct slot_census *census,
					 const struct guard_policy *policy,
					 const struct knock *knock)
{
	return doubt_ends(census, policy, knock->now) -
	       (policy->deny_max_ns - denial_lasts(policy, knock));
}

/* May this knock pass now? Looks only. */
static __always_inline struct decision knock_verdict(const struct peer *peer,
						     const struct guard_policy *policy,
						     const struct knock *knock)
{
	struct slot_census census = peer_census(peer, policy, 0, knock->now);
	__u32 limit = peer_limit(peer, policy);
	struct decision decision = { .verdict = VERDICT_ALLOW, .attempts = peer->attempts };
	struct crossing claim;

	if (peer_exempt(peer, knock->now)) {
		decision.cause = CAUSE_knock_exempt;
		return decision;
	}
	if (census.links >= limit) {
		decision.other_cookie = census.link_cookie;
		if (census.lively >= limit) {
			decision.verdict = VERDICT_REFUSE;
			decision.cause = CAUSE_knock_linked;
		} else {
			decision.verdict = VERDICT_HOLD;
			decision.cause = CAUSE_knock_suspect;
			decision.until_ns = denial_ends(&census, policy, knock);
			/* Nobody has told what came of the question; the handshake will tell more. */
			if (decision.until_ns <= knock->now) {
				decision.verdict = VERDICT_ALLOW;
				decision.cause = CAUSE_knock_unproven;
				decision.until_ns = 0;
			}
		}
		return decision;
	}
	claim = knock_crosses(peer, knock->now);
	if (claim.cookie && knock->isn_known && census.links + census.claims >= limit) {
		decision.other_cookie = claim.cookie;
		if (policy->tie_break == TIE_BREAK_NONE) {
			decision.cause = CAUSE_knock_tie_open;
		} else if (claim.yielded || knock->client_isn >= claim.client_isn) {
			/* A dial that was given up holds nobody any more. */
			decision.cause = CAUSE_knock_tie_won;
		} else if (claim.since_ns + policy->hold_max_ns <= knock->now ||
			   peer->short_links) {
			/*
			 * Our dial has had its round trip and did not complete: a firewall ate it,
			 * or the peer was not there yet and now is. Or the last one that did was
			 * hung up on: a peer that refuses newcomers while it dials would hang up on
			 * this one too, for as long as its own dial is held.
			 */
			decision.cause = CAUSE_knock_hold_spent;
		} else {
			decision.verdict = VERDICT_HOLD;
			decision.cause = CAUSE_knock_tie_lost;
			decision.until_ns = claim.since_ns + policy->hold_max_ns;
		}
		return decision;
	}
	decision.cause = census.links + census.unproven >= limit ? CAUSE_knock_unproven :
			 peer->next_attempt_ns > knock->now	  ? CAUSE_knock_backoff :
								    CAUSE_knock_idle;
	return decision;
}

/*
 * A knock is let in: the peer is alive, and its backoff is over. A SYN proves nothing about its sender,
 * so it ends each backoff once, and none before the end of the last one that a SYN has ended: that is
 * one dial more a step. 1: it has ended one.
 */
static __always_inline int backoff_wake(struct peer *peer, __u64 now)
{
	if (peer->next_attempt_ns <= now || now < peer->wake_after_ns)
		return 0;
	peer->wake_after_ns = peer->next_attempt_ns;
	peer->next_attempt_ns = 0;
	return 1;
}

/* 1 when there are links that count, and not all of them show life. */
static __always_inline int links_are_quiet(const struct peer *peer,
					   const struct guard_policy *policy, __u64 now)
{
	struct slot_census census = peer_census(peer, policy, 0, now);

	return census.lively < census.links;
}

/*
 * A knock that is let in has beaten our dial. The dial is given up for it, so that an application that
 * refuses newcomers while it dials hears of the loser first. Once, until a link has come up: spoofed
 * SYNs cost one dial and not all of them.
 */
static __always_inline int dial_give_up(struct peer *peer, struct slot *claim,
					const struct knock *knock)
{
	if (!knock->ends_dials || peer->flags & PEER_YIELDED)
		return 0;
	peer->flags |= PEER_YIELDED;
	if (knock->mode == MODE_ENFORCE)
		claim->flags |= SLOT_GIVEN_UP;
	return 1;
}

/*
 * SYN: decide, and note on a claim that gives way to the knock that is let in. A claim gives way once
 * and for all: otherwise two ends that each let the other in could change their minds in turn.
 */
static __always_inline struct decision knock_decide(struct peer *peer,
						    const struct guard_policy *policy,
						    const struct knock *knock)
{
	struct decision decision = knock_verdict(peer, policy, knock);
	struct slot *claim;

	/* What is not answered at once is the business of the hook that sees the SYN. */
	if (decision.verdict != VERDICT_REFUSE && !knock->isn_known)
		return decision;
	if (decision.cause == CAUSE_knock_suspect)
		links_doubt(peer, policy, knock->now);
	if (decision.cause == CAUSE_knock_unproven)
		links_unanswered(peer, policy, denial_lasts(policy, knock), knock->now);
	if (decision.verdict != VERDICT_ALLOW) {
		peer->refused_knocks++;
		peer->last_refusal_ns = knock->now;
		peer->last_refusal_cause = decision.cause;
		return decision;
	}
	/* The deadline of a backoff that goes on is told; 0: it is over. */
	if (decision.cause != CAUSE_knock_exempt && !backoff_wake(peer, knock->now) &&
	    decision.cause == CAUSE_knock_backoff)
		decision.until_ns = peer->next_attempt_ns;
	if (decision.cause != CAUSE_knock_tie_won && decision.cause != CAUSE_knock_hold_spent)
		return decision;
	claim = slot_of(peer, decision.other_cookie);
	if (!claim || claim->yields_until_ns)
		return decision;
	/*
	 * Given up is what loses at the other end as well, by the greater number or because nothing of it
	 * has left. Where ours has the greater one, or both are equal, the other end gives up its dial for
	 * ours, and no link would be left of the two: whether it does shows when the knock's last ACK comes.
	 * Nor beside a quiet link, where several are allowed: if it is dead there is room for both, and it is
	 * about to be asked.
	 */
	peer->yielded_port = 0;
	if (!links_are_quiet(peer, policy, knock->now)) {
		peer->yielded_port = knock->remote_port;
		if ((claim->flags & SLOT_KEPT || knock->client_isn > claim->client_isn) &&
		    dial_give_up(peer, claim, knock))
			decision.cause = CAUSE_knock_goes_first;
	}
	/* The bound on holding its answer begins here: a dial may be old when it meets their knock. */
	claim->yields_until_ns = knock->now + HOLD_PERIODS * policy->hold_max_ns;
	/* How long SYNs of its own connection were held says nothing of this knock's last ACK. */
	claim->ack_waits_until_ns = 0;
	return decision;
}

/*
 * The last ACK of a knock that was let in over a dial of ours, or what follows it. A dial that was not
 * given up for the knock, because the other end might have given up its own for it, is now: the other
 * end has not. The ACK waits for the end of it, for a moment: the daemon has had a round trip for that,
 * or is about to do it, and lets in what was held; or its sender repeats it. Not that of another knock:
 * were it late, one more could get in beside it.
 */
static __always_inline struct decision last_ack_decide(struct peer *peer, const struct knock *ack)
{
	struct decision decision = { .verdict = VERDICT_ALLOW, .cause = CAUSE_none };
	__u64 index = 0, found = 0;
	struct slot *claim;
	int i;

	for (i = 0; i < PEER_SLOTS; i++) {
		const struct slot *slot = &peer->slots[i];
		__u64 beaten = slot_is_claim(slot, ack->now) &
			       (1 ^ same(slot->yields_until_ns, 0));

		found |= beaten;
		index = pick(beaten, i, index);
	}
	if (!found || peer->yielded_port != ack->remote_port)
		return decision;
	claim = slot_at(peer, index);
	if (!(claim->flags & SLOT_GIVEN_UP) && !dial_give_up(peer, claim, ack))
		return decision;
	if (!claim->ack_waits_until_ns)
		claim->ack_waits_until_ns = ack->now + ACK_WAITS_NS;
	if (ack->now >= claim->ack_waits_until_ns)
		return decision;
	decision.verdict = VERDICT_HOLD;
	decision.cause = CAUSE_knock_ack_waits;
	decision.other_cookie = claim->cookie;
	decision.until_ns = claim->ack_waits_until_ns;
	return decision;
}

/*
 * A SYN without an ACK has met our dial of `cookie` itself: both ends dial from the port on which they
 * listen, and open one connection. Of the two numbers the greater stays a dial; the other end gives its
 * dial up, and its listener answers: otherwise both applications would take themselves for the client.
 * Not at the first SYN: an end without a guard answers ours, and would find nobody. One with a guard
 * drops it, and asks again. Where nothing comes of that (a firewall eats the greater one's SYN, nobody
 * ends the dial that was given up), TCP opens the connection from both ends, after hold_max.
 */
static __always_inline struct decision open_decide(struct peer *peer,
						   const struct guard_policy *policy, __u64 cookie,
						   const struct knock *knock)
{
	struct decision decision = { .verdict = VERDICT_ALLOW, .cause = CAUSE_none };
	struct slot *claim = slot_of(peer, cookie);

	if (!claim || claim->kind != SLOT_CLAIM || !(claim->flags & SLOT_SENT) ||
	    peer_exempt(peer, knock->now) || policy->tie_break == TIE_BREAK_NONE ||
	    claim->client_isn == knock->client_isn)
		return decision;
	if (!claim->ack_waits_until_ns)
		claim->ack_waits_until_ns = knock->now + policy->hold_max_ns;
	if (claim->ack_waits_until_ns <= knock->now)
		return decision;
	/* One that waits for the end of a backoff would keep both ends waiting. */
	if (claim->client_isn > knock->client_isn && !(claim->flags & SLOT_KEPT)) {
		decision.cause = CAUSE_knock_open_won;
	} else if (!(claim->flags & SLOT_MET) && !(peer->flags & PEER_YIELDED) && knock->ends_dials) {
		decision.cause = CAUSE_knock_open_met;
		if (knock->mode == MODE_ENFORCE)
			claim->flags |= SLOT_MET;
	} else if (claim->flags & SLOT_GIVEN_UP || dial_give_up(peer, claim, knock)) {
		decision.cause = CAUSE_knock_open_lost;
		decision.other_cookie = cookie;
	} else {
		return decision;
	}
	decision.verdict = VERDICT_HOLD;
	peer->refused_knocks++;
	peer->last_refusal_ns = knock->now;
	peer->last_refusal_cause = decision.cause;
	return decision;
}

/*
 * 32 bits that place an address in the table of pending handshakes. Multilinear hashing (Lemire, Kaser: "Strongly
 * universal string hashing is fast", section 3): over the random keys any two addresses, whoever chose them, share
 * some of the bits, from the top, as seldom as if the bits were drawn.
 */
static __always_inline __u32 handshake_hash(const struct handshake_key *key,
					    const struct peer_address *address)
{
	__u64 sum = key->words[0] + key->words[5] * address->service;
	__u32 words[4];
	int i;

	__builtin_memcpy(words, address->bytes, sizeof(words));
	for (i = 0; i < 4; i++)
		sum += key->words[1 + i] * words[i];
	return sum >> 32;
}

/*
 * A SYN that knock_decide() allows passes only if no other handshake of the same peer is pending, so
 * that two SYNs inside one round trip do not both become links. `pending` is the peer's element of
 * the fixed table, locked by the caller; `room` is how many more links the peer may have. Each SYN is
 * held once, a few at a time: its own retransmission passes.
 */
static __always_inline struct decision handshake_decide(struct pending_handshake *pending,
							const struct peer_address *address,
							const struct guard_policy *policy,
							__u16 remote_port, __u32 client_isn,
							__u32 room, __u64 now)
{
	struct decision decision = { .verdict = VERDICT_ALLOW, .cause = CAUSE_knock_idle };
	__u64 known = 0, place = 0, free_places = 0;
	int i;

	if (pending->until_ns > now) {
		/* Another address owns the element: no memory for this one, so no hold. */
		if (!address_equal(&pending->address, address) ||
		    pending->remote_port == remote_port || room > 1)
			return decision;
		if (pending->held_until_ns <= now) {
			pending->held_until_ns = now + HOLD_PERIODS * policy->hold_max_ns;
			__builtin_memset(pending->held_ports, 0, sizeof(pending->held_ports));
		}
		for (i = 0; i < HELD_PORTS; i++) {
			__u64 empty = same(pending->held_ports[i], 0);

			known |= same(pending->held_ports[i], remote_port);
			free_places |= empty;
			place = pick(empty, i, place);
		}
		if (pending->acknowledged || (!known && free_places)) {
			if (!known && free_places)
				pending->held_ports[opaque(place) & (HELD_PORTS - 1)] = remote_port;
			decision.verdict = VERDICT_HOLD;
			decision.cause = CAUSE_knock_pending;
			decision.until_ns = pending->until_ns;
			return decision;
		}
		decision.cause = CAUSE_knock_hold_spent;
	}
	pending->address = *address;
	pending->remote_port = remote_port;
	pending->client_isn = client_isn;
	pending->acknowledged = 0;
	pending->let_in_ns = now;
	pending->until_ns = now + policy->hold_max_ns;
	return decision;
}

/*
 * The last ACK of the handshake from this port has come and waits: it becomes a link when the daemon lets it in, or
 * our SYN-ACK is repeated, a second later (RFC 6298). Until then no other SYN passes, not even one that was held
 * before: both would become links. Somebody who guesses can bring this about once, as he can have a dial given up.
 */
static __always_inline void handshake_waits(struct pending_handshake *pending,
					    const struct peer_address *address,
					    const struct guard_policy *policy, __u16 remote_port,
					    __u64 now)
{
	if (!address_equal(&pending->address, address) || pending->remote_port != remote_port ||
	    pending->until_ns <= now)
		return;
	pending->acknowledged = 1;
	pending->until_ns = now + HOLD_PERIODS * policy->hold_max_ns;
}

/* A handshake of the peer that was let in and is not a link yet. */
struct their_handshake {
	__u64 until_ns; /* 0: there is none */
	__u32 client_isn;
	__u16 remote_port; /* it came from; host byte order */
};

/* What the table knows of the peer's handshake. */
static __always_inline struct their_handshake
handshake_pending(const struct pending_handshake *pending, const struct peer_address *address,
		  __u64 now)
{
	struct their_handshake theirs = {};

	if (address_equal(&pending->address, address) && pending->until_ns > now) {
		theirs.until_ns = pending->until_ns;
		theirs.client_isn = pending->client_isn;
		theirs.remote_port = pending->remote_port;
	}
	return theirs;
}

/* 1 while the handshake from this port, which was let in, is not a link yet, as far as the table knows. */
static __always_inline int handshake_awaited(const struct pending_handshake *pending,
					     const struct peer_address *address, __u16 remote_port,
					     __u64 now)
{
	return address_equal(&pending->address, address) && pending->remote_port == remote_port &&
	       pending->until_ns > now;
}

/*
 * The first listener there is now where the handshake came to began at `since_ns`: one that was let in before ended with
 * a listener that is gone. Nothing else tells of that, for its last ACK may never come. The new service's dial and the
 * peer's next SYN need not wait for it.
 */
static __always_inline void handshake_forget_before(struct pending_handshake *pending, __u64 since_ns)
{
	if (pending->let_in_ns <= since_ns)
		pending->until_ns = 0;
}

/* The handshake became a link, or never will: it is pending no longer. */
static __always_inline void handshake_done(struct pending_handshake *pending,
					   const struct peer_address *address, __u16 remote_port)
{
	if (address_equal(&pending->address, address) && pending->remote_port == remote_port)
		pending->until_ns = 0;
}

/* ---- the answer to our dial ------------------------------------------------------------------ */

/*
 * 1 while the claim's answer has to wait for their handshake: it gave way to it; it loses the tie to
 * it; or, for a shorter time, it wins. Their knock is pending then because it was let in before the
 * claim's SYN left, and the other end will complete it unless it is guarded as well. In order it
 * would have completed it before it could answer us: something was lost, reordered, or left at the
 * same moment. So the first answer is held, and its retransmission, a second later (RFC 6298), is
 * not: of two guarded ends the other one waits for us by then.
 */
static __always_inline int answer_gives_way(const struct slot *claim,
					    const struct guard_policy *policy,
					    const struct their_handshake *theirs, __u64 now)
{
	__u64 longest = theirs->client_isn >= claim->client_isn ?
				HOLD_PERIODS * policy->hold_max_ns :
				policy->hold_max_ns / HOLD_SHORTENED;

	if (claim->yields_until_ns)
		return now < claim->yields_until_ns;
	return now < claim->since_ns + longest;
}

/*
 * The answer to a dial is held that gave way to a smaller number: for how long follows from the round trip that it
 * shows. Where the SYN was repeated before it could be answered that is too short; the answer to the repeated
 * one comes later all the same.
 */
static __always_inline void claim_learns_round_trip(struct slot *claim, __u64 now)
{
	__u64 waits_ns = 0;

	/* `now` was read before the lock was taken: the SYN may have been repeated since. */
	if (before(claim->left_ns, now))
		waits_ns = ANSWER_WAITS_ROUND_TRIPS * (now - claim->left_ns);
	if (waits_ns < ANSWER_WAITS_LEAST_NS)
		waits_ns = ANSWER_WAITS_LEAST_NS;
	if (now + waits_ns < claim->yields_until_ns)
		claim->yields_until_ns = now + waits_ns;
}

/*
 * SYN-ACK to the dial of `cookie`: may it complete? Not while the peer has its links already, nor,
 * for a bounded time, while a handshake of theirs that goes first is on its way, unless there is
 * room for both. Dropping it here keeps the duplicate from both applications: the other end's
 * accept() returns only after our ACK. A dial whose SYN waited so long that its claim is void (Fast
 * Open) may have lost its slot to another; it gives way to a link all the same. On a claim whose
 * answer is held it is noted that the peer has answered. When such a dial has come to nothing, no further answer is
 * held for a handshake until a link has come up: that one may be nobody's, and an application that gives its dials
 * less time than the hold would never link.
 */
static __always_inline struct decision answer_decide(struct peer *peer,
						     const struct guard_policy *policy,
						     const struct their_handshake *theirs,
						     __u64 cookie, __u64 now)
{
	struct slot_census census = peer_census(peer, policy, cookie, now);
	struct decision decision = { .verdict = VERDICT_ALLOW, .cause = CAUSE_none };
	struct slot *claim = slot_of(peer, cookie);

	if ((claim && claim->kind != SLOT_CLAIM) || peer_exempt(peer, now) ||
	    policy->tie_break == TIE_BREAK_NONE)
		return decision;
	if (census.links >= peer_limit(peer, policy)) {
		decision.verdict = VERDICT_HOLD;
		decision.cause = CAUSE_answer_linked;
		decision.other_cookie = census.link_cookie;
	} else if (claim && theirs->until_ns > now && !(peer->flags & PEER_ANSWERED) &&
		   (claim->yields_until_ns ||
		    census.links + census.claims + 1 >= peer_limit(peer, policy)) &&
		   answer_gives_way(claim, policy, theirs, now)) {
		decision.verdict = VERDICT_HOLD;
		decision.cause = CAUSE_answer_tie_lost;
		decision.until_ns = theirs->until_ns;
		if (claim->client_isn > theirs->client_isn)
			claim_learns_round_trip(claim, now);
		if (claim->yields_until_ns && claim->yields_until_ns < decision.until_ns)
			decision.until_ns = claim->yields_until_ns;
	}
	if (claim && decision.verdict == VERDICT_HOLD)
		claim->flags |= SLOT_ANSWERED;
	return decision;
}

/*
 * Had the peer its links when the dial of `cookie` was made? Then observe mode has told that it would be refused or kept,
 * and that its answer would be held is not told as well: there would be none.
 */
static __always_inline int dial_was_linked(struct peer *peer, const struct guard_policy *policy, __u64 cookie)
{
	const struct slot *claim = slot_of(peer, cookie);
	__u32 links = 0;
	int i;

	for (i = 0; claim && i < PEER_SLOTS; i++)
		links += slot_is_link(&peer->slots[i]) & before(peer->slots[i].since_ns, claim->since_ns);
	return claim && links >= peer_limit(peer, policy);
}

/* ---- a connection is established ------------------------------------------------------------- */

/* A handshake was completed: the peer is alive, and whoever sent SYNs in its name is forgotten. */
static __always_inline void link_proves_life(struct peer *peer)
{
	peer->next_attempt_ns = 0;
	peer->wake_after_ns = 0;
	peer->refused_pending_ns = 0;
	peer->doubted_dial_ns = 0;
	peer->unheard_dials = 0;
	peer->flags &= ~(__u32)(PEER_YIELDED | PEER_ANSWERED);
}

/* Of the links too many that `link` has brought about, `loser` is the one to go. */
static __always_inline void link_doom(struct peer *peer, const struct link *link, __u64 loser)
{
	struct slot *slot = slot_of(peer, loser);

	if (slot && link->mode == MODE_ENFORCE)
		slot->flags |= SLOT_DOOMED;
}

/*
 * A connection is established: it is a link now, whatever was decided before. When it is one too
 * many, name the loser (decision.other_cookie) and doom its slot: one that is unproven or, in the same
 * direction, silent; else of two crossing ones the smaller client number, of two in the same
 * direction the newcomer. The daemon destroys the loser's socket. One that finds no slot
 * (link_unheld) is the loser itself when it is one too many. An adopted one that is one too many loses
 * nothing, it is told (link_surplus). Calling it twice for one socket changes nothing.
 */
static __always_inline struct decision link_up(struct peer *peer, const struct guard_policy *policy,
					       const struct link *link)
{
	struct slot_census census = peer_census(peer, policy, link->cookie, link->now);
	struct decision decision = { .verdict = VERDICT_NONE, .direction = link->direction };
	struct slot *mine = slot_take(peer, link->cookie, link->now);
	__u64 crossed = 0, tied = 0, silent = 0, loser = link->cookie, weakest;
	int i;

	decision.attempts = peer->attempts;
	peer->last_active_ns = link->now;
	peer->due_ns = 0;
	link_proves_life(peer);
	if (!mine) {
		decision.cause = CAUSE_link_unheld;
		/* Without a slot it cannot be doomed, but it can be named. */
		if (census.links >= peer_limit(peer, policy) && !peer_exempt(peer, link->now) &&
		    !link->adopted && link->mode == MODE_ENFORCE)
			decision.other_cookie = link->cookie;
		return decision;
	}
	if (mine->kind == SLOT_LINK) {
		decision.cause = CAUSE_none;
		return decision;
	}
	mine->kind = SLOT_LINK;
	mine->direction = link->direction;
	mine->since_ns = link->now;
	mine->expires_ns = 0;
	mine->yields_until_ns = 0;
	/* An adopted one is taken on trust, for as long as one that was just heard from. */
	mine->heard_ns = link->now;
	mine->doubted_ns = 0;
	mine->stalled_ns = 0;
	if (!(mine->flags & SLOT_SENT))
		mine->client_isn = link->client_isn;
	mine->local_port = link->local_port;
	mine->remote_port = link->remote_port;
	mine->round_trip_ms = link->round_trip_ms;
	mine->flags = link->adopted ? SLOT_ADOPTED : 0;

	decision.cause = link->adopted ? CAUSE_link_adopted :
			 link->direction == DIRECTION_OUTBOUND ? CAUSE_link_outbound :
								 CAUSE_link_inbound;
	if (census.links + census.unproven < peer_limit(peer, policy) ||
	    peer_exempt(peer, link->now) || link->mode == MODE_OFF)
		return decision;
	/* Of what was there before the guard nobody knows which is the newcomer. */
	if (link->adopted) {
		mine->flags |= SLOT_SURPLUS;
		decision.cause = CAUSE_link_surplus;
		return decision;
	}

	weakest = mine->client_isn;
	for (i = 0; i < PEER_SLOTS; i++) {
		const struct slot *other = &peer->slots[i];
		__u64 rival = slot_is_link(other) & (1 ^ same(other->cookie, link->cookie)) &
			      (1 ^ slot_is_unproven(other, policy, link->now));
		__u64 crosses = rival & (1 ^ same(other->direction, link->direction)) &
				same(other->flags & SLOT_ADOPTED, 0);
		__u64 weaker;

		/* Of the same direction, or adopted: the newcomer goes, unless the other is silent. */
		silent = pick(rival & (1 ^ crosses) & (1 ^ slot_shows_life(other, policy, link->now)),
			      other->cookie, silent);
		crossed = pick(crosses, other->cookie, crossed);
		weaker = crosses & before(other->client_isn, weakest);
		loser = pick(weaker, other->cookie, loser);
		weakest = pick(weaker, other->client_isn, weakest);
		tied |= crosses & same(other->client_isn, mine->client_isn);
	}
	/* With room for it but for the one that counts no longer, it takes the place of that one. */
	if (census.links < peer_limit(peer, policy))
		silent = census.unproven_cookie;
	if (silent) {
		decision.cause = CAUSE_link_replaced;
		decision.other_cookie = silent;
		link_doom(peer, link, decision.other_cookie);
		return decision;
	}
	/*
	 * Equal numbers name no loser, and each end would name its own newcomer: then both links
	 * would go.
	 */
	if (crossed && (tied || policy->tie_break == TIE_BREAK_NONE)) {
		decision.cause = CAUSE_link_crossed;
		decision.other_cookie = crossed;
		return decision;
	}
	link_doom(peer, link, loser);
	decision.cause = CAUSE_link_duplicate;
	decision.other_cookie = loser;
	return decision;
}

/* ---- liveness -------------------------------------------------------------------------------- */

/* The settings of a socket that make a link with a dead other end die (tcp(7), socket(7)). */
struct liveness_settings {
	__u32 idle_seconds;     /* TCP_KEEPIDLE */
	__u32 interval_seconds; /* TCP_KEEPINTVL */
	__u32 probes;           /* TCP_KEEPCNT */
};

/*
 * Half of the time in silence, then three probes in the other half: silence alone never ends a link.
 * There is no user timeout: it would end the link of a peer that does not read for a while and answers
 * every probe. `liveness_ns` is not 0.
 */
static __always_inline struct liveness_settings liveness_settings(__u64 liveness_ns)
{
	__u32 seconds = liveness_ns / NS_PER_SECOND;
	struct liveness_settings settings = {
		.idle_seconds = seconds / 2,
		.interval_seconds = seconds / 6,
		.probes = 3,
	};

	if (!settings.idle_seconds)
		settings.idle_seconds = 1;
	if (!settings.interval_seconds)
		settings.interval_seconds = 1;
	return settings;
}

/* ---- ends ------------------------------------------------------------------------------------ */

/*
 * A dial ended that never became a link: what it was. A failure is the peer's refusal or its silence,
 * nothing else: what we closed before, held or gave up ourselves is none, nor an error of this host.
 */
static __always_inline enum cause claim_end(struct peer *peer, const struct guard_policy *policy,
					    const struct slot *claim, const struct slot_ended *end)
{
	int silent = claim->syns >= SYNS_UNANSWERED, row;
	/*
	 * For as long as its answer would be held, and, as with giving up, for one knock that never becomes
	 * a link: else whoever sends SYNs in the peer's name could keep every dial from failing.
	 */
	int yields = end->now < claim->yields_until_ns && !(peer->flags & PEER_YIELDED);

	if (!(claim->flags & SLOT_SENT))
		return CAUSE_claim_closed;
	if (claim->flags & SLOT_GIVEN_UP || yields)
		return CAUSE_dial_yielded;
	if (claim->flags & SLOT_KEPT)
		return CAUSE_dial_unheard;
	if (end->ending == ENDING_RESET || end->ending == ENDING_UNREACHABLE) {
		/* Of a peer that cannot be reached nothing was heard: others, or nobody, have answered. */
		backoff_fail(peer, policy, claim->since_ns, end,
			     end->ending == ENDING_UNREACHABLE);
		return CAUSE_dial_failed;
	}
	if (claim->flags & SLOT_ANSWERED)
		peer->flags |= PEER_ANSWERED;
	if (claim->flags & SLOT_ANSWERED ||
	    (end->ending != ENDING_CLOSED && end->ending != ENDING_SILENCE))
		return CAUSE_dial_unheard;
	if (!silent && claim->syns && peer->unheard_dials < UNHEARD_DIALS)
		peer->unheard_dials++;
	if (!silent && peer->unheard_dials < UNHEARD_DIALS)
		return CAUSE_dial_unheard;
	row = peer->unheard_dials;
	backoff_fail(peer, policy, claim->since_ns, end, 1);
	/* Silence ends no row of silence. */
	peer->unheard_dials = row;
	return CAUSE_dial_failed;
}

/*
 * A link ended. A peer that accepts our dial and hangs up without a word, again and again, refuses us;
 * once it may be a way of saying that it wants something else. Only our dials: a peer that knocks and
 * hangs up must not be able to keep us from dialing it.
 */
static __always_inline enum cause link_end(struct peer *peer, const struct guard_policy *policy,
					   const struct slot *link, const struct slot_ended *end)
{
	__u64 lifetime = end->now - link->since_ns;
	int by_peer = end->ending == ENDING_PEER_CLOSED || end->ending == ENDING_RESET;

	if (lifetime >= policy->stable_after_ns)
		backoff_clear(peer);
	if (link->direction != DIRECTION_OUTBOUND || link->flags & SLOT_ADOPTED)
		return CAUSE_link_ended;
	if (!by_peer || end->spoke || lifetime >= policy->min_uptime_ns) {
		peer->short_links = 0;
		return CAUSE_link_ended;
	}
	if (peer->short_links < SHORT_LINKS)
		peer->short_links++;
	if (peer->short_links < SHORT_LINKS)
		return CAUSE_link_short;
	backoff_fail(peer, policy, link->since_ns, end, 0);
	return CAUSE_link_hung_up;
}

/*
 * The socket holds nothing any more: its dial failed or was given up, or its link left ESTABLISHED. The
 * failure and the backoff that follows are this one step, so that the peer never looks idle in between.
 * A cookie that owns no slot ends nothing: CAUSE_none.
 */
static __always_inline struct decision slot_end(struct peer *peer,
						const struct guard_policy *policy,
						const struct slot_ended *end)
{
	struct slot_census census = peer_census(peer, policy, end->cookie, end->now);
	struct decision decision = { .verdict = VERDICT_NONE, .cause = CAUSE_none };
	struct slot *slot = slot_of(peer, end->cookie);

	decision.attempts = peer->attempts;
	if (!slot)
		return decision;
	decision.direction = slot->direction;
	decision.ending = end->ending;
	if (slot->kind == SLOT_CLAIM)
		decision.cause = census.links && slot->flags & SLOT_SENT ?
					 CAUSE_dial_superseded :
					 claim_end(peer, policy, slot, end);
	else if (slot->flags & SLOT_DOOMED)
		decision.cause = CAUSE_link_destroyed;
	else if (census.links && end->now - slot->since_ns < policy->stable_after_ns)
		decision.cause = CAUSE_link_ended;
	else
		decision.cause = link_end(peer, policy, slot, end);
	slot_free(slot);
	peer->last_active_ns = end->now;
	decision.attempts = peer->attempts;
	if (peer->next_attempt_ns > end->now)
		decision.until_ns = peer->next_attempt_ns;
	return decision;
}

/*
 * The dial of `cookie` to this peer was led to another one: a program that ran after the connect hook
 * has rewritten its address (a service's address, say, into that of a host behind it), and there it
 * became a link. Here it holds nothing any more, and no failure is left; nor is this peer one that
 * we announce: who is to be found behind it is not to be known.
 */
static __always_inline void dial_led_away(struct peer *peer, __u64 cookie, __u64 now)
{
	struct slot *slot = slot_of(peer, cookie);

	if (!slot || slot->kind != SLOT_CLAIM)
		return;
	slot_free(slot);
	backoff_clear(peer);
	peer->flags &= ~(__u32)PEER_DIALED;
	peer->last_active_ns = now;
}

/* ---- commands -------------------------------------------------------------------------------- */

/* 1 for an operator's decision about a peer, which need not be there yet. */
static __always_inline int command_decides(const struct guard_command *command)
{
	return (command->operation == COMMAND_LIMIT && command->value) ||
	       (command->operation == COMMAND_ALLOW && command->until_ns);
}

/* 1 for a decision that is taken back. A peer that is not there has none to lose. */
static __always_inline int command_takes_back(const struct guard_command *command)
{
	return (command->operation == COMMAND_LIMIT || command->operation == COMMAND_ALLOW) &&
	       !command_decides(command);
}

/* 1 when the peer has no link, however silent, no claim and no backoff left. */
static __always_inline int peer_idle(const struct peer *peer, __u64 now)
{
	__u64 held = 0;
	int i;

	for (i = 0; i < PEER_SLOTS; i++)
		held |= slot_is_link(&peer->slots[i]) | slot_is_claim(&peer->slots[i], now);
	return !held && peer->next_attempt_ns <= now;
}

/*
 * 1 when the daemon may announce the peer: idle, and one that we dial (a peer that only knocks has
 * no port to dial).
 */
static __always_inline int peer_due(const struct peer *peer, __u64 now)
{
	return peer_idle(peer, now) && peer->flags & (PEER_KNOWN | PEER_DIALED);
}

/*
 * A slot is freed without a failure: no socket is behind it (`cause` link_released), its link is
 * being cut (link_cut), or none of the guard's any more (link_unguarded). `cookie` names it, so that
 * a slot taken since by another socket stays.
 */
static __always_inline struct decision slot_release(struct peer *peer, __u64 cookie,
						    enum cause cause, __u64 now)
{
	struct decision decision = { .verdict = VERDICT_NONE, .cause = CAUSE_none };
	struct slot *slot = slot_of(peer, cookie);

	if (!slot)
		return decision;
	decision.cause = cause;
	decision.direction = slot->direction;
	slot_free(slot);
	peer->last_active_ns = now;
	return decision;
}

/*
 * The doomed link of `cookie` has turned out to be the peer's last: a link like any other again.
 * CAUSE_none: it is not doomed (any more), or another link is there.
 */
static __always_inline struct decision link_spare(struct peer *peer,
						  const struct guard_policy *policy, __u64 cookie,
						  __u64 now)
{
	struct slot_census census = peer_census(peer, policy, cookie, now);
	struct decision decision = { .verdict = VERDICT_NONE, .cause = CAUSE_none };
	struct slot *slot = slot_of(peer, cookie);

	if (!slot || slot->kind != SLOT_LINK || !(slot->flags & SLOT_DOOMED) || census.links)
		return decision;
	decision.cause = CAUSE_link_spared;
	decision.direction = slot->direction;
	slot->flags &= ~(__u32)SLOT_DOOMED;
	peer->last_active_ns = now;
	return decision;
}

/*
 * The link of `cookie` is one that the peer has too many, and somebody wants it to end although it was there before the
 * guard, or beside one that was: link_duplicate, with itself as the loser, which enforce mode dooms. CAUSE_none: it is
 * not one too many (any more), or nothing is refused to the peer.
 */
static __always_inline struct decision link_trim(struct peer *peer, const struct guard_policy *policy,
						 __u64 cookie, enum guard_mode mode, __u64 now)
{
	struct slot_census census = peer_census(peer, policy, cookie, now);
	struct decision decision = { .verdict = VERDICT_NONE, .cause = CAUSE_none };
	struct slot *slot = slot_of(peer, cookie);

	if (!slot || slot->kind != SLOT_LINK || slot->flags & SLOT_DOOMED || mode == MODE_OFF ||
	    census.links < peer_limit(peer, policy) || peer_exempt(peer, now))
		return decision;
	decision.cause = CAUSE_link_duplicate;
	decision.direction = slot->direction;
	decision.other_cookie = cookie;
	if (mode == MODE_ENFORCE)
		slot->flags |= SLOT_DOOMED;
	return decision;
}

/*
 * Free every claim that has expired. claim_expired when there was one (other_cookie: the last of
 * them).
 */
static __always_inline struct decision claims_expire(struct peer *peer, __u64 now)
{
	struct decision decision = { .verdict = VERDICT_NONE, .cause = CAUSE_none };
	int i;

	for (i = 0; i < PEER_SLOTS; i++) {
		struct slot *slot = &peer->slots[i];

		if (slot->kind != SLOT_CLAIM || slot->expires_ns > now)
			continue;
		decision.cause = CAUSE_claim_expired;
		decision.direction = slot->direction;
		decision.other_cookie = slot->cookie;
		slot_free(slot);
	}
	return decision;
}

/*
 * Mark the peer for deletion if nobody needs it: 1, and every hook treats it as absent from now on.
 * Else 0.
 */
static __always_inline int peer_forget(struct peer *peer, __u64 now, __u64 inactive_since_ns)
{
	int i;

	if (peer->flags & PEER_KNOWN || peer->last_active_ns > inactive_since_ns ||
	    peer->next_attempt_ns > now || peer->exempt_until_ns > now || peer->limit)
		return 0;
	for (i = 0; i < PEER_SLOTS; i++)
		if (peer->slots[i].kind != SLOT_FREE)
			return 0;
	peer->flags |= PEER_LEAVING;
	return 1;
}

#endif
