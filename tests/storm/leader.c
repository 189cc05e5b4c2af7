/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leader MILLISECONDS CODE: the first thread ends at once, another lives on for so long and then ends
 * the process with CODE.
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
