/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Make a loaded guard be what the configuration says and operators have decided: policy, ports, exemptions, known
 * peers, links that are there already.
 *
 * Shared by connguardd and `connguard load`. Each step can be taken again at any time and changes
 * only what differs. Functions return 0 or a negative errno.
 */
#ifndef EDGE_FURNISH_H
#define EDGE_FURNISH_H

#include "edge/kernel.h"
#include "edge/surroundings.h"
#include "pure/config.h"
#include "pure/peers_file.h"
#include "pure/state_file.h"

/* The policy and the guarded ports. */
int furnish_policy(const struct guard *guard, const struct config *config,
		   const struct surroundings *surroundings);

/*
 * The exempt map: the configured prefixes are in it, what was configured before is not, what a command
 * put there stays until it ends. -ENOSPC: there is no room for all of it; -ENOMEM. After a failure all is as it was.
 */
int furnish_exempt(const struct guard *guard, const struct config *config);

/*
 * The own map: `own` is in it, and nothing else. `there` is what was in it, NULL: that is asked of it; of both what
 * differs is written. *ret_gone, which may be NULL, becomes what was there and is no more; the caller's. -ENOSPC: the
 * map is full, and the shortest prefixes are in it.
 */
int furnish_own(const struct guard *guard, const struct prefix_set *there, const struct prefix_set *own,
		struct prefix_set *ret_gone);

/*
 * The peers file as the configuration names it; none without one. More peers than there is room for at every
 * service are a mistake. *ret_known is the caller's to free.
 */
int furnish_read_known(const struct config *config, struct known_peer **ret_known,
		       size_t *ret_count, struct config_error *ret_error);

/*
 * PEER_KNOWN is set for these peers, at each of the services, and no others, and their limits are those of the file,
 * where no command has set another. Idle peers go where there is no room. *ret_left: entries that found none all the
 * same. Sorts `known`.
 */
int furnish_known(const struct guard *guard, const struct config *config, struct known_peer *known, size_t count,
		  size_t *ret_left);

/*
 * All that is configured, at once: exemptions, policy, ports and known peers are as the configuration says, or, after
 * a failure, as they were; ret_error then says what has failed. Entries of known peers without room are a failure
 * (-ENOSPC) if ret_left is NULL, else it says how many there are. Sorts `known`.
 */
int furnish_config(const struct guard *guard, const struct config *config,
		   const struct surroundings *surroundings, struct known_peer *known, size_t count, size_t *ret_left, struct config_error *ret_error);

/*
 * Who listens where, as the sockets show it: whose knocks sk_lookup may refuse. Listeners of the guard's that no hook
 * has seen begin are counted.
 */
int furnish_listeners(const struct guard *guard, struct surroundings *surroundings,
		      const struct config *config);

/* Whether a slot of the peer shows the socket `cookie` as a link. */
bool furnish_shown(const struct guard *guard, const struct peer_address *address, __u64 cookie);

/*
 * The links that there are: take established sockets that no slot shows under guard, and, where ports may have left
 * the configuration, let go of those whose ports are guarded no longer. Returns how many came to be, or a negative
 * errno.
 */
int furnish_links(const struct guard *guard, struct surroundings *surroundings,
		  const struct config *config, bool ports_left);

/*
 * What operators have decided about peers and prefixes is in the maps. An error: not all of it, as recall_peers() says.
 */
int furnish_decided(const struct guard *guard, const struct state *state);

/* What became of a guard that was loaded or taken over. */
struct furnished {
	enum guard_mode mode; /* in force now */
	size_t left;          /* entries of known peers that found no room in the map */
	int adopted;          /* links; negative: an errno, they or the listeners could not be taken in, which
			       * the periodic check makes up for */
	bool own_full;        /* the own map has no room for all that is this host */
	struct prefix_set own_gone; /* what was this host when the guard was furnished before, and is no more */
	struct state state;   /* what operators have decided and not taken back */
	bool recalled;        /* it was in the maps already, all of it: the state file had nothing to say */
	size_t left_out;      /* decisions in the maps that the list has no room for */
	int undecided;        /* negative: an errno, not all decisions are in force */
};

/* Give back what it holds. */
void furnished_free(struct furnished *furnished);

/*
 * All of it, for a guard that was just loaded or taken over: the mode, all that is configured, what operators have
 * decided, then the links that exist. The mode is the one that an operator has decided on, else the configuration's: an
 * operator who pressed panic is not overruled by a restart, nor by a stop and a start. What is decided is in the maps of
 * a guard that was taken over, and in `kept`, the state file, for one just loaded (NULL: the file is not understood).
 * One that nobody had furnished is as one just loaded; to one that was loaded without the file both apply. On failure
 * ret_error says what has failed, and a guard that was taken over is as it was. `whole`: known peers without room are a
 * failure. *ret_furnished is the caller's (furnished_free()).
 */
int furnish_all(const struct guard *guard, struct surroundings *surroundings, const struct config *config,
		struct known_peer *known, size_t count, bool taken_over, bool whole, const struct state *kept,
		struct furnished *ret_furnished, struct config_error *ret_error);

#endif
