/* SPDX-License-Identifier: BSD-2-Clause */
/* To the daemon, or to the maps: see reach.h. */
#include "connguard/reach.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <connguard/protocol.h>

#include "base/cleanup.h"
#include "edge/host.h"

/* Where packages and the systemd unit put it. */
/* Where ip-netns(8) puts the namespaces that have a name. */
#define NETNS_DIRECTORY "/run/netns"

void reach_close_maps(struct guard **guard)
{
	guard_close(*guard);
}

void reach_drop_document(json_t **document)
{
	json_decref(*document);
}

void reach_close_client(struct client **client)
{
	client_close(*client);
}

/* What to make of a negative errno on the way to the daemon; says what a person has to know. */
static enum reach judge(const struct cli *cli, int error, const char *refusal)
{
	switch (error) {
	case -ENOENT:
	case -ECONNREFUSED:
		return REACH_ABSENT;
	case -EACCES:
	case -EPERM:
		complain("no permission to ask the daemon at " PROTOCOL_RUN_DIRECTORY
			 "/%s.sock: be root or in the group '" PROTOCOL_GROUP "'", cli->name);
		return REACH_FAILED;
	case -EREMOTEIO:
		complain("%s", refusal);
		return REACH_FAILED;
	case -ETIMEDOUT:
		complain("the daemon does not answer within %d s", CLIENT_ANSWER_SECONDS);
		return REACH_ABSENT;
	case -ECONNRESET:
		complain("the daemon hung up before it answered");
		return REACH_ABSENT;
	case -EPROTO:
		complain("the daemon's answer makes no sense: is it of another version?");
		return REACH_FAILED;
	default:
		complain("asking the daemon: %s", strerror(-error));
		return REACH_FAILED;
	}
}

enum reach reach_stream(const struct cli *cli, json_t *request, json_t **ret_result,
			struct client **ret_client)
{
	cleanup_client struct client *client = NULL;
	cleanup_free char *refusal = NULL;
	int error;

	error = client_open(cli->name, &client);
	if (error)
		json_decref(request);
	else
		error = client_ask(client, request, ret_result, &refusal);
	if (error)
		return judge(cli, error, refusal);
	*ret_client = take_pointer(client);
	return REACH_DONE;
}

enum reach reach_daemon(const struct cli *cli, json_t *request, json_t **ret_result)
{
	cleanup_client struct client *client = NULL;

	return reach_stream(cli, request, ret_result, &client);
}

void reach_say_maps(const struct cli *cli)
{
	complain("guard '%s': daemon not running or not answering, read from the pinned maps", cli->name);
}

struct guard *reach_maps(const struct cli *cli)
{
	struct guard *guard = NULL;
	struct guard_error why;
	int error;

	error = guard_open(cli->name, &guard, &why);
	if (!error)
		return guard;
	if (geteuid() != 0 && error != -EINVAL)
		complain("guard '%s': no daemon answers, and only root can read the pinned maps",
			 cli->name);
	else
		complain("%s", *why.text ? why.text : strerror(-error));
	return NULL;
}

/* Is the thread in the network namespace with this cookie? */
static bool in_netns(__u64 wanted)
{
	__u64 cookie;

	return !host_netns_cookie(&cookie) && cookie == wanted;
}

bool reach_guarded_netns(const struct cli *cli, const struct guard_policy *policy)
{
	char path[CONFIG_PATH_MAX];
	struct config_error why;
	struct config config;
	struct dirent *entry;
	bool found = false;
	DIR *named;

	if (!policy->netns_cookie || in_netns(policy->netns_cookie))
		return true;
	if (!config_read(config_path(&cli->sources, path), &config, &why) && *config.netns &&
	    !host_enter_netns(config.netns) && in_netns(policy->netns_cookie))
		return true;
	named = opendir(NETNS_DIRECTORY);
	while (!found && named && (entry = readdir(named))) {
		snprintf(path, sizeof(path), NETNS_DIRECTORY "/%.200s", entry->d_name);
		found = *entry->d_name != '.' && !host_enter_netns(path) &&
			in_netns(policy->netns_cookie);
	}
	if (named)
		closedir(named);
	return found;
}

int reach_show(const struct cli *cli, const json_t *document, void (*text)(const json_t *document))
{
	if (!cli->json) {
		text(document);
		return CLI_FINE;
	}
	if (json_dumpf(document, stdout, JSON_INDENT(2))) {
		complain("cannot write to standard output");
		return CLI_FAILED;
	}
	putchar('\n');
	return CLI_FINE;
}
