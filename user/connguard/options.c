/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The command line, taken apart; and the guard's name when it is not given.
 *
 * Owns the spelling of options. Knows of guards only where their pins and sockets lie.
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <connguard/protocol.h>

#include "base/printable.h"
#include "connguard/cli.h"
#include "pure/address_text.h"

/* Guards that are named when there are several. */
#define NAMES_MAX 64

void complain(const char *format, ...)
{
	va_list arguments;

	fflush(stdout);
	fflush(stdout);
	va_start(arguments, format);
	print_complaint("connguard", format, arguments);
	va_end(arguments);
}

bool argument_address(const char *text, struct peer_address *ret_address)
{
	if (!address_from_text(text, ret_address))
		return true;
	complain("'%s' is no address: one such as 192.0.2.7 or 2001:db8::7 was expected", text);
	return false;
}

bool argument_port(const char *text, __u16 *ret_port)
{
	char *end;
	unsigned long port;

	errno = 0;
	port = strtoul(text, &end, 10);
	if (errno || *end || *text < '0' || *text > '9' || !port || port > 65535) {
		complain("'%s' is no port: a number from 1 to 65535 was expected", text);
		return false;
	}
	*ret_port = (__u16)port;
	return true;
}

bool argument_peer(const char *text, struct peer_address *ret_address)
{
	if (!argument_address(text, ret_address))
		return false;
	if (address_may_be_peer(ret_address))
		return true;
	complain("'%s' is loopback, unspecified or multicast: a unicast address was expected", text);
	return false;
}

static const struct cli_command *find_command(const char *name)
{
	const struct cli_command *command;

	for (command = cli_commands; command->name; command++)
		if (!strcmp(command->name, name))
			return command;
	return NULL;
}

static int usage_of(const struct cli_command *command)
{
	complain("usage: connguard [--name NAME] %s%s%s", command->name, *command->arguments ? " " : "",
		 command->arguments);
	return CLI_USAGE;
}

int cli_parse(int argc, char **argv, struct cli *ret_cli, const struct cli_command **ret_command)
{
	static const struct option options[] = {
		{ "name", required_argument, NULL, 'n' },   { "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },	    { "version", no_argument, NULL, 'V' },
		{ "follow", no_argument, NULL, 'f' },	    { "all", no_argument, NULL, 'a' },
		{ "for", required_argument, NULL, 'd' },    { "for-good", no_argument, NULL, 'g' },
		{ "end", no_argument, NULL, 'e' },	    { "observe", no_argument, NULL, 'o' },
		{ "config", required_argument, NULL, 'c' }, { "port", required_argument, NULL, 'p' },
		{ "cgroup", required_argument, NULL, 'G' }, { "netns", required_argument, NULL, 'N' },
		{ "force", no_argument, NULL, 'F' },	    { "idle", no_argument, NULL, 'i' },
		{ NULL, 0, NULL, 0 },
	};
	const struct cli_command *command = NULL;
	struct cli cli = { .name = "default" };
	unsigned int given = 0;
	int option;

	while ((option = getopt_long(argc, argv, "n:jhfc:", options, NULL)) != -1) {
		switch (option) {
		case 'n':
			if (!guard_name_valid(optarg)) {
				complain("'%s' is no guard name: up to %d letters, digits, '-' and '_' were "
					 "expected", optarg, GUARD_NAME_MAX);
				return CLI_USAGE;
			}
			snprintf(cli.name, sizeof(cli.name), "%s", optarg);
			cli.name_given = true;
			break;
		case 'j':
			cli.json = true;
			given |= OPTION_JSON;
			break;
		case 'h':
			command = find_command("help");
			break;
		case 'V':
			command = find_command("version");
			break;
		case 'f':
			cli.follow = true;
			given |= OPTION_FOLLOW;
			break;
		case 'a':
			cli.all = true;
			given |= OPTION_ALL;
			break;
		case 'i':
			cli.idle = true;
			given |= OPTION_IDLE;
			break;
		case 'd':
			cli.duration = optarg;
			given |= OPTION_FOR;
			break;
		case 'g':
			cli.for_good = true;
			given |= OPTION_FOR;
			break;
		case 'e':
			cli.end = true;
			given |= OPTION_FOR;
			break;
		case 'o':
			cli.observe = true;
			given |= OPTION_OBSERVE;
			break;
		case 'c':
			cli.sources.file = optarg;
			given |= OPTION_LOAD;
			break;
		case 'p':
			if (cli.sources.port_count == CONFIG_PORTS_MAX) {
				complain("more than %d ports", CONFIG_PORTS_MAX);
				return CLI_USAGE;
			}
			cli.sources.ports[cli.sources.port_count++] = optarg;
			given |= OPTION_LOAD;
			break;
		case 'G':
			cli.sources.cgroup = optarg;
			given |= OPTION_LOAD;
			break;
		case 'N':
			cli.sources.netns = optarg;
			given |= OPTION_LOAD;
			break;
		case 'F':
			cli.force = true;
			given |= OPTION_FORCE;
			break;
		default:
			complain("'connguard help' lists commands and options");
			return CLI_USAGE;
		}
	}
	if (command) {
		*ret_cli = cli;
		*ret_command = command;
		return CLI_FINE;
	}
	if (optind == argc) {
		complain("a command was expected; 'connguard help' lists them");
		return CLI_USAGE;
	}
	command = find_command(argv[optind]);
	if (!command) {
		complain("'%s' is no command; 'connguard help' lists them", argv[optind]);
		return CLI_USAGE;
	}
	cli.arguments = argv + optind + 1;
	cli.argument_count = argc - optind - 1;
	if (cli.argument_count < command->argument_min || cli.argument_count > command->argument_max ||
	    given & ~command->options)
		return usage_of(command);
	*ret_cli = cli;
	*ret_command = command;
	return CLI_FINE;
}

/* Names found so far, each once. */
struct found_names {
	char names[NAMES_MAX][GUARD_NAME_MAX + 1];
	size_t count;
};

static void found_add(struct found_names *found, const char *name, size_t length)
{
	char text[GUARD_NAME_MAX + 1];
	size_t i;

	if (length > GUARD_NAME_MAX || found->count == NAMES_MAX)
		return;
	snprintf(text, sizeof(text), "%.*s", (int)length, name);
	if (!guard_name_valid(text))
		return;
	for (i = 0; i < found->count; i++)
		if (!strcmp(found->names[i], text))
			return;
	memcpy(found->names[found->count++], text, sizeof(text));
}

/*
 * Every entry of a directory that ends in `suffix`. A directory that we cannot read names nothing.
 */
static void found_scan(struct found_names *found, const char *directory, const char *suffix)
{
	DIR *stream = opendir(directory);
	struct dirent *entry;
	size_t length;

	if (!stream)
		return;
	while ((entry = readdir(stream))) {
		length = strlen(entry->d_name);
		if (length > strlen(suffix) &&
		    !strcmp(entry->d_name + length - strlen(suffix), suffix))
			found_add(found, entry->d_name, length - strlen(suffix));
	}
	closedir(stream);
}

int cli_find_name(struct cli *cli)
{
	struct found_names found = {};
	size_t i;

	found_scan(&found, PIN_ROOT, "");
	found_scan(&found, PROTOCOL_RUN_DIRECTORY, ".sock");
	if (found.count > 1) {
		complain("there are several guards, say which one with --name:");
		for (i = 0; i < found.count; i++)
			fprintf(stderr, "  %s\n", found.names[i]);
		return CLI_USAGE;
	}
	if (found.count == 1)
		memcpy(cli->name, found.names[0], sizeof(cli->name));
	return CLI_FINE;
}
