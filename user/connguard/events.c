/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `connguard events` and `connguard due`: what happened, and who may be dialed; with --follow, as
 * it comes.
 *
 * A followed stream is one line an item, in text and (--json) as JSON objects.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "connguard/cli.h"
#include "connguard/reach.h"
#include "connguard/render.h"

/* Ample for a full ring. More of them, and more events may come as fast as they are read. */
#define READINGS_MAX 256

/* One item of a stream, at once: whoever reads the pipe wants it now. */
static void show_item(const struct cli *cli, const json_t *item, void (*text)(const json_t *item))
{
	if (cli->json) {
		json_dumpf(item, stdout, JSON_COMPACT);
		putchar('\n');
	} else {
		text(item);
	}
	fflush(stdout);
}

/*
 * The items so far, then (from the daemon) each new one. Ends with the daemon or with standard
 * output.
 */
static int follow(const struct cli *cli, const json_t *items, struct client *client,
		  void (*text)(const json_t *item))
{
	json_t *item;
	size_t i;
	int error;

	json_array_foreach(items, i, item)
		show_item(cli, item, text);
	while (!ferror(stdout)) {
		error = client_next(client, &item);
		if (error) {
			complain("the stream ended: %s",
				 error == -ECONNRESET ? "the daemon hung up" : strerror(-error));
			return CLI_FAILED;
		}
		show_item(cli, item, text);
		json_decref(item);
	}
	return CLI_FAILED;
}

static json_t *stream_request(const struct cli *cli, const char *name)
{
	return json_pack("{s:s, s:b}", "request", name, "follow", (int)cli->follow);
}

/* ---- events without a daemon: nobody else reads the ring then ---- */

/* Where the events go that are taken out of the ring. */
struct taken {
	const struct cli *cli;
	json_t *events; /* NULL: shown at once */
	void (*text)(const json_t *event);
};

static void take_event(const struct guard_event *event, const struct held_packet *held, void *argument)
{
	struct taken *taken = argument;
	json_t *document = view_event(event);

	(void)held;
	if (!document)
		return;
	if (taken->events) {
		json_array_append_new(taken->events, document);
		return;
	}
	show_item(taken->cli, document, taken->text);
	json_decref(document);
}

static int events_from_ring(const struct cli *cli)
{
	cleanup_maps struct guard *guard = reach_maps(cli);
	cleanup_document json_t *document = NULL;
	struct view_origin origin = { .name = cli->name, .now = clock_now_ns() };
	__u16 services[GUARD_PORTS_MAX];
	struct pollfd ring = { .events = POLLIN };
	struct taken taken = { .cli = cli };
	int error;

	if (!guard)
		return CLI_FAILED;
	/* Best effort: without them an event says less. */
	if (!guard_services_read(guard, services, GUARD_PORTS_MAX, &origin.service_count))
		origin.services = services;
	document = view_events(&origin);
	if (!document)
		return CLI_FAILED;
	taken.text = render_event_of(document);
	if (!cli->follow)
		taken.events = json_object_get(document, "events");
	error = guard_events_open(guard, take_event, &taken, &ring.fd);
	if (!error)
		error = guard_events_drain(guard);
	for (int readings = 1; error > 0 && readings < READINGS_MAX; readings++)
		error = guard_events_drain(guard);
	if (error >= 0)
		complain("guard '%s': daemon not running, taken from the pinned ring (each event is read once)",
			 cli->name);
	while (error >= 0 && cli->follow && !ferror(stdout)) {
		if (poll(&ring, 1, -1) < 0 && errno != EINTR)
			error = -errno;
		else
			error = guard_events_drain(guard);
	}
	if (error < 0) {
		complain("reading the events: %s", strerror(-error));
		return CLI_FAILED;
	}
	return cli->follow ? CLI_FAILED : reach_show(cli, document, render_events);
}

int command_events(struct cli *cli)
{
	cleanup_document json_t *document = NULL;
	cleanup_client struct client *client = NULL;

	switch (reach_stream(cli, stream_request(cli, "events"), &document, &client)) {
	case REACH_DONE:
		break;
	case REACH_FAILED:
		return CLI_FAILED;
	case REACH_ABSENT:
		return events_from_ring(cli);
	}
	if (cli->follow)
		return follow(cli, json_object_get(document, "events"), client,
			      render_event_of(document));
	return reach_show(cli, document, render_events);
}

int command_due(struct cli *cli)
{
	cleanup_document json_t *document = NULL;
	cleanup_client struct client *client = NULL;

	switch (reach_stream(cli, stream_request(cli, "due"), &document, &client)) {
	case REACH_DONE:
		break;
	case REACH_FAILED:
		return CLI_FAILED;
	case REACH_ABSENT: {
		cleanup_maps struct guard *guard = reach_maps(cli);
		struct view_origin origin = { .name = cli->name, .now = clock_now_ns() };
		int error;

		if (!guard)
			return CLI_FAILED;
		if (cli->follow) {
			complain("guard '%s': it is the daemon that announces, and it is not running",
				 cli->name);
			return CLI_FAILED;
		}
		error = view_due(guard, &origin, &document);
		if (error) {
			complain("reading the pinned maps: %s", strerror(-error));
			return CLI_FAILED;
		}
		reach_say_maps(cli);
	}
	}
	if (cli->follow)
		return follow(cli, json_object_get(document, "due"), client,
			      render_due_peer_of(document));
	return reach_show(cli, document, render_due);
}
