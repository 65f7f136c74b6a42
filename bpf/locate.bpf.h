/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where a link is at this end: what userspace looks its socket up by. */
#ifndef CONNGUARD_LOCATE_BPF_H
#define CONNGUARD_LOCATE_BPF_H

#include "owned.bpf.h"

/* The link of `cookie` learns the address of its own end. Not inline: the stack is small. */
static __attribute__((noinline)) void link_locate(const struct peer_address *address, __u64 cookie,
						  const __u8 local_address[16])
{
	struct peer_address key = *address;
	struct peer *peer = bpf_map_lookup_elem(&peers, &key);
	struct slot *slot;

	if (!peer)
		return;
	bpf_spin_lock(&peer->lock);
	slot = address_equal(&peer->address, &key) ? slot_of(peer, cookie) : 0;
	if (slot)
		__builtin_memcpy(slot->local_address, local_address, sizeof(slot->local_address));
	bpf_spin_unlock(&peer->lock);
}

#endif
