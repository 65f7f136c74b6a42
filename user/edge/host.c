/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * This host and the calling thread's network namespace. See host.h.
 */
#include "edge/host.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/nsfs.h>

#include "base/cleanup.h"

/* asm-generic/socket.h, Linux 5.14; parisc and sparc, which number otherwise, run no guard. */
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

/* include/net/tcp.h: TCP_TIMEOUT_INIT and TCP_RTO_MAX. */
#define SYN_TIMEOUT_FIRST_SECONDS 1
#define SYN_TIMEOUT_MAX_SECONDS 120

#define SYSCTL_IPV4 "/proc/sys/net/ipv4/"

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

/* ---- addresses ------------------------------------------------------------------------------- */

static bool has_address(const struct ifaddrs *one, const struct peer_address *address)
{
	struct peer_address has = {};
	struct sockaddr_in6 ipv6;
	struct sockaddr_in ipv4;

	if (!one->ifa_addr)
		return false;
	switch (one->ifa_addr->sa_family) {
	case AF_INET:
		memcpy(&ipv4, one->ifa_addr, sizeof(ipv4));
		has = address_from_ipv4(ipv4.sin_addr.s_addr);
		break;
	case AF_INET6:
		memcpy(&ipv6, one->ifa_addr, sizeof(ipv6));
		memcpy(has.bytes, &ipv6.sin6_addr, sizeof(has.bytes));
		break;
	default:
		return false;
	}
	return address_same_host(&has, address);
}

bool host_is_at(const struct peer_address *address, __u32 interface)
{
	bool here = false, elsewhere = false;
	struct ifaddrs *list;

	if (getifaddrs(&list))
		return false;
	for (const struct ifaddrs *one = list; one; one = one->ifa_next) {
		if (!has_address(one, address))
			continue;
		if (if_nametoindex(one->ifa_name) == interface)
			here = true;
		else
			elsewhere = true;
	}
	freeifaddrs(list);
	return here && !elsewhere;
}
