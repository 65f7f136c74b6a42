/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * connguard, the command line of a guard: the table of its commands. See connguard(8).
 *
 * Knows what each command takes and which file does it; knows nothing of guards.
 */
#include <stdio.h>

#include "connguard/cli.h"

#define READS (OPTION_JSON)

const struct cli_command cli_commands[] = {
	{ "status", "", "is the guard whole, and what has it done", 0, 0, READS, false, command_status },
	{ "peers", "", "every peer: links, backoff, refusals", 0, 0, READS, false, command_peers },
	{ "explain", "ADDRESS [PORT]", "would a dial and a knock pass now, and why", 1, 2, READS, false,
	  command_explain },
	{ "events", "[--follow]", "what happened lately", 0, 0, READS | OPTION_FOLLOW, false,
	  command_events },
	{ "due", "[--follow]", "peers with no link, no claim and no backoff left", 0, 0,
	  READS | OPTION_FOLLOW, false, command_due },
	{ "kick", "ADDRESS | --all", "clear the backoff now", 0, 1, OPTION_ALL, false, command_kick },
	{ "forget", "ADDRESS | --idle", "drop a learned peer that has no link, backoff or limit", 0, 1, OPTION_IDLE,
	  false, command_forget },
	{ "cut", "ADDRESS", "destroy the peer's links", 1, 1, 0, false, command_cut },
	{ "limit", "ADDRESS LINKS", "how many links this peer may have; 0: as the policy says", 2, 2, 0,
	  false, command_limit },
	{ "allow", "ADDRESS | PREFIX  --for 12h | --for-good | --end", "refuse nothing to or from it", 1, 1,
	  OPTION_FOR, false, command_allow },
	{ "panic", "", "refuse nothing from now on, daemon or not", 0, 0, 0, false, command_panic },
	{ "resume", "[--observe]", "undo panic: enforce (or observe) again", 0, 0, OPTION_OBSERVE, false,
	  command_resume },
	{ "reload", "", "let the daemon read its configuration again", 0, 0, 0, false, command_reload },
	{ "load", "[--config FILE] [--port PORT] [--cgroup CGROUP] [--netns PATH]",
	  "put a guard into the kernel without a daemon", 0, 0, OPTION_LOAD, true, command_load },
	{ "unload", "[--force]", "take the guard out of the kernel", 0, 0, OPTION_FORCE, false,
	  command_unload },
	{ "help", "", "show this", 0, 0, 0, true, command_help },
	{ "version", "", "show the version", 0, 0, 0, true, command_version },
	{ .name = NULL },
};

int command_help(struct cli *cli)
{
	const struct cli_command *command;

	(void)cli;
	printf("usage: connguard [--name NAME] [--json] COMMAND ...\n\n");
	for (command = cli_commands; command->name; command++)
		printf("  %s%s%s\n      %s\n", command->name, *command->arguments ? " " : "",
		       command->arguments, command->help);
	printf("\n"
	       "  -n, --name NAME   of the guard; default: the only one there is\n"
	       "  -j, --json        a JSON document in place of text, for the commands that read\n\n"
	       "of several ports each is a service of its own: kick, forget, cut, limit and allow change an\n"
	       "address at all of them; 'explain ADDRESS PORT' asks about one.\n\n"
	       "exit status: 0 yes or fine, 1 failed, 2 usage, 3 a dial or a knock would not pass (explain)\n");
	return CLI_FINE;
}

int command_version(struct cli *cli)
{
	(void)cli;
	printf("connguard %s\n", CONNGUARD_VERSION);
	return CLI_FINE;
}

int main(int argc, char **argv)
{
	const struct cli_command *command;
	struct cli cli;
	int status;

	status = cli_parse(argc, argv, &cli, &command);
	if (status != CLI_FINE)
		return status;
	if (!cli.name_given && !command->any_name)
		status = cli_find_name(&cli);
	cli.sources.name = cli.name;
	if (status == CLI_FINE)
		status = command->run(&cli);
	if (fflush(stdout) || ferror(stdout)) {
		complain("cannot write to standard output");
		return CLI_FAILED;
	}
	return status;
}
