/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where the state file of a guard is, and how it is read and written: whole, or not at all.
 *
 * Owns the directory and the files in it: NAME.state, NAME.state.new while it is written, NAME.state.damaged. Knows
 * nothing of what is decided, logs nothing.
 */
#ifndef EDGE_STATE_STORE_H
#define EDGE_STATE_STORE_H

#include "pure/config.h"
#include "pure/state_file.h"

/* Where the files are, unless the service manager says otherwise. */
#define STATE_DIRECTORY "/var/lib/connguard"
/* How it says so, in the environment: systemd.exec(5), StateDirectory=. Of several directories the first. */
#define STATE_DIRECTORY_VARIABLE "STATE_DIRECTORY"
/* Room for the path of a file in it, NUL included. */
#define STATE_PATH_MAX (CONFIG_PATH_MAX + 64)

/* The directory. Writes to ret_path and returns it. */
const char *state_store_directory(char ret_path[CONFIG_PATH_MAX]);

/* The file of the guard `name`. Writes to ret_path and returns it. */
const char *state_store_path(const char *name, char ret_path[STATE_PATH_MAX]);

/*
 * Read the file; without one, nothing was decided. *ret_state is the caller's (state_free()), touched on success only.
 * Errors as state_file_parse(), or the errno of opening it (-ENOTSUP: no regular file), in words in *ret_error too.
 */
int state_store_read(const char *name, struct state *ret_state, struct config_error *ret_error);

/* Make the directory and those above, if they are not there. A negative errno, in words in *ret_error too. */
int state_store_prepare(struct config_error *ret_error);

/* Whether a file can be made in the directory: made, and removed. Errors as state_store_prepare(). */
int state_store_try(const char *name, struct config_error *ret_error);

/*
 * Put the list in the place of the file, in one step that a crash does not halve; an empty one removes it. It is on the
 * disk then. Makes the directory, if it is not there. Errors as state_store_prepare(): the file is as it was.
 */
int state_store_write(const char *name, const struct state *state, struct config_error *ret_error);

/* Give a file that is not understood another name, NAME.state.damaged. That there is none is no error. */
int state_store_set_aside(const char *name, struct config_error *ret_error);

#endif
