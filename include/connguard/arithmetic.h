/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Comparisons that are computed, not branched on.
 *
 * The verifier follows every combination of the branches it meets, and takes seconds over what a
 * processor does in nanoseconds. What these return is an unknown number to it: one path. Compiles
 * for BPF and for userspace.
 */
#ifndef CONNGUARD_ARITHMETIC_H
#define CONNGUARD_ARITHMETIC_H

#include <linux/types.h>

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

/*
 * The value, in a way that keeps the compiler from turning the arithmetic around it back into a
 * branch.
 */
static __always_inline __u64 opaque(__u64 value)
{
	__asm__ volatile("" : "+r"(value));
	return value;
}

/* 1 when both are equal, else 0. */
static __always_inline __u64 same(__u64 left, __u64 right)
{
	__u64 difference = left ^ right;

	return 1 ^ ((difference | opaque(-difference)) >> 63);
}

/* 1 when `left` is less, else 0. Both below 2^63, as times are. */
static __always_inline __u64 before(__u64 left, __u64 right)
{
	return opaque(left - right) >> 63;
}

/*
 * `condition` 1: the first value, 0: the second. By multiplication, not by a mask of all bits or
 * none: the verifiers of 2026 (6.19, and the stable kernels of then) know such a mask and follow both
 * of its values (maybe_fork_scalars() in kernel/bpf/verifier.c), which made loading four times as long.
 */
static __always_inline __u64 pick(__u64 condition, __u64 first, __u64 second)
{
	return second ^ ((first ^ second) * opaque(condition));
}

#endif
