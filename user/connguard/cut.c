/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `connguard cut ADDRESS`: destroy a peer's links.
 *
 * The daemon does it; without one the sockets are found by the cookies in the peer's slots and
 * destroyed over sock_diag, from the network namespace that the guard is about.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "connguard/cli.h"
#include "connguard/reach.h"
#include "edge/links.h"
#include "edge/sockets.h"

static int cut_on_maps(const struct cli *cli, const struct peer_address *address, int *ret_count)
{
	cleanup_maps struct guard *guard = reach_maps(cli);
	struct sockets *sockets = NULL;
	struct guard_policy policy;
	int error, destroyed, missing;

	if (!guard)
		return CLI_FAILED;
	error = guard_policy_read(guard, &policy);
	if (error) {
		complain("reading the pinned maps: %s", strerror(-error));
		return CLI_FAILED;
	}
	if (!reach_guarded_netns(cli, &policy)) {
		complain("the links are in another network namespace: run this there "
			 "('nsenter --net=PATH connguard cut ...', not 'ip netns exec', which hides bpffs)");
		return CLI_FAILED;
	}
	error = sockets_open(&sockets);
	if (error) {
		complain("sock_diag: %s", strerror(-error));
		return CLI_FAILED;
	}
	destroyed = links_cut(guard, sockets, address, &missing);
	sockets_close(sockets);
	if (destroyed == -ENOENT) {
		complain("the guard knows no peer %s", cli->arguments[0]);
		return CLI_FAILED;
	}
	if (destroyed < 0) {
		complain("destroying a socket: %s",
			 destroyed == -EOPNOTSUPP ? "this kernel cannot (CONFIG_INET_DIAG_DESTROY)" :
						    strerror(-destroyed));
		return CLI_FAILED;
	}
	if (missing)
		complain("%d link(s) have no socket in this network namespace", missing);
	*ret_count = destroyed;
	return missing ? CLI_FAILED : CLI_FINE;
}

int command_cut(struct cli *cli)
{
	cleanup_document json_t *result = NULL;
	struct peer_address address;
	int status, count = 0;
	json_t *request;

	if (!argument_address(cli->arguments[0], &address))
		return CLI_USAGE;
	request = json_pack("{s:s, s:s}", "request", "cut", "address", cli->arguments[0]);
	switch (reach_daemon(cli, request, &result)) {
	case REACH_DONE:
		count = (int)json_integer_value(json_object_get(result, "cut"));
		break;
	case REACH_FAILED:
		return CLI_FAILED;
	case REACH_ABSENT:
		status = cut_on_maps(cli, &address, &count);
		if (status != CLI_FINE)
			return status;
	}
	if (count)
		printf("cut %d link(s) of %s\n", count, cli->arguments[0]);
	else
		printf("%s has no link\n", cli->arguments[0]);
	return CLI_FINE;
}
