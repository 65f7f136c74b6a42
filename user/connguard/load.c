/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `connguard load` and `unload`: the kernel part of a guard, without a daemon.
 *
 * The configuration file and its meaning are the daemon's; what only a daemon can do (scheduling,
 * checking, repairing) is left undone, and `status` says so.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "connguard/cli.h"
#include "connguard/keep.h"
#include "connguard/reach.h"
#include "edge/furnish.h"
#include "edge/instance.h"
#include "edge/state_store.h"
#include "pure/names.h"

/* True, and said, when a daemon runs the guard: it would undo what we do. */
static bool daemon_runs(const struct cli *cli, const char *instead)
{
	struct client *client = NULL;

	if (client_open(cli->name, &client))
		return false;
	client_close(client);
	complain("connguardd runs guard '%s': %s", cli->name, instead);
	return true;
}

/* Nobody else loads, runs or removes the guard meanwhile. */
static int lock(const struct cli *cli, struct instance *instance)
{
	int error = instance_lock(cli->name, instance);

	if (error == -EWOULDBLOCK)
		complain("somebody is loading, running or removing guard '%s' just now (it holds %s)",
			 cli->name, instance->path);
	else if (error)
		complain("locking %s: %s", instance->path, strerror(-error));
	return error;
}

/* Make the guard be what is configured, without a daemon; one that is taken over stays as it was until that is done. */
static int fill_in(const char *name, struct guard *guard, struct surroundings *surroundings,
		   const struct config *config, bool taken_over)
{
	const struct guard_daemon no_daemon = {};
	cleanup_free struct known_peer *known = NULL;
	cleanup_state struct state kept = {};
	struct furnished furnished __attribute__((cleanup(furnished_free))) = {};
	struct guard_error failure;
	struct config_error why;
	bool damaged;
	size_t count;
	int error;

	damaged = state_store_read(name, &kept, &why) != 0;
	if (damaged)
		complain("what operators had decided is not in force, unless the guard was there: %s", why.text);
	error = furnish_read_known(config, &known, &count, &why);
	if (!error)
		error = furnish_all(guard, surroundings, config, known, count, taken_over, true,
				    damaged ? NULL : &kept, &furnished, &why);
	if (error) {
		complain("%s", why.text);
		return error;
	}
	error = guard_attach(guard, &failure);
	if (error) {
		complain("%s", *failure.text ? failure.text : strerror(-error));
		return error;
	}
	if (guard_peers_max(guard) != config->max_peers)
		complain("max_peers = %u is not in force, the guard that was there has room for %u peers and keeps it: "
			 "unload it, then load it",
			 config->max_peers, guard_peers_max(guard));
	if (furnished.adopted < 0)
		complain("taking existing links under guard: %s", strerror(-furnished.adopted));
	if (furnished.own_full)
		complain("this host has more addresses, or prefixes that are local to it, than the guard has room "
			 "for (%u): a dial to one of the others counts as one to a peer",
			 guard_own_max(guard));
	if (furnished.undecided)
		complain("not all that operators have decided is in force: %s", strerror(-furnished.undecided));
	if (furnished.mode != config->mode)
		complain("an operator has decided on mode %s, the configuration says %s: it stays so until "
			 "'connguard resume'",
			 names_mode(furnished.mode), names_mode(config->mode));
	/* One that was killed is not missed any more: this guard goes without. */
	error = guard_daemon_write(guard, &no_daemon);
	if (error)
		complain("writing the absence of a daemon: %s", strerror(-error));
	return error;
}

int command_load(struct cli *cli)
{
	struct surroundings surroundings __attribute__((cleanup(surroundings_leave))) =
		SURROUNDINGS_NONE;
	struct instance instance __attribute__((cleanup(instance_unlock))) = INSTANCE_NONE;
	struct guard_options options = { .name = cli->name };
	cleanup_maps struct guard *guard = NULL;
	struct guard_error why = {};
	struct config_error wrong;
	struct config config;
	bool taken_over;
	int error;

	error = config_gather(&cli->sources, &config, &wrong);
	if (error) {
		complain("%s", wrong.text);
		return CLI_USAGE;
	}
	if (daemon_runs(cli, "change its configuration and use 'connguard reload'"))
		return CLI_FAILED;
	if (guard_bpffs_mount(&why)) {
		complain("%s", why.text);
		return CLI_FAILED;
	}
	if (lock(cli, &instance))
		return CLI_FAILED;
	error = surroundings_enter(&config, false, &surroundings, &wrong);
	if (error) {
		complain("%s", wrong.text);
		return CLI_FAILED;
	}
	options.cgroup = surroundings.cgroup;
	options.netns_fd = surroundings.netns_fd;
	options.max_peers = config.max_peers;
	options.attach_later = true;
	error = guard_load(&options, &guard, &taken_over, &why);
	if (error) {
		complain("%s", *why.text ? why.text : strerror(-error));
		return CLI_FAILED;
	}
	if (fill_in(cli->name, guard, &surroundings, &config, taken_over)) {
		if (taken_over)
			complain("the guard that was there goes on");
		else
			guard_remove(cli->name, &why);
		return CLI_FAILED;
	}
	printf("guard '%s' is %s, pinned in " PIN_ROOT "/%s\n"
	       "no daemon: nothing is scheduled, checked or repaired (connguardd takes it over)\n",
	       cli->name, taken_over ? "loaded anew, its peers kept" : "loaded", cli->name);
	return CLI_FINE;
}

int command_unload(struct cli *cli)
{
	struct instance instance __attribute__((cleanup(instance_unlock))) = INSTANCE_NONE;
	cleanup_maps struct guard *guard = NULL;
	struct guard_error why = {};
	int error;

	if (!cli->force && daemon_runs(cli, "stop it, it unloads the guard; or use --force"))
		return CLI_FAILED;
	if (!cli->force && lock(cli, &instance))
		return CLI_FAILED;
	/* One of another layout can be removed, and not read. */
	if (!cli->force && !guard_open(cli->name, &guard, &why))
		keep_all(cli, guard);
	error = guard_remove(cli->name, &why);
	if (error) {
		complain("%s", *why.text ? why.text : strerror(-error));
		return CLI_FAILED;
	}
	printf("guard '%s' is gone\n", cli->name);
	return CLI_FINE;
}
