// SPDX-License-Identifier: BSD-2-Clause
/* What the kernel tells of a network is read a part at a time, from a real one in a namespace of its own. */
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "edge/network_watch.h"

/* Each makes a message or two; more of them than are read at a time, and not more than wait for who does not read. */
#define ADDRESSES 100

static struct network_watch *watch;
static int watch_fd;
static struct mnl_socket *netlink;
static bool is_alone;

static int set_up(void **state)
{
	(void)state;
	/* By anybody, where the kernel lets him. */
	is_alone = unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;
	if (!is_alone)
		return 0;
	netlink = mnl_socket_open(NETLINK_ROUTE);
	if (!netlink || mnl_socket_bind(netlink, 0, MNL_SOCKET_AUTOPID) < 0)
		return -1;
	return network_watch_open(&watch, &watch_fd);
}

static int tear_down(void **state)
{
	(void)state;
	network_watch_close(watch);
	if (netlink)
		mnl_socket_close(netlink);
	return 0;
}

static void need_namespace(void)
{
	if (is_alone)
		return;
	print_message("no network namespace can be made here\n");
	skip();
}

static bool there_is_more(void)
{
	struct pollfd pollfd = { .fd = watch_fd, .events = POLLIN };

	return poll(&pollfd, 1, 0) == 1;
}

static void bring_up(const char *name)
{
	struct ifreq request = { .ifr_flags = IFF_UP };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	strcpy(request.ifr_name, name);
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
	close(fd);
}

/* One more address of this namespace, which the kernel has given it when this returns. */
static void add_address(unsigned int number)
{
	char buffer[MNL_NLMSG_HDRLEN + 256] __attribute__((aligned(NLMSG_ALIGNTO)));
	char answer[4096] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
	struct ifaddrmsg *message = mnl_nlmsg_put_extra_header(header, sizeof(*message));
	in_addr_t address = htonl(0x0a620001U + number);
	ssize_t length;

	header->nlmsg_type = RTM_NEWADDR;
	header->nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK;
	message->ifa_family = AF_INET;
	message->ifa_prefixlen = 32;
	message->ifa_index = if_nametoindex("lo");
	mnl_attr_put(header, IFA_LOCAL, sizeof(address), &address);
	assert_true(mnl_socket_sendto(netlink, header, header->nlmsg_len) > 0);
	length = mnl_socket_recvfrom(netlink, answer, sizeof(answer));
	assert_true(length > 0);
	/* The acknowledgment, or an errno. */
	assert_int_equal(mnl_cb_run(answer, (size_t)length, 0, mnl_socket_get_portid(netlink), NULL, NULL), MNL_CB_STOP);
}

/* The list of interfaces, which nobody has asked about. */
static void it_opens_with_nothing_to_read(void **state)
{
	(void)state;
	need_namespace();
	assert_false(there_is_more());
	assert_int_equal(network_watch_drain(watch), 0);
}

static void what_comes_is_read_a_part_at_a_time(void **state)
{
	unsigned int news, parts = 1;

	(void)state;
	need_namespace();
	bring_up("lo");
	while (there_is_more())
		network_watch_drain(watch);
	for (unsigned int i = 0; i < ADDRESSES; i++)
		add_address(i);
	assert_true(there_is_more());
	news = network_watch_drain(watch);
	/* The loop has its turn, and comes again. */
	assert_true(there_is_more());
	for (; there_is_more(); parts++) {
		assert_true(parts < 2 * ADDRESSES + 2);
		news |= network_watch_drain(watch);
	}
	assert_true(news & NETWORK_BACK);
	assert_true(news & NETWORK_SELF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_opens_with_nothing_to_read),
		cmocka_unit_test(what_comes_is_read_a_part_at_a_time),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
