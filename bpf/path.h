/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Paths as a process sees them. A walk goes from a dentry up to the root directory of the process,
 * across mounts, one component per step. bpf_d_path() is not allowed at these tracepoints.
 *
 * All state of the walk is in a map value. With the state on the stack, the verifier tracks the
 * offset of every step separately and gives up at its limit of a million instructions.
 */
#ifndef LOOKOUT_PATH_H
#define LOOKOUT_PATH_H

/* The most bytes of one component: NAME_MAX and a NUL. */
#define NAME_ROOM 256
/* The most steps of a walk: components of a path, and mounts to leave. */
#define PATH_DEPTH_MAX 512
/* The most bytes of the three strings of an exec record. */
#define EXEC_BYTES_MAX (LOOKOUT_ARGS_MAX + 2 * LOOKOUT_PATH_MAX)

/* A walk from a dentry up to the root directory of a process, and the bytes that it has written. */
struct walk {
	struct dentry *dentry;
	struct vfsmount *mount;
	/* root dentry of `mount` */
	struct dentry *mount_root;
	struct dentry *root_dentry;
	struct vfsmount *root_mount;
	/* bytes used in `bytes`: the offset of the next component */
	__u32 used;
	/* the highest offset at which a component may begin */
	__u32 limit;
	/* not 0 once the walk has reached the root directory: the path is complete */
	__u32 done;
	__u32 padding;
};

/*
 * An exec record under construction, larger than the eBPF stack. The value of a per-CPU map is
 * 32 KiB at most.
 */
struct scratch {
	union {
		struct lookout_exec exec;
		/* Never used: they put the other records into BTF, for the layout test. */
		struct lookout_fork fork;
		struct lookout_exit exit;
		struct lookout_port port;
		struct lookout_connected connected;
	};
	__u8 bytes[EXEC_BYTES_MAX + NAME_ROOM];
	struct walk walk;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/*
 * Moves the walk from the root of a mount to its mount point. Returns 0 if no mount is above this
 * one.
 */
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

/*
 * `d_parent` to `d_name.name` of struct dentry in one piece, in the layout that most kernels have.
 * `hash_and_length` only fills the space between the two fields that are used.
 */
struct dentry_fields {
	struct dentry *parent;
	__u64 hash_and_length;
	const unsigned char *name;
};

/* One read instead of two where the layout allows it: a walk does this for each component. */
static __always_inline void read_dentry_fields(struct dentry_fields *fields, struct dentry *dentry)
{
	__u64 parent_at = __builtin_preserve_field_info(((struct dentry *)0)->d_parent, 0);
	__u64 name_at = __builtin_preserve_field_info(((struct dentry *)0)->d_name.name, 0);

	if (name_at == parent_at + __builtin_offsetof(struct dentry_fields, name)) {
		bpf_probe_read_kernel(fields, sizeof(*fields), (void *)dentry + parent_at);
		return;
	}
	READ(fields->parent, &dentry->d_parent);
	READ(fields->name, &dentry->d_name.name);
}

/*
 * One step of a walk, called by bpf_loop(): writes a component, or leaves a mount. Returns 1 to
 * stop.
 */
static long walk_step(__u32 index, void *unused)
{
	struct dentry_fields fields = {};
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
	if (used > walk->limit || used > EXEC_BYTES_MAX)
		return 1;
	read_dentry_fields(&fields, walk->dentry);
	length = bpf_probe_read_kernel_str(&work->bytes[used], NAME_ROOM, fields.name);
	if (length <= 0)
		return 1;
	walk->used = used + length;
	/* A file without a directory, such as memfd_create(2) makes, is its own parent. */
	walk->done = walk->dentry == fields.parent;
	walk->dentry = fields.parent;
	return walk->done;
}

/*
 * Appends the path of `dentry` to the exec record, the last component first. Returns 0 if the path
 * is incomplete.
 */
static __always_inline int walk_up(struct walk *walk, struct vfsmount *mount, struct dentry *dentry)
{
	walk->dentry = dentry;
	walk->mount = mount;
	walk->mount_root = mount->mnt_root;
	walk->limit = walk->used + LOOKOUT_PATH_MAX - NAME_ROOM;
	walk->done = 0;
	if (dentry)
		bpf_loop(PATH_DEPTH_MAX, walk_step, NULL, 0);
	return walk->done;
}

#endif
