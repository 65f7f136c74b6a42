/* SPDX-License-Identifier: BSD-2-Clause */
/* The client's end of the control socket: see client.h. One line out, one line in. */
#include "connguard/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <connguard/protocol.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/printable.h"

#define NS_PER_SECOND 1000000000ULL
#define NS_PER_MILLISECOND 1000000ULL
#define READ_STEP 65536

struct client {
	int fd;
	char *buffer;
	size_t length;   /* bytes in the buffer */
	size_t consumed; /* of them, already handed out */
	size_t capacity;
};

int client_open(const char *name, struct client **ret_client)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct timeval patience = { .tv_sec = CLIENT_ANSWER_SECONDS };
	cleanup_close int fd = -1;
	int length;

	length = snprintf(address.sun_path, sizeof(address.sun_path), PROTOCOL_RUN_DIRECTORY "/%s.sock",
			  name);
	if (length < 0 || (size_t)length >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)))
		return -errno;
	/*
	 * A blocking connect() waits in the daemon's queue of connections, however many crowd it;
	 * EAGAIN is the end of the patience.
	 */
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	return client_of_connection(take_descriptor(&fd), ret_client);
}

int client_of_connection(int fd, struct client **ret_client)
{
	cleanup_close int connection = fd;
	struct client *client;

	if (fcntl(connection, F_SETFL, O_NONBLOCK))
		return -errno;
	client = calloc(1, sizeof(*client));
	if (!client)
		return -ENOMEM;
	client->fd = take_descriptor(&connection);
	*ret_client = client;
	return 0;
}

void client_close(struct client *client)
{
	if (!client)
		return;
	close(client->fd);
	free(client->buffer);
	free(client);
}

/* Wait for the socket until the deadline (0: without end). */
static int wait_for(struct client *client, short events, __u64 deadline_ns)
{
	struct pollfd poll_fd = { .fd = client->fd, .events = events };
	int timeout = -1, ready;
	__u64 now;

	do {
		if (deadline_ns) {
			now = clock_now_ns();
			if (now >= deadline_ns)
				return -ETIMEDOUT;
			timeout = (int)((deadline_ns - now + NS_PER_MILLISECOND - 1) /
					NS_PER_MILLISECOND);
		}
		ready = poll(&poll_fd, 1, timeout);
	} while (ready == 0 || (ready < 0 && errno == EINTR));
	return ready < 0 ? -errno : 0;
}

static int send_line(struct client *client, const char *line, size_t length, __u64 deadline_ns)
{
	ssize_t sent;
	int error;

	while (length) {
		sent = send(client->fd, line, length, MSG_NOSIGNAL);
		if (sent > 0) {
			line += sent;
			length -= (size_t)sent;
		} else if (errno == EAGAIN) {
			error = wait_for(client, POLLOUT, deadline_ns);
			if (error)
				return error;
		} else if (errno == EPIPE) {
			/* A daemon that will not have us may have said why before it hung up. */
			return 0;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

/* Room for another piece, what was handed out already given up. */
static int make_room(struct client *client)
{
	char *larger;

	if (client->consumed) {
		client->length -= client->consumed;
		memmove(client->buffer, client->buffer + client->consumed, client->length);
		client->consumed = 0;
	}
	if (client->capacity - client->length >= READ_STEP)
		return 0;
	if (client->length >= PROTOCOL_ANSWER_MAX)
		return -EMSGSIZE;
	larger = realloc(client->buffer, client->capacity * 2 + READ_STEP);
	if (!larger)
		return -ENOMEM;
	client->buffer = larger;
	client->capacity = client->capacity * 2 + READ_STEP;
	return 0;
}

/* Whatever a daemon says, a terminal shall only show it. */
static int make_text_printable(json_t *text)
{
	cleanup_free char *copy = NULL;

	if (text_is_printable(json_string_value(text)))
		return 0;
	copy = strdup(json_string_value(text));
	return !copy || json_string_set(text, text_make_printable(copy)) ? -ENOMEM : 0;
}

/* The same for every text in it. A name of a member is ours, and so printable. The parser bounds the depth. */
static int make_printable(json_t *value)
{
	const char *key;
	json_t *member;
	int error = 0;
	size_t i;

	if (json_is_string(value))
		return make_text_printable(value);
	json_object_foreach(value, key, member)
		error = error ? error : text_is_printable(key) ? make_printable(member) : -EPROTO;
	json_array_foreach(value, i, member)
		error = error ? error : make_printable(member);
	return error;
}

/* One line as a JSON object. */
static int read_object(struct client *client, __u64 deadline_ns, json_t **ret_object)
{
	size_t searched = client->consumed;
	char *start, *newline;
	json_t *object;
	ssize_t received;
	int error;

	for (;;) {
		newline = client->length > searched ? memchr(client->buffer + searched, '\n',
							      client->length - searched) :
						      NULL;
		if (newline)
			break;
		searched = client->length - client->consumed;
		error = make_room(client);
		if (error)
			return error;
		received = recv(client->fd, client->buffer + client->length, READ_STEP, 0);
		if (received > 0) {
			client->length += (size_t)received;
		} else if (received == 0) {
			return -ECONNRESET;
		} else if (errno == EAGAIN) {
			error = wait_for(client, POLLIN, deadline_ns);
			if (error)
				return error;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	start = client->buffer + client->consumed;
	client->consumed = (size_t)(newline + 1 - client->buffer);
	object = json_loadb(start, (size_t)(newline - start), 0, NULL);
	error = json_is_object(object) ? make_printable(object) : -EPROTO;
	if (error) {
		json_decref(object);
		return error;
	}
	*ret_object = object;
	return 0;
}

int client_ask(struct client *client, json_t *request, json_t **ret_result, char **ret_refusal)
{
	__u64 deadline_ns = clock_now_ns() + CLIENT_ANSWER_SECONDS * NS_PER_SECOND;
	json_t *answer = NULL, *result;
	cleanup_free char *line = NULL;
	size_t length;
	int error;

	if (!request || json_object_set_new(request, "protocol", json_integer(PROTOCOL_VERSION))) {
		json_decref(request);
		return -ENOMEM;
	}
	line = json_dumps(request, JSON_COMPACT);
	json_decref(request);
	if (!line)
		return -ENOMEM;
	length = strlen(line);
	line[length] = '\n'; /* in place of the NUL */
	error = send_line(client, line, length + 1, deadline_ns);
	if (!error)
		error = read_object(client, deadline_ns, &answer);
	if (error)
		return error;

	result = json_object_get(answer, "result");
	if (json_is_true(json_object_get(answer, "ok"))) {
		*ret_result = result ? json_incref(result) : json_null();
	} else {
		const char *text = json_string_value(json_object_get(answer, "error"));

		error = -EPROTO;
		if (text) {
			*ret_refusal = strdup(text);
			error = *ret_refusal ? -EREMOTEIO : -ENOMEM;
		}
	}
	json_decref(answer);
	return error;
}

int client_next(struct client *client, json_t **ret_object)
{
	return read_object(client, 0, ret_object);
}
