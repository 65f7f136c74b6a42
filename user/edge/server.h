/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control socket: clients, lines, limits.
 *
 * Owns the UNIX socket, the framing of include/connguard/protocol.h and who may ask for what; knows
 * nothing of what a request means (the handler does) nor of guards. One event loop, never blocks: a
 * slow client waits in its own buffer, and beyond a bound it is cut off; one that does nothing makes room for others. Functions return 0 or a
 * negative errno.
 */
#ifndef EDGE_SERVER_H
#define EDGE_SERVER_H

#include <stdbool.h>
#include <stddef.h>

#include <event2/event.h>
#include <jansson.h>
#include <linux/types.h>

struct server;
struct client;

/* What a client can follow. */
enum server_stream {
	STREAM_EVENTS = 1,
	STREAM_DUE = 2,
};

/* A request that the server has let through: known, and allowed to this client. */
struct server_request {
	const char *name;      /* of PROTOCOL_REQUESTS */
	json_t *arguments;     /* the whole object; borrowed */
	struct client *client; /* for server_follow() */
};

/*
 * Answer a request: 0 and *ret_result (a new reference), or a negative errno and a text for a
 * person in ret_error.
 */
typedef int (*server_handler)(const struct server_request *request, json_t **ret_result,
			      char *ret_error, size_t error_size, void *argument);

/*
 * Listen at `path`, which root and the group PROTOCOL_GROUP may connect to (root alone where there
 * is no such group). A stale socket of a dead daemon is replaced; the caller makes sure there is no
 * live one.
 */
int server_open(struct event_base *base, const char *path, server_handler handler, void *argument,
		struct server **ret_server);

/* Hang up on everybody and remove the socket. NULL is allowed. */
void server_close(struct server *server);

/*
 * The answer to the request in hand, if it is no error, waits for server_release() with this ticket (not 0) or a later
 * one. Until then the client's further requests wait, and nobody else's.
 */
void server_hold(struct client *client, __u64 ticket);

/*
 * Send the answers that wait for tickets up to this one. `text`: as the member `name` beside what they say, where that
 * is an object; NULL: as they are.
 */
void server_release(struct server *server, __u64 ticket, const char *name, const char *text);

/* The client gets this stream after the answer to the request in hand. */
void server_follow(struct client *client, enum server_stream stream);

/* 1 when anybody follows the stream: nothing need be made for nobody. */
bool server_followed(const struct server *server, enum server_stream stream);

/* Send one object to every follower of the stream. The object stays the caller's. */
void server_publish(struct server *server, enum server_stream stream, const json_t *object);

#endif
