/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is to know of this host and of a network namespace: the namespace's identity, TCP settings, whose an address is.
 *
 * Each function is about the calling thread's network namespace. Knows nothing of peers, guards or
 * sockets, logs nothing. Functions return 0 or a negative errno.
 */
#ifndef EDGE_HOST_H
#define EDGE_HOST_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

#include <connguard/address.h>

/*
 * The namespace's cookie: never 0, never used again until reboot, the number bpf_get_netns_cookie()
 * gives. -ENOPROTOOPT: the kernel is older than 5.14.
 */
int host_netns_cookie(__u64 *ret_cookie);

/*
 * Open the network namespace at `path` (/run/netns/NAME, /proc/PID/ns/net); NULL: the calling
 * thread's. *ret_fd is the caller's to close and is close-on-exec. -EINVAL: the path is no network
 * namespace; -ENOENT, -EACCES.
 */
int host_open_netns(const char *path, int *ret_fd);

/*
 * Put the calling thread, not its process, into the network namespace at `path`. Errors as
 * host_open_netns(), and -EPERM: no CAP_SYS_ADMIN.
 */
int host_enter_netns(const char *path);

/*
 * Nanoseconds until connect() gives up when no SYN is answered, by tcp_syn_retries and (Linux 6.5)
 * tcp_syn_linear_timeouts: 127 s or 131 s by default. An application may choose another number of
 * retries for one socket (TCP_SYNCNT). -ENOENT: /proc/sys is not there.
 */
int host_syn_timeout(__u64 *ret_ns);

/*
 * Whether the interface with this index has the address, and no other one has it too: by that one comes what this host
 * sends to itself there. False also where that cannot be told.
 */
bool host_is_at(const struct peer_address *address, __u32 interface);

#endif
