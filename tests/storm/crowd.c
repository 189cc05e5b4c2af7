/*
 * crowd COUNT BYTES
 *
 * COUNT children that stay, each of which executes this program with an argument of its own that is
 * BYTES long. The process itself waits for each that ends, and stays, as the init of a container.
 */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **arguments)
{
	int processes, bytes, number;
	char *text;

	if (count == 2)
		for (;;)
			pause();
	if (count != 3)
		return 1;
	processes = atoi(arguments[1]);
	bytes = atoi(arguments[2]);
	text = malloc(bytes + 16);
	memset(text, 'x', bytes + 15);
	for (number = 0; number < processes; number++) {
		char *argv[] = { "crowd", text, NULL }, *environment[] = { NULL };
		pid_t pid;

		text[sprintf(text, "%05d", number)] = bytes > 5 ? 'x' : 0;
		text[bytes > 5 ? bytes : 5] = 0;
		if (posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environment))
			return 2;
	}
	for (;;)
		if (wait(NULL) < 0)
			pause();
}
