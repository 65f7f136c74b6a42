// SPDX-License-Identifier: BSD-2-Clause
/*
 * Sends SYNs in the name of others, for the flood tests: bounded in number and in time.
 *
 * usage: flood DESTINATION PORT SOURCE/LENGTH COUNT RATE [SEQUENCE]
 *
 * COUNT SYNs to the port of DESTINATION, RATE a second, from random ports of random addresses of the
 * prefix SOURCE/LENGTH (IPv4 or IPv6, as DESTINATION), with random sequence numbers or all with SEQUENCE.
 * Says "ready" when the first is about to leave and
 * "sent N in S s" at the end. Ends by itself after a minute, whatever it was asked for. Only for
 * namespaces that a test has made: it needs CAP_NET_RAW there, and knows nothing of connguard.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define COUNT_MAX 10000000UL
#define SECONDS_MAX 60
/* SYNs that leave together at most; fewer where that would be more than a hundredth of a second's. */
#define BATCH 32
#define NS_PER_SECOND 1000000000LL

/* A SYN with its IP header. */
union packet {
	struct {
		struct iphdr ip;
		struct tcphdr tcp;
	} ipv4;
	struct {
		struct ip6_hdr ip;
		struct tcphdr tcp;
	} ipv6;
};

_Static_assert(sizeof(struct iphdr) + sizeof(struct tcphdr) == 40, "no padding in between");

static int family;
static uint8_t destination[16], source[16];
static unsigned int prefix_length;
static uint16_t port;
static const char *sequence; /* NULL: random */
static uint64_t random_state;

__attribute__((noreturn)) static void fail(const char *what)
{
	fprintf(stderr, "flood: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* xorshift64star: fast, and good enough to be no pattern. */
static uint64_t random64(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1dULL;
}

/* The Internet checksum (RFC 1071) of a TCP header, with the sum of its pseudo header. */
static uint16_t checksum(const void *bytes, size_t size, uint64_t sum)
{
	const uint16_t *words = bytes;

	for (size_t i = 0; i < size / 2; i++)
		sum += words[i];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static uint64_t sum_of(const void *bytes, size_t size)
{
	const uint16_t *words = bytes;
	uint64_t sum = 0;

	for (size_t i = 0; i < size / 2; i++)
		sum += words[i];
	return sum;
}

/* An address of the prefix. */
static void random_source(uint8_t *address, size_t size)
{
	uint64_t random[2] = { random64(), random64() };

	for (size_t i = 0; i < size; i++) {
		uint8_t free_bits = i * 8 >= prefix_length	? 0xff :
				    prefix_length - i * 8 >= 8 ? 0 :
								 0xff >> (prefix_length - i * 8);

		address[i] = (uint8_t)((source[i] & ~free_bits) |
				       (((uint8_t *)random)[i] & free_bits));
	}
}

static void make_syn(struct tcphdr *tcp, uint64_t pseudo_header)
{
	uint64_t random = random64();

	memset(tcp, 0, sizeof(*tcp));
	tcp->source = htons((uint16_t)(1024 + random % 64512));
	tcp->dest = htons(port);
	tcp->seq = sequence ? htonl((uint32_t)strtoul(sequence, NULL, 10)) : (uint32_t)(random >> 32);
	tcp->doff = sizeof(*tcp) / 4;
	tcp->syn = 1;
	tcp->window = htons(64240);
	tcp->check = checksum(tcp, sizeof(*tcp), pseudo_header + htons(IPPROTO_TCP) + htons(sizeof(*tcp)));
}

static size_t make_packet(union packet *packet)
{
	memset(packet, 0, sizeof(*packet));
	if (family == AF_INET) {
		struct iphdr *ip = &packet->ipv4.ip;

		/* The kernel fills in the rest, the checksum too (raw(7)). */
		ip->version = 4;
		ip->ihl = sizeof(*ip) / 4;
		ip->ttl = 64;
		ip->protocol = IPPROTO_TCP;
		random_source((uint8_t *)&ip->saddr, 4);
		memcpy(&ip->daddr, destination, 4);
		make_syn(&packet->ipv4.tcp, sum_of(&ip->saddr, 8));
		return sizeof(packet->ipv4);
	}
	packet->ipv6.ip.ip6_flow = htonl(6U << 28);
	packet->ipv6.ip.ip6_plen = htons(sizeof(struct tcphdr));
	packet->ipv6.ip.ip6_nxt = IPPROTO_TCP;
	packet->ipv6.ip.ip6_hlim = 64;
	random_source((uint8_t *)&packet->ipv6.ip.ip6_src, 16);
	memcpy(&packet->ipv6.ip.ip6_dst, destination, 16);
	make_syn(&packet->ipv6.tcp, sum_of(&packet->ipv6.ip.ip6_src, 32));
	return sizeof(packet->ipv6);
}

static long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

static void wait_until(long long moment_ns)
{
	struct timespec moment = { moment_ns / NS_PER_SECOND, moment_ns % NS_PER_SECOND };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, NULL) == EINTR)
		;
}

/* Send so many at once. Returns how many the kernel took: a full queue is part of a flood. */
static unsigned int send_batch(int fd, unsigned int count)
{
	static union packet packets[BATCH];
	struct sockaddr_storage to = { .ss_family = (sa_family_t)family };
	struct iovec parts[BATCH];
	struct mmsghdr messages[BATCH];
	int sent;

	if (family == AF_INET)
		memcpy(&((struct sockaddr_in *)&to)->sin_addr, destination, 4);
	else
		memcpy(&((struct sockaddr_in6 *)&to)->sin6_addr, destination, 16);
	memset(messages, 0, sizeof(messages));
	for (unsigned int i = 0; i < count; i++) {
		parts[i].iov_base = &packets[i];
		parts[i].iov_len = make_packet(&packets[i]);
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
		messages[i].msg_hdr.msg_name = &to;
		messages[i].msg_hdr.msg_namelen = family == AF_INET ? sizeof(struct sockaddr_in) :
								       sizeof(struct sockaddr_in6);
	}
	sent = sendmmsg(fd, messages, count, 0);
	if (sent < 0 && errno != ENOBUFS && errno != EAGAIN)
		fail("sendmmsg");
	return sent < 0 ? 0 : (unsigned int)sent;
}

static void read_prefix(char *text)
{
	char *slash = strchr(text, '/');

	if (!slash)
		slash = text + strlen(text);
	prefix_length = *slash ? (unsigned int)atoi(slash + 1) : 128;
	*slash = '\0';
	if (inet_pton(family, text, source) != 1)
		fail(text);
}

int main(int argc, char **argv)
{
	unsigned long count, rate, together, sent = 0, asked = 0;
	long long began, end;
	int fd, one = 1;

	if (argc != 6 && argc != 7) {
		fputs("usage: flood DESTINATION PORT SOURCE/LENGTH COUNT RATE [SEQUENCE]\n", stderr);
		return 2;
	}
	family = strchr(argv[1], ':') ? AF_INET6 : AF_INET;
	port = (uint16_t)atoi(argv[2]);
	count = strtoul(argv[4], NULL, 10);
	rate = strtoul(argv[5], NULL, 10);
	sequence = argv[6];
	if (inet_pton(family, argv[1], destination) != 1 || !rate || count > COUNT_MAX)
		fail("arguments");
	read_prefix(argv[3]);
	fd = socket(family, SOCK_RAW, IPPROTO_RAW);
	if (fd < 0 || (family == AF_INET6 &&
		       setsockopt(fd, IPPROTO_IPV6, IPV6_HDRINCL, &one, sizeof(one))))
		fail("raw socket");
	together = rate < 100 ? 1 : rate / 100 < BATCH ? rate / 100 : BATCH;
	random_state = (uint64_t)now_ns() ^ ((uint64_t)getpid() << 40) ^ 1;
	puts("ready");
	fflush(stdout);
	began = now_ns();
	end = began + SECONDS_MAX * NS_PER_SECOND;
	while (asked < count && now_ns() < end) {
		unsigned int batch = (unsigned int)(count - asked < together ? count - asked : together);

		wait_until(began + (long long)(asked * (double)NS_PER_SECOND / (double)rate));
		sent += send_batch(fd, batch);
		asked += batch;
	}
	printf("sent %lu in %.2f s\n", sent, (double)(now_ns() - began) / NS_PER_SECOND);
	return 0;
}
