/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Whose is a task?
 *
 * Runs for every process of the node, so what belongs to nobody must leave early: one failed look-up
 * for a process of the host.
 */
#ifndef LOOKOUT_TARGET_H
#define LOOKOUT_TARGET_H

/* Depths that fit lookout_config.levels. */
#define LEVELS 32

/* The deepest watched cgroup above this one. Only probed: a socket's is not of a type that the verifier trusts. */
static __always_inline struct lookout_target *by_ancestor(struct cgroup *cgroup, __u32 levels)
{
	struct lookout_target *deepest = NULL, *found;
	struct cgroup *above;
	int depth = 0, level;
	__u64 id;

	READ(depth, &cgroup->level);
	for (level = 0; level < LEVELS; level++) {
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

/* The innermost pid namespace; the initial one is nobody's. */
static __always_inline struct lookout_target *by_namespace(struct task_struct *task)
{
	struct pid *pid = task->signal->pids[PIDTYPE_TGID];
	struct upid innermost = {};
	__u32 level = pid->level;
	__u32 inode = 0;
	__u64 *id;

	if (!level)
		return NULL;
	READ(innermost, (void *)&pid->numbers + level * sizeof(innermost));
	READ(inode, &innermost.ns->ns.inum);
	id = bpf_map_lookup_elem(&namespaces, &inode);
	return id ? bpf_map_lookup_elem(&targets, id) : NULL;
}

static __always_inline struct lookout_target *by_tree(__u32 tgid)
{
	__u64 *id = bpf_map_lookup_elem(&trees, &tgid);

	return id ? bpf_map_lookup_elem(&targets, id) : NULL;
}

/*
 * The task's own css_set is asked, never current's: runc >= 1.4 clones into the cgroup, so at the
 * fork only the child is there already (cgroup_post_fork comes before the tracepoint).
 */
static __always_inline struct lookout_target *target_of(struct task_struct *task)
{
	struct cgroup *cgroup = task->cgroups->dfl_cgrp;
	const struct lookout_config *set;
	struct lookout_target *found;
	__u64 id = cgroup->kn->id;

	found = bpf_map_lookup_elem(&targets, &id);
	if (found)
		return found;
	set = configuration();
	if (!set)
		return NULL;
	if (set->levels) {
		found = by_ancestor(cgroup, set->levels);
		if (found)
			return found;
	}
	found = by_namespace(task);
	if (found || !set->trees)
		return found;
	return by_tree(task->tgid);
}

#endif
