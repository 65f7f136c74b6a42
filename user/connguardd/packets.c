// SPDX-License-Identifier: BSD-2-Clause
/* Packets that the daemon sends beside TCP, in the guarded network namespace. See daemon.h. */
#include "connguardd/daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "edge/raw.h"
#include "pure/packet.h"

struct packets {
	struct raw raw;
};

int packets_send(struct daemon *daemon, const void *packet, size_t length,
		 const struct peer_address *target, __u32 mark, __u32 interface)
{
	return raw_send(&daemon->packets->raw, packet, length, target, mark, interface);
}

void packets_let_in(struct daemon *daemon, const struct held_packet *held)
{
	__u8 bytes[HELD_BYTES_MAX];
	struct peer_address here;
	size_t length = held->length;

	if (length > sizeof(bytes))
		return;
	memcpy(bytes, held->bytes, length);
	if (!packet_renew_segment(bytes, length))
		return;
	/* By way of the loopback device, as what comes from others. */
	here = packet_destination(bytes);
	packets_send(daemon, bytes, length, &here, 0, 0);
}

void packets_follow(struct daemon *daemon)
{
	struct raw fresh;

	if (!daemon->packets || raw_open(&fresh))
		return;
	raw_close(&daemon->packets->raw);
	daemon->packets->raw = fresh;
}

int packets_start(struct daemon *daemon)
{
	int result;

	daemon->packets = calloc(1, sizeof(*daemon->packets));
	if (!daemon->packets)
		return -ENOMEM;
	result = raw_open(&daemon->packets->raw);
	if (result) {
		daemon->packets->raw = (struct raw)RAW_NONE;
		log_warning("the SYN of a dial that was kept, what was held, and the question to the other end of a "
			    "quiet link wait for TCP's own timers: a raw socket cannot be opened (%s)",
			    strerror(-result));
	}
	return 0;
}

void packets_stop(struct daemon *daemon)
{
	if (!daemon->packets)
		return;
	raw_close(&daemon->packets->raw);
	free(daemon->packets);
	daemon->packets = NULL;
}
