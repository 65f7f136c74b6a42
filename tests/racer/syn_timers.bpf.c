// SPDX-License-Identifier: BSD-2-Clause
/*
 * TCP in the time of the demo: the first time-out of a SYN and of a SYN-ACK, for the sockets of the
 * cgroup that it is attached to.
 *
 * The nodes of the demo live many times faster than the origin did, and so do the guards. The
 * second after which TCP sends a SYN again (TCP_TIMEOUT_INIT, include/net/tcp.h) has to shrink with
 * them, or a lost SYN would cost a minute of their time. Attached in every run, guarded or not; it
 * decides about nothing else.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

/* The single element: jiffies. 0, as it is when loaded: the kernel's own. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} first_timeout SEC(".maps");

SEC("sockops")
int syn_timers(struct bpf_sock_ops *ctx)
{
	__u32 zero = 0;
	const __u32 *jiffies;

	if (ctx->op != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;
	jiffies = bpf_map_lookup_elem(&first_timeout, &zero);
	if (jiffies && *jiffies)
		ctx->reply = *jiffies;
	return 1;
}

char timers_license[] SEC("license") = "BSD";
