/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A process was created. */

/*
 * The runtime call for which this thread spawns the OCI runtime at the moment; NULL if it spawns
 * none.
 */
static __always_inline const struct lookout_runtime_call *
call_of_spawner(const struct lookout_member *member, struct task_struct *thread)
{
	const struct lookout_runtime_call *spawned;
	__u32 tid = thread->pid;
	__u64 id;

	/* Few processes are shims, so most forks end here and need no second look-up. */
	if (!member || !(member->flags & LOOKOUT_SPAWNS))
		return NULL;
	spawned = bpf_map_lookup_elem(&spawners, &tid);
	if (!spawned)
		return NULL;
	/*
	 * A shim that was killed while it spawned leaves its entry, and another thread may get its
	 * tid: only the entry of a call that lasts is valid.
	 */
	id = spawned->id;
	return bpf_map_lookup_elem(&calls, &id) ? spawned : NULL;
}

SEC("tp_btf/sched_process_fork")
int lookout_on_fork(__u64 *context)
{
	/* The tracepoint names the current thread here, which is not always real_parent. */
	struct task_struct *forker = (void *)context[0];
	struct task_struct *child = (void *)context[1];
	struct task_struct *leader = forker->group_leader;
	const struct lookout_member *member;
	const struct lookout_runtime_call *spawned;
	__u64 home_id = 0, call = 0;
	struct lookout_target *target;
	struct lookout_fork *record;
	__u32 forker_tgid, born;

	/* A new thread of the same process is not reported. */
	if (child->pid != child->tgid)
		return 0;
	member = member_of(forker);
	spawned = call_of_spawner(member, forker);
	if (spawned) {
		home_id = spawned->target;
		call = spawned->id;
	} else if (member) {
		home_id = member->target;
		call = member->call;
	}
	if (process_is_withheld(home_id, call)) {
		add_member(NULL, child, NULL, 0, call, 0);
		return 0;
	}
	target = choose_target(home_id ? bpf_map_lookup_elem(&targets, &home_id) : NULL, child);
	if (!target)
		return 0;
	if (target->id != home_id)
		call = 0;
	born = !spawned && target->id == home_id ? LOOKOUT_BORN : 0;
	forker_tgid = tgid_in_namespace(leader, target->pid_namespace);
	/* Before the child runs, so that its first exec finds the entry. */
	add_member(target, child, leader, forker_tgid, call, born);
	record = reserve(target, sizeof(*record));
	if (!record)
		return 0;
	fill_process_header(&record->header, LOOKOUT_FORK, sizeof(*record), child, target, call);
	record->header.flags = born;
	record->lineage.parent_start_ns = leader->start_boottime;
	record->lineage.parent_tgid = forker_tgid;
	record->lineage.grandparent_tgid =
		tgid_in_namespace(leader->real_parent->group_leader, target->pid_namespace);
	bpf_ringbuf_submit(record, wakeup_flags(target, record->header.at_ns));
	return 0;
}
