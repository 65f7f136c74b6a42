// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: any bytes as what the kernel says over rtnetlink, when it is asked (local_table.h) and unasked
 * (network_watch.h).
 *
 * Whatever it is, a question comes to an end; what is read of the answers is in order, and has no IPv4 that no message
 * of IPv4 was about. A message that is cut off is no news, nor is one of another kind.
 *
 * The functions of libmnl that touch the kernel are in this file. An input is a byte, 0 to ask and 1 to listen, then
 * messages: a byte of enum shape, with SHAPE_STRANGER four more, a length, and so many bytes of payload; up to four
 * messages make a datagram.
 */
#include "input.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>

#include "edge/local_table.h"
#include "edge/network_watch.h"

/* The kernel's messages: bits of a byte. */
enum shape {
	SHAPE_KIND = 7,      /* of `kinds` */
	SHAPE_STRANGER = 8,  /* an answer to another question, the number of which is in the input */
	SHAPE_INTERRUPTED = 16,
	SHAPE_LAST = 32,     /* of its datagram */
	SHAPE_LIES = 64,     /* the length in its header is not that of the message */
	SHAPE_LOST = 128,    /* the datagram before was lost */
};

#define DATAGRAM_MESSAGES 4
#define PAYLOAD_MAX 600
#define PORT_ID 4711
/* Of an IPv4 address in 16 bytes. */
#define MAPPED_BITS 96

static const struct {
	__u16 type;
	__u16 least;       /* bytes of payload below which it is cut off; 0: what it says is in its type */
	unsigned int news; /* what it may tell, enum network_news */
} kinds[SHAPE_KIND + 1] = {
	{ RTM_NEWROUTE, sizeof(struct rtmsg), NETWORK_BACK | NETWORK_SELF },
	{ RTM_NEWLINK, sizeof(struct ifinfomsg), NETWORK_BACK },
	{ RTM_NEWADDR, sizeof(struct ifaddrmsg), NETWORK_BACK },
	{ RTM_DELROUTE, sizeof(struct rtmsg), NETWORK_SELF },
	{ RTM_DELLINK, 0, NETWORK_SELF },
	{ RTM_DELADDR, 0, NETWORK_SELF },
	{ NLMSG_ERROR, 0, 0 },
	{ NLMSG_DONE, 0, 0 },
};

static struct input input;
static __u32 sequence;
/* Of one pair: the library's end and the kernel's. */
static int ends[2] = { -1, -1 };
/* What the messages so far were about. */
static unsigned int news;
static bool was_ipv4;

/* ---- the kernel ------------------------------------------------------------------------------ */

/* Keep account of a message. */
static void note(unsigned int shape, const struct nlmsghdr *header, size_t payload)
{
	/* It may be taken for any other. */
	if (shape & SHAPE_LIES) {
		news = NETWORK_BACK | NETWORK_SELF;
		was_ipv4 = true;
		return;
	}
	if (payload >= kinds[shape & SHAPE_KIND].least)
		news |= kinds[shape & SHAPE_KIND].news;
	if (header->nlmsg_type == RTM_NEWROUTE && payload >= sizeof(struct rtmsg))
		was_ipv4 |= ((const struct rtmsg *)mnl_nlmsg_get_payload(header))->rtm_family == AF_INET;
}

/* One message at `to`. Returns its length, or 0 when nothing fits. */
static size_t make_message(char *to, size_t room, unsigned int shape)
{
	struct nlmsghdr *header = (struct nlmsghdr *)to;
	size_t payload, length;
	__u32 other = 0;

	if (shape & SHAPE_STRANGER)
		input_bytes(&input, &other, sizeof(other));
	payload = (input_byte(&input) | (size_t)input_byte(&input) << 8) % PAYLOAD_MAX;
	length = NLMSG_ALIGN(NLMSG_HDRLEN + payload);
	if (length > room)
		return 0;
	memset(to, 0, length);
	*header = (struct nlmsghdr){
		.nlmsg_len = NLMSG_HDRLEN + payload,
		.nlmsg_type = kinds[shape & SHAPE_KIND].type,
		.nlmsg_flags = shape & SHAPE_INTERRUPTED ? NLM_F_DUMP_INTR : 0,
		.nlmsg_seq = shape & SHAPE_STRANGER ? other : sequence,
		.nlmsg_pid = PORT_ID,
	};
	input_bytes(&input, to + NLMSG_HDRLEN, payload);
	note(shape, header, payload);
	if (shape & SHAPE_LIES)
		input_bytes(&input, &header->nlmsg_len, sizeof(header->nlmsg_len));
	return length;
}

/* The next datagram. Returns its length; -1: it was lost. */
static ssize_t make_datagram(char *to, size_t room)
{
	size_t length = 0;

	for (int i = 0; i < DATAGRAM_MESSAGES && input.left; i++) {
		unsigned int shape = input_byte(&input);

		if (shape & SHAPE_LOST && !length)
			return -1;
		length += make_message(to + length, room - length, shape);
		if (shape & SHAPE_LAST)
			break;
	}
	return (ssize_t)length;
}

ssize_t mnl_socket_recvfrom(const struct mnl_socket *socket, void *buffer, size_t size)
{
	ssize_t length;

	must(socket);
	if (!input.left) {
		errno = EAGAIN;
		return -1;
	}
	length = make_datagram(buffer, size);
	if (length < 0)
		errno = ENOBUFS;
	return length;
}

ssize_t mnl_socket_sendto(const struct mnl_socket *socket, const void *buffer, size_t size)
{
	const struct nlmsghdr *header = buffer;

	must(socket && size == header->nlmsg_len);
	must(header->nlmsg_type == RTM_GETROUTE || header->nlmsg_type == RTM_GETLINK);
	must(header->nlmsg_flags == (NLM_F_REQUEST | NLM_F_DUMP));
	sequence = header->nlmsg_seq;
	return (ssize_t)size;
}

struct mnl_socket *mnl_socket_open2(int bus, int flags)
{
	must(bus == NETLINK_ROUTE && flags & SOCK_CLOEXEC);
	must(!socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends));
	return (struct mnl_socket *)ends;
}

int mnl_socket_bind(struct mnl_socket *socket, unsigned int groups, pid_t pid)
{
	(void)groups;
	must(socket && pid == MNL_SOCKET_AUTOPID);
	return 0;
}

int mnl_socket_get_fd(const struct mnl_socket *socket)
{
	must(socket);
	return ends[0];
}

unsigned int mnl_socket_get_portid(const struct mnl_socket *socket)
{
	must(socket);
	return PORT_ID;
}

int mnl_socket_close(struct mnl_socket *socket)
{
	must(socket);
	close(ends[1]);
	return close(ends[0]);
}

/* ---- asked ----------------------------------------------------------------------------------- */

static bool bit_of(const __u8 address[16], __u32 bit)
{
	return address[bit / 8] & 0x80 >> bit % 8;
}

/* Is IPv4 in it, or it in IPv4? */
static bool meets_ipv4(const struct exempt_prefix *prefix)
{
	static const __u8 mapped[16] = { [10] = 0xff, [11] = 0xff };

	for (__u32 bit = 0; bit < prefix->prefix_length && bit < MAPPED_BITS; bit++)
		if (bit_of(prefix->address, bit) != bit_of(mapped, bit))
			return false;
	return true;
}

static void check(const struct prefix_set *set)
{
	for (size_t i = 0; i < set->count; i++) {
		const struct exempt_prefix *one = &set->list[i], *before = &set->list[i ? i - 1 : 0];

		must(one->prefix_length <= 128);
		for (__u32 bit = one->prefix_length; bit < 128; bit++)
			must(!bit_of(one->address, bit));
		must(!i || before->prefix_length < one->prefix_length ||
		     (before->prefix_length == one->prefix_length &&
		      memcmp(before->address, one->address, sizeof(one->address)) < 0));
		must(was_ipv4 || !meets_ipv4(one));
	}
}

static void ask(void)
{
	cleanup_prefixes struct prefix_set set = {};
	struct local_table *table;
	int result;

	must(!local_table_open(&table));
	result = local_table_read(table, &set);
	must(result <= 0 && result > -4096);
	must(!result || !set.list);
	check(&set);
	local_table_close(table);
}

/* ---- unasked --------------------------------------------------------------------------------- */

static void hear(void)
{
	char datagram[DATAGRAM_MESSAGES * NLMSG_ALIGN(NLMSG_HDRLEN + PAYLOAD_MAX)]
		__attribute__((aligned(NLMSG_ALIGNTO)));
	struct network_watch *watch;
	int fd;

	must(!network_watch_open(&watch, &fd));
	must(fd == ends[0]);
	while (input.left) {
		ssize_t length = make_datagram(datagram, sizeof(datagram));

		if (length > 0) {
			must(send(ends[1], datagram, (size_t)length, 0) == length);
			must(!(network_watch_drain(watch) & ~news));
		}
		news = 0;
	}
	must(!network_watch_drain(watch));
	network_watch_close(watch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	input = (struct input){ .next = data, .left = size };
	news = 0;
	was_ipv4 = false;
	if (input_below(&input, 2))
		hear();
	else
		ask();
	return 0;
}
