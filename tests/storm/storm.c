/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes processes as fast as the machine goes, inside a container.
 *
 *   storm COUNT [WORKERS [FIRST [LEAF]]]
 *
 * Each of WORKERS processes (1 by default) vforks and execs its share of COUNT leaves, one after the
 * other; leaf number N runs `leaf N` and exits with N mod 256. Prints one line: how many leaves ended
 * as they should, and the nanoseconds it took.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Runs the leaves first, first + step, ... below end; answers how many ended as they should. */
static long work(const char *leaf, long first, long end, long step)
{
	long good = 0;

	for (long n = first; n < end; n += step) {
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

	if (pipe(results))
		return 1;
	began = now();
	for (long w = 1; w < workers; w++) {
		if (fork() == 0) {
			long mine = work(leaf, first + w, first + count, workers);

			return write(results[1], &mine, sizeof(mine)) != sizeof(mine);
		}
	}
	good = work(leaf, first, first + count, workers);
	for (long w = 1; w < workers; w++) {
		long theirs;

		if (read(results[0], &theirs, sizeof(theirs)) == sizeof(theirs))
			good += theirs;
	}
	printf("%ld %lld\n", good, now() - began);
	return good != count;
}
