// SPDX-License-Identifier: BSD-2-Clause
/* See state_store.h. */
#include "edge/state_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/files.h"

/* What is said of a failure: `path`: what could not be done, and why. Returns -error. */
static int fail(struct config_error *ret_error, const char *path, const char *what, int error)
{
	snprintf(ret_error->text, sizeof(ret_error->text), "%s: %s: %s", path, what, strerror(error));
	return -error;
}

const char *state_store_directory(char ret_path[CONFIG_PATH_MAX])
{
	const char *given = getenv(STATE_DIRECTORY_VARIABLE);
	size_t length = given ? strcspn(given, ":") : 0;

	if (!length || length >= CONFIG_PATH_MAX) {
		given = STATE_DIRECTORY;
		length = strlen(given);
	}
	snprintf(ret_path, CONFIG_PATH_MAX, "%.*s", (int)length, given);
	return ret_path;
}

/* The file of the guard, with what its name ends in. */
static void path_of(const char *name, const char *ending, char ret_path[STATE_PATH_MAX])
{
	char directory[CONFIG_PATH_MAX];

	snprintf(ret_path, STATE_PATH_MAX, "%s/%.32s.state%s", state_store_directory(directory), name, ending);
}

const char *state_store_path(const char *name, char ret_path[STATE_PATH_MAX])
{
	path_of(name, "", ret_path);
	return ret_path;
}

int state_store_read(const char *name, struct state *ret_state, struct config_error *ret_error)
{
	cleanup_fclose FILE *stream = NULL;
	char path[STATE_PATH_MAX];
	int result;

	ret_error->text[0] = '\0';
	result = file_open_regular(state_store_path(name, path), &stream);
	if (!result)
		return state_file_parse(stream, path, ret_state, ret_error);
	/* A directory that is a file holds none either; it is missed when something is to be kept. */
	if (result == -ENOENT || result == -ENOTDIR) {
		*ret_state = (struct state){};
		return 0;
	}
	snprintf(ret_error->text, sizeof(ret_error->text), "%s: cannot be opened: %s", path,
		 result == -ENOTSUP ? "expected a regular file" : strerror(-result));
	return result;
}

int state_store_prepare(struct config_error *ret_error)
{
	char directory[CONFIG_PATH_MAX];

	state_store_directory(directory);
	for (char *end = strchr(directory + 1, '/'); end; end = strchr(end + 1, '/')) {
		*end = '\0';
		/* What is wrong with those above shows below. */
		mkdir(directory, 0755);
		*end = '/';
	}
	if (!mkdir(directory, 0700) || errno == EEXIST)
		return 0;
	return fail(ret_error, directory, "the directory cannot be made", errno);
}

/* A new, empty file, in the place of what a crash has left. */
static int make_file(const char *path, int *ret_fd, struct config_error *ret_error)
{
	int fd;

	if (unlink(path) && errno != ENOENT)
		return fail(ret_error, path, "cannot be removed", errno);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(ret_error, path, "cannot be made", errno);
	*ret_fd = fd;
	return 0;
}

int state_store_try(const char *name, struct config_error *ret_error)
{
	cleanup_close int fd = -1;
	char path[STATE_PATH_MAX];
	int result;

	path_of(name, ".new", path);
	result = make_file(path, &fd, ret_error);
	if (!result && unlink(path))
		return fail(ret_error, path, "cannot be removed", errno);
	return result;
}

static int write_file(const char *path, const char *name, const struct state *state,
		      struct config_error *ret_error)
{
	cleanup_fclose FILE *stream = NULL;
	cleanup_close int fd = -1;
	int result = make_file(path, &fd, ret_error);

	if (result)
		return result;
	stream = fdopen(fd, "w");
	if (!stream)
		return fail(ret_error, path, "cannot be written", errno);
	take_descriptor(&fd);
	state_file_print(stream, name, state);
	if (fflush(stream) || ferror(stream) || fsync(fileno(stream)))
		return fail(ret_error, path, "cannot be written", errno ? errno : EIO);
	return 0;
}

/* The new name is on the disk, too. */
static int sync_directory(struct config_error *ret_error)
{
	char directory[CONFIG_PATH_MAX];
	cleanup_close int fd = open(state_store_directory(directory), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	/* There are file systems of which a directory cannot be synchronized (EINVAL). */
	if (fd < 0 || (fsync(fd) && errno != EINVAL))
		return fail(ret_error, directory, "the directory cannot be written", errno);
	return 0;
}

int state_store_write(const char *name, const struct state *state, struct config_error *ret_error)
{
	char path[STATE_PATH_MAX], new_path[STATE_PATH_MAX];
	int result;

	state_store_path(name, path);
	path_of(name, ".new", new_path);
	result = state_store_prepare(ret_error);
	if (result)
		return result;
	if (!state->count) {
		if (!unlink(path))
			return sync_directory(ret_error);
		return errno == ENOENT ? 0 : fail(ret_error, path, "cannot be removed", errno);
	}
	result = write_file(new_path, name, state, ret_error);
	if (!result && rename(new_path, path))
		result = fail(ret_error, path, "cannot be replaced", errno);
	if (!result)
		return sync_directory(ret_error);
	unlink(new_path);
	return result;
}

int state_store_set_aside(const char *name, struct config_error *ret_error)
{
	char path[STATE_PATH_MAX], aside[STATE_PATH_MAX];

	path_of(name, ".damaged", aside);
	if (!rename(state_store_path(name, path), aside) || errno == ENOENT)
		return 0;
	return fail(ret_error, path, "cannot be renamed", errno);
}
