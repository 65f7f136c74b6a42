/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an operator decides is kept for the time when there is no guard: by the daemon; without one, here.
 *
 * Owns what is said when that fails: the decision is in force all the same.
 */
#ifndef CONNGUARD_KEEP_H
#define CONNGUARD_KEEP_H

#include "connguard/cli.h"
#include "pure/state_file.h"

/* The login name of who runs this, as sudo or the kernel's audit know it; "": not known. A constant. */
const char *keep_by(void);

/* The daemon's answer to a decision: say so if it could not keep it. */
void keep_said(const json_t *result);

/* The mode was written to its map: let the daemon keep it; without one keep it here. */
void keep_mode(const struct cli *cli, const struct guard *guard);

/*
 * There is no daemon, and a decision of `kind` about `prefix` was made or taken back in the maps: keep what they have
 * now.
 */
void keep_on_maps(const struct cli *cli, const struct guard *guard, enum state_kind kind,
		  const struct exempt_prefix *prefix);

/* 1: the file has such a decision, whether or not it has found room in the maps. */
bool keep_knows(const struct cli *cli, enum state_kind kind, const struct exempt_prefix *prefix);

/* The guard is about to be removed by the caller, who has its lock: what was decided stays. */
void keep_all(const struct cli *cli, const struct guard *guard);

#endif
