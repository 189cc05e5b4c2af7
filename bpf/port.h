/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Listening sockets: the target that a socket belongs to, and the record that reports it. tcp.h and
 * udp.h decide when a record is made.
 *
 * A socket belongs to the container of the process that calls listen(2) or bind(2) on it, wherever
 * that process was moved. If that process is no member of a container, the cgroup or network
 * namespace of the socket decides. When a listener is closed, the current task shows nothing: it is
 * the last process that has the socket open, which may be another one, or a kernel thread.
 *
 * Fields of sockets are read with bpf_probe_read_kernel() only. Programs that are attached to a
 * cgroup get a socket as a struct bpf_sock, which has none of these fields.
 */
#ifndef LOOKOUT_PORT_H
#define LOOKOUT_PORT_H

/* The network namespace of a socket. */
static __always_inline struct net *network_of(struct sock *socket)
{
	struct net *network = NULL;

	READ(network, &socket->__sk_common.skc_net.net);
	return network;
}

/* The target that owns the network namespace of a socket; NULL if the namespace has no owner. */
static __always_inline struct lookout_target *target_by_netns(struct sock *socket)
{
	struct net *network = network_of(socket);
	__u64 cookie = 0;
	__u64 *id;

	READ(cookie, &network->net_cookie);
	id = bpf_map_lookup_elem(&networks, &cookie);
	return id ? bpf_map_lookup_elem(&targets, id) : NULL;
}

/* The cgroup in which a socket was created; NULL if the kernel does not record it. */
static __always_inline struct cgroup *cgroup_of(struct sock *socket)
{
	struct cgroup *cgroup = NULL;

	if (FIELD_EXISTS(socket->sk_cgrp_data))
		READ(cgroup, &socket->sk_cgrp_data.cgroup);
	return cgroup;
}

/*
 * The target of the cgroup in which the socket was created. If there is none, the target that owns
 * the network namespace of the socket; a shared namespace has no owner.
 */
static __always_inline struct lookout_target *target_of_socket(struct sock *socket)
{
	const struct lookout_config *settings = configuration();
	struct cgroup *cgroup = cgroup_of(socket);
	struct kernfs_node *node = NULL;
	struct lookout_target *found;
	__u64 id = 0;

	if (cgroup) {
		READ(node, &cgroup->kn);
		READ(id, &node->id);
		found = bpf_map_lookup_elem(&targets, &id);
		if (!found && settings && settings->levels)
			found = target_by_ancestor(cgroup, settings->levels);
		if (found)
			return found;
	}
	return target_by_netns(socket);
}

/* Removes and returns the remembered target of a socket; NULL if none is remembered. */
static __always_inline struct lookout_target *take_remembered_target(__u64 cookie)
{
	struct lookout_listener copy, *entry = bpf_map_lookup_elem(&listeners, &cookie);
	struct lookout_target *target;
	__u32 *total;

	if (!entry)
		return NULL;
	/* Copied first: another CPU may reuse the memory of the entry as soon as it is deleted. */
	copy = *entry;
	/* Two programs may find the same entry. Only the one that deletes it counts down. */
	if (bpf_map_delete_elem(&listeners, &cookie))
		return NULL;
	target = bpf_map_lookup_elem(&targets, &copy.target);
	if (!copy.is_counted)
		return target;
	total = entry_count_of(LOOKOUT_SHARED_LISTENERS);
	if (total)
		count_down(total);
	if (target)
		count_down(&target->listeners);
	return target;
}

/*
 * Remembers the target of a socket until the socket closes, for a socket that does not show its
 * target itself. If the target has used up its share of the map, its close will not be reported,
 * which is counted as one lost record.
 */
static __always_inline void remember_target(__u64 cookie, struct lookout_target *target)
{
	__u32 *total = entry_count_of(LOOKOUT_SHARED_LISTENERS);
	struct lookout_listener entry = { .target = target->id, .is_counted = 1 };

	take_remembered_target(cookie);
	if (total && has_share_left(target->listeners, LOOKOUT_LISTENERS, total) &&
	    !bpf_map_update_elem(&listeners, &cookie, &entry, BPF_NOEXIST)) {
		__sync_fetch_and_add(total, 1);
		__sync_fetch_and_add(&target->listeners, 1);
		return;
	}
	count_refused_entry(target);
}

/* The target of a socket on which the current process calls listen(2) or bind(2). */
static __always_inline struct lookout_target *target_of_caller(struct lookout_target *of_socket)
{
	struct lookout_member *member = member_of(bpf_get_current_task_btf());
	struct lookout_target *home = NULL;

	if (member)
		home = bpf_map_lookup_elem(&targets, &member->target);
	return of_socket && (!home || home->is_tree) ? of_socket : home;
}

/* Address, port and address family of a socket. */
static __always_inline void capture_address(struct lookout_port *port, struct sock *socket)
{
	struct sock_common *common = &socket->__sk_common;
	struct inet_sock *inet = (void *)socket;
	__u16 source = 0, number = 0, family = 0;

	READ(source, &inet->inet_sport);
	READ(number, &common->skc_num);
	READ(family, &common->skc_family);
	/* At a close skc_num is 0 already and inet_sport still has the port: see tcp.h. */
	port->port = source ? __builtin_bswap16(source) : number;
	if (family == AF_INET6 && FIELD_EXISTS(common->skc_v6_rcv_saddr)) {
		bpf_probe_read_kernel(port->address, sizeof(port->address),
				      &common->skc_v6_rcv_saddr);
		port->flags |= LOOKOUT_INET6;
		if (READ_BIT(common, skc_ipv6only))
			port->flags |= LOOKOUT_INET6_ONLY;
	} else {
		bpf_probe_read_kernel(port->address, sizeof(__u32), &common->skc_rcv_saddr);
	}
}

/* The inode number of the file of a socket; 0 if it has no file. */
static __always_inline __u64 inode_of(struct sock *socket)
{
	struct inode *inode = NULL;
	struct socket *file_side = NULL;
	unsigned long number = 0;
	struct file *file = NULL;

	/*
	 * sk_socket is NULL for a socket of the kernel itself, and once the last descriptor is
	 * closed.
	 */
	READ(file_side, &socket->sk_socket);
	if (!file_side)
		return 0;
	READ(file, &file_side->file);
	if (!file)
		return 0;
	READ(inode, &file->f_inode);
	READ(number, &inode->i_ino);
	return number;
}

/*
 * Makes a record about a socket. With LOOKOUT_LISTEN it names the current process, with
 * LOOKOUT_UNLISTEN none.
 */
static __always_inline void emit_port(struct lookout_target *target, struct sock *socket,
				      __u64 cookie, __u32 kind, __u32 flags)
{
	struct lookout_port *record = reserve(target, sizeof(*record));
	struct net *network;

	if (!record)
		return;
	__builtin_memset(record, 0, sizeof(*record));
	if (kind == LOOKOUT_LISTEN) {
		fill_process_header(&record->header, kind, sizeof(*record),
				    bpf_get_current_task_btf(), target, 0);
		record->inode = inode_of(socket);
	} else {
		fill_header(&record->header, kind, sizeof(*record), target);
	}
	record->cookie = cookie;
	network = network_of(socket);
	READ(record->network_cookie, &network->net_cookie);
	READ(record->network_namespace, &network->ns.inum);
	record->flags = flags;
	capture_address(record, socket);
	/*
	 * Changes of ports are rare and clients wait for them, so each wakes the reader at once,
	 * unlike process records: see wakeup_flags().
	 */
	bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
}

#endif
