// SPDX-License-Identifier: BSD-2-Clause
/*
 * A wire with a round-trip time, for kernels without netem: hands every frame that one interface
 * receives to another one, some milliseconds later, in both directions.
 *
 * usage: delay INTERFACE INTERFACE MILLISECONDS
 *
 * Prints "ready" and works until it is ended. Frames keep their virtio header, so that checksums
 * and segments that the senders left to their hardware come out right. It knows nothing of what is
 * in a frame; one that finds the queue full is lost, as on a wire.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAME_MAX (sizeof(struct virtio_net_hdr) + 66 * 1024)
#define QUEUE_LENGTH 4096
#define NS_PER_MS INT64_C(1000000)

/* A frame on its way, with its virtio header. */
struct frame {
	int64_t due_ns;
	int out;
	size_t length;
	unsigned char *bytes;
};

/* All frames wait equally long, so the first in is the first out. */
static struct frame queue[QUEUE_LENGTH];
static size_t queue_first, queue_count;

static int64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "delay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_interface(const char *name)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(name),
	};
	int one = 1, fd;

	if (!address.sll_ifindex)
		die(name);
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)))
		die(name);
	return fd;
}

static void take_frames(int in, int out, int64_t delay_ns)
{
	static unsigned char buffer[FRAME_MAX];
	ssize_t length;

	while ((length = recv(in, buffer, sizeof(buffer), 0)) > 0) {
		struct frame *frame = &queue[(queue_first + queue_count) % QUEUE_LENGTH];

		if (queue_count == QUEUE_LENGTH)
			continue;
		frame->bytes = malloc((size_t)length);
		if (!frame->bytes)
			continue;
		memcpy(frame->bytes, buffer, (size_t)length);
		frame->length = (size_t)length;
		frame->out = out;
		frame->due_ns = now_ns() + delay_ns;
		queue_count++;
	}
}

/* Send what is due. Returns the milliseconds until the next frame is, -1: none waits. */
static int send_frames(void)
{
	while (queue_count) {
		struct frame *frame = &queue[queue_first];
		int64_t left = frame->due_ns - now_ns();

		if (left > 0)
			return (int)((left + NS_PER_MS - 1) / NS_PER_MS);
		if (send(frame->out, frame->bytes, frame->length, 0) < 0 && errno != ENOBUFS)
			fprintf(stderr, "delay: a frame of %zu bytes is lost: %s\n", frame->length,
				strerror(errno));
		free(frame->bytes);
		queue_first = (queue_first + 1) % QUEUE_LENGTH;
		queue_count--;
	}
	return -1;
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
	struct pollfd ends[2] = { { .events = POLLIN }, { .events = POLLIN } };
	int64_t delay_ns;

	if (argc != 4) {
		fprintf(stderr, "usage: delay INTERFACE INTERFACE MILLISECONDS\n");
		return 2;
	}
	ends[0].fd = open_interface(argv[1]);
	ends[1].fd = open_interface(argv[2]);
	delay_ns = atoi(argv[3]) * NS_PER_MS;
	be_prompt();
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		if (poll(ends, 2, send_frames()) < 0 && errno != EINTR)
			die("poll");
		take_frames(ends[0].fd, ends[1].fd, delay_ns);
		take_frames(ends[1].fd, ends[0].fd, delay_ns);
	}
}
