/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Give up what a process does not need any more: capabilities (capabilities(7)) and access to files
 * (landlock(7), Linux 5.13).
 *
 * Owns how it is done. Knows nothing of what the daemon needs, and logs nothing. There is no way back, for
 * what is executed later neither (no_new_privs). For a process of one thread.
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
 * them, and no other; nothing inheritable. ret_names says which. 0 or a negative errno.
 */
int confine_capabilities(const unsigned int *kept, size_t count, char ret_names[CONFINE_NAMES_MAX]);

/*
 * The same for what is effective only, for a trial: what is permitted stays, and confine_capabilities() can
 * still keep it.
 */
int confine_effective(const unsigned int *kept, size_t count);

/* Whether this process has the capability. */
bool confine_has_capability(unsigned int capability);

#endif
