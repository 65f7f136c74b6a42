// SPDX-License-Identifier: BSD-2-Clause
/* Packets that the daemon sends beside TCP, in the guarded network namespace. See daemon.h. */
#include "connguardd/daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <connguard/rules.h>

#include "base/clock.h"
#include "base/log.h"
#include "edge/raw.h"
#include "pure/packet.h"

/*
 * The application has so long to hear of the end of its dial: else it may find both ready, and turn away who comes while
 * it dials.
 */
#define HEARS_NS (10 * NS_PER_MS)
/* Their TCP has repeated by then what was held. */
#define HELD_MAX_NS NS_PER_SECOND
/* Packets that wait at a time; what further ones carry is repeated. */
#define WAITING_MAX 64

struct waiting_packet {
	__u64 due_ns;
	size_t length;
	__u8 bytes[HELD_BYTES_MAX];
};

struct packets {
	struct raw raw;
	struct event *let_in;
	struct waiting_packet waiting[WAITING_MAX]; /* a ring, by due_ns */
	size_t first, count;
};

int packets_send(struct daemon *daemon, const void *packet, size_t length,
		 const struct peer_address *target, __u32 mark, __u32 interface)
{
	return raw_send(&daemon->packets->raw, packet, length, target, mark, interface);
}

void packets_let_in(struct daemon *daemon, const __u8 *packet, size_t length)
{
	struct peer_address here = packet_destination(packet);

	packets_send(daemon, packet, length, &here, 0, 0);
}

static void let_in_when_due(struct packets *packets)
{
	__u64 now = clock_now_ns(), due_ns = packets->waiting[packets->first].due_ns;
	const struct timeval left = { .tv_usec = due_ns > now ? (suseconds_t)((due_ns - now) / 1000) : 0 };

	evtimer_add(packets->let_in, &left);
}

static void on_let_in(evutil_socket_t fd, short what, void *argument)
{
	struct daemon *daemon = argument;
	struct packets *packets = daemon->packets;
	__u64 now = clock_now_ns();

	(void)fd;
	(void)what;
	for (; packets->count && packets->waiting[packets->first].due_ns <= now; packets->count--) {
		const struct waiting_packet *packet = &packets->waiting[packets->first];

		packets_let_in(daemon, packet->bytes, packet->length);
		packets->first = (packets->first + 1) % WAITING_MAX;
	}
	if (packets->count)
		let_in_when_due(packets);
}

void packets_let_in_soon(struct daemon *daemon, const struct held_packet *held)
{
	struct packets *packets = daemon->packets;
	struct waiting_packet *packet = &packets->waiting[(packets->first + packets->count) % WAITING_MAX];
	__u64 now = clock_now_ns();

	/* The ring may have it from before this daemon. */
	if (packets->count == WAITING_MAX || held->length > sizeof(packet->bytes) ||
	    now - held->event.time_ns > HELD_MAX_NS)
		return;
	memcpy(packet->bytes, held->bytes, held->length);
	packet->length = held->length;
	packet->due_ns = now + HEARS_NS;
	if (packet_renew_segment(packet->bytes, packet->length) && packets->count++ == 0)
		let_in_when_due(packets);
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
	daemon->packets->raw = (struct raw)RAW_NONE;
	daemon->packets->let_in = evtimer_new(daemon->base, on_let_in, daemon);
	if (!daemon->packets->let_in)
		return -ENOMEM;
	result = raw_open(&daemon->packets->raw);
	if (result)
		log_warning("the SYN of a dial that was kept, what was held, and the question to the other end of a "
			    "quiet link wait for TCP's own timers: a raw socket cannot be opened (%s)",
			    strerror(-result));
	return 0;
}

void packets_stop(struct daemon *daemon)
{
	if (!daemon->packets)
		return;
	if (daemon->packets->let_in)
		event_free(daemon->packets->let_in);
	raw_close(&daemon->packets->raw);
	free(daemon->packets);
	daemon->packets = NULL;
}
