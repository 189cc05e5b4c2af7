/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refuse [bpf|connector]... -- COMMAND [ARGUMENT]...: runs COMMAND under a seccomp filter that
 * makes bpf(2) fail with EPERM, or socket(2) for the proc connector's protocol, or both.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip)
#define ANSWER(what) BPF_STMT(BPF_RET | BPF_K, what)
#define REFUSE ANSWER(SECCOMP_RET_ERRNO | EPERM)

static int install(struct sock_filter *filter, unsigned short length)
{
	struct sock_fprog program = { .len = length, .filter = filter };

	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int argc, char **argv)
{
	struct sock_filter bpf[] = { LOAD(nr), UNLESS(SYS_bpf, 1), REFUSE, ANSWER(SECCOMP_RET_ALLOW) };
	struct sock_filter connector[] = {
		LOAD(nr), UNLESS(SYS_socket, 5), LOAD(args[0]), UNLESS(AF_NETLINK, 3), LOAD(args[2]),
		UNLESS(NETLINK_CONNECTOR, 1), REFUSE, ANSWER(SECCOMP_RET_ALLOW)
	};
	int at;

	for (at = 1; at < argc && strcmp(argv[at], "--"); at++) {
		int failed = 1;

		if (!strcmp(argv[at], "bpf"))
			failed = install(bpf, sizeof(bpf) / sizeof(*bpf));
		else if (!strcmp(argv[at], "connector"))
			failed = install(connector, sizeof(connector) / sizeof(*connector));
		if (failed) {
			perror(argv[at]);
			return 125;
		}
	}
	if (at + 1 >= argc)
		return 125;
	execvp(argv[at + 1], argv + at + 1);
	perror(argv[at + 1]);
	return 127;
}
