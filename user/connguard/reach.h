/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The two ways to a guard: its daemon first, its pinned maps when there is none.
 *
 * Owns the choice between them and what is said when neither works. Knows nothing of what is asked.
 */
#ifndef CONNGUARD_REACH_H
#define CONNGUARD_REACH_H

#include "connguard/cli.h"
#include "connguard/client.h"

enum reach {
	REACH_DONE,   /* the daemon answered */
	REACH_ABSENT, /* no daemon answers: try the maps */
	REACH_FAILED, /* the daemon refused, or may not be asked; said */
};

/* Ask the daemon. The request is taken over. REACH_DONE: *ret_result is the caller's. */
enum reach reach_daemon(const struct cli *cli, json_t *request, json_t **ret_result);

/*
 * The same, and keep the connection for the stream that follows. *ret_client is the caller's with
 * REACH_DONE: client_close().
 */
enum reach reach_stream(const struct cli *cli, json_t *request, json_t **ret_result,
			struct client **ret_client);

/* Say that what follows comes from the maps. For commands that read. */
void reach_say_maps(const struct cli *cli);

/* The pinned maps. NULL after having said why: no guard, bpffs hidden, not root, another layout. */
struct guard *reach_maps(const struct cli *cli);

/* guard_close() for a variable that goes out of scope. */
void reach_close_maps(struct guard **guard);
#define cleanup_maps __attribute__((cleanup(reach_close_maps)))

/* json_decref() and client_close() likewise. */
void reach_drop_document(json_t **document);
#define cleanup_document __attribute__((cleanup(reach_drop_document)))
void reach_close_client(struct client **client);
#define cleanup_client __attribute__((cleanup(reach_close_client)))

/*
 * Enter the guarded network namespace (policy->netns_cookie; 0: any will do): the sockets that the
 * maps speak of are there. It is the caller's own, the one that the guard's configuration file
 * names, or one of those in /run/netns. False: none of these; the thread may be in another
 * namespace then.
 */
bool reach_guarded_netns(const struct cli *cli, const struct guard_policy *policy);

/* The document as text (by `text`) or, with --json, as it is. Returns CLI_FINE. */
int reach_show(const struct cli *cli, const json_t *document, void (*text)(const json_t *document));

#endif
