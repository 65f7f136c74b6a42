/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Counting and telling, in one place: every decision of every hook ends here.
 *
 * Owns the counters and the events ring. Never called under a lock.
 */
#ifndef CONNGUARD_REPORT_BPF_H
#define CONNGUARD_REPORT_BPF_H

#include "maps.bpf.h"

/* What a hook knows about a happening beyond the decision. */
struct happening {
	struct peer_address address;
	__u64 now;
	__u64 cookie;
	enum link_direction direction;
	__u16 local_port;
	__u16 remote_port;
};

/* Count a cause, in the books of what happened or of what observe mode would have done. */
static __always_inline void count(enum cause cause, int enforced)
{
	__u32 index = enforced ? COUNTERS_ENFORCED : COUNTERS_OBSERVED;
	struct guard_counters *book = bpf_map_lookup_elem(&counters, &index);

	/*
	 * Per CPU, but a hook in process context can be interrupted by one in softirq: add
	 * atomically.
	 */
	if (book)
		__sync_fetch_and_add(&((__u64 *)book)[opaque(cause) & (COUNTERS_FIELDS - 1)], 1);
}

static __always_inline void count_lost_event(void)
{
	__u32 index = COUNTERS_ENFORCED;
	struct guard_counters *book = bpf_map_lookup_elem(&counters, &index);

	if (book)
		__sync_fetch_and_add(&book->events_lost, 1);
}

/*
 * Anybody can make us refuse or hold knocks, as fast as the wire is: they have half of the ring. The other
 * half is for dials and links, which the daemon must not miss.
 */
static __always_inline int has_room(const struct decision *decision, const struct dial *dial)
{
	if (dial || (decision->verdict != VERDICT_REFUSE && decision->verdict != VERDICT_HOLD))
		return 1;
	return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < EVENTS_BYTES / 2;
}

/* Count and put into the ring. `dial` (may be NULL) tells who called connect(). */
static __always_inline void report(const struct decision *decision,
				   const struct happening *happening, const struct dial *dial,
				   int enforced)
{
	struct guard_event *event;

	count(decision->cause, enforced);
	event = has_room(decision, dial) ? bpf_ringbuf_reserve(&events, sizeof(*event), 0) : 0;
	if (!event) {
		count_lost_event();
		return;
	}
	event->time_ns = happening->now;
	event->address = happening->address;
	event->cookie = happening->cookie;
	event->other_cookie = decision->other_cookie;
	event->until_ns = decision->until_ns;
	event->cause = decision->cause;
	event->verdict = decision->verdict;
	event->direction = happening->direction;
	event->enforced = enforced;
	event->attempts = decision->attempts;
	event->ending = decision->ending;
	event->reserved = 0;
	event->local_port = happening->local_port;
	event->remote_port = happening->remote_port;
	if (dial) {
		event->process_id = dial->process_id;
		event->thread_id = dial->thread_id;
		__builtin_memcpy(event->command, dial->command, sizeof(event->command));
	} else {
		event->process_id = 0;
		event->thread_id = 0;
		__builtin_memset(event->command, 0, sizeof(event->command));
	}
	bpf_ringbuf_submit(event, 0);
}

#endif
