// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: any bytes as a configuration file, and as a setting on the command line.
 *
 * Whatever they are, they are refused in words or give settings that are within their bounds and
 * make a policy which the rules can live with.
 */
#include "input.h"

#include <errno.h>
#include <stdbool.h>

#include <connguard/rules.h>

#include "base/cleanup.h"
#include "pure/config.h"

#define FILE_NAME "fuzz.conf"
/* The greatest TCP_KEEPIDLE and TCP_KEEPINTVL, in seconds (include/net/tcp.h of the kernel). */
#define KEEPALIVE_MAX_SECONDS 32767
/* What a ret_ argument holds that was not touched. */
#define UNTOUCHED 0xa5

/* A text for a person: about the file, terminated, no more than one line. */
static void check_error(const struct config_error *error)
{
	const char *end = memchr(error->text, '\0', sizeof(error->text));

	must(end);
	must(end > error->text);
	must(!strncmp(error->text, FILE_NAME, strlen(FILE_NAME)));
	must(!strchr(error->text, '\n'));
}

static bool is_path(const char path[CONFIG_PATH_MAX])
{
	return memchr(path, '\0', CONFIG_PATH_MAX) && (!*path || *path == '/');
}

/* Every number within the bounds of its row in the table. */
static void check_bounds(const struct config *config)
{
	size_t index;

	for (index = 0; index < CONFIG_OPTION_COUNT; index++) {
		const struct config_option *option = &config_options[index];
		const char *member = (const char *)config + option->offset;
		__u32 small;
		__u64 great;

		if (!option->max || option->list)
			continue;
		if (option->size == sizeof(small)) {
			memcpy(&small, member, sizeof(small));
			great = small;
		} else {
			must(option->size == sizeof(great));
			memcpy(&great, member, sizeof(great));
		}
		must(great >= option->min && great <= option->max);
	}
}

static void check_settings(const struct config *config)
{
	__u32 i, j;

	check_bounds(config);
	must(is_path(config->cgroup) && is_path(config->netns) && is_path(config->peers));
	must(config->ports.count <= CONFIG_PORTS_MAX);
	for (i = 0; i < config->ports.count; i++) {
		must(config->ports.number[i]);
		for (j = 0; j < i; j++)
			must(config->ports.number[i] != config->ports.number[j]);
	}
	must(config->exempt.count <= CONFIG_EXEMPT_MAX);
	for (i = 0; i < config->exempt.count; i++)
		must(config->exempt.prefix[i].prefix_length <= 128);
	must(strcmp(names_mode(config->mode), "unknown"));
	must(strcmp(names_tie_break(config->tie_break), "unknown"));
	must(strcmp(names_dial_policy(config->dial_policy), "unknown"));
	must(strcmp(names_reject_style(config->reject), "unknown"));
	must(strcmp(names_log_level(config->log_level), "unknown"));
	must(strcmp(names_errno(config->refuse_with), "unknown"));
	must(!config_restart_option(config, config));
}

/* What a link is given must be what the kernel takes, and must end a dead one in time. */
static void check_liveness(__u64 liveness_ns)
{
	struct liveness_settings settings;

	must(liveness_ns % NS_PER_SECOND == 0);
	if (!liveness_ns)
		return;
	settings = liveness_settings(liveness_ns);
	must(settings.idle_seconds >= 1 && settings.idle_seconds <= KEEPALIVE_MAX_SECONDS);
	must(settings.interval_seconds >= 1 && settings.interval_seconds <= KEEPALIVE_MAX_SECONDS);
	must(settings.probes >= 1);
	must((settings.idle_seconds + (__u64)settings.probes * settings.interval_seconds) *
		     NS_PER_SECOND <=
	     liveness_ns + NS_PER_SECOND);
}

/* Settings that passed as a whole. */
static void check_policy(const struct config *config)
{
	struct guard_policy policy;

	must(config->ports.count);
	memset(&policy, UNTOUCHED, sizeof(policy));
	config_policy(config, &policy);
	must(policy.set == 1);
	must(policy.netns_cookie == 0);
	must(policy.max_links >= 1 && policy.max_links <= PEER_LINKS_MAX);
	must(policy.backoff_initial_ns && policy.backoff_initial_ns <= policy.backoff_max_ns);
	must(policy.min_uptime_ns <= policy.stable_after_ns);
	must(policy.hold_max_ns <= policy.claim_max_ns);
	check_liveness(policy.liveness_ns);
	must(backoff_step(&policy, 1, 0) == policy.backoff_initial_ns);
	must(backoff_step(&policy, ~0U, ~0U) <= policy.backoff_max_ns);
}

/* The first byte chooses the option, the others are its value. */
static void command_line(const uint8_t *data, size_t size)
{
	const struct config_option *option = &config_options[data[0] % CONFIG_OPTION_COUNT];
	cleanup_free char *value = malloc(size);
	struct config config, before;
	struct config_error error;

	must(value);
	memcpy(value, data + 1, size - 1);
	value[size - 1] = '\0';
	config_defaults(&config);
	before = config;
	memset(&error, UNTOUCHED, sizeof(error));
	if (config_set(&config, option->section, option->name, value, &error)) {
		must(memchr(error.text, '\0', sizeof(error.text)) && *error.text);
		must(!memcmp(&config, &before, sizeof(config)));
		return;
	}
	must(config.lines[option - config_options] == CONFIG_LINE_COMMAND_LINE);
	check_settings(&config);
}

static void file(const uint8_t *data, size_t size)
{
	struct config config, again, untouched;
	struct config_error error;
	int result;

	memset(&config, UNTOUCHED, sizeof(config));
	memset(&untouched, UNTOUCHED, sizeof(untouched));
	memset(&error, UNTOUCHED, sizeof(error));
	result = config_parse((const char *)data, size, FILE_NAME, &config, &error);
	if (result) {
		must(result == -EINVAL || result == -ENOMEM);
		must(!memcmp(&config, &untouched, sizeof(config)));
		if (result == -EINVAL)
			check_error(&error);
		return;
	}
	must(!strcmp(config.file, FILE_NAME));
	check_settings(&config);
	/* A value is all there is: no byte of it comes from anywhere but the text. */
	memset(&again, 0, sizeof(again));
	must(!config_parse((const char *)data, size, FILE_NAME, &again, &error));
	must(!memcmp(&config, &again, sizeof(config)));

	memset(&error, UNTOUCHED, sizeof(error));
	result = config_finish(&config, &error);
	if (result) {
		must(result == -EINVAL);
		check_error(&error);
		return;
	}
	check_policy(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	file(data, size);
	if (size)
		command_line(data, size);
	return 0;
}
