// SPDX-License-Identifier: BSD-2-Clause
/*
 * Runs a program on a disk that is busy when somebody says so.
 *
 * usage: slow_disk FILE PROGRAM [ARGUMENT]...
 *
 * Becomes the program. Its fsync(2), whatever the file, ends no sooner than there is no FILE: a process beside it,
 * which ends with it, is asked by the kernel before each (SECCOMP_RET_USER_NOTIF, Linux 5.5). Exit status 77 where the
 * kernel does not do that.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define POLL_US 2000
#define EXIT_SKIP 77

/* A descriptor on which the kernel asks, closed by execve(2); negative: it does not. */
static int ask_before_fsync(void)
{
	struct sock_filter instructions[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fsync, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {
		.len = sizeof(instructions) / sizeof(*instructions),
		.filter = instructions,
	};

	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

static void answer(int listener, const char *file, pid_t program)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* It may have ended before that. */
	if (getppid() != program)
		_exit(0);
	for (;;) {
		struct seccomp_notif question;
		struct seccomp_notif_resp go_on = { .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };

		memset(&question, 0, sizeof(question));
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &question)) {
			/* Who asked is gone. */
			if (errno == EINTR || errno == ENOENT)
				continue;
			_exit(1);
		}
		while (access(file, F_OK) == 0)
			usleep(POLL_US);
		go_on.id = question.id;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &go_on);
	}
}

int main(int argc, char **argv)
{
	const pid_t program = getpid();
	int listener;

	if (argc < 3) {
		fprintf(stderr, "usage: slow_disk FILE PROGRAM [ARGUMENT]...\n");
		return 2;
	}
	listener = ask_before_fsync();
	if (listener < 0) {
		fprintf(stderr, "slow_disk: the kernel does not ask: %s\n", strerror(errno));
		return EXIT_SKIP;
	}
	switch (fork()) {
	case -1:
		perror("slow_disk: fork");
		return 1;
	case 0:
		answer(listener, argv[1], program);
	}
	execvp(argv[2], argv + 2);
	perror(argv[2]);
	return 1;
}
