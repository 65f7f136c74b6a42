// SPDX-License-Identifier: BSD-2-Clause
/*
 * What is this host, as read from a kernel that the test plays: VRFs, tables that change meanwhile, lost and damaged
 * messages. (The kernel's own answers are read by tests/bpf/test_sockets.c and the namespace tests.)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include "edge/local_table.h"
#include "pure/address_text.h"

#define PORT_ID 4711

/* What the kernel has, and how it behaves. */
struct route {
	const char *prefix;
	__u32 table;
	__u8 type;
	__u32 flags;
};

struct interface {
	const char *kind;
	__u32 table;
};

static struct {
	const struct route *routes;
	const struct interface *interfaces;
	int interrupted_dumps; /* so many dumps from now on are inconsistent, and each lacks another route */
	int lost_messages; /* so often ENOBUFS comes first */
	int error; /* a dump ends so */
	bool truncated, silent;
	int dumps, link_dumps;
} kernel;

static struct nlmsghdr asked;
static __u8 asked_family;
static bool answered;
static int descriptor = -1;

/* ---- the kernel ---- */

static void put_route(struct nlmsghdr **next, const struct route *route)
{
	struct exempt_prefix prefix;
	struct nlmsghdr *header = mnl_nlmsg_put_header(*next);
	struct rtmsg *message = mnl_nlmsg_put_extra_header(header, sizeof(*message));
	bool ipv4 = !strchr(route->prefix, ':');

	assert_int_equal(prefix_from_text(route->prefix, &prefix, NULL), 0);
	header->nlmsg_type = RTM_NEWROUTE;
	message->rtm_family = ipv4 ? AF_INET : AF_INET6;
	message->rtm_dst_len = prefix.prefix_length - (ipv4 ? 96 : 0);
	message->rtm_type = route->type;
	message->rtm_flags = route->flags;
	message->rtm_table = route->table < 256 ? route->table : RT_TABLE_COMPAT;
	if (message->rtm_dst_len)
		mnl_attr_put(header, RTA_DST, ipv4 ? 4 : 16, &prefix.address[ipv4 ? 12 : 0]);
	mnl_attr_put_u32(header, RTA_TABLE, route->table);
	if (kernel.truncated)
		header->nlmsg_len = NLMSG_HDRLEN + 3;
	*next = mnl_nlmsg_get_payload_tail(header);
}

static void put_interface(struct nlmsghdr **next, const struct interface *interface)
{
	struct nlmsghdr *header = mnl_nlmsg_put_header(*next);
	struct nlattr *information, *data;

	header->nlmsg_type = RTM_NEWLINK;
	mnl_nlmsg_put_extra_header(header, sizeof(struct ifinfomsg));
	information = mnl_attr_nest_start(header, IFLA_LINKINFO);
	mnl_attr_put_strz(header, IFLA_INFO_KIND, interface->kind);
	data = mnl_attr_nest_start(header, IFLA_INFO_DATA);
	mnl_attr_put_u32(header, IFLA_VRF_TABLE, interface->table);
	mnl_attr_nest_end(header, data);
	mnl_attr_nest_end(header, information);
	if (kernel.truncated)
		header->nlmsg_len = NLMSG_HDRLEN + 3;
	*next = mnl_nlmsg_get_payload_tail(header);
}

/* The answer to a dump in one piece. Returns its length. */
static ssize_t answer(void *buffer)
{
	struct nlmsghdr *next = buffer, *end;
	bool interrupted = kernel.interrupted_dumps > 0;
	int index = 0;

	if (asked.nlmsg_type == RTM_GETROUTE)
		for (const struct route *route = kernel.routes; route && route->prefix;
		     route++, index++)
			if (!!strchr(route->prefix, ':') == (asked_family == AF_INET6) &&
			    !(interrupted && index == kernel.interrupted_dumps / 2))
				put_route(&next, route);
	if (asked.nlmsg_type == RTM_GETLINK)
		for (const struct interface *one = kernel.interfaces; one && one->kind; one++)
			put_interface(&next, one);
	/* Another's message is none of ours. */
	end = mnl_nlmsg_put_header(next);
	end->nlmsg_type = NLMSG_DONE;
	end->nlmsg_seq = asked.nlmsg_seq + 1;
	end->nlmsg_pid = PORT_ID;
	end = mnl_nlmsg_put_header(mnl_nlmsg_get_payload_tail(end));
	end->nlmsg_type = NLMSG_DONE;
	memcpy(mnl_nlmsg_put_extra_header(end, sizeof(int)), &kernel.error, sizeof(int));
	for (struct nlmsghdr *header = buffer; header <= end;
	     header = (struct nlmsghdr *)((char *)header + NLMSG_ALIGN(header->nlmsg_len))) {
		if (header->nlmsg_pid == PORT_ID)
			continue;
		header->nlmsg_seq = asked.nlmsg_seq;
		header->nlmsg_pid = PORT_ID;
		header->nlmsg_flags = NLM_F_MULTI | (interrupted ? NLM_F_DUMP_INTR : 0);
	}
	if (interrupted)
		kernel.interrupted_dumps--;
	return (char *)mnl_nlmsg_get_payload_tail(end) - (char *)buffer;
}

ssize_t mnl_socket_recvfrom(const struct mnl_socket *socket, void *buffer, size_t size)
{
	assert_true(socket && size >= 4096);
	if (kernel.lost_messages) {
		kernel.lost_messages--;
		errno = ENOBUFS;
		return -1;
	}
	if (answered || kernel.silent) {
		errno = EAGAIN;
		return -1;
	}
	answered = true;
	return answer(buffer);
}

ssize_t mnl_socket_sendto(const struct mnl_socket *socket, const void *buffer, size_t size)
{
	const struct nlmsghdr *header = buffer;

	assert_true(socket && size == header->nlmsg_len &&
		    header->nlmsg_flags == (NLM_F_REQUEST | NLM_F_DUMP));
	asked = *header;
	asked_family = *(const __u8 *)mnl_nlmsg_get_payload(header);
	answered = false;
	kernel.dumps++;
	kernel.link_dumps += header->nlmsg_type == RTM_GETLINK;
	return (ssize_t)size;
}

struct mnl_socket *mnl_socket_open2(int bus, int flags)
{
	assert_true(bus == NETLINK_ROUTE && flags & SOCK_CLOEXEC);
	descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return (struct mnl_socket *)&descriptor;
}

int mnl_socket_bind(struct mnl_socket *socket, unsigned int groups, pid_t pid)
{
	assert_true(socket && !groups && pid == MNL_SOCKET_AUTOPID);
	return 0;
}

int mnl_socket_get_fd(const struct mnl_socket *socket)
{
	assert_non_null(socket);
	return descriptor;
}

unsigned int mnl_socket_get_portid(const struct mnl_socket *socket)
{
	assert_non_null(socket);
	return PORT_ID;
}

int mnl_socket_close(struct mnl_socket *socket)
{
	assert_non_null(socket);
	return close(descriptor);
}

/* ---- what is read of it ---- */

/* Reading gives these, in this order; NULL: it fails so. */
static void assert_read(const char *const *expected, int result)
{
	cleanup_prefixes struct prefix_set set = {};
	struct local_table *table;
	char text[PREFIX_TEXT_MAX];
	size_t i;

	assert_int_equal(local_table_open(&table), 0);
	assert_int_equal(local_table_read(table, &set), result);
	for (i = 0; expected && expected[i]; i++) {
		assert_true(i < set.count);
		assert_string_equal(prefix_to_text(&set.list[i], text), expected[i]);
	}
	assert_int_equal(set.count, i);
	local_table_close(table);
}

static const struct route plain[] = {
	{ "10.0.0.1", RT_TABLE_LOCAL, RTN_LOCAL, 0 },
	{ "127.0.0.0/8", RT_TABLE_LOCAL, RTN_LOCAL, 0 },
	{ "10.9.0.0/16", RT_TABLE_LOCAL, RTN_LOCAL, 0 },
	{ "fd00::1", RT_TABLE_LOCAL, RTN_LOCAL, 0 },
	{ "10.0.0.1", RT_TABLE_LOCAL, RTN_LOCAL, 0 },
	{},
};

static int set_up(void **state)
{
	(void)state;
	memset(&kernel, 0, sizeof(kernel));
	kernel.routes = plain;
	return 0;
}

static const char *const all_of_plain[] = { "127.0.0.0/8", "10.9.0.0/16", "10.0.0.1/32",
					    "fd00::1/128", NULL };

static void the_table_of_local_routes(void **state)
{
	(void)state;
	assert_read(all_of_plain, 0);
	/* Nobody need say which VRFs there are. */
	assert_int_equal(kernel.dumps, 2);
}

static void other_types_and_tables_are_passed_over(void **state)
{
	static const struct route routes[] = {
		{ "10.0.0.255", RT_TABLE_LOCAL, RTN_BROADCAST, 0 },
		{ "10.0.0.0/24", RT_TABLE_MAIN, RTN_UNICAST, 0 },
		{ "10.1.0.1", RT_TABLE_LOCAL, RTN_LOCAL, RTM_F_CLONED },
		{ "10.1.0.2", RT_TABLE_LOCAL, RTN_LOCAL, RTNH_F_DEAD },
		{ "0.0.0.0/0", 100, RTN_LOCAL, 0 },
		{ "::/0", 100000, RTN_LOCAL, 0 },
		{ "ff00::/8", RT_TABLE_LOCAL, RTN_MULTICAST, 0 },
		{ "fd00::1", RT_TABLE_LOCAL, RTN_LOCAL, 0 },
		{},
	};
	static const struct interface interfaces[] = {
		{ "bridge", 100 }, { "vrfx", 100 }, { "vrf", 101 }, {}
	};

	(void)state;
	kernel.routes = routes;
	kernel.interfaces = interfaces;
	assert_read((const char *const[]){ "fd00::1/128", NULL }, 0);
	assert_int_equal(kernel.link_dumps, 1);
}

static void tables_of_vrfs_count(void **state)
{
	static const struct route routes[] = {
		{ "10.0.0.1", 77, RTN_LOCAL, 0 },      { "10.0.0.2", 300, RTN_LOCAL, 0 },
		{ "fd00::1", 300, RTN_LOCAL, 0 },      { "0.0.0.0/0", 301, RTN_LOCAL, 0 },
		{ "10.9.0.0/16", 77, RTN_UNICAST, 0 }, {},
	};
	static const struct interface interfaces[] = {
		{ "vrf", 77 }, { "bridge", 301 }, { "vrf", 300 }, {}
	};

	(void)state;
	kernel.routes = routes;
	kernel.interfaces = interfaces;
	assert_read((const char *const[]){ "10.0.0.1/32", "10.0.0.2/32", "fd00::1/128", NULL }, 0);
}

/* All of IPv6, and no IPv4: that has a place in 16 bytes. */
static void all_of_ipv6_is_no_ipv4(void **state)
{
	static const char *const own[] = { "::", "::1", "fd00::1", "::fffe:1.2.3.4", "::1:ffff:1.2.3.4", "ffff::",
					   "10.0.0.1" };
	static const struct route routes[] = { { "::/0", RT_TABLE_LOCAL, RTN_LOCAL, 0 },
					       { "10.0.0.1", RT_TABLE_LOCAL, RTN_LOCAL, 0 },
					       { "::ffff:0:0/96", 77, RTN_LOCAL, 0 },
					       {} };
	static const struct interface interfaces[] = { { "vrf", 77 }, {} };
	cleanup_prefixes struct prefix_set set = {};
	struct exempt_prefix prefix;
	struct peer_address address = {};
	struct local_table *table;

	(void)state;
	kernel.routes = routes;
	kernel.interfaces = interfaces;
	assert_int_equal(local_table_open(&table), 0);
	assert_int_equal(local_table_read(table, &set), 0);
	local_table_close(table);
	assert_int_equal(set.count, 96 + 1);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		assert_int_equal(prefix_from_text(own[i], &prefix, NULL), 0);
		memcpy(address.bytes, prefix.address, sizeof(address.bytes));
		assert_true(prefixes_cover(&set, &address));
	}
	assert_int_equal(prefix_from_text("10.0.0.2", &prefix, NULL), 0);
	memcpy(address.bytes, prefix.address, sizeof(address.bytes));
	assert_false(prefixes_cover(&set, &address));
}

static void a_table_that_changes_is_read_again(void **state)
{
	(void)state;
	kernel.interrupted_dumps = 4;
	assert_read(all_of_plain, 0);
	assert_int_equal(kernel.dumps, 6);
	/* A message that was lost may have been of any route. */
	set_up(NULL);
	kernel.lost_messages = 1;
	assert_read(all_of_plain, 0);
	assert_int_equal(kernel.dumps, 4);
	/* It never keeps still: each time another one is missing, and none is at last. */
	set_up(NULL);
	kernel.interrupted_dumps = 1000;
	assert_read(all_of_plain, 0);
	assert_int_equal(kernel.dumps, 10);
}

static void what_the_kernel_says_went_wrong(void **state)
{
	(void)state;
	kernel.error = -ENOMEM;
	assert_read(NULL, -ENOMEM);
	kernel.error = 12345678;
	assert_read(NULL, -EBADMSG);
	kernel.error = 0;
	kernel.silent = true;
	assert_read(NULL, -ETIMEDOUT);
}

static void messages_that_are_cut_off_say_nothing(void **state)
{
	static const struct interface interfaces[] = { { "vrf", 77 }, {} };

	(void)state;
	kernel.interfaces = interfaces;
	kernel.truncated = true;
	assert_read((const char *const[]){ NULL }, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(the_table_of_local_routes, set_up),
		cmocka_unit_test_setup(other_types_and_tables_are_passed_over, set_up),
		cmocka_unit_test_setup(tables_of_vrfs_count, set_up),
		cmocka_unit_test_setup(all_of_ipv6_is_no_ipv4, set_up),
		cmocka_unit_test_setup(a_table_that_changes_is_read_again, set_up),
		cmocka_unit_test_setup(what_the_kernel_says_went_wrong, set_up),
		cmocka_unit_test_setup(messages_that_are_cut_off_say_nothing, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
