/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The client's end of the control socket (connguard/protocol.h).
 *
 * Owns the connection, deadlines and the size cap. Knows nothing of what requests mean.
 */
#ifndef CONNGUARD_CLIENT_H
#define CONNGUARD_CLIENT_H

#include <stddef.h>

#include <jansson.h>

/* How long the daemon may take for an answer. */
#define CLIENT_ANSWER_SECONDS 5

/* A connection to a daemon. */
struct client;

/*
 * Connect to the daemon of the guard. *ret_client is the caller's: client_close(). -ENOENT or
 * -ECONNREFUSED: no daemon is there; -EACCES: it is, but not for us; -ETIMEDOUT.
 */
int client_open(const char *name, struct client **ret_client);

/*
 * The same on a connected stream socket, which is taken over, on failure too, and made non-blocking.
 */
int client_of_connection(int fd, struct client **ret_client);

/* NULL is allowed. */
void client_close(struct client *client);

/*
 * Send a request, {"request": ..., arguments} (taken over, NULL is -ENOMEM), and take its answer.
 * 0: *ret_result is the answer's "result" and the caller's. -EREMOTEIO: the daemon said no,
 * *ret_refusal is its text, printable, and the caller's to free(). -ETIMEDOUT; -ECONNRESET: it hung up;
 * -EPROTO: no sense in the answer; -EMSGSIZE.
 */
int client_ask(struct client *client, json_t *request, json_t **ret_result, char **ret_refusal);

/* The next object of a stream; waits for it without end. Errors as client_ask(). */
int client_next(struct client *client, json_t **ret_object);

#endif
