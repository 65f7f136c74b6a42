// SPDX-License-Identifier: BSD-2-Clause
/* Sends whole IP packets. See raw.h. */
#include "edge/raw.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

int raw_open(struct raw *ret_raw)
{
	struct raw raw = RAW_NONE;

	/* IPPROTO_RAW: the header is the caller's, in both families. */
	raw.ipv4_fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
	if (raw.ipv4_fd < 0)
		return -errno;
	raw.ipv6_fd = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
	*ret_raw = raw;
	return 0;
}

void raw_close(struct raw *raw)
{
	if (raw->ipv4_fd >= 0)
		close(raw->ipv4_fd);
	if (raw->ipv6_fd >= 0)
		close(raw->ipv6_fd);
	*raw = (struct raw)RAW_NONE;
}

int raw_send(const struct raw *raw, const void *packet, size_t length,
	     const struct peer_address *target, __u32 mark, __u32 interface)
{
	struct iovec content = { .iov_base = (void *)packet, .iov_len = length };
	char control[CMSG_SPACE(sizeof(struct in6_pktinfo))]
		__attribute__((aligned(sizeof(struct cmsghdr)))) = {};
	struct sockaddr_in ipv4 = { .sin_family = AF_INET };
	struct sockaddr_in6 ipv6 = { .sin6_family = AF_INET6 };
	const struct in_pktinfo by_ipv4 = { .ipi_ifindex = (int)interface };
	const struct in6_pktinfo by_ipv6 = { .ipi6_ifindex = interface };
	bool is_ipv4 = address_is_ipv4(target);
	struct msghdr message = { .msg_iov = &content, .msg_iovlen = 1 };
	struct cmsghdr *by = (struct cmsghdr *)control;
	int fd = is_ipv4 ? raw->ipv4_fd : raw->ipv6_fd;

	if (fd < 0)
		return -EAFNOSUPPORT;
	memcpy(&ipv4.sin_addr, &target->bytes[12], sizeof(ipv4.sin_addr));
	memcpy(&ipv6.sin6_addr, target->bytes, sizeof(ipv6.sin6_addr));
	message.msg_name = is_ipv4 ? (void *)&ipv4 : (void *)&ipv6;
	message.msg_namelen = is_ipv4 ? sizeof(ipv4) : sizeof(ipv6);
	if (interface) {
		size_t size = is_ipv4 ? sizeof(by_ipv4) : sizeof(by_ipv6);

		/* Of the packet, not of the socket: to bind that anew takes a capability. */
		by->cmsg_level = is_ipv4 ? IPPROTO_IP : IPPROTO_IPV6;
		by->cmsg_type = is_ipv4 ? IP_PKTINFO : IPV6_PKTINFO;
		by->cmsg_len = CMSG_LEN(size);
		memcpy(CMSG_DATA(by), is_ipv4 ? (const void *)&by_ipv4 : (const void *)&by_ipv6, size);
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(size);
	}
	if (setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)))
		return -errno;
	return sendmsg(fd, &message, 0) < 0 ? -errno : 0;
}
