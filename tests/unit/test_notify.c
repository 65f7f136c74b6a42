/* SPDX-License-Identifier: BSD-2-Clause */
/* The service manager's protocol, heard on a real socket. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/notify.h"

/* A socket that plays the service manager; its name goes to NOTIFY_SOCKET. */
static int listen_as(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	memcpy(address.sun_path, name, strlen(name));
	if (*name == '@')
		address.sun_path[0] = '\0';
	else
		unlink(name);
	assert_int_equal(bind(fd, (const struct sockaddr *)&address,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
			 0);
	setenv("NOTIFY_SOCKET", name, 1);
	return fd;
}

static const char *hear(int fd)
{
	static char message[1024];
	ssize_t length = recv(fd, message, sizeof(message) - 1, MSG_DONTWAIT);

	assert_true(length >= 0);
	message[length] = '\0';
	return message;
}

static void nobody_to_tell(void **state)
{
	(void)state;
	unsetenv("NOTIFY_SOCKET");
	assert_int_equal(notify_ready(), 0);
	setenv("NOTIFY_SOCKET", "", 1);
	assert_int_equal(notify_ready(), 0);
	setenv("NOTIFY_SOCKET", "vsock:2:1234", 1);
	assert_int_equal(notify_ready(), -EPROTONOSUPPORT);
	setenv("NOTIFY_SOCKET", "/nonexistent/cgt-notify", 1);
	assert_int_equal(notify_ready(), -ENOENT);
}

static void every_word(const char *name)
{
	unsigned long long since_us;
	int fd = listen_as(name);
	char status[1024];

	assert_int_equal(notify_ready(), 1);
	assert_string_equal(hear(fd), "READY=1");
	assert_int_equal(notify_stopping(), 1);
	assert_string_equal(hear(fd), "STOPPING=1");
	assert_int_equal(notify_watchdog(), 1);
	assert_string_equal(hear(fd), "WATCHDOG=1");
	assert_int_equal(notify_reloading(), 1);
	assert_int_equal(sscanf(hear(fd), "RELOADING=1\nMONOTONIC_USEC=%llu", &since_us), 1);
	assert_true(since_us > 0);
	assert_int_equal(notify_status("%d peers\nREADY=0", 3), 1);
	assert_string_equal(hear(fd), "STATUS=3 peers?READY=0");
	/* A cgroup's name is its maker's choice: ESC, and C1 as UTF-8 and raw; letters beyond ASCII stay. */
	assert_int_equal(notify_status("waiting for cgroup /%s", "\x1b[2J\xc2\x9b" "1m\x9b\xc3\xa9"), 1);
	assert_string_equal(hear(fd), "STATUS=waiting for cgroup /?[2J??1m?\xc3\xa9");
	memset(status, 'x', sizeof(status) - 1);
	status[sizeof(status) - 1] = '\0';
	assert_int_equal(notify_status("%s", status), 1);
	assert_int_equal(strlen(hear(fd)), strlen("STATUS=") + 511);
	/* Cut within a letter. */
	memset(status, 'x', 510);
	strcpy(status + 510, "\xc3\xa9");
	assert_int_equal(notify_status("%s", status), 1);
	assert_string_equal(hear(fd) + strlen("STATUS=") + 509, "x?");
	close(fd);
}

static void path_socket(void **state)
{
	char directory[] = "/tmp/cgt-notify-XXXXXX", name[64];

	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(name, sizeof(name), "%s/socket", directory);
	every_word(name);
	unlink(name);
	rmdir(directory);
}

static void abstract_socket(void **state)
{
	char name[64];

	(void)state;
	snprintf(name, sizeof(name), "@cgt-notify-%d", getpid());
	every_word(name);
}

static void watchdog_interval(void **state)
{
	char pid[32];

	(void)state;
	unsetenv("WATCHDOG_PID");
	unsetenv("WATCHDOG_USEC");
	assert_true(notify_watchdog_interval_ns() == 0);
	setenv("WATCHDOG_USEC", "30000000", 1);
	assert_true(notify_watchdog_interval_ns() == 30000000000ULL);
	snprintf(pid, sizeof(pid), "%d", getpid());
	setenv("WATCHDOG_PID", pid, 1);
	assert_true(notify_watchdog_interval_ns() == 30000000000ULL);
	setenv("WATCHDOG_PID", "1", 1);
	assert_true(notify_watchdog_interval_ns() == 0);
	setenv("WATCHDOG_PID", pid, 1);
	setenv("WATCHDOG_USEC", "30s", 1);
	assert_true(notify_watchdog_interval_ns() == 0);
	setenv("WATCHDOG_USEC", "18446744073709551615", 1);
	assert_true(notify_watchdog_interval_ns() == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_to_tell),
		cmocka_unit_test(path_socket),
		cmocka_unit_test(abstract_socket),
		cmocka_unit_test(watchdog_interval),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
