// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: any bytes as what a daemon answers to the CLI.
 *
 * The daemon may be of another version, or not ours at all. The client takes an answer or says why not, and
 * whatever document it is, it can be shown: lines of printable text for a terminal.
 */
#include "input.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/printable.h"
#include "connguard/client.h"
#include "connguard/render.h"

#define STREAM_OBJECTS_MAX 16

/* An item of a stream, and the document that says how it is told. */
static void render_event(const json_t *document)
{
	render_event_of(document)(document);
}

static void render_due_peer(const json_t *document)
{
	render_due_peer_of(document)(document);
}

/* Show the document in every way that there is, and look at what came out. */
static void check_shown(const json_t *document)
{
	static void (*const ways[])(const json_t *document) = {
		render_status, render_peers, render_explain, render_events,
		render_due,    render_event, render_due_peer,
	};
	FILE *terminal = stdout;
	cleanup_free char *text = NULL;
	char *line, *rest;
	size_t size = 0;

	stdout = open_memstream(&text, &size);
	must(stdout);
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		ways[i](document);
	must(!fclose(stdout));
	stdout = terminal;
	must(strlen(text) == size);
	for (rest = text; (line = strsep(&rest, "\n"));)
		must(text_is_printable(line));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_free char *refusal = NULL;
	struct client *client = NULL;
	json_t *result = NULL, *object;
	int ends[2], code;

	signal(SIGPIPE, SIG_IGN);
	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
	must(!client_of_connection(ends[0], &client));
	must(send(ends[1], data, size, MSG_DONTWAIT) == (ssize_t)size);
	/* It says no more: nobody waits. */
	shutdown(ends[1], SHUT_WR);
	code = client_ask(client, json_pack("{s:s}", "request", "status"), &result, &refusal);
	must(code <= 0 && code != -ETIMEDOUT);
	must(!code == !!result);
	must((code == -EREMOTEIO) == !!refusal);
	for (const char *byte = refusal; byte && *byte; byte++)
		must((unsigned char)*byte >= ' ' && *byte != 0x7f);
	if (result)
		check_shown(result);
	json_decref(result);
	for (int i = 0; !code && i < STREAM_OBJECTS_MAX && !client_next(client, &object); i++) {
		check_shown(object);
		json_decref(object);
	}
	client_close(client);
	close(ends[1]);
	return 0;
}
