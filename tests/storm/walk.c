/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A random walk over everything that a process can do to be attributed wrongly.
 *
 *   walk root|init LOG WALK SEED COUNT PROC HOST [CGROUP...]
 *
 * LOG is the shared file of walk_log.h, WALK the number of this walk in it. The walk makes some COUNT
 * processes. PROC is a procfs of the host's pid namespace, HOST the pid of a process with the host's
 * mounts. Each CGROUP is a directory of the unified hierarchy into which processes move. With `init`, the
 * first process of a container, a child does the walk, and init reaps until the test sets `phase` in the
 * log.
 *
 * A process takes steps from `steps` until its share of COUNT is used up, then it ends in one of many
 * ways. What it does depends on SEED alone, because each child gets a seed and a share from its forker;
 * only when it happens depends on the machine. After an exec, `go:…` as the last argument has the state.
 * Between steps, what a step changed stays: names, namespaces, cgroups, being a subreaper, children.
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
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "walk.h"

static const struct {
	const char *name;
	unsigned weight;
} steps[] = {
#define X(name, weight) { #name, weight },
	STEPS(X)
#undef X
};

static char **arguments;

/* ── ends ── */

static void intend_end(int status)
{
	struct birth *birth = &shared->birth[me.slot];

	birth->intent = status;
	set_flag(me.slot, BIRTH_ENDS);
}

static void *end_group(void *code)
{
	usleep(200);
	syscall(SYS_exit_group, (intptr_t)code);
	return NULL;
}

static void *end_thread(void *code)
{
	usleep(200);
	syscall(SYS_exit, (intptr_t)code ^ 1);
	return NULL;
}

static void end_by_signal(void)
{
	static const int signals[] = { SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS,
				       SIGFPE, SIGKILL, SIGUSR1, SIGSEGV, SIGUSR2, SIGPIPE, SIGALRM,
				       SIGTERM, SIGXCPU, SIGSYS, SIGPOLL, 40, 64 };
	int signal = signals[below(sizeof(signals) / sizeof(*signals))];

	intend_end(signal);
	syscall(SYS_kill, syscall(SYS_getpid), signal);
	for (;;)
		pause();
}

static void end(void) __attribute__((noreturn));

static void end(void)
{
	bool is_first = shared->birth[me.slot].namespace == me.slot;
	enum step how = STEP_EXIT + below(STEP_LEADER_PLAIN - STEP_EXIT + 1);
	bool leaves = below(is_first ? 4 : 2) == 0;
	intptr_t code = below(256);
	pthread_t thread;

	if (!leaves)
		reap_all();
	else if (is_first)
		set_flag(me.slot, BIRTH_ABANDONS);
	if (me.is_victim) {
		count(STEP_AWAIT, true);
		set_flag(me.slot, BIRTH_READY);
		for (;;)
			pause();
	}
	/*
	 * The first process of a namespace does not get signals without a handler. The code of a
	 * leader that has ended would count.
	 */
	if ((how == STEP_SIGNAL && is_first) || (how == STEP_LEADER_PLAIN && is_orphan))
		how = STEP_EXIT;
	count(how, true);
	if (how == STEP_SIGNAL)
		end_by_signal();
	intend_end(code << 8);
	if (how == STEP_EXIT)
		_exit(code);
	if (how == STEP_LEADER_PLAIN)
		set_flag(me.slot, BIRTH_RACES);
	if (pthread_create(&thread, NULL, how == STEP_LEADER_PLAIN ? end_thread : end_group, (void *)code))
		_exit(code);
	if (how != STEP_GROUP)
		syscall(SYS_exit, how == STEP_LEADER ? code ^ 2 : code);
	for (;;)
		pause();
}

/* ── steps ── */

static void fork_step(enum step how, struct clone_args args)
{
	pid_t pid = fork_by(how, &args);

	if (!pid)
		walk();
	if (pid > 0 && how != STEP_CLONE_PARENT)
		me.child = pid;
}

static void *fork_in_thread(void *unused)
{
	(void)unused;
	fork_step(STEP_THREAD_FORK, (struct clone_args){ 0 });
	return NULL;
}

/* The forker is a thread other than the leader. */
static void fork_by_thread(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, fork_in_thread, NULL))
		return count(STEP_THREAD_FORK, false);
	pthread_join(thread, NULL);
}

static void double_fork(void)
{
	struct clone_args args = { 0 };

	if (fork_by(STEP_DOUBLE_FORK, &args))
		return;
	if (me.share < 1)
		me.share = 1;
	if (!fork_by(STEP_DOUBLE_FORK, &args))
		walk();
	/* Ends without a wait, so that the grandchild gets another parent. */
	if (shared->birth[me.slot].namespace == me.slot)
		set_flag(me.slot, BIRTH_ABANDONS);
	intend_end(3 << 8);
	_exit(3);
}

/* Lets a child do a walk of its own, then kills it. */
static void kill_child(void)
{
	static const int signals[] = { SIGKILL, SIGTERM, SIGSEGV, SIGUSR1 };
	int signal = signals[below(4)];
	struct clone_args args = { 0 };
	pid_t pid = fork_by(STEP_KILL, &args);
	uint32_t slot = newest;
	siginfo_t info = { 0 };

	if (!pid) {
		me.is_victim = 1;
		walk();
	}
	if (pid < 0)
		return;
	while (!(__atomic_load_n(&shared->birth[slot].flags, __ATOMIC_SEQ_CST) & BIRTH_READY)) {
		usleep(1000);
		info.si_pid = 0;
		waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | WNOHANG);
		/* It may have been killed together with its namespace. */
		if (info.si_pid == pid)
			return;
		/*
		 * Others are reaped, because the end of a pid namespace waits for all its processes, and
		 * the victim may wait for that.
		 */
		if (info.si_pid)
			reap_this(&info);
	}
	if (shared->birth[slot].namespace == slot) {
		set_flag(slot, BIRTH_ABANDONS);
		signal = SIGKILL;
	}
	set(&shared->birth[slot].killed, signal);
	kill(pid, signal);
}

/* A new child traces another one for a moment. */
static void trace_child(void)
{
	struct clone_args args = { 0 };
	pid_t other = me.child;
	siginfo_t info = { 0 };
	int time = below(500);

	if (!other || me.unshared || me.children_namespace != shared->birth[me.slot].namespace) {
		count(STEP_PTRACE, false);
		return;
	}
	if (fork_by(STEP_PTRACE, &args))
		return;
	if (!ptrace(PTRACE_SEIZE, other, 0, 0)) {
		ptrace(PTRACE_INTERRUPT, other, 0, 0);
		/*
		 * Never blocks: an exec by another thread takes the pid of the traced leader, and
		 * the kernel (6.18) does not wake a tracer that waits for this pid.
		 */
		for (int tries = 0; tries < 100 && !info.si_pid; tries++) {
			usleep(200);
			if (waitid(P_PID, other, &info, WSTOPPED | WEXITED | WNOHANG))
				break;
		}
		usleep(time);
		/* A process that has not stopped yet is released by the end of its tracer. */
		if (ptrace(PTRACE_DETACH, other, 0, 0)) {
			intend_end(4 << 8);
			_exit(4);
		}
	}
	walk();
}

static void rename_process(void)
{
	static const char *const names[] = { "runc:[2:INIT]", "runc", "containerd-shim", "sh", "a) b (c" };

	count(STEP_NAME, !prctl(PR_SET_NAME, names[below(5)]));
}

/* Overwrites the arguments in memory; what the exec recorded must stay. */
static void rewrite_title(void)
{
	static const char title[] = "runc\0init";
	size_t length = strlen(arguments[0]);

	memcpy(arguments[0], title, length < sizeof(title) ? length : sizeof(title));
	count(STEP_TITLE, true);
}

static void unshare_step(enum step step, int flags)
{
	count(step, !unshare(flags));
}

static void enter_host_mounts(void)
{
	count(STEP_HOST_MOUNTS, !setns(FD_MOUNTS, CLONE_NEWNS));
}

/*
 * A pid to ask for. Half of them were used a moment ago, perhaps by a process of the walk that has
 * ended: a pid that is used again must not hide either process.
 */
static pid_t chosen_pid(void)
{
	pid_t recent = getpid() - 1 - (pid_t)below(100);

	return below(2) && recent > 1 ? recent : 300 + (pid_t)below(30000);
}

static void take_step(enum step step)
{
	int cgroup = cgroups ? FD_CGROUPS + 2 * below(cgroups) : -1;
	pid_t number = chosen_pid();
	int time = below(2000);

	switch (step) {
	case STEP_FORK:
		return fork_step(step, (struct clone_args){ 0 });
	case STEP_THREAD_FORK:
		return fork_by_thread();
	case STEP_VFORK_EXEC:
		return vfork_and_exec();
	case STEP_CLONE_PARENT:
		return fork_step(step, (struct clone_args){ .flags = CLONE_PARENT });
	case STEP_DOUBLE_FORK:
		return double_fork();
	case STEP_NEST:
		me.nest = below(31);
		/* fall through */
	case STEP_NEW_PID:
		fork_step(step, (struct clone_args){ .flags = CLONE_NEWPID });
		me.nest = 0;
		return;
	case STEP_SET_TID:
		return fork_step(step, (struct clone_args){ .set_tid = (uintptr_t)&number,
							    .set_tid_size = 1 });
	case STEP_INTO_CGROUP:
		return fork_step(step, (struct clone_args){ .flags = CLONE_INTO_CGROUP,
							    .cgroup = cgroup });
	case STEP_KILL:
		return kill_child();
	case STEP_PTRACE:
		return trace_child();
	case STEP_STOP:
		if (!me.child || kill(me.child, SIGSTOP))
			return count(step, false);
		usleep(time);
		kill(me.child, SIGCONT);
		return count(step, true);
	case STEP_SUBREAPER:
		return count(step, !prctl(PR_SET_CHILD_SUBREAPER, 1));
	case STEP_SETSID:
		return count(step, setsid() > 0);
	case STEP_MOVE:
		return count(step, write(cgroup + 1, "0", 1) == 1);
	case STEP_EXEC:
	case STEP_FEXECVE:
		return exec_by(step, FD_SELF);
	case STEP_EXEC_THREAD:
	case STEP_EXEC_ORPHAN:
		return exec_by_thread(step);
	case STEP_MEMFD:
		return exec_by(step, copy_of_self());
	case STEP_NAME:
		return rename_process();
	case STEP_TITLE:
		return rewrite_title();
	case STEP_REAP:
		return count(step, reap(WNOHANG));
	case STEP_PAUSE:
		usleep(time);
		return count(step, true);
	case STEP_UNSHARE_PID:
		if (me.unshared || unshare(CLONE_NEWPID))
			return count(step, false);
		me.unshared = 1;
		return count(step, true);
	case STEP_NEW_MOUNT:
		return unshare_step(step, CLONE_NEWNS);
	case STEP_NEW_NET:
		return unshare_step(step, CLONE_NEWNET);
	case STEP_NEW_TIME:
		return unshare_step(step, CLONE_NEWTIME);
	case STEP_NEW_CGROUP:
		return unshare_step(step, CLONE_NEWCGROUP);
	case STEP_NEW_USER:
		return unshare_step(step, CLONE_NEWUSER);
	case STEP_HOST_MOUNTS:
		return enter_host_mounts();
	default:
		return;
	}
}

static enum step choose_step(void)
{
	unsigned total = 0, chosen;

	for (enum step step = 0; step < STEP_EXIT; step++)
		total += steps[step].weight;
	chosen = below(total);
	for (enum step step = 0;; step++) {
		if (chosen < steps[step].weight)
			return step;
		chosen -= steps[step].weight;
	}
}

void walk(void)
{
	int more = 1 + below(6);

	if (me.nest) {
		me.share = me.share < 1 ? 1 : me.share;
		fork_step(STEP_NEST, (struct clone_args){ .flags = CLONE_NEWPID });
		me.nest = 0;
	}
	/* A process without a share still takes some steps that need none. */
	while (me.share > 0 || more-- > 0) {
		enum step step = choose_step();

		if (me.share > 0 || step > STEP_STOP)
			take_step(step);
	}
	end();
}

/* ── the beginning ── */

static void keep(const char *path, int flags, int as)
{
	int fd = open(path, flags);

	if (fd < 0 || dup2(fd, as) != as) {
		dprintf(2, "walk: %s: %s\n", path, strerror(errno));
		exit(126);
	}
	if (fd != as)
		close(fd);
}

static void map_log(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, FD_LOG, 0);
	if (shared == MAP_FAILED)
		exit(126);
}

static void begin(int argc, char **argv)
{
	struct rlimit none = { 0 };
	struct image *image;
	char path[512];

	setrlimit(RLIMIT_CORE, &none);
	keep(argv[2], O_RDWR, FD_LOG);
	keep("/proc/self/exe", O_RDONLY, FD_SELF);
	keep(argv[6], O_PATH | O_DIRECTORY, FD_PROC);
	snprintf(path, sizeof(path), "%s/%s/ns/mnt", argv[6], argv[7]);
	keep(path, O_RDONLY, FD_MOUNTS);
	map_log();
	/* The cgroups exist when all containers have been started. */
	while (__atomic_load_n(&shared->phase, __ATOMIC_SEQ_CST) == PHASE_WAIT)
		usleep(1000);
	for (int i = 8; i < argc && cgroups < CGROUPS_MAX; i++, cgroups++) {
		snprintf(path, sizeof(path), "%s/cgroup.procs", argv[i]);
		keep(argv[i], O_PATH | O_DIRECTORY, FD_CGROUPS + 2 * cgroups);
		keep(path, O_WRONLY, FD_CGROUPS + 2 * cgroups + 1);
	}
	/* The output of an exec ends with its last holder, which is not what is tested here. */
	for (int fd = 0; fd < 3; fd++)
		keep("/dev/null", O_RDWR, fd);
	for (int step = 0; step < STEP_END; step++)
		snprintf(shared->names[step], sizeof(shared->names[step]), "%s", steps[step].name);
	me.slot = take(&shared->births, LOG_BIRTHS);
	me.random = strtoull(argv[4], NULL, 10);
	me.share = atoi(argv[5]);
	me.last = STEP_ROOT;
	shared->birth[me.slot] = (struct birth){
		.walk = atoi(argv[3]),
		.forker = me.slot,
		.how = STEP_ROOT,
		.state = BIRTH_FORKED,
		.flags = BIRTH_ROOT,
	};
	image = &shared->image[take(&shared->images, LOG_IMAGES)];
	image->how = STEP_ROOT;
	image->slot = me.slot;
	image->length = argv[argc - 1] + strlen(argv[argc - 1]) + 1 - argv[0];
	memcpy(image->args, argv[0], image->length);
	set(&image->state, IMAGE_RAN);
	announce(me.slot);
}

static void go_on(const char *state)
{
	unsigned long long seed;
	unsigned image, last;

	if (sscanf(state, "go:%u:%u:%llu:%d:%u:%d:%u:%u:%u:%d", &me.slot, &image, &seed, &me.share, &last,
		   &me.nest, &me.children_namespace, &me.unshared, &me.is_victim, &cgroups) != 10)
		exit(126);
	map_log();
	set(&shared->image[image].state, IMAGE_RAN);
	me.random = seed;
	me.last = last;
	if (shared->image[image].how != STEP_VFORK_EXEC)
		return count(shared->image[image].how, true);
	/* The forker has counted this one, and did not know that it began a pid namespace. */
	me.last = STEP_VFORK_EXEC;
	if (shared->birth[me.slot].namespace == me.slot)
		me.children_namespace = me.slot;
}

/* The first process of a container. */
static void serve(void)
{
	struct clone_args args = { 0 };

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	me.share++;
	if (!fork_by(STEP_FORK, &args))
		walk();
	while (__atomic_load_n(&shared->phase, __ATOMIC_SEQ_CST) != PHASE_STOP) {
		while (reap(WNOHANG))
			;
		usleep(1000);
	}
	reap_all();
	intend_end(0);
	_exit(0);
}

int main(int argc, char **argv)
{
	arguments = argv;
	if (argc > 0 && !strncmp(argv[argc - 1], "go:", 3)) {
		go_on(argv[argc - 1]);
	} else if (argc > 7) {
		begin(argc, argv);
		if (!strcmp(argv[1], "init"))
			serve();
	} else {
		return 126;
	}
	walk();
}
