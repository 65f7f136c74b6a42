// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: any text as an address, a prefix, a duration or the name of an errno.
 *
 * These come from the command line, the control socket and files alike. What is taken comes back from its
 * own text; what is not is refused with a reason and changes nothing; and addresses are those of the C
 * library, no more and no fewer.
 */
#include "input.h"

#include <arpa/inet.h>
#include <errno.h>

#include <connguard/rules.h>

#include "base/clock.h"
#include "pure/address_text.h"
#include "pure/names.h"

/* What a ret_ argument holds that was not touched. */
#define UNTOUCHED 0xa5

static void check_address(const char *text)
{
	struct peer_address address, again, untouched;
	char shown[ADDRESS_TEXT_MAX];
	unsigned char bytes[16];
	int taken;

	memset(&address, UNTOUCHED, sizeof(address));
	memset(&untouched, UNTOUCHED, sizeof(untouched));
	taken = !address_from_text(text, &address);
	must(taken == (inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1));
	if (!taken) {
		must(!memcmp(&address, &untouched, sizeof(address)));
		return;
	}
	must(address_to_text(&address, shown) == shown);
	must(memchr(shown, '\0', sizeof(shown)));
	must(!address_from_text(shown, &again));
	must(address_equal(&address, &again));
	/* Every IPv4 address has one spelling, whichever it came in. */
	must(address_is_ipv4(&address) == !strchr(shown, ':'));
	must(!address_may_be_peer(&address) || !address_is_loopback(&address));
}

static void check_prefix(const char *text)
{
	struct exempt_prefix prefix, again, untouched;
	char shown[PREFIX_TEXT_MAX];
	const char *problem = NULL;
	struct peer_address address;

	memset(&prefix, UNTOUCHED, sizeof(prefix));
	memset(&untouched, UNTOUCHED, sizeof(untouched));
	if (prefix_from_text(text, &prefix, &problem)) {
		must(problem && *problem);
		must(!memcmp(&prefix, &untouched, sizeof(prefix)));
		must(address_from_text(text, &address));
		must(prefix_from_text(text, &prefix, NULL));
		return;
	}
	must(prefix.prefix_length <= 128);
	for (unsigned int bit = prefix.prefix_length; bit < 128; bit++)
		must(!(prefix.address[bit / 8] & 0x80 >> bit % 8));
	must(prefix_to_text(&prefix, shown) == shown);
	must(memchr(shown, '\0', sizeof(shown)));
	must(!prefix_from_text(shown, &again, NULL));
	must(!memcmp(&prefix, &again, sizeof(prefix)));
}

static void check_duration(const char *text)
{
	__u64 duration = 0xa5a5, again;
	char shown[CLOCK_DURATION_TEXT_MAX];
	const char *problem = NULL;
	int result = clock_duration_parse(text, &duration, &problem);

	if (result) {
		must(result == -EINVAL || result == -ERANGE);
		must(problem && *problem && duration == 0xa5a5);
		return;
	}
	must(clock_duration_format(duration, shown) == shown);
	must(memchr(shown, '\0', sizeof(shown)));
	/* Rounded down, by less than its greatest unit. */
	must(!clock_duration_parse(shown, &again, NULL));
	must(again <= duration && again >= duration / 2);
}

static void check_errno(const char *text)
{
	__u32 number = 0xa5a5;
	const char *problem = NULL;

	if (names_errno_parse(text, &number, &problem)) {
		must(problem && *problem && number == 0xa5a5);
		return;
	}
	must(number && !strcmp(names_errno(number), text));
	/* To no runtime may a refusal look like a dial under way, or like its own mistake. */
	must(number != EISCONN && number != EALREADY && number != EINPROGRESS && number != EAGAIN &&
	     number != EINTR && number != EINVAL && number != EADDRNOTAVAIL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	enum cause cause;

	must(text);
	memcpy(text, data, size);
	text[size] = '\0';
	check_address(text);
	check_prefix(text);
	check_duration(text);
	check_errno(text);
	if (!names_cause_parse(text, &cause))
		must(cause < CAUSE_COUNT && !strcmp(names_cause(cause), text));
	free(text);
	return 0;
}
