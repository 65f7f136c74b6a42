/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The edges that see real sockets, cgroups, processes and namespaces, tried on real ones.
 *
 * Runs as root, in a network namespace and in cgroups of its own (prefix cgt-sockets-), which it
 * removes at the end; what a killed run left is removed at the next start. No BPF is involved.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "edge/cgroups.h"
#include "edge/host.h"
#include "edge/local_table.h"
#include "edge/processes.h"
#include "edge/sockets.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define CGROUP_PREFIX "cgt-sockets-"

/* The port of every listener of these tests. */
#define PORT 24000
#define OTHER_PORT 24001

/* How long a condition may take to come true; it usually has at once. */
#define PATIENCE_MS 60000

/* This host's addresses, and one beyond a link that nobody answers on. */
#define HERE4 "10.97.0.1"
#define THERE4 "10.97.0.2"
#define SILENT4 "10.98.0.77"
#define HERE6 "fd97::1"
#define THERE6 "fd97::2"
#define SILENT6 "fd98::77"
#define SILENT_LINK_LOCAL "fe80::77"
#define SILENT_DEVICE "silent0"

static struct sockets *sockets;
/* The namespace the program was started in. */
static int first_netns = -1;
/* Descriptors above this one belong to the test that runs. */
static int last_own_descriptor;
/* Directory of this run's cgroup, and of the one the program was started in. */
static char own_cgroup[256], first_cgroup[512];

/* ---- surroundings --------------------------------------------------------------------------- */

static void run(const char *command)
{
	int status = system(command);

	if (status)
		fail_msg("'%s' ended with %d", command, status);
}

static void join_cgroup(const char *directory)
{
	char path[600];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", directory);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "0", 1), 1);
	close(fd);
}

/* Remove a cgroup and everything below it; async-signal-safe for one without children. */
static void remove_cgroup(const char *directory)
{
	char path[600];
	struct dirent *entry;
	DIR *open_directory;

	if (!rmdir(directory))
		return;
	open_directory = opendir(directory);
	if (!open_directory)
		return;
	while ((entry = readdir(open_directory)))
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.') {
			snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
			remove_cgroup(path);
		}
	closedir(open_directory);
	rmdir(directory);
}

/* Remove the cgroups of runs that are over: the process in their name is not there. */
static void remove_leftovers(const char *mount_point)
{
	char path[600];
	struct dirent *entry;
	DIR *directory = opendir(mount_point);
	pid_t owner;

	assert_non_null(directory);
	while ((entry = readdir(directory))) {
		if (strncmp(entry->d_name, CGROUP_PREFIX, strlen(CGROUP_PREFIX)))
			continue;
		owner = atoi(entry->d_name + strlen(CGROUP_PREFIX));
		if (owner > 0 && kill(owner, 0) < 0 && errno == ESRCH) {
			snprintf(path, sizeof(path), "%s/%s", mount_point, entry->d_name);
			remove_cgroup(path);
		}
	}
	closedir(directory);
}

static void leave(int signal_number)
{
	char path[600];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", first_cgroup);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (write(fd, "0", 1) < 0)
			perror(path);
		close(fd);
	}
	remove_cgroup(own_cgroup);
	_exit(128 + signal_number);
}

static int set_up(void **state)
{
	char *mount_point, *line = NULL;
	size_t room = 0;
	FILE *file;

	(void)state;
	first_netns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_true(first_netns >= 0);
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	run("ip link set lo up");
	run("ip address add " HERE4 "/32 dev lo");
	run("ip address add " THERE4 "/32 dev lo");
	run("ip address add " HERE6 "/128 dev lo nodad");
	run("ip address add " THERE6 "/128 dev lo nodad");
	/* A link whose other end throws away what is not for it: a peer that never answers. */
	run("ip link add " SILENT_DEVICE " type veth peer name silent1");
	run("ip link set silent1 up");
	run("ip link set " SILENT_DEVICE " addrgenmode none up");
	run("ip address add 10.98.0.1/24 dev " SILENT_DEVICE);
	run("ip address add fd98::1/64 dev " SILENT_DEVICE " nodad");
	run("ip address add fe80::1/64 dev " SILENT_DEVICE " nodad");
	run("ip neighbour add " SILENT4 " lladdr 02:00:00:00:00:77 dev " SILENT_DEVICE);
	run("ip neighbour add " SILENT6 " lladdr 02:00:00:00:00:77 dev " SILENT_DEVICE);
	run("ip neighbour add " SILENT_LINK_LOCAL " lladdr 02:00:00:00:00:77 dev " SILENT_DEVICE);

	assert_int_equal(cgroups_mount_point(&mount_point), 0);
	remove_leftovers(mount_point);
	file = fopen("/proc/self/cgroup", "re");
	assert_non_null(file);
	while (getline(&line, &room, file) >= 0) {
		line[strcspn(line, "\n")] = '\0';
		if (!strncmp(line, "0::", 3))
			snprintf(first_cgroup, sizeof(first_cgroup), "%s%s", mount_point, line + 3);
	}
	free(line);
	fclose(file);
	snprintf(own_cgroup, sizeof(own_cgroup), "%s/" CGROUP_PREFIX "%d", mount_point, getpid());
	free(mount_point);
	assert_int_equal(mkdir(own_cgroup, 0755), 0);
	signal(SIGINT, leave);
	signal(SIGTERM, leave);

	assert_int_equal(sockets_open(&sockets), 0);
	last_own_descriptor = dup(first_netns);
	return 0;
}

/* A test that failed half-way leaves nothing that would make the next one fail. */
static int after_each(void **state)
{
	char child[300];

	(void)state;
	close_range(last_own_descriptor + 1, ~0U, 0);
	join_cgroup(first_cgroup);
	snprintf(child, sizeof(child), "%s/child", own_cgroup);
	remove_cgroup(child);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	sockets_close(sockets);
	remove_cgroup(own_cgroup);
	assert_int_not_equal(access(own_cgroup, F_OK), 0);
	close(last_own_descriptor);
	close(first_netns);
	return 0;
}

/* ---- sockets to look at --------------------------------------------------------------------- */

/* A socket address of either family. */
union endpoint {
	struct sockaddr any;
	struct sockaddr_in ipv4;
	struct sockaddr_in6 ipv6;
};

/* From text; "::ffff:1.2.3.4" is an AF_INET6 address. */
static socklen_t endpoint_make(const char *text, __u16 port, union endpoint *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (strchr(text, ':')) {
		ret->ipv6.sin6_family = AF_INET6;
		ret->ipv6.sin6_port = htons(port);
		assert_int_equal(inet_pton(AF_INET6, text, &ret->ipv6.sin6_addr), 1);
		if (!strncmp(text, "fe80:", 5))
			ret->ipv6.sin6_scope_id = if_nametoindex(SILENT_DEVICE);
		return sizeof(ret->ipv6);
	}
	ret->ipv4.sin_family = AF_INET;
	ret->ipv4.sin_port = htons(port);
	assert_int_equal(inet_pton(AF_INET, text, &ret->ipv4.sin_addr), 1);
	return sizeof(ret->ipv4);
}

static struct peer_address key_of(const char *text)
{
	union endpoint endpoint;
	struct peer_address key = {};

	endpoint_make(text, 0, &endpoint);
	if (endpoint.any.sa_family == AF_INET)
		return address_from_ipv4(endpoint.ipv4.sin_addr.s_addr);
	memcpy(key.bytes, &endpoint.ipv6.sin6_addr, sizeof(key.bytes));
	return key;
}

static int stream_socket(const char *address)
{
	int fd, one = 1, zero = 0;
	bool ipv6 = strchr(address, ':');

	fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	if (ipv6)
		assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero)), 0);
	return fd;
}

static int bound_socket(const char *address, __u16 port)
{
	union endpoint endpoint;
	socklen_t length = endpoint_make(address, port, &endpoint);
	int fd = stream_socket(address);

	assert_int_equal(bind(fd, &endpoint.any, length), 0);
	return fd;
}

static int listener(const char *address, __u16 port)
{
	int fd = bound_socket(address, port);

	assert_int_equal(listen(fd, 64), 0);
	return fd;
}

static void await_readable(int fd)
{
	struct pollfd events = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&events, 1, PATIENCE_MS), 1);
}

/* Connect; returns 0 or the errno. */
static int dial(int fd, const char *address, __u16 port)
{
	union endpoint endpoint;
	socklen_t length = endpoint_make(address, port, &endpoint);

	return connect(fd, &endpoint.any, length) < 0 ? errno : 0;
}

/* A connection: the end that dialed and the end that accepted. */
struct connection {
	int dialed;
	int accepted;
};

static struct connection connection_make(int listening, const char *from, const char *to)
{
	struct connection connection = { .dialed = bound_socket(from, 0) };

	assert_int_equal(dial(connection.dialed, to, PORT), 0);
	connection.accepted = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	assert_true(connection.accepted >= 0);
	return connection;
}

/* Close both ends and leave nothing behind. */
static void connection_close(struct connection *connection)
{
	struct linger abort = { .l_onoff = 1 };

	setsockopt(connection->dialed, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
	setsockopt(connection->accepted, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
	close(connection->dialed);
	close(connection->accepted);
}

/* The connection still carries a byte. */
static void assert_alive(const struct connection *connection)
{
	char byte = 0;

	assert_int_equal(send(connection->dialed, "x", 1, MSG_NOSIGNAL), 1);
	assert_int_equal(recv(connection->accepted, &byte, 1, 0), 1);
	assert_int_equal(byte, 'x');
}

/* A dial that stays in TCP_SYN_SENT; the descriptor is non-blocking. */
static int silent_dial(const char *address)
{
	int fd = stream_socket(address);

	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(dial(fd, address, PORT), EINPROGRESS);
	return fd;
}

static __u64 cookie_of(int fd)
{
	__u64 cookie = 0;
	socklen_t length = sizeof(cookie);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length), 0);
	return cookie;
}

static __u32 inode_of(int fd)
{
	struct stat status;

	assert_int_equal(fstat(fd, &status), 0);
	return (__u32)status.st_ino;
}

static __u16 port_of(int fd)
{
	union endpoint endpoint;
	socklen_t length = sizeof(endpoint);

	assert_int_equal(getsockname(fd, &endpoint.any, &length), 0);
	return ntohs(endpoint.any.sa_family == AF_INET ? endpoint.ipv4.sin_port :
							 endpoint.ipv6.sin6_port);
}

static int error_of(int fd)
{
	int error = 0;
	socklen_t length = sizeof(error);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
	return error;
}

static __u8 state_of(int fd)
{
	struct tcp_info information;
	socklen_t length = sizeof(information);

	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &information, &length), 0);
	return information.tcpi_state;
}

static long milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void await_state(int fd, __u8 state)
{
	long end = milliseconds() + PATIENCE_MS;

	while (state_of(fd) != state && milliseconds() < end)
		sched_yield();
	assert_int_equal(state_of(fd), state);
}

/* The socket with a cookie in a list; asserts that it is there exactly once. */
static const struct tcp_socket *listed(const struct tcp_socket *list, size_t count, __u64 cookie)
{
	const struct tcp_socket *found = NULL;
	size_t i;

	for (i = 0; i < count; i++)
		if (list[i].cookie == cookie) {
			assert_null(found);
			found = &list[i];
		}
	return found;
}

static bool is_listed(int fd, __u32 state_mask)
{
	struct tcp_socket *list;
	size_t count;
	bool found;

	assert_int_equal(sockets_list(sockets, state_mask, NULL, 0, &list, &count), 0);
	found = listed(list, count, cookie_of(fd));
	free(list);
	return found;
}

static struct tcp_socket find(int fd)
{
	struct tcp_socket socket = { 0 };

	assert_int_equal(sockets_find(sockets, cookie_of(fd), &socket), 0);
	assert_int_equal(socket.cookie, cookie_of(fd));
	return socket;
}

static bool same_socket(const struct tcp_socket *left, const struct tcp_socket *right)
{
	return left->cookie == right->cookie && address_equal(&left->local, &right->local) &&
	       address_equal(&left->remote, &right->remote) && left->state == right->state &&
	       left->local_port == right->local_port && left->remote_port == right->remote_port &&
	       left->inode == right->inode && left->cgroup_id == right->cgroup_id &&
	       left->interface == right->interface && left->listening_port == right->listening_port;
}

/* The sockets of the namespace in any of these states. */
static size_t count_of(__u32 state_mask)
{
	struct tcp_socket *list;
	size_t count;

	assert_int_equal(sockets_list(sockets, state_mask, NULL, 0, &list, &count), 0);
	free(list);
	return count;
}

/* Of these only those that have one of the ports at either end. */
static size_t count_on(__u32 state_mask, const __u16 *ports, size_t port_count)
{
	struct tcp_socket *list;
	size_t count;

	assert_int_equal(sockets_list(sockets, state_mask, ports, port_count, &list, &count), 0);
	free(list);
	return count;
}

/* Sockets of a state in /proc/net/tcp: the kernel's second account of them, IPv4 only. */
static size_t proc_count(unsigned int state)
{
	FILE *file = fopen("/proc/thread-self/net/tcp", "re");
	char line[256];
	unsigned int seen;
	size_t count = 0;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, " %*d: %*x:%*x %*x:%*x %x", &seen) == 1 && seen == state)
			count++;
	fclose(file);
	return count;
}

static void await_proc_count(unsigned int state, size_t count)
{
	long end = milliseconds() + PATIENCE_MS;

	while (proc_count(state) != count && milliseconds() < end)
		sched_yield();
	assert_int_equal(proc_count(state), count);
}

/*
 * Send HERE4 a TCP SYN from an address that is nobody's, with `payload` bytes of data. The answer
 * goes where nothing comes back from.
 */
static void send_strange_syn(size_t payload)
{
	struct {
		struct iphdr ip;
		struct tcphdr tcp;
		char data[8];
	} __attribute__((packed)) packet = { 0 };
	struct {
		__be32 from, to;
		__u8 zero, protocol;
		__be16 length;
	} pseudo = { 0 };
	size_t length = sizeof(packet.tcp) + payload, i;
	union endpoint to;
	unsigned char sum_over[sizeof(pseudo) + sizeof(packet.tcp) + sizeof(packet.data)] = { 0 };
	__u32 sum = 0;
	int fd;

	endpoint_make(HERE4, 0, &to);
	packet.ip = (struct iphdr){ .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP };
	packet.ip.saddr = inet_addr(SILENT4);
	packet.ip.daddr = to.ipv4.sin_addr.s_addr;
	packet.tcp.source = htons(40000);
	packet.tcp.dest = htons(PORT);
	packet.tcp.seq = htonl(1);
	packet.tcp.doff = 5;
	packet.tcp.syn = 1;
	packet.tcp.window = htons(1024);
	memset(packet.data, 'x', payload);

	pseudo.from = packet.ip.saddr;
	pseudo.to = packet.ip.daddr;
	pseudo.protocol = IPPROTO_TCP;
	pseudo.length = htons((__u16)length);
	memcpy(sum_over, &pseudo, sizeof(pseudo));
	memcpy(sum_over + sizeof(pseudo), &packet.tcp, sizeof(packet.tcp));
	memcpy(sum_over + sizeof(pseudo) + sizeof(packet.tcp), packet.data, payload);
	for (i = 0; i < sizeof(pseudo) + length; i += 2)
		sum += (__u32)sum_over[i] << 8 | sum_over[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	packet.tcp.check = htons((__u16)~sum);

	fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	assert_true(fd >= 0);
	assert_int_equal(sendto(fd, &packet, sizeof(packet.ip) + length, 0, &to.any,
				sizeof(to.ipv4)),
			 sizeof(packet.ip) + length);
	close(fd);
}

/* ---- sockets: lists ------------------------------------------------------------------------- */

/* What both ends of a connection show, whatever their families: `from` and `to` as keys. */
static void check_connection(const struct connection *connection, const char *from, const char *to)
{
	struct peer_address here = key_of(from), there = key_of(to);
	struct tcp_socket *list, again;
	const struct tcp_socket *ends[2];
	size_t count, i;

	assert_int_equal(sockets_list(sockets, SOCKET_STATES_LINK, NULL, 0, &list, &count), 0);
	assert_int_equal(count, 2);
	ends[0] = listed(list, count, cookie_of(connection->dialed));
	ends[1] = listed(list, count, cookie_of(connection->accepted));
	assert_non_null(ends[0]);
	assert_non_null(ends[1]);

	assert_true(address_equal(&ends[0]->local, &here));
	assert_true(address_equal(&ends[0]->remote, &there));
	assert_true(address_equal(&ends[1]->local, &there));
	assert_true(address_equal(&ends[1]->remote, &here));
	assert_int_equal(ends[0]->local_port, port_of(connection->dialed));
	assert_int_equal(ends[0]->remote_port, PORT);
	assert_int_equal(ends[1]->local_port, PORT);
	assert_int_equal(ends[1]->remote_port, port_of(connection->dialed));
	assert_int_equal(ends[0]->inode, inode_of(connection->dialed));
	assert_int_equal(ends[1]->inode, inode_of(connection->accepted));
	assert_false(ends[0]->listening_port);
	assert_true(ends[1]->listening_port);
	for (i = 0; i < 2; i++) {
		assert_int_equal(ends[i]->state, TCP_ESTABLISHED);
		assert_int_equal(ends[i]->interface, 0);
		assert_int_not_equal(ends[i]->cgroup_id, 0);
		assert_int_equal(sockets_query(sockets, ends[i], &again), 0);
		assert_true(same_socket(&again, ends[i]));
	}
	free(list);
}

static void check_family(const char *listen_on, const char *from, const char *to,
			 const char *from_key, const char *to_key)
{
	int listening = listener(listen_on, PORT);
	struct connection connection = connection_make(listening, from, to);

	check_connection(&connection, from_key, to_key);
	connection_close(&connection);
	close(listening);
	assert_int_equal(count_of(SOCKET_STATES_LINK), 0);
}

static void lists_ipv4(void **state)
{
	(void)state;
	check_family("0.0.0.0", HERE4, THERE4, HERE4, THERE4);
}

static void lists_ipv6(void **state)
{
	(void)state;
	check_family("::", HERE6, THERE6, HERE6, THERE6);
}

/* One host has one key, whichever family its socket has; and each socket is listed once. */
static void lists_ipv4_on_a_dual_stack_listener(void **state)
{
	(void)state;
	check_family("::", HERE4, THERE4, HERE4, THERE4);
}

static void lists_mapped_dial(void **state)
{
	(void)state;
	check_family("0.0.0.0", "::ffff:" HERE4, "::ffff:" THERE4, HERE4, THERE4);
	check_family("::", "::ffff:" HERE4, "::ffff:" THERE4, HERE4, THERE4);
}

static void lists_listeners(void **state)
{
	int ipv4 = listener("0.0.0.0", PORT), ipv6 = listener("::", OTHER_PORT);
	struct peer_address any4 = key_of("0.0.0.0"), any6 = key_of("::");
	const struct tcp_socket *found;
	struct tcp_socket *list;
	size_t count;

	(void)state;
	assert_int_equal(sockets_list(sockets, SOCKET_STATES_LISTEN, NULL, 0, &list, &count), 0);
	assert_int_equal(count, 2);
	found = listed(list, count, cookie_of(ipv4));
	assert_non_null(found);
	assert_int_equal(found->state, TCP_LISTEN);
	assert_int_equal(found->local_port, PORT);
	assert_int_equal(found->remote_port, 0);
	assert_true(address_equal(&found->local, &any4));
	assert_true(found->listening_port);
	/* A listener has no peer: neither question can be asked of it. */
	assert_int_equal(sockets_query(sockets, found, &list[0]), -EINVAL);
	assert_int_equal(sockets_destroy(sockets, found), -EINVAL);
	found = listed(list, count, cookie_of(ipv6));
	assert_non_null(found);
	assert_int_equal(found->local_port, OTHER_PORT);
	assert_true(address_equal(&found->local, &any6));
	free(list);
	assert_int_equal(state_of(ipv4), TCP_LISTEN);
	close(ipv4);
	close(ipv6);
}

/* A listener that has gone is no listener, though sockets it accepted live on. */
static void listening_port_is_of_now(void **state)
{
	int listening = listener("0.0.0.0", PORT);
	struct connection connection = connection_make(listening, HERE4, THERE4);

	(void)state;
	assert_true(find(connection.accepted).listening_port);
	close(listening);
	assert_false(find(connection.accepted).listening_port);
	/* A listener of the other family counts as well. */
	listening = listener("::", PORT);
	assert_true(find(connection.accepted).listening_port);
	close(listening);
	connection_close(&connection);
}

static void check_silent_dial(const char *address)
{
	int fd = silent_dial(address);
	struct tcp_socket socket, again;
	struct peer_address there = key_of(address);

	assert_true(is_listed(fd, SOCKET_STATES_DIAL));
	assert_false(is_listed(fd, SOCKET_STATES_LINK));
	socket = find(fd);
	assert_int_equal(socket.state, TCP_SYN_SENT);
	assert_true(address_equal(&socket.remote, &there));
	assert_int_equal(socket.remote_port, PORT);
	assert_int_equal(socket.local_port, port_of(fd));
	assert_int_equal(socket.inode, inode_of(fd));
	assert_int_not_equal(socket.cgroup_id, 0);
	assert_int_equal(socket.interface,
			 strncmp(address, "fe80:", 5) ? 0 : if_nametoindex(SILENT_DEVICE));
	assert_int_equal(sockets_query(sockets, &socket, &again), 0);
	assert_true(same_socket(&socket, &again));
	close(fd);
	assert_int_equal(sockets_query(sockets, &socket, &again), -ENOENT);
}

static void lists_dials(void **state)
{
	(void)state;
	check_silent_dial(SILENT4);
	check_silent_dial(SILENT6);
	check_silent_dial("::ffff:" SILENT4);
	check_silent_dial(SILENT_LINK_LOCAL);
}

/* Links and the rest of a connection's life are told apart by the mask. */
static void lists_by_state(void **state)
{
	int listening = listener("0.0.0.0", PORT);
	struct connection connection = connection_make(listening, HERE4, THERE4);
	struct tcp_socket before = find(connection.dialed), now;
	size_t waiting = proc_count(TCP_TIME_WAIT);
	__u64 cookie = before.cookie;

	(void)state;
	assert_int_equal(shutdown(connection.dialed, SHUT_WR), 0);
	await_state(connection.dialed, TCP_FIN_WAIT2);
	assert_int_equal(count_of(SOCKET_STATES_LINK), 0);
	assert_int_equal(count_of(SOCKET_STATES_CLOSING), 2);
	assert_int_equal(find(connection.dialed).state, TCP_FIN_WAIT2);
	assert_int_equal(find(connection.accepted).state, TCP_CLOSE_WAIT);
	assert_int_equal(sockets_query(sockets, &before, &now), 0);
	assert_int_equal(now.state, TCP_FIN_WAIT2);

	/* Closed by its application: a stand-in remains in FIN_WAIT2, which /proc shows too. */
	close(connection.dialed);
	await_proc_count(TCP_FIN_WAIT2, 1);
	assert_int_equal(count_of(SOCKET_STATES_CLOSING), 1);
	assert_int_equal(sockets_find(sockets, cookie, &now), -ENOENT);
	assert_int_equal(sockets_query(sockets, &before, &now), -ENOENT);

	close(connection.accepted);
	await_proc_count(TCP_TIME_WAIT, waiting + 1);
	assert_int_equal(count_of(~SOCKET_STATES_LISTEN), 0);
	assert_int_equal(count_of(1U << TCP_TIME_WAIT), 0);
	assert_int_equal(sockets_query(sockets, &before, &now), -ENOENT);
	close(listening);
}

/* An established connection that is not accepted yet is a link already, in nobody's hands. */
static void lists_by_port(void **state)
{
	static const __u16 nobodys[] = { 1, OTHER_PORT, 65535 };
	int ipv4 = listener("0.0.0.0", PORT), ipv6 = listener("::", OTHER_PORT), dialing = silent_dial(SILENT4);
	struct connection connection = connection_make(ipv4, HERE4, THERE4);
	const __u16 dialers[] = { 2, port_of(connection.dialed) };
	__u16 many[SOCKETS_PORTS_MAX + 1];
	struct tcp_socket *list;
	size_t count;

	(void)state;
	for (int i = 0; i < SOCKETS_PORTS_MAX; i++)
		many[i] = (__u16)(10000 + i);
	assert_int_equal(count_on(SOCKET_STATES_LINK, nobodys, 3), 0);
	/* One end has it as its own, the other as the other's. */
	assert_int_equal(count_on(SOCKET_STATES_LINK, dialers, 2), 2);
	assert_int_equal(count_on(SOCKET_STATES_LINK, many, SOCKETS_PORTS_MAX), 0);
	many[0] = PORT;
	assert_int_equal(count_on(SOCKET_STATES_LINK, many, SOCKETS_PORTS_MAX), 2);
	assert_int_equal(count_on(SOCKET_STATES_DIAL, many, 1), 1);
	many[0] = 10000;
	many[SOCKETS_PORTS_MAX - 1] = PORT;
	assert_int_equal(count_on(SOCKET_STATES_LINK, many, SOCKETS_PORTS_MAX), 2);
	assert_int_equal(count_on(SOCKET_STATES_DIAL, many, SOCKETS_PORTS_MAX), 1);
	assert_int_equal(count_on(SOCKET_STATES_DIAL, dialers, 2), 0);
	/* Of both families. */
	assert_int_equal(count_on(SOCKET_STATES_LISTEN, nobodys, 3), 1);
	assert_int_equal(count_of(SOCKET_STATES_LISTEN), 2);
	assert_int_equal(sockets_list(sockets, SOCKET_STATES_LINK, many, SOCKETS_PORTS_MAX + 1, &list, &count),
			 -E2BIG);
	connection_close(&connection);
	close(dialing);
	close(ipv4);
	close(ipv6);
}

static void lists_unaccepted(void **state)
{
	int listening = listener("0.0.0.0", PORT), dialed = stream_socket(THERE4), accepted;
	struct tcp_socket *list;
	const struct tcp_socket *knock;
	struct connection connection;
	__u64 cookie;
	size_t count;

	(void)state;
	assert_int_equal(dial(dialed, THERE4, PORT), 0);
	await_readable(listening);
	assert_int_equal(sockets_list(sockets, SOCKET_STATES_LINK, NULL, 0, &list, &count), 0);
	assert_int_equal(count, 2);
	knock = list[0].cookie == cookie_of(dialed) ? &list[1] : &list[0];
	assert_int_equal(knock->inode, 0);
	assert_int_equal(knock->cgroup_id, find(dialed).cgroup_id);
	cookie = knock->cookie;
	free(list);
	accepted = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	assert_int_equal(cookie_of(accepted), cookie);
	connection = (struct connection){ .dialed = dialed, .accepted = accepted };
	connection_close(&connection);
	close(listening);
}

/* A handshake of theirs that is not finished is no socket yet. */
static void leaves_request_sockets_out(void **state)
{
	int listening = listener("0.0.0.0", PORT);

	(void)state;
	send_strange_syn(0);
	await_proc_count(TCP_SYN_RECV, 1);
	assert_int_equal(count_of(~SOCKET_STATES_LISTEN), 0);
	close(listening);
}

/* ... but one that an application has already got, by TCP Fast Open, is. */
static void lists_full_syn_recv(void **state)
{
	int listening, accepted, queue = 8;
	struct tcp_socket socket;

	(void)state;
	/* Server side on, and no cookie asked for: ip-sysctl, tcp_fastopen. */
	run("echo 514 >/proc/sys/net/ipv4/tcp_fastopen");
	listening = bound_socket("0.0.0.0", PORT);
	assert_int_equal(setsockopt(listening, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof(queue)),
			 0);
	assert_int_equal(listen(listening, 8), 0);
	send_strange_syn(8);
	await_readable(listening);
	accepted = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	assert_true(accepted >= 0);
	assert_int_equal(state_of(accepted), TCP_SYN_RECV);
	assert_true(is_listed(accepted, SOCKET_STATES_DIAL));
	socket = find(accepted);
	assert_int_equal(socket.state, TCP_SYN_RECV);
	assert_int_equal(sockets_query(sockets, &socket, &socket), 0);
	assert_int_equal(sockets_destroy(sockets, &socket), 0);
	assert_int_equal(sockets_query(sockets, &socket, &socket), -ENOENT);
	close(accepted);
	close(listening);
}

/* More sockets than one message of the kernel holds, all of them and each once, in order. */
static void lists_many(void **state)
{
	enum { MANY = 300 };
	struct connection *connections = calloc(MANY, sizeof(*connections));
	int listening = listener("::", PORT), i;
	struct tcp_socket *list;
	size_t count, j;

	(void)state;
	assert_non_null(connections);
	for (i = 0; i < MANY; i++)
		connections[i] = i % 3 == 0 ? connection_make(listening, HERE4, THERE4) :
				 i % 3 == 1 ? connection_make(listening, HERE6, THERE6) :
					      connection_make(listening, "::ffff:" HERE4,
							      "::ffff:" THERE4);
	assert_int_equal(sockets_list(sockets, SOCKET_STATES_LINK, NULL, 0, &list, &count), 0);
	assert_int_equal(count, 2 * MANY);
	for (i = 0; i < MANY; i++) {
		assert_non_null(listed(list, count, cookie_of(connections[i].dialed)));
		assert_non_null(listed(list, count, cookie_of(connections[i].accepted)));
	}
	for (j = 1; j < count; j++)
		assert_true(list[j - 1].cookie < list[j].cookie);
	free(list);
	for (i = 0; i < MANY; i++)
		connection_close(&connections[i]);
	free(connections);
	close(listening);
}

/* Of many that nobody asked for the kernel tells now and then, so that none of its answers takes long. */
static void passes_over_others_in_steps(void **state)
{
	enum { MANY = 600, FIRST = 49152 };
	static const struct linger at_once = { .l_onoff = 1 };
	static const __u16 nobodys = 1;
	int listening = listener("0.0.0.0", PORT), dialed[MANY], i, steps = 0, result;
	struct socket_listing *listing;
	struct tcp_socket *list;
	size_t count;

	(void)state;
	/* Those that nobody has accepted take no descriptor. */
	assert_int_equal(listen(listening, MANY), 0);
	for (i = 0; i < MANY; i++) {
		dialed[i] = bound_socket(HERE4, (__u16)(FIRST + i));
		assert_int_equal(dial(dialed[i], THERE4, PORT), 0);
	}
	assert_int_equal(sockets_list_begin(sockets, SOCKET_STATES_LINK, &nobodys, 1, &listing), 0);
	do {
		result = sockets_list_on(listing);
		steps++;
	} while (result > 0);
	assert_int_equal(result, 0);
	sockets_list_end(listing, &list, &count);
	assert_int_equal(count, 0);
	/* Two, or three, are what no socket at all takes. */
	assert_true(steps > 5);
	free(list);
	for (i = 0; i < MANY; i++) {
		assert_int_equal(setsockopt(dialed[i], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
		close(dialed[i]);
	}
	close(listening);
}

/* ---- sockets: destroy ----------------------------------------------------------------------- */

static void check_destroy(const char *listen_on, const char *from, const char *to)
{
	int listening = listener(listen_on, PORT);
	struct connection connection = connection_make(listening, from, to);
	struct connection bystander = connection_make(listening, from, to);
	struct tcp_socket socket = find(connection.dialed), now;
	char byte;

	assert_int_equal(sockets_destroy(sockets, &socket), 0);
	assert_int_equal(recv(connection.dialed, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNABORTED);
	assert_int_equal(recv(connection.accepted, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(sockets_query(sockets, &socket, &now), -ENOENT);
	assert_int_equal(sockets_destroy(sockets, &socket), -ENOENT);
	assert_alive(&bystander);
	connection_close(&connection);
	connection_close(&bystander);
	close(listening);
}

static void destroys_established(void **state)
{
	(void)state;
	check_destroy("0.0.0.0", HERE4, THERE4);
	check_destroy("::", HERE6, THERE6);
	check_destroy("::", HERE4, THERE4);
	check_destroy("::", "::ffff:" HERE4, "::ffff:" THERE4);
}

static void check_destroy_dial(const char *address)
{
	int fd = silent_dial(address);
	struct tcp_socket socket = find(fd);

	assert_int_equal(sockets_destroy(sockets, &socket), 0);
	assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, PATIENCE_MS), 1);
	assert_int_equal(error_of(fd), ECONNABORTED);
	assert_int_equal(sockets_destroy(sockets, &socket), -ENOENT);
	close(fd);
}

static void destroys_dials(void **state)
{
	(void)state;
	check_destroy_dial(SILENT4);
	check_destroy_dial(SILENT6);
	check_destroy_dial("::ffff:" SILENT4);
	check_destroy_dial(SILENT_LINK_LOCAL);
}

static void *blocking_dial(void *argument)
{
	int *fd_then_error = argument;

	*fd_then_error = dial(*fd_then_error, SILENT4, PORT);
	return NULL;
}

/* A thread that waits in connect() is told. */
static void destroys_blocking_dial(void **state)
{
	int fd = stream_socket(SILENT4), result = fd;
	long end = milliseconds() + PATIENCE_MS;
	struct tcp_socket socket;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, blocking_dial, &result), 0);
	while (sockets_find(sockets, cookie_of(fd), &socket) && milliseconds() < end)
		sched_yield();
	assert_int_equal(find(fd).state, TCP_SYN_SENT);
	socket = find(fd);
	assert_int_equal(sockets_destroy(sockets, &socket), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(result, ECONNABORTED);
	close(fd);
}

/* Never another socket: another cookie, or the same addresses and ports used again. */
static void destroys_no_other(void **state)
{
	int listening = listener("0.0.0.0", PORT);
	struct connection connection = connection_make(listening, HERE4, THERE4);
	struct tcp_socket old = find(connection.dialed), wrong = old, now;
	struct linger abort = { .l_onoff = 1 };

	(void)state;
	wrong.cookie++;
	assert_int_equal(sockets_destroy(sockets, &wrong), -ENOENT);
	assert_int_equal(sockets_query(sockets, &wrong, &now), -ENOENT);
	wrong.cookie = old.cookie ^ 1ULL << 40;
	assert_int_equal(sockets_destroy(sockets, &wrong), -ENOENT);
	/* A cookie like others here, and "any" to the kernel. */
	wrong.cookie = ~0ULL;
	assert_int_equal(sockets_destroy(sockets, &wrong), -ENOENT);
	assert_int_equal(sockets_query(sockets, &wrong, &now), -ENOENT);
	assert_alive(&connection);
	wrong = old;
	wrong.remote_port = OTHER_PORT;
	assert_int_equal(sockets_destroy(sockets, &wrong), -ENOENT);
	/* Nobody dials from there, but the listener would take it: it is not found either. */
	wrong = find(connection.accepted);
	wrong.remote_port = 1;
	assert_int_equal(sockets_destroy(sockets, &wrong), -ENOENT);
	assert_int_equal(state_of(listening), TCP_LISTEN);
	assert_alive(&connection);

	assert_int_equal(setsockopt(connection.dialed, SOL_SOCKET, SO_LINGER, &abort,
				    sizeof(abort)), 0);
	close(connection.dialed);
	close(connection.accepted);
	connection.dialed = bound_socket(HERE4, old.local_port);
	assert_int_equal(dial(connection.dialed, THERE4, PORT), 0);
	connection.accepted = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	now = find(connection.dialed);
	assert_true(address_equal(&now.local, &old.local));
	assert_int_equal(now.local_port, old.local_port);
	assert_int_equal(sockets_destroy(sockets, &old), -ENOENT);
	assert_int_equal(sockets_query(sockets, &old, &old), -ENOENT);
	assert_alive(&connection);
	connection_close(&connection);
	close(listening);
}

/* What an application has closed is gone, also where the kernel could still destroy a stand-in. */
static void destroys_no_stand_in(void **state)
{
	int listening = listener("0.0.0.0", PORT);
	struct connection connection = connection_make(listening, HERE4, THERE4);
	struct tcp_socket socket = find(connection.dialed);
	/* Earlier tests left some, for a minute. */
	size_t before = proc_count(TCP_TIME_WAIT);

	(void)state;
	close(connection.dialed);
	close(connection.accepted);
	await_proc_count(TCP_TIME_WAIT, before + 1);
	assert_int_equal(sockets_destroy(sockets, &socket), -ENOENT);
	assert_int_equal(proc_count(TCP_TIME_WAIT), before + 1);
	close(listening);
}

/* Run `body` in a child that may change its identity; its return value comes back. */
static int in_child(int (*body)(void))
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child)
		_exit(body());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static struct tcp_socket unprivileged_target;

static int destroy_unprivileged(void)
{
	struct tcp_socket *list;
	struct sockets *own;
	size_t count;

	if (setgid(65534) < 0 || setuid(65534) < 0)
		return 1;
	if (sockets_open(&own))
		return 2;
	if (sockets_list(own, SOCKET_STATES_LINK, NULL, 0, &list, &count) || count != 2)
		return 3;
	free(list);
	if (sockets_destroy(own, &unprivileged_target) != -EPERM)
		return 4;
	sockets_close(own);
	return 0;
}

static void destroys_only_with_the_right(void **state)
{
	int listening = listener("0.0.0.0", PORT);
	struct connection connection = connection_make(listening, HERE4, THERE4);

	(void)state;
	unprivileged_target = find(connection.dialed);
	assert_int_equal(in_child(destroy_unprivileged), 0);
	assert_alive(&connection);
	connection_close(&connection);
	close(listening);
}

/* ---- sockets: whose ------------------------------------------------------------------------- */

static void guarded_sockets(void **state)
{
	static const __u16 ports[] = { PORT, OTHER_PORT };
	static const struct {
		const char *local, *remote;
		__u16 local_port, remote_port;
		__u8 state;
		bool listening_port;
		enum link_direction direction; /* DIRECTION_NONE: not guarded */
	} cases[] = {
		{ HERE4, THERE4, 40000, PORT, TCP_ESTABLISHED, false, DIRECTION_OUTBOUND },
		{ HERE4, THERE4, 40000, OTHER_PORT, TCP_ESTABLISHED, false, DIRECTION_OUTBOUND },
		{ HERE4, THERE4, 40000, PORT, TCP_SYN_SENT, false, DIRECTION_OUTBOUND },
		{ HERE4, THERE4, 40000, PORT, TCP_ESTABLISHED, true, DIRECTION_OUTBOUND },
		{ HERE6, THERE6, PORT, 40000, TCP_ESTABLISHED, true, DIRECTION_INBOUND },
		{ HERE6, THERE6, PORT, 40000, TCP_ESTABLISHED, false, DIRECTION_INBOUND },
		/* From the listening port to the listening port: no trace of who dialed. */
		{ HERE4, THERE4, PORT, PORT, TCP_ESTABLISHED, true, DIRECTION_INBOUND },
		{ HERE4, THERE4, PORT, PORT, TCP_ESTABLISHED, false, DIRECTION_OUTBOUND },
		{ HERE4, THERE4, PORT, PORT, TCP_SYN_SENT, true, DIRECTION_OUTBOUND },
		/* A dial to elsewhere from a guarded port is not the guard's business. */
		{ HERE4, THERE4, PORT, 40000, TCP_SYN_SENT, true, DIRECTION_NONE },
		{ HERE4, THERE4, 40000, 443, TCP_ESTABLISHED, false, DIRECTION_NONE },
		{ HERE4, THERE4, 22, 40000, TCP_ESTABLISHED, true, DIRECTION_NONE },
		/* This host is no peer. */
		{ HERE4, HERE4, 40000, PORT, TCP_ESTABLISHED, false, DIRECTION_NONE },
		{ HERE6, HERE6, PORT, 40000, TCP_ESTABLISHED, true, DIRECTION_NONE },
		{ "127.0.0.1", "127.0.0.2", 40000, PORT, TCP_ESTABLISHED, false, DIRECTION_NONE },
		{ HERE4, "127.0.0.1", PORT, 40000, TCP_ESTABLISHED, true, DIRECTION_NONE },
		{ "::1", "::1", PORT, 40000, TCP_ESTABLISHED, true, DIRECTION_NONE },
		{ "0.0.0.0", "0.0.0.0", PORT, 0, TCP_LISTEN, true, DIRECTION_NONE },
		{ "::", "::", PORT, 0, TCP_LISTEN, true, DIRECTION_NONE },
	};
	struct cgroup_set *set;
	struct socket_filter filter = { .ports = ports, .port_count = 2 };
	enum link_direction direction;
	__u64 inside;
	size_t i;

	(void)state;
	assert_int_equal(cgroup_set_open(own_cgroup, &set), 0);
	assert_int_equal(cgroups_id_of_path(own_cgroup, &inside), 0);
	filter.cgroups = set;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tcp_socket socket = {
			.cookie = 1,
			.local = key_of(cases[i].local),
			.remote = key_of(cases[i].remote),
			.local_port = cases[i].local_port,
			.remote_port = cases[i].remote_port,
			.state = cases[i].state,
			.listening_port = cases[i].listening_port,
			.cgroup_id = inside,
		};

		print_message("# case %zu\n", i);
		direction = DIRECTION_NONE;
		assert_int_equal(socket_is_guarded(&socket, &filter, &direction),
				 cases[i].direction != DIRECTION_NONE);
		assert_int_equal(direction, cases[i].direction);
		/* Outside the guard's cgroup nothing is guarded. */
		direction = DIRECTION_NONE;
		socket.cgroup_id = CGROUP_ROOT_ID;
		assert_false(socket_is_guarded(&socket, &filter, &direction));
		assert_int_equal(direction, DIRECTION_NONE);
	}
	cgroup_set_close(set);
}

/* The whole way, on real sockets: the guard's cgroup and a stranger's, both directions. */
static void guarded_real_sockets(void **state)
{
	static const __u16 port = PORT;
	struct socket_filter filter = { .ports = &port, .port_count = 1 };
	struct connection ours, strange, to_self;
	enum link_direction direction;
	struct cgroup_set *set;
	struct tcp_socket socket;
	int listening, silent;
	char child[300];
	__u64 id;

	(void)state;
	snprintf(child, sizeof(child), "%s/child", own_cgroup);
	assert_int_equal(mkdir(child, 0755), 0);
	assert_int_equal(cgroup_set_open(own_cgroup, &set), 0);
	assert_int_equal(cgroups_id_of_path(child, &id), 0);
	filter.cgroups = set;

	join_cgroup(child);
	listening = listener("0.0.0.0", PORT);
	ours = connection_make(listening, HERE4, THERE4);
	silent = silent_dial(SILENT4);
	to_self = connection_make(listening, HERE4, HERE4);
	join_cgroup(first_cgroup);
	strange = connection_make(listening, HERE4, THERE4);

	socket = find(ours.dialed);
	assert_int_equal(socket.cgroup_id, id);
	assert_true(socket_is_guarded(&socket, &filter, &direction));
	assert_int_equal(direction, DIRECTION_OUTBOUND);
	socket = find(ours.accepted);
	assert_int_equal(socket.cgroup_id, id);
	assert_true(socket_is_guarded(&socket, &filter, &direction));
	assert_int_equal(direction, DIRECTION_INBOUND);
	socket = find(silent);
	assert_int_equal(socket.cgroup_id, id);
	assert_true(socket_is_guarded(&socket, &filter, &direction));
	assert_int_equal(direction, DIRECTION_OUTBOUND);
	socket = find(to_self.dialed);
	assert_false(socket_is_guarded(&socket, &filter, &direction));
	socket = find(to_self.accepted);
	assert_false(socket_is_guarded(&socket, &filter, &direction));
	socket = find(strange.dialed);
	assert_int_not_equal(socket.cgroup_id, id);
	assert_false(socket_is_guarded(&socket, &filter, &direction));
	/* Accepted by a process elsewhere, from the guard's listener: the guard's. */
	socket = find(strange.accepted);
	assert_int_equal(socket.cgroup_id, id);
	assert_true(socket_is_guarded(&socket, &filter, &direction));
	assert_int_equal(direction, DIRECTION_INBOUND);

	close(silent);
	connection_close(&to_self);
	connection_close(&ours);
	connection_close(&strange);
	close(listening);
	cgroup_set_close(set);
	assert_int_equal(rmdir(child), 0);
}

/* ---- cgroups -------------------------------------------------------------------------------- */

static void cgroup_paths(void **state)
{
	char *root, *absolute = NULL, *below, *back, name[300];
	__u64 id;

	(void)state;
	assert_int_equal(cgroups_mount_point(&root), 0);
	assert_int_equal(cgroups_id_of_path(root, &id), 0);
	assert_int_equal(id, CGROUP_ROOT_ID);
	assert_int_equal(cgroups_path_of_id(CGROUP_ROOT_ID, &below), 0);
	assert_string_equal(below, "/");
	free(below);
	assert_int_equal(cgroups_path(NULL, &absolute), 0);
	assert_string_equal(absolute, root);
	free(absolute);
	assert_int_equal(cgroups_path("/", &absolute), 0);
	assert_string_equal(absolute, root);
	free(absolute);

	assert_int_equal(cgroups_id_of_path(own_cgroup, &id), 0);
	assert_int_equal(cgroups_path_of_id(id, &below), 0);
	assert_string_equal(below, own_cgroup + strlen(root));
	assert_int_equal(cgroups_path(below, &back), 0);
	assert_string_equal(back, own_cgroup);
	free(back);
	assert_int_equal(cgroups_path(below + 1, &back), 0);
	assert_string_equal(back, own_cgroup);
	free(back);
	snprintf(name, sizeof(name), "%s//", below);
	assert_int_equal(cgroups_path(name, &back), 0);
	assert_string_equal(back, own_cgroup);
	free(back);

	absolute = NULL;
	snprintf(name, sizeof(name), "%s/cgroup.procs", below);
	assert_int_equal(cgroups_path(name, &absolute), -ENOTDIR);
	snprintf(name, sizeof(name), "%s/missing", below);
	assert_int_equal(cgroups_path(name, &absolute), -ENOENT);
	snprintf(name, sizeof(name), "%s/..", below);
	assert_int_equal(cgroups_path(name, &absolute), -EINVAL);
	assert_int_equal(cgroups_place(name, &absolute), -EINVAL);
	snprintf(name, sizeof(name), "%s/cgroup.procs", below);
	assert_int_equal(cgroups_place(name, &absolute), -ENOTDIR);
	assert_null(absolute);
	/* One to wait for: where it would be, and how much of that there is. */
	snprintf(name, sizeof(name), "%s/missing/one/", below);
	assert_int_equal(cgroups_place(name, &absolute), -ENOENT);
	assert_memory_equal(absolute, own_cgroup, strlen(own_cgroup));
	assert_string_equal(absolute + strlen(own_cgroup), "/missing/one");
	assert_int_equal(cgroups_there(absolute), strlen(own_cgroup));
	free(absolute);
	assert_int_equal(cgroups_place(below, &absolute), 0);
	assert_string_equal(absolute, own_cgroup);
	assert_int_equal(cgroups_there(absolute), strlen(own_cgroup));
	free(absolute);
	assert_int_equal(cgroups_there("/nowhere/at/all"), 0);
	assert_int_equal(cgroups_id_of_path("/proc", &id), -EXDEV);
	assert_int_equal(cgroups_id_of_path("/proc/self/status", &id), -ENOTDIR);
	assert_int_equal(cgroups_path_of_id(~0ULL, &back), -ENOENT);
	free(below);
	free(root);
}

static void cgroup_sets(void **state)
{
	char child[300], grandchild[320], *below;
	enum { SIBLINGS = 100 };
	__u64 own_id, child_id, grandchild_id, again_id, siblings[SIBLINGS];
	size_t i;
	struct cgroup_set *set, *child_set, *root_set;

	(void)state;
	snprintf(child, sizeof(child), "%s/child", own_cgroup);
	snprintf(grandchild, sizeof(grandchild), "%s/grandchild", child);
	assert_int_equal(mkdir(child, 0755), 0);
	assert_int_equal(cgroup_set_open(own_cgroup, &set), 0);
	assert_int_equal(cgroup_set_open(child, &child_set), 0);
	assert_int_equal(mkdir(grandchild, 0755), 0);
	assert_int_equal(cgroups_id_of_path(own_cgroup, &own_id), 0);
	assert_int_equal(cgroups_id_of_path(child, &child_id), 0);
	assert_int_equal(cgroups_id_of_path(grandchild, &grandchild_id), 0);

	assert_int_equal(cgroup_set_refresh(NULL), -ENODEV);
	assert_int_equal(cgroup_set_count(NULL), 0);
	assert_false(cgroup_set_contains(NULL, own_id));

	assert_int_equal(cgroup_set_count(set), 2);
	assert_true(cgroup_set_contains(set, own_id));
	assert_true(cgroup_set_contains(set, child_id));
	assert_false(cgroup_set_contains(set, grandchild_id));
	assert_false(cgroup_set_contains(set, CGROUP_ROOT_ID));
	assert_false(cgroup_set_contains(set, 0));
	assert_false(cgroup_set_contains(child_set, own_id));

	assert_int_equal(cgroup_set_refresh(set), 0);
	assert_int_equal(cgroup_set_count(set), 3);
	assert_true(cgroup_set_contains(set, grandchild_id));

	assert_int_equal(rmdir(grandchild), 0);
	assert_int_equal(rmdir(child), 0);
	assert_int_equal(cgroup_set_refresh(set), 0);
	assert_int_equal(cgroup_set_count(set), 1);
	assert_int_equal(cgroups_path_of_id(child_id, &below), -ENOENT);

	/* Many siblings: a directory shows them in no order. */
	assert_int_equal(mkdir(child, 0755), 0);
	for (i = 0; i < SIBLINGS; i++) {
		snprintf(grandchild, sizeof(grandchild), "%s/%zu", child, i);
		assert_int_equal(mkdir(grandchild, 0755), 0);
		assert_int_equal(cgroups_id_of_path(grandchild, &siblings[i]), 0);
	}
	assert_int_equal(cgroup_set_refresh(set), 0);
	assert_int_equal(cgroup_set_count(set), 2 + SIBLINGS);
	for (i = 0; i < SIBLINGS; i++) {
		assert_true(cgroup_set_contains(set, siblings[i]));
		snprintf(grandchild, sizeof(grandchild), "%s/%zu", child, i);
		assert_int_equal(rmdir(grandchild), 0);
	}
	assert_int_equal(rmdir(child), 0);

	/* Gone, and not to be mistaken for another one of its name. */
	assert_int_equal(cgroup_set_refresh(child_set), -ENODEV);
	assert_true(cgroup_set_contains(child_set, child_id));
	assert_int_equal(mkdir(child, 0755), 0);
	assert_int_equal(cgroup_set_refresh(child_set), -ENODEV);
	assert_int_equal(cgroups_id_of_path(child, &again_id), 0);
	assert_int_not_equal(again_id, child_id);
	assert_int_equal(rmdir(child), 0);

	assert_int_equal(cgroups_path("/", &below), 0);
	assert_int_equal(cgroup_set_open(below, &root_set), 0);
	free(below);
	assert_int_equal(cgroup_set_refresh(root_set), 0);
	assert_true(cgroup_set_contains(root_set, own_id));
	assert_true(cgroup_set_contains(root_set, child_id));
	assert_true(cgroup_set_contains(root_set, 0));
	assert_int_equal(cgroup_set_count(root_set), 1);

	assert_int_equal(cgroup_set_open("/proc", &set), -EXDEV);
	cgroup_set_close(root_set);
	cgroup_set_close(child_set);
	cgroup_set_close(set);
}

static char mount_directory[64];

/* In a mount namespace of its own: no cgroup2, then one at a path that mountinfo escapes. */
static int mounted_elsewhere(void)
{
	char *path;

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return 1;
	while (!cgroups_mount_point(&path)) {
		if (umount2(path, MNT_DETACH) < 0)
			return 2;
		free(path);
	}
	if (cgroups_mount_point(&path) != -ENODEV || cgroups_path("/", &path) != -ENODEV)
		return 3;
	if (mount("cgroup2", mount_directory, "cgroup2", 0, NULL) < 0)
		return 4;
	if (cgroups_path("/", &path) || strcmp(path, mount_directory))
		return 5;
	free(path);
	if (umount("/proc") < 0 && umount2("/proc", MNT_DETACH) < 0)
		return 6;
	return cgroups_mount_point(&path) == -ENOENT ? 0 : 7;
}

static void cgroup_mount_points(void **state)
{
	(void)state;
	snprintf(mount_directory, sizeof(mount_directory), "/tmp/" CGROUP_PREFIX "%d a\\b\tc",
		 getpid());
	assert_int_equal(mkdir(mount_directory, 0700), 0);
	assert_int_equal(in_child(mounted_elsewhere), 0);
	assert_int_equal(rmdir(mount_directory), 0);
}

/* ---- processes ------------------------------------------------------------------------------ */

static void process_of_sockets(void **state)
{
	int held = stream_socket(HERE4), mine = stream_socket(HERE6), ready[2], stop[2], status;
	struct process_info found[6];
	__u32 inodes[6];
	pid_t child;
	char byte;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(stop), 0);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		close(stop[1]);
		close(mine);
		prctl(PR_SET_NAME, "cgt-sockets (x) yz");
		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		_exit(read(stop[0], &byte, 1) == 0 ? 0 : 2);
	}
	inodes[0] = 0;
	inodes[1] = inode_of(held);
	inodes[2] = inode_of(mine);
	inodes[3] = inode_of(held);
	inodes[4] = 0xfffffffe;
	inodes[5] = inode_of(mine);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	/* Of two holders the lower number, which the parent's usually is. */
	memset(found, 0xff, sizeof(found));
	assert_int_equal(processes_of_sockets(inodes, 6, found), 4);
	assert_int_equal(found[1].process_id, child < getpid() ? child : getpid());
	close(held);
	memset(found, 0xff, sizeof(found));
	assert_int_equal(processes_of_sockets(inodes, 6, found), 4);
	assert_int_equal(found[0].process_id, 0);
	assert_string_equal(found[0].command, "");
	assert_int_equal(found[1].process_id, child);
	assert_string_equal(found[1].command, "cgt-sockets (x)");
	assert_memory_equal(&found[3], &found[1], sizeof(found[1]));
	assert_int_equal(found[2].process_id, getpid());
	assert_memory_equal(&found[5], &found[2], sizeof(found[2]));
	assert_int_equal(found[4].process_id, 0);
	assert_int_equal(processes_of_sockets(NULL, 0, NULL), 0);
	assert_int_equal(processes_of_sockets(inodes, 1, found), 0);

	close(stop[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close(stop[0]);
	close(ready[0]);
	close(ready[1]);
	close(mine);
}

/* ---- host ----------------------------------------------------------------------------------- */

static void own_addresses(void **state)
{
	/* Those of before, then those of the test. */
	static const char *const own[] = { "127.0.0.1", "127.9.9.9", "::1",	HERE4,		 THERE4,	HERE6,
					   THERE6,	"10.98.0.1", "10.99.0.0", "10.99.255.255", "fd98:7::1234" };
	const size_t before = 8;
	static const char *const others[] = { "10.98.0.2", "10.97.1.255", "10.100.0.1", "fd98:8::1", "8.8.8.8" };
	struct local_table *table;
	struct peer_address key;

	(void)state;
	assert_int_equal(local_table_open(&table), 0);
	/* The same address on two interfaces is one address; of a table that only a rule leads to nothing counts. */
	run("ip address add 10.98.0.1/32 dev lo");
	run("ip route add local 10.99.0.0/16 dev lo");
	run("ip route add local fd98:7::/64 dev lo");
	run("ip route add local 8.0.0.0/8 dev lo table 100");
	for (int round = 0; round < 2; round++) {
		cleanup_prefixes struct prefix_set set = {};

		assert_int_equal(local_table_read(table, &set), 0);
		for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
			key = key_of(own[i]);
			if (!prefixes_cover(&set, &key))
				fail_msg("%s is this host", own[i]);
		}
		for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
			key = key_of(others[i]);
			if (prefixes_cover(&set, &key))
				fail_msg("%s is not this host", others[i]);
		}
	}
	run("ip route del local 8.0.0.0/8 dev lo table 100");
	run("ip route del local fd98:7::/64 dev lo");
	run("ip route del local 10.99.0.0/16 dev lo");
	run("ip address del 10.98.0.1/32 dev lo");
	cleanup_prefixes struct prefix_set after = {};

	assert_int_equal(local_table_read(table, &after), 0);
	for (size_t i = before; i < sizeof(own) / sizeof(own[0]); i++) {
		key = key_of(own[i]);
		assert_false(prefixes_cover(&after, &key));
	}
	local_table_close(table);
}

static void *elsewhere(void *argument)
{
	char path[64];
	__u64 *ret_cookie = argument;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", first_netns);
	assert_int_equal(host_enter_netns(path), 0);
	assert_int_equal(host_netns_cookie(ret_cookie), 0);
	/* Opened in the test's namespace, and still about it. */
	assert_int_equal(count_of(SOCKET_STATES_LISTEN), 1);
	return NULL;
}

static void network_namespaces(void **state)
{
	__u64 cookie, of_socket = 0, there = 0, again;
	socklen_t length = sizeof(of_socket);
	int fd, listening = listener("0.0.0.0", PORT);
	struct stat status, own_status;
	pthread_t thread;

	(void)state;
	if (getsockopt(listening, SOL_SOCKET, SO_NETNS_COOKIE, &of_socket, &length) < 0 &&
	    errno == ENOPROTOOPT) {
		assert_int_equal(host_netns_cookie(&cookie), -ENOPROTOOPT);
		close(listening);
		print_message("this kernel has no SO_NETNS_COOKIE\n");
		skip();
	}
	assert_int_equal(host_netns_cookie(&cookie), 0);
	assert_int_not_equal(cookie, 0);
	assert_int_equal(cookie, of_socket);

	/* A thread goes elsewhere; the others stay. */
	assert_int_equal(pthread_create(&thread, NULL, elsewhere, &there), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_not_equal(there, 0);
	assert_int_not_equal(there, cookie);
	assert_int_equal(host_netns_cookie(&again), 0);
	assert_int_equal(again, cookie);

	assert_int_equal(host_open_netns(NULL, &fd), 0);
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(stat("/proc/thread-self/ns/net", &own_status), 0);
	assert_int_equal(status.st_ino, own_status.st_ino);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
	fd = -7;
	assert_int_equal(host_open_netns("/proc/self/ns/mnt", &fd), -EINVAL);
	assert_int_equal(host_open_netns("/proc/self/status", &fd), -EINVAL);
	assert_int_equal(host_open_netns("/run/netns/cgt-sockets-missing", &fd), -ENOENT);
	assert_int_equal(fd, -7);
	assert_int_equal(host_enter_netns("/proc/self/ns/mnt"), -EINVAL);
	close(listening);
}

static void syn_timeout(void **state)
{
	bool linear = access("/proc/sys/net/ipv4/tcp_syn_linear_timeouts", F_OK) == 0;
	__u64 timeout;

	(void)state;
	if (linear)
		run("echo 4 >/proc/sys/net/ipv4/tcp_syn_linear_timeouts");
	run("echo 6 >/proc/sys/net/ipv4/tcp_syn_retries");
	assert_int_equal(host_syn_timeout(&timeout), 0);
	assert_int_equal(timeout, (linear ? 131 : 127) * 1000000000ULL);
	/* The steps stop growing at 120 s: 127 + 120 + 120. */
	run("echo 8 >/proc/sys/net/ipv4/tcp_syn_retries");
	assert_int_equal(host_syn_timeout(&timeout), 0);
	assert_int_equal(timeout, ((linear ? 4 : 0) + 367) * 1000000000ULL);
	/* The kernel keeps to it: one retransmission after 1 s, given up 2 s later. */
	if (linear)
		run("echo 0 >/proc/sys/net/ipv4/tcp_syn_linear_timeouts");
	run("echo 1 >/proc/sys/net/ipv4/tcp_syn_retries");
	assert_int_equal(host_syn_timeout(&timeout), 0);
	assert_int_equal(timeout, 3000000000ULL);
	{
		int fd = stream_socket(SILENT4);
		long start = milliseconds(), took;

		assert_int_equal(dial(fd, SILENT4, PORT), ETIMEDOUT);
		took = milliseconds() - start;
		assert_true(took >= 2900 && took < 3000 + PATIENCE_MS);
		close(fd);
	}
}

#define TEST(name) cmocka_unit_test_teardown(name, after_each)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(lists_ipv4),
		TEST(lists_ipv6),
		TEST(lists_ipv4_on_a_dual_stack_listener),
		TEST(lists_mapped_dial),
		TEST(lists_listeners),
		TEST(listening_port_is_of_now),
		TEST(lists_dials),
		TEST(lists_by_state),
		TEST(lists_by_port),
		TEST(lists_unaccepted),
		TEST(leaves_request_sockets_out),
		TEST(lists_full_syn_recv),
		TEST(lists_many),
		TEST(passes_over_others_in_steps),
		TEST(destroys_established),
		TEST(destroys_dials),
		TEST(destroys_blocking_dial),
		TEST(destroys_no_other),
		TEST(destroys_no_stand_in),
		TEST(destroys_only_with_the_right),
		TEST(guarded_sockets),
		TEST(guarded_real_sockets),
		TEST(cgroup_paths),
		TEST(cgroup_sets),
		TEST(cgroup_mount_points),
		TEST(process_of_sockets),
		TEST(own_addresses),
		TEST(network_namespaces),
		TEST(syn_timeout),
	};

	if (geteuid() != 0) {
		puts("1..0 # SKIP a network namespace and cgroups of its own need root");
		return 0;
	}
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
