// SPDX-License-Identifier: BSD-2-Clause
/*
 * Stands in for the fuzzer in the tests: gives a fuzz target the empty input and each file of its corpus, once.
 *
 * usage: fuzz_NAME DIRECTORY
 *
 * Prints one result in TAP. What a target finds ends the process, and the line before names the file.
 */
#include "input.h"

#include <dirent.h>

/* Bytes: far above any file of a corpus. */
#define INPUT_MAX (1 << 20)

static int replay(const char *directory, const char *name)
{
	static uint8_t bytes[INPUT_MAX];
	char path[4096];
	size_t size;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "re");
	if (!file) {
		perror(path);
		return -1;
	}
	size = fread(bytes, 1, sizeof(bytes), file);
	fclose(file);
	printf("# %s\n", path);
	fflush(stdout);
	return LLVMFuzzerTestOneInput(bytes, size);
}

int main(int argc, char **argv)
{
	static const uint8_t nothing[1];
	struct dirent **entries;
	int i, count, replayed = 0, failed = 0;

	if (argc != 2) {
		fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
		return 2;
	}
	printf("1..1\n# an empty input\n");
	fflush(stdout);
	failed += LLVMFuzzerTestOneInput(nothing, 0) != 0;
	count = scandir(argv[1], &entries, NULL, alphasort);
	if (count < 0) {
		perror(argv[1]);
		return 1;
	}
	for (i = 0; i < count; i++) {
		if (entries[i]->d_name[0] != '.') {
			failed += replay(argv[1], entries[i]->d_name) != 0;
			replayed++;
		}
		free(entries[i]);
	}
	free(entries);
	printf("%s 1 - goes through the %d inputs of its corpus\n", replayed && !failed ? "ok" : "not ok", replayed);
	return !replayed || failed;
}
