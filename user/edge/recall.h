/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What operators have decided, in the maps of a guard: found there, and put there.
 *
 * A guard that is in the kernel has them in its maps, and there they are right: a command changes them with a daemon
 * and without one. The state file (edge/state_store.h) is for the time when it is not. Functions return 0 or a
 * negative errno unless they say otherwise; logs nothing.
 */
#ifndef EDGE_RECALL_H
#define EDGE_RECALL_H

#include "edge/kernel.h"
#include "pure/state_file.h"

/*
 * What the maps of a guard that has a policy say is decided. `before` is what the state file says: who has decided what
 * is still the same, and when; and, where the guard was loaded without it (guard_policy.recalled), decisions that the
 * maps do not have. What `before` has not was decided by `by`, now. Returns how many did not fit into the list, or a
 * negative errno. *ret_state is the caller's (state_free()).
 */
int recall_collect(const struct guard *guard, const struct state *before, const char *by, struct state *ret_state);

/* Exempt the prefixes, as far as the exempt map does not have them. */
int recall_prefixes(const struct guard *guard, const struct state *state);

/*
 * Give the peers their limits and exemptions, at each service of the guard. An error is of the first that failed, and
 * the rest was done; -ENOSPC: it found no room in the map, which learned peers without state have left.
 */
int recall_peers(const struct guard *guard, const struct state *state);

/*
 * `complete`: all are in the maps, from now on these are right. Else some found no room: what the maps lack is not taken
 * for taken back.
 */
int recall_is(const struct guard *guard, bool complete);

#endif
