/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who listens where: counted by the hooks that see the guard's listeners come and go, asked by the one
 * that sees knocks before their listener is found.
 */
#ifndef CONNGUARD_LISTENERS_BPF_H
#define CONNGUARD_LISTENERS_BPF_H

#include "maps.bpf.h"

/* 1 for any IPv6 address. */
static __always_inline int place_is_any_ipv6(const struct listen_place *place)
{
	__u64 halves[2];

	__builtin_memcpy(halves, place->address, sizeof(halves));
	return !halves[0] && !halves[1];
}

/* Any address of one family. */
static __always_inline struct listen_place place_of_any(__u16 port, int ipv4)
{
	struct listen_place any = { .port = port };

	if (ipv4)
		any.address[10] = any.address[11] = 0xff;
	return any;
}

/* One listener of ours more or (`by` -1) less. A count that is lost is one too few: then knocks pass. */
static __always_inline void place_count(const struct listen_place *place, __s32 by)
{
	struct place_listeners *there = bpf_map_lookup_elem(&listeners, place);
	const struct place_listeners nobody = {};

	if (!there && by > 0) {
		bpf_map_update_elem(&listeners, place, &nobody, BPF_NOEXIST);
		there = bpf_map_lookup_elem(&listeners, place);
	}
	if (!there)
		return;
	if (by > 0 && there->ours <= 0)
		there->since_ns = bpf_ktime_get_boot_ns();
	__sync_fetch_and_add(&there->ours, by);
	if (there->ours <= 0 && !there->others)
		bpf_map_delete_elem(&listeners, place);
}

/* The socket has begun to listen, or is found to. Not inline: the stack is small. */
static __attribute__((noinline, unused)) void listening_begins(struct listening *socket)
{
	struct listen_place any = place_of_any(socket->place.port, 1);

	if (socket->counted)
		return;
	socket->counted = 1;
	place_count(&socket->place, 1);
	if (socket->ipv4_also)
		place_count(&any, 1);
}

/* The socket, if it listened, does so no longer. Not inline: as above. */
static __attribute__((noinline, unused)) void listening_ends(struct listening *socket)
{
	struct listen_place any;

	if (!socket || !socket->counted)
		return;
	any = place_of_any(socket->place.port, 1);
	socket->counted = 0;
	place_count(&socket->place, -1);
	if (socket->ipv4_also)
		place_count(&any, -1);
}

#endif
