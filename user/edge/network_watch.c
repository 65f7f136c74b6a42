// SPDX-License-Identifier: BSD-2-Clause
/* Tells when a network is back, or this host another. See network_watch.h. */
#include "edge/network_watch.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <libmnl/libmnl.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>

#define GROUPS \
	(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | \
	 RTMGRP_IPV6_ROUTE)
/* Interfaces whose carrier is remembered, by index; of others each word of it counts. */
#define INTERFACES_MAX 4096
/* Messages that are read at a time, a fraction of a millisecond of work: some hosts' routes change all the time. */
#define MESSAGES_AT_ONCE 64

struct network_watch {
	struct mnl_socket *netlink;
	bool has_carrier[INTERFACES_MAX];
};

/* Is so much payload there? One that is cut off says nothing. */
static bool has(const struct nlmsghdr *header, size_t bytes)
{
	return mnl_nlmsg_get_payload_len(header) >= bytes;
}

/* An interface that can carry packets now, and could not when it was last told of. */
static bool carrier_is_back(struct network_watch *watch, const struct nlmsghdr *header)
{
	const struct ifinfomsg *message = mnl_nlmsg_get_payload(header);
	bool carrier, had = false;

	if (!has(header, sizeof(*message)) || message->ifi_flags & IFF_LOOPBACK)
		return false;
	carrier = header->nlmsg_type == RTM_NEWLINK && message->ifi_flags & IFF_LOWER_UP &&
		  message->ifi_flags & IFF_UP;
	if (message->ifi_index >= 0 && message->ifi_index < INTERFACES_MAX) {
		had = watch->has_carrier[message->ifi_index];
		watch->has_carrier[message->ifi_index] = carrier;
	}
	return carrier && !had;
}

/*
 * An address that can be used, once it can: one whose lifetime is renewed was there before, and one that
 * is still looked for on the link is told again when nobody else has it.
 */
static bool address_is_back(const struct nlmsghdr *header)
{
	const struct ifaddrmsg *message = mnl_nlmsg_get_payload(header);
	const struct nlattr *attribute;
	bool renewed = false;
	__u32 flags;

	if (!has(header, sizeof(*message)))
		return false;
	flags = message->ifa_flags;
	mnl_attr_for_each(attribute, header, sizeof(*message)) {
		const struct ifa_cacheinfo *cache = mnl_attr_get_payload(attribute);

		if (mnl_attr_get_type(attribute) == IFA_FLAGS && mnl_attr_validate(attribute, MNL_TYPE_U32) >= 0)
			flags = mnl_attr_get_u32(attribute);
		else if (mnl_attr_get_type(attribute) == IFA_CACHEINFO &&
			 mnl_attr_get_payload_len(attribute) >= sizeof(*cache))
			renewed = cache->tstamp != cache->cstamp;
	}
	return !renewed && !(flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED));
}

/* A way to somewhere else: none to this host itself, and none that the kernel keeps for one packet. */
static bool route_is_back(const struct nlmsghdr *header)
{
	const struct rtmsg *message = mnl_nlmsg_get_payload(header);

	return has(header, sizeof(*message)) && message->rtm_type == RTN_UNICAST &&
	       message->rtm_table != RT_TABLE_LOCAL && !(message->rtm_flags & RTM_F_CLONED);
}

/* The routing tables say what is this host. */
static bool route_is_to_self(const struct nlmsghdr *header)
{
	const struct rtmsg *message = mnl_nlmsg_get_payload(header);

	return has(header, sizeof(*message)) && message->rtm_type == RTN_LOCAL && !(message->rtm_flags & RTM_F_CLONED);
}

struct news {
	struct network_watch *watch;
	unsigned int bits;
};

static unsigned int if_so(bool it_is, enum network_news bit)
{
	return it_is ? bit : 0;
}

static void take(struct news *news, const struct nlmsghdr *header)
{
	switch (header->nlmsg_type) {
	case RTM_NEWLINK:
		news->bits |= if_so(carrier_is_back(news->watch, header), NETWORK_BACK);
		break;
	/* With an interface, or its last address, local routes go without a word (fib_disable_ip()). */
	case RTM_DELLINK:
		news->bits |= if_so(carrier_is_back(news->watch, header), NETWORK_BACK);
		news->bits |= NETWORK_SELF;
		break;
	case RTM_DELADDR:
		news->bits |= NETWORK_SELF;
		break;
	case RTM_NEWADDR:
		news->bits |= if_so(address_is_back(header), NETWORK_BACK);
		break;
	case RTM_NEWROUTE:
		news->bits |= if_so(route_is_back(header), NETWORK_BACK);
		news->bits |= if_so(route_is_to_self(header), NETWORK_SELF);
		break;
	case RTM_DELROUTE:
		news->bits |= if_so(route_is_to_self(header), NETWORK_SELF);
		break;
	}
}

/* What was read. */
enum reading {
	READ_NOTHING, /* for there is nothing more */
	READ_NEWS,
	READ_LIST_END,
};

/* libmnl takes a length beyond 2^31 for a negative one, which fits anywhere. */
static enum reading take_all(struct news *news, const void *buffer, int length)
{
	const struct nlmsghdr *header = buffer;

	for (; mnl_nlmsg_ok(header, length) && header->nlmsg_len <= (__u32)length;
	     header = mnl_nlmsg_next(header, &length)) {
		if (header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR)
			return READ_LIST_END;
		take(news, header);
	}
	return READ_NEWS;
}

static enum reading read_on(struct network_watch *watch, struct news *news)
{
	char buffer[16384] __attribute__((aligned(NLMSG_ALIGNTO)));
	ssize_t length = recv(mnl_socket_get_fd(watch->netlink), buffer, sizeof(buffer), MSG_DONTWAIT);

	if (length > 0)
		return take_all(news, buffer, (int)length);
	if (length < 0 && errno == ENOBUFS)
		news->bits = NETWORK_BACK | NETWORK_SELF;
	return length < 0 && (errno == ENOBUFS || errno == EINTR) ? READ_NEWS : READ_NOTHING;
}

unsigned int network_watch_drain(struct network_watch *watch)
{
	struct news news = { .watch = watch };

	for (int i = 0; i < MESSAGES_AT_ONCE && read_on(watch, &news) != READ_NOTHING; i++)
		;
	return news.bits;
}

/* Which interfaces have carrier now: their next word of it is no news. */
static int carriers_list(struct network_watch *watch)
{
	char buffer[64] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
	struct news news = { .watch = watch };
	struct ifinfomsg *message;

	header->nlmsg_type = RTM_GETLINK;
	header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	message = mnl_nlmsg_put_extra_header(header, sizeof(*message));
	message->ifi_family = AF_UNSPEC;
	if (mnl_socket_sendto(watch->netlink, header, header->nlmsg_len) < 0)
		return -errno;
	/* The kernel makes the list while it is read, to its end here; what it tells is remembered. */
	while (read_on(watch, &news) == READ_NEWS)
		;
	return 0;
}

int network_watch_open(struct network_watch **ret_watch, int *ret_fd)
{
	struct network_watch *watch = calloc(1, sizeof(*watch));
	int result = 0;

	if (!watch)
		return -ENOMEM;
	watch->netlink = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!watch->netlink || mnl_socket_bind(watch->netlink, GROUPS, MNL_SOCKET_AUTOPID) < 0)
		result = -errno;
	if (!result)
		result = carriers_list(watch);
	if (result) {
		network_watch_close(watch);
		return result;
	}
	*ret_watch = watch;
	*ret_fd = mnl_socket_get_fd(watch->netlink);
	return 0;
}

void network_watch_close(struct network_watch *watch)
{
	if (!watch)
		return;
	if (watch->netlink)
		mnl_socket_close(watch->netlink);
	free(watch);
}
