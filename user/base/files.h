/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files that somebody else wrote.
 *
 * Owns how they are opened and where their text begins. Knows nothing of what it says.
 */
#ifndef BASE_FILES_H
#define BASE_FILES_H

#include <stddef.h>
#include <stdio.h>

/*
 * Open a regular file, through symbolic links, to read it. Never waits: opening a FIFO or a device
 * could take for ever, and the path may lie in a directory that a service writes. *ret_stream is the
 * caller's (cleanup_fclose). -EISDIR: a directory; -ENOTSUP: another thing that is no regular file; or
 * the errno of open(2).
 */
int file_open_regular(const char *path, FILE **ret_stream);

/*
 * Where text begins: behind the byte order mark with which some editors begin a file in UTF-8. `text` need not end
 * with a NUL.
 */
const char *file_text_begin(const char *text, size_t length);

#endif
