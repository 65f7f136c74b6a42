// SPDX-License-Identifier: BSD-2-Clause
/*
 * wire.c: an independent observer between the hosts. Reads every packet that a host sends to the
 * switch, follows the TCP connections to one port, and says of every dial whether it was needed.
 *
 * Owns one AF_PACKET socket and a table of connections. It must not know what the hosts run: no
 * log, no map, no process of theirs is read.
 *
 * A dial is the first SYN of a connection. A retransmission (same addresses, ports and sequence
 * number) is none. Each packet is counted once, where it enters the switch from its sender's port;
 * the copy that leaves by another port is not asked for. So a SYN counts as soon as it left its
 * host, even if the switch or the other host drops it.
 *
 * A dial from X to Y is a duplicate if at that moment the pair already has
 *
 *   "established"  a connection whose handshake was completed, in either direction, neither end of
 *                  which has sent FIN or RST, and both ends of which were heard within --silent-ms.
 *                  (The racers send something every half second; an end that was silent for three
 *                  times as long is down, and a dial to or from it is needed.)
 *   "handshake"    a connection answered with SYN-ACK whose last ACK is still on its way;
 *   "in flight"    another SYN in the same direction, not answered yet;
 *   "crossing"     a SYN in the other direction, not answered yet. Neither host can know of it. It
 *                  is counted as a duplicate all the same: one link is needed and two dials were
 *                  made.
 *
 * A SYN or a handshake counts as in flight for --in-flight-ms after its last (re)transmission. A
 * socket that gives up an unanswered dial says nothing on the wire, so that a longer time would
 * take an abandoned dial for a living one. A second dial to a silent host made after that time is
 * therefore not counted, even if the first socket still waits: the count errs to the low side.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#define INTERFACES_MAX 64
#define CONNECTIONS_MAX 16384
/* An unanswered SYN is remembered this long, so that its retransmissions are known as such. */
#define UNANSWERED_KEPT_NS (130 * UINT64_C(1000000000))
#define HEADERS_MAX 128		/* bytes: IPv4 and TCP headers with all options */

enum state {
	STATE_SYN,
	STATE_HANDSHAKE,
	STATE_ESTABLISHED,
};

/* Addresses in network order, ports in host order. */
struct connection {
	struct in_addr client, server;
	uint16_t client_port;
	uint32_t sequence;		/* of the SYN, host order */
	enum state state;
	uint64_t heard_client_ns;	/* CLOCK_BOOTTIME of the last packet of either end */
	uint64_t heard_server_ns;
};

struct wire {
	uint16_t port;
	uint64_t in_flight_ns;
	uint64_t silent_ns;
	int interfaces[INTERFACES_MAX];
	size_t interface_count;
	struct connection connections[CONNECTIONS_MAX];
	size_t connection_count;
	uint64_t packets, dials, duplicates, retransmissions, overflows;
};

struct segment {
	struct in_addr from, to;
	uint16_t from_port, to_port;
	uint32_t sequence;
	bool syn, ack, fin, rst;
	uint64_t now_ns;
};

static const char usage[] =
	"usage: wire --port N --interface NAME [--interface NAME...] [OPTION...]\n"
	"Follows TCP over the ports of a switch and prints every dial as a JSON line.\n"
	"  --port N            TCP port of the service\n"
	"  --interface NAME    a port of the switch; repeat for each\n"
	"  --in-flight-ms N    how long an unanswered SYN counts as in flight (100)\n"
	"  --silent-ms N       how long an established connection may be silent (1500)\n"
	"SIGTERM prints a last line, event \"stats\", and ends the program.\n";

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void print_head(uint64_t time_ns, const char *event)
{
	printf("{\"time\":%" PRIu64 ".%06" PRIu64 ",\"event\":\"%s\"", time_ns / 1000000000u,
	       time_ns % 1000000000u / 1000, event);
}

static void print_pair(const char *from_name, struct in_addr from, const char *to_name,
		       struct in_addr to, uint16_t client_port)
{
	char from_text[INET_ADDRSTRLEN], to_text[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &from, from_text, sizeof(from_text));
	inet_ntop(AF_INET, &to, to_text, sizeof(to_text));
	printf(",\"%s\":\"%s\",\"%s\":\"%s\",\"source_port\":%u", from_name, from_text, to_name,
	       to_text, client_port);
}

static bool same_pair(const struct connection *connection, struct in_addr one, struct in_addr other)
{
	in_addr_t client = connection->client.s_addr, server = connection->server.s_addr;

	return (client == one.s_addr && server == other.s_addr) ||
	       (client == other.s_addr && server == one.s_addr);
}

static uint64_t heard_ns(const struct connection *connection)
{
	return connection->heard_client_ns > connection->heard_server_ns ?
		connection->heard_client_ns : connection->heard_server_ns;
}

static void connection_remove(struct wire *wire, struct connection *connection)
{
	*connection = wire->connections[--wire->connection_count];
}

/* Forgets what can no longer make a dial a duplicate nor a SYN a retransmission. */
static void forget_old(struct wire *wire, uint64_t now)
{
	for (size_t i = wire->connection_count; i-- > 0;) {
		struct connection *connection = &wire->connections[i];

		if (connection->state != STATE_ESTABLISHED &&
		    now - heard_ns(connection) > UNANSWERED_KEPT_NS)
			connection_remove(wire, connection);
	}
}

/* Why a dial from @from to @to would be a duplicate now; NULL if it is needed. */
static const char *why_duplicate(const struct wire *wire, const struct segment *segment)
{
	const char *reason = NULL;

	for (size_t i = 0; i < wire->connection_count; i++) {
		const struct connection *connection = &wire->connections[i];
		bool recent = segment->now_ns - heard_ns(connection) <= wire->in_flight_ns;

		if (!same_pair(connection, segment->from, segment->to))
			continue;
		switch (connection->state) {
		case STATE_ESTABLISHED:
			if (segment->now_ns - connection->heard_client_ns <= wire->silent_ns &&
			    segment->now_ns - connection->heard_server_ns <= wire->silent_ns)
				return "established";
			break;
		case STATE_HANDSHAKE:
			if (recent)
				reason = "handshake";
			break;
		case STATE_SYN:
			if (recent && !reason)
				reason = connection->client.s_addr == segment->from.s_addr ?
					"in flight" : "crossing";
			break;
		}
	}
	return reason;
}

static struct connection *find(struct wire *wire, const struct segment *segment, bool from_client)
{
	struct in_addr client = from_client ? segment->from : segment->to;
	struct in_addr server = from_client ? segment->to : segment->from;
	uint16_t client_port = from_client ? segment->from_port : segment->to_port;

	for (size_t i = 0; i < wire->connection_count; i++) {
		struct connection *connection = &wire->connections[i];

		if (connection->client.s_addr == client.s_addr &&
		    connection->server.s_addr == server.s_addr &&
		    connection->client_port == client_port)
			return connection;
	}
	return NULL;
}

static void see_dial(struct wire *wire, const struct segment *segment)
{
	struct connection *connection = find(wire, segment, true);
	const char *reason;

	if (connection && connection->sequence == segment->sequence) {
		connection->heard_client_ns = segment->now_ns;
		wire->retransmissions++;
		return;
	}
	if (connection)
		connection_remove(wire, connection);	/* its port is in use again: it is over */
	forget_old(wire, segment->now_ns);
	reason = why_duplicate(wire, segment);
	wire->dials++;
	wire->duplicates += reason != NULL;
	print_head(segment->now_ns, "dial");
	print_pair("from", segment->from, "to", segment->to, segment->from_port);
	if (reason)
		printf(",\"duplicate\":true,\"reason\":\"%s\"}\n", reason);
	else
		puts(",\"duplicate\":false}");

	if (wire->connection_count == CONNECTIONS_MAX) {
		wire->overflows++;
		return;
	}
	wire->connections[wire->connection_count++] = (struct connection){
		.client = segment->from,
		.server = segment->to,
		.client_port = segment->from_port,
		.sequence = segment->sequence,
		.heard_client_ns = segment->now_ns,
	};
}

static void see_segment(struct wire *wire, const struct segment *segment)
{
	bool from_client = segment->to_port == wire->port;
	struct connection *connection;

	if (from_client && segment->syn && !segment->ack) {
		see_dial(wire, segment);
		return;
	}
	connection = find(wire, segment, from_client);
	if (!connection)
		return;
	if (segment->fin || segment->rst) {
		if (connection->state == STATE_ESTABLISHED) {
			print_head(segment->now_ns, "closed");
			print_pair("client", connection->client, "server", connection->server,
				   connection->client_port);
			puts("}");
		}
		connection_remove(wire, connection);
		return;
	}
	if (from_client)
		connection->heard_client_ns = segment->now_ns;
	else
		connection->heard_server_ns = segment->now_ns;
	if (connection->state == STATE_SYN && !from_client && segment->syn && segment->ack) {
		connection->state = STATE_HANDSHAKE;
	} else if (connection->state == STATE_HANDSHAKE && from_client && segment->ack) {
		connection->state = STATE_ESTABLISHED;
		print_head(segment->now_ns, "established");
		print_pair("client", connection->client, "server", connection->server,
			   connection->client_port);
		puts("}");
	}
}

/* Returns false unless @packet is an unfragmented TCP segment over IPv4, and of our port. */
static bool parse_segment(const struct wire *wire, const uint8_t *packet, size_t length,
			  struct segment *ret_segment)
{
	struct iphdr ip;
	struct tcphdr tcp;
	size_t ip_length;

	if (length < sizeof(ip))
		return false;
	memcpy(&ip, packet, sizeof(ip));
	ip_length = (size_t)ip.ihl * 4;
	if (ip.version != 4 || ip.protocol != IPPROTO_TCP || ip_length < sizeof(ip) ||
	    (ip.frag_off & htons(0x3fff)) || length < ip_length + sizeof(tcp))
		return false;
	memcpy(&tcp, packet + ip_length, sizeof(tcp));
	*ret_segment = (struct segment){
		.from.s_addr = ip.saddr,
		.to.s_addr = ip.daddr,
		.from_port = ntohs(tcp.source),
		.to_port = ntohs(tcp.dest),
		.sequence = ntohl(tcp.seq),
		.syn = tcp.syn,
		.ack = tcp.ack,
		.fin = tcp.fin,
		.rst = tcp.rst,
	};
	return ret_segment->from_port == wire->port || ret_segment->to_port == wire->port;
}

static bool is_our_interface(const struct wire *wire, int interface)
{
	for (size_t i = 0; i < wire->interface_count; i++) {
		if (wire->interfaces[i] == interface)
			return true;
	}
	return false;
}

/*
 * One socket for all interfaces, because packets of several sockets could not be put in order.
 * ETH_P_ALL, because the switch takes the packets of its ports before any single protocol sees
 * them.
 */
static int open_socket(void)
{
	int one = 1, bytes = 8 << 20;
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
	if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) < 0) {
		int error = -errno;

		close(fd);
		return error;
	}
	return fd;
}

static void read_packets(struct wire *wire, int fd)
{
	for (;;) {
		uint8_t packet[HEADERS_MAX];
		struct sockaddr_ll from = {0};
		socklen_t from_length = sizeof(from);
		struct segment segment;
		ssize_t length = recvfrom(fd, packet, sizeof(packet), 0, (struct sockaddr *)&from,
					  &from_length);

		/* An interface that goes down leaves ENETDOWN behind once; reading goes on. */
		if (length < 0 && errno == ENETDOWN)
			continue;
		if (length < 0)
			return;
		if (from.sll_protocol != htons(ETH_P_IP) ||
		    !is_our_interface(wire, from.sll_ifindex) ||
		    !parse_segment(wire, packet, (size_t)length, &segment))
			continue;
		wire->packets++;
		segment.now_ns = now_ns();
		see_segment(wire, &segment);
	}
}

static void print_stats(const struct wire *wire, int fd)
{
	struct tpacket_stats stats = {0};
	socklen_t length = sizeof(stats);

	getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length);
	print_head(now_ns(), "stats");
	printf(",\"packets\":%" PRIu64 ",\"dials\":%" PRIu64 ",\"duplicates\":%" PRIu64
	       ",\"retransmissions\":%" PRIu64 ",\"packets_missed\":%" PRIu64 "}\n",
	       wire->packets, wire->dials, wire->duplicates, wire->retransmissions,
	       wire->overflows + stats.tp_drops);
}

static bool parse_unsigned(const char *text, unsigned long maximum, unsigned long *ret_value)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || end == text || *end || value < 1 || value > maximum)
		return false;
	*ret_value = value;
	return true;
}

/* Returns false after it has said what is wrong. */
static bool parse_arguments(int argc, char **argv, struct wire *wire)
{
	static const struct option options[] = {
		{"port", required_argument, NULL, 'p'},
		{"interface", required_argument, NULL, 'i'},
		{"in-flight-ms", required_argument, NULL, 'f'},
		{"silent-ms", required_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	unsigned long number = 0;
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		bool valid = true;

		switch (option) {
		case 'p':
			valid = parse_unsigned(optarg, 65535, &number);
			wire->port = (uint16_t)number;
			break;
		case 'i':
			number = if_nametoindex(optarg);
			valid = number && wire->interface_count < INTERFACES_MAX;
			if (valid)
				wire->interfaces[wire->interface_count++] = (int)number;
			break;
		case 'f':
			valid = parse_unsigned(optarg, 600000, &number);
			wire->in_flight_ns = number * 1000000;
			break;
		case 's':
			valid = parse_unsigned(optarg, 600000, &number);
			wire->silent_ns = number * 1000000;
			break;
		case 'h':
			fputs(usage, stdout);
			exit(EXIT_SUCCESS);
		default:
			fputs(usage, stderr);
			return false;
		}
		if (!valid) {
			fprintf(stderr, "wire: wrong value: %s\n", optarg);
			return false;
		}
	}
	if (!wire->port || !wire->interface_count || optind != argc) {
		fputs(usage, stderr);
		return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	static struct wire wire = {
		.in_flight_ns = 100 * UINT64_C(1000000),
		.silent_ns = 1500 * UINT64_C(1000000),
	};
	struct pollfd polls[2];
	sigset_t signals;

	if (!parse_arguments(argc, argv, &wire))
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	polls[0] = (struct pollfd){.fd = open_socket(), .events = POLLIN};
	polls[1] = (struct pollfd){.fd = signalfd(-1, &signals, SFD_CLOEXEC), .events = POLLIN};
	if (polls[0].fd < 0 || polls[1].fd < 0) {
		fprintf(stderr, "wire: cannot listen to packets: %s\n",
			strerror(polls[0].fd < 0 ? -polls[0].fd : errno));
		return EXIT_FAILURE;
	}
	print_head(now_ns(), "start");
	puts("}");
	while (!polls[1].revents) {
		if (poll(polls, 2, -1) < 0 && errno != EINTR) {
			perror("wire: poll");
			return EXIT_FAILURE;
		}
		read_packets(&wire, polls[0].fd);
	}
	print_stats(&wire, polls[0].fd);
	return EXIT_SUCCESS;
}
