/* SPDX-License-Identifier: BSD-2-Clause */
/* See address_text.h. The spelling of addresses is the C library's (inet_pton, inet_ntop). */
#include "pure/address_text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Bits in front of the IPv4 part of a mapped address. */
#define MAPPED_BITS 96

const char *address_to_text(const struct peer_address *address, char ret_text[ADDRESS_TEXT_MAX])
{
	if (address_is_ipv4(address))
		inet_ntop(AF_INET, &address->bytes[12], ret_text, ADDRESS_TEXT_MAX);
	else
		inet_ntop(AF_INET6, address->bytes, ret_text, ADDRESS_TEXT_MAX);
	return ret_text;
}

int address_from_text(const char *text, struct peer_address *ret_address)
{
	struct peer_address address = {};
	__u32 ipv4;

	if (inet_pton(AF_INET, text, &ipv4) == 1) {
		*ret_address = address_from_ipv4(ipv4);
		return 0;
	}
	if (inet_pton(AF_INET6, text, address.bytes) == 1) {
		*ret_address = address;
		return 0;
	}
	return -EINVAL;
}

const char *prefix_to_text(const struct exempt_prefix *prefix, char ret_text[PREFIX_TEXT_MAX])
{
	struct peer_address address = {};
	__u32 length = prefix->prefix_length;
	size_t end;

	memcpy(address.bytes, prefix->address, sizeof(address.bytes));
	address_to_text(&address, ret_text);
	if (address_is_ipv4(&address) && length >= MAPPED_BITS)
		length -= MAPPED_BITS;
	end = strlen(ret_text);
	snprintf(ret_text + end, PREFIX_TEXT_MAX - end, "/%u", length);
	return ret_text;
}

/* One to three digits and nothing else, at most `greatest`. */
static int length_from_text(const char *text, __u32 greatest, __u32 *ret_length)
{
	size_t digits = strspn(text, "0123456789");
	__u32 length = 0;

	if (!digits || digits > 3 || text[digits])
		return -EINVAL;
	for (; *text; text++)
		length = length * 10 + (__u32)(*text - '0');
	if (length > greatest)
		return -EINVAL;
	*ret_length = length;
	return 0;
}

int prefix_from_text(const char *text, struct exempt_prefix *ret_prefix, const char **ret_problem)
{
	const char *slash = strchr(text, '/');
	size_t address_length = slash ? (size_t)(slash - text) : strlen(text);
	char address_part[ADDRESS_TEXT_MAX];
	const char *unused_problem;
	struct exempt_prefix prefix;
	struct peer_address address = {};
	__u32 offset, length, bit;

	if (!ret_problem)
		ret_problem = &unused_problem;
	if (address_length >= sizeof(address_part)) {
		*ret_problem = "not an address";
		return -EINVAL;
	}
	memcpy(address_part, text, address_length);
	address_part[address_length] = '\0';
	if (address_from_text(address_part, &address)) {
		*ret_problem = "not an address";
		return -EINVAL;
	}
	/* As it is written: "::ffff:10.0.0.0/104" counts in 128 bits, "10.0.0.0/8" in 32. */
	offset = strchr(address_part, ':') ? 0 : MAPPED_BITS;
	length = 128 - offset;
	if (slash && length_from_text(slash + 1, 128 - offset, &length)) {
		*ret_problem = offset ? "prefix length is not a number from 0 to 32" :
					"prefix length is not a number from 0 to 128";
		return -EINVAL;
	}
	for (bit = offset + length; bit < 128; bit++) {
		if (address.bytes[bit / 8] & (0x80 >> bit % 8)) {
			*ret_problem = "bits set behind the prefix length";
			return -EINVAL;
		}
	}
	memset(&prefix, 0, sizeof(prefix));
	prefix.prefix_length = offset + length;
	memcpy(prefix.address, address.bytes, sizeof(prefix.address));
	*ret_prefix = prefix;
	return 0;
}
