// SPDX-License-Identifier: BSD-2-Clause
/*
 * What operators have decided, kept in the state file. See daemon.h.
 *
 * While the guard is in the kernel its maps are right. The file follows them: at once where the daemon is told of a
 * decision, with the next heartbeat where a mode was written to the map without a word, and before the guard is
 * removed.
 *
 * A busy disk takes seconds for it. So a thread writes, one at a time, which has a copy of what is decided; what comes
 * meanwhile is written next. Whoever has decided is answered when it is on the disk, and nobody else waits.
 */
#include "connguardd/daemon.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <connguard/rules.h>

#include "base/log.h"
#include "base/printable.h"
#include "edge/recall.h"
#include "edge/state_store.h"
#include "pure/names.h"

/* What could not be kept is tried again after so many heartbeats. */
#define RETRY_BEATS 10

/* One writing, or the trial of one. All but the first two are the thread's, while it runs. */
struct keeping {
	pthread_t thread;
	bool apart;         /* there is a thread */
	const char *name;   /* of the guard */
	__u64 ticket;       /* of the last decision that is in it */
	struct state state; /* a copy */
	bool writes;        /* else it tries whether one could */
	bool damaged;       /* the file there is is to be set aside */
	int done_fd;        /* written to at the end */
	int result;         /* 0, or a negative errno, and why: */
	struct config_error error;
};

struct decisions {
	struct state state;  /* in force */
	bool unsaved;        /* the file does not say so */
	bool damaged;        /* it is not understood: it stays until there is something to keep */
	bool settled;        /* `state` is in force, and not only what the file says */
	bool complete;       /* the maps have all of it */
	unsigned int beats;  /* heartbeats since it was tried */
	__u64 wanted, done;  /* tickets: of the last decision, and of the last that was written, or could not be */
	struct keeping keeping;
	bool running;        /* `keeping`: it is not concluded */
	int done_fd;         /* an eventfd: it has come to its end */
	struct event *done_event;
};

/* What stands in the way. */
static void cannot_keep(struct daemon *daemon, const char *why)
{
	problem_set(daemon, PROBLEM_STATE,
		    "what operators decide cannot be kept, and is lost when the guard is stopped: %s", why);
}

/* ---- the thread ---- */

static void carry_out(struct keeping *keeping)
{
	if (!keeping->writes) {
		keeping->result = state_store_try(keeping->name, &keeping->error);
		return;
	}
	if (keeping->damaged)
		keeping->result = state_store_set_aside(keeping->name, &keeping->error);
	if (keeping->result)
		return;
	keeping->damaged = false;
	keeping->result = state_store_write(keeping->name, &keeping->state, &keeping->error);
}

/* It is to be concluded. */
static void tell(const struct keeping *keeping)
{
	const __u64 one = 1;

	while (write(keeping->done_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void *keep(void *argument)
{
	carry_out(argument);
	tell(argument);
	return NULL;
}

/* 0, or an errno. Made when the daemon has given up what it does not need, it has no more than that. */
static int keep_apart(struct keeping *keeping)
{
	sigset_t all, before;
	int result;

	/* Signals are the event loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(&keeping->thread, NULL, keep, keeping);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return result;
}

/* ---- one writing after the other ---- */

static void begin(struct daemon *daemon);

/* What has come of it, when it has come to its end. `answers`: to those who wait for it; else there is nobody. */
static void conclude(struct daemon *daemon, bool answers)
{
	struct decisions *decisions = daemon->decisions;
	struct keeping *keeping = &decisions->keeping;
	char why_not[sizeof(daemon->problems[0])];

	if (keeping->apart)
		pthread_join(keeping->thread, NULL);
	decisions->running = false;
	decisions->done = keeping->ticket;
	state_free(&keeping->state);
	if (keeping->writes) {
		decisions->damaged = keeping->damaged;
		decisions->unsaved = keeping->result || decisions->wanted != decisions->done;
	}
	if (keeping->result)
		cannot_keep(daemon, keeping->error.text);
	else
		problem_clear(daemon, PROBLEM_STATE);
	/* Also when the file was damaged before. */
	if (!keeping->result && keeping->writes && decisions->complete && !recall_is(daemon->guard, true))
		problem_clear(daemon, PROBLEM_FORGOTTEN);
	if (answers) {
		snprintf(why_not, sizeof(why_not), "%s", daemon->problems[PROBLEM_STATE]);
		server_release(daemon->server, keeping->ticket, "not_kept",
			       keeping->result ? text_make_printable(why_not) : NULL);
	}
	if (decisions->wanted != decisions->done)
		begin(daemon);
}

/* Write what is in force, if that is wanted, or try whether it could be written. */
static void begin(struct daemon *daemon)
{
	struct decisions *decisions = daemon->decisions;
	struct keeping *keeping = &decisions->keeping;

	*keeping = (struct keeping){ .name = daemon->name,
				     .ticket = decisions->wanted,
				     .writes = decisions->wanted != decisions->done,
				     .damaged = decisions->damaged,
				     .done_fd = decisions->done_fd };
	decisions->running = true;
	if (keeping->writes)
		keeping->result = state_copy(&decisions->state, &keeping->state);
	if (keeping->result) {
		snprintf(keeping->error.text, sizeof(keeping->error.text), "%s", strerror(-keeping->result));
		tell(keeping);
		return;
	}
	keeping->apart = !keep_apart(keeping);
	/* Where no thread can be had all wait. */
	if (!keeping->apart)
		keep(keeping);
}

static void on_done(evutil_socket_t fd, short what, void *argument)
{
	struct daemon *daemon = argument;
	__u64 count;

	(void)what;
	if (read(fd, &count, sizeof(count)) > 0 && daemon->decisions->running)
		conclude(daemon, true);
}

/* Wait until nothing is left to write. */
static void finish(struct daemon *daemon)
{
	struct decisions *decisions = daemon->decisions;
	__u64 count;

	while (decisions->running) {
		if (decisions->keeping.apart)
			pthread_join(decisions->keeping.thread, NULL);
		decisions->keeping.apart = false;
		/* It was told, and is not to be told again. */
		if (read(decisions->done_fd, &count, sizeof(count)) < 0)
			log_debug("the end of a writing was not told: %s", strerror(errno));
		conclude(daemon, false);
	}
}

/* Make the file say what is in force. */
static void save(struct daemon *daemon)
{
	struct decisions *decisions = daemon->decisions;

	decisions->beats = 0;
	decisions->unsaved = true;
	decisions->wanted++;
	if (!decisions->running)
		begin(daemon);
}

__u64 decisions_pending(const struct daemon *daemon)
{
	const struct decisions *decisions = daemon->decisions;

	return decisions->wanted != decisions->done ? decisions->wanted : 0;
}

/* ---- what is decided ---- */

int decisions_start(struct daemon *daemon)
{
	struct decisions *decisions = daemon->decisions = calloc(1, sizeof(*decisions));
	struct config_error error;
	char path[STATE_PATH_MAX];
	int result;

	if (!decisions)
		return -ENOMEM;
	decisions->complete = true;
	decisions->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (decisions->done_fd < 0)
		return -errno;
	decisions->done_event = event_new(daemon->base, decisions->done_fd, EV_READ | EV_PERSIST, on_done, daemon);
	if (!decisions->done_event || event_add(decisions->done_event, NULL))
		return -ENOMEM;
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
	struct decisions *decisions = daemon->decisions;

	if (!decisions)
		return;
	finish(daemon);
	if (decisions->done_event)
		event_free(decisions->done_event);
	if (decisions->done_fd >= 0)
		close(decisions->done_fd);
	state_free(&decisions->state);
	free(decisions);
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

static void try_again(struct daemon *daemon)
{
	struct decisions *decisions = daemon->decisions;

	decisions->beats = 0;
	if (decisions->running)
		return;
	if (decisions->unsaved)
		save(daemon);
	else
		begin(daemon);
}

void decisions_try(struct daemon *daemon)
{
	try_again(daemon);
	finish(daemon);
}

/* Why the file does not say what is in force; NULL: it does, or is to say it next. */
static const char *not_kept(const struct daemon *daemon)
{
	return daemon->decisions->unsaved && !decisions_pending(daemon) ? daemon->problems[PROBLEM_STATE] : NULL;
}

/* A decision, or that one is taken back; to be kept if that is news. NULL, or why it is not kept. */
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
		try_again(daemon);
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
