/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Unit tests: a dial that a program after the connect hook has led to another peer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rules_fixture.h"

#define T0 (1000 * NS_PER_SECOND)

/* The claim goes, and with it the failures before it; the peer is none that we announce. */
static void leaves_nothing(void **state)
{
	const struct guard_policy policy = policy_defaults();
	struct dial dial = fixture_dial(7, T0);
	const struct dial_syn syn = fixture_syn(7, 12345, T0 + 1);
	struct peer peer = fixture_peer();

	(void)state;
	peer.attempts = 3;
	peer.next_attempt_ns = T0 - 1;
	assert_int_equal(dial_claim(&peer, &policy, &dial).verdict, VERDICT_ALLOW);
	dial_sent(&peer, &policy, &syn);
	dial_led_away(&peer, 7, T0 + 2);
	assert_int_equal(fixture_count(&peer, SLOT_FREE), PEER_SLOTS);
	assert_int_equal(peer.attempts, 0);
	assert_int_equal(peer.next_attempt_ns, 0);
	assert_int_equal(peer.last_active_ns, T0 + 2);
	assert_false(peer_due(&peer, T0 + 3));
	dial.cookie = 8;
	assert_int_equal(dial_claim(&peer, &policy, &dial).cause, CAUSE_dial_idle);
}

/* One of the peers file is announced all the same: somebody named it. */
static void a_known_peer_stays_known(void **state)
{
	const struct guard_policy policy = policy_defaults();
	struct dial dial = fixture_dial(7, T0);
	struct peer peer = fixture_peer();

	(void)state;
	peer.flags = PEER_KNOWN;
	dial_claim(&peer, &policy, &dial);
	dial_led_away(&peer, 7, T0 + 2);
	assert_true(peer_due(&peer, T0 + 3));
}

/* Nobody else's claim, and no link. */
static void ends_only_its_own_claim(void **state)
{
	const struct guard_policy policy = policy_defaults();
	const struct link link = fixture_link(9, DIRECTION_OUTBOUND, 12345, T0);
	struct dial dial = fixture_dial(7, T0);
	struct peer peer = fixture_peer();

	(void)state;
	dial_claim(&peer, &policy, &dial);
	dial_led_away(&peer, 8, T0 + 2);
	assert_int_equal(fixture_count(&peer, SLOT_CLAIM), 1);
	peer = fixture_peer();
	link_up(&peer, &policy, &link);
	dial_led_away(&peer, 9, T0 + 2);
	assert_int_equal(fixture_count(&peer, SLOT_LINK), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leaves_nothing),
		cmocka_unit_test(a_known_peer_stays_known),
		cmocka_unit_test(ends_only_its_own_claim),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
