/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The maps of the pinned set: one of each for the whole node. */
#ifndef LOOKOUT_MAPS_H
#define LOOKOUT_MAPS_H

/* What a slot holds; only the type counts, each owner chooses its own size. */
struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
};

/* Slot -> ring of its owner. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, LOOKOUT_SLOTS);
	__type(key, __u32);
	__array(values, struct ring);
} rings SEC(".maps");

/* Slot -> who took it. An array of maps knows no BPF_NOEXIST; this does. Programs never read it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOOKOUT_SLOTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct lookout_owner);
} owners SEC(".maps");

/* Id of a cgroup or tree -> where its records go. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOOKOUT_TARGETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct lookout_target);
} targets SEC(".maps");

/* Inode number of a pid namespace -> key of `targets`. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOOKOUT_TARGETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u64);
} namespaces SEC(".maps");

/* Inode number of a network namespace -> key of `targets`. The node's own is never here. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOOKOUT_TARGETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u64);
} networks SEC(".maps");

/* Thread group in a watched tree -> key of `targets`. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOOKOUT_TARGETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u64);
} trees SEC(".maps");

/* Cookie of a UDP socket that was told, or of one that a process of a watched tree made listen -> key of `targets`. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOOKOUT_TARGETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u64);
} listeners SEC(".maps");

/* Target -> its connections, where somebody wants to know. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOOKOUT_TARGETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct lookout_connections);
} connections SEC(".maps");

/* Targets whose owner waits for the next connection. Apart from the counts, which only programs write. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOOKOUT_TARGETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u32);
} awaited SEC(".maps");

/* Key 0: what is set for the whole node. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lookout_config);
} config SEC(".maps");

/* Slot -> when its reader was last woken for a process, CLOCK_MONOTONIC: see output.h. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LOOKOUT_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} woken SEC(".maps");

/* Thread groups whose end was told a moment ago: see exit.h. */
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
