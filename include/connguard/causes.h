/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Everything that can happen to a dial, a knock, a claim or a link, by name.
 *
 * One list for the events, the counters, the logs, the CLI and the metrics, so that a refusal has
 * the same name everywhere. Owns names and the sentence an operator reads; decides nothing (rules.h
 * does).
 */
#ifndef CONNGUARD_CAUSES_H
#define CONNGUARD_CAUSES_H

/* What is done with a dial, a knock or an answer. */
enum verdict {
	VERDICT_NONE = 0,   /* nothing was decided: a fact */
	VERDICT_ALLOW = 1,
	VERDICT_REFUSE = 2, /* answer at once: errno to a dial, RST to a knock */
	VERDICT_HOLD = 3,   /* drop silently: the sender's own retransmission asks again */
};

/* What the cause is about. */
enum cause_subject {
	SUBJECT_DIAL = 1,
	SUBJECT_KNOCK = 2,
	SUBJECT_ANSWER = 3, /* the SYN-ACK to our dial */
	SUBJECT_CLAIM = 4,
	SUBJECT_LINK = 5,
	SUBJECT_PEER = 6,
};

/* X(name, subject, verdict, sentence). Append only, within a layout version. */
#define CONNGUARD_CAUSES(X) \
	X(none, PEER, NONE, "nothing happened") \
	X(dial_idle, DIAL, ALLOW, "the peer has room and no backoff") \
	X(dial_again, DIAL, ALLOW, "the socket that holds the claim dials again") \
	X(dial_exempt, DIAL, ALLOW, "the peer is exempt") \
	X(dial_unheld, DIAL, ALLOW, "no slot, map entry or socket storage was left: allowed, not tracked") \
	X(dial_recycled, DIAL, ALLOW, "the peer's entry was just being deleted: allowed, not tracked") \
	X(dial_unproven, DIAL, ALLOW, "the peer's link shows no life: it counts no longer") \
	X(dial_linked, DIAL, REFUSE, "the peer is linked") \
	X(dial_suspect, DIAL, REFUSE, "the peer is linked; its link is quiet") \
	X(dial_dialing, DIAL, REFUSE, "another dial to the peer is under way") \
	X(dial_pending, DIAL, REFUSE, "the peer's own dial to us is being answered") \
	X(dial_backoff, DIAL, REFUSE, "the peer is in backoff") \
	X(dial_kept, DIAL, HOLD, "the peer is in backoff and was silent: the SYN waits for the end of it") \
	X(dial_beside, DIAL, HOLD, "the peer has only just linked: the SYN waits for what becomes of that") \
	X(dial_not_due, DIAL, REFUSE, "the dial policy is central and the peer is not announced as due") \
	X(knock_idle, KNOCK, ALLOW, "the peer has room") \
	X(knock_backoff, KNOCK, ALLOW, "the peer knocks during its backoff: it is alive") \
	X(knock_exempt, KNOCK, ALLOW, "the peer is exempt") \
	X(knock_tie_won, KNOCK, ALLOW, "their dial crosses ours and theirs wins the tie") \
	X(knock_tie_open, KNOCK, ALLOW, "their dial crosses ours and the tie-break is left to the service") \
	X(knock_goes_first, KNOCK, ALLOW, "their dial crosses ours and is let in: ours is given up") \
	X(knock_hold_spent, KNOCK, ALLOW, "the hold has lasted long enough") \
	X(knock_unproven, KNOCK, ALLOW, "the peer's link shows no life: the new one may take its place") \
	X(knock_linked, KNOCK, REFUSE, "the peer is linked") \
	X(knock_suspect, KNOCK, HOLD, "the peer's link is quiet: first it is asked for a sign of life") \
	X(knock_tie_lost, KNOCK, HOLD, "their dial crosses ours and ours wins the tie") \
	X(knock_pending, KNOCK, HOLD, "another handshake of the peer is pending") \
	X(knock_ack_waits, KNOCK, HOLD, "their handshake waits for our dial, which was given up, to end") \
	X(knock_open_won, KNOCK, HOLD, "both ends open one connection, and ours has the greater number: it stays a dial") \
	X(knock_open_met, KNOCK, HOLD, "both ends open one connection, and theirs has the greater number: if they ask again, ours is given up") \
	X(knock_open_lost, KNOCK, HOLD, "both ends open one connection, and theirs has the greater number: ours is given up") \
	X(answer_linked, ANSWER, HOLD, "our dial is answered, but the peer is linked already") \
	X(answer_tie_lost, ANSWER, HOLD, "our dial is answered, but a knock of theirs goes first") \
	X(dial_let_go, CLAIM, NONE, "the SYN of the dial that waited for the end of a backoff or of a link leaves") \
	X(dial_failed, CLAIM, NONE, "the dial failed: backoff") \
	X(dial_unheard, CLAIM, NONE, "the dial was closed before it could fail: no failure") \
	X(dial_yielded, CLAIM, NONE, "the dial gave way to their knock: no failure") \
	X(dial_superseded, CLAIM, NONE, "the dial ended while the peer is linked: no failure") \
	X(claim_closed, CLAIM, NONE, "the socket was closed before its SYN left: no failure") \
	X(claim_expired, CLAIM, NONE, "the claim was never ended by its socket: void") \
	X(link_outbound, LINK, NONE, "our dial became a link") \
	X(link_inbound, LINK, NONE, "their knock became a link") \
	X(link_adopted, LINK, NONE, "a link that the guard did not see come up was taken under guard") \
	X(link_surplus, LINK, NONE, "a link that the guard did not see come up is one more than its peer may have") \
	X(link_duplicate, LINK, NONE, "a link too many: the loser is destroyed by the daemon") \
	X(link_crossed, LINK, NONE, "a link too many: left to the service's own rule") \
	X(link_replaced, LINK, NONE, "a link came in the place of a quiet one: that one is destroyed by the daemon") \
	X(link_unheld, LINK, NONE, "no slot, map entry or socket storage was left: the link is not tracked") \
	X(link_short, LINK, NONE, "the peer ended a young link of ours without a byte: no failure, the first time") \
	X(link_hung_up, LINK, NONE, "the peer ended a young link of ours without a byte, twice in a row: backoff") \
	X(link_ended, LINK, NONE, "the link ended") \
	X(link_destroyed, LINK, NONE, "a link too many ended") \
	X(link_unanswered, LINK, NONE, "the quiet link was asked for a sign of life in vain: a new one may take its place") \
	X(link_stranded, LINK, NONE, "the link's own address is not this host's any more: a new one may take its place") \
	X(link_released, LINK, NONE, "a slot with no socket behind it was repaired") \
	X(link_cut, LINK, NONE, "the link was cut by command") \
	X(link_spared, LINK, NONE, "a link too many is the peer's last one: it stays") \
	X(link_unguarded, LINK, NONE, "the link's port is guarded no longer") \
	X(peer_kicked, PEER, NONE, "the backoff was cleared by command") \
	X(peer_due, PEER, NONE, "the peer is due: no link, no claim, no backoff left") \
	X(service_started, PEER, NONE, "a listener of the service came up: every backoff is over") \
	X(network_back, PEER, NONE, "carrier, an address or a route came back: every backoff is over") \
	X(host_resumed, PEER, NONE, "the host has resumed: every backoff is over")

enum cause {
#define CAUSE_ENUMERATOR(name, subject, verdict, text) CAUSE_##name,
	CONNGUARD_CAUSES(CAUSE_ENUMERATOR)
#undef CAUSE_ENUMERATOR
	CAUSE_COUNT,
};

#endif
