/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The pinned maps: one of each for the whole node. */
#ifndef LOOKOUT_MAPS_H
#define LOOKOUT_MAPS_H

/*
 * The value type of `rings`. The size here is a placeholder: each owner creates its ring with its
 * own size, and the kernel accepts rings of any size in one map of maps.
 */
struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
};

/* From a slot to the ring of the slot's owner. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, LOOKOUT_SLOTS);
	__type(key, __u32);
	__array(values, struct ring);
} rings SEC(".maps");

/*
 * From a slot to the process of the shim that owns it. A shim claims a slot by an entry here,
 * because BPF_NOEXIST makes the claim atomic and `rings`, an array of maps, does not support that
 * flag. Programs never read this map.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOOKOUT_SLOTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct lookout_owner);
} owners SEC(".maps");

/*
 * From the id of a target (a cgroup or a process tree) to the slot that receives its records, with
 * the counts of these records.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOOKOUT_TARGETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct lookout_target);
} targets SEC(".maps");

/*
 * From the inode number of a pid namespace to a key of `targets`. The kernel reuses these numbers,
 * so the entry is deleted when the namespace's init exits, after which the namespace accepts no
 * process.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOOKOUT_TARGETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u64);
} namespaces SEC(".maps");

/*
 * From the cookie of a network namespace, which is never reused, to a key of `targets`. The node's
 * own network namespace is never a key.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOOKOUT_TARGETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u64);
} networks SEC(".maps");

/* From a thread group to the target that it stays with. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOOKOUT_MEMBERS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct lookout_member);
} members SEC(".maps");

/*
 * From a thread that spawns the OCI runtime at this moment, to the runtime call. The child becomes
 * a member with this call before it runs, and so does everything that it forks.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOOKOUT_SLOTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct lookout_runtime_call);
} spawners SEC(".maps");

/*
 * The runtime calls that have not ended, by lookout_runtime_call.id. The value is the slot of the
 * shim.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOOKOUT_TARGETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u32);
} calls SEC(".maps");

/* How many entries the programs have made in a map that the targets share: enum lookout_shared. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} entries SEC(".maps");

/*
 * From a socket's cookie to its target: reported UDP sockets, and TCP sockets that belong to the
 * target of the process that called listen(2). User space adds the TCP sockets of a tree that
 * listened before. An entry is deleted when its socket closes, also if its target has gone.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOOKOUT_LISTENERS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct lookout_listener);
} listeners SEC(".maps");

/* From a target to the count of its TCP connections, for the targets that count them. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOOKOUT_TARGETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct lookout_connections);
} connections SEC(".maps");

/*
 * Targets with a shim that waits for their next TCP connection. A map of its own, because shims
 * write it, while only programs write to `connections`.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOOKOUT_TARGETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u32);
} awaited SEC(".maps");

/* The settings of the whole node, under key 0. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lookout_config);
} config SEC(".maps");

/*
 * From a slot to the time at which its reader was last woken for a process record, in nanoseconds
 * of CLOCK_MONOTONIC: see wakeup_flags() in output.h.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LOOKOUT_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} woken SEC(".maps");

/* Thread groups with several threads that had their exit reported a moment ago: see exit.h. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct lookout_ended);
	__type(value, __u32);
} ended SEC(".maps");

static __always_inline const struct lookout_config *configuration(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

#endif
