// SPDX-License-Identifier: BSD-2-Clause
/*
 * Another program at the connect hooks: refuses every TCP and UDP connect() of a cgroup.
 *
 * usage: foreign CGROUP-DIRECTORY
 *
 * Attaches its programs, prints "ready", and works until its standard input ends; its links go with
 * it. Two instructions by hand, so that it needs neither clang nor a library.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static int bpf(enum bpf_cmd command, union bpf_attr *attributes)
{
	return (int)syscall(SYS_bpf, command, attributes, sizeof(*attributes));
}

/* A program that returns 0, which at a connect hook means EPERM. */
static int load_refusal(enum bpf_attach_type hook)
{
	static const struct bpf_insn instructions[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR;
	attributes.expected_attach_type = hook;
	attributes.insns = (uintptr_t)instructions;
	attributes.insn_cnt = sizeof(instructions) / sizeof(*instructions);
	attributes.license = (uintptr_t) "BSD-2-Clause";
	strcpy(attributes.prog_name, "foreign");
	return bpf(BPF_PROG_LOAD, &attributes);
}

static int attach(int program, int cgroup, enum bpf_attach_type hook)
{
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.link_create.prog_fd = (uint32_t)program;
	attributes.link_create.target_fd = (uint32_t)cgroup;
	attributes.link_create.attach_type = hook;
	return bpf(BPF_LINK_CREATE, &attributes);
}

int main(int argc, char **argv)
{
	static const enum bpf_attach_type hooks[] = {
		BPF_CGROUP_INET4_CONNECT,
		BPF_CGROUP_INET6_CONNECT,
	};
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	char byte;
	size_t i;
	int cgroup;

	if (argc != 2) {
		fprintf(stderr, "usage: foreign CGROUP-DIRECTORY\n");
		return 2;
	}
	cgroup = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cgroup < 0) {
		perror(argv[1]);
		return 1;
	}
	/* Before 5.11 programs are charged to RLIMIT_MEMLOCK. */
	setrlimit(RLIMIT_MEMLOCK, &unlimited);
	for (i = 0; i < sizeof(hooks) / sizeof(*hooks); i++) {
		int program = load_refusal(hooks[i]);

		if (program < 0 || attach(program, cgroup, hooks[i]) < 0) {
			perror("foreign: attaching");
			return 1;
		}
	}
	printf("ready\n");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}
