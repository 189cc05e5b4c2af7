/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A TCP socket begins to listen, stops listening, or changes to or from ESTABLISHED.
 *
 * LISTEN -> SYN_RECV fires for each accepted connection and belongs to the new connection; only
 * LISTEN -> CLOSE is a close. After listen(2) without bind(2) the socket has no port yet at the
 * tracepoint, because inet_csk_listen_start() calls get_port() later. At a close, an ephemeral port
 * has been released already, because tcp_set_state() calls inet_put_port() before the tracepoint;
 * inet_sport still has the port then.
 */
#include "port.h"

/*
 * The target of a socket that begins (`listens`) or stops listening. The target of the caller of
 * listen(2) is remembered until the close if the socket itself shows another target or none: the
 * caller was moved into another cgroup, or belongs to a process tree, which has neither a cgroup
 * nor a namespace of its own.
 */
static __always_inline struct lookout_target *target_of_listener(struct lookout_target *of_socket,
								 __u64 cookie, int listens)
{
	struct lookout_target *target;

	if (!listens) {
		target = take_remembered_target(cookie);
		return target ? target : of_socket;
	}
	target = target_of_caller(of_socket);
	if (target && target != of_socket)
		remember_target(cookie, target);
	return target;
}

/*
 * Counts a TCP connection of a target that was established or closed. Runs in the context that
 * handles the packet, which may be an interrupt on behalf of another process.
 */
static __always_inline void count_connection(struct lookout_target *target, int is_established)
{
	__u64 id = target->id;
	struct lookout_connections *counts = bpf_map_lookup_elem(&connections, &id);
	struct lookout_connected *record;

	if (!counts)
		return;
	__sync_fetch_and_add(&counts->open, is_established ? 1 : -1);
	counts->changed_ns = bpf_ktime_get_ns();
	/*
	 * Only the program that deletes the entry of `awaited` makes the record, so there is
	 * exactly one.
	 */
	if (!is_established || !bpf_map_lookup_elem(&awaited, &id) ||
	    bpf_map_delete_elem(&awaited, &id))
		return;
	record = reserve(target, sizeof(*record));
	if (!record)
		return;
	__builtin_memset(record, 0, sizeof(*record));
	fill_header(&record->header, LOOKOUT_CONNECTED, sizeof(*record), target);
	bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
}

SEC("tp_btf/inet_sock_set_state")
int lookout_on_state(__u64 *context)
{
	struct sock *socket = (void *)context[0];
	int before = (int)context[1], after = (int)context[2];
	struct lookout_target *target;
	__u64 cookie;

	int is_connection = before == TCP_ESTABLISHED || after == TCP_ESTABLISHED;

	if (!is_connection && after != TCP_LISTEN && (before != TCP_LISTEN || after != TCP_CLOSE))
		return 0;
	/* The tracepoint fires for DCCP, SCTP and MPTCP too. */
	if (socket->sk_protocol != IPPROTO_TCP)
		return 0;
	target = target_of_socket(socket);
	if (is_connection) {
		if (target)
			count_connection(target, after == TCP_ESTABLISHED);
		return 0;
	}
	cookie = bpf_get_socket_cookie(socket);
	target = target_of_listener(target, cookie, after == TCP_LISTEN);
	if (target)
		emit_port(target, socket, cookie,
			  after == TCP_LISTEN ? LOOKOUT_LISTEN : LOOKOUT_UNLISTEN, 0);
	return 0;
}
