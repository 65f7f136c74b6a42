/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The configuration: every default, every setting, every mistake with its message, and that the
 * manual page and the example say the same as the table. Runs from the top of the tree.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <connguard/rules.h>

#include "pure/address_text.h"
#include "pure/config.h"

#define EXAMPLE "scripts/connguard.conf.example"
#define MANUAL "user/man/connguard.conf.5"

static int parse(const char *text, struct config *ret_config, struct config_error *ret_error)
{
	return config_parse(text, strlen(text), "f", ret_config, ret_error);
}

/* A text that is refused with this message, and without a trace in the output. */
static void refuse_bytes(const char *text, size_t length, const char *expected)
{
	struct config config, before;
	struct config_error error;

	memset(&config, 0x5a, sizeof(config));
	before = config;
	assert_int_equal(config_parse(text, length, "f", &config, &error), -EINVAL);
	assert_string_equal(error.text, expected);
	assert_memory_equal(&config, &before, sizeof(config));
}

static void refuse(const char *text, const char *expected)
{
	refuse_bytes(text, strlen(text), expected);
}

static void defaults_are_the_rules_own(void **state)
{
	struct guard_policy policy, expected = policy_defaults();
	struct config config, again;
	struct config_error error;

	(void)state;
	memset(&config, 0x5a, sizeof(config));
	config_defaults(&config);
	config_policy(&config, &policy);
	assert_memory_equal(&policy, &expected, sizeof(policy));
	assert_string_equal(config.cgroup, "/");
	assert_string_equal(config.netns, "");
	assert_string_equal(config.peers, "");
	assert_int_equal(config.mode, MODE_ENFORCE);
	assert_int_equal(config.ports.count, 0);
	assert_int_equal(config.exempt.count, 0);
	assert_true(config.check_interval_ns == 120 * NS_PER_SECOND);
	assert_true(config.forget_after_ns == 24 * 3600 * NS_PER_SECOND);
	assert_int_equal(config.max_peers, 8192);
	assert_int_equal(config.share_limit, 0);
	assert_int_equal(config.log_level, LOG_LEVEL_INFO);
	/* An empty file is the same but for its name. */
	assert_int_equal(parse("", &again, &error), 0);
	assert_string_equal(again.file, "f");
	memset(again.file, 0, sizeof(again.file));
	assert_memory_equal(&again, &config, sizeof(config));
}

/* Each default is a value that the option itself takes. */
/* As some editors begin a file: what follows is the first line as ever. */
static void skips_a_byte_order_mark(void **state)
{
	struct config_error error;
	struct config config;

	(void)state;
	assert_int_equal(parse("\xef\xbb\xbf" "[guard]\nport = 24000\n", &config, &error), 0);
	assert_int_equal(config.ports.number[0], 24000);
	assert_int_equal(parse("\xef\xbb\xbf" "[gaurd]\nport = 24000\n", &config, &error), -EINVAL);
	assert_non_null(strstr(error.text, ":1: [gaurd]: unknown section"));
}

static void defaults_parse(void **state)
{
	struct config_error error;
	struct config config;
	size_t index;

	(void)state;
	for (index = 0; index < CONFIG_OPTION_COUNT; index++) {
		const struct config_option *option = &config_options[index];

		assert_non_null(option->name);
		assert_true(*option->help);
		config_defaults(&config);
		if (*option->default_text)
			assert_int_equal(config_set(&config, option->section, option->name,
						    option->default_text, &error),
					 0);
	}
}

static void every_setting_is_taken(void **state)
{
	static const char text[] = "\xef\xbb\xbf# byte order mark\n"
				   "[guard]  ; one service\r\n"
				   "cgroup = /system.slice/example.service\r\n"
				   "netns=/run/netns/example\n"
				   "  port = 24000 , 24001\t; two\n"
				   "port: 24002\n"
				   "mode = observe\n"
				   "peers = /etc/connguard/example.peers\n"
				   "exempt = 10.0.0.0/8,192.0.2.7\n"
				   "exempt = 2001:db8::/32\n"
				   "check_interval = 5m\n"
				   "forget_after = 1h 30m\n"
				   "max_peers = 16\n"
				   "max_links = 7\n"
				   "share_limit = yes\n"
				   "adopt = trim\n"
				   "tie_break = none\n"
				   "dial_policy = central\n"
				   "refuse_with = EHOSTUNREACH\n"
				   "reject = drop\n"
				   "liveness = 3s\n"
				   "suspect_after = 1s\n"
				   "deny_max = 5s\n"
				   "log_level = debug\n"
				   "\n"
				   "[backoff]\n"
				   "initial = 166ms\n"
				   "max = 5s\n"
				   "in_backoff = refuse\n"
				   "min_uptime = 0s\n"
				   "stable_after = 5s\n"
				   "hold_max = 500us\n"
				   "claim_max = 127s";
	struct guard_policy policy;
	struct config_error error;
	char shown[PREFIX_TEXT_MAX];
	struct config config;

	(void)state;
	assert_int_equal(parse(text, &config, &error), 0);
	assert_int_equal(config_finish(&config, &error), 0);
	assert_string_equal(config.cgroup, "/system.slice/example.service");
	assert_string_equal(config.netns, "/run/netns/example");
	assert_int_equal(config.ports.count, 3);
	assert_int_equal(config.ports.number[0], 24000);
	assert_int_equal(config.ports.number[1], 24001);
	assert_int_equal(config.ports.number[2], 24002);
	assert_int_equal(config.mode, MODE_OBSERVE);
	assert_string_equal(config.peers, "/etc/connguard/example.peers");
	assert_int_equal(config.exempt.count, 3);
	assert_string_equal(prefix_to_text(&config.exempt.prefix[0], shown), "10.0.0.0/8");
	assert_string_equal(prefix_to_text(&config.exempt.prefix[1], shown), "192.0.2.7/32");
	assert_string_equal(prefix_to_text(&config.exempt.prefix[2], shown), "2001:db8::/32");
	assert_true(config.check_interval_ns == 300 * NS_PER_SECOND);
	assert_true(config.forget_after_ns == 5400 * NS_PER_SECOND);
	assert_int_equal(config.max_peers, 16);
	assert_int_equal(config.share_limit, 1);
	assert_int_equal(config.log_level, LOG_LEVEL_DEBUG);
	config_policy(&config, &policy);
	assert_int_equal(policy.set, 1);
	assert_int_equal(policy.max_links, 7);
	assert_int_equal(policy.tie_break, TIE_BREAK_NONE);
	assert_int_equal(policy.dial_policy, DIAL_POLICY_CENTRAL);
	assert_int_equal(policy.refusal_errno, EHOSTUNREACH);
	assert_int_equal(policy.reject_style, REJECT_DROP);
	assert_int_equal(policy.keep_dials, 0);
	assert_int_equal(policy.adopt, ADOPT_TRIM);
	/* An eighth of 16 peers would be two. */
	assert_int_equal(policy.network_peers, 16);
	assert_true(policy.netns_cookie == 0);
	assert_true(policy.netns_inode == 0);
	assert_true(policy.backoff_initial_ns == 166 * NS_PER_MS);
	assert_true(policy.backoff_max_ns == 5 * NS_PER_SECOND);
	assert_true(policy.min_uptime_ns == 0);
	assert_true(policy.stable_after_ns == 5 * NS_PER_SECOND);
	assert_true(policy.hold_max_ns == 500000);
	assert_true(policy.claim_max_ns == 127 * NS_PER_SECOND);
	assert_true(policy.liveness_ns == 3 * NS_PER_SECOND);
	assert_true(policy.suspect_after_ns == NS_PER_SECOND);
	assert_true(policy.deny_max_ns == 5 * NS_PER_SECOND);
	/* Where each came from. */
	assert_int_equal(config.lines[0], 3);
	assert_int_equal(config.lines[2], 6);
	assert_int_equal(config.lines[CONFIG_OPTION_COUNT - 1], 33);
}

static void values_are_refused(void **state)
{
	static const char guard_names[] =
		"unknown setting, expected one of cgroup, netns, port, mode, peers, exempt, "
		"check_interval, forget_after, max_peers, max_links, share_limit, adopt, tie_break, dial_policy, "
		"refuse_with, reject, liveness, suspect_after, deny_max, log_level";
	static const char path[] = "not an absolute path, expected one that begins with /";
	static const char upwards[] = "leads upwards, expected a path without ..";
	static const char range[] = ", expected a duration from 1ms to 1d such as 100ms";
	static const char port[] = "is not a port, expected numbers from 1 to 65535";
	static const char links[] = "not a number in range, expected one from 1 to 7";
	static const char prefix[] = ", expected addresses and prefixes such as 192.0.2.7, "
				     "10.0.0.0/8 or 2001:db8::/32";
	static const char errnos[] = ", expected ECONNREFUSED, EPERM, EACCES, EHOSTUNREACH, "
				     "ENETUNREACH, ETIMEDOUT or ECONNRESET";
	static const struct {
		const char *section, *name, *value, *problem, *expected;
	} rows[] = {
		{ "guard", "colour", "red", "", guard_names },
		{ "guard", "initial", "10s", "", guard_names },
		{ "guard", "Port", "1", "", guard_names },
		{ "backoff", "port", "1", "",
		  "unknown setting, expected one of initial, max, in_backoff, min_uptime, "
		  "stable_after, hold_max, claim_max" },
		{ "guard", "cgroup", "system.slice", "", path },
		{ "guard", "cgroup", "/..", "", upwards },
		{ "guard", "cgroup", "/a/../b", "", upwards },
		{ "guard", "cgroup", "/a/..", "", upwards },
		{ "guard", "cgroup", "/sys/fs/cgroup/a", "",
		  "a path in the file system, expected one below the cgroup2 mount such as "
		  "/system.slice/example.service" },
		{ "guard", "netns", "example", "", path },
		{ "guard", "peers", "example.peers", "", path },
		{ "guard", "port", "0", "'0' ", port },
		{ "guard", "port", "65536", "'65536' ", port },
		{ "guard", "port", "http", "'http' ", port },
		{ "guard", "port", "80,", "'' ", port },
		{ "guard", "port", "80 81", "'80 81' ", port },
		{ "guard", "port", "-1", "'-1' ", port },
		{ "guard", "port", "+1", "'+1' ", port },
		{ "guard", "port", "18446744073709551617", "'18446744073709551617' ", port },
		{ "guard", "port", "80, 080", "", "80 twice, expected each port once" },
		{ "guard", "port", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "",
		  "too many ports, expected at most 16" },
		{ "guard", "mode", "Enforce", "",
		  "unknown, expected one of off, observe, enforce" },
		{ "guard", "exempt", "10.0.0.1/8",
		  "'10.0.0.1/8': bits set behind the prefix length",
		  prefix },
		{ "guard", "exempt", "10.0.0.0/8,,", "'': not an address", prefix },
		{ "guard", "exempt", "10.0.0.0/8, ::ffff:10.0.0.0/104", "",
		  "'::ffff:10.0.0.0/104' twice, expected each prefix once" },
		{ "guard", "check_interval", "99ms", "",
		  "out of range, expected a duration from 100ms to 1d such as 120s" },
		{ "guard", "forget_after", "366d", "",
		  "out of range, expected a duration from 1s to 365d such as 24h" },
		{ "guard", "max_peers", "15", "",
		  "not a number in range, expected one from 16 to 1048576" },
		{ "guard", "max_peers", "1048577", "",
		  "not a number in range, expected one from 16 to 1048576" },
		{ "guard", "max_peers", "4294967312", "",
		  "not a number in range, expected one from 16 to 1048576" },
		{ "guard", "max_links", "0", "", links },
		{ "guard", "max_links", "9", "", links },
		{ "guard", "max_links", "1x", "", links },
		{ "guard", "adopt", "yes", "", "unknown, expected one of keep, trim" },
		{ "guard", "share_limit", "1", "", "unknown, expected one of no, yes" },
		{ "guard", "tie_break", "address", "", "unknown, expected one of isn, none" },
		{ "guard", "dial_policy", "any", "", "unknown, expected one of shared, central" },
		{ "guard", "refuse_with", "EISCONN", "programs read it as success", errnos },
		{ "guard", "refuse_with", "econnrefused",
		  "not an errno that a refused dial may get", errnos },
		{ "guard", "reject", "rst", "", "unknown, expected one of reset, drop" },
		{ "guard", "suspect_after", "999ms", "",
		  "out of range, expected a duration from 1s to 1d such as 1s" },
		{ "guard", "liveness", "65535s", "",
		  "out of range, expected a duration from 0s to 18h 12m such as 0s" },
		{ "guard", "log_level", "notice", "",
		  "unknown, expected one of error, warning, info, debug" },
		{ "backoff", "initial", "10", "unit missing", range },
		{ "backoff", "initial", "0s", "out of range", range },
		{ "backoff", "initial", "1.5s", "not a whole number with a unit", range },
		{ "backoff", "initial", "10 seconds", "unit missing", range },
		{ "backoff", "initial", "2d", "out of range", range },
		{ "backoff", "initial", "99999999999999999999s", "too long", range },
		{ "backoff", "in_backoff", "drop", "", "unknown, expected one of keep, refuse" },
		{ "backoff", "hold_max", "10001ms", "",
		  "out of range, expected a duration from 0s to 10s such as 1500ms" },
	};
	char text[512], expected[1024];
	size_t row;

	(void)state;
	for (row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
		snprintf(text, sizeof(text), "[%s]\n\n%s = %s\n", rows[row].section, rows[row].name,
			 rows[row].value);
		snprintf(expected, sizeof(expected), "f:3: [%s] %s = %s: %s%s", rows[row].section,
			 rows[row].name, rows[row].value, rows[row].problem, rows[row].expected);
		refuse(text, expected);
	}
}

/* Whatever is wrong with a value, the message has its place, its name, itself and what was expected. */
static void every_setting_refuses_nonsense(void **state)
{
	static const char *const nonsense[] = { "nonsense!", "-1", "99999999999999999999", "0.5", "%s%n" };
	char text[128], start[128];
	struct config_error error;
	struct config config;
	size_t index, which;

	(void)state;
	for (index = 0; index < CONFIG_OPTION_COUNT; index++) {
		const struct config_option *option = &config_options[index];

		for (which = 0; which < sizeof(nonsense) / sizeof(nonsense[0]); which++) {
			snprintf(text, sizeof(text), "[%s]\n%s = %s\n", option->section, option->name,
				 nonsense[which]);
			snprintf(start, sizeof(start), "f:2: [%s] %s = %s: ", option->section,
				 option->name, nonsense[which]);
			assert_int_equal(parse(text, &config, &error), -EINVAL);
			assert_memory_equal(error.text, start, strlen(start));
			assert_non_null(strstr(error.text + strlen(start), "expected "));
		}
	}
}

static void settings_are_told(void **state)
{
	char text[CONFIG_SETTING_TEXT_MAX];
	struct config_error error;
	struct config config;

	(void)state;
	assert_int_equal(parse("[guard]\n\nnetns = /run/netns/a\nmax_peers = 16\n", &config, &error), 0);
	assert_string_equal(config_setting_text(&config, config_find_option("guard", "netns"), text),
			    "f:3: [guard] netns = /run/netns/a");
	assert_string_equal(config_setting_text(&config, config_find_option("guard", "max_peers"), text),
			    "f:4: [guard] max_peers = 16");
	assert_string_equal(config_setting_text(&config, config_find_option("guard", "cgroup"), text),
			    "f: [guard] cgroup = /");
	assert_string_equal(config_setting_text(&config, config_find_option("backoff", "claim_max"), text),
			    "f: [backoff] claim_max = 3m");
	assert_string_equal(config_setting_text(&config, config_find_option("guard", "share_limit"), text),
			    "f: [guard] share_limit = no");
	assert_int_equal(config_set(&config, "guard", "cgroup", "/b", &error), 0);
	assert_string_equal(config_setting_text(&config, config_find_option("guard", "cgroup"), text),
			    "command line: [guard] cgroup = /b");
	assert_null(config_find_option("guard", "claim_max"));
}

static void lines_are_refused(void **state)
{
	static const struct {
		const char *text;
		const char *expected;
	} rows[] = {
		{ "port = 1\n",
		  "f:1: [] port = 1: unknown section, expected [guard] or [backoff]" },
		{ "[guard]\n\n[bakoff]\ninitial = 1s\n",
		  "f:3: [bakoff]: unknown section, expected [guard] or [backoff]" },
		{ "[bakoff]\n", "f:1: [bakoff]: unknown section, expected [guard] or [backoff]" },
		{ "[Guard]\n", "f:1: [Guard]: unknown section, expected [guard] or [backoff]" },
		{ "[ guard ]\n", "f:1: [ guard ]: unknown section, expected [guard] or [backoff]" },
		{ "[]\n", "f:1: []: unknown section, expected [guard] or [backoff]" },
		{ "[guard\nport = 1\n", "f:1: [guard: no closing bracket, expected [section]" },
		{ "[guard] port = 1\n", "f:1: [guard]: more on the line, expected the end of it" },
		{ "[guard]\nport\n",
		  "f:2: not understood, expected NAME = VALUE, [SECTION] or a comment" },
		/* A continuation, as other readers of the format know it, is none here. */
		{ "[guard]\nexempt = 10.0.0.0/8,\n  192.0.2.7\n",
		  "f:2: [guard] exempt = 10.0.0.0/8,: '': not an address, expected addresses and "
		  "prefixes such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32" },
		{ "[guard]\nport = 1\n  mode enforce\n",
		  "f:3: not understood, expected NAME = VALUE, [SECTION] or a comment" },
		{ "[guard]\nport =\n", "f:2: [guard] port = : no value, expected one after the =" },
		{ "[guard]\nport = ; 24000\n",
		  "f:2: [guard] port = : no value, expected one after the =" },
		{ "[guard]\nmode = off # for now\n",
		  "f:2: [guard] mode = off # for now: unknown, expected one of off, observe, "
		  "enforce" },
		{ "[guard]\nmode = off\n[backoff]\n[guard]\nmode = enforce\n",
		  "f:5: [guard] mode = enforce: twice, expected once (line 2 has it)" },
		{ "[guard]\nport = 1\nport = 2, 1\n",
		  "f:3: [guard] port = 2, 1: 1 twice, expected each port once" },
		/* The first mistake wins, whoever finds it. */
		{ "[guard]\nmode = x\nport\n",
		  "f:2: [guard] mode = x: unknown, expected one of off, observe, enforce" },
		{ "[guard]\nport\nmode = x\n",
		  "f:2: not understood, expected NAME = VALUE, [SECTION] or a comment" },
	};
	size_t row;

	(void)state;
	for (row = 0; row < sizeof(rows) / sizeof(rows[0]); row++)
		refuse(rows[row].text, rows[row].expected);
	refuse_bytes("[guard]\nmode = off\0\nport = 1\n", 29, "f:2: a NUL byte, expected text");
}

/* Lines around the length of libinih's buffer: either taken whole or refused, never cut. */
static void long_lines_are_never_cut(void **state)
{
	static const char head[] = "[guard]\npeers = /";
	char text[512], *end;
	struct config_error error;
	struct config config;
	size_t length, taken = 0;
	int result;

	(void)state;
	memset(text, 'x', sizeof(text));
	memcpy(text, head, strlen(head));
	for (length = 100; length < 400; length++) {
		end = text + strlen(head) + length;
		memcpy(end, "\n[backoff]\n", 12);
		result = parse(text, &config, &error);
		if (!result) {
			assert_int_equal(strlen(config.peers), length + 1);
			taken = length;
		} else {
			assert_int_equal(result, -EINVAL);
			assert_non_null(strstr(error.text, "f:2: "));
			assert_non_null(strstr(error.text, "too long, expected at most "));
		}
		memset(end, 'x', 12);
	}
	/* 198 bytes with libinih's default of 200, as the manual page says. */
	assert_int_equal(strlen("peers = /") + taken, 198);
	/* Comments may be long. */
	memcpy(text, "[guard]\n ; ", 11);
	memcpy(text + 400, "\nmode = off\n", 13);
	assert_int_equal(parse(text, &config, &error), 0);
	assert_int_equal(config.lines[3], 3);
}

static void large_files_are_refused(void **state)
{
	char *text = malloc(CONFIG_FILE_MAX + 1);
	struct config_error error;
	struct config config;

	(void)state;
	assert_non_null(text);
	memset(text, '\n', CONFIG_FILE_MAX + 1);
	assert_int_equal(config_parse(text, CONFIG_FILE_MAX, "f", &config, &error), 0);
	refuse_bytes(text, CONFIG_FILE_MAX + 1, "f: too large, expected at most 65536 bytes");
	free(text);
}

static void full_lists_are_taken(void **state)
{
	char text[8192] = "[guard]\n";
	struct config_error error;
	struct config config;
	int i;

	(void)state;
	for (i = 0; i < CONFIG_EXEMPT_MAX; i++)
		sprintf(text + strlen(text),
			"exempt = 2001:db8:1111:2222:3333:4444:5555:%d/128\n", i);
	assert_int_equal(parse(text, &config, &error), 0);
	assert_int_equal(config.exempt.count, CONFIG_EXEMPT_MAX);
	strcat(text, "exempt = ::1\n");
	refuse(text, "f:66: [guard] exempt = ::1: too many prefixes, expected at most 64");
}

static void command_line_overrides(void **state)
{
	struct config config, before;
	struct config_error error;

	(void)state;
	assert_int_equal(parse("[guard]\nport = 1,2\nmode = observe\n", &config, &error), 0);
	assert_int_equal(config_set(&config, "guard", "mode", "off", &error), 0);
	assert_int_equal(config.mode, MODE_OFF);
	/* The last one wins, as for any option. */
	assert_int_equal(config_set(&config, "guard", "mode", "enforce", &error), 0);
	assert_int_equal(config.mode, MODE_ENFORCE);
	assert_int_equal(config_set(&config, "guard", "port", "3", &error), 0);
	assert_int_equal(config_set(&config, "guard", "port", "4,5", &error), 0);
	assert_int_equal(config.ports.count, 3);
	assert_int_equal(config.ports.number[0], 3);
	assert_int_equal(config.ports.number[2], 5);
	before = config;
	assert_int_equal(config_set(&config, "guard", "port", "6,x", &error), -EINVAL);
	assert_string_equal(error.text, "command line: [guard] port = 6,x: 'x' is not a port, "
					"expected numbers from 1 to 65535");
	assert_int_equal(config_set(&config, "guard", "color", "x", &error), -EINVAL);
	assert_int_equal(config_set(&config, "gard", "port", "1", &error), -EINVAL);
	assert_int_equal(config_set(&config, "guard", "port", "", &error), -EINVAL);
	assert_memory_equal(&config, &before, sizeof(config));
}

static void finish_refuses(const char *text, const char *expected)
{
	struct config_error error;
	struct config config;

	assert_int_equal(parse(text, &config, &error), 0);
	assert_int_equal(config_finish(&config, &error), -EINVAL);
	assert_string_equal(error.text, expected);
}

static void the_whole_is_checked(void **state)
{
	struct config_error error;
	struct config config;

	(void)state;
	finish_refuses("[guard]\nmode = off\n", "f: [guard] port: missing, expected one or more "
						"ports such as port = 24000");
	finish_refuses("[guard]\nport = 1\n[backoff]\nmax = 10ms\n",
		       "f:4: [backoff] max = 10ms: less than initial, expected at least that (100ms)");
	finish_refuses("[guard]\nport = 1\n[backoff]\nmax = 2s\ninitial = 3s\n",
		       "f:5: [backoff] initial = 3s: greater than max, expected at most that (2s)");
	finish_refuses("[guard]\nport = 1\n[backoff]\nstable_after = 9s\n",
		       "f:4: [backoff] stable_after = 9s: less than min_uptime, expected at least "
		       "that (10s)");
	finish_refuses("[guard]\nport = 1\nliveness = 2s\n",
		       "f:3: [guard] liveness = 2s: not understood, expected 0s, or 3s or more in "
		       "whole seconds");
	finish_refuses("[guard]\nport = 1\nliveness = 3500ms\n",
		       "f:3: [guard] liveness = 3s 500ms: not understood, expected 0s, or 3s or more in "
		       "whole seconds");
	finish_refuses("[guard]\nport = 1\n[backoff]\nclaim_max = 1s\n",
		       "f:4: [backoff] claim_max = 1s: less than hold_max, expected at least that "
		       "(1s 500ms)");
	config_defaults(&config);
	config.backoff_initial_ns = 360 * NS_PER_SECOND;
	assert_int_equal(config_finish(&config, &error), -EINVAL);
	/* Steps of this length, where nobody has named a cap. */
	assert_true(config.backoff_max_ns == 360 * NS_PER_SECOND);
	config_defaults(&config);
	assert_int_equal(config_finish(&config, &error), -EINVAL);
	assert_string_equal(error.text, "configuration: [guard] port: missing, expected one or "
					"more ports such as port = 24000");
	assert_int_equal(config_set(&config, "guard", "port", "24000", &error), 0);
	assert_int_equal(config_finish(&config, &error), 0);
	assert_int_equal(config_set(&config, "backoff", "max", "10ms", &error), 0);
	assert_int_equal(config_finish(&config, &error), -EINVAL);
	assert_string_equal(error.text, "command line: [backoff] max = 10ms: less than initial, "
					"expected at least that (100ms)");
}

static void restart_is_named(void **state)
{
	struct config in_force, wanted;
	struct config_error error;

	(void)state;
	assert_int_equal(parse("[guard]\ncgroup = /a/long/one\nport = 1\n", &in_force, &error), 0);
	assert_int_equal(parse("\n[guard]\nport = 2\nmode = off\ncgroup = /a/long/one\n", &wanted,
			       &error),
			 0);
	assert_null(config_restart_option(&in_force, &wanted));
	assert_int_equal(config_set(&wanted, "guard", "cgroup", "/a", &error), 0);
	assert_string_equal(config_restart_option(&in_force, &wanted)->name, "cgroup");
	assert_int_equal(config_set(&wanted, "guard", "cgroup", "/a/long/one", &error), 0);
	assert_null(config_restart_option(&in_force, &wanted));
	assert_int_equal(config_set(&wanted, "guard", "max_peers", "16", &error), 0);
	assert_string_equal(config_restart_option(&in_force, &wanted)->name, "max_peers");
	/* The keys of the peers have the service in them, or not. */
	wanted = in_force;
	assert_int_equal(config_set(&wanted, "guard", "share_limit", "yes", &error), 0);
	assert_string_equal(config_restart_option(&in_force, &wanted)->name, "share_limit");
}

static void files_are_read(void **state)
{
	char directory[] = "/tmp/cgt-config-XXXXXX", path[64], expected[256];
	struct config_error error;
	struct config config;
	FILE *stream;

	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/a.conf", directory);
	assert_int_equal(config_read(path, &config, &error), -ENOENT);
	snprintf(expected, sizeof(expected), "%s: cannot be opened: No such file or directory",
		 path);
	assert_string_equal(error.text, expected);
	assert_int_equal(config_read(directory, &config, &error), -EISDIR);
	snprintf(expected, sizeof(expected), "%s: cannot be opened: Is a directory", directory);
	assert_string_equal(error.text, expected);
	/* It must not wait for a writer. */
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(config_read(path, &config, &error), -ENOTSUP);
	snprintf(expected, sizeof(expected), "%s: cannot be opened: expected a regular file", path);
	assert_string_equal(error.text, expected);
	unlink(path);
	stream = fopen(path, "w");
	fputs("[guard]\nport = 0\n", stream);
	fclose(stream);
	assert_int_equal(config_read(path, &config, &error), -EINVAL);
	snprintf(expected, sizeof(expected),
		 "%s:2: [guard] port = 0: '0' is not a port, expected numbers from 1 to 65535",
		 path);
	assert_string_equal(error.text, expected);
	stream = fopen(path, "w");
	fputs("[guard]\nport = 24000", stream);
	fclose(stream);
	assert_int_equal(config_read(path, &config, &error), 0);
	assert_string_equal(config.file, path);
	assert_int_equal(config.ports.number[0], 24000);
	unlink(path);
	rmdir(directory);
}

/* A file of the tree. */
static char *load(const char *path)
{
	FILE *stream = fopen(path, "r");
	char *text = calloc(1, CONFIG_FILE_MAX);

	if (!stream)
		fail_msg("%s: %s (run from the top of the tree)", path, strerror(errno));
	assert_non_null(text);
	assert_true(fread(text, 1, CONFIG_FILE_MAX - 1, stream) > 0);
	fclose(stream);
	return text;
}

/*
 * The example names every option in the table's order, each with its help above it, commented out
 * with its default; and it names no other. Taken as it stands, and with every comment taken away,
 * it is a good configuration.
 */
static void example_agrees(void **state)
{
	char *text = load(EXAMPLE), *active = calloc(1, CONFIG_FILE_MAX), *rest = NULL, *line;
	char previous[256] = "", section[64] = "", name[64], expected[256];
	struct config_error error;
	struct config config;
	size_t index = 0;

	(void)state;
	assert_non_null(active);
	if (config_parse(text, strlen(text), EXAMPLE, &config, &error) ||
	    config_finish(&config, &error))
		fail_msg("%s", error.text);
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		const char *setting = *line == ';' ? line + 2 : line;

		sscanf(line, "[%63[^]]]", section);
		if (*line == ';' || (*line != '#' && *line != '[')) {
			const struct config_option *option = &config_options[index];

			assert_true(index < CONFIG_OPTION_COUNT);
			assert_int_equal(sscanf(setting, "%63s = ", name), 1);
			assert_string_equal(name, option->name);
			assert_string_equal(section, option->section);
			snprintf(expected, sizeof(expected), "# %s", option->help);
			assert_string_equal(previous, expected);
			snprintf(expected, sizeof(expected), "; %s = %s", option->name,
				 option->default_text);
			if (*option->default_text)
				assert_string_equal(line, expected);
			index++;
		}
		snprintf(previous, sizeof(previous), "%s", line);
		strcat(strcat(active, setting), "\n");
	}
	assert_int_equal(index, CONFIG_OPTION_COUNT);
	if (config_parse(active, strlen(active), EXAMPLE, &config, &error) ||
	    config_finish(&config, &error))
		fail_msg("%s", error.text);
	free(text);
	free(active);
}

/*
 * The manual page has an entry for every option under its section, in the table's order, with its
 * default, and none more.
 */
static void manual_agrees(void **state)
{
	char *text = load(MANUAL), *rest = NULL, *line;
	char section[64] = "", name[64], expected[256] = "";
	int default_seen = 1;
	size_t index = 0;

	(void)state;
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		if (!strncmp(line, ".SH ", 4))
			*section = '\0';
		sscanf(line, ".SH [%63[^]]]", section);
		if (!strcmp(line, expected))
			default_seen = 1;
		if (*section && sscanf(line, ".BI %63s", name) == 1 && strstr(line, " \" = ")) {
			const struct config_option *option = &config_options[index];

			assert_true(default_seen);
			assert_true(index < CONFIG_OPTION_COUNT);
			assert_string_equal(name, option->name);
			assert_string_equal(section, option->section);
			snprintf(expected, sizeof(expected), ".BR %s .", option->default_text);
			default_seen = !*option->default_text;
			index++;
		}
	}
	assert_true(default_seen);
	assert_int_equal(index, CONFIG_OPTION_COUNT);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_the_rules_own),
		cmocka_unit_test(defaults_parse),
		cmocka_unit_test(skips_a_byte_order_mark),
		cmocka_unit_test(every_setting_is_taken),
		cmocka_unit_test(values_are_refused),
		cmocka_unit_test(every_setting_refuses_nonsense),
		cmocka_unit_test(settings_are_told),
		cmocka_unit_test(lines_are_refused),
		cmocka_unit_test(long_lines_are_never_cut),
		cmocka_unit_test(large_files_are_refused),
		cmocka_unit_test(full_lists_are_taken),
		cmocka_unit_test(command_line_overrides),
		cmocka_unit_test(the_whole_is_checked),
		cmocka_unit_test(restart_is_named),
		cmocka_unit_test(files_are_read),
		cmocka_unit_test(example_agrees),
		cmocka_unit_test(manual_agrees),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
