/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Give up what a process does not need any more: capabilities (capabilities(7)), access to files
 * (landlock(7), Linux 5.13) and calls of the kernel (seccomp(2)).
 *
 * Owns how it is done. Knows nothing of what the daemon needs, and logs nothing. There is no way back, for
 * what is executed later neither (no_new_privs). For the thread that calls, and those that it makes later.
 */
#ifndef EDGE_CONFINE_H
#define EDGE_CONFINE_H

#include <stdbool.h>
#include <stddef.h>

/* What may be done in a directory and all below it, beside looking things up: combine at will. */
enum confine_access {
	CONFINE_READ = 1 << 0,               /* read files, list directories */
	CONFINE_MAKE = 1 << 1,               /* make regular files and directories (but not write to a file) */
	CONFINE_REMOVE = 1 << 2,             /* remove files, sockets included */
	CONFINE_REMOVE_DIRECTORIES = 1 << 3, /* remove empty directories */
	CONFINE_LIST = 1 << 4,               /* open and list directories, read no file */
	CONFINE_WRITE = 1 << 5,              /* write to files */
};

/*
 * A directory by path. What counts is the directory that is there now: a file in it may be replaced at any
 * time, the directory itself may not.
 */
struct confine_rule {
	const char *directory;
	unsigned int access; /* enum confine_access */
};

/* Room for the names of all capabilities. */
#define CONFINE_NAMES_MAX 1024
/* Room for a reason, in words. */
#define CONFINE_REASON_MAX 128

/* What a process has left. */
struct confinement {
	int landlock_version;                 /* 0: access to files is not limited */
	char files_open[CONFINE_REASON_MAX];  /* why it is not */
	char capabilities[CONFINE_NAMES_MAX]; /* those that stay, by name, separated by blanks; "": none */
	bool bounded;                         /* the bounding set has no others */
	bool calls_limited;                   /* by confine_calls() */
	char calls_open[CONFINE_REASON_MAX];  /* why they are not */
};

/*
 * From now on access to files only by these rules; without a rule a path can still be looked up (stat).
 * Descriptors that are open stay as they are. A directory that is not there is left out. Returns the
 * version of Landlock, or a negative errno, and nothing has changed then but no_new_privs. *ret_refused is then the
 * directory, of the rules, that could not be allowed; NULL: Landlock itself cannot be had (-ENOSYS, -EOPNOTSUPP: the
 * kernel has none, or it is switched off).
 */
int confine_files(const struct confine_rule *rules, size_t count, const char **ret_refused);

/*
 * Keep these capabilities (CAP_* of linux/capability.h), permitted and effective, as far as the process has
 * them, and no other; nothing inheritable. ret_names says which. The others leave the bounding set too, which
 * takes CAP_SETPCAP: *ret_bounded says whether it has none of them now. 0 or a negative errno.
 */
int confine_capabilities(const unsigned int *kept, size_t count, char ret_names[CONFINE_NAMES_MAX],
			 bool *ret_bounded);

/*
 * The same for what is effective only, for a trial: what is permitted stays, and confine_capabilities() can
 * still keep it.
 */
int confine_effective(const unsigned int *kept, size_t count);

/*
 * 1 where this is built with the address sanitizer, which traces the process at its end, to find leaks: then
 * confine_calls() leaves ptrace(2) alone. Both compilers tell of it.
 */
#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define CONFINE_TRACED_AT_END 1
#else
#define CONFINE_TRACED_AT_END 0
#endif

/*
 * From now on the kernel refuses with EPERM what would give more to whoever takes the process over: to execute; to
 * trace, and reach into other processes; to load modules, kernels and BPF programs, or get at BPF objects of others
 * by number; to mount, and to make or enter namespaces, but a network namespace by setns() if `may_enter_network`;
 * keys, swap, the host's name, io_uring; every call of another architecture's numbers (32 bit, x32). Everything else
 * is as before, calls that nobody has thought of yet included. 0, or a negative errno: nothing is refused.
 */
int confine_calls(bool may_enter_network);

/* Whether this process has the capability. */
bool confine_has_capability(unsigned int capability);

#endif
