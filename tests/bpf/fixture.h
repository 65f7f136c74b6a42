/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the tests of the kernel side share: surroundings of their own, the maps of a guard seen from
 * outside, and a watch over what the guard counts and tells.
 *
 * Owns the child process in which the tests run and what is removed behind it. Knows no rule: what
 * must happen is for the tests to say. Everything here fails the running test when something goes
 * wrong that the test is not about.
 */
#ifndef TESTS_BPF_FIXTURE_H
#define TESTS_BPF_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <connguard/abi.h>
#include <connguard/rules.h>

/* The guarded port, in host byte order. */
#define PORT 24000

/* How long a condition may take to come true on a busy machine; it usually has at once. */
#define PATIENCE_MS 60000

/* ---- surroundings ---- */

/*
 * Run `body` as root in a child process, which has a network namespace of its own (loopback up) and
 * is in a cgroup of its own named PREFIX and its process id. Whatever way the child ends, its
 * cgroups and the guards whose names begin like its cgroup's are removed; those that a killed run
 * left are removed first. Returns what main() shall return. Without root it says that all is
 * skipped.
 */
int run_surrounded(const char *prefix, int (*body)(void));

/* Name of the child's cgroup, which may begin the name of a guard; and the cgroup's directory. */
const char *own_name(void);
const char *own_cgroup(void);

/* Run a shell command that must succeed. */
void run(const char *command);

/* Write a setting of this network namespace, NAME below /proc/sys/net/ipv4/. */
void write_setting(const char *name, int value);

/* Make a cgroup below own_cgroup(), or an empty one again. `ret_path` takes its directory. */
void child_cgroup(const char *name, char ret_path[256]);

/* Move this process. */
void join_cgroup(const char *directory);

/* ---- addresses and sockets ---- */

/* A socket address of either family. */
union endpoint {
	struct sockaddr any;
	struct sockaddr_in ipv4;
	struct sockaddr_in6 ipv6;
};

/* From text; "::ffff:1.2.3.4" is an AF_INET6 address. Port in host byte order. */
socklen_t endpoint_of(const char *text, __u16 port, union endpoint *ret_endpoint);

/*
 * From here on peers that are named by an address are those of this service (peer_address.service).
 * programs_load() does it with its port.
 */
void set_service(__u16 service);

/* The peer key of an address given as text, of the service that was set. */
struct peer_address key_of(const char *text);

/* A TCP listener, and a TCP socket bound to an address (port 0: any). The caller closes them. */
int listener(const char *address, __u16 port);
int bound_socket(const char *address, __u16 port);

/* connect(): 0 or the errno. */
int dial(int fd, const char *address, __u16 port);

__u64 cookie_of(int fd);

/* The highest descriptor that is open: what a test opens and leaves open is above it, or fills a gap. */
int highest_descriptor(void);

/* Port of a bound socket, host byte order. */
__u16 port_of(int fd);

/* CLOCK_BOOTTIME, in ns. */
__u64 now_ns(void);

/*
 * Wait for a condition that comes true a little later by itself: what the kernel does after an RCU
 * grace period, say.
 */
#define await(condition) \
	do { \
		__u64 patient_until = now_ns() + PATIENCE_MS * NS_PER_MS; \
		while (!(condition) && now_ns() < patient_until) \
			usleep(1000); \
		assert_true(condition); \
	} while (0)

/* ---- the maps of a guard ---- */

/* Descriptors; -1 where there is none. */
struct guard_maps {
	int layout;
	int mode;
	int policy;
	int daemon;
	int revival;
	int ports;
	int peers;
	int networks;
	int exempt;
	int own;
	int sockets;
	int handshakes;
	int handshake_key;
	int listeners;
	int nudges;
	int held_syns;
	int counters;
	int events;
};

/* Programs of the built object, loaded with maps that nobody else sees, attached to nothing. */
struct programs;

/*
 * Load the one program of this name, with patient_policy(), MODE_ENFORCE, and `port` guarded. The
 * maps go with it.
 */
struct programs *programs_load(const char *name, __u16 port, struct guard_maps *ret_maps);
/* Descriptor of the program that was loaded; it stays the fixture's. */
int programs_fd(const struct programs *programs);
void programs_close(struct programs *programs);

struct guard;

/*
 * Load a whole guard of this test's own name on its cgroup and network namespace, with
 * patient_policy(), MODE_ENFORCE, and `port` guarded. unload_guard() removes it.
 */
struct guard *load_guard(__u16 port, struct guard_maps *ret_maps);
void unload_guard(struct guard *guard, struct guard_maps *maps);

/* The pinned maps of a guard; pinned_close() closes them. */
struct guard_maps pinned_maps(const char *name);
void pinned_close(struct guard_maps *maps);

/* POLICY_DEFAULTS, with holds and young links that a busy machine does not outlive within a test. */
struct guard_policy patient_policy(void);

/*
 * Empty the peers, networks, exempt, own, handshake and held SYN maps; patient_policy(), MODE_ENFORCE, no daemon, nothing
 * revived, and a key of the handshake table that is the same each time.
 */
void maps_reset(const struct guard_maps *maps);

void set_mode(const struct guard_maps *maps, enum guard_mode mode);
/* What places peers in the handshake table. */
void set_handshake_key(const struct guard_maps *maps, const struct handshake_key *key);
struct handshake_key get_handshake_key(const struct guard_maps *maps);
void set_policy(const struct guard_maps *maps, const struct guard_policy *policy);
/* A daemon that shows signs of life for a long time, or none; `asks` as in struct guard_daemon. */
void set_daemon(const struct guard_maps *maps, bool alive, bool asks);
/* What failed before is void; 0: nothing is. */
void set_revived(const struct guard_maps *maps, __u64 since_ns);
__u64 get_revived(const struct guard_maps *maps);
/* As a service of its own, or as a part of one (0: of the one that all ports share). */
void guard_port(const struct guard_maps *maps, __u16 port);
void guard_port_of(const struct guard_maps *maps, __u16 port, __u16 service);
void unguard_port(const struct guard_maps *maps, __u16 port);
/* Say who listens at a place; and who is said to, nobody where there is no element. */
void put_listeners(const struct guard_maps *maps, const char *address, __u16 port, __s32 ours, __u32 others);
struct place_listeners get_listeners(const struct guard_maps *maps, const char *address, __u16 port);
/* `prefix_length` as people write it: /24 for IPv4. */
void set_exempt(const struct guard_maps *maps, const char *address, __u32 prefix_length,
		struct exempt_value value);
/* The prefix is this host itself. */
void set_own(const struct guard_maps *maps, const char *address, __u32 prefix_length);

/* When a link was heard that is silent for long. A time soon after boot: the clock may be young. */
#define LONG_AGO NS_PER_SECOND
#define HOUR_NS	 (3600 * NS_PER_SECOND)

/* A link that shows life for an hour, and a claim whose SYN left, to put into a peer. */
struct slot some_link(__u64 cookie);
struct slot some_claim(__u64 cookie, __u32 client_isn);

/*
 * Write a peer as it is, named `address`; first seen now, and in a backoff that begins now, unless it
 * says otherwise.
 */
void put_peer(const struct guard_maps *maps, const char *address, const struct peer *peer);
/* A peer with this one slot. */
void put_slot(const struct guard_maps *maps, const char *address, struct slot slot);
/* A copy of the peer; the test fails when there is none. */
struct peer get_peer(const struct guard_maps *maps, const char *address);
bool has_peer(const struct guard_maps *maps, const char *address);
/* A knock of the peer's that is held. */
void put_held_syn(const struct guard_maps *maps, const char *address);
bool has_held_syn(const struct guard_maps *maps, const char *address);
unsigned int count_peers(const struct guard_maps *maps);

/* Places that learned peers have taken of those of this address's network; -1: the network has no element. */
int count_places(const struct guard_maps *maps, const char *address);

/* The element of the handshake table that this address owns: its index, or -1. */
int find_handshake(const struct guard_maps *maps, const char *address,
		   struct pending_handshake *ret_pending);
void put_handshake(const struct guard_maps *maps, __u32 index,
		   const struct pending_handshake *pending);

/* ---- what the guard counts and tells ---- */

/* Watches the counters and the events of one guard. */
struct watch;

struct watch *watch_open(const struct guard_maps *maps);
void watch_close(struct watch *watch);
/* Forget all that was counted and told so far. */
void watch_reset(struct watch *watch);

/* A counter and by how much it grew. */
struct counted {
	enum counters_index book;
	enum cause cause;
	__u64 times;
};

/* Elements of a list of struct counted. */
#define ENFORCED(name, n) { COUNTERS_ENFORCED, CAUSE_##name, n }
#define OBSERVED(name, n) { COUNTERS_OBSERVED, CAUSE_##name, n }

/* Since the last assertion (or reset) these counters grew by so much, and no other one did. */
#define assert_counted(watch, ...)                                                                 \
	check_counted(watch, (const struct counted[]){ __VA_ARGS__, ENFORCED(none, 0) }, __FILE__, \
		      __LINE__)
#define assert_nothing_counted(watch) assert_counted(watch, ENFORCED(none, 0))

/* The next event is of this cause: a copy of it. */
#define next_event(watch, name) check_event(watch, CAUSE_##name, __FILE__, __LINE__)
/* The packet that came with the last event that had one; length 0: none has, since it was last taken. */
struct held_packet take_held(struct watch *watch);
/* 1 when an event is left. */
bool has_event(struct watch *watch);
/* No event is left. */
#define assert_no_event(watch) check_no_event(watch, __FILE__, __LINE__)
/* Neither counted nor told: the guard had nothing to say. */
#define assert_silent(watch) (assert_nothing_counted(watch), assert_no_event(watch))

/* Events that found the ring full, since the last assertion; counts as asserted. */
__u64 events_lost(struct watch *watch);
/* Throw the waiting events away: how many they were. */
unsigned int discard_events(struct watch *watch);

void check_counted(struct watch *watch, const struct counted *expected, const char *file, int line);
struct guard_event check_event(struct watch *watch, enum cause cause, const char *file, int line);
void check_no_event(struct watch *watch, const char *file, int line);

/* The event is of this time, given or taken what a busy machine takes. */
void assert_recent(const struct guard_event *event);

/*
 * The event has these in common with every one of its kind: address, a time that is not long ago,
 * no process.
 */
void assert_event_of_knock(const struct guard_event *event, const char *address, __u16 remote_port,
			   __u16 local_port);

#define assert_address(address, text)                                      \
	do {                                                               \
		struct peer_address found = (address), wanted = key_of(text); \
		assert_memory_equal(&found, &wanted, sizeof(wanted));      \
	} while (0)

#endif
