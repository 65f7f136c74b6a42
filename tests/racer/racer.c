// SPDX-License-Identifier: BSD-2-Clause
/*
 * racer.c: the program: options, signals, the event loop and the last line. The behaviour is in
 * node.c; this file must not know it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "node.h"
#include "report.h"

static const char usage[] =
	"usage: racer --name NAME --address ADDR --peers ADDR[,ADDR...] [OPTION...]\n"
	"A small peer-to-peer node that keeps a link with every peer, and races with itself for it.\n"
	"  --name NAME         letters, digits and dashes; a member of every log line\n"
	"  --address ADDR      own IPv4 address: to listen on and to dial from\n"
	"  --peers LIST        IPv4 addresses of the peers\n"
	"  --port N            port listened on and dialed (24000)\n"
	"  --time-scale N      seconds of the node's time in one real second (1)\n"
	"  --round-trip-ms N   node's time from a connection to the dialer seeing it (0)\n"
	"  --log FILE          JSON lines are appended here (standard output)\n"
	"SIGTERM prints a last line, event \"stats\", and ends the program.\n";

struct arguments {
	struct node_options node;
	const char *name;
	const char *log;
};

static bool parse_number(const char *text, double minimum, double maximum, double *ret_value)
{
	char *end;
	double value;

	errno = 0;
	value = strtod(text, &end);
	if (errno || end == text || *end || !(value >= minimum && value <= maximum))
		return false;
	*ret_value = value;
	return true;
}

static bool parse_peers(char *text, struct node_options *options)
{
	char *rest = NULL;

	for (char *word = strtok_r(text, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
		if (options->peer_count >= NODE_PEERS_MAX ||
		    inet_pton(AF_INET, word, &options->peers[options->peer_count]) != 1)
			return false;
		options->peer_count++;
	}
	return options->peer_count > 0;
}

static bool name_is_plain(const char *name)
{
	return *name && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				     "0123456789-") == strlen(name);
}

/* Returns false after it has said what is wrong. */
static bool parse_arguments(int argc, char **argv, struct arguments *arguments)
{
	static const struct option options[] = {
		{"name", required_argument, NULL, 'n'},
		{"address", required_argument, NULL, 'a'},
		{"peers", required_argument, NULL, 'p'},
		{"port", required_argument, NULL, 'P'},
		{"time-scale", required_argument, NULL, 's'},
		{"round-trip-ms", required_argument, NULL, 'r'},
		{"log", required_argument, NULL, 'l'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct node_options *node = &arguments->node;
	bool has_address = false;
	double number;
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		bool valid = true;

		switch (option) {
		case 'n':
			arguments->name = optarg;
			valid = name_is_plain(optarg);
			break;
		case 'a':
			has_address = valid = inet_pton(AF_INET, optarg, &node->address) == 1;
			break;
		case 'p':
			valid = parse_peers(optarg, node);
			break;
		case 'P':
			valid = parse_number(optarg, 1, 65535, &number);
			if (valid)
				node->port = (uint16_t)number;
			break;
		case 's':
			valid = parse_number(optarg, 0.001, 1000, &node->time_scale);
			break;
		case 'r':
			valid = parse_number(optarg, 0, 60000, &node->round_trip_ms);
			break;
		case 'l':
			arguments->log = optarg;
			break;
		case 'h':
			fputs(usage, stdout);
			exit(EXIT_SUCCESS);
		default:
			fputs(usage, stderr);
			return false;
		}
		if (!valid) {
			fprintf(stderr, "racer: wrong value: %s\n", optarg);
			return false;
		}
	}
	if (!arguments->name || !has_address || !node->peer_count || optind != argc) {
		fputs(usage, stderr);
		return false;
	}
	return true;
}

static void stop(evutil_socket_t signal_number, short what, void *base)
{
	(void)signal_number;
	(void)what;
	event_base_loopbreak(base);
}

/* Timers of the default kind are as coarse as epoll's millisecond: 60 ms of scaled time. */
static struct event_base *new_precise_base(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (!config)
		return NULL;
	if (event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER) == 0)
		base = event_base_new_with_config(config);
	event_config_free(config);
	return base;
}

int main(int argc, char **argv)
{
	struct arguments arguments = {
		.node = {.port = 24000, .time_scale = 1},
		.log = "-",
	};
	struct report report = {0};
	struct event *terminate, *interrupt;
	struct event_base *base;
	struct node *node = NULL;
	int error;

	if (!parse_arguments(argc, argv, &arguments))
		return 2;
	error = report_open(&report, arguments.log, arguments.name);
	if (error < 0) {
		fprintf(stderr, "racer: %s: %s\n", arguments.log, strerror(-error));
		return EXIT_FAILURE;
	}
	base = new_precise_base();
	terminate = base ? evsignal_new(base, SIGTERM, stop, base) : NULL;
	interrupt = base ? evsignal_new(base, SIGINT, stop, base) : NULL;
	if (!terminate || !interrupt || evsignal_add(terminate, NULL) ||
	    evsignal_add(interrupt, NULL)) {
		fputs("racer: no event loop\n", stderr);
		return EXIT_FAILURE;
	}
	error = node_start(base, &arguments.node, &report, &node);
	if (error < 0) {
		fprintf(stderr, "racer: cannot start: %s\n", strerror(-error));
	} else {
		event_base_dispatch(base);
		report_stats(&report, node_counts(node));
		node_stop(node);
	}
	event_free(terminate);
	event_free(interrupt);
	event_base_free(base);
	report_close(&report);
	return error < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
