/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the programs and src/observe/source/bpf share: records in a ring and values in maps.
 *
 * Only __u32, __u64 and byte arrays, so that the layout is the same for every compiler; a test
 * compares it with the Rust mirror field by field. Kinds and flags are never reused. A change here
 * needs a new ABI number in src/observe/source/bpf/pins.rs.
 *
 * Times are nanoseconds. A tgid is as the pid namespace of the ring's owner counts, 0 where there is
 * none; the tgids that are keys of maps are as the initial one counts.
 */
#ifndef LOOKOUT_RECORD_H
#define LOOKOUT_RECORD_H

enum lookout_limit {
	/* rings, and so shims, on one node */
	LOOKOUT_SLOTS = 4096,
	/* watched containers and trees, and processes in trees, on one node */
	LOOKOUT_TARGETS = 65536,
	/* the most of argv that an exec carries, whatever the configuration says */
	LOOKOUT_ARGS_MAX = 16384,
	/* the most of one path; a longer one is marked as cut */
	LOOKOUT_PATH_MAX = 4096,
	/* nanoseconds: how long records of processes may collect after one of them woke the reader */
	LOOKOUT_COLLECT_NS = 1000000,
};

enum lookout_kind {
	LOOKOUT_FORK = 1,
	LOOKOUT_EXEC = 2,
	LOOKOUT_EXIT = 3,
	LOOKOUT_LISTEN = 4,
	LOOKOUT_UNLISTEN = 5,
	LOOKOUT_CONNECTED = 6,
};

enum lookout_flag {
	/* exec: argv could not be read */
	LOOKOUT_ARGS_FAULTED = 1,
	/* exec: the executable's path is not whole */
	LOOKOUT_EXECUTABLE_CUT = 2,
	/* exec: the working directory's path is not whole */
	LOOKOUT_DIRECTORY_CUT = 4,
	/* exit: the OOM killer chose it */
	LOOKOUT_OOM_KILLED = 8,
	/* port: the address has 16 bytes, not 4 */
	LOOKOUT_INET6 = 16,
	/* port: and takes no IPv4 */
	LOOKOUT_INET6_ONLY = 32,
	/* port: of UDP, not TCP */
	LOOKOUT_UDP = 64,
};

/* Begins every record. */
struct lookout_header {
	/* enum lookout_kind */
	__u32 kind;
	/* of the whole record in bytes, this header included */
	__u32 length;
	/* whose: lookout_target.id */
	__u64 target;
	/* CLOCK_MONOTONIC at the event */
	__u64 at_ns;
	/* start of the thread group's leader since boot: task_struct.start_boottime */
	__u64 start_ns;
	/* lookout_target.lost when this record was made */
	__u64 lost;
	/* the thread group; for a fork the child's */
	__u32 tgid;
	/* the same in the innermost pid namespace of the process; 0 for an exit, which its tgid is enough for */
	__u32 vpid;
};

/* Where a process stands. */
struct lookout_lineage {
	/* start of the parent's leader since boot */
	__u64 parent_start_ns;
	/* real_parent */
	__u32 parent_tgid;
	/* real_parent of real_parent */
	__u32 grandparent_tgid;
};

/* A thread group was made: LOOKOUT_FORK. */
struct lookout_fork {
	struct lookout_header header;
	struct lookout_lineage lineage;
};

/*
 * A new image runs: LOOKOUT_EXEC. Three byte strings follow, in this order: args_length bytes of
 * argv, each argument ended by a NUL; executable_length bytes of the executable's path;
 * directory_length bytes of the working directory's. A path is its components, the last one first,
 * each ended by a NUL, as seen from the root directory of the process.
 */
struct lookout_exec {
	struct lookout_header header;
	struct lookout_lineage lineage;
	/* the task's own cgroup on the unified hierarchy */
	__u64 cgroup;
	/* bytes of argv in the process, captured or not, NULs included */
	__u64 args_total;
	/* arguments in the process, captured or not */
	__u32 args_count;
	/* inode number of the mount namespace */
	__u32 mount_namespace;
	/* effective, as the initial user namespace counts */
	__u32 uid;
	__u32 gid;
	__u32 args_length;
	__u32 executable_length;
	__u32 directory_length;
	/* enum lookout_flag */
	__u32 flags;
	/* task_struct.comm, NUL-padded */
	__u8 comm[16];
};

/* An open file; both 0 where there is none. */
struct lookout_file {
	/* of the superblock, encoded as stat.st_dev (new_encode_dev) */
	__u64 device;
	__u64 inode;
};

/* The last thread of a group ended: LOOKOUT_EXIT. */
struct lookout_exit {
	struct lookout_header header;
	/* as wait(2) will tell it */
	__u32 wait_status;
	/* enum lookout_flag */
	__u32 flags;
	/* descriptors 1 and 2 */
	struct lookout_file outputs[2];
};

/*
 * A TCP socket listens, or a UDP socket is bound: LOOKOUT_LISTEN, by the process of the header. Or no longer:
 * LOOKOUT_UNLISTEN, without a process, for whoever runs then need not have anything to do with it.
 */
struct lookout_port {
	struct lookout_header header;
	/* of the socket, among all that ever were: INET_DIAG and SO_COOKIE have the same */
	__u64 cookie;
	/* of the socket's file; 0 where it has none, and for LOOKOUT_UNLISTEN */
	__u64 inode;
	__u32 network_namespace;
	/* in the byte order of the host; 0 where listen(2) chooses it */
	__u32 port;
	/* in the byte order of the network, the first 4 bytes without LOOKOUT_INET6 */
	__u8 address[16];
	/* enum lookout_flag */
	__u32 flags;
	__u32 padding;
};

/* A TCP connection was established while somebody waited for the next one: LOOKOUT_CONNECTED. */
struct lookout_connected {
	struct lookout_header header;
};

/* Value of the map `connections`, by target. */
struct lookout_connections {
	/* established now, less those that were so before the target was watched: a signed number */
	__u64 open;
	/* CLOCK_MONOTONIC when one last came or went */
	__u64 changed_ns;
};

/* Value of the map `targets`, by id. */
struct lookout_target {
	/* index in `rings` */
	__u32 slot;
	/* inode number of the pid namespace that the ring's owner counts in; 0: the initial one */
	__u32 pid_namespace;
	/* a cgroup's id, or a made-up number with the top bit set */
	__u64 id;
	/* records that were begun */
	__u64 seen;
	/* those of them that found no room */
	__u64 lost;
};

/* Value of the map `owners`, by slot: a process of the node. */
struct lookout_owner {
	__u32 pid;
	/* inode number of the pid namespace that counts so; 0: the initial one */
	__u32 pid_namespace;
	/* field 22 of /proc/PID/stat */
	__u64 start_ticks;
};

/* The one value of the map `config`. */
struct lookout_config {
	/* bytes of argv to capture, LOOKOUT_ARGS_MAX at most */
	__u32 args_max;
	/* bit n: somebody watches a cgroup of depth n, so processes below that depth are looked up there */
	__u32 levels;
	/* not 0: somebody watches a tree, so `trees` is worth a look */
	__u32 trees;
	__u32 padding;
};

/* Key of the map `ended`. */
struct lookout_ended {
	__u64 start_ns;
	__u32 tgid;
	__u32 padding;
};

#endif
