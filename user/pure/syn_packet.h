/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A SYN, as a packet: what has to be changed in a copy of one before it is sent again later.
 *
 * Pure: knows IP and TCP headers, no socket and no guard.
 */
#ifndef PURE_SYN_PACKET_H
#define PURE_SYN_PACKET_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

#include <connguard/address.h>

/*
 * Make the packet of `length` bytes, an IP header and a TCP header without data, what TCP would send now,
 * `aged_ms` milliseconds after it made it: its timestamp goes on (RFC 7323), else the answer would look
 * like a very long round trip; and it gets its checksum (RFC 9293, section 3.1). False: it is not a SYN,
 * or one that cannot be changed (RFC 5925 signs the options).
 */
bool syn_packet_renew(__u8 *bytes, size_t length, __u32 aged_ms);

/* Where a packet that syn_packet_renew() has taken for one goes. */
struct peer_address syn_packet_destination(const __u8 *bytes);

#endif
