/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TCP segments as packets: what the daemon sends beside TCP.
 *
 * Pure: knows IP and TCP headers, no socket and no guard.
 */
#ifndef PURE_PACKET_H
#define PURE_PACKET_H

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
bool packet_renew_syn(__u8 *bytes, size_t length, __u32 aged_ms);

/*
 * Make the `length` bytes, the start of a packet with a segment of a connection, or all of it, a packet of their own: the
 * data that there is, with its checksum. False: it is a SYN or an RST, was damaged on its way, or is the start of one
 * that is signed as a whole (RFC 2385, RFC 5925).
 */
bool packet_renew_segment(__u8 *bytes, size_t length);

/* Where a packet goes that one of the above has taken for what it is. */
struct peer_address packet_destination(const __u8 *bytes);

/* A connection, as one end sees it. Addresses of one family. */
struct packet_ends {
	struct peer_address local, remote;
	__u16 local_port, remote_port; /* host byte order */
	__u32 unacknowledged; /* SND.UNA of RFC 9293: the first number that the other end has not acknowledged */
	__u32 expected;       /* RCV.NXT: the next number that is expected from it */
};

#define PACKET_PROBE_MAX 60

/*
 * What TCP's keepalive would send (RFC 9293, section 3.8.4): an ACK with the number before the first one
 * that is not acknowledged. Who has the connection answers with an ACK, who does not with an RST for the
 * number that is expected. Its hop limit is the highest, for there are services that take no other from a
 * neighbour (RFC 5082). Returns the length.
 */
size_t packet_probe(const struct packet_ends *ends, __u8 ret_bytes[PACKET_PROBE_MAX]);

#endif
