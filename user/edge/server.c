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

#include <connguard/protocol.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/printable.h"

#define LISTEN_BACKLOG 16
/* Bytes of an error's text, NUL included. */
#define ERROR_MAX 1280
/* A client that neither reads nor hangs up for this long is cut off. */
#define WRITE_TIMEOUT_SECONDS 30
/*
 * Bytes that one client is given in a pass of the loop: more than the events of a pass make, so that a
 * burst of them waits for the follower and not for us.
 */
#define WRITE_STEP (128 * 1024)

struct client {
	LIST_ENTRY(client) entry;
	TAILQ_ENTRY(client) turn; /* in server.turns while `queued` */
	struct server *server;
	struct bufferevent *buffer;
	struct event *patience;   /* pending while half a request is there and nothing else */
	uid_t user;
	__u64 active_ns;  /* when it came, or was last answered */
	bool root;
	bool queued;      /* has a whole request that waits for its turn */
	bool ended;       /* it will send no more; what it sent before is answered */
	bool closing;     /* hang up once the buffer is written */
	bool waiting;     /* asks faster than it reads: no further request until it has read */
	json_t *held;     /* the answer to its last request, until it is released: no further request; NULL: none */
	__u64 ticket;     /* that the answer in hand, or held, waits for; 0: none */
	unsigned streams; /* bits of enum server_stream */
};

/*
 * One request is answered in each pass of the event loop: whatever the clients send, the rest of the
 * daemon has to wait for one request at most. Root's clients come first, the others in turn.
 */
struct server {
	struct event *listener; /* readable: somebody wants to connect */
	struct event *next_turn;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	server_handler handler;
	void *argument;
	size_t client_count, reader_count; /* readers: those that are not root */
	LIST_HEAD(, client) clients;
	TAILQ_HEAD(, client) turns;
};

static const struct {
	const char *name;
	bool changes;
} requests[] = {
#define REQUEST_ROW(request, changes, arguments) { #request, changes },
	PROTOCOL_REQUESTS(REQUEST_ROW)
#undef REQUEST_ROW
};

#define REQUEST_NAME(request, changes, arguments) " " #request
static const char request_names[] = PROTOCOL_REQUESTS(REQUEST_NAME);
#undef REQUEST_NAME

static void client_free(struct client *client)
{
	LIST_REMOVE(client, entry);
	if (client->queued)
		TAILQ_REMOVE(&client->server->turns, client, turn);
	client->server->client_count--;
	client->server->reader_count -= !client->root;
	json_decref(client->held);
	event_free(client->patience);
	bufferevent_free(client->buffer);
	free(client);
}

/* Append one line and its newline to what waits for the client. */
static void client_send_line(struct client *client, const char *line, size_t length)
{
	bufferevent_write(client->buffer, line, length);
	bufferevent_write(client->buffer, "\n", 1);
}

/* What a client said may be cut in the middle of a letter here, and no JSON text may be. */
static void client_send_error(struct client *client, const char *text)
{
	cleanup_free char *line = NULL;
	char plain[ERROR_MAX];
	json_t *answer;

	snprintf(plain, sizeof(plain), "%s", text);
	answer = json_pack("{s:b, s:s}", "ok", 0, "error", text_make_printable(plain));
	line = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
	if (line)
		client_send_line(client, line, strlen(line));
	json_decref(answer);
}

/* The answer to a request that was carried out; takes `result` over, NULL: there is none. */
static void client_send_result(struct client *client, json_t *result)
{
	json_t *answer = json_pack("{s:b, s:o}", "ok", 1, "result", result ? result : json_null());
	cleanup_free char *line = answer ? json_dumps(answer, JSON_COMPACT) : NULL;

	json_decref(answer);
	if (!line)
		client_send_error(client, strerror(ENOMEM));
	else if (strlen(line) >= PROTOCOL_ANSWER_MAX)
		client_send_error(client, "the answer is longer than an answer may be");
	else
		client_send_line(client, line, strlen(line));
}

/* Bytes that wait to be read by all clients together. */
static size_t unread_bytes(const struct server *server)
{
	const struct client *client;
	size_t bytes = 0;

	LIST_FOREACH(client, &server->clients, entry)
		bytes += evbuffer_get_length(bufferevent_get_output(client->buffer));
	return bytes;
}

/* No more requests; hang up when what was answered is written. May free the client. */
static void client_finish(struct client *client)
{
	client->closing = true;
	bufferevent_disable(client->buffer, EV_READ);
	if (!evbuffer_get_length(bufferevent_get_output(client->buffer)))
		client_free(client);
}

static void answer_line(struct client *client, const char *line, size_t length)
{
	struct server_request request = { .client = client };
	char error[ERROR_MAX] = "";
	json_t *result = NULL;
	json_error_t problem;
	json_int_t protocol;
	int outcome;
	size_t i;

	json_t *object = json_loadb(line, length, JSON_REJECT_DUPLICATES, &problem);

	if (!object) {
		snprintf(error, sizeof(error), "not JSON: %.160s (byte %d); a request is one JSON object a line",
			 problem.text, problem.position);
		client_send_error(client, error);
		goto out;
	}
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
		snprintf(error, sizeof(error), "unknown request '%.64s', expected one of:%s", request.name,
			 request_names);
		client_send_error(client, error);
		goto out;
	}
	if (requests[i].changes && !client->root) {
		snprintf(error, sizeof(error), "'%s' changes the guard: only root may", request.name);
		client_send_error(client, error);
		goto out;
	}
	if (!client->root && unread_bytes(client->server) > PROTOCOL_UNREAD_MAX) {
		client_send_error(client, "too many answers wait to be read: try again");
		goto out;
	}
	request.arguments = object;
	outcome = client->server->handler(&request, &result, error, sizeof(error),
					  client->server->argument);
	if (outcome) {
		client->ticket = 0;
		client_send_error(client, *error ? error : strerror(-outcome));
	} else if (client->ticket) {
		client->held = result ? result : json_null();
	} else {
		client_send_result(client, result);
	}
out:
	json_decref(object);
}

static void too_long(struct client *client)
{
	char text[64];

	snprintf(text, sizeof(text), "the request is longer than %d bytes", PROTOCOL_REQUEST_MAX);
	client_send_error(client, text);
	client_finish(client);
}

/* Root before the others, and of two the one that came first. */
static void take_turn(struct server *server, struct client *client)
{
	struct client *other = TAILQ_FIRST(&server->turns);

	while (client->root && other && other->root)
		other = TAILQ_NEXT(other, turn);
	if (client->root && other)
		TAILQ_INSERT_BEFORE(other, client, turn);
	else
		TAILQ_INSERT_TAIL(&server->turns, client, turn);
}

/*
 * What lies in the input: a request, which gets in the queue, or a part of one, or too much. May free
 * the client.
 */
static void client_look(struct client *client)
{
	const struct timeval patience = { .tv_sec = PROTOCOL_REQUEST_SECONDS };
	struct evbuffer *input = bufferevent_get_input(client->buffer);
	struct server *server = client->server;

	if (client->closing || client->waiting || client->queued || client->held)
		return;
	if (evbuffer_search_eol(input, NULL, NULL, EVBUFFER_EOL_LF).pos >= 0) {
		evtimer_del(client->patience);
		take_turn(server, client);
		client->queued = true;
		evtimer_add(server->next_turn, &(const struct timeval){ 0 });
	} else if (evbuffer_get_length(input) >= PROTOCOL_REQUEST_MAX) {
		too_long(client);
	} else if (client->ended) {
		client_finish(client);
	} else if (!evbuffer_get_length(input)) {
		evtimer_del(client->patience);
	} else if (!evtimer_pending(client->patience, NULL)) {
		evtimer_add(client->patience, &patience);
	}
}

/* Who is to wait is not read from: libevent would say again and again that there is more than it may read. */
static void read_or_not(struct client *client)
{
	if (client->waiting || client->held || client->ended)
		bufferevent_disable(client->buffer, EV_READ);
	else
		bufferevent_enable(client->buffer, EV_READ);
}

/* Answer the request whose turn it is. */
static void on_turn(evutil_socket_t fd, short what, void *argument)
{
	struct server *server = argument;
	struct client *client = TAILQ_FIRST(&server->turns);
	cleanup_free char *line = NULL;
	size_t length = 0;

	(void)fd;
	(void)what;
	if (!client)
		return;
	TAILQ_REMOVE(&server->turns, client, turn);
	client->queued = false;
	line = evbuffer_readln(bufferevent_get_input(client->buffer), &length, EVBUFFER_EOL_LF);
	if (!line) {
		/* It was there: memory ran out. */
		client_free(client);
	} else if (length >= PROTOCOL_REQUEST_MAX) {
		too_long(client);
	} else {
		answer_line(client, line, length);
		client->active_ns = clock_now_ns();
		client->waiting = evbuffer_get_length(bufferevent_get_output(client->buffer)) > PROTOCOL_BACKLOG_MAX;
		read_or_not(client);
		client_look(client);
	}
	if (!TAILQ_EMPTY(&server->turns))
		evtimer_add(server->next_turn, &(const struct timeval){ 0 });
}

static void on_readable(struct bufferevent *buffer, void *argument)
{
	(void)buffer;
	client_look(argument);
}

static void on_written(struct bufferevent *buffer, void *argument)
{
	struct client *client = argument;

	(void)buffer;
	if (client->closing) {
		client_free(client);
	} else if (client->waiting) {
		client->waiting = false;
		read_or_not(client);
		client_look(client);
	}
}

/* The client sends no more, or is gone altogether: writing to it will tell. */
static void on_closed(struct bufferevent *buffer, short what, void *argument)
{
	struct client *client = argument;

	if (!(what & BEV_EVENT_EOF)) {
		client_free(client);
		return;
	}
	client->ended = true;
	bufferevent_disable(buffer, EV_READ);
	client_look(client);
}

static void on_patience_over(evutil_socket_t fd, short what, void *argument)
{
	struct client *client = argument;
	char text[96];

	(void)fd;
	(void)what;
	snprintf(text, sizeof(text), "the request did not come to its end within %d s",
		 PROTOCOL_REQUEST_SECONDS);
	client_send_error(client, text);
	client_finish(client);
}

/* Nobody is root whose credentials cannot be read. */
static uid_t user_of(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) ? (uid_t)-1 : peer.uid;
}

/* ---- room for newcomers ---- */

static size_t clients_of(const struct server *server, uid_t user)
{
	const struct client *client;
	size_t count = 0;

	LIST_FOREACH(client, &server->clients, entry)
		count += client->user == user;
	return count;
}

/* It has asked for nothing that it has not got, and follows nothing. Half a request is none. */
static bool client_is_idle(const struct client *client)
{
	return !client->queued && !client->held && !client->streams &&
	       !evbuffer_get_length(bufferevent_get_output(client->buffer));
}

/* One of a user with more clients goes first, and of two of one user the one that has long done nothing. */
static bool goes_before(const struct client *one, const struct client *other)
{
	size_t of_one = clients_of(one->server, one->user);
	size_t of_other = clients_of(other->server, other->user);

	return of_one != of_other ? of_one > of_other : one->active_ns < other->active_ns;
}

/*
 * Who of the clients that are idle, or of those that are not, goes for a newcomer of this user; NULL: nobody. Who is
 * not idle goes only where its user has two more than the newcomer's: one more for the newcomer is not one too many
 * then, and they do not take turns. Root's go for others than root only when they are idle and in their places.
 */
static struct client *who_goes(struct server *server, uid_t newcomer, bool idle)
{
	bool spare_root = newcomer && (!idle || server->reader_count >= PROTOCOL_READERS_MAX);
	size_t too_many = idle ? 1 : clients_of(server, newcomer) + 2;
	struct client *client, *found = NULL;

	LIST_FOREACH(client, &server->clients, entry)
		if (client_is_idle(client) == idle && !(client->root && spare_root) &&
		    clients_of(server, client->user) >= too_many && (!found || goes_before(client, found)))
			found = client;
	return found;
}

static bool server_is_full(const struct server *server, uid_t newcomer)
{
	return server->client_count >= PROTOCOL_CLIENTS_MAX ||
	       (newcomer && server->reader_count >= PROTOCOL_READERS_MAX);
}

/* One that does nothing, or of a user with many, is hung up on for a newcomer. */
static void make_room(struct server *server, uid_t newcomer)
{
	static const char parting[] = "{\"ok\":false,\"error\":\"too many clients: one that is idle makes room\"}\n";
	struct client *client = who_goes(server, newcomer, true);

	if (client)
		/* To one that is told something there may be half a line on its way. */
		send(bufferevent_getfd(client->buffer), parting, strlen(parting), MSG_NOSIGNAL);
	else
		client = who_goes(server, newcomer, false);
	if (client)
		client_free(client);
}

/* A client with everything that it needs, in no list yet; takes the descriptor over. Or NULL. */
static struct client *client_new(struct server *server, int fd)
{
	struct event_base *base = event_get_base(server->listener);
	struct client *client = calloc(1, sizeof(*client));

	if (client) {
		client->server = server;
		client->patience = evtimer_new(base, on_patience_over, client);
		client->buffer = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	}
	if (client && client->patience && client->buffer)
		return client;
	if (client && client->buffer)
		bufferevent_free(client->buffer);
	else
		close(fd);
	if (client && client->patience)
		event_free(client->patience);
	free(client);
	return NULL;
}

static void take_connection(struct server *server, int fd)
{
	static const char refusal[] = "{\"ok\":false,\"error\":\"too many clients\"}\n";
	const struct timeval write_timeout = { .tv_sec = WRITE_TIMEOUT_SECONDS };
	uid_t user = user_of(fd);
	struct client *client;

	if (server_is_full(server, user))
		make_room(server, user);
	if (server_is_full(server, user)) {
		/* A socket just made has room for a line. */
		send(fd, refusal, strlen(refusal), MSG_NOSIGNAL);
		close(fd);
		return;
	}
	client = client_new(server, fd);
	if (!client)
		return;
	client->user = user;
	client->root = !user;
	client->active_ns = clock_now_ns();
	LIST_INSERT_HEAD(&server->clients, client, entry);
	server->client_count++;
	server->reader_count += !client->root;
	bufferevent_setcb(client->buffer, on_readable, on_written, on_closed, client);
	bufferevent_setwatermark(client->buffer, EV_READ, 0, PROTOCOL_REQUEST_MAX);
	bufferevent_set_timeouts(client->buffer, NULL, &write_timeout);
	bufferevent_set_max_single_write(client->buffer, WRITE_STEP);
	bufferevent_enable(client->buffer, EV_READ | EV_WRITE);
}

/* As many as waited, not as many as come: a flood of connections leaves time for everything else. */
static void on_connection(evutil_socket_t listener, short what, void *argument)
{
	(void)what;
	for (int i = 0; i < LISTEN_BACKLOG; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
			return;
		take_connection(argument, fd);
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

/* The server itself; its clients and its descriptor are the caller's business. */
static void server_free(struct server *server)
{
	if (server->next_turn)
		event_free(server->next_turn);
	if (server->listener)
		event_free(server->listener);
	free(server);
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
	/* At once: who finds the socket and is refused takes the daemon for dead. */
	if (!result && listen(fd, LISTEN_BACKLOG))
		result = -errno;
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
	TAILQ_INIT(&server->turns);
	server->next_turn = evtimer_new(base, on_turn, server);
	server->listener = event_new(base, fd, EV_READ | EV_PERSIST, on_connection, server);
	if (!server->next_turn || !server->listener || event_add(server->listener, NULL)) {
		server_free(server);
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
	close(event_get_fd(server->listener));
	unlink(server->path);
	server_free(server);
}

void server_hold(struct client *client, __u64 ticket)
{
	client->ticket = ticket;
}

void server_release(struct server *server, __u64 ticket, const char *name, const char *text)
{
	struct client *client, *next;

	for (client = LIST_FIRST(&server->clients); client; client = next) {
		json_t *result = client->held;

		next = LIST_NEXT(client, entry);
		if (!result || client->ticket > ticket)
			continue;
		client->held = NULL;
		client->ticket = 0;
		if (text)
			json_object_set_new(result, name, json_string(text));
		client_send_result(client, result);
		client->active_ns = clock_now_ns();
		read_or_not(client);
		client_look(client);
	}
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
	cleanup_free char *line = json_dumps(object, JSON_COMPACT);
	struct client *client, *next;
	size_t length;

	if (!line)
		return;
	length = strlen(line);
	for (client = LIST_FIRST(&server->clients); client; client = next) {
		next = LIST_NEXT(client, entry);
		if (!(client->streams & stream) || client->closing)
			continue;
		client_send_line(client, line, length);
		if (evbuffer_get_length(bufferevent_get_output(client->buffer)) > PROTOCOL_BACKLOG_MAX)
			client_free(client);
	}
}
