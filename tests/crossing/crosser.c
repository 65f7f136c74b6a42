// SPDX-License-Identifier: BSD-2-Clause
/*
 * One end of a run: an application that dials its peers when the plan says so and accepts whoever
 * comes, for thousands of pairs of addresses at once. It knows nothing of connguard.
 *
 * usage: crosser home|far PLAN PORT RECORD keep-all|keep-greater
 *
 * Prints "ready" when it listens, reads the moment of the beginning from standard input
 * (CLOCK_BOOTTIME, ns), and ends when the last round of the plan is over. It dials whether or not
 * it is connected already, and each end says hello on a connection that comes up: nothing is held
 * back by what an application may or may not check.
 *
 *   keep-all       never closes a connection before the round is over
 *   keep-greater   a service with a collision rule of its own: of two connections with one peer it
 *                  keeps the one that was dialed by the greater address (RFC 4271, section 6.8,
 *                  with addresses for identifiers), and closes the other one
 *
 * RECORD gets a line for each connection that was dialed or accepted, times as CLOCK_BOOTTIME in ns,
 * 0 for what did not happen:
 *
 *   NUMBER out|in CLIENT_PORT ASKED OPENED CLOSED BESIDE END
 *
 * NUMBER: the line of the pair in the plan, from 0. ASKED: connect() was called. OPENED: the
 * application learned that it is connected. BESIDE: how many other connections of the pair were
 * ESTABLISHED just then, by the kernel's word. END: "round-over" (it was still open, or under way,
 * then), "rule", "end-of-file", or a word and an errno: "at-once:" (connect() itself failed),
 * "failed:" (the dial did, later), "broken:" (the open connection did).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "plan.h"

#define BACKLOG 4096
#define EVENTS_AT_ONCE 64
#define END_LENGTH 32

/* One connection, as this application saw it. Lives until the end of the run. */
struct connection {
	struct connection *next; /* of the pair */
	struct pair *pair;
	int fd;                  /* -1: closed */
	bool outbound;
	uint16_t client_port;
	int64_t asked_ns, opened_ns, closed_ns; /* of plan_now_ns(); 0: not */
	unsigned beside;
	char end[END_LENGTH];
};

/* Something that the plan wants done. */
struct task {
	int64_t at_ns; /* since the beginning */
	struct pair *pair;
	bool over;     /* the round is over; else: dial */
};

struct application {
	enum side side;
	bool keeps_greater;
	uint16_t port;
	struct plan plan;
	struct connection **connections; /* of each pair, by its place in the plan */
	struct task *tasks;              /* by time */
	size_t task_count, task_next;
	int64_t begins_ns;
	int epoll, timer;
	struct connection listeners[2];  /* of IPv4 and IPv6; no connections, but they are polled like one */
};

static void die(const char *what)
{
	fprintf(stderr, "crosser: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- the connections of a pair --------------------------------------------------------------- */

static struct connection **connections_of(const struct application *self, const struct pair *pair)
{
	return &self->connections[pair - self->plan.pairs];
}

static struct connection *connection_add(struct application *self, struct pair *pair, int fd,
					 bool outbound)
{
	struct connection **first = connections_of(self, pair);
	struct connection *connection = calloc(1, sizeof(*connection));

	if (!connection)
		die("a connection");
	connection->next = *first;
	connection->pair = pair;
	connection->fd = fd;
	connection->outbound = outbound;
	*first = connection;
	return connection;
}

static void connection_close(struct connection *connection, const char *end, int error)
{
	if (error)
		snprintf(connection->end, sizeof(connection->end), "%s:%s", end,
			 strerrorname_np(error));
	else
		snprintf(connection->end, sizeof(connection->end), "%s", end);
	connection->closed_ns = plan_now_ns();
	close(connection->fd);
	connection->fd = -1;
}

static bool is_established(const struct connection *connection)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof(info);

	return connection->fd >= 0 && connection->opened_ns &&
	       !getsockopt(connection->fd, IPPROTO_TCP, TCP_INFO, &info, &length) &&
	       info.tcpi_state == TCP_ESTABLISHED;
}

/* The connection was dialed by the greater of the two addresses. */
static bool is_of_greater(const struct application *self, const struct connection *connection)
{
	enum side dialer = connection->outbound ? self->side : !self->side;
	const struct in6_addr *address = connection->pair->address;

	return memcmp(&address[dialer], &address[!dialer], sizeof(*address)) > 0;
}

/* Two connections, of which one was dialed here and one there: the rule says which is closed. */
static void resolve_collision(const struct application *self, const struct pair *pair)
{
	struct connection *connection, *greater = NULL;

	for (connection = *connections_of(self, pair); connection; connection = connection->next)
		if (connection->fd >= 0 && connection->opened_ns && is_of_greater(self, connection))
			greater = connection;
	if (!greater)
		return;
	for (connection = *connections_of(self, pair); connection; connection = connection->next)
		if (connection->fd >= 0 && connection->opened_ns &&
		    !is_of_greater(self, connection))
			connection_close(connection, "rule", 0);
}

static void connection_opened(struct application *self, struct connection *connection)
{
	struct connection *other;

	connection->opened_ns = plan_now_ns();
	for (other = *connections_of(self, connection->pair); other; other = other->next)
		connection->beside += other != connection && is_established(other);
	/* What a service would say first. That the other end is gone already shows when we read. */
	send(connection->fd, "h", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (self->keeps_greater)
		resolve_collision(self, connection->pair);
}

/* ---- dialing and accepting ------------------------------------------------------------------- */

static void watch(const struct application *self, int fd, uint32_t events, void *what)
{
	struct epoll_event event = { .events = events, .data.ptr = what };

	if (epoll_ctl(self->epoll, EPOLL_CTL_ADD, fd, &event) &&
	    (errno != EEXIST || epoll_ctl(self->epoll, EPOLL_CTL_MOD, fd, &event)))
		die("epoll_ctl");
}

static bool is_ipv4(const struct in6_addr *address)
{
	return IN6_IS_ADDR_V4MAPPED(address);
}

/* An address and a port as a socket wants them. Returns the length. */
static socklen_t socket_address(const struct in6_addr *address, uint16_t port,
				struct sockaddr_storage *ret_address)
{
	struct sockaddr_in6 ipv6 = { .sin6_family = AF_INET6, .sin6_port = htons(port),
				     .sin6_addr = *address };
	struct sockaddr_in ipv4 = { .sin_family = AF_INET, .sin_port = htons(port) };

	if (!is_ipv4(address)) {
		memcpy(ret_address, &ipv6, sizeof(ipv6));
		return sizeof(ipv6);
	}
	memcpy(&ipv4.sin_addr, &address->s6_addr[12], sizeof(ipv4.sin_addr));
	memcpy(ret_address, &ipv4, sizeof(ipv4));
	return sizeof(ipv4);
}

/* The reverse. Returns the port. */
static uint16_t address_of_socket(const struct sockaddr_storage *from, struct in6_addr *ret_address)
{
	struct sockaddr_in6 ipv6;
	struct sockaddr_in ipv4;

	if (from->ss_family == AF_INET6) {
		memcpy(&ipv6, from, sizeof(ipv6));
		*ret_address = ipv6.sin6_addr;
		return ntohs(ipv6.sin6_port);
	}
	memcpy(&ipv4, from, sizeof(ipv4));
	*ret_address = plan_mapped(ipv4.sin_addr);
	return ntohs(ipv4.sin_port);
}

static void dial(struct application *self, struct pair *pair)
{
	const struct in6_addr *here = &pair->address[self->side], *there = &pair->address[!self->side];
	struct sockaddr_storage address;
	struct connection *connection;
	struct in6_addr ignored;
	int one = 1, fd, error;
	socklen_t length;

	fd = socket(is_ipv4(here) ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	length = socket_address(here, 0, &address);
	/* The port is chosen with the whole 4-tuple in view. */
	if (fd < 0 ||
	    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&address, length))
		die("a socket to dial with");
	connection = connection_add(self, pair, fd, true);
	length = socket_address(there, self->port, &address);
	connection->asked_ns = plan_now_ns();
	error = connect(fd, (struct sockaddr *)&address, length) ? errno : 0;
	if (error && error != EINPROGRESS) {
		connection_close(connection, "at-once", error);
		return;
	}
	length = sizeof(address);
	if (getsockname(fd, (struct sockaddr *)&address, &length))
		die("getsockname");
	connection->client_port = address_of_socket(&address, &ignored);
	watch(self, fd, EPOLLOUT, connection);
}

static void accept_all(struct application *self, int listener)
{
	struct sockaddr_storage local, remote;
	struct connection *connection;
	struct in6_addr address[SIDES];
	socklen_t length;
	uint16_t port;
	struct pair *pair;
	int fd;

	for (;;) {
		length = sizeof(remote);
		fd = accept4(listener, (struct sockaddr *)&remote, &length,
			     SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0)
			die("accept");
		length = sizeof(local);
		if (getsockname(fd, (struct sockaddr *)&local, &length))
			die("getsockname");
		address_of_socket(&local, &address[self->side]);
		port = address_of_socket(&remote, &address[!self->side]);
		pair = plan_find(&self->plan, &address[SIDE_HOME], &address[SIDE_FAR]);
		if (!pair) {
			fprintf(stderr, "crosser: a connection of no pair is accepted\n");
			exit(1);
		}
		connection = connection_add(self, pair, fd, false);
		connection->client_port = port;
		watch(self, fd, EPOLLIN | EPOLLRDHUP, connection);
		connection_opened(self, connection);
	}
}

/* A dial has an outcome. */
static void on_writable(struct application *self, struct connection *connection)
{
	socklen_t length = sizeof(int);
	int error = 0;

	if (getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &length))
		die("SO_ERROR");
	if (error) {
		connection_close(connection, "failed", error);
		return;
	}
	watch(self, connection->fd, EPOLLIN | EPOLLRDHUP, connection);
	connection_opened(self, connection);
}

static void on_readable(struct connection *connection)
{
	char buffer[256];
	ssize_t length;

	do
		length = recv(connection->fd, buffer, sizeof(buffer), 0);
	while (length > 0);
	if (length == 0)
		connection_close(connection, "end-of-file", 0);
	else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
		connection_close(connection, "broken", errno);
}

/* ---- the plan -------------------------------------------------------------------------------- */

/* What is still open is closed by RST: no TIME_WAIT is left behind. */
static void round_over(struct application *self, const struct pair *pair)
{
	struct linger at_once = { .l_onoff = 1 };
	struct connection *connection;

	for (connection = *connections_of(self, pair); connection; connection = connection->next) {
		if (connection->fd < 0)
			continue;
		setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		connection_close(connection, "round-over", 0);
	}
}

static int compare_tasks(const void *left, const void *right)
{
	const struct task *a = left, *b = right;

	return a->at_ns < b->at_ns ? -1 : a->at_ns > b->at_ns;
}

static void tasks_make(struct application *self)
{
	size_t i, j, count = 0;

	for (i = 0; i < self->plan.count; i++)
		count += 1 + self->plan.pairs[i].dials[self->side].count;
	self->tasks = calloc(count + 1, sizeof(*self->tasks));
	self->connections = calloc(self->plan.count + 1, sizeof(*self->connections));
	if (!self->tasks || !self->connections)
		die("the plan");
	for (i = 0; i < self->plan.count; i++) {
		struct pair *pair = &self->plan.pairs[i];
		const struct dials *dials = &pair->dials[self->side];

		for (j = 0; j < dials->count; j++)
			self->tasks[self->task_count++] = (struct task){ dials->at_ns[j], pair, false };
		self->tasks[self->task_count++] = (struct task){ pair->ends_ns, pair, true };
	}
	qsort(self->tasks, self->task_count, sizeof(*self->tasks), compare_tasks);
}

/* Do what is due, and wind the clock for the next. */
static void tasks_do(struct application *self)
{
	struct itimerspec next = { 0 };
	struct task *task;
	int64_t at_ns;

	while (self->task_next < self->task_count) {
		task = &self->tasks[self->task_next];
		at_ns = self->begins_ns + task->at_ns;
		if (at_ns > plan_now_ns()) {
			next.it_value.tv_sec = at_ns / NS_PER_SECOND;
			next.it_value.tv_nsec = at_ns % NS_PER_SECOND;
			if (timerfd_settime(self->timer, TFD_TIMER_ABSTIME, &next, NULL))
				die("timerfd_settime");
			return;
		}
		self->task_next++;
		if (task->over)
			round_over(self, task->pair);
		else
			dial(self, task->pair);
	}
}

/* ---- a run ----------------------------------------------------------------------------------- */

static void listen_to(struct application *self, int family, struct connection *listener)
{
	struct in6_addr any = family == AF_INET6 ? in6addr_any : plan_mapped((struct in_addr){ 0 });
	struct sockaddr_storage address;
	socklen_t length = socket_address(&any, self->port, &address);
	int one = 1;

	listener->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener->fd < 0 ||
	    setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    (family == AF_INET6 &&
	     setsockopt(listener->fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one))) ||
	    bind(listener->fd, (struct sockaddr *)&address, length) ||
	    listen(listener->fd, BACKLOG))
		die("listen");
	watch(self, listener->fd, EPOLLIN, listener);
}

static void on_event(struct application *self, const struct epoll_event *event)
{
	struct connection *connection = event->data.ptr;
	uint64_t expirations;

	if (!connection) {
		if (read(self->timer, &expirations, sizeof(expirations)) < 0 && errno != EAGAIN)
			die("the timer");
		return;
	}
	if (connection == &self->listeners[0] || connection == &self->listeners[1])
		accept_all(self, connection->fd);
	else if (connection->fd < 0)
		return; /* closed by what came before it in the same turn */
	else if (connection->opened_ns)
		on_readable(connection);
	else
		on_writable(self, connection);
}

static void run(struct application *self)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	int count, i;

	for (tasks_do(self); self->task_next < self->task_count; tasks_do(self)) {
		count = epoll_wait(self->epoll, events, EVENTS_AT_ONCE, -1);
		if (count < 0 && errno != EINTR)
			die("epoll_wait");
		for (i = 0; i < count; i++)
			on_event(self, &events[i]);
	}
}

/* Write everything down, and let it go. */
static void tell(struct application *self, const char *path)
{
	struct connection *connection, *next;
	FILE *file = fopen(path, "we");
	size_t i;

	if (!file)
		die(path);
	for (i = 0; i < self->plan.count; i++) {
		for (connection = self->connections[i]; connection; connection = next) {
			fprintf(file, "%zu %s %u %" PRId64 " %" PRId64 " %" PRId64 " %u %s\n",
				connection->pair->number, connection->outbound ? "out" : "in",
				connection->client_port, connection->asked_ns,
				connection->opened_ns, connection->closed_ns, connection->beside,
				connection->end);
			next = connection->next;
			free(connection);
		}
	}
	if (fclose(file))
		die(path);
	free(self->connections);
	free(self->tasks);
	free(self->plan.pairs);
}

int main(int argc, char **argv)
{
	struct rlimit descriptors;
	struct application self = { 0 };

	if (argc != 6 || (strcmp(argv[1], "home") && strcmp(argv[1], "far")) ||
	    (strcmp(argv[5], "keep-all") && strcmp(argv[5], "keep-greater"))) {
		fprintf(stderr, "usage: crosser home|far PLAN PORT RECORD keep-all|keep-greater\n");
		return 2;
	}
	self.side = strcmp(argv[1], "home") ? SIDE_FAR : SIDE_HOME;
	self.port = (uint16_t)atoi(argv[3]);
	self.keeps_greater = !strcmp(argv[5], "keep-greater");
	plan_read(argv[2], &self.plan);
	tasks_make(&self);
	self.epoll = epoll_create1(EPOLL_CLOEXEC);
	self.timer = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	/* A run has some thousand connections open at a time. */
	if (self.epoll < 0 || self.timer < 0 || getrlimit(RLIMIT_NOFILE, &descriptors))
		die("descriptors");
	descriptors.rlim_cur = descriptors.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &descriptors))
		die("RLIMIT_NOFILE");
	watch(&self, self.timer, EPOLLIN, NULL);
	listen_to(&self, AF_INET, &self.listeners[0]);
	listen_to(&self, AF_INET6, &self.listeners[1]);
	printf("ready\n");
	fflush(stdout);
	if (scanf("%" SCNd64, &self.begins_ns) != 1) {
		fprintf(stderr, "crosser: no moment to begin at on standard input\n");
		return 2;
	}
	run(&self);
	tell(&self, argv[4]);
	return 0;
}
