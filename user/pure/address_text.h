/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Peers and prefixes as text: "192.0.2.7", "2001:db8::7", "10.0.0.0/8".
 *
 * Owns the conversion in both directions. An IPv4 address and its IPv4-mapped form are the same
 * peer and print as the dotted quad. Plain addresses only: no brackets, no scope, no port, no host
 * name.
 */
#ifndef PURE_ADDRESS_TEXT_H
#define PURE_ADDRESS_TEXT_H

#include <connguard/abi.h>

/* Room for any address as text, NUL included (INET6_ADDRSTRLEN). */
#define ADDRESS_TEXT_MAX 46
/* Room for any prefix as text, NUL included: an address and "/128". */
#define PREFIX_TEXT_MAX (ADDRESS_TEXT_MAX + 4)

/* Writes the address to ret_text and returns it. */
const char *address_to_text(const struct peer_address *address, char ret_text[ADDRESS_TEXT_MAX]);

/* -EINVAL: neither an IPv4 nor an IPv6 address. */
int address_from_text(const char *text, struct peer_address *ret_address);

/* Writes the prefix, always with its length ("192.0.2.7/32"), to ret_text and returns it. */
const char *prefix_to_text(const struct exempt_prefix *prefix, char ret_text[PREFIX_TEXT_MAX]);

/*
 * "ADDRESS/LENGTH"; without "/LENGTH" the one address. The length of an IPv4 prefix counts as 96 +
 * LENGTH. -EINVAL: no address, no length, or bits set behind the length; *ret_problem (may be NULL)
 * is then a constant text that says which.
 */
int prefix_from_text(const char *text, struct exempt_prefix *ret_prefix, const char **ret_problem);

#endif
