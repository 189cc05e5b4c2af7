/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Finding the target that a task belongs to.
 *
 * This runs for every process of the node, so the common case must be cheap: a process of the host
 * costs one failed look-up.
 */
#ifndef LOOKOUT_TARGET_H
#define LOOKOUT_TARGET_H

/*
 * The number of bits of lookout_config.levels: ancestors of a cgroup at depth LEVELS_MAX or deeper
 * are not looked up.
 */
#define LEVELS_MAX 32

/*
 * The target of the deepest watched ancestor of a cgroup. All reads are probes, because the
 * verifier does not trust the type of a socket's cgroup pointer.
 */
static __always_inline struct lookout_target *target_by_ancestor(struct cgroup *cgroup,
								 __u32 levels)
{
	struct lookout_target *deepest = NULL, *found;
	struct cgroup *above;
	int depth = 0, level;
	__u64 id;

	READ(depth, &cgroup->level);
	for (level = 0; level < LEVELS_MAX; level++) {
		if (level >= depth)
			break;
		if (!(levels & (1U << level)))
			continue;
		above = NULL;
		READ(above, (void *)&cgroup->ancestors + level * sizeof(above));
		struct kernfs_node *node = NULL;
		READ(node, &above->kn);
		id = 0;
		READ(id, &node->id);
		found = bpf_map_lookup_elem(&targets, &id);
		if (found)
			deepest = found;
	}
	return deepest;
}

/* MAX_PID_NS_LEVEL of the kernel, without the initial namespace. */
#define PID_LEVELS_MAX 32

/*
 * The target of the innermost watched pid namespace among those that the process is in. The initial
 * namespace belongs to no target.
 */
static __always_inline struct lookout_target *target_by_pidns(struct task_struct *task)
{
	struct pid *pid = task->signal->pids[PIDTYPE_TGID];
	struct lookout_target *innermost = NULL, *found;
	struct upid number = {};
	__u32 level, depth = pid->level;
	__u32 inode;
	__u64 *id;

	for (level = 1; level <= PID_LEVELS_MAX; level++) {
		if (level > depth)
			break;
		inode = 0;
		READ(number, (void *)&pid->numbers + level * sizeof(number));
		READ(inode, &number.ns->ns.inum);
		id = bpf_map_lookup_elem(&namespaces, &inode);
		found = id ? bpf_map_lookup_elem(&targets, id) : NULL;
		if (found)
			innermost = found;
	}
	return innermost;
}

/*
 * The target of the cgroup or the pid namespace that a task is in now.
 *
 * Reads the css_set of the given task, never that of the current one. runc 1.4 and later clones
 * into the cgroup, so at the fork only the child is in it (cgroup_post_fork() comes before the
 * tracepoint).
 */
static __always_inline struct lookout_target *target_by_cgroup_or_pidns(struct task_struct *task)
{
	struct cgroup *cgroup = task->cgroups->dfl_cgrp;
	const struct lookout_config *settings;
	struct lookout_target *found;
	__u64 id = cgroup->kn->id;

	found = bpf_map_lookup_elem(&targets, &id);
	if (found)
		return found;
	/*
	 * The next look-ups cost more. A process in a nested cgroup belongs to the target of the
	 * deepest watched ancestor.
	 */
	settings = configuration();
	if (settings && settings->levels) {
		found = target_by_ancestor(cgroup, settings->levels);
		if (found)
			return found;
	}
	return target_by_pidns(task);
}

/*
 * The entry of the thread group of a task in `members`. NULL if there is none, or if the entry is
 * that of an earlier process with the same tgid.
 */
static __always_inline struct lookout_member *member_of(struct task_struct *task)
{
	__u32 tgid = task->tgid;
	struct lookout_member *member = bpf_map_lookup_elem(&members, &tgid);

	if (!member)
		return NULL;
	if (member->start_ns && member->start_ns != task->group_leader->start_boottime)
		return NULL;
	return member;
}

/*
 * Whether a member with these fields is a process of a runtime call that still lasts and that has
 * no target yet. Its records are withheld from every target.
 */
static __always_inline int process_is_withheld(__u64 target, __u64 call)
{
	return call && !target && bpf_map_lookup_elem(&calls, &call);
}

/*
 * The target that gets the records of a task. `home` is the target of which it is a member, NULL if
 * it is no member. A process stays with the container that reported it first, into whatever cgroup
 * or namespace it moves. A process of a watched tree that enters a container belongs to the
 * container, because runtimes in a watched tree start containers of their own.
 */
static __always_inline struct lookout_target *choose_target(struct lookout_target *home,
							    struct task_struct *task)
{
	struct lookout_target *found;

	if (home && !home->is_tree)
		return home;
	found = target_by_cgroup_or_pidns(task);
	return found ? found : home;
}

/* The target that gets the records of a task; NULL if none does. */
static __always_inline struct lookout_target *target_of(struct task_struct *task,
							const struct lookout_member *member)
{
	if (!member)
		return target_by_cgroup_or_pidns(task);
	if (process_is_withheld(member->target, member->call))
		return NULL;
	return choose_target(bpf_map_lookup_elem(&targets, &member->target), task);
}

/*
 * Counts a lost record and wakes the reader, which then reads the count. Otherwise a loss would be
 * reported only with the target's next record, and what the lost record was about could have ended
 * by then. Only a record can wake the reader, so an empty record is reserved and discarded. If the
 * ring has no space even for that, the reader was already woken for the records that fill it.
 */
static __always_inline void count_lost(struct lookout_target *target)
{
	__u32 slot = target->slot;
	void *ring = bpf_map_lookup_elem(&rings, &slot);
	void *empty;

	__sync_fetch_and_add(&target->lost, 1);
	empty = ring ? bpf_ringbuf_reserve(ring, sizeof(__u64), 0) : NULL;
	if (empty)
		bpf_ringbuf_discard(empty, BPF_RB_FORCE_WAKEUP);
}

/* The count of the entries in a map that the targets share: enum lookout_shared. */
static __always_inline __u32 *entry_count_of(__u32 shared)
{
	return bpf_map_lookup_elem(&entries, &shared);
}

/*
 * Whether a target with `used` entries of a shared map may have another one. A target may have as
 * many entries as are free in the map. So one target that makes entries without end gets half of
 * the map, two that do so together get a third each, and the others always find free entries. If a
 * target may not have another entry, the caller counts a lost record.
 */
static __always_inline int has_share_left(__u32 used, __u32 capacity, const __u32 *total)
{
	return total && *total < capacity && used < capacity - *total;
}

/* Counts an entry that a target was refused, as a record that was seen and lost. */
static __always_inline void count_refused_entry(struct lookout_target *target)
{
	__sync_fetch_and_add(&target->refused, 1);
	__sync_fetch_and_add(&target->seen, 1);
	count_lost(target);
}

/* Counts down, but not below 0: entries of an earlier target with the same id may be left. */
static __always_inline void count_down(__u32 *count)
{
	if (*count)
		__sync_fetch_and_add(count, -1);
}

/* Deletes the member with this tgid, if there is one. */
static __always_inline void delete_member(__u32 tgid)
{
	struct lookout_member *member = bpf_map_lookup_elem(&members, &tgid);
	struct lookout_target *target;
	__u32 flags, *total;

	if (!member)
		return;
	flags = member->flags;
	target = bpf_map_lookup_elem(&targets, &member->target);
	/* Two programs may find the same entry. Only the one that deletes it counts down. */
	if (bpf_map_delete_elem(&members, &tgid))
		return;
	total = entry_count_of(LOOKOUT_SHARED_MEMBERS);
	if (total && (flags & LOOKOUT_IN_ENTRIES))
		count_down(total);
	if (target && (flags & LOOKOUT_IN_TARGET))
		count_down(&target->members);
}

/*
 * Makes a thread group a member of a target, in place of an earlier entry of the same tgid. The
 * target is NULL for a process of a runtime call with a container that has no target yet.
 *
 * A thread group that is refused an entry is still found by its cgroup or pid namespace, but not
 * after it has moved. This is counted as one lost record.
 */
static __always_inline void add_member(struct lookout_target *target, struct task_struct *task,
				       struct task_struct *forker, __u32 forker_tgid, __u64 call,
				       __u32 born)
{
	struct lookout_member member = {
		.start_ns = task->group_leader->start_boottime,
		.target = target ? target->id : 0,
		.call = call,
		.forker_start_ns = forker ? forker->start_boottime : 0,
		.forker_tgid = forker_tgid,
		.flags = LOOKOUT_IN_ENTRIES | (target ? LOOKOUT_IN_TARGET : 0) |
			 (born ? LOOKOUT_BORN_MEMBER : 0),
	};
	__u32 *total = entry_count_of(LOOKOUT_SHARED_MEMBERS);
	__u32 used = target ? target->members : 0;
	__u32 tgid = task->tgid;

	delete_member(tgid);
	if (total && has_share_left(used, LOOKOUT_MEMBERS, total) &&
	    !bpf_map_update_elem(&members, &tgid, &member, BPF_NOEXIST)) {
		__sync_fetch_and_add(total, 1);
		if (target)
			__sync_fetch_and_add(&target->members, 1);
		return;
	}
	if (target)
		count_refused_entry(target);
}

#endif
