/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Speaking to the service manager: the sd_notify(3) protocol over the socket named by
 * NOTIFY_SOCKET.
 *
 * Owns the protocol's words, keeps no state and no socket open. Every notify function returns 1
 * when the message was sent, 0 when there is nobody to tell (NOTIFY_SOCKET unset), or a negative
 * errno (-EPROTONOSUPPORT: a kind of socket that is neither a path nor an abstract name).
 */
#ifndef BASE_NOTIFY_H
#define BASE_NOTIFY_H

#include <linux/types.h>

/* READY=1: started, or the reload is done. */
int notify_ready(void);
/*
 * RELOADING=1 with the time at which it began (MONOTONIC_USEC, CLOCK_MONOTONIC). notify_ready()
 * must follow.
 */
int notify_reloading(void);
/* STOPPING=1 */
int notify_stopping(void);
/* WATCHDOG=1: alive. */
int notify_watchdog(void);
/* STATUS=..., one line for `systemctl status`; cut at 511 bytes and made printable (printable.h), a newline is '?'. */
int notify_status(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * How often the service manager wants to hear notify_watchdog() at the least, in ns
 * (WATCHDOG_USEC); call it at half of that. 0: no watchdog, or WATCHDOG_PID names another process,
 * or a number is malformed.
 */
__u64 notify_watchdog_interval_ns(void);

#endif
