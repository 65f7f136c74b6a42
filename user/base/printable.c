/* SPDX-License-Identifier: BSD-2-Clause */
/* See printable.h. */
#include "base/printable.h"

#include <stddef.h>
#include <stdio.h>

#include <linux/types.h>

/* Bytes of a complaint, NUL included. */
#define COMPLAINT_MAX 2048

/* What a byte that begins a letter says of it: RFC 3629, section 3. */
static const struct {
	unsigned char mask, lead; /* the byte under the mask is `lead` */
	size_t length;
	__u32 least; /* what is smaller has a shorter form, which is the only one */
} forms[] = {
	{ 0x80, 0x00, 1, 0 },
	{ 0xe0, 0xc0, 2, 0x80 },
	{ 0xf0, 0xe0, 3, 0x800 },
	{ 0xf8, 0xf0, 4, 0x10000 },
};

static bool is_control(__u32 letter)
{
	return letter < ' ' || (letter >= 0x7f && letter <= 0x9f) ||
	       /* U+2028 and U+2029: separators; up to U+202E, and U+2066 to U+2069: direction. */
	       (letter >= 0x2028 && letter <= 0x202e) || (letter >= 0x2066 && letter <= 0x2069);
}

static bool is_letter(__u32 number, __u32 least)
{
	/* U+D800 to U+DFFF are halves of UTF-16's pairs. */
	return number >= least && number <= 0x10ffff && (number < 0xd800 || number > 0xdfff);
}

/*
 * Bytes of the letter at `text`, which does not end there. *ret_shown: it may be shown. What is no letter is one
 * byte that may not.
 */
static size_t look(const char *text, bool *ret_shown)
{
	const unsigned char *bytes = (const unsigned char *)text;

	*ret_shown = false;
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		__u32 letter = bytes[0] & (unsigned char)~forms[i].mask;
		size_t length;

		if ((bytes[0] & forms[i].mask) != forms[i].lead)
			continue;
		/* The NUL at the end continues nothing. */
		for (length = 1; length < forms[i].length && (bytes[length] & 0xc0) == 0x80; length++)
			letter = letter << 6 | (bytes[length] & 0x3f);
		if (length < forms[i].length || !is_letter(letter, forms[i].least))
			return 1;
		*ret_shown = !is_control(letter);
		return length;
	}
	return 1;
}

bool text_is_printable(const char *text)
{
	bool shown = true;

	while (*text && shown)
		text += look(text, &shown);
	return shown;
}

char *text_make_printable(char *text)
{
	for (char *at = text; *at;) {
		bool shown;
		size_t length = look(at, &shown);

		for (; length; length--, at++)
			if (!shown)
				*at = '?';
	}
	return text;
}

void print_complaint(const char *program, const char *format, va_list arguments)
{
	char text[COMPLAINT_MAX];

	vsnprintf(text, sizeof(text), format, arguments);
	fprintf(stderr, "%s: %s\n", program, text_make_printable(text));
}
