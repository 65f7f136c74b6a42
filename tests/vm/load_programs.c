/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loads every program of a BPF object by itself and says which this kernel takes, as TAP.
 *
 * The daemon tells an operator in one line that the guard does not load; this tells a developer why:
 * after a failure come the last lines of what the verifier said. Knows nothing of the guard beyond
 * the object file.
 *
 * usage: load_programs OBJECT [PROGRAM]...     default: all programs
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

/* The verifier prints every instruction that it walks; only how it ends is wanted. */
#define LOG_BYTES (16 << 20)
#define LOG_LINES_SHOWN 16

static bool wanted(const char *name, int argc, char **argv)
{
	for (int i = 2; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return argc == 2;
}

/* The last lines of the log, as TAP comments. */
static void show_end(char *log)
{
	char *start = log + strlen(log);
	int lines = 0;

	while (start > log && lines <= LOG_LINES_SHOWN)
		if (*--start == '\n')
			lines++;
	for (char *line = strtok(start, "\n"); line; line = strtok(NULL, "\n"))
		printf("# %s\n", line);
}

/* 0, or what loading this one program returned, with the verifier's words in `log`. */
static int load_one(const char *path, const char *name, char *log)
{
	LIBBPF_OPTS(bpf_object_open_opts, options);
	struct bpf_object *object = bpf_object__open_file(path, &options);
	struct bpf_program *program;
	int result;

	log[0] = '\0';
	if (!object)
		return -errno;
	bpf_object__for_each_program(program, object) {
		bool this = !strcmp(bpf_program__name(program), name);

		bpf_program__set_autoload(program, this);
		if (this) {
			bpf_program__set_log_level(program, 1);
			bpf_program__set_log_buf(program, log, LOG_BYTES);
		}
	}
	result = bpf_object__load(object);
	bpf_object__close(object);
	return result;
}

static int say_nothing(enum libbpf_print_level level, const char *format, va_list arguments)
{
	(void)level;
	(void)format;
	(void)arguments;
	return 0;
}

int main(int argc, char **argv)
{
	struct bpf_object *object;
	struct bpf_program *program;
	int number = 0, failed = 0;
	char *log = malloc(LOG_BYTES);

	if (argc < 2 || !log) {
		fputs("usage: load_programs OBJECT [PROGRAM]...\n", stderr);
		return 2;
	}
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	libbpf_set_print(say_nothing);
	object = bpf_object__open_file(argv[1], NULL);
	if (!object) {
		fprintf(stderr, "load_programs: opening %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	bpf_object__for_each_program(program, object) {
		const char *name = bpf_program__name(program);
		int result;

		if (!wanted(name, argc, argv))
			continue;
		result = load_one(argv[1], name, log);
		printf("%s %d - %s\n", result ? "not ok" : "ok", ++number, name);
		if (result) {
			failed++;
			printf("# %s\n", strerror(-result));
			show_end(log);
		}
		/* How much the verifier had to walk is in the last line of its log. */
		else if (strstr(log, "processed "))
			printf("# %s", strstr(log, "processed "));
	}
	printf("1..%d\n", number);
	bpf_object__close(object);
	return failed ? 1 : 0;
}
