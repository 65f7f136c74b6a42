/* SPDX-License-Identifier: BSD-2-Clause */
/* See keep.h. */
#include "connguard/keep.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "connguard/reach.h"
#include "edge/instance.h"
#include "edge/recall.h"
#include "edge/state_store.h"

/* What the kernel shows of a process that nobody has logged in for: (uid_t)-1. */
#define NOBODY_LOGGED_IN 4294967295UL

/* The name that whoever logged in has, whoever they have become since. */
static const char *login_name(void)
{
	cleanup_fclose FILE *file = fopen("/proc/self/loginuid", "re");
	const struct passwd *entry = NULL;
	unsigned long uid;

	if (file && fscanf(file, "%lu", &uid) == 1 && uid != NOBODY_LOGGED_IN)
		entry = getpwuid((uid_t)uid);
	return entry ? entry->pw_name : NULL;
}

const char *keep_by(void)
{
	static char name[STATE_BY_MAX + 1];
	const char *by = getenv("SUDO_USER");

	if (!by)
		by = login_name();
	if (!by || !state_by_valid(by))
		return "";
	snprintf(name, sizeof(name), "%s", by);
	return name;
}

static void say_not_kept(const char *why)
{
	complain("it is in force, but will be lost when the guard is stopped: %s", why);
}

void keep_said(const json_t *result)
{
	const char *why = json_string_value(json_object_get(result, "not_kept"));

	if (why)
		say_not_kept(why);
}

/* Make the file say what the maps say. `forget`: what it says of this is over; NULL: nothing is. */
static int keep(const struct cli *cli, const struct guard *guard, const struct state_entry *forget,
		struct config_error *ret_error)
{
	cleanup_state struct state before = {}, after = {};
	bool damaged = state_store_read(cli->name, &before, ret_error) != 0;
	int result;

	if (damaged)
		complain("what operators had decided cannot be read: %s", ret_error->text);
	if (forget)
		state_clear(&before, forget->kind, &forget->prefix);
	result = recall_collect(guard, &before, keep_by(), &after);
	if (result < 0) {
		snprintf(ret_error->text, sizeof(ret_error->text), "reading the pinned maps: %s", strerror(-result));
		return result;
	}
	result = damaged && (forget || after.count) ? state_store_set_aside(cli->name, ret_error) : 0;
	if (!result && (!damaged || forget || after.count))
		result = state_store_write(cli->name, &after, ret_error);
	return result;
}

void keep_on_maps(const struct cli *cli, const struct guard *guard, enum state_kind kind,
		  const struct exempt_prefix *prefix)
{
	struct instance instance __attribute__((cleanup(instance_unlock))) = INSTANCE_NONE;
	const struct state_entry entry = { .kind = kind, .prefix = *prefix };
	struct config_error error = {};
	int result = instance_lock(cli->name, &instance);

	if (result == -EWOULDBLOCK)
		complain("it is in force; the process that runs the guard does not answer, and keeps it when it does");
	else if (result)
		say_not_kept(strerror(-result));
	else if (keep(cli, guard, &entry, &error))
		say_not_kept(error.text);
}

bool keep_knows(const struct cli *cli, enum state_kind kind, const struct exempt_prefix *prefix)
{
	cleanup_state struct state state = {};
	struct config_error error;

	return !state_store_read(cli->name, &state, &error) && state_find(&state, kind, prefix);
}

void keep_all(const struct cli *cli, const struct guard *guard)
{
	struct config_error error = {};

	if (keep(cli, guard, NULL, &error))
		complain("what operators have decided is lost with the guard: %s", error.text);
}

void keep_mode(const struct cli *cli, const struct guard *guard)
{
	const struct exempt_prefix none = STATE_NO_PREFIX;
	cleanup_document json_t *result = NULL;

	switch (reach_daemon(cli, json_pack("{s:s, s:s}", "request", "keep", "by", keep_by()), &result)) {
	case REACH_DONE:
		keep_said(result);
		return;
	case REACH_FAILED:
		say_not_kept("the daemon cannot keep it");
		return;
	case REACH_ABSENT:
		break;
	}
	keep_on_maps(cli, guard, STATE_MODE, &none);
}
