// SPDX-License-Identifier: BSD-2-Clause
/*
 * node.c: the origin's connection handling, rebuilt to misbehave for the origin's reasons.
 *
 * Nothing here makes duplicates on purpose. Three mistakes of the origin are kept, each marked
 * "cause" below, and the duplicates follow from them:
 *
 *   cause 1  A task that sleeps between two attempts is in no state: the peer's mark is empty, so
 *            the periodic check takes the peer for free and starts another task.
 *   cause 2  A task that wakes to find the peer marked is the loser of the race. It ends, but not
 *            before it has run mark_disconnected(), and so wipes the mark that the winner set,
 *            whose link stays up, unmarked. From now on this node believes the peer is not
 *            connected, and dials it.
 *   cause 3  The side that notices is not the side that dials: the other node still holds the
 *            link, so it accepts the connection, logs the duplicate and closes it. The dialer
 *            takes that for a success (its backoff starts again at 10 s) and then for a lost
 *            connection, and comes back 10 s later, for as long as the first link lives.
 *
 * Tasks stack: nothing asks whether a task for the peer exists already. The check starts one for
 * every peer without a mark, and so does every inbound link that is lost. Two tasks become one only
 * when one of them wakes in the short time in which the other has its dial under way. One task
 * caught in the loop above dials 3600 / 10 = 360 times an hour; each that the check adds does the
 * same.
 *
 * All sockets and timers run in one thread. Memory and descriptors are bounded by TASKS_MAX and
 * LINKS_MAX; reaching a bound is counted, never silent.
 */
#include "node.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

/* Origin seconds. The steps, the check interval and the heartbeat are the origin's. */
static const double backoff_steps[] = {10, 20, 40, 80, 160, 300};
#define BACKOFF_LAST_STEP (sizeof(backoff_steps) / sizeof(backoff_steps[0]) - 1)
#define CHECK_INTERVAL 120.0
#define HEARTBEAT_INTERVAL 30.0
#define MISSED_HEARTBEATS_MAX 3
/*
 * The origin set no timeout of its own, so that Linux' default applied: 6 retransmissions of a SYN,
 * 1 + 2 + 4 + ... + 64 s. The kernel's clock does not run in origin time, so it is kept here.
 */
#define CONNECT_TIMEOUT 127.0

#define TASKS_MAX 512		/* of one node */
#define LINKS_MAX 400		/* of one node; with a socket for each task still below 1024 */
#define ACCEPT_BATCH 64		/* connections taken in one turn of the loop */

/* The whole protocol: one byte a message. */
enum message {
	MESSAGE_HELLO = 'H',	/* dialer, once */
	MESSAGE_ACK = 'A',	/* the answer of an acceptor that keeps the link */
	MESSAGE_PING = 'P',
	MESSAGE_PONG = 'O',
};

/* The shared note "connecting or connected" about a peer, which tasks trust and overwrite. */
enum mark {
	MARK_NONE,
	MARK_OUTBOUND,
	MARK_INBOUND,
};

struct task;

struct link {
	LIST_ENTRY(link) entries;
	struct peer *peer;
	struct task *task;		/* the task that dialed it; NULL for an inbound link */
	int socket;
	struct event *readable;
	struct event *heartbeat;
	int missed_heartbeats;
	bool heard;			/* something arrived since the last heartbeat */
	bool confirmed;			/* both applications hold it */
	char members[96];		/* JSON members that name the connection in the log */
};

struct peer {
	struct node *node;
	struct in_addr address;
	char text[INET_ADDRSTRLEN];
	enum mark mark;
	LIST_HEAD(, link) links;
};

struct task {
	LIST_ENTRY(task) entries;
	struct peer *peer;
	struct event *timer;		/* backoff, connect timeout or round trip: one at a time */
	struct event *writable;		/* only while the dial is under way */
	int socket;			/* of the dial under way, or up and not yet seen; or -1 */
	size_t step;			/* index of the next backoff step */
	struct link *link;		/* NULL unless linked */
};

struct node {
	struct event_base *base;
	struct node_options options;
	struct report *report;
	struct report_counts counts;
	struct peer peers[NODE_PEERS_MAX];
	LIST_HEAD(, task) tasks;
	size_t task_count;
	size_t link_count;
	int listener;
	struct event *acceptable;
	struct event *check;
};

static struct timeval real_time(const struct node *node, double origin_seconds)
{
	double seconds = origin_seconds / node->options.time_scale;
	struct timeval tv = {.tv_sec = (time_t)seconds};

	tv.tv_usec = (suseconds_t)((seconds - (double)tv.tv_sec) * 1e6);
	return tv;
}

static void event_drop(struct event **event)
{
	if (*event)
		event_free(*event);
	*event = NULL;
}

/* --- marks: as in the origin, anyone may set and anyone may clear them --- */

static bool is_connected(const struct peer *peer)
{
	return peer->mark != MARK_NONE;
}

static bool mark_connecting(struct peer *peer)
{
	if (is_connected(peer))
		return false;
	peer->mark = MARK_OUTBOUND;
	return true;
}

static void mark_disconnected(struct peer *peer)
{
	peer->mark = MARK_NONE;
}

/* --- tasks --- */

static void task_wake(evutil_socket_t socket, short what, void *argument);
static void task_dial(struct task *task);

static void task_set_timer(struct task *task, double origin_seconds, event_callback_fn callback)
{
	struct node *node = task->peer->node;
	struct timeval delay = real_time(node, origin_seconds);

	evtimer_del(task->timer);
	event_assign(task->timer, node->base, -1, 0, callback, task);
	evtimer_add(task->timer, &delay);
}

static struct task *task_new(struct peer *peer, const char *reason)
{
	struct node *node = peer->node;
	struct task *task;

	if (node->task_count >= TASKS_MAX) {
		node->counts.tasks_over_limit++;
		return NULL;
	}
	task = calloc(1, sizeof(*task));
	if (!task)
		return NULL;
	task->timer = evtimer_new(node->base, task_wake, task);
	if (!task->timer) {
		free(task);
		return NULL;
	}
	task->peer = peer;
	task->socket = -1;
	LIST_INSERT_HEAD(&node->tasks, task, entries);
	node->task_count++;
	node->counts.tasks_spawned++;
	report_event(node->report, "task_spawned",
		     "\"peer\":\"%s\",\"reason\":\"%s\",\"tasks\":%zu", peer->text, reason,
		     node->task_count);
	return task;
}

static void task_free(struct task *task)
{
	struct node *node = task->peer->node;

	event_drop(&task->timer);
	event_drop(&task->writable);
	if (task->socket >= 0)
		close(task->socket);
	LIST_REMOVE(task, entries);
	node->task_count--;
	free(task);
}

/* Ends an attempt, for better or worse, and goes to sleep. */
static void task_sleep(struct task *task)
{
	double delay = backoff_steps[task->step];

	if (task->step < BACKOFF_LAST_STEP)
		task->step++;
	/* Cause 1: whoever looks at the peer from here to the next attempt finds it free. */
	mark_disconnected(task->peer);
	task_set_timer(task, delay, task_wake);
}

static void task_wake(evutil_socket_t socket, short what, void *argument)
{
	struct task *task = argument;
	struct peer *peer = task->peer;

	(void)socket;
	(void)what;
	if (!mark_connecting(peer)) {
		report_event(peer->node->report, "task_lost", "\"peer\":\"%s\"", peer->text);
		peer->node->counts.tasks_lost++;
		/* Cause 2: the mark belongs to whoever won, and is wiped all the same. */
		mark_disconnected(peer);
		task_free(task);
		return;
	}
	task_dial(task);
}

static void task_failed(struct task *task, int error)
{
	struct report_counts *counts = &task->peer->node->counts;

	switch (error) {
	case ECONNREFUSED:
		counts->dials_refused++;
		break;
	case ETIMEDOUT:
		counts->dials_timed_out++;
		break;
	case EHOSTUNREACH:
	case ENETUNREACH:
		counts->dials_unreachable++;
		break;
	default:
		counts->dials_failed_otherwise++;
	}
	report_event(task->peer->node->report, "dial_failed", "\"peer\":\"%s\",\"error\":\"%s\"",
		     task->peer->text, strerrorname_np(error));
	event_drop(&task->writable);
	if (task->socket >= 0)
		close(task->socket);
	task->socket = -1;
	task_sleep(task);
}

/* --- links --- */

static void link_end(struct link *link, const char *reason)
{
	struct peer *peer = link->peer;
	struct node *node = peer->node;
	struct task *task = link->task;

	if (link->confirmed)
		report_event(node->report, "link_down", "%s,\"reason\":\"%s\"", link->members,
			     reason);
	event_drop(&link->readable);
	event_drop(&link->heartbeat);
	close(link->socket);
	LIST_REMOVE(link, entries);
	node->link_count--;
	free(link);

	if (task) {
		task->link = NULL;
		task_sleep(task);
		return;
	}
	mark_disconnected(peer);
	task = task_new(peer, "inbound link lost");
	if (task)
		task_sleep(task);
}

/* Returns false if the link is over. A full socket buffer loses the byte, as any would. */
static bool link_send(struct link *link, char message)
{
	return send(link->socket, &message, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 || errno == EAGAIN;
}

static void link_confirm(struct link *link)
{
	if (link->confirmed)
		return;
	link->confirmed = true;
	report_event(link->peer->node->report, "link_up", "%s", link->members);
}

static void link_readable(evutil_socket_t socket, short what, void *argument)
{
	struct link *link = argument;
	char bytes[256];
	ssize_t length;

	(void)what;
	length = recv(socket, bytes, sizeof(bytes), MSG_DONTWAIT);
	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (length <= 0) {
		link_end(link, length == 0 ? "end of file" : strerrorname_np(errno));
		return;
	}
	link->heard = true;
	for (ssize_t i = 0; i < length; i++) {
		bool alive = true;

		switch (bytes[i]) {
		case MESSAGE_HELLO:
			alive = link_send(link, MESSAGE_ACK);
			break;
		case MESSAGE_PING:
			alive = link_send(link, MESSAGE_PONG);
			break;
		case MESSAGE_ACK:
			link_confirm(link);
			break;
		}
		if (!alive) {
			link_end(link, "send failed");
			return;
		}
	}
}

static void link_heartbeat(evutil_socket_t socket, short what, void *argument)
{
	struct link *link = argument;

	(void)socket;
	(void)what;
	link->missed_heartbeats = link->heard ? 0 : link->missed_heartbeats + 1;
	link->heard = false;
	if (link->missed_heartbeats >= MISSED_HEARTBEATS_MAX)
		link_end(link, "unresponsive");
	else if (!link_send(link, MESSAGE_PING))
		link_end(link, "send failed");
}

/*
 * Counts a second connection that the network let through to us: one that came up while another
 * with the same peer is held and, by the kernel's word, established. A held socket that the kernel
 * knows to be over, but whose end we have not read yet, is no link.
 */
static void count_if_duplicate(struct peer *peer, const char *direction)
{
	struct node *node = peer->node;
	struct link *held;

	LIST_FOREACH(held, &peer->links, entries) {
		struct tcp_info info = {0};
		socklen_t length = sizeof(info);

		if (getsockopt(held->socket, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 &&
		    info.tcpi_state == TCP_ESTABLISHED) {
			node->counts.duplicate_links_seen++;
			report_event(node->report, "duplicate_link",
				     "\"peer\":\"%s\",\"direction\":\"%s\"", peer->text, direction);
			return;
		}
	}
}

/* Takes over @socket; on failure closes it and returns NULL. @task is NULL for an inbound link. */
static struct link *link_new(struct peer *peer, int socket, struct task *task)
{
	struct node *node = peer->node;
	struct timeval interval = real_time(node, HEARTBEAT_INTERVAL);
	struct sockaddr_in local = {0}, remote = {0};
	socklen_t local_length = sizeof(local), remote_length = sizeof(remote);
	struct link *link = NULL;
	int one = 1;

	if (node->link_count >= LINKS_MAX)
		goto fail;
	link = calloc(1, sizeof(*link));
	if (!link)
		goto fail;
	link->readable = event_new(node->base, socket, EV_READ | EV_PERSIST, link_readable, link);
	link->heartbeat = event_new(node->base, -1, EV_PERSIST, link_heartbeat, link);
	if (!link->readable || !link->heartbeat)
		goto fail;
	setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	link->peer = peer;
	link->task = task;
	link->socket = socket;
	link->heard = true;
	/* A connection that is over already has no peer name; its port is then logged as 0. */
	getsockname(socket, (struct sockaddr *)&local, &local_length);
	getpeername(socket, (struct sockaddr *)&remote, &remote_length);
	snprintf(link->members, sizeof(link->members),
		 "\"peer\":\"%s\",\"direction\":\"%s\",\"local_port\":%u,\"remote_port\":%u",
		 peer->text, task ? "outbound" : "inbound", ntohs(local.sin_port),
		 ntohs(remote.sin_port));
	event_add(link->readable, NULL);
	event_add(link->heartbeat, &interval);
	LIST_INSERT_HEAD(&peer->links, link, entries);
	node->link_count++;
	return link;
fail:
	if (link) {
		event_drop(&link->readable);
		event_drop(&link->heartbeat);
		free(link);
	}
	close(socket);
	return NULL;
}

/* --- dialing --- */

static void task_connected(evutil_socket_t unused, short what, void *argument)
{
	struct task *task = argument;
	struct peer *peer = task->peer;
	int socket = task->socket;

	(void)unused;
	(void)what;
	peer->node->counts.dials_connected++;
	report_event(peer->node->report, "connected", "\"peer\":\"%s\"", peer->text);
	count_if_duplicate(peer, "outbound");
	/* Success, as far as a dialer can tell: the backoff starts anew. Part of cause 3. */
	task->step = 0;
	task->socket = -1;
	task->link = link_new(peer, socket, task);
	if (!task->link)
		task_sleep(task);
	else if (!link_send(task->link, MESSAGE_HELLO))
		link_end(task->link, "send failed");
}

static void task_timed_out(evutil_socket_t socket, short what, void *argument)
{
	(void)socket;
	(void)what;
	task_failed(argument, ETIMEDOUT);
}

static void task_writable(evutil_socket_t socket, short what, void *argument)
{
	struct task *task = argument;
	socklen_t length = sizeof(int);
	int error = 0;

	(void)what;
	event_drop(&task->writable);
	evtimer_del(task->timer);
	if (getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
		error = errno;
	if (error) {
		task_failed(task, error);
		return;
	}
	task_set_timer(task, task->peer->node->options.round_trip_ms / 1000, task_connected);
}

static void task_dial(struct task *task)
{
	struct peer *peer = task->peer;
	struct node *node = peer->node;
	struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr = node->options.address};
	struct sockaddr_in remote = {
		.sin_family = AF_INET,
		.sin_addr = peer->address,
		.sin_port = htons(node->options.port),
	};
	int one = 1;

	node->counts.dials++;
	report_event(node->report, "dial", "\"peer\":\"%s\"", peer->text);
	task->socket = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (task->socket < 0) {
		task_failed(task, errno);
		return;
	}
	/* The source port is left to connect(), which knows the destination and can reuse more. */
	setsockopt(task->socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	if (bind(task->socket, (struct sockaddr *)&local, sizeof(local)) < 0 ||
	    (connect(task->socket, (struct sockaddr *)&remote, sizeof(remote)) < 0 &&
	     errno != EINPROGRESS)) {
		task_failed(task, errno);
		return;
	}
	task->writable = event_new(node->base, task->socket, EV_WRITE, task_writable, task);
	if (!task->writable) {
		task_failed(task, ENOMEM);
		return;
	}
	event_add(task->writable, NULL);
	task_set_timer(task, CONNECT_TIMEOUT, task_timed_out);
}

/* --- listening --- */

static struct peer *node_find_peer(struct node *node, struct in_addr address)
{
	for (size_t i = 0; i < node->options.peer_count; i++) {
		if (node->peers[i].address.s_addr == address.s_addr)
			return &node->peers[i];
	}
	return NULL;
}

/* What we already have with @peer, by our links or by our mark; NULL if nothing. */
static const char *already_have(const struct peer *peer)
{
	const struct link *link = LIST_FIRST(&peer->links);

	if (link)
		return link->task ? "outbound" : "inbound";
	if (is_connected(peer))
		return peer->mark == MARK_OUTBOUND ? "outbound" : "inbound";
	return NULL;
}

static void node_acceptable(evutil_socket_t listener, short what, void *argument)
{
	struct node *node = argument;

	(void)what;
	for (int i = 0; i < ACCEPT_BATCH; i++) {
		struct sockaddr_in remote = {0};
		socklen_t length = sizeof(remote);
		int socket = accept4(listener, (struct sockaddr *)&remote, &length,
				     SOCK_NONBLOCK | SOCK_CLOEXEC);
		const char *have;
		struct peer *peer;
		struct link *link;

		if (socket < 0)
			return;
		peer = node_find_peer(node, remote.sin_addr);
		if (!peer) {
			close(socket);
			continue;
		}
		count_if_duplicate(peer, "inbound");
		have = already_have(peer);
		if (have) {
			/* Cause 3: the first thing that the dialer hears of this is a success. */
			close(socket);
			node->counts.rejected_duplicates++;
			report_event(node->report, "log",
				     "\"message\":\"Rejecting duplicate inbound connection from "
				     "%s (already have %s)\"", peer->text, have);
			continue;
		}
		link = link_new(peer, socket, NULL);
		if (!link)
			continue;
		peer->mark = MARK_INBOUND;
		node->counts.links_accepted++;
		link_confirm(link);
	}
}

/* --- the periodic check --- */

/* Dials every peer without a mark. A task asleep in its backoff has none: cause 1. */
static void node_dial_unmarked(struct node *node, const char *reason)
{
	for (size_t i = 0; i < node->options.peer_count; i++) {
		struct peer *peer = &node->peers[i];
		struct task *task;

		if (!mark_connecting(peer))
			continue;
		task = task_new(peer, reason);
		if (task)
			task_dial(task);
		else
			mark_disconnected(peer);
	}
}

static void node_check(evutil_socket_t socket, short what, void *argument)
{
	(void)socket;
	(void)what;
	node_dial_unmarked(argument, "periodic check");
}

static int node_listen(struct node *node)
{
	struct sockaddr_in local = {
		.sin_family = AF_INET,
		.sin_addr = node->options.address,
		.sin_port = htons(node->options.port),
	};
	int one = 1;

	node->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (node->listener < 0)
		return -errno;
	if (setsockopt(node->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(node->listener, (struct sockaddr *)&local, sizeof(local)) < 0 ||
	    listen(node->listener, 128) < 0)
		return -errno;
	return 0;
}

int node_start(struct event_base *base, const struct node_options *options, struct report *report,
	       struct node **ret_node)
{
	struct node *node = calloc(1, sizeof(*node));
	struct timeval interval;
	int error;

	if (!node)
		return -ENOMEM;
	node->base = base;
	node->options = *options;
	node->report = report;
	node->listener = -1;
	LIST_INIT(&node->tasks);
	for (size_t i = 0; i < options->peer_count; i++) {
		struct peer *peer = &node->peers[i];

		peer->node = node;
		peer->address = options->peers[i];
		inet_ntop(AF_INET, &peer->address, peer->text, sizeof(peer->text));
		LIST_INIT(&peer->links);
	}
	error = node_listen(node);
	if (error < 0) {
		node_stop(node);
		return error;
	}
	node->acceptable = event_new(base, node->listener, EV_READ | EV_PERSIST, node_acceptable,
				     node);
	node->check = event_new(base, -1, EV_PERSIST, node_check, node);
	if (!node->acceptable || !node->check) {
		node_stop(node);
		return -ENOMEM;
	}
	interval = real_time(node, CHECK_INTERVAL);
	event_add(node->acceptable, NULL);
	event_add(node->check, &interval);
	report_event(report, "start", "\"time_scale\":%g", options->time_scale);
	node_dial_unmarked(node, "start");
	*ret_node = node;
	return 0;
}

const struct report_counts *node_counts(struct node *node)
{
	node->counts.links_up = 0;
	for (size_t i = 0; i < node->options.peer_count; i++) {
		struct link *link;

		LIST_FOREACH(link, &node->peers[i].links, entries)
			node->counts.links_up += link->confirmed;
	}
	return &node->counts;
}

void node_stop(struct node *node)
{
	if (!node)
		return;
	for (size_t i = 0; i < node->options.peer_count; i++) {
		struct link *link, *next;

		for (link = LIST_FIRST(&node->peers[i].links); link; link = next) {
			next = LIST_NEXT(link, entries);
			event_drop(&link->readable);
			event_drop(&link->heartbeat);
			close(link->socket);
			free(link);
		}
	}
	while (!LIST_EMPTY(&node->tasks))
		task_free(LIST_FIRST(&node->tasks));
	event_drop(&node->acceptable);
	event_drop(&node->check);
	if (node->listener >= 0)
		close(node->listener);
	free(node);
}
