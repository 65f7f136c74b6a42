// SPDX-License-Identifier: BSD-2-Clause
/* Where a guard is. See surroundings.h. */
#include "edge/surroundings.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "edge/host.h"

/* "FILE:LINE: [guard] NAME = VALUE: why, expected ...", and the code. */
static int setting_fails(const struct config *config, const char *name, int code,
			 const char *expected, struct config_error *error)
{
	char setting[CONFIG_SETTING_TEXT_MAX];

	snprintf(error->text, sizeof(error->text), "%s: %s, expected %s",
		 config_setting_text(config, config_find_option("guard", name), setting),
		 strerror(-code), expected);
	return code;
}

/* What of the calling thread's network namespace is this host. */
static int read_own(struct surroundings *surroundings)
{
	int result = local_table_open(&surroundings->local_table);

	return result ? result : local_table_read(surroundings->local_table, &surroundings->own);
}

static int enter(const struct config *config, bool may_wait, struct surroundings *surroundings,
		 struct config_error *error)
{
	int result = *config->netns ? host_enter_netns(config->netns) : 0;

	if (result)
		return setting_fails(config, "netns", result,
				     "the path of a network namespace such as /run/netns/NAME",
				     error);
	result = host_open_netns(NULL, &surroundings->netns_fd);
	if (!result)
		result = host_netns_cookie(&surroundings->netns_cookie);
	/* Before 5.14 namespaces have no cookie: then the inode alone tells them apart. */
	if (result == -ENOPROTOOPT)
		result = 0;
	if (result) {
		snprintf(error->text, sizeof(error->text), "the network namespace: %s",
			 strerror(-result));
		return result;
	}
	result = cgroups_place(config->cgroup, &surroundings->cgroup);
	if (result && !(result == -ENOENT && surroundings->cgroup && may_wait))
		return setting_fails(config, "cgroup", result,
				     "the path of a cgroup below the cgroup2 mount", error);
	if (!result)
		result = cgroup_set_open(surroundings->cgroup, &surroundings->cgroups);
	/* It may have gone in between as well. */
	if (result == -ENOENT && may_wait)
		result = 0;
	if (!result)
		result = sockets_open(&surroundings->sockets);
	if (result) {
		snprintf(error->text, sizeof(error->text), "looking at the sockets of %s: %s",
			 surroundings->cgroup, strerror(-result));
		return result;
	}
	result = read_own(surroundings);
	if (result)
		snprintf(error->text, sizeof(error->text), "reading which addresses are this host's: %s",
			 strerror(-result));
	return result;
}

int surroundings_enter(const struct config *config, bool may_wait, struct surroundings *ret_surroundings,
		       struct config_error *ret_error)
{
	struct surroundings surroundings = SURROUNDINGS_NONE;
	int result = enter(config, may_wait, &surroundings, ret_error);

	if (result)
		surroundings_leave(&surroundings);
	else
		*ret_surroundings = surroundings;
	return result;
}

int surroundings_follow_cgroup(struct surroundings *surroundings)
{
	struct cgroup_set *cgroups;
	int result = cgroup_set_open(surroundings->cgroup, &cgroups);

	if (result)
		return result;
	cgroup_set_close(surroundings->cgroups);
	surroundings->cgroups = cgroups;
	return 0;
}

/* Close what belongs to a network namespace, but the descriptor of it. */
static void close_network(struct surroundings *surroundings)
{
	sockets_close(surroundings->sockets);
	local_table_close(surroundings->local_table);
	prefixes_free(&surroundings->own);
}

int surroundings_follow_netns(struct surroundings *surroundings, int netns_fd)
{
	struct surroundings fresh = SURROUNDINGS_NONE;
	int result = setns(netns_fd, CLONE_NEWNET) ? -errno : 0;

	if (result)
		return result;
	result = host_netns_cookie(&fresh.netns_cookie);
	if (result == -ENOPROTOOPT)
		result = 0;
	if (!result)
		result = sockets_open(&fresh.sockets);
	if (!result)
		result = read_own(&fresh);
	if (!result) {
		fresh.netns_fd = fcntl(netns_fd, F_DUPFD_CLOEXEC, 0);
		result = fresh.netns_fd < 0 ? -errno : 0;
	}
	if (result) {
		close_network(&fresh);
		setns(surroundings->netns_fd, CLONE_NEWNET);
		return result;
	}
	close_network(surroundings);
	close(surroundings->netns_fd);
	surroundings->sockets = fresh.sockets;
	surroundings->local_table = fresh.local_table;
	surroundings->own = fresh.own;
	surroundings->netns_fd = fresh.netns_fd;
	surroundings->netns_cookie = fresh.netns_cookie;
	return 0;
}

void surroundings_leave(struct surroundings *surroundings)
{
	close_network(surroundings);
	cgroup_set_close(surroundings->cgroups);
	if (surroundings->netns_fd >= 0)
		close(surroundings->netns_fd);
	free(surroundings->cgroup);
	*surroundings = (struct surroundings)SURROUNDINGS_NONE;
}

int surroundings_list_begin(const struct config *config, struct sockets *sockets,
			    struct socket_listing **ret_listing)
{
	return sockets_list_begin(sockets, SOCKET_STATES_LINK | SOCKET_STATES_DIAL | SOCKET_STATES_CLOSING,
				  config->ports.number, config->ports.count, ret_listing);
}

int surroundings_seen(struct surroundings *surroundings, const struct config *config,
		      const struct tcp_socket *list, size_t count, struct seen_socket **ret_seen,
		      size_t *ret_count)
{
	const struct socket_filter filter = { .ports = config->ports.number,
					      .port_count = config->ports.count,
					      .cgroups = surroundings->cgroups };
	struct seen_socket *seen;
	size_t seen_count = 0;

	/*
	 * After the list, so that a cgroup made in between is in it. Its own cgroup gone: the set
	 * stays as it was.
	 */
	cgroup_set_refresh(surroundings->cgroups);
	seen = calloc(count + 1, sizeof(*seen));
	if (!seen)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		struct seen_socket *one = &seen[seen_count];

		if (!socket_is_guarded(&list[i], &filter, &one->direction) ||
		    prefixes_cover(&surroundings->own, &list[i].remote))
			continue;
		one->cookie = list[i].cookie;
		one->address = list[i].remote;
		one->established = list[i].state == TCP_ESTABLISHED;
		one->opening = list[i].state == TCP_SYN_RECV;
		one->local_port = list[i].local_port;
		one->remote_port = list[i].remote_port;
		one->local = list[i].local;
		one->interface = list[i].interface;
		if (!config->share_limit)
			one->address.service = one->direction == DIRECTION_OUTBOUND ?
						       one->remote_port :
						       one->local_port;
		seen_count++;
	}
	*ret_seen = seen;
	*ret_count = seen_count;
	return 0;
}

int surroundings_sockets(struct surroundings *surroundings, const struct config *config,
			 struct seen_socket **ret_seen, size_t *ret_count)
{
	cleanup_free struct tcp_socket *list = NULL;
	struct socket_listing *listing;
	size_t count = 0;
	int result = surroundings_list_begin(config, surroundings->sockets, &listing);

	if (result)
		return result;
	do
		result = sockets_list_on(listing);
	while (result > 0);
	sockets_list_end(listing, result ? NULL : &list, &count);
	return result ? result : surroundings_seen(surroundings, config, list, count, ret_seen, ret_count);
}

/* Whether a listener hears nobody but this host. */
static bool hears_only_us(const struct tcp_socket *listener)
{
	static const __u8 any[4];

	/* To the address on which it listens, 0.0.0.0 and :: are "this host", too. */
	return address_is_loopback(&listener->local) &&
	       memcmp(&listener->local.bytes[12], any, sizeof(any)) != 0;
}

static bool is_strange(const struct surroundings *surroundings, __u16 port)
{
	for (size_t i = 0; i < surroundings->strange_port_count; i++)
		if (surroundings->strange_ports[i] == port)
			return true;
	return false;
}

size_t surroundings_strange_ports(const struct surroundings *surroundings, const struct config *config,
				  __u16 ret_ports[CONFIG_PORTS_MAX])
{
	size_t count = 0;

	for (__u32 i = 0; i < config->ports.count; i++)
		if (is_strange(surroundings, config->ports.number[i]))
			ret_ports[count++] = config->ports.number[i];
	return count;
}

/* What it accepts passes by the guard, unless it hears nobody else. Of a cgroup that is not there nobody is a stranger. */
static void note_stranger(struct surroundings *surroundings, const struct tcp_socket *listener)
{
	/* Cgroup 0: the kernel does not tell. */
	if (surroundings->cgroups && listener->cgroup_id && !hears_only_us(listener) &&
	    !is_strange(surroundings, listener->local_port) &&
	    surroundings->strange_port_count < CONFIG_PORTS_MAX)
		surroundings->strange_ports[surroundings->strange_port_count++] = listener->local_port;
}

int surroundings_listeners(struct surroundings *surroundings, const struct config *config,
			   struct seen_listener **ret_seen, size_t *ret_count)
{
	static const struct peer_address any;
	cleanup_free struct tcp_socket *list = NULL;
	struct seen_listener *seen;
	size_t count, seen_count = 0;
	int result = sockets_list(surroundings->sockets, SOCKET_STATES_LISTEN, config->ports.number,
				  config->ports.count, &list, &count);

	if (result)
		return result;
	cgroup_set_refresh(surroundings->cgroups);
	seen = calloc(count + 1, sizeof(*seen));
	if (!seen)
		return -ENOMEM;
	surroundings->strange_port_count = 0;
	for (size_t i = 0; i < count; i++) {
		bool inside = cgroup_set_contains(surroundings->cgroups, list[i].cgroup_id);
		struct seen_listener *one = &seen[seen_count];

		if (!inside)
			note_stranger(surroundings, &list[i]);
		/* Whoever is at loopback: no knock that the guard refuses comes there, and anybody may make thousands. */
		if (!inside && hears_only_us(&list[i]))
			continue;
		one->cookie = list[i].cookie;
		memcpy(one->place.address, list[i].local.bytes, sizeof(one->place.address));
		one->place.port = list[i].local_port;
		one->ours = inside && !list[i].interface;
		one->ipv4_also = !list[i].ipv6_only && address_same_host(&list[i].local, &any);
		seen_count++;
	}
	*ret_seen = seen;
	*ret_count = seen_count;
	return 0;
}
