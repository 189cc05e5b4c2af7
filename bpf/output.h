/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Reserving and submitting records. A record is counted in `seen` before space for it is reserved,
 * and in `lost` if there was none. So seen == delivered + lost holds whenever the owner of a ring
 * dies.
 */
#ifndef LOOKOUT_OUTPUT_H
#define LOOKOUT_OUTPUT_H

/*
 * Counts a record as seen and returns the ring of the target's shim. NULL if that shim is dead and
 * a sweep has freed its ring.
 */
static __always_inline void *begin_record(struct lookout_target *target)
{
	__u32 slot = target->slot;

	__sync_fetch_and_add(&target->seen, 1);
	return bpf_map_lookup_elem(&rings, &slot);
}

/*
 * Reserves space for a record of `size` bytes in the ring of the target's shim. NULL if the ring
 * has none; the record is then counted as lost.
 */
static __always_inline void *reserve(struct lookout_target *target, __u64 size)
{
	void *ring = begin_record(target);
	void *record = ring ? bpf_ringbuf_reserve(ring, size, 0) : NULL;

	if (!record)
		count_lost(target);
	return record;
}

/*
 * The flags for submitting a process record. Waking the reader of the ring costs more than making
 * the record, so only the first record of each LOOKOUT_COLLECT_NS wakes it. The reader finds the
 * others by reading again: it does not block without a timeout until it has found nothing for that
 * long.
 *
 * The wake-up is forced. The kernel's own rule is to wake the reader only if it had consumed
 * everything up to this record, and that is not the case when an earlier record was submitted with
 * BPF_RB_NO_WAKEUP.
 */
static __always_inline __u64 wakeup_flags(struct lookout_target *target, __u64 now)
{
	__u32 slot = target->slot;
	__u64 *last = bpf_map_lookup_elem(&woken, &slot);

	/* Not atomic: two CPUs may both wake the reader, which is harmless. */
	if (last && now - *last < LOOKOUT_COLLECT_NS)
		return BPF_RB_NO_WAKEUP;
	if (last)
		*last = now;
	return BPF_RB_FORCE_WAKEUP;
}

/* The tgid of a process in the innermost pid namespace that it is in. */
static __always_inline __u32 innermost_pid(struct task_struct *task)
{
	struct pid *pid = task->signal->pids[PIDTYPE_TGID];
	__u32 level = pid->level;
	__u32 number = 0;

	READ(number, (void *)&pid->numbers + level * sizeof(struct upid));
	return number;
}

/*
 * How deep the pid namespace of a shim may be nested. The kernel allows more (PID_LEVELS_MAX), but
 * shims are not nested so deep.
 */
#define OWNER_LEVELS_MAX 8

/*
 * The tgid of a process in the pid namespace of a ring's owner. 0 if the process has none there,
 * or if the owner's namespace is at OWNER_LEVELS_MAX or deeper.
 */
static __always_inline __u32 tgid_in_namespace(struct task_struct *leader, __u32 namespace)
{
	struct upid number = {};
	struct pid *pid;
	__u32 inode, level;

	if (!namespace)
		return leader->tgid;
	pid = leader->signal->pids[PIDTYPE_TGID];
	for (level = 1; level < OWNER_LEVELS_MAX; level++) {
		if (level > pid->level)
			break;
		inode = 0;
		READ(number, (void *)&pid->numbers + level * sizeof(number));
		READ(inode, &number.ns->ns.inum);
		if (inode == namespace)
			return number.nr;
	}
	return 0;
}

/* Fills the part of a header that does not describe a process. */
static __always_inline void fill_header(struct lookout_header *header, __u32 kind, __u32 length,
					struct lookout_target *target)
{
	header->kind = kind;
	header->length = length;
	header->target = target->id;
	header->at_ns = bpf_ktime_get_ns();
	header->lost = target->lost;
	header->call = 0;
	header->flags = 0;
}

/*
 * As fill_header(); also fills in the thread group of `task`, with its tgid in the pid namespace of
 * the ring's owner.
 */
static __always_inline void fill_group_header(struct lookout_header *header, __u32 kind,
					      __u32 length, struct task_struct *task,
					      struct lookout_target *target, __u64 call)
{
	struct task_struct *leader = task->group_leader;

	fill_header(header, kind, length, target);
	header->call = call;
	header->start_ns = leader->start_boottime;
	header->tgid = tgid_in_namespace(leader, target->pid_namespace);
	header->vpid = 0;
}

/* As fill_group_header(); also fills in the tgid of the process in its own pid namespace. */
static __always_inline void fill_process_header(struct lookout_header *header, __u32 kind,
						__u32 length, struct task_struct *task,
						struct lookout_target *target, __u64 call)
{
	fill_group_header(header, kind, length, task, target, call);
	header->vpid = innermost_pid(task);
}

/*
 * The parent: the forker if the fork was seen, otherwise real_parent. See struct lookout_lineage.
 */
static __always_inline void fill_lineage(struct lookout_lineage *lineage, struct task_struct *task,
					 const struct lookout_member *member,
					 struct lookout_target *target)
{
	struct task_struct *parent = task->group_leader->real_parent->group_leader;

	if (member && member->forker_tgid) {
		lineage->parent_start_ns = member->forker_start_ns;
		lineage->parent_tgid = member->forker_tgid;
	} else {
		lineage->parent_start_ns = parent->start_boottime;
		lineage->parent_tgid = tgid_in_namespace(parent, target->pid_namespace);
	}
	lineage->grandparent_tgid =
		tgid_in_namespace(parent->real_parent->group_leader, target->pid_namespace);
}

#endif
