/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Paths as a process sees them: from a dentry up to the root directory of the process, through
 * mounts, one component a step. bpf_d_path() is not allowed at these tracepoints.
 *
 * All state of the walk lives in a map value. With it on the stack the verifier follows each step's
 * offset by itself and gives up at a million instructions.
 */
#ifndef LOOKOUT_PATH_H
#define LOOKOUT_PATH_H

/* NAME_MAX and a NUL */
#define NAME_ROOM 256
#define DEPTH_MAX 512
#define BYTES_MAX (LOOKOUT_ARGS_MAX + 2 * LOOKOUT_PATH_MAX)

struct walk {
	struct dentry *dentry;
	struct vfsmount *mount;
	/* where that mount begins */
	struct dentry *mount_root;
	struct dentry *root_dentry;
	struct vfsmount *root_mount;
	/* where the next component goes in `bytes` */
	__u32 used;
	/* where none may begin any more */
	__u32 limit;
	__u32 done;
	__u32 padding;
};

/* A record under construction; larger than the stack. A per-CPU value is 32 KiB at most. */
struct scratch {
	union {
		struct lookout_exec exec;
		/* Never used: they put the other records into BTF, for the test of the layout. */
		struct lookout_fork fork;
		struct lookout_exit exit;
		struct lookout_port port;
		struct lookout_connected connected;
	};
	__u8 bytes[BYTES_MAX + NAME_ROOM];
	struct walk walk;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/* From the root of a mount to where it is mounted; 0 at the end of all mounts. */
static __always_inline int leave_mount(struct walk *walk)
{
	struct mount *here, *above = NULL;
	__u64 offset = __builtin_preserve_field_info(((struct mount *)0)->mnt, 0);

	here = (void *)walk->mount - offset;
	READ(above, &here->mnt_parent);
	if (!above || above == here)
		return 0;
	READ(walk->dentry, &here->mnt_mountpoint);
	walk->mount = (void *)above + offset;
	READ(walk->mount_root, &walk->mount->mnt_root);
	return 1;
}

/* Two fields of a dentry with what is between them, where the running kernel has them so. */
struct link {
	struct dentry *parent;
	__u64 hash_and_length;
	const unsigned char *name;
};

/* By one read where that can be. */
static __always_inline void follow_link(struct link *link, struct dentry *dentry)
{
	__u64 parent_at = __builtin_preserve_field_info(((struct dentry *)0)->d_parent, 0);
	__u64 name_at = __builtin_preserve_field_info(((struct dentry *)0)->d_name.name, 0);

	if (name_at == parent_at + __builtin_offsetof(struct link, name)) {
		bpf_probe_read_kernel(link, sizeof(*link), (void *)dentry + parent_at);
		return;
	}
	READ(link->parent, &dentry->d_parent);
	READ(link->name, &dentry->d_name.name);
}

static long step(__u32 index, void *unused)
{
	struct link link = {};
	struct scratch *work;
	struct walk *walk;
	__u32 zero = 0;
	__u32 used;
	long length;

	work = bpf_map_lookup_elem(&scratch, &zero);
	if (!work)
		return 1;
	walk = &work->walk;
	if (walk->dentry == walk->root_dentry && walk->mount == walk->root_mount) {
		walk->done = 1;
		return 1;
	}
	if (walk->dentry == walk->mount_root) {
		walk->done = !leave_mount(walk);
		return walk->done;
	}
	used = walk->used;
	if (used > walk->limit || used > BYTES_MAX)
		return 1;
	follow_link(&link, walk->dentry);
	length = bpf_probe_read_kernel_str(&work->bytes[used], NAME_ROOM, link.name);
	if (length <= 0)
		return 1;
	walk->used = used + length;
	/* Of a file without a folder, as memfd_create(2) makes. */
	walk->done = walk->dentry == link.parent;
	walk->dentry = link.parent;
	return walk->done;
}

/* Appends a path to the record; 0 where it is not whole. */
static __always_inline int walk_up(struct walk *walk, struct vfsmount *mount, struct dentry *dentry)
{
	walk->dentry = dentry;
	walk->mount = mount;
	walk->mount_root = mount->mnt_root;
	walk->limit = walk->used + LOOKOUT_PATH_MAX - NAME_ROOM;
	walk->done = 0;
	if (dentry)
		bpf_loop(DEPTH_MAX, step, NULL, 0);
	return walk->done;
}

#endif
