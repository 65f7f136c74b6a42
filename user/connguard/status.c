/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `connguard status`: is the guard whole, and what has it done. Exit status 1 when anything is
 * missing.
 */
#include <string.h>

#include "base/clock.h"
#include "connguard/cli.h"
#include "connguard/reach.h"
#include "connguard/render.h"
#include "edge/state_store.h"

int command_status(struct cli *cli)
{
	cleanup_document json_t *document = NULL;
	int status;

	switch (reach_daemon(cli, json_pack("{s:s}", "request", "status"), &document)) {
	case REACH_DONE:
		break;
	case REACH_FAILED:
		return CLI_FAILED;
	case REACH_ABSENT: {
		cleanup_maps struct guard *guard = reach_maps(cli);
		struct view_origin origin = { .name = cli->name, .now = clock_now_ns() };
		cleanup_state struct state state = {};
		struct config_error why;
		int error;

		if (!guard)
			return CLI_FAILED;
		if (!state_store_read(cli->name, &state, &why))
			origin.state = &state;
		error = view_status(guard, &origin, &document);
		if (error) {
			complain("reading the pinned maps: %s", strerror(-error));
			return CLI_FAILED;
		}
		reach_say_maps(cli);
	}
	}
	status = reach_show(cli, document, render_status);
	if (status == CLI_FINE && !json_is_true(json_object_get(document, "healthy")))
		status = CLI_FAILED;
	return status;
}
