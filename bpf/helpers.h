/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The part of libbpf's headers that the programs use, so that building needs clang and nothing
 * else. The numbers are the kernel's ABI: include/uapi/linux/bpf.h.
 */
#ifndef LOOKOUT_HELPERS_H
#define LOOKOUT_HELPERS_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;

#define NULL ((void *)0)
#define SEC(name) __attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))

/* The form in which libbpf reads a map's definition from BTF. */
#define __uint(name, value) int (*name)[value]
#define __type(name, value) typeof(value) *name
#define __array(name, value) typeof(value) *name[]

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_F_NO_PREALLOC = 1,
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
};

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value,
				   __u64 flags) = (void *)2;
static long (*bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static __u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static __u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static long (*bpf_get_current_comm)(void *to, __u32 size) = (void *)16;
/* Since Linux 5.12 in tracing programs. */
static __u64 (*bpf_get_socket_cookie)(void *socket) = (void *)46;
static long (*bpf_probe_read_user)(void *to, __u32 size, const void *from) = (void *)112;
static long (*bpf_probe_read_kernel)(void *to, __u32 size, const void *from) = (void *)113;
static long (*bpf_probe_read_kernel_str)(void *to, __u32 size, const void *from) = (void *)115;
static long (*bpf_ringbuf_output)(void *ring, void *data, __u64 size, __u64 flags) = (void *)130;
static void *(*bpf_ringbuf_reserve)(void *ring, __u64 size, __u64 flags) = (void *)131;
static void (*bpf_ringbuf_submit)(void *data, __u64 flags) = (void *)132;
static void (*bpf_ringbuf_discard)(void *data, __u64 flags) = (void *)133;
struct task_struct;
static struct task_struct *(*bpf_get_current_task_btf)(void) = (void *)158;
/* Since Linux 5.17. */
static long (*bpf_loop)(__u32 times, void *callback, void *context, __u64 flags) = (void *)181;

/*
 * Copies `from` in kernel memory to `to`. For a pointer that the verifier does not trust: a bad one
 * yields 0.
 */
#define READ(to, from) bpf_probe_read_kernel(&(to), sizeof(to), from)

/*
 * Whether the running kernel's structure has this field. The numbers are clang's enum
 * bpf_field_info_kind.
 */
#define FIELD_EXISTS(field) __builtin_preserve_field_info(field, 2)

/*
 * The value of a bit field of one bit, at the offset that it has in the running kernel (CO-RE). The
 * two shifts are those that clang computes for a read of 64 bits.
 */
#define READ_BIT(structure, field)								\
	({											\
		__u8 byte = 0;									\
		READ(byte, (void *)(structure) +						\
			   __builtin_preserve_field_info((structure)->field, 0));		\
		((__u64)byte << __builtin_preserve_field_info((structure)->field, 4)) >>	\
			__builtin_preserve_field_info((structure)->field, 5);			\
	})

#endif
