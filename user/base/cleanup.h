/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Cleanup attributes: a local variable that owns something lets go of it at the end of its scope,
 * on every path.
 *
 * Owns the attributes, knows nothing of what uses them. A marked variable must be initialised where
 * it is declared.
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* free() what a pointer owns. NULL is allowed. For `cleanup_free`. */
static inline void cleanup_free_pointer(void *pointer_to_pointer)
{
	free(*(void **)pointer_to_pointer);
}

/* close() a descriptor unless it is negative; errno stays. For `cleanup_close`. */
static inline void cleanup_close_descriptor(int *descriptor)
{
	int saved_errno = errno;

	if (*descriptor >= 0)
		close(*descriptor);
	errno = saved_errno;
}

/* fclose() a stream unless it is NULL; errno stays. For `cleanup_fclose`. */
static inline void cleanup_fclose_stream(FILE **stream)
{
	int saved_errno = errno;

	if (*stream)
		fclose(*stream);
	errno = saved_errno;
}

/* A pointer to memory of malloc(): `cleanup_free char *text = NULL;` */
#define cleanup_free __attribute__((cleanup(cleanup_free_pointer)))
/* A descriptor: `cleanup_close int fd = -1;` */
#define cleanup_close __attribute__((cleanup(cleanup_close_descriptor)))
/* A stream: `cleanup_fclose FILE *file = NULL;` */
#define cleanup_fclose __attribute__((cleanup(cleanup_fclose_stream)))

/*
 * The pointer itself; the variable becomes NULL, so that its cleanup lets go of nothing: `*ret_text
 * = take_pointer(text);`
 */
#define take_pointer(pointer) \
	({ \
		__typeof__(pointer) taken_pointer = (pointer); \
		(pointer) = NULL; \
		taken_pointer; \
	})

/* The descriptor itself; the variable becomes -1. */
static inline int take_descriptor(int *descriptor)
{
	int taken = *descriptor;

	*descriptor = -1;
	return taken;
}

#endif
