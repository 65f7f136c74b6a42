/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the kernel side and userspace share: the values of the pinned maps and the events.
 *
 * Owns layouts and their meaning, decides nothing. Every structure has a fixed size, asserted
 * below, and named BTF types, so that `bpftool map dump pinned /sys/fs/bpf/connguard/NAME/peers`
 * can be read by a person: enumerations are 32 bits wide in both worlds (asserted) and print by
 * name. All times are nanoseconds of CLOCK_BOOTTIME, ports are in host byte order, addresses in
 * network byte order. Change a structure: change CONNGUARD_LAYOUT.
 */
#ifndef CONNGUARD_ABI_H
#define CONNGUARD_ABI_H

#include <linux/bpf.h>
#include <linux/types.h>

#include <connguard/address.h>
#include <connguard/causes.h>

/*
 * The version of everything in this file. A daemon that finds another number in the pinned `layout`
 * map refuses to take the guard over and leaves it as it is.
 */
enum connguard_layout {
	CONNGUARD_LAYOUT = 3,
};

/*
 * The single element of the `layout` map, written by whoever loads the guard when all else is in
 * place: a version of 0 is a load that did not finish.
 */
struct guard_layout {
	enum connguard_layout version;
	__u32 reserved;
	__u64 cgroup_id; /* the guarded cgroup: inode number of its directory */
};

/*
 * The single element of the `mode` map: its own map, so that panic is one short bpftool line (value
 * 0 0 0 0).
 */
enum guard_mode {
	MODE_OFF = 0,     /* track links, refuse nothing, report nothing */
	MODE_OBSERVE = 1, /* decide and count everything, refuse nothing */
	MODE_ENFORCE = 2, /* refuse duplicates */
};

/* How a dial gets its slot in time and in space. */
enum dial_policy {
	DIAL_POLICY_SHARED = 1,  /* any caller may dial an idle peer, the first one wins */
	DIAL_POLICY_CENTRAL = 2, /* a dial passes only when the daemon has announced the peer as due */
};

/* Which of two crossing connections stays. */
enum tie_break {
	TIE_BREAK_ISN = 1,  /* the one whose client initial sequence number is greater */
	TIE_BREAK_NONE = 2, /* the service has a rule of its own (BGP, Erlang) */
};

/* What becomes of links that are older than the guard and more than their peer may have. */
enum adopt_policy {
	ADOPT_KEEP = 1, /* they stay, and are told */
	ADOPT_TRIM = 2, /* those too many are ended, where those that stay have shown life */
};

/* What a refused knock gets. */
enum reject_style {
	REJECT_RESET = 1, /* RST at once: the other end's connect() fails with ECONNREFUSED */
	REJECT_DROP = 2,  /* nothing: the other end's SYN is retransmitted and times out */
};

/* Who sent the SYN. */
enum link_direction {
	DIRECTION_NONE = 0,
	DIRECTION_OUTBOUND = 1, /* our dial */
	DIRECTION_INBOUND = 2,  /* their knock */
};

enum slot_kind {
	SLOT_FREE = 0,
	SLOT_CLAIM = 1, /* a dial, from connect() until it is established, failed, closed or expired */
	SLOT_LINK = 2,  /* an established connection */
};

/* Bits of slot.flags. */
enum slot_flag {
	SLOT_SENT = 1,    /* claim: TCP has made its SYN, local address and port and client_isn are valid */
	SLOT_ADOPTED = 2, /* link: older than the guard, client_isn unknown, since_ns is the time of adoption */
	SLOT_DOOMED = 4,  /* link: a duplicate which lost; the daemon destroys its socket */
	SLOT_KEPT = 8,    /* claim: its SYN waits, for the end of the backoff or for what becomes of a new link */
	SLOT_ANSWERED = 16, /* claim: the peer answered, and we held the answer */
	SLOT_GIVEN_UP = 32, /* claim: a knock goes first; the daemon destroys its socket */
	SLOT_UNANSWERED = 64, /* link: asked for a sign of life in vain; a knock need not wait for it */
	SLOT_MET = 128, /* claim: a SYN of the peer has met its own socket, both ends open one connection */
	SLOT_SURPLUS = 256, /* link: adopted when its peer had as many links as it may have, or more */
	SLOT_STRANDED = 512, /* link: this end's address is not this host's any more; SLOT_UNANSWERED goes with it */
};

/* How a dial or a link ended, as the kernel shows it at its socket. */
enum ending {
	ENDING_NONE = 0,        /* it has not, or nobody saw how */
	ENDING_CLOSED = 1,      /* our side closed it, or the process died */
	ENDING_PEER_CLOSED = 2, /* link: the peer's FIN came first */
	ENDING_RESET = 3,       /* RST of the peer; to a dial: refused */
	ENDING_UNREACHABLE = 4, /* dial: an ICMP error, or nobody has the peer's link-layer address */
	ENDING_SILENCE = 5,     /* TCP gave up: nothing was answered */
	ENDING_ABORTED = 6,     /* destroyed from outside: by the daemon, by `ss -K` */
	ENDING_LOCAL = 7,       /* an error of this host */
};

/* Claims and links of one peer that are known by socket. */
#define PEER_SLOTS 8
/*
 * The greatest `max_links`: one slot stays for the link too many, which must be seen to be named.
 */
#define PEER_LINKS_MAX (PEER_SLOTS - 1)
/* TASK_COMM_LEN of the kernel, include/linux/sched.h. */
#define COMMAND_LENGTH 16

/*
 * One claim or link. Belongs to the socket named by its cookie: only that socket, or a repair that
 * names the same cookie, ends it.
 */
struct slot {
	__u64 cookie;                /* socket cookie, never 0 in a slot that is not free */
	__u64 since_ns;              /* claim: connect() called. link: established */
	__u64 expires_ns;            /* claim: void from then on. link: 0 */
	__u64 yields_until_ns;       /* claim that gave way to a knock: its answer is held before, while that
				      * knock's handshake is pending. 0: it gave way to none */
	__u64 heard_ns;              /* link: last evidence of life, to a tick or two (established; a valid
				      * segment of the other end; a probe answered). claim: 0 */
	__u64 doubted_ns;            /* link that shows no life: since when somebody is turned away for its sake. 0:
				      * nobody, since heard_ns */
	__u64 left_ns;               /* claim: when its last SYN left; 0: none has */
	__u64 stalled_ns;            /* link: since when its segments begin beyond what has come, and none in order
				      * came: the other end is there, and what it sent before is missing. 0: not */
	enum slot_kind kind;
	enum link_direction direction;
	__u32 client_isn;            /* sequence number of the client's SYN, the tie-break's number */
	__u32 flags;                 /* enum slot_flag */
	__u32 process_id;            /* who called connect(); 0 for a knock */
	__u32 thread_id;
	__u16 local_port;
	__u16 remote_port;
	__u32 syns;                  /* claim: SYNs of it that have left, retransmissions included */
	__u64 ack_waits_until_ns;    /* claim that was given up: the last ACK of the knock that goes first
				      * waits for its end until then; 0: none has come yet. Claim whose own
				      * connection the peer opens too: SYNs of that are held until then */
	__u8 local_address[16];      /* this end of it, network byte order, IPv4 mapped; 0: not known (yet) */
	char command[COMMAND_LENGTH]; /* comm of the thread that called connect(), NUL-terminated */
	__u32 user_id;               /* of the process, in the initial user namespace; 0 for a knock */
	__u32 round_trip_ms;         /* link: of its handshake, rounded down; 0: not known. claim: 0 */
};

/* Bits of peer.flags. */
enum peer_flag {
	PEER_KNOWN = 1,   /* named in the peers file: never forgotten, always checked */
	PEER_DIALED = 2,  /* we have dialed it: checked while remembered. A peer that only knocks is never due */
	PEER_LEAVING = 4, /* the entry is being deleted: treat as absent */
	PEER_YIELDED = 8, /* a dial was given up for a knock, and no link has come up since: no further one is */
	PEER_SILENT = 16, /* the last failure was silence: our dial in backoff waits as it would have waited */
	PEER_ANSWERED = 32, /* a dial whose answer was held has ended, and no link has come up since: for a handshake
			     * of theirs no further answer is held */
	PEER_COUNTED = 64, /* learned, and has one of its network's places (struct network_tally). Who was ever named, or
			    * made by a command, has none */
};

/*
 * One peer: an element of the `peers` hash map, its key is `address`. Every field but `address` is
 * read and written under `lock`. The entry is created by a hook when a dial or a link shows the
 * peer, or by the daemon for a known one; only the daemon deletes it.
 */
struct peer {
	struct bpf_spin_lock lock;
	__u32 limit;              /* max_links of this peer alone, by command; 0: as named_limit says */
	struct peer_address address; /* the key again: an entry recycled under a hook's hands is noticed by it */
	__u64 first_seen_ns;
	__u64 last_active_ns;     /* last claim, link or end of one */
	__u64 next_attempt_ns;    /* backoff: no dial before. 0 or past: none */
	__u64 failed_ns;          /* when that backoff began */
	__u64 wake_after_ns;      /* a SYN ends no backoff before: the deadline of the last one that a SYN has
				   * ended. A SYN proves nothing about its sender */
	__u64 refused_pending_ns; /* since when our dials have been refused for handshakes that are pending; 0:
				   * not since a link came up */
	__u64 doubted_dial_ns;    /* since when our dials are turned away for the sake of links that show no life;
				   * 0: not since one showed it */
	__u64 due_ns;             /* central policy: announced as due at; 0: not announced */
	__u64 exempt_until_ns;    /* nothing is refused before; ~0: for good. 0 or past: not exempt */
	__u64 refused_dials;      /* since first_seen_ns; in observe mode: would have been refused */
	__u64 refused_knocks;     /* refused or held */
	__u64 last_refusal_ns;    /* 0: never */
	enum cause last_refusal_cause;
	__u32 attempts;           /* consecutive failures */
	__u32 flags;              /* enum peer_flag */
	enum ending failure;      /* of the last failure: what the backoff follows from */
	__u16 unheard_dials;      /* dials in a row that were closed before the peer could fail to answer twice; no
				   * more than UNHEARD_DIALS are counted */
	__u16 short_links;        /* young links of ours in a row that the peer ended without having sent a byte */
	__u16 yielded_port;       /* of the knock that was let in over the last dial, which is or will be given up
				   * for it; 0: none */
	__u16 named_limit;        /* max_links of this peer alone, by the peers file; 0: the policy's */
	struct slot slots[PEER_SLOTS];
};

/* Capacity of the peers map of a guard loaded with bpftool; the daemon sets its own (`max_peers`). */
#define PEERS_DEFAULT 8192

/*
 * An element of the `networks` hash map, its key is `network`: the places that learned peers have taken of those that
 * their network may have. There is one while any is taken. Every field is read and written under `lock`.
 */
struct network_tally {
	struct bpf_spin_lock lock;
	__u32 peers; /* those with PEER_COUNTED, and those that are being made */
	struct peer_network network; /* the key again, as in struct peer; 0: the element is being deleted */
};

/*
 * The single element of the `policy` map. Until it is written every hook lets everything pass and
 * tracks nothing. Each field stands alone: a hook that runs during an update may see old and new
 * fields together.
 */
struct guard_policy {
	__u32 set;                /* 1: written; 0: not yet */
	__u32 max_links;          /* links of one peer, 1..PEER_LINKS_MAX */
	__u32 refusal_errno;      /* positive errno of a refused dial; before Linux 6.1 it is always EPERM */
	enum reject_style reject_style;
	enum tie_break tie_break;
	enum dial_policy dial_policy;
	__u64 netns_cookie;       /* the guarded network namespace; 0: any below the cgroup, or not known */
	__u64 backoff_initial_ns; /* first step */
	__u64 backoff_max_ns;     /* cap of a step */
	__u64 min_uptime_ns;      /* a link that lived shorter is young: see slot_end() */
	__u64 stable_after_ns;    /* a link that lives longer resets the attempts */
	__u64 hold_max_ns;        /* longest hold of one race */
	__u64 claim_max_ns;       /* a claim whose SYN left expires after this; longer than the SYN timeout */
	__u64 liveness_ns;        /* keepalive for links whose service has neither keepalive nor a user timeout:
				   * silent to its probes, they die after this, in whole seconds; 0: none */
	__u64 suspect_after_ns;   /* a link that was not heard from for this long is quiet: it is asked when its
				   * peer knocks */
	__u64 deny_max_ns;        /* a quiet link refuses no longer than this without evidence of life */
	__u32 keep_dials;         /* 1: a dial to a peer that was silent waits for the end of the backoff; 0: it is
				   * refused */
	__u32 netns_inode;        /* the guarded network namespace once more, as stat() has it; 0: any below the
				   * cgroup */
	enum adopt_policy adopt;  /* the daemon's, to whom it matters */
	enum guard_mode configured_mode; /* the configuration's. If the one in force is another, an operator has
					  * decided so. The hooks read neither this nor the next one */
	__u32 recalled;           /* 1: all that operators had decided before the guard was loaded is in the maps; 0:
				   * nobody has looked, or not to the end */
	__u32 network_peers;      /* learned peers of one network (struct peer_network) at most; 0: any number */
};

/*
 * The single element of the `daemon` map: the central dial policy is in force only while somebody
 * announces.
 */
struct guard_daemon {
	__u64 alive_until_ns; /* renewed by the daemon; past: shared dial policy holds, nobody is locked out */
	__u32 process_id;
	__u32 asks;           /* 1: it asks quiet links for a sign of life; 0: this kernel cannot */
};

/*
 * The single element of the `revival` map: something has happened that makes every failure void. The
 * service has started anew, the network or the host is back.
 */
struct guard_revival {
	__u64 since_ns;  /* a backoff that began before is over; 0: none is */
	__u64 starts_ns; /* so far the listeners that have come up use up their share (revival_started()); 0: not at all */
};

/*
 * The single element of the `handshake_key` map: random numbers, drawn when the guard is loaded, that place
 * peers in the `handshakes` table (handshake_hash()). All 0: none were drawn, and all peers share one element.
 * Whoever knows them can compute addresses that share a peer's element, so they are root's alone.
 */
struct handshake_key {
	__u64 words[6];
};

/*
 * Key of the `exempt` and `own` maps (longest prefix match); prefix_length counts bits of the 16-byte
 * address.
 */
struct exempt_prefix {
	__u32 prefix_length; /* 0..128; an IPv4 /n is 96+n */
	__u8 address[16];    /* network byte order */
};

/* Value of the `exempt` map. */
struct exempt_value {
	__u64 until_ns;   /* the entry counts before; ~0: for good. The daemon deletes it afterwards */
	__u32 reserved;
	__u32 configured; /* 1: kept equal to the configuration by the daemon; 0: made by command */
};

/*
 * Value of the `own` map: addresses of this host, which are no peers at all, by the kernel's own routing
 * tables. Kept equal to them by the daemon.
 */
struct own_value {
	__u32 prefix_length; /* of the key: whoever looks an address up learns what covers it */
};

/* Value of the `sockets` socket storage: what this socket owns. */
struct owned_slot {
	struct peer_address address; /* with the service */
	enum slot_kind kind; /* SLOT_FREE: nothing, any more */
	__u32 heard_tick;    /* of the evidence that slot.heard_ns shows */
	__u32 stalled_tick;  /* of the last segment that began beyond what has come */
	__u32 reserved;
};

/* Key of the `listeners` map: where sockets listen, in the guarded network namespace. */
struct listen_place {
	__u8 address[16]; /* network byte order, IPv4 mapped; any: all 0, of IPv4 ::ffff:0.0.0.0 */
	__u16 port;
	__u16 reserved[3];
};

/*
 * Value of the `listeners` map: who listens at a place. The hooks count the guard's own as they come and go, and
 * the daemon, which knows those of others, puts right what differs.
 */
struct place_listeners {
	__s32 ours;   /* sockets of the guard's cgroup, bound to no interface; below 1: none */
	__u32 others; /* 1: sockets of others are there too, or are bound to an interface; 0: none is known */
	__u64 since_ns; /* when the first of ours began; 0: before anybody counted */
};

/* Value of the `listening` socket storage: where this socket was counted as a listener. */
struct listening {
	struct listen_place place;
	__u32 counted;   /* 1: it is counted there */
	__u32 ipv4_also; /* 1: it listens on any IPv6 address and takes IPv4 as well: counted there, too */
};

/* SYNs of an element of the `handshakes` table that can be held at a time; a power of two. */
#define HELD_PORTS 8

/*
 * An element of the fixed `handshakes` table, indexed by a keyed hash of the address: the last handshake
 * of a peer that was let in and has not become a link. Nothing is allocated for a SYN, and nothing
 * here outlives HOLD_PERIODS times hold_max_ns.
 */
struct pending_handshake {
	struct bpf_spin_lock lock;
	__u32 client_isn;     /* of the SYN that was let in */
	struct peer_address address;
	__u64 let_in_ns;      /* when that was */
	__u64 until_ns;       /* the handshake counts as pending before */
	__u64 held_until_ns;  /* held_ports are forgotten then */
	__u16 remote_port;    /* of the SYN that was let in */
	/*
	 * SYNs that were held, by remote port, 0: none. Each is held once, and no further one when
	 * all are taken: that bounds what spoofed SYNs can do to a peer. They belong to the
	 * element, so that an address which shares it cannot renew them.
	 */
	__u16 held_ports[HELD_PORTS];
	__u16 acknowledged; /* 1: its last ACK has come, and waits for the end of a dial of ours */
	struct listen_place place; /* of the listener that it was let in to; all 0: not known */
};

/* Index of the `counters` per-CPU array. */
enum counters_index {
	COUNTERS_ENFORCED = 0, /* what happened */
	COUNTERS_OBSERVED = 1, /* what observe mode would have refused or held */
	COUNTERS_COUNT,
};

/*
 * Room for the causes, a power of two: the kernel side masks a cause with it to index the counters.
 */
#define COUNTERS_FIELDS 128

/*
 * One element of the `counters` array per CPU: a counter per cause, plus events that found the ring
 * full.
 */
struct guard_counters {
#define COUNTER_FIELD(name, subject, verdict, text) __u64 name;
	CONNGUARD_CAUSES(COUNTER_FIELD)
#undef COUNTER_FIELD
	__u64 events_lost;
	__u64 reserved[COUNTERS_FIELDS - CAUSE_COUNT - 1];
};

_Static_assert(__builtin_offsetof(struct guard_counters, events_lost) ==
		       CAUSE_COUNT * sizeof(__u64),
	       "a counter per cause, in the order of the causes");
_Static_assert(sizeof(struct guard_counters) == COUNTERS_FIELDS * sizeof(__u64),
	       "struct guard_counters");

/* A record of the `events` ring. */
struct guard_event {
	__u64 time_ns;
	struct peer_address address;
	__u64 cookie;       /* the socket it is about; 0: none yet (a knock) */
	__u64 other_cookie; /* the socket that holds the link or claim in the way, or the loser of a duplicate; 0: none */
	__u64 until_ns;     /* the deadline that follows: end of backoff, of a hold, of a claim. 0: none */
	enum cause cause;
	enum verdict verdict;
	enum link_direction direction;
	__u32 enforced;     /* 1: it happened; 0: observe mode let it pass */
	__u32 attempts;     /* consecutive failures, after this event */
	enum ending ending; /* of a dial or a link that ended; of what a backoff follows from */
	__u32 process_id;   /* dials: who called connect(). 0 elsewhere */
	__u32 thread_id;
	__u16 local_port;   /* 0 while unknown (a dial before its SYN) */
	__u16 remote_port;
	__u32 reserved;
	char command[COMMAND_LENGTH];
};

/* Bytes of a packet in the ring: as much as one of an Ethernet has. */
#define HELD_BYTES_MAX 1500

/*
 * A record of the `events` ring that is longer than an event: the last ACK of a handshake, or data behind it, which
 * was held (knock_ack_waits), for the daemon to let in when the dial has ended that it waits for.
 */
struct held_packet {
	struct guard_event event;
	__u32 length; /* of `bytes`, from the IP header on, with data of the application. Of a longer packet they are the
		       * start */
	__u8 bytes[HELD_BYTES_MAX];
};

/*
 * What userspace asks of a peer: data_in of one BPF_PROG_TEST_RUN of the `command` program, which
 * runs the rule under the peer's lock. The program returns 0 or a negative errno as an unsigned
 * 32-bit retval: -ENOENT no such peer or slot, -EBUSY not idle, -ENOSPC no room, -EINVAL unknown
 * operation.
 */
enum command_operation {
	COMMAND_DEFAULTS = 0, /* no peer: POLICY_DEFAULTS become the policy. A packet of zeros, which a shell can make */
	COMMAND_ADD = 1,      /* create the peer if missing, set PEER_KNOWN and named_limit = value */
	COMMAND_UNKNOW = 2,   /* clear PEER_KNOWN and named_limit */
	COMMAND_KICK = 3,     /* clear the backoff and the attempts */
	COMMAND_LIMIT = 4,    /* limit = value, creates the peer; 0: the peers file's, or the policy's */
	COMMAND_ALLOW = 5,    /* exempt until until_ns (~0: for good), creates the peer; 0: no more */
	COMMAND_ANNOUNCE = 6, /* due, if idle: -EBUSY otherwise */
	COMMAND_RELEASE = 7,  /* free the slot of `cookie` without a failure. `value` says why, an enum cause:
			       * link_released, link_cut or link_unguarded */
	COMMAND_ADOPT = 8,    /* an established socket that no slot shows: cookie, direction, ports */
	COMMAND_HEARD = 9,    /* the link of `cookie` showed life at until_ns */
	COMMAND_SPARE = 10,   /* the doomed link of `cookie` stays; -EBUSY: the peer has another one */
	COMMAND_EXPIRE = 11,  /* free the claims that have expired */
	COMMAND_FORGET = 12,  /* delete the peer if it is idle, not known, and inactive since until_ns */
	COMMAND_UNANSWERED = 13, /* the link of `cookie` was asked for a sign of life in vain */
	COMMAND_LET_GO = 14,  /* the SYN of the claim of `cookie`, which was kept, leaves. -ENOENT: it is not kept, or no
			       * SYN of it is ready; -EBUSY: it waits on, see dial_waits_until() */
	COMMAND_REVIVE = 15,  /* no peer: every backoff is over. `value` says why, an enum cause: network_back or
			       * host_resumed */
	COMMAND_TRIM = 16,    /* the link of `cookie` is one too many and shall end: see link_trim(). -EBUSY: it is not */
	COMMAND_STRANDED = 17, /* `value` 1: this end's address of the link of `cookie` is not this host's any more;
			       * 0: it is again. -ENOENT: it has such a link no longer, or knows it */
};

/*
 * See enum command_operation. BPF_PROG_TEST_RUN takes it for an Ethernet frame, and bytes 12 and 13
 * for its type: `frame_type` is there and 0, so that no other field can say "IPv4" or "VLAN" and
 * get the command changed on its way.
 */
struct guard_command {
	__u64 cookie;
	enum command_operation operation;
	__u32 frame_type;
	__u64 until_ns;
	struct peer_address address;
	__u32 value;
	enum link_direction direction;
	__u16 local_port;
	__u16 remote_port;
	__u32 reserved;
};

/* Connections that one run of the `look` program looks at, at most: its packet is smaller than a page. */
#define SIGHTS_MAX 16

/*
 * The packet of the `look` program is an array of these: established connections, where each is and when it was heard.
 * `frame_type` as in struct guard_command.
 */
struct link_sight {
	__u64 cookie; /* of its socket */
	__u32 unacknowledged; /* answer: SND.UNA of RFC 9293, the first number that the other end has not
			       * acknowledged */
	__u32 frame_type;
	__u32 expected;  /* answer: RCV.NXT, the next number that is expected from it */
	__u32 mark;      /* answer: SO_MARK */
	__u32 segments_in;  /* answer: that have come, data or not, modulo 2^32 */
	__u32 segments_out; /* answer: that have left, likewise */
	__u16 is_there;  /* answer: 1 when there is such a connection; else none of the above counts */
	__u16 is_signed; /* answer: 1 when its segments are (TCP-MD5, TCP-AO) */
	__u16 local_port; /* host byte order */
	__u16 remote_port;
	__u64 heard_ns;   /* answer: slot.heard_ns of the link that the peer `remote` has by this socket; 0: it has none */
	__u64 stalled_ns; /* answer: slot.stalled_ns, likewise */
	struct peer_address local;
	struct peer_address remote; /* the key of the peer, with the service */
};

/* Bytes of the longest SYN that is kept for sending again: an IPv6 header and a TCP header with all its options. */
#define SYN_BYTES_MAX 100

/*
 * Value of the hash maps `syns` (key: socket cookie) and `held_syns` (key: struct peer_address), from which
 * the oldest go when they are full: the last SYN of a dial that the daemon may have to send again, as it was
 * about to leave; and of a knock that is held while a quiet link is asked, or our own dial is under way. TCP's checksum
 * is not in the former yet.
 */
struct ready_syn {
	__u64 time_ns;
	__u64 until_ns;  /* knocks: not let in any more from then on */
	__u32 mark;      /* dials: SO_MARK */
	__u32 interface; /* index of the one that the socket is bound to, of a knock its listener; 0: none */
	__u32 length;    /* of `bytes`: from the IP header to the end of the TCP header */
	__u8 bytes[SYN_BYTES_MAX];
};

/*
 * Value of the `adoptions` hash map (key: socket cookie): sockets that the `adopt` iterator shall
 * take under guard. A listener has no direction and no remote.
 */
struct adoption {
	struct peer_address address;
	enum link_direction direction;
	__u16 local_port;
	__u16 remote_port;
	struct peer_address local; /* this end of it */
	__u32 ipv4_also; /* listeners: as in struct listening */
	__u32 reserved;
};

/* What the `nudge` iterator does with a socket, and what it has done. */
enum nudge_step {
	NUDGE_BEGIN = 1,     /* written by the daemon: shorten the socket's keepalive timer */
	NUDGE_UNDER_WAY = 2, /* written by the iterator: done, the members below say how it was before */
	NUDGE_END = 3,       /* written by the daemon: set it back */
};

/*
 * Value of the `nudges` hash map (key: socket cookie): silent links whose other ends TCP is to ask
 * for a sign of life, or the daemon itself. An entry that a daemon which died has left is ended by the next
 * one.
 */
struct link_nudge {
	enum nudge_step step;
	__u32 keepalive;        /* SO_KEEPALIVE before: 0 or 1 */
	__u32 idle_seconds;     /* TCP_KEEPIDLE before */
	__u32 interval_seconds; /* TCP_KEEPINTVL before */
	__u32 probes;           /* TCP_KEEPCNT before */
	__u32 user_timeout_ms;  /* TCP_USER_TIMEOUT before */
};

_Static_assert(sizeof(enum cause) == 4 && sizeof(enum slot_kind) == 4, "enumerations are 32 bits");
_Static_assert(sizeof(struct guard_layout) == 16, "struct guard_layout");
_Static_assert(sizeof(struct slot) == 144, "struct slot");
_Static_assert(sizeof(struct peer) == 152 + PEER_SLOTS * sizeof(struct slot), "struct peer");
_Static_assert(sizeof(struct network_tally) == 16, "struct network_tally");
_Static_assert(sizeof(struct guard_policy) == 128, "struct guard_policy");
_Static_assert(sizeof(struct guard_daemon) == 16, "struct guard_daemon");
_Static_assert(sizeof(struct guard_revival) == 16, "struct guard_revival");
_Static_assert(sizeof(struct handshake_key) == 48, "struct handshake_key");
_Static_assert(sizeof(struct exempt_prefix) == 20, "struct exempt_prefix");
_Static_assert(sizeof(struct exempt_value) == 16, "struct exempt_value");
_Static_assert(sizeof(struct own_value) == 4, "struct own_value");
_Static_assert(sizeof(struct owned_slot) == 40, "struct owned_slot");
_Static_assert(sizeof(struct listen_place) == 24, "struct listen_place");
_Static_assert(sizeof(struct place_listeners) == 16, "struct place_listeners");
_Static_assert(sizeof(struct listening) == 32, "struct listening");
_Static_assert(sizeof(struct pending_handshake) == 104, "struct pending_handshake");
_Static_assert(sizeof(struct guard_event) == 112, "struct guard_event");
_Static_assert(sizeof(struct held_packet) == sizeof(struct guard_event) + 4 + HELD_BYTES_MAX, "struct held_packet");
_Static_assert(sizeof(struct guard_command) == 64 &&
		       __builtin_offsetof(struct guard_command, frame_type) == 12, "struct guard_command");
_Static_assert(sizeof(struct ready_syn) == 128, "struct ready_syn");
_Static_assert(sizeof(struct link_sight) == 104 && __builtin_offsetof(struct link_sight, frame_type) == 12,
	       "struct link_sight");
_Static_assert(sizeof(struct adoption) == 64, "struct adoption");
_Static_assert(sizeof(struct link_nudge) == 24, "struct link_nudge");

#endif
