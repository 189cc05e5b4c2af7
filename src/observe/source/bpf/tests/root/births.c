/*
 * A process that makes others in ways that a shell cannot. The first argument chooses the way.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* A child of this process's parent. It exits with 7 after its own child has exited with 8. */
static void sibling(void)
{
	if (syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) == 0) {
		pid_t below = fork();

		if (below == 0)
			_exit(8);
		waitpid(below, 0, 0);
		_exit(7);
	}
}

/* The same, and the sibling runs another program. */
static void sibling_exec(char **command)
{
	if (syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) == 0) {
		execv(command[0], command);
		_exit(99);
	}
}

/* A child of a thread that is not the leader; the child exits with 6. */
static int stack[16384];

static int child(void *unused)
{
	_exit(6);
}

static int thread(void *unused)
{
	pid_t pid = fork();

	if (pid == 0)
		child(0);
	waitpid(pid, 0, 0);
	return 0;
}

static void threaded(void)
{
	int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;

	clone(thread, (char *)stack + sizeof(stack), flags, 0);
	usleep(200000);
}

int main(int count, char **args)
{
	if (count < 2)
		return 98;
	if (!strcmp(args[1], "sibling"))
		sibling();
	else if (!strcmp(args[1], "sibling-exec"))
		sibling_exec(args + 2);
	else if (!strcmp(args[1], "threaded"))
		threaded();
	return 0;
}
