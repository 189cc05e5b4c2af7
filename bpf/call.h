/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Marks the calling thread as one that spawns the OCI runtime, or removes the mark if the id of the
 * call is 0. A shim runs this program on the thread that spawns, directly before and after the
 * spawn: only an eBPF program knows the number of that thread in the initial pid namespace.
 */
SEC("syscall")
int lookout_mark_spawner(struct lookout_runtime_call *call)
{
	struct lookout_member shim = { .flags = LOOKOUT_SPAWNS }, *known;
	/* Copied, because the verifier accepts no part of the context as the value of a map. */
	struct lookout_runtime_call copy = { .id = call->id, .target = call->target };
	__u64 both = bpf_get_current_pid_tgid();
	__u32 tgid = both >> 32, tid = both;

	if (!copy.id)
		return bpf_map_delete_elem(&spawners, &tid);
	known = bpf_map_lookup_elem(&members, &tgid);
	if (known)
		/*
		 * The shim is itself in a watched process tree. Only threads of this shim change
		 * the flag.
		 */
		known->flags |= LOOKOUT_SPAWNS;
	else if (bpf_map_update_elem(&members, &tgid, &shim, BPF_NOEXIST))
		return 1;
	return bpf_map_update_elem(&spawners, &tid, &copy, BPF_ANY);
}
