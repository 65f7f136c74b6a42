// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: any bytes as a peers file.
 *
 * Whatever they are, they are refused with the line and in words, or are a list of different peers.
 */
#include "input.h"

#include <errno.h>

#include "base/cleanup.h"
#include "pure/address_text.h"
#include "pure/peers_file.h"

#define FILE_NAME "fuzz.peers"
/* Few, so that "too many" is met; and more than the bytes can hold. */
#define FEW 3
#define MANY 100000

static void check_peers(const struct known_peer *peers, size_t count)
{
	char text[ADDRESS_TEXT_MAX];
	size_t i, j;

	must(!count == !peers);
	for (i = 0; i < count; i++) {
		struct peer_address address;

		must(peers[i].limit <= PEER_LINKS_MAX);
		must(!address_is_loopback(&peers[i].address));
		must(!address_from_text(address_to_text(&peers[i].address, text), &address));
		must(address_equal(&address, &peers[i].address));
		/* A few of them are enough to see an address that is there twice. */
		for (j = i > 64 ? i - 64 : 0; j < i; j++)
			must(!address_equal(&peers[i].address, &peers[j].address));
	}
}

/* 0 or the errno; *ret_count is -1 on failure. */
static int parse(const uint8_t *data, size_t size, size_t max, size_t *ret_count)
{
	static struct known_peer nobody;
	struct known_peer *peers = &nobody;
	/* An empty stream of its own: some C libraries make none out of no bytes. */
	cleanup_fclose FILE *stream =
		size ? fmemopen((void *)data, size, "r") : fopen("/dev/null", "re");
	struct config_error error;
	size_t count = (size_t)-1;
	int result;

	must(stream);
	memset(&error, 0xa5, sizeof(error));
	result = peers_file_parse(stream, FILE_NAME, max, &peers, &count, &error);
	*ret_count = count;
	if (result) {
		must(result == -EINVAL || result == -ENOMEM);
		must(peers == &nobody && count == (size_t)-1);
		if (result == -EINVAL) {
			must(memchr(error.text, '\0', sizeof(error.text)));
			must(!strncmp(error.text, FILE_NAME ":", strlen(FILE_NAME ":")));
			must(!strchr(error.text, '\n'));
		}
		return result;
	}
	must(count <= max);
	check_peers(peers, count);
	free(peers);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t few, many;
	int few_result, many_result;

	few_result = parse(data, size, FEW, &few);
	many_result = parse(data, size, MANY, &many);
	/* Room for more peers never makes a file worse. */
	if (!few_result)
		must(!many_result && many == few);
	if (!many_result)
		must(!few_result == (many <= FEW));
	return 0;
}
