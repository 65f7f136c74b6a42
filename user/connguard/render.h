/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The documents of edge/view.h as text for people, on standard output.
 *
 * Reads JSON and nothing else, so that text and JSON never disagree; a member that is missing shows
 * as "-". Knows no maps and no sockets. Spans are shortened to two units; points in time are shown
 * as time of day.
 */
#ifndef CONNGUARD_RENDER_H
#define CONNGUARD_RENDER_H

#include <jansson.h>

void render_status(const json_t *document);
void render_peers(const json_t *document);
void render_explain(const json_t *document);
void render_events(const json_t *document);
void render_due(const json_t *document);

/*
 * One line: an item of the streams. How an event is told depends on the document that it belongs to: with its
 * service, if the guard has several.
 */
void (*render_event_of(const json_t *document))(const json_t *event);
void (*render_due_peer_of(const json_t *document))(const json_t *peer);

#endif
