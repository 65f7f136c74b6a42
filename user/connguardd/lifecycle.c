// SPDX-License-Identifier: BSD-2-Clause
/* From configuration to a guard in the kernel, reload, the end. See daemon.h. */
#include "connguardd/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <connguard/protocol.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "edge/host.h"
#include "pure/address_text.h"
#include "pure/names.h"
#include "pure/peers_file.h"

int daemon_configure(const struct overrides *overrides, struct config *ret_config,
		     struct config_error *ret_error)
{
	const struct {
		const char *name, *value;
	} settings[] = {
		{ "cgroup", overrides->cgroup },
		{ "netns", overrides->netns },
		{ "mode", overrides->mode },
		{ "peers", overrides->peers },
	};
	struct config config;
	int result = 0;

	if (overrides->file)
		result = config_read(overrides->file, &config, ret_error);
	else
		config_defaults(&config);
	for (size_t i = 0; !result && i < overrides->port_count; i++)
		result = config_set(&config, "guard", "port", overrides->ports[i], ret_error);
	for (size_t i = 0; !result && i < sizeof(settings) / sizeof(settings[0]); i++)
		if (settings[i].value)
			result = config_set(&config, "guard", settings[i].name, settings[i].value,
					    ret_error);
	if (!result)
		result = config_finish(&config, ret_error);
	if (!result)
		*ret_config = config;
	return result;
}

/* Known peers as the configuration names them; none without a file. */
static int read_known_peers(const struct config *config, struct known_peer **ret_peers,
			    size_t *ret_count, struct config_error *ret_error)
{
	*ret_peers = NULL;
	*ret_count = 0;
	return *config->peers ? peers_file_read(config->peers, config->max_peers, ret_peers,
						ret_count, ret_error) :
				0;
}

static int compare_known(const void *left, const void *right)
{
	return memcmp(&((const struct known_peer *)left)->address,
		      &((const struct known_peer *)right)->address, sizeof(struct peer_address));
}

/* Make PEER_KNOWN in the map what the peers file says. Sorts `known`. */
static int apply_known_peers(struct daemon *daemon, struct known_peer *known, size_t count)
{
	cleanup_free struct peer *peers = NULL;
	size_t peer_count;
	int result;

	for (size_t i = 0; i < count; i++) {
		struct guard_command command = { .operation = COMMAND_ADD,
						 .address = known[i].address };

		result = guard_command(daemon->guard, &command);
		if (!result && known[i].limit) {
			command.operation = COMMAND_LIMIT;
			command.value = known[i].limit;
			result = guard_command(daemon->guard, &command);
		}
		if (result)
			return result;
	}
	if (count)
		qsort(known, count, sizeof(*known), compare_known);
	result = guard_peers_read(daemon->guard, &peers, &peer_count);
	if (result)
		return result;
	for (size_t i = 0; i < peer_count; i++) {
		const struct known_peer wanted = { .address = peers[i].address };
		const struct guard_command command = { .operation = COMMAND_UNKNOW,
						       .address = peers[i].address };

		if (peers[i].flags & PEER_KNOWN &&
		    !(count && bsearch(&wanted, known, count, sizeof(*known), compare_known)))
			guard_command(daemon->guard, &command);
	}
	return 0;
}

/* Policy, ports and exemptions into the maps. */
static int apply_config(struct daemon *daemon, const struct config *config)
{
	struct guard_policy policy;
	int result;

	config_policy(config, &policy);
	policy.netns_cookie = daemon->netns_cookie;
	result = guard_policy_write(daemon->guard, &policy);
	if (!result)
		result = guard_ports_write(daemon->guard, config->ports.number, config->ports.count);
	if (!result) {
		daemon->config = *config;
		result = upkeep_exempt(daemon);
	}
	log_set_level(config->log_level);
	return result;
}

/* One daemon a guard. */
static int lock_instance(struct daemon *daemon)
{
	char path[128];

	if (mkdir(PROTOCOL_RUN_DIRECTORY, 0755) && errno != EEXIST) {
		log_error("creating " PROTOCOL_RUN_DIRECTORY ": %s", strerror(errno));
		return -errno;
	}
	snprintf(path, sizeof(path), PROTOCOL_RUN_DIRECTORY "/%s.lock", daemon->name);
	daemon->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (daemon->lock_fd < 0 || flock(daemon->lock_fd, LOCK_EX | LOCK_NB)) {
		if (errno == EWOULDBLOCK)
			log_error("another connguardd runs for guard '%s' (it holds %s)", daemon->name, path);
		else
			log_error("locking %s: %s", path, strerror(errno));
		return -errno;
	}
	return 0;
}

/* The places the guard is about: network namespace, then what is seen from inside it, and the cgroup. */
static int enter_places(struct daemon *daemon, char **ret_cgroup)
{
	const struct config *config = &daemon->config;
	int result;

	if (*config->netns) {
		result = host_enter_netns(config->netns);
		if (result) {
			log_error("netns = %s: %s", config->netns, strerror(-result));
			return result;
		}
	}
	result = host_open_netns(NULL, &daemon->netns_fd);
	if (result) {
		log_error("opening the network namespace: %s", strerror(-result));
		return result;
	}
	result = host_netns_cookie(&daemon->netns_cookie);
	if (result == -ENOPROTOOPT) {
		daemon->netns_cookie = 0;
	} else if (result) {
		log_error("asking for the network namespace's cookie: %s", strerror(-result));
		return result;
	}
	result = cgroups_path(config->cgroup, ret_cgroup);
	if (result) {
		log_error("cgroup = %s: %s (expected the path of a cgroup below the cgroup2 mount)", config->cgroup,
			  strerror(-result));
		return result;
	}
	result = cgroup_set_open(*ret_cgroup, &daemon->cgroups);
	if (!result)
		result = sockets_open(&daemon->sockets);
	if (result)
		log_error("looking at the sockets of %s: %s", *ret_cgroup, strerror(-result));
	return result;
}

/*
 * What is loaded is made to be what is configured, then the sockets that are there are taken under guard, and the mode comes
 * last. A guard that was taken over keeps its mode: an operator who pressed panic is not overruled by a restart.
 */
static int take_charge(struct daemon *daemon, bool taken_over)
{
	cleanup_free struct known_peer *known = NULL;
	struct config_error error = {};
	enum guard_mode mode;
	size_t known_count;
	int result, adopted;

	result = read_known_peers(&daemon->config, &known, &known_count, &error);
	if (result) {
		log_error("%s", *error.text ? error.text : strerror(-result));
		return result;
	}
	result = apply_config(daemon, &daemon->config);
	if (!result)
		result = apply_known_peers(daemon, known, known_count);
	if (result) {
		log_error("writing the maps: %s", strerror(-result));
		return result;
	}
	adopted = upkeep_adopt(daemon);
	if (adopted < 0)
		log_warning("taking existing links under guard: %s; the periodic check will try again",
			    strerror(-adopted));
	else if (adopted > 0)
		log_info("%d existing link%s taken under guard", adopted, adopted == 1 ? "" : "s");
	if (!taken_over)
		return guard_mode_write(daemon->guard, daemon->config.mode);
	result = guard_mode_read(daemon->guard, &mode);
	if (!result && mode != daemon->config.mode)
		log_warning("the guard that was taken over is in mode %s, the configuration says %s: it stays so "
			    "until `connguard resume`",
			    names_mode(mode), names_mode(daemon->config.mode));
	return result;
}

int daemon_start(struct daemon *daemon)
{
	cleanup_free char *cgroup = NULL;
	struct guard_error error;
	char path[128];
	bool taken_over;
	int result;

	result = lock_instance(daemon);
	if (!result)
		result = enter_places(daemon, &cgroup);
	if (result)
		return result;
	const struct guard_options options = { .name = daemon->name,
					       .cgroup = cgroup,
					       .netns_fd = daemon->netns_fd,
					       .max_peers = daemon->config.max_peers };

	result = guard_load(&options, &daemon->guard, &taken_over, &error);
	if (result) {
		log_error("%s", *error.text ? error.text : strerror(-result));
		return result;
	}
	guard_probe(daemon->features);
	for (int i = 0; i < FEATURE_COUNT; i++)
		if (!daemon->features[i])
			log_warning("reduced on this kernel: %s", guard_feature_lack(i));
	result = take_charge(daemon, taken_over);
	if (!result)
		result = happenings_start(daemon);
	if (!result)
		result = upkeep_start(daemon);
	if (result) {
		/* What was taken over goes on as it was; what was loaded for this start has no purpose without us. */
		daemon_stop(daemon, !taken_over);
		return result;
	}
	snprintf(path, sizeof(path), PROTOCOL_RUN_DIRECTORY "/%s.sock", daemon->name);
	result = server_open(daemon->base, path, requests_handle, daemon, &daemon->server);
	if (result) {
		log_error("control socket %s: %s", path, strerror(-result));
		daemon_stop(daemon, !taken_over);
		return result;
	}
	log_info("guard '%s' %s: cgroup %s, %u port%s from %u, mode %s", daemon->name,
		 taken_over ? "taken over" : "loaded", cgroup, daemon->config.ports.count,
		 daemon->config.ports.count == 1 ? "" : "s", daemon->config.ports.number[0],
		 names_mode(daemon->config.mode));
	return 0;
}

int daemon_reload(struct daemon *daemon, char *ret_error, size_t error_size)
{
	cleanup_free struct known_peer *known = NULL;
	const struct config_option *fixed;
	struct config_error error = {};
	struct config config;
	size_t known_count;
	bool mode_changed;
	int result;

	result = daemon_configure(daemon->overrides, &config, &error);
	if (!result)
		result = read_known_peers(&config, &known, &known_count, &error);
	if (result) {
		snprintf(ret_error, error_size, "%s", *error.text ? error.text : strerror(-result));
		return result;
	}
	fixed = config_restart_option(&daemon->config, &config);
	if (fixed) {
		snprintf(ret_error, error_size,
			 "[%s] %s takes effect only when the guard is loaded: restart connguardd to change it",
			 fixed->section, fixed->name);
		return -EINVAL;
	}
	mode_changed = config.mode != daemon->config.mode;
	result = apply_config(daemon, &config);
	if (!result)
		result = apply_known_peers(daemon, known, known_count);
	/* Panic stays in force unless the file asks for another mode than it did. */
	if (!result && mode_changed)
		result = guard_mode_write(daemon->guard, config.mode);
	if (result) {
		snprintf(ret_error, error_size, "writing the maps: %s", strerror(-result));
		return result;
	}
	upkeep_reschedule(daemon);
	log_info("configuration reloaded");
	return 0;
}

void daemon_stop(struct daemon *daemon, bool remove_guard)
{
	const struct guard_daemon gone = {};
	struct guard_error error;
	int result;

	server_close(daemon->server);
	upkeep_stop(daemon);
	happenings_stop(daemon);
	if (daemon->guard)
		guard_daemon_write(daemon->guard, &gone);
	guard_close(daemon->guard);
	if (daemon->guard && remove_guard) {
		result = guard_remove(daemon->name, &error);
		if (result)
			log_error("removing the guard: %s", *error.text ? error.text : strerror(-result));
		else
			log_info("guard '%s' removed", daemon->name);
	} else if (daemon->guard) {
		log_info("guard '%s' stays in the kernel, without a daemon", daemon->name);
	}
	sockets_close(daemon->sockets);
	cgroup_set_close(daemon->cgroups);
	if (daemon->netns_fd >= 0)
		close(daemon->netns_fd);
	if (daemon->lock_fd >= 0)
		close(daemon->lock_fd);
	daemon->server = NULL;
	daemon->guard = NULL;
	daemon->sockets = NULL;
	daemon->cgroups = NULL;
	daemon->netns_fd = daemon->lock_fd = -1;
}
