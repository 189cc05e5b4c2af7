/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A TCP socket begins or ceases to listen, or is connected.
 *
 * LISTEN -> SYN_RECV fires for each accepted connection and is the new connection's; only LISTEN -> CLOSE is a
 * close. listen(2) without bind(2) has no port yet at the tracepoint (inet_csk_listen_start() comes to
 * get_port() after it), and an ephemeral port is given back before the close is told (tcp_set_state() comes to
 * inet_put_port() first): inet_sport still has it then.
 */
#include "port.h"

/*
 * A tree has neither a cgroup nor a namespace of its own: its sockets are those that its processes made listen,
 * remembered until they cease to, whoever closes them.
 */
static __always_inline struct lookout_target *target_in_tree(__u64 cookie, int listens)
{
	struct lookout_target *target;

	if (!listens)
		return recall(cookie);
	target = by_current_tree();
	if (target)
		remember(cookie, target);
	return target;
}

/* A connection comes or goes. Runs in whatever context the packet did. */
static __always_inline void count_connection(struct lookout_target *target, int comes)
{
	__u64 id = target->id;
	struct lookout_connections *counts = bpf_map_lookup_elem(&connections, &id);
	struct lookout_connected *record;

	if (!counts)
		return;
	__sync_fetch_and_add(&counts->open, comes ? 1 : -1);
	counts->changed_ns = bpf_ktime_get_ns();
	/* One record for the first; whoever deletes the entry makes it. */
	if (!comes || !bpf_map_lookup_elem(&awaited, &id) || bpf_map_delete_elem(&awaited, &id))
		return;
	record = room(target, sizeof(*record));
	if (!record)
		return;
	__builtin_memset(record, 0, sizeof(*record));
	address(&record->header, LOOKOUT_CONNECTED, sizeof(*record), target);
	bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
}

SEC("tp_btf/inet_sock_set_state")
int lookout_on_state(__u64 *context)
{
	struct sock *socket = (void *)context[0];
	int before = (int)context[1], after = (int)context[2];
	const struct lookout_config *set;
	struct lookout_target *target;
	__u64 cookie;

	int is_connection = before == TCP_ESTABLISHED || after == TCP_ESTABLISHED;

	if (!is_connection && after != TCP_LISTEN && (before != TCP_LISTEN || after != TCP_CLOSE))
		return 0;
	if (socket->sk_protocol != IPPROTO_TCP)
		return 0;
	target = target_of_socket(socket, socket->__sk_common.skc_net.net->ns.inum);
	if (is_connection) {
		if (target)
			count_connection(target, after == TCP_ESTABLISHED);
		return 0;
	}
	cookie = bpf_get_socket_cookie(socket);
	set = configuration();
	if (!target && set && set->trees)
		target = target_in_tree(cookie, after == TCP_LISTEN);
	if (target)
		tell_port(target, socket, cookie, after == TCP_LISTEN ? LOOKOUT_LISTEN : LOOKOUT_UNLISTEN, 0);
	return 0;
}
