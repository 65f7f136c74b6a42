/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * node.h: one peer-to-peer node that connects as the origin's masternodes did, mistakes included.
 *
 * Owns peers, their marks, the reconnection tasks, the links and the periodic check. It must not
 * know of command lines, nor of any guard that may stand between it and the network.
 */
#ifndef RACER_NODE_H
#define RACER_NODE_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

#include "report.h"

struct event_base;
struct node;

/** Most peers of one node. */
#define NODE_PEERS_MAX 64

/** What a node needs to know. All durations inside the node are in the origin's time. */
struct node_options {
	struct in_addr address;			/**< own address, network order */
	uint16_t port;				/**< listen port, and the port dialed; host order */
	struct in_addr peers[NODE_PEERS_MAX];	/**< network order */
	size_t peer_count;
	double time_scale;			/**< origin seconds in one real second, > 0 */
	/**
	 * Origin milliseconds between a connection coming up and the task that dialed it seeing so.
	 * Stands for the distance between hosts, which a test network on one machine lacks.
	 */
	double round_trip_ms;
};

/**
 * Starts listening and dials every peer.
 * @base, @report and the counts that node_counts() returns live as long as the node.
 * Returns 0 and the node in @ret_node, or a negative errno.
 */
int node_start(struct event_base *base, const struct node_options *options, struct report *report,
	       struct node **ret_node);

/** The counts up to now, links_up included. Borrowed from the node. */
const struct report_counts *node_counts(struct node *node);

/** Closes every socket and frees the node. NULL is allowed. */
void node_stop(struct node *node);

#endif
