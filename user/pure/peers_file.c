/* SPDX-License-Identifier: BSD-2-Clause */
/* See peers_file.h. */
#include "pure/peers_file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/files.h"
#include "pure/address_text.h"

#define FIRST_CAPACITY 64
#define BLANKS " \t\r\n"

/* An address and where it stands, to find the ones that are given twice. */
struct place {
	struct peer_address address;
	unsigned int line;
};

static int fail(struct config_error *ret_error, const char *file, unsigned int line,
		const char *format, ...) __attribute__((format(printf, 4, 5)));

static int fail(struct config_error *ret_error, const char *file, unsigned int line,
		const char *format, ...)
{
	va_list arguments;
	int end;

	end = snprintf(ret_error->text, sizeof(ret_error->text), "%.255s:%u: ", file, line);
	va_start(arguments, format);
	vsnprintf(ret_error->text + end, sizeof(ret_error->text) - (size_t)end, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

/* "limit=N", 1..PEER_LINKS_MAX. */
static int parse_limit(const char *word, __u32 *ret_limit)
{
	static const char prefix[] = "limit=";
	const char *digits = word + strlen(prefix);

	if (strncmp(word, prefix, strlen(prefix)) || strlen(digits) != 1 || *digits < '1' ||
	    *digits > '0' + PEER_LINKS_MAX)
		return -EINVAL;
	*ret_limit = (__u32)(*digits - '0');
	return 0;
}

/* One line without its comment. *ret_found: there is a peer on it. */
static int parse_line(char *text, const char *file, unsigned int line, struct known_peer *ret_peer,
		      bool *ret_found, struct config_error *ret_error)
{
	struct known_peer peer = { .limit = 0 };
	char *rest = NULL;
	const char *word = strtok_r(text, BLANKS, &rest);

	*ret_found = false;
	if (!word)
		return 0;
	if (address_from_text(word, &peer.address))
		return fail(ret_error, file, line,
			    "%s: not an address, expected IPv4 or IPv6 without port or scope",
			    word);
	if (!address_may_be_peer(&peer.address))
		return fail(ret_error, file, line,
			    "%s: loopback, unspecified or multicast, expected a unicast address",
			    word);
	word = strtok_r(NULL, BLANKS, &rest);
	if (word && parse_limit(word, &peer.limit))
		return fail(ret_error, file, line,
			    "%s: not understood, expected limit=N with N from 1 to %d or nothing",
			    word, PEER_LINKS_MAX);
	word = word ? strtok_r(NULL, BLANKS, &rest) : NULL;
	if (word)
		return fail(ret_error, file, line,
			    "%s: not understood, expected the end of the line", word);
	*ret_peer = peer;
	*ret_found = true;
	return 0;
}

static int compare_places(const void *left, const void *right)
{
	const struct place *left_place = left, *right_place = right;
	int order = memcmp(&left_place->address, &right_place->address,
			   sizeof(left_place->address));

	if (order)
		return order;
	return left_place->line < right_place->line ? -1 : 1;
}

/* The first line that repeats an address is an error. Reorders `places`. */
static int check_unique(struct place *places, size_t count, const char *file,
			struct config_error *ret_error)
{
	const struct place *first = NULL, *second = NULL;
	char text[ADDRESS_TEXT_MAX];
	size_t index;

	if (count)
		qsort(places, count, sizeof(*places), compare_places);
	for (index = 1; index < count; index++) {
		if (address_equal(&places[index - 1].address, &places[index].address) &&
		    (!second || places[index].line < second->line)) {
			first = &places[index - 1];
			second = &places[index];
		}
	}
	if (!second)
		return 0;
	return fail(ret_error, file, second->line, "%s: twice, expected once (line %u has it)",
		    address_to_text(&second->address, text), first->line);
}

/* Grow an array to `capacity` elements. */
static int grow(void *pointer_to_array, size_t capacity, size_t element_size)
{
	void **array = pointer_to_array;
	void *grown = reallocarray(*array, capacity, element_size);

	if (!grown)
		return -ENOMEM;
	*array = grown;
	return 0;
}

int peers_file_parse(FILE *stream, const char *file, size_t max, struct known_peer **ret_peers,
		     size_t *ret_count, struct config_error *ret_error)
{
	cleanup_free struct known_peer *peers = NULL;
	cleanup_free struct place *places = NULL;
	char text[PEERS_FILE_LINE_MAX + 1];
	size_t capacity = 0, count = 0, bytes = 0;
	unsigned int line = 0;
	int result;

	ret_error->text[0] = '\0';
	while (fgets(text, sizeof(text), stream)) {
		size_t length = strlen(text), begin;
		struct known_peer peer;
		bool found;

		line++;
		bytes += length;
		if (bytes > PEERS_FILE_MAX)
			return fail(ret_error, file, line, "file too large, expected at most %d bytes",
				    PEERS_FILE_MAX);
		/* Also what a NUL byte in the line looks like. */
		if ((!length || text[length - 1] != '\n') && !feof(stream))
			return fail(ret_error, file, line,
				    "line too long or not text, expected at most %d bytes",
				    PEERS_FILE_LINE_MAX - 1);
		text[strcspn(text, "#")] = '\0';
		begin = (size_t)((line == 1 ? file_text_begin(text, length) : text) - text);
		result = parse_line(text + begin, file, line, &peer, &found, ret_error);
		if (result)
			return result;
		if (!found)
			continue;
		if (count >= max)
			return fail(ret_error, file, line,
				    "too many peers, expected at most %zu (max_peers)", max);
		if (count == capacity) {
			capacity = capacity ? 2 * capacity : FIRST_CAPACITY;
			if (grow(&peers, capacity, sizeof(*peers)) ||
			    grow(&places, capacity, sizeof(*places)))
				return -ENOMEM;
		}
		peers[count] = peer;
		places[count] = (struct place){ .address = peer.address, .line = line };
		count++;
	}
	if (ferror(stream)) {
		result = errno ? -errno : -EIO;
		snprintf(ret_error->text, sizeof(ret_error->text), "%.255s: cannot be read: %s",
			 file, strerror(-result));
		return result;
	}
	result = check_unique(places, count, file, ret_error);
	if (result)
		return result;
	*ret_count = count;
	*ret_peers = take_pointer(peers);
	return 0;
}

int peers_file_read(const char *path, size_t max, struct known_peer **ret_peers, size_t *ret_count,
		    struct config_error *ret_error)
{
	cleanup_fclose FILE *stream = NULL;
	int result = file_open_regular(path, &stream);

	if (result) {
		snprintf(ret_error->text, sizeof(ret_error->text), "%.255s: cannot be opened: %s",
			 path, result == -ENOTSUP ? "expected a regular file" : strerror(-result));
		return result;
	}
	return peers_file_parse(stream, path, max, ret_peers, ret_count, ret_error);
}
