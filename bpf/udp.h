/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A UDP socket is bound, and released: UDP has no state that a tracepoint would tell.
 *
 * Attached to the root of the unified hierarchy, so these run for each socket of the node, in its cgroup's name.
 * A client that the kernel gives a port as it sends is not bound and never told (inet_autobind() has no hook).
 * A release says nothing of the sort, so whatever was told is remembered until then.
 */
#include "port.h"

/* The context; include/uapi/linux/bpf.h. It is the struct sock itself, and each access to a field is rewritten. */
struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
};

static __always_inline void bound(struct bpf_sock *context)
{
	struct sock *socket = (void *)context;
	struct lookout_target *target;
	__u64 cookie;

	/* A tunnel's has no file, and its release is not told (inet_release(), sk_kern_sock). */
	if (context->protocol != IPPROTO_UDP || !inode_of(socket))
		return;
	target = target_of_socket(socket, network_of(socket));
	if (!target)
		target = by_current_tree();
	if (!target)
		return;
	cookie = bpf_get_socket_cookie(context);
	remember(cookie, target);
	tell_port(target, socket, cookie, LOOKOUT_LISTEN, LOOKOUT_UDP);
}

/* All of them answer 1, for 0 would forbid it. */
SEC("cgroup/post_bind4")
int lookout_on_bind4(struct bpf_sock *context)
{
	bound(context);
	return 1;
}

SEC("cgroup/post_bind6")
int lookout_on_bind6(struct bpf_sock *context)
{
	bound(context);
	return 1;
}

SEC("cgroup/sock_release")
int lookout_on_release(struct bpf_sock *context)
{
	struct lookout_target *target;
	__u64 cookie;

	if (context->protocol != IPPROTO_UDP)
		return 1;
	cookie = bpf_get_socket_cookie(context);
	target = recall(cookie);
	if (target)
		tell_port(target, (void *)context, cookie, LOOKOUT_UNLISTEN, LOOKOUT_UDP);
	return 1;
}
