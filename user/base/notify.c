/* SPDX-License-Identifier: BSD-2-Clause */
/* See notify.h. One datagram a message, as sd_notify(3) describes the protocol. */
#include "base/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/printable.h"

#define NS_PER_MICROSECOND 1000ULL

/* Bytes of "STATUS=" and its text, NUL included. */
#define STATUS_MAX (sizeof("STATUS=") + 511)

static int send_message(const char *message)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_close int fd = -1;
	size_t path_length;
	ssize_t sent;

	if (!path || !*path)
		return 0;
	if (*path != '/' && *path != '@')
		return -EPROTONOSUPPORT;
	path_length = strlen(path);
	if (path_length >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, path_length);
	/* An abstract name begins with a NUL and is as long as the address says (unix(7)). */
	if (*path == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	do
		sent = sendto(fd, message, strlen(message), MSG_NOSIGNAL,
			      (const struct sockaddr *)&address,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_length));
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 1;
}

int notify_ready(void)
{
	return send_message("READY=1");
}

int notify_reloading(void)
{
	struct timespec now;
	char message[64];

	/*
	 * systemd compares with its own reading of this clock, so it is not ours (CLOCK_BOOTTIME).
	 */
	clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(message, sizeof(message), "RELOADING=1\nMONOTONIC_USEC=%llu",
		 (__u64)now.tv_sec * 1000000 + (__u64)now.tv_nsec / NS_PER_MICROSECOND);
	return send_message(message);
}

int notify_stopping(void)
{
	return send_message("STOPPING=1");
}

int notify_watchdog(void)
{
	return send_message("WATCHDOG=1");
}

int notify_status(const char *format, ...)
{
	char message[STATUS_MAX] = "STATUS=";
	size_t prefix_length = strlen(message);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(message + prefix_length, sizeof(message) - prefix_length, format, arguments);
	va_end(arguments);
	/* A newline would begin another word of the protocol, and `systemctl status` shows the rest to a terminal. */
	text_make_printable(message + prefix_length);
	return send_message(message);
}

/* A positive decimal number from the environment, 0 when it is unset or malformed. */
static __u64 number_from_environment(const char *name)
{
	const char *text = getenv(name);
	unsigned long long number;
	char *end;

	if (!text || *text < '0' || *text > '9')
		return 0;
	errno = 0;
	number = strtoull(text, &end, 10);
	return errno || *end ? 0 : number;
}

__u64 notify_watchdog_interval_ns(void)
{
	__u64 interval_us = number_from_environment("WATCHDOG_USEC");
	__u64 interval_ns;

	if (getenv("WATCHDOG_PID") && number_from_environment("WATCHDOG_PID") != (__u64)getpid())
		return 0;
	if (__builtin_mul_overflow(interval_us, NS_PER_MICROSECOND, &interval_ns))
		return 0;
	return interval_ns;
}
