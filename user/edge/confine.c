// SPDX-License-Identifier: BSD-2-Clause
/*
 * See confine.h. Landlock has no library in the distributions: its three system calls are made here.
 *
 * Calls are refused by a list of what is refused, not of what is allowed: a C library that does the same work by a
 * newer call must not break a process that nobody has changed.
 */
#include "edge/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cap-ng.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <seccomp.h>

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

/*
 * Drop all but these from the bounding set, where that may be done. Changes what is effective: what drops must be,
 * and is given up next.
 */
static void limit_bounding_set(const unsigned int *kept, const bool *had, size_t count)
{
	const unsigned int dropping = CAP_SETPCAP;

	if (!confine_has_capability(dropping) || confine_effective(&dropping, 1))
		return;
	capng_clear(CAPNG_SELECT_BOUNDS);
	for (size_t i = 0; i < count; i++)
		if (had[i])
			capng_update(CAPNG_ADD, CAPNG_BOUNDING_SET, kept[i]);
	capng_apply(CAPNG_SELECT_BOUNDS);
}

/* Whether the bounding set has nothing but these. */
static bool is_bounded(const unsigned int *kept, const bool *had, size_t count)
{
	int there;

	for (unsigned int capability = 0; (there = prctl(PR_CAPBSET_READ, capability, 0, 0, 0)) >= 0; capability++) {
		size_t i = 0;

		while (i < count && !(had[i] && kept[i] == capability))
			i++;
		if (there && i == count)
			return false;
	}
	return true;
}

int confine_capabilities(const unsigned int *kept, size_t count, char ret_names[CONFINE_NAMES_MAX],
			 bool *ret_bounded)
{
	char names[CONFINE_NAMES_MAX] = "";
	bool had[64] = {};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	for (size_t i = 0; i < count; i++)
		had[i] = confine_has_capability(kept[i]);
	limit_bounding_set(kept, had, count);
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
	*ret_bounded = is_bounded(kept, had, count);
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

/* Which argument of clone(2) has the flags. */
#ifdef __s390__
#define CLONE_FLAGS_ARGUMENT 1
#else
#define CLONE_FLAGS_ARGUMENT 0
#endif

/* A name that the library does not know yet is left out. */
static const char *const refused_calls[] = {
	"execve", "execveat", "uselib",
	"process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp", "perf_event_open",
	"userfaultfd", "fanotify_init", "syslog",
	"init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load",
	"mount", "umount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "open_tree_attr", "fsopen",
	"fsconfig", "fsmount", "fspick", "mount_setattr",
	"unshare",
	"add_key", "request_key", "keyctl",
	"reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "sethostname", "setdomainname", "iopl",
	"ioperm",
	/* What it does is seen by no filter. */
	"io_uring_setup", "io_uring_enter", "io_uring_register",
};

/*
 * Of bpf(2). Programs that are loaded can be attached, which is how a guard follows its service, and be found by
 * number, with CAP_SYS_ADMIN.
 */
static const __u32 refused_bpf[] = {
	BPF_PROG_LOAD, BPF_MAP_CREATE, BPF_BTF_LOAD, BPF_PROG_ATTACH, BPF_RAW_TRACEPOINT_OPEN, BPF_PROG_BIND_MAP,
	BPF_MAP_GET_FD_BY_ID, BPF_LINK_GET_FD_BY_ID, BPF_BTF_GET_FD_BY_ID, BPF_TASK_FD_QUERY, BPF_ENABLE_STATS,
	36 /* BPF_TOKEN_CREATE, Linux 6.9 */,
};

/* To clone(2) they are what they are to unshare(2). CLONE_NEWTIME is not: it is no flag of clone(). */
static const __u32 refused_clone[] = {
	CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS,
};

static void filter_release(scmp_filter_ctx *filter)
{
	if (*filter)
		seccomp_release(*filter);
}

/* Refuse a call with `error`, or if `argument` is not NULL, where that holds. */
static int refuse(scmp_filter_ctx filter, int error, const char *name, const struct scmp_arg_cmp *argument)
{
	int number = seccomp_syscall_resolve_name(name);

	/* Negative: not a call of this machine, or not known here. */
	return number < 0 ? 0 :
			    seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(error), number, argument ? 1 : 0, argument);
}

static int refuse_some_bpf(scmp_filter_ctx filter)
{
	int result = 0;

	for (size_t i = 0; !result && i < sizeof(refused_bpf) / sizeof(refused_bpf[0]); i++) {
		/* Of the register the kernel looks at these bits alone, whatever is in the others. */
		const struct scmp_arg_cmp command = { .arg = 0, .op = SCMP_CMP_MASKED_EQ,
						      .datum_a = UINT32_MAX, .datum_b = refused_bpf[i] };

		result = refuse(filter, EPERM, "bpf", &command);
	}
	return result;
}

static int refuse_namespaces(scmp_filter_ctx filter, bool may_enter_network)
{
	const struct scmp_arg_cmp other = { .arg = 1, .op = SCMP_CMP_NE, .datum_a = CLONE_NEWNET };
	int result = refuse(filter, EPERM, "setns", may_enter_network ? &other : NULL);

	for (size_t i = 0; !result && i < sizeof(refused_clone) / sizeof(refused_clone[0]); i++) {
		const struct scmp_arg_cmp flag = { .arg = CLONE_FLAGS_ARGUMENT, .op = SCMP_CMP_MASKED_EQ,
						   .datum_a = refused_clone[i], .datum_b = refused_clone[i] };

		result = refuse(filter, EPERM, "clone", &flag);
	}
	/* Its flags are in memory, where no filter can see them. ENOSYS: the C library takes clone() in its place. */
	return result ? result : refuse(filter, ENOSYS, "clone3", NULL);
}

int confine_calls(bool may_enter_network)
{
	scmp_filter_ctx filter __attribute__((cleanup(filter_release))) = seccomp_init(SCMP_ACT_ALLOW);
	int result;

	if (!filter)
		return -ENOMEM;
	result = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM));
	if (!result)
		result = seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
	for (size_t i = 0; !result && i < sizeof(refused_calls) / sizeof(refused_calls[0]); i++)
		result = refuse(filter, EPERM, refused_calls[i], NULL);
	if (!result && !CONFINE_TRACED_AT_END)
		result = refuse(filter, EPERM, "ptrace", NULL);
	if (!result)
		result = refuse_some_bpf(filter);
	if (!result)
		result = refuse_namespaces(filter, may_enter_network);
	return result ? result : seccomp_load(filter);
}
