// SPDX-License-Identifier: BSD-2-Clause
/* The control socket. See server.h and include/connguard/protocol.h. */
#include "edge/server.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>

#include <connguard/protocol.h>

#include "base/cleanup.h"

#define LISTEN_BACKLOG 16
/* A client that neither reads nor hangs up for this long is cut off. */
#define WRITE_TIMEOUT_SECONDS 30

struct client {
	LIST_ENTRY(client) entry;
	struct server *server;
	struct bufferevent *buffer;
	bool root;
	bool closing;     /* hang up once the buffer is written */
	bool waiting;     /* asks faster than it reads: no further request until it has read */
	unsigned streams; /* bits of enum server_stream */
};

struct server {
	struct evconnlistener *listener;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	server_handler handler;
	void *argument;
	size_t client_count;
	LIST_HEAD(, client) clients;
};

static const struct {
	const char *name;
	bool changes;
} requests[] = {
#define REQUEST_ROW(request, changes, arguments) { #request, changes },
	PROTOCOL_REQUESTS(REQUEST_ROW)
#undef REQUEST_ROW
};

static void client_free(struct client *client)
{
	LIST_REMOVE(client, entry);
	client->server->client_count--;
	bufferevent_free(client->buffer);
	free(client);
}

/* Append one object and its newline to what waits for the client. */
static void client_send(struct client *client, const json_t *object)
{
	char *line = json_dumps(object, JSON_COMPACT);

	if (!line)
		return;
	bufferevent_write(client->buffer, line, strlen(line));
	bufferevent_write(client->buffer, "\n", 1);
	free(line);
}

/* What a client said may be cut in the middle of a letter here, and no JSON text may be. */
static void client_send_error(struct client *client, const char *text)
{
	char plain[512];
	json_t *answer;

	snprintf(plain, sizeof(plain), "%s", text);
	for (char *letter = plain; *letter; letter++)
		if ((unsigned char)*letter >= 0x80)
			*letter = '?';
	answer = json_pack("{s:b, s:s}", "ok", 0, "error", plain);

	if (answer)
		client_send(client, answer);
	json_decref(answer);
}

/* No more requests; hang up when what was answered is written. */
static void client_finish(struct client *client)
{
	client->closing = true;
	bufferevent_disable(client->buffer, EV_READ);
}

static void answer_line(struct client *client, const char *line, size_t length)
{
	struct server_request request = { .client = client };
	char error[512] = "";
	json_t *answer, *result = NULL;
	json_error_t problem;
	json_int_t protocol;
	int outcome;
	size_t i;

	json_t *object = json_loadb(line, length, JSON_REJECT_DUPLICATES, &problem);

	if (!json_is_object(object)) {
		client_send_error(client, "a request is one JSON object a line");
		goto out;
	}
	if (json_unpack(object, "{s:I, s:s}", "protocol", &protocol, "request", &request.name)) {
		client_send_error(client, "a request has the members \"protocol\" (integer) and \"request\" (text)");
		goto out;
	}
	if (protocol != PROTOCOL_VERSION) {
		snprintf(error, sizeof(error), "protocol %lld is not spoken here, expected %d",
			 (long long)protocol, PROTOCOL_VERSION);
		client_send_error(client, error);
		goto out;
	}
	for (i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
		if (strcmp(requests[i].name, request.name) == 0)
			break;
	if (i == sizeof(requests) / sizeof(requests[0])) {
		snprintf(error, sizeof(error), "unknown request '%.64s'", request.name);
		client_send_error(client, error);
		goto out;
	}
	if (requests[i].changes && !client->root) {
		snprintf(error, sizeof(error), "'%s' changes the guard: only root may", request.name);
		client_send_error(client, error);
		goto out;
	}
	request.arguments = object;
	outcome = client->server->handler(&request, &result, error, sizeof(error),
					  client->server->argument);
	if (outcome) {
		client_send_error(client, *error ? error : strerror(-outcome));
	} else {
		answer = json_pack("{s:b, s:o}", "ok", 1, "result", result ? result : json_null());
		if (answer)
			client_send(client, answer);
		json_decref(answer);
	}
out:
	json_decref(object);
}

static void on_readable(struct bufferevent *buffer, void *argument)
{
	struct evbuffer *input = bufferevent_get_input(buffer);
	struct client *client = argument;
	char *line, text[64];
	size_t length;

	while (!client->closing && !client->waiting &&
	       (line = evbuffer_readln(input, &length, EVBUFFER_EOL_LF))) {
		if (length < PROTOCOL_REQUEST_MAX)
			answer_line(client, line, length);
		free(line);
		if (length >= PROTOCOL_REQUEST_MAX)
			goto too_long;
		if (evbuffer_get_length(bufferevent_get_output(buffer)) > PROTOCOL_BACKLOG_MAX) {
			client->waiting = true;
			bufferevent_disable(buffer, EV_READ);
		}
	}
	if (client->waiting)
		return;
	if (evbuffer_get_length(input) < PROTOCOL_REQUEST_MAX)
		return;
too_long:
	snprintf(text, sizeof(text), "the request is longer than %d bytes",
		 PROTOCOL_REQUEST_MAX);
	client_send_error(client, text);
	client_finish(client);
}

static void on_written(struct bufferevent *buffer, void *argument)
{
	struct client *client = argument;

	if (client->closing) {
		client_free(client);
	} else if (client->waiting) {
		client->waiting = false;
		bufferevent_enable(buffer, EV_READ);
		on_readable(buffer, client);
	}
}

static void on_closed(struct bufferevent *buffer, short what, void *argument)
{
	(void)buffer;
	(void)what;
	client_free(argument);
}

static void on_connection(struct evconnlistener *listener, evutil_socket_t fd,
			  struct sockaddr *address, int length, void *argument)
{
	const struct timeval write_timeout = { .tv_sec = WRITE_TIMEOUT_SECONDS };
	struct server *server = argument;
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t size = sizeof(peer);
	struct client *client = calloc(1, sizeof(*client));

	(void)address;
	(void)length;
	if (!client) {
		close(fd);
		return;
	}
	client->server = server;
	client->buffer = bufferevent_socket_new(evconnlistener_get_base(listener), fd,
						BEV_OPT_CLOSE_ON_FREE);
	if (!client->buffer) {
		close(fd);
		free(client);
		return;
	}
	LIST_INSERT_HEAD(&server->clients, client, entry);
	server->client_count++;
	/* Nobody is root whose credentials cannot be read. */
	client->root = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == 0;
	bufferevent_setcb(client->buffer, on_readable, on_written, on_closed, client);
	bufferevent_setwatermark(client->buffer, EV_READ, 0, PROTOCOL_REQUEST_MAX);
	bufferevent_set_timeouts(client->buffer, NULL, &write_timeout);
	bufferevent_enable(client->buffer, EV_READ | EV_WRITE);
	if (server->client_count > PROTOCOL_CLIENTS_MAX) {
		client_send_error(client, "too many clients");
		client_finish(client);
	}
}

/* Who may connect: the mode of the socket decides. */
static int restrict_access(const char *path)
{
	const struct group *group = getgrnam(PROTOCOL_GROUP);

	if (group && chown(path, 0, group->gr_gid))
		return -errno;
	return chmod(path, group ? 0660 : 0600) ? -errno : 0;
}

int server_open(struct event_base *base, const char *path, server_handler handler, void *argument,
		struct server **ret_server)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct server *server;
	mode_t old_mask;
	int result;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	unlink(path);
	/* Closed to all until restrict_access() opens it. */
	old_mask = umask(0177);
	result = bind(fd, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
	umask(old_mask);
	if (!result)
		result = restrict_access(path);
	if (result)
		return result;
	server = calloc(1, sizeof(*server));
	if (!server)
		return -ENOMEM;
	strcpy(server->path, path);
	server->handler = handler;
	server->argument = argument;
	LIST_INIT(&server->clients);
	server->listener = evconnlistener_new(base, on_connection, server, LEV_OPT_CLOSE_ON_FREE,
					      LISTEN_BACKLOG, fd);
	if (!server->listener) {
		free(server);
		return -ENOMEM;
	}
	take_descriptor(&fd);
	*ret_server = server;
	return 0;
}

void server_close(struct server *server)
{
	if (!server)
		return;
	while (!LIST_EMPTY(&server->clients))
		client_free(LIST_FIRST(&server->clients));
	evconnlistener_free(server->listener);
	unlink(server->path);
	free(server);
}

void server_follow(struct client *client, enum server_stream stream)
{
	client->streams |= stream;
}

bool server_followed(const struct server *server, enum server_stream stream)
{
	const struct client *client;

	LIST_FOREACH(client, &server->clients, entry)
		if (client->streams & stream)
			return true;
	return false;
}

void server_publish(struct server *server, enum server_stream stream, const json_t *object)
{
	struct client *client, *next;

	for (client = LIST_FIRST(&server->clients); client; client = next) {
		next = LIST_NEXT(client, entry);
		if (!(client->streams & stream) || client->closing)
			continue;
		client_send(client, object);
		if (evbuffer_get_length(bufferevent_get_output(client->buffer)) > PROTOCOL_BACKLOG_MAX)
			client_free(client);
	}
}
