/* SPDX-License-Identifier: Apache-2.0 */
/* Thread groups that end in unusual ways. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_barrier_t barrier;

/* Ends this thread alone. */
static void end(int code)
{
	syscall(SYS_exit, code);
}

static void *outlive(void *unused)
{
	char byte;

	/* Until the test closes its end. */
	while (read(0, &byte, 1) > 0)
		;
	end(9);
	return unused;
}

static void *race(void *unused)
{
	pthread_barrier_wait(&barrier);
	end(4);
	return unused;
}

int main(int argc, char **argv)
{
	int round, i;
	pthread_t thread;

	if (argc > 1 && !strcmp(argv[1], "leader")) {
		pthread_create(&thread, NULL, outlive, NULL);
		end(3);
	}
	for (round = 0; round < 300; round++) {
		if (!fork()) {
			pthread_barrier_init(&barrier, NULL, 4);
			for (i = 0; i < 3; i++)
				pthread_create(&thread, NULL, race, NULL);
			race(NULL);
		}
		wait(NULL);
	}
	return 0;
}
