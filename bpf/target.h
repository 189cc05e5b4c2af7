/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Finding the target that a task belongs to.
 *
 * This runs for every process of the node, so the common case must be cheap: a process of the host
 * costs one failed look-up.
 */
#ifndef LOOKOUT_TARGET_H
#define LOOKOUT_TARGET_H

/* The bits of lookout_config.levels, and so the cgroup depths that are looked up. */
#define LEVELS_MAX 32

/*
 * The target of the deepest watched ancestor of a cgroup. All reads are probes, because the
 * verifier does not trust the type of a socket's cgroup pointer.
 */
static __always_inline struct lookout_target *by_ancestor(struct cgroup *cgroup, __u32 levels)
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

/* The target of the innermost pid namespace. The initial namespace belongs to no target. */
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
 * Reads the css_set of the given task, never that of the current one. runc 1.4 and later clones
 * into the cgroup, so at the fork only the child is in it (cgroup_post_fork() comes before the
 * tracepoint).
 */
static __always_inline struct lookout_target *target_of(struct task_struct *task)
{
	struct cgroup *cgroup = task->cgroups->dfl_cgrp;
	const struct lookout_config *settings;
	struct lookout_target *found;
	__u64 id = cgroup->kn->id;

	found = bpf_map_lookup_elem(&targets, &id);
	if (found)
		return found;
	/*
	 * From cheap to expensive; a process below a watched cgroup belongs to its ancestor's
	 * target.
	 */
	settings = configuration();
	if (!settings)
		return NULL;
	if (settings->levels) {
		found = by_ancestor(cgroup, settings->levels);
		if (found)
			return found;
	}
	found = by_namespace(task);
	if (found || !settings->trees)
		return found;
	return by_tree(task->tgid);
}

#endif
