/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every fuzz target needs: values taken from the fuzzer's bytes, and a way to say that
 * something must hold.
 *
 * Owns the reading of the bytes. Knows nothing of what the targets test. A target is one file with
 * LLVMFuzzerTestOneInput(), which returns 0 and is called again and again in one process; what must
 * not happen ends the process, and the fuzzer keeps the bytes that did it.
 */
#ifndef CONNGUARD_TESTS_FUZZ_INPUT_H
#define CONNGUARD_TESTS_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The bytes that are not used yet. Borrowed. */
struct input {
	const uint8_t *next;
	size_t left;
};

/* The fuzzer's entry into each target. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fill `size` bytes; zeros where the input has come to its end. */
static inline void input_bytes(struct input *input, void *ret_bytes, size_t size)
{
	size_t taken = size < input->left ? size : input->left;

	memset(ret_bytes, 0, size);
	if (!taken)
		return;
	memcpy(ret_bytes, input->next, taken);
	input->next += taken;
	input->left -= taken;
}

/* One byte; 0 at the end. */
static inline uint8_t input_byte(struct input *input)
{
	uint8_t byte;

	input_bytes(input, &byte, sizeof(byte));
	return byte;
}

/* A number below `bound` (1..256), out of one byte. */
static inline unsigned int input_below(struct input *input, unsigned int bound)
{
	return input_byte(input) % bound;
}

/* Ends the process, with a line that says what is broken where. */
#define must(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

#endif
