/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `connguard peers` and `connguard explain ADDRESS [PORT]`: where each peer stands, and why.
 *
 * Without a daemon both also look up who holds the sockets; with one, the daemon did.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "connguard/cli.h"
#include "connguard/reach.h"
#include "connguard/render.h"
#include "edge/holders.h"

/*
 * Who holds the guard's sockets. Best effort: without it a document says less, so a failure is not
 * one of the command. *ret_holders is the caller's to free().
 */
static void find_holders(const struct cli *cli, const struct guard *guard,
			 struct socket_holder **ret_holders, size_t *ret_count)
{
	struct sockets *sockets = NULL;
	__u16 ports[GUARD_PORTS_MAX];
	struct guard_policy policy;
	size_t port_count = 0;

	if (guard_policy_read(guard, &policy) || !reach_guarded_netns(cli, &policy) ||
	    guard_ports_read(guard, ports, GUARD_PORTS_MAX, &port_count) ||
	    sockets_open(&sockets))
		return;
	holders_read(guard, sockets, ports, port_count, ret_holders, ret_count);
	sockets_close(sockets);
}

/*
 * A document of one peer (`address`) or of all (NULL), from the maps. NULL after having said why.
 */
static json_t *from_maps(const struct cli *cli, const struct peer_address *address)
{
	cleanup_maps struct guard *guard = reach_maps(cli);
	cleanup_free struct socket_holder *holders = NULL;
	struct view_origin origin = { .name = cli->name };
	json_t *document = NULL;
	int error;

	if (!guard)
		return NULL;
	find_holders(cli, guard, &holders, &origin.holder_count);
	origin.holders = holders;
	origin.now = clock_now_ns();
	error = address ? view_explain(guard, &origin, address, &document) :
			  view_peers(guard, &origin, &document);
	if (error == -ENOENT && address)
		complain("guard '%s' has no port %u", cli->name, address->service);
	else if (error)
		complain("reading the pinned maps: %s", strerror(-error));
	else
		reach_say_maps(cli);
	return document;
}

int command_peers(struct cli *cli)
{
	cleanup_document json_t *document = NULL;

	switch (reach_daemon(cli, json_pack("{s:s}", "request", "peers"), &document)) {
	case REACH_DONE:
		break;
	case REACH_FAILED:
		return CLI_FAILED;
	case REACH_ABSENT:
		document = from_maps(cli, NULL);
		if (!document)
			return CLI_FAILED;
	}
	return reach_show(cli, document, render_peers);
}

int command_explain(struct cli *cli)
{
	cleanup_document json_t *document = NULL;
	struct peer_address address;
	json_t *request;
	int status;

	if (!argument_address(cli->arguments[0], &address) ||
	    (cli->argument_count == 2 && !argument_port(cli->arguments[1], &address.service)))
		return CLI_USAGE;
	request = json_pack("{s:s, s:s, s:o*}", "request", "explain", "address", cli->arguments[0],
			    "port", address.service ? json_integer(address.service) : NULL);
	switch (reach_daemon(cli, request, &document)) {
	case REACH_DONE:
		break;
	case REACH_FAILED:
		return CLI_FAILED;
	case REACH_ABSENT:
		document = from_maps(cli, &address);
		if (!document)
			return CLI_FAILED;
	}
	status = reach_show(cli, document, render_explain);
	if (status == CLI_FINE && json_is_true(json_object_get(document, "refused")))
		status = CLI_REFUSED;
	return status;
}
