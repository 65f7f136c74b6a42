// SPDX-License-Identifier: BSD-2-Clause
/* See confine.h. Landlock has no library in the distributions: its three system calls are made here. */
#include "edge/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cap-ng.h>
#include <linux/capability.h>
#include <linux/landlock.h>

#include "base/cleanup.h"

/* include/uapi/linux/landlock.h of Linux 5.19, 6.2 and 6.10: younger than some headers. */
#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
#ifndef LANDLOCK_ACCESS_FS_IOCTL_DEV
#define LANDLOCK_ACCESS_FS_IOCTL_DEV (1ULL << 15)
#endif

/* The rights that a version of Landlock has beyond those of the one before it. */
static const struct {
	int version;
	__u64 rights;
} rights_since[] = {
	{ 1, (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1 },
	{ 2, LANDLOCK_ACCESS_FS_REFER },
	{ 3, LANDLOCK_ACCESS_FS_TRUNCATE },
	{ 5, LANDLOCK_ACCESS_FS_IOCTL_DEV },
};

static __u64 rights_of(unsigned int access)
{
	__u64 rights = 0;

	if (access & CONFINE_READ)
		rights |= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
	if (access & CONFINE_LIST)
		rights |= LANDLOCK_ACCESS_FS_READ_DIR;
	if (access & CONFINE_MAKE)
		rights |= LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR;
	if (access & CONFINE_WRITE)
		rights |= LANDLOCK_ACCESS_FS_WRITE_FILE;
	if (access & CONFINE_REMOVE)
		rights |= LANDLOCK_ACCESS_FS_REMOVE_FILE;
	if (access & CONFINE_REMOVE_DIRECTORIES)
		rights |= LANDLOCK_ACCESS_FS_REMOVE_DIR;
	return rights;
}

/* Allow in the ruleset what the rule says. */
static int add_rule(int ruleset, const struct confine_rule *rule)
{
	struct landlock_path_beneath_attr beneath = { .allowed_access = rights_of(rule->access) };
	cleanup_close int directory = open(rule->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (directory < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	beneath.parent_fd = directory;
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0))
		return -errno;
	return 0;
}

int confine_files(const struct confine_rule *rules, size_t count, const char **ret_refused)
{
	struct landlock_ruleset_attr all = { 0 };
	int version, result;

	*ret_refused = NULL;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	version = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (version < 0)
		return -errno;
	for (size_t i = 0; i < sizeof(rights_since) / sizeof(rights_since[0]); i++)
		if (rights_since[i].version <= version)
			all.handled_access_fs |= rights_since[i].rights;
	cleanup_close int ruleset = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);

	if (ruleset < 0)
		return -errno;
	for (size_t i = 0; i < count; i++) {
		result = add_rule(ruleset, &rules[i]);
		if (result) {
			*ret_refused = rules[i].directory;
			return result;
		}
	}
	return syscall(SYS_landlock_restrict_self, ruleset, 0) ? -errno : version;
}

/* Append a capability's name. */
static void name_capability(unsigned int capability, char names[CONFINE_NAMES_MAX])
{
	const char *name = capng_capability_to_name(capability);
	size_t end = strlen(names);

	if (name)
		snprintf(names + end, CONFINE_NAMES_MAX - end, "%s%s", end ? " " : "", name);
	else
		snprintf(names + end, CONFINE_NAMES_MAX - end, "%s%u", end ? " " : "", capability);
}

int confine_capabilities(const unsigned int *kept, size_t count, char ret_names[CONFINE_NAMES_MAX])
{
	char names[CONFINE_NAMES_MAX] = "";
	bool had[64] = {};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	for (size_t i = 0; i < count; i++)
		had[i] = confine_has_capability(kept[i]);
	capng_clear(CAPNG_SELECT_CAPS);
	for (size_t i = 0; i < count; i++) {
		if (!had[i])
			continue;
		if (capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, kept[i]))
			return -EINVAL;
		name_capability(kept[i], names);
	}
	errno = EPERM;
	if (capng_apply(CAPNG_SELECT_CAPS))
		return -errno;
	memcpy(ret_names, names, sizeof(names));
	return 0;
}

int confine_effective(const unsigned int *kept, size_t count)
{
	/* Also reads the sets that stay. */
	if (capng_get_caps_process())
		return -EIO;
	for (unsigned int capability = 0; capability <= CAP_LAST_CAP; capability++)
		capng_update(CAPNG_DROP, CAPNG_EFFECTIVE, capability);
	for (size_t i = 0; i < count; i++)
		if (capng_have_capability(CAPNG_PERMITTED, kept[i]))
			capng_update(CAPNG_ADD, CAPNG_EFFECTIVE, kept[i]);
	errno = EPERM;
	return capng_apply(CAPNG_SELECT_CAPS) ? -errno : 0;
}

bool confine_has_capability(unsigned int capability)
{
	return capng_get_caps_process() == 0 && capng_have_capability(CAPNG_PERMITTED, capability);
}
