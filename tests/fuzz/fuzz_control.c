// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: any bytes on the control socket, in pieces.
 *
 * The real server and the real requests, over a UNIX socket and an event loop; below the requests
 * stands no kernel but the stand-ins at the end of this file, which answer simple things. Whatever
 * a client sends: every line gets exactly one answer, each a valid one; what changes the guard
 * comes from root only; and another client is served as if nothing were.
 *
 * An input is a byte of enum manner, a byte that says how long the pieces are (0: all at once), and
 * what the client sends.
 */
#include "input.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <connguard/protocol.h>

#include "base/cleanup.h"
#include "connguardd/daemon.h"
#include "edge/holders.h"
#include "edge/links.h"
#include "edge/view.h"
#include "pure/address_text.h"

/* How the client behaves: bits of the first byte. */
enum manner {
	MANNER_NOBODY = 1,   /* it is not root */
	MANNER_LAZY = 2,     /* it reads nothing before it has sent everything */
	MANNER_GONE = 4,     /* it hangs up without reading */
	MANNER_PUBLISH = 8,  /* something is published after each of its pieces */
	MANNER_FLOOD = 16,   /* more is published at the end than a slow reader may leave waiting */
	MANNER_CROWD = 32,   /* others like it take all their places before it comes, and are idle or follow */
	MANNER_ENDS = 64,    /* it shuts its side down at once: what it sent is answered all the same */
};

/* The user `nobody`, who cannot be root. */
#define NOBODY 65534
#define PIECE_UNIT 16
/* Passes of the loop without a byte from the server after which it has nothing left to say. */
#define QUIET_PASSES 5
/* After so many of them what waits for a disk is written. */
#define RELEASE_PASSES 2
/* Passes after which it would never come to rest. */
#define PASSES_MAX 100000
/* Three of these are more than PROTOCOL_BACKLOG_MAX and what a socket takes. */
#define FLOOD_BYTES (700 * 1024)

static struct event_base *base;
static struct server *server;
static struct daemon guarded;
static char directory[88], path[108];
/* Whether the client whose requests come now is root. */
static bool root_asks;
static size_t handled;
/* Answers that wait: the last ticket, and whether it is yet to be released. */
static __u64 ticket;
static bool holding;

/* One end of a connection, and what came out of it. */
struct connection {
	int fd;
	bool ended;       /* the server has hung up */
	char *text;       /* what came and is not a whole line yet */
	size_t length, capacity;
	size_t answers, published;
};

/* Another client, there from the beginning. */
static struct connection *bystander;

/* What was sent, as the protocol's header counts it. */
struct expectation {
	size_t answers;
	bool cut_off;     /* after a line that is too long nothing is read any more */
	size_t line_length;
};

/* ---- the client ------------------------------------------------------------------------------ */

static void cleanup(void)
{
	server_close(server);
	event_base_free(base);
	rmdir(directory);
}

/* As the daemon does, and a check that the server let the request through rightly. */
static int handle(const struct server_request *request, json_t **ret_result, char *ret_error,
		  size_t error_size, void *argument)
{
	static const struct {
		const char *name;
		bool changes;
	} requests[] = {
#define REQUEST_ROW(request, changes, arguments) { #request, changes },
		PROTOCOL_REQUESTS(REQUEST_ROW)
#undef REQUEST_ROW
	};
	const json_t *protocol = json_object_get(request->arguments, "protocol");
	bool known = false;

	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		if (strcmp(requests[i].name, request->name))
			continue;
		known = true;
		must(root_asks || !requests[i].changes);
	}
	must(known);
	must(json_is_integer(protocol) && json_integer_value(protocol) == PROTOCOL_VERSION);
	handled++;
	return requests_handle(request, ret_result, ret_error, error_size, argument);
}

static void begin(void)
{
	const char *parent = getenv("TMPDIR");

	snprintf(directory, sizeof(directory), "%.70s/cgt-fuzz-XXXXXX", parent ? parent : "/tmp");
	must(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/control.sock", directory);
	base = event_base_new();
	must(base);
	/* As the daemon does. */
	signal(SIGPIPE, SIG_IGN);
	guarded.base = base;
	must(!server_open(base, path, handle, &guarded, &server));
	guarded.server = server;
	atexit(cleanup);
}

/*
 * The user that the other end is told of. Of this thread alone, which is cheaper than what libc
 * does and enough for the kernel. Access to files stays root's: the mode of the socket would keep
 * anybody else out, and that is not what is tested.
 */
static void become(uid_t user)
{
	must(!syscall(SYS_setresuid, -1, user, -1));
	syscall(SYS_setfsuid, 0);
}

static struct connection *connection_new(bool root)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct connection *connection = calloc(1, sizeof(*connection));
	bool other = !root && geteuid() == 0;

	must(connection);
	strcpy(address.sun_path, path);
	connection->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	must(connection->fd >= 0);
	if (other)
		become(NOBODY);
	must(!connect(connection->fd, (struct sockaddr *)&address, sizeof(address)));
	if (other)
		become(0);
	return connection;
}

static void connection_free(struct connection *connection)
{
	close(connection->fd);
	free(connection->text);
	free(connection);
}

/* One line from the server: an answer as protocol.h has it, or something that was published. */
static void take_line(struct connection *connection, const char *line, size_t length)
{
	json_t *object = json_loadb(line, length, JSON_REJECT_DUPLICATES, NULL);
	const json_t *ok = json_object_get(object, "ok");

	must(json_is_object(object));
	if (!ok) {
		must(json_object_get(object, "published"));
		connection->published++;
	} else if (json_is_true(ok)) {
		must(json_object_get(object, "result"));
		connection->answers++;
	} else {
		must(json_is_false(ok));
		must(json_string_length(json_object_get(object, "error")) > 0);
		connection->answers++;
	}
	json_decref(object);
}

/* Read what there is. Returns whether something came. */
static bool take(struct connection *connection)
{
	char piece[65536], *newline;
	ssize_t got = recv(connection->fd, piece, sizeof(piece), MSG_DONTWAIT);
	size_t used = 0;

	if (got <= 0) {
		connection->ended |= got == 0 || (errno != EAGAIN && errno != EINTR);
		return false;
	}
	if (connection->length + (size_t)got > connection->capacity) {
		connection->capacity = 2 * (connection->length + (size_t)got);
		connection->text = realloc(connection->text, connection->capacity);
		must(connection->text);
	}
	memcpy(connection->text + connection->length, piece, (size_t)got);
	connection->length += (size_t)got;
	while ((newline = memchr(connection->text + used, '\n', connection->length - used))) {
		size_t length = (size_t)(newline - connection->text) - used;

		take_line(connection, connection->text + used, length);
		used += length + 1;
	}
	memmove(connection->text, connection->text + used, connection->length - used);
	connection->length -= used;
	return true;
}

/* For event_base_foreach_event(): 1 at a timer that is over: a request waits for its turn. */
static int is_over(const struct event_base *of_base, const struct event *event, void *argument)
{
	struct timeval when, now;

	(void)of_base;
	(void)argument;
	gettimeofday(&now, NULL);
	return event_pending(event, EV_TIMEOUT, &when) && !timercmp(&when, &now, >);
}

/* Run the loop until the server has nothing left to do; read from `connection` unless NULL. */
static void settle(struct connection *connection)
{
	int quiet = 0, passes = 0;

	while (quiet < QUIET_PASSES) {
		must(passes++ < PASSES_MAX);
		event_base_loop(base, EVLOOP_NONBLOCK);
		if ((connection && take(connection)) ||
		    event_base_foreach_event(base, is_over, NULL))
			quiet = 0;
		else
			quiet++;
		if (quiet == RELEASE_PASSES && holding) {
			holding = false;
			server_release(server, ticket, "not_kept", ticket % 4 ? NULL : "a text");
			quiet = 0;
		}
	}
}

/* Send it all; what the server does not take while we do not read is given up. */
static size_t give(struct connection *connection, const void *bytes, size_t size, bool lazy)
{
	size_t sent = 0;
	int stuck = 0;

	while (sent < size && !connection->ended && stuck < 2) {
		ssize_t taken = send(connection->fd, (const char *)bytes + sent, size - sent,
				     MSG_NOSIGNAL | MSG_DONTWAIT);

		if (taken > 0) {
			sent += (size_t)taken;
			stuck = 0;
		} else if (errno == EAGAIN) {
			stuck++;
		} else {
			break;
		}
		settle(lazy ? NULL : connection);
	}
	return sent;
}

/* Count the lines that have to be answered. */
static void expect(struct expectation *expected, const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size && !expected->cut_off; i++) {
		bool end = bytes[i] == '\n';

		if (!end)
			expected->line_length++;
		if (expected->line_length >= PROTOCOL_REQUEST_MAX)
			expected->cut_off = true;
		if (end || expected->cut_off) {
			expected->answers++;
			expected->line_length = 0;
		}
	}
}

/* The server still serves: one request of another client, one answer. */
static void check_bystander(void)
{
	static const char request[] = "{\"protocol\":1,\"request\":\"status\"}\n";
	size_t answers = bystander->answers, before = handled;

	root_asks = geteuid() == 0;
	must(give(bystander, request, strlen(request), false) == strlen(request));
	must(bystander->answers == answers + 1);
	must(handled == before + 1);
	must(bystander->published == 0 && !bystander->ended);
}

static void publish(enum server_stream stream, size_t bytes)
{
	cleanup_free char *filler = malloc(bytes + 1);
	json_t *object;

	if (!server_followed(server, stream))
		return;
	must(filler);
	memset(filler, 'x', bytes);
	filler[bytes] = '\0';
	object = json_pack("{s:s}", "published", filler);
	must(object);
	server_publish(server, stream, object);
	json_decref(object);
}

static void converse(const uint8_t *data, size_t size, unsigned int manner, size_t piece)
{
	bool lazy = manner & (MANNER_LAZY | MANNER_GONE), flooded = false;
	struct expectation expected = {};
	struct connection *client;
	size_t sent = 0, given = 1;

	root_asks = !(manner & MANNER_NOBODY) && geteuid() == 0;
	client = connection_new(root_asks);
	settle(NULL);
	if (manner & MANNER_ENDS) {
		ssize_t taken = send(client->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);

		sent = taken < 0 ? 0 : (size_t)taken;
		expect(&expected, data, sent);
		given = 0;
		shutdown(client->fd, SHUT_WR);
	}
	while (sent < size && given) {
		size_t length = piece && piece < size - sent ? piece : size - sent;

		given = give(client, data + sent, length, lazy);
		expect(&expected, data + sent, given);
		sent += given;
		if (manner & MANNER_PUBLISH) {
			publish(STREAM_EVENTS, 1);
			publish(STREAM_DUE, 1);
			settle(lazy ? NULL : client);
		}
	}
	if (manner & MANNER_FLOOD) {
		flooded = server_followed(server, STREAM_EVENTS);
		for (int i = 0; i < 3; i++)
			publish(STREAM_EVENTS, FLOOD_BYTES);
		/* Nobody read, so whoever followed was cut off, or is being hung up on anyway. */
		must(!server_followed(server, STREAM_EVENTS) || expected.cut_off);
	}
	if (!(manner & MANNER_GONE)) {
		settle(client);
		must(client->answers <= expected.answers);
		if (!flooded) {
			must(client->answers == expected.answers);
			must(!client->length);
			must(client->ended == (expected.cut_off || manner & MANNER_ENDS));
		}
		shutdown(client->fd, SHUT_WR);
		settle(client);
		must(client->ended);
	}
	connection_free(client);
	settle(NULL);
	must(!server_followed(server, STREAM_EVENTS) && !server_followed(server, STREAM_DUE));
}

/*
 * With all places taken the one that has been idle for the longest makes room, and is told so. Where all others
 * follow something a further client gets one error and is hung up on, whatever it sends. Those who are not root
 * cannot take all places: then the bystander, who is root if we are, shows that root is served.
 */
static void crowded(const uint8_t *data, size_t size, bool readers)
{
	static const uint8_t follow[] = "{\"protocol\": 1, \"request\": \"events\", \"follow\": true}\n";
	struct connection *crowd[PROTOCOL_CLIENTS_MAX], *client;
	bool root = geteuid() == 0, all_follow = root && readers;
	int i, places;

	if (root && readers)
		places = PROTOCOL_READERS_MAX;
	else if (root)
		places = PROTOCOL_CLIENTS_MAX - 1;
	else
		places = PROTOCOL_READERS_MAX - 1;
	for (i = 0; i < places; i++) {
		crowd[i] = connection_new(root && !readers);
		settle(NULL);
		if (!all_follow)
			continue;
		give(crowd[i], follow, sizeof(follow) - 1, true);
		settle(crowd[i]);
		must(crowd[i]->answers == 1 && !crowd[i]->ended);
	}
	/* It is not idle for the longest. */
	check_bystander();
	client = connection_new(root && !readers);
	settle(NULL);
	if (!all_follow) {
		settle(crowd[0]);
		must(crowd[0]->answers == 1 && crowd[0]->ended);
	}
	give(client, data, size, true);
	settle(client);
	must(!all_follow || (client->answers == 1 && client->ended));
	connection_free(client);
	check_bystander();
	for (i = 0; i < places; i++) {
		if (i || all_follow) {
			settle(crowd[i]);
			must(!crowd[i]->ended);
		}
		connection_free(crowd[i]);
	}
	settle(NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { .next = data, .left = size };
	unsigned int manner = input_byte(&input);
	size_t piece = input_byte(&input) * PIECE_UNIT;

	if (!base)
		begin();
	if (!bystander) {
		bystander = connection_new(geteuid() == 0);
		settle(NULL);
	}
	if (manner & MANNER_CROWD)
		crowded(input.next, input.left, manner & MANNER_NOBODY);
	else
		converse(input.next, input.left, manner, piece);
	check_bystander();
	return 0;
}

/* ---- in place of the kernel, and of the rest of the daemon ----------------------------------- */

/* The one peer that there is: 192.0.2.7, at one service. */
static const struct peer_address known = { .bytes = { [10] = 0xff, [11] = 0xff, 192, 0, 2, 7 },
					   .service = 24000 };

/* Of what the map shows, its own service included; of what a person names, at every service. */
int guard_command(const struct guard *guard, const struct guard_command *command)
{
	(void)guard;
	must(command->operation == COMMAND_KICK || command->operation == COMMAND_LIMIT ||
	     command->operation == COMMAND_ALLOW || command->operation == COMMAND_FORGET);
	must(root_asks);
	must(command->operation != COMMAND_LIMIT || command->value <= PEER_LINKS_MAX);
	return address_equal(&command->address, &known) ? 0 : -ENOENT;
}

int guard_command_host(const struct guard *guard, const struct guard_command *command)
{
	struct guard_command one = *command;

	must(!command->address.service);
	one.address.service = known.service;
	return guard_command(guard, &one);
}

const struct state *decisions_state(const struct daemon *daemon)
{
	static const struct state nothing;

	(void)daemon;
	return &nothing;
}

/* Nothing can be kept of what the one peer that there is is allowed. */
static const char *kept(const char *by, bool can_be)
{
	must(root_asks);
	must(state_by_valid(by));
	return can_be ? NULL : "a text";
}

const char *decisions_mode(struct daemon *daemon, const char *by)
{
	(void)daemon;
	return kept(by, true);
}

const char *decisions_limit(struct daemon *daemon, const struct peer_address *address, __u32 limit, const char *by)
{
	(void)daemon;
	must(!address->service && limit <= PEER_LINKS_MAX);
	return kept(by, true);
}

const char *decisions_allow(struct daemon *daemon, enum state_kind kind, const struct exempt_prefix *prefix,
			    bool for_good, const char *by)
{
	(void)daemon;
	(void)for_good;
	must(kind == STATE_ALLOW_PREFIX ? prefix->prefix_length <= 128 :
					  kind == STATE_ALLOW_PEER && prefix->prefix_length == 128);
	return kept(by, kind == STATE_ALLOW_PREFIX);
}

/* Each second one is no sooner kept than nothing else happens. */
__u64 decisions_pending(const struct daemon *daemon)
{
	(void)daemon;
	must(root_asks);
	holding = ++ticket % 2 == 0 || holding;
	return ticket % 2 ? 0 : ticket;
}

void decisions_forget(struct daemon *daemon, const struct peer_address *address)
{
	(void)daemon;
	must(root_asks && !address->service);
}

int guard_kick_all(const struct guard *guard, size_t *ret_kicked)
{
	(void)guard;
	must(root_asks);
	*ret_kicked = 1;
	return 0;
}

int guard_forget_idle(const struct guard *guard, size_t *ret_forgotten)
{
	(void)guard;
	must(root_asks);
	*ret_forgotten = 1;
	return 0;
}

int guard_exempt_write(const struct guard *guard, const struct exempt_prefix *prefix,
		       const struct exempt_value *value)
{
	(void)guard;
	must(root_asks);
	must(prefix->prefix_length <= 128);
	must(value->until_ns && !value->configured);
	return prefix->prefix_length == 128 ? -ENOSPC : 0;
}

int guard_exempt_delete(const struct guard *guard, const struct exempt_prefix *prefix)
{
	(void)guard;
	must(root_asks);
	must(prefix->prefix_length <= 128);
	return prefix->prefix_length == 128 ? -ENOENT : 0;
}

int links_cut(const struct guard *guard, struct sockets *sockets,
	      const struct peer_address *address, int *ret_missing)
{
	(void)guard;
	(void)sockets;
	must(root_asks);
	if (!address_same_host(address, &known))
		return -ENOENT;
	*ret_missing = 0;
	return 1;
}

int holders_recent(struct holders *holders, const struct guard *guard, struct sockets *sockets, const __u16 *ports,
		   size_t port_count, const struct socket_holder **ret_holders, size_t *ret_count)
{
	(void)holders;
	(void)guard;
	(void)sockets;
	(void)ports;
	(void)port_count;
	(void)ret_holders;
	(void)ret_count;
	return -EACCES;
}

int daemon_reload(struct daemon *daemon, char *ret_error, size_t error_size)
{
	must(daemon == &guarded);
	must(root_asks);
	snprintf(ret_error, error_size, "there is no file");
	return -ENOENT;
}

size_t happenings_recent(const struct daemon *daemon, struct guard_event *ret_events)
{
	must(daemon == &guarded);
	ret_events[0] = (struct guard_event){ .address = known, .cause = CAUSE_dial_linked };
	return 1;
}

const struct census *reconcile_census(const struct daemon *daemon)
{
	(void)daemon;
	return NULL;
}

void reconcile_now(struct daemon *daemon, bool again)
{
	(void)daemon;
	must(root_asks && !again);
}

void room_make(struct daemon *daemon, const struct peer_address *address)
{
	(void)daemon;
	(void)address;
	must(root_asks);
}

void upkeep_count_losses(struct daemon *daemon)
{
	must(daemon == &guarded);
}

size_t problems_list(const struct daemon *daemon, const char *ret_texts[PROBLEM_COUNT])
{
	must(daemon == &guarded);
	ret_texts[0] = "something is wrong";
	return 1;
}

const char *places_waits_for(const struct daemon *daemon)
{
	must(daemon == &guarded);
	return NULL;
}

static int answer(const struct view_origin *origin, const char *kind, json_t **ret_document)
{
	*ret_document = json_pack("{s:s?, s:s, s:b}", "name", origin->name, "kind", kind, "holders",
				  origin->holder_count != 0);
	return *ret_document ? 0 : -ENOMEM;
}

int view_status(const struct guard *guard, const struct view_origin *origin, json_t **ret_document)
{
	(void)guard;
	must(origin->problem_count == 1);
	return answer(origin, "status", ret_document);
}

int view_peers(const struct guard *guard, const struct view_origin *origin, json_t **ret_document)
{
	(void)guard;
	return answer(origin, "peers", ret_document);
}

int view_due(const struct guard *guard, const struct view_origin *origin, json_t **ret_document)
{
	(void)guard;
	(void)origin;
	(void)ret_document;
	return -EIO;
}

int view_explain(const struct guard *guard, const struct view_origin *origin,
		 const struct peer_address *address, json_t **ret_document)
{
	char text[ADDRESS_TEXT_MAX];

	(void)guard;
	must(origin->event_count <= HISTORY_LENGTH);
	return answer(origin, address_to_text(address, text), ret_document);
}

json_t *view_events(const struct view_origin *origin)
{
	return json_pack("{s:I}", "events", (json_int_t)origin->event_count);
}
