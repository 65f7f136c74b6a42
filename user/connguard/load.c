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

#include <connguard/rules.h>

#include "base/cleanup.h"
#include "connguard/cli.h"
#include "connguard/reach.h"
#include "edge/cgroups.h"
#include "edge/host.h"
#include "edge/sockets.h"
#include "pure/peers_file.h"

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

/*
 * The file (it may be absent when nobody named it), then the command line. CLI_FINE, or what is
 * wrong, said.
 */
static int read_config(const struct cli *cli, struct config *ret_config)
{
	int status = CLI_FAILED;
	char path[CONFIG_PATH_MAX];
	struct config_error why;
	size_t i;
	int error;

	reach_config_path(cli, path);
	config_defaults(ret_config);
	if (cli->config || access(path, F_OK) == 0) {
		error = config_read(path, ret_config, &why);
		if (error)
			goto wrong;
	} else {
		status = CLI_USAGE;
	}
	for (i = 0; i < cli->port_count; i++) {
		error = config_set(ret_config, "guard", "port", cli->ports[i], &why);
		if (error)
			goto wrong;
	}
	error = cli->cgroup ? config_set(ret_config, "guard", "cgroup", cli->cgroup, &why) : 0;
	if (!error && cli->netns)
		error = config_set(ret_config, "guard", "netns", cli->netns, &why);
	if (!error)
		error = config_finish(ret_config, &why);
	if (!error)
		return CLI_FINE;
wrong:
	complain("%s", why.text);
	return status;
}

/* The configured exemptions, and every address of this host: no peer of ours. */
static int write_exemptions(const struct guard *guard, const struct config *config)
{
	cleanup_free struct peer_address *addresses = NULL;
	struct exempt_value value = { .until_ns = NEVER_ENDS_NS, .configured = 1 };
	size_t count = 0, i;
	int error;

	for (i = 0; i < config->exempt.count; i++) {
		error = guard_exempt_write(guard, &config->exempt.prefix[i], &value);
		if (error)
			return error;
	}
	error = host_addresses(&addresses, &count);
	value.own = 1;
	for (i = 0; !error && i < count; i++) {
		struct exempt_prefix prefix = { .prefix_length = 128 };

		memcpy(prefix.address, addresses[i].bytes, sizeof(prefix.address));
		error = guard_exempt_write(guard, &prefix, &value);
	}
	return error;
}

static int add_known_peers(const struct guard *guard, const struct config *config)
{
	cleanup_free struct known_peer *known = NULL;
	struct config_error why;
	size_t count = 0, i;
	int error;

	if (!*config->peers)
		return 0;
	error = peers_file_read(config->peers, config->max_peers, &known, &count, &why);
	if (error)
		complain("%s", why.text);
	for (i = 0; !error && i < count; i++) {
		struct guard_command command = { .address = known[i].address,
						 .operation = COMMAND_ADD };

		error = guard_command(guard, &command);
		if (error || !known[i].limit)
			continue;
		command.operation = COMMAND_LIMIT;
		command.value = known[i].limit;
		error = guard_command(guard, &command);
	}
	return error;
}

/* Links that are older than the guard. */
static int adopt_links(const struct guard *guard, const struct config *config, const char *cgroup)
{
	struct socket_filter filter = { .ports = config->ports.number, .port_count = config->ports.count };
	cleanup_free struct adoption *adoptions = NULL;
	cleanup_free struct tcp_socket *list = NULL;
	cleanup_free __u64 *cookies = NULL;
	struct cgroup_set *cgroups = NULL;
	struct sockets *sockets = NULL;
	size_t count = 0, guarded = 0, i;
	int error;

	error = sockets_open(&sockets);
	if (!error)
		error = sockets_list(sockets, SOCKET_STATES_LINK, &list, &count);
	sockets_close(sockets);
	if (error || !count)
		return error;
	cookies = calloc(count, sizeof(*cookies));
	adoptions = calloc(count, sizeof(*adoptions));
	error = cookies && adoptions ? cgroup_set_open(cgroup, &cgroups) : -ENOMEM;
	if (error)
		return error;
	filter.cgroups = cgroups;
	for (i = 0; i < count; i++) {
		enum link_direction direction;

		if (!socket_is_guarded(&list[i], &filter, &direction))
			continue;
		cookies[guarded] = list[i].cookie;
		adoptions[guarded].address = list[i].remote;
		adoptions[guarded].direction = direction;
		adoptions[guarded].local_port = list[i].local_port;
		adoptions[guarded].remote_port = list[i].remote_port;
		guarded++;
	}
	cgroup_set_close(cgroups);
	return guarded ? guard_adopt(guard, cookies, adoptions, guarded) : 0;
}

/*
 * Everything that the loaded maps want, the mode last: until then a new guard refuses nothing. One
 * that was there keeps its mode: an operator who pressed panic is not overruled.
 */
static int fill_in(const struct guard *guard, const struct config *config, const char *cgroup,
		   bool taken_over)
{
	const struct guard_daemon no_daemon = {};
	enum guard_mode mode = config->mode;
	struct guard_policy policy;
	const char *step;
	int error;

	config_policy(config, &policy);
	step = "the policy";
	/* Before 5.14 namespaces have no cookie: then every one below the cgroup is guarded. */
	error = host_netns_cookie(&policy.netns_cookie);
	if (error == -ENOPROTOOPT)
		error = 0;
	if (!error)
		error = guard_policy_write(guard, &policy);
	if (!error) {
		step = "the ports";
		error = guard_ports_write(guard, config->ports.number, config->ports.count);
	}
	if (!error) {
		step = "the exempt addresses";
		error = write_exemptions(guard, config);
	}
	if (!error) {
		step = "the known peers";
		error = add_known_peers(guard, config);
	}
	if (!error) {
		step = "the links that exist already";
		error = adopt_links(guard, config, cgroup);
	}
	if (!error) {
		/* One that was killed is not missed any more: this guard goes without. */
		step = "the absence of a daemon";
		error = guard_daemon_write(guard, &no_daemon);
	}
	if (!error) {
		step = "the mode";
		error = taken_over ? guard_mode_read(guard, &mode) :
				     guard_mode_write(guard, mode);
	}
	if (error)
		complain("writing %s: %s", step, strerror(-error));
	else if (mode != config->mode)
		complain("the guard was there, in mode %s, the configuration says %s: it stays so until "
			 "'connguard resume'", names_mode(mode), names_mode(config->mode));
	return error;
}

int command_load(struct cli *cli)
{
	struct guard_options options = { .name = cli->name };
	cleanup_maps struct guard *guard = NULL;
	cleanup_free char *cgroup = NULL;
	cleanup_close int netns_fd = -1;
	struct guard_error why = {};
	struct config config;
	bool taken_over;
	int error, status;

	status = read_config(cli, &config);
	if (status != CLI_FINE)
		return status;
	if (daemon_runs(cli, "change its configuration and use 'connguard reload'"))
		return CLI_FAILED;
	error = cgroups_path(config.cgroup, &cgroup);
	if (error) {
		complain("cgroup %s: %s", config.cgroup,
			 error == -ENODEV ? "cgroup2 is not mounted" : strerror(-error));
		return CLI_FAILED;
	}
	/*
	 * Own addresses, sockets and the namespace's cookie are those of the calling thread's
	 * namespace.
	 */
	error = *config.netns ? host_enter_netns(config.netns) : 0;
	if (!error)
		error = host_open_netns(NULL, &netns_fd);
	if (error) {
		complain("network namespace %s: %s", *config.netns ? config.netns : "of our own",
			 strerror(-error));
		return CLI_FAILED;
	}
	options.cgroup = cgroup;
	options.netns_fd = netns_fd;
	options.max_peers = config.max_peers;
	error = guard_load(&options, &guard, &taken_over, &why);
	if (error) {
		complain("%s", *why.text ? why.text : strerror(-error));
		return CLI_FAILED;
	}
	if (fill_in(guard, &config, cgroup, taken_over)) {
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
	struct guard_error why = {};
	int error;

	if (!cli->force && daemon_runs(cli, "stop it, it unloads the guard; or use --force"))
		return CLI_FAILED;
	error = guard_remove(cli->name, &why);
	if (error) {
		complain("%s", *why.text ? why.text : strerror(-error));
		return CLI_FAILED;
	}
	printf("guard '%s' is gone\n", cli->name);
	return CLI_FINE;
}
