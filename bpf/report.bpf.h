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
 * Anybody can make us refuse or hold knocks, as fast as the wire is, and an application refuse its dials: they have
 * half of the ring. The other half is for dials that go on and for links, which the daemon must not miss.
 */
static __always_inline int has_room(const struct decision *decision, const struct dial *dial)
{
	if (decision->verdict != VERDICT_REFUSE && (dial || decision->verdict != VERDICT_HOLD))
		return 1;
	return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < EVENTS_BYTES / 2;
}

/* Fill in a record of the ring. */
static __always_inline void event_fill(struct guard_event *event, const struct decision *decision,
				       const struct happening *happening, const struct dial *dial, int enforced)
{
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
	event_fill(event, decision, happening, dial, enforced);
	bpf_ringbuf_submit(event, 0);
}

/*
 * The same with the packet that is held. It is large, and anybody can send such: where a quarter of the ring is full it
 * is told without.
 */
static __always_inline void report_held(struct __sk_buff *skb, const struct decision *decision,
					const struct happening *happening)
{
	struct held_packet *held = 0;
	__u32 length = skb->len;

	if (length > HELD_BYTES_MAX)
		length = HELD_BYTES_MAX;
	/* The verifier has to see both bounds of the very value that it will meet, one after the other. */
	barrier_var(length);
	if (length >= SEGMENT_BYTES_MIN && bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < EVENTS_BYTES / 4)
		held = bpf_ringbuf_reserve(&events, sizeof(*held), 0);
	if (!held) {
		report(decision, happening, 0, 1);
		return;
	}
	count(decision->cause, 1);
	event_fill(&held->event, decision, happening, 0, 1);
	held->length = bpf_skb_load_bytes(skb, 0, held->bytes, length) ? 0 : length;
	bpf_ringbuf_submit(held, 0);
}

#endif
