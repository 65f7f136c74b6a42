/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kill -9 at every step: what loads, takes over, moves or removes a guard is killed before each of
 * the system calls by which it changes anything, and what is left must enforce, and be put right by
 * whoever comes next.
 *
 * A tracer counts the calls and kills; so each instant is met, and met again when a test is repeated.
 * Guards of this test's own (prefix cgt-kills-) on cgroups and network namespaces of its own. Runs
 * as root.
 */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/ptrace.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/cleanup.h"
#include "edge/kernel.h"

#define HERE4	"10.96.0.1"
#define THERE4	"10.96.0.2"
/* A cookie that no socket has. */
#define NOBODYS (1ULL << 62)

/* Loading takes the verifier most of a second: of its steps this many are tried, evenly spread. */
#define LOADS_KILLED 6

static char guarded[256], elsewhere[256];
static int own_netns = -1, other_netns = -1;

static const enum bpf_attach_type hook_types[HOOK_COUNT] = {
	[HOOK_SOCK_OPS] = BPF_CGROUP_SOCK_OPS,
	[HOOK_SOCK_RELEASE] = BPF_CGROUP_INET_SOCK_RELEASE,
	[HOOK_INGRESS] = BPF_CGROUP_INET_INGRESS,
	[HOOK_EGRESS] = BPF_CGROUP_INET_EGRESS,
	[HOOK_SK_LOOKUP] = BPF_SK_LOOKUP,
	[HOOK_CONNECT4] = BPF_CGROUP_INET4_CONNECT,
	[HOOK_CONNECT6] = BPF_CGROUP_INET6_CONNECT,
};

/* ---- the tracer ------------------------------------------------------------------------------ */

/* 1 for a system call that changes pins, attachments or the layout word. */
static bool is_step(const struct ptrace_syscall_info *call)
{
	switch (call->entry.nr) {
	case SYS_bpf:
		switch (call->entry.args[0]) {
		case BPF_OBJ_PIN:
		case BPF_LINK_CREATE:
		case BPF_LINK_UPDATE:
		case BPF_LINK_DETACH:
		case BPF_PROG_DETACH:
		case BPF_MAP_UPDATE_ELEM:
			return true;
		default:
			return false;
		}
#ifdef SYS_unlink
	case SYS_unlink:
	case SYS_mkdir:
	case SYS_rmdir:
	case SYS_rename:
#endif
#ifdef SYS_renameat
	case SYS_renameat:
#endif
	case SYS_renameat2:
	case SYS_unlinkat:
	case SYS_mkdirat:
		return true;
	default:
		return false;
	}
}

/*
 * Run `act` in a child and kill that before its step `kill_at` (0: the first one). Returns how many
 * steps were reached; `kill_at` or fewer: it came to its end.
 */
static int run_until(void (*act)(void), int kill_at)
{
	pid_t child = fork();
	int status, steps = 0;

	assert_true(child >= 0);
	if (!child) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		act();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSTOPPED(status));
	assert_int_equal(ptrace(PTRACE_SETOPTIONS, child, NULL,
				PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL),
			 0);
	for (;;) {
		struct ptrace_syscall_info call;

		assert_int_equal(ptrace(PTRACE_SYSCALL, child, NULL, NULL), 0);
		assert_int_equal(waitpid(child, &status, 0), child);
		if (WIFEXITED(status)) {
			assert_int_equal(WEXITSTATUS(status), 0);
			return steps;
		}
		assert_true(WIFSTOPPED(status));
		if (WSTOPSIG(status) != (SIGTRAP | 0x80))
			continue;
		if (ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof(call), &call) <= 0)
			fail_msg("PTRACE_GET_SYSCALL_INFO: %s", strerror(errno));
		if (call.op != PTRACE_SYSCALL_INFO_ENTRY || !is_step(&call))
			continue;
		if (steps++ == kill_at) {
			kill(child, SIGKILL);
			assert_int_equal(waitpid(child, &status, 0), child);
			return steps;
		}
	}
}

/* ---- guards ---------------------------------------------------------------------------------- */

static struct guard_options options_for(const char *cgroup, int netns_fd)
{
	return (struct guard_options){
		.name = own_name(), .cgroup = cgroup, .netns_fd = netns_fd, .max_peers = 64
	};
}

static struct guard *load_at(const char *cgroup, int netns_fd)
{
	struct guard_options options = options_for(cgroup, netns_fd);
	struct guard_error error;
	struct guard *guard;
	bool taken_over;

	if (guard_load(&options, &guard, &taken_over, &error))
		fail_msg("guard_load: %s", error.text);
	return guard;
}

/* With a peer that is linked for good: every dial to it must be refused. */
static void enforce(const struct guard *guard)
{
	const struct guard_policy policy = POLICY_DEFAULTS;
	struct guard_maps maps = pinned_maps(own_name());
	const __u16 port = PORT;

	assert_int_equal(guard_policy_write(guard, &policy), 0);
	assert_int_equal(guard_ports_write(guard, &port, 1, false), 0);
	assert_int_equal(guard_mode_write(guard, MODE_ENFORCE), 0);
	put_slot(&maps, THERE4, some_link(NOBODYS));
	pinned_close(&maps);
}

/* Programs at a hook of a cgroup or a network namespace. */
static __u32 programs_at(const char *cgroup, int netns_fd, enum guard_hook hook)
{
	cleanup_close int cgroup_fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	__u32 ids[64], count = 64, flags;

	assert_true(cgroup_fd >= 0);
	assert_int_equal(bpf_prog_query(hook == HOOK_SK_LOOKUP ? netns_fd : cgroup_fd,
					hook_types[hook], 0, &flags, ids, &count),
			 0);
	return count;
}

/* 1 when every hook has so many programs. */
static bool all_have(const char *cgroup, int netns_fd, __u32 count)
{
	for (int hook = 0; hook < HOOK_COUNT; hook++)
		if (programs_at(cgroup, netns_fd, hook) != count)
			return false;
	return true;
}

/*
 * The same, in a while: the kernel lets go of a link that nobody holds any more, pinned or not, a little
 * later.
 */
static bool all_come_to_have(const char *cgroup, int netns_fd, __u32 count)
{
	__u64 patient_until = now_ns() + PATIENCE_MS * NS_PER_MS;

	while (!all_have(cgroup, netns_fd, count) && now_ns() < patient_until)
		usleep(1000);
	return all_have(cgroup, netns_fd, count);
}

static bool none_missing(const char *cgroup, int netns_fd)
{
	for (int hook = 0; hook < HOOK_COUNT; hook++)
		if (!programs_at(cgroup, netns_fd, hook))
			return false;
	return true;
}

/* So many pins are in the guard's directory of links. */
static void assert_links(int count)
{
	char command[300];

	snprintf(command, sizeof(command), "test $(ls " PIN_ROOT "/%s/links | wc -l) = %d",
		 own_name(), count);
	run(command);
}

/* A dial from this cgroup to the peer that is linked: refused? */
static bool refused_from(const char *cgroup)
{
	int result, fd;

	join_cgroup(cgroup);
	fd = bound_socket(HERE4, 0);
	result = dial(fd, THERE4, PORT);
	close(fd);
	join_cgroup(own_cgroup());
	return result != 0;
}

static void assert_pins_gone(void)
{
	char path[300];

	snprintf(path, sizeof(path), PIN_ROOT "/%s", own_name());
	assert_int_not_equal(access(path, F_OK), 0);
}

/* ---- surroundings ---------------------------------------------------------------------------- */

static int listening = -1;

static int set_up(void **state)
{
	(void)state;
	child_cgroup("guarded", guarded);
	child_cgroup("elsewhere", elsewhere);
	own_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	other_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(setns(own_netns, CLONE_NEWNET), 0);
	run("ip address add " HERE4 "/32 dev lo");
	run("ip address add " THERE4 "/32 dev lo");
	listening = listener(THERE4, PORT);
	set_service(PORT);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(listening);
	close(own_netns);
	close(other_netns);
	return 0;
}

static int after_each(void **state)
{
	struct guard_error ignored;

	(void)state;
	join_cgroup(own_cgroup());
	guard_remove(own_name(), &ignored);
	return 0;
}

/* ---- what is killed -------------------------------------------------------------------------- */

/* The guard that the child below moves: loaded once, by the parent. */
static struct guard *mover;

static void move_elsewhere(void)
{
	struct guard_error error;

	if (guard_follow(mover, elsewhere, other_netns, &error))
		_exit(1);
}

static void load_here(void)
{
	guard_close(load_at(guarded, own_netns));
}

static void remove_it(void)
{
	struct guard_error error;

	if (guard_remove(own_name(), &error))
		_exit(1);
}

/*
 * A guard that is killed while it moves is whole at the one place or at the other, and the next move,
 * to either place, leaves nothing at the other one.
 */
static void moving(void **state)
{
	struct guard_error error;
	int step = 0;

	(void)state;
	mover = load_at(guarded, own_netns);
	enforce(mover);
	for (bool ended = false; !ended; step++) {
		bool back = step % 2;

		ended = run_until(move_elsewhere, step) <= step;
		if (!none_missing(guarded, own_netns) && !none_missing(elsewhere, other_netns))
			fail_msg("killed before step %d it is whole nowhere", step);
		assert_true(refused_from(none_missing(guarded, own_netns) ? guarded : elsewhere));
		assert_int_equal(guard_follow(mover, back ? guarded : elsewhere,
					      back ? own_netns : other_netns, &error),
				 0);
		if (!all_come_to_have(back ? guarded : elsewhere, back ? own_netns : other_netns, 1) ||
		    !all_come_to_have(back ? elsewhere : guarded, back ? other_netns : own_netns, 0))
			fail_msg("after a death before step %d it is not in one place", step);
		assert_links(HOOK_COUNT);
		assert_true(refused_from(back ? guarded : elsewhere));
		/* For the next round, at home. */
		assert_int_equal(guard_follow(mover, guarded, own_netns, &error), 0);
		assert_true(all_come_to_have(guarded, own_netns, 1));
	}
	/* Each hook is linked, pinned and renamed, at the least. */
	assert_true(step > 3 * HOOK_COUNT);
	guard_close(mover);
}

/*
 * A removal that is killed leaves what the next removal, or the next load, clears: no program, no
 * pin.
 */
static void removing(void **state)
{
	struct guard_error error;
	int step = 0;

	(void)state;
	/* What removes it is undone with this one's descriptors, which saves loading it each time. */
	mover = load_at(guarded, own_netns);
	for (bool ended = false; !ended; step++) {
		const struct guard_layout whole = { .version = CONNGUARD_LAYOUT };
		struct guard_maps maps;

		maps = pinned_maps(own_name());
		ended = run_until(remove_it, step) <= step;
		if (!ended) {
			int result = guard_remove(own_name(), &error);

			/* All that was left may have been the directory of all guards. */
			assert_true(!result || result == -ENOENT);
		}
		assert_pins_gone();
		assert_true(all_come_to_have(guarded, own_netns, 0));
		/* As it was. */
		assert_int_equal(bpf_map_update_elem(maps.layout, &(__u32){ 0 }, &whole, BPF_ANY), 0);
		assert_true(guard_pin_again(mover, &error) > HOOK_COUNT);
		assert_int_equal(guard_follow(mover, guarded, own_netns, &error), 0);
		assert_true(all_come_to_have(guarded, own_netns, 1));
		pinned_close(&maps);
	}
	/* Each hook is detached and unpinned, each map is unpinned. */
	assert_true(step > 2 * HOOK_COUNT + 12);
	guard_close(mover);
}

/* Killed while it loads: the next one is whole, and alone. */
static void loading(void **state)
{
	int steps = run_until(load_here, 1 << 30);

	(void)state;
	assert_true(steps > 3 * HOOK_COUNT + 12);
	remove_it();
	for (int i = 0; i < LOADS_KILLED; i++) {
		struct guard *guard;

		assert_int_equal(run_until(load_here, steps * i / LOADS_KILLED),
				 steps * i / LOADS_KILLED + 1);
		guard = load_at(guarded, own_netns);
		assert_true(all_come_to_have(guarded, own_netns, 1));
		assert_links(HOOK_COUNT);
		guard_close(guard);
		remove_it();
	}
}

/* Killed while it takes over: what was there enforces, before and after the next take-over. */
static void taking_over(void **state)
{
	struct guard *guard = load_at(guarded, own_netns);
	int steps;

	(void)state;
	enforce(guard);
	guard_close(guard);
	steps = run_until(load_here, 1 << 30);
	assert_true(steps > 2 * LOADS_KILLED);
	for (int i = 0; i < LOADS_KILLED; i++) {
		/* Every second one of the last: hooks, command, leftovers, layout. */
		int kill_at = steps - 2 * LOADS_KILLED + 2 * i;

		assert_int_equal(run_until(load_here, kill_at), kill_at + 1);
		assert_true(all_come_to_have(guarded, own_netns, 1));
		assert_true(refused_from(guarded));
		/* Its commands work at any time: this is what a panic needs. */
		struct guard_error error;

		if (guard_open(own_name(), &guard, &error))
			fail_msg("killed before step %d it cannot be opened: %s", kill_at, error.text);
		guard_close(guard);
	}
	guard = load_at(guarded, own_netns);
	assert_true(all_come_to_have(guarded, own_netns, 1));
	assert_links(HOOK_COUNT);
	assert_true(refused_from(guarded));
	guard_close(guard);
}

#define TEST(name) cmocka_unit_test_teardown(name, after_each)

static int run_all(void)
{
	const struct CMUnitTest tests[] = {
		TEST(moving),
		TEST(removing),
		TEST(loading),
		TEST(taking_over),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}

int main(void)
{
	return run_surrounded("cgt-kills-", run_all);
}
