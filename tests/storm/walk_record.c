/* SPDX-License-Identifier: Apache-2.0 */
/* The records of a walk: births, execs and ends, each in the log before it happens. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "walk.h"

struct process me;
struct log *shared;
int cgroups;
uint32_t newest;
bool is_orphan;

static uint64_t draw(void)
{
	uint64_t z = me.random += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

int below(int end)
{
	return draw() % (uint64_t)end;
}

uint32_t take(uint32_t *count, uint32_t max)
{
	uint32_t taken = __atomic_add_fetch(count, 1, __ATOMIC_SEQ_CST);

	/* The test sees that the log is full, too. */
	if (taken >= max)
		_exit(125);
	return taken;
}

void set(uint32_t *to, uint32_t value)
{
	__atomic_store_n(to, value, __ATOMIC_SEQ_CST);
}

void set_flag(uint32_t slot, uint32_t flag)
{
	__atomic_or_fetch(&shared->birth[slot].flags, flag, __ATOMIC_SEQ_CST);
}

void count(enum step step, bool good)
{
	__atomic_add_fetch(good ? &shared->done[step] : &shared->failed[step], 1, __ATOMIC_RELAXED);
	if (!good)
		return;
	__atomic_add_fetch(&shared->pairs[me.last][step], 1, __ATOMIC_RELAXED);
	me.last = step;
}

/* ── what the kernel calls a process ── */

static ssize_t read_proc(const char *name, char *to, size_t size)
{
	int fd = openat(FD_PROC, name, O_RDONLY | O_CLOEXEC);
	ssize_t length = read(fd, to, size - 1);

	close(fd);
	to[length > 0 ? length : 0] = 0;
	return length;
}

/* Field 22 of a process's stat. */
static uint64_t start_of(const char *process)
{
	char name[64], text[1024];
	char *at;

	snprintf(name, sizeof(name), "%s/stat", process);
	if (read_proc(name, text, sizeof(text)) <= 0 || !(at = strrchr(text, ')')))
		return 0;
	for (int field = 2; field < 22 && at; field++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at, NULL, 10) : 0;
}

void announce(uint32_t slot)
{
	struct birth *birth = &shared->birth[slot];
	char text[32] = "";

	birth->vpid = syscall(SYS_getpid);
	if (birth->vpid == 1 && !(birth->flags & BIRTH_ROOT))
		birth->namespace = slot;
	birth->start = start_of("self");
	if (readlinkat(FD_PROC, "self", text, sizeof(text) - 1) > 0)
		set(&birth->pid, atoi(text));
}

/* The pid on the host of a process that this one can wait for, dead or alive. */
static uint32_t host_pid(pid_t pid)
{
	int fd = syscall(SYS_pidfd_open, pid, 0);
	char name[64], text[512];
	char *found;

	if (fd < 0)
		return 0;
	snprintf(name, sizeof(name), "self/fdinfo/%d", fd);
	read_proc(name, text, sizeof(text));
	close(fd);
	found = strstr(text, "\nPid:");
	return found ? strtol(found + 5, NULL, 10) : 0;
}

bool reap(int options)
{
	siginfo_t info = { 0 };

	if (waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | options) || !info.si_pid)
		return false;
	reap_this(&info);
	return true;
}

void reap_this(siginfo_t *info)
{
	struct waited *waited = &shared->wait[take(&shared->waits, LOG_WAITS)];
	char name[16];

	waited->status = info->si_code == CLD_EXITED ? (info->si_status & 0xff) << 8
						     : info->si_status;
	waited->pid = host_pid(info->si_pid);
	snprintf(name, sizeof(name), "%u", waited->pid);
	waited->start = start_of(name);
	waitid(P_PID, info->si_pid, info, WEXITED);
	if (info->si_pid == me.child)
		me.child = 0;
}

void reap_all(void)
{
	while (reap(0))
		;
}

/* ── births ── */

static uint32_t intend_birth(enum step how)
{
	uint32_t slot = take(&shared->births, LOG_BIRTHS);
	struct birth *birth = &shared->birth[slot];

	birth->walk = shared->birth[me.slot].walk;
	birth->forker = me.slot;
	birth->how = how;
	birth->namespace = me.children_namespace;
	set(&birth->state, BIRTH_INTENDED);
	newest = slot;
	return slot;
}

static void note_birth(uint32_t slot, pid_t pid)
{
	set(&shared->birth[slot].state, pid > 0 ? BIRTH_FORKED : BIRTH_FAILED);
	count(shared->birth[slot].how, pid > 0);
	if (pid > 0 && me.unshared) {
		/* It does not wait for those that this process puts into its namespace. */
		set_flag(slot, BIRTH_ABANDONS);
		me.children_namespace = slot;
		me.unshared = 0;
	}
}

/* Gives a part of this process's share to a child. */
static int part(void)
{
	int given = me.share > 1 ? below(me.share) : 0;

	me.share -= 1 + given;
	return given;
}

pid_t fork_by(enum step how, struct clone_args *args)
{
	uint64_t seed = draw();
	uint32_t slot = intend_birth(how);
	int share = part();
	pid_t pid;

	if (!(args->flags & CLONE_PARENT))
		args->exit_signal = SIGCHLD;
	pid = syscall(SYS_clone3, args, sizeof(*args));
	if (pid) {
		note_birth(slot, pid);
		return pid;
	}
	me.slot = slot;
	me.random = seed;
	me.share = share;
	me.is_victim = 0;
	me.child = 0;
	me.last = how;
	announce(slot);
	me.children_namespace = shared->birth[slot].namespace;
	me.unshared = 0;
	me.nest = me.nest ? me.nest - 1 : 0;
	return 0;
}

/* ── execs ── */

struct program {
	uint32_t image;
	char *argv[8];
	char state[160];
	char filler[300];
};

/* Chooses arguments and records them. */
static void intend_exec(struct program *program, enum step how, uint32_t slot)
{
	static char *const heads[][4] = {
		{ "walk" }, { "/walk", "one  two" }, { "runc", "init" }, { "/proc/self/exe", "init" },
		{ "sh", "-c", "exit 1" }, { "" }, { "/usr/bin/runc", "", "init" },
	};
	struct image *image;
	int number = 0;

	program->image = take(&shared->images, LOG_IMAGES);
	image = &shared->image[program->image];
	for (char *const *head = heads[below(7)]; number < 4 && head[number]; number++)
		program->argv[number] = head[number];
	if (below(8) == 0) {
		memset(program->filler, 'x', sizeof(program->filler) - 1);
		program->argv[number++] = program->filler;
	}
	snprintf(program->state, sizeof(program->state), "go:%u:%u:%llu:%d:%u:%d:%u:%u:%u:%d", slot,
		 program->image, (unsigned long long)me.random, me.share, me.last, me.nest,
		 me.children_namespace, me.unshared, me.is_victim, cgroups);
	program->argv[number++] = program->state;
	program->argv[number] = NULL;
	for (int i = 0; i < number; i++) {
		size_t length = strlen(program->argv[i]) + 1;

		memcpy(image->args + image->length, program->argv[i], length);
		image->length += length;
	}
	image->slot = slot;
	image->how = how;
	set(&image->state, IMAGE_INTENDED);
}

/* Returns only if it fails. */
static void run(struct program *program, int fd)
{
	char *environment[] = { NULL };

	syscall(SYS_execveat, fd, "", program->argv, environment, AT_EMPTY_PATH);
	set(&shared->image[program->image].state, IMAGE_FAILED);
}

void exec_by(enum step how, int fd)
{
	struct program program = { 0 };

	intend_exec(&program, how, me.slot);
	run(&program, fd);
	count(how, false);
}

static volatile bool has_failed;

static void *exec_in_thread(void *how)
{
	/* Otherwise the leader may still be on its way to its end or its pause. */
	if ((intptr_t)how == STEP_EXEC_ORPHAN)
		usleep(500);
	exec_by((intptr_t)how, FD_SELF);
	is_orphan = (intptr_t)how == STEP_EXEC_ORPHAN;
	if (is_orphan)
		walk();
	has_failed = true;
	return NULL;
}

void exec_by_thread(enum step how)
{
	pthread_t thread;

	has_failed = false;
	if (pthread_create(&thread, NULL, exec_in_thread, (void *)(intptr_t)how)) {
		count(how, false);
		return;
	}
	if (how == STEP_EXEC_ORPHAN)
		syscall(SYS_exit, 0);
	while (!has_failed)
		usleep(1000);
	pthread_join(thread, NULL);
}

void vfork_and_exec(void)
{
	struct program program = { 0 };
	uint32_t slot = intend_birth(STEP_VFORK_EXEC);
	uint64_t own = me.random;
	int share = part(), kept = me.share;
	uint32_t victim = me.is_victim, unshared = me.unshared;
	pid_t pid;

	/* The child has the memory of this process, so its state is made here. */
	me.random = own ^ 0x5555;
	me.share = share;
	me.is_victim = me.unshared = 0;
	intend_exec(&program, STEP_VFORK_EXEC, slot);
	me.random = own + 1;
	me.share = kept;
	me.is_victim = victim;
	me.unshared = unshared;
	pid = vfork();
	if (pid == 0) {
		announce(slot);
		run(&program, FD_SELF);
		shared->birth[slot].intent = 127 << 8;
		set_flag(slot, BIRTH_ENDS);
		_exit(127);
	}
	if (pid < 0)
		set(&shared->image[program.image].state, IMAGE_FAILED);
	else
		me.child = pid;
	note_birth(slot, pid);
}

int copy_of_self(void)
{
	int fd = memfd_create(below(2) ? "runc_cloned:/proc/self/exe" : "walk", MFD_CLOEXEC);
	off_t at = 0;

	while (sendfile(fd, FD_SELF, &at, 1 << 24) > 0)
		;
	return fd;
}
