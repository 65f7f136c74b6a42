/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See config.h. The table comes first, then one parser per kind of value, then the file.
 *
 * libinih splits lines into section, name and value. What it would let pass in silence is refused
 * here: lines longer than its buffer (it would cut them), text behind a section's bracket, indented
 * lines (it would take them for one more value of the setting above), a setting given twice.
 */
#include "pure/config.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <connguard/rules.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/files.h"
#include "pure/address_text.h"

#define MINUTE_NS (60 * NS_PER_SECOND)
#define HOUR_NS (60 * MINUTE_NS)
#define DAY_NS (24 * HOUR_NS)

#define PROBLEM_MAX 512
/* Bytes of a setting's value that messages repeat. */
#define VALUE_SHOWN 200

static int parse_path(const struct config_option *option, const char *text, struct config *config,
		      char *ret_problem, size_t problem_size);
static int parse_cgroup(const struct config_option *option, const char *text, struct config *config,
			char *ret_problem, size_t problem_size);
static int parse_ports(const struct config_option *option, const char *text, struct config *config,
		       char *ret_problem, size_t problem_size);
static int parse_prefixes(const struct config_option *option, const char *text,
			  struct config *config, char *ret_problem, size_t problem_size);
static int parse_choice(const struct config_option *option, const char *text, struct config *config,
			char *ret_problem, size_t problem_size);
static int parse_duration(const struct config_option *option, const char *text,
			  struct config *config, char *ret_problem, size_t problem_size);
static int parse_number(const struct config_option *option, const char *text, struct config *config,
			char *ret_problem, size_t problem_size);
static int parse_errno(const struct config_option *option, const char *text, struct config *config,
		       char *ret_problem, size_t problem_size);

/* TCP counts keepalive in seconds: one of silence and three probes do not fit in less. */
#define LIVENESS_MIN_NS (3 * NS_PER_SECOND)
/* Half of it is TCP_KEEPIDLE, which is at most 32767 (MAX_TCP_KEEPIDLE, include/net/tcp.h). */
#define LIVENESS_MAX_NS (65534 * NS_PER_SECOND)
/*
 * Evidence of life is noted once a tick, which is half a second where the kernel counts 250 jiffies a
 * second. (Of 100 it is 1.28 s: there a link that speaks is asked now and then, and answers.)
 */
#define SUSPECT_AFTER_MIN_NS NS_PER_SECOND
/* Asking a link takes three seconds; a live one must not be given up before it can answer. */
#define DENY_MAX_MIN_NS (5 * NS_PER_SECOND)

/* Rows that config_finish() refers to. */
enum {
	OPTION_PORT = 2,
	OPTION_LIVENESS = 16,
	OPTION_BACKOFF_INITIAL = 20,
	OPTION_BACKOFF_MAX,
	OPTION_IN_BACKOFF,
	OPTION_MIN_UPTIME,
	OPTION_STABLE_AFTER,
	OPTION_HOLD_MAX,
	OPTION_CLAIM_MAX,
};

#define MEMBER(member) \
	.offset = offsetof(struct config, member), .size = sizeof(((struct config *)0)->member)

const struct config_option config_options[CONFIG_OPTION_COUNT] = {
	{
		.section = "guard", .name = "cgroup", .default_text = "/",
		.help = "The service's cgroup, a path below the cgroup2 mount; / is the whole host",
		.parse = parse_cgroup, MEMBER(cgroup),
		.at_start = true,
	},
	{
		.section = "guard", .name = "netns", .default_text = "",
		.help = "The service's network namespace, as a file; without it the daemon's own",
		.parse = parse_path, MEMBER(netns),
		.at_start = true,
	},
	[OPTION_PORT] = {
		.section = "guard", .name = "port", .default_text = "",
		.help = "The ports that the service listens on and dials, separated by commas",
		.parse = parse_ports, MEMBER(ports),
		.min = 1, .max = 65535, .list = true,
	},
	{
		.section = "guard", .name = "mode", .default_text = "enforce",
		.help = "off, observe (decide and count, refuse nothing) or enforce",
		.parse = parse_choice, MEMBER(mode),
		.choices = names_mode_table,
	},
	{
		.section = "guard", .name = "peers", .default_text = "",
		.help = "A file of known peers, one a line; others are learned",
		.parse = parse_path, MEMBER(peers),
	},
	{
		.section = "guard", .name = "exempt", .default_text = "",
		.help = "Addresses and prefixes that are never refused, separated by commas",
		.parse = parse_prefixes, MEMBER(exempt),
		.list = true,
	},
	{
		.section = "guard", .name = "check_interval", .default_text = "120s",
		.help = "How often the peers are compared with the real sockets",
		.parse = parse_duration, MEMBER(check_interval_ns),
		.min = 100 * NS_PER_MS, .max = DAY_NS,
	},
	{
		.section = "guard", .name = "forget_after", .default_text = "24h",
		.help = "A learned peer that is inactive for so long is forgotten",
		.parse = parse_duration, MEMBER(forget_after_ns),
		.min = NS_PER_SECOND, .max = 365 * DAY_NS,
	},
	{
		.section = "guard", .name = "max_peers", .default_text = "8192",
		.help = "How many peers are remembered; further ones are not guarded",
		.parse = parse_number, MEMBER(max_peers),
		.min = 16, .max = 1048576, .at_start = true,
	},
	{
		.section = "guard", .name = "max_links", .default_text = "1",
		.help = "How many links one peer may have",
		.parse = parse_number, MEMBER(max_links),
		.min = 1, .max = PEER_LINKS_MAX,
	},
	{
		.section = "guard", .name = "share_limit", .default_text = "no",
		.help = "no: each port is a service with limits of its own; yes: all ports share them",
		.parse = parse_choice, MEMBER(share_limit),
		.choices = names_yes_no_table, .at_start = true,
	},
	{
		.section = "guard", .name = "adopt", .default_text = "keep",
		.help = "Links older than the guard, more than their peer may have: keep, or trim (they are ended)",
		.parse = parse_choice, MEMBER(adopt),
		.choices = names_adopt_table,
	},
	{
		.section = "guard", .name = "tie_break", .default_text = "isn",
		.help = "Which of two crossing dials stays: isn, or none (the service decides)",
		.parse = parse_choice, MEMBER(tie_break),
		.choices = names_tie_break_table,
	},
	{
		.section = "guard", .name = "dial_policy", .default_text = "shared",
		.help = "shared: an idle peer may be dialed; central: only when announced as due",
		.parse = parse_choice, MEMBER(dial_policy),
		.choices = names_dial_policy_table,
	},
	{
		.section = "guard", .name = "refuse_with", .default_text = "ECONNREFUSED",
		.help = "The errno of a refused dial; before Linux 6.1 it is always EPERM",
		.parse = parse_errno, MEMBER(refuse_with),
	},
	{
		.section = "guard", .name = "reject", .default_text = "reset",
		.help = "What a refused knock gets: reset (an RST) or drop (nothing)",
		.parse = parse_choice, MEMBER(reject),
		.choices = names_reject_style_table,
	},
	[OPTION_LIVENESS] = {
		.section = "guard", .name = "liveness", .default_text = "0s",
		.help = "Keepalive for links that have none: dead ones end after this; 0s: none",
		.parse = parse_duration, MEMBER(liveness_ns),
		.min = 0, .max = LIVENESS_MAX_NS,
	},
	{
		.section = "guard", .name = "suspect_after", .default_text = "1s",
		.help = "A link that is silent for so long is asked for a sign of life when its peer knocks",
		.parse = parse_duration, MEMBER(suspect_after_ns),
		.min = SUSPECT_AFTER_MIN_NS, .max = DAY_NS,
	},
	{
		.section = "guard", .name = "deny_max", .default_text = "60s",
		.help = "A link that shows no life turns its peer away no longer than this",
		.parse = parse_duration, MEMBER(deny_max_ns),
		.min = DENY_MAX_MIN_NS, .max = DAY_NS,
	},
	{
		.section = "guard", .name = "log_level", .default_text = "info",
		.help = "error, warning, info or debug",
		.parse = parse_choice, MEMBER(log_level),
		.choices = names_log_level_table,
	},
	[OPTION_BACKOFF_INITIAL] = {
		.section = "backoff", .name = "initial", .default_text = "100ms",
		.help = "Backoff after the first failure; doubles with each further one",
		.parse = parse_duration, MEMBER(backoff_initial_ns),
		.min = NS_PER_MS, .max = DAY_NS,
	},
	[OPTION_BACKOFF_MAX] = {
		.section = "backoff", .name = "max", .default_text = "100ms",
		.help = "The longest backoff; not set, initial where that is longer",
		.parse = parse_duration, MEMBER(backoff_max_ns),
		.min = NS_PER_MS, .max = DAY_NS,
	},
	[OPTION_IN_BACKOFF] = {
		.section = "backoff", .name = "in_backoff", .default_text = "keep",
		.help = "A dial in backoff to a peer that was silent: keep (it waits) or refuse",
		.parse = parse_choice, MEMBER(keep_dials),
		.choices = names_in_backoff_table,
	},
	[OPTION_MIN_UPTIME] = {
		.section = "backoff", .name = "min_uptime", .default_text = "10s",
		.help = "A peer that ends our links sooner and without a byte, twice, has refused them",
		.parse = parse_duration, MEMBER(min_uptime_ns),
		.min = 0, .max = DAY_NS,
	},
	[OPTION_STABLE_AFTER] = {
		.section = "backoff", .name = "stable_after", .default_text = "300s",
		.help = "A link that lasts so long ends the count of failures",
		.parse = parse_duration, MEMBER(stable_after_ns),
		.min = 0, .max = DAY_NS,
	},
	[OPTION_HOLD_MAX] = {
		.section = "backoff", .name = "hold_max", .default_text = "1500ms",
		.help = "How long one side of a race is held back at most",
		.parse = parse_duration, MEMBER(hold_max_ns),
		.min = 0, .max = 10 * NS_PER_SECOND,
	},
	[OPTION_CLAIM_MAX] = {
		.section = "backoff", .name = "claim_max", .default_text = "180s",
		.help = "A dial that neither succeeds nor fails is void after this",
		.parse = parse_duration, MEMBER(claim_max_ns),
		.min = NS_PER_SECOND, .max = DAY_NS,
	},
};

/* ---- values ---------------------------------------------------------------------------------- */

static int problem(char *ret_problem, size_t problem_size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Write what is wrong with a value. Always -EINVAL. */
static int problem(char *ret_problem, size_t problem_size, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(ret_problem, problem_size, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

static void *member(const struct config_option *option, struct config *config)
{
	return (char *)config + option->offset;
}

static int parse_path(const struct config_option *option, const char *text, struct config *config,
		      char *ret_problem, size_t problem_size)
{
	char *path = member(option, config);

	if (*text != '/')
		return problem(ret_problem, problem_size,
			       "not an absolute path, expected one that begins with /");
	if (strlen(text) >= CONFIG_PATH_MAX)
		return problem(ret_problem, problem_size, "too long, expected at most %d bytes",
			       CONFIG_PATH_MAX - 1);
	/* All of it, because config_restart_option() compares whole members. */
	memset(path, 0, CONFIG_PATH_MAX);
	memcpy(path, text, strlen(text));
	return 0;
}

static int parse_cgroup(const struct config_option *option, const char *text, struct config *config,
			char *ret_problem, size_t problem_size)
{
	const char *component;

	if (!strncmp(text, "/sys/fs/cgroup/", strlen("/sys/fs/cgroup/")))
		return problem(ret_problem, problem_size,
			       "a path in the file system, expected one below the cgroup2 mount "
			       "such as /system.slice/example.service");
	for (component = text; component; component = strchr(component + 1, '/'))
		if (!strncmp(component, "/..", 3) && (!component[3] || component[3] == '/'))
			return problem(ret_problem, problem_size,
				       "leads upwards, expected a path without ..");
	return parse_path(option, text, config, ret_problem, problem_size);
}

/* A decimal number and nothing else. */
static int number_from_text(const char *text, __u64 *ret_number)
{
	__u64 number = 0;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		if (!isdigit((unsigned char)*text) ||
		    __builtin_mul_overflow(number, 10, &number) ||
		    __builtin_add_overflow(number, (__u64)(*text - '0'), &number))
			return -EINVAL;
	}
	*ret_number = number;
	return 0;
}

/*
 * The next element of a list separated by commas, without the blanks around it; *rest moves on and
 * is NULL behind the last one.
 */
static char *next_element(char **rest)
{
	char *element = strsep(rest, ",");
	size_t length;

	element += strspn(element, " \t");
	for (length = strlen(element); length && strchr(" \t", element[length - 1]); length--)
		element[length - 1] = '\0';
	return element;
}

static int parse_ports(const struct config_option *option, const char *text, struct config *config,
		       char *ret_problem, size_t problem_size)
{
	cleanup_free char *copy = strdup(text);
	struct config_ports *ports = member(option, config);
	char *rest = copy;
	__u32 index;

	if (!copy)
		return -ENOMEM;
	while (rest) {
		const char *element = next_element(&rest);
		__u64 number;

		if (number_from_text(element, &number) || number < option->min ||
		    number > option->max)
			return problem(ret_problem, problem_size,
				       "'%.64s' is not a port, expected numbers from %llu to %llu",
				       element, option->min, option->max);
		for (index = 0; index < ports->count; index++)
			if (ports->number[index] == number)
				return problem(ret_problem, problem_size,
					       "%llu twice, expected each port once", number);
		if (ports->count == CONFIG_PORTS_MAX)
			return problem(ret_problem, problem_size,
				       "too many ports, expected at most %d", CONFIG_PORTS_MAX);
		ports->number[ports->count++] = (__u16)number;
	}
	return 0;
}

static int parse_prefixes(const struct config_option *option, const char *text,
			  struct config *config, char *ret_problem, size_t problem_size)
{
	cleanup_free char *copy = strdup(text);
	struct config_exempt *exempt = member(option, config);
	char *rest = copy;
	__u32 index;

	if (!copy)
		return -ENOMEM;
	while (rest) {
		const char *element = next_element(&rest), *reason;
		struct exempt_prefix prefix;

		if (prefix_from_text(element, &prefix, &reason))
			return problem(ret_problem, problem_size,
				       "'%.64s': %s, expected addresses and prefixes such as "
				       "192.0.2.7, 10.0.0.0/8 or 2001:db8::/32",
				       element, reason);
		for (index = 0; index < exempt->count; index++)
			if (!memcmp(&exempt->prefix[index], &prefix, sizeof(prefix)))
				return problem(ret_problem, problem_size,
					       "'%.64s' twice, expected each prefix once", element);
		if (exempt->count == CONFIG_EXEMPT_MAX)
			return problem(ret_problem, problem_size,
				       "too many prefixes, expected at most %d", CONFIG_EXEMPT_MAX);
		exempt->prefix[exempt->count++] = prefix;
	}
	return 0;
}

static int parse_choice(const struct config_option *option, const char *text, struct config *config,
			char *ret_problem, size_t problem_size)
{
	const struct names_entry *choice;
	char expected[128] = "";
	__u32 value;

	if (names_lookup_value(option->choices, text, &value)) {
		for (choice = option->choices; choice->name; choice++) {
			size_t end = strlen(expected);

			snprintf(expected + end, sizeof(expected) - end, "%s%s", end ? ", " : "",
				 choice->name);
		}
		return problem(ret_problem, problem_size, "unknown, expected one of %s", expected);
	}
	memcpy(member(option, config), &value, sizeof(value));
	return 0;
}

static int parse_duration(const struct config_option *option, const char *text,
			  struct config *config, char *ret_problem, size_t problem_size)
{
	char min_text[CLOCK_DURATION_TEXT_MAX], max_text[CLOCK_DURATION_TEXT_MAX];
	const char *reason = "out of range";
	__u64 duration_ns;

	if (clock_duration_parse(text, &duration_ns, &reason) || duration_ns < option->min ||
	    duration_ns > option->max)
		return problem(ret_problem, problem_size,
			       "%s, expected a duration from %s to %s such as %s", reason,
			       clock_duration_format(option->min, min_text),
			       clock_duration_format(option->max, max_text), option->default_text);
	memcpy(member(option, config), &duration_ns, sizeof(duration_ns));
	return 0;
}

static int parse_number(const struct config_option *option, const char *text, struct config *config,
			char *ret_problem, size_t problem_size)
{
	__u64 number;
	__u32 value;

	if (number_from_text(text, &number) || number < option->min || number > option->max)
		return problem(ret_problem, problem_size,
			       "not a number in range, expected one from %llu to %llu", option->min,
			       option->max);
	value = (__u32)number;
	memcpy(member(option, config), &value, sizeof(value));
	return 0;
}

static int parse_errno(const struct config_option *option, const char *text, struct config *config,
		       char *ret_problem, size_t problem_size)
{
	const char *reason;
	__u32 value;

	if (names_errno_parse(text, &value, &reason))
		return problem(ret_problem, problem_size,
			       "%s, expected ECONNREFUSED, EPERM, EACCES, EHOSTUNREACH, "
			       "ENETUNREACH, ETIMEDOUT or ECONNRESET",
			       reason);
	memcpy(member(option, config), &value, sizeof(value));
	return 0;
}

/* ---- settings -------------------------------------------------------------------------------- */

/* "FILE:LINE", or where else a setting can come from. */
static const char *place_text(const char *file, __u32 line, char *ret_text, size_t size)
{
	if (line == CONFIG_LINE_COMMAND_LINE)
		snprintf(ret_text, size, "command line");
	else if (line)
		snprintf(ret_text, size, "%.255s:%u", file, line);
	else
		snprintf(ret_text, size, "%.255s", *file ? file : "configuration");
	return ret_text;
}

/* The text of a number, a duration or a path; other kinds give "". */
static const char *value_text(const struct config *config, const struct config_option *option,
			      char *ret_text, size_t size)
{
	const char *value = (const char *)config + option->offset;
	char duration[CLOCK_DURATION_TEXT_MAX];
	__u64 duration_ns;
	__u32 number;

	*ret_text = '\0';
	if (option->parse == parse_path || option->parse == parse_cgroup) {
		snprintf(ret_text, size, "%.255s", value);
	} else if (option->parse == parse_number) {
		memcpy(&number, value, sizeof(number));
		snprintf(ret_text, size, "%u", number);
	} else if (option->parse == parse_choice) {
		memcpy(&number, value, sizeof(number));
		snprintf(ret_text, size, "%s", names_lookup(option->choices, number));
	} else if (option->parse == parse_duration) {
		memcpy(&duration_ns, value, sizeof(duration_ns));
		snprintf(ret_text, size, "%s", clock_duration_format(duration_ns, duration));
	}
	return ret_text;
}

const char *config_setting_text(const struct config *config, const struct config_option *option,
				char ret_text[CONFIG_SETTING_TEXT_MAX])
{
	char place[CONFIG_PATH_MAX + 16], value[CONFIG_PATH_MAX];

	snprintf(ret_text, CONFIG_SETTING_TEXT_MAX, "%s: [%s] %s = %s",
		 place_text(config->file, config->lines[option - config_options], place, sizeof(place)),
		 option->section, option->name, value_text(config, option, value, sizeof(value)));
	return ret_text;
}

const struct config_option *config_find_option(const char *section, const char *name)
{
	size_t index;

	for (index = 0; index < CONFIG_OPTION_COUNT; index++)
		if (!strcmp(config_options[index].section, section) &&
		    !strcmp(config_options[index].name, name))
			return &config_options[index];
	return NULL;
}

static bool section_exists(const char *section, size_t length)
{
	size_t index;

	for (index = 0; index < CONFIG_OPTION_COUNT; index++)
		if (strlen(config_options[index].section) == length &&
		    !memcmp(config_options[index].section, section, length))
			return true;
	return false;
}

/* The names of a section's settings, separated by commas. */
static void list_names(const char *section, char *ret_text, size_t size)
{
	size_t index, end;

	*ret_text = '\0';
	for (index = 0; index < CONFIG_OPTION_COUNT; index++) {
		if (strcmp(config_options[index].section, section))
			continue;
		end = strlen(ret_text);
		snprintf(ret_text + end, size - end, "%s%s", end ? ", " : "",
			 config_options[index].name);
	}
}

/*
 * Set one setting that comes from `line` of `file`. On failure *config may be half changed: it must
 * be a private copy.
 */
static int set_option(struct config *config, const char *section, const char *name,
		      const char *value, const char *file, __u32 line,
		      struct config_error *ret_error)
{
	const struct config_option *option = config_find_option(section, name);
	char place[CONFIG_PATH_MAX + 16], reason[PROBLEM_MAX];
	int result;

	place_text(file, line, place, sizeof(place));
	if (!option && !section_exists(section, strlen(section))) {
		snprintf(ret_error->text, sizeof(ret_error->text),
			 "%s: [%.50s] %.50s = %.200s: unknown section, expected [guard] or "
			 "[backoff]",
			 place, section, name, value);
		return -EINVAL;
	}
	if (!option) {
		list_names(section, reason, sizeof(reason));
		snprintf(ret_error->text, sizeof(ret_error->text),
			 "%s: [%.50s] %.50s = %.200s: unknown setting, expected one of %s", place,
			 section, name, value, reason);
		return -EINVAL;
	}
	if (!*value) {
		result = problem(reason, sizeof(reason), "no value, expected one after the =");
	} else if (config->lines[option - config_options] && line != CONFIG_LINE_COMMAND_LINE &&
		   !option->list) {
		result = problem(reason, sizeof(reason), "twice, expected once (line %u has it)",
				 config->lines[option - config_options]);
	} else {
		/* The command line's list takes the place of the file's. */
		if (option->list && line == CONFIG_LINE_COMMAND_LINE &&
		    config->lines[option - config_options] != line)
			memset(member(option, config), 0, option->size);
		result = option->parse(option, value, config, reason, sizeof(reason));
	}
	if (result == -EINVAL)
		snprintf(ret_error->text, sizeof(ret_error->text), "%s: [%s] %s = %.*s: %s", place,
			 section, name, VALUE_SHOWN, value, reason);
	if (!result)
		config->lines[option - config_options] = line;
	return result;
}

void config_defaults(struct config *ret_config)
{
	char reason[PROBLEM_MAX];
	size_t index;

	memset(ret_config, 0, sizeof(*ret_config));
	for (index = 0; index < CONFIG_OPTION_COUNT; index++) {
		const struct config_option *option = &config_options[index];

		/*
		 * A default that does not parse would be a mistake in the table: the unit test
		 * would show it.
		 */
		if (*option->default_text)
			option->parse(option, option->default_text, ret_config, reason,
				      sizeof(reason));
	}
}

int config_set(struct config *config, const char *section, const char *name, const char *value,
	       struct config_error *ret_error)
{
	struct config copy = *config;
	int result = set_option(&copy, section, name, value, "", CONFIG_LINE_COMMAND_LINE,
				ret_error);

	if (!result)
		*config = copy;
	return result;
}

/* ---- the file -------------------------------------------------------------------------------- */

/* What libinih's reader and handler share. */
struct reading {
	const char *next; /* the rest of the text */
	const char *end;
	const char *file;
	unsigned int line; /* the one that libinih is working on */
	unsigned int error_line; /* of ret_error; 0: no error yet */
	int result;
	struct config *config;
	struct config_error *ret_error;
};

static void fail_line(struct reading *reading, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The line itself is wrong. */
static void fail_line(struct reading *reading, const char *format, ...)
{
	char text[PROBLEM_MAX];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	snprintf(reading->ret_error->text, sizeof(reading->ret_error->text), "%.255s:%u: %s",
		 reading->file, reading->line, text);
	reading->result = -EINVAL;
	reading->error_line = reading->line;
}

/* "[section]", and nothing behind it but a comment. */
static void check_section_line(struct reading *reading, const char *text, size_t length)
{
	const char *bracket = memchr(text, ']', length);
	size_t name_length;

	if (!bracket) {
		fail_line(reading, "%.*s: no closing bracket, expected [section]",
			  (int)(length < VALUE_SHOWN ? length : VALUE_SHOWN), text);
		return;
	}
	name_length = (size_t)(bracket - text) - 1;
	if (!section_exists(text + 1, name_length)) {
		fail_line(reading, "[%.*s]: unknown section, expected [guard] or [backoff]",
			  (int)(name_length < VALUE_SHOWN ? name_length : VALUE_SHOWN), text + 1);
		return;
	}
	for (bracket++; bracket < text + length; bracket++) {
		if (*bracket == ';' || *bracket == '#')
			break;
		if (isspace((unsigned char)*bracket))
			continue;
		fail_line(reading, "[%.*s]: more on the line, expected the end of it",
			  (int)name_length, text + 1);
		break;
	}
}

/* libinih's reader, as fgets(): the next line, or NULL at the end or after an error. */
static char *read_line(char *buffer, int size, void *stream)
{
	struct reading *reading = stream;
	const char *text, *newline;
	size_t length;

	if (reading->error_line || reading->next == reading->end)
		return NULL;
	reading->line++;
	text = reading->next;
	newline = memchr(text, '\n', (size_t)(reading->end - text));
	length = (size_t)((newline ? newline : reading->end) - text);
	reading->next = newline ? newline + 1 : reading->end;
	for (; length && isspace((unsigned char)*text); length--)
		text++;
	/* A comment may be as long as it likes. */
	if (length && (*text == '#' || *text == ';'))
		length = 0;
	if (memchr(text, '\0', length)) {
		fail_line(reading, "a NUL byte, expected text");
		return NULL;
	}
	if (length && *text == '[')
		check_section_line(reading, text, length);
	/* Room for the newline and the NUL. */
	if (!reading->error_line && length + 2 > (size_t)size)
		fail_line(reading, "line too long, expected at most %d bytes; %s", size - 2,
			  "a list may go on in another line of the same name");
	if (reading->error_line)
		return NULL;
	memcpy(buffer, text, length);
	memcpy(buffer + length, "\n", 2);
	return buffer;
}

/*
 * libinih's handler: 0 on failure. Does without its line numbers, which only some builds of it
 * pass.
 */
static int take_setting(void *user, const char *section, const char *name, const char *value)
{
	struct reading *reading = user;

	if (reading->error_line)
		return 0;
	reading->result = set_option(reading->config, section, name, value, reading->file,
				     reading->line, reading->ret_error);
	if (!reading->result)
		return 1;
	reading->error_line = reading->line;
	return 0;
}

int config_parse(const char *text, size_t length, const char *file, struct config *ret_config,
		 struct config_error *ret_error)
{
	struct config config;
	struct reading reading = {
		.next = file_text_begin(text, length),
		.end = text + length,
		.file = file,
		.config = &config,
		.ret_error = ret_error,
	};
	int bad_line;

	ret_error->text[0] = '\0';
	if (length > CONFIG_FILE_MAX) {
		snprintf(ret_error->text, sizeof(ret_error->text),
			 "%.255s: too large, expected at most %d bytes", file, CONFIG_FILE_MAX);
		return -EINVAL;
	}
	config_defaults(&config);
	snprintf(config.file, sizeof(config.file), "%s", file);
	bad_line = ini_parse_stream(read_line, &reading, take_setting, &reading);
	/* libinih's own: a line without '='. It goes on behind it, so ours may be a later one. */
	if (bad_line > 0 && (!reading.error_line || (unsigned int)bad_line < reading.error_line)) {
		reading.line = (unsigned int)bad_line;
		fail_line(&reading,
			  "not understood, expected NAME = VALUE, [SECTION] or a comment");
	}
	if (bad_line < 0)
		return -ENOMEM;
	if (reading.error_line)
		return reading.result;
	*ret_config = config;
	return 0;
}

/* Say that the file itself is in the way. */
static int fail_file(struct config_error *ret_error, const char *path, const char *what, int result)
{
	snprintf(ret_error->text, sizeof(ret_error->text), "%.255s: %s: %s", path, what,
		 result == -ENOTSUP ? "expected a regular file" : strerror(-result));
	return result;
}

int config_read(const char *path, struct config *ret_config, struct config_error *ret_error)
{
	/* One more than allowed, to see that there is more. */
	cleanup_free char *text = malloc(CONFIG_FILE_MAX + 1);
	cleanup_fclose FILE *stream = NULL;
	int result = file_open_regular(path, &stream);
	size_t length;

	if (result)
		return fail_file(ret_error, path, "cannot be opened", result);
	if (!text)
		return fail_file(ret_error, path, "cannot be read", -ENOMEM);
	length = fread(text, 1, CONFIG_FILE_MAX + 1, stream);
	if (ferror(stream))
		return fail_file(ret_error, path, "cannot be read", -EIO);
	return config_parse(text, length, path, ret_config, ret_error);
}

/* ---- the whole ------------------------------------------------------------------------------- */

/*
 * Which of two settings that do not fit together is named: the one that was set, the later one of
 * two.
 */
static size_t to_blame(const struct config *config, size_t option, size_t other)
{
	return config->lines[other] > config->lines[option] ? other : option;
}

/*
 * The duration `greater` must not be less than `smaller`.
 */
static int check_order(const struct config *config, size_t smaller, size_t greater,
		       struct config_error *ret_error)
{
	const struct config_option *small_option = &config_options[smaller];
	const struct config_option *great_option = &config_options[greater];
	char small_text[CLOCK_DURATION_TEXT_MAX], great_text[CLOCK_DURATION_TEXT_MAX];
	char place[CONFIG_PATH_MAX + 16];
	bool blame_smaller = to_blame(config, greater, smaller) == smaller;
	__u64 small_ns, great_ns;

	memcpy(&small_ns, (const char *)config + small_option->offset, sizeof(small_ns));
	memcpy(&great_ns, (const char *)config + great_option->offset, sizeof(great_ns));
	if (small_ns <= great_ns)
		return 0;
	place_text(config->file, config->lines[blame_smaller ? smaller : greater], place,
		   sizeof(place));
	clock_duration_format(small_ns, small_text);
	clock_duration_format(great_ns, great_text);
	if (blame_smaller)
		snprintf(ret_error->text, sizeof(ret_error->text),
			 "%s: [%s] %s = %s: greater than %s, expected at most that (%s)", place,
			 small_option->section, small_option->name, small_text, great_option->name,
			 great_text);
	else
		snprintf(ret_error->text, sizeof(ret_error->text),
			 "%s: [%s] %s = %s: less than %s, expected at least that (%s)", place,
			 great_option->section, great_option->name, great_text, small_option->name,
			 small_text);
	return -EINVAL;
}

int config_finish(struct config *config, struct config_error *ret_error)
{
	char place[CONFIG_PATH_MAX + 16], setting[CONFIG_SETTING_TEXT_MAX];
	int result;

	/* Who names the first step alone wants no shorter ones after it. */
	if (!config->lines[OPTION_BACKOFF_MAX] &&
	    config->backoff_max_ns < config->backoff_initial_ns)
		config->backoff_max_ns = config->backoff_initial_ns;
	if (!config->ports.count) {
		snprintf(ret_error->text, sizeof(ret_error->text),
			 "%s: [%s] %s: missing, expected one or more ports such as port = 24000",
			 place_text(config->file, 0, place, sizeof(place)),
			 config_options[OPTION_PORT].section, config_options[OPTION_PORT].name);
		return -EINVAL;
	}
	if (config->liveness_ns && (config->liveness_ns < LIVENESS_MIN_NS ||
				    config->liveness_ns % NS_PER_SECOND)) {
		snprintf(ret_error->text, sizeof(ret_error->text),
			 "%s: not understood, expected 0s, or 3s or more in whole seconds",
			 config_setting_text(config, &config_options[OPTION_LIVENESS], setting));
		return -EINVAL;
	}
	result = check_order(config, OPTION_BACKOFF_INITIAL, OPTION_BACKOFF_MAX, ret_error);
	if (!result)
		result = check_order(config, OPTION_MIN_UPTIME, OPTION_STABLE_AFTER, ret_error);
	if (!result)
		result = check_order(config, OPTION_HOLD_MAX, OPTION_CLAIM_MAX, ret_error);
	return result;
}

const char *config_path(const struct config_sources *sources, char ret_path[CONFIG_PATH_MAX])
{
	if (sources->file)
		snprintf(ret_path, CONFIG_PATH_MAX, "%s", sources->file);
	else
		snprintf(ret_path, CONFIG_PATH_MAX, CONFIG_DIRECTORY "/%s.conf", sources->name);
	return ret_path;
}

int config_gather(const struct config_sources *sources, struct config *ret_config,
		  struct config_error *ret_error)
{
	const struct {
		const char *name, *value;
	} settings[] = {
		{ "cgroup", sources->cgroup },
		{ "netns", sources->netns },
		{ "mode", sources->mode },
		{ "peers", sources->peers },
	};
	char path[CONFIG_PATH_MAX];
	struct config config;
	int result = 0;

	config_path(sources, path);
	if (!sources->file && sources->port_count && access(path, F_OK))
		config_defaults(&config);
	else
		result = config_read(path, &config, ret_error);
	for (size_t i = 0; !result && i < sources->port_count; i++)
		result = config_set(&config, "guard", "port", sources->ports[i], ret_error);
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

void config_policy(const struct config *config, struct guard_policy *ret_policy)
{
	*ret_policy = (struct guard_policy){
		.set = 1,
		.max_links = config->max_links,
		.refusal_errno = config->refuse_with,
		.reject_style = config->reject,
		.tie_break = config->tie_break,
		.dial_policy = config->dial_policy,
		.backoff_initial_ns = config->backoff_initial_ns,
		.backoff_max_ns = config->backoff_max_ns,
		.min_uptime_ns = config->min_uptime_ns,
		.stable_after_ns = config->stable_after_ns,
		.hold_max_ns = config->hold_max_ns,
		.claim_max_ns = config->claim_max_ns,
		.liveness_ns = config->liveness_ns,
		.suspect_after_ns = config->suspect_after_ns,
		.deny_max_ns = config->deny_max_ns,
		.keep_dials = config->keep_dials,
		.adopt = config->adopt,
		.configured_mode = config->mode,
		.network_peers = network_share(config->max_peers),
	};
}

const struct config_option *config_restart_option(const struct config *in_force,
						  const struct config *wanted)
{
	size_t index;

	for (index = 0; index < CONFIG_OPTION_COUNT; index++) {
		const struct config_option *option = &config_options[index];

		if (option->at_start &&
		    memcmp((const char *)in_force + option->offset,
			   (const char *)wanted + option->offset, option->size))
			return option;
	}
	return NULL;
}
