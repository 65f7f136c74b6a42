// SPDX-License-Identifier: BSD-2-Clause
/* What is this host, by the kernel's routing tables. See local_table.h. */
#include "edge/local_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>

#include "base/cleanup.h"

/* Largest message of a dump: the most the kernel puts in one, af_netlink.c. */
#define BUFFER_SIZE 32768
/* Tables that change while they are read are read anew this often. */
#define READ_ATTEMPTS 5
/* The kernel answers in the same system call; longer than this means that an answer was lost. */
#define ANSWER_SECONDS 5
/* The greatest errno (include/linux/err.h). */
#define MAX_ERRNO 4095
/* Of an IPv4 address in 16 bytes, ::ffff:0:0/96. */
#define MAPPED_BITS 96

/* A prefix that another table than `local` leads to this host. */
struct elsewhere {
	struct exempt_prefix prefix;
	__u32 table;
};

struct local_table {
	struct mnl_socket *netlink;
	__u32 sequence; /* of the request under way */
	unsigned int port_id;
	/* What is read of an answer. */
	bool interrupted; /* it may be inconsistent */
	int error; /* of ours, or of the kernel's half-way; 0: none */
	struct prefix_set *set;
	struct elsewhere *elsewhere;
	size_t elsewhere_count, elsewhere_capacity;
	char buffer[BUFFER_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
};

/* ---- messages ---- */

static int add_elsewhere(struct local_table *table, const struct exempt_prefix *prefix,
			 __u32 number)
{
	if (table->elsewhere_count == table->elsewhere_capacity) {
		size_t capacity = 2 * table->elsewhere_capacity + 16;
		struct elsewhere *larger =
			reallocarray(table->elsewhere, capacity, sizeof(*larger));

		if (!larger)
			return -ENOMEM;
		table->elsewhere = larger;
		table->elsewhere_capacity = capacity;
	}
	table->elsewhere[table->elsewhere_count++] =
		(struct elsewhere){ .prefix = *prefix, .table = number };
	return 0;
}

/* One of the table `local`, or of another one. */
static int add(struct local_table *table, const struct exempt_prefix *prefix, __u32 number)
{
	return number == RT_TABLE_LOCAL ? prefixes_add(table->set, prefix) :
					  add_elsewhere(table, prefix, number);
}

/*
 * An IPv6 prefix. A short one may hold the place that IPv4 has in 16 bytes, which it says nothing about: then it is
 * what is beside the way there, in as many pieces as that has bits more.
 */
static int add_ipv6(struct local_table *table, const struct exempt_prefix *prefix, __u32 number)
{
	struct exempt_prefix mapped = { .address = { [10] = 0xff, [11] = 0xff } };
	int result = 0;

	for (__u32 bit = 0; bit < prefix->prefix_length && bit < MAPPED_BITS; bit++)
		if ((prefix->address[bit / 8] ^ mapped.address[bit / 8]) & 0x80 >> bit % 8)
			return add(table, prefix, number);
	for (__u32 bit = prefix->prefix_length; !result && bit < MAPPED_BITS; bit++) {
		struct exempt_prefix beside = mapped;

		beside.prefix_length = bit + 1;
		beside.address[bit / 8] ^= 0x80 >> bit % 8;
		result = add(table, &beside, number);
	}
	return result;
}

/*
 * A route. Kernels before 4.20 tell of all there are, whatever was asked for. One for a source or a type of service
 * alone does not say what the address is to everybody.
 */
static int take_route(struct local_table *table, const struct nlmsghdr *header)
{
	const struct rtmsg *message = mnl_nlmsg_get_payload(header);
	struct exempt_prefix prefix = {};
	const struct nlattr *attribute;
	size_t bytes = 16;
	__u32 number;

	if (mnl_nlmsg_get_payload_len(header) < sizeof(*message) ||
	    message->rtm_type != RTN_LOCAL ||
	    (message->rtm_family != AF_INET && message->rtm_family != AF_INET6) ||
	    message->rtm_flags & (RTM_F_CLONED | RTNH_F_DEAD) || message->rtm_src_len ||
	    message->rtm_tos)
		return 0;
	if (message->rtm_family == AF_INET)
		bytes = 4;
	if (message->rtm_dst_len > 8 * bytes)
		return 0;
	number = message->rtm_table;
	prefix.prefix_length = message->rtm_dst_len;
	if (message->rtm_family == AF_INET) {
		prefix.prefix_length += MAPPED_BITS;
		prefix.address[10] = prefix.address[11] = 0xff;
	}
	mnl_attr_for_each(attribute, header, sizeof(*message)) {
		if (mnl_attr_get_type(attribute) == RTA_TABLE &&
		    mnl_attr_validate(attribute, MNL_TYPE_U32) >= 0)
			number = mnl_attr_get_u32(attribute);
		else if (mnl_attr_get_type(attribute) == RTA_DST &&
			 mnl_attr_get_payload_len(attribute) >= bytes)
			memcpy(&prefix.address[16 - bytes], mnl_attr_get_payload(attribute), bytes);
	}
	return message->rtm_family == AF_INET ? add(table, &prefix, number) :
						add_ipv6(table, &prefix, number);
}

/* The table of a VRF; 0: the message is about something else. */
static __u32 vrf_table(const struct nlmsghdr *header)
{
	const struct nlattr *attribute, *part, *datum;
	bool is_vrf = false;
	__u32 number = 0;

	if (mnl_nlmsg_get_payload_len(header) < sizeof(struct ifinfomsg))
		return 0;
	mnl_attr_for_each(attribute, header, sizeof(struct ifinfomsg)) {
		if (mnl_attr_get_type(attribute) != IFLA_LINKINFO)
			continue;
		mnl_attr_for_each_nested(part, attribute) {
			if (mnl_attr_get_type(part) == IFLA_INFO_KIND)
				is_vrf = mnl_attr_get_payload_len(part) >= sizeof("vrf") &&
					 strcmp(mnl_attr_get_str(part), "vrf") == 0;
			if (mnl_attr_get_type(part) != IFLA_INFO_DATA)
				continue;
			mnl_attr_for_each_nested(datum, part) {
				if (mnl_attr_get_type(datum) == IFLA_VRF_TABLE &&
				    mnl_attr_validate(datum, MNL_TYPE_U32) >= 0)
					number = mnl_attr_get_u32(datum);
			}
		}
	}
	return is_vrf ? number : 0;
}

/* An interface: if it is a VRF, what its table leads to this host is this host. */
static int take_interface(struct local_table *table, const struct nlmsghdr *header)
{
	__u32 number = vrf_table(header);
	int result = 0;

	for (size_t i = 0; number && !result && i < table->elsewhere_count; i++)
		if (table->elsewhere[i].table == number)
			result = prefixes_add(table->set, &table->elsewhere[i].prefix);
	return result;
}

/* A number that the kernel says is an errno, as ours; whatever cannot be one is -EBADMSG. */
static int errno_said(int said)
{
	return said <= 0 && said >= -MAX_ERRNO ? said : -EBADMSG;
}

/* One message. 1: there are more; 0: it was the last one; or a negative errno. */
static int take(struct local_table *table, const struct nlmsghdr *header)
{
	const struct nlmsgerr *result = mnl_nlmsg_get_payload(header);

	if (header->nlmsg_seq != table->sequence || header->nlmsg_pid != table->port_id)
		return 1;
	if (header->nlmsg_flags & NLM_F_DUMP_INTR)
		table->interrupted = true;
	switch (header->nlmsg_type) {
	case NLMSG_ERROR:
		if (mnl_nlmsg_get_payload_len(header) < sizeof(*result))
			return -EBADMSG;
		return table->error ? table->error : errno_said(result->error);
	case NLMSG_DONE:
		/* The kernel ends a dump that failed half-way with its errno. */
		if (!table->error && mnl_nlmsg_get_payload_len(header) >= sizeof(int))
			table->error = errno_said(*(const int *)mnl_nlmsg_get_payload(header));
		return table->error;
	case RTM_NEWROUTE:
		if (!table->error)
			table->error = take_route(table, header);
		return 1;
	case RTM_NEWLINK:
		if (!table->error)
			table->error = take_interface(table, header);
		return 1;
	default:
		return 1;
	}
}

/*
 * Send what is in the buffer and read the answer. To its end also after an error of ours: the kernel takes no new dump
 * while one is under way.
 */
static int run(struct local_table *table)
{
	struct nlmsghdr *request = (struct nlmsghdr *)table->buffer;
	const struct nlmsghdr *header;
	int length, result = 1;
	ssize_t received;

	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	request->nlmsg_seq = ++table->sequence;
	table->error = 0;
	while (mnl_socket_sendto(table->netlink, request, request->nlmsg_len) < 0)
		if (errno != EINTR)
			return -errno;
	while (result > 0) {
		received =
			mnl_socket_recvfrom(table->netlink, table->buffer, sizeof(table->buffer));
		if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return -ETIMEDOUT;
		/* A message was lost. The end still comes, or the time-out. */
		if (received < 0 && (errno == ENOBUFS || errno == ENOSPC))
			table->interrupted = true;
		else if (received < 0 && errno != EINTR)
			return -errno;
		if (received < 0)
			continue;
		header = (const struct nlmsghdr *)table->buffer;
		length = (int)received;
		/* libmnl takes a length beyond 2^31 for a negative one, which fits anywhere. */
		for (; result > 0 && mnl_nlmsg_ok(header, length) &&
		       header->nlmsg_len <= (__u32)length;
		     header = mnl_nlmsg_next(header, &length))
			result = take(table, header);
	}
	return result;
}

static int read_routes(struct local_table *table, __u8 family)
{
	struct nlmsghdr *header = mnl_nlmsg_put_header(table->buffer);
	struct rtmsg *message;

	header->nlmsg_type = RTM_GETROUTE;
	message = mnl_nlmsg_put_extra_header(header, sizeof(*message));
	message->rtm_family = family;
	message->rtm_type = RTN_LOCAL;
	return run(table);
}

static int read_vrfs(struct local_table *table)
{
	struct nlmsghdr *header = mnl_nlmsg_put_header(table->buffer);
	struct nlattr *nest;

	header->nlmsg_type = RTM_GETLINK;
	mnl_nlmsg_put_extra_header(header, sizeof(struct ifinfomsg));
	mnl_attr_put_u32(header, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	nest = mnl_attr_nest_start(header, IFLA_LINKINFO);
	mnl_attr_put_strz(header, IFLA_INFO_KIND, "vrf");
	mnl_attr_nest_end(header, nest);
	return run(table);
}

/* Add to table->set what is there now. */
static int read_once(struct local_table *table)
{
	int result;

	table->interrupted = false;
	table->elsewhere_count = 0;
	result = read_routes(table, AF_INET);
	if (!result)
		result = read_routes(table, AF_INET6);
	if (!result && table->elsewhere_count)
		result = read_vrfs(table);
	return result;
}

int local_table_read(struct local_table *table, struct prefix_set *ret_set)
{
	cleanup_prefixes struct prefix_set changing = {}, once = {};
	int result = 0;

	/*
	 * What stays while others come and go may be passed over; each time it is something else. So if they never
	 * keep still, all that was seen counts.
	 */
	for (int i = 0; i < READ_ATTEMPTS; i++) {
		table->set = &once;
		once.count = 0;
		result = read_once(table);
		if (result || !table->interrupted)
			break;
		for (size_t j = 0; !result && j < once.count; j++)
			result = prefixes_add(&changing, &once.list[j]);
		if (result)
			break;
	}
	table->set = NULL;
	if (result)
		return result;
	*ret_set = table->interrupted ? changing : once;
	*(table->interrupted ? &changing : &once) = (struct prefix_set){};
	prefixes_sort(ret_set);
	return 0;
}

/* ---- open and close ---- */

int local_table_open(struct local_table **ret_table)
{
	struct timeval patience = { .tv_sec = ANSWER_SECONDS };
	struct local_table *table = calloc(1, sizeof(*table));
	int result = 0, yes = 1;

	if (!table)
		return -ENOMEM;
	table->netlink = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!table->netlink || mnl_socket_bind(table->netlink, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    setsockopt(mnl_socket_get_fd(table->netlink), SOL_SOCKET, SO_RCVTIMEO, &patience,
		       sizeof(patience)) < 0)
		result = -errno;
	if (result) {
		local_table_close(table);
		return result;
	}
	/* Then the kernel does not tell of the routes, a million on some hosts, that were not asked for. Linux 4.20. */
	setsockopt(mnl_socket_get_fd(table->netlink), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &yes,
		   sizeof(yes));
	table->port_id = mnl_socket_get_portid(table->netlink);
	*ret_table = table;
	return 0;
}

void local_table_close(struct local_table *table)
{
	if (!table)
		return;
	if (table->netlink)
		mnl_socket_close(table->netlink);
	free(table->elsewhere);
	free(table);
}
