// SPDX-License-Identifier: BSD-2-Clause
/* Other guards that decide about the same sockets: see daemon.h and edge/overlaps.h. */
#include "connguardd/daemon.h"

#include <string.h>
#include <sys/stat.h>

#include "base/log.h"

/*
 * For so many heartbeats after the directory of all pins has changed, for a guard that comes is pinned before it has its
 * ports. The periodic check finds who takes longer.
 */
#define QUIET_BEATS 32
/* In that time they are looked for at every second one. */
#define LOOK_BEATS 2

static bool is_known(const struct daemon *daemon, const char *name)
{
	for (size_t i = 0; i < daemon->overlap_count; i++)
		if (!strcmp(daemon->overlaps[i].name, name))
			return true;
	return false;
}

void neighbours_look(struct daemon *daemon)
{
	char ports[OVERLAP_PORTS_TEXT_MAX];
	struct overlap *overlaps;
	size_t count;
	int result = overlaps_find(daemon->guard, daemon->name, &overlaps, &count);

	if (result) {
		log_debug("looking for other guards: %s", strerror(-result));
		return;
	}
	for (size_t i = 0; i < count; i++)
		if (!is_known(daemon, overlaps[i].name))
			log_warning("guard '%s' guards port(s) %s too, for cgroup %s: both decide about the same "
				    "sockets",
				    overlaps[i].name, overlap_ports_text(&overlaps[i], ports), overlaps[i].cgroup);
	overlaps_free(daemon->overlaps, daemon->overlap_count);
	daemon->overlaps = overlaps;
	daemon->overlap_count = count;
}

void neighbours_beat(struct daemon *daemon)
{
	struct stat pins;

	if (stat(PIN_ROOT, &pins))
		return;
	if (pins.st_mtim.tv_sec != daemon->pins_changed.tv_sec ||
	    pins.st_mtim.tv_nsec != daemon->pins_changed.tv_nsec) {
		daemon->pins_changed = pins.st_mtim;
		/* Where they come and go all the time, every second one is the second all the same. */
		daemon->beats_to_look = QUIET_BEATS + daemon->beats_to_look % LOOK_BEATS;
	}
	if (daemon->beats_to_look && --daemon->beats_to_look % LOOK_BEATS == 0)
		neighbours_look(daemon);
}

void neighbours_stop(struct daemon *daemon)
{
	overlaps_free(daemon->overlaps, daemon->overlap_count);
	daemon->overlaps = NULL;
	daemon->overlap_count = 0;
}
