/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guard in the kernel through user/edge/kernel.h: load, take over, attach, remove, and what the
 * kernel is asked about it.
 *
 * Guards of this test's own (prefix cgt-kernel-) on cgroups and network namespaces of its own, with
 * real programs, links, pins and connections. What is expected of the kernel is read past the code
 * under test: from bpffs and with BPF_PROG_QUERY. Runs as root.
 */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/cleanup.h"
#include "edge/furnish.h"
#include "edge/kernel.h"
#include "pure/address_text.h"

#define PEERS_MAX 64
/* Of a larger one: a multiple of what the kernel reads at once, and some. */
#define MANY_PEERS 5000
/* Somebody who may read nothing. */
#define NOBODY_ID 65534

#define HERE4  "10.97.0.1"
#define THERE4 "10.97.0.2"
#define PEER4  "10.97.1.2"
#define PEER6  "fd97:1::2"

/* Cgroups below this test's, and two network namespaces: the test's own and another. */
static char guarded[256], elsewhere[256];
static int own_netns = -1, other_netns = -1;
/* Descriptors above this one belong to the test that runs. */
static int last_own_descriptor;

static const struct {
	const char *pin;
	enum bpf_attach_type type;
} hook_types[HOOK_COUNT] = {
	[HOOK_SOCK_OPS] = { "sock_ops", BPF_CGROUP_SOCK_OPS },
	[HOOK_SOCK_RELEASE] = { "sock_release", BPF_CGROUP_INET_SOCK_RELEASE },
	[HOOK_INGRESS] = { "ingress", BPF_CGROUP_INET_INGRESS },
	[HOOK_EGRESS] = { "egress", BPF_CGROUP_INET_EGRESS },
	[HOOK_SK_LOOKUP] = { "sk_lookup", BPF_SK_LOOKUP },
	[HOOK_CONNECT4] = { "connect4", BPF_CGROUP_INET4_CONNECT },
	[HOOK_CONNECT6] = { "connect6", BPF_CGROUP_INET6_CONNECT },
};

static const char *const map_pins[] = { "layout", "mode",	  "policy",    "daemon", "revival",
					"ports",  "peers",	  "exempt",    "own", "sockets",
					"handshakes", "adoptions", "nudges",   "counters",
					"events", "syns", "held_syns", "handshake_key",
					"listeners", "listening", "networks" };
#define MAP_PINS (sizeof(map_pins) / sizeof(map_pins[0]))

/* ---- what is there -------------------------------------------------------------------------- */

static void pin_of(char path[300], const char *directory, const char *entry)
{
	snprintf(path, 300, PIN_ROOT "/%s%s%s/%s", own_name(), *directory ? "/" : "", directory,
		 entry);
}

static bool pinned(const char *directory, const char *entry)
{
	char path[300];

	pin_of(path, directory, entry);
	return access(path, F_OK) == 0;
}

static int open_pin(const char *directory, const char *entry)
{
	char path[300];
	int fd;

	pin_of(path, directory, entry);
	fd = bpf_obj_get(path);
	if (fd < 0)
		fail_msg("%s: %s", path, strerror(errno));
	return fd;
}

/*
 * Programs at a hook of a cgroup (without its ancestors) or of a network namespace: how many, and
 * the first one's id.
 */
static __u32 programs_at(int target_fd, enum guard_hook hook, __u32 *ret_first)
{
	__u32 ids[64] = {}, count = 64, flags = 0;

	assert_int_equal(bpf_prog_query(target_fd, hook_types[hook].type, 0, &flags, ids, &count),
			 0);
	if (ret_first)
		*ret_first = ids[0];
	return count;
}

static int open_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		fail_msg("%s: %s", path, strerror(errno));
	return fd;
}

/* Each hook of this cgroup and this namespace has so many programs. */
static void assert_programs(const char *cgroup, int netns_fd, __u32 count)
{
	cleanup_close int cgroup_fd = open_directory(cgroup);

	for (int hook = 0; hook < HOOK_COUNT; hook++)
		assert_int_equal(
			programs_at(hook == HOOK_SK_LOOKUP ? netns_fd : cgroup_fd, hook, NULL),
			count);
}

/* ---- guards --------------------------------------------------------------------------------- */

static struct guard_options options_for(const char *cgroup, int netns_fd)
{
	return (struct guard_options){
		.name = own_name(), .cgroup = cgroup, .netns_fd = netns_fd, .max_peers = PEERS_MAX
	};
}

/* Load where the test says; `taken_over` is what it must be. */
static struct guard *load_at(const char *cgroup, int netns_fd, bool taken_over)
{
	struct guard_options options = options_for(cgroup, netns_fd);
	struct guard *guard = NULL;
	bool was_taken_over = !taken_over;
	struct guard_error error;

	if (guard_load(&options, &guard, &was_taken_over, &error))
		fail_msg("guard_load: %s", error.text);
	assert_string_equal(error.text, "");
	assert_int_equal(was_taken_over, taken_over);
	return guard;
}

static struct guard *load_fresh(void)
{
	return load_at(guarded, own_netns, false);
}

/* guard_load() fails with this code and a text that has these words. */
static void assert_load_fails(const struct guard_options *options, int code, const char *words)
{
	struct guard *guard = (struct guard *)guarded;
	bool taken_over = true;
	struct guard_error error;

	assert_int_equal(guard_load(options, &guard, &taken_over, &error), code);
	assert_ptr_equal(guard, guarded);
	assert_true(taken_over);
	if (!strstr(error.text, words))
		fail_msg("'%s' does not say '%s'", error.text, words);
}

static void assert_open_fails(const char *name, int code, const char *words)
{
	struct guard *guard = (struct guard *)guarded;
	struct guard_error error;

	assert_int_equal(guard_open(name, &guard, &error), code);
	assert_ptr_equal(guard, guarded);
	if (!strstr(error.text, words))
		fail_msg("'%s' does not say '%s'", error.text, words);
}

static void remove_guard(void)
{
	struct guard_error error;

	if (guard_remove(own_name(), &error))
		fail_msg("guard_remove: %s", error.text);
	assert_string_equal(error.text, "");
}

/* Nothing of the guard is left: neither pins nor programs. */
static void assert_gone(void)
{
	char path[300];

	snprintf(path, sizeof(path), PIN_ROOT "/%s", own_name());
	assert_int_not_equal(access(path, F_OK), 0);
	assert_programs(guarded, own_netns, 0);
}

/* What keeps this hook from being attached through a pinned link, alone; NULL: nothing. */
static const char *attachment_lacks(const struct hook_state *state, int target_fd,
				    enum guard_hook hook)
{
	__u32 id, count = programs_at(target_fd, hook, &id);

	if (!state->attached)
		return "attachment";
	if (!state->pinned)
		return "a pinned link";
	if (state->foreign || count != 1)
		return "solitude";
	return state->program_id == id ? NULL : "the right program";
}

/*
 * Every hook is attached through a pinned link, alone, and the kernel agrees: at once, but for
 * programs of an earlier load whose last pin was unlinked. bpffs lets go of those a little later.
 */
static void assert_all_attached(const struct guard *guard, const char *cgroup, int netns_fd)
{
	__u64 patient_until = now_ns() + PATIENCE_MS * NS_PER_MS;
	cleanup_close int cgroup_fd = open_directory(cgroup);
	struct hook_state hooks[HOOK_COUNT];

	for (int hook = 0; hook < HOOK_COUNT; hook++) {
		int target_fd = hook == HOOK_SK_LOOKUP ? netns_fd : cgroup_fd;
		const char *lack;

		do {
			assert_int_equal(guard_hooks(guard, hooks), 0);
			lack = attachment_lacks(&hooks[hook], target_fd, hook);
		} while (lack && !usleep(1000) && now_ns() < patient_until);
		if (lack)
			fail_msg("%s lacks %s", guard_hook_name(hook), lack);
	}
}

static void write_policy(const struct guard *guard, enum guard_mode mode)
{
	struct guard_policy policy = patient_policy();
	const __u16 port = PORT;

	/* A link is lively for longer than a busy machine takes to go through a test. */
	policy.suspect_after_ns = HOUR_NS;
	assert_int_equal(guard_policy_write(guard, &policy), 0);
	assert_int_equal(guard_ports_write(guard, &port, 1, false), 0);
	assert_int_equal(guard_mode_write(guard, mode), 0);
}

static void add_peer(const struct guard *guard, const char *address)
{
	const struct guard_command command = { .operation = COMMAND_ADD,
					       .address = key_of(address) };

	assert_int_equal(guard_command(guard, &command), 0);
}

static void set_layout(struct guard_layout layout)
{
	cleanup_close int fd = open_pin("", "layout");
	__u32 zero = 0;

	assert_int_equal(bpf_map_update_elem(fd, &zero, &layout, BPF_ANY), 0);
}

static struct guard_layout get_layout(void)
{
	cleanup_close int fd = open_pin("", "layout");
	struct guard_layout layout;
	__u32 zero = 0;

	assert_int_equal(bpf_map_lookup_elem(fd, &zero, &layout), 0);
	return layout;
}

static void program_ids(const struct guard *guard, __u32 ret_ids[HOOK_COUNT])
{
	struct hook_state hooks[HOOK_COUNT];

	assert_int_equal(guard_hooks(guard, hooks), 0);
	for (int hook = 0; hook < HOOK_COUNT; hook++)
		ret_ids[hook] = hooks[hook].program_id;
}

/* ---- surroundings --------------------------------------------------------------------------- */

static int set_up(void **state)
{
	(void)state;
	child_cgroup("guarded", guarded);
	child_cgroup("elsewhere", elsewhere);
	own_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_true(own_netns >= 0);
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	other_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_true(other_netns >= 0);
	assert_int_equal(setns(own_netns, CLONE_NEWNET), 0);
	run("ip address add " HERE4 "/32 dev lo");
	run("ip address add " THERE4 "/32 dev lo");
	last_own_descriptor = dup(own_netns);
	set_service(PORT);
	return 0;
}

/* A test that failed half-way leaves nothing that would make the next one fail. */
static int after_each(void **state)
{
	struct guard_error ignored;

	(void)state;
	close_range(last_own_descriptor + 1, ~0U, 0);
	join_cgroup(own_cgroup());
	guard_remove(own_name(), &ignored);
	child_cgroup("guarded", guarded);
	child_cgroup("elsewhere", elsewhere);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(last_own_descriptor);
	close(own_netns);
	close(other_netns);
	return 0;
}

/* ---- names ---------------------------------------------------------------------------------- */

static void names(void **state)
{
	static const char *const wrong[] = { "",
					     "a/b",
					     ".",
					     "..",
					     "a b",
					     "caf\xc3\xa9",
					     "a.b",
					     "a\nb",
					     "../etc",
					     "-\t",
					     "abcdefghijklmnopqrstuvwxyz0123456" };
	static const char *const right[] = { "a", "default", "A-b_9", "-",
					     "abcdefghijklmnopqrstuvwxyz012345" };
	struct guard_options options = options_for(guarded, own_netns);
	struct guard_error error;

	(void)state;
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++)
		assert_true(guard_name_valid(right[i]));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_false(guard_name_valid(wrong[i]));
		options.name = wrong[i];
		assert_load_fails(&options, -EINVAL, "cannot name a guard");
		assert_open_fails(wrong[i], -EINVAL, "cannot name a guard");
		assert_int_equal(guard_remove(wrong[i], &error), -EINVAL);
		assert_non_null(strstr(error.text, "cannot name a guard"));
	}
	assert_programs(guarded, own_netns, 0);
	for (int hook = 0; hook < HOOK_COUNT; hook++)
		assert_string_equal(guard_hook_name(hook), hook_types[hook].pin);
	for (int feature = 0; feature < FEATURE_COUNT; feature++) {
		assert_true(strlen(guard_feature_name(feature)) > 0);
		assert_true(strlen(guard_feature_lack(feature)) > 0);
	}
}

static void not_loaded(void **state)
{
	struct guard_error error;

	(void)state;
	/* A load mounts bpffs where nobody has yet; without it another text would be right. */
	guard_close(load_fresh());
	remove_guard();
	assert_open_fails(own_name(), -ENOENT, own_name());
	assert_int_equal(guard_remove(own_name(), &error), -ENOENT);
	assert_non_null(strstr(error.text, own_name()));
	guard_close(NULL);
}

/* ---- loading -------------------------------------------------------------------------------- */

static void loads(void **state)
{
	struct guard *guard = load_fresh();
	struct guard_policy policy;
	enum guard_mode mode;
	struct stat place;
	char *cgroup;
	__u16 port;
	size_t count;

	(void)state;
	assert_all_attached(guard, guarded, own_netns);
	/* Ancestors and neighbours have nothing of it. */
	assert_programs(own_cgroup(), other_netns, 0);
	for (size_t i = 0; i < MAP_PINS; i++)
		assert_true(pinned("", map_pins[i]));
	for (int hook = 0; hook < HOOK_COUNT; hook++)
		assert_true(pinned("links", hook_types[hook].pin));
	assert_true(pinned("programs", "command"));
	assert_int_equal(stat(guarded, &place), 0);
	assert_int_equal(get_layout().version, CONNGUARD_LAYOUT);
	assert_int_equal(get_layout().cgroup_id, place.st_ino);
	assert_int_equal(guard_cgroup(guard, &cgroup), 0);
	assert_string_equal(cgroup, guarded);
	free(cgroup);
	assert_int_equal(guard_peers_max(guard), PEERS_MAX);
	/* It refuses nothing, and knows nothing to refuse, until it is told. */
	assert_int_equal(guard_mode_read(guard, &mode), 0);
	assert_int_equal(mode, GUARD_NEW_MODE);
	assert_int_equal(guard_policy_read(guard, &policy), 0);
	assert_int_equal(policy.set, 0);
	assert_int_equal(guard_ports_read(guard, &port, 1, &count), 0);
	assert_int_equal(count, 0);

	/* It stays when its loader is gone, and can be opened again. */
	guard_close(guard);
	{
		struct guard_error error;

		assert_int_equal(guard_open(own_name(), &guard, &error), 0);
		assert_string_equal(error.text, "");
	}
	assert_all_attached(guard, guarded, own_netns);
	assert_int_equal(guard_peers_max(guard), PEERS_MAX);
	guard_close(guard);
	remove_guard();
	assert_gone();
}

/* What a refused dial gets on this kernel. */
static int refusal(void)
{
	bool features[FEATURE_COUNT] = {};

	guard_probe(features);
	return features[FEATURE_REFUSAL_ERRNO] ? ECONNREFUSED : EPERM;
}

/* Try a dial from the guarded cgroup: 0 or the errno. */
static int try_dial(void)
{
	cleanup_close int fd = bound_socket(HERE4, 0);

	return dial(fd, THERE4, PORT);
}

/* All hooks at work on a real connection: each end is the other's peer. */
static void guards_real_connections(void **state)
{
	struct guard *guard = load_fresh();
	struct guard_maps maps = pinned_maps(own_name());
	struct watch *watch = watch_open(&maps);
	int listening, dialed, accepted;
	struct peer there, here;
	struct guard_event event;

	(void)state;
	write_policy(guard, MODE_ENFORCE);
	join_cgroup(guarded);
	listening = listener(THERE4, PORT);
	dialed = bound_socket(HERE4, 0);
	assert_int_equal(dial(dialed, THERE4, PORT), 0);
	accepted = accept(listening, NULL, NULL);
	assert_true(accepted >= 0);
	assert_counted(watch, ENFORCED(service_started, 1), ENFORCED(dial_idle, 1),
		       ENFORCED(knock_idle, 1), ENFORCED(link_outbound, 1),
		       ENFORCED(link_inbound, 1));
	there = get_peer(&maps, THERE4);
	here = get_peer(&maps, HERE4);
	assert_int_equal(there.slots[0].kind, SLOT_LINK);
	assert_int_equal(there.slots[0].cookie, cookie_of(dialed));
	assert_int_equal(there.slots[0].direction, DIRECTION_OUTBOUND);
	assert_int_equal(there.slots[0].process_id, getpid());
	assert_int_equal(here.slots[0].kind, SLOT_LINK);
	assert_int_equal(here.slots[0].cookie, cookie_of(accepted));
	assert_int_equal(here.slots[0].direction, DIRECTION_INBOUND);
	assert_int_equal(here.slots[0].client_isn, there.slots[0].client_isn);
	watch_reset(watch);

	/* A second dial is refused before it leaves. */
	assert_int_equal(try_dial(), refusal());
	assert_counted(watch, ENFORCED(dial_linked, 1));
	event = next_event(watch, dial_linked);
	assert_int_equal(event.verdict, VERDICT_REFUSE);
	assert_int_equal(event.process_id, getpid());
	/* And one from outside the guarded cgroup by sk_lookup, when it arrives. */
	join_cgroup(elsewhere);
	assert_int_equal(try_dial(), ECONNREFUSED);
	assert_counted(watch, ENFORCED(knock_linked, 1));
	next_event(watch, knock_linked);
	assert_no_event(watch);

	close(dialed);
	close(accepted);
	assert_int_equal(get_peer(&maps, THERE4).slots[0].kind, SLOT_FREE);
	close(listening);
	watch_close(watch);
	pinned_close(&maps);
	guard_close(guard);
}

static void takes_over(void **state)
{
	struct guard_options larger = options_for(guarded, own_netns);
	struct guard *first = load_fresh(), *second;
	__u32 before[HOOK_COUNT], after[HOOK_COUNT];
	struct bpf_link_info link_before = {}, link_after = {};
	__u32 length = sizeof(link_before);
	struct guard_error error;
	enum guard_mode mode;
	struct peer peer;
	bool taken_over;

	(void)state;
	write_policy(first, MODE_OBSERVE);
	add_peer(first, PEER4);
	program_ids(first, before);
	{
		cleanup_close int link = open_pin("links", "connect4");

		assert_int_equal(bpf_obj_get_info_by_fd(link, &link_before, &length), 0);
	}
	/* The maps stay as they are, their capacity included. */
	larger.max_peers = 2 * PEERS_MAX;
	assert_int_equal(guard_load(&larger, &second, &taken_over, &error), 0);
	assert_true(taken_over);
	assert_int_equal(guard_peers_max(second), PEERS_MAX);
	assert_all_attached(second, guarded, own_netns);
	program_ids(second, after);
	for (int hook = 0; hook < HOOK_COUNT; hook++)
		assert_int_not_equal(before[hook], after[hook]);
	{
		cleanup_close int link = open_pin("links", "connect4");

		length = sizeof(link_after);
		assert_int_equal(bpf_obj_get_info_by_fd(link, &link_after, &length), 0);
	}
	/* Replaced in place: the link is the same. */
	assert_int_equal(link_before.id, link_after.id);
	assert_int_equal(guard_mode_read(second, &mode), 0);
	assert_int_equal(mode, MODE_OBSERVE);
	assert_int_equal(guard_peer_read(second, &(struct peer_address){}, &peer), -ENOENT);
	{
		struct peer_address key = key_of(PEER4);

		assert_int_equal(guard_peer_read(second, &key, &peer), 0);
		assert_int_equal(peer.flags, PEER_KNOWN);
		/* Whoever has the guard open still sees the one that is in force. */
		add_peer(second, PEER6);
		key = key_of(PEER6);
		assert_int_equal(guard_peer_read(first, &key, &peer), 0);
	}
	guard_close(first);
	guard_close(second);
	remove_guard();
	assert_gone();
}

static __u32 command_id(void)
{
	cleanup_close int fd = open_pin("programs", "command");
	struct bpf_prog_info info = {};
	__u32 length = sizeof(info);

	assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &length), 0);
	return info.id;
}

/* Each hook has one link, and none waits beside it. */
static void assert_links_alone(void)
{
	char command[300];

	snprintf(command, sizeof(command), "test $(ls " PIN_ROOT "/%s/links | wc -l) = %d", own_name(),
		 HOOK_COUNT);
	run(command);
}

/* Take a guard over that stays as it is until guard_attach(). */
static struct guard *load_later(const char *cgroup, int netns_fd)
{
	struct guard_options options = options_for(cgroup, netns_fd);
	struct guard_error error;
	struct guard *guard;
	bool taken_over;

	options.attach_later = true;
	if (guard_load(&options, &guard, &taken_over, &error))
		fail_msg("guard_load: %s", error.text);
	assert_true(taken_over);
	return guard;
}

/* Until it is attached the guard that was there is as it was: for good, if it never is. */
static void attaches_later(void **state)
{
	struct guard *first = load_fresh(), *second;
	__u32 before[HOOK_COUNT], after[HOOK_COUNT], command = command_id();
	const struct guard_layout layout = get_layout();
	struct guard_error error;

	(void)state;
	write_policy(first, MODE_ENFORCE);
	program_ids(first, before);
	for (__u32 moved = 0; moved < 2; moved++) {
		second = load_later(moved ? elsewhere : guarded, moved ? other_netns : own_netns);
		assert_programs(elsewhere, other_netns, moved);
		program_ids(first, after);
		assert_memory_equal(before, after, sizeof(before));
		guard_close(second);
		assert_programs(elsewhere, other_netns, 0);
		assert_links_alone();
		assert_int_equal(command_id(), command);
		assert_int_equal(get_layout().cgroup_id, layout.cgroup_id);
		assert_all_attached(first, guarded, own_netns);
		program_ids(first, after);
		assert_memory_equal(before, after, sizeof(before));
	}
	second = load_later(elsewhere, other_netns);
	assert_int_equal(guard_attach(second, &error), 0);
	assert_string_equal(error.text, "");
	assert_all_attached(second, elsewhere, other_netns);
	assert_programs(guarded, own_netns, 0);
	assert_links_alone();
	assert_int_not_equal(command_id(), command);
	/* Once is enough. */
	command = command_id();
	assert_int_equal(guard_attach(second, &error), 0);
	assert_int_equal(command_id(), command);
	guard_close(first);
	guard_close(second);
}

/* A link that is detached by force meanwhile takes no program: the others have theirs again. */
static void attaches_all_or_none(void **state)
{
	struct guard *first = load_fresh(), *second;
	cleanup_close int link = open_pin("links", "connect6");
	__u32 before[HOOK_COUNT], after[HOOK_COUNT], command = command_id();
	struct guard_error error;

	(void)state;
	_Static_assert(HOOK_CONNECT6 == HOOK_COUNT - 1, "connect6 is the last one");
	program_ids(first, before);
	second = load_later(guarded, own_netns);
	assert_int_equal(bpf_link_detach(link), 0);
	assert_true(guard_attach(second, &error) < 0);
	assert_non_null(strstr(error.text, "links/connect6"));
	guard_close(second);
	program_ids(first, after);
	assert_memory_equal(before, after, HOOK_CONNECT6 * sizeof(*before));
	assert_int_equal(command_id(), command);
	assert_false(pinned("programs", "command-new"));
	guard_close(first);
}

/* Drawn with each load, and kept for as long as the table is. */
static void draws_a_handshake_key(void **state)
{
	struct handshake_key none = {}, drawn, again;
	struct guard_maps maps;

	(void)state;
	guard_close(load_fresh());
	maps = pinned_maps(own_name());
	drawn = get_handshake_key(&maps);
	for (size_t i = 0; i < sizeof(none.words) / sizeof(none.words[0]); i++)
		assert_true(drawn.words[i]);
	guard_close(load_at(guarded, own_netns, true));
	again = get_handshake_key(&maps);
	pinned_close(&maps);
	assert_memory_equal(&again, &drawn, sizeof(drawn));
	remove_guard();
	guard_close(load_fresh());
	maps = pinned_maps(own_name());
	again = get_handshake_key(&maps);
	pinned_close(&maps);
	assert_memory_not_equal(&again, &drawn, sizeof(drawn));
	remove_guard();
}

/* A dialer in the guarded cgroup, every millisecond; to be read when it has stopped. */
static struct {
	atomic_bool stop;
	int refusal;
	unsigned int dials;
	unsigned int passed;
} prober;

static void *probe(void *argument)
{
	const struct timespec pause = { .tv_nsec = NS_PER_MS };

	(void)argument;
	while (!atomic_load(&prober.stop)) {
		prober.dials++;
		if (try_dial() != prober.refusal)
			prober.passed++;
		nanosleep(&pause, NULL);
	}
	return NULL;
}

/*
 * While the programs are replaced, and while the guard moves to another cgroup above the service,
 * no dial slips through.
 */
static void takes_over_without_a_gap(void **state)
{
	struct guard *guard = load_fresh();
	struct guard_maps maps = pinned_maps(own_name());
	pthread_t thread;
	int listening;

	(void)state;
	write_policy(guard, MODE_ENFORCE);
	/* A cookie that no socket has: the prober makes many. */
	put_slot(&maps, THERE4, some_link(1ULL << 62));
	prober.refusal = refusal();
	join_cgroup(guarded);
	listening = listener(THERE4, PORT);
	assert_int_equal(pthread_create(&thread, NULL, probe, NULL), 0);
	for (int i = 0; i < 3; i++) {
		guard_close(guard);
		guard = load_at(guarded, own_netns, true);
	}
	guard_close(guard);
	guard = load_at(own_cgroup(), own_netns, true);
	guard_close(guard);
	guard = load_at(guarded, own_netns, true);
	atomic_store(&prober.stop, true);
	pthread_join(thread, NULL);
	assert_true(prober.dials > 20);
	assert_int_equal(prober.passed, 0);
	assert_all_attached(guard, guarded, own_netns);
	close(listening);
	pinned_close(&maps);
	guard_close(guard);
}

/* ---- loads that must not be ----------------------------------------------------------------- */

/* A guard of another version stays as it is. */
static void other_layout(void **state)
{
	struct guard_options options = options_for(elsewhere, other_netns);
	struct guard *guard = load_fresh();
	__u32 before[HOOK_COUNT], after[HOOK_COUNT];
	struct guard_layout layout = get_layout();
	enum guard_mode mode;

	(void)state;
	write_policy(guard, MODE_ENFORCE);
	add_peer(guard, PEER4);
	program_ids(guard, before);
	layout.version = CONNGUARD_LAYOUT + 1;
	set_layout(layout);

	assert_load_fails(&options, -EPROTO, "layout");
	assert_open_fails(own_name(), -EPROTO, "layout");

	assert_int_equal(get_layout().version, CONNGUARD_LAYOUT + 1);
	assert_int_equal(get_layout().cgroup_id, layout.cgroup_id);
	layout.version = CONNGUARD_LAYOUT;
	set_layout(layout);
	assert_all_attached(guard, guarded, own_netns);
	program_ids(guard, after);
	assert_memory_equal(before, after, sizeof(before));
	assert_programs(elsewhere, other_netns, 0);
	assert_int_equal(guard_mode_read(guard, &mode), 0);
	assert_int_equal(mode, MODE_ENFORCE);
	guard_close(guard);
}

/* Put a map of other sizes in the place of a pin. */
static void replace_pin(const char *name, enum bpf_map_type type, __u32 key_size, __u32 value_size)
{
	cleanup_close int fd = bpf_map_create(type, "cgt_other", key_size, value_size, 1, NULL);
	char path[300];

	assert_true(fd >= 0);
	pin_of(path, "", name);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(bpf_obj_pin(fd, path), 0);
}

static void other_sizes(void **state)
{
	struct guard_options options = options_for(guarded, own_netns);
	struct guard *guard = load_fresh();
	__u32 before[HOOK_COUNT], after[HOOK_COUNT];
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);

	(void)state;
	/* The layout word is right, and yet a map is not ours. */
	program_ids(guard, before);
	replace_pin("policy", BPF_MAP_TYPE_ARRAY, sizeof(__u32), sizeof(struct guard_policy) + 8);
	assert_load_fails(&options, -EPROTO, "policy");
	assert_open_fails(own_name(), -EPROTO, "policy");
	{
		struct guard *glance = guard;

		assert_int_equal(guard_peek(own_name(), &glance), -EPROTO);
		assert_ptr_equal(glance, guard);
	}
	program_ids(guard, after);
	assert_memory_equal(before, after, sizeof(before));
	assert_all_attached(guard, guarded, own_netns);
	guard_close(guard);

	/* The layout word itself has another size. */
	replace_pin("layout", BPF_MAP_TYPE_ARRAY, sizeof(__u32), sizeof(struct guard_layout) + 8);
	assert_load_fails(&options, -EPROTO, "layout");
	assert_open_fails(own_name(), -EPROTO, "layout");
	{
		cleanup_close int fd = open_pin("", "layout");

		assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &length), 0);
		assert_int_equal(info.value_size, sizeof(struct guard_layout) + 8);
	}
	assert_programs(guarded, own_netns, 1);
	remove_guard();
	assert_gone();
}

/* A fresh load that cannot be leaves nothing; one that would take over leaves the old guard. */
static void wrong_place(void **state)
{
	struct guard_options options = options_for("/nowhere/at/all", own_netns);
	struct guard *guard;
	int no_netns = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_load_fails(&options, -ENOENT, "/nowhere/at/all");
	assert_gone();
	options.cgroup = "/proc";
	assert_load_fails(&options, -EBADF, "attaching");
	assert_gone();
	options = options_for(guarded, no_netns);
	assert_load_fails(&options, -EINVAL, "sk_lookup");
	assert_gone();

	guard = load_fresh();
	write_policy(guard, MODE_ENFORCE);
	options = options_for("/nowhere/at/all", own_netns);
	assert_load_fails(&options, -ENOENT, "/nowhere/at/all");
	assert_all_attached(guard, guarded, own_netns);
	guard_close(guard);
	close(no_netns);
}

/* ---- loads that died (test_kills.c kills them for real) -------------------------------------- */

/* What such a load left: the maps are there, the layout word is not written yet. */
static void clears_a_load_that_died(void **state)
{
	const struct guard_layout unfinished = {};
	struct guard *guard = load_fresh();
	struct peer_address key = key_of(PEER4);
	char path[300];
	struct peer peer;

	(void)state;
	write_policy(guard, MODE_ENFORCE);
	add_peer(guard, PEER4);
	guard_close(guard);
	/* It had come as far as the hooks that end claims. */
	set_layout(unfinished);
	pin_of(path, "links", "connect4");
	assert_int_equal(unlink(path), 0);
	pin_of(path, "links", "connect6");
	assert_int_equal(unlink(path), 0);
	pin_of(path, "programs", "command");
	assert_int_equal(unlink(path), 0);
	assert_open_fails(own_name(), -EPROTO, "layout");

	guard = load_fresh();
	assert_all_attached(guard, guarded, own_netns);
	assert_int_equal(guard_peer_read(guard, &key, &peer), -ENOENT);
	guard_close(guard);
	remove_guard();
	assert_gone();

	/* It had not come further than the directories. */
	guard = load_fresh();
	guard_close(guard);
	snprintf(path, sizeof(path), "find " PIN_ROOT "/%s -type f -delete", own_name());
	run(path);
	guard = load_fresh();
	assert_all_attached(guard, guarded, own_netns);
	guard_close(guard);
}

/*
 * Removing a guard can die as well, with the layout word gone and other maps left: these are
 * nobody's.
 */
static void clears_a_removal_that_died(void **state)
{
	struct guard *guard = load_fresh();
	struct peer_address key = key_of(PEER4);
	struct peer peer;
	char path[300];

	(void)state;
	write_policy(guard, MODE_ENFORCE);
	add_peer(guard, PEER4);
	guard_close(guard);
	pin_of(path, "", "layout");
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof(path), "rm " PIN_ROOT "/%s/links/*", own_name());
	run(path);
	guard = load_fresh();
	assert_all_attached(guard, guarded, own_netns);
	assert_int_equal(guard_peer_read(guard, &key, &peer), -ENOENT);
	guard_close(guard);
}

/* ---- moving --------------------------------------------------------------------------------- */

static void follows_the_cgroup(void **state)
{
	struct guard *guard = load_fresh();
	struct peer_address key = key_of(PEER4);
	struct peer peer;
	char *cgroup;

	(void)state;
	write_policy(guard, MODE_ENFORCE);
	add_peer(guard, PEER4);
	guard_close(guard);
	guard = load_at(elsewhere, own_netns, true);
	assert_all_attached(guard, elsewhere, own_netns);
	assert_int_equal(guard_cgroup(guard, &cgroup), 0);
	assert_string_equal(cgroup, elsewhere);
	free(cgroup);
	{
		cleanup_close int left = open_directory(guarded);

		for (int hook = 0; hook < HOOK_COUNT; hook++)
			if (hook != HOOK_SK_LOOKUP)
				await(programs_at(left, hook, NULL) == 0);
	}
	assert_int_equal(guard_peer_read(guard, &key, &peer), 0);
	guard_close(guard);
}

static void follows_the_namespace(void **state)
{
	struct guard *guard = load_fresh();

	(void)state;
	guard_close(guard);
	guard = load_at(guarded, other_netns, true);
	assert_all_attached(guard, guarded, other_netns);
	await(programs_at(own_netns, HOOK_SK_LOOKUP, NULL) == 0);
	guard_close(guard);
}

static void cgroup_is_gone(void **state)
{
	struct guard *guard = load_fresh();
	struct hook_state hooks[HOOK_COUNT];
	char *cgroup = guarded;

	(void)state;
	assert_int_equal(rmdir(guarded), 0);
	assert_int_equal(guard_cgroup(guard, &cgroup), -ENOENT);
	assert_ptr_equal(cgroup, guarded);
	assert_int_equal(guard_hooks(guard, hooks), 0);
	for (int hook = 0; hook < HOOK_COUNT; hook++)
		assert_int_equal(hooks[hook].attached, hook == HOOK_SK_LOOKUP);
	/* The service came back in a cgroup of the same name. */
	guard_close(guard);
	child_cgroup("guarded", guarded);
	guard = load_at(guarded, own_netns, true);
	assert_all_attached(guard, guarded, own_netns);
	guard_close(guard);
	assert_int_equal(rmdir(guarded), 0);
	remove_guard();
	assert_int_equal(programs_at(own_netns, HOOK_SK_LOOKUP, NULL), 0);
	child_cgroup("guarded", guarded);
}

/* ---- others at the hooks -------------------------------------------------------------------- */

static void detached_by_force(void **state)
{
	struct guard *guard = load_fresh();
	struct hook_state hooks[HOOK_COUNT];

	(void)state;
	for (int gone = 0; gone < HOOK_COUNT; gone++) {
		cleanup_close int link = open_pin("links", hook_types[gone].pin);

		assert_int_equal(bpf_link_detach(link), 0);
		assert_int_equal(guard_hooks(guard, hooks), 0);
		for (int hook = 0; hook < HOOK_COUNT; hook++) {
			assert_int_equal(hooks[hook].attached, hook > gone);
			assert_int_equal(hooks[hook].pinned, hook > gone);
			assert_int_equal(hooks[hook].foreign, 0);
		}
	}
	/* The next load puts them back. */
	guard_close(guard);
	guard = load_at(guarded, own_netns, true);
	assert_all_attached(guard, guarded, own_netns);
	guard_close(guard);
}

/*
 * Who has loaded the guard holds its links: without its pin a hook stays as long as that lives, and
 * can be pinned again.
 */
static void unpinned_by_hand(void **state)
{
	struct guard *guard = load_fresh(), *reader;
	struct hook_state hooks[HOOK_COUNT];
	struct guard_error error;
	char path[300];

	(void)state;
	assert_int_equal(guard_open(own_name(), &reader, &error), 0);
	pin_of(path, "links", "connect6");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(guard_hooks(guard, hooks), 0);
	for (int hook = 0; hook < HOOK_COUNT; hook++) {
		assert_true(hooks[hook].attached);
		assert_int_equal(hooks[hook].pinned, hook != HOOK_CONNECT6);
	}
	assert_int_equal(guard_pin_again(guard, &error), 1);
	assert_all_attached(guard, guarded, own_netns);

	assert_int_equal(unlink(path), 0);
	guard_close(guard);
	await(guard_hooks(reader, hooks) == 0 && !hooks[HOOK_CONNECT6].attached);
	for (int hook = 0; hook < HOOK_COUNT; hook++) {
		assert_int_equal(hooks[hook].attached, hook != HOOK_CONNECT6);
		assert_int_equal(hooks[hook].pinned, hook != HOOK_CONNECT6);
	}
	/* Who did not load it cannot pin the hook, nor move the guard. */
	assert_int_equal(guard_pin_again(reader, &error), 0);
	assert_false(pinned("links", "connect6"));
	assert_int_equal(guard_follow(reader, elsewhere, own_netns, &error), -EBADF);
	assert_programs(elsewhere, other_netns, 0);
	guard_close(reader);
	guard = load_at(guarded, own_netns, true);
	assert_all_attached(guard, guarded, own_netns);
	guard_close(guard);
}

/* As after bpffs was unmounted and mounted again. */
static void pins_again_what_is_lost(void **state)
{
	struct guard *guard = load_fresh(), *other;
	struct peer_address key = key_of(PEER4);
	struct guard_error error;
	struct peer peer;
	char command[300];

	(void)state;
	write_policy(guard, MODE_ENFORCE);
	add_peer(guard, PEER4);
	assert_int_equal(guard_pin_again(guard, &error), 0);
	snprintf(command, sizeof(command), "rm -r " PIN_ROOT "/%s", own_name());
	run(command);
	assert_open_fails(own_name(), -ENOENT, own_name());
	assert_int_equal(guard_pin_again(guard, &error), MAP_PINS + HOOK_COUNT + 1);
	assert_all_attached(guard, guarded, own_netns);
	/* They are the same that they were, and outlive their maker as before. */
	guard_close(guard);
	assert_int_equal(guard_open(own_name(), &guard, &error), 0);
	assert_all_attached(guard, guarded, own_netns);
	assert_int_equal(guard_peer_read(guard, &key, &peer), 0);
	guard_close(guard);

	/* What was removed in order is not pinned again, nor what another guard has the place of. */
	guard = load_at(guarded, own_netns, true);
	run(command);
	other = load_at(elsewhere, other_netns, false);
	assert_int_equal(guard_pin_again(guard, &error), -EEXIST);
	assert_non_null(strstr(error.text, own_name()));
	guard_close(other);
	remove_guard();
	assert_int_equal(guard_pin_again(guard, &error), MAP_PINS + HOOK_COUNT + 1);
	remove_guard();
	assert_int_equal(guard_pin_again(guard, &error), -ENOENT);
	assert_string_equal(error.text, "");
	assert_int_equal(guard_follow(guard, guarded, own_netns, &error), -ENOENT);
	guard_close(guard);
	assert_gone();
}

/* A program of somebody else that lets everything pass. */
static int foreign_program(enum bpf_prog_type type, enum bpf_attach_type attach_type)
{
	const struct bpf_insn allow[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = attach_type);
	int fd = bpf_prog_load(type, "cgt_foreign", "GPL", allow, 2, &options);

	assert_true(fd >= 0);
	return fd;
}

static void assert_foreign(const struct guard *guard, enum guard_hook hook, __u32 count)
{
	struct hook_state hooks[HOOK_COUNT];

	await(guard_hooks(guard, hooks) == 0 && hooks[hook].foreign == count);
	for (int i = 0; i < HOOK_COUNT; i++) {
		assert_true(hooks[i].attached && hooks[i].pinned);
		assert_int_equal(hooks[i].foreign, i == (int)hook ? count : 0);
	}
}

static void counts_foreign_programs(void **state)
{
	struct guard *guard = load_fresh();
	int connect4 = foreign_program(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT);
	int ingress = foreign_program(BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_INGRESS);
	int here = open_directory(guarded), above = open_directory(own_cgroup());
	int link;

	(void)state;
	assert_int_equal(
		bpf_prog_attach(connect4, here, BPF_CGROUP_INET4_CONNECT, BPF_F_ALLOW_MULTI), 0);
	assert_foreign(guard, HOOK_CONNECT4, 1);
	/* One of an ancestor is effective here as well. */
	link = bpf_link_create(connect4, above, BPF_CGROUP_INET4_CONNECT, NULL);
	assert_true(link >= 0);
	assert_foreign(guard, HOOK_CONNECT4, 2);
	close(link);
	/* It is neither removed with the guard nor replaced by its next load. */
	guard_close(guard);
	guard = load_at(guarded, own_netns, true);
	assert_foreign(guard, HOOK_CONNECT4, 1);
	assert_int_equal(bpf_prog_detach2(connect4, here, BPF_CGROUP_INET4_CONNECT), 0);
	assert_int_equal(bpf_prog_attach(ingress, here, BPF_CGROUP_INET_INGRESS, BPF_F_ALLOW_MULTI),
			 0);
	assert_foreign(guard, HOOK_INGRESS, 1);
	guard_close(guard);
	remove_guard();
	assert_int_equal(programs_at(here, HOOK_INGRESS, NULL), 1);
	assert_int_equal(programs_at(here, HOOK_CONNECT4, NULL), 0);
	assert_int_equal(bpf_prog_detach2(ingress, here, BPF_CGROUP_INET_INGRESS), 0);
	close(connect4);
	close(ingress);
	close(here);
	close(above);
}

/* A socket lookup of somebody else in the guarded namespace. */
static void counts_foreign_lookups(void **state)
{
	struct guard *guard = load_fresh();
	int program = foreign_program(BPF_PROG_TYPE_SK_LOOKUP, BPF_SK_LOOKUP), link;

	(void)state;
	link = bpf_link_create(program, own_netns, BPF_SK_LOOKUP, NULL);
	assert_true(link >= 0);
	assert_foreign(guard, HOOK_SK_LOOKUP, 1);
	close(link);
	assert_foreign(guard, HOOK_SK_LOOKUP, 0);
	close(program);
	guard_close(guard);
}

/* As bpftool attaches: our program on the cgroup, without a link. */
static void attach_without_link(enum guard_hook hook)
{
	cleanup_close int cgroup_fd = open_directory(guarded);
	cleanup_close int link = open_pin("links", hook_types[hook].pin);
	struct bpf_link_info info = {};
	__u32 length = sizeof(info);
	char path[300];

	assert_int_equal(bpf_obj_get_info_by_fd(link, &info, &length), 0);
	cleanup_close int program = bpf_prog_get_fd_by_id(info.prog_id);

	assert_true(program >= 0);
	assert_int_equal(bpf_link_detach(link), 0);
	pin_of(path, "links", hook_types[hook].pin);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(
		bpf_prog_attach(program, cgroup_fd, hook_types[hook].type, BPF_F_ALLOW_MULTI), 0);
}

static void attached_without_links(void **state)
{
	struct guard *guard = load_fresh();
	struct hook_state hooks[HOOK_COUNT];

	(void)state;
	for (int hook = 0; hook < HOOK_COUNT; hook++)
		if (hook != HOOK_SK_LOOKUP)
			attach_without_link(hook);
	assert_int_equal(guard_hooks(guard, hooks), 0);
	for (int hook = 0; hook < HOOK_COUNT; hook++) {
		assert_true(hooks[hook].attached);
		assert_true(hooks[hook].program_id > 0);
		assert_int_equal(hooks[hook].pinned, hook == HOOK_SK_LOOKUP);
		assert_int_equal(hooks[hook].foreign, 0);
	}
	/* Taken over: links now, and nothing twice. */
	guard_close(guard);
	guard = load_at(guarded, own_netns, true);
	assert_all_attached(guard, guarded, own_netns);
	/* Removed. */
	for (int hook = 0; hook < HOOK_COUNT; hook++)
		if (hook != HOOK_SK_LOOKUP)
			attach_without_link(hook);
	guard_close(guard);
	remove_guard();
	assert_gone();
}

/* Whoever has loaded the guard can move it, without loading anything. */
static void follows_at_once(void **state)
{
	struct guard *guard = load_fresh();
	__u32 before[HOOK_COUNT], after[HOOK_COUNT];
	struct peer_address key = key_of(PEER4);
	struct guard_error error;
	struct stat place;
	struct peer peer;

	(void)state;
	write_policy(guard, MODE_ENFORCE);
	add_peer(guard, PEER4);
	program_ids(guard, before);
	/* Where it is already, and then to another cgroup and namespace and back. */
	assert_int_equal(guard_follow(guard, guarded, own_netns, &error), 0);
	assert_all_attached(guard, guarded, own_netns);
	assert_int_equal(guard_follow(guard, elsewhere, other_netns, &error), 0);
	assert_all_attached(guard, elsewhere, other_netns);
	assert_programs(guarded, own_netns, 0);
	assert_int_equal(stat(elsewhere, &place), 0);
	assert_int_equal(get_layout().cgroup_id, place.st_ino);
	program_ids(guard, after);
	assert_memory_equal(before, after, sizeof(before));
	assert_int_equal(guard_peer_read(guard, &key, &peer), 0);

	/* The service's cgroup goes and comes back under its name, with the guard at it. */
	assert_int_equal(rmdir(elsewhere), 0);
	assert_int_equal(guard_follow(guard, elsewhere, other_netns, &error), -ENOENT);
	assert_non_null(strstr(error.text, elsewhere));
	child_cgroup("elsewhere", elsewhere);
	assert_int_equal(guard_follow(guard, elsewhere, own_netns, &error), 0);
	assert_all_attached(guard, elsewhere, own_netns);
	assert_int_equal(programs_at(other_netns, HOOK_SK_LOOKUP, NULL), 0);
	guard_close(guard);
	remove_guard();
	assert_gone();
	assert_programs(elsewhere, own_netns, 0);
}

/* What a move that died has left at the place where the guard was to go does not stay there. */
static void clears_a_move_that_died(void **state)
{
	struct guard *guard = load_fresh();
	cleanup_close int there = open_directory(elsewhere);
	char entry[32], path[300];

	(void)state;
	for (int hook = 0; hook < HOOK_COUNT; hook++) {
		cleanup_close int link = open_pin("links", hook_types[hook].pin);
		struct bpf_link_info info = {};
		__u32 length = sizeof(info);

		assert_int_equal(bpf_obj_get_info_by_fd(link, &info, &length), 0);
		cleanup_close int program = bpf_prog_get_fd_by_id(info.prog_id);
		cleanup_close int waiting =
			bpf_link_create(program, hook == HOOK_SK_LOOKUP ? other_netns : there,
					hook_types[hook].type, NULL);

		assert_true(waiting >= 0);
		snprintf(entry, sizeof(entry), "%s-new", hook_types[hook].pin);
		pin_of(path, "links", entry);
		assert_int_equal(bpf_obj_pin(waiting, path), 0);
	}
	assert_programs(elsewhere, other_netns, 1);
	guard_close(guard);
	guard = load_at(guarded, own_netns, true);
	assert_programs(elsewhere, other_netns, 0);
	assert_all_attached(guard, guarded, own_netns);
	snprintf(path, sizeof(path), "test $(ls " PIN_ROOT "/%s/links | wc -l) = %d", own_name(),
		 HOOK_COUNT);
	run(path);
	guard_close(guard);
}

/* A guard that bpftool attached, taken over to another cgroup, leaves nothing where it was. */
static void moves_what_has_no_links(void **state)
{
	struct guard *guard = load_fresh();

	(void)state;
	for (int hook = 0; hook < HOOK_COUNT; hook++)
		if (hook != HOOK_SK_LOOKUP)
			attach_without_link(hook);
	guard_close(guard);
	guard = load_at(elsewhere, other_netns, true);
	assert_all_attached(guard, elsewhere, other_netns);
	assert_programs(guarded, own_netns, 0);
	guard_close(guard);
}

/*
 * A program that has a hook for itself keeps ours out. That is said, and a guard that should move
 * there stays whole where it is.
 */
static void does_not_move_by_halves(void **state)
{
	struct guard_options options = options_for(elsewhere, other_netns);
	struct guard *guard = load_fresh();
	int above = open_directory(own_cgroup()), there = open_directory(elsewhere);
	int exclusive = foreign_program(BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_INGRESS);
	struct guard_error error;
	char path[300];

	(void)state;
	assert_int_equal(bpf_prog_attach(exclusive, there, BPF_CGROUP_INET_INGRESS, 0), 0);
	assert_int_equal(guard_follow(guard, elsewhere, other_netns, &error), -EPERM);
	assert_non_null(strstr(error.text, "ingress: another program has this hook for itself"));
	assert_all_attached(guard, guarded, own_netns);
	assert_load_fails(&options, -EPERM, "ingress: another program has this hook for itself");
	assert_all_attached(guard, guarded, own_netns);
	assert_int_equal(programs_at(there, HOOK_SOCK_OPS, NULL), 0);
	assert_int_equal(programs_at(other_netns, HOOK_SK_LOOKUP, NULL), 0);
	guard_close(guard);
	remove_guard();
	assert_load_fails(&options, -EPERM, "for itself");
	assert_int_equal(bpf_prog_detach2(exclusive, there, BPF_CGROUP_INET_INGRESS), 0);

	/* From above it does the same. */
	assert_int_equal(bpf_prog_attach(exclusive, above, BPF_CGROUP_INET_INGRESS, 0), 0);
	assert_load_fails(&options, -EPERM, "for itself");
	assert_int_equal(bpf_prog_detach2(exclusive, above, BPF_CGROUP_INET_INGRESS), 0);
	guard = load_at(guarded, own_netns, false);

	/* Nor when all could be attached and one cannot be pinned. */
	pin_of(path, "links", "connect4-new");
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(guard_follow(guard, elsewhere, other_netns, &error), -EEXIST);
	assert_non_null(strstr(error.text, path));
	assert_all_attached(guard, guarded, own_netns);
	assert_programs(elsewhere, other_netns, 0);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(guard_follow(guard, elsewhere, other_netns, &error), 0);
	assert_all_attached(guard, elsewhere, other_netns);
	assert_programs(guarded, own_netns, 0);
	guard_close(guard);
	close(exclusive);
	close(there);
	close(above);
}

/* A program of somebody else in our own link is not ours. */
static void replaced_in_the_link(void **state)
{
	struct guard *guard = load_fresh();
	struct hook_state hooks[HOOK_COUNT];
	cleanup_close int lookup = foreign_program(BPF_PROG_TYPE_SK_LOOKUP, BPF_SK_LOOKUP);
	cleanup_close int connect4 =
		foreign_program(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT);
	cleanup_close int connect4_link = open_pin("links", "connect4");
	cleanup_close int lookup_link = open_pin("links", "sk_lookup");

	(void)state;
	assert_int_equal(bpf_link_update(connect4_link, connect4, NULL), 0);
	assert_int_equal(bpf_link_update(lookup_link, lookup, NULL), 0);
	assert_int_equal(guard_hooks(guard, hooks), 0);
	for (int hook = 0; hook < HOOK_COUNT; hook++) {
		bool replaced = hook == HOOK_CONNECT4 || hook == HOOK_SK_LOOKUP;

		assert_int_equal(hooks[hook].attached, !replaced);
		assert_int_equal(hooks[hook].pinned, !replaced);
		assert_int_equal(hooks[hook].foreign, replaced && hook != HOOK_SK_LOOKUP);
	}
	guard_close(guard);
	guard = load_at(guarded, own_netns, true);
	assert_all_attached(guard, guarded, own_netns);
	guard_close(guard);
}

/* Not to be able to read what is pinned is no reason to clear it away. */
static void keeps_what_it_cannot_read(void **state)
{
	struct guard_options options = options_for(guarded, own_netns);
	struct guard *guard = load_fresh();
	struct rlimit before, none;

	(void)state;
	write_policy(guard, MODE_ENFORCE);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	{
		struct guard *unused = NULL;
		bool taken_over;
		struct guard_error error;
		int result = guard_load(&options, &unused, &taken_over, &error);

		assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
		assert_int_equal(result, -EMFILE);
		assert_non_null(strstr(error.text, "layout"));
	}
	assert_all_attached(guard, guarded, own_netns);
	guard_close(guard);
}

/* The guard is gone when it is removed, whoever else holds its links, maps or programs. */
static void removes_what_others_hold(void **state)
{
	struct guard *guard = load_fresh();
	struct hook_state hooks[HOOK_COUNT];
	int links[HOOK_COUNT], command = open_pin("programs", "command");
	struct guard_error error;

	(void)state;
	for (int hook = 0; hook < HOOK_COUNT; hook++)
		links[hook] = open_pin("links", hook_types[hook].pin);
	remove_guard();
	assert_gone();
	assert_int_equal(guard_remove(own_name(), &error), -ENOENT);
	assert_int_equal(guard_hooks(guard, hooks), -ENOENT);
	for (int hook = 0; hook < HOOK_COUNT; hook++)
		close(links[hook]);
	close(command);
	guard_close(guard);
}

/* ---- the maps ------------------------------------------------------------------------------- */

static void round_trips(void **state)
{
	static const enum guard_mode modes[] = { MODE_ENFORCE, MODE_OBSERVE, MODE_OFF };
	struct guard_policy policy = POLICY_DEFAULTS, policy_read;
	struct guard_daemon daemon = { .alive_until_ns = now_ns(), .process_id = 4711, .asks = 1 },
			    daemon_read;
	struct guard *guard = load_fresh();
	enum guard_mode mode;

	(void)state;
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		assert_int_equal(guard_mode_write(guard, modes[i]), 0);
		assert_int_equal(guard_mode_read(guard, &mode), 0);
		assert_int_equal(mode, modes[i]);
	}
	policy.max_links = 3;
	policy.refusal_errno = 113;
	policy.tie_break = TIE_BREAK_NONE;
	policy.dial_policy = DIAL_POLICY_CENTRAL;
	policy.netns_cookie = ~0ULL;
	policy.netns_inode = ~0U;
	policy.claim_max_ns = 1234567890123ULL;
	policy.keep_dials = 0;
	assert_int_equal(guard_policy_write(guard, &policy), 0);
	assert_int_equal(guard_policy_read(guard, &policy_read), 0);
	assert_memory_equal(&policy, &policy_read, sizeof(policy));
	assert_int_equal(guard_daemon_write(guard, &daemon), 0);
	assert_int_equal(guard_daemon_read(guard, &daemon_read), 0);
	assert_memory_equal(&daemon, &daemon_read, sizeof(daemon));
	guard_close(guard);
}

static void assert_ports(const struct guard *guard, const __u16 *expected, size_t expected_count)
{
	__u16 ports[64];
	size_t count = 77;

	assert_int_equal(guard_ports_read(guard, ports, 64, &count), 0);
	assert_int_equal(count, expected_count);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(ports[i], expected[i]);
}

static void ports(void **state)
{
	static const __u16 unsorted[] = { 65535, 1, 24000, 24000 }, sorted[] = { 1, 24000, 65535 };
	static const __u16 others[] = { 24000, 24001 };
	struct guard *guard = load_fresh();
	__u16 many[65], two[2];
	size_t count = 77;

	(void)state;
	assert_ports(guard, NULL, 0);
	assert_int_equal(guard_ports_write(guard, unsorted, 4, false), 0);
	assert_ports(guard, sorted, 3);
	assert_int_equal(guard_ports_read(guard, two, 2, &count), -ENOSPC);
	assert_int_equal(count, 77);
	assert_int_equal(guard_ports_write(guard, others, 2, false), 0);
	assert_ports(guard, others, 2);
	for (__u16 i = 0; i < 65; i++)
		many[i] = 1000 + i;
	assert_int_equal(guard_ports_write(guard, NULL, 0, false), 0);
	assert_ports(guard, NULL, 0);
	assert_int_equal(guard_ports_write(guard, many, 64, false), 0);
	assert_ports(guard, many, 64);
	assert_int_equal(guard_ports_write(guard, many, 65, false), -ENOSPC);
	assert_ports(guard, many, 64);
	guard_close(guard);
}

static void assert_services(const struct guard *guard, const __u16 *expected,
			    size_t expected_count)
{
	__u16 services[64];
	size_t count = 77;

	assert_int_equal(guard_services_read(guard, services, 64, &count), 0);
	assert_int_equal(count, expected_count);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(services[i], expected[i]);
}

/* Each port is a service of its own, or all are one, and what was is replaced. */
static void services(void **state)
{
	static const __u16 unsorted[] = { 65535, 1, 24000, 24000 }, sorted[] = { 1, 24000, 65535 };
	static const __u16 others[] = { 24001, 24000 }, others_sorted[] = { 24000, 24001 };
	static const __u16 shared[] = { 0 };
	struct guard *guard = load_fresh();
	__u16 two[2], many[64];
	size_t count = 77;

	(void)state;
	assert_services(guard, NULL, 0);
	assert_int_equal(guard_ports_write(guard, unsorted, 4, false), 0);
	assert_services(guard, sorted, 3);
	assert_int_equal(guard_services_read(guard, two, 2, &count), -ENOSPC);
	assert_int_equal(guard_ports_write(guard, others, 2, true), 0);
	assert_ports(guard, others_sorted, 2);
	assert_services(guard, shared, 1);
	assert_int_equal(guard_services_read(guard, two, 1, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(guard_ports_write(guard, others, 2, false), 0);
	assert_services(guard, others_sorted, 2);
	for (__u16 i = 0; i < 64; i++)
		many[i] = 1000 + i;
	assert_int_equal(guard_ports_write(guard, NULL, 0, true), 0);
	assert_services(guard, NULL, 0);
	assert_int_equal(guard_ports_write(guard, many, 64, false), 0);
	assert_services(guard, many, 64);
	assert_int_equal(guard_ports_write(guard, many, 64, true), 0);
	assert_services(guard, shared, 1);
	guard_close(guard);
}

/* What has failed before the service, the network or the host was back is read as over. */
/* All peers, piece by piece, in an array of the caller's. */
static size_t walk_peers(const struct guard *guard, struct peer **ret_list)
{
	struct peer_walk walk;
	const struct peer *piece;
	struct peer *list = NULL;
	size_t count = 0, piece_count;

	assert_int_equal(guard_peers_walk(guard, &walk), 0);
	for (;;) {
		assert_int_equal(guard_peers_next(&walk, &piece, &piece_count), 0);
		if (!piece_count)
			break;
		list = reallocarray(list, count + piece_count, sizeof(*list));
		assert_non_null(list);
		memcpy(list + count, piece, piece_count * sizeof(*list));
		count += piece_count;
	}
	/* At the end it stays there. */
	assert_int_equal(guard_peers_next(&walk, &piece, &piece_count), 0);
	assert_int_equal(piece_count, 0);
	guard_peers_leave(&walk);
	*ret_list = list;
	return count;
}

static void reads_as_revived(void **state)
{
	struct guard *guard = load_fresh();
	struct guard_maps maps = pinned_maps(own_name());
	struct peer failed = { .attempts = 3, .next_attempt_ns = now_ns() + HOUR_NS };
	struct peer_address key = key_of(PEER4);
	struct peer *list = NULL, peer;
	size_t count;

	(void)state;
	put_peer(&maps, PEER4, &failed);
	assert_int_equal(guard_peer_read(guard, &key, &peer), 0);
	assert_int_equal(peer.next_attempt_ns, failed.next_attempt_ns);
	set_revived(&maps, now_ns());
	assert_int_equal(guard_peer_read(guard, &key, &peer), 0);
	assert_int_equal(peer.next_attempt_ns, 0);
	assert_int_equal(peer.attempts, 3);
	count = walk_peers(guard, &list);
	assert_int_equal(count, 1);
	assert_int_equal(list[0].next_attempt_ns, 0);
	free(list);
	/* Only read: what is there is for the hooks to change. */
	assert_int_equal(get_peer(&maps, PEER4).next_attempt_ns, failed.next_attempt_ns);
	pinned_close(&maps);
	guard_close(guard);
}

static void exempt(void **state)
{
	struct exempt_prefix prefixes[3] = { { .prefix_length = 0 },
					     { .prefix_length = 96 + 24 },
					     { .prefix_length = 128 } };
	const struct exempt_value values[3] = { { .until_ns = 1 },
						{ .until_ns = NEVER_ENDS_NS, .configured = 1 },
						{ .until_ns = NEVER_ENDS_NS } };
	struct exempt_prefix *prefixes_read = NULL;
	struct exempt_value *values_read = NULL;
	struct guard *guard = load_fresh();
	struct peer_address key = key_of("10.97.1.0");
	size_t count = 77;

	(void)state;
	memcpy(prefixes[1].address, key.bytes, sizeof(key.bytes));
	key = key_of(PEER6);
	memcpy(prefixes[2].address, key.bytes, sizeof(key.bytes));
	assert_int_equal(guard_exempt_read(guard, &prefixes_read, &values_read, &count), 0);
	assert_int_equal(count, 0);
	free(prefixes_read);
	free(values_read);
	for (int i = 0; i < 3; i++)
		assert_int_equal(guard_exempt_write(guard, &prefixes[i], &values[i]), 0);
	assert_int_equal(guard_exempt_read(guard, &prefixes_read, &values_read, &count), 0);
	assert_int_equal(count, 3);
	for (int i = 0; i < 3; i++) {
		int found = -1;

		for (size_t j = 0; j < count; j++)
			if (!memcmp(&prefixes_read[j], &prefixes[i], sizeof(prefixes[i])))
				found = j;
		assert_true(found >= 0);
		assert_memory_equal(&values_read[found], &values[i], sizeof(values[i]));
	}
	free(prefixes_read);
	free(values_read);
	assert_int_equal(guard_exempt_delete(guard, &prefixes[1]), 0);
	assert_int_equal(guard_exempt_delete(guard, &prefixes[1]), -ENOENT);
	prefixes[1].prefix_length = 129;
	assert_int_equal(guard_exempt_write(guard, &prefixes[1], &values[1]), -EINVAL);
	assert_int_equal(guard_exempt_read(guard, &prefixes_read, &values_read, &count), 0);
	assert_int_equal(count, 2);
	free(prefixes_read);
	free(values_read);
	guard_close(guard);
}

/* ---- exemptions, and scarce memory ---- */

/* A prefix of the exempt map with its value. */
struct exempt_entry {
	struct exempt_prefix prefix;
	struct exempt_value value;
};

static int compare_exempt(const void *left, const void *right)
{
	return memcmp(left, right, sizeof(struct exempt_prefix));
}

/* What the map has, in order. *ret_entries is the caller's to free. */
static size_t read_exempt(const struct guard *guard, struct exempt_entry **ret_entries)
{
	cleanup_free struct exempt_prefix *prefixes = NULL;
	cleanup_free struct exempt_value *values = NULL;
	struct exempt_entry *entries;
	size_t count;

	assert_int_equal(guard_exempt_read(guard, &prefixes, &values, &count), 0);
	entries = calloc(count + 1, sizeof(*entries));
	assert_non_null(entries);
	for (size_t i = 0; i < count; i++) {
		entries[i].prefix = prefixes[i];
		entries[i].value = values[i];
	}
	qsort(entries, count, sizeof(*entries), compare_exempt);
	*ret_entries = entries;
	return count;
}

static struct exempt_prefix exempt_of(const char *address)
{
	const struct peer_address key = key_of(address);
	struct exempt_prefix prefix = { .prefix_length = 128 };

	memcpy(prefix.address, key.bytes, sizeof(prefix.address));
	return prefix;
}

static bool is_exempt(const struct guard *guard, const char *address)
{
	const struct peer_address key = key_of(address);

	return guard_exempts(guard, &key, now_ns());
}

/* A thread that makes the exempt map what is configured; what it writes to maps is let through by another one. */
struct writer {
	const struct guard *guard;
	const struct config *config;
	atomic_int listener; /* seccomp_unotify(2); 0: not yet; negative: an errno */
	atomic_bool ended;
	int result;
};

static void *write_exempt(void *argument)
{
	/* On a machine of the other byte order the number of the command is in the other half. */
	const __u32 command = offsetof(struct seccomp_data, args) + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0);
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bpf, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, command),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, BPF_MAP_UPDATE_ELEM, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { .len = sizeof(filter) / sizeof(filter[0]), .filter = filter };
	struct writer *writer = argument;
	long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);

	atomic_store(&writer->listener, listener < 0 ? -errno : (int)listener);
	if (listener >= 0)
		writer->result = furnish_exempt(writer->guard, writer->config);
	atomic_store(&writer->ended, true);
	return NULL;
}

/* furnish_exempt(), of whose writes the one of this number (the first: 0) finds no memory. *ret_writes: all it tried. */
static int furnish_short_of_memory(const struct guard *guard, const struct config *config, unsigned int failing,
				   unsigned int *ret_writes)
{
	struct writer writer = { .guard = guard, .config = config };
	pthread_t thread;
	int listener;

	*ret_writes = 0;
	assert_int_equal(pthread_create(&thread, NULL, write_exempt, &writer), 0);
	while (!(listener = atomic_load(&writer.listener)))
		usleep(100);
	while (listener > 0 && !atomic_load(&writer.ended)) {
		struct pollfd readable = { .fd = listener, .events = POLLIN };
		struct seccomp_notif_resp answer = {};
		struct seccomp_notif call = {};

		if (poll(&readable, 1, 1) <= 0 || !(readable.revents & POLLIN) ||
		    ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call))
			continue;
		answer.id = call.id;
		if ((*ret_writes)++ == failing)
			answer.error = -ENOMEM;
		else
			answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		assert_int_equal(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer), 0);
	}
	pthread_join(thread, NULL);
	if (listener < 0)
		skip();
	close(listener);
	return writer.result;
}

/* All that is configured, or nothing is changed, whichever write fails; also where there is no room before one has gone. */
static void exempts_all_or_nothing(void **state)
{
	struct config old = { .exempt = { .count = 2, .prefix = { exempt_of("10.97.3.1"), exempt_of("10.97.3.2") } } };
	struct config fresh = { .exempt = { .count = 3,
					    .prefix = { exempt_of("10.97.3.2"), exempt_of("10.97.3.3"),
							exempt_of("10.97.3.4") } } };
	const struct exempt_value by_command = { .until_ns = now_ns() + HOUR_NS };
	const struct exempt_prefix overruled = exempt_of("10.97.3.4");
	struct guard *guard = load_fresh();
	const unsigned int none = 77;

	(void)state;
	for (__u32 full = 0; full < 2; full++) {
		struct exempt_entry *before, *after;
		unsigned int writes;
		size_t count;

		assert_int_equal(furnish_exempt(guard, &old), 0);
		assert_int_equal(guard_exempt_write(guard, &overruled, &by_command), 0);
		for (__u32 i = 3; full && i < guard_exempt_max(guard); i++) {
			struct exempt_prefix filler = exempt_of("10.98.0.0");

			filler.address[14] = (__u8)(i >> 8);
			filler.address[15] = (__u8)i;
			assert_int_equal(guard_exempt_write(guard, &filler, &by_command), 0);
		}
		count = read_exempt(guard, &before);
		assert_int_equal(count, full ? guard_exempt_max(guard) : 3);
		for (unsigned int failing = 0; failing < 2; failing++) {
			assert_int_equal(furnish_short_of_memory(guard, &fresh, failing, &writes), -ENOMEM);
			assert_true(writes > failing);
			assert_int_equal(read_exempt(guard, &after), count);
			assert_memory_equal(before, after, count * sizeof(*before));
			free(after);
		}
		assert_int_equal(furnish_short_of_memory(guard, &fresh, none, &writes), 0);
		assert_int_equal(writes, 2);
		assert_int_equal(read_exempt(guard, &after), count);
		assert_false(is_exempt(guard, "10.97.3.1"));
		assert_true(is_exempt(guard, "10.97.3.2") && is_exempt(guard, "10.97.3.3") &&
			    is_exempt(guard, "10.97.3.4"));
		/* What is as it should be is not written again. */
		assert_int_equal(furnish_short_of_memory(guard, &fresh, none, &writes), 0);
		assert_int_equal(writes, 0);
		free(before);
		free(after);
	}
	guard_close(guard);
}

/* `number` addresses of 128 bits after 2001:db8::, and what a hundred bits of them have in common. */
static struct prefix_set own_set(__u32 number)
{
	struct prefix_set set = {};
	struct exempt_prefix prefix = { .prefix_length = 128, .address = { 0x20, 0x01, 0x0d, 0xb8 } };

	for (__u32 i = 0; i < number; i++) {
		const __u32 order = htonl(i);

		memcpy(&prefix.address[12], &order, sizeof(order));
		assert_int_equal(prefixes_add(&set, &prefix), 0);
	}
	prefix.prefix_length = 100;
	assert_int_equal(prefixes_add(&set, &prefix), 0);
	prefixes_sort(&set);
	return set;
}

static void assert_own(const struct guard *guard, const char *address, const char *prefix)
{
	const struct peer_address key = key_of(address);
	struct exempt_prefix found;
	char text[PREFIX_TEXT_MAX];

	assert_int_equal(guard_owns(guard, &key, &found), prefix != NULL);
	if (prefix)
		assert_string_equal(prefix_to_text(&found, text), prefix);
}

static void own(void **state)
{
	cleanup_prefixes struct prefix_set few = own_set(3), fewer = own_set(1), gone = {};
	struct guard *guard = load_fresh();
	size_t count = 77;

	(void)state;
	assert_int_equal(guard_own_count(guard, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(furnish_own(guard, NULL, &few, &gone), 0);
	assert_int_equal(gone.count, 0);
	assert_own(guard, "2001:db8::2", "2001:db8::2/128");
	assert_own(guard, "2001:db8::3", "2001:db8::/100");
	assert_own(guard, "2001:db8:1::", NULL);
	/* By what is said to be there, or by what is. */
	assert_int_equal(furnish_own(guard, &few, &fewer, &gone), 0);
	assert_int_equal(gone.count, 2);
	assert_own(guard, "2001:db8::2", "2001:db8::/100");
	assert_int_equal(furnish_own(guard, NULL, &few, NULL), 0);
	assert_int_equal(furnish_own(guard, NULL, &fewer, &gone), 0);
	assert_int_equal(gone.count, 2);
	assert_int_equal(guard_own_count(guard, &count), 0);
	assert_int_equal(count, 2);
	guard_close(guard);
}

/* More than the map has room for: the wider ones are in it, and when others go the rest comes in. */
static void own_in_a_full_map(void **state)
{
	struct guard *guard = load_fresh();
	__u32 max = guard_own_max(guard);
	cleanup_prefixes struct prefix_set many = own_set(max), all_but_one = own_set(max - 1);
	size_t count = 0;

	(void)state;
	assert_int_equal(max, 1 << 20);
	assert_int_equal(furnish_own(guard, NULL, &many, NULL), -ENOSPC);
	assert_int_equal(guard_own_count(guard, &count), 0);
	assert_int_equal(count, max);
	assert_own(guard, "2001:db8::", "2001:db8::/128");
	assert_own(guard, "2001:db8::f:ffff", "2001:db8::/100");
	assert_int_equal(furnish_own(guard, NULL, &all_but_one, NULL), 0);
	assert_int_equal(guard_own_count(guard, &count), 0);
	assert_int_equal(count, max);
	guard_close(guard);
}

static void peers(void **state)
{
	struct guard *guard = load_fresh();
	struct peer_address key = key_of(PEER6);
	struct peer *list = NULL, peer;
	bool seen[PEERS_MAX] = {};
	char address[64];
	size_t count = 77;

	(void)state;
	write_policy(guard, MODE_ENFORCE);
	count = walk_peers(guard, &list);
	assert_int_equal(count, 0);
	free(list);
	peer.attempts = 77;
	assert_int_equal(guard_peer_read(guard, &key, &peer), -ENOENT);
	assert_int_equal(peer.attempts, 77);
	for (int i = 0; i < PEERS_MAX; i++) {
		snprintf(address, sizeof(address), "10.97.2.%d", i);
		add_peer(guard, address);
	}
	count = walk_peers(guard, &list);
	assert_int_equal(count, PEERS_MAX);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(list[i].flags, PEER_KNOWN);
		assert_int_equal(list[i].address.bytes[14], 2);
		assert_false(seen[list[i].address.bytes[15]]);
		seen[list[i].address.bytes[15]] = true;
	}
	free(list);
	guard_close(guard);
}

/* More than one piece of the walk, of a map that becomes full; each peer once. */
static void many_peers(void **state)
{
	struct guard_options options = options_for(guarded, own_netns);
	static bool seen[MANY_PEERS];
	struct peer added = { .flags = PEER_KNOWN, .limit = 3, .first_seen_ns = 77 }, *list;
	struct guard_error error;
	struct guard *guard;
	bool taken_over;
	size_t count;

	(void)state;
	options.max_peers = MANY_PEERS;
	assert_int_equal(guard_load(&options, &guard, &taken_over, &error), 0);
	memset(seen, 0, sizeof(seen));
	added.address = key_of("10.97.0.0");
	for (int i = 0; i < MANY_PEERS; i++) {
		added.address.bytes[14] = (__u8)(i >> 8);
		added.address.bytes[15] = (__u8)i;
		assert_int_equal(guard_peer_add(guard, &added), 0);
	}
	/* What is there stays as it is. */
	added.limit = 2;
	assert_int_equal(guard_peer_add(guard, &added), -EEXIST);
	added.address.bytes[13]++;
	assert_int_equal(guard_peer_add(guard, &added), -ENOSPC);
	count = walk_peers(guard, &list);
	assert_int_equal(count, MANY_PEERS);
	for (size_t i = 0; i < count; i++) {
		int number = list[i].address.bytes[14] << 8 | list[i].address.bytes[15];

		assert_int_equal(list[i].flags, PEER_KNOWN);
		assert_int_equal(list[i].limit, 3);
		assert_int_equal(list[i].first_seen_ns, 77);
		assert_false(seen[number]);
		seen[number] = true;
	}
	free(list);
	guard_close(guard);
}

static void counters(void **state)
{
	struct guard *guard = load_fresh();
	const struct guard_command kick = { .operation = COMMAND_KICK, .address = key_of(PEER4) };
	struct guard_counters enforced, observed;
	const struct guard_counters none = {};
	cpu_set_t all, one;

	(void)state;
	write_policy(guard, MODE_ENFORCE);
	add_peer(guard, PEER4);
	assert_int_equal(guard_counters_read(guard, COUNTERS_ENFORCED, &enforced), 0);
	assert_memory_equal(&enforced, &none, sizeof(none));
	/* Each processor has its own book: the sum is read. */
	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	for (int processor = 0; processor < CPU_SETSIZE; processor++) {
		if (!CPU_ISSET(processor, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(processor, &one);
		assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
		assert_int_equal(guard_command(guard, &kick), 0);
	}
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
	assert_int_equal(guard_counters_read(guard, COUNTERS_ENFORCED, &enforced), 0);
	assert_int_equal(enforced.peer_kicked, CPU_COUNT(&all));
	enforced.peer_kicked = 0;
	assert_memory_equal(&enforced, &none, sizeof(none));
	assert_int_equal(guard_counters_read(guard, COUNTERS_OBSERVED, &observed), 0);
	assert_memory_equal(&observed, &none, sizeof(none));
	assert_int_equal(guard_counters_read(guard, COUNTERS_COUNT, &observed), -ENOENT);
	guard_close(guard);
}

/* ---- features and events -------------------------------------------------------------------- */

static void probes(void **state)
{
	/* Major and minor version of the kernel that brought it. */
	static const unsigned int since[FEATURE_COUNT] = {
		[FEATURE_REFUSAL_ERRNO] = 601,
		[FEATURE_SOCKET_ITERATOR] = 515,
		[FEATURE_SOCKET_OPTIONS] = 601,
		[FEATURE_ADOPT_CALLBACKS] = 612,
	};
	bool features[FEATURE_COUNT] = {};
	unsigned int major, minor, kernel;
	struct utsname name;

	(void)state;
	assert_int_equal(uname(&name), 0);
	assert_int_equal(sscanf(name.release, "%u.%u", &major, &minor), 2);
	kernel = major * 100 + minor;
	guard_probe(features);
	for (int feature = 0; feature < FEATURE_COUNT; feature++)
		if (features[feature] != (kernel >= since[feature]))
			fail_msg("%s: %soffered here", guard_feature_name(feature),
				 features[feature] ? "" : "not ");
}

struct told {
	unsigned int count;
	struct guard_event last;
};

static void remember(const struct guard_event *event, const struct held_packet *held, void *argument)
{
	struct told *told = argument;

	(void)held;
	told->count++;
	told->last = *event;
}

static void events(void **state)
{
	struct guard *guard = load_fresh();
	const struct guard_command kick = { .operation = COMMAND_KICK, .address = key_of(PEER4) };
	struct pollfd readable = { .events = POLLIN };
	struct told told = {};

	(void)state;
	write_policy(guard, MODE_ENFORCE);
	add_peer(guard, PEER4);
	assert_int_equal(guard_events_open(guard, remember, &told, &readable.fd), 0);
	assert_int_equal(poll(&readable, 1, 0), 0);
	assert_int_equal(guard_events_drain(guard), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(guard_command(guard, &kick), 0);
	assert_int_equal(poll(&readable, 1, PATIENCE_MS), 1);
	assert_int_equal(guard_events_drain(guard), 0);
	assert_int_equal(told.count, 3);
	assert_int_equal(told.last.cause, CAUSE_peer_kicked);
	assert_address(told.last.address, PEER4);
	assert_int_equal(guard_events_drain(guard), 0);
	assert_int_equal(poll(&readable, 1, 0), 0);
	/* Of many there are more, for the next time. */
	for (int i = 0; i < 65; i++)
		assert_int_equal(guard_command(guard, &kick), 0);
	assert_int_equal(guard_events_drain(guard), 1);
	assert_int_equal(told.count, 3 + 64);
	assert_int_equal(guard_events_drain(guard), 0);
	assert_int_equal(told.count, 3 + 65);
	/* What nobody read waits for the next reader: none is lost when the daemon is replaced. */
	assert_int_equal(guard_command(guard, &kick), 0);
	guard_close(guard);
	guard = load_at(guarded, own_netns, true);
	assert_int_equal(guard_events_open(guard, remember, &told, &readable.fd), 0);
	assert_int_equal(guard_events_drain(guard), 0);
	assert_int_equal(told.count, 3 + 65 + 1);
	guard_close(guard);
}

/* ---- sockets older than the guard ----------------------------------------------------------- */

/*
 * A link that was there before is followed to its end, by the iterator where the loader asks, by
 * command alone elsewhere.
 */
static void adopts(void **state)
{
	struct guard *guard;
	struct guard_error error;
	int listening, dialed, accepted;
	struct adoption adoptions[2] = {
		{ .address = key_of(THERE4), .direction = DIRECTION_OUTBOUND, .remote_port = PORT },
		{ .address = key_of(HERE4), .direction = DIRECTION_INBOUND, .local_port = PORT }
	};
	const struct peer_address ends[2] = { key_of(HERE4), key_of(THERE4) };
	struct guard_maps maps;
	struct watch *watch;
	__u64 cookies[2];

	bool features[FEATURE_COUNT] = {};

	(void)state;
	guard_probe(features);
	if (!features[FEATURE_SOCKET_ITERATOR]) {
		puts("this kernel has no iterator that follows older sockets");
		skip();
	}
	join_cgroup(guarded);
	listening = listener(THERE4, PORT);
	dialed = bound_socket(HERE4, 0);
	assert_int_equal(dial(dialed, THERE4, PORT), 0);
	accepted = accept(listening, NULL, NULL);
	assert_true(accepted >= 0);

	guard = load_fresh();
	maps = pinned_maps(own_name());
	write_policy(guard, MODE_ENFORCE);
	watch = watch_open(&maps);
	cookies[0] = cookie_of(dialed);
	cookies[1] = cookie_of(accepted);
	adoptions[0].local_port = adoptions[1].remote_port = port_of(dialed);
	adoptions[0].local = ends[0];
	adoptions[1].local = ends[1];
	assert_int_equal(guard_adopt(guard, cookies, adoptions, 2), 0);
	assert_counted(watch, ENFORCED(link_adopted, 2));
	discard_events(watch);
	assert_int_equal(get_peer(&maps, THERE4).slots[0].kind, SLOT_LINK);
	assert_int_equal(get_peer(&maps, THERE4).slots[0].cookie, cookies[0]);
	assert_int_equal(get_peer(&maps, THERE4).slots[0].flags, SLOT_ADOPTED);
	assert_int_equal(get_peer(&maps, HERE4).slots[0].cookie, cookies[1]);
	assert_memory_equal(get_peer(&maps, THERE4).slots[0].local_address, ends[0].bytes, 16);
	assert_memory_equal(get_peer(&maps, HERE4).slots[0].local_address, ends[1].bytes, 16);
	assert_int_equal(get_peer(&maps, HERE4).slots[0].direction, DIRECTION_INBOUND);
	assert_int_equal(try_dial(), refusal());
	assert_counted(watch, ENFORCED(dial_linked, 1));
	discard_events(watch);
	/* Neither twice, nor what is no such socket. */
	cookies[1] = ~0ULL;
	assert_int_equal(guard_adopt(guard, cookies, adoptions, 2), 0);
	assert_silent(watch);

	close(dialed);
	close(accepted);
	assert_counted(watch, ENFORCED(link_ended, 2));
	assert_int_equal(get_peer(&maps, THERE4).slots[0].kind, SLOT_FREE);
	assert_int_equal(get_peer(&maps, HERE4).slots[0].kind, SLOT_FREE);
	guard_close(guard);

	/* Who only opened the guard has no iterator: the slot is taken by command. */
	watch_reset(watch);
	assert_int_equal(guard_open(own_name(), &guard, &error), 0);
	assert_int_equal(guard_adopt(guard, cookies, adoptions, 1), 0);
	assert_counted(watch, ENFORCED(link_adopted, 1));
	assert_int_equal(get_peer(&maps, THERE4).slots[0].cookie, cookies[0]);
	guard_close(guard);
	close(listening);
	watch_close(watch);
	pinned_close(&maps);
}

/* ---- without the right ---------------------------------------------------------------------- */

static void takes_root(void **state)
{
	struct guard *guard = load_fresh();
	pid_t child;
	int status;

	(void)state;
	guard_close(guard);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		struct guard_error error;
		int result;

		if (setresgid(NOBODY_ID, NOBODY_ID, NOBODY_ID) ||
		    setresuid(NOBODY_ID, NOBODY_ID, NOBODY_ID))
			_exit(2);
		result = guard_open(own_name(), &guard, &error);
		_exit((result == -EPERM || result == -EACCES) && strstr(error.text, "root") ? 0 :
											      1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define TEST(name) cmocka_unit_test_teardown(name, after_each)

static int run_all(void)
{
	const struct CMUnitTest tests[] = {
		TEST(names),
		TEST(not_loaded),
		TEST(loads),
		TEST(guards_real_connections),
		TEST(takes_over),
		TEST(takes_over_without_a_gap),
		TEST(attaches_later),
		TEST(attaches_all_or_none),
		TEST(draws_a_handshake_key),
		TEST(other_layout),
		TEST(other_sizes),
		TEST(wrong_place),
		TEST(clears_a_load_that_died),
		TEST(clears_a_removal_that_died),
		TEST(follows_the_cgroup),
		TEST(follows_the_namespace),
		TEST(follows_at_once),
		TEST(cgroup_is_gone),
		TEST(detached_by_force),
		TEST(unpinned_by_hand),
		TEST(pins_again_what_is_lost),
		TEST(counts_foreign_programs),
		TEST(counts_foreign_lookups),
		TEST(attached_without_links),
		TEST(clears_a_move_that_died),
		TEST(moves_what_has_no_links),
		TEST(does_not_move_by_halves),
		TEST(replaced_in_the_link),
		TEST(keeps_what_it_cannot_read),
		TEST(removes_what_others_hold),
		TEST(round_trips),
		TEST(ports),
		TEST(services),
		TEST(reads_as_revived),
		TEST(exempt),
		TEST(exempts_all_or_nothing),
		TEST(own),
		TEST(own_in_a_full_map),
		TEST(peers),
		TEST(many_peers),
		TEST(counters),
		TEST(probes),
		TEST(events),
		TEST(adopts),
		TEST(takes_root),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}

int main(void)
{
	return run_surrounded("cgt-kernel-", run_all);
}
