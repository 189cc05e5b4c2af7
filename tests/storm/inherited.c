/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inherited: prints what this process has inherited, one fact a line: capabilities, filters,
 * limits, signals, scheduling, descriptors, environment. Two processes that were started in the
 * same way print the same.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sched.h>
#include <unistd.h>

#ifndef PR_GET_MDWE
#define PR_GET_MDWE 66
#endif

extern char **environ;

/* The lines of /proc/self/status that describe the start of a process, and not its run. */
static const char *const STATUS[] = {
	"Umask:", "Uid:", "Gid:", "Groups:", "SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:",
	"CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:",
	"Seccomp_filters:", "Speculation_Store_Bypass:", "SpeculationIndirectBranch:",
	"Cpus_allowed_list:", "Mems_allowed_list:", "THP_enabled:", "CoreDumping:",
};

static void print_status(void)
{
	char line[4096];
	FILE *file = fopen("/proc/self/status", "r");

	while (file && fgets(line, sizeof(line), file))
		for (size_t i = 0; i < sizeof(STATUS) / sizeof(*STATUS); i++)
			if (!strncmp(line, STATUS[i], strlen(STATUS[i])))
				fputs(line, stdout);
	if (file)
		fclose(file);
}

static void print_file(const char *name)
{
	char path[64], line[4096];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/%s", name);
	file = fopen(path, "r");
	if (!file) {
		printf("%s: cannot be opened\n", name);
		return;
	}
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = 0;
		printf("%s: %s\n", name, line);
	}
	fclose(file);
}

static void print_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	struct dirent *entry;

	while (directory && (entry = readdir(directory))) {
		char path[300], target[512];
		ssize_t length;

		snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
		length = readlink(path, target, sizeof(target) - 1);
		if (length < 0 || atoi(entry->d_name) == dirfd(directory))
			continue;
		target[length] = 0;
		/* The number of an inode differs from run to run. */
		target[strcspn(target, "[")] = 0;
		printf("descriptor %s: %s\n", entry->d_name, target);
	}
	if (directory)
		closedir(directory);
}

static void print_prctl(void)
{
	int signal = -1, is_subreaper = -1;

	prctl(PR_GET_PDEATHSIG, &signal);
	prctl(PR_GET_CHILD_SUBREAPER, &is_subreaper);
	printf("securebits: %d\n", prctl(PR_GET_SECUREBITS));
	printf("keepcaps: %d\n", prctl(PR_GET_KEEPCAPS));
	printf("dumpable: %d\n", prctl(PR_GET_DUMPABLE));
	printf("pdeathsig: %d\n", signal);
	printf("subreaper: %d\n", is_subreaper);
	printf("timerslack: %d\n", prctl(PR_GET_TIMERSLACK));
	printf("thp_disable: %d\n", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
	printf("mdwe: %d\n", prctl(PR_GET_MDWE, 0, 0, 0, 0));
	printf("mce_kill: %d\n", prctl(PR_MCE_KILL_GET, 0, 0, 0, 0));
}

int main(void)
{
	struct sched_param param = {0};
	char directory[4096];

	print_status();
	print_file("limits");
	print_file("oom_score_adj");
	print_file("coredump_filter");
	print_file("cgroup");
	print_file("loginuid");
	print_file("attr/current");
	print_prctl();
	sched_getparam(0, &param);
	printf("nice: %d\n", getpriority(PRIO_PROCESS, 0));
	printf("policy: %d %d\n", sched_getscheduler(0), param.sched_priority);
	printf("ioprio: %ld\n", syscall(SYS_ioprio_get, 1, 0));
	printf("personality: %#x\n", personality(0xffffffff));
	printf("leads its session: %d, its group: %d\n", getsid(0) == getpid(), getpgrp() == getpid());
	printf("directory: %s\n", getcwd(directory, sizeof(directory)) ? directory : "none");
	print_descriptors();
	for (char **variable = environ; *variable; variable++)
		printf("environment: %s\n", *variable);
	return 0;
}
