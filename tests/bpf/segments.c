/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The test as the peer. See segments.h.
 */
#include "segments.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/ip.h>
#include <netinet/icmp6.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <sys/ioctl.h>

/* Asks where we are with the segments that were sent before. */
#define PROBER4 "10.97.1.250"
/* A router on the way, which tells what it cannot deliver. */
#define ROUTER4 "10.97.1.251"
#define ROUTER6 "fd97:1::fb"

/* The peer's end of the tun device. */
static int tun = -1;
/* Every knock comes from a port of its own, so that no two are one connection. */
static __u16 last_port;
/* SYNs without an ACK that were received, by source port: how many, and the number of the last one. */
static struct {
	unsigned int count;
	__u32 sequence;
} syns[1 << 16];

bool segments_lack(void)
{
	if (!access("/dev/net/tun", R_OK | W_OK))
		return false;
	puts("1..0 # SKIP no /dev/net/tun, through which the segments are sent");
	return true;
}

void segments_open(void)
{
	struct ifreq request = { .ifr_name = "peers", .ifr_flags = IFF_TUN | IFF_NO_PI };
	cpu_set_t processor;

	CPU_ZERO(&processor);
	CPU_SET(sched_getcpu(), &processor);
	assert_int_equal(sched_setaffinity(0, sizeof(processor), &processor), 0);
	tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	assert_true(tun >= 0);
	assert_int_equal(ioctl(tun, TUNSETIFF, &request), 0);
	run("ip link set peers up");
	run("ip address add " HERE4 "/32 dev lo");
	run("ip address add " HERE6 "/128 dev lo nodad");
	run("ip route add 10.97.1.0/24 dev peers");
	run("ip -6 route add fd97:1::/64 dev peers");
}

void segments_close(void)
{
	close(tun);
}

__u16 fresh_port(void)
{
	return ++last_port;
}

/* ---- packets -------------------------------------------------------------------------------- */

static __u32 checksum_add(__u32 sum, const void *data, size_t length)
{
	const __u8 *bytes = data;

	for (size_t i = 0; i < length; i++)
		sum += i & 1 ? bytes[i] : bytes[i] << 8;
	return sum;
}

static __u16 checksum_end(__u32 sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons(~sum);
}

size_t packet_of(const struct segment *segment, __u8 packet[PACKET_MAX])
{
	size_t tcp_bytes = segment->tcp_bytes ? segment->tcp_bytes : sizeof(struct tcphdr);
	size_t data_bytes = segment->data ? strlen(segment->data) : 0;
	struct tcphdr tcp = {
		.th_sport = htons(segment->source_port),
		.th_dport = htons(segment->destination_port),
		.th_seq = htonl(segment->sequence),
		.th_ack = htonl(segment->acknowledgment),
		.th_off = sizeof(tcp) / 4,
		.th_flags = segment->flags,
		.th_win = htons(65535),
	};
	union endpoint source, destination;
	size_t offset;
	__u32 sum;

	memset(packet, 0, PACKET_MAX);
	endpoint_of(segment->source, 0, &source);
	endpoint_of(segment->destination, 0, &destination);
	sum = IPPROTO_TCP + tcp_bytes + data_bytes;
	if (source.any.sa_family == AF_INET) {
		/* No operation, seven times, and the end of the list (RFC 791). */
		const __u8 options[8] = { 1, 1, 1, 1, 1, 1, 1, 0 };
		struct iphdr ip = {
			.version = 4,
			.ttl = 64,
			.protocol = IPPROTO_TCP,
			.saddr = source.ipv4.sin_addr.s_addr,
			.daddr = destination.ipv4.sin_addr.s_addr,
		};

		offset = sizeof(ip) + (segment->ip_options ? sizeof(options) : 0);
		ip.ihl = offset / 4;
		ip.tot_len = htons(offset + tcp_bytes + data_bytes);
		memcpy(packet + sizeof(ip), options, offset - sizeof(ip));
		ip.check = checksum_end(checksum_add(checksum_add(0, &ip, sizeof(ip)), options,
						     offset - sizeof(ip)));
		memcpy(packet, &ip, sizeof(ip));
		sum = checksum_add(sum, &ip.saddr, 8);
	} else {
		/* Padding that fills the header (RFC 8200, section 4.2). */
		const __u8 extension[8] = { IPPROTO_TCP, 0, 1, 4 };
		struct ip6_hdr ip = {
			.ip6_src = source.ipv6.sin6_addr,
			.ip6_dst = destination.ipv6.sin6_addr,
		};

		offset = sizeof(ip) + (segment->extension_header ? sizeof(extension) : 0);
		ip.ip6_plen = htons(offset - sizeof(ip) + tcp_bytes + data_bytes);
		ip.ip6_vfc = 6 << 4;
		ip.ip6_nxt = segment->extension_header ? IPPROTO_DSTOPTS : IPPROTO_TCP;
		ip.ip6_hlim = 64;
		memcpy(packet + sizeof(ip), extension, offset - sizeof(ip));
		memcpy(packet, &ip, sizeof(ip));
		sum = checksum_add(sum, &ip.ip6_src, 32);
	}
	assert_true(offset + tcp_bytes + data_bytes <= PACKET_MAX);
	memcpy(packet + offset + tcp_bytes, segment->data ? segment->data : "", data_bytes);
	/* A header is of an even length wherever data follows it. */
	sum = checksum_add(sum, packet + offset + tcp_bytes, data_bytes);
	tcp.th_sum = checksum_end(checksum_add(sum, &tcp, tcp_bytes));
	memcpy(packet + offset, &tcp, tcp_bytes);
	return offset + tcp_bytes + data_bytes;
}

void send_segment(const struct segment *segment)
{
	__u8 packet[PACKET_MAX];
	size_t length = packet_of(segment, packet);

	assert_int_equal(write(tun, packet, length), length);
}

/* What ICMP quotes of a packet. */
#define QUOTED4 (sizeof(struct iphdr) + 8)
#define QUOTED6 (sizeof(struct ip6_hdr) + 8)

static void send_icmp4(const __u8 *quoted, const char *destination, __u8 type,
		       __u8 code)
{
	struct {
		struct iphdr ip;
		struct icmphdr icmp;
		__u8 quoted[QUOTED4];
	} packet = {
		.ip = {
			.version = 4,
			.ihl = sizeof(packet.ip) / 4,
			.ttl = 64,
			.protocol = IPPROTO_ICMP,
			.tot_len = htons(sizeof(packet)),
			.saddr = inet_addr(ROUTER4),
			.daddr = inet_addr(destination),
		},
		.icmp = { .type = type, .code = code },
	};
	__u32 sum;

	memcpy(packet.quoted, quoted, sizeof(packet.quoted));
	sum = checksum_add(0, &packet.icmp, sizeof(packet.icmp) + sizeof(packet.quoted));
	packet.icmp.checksum = checksum_end(sum);
	packet.ip.check = checksum_end(checksum_add(0, &packet.ip, sizeof(packet.ip)));
	assert_int_equal(write(tun, &packet, sizeof(packet)), sizeof(packet));
}

static void send_icmp6(const __u8 *quoted, const char *destination, __u8 type,
		       __u8 code)
{
	struct {
		struct ip6_hdr ip;
		struct icmp6_hdr icmp;
		__u8 quoted[QUOTED6];
	} packet = {
		.icmp = { .icmp6_type = type, .icmp6_code = code },
	};
	const size_t length = sizeof(packet.icmp) + sizeof(packet.quoted);
	union endpoint router, host;
	__u32 sum;

	endpoint_of(ROUTER6, 0, &router);
	endpoint_of(destination, 0, &host);
	packet.ip.ip6_src = router.ipv6.sin6_addr;
	packet.ip.ip6_dst = host.ipv6.sin6_addr;
	packet.ip.ip6_plen = htons(length);
	packet.ip.ip6_vfc = 6 << 4;
	packet.ip.ip6_nxt = IPPROTO_ICMPV6;
	packet.ip.ip6_hlim = 64;
	memcpy(packet.quoted, quoted, sizeof(packet.quoted));
	sum = checksum_add(IPPROTO_ICMPV6 + length, &packet.ip.ip6_src, 32);
	packet.icmp.icmp6_cksum = checksum_end(checksum_add(sum, &packet.icmp, length));
	assert_int_equal(write(tun, &packet, sizeof(packet)), sizeof(packet));
}

struct segment syn_from(const char *source)
{
	return (struct segment){
		.source = source,
		.destination = strchr(source, ':') ? HERE6 : HERE4,
		.source_port = fresh_port(),
		.destination_port = PORT,
		.sequence = 5000,
		.flags = TH_SYN,
	};
}

void send_icmp(const struct segment *answer, __u8 type, __u8 code)
{
	/* What was sent, as far as the answer to it shows. */
	const struct segment sent = {
		.source = answer->destination,
		.destination = answer->source,
		.source_port = answer->destination_port,
		.destination_port = answer->source_port,
		.sequence = answer->acknowledgment - 1,
		.flags = TH_SYN,
	};
	__u8 original[PACKET_MAX];

	packet_of(&sent, original);
	if (strchr(sent.source, ':'))
		send_icmp6(original, sent.source, type, code);
	else
		send_icmp4(original, sent.source, type, code);
}

bool receive_segment(struct segment *ret_segment)
{
	struct pollfd readable = { .fd = tun, .events = POLLIN };
	__u8 packet[2048];
	struct tcphdr tcp;
	ssize_t length;
	size_t offset;
	__u8 protocol;

	while (poll(&readable, 1, PATIENCE_MS) == 1) {
		length = read(tun, packet, sizeof(packet));
		assert_true(length >= 20);
		if (packet[0] >> 4 == 4) {
			offset = (packet[0] & 0xf) * 4;
			protocol = packet[9];
		} else {
			offset = sizeof(struct ip6_hdr);
			protocol = packet[6];
		}
		/* Neighbour discovery and the like. */
		if (protocol != IPPROTO_TCP)
			continue;
		assert_true(length >= (ssize_t)(offset + sizeof(tcp)));
		memcpy(&tcp, packet + offset, sizeof(tcp));
		*ret_segment = (struct segment){
			.source_port = ntohs(tcp.th_sport),
			.destination_port = ntohs(tcp.th_dport),
			.sequence = ntohl(tcp.th_seq),
			.acknowledgment = ntohl(tcp.th_ack),
			.flags = tcp.th_flags,
			.data_bytes = length - offset - tcp.th_off * 4,
		};
		if ((tcp.th_flags & (TH_SYN | TH_ACK)) == TH_SYN) {
			syns[ret_segment->source_port].count++;
			syns[ret_segment->source_port].sequence = ret_segment->sequence;
		}
		return true;
	}
	return false;
}

static enum answer answer_of_flags(__u8 flags)
{
	if (flags & TH_RST)
		return ANSWER_RESET;
	if (flags & TH_SYN)
		return ANSWER_SYN_ACK;
	return ANSWER_ACK;
}

/* A SYN whose answer shows that all before it has been answered, if it is. */
static struct segment probe(void)
{
	return (struct segment){
		.source = PROBER4,
		.destination = HERE4,
		.source_port = fresh_port(),
		.destination_port = CLOSED_PORT,
		.flags = TH_SYN,
	};
}

/*
 * Take what comes before the answer to the probe; the last of it that answers `segment` (NULL:
 * nothing does).
 */
static enum answer receive_until(const struct segment *probe, const struct segment *segment,
				 struct segment *ret_answer)
{
	enum answer answer = NO_ANSWER;
	struct segment received;

	while (receive_segment(&received)) {
		if (received.source_port == CLOSED_PORT &&
		    received.destination_port == probe->source_port)
			return answer;
		if (!segment || received.source_port != segment->destination_port ||
		    received.destination_port != segment->source_port)
			continue;
		answer = answer_of_flags(received.flags);
		if (ret_answer)
			*ret_answer = received;
	}
	fail_msg("the probe was not answered");
	return NO_ANSWER;
}

enum answer answer_to(const struct segment *segment, struct segment *ret_answer)
{
	const struct segment last = probe();

	send_segment(segment);
	send_segment(&last);
	return receive_until(&last, segment, ret_answer);
}

void pass_segment(const struct segment *segment)
{
	answer_to(segment, NULL);
}

unsigned int syns_seen(__u16 port)
{
	const struct segment last = probe();

	send_segment(&last);
	receive_until(&last, NULL, NULL);
	return syns[port].count;
}

void await_syn(__u16 port, unsigned int seen)
{
	__u64 patient_until = now_ns() + PATIENCE_MS * NS_PER_MS;

	while (syns_seen(port) == seen && now_ns() < patient_until)
		usleep(10000);
	if (syns[port].count == seen)
		fail_msg("no SYN but the first %u has come from port %u", seen, port);
}

/* ---- our dials ------------------------------------------------------------------------------ */

struct our_dial dial_seen(int fd, const char *peer, __u16 port)
{
	__u16 from = port_of(fd);

	await_syn(from, 0);
	return (struct our_dial){
		.fd = fd,
		.syn_ack = {
			.source = peer,
			.destination = strchr(peer, ':') ? HERE6 : HERE4,
			.source_port = port,
			.destination_port = from,
			.sequence = 7000,
			.acknowledgment = syns[from].sequence + 1,
			.flags = TH_SYN | TH_ACK,
		},
	};
}

int dialing_socket(const char *here)
{
	int fd = bound_socket(here, 0);

	/* The port may have been another socket's. */
	syns[port_of(fd)].count = 0;
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

struct our_dial dial_out(const char *peer, __u16 port)
{
	int fd = dialing_socket(strchr(peer, ':') ? HERE6 : HERE4);

	assert_int_equal(dial(fd, peer, port), EINPROGRESS);
	return dial_seen(fd, peer, port);
}

bool connected(int fd)
{
	struct pollfd writable = { .fd = fd, .events = POLLOUT };
	socklen_t length = sizeof(int);
	int error = 0;

	if (poll(&writable, 1, 0) != 1)
		return false;
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
	assert_int_equal(error, 0);
	return true;
}

struct segment next_of(const struct our_dial *ours, __u8 flags)
{
	struct segment segment = ours->syn_ack;

	segment.sequence++;
	segment.flags = flags;
	return segment;
}
