/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TCP sockets over NETLINK_SOCK_DIAG. See sockets.h.
 */
#include "edge/sockets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>

#include <connguard/rules.h>

#include "base/cleanup.h"

/* Largest message of a dump: the most the kernel puts in one, af_netlink.c. */
#define BUFFER_SIZE 32768

/* Of tcpi_min_rtt in struct tcp_info (include/uapi/linux/tcp.h), before which that of the C library ends. */
#define TCP_INFO_MIN_RTT 148

/* The greatest state that a state mask has a bit for; TCP has less than half as many. */
#define STATE_MAX 31

/*
 * The kernel answers a dump when it has found so many sockets as are wanted, and looks on until then, at millions if
 * need be, in one system call. So that it comes back now and then, those with a port from here to there, of the range
 * from which Linux dials, are wanted too, and passed over here: one in fourteen.
 */
#define SAMPLED_FIRST 49152
#define SAMPLED_LAST  51199

/* The greatest errno (include/linux/err.h). */
#define MAX_ERRNO 4095

/* An inconsistent list is asked for anew this often. */
#define LIST_ATTEMPTS 5

/* The kernel answers in the same system call; longer than this means that an answer was lost. */
#define ANSWER_SECONDS 5

struct sockets {
	struct mnl_socket *netlink;
	__u32 sequence; /* of the request under way */
	unsigned int port_id;
	char *buffer; /* BUFFER_SIZE bytes */
};

/* One bit per port. */
struct port_bits {
	__u64 words[65536 / 64];
};

static void port_set(struct port_bits *bits, __u16 port)
{
	bits->words[port / 64] |= 1ULL << port % 64;
}

static bool port_is_set(const struct port_bits *bits, __u16 port)
{
	return bits->words[port / 64] >> port % 64 & 1;
}

/* What an answer to a request is collected into. */
struct answer {
	struct tcp_socket *list;
	size_t count;
	size_t capacity;
	bool interrupted; /* the list may be inconsistent */
	int error; /* of ours, or of the kernel's half-way; 0: none */
	const struct port_bits *ports; /* sockets with none of them are passed over; NULL: all are taken */
	struct socket_vitals *vitals; /* of the one socket that was asked for; NULL: not wanted */
};

/* ---- messages -------------------------------------------------------------------------------- */

static bool address_unspecified(const struct peer_address *address)
{
	struct peer_address ipv6 = { 0 }, ipv4 = address_from_ipv4(0);

	return address_equal(address, &ipv6) || address_equal(address, &ipv4);
}

static struct peer_address address_of(__u8 family, const __be32 words[4])
{
	if (family == AF_INET)
		return address_from_ipv4(words[0]);
	return address_from_ipv6(words[0], words[1], words[2], words[3]);
}

/*
 * Decode one socket. Returns 1, or 0 for a stand-in: only a full socket is reported with the
 * INET_DIAG_SHUTDOWN attribute, which the kernel adds to every one (inet_diag_msg_attrs_fill()).
 */
static int socket_decode(const struct nlmsghdr *header, struct tcp_socket *ret_socket)
{
	const struct inet_diag_msg *message = mnl_nlmsg_get_payload(header);
	struct tcp_socket socket = { 0 };
	const struct nlattr *attribute;
	bool full = false;

	if (mnl_nlmsg_get_payload_len(header) < sizeof(*message) ||
	    (message->idiag_family != AF_INET && message->idiag_family != AF_INET6) ||
	    message->idiag_state > STATE_MAX)
		return 0;
	mnl_attr_for_each(attribute, header, sizeof(*message)) {
		switch (mnl_attr_get_type(attribute)) {
		case INET_DIAG_SHUTDOWN:
			full = true;
			break;
		case INET_DIAG_CGROUP_ID:
			if (mnl_attr_validate(attribute, MNL_TYPE_U64) >= 0)
				socket.cgroup_id = mnl_attr_get_u64(attribute);
			break;
		case INET_DIAG_SKV6ONLY:
			socket.ipv6_only = mnl_attr_validate(attribute, MNL_TYPE_U8) >= 0 &&
					   mnl_attr_get_u8(attribute);
			break;
		}
	}
	if (!full)
		return 0;
	socket.cookie = (__u64)message->id.idiag_cookie[1] << 32 | message->id.idiag_cookie[0];
	socket.local = address_of(message->idiag_family, message->id.idiag_src);
	socket.remote = address_of(message->idiag_family, message->id.idiag_dst);
	socket.local_port = ntohs(message->id.idiag_sport);
	socket.remote_port = ntohs(message->id.idiag_dport);
	socket.inode = message->idiag_inode;
	socket.interface = message->id.idiag_if;
	socket.state = message->idiag_state;
	*ret_socket = socket;
	return 1;
}

static void vitals_decode(const struct nlmsghdr *header, struct socket_vitals *vitals)
{
	const struct inet_diag_msg *message = mnl_nlmsg_get_payload(header);
	const struct nlattr *attribute;
	struct tcp_info info = { 0 };
	__u32 silent_ms, shortest_us = ~0U;

	mnl_attr_for_each(attribute, header, sizeof(*message)) {
		__u16 length = mnl_attr_get_payload_len(attribute);
		const char *told = mnl_attr_get_payload(attribute);

		if (mnl_attr_get_type(attribute) != INET_DIAG_INFO)
			continue;
		/* It has grown over the years, at its end. */
		memcpy(&info, told, length < sizeof(info) ? length : sizeof(info));
		if (length >= TCP_INFO_MIN_RTT + sizeof(shortest_us))
			memcpy(&shortest_us, told + TCP_INFO_MIN_RTT, sizeof(shortest_us));
	}
	silent_ms = info.tcpi_last_ack_recv < info.tcpi_last_data_recv ? info.tcpi_last_ack_recv :
									  info.tcpi_last_data_recv;
	*vitals = (struct socket_vitals){
		.state = message->idiag_state,
		.silent_ns = silent_ms * NS_PER_MS,
		.unanswered_probes = info.tcpi_probes,
		.unanswered_retransmissions = info.tcpi_retransmits,
		.unacknowledged = info.tcpi_unacked,
		.round_trip_ns = (info.tcpi_rtt < shortest_us ? info.tcpi_rtt : shortest_us) * 1000ULL,
	};
}

static bool is_wanted(const struct answer *answer, const struct tcp_socket *socket)
{
	return !answer->ports || port_is_set(answer->ports, socket->local_port) ||
	       port_is_set(answer->ports, socket->remote_port);
}

static int answer_add(struct answer *answer, const struct nlmsghdr *header)
{
	size_t capacity = answer->capacity ? answer->capacity * 2 : 64;
	struct tcp_socket *list;

	if (answer->count == answer->capacity) {
		list = reallocarray(answer->list, capacity, sizeof(*list));
		if (!list)
			return -ENOMEM;
		answer->list = list;
		answer->capacity = capacity;
	}
	if (!socket_decode(header, &answer->list[answer->count]) ||
	    !is_wanted(answer, &answer->list[answer->count]))
		return 0;
	answer->count++;
	if (answer->vitals)
		vitals_decode(header, answer->vitals);
	return 0;
}

/* What the kernel says of a request: 0 or a negative errno, and nothing else. */
static int errno_said(int said)
{
	return said <= 0 && said >= -MAX_ERRNO ? said : -EBADMSG;
}

/*
 * Read what has come of the answer to the last request, into `answer`: 1 when there is more, 0 at its end, or a
 * negative errno, which after -ETIMEDOUT and errors of the socket is the end too. What is left of an earlier request
 * is passed over. The answer is read to its end also after an error of ours: the kernel takes no new dump while one
 * is under way.
 */
static int answer_read_on(struct sockets *sockets, struct answer *answer)
{
	const struct nlmsghdr *header;
	const struct nlmsgerr *result;
	int length;
	ssize_t received;

	received = mnl_socket_recvfrom(sockets->netlink, sockets->buffer, BUFFER_SIZE);
	if (received < 0) {
		if (errno == EINTR)
			return 1;
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return -ETIMEDOUT;
		if (errno != ENOBUFS && errno != ENOSPC)
			return -errno;
		/* A message was lost. The end still comes, or the time-out. */
		answer->interrupted = true;
		return 1;
	}
	header = (const struct nlmsghdr *)sockets->buffer;
	length = (int)received;
	/* libmnl takes a length beyond 2^31 for a negative one, which fits anywhere. */
	for (; mnl_nlmsg_ok(header, length) && header->nlmsg_len <= (__u32)length;
	     header = mnl_nlmsg_next(header, &length)) {
		if (header->nlmsg_seq != sockets->sequence || header->nlmsg_pid != sockets->port_id)
			continue;
		if (header->nlmsg_flags & NLM_F_DUMP_INTR)
			answer->interrupted = true;
		switch (header->nlmsg_type) {
		case NLMSG_ERROR:
			result = mnl_nlmsg_get_payload(header);
			if (mnl_nlmsg_get_payload_len(header) < sizeof(*result))
				return -EBADMSG;
			return answer->error ? answer->error : errno_said(result->error);
		case NLMSG_DONE:
			/* The kernel ends a dump that failed half-way with its errno. */
			if (!answer->error && mnl_nlmsg_get_payload_len(header) >= sizeof(int))
				answer->error = errno_said(*(const int *)mnl_nlmsg_get_payload(header));
			return answer->error;
		case SOCK_DIAG_BY_FAMILY:
			if (!answer->error)
				answer->error = answer_add(answer, header);
			break;
		}
	}
	return 1;
}

/*
 * A program that the kernel runs on each socket of a dump, to tell whether it is wanted: by its ports.
 *
 * An operation goes on `yes` bytes ahead when it holds and `no` bytes when not. Who gets exactly to the end is
 * wanted, who gets beyond it is not. `yes` is a byte, and following it alone has to lead to the end: so each
 * comparison is followed by a jump there, which always takes its `no`. (inet_diag_bc_run() and inet_diag_bc_audit()
 * of net/ipv4/inet_diag.c.)
 */
struct port_filter {
	struct inet_diag_bc_op program[2 * 3 * SOCKETS_PORTS_MAX + 2 * 5 + 1];
	size_t length; /* bytes */
};

/* A comparison with a port, and where to go on if it does not hold: so many operations further. */
static struct inet_diag_bc_op *compare(struct inet_diag_bc_op *next, __u8 code, __u16 port, __u16 no)
{
	*next++ = (struct inet_diag_bc_op){ .code = code, .yes = 2 * sizeof(*next), .no = no * sizeof(*next) };
	/* The operand is in the place of an operation, its number in that of `no`. */
	*next++ = (struct inet_diag_bc_op){ .no = port };
	return next;
}

/* It is wanted: get exactly to the end, where `last` is the last operation. */
static struct inet_diag_bc_op *take(struct inet_diag_bc_op *next, const struct inet_diag_bc_op *last)
{
	*next = (struct inet_diag_bc_op){ .code = INET_DIAG_BC_JMP,
					  .yes = sizeof(*next),
					  .no = (__u16)((last + 1 - next) * sizeof(*next)) };
	return next + 1;
}

static void port_filter_make(struct port_filter *filter, const __u16 *ports, size_t port_count)
{
	struct inet_diag_bc_op *next = filter->program, *last = next + 2 * 3 * port_count + 2 * 5;

	for (size_t i = 0; i < 2 * port_count; i++) {
		next = compare(next, i % 2 ? INET_DIAG_BC_D_EQ : INET_DIAG_BC_S_EQ, ports[i / 2], 3);
		next = take(next, last);
	}
	for (int far = 0; far < 2; far++) {
		next = compare(next, far ? INET_DIAG_BC_D_GE : INET_DIAG_BC_S_GE, SAMPLED_FIRST, 5);
		next = compare(next, far ? INET_DIAG_BC_D_LE : INET_DIAG_BC_S_LE, SAMPLED_LAST, 3);
		next = take(next, last);
	}
	*last = (struct inet_diag_bc_op){ .code = INET_DIAG_BC_JMP, .yes = sizeof(*last), .no = 2 * sizeof(*last) };
	filter->length = (last + 1 - filter->program) * sizeof(*last);
}

/* Ask. `flags`: NLM_F_DUMP, or NLM_F_ACK so that every answer has an end. `filter`: of a dump, NULL: all. */
static int request_send(struct sockets *sockets, __u16 type, __u16 flags,
			const struct inet_diag_req_v2 *request, const struct port_filter *filter)
{
	struct nlmsghdr *header = mnl_nlmsg_put_header(sockets->buffer);

	header->nlmsg_type = type;
	header->nlmsg_flags = NLM_F_REQUEST | flags;
	header->nlmsg_seq = ++sockets->sequence;
	memcpy(mnl_nlmsg_put_extra_header(header, sizeof(*request)), request, sizeof(*request));
	if (filter)
		mnl_attr_put(header, INET_DIAG_REQ_BYTECODE, filter->length, filter->program);
	while (mnl_socket_sendto(sockets->netlink, header, header->nlmsg_len) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

/* Ask about one socket, and read the answer. */
static int request_run(struct sockets *sockets, __u16 type, const struct inet_diag_req_v2 *request,
		       struct answer *answer)
{
	int result = request_send(sockets, type, NLM_F_ACK, request, NULL);

	if (!result)
		do
			result = answer_read_on(sockets, answer);
		while (result > 0);
	return result;
}

/* The request that names exactly this socket. An IPv4 address finds sockets of either family. */
static struct inet_diag_req_v2 request_exact(const struct tcp_socket *socket)
{
	struct inet_diag_req_v2 request = {
		.sdiag_family = address_is_ipv4(&socket->remote) ? AF_INET : AF_INET6,
		.sdiag_protocol = IPPROTO_TCP,
		.idiag_states = ~0U,
		.id = {
			.idiag_sport = htons(socket->local_port),
			.idiag_dport = htons(socket->remote_port),
			.idiag_if = socket->interface,
			.idiag_cookie = { (__u32)socket->cookie, (__u32)(socket->cookie >> 32) },
		},
	};

	if (request.sdiag_family == AF_INET) {
		memcpy(request.id.idiag_src, &socket->local.bytes[12], 4);
		memcpy(request.id.idiag_dst, &socket->remote.bytes[12], 4);
	} else {
		memcpy(request.id.idiag_src, socket->local.bytes, 16);
		memcpy(request.id.idiag_dst, socket->remote.bytes, 16);
	}
	return request;
}

/* ---- open and close -------------------------------------------------------------------------- */

int sockets_open(struct sockets **ret_sockets)
{
	struct timeval patience = { .tv_sec = ANSWER_SECONDS };
	struct tcp_socket *none;
	struct sockets *sockets;
	size_t count;
	int error;

	sockets = calloc(1, sizeof(*sockets));
	if (!sockets)
		return -ENOMEM;
	sockets->buffer = malloc(BUFFER_SIZE);
	if (!sockets->buffer) {
		error = -ENOMEM;
		goto fail;
	}
	sockets->netlink = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
	if (!sockets->netlink || mnl_socket_bind(sockets->netlink, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    setsockopt(mnl_socket_get_fd(sockets->netlink), SOL_SOCKET, SO_RCVTIMEO, &patience,
		       sizeof(patience)) < 0) {
		error = errno == EPROTONOSUPPORT ? -EOPNOTSUPP : -errno;
		goto fail;
	}
	sockets->port_id = mnl_socket_get_portid(sockets->netlink);

	/* A list of no state at all: only a kernel without sock_diag for TCP says ENOENT to it. */
	error = sockets_list(sockets, 0, NULL, 0, &none, &count);
	if (error) {
		error = error == -ENOENT ? -EOPNOTSUPP : error;
		goto fail;
	}
	*ret_sockets = sockets;
	return 0;
fail:
	sockets_close(sockets);
	return error;
}

void sockets_close(struct sockets *sockets)
{
	if (!sockets)
		return;
	if (sockets->netlink)
		mnl_socket_close(sockets->netlink);
	free(sockets->buffer);
	free(sockets);
}

/* ---- lists ----------------------------------------------------------------------------------- */

static int compare_cookies(const void *left, const void *right)
{
	const struct tcp_socket *a = left, *b = right;

	return a->cookie < b->cookie ? -1 : a->cookie > b->cookie;
}

/*
 * Sort by cookie and drop what is there twice: a dump goes on by position in a hash chain, which
 * moves when sockets come and go. Mark the ports that have a listener, then drop the listeners
 * unless they were asked for.
 */
static size_t list_arrange(struct tcp_socket *list, size_t count, __u32 state_mask)
{
	struct port_bits listening = { 0 };
	size_t i, kept = 0;

	if (!count)
		return 0;
	qsort(list, count, sizeof(*list), compare_cookies);
	for (i = 0; i < count; i++)
		if (list[i].state == TCP_LISTEN)
			port_set(&listening, list[i].local_port);
	for (i = 0; i < count; i++) {
		if (kept && list[kept - 1].cookie == list[i].cookie)
			continue;
		if (!(state_mask & 1U << list[i].state))
			continue;
		list[kept] = list[i];
		list[kept].listening_port = port_is_set(&listening, list[i].local_port);
		kept++;
	}
	return kept;
}

struct socket_listing {
	struct sockets *sockets;
	__u32 state_mask;
	const struct port_filter *filter; /* NULL: all ports */
	struct port_filter ports;
	struct port_bits wanted; /* of the filter */
	struct answer answer;
	int family;   /* index of the one that is being listed */
	bool reading; /* its answer has not come to its end */
	int attempts;
};

/* A v4-mapped socket is of AF_INET6: each socket is in one of the two dumps. */
static const __u8 listed_families[] = { AF_INET, AF_INET6 };
#define LISTED_FAMILIES ((int)(sizeof(listed_families) / sizeof(*listed_families)))

static int listing_ask(struct socket_listing *listing)
{
	const struct inet_diag_req_v2 request = {
		.sdiag_family = listed_families[listing->family],
		.sdiag_protocol = IPPROTO_TCP,
		.idiag_states = listing->state_mask ? listing->state_mask | SOCKET_STATES_LISTEN : 0,
	};

	int error = request_send(listing->sockets, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &request, listing->filter);

	listing->reading = !error;
	return error;
}

int sockets_list_begin(struct sockets *sockets, __u32 state_mask, const __u16 *ports, size_t port_count,
		       struct socket_listing **ret_listing)
{
	struct socket_listing *listing;
	int error;

	if (port_count > SOCKETS_PORTS_MAX)
		return -E2BIG;
	listing = calloc(1, sizeof(*listing));
	if (!listing)
		return -ENOMEM;
	listing->sockets = sockets;
	/* A state that was not asked for is passed over, whatever the kernel says. */
	listing->state_mask = state_mask & ~(1U << TCP_TIME_WAIT);
	if (port_count) {
		port_filter_make(&listing->ports, ports, port_count);
		listing->filter = &listing->ports;
		for (size_t i = 0; i < port_count; i++)
			port_set(&listing->wanted, ports[i]);
		listing->answer.ports = &listing->wanted;
	}
	error = listing_ask(listing);
	if (error) {
		free(listing);
		return error;
	}
	*ret_listing = listing;
	return 0;
}

int sockets_list_on(struct socket_listing *listing)
{
	int result = answer_read_on(listing->sockets, &listing->answer);

	if (result > 0)
		return 1;
	listing->reading = false;
	if (result)
		return result;
	if (++listing->family == LISTED_FAMILIES && listing->answer.interrupted) {
		if (++listing->attempts == LIST_ATTEMPTS)
			return -EAGAIN;
		free(listing->answer.list);
		listing->answer = (struct answer){ .ports = listing->answer.ports };
		listing->family = 0;
	}
	if (listing->family == LISTED_FAMILIES)
		return 0;
	result = listing_ask(listing);
	return result ? result : 1;
}

void sockets_list_end(struct socket_listing *listing, struct tcp_socket **ret_list, size_t *ret_count)
{
	if (!listing)
		return;
	/* What was not read would be in the way of the next list. */
	while (listing->reading)
		listing->reading = answer_read_on(listing->sockets, &listing->answer) > 0;
	if (ret_list) {
		*ret_count = list_arrange(listing->answer.list, listing->answer.count, listing->state_mask);
		*ret_list = take_pointer(listing->answer.list);
	}
	free(listing->answer.list);
	free(listing);
}

int sockets_list(struct sockets *sockets, __u32 state_mask, const __u16 *ports, size_t port_count,
		 struct tcp_socket **ret_list, size_t *ret_count)
{
	struct socket_listing *listing;
	int result = sockets_list_begin(sockets, state_mask, ports, port_count, &listing);

	if (result)
		return result;
	do
		result = sockets_list_on(listing);
	while (result > 0);
	sockets_list_end(listing, result ? NULL : ret_list, ret_count);
	return result;
}

int sockets_find(struct sockets *sockets, __u64 cookie, struct tcp_socket *ret_socket)
{
	struct tcp_socket *found, key = { .cookie = cookie };
	cleanup_free struct tcp_socket *list = NULL;
	size_t count;
	int error;

	error = sockets_list(sockets, ~SOCKET_STATES_LISTEN, NULL, 0, &list, &count);
	if (error)
		return error;
	found = count ? bsearch(&key, list, count, sizeof(key), compare_cookies) : NULL;
	if (!found)
		return -ENOENT;
	*ret_socket = *found;
	return 0;
}

/* ---- one socket ------------------------------------------------------------------------------ */

/* Ask about exactly this socket. 0: answer->list is the caller's to free, and has one element. */
static int exact_query(struct sockets *sockets, const struct tcp_socket *socket, __u8 extensions,
		       struct answer *answer)
{
	struct inet_diag_req_v2 request = request_exact(socket);
	int error;

	if (address_unspecified(&socket->remote))
		return -EINVAL;
	request.idiag_ext = extensions;
	error = request_run(sockets, SOCK_DIAG_BY_FAMILY, &request, answer);
	/*
	 * ESTALE: found, with another cookie. No error and no socket: only a stand-in is left. One cookie that a socket
	 * may have, 2^64 - 1, finds any (INET_DIAG_NOCOOKIE).
	 */
	if (error == -ESTALE || (!error && (!answer->count || answer->list[0].cookie != socket->cookie)))
		error = -ENOENT;
	return error;
}

int sockets_vitals(struct sockets *sockets, const struct tcp_socket *socket,
		   struct socket_vitals *ret_vitals)
{
	struct socket_vitals vitals = { 0 };
	struct answer answer = { .vitals = &vitals };
	int error;

	error = exact_query(sockets, socket, 1 << (INET_DIAG_INFO - 1), &answer);
	free(answer.list);
	if (!error)
		*ret_vitals = vitals;
	return error;
}

int sockets_query(struct sockets *sockets, const struct tcp_socket *socket,
		  struct tcp_socket *ret_socket)
{
	struct answer answer = { 0 };
	int error;

	error = exact_query(sockets, socket, 0, &answer);
	if (!error) {
		answer.list[0].listening_port = socket->listening_port;
		*ret_socket = answer.list[0];
	}
	free(answer.list);
	return error;
}

int sockets_destroy(struct sockets *sockets, const struct tcp_socket *socket)
{
	struct inet_diag_req_v2 request = request_exact(socket);
	struct answer answer = { 0 };
	struct tcp_socket now;
	int error;

	/* A stand-in inherits the cookie, and its time in TIME_WAIT is there for a reason. */
	error = sockets_query(sockets, socket, &now);
	if (error)
		return error;
	error = request_run(sockets, SOCK_DESTROY, &request, &answer);
	free(answer.list);
	if (error == -ESTALE)
		return -ENOENT;
	/* Some kernels say this of a stand-in, which may just have taken its place. */
	if (error == -EOPNOTSUPP && sockets_query(sockets, socket, &now) == -ENOENT)
		return -ENOENT;
	return error;
}

/* ---- whose socket ---------------------------------------------------------------------------- */

static bool port_guarded(const struct socket_filter *filter, __u16 port)
{
	size_t i;

	for (i = 0; i < filter->port_count; i++)
		if (filter->ports[i] == port)
			return true;
	return false;
}

bool socket_is_guarded(const struct tcp_socket *socket, const struct socket_filter *filter,
		       enum link_direction *ret_direction)
{
	bool local = port_guarded(filter, socket->local_port);
	bool remote = port_guarded(filter, socket->remote_port);

	if (!local && !remote)
		return false;
	if (!cgroup_set_contains(filter->cgroups, socket->cgroup_id) ||
	    address_is_loopback(&socket->remote) ||
	    address_equal(&socket->remote, &socket->local))
		return false;
	if (socket->state == TCP_SYN_SENT) {
		if (!remote)
			return false;
		*ret_direction = DIRECTION_OUTBOUND;
	} else if (local && (socket->listening_port || !remote)) {
		*ret_direction = DIRECTION_INBOUND;
	} else {
		*ret_direction = DIRECTION_OUTBOUND;
	}
	return true;
}
