/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A process ended: its last thread did.
 *
 * do_exit() decrements signal->live and comes to the tracepoint later, so two threads that end at
 * once can both find 0 there. The first to say so is believed; `ended` remembers it. A single thread
 * has nobody to race with and costs no entry.
 */

static __always_inline int told_before(struct task_struct *task)
{
	struct lookout_ended key = { .start_ns = task->group_leader->start_boottime, .tgid = task->tgid };
	__u32 one = 1;

	if (task->signal->nr_threads > 1)
		return bpf_map_update_elem(&ended, &key, &one, BPF_NOEXIST) != 0;
	/* The other one may have been released meanwhile. */
	return bpf_map_lookup_elem(&ended, &key) != NULL;
}

/* Two fields of an inode with what is between them, where the running kernel has them so. */
struct place {
	struct super_block *super;
	__u64 mapping;
	__u64 security;
	__u64 number;
};

/* By one read where that can be: see follow_link(). */
static __always_inline void find(struct place *place, struct inode *inode)
{
	__u64 super_at = __builtin_preserve_field_info(((struct inode *)0)->i_sb, 0);
	__u64 number_at = __builtin_preserve_field_info(((struct inode *)0)->i_ino, 0);

	if (number_at == super_at + __builtin_offsetof(struct place, number)) {
		bpf_probe_read_kernel(place, sizeof(*place), (void *)inode + super_at);
		return;
	}
	READ(place->super, &inode->i_sb);
	READ(place->number, &inode->i_ino);
}

static __always_inline void identify(struct lookout_file *to, struct file *file)
{
	struct place place = {};
	struct inode *inode = NULL;
	__u32 device = 0;

	to->device = 0;
	to->inode = 0;
	if (!file)
		return;
	READ(inode, &file->f_inode);
	find(&place, inode);
	READ(device, &place.super->s_dev);
	to->inode = place.number;
	/* MKDEV has 20 bits of minor; new_encode_dev() puts 8 of them below the major */
	to->device = (device & 0xff) | ((device >> 20) << 8) | (((device & 0xfffff) & ~0xffU) << 12);
}

/* exit_files() comes after the tracepoint, so the table is whole. */
static __always_inline void outputs(struct lookout_file *to, struct task_struct *task)
{
	struct file *open[2] = {};
	struct file **table;

	if (task->files) {
		table = task->files->fdt->fd;
		READ(open, table + 1);
	}
	identify(&to[0], open[0]);
	if (open[1] == open[0])
		to[1] = to[0];
	else
		identify(&to[1], open[1]);
}

SEC("tp_btf/sched_process_exit")
int lookout_on_exit(__u64 *context)
{
	struct task_struct *task = (void *)context[0];
	struct signal_struct *signal = task->signal;
	const struct lookout_config *set = configuration();
	struct lookout_target *target;
	struct lookout_exit *record;
	__u32 tgid = task->tgid;

	if (signal->live.counter != 0)
		return 0;
	target = target_of(task);
	if (set && set->trees)
		bpf_map_delete_elem(&trees, &tgid);
	if (!target || told_before(task))
		return 0;
	record = room(target, sizeof(*record));
	if (!record)
		return 0;
	name(&record->header, LOOKOUT_EXIT, sizeof(*record), task, target);
	/* As wait_task_zombie() does. exit_code of the leader was set in its own do_exit(). */
	record->wait_status = signal->flags & SIGNAL_GROUP_EXIT ? signal->group_exit_code
								 : task->group_leader->exit_code;
	record->flags = signal->oom_mm ? LOOKOUT_OOM_KILLED : 0;
	outputs(record->outputs, task);
	bpf_ringbuf_submit(record, quietly(target, record->header.at_ns));
	return 0;
}
