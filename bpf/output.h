/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A record's way out. What was begun is counted before room is asked for, what found no room after:
 * seen == delivered + lost, whoever dies when.
 */
#ifndef LOOKOUT_OUTPUT_H
#define LOOKOUT_OUTPUT_H

/* The owner's ring; NULL where the owner is gone and swept. */
static __always_inline void *begin(struct lookout_target *target)
{
	__u32 slot = target->slot;

	__sync_fetch_and_add(&target->seen, 1);
	return bpf_map_lookup_elem(&rings, &slot);
}

static __always_inline void lose(struct lookout_target *target)
{
	__sync_fetch_and_add(&target->lost, 1);
}

/* Room for a record of a fixed size; counts where there is none. */
static __always_inline void *room(struct lookout_target *target, __u64 size)
{
	void *ring = begin(target);
	void *record = ring ? bpf_ringbuf_reserve(ring, size, 0) : NULL;

	if (!record)
		lose(target);
	return record;
}

/*
 * How to hand over a record of a process. To wake the reader costs more than to make the record, so it is woken
 * for the first, and those of the next LOOKOUT_COLLECT_NS it finds itself: it never waits without end before it
 * has found nothing for that long. Woken by force, because the kernel's own rule (wake where the reader had
 * caught up with this record) fails where a record before this one was handed over without.
 */
static __always_inline __u64 quietly(struct lookout_target *target, __u64 now)
{
	__u32 slot = target->slot;
	__u64 *last = bpf_map_lookup_elem(&woken, &slot);

	if (last && now - *last < LOOKOUT_COLLECT_NS)
		return BPF_RB_NO_WAKEUP;
	if (last)
		*last = now;
	return BPF_RB_FORCE_WAKEUP;
}

static __always_inline __u32 innermost_pid(struct task_struct *task)
{
	struct pid *pid = task->signal->pids[PIDTYPE_TGID];
	__u32 level = pid->level;
	__u32 number = 0;

	READ(number, (void *)&pid->numbers + level * sizeof(struct upid));
	return number;
}

/* Namespaces nest 32 deep (MAX_PID_NS_LEVEL); shims do not. */
#define NESTED 8

/* What the owner of a ring calls a process; 0 where it cannot see it. */
static __always_inline __u32 seen_as(struct task_struct *leader, __u32 namespace)
{
	struct upid number = {};
	struct pid *pid;
	__u32 inode, level;

	if (!namespace)
		return leader->tgid;
	pid = leader->signal->pids[PIDTYPE_TGID];
	for (level = 1; level < NESTED; level++) {
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

/* The part of a header that is about no process. */
static __always_inline void address(struct lookout_header *header, __u32 kind, __u32 length,
				    struct lookout_target *target)
{
	header->kind = kind;
	header->length = length;
	header->target = target->id;
	header->at_ns = bpf_ktime_get_ns();
	header->lost = target->lost;
}

/* And who it was, as the ring's owner counts. */
static __always_inline void name(struct lookout_header *header, __u32 kind, __u32 length, struct task_struct *task,
				 struct lookout_target *target)
{
	struct task_struct *leader = task->group_leader;

	address(header, kind, length, target);
	header->start_ns = leader->start_boottime;
	header->tgid = seen_as(leader, target->pid_namespace);
	header->vpid = 0;
}

/* And as it counts itself. */
static __always_inline void describe(struct lookout_header *header, __u32 kind, __u32 length,
				     struct task_struct *task, struct lookout_target *target)
{
	name(header, kind, length, task, target);
	header->vpid = innermost_pid(task);
}

static __always_inline void descend(struct lookout_lineage *lineage, struct task_struct *task,
				    struct lookout_target *target)
{
	struct task_struct *parent = task->group_leader->real_parent->group_leader;

	lineage->parent_start_ns = parent->start_boottime;
	lineage->parent_tgid = seen_as(parent, target->pid_namespace);
	lineage->grandparent_tgid = seen_as(parent->real_parent->group_leader, target->pid_namespace);
}

#endif
