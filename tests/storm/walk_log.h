/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of a walk: what each process did, as the process itself or its forker knows it.
 *
 * The log is a file that all walks of a run map. A record is in the file before the system call that it
 * is about, so that a process that is killed has recorded what it meant to do. The reader is
 * tests/shim/root/attack/log.rs, and the layout is the same there.
 *
 * A process is known by its slot in `births`, which its forker takes before it forks and which goes with
 * the process through each exec. What the kernel calls it is recorded too: its pid on the host and its
 * start in clock ticks. A token would do for a process that has run a program with the token as an
 * argument, but a process that only forked has the arguments of its forker. A pid would do for neither,
 * because pids are reused and a process in a namespace does not know its own. Both numbers come from a
 * procfs of the host's pid namespace: its `self` is the reader's number there, wherever the reader is.
 */
#ifndef WALK_LOG_H
#define WALK_LOG_H

#include <stdint.h>

enum {
	LOG_BIRTHS = 1 << 15,
	LOG_IMAGES = 1 << 15,
	LOG_WAITS = 1 << 16,
	LOG_STEPS = 64,
	LOG_ARGS = 488,
};

enum birth_state {
	/* The forker is about to fork. */
	BIRTH_INTENDED = 1,
	BIRTH_FORKED = 2,
	BIRTH_FAILED = 3,
};

enum birth_flag {
	/* The first process of a pid namespace ends before its descendants: the kernel kills them. */
	BIRTH_ABANDONS = 1,
	/* It has done all its steps and waits for the signal that will kill it. */
	BIRTH_READY = 2,
	/* `intent` is valid. */
	BIRTH_ENDS = 4,
	/* The first process of a walk. */
	BIRTH_ROOT = 8,
	/*
	 * Two threads end by themselves, each with a code of its own: `intent`, and the same with the
	 * lowest bit of the code inverted. It depends on the kernel and on the order which one counts.
	 */
	BIRTH_RACES = 16,
};

struct birth {
	/* number of the walk, from the command line of its first process */
	uint32_t walk;
	/* slot of the process that forked it; its own for the first process of a walk */
	uint32_t forker;
	/* enum step */
	uint32_t how;
	/* enum birth_state */
	uint32_t state;
	/* on the host; 0 until the process has run */
	uint32_t pid;
	/* in its own pid namespace */
	uint32_t vpid;
	/* field 22 of /proc/PID/stat */
	uint64_t start;
	/* slot of the first process of its pid namespace; 0 for that of the container */
	uint32_t namespace;
	/* enum birth_flag */
	uint32_t flags;
	/* the wait status with which it is about to end */
	uint32_t intent;
	/* the signal with which its forker is about to kill it */
	uint32_t killed;
	uint32_t padding[4];
};

enum image_state {
	/* The process is about to exec. */
	IMAGE_INTENDED = 1,
	IMAGE_RAN = 2,
	IMAGE_FAILED = 3,
};

/* A program that a process runs. The images of a slot are in the order of their execs. */
struct image {
	uint32_t slot;
	/* enum image_state */
	uint32_t state;
	/* bytes of `args` that are used */
	uint32_t length;
	/* enum step */
	uint32_t how;
	uint64_t padding;
	/* the arguments, each ended by a NUL */
	char args[LOG_ARGS];
};

/* What a process got from waitid(2) for another, known by its pid on the host and its start. */
struct waited {
	uint32_t pid;
	uint32_t status;
	uint64_t start;
};

/* What the first processes of containers do. */
enum phase {
	PHASE_WAIT = 0,
	PHASE_WALK = 1,
	/* They end when they have no child left. */
	PHASE_STOP = 2,
};

struct log {
	/* how many records there are; slot 0 is never used */
	uint32_t births;
	uint32_t images;
	uint32_t waits;
	/* enum phase, set by the test */
	uint32_t phase;
	/* how many steps succeeded and failed, and how many followed on which in one process */
	uint32_t done[LOG_STEPS];
	uint32_t failed[LOG_STEPS];
	uint32_t pairs[LOG_STEPS][LOG_STEPS];
	char names[LOG_STEPS][16];
	struct birth birth[LOG_BIRTHS];
	struct image image[LOG_IMAGES];
	struct waited wait[LOG_WAITS];
};

#endif
