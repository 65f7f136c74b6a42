// SPDX-License-Identifier: BSD-2-Clause
/* Ending links from outside. See links.h. */
#include "edge/links.h"

#include <errno.h>

int links_cut(const struct guard *guard, struct sockets *sockets,
	      const struct peer_address *address, int *ret_missing)
{
	struct guard_command release = { .operation = COMMAND_RELEASE,
					 .address = *address,
					 .value = CAUSE_link_cut };
	int destroyed = 0, missing = 0, result;
	struct tcp_socket victim;
	struct peer peer;

	result = guard_peer_read(guard, address, &peer);
	if (result)
		return result;
	for (int i = 0; i < PEER_SLOTS; i++) {
		if (peer.slots[i].kind != SLOT_LINK)
			continue;
		release.cookie = peer.slots[i].cookie;
		result = sockets_find(sockets, release.cookie, &victim);
		if (!result) {
			guard_command(guard, &release);
			result = sockets_destroy(sockets, &victim);
		}
		if (!result)
			destroyed++;
		else if (result == -ENOENT)
			missing++;
		else
			return result;
	}
	*ret_missing = missing;
	return destroyed;
}

int links_destroy_surplus(const struct guard *guard, struct sockets *sockets,
			  const struct peer_address *address, __u64 cookie)
{
	struct tcp_socket victim, other;
	bool another = false;
	struct peer peer;
	int result = guard_peer_read(guard, address, &peer);

	if (!result)
		result = sockets_find(sockets, cookie, &victim);
	if (result)
		return result;
	/* The map may be behind the world: ask the sockets themselves before taking one away. */
	for (int i = 0; i < PEER_SLOTS && !another; i++)
		another = peer.slots[i].kind == SLOT_LINK && peer.slots[i].cookie != cookie &&
			  !(peer.slots[i].flags & SLOT_DOOMED) &&
			  sockets_find(sockets, peer.slots[i].cookie, &other) == 0 &&
			  other.state == TCP_ESTABLISHED;
	return another ? sockets_destroy(sockets, &victim) : -EBUSY;
}

int links_end_useless(const struct guard *guard, struct sockets *sockets,
		      const struct peer_address *address, const struct tcp_socket *socket,
		      enum cause cause)
{
	const struct guard_command release = { .operation = COMMAND_RELEASE,
					       .address = *address,
					       .cookie = socket->cookie,
					       .value = cause,
					       .local_port = socket->local_port,
					       .remote_port = socket->remote_port };
	enum guard_mode mode;
	int result = guard_mode_read(guard, &mode);

	if (!result)
		result = guard_command(guard, &release);
	return result || mode != MODE_ENFORCE ? result : sockets_destroy(sockets, socket);
}
