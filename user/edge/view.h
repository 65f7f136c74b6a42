/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a guard holds, as JSON documents: the one source of the control socket's answers, of
 * `connguard --json` and (through render.c) of the text that people read.
 *
 * Owns the documents' members and their meaning. The daemon calls these to answer a request, the
 * CLI calls the very same when the daemon is down. Knows nothing of sockets, files, terminals or
 * libbpf: the lower half makes documents from values and needs no kernel, the upper half reads the
 * pinned maps through kernel.h first.
 *
 * In every document: times are nanoseconds of CLOCK_BOOTTIME (members that end in _ns; _age_ns and
 * _left_ns are spans from and to now), addresses are text, absent things are null, enumerations go
 * by their names in the ABI header, and each cause comes with its sentence.
 */
#ifndef EDGE_VIEW_H
#define EDGE_VIEW_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include <connguard/abi.h>
#include <connguard/holder.h>

#include "edge/confine.h"
#include "edge/kernel.h"
#include "edge/overlaps.h"
#include "pure/state_file.h"

/*
 * What a document depends on beside the pinned maps. All pointers are borrowed; NULL with a count
 * of 0 is "none".
 */
struct view_origin {
	const char *name;    /* of the guard */
	__u64 now;
	bool daemon;         /* true: the running daemon makes the document; false: nobody answers for the guard */
	const bool *features; /* FEATURE_COUNT of them, as probed at start; NULL: probe now (status only) */
	const char *const *problems; /* sentences: what the daemon knows to be wrong (status only) */
	size_t problem_count;
	const char *waits_for; /* path of the cgroup that is not there (any more); NULL: it is, or nobody waits (status only) */
	/* Who has which socket open, found from outside, for links that came in or are older than the guard:
	 * ascending by cookie, each cookie once. */
	const struct socket_holder *holders;
	size_t holder_count;
	/* Recent ones, oldest first: explain picks those of its peer, status looks for habits. */
	const struct guard_event *events;
	size_t event_count;
	const __u16 *strange_ports; /* guarded ports with a listener from outside the cgroup (status only) */
	size_t strange_port_count;
	const struct overlap *overlaps; /* guards that overlap with this one (status only) */
	size_t overlap_count;
	const __u16 *services; /* of the guard, peer_address.service (events only) */
	size_t service_count;
	const struct census *census; /* the peers as counted before; NULL: count them now (status only) */
	const size_t *own_count; /* prefixes that are this host; NULL: count them now (status only) */
	size_t counted_max; /* peers to be counted now at most; 0: any number (status only) */
	size_t peers_max; /* peers that one document may list; 0: any number */
	const struct confinement *confinement; /* of the daemon; NULL: no daemon (status only) */
	const struct state *state; /* what operators have decided; NULL: not known (status only) */
};

/*
 * In all documents the cookie of a socket is a signed number: the kernel gives the first one it makes in an interrupt of
 * the making of another the cookie 2^64 - 1, here -1, the next one -2.
 */

/* ---- from the pinned maps: 0 or a negative errno; *ret_document is the caller's (json_decref) ---- */

/*
 * {"name", "healthy": bool, "problems": [sentence], "notes": [sentence], "source": "daemon"|"maps", "now_ns", "layout",
 *  "cgroup": path|null (gone, or not there yet), "waits_for": path|null (the daemon waits for a cgroup to be there), "mode", "ports": [number],
 *  "services": [number (a port that is one of its own) | null (all ports are one)],
 *  "daemon": {"running": bool (it made this document), "alive": bool (it renewed its sign of life in time),
 *             "process_id": number|null},
 *  "confinement": null (no daemon) | {"capabilities": [name] (those that it keeps),
 *                                     "bounded": bool (the bounding set has no others),
 *                                     "landlock": number|null (version; null: file access is not limited),
 *                                     "seccomp": bool (false: system calls are not limited)},
 *  "hooks": [{"name", "attached", "pinned", "program_id", "foreign"}],
 *  "features": [{"name", "available", "lack": sentence|null}],
 *  "policy": {"set", "max_links", "refusal_errno", "reject_style", "tie_break", "dial_policy", "netns_cookie", "netns_inode",
 *             "backoff_initial_ns", "backoff_max_ns", "min_uptime_ns", "stable_after_ns", "hold_max_ns", "claim_max_ns", "liveness_ns",
 *             "suspect_after_ns", "deny_max_ns", "keep_dials": bool, "adopt"},
 *  "peers": {"count", "max", "counted_ns": number|null (so far: there are more), "linked", "dialing", "backoff", "idle", "exempt"},
 *  "exempt_prefixes": [{"prefix", "own": false, "configured": bool, "until_ns", "left_ns": number|null (for good)}],
 *  "own": {"count" (addresses and prefixes that are this host, exempt as well), "max" (room)},
 *  "overlaps": [{"guard", "cgroup", "ports": [number]}] (other guards that decide about the same sockets),
 *  "habit": null | {"kind": "several_links"|"dial_back", "max_links" (what would suit it), "shown" (by so many
 *            peers or links), "seen" (of so many)},
 *  "short_links": null | {"shown", "seen", "by_peer"} (observe mode: so many links of so many ended young,
 *                  so many of them by the peer without a byte),
 *  "decided": {"mode": null | {"mode", "since": Unix seconds|null, "by": text|null (not known)} (an operator's, other
 *              than the configuration's), "limits", "allowed": number of peers and prefixes|null (not known)},
 *  "counters": {"enforced": {cause: number}, "observed": {cause: number}} (those that are not 0),
 *  "events_lost": number}
 *
 * A problem is something that should be there and is not: healthy is true when there is none. A
 * note is worth knowing.
 */
int view_status(const struct guard *guard, const struct view_origin *origin, json_t **ret_document);

/*
 * {"name", "source", "now_ns", "mode", "services" (as in view_status()), "peers": [view_peer() ...]}, in the
 * order of the addresses.
 * -EMSGSIZE: more than origin.peers_max.
 */
int view_peers(const struct guard *guard, const struct view_origin *origin, json_t **ret_document);

/*
 * view_explain_peer() of what the maps say about the address at one service: at that of the guarded port
 * address->service if that is not 0, else at the first that refuses it, else at the first that knows it.
 * And "services": [{"service": number|null, "known_to_guard", "refused": bool, "state": text|null (unknown)}]:
 * where it stands at each. -ENOENT: the guard has no such port.
 */
int view_explain(const struct guard *guard, const struct view_origin *origin,
		 const struct peer_address *address, json_t **ret_document);

/*
 * {"name", "source", "now_ns", "due": [view_due_peer() ...]}: the peers that are due now, and under
 * the central dial policy announced, so that a dial passes. -EMSGSIZE: more than origin.peers_max.
 */
int view_due(const struct guard *guard, const struct view_origin *origin, json_t **ret_document);

/* ---- from values: a new document, or NULL when memory runs out ---- */

/* What the verdicts on a peer depend on beside the peer. Pointers are borrowed. */
struct view_rules {
	__u64 now;
	enum guard_mode mode;
	struct guard_policy policy;
	bool announced_only; /* the dial policy is central and somebody announces */
	bool ends_dials;     /* somebody ends dials that were kept in vain */
	bool asks;           /* somebody asks quiet links for a sign of life */
	const struct exempt_prefix *prefixes;
	const struct exempt_value *values;
	size_t prefix_count;
	const struct exempt_prefix *own; /* explain: of this host, with the address in it; NULL: it is no such one */
	const struct socket_holder *holders; /* as in struct view_origin */
	size_t holder_count;
};

/*
 * {"address", "service": number|null (the port of the service it is a peer of; null: all share one),
 *  "state": "linked"|"dialing"|"backoff"|"exempt"|"idle", "known", "dialed", "due": bool,
 *  "limit": number (in force), "own_limit": number|null (for this peer alone),
 *  "decided_limit", "named_limit": number|null (by command, and by the peers file: the former counts),
 *  "links": [slot], "claims": [slot], "attempts", "next_attempt_ns": number|null, "backoff_left_ns": number|null,
 *  "failure": ending|null (what the backoff follows from), "failure_sentence": text|null, "failed_ns": number|null,
 *  "announced_ns": number|null,
 *  "exempt": null | {"until_ns": number|null (for good), "left_ns": number|null},
 *  "first_seen_ns", "last_active_ns", "refused_dials", "refused_knocks",
 *  "last_refusal": null | {"cause", "sentence", "time_ns", "age_ns"}}
 * with slot = {"kind": "link"|"claim", "direction", "cookie", "since_ns", "age_ns", "local_port",
 * "remote_port",
 *  "process_id": number|null, "thread_id": number|null, "command": text|null, "sent",
 *  "syns": number (a claim's, that have left), "adopted", "surplus" (it was one too many when it was adopted), "doomed",
 *  "kept" (a claim whose SYN waits for the end of the backoff, or of a new link), "given_up" (one that ends for a knock),
 *  "answered" (one whose answer was held), "unanswered" (a link that was asked for a sign of life in vain): bool,
 *  "life": null (a claim) | "alive" | "quiet" (not heard from for suspect_after) | "asked" (quiet, and being asked
 *  for a sign of life) | "doubted" (its peer waits for it, and nobody asks) | "unanswered" (a new one may take its
 *  place) | "stranded" (so it is, for its own address is not this host's any more),
 *  "life_sentence": text|null, "life_until_ns": number|null (until when at most it is asked or doubted),
 *  "expires_ns": number|null, "heard_ns", "silent_ns": number|null (a link's last sign of life, and how long
 *  ago that was), "doubted_ns": number|null (since when the peer is turned away for it although it is silent),
 *  "stalled_ns": number|null (since when its segments begin beyond what has come)}.
 * Expired claims are left out: the rules do not see them either.
 */
json_t *view_peer(const struct view_rules *rules, const struct peer *peer);

/*
 * Would a dial to and a knock from this address on a guarded port pass now, and why?
 * {"address", "service": number|null, "mode", "known_to_guard": bool, "refused": bool (dial or knock would not pass),
 *  "dial", "knock": {"verdict", "passes": bool (the verdict as the mode enforces it), "cause", "sentence",
 *                    "ending": ending|null, "detail": text|null (what a backoff follows from),
 *                    "until_ns": number|null, "left_ns": number|null},
 *  "exempt_prefixes": [as in view_status()] (those that match; first one of this host itself, "own": true),
 *  "loopback": bool,
 *  "peer": view_peer()|null, "events": [view_event()], "notes": [sentence]}
 * `peer` NULL: the map has no such peer. Its events are those of the peer, and since it is known those about no
 * peer, oldest first.
 */
json_t *view_explain_peer(const struct view_rules *rules, const struct peer_address *address,
			  const struct peer *peer, const struct guard_event *events, size_t event_count);

/*
 * {"time_ns", "address": text|null (of no peer), "service": number|null, "cause", "sentence",
 *  "outcome": text|null ("refused", "would have been refused"; null: a fact), "detail": view_event_detail()|null,
 *  "subject", "verdict", "direction",
 *  "enforced": bool, "attempts", "ending": ending|null (of a dial or link that ended, or a backoff's failure),
 *  "until_ns": number|null, "cookie", "other_cookie": number|null, "process_id", "thread_id": number|null, "command": text|null,
 *  "local_port", "remote_port": number|null}
 */
json_t *view_event(const struct guard_event *event);

/* Room for any detail, NUL included. */
#define VIEW_DETAIL_MAX 128

/*
 * What an event tells beyond the sentence of its cause, into ret_text, which is returned: how the dial or the
 * link ended, what the backoff follows from. Empty: nothing.
 */
const char *view_event_detail(const struct guard_event *event, char ret_text[VIEW_DETAIL_MAX]);

/*
 * {"name", "source", "now_ns", "services" (as in view_status()), "events": [view_event() ...]} of the origin's
 * events, oldest first.
 */
json_t *view_events(const struct view_origin *origin);

/*
 * {"address", "now_ns", "known": bool, "attempts", "last_active_ns": number|null}: one line of the due stream.
 */
json_t *view_due_peer(const struct peer *peer, __u64 now);

#endif
