// SPDX-License-Identifier: BSD-2-Clause
/* From configuration to a guard in the kernel, reload, the end. See daemon.h. */
#include "connguardd/daemon.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <connguard/protocol.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "edge/furnish.h"
#include "edge/host.h"
#include "pure/names.h"

/*
 * Where processors are busy the daemon has one before others: handshakes wait for it, and it needs little. Programs are
 * loaded at the priority with which it was started.
 */
#define NICE (-10)

/* One daemon a guard, and nobody who loads or removes it meanwhile. */
static int lock_instance(struct daemon *daemon)
{
	struct guard_error error;
	int result = guard_bpffs_mount(&error);

	if (result) {
		log_error("%s", error.text);
		return result;
	}
	result = instance_lock(daemon->name, &daemon->instance);
	if (result == -EWOULDBLOCK)
		log_error("another connguardd runs for guard '%s', or connguard loads or removes it (it "
			  "holds %s)",
			  daemon->name, daemon->instance.path);
	else if (result)
		log_error("locking %s: %s", daemon->instance.path, strerror(-result));
	return result;
}

/* Say what became of the links that are older than the guard, or than the present ports. */
static void log_adopted(int adopted)
{
	if (adopted < 0)
		log_warning("taking existing links under guard: %s; the periodic check will try again",
			    strerror(-adopted));
	else if (adopted > 0)
		log_info("%d existing link%s taken under guard", adopted, adopted == 1 ? "" : "s");
}

/* What is allowed and probably not meant. */
static void say_doubts(const struct config *config)
{
	char setting[CONFIG_SETTING_TEXT_MAX], timeout[CLOCK_DURATION_TEXT_MAX];
	__u64 timeout_ns;

	if (strcmp(config->cgroup, "/") == 0)
		log_warning("%s: the whole host is guarded, and whatever any user of it dials on a guarded port "
			    "counts as the service's own dial: name the service's cgroup",
			    config_setting_text(config, config_find_option("guard", "cgroup"), setting));
	if (host_syn_timeout(&timeout_ns) == 0 && config->claim_max_ns < timeout_ns)
		log_warning("%s: less than this host takes to give a dial up (%s): such a dial will lose its "
			    "claim and not its SYNs",
			    config_setting_text(config, config_find_option("backoff", "claim_max"), setting),
			    clock_duration_format(timeout_ns, timeout));
}

/* A guard keeps its maps as long as it is there, whatever max_peers has become. */
static void look_at_capacity(struct daemon *daemon)
{
	char setting[CONFIG_SETTING_TEXT_MAX];
	__u32 room = guard_peers_max(daemon->guard);

	if (room == daemon->config.max_peers)
		problem_clear(daemon, PROBLEM_CAPACITY);
	else
		problem_set(daemon, PROBLEM_CAPACITY,
			    "%s: not in force, the guard that was there has room for %u peers and keeps it: stop "
			    "connguardd, which removes the guard, then start it (a restart keeps the guard)",
			    config_setting_text(&daemon->config, config_find_option("guard", "max_peers"), setting),
			    room);
}

/* Make the guard be what is configured, and say what deserves a line. Takes `known`. */
static int take_charge(struct daemon *daemon, struct known_peer *known, size_t known_count, bool taken_over,
		       struct furnished *ret_furnished)
{
	struct config_error error;
	struct guard_error why;
	int result = furnish_all(daemon->guard, &daemon->surroundings, &daemon->config, known, known_count,
				 taken_over, false, decisions_kept(daemon), ret_furnished, &error);

	if (result) {
		free(known);
		log_error("%s", error.text);
		return result;
	}
	/* Until here a guard that was taken over has the programs, and the place, that it had. */
	result = guard_attach(daemon->guard, &why);
	if (result) {
		free(known);
		log_error("%s", *why.text ? why.text : strerror(-result));
		return result;
	}
	room_await(daemon, known, known_count, ret_furnished->left);
	own_furnished(daemon, ret_furnished, taken_over);
	say_doubts(&daemon->config);
	log_adopted(ret_furnished->adopted);
	decisions_settle(daemon, ret_furnished);
	look_at_capacity(daemon);
	if (ret_furnished->mode != daemon->config.mode)
		log_warning("an operator has decided on mode %s, the configuration says %s: it stays so until "
			    "`connguard resume`",
			    names_mode(ret_furnished->mode), names_mode(daemon->config.mode));
	return 0;
}

/*
 * The configured cgroup is not there, and the guard that was taken over is at another one: to wait would leave that
 * without a daemon's eyes, for a path that may be a mistake. 0: its cgroup is gone too.
 */
static int refuse_to_leave(const struct daemon *daemon)
{
	char setting[CONFIG_SETTING_TEXT_MAX];
	cleanup_free char *cgroup = NULL;

	if (guard_cgroup(daemon->guard, &cgroup))
		return 0;
	log_error("%s: there is no such cgroup, and the guard is at %s, where it goes on; stop it first if it shall wait",
		  config_setting_text(&daemon->config, config_find_option("guard", "cgroup"), setting), cgroup);
	return -ENOENT;
}

int daemon_start(struct daemon *daemon)
{
	cleanup_free struct known_peer *known = NULL;
	struct config_error mistake = {};
	struct guard_error error;
	struct furnished furnished __attribute__((cleanup(furnished_free))) = {};
	size_t known_count;
	char path[128];
	bool taken_over;
	int result;

	result = lock_instance(daemon);
	if (result)
		return result;
	/* With all powers yet: a file that others cannot read serves at the start. */
	result = furnish_read_known(&daemon->config, &known, &known_count, &mistake);
	if (!result)
		result = surroundings_enter(&daemon->config, true, &daemon->surroundings, &mistake);
	if (result) {
		log_error("%s", *mistake.text ? mistake.text : strerror(-result));
		daemon_stop(daemon, false);
		return result;
	}
	const struct guard_options options = { .name = daemon->name,
					       .cgroup = daemon->surroundings.cgroups ?
								 daemon->surroundings.cgroup :
								 NULL,
					       .netns_fd = daemon->surroundings.netns_fd,
					       .max_peers = daemon->config.max_peers,
					       .attach_later = true };

	result = guard_load(&options, &daemon->guard, &taken_over, &error);
	if (result) {
		log_error("%s", *error.text ? error.text : strerror(-result));
		daemon_stop(daemon, false);
		return result;
	}
	if (taken_over && !daemon->surroundings.cgroups) {
		result = refuse_to_leave(daemon);
		if (result) {
			daemon_stop(daemon, false);
			return result;
		}
	}
	guard_probe(daemon->features);
	for (int i = 0; i < FEATURE_COUNT; i++)
		if (!daemon->features[i])
			log_warning("reduced on this kernel: %s", guard_feature_lack(i));
	result = decisions_start(daemon);
	if (!result)
		result = probing_start(daemon);
	if (!result)
		result = replaced_start(daemon);
	if (!result)
		result = surplus_start(daemon);
	if (!result)
		result = happenings_start(daemon);
	if (!result)
		result = own_start(daemon);
	if (!result)
		result = places_start(daemon);
	if (!result)
		result = revival_start(daemon);
	if (!result)
		result = packets_start(daemon);
	if (!result)
		result = syns_start(daemon);
	if (!result)
		result = room_start(daemon);
	if (!result)
		result = reconcile_start(daemon);
	if (!result)
		result = upkeep_start(daemon);
	snprintf(path, sizeof(path), PROTOCOL_RUN_DIRECTORY "/%s.sock", daemon->name);
	if (!result) {
		result = server_open(daemon->base, path, requests_handle, daemon, &daemon->server);
		if (result)
			log_error("control socket %s: %s", path, strerror(-result));
	}
	if (setpriority(PRIO_PROCESS, 0, NICE))
		log_debug("no higher priority: %s", strerror(errno));
	if (!result)
		result = powers_drop(daemon);
	/* Last of all that can fail: a daemon that cannot start changes nothing of a guard that was there, nor its place. */
	if (!result)
		result = take_charge(daemon, take_pointer(known), known_count, taken_over, &furnished);
	if (!result)
		result = upkeep_count_from_now(daemon);
	if (result) {
		/*
		 * What was taken over goes on as it was; what was loaded for this start has no
		 * purpose without us.
		 */
		daemon_stop(daemon, !taken_over);
		return result;
	}
	upkeep_beat(daemon);
	/*
	 * The first look at once: what nobody watched while there was no daemon, backoffs that have
	 * begun, and the peers that are due.
	 */
	reconcile_now(daemon, false);
	neighbours_look(daemon);
	decisions_try(daemon);
	log_info("guard '%s' %s: cgroup %s%s, %u port%s from %u, mode %s", daemon->name,
		 taken_over ? "taken over" : "loaded", daemon->surroundings.cgroup,
		 places_waits_for(daemon) ? " (not there yet)" : "", daemon->config.ports.count,
		 daemon->config.ports.count == 1 ? "" : "s", daemon->config.ports.number[0],
		 names_mode(furnished.mode));
	return 0;
}

bool daemon_enforces(const struct daemon *daemon)
{
	enum guard_mode mode;

	return guard_mode_read(daemon->guard, &mode) == 0 && mode == MODE_ENFORCE;
}

int daemon_reload(struct daemon *daemon, char *ret_error, size_t error_size)
{
	cleanup_free struct known_peer *known = NULL;
	const struct config_option *fixed;
	char setting[CONFIG_SETTING_TEXT_MAX];
	struct config config, in_force = daemon->config;
	struct config_error error = {};
	size_t known_count;
	bool mode_changed, ports_changed, trims;
	int result;

	result = config_gather(daemon->sources, &config, &error);
	if (!result)
		result = furnish_read_known(&config, &known, &known_count, &error);
	if (result) {
		snprintf(ret_error, error_size, "%s", *error.text ? error.text : strerror(-result));
		powers_explain(daemon, result, ret_error, error_size);
		return result;
	}
	/* As many as the guard has need no load, whatever was asked for at the start. */
	if (config.max_peers == guard_peers_max(daemon->guard))
		in_force.max_peers = config.max_peers;
	fixed = config_restart_option(&in_force, &config);
	if (fixed) {
		snprintf(ret_error, error_size,
			 "%s: takes effect only when the guard is loaded: %s connguardd to change it",
			 config_setting_text(&config, fixed, setting),
			 strcmp(fixed->name, "max_peers") ? "restart" : "stop and start");
		return -EINVAL;
	}
	mode_changed = config.mode != daemon->config.mode;
	ports_changed = memcmp(&config.ports, &daemon->config.ports, sizeof(config.ports));
	decisions_collect(daemon);
	trims = config.adopt == ADOPT_TRIM && daemon->config.adopt != ADOPT_TRIM;
	result = furnish_config(daemon->guard, &config, &daemon->surroundings, known, known_count, NULL,
				&error);
	if (result) {
		snprintf(ret_error, error_size, "%s", error.text);
		return result;
	}
	room_await(daemon, NULL, 0, 0);
	/* Panic stays in force unless the file asks for another mode than it did. */
	if (mode_changed)
		guard_mode_write(daemon->guard, config.mode);
	daemon->config = config;
	look_at_capacity(daemon);
	places_look_at_listeners(daemon);
	if (ports_changed)
		log_adopted(furnish_links(daemon->guard, &daemon->surroundings, &daemon->config, true));
	log_set_level(config.log_level);
	decisions_reconfigured(daemon);
	reconcile_reconfigured(daemon);
	neighbours_look(daemon);
	/* Those that have been there for long are found by the check. */
	if (trims)
		reconcile_now(daemon, false);
	say_doubts(&daemon->config);
	log_info("configuration reloaded");
	return 0;
}

/* Nobody removes what another daemon has taken over, or has pinned in its place. */
static bool is_ours(struct daemon *daemon)
{
	return instance_keep(&daemon->instance) != -EWOULDBLOCK && guard_pinned(daemon->guard) != -EEXIST;
}

void daemon_stop(struct daemon *daemon, bool remove_guard)
{
	/* Nobody announces any more; which daemon it was stays, so that it is missed where it should be. */
	const struct guard_daemon gone = { .process_id = getpid() };
	struct guard_error error;
	bool ours = daemon->guard && is_ours(daemon);
	int result;

	server_close(daemon->server);
	reconcile_stop(daemon);
	room_stop(daemon);
	upkeep_stop(daemon);
	syns_stop(daemon);
	packets_stop(daemon);
	revival_stop(daemon);
	places_stop(daemon);
	neighbours_stop(daemon);
	own_stop(daemon);
	happenings_stop(daemon);
	replaced_stop(daemon);
	surplus_stop(daemon);
	probing_stop(daemon);
	holders_forget(&daemon->holders);
	/* Who never was alive to the hooks is not missed. */
	if (ours && daemon->beaten)
		guard_daemon_write(daemon->guard, &gone);
	if (ours && remove_guard)
		decisions_collect(daemon);
	decisions_stop(daemon);
	guard_close(daemon->guard);
	if (daemon->guard && !ours) {
		log_warning("guard '%s' stays: it is not this connguardd's any more", daemon->name);
	} else if (daemon->guard && remove_guard) {
		result = guard_remove(daemon->name, &error);
		if (result)
			log_error("removing the guard: %s", *error.text ? error.text : strerror(-result));
		else
			log_info("guard '%s' removed", daemon->name);
	} else if (daemon->guard) {
		log_info("guard '%s' stays in the kernel, without a daemon", daemon->name);
	}
	surroundings_leave(&daemon->surroundings);
	instance_unlock(&daemon->instance);
	daemon->server = NULL;
	daemon->guard = NULL;
}
