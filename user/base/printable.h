/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Text that others chose (names of processes, paths, values in a file, a daemon's answer), made fit for a log
 * and a terminal.
 *
 * Owns what may be shown: well-formed UTF-8 (RFC 3629) without control characters. Those are C0, DEL and
 * C1 (ISO 6429: a terminal obeys U+009B as it does ESC [), the separators of lines and paragraphs, and what
 * turns the direction of the text around it. Everything else of them, and each byte that is no part of a
 * letter, a raw C1 among them, is shown as '?'.
 */
#ifndef BASE_PRINTABLE_H
#define BASE_PRINTABLE_H

#include <stdarg.h>
#include <stdbool.h>

/* Is there nothing in it that may not be shown? */
bool text_is_printable(const char *text);

/*
 * Each byte of what may not be shown becomes '?': the length stays, and a text that was cut in the middle of a
 * letter is whole again. Returns `text`.
 */
char *text_make_printable(char *text);

/*
 * "PROGRAM: text" and a newline on standard error, the text made printable; what is longer than 2,047 bytes is
 * cut.
 */
void print_complaint(const char *program, const char *format, va_list arguments)
	__attribute__((format(printf, 2, 0)));

#endif
