// SPDX-License-Identifier: BSD-2-Clause
/* Ending links from outside. See links.h. */
#include "edge/links.h"

#include <errno.h>
#include <string.h>

#include <connguard/rules.h>

struct tcp_socket links_known(const struct peer_address *address, const struct slot *slot)
{
	struct tcp_socket socket = { .cookie = slot->cookie,
				     .remote = *address,
				     .local_port = slot->local_port,
				     .remote_port = slot->remote_port };

	memcpy(socket.local.bytes, slot->local_address, sizeof(socket.local.bytes));
	return socket;
}

int links_socket(struct sockets *sockets, const struct peer_address *address, const struct slot *slot,
		 struct tcp_socket *ret_socket)
{
	const struct tcp_socket socket = links_known(address, slot);
	int result = sockets_query(sockets, &socket, ret_socket);

	/* One whose address is not known yet, and one that is bound to an interface, is found by this only. */
	return result == -ENOENT ? sockets_find(sockets, slot->cookie, ret_socket) : result;
}

static int cut_at_service(const struct guard *guard, struct sockets *sockets,
			  const struct peer_address *address, int *missing)
{
	struct guard_command release = { .operation = COMMAND_RELEASE,
					 .address = *address,
					 .value = CAUSE_link_cut };
	int destroyed = 0, result;
	struct tcp_socket victim;
	struct peer peer;

	result = guard_peer_read(guard, address, &peer);
	if (result)
		return result;
	for (int i = 0; i < PEER_SLOTS; i++) {
		if (peer.slots[i].kind != SLOT_LINK)
			continue;
		release.cookie = peer.slots[i].cookie;
		result = links_socket(sockets, address, &peer.slots[i], &victim);
		if (!result) {
			guard_command(guard, &release);
			result = sockets_destroy(sockets, &victim);
		}
		if (!result)
			destroyed++;
		else if (result == -ENOENT)
			(*missing)++;
		else
			return result;
	}
	return destroyed;
}

int links_cut(const struct guard *guard, struct sockets *sockets,
	      const struct peer_address *address, int *ret_missing)
{
	__u16 services[GUARD_PORTS_MAX];
	struct peer_address at = *address;
	int destroyed = 0, missing = 0;
	bool found = false;
	size_t count;
	int result = guard_services_read(guard, services, GUARD_PORTS_MAX, &count);

	if (result)
		return result;
	for (size_t i = 0; i < count; i++) {
		at.service = services[i];
		result = cut_at_service(guard, sockets, &at, &missing);
		if (result < 0 && result != -ENOENT)
			return result;
		found = found || result >= 0;
		destroyed += result > 0 ? result : 0;
	}
	*ret_missing = missing;
	return found ? destroyed : -ENOENT;
}

int links_destroy_surplus(const struct guard *guard, struct sockets *sockets,
			  const struct peer_address *address, __u64 cookie)
{
	struct tcp_socket victim, other;
	const struct slot *slot;
	bool another = false;
	struct peer peer;
	int result = guard_peer_read(guard, address, &peer);

	if (result)
		return result;
	slot = slot_of(&peer, cookie);
	result = slot ? links_socket(sockets, address, slot, &victim) :
			sockets_find(sockets, cookie, &victim);
	if (result)
		return result;
	/* The map may be behind the world: ask the sockets themselves before taking one away. */
	for (int i = 0; i < PEER_SLOTS && !another; i++)
		another = peer.slots[i].kind == SLOT_LINK && peer.slots[i].cookie != cookie &&
			  !(peer.slots[i].flags & SLOT_DOOMED) &&
			  links_socket(sockets, address, &peer.slots[i], &other) == 0 &&
			  other.state == TCP_ESTABLISHED;
	return another ? sockets_destroy(sockets, &victim) : -EBUSY;
}

int links_destroy_replaced(const struct guard *guard, struct sockets *sockets,
			   const struct peer_address *address, __u64 cookie)
{
	const struct slot *slot = NULL;
	struct tcp_socket victim;
	struct peer peer;
	int result = guard_peer_read(guard, address, &peer);

	if (!result)
		slot = slot_of(&peer, cookie);
	if (result || !slot || !(slot->flags & SLOT_UNANSWERED) || !(slot->flags & SLOT_DOOMED))
		return result ? result : -ENOENT;
	result = links_socket(sockets, address, slot, &victim);
	return result ? result : sockets_destroy(sockets, &victim);
}

int links_end_dial(struct sockets *sockets, const struct peer_address *address,
		   const struct slot *claim)
{
	struct tcp_socket dial;
	int result = links_socket(sockets, address, claim, &dial);

	if (!result && dial.state != TCP_SYN_SENT)
		result = -ENOENT;
	return result ? result : sockets_destroy(sockets, &dial);
}
