/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One running connguardd: its state, and the parts it is made of.
 *
 *     main.c        command line, signals, the loop
 *     lifecycle.c   from configuration to a guard in the kernel, reload, the end
 *     powers.c      what is given up once the guard is there
 *     upkeep.c      time: due peers, the ends of backoffs, the heartbeat
 *     reconcile.c   truth: the periodic check of the map against the sockets
 *     room.c        a full peers map, or a network with its share of it: who goes
 *     neighbours.c  other guards that decide about the same sockets
 *     places.c      the cgroup, the network namespace and the pins come and go: notice, wait, and follow
 *     decisions.c   what operators have decided, kept for the time when there is no guard
 *     problems.c    what is wrong beyond what the maps show, for `status` and the log
 *     happenings.c  events from the kernel: history, log, followers; ends what has lost (a link too many, a dial
 *                   for which a knock is let in)
 *     probing.c     quiet links in the way of their peers are asked for a sign of life; nobody is ended for silence
 *     surplus.c     links older than the guard and more than their peer may have, with adopt = trim: which of them go
 *     replaced.c    links in whose place a new one has come: which of the two goes
 *     syns.c        SYNs that leave between two of TCP's own timers
 *     packets.c     how the daemon sends what TCP does not send
 *     revival.c     the network or the host is back: every backoff is over
 *     own.c         what is this host, and links whose own address is gone
 *     requests.c    the control socket's requests
 *
 * Single-threaded: everything runs in the one event loop, so nothing here is locked. What waits for a disk does so in a
 * thread that has what it needs for itself (decisions.c). Only main.c and lifecycle.c decide to end; the rest reports
 * and goes on.
 */
#ifndef CONNGUARDD_DAEMON_H
#define CONNGUARDD_DAEMON_H

#include <stdbool.h>
#include <stddef.h>

#include <event2/event.h>

#include "base/budget.h"
#include "edge/confine.h"
#include "edge/furnish.h"
#include "edge/holders.h"
#include "edge/instance.h"
#include "edge/kernel.h"
#include "edge/overlaps.h"
#include "edge/server.h"
#include "edge/surroundings.h"
#include "pure/census.h"
#include "pure/check.h"
#include "pure/config.h"
#include "pure/deadlines.h"
#include "pure/peers_file.h"
#include "pure/state_file.h"
#include "pure/throttle.h"

/* Events kept for `events`, `explain` and `status`. */
#define HISTORY_LENGTH 1024

/* What the daemon alone can know to be wrong. */
enum problem {
	PROBLEM_TAKEN,     /* another daemon has taken the guard over */
	PROBLEM_REMOVED,   /* somebody has removed the guard */
	PROBLEM_PINS,      /* nothing is pinned any more */
	PROBLEM_CGROUP,    /* the cgroup is not there yet */
	PROBLEM_NETNS,     /* the network namespace is gone, or another one that cannot be entered */
	PROBLEM_PLACE,     /* the service has another place, and the hooks cannot get there */
	PROBLEM_UNGUARDED, /* links that are not tracked */
	PROBLEM_EVENTS,    /* events were lost just now */
	PROBLEM_KNOWN,     /* known peers without an entry */
	PROBLEM_CAPACITY,  /* max_peers is not what the guard has room for */
	PROBLEM_NETWORK,   /* a network has its share of the map, and nobody of it can go */
	PROBLEM_OWN,       /* more is this host than the own map has room for */
	PROBLEM_STATE,     /* what operators decide cannot be kept */
	PROBLEM_FORGOTTEN, /* what they had decided is not in force */
	PROBLEM_COUNT,
};

/* The search for those who waited for backoffs that are over; upkeep.c's alone. */
struct revived;

/* The check under way, and what the last one suspected; reconcile.c's alone. */
struct reconcile;

/* The search for those who go; room.c's alone. */
struct room;

/* Links that are being asked for a sign of life; probing.c's alone. */
struct probing;

/* What tells of a network that is back; revival.c's alone. */
struct revival;

/* What is known of this host; own.c's alone. */
struct own;

/* Links that a new one is to take the place of; replaced.c's alone. */
struct replaced;

/* Peers with too many links, older than the guard; surplus.c's alone. */
struct surplus;

/* Dials that wait for one; syns.c's alone. */
struct syns;

/* What operators have decided; decisions.c's alone. */
struct decisions;

/* What sends; packets.c's alone. */
struct packets;

/* Links too many that are remembered, see happenings.c; more of them at a time are forgotten. */
#define SPARED_MAX 256

struct daemon {
	const char *name;
	const struct config_sources *sources; /* read again at every reload */
	struct config config; /* the last good one: what is in force */

	struct guard *guard;
	struct surroundings surroundings;
	struct instance instance;
	bool features[FEATURE_COUNT];
	struct confinement confinement;

	struct event_base *base;
	struct server *server;
	struct event *ring_event, *ring_pause, *deadline_event, *heartbeat_event;
	struct budget readings; /* of the ring, without a pause after them */
	struct event *place_event;
	int deadline_fd; /* a timerfd, CLOCK_BOOTTIME: due peers do not wait for a suspend to end twice */

	struct place_watch *place_watch;
	bool cgroup_gone; /* the guarded cgroup, when last looked at */
	bool beaten;      /* there was a heartbeat: the hooks know of the daemon */
	bool must_follow; /* the service has another place than the hooks */
	char problems[PROBLEM_COUNT][640]; /* sentences; empty: none */

	struct deadlines *deadlines;
	struct revived *revived;
	struct reconcile *reconcile;
	struct room *room;
	struct throttle *throttle;
	struct probing *probing;
	struct revival *revival;
	struct own *own;
	struct replaced *replaced;
	struct surplus *surplus;
	struct syns *syns;
	struct packets *packets;
	struct decisions *decisions;
	struct guard_event *history; /* HISTORY_LENGTH of them, a ring */
	size_t history_next, history_count;
	__u64 spared[SPARED_MAX];    /* cookies, a ring: links too many without a slot that had to stay, 0: none */
	size_t spared_next;
	__u64 events_lost;           /* as counted when a check last began to make up for them */
	__u64 unheld;                /* dials and links that were not held, as counted then */
	unsigned int beats_unguarded; /* heartbeats since links were tried that could not be taken under guard */
	unsigned int beats_without_loss; /* heartbeats since events were lost */
	__u64 listeners_not_before_ns; /* who listens is not looked at again with a heartbeat */
	int listeners_result;          /* of the last look at them: said when it changes */
	__u16 strange_ports[CONFIG_PORTS_MAX]; /* as last seen: surroundings_strange_ports() */
	size_t strange_port_count;
	struct overlap *overlaps;    /* guards that overlap with this one, as last seen */
	size_t overlap_count;
	struct holders holders;      /* who has the sockets, as told last */
	struct timespec pins_changed; /* when guards last came or went, as the directory of all pins says */
	unsigned int beats_to_look;  /* heartbeats for which others are still looked for */
	int exempt_result;           /* of the last writing of the exempt map: said when it changes */
};

/* ---- lifecycle.c ---- */

/*
 * From configuration to a guard that enforces and a control socket that answers. 0, or a negative
 * errno, logged.
 */
int daemon_start(struct daemon *daemon);

/* True while the guard refuses and destroys; false also when the mode cannot be read. */
bool daemon_enforces(const struct daemon *daemon);

/*
 * Read the configuration and the peers file again. On failure the last good policy stays: negative
 * errno and a text.
 */
int daemon_reload(struct daemon *daemon, char *ret_error, size_t error_size);

/*
 * Let go of everything. `remove_guard`: take the guard out of the kernel too; else its hooks go on
 * enforcing.
 */
void daemon_stop(struct daemon *daemon, bool remove_guard);

/* ---- powers.c ---- */

/*
 * Give up every capability, all access to files and calls of the kernel that a daemon which guards has no use for.
 * Fills in daemon->confinement. Files and calls are limited as far as the kernel can, and what it cannot is logged; a
 * negative errno, logged: a path that is needed cannot be allowed, or capabilities cannot be given up.
 */
int powers_drop(struct daemon *daemon);

/*
 * Reading a file at reload has failed with `result`: if that is because of powers_drop(), add to the text
 * what can be done.
 */
void powers_explain(const struct daemon *daemon, int result, char *error, size_t error_size);

/* ---- upkeep.c ---- */

/* Start the timers. */
int upkeep_start(struct daemon *daemon);
void upkeep_stop(struct daemon *daemon);

/*
 * What was lost or not held before is nothing to make up for: the links that a start takes under guard may be more than
 * the ring has room for, and the first look follows. 0 or a negative errno.
 */
int upkeep_count_from_now(struct daemon *daemon);

/* What is done each second, and at once when the guard is furnished: from then on the daemon is alive to the hooks. */
void upkeep_beat(struct daemon *daemon);

/* Make the peer due at `deadline_ns` (now or past: at once). */
void upkeep_due_at(struct daemon *daemon, const struct peer_address *address, __u64 deadline_ns);
/*
 * A check has found the peer due: make it so now, unless it will be within a second; while those are looked for whose
 * backoffs have ended all at once, within a second. The timer is set by upkeep_queue_backoffs(), for all that were
 * found.
 */
void upkeep_found_due(struct daemon *daemon, const struct peer_address *address, __u64 now);
void upkeep_not_due(struct daemon *daemon, const struct peer_address *address);

/* Queue the ends of backoffs whose beginnings no event has told: of the time without a daemon, or lost. */
void upkeep_queue_backoffs(struct daemon *daemon, const struct peer *peers, size_t count, __u64 now);

/* See whether events were lost since: a problem for as long as it goes on, and a little longer. */
void upkeep_count_losses(struct daemon *daemon);

/* Every backoff is over: whoever waited for its end has not to any more, within a second (later in a large map). */
void upkeep_revived(struct daemon *daemon);

/* ---- reconcile.c ---- */

/* Check at the configured interval from now on, and whenever reconcile_now() asks for it. */
int reconcile_start(struct daemon *daemon);
void reconcile_stop(struct daemon *daemon);

/*
 * Check now, and again soon: something may differ from the sockets. A large map is checked in pieces, between which
 * everything else has its turn. `again`: who follows is told once more of the peers that are due and announced.
 */
void reconcile_now(struct daemon *daemon, bool again);

/* The configuration has changed, the interval of the check and the ports among it. */
void reconcile_reconfigured(struct daemon *daemon);

/* Peers that are counted for each answer at most: some milliseconds of work. */
#define COUNTED_AT_ONCE 10000

/* The peers as the last check has counted them, if they are more than that; else NULL. */
const struct census *reconcile_census(const struct daemon *daemon);

/* Links that the last check could not take under guard. */
size_t reconcile_unguarded(const struct daemon *daemon);

/* ---- room.c ---- */

int room_start(struct daemon *daemon);
void room_stop(struct daemon *daemon);

/*
 * The peer of this address (NULL: any) found no room: make some, if there is anybody who can go. Where its network has
 * its share of the map, in that network alone.
 */
void room_make(struct daemon *daemon, const struct peer_address *address);

/* To be called with each heartbeat: is what `status` says of a network still so, and can somebody of it go? */
void room_beat(struct daemon *daemon);

/*
 * `left` entries of the known peers found no room at the start: a problem until they do, or until a reload. Takes
 * `known`. 0 left: all are there.
 */
void room_await(struct daemon *daemon, struct known_peer *known, size_t count, size_t left);

/* The map is not full: those who wait for room have it now, if any do. */
void room_look(struct daemon *daemon);

/* ---- places.c ---- */

/* Prepare to be told of changes; the first places_look() begins it. */
int places_start(struct daemon *daemon);
void places_stop(struct daemon *daemon);

/*
 * Look at all of them: is the guard still where its service is, and who listens beside it? To be called with each
 * heartbeat.
 */
void places_look(struct daemon *daemon);

/*
 * Who listens on the guarded ports, for the hooks; and a port whose connections pass by the guard is logged once, until
 * that has changed. places_look() does it, as often as it costs little.
 */
void places_look_at_listeners(struct daemon *daemon);

/* The path of the cgroup that the guard waits for, because it is not there (any more); NULL: it is. */
const char *places_waits_for(const struct daemon *daemon);

/* Tell the service manager whether the guard guards or waits. */
void places_tell(const struct daemon *daemon);

/* ---- neighbours.c ---- */

/* Look for guards that overlap with this one; logged when one is new. */
void neighbours_look(struct daemon *daemon);

/* The same, when guards have come or gone. To be called with each heartbeat, which costs a look at a directory. */
void neighbours_beat(struct daemon *daemon);

void neighbours_stop(struct daemon *daemon);

/* ---- problems.c ---- */

/* Something is wrong; logged when it begins. The text may change while it lasts. */
void problem_set(struct daemon *daemon, enum problem problem, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* It is not, or no more; logged when it ends. */
void problem_clear(struct daemon *daemon, enum problem problem);

/* What is wrong now: texts of the daemon's. Returns how many. */
size_t problems_list(const struct daemon *daemon, const char *ret_texts[PROBLEM_COUNT]);

/* ---- decisions.c ---- */

/* Read what was kept, and be ready to keep: before the guard is made what it says. 0 or a negative errno. */
int decisions_start(struct daemon *daemon);
/* When the file says what it shall. */
void decisions_stop(struct daemon *daemon);

/* What the state file says; NULL: it is not understood. The daemon's. */
const struct state *decisions_kept(const struct daemon *daemon);

/* This is in force: take `furnished->state` over, and tell what did not go well. */
void decisions_settle(struct daemon *daemon, struct furnished *furnished);

/* Can decisions be kept? With the powers that the daemon has from now on. Waits until what is in force is kept. */
void decisions_try(struct daemon *daemon);

/* Has somebody decided on another mode since? To be called with each heartbeat; keeps what could not be kept before. */
void decisions_look(struct daemon *daemon);

/* The configuration has changed, the mode and the ports among it. */
void decisions_reconfigured(struct daemon *daemon);

/*
 * A decision that is in force from now on, by `by` ("": not known): on the mode that the maps have, on the links of a
 * peer (0: taken back), or that nothing is refused for good to or from a prefix (`for_good` false: taken back, or for a
 * time), which is of `kind` STATE_ALLOW_PEER or STATE_ALLOW_PREFIX. NULL: it is kept, or being kept
 * (decisions_pending()); else the reason why it is not, the daemon's.
 */
const char *decisions_mode(struct daemon *daemon, const char *by);
const char *decisions_limit(struct daemon *daemon, const struct peer_address *address, __u32 limit, const char *by);
const char *decisions_allow(struct daemon *daemon, enum state_kind kind, const struct exempt_prefix *prefix,
			    bool for_good, const char *by);

/*
 * The ticket of what is being kept, the last decision included; 0: nothing is. Answers that wait for it (server_hold())
 * are released when the file says so, or with the reason why it does not ("not_kept").
 */
__u64 decisions_pending(const struct daemon *daemon);

/* The peer is forgotten, whatever was decided about it. */
void decisions_forget(struct daemon *daemon, const struct peer_address *address);

/* What is decided. The daemon's. */
const struct state *decisions_state(const struct daemon *daemon);

/* What the maps have that the daemon did not hear of is kept too: before a reload, or when the guard is removed. */
void decisions_collect(struct daemon *daemon);

/* ---- happenings.c ---- */

/* Begin to read the ring. */
int happenings_start(struct daemon *daemon);
void happenings_stop(struct daemon *daemon);

/* The recent events, oldest first, into an array of HISTORY_LENGTH. Returns how many. */
size_t happenings_recent(const struct daemon *daemon, struct guard_event *ret_events);

/*
 * Destroy a link too many, if the mode is enforce. What goes wrong is logged. Returns what
 * links_destroy_surplus() does, or 0 in another mode.
 */
int happenings_destroy(struct daemon *daemon, const struct peer_address *address, __u64 cookie);

/* Whether a dial to the peer can come to nothing: links leave no room for another, and the guard decides which stay. */
bool happenings_dial_lost(struct daemon *daemon, const struct peer *peer, const struct guard_policy *policy,
			  __u64 now);

/* Likewise of a dial that has not become a link yet: as links_end_dial(). */
int happenings_end_dial(struct daemon *daemon, const struct peer_address *address, const struct slot *claim);

/* Tell the followers of due peers of this one. */
void happenings_publish_due(struct daemon *daemon, const struct peer_address *address, __u64 now);

/* ---- probing.c ---- */

/* Be ready to ask. What a daemon before this one has left unfinished is ended. */
int probing_start(struct daemon *daemon);
/* Ask nobody any more; the settings of links that were being asked are set back. */
void probing_stop(struct daemon *daemon);

/*
 * A knock was turned away for the sake of quiet links: those are to be asked for a sign of life. Of a dial: only those
 * that the rules put in doubt, for our own dial proves nothing. Of a link that has come up: those beside it, if there is
 * no room for another. Only what is enforced asks anybody.
 */
void probing_doubt(struct daemon *daemon, const struct guard_event *event);

/* Ask them, all together: at once, or where very many are in doubt, some milliseconds later. */
void probing_ask(struct daemon *daemon);

/* Ask those links of the peer that have not shown life since the guard knows them, or not lately. */
void probing_prove(struct daemon *daemon, const struct peer *peer);

/* ---- revival.c ---- */

/* Notice from now on that the network or the host is back, which ends every backoff. */
int revival_start(struct daemon *daemon);
void revival_stop(struct daemon *daemon);

/* Another network namespace was entered: listen there. */
void revival_follow(struct daemon *daemon);

/* Whether the kernel tells of what happens there. */
bool revival_is_told(const struct daemon *daemon);

/* Has the host slept since? To be called with each heartbeat. */
void revival_look(struct daemon *daemon);

/* ---- own.c ---- */

int own_start(struct daemon *daemon);
void own_stop(struct daemon *daemon);

/* The guard was furnished: what is to be remembered of that is taken out of *furnished. */
void own_furnished(struct daemon *daemon, struct furnished *furnished, bool taken_over);

/* Something may have become this host, or is it no longer: read it, now or soon. */
void own_changed(struct daemon *daemon);

/* To be called with each heartbeat. */
void own_look(struct daemon *daemon);

/* Another network namespace was entered: what that is goes into the map. 0 or a negative errno. */
int own_follow(struct daemon *daemon);

/* ---- replaced.c ---- */

int replaced_start(struct daemon *daemon);
void replaced_stop(struct daemon *daemon);

/* link_replaced: the link that it names is destroyed when the new one has stood for a moment. */
void replaced_later(struct daemon *daemon, const struct guard_event *event);

/*
 * Has this doomed link still its moment? So has one of which no event has told yet: it is waited for from now
 * on.
 */
bool replaced_awaits(struct daemon *daemon, const struct peer_address *address, __u64 cookie);

/* The link of `event` has ended: one that it has taken the place of is spared. */
void replaced_newcomer_ended(struct daemon *daemon, const struct guard_event *event);

/* ---- surplus.c ---- */

int surplus_start(struct daemon *daemon);
void surplus_stop(struct daemon *daemon);

/* A link of this peer was taken under guard that is one too many: with adopt = trim those that go are found and ended. */
void surplus_found(struct daemon *daemon, const struct peer_address *address);

/* The check has come to this peer: the same if it has such a link still. Only what is enforced is found here. */
void surplus_look_at(struct daemon *daemon, const struct peer *peer, const struct guard_policy *policy);

/* ---- packets.c ---- */

int packets_start(struct daemon *daemon);
void packets_stop(struct daemon *daemon);

/* Another network namespace was entered: send there. */
void packets_follow(struct daemon *daemon);

/* As raw_send(), in the guarded network namespace. -EAFNOSUPPORT: this host cannot. */
int packets_send(struct daemon *daemon, const void *packet, size_t length,
		 const struct peer_address *target, __u32 mark, __u32 interface);

/*
 * A packet from somebody else, as packet_renew_syn() or packet_renew_segment() has left it, comes by way of the loopback
 * device to the listener, and to the hooks, as it came before. What cannot: its sender repeats it.
 */
void packets_let_in(struct daemon *daemon, const __u8 *packet, size_t length);

/*
 * What waited for a dial that has ended comes to the listener a moment later, and to the hooks once more. What cannot:
 * its sender repeats it.
 */
void packets_let_in_soon(struct daemon *daemon, const struct held_packet *held);

/* ---- syns.c ---- */

int syns_start(struct daemon *daemon);
void syns_stop(struct daemon *daemon);

/* The backoff is over, or the link beside it: the SYN of a dial that was kept leaves, now. */
void syns_let_go(struct daemon *daemon, const struct peer_address *address, __u64 cookie);

/*
 * What a knock of the peer was held for, or what it met, is over (a quiet link, our own dial): it comes in.
 */
void syns_let_in(struct daemon *daemon, const struct peer_address *address);

/* The same, a moment later: what was asked is answered, or its other end has ended it. */
void syns_let_in_later(struct daemon *daemon, const struct peer_address *address);

/* The same, when the hold that `event` tells of (knock_suspect) is over and the question undecided. */
void syns_let_in_at_last(struct daemon *daemon, const struct guard_event *event);

/* A link of the peer is over or counts no longer: the answer to a dial that was held for want of room may pass. */
void syns_send_into_room(struct daemon *daemon, const struct peer_address *address);

/*
 * The other end gives its dial up for ours, whose SYN it had to drop for that (knock_open_won), or whose
 * answer we have dropped (answer_tie_lost, answer_linked): ask again.
 */
void syns_send_soon(struct daemon *daemon, const struct guard_event *event);

/* ---- requests.c ---- */

int requests_handle(const struct server_request *request, json_t **ret_result, char *ret_error,
		    size_t error_size, void *argument);

#endif
