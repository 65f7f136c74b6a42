/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The configuration file NAME.conf, connguard.conf(5).
 *
 * One table of options (config.c) says what every setting is called, what it takes, what it
 * defaults to and what it is for; it drives parsing, defaults and messages, and the tests hold the
 * manual page and the example to it. Owns the settings, applies none: the daemon does.
 *
 * Order of use:
 *     config_defaults() or config_read()  the file, if there is one
 *     config_set()...                     the command line, which overrides the file
 *     config_finish()                     what only shows in the whole; then it may be used
 */
#ifndef PURE_CONFIG_H
#define PURE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include <connguard/abi.h>

#include "base/log.h"
#include "pure/names.h"

/* Bytes of a file, of a path with its NUL; elements of a list. */
#define CONFIG_FILE_MAX (64 * 1024)
#define CONFIG_PATH_MAX 256
#define CONFIG_PORTS_MAX 16
#define CONFIG_EXEMPT_MAX 64
/* How many options there are. */
#define CONFIG_OPTION_COUNT 27
/* struct config.lines of a setting that config_set() set. */
#define CONFIG_LINE_COMMAND_LINE (~0U)

/*
 * A text for a person that goes with a negative return: "FILE:LINE: [section] name = VALUE: what is
 * wrong, what was expected".
 */
struct config_error {
	char text[1024];
};

/* Every setting. A plain value: copy it, nothing to free. Paths that are not set are "". */
struct config {
	/* [guard] */
	char cgroup[CONFIG_PATH_MAX]; /* below the cgroup2 mount, from '/' on; "/": all of it */
	char netns[CONFIG_PATH_MAX];  /* absolute path; "": the daemon's own */
	struct config_ports {
		__u32 count;                   /* 1 or more after config_finish() */
		__u16 number[CONFIG_PORTS_MAX]; /* host byte order, in the order given */
	} ports;
	enum guard_mode mode;
	char peers[CONFIG_PATH_MAX];  /* absolute path of the peers file; "": none */
	struct config_exempt {
		__u32 count;
		struct exempt_prefix prefix[CONFIG_EXEMPT_MAX];
	} exempt;
	__u64 check_interval_ns;
	__u64 forget_after_ns;
	__u32 max_peers;
	__u32 max_links;
	__u32 share_limit;            /* 1: all ports are one service; 0: each is one */
	enum adopt_policy adopt;
	enum tie_break tie_break;
	enum dial_policy dial_policy;
	__u32 refuse_with;            /* positive errno */
	enum reject_style reject;
	__u64 liveness_ns;            /* whole seconds; 0: none */
	__u64 suspect_after_ns;
	__u64 deny_max_ns;
	enum log_level log_level;
	/* [backoff] */
	__u64 backoff_initial_ns;
	__u64 backoff_max_ns;
	__u32 keep_dials;             /* 1: in backoff a dial waits if the peer was silent; 0: it is refused */
	__u64 min_uptime_ns;
	__u64 stable_after_ns;
	__u64 hold_max_ns;
	__u64 claim_max_ns;

	char file[CONFIG_PATH_MAX];       /* where it was read, for messages; "": no file */
	__u32 lines[CONFIG_OPTION_COUNT]; /* per option the line that set it; 0: the default */
};

/* One row of the table. */
struct config_option {
	const char *section;
	const char *name;
	const char *default_text; /* as it would be written in the file; "": nothing */
	const char *help;         /* one line, for the example */
	int (*parse)(const struct config_option *option, const char *text, struct config *config,
		     char *ret_problem, size_t problem_size);
	size_t offset;            /* of the value in struct config */
	size_t size;              /* of the value: what config_restart_option() compares */
	__u64 min, max;           /* inclusive; durations in ns */
	const struct names_entry *choices;
	bool list;                /* may be given more than once: every line adds to it */
	bool at_start;            /* takes effect when the guard is loaded, not on reload */
};

/* The table, in the order of the documentation. */
extern const struct config_option config_options[CONFIG_OPTION_COUNT];

/* The row of this name; NULL: there is none. */
const struct config_option *config_find_option(const char *section, const char *name);

/* Room for a setting as text, NUL included: two paths and what is around them. */
#define CONFIG_SETTING_TEXT_MAX (2 * CONFIG_PATH_MAX + 64)

/*
 * "FILE:LINE: [section] name = VALUE" of a setting in force, to begin a message with; "command line" in
 * place of a line, the file alone for a default. Of paths, numbers, durations and choices. Writes to ret_text and
 * returns it.
 */
const char *config_setting_text(const struct config *config, const struct config_option *option,
				char ret_text[CONFIG_SETTING_TEXT_MAX]);

/* Every setting as if the file were empty. */
void config_defaults(struct config *ret_config);

/*
 * Read a file. What it does not set is as in config_defaults(). The first error wins: -EINVAL and
 * its place and reason in *ret_error (unknown section or setting, a setting twice, no value, a
 * value out of range, a line too long, a file too large); -ENOMEM; or the errno of opening or
 * reading (-ENOTSUP: no regular file), in words in *ret_error too. *ret_config is touched on success
 * only.
 */
int config_read(const char *path, struct config *ret_config, struct config_error *ret_error);

/* The same from memory: `length` bytes of `text`, called `file` in messages. */
int config_parse(const char *text, size_t length, const char *file, struct config *ret_config,
		 struct config_error *ret_error);

/*
 * One setting from the command line; overrides the file. A list begins anew with the first call and
 * grows with the next. -EINVAL with *ret_error; *config is then as before.
 */
int config_set(struct config *config, const char *section, const char *name, const char *value,
	       struct config_error *ret_error);

/*
 * Where a guard's configuration is unless somebody names another file: CONFIG_DIRECTORY
 * "/NAME.conf".
 */
#define CONFIG_DIRECTORY "/etc/connguard"

/*
 * Where a configuration comes from. Texts are borrowed; NULL: not given. What is given here
 * overrides the file.
 */
struct config_sources {
	const char *name; /* of the guard */
	const char *file;
	const char *ports[CONFIG_PORTS_MAX];
	size_t port_count;
	const char *cgroup, *netns, *mode, *peers;
};

/*
 * The file that is read: the one named, else the guard's own in CONFIG_DIRECTORY. Writes to
 * ret_path and returns it.
 */
const char *config_path(const struct config_sources *sources, char ret_path[CONFIG_PATH_MAX]);

/*
 * File, then overrides, then config_finish(). A file that nobody named may be missing when a port
 * is given. Errors as config_read(); *ret_config is touched on success only.
 */
int config_gather(const struct config_sources *sources, struct config *ret_config,
		  struct config_error *ret_error);

/*
 * What only shows in the whole: a port is given, max is not below initial, and so on. A max that nobody set is
 * initial, where that is longer. -EINVAL with *ret_error.
 */
int config_finish(struct config *config, struct config_error *ret_error);

/* The policy for the kernel side. netns_cookie and netns_inode are 0: the caller knows the namespace. */
void config_policy(const struct config *config, struct guard_policy *ret_policy);

/*
 * The first option that differs and takes effect only when the guard is loaded anew; NULL: a reload
 * applies it all.
 */
const struct config_option *config_restart_option(const struct config *in_force,
						  const struct config *wanted);

#endif
