/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leader MILLISECONDS CODE: the first thread ends at once. Another one ends the process with CODE after
 * MILLISECONDS.
 */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static void *other(void *arguments)
{
	char **argv = arguments;

	usleep(atol(argv[1]) * 1000);
	exit(atoi(argv[2]));
}

int main(int argc, char **argv)
{
	pthread_t thread;

	if (argc != 3 || pthread_create(&thread, NULL, other, argv))
		return 1;
	pthread_exit(NULL);
}
