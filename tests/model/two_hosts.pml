/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two hosts that want to be linked, for Spin: every order of events, not a sample of them.
 *
 * Owns the opening and the end of TCP connections, the network (delay, order, loss), crashes, the
 * applications, and what the daemon does. What a guard decides is asked of
 * include/connguard/rules.h itself, through guard.h, so the model cannot differ from the code. Each
 * step names in its comment, after "rules:", the functions that it stands for; scripts/lint.sh sees
 * to it that they exist, and that whatever the hooks ask is named.
 *
 * Time passes in ticks, of which there are SECOND in a second. Within a tick everything happens in
 * any order, and the tick is over when nothing is left that has to happen before. So durations are
 * exact to a tick, and what falls into one is tried in both orders. words.h has the numbers and
 * what a variant sets; variants.py has the variants, and the mistakes that they must notice.
 *
 * What a variant promises is in words.h. All promise: a dial of a guarded host begins beside no other
 * dial, and beside no link that lives, but for one that was asked in vain or has shown no life for
 * deny_max, or that is new, beside which its SYN waits; no daemon ends a link that TCP would keep, unless its peer has made another one; a host
 * gives up one dial for a knock, and no second one before it has a link.
 *
 * Takes for granted: a SYN leaves in the tick of its connect(); TCP tries for less than claim_max;
 * a FIN is not lost for good; sequence numbers keep a segment from being taken for one of another
 * connection. Where both dial on one 4-tuple, a dial begins when nothing of an earlier one is under way.
 *
 * rules left out: peer_is() and peer_forget() (one peer, which stays), handshake_hash() (which has its
 * own place in the table), peer_due() and peer_idle()
 * (announcing is not refusing), claims_expire() (a claim is void without it), backoff_clear()
 * (kick), command_decides() and command_takes_back(), slot_release() (cut), link_trim() (older links), dial_led_away()
 * (no other programs), liveness_settings() (KEEPALIVE stands for it), link_stalls() (links carry nothing that could be lost), handshake_awaited() (no
 * SYN cookies), handshake_forget_before() and revival_started() (listeners stay), peer_limit() (in egress, of which
 * SYNs the daemon has copies), link_stranded() and link_floats() (addresses stay), dial_was_linked() (observe mode). Nor is there the
 * central dial policy, an exempt peer, observe mode, or an adopted link.
 * Nor does the daemon send the SYN of a dial again whose answer was held (answer_tie_lost): TCP does, later.
 */
#include "words.h"

c_decl {
\#include "guard.h"

	struct segment_image {
		unsigned char kind;
		unsigned char connection;
		unsigned char age; /* ticks under way */
	};

	struct wire_image {
		unsigned char length;
		struct segment_image segments[WIRE];
	};
}

/* Of each host: its guard, and what is under way towards it. */
c_state "struct guard_image guards[2]" "Global"
c_state "struct wire_image wires[2]" "Global"

typedef Connection {
	byte dialer;    /* NOBODY: it is free; host + 1; BOTH; SPOOFER */
	byte number[2]; /* the client's initial sequence number, of each that has dialed */
	/* Of its end at each host: */
	byte state[2];
	byte timer[2];  /* ticks until it sends of its own accord */
	byte tries[2];  /* SYNs or SYN-ACKs sent so far; established: unanswered questions */
	byte waited[2]; /* on trial: ticks since QUESTIONS of them were */
	byte unwelcome; /* the application of the host less one is about to close it; 0: none is */
	bit destroyed;  /* by a daemon */
	bit spoke[2];   /* the end has got data of the other one's application */
}

Connection connections[CONNECTIONS];

/* Of each host: its application. */
byte dials_made[2]; /* if they are bounded */
byte idle[2];       /* ticks that it has wanted to dial for */
byte surplus[2];    /* 0, or one more than the ticks that it has seen too many links for */

/* Of each host: the errands of its daemon. */
byte losers[2];     /* links to destroy, a bit each */
byte given_up[2];   /* dials that were given up for a knock, a bit each */
byte unended[2];    /* ticks that one of these has waited */
byte again[2];      /* SAME_TUPLE: 0, or one more than the times that its dial's SYN is to be sent again */
byte dials_lost[2]; /* dials to give up: 0, or one more than the ticks since the link was told */
byte trials[2];     /* links on trial, a bit each */
byte late[2];       /* ticks that an errand has waited */
byte unchecked[2];  /* ticks that a doomed link has been left */

/* Of each host, for the onlooker: */
byte failures[2];   /* PACED: in a row, up to STEPS */
byte owed[2];       /* PACED: ticks for which it owes its peer silence */
byte spent[2];      /* PACED: and for which no SYN excuses it any more */
bit yielded[2];     /* its daemon has ended a dial for a knock, and no link has come up since */

byte losses_left = LOSSES;
byte cuts_left = CUTS;
byte closings_left = CLOSINGS;
byte crashes_left = CRASHES;
byte spoofed_left = SPOOFED;
byte down;                  /* 0: host 1 is up; else one more than the ticks since it crashed */
byte cable_out = CABLE_OUT; /* 0: it is plugged in; else the ticks within which it will be */
byte calm;                  /* ticks since the last trouble, up to SETTLES */
bool settled;

/*
 * Of the step under way, else 0: at which host, which connection, what has arrived, what was
 * decided, how an end has ended.
 */
byte at, it, kind, verdict, cause, ending;

c_code {
\#include "world.h"
}

#define STATE connections[it].state[at]
#define TIMER connections[it].timer[at]
#define TRIES connections[it].tries[at]
#define GUARDED_HERE (at == 0 && GUARDED_0 || at == 1 && GUARDED_1)
#define DIALED_HERE (connections[it].dialer & (at + 1))

/* For c_code: the same. */
#define GUARD (&now.guards[now.at])
#define END now.connections[now.it]
#define DIALED (END.dialer & (now.at + 1))
#define NUMBER END.number[now.at]
#define NUMBER_THERE END.number[!now.at]
#define HAS_DAEMON DAEMON(now.at)

/*
 * A question without side effects; without the parentheses spin takes any call for one that has
 * some.
 */
#define IS(condition) c_expr { (condition) }
#define ALLOWED IS(now.verdict == VERDICT_ALLOW)
#define ASK(question) c_code { struct decision decision = question; decided(&decision); }
#define SEND(what) c_code { send(what); }
#define CLOSED(how) c_code { now.ending = how; }; end_closed()
#define TELL(what) c_code { tell(now.at, what " %d", now.it); }

/* One of the connections for which it holds; there is one. */
#define CHOOSE(condition) \
	if \
	:: IS(condition(now.at, 0)) -> it = 0 \
	:: IS(condition(now.at, 1)) -> it = 1 \
	:: IS(condition(now.at, 2)) -> it = 2 \
	:: IS(condition(now.at, 3)) -> it = 3 \
	fi

inline step_ends()
{
	c_code { step_over(); };
	assert(surplus[0] <= IS(SURPLUS_ALLOWED(0)));
	assert(surplus[1] <= IS(SURPLUS_ALLOWED(1)))
}

/* ---- an end of a connection ------------------------------------------------------------------ */

inline end_forgotten()
{
	STATE = END_NONE;
	TIMER = 0;
	TRIES = 0;
	connections[it].waited[at] = 0;
	connections[it].spoke[at] = 0;
	if
	:: connections[it].unwelcome == at + 1 -> connections[it].unwelcome = 0
	:: else
	fi;
	if
	:: SAME_TUPLE && it == 0 -> connections[it].dialer = connections[it].dialer & ~(at + 1)
	:: else
	fi;
	if
	:: SAME_TUPLE && it == 0 -> again[at] = 0
	:: else
	fi;
	given_up[at] = given_up[at] & ~(1 << it);
	losers[at] = losers[at] & ~(1 << it);
	trials[at] = trials[at] & ~(1 << it)
}

/* sock_ops or sock_release: a dial or a link is over, `ending` says how. rules: slot_end() */
inline end_closed()
{
	if
	:: GUARDED_HERE && (STATE != END_SYN_RECEIVED || DIALED_HERE) ->
		ASK(model_slot_end(GUARD, now.it, now.ending, END.spoke[now.at]))
	:: else
	fi;
	end_forgotten()
}

/* sock_ops: a dial or a knock has become a link. rules: link_up(), handshake_done() */
inline end_established()
{
	if
	:: closings_left && !DIALED_HERE && IS(is_unwelcome(now.at)) ->
		connections[it].unwelcome = at + 1
	:: else
	fi;
	STATE = END_ESTABLISHED;
	TRIES = 0;
	yielded[at] = 0;
	if
	:: SAME_TUPLE -> again[at] = 0
	:: else
	fi;
	c_code { END.timer[now.at] = ask_after(now.at); };
	if
	:: GUARDED_HERE ->
		ASK(model_link_up(GUARD, now.it, DIALED, DIALED ? NUMBER : NUMBER_THERE))
	:: else -> TELL("established:")
	fi
}

/* ingress: the other end of a link lives. rules: link_heard() */
inline end_heard()
{
	TRIES = 0;
	c_code { END.timer[now.at] = ask_after(now.at); };
	connections[it].waited[at] = 0;
	trials[at] = trials[at] & ~(1 << it);
	if
	:: GUARDED_HERE -> c_code { model_link_heard(GUARD, now.it); }
	:: else
	fi
}

/* ---- what arrives ---------------------------------------------------------------------------- */

/* ingress has let it pass, or there is no guard. */
inline syn_is_answered()
{
	if
	:: STATE == END_NONE ->
		STATE = END_SYN_RECEIVED;
		TRIES = 1;
		TIMER = SECOND
	:: else
	fi;
	SEND(SEGMENT_SYN_ACK)
}

/*
 * sk_lookup, which may answer with RST, and then ingress, which may be silent. One that meets its
 * own request meets ingress alone. rules: knock_decide(), peer_room(), handshake_decide()
 */
inline knock()
{
	c_code { now.verdict = VERDICT_ALLOW; };
	if
	:: at == 1 && !LISTENS_1 -> c_code { now.verdict = VERDICT_REFUSE; }
	:: GUARDED_HERE && STATE == END_NONE -> ASK(model_knock_decide(GUARD, now.it))
	:: else
	fi;
	if
	:: IS(now.verdict == VERDICT_REFUSE) -> SEND(SEGMENT_RST)
	:: else ->
		if
		:: GUARDED_HERE -> c_code { knock_decided(); }
		:: else
		fi;
		if
		:: ALLOWED -> syn_is_answered()
		:: else
		fi
	fi
}

/*
 * A SYN that meets the host's own dial, and ingress. Let pass, it makes TCP open the connection from both
 * ends. rules: open_decide()
 */
inline open()
{
	c_code { now.verdict = VERDICT_ALLOW; };
	if
	:: GUARDED_HERE -> ASK(model_open_decide(GUARD, now.it, NUMBER_THERE, HAS_DAEMON))
	:: else
	fi;
	if
	:: ALLOWED ->
		STATE = END_SYN_RECEIVED;
		TRIES = 1;
		TIMER = SECOND;
		SEND(SEGMENT_SYN_ACK)
	:: else
	fi
}

/* ingress. rules: handshake_pending(), answer_decide() */
inline answer()
{
	c_code { now.verdict = VERDICT_ALLOW; };
	if
	:: GUARDED_HERE -> ASK(model_answer_decide(GUARD, now.it))
	:: else
	fi;
	if
	:: ALLOWED -> end_established(); SEND(SEGMENT_ACK)
	:: else
	fi
}

/*
 * An ACK, or data. ingress sees one that meets a listener or a request. rules: last_ack_decide(),
 * handshake_waits()
 */
inline ack()
{
	c_code { now.verdict = VERDICT_ALLOW; };
	if
	:: GUARDED_HERE && !DIALED_HERE && (STATE == END_NONE || STATE == END_SYN_RECEIVED) ->
		ASK(model_last_ack_decide(GUARD, now.it, HAS_DAEMON))
	:: else
	fi;
	if
	:: ALLOWED && STATE == END_SYN_RECEIVED -> end_established()
	:: ALLOWED && STATE == END_ESTABLISHED -> end_heard()
	:: ALLOWED && STATE == END_NONE -> SEND(SEGMENT_RST)
	/* Of a link that the other end has, and this one has not. */
	:: ALLOWED && STATE == END_SYN_SENT && SAME_TUPLE -> SEND(SEGMENT_RST)
	:: else
	fi;
	if
	:: kind == SEGMENT_DATA && STATE == END_ESTABLISHED ->
		connections[it].spoke[at] = TALKS > 0;
		SEND(SEGMENT_ACK)
	:: else
	fi
}

/* ingress sees one that meets a listener or a request. rules: handshake_done() */
inline reset()
{
	if
	:: GUARDED_HERE && !DIALED_HERE && (STATE == END_NONE || STATE == END_SYN_RECEIVED) ->
		c_code { model_handshake_done(GUARD, now.it); }
	:: else
	fi;
	assert(!STEADY || !connections[it].destroyed || STATE != END_ESTABLISHED ||
	       IS(is_another_alive(now.at, now.it)));
	if
	:: STATE != END_NONE -> CLOSED(ENDING_RESET)
	:: else
	fi
}

/* It bears an ACK, too. */
inline finish()
{
	if
	:: STATE == END_SYN_RECEIVED -> end_established()
	:: else
	fi;
	if
	:: STATE == END_ESTABLISHED -> CLOSED(ENDING_PEER_CLOSED)
	:: else
	fi
}

inline arrives()
{
	c_code { tell(now.at, "%s of %d arrives", segment_names[now.kind], now.it); };
	if
	:: at == 1 && down
	:: else ->
		if
		:: kind == SEGMENT_SYN && STATE == END_SYN_SENT -> open()
		:: kind == SEGMENT_SYN && STATE == END_SYN_RECEIVED && DIALED_HERE ->
			SEND(SEGMENT_SYN_ACK)
		:: kind == SEGMENT_SYN &&
		   (STATE == END_NONE || STATE == END_SYN_RECEIVED && !DIALED_HERE) -> knock()
		:: kind == SEGMENT_SYN_ACK && STATE == END_SYN_SENT -> answer()
		:: kind == SEGMENT_SYN_ACK && STATE == END_SYN_RECEIVED && DIALED_HERE ->
			end_established();
			SEND(SEGMENT_ACK)
		/* The challenge of RFC 5961, or the last ACK again. */
		:: (kind == SEGMENT_SYN || kind == SEGMENT_SYN_ACK) && STATE == END_ESTABLISHED ->
			SEND(SEGMENT_ACK)
		:: kind == SEGMENT_SYN_ACK &&
		   (STATE == END_NONE || STATE == END_SYN_RECEIVED && !DIALED_HERE) ->
			SEND(SEGMENT_RST)
		:: kind == SEGMENT_ACK || kind == SEGMENT_DATA -> ack()
		:: kind == SEGMENT_RST -> reset()
		:: kind == SEGMENT_FIN -> finish()
		fi
	fi
}

/* ---- what a host does of its own accord ------------------------------------------------------ */

/* connect4 or connect6. rules: handshake_pending(), dial_claim() */
inline dial()
{
	c_code { now.it = connection_free(now.at); now.verdict = VERDICT_ALLOW; };
	if
	:: GUARDED_HERE -> ASK(model_dial_claim(GUARD, now.it, HAS_DAEMON))
	:: else -> TELL("dials")
	fi
}

inline dial_allowed()
{
	assert(!GUARDED_HERE || IS(now.cause == CAUSE_dial_beside && !own_ends_in(now.at, END_SYN_SENT)) ||
	       IS(links_and_dials(now.at) < LINKS));
	connections[it].dialer = connections[it].dialer | (at + 1);
	STATE = END_SYN_SENT;
	idle[at] = 0;
	if
	:: IS(DIALS(now.at) != UNBOUNDED) -> dials_made[at]++; calm = 0
	:: else
	fi
}

inline dial_refused()
{
	if
	:: idle[at] == PATIENCE -> idle[at] = 0
	:: else
	fi
}

/* egress. A SYN that it keeps is one that was lost, to TCP. rules: dial_leaves() */
inline syn_leaves()
{
	c_code { now.verdict = VERDICT_ALLOW; };
	if
	:: GUARDED_HERE -> ASK(model_dial_leaves(GUARD, now.it))
	:: else
	fi;
	if
	:: IS(now.verdict != VERDICT_HOLD) ->
		assert(!owed[at]);
		SEND(SEGMENT_SYN)
	:: else -> TELL("egress keeps the SYN of")
	fi
}

/* A timer is out. sock_ops sees a SYN before it leaves. rules: dial_sent() */
inline sends()
{
	if
	:: STATE == END_SYN_SENT && TRIES < SYNS_WAITED ->
		if
		:: GUARDED_HERE -> c_code { model_dial_sent(GUARD, now.it, NUMBER); }
		:: else
		fi;
		TRIES++;
		c_code { END.timer[now.at] = resend_after(END_SYN_SENT, END.tries[now.at]); };
		syn_leaves()
	:: STATE == END_SYN_RECEIVED && TRIES <= SYN_ACK_RETRIES ->
		TRIES++;
		c_code { END.timer[now.at] = resend_after(END_SYN_RECEIVED, END.tries[now.at]); };
		SEND(SEGMENT_SYN_ACK)
	:: STATE == END_ESTABLISHED && IS(may_ask_again(now.at, now.it)) ->
		TRIES++;
		TIMER = SECOND;
		SEND(SEGMENT_DATA)
	:: STATE == END_SYN_SENT && TRIES >= SYNS_WAITED && SYNS_WAITED <= SYN_RETRIES ->
		TELL("the application gives up the dial");
		CLOSED(ENDING_CLOSED)
	:: else -> CLOSED(ENDING_SILENCE) /* TCP gives up */
	fi
}

/* ---- the daemon ------------------------------------------------------------------------------ */

/* sockets_destroy() of user/edge/sockets.c. An established socket that is destroyed sends RST. */
inline destroy()
{
	connections[it].destroyed = 1;
	SEND(SEGMENT_RST);
	CLOSED(ENDING_ABORTED)
}

/* links_destroy_surplus() of user/edge/links.c. */
inline destroy_surplus()
{
	losers[at] = losers[at] & ~(1 << it);
	if
	:: STATE == END_ESTABLISHED && IS(is_another_established(now.at, now.it)) ->
		TELL("the daemon destroys");
		assert(IS(ends_in(now.at, END_ESTABLISHED) > 1));
		assert(!STEADY || IS(is_another_alive(now.at, now.it)));
		destroy()
	:: else
	fi
}

/*
 * links_destroy_replaced() of user/edge/links.c: whether or not the link is there yet that its peer has made
 * in its place. That it was not alive shows when its RST arrives. The daemon waits for a moment
 * (user/connguardd/replaced.c); here it never does, which is the harder case.
 */
inline destroy_loser()
{
	if
	:: STATE == END_ESTABLISHED && IS(guard_has_replaced(GUARD, now.it)) ->
		losers[at] = losers[at] & ~(1 << it);
		TELL("the daemon destroys, for another has come in its place,");
		destroy()
	:: else -> destroy_surplus()
	fi
}

/*
 * end_given_up() of user/connguardd/happenings.c, links_end_dial() of user/edge/links.c: a knock goes
 * first. Nothing is sent for a dial.
 */
inline end_given_up()
{
	given_up[at] = given_up[at] & ~(1 << it);
	if
	:: IS(is_given_up(now.at, now.it)) ->
		TELL("the daemon ends, for a knock, the dial");
		assert(!yielded[at]);
		yielded[at] = 1;
		CLOSED(ENDING_ABORTED);
		/* syns_let_in() of user/connguardd/syns.c: the SYN that has met it comes to the listener. */
		if
		:: SAME_TUPLE -> knock()
		:: else
		fi
	:: else
	fi
}

/* give_up_dials() of user/connguardd/happenings.c. */
inline give_up_dials()
{
	it = 0;
	do
	:: it < CONNECTIONS ->
		if
		:: IS(is_dial_lost(now.at, now.it)) ->
			TELL("the daemon gives up the dial");
			CLOSED(ENDING_ABORTED)
		:: else
		fi;
		it++
	:: else -> break
	od;
	it = 0;
	dials_lost[at] = 0
}

/* syns_send_soon() of user/connguardd/syns.c. There it begins anew with a later SYN, here once a dial. */
inline send_again()
{
	again[at]--;
	TELL("the daemon sends again the SYN of");
	SEND(SEGMENT_SYN)
}

/*
 * let_go() of user/connguardd/upkeep.c. COMMAND_LET_GO: a kept dial's SYN leaves, whatever TCP's timer says. One beside
 * a link that has stayed ends. rules: dial_waits_until(), dial_let_go(), dial_syn_left()
 */
inline let_go()
{
	if
	:: IS(guard_dial_lost(GUARD)) ->
		TELL("the daemon ends, beside a link, the dial");
		CLOSED(ENDING_ABORTED)
	:: else ->
		ASK(model_dial_let_go(GUARD, now.it));
		assert(!owed[at]);
		assert(TIE_OPEN || IS(links_and_dials(now.at) <= LINKS));
		SEND(SEGMENT_SYN)
	fi
}

/*
 * on_look() of user/connguardd/probing.c: a quiet link has been asked in vain. Its timer is what it was:
 * nothing is ended. rules: link_unanswered()
 */
inline unanswered()
{
	trials[at] = trials[at] & ~(1 << it);
	connections[it].waited[at] = 0;
	ASK(model_link_unanswered(GUARD, now.it));
	if
	:: IS(ask_after(now.at) == STOPPED) -> TRIES = 0; TIMER = STOPPED
	:: else
	fi
}

/* spare_last() and destroy_doomed() of user/pure/check.c. rules: link_spare() */
inline check()
{
	unchecked[at] = 0;
	ASK(model_link_spare(GUARD, now.it));
	if
	:: IS(now.cause == CAUSE_none) -> destroy_surplus()
	:: else
	fi
}

/* ---- the network ----------------------------------------------------------------------------- */

/* on_settled() of user/connguardd/revival.c, if anybody is told. rules: peer_revive() */
inline plugged_in()
{
	cable_out = 0;
	calm = 0;
	c_code {
		tell(0, "the cable is plugged in");
		if (REVIVES && DAEMON(0))
			model_peer_revive(&now.guards[0]);
		if (REVIVES && DAEMON(1))
			model_peer_revive(&now.guards[1]);
	}
}

/* ---- everything at once ---------------------------------------------------------------------- */

/* Two of each, for the two hosts; which one it is follows from the order of the processes. */
#define APPLICATIONS 0
#define TIMERS 2
#define NETWORKS 4
#define DAEMONS 6

active [2] proctype Application()
{
	do
	:: atomic { IS(may_dial(PApplication->_pid - APPLICATIONS)) ->
		d_step { at = _pid - APPLICATIONS; dial() };
		if
		/* Or kept. */
		:: IS(now.verdict != VERDICT_REFUSE) ->
			if
			:: IS(may_be_number(1)) -> connections[it].number[at] = 1
			:: IS(may_be_number(2)) -> connections[it].number[at] = 2
			:: IS(may_be_number(3)) -> connections[it].number[at] = 3
			:: IS(may_be_number(4)) -> connections[it].number[at] = 4
			fi;
			d_step {
				dial_allowed();
				if
				:: PROMPT -> sends()
				:: else
				fi;
				step_ends()
			}
		:: else ->
			d_step { dial_refused(); step_ends() }
		fi
	}
	:: d_step { IS(newcomer(PApplication->_pid - APPLICATIONS) < CONNECTIONS) ->
		at = _pid - APPLICATIONS;
		c_code { now.it = newcomer(now.at); };
		if
		:: closings_left != UNBOUNDED -> closings_left--; calm = 0
		:: else
		fi;
		TELL("the application closes");
		SEND(SEGMENT_FIN);
		CLOSED(ENDING_CLOSED);
		step_ends()
	}
	od
}

active [2] proctype Timers()
{
	do
	:: atomic { IS(any_timer_out(PTimers->_pid - TIMERS)) ->
		at = _pid - TIMERS;
		CHOOSE(is_timer_out);
		d_step { sends(); step_ends() }
	}
	od
}

/* Towards each host. */
active [2] proctype Network()
{
	do
	:: atomic { IS(may_arrive(PNetwork->_pid - NETWORKS, 0)) ->
		at = _pid - NETWORKS;
		if
		:: c_code { take(0); }
		:: IS(may_arrive(now.at, 1)) -> c_code { take(1); }
		:: IS(may_arrive(now.at, 2)) -> c_code { take(2); }
		:: IS(may_arrive(now.at, 3)) -> c_code { take(3); }
		:: IS(may_arrive(now.at, 4)) -> c_code { take(4); }
		:: IS(may_arrive(now.at, 5)) -> c_code { take(5); }
		fi;
		if
		:: d_step { arrives(); step_ends() }
		:: d_step { losses_left && kind != SEGMENT_FIN ->
			losses_left--;
			calm = 0;
			c_code { tell(now.at, "%s of %d is lost", segment_names[now.kind],
				      now.it); };
			step_ends()
		}
		fi
	}
	od
}

active [2] proctype Daemon()
{
	do
	:: atomic { losers[_pid - DAEMONS] ->
		at = _pid - DAEMONS;
		if
		:: losers[at] & 1 -> it = 0
		:: losers[at] & 2 -> it = 1
		:: losers[at] & 4 -> it = 2
		:: losers[at] & 8 -> it = 3
		fi;
		d_step { destroy_loser(); step_ends() }
	}
	:: d_step { dials_lost[_pid - DAEMONS] ->
		at = _pid - DAEMONS;
		give_up_dials();
		step_ends()
	}
	:: atomic { given_up[_pid - DAEMONS] ->
		at = _pid - DAEMONS;
		if
		:: given_up[at] & 1 -> it = 0
		:: given_up[at] & 2 -> it = 1
		:: given_up[at] & 4 -> it = 2
		:: given_up[at] & 8 -> it = 3
		fi;
		d_step { end_given_up(); step_ends() }
	}
	:: d_step { again[_pid - DAEMONS] > 1 ->
		at = _pid - DAEMONS;
		it = 0;
		send_again();
		step_ends()
	}
	:: atomic { IS(any_kept_for_nothing(PDaemon->_pid - DAEMONS)) ->
		at = _pid - DAEMONS;
		CHOOSE(is_kept_for_nothing);
		d_step { let_go(); step_ends() }
	}
	:: atomic { IS(any_unanswered(PDaemon->_pid - DAEMONS)) ->
		at = _pid - DAEMONS;
		CHOOSE(is_unanswered);
		d_step { unanswered(); step_ends() }
	}
	:: atomic { unchecked[_pid - DAEMONS] >= CHECK_FIRST ->
		at = _pid - DAEMONS;
		CHOOSE(is_left_doomed);
		d_step { check(); step_ends() }
	}
	od
}

active proctype World()
{
	do
	:: d_step { IS(may_tick()) ->
		c_code { tick(); };
		step_ends();
		assert(!SETTLES || calm < SETTLES || settled)
	}
	:: d_step { cable_out && (cable_out < CABLE_OUT || CUTS) -> plugged_in() }
	:: d_step { cuts_left && !cable_out ->
		cuts_left--;
		cable_out = CUT;
		calm = 0;
		c_code { tell(0, "the cable is cut"); }
	}
	/* The 5 ms of ACK_WAITS_NS are over. */
	:: d_step { IS(guard_ack_waits(&now.guards[0])) ->
		c_code { guard_ack_has_waited(&now.guards[0]); }
	}
	:: d_step { IS(guard_ack_waits(&now.guards[1])) ->
		c_code { guard_ack_has_waited(&now.guards[1]); }
	}
	:: d_step { crashes_left && !down ->
		crashes_left--;
		down = 1;
		calm = 0;
		c_code { crash(); };
		step_ends()
	}
	:: d_step { down > DELAY + 1 ->
		down = 0;
		calm = 0;
		c_code { tell(1, "returns"); }
	}
	:: atomic { spoofed_left && connections[CONNECTIONS - 1].dialer == NOBODY ->
		d_step {
			it = CONNECTIONS - 1;
			connections[it].dialer = SPOOFER;
			if
			:: spoofed_left != UNBOUNDED -> spoofed_left--; calm = 0
			:: else
			fi
		};
		if
		:: connections[it].number[1] = 0
		:: connections[it].number[1] = NUMBERS + 1
		fi;
		d_step {
			TELL("a spoofed SYN arrives:");
			knock();
			step_ends()
		}
	}
	od
}

#if EVENTUALLY
ltl eventually { <> [] settled }
#endif
