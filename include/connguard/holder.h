/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which process has a socket open: what the `holders` iterator writes, record by record.
 *
 * For links whose opener no hook saw. Not in any map, so no part of the layout.
 */
#ifndef CONNGUARD_HOLDER_H
#define CONNGUARD_HOLDER_H

#include <connguard/abi.h>

/* One descriptor of a socket that the guard tracks. */
struct socket_holder {
	__u64 cookie;
	__u32 process_id;             /* 0: unknown */
	__u32 reserved;
	char command[COMMAND_LENGTH]; /* comm of the process's main thread, NUL-terminated */
};

_Static_assert(sizeof(struct socket_holder) == 32, "struct socket_holder");

#endif
