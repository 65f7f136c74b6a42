// SPDX-License-Identifier: BSD-2-Clause
/* What a service does by design, told from what a bug does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <connguard/rules.h>

#include "pure/habits.h"

#define NOW (1000 * NS_PER_SECOND)
#define SECOND NS_PER_SECOND
#define PEERS 8
#define EVENTS_MAX 256

static struct peer_address address_of(__u8 number)
{
	struct peer_address address = { .bytes = { [10] = 0xff, [11] = 0xff, 10, 0, 0, number } };

	return address;
}

static void assert_habit(struct habit habit, enum habit_kind kind, __u32 max_links, __u32 shown,
			 __u32 seen)
{
	assert_int_equal(habit.kind, kind);
	assert_int_equal(habit.max_links, max_links);
	assert_int_equal(habit.shown, shown);
	assert_int_equal(habit.seen, seen);
}

static void assert_none(struct habit habit)
{
	assert_habit(habit, HABIT_NONE, 0, 0, 0);
}

/* ---- several links ---- */

static struct habit habit_shown_by(const struct peer *peers, size_t count, const struct guard_policy *policy,
				   __u64 now_ns)
{
	struct habit_tally tally = {};

	for (size_t i = 0; i < count; i++)
		habit_count_peer(&tally, &peers[i], policy, now_ns);
	return habit_of_peers(&tally);
}

/* A peer with so many links, all of this age. */
static struct peer peer_with(__u8 number, int links, __u64 age_ns)
{
	struct peer peer = { .address = address_of(number) };

	for (int i = 0; i < links; i++)
		peer.slots[i] = (struct slot){ .cookie = number * 100 + i,
					       .kind = SLOT_LINK,
					       .since_ns = NOW - age_ns };
	return peer;
}

static void several_lasting_links_of_nearly_all(void **state)
{
	struct guard_policy policy = policy_defaults();
	struct peer peers[PEERS];

	(void)state;
	/* Six of eight, one of them with three; idle peers do not count. */
	for (int i = 0; i < PEERS; i++)
		peers[i] = peer_with(i, i < 5 ? 2 : i == 5 ? 3 : 1, policy.min_uptime_ns);
	assert_habit(habit_shown_by(peers, PEERS, &policy, NOW), HABIT_SEVERAL_LINKS, 3, 6, 8);
	peers[7] = peer_with(7, 0, 0);
	assert_habit(habit_shown_by(peers, PEERS, &policy, NOW), HABIT_SEVERAL_LINKS, 3, 6, 7);
	/* Of eight, five are not nearly all. */
	peers[7] = peer_with(7, 1, policy.min_uptime_ns);
	peers[5] = peer_with(5, 1, policy.min_uptime_ns);
	assert_none(habit_shown_by(peers, PEERS, &policy, NOW));
	assert_none(habit_shown_by(peers, 0, &policy, NOW));
}

static void young_doomed_and_dialing_are_no_lasting_links(void **state)
{
	struct guard_policy policy = policy_defaults();
	struct peer peers[2];

	(void)state;
	for (int i = 0; i < 2; i++)
		peers[i] = peer_with(i, 2, policy.min_uptime_ns);
	assert_habit(habit_shown_by(peers, 2, &policy, NOW), HABIT_SEVERAL_LINKS, 2, 2, 2);
	/* The youngest one is a nanosecond short of it: it may be a duplicate about to be rejected. */
	peers[0].slots[1].since_ns++;
	assert_none(habit_shown_by(peers, 2, &policy, NOW));
	assert_habit(habit_shown_by(peers, 2, &policy, NOW + 1), HABIT_SEVERAL_LINKS, 2, 2, 2);
	peers[0].slots[1].flags = SLOT_DOOMED;
	assert_none(habit_shown_by(peers, 2, &policy, NOW + 1));
	peers[0].slots[1].flags = 0;
	peers[0].slots[1].kind = SLOT_CLAIM;
	assert_none(habit_shown_by(peers, 2, &policy, NOW + 1));
}

static void links_that_are_allowed_are_no_habit(void **state)
{
	struct guard_policy policy = policy_defaults();
	struct peer peers[2];

	(void)state;
	for (int i = 0; i < 2; i++)
		peers[i] = peer_with(i, 2, policy.min_uptime_ns);
	policy.max_links = 2;
	assert_none(habit_shown_by(peers, 2, &policy, NOW));
	policy.max_links = 1;
	peers[0].limit = 2;
	assert_none(habit_shown_by(peers, 2, &policy, NOW));
}

/* Each end keeps a link of its own; from that alone one peer says what the service means. */
static void one_peer_with_a_link_of_each_end(void **state)
{
	struct guard_policy policy = policy_defaults();
	struct peer peers[2] = { peer_with(0, 2, policy.min_uptime_ns), peer_with(1, 1, 60 * SECOND) };
	struct slot *mine = &peers[0].slots[0], *theirs = &peers[0].slots[1];

	(void)state;
	mine->direction = DIRECTION_OUTBOUND;
	theirs->direction = DIRECTION_INBOUND;
	mine->heard_ns = theirs->heard_ns = NOW - SECOND;
	assert_habit(habit_shown_by(peers, 1, &policy, NOW), HABIT_SEVERAL_LINKS, 2, 1, 1);
	/* One of two peers is not nearly all. */
	assert_none(habit_shown_by(peers, 2, &policy, NOW));
	/* Two of one direction may be two hosts behind one address, or a duplicate that nobody rejects. */
	mine->direction = DIRECTION_INBOUND;
	assert_none(habit_shown_by(peers, 1, &policy, NOW));
	mine->direction = DIRECTION_OUTBOUND;
	/* A link that a crash has left was not heard from since the next one came up. */
	mine->since_ns -= SECOND;
	mine->heard_ns = theirs->since_ns - 1;
	assert_none(habit_shown_by(peers, 1, &policy, NOW));
	mine->heard_ns++;
	assert_habit(habit_shown_by(peers, 1, &policy, NOW), HABIT_SEVERAL_LINKS, 2, 1, 1);
	theirs->since_ns++;
	assert_none(habit_shown_by(peers, 1, &policy, NOW));
}

static void proposal_stays_in_the_range_of_the_setting(void **state)
{
	struct guard_policy policy = policy_defaults();
	struct peer peers[2];

	(void)state;
	for (int i = 0; i < 2; i++)
		peers[i] = peer_with(i, PEER_SLOTS, policy.min_uptime_ns);
	assert_habit(habit_shown_by(peers, 2, &policy, NOW), HABIT_SEVERAL_LINKS, PEER_LINKS_MAX, 2, 2);
}

/* ---- dialing back ---- */

struct story {
	struct guard_event events[EVENTS_MAX];
	size_t count;
	__u64 next_cookie;
};

static void happens(struct story *story, __u8 peer, __u64 time_ns, enum cause cause,
		    enum link_direction direction, __u64 cookie)
{
	assert_in_range(story->count, 0, EVENTS_MAX - 1);
	story->events[story->count++] = (struct guard_event){ .address = address_of(peer),
							      .time_ns = time_ns,
							      .cause = cause,
							      .direction = direction,
							      .cookie = cookie,
							      /* Observe mode: refusals and duplicates are let pass. */
							      .enforced = cause == CAUSE_link_inbound ||
									  cause == CAUSE_link_outbound ||
									  cause == CAUSE_link_ended };
}

static enum link_direction opposite(enum link_direction direction)
{
	return direction == DIRECTION_INBOUND ? DIRECTION_OUTBOUND : DIRECTION_INBOUND;
}

static void first_link(struct story *story, __u8 peer, __u64 time_ns, enum link_direction direction)
{
	happens(story, peer, time_ns,
		direction == DIRECTION_INBOUND ? CAUSE_link_inbound : CAUSE_link_outbound, direction,
		++story->next_cookie);
}

/* A second link of this direction, attempted while the first one is up, for so long. */
static void second_link(struct story *story, __u8 peer, __u64 time_ns, enum link_direction direction,
			__u64 life_ns)
{
	__u64 cookie = ++story->next_cookie;

	happens(story, peer, time_ns,
		direction == DIRECTION_OUTBOUND ? CAUSE_dial_linked : CAUSE_knock_linked, direction,
		direction == DIRECTION_OUTBOUND ? cookie : 0);
	happens(story, peer, time_ns, CAUSE_link_duplicate, direction, cookie);
	happens(story, peer, time_ns + life_ns, CAUSE_link_ended, direction, cookie);
}

static struct habit habit_of_story(const struct story *story, __u64 now_ns)
{
	const struct guard_policy policy = policy_defaults();

	return habit_of_events(story->events, story->count, &policy, now_ns);
}

static void short_link_back_after_nearly_every_first_one(void **state)
{
	enum link_direction direction;

	(void)state;
	/* As the service that dials back sees it, and as the one that is dialed back. */
	for (direction = DIRECTION_OUTBOUND; direction <= DIRECTION_INBOUND; direction++) {
		struct story story = {};

		for (int i = 0; i < 3; i++) {
			first_link(&story, i, NOW + i, direction);
			second_link(&story, i, NOW + i + HABIT_FOLLOWS_NS, opposite(direction),
				    10 * SECOND - 1);
			if (i < 2)
				assert_none(habit_of_story(&story, NOW + 60 * SECOND));
		}
		assert_habit(habit_of_story(&story, NOW + 60 * SECOND), HABIT_DIAL_BACK, 2, 3, 3);
		/* One of four was not followed; while there is still time, it does not count. */
		first_link(&story, 3, NOW + 20 * SECOND, direction);
		assert_habit(habit_of_story(&story, NOW + 20 * SECOND + HABIT_FOLLOWS_NS - 1),
			     HABIT_DIAL_BACK, 2, 3, 3);
		assert_habit(habit_of_story(&story, NOW + 20 * SECOND + HABIT_FOLLOWS_NS),
			     HABIT_DIAL_BACK, 2, 3, 4);
		/* Two of five are too many. */
		first_link(&story, 4, NOW + 20 * SECOND, direction);
		assert_none(habit_of_story(&story, NOW + 60 * SECOND));
	}
}

/* The origin's bug: duplicates while the peer is linked, whenever a timer says so. */
static void duplicates_of_a_bug_are_no_habit(void **state)
{
	struct story story = {};

	(void)state;
	for (int i = 0; i < 3; i++) {
		first_link(&story, i, NOW, DIRECTION_INBOUND);
		/* Even if the first one happens to come soon. */
		for (int k = 0; k < 10; k++)
			second_link(&story, i, NOW + SECOND + k * 10 * SECOND, DIRECTION_OUTBOUND,
				    SECOND / 10);
	}
	assert_none(habit_of_story(&story, NOW + 200 * SECOND));
}

static void late_lasting_and_same_direction_are_no_dial_back(void **state)
{
	struct story late = {}, lasting = {}, same_direction = {}, living = {};
	struct story other_direction = {};

	(void)state;
	for (int i = 0; i < 3; i++) {
		first_link(&late, i, NOW, DIRECTION_INBOUND);
		second_link(&late, i, NOW + HABIT_FOLLOWS_NS + 1, DIRECTION_OUTBOUND, SECOND);
		first_link(&lasting, i, NOW, DIRECTION_INBOUND);
		second_link(&lasting, i, NOW + SECOND, DIRECTION_OUTBOUND, 10 * SECOND);
		first_link(&same_direction, i, NOW, DIRECTION_INBOUND);
		second_link(&same_direction, i, NOW + SECOND, DIRECTION_INBOUND, SECOND);
		first_link(&living, i, NOW, DIRECTION_INBOUND);
		second_link(&living, i, NOW + SECOND, DIRECTION_OUTBOUND, SECOND);
		living.count--; /* its end has not come */
		first_link(&other_direction, i, NOW, DIRECTION_INBOUND);
		second_link(&other_direction, i, NOW + SECOND, DIRECTION_OUTBOUND, SECOND);
		/* What came of the attempt is not known; what came up is of the other direction. */
		other_direction.events[other_direction.count - 2].direction = DIRECTION_INBOUND;
	}
	assert_none(habit_of_story(&late, NOW + 60 * SECOND));
	assert_none(habit_of_story(&lasting, NOW + 60 * SECOND));
	assert_none(habit_of_story(&same_direction, NOW + 60 * SECOND));
	assert_none(habit_of_story(&living, NOW + 60 * SECOND));
	assert_none(habit_of_story(&other_direction, NOW + 60 * SECOND));
}

/* Both dialed before either link was there: no attempt was made while linked. */
static void crossing_dials_are_no_dial_back(void **state)
{
	struct story story = {};

	(void)state;
	for (int i = 0; i < 3; i++) {
		first_link(&story, i, NOW, DIRECTION_OUTBOUND);
		happens(&story, i, NOW + 1, CAUSE_link_duplicate, DIRECTION_INBOUND, 1000 + i);
		happens(&story, i, NOW + SECOND, CAUSE_link_ended, DIRECTION_INBOUND, 1000 + i);
	}
	assert_none(habit_of_story(&story, NOW + 60 * SECOND));
}

static void peers_are_told_apart(void **state)
{
	struct story story = {};

	(void)state;
	/* The second link is another peer's. */
	for (int i = 0; i < 3; i++) {
		first_link(&story, i, NOW, DIRECTION_INBOUND);
		second_link(&story, i + 10, NOW + SECOND, DIRECTION_OUTBOUND, SECOND);
	}
	assert_none(habit_of_story(&story, NOW + 60 * SECOND));
}

/* A dial that comes at once would be kept, and not refused. */
static void kept_dials_are_dial_back(void **state)
{
	struct story story = {};

	(void)state;
	for (int i = 0; i < 3; i++) {
		first_link(&story, i, NOW, DIRECTION_INBOUND);
		second_link(&story, i, NOW, DIRECTION_OUTBOUND, SECOND);
		story.events[story.count - 3].cause = CAUSE_dial_beside;
	}
	assert_habit(habit_of_story(&story, NOW + 60 * SECOND), HABIT_DIAL_BACK, 2, 3, 3);
}

static void refused_dials_are_no_dial_back(void **state)
{
	struct story story = {};

	(void)state;
	/* Enforce mode: the attempt was refused, and the link too many was not of its making. */
	for (int i = 0; i < 3; i++) {
		first_link(&story, i, NOW, DIRECTION_INBOUND);
		second_link(&story, i, NOW + SECOND, DIRECTION_OUTBOUND, SECOND);
		assert_int_equal(story.events[story.count - 3].cause, CAUSE_dial_linked);
		story.events[story.count - 3].enforced = 1;
	}
	assert_none(habit_of_story(&story, NOW + 60 * SECOND));
}

/* ---- short links ---- */

/* A first link that ends after so long. */
static void link_that_ends(struct story *story, __u8 peer, __u64 time_ns, __u64 life_ns,
			   enum cause cause, enum ending ending)
{
	first_link(story, peer, time_ns, DIRECTION_OUTBOUND);
	happens(story, peer, time_ns + life_ns, cause, DIRECTION_OUTBOUND, story->next_cookie);
	story->events[story->count - 1].ending = ending;
}

static struct habit ends_of_story(const struct story *story, __u64 now_ns)
{
	const struct guard_policy policy = policy_defaults();

	return habit_of_ends(story->events, story->count, &policy, now_ns);
}

static void half_of_the_links_are_short(void **state)
{
	struct story story = {};
	struct habit habit;

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_none(ends_of_story(&story, NOW + 90 * SECOND));
		/* A first link that the peer does not understand, and the one that stays. */
		link_that_ends(&story, i, NOW + i * SECOND, SECOND / 10,
			       i ? CAUSE_link_ended : CAUSE_link_short,
			       i ? ENDING_CLOSED : ENDING_PEER_CLOSED);
		first_link(&story, i, NOW + i * SECOND + SECOND / 2, DIRECTION_OUTBOUND);
	}
	habit = ends_of_story(&story, NOW + 90 * SECOND);
	assert_habit(habit, HABIT_SHORT_LINKS, 0, 3, 6);
	assert_int_equal(habit.by_peer, 1);
	/* What may yet be short is not seen. */
	assert_habit(ends_of_story(&story, NOW + 3 * SECOND), HABIT_SHORT_LINKS, 0, 3, 3);
	/* One more that lasts: less than half. */
	first_link(&story, 9, NOW + 4 * SECOND, DIRECTION_INBOUND);
	assert_none(ends_of_story(&story, NOW + 90 * SECOND));
}

static void one_peer_whose_links_are_short(void **state)
{
	struct story story = {};
	struct habit habit;

	(void)state;
	for (int i = 0; i < 4; i++)
		link_that_ends(&story, 1, NOW + i * 30 * SECOND, SECOND, CAUSE_link_hung_up,
			       ENDING_RESET);
	habit = ends_of_story(&story, NOW + 120 * SECOND);
	assert_habit(habit, HABIT_SHORT_LINKS, 0, 4, 4);
	assert_int_equal(habit.by_peer, 4);
}

/* What ends a link for another reason, or late, is no design. */
static void links_that_fail_or_last_are_no_short_ones(void **state)
{
	struct story lasting = {}, failing = {}, talking = {};

	(void)state;
	for (int i = 0; i < 4; i++) {
		link_that_ends(&lasting, i, NOW, 10 * SECOND, CAUSE_link_ended, ENDING_CLOSED);
		link_that_ends(&failing, i, NOW, SECOND, CAUSE_link_ended, ENDING_SILENCE);
		/* The peer has said something, and closed. */
		link_that_ends(&talking, i, NOW, SECOND, CAUSE_link_ended, ENDING_PEER_CLOSED);
	}
	assert_none(ends_of_story(&lasting, NOW + 60 * SECOND));
	assert_none(ends_of_story(&failing, NOW + 60 * SECOND));
	assert_none(ends_of_story(&talking, NOW + 60 * SECOND));
}

/* Of two dials that cross one link goes at once, and it may be the first. */
static void loser_of_a_race_is_no_short_link(void **state)
{
	struct story story = {};

	(void)state;
	for (int i = 0; i < 4; i++) {
		first_link(&story, i, NOW, DIRECTION_OUTBOUND);
		happens(&story, i, NOW + 1, CAUSE_link_duplicate, DIRECTION_INBOUND, 1000 + i);
		happens(&story, i, NOW + SECOND, CAUSE_link_ended, DIRECTION_OUTBOUND,
			story.next_cookie);
		story.events[story.count - 1].ending = ENDING_CLOSED;
	}
	assert_none(ends_of_story(&story, NOW + 60 * SECOND));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(several_lasting_links_of_nearly_all),
		cmocka_unit_test(young_doomed_and_dialing_are_no_lasting_links),
		cmocka_unit_test(links_that_are_allowed_are_no_habit),
		cmocka_unit_test(one_peer_with_a_link_of_each_end),
		cmocka_unit_test(proposal_stays_in_the_range_of_the_setting),
		cmocka_unit_test(short_link_back_after_nearly_every_first_one),
		cmocka_unit_test(duplicates_of_a_bug_are_no_habit),
		cmocka_unit_test(late_lasting_and_same_direction_are_no_dial_back),
		cmocka_unit_test(crossing_dials_are_no_dial_back),
		cmocka_unit_test(peers_are_told_apart),
		cmocka_unit_test(kept_dials_are_dial_back),
		cmocka_unit_test(refused_dials_are_no_dial_back),
		cmocka_unit_test(half_of_the_links_are_short),
		cmocka_unit_test(one_peer_whose_links_are_short),
		cmocka_unit_test(links_that_fail_or_last_are_no_short_ones),
		cmocka_unit_test(loser_of_a_race_is_no_short_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
