/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tells when a network is back: carrier, an address or a route that was not there before; and when something else than
 * before may be this host.
 *
 * Owns the route netlink socket. Says that something has happened, not what; what is renewed is no news. Knows nothing
 * of guards, logs nothing. Functions return 0 or a negative errno.
 */
#ifndef EDGE_NETWORK_WATCH_H
#define EDGE_NETWORK_WATCH_H

struct network_watch;

/* What has happened: bits. */
enum network_news {
	NETWORK_BACK = 1, /* something is back */
	NETWORK_SELF = 2, /* an address or prefix has become this host, or is it no longer */
};

/*
 * Watch the calling thread's network namespace, whichever it is in later. *ret_watch is the caller's
 * (network_watch_close), *ret_fd polls readable when there may be news.
 */
int network_watch_open(struct network_watch **ret_watch, int *ret_fd);

/* NULL is allowed. */
void network_watch_close(struct network_watch *watch);

/*
 * Read what has come, or some of it: the descriptor polls readable for as long as there is more. Returns enum
 * network_news, all of them when so much has happened that the kernel could not tell it.
 */
unsigned int network_watch_drain(struct network_watch *watch);

#endif
