/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A process runs a new image. The thread that called execve(2) is the leader by now: de_thread()
 * comes before the tracepoint.
 */

/*
 * Copies argv into the scratch buffer. execve(2) has just written it to the new stack, so its pages
 * are resident and the read does not fault as a rule.
 */
static __always_inline void capture_args(struct scratch *work, struct task_struct *task)
{
	const struct lookout_config *settings = configuration();
	struct lookout_exec *exec = &work->exec;
	__u64 start = task->mm->arg_start;
	__u64 length = task->mm->arg_end - start;

	exec->args_total = length;
	if (settings && length > settings->args_max)
		length = settings->args_max;
	if (length > LOOKOUT_ARGS_MAX)
		length = LOOKOUT_ARGS_MAX;
	if (bpf_probe_read_user(work->bytes, length, (void *)start)) {
		exec->flags |= LOOKOUT_ARGS_FAULTED;
		length = 0;
	}
	exec->args_length = length;
	work->walk.used = length;
}

/* Appends the paths of the executable and of the working directory to the exec record. */
static __always_inline void capture_paths(struct scratch *work, struct task_struct *task)
{
	struct lookout_exec *exec = &work->exec;
	struct walk *walk = &work->walk;
	struct file *file = task->mm->exe_file;
	__u32 before;

	walk->root_mount = task->fs->root.mnt;
	walk->root_dentry = task->fs->root.dentry;
	before = walk->used;
	if (!walk_up(walk, file->f_path.mnt, file->f_path.dentry))
		exec->flags |= LOOKOUT_EXECUTABLE_CUT;
	exec->executable_length = walk->used - before;
	if (!file->f_inode->i_nlink)
		exec->flags |= LOOKOUT_EXECUTABLE_DELETED;
	before = walk->used;
	if (!walk_up(walk, task->fs->pwd.mnt, task->fs->pwd.dentry))
		exec->flags |= LOOKOUT_DIRECTORY_CUT;
	exec->directory_length = walk->used - before;
}

/* The cgroup, the mount namespace, the effective user and group, and the name of the process. */
static __always_inline void capture_identity(struct lookout_exec *exec, struct task_struct *task)
{
	const struct cred *cred = task->cred;

	exec->cgroup = task->cgroups->dfl_cgrp->kn->id;
	exec->stack = task->mm->start_stack;
	exec->mount_namespace = task->nsproxy->mnt_ns->ns.inum;
	exec->uid = cred->euid.val;
	exec->gid = cred->egid.val;
	/* `task` is the current task at this tracepoint, so the helper reads its comm. */
	bpf_get_current_comm(exec->comm, sizeof(exec->comm));
}

SEC("tp_btf/sched_process_exec")
int lookout_on_exec(__u64 *context)
{
	struct task_struct *task = (void *)context[0];
	struct linux_binprm *program = (void *)context[2];
	const struct lookout_member *member = member_of(task);
	struct lookout_target *target;
	struct scratch *work;
	__u32 zero = 0, used;
	__u64 call = 0;
	void *ring;

	target = target_of(task, member);
	if (!target)
		return 0;
	if (member && member->target == target->id)
		call = member->call;
	else
		/*
		 * The process came into the container from outside, or from a watched process tree.
		 */
		add_member(target, task, NULL, 0, 0, 0);
	ring = begin_record(target);
	work = bpf_map_lookup_elem(&scratch, &zero);
	if (!ring || !work)
		goto lost;
	work->exec.flags = 0;
	work->exec.args_count = program->argc;
	capture_args(work, task);
	capture_identity(&work->exec, task);
	capture_paths(work, task);
	used = work->walk.used;
	/* Never true. Without this check the verifier does not know that the size is bounded. */
	if (used > EXEC_BYTES_MAX)
		goto lost;
	fill_process_header(&work->exec.header, LOOKOUT_EXEC, sizeof(work->exec) + used, task,
			    target, call);
	if (member && member->target == target->id && (member->flags & LOOKOUT_BORN_MEMBER))
		work->exec.header.flags |= LOOKOUT_BORN;
	if (call && target_by_cgroup_or_pidns(task) == target)
		work->exec.header.flags |= LOOKOUT_INSIDE;
	fill_lineage(&work->exec.lineage, task, member, target);
	if (!bpf_ringbuf_output(ring, work, sizeof(work->exec) + used,
				wakeup_flags(target, work->exec.header.at_ns)))
		return 0;
lost:
	count_lost(target);
	return 0;
}
