/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A UDP socket is bound, or released. UDP has no states that a tracepoint could report, so these
 * are cgroup programs.
 *
 * They are attached to the root of the unified hierarchy and run for each socket of the node. A UDP
 * client without bind(2), which gets its port from the kernel at its first send, is never reported,
 * because inet_autobind() has no hook. The release of a socket does not show whether its bind was
 * reported, so every reported socket is remembered until its release.
 */
#include "port.h"

/*
 * The context of these programs, as in include/uapi/linux/bpf.h. The pointer is the struct sock
 * itself, and the verifier rewrites each access to a field.
 */
struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
};

static __always_inline void report_bound(struct bpf_sock *context)
{
	struct sock *socket = (void *)context;
	struct lookout_target *target;
	__u64 cookie;

	/*
	 * A socket of the kernel itself, such as that of a tunnel, has no file. It is not reported,
	 * because no program runs at its release (inet_release(), sk_kern_sock).
	 */
	if (context->protocol != IPPROTO_UDP || !inode_of(socket))
		return;
	target = target_of_caller(target_of_socket(socket));
	if (!target)
		return;
	cookie = bpf_get_socket_cookie(context);
	remember_target(cookie, target);
	emit_port(target, socket, cookie, LOOKOUT_LISTEN, LOOKOUT_UDP);
}

/* All programs return 1: the kernel would refuse the operation after a 0. */
SEC("cgroup/post_bind4")
int lookout_on_bind4(struct bpf_sock *context)
{
	report_bound(context);
	return 1;
}

SEC("cgroup/post_bind6")
int lookout_on_bind6(struct bpf_sock *context)
{
	report_bound(context);
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
	target = take_remembered_target(cookie);
	if (target)
		emit_port(target, (void *)context, cookie, LOOKOUT_UNLISTEN, LOOKOUT_UDP);
	return 1;
}
