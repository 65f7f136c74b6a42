// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a typical C program makes of a dial.
 *
 * usage: dialer blocking|poll ADDRESS PORT
 *
 * blocking: connect() and its errno. poll: a non-blocking connect(); only EINPROGRESS is waited
 * for, with poll(), and then SO_ERROR tells. Prints "connected" and exits 0, or the errno's text
 * and exits 1. It knows nothing of connguard.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS 5000

/* 0 or an errno. */
static int wait_connected(int fd)
{
	struct pollfd writable = { .fd = fd, .events = POLLOUT };
	socklen_t size = sizeof(int);
	int error;

	if (poll(&writable, 1, WAIT_MS) != 1)
		return ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size))
		return errno;
	return error;
}

int main(int argc, char **argv)
{
	struct sockaddr_in6 ipv6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in ipv4 = { .sin_family = AF_INET };
	struct sockaddr *address = (struct sockaddr *)&ipv4;
	socklen_t length = sizeof(ipv4);
	bool blocking;
	int fd, error;

	if (argc != 4) {
		fprintf(stderr, "usage: dialer blocking|poll ADDRESS PORT\n");
		return 2;
	}
	blocking = !strcmp(argv[1], "blocking");
	if (inet_pton(AF_INET, argv[2], &ipv4.sin_addr) == 1) {
		ipv4.sin_port = htons((uint16_t)atoi(argv[3]));
	} else if (inet_pton(AF_INET6, argv[2], &ipv6.sin6_addr) == 1) {
		ipv6.sin6_port = htons((uint16_t)atoi(argv[3]));
		address = (struct sockaddr *)&ipv6;
		length = sizeof(ipv6);
	} else {
		fprintf(stderr, "dialer: '%s' is no address\n", argv[2]);
		return 2;
	}
	fd = socket(address->sa_family, SOCK_STREAM | (blocking ? 0 : SOCK_NONBLOCK), 0);
	if (fd < 0) {
		perror("dialer: socket");
		return 2;
	}
	error = connect(fd, address, length) ? errno : 0;
	if (error == EINPROGRESS)
		error = wait_connected(fd);
	close(fd);
	printf("%s\n", error ? strerror(error) : "connected");
	return error != 0;
}
