/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a walk: walk.c takes the steps, walk_record.c forks and execs with a record of it. */
#ifndef WALK_H
#define WALK_H

#include <linux/sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "walk_log.h"

/* Descriptors that stay open across execs, so that they work in every mount namespace. */
enum {
	FD_LOG = 100,
	FD_SELF,
	FD_PROC,
	/* the mount namespace of the host */
	FD_MOUNTS,
	/* a directory, then its cgroup.procs, for each CGROUP */
	FD_CGROUPS,
	CGROUPS_MAX = 8,
};

#define STEPS(X)                                                                                   \
	/* forks, which use the share of the process */                                            \
	X(FORK, 10) X(THREAD_FORK, 5) X(VFORK_EXEC, 8) X(CLONE_PARENT, 8) X(DOUBLE_FORK, 6)        \
	X(NEW_PID, 5) X(UNSHARE_PID, 2) X(NEST, 1) X(SET_TID, 3) X(INTO_CGROUP, 6) X(KILL, 5)      \
	X(PTRACE, 4) X(STOP, 3)                                                                    \
	/* the others */                                                                           \
	X(SUBREAPER, 3) X(SETSID, 3) X(MOVE, 8) X(EXEC, 6) X(EXEC_THREAD, 4) X(EXEC_ORPHAN, 3)     \
	X(FEXECVE, 4) X(MEMFD, 3) X(NAME, 4) X(TITLE, 4) X(REAP, 4) X(PAUSE, 4) X(NEW_MOUNT, 2)    \
	X(NEW_NET, 1) X(NEW_TIME, 1) X(NEW_CGROUP, 2) X(NEW_USER, 1) X(HOST_MOUNTS, 1)             \
	/* the ends */                                                                             \
	X(EXIT, 8) X(SIGNAL, 5) X(GROUP, 3) X(LEADER, 3) X(LEADER_PLAIN, 3) X(AWAIT, 0)            \
	/* the first process of a walk */                                                          \
	X(ROOT, 0)

enum step {
#define X(name, weight) STEP_##name,
	STEPS(X)
#undef X
	STEP_END,
};

/* The process. Everything but `child` goes through an exec. */
struct process {
	uint32_t slot;
	uint64_t random;
	int share;
	enum step last;
	/* how many more pid namespaces to nest before the walk */
	int nest;
	/* slot of the first process of the pid namespace of its children; 0 for the container's */
	uint32_t children_namespace;
	/* its next child is the first process of a pid namespace */
	uint32_t unshared;
	/* its forker kills it when it is ready */
	uint32_t is_victim;
	/* a child that it has not reaped; 0 if there is none */
	pid_t child;
};

extern struct process me;
extern struct log *shared;
/* how many cgroups have descriptors */
extern int cgroups;
/* slot of the last birth that this process intended */
extern uint32_t newest;
/* The leader has ended, and another thread does the walk. */
extern bool is_orphan;

/* Does the rest of the walk in this process. */
void walk(void) __attribute__((noreturn));

/* A random number from 0 to `end` - 1. */
int below(int end);

/* Takes the next record of a table with `max` records. */
uint32_t take(uint32_t *count, uint32_t max);

void set(uint32_t *to, uint32_t value);
void set_flag(uint32_t slot, uint32_t flag);

/* Counts a step of this process that succeeded or failed. */
void count(enum step step, bool good);

/* Records what the kernel calls this process. A child of vfork(2) calls it too. */
void announce(uint32_t slot);

/* Reaps one child and records how it ended. Returns whether there was one. */
bool reap(int options);
void reap_all(void);

/* Reaps the child that waitid(2) has shown with WNOWAIT. */
void reap_this(siginfo_t *info);

/* Forks. Returns 0 in the child, which has a seed and a share of its own. */
pid_t fork_by(enum step how, struct clone_args *args);

/* Returns only if it fails. */
void exec_by(enum step how, int fd);
void exec_by_thread(enum step how);
void vfork_and_exec(void);

/* A copy of this program in memory. */
int copy_of_self(void);

#endif
