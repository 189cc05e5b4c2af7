/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A shim spawns a runtime. The shim runs this program directly before and after the spawn, on the
 * thread that spawns: only a program knows the number of that thread in the initial pid namespace.
 */
SEC("syscall")
int lookout_call(struct lookout_call *call)
{
	struct lookout_member shim = { .flags = LOOKOUT_SPAWNS }, *known;
	/* The verifier accepts no context as the value of a map. */
	struct lookout_call copy = { .id = call->id, .target = call->target };
	__u64 both = bpf_get_current_pid_tgid();
	__u32 tgid = both >> 32, tid = both;

	if (!copy.id)
		return bpf_map_delete_elem(&spawners, &tid);
	known = bpf_map_lookup_elem(&members, &tgid);
	if (known)
		/* The shim itself belongs to a watched tree. Only its threads change the flag. */
		known->flags |= LOOKOUT_SPAWNS;
	else if (bpf_map_update_elem(&members, &tgid, &shim, BPF_NOEXIST))
		return 1;
	return bpf_map_update_elem(&spawners, &tid, &copy, BPF_ANY);
}
