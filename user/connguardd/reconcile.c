// SPDX-License-Identifier: BSD-2-Clause
/*
 * Truth: the periodic check of the map against the sockets. See daemon.h.
 *
 * The sockets are listed first, then the map is walked, both piece by piece, a piece each time that the loop has
 * nothing else to do, so that many of either keep nobody waiting. What is no passing state is seen again by the next
 * check. Links that no slot shows are taken under guard at the end, all at once: the kernel walks over
 * all sockets for that.
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
/* Repairs of one check that get a line each; of more only the number is logged. */
#define REPAIRS_LOGGED 32

struct reconcile {
	struct event *interval, *confirm, *piece;
	struct check_memory *memory;
	/* The check under way, or about to begin, step by step. */
	int (*step)(struct daemon *daemon); /* NULL: there is none */
	__u64 worked_ns;     /* of a processor, by it so far */
	__u64 not_before_ns; /* the next one */
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
	bool wanted, wanted_again; /* another one, asked for meanwhile */
	struct guard_policy policy;
	struct check_action *adoptions;
	size_t adoption_count, adoption_capacity;
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
static void adopt_later(struct reconcile *reconcile, const struct check_action *action)
{
	if (reconcile->adoption_count == reconcile->adoption_capacity) {
		size_t capacity = 2 * reconcile->adoption_capacity + 16;
		struct check_action *larger =
			reallocarray(reconcile->adoptions, capacity, sizeof(*larger));

		/* The next check finds it again. */
		if (!larger)
			return;
		reconcile->adoptions = larger;
		reconcile->adoption_capacity = capacity;
	}
	reconcile->adoptions[reconcile->adoption_count++] = *action;
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
		adopt_later(reconcile, action);
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

/* Is the socket of an adoption still there? It may have gone by itself since it was listed. */
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

/* By peer, so that those of one network are together; of a peer, the older socket first. */
static int compare_adoptions(const void *left, const void *right)
{
	const struct check_action *one = left, *other = right;
	int order = memcmp(&one->address, &other->address, sizeof(one->address));

	return order ? order : (one->cookie > other->cookie) - (one->cookie < other->cookie);
}

/* What is left for peers that have no entry yet. */
struct places {
	size_t in_map;
	__u32 in_network; /* of that one */
	struct peer_network network;
};

/* Has the map this peer, or a place for it? It is taken. To be asked of those of one network one after the other. */
static bool has_place(struct daemon *daemon, const struct peer_address *address, struct places *left)
{
	const struct peer_network network = network_of(address);
	bool counted = address_is_counted(address);
	struct peer peer;

	if (guard_peer_read(daemon->guard, address, &peer) == 0)
		return true;
	if (counted && !network_equal(&network, &left->network)) {
		left->network = network;
		if (guard_network_room(daemon->guard, address, &left->in_network))
			left->in_network = guard_peers_max(daemon->guard);
	}
	if (!left->in_map || (counted && !left->in_network))
		return false;
	left->in_map--;
	left->in_network -= counted;
	return true;
}

/*
 * Those whose peers the map has, or has room for: to try another in vain would be counted as one more link that
 * could not be held. Returns how many, which come first; *count is how many there are still.
 */
static size_t with_room(struct daemon *daemon, struct check_action *actions, size_t *count)
{
	size_t max = guard_peers_max(daemon->guard), known = daemon->reconcile->counting.count;
	struct places left = { .in_map = max > known ? max - known : 0 };
	size_t fitting = 0, there = 0;
	struct peer_address asked = {};
	bool fits = false;

	for (size_t i = 0; i < *count; i++)
		if (is_established(daemon, &actions[i]))
			actions[there++] = actions[i];
	*count = there;
	qsort(actions, there, sizeof(*actions), compare_adoptions);
	for (size_t i = 0; i < there; i++) {
		const struct check_action action = actions[i];

		if (!i || !address_equal(&action.address, &asked))
			fits = has_place(daemon, &action.address, &left);
		asked = action.address;
		if (!fits)
			continue;
		actions[i] = actions[fitting];
		actions[fitting++] = action;
	}
	return fitting;
}

/*
 * Take the links under guard that no slot showed. For lack of room or memory one may not come to be, and
 * that is no repair: it is tried again with each check, and a problem until then.
 */
static void adopt(struct daemon *daemon)
{
	struct reconcile *reconcile = daemon->reconcile;
	struct check_action *actions = reconcile->adoptions;
	size_t count = with_room(daemon, actions, &reconcile->adoption_count);
	cleanup_free struct adoption *adoptions = calloc(count + 1, sizeof(*adoptions));
	cleanup_free __u64 *cookies = calloc(count + 1, sizeof(*cookies));
	int result = adoptions && cookies ? 0 : -ENOMEM;

	/* Any of those who wait: with each check another network has its turn. */
	if (count < reconcile->adoption_count)
		room_make(daemon, &actions[count + (size_t)rand() % (reconcile->adoption_count - count)].address);
	for (size_t i = 0; !result && i < count; i++) {
		cookies[i] = actions[i].cookie;
		adoptions[i] = (struct adoption){ .address = actions[i].address,
						  .direction = actions[i].direction,
						  .local_port = actions[i].local_port,
						  .remote_port = actions[i].remote_port,
						  .local = actions[i].local };
	}
	if (!result && count)
		result = guard_adopt(daemon->guard, cookies, adoptions, count);
	for (size_t i = 0; i < reconcile->adoption_count; i++) {
		if (i < count && furnish_shown(daemon->guard, &actions[i].address, actions[i].cookie))
			repaired(reconcile, &actions[i], "a link that no slot showed", 0);
		else if (is_established(daemon, &actions[i]))
			reconcile->unguarded++;
	}
	if (result && result != -ENOSPC && result != -ENOMEM && result != -E2BIG)
		log_warning("taking links under guard that no slot showed: %s", strerror(-result));
}

/* ---- ports that pass by the guard ---- */

static bool port_among(const __u16 *ports, size_t count, __u16 port)
{
	for (size_t i = 0; i < count; i++)
		if (ports[i] == port)
			return true;
	return false;
}

/*
 * Who listens on the guarded ports, for the hooks; and say it once of each port whose connections pass by
 * the guard, until that has changed.
 */
static void look_at_listeners(struct daemon *daemon)
{
	__u16 ports[CONFIG_PORTS_MAX];
	size_t count;
	int result = furnish_listeners(daemon->guard, &daemon->surroundings, &daemon->config);

	if (result)
		log_warning("the listeners could not be looked at: %s", strerror(-result));
	if (surroundings_strange_ports(&daemon->surroundings, &daemon->config, ports, &count))
		return;
	for (size_t i = 0; i < count; i++)
		if (!port_among(daemon->strange_ports, daemon->strange_port_count, ports[i]))
			log_warning("somebody listens on port %u with a socket made outside cgroup %s: "
				    "what it accepts is not guarded",
				    ports[i], daemon->config.cgroup);
	memcpy(daemon->strange_ports, ports, count * sizeof(*ports));
	daemon->strange_port_count = count;
}

/* ---- a check ---- */

static void forget(struct reconcile *reconcile)
{
	evtimer_del(reconcile->piece);
	check_free(reconcile->check);
	guard_peers_leave(&reconcile->walk);
	sockets_list_end(reconcile->listing, NULL, NULL);
	sockets_close(reconcile->sockets);
	free(reconcile->list);
	free(reconcile->seen);
	free(reconcile->adoptions);
	reconcile->step = NULL;
	reconcile->check = NULL;
	reconcile->listing = NULL;
	reconcile->sockets = NULL;
	reconcile->list = NULL;
	reconcile->seen = NULL;
	reconcile->adoptions = NULL;
	reconcile->adoption_count = reconcile->adoption_capacity = 0;
}

/* The whole map was looked at. */
static void finish(struct daemon *daemon)
{
	struct reconcile *reconcile = daemon->reconcile;

	reconcile->census = reconcile->counting;
	reconcile->unguarded = 0;
	if (reconcile->adoption_count)
		adopt(daemon);
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
}

/*
 * Look at the next piece of the map. Returns 1: there is more; 0: that was all; or a negative errno, as each step
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
		result = count ? check_peers(reconcile->check, peers, count, &actions, &action_count) :
				 check_end(reconcile->check, &actions, &action_count);
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
		finish(daemon);
	return count != 0;
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

static void begin(struct daemon *daemon, bool again, bool confirms);

/* The check is over, for better or worse. */
static void end(struct daemon *daemon, int result)
{
	const struct timeval soon = { .tv_sec = CONFIRM_SECONDS };
	struct reconcile *reconcile = daemon->reconcile;

	if (result)
		log_warning("the periodic check could not look: %s", strerror(-result));
	forget(reconcile);
	reconcile->not_before_ns = clock_now_ns() + BETWEEN_RATIO * reconcile->worked_ns;
	if (!reconcile->confirms && !evtimer_pending(reconcile->confirm, NULL))
		evtimer_add(reconcile->confirm, &soon);
	if (reconcile->wanted) {
		reconcile->wanted = false;
		begin(daemon, reconcile->wanted_again, false);
	}
}

/* Look on until all was looked at, or what has been done is enough for one pass of the loop. */
static void go_on(struct daemon *daemon)
{
	struct reconcile *reconcile = daemon->reconcile;
	__u64 began = clock_now_ns(), worked = clock_worked_ns(), took;
	struct timeval rest;
	int result;

	do {
		result = reconcile->step(daemon);
		took = clock_now_ns() - began;
	} while (result > 0 && took < PIECE_NS);
	reconcile->worked_ns += clock_worked_ns() - worked;
	if (result <= 0) {
		end(daemon, result);
		return;
	}
	took *= REST_RATIO;
	rest.tv_sec = took / NS_PER_SECOND;
	rest.tv_usec = took % NS_PER_SECOND / 1000;
	evtimer_add(reconcile->piece, &rest);
}

static int ask_for_sockets(struct daemon *daemon)
{
	struct reconcile *reconcile = daemon->reconcile;
	int result;

	/*
	 * The sockets first. A link that comes up in between is then a slot without a socket, one that
	 * ends (its slot goes first, its socket a moment later) a socket without a slot, and neither
	 * happens to a link twice. Were the map first, both would make a socket without a slot, and a
	 * link that begins in one look and ends in the next would be adopted dead.
	 *
	 * On a connection of its own: what is asked meanwhile is not to get in between.
	 */
	result = sockets_open(&reconcile->sockets);
	if (!result)
		result = surroundings_list_begin(&daemon->config, reconcile->sockets, &reconcile->listing);
	reconcile->step = list_on;
	return result ? result : 1;
}

/* The steps come from the loop alone: whoever asks for a check may be in the midst of an answer, or of the start. */
static void begin(struct daemon *daemon, bool again, bool confirms)
{
	struct reconcile *reconcile = daemon->reconcile;
	__u64 now = clock_now_ns(), left = reconcile->not_before_ns > now ? reconcile->not_before_ns - now : 0;
	const struct timeval pause = { .tv_sec = (time_t)(left / NS_PER_SECOND),
				       .tv_usec = (suseconds_t)(left % NS_PER_SECOND / 1000) };

	reconcile->again = again;
	reconcile->confirms = confirms;
	reconcile->repairs = 0;
	reconcile->worked_ns = 0;
	reconcile->step = ask_for_sockets;
	evtimer_add(reconcile->piece, &pause);
}

/* ---- when ---- */

void reconcile_now(struct daemon *daemon, bool again)
{
	struct reconcile *reconcile = daemon->reconcile;

	look_at_listeners(daemon);
	if (reconcile->step == ask_for_sockets) {
		reconcile->again |= again;
		reconcile->confirms = false;
		return;
	}
	if (reconcile->step) {
		/* What the one under way has looked at already may differ by now. */
		reconcile->wanted_again = again || (reconcile->wanted && reconcile->wanted_again);
		reconcile->wanted = true;
		return;
	}
	begin(daemon, again, false);
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
	struct daemon *daemon = argument;

	(void)fd;
	(void)what;
	if (!daemon->reconcile->step)
		begin(daemon, false, true);
}

static void on_piece(evutil_socket_t fd, short what, void *argument)
{
	(void)fd;
	(void)what;
	go_on(argument);
}

void reconcile_reconfigured(struct daemon *daemon)
{
	struct reconcile *reconcile = daemon->reconcile;
	const struct timeval interval = {
		.tv_sec = daemon->config.check_interval_ns / NS_PER_SECOND,
		.tv_usec = daemon->config.check_interval_ns % NS_PER_SECOND / 1000,
	};

	event_add(reconcile->interval, &interval);
	/* Its sockets are those of other ports, perhaps. */
	if (reconcile->step) {
		forget(reconcile);
		begin(daemon, reconcile->again, false);
	}
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
	reconcile->piece = evtimer_new(daemon->base, on_piece, daemon);
	if (!reconcile->memory || !reconcile->interval || !reconcile->confirm || !reconcile->piece)
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
	if (reconcile->piece) {
		forget(reconcile);
		event_free(reconcile->piece);
	}
	check_memory_free(reconcile->memory);
	free(reconcile);
	daemon->reconcile = NULL;
}
