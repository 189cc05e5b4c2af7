/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Begins processes in every way in which a container can, so that each has a known origin and a known end. What a
 * process does is a list of words; most do one thing, and then what the words after them say:
 *
 *   births nap MILLISECONDS CODE            sleeps, and exits with CODE
 *   births exec PROGRAM [ARGUMENT]...       executes a program
 *   births child CODE THEN                  forks a child that does THEN; exits with CODE after the child
 *   births sibling THEN                     clones a child of its own parent (CLONE_PARENT) that does THEN; exits with 0
 *                                           after it and after all that it forks
 *   births siblings COUNT MILLISECONDS THEN the same COUNT times, with a pause between two clones
 *   births lives COUNT THEN                 COUNT children, one after the other, that all get the same pid and do THEN;
 *                                           the last word of THEN is one more from life to life
 *   births daemon THEN                      forks a child that does THEN in a session of its own, without any open file
 *                                           of the caller; exits with 0 at once
 *   births await PATH THEN                  waits until PATH exists, and does THEN
 *   births input THEN                       reads its input to the end, as a hook must, and does THEN
 *   births thread THEN                      a thread that is not the leader does THEN
 *   births title TEXT THEN                  overwrites its arguments with TEXT, as a server does that shows its state
 *   births memfd [ARGUMENT]...              executes a copy of itself in memory, which has no path
 *   births deleted PATH [ARGUMENT]...       executes a copy of itself at PATH that it has deleted
 *
 * A copy with another name, such as `runc`, takes the words of the environment variable BIRTHS, and ignores its
 * arguments.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS_MAX 64

/* struct clone_args of linux/sched.h, as far as it is used here */
struct births_clone_args {
	unsigned long long flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
	unsigned long long set_tid, set_tid_size, cgroup;
};

static int act(char **words);

static void die(const char *what)
{
	perror(what);
	exit(99);
}

static char *need(char **words, int n)
{
	for (int i = 0; i <= n; i++)
		if (!words[i]) {
			fprintf(stderr, "births: a word is missing\n");
			exit(98);
		}
	return words[n];
}

/* Waits for a child, again if a signal interrupts. Returns its wait status. */
static int reap(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, __WALL) < 0)
		if (errno != EINTR)
			die("waitpid");
	return status;
}

static int child(int code, char **then)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0)
		_exit(act(then));
	reap(pid);
	return code;
}

/* The caller is not the parent, so it cannot wait(2): it waits until nobody holds a pipe that the siblings inherit. */
static int siblings(int count, int milliseconds, char **then)
{
	int alive[2];
	char byte;

	if (pipe(alive))
		die("pipe");
	while (count--) {
		long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);

		if (pid < 0)
			die("clone");
		if (pid == 0) {
			close(alive[0]);
			_exit(act(then));
		}
		usleep(milliseconds * 1000);
	}
	close(alive[1]);
	while (read(alive[0], &byte, 1) < 0 && errno == EINTR)
		;
	return 0;
}

/*
 * The first life chooses the pid. It is not given to anyone else soon, because the kernel continues behind the last pid
 * that it gave.
 */
static int lives(int count, char **then)
{
	char **last = then, number[16];
	pid_t wanted = 0;
	int first;

	while (last[1])
		last++;
	first = atoi(*last);
	for (int n = 0; n < count; n++) {
		struct births_clone_args args = {
			.exit_signal = SIGCHLD,
			.set_tid = wanted ? (unsigned long)&wanted : 0,
			.set_tid_size = wanted ? 1 : 0,
		};
		long pid;

		snprintf(number, sizeof(number), "%d", first + n);
		*last = number;
		pid = syscall(SYS_clone3, &args, sizeof(args));
		if (pid < 0)
			die("clone3");
		if (pid == 0)
			_exit(act(then));
		wanted = pid;
		reap(pid);
	}
	return 0;
}

static int daemonize(char **then)
{
	pid_t pid = fork();
	int null;

	if (pid < 0)
		die("fork");
	if (pid > 0)
		return 0;
	setsid();
	null = open("/dev/null", O_RDWR);
	if (null < 0)
		die("/dev/null");
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	close_range(3, ~0U, 0);
	return act(then);
}

static void *on_thread(void *then)
{
	exit(act(then));
}

static int thread(char **then)
{
	pthread_t other;

	if (pthread_create(&other, NULL, on_thread, then))
		die("pthread_create");
	for (;;)
		pause();
	return 0;
}

/* Overwrites all arguments, which lie one behind the other. The words that follow are copied before. */
static int title(char **all, char **then)
{
	char *words[WORDS_MAX + 1] = {}, *begin = all[0], *text, *end;
	int n;

	for (n = 0; n < WORDS_MAX && then[n]; n++)
		words[n] = strdup(then[n]);
	text = strdup(then[-1]);
	for (n = 0; all[n + 1]; n++)
		;
	end = all[n] + strlen(all[n]);
	memset(begin, 0, end - begin);
	strncpy(begin, text, end - begin);
	return act(words);
}

/* Copies the own program to a descriptor and executes that. */
static int execute_copy(int to, char **arguments)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char path[64];
	struct stat size;

	if (from < 0 || fstat(from, &size) || sendfile(to, from, NULL, size.st_size) != size.st_size)
		die("the copy");
	/* A file that is open for writing is not executable (ETXTBSY), and a deleted one has no other path. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", to);
	from = open(path, O_RDONLY | O_CLOEXEC);
	close(to);
	if (from < 0)
		die("open");
	fexecve(from, arguments, environ);
	die("fexecve");
	return 0;
}

static char **all;

static int act(char **words)
{
	const char *verb = need(words, 0);
	int to;

	if (!strcmp(verb, "nap")) {
		usleep(atoi(need(words, 1)) * 1000);
		return atoi(need(words, 2));
	}
	if (!strcmp(verb, "exec")) {
		need(words, 1);
		execv(words[1], words + 1);
		die(words[1]);
	}
	if (!strcmp(verb, "child"))
		return child(atoi(need(words, 1)), words + 2);
	if (!strcmp(verb, "sibling"))
		return siblings(1, 0, words + 1);
	if (!strcmp(verb, "siblings"))
		return siblings(atoi(need(words, 1)), atoi(need(words, 2)), words + 3);
	if (!strcmp(verb, "lives"))
		return lives(atoi(need(words, 1)), words + 2);
	if (!strcmp(verb, "daemon"))
		return daemonize(words + 1);
	if (!strcmp(verb, "await")) {
		while (access(need(words, 1), F_OK))
			usleep(1000);
		return act(words + 2);
	}
	if (!strcmp(verb, "input")) {
		char bytes[4096];

		while (read(0, bytes, sizeof(bytes)) > 0)
			;
		return act(words + 1);
	}
	if (!strcmp(verb, "thread"))
		return thread(words + 1);
	if (!strcmp(verb, "title")) {
		need(words, 1);
		return title(all, words + 2);
	}
	if (!strcmp(verb, "memfd")) {
		to = memfd_create("births", 0);
		if (to < 0)
			die("memfd_create");
		return execute_copy(to, words);
	}
	if (!strcmp(verb, "deleted")) {
		to = open(need(words, 1), O_RDWR | O_CREAT | O_EXCL, 0755);
		if (to < 0 || unlink(words[1]))
			die(words[1]);
		return execute_copy(to, words + 1);
	}
	fprintf(stderr, "births: no such word: %s\n", verb);
	return 97;
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/'), *script = getenv("BIRTHS");
	char *words[WORDS_MAX + 1] = {};
	int count = 0;

	(void)argc;
	all = argv;
	/* An executed copy gets its own words: `memfd` and `deleted PATH` are the name of the program then. */
	if (!script || !strcmp(name ? name + 1 : argv[0], "births"))
		return act(argv + 1);
	for (char *word = strtok(strdup(script), " "); word && count < WORDS_MAX; word = strtok(NULL, " "))
		words[count++] = word;
	return act(words);
}
