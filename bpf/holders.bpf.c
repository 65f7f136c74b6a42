// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * iter/task_file: which processes have the guard's sockets open.
 *
 * Walks all descriptors of all processes inside the kernel and writes a struct socket_holder for each
 * that is a socket with a claim or a link. So the daemon needs no power over other processes (reading
 * their /proc/PID/fd takes CAP_SYS_PTRACE, and is denied to a process that Landlock confines).
 */
#include "maps.bpf.h"

#include <bpf/bpf_core_read.h>

#include <connguard/holder.h>

struct task_struct {
	int tgid;
	struct task_struct *group_leader;
	char comm[COMMAND_LENGTH];
} __attribute__((preserve_access_index));

struct socket {
	struct sock *sk;
} __attribute__((preserve_access_index));

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
} __attribute__((preserve_access_index));

struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));

SEC("iter/task_file")
int holders(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct socket_holder holder = {};
	struct file *file = ctx->file;
	struct owned_slot *owned;
	struct socket *socket;
	struct sock *sk;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk)
		return 0;
	owned = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (!owned || owned->kind == SLOT_FREE)
		return 0;
	holder.cookie = bpf_get_socket_cookie(sk);
	holder.process_id = task->tgid;
	BPF_CORE_READ_STR_INTO(&holder.command, task, group_leader, comm);
	bpf_seq_write(ctx->meta->seq, &holder, sizeof(holder));
	return 0;
}
