/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A process was created. */

/*
 * Puts the child of a process in a watched tree into the same tree. This happens before the first
 * look-up of the child, so its fork is already attributed to the tree.
 */
static __always_inline void inherit_tree(__u32 parent, __u32 child)
{
	__u64 *id = bpf_map_lookup_elem(&trees, &parent);
	struct lookout_target *target;
	__u64 copy;

	if (!id) {
		/* An earlier process with this tgid may have left an entry. */
		bpf_map_delete_elem(&trees, &child);
		return;
	}
	copy = *id;
	target = bpf_map_lookup_elem(&targets, &copy);
	if (!target || !bpf_map_update_elem(&trees, &child, &copy, BPF_ANY))
		return;
	/*
	 * `trees` is full: this child and its descendants are missed. The loss is counted once, and
	 * `seen` with it, so that seen == delivered + lost still holds.
	 */
	__sync_fetch_and_add(&target->seen, 1);
	count_lost(target);
}

SEC("tp_btf/sched_process_fork")
int lookout_on_fork(__u64 *context)
{
	struct task_struct *parent = (void *)context[0];
	struct task_struct *child = (void *)context[1];
	const struct lookout_config *settings = configuration();
	struct lookout_target *target;
	struct lookout_fork *record;

	/* Threads are not reported. */
	if (child->pid != child->tgid)
		return 0;
	if (settings && settings->trees)
		inherit_tree(parent->tgid, child->tgid);
	target = target_of(child);
	if (!target)
		return 0;
	record = reserve(target, sizeof(*record));
	if (!record)
		return 0;
	fill_process_header(&record->header, LOOKOUT_FORK, sizeof(*record), child, target);
	fill_lineage(&record->lineage, child, target);
	bpf_ringbuf_submit(record, wakeup_flags(target, record->header.at_ns));
	return 0;
}
