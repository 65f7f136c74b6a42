// SPDX-License-Identifier: BSD-2-Clause
/*
 * Makes and keeps TCP connections, for shell scripts in guests where Python takes seconds to start.
 *
 * usage: talker listen ADDRESS PORT     print "listening", accept and keep whatever comes
 *        talker dial ADDRESS PORT       print "connected" and keep the connection; or print the
 *                                       errno's text and exit 1
 *
 * Both stay until they are killed or have lasted LIFE_SECONDS. IPv4 only. It knows nothing of connguard.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* Nobody is left behind by a script that died. */
#define LIFE_SECONDS 900
/* connect() gives up then, with EINPROGRESS (socket(7), SO_SNDTIMEO): nobody answered. */
#define DIAL_SECONDS 8

static int failed(void)
{
	puts(errno == EINPROGRESS ? "no answer" : strerror(errno));
	return 1;
}

static int listen_on(int fd, const struct sockaddr_in *address)
{
	const int one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) || listen(fd, 16))
		return failed();
	puts("listening");
	/* Kept open: the descriptors are this process's until it ends. */
	while (accept(fd, NULL, NULL) >= 0 || errno == ECONNABORTED || errno == EINTR)
		;
	return failed();
}

static int dial(int fd, const struct sockaddr_in *address)
{
	const struct timeval limit = { .tv_sec = DIAL_SECONDS };
	char byte;

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)))
		return failed();
	puts("connected");
	/* Until the other end closes. */
	return read(fd, &byte, 1) < 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	int fd;

	if (argc != 4 || inet_pton(AF_INET, argv[2], &address.sin_addr) != 1 ||
	    (strcmp(argv[1], "listen") && strcmp(argv[1], "dial"))) {
		fputs("usage: talker listen|dial ADDRESS PORT\n", stderr);
		return 2;
	}
	address.sin_port = htons((uint16_t)atoi(argv[3]));
	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(LIFE_SECONDS);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return failed();
	return strcmp(argv[1], "dial") ? listen_on(fd, &address) : dial(fd, &address);
}
