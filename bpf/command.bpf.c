// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The one door through which userspace changes a peer.
 *
 * Userspace runs it on a struct guard_command, so that commands take the same rules under the same lock as the
 * hooks. (Writing a whole map value from userspace would undo whatever a hook changed between the read and the
 * write.)
 */
#include "run.bpf.h"

/* 1: it is about a peer that need not be there yet. */
static __always_inline int creates(const struct guard_command *request)
{
	return request->operation == COMMAND_ADD || request->operation == COMMAND_ADOPT || command_decides(request);
}

/* The peer that a command is about; NULL: there is none, and it could not be made. */
static __always_inline struct peer *peer_of(const struct guard_command *request, const struct guard_policy *rules)
{
	if (!creates(request))
		return bpf_map_lookup_elem(&peers, &request->address);
	/* A link that no slot shows is like one that a hook sees come up. */
	return request->operation == COMMAND_ADOPT ? peer_learn(&request->address, rules) :
						     peer_name(&request->address);
}

/* 1: a cause for which userspace may free a slot. */
static __always_inline int ends_a_slot(__u32 cause)
{
	return cause == CAUSE_link_released || cause == CAUSE_link_cut ||
	       cause == CAUSE_link_unguarded;
}

/* For a guard without a daemon: bpftool cannot spell a policy. */
static __always_inline int set_default_policy(void)
{
	static const struct guard_policy defaults = POLICY_DEFAULTS;
	__u32 zero = 0;

	return bpf_map_update_elem(&policy, &zero, &defaults, BPF_ANY);
}

/* Carrier, address or route is back, or the host has resumed: every backoff is over. */
static __always_inline int revive(enum cause cause)
{
	struct happening happening = { .now = bpf_ktime_get_boot_ns() };
	struct decision decision = { .cause = cause };

	if (cause != CAUSE_network_back && cause != CAUSE_host_resumed)
		return -ERROR_INVALID;
	revive_all(happening.now);
	if (mode_in_force() != MODE_OFF)
		report(&decision, &happening, 0, 1);
	return 0;
}

SEC("classifier")
int command(struct __sk_buff *skb)
{
	const struct guard_policy *rules = policy_in_force();
	struct happening happening = {};
	struct decision decision = {};
	struct guard_command request;
	struct link link = {};
	struct slot *slot;
	struct peer *peer;
	int result = 0, forget = 0, leaves = 0, enforced = 1;
	enum guard_mode mode;
	__u64 now, revived;

	if (bpf_skb_load_bytes(skb, 0, &request, sizeof(request)))
		return -ERROR_INVALID;
	if (request.operation == COMMAND_DEFAULTS)
		return set_default_policy();
	if (!rules ||
	    ((request.operation == COMMAND_LIMIT || request.operation == COMMAND_ADD) &&
	     request.value > PEER_LINKS_MAX) ||
	    (request.operation == COMMAND_RELEASE && !ends_a_slot(request.value)))
		return -ERROR_INVALID;
	if (request.operation == COMMAND_REVIVE)
		return revive(request.value);
	revived = revived_ns();
	now = bpf_ktime_get_boot_ns();
	peer = peer_of(&request, rules);
	if (!peer)
		return creates(&request) ? -ERROR_NO_SPACE : -ERROR_NO_ENTRY;
	link.cookie = request.cookie;
	link.now = now;
	link.direction = request.direction;
	link.local_port = request.local_port;
	link.remote_port = request.remote_port;
	link.adopted = 1;
	/* Nothing is refused to an exempt peer, nor too many. */
	mode = pick(same(exemption_of(&request.address, now), EXEMPT_PEER), MODE_OFF, mode_in_force());
	link.mode = mode;

	bpf_spin_lock(&peer->lock);
	peer_revive(peer, revived);
	if (!peer_is(peer, &request.address, now)) {
		result = -ERROR_BUSY;
	} else if (request.operation == COMMAND_ADD) {
		/* Who is named takes no place from those that are learned. */
		leaves = peer->flags & PEER_COUNTED;
		peer->flags = (peer->flags | PEER_KNOWN) & ~(__u32)PEER_COUNTED;
		peer->named_limit = request.value;
	} else if (request.operation == COMMAND_UNKNOW) {
		peer->flags &= ~(__u32)PEER_KNOWN;
		peer->named_limit = 0;
	} else if (request.operation == COMMAND_KICK) {
		backoff_clear(peer);
		decision.cause = CAUSE_peer_kicked;
	} else if (request.operation == COMMAND_LIMIT) {
		peer->limit = request.value;
	} else if (request.operation == COMMAND_ALLOW) {
		peer->exempt_until_ns = request.until_ns;
	} else if (request.operation == COMMAND_ANNOUNCE) {
		if (peer_due(peer, now)) {
			peer->due_ns = now;
			decision.cause = CAUSE_peer_due;
		} else {
			result = -ERROR_BUSY;
		}
	} else if (request.operation == COMMAND_RELEASE) {
		decision = slot_release(peer, request.cookie, request.value, now);
		if (decision.cause == CAUSE_none)
			result = -ERROR_NO_ENTRY;
	} else if (request.operation == COMMAND_ADOPT) {
		decision = link_up(peer, rules, &link);
		if (decision.cause == CAUSE_link_unheld)
			result = -ERROR_NO_SPACE;
	} else if (request.operation == COMMAND_HEARD) {
		link_heard(peer, request.cookie, request.until_ns);
	} else if (request.operation == COMMAND_UNANSWERED) {
		decision = link_unanswered(peer, rules, request.cookie, now);
		if (decision.cause == CAUSE_none)
			result = -ERROR_NO_ENTRY;
	} else if (request.operation == COMMAND_STRANDED && request.value) {
		decision = link_stranded(peer, request.cookie);
		if (decision.cause == CAUSE_none)
			result = -ERROR_NO_ENTRY;
	} else if (request.operation == COMMAND_STRANDED) {
		if (!link_floats(peer, request.cookie))
			result = -ERROR_NO_ENTRY;
	} else if (request.operation == COMMAND_LET_GO) {
		slot = slot_of(peer, request.cookie);
		/* One of which no SYN is ready has failed, perhaps, and is void soon. */
		if (!slot || slot->kind != SLOT_CLAIM || slot->expires_ns <= now ||
		    !(slot->flags & SLOT_KEPT) || !(slot->flags & SLOT_SENT) ||
		    slot->flags & SLOT_GIVEN_UP)
			result = -ERROR_NO_ENTRY;
		else if (now < dial_waits_until(peer, rules, request.cookie, now))
			result = -ERROR_BUSY;
		else
			decision = dial_let_go(peer, rules, slot, now);
		/* The daemon sends its SYN, past the hook that counts them. */
		if (!result)
			dial_syn_left(slot, now);
	} else if (request.operation == COMMAND_SPARE) {
		decision = link_spare(peer, rules, request.cookie, now);
		if (decision.cause == CAUSE_none)
			result = -ERROR_BUSY;
	} else if (request.operation == COMMAND_TRIM) {
		decision = link_trim(peer, rules, request.cookie, mode, now);
		/* That it goes is what observe mode only counts. */
		enforced = mode == MODE_ENFORCE;
		if (decision.cause == CAUSE_none)
			result = -ERROR_BUSY;
	} else if (request.operation == COMMAND_EXPIRE) {
		decision = claims_expire(peer, now);
	} else if (request.operation == COMMAND_FORGET) {
		forget = peer_forget(peer, now, request.until_ns);
		leaves = forget ? peer->flags & PEER_COUNTED : 0;
		if (!forget)
			result = -ERROR_BUSY;
	} else {
		result = -ERROR_INVALID;
	}
	decision.attempts = peer->attempts;
	bpf_spin_unlock(&peer->lock);

	/* Marked as leaving under the lock: no hook takes a slot in it any more. */
	if (forget)
		bpf_map_delete_elem(&peers, &request.address);
	if (leaves)
		network_leave(&request.address);
	if (decision.cause != CAUSE_none) {
		happening.address = request.address;
		happening.now = now;
		happening.cookie = request.cookie;
		happening.direction = decision.direction;
		happening.local_port = request.local_port;
		happening.remote_port = request.remote_port;
		report(&decision, &happening, 0, enforced);
	}
	return result;
}
