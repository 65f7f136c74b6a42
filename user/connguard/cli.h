/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the commands of `connguard` share: their options, their exit status, and the two ways to a
 * guard (its daemon, its pinned maps).
 */
#ifndef CONNGUARD_CLI_H
#define CONNGUARD_CLI_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "edge/kernel.h"
#include "edge/view.h"
#include "pure/config.h"

/* Exit status of every command; documented in connguard(8). */
enum cli_exit {
	CLI_FINE = 0,
	CLI_FAILED = 1,  /* could not be done; `status`: something is missing */
	CLI_USAGE = 2,
	CLI_REFUSED = 3, /* `explain`: a dial or a knock would be refused now */
};

/* Bits of cli_command.options: what a command takes beside --name and --help. */
enum cli_option {
	OPTION_JSON = 1 << 0,
	OPTION_FOLLOW = 1 << 1,
	OPTION_ALL = 1 << 2,
	OPTION_FOR = 1 << 3, /* --for, --for-good, --end */
	OPTION_OBSERVE = 1 << 4,
	OPTION_LOAD = 1 << 5, /* --config, --port, --cgroup, --netns */
	OPTION_FORCE = 1 << 6,
	OPTION_IDLE = 1 << 7,
};

/* The command line, taken apart. Texts point into argv. */
struct cli {
	char name[GUARD_NAME_MAX + 1]; /* of the guard; found when not given */
	bool name_given;
	bool json, follow, all, idle, for_good, end, observe, force;
	const char *duration;      /* of --for; NULL: not given */
	struct config_sources sources; /* --config, --port, --cgroup, --netns */
	char **arguments;          /* what follows the command's name */
	int argument_count;
};

/* One command. `run` returns an enum cli_exit. */
struct cli_command {
	const char *name;
	const char *arguments; /* as in the usage: "ADDRESS LIMIT" */
	const char *help;      /* one line */
	int argument_min, argument_max;
	unsigned int options;  /* enum cli_option */
	bool any_name;         /* does not need an existing guard */
	int (*run)(struct cli *cli);
};

/* The table in connguard.c, ends with a row whose name is NULL. */
extern const struct cli_command cli_commands[];

/*
 * Take the command line apart: CLI_FINE and the command to run, or CLI_USAGE after having said why.
 */
int cli_parse(int argc, char **argv, struct cli *ret_cli, const struct cli_command **ret_command);

/*
 * Set cli->name when it was not given: the only guard there is, pinned or with a socket; "default"
 * when there is none. CLI_USAGE, said, when there are several.
 */
int cli_find_name(struct cli *cli);

/* A line on standard error, after the program's name. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The address in a command's argument; false, said, when it is none. */
bool argument_address(const char *text, struct peer_address *ret_address);

/* The same for one that a peer can have (address_may_be_peer()). */
bool argument_peer(const char *text, struct peer_address *ret_address);

/* The port in a command's argument; false, said, when it is none. */
bool argument_port(const char *text, __u16 *ret_port);

/* ---- the commands, a file per noun ---- */

int command_status(struct cli *cli);
int command_peers(struct cli *cli);
int command_explain(struct cli *cli);
int command_events(struct cli *cli);
int command_due(struct cli *cli);
int command_kick(struct cli *cli);
int command_forget(struct cli *cli);
int command_limit(struct cli *cli);
int command_allow(struct cli *cli);
int command_cut(struct cli *cli);
int command_panic(struct cli *cli);
int command_resume(struct cli *cli);
int command_reload(struct cli *cli);
int command_load(struct cli *cli);
int command_unload(struct cli *cli);
int command_help(struct cli *cli);
int command_version(struct cli *cli);

#endif
