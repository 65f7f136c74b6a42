// SPDX-License-Identifier: BSD-2-Clause
/* The control socket's requests. See daemon.h and include/connguard/protocol.h. */
#include "connguardd/daemon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <connguard/protocol.h>
#include <connguard/rules.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/printable.h"
#include "edge/holders.h"
#include "edge/links.h"
#include "edge/view.h"
#include "pure/address_text.h"

/* Bytes of an argument's value that messages repeat. */
#define VALUE_SHOWN 64

/* Everything a request function needs. */
struct call {
	struct daemon *daemon;
	const struct server_request *request;
	json_t **ret_result;
	char *error;
	size_t error_size;
};

static int fail(const struct call *call, int code, const char *text)
{
	snprintf(call->error, call->error_size, "%s", text);
	return code;
}

/*
 * What is wrong with an argument: `"NAME": VALUE: ` or `"NAME" is missing: `, and what was expected.
 * Always -EINVAL.
 */
static int argument_fails(const struct call *call, const char *name, const char *expected)
{
	const json_t *value = json_object_get(call->request->arguments, name);
	cleanup_free char *text =
		value ? json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII | JSON_COMPACT) : NULL;

	if (text)
		snprintf(call->error, call->error_size, "\"%s\": %.*s%s: expected %s", name, VALUE_SHOWN,
			 text, strlen(text) > VALUE_SHOWN ? "..." : "", expected);
	else
		snprintf(call->error, call->error_size, "\"%s\" is missing: expected %s", name,
			 expected);
	return -EINVAL;
}

/* The argument "address". */
static int address_argument(const struct call *call, struct peer_address *ret_address)
{
	const char *text = json_string_value(json_object_get(call->request->arguments, "address"));

	if (!text || address_from_text(text, ret_address))
		return argument_fails(call, "address", "text, an IPv4 or IPv6 address");
	return 0;
}

/* The argument "address" where a peer shall be made of it. */
static int peer_argument(const struct call *call, struct peer_address *ret_address)
{
	int result = address_argument(call, ret_address);

	if (!result && !address_may_be_peer(ret_address))
		return argument_fails(call, "address",
				      "a unicast address, neither loopback nor unspecified");
	return result;
}

/* An integer argument within bounds. */
static int integer_argument(const struct call *call, const char *name, json_int_t min,
			    json_int_t max, json_int_t *ret_value)
{
	const json_t *value = json_object_get(call->request->arguments, name);
	char expected[64];

	if (!json_is_integer(value) || json_integer_value(value) < min ||
	    json_integer_value(value) > max) {
		snprintf(expected, sizeof(expected), "an integer from %lld to %lld", (long long)min,
			 (long long)max);
		return argument_fails(call, name, expected);
	}
	*ret_value = json_integer_value(value);
	return 0;
}

/* The argument "follow"; without it: false. */
static int follow_argument(const struct call *call, bool *ret_follow)
{
	const json_t *value = json_object_get(call->request->arguments, "follow");

	if (value && !json_is_boolean(value))
		return argument_fails(call, "follow", "true or false");
	*ret_follow = json_is_true(value);
	return 0;
}

/* The argument "by", who asks; without it: "". */
static int by_argument(const struct call *call, const char **ret_by)
{
	const json_t *value = json_object_get(call->request->arguments, "by");
	const char *by = value ? json_string_value(value) : "";

	if (!by || !state_by_valid(by))
		return argument_fails(call, "by", "text, a login name");
	*ret_by = by;
	return 0;
}

/*
 * What is in force is kept, or is not for this reason (NULL: none), which the answer says. While it is being kept the
 * answer waits.
 */
static void answer_when_kept(const struct call *call, const char *why_not)
{
	char text[sizeof(call->daemon->problems[0])];
	__u64 ticket = decisions_pending(call->daemon);

	if (why_not) {
		snprintf(text, sizeof(text), "%s", why_not);
		json_object_set_new(*call->ret_result, "not_kept", json_string(text_make_printable(text)));
	} else if (ticket) {
		server_hold(call->request->client, ticket);
	}
}

static struct view_origin origin_of(const struct daemon *daemon)
{
	return (struct view_origin){ .name = daemon->name,
				     .now = clock_now_ns(),
				     .daemon = true,
				     .peers_max = PROTOCOL_PEERS_MAX,
				     .confinement = &daemon->confinement,
				     .features = daemon->features,
				     .state = decisions_state(daemon) };
}

/* Run a command on one peer, at each service of the guard, and answer with its address. */
static int command_one(const struct call *call, const struct guard_command *command)
{
	char text[ADDRESS_TEXT_MAX];
	int result = guard_command_host(call->daemon->guard, command);

	if (result == -ENOSPC) {
		room_make(call->daemon, NULL);
		result = guard_command_host(call->daemon->guard, command);
	}
	if (result == -ENOENT)
		return fail(call, result, "the guard knows no such peer");
	if (result == -ENOSPC)
		return fail(call, result, "the peers map is full");
	if (result)
		return result;
	*call->ret_result = json_pack("{s:s}", "address", address_to_text(&command->address, text));
	return 0;
}

static int request_status(const struct call *call)
{
	cleanup_free struct guard_event *events = calloc(HISTORY_LENGTH, sizeof(*events));
	struct view_origin origin = origin_of(call->daemon);
	const char *problems[PROBLEM_COUNT];

	if (!events)
		return -ENOMEM;
	origin.events = events;
	origin.event_count = happenings_recent(call->daemon, events);
	upkeep_count_losses(call->daemon);
	origin.census = reconcile_census(call->daemon);
	origin.own_count = &call->daemon->surroundings.own.count;
	origin.counted_max = COUNTED_AT_ONCE;
	origin.problems = problems;
	origin.problem_count = problems_list(call->daemon, problems);
	origin.waits_for = places_waits_for(call->daemon);
	origin.strange_ports = call->daemon->strange_ports;
	origin.strange_port_count = call->daemon->strange_port_count;
	origin.overlaps = call->daemon->overlaps;
	origin.overlap_count = call->daemon->overlap_count;
	return view_status(call->daemon->guard, &origin, call->ret_result);
}

/* Who holds the sockets: without it a document still says everything else. */
static void find_holders(const struct call *call, struct view_origin *origin)
{
	const struct config *config = &call->daemon->config;

	holders_recent(&call->daemon->holders, call->daemon->guard, call->daemon->surroundings.sockets,
		       config->ports.number, config->ports.count, &origin->holders, &origin->holder_count);
}

/* The result of a list, in words where it is too long. */
static int listed(const struct call *call, int result)
{
	if (result == -EMSGSIZE)
		snprintf(call->error, call->error_size,
			 "more peers than one answer lists (%d): ask for one with `explain`, or read the "
			 "pinned map with bpftool", PROTOCOL_PEERS_MAX);
	return result;
}

static int request_peers(const struct call *call)
{
	struct view_origin origin = origin_of(call->daemon);

	find_holders(call, &origin);
	return listed(call, view_peers(call->daemon->guard, &origin, call->ret_result));
}

static int request_explain(const struct call *call)
{
	cleanup_free struct guard_event *events = calloc(HISTORY_LENGTH, sizeof(*events));
	struct view_origin origin = origin_of(call->daemon);
	struct peer_address address;
	int result = address_argument(call, &address);
	json_int_t port = 0;

	if (!result && json_object_get(call->request->arguments, "port"))
		result = integer_argument(call, "port", 1, 65535, &port);
	if (result)
		return result;
	if (!events)
		return -ENOMEM;
	address.service = (__u16)port;
	origin.events = events;
	origin.event_count = happenings_recent(call->daemon, events);
	find_holders(call, &origin);
	result = view_explain(call->daemon->guard, &origin, &address, call->ret_result);
	return result == -ENOENT ? fail(call, result, "the guard has no such port") : result;
}

static int request_events(const struct call *call)
{
	cleanup_free struct guard_event *events = calloc(HISTORY_LENGTH, sizeof(*events));
	struct view_origin origin = origin_of(call->daemon);
	const struct config *config = &call->daemon->config;
	const __u16 all_ports = 0;
	bool follow;
	int result = follow_argument(call, &follow);

	if (result)
		return result;
	if (!events)
		return -ENOMEM;
	origin.services = config->share_limit ? &all_ports : config->ports.number;
	origin.service_count = config->share_limit ? 1 : config->ports.count;
	origin.events = events;
	origin.event_count = happenings_recent(call->daemon, events);
	*call->ret_result = view_events(&origin);
	if (!*call->ret_result)
		return -ENOMEM;
	if (follow)
		server_follow(call->request->client, STREAM_EVENTS);
	return 0;
}

static int request_due(const struct call *call)
{
	const struct view_origin origin = origin_of(call->daemon);
	bool follow;
	int result = follow_argument(call, &follow);

	if (!result)
		result = listed(call, view_due(call->daemon->guard, &origin, call->ret_result));
	if (!result && follow)
		server_follow(call->request->client, STREAM_DUE);
	return result;
}

static int request_kick(const struct call *call)
{
	struct guard_command command = { .operation = COMMAND_KICK };
	size_t kicked;
	int result;

	if (json_object_get(call->request->arguments, "address")) {
		result = address_argument(call, &command.address);
		return result ? result : command_one(call, &command);
	}
	result = guard_kick_all(call->daemon->guard, &kicked);
	if (!result)
		*call->ret_result = json_pack("{s:I}", "kicked", (json_int_t)kicked);
	return result;
}

static int request_forget(const struct call *call)
{
	struct guard_command command = { .operation = COMMAND_FORGET, .until_ns = clock_now_ns() };
	size_t forgotten;
	int result;

	if (json_object_get(call->request->arguments, "address")) {
		result = address_argument(call, &command.address);
		if (!result)
			result = command_one(call, &command);
		if (!result) {
			decisions_forget(call->daemon, &command.address);
			answer_when_kept(call, NULL);
		}
		return result == -EBUSY ? fail(call, result, PROTOCOL_NOT_IDLE) : result;
	}
	result = guard_forget_idle(call->daemon->guard, &forgotten);
	if (result)
		return result;
	/* Of a large map `status` tells what a check has counted. */
	reconcile_now(call->daemon, false);
	*call->ret_result = json_pack("{s:I}", "forgotten", (json_int_t)forgotten);
	return 0;
}

static int request_limit(const struct call *call)
{
	struct guard_command command = { .operation = COMMAND_LIMIT };
	json_int_t limit = 0;
	const char *by = "";
	int result = peer_argument(call, &command.address);

	if (!result)
		result = integer_argument(call, "limit", 0, PEER_LINKS_MAX, &limit);
	if (!result)
		result = by_argument(call, &by);
	command.value = limit;
	if (!result)
		result = command_one(call, &command);
	if (result)
		return result;
	answer_when_kept(call, decisions_limit(call->daemon, &command.address, command.value, by));
	return 0;
}

/* Of an address. */
static int allow_peer(const struct call *call, struct guard_command *command, const char *by)
{
	struct exempt_prefix prefix;
	int result = peer_argument(call, &command->address);

	if (!result)
		result = command_one(call, command);
	if (result)
		return result;
	prefix = state_prefix(&command->address);
	answer_when_kept(call, decisions_allow(call->daemon, STATE_ALLOW_PEER, &prefix,
					       command->until_ns == NEVER_ENDS_NS, by));
	return 0;
}

/* An address or a prefix; -1: for good, 0: no longer. */
static int request_allow(const struct call *call)
{
	const char *text = json_string_value(json_object_get(call->request->arguments, "address"));
	struct guard_command command = { .operation = COMMAND_ALLOW };
	struct exempt_value value = {};
	struct exempt_prefix prefix;
	const char *problem, *by = "";
	json_int_t seconds;
	char expected[128];
	int result = integer_argument(call, "seconds", -1, 100LL * 366 * 86400, &seconds);

	if (!result)
		result = by_argument(call, &by);
	if (result)
		return result;
	value.until_ns = seconds < 0  ? NEVER_ENDS_NS :
			 seconds == 0 ? 0 :
					clock_now_ns() + (__u64)seconds * NS_PER_SECOND;
	if (!text || !strchr(text, '/')) {
		command.until_ns = value.until_ns;
		return allow_peer(call, &command, by);
	}
	if (prefix_from_text(text, &prefix, &problem)) {
		snprintf(expected, sizeof(expected),
			 "an address, or a prefix such as 10.0.0.0/8 (%s)", problem);
		return argument_fails(call, "address", expected);
	}
	result = seconds ? guard_exempt_write(call->daemon->guard, &prefix, &value) :
			   guard_exempt_delete(call->daemon->guard, &prefix);
	/* One that had found no room is taken back all the same. */
	if (result == -ENOENT && state_find(decisions_state(call->daemon), STATE_ALLOW_PREFIX, &prefix))
		result = 0;
	if (result == -ENOENT)
		return fail(call, result, "no such prefix is exempt");
	if (result == -ENOSPC)
		return fail(call, result, "the exempt map is full");
	if (result)
		return result;
	*call->ret_result = json_pack("{s:s}", "address", text);
	answer_when_kept(call, decisions_allow(call->daemon, STATE_ALLOW_PREFIX, &prefix, seconds < 0, by));
	return 0;
}

/* Who asks has written the mode. */
static int request_keep(const struct call *call)
{
	const char *by = "";
	int result = by_argument(call, &by);

	if (result)
		return result;
	*call->ret_result = json_object();
	answer_when_kept(call, decisions_mode(call->daemon, by));
	return 0;
}

static int request_cut(const struct call *call)
{
	struct peer_address address;
	int missing, cut, result = address_argument(call, &address);

	if (result)
		return result;
	cut = links_cut(call->daemon->guard, call->daemon->surroundings.sockets, &address, &missing);
	if (cut == -ENOENT)
		return fail(call, cut, "the guard knows no such peer");
	if (cut < 0)
		return cut;
	*call->ret_result = json_pack("{s:i, s:i}", "cut", cut, "missing", missing);
	return 0;
}

static int request_reload(const struct call *call)
{
	int result = daemon_reload(call->daemon, call->error, call->error_size);

	if (!result)
		answer_when_kept(call, NULL);
	return result;
}

static const struct {
	const char *name;
	int (*handle)(const struct call *call);
} table[] = {
#define REQUEST_ROW(request, changes, arguments) { #request, request_##request },
	PROTOCOL_REQUESTS(REQUEST_ROW)
#undef REQUEST_ROW
};

int requests_handle(const struct server_request *request, json_t **ret_result, char *ret_error,
		    size_t error_size, void *argument)
{
	const struct call call = { .daemon = argument,
				   .request = request,
				   .ret_result = ret_result,
				   .error = ret_error,
				   .error_size = error_size };

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strcmp(table[i].name, request->name) == 0)
			return table[i].handle(&call);
	return -ENOSYS;
}
