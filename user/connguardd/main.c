// SPDX-License-Identifier: BSD-2-Clause
/*
 * connguardd: command line, signals, the loop. See daemon.h for the parts.
 *
 * SIGTERM and SIGINT take the guard out of the kernel; SIGQUIT leaves it there (restart, upgrade),
 * as kill -9 and a crash do. SIGHUP reads the configuration again. Exit status: 0 asked to stop, 1
 * failed, 2 usage or configuration.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/printable.h"
#include "connguardd/daemon.h"
#include "edge/cgroups.h"
#include "edge/furnish.h"

enum exit_status {
	EXIT_FINE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
};

/*
 * Ten a second on average: room for the start of a service with hundreds of peers. A line has 120 bytes or
 * so, which makes 100 MB a day at the very worst.
 */
#define LOG_LINES_A_MINUTE 600

static bool leave_guard;

static const char usage[] =
	"usage: connguardd [-c FILE] [-p PORT]... [OPTION]... [NAME]\n"
	"\n"
	"Guard one service: one peer, one link. NAME is the guard's name (default: default).\n"
	"\n"
	"  -c, --config FILE    configuration; default " CONFIG_DIRECTORY "/NAME.conf if it exists\n"
	"  -p, --port PORT      port to guard; with it no file is needed\n"
	"      --cgroup PATH    cgroup below the cgroup2 mount; default: the whole host\n"
	"      --netns PATH     network namespace; default: the current one\n"
	"      --mode MODE      enforce, observe or off\n"
	"      --peers FILE     known peers, one a line\n"
	"      --check-config   read the configuration, say what is wrong with it, and exit\n"
	"  -h, --help           this text\n"
	"  -V, --version        the version\n"
	"\n"
	"SIGHUP reads the configuration again, SIGTERM removes the guard, SIGQUIT leaves it in the kernel.\n"
	"See connguardd(8) and connguard.conf(5).\n";

/* Before there is a log. */
static void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void complain(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print_complaint("connguardd", format, arguments);
	va_end(arguments);
}

static void on_end(evutil_socket_t signal_number, short what, void *argument)
{
	struct daemon *daemon = argument;

	(void)what;
	leave_guard = signal_number == SIGQUIT;
	event_base_loopbreak(daemon->base);
}

static void on_reload(evutil_socket_t signal_number, short what, void *argument)
{
	char error[1024] = "";

	(void)signal_number;
	(void)what;
	notify_reloading();
	if (daemon_reload(argument, error, sizeof(error)))
		log_error("not reloaded, the last good configuration stays in force: %s", error);
	notify_ready();
}

/* Run until told to end. */
static int run(struct daemon *daemon)
{
	static const int end_signals[] = { SIGTERM, SIGINT, SIGQUIT };
	struct event *signals[4] = {};
	int status = EXIT_FAILED;

	daemon->base = event_base_new();
	if (!daemon->base) {
		log_error("no event loop: %s", strerror(ENOMEM));
		return EXIT_FAILED;
	}
	/* Before the guard is loaded: a signal in between must not leave it half way. */
	for (size_t i = 0; i < 3; i++)
		signals[i] = evsignal_new(daemon->base, end_signals[i], on_end, daemon);
	signals[3] = evsignal_new(daemon->base, SIGHUP, on_reload, daemon);
	for (size_t i = 0; i < 4; i++)
		if (signals[i])
			evsignal_add(signals[i], NULL);
	if (daemon_start(daemon) == 0) {
		notify_ready();
		places_tell(daemon);
		event_base_dispatch(daemon->base);
		notify_stopping();
		daemon_stop(daemon, !leave_guard);
		status = EXIT_FINE;
	}
	for (size_t i = 0; i < 4; i++)
		if (signals[i])
			event_free(signals[i]);
	event_base_free(daemon->base);
	libevent_global_shutdown();
	return status;
}

/* A cgroup that comes with its service is no mistake, and a mistake in its path looks the same. */
static void warn_of_cgroup(const struct config *config)
{
	cleanup_free char *cgroup = NULL;
	char setting[CONFIG_SETTING_TEXT_MAX];
	size_t there;

	if (cgroups_place(config->cgroup, &cgroup) != -ENOENT || !cgroup)
		return;
	there = cgroups_there(cgroup);
	complain("warning: %s: not there now, connguardd would wait for it: %.*s is there, '%s' is not in it",
		config_setting_text(config, config_find_option("guard", "cgroup"), setting), (int)there,
		cgroup, cgroup + there + strspn(cgroup + there, "/"));
}

/* The rest of --check-config. */
static int check_rest(const struct config *config)
{
	cleanup_free struct known_peer *known = NULL;
	struct config_error error = {};
	size_t count;
	int result = furnish_read_known(config, &known, &count, &error);

	if (result) {
		complain("%s", *error.text ? error.text : strerror(-result));
		return EXIT_USAGE;
	}
	warn_of_cgroup(config);
	return EXIT_FINE;
}

int main(int argc, char **argv)
{
	enum { OPTION_CGROUP = 256, OPTION_NETNS, OPTION_MODE, OPTION_PEERS, OPTION_CHECK };
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "port", required_argument, NULL, 'p' },
		{ "cgroup", required_argument, NULL, OPTION_CGROUP },
		{ "netns", required_argument, NULL, OPTION_NETNS },
		{ "mode", required_argument, NULL, OPTION_MODE },
		{ "peers", required_argument, NULL, OPTION_PEERS },
		{ "check-config", no_argument, NULL, OPTION_CHECK },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{},
	};
	struct daemon daemon = { .name = "default",
				 .surroundings = SURROUNDINGS_NONE,
				 .instance = INSTANCE_NONE,
				 .deadline_fd = -1 };
	struct config_sources sources = {};
	struct config_error error = {};
	bool check_only = false;
	int option, result;

	while ((option = getopt_long(argc, argv, "c:p:hV", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			sources.file = optarg;
			break;
		case 'p':
			if (sources.port_count == CONFIG_PORTS_MAX) {
				complain("more than %d ports", CONFIG_PORTS_MAX);
				return EXIT_USAGE;
			}
			sources.ports[sources.port_count++] = optarg;
			break;
		case OPTION_CGROUP:
			sources.cgroup = optarg;
			break;
		case OPTION_NETNS:
			sources.netns = optarg;
			break;
		case OPTION_MODE:
			sources.mode = optarg;
			break;
		case OPTION_PEERS:
			sources.peers = optarg;
			break;
		case OPTION_CHECK:
			check_only = true;
			break;
		case 'h':
			fputs(usage, stdout);
			return EXIT_FINE;
		case 'V':
			puts("connguardd " CONNGUARD_VERSION);
			return EXIT_FINE;
		default:
			fputs("Try 'connguardd --help'.\n", stderr);
			return EXIT_USAGE;
		}
	}
	if (argc - optind > 1) {
		complain("one NAME, not %d (first extra: %s)", argc - optind,
			argv[optind + 1]);
		return EXIT_USAGE;
	}
	if (optind < argc)
		daemon.name = argv[optind];
	if (!guard_name_valid(daemon.name)) {
		complain("'%s' cannot name a guard: expected letters, digits, '-', '_', at most %d",
			daemon.name, GUARD_NAME_MAX);
		return EXIT_USAGE;
	}
	sources.name = daemon.name;
	daemon.sources = &sources;
	result = config_gather(&sources, &daemon.config, &error);
	if (result) {
		complain("%s", *error.text ? error.text : strerror(-result));
		return EXIT_USAGE;
	}
	if (check_only)
		return check_rest(&daemon.config);
	log_set_level(daemon.config.log_level);
	log_set_limit(LOG_LINES_A_MINUTE);
	/* A client that hangs up must not end the daemon. */
	signal(SIGPIPE, SIG_IGN);
	return run(&daemon);
}
