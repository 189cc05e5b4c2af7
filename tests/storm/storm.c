/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts processes as fast as the machine can, inside a container.
 *
 *   storm COUNT [WORKERS [FIRST [LEAF]]]
 *
 * Each of WORKERS processes (1 by default) vforks and execs one leaf after the other until there are COUNT in all. The
 * workers take numbers from one counter: with fixed shares, the slowest worker would decide how long the storm takes.
 * Leaf number N runs `leaf N` and exits with N mod 256. Prints one line: how many leaves ended with that status, and
 * how many nanoseconds the storm took.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Runs leaves until the end is reached. Returns how many ended with the expected status. */
static long work(const char *leaf, long *next, long end)
{
	long good = 0, n;

	while ((n = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < end) {
		char number[24];
		char *argv[] = { "leaf", number, NULL };
		int status;
		pid_t pid;

		snprintf(number, sizeof(number), "%ld", n);
		pid = vfork();
		if (pid == 0) {
			execve(leaf, argv, NULL);
			_exit(127);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			continue;
		good += WIFEXITED(status) && WEXITSTATUS(status) == n % 256;
	}
	return good;
}

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 1000;
	long workers = argc > 2 ? atol(argv[2]) : 1;
	long first = argc > 3 ? atol(argv[3]) : 0;
	const char *leaf = argc > 4 ? argv[4] : "/leaf";
	int results[2];
	long good = 0;
	long long began;
	/* the number of the next leaf, in memory that all workers share */
	long *next = mmap(NULL, sizeof(*next), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (next == MAP_FAILED || pipe(results))
		return 1;
	*next = first;
	began = now();
	for (long w = 1; w < workers; w++) {
		if (fork() == 0) {
			long mine = work(leaf, next, first + count);

			return write(results[1], &mine, sizeof(mine)) != sizeof(mine);
		}
	}
	good = work(leaf, next, first + count);
	for (long w = 1; w < workers; w++) {
		long theirs;

		if (read(results[0], &theirs, sizeof(theirs)) == sizeof(theirs))
			good += theirs;
	}
	printf("%ld %lld\n", good, now() - began);
	return good != count;
}
