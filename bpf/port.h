/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A TCP socket begins or ceases to listen.
 *
 * Whose it is, is asked of the socket and never of the task that happens to run: a listener can be closed
 * by whoever holds it last, and by a kernel thread.
 *
 * LISTEN -> SYN_RECV fires for each accepted connection and is the new connection's; only LISTEN -> CLOSE is a
 * close. listen(2) without bind(2) has no port yet at the tracepoint (inet_csk_listen_start() comes to
 * get_port() after it), and an ephemeral port is given back before the close is told (tcp_set_state() comes to
 * inet_put_port() first): inet_sport still has it then.
 */

static __always_inline struct cgroup *cgroup_of(struct sock *socket)
{
	if (!EXISTS(socket->sk_cgrp_data))
		return NULL;
	return socket->sk_cgrp_data.cgroup;
}

static __always_inline struct lookout_target *by_network(__u32 inode)
{
	__u64 *id = bpf_map_lookup_elem(&networks, &inode);

	return id ? bpf_map_lookup_elem(&targets, id) : NULL;
}

/* The cgroup that made the socket; else the namespace that it is in, if that is somebody's own. */
static __always_inline struct lookout_target *target_of_socket(struct sock *socket, __u32 network)
{
	const struct lookout_config *set = configuration();
	struct cgroup *cgroup = cgroup_of(socket);
	struct lookout_target *found;
	__u64 id;

	if (cgroup) {
		id = cgroup->kn->id;
		found = bpf_map_lookup_elem(&targets, &id);
		if (!found && set && set->levels)
			found = by_ancestor(cgroup, set->levels);
		if (found)
			return found;
	}
	return by_network(network);
}

/*
 * A tree has neither a cgroup nor a namespace of its own: its sockets are those that its processes made listen,
 * remembered until they cease to, whoever closes them.
 */
static __always_inline struct lookout_target *target_in_tree(struct sock *socket, int listens)
{
	__u64 cookie = bpf_get_socket_cookie(socket), copy, *id;
	__u32 tgid = ((struct task_struct *)bpf_get_current_task_btf())->tgid;
	struct lookout_target *target;

	id = listens ? bpf_map_lookup_elem(&trees, &tgid) : bpf_map_lookup_elem(&listeners, &cookie);
	if (!id)
		return NULL;
	copy = *id;
	target = bpf_map_lookup_elem(&targets, &copy);
	if (!listens)
		bpf_map_delete_elem(&listeners, &cookie);
	else if (target && bpf_map_update_elem(&listeners, &cookie, &copy, BPF_ANY)) {
		/* No room: its end will be missed, which counts as one loss. */
		__sync_fetch_and_add(&target->seen, 1);
		lose(target);
	}
	return target;
}

static __always_inline void take_address(struct lookout_port *port, struct sock *socket)
{
	struct sock_common *common = &socket->__sk_common;
	struct inet_sock *inet = (void *)socket;
	__u16 source = 0;

	READ(source, &inet->inet_sport);
	port->port = source ? __builtin_bswap16(source) : common->skc_num;
	if (common->skc_family == AF_INET6 && EXISTS(common->skc_v6_rcv_saddr)) {
		bpf_probe_read_kernel(port->address, sizeof(port->address), &common->skc_v6_rcv_saddr);
		port->flags = LOOKOUT_INET6 | (BIT(common, skc_ipv6only) ? LOOKOUT_INET6_ONLY : 0);
	} else {
		bpf_probe_read_kernel(port->address, sizeof(__u32), &common->skc_rcv_saddr);
	}
}

static __always_inline __u64 inode_of(struct sock *socket)
{
	struct inode *inode = NULL;
	struct socket *file_side = socket->sk_socket;
	unsigned long number = 0;
	struct file *file = NULL;

	/* NULL for a socket of the kernel's, and of one whose last descriptor is closed */
	if (!file_side)
		return 0;
	READ(file, &file_side->file);
	if (!file)
		return 0;
	READ(inode, &file->f_inode);
	READ(number, &inode->i_ino);
	return number;
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
	struct lookout_port *record;
	__u32 network;

	int is_connection = before == TCP_ESTABLISHED || after == TCP_ESTABLISHED;

	if (!is_connection && after != TCP_LISTEN && (before != TCP_LISTEN || after != TCP_CLOSE))
		return 0;
	if (socket->sk_protocol != IPPROTO_TCP)
		return 0;
	network = socket->__sk_common.skc_net.net->ns.inum;
	target = target_of_socket(socket, network);
	if (is_connection) {
		if (target)
			count_connection(target, after == TCP_ESTABLISHED);
		return 0;
	}
	set = configuration();
	if (!target && set && set->trees)
		target = target_in_tree(socket, after == TCP_LISTEN);
	if (!target)
		return 0;
	record = room(target, sizeof(*record));
	if (!record)
		return 0;
	__builtin_memset(record, 0, sizeof(*record));
	if (after == TCP_LISTEN) {
		describe(&record->header, LOOKOUT_LISTEN, sizeof(*record), bpf_get_current_task_btf(), target);
		record->inode = inode_of(socket);
	} else {
		address(&record->header, LOOKOUT_UNLISTEN, sizeof(*record), target);
	}
	record->cookie = bpf_get_socket_cookie(socket);
	record->network_namespace = network;
	take_address(record, socket);
	/* A port is worth a wake-up at once. */
	bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
	return 0;
}
