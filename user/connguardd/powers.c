// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the daemon gives up once it guards, and what it keeps. See daemon.h; connguardd(8) has the table,
 * and the systemd unit what it starts with.
 */
#include "connguardd/daemon.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>
#include <linux/capability.h>

#include <connguard/protocol.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "edge/state_store.h"

/* The rules, as many as there is something to allow for. */
struct rules {
	struct confine_rule *list; /* each with a directory to free */
	size_t count;
	int result;                /* -ENOMEM: they are not all there */
};

static void rules_free(struct rules *rules)
{
	for (size_t i = 0; i < rules->count; i++)
		free((char *)rules->list[i].directory);
	free(rules->list);
}

/* Takes `directory` over; NULL: memory ran out. */
static void allow(struct rules *rules, char *directory, unsigned int access)
{
	struct confine_rule *longer = realloc(rules->list, (rules->count + 1) * sizeof(*longer));

	if (longer)
		rules->list = longer;
	if (!longer || !directory) {
		free(directory);
		rules->result = -ENOMEM;
		return;
	}
	rules->list[rules->count++] = (struct confine_rule){ .directory = directory, .access = access };
}

/* The directory of a file. */
static void allow_directory_of(struct rules *rules, const char *path)
{
	cleanup_free char *copy = strdup(path);

	allow(rules, copy ? strdup(dirname(copy)) : NULL, CONFINE_READ);
}

/*
 * Read a file that may be replaced at any time, as editors do: its directory, and the one that it really
 * lies in, if there is one that can be found.
 */
static void allow_file(struct rules *rules, const char *path)
{
	cleanup_free char *real = realpath(path, NULL);

	if (!real && errno == ENOMEM)
		rules->result = -ENOMEM;
	allow_directory_of(rules, path);
	if (real)
		allow_directory_of(rules, real);
}

static void add_rules(struct daemon *daemon, struct rules *rules)
{
	char path[CONFIG_PATH_MAX], *pins = NULL, *cgroups = NULL;

	/* Reload. The usual place too, where the peers file may come to be. */
	allow(rules, strdup(CONFIG_DIRECTORY), CONFINE_READ);
	allow_file(rules, config_path(daemon->sources, path));
	if (*daemon->config.peers)
		allow_file(rules, daemon->config.peers);
	/* A namespace that is made again under its name. */
	if (*daemon->config.netns)
		allow_file(rules, daemon->config.netns);
	/* Cgroups below the guard's come and go, and are found again by number. */
	if (cgroups_mount_point(&cgroups) == 0)
		allow(rules, cgroups, CONFINE_READ);
	/* The mount table, the own network namespace; the SYN timeout of the host. */
	allow(rules, strdup("/proc/self"), CONFINE_READ);
	allow(rules, strdup("/proc/sys/net/ipv4"), CONFINE_READ);
	/*
	 * The pins and their lock are removed at the end, or made again when somebody has removed them, or has
	 * mounted bpffs anew: a rule on bpffs itself would be about the mount that is there now.
	 */
	allow(rules, strdup(PIN_PARENT),
	      CONFINE_MAKE | CONFINE_REMOVE | CONFINE_REMOVE_DIRECTORIES | CONFINE_LIST);
	allow(rules, asprintf(&pins, PIN_ROOT "/%s", daemon->name) < 0 ? NULL : pins, CONFINE_READ);
	/* What operators decide: a new file takes the place of the old one. */
	allow(rules, strdup(state_store_directory(path)),
	      CONFINE_READ | CONFINE_MAKE | CONFINE_WRITE | CONFINE_REMOVE);
	/* The control socket and the lock. */
	allow(rules, strdup(PROTOCOL_RUN_DIRECTORY), CONFINE_REMOVE);
}

/* 0 also where the kernel cannot, which is noted; a negative errno, logged: what is needed cannot be allowed. */
static int confine_daemon_files(struct daemon *daemon)
{
	struct rules rules __attribute__((cleanup(rules_free))) = {};
	const char *refused = NULL;
	int version;

	add_rules(daemon, &rules);
	version = rules.result ? rules.result : confine_files(rules.list, rules.count, &refused);
	if (rules.result || refused) {
		log_error("limiting access to files: %s%s%s", refused ? refused : "", refused ? ": " : "",
			  strerror(-version));
		return version;
	}
	if (version > 0)
		daemon->confinement.landlock_version = version;
	else
		snprintf(daemon->confinement.files_open, sizeof(daemon->confinement.files_open),
			 "no Landlock here (%s)", strerror(-version));
	return 0;
}

/* Where the kernel cannot, that is noted. */
static void confine_daemon_calls(struct daemon *daemon)
{
	struct confinement *confinement = &daemon->confinement;
	int result = confine_calls(*daemon->config.netns);

	confinement->calls_limited = !result;
	if (!result)
		return;
	snprintf(confinement->calls_open, sizeof(confinement->calls_open), "no seccomp here (%s)",
		 strerror(-result));
	log_warning("system calls are not limited: %s", confinement->calls_open);
}

/*
 * Whether bpf(2) does what a running daemon asks of it without a capability. Where it is not for everybody,
 * Linux has refused all of it to others until 5.18, and has refused only making programs and maps since
 * 5.19. Found by asking: only while it is not for everybody can that be told apart.
 */
static bool bpf_needs_no_capability(struct daemon *daemon)
{
	const struct guard_command nobody = { .operation = COMMAND_EXPIRE };
	struct hook_state hooks[HOOK_COUNT];
	cleanup_free struct socket_holder *holders = NULL;
	cleanup_fclose FILE *setting = fopen("/proc/sys/kernel/unprivileged_bpf_disabled", "re");
	enum guard_mode mode;
	size_t count;
	int answer = guard_command(daemon->guard, &nobody);

	/* -EINVAL: the command ran, in a guard that has no policy yet. */
	return setting && fgetc(setting) > '0' && !guard_mode_read(daemon->guard, &mode) &&
	       (answer == -ENOENT || answer == -EINVAL) &&
	       !guard_holders(daemon->guard, &holders, &count) &&
	       !guard_adopt(daemon->guard, NULL, NULL, 0) && !guard_hooks(daemon->guard, hooks);
}

/* The most that needed() can name. */
#define KEPT_MAX 6

/* Writes what to keep to `kept` and returns how many. */
static size_t needed(struct daemon *daemon, unsigned int kept[KEPT_MAX])
{
	size_t count = 0;

	kept[count++] = CAP_NET_ADMIN;       /* destroy sockets, attach and query the hooks */
	kept[count++] = CAP_DAC_READ_SEARCH; /* files of other users at reload; cgroups by number */
	if (confine_effective(kept, count) || !bpf_needs_no_capability(daemon))
		/* A container may have the other one in its place, which the kernel takes as well. */
		kept[count++] = confine_has_capability(CAP_BPF) ? CAP_BPF : CAP_SYS_ADMIN;
	if (!daemon->features[FEATURE_SOCKET_ITERATOR])
		kept[count++] = CAP_SYS_PTRACE;
	/* Entering a namespace that is made again under its name takes no less, and a raw socket there. */
	if (*daemon->config.netns) {
		kept[count++] = CAP_SYS_ADMIN;
		kept[count++] = CAP_NET_RAW;
	}
	return count;
}

int powers_drop(struct daemon *daemon)
{
	unsigned int kept[KEPT_MAX];
	size_t count = needed(daemon, kept);
	int result = 0;

	/* What libraries would read when they first need it: the time zone, a seed for hash tables. */
	tzset();
	json_object_seed(0);
	/*
	 * Without the iterator of the kernel only /proc tells who holds a link, which takes power over
	 * processes, and what Landlock confines has none. Those kernels (before 5.15) are also the ones
	 * that have no Landlock, but for two.
	 */
	if (daemon->features[FEATURE_SOCKET_ITERATOR])
		result = confine_daemon_files(daemon);
	else
		snprintf(daemon->confinement.files_open, sizeof(daemon->confinement.files_open),
			 "on this kernel only /proc tells who holds a link");
	if (result)
		return result;
	if (!daemon->confinement.landlock_version)
		log_warning("access to files is not limited: %s", daemon->confinement.files_open);
	result = confine_capabilities(kept, count, daemon->confinement.capabilities, &daemon->confinement.bounded);
	if (result) {
		log_error("giving up capabilities: %s", strerror(-result));
		return result;
	}
	confine_daemon_calls(daemon);
	return 0;
}

void powers_explain(const struct daemon *daemon, int result, char *error, size_t error_size)
{
	size_t end = strlen(error);

	if (result == -EACCES && daemon->confinement.landlock_version)
		snprintf(error + end, error_size - end,
			 "; since its start connguardd may read only the directories in which its files were "
			 "then, and " CONFIG_DIRECTORY ": move it there, or restart connguardd");
}
