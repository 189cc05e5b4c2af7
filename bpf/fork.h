/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A process was created. */

SEC("tp_btf/sched_process_fork")
int lookout_on_fork(__u64 *context)
{
	/* The tracepoint names the current thread here, which is not always real_parent. */
	struct task_struct *forker = (void *)context[0];
	struct task_struct *child = (void *)context[1];
	struct task_struct *forker_leader = forker->group_leader;
	const struct lookout_member *member;
	struct lookout_target *home = NULL, *target;
	struct lookout_fork *record;
	__u32 forker_tgid;

	/* Threads are not reported. */
	if (child->pid != child->tgid)
		return 0;
	member = member_of(forker);
	if (member)
		home = bpf_map_lookup_elem(&targets, &member->target);
	target = choose(home, child);
	if (!target)
		return 0;
	forker_tgid = tgid_in_namespace(forker_leader, target->pid_namespace);
	/* Before the child runs, so that its first exec finds the entry. */
	enter(target, child, forker_leader, forker_tgid);
	record = reserve(target, sizeof(*record));
	if (!record)
		return 0;
	fill_process_header(&record->header, LOOKOUT_FORK, sizeof(*record), child, target);
	record->lineage.parent_start_ns = forker_leader->start_boottime;
	record->lineage.parent_tgid = forker_tgid;
	record->lineage.grandparent_tgid =
		tgid_in_namespace(forker_leader->real_parent->group_leader, target->pid_namespace);
	bpf_ringbuf_submit(record, wakeup_flags(target, record->header.at_ns));
	return 0;
}
