// SPDX-License-Identifier: BSD-2-Clause
/*
 * The applications of two hosts in one process: what compare.sh runs with nothing, with nftables rules and with
 * connguard in between. It knows of none of them; it dials, knocks, and says what came of it.
 *
 * usage: load HERE_NETNS HERE_CGROUP THERE_NETNS THERE_CGROUP costs|behaviours|reasons|crossing COUNT
 *
 * "Here" is the host under test, "there" its peers: an address each, so that no experiment sees the state that another
 * one left. One thread plays both ends, because veth hands a packet over within the sender's system call: what is
 * measured is the work, not the scheduler.
 *
 * Prints lines of words:
 *     costs        NAME NANOSECONDS REFUSED        of one operation; how many of COUNT (a multiple of 50) were refused
 *     behaviours   NAME yes|no HOW
 *     reasons      PID LINKED_PEER DIALING_PEER    two dials of PID were refused, the peers being in these states
 *     crossing     links NUMBER                    left of two dials that crossed
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORT 24000
#define HERE "192.0.2.1"
#define THERE "192.0.2.2"
/* Every address of 198.18.0.0/15 (RFC 2544) is there, too. As many in turn as keep one from coming again at once. */
#define PEERS_IN_TURN 1000
/* On a wire without delay an answer that takes this long does not come. */
#define PATIENCE_MS 400
/* A machine that crashed boots for no shorter a time, and its peer-to-peer program dials for no shorter a time. */
#define BOOT_MS 6000
#define PATIENCE_AFTER_BOOT_MS 5000
/* What TCP is given to notice that its peer is gone, see crash_given_up(). */
#define USER_TIMEOUT_MS 1000
/* Longer than a retransmitted SYN (1 s) and every hold. */
#define CROSSING_MS 5000
/* COUNT is a multiple of it. */
#define BATCHES 50
/*
 * By then whoever works in the background has done so: a daemon that destroys what is too much, connection tracking
 * that looks once in a tick of the timer at what has ended.
 */
#define SETTLE_MS 300

struct host {
	int netns;
	int cgroup_procs;
};

static struct host here, there;

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...)
{
	int error = errno;
	va_list arguments;

	fputs("load: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, ": %s\n", strerror(error));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void wait_ms(long milliseconds)
{
	const struct timespec span = { milliseconds / 1000, milliseconds % 1000 * 1000000 };

	nanosleep(&span, NULL);
}

/* ---- hosts ---- */

static struct host host_open(const char *netns, const char *cgroup)
{
	struct host host;
	char path[512];

	host.netns = open(netns, O_RDONLY | O_CLOEXEC);
	if (host.netns < 0)
		fail("%s", netns);
	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	host.cgroup_procs = open(path, O_WRONLY | O_CLOEXEC);
	if (host.cgroup_procs < 0)
		fail("%s", path);
	return host;
}

/* Sockets made from now on belong to this host. */
static void enter(const struct host *host)
{
	static const struct host *entered;

	/* Moving between cgroups takes far longer than what is measured. */
	if (host == entered)
		return;
	entered = host;
	if (setns(host->netns, CLONE_NEWNET))
		fail("entering a network namespace");
	if (write(host->cgroup_procs, "0", 1) != 1)
		fail("entering a cgroup");
}

/* Nothing arrives anywhere until the wire is mended. In front of connection tracking, and without it. */
static void wire_cut(void)
{
	static const char rules[] = "nft 'add table ip wire; add chain ip wire in "
				    "{ type filter hook prerouting priority -500; policy drop; }'";

	enter(&here);
	if (system(rules))
		fail("cutting the wire here");
	enter(&there);
	if (system(rules))
		fail("cutting the wire there");
}

static void wire_mend(void)
{
	enter(&here);
	if (system("nft delete table ip wire"))
		fail("mending the wire here");
	enter(&there);
	if (system("nft delete table ip wire"))
		fail("mending the wire there");
}

/* ---- sockets ---- */

static struct sockaddr_in address_of(const char *text, in_port_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };

	if (inet_pton(AF_INET, text, &address.sin_addr) != 1)
		fail("address %s", text);
	return address;
}

static long patience_ms = PATIENCE_MS;

/* A TCP socket of this host, bound to the address, which gives up on everything after patience_ms. */
static int socket_at(const struct host *host, const char *text, in_port_t port)
{
	const struct timeval patience = { patience_ms / 1000, patience_ms % 1000 * 1000 };
	struct sockaddr_in address = address_of(text, port);
	int fd, on = 1;

	enter(host);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    /* A source port is chosen at connect(), by 4-tuple: there are enough for many dials. */
	    (!port && setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on))) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)))
		fail("a socket at %s", text);
	return fd;
}

static int listen_at(const struct host *host, const char *text)
{
	int fd = socket_at(host, text, PORT);

	if (listen(fd, 128))
		fail("listening at %s", text);
	return fd;
}

/* 0: linked. A positive errno: refused with it, or EINPROGRESS: no answer yet. */
static int try_connect(int fd, const char *to)
{
	struct sockaddr_in address = address_of(to, PORT);

	return connect(fd, (struct sockaddr *)&address, sizeof(address)) ? errno : 0;
}

static int state_of(int fd)
{
	struct tcp_info info;
	socklen_t size = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size))
		fail("TCP_INFO");
	return info.tcpi_state;
}

/* Both ends of a link; -1: no such socket. */
struct pair {
	int dialed, accepted;
};

/* Dial, and accept at the other end. 0 or what try_connect() said; then dialed is open all the same. */
static int dial(const struct host *host, const char *from, int listener, const char *to,
		struct pair *ret_pair)
{
	int result;

	ret_pair->accepted = -1;
	ret_pair->dialed = socket_at(host, from, 0);
	result = try_connect(ret_pair->dialed, to);
	if (!result) {
		ret_pair->accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (ret_pair->accepted < 0)
			fail("accepting a connection to %s", to);
	}
	return result;
}

static void hang_up(const struct pair *pair)
{
	char byte;

	/* The accepting end first; the dialing end has seen it when read() returns. */
	if (pair->accepted >= 0) {
		close(pair->accepted);
		if (read(pair->dialed, &byte, 1) > 0)
			fail("data that nobody sent");
	}
	close(pair->dialed);
}

/* The socket is gone without a word to its peer, as when the machine loses power. */
static void vanish(int fd)
{
	int on = 1;

	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)))
		fail("TCP_REPAIR");
	close(fd);
}

/* ---- costs ---- */

/* One operation of a measurement; `number` counts up. Returns what dial() said. */
struct operation {
	int (*run)(const struct operation *operation, int number);
	bool knock;
	int listener;
	const char *peer;  /* NULL: another one each time */
	struct pair *link; /* for those that need one */
};

static int compare_doubles(const void *left, const void *right)
{
	double difference = *(const double *)left - *(const double *)right;

	return difference < 0 ? -1 : difference > 0;
}

/*
 * Run the operation `count` times, take the time of each batch, and say the median: what else this machine does for a
 * while is not the cost of an operation.
 */
static void measure(const char *name, const struct operation *operation, int count, int pieces)
{
	double batch_ns[BATCHES];
	int refused = 0, batch, i;

	for (batch = 0; batch < BATCHES; batch++) {
		int64_t started = now_ns();

		for (i = 0; i < count / BATCHES; i++)
			refused += operation->run(operation, batch * (count / BATCHES) + i) != 0;
		batch_ns[batch] = (double)(now_ns() - started) / (count / BATCHES);
	}
	qsort(batch_ns, BATCHES, sizeof(*batch_ns), compare_doubles);
	printf("%s %.1f %d\n", name, batch_ns[BATCHES / 2] / pieces, refused);
}

/* connect, accept, close. */
static int connection(const struct operation *operation, int number)
{
	const char *peer = operation->peer;
	char peer_in_turn[16];
	struct pair pair;
	int result;

	if (!peer) {
		number %= PEERS_IN_TURN;
		snprintf(peer_in_turn, sizeof(peer_in_turn), "198.19.%d.%d",
			 4 * operation->knock + number / 250, 1 + number % 250);
		peer = peer_in_turn;
	}
	if (operation->knock)
		result = dial(&there, peer, operation->listener, HERE, &pair);
	else
		result = dial(&here, HERE, operation->listener, peer, &pair);
	hang_up(&pair);
	return result;
}

/* A byte there and a byte back: two packets. */
static int exchange(const struct operation *operation, int number)
{
	const struct pair *link = operation->link;
	char byte = (char)number;

	if (write(link->dialed, &byte, 1) != 1 || read(link->accepted, &byte, 1) != 1 ||
	    write(link->accepted, &byte, 1) != 1 || read(link->dialed, &byte, 1) != 1)
		fail("a byte was lost");
	return 0;
}

static void measure_allowed(const char *name, bool knock, int count)
{
	const struct operation operation = {
		.run = connection,
		.knock = knock,
		.listener = knock ? listen_at(&here, HERE) : listen_at(&there, "0.0.0.0"),
	};

	measure(name, &operation, count, 1);
	close(operation.listener);
}

/* The same while there is a link with the peer. */
static void measure_duplicates(const char *name, bool knock, const char *peer, int count)
{
	const struct operation operation = {
		.run = connection,
		.knock = knock,
		.listener = knock ? listen_at(&here, HERE) : listen_at(&there, peer),
		.peer = peer,
	};
	struct pair first;
	int result;

	if (knock)
		result = dial(&there, peer, operation.listener, HERE, &first);
	else
		result = dial(&here, HERE, operation.listener, peer, &first);
	if (result)
		fail("%s: the first link", name);
	measure(name, &operation, count, 1);
	hang_up(&first);
	close(operation.listener);
}

static void measure_packets(const char *peer, int count)
{
	int listener = listen_at(&there, peer), on = 1;
	struct pair link;
	const struct operation operation = { .run = exchange, .link = &link };

	if (dial(&here, HERE, listener, peer, &link))
		fail("packet: the link");
	if (setsockopt(link.dialed, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) ||
	    setsockopt(link.accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		fail("TCP_NODELAY");
	measure("packet", &operation, count, 2);
	hang_up(&link);
	close(listener);
}

static void costs(int count)
{
	measure_allowed("dial", false, count);
	measure_allowed("knock", true, count);
	measure_duplicates("duplicate_dial", false, "198.18.0.13", count);
	measure_duplicates("duplicate_knock", true, "198.18.0.14", count);
	measure_packets("198.18.0.15", 20 * count);
}

/* ---- behaviours ---- */

static const char *outcome(int result)
{
	return result == 0 ? "linked" : result == EINPROGRESS ? "no_answer" : strerrorname_np(result);
}

static void say_refused(const char *name, int result)
{
	printf("%s %s %s\n", name, result ? "yes" : "no", outcome(result));
}

static void say_linked(const char *name, int result)
{
	printf("%s %s %s\n", name, result ? "no" : "yes", outcome(result));
}

/* One link by `first_knocks`, then a second one by `second_knocks`. */
static void duplicate(const char *name, bool first_knocks, bool second_knocks, const char *peer)
{
	int listener_here = listen_at(&here, HERE), listener_there = listen_at(&there, peer);
	struct pair first, second;
	int result;

	if (first_knocks)
		result = dial(&there, peer, listener_here, HERE, &first);
	else
		result = dial(&here, HERE, listener_there, peer, &first);
	if (result)
		fail("%s: the first link", name);
	if (second_knocks)
		result = dial(&there, peer, listener_here, HERE, &second);
	else
		result = dial(&here, HERE, listener_there, peer, &second);
	say_refused(name, result);
	hang_up(&second);
	hang_up(&first);
	close(listener_here);
	close(listener_there);
}

/* The peer is down, our dial fails; then it is up and would answer the next one. */
static void backoff(const char *peer)
{
	int listener_here = listen_at(&here, HERE), listener_there;
	struct pair pair;

	if (!dial(&here, HERE, -1, peer, &pair))
		fail("a dial to nobody succeeded");
	hang_up(&pair);
	listener_there = listen_at(&there, peer);
	wait_ms(SETTLE_MS);
	say_refused("dial_in_backoff_refused", dial(&here, HERE, listener_there, peer, &pair));
	hang_up(&pair);
	wait_ms(SETTLE_MS);
	say_linked("knock_in_backoff_passes", dial(&there, peer, listener_here, HERE, &pair));
	hang_up(&pair);
	close(listener_here);
	close(listener_there);
}

/* The link is half closed, or closed and in TIME_WAIT; a new dial. */
static void closing(const char *name, bool time_wait, const char *peer)
{
	int listener = listen_at(&there, peer);
	struct pair old, new;

	if (dial(&here, HERE, listener, peer, &old))
		fail("%s: the first link", name);
	if (time_wait) {
		close(old.dialed);
		close(old.accepted);
	} else if (shutdown(old.dialed, SHUT_WR)) {
		fail("%s: shutdown", name);
	}
	wait_ms(SETTLE_MS);
	if (!time_wait && state_of(old.dialed) != TCP_FIN_WAIT2)
		fail("%s: the link is not in FIN_WAIT2", name);
	say_linked(name, dial(&here, HERE, listener, peer, &new));
	hang_up(&new);
	if (!time_wait)
		hang_up(&old);
	close(listener);
}

/* The peer crashed, is back, and knocks; our end of the old link has noticed nothing. */
static void crash_unnoticed(const char *peer)
{
	int listener_here = listen_at(&here, HERE), listener_there = listen_at(&there, peer);
	struct pair old, new;

	if (dial(&here, HERE, listener_there, peer, &old))
		fail("crash: the first link");
	vanish(old.accepted);
	wait_ms(BOOT_MS);
	patience_ms = PATIENCE_AFTER_BOOT_MS;
	say_linked("knock_after_crash_unnoticed", dial(&there, peer, listener_here, HERE, &new));
	patience_ms = PATIENCE_MS;
	hang_up(&new);
	close(old.dialed);
	close(listener_here);
	close(listener_there);
}

/* As above, but our TCP had something to send to the crashed peer and has given the link up. */
static void crash_given_up(const char *peer)
{
	int listener_here = listen_at(&here, HERE), listener_there = listen_at(&there, peer);
	int timeout = USER_TIMEOUT_MS;
	struct pollfd gone = { .events = 0 };
	struct pair old, new;

	if (dial(&here, HERE, listener_there, peer, &old))
		fail("crash: the first link");
	if (setsockopt(old.dialed, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout)))
		fail("TCP_USER_TIMEOUT");
	wire_cut();
	if (write(old.dialed, "x", 1) != 1)
		fail("writing to a crashed peer");
	gone.fd = old.dialed;
	if (poll(&gone, 1, 10 * USER_TIMEOUT_MS) != 1)
		fail("TCP_USER_TIMEOUT does not end the link");
	close(old.dialed);
	vanish(old.accepted);
	wire_mend();
	say_linked("knock_after_crash_given_up", dial(&there, peer, listener_here, HERE, &new));
	hang_up(&new);
	close(listener_here);
	close(listener_there);
}

static void behaviours(void)
{
	duplicate("dial_while_dialed_refused", false, false, "198.18.0.16");
	duplicate("dial_while_knocked_refused", true, false, "198.18.0.17");
	duplicate("knock_while_dialed_refused", false, true, "198.18.0.18");
	duplicate("knock_while_knocked_refused", true, true, "198.18.0.19");
	backoff("198.18.0.20");
	closing("fin_wait_is_no_link", false, "198.18.0.21");
	closing("time_wait_is_no_link", true, "198.18.0.22");
	crash_unnoticed("198.18.0.23");
	crash_given_up("198.18.0.24");
}

/* Two dials that a guard would refuse for different reasons: it is compare.sh that asks for them. */
static void reasons(void)
{
	static const char linked[] = "198.18.0.25", dialing[] = "198.18.0.26";
	int listener = listen_at(&there, linked), fd, again;
	struct pair first, second;

	if (dial(&here, HERE, listener, linked, &first))
		fail("reasons: the first link");
	dial(&here, HERE, listener, linked, &second);
	wire_cut();
	fd = socket_at(&here, HERE, 0);
	if (try_connect(fd, dialing) != EINPROGRESS)
		fail("reasons: a dial over a cut wire did not wait");
	again = socket_at(&here, HERE, 0);
	try_connect(again, dialing);
	wire_mend();
	printf("%d %s %s\n", (int)getpid(), linked, dialing);
	close(again);
	close(fd);
	hang_up(&second);
	hang_up(&first);
	close(listener);
}

/* Both hosts dial before either hears of it. */
static void crossing(void)
{
	int listener_here = listen_at(&here, HERE), listener_there = listen_at(&there, THERE);
	int ours, theirs, left;

	wire_cut();
	ours = socket_at(&here, HERE, 0);
	theirs = socket_at(&there, THERE, 0);
	if (try_connect(ours, THERE) != EINPROGRESS)
		fail("crossing: our dial over a cut wire did not wait");
	if (try_connect(theirs, HERE) != EINPROGRESS)
		fail("crossing: their dial over a cut wire did not wait");
	wire_mend();
	for (left = CROSSING_MS; left > 0; left -= 10) {
		if (state_of(ours) != TCP_SYN_SENT && state_of(theirs) != TCP_SYN_SENT)
			break;
		wait_ms(10);
	}
	wait_ms(SETTLE_MS);
	printf("links %d\n",
	       (state_of(ours) == TCP_ESTABLISHED) + (state_of(theirs) == TCP_ESTABLISHED));
	close(ours);
	close(theirs);
	close(listener_here);
	close(listener_there);
}

int main(int argc, char **argv)
{
	int count;

	if (argc != 7 || (count = atoi(argv[6])) <= 0 || count % BATCHES) {
		fputs("usage: load HERE_NETNS HERE_CGROUP THERE_NETNS THERE_CGROUP "
		      "costs|behaviours|reasons|crossing COUNT\n", stderr);
		return 2;
	}
	here = host_open(argv[1], argv[2]);
	there = host_open(argv[3], argv[4]);
	/* A line each, whatever ends us. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(argv[5], "costs"))
		costs(count);
	else if (!strcmp(argv[5], "behaviours"))
		behaviours();
	else if (!strcmp(argv[5], "reasons"))
		reasons();
	else if (!strcmp(argv[5], "crossing"))
		crossing();
	else
		return 2;
	return 0;
}
