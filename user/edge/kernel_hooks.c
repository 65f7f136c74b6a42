// SPDX-License-Identifier: BSD-2-Clause
/*
 * The guard in the kernel: what the kernel offers, asked by loading, and what is in force at its
 * hooks, asked of the kernel itself. See kernel.h. Changes nothing.
 */
#include "edge/kernel_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "base/cleanup.h"

/* ---- what the kernel offers ---- */

/* 1 when a program of this type with these instructions loads. */
static bool program_loads(enum bpf_prog_type type, enum bpf_attach_type attach_type, __u32 btf_id,
			  const struct bpf_insn *instructions, size_t count)
{
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = attach_type,
		    .attach_btf_id = btf_id);
	int fd = bpf_prog_load(type, "cg_feature", "GPL", instructions, count, &options);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

#define INSTRUCTION(op, dst, src, offset, value) \
	((struct bpf_insn){ .code = (op),        \
			    .dst_reg = (dst),    \
			    .src_reg = (src),    \
			    .off = (offset),     \
			    .imm = (value) })
#define MOVE_VALUE(dst, value) INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, value)
#define CALL(helper)	       INSTRUCTION(BPF_JMP | BPF_CALL, 0, 0, 0, helper)
#define EXIT()		       INSTRUCTION(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

/* 1 when an enumeration of the kernel's has a value of this name. */
static bool has_enumerator(const struct btf *types, const char *name)
{
	for (__u32 id = 1; id < btf__type_cnt(types); id++) {
		const struct btf_type *type = btf__type_by_id(types, id);

		if (!btf_is_enum(type))
			continue;
		for (int i = 0; i < btf_vlen(type); i++)
			if (strcmp(btf__name_by_offset(types, btf_enum(type)[i].name_off), name) == 0)
				return true;
	}
	return false;
}

void guard_probe(bool ret_features[FEATURE_COUNT])
{
	const struct bpf_insn set_retval[] = { MOVE_VALUE(BPF_REG_1, -1), CALL(BPF_FUNC_set_retval),
					       MOVE_VALUE(BPF_REG_0, 1), EXIT() };
	/* The socket as a full one, or out; then an option on it: what the iterators do. */
	const struct bpf_insn iterator[] = {
		INSTRUCTION(BPF_LDX | BPF_MEM | BPF_DW, BPF_REG_1, BPF_REG_1, 8, 0),
		INSTRUCTION(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_1, 0, 13, 0),
		CALL(BPF_FUNC_skc_to_tcp_sock),
		INSTRUCTION(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_0, 0, 11, 0),
		INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_6, BPF_REG_0, 0, 0),
		INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_1, BPF_REG_0, 0, 0),
		CALL(BPF_FUNC_get_socket_cookie),
		INSTRUCTION(BPF_ST | BPF_MEM | BPF_W, BPF_REG_10, 0, -4, 0),
		INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_1, BPF_REG_6, 0, 0),
		MOVE_VALUE(BPF_REG_2, IPPROTO_TCP),
		MOVE_VALUE(BPF_REG_3, TCP_KEEPCNT),
		INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_4, BPF_REG_10, 0, 0),
		INSTRUCTION(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_4, 0, 0, -4),
		MOVE_VALUE(BPF_REG_5, 4),
		CALL(BPF_FUNC_setsockopt),
		MOVE_VALUE(BPF_REG_0, 0),
		EXIT(),
	};
	struct btf *types;
	int iterator_id;

	kernel_hush();
	types = btf__load_vmlinux_btf();
	iterator_id = types ? btf__find_by_name_kind(types, "bpf_iter_tcp", BTF_KIND_FUNC) : 0;
	ret_features[FEATURE_REFUSAL_ERRNO] =
		program_loads(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT, 0,
			      set_retval, sizeof(set_retval) / sizeof(set_retval[0]));
	ret_features[FEATURE_SOCKET_ITERATOR] =
		iterator_id > 0 &&
		program_loads(BPF_PROG_TYPE_TRACING, BPF_TRACE_ITER, iterator_id, iterator,
			      sizeof(iterator) / sizeof(iterator[0]));
	/* Which options bpf_getsockopt() reads shows on a socket only; all of them since 6.1, as the first. */
	ret_features[FEATURE_SOCKET_OPTIONS] = ret_features[FEATURE_SOCKET_ITERATOR] &&
					       ret_features[FEATURE_REFUSAL_ERRNO];
	/* An option of bpf_setsockopt(), see bpf/adopt.bpf.c. */
	ret_features[FEATURE_ADOPT_CALLBACKS] =
		types && has_enumerator(types, "TCP_BPF_SOCK_OPS_CB_FLAGS");
	btf__free(types);
}

/*
 * Whether a program is the guard's: what this process has loaded itself, or one that uses the guard's
 * maps. A process that has given up CAP_SYS_ADMIN knows the former alone, and by then there is no other.
 */
static bool program_is_ours(const struct guard *guard, enum guard_hook hook, __u32 id)
{
	if (guard->programs[hook] >= 0 && kernel_program_id(guard->programs[hook]) == id)
		return true;
	return kernel_program_uses_map(id, kernel_map_id(guard->maps[MAP_PEERS]));
}

/*
 * What is effective at a hook, asked of its cgroup or network namespace: fills in `attached`, the
 * program's id, and `foreign`: somebody may have put another program into our link. -1: not to be
 * asked.
 */
static void ask_hook(const struct guard *guard, int target_fd, enum guard_hook hook,
		     struct hook_state *state)
{
	__u32 ids[64], count = 64, flags = 0;
	/* A namespace has no hierarchy: what is attached is what is effective. */
	__u32 query = hook == HOOK_SK_LOOKUP ? 0 : BPF_F_QUERY_EFFECTIVE;

	if (target_fd < 0 ||
	    bpf_prog_query(target_fd, kernel_hooks[hook].type, query, &flags, ids, &count))
		return;
	for (__u32 i = 0; i < count; i++) {
		if (program_is_ours(guard, hook, ids[i])) {
			state->attached = true;
			state->program_id = ids[i];
		} else {
			state->foreign++;
		}
	}
}

/* The calling thread's network namespace, if that is the one with this inode; else -1. */
static int open_own_netns(__u64 inode)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	struct stat own;

	if (fd >= 0 && (fstat(fd, &own) || own.st_ino != inode)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Where a link holds a program of ours; 0: nowhere, or another's. */
static __u64 link_holds(const struct guard *guard, int link_fd, enum guard_hook hook,
			__u32 *ret_program)
{
	__u32 program;
	__u64 target;

	/* A link whose cgroup or namespace is gone, or which was detached by force, has no target. */
	if (link_fd < 0 || kernel_link_target(link_fd, hook, &target, &program) || !target ||
	    !program_is_ours(guard, hook, program))
		return 0;
	*ret_program = program;
	return target;
}

/*
 * The guarded cgroup. -1: it is gone or out of reach, nothing can be said to be attached to it.
 * -ENOENT: the guard has been removed.
 */
static int open_cgroup(const struct guard *guard, int *ret_fd)
{
	cleanup_free char *path = NULL;
	struct guard_layout layout;
	int result = kernel_layout_of(guard, &layout);

	if (result)
		return result;
	if (guard->cgroup_fd >= 0)
		*ret_fd = fcntl(guard->cgroup_fd, F_DUPFD_CLOEXEC, 0);
	else if (kernel_path_of_cgroup(layout.cgroup_id, &path) == 0)
		*ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return 0;
}

int guard_hooks(const struct guard *guard, struct hook_state ret_hooks[HOOK_COUNT])
{
	cleanup_close int cgroup_fd = -1;
	int result = open_cgroup(guard, &cgroup_fd);

	if (result)
		return result;
	for (int i = 0; i < HOOK_COUNT; i++) {
		struct hook_state state = {};
		char path[PIN_PATH_MAX];
		__u64 target;

		kernel_pin_path(path, guard->name, "links", kernel_hooks[i].name);
		cleanup_close int pinned_fd = bpf_obj_get(path);

		target = link_holds(guard, pinned_fd, i, &state.program_id);
		state.pinned = target != 0;
		if (!target)
			target = link_holds(guard, guard->links[i], i, &state.program_id);
		if (i == HOOK_SK_LOOKUP) {
			cleanup_close int netns_fd = open_own_netns(target);

			/* From another namespace only the link can tell. */
			state.attached = target != 0;
			ask_hook(guard, netns_fd, i, &state);
		} else {
			ask_hook(guard, cgroup_fd, i, &state);
		}
		ret_hooks[i] = state;
	}
	return 0;
}

int guard_cgroup_id(const struct guard *guard, __u64 *ret_id)
{
	struct guard_layout layout = {};
	int result = kernel_layout_of(guard, &layout);

	if (!result)
		*ret_id = layout.cgroup_id;
	return result;
}

int guard_cgroup(const struct guard *guard, char **ret_path)
{
	char link[64], path[PATH_MAX];
	ssize_t length;
	char *copy;
	__u64 id;
	int result = guard_cgroup_id(guard, &id);

	if (result)
		return result;
	/* By its id it is found with a capability that a daemon may have let go of. */
	if (guard->cgroup_fd < 0)
		return kernel_path_of_cgroup(id, ret_path);
	if (faccessat(guard->cgroup_fd, "cgroup.procs", F_OK, 0))
		return -ENOENT;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", guard->cgroup_fd);
	length = readlink(link, path, sizeof(path));
	if (length < 0)
		return -errno;
	copy = strndup(path, length);
	if (!copy)
		return -ENOMEM;
	*ret_path = copy;
	return 0;
}
