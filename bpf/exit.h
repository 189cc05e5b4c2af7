/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A process ended, which means that its last thread did.
 *
 * do_exit() decrements signal->live and reaches the tracepoint later, so two threads that end at
 * the same time can both read 0 there. The map `ended` keeps the first of them, and only that one
 * is reported. A process with a single thread cannot race and needs no entry.
 */

/*
 * If the exiting process is the init of a pid namespace, deletes the entry of that namespace: the
 * kernel kills its other processes and lets no new one in. Their exits are still reported, because
 * they are members already or are in the container's cgroup.
 */
static __always_inline void forget_pidns_of_init(struct task_struct *task)
{
	struct pid *pid = task->signal->pids[PIDTYPE_TGID];
	struct upid innermost = {};
	__u32 level = pid->level;
	__u32 inode = 0;

	if (!level)
		return;
	READ(innermost, (void *)&pid->numbers + level * sizeof(innermost));
	if (innermost.nr != 1)
		return;
	READ(inode, &innermost.ns->ns.inum);
	bpf_map_delete_elem(&namespaces, &inode);
}

/* Whether another thread of the group has already reached this program as the last one. */
static __always_inline int exit_already_seen(struct task_struct *task)
{
	struct lookout_ended key = {
		.start_ns = task->group_leader->start_boottime,
		.tgid = task->tgid,
	};
	__u32 one = 1;

	if (task->signal->nr_threads > 1)
		return bpf_map_update_elem(&ended, &key, &one, BPF_NOEXIST) != 0;
	/*
	 * A single thread is left, because the group never had another, or because the thread that
	 * reported the exit was released already. In the second case there is an entry.
	 */
	return bpf_map_lookup_elem(&ended, &key) != NULL;
}

/*
 * `i_sb` to `i_ino` of struct inode in one piece, in the layout that most kernels have. `mapping`
 * and `security` only fill the space between the two fields that are used.
 */
struct inode_fields {
	struct super_block *super;
	__u64 mapping;
	__u64 security;
	__u64 number;
};

/* One read instead of two where the layout allows it, as in read_dentry_fields(). */
static __always_inline void read_inode_fields(struct inode_fields *fields, struct inode *inode)
{
	__u64 super_at = __builtin_preserve_field_info(((struct inode *)0)->i_sb, 0);
	__u64 number_at = __builtin_preserve_field_info(((struct inode *)0)->i_ino, 0);

	if (number_at == super_at + __builtin_offsetof(struct inode_fields, number)) {
		bpf_probe_read_kernel(fields, sizeof(*fields), (void *)inode + super_at);
		return;
	}
	READ(fields->super, &inode->i_sb);
	READ(fields->number, &inode->i_ino);
}

/* Device and inode of an open file; both are 0 for NULL. */
static __always_inline void identify_file(struct lookout_file *to, struct file *file)
{
	struct inode_fields fields = {};
	struct inode *inode = NULL;
	__u32 device = 0;

	to->device = 0;
	to->inode = 0;
	if (!file)
		return;
	READ(inode, &file->f_inode);
	read_inode_fields(&fields, inode);
	READ(device, &fields.super->s_dev);
	to->inode = fields.number;
	/* MKDEV has 20 bits of minor; new_encode_dev() puts 8 of them below the major. */
	to->device = (device & 0xff) | ((device >> 20) << 8) |
		     (((device & 0xfffff) & ~0xffU) << 12);
}

/* exit_files() comes after the tracepoint, so the file table still has all descriptors. */
static __always_inline void capture_outputs(struct lookout_file *to, struct task_struct *task)
{
	struct file *open[2] = {};
	struct file **table;

	if (task->files) {
		table = task->files->fdt->fd;
		/* Descriptors 1 and 2 are adjacent in the table: one read for both. */
		READ(open, table + 1);
	}
	identify_file(&to[0], open[0]);
	if (open[1] == open[0])
		to[1] = to[0];
	else
		identify_file(&to[1], open[1]);
}

SEC("tp_btf/sched_process_exit")
int lookout_on_exit(__u64 *context)
{
	struct task_struct *task = (void *)context[0];
	struct signal_struct *signal = task->signal;
	const struct lookout_member *member;
	struct lookout_target *target;
	struct lookout_exit *record;
	__u64 call = 0;

	if (signal->live.counter != 0)
		return 0;
	forget_pidns_of_init(task);
	member = member_of(task);
	target = target_of(task, member);
	/*
	 * If two threads end at the same time, the second one must find either the same member as
	 * the first one or the exit as already seen. So the member is deleted only after
	 * exit_already_seen().
	 */
	if (target && exit_already_seen(task))
		return 0;
	if (member) {
		if (target && member->target == target->id)
			call = member->call;
		delete_member(task->tgid);
	}
	if (!target)
		return 0;
	record = reserve(target, sizeof(*record));
	if (!record)
		return 0;
	fill_group_header(&record->header, LOOKOUT_EXIT, sizeof(*record), task, target, call);
	/*
	 * Chosen as in wait_task_zombie(). The leader's exit_code was set in the leader's own
	 * do_exit(), perhaps long before this thread's.
	 */
	record->wait_status = signal->flags & SIGNAL_GROUP_EXIT ? signal->group_exit_code
								 : task->group_leader->exit_code;
	record->flags = signal->oom_mm ? LOOKOUT_OOM_KILLED : 0;
	capture_outputs(record->outputs, task);
	bpf_ringbuf_submit(record, wakeup_flags(target, record->header.at_ns));
	return 0;
}
