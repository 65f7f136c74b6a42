// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: any bytes as what the kernel answers over sock_diag.
 *
 * A kernel of another version says more than ours, or less. Whatever it is, a question comes to an end, and a
 * list that is handed out is in order: ascending, each cookie once, in the states that were asked for.
 *
 * The functions of libmnl that touch the kernel are at the end of this file. An input is a byte that says
 * what is asked, then messages: a byte of enum shape, a length, and so many bytes of payload; up to four
 * messages make a datagram.
 */
#include "input.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

#include "base/cleanup.h"
#include "edge/sockets.h"

/* The kernel's messages: bits of a byte. */
enum shape {
	SHAPE_TYPE = 7,      /* 0 to 4: a socket; 5: an error; 6: the end; 7: another type */
	SHAPE_STRANGER = 8,  /* an answer to another question */
	SHAPE_INTERRUPTED = 16,
	SHAPE_LAST = 32,     /* of its datagram */
	SHAPE_LIES = 64,     /* the length in its header is not that of the message */
	SHAPE_LOST = 128,    /* the datagram before was lost */
};

#define DATAGRAM_MESSAGES 4
#define PAYLOAD_MAX 600
#define PORT_ID 4711

static struct input input;
static __u32 sequence;
static int descriptor = -1;

/* ---- the kernel ------------------------------------------------------------------------------ */

/* One message at `to`. Returns its length, or 0 when nothing fits or is left. */
static size_t make_message(char *to, size_t room, unsigned int shape)
{
	static const __u16 types[] = { SOCK_DIAG_BY_FAMILY, SOCK_DIAG_BY_FAMILY, SOCK_DIAG_BY_FAMILY,
				       SOCK_DIAG_BY_FAMILY, SOCK_DIAG_BY_FAMILY, NLMSG_ERROR,
				       NLMSG_DONE,	    99 };
	size_t payload = (input_byte(&input) | (size_t)input_byte(&input) << 8) % PAYLOAD_MAX;
	struct nlmsghdr header = {
		.nlmsg_len = NLMSG_HDRLEN + payload,
		.nlmsg_type = types[shape & SHAPE_TYPE],
		.nlmsg_flags = shape & SHAPE_INTERRUPTED ? NLM_F_DUMP_INTR : 0,
		.nlmsg_seq = sequence + (shape & SHAPE_STRANGER ? 1 : 0),
		.nlmsg_pid = PORT_ID,
	};
	size_t length = NLMSG_ALIGN(NLMSG_HDRLEN + payload);

	if (length > room)
		return 0;
	memset(to, 0, length);
	input_bytes(&input, to + NLMSG_HDRLEN, payload);
	if (shape & SHAPE_LIES)
		input_bytes(&input, &header.nlmsg_len, sizeof(header.nlmsg_len));
	memcpy(to, &header, sizeof(header));
	return length;
}

ssize_t mnl_socket_recvfrom(const struct mnl_socket *socket, void *buffer, size_t size)
{
	size_t length = 0;

	must(socket);
	if (!input.left) {
		errno = EAGAIN;
		return -1;
	}
	for (int i = 0; i < DATAGRAM_MESSAGES && input.left; i++) {
		unsigned int shape = input_byte(&input);

		if (shape & SHAPE_LOST && !length) {
			errno = ENOBUFS;
			return -1;
		}
		length += make_message((char *)buffer + length, size - length, shape);
		if (shape & SHAPE_LAST)
			break;
	}
	return (ssize_t)length;
}

ssize_t mnl_socket_sendto(const struct mnl_socket *socket, const void *buffer, size_t size)
{
	const struct nlmsghdr *header = buffer;

	must(socket && size == header->nlmsg_len);
	must(header->nlmsg_len == NLMSG_HDRLEN + sizeof(struct inet_diag_req_v2));
	sequence = header->nlmsg_seq;
	return (ssize_t)size;
}

struct mnl_socket *mnl_socket_open2(int bus, int flags)
{
	int ends[2];

	must(bus == NETLINK_SOCK_DIAG && flags & SOCK_CLOEXEC);
	must(!socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends));
	close(ends[1]);
	descriptor = ends[0];
	return (struct mnl_socket *)&descriptor;
}

int mnl_socket_bind(struct mnl_socket *socket, unsigned int groups, pid_t pid)
{
	must(socket && !groups && pid == MNL_SOCKET_AUTOPID);
	return 0;
}

int mnl_socket_get_fd(const struct mnl_socket *socket)
{
	must(socket);
	return descriptor;
}

unsigned int mnl_socket_get_portid(const struct mnl_socket *socket)
{
	must(socket);
	return PORT_ID;
}

int mnl_socket_close(struct mnl_socket *socket)
{
	must(socket);
	return close(descriptor);
}

/* ---- the questions --------------------------------------------------------------------------- */

/* An open one, which takes two answers that have an end: a list of each family. */
static struct sockets *opened(void)
{
	static const uint8_t the_ends[] = { 6 | SHAPE_LAST, 4, 0, 0, 0, 0, 0, 6 | SHAPE_LAST, 4, 0, 0, 0, 0, 0 };
	const struct input story = input;
	struct sockets *sockets = NULL;

	input = (struct input){ .next = the_ends, .left = sizeof(the_ends) };
	must(!sockets_open(&sockets));
	input = story;
	return sockets;
}

static bool is_errno(int result)
{
	return result <= 0 && result > -4096;
}

static void ask_for_all(struct sockets *sockets, __u32 mask)
{
	cleanup_free struct tcp_socket *list = NULL;
	size_t count = 77, i;
	int result = sockets_list(sockets, mask, NULL, 0, &list, &count);

	must(is_errno(result));
	if (result) {
		must(!list && count == 77);
		return;
	}
	for (i = 0; i < count; i++) {
		must(list[i].state < 32 && mask & 1U << list[i].state);
		must(list[i].state != TCP_TIME_WAIT);
		must(!i || list[i - 1].cookie < list[i].cookie);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tcp_socket known = { .cookie = 7, .state = TCP_ESTABLISHED, .local_port = 24000, .remote_port = 1 };
	struct socket_vitals vitals;
	struct tcp_socket found = known;
	struct sockets *sockets;
	unsigned int question;

	known.remote = address_from_ipv4(0x0100000a);
	known.local = address_from_ipv4(0x0200000a);
	input = (struct input){ .next = data, .left = size };
	question = input_byte(&input);
	sockets = opened();
	switch (question % 6) {
	case 0:
		ask_for_all(sockets, SOCKET_STATES_LINK | SOCKET_STATES_DIAL);
		break;
	case 1:
		ask_for_all(sockets, ~0U);
		break;
	case 2:
		must(is_errno(sockets_find(sockets, known.cookie, &found)));
		must(found.cookie == known.cookie);
		break;
	case 3:
		must(is_errno(sockets_query(sockets, &known, &found)));
		break;
	case 4:
		must(is_errno(sockets_vitals(sockets, &known, &vitals)));
		break;
	case 5:
		must(is_errno(sockets_destroy(sockets, &known)));
		break;
	}
	sockets_close(sockets);
	return 0;
}
