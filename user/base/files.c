/* SPDX-License-Identifier: BSD-2-Clause */
/* See files.h. */
#include "base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

int file_open_regular(const char *path, FILE **ret_stream)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat status;
	FILE *stream;

	if (fd < 0 || fstat(fd, &status))
		return -errno;
	if (!S_ISREG(status.st_mode))
		return S_ISDIR(status.st_mode) ? -EISDIR : -ENOTSUP;
	stream = fdopen(fd, "r");
	if (!stream)
		return -errno;
	take_descriptor(&fd);
	*ret_stream = stream;
	return 0;
}

const char *file_text_begin(const char *text, size_t length)
{
	static const char mark[] = { '\xef', '\xbb', '\xbf' };

	return length >= sizeof(mark) && !memcmp(text, mark, sizeof(mark)) ? text + sizeof(mark) : text;
}
