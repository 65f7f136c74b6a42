// SPDX-License-Identifier: BSD-2-Clause
/* What is given up is gone, and what is kept works. Each case in a process of its own: there is no way back. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <linux/bpf.h>
#include <linux/capability.h>
#include <seccomp.h>

#include "edge/confine.h"

static char inside[64], outside[64];

static void write_file(const char *directory, const char *name, const char *text)
{
	char path[128];
	FILE *stream;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	stream = fopen(path, "w");
	assert_non_null(stream);
	fputs(text, stream);
	fclose(stream);
}

static int make_directories(void **state)
{
	(void)state;
	strcpy(inside, "/tmp/cgt-confine-XXXXXX");
	strcpy(outside, "/tmp/cgt-confine-XXXXXX");
	assert_non_null(mkdtemp(inside));
	assert_non_null(mkdtemp(outside));
	write_file(inside, "file", "old");
	write_file(outside, "file", "secret");
	return 0;
}

static int remove_directories(void **state)
{
	char command[256];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s %s", inside, outside);
	return system(command);
}

/* 0 or the errno of opening the file. */
static int opening(const char *directory, const char *name, int flags)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, flags | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

#define must(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
			_exit(1); \
		} \
	} while (0)

/* Run `confined` in a child. Its exit status: 0, 1 for a failure, 77 where the kernel has no Landlock. */
static int in_child(void (*confined)(void))
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		confined();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void expect_fine(int status)
{
	if (status == 77) {
		puts("# this kernel has no Landlock, or it is switched off");
		skip();
	}
	assert_int_equal(status, 0);
}

static void confine_or_leave(const struct confine_rule *rules, size_t count)
{
	const char *refused = "untouched";
	int version = confine_files(rules, count, &refused);

	must(!refused);

	if (version == -ENOSYS || version == -EOPNOTSUPP)
		_exit(77);
	must(version >= 1);
}

static void reads_one_directory(void)
{
	const struct confine_rule rules[] = { { inside, CONFINE_READ }, { "/tmp/cgt-not-there", CONFINE_READ } };
	char path[128];
	struct stat status;
	int before = open(outside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	must(before >= 0);
	confine_or_leave(rules, 2);
	must(opening(inside, "file", O_RDONLY) == 0);
	must(opening(inside, ".", O_RDONLY | O_DIRECTORY) == 0);
	must(opening(outside, "file", O_RDONLY) == EACCES);
	must(opening(outside, ".", O_RDONLY | O_DIRECTORY) == EACCES);
	must(opening("/etc", "passwd", O_RDONLY) == EACCES);
	must(opening("/tmp", "cgt-not-there", O_RDONLY) == ENOENT);
	/* A descriptor that was open opens no doors. */
	must(openat(before, "file", O_RDONLY) < 0 && errno == EACCES);
	/* Looking up is not reading. */
	snprintf(path, sizeof(path), "%s/file", outside);
	must(stat(path, &status) == 0);
	/* Nothing is written, made or removed, not even here. */
	must(opening(inside, "file", O_WRONLY) == EACCES);
	must(opening(inside, "file", O_RDONLY | O_TRUNC) == EACCES);
	must(opening(inside, "new", O_WRONLY | O_CREAT) == EACCES);
	snprintf(path, sizeof(path), "%s/file", inside);
	must(unlink(path) < 0 && errno == EACCES);
}

/* As many as there are, the last as good as the first. */
static void reads_each_of_many(void)
{
	struct confine_rule rules[40];
	char paths[40][96];

	for (int i = 0; i < 40; i++) {
		snprintf(paths[i], sizeof(paths[i]), "%s/of-many-%d", inside, i);
		must(mkdir(paths[i], 0700) == 0);
		must(opening(paths[i], "file", O_WRONLY | O_CREAT) == 0);
		rules[i] = (struct confine_rule){ paths[i], CONFINE_READ };
	}
	confine_or_leave(rules, 39);
	for (int i = 0; i < 39; i++)
		must(opening(paths[i], "file", O_RDONLY) == 0);
	must(opening(paths[39], "file", O_RDONLY) == EACCES);
}

static void lists_and_reads_nothing(void)
{
	const struct confine_rule rule = { inside, CONFINE_LIST };

	confine_or_leave(&rule, 1);
	must(opening(inside, ".", O_RDONLY | O_DIRECTORY) == 0);
	must(opening(inside, "file", O_RDONLY) == EACCES);
}

/* A link to itself. What cannot be allowed is told, and nothing is limited. */
static void refuses_what_it_cannot_allow(void)
{
	char loop[128];
	const struct confine_rule rules[] = { { inside, CONFINE_READ }, { loop, CONFINE_READ } };
	const char *refused = NULL;
	int result;

	snprintf(loop, sizeof(loop), "%s/loop", inside);
	must(symlink("loop", loop) == 0);
	result = confine_files(rules, 2, &refused);
	if (result == -ENOSYS || result == -EOPNOTSUPP)
		_exit(77);
	must(result == -ELOOP && refused == loop);
	must(opening(outside, "file", O_RDONLY) == 0);
}

static void removes_and_makes(void)
{
	const struct confine_rule rules[] = {
		{ inside, CONFINE_MAKE | CONFINE_REMOVE },
		{ "/tmp", CONFINE_REMOVE_DIRECTORIES },
	};
	char path[128];

	confine_or_leave(rules, 2);
	snprintf(path, sizeof(path), "%s/directory", inside);
	must(mkdir(path, 0700) == 0);
	must(rmdir(path) == 0);
	snprintf(path, sizeof(path), "%s/file", inside);
	must(opening(inside, "file", O_RDONLY) == EACCES);
	must(unlink(path) == 0);
	must(mknod(path, S_IFREG | 0600, 0) == 0);
	must(unlink(path) == 0);
	must(symlink("/", path) < 0 && errno == EACCES);
	snprintf(path, sizeof(path), "%s/file", outside);
	must(unlink(path) < 0 && errno == EACCES);
	snprintf(path, sizeof(path), "%s/directory", outside);
	must(mkdir(path, 0700) < 0 && errno == EACCES);
}

/* As a file is replaced by a new one. */
static void writes_and_replaces(void)
{
	const struct confine_rule rules[] = {
		{ inside, CONFINE_READ | CONFINE_MAKE | CONFINE_WRITE | CONFINE_REMOVE },
	};
	char path[128], new_path[128];

	confine_or_leave(rules, 1);
	must(opening(inside, "file", O_WRONLY) == 0);
	must(opening(inside, "new", O_WRONLY | O_CREAT | O_EXCL) == 0);
	snprintf(path, sizeof(path), "%s/file", inside);
	snprintf(new_path, sizeof(new_path), "%s/new", inside);
	must(rename(new_path, path) == 0);
	must(opening(outside, "file", O_WRONLY) == EACCES);
	must(opening(outside, "new", O_WRONLY | O_CREAT) == EACCES);
	snprintf(new_path, sizeof(new_path), "%s/file", outside);
	must(rename(path, new_path) < 0 && (errno == EACCES || errno == EXDEV));
}

/* What `name` has in /proc/self/status, a hexadecimal number. */
static unsigned long long status_of(const char *name)
{
	FILE *stream = fopen("/proc/self/status", "re");
	unsigned long long value = ~0ULL;
	char line[256];

	must(stream);
	while (fgets(line, sizeof(line), stream))
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
			value = strtoull(line + strlen(name) + 1, NULL, 16);
	fclose(stream);
	return value;
}

static void keeps_capabilities(void)
{
	const unsigned int kept[] = { CAP_NET_ADMIN, CAP_DAC_READ_SEARCH };
	unsigned long long had = status_of("CapPrm");
	unsigned long long wanted = (1ULL << CAP_NET_ADMIN | 1ULL << CAP_DAC_READ_SEARCH) & had;
	unsigned long long bounding = status_of("CapBnd");
	bool may_bound = had & 1ULL << CAP_SETPCAP, bounded;
	char names[CONFINE_NAMES_MAX] = "untouched", expected[64] = "";

	if (wanted & 1ULL << CAP_NET_ADMIN)
		strcat(expected, "net_admin");
	if (wanted & 1ULL << CAP_DAC_READ_SEARCH)
		strcat(expected, *expected ? " dac_read_search" : "dac_read_search");
	must(confine_capabilities(kept, 2, names, &bounded) == 0);
	must(!strcmp(names, expected));
	must(status_of("CapPrm") == wanted && status_of("CapEff") == wanted);
	must(status_of("CapInh") == 0 && status_of("CapAmb") == 0);
	must(status_of("CapBnd") == (may_bound ? bounding & wanted : bounding));
	must(bounded == !(status_of("CapBnd") & ~wanted));
	must(status_of("NoNewPrivs") == 1);
	must(!confine_has_capability(CAP_SYS_ADMIN));
	must(confine_has_capability(CAP_NET_ADMIN) == !!(wanted & 1ULL << CAP_NET_ADMIN));
	/* What is given up does not come back. */
	must(confine_capabilities((const unsigned int[]){ CAP_SYS_ADMIN }, 1, names, &bounded) == 0);
	must(!*names && status_of("CapEff") == 0);
	/* Nor is the bounding set made smaller without CAP_SETPCAP, which is told. */
	must(bounded == !status_of("CapBnd"));
}

/* A call with arguments that no call takes, so that it does nothing; 0 or its errno. */
static int calling(long number)
{
	return syscall(number, -1L, -1L, -1L, -1L, -1L, -1L) < 0 ? errno : 0;
}

static const char *const refused[] = {
	"execve", "execveat", "uselib", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp",
	"perf_event_open", "userfaultfd", "fanotify_init", "syslog", "init_module", "finit_module", "delete_module",
	"kexec_load", "kexec_file_load", "mount", "umount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree",
	"open_tree_attr", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "unshare", "setns", "add_key",
	"request_key", "keyctl", "reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "sethostname",
	"setdomainname", "iopl", "ioperm", "io_uring_setup", "io_uring_enter", "io_uring_register",
};

static void *add_one(void *number)
{
	++*(int *)number;
	return NULL;
}

/* What a process without powers does. */
static void works(void)
{
	int number = 0, pipes[2], status;
	struct pollfd reading;
	pthread_t thread;
	pid_t child;
	char byte;
	void *page;

	must(pipe(pipes) == 0);
	must(write(pipes[1], "x", 1) == 1);
	reading = (struct pollfd){ .fd = pipes[0], .events = POLLIN };
	must(poll(&reading, 1, -1) == 1 && read(pipes[0], &byte, 1) == 1);
	must(opening("/proc/self", "status", O_RDONLY) == 0);
	must(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0);
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(page != MAP_FAILED && munmap(page, 4096) == 0);
	must(pthread_create(&thread, NULL, add_one, &number) == 0 && pthread_join(thread, NULL) == 0);
	must(number == 1);
	child = fork();
	if (!child)
		_exit(7);
	must(child > 0 && waitpid(child, &status, 0) == child);
	must(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void limit_calls(bool may_enter_network)
{
	must(confine_calls(may_enter_network) == 0);
	must(status_of("Seccomp") == 2 && status_of("NoNewPrivs") == 1);
}

/* 0 or the errno of entering the own namespace of this kind once more. */
static int entering(const char *kind, int type)
{
	char path[64];
	int fd, result;

	snprintf(path, sizeof(path), "/proc/self/ns/%s", kind);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	must(fd >= 0);
	result = setns(fd, type) ? errno : 0;
	close(fd);
	return result;
}

static void refuses_calls(void)
{
	char *const arguments[] = { "true", NULL };
	int before[sizeof(refused) / sizeof(refused[0])];

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		long number = seccomp_syscall_resolve_name(refused[i]);

		/* Negative: no call of this machine. */
		before[i] = number < 0 ? 0 : calling(number);
	}
	limit_calls(false);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (before[i] && calling(seccomp_syscall_resolve_name(refused[i])) != EPERM) {
			fprintf(stderr, "%s: %s, not refused\n", refused[i], strerror(errno));
			_exit(1);
		}
	must(execv("/bin/true", arguments) < 0 && errno == EPERM);
	must(calling(SYS_ptrace) == (CONFINE_TRACED_AT_END ? ESRCH : EPERM));
	must(entering("net", CLONE_NEWNET) == EPERM);
	works();
}

/* bpf(2) without attributes: it does nothing, and says so by some other errno. */
static int asking_bpf(unsigned long command)
{
	return syscall(SYS_bpf, command, NULL, 0) < 0 ? errno : 0;
}

static void refuses_to_load(void)
{
	const unsigned long loading[] = {
		BPF_PROG_LOAD, BPF_MAP_CREATE, BPF_BTF_LOAD, BPF_PROG_ATTACH, BPF_RAW_TRACEPOINT_OPEN, BPF_PROG_BIND_MAP,
		BPF_MAP_GET_FD_BY_ID, BPF_LINK_GET_FD_BY_ID, BPF_BTF_GET_FD_BY_ID, BPF_TASK_FD_QUERY, BPF_ENABLE_STATS,
		36 /* BPF_TOKEN_CREATE */,
	};
	const unsigned long working[] = {
		BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, BPF_MAP_DELETE_ELEM, BPF_MAP_GET_NEXT_KEY, BPF_MAP_LOOKUP_BATCH,
		BPF_OBJ_PIN, BPF_OBJ_GET, BPF_OBJ_GET_INFO_BY_FD, BPF_PROG_TEST_RUN, BPF_PROG_QUERY, BPF_PROG_DETACH,
		BPF_PROG_GET_FD_BY_ID, BPF_LINK_CREATE, BPF_LINK_UPDATE, BPF_LINK_DETACH, BPF_ITER_CREATE,
	};
	int before[sizeof(working) / sizeof(working[0])];

	for (size_t i = 0; i < sizeof(working) / sizeof(working[0]); i++)
		before[i] = asking_bpf(working[i]);
	limit_calls(false);
	for (size_t i = 0; i < sizeof(loading) / sizeof(loading[0]); i++) {
		must(asking_bpf(loading[i]) == EPERM);
		/* To the kernel the command is an int, of which a register has more than the bits. */
		must(asking_bpf(loading[i] | ~0UL << 31 << 1) == EPERM);
	}
	for (size_t i = 0; i < sizeof(working) / sizeof(working[0]); i++)
		must(asking_bpf(working[i]) == before[i]);
}

static void enters_networks_alone(void)
{
	int network = entering("net", CLONE_NEWNET);

	limit_calls(true);
	must(entering("net", CLONE_NEWNET) == network);
	must(entering("net", 0) == EPERM);
	must(entering("uts", CLONE_NEWUTS) == EPERM);
}

static void makes_no_namespaces(void)
{
	const unsigned long kinds[] = { CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID,
					CLONE_NEWUSER, CLONE_NEWUTS };

	limit_calls(true);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		must(unshare((int)kinds[i]) < 0 && errno == EPERM);
#ifndef __s390__
		must(syscall(SYS_clone, kinds[i] | SIGCHLD, 0, 0, 0, 0) < 0 && errno == EPERM);
#endif
	}
#ifdef SYS_clone3
	must(calling(SYS_clone3) == ENOSYS);
#endif
}

#ifdef __x86_64__
/* getpid() by the numbers of x32, and by those of 32 bit. */
static void knows_no_other_numbers(void)
{
	long result = 20;
	int status;
	pid_t child = fork();

	/* A kernel without 32 bit ends who tries. */
	if (!child) {
		__asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
		_exit(result == getpid() ? 0 : 1);
	}
	must(child > 0 && waitpid(child, &status, 0) == child);
	limit_calls(false);
	must(syscall(0x40000000 | SYS_getpid) < 0 && errno == EPERM);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return;
	result = 20;
	__asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
	must((int)result == -EPERM);
}

static void calls_of_another_architecture_are_refused(void **state)
{
	(void)state;
	assert_int_equal(in_child(knows_no_other_numbers), 0);
}
#endif

static void reading_is_limited_to_a_directory(void **state)
{
	(void)state;
	expect_fine(in_child(reads_one_directory));
}

static void every_rule_counts(void **state)
{
	(void)state;
	expect_fine(in_child(reads_each_of_many));
}

static void listing_is_not_reading(void **state)
{
	(void)state;
	expect_fine(in_child(lists_and_reads_nothing));
}

static void what_cannot_be_allowed_is_told(void **state)
{
	(void)state;
	expect_fine(in_child(refuses_what_it_cannot_allow));
}

/* A file that was not there when the rules were made, as an editor leaves it. */
static void read_replaced(void)
{
	const struct confine_rule rules[] = { { inside, CONFINE_READ } };

	confine_or_leave(rules, 1);
	must(raise(SIGSTOP) == 0);
	must(opening(inside, "file", O_RDONLY) == 0);
}

static void a_replaced_file_can_be_read(void **state)
{
	char from[128], to[128];
	int status;
	pid_t child = fork();

	(void)state;
	assert_true(child >= 0);
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		read_replaced();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, WUNTRACED), child);
	if (WIFSTOPPED(status)) {
		write_file(inside, "file.new", "new");
		snprintf(from, sizeof(from), "%s/file.new", inside);
		snprintf(to, sizeof(to), "%s/file", inside);
		assert_int_equal(rename(from, to), 0);
		assert_int_equal(kill(child, SIGCONT), 0);
		assert_int_equal(waitpid(child, &status, 0), child);
	}
	assert_true(WIFEXITED(status));
	expect_fine(WEXITSTATUS(status));
}

static void making_and_removing_are_apart(void **state)
{
	(void)state;
	expect_fine(in_child(removes_and_makes));
}

static void a_file_can_be_written_and_replaced(void **state)
{
	(void)state;
	expect_fine(in_child(writes_and_replaces));
}

static void capabilities_are_given_up(void **state)
{
	(void)state;
	assert_int_equal(in_child(keeps_capabilities), 0);
}

static void calls_are_refused_and_others_work(void **state)
{
	(void)state;
	assert_int_equal(in_child(refuses_calls), 0);
}

static void bpf_loads_nothing_and_does_the_rest(void **state)
{
	(void)state;
	assert_int_equal(in_child(refuses_to_load), 0);
}

static void a_network_namespace_alone_can_be_entered(void **state)
{
	(void)state;
	assert_int_equal(in_child(enters_networks_alone), 0);
}

static void no_namespace_can_be_made(void **state)
{
	(void)state;
	assert_int_equal(in_child(makes_no_namespaces), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(reading_is_limited_to_a_directory, make_directories,
						remove_directories),
		cmocka_unit_test_setup_teardown(a_replaced_file_can_be_read, make_directories,
						remove_directories),
		cmocka_unit_test_setup_teardown(a_file_can_be_written_and_replaced, make_directories,
						remove_directories),
		cmocka_unit_test_setup_teardown(making_and_removing_are_apart, make_directories,
						remove_directories),
		cmocka_unit_test_setup_teardown(every_rule_counts, make_directories, remove_directories),
		cmocka_unit_test_setup_teardown(listing_is_not_reading, make_directories,
						remove_directories),
		cmocka_unit_test_setup_teardown(what_cannot_be_allowed_is_told, make_directories,
						remove_directories),
		cmocka_unit_test(capabilities_are_given_up),
		cmocka_unit_test(calls_are_refused_and_others_work),
		cmocka_unit_test(bpf_loads_nothing_and_does_the_rest),
		cmocka_unit_test(a_network_namespace_alone_can_be_entered),
		cmocka_unit_test(no_namespace_can_be_made),
#ifdef __x86_64__
		cmocka_unit_test(calls_of_another_architecture_are_refused),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
