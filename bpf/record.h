/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The interface between the programs and src/observe/source/bpf: the records in a ring and the
 * values in maps.
 *
 * Only __u32, __u64 and byte arrays are used, so that the layout is the same for every compiler. A
 * test compares it with the Rust mirror field by field. Kinds and flags are never reused. A change
 * here needs a new ABI number in src/observe/source/bpf/pins.rs.
 *
 * Times are in nanoseconds. A tgid in a record is the number in the pid namespace of the ring's
 * owner, 0 if there is none. A tgid that is a key of a map is the number in the initial pid
 * namespace.
 */
#ifndef LOOKOUT_RECORD_H
#define LOOKOUT_RECORD_H

enum lookout_limit {
	/* the most rings, and therefore shims, on one node */
	LOOKOUT_SLOTS = 4096,
	/* the most entries of each map of targets: containers and trees, namespaces */
	LOOKOUT_TARGETS = 65536,
	/*
	 * the most members of all targets together, of which each gets a share: see
	 * has_share_left()
	 */
	LOOKOUT_MEMBERS = 131072,
	/* the most remembered sockets of all targets together, of which each gets a share too */
	LOOKOUT_LISTENERS = 65536,
	/* the most bytes of argv in one exec record; the configuration can only lower it */
	LOOKOUT_ARGS_MAX = 16384,
	/* the most bytes of one path; a longer path is marked as cut */
	LOOKOUT_PATH_MAX = 4096,
	/* nanoseconds after a wake-up in which further process records do not wake the reader */
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
	/* exec: the path of the executable is incomplete */
	LOOKOUT_EXECUTABLE_CUT = 2,
	/* exec: the path of the working directory is incomplete */
	LOOKOUT_DIRECTORY_CUT = 4,
	/* exit: the OOM killer chose the process */
	LOOKOUT_OOM_KILLED = 8,
	/* port: the address is IPv6 and has 16 bytes; without the flag it is IPv4 and has 4 */
	LOOKOUT_INET6 = 16,
	/* port: the socket has IPV6_V6ONLY set, so it accepts no IPv4 */
	LOOKOUT_INET6_ONLY = 32,
	/* port: the socket is UDP; without the flag it is TCP */
	LOOKOUT_UDP = 64,
	/* exec: the file of the executable has no link: it was removed, or is a memfd */
	LOOKOUT_EXECUTABLE_DELETED = 128,
};

enum lookout_header_flag {
	/* fork, exec: the process was forked by a process of the same target */
	LOOKOUT_BORN = 1,
	/*
	 * exec of a process of a runtime call: the process is in the cgroup or in a pid namespace
	 * of the target
	 */
	LOOKOUT_INSIDE = 2,
};

/* The first part of every record. */
struct lookout_header {
	/* enum lookout_kind */
	__u32 kind;
	/* length of the whole record in bytes, this header included */
	__u32 length;
	/* the target that the record belongs to: lookout_target.id */
	__u64 target;
	/* CLOCK_MONOTONIC at the event, in nanoseconds */
	__u64 at_ns;
	/* start of the thread group's leader, in ns since boot: task_struct.start_boottime */
	__u64 start_ns;
	/* the target's count of lost records (lookout_target.lost) when this record was made */
	__u64 lost;
	/* tgid of the process that the record is about; for a fork that of the child */
	__u32 tgid;
	/*
	 * tgid in the innermost pid namespace of the process; 0 for an exit, which does not need it
	 */
	__u32 vpid;
	/*
	 * the runtime call that the process descends from: the low half of lookout_runtime_call.id;
	 * 0 if it descends from none
	 */
	__u32 call;
	/* enum lookout_header_flag */
	__u32 flags;
};

/*
 * Where a process comes from. The parent is the thread group that forked the process. A process can
 * choose its real_parent (CLONE_PARENT, PR_SET_CHILD_SUBREAPER), and cannot choose its forker. The
 * real_parent stands in only for a process that was forked before its target was watched.
 */
struct lookout_lineage {
	/* start of the parent's leader, in nanoseconds since boot */
	__u64 parent_start_ns;
	/* tgid of the parent */
	__u32 parent_tgid;
	/* tgid of real_parent's real_parent */
	__u32 grandparent_tgid;
};

/* A thread group was created: LOOKOUT_FORK. */
struct lookout_fork {
	struct lookout_header header;
	struct lookout_lineage lineage;
};

/*
 * A process runs a new image: LOOKOUT_EXEC. Three byte strings follow, in this order: args_length
 * bytes of argv, each argument ended by a NUL; executable_length bytes of the executable's path;
 * directory_length bytes of the working directory's path. A path is a sequence of components, the
 * last component first, each ended by a NUL, relative to the root directory of the process.
 */
struct lookout_exec {
	struct lookout_header header;
	struct lookout_lineage lineage;
	/* id of the task's cgroup in the unified hierarchy */
	__u64 cgroup;
	/* bytes of argv in the process, captured or not, NULs included */
	__u64 args_total;
	/* mm_struct.start_stack, which differs from exec to exec */
	__u64 stack;
	/* arguments in the process, captured or not */
	__u32 args_count;
	/* inode number of the mount namespace */
	__u32 mount_namespace;
	/* effective user and group, as numbers of the initial user namespace */
	__u32 uid;
	__u32 gid;
	/* bytes of the three strings that follow */
	__u32 args_length;
	__u32 executable_length;
	__u32 directory_length;
	/* enum lookout_flag */
	__u32 flags;
	/* task_struct.comm, padded with NULs */
	__u8 comm[16];
};

/* An open file; both fields are 0 if the descriptor is closed. */
struct lookout_file {
	/* device of the superblock, encoded as stat.st_dev (new_encode_dev) */
	__u64 device;
	/* inode number */
	__u64 inode;
};

/* The last thread of a group ended: LOOKOUT_EXIT. */
struct lookout_exit {
	struct lookout_header header;
	/* the status that wait(2) will report */
	__u32 wait_status;
	/* enum lookout_flag */
	__u32 flags;
	/* the files of descriptors 1 and 2 */
	struct lookout_file outputs[2];
};

/*
 * A TCP socket listens, or a UDP socket is bound: LOOKOUT_LISTEN, with the process in the header.
 * The socket no longer listens or is released: LOOKOUT_UNLISTEN, without a process, because the
 * task that runs at that moment may be unrelated to the socket.
 */
struct lookout_port {
	struct lookout_header header;
	/* the socket's cookie, never reused; the same number as in INET_DIAG and SO_COOKIE */
	__u64 cookie;
	/* inode number of the socket's file; 0 if it has none, and for LOOKOUT_UNLISTEN */
	__u64 inode;
	/* of the socket's network namespace; never reused, unlike the inode number */
	__u64 network_cookie;
	/* inode number of the socket's network namespace */
	__u32 network_namespace;
	/* host byte order; 0 if the kernel chooses the port in listen(2), after this record */
	__u32 port;
	/* network byte order; only the first 4 bytes are used without LOOKOUT_INET6 */
	__u8 address[16];
	/* enum lookout_flag */
	__u32 flags;
	__u32 padding;
};

/* A TCP connection was established while the target was in `awaited`: LOOKOUT_CONNECTED. */
struct lookout_connected {
	struct lookout_header header;
};

/* Value of the map `connections`; the key is the id of a target. */
struct lookout_connections {
	/*
	 * Connections established since the target was watched, less those closed since then. A
	 * signed number: connections from before may close.
	 */
	__u64 open;
	/* CLOCK_MONOTONIC at the last change, in nanoseconds */
	__u64 changed_ns;
};

/* Value of the map `targets`; the key is `id`. */
struct lookout_target {
	/* index in `rings` */
	__u32 slot;
	/* inode number of the ring owner's pid namespace; 0 for the initial one */
	__u32 pid_namespace;
	/* the id of a cgroup; for a tree a chosen number with the top bit set */
	__u64 id;
	/* records of this target that programs began, lost or not */
	__u64 seen;
	/* records of this target that were lost */
	__u64 lost;
	/* entries of `members` that the programs made for this target */
	__u32 members;
	/* entries of `listeners` that the programs made for this target */
	__u32 listeners;
	/* not 0 if the target is a tree: a process leaves it when it enters a container */
	__u32 is_tree;
	/*
	 * entries of `members` and `listeners` that this target was refused: see has_share_left()
	 */
	__u32 refused;
};

/* The keys of the map `entries`. */
enum lookout_shared {
	LOOKOUT_SHARED_MEMBERS = 0,
	LOOKOUT_SHARED_LISTENERS = 1,
};

enum lookout_member_flag {
	/* the entry of this member is counted in the map `entries` */
	LOOKOUT_IN_ENTRIES = 1,
	/* the entry of this member is counted in lookout_target.members */
	LOOKOUT_IN_TARGET = 2,
	/* the process is a shim: its threads may have entries in `spawners` */
	LOOKOUT_SPAWNS = 4,
	/* the thread group was forked by a member of the same target */
	LOOKOUT_BORN_MEMBER = 8,
};

/*
 * Value of the map `members`; the key is a tgid. It names the target that reported a thread group
 * first. The thread group stays with that target, and so do all thread groups that it forks.
 *
 * A process of a runtime call has an entry before its container has a target. Then `target` is 0,
 * and the records of the process are withheld from every target while the call lasts.
 */
struct lookout_member {
	/*
	 * start of the leader, in nanoseconds since boot, because tgids are reused; 0 in an entry
	 * that user space made, which knows the start in clock ticks only
	 */
	__u64 start_ns;
	/* lookout_target.id; 0 if there is none */
	__u64 target;
	/* lookout_runtime_call.id of the runtime call that the process descends from; 0 if none */
	__u64 call;
	/* start of the forker's leader, in nanoseconds since boot; 0 if the fork was not seen */
	__u64 forker_start_ns;
	/* tgid of the forker; 0 if the fork was not seen */
	__u32 forker_tgid;
	/* enum lookout_member_flag */
	__u32 flags;
};

/* Value of the map `listeners`; the key is the cookie of a socket. */
struct lookout_listener {
	/* lookout_target.id */
	__u64 target;
	/* not 0 if a program made the entry, which is counted in `entries` and in the target */
	__u32 is_counted;
	__u32 padding;
};

/*
 * A call of the OCI runtime by a shim: the context of lookout_mark_spawner(), and the value of the
 * map `spawners`, with the id of a thread as its key.
 */
struct lookout_runtime_call {
	/*
	 * never reused while programs know it: the shim's slot in the high half, a number of the
	 * shim's own in the low half; 0 removes the entry of the calling thread
	 */
	__u64 id;
	/* lookout_target.id of the container; 0 if it has no target yet */
	__u64 target;
};

/*
 * Value of the map `owners`; the key is a slot. Identifies the process of the shim that owns the
 * slot.
 */
struct lookout_owner {
	__u32 pid;
	/* inode number of the pid namespace in which `pid` is valid; 0 for the initial one */
	__u32 pid_namespace;
	/* start in clock ticks since boot: field 22 of /proc/PID/stat */
	__u64 start_ticks;
};

/* The one value of the map `config`. */
struct lookout_config {
	/* bytes of argv to capture, LOOKOUT_ARGS_MAX at most */
	__u32 args_max;
	/*
	 * bit n is set if a cgroup of depth n is watched: then the programs look up the ancestor of
	 * that depth
	 */
	__u32 levels;
};

/* Key of the map `ended`: a thread group, by the start of its leader and its tgid. */
struct lookout_ended {
	__u64 start_ns;
	__u32 tgid;
	__u32 padding;
};

#endif
