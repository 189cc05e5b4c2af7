/*
 * hoard DEAD CHILDREN DESCRIPTORS
 *
 * A chain of DEAD processes, each the child of the one before. The last of them forks CHILDREN
 * processes, each of which opens DESCRIPTORS descriptors and keeps them. When all have done so, the
 * processes of the chain exit one after the other, while everything that they have forked lives on.
 * The process itself waits for every child, as the init of a container must.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void hoard(int descriptors, int ready)
{
	int i;

	for (i = 0; i < descriptors; i++)
		if (open("/dev/null", O_RDONLY) < 0)
			_exit(2);
	if (write(ready, "x", 1) != 1)
		_exit(3);
	for (;;)
		pause();
}

static void chain(int dead, int children, int descriptors)
{
	int ready[2], i;
	char byte;

	if (dead > 1) {
		if (fork() == 0)
			chain(dead - 1, children, descriptors);
		/* Each process exits some time after the one below it. */
		usleep(5000000 + 10000 * dead);
		_exit(0);
	}
	if (pipe(ready))
		_exit(4);
	for (i = 0; i < children; i++)
		if (fork() == 0)
			hoard(descriptors, ready[1]);
	for (i = 0; i < children; i++)
		if (read(ready[0], &byte, 1) != 1)
			_exit(5);
	puts("hoarded");
	fflush(stdout);
	usleep(1000000);
	_exit(0);
}

int main(int count, char **arguments)
{
	if (count != 4)
		return 1;
	if (fork() == 0)
		chain(atoi(arguments[1]), atoi(arguments[2]), atoi(arguments[3]));
	for (;;)
		wait(NULL);
}
