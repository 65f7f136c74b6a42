// SPDX-License-Identifier: BSD-2-Clause
/* What is given up is gone, and what is kept works. Each case in a process of its own: there is no way back. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <linux/capability.h>

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
	char names[CONFINE_NAMES_MAX] = "untouched", expected[64] = "";

	if (wanted & 1ULL << CAP_NET_ADMIN)
		strcat(expected, "net_admin");
	if (wanted & 1ULL << CAP_DAC_READ_SEARCH)
		strcat(expected, *expected ? " dac_read_search" : "dac_read_search");
	must(confine_capabilities(kept, 2, names) == 0);
	must(!strcmp(names, expected));
	must(status_of("CapPrm") == wanted && status_of("CapEff") == wanted);
	must(status_of("CapInh") == 0 && status_of("CapAmb") == 0);
	must(status_of("NoNewPrivs") == 1);
	must(!confine_has_capability(CAP_SYS_ADMIN));
	must(confine_has_capability(CAP_NET_ADMIN) == !!(wanted & 1ULL << CAP_NET_ADMIN));
	/* What is given up does not come back. */
	must(confine_capabilities((const unsigned int[]){ CAP_SYS_ADMIN }, 1, names) == 0);
	must(!*names && status_of("CapEff") == 0);
}

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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
