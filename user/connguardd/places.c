// SPDX-License-Identifier: BSD-2-Clause
/*
 * Where the guard is, as time goes by: the cgroup of a service that is started anew is another one,
 * a network namespace may be made again under its name, and bpffs unmounted. Notices, and follows.
 * See daemon.h.
 *
 * Notices at once where the kernel tells of it, and otherwise with the heartbeat. A service that is
 * started anew dials within milliseconds: until the hooks are at its cgroup it is not guarded. So a cgroup that is not
 * there at the start is waited for with everything loaded.
 */
#include "connguardd/daemon.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/notify.h"
#include "edge/cgroups.h"
#include "edge/furnish.h"
#include "edge/host.h"
#include "edge/place_watch.h"

/*
 * After a look at the listeners there is none with a heartbeat for so many times as long as it has worked: many of them
 * take a fortieth of a processor.
 */
#define LISTENERS_REST_RATIO 40

/* Which path is which, to place_watch_path(). */
enum watched {
	WATCHED_CGROUP,
	WATCHED_NETNS,
};

/* ---- pins ---- */

/* False, and said, when another daemon has locked the pins: what becomes of them is its business. */
static bool pins_are_ours(struct daemon *daemon)
{
	if (instance_keep(&daemon->instance) == -EWOULDBLOCK) {
		problem_set(daemon, PROBLEM_TAKEN,
			    "another process has taken over what is pinned (it holds %s): this connguardd neither "
			    "follows its service nor removes the guard any more; stop it",
			    daemon->instance.pins.path);
		return false;
	}
	problem_clear(daemon, PROBLEM_TAKEN);
	return true;
}

static void look_at_pins(struct daemon *daemon)
{
	struct guard_error error;
	int result = guard_pin_again(daemon->guard, &error);

	if (result < 0) {
		problem_set(daemon, PROBLEM_PINS,
			    "what was pinned is gone, the hooks end with this daemon: %s",
			    *error.text ? error.text : strerror(-result));
		return;
	}
	if (result > 0)
		log_warning("%d pin%s of the guard had been removed and %s made again", result,
			    result == 1 ? "" : "s", result == 1 ? "is" : "are");
	problem_clear(daemon, PROBLEM_PINS);
}

/* ---- network namespace ---- */

/* 1 when the descriptors are of one namespace. */
static bool same_place(int left_fd, int right_fd)
{
	struct stat left, right;

	return fstat(left_fd, &left) == 0 && fstat(right_fd, &right) == 0 &&
	       left.st_ino == right.st_ino && left.st_dev == right.st_dev;
}

/*
 * Enter the network namespace that has the configured path now, if it is another one. 1: it was, and
 * everything that belongs to the old one has to follow.
 */
static bool enter_new_netns(struct daemon *daemon)
{
	const char *path = daemon->config.netns;
	cleanup_close int fd = -1;
	int result;

	if (!*path)
		return false;
	result = host_open_netns(path, &fd);
	/* A file that no namespace is mounted on yet is none. */
	if (result == -ENOENT || result == -EINVAL || result == -ENOTDIR) {
		problem_set(daemon, PROBLEM_NETNS,
			    "there is no network namespace at %s any more: the one that was there is "
			    "guarded as long as it lives, and another one when it is made",
			    path);
		return false;
	}
	if (!result && same_place(fd, daemon->surroundings.netns_fd)) {
		problem_clear(daemon, PROBLEM_NETNS);
		return false;
	}
	if (!result)
		result = surroundings_follow_netns(&daemon->surroundings, fd);
	if (result) {
		problem_set(daemon, PROBLEM_NETNS,
			    "another network namespace is at %s now, and cannot be entered (%s): restart "
			    "connguardd to guard it",
			    path, strerror(-result));
		return false;
	}
	revival_follow(daemon);
	packets_follow(daemon);
	problem_clear(daemon, PROBLEM_NETNS);
	return true;
}

/* ---- cgroup ---- */

const char *places_waits_for(const struct daemon *daemon)
{
	return daemon->cgroup_gone ? daemon->surroundings.cgroup : NULL;
}

void places_tell(const struct daemon *daemon)
{
	if (daemon->cgroup_gone)
		notify_status("nothing is guarded: waiting for cgroup %s", daemon->surroundings.cgroup);
	else
		notify_status("guarding; see: connguard -n %s status", daemon->name);
}

/* It was never there: a service that is not up yet, or a mistake in the path, which is to be seen. */
static void say_missing(struct daemon *daemon)
{
	char setting[CONFIG_SETTING_TEXT_MAX];
	const char *cgroup = daemon->surroundings.cgroup;
	size_t there = cgroups_there(cgroup);

	problem_set(daemon, PROBLEM_CGROUP,
		    "waiting for cgroup %s, nothing is guarded until it is made: %.*s is there, '%s' is not in "
		    "it (%s)",
		    cgroup, (int)there, cgroup, cgroup + there + strspn(cgroup + there, "/"),
		    config_setting_text(&daemon->config, config_find_option("guard", "cgroup"), setting));
}

/* 1 when the path of the guarded cgroup names another cgroup than the hooks are at. */
static bool find_new_cgroup(struct daemon *daemon, __u64 attached)
{
	bool was_gone = daemon->cgroup_gone;
	__u64 id;
	int result = cgroups_id_of_path(daemon->surroundings.cgroup, &id);

	daemon->cgroup_gone = result == -ENOENT;
	if (!daemon->cgroup_gone)
		problem_clear(daemon, PROBLEM_CGROUP);
	if (daemon->cgroup_gone && !daemon->surroundings.cgroups)
		say_missing(daemon);
	else if (daemon->cgroup_gone && !was_gone)
		log_warning("the guarded cgroup %s is gone: nothing is guarded until it is made again",
			    daemon->surroundings.cgroup);
	if (daemon->cgroup_gone && !was_gone)
		places_tell(daemon);
	return !result && id != attached;
}

/* ---- who listens ---- */

static bool port_among(const __u16 *ports, size_t count, __u16 port)
{
	for (size_t i = 0; i < count; i++)
		if (ports[i] == port)
			return true;
	return false;
}

/* Say it once of each port whose connections pass by the guard, until that has changed. */
static void say_strange_ports(struct daemon *daemon)
{
	__u16 ports[CONFIG_PORTS_MAX];
	size_t count = surroundings_strange_ports(&daemon->surroundings, &daemon->config, ports);

	for (size_t i = 0; i < count; i++)
		if (!port_among(daemon->strange_ports, daemon->strange_port_count, ports[i]))
			log_warning("somebody listens on port %u with a socket made outside cgroup %s: "
				    "what it accepts is not guarded",
				    ports[i], daemon->config.cgroup);
	memcpy(daemon->strange_ports, ports, count * sizeof(*ports));
	daemon->strange_port_count = count;
}

void places_look_at_listeners(struct daemon *daemon)
{
	__u64 worked = clock_worked_ns();
	int result = furnish_listeners(daemon->guard, &daemon->surroundings, &daemon->config);

	if (result != daemon->listeners_result && result)
		log_warning("the listeners could not be looked at: %s; tried again until they can", strerror(-result));
	daemon->listeners_result = result;
	if (!result)
		say_strange_ports(daemon);
	daemon->listeners_not_before_ns =
		clock_now_ns() + LISTENERS_REST_RATIO * (clock_worked_ns() - worked);
}

/* ---- following ---- */

/* What the guard knows of its place beside where its hooks are. */
static int settle(struct daemon *daemon)
{
	struct surroundings *surroundings = &daemon->surroundings;
	int result = surroundings_follow_cgroup(surroundings);

	if (!result)
		result = furnish_policy(daemon->guard, &daemon->config, surroundings);
	if (!result)
		result = furnish_listeners(daemon->guard, surroundings, &daemon->config);
	if (!result)
		result = own_follow(daemon);
	return result;
}

/* The hooks first: until they are there, nothing is guarded. */
static void follow(struct daemon *daemon)
{
	struct surroundings *surroundings = &daemon->surroundings;
	struct guard_error error;
	int adopted, result;

	result = guard_follow(daemon->guard, surroundings->cgroup, surroundings->netns_fd, &error);
	if (!result)
		result = settle(daemon);
	if (result) {
		problem_set(daemon, PROBLEM_PLACE,
			    "the guard cannot follow its service to %s: %s", surroundings->cgroup,
			    *error.text ? error.text : strerror(-result));
		return;
	}
	daemon->must_follow = false;
	problem_clear(daemon, PROBLEM_PLACE);
	places_tell(daemon);
	log_info("the guard has followed its service: cgroup %s%s%s", surroundings->cgroup,
		 *daemon->config.netns ? ", network namespace " : "", daemon->config.netns);
	adopted = furnish_links(daemon->guard, surroundings, &daemon->config, false);
	if (adopted > 0)
		log_info("%d link%s that came up meanwhile taken under guard", adopted,
			 adopted == 1 ? "" : "s");
	/* What the old place had and this one has not is to be found out soon. */
	reconcile_now(daemon, true);
}

void places_look(struct daemon *daemon)
{
	__u64 attached;

	if (!pins_are_ours(daemon))
		return;
	if (guard_cgroup_id(daemon->guard, &attached) == -ENOENT) {
		problem_set(daemon, PROBLEM_REMOVED,
			    "the guard was removed under its daemon, nothing is guarded: restart "
			    "connguardd, or stop it");
		return;
	}
	/* First be told of the next change, then look. */
	place_watch_path(daemon->place_watch, WATCHED_CGROUP, daemon->surroundings.cgroup);
	if (*daemon->config.netns)
		place_watch_path(daemon->place_watch, WATCHED_NETNS, daemon->config.netns);
	if (enter_new_netns(daemon))
		daemon->must_follow = true;
	if (find_new_cgroup(daemon, attached))
		daemon->must_follow = true;
	if (daemon->must_follow && !daemon->cgroup_gone)
		follow(daemon);
	look_at_pins(daemon);
	/* The kernel does not tell of others' who begin to listen, and where they do their knocks are not ours to refuse. */
	if (clock_now_ns() >= daemon->listeners_not_before_ns)
		places_look_at_listeners(daemon);
}

static void on_place(evutil_socket_t fd, short what, void *argument)
{
	struct daemon *daemon = argument;

	(void)fd;
	(void)what;
	place_watch_drain(daemon->place_watch);
	places_look(daemon);
}

int places_start(struct daemon *daemon)
{
	int fd, result = place_watch_open(&daemon->place_watch, &fd);

	if (result)
		return result;
	daemon->place_event = event_new(daemon->base, fd, EV_READ | EV_PERSIST, on_place, daemon);
	if (!daemon->place_event || event_add(daemon->place_event, NULL))
		return -ENOMEM;
	return 0;
}

void places_stop(struct daemon *daemon)
{
	if (daemon->place_event)
		event_free(daemon->place_event);
	daemon->place_event = NULL;
	place_watch_close(daemon->place_watch);
	daemon->place_watch = NULL;
}
