/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `connguard panic`, `resume` and `reload`.
 *
 * Panic writes the pinned `mode` map and asks nobody: it works when all else does not. Only then it is kept, for
 * the time when there is no guard. It holds until `resume`; neither a start of the daemon nor a reload undoes it,
 * unless the reloaded file asks for another mode than it did before.
 */
#include <string.h>
#include <stdio.h>
#include <unistd.h>

#include "connguard/cli.h"
#include "connguard/keep.h"
#include "connguard/reach.h"
#include "pure/names.h"

/* The way that needs nothing of ours, for when our way does not work. */
static void say_bpftool_line(const struct cli *cli)
{
	complain("bpftool can do it too: bpftool map update pinned " PIN_ROOT
		 "/%s/mode key 0 0 0 0 value 0 0 0 0", cli->name);
}

int command_panic(struct cli *cli)
{
	cleanup_maps struct guard *guard = NULL;
	enum guard_mode before;
	int error;

	guard = reach_maps(cli);
	if (!guard) {
		if (geteuid() == 0)
			say_bpftool_line(cli);
		return CLI_FAILED;
	}
	error = guard_mode_read(guard, &before);
	if (!error)
		error = guard_mode_write(guard, MODE_OFF);
	if (error) {
		complain("writing the mode: %s", strerror(-error));
		say_bpftool_line(cli);
		return CLI_FAILED;
	}
	printf("guard '%s' is off: it refuses nothing (it was in mode %s)\n"
	       "links are still tracked. To undo: connguard --name %s resume%s\n",
	       cli->name, names_mode(before), cli->name,
	       before == MODE_OBSERVE ? " --observe" : "");
	fflush(stdout);
	keep_mode(cli, guard);
	return CLI_FINE;
}

int command_resume(struct cli *cli)
{
	enum guard_mode mode = cli->observe ? MODE_OBSERVE : MODE_ENFORCE;
	cleanup_maps struct guard *guard = reach_maps(cli);
	int error;

	if (!guard)
		return CLI_FAILED;
	error = guard_mode_write(guard, mode);
	if (error) {
		complain("writing the mode: %s", strerror(-error));
		return CLI_FAILED;
	}
	printf("guard '%s' is in mode %s: %s\n", cli->name, names_mode(mode),
	       cli->observe ? "refusals are counted, nothing is refused" : "duplicates are refused");
	fflush(stdout);
	keep_mode(cli, guard);
	return CLI_FINE;
}

int command_reload(struct cli *cli)
{
	cleanup_document json_t *result = NULL;

	switch (reach_daemon(cli, json_pack("{s:s}", "request", "reload"), &result)) {
	case REACH_DONE:
		printf("the daemon of guard '%s' has read its configuration again\n", cli->name);
		return CLI_FINE;
	case REACH_ABSENT:
		complain("guard '%s': no daemon runs", cli->name);
		return CLI_FAILED;
	case REACH_FAILED:
		break;
	}
	return CLI_FAILED;
}
