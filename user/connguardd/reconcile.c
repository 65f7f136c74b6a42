// SPDX-License-Identifier: BSD-2-Clause
/*
 * Truth: the periodic check of the map against the sockets. See daemon.h.
 *
 * The sockets are listed first, then the map is walked, both in pieces, so that many of either keep nobody waiting.
 * What is no passing state is seen again by the next check. Links that no slot shows are taken under guard at the end,
 * thousands at once: the kernel walks over all sockets for that.
 */
#include "connguardd/daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <netinet/tcp.h>

#include <connguard/rules.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pieces.h"
#include "edge/furnish.h"
#include "pure/address_text.h"
#include "pure/census.h"

/* The second look of a check, later than CHECK_LASTS_NS. */
#define CONFIRM_SECONDS 1
/* After a piece the check rests so many times as long: a million peers take a fifth of a processor meanwhile. */
#define REST_RATIO 4
/*
 * After a check there is none for so many times as long as it has worked, however many are asked for: with the rests
 * of the next one that is less than a twentieth of a processor.
 */
#define BETWEEN_RATIO 40
/* Links that one walk of the kernel takes under guard: some milliseconds of work beside the walk. */
#define ADOPTED_AT_A_TIME 4096
/* Repairs of one check that get a line each; of more only the number is logged. */
#define REPAIRS_LOGGED 32

/* Room that is left for peers without an entry. */
struct places {
	size_t in_map;
	__u32 in_network; /* of that one */
	struct peer_network network;
	struct peer_address taken; /* the last one that was given a place */
};

/* Links that no slot shows. */
struct unshown {
	struct check_action *links; /* first those of peers with an entry, then the others by peer, older sockets first */
	size_t count, capacity;
	size_t of_entries; /* so many are of peers with an entry */
	size_t looked_at;  /* so many were asked about: */
	size_t fitting;    /* of those, so many can be taken under guard, and have moved to the beginning; */
	size_t roomless;   /* so many have no room for their peers, */
	struct peer_address waiting; /* one of which is this */
	struct places left;
	size_t tried;      /* so many of the fitting ones were to be taken under guard; */
	size_t seen;       /* of so many of these it is known whether they are; */
	size_t failed;     /* so many are not, or could not be tried */
};

struct reconcile {
	struct event *interval, *confirm;
	struct pieces *pieces;
	struct check_memory *memory;
	bool next_again, next_confirms; /* `again` and `confirms` of the check that begins next */
	/* The check under way, step by step. */
	int (*step)(struct daemon *daemon);
	struct sockets *sockets;
	struct socket_listing *listing;
	struct tcp_socket *list;
	size_t list_count;
	struct seen_socket *seen;
	size_t seen_count;
	struct check *check;
	struct peer_walk walk;
	__u64 now_ns;
	bool again;    /* see reconcile_now() */
	bool confirms; /* it is the second look, after which there is no third */
	struct guard_policy policy;
	struct unshown unshown;
	unsigned int repairs; /* of this check */
	struct census counting;
	/* As of the last check that came to its end. */
	size_t unguarded;
	struct census census;
	/* Slots and links that had to be put right; zero is normal. */
	__u64 repairs_ever;
};

/* ---- what a check finds ---- */

/* Say and count a repair: zero is normal, so each one deserves its line. */
static void repaired(struct reconcile *reconcile, const struct check_action *action, const char *what,
		     int result)
{
	char text[ADDRESS_TEXT_MAX];

	if (result == -ENOENT || result == -EBUSY)
		return; /* the world has moved on by itself */
	if (!result)
		reconcile->repairs_ever++;
	if (reconcile->repairs++ >= REPAIRS_LOGGED)
		return;
	address_to_text(&action->address, text);
	if (result)
		log_warning("repair of %s (%s, socket %llu) failed: %s", text, what,
			    (unsigned long long)action->cookie, strerror(-result));
	else
		log_warning("repaired: %s: %s (socket %llu); %llu repairs so far", text, what,
			    (unsigned long long)action->cookie,
			    (unsigned long long)reconcile->repairs_ever);
}

/* Remember a link that no slot shows. */
static void adopt_later(struct unshown *unshown, const struct check_action *action)
{
	if (unshown->count == unshown->capacity) {
		size_t capacity = 2 * unshown->capacity + 16;
		struct check_action *larger = reallocarray(unshown->links, capacity, sizeof(*larger));

		/* The next check finds it again. */
		if (!larger)
			return;
		unshown->links = larger;
		unshown->capacity = capacity;
	}
	unshown->links[unshown->count++] = *action;
}

static void act(struct daemon *daemon, const struct check_action *action)
{
	struct guard_command command = { .address = action->address, .cookie = action->cookie };
	struct reconcile *reconcile = daemon->reconcile;

	switch (action->kind) {
	case CHECK_EXPIRE:
		command.operation = COMMAND_EXPIRE;
		guard_command(daemon->guard, &command);
		break;
	case CHECK_RELEASE:
		command.operation = COMMAND_RELEASE;
		command.value = CAUSE_link_released;
		repaired(reconcile, action, "a slot with no socket behind it",
			 guard_command(daemon->guard, &command));
		break;
	case CHECK_SPARE:
		command.operation = COMMAND_SPARE;
		repaired(reconcile, action, "a link too many is the last one: it stays",
			 guard_command(daemon->guard, &command));
		break;
	case CHECK_ADOPT:
		adopt_later(&reconcile->unshown, action);
		break;
	case CHECK_DESTROY:
		/* One that a new link has only just come in the place of has its time first. */
		if (!replaced_awaits(daemon, &action->address, action->cookie))
			happenings_destroy(daemon, &action->address, action->cookie);
		break;
	case CHECK_FORGET:
		command.operation = COMMAND_FORGET;
		command.until_ns = action->inactive_since_ns;
		guard_command(daemon->guard, &command);
		break;
	case CHECK_ANNOUNCE_DUE:
		/* Who was announced is due all the same: only who follows is told again. */
		if (!action->announced)
			upkeep_found_due(daemon, &action->address, reconcile->now_ns);
		else if (reconcile->again)
			happenings_publish_due(daemon, &action->address, reconcile->now_ns);
		break;
	}
}

/* ---- links that no slot shows ---- */

/* Is the socket of such a link still there? It may have gone by itself since it was listed. */
static bool is_established(struct daemon *daemon, const struct check_action *action)
{
	struct tcp_socket socket = { .cookie = action->cookie,
				     .local = action->local,
				     .remote = action->address,
				     .local_port = action->local_port,
				     .remote_port = action->remote_port,
				     .interface = action->interface };

	return sockets_query(daemon->surroundings.sockets, &socket, &socket) == 0 &&
	       socket.state == TCP_ESTABLISHED;
}

/* Is there a place for this peer, which has no entry? To be asked of those of one network one after the other. */
static bool has_place(struct daemon *daemon, const struct peer_address *address)
{
	const struct peer_network network = network_of(address);
	struct places *left = &daemon->reconcile->unshown.left;
	bool counted = address_is_counted(address);

	if (address_equal(address, &left->taken))
		return true;
	if (!left->in_map)
		return false;
	if (counted && !network_equal(&network, &left->network)) {
		left->network = network;
		if (guard_network_room(daemon->guard, address, &left->in_network))
			left->in_network = guard_peers_max(daemon->guard);
	}
	return !counted || left->in_network;
}

static void take_place(struct places *left, const struct peer_address *address)
{
	if (address_equal(address, &left->taken))
		return;
	left->in_map--;
	left->in_network -= address_is_counted(address);
	left->taken = *address;
}

static int take_under_guard(struct daemon *daemon);

/*
 * Look at the next of them. Where there is no room it is not tried, which would be counted as one more link that could
 * not be held; and the kernel is asked nothing about its socket, for they may be many, in each check the same.
 */
static int look_at_unshown(struct daemon *daemon)
{
	struct reconcile *reconcile = daemon->reconcile;
	struct unshown *unshown = &reconcile->unshown;
	bool has_entry = unshown->looked_at < unshown->of_entries;
	const struct check_action *link;

	if (unshown->looked_at == unshown->count) {
		reconcile->step = take_under_guard;
		return 1;
	}
	link = &unshown->links[unshown->looked_at++];
	if (!has_entry && !has_place(daemon, &link->address)) {
		/* Any of those who wait: with each check another network has its turn. */
		if ((size_t)rand() % ++unshown->roomless == 0)
			unshown->waiting = link->address;
	} else if (is_established(daemon, link)) {
		if (!has_entry)
			take_place(&unshown->left, &link->address);
		unshown->links[unshown->fitting++] = *link;
	}
	return 1;
}

/*
 * Was the next link of those that were tried taken under guard? For lack of memory it may not have come to be, and that
 * is no repair: it is tried again with each check, and a problem until then.
 */
static int see_adopted(struct daemon *daemon)
{
	struct reconcile *reconcile = daemon->reconcile;
	struct unshown *unshown = &reconcile->unshown;
	const struct check_action *link;

	if (unshown->seen == unshown->tried) {
		reconcile->step = take_under_guard;
		return 1;
	}
	link = &unshown->links[unshown->seen++];
	if (furnish_shown(daemon->guard, &link->address, link->cookie))
		repaired(reconcile, link, "a link that no slot showed", 0);
	else if (is_established(daemon, link))
		unshown->failed++;
	return 1;
}

static int finish(struct daemon *daemon);

/* Take the next thousands of them under guard; when there are none the check is over. */
static int take_under_guard(struct daemon *daemon)
{
	struct reconcile *reconcile = daemon->reconcile;
	struct unshown *unshown = &reconcile->unshown;
	size_t left = unshown->fitting - unshown->tried, count = left < ADOPTED_AT_A_TIME ? left : ADOPTED_AT_A_TIME;
	cleanup_free struct adoption *adoptions = NULL;
	cleanup_free __u64 *cookies = NULL;
	int result = -ENOMEM;

	if (!count)
		return finish(daemon);
	adoptions = calloc(count, sizeof(*adoptions));
	cookies = calloc(count, sizeof(*cookies));
	for (size_t i = 0; adoptions && cookies && i < count; i++) {
		const struct check_action *link = &unshown->links[unshown->tried + i];

		cookies[i] = link->cookie;
		adoptions[i] = (struct adoption){ .address = link->address,
						  .direction = link->direction,
						  .local_port = link->local_port,
						  .remote_port = link->remote_port,
						  .local = link->local };
	}
	if (adoptions && cookies)
		result = guard_adopt(daemon->guard, cookies, adoptions, count);
	if (result && result != -ENOSPC && result != -ENOMEM && result != -E2BIG) {
		log_warning("taking links under guard that no slot showed: %s", strerror(-result));
		/* The others would fare no better. */
		unshown->failed += left - count;
		unshown->fitting -= left - count;
	}
	unshown->tried += count;
	reconcile->step = see_adopted;
	return 1;
}

/* ---- a check ---- */

static void forget(struct reconcile *reconcile)
{
	check_free(reconcile->check);
	guard_peers_leave(&reconcile->walk);
	sockets_list_end(reconcile->listing, NULL, NULL);
	sockets_close(reconcile->sockets);
	free(reconcile->list);
	free(reconcile->seen);
	free(reconcile->unshown.links);
	reconcile->step = NULL;
	reconcile->check = NULL;
	reconcile->listing = NULL;
	reconcile->sockets = NULL;
	reconcile->list = NULL;
	reconcile->seen = NULL;
	reconcile->unshown = (struct unshown){};
}

/* All was looked at. The last step. */
static int finish(struct daemon *daemon)
{
	struct reconcile *reconcile = daemon->reconcile;

	reconcile->census = reconcile->counting;
	reconcile->unguarded = reconcile->unshown.roomless + reconcile->unshown.failed;
	if (reconcile->unshown.roomless)
		room_make(daemon, &reconcile->unshown.waiting);
	if (reconcile->unguarded)
		problem_set(daemon, PROBLEM_UNGUARDED,
			    "%zu link(s) are not guarded, for lack of room in the peers map, or for their network in "
			    "it, or of memory for their sockets: tried again until there is some",
			    reconcile->unguarded);
	else
		problem_clear(daemon, PROBLEM_UNGUARDED);
	/* Before the next one finds it full. */
	if (reconcile->census.count >= guard_peers_max(daemon->guard))
		room_make(daemon, NULL);
	else
		room_look(daemon);
	if (reconcile->repairs > REPAIRS_LOGGED)
		log_warning("%u repairs more, not logged one by one; %llu so far",
			    reconcile->repairs - REPAIRS_LOGGED,
			    (unsigned long long)reconcile->repairs_ever);
	return 0;
}

/* The whole map was looked at: on to sockets of peers that it does not have. */
static int look_at_strangers(struct daemon *daemon)
{
	struct reconcile *reconcile = daemon->reconcile;
	const struct check_action *actions;
	size_t count;
	int result = check_end(reconcile->check, &actions, &count);

	if (result < 0)
		return result;
	for (size_t i = 0; i < count; i++)
		act(daemon, &actions[i]);
	if (!result)
		reconcile->step = look_at_unshown;
	return 1;
}

static void end_of_map(struct reconcile *reconcile, size_t max)
{
	size_t known = reconcile->counting.count;

	reconcile->unshown.of_entries = reconcile->unshown.count;
	reconcile->unshown.left.in_map = max > known ? max - known : 0;
	reconcile->step = look_at_strangers;
}

/*
 * Look at some hundreds of peers more. Returns 1: there is more; 0: that was all; or a negative errno, as each step
 * does.
 */
static int walk_on(struct daemon *daemon)
{
	struct reconcile *reconcile = daemon->reconcile;
	const struct check_action *actions;
	const struct peer *peers;
	size_t count, action_count;
	int result = guard_peers_next(&reconcile->walk, &peers, &count);

	if (!result)
		result = check_peers(reconcile->check, peers, count, &actions, &action_count);
	if (result)
		return result;
	for (size_t i = 0; i < count; i++) {
		census_count(&reconcile->counting, &peers[i], &reconcile->policy);
		surplus_look_at(daemon, &peers[i], &reconcile->policy);
	}
	for (size_t i = 0; i < action_count; i++)
		act(daemon, &actions[i]);
	upkeep_queue_backoffs(daemon, peers, count, reconcile->now_ns);
	if (!count)
		end_of_map(reconcile, guard_peers_max(daemon->guard));
	return 1;
}

/* The sockets are known: begin with the map. */
static int begin_walk(struct daemon *daemon)
{
	struct check_input input = { .forget_after_ns = daemon->config.forget_after_ns };
	struct reconcile *reconcile = daemon->reconcile;
	int result = guard_policy_read(daemon->guard, &reconcile->policy);

	if (!result)
		result = guard_peers_walk(daemon->guard, &reconcile->walk);
	if (result)
		return result;
	input.sockets = reconcile->seen;
	input.socket_count = reconcile->seen_count;
	input.policy = reconcile->policy;
	input.now_ns = reconcile->now_ns = clock_now_ns();
	reconcile->counting = (struct census){ .taken_ns = input.now_ns };
	result = check_begin(&input, reconcile->memory, &reconcile->check);
	if (result)
		return result;
	reconcile->step = walk_on;
	return 1;
}

/* All sockets are listed: which of them are the guard's? */
static int look_at_sockets(struct daemon *daemon)
{
	struct reconcile *reconcile = daemon->reconcile;
	int result = surroundings_seen(&daemon->surroundings, &daemon->config, reconcile->list,
				       reconcile->list_count, &reconcile->seen, &reconcile->seen_count);

	reconcile->step = begin_walk;
	return result ? result : 1;
}

static int arrange_sockets(struct daemon *daemon)
{
	struct reconcile *reconcile = daemon->reconcile;

	sockets_list_end(reconcile->listing, &reconcile->list, &reconcile->list_count);
	reconcile->listing = NULL;
	reconcile->step = look_at_sockets;
	return 1;
}

static int list_on(struct daemon *daemon)
{
	struct reconcile *reconcile = daemon->reconcile;
	int result = sockets_list_on(reconcile->listing);

	if (!result)
		reconcile->step = arrange_sockets;
	return result < 0 ? result : 1;
}

static int begin(void *argument)
{
	struct daemon *daemon = argument;
	struct reconcile *reconcile = daemon->reconcile;
	int result;

	reconcile->again = reconcile->next_again;
	reconcile->confirms = reconcile->next_confirms;
	reconcile->next_again = reconcile->next_confirms = false;
	reconcile->repairs = 0;
	reconcile->step = list_on;
	/*
	 * The sockets first. A link that comes up in between is then a slot without a socket, one that
	 * ends (its slot goes first, its socket a moment later) a socket without a slot, and neither
	 * happens to a link twice. Were the map first, both would make a socket without a slot, and a
	 * link that begins in one look and ends in the next would be adopted dead.
	 *
	 * On a connection of its own: what is asked meanwhile is not to get in between.
	 */
	result = sockets_open(&reconcile->sockets);
	return result ? result :
			surroundings_list_begin(&daemon->config, reconcile->sockets, &reconcile->listing);
}

static int go_on(void *argument)
{
	struct daemon *daemon = argument;

	return daemon->reconcile->step(daemon);
}

/* The check is over, for better or worse. */
static void end(int result, bool again, void *argument)
{
	const struct timeval soon = { .tv_sec = CONFIRM_SECONDS };
	struct reconcile *reconcile = ((struct daemon *)argument)->reconcile;

	(void)again;
	if (result)
		log_warning("the periodic check could not look: %s", strerror(-result));
	forget(reconcile);
	if (!reconcile->confirms && !evtimer_pending(reconcile->confirm, NULL))
		evtimer_add(reconcile->confirm, &soon);
}

/* Whoever asks for a check may be in the midst of an answer, or of the start: its steps come from the loop alone. */
static const struct pieces_work check_work = {
	.begin = begin,
	.step = go_on,
	.end = end,
	.rest_ratio = REST_RATIO,
	.between_ratio = BETWEEN_RATIO,
};

/* ---- when ---- */

void reconcile_now(struct daemon *daemon, bool again)
{
	struct reconcile *reconcile = daemon->reconcile;

	reconcile->next_again |= again;
	reconcile->next_confirms = false;
	/* What the one under way has looked at already may differ by now: it is done once more. */
	pieces_ask(reconcile->pieces);
}

static void on_interval(evutil_socket_t fd, short what, void *argument)
{
	(void)fd;
	(void)what;
	neighbours_look(argument);
	reconcile_now(argument, true);
}

static void on_confirm(evutil_socket_t fd, short what, void *argument)
{
	struct reconcile *reconcile = ((struct daemon *)argument)->reconcile;

	(void)fd;
	(void)what;
	if (pieces_asked(reconcile->pieces))
		return;
	reconcile->next_confirms = true;
	pieces_ask(reconcile->pieces);
}

void reconcile_reconfigured(struct daemon *daemon)
{
	struct reconcile *reconcile = daemon->reconcile;
	const struct timeval interval = {
		.tv_sec = daemon->config.check_interval_ns / NS_PER_SECOND,
		.tv_usec = daemon->config.check_interval_ns % NS_PER_SECOND / 1000,
	};

	event_add(reconcile->interval, &interval);
	if (!pieces_asked(reconcile->pieces))
		return;
	/* The sockets of the one under way are those of other ports, perhaps. */
	pieces_give_up(reconcile->pieces);
	reconcile->next_again |= reconcile->step && reconcile->again;
	reconcile->next_confirms = false;
	forget(reconcile);
	pieces_ask(reconcile->pieces);
}

size_t reconcile_unguarded(const struct daemon *daemon)
{
	return daemon->reconcile->unguarded;
}

const struct census *reconcile_census(const struct daemon *daemon)
{
	const struct census *census = &daemon->reconcile->census;

	return census->count > COUNTED_AT_ONCE ? census : NULL;
}

int reconcile_start(struct daemon *daemon)
{
	struct reconcile *reconcile = daemon->reconcile = calloc(1, sizeof(*reconcile));

	if (!reconcile)
		return -ENOMEM;
	reconcile->memory = check_memory_new();
	reconcile->interval = event_new(daemon->base, -1, EV_PERSIST, on_interval, daemon);
	reconcile->confirm = evtimer_new(daemon->base, on_confirm, daemon);
	reconcile->pieces = pieces_new(daemon->base, &check_work, daemon);
	if (!reconcile->memory || !reconcile->interval || !reconcile->confirm || !reconcile->pieces)
		return -ENOMEM;
	reconcile_reconfigured(daemon);
	return 0;
}

void reconcile_stop(struct daemon *daemon)
{
	struct reconcile *reconcile = daemon->reconcile;

	if (!reconcile)
		return;
	if (reconcile->interval)
		event_free(reconcile->interval);
	if (reconcile->confirm)
		event_free(reconcile->confirm);
	pieces_free(reconcile->pieces);
	forget(reconcile);
	check_memory_free(reconcile->memory);
	free(reconcile);
	daemon->reconcile = NULL;
}
