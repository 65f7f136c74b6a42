// SPDX-License-Identifier: BSD-2-Clause
/*
 * Programs of somebody else at the hooks of a cgroup.
 *
 * usage: foreign CGROUP-DIRECTORY refuse             every TCP and UDP connect() fails with EPERM
 *        foreign CGROUP-DIRECTORY rewrite FROM TO    connect() to the IPv4 address FROM goes to TO
 *        foreign CGROUP-DIRECTORY deaf               no established connection has socket callbacks
 *        foreign CGROUP-DIRECTORY round-trips        is told of the round trips of what dials or listens from
 *                                                    now on, and of what that accepts; prints of how many
 *                                                    for each line of its input
 *        foreign CGROUP-DIRECTORY alone              connect4 and ingress, for itself alone (no flags)
 *        foreign CGROUP-DIRECTORY yielding           the same with BPF_F_ALLOW_OVERRIDE
 *
 * Attaches its programs, prints "ready", and works until its standard input ends; they go with it. A
 * few instructions by hand, so that it needs neither clang nor a library. Exit status 1 and a text
 * when the kernel refuses.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define INSTRUCTION(operation, destination, source, offset, value) \
	{ .code = (operation), .dst_reg = (destination), .src_reg = (source), .off = (offset), \
	  .imm = (value) }
#define MOVE_VALUE(to, value) INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value)
#define MOVE(to, from) INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0)
#define LOAD(to, from, offset) INSTRUCTION(BPF_LDX | BPF_MEM | BPF_W, to, from, offset, 0)
#define STORE(to, offset, from) INSTRUCTION(BPF_STX | BPF_MEM | BPF_W, to, from, offset, 0)
#define JUMP_IF(left, value, offset) \
	INSTRUCTION(BPF_JMP32 | BPF_JEQ | BPF_K, left, 0, offset, value)
#define JUMP_UNLESS(left, value, offset) \
	INSTRUCTION(BPF_JMP32 | BPF_JNE | BPF_K, left, 0, offset, value)
#define CALL(helper) INSTRUCTION(BPF_JMP | BPF_CALL, 0, 0, 0, helper)
#define EXIT() INSTRUCTION(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

#define IP4 offsetof(struct bpf_sock_addr, user_ip4)
#define OPERATION offsetof(struct bpf_sock_ops, op)
#define CALLBACK_FLAGS offsetof(struct bpf_sock_ops, bpf_sock_ops_cb_flags)
#define HELPER_CALLBACK_FLAGS_SET 59

#define PROGRAMS_MAX 2

/* A program that is attached without a link, to be detached at the end. */
static struct {
	int program;
	enum bpf_attach_type hook;
} attached[PROGRAMS_MAX];
static unsigned int attached_count;
static int cgroup;
/* A map of one number, of callbacks that have come; -1: nobody counts. */
static int counted = -1;

static int bpf(enum bpf_cmd command, union bpf_attr *attributes)
{
	return (int)syscall(SYS_bpf, command, attributes, sizeof(*attributes));
}

static int load(enum bpf_prog_type type, enum bpf_attach_type hook,
		const struct bpf_insn *instructions, size_t count)
{
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.prog_type = type;
	attributes.expected_attach_type = hook;
	attributes.insns = (uintptr_t)instructions;
	attributes.insn_cnt = count;
	attributes.license = (uintptr_t) "BSD-2-Clause";
	strcpy(attributes.prog_name, "foreign");
	return bpf(BPF_PROG_LOAD, &attributes);
}

/* Beside others, by a link that goes with this process. */
static bool link_beside(enum bpf_prog_type type, enum bpf_attach_type hook,
			const struct bpf_insn *instructions, size_t count)
{
	union bpf_attr attributes;
	int program = load(type, hook, instructions, count);

	if (program < 0)
		return false;
	memset(&attributes, 0, sizeof(attributes));
	attributes.link_create.prog_fd = (uint32_t)program;
	attributes.link_create.target_fd = (uint32_t)cgroup;
	attributes.link_create.attach_type = hook;
	return bpf(BPF_LINK_CREATE, &attributes) >= 0;
}

/* A program that lets everything pass, with these flags. */
static bool attach_passing(enum bpf_prog_type type, enum bpf_attach_type hook, uint32_t flags)
{
	static const struct bpf_insn pass[] = { MOVE_VALUE(BPF_REG_0, 1), EXIT() };
	union bpf_attr attributes;
	int program = load(type, hook, pass, sizeof(pass) / sizeof(*pass));

	if (program < 0)
		return false;
	memset(&attributes, 0, sizeof(attributes));
	attributes.attach_bpf_fd = (uint32_t)program;
	attributes.target_fd = (uint32_t)cgroup;
	attributes.attach_type = hook;
	attributes.attach_flags = flags;
	if (bpf(BPF_PROG_ATTACH, &attributes))
		return false;
	attached[attached_count].program = program;
	attached[attached_count++].hook = hook;
	return true;
}

static void detach_all(void)
{
	for (unsigned int i = 0; i < attached_count; i++) {
		union bpf_attr attributes;

		memset(&attributes, 0, sizeof(attributes));
		attributes.attach_bpf_fd = (uint32_t)attached[i].program;
		attributes.target_fd = (uint32_t)cgroup;
		attributes.attach_type = attached[i].hook;
		bpf(BPF_PROG_DETACH, &attributes);
	}
}

static bool refuse(void)
{
	/* 0 at a connect hook means EPERM. */
	static const struct bpf_insn refusal[] = { MOVE_VALUE(BPF_REG_0, 0), EXIT() };

	return link_beside(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT, refusal,
			   sizeof(refusal) / sizeof(*refusal)) &&
	       link_beside(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_CONNECT, refusal,
			   sizeof(refusal) / sizeof(*refusal));
}

static bool rewrite(const char *from_text, const char *to_text)
{
	struct in_addr from, to;

	if (inet_pton(AF_INET, from_text, &from) != 1 || inet_pton(AF_INET, to_text, &to) != 1) {
		errno = EINVAL;
		return false;
	}
	const struct bpf_insn translation[] = {
		LOAD(BPF_REG_2, BPF_REG_1, IP4),
		JUMP_UNLESS(BPF_REG_2, (int32_t)from.s_addr, 2),
		INSTRUCTION(BPF_ALU | BPF_MOV | BPF_K, BPF_REG_3, 0, 0, (int32_t)to.s_addr),
		STORE(BPF_REG_1, IP4, BPF_REG_3),
		MOVE_VALUE(BPF_REG_0, 1),
		EXIT(),
	};

	return link_beside(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT, translation,
			   sizeof(translation) / sizeof(*translation));
}

static bool deaf(void)
{
	static const struct bpf_insn deafening[] = {
		MOVE(BPF_REG_6, BPF_REG_1),
		LOAD(BPF_REG_2, BPF_REG_1, OPERATION),
		JUMP_IF(BPF_REG_2, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, 1),
		JUMP_UNLESS(BPF_REG_2, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, 3),
		MOVE(BPF_REG_1, BPF_REG_6),
		MOVE_VALUE(BPF_REG_2, 0),
		CALL(HELPER_CALLBACK_FLAGS_SET),
		MOVE_VALUE(BPF_REG_0, 1),
		EXIT(),
	};

	return link_beside(BPF_PROG_TYPE_SOCK_OPS, BPF_CGROUP_SOCK_OPS, deafening,
			   sizeof(deafening) / sizeof(*deafening));
}

static bool make_counter(void)
{
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.map_type = BPF_MAP_TYPE_ARRAY;
	attributes.key_size = sizeof(uint32_t);
	attributes.value_size = sizeof(uint64_t);
	attributes.max_entries = 1;
	counted = bpf(BPF_MAP_CREATE, &attributes);
	return counted >= 0;
}

static bool print_count(void)
{
	union bpf_attr attributes;
	const uint32_t key = 0;
	uint64_t count = 0;

	memset(&attributes, 0, sizeof(attributes));
	attributes.map_fd = (uint32_t)counted;
	attributes.key = (uintptr_t)&key;
	attributes.value = (uintptr_t)&count;
	if (bpf(BPF_MAP_LOOKUP_ELEM, &attributes))
		return false;
	printf("%llu\n", (unsigned long long)count);
	fflush(stdout);
	return true;
}

/* Beside what others want to be told. What is accepted has the flags of its listener. */
static bool round_trips(void)
{
	if (!make_counter())
		return false;
	const struct bpf_insn counting[] = {
		MOVE(BPF_REG_6, BPF_REG_1),
		LOAD(BPF_REG_2, BPF_REG_1, OPERATION),
		JUMP_IF(BPF_REG_2, BPF_SOCK_OPS_RTT_CB, 8),
		JUMP_IF(BPF_REG_2, BPF_SOCK_OPS_TCP_LISTEN_CB, 1),
		JUMP_UNLESS(BPF_REG_2, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, 10),
		LOAD(BPF_REG_2, BPF_REG_6, CALLBACK_FLAGS),
		INSTRUCTION(BPF_ALU64 | BPF_OR | BPF_K, BPF_REG_2, 0, 0, BPF_SOCK_OPS_RTT_CB_FLAG),
		MOVE(BPF_REG_1, BPF_REG_6),
		CALL(HELPER_CALLBACK_FLAGS_SET),
		MOVE_VALUE(BPF_REG_0, 1),
		EXIT(),
		/* The address of the number: one instruction in two. */
		INSTRUCTION(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_VALUE, 0, counted),
		INSTRUCTION(0, 0, 0, 0, 0),
		MOVE_VALUE(BPF_REG_2, 1),
		INSTRUCTION(BPF_STX | BPF_XADD | BPF_DW, BPF_REG_1, BPF_REG_2, 0, 0),
		MOVE_VALUE(BPF_REG_0, 1),
		EXIT(),
	};

	return link_beside(BPF_PROG_TYPE_SOCK_OPS, BPF_CGROUP_SOCK_OPS, counting,
			   sizeof(counting) / sizeof(*counting));
}

static bool attach_with(uint32_t flags)
{
	return attach_passing(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT, flags) &&
	       attach_passing(BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_INGRESS, flags);
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "";
	bool done;
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	char byte;

	cgroup = argc > 1 ? open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (argc > 1 && cgroup < 0) {
		perror(argv[1]);
		return 1;
	}
	/* Before 5.11 programs are charged to RLIMIT_MEMLOCK. */
	setrlimit(RLIMIT_MEMLOCK, &unlimited);
	if (argc == 3 && !strcmp(what, "refuse")) {
		done = refuse();
	} else if (argc == 5 && !strcmp(what, "rewrite")) {
		done = rewrite(argv[3], argv[4]);
	} else if (argc == 3 && !strcmp(what, "deaf")) {
		done = deaf();
	} else if (argc == 3 && !strcmp(what, "round-trips")) {
		done = round_trips();
	} else if (argc == 3 && !strcmp(what, "alone")) {
		done = attach_with(0);
	} else if (argc == 3 && !strcmp(what, "yielding")) {
		done = attach_with(BPF_F_ALLOW_OVERRIDE);
	} else {
		fprintf(stderr, "usage: foreign CGROUP-DIRECTORY refuse | rewrite FROM TO | deaf | "
				"round-trips | alone | yielding\n");
		return 2;
	}
	if (!done) {
		fprintf(stderr, "foreign: attaching: %s\n", strerror(errno));
		detach_all();
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		if (counted >= 0 && byte == '\n' && !print_count())
			break;
	detach_all();
	return 0;
}
