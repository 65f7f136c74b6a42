/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guard in the kernel, as userspace sees it: load, take over, attach, remove; read and write
 * the pinned maps.
 *
 * The files kernel*.c are the only ones of userspace that see libbpf; kernel_parts.h says what lies
 * in which. They own file descriptors and pins, decide nothing about peers (the rules do, in the
 * kernel) and log nothing. All functions return 0 or a negative errno unless they say otherwise;
 * what went wrong beyond the number is in `struct guard_error`, a text for a person.
 */
#ifndef EDGE_KERNEL_H
#define EDGE_KERNEL_H

#include <stdbool.h>
#include <stddef.h>

#include <connguard/abi.h>
#include <connguard/holder.h>

/*
 * Pins of the guard NAME are below PIN_ROOT/NAME: maps by their names, links/HOOK,
 * programs/command.
 */
#define PIN_PARENT "/sys/fs"
#define PIN_FILESYSTEM PIN_PARENT "/bpf"
#define PIN_ROOT PIN_FILESYSTEM "/connguard"

/*
 * Longest guard name; letters, digits, '-', '_' (it becomes a file name, a unit instance and a
 * pin).
 */
#define GUARD_NAME_MAX 32

/* A text for a person that goes with a negative return; empty when the errno says it all. */
struct guard_error {
	char text[512];
};

/* The hooks, in the order in which they are attached. */
enum guard_hook {
	HOOK_SOCK_OPS,
	HOOK_SOCK_RELEASE,
	HOOK_INGRESS,
	HOOK_EGRESS,
	HOOK_SK_LOOKUP,
	HOOK_CONNECT4,
	HOOK_CONNECT6,
	HOOK_COUNT,
};

/*
 * What the kernel can be asked to do beyond the floor. Each is probed by loading a program that
 * needs it; the last, which shows only when a socket is asked, by its name among the kernel's types.
 */
enum guard_feature {
	FEATURE_REFUSAL_ERRNO,  /* 6.1: a refused dial gets the configured errno; else EPERM */
	FEATURE_SOCKET_ITERATOR, /* 5.15: sockets older than the guard are followed; else the check alone sees their end */
	FEATURE_SOCKET_OPTIONS, /* 6.1: what a service has set is seen: quiet links are asked for a sign of life when
				  * their peer knocks, liveness is obeyed; else the knock waits for deny_max */
	FEATURE_ADOPT_CALLBACKS, /* 6.12: in every state; else until they are closed */
	FEATURE_COUNT,
};

/*
 * The mode of a guard that is loaded, until it is made what is configured. It refuses nothing, and a panic meanwhile
 * shows, for that is another one.
 */
#define GUARD_NEW_MODE MODE_OBSERVE

/* How to load a guard. */
struct guard_options {
	const char *name;
	const char *cgroup;   /* absolute path of the cgroup2 directory; NULL: it is not there yet */
	int netns_fd;         /* the guarded network namespace; the caller keeps it */
	__u32 max_peers;      /* elements of the peers map; of a guard that is taken over they stay as many as they are */
	bool attach_later;    /* one that is taken over stays as it is until guard_attach() */
};

/* What is in force at one hook. */
struct hook_state {
	bool attached;        /* our program is in the kernel's effective list */
	bool pinned;          /* by a pinned link: survives the daemon and a foreign detach */
	__u32 program_id;     /* ours; 0 when unknown */
	__u32 foreign;        /* programs of others at the same hook */
};

/* A guard: its maps, open. */
struct guard;

/*
 * Name of a hook as in links/HOOK ("connect4"), of a feature ("refusal_errno"), and what its lack
 * means.
 */
const char *guard_hook_name(enum guard_hook hook);
const char *guard_feature_name(enum guard_feature feature);
const char *guard_feature_lack(enum guard_feature feature);

/* Whether there is a bpf file system in its place in this mount namespace. */
bool guard_bpffs_mounted(void);

/*
 * The same, and on the host one is mounted where there is none: before anything is locked or pinned. -ENOENT: there
 * is none, and ret_error says what to do.
 */
int guard_bpffs_mount(struct guard_error *ret_error);

/* 1 when `name` may name a guard. */
bool guard_name_valid(const char *name);

/*
 * Load the guard, or take over the one that is pinned under the name already: maps are kept,
 * programs are replaced in place, so that enforcement has no gap. Refused with -EPROTO when the
 * pinned layout is another one; the pinned guard then stays as it is. On success *ret_guard is the
 * caller's (guard_close) and *ret_taken_over says which it was. Without a cgroup everything is made but what would be
 * at the hooks, which guard_follow() puts there; those of a guard that was taken over stay as they are until then.
 */
int guard_load(const struct guard_options *options, struct guard **ret_guard, bool *ret_taken_over,
	       struct guard_error *ret_error);

/*
 * After guard_load() with attach_later: the programs that were loaded take the place of those of the guard that was
 * taken over, and the guard is where the options said. All that may fail for want of something has been tried then; on
 * failure all is as it was, and so it is when the guard is closed instead. Nothing to do: 0.
 */
int guard_attach(struct guard *guard, struct guard_error *ret_error);

/*
 * Open the pinned maps of a guard, which may have no daemon. -ENOENT: no such guard (ret_error says
 * whether bpffs is mounted at all); -EPROTO: another layout, of one map even (ret_error names it); -EPERM.
 */
int guard_open(const char *name, struct guard **ret_guard, struct guard_error *ret_error);

/*
 * The same, for a glance at a guard of another name: no more of it is open than guard_mode_read(),
 * guard_policy_read(), guard_ports_read() and guard_cgroup() need. A negative errno, without a text: it cannot be
 * read, or has another layout.
 */
int guard_peek(const char *name, struct guard **ret_guard);

/* Close the descriptors; the guard stays in the kernel. NULL is allowed. */
void guard_close(struct guard *guard);

/* Detach and unpin everything of a guard, whoever loaded it. -ENOENT: there was nothing. */
int guard_remove(const char *name, struct guard_error *ret_error);

/*
 * Move the hooks of a guard that this process has loaded to this cgroup (absolute path) and this
 * network namespace, with what they know of the peers: the service has got new ones, or its first. If not all can
 * be moved, all stay. -ENOENT: the guard has been removed by somebody, or there is no such cgroup;
 * -EBADF: this process did not load it.
 */
int guard_follow(struct guard *guard, const char *cgroup, int netns_fd,
		 struct guard_error *ret_error);

/*
 * Pin again what is not pinned any more of a guard that this process has loaded (bpffs was
 * unmounted, say). Returns how many pins were made, 0: all were there. -ENOENT: bpffs is not
 * mounted, or the guard has been removed (ret_error is empty then); -EEXIST: another guard is pinned
 * under the name.
 */
int guard_pin_again(const struct guard *guard, struct guard_error *ret_error);

/*
 * Whether what is pinned under the name of an open guard is that guard. -ENOENT: nothing is; -EEXIST: another one,
 * which is not ours to remove.
 */
int guard_pinned(const struct guard *guard);

/* Probe the kernel: see enum guard_feature. */
void guard_probe(bool ret_features[FEATURE_COUNT]);

/*
 * What the kernel says is attached now, for the cgroup and the namespace the guard was loaded with.
 */
int guard_hooks(const struct guard *guard, struct hook_state ret_hooks[HOOK_COUNT]);

/* Id of the guarded cgroup, which may be gone; 0: there was none yet. -ENOENT: the guard has been removed by somebody. */
int guard_cgroup_id(const struct guard *guard, __u64 *ret_id);

/*
 * Absolute path of the guarded cgroup. *ret_path is the caller's to free. -ENOENT: the cgroup is
 * gone.
 */
int guard_cgroup(const struct guard *guard, char **ret_path);

/* ---- maps ---- */

int guard_mode_read(const struct guard *guard, enum guard_mode *ret_mode);
int guard_mode_write(const struct guard *guard, enum guard_mode mode);
/* The policy in force; its `set` is 0 when none was ever written. */
int guard_policy_read(const struct guard *guard, struct guard_policy *ret_policy);
int guard_policy_write(const struct guard *guard, const struct guard_policy *policy);
/* Renew or (0) end the time until which the central dial policy is in force. */
int guard_daemon_write(const struct guard *guard, const struct guard_daemon *value);
int guard_daemon_read(const struct guard *guard, struct guard_daemon *ret_value);
/* As many ports, or services, as a guard can have: PORTS_MAX of bpf/maps.bpf.h. */
#define GUARD_PORTS_MAX 64

/* The guarded ports, host byte order, ascending. -ENOSPC: more than max. */
int guard_ports_read(const struct guard *guard, __u16 *ret_ports, size_t max, size_t *ret_count);
/*
 * Make the guarded ports these, each a service of its own; or, with `shared`, one service that all of
 * them share their limits in. -ENOSPC, and nothing is changed: there is no room for these beside those that leave.
 */
int guard_ports_write(const struct guard *guard, const __u16 *ports, size_t count, bool shared);
/* The services that the guarded ports make (peer_address.service), ascending. -ENOSPC: more than max. */
int guard_services_read(const struct guard *guard, __u16 *ret_services, size_t max,
			size_t *ret_count);
/* Sum of all CPUs. */
int guard_counters_read(const struct guard *guard, enum counters_index index,
			struct guard_counters *ret_counters);

/* One peer. -ENOENT: not in the map. */
int guard_peer_read(const struct guard *guard, const struct peer_address *address,
		    struct peer *ret_peer);
/*
 * The same in one system call, for who asks nothing about its backoff: that may be one which is over (struct
 * guard_revival).
 */
int guard_slots_read(const struct guard *guard, const struct peer_address *address, struct peer *ret_peer);
/*
 * A walk over all peers, some hundreds at a time: a map may have a million. Each peer is a consistent copy, as the
 * hooks will see it, and comes once; one that is added or deleted meanwhile may or may not come. Belongs to the
 * guard, which must outlive it.
 */
struct peer_walk {
	int map, revival;
	bool began, ended;
	__u32 place; /* the kernel's */
	__u32 capacity;
	struct peer_address *keys;
	struct peer *peers;
};

/* Begin. What it holds is given back by guard_peers_leave(), which a zeroed walk allows too. */
int guard_peers_walk(const struct guard *guard, struct peer_walk *ret_walk);
/* The next piece, the walk's until the next call. *ret_count is 0 at the end. */
int guard_peers_next(struct peer_walk *walk, const struct peer **ret_peers, size_t *ret_count);
void guard_peers_leave(struct peer_walk *walk);
#define cleanup_peer_walk __attribute__((cleanup(guard_peers_leave)))
/*
 * Put a peer into the map, under its address. -EEXIST: it has an entry, which only commands may change; -ENOSPC: the
 * map is full.
 */
int guard_peer_add(const struct guard *guard, const struct peer *peer);
/*
 * How many learned peers more the network of this address may have. -ENOENT: it is not bounded (address_is_counted(),
 * guard_policy.network_peers).
 */
int guard_network_room(const struct guard *guard, const struct peer_address *address, __u32 *ret_room);
/* Capacity of the peers map. */
__u32 guard_peers_max(const struct guard *guard);

/* Prefixes of the exempt map. */
int guard_exempt_write(const struct guard *guard, const struct exempt_prefix *prefix,
		       const struct exempt_value *value);
int guard_exempt_delete(const struct guard *guard, const struct exempt_prefix *prefix);
/* How many there is room for; 0: that cannot be told. */
__u32 guard_exempt_max(const struct guard *guard);
/* Is the address exempt at `now`, by a prefix that says so? */
bool guard_exempts(const struct guard *guard, const struct peer_address *address, __u64 now);
int guard_exempt_read(const struct guard *guard, struct exempt_prefix **ret_prefixes,
		      struct exempt_value **ret_values, size_t *ret_count);

/* Who listens where: the elements of the `listeners` map. The arrays are the caller's to free. */
int guard_listeners_read(const struct guard *guard, struct listen_place **ret_places,
			 struct place_listeners **ret_values, size_t *ret_count);
int guard_listeners_write(const struct guard *guard, const struct listen_place *place,
			  const struct place_listeners *value);
int guard_listeners_delete(const struct guard *guard, const struct listen_place *place);

/*
 * Prefixes of the own map: this host itself. Writing: -ENOSPC when the map is full. Reading: *ret_prefixes is the
 * caller's to free, in no order.
 */
int guard_own_write(const struct guard *guard, const struct exempt_prefix *prefix);
int guard_own_delete(const struct guard *guard, const struct exempt_prefix *prefix);
int guard_own_read(const struct guard *guard, struct exempt_prefix **ret_prefixes, size_t *ret_count);
/* How many there are: a step for each. */
int guard_own_count(const struct guard *guard, size_t *ret_count);
/* Capacity of the own map. */
__u32 guard_own_max(const struct guard *guard);
/* Is the address this host's? *ret_prefix is the longest prefix that says so. */
bool guard_owns(const struct guard *guard, const struct peer_address *address, struct exempt_prefix *ret_prefix);

/*
 * Run one command on a peer, under its lock. Errors as enum command_operation says. Works without a
 * daemon.
 */
int guard_command(const struct guard *guard, const struct guard_command *command);

/*
 * The same on the peer of this address at each service of the guard. -ENOENT: it is a peer of none, unless a limit or
 * an exemption is taken back; another error: of the first that failed, and the rest was done.
 */
int guard_command_host(const struct guard *guard, const struct guard_command *command);

/* End the backoffs of all peers (COMMAND_KICK). *ret_kicked: of so many. */
int guard_kick_all(const struct guard *guard, size_t *ret_kicked);

/* Forget all learned peers without any state (COMMAND_FORGET). *ret_forgotten: so many. */
int guard_forget_idle(const struct guard *guard, size_t *ret_forgotten);

/*
 * Take established sockets under guard: writes the adoptions, runs the iterator in the calling
 * thread's network namespace (also for none, which shows whether it may be run), falls back to COMMAND_ADOPT where the
 * kernel lacks the iterator.
 */
int guard_adopt(const struct guard *guard, const __u64 *cookies, const struct adoption *adoptions,
		size_t count);

/*
 * Listeners that no hook has seen begin are counted as the guard's from now on, and known when they end: `local`,
 * `local_port` and `ipv4_also` of the adoptions count. -EOPNOTSUPP: the kernel lacks the iterator, or this process
 * did not load the guard.
 */
int guard_adopt_listeners(const struct guard *guard, const __u64 *cookies,
			  const struct adoption *adoptions, size_t count);

/*
 * Links whose other ends TCP is asked for a sign of life from now on (`begin`): their keepalive timers are
 * shortened, their user timeouts put off. And those that are asked no more (`end`): set back what the service has not
 * set meanwhile, and forgotten. No link is in both. One walk of the iterator over all sockets of the calling thread's
 * network namespace; none when nothing is to be done. *ret_nudged (NULL allowed) is how many of `begin` were found and
 * could be. -EOPNOTSUPP: the kernel lacks the iterator, or this process did not load the guard. -ENOSPC: too many at a
 * time; what there was room for is done.
 *
 * In steps: guard_nudge_start(), guard_nudge_step() until it is not 1 any more, or for as long as the caller likes, and
 * guard_nudge_finish(). One walk at a time. A step is a fraction of a millisecond of work, whatever the number of
 * sockets; 0: it was the last one; else a negative errno. *ret_walk is the caller's; guard_nudge_finish() frees it, and
 * forgets those of `begin` that were not reached. Before the last step those of `end` stay to be ended.
 */
struct nudge_walk;
int guard_nudge_start(const struct guard *guard, const __u64 *begin, size_t begin_count, const __u64 *end,
		      size_t end_count, struct nudge_walk **ret_walk);
int guard_nudge_step(struct nudge_walk *walk);
int guard_nudge_finish(struct nudge_walk *walk, size_t *ret_nudged);
int guard_nudge(const struct guard *guard, const __u64 *begin, size_t begin_count, const __u64 *end, size_t end_count,
		size_t *ret_nudged);

/*
 * Where established connections are, and when each was heard: each `sight` names one by cookie, addresses and ports,
 * and has its answers filled in; `is_there` 0: there is no such connection. In the calling thread's network namespace;
 * `interface` is the index of the one that their sockets are bound to, 0: none. A system call for SIGHTS_MAX of them.
 * -EOPNOTSUPP: this process did not load the guard. After an error no `is_there` is set that should not be.
 */
int guard_links_look(const struct guard *guard, __u32 interface, struct link_sight *sights, size_t count);

/* The same for one. -ENOENT: there is no such connection. */
int guard_link_look(const struct guard *guard, __u32 interface, struct link_sight *sight);

/* The last SYN of the dial of this socket. -ENOENT: none was kept for sending again. */
int guard_syn_read(const struct guard *guard, __u64 cookie, struct ready_syn *ret_syn);

/* The last SYN of this peer that was held while a quiet link was asked. -ENOENT: there is none. */
int guard_held_syn_read(const struct guard *guard, const struct peer_address *address,
			struct ready_syn *ret_syn);
/* There is none from now on. */
void guard_held_syn_forget(const struct guard *guard, const struct peer_address *address);

/* How the socket of a nudged link was set before. -ENOENT: it is not nudged. */
int guard_nudge_read(const struct guard *guard, __u64 cookie, struct link_nudge *ret_nudge);

/*
 * The links that a daemon before this one has left nudged. *ret_cookies is the caller's to free,
 * NULL when *ret_count is 0.
 */
int guard_nudges_read(const struct guard *guard, __u64 **ret_cookies, size_t *ret_count);

/*
 * Which processes have the guard's sockets open, asked of the kernel: ascending by cookie, each cookie once
 * (the lowest-numbered of the processes that share it). *ret_holders is the caller's to free() and may be
 * NULL when *ret_count is 0. -EOPNOTSUPP: this process has not loaded the guard, or the kernel lacks the
 * iterator.
 */
int guard_holders(const struct guard *guard, struct socket_holder **ret_holders, size_t *ret_count);

/* ---- events ---- */

/* `held`: the packet that it is about, NULL where there is none. Both are the ring's, and valid until it returns. */
typedef void (*guard_event_handler)(const struct guard_event *event, const struct held_packet *held,
				    void *argument);

/* Read the ring from here on: *ret_fd polls readable. There is one reader at a time. */
int guard_events_open(struct guard *guard, guard_event_handler handler, void *argument,
		      int *ret_fd);
/*
 * Hand waiting events to the handler, some dozens at most. 0: there was no more. 1: more may wait, the descriptor
 * stays readable, and the caller has time for other things in between. A negative errno: the ring cannot be read.
 */
int guard_events_drain(struct guard *guard);

#endif
