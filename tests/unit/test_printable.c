/* SPDX-License-Identifier: BSD-2-Clause */
/* What may be shown on a terminal, and what becomes of the rest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/printable.h"

static void becomes(const char *text, const char *expected)
{
	char copy[64];

	assert_true(strlen(text) < sizeof(copy));
	strcpy(copy, text);
	assert_int_equal(text_is_printable(text), !strcmp(text, expected));
	assert_ptr_equal(text_make_printable(copy), copy);
	assert_string_equal(copy, expected);
	assert_true(text_is_printable(copy));
}

static void letters_stay(void **state)
{
	(void)state;
	becomes("", "");
	becomes(" ~ plain", " ~ plain");
	/* The first and the last of each length but one; e with caron has the byte 9b in it. */
	becomes("\xc2\xa0 \xdf\xbf \xe0\xa0\x80 \xef\xbf\xbf \xf0\x90\x80\x80 \xf4\x8f\xbf\xbf \xc4\x9b",
		"\xc2\xa0 \xdf\xbf \xe0\xa0\x80 \xef\xbf\xbf \xf0\x90\x80\x80 \xf4\x8f\xbf\xbf \xc4\x9b");
	becomes("\xed\x9f\xbf \xee\x80\x80", "\xed\x9f\xbf \xee\x80\x80");
}

static void controls_go(void **state)
{
	char text[8], expected[8];

	(void)state;
	for (unsigned int byte = 1; byte < 256; byte++) {
		bool plain = byte >= ' ' && byte < 0x7f;

		/* Alone: C0, DEL, raw C1, and bytes that begin a letter or go on with one. */
		snprintf(text, sizeof(text), "a%cb", (char)byte);
		snprintf(expected, sizeof(expected), "a%cb", plain ? (char)byte : '?');
		becomes(text, expected);
	}
	for (unsigned int byte = 0x80; byte <= 0x9f; byte++) {
		snprintf(text, sizeof(text), "a\xc2%c", (char)byte);
		becomes(text, "a??");
	}
	/* U+2028, U+202E, U+2066, U+2069; their neighbours stay. */
	becomes("\xe2\x80\xa8 \xe2\x80\xae \xe2\x81\xa6 \xe2\x81\xa9", "??? ??? ??? ???");
	becomes("\xe2\x80\xa7 \xe2\x80\xaf \xe2\x81\xa5 \xe2\x81\xaa", "\xe2\x80\xa7 \xe2\x80\xaf \xe2\x81\xa5 \xe2\x81\xaa");
}

static void what_is_no_letter_goes(void **state)
{
	(void)state;
	/* Longer forms of U+009B, '/' and U+10000 less one. */
	becomes("\xe0\x82\x9b \xc0\xaf \xf0\x8f\xbf\xbf", "??? ?? ????");
	/* Half of a pair, and beyond the last letter. */
	becomes("\xed\xa0\x80 \xed\xbf\xbf \xf4\x90\x80\x80 \xf8\x88\x80\x80\x80", "??? ??? ???? ?????");
	/* Cut, by the end or by another letter. */
	becomes("\xe2\x82", "??");
	becomes("\xe2\x82x\xf0\x9f\x98", "??x???");
	becomes("\xe2\xc3\xa9", "?\xc3\xa9");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(letters_stay),
		cmocka_unit_test(controls_go),
		cmocka_unit_test(what_is_no_letter_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
