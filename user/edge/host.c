/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * This host and the calling thread's network namespace. See host.h.
 */
#include "edge/host.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/nsfs.h>
#include <netinet/in.h>

#include "base/cleanup.h"

/* asm-generic/socket.h, Linux 5.14; parisc and sparc, which number otherwise, run no guard. */
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

/* include/net/tcp.h: TCP_TIMEOUT_INIT and TCP_RTO_MAX. */
#define SYN_TIMEOUT_FIRST_SECONDS 1
#define SYN_TIMEOUT_MAX_SECONDS 120

#define SYSCTL_IPV4 "/proc/sys/net/ipv4/"

/* ---- addresses ------------------------------------------------------------------------------- */

static int compare_addresses(const void *left, const void *right)
{
	return memcmp(left, right, sizeof(struct peer_address));
}

/* The key of an interface's address. 1, or 0 when it has none of IPv4 or IPv6. */
static int address_of_interface(const struct ifaddrs *interface, struct peer_address *ret_address)
{
	struct sockaddr_in6 ipv6;
	struct sockaddr_in ipv4;

	if (!interface->ifa_addr)
		return 0;
	switch (interface->ifa_addr->sa_family) {
	case AF_INET:
		memcpy(&ipv4, interface->ifa_addr, sizeof(ipv4));
		*ret_address = address_from_ipv4(ipv4.sin_addr.s_addr);
		return 1;
	case AF_INET6:
		memcpy(&ipv6, interface->ifa_addr, sizeof(ipv6));
		*ret_address = (struct peer_address){};
		memcpy(ret_address->bytes, &ipv6.sin6_addr, sizeof(ret_address->bytes));
		return 1;
	default:
		return 0;
	}
}

int host_addresses(struct peer_address **ret_addresses, size_t *ret_count)
{
	struct ifaddrs *interfaces, *interface;
	struct peer_address *addresses;
	size_t i, count = 0, kept = 0;

	if (getifaddrs(&interfaces) < 0)
		return -errno;
	for (interface = interfaces; interface; interface = interface->ifa_next)
		count++;
	addresses = calloc(count + 1, sizeof(*addresses));
	if (!addresses) {
		freeifaddrs(interfaces);
		return -ENOMEM;
	}
	count = 0;
	for (interface = interfaces; interface; interface = interface->ifa_next)
		count += address_of_interface(interface, &addresses[count]);
	freeifaddrs(interfaces);

	qsort(addresses, count, sizeof(*addresses), compare_addresses);
	/* An address may be on several interfaces. */
	for (i = 0; i < count; i++)
		if (!kept || !address_equal(&addresses[kept - 1], &addresses[i]))
			addresses[kept++] = addresses[i];
	*ret_addresses = addresses;
	*ret_count = kept;
	return 0;
}

/* ---- network namespaces ---------------------------------------------------------------------- */

int host_netns_cookie(__u64 *ret_cookie)
{
	cleanup_close int fd = -1;
	socklen_t length;
	__u64 cookie;

	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	length = sizeof(cookie);
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) < 0)
		return -errno;
	*ret_cookie = cookie;
	return 0;
}

int host_open_netns(const char *path, int *ret_fd)
{
	cleanup_close int fd = -1;
	int type;

	fd = open(path ? path : "/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	type = ioctl(fd, NS_GET_NSTYPE);
	/* ENOTTY: not a namespace at all. */
	if (type < 0 && errno != ENOTTY)
		return -errno;
	if (type != CLONE_NEWNET)
		return -EINVAL;
	*ret_fd = take_descriptor(&fd);
	return 0;
}

int host_enter_netns(const char *path)
{
	cleanup_close int fd = -1;
	int error;

	error = host_open_netns(path, &fd);
	if (error)
		return error;
	return setns(fd, CLONE_NEWNET) < 0 ? -errno : 0;
}

/* ---- settings -------------------------------------------------------------------------------- */

/* A number from a file of /proc/sys. */
static int setting_read(const char *path, unsigned int *ret_value)
{
	cleanup_fclose FILE *file = NULL;
	unsigned int value;

	file = fopen(path, "re");
	if (!file)
		return -errno;
	if (fscanf(file, "%u", &value) != 1)
		return ferror(file) ? -EIO : -EBADMSG;
	*ret_value = value;
	return 0;
}

int host_syn_timeout(__u64 *ret_ns)
{
	unsigned int retries, linear = 0, seconds, step = SYN_TIMEOUT_FIRST_SECONDS, i;
	int error;

	error = setting_read(SYSCTL_IPV4 "tcp_syn_retries", &retries);
	if (error)
		return error;
	error = setting_read(SYSCTL_IPV4 "tcp_syn_linear_timeouts", &linear);
	if (error && error != -ENOENT)
		return error;
	/* The first `linear` time-outs come on top and do not double the step. */
	seconds = linear * SYN_TIMEOUT_FIRST_SECONDS;
	for (i = 0; i <= retries; i++) {
		seconds += step;
		step = step * 2 < SYN_TIMEOUT_MAX_SECONDS ? step * 2 : SYN_TIMEOUT_MAX_SECONDS;
	}
	*ret_ns = seconds * 1000000000ULL;
	return 0;
}
