/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A process was made. */

/* A child of a watched tree belongs to it, before anyone can ask. */
static __always_inline void follow(__u32 parent, __u32 child)
{
	__u64 *id = bpf_map_lookup_elem(&trees, &parent);
	struct lookout_target *target;
	__u64 copy;

	if (!id) {
		/* What a process of the same tgid left behind. */
		bpf_map_delete_elem(&trees, &child);
		return;
	}
	copy = *id;
	target = bpf_map_lookup_elem(&targets, &copy);
	if (!target || !bpf_map_update_elem(&trees, &child, &copy, BPF_ANY))
		return;
	/* No room in `trees`: this child and all below it are missed, which counts as one loss. */
	__sync_fetch_and_add(&target->seen, 1);
	lose(target);
}

SEC("tp_btf/sched_process_fork")
int lookout_on_fork(__u64 *context)
{
	struct task_struct *parent = (void *)context[0];
	struct task_struct *child = (void *)context[1];
	const struct lookout_config *set = configuration();
	struct lookout_target *target;
	struct lookout_fork *record;

	/* A thread. */
	if (child->pid != child->tgid)
		return 0;
	if (set && set->trees)
		follow(parent->tgid, child->tgid);
	target = target_of(child);
	if (!target)
		return 0;
	record = room(target, sizeof(*record));
	if (!record)
		return 0;
	describe(&record->header, LOOKOUT_FORK, sizeof(*record), child, target);
	descend(&record->lineage, child, target);
	bpf_ringbuf_submit(record, quietly(target, record->header.at_ns));
	return 0;
}
