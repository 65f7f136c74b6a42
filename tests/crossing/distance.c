// SPDX-License-Identifier: BSD-2-Clause
/*
 * The distance between home and far, for kernels without netem: hands every frame that one
 * interface receives to the other one, later, as the plan says for the pair of addresses in it.
 *
 * usage: distance HOME_INTERFACE FAR_INTERFACE PLAN RECORD SEED
 *
 * Prints "ready" and works until its standard input ends. A frame of no pair of the plan passes at
 * once. Frames of one pair and direction keep their order, unless the pair has jitter, drawn by
 * SEED. A frame that finds the queue full is lost, as on a wire, and that is an error at the end:
 * a run with losses that nobody planned proves nothing.
 *
 * RECORD gets a struct record for each TCP segment of the plan, so that a round can be explained,
 * and a delay of the machine be told from one of the plan. Frames keep their virtio header, so that
 * checksums that the senders left to their hardware come out right.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "plan.h"

#define FRAME_MAX (sizeof(struct virtio_net_hdr) + 66 * 1024)
#define QUEUE_LENGTH 65536
/* Frames taken from one interface before the other one has its turn. */
#define TAKEN_AT_ONCE 64
/* Until a frame that found no room at the other side is tried again. */
#define BUSY_NS (200 * NS_PER_US)
/* Of a socket that waits for us; the default is 212992, some hundred frames. */
#define RECEIVE_BUFFER (16 << 20)

/* A TCP segment on its way; crossing.py reads these. Native byte order. */
struct record {
	int64_t taken_ns; /* when we saw it */
	int64_t due_ns;   /* when it was to be handed on */
	int64_t sent_ns;  /* when it was; 0: it was eaten */
	uint32_t number;  /* of the pair in the plan */
	uint32_t sequence;
	uint32_t acknowledgment;
	uint16_t source_port;
	uint16_t destination_port;
	uint8_t flags;    /* of TCP */
	uint8_t to;       /* enum side */
	uint16_t length;  /* of the frame */
	uint32_t reserved;
};

_Static_assert(sizeof(struct record) == 48, "struct record");

/* A frame on its way, with its virtio header. */
struct frame {
	uint64_t order; /* of two that are due at the same time the first in is the first out */
	bool recorded;
	enum side to;
	struct record record;
	size_t length;
	unsigned char *bytes;
};

/* A binary heap: the frame that is due first is the first. */
static struct frame *queue[QUEUE_LENGTH];
static size_t queue_count;
static uint64_t frames_taken, frames_lost;

static void die(const char *what)
{
	fprintf(stderr, "distance: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- the queue ------------------------------------------------------------------------------- */

static bool is_before(const struct frame *one, const struct frame *other)
{
	if (one->record.due_ns != other->record.due_ns)
		return one->record.due_ns < other->record.due_ns;
	return one->order < other->order;
}

static void queue_put(struct frame *frame)
{
	size_t place = queue_count++;

	for (; place && is_before(frame, queue[(place - 1) / 2]); place = (place - 1) / 2)
		queue[place] = queue[(place - 1) / 2];
	queue[place] = frame;
}

static struct frame *queue_take(void)
{
	struct frame *first = queue[0], *last = queue[--queue_count];
	size_t place = 0, child;

	for (; (child = 2 * place + 1) < queue_count; place = child) {
		if (child + 1 < queue_count && is_before(queue[child + 1], queue[child]))
			child++;
		if (!is_before(queue[child], last))
			break;
		queue[place] = queue[child];
	}
	queue[place] = last;
	return first;
}

/* ---- what is in a frame ---------------------------------------------------------------------- */

/* 0, or -1 for what is no plain TCP segment. */
static int segment_read(const unsigned char *bytes, size_t length, struct in6_addr *source,
			struct in6_addr *destination, struct tcphdr *tcp)
{
	const unsigned char *packet = bytes + sizeof(struct virtio_net_hdr) + ETH_HLEN;
	struct ethhdr ethernet;
	struct ip6_hdr ipv6;
	struct iphdr ipv4;
	size_t offset;

	if (length < sizeof(struct virtio_net_hdr) + ETH_HLEN + sizeof(ipv4))
		return -1;
	length -= sizeof(struct virtio_net_hdr) + ETH_HLEN;
	memcpy(&ethernet, bytes + sizeof(struct virtio_net_hdr), sizeof(ethernet));
	if (ethernet.h_proto == htons(ETH_P_IP)) {
		memcpy(&ipv4, packet, sizeof(ipv4));
		if (ipv4.protocol != IPPROTO_TCP)
			return -1;
		*source = plan_mapped((struct in_addr){ ipv4.saddr });
		*destination = plan_mapped((struct in_addr){ ipv4.daddr });
		offset = ipv4.ihl * 4;
	} else if (ethernet.h_proto == htons(ETH_P_IPV6) && length >= sizeof(ipv6)) {
		memcpy(&ipv6, packet, sizeof(ipv6));
		if (ipv6.ip6_nxt != IPPROTO_TCP)
			return -1;
		*source = ipv6.ip6_src;
		*destination = ipv6.ip6_dst;
		offset = sizeof(ipv6);
	} else {
		return -1;
	}
	if (length < offset + sizeof(*tcp))
		return -1;
	memcpy(tcp, packet + offset, sizeof(*tcp));
	return 0;
}

/* Is this the segment that the pair loses? The first of its kind, once. */
static bool is_eaten(struct pair *pair, enum side from, const struct tcphdr *tcp)
{
	unsigned bit;

	if (!tcp->syn || tcp->rst)
		return false;
	bit = tcp->ack ? EATEN_ANSWER(from) : EATEN_SYN(from);
	if (!(pair->eaten & bit))
		return false;
	pair->eaten &= ~bit;
	return true;
}

/* ---- taking and handing on ------------------------------------------------------------------- */

static void record_write(FILE *file, const struct record *record)
{
	if (fwrite(record, sizeof(*record), 1, file) != 1)
		die("the record");
}

/* What the plan says of a frame: fills in the frame, returns false when it is eaten. */
static bool consult(const struct plan *plan, struct frame *frame, FILE *file)
{
	struct in6_addr source, destination;
	enum side from = !frame->to;
	struct tcphdr tcp;
	struct pair *pair;

	frame->record.due_ns = frame->record.taken_ns;
	if (segment_read(frame->bytes, frame->length, &source, &destination, &tcp))
		return true;
	pair = from == SIDE_HOME ? plan_find(plan, &source, &destination) :
				   plan_find(plan, &destination, &source);
	if (!pair)
		return true;
	frame->recorded = true;
	frame->record.due_ns += pair->delay_ns[frame->to];
	if (pair->jitter_ns)
		frame->record.due_ns += random() % (pair->jitter_ns + 1);
	frame->record.number = (uint32_t)pair->number;
	frame->record.sequence = ntohl(tcp.seq);
	frame->record.acknowledgment = ntohl(tcp.ack_seq);
	frame->record.source_port = ntohs(tcp.source);
	frame->record.destination_port = ntohs(tcp.dest);
	frame->record.flags = tcp.th_flags;
	frame->record.to = frame->to;
	frame->record.length = (uint16_t)frame->length;
	if (!is_eaten(pair, from, &tcp))
		return true;
	record_write(file, &frame->record);
	return false;
}

/* Take frames that go to this side, some at most. */
static void take_frames(const struct plan *plan, int in, enum side to, FILE *file)
{
	static unsigned char buffer[FRAME_MAX];
	struct frame *frame;
	ssize_t length;
	int taken;

	for (taken = 0; taken < TAKEN_AT_ONCE; taken++) {
		length = recv(in, buffer, sizeof(buffer), 0);
		if (length < 0)
			return;
		frame = calloc(1, sizeof(*frame) + (size_t)length);
		if (!frame || queue_count == QUEUE_LENGTH) {
			free(frame);
			frames_lost++;
			continue;
		}
		frame->bytes = (unsigned char *)(frame + 1);
		memcpy(frame->bytes, buffer, (size_t)length);
		frame->length = (size_t)length;
		frame->order = frames_taken++;
		frame->to = to;
		frame->record.taken_ns = plan_now_ns();
		if (consult(plan, frame, file))
			queue_put(frame);
		else
			free(frame);
	}
}

/* Hand on what is due. Returns the time until the next frame is, -1: none waits. */
static int64_t send_frames(const int out[SIDES], FILE *file)
{
	struct frame *frame;
	int64_t left;

	while (queue_count) {
		frame = queue[0];
		left = frame->record.due_ns - plan_now_ns();
		if (left > 0)
			return left;
		if (send(out[frame->to], frame->bytes, frame->length, 0) < 0) {
			if (errno != ENOBUFS)
				die("send");
			/* The processor that should receive it has no time. */
			return BUSY_NS;
		}
		queue_take();
		frame->record.sent_ns = plan_now_ns();
		if (frame->recorded)
			record_write(file, &frame->record);
		free(frame);
	}
	return -1;
}

static int open_interface(const char *name)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(name),
	};
	int one = 1, room = RECEIVE_BUFFER, fd;

	if (!address.sll_ifindex)
		die(name);
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)))
		die(name);
	return fd;
}

/* Frames that the kernel had to drop because we were too slow. */
static uint64_t frames_dropped(int fd)
{
	struct tpacket_stats statistics = { 0 };
	socklen_t length = sizeof(statistics);

	if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &statistics, &length))
		die("PACKET_STATISTICS");
	return statistics.tp_drops;
}

/* A wire waits for no processor. Where no real-time process may be, one that others yield to. */
static void be_prompt(void)
{
	const struct sched_param priority = { .sched_priority = 1 };

	if (sched_setscheduler(0, SCHED_FIFO, &priority))
		setpriority(PRIO_PROCESS, 0, -20);
}

int main(int argc, char **argv)
{
	enum { STANDARD_INPUT = SIDES };
	struct pollfd ends[] = { { .events = POLLIN }, { .events = POLLIN },
				 { .fd = STDIN_FILENO, .events = POLLIN } };
	int sides[SIDES];
	struct timespec time;
	struct plan plan;
	int64_t left;
	char byte;
	FILE *file;

	if (argc != 6) {
		fprintf(stderr,
			"usage: distance HOME_INTERFACE FAR_INTERFACE PLAN RECORD SEED\n");
		return 2;
	}
	plan_read(argv[3], &plan);
	file = fopen(argv[4], "we");
	if (!file)
		die(argv[4]);
	prctl(PR_SET_TIMERSLACK, 1);
	be_prompt();
	srandom((unsigned)strtoul(argv[5], NULL, 10));
	sides[SIDE_HOME] = ends[SIDE_HOME].fd = open_interface(argv[1]);
	sides[SIDE_FAR] = ends[SIDE_FAR].fd = open_interface(argv[2]);
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		left = send_frames(sides, file);
		time.tv_sec = left / NS_PER_SECOND;
		time.tv_nsec = left % NS_PER_SECOND;
		if (ppoll(ends, SIDES + 1, left < 0 ? NULL : &time, NULL) < 0 && errno != EINTR)
			die("poll");
		if (ends[STANDARD_INPUT].revents && read(STDIN_FILENO, &byte, 1) <= 0)
			break;
		take_frames(&plan, sides[SIDE_HOME], SIDE_FAR, file);
		take_frames(&plan, sides[SIDE_FAR], SIDE_HOME, file);
	}
	frames_lost += frames_dropped(sides[SIDE_HOME]) + frames_dropped(sides[SIDE_FAR]);
	if (fclose(file))
		die(argv[4]);
	free(plan.pairs);
	while (queue_count)
		free(queue_take());
	if (frames_lost) {
		fprintf(stderr, "distance: %llu frames were lost that nobody planned to lose\n",
			(unsigned long long)frames_lost);
		return 1;
	}
	return 0;
}
