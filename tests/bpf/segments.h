/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The test as the peer: hand-made TCP segments to and from this host, through a tun device.
 *
 * Owns the device, its addresses and routes, and the form of the packets. Knows nothing of guards.
 * Everything here fails the running test when something goes wrong that the test is not about.
 */
#ifndef TESTS_BPF_SEGMENTS_H
#define TESTS_BPF_SEGMENTS_H

#include "fixture.h"

#include <netinet/tcp.h>

/* Nobody listens here: a SYN is answered with RST. */
#define CLOSED_PORT 24099

#define HERE4  "10.97.0.1"
#define HERE6  "fd97::1"
/* Beyond the tun device. */
#define THERE4 "10.97.1.2"
#define OTHER4 "10.97.1.3"
#define THERE6 "fd97:1::2"

/* 1 when there is no /dev/net/tun; says that all is skipped then. */
bool segments_lack(void);

/*
 * Make the device and give this host its addresses. The process stays on one processor from here on:
 * segments of one sender on one processor are handled in the order in which they were sent.
 */
void segments_open(void);
void segments_close(void);

/* A TCP segment to be sent by the peer, or received by it. */
struct segment {
	const char *source; /* what is sent only: text */
	const char *destination;
	__u16 source_port;
	__u16 destination_port;
	__u32 sequence;
	__u32 acknowledgment;
	__u8 flags;
	bool ip_options; /* IPv4: 8 bytes of them */
	bool extension_header; /* IPv6: destination options */
	size_t tcp_bytes; /* of the TCP header; 0: all 20 */
	const char *data; /* text; of what was received NULL */
	size_t data_bytes; /* of what was received */
};

/* Room for any packet_of(). */
#define PACKET_MAX 128

/* A port that no segment of the test's was sent from. */
__u16 fresh_port(void);

/* A knock at the guarded port, from a port of its own. */
struct segment syn_from(const char *source);

/* The packet of a segment, in `packet`: its length. */
size_t packet_of(const struct segment *segment, __u8 packet[PACKET_MAX]);

void send_segment(const struct segment *segment);

/* Send it, and see that it has been looked at; its answer, if there is one, is thrown away. */
void pass_segment(const struct segment *segment);

/*
 * A router says that the SYN of this host to which `answer` would be the answer cannot go on: by ICMP,
 * or for IPv6 by ICMPv6.
 */
void send_icmp(const struct segment *answer, __u8 type, __u8 code);

/* Wait for the next TCP segment that this host sends to the peers. 0: none came. */
bool receive_segment(struct segment *ret_segment);

/* The answer to a segment. */
enum answer {
	NO_ANSWER,
	ANSWER_SYN_ACK,
	ANSWER_RESET,
	ANSWER_ACK,
};

/*
 * Send a segment and tell how this host answered it. No answer: the answer to another segment that
 * was sent afterwards came, and none to this one.
 */
enum answer answer_to(const struct segment *segment, struct segment *ret_answer);

/*
 * How many SYNs of ours have come to the peers from this port of this host until now, retransmissions
 * included.
 */
unsigned int syns_seen(__u16 port);

/* Wait until there are more than `seen`. */
void await_syn(__u16 port, unsigned int seen);

/* A dial whose SYN the peer has. */
struct our_dial {
	int fd;
	struct segment syn_ack; /* the peer's answer to it */
};

/* A socket bound to an address of this host, which dials without waiting. */
int dialing_socket(const char *here);

/* Wait for the SYN of this socket's dial to `port`. IPv4 peers are named so, whatever the socket's family. */
struct our_dial dial_seen(int fd, const char *peer, __u16 port);

/* Dial without waiting, from HERE4 or HERE6, and wait for the SYN. */
struct our_dial dial_out(const char *peer, __u16 port);

/* The dial is established, or has failed with nothing. */
bool connected(int fd);

/* The next segment of the peer, from its present place in the stream. */
struct segment next_of(const struct our_dial *ours, __u8 flags);

#endif
