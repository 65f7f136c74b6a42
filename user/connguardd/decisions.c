// SPDX-License-Identifier: BSD-2-Clause
/*
 * What operators have decided, kept in the state file. See daemon.h.
 *
 * While the guard is in the kernel its maps are right. The file follows them: at once where the daemon is told of a
 * decision, with the next heartbeat where a mode was written to the map without a word, and before the guard is
 * removed.
 */
#include "connguardd/daemon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <connguard/rules.h>

#include "base/log.h"
#include "edge/recall.h"
#include "edge/state_store.h"
#include "pure/names.h"

/* What could not be kept is tried again after so many heartbeats. */
#define RETRY_BEATS 10

struct decisions {
	struct state state;  /* in force */
	bool unsaved;        /* the file does not say so */
	bool damaged;        /* it is not understood: it stays until there is something to keep */
	bool settled;        /* `state` is in force, and not only what the file says */
	bool complete;       /* the maps have all of it */
	unsigned int beats;  /* heartbeats since it was tried */
};

/* What stands in the way. */
static void cannot_keep(struct daemon *daemon, const char *why)
{
	problem_set(daemon, PROBLEM_STATE,
		    "what operators decide cannot be kept, and is lost when the guard is stopped: %s", why);
}

/* Make the file say what is in force. */
static void save(struct daemon *daemon)
{
	struct decisions *decisions = daemon->decisions;
	struct config_error error = {};
	int result = 0;

	decisions->beats = 0;
	if (decisions->damaged)
		result = state_store_set_aside(daemon->name, &error);
	if (!result) {
		decisions->damaged = false;
		result = state_store_write(daemon->name, &decisions->state, &error);
	}
	decisions->unsaved = result != 0;
	if (result) {
		cannot_keep(daemon, error.text);
		return;
	}
	problem_clear(daemon, PROBLEM_STATE);
	/* Also when the file was damaged before. */
	if (decisions->complete && !recall_is(daemon->guard, true))
		problem_clear(daemon, PROBLEM_FORGOTTEN);
}

int decisions_start(struct daemon *daemon)
{
	struct decisions *decisions = daemon->decisions = calloc(1, sizeof(*decisions));
	struct config_error error;
	char path[STATE_PATH_MAX];
	int result;

	if (!decisions)
		return -ENOMEM;
	decisions->complete = true;
	result = state_store_read(daemon->name, &decisions->state, &error);
	if (result == -ENOMEM)
		return result;
	decisions->damaged = result != 0;
	if (decisions->damaged)
		log_error("what operators had decided cannot be read: %s",
			  *error.text ? error.text : state_store_path(daemon->name, path));
	/* Now: later the daemon may not. */
	if (state_store_prepare(&error))
		cannot_keep(daemon, error.text);
	return 0;
}

void decisions_stop(struct daemon *daemon)
{
	if (!daemon->decisions)
		return;
	state_free(&daemon->decisions->state);
	free(daemon->decisions);
	daemon->decisions = NULL;
}

const struct state *decisions_kept(const struct daemon *daemon)
{
	return daemon->decisions->damaged ? NULL : &daemon->decisions->state;
}

const struct state *decisions_state(const struct daemon *daemon)
{
	return &daemon->decisions->state;
}

static void say_full(struct daemon *daemon, int result)
{
	problem_set(daemon, PROBLEM_FORGOTTEN,
		    "not all that operators have decided is in force: %s; 'connguard reload' tries it again",
		    result == -ENOSPC ? "the peers map is full" : strerror(-result));
}

/* Not all that was decided is in force. */
static void say_missing(struct daemon *daemon, const struct furnished *furnished)
{
	char path[STATE_PATH_MAX];

	state_store_path(daemon->name, path);
	if (daemon->decisions->damaged && !furnished->recalled)
		problem_set(daemon, PROBLEM_FORGOTTEN,
			    "what operators had decided before this start (a panic, limits, what is allowed for good) "
			    "is not in force: %s is damaged, see the log. It stays as it is until the next decision, "
			    "and then as %s.damaged", path, path);
	else if (furnished->undecided)
		say_full(daemon, furnished->undecided);
}

void decisions_settle(struct daemon *daemon, struct furnished *furnished)
{
	struct decisions *decisions = daemon->decisions;

	/* All was in the maps: a file that is damaged is not missed. */
	decisions->unsaved = !state_equal(&decisions->state, &furnished->state) ||
			     (decisions->damaged && furnished->recalled);
	decisions->complete = !furnished->undecided;
	decisions->settled = true;
	state_free(&decisions->state);
	decisions->state = furnished->state;
	furnished->state = (struct state){};
	say_missing(daemon, furnished);
	if (furnished->left_out)
		log_warning("%zu decisions of operators are not kept: there are more than %d", furnished->left_out,
			    STATE_ENTRIES_MAX);
}

void decisions_try(struct daemon *daemon)
{
	struct config_error error;

	daemon->decisions->beats = 0;
	if (daemon->decisions->unsaved)
		save(daemon);
	else if (state_store_try(daemon->name, &error))
		cannot_keep(daemon, error.text);
	else
		problem_clear(daemon, PROBLEM_STATE);
}

/* Why the file does not say what is in force; NULL: it does. */
static const char *not_kept(const struct daemon *daemon)
{
	return daemon->decisions->unsaved ? daemon->problems[PROBLEM_STATE] : NULL;
}

/* A decision, or that one is taken back; kept if that is news. NULL, or why it is not kept. */
static const char *decide(struct daemon *daemon, const struct state_entry *entry, bool taken_back)
{
	struct decisions *decisions = daemon->decisions;
	struct state_entry *before = state_find(&decisions->state, entry->kind, &entry->prefix), now = *entry;
	int result = 0;

	now.since = (__u64)time(NULL);
	if (taken_back && !before)
		return not_kept(daemon);
	if (!taken_back && before && before->value == now.value) {
		/* Who presses panic writes the map first, which may have been seen already. */
		if (*before->by || !*now.by)
			return not_kept(daemon);
		now.since = before->since;
	}
	if (taken_back)
		state_clear(&decisions->state, entry->kind, &entry->prefix);
	else
		result = state_set(&decisions->state, &now);
	if (result)
		return result == -ENOSPC ? "there are too many decisions already" : strerror(-result);
	save(daemon);
	return not_kept(daemon);
}

const char *decisions_mode(struct daemon *daemon, const char *by)
{
	struct state_entry entry = { .kind = STATE_MODE };
	enum guard_mode mode;

	if (guard_mode_read(daemon->guard, &mode) || mode > MODE_ENFORCE)
		return "the mode cannot be read, or is none";
	entry.value = mode;
	snprintf(entry.by, sizeof(entry.by), "%s", by);
	return decide(daemon, &entry, mode == daemon->config.mode);
}

const char *decisions_limit(struct daemon *daemon, const struct peer_address *address, __u32 limit, const char *by)
{
	struct state_entry entry = { .kind = STATE_LIMIT, .prefix = state_prefix(address), .value = limit };

	snprintf(entry.by, sizeof(entry.by), "%s", by);
	return decide(daemon, &entry, !limit);
}

const char *decisions_allow(struct daemon *daemon, enum state_kind kind, const struct exempt_prefix *prefix,
			    bool for_good, const char *by)
{
	struct state_entry entry = { .kind = kind, .prefix = *prefix };

	snprintf(entry.by, sizeof(entry.by), "%s", by);
	return decide(daemon, &entry, !for_good);
}

void decisions_forget(struct daemon *daemon, const struct peer_address *address)
{
	const struct exempt_prefix prefix = state_prefix(address);

	decisions_limit(daemon, address, 0, "");
	decisions_allow(daemon, STATE_ALLOW_PEER, &prefix, false, "");
}

void decisions_look(struct daemon *daemon)
{
	struct decisions *decisions = daemon->decisions;

	if (!decisions->settled)
		return;
	decisions_mode(daemon, "");
	if (*daemon->problems[PROBLEM_STATE] && ++decisions->beats >= RETRY_BEATS)
		decisions_try(daemon);
}

void decisions_reconfigured(struct daemon *daemon)
{
	struct decisions *decisions = daemon->decisions;
	int result = furnish_decided(daemon->guard, &decisions->state);

	decisions->complete = !result;
	if (result) {
		recall_is(daemon->guard, false);
		say_full(daemon, result);
	} else if (!decisions->damaged && !recall_is(daemon->guard, true)) {
		problem_clear(daemon, PROBLEM_FORGOTTEN);
	}
	decisions_mode(daemon, "");
}

void decisions_collect(struct daemon *daemon)
{
	struct decisions *decisions = daemon->decisions;
	struct state state;
	int result;

	if (!decisions || !decisions->settled)
		return;
	/* The configured mode in the maps is that of the policy, which is the daemon's. */
	result = recall_collect(daemon->guard, &decisions->state, "", &state);
	if (result < 0) {
		log_warning("what operators have decided: %s", strerror(-result));
	} else {
		if (!state_equal(&decisions->state, &state))
			decisions->unsaved = true;
		state_free(&decisions->state);
		decisions->state = state;
	}
	if (decisions->unsaved)
		save(daemon);
}
