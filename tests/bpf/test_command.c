/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The command program: every operation of enum command_operation, what it changes, what it counts
 * and tells, and what it answers when it cannot be done.
 *
 * Asked as the daemon and the CLI ask, with guard_command() on a guard of this test's own (prefix
 * cgt-command-). Runs as root, in a cgroup and a network namespace of its own.
 */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "edge/kernel.h"

/* Room for so many peers, to see it full. */
#define PEERS_MAX 4
/* Two guarded ports, each a service of its own. */
#define OTHER_PORT 24001

#define PEER4  "10.97.1.2"
#define PEER6  "fd97:1::2"
#define NOBODY "10.97.1.99"

static struct guard *guard;
static struct guard_maps maps;
static struct watch *watch;
static int command_fd = -1;

/* ---- asking --------------------------------------------------------------------------------- */

static struct guard_command command_on(enum command_operation operation, const char *address)
{
	return (struct guard_command){ .operation = operation, .address = key_of(address) };
}

static int ask(enum command_operation operation, const char *address)
{
	struct guard_command command = command_on(operation, address);

	return guard_command(guard, &command);
}

static int ask_about(enum command_operation operation, const char *address, __u64 cookie)
{
	struct guard_command command = command_on(operation, address);

	command.cookie = cookie;
	return guard_command(guard, &command);
}

static int ask_until(enum command_operation operation, const char *address, __u64 until_ns)
{
	struct guard_command command = command_on(operation, address);

	command.until_ns = until_ns;
	return guard_command(guard, &command);
}

/* COMMAND_RELEASE of the socket's slot, for the cause. */
static int ask_release(const char *address, __u64 cookie, enum cause cause)
{
	struct guard_command command = command_on(COMMAND_RELEASE, address);

	command.cookie = cookie;
	command.value = cause;
	return guard_command(guard, &command);
}

static int ask_limit(const char *address, __u32 limit)
{
	struct guard_command command = command_on(COMMAND_LIMIT, address);

	command.value = limit;
	return guard_command(guard, &command);
}

/* COMMAND_ADD, of a peer that has a limit in the peers file. */
static int ask_add_limited(const char *address, __u32 limit)
{
	struct guard_command command = command_on(COMMAND_ADD, address);

	command.value = limit;
	return guard_command(guard, &command);
}

/* Run the program on raw bytes: what it returns, or the errno of the kernel. */
static int run_on(const void *data, size_t length)
{
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = data, .data_size_in = length,
		    .repeat = 1);
	int result = bpf_prog_test_run_opts(command_fd, &options);

	return result ? result : (int)options.retval;
}

/* Nothing was done to the peer, nothing counted, nothing told. */
static void assert_untouched(const char *address, const struct peer *before)
{
	struct peer after = get_peer(&maps, address);

	assert_memory_equal(&after, before, sizeof(after));
	assert_silent(watch);
}

/* Every operation on a peer, but those that would create it, finds none. */
static void assert_unknown(const char *address)
{
	static const enum command_operation operations[] = { COMMAND_UNKNOW,	 COMMAND_KICK,
							     COMMAND_ANNOUNCE,	 COMMAND_HEARD,
							     COMMAND_EXPIRE,	 COMMAND_FORGET,
							     COMMAND_SPARE,	 COMMAND_LET_GO,
							     COMMAND_UNANSWERED, COMMAND_TRIM,
							     COMMAND_STRANDED };

	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
		assert_int_equal(ask(operations[i], address), -ENOENT);
	assert_int_equal(ask_release(address, 1, CAUSE_link_released), -ENOENT);
	assert_false(has_peer(&maps, address));
	assert_silent(watch);
}

static void assert_command_event(const struct guard_event *event, const char *address)
{
	assert_address(event->address, address);
	assert_recent(event);
	assert_int_equal(event->verdict, VERDICT_NONE);
	assert_int_equal(event->enforced, 1);
	assert_int_equal(event->process_id, 0);
}

/* ---- surroundings --------------------------------------------------------------------------- */

static int set_up(void **state)
{
	struct guard_options options = { .name = own_name(),
					 .cgroup = own_cgroup(),
					 .max_peers = PEERS_MAX };
	const __u16 ports[] = { PORT, OTHER_PORT };
	struct guard_error error;
	bool taken_over;
	char path[300];

	(void)state;
	options.netns_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_true(options.netns_fd >= 0);
	if (guard_load(&options, &guard, &taken_over, &error))
		fail_msg("guard_load: %s", error.text);
	close(options.netns_fd);
	assert_int_equal(guard_ports_write(guard, ports, 2, false), 0);
	maps = pinned_maps(own_name());
	watch = watch_open(&maps);
	snprintf(path, sizeof(path), PIN_ROOT "/%s/programs/command", own_name());
	command_fd = bpf_obj_get(path);
	assert_true(command_fd >= 0);
	return 0;
}

static int before_each(void **state)
{
	(void)state;
	maps_reset(&maps);
	watch_reset(watch);
	set_service(PORT);
	return 0;
}

static int tear_down(void **state)
{
	struct guard_error error;

	(void)state;
	close(command_fd);
	watch_close(watch);
	pinned_close(&maps);
	guard_close(guard);
	assert_int_equal(guard_remove(own_name(), &error), 0);
	return 0;
}

/* ---- tests ---------------------------------------------------------------------------------- */

/* A guard that has no policy yet takes no command but the one that gives it its policy. */
static void defaults(void **state)
{
	const struct guard_policy unset = {}, expected = POLICY_DEFAULTS;
	/* What a shell makes with head -c: any length that is enough. */
	const __u8 zeros[64] = {};
	struct guard_policy policy;

	(void)state;
	set_policy(&maps, &unset);
	for (int operation = COMMAND_DEFAULTS + 1; operation <= COMMAND_REVIVE; operation++)
		assert_int_equal(ask(operation, PEER4), -EINVAL);
	assert_int_equal(count_peers(&maps), 0);

	assert_int_equal(run_on(zeros, sizeof(zeros)), 0);
	assert_int_equal(guard_policy_read(guard, &policy), 0);
	assert_memory_equal(&policy, &expected, sizeof(policy));
	/* Whatever it was before, and whatever else the packet says. */
	policy.max_links = 3;
	policy.backoff_max_ns = 1;
	assert_int_equal(guard_policy_write(guard, &policy), 0);
	assert_int_equal(ask(COMMAND_DEFAULTS, PEER4), 0);
	assert_int_equal(guard_policy_read(guard, &policy), 0);
	assert_memory_equal(&policy, &expected, sizeof(policy));
	assert_int_equal(count_peers(&maps), 0);
	assert_silent(watch);
}

static void short_data(void **state)
{
	const struct guard_command command = command_on(COMMAND_ADD, PEER4);
	const __u8 zeros[sizeof(command)] = {};

	(void)state;
	/* Below 14 bytes the kernel itself refuses. */
	for (size_t length = 1; length < sizeof(command); length++) {
		assert_int_equal(run_on(&command, length), -EINVAL);
		assert_int_equal(run_on(zeros, length), -EINVAL);
	}
	assert_int_equal(count_peers(&maps), 0);
	assert_silent(watch);
	assert_int_equal(run_on(&command, sizeof(command)), 0);
	assert_int_equal(count_peers(&maps), 1);
}

static void unknown_operations(void **state)
{
	static const __u32 operations[] = { COMMAND_STRANDED + 1, 1000, INT_MAX, ~0U };
	struct peer before;

	(void)state;
	put_slot(&maps, PEER4, some_link(1));
	before = get_peer(&maps, PEER4);
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		assert_int_equal(ask(operations[i], PEER4), -EINVAL);
		assert_untouched(PEER4, &before);
		assert_true(ask(operations[i], NOBODY) < 0);
		assert_false(has_peer(&maps, NOBODY));
	}
}

/*
 * The kernel takes the packet for an Ethernet frame and its bytes 12 and 13 for the protocol: an
 * address must not be able to say "IPv4", "IPv6" or "VLAN" there and get its command lost.
 */
static void any_address(void **state)
{
	static const char *const addresses[] = {
		"8.0.1.2", /* 0x0800 */
		"134.221.1.2", /* 0x86dd */
		"129.0.1.2", /* 0x8100 */
		"0.0.0.0",	"255.255.255.255", "fd97::800:1",
		"fd97::86dd:1", "fd97::8100:1",	   "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
		"::",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		maps_reset(&maps);
		if (ask(COMMAND_ADD, addresses[i]))
			fail_msg("COMMAND_ADD of %s", addresses[i]);
		assert_address(get_peer(&maps, addresses[i]).address, addresses[i]);
	}
	assert_silent(watch);
}

static void add(void **state)
{
	__u64 before = now_ns();
	struct peer peer;

	(void)state;
	assert_int_equal(ask(COMMAND_ADD, PEER4), 0);
	assert_int_equal(ask(COMMAND_ADD, PEER6), 0);
	peer = get_peer(&maps, PEER6);
	assert_address(peer.address, PEER6);
	assert_int_equal(peer.flags, PEER_KNOWN);
	assert_true(peer.first_seen_ns >= before && peer.first_seen_ns <= now_ns());
	assert_int_equal(peer.last_active_ns, peer.first_seen_ns);
	assert_int_equal(peer.attempts, 0);
	assert_int_equal(peer.limit, 0);
	assert_int_equal(peer.next_attempt_ns, 0);
	assert_int_equal(peer.exempt_until_ns, 0);

	/* One that is there already keeps all it has. */
	peer = (struct peer){ .flags = PEER_DIALED, .attempts = 3, .slots = { some_link(1) } };
	put_peer(&maps, PEER4, &peer);
	peer = get_peer(&maps, PEER4);
	assert_int_equal(ask(COMMAND_ADD, PEER4), 0);
	peer.flags |= PEER_KNOWN;
	assert_untouched(PEER4, &peer);
	assert_int_equal(ask(COMMAND_ADD, PEER4), 0);
	assert_untouched(PEER4, &peer);
	/* With its limit in the peers file, beside the one that a command has set. */
	assert_int_equal(ask_limit(PEER4, 4), 0);
	assert_int_equal(ask_add_limited(PEER4, 3), 0);
	peer.limit = 4;
	peer.named_limit = 3;
	assert_untouched(PEER4, &peer);
	assert_int_equal(ask_add_limited(PEER4, PEER_LINKS_MAX + 1), -EINVAL);
	assert_untouched(PEER4, &peer);
	assert_int_equal(ask(COMMAND_ADD, PEER4), 0);
	peer.named_limit = 0;
	assert_untouched(PEER4, &peer);
	assert_int_equal(count_peers(&maps), 2);
}

static void unknow(void **state)
{
	struct peer peer = { .flags = PEER_KNOWN | PEER_DIALED, .attempts = 3, .limit = 3, .named_limit = 2 };

	(void)state;
	assert_unknown(PEER4);
	put_peer(&maps, PEER4, &peer);
	peer = get_peer(&maps, PEER4);
	assert_int_equal(ask(COMMAND_UNKNOW, PEER4), 0);
	peer.flags = PEER_DIALED;
	peer.named_limit = 0;
	assert_untouched(PEER4, &peer);
	assert_int_equal(ask(COMMAND_UNKNOW, PEER4), 0);
	assert_untouched(PEER4, &peer);
}

static void kick(void **state)
{
	struct peer peer = { .attempts = 5,
			     .next_attempt_ns = now_ns() + HOUR_NS,
			     .slots = { some_claim(1, 1) } };
	struct guard_event event;

	(void)state;
	put_peer(&maps, PEER4, &peer);
	peer = get_peer(&maps, PEER4);
	assert_int_equal(ask(COMMAND_KICK, PEER4), 0);
	assert_counted(watch, ENFORCED(peer_kicked, 1));
	event = next_event(watch, peer_kicked);
	assert_command_event(&event, PEER4);
	assert_int_equal(event.attempts, 0);
	assert_int_equal(event.until_ns, 0);
	assert_no_event(watch);
	peer.attempts = 0;
	peer.next_attempt_ns = 0;
	assert_untouched(PEER4, &peer);
	/* Also one without a backoff. */
	assert_int_equal(ask(COMMAND_KICK, PEER4), 0);
	assert_counted(watch, ENFORCED(peer_kicked, 1));
	next_event(watch, peer_kicked);
	assert_int_equal(ask(COMMAND_KICK, NOBODY), -ENOENT);
	assert_silent(watch);
}

static void limit(void **state)
{
	struct peer before;

	(void)state;
	assert_int_equal(ask_limit(PEER4, 2), 0);
	assert_int_equal(get_peer(&maps, PEER4).limit, 2);
	assert_address(get_peer(&maps, PEER4).address, PEER4);
	assert_int_equal(get_peer(&maps, PEER4).flags, 0);
	assert_int_equal(ask_limit(PEER4, PEER_LINKS_MAX), 0);
	assert_int_equal(get_peer(&maps, PEER4).limit, PEER_LINKS_MAX);
	before = get_peer(&maps, PEER4);
	assert_int_equal(ask_limit(PEER4, PEER_LINKS_MAX + 1), -EINVAL);
	assert_int_equal(ask_limit(PEER4, ~0U), -EINVAL);
	assert_untouched(PEER4, &before);
	/* Back to the policy's. */
	assert_int_equal(ask_limit(PEER4, 0), 0);
	assert_int_equal(get_peer(&maps, PEER4).limit, 0);
	assert_silent(watch);
}

static void allow(void **state)
{
	__u64 until = now_ns() + HOUR_NS;

	(void)state;
	assert_int_equal(ask_until(COMMAND_ALLOW, PEER6, until), 0);
	assert_int_equal(get_peer(&maps, PEER6).exempt_until_ns, until);
	assert_int_equal(ask_until(COMMAND_ALLOW, PEER6, NEVER_ENDS_NS), 0);
	assert_true(get_peer(&maps, PEER6).exempt_until_ns == NEVER_ENDS_NS);
	assert_int_equal(ask_until(COMMAND_ALLOW, PEER6, 0), 0);
	assert_int_equal(get_peer(&maps, PEER6).exempt_until_ns, 0);
	assert_silent(watch);
}

static void announce(void **state)
{
	struct peer idle = { .flags = PEER_DIALED }, busy;
	struct guard_event event;
	__u64 before = now_ns();

	(void)state;
	assert_int_equal(ask(COMMAND_ANNOUNCE, NOBODY), -ENOENT);
	put_peer(&maps, PEER4, &idle);
	assert_int_equal(ask(COMMAND_ANNOUNCE, PEER4), 0);
	assert_counted(watch, ENFORCED(peer_due, 1));
	event = next_event(watch, peer_due);
	assert_command_event(&event, PEER4);
	assert_no_event(watch);
	assert_true(get_peer(&maps, PEER4).due_ns >= before);
	assert_int_equal(get_peer(&maps, PEER4).due_ns, event.time_ns);

	/* A known peer is due as well, and one whose backoff or claim is over; attempts are told.
	 */
	idle.flags = PEER_KNOWN;
	idle.attempts = 4;
	idle.next_attempt_ns = now_ns();
	idle.slots[2] = some_claim(1, 1);
	idle.slots[2].expires_ns = now_ns();
	put_peer(&maps, PEER4, &idle);
	assert_int_equal(ask(COMMAND_ANNOUNCE, PEER4), 0);
	assert_counted(watch, ENFORCED(peer_due, 1));
	assert_int_equal(next_event(watch, peer_due).attempts, 4);

	/* Not: linked, dialing, in backoff, nobody we dial. */
	busy = (struct peer){ .flags = PEER_KNOWN, .slots = { some_link(1) } };
	put_peer(&maps, PEER4, &busy);
	assert_int_equal(ask(COMMAND_ANNOUNCE, PEER4), -EBUSY);
	busy.slots[0] = some_claim(1, 1);
	put_peer(&maps, PEER4, &busy);
	assert_int_equal(ask(COMMAND_ANNOUNCE, PEER4), -EBUSY);
	busy = (struct peer){ .flags = PEER_KNOWN, .next_attempt_ns = now_ns() + HOUR_NS };
	put_peer(&maps, PEER4, &busy);
	assert_int_equal(ask(COMMAND_ANNOUNCE, PEER4), -EBUSY);
	busy = (struct peer){};
	put_peer(&maps, PEER4, &busy);
	assert_int_equal(ask(COMMAND_ANNOUNCE, PEER4), -EBUSY);
	assert_int_equal(get_peer(&maps, PEER4).due_ns, 0);
	assert_silent(watch);
}

static void release(void **state)
{
	struct peer peer = { .attempts = 2, .slots = { some_link(11), some_claim(12, 1) } };
	__u64 before = now_ns();
	struct guard_event event;

	(void)state;
	put_peer(&maps, PEER4, &peer);
	peer = get_peer(&maps, PEER4);
	/* Neither another socket's slot nor a free one. */
	assert_int_equal(ask_release(PEER4, 13, CAUSE_link_released), -ENOENT);
	assert_int_equal(ask_release(PEER4, 0, CAUSE_link_released), -ENOENT);
	assert_untouched(PEER4, &peer);

	assert_int_equal(ask_release(PEER4, 11, CAUSE_link_released), 0);
	assert_counted(watch, ENFORCED(link_released, 1));
	event = next_event(watch, link_released);
	assert_command_event(&event, PEER4);
	assert_int_equal(event.cookie, 11);
	assert_int_equal(event.direction, DIRECTION_INBOUND);
	assert_int_equal(event.attempts, 2);
	peer = get_peer(&maps, PEER4);
	assert_int_equal(peer.slots[0].kind, SLOT_FREE);
	assert_int_equal(peer.slots[1].kind, SLOT_CLAIM);
	assert_int_equal(peer.slots[1].cookie, 12);
	assert_true(peer.last_active_ns >= before);
	/* No failure. */
	assert_int_equal(peer.attempts, 2);
	assert_int_equal(peer.next_attempt_ns, 0);

	assert_int_equal(ask_release(PEER4, 11, CAUSE_link_released), -ENOENT);
	assert_silent(watch);
	assert_int_equal(ask_release(PEER4, 12, CAUSE_link_released), 0);
	assert_counted(watch, ENFORCED(link_released, 1));
	assert_int_equal(next_event(watch, link_released).direction, DIRECTION_OUTBOUND);

	/* The other reasons that there are. */
	put_peer(&maps, PEER4, &(const struct peer){ .slots = { some_link(11), some_link(12) } });
	assert_int_equal(ask_release(PEER4, 11, CAUSE_link_cut), 0);
	assert_counted(watch, ENFORCED(link_cut, 1));
	assert_int_equal(next_event(watch, link_cut).cookie, 11);
	assert_int_equal(ask_release(PEER4, 12, CAUSE_link_unguarded), 0);
	assert_counted(watch, ENFORCED(link_unguarded, 1));
	assert_int_equal(next_event(watch, link_unguarded).cookie, 12);
}

/* What only a hook can say is not for userspace to say, nor what is no cause of an end. */
static void release_causes(void **state)
{
	static const enum cause others[] = { CAUSE_none,	CAUSE_link_ended, CAUSE_link_unanswered,
					     CAUSE_dial_failed, CAUSE_COUNT };
	struct peer before;

	(void)state;
	put_slot(&maps, PEER4, some_link(11));
	before = get_peer(&maps, PEER4);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_int_equal(ask_release(PEER4, 11, others[i]), -EINVAL);
	assert_untouched(PEER4, &before);
}

/* Evidence of life that the daemon has found; neither counted nor told. */
static void heard(void **state)
{
	struct slot silent = some_link(11);
	struct guard_command command = command_on(COMMAND_HEARD, PEER4);
	struct slot after;

	(void)state;
	silent.heard_ns = LONG_AGO;
	silent.doubted_ns = now_ns() - 10 * NS_PER_SECOND;
	put_slot(&maps, PEER4, silent);
	command.until_ns = now_ns();
	command.cookie = 12;
	assert_int_equal(guard_command(guard, &command), 0);
	after = get_peer(&maps, PEER4).slots[0];
	assert_int_equal(after.heard_ns, silent.heard_ns);
	command.cookie = 11;
	assert_int_equal(guard_command(guard, &command), 0);
	after = get_peer(&maps, PEER4).slots[0];
	assert_int_equal(after.heard_ns, command.until_ns);
	assert_int_equal(after.doubted_ns, 0);
	assert_silent(watch);
}

static struct slot quiet_link(__u64 cookie)
{
	struct slot link = some_link(cookie);

	link.heard_ns = LONG_AGO;
	return link;
}

/* A quiet link that was asked in vain ends not by that, but stands in nobody's way any more. */
static void unanswered(void **state)
{
	struct peer peer = { .attempts = 2,
			     .slots = { quiet_link(11), some_link(12), some_claim(13, 1) } };
	struct guard_command heard = command_on(COMMAND_HEARD, PEER4);
	struct guard_event event;

	(void)state;
	put_peer(&maps, PEER4, &peer);
	peer = get_peer(&maps, PEER4);
	/* One that shows life, a claim, nothing. */
	for (__u64 cookie = 12; cookie <= 14; cookie++)
		assert_int_equal(ask_about(COMMAND_UNANSWERED, PEER4, cookie), -ENOENT);
	assert_untouched(PEER4, &peer);

	assert_int_equal(ask_about(COMMAND_UNANSWERED, PEER4, 11), 0);
	assert_counted(watch, ENFORCED(link_unanswered, 1));
	event = next_event(watch, link_unanswered);
	assert_command_event(&event, PEER4);
	assert_int_equal(event.cookie, 11);
	assert_int_equal(event.direction, DIRECTION_INBOUND);
	assert_int_equal(event.attempts, 2);
	assert_no_event(watch);
	peer.slots[0].flags = SLOT_UNANSWERED;
	assert_untouched(PEER4, &peer);

	/* A sign of life takes that back. */
	heard.cookie = 11;
	heard.until_ns = now_ns();
	assert_int_equal(guard_command(guard, &heard), 0);
	peer.slots[0].flags = 0;
	peer.slots[0].heard_ns = heard.until_ns;
	assert_untouched(PEER4, &peer);
}

/* Neither life nor silence matters to a link whose own address is gone; when it is back all is as before. */
static void stranded(void **state)
{
	struct peer peer = { .attempts = 2,
			     .slots = { quiet_link(11), some_link(12), some_claim(13, 1) } };
	struct guard_command command = command_on(COMMAND_STRANDED, PEER4);
	struct guard_event event;

	(void)state;
	put_peer(&maps, PEER4, &peer);
	peer = get_peer(&maps, PEER4);
	for (command.value = 0; command.value < 2; command.value++)
		for (command.cookie = 13; command.cookie <= 14; command.cookie++)
			assert_int_equal(guard_command(guard, &command), -ENOENT);
	assert_untouched(PEER4, &peer);
	for (command.cookie = 11; command.cookie <= 12; command.cookie++) {
		command.value = 0;
		assert_int_equal(guard_command(guard, &command), -ENOENT);
		command.value = 1;
		assert_int_equal(guard_command(guard, &command), 0);
		assert_int_equal(guard_command(guard, &command), -ENOENT);
		assert_counted(watch, ENFORCED(link_stranded, 1));
		event = next_event(watch, link_stranded);
		assert_command_event(&event, PEER4);
		assert_int_equal(event.cookie, command.cookie);
		assert_int_equal(event.direction, DIRECTION_INBOUND);
		assert_int_equal(event.attempts, 2);
		assert_no_event(watch);
		peer.slots[command.cookie - 11].flags = SLOT_UNANSWERED | SLOT_STRANDED;
		assert_untouched(PEER4, &peer);
		command.value = 0;
		assert_int_equal(guard_command(guard, &command), 0);
		peer.slots[command.cookie - 11].flags = 0;
		assert_untouched(PEER4, &peer);
	}
}

/* Nor while the link beside it is new; and one that cannot leave, or is void, is not let go. */
static void let_go_beside_a_link(void **state)
{
	struct peer peer = { .flags = PEER_DIALED, .slots = { some_claim(11, 1), some_link(12) } };
	struct slot *kept = &peer.slots[0], *link = &peer.slots[1];
	const __u64 expires_ns = kept->expires_ns;

	(void)state;
	kept->flags |= SLOT_KEPT;
	link->direction = DIRECTION_INBOUND;
	/* For as long as the machine takes for this. */
	link->since_ns = now_ns() + HOUR_NS;
	put_peer(&maps, PEER4, &peer);
	peer = get_peer(&maps, PEER4);
	assert_int_equal(ask_about(COMMAND_LET_GO, PEER4, 11), -EBUSY);
	assert_untouched(PEER4, &peer);
	kept->flags &= ~(__u32)SLOT_SENT;
	put_peer(&maps, PEER4, &peer);
	assert_int_equal(ask_about(COMMAND_LET_GO, PEER4, 11), -ENOENT);
	kept->flags |= SLOT_SENT;
	kept->expires_ns = now_ns();
	put_peer(&maps, PEER4, &peer);
	assert_int_equal(ask_about(COMMAND_LET_GO, PEER4, 11), -ENOENT);
	assert_silent(watch);
	kept->expires_ns = expires_ns;
	link->since_ns = LONG_AGO;
	put_peer(&maps, PEER4, &peer);
	assert_int_equal(ask_about(COMMAND_LET_GO, PEER4, 11), 0);
	assert_counted(watch, ENFORCED(dial_let_go, 1));
	next_event(watch, dial_let_go);
}

/* A dial that was kept leaves when the backoff is over, and not before. */
static void let_go(void **state)
{
	const struct guard_policy policy = patient_policy();
	struct peer peer = { .attempts = 3,
			     .next_attempt_ns = now_ns() + HOUR_NS,
			     .failed_ns = now_ns(),
			     .flags = PEER_DIALED | PEER_SILENT,
			     .slots = { some_claim(11, 1), some_claim(12, 1), quiet_link(13) } };
	struct guard_event event;
	struct slot *kept = &peer.slots[0];

	(void)state;
	kept->flags |= SLOT_KEPT;
	kept->since_ns = LONG_AGO;
	peer.slots[2].flags = SLOT_KEPT;
	peer.slots[2].since_ns = LONG_AGO;
	put_peer(&maps, PEER4, &peer);
	peer = get_peer(&maps, PEER4);
	/* Not kept, a link, nothing. */
	for (__u64 cookie = 12; cookie <= 14; cookie++)
		assert_int_equal(ask_about(COMMAND_LET_GO, PEER4, cookie), -ENOENT);
	assert_int_equal(ask_about(COMMAND_LET_GO, PEER4, 11), -EBUSY);
	assert_untouched(PEER4, &peer);

	peer.next_attempt_ns = now_ns();
	put_peer(&maps, PEER4, &peer);
	assert_int_equal(ask_about(COMMAND_LET_GO, PEER4, 11), 0);
	assert_counted(watch, ENFORCED(dial_let_go, 1));
	event = next_event(watch, dial_let_go);
	assert_command_event(&event, PEER4);
	assert_int_equal(event.cookie, 11);
	assert_int_equal(event.direction, DIRECTION_OUTBOUND);
	assert_int_equal(event.attempts, 3);
	assert_no_event(watch);
	/* It is as if it had begun now. */
	kept->flags = SLOT_SENT;
	kept->since_ns = event.time_ns;
	kept->expires_ns = event.time_ns + policy.claim_max_ns;
	/* Who asks for it sends it. */
	kept->syns = 1;
	kept->left_ns = event.time_ns;
	assert_untouched(PEER4, &peer);
	assert_int_equal(ask_about(COMMAND_LET_GO, PEER4, 11), -ENOENT);
	assert_silent(watch);
}

static int ask_revive(enum cause cause)
{
	const struct guard_command command = { .operation = COMMAND_REVIVE, .value = cause };

	return guard_command(guard, &command);
}

/* The network or the host is back: one command for all peers, each of which hears when it is asked. */
static void revive(void **state)
{
	static const enum cause others[] = { CAUSE_none, CAUSE_service_started, CAUSE_peer_kicked,
					     CAUSE_COUNT };
	static const enum cause causes[] = { CAUSE_network_back, CAUSE_host_resumed };
	struct peer failed = { .attempts = 3,
			       .flags = PEER_DIALED | PEER_SILENT,
			       .failed_ns = now_ns(),
			       .next_attempt_ns = now_ns() + HOUR_NS };
	const struct peer_address nobody = {};
	struct guard_event event;
	__u64 before;

	(void)state;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_int_equal(ask_revive(others[i]), -EINVAL);
	assert_int_equal(get_revived(&maps), 0);
	assert_silent(watch);
	put_peer(&maps, PEER4, &failed);
	assert_int_equal(ask(COMMAND_ANNOUNCE, PEER4), -EBUSY);
	for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
		before = now_ns();
		assert_int_equal(ask_revive(causes[i]), 0);
		assert_true(get_revived(&maps) >= before && get_revived(&maps) <= now_ns());
		assert_counted(watch, { COUNTERS_ENFORCED, causes[i], 1 });
		event = check_event(watch, causes[i], __FILE__, __LINE__);
		assert_int_equal(event.time_ns, get_revived(&maps));
		assert_memory_equal(&event.address, &nobody, sizeof(nobody));
		assert_int_equal(event.enforced, 1);
		assert_no_event(watch);
	}
	/* No peer is made for it, and none is walked through. */
	assert_int_equal(count_peers(&maps), 1);
	assert_int_equal(get_peer(&maps, PEER4).next_attempt_ns, failed.next_attempt_ns);
	/* The attempts stay, so that flapping climbs the steps. */
	assert_int_equal(ask(COMMAND_ANNOUNCE, PEER4), 0);
	assert_counted(watch, ENFORCED(peer_due, 1));
	assert_int_equal(next_event(watch, peer_due).attempts, 3);
	assert_int_equal(get_peer(&maps, PEER4).next_attempt_ns, 0);
	assert_int_equal(get_peer(&maps, PEER4).attempts, 3);

	/* What fails after it stays failed. */
	failed.failed_ns = now_ns();
	put_peer(&maps, PEER4, &failed);
	assert_int_equal(ask(COMMAND_ANNOUNCE, PEER4), -EBUSY);
	/* A kept dial leaves by it as well. */
	failed.slots[0] = some_claim(11, 1);
	failed.slots[0].flags |= SLOT_KEPT;
	put_peer(&maps, PEER4, &failed);
	assert_int_equal(ask_about(COMMAND_LET_GO, PEER4, 11), -EBUSY);
	set_mode(&maps, MODE_OFF);
	watch_reset(watch);
	assert_int_equal(ask_revive(CAUSE_network_back), 0);
	/* A guard that is off has nothing to say. */
	assert_silent(watch);
	assert_int_equal(ask_about(COMMAND_LET_GO, PEER4, 11), 0);
	assert_counted(watch, ENFORCED(dial_let_go, 1));
}

/* The same host is a peer of its own at each service. */
static void services(void **state)
{
	struct guard_command kick = command_on(COMMAND_KICK, PEER4);
	const struct peer failed = { .attempts = 3, .next_attempt_ns = now_ns() + HOUR_NS };

	(void)state;
	put_peer(&maps, PEER4, &failed);
	set_service(OTHER_PORT);
	put_peer(&maps, PEER4, &failed);
	assert_int_equal(count_peers(&maps), 2);
	assert_int_equal(ask(COMMAND_KICK, PEER4), 0);
	assert_int_equal(get_peer(&maps, PEER4).attempts, 0);
	assert_counted(watch, ENFORCED(peer_kicked, 1));
	assert_address(next_event(watch, peer_kicked).address, PEER4);
	set_service(PORT);
	assert_int_equal(get_peer(&maps, PEER4).attempts, 3);
	/* A service that is none. */
	kick.address.service = 0;
	assert_int_equal(guard_command(guard, &kick), -ENOENT);
	kick.address.service = 24002;
	assert_int_equal(guard_command(guard, &kick), -ENOENT);
	assert_silent(watch);
}

/* A command on a host goes to each service, whichever of them the caller names. */
static void hosts(void **state)
{
	static const __u16 ports[] = { PORT, OTHER_PORT };
	struct guard_command command = command_on(COMMAND_KICK, PEER4);
	const struct peer failed = { .attempts = 3, .next_attempt_ns = now_ns() + HOUR_NS };

	(void)state;
	command.address.service = 0;
	assert_int_equal(guard_command_host(guard, &command), -ENOENT);
	/* A peer of one of them. */
	set_service(OTHER_PORT);
	put_peer(&maps, PEER4, &failed);
	assert_int_equal(guard_command_host(guard, &command), 0);
	assert_int_equal(get_peer(&maps, PEER4).attempts, 0);
	assert_counted(watch, ENFORCED(peer_kicked, 1));
	assert_address(next_event(watch, peer_kicked).address, PEER4);
	assert_int_equal(count_peers(&maps), 1);
	/* Of both, one of which fails: the other is done, and the failure is told. */
	set_service(PORT);
	put_slot(&maps, PEER4, some_link(11));
	set_service(OTHER_PORT);
	put_peer(&maps, PEER4, &(const struct peer){ .flags = PEER_DIALED });
	command.operation = COMMAND_ANNOUNCE;
	assert_int_equal(guard_command_host(guard, &command), -EBUSY);
	assert_counted(watch, ENFORCED(peer_due, 1));
	next_event(watch, peer_due);
	assert_int_not_equal(get_peer(&maps, PEER4).due_ns, 0);
	/* What creates a peer creates it at each; what takes a decision back creates none, and fails for none. */
	maps_reset(&maps);
	command.operation = COMMAND_LIMIT;
	assert_int_equal(guard_command_host(guard, &command), 0);
	assert_int_equal(count_peers(&maps), 0);
	command.value = 2;
	assert_int_equal(guard_command_host(guard, &command), 0);
	assert_int_equal(count_peers(&maps), 2);
	assert_int_equal(get_peer(&maps, PEER4).limit, 2);
	set_service(PORT);
	assert_int_equal(get_peer(&maps, PEER4).limit, 2);

	/* Ports that share their limits are one service; without a port there is none. */
	maps_reset(&maps);
	assert_int_equal(guard_ports_write(guard, ports, 2, true), 0);
	assert_int_equal(guard_command_host(guard, &command), 0);
	assert_int_equal(count_peers(&maps), 1);
	set_service(0);
	assert_int_equal(get_peer(&maps, PEER4).limit, 2);
	assert_int_equal(guard_ports_write(guard, NULL, 0, false), 0);
	assert_int_equal(guard_command_host(guard, &command), -ENOENT);
	assert_int_equal(guard_ports_write(guard, ports, 2, false), 0);
	assert_silent(watch);
}

static void spare(void **state)
{
	struct peer peer = { .slots = { some_link(11), some_link(12), some_claim(13, 1) } };
	__u64 before = now_ns();
	struct guard_event event;

	(void)state;
	peer.slots[0].flags = SLOT_DOOMED;
	put_peer(&maps, PEER4, &peer);
	peer = get_peer(&maps, PEER4);
	/* Another link is there; that one is not doomed; a claim; nothing. */
	for (__u64 cookie = 11; cookie <= 14; cookie++)
		assert_int_equal(ask_about(COMMAND_SPARE, PEER4, cookie), -EBUSY);
	assert_untouched(PEER4, &peer);

	peer.slots[1].flags = SLOT_DOOMED;
	put_peer(&maps, PEER4, &peer);
	assert_int_equal(ask_about(COMMAND_SPARE, PEER4, 12), 0);
	assert_counted(watch, ENFORCED(link_spared, 1));
	event = next_event(watch, link_spared);
	assert_command_event(&event, PEER4);
	assert_int_equal(event.cookie, 12);
	assert_int_equal(event.direction, DIRECTION_INBOUND);
	peer = get_peer(&maps, PEER4);
	assert_int_equal(peer.slots[0].flags, SLOT_DOOMED);
	assert_int_equal(peer.slots[1].flags, 0);
	assert_int_equal(peer.slots[1].kind, SLOT_LINK);
	assert_true(peer.last_active_ns >= before);
	/* It is one link now, so the other one is too many as before. */
	assert_int_equal(ask_about(COMMAND_SPARE, PEER4, 11), -EBUSY);
	assert_untouched(PEER4, &peer);
}

static int adopt(const char *address, __u64 cookie, enum link_direction direction)
{
	struct guard_command command = command_on(COMMAND_ADOPT, address);

	command.cookie = cookie;
	command.direction = direction;
	command.local_port = 24000;
	command.remote_port = 33000;
	return guard_command(guard, &command);
}

static void check_adopt(const char *address)
{
	__u64 before = now_ns();
	struct guard_event event;
	struct peer peer;

	assert_int_equal(adopt(address, 21, DIRECTION_INBOUND), 0);
	assert_counted(watch, ENFORCED(link_adopted, 1));
	event = next_event(watch, link_adopted);
	assert_command_event(&event, address);
	assert_int_equal(event.cookie, 21);
	assert_int_equal(event.direction, DIRECTION_INBOUND);
	assert_int_equal(event.local_port, 24000);
	assert_int_equal(event.remote_port, 33000);
	peer = get_peer(&maps, address);
	assert_address(peer.address, address);
	assert_int_equal(peer.slots[0].kind, SLOT_LINK);
	assert_int_equal(peer.slots[0].cookie, 21);
	assert_int_equal(peer.slots[0].direction, DIRECTION_INBOUND);
	assert_int_equal(peer.slots[0].flags, SLOT_ADOPTED);
	assert_int_equal(peer.slots[0].local_port, 24000);
	assert_int_equal(peer.slots[0].remote_port, 33000);
	assert_true(peer.slots[0].since_ns >= before);
	/* Once is enough. */
	assert_int_equal(adopt(address, 21, DIRECTION_INBOUND), 0);
	assert_silent(watch);
	assert_int_equal(get_peer(&maps, address).slots[1].kind, SLOT_FREE);
}

static void adopts(void **state)
{
	struct peer peer = {};

	(void)state;
	check_adopt(PEER4);
	check_adopt(PEER6);
	/* What exists is taken as it is: a link too many is told, and lives. */
	assert_int_equal(adopt(PEER4, 22, DIRECTION_OUTBOUND), 0);
	assert_counted(watch, ENFORCED(link_surplus, 1));
	next_event(watch, link_surplus);
	assert_int_equal(get_peer(&maps, PEER4).slots[0].flags, SLOT_ADOPTED);
	assert_int_equal(get_peer(&maps, PEER4).slots[1].flags, SLOT_ADOPTED | SLOT_SURPLUS);

	/* A dial that became a link unseen: its claim is the slot. */
	put_slot(&maps, PEER4, some_claim(23, 5));
	assert_int_equal(adopt(PEER4, 23, DIRECTION_OUTBOUND), 0);
	assert_counted(watch, ENFORCED(link_adopted, 1));
	next_event(watch, link_adopted);
	assert_int_equal(get_peer(&maps, PEER4).slots[0].kind, SLOT_LINK);
	assert_int_equal(get_peer(&maps, PEER4).slots[1].kind, SLOT_FREE);

	/* No slot left. */
	for (int i = 0; i < PEER_SLOTS; i++)
		peer.slots[i] = some_link(100 + i);
	put_peer(&maps, PEER4, &peer);
	assert_int_equal(adopt(PEER4, 24, DIRECTION_INBOUND), -ENOSPC);
	assert_counted(watch, ENFORCED(link_unheld, 1));
	assert_int_equal(next_event(watch, link_unheld).cookie, 24);
	for (int i = 0; i < PEER_SLOTS; i++)
		assert_int_equal(get_peer(&maps, PEER4).slots[i].cookie, 100 + i);
	/* A void claim makes room. */
	peer.slots[5] = some_claim(105, 1);
	peer.slots[5].expires_ns = now_ns();
	put_peer(&maps, PEER4, &peer);
	assert_int_equal(adopt(PEER4, 24, DIRECTION_INBOUND), 0);
	assert_int_equal(get_peer(&maps, PEER4).slots[5].cookie, 24);
}

static void trim(void **state)
{
	struct peer peer = { .slots = { some_link(41), some_link(42), some_claim(43, 1) } };
	struct guard_event event;

	(void)state;
	put_slot(&maps, PEER6, some_link(44));
	put_peer(&maps, PEER4, &peer);
	peer = get_peer(&maps, PEER4);
	/* A claim; nothing; the only one. */
	assert_int_equal(ask_about(COMMAND_TRIM, PEER4, 43), -EBUSY);
	assert_int_equal(ask_about(COMMAND_TRIM, PEER4, 45), -EBUSY);
	assert_untouched(PEER4, &peer);
	assert_int_equal(ask_about(COMMAND_TRIM, PEER6, 44), -EBUSY);
	set_mode(&maps, MODE_OFF);
	assert_int_equal(ask_about(COMMAND_TRIM, PEER4, 42), -EBUSY);
	assert_untouched(PEER4, &peer);
	/* Who observes counts it. */
	set_mode(&maps, MODE_OBSERVE);
	assert_int_equal(ask_about(COMMAND_TRIM, PEER4, 42), 0);
	assert_counted(watch, OBSERVED(link_duplicate, 1));
	event = next_event(watch, link_duplicate);
	assert_int_equal(event.enforced, 0);
	assert_int_equal(event.other_cookie, 42);
	assert_int_equal(get_peer(&maps, PEER4).slots[1].flags, 0);
	set_mode(&maps, MODE_ENFORCE);
	assert_int_equal(ask_about(COMMAND_TRIM, PEER4, 42), 0);
	assert_counted(watch, ENFORCED(link_duplicate, 1));
	event = next_event(watch, link_duplicate);
	assert_command_event(&event, PEER4);
	assert_int_equal(event.enforced, 1);
	assert_int_equal(event.other_cookie, 42);
	peer = get_peer(&maps, PEER4);
	assert_int_equal(peer.slots[0].flags, 0);
	assert_int_equal(peer.slots[1].flags, SLOT_DOOMED);
	/* The last one stays. */
	assert_int_equal(ask_about(COMMAND_TRIM, PEER4, 41), -EBUSY);
	assert_int_equal(ask_about(COMMAND_TRIM, PEER4, 42), -EBUSY);
	assert_untouched(PEER4, &peer);
}

static void expire(void **state)
{
	struct peer peer = { .attempts = 3,
			     .slots = { some_link(31), some_claim(32, 1), some_claim(33, 1) } };
	struct guard_event event;

	(void)state;
	put_peer(&maps, PEER4, &peer);
	peer = get_peer(&maps, PEER4);
	assert_int_equal(ask(COMMAND_EXPIRE, PEER4), 0);
	assert_untouched(PEER4, &peer);

	peer.slots[1].expires_ns = now_ns();
	put_peer(&maps, PEER4, &peer);
	assert_int_equal(ask(COMMAND_EXPIRE, PEER4), 0);
	assert_counted(watch, ENFORCED(claim_expired, 1));
	event = next_event(watch, claim_expired);
	assert_command_event(&event, PEER4);
	assert_int_equal(event.other_cookie, 32);
	assert_int_equal(event.direction, DIRECTION_OUTBOUND);
	assert_int_equal(event.attempts, 3);
	assert_no_event(watch);
	peer = get_peer(&maps, PEER4);
	assert_int_equal(peer.slots[0].kind, SLOT_LINK);
	assert_int_equal(peer.slots[1].kind, SLOT_FREE);
	assert_int_equal(peer.slots[2].kind, SLOT_CLAIM);
	/* Void, not failed. */
	assert_int_equal(peer.attempts, 3);
	assert_int_equal(peer.next_attempt_ns, 0);
	assert_int_equal(ask(COMMAND_EXPIRE, PEER4), 0);
	assert_silent(watch);
}

static void forget(void **state)
{
	const __u64 active = now_ns();
	const struct peer needed[] = {
		{ .flags = PEER_KNOWN, .last_active_ns = active },
		{ .last_active_ns = active + 1 },
		{ .last_active_ns = active, .next_attempt_ns = active + HOUR_NS },
		{ .last_active_ns = active, .exempt_until_ns = active + HOUR_NS },
		{ .last_active_ns = active, .exempt_until_ns = NEVER_ENDS_NS },
		{ .last_active_ns = active, .limit = 2 },
		{ .last_active_ns = active, .slots = { [7] = some_link(1) } },
		{ .last_active_ns = active, .slots = { some_claim(1, 1) } },
	};
	const struct peer idle = { .flags = PEER_DIALED,
				   .attempts = 7,
				   .last_active_ns = active,
				   .next_attempt_ns = active,
				   .exempt_until_ns = active };

	(void)state;
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		struct peer before;

		put_peer(&maps, PEER4, &needed[i]);
		before = get_peer(&maps, PEER4);
		assert_int_equal(ask_until(COMMAND_FORGET, PEER4, active), -EBUSY);
		assert_untouched(PEER4, &before);
	}
	put_peer(&maps, PEER4, &idle);
	put_peer(&maps, PEER6, &idle);
	assert_int_equal(ask_until(COMMAND_FORGET, PEER4, active), 0);
	assert_false(has_peer(&maps, PEER4));
	assert_true(has_peer(&maps, PEER6));
	assert_unknown(PEER4);
}

/* Somebody else is deleting it: nothing is done to it any more. */
static void leaving(void **state)
{
	const struct peer peer = { .flags = PEER_LEAVING | PEER_KNOWN, .slots = { some_link(1) } };
	struct peer before;

	(void)state;
	put_peer(&maps, PEER4, &peer);
	before = get_peer(&maps, PEER4);
	for (int operation = COMMAND_ADD; operation < COMMAND_REVIVE; operation++) {
		assert_int_equal(operation == COMMAND_RELEASE ?
					 ask_release(PEER4, 1, CAUSE_link_released) :
					 ask_about(operation, PEER4, 1),
				 -EBUSY);
		assert_untouched(PEER4, &before);
	}
}

/* No room for another peer: what would create one says so, the others go on. */
static void full_map(void **state)
{
	char address[32];

	(void)state;
	for (int i = 0; i < PEERS_MAX; i++) {
		snprintf(address, sizeof(address), "10.97.2.%d", i);
		assert_int_equal(ask(COMMAND_ADD, address), 0);
	}
	assert_int_equal(ask(COMMAND_ADD, PEER4), -ENOSPC);
	assert_int_equal(ask_limit(PEER4, 2), -ENOSPC);
	assert_int_equal(ask_until(COMMAND_ALLOW, PEER4, NEVER_ENDS_NS), -ENOSPC);
	assert_int_equal(adopt(PEER4, 1, DIRECTION_INBOUND), -ENOSPC);
	/* What is taken back needs none. */
	assert_int_equal(ask_limit(PEER4, 0), -ENOENT);
	assert_int_equal(ask_until(COMMAND_ALLOW, PEER4, 0), -ENOENT);
	assert_unknown(PEER4);
	assert_int_equal(count_peers(&maps), PEERS_MAX);
	assert_int_equal(ask_limit("10.97.2.0", 2), 0);
	assert_int_equal(ask(COMMAND_UNKNOW, "10.97.2.1"), 0);
	assert_int_equal(ask_until(COMMAND_FORGET, "10.97.2.1", now_ns()), 0);
	assert_int_equal(ask(COMMAND_ADD, PEER4), 0);
	assert_silent(watch);
}

/* The link of `cookie` has ended, and nobody needs the peer any more. */
static int end_and_forget(const char *address, __u64 cookie)
{
	ask_release(address, cookie, CAUSE_link_released);
	return ask_until(COMMAND_FORGET, address, now_ns());
}

static void allow_peers_of_a_network(__u32 count)
{
	struct guard_policy policy = patient_policy();

	policy.network_peers = count;
	set_policy(&maps, &policy);
}

#define OF_NETWORK "fd97:2::"

/* Of one IPv6 network so many are learned and no more; who is named takes no place, who is forgotten gives it back. */
static void networks(void **state)
{
	(void)state;
	allow_peers_of_a_network(2);
	assert_int_equal(count_places(&maps, OF_NETWORK), -1);
	assert_int_equal(adopt(OF_NETWORK "1", 1, DIRECTION_INBOUND), 0);
	assert_int_equal(get_peer(&maps, OF_NETWORK "1").flags, PEER_COUNTED);
	assert_int_equal(count_places(&maps, OF_NETWORK), 1);
	assert_int_equal(adopt(OF_NETWORK "2", 2, DIRECTION_INBOUND), 0);
	assert_int_equal(adopt(OF_NETWORK "3", 3, DIRECTION_INBOUND), -ENOSPC);
	assert_false(has_peer(&maps, OF_NETWORK "3"));
	assert_int_equal(count_places(&maps, OF_NETWORK), 2);
	/* It has its place: a second link takes none. */
	assert_int_equal(adopt(OF_NETWORK "2", 22, DIRECTION_INBOUND), 0);
	assert_int_equal(count_places(&maps, OF_NETWORK), 2);

	/* Another network, and IPv4, which is no network at all. */
	assert_int_equal(adopt(PEER6, 4, DIRECTION_INBOUND), 0);
	assert_int_equal(count_places(&maps, PEER6), 1);
	assert_int_equal(adopt(PEER4, 5, DIRECTION_INBOUND), 0);
	assert_int_equal(get_peer(&maps, PEER4).flags, 0);
	assert_int_equal(count_places(&maps, PEER4), -1);
	assert_int_equal(end_and_forget(PEER6, 4), 0);
	assert_int_equal(count_places(&maps, PEER6), -1);
	/* Full as the map is, the place that was taken before is given back. */
	assert_int_equal(ask(COMMAND_ADD, NOBODY), 0);
	assert_int_equal(count_peers(&maps), PEERS_MAX);
	assert_int_equal(adopt(PEER6, 4, DIRECTION_INBOUND), -ENOSPC);
	assert_int_equal(count_places(&maps, PEER6), -1);
	assert_int_equal(end_and_forget(PEER4, 5), 0);

	assert_int_equal(ask(COMMAND_ADD, OF_NETWORK "4"), 0);
	assert_int_equal(get_peer(&maps, OF_NETWORK "4").flags, PEER_KNOWN);
	assert_int_equal(count_places(&maps, OF_NETWORK), 2);
	assert_int_equal(ask(COMMAND_UNKNOW, OF_NETWORK "4"), 0);
	assert_int_equal(ask_until(COMMAND_FORGET, OF_NETWORK "4", now_ns()), 0);
	assert_int_equal(count_places(&maps, OF_NETWORK), 2);
	assert_int_equal(ask_limit(OF_NETWORK "5", 2), 0);
	assert_int_equal(count_places(&maps, OF_NETWORK), 2);
	assert_int_equal(ask_limit(OF_NETWORK "5", 0), 0);
	assert_int_equal(ask_until(COMMAND_FORGET, OF_NETWORK "5", now_ns()), 0);
	assert_int_equal(count_places(&maps, OF_NETWORK), 2);

	/* Whoever is named from now on leaves the place to somebody else. */
	assert_int_equal(ask(COMMAND_ADD, OF_NETWORK "1"), 0);
	assert_int_equal(get_peer(&maps, OF_NETWORK "1").flags, PEER_KNOWN);
	assert_int_equal(ask(COMMAND_ADD, OF_NETWORK "1"), 0);
	assert_int_equal(count_places(&maps, OF_NETWORK), 1);
	assert_int_equal(adopt(OF_NETWORK "3", 3, DIRECTION_INBOUND), 0);
	assert_int_equal(count_places(&maps, OF_NETWORK), 2);

	/* -EBUSY: it has state, and its place. */
	assert_int_equal(ask_until(COMMAND_FORGET, OF_NETWORK "2", now_ns()), -EBUSY);
	assert_int_equal(count_places(&maps, OF_NETWORK), 2);
	ask_release(OF_NETWORK "2", 22, CAUSE_link_released);
	assert_int_equal(end_and_forget(OF_NETWORK "2", 2), 0);
	assert_int_equal(count_places(&maps, OF_NETWORK), 1);
	assert_int_equal(end_and_forget(OF_NETWORK "3", 3), 0);
	assert_int_equal(count_places(&maps, OF_NETWORK), -1);

	/* 0 is no bound, and nobody is counted. */
	allow_peers_of_a_network(0);
	assert_int_equal(adopt(OF_NETWORK "6", 6, DIRECTION_INBOUND), 0);
	assert_int_equal(get_peer(&maps, OF_NETWORK "6").flags, 0);
	assert_int_equal(count_places(&maps, OF_NETWORK), -1);
	watch_reset(watch);
}

/* The same peers of a network come and go, on two processors at a time. */
static void *come_and_go(void *argument)
{
	static const char *const addresses[] = { OF_NETWORK "1", OF_NETWORK "2", OF_NETWORK "3" };

	for (__u64 turn = 0; turn < 3000; turn++) {
		const char *address = addresses[turn % 3];
		__u64 cookie = 2 * (turn + 1) + (argument ? *(int *)argument : 0);

		adopt(address, cookie, DIRECTION_INBOUND);
		end_and_forget(address, cookie);
	}
	return NULL;
}

/* Whatever comes between what, no place is lost, and none is left over. */
static void networks_in_a_race(void **state)
{
	int odd = 1;
	pthread_t other;

	(void)state;
	allow_peers_of_a_network(2);
	assert_int_equal(pthread_create(&other, NULL, come_and_go, &odd), 0);
	come_and_go(NULL);
	pthread_join(other, NULL);
	for (char number = '1'; number <= '3'; number++) {
		char address[32];

		snprintf(address, sizeof(address), OF_NETWORK "%c", number);
		ask_until(COMMAND_FORGET, address, now_ns());
	}
	assert_int_equal(count_peers(&maps), 0);
	assert_int_equal(count_places(&maps, OF_NETWORK), -1);
	watch_reset(watch);
}

/* Commands are for the operator, whatever the mode. */
static void modes(void **state)
{
	static const enum guard_mode modes[] = { MODE_OFF, MODE_OBSERVE, MODE_ENFORCE };

	(void)state;
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		const struct peer peer = { .attempts = 2, .next_attempt_ns = now_ns() + HOUR_NS };

		set_mode(&maps, modes[i]);
		put_peer(&maps, PEER4, &peer);
		assert_int_equal(ask(COMMAND_KICK, PEER4), 0);
		assert_int_equal(get_peer(&maps, PEER4).attempts, 0);
		assert_counted(watch, ENFORCED(peer_kicked, 1));
		assert_int_equal(next_event(watch, peer_kicked).enforced, 1);
	}
}

#define TEST(name) cmocka_unit_test_setup(name, before_each)

static int run_all(void)
{
	const struct CMUnitTest tests[] = {
		TEST(defaults),	   TEST(short_data), TEST(unknown_operations),
		TEST(any_address), TEST(add),	     TEST(unknow),
		TEST(kick),	   TEST(limit),	     TEST(allow),
		TEST(announce),	   TEST(release),    TEST(release_causes),
		TEST(heard),	   TEST(unanswered), TEST(stranded), TEST(let_go),
		TEST(let_go_beside_a_link),
		TEST(revive),	   TEST(services),   TEST(hosts),
		TEST(spare),	   TEST(adopts),
		TEST(trim),
		TEST(expire),	   TEST(forget),     TEST(leaving),
		TEST(full_map),	   TEST(modes),
		TEST(networks),	   TEST(networks_in_a_race),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}

int main(void)
{
	return run_surrounded("cgt-command-", run_all);
}
