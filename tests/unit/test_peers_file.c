/* SPDX-License-Identifier: BSD-2-Clause */
/* The peers file: what it takes, and what it says of a mistake. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "pure/address_text.h"
#include "pure/peers_file.h"

static int parse(const char *text, size_t length, size_t max, struct known_peer **ret_peers,
		 size_t *ret_count, struct config_error *ret_error)
{
	FILE *stream = length ? fmemopen((void *)text, length, "r") : fopen("/dev/null", "r");
	int result;

	assert_non_null(stream);
	result = peers_file_parse(stream, "p", max, ret_peers, ret_count, ret_error);
	fclose(stream);
	return result;
}

static void refuse(const char *text, size_t length, size_t max, const char *expected)
{
	struct known_peer *peers = (struct known_peer *)&length;
	struct config_error error;
	size_t count = 77;

	assert_int_equal(parse(text, length, max, &peers, &count, &error), -EINVAL);
	assert_string_equal(error.text, expected);
	assert_ptr_equal(peers, &length);
	assert_int_equal(count, 77);
}

static void takes_peers(void **state)
{
	static const char text[] = "# known peers\n"
				   "\n"
				   "192.0.2.7\n"
				   "  2001:db8::7 \t limit=2  # two by design\r\n"
				   "   # nothing\n"
				   "::ffff:192.0.2.8#x\n"
				   "192.0.2.9 limit=7";
	static const char *const expected[] = { "192.0.2.7", "2001:db8::7", "192.0.2.8",
						"192.0.2.9" };
	static const __u32 limits[] = { 0, 2, 0, 7 };
	char shown[ADDRESS_TEXT_MAX];
	struct config_error error;
	struct known_peer *peers;
	size_t count, index;

	(void)state;
	assert_int_equal(parse(text, strlen(text), 4, &peers, &count, &error), 0);
	assert_int_equal(count, 4);
	for (index = 0; index < count; index++) {
		assert_string_equal(address_to_text(&peers[index].address, shown), expected[index]);
		assert_int_equal(peers[index].limit, limits[index]);
	}
	free(peers);
}

/* As some editors begin a file; anywhere else it is no text. */
static void skips_a_byte_order_mark(void **state)
{
	static const char text[] = "\xef\xbb\xbf" "192.0.2.7\n192.0.2.8\n";
	static const char later[] = "192.0.2.7\n\xef\xbb\xbf" "192.0.2.8\n";
	struct known_peer *peers;
	struct config_error error;
	size_t count;

	(void)state;
	assert_int_equal(parse(text, strlen(text), 4, &peers, &count, &error), 0);
	assert_int_equal(count, 2);
	assert_int_equal(peers[0].address.bytes[15], 7);
	free(peers);
	assert_int_equal(parse(later, strlen(later), 4, &peers, &count, &error), -EINVAL);
	assert_non_null(strstr(error.text, ":2: "));
}

static void takes_nothing(void **state)
{
	struct known_peer *peers = (struct known_peer *)&state;
	struct config_error error;
	size_t count = 77;

	(void)state;
	assert_int_equal(parse("", 0, 4, &peers, &count, &error), 0);
	assert_null(peers);
	assert_int_equal(count, 0);
	assert_int_equal(parse("# none\n\n", 8, 4, &peers, &count, &error), 0);
	assert_null(peers);
}

static void refuses_lines(void **state)
{
	static const char unicast[] = "loopback, unspecified or multicast, expected a unicast "
				      "address";
	static const char limit[] = "not understood, expected limit=N with N from 1 to 7 or "
				    "nothing";
	static const struct {
		const char *line;
		const char *word;
		const char *problem;
	} rows[] = {
		{ "example.org", "example.org",
		  "not an address, expected IPv4 or IPv6 without port or scope" },
		{ "192.0.2.7:80", "192.0.2.7:80",
		  "not an address, expected IPv4 or IPv6 without port or scope" },
		{ "10.0.0.0/8", "10.0.0.0/8",
		  "not an address, expected IPv4 or IPv6 without port or scope" },
		{ "127.0.0.1", "127.0.0.1", unicast },
		{ "0.0.0.0", "0.0.0.0", unicast },
		{ "224.0.0.1", "224.0.0.1", unicast },
		{ "255.255.255.255", "255.255.255.255", unicast },
		{ "::1", "::1", unicast },
		{ "::", "::", unicast },
		{ "ff02::1", "ff02::1", unicast },
		{ "192.0.2.7 limit=0", "limit=0", limit },
		{ "192.0.2.7 limit=8", "limit=8", limit },
		{ "192.0.2.7 limit=", "limit=", limit },
		{ "192.0.2.7 limit=10", "limit=10", limit },
		{ "192.0.2.7 limit", "limit", limit },
		{ "192.0.2.7 192.0.2.8", "192.0.2.8", limit },
		{ "192.0.2.7 limit=2 x", "x", "not understood, expected the end of the line" },
	};
	char text[256], expected[256];
	size_t row;

	(void)state;
	for (row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
		snprintf(text, sizeof(text), "# first\n%s\n192.0.2.1\n", rows[row].line);
		snprintf(expected, sizeof(expected), "p:2: %s: %s", rows[row].word,
			 rows[row].problem);
		refuse(text, strlen(text), 4, expected);
	}
}

static void refuses_twice(void **state)
{
	static const char low_first[] = "2001:db8::9\n192.0.2.7\n# x\n192.0.2.8\n"
					"::ffff:192.0.2.7 limit=2\n2001:db8::9\n192.0.2.7\n";
	static const char high_first[] = "192.0.2.7\n2001:db8::9\n2001:db8::9\n192.0.2.7\n";

	(void)state;
	refuse(low_first, strlen(low_first), 9,
	       "p:5: 192.0.2.7: twice, expected once (line 2 has it)");
	refuse(high_first, strlen(high_first), 9,
	       "p:3: 2001:db8::9: twice, expected once (line 2 has it)");
}

static void refuses_too_many(void **state)
{
	static const char text[] = "192.0.2.1\n192.0.2.2\n192.0.2.3\n";

	(void)state;
	refuse(text, strlen(text), 2, "p:3: too many peers, expected at most 2 (max_peers)");
}

static void refuses_long_lines(void **state)
{
	static const char problem[] =
		"p:2: line too long or not text, expected at most 511 bytes";
	char text[2 * PEERS_FILE_LINE_MAX];
	struct config_error error;
	struct known_peer *peers;
	size_t count;

	(void)state;
	memset(text, ' ', sizeof(text));
	memcpy(text, "192.0.2.1\n192.0.2.2", 19);
	text[10 + PEERS_FILE_LINE_MAX] = '\n';
	refuse(text, sizeof(text), 4, problem);
	/* One byte less and it is in order. */
	text[10 + PEERS_FILE_LINE_MAX - 1] = '\n';
	assert_int_equal(parse(text, 10 + PEERS_FILE_LINE_MAX, 4, &peers, &count, &error), 0);
	assert_int_equal(count, 2);
	free(peers);
	refuse("192.0.2.1\n192.0.2.2\0 hidden\n192.0.2.3\n", 38, 4, problem);
}

static void many_peers(void **state)
{
	enum { PEERS = 3000 };
	char *text = malloc(PEERS * 32), *end = text, shown[ADDRESS_TEXT_MAX];
	struct config_error error;
	struct known_peer *peers;
	size_t count;
	int i;

	(void)state;
	assert_non_null(text);
	for (i = 0; i < PEERS; i++)
		end += sprintf(end, "2001:db8::%x\n", PEERS - i);
	assert_int_equal(parse(text, strlen(text), PEERS, &peers, &count, &error), 0);
	assert_int_equal(count, PEERS);
	assert_string_equal(address_to_text(&peers[0].address, shown), "2001:db8::bb8");
	assert_string_equal(address_to_text(&peers[PEERS - 1].address, shown), "2001:db8::1");
	free(peers);
	free(text);
}

/* Comments without end. */
static ssize_t read_comment(void *cookie, char *buffer, size_t size)
{
	(void)cookie;
	memset(buffer, '#', size);
	buffer[0] = '\n';
	return (ssize_t)size;
}

static void refuses_endless_files(void **state)
{
	const cookie_io_functions_t functions = { .read = read_comment };
	FILE *stream = fopencookie(NULL, "r", functions);
	struct known_peer *peers = NULL;
	struct config_error error;
	char buffer[256];
	size_t count;

	(void)state;
	assert_non_null(stream);
	setvbuf(stream, buffer, _IOFBF, sizeof(buffer));
	assert_int_equal(peers_file_parse(stream, "p", 4, &peers, &count, &error), -EINVAL);
	assert_non_null(strstr(error.text, ": file too large, expected at most 67108864 bytes"));
	fclose(stream);
}

static void reads_files(void **state)
{
	char directory[] = "/tmp/cgt-peers-XXXXXX", path[64], expected[256];
	struct known_peer *peers = NULL;
	struct config_error error;
	size_t count;
	FILE *stream;

	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/peers", directory);
	assert_int_equal(peers_file_read(path, 4, &peers, &count, &error), -ENOENT);
	snprintf(expected, sizeof(expected), "%s: cannot be opened: No such file or directory",
		 path);
	assert_string_equal(error.text, expected);
	stream = fopen(path, "w");
	fputs("192.0.2.7\n", stream);
	fclose(stream);
	assert_int_equal(peers_file_read(path, 4, &peers, &count, &error), 0);
	assert_int_equal(count, 1);
	free(peers);
	unlink(path);
	assert_int_equal(peers_file_read(directory, 4, &peers, &count, &error), -EISDIR);
	snprintf(expected, sizeof(expected), "%s: cannot be opened: Is a directory", directory);
	assert_string_equal(error.text, expected);
	/* It must not wait for a writer: the directory may be a service's own. */
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(peers_file_read(path, 4, &peers, &count, &error), -ENOTSUP);
	snprintf(expected, sizeof(expected), "%s: cannot be opened: expected a regular file", path);
	assert_string_equal(error.text, expected);
	unlink(path);
	assert_int_equal(peers_file_read("/dev/zero", 4, &peers, &count, &error), -ENOTSUP);
	rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_peers),
		cmocka_unit_test(skips_a_byte_order_mark),	    cmocka_unit_test(takes_nothing),
		cmocka_unit_test(refuses_lines),    cmocka_unit_test(refuses_twice),
		cmocka_unit_test(refuses_too_many), cmocka_unit_test(refuses_long_lines),
		cmocka_unit_test(many_peers),	    cmocka_unit_test(reads_files),
		cmocka_unit_test(refuses_endless_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
