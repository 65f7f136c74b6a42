/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the programs share that are never attached: userspace runs them with BPF_PROG_TEST_RUN and a request as the
 * packet. Classifiers, because those can be run and can lock on every kernel from 5.10 on; the syscall program type
 * is younger.
 */
#ifndef CONNGUARD_RUN_BPF_H
#define CONNGUARD_RUN_BPF_H

#include "owned.bpf.h"

/* What they return, negative, include/uapi/asm-generic/errno-base.h. */
#define ERROR_NO_ENTRY 2
#define ERROR_BUSY 16
#define ERROR_INVALID 22
#define ERROR_NO_SPACE 28

#endif
