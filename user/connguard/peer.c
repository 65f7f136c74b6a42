/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `connguard kick`, `limit` and `allow`: what an operator changes about a peer.
 *
 * Through the daemon, which remembers and logs it; without one through the command program in the
 * kernel, under the same lock as the hooks.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <connguard/protocol.h>
#include <connguard/rules.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "connguard/cli.h"
#include "connguard/keep.h"
#include "connguard/reach.h"
#include "pure/address_text.h"

/* Run one command on the maps. CLI_FAILED after having said why. */
static int run_command(const struct guard *guard, const struct guard_command *command)
{
	char text[ADDRESS_TEXT_MAX];
	int error = guard_command_host(guard, command);

	if (!error)
		return CLI_FINE;
	if (error == -ENOENT)
		complain("the guard knows no peer %s", address_to_text(&command->address, text));
	else if (error == -ENOSPC)
		complain("the peers map is full");
	else if (error == -EBUSY && command->operation == COMMAND_FORGET)
		complain("%s", PROTOCOL_NOT_IDLE);
	else
		complain("%s: %s", address_to_text(&command->address, text), strerror(-error));
	return CLI_FAILED;
}

/* ---- kick ---- */

/*
 * A command on one peer, or, with `every`, on each that wants it: `on_maps` does that without a daemon, which calls the
 * number `counted`. *ret_count: on so many.
 */
static int command_one_or_every(struct cli *cli, struct guard_command *command, bool every,
				int (*on_maps)(const struct guard *guard, size_t *ret_count),
				const char *counted, size_t *ret_count)
{
	const char *name = command->operation == COMMAND_KICK ? "kick" : "forget";
	cleanup_document json_t *result = NULL;
	cleanup_maps struct guard *guard = NULL;
	int error;

	if (every == (cli->argument_count == 1)) {
		complain("usage: connguard %s ADDRESS, or connguard %s --%s", name, name,
			 command->operation == COMMAND_KICK ? "all" : "idle");
		return CLI_USAGE;
	}
	if (!every && !argument_address(cli->arguments[0], &command->address))
		return CLI_USAGE;
	switch (reach_daemon(cli, json_pack("{s:s, s:s*}", "request", name, "address",
					    every ? NULL : cli->arguments[0]), &result)) {
	case REACH_DONE:
		*ret_count = (size_t)json_integer_value(json_object_get(result, counted));
		return CLI_FINE;
	case REACH_FAILED:
		return CLI_FAILED;
	case REACH_ABSENT:
		break;
	}
	guard = reach_maps(cli);
	if (!guard)
		return CLI_FAILED;
	if (!every) {
		int status = run_command(guard, command);

		if (status == CLI_FINE && command->operation == COMMAND_FORGET) {
			const struct exempt_prefix prefix = state_prefix(&command->address);

			keep_on_maps(cli, guard, STATE_LIMIT, &prefix);
		}
		return status;
	}
	error = on_maps(guard, ret_count);
	if (!error)
		return CLI_FINE;
	complain("%s: %s", name, strerror(-error));
	return CLI_FAILED;
}

int command_kick(struct cli *cli)
{
	struct guard_command command = { .operation = COMMAND_KICK };
	size_t count;
	int status = command_one_or_every(cli, &command, cli->all, guard_kick_all, "kicked", &count);

	if (status != CLI_FINE)
		return status;
	if (cli->all)
		printf("kicked %zu peer(s): no backoff is left\n", count);
	else
		printf("kicked %s: no backoff is left\n", cli->arguments[0]);
	return CLI_FINE;
}

/* ---- forget ---- */

int command_forget(struct cli *cli)
{
	struct guard_command command = { .operation = COMMAND_FORGET, .until_ns = clock_now_ns() };
	size_t count;
	int status = command_one_or_every(cli, &command, cli->idle, guard_forget_idle, "forgotten", &count);

	if (status != CLI_FINE)
		return status;
	if (cli->idle)
		printf("forgot %zu peer(s)\n", count);
	else
		printf("forgot %s\n", cli->arguments[0]);
	return CLI_FINE;
}

/* ---- limit ---- */

int command_limit(struct cli *cli)
{
	struct guard_command command = { .operation = COMMAND_LIMIT };
	cleanup_document json_t *result = NULL;
	cleanup_maps struct guard *guard = NULL;
	struct exempt_prefix prefix;
	unsigned long limit;
	char *end;

	if (!argument_peer(cli->arguments[0], &command.address))
		return CLI_USAGE;
	errno = 0;
	limit = strtoul(cli->arguments[1], &end, 10);
	if (errno || *end || *cli->arguments[1] < '0' || *cli->arguments[1] > '9' ||
	    limit > PEER_LINKS_MAX) {
		complain("'%s' is no limit: 1 to %d links, or 0 for the policy's, were expected",
			 cli->arguments[1], PEER_LINKS_MAX);
		return CLI_USAGE;
	}
	command.value = (__u32)limit;
	switch (reach_daemon(cli, json_pack("{s:s, s:s, s:i, s:s}", "request", "limit", "address",
					    cli->arguments[0], "limit", (int)limit, "by", keep_by()),
			     &result)) {
	case REACH_DONE:
		keep_said(result);
		break;
	case REACH_FAILED:
		return CLI_FAILED;
	case REACH_ABSENT:
		guard = reach_maps(cli);
		if (!guard || run_command(guard, &command) != CLI_FINE)
			return CLI_FAILED;
		prefix = state_prefix(&command.address);
		keep_on_maps(cli, guard, STATE_LIMIT, &prefix);
	}
	if (limit)
		printf("%s may have %lu link(s)\n", cli->arguments[0], limit);
	else
		printf("%s may have as many links as the peers file or the policy says\n", cli->arguments[0]);
	return CLI_FINE;
}

/* ---- allow ---- */

/*
 * How long, as the protocol says it: -1 for good, 0 no longer. False after having said what was
 * expected.
 */
static bool exemption_seconds(const struct cli *cli, json_int_t *ret_seconds)
{
	const char *problem = NULL;
	__u64 duration_ns;

	if (!!cli->duration + cli->for_good + cli->end != 1) {
		complain("usage: connguard allow ADDRESS | PREFIX, and one of --for DURATION, --for-good, --end");
		return false;
	}
	*ret_seconds = cli->for_good ? -1 : 0;
	if (!cli->duration)
		return true;
	if (clock_duration_parse(cli->duration, &duration_ns, &problem) ||
	    duration_ns < NS_PER_SECOND) {
		complain("'%s' is no duration%s%s: a second or more, such as 90s, 30m or 12h, was expected",
			 cli->duration, problem ? ": " : "", problem ? problem : "");
		return false;
	}
	*ret_seconds = (json_int_t)(duration_ns / NS_PER_SECOND);
	return true;
}

/* A prefix, in the exempt map. An address of this host is not ours to take out. */
static int allow_prefix_on_maps(const struct cli *cli, const struct guard *guard,
				const struct exempt_prefix *prefix, __u64 until_ns)
{
	cleanup_free struct exempt_prefix *prefixes = NULL;
	cleanup_free struct exempt_value *values = NULL;
	struct exempt_value wanted = { .until_ns = until_ns };
	struct peer_address first = {};
	struct exempt_prefix own;
	char text[PREFIX_TEXT_MAX];
	size_t count = 0, i;
	bool present = false;
	int error;

	prefix_to_text(prefix, text);
	memcpy(first.bytes, prefix->address, sizeof(first.bytes));
	if (guard_owns(guard, &first, &own) && own.prefix_length <= prefix->prefix_length) {
		complain("%s is this host itself: it is exempt anyway", text);
		return CLI_FAILED;
	}
	error = guard_exempt_read(guard, &prefixes, &values, &count);
	for (i = 0; !error && i < count; i++)
		present |= !memcmp(&prefixes[i], prefix, sizeof(*prefix));
	if (!error && until_ns)
		error = guard_exempt_write(guard, prefix, &wanted);
	else if (!error && present)
		error = guard_exempt_delete(guard, prefix);
	else if (!error && !keep_knows(cli, STATE_ALLOW_PREFIX, prefix))
		error = -ENOENT;
	if (!error)
		return CLI_FINE;
	complain("%s: %s", text, error == -ENOENT ? "the prefix is not exempt" : strerror(-error));
	return CLI_FAILED;
}

int command_allow(struct cli *cli)
{
	cleanup_document json_t *result = NULL;
	cleanup_maps struct guard *guard = NULL;
	const char *text = cli->arguments[0], *problem = NULL;
	struct guard_command command = { .operation = COMMAND_ALLOW };
	struct exempt_prefix prefix;
	__u64 until_ns = 0;
	json_int_t seconds;
	int status;

	if (!exemption_seconds(cli, &seconds))
		return CLI_USAGE;
	if (prefix_from_text(text, &prefix, &problem)) {
		complain("'%s' is no address and no prefix: %s", text, problem);
		return CLI_USAGE;
	}
	if (!strchr(text, '/') && !argument_peer(text, &command.address))
		return CLI_USAGE;
	switch (reach_daemon(cli, json_pack("{s:s, s:s, s:I, s:s}", "request", "allow", "address", text,
					    "seconds", seconds, "by", keep_by()), &result)) {
	case REACH_DONE:
		keep_said(result);
		break;
	case REACH_FAILED:
		return CLI_FAILED;
	case REACH_ABSENT:
		guard = reach_maps(cli);
		if (!guard)
			return CLI_FAILED;
		if (seconds)
			until_ns = seconds < 0 ? NEVER_ENDS_NS :
						 clock_now_ns() + (__u64)seconds * NS_PER_SECOND;
		if (strchr(text, '/')) {
			status = allow_prefix_on_maps(cli, guard, &prefix, until_ns);
		} else {
			command.until_ns = until_ns;
			status = run_command(guard, &command);
		}
		if (status != CLI_FINE)
			return status;
		keep_on_maps(cli, guard, strchr(text, '/') ? STATE_ALLOW_PREFIX : STATE_ALLOW_PEER, &prefix);
	}
	if (seconds < 0)
		printf("nothing is refused to or from %s any more\n", text);
	else if (seconds)
		printf("nothing is refused to or from %s for %s\n", text, cli->duration);
	else
		printf("%s is guarded again\n", text);
	return CLI_FINE;
}
