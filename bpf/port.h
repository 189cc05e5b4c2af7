/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Listening sockets: the target that a socket belongs to, and the record that reports it. tcp.h and
 * udp.h decide when a record is made.
 *
 * A socket belongs to the container whose process calls listen(2) or bind(2) on it, wherever that
 * process was moved. If that process is no member of a container, the socket itself decides. At a
 * close the current task decides nothing: a listener is closed by the last process that holds it,
 * which may be another one, or by a kernel thread.
 *
 * Sockets are read with bpf_probe_read_kernel() only. Programs that are attached to a cgroup get a
 * socket as a struct bpf_sock, which has none of these fields.
 */
#ifndef LOOKOUT_PORT_H
#define LOOKOUT_PORT_H

static __always_inline __u32 network_of(struct sock *socket)
{
	struct net *network = NULL;
	__u32 inode = 0;

	READ(network, &socket->__sk_common.skc_net.net);
	READ(inode, &network->ns.inum);
	return inode;
}

static __always_inline struct lookout_target *by_network(struct sock *socket)
{
	struct net *network = NULL;
	__u64 cookie = 0;
	__u64 *id;

	READ(network, &socket->__sk_common.skc_net.net);
	READ(cookie, &network->net_cookie);
	id = bpf_map_lookup_elem(&networks, &cookie);
	return id ? bpf_map_lookup_elem(&targets, id) : NULL;
}

static __always_inline struct cgroup *cgroup_of(struct sock *socket)
{
	struct cgroup *cgroup = NULL;

	if (EXISTS(socket->sk_cgrp_data))
		READ(cgroup, &socket->sk_cgrp_data.cgroup);
	return cgroup;
}

/*
 * The target of the cgroup that created the socket. Otherwise the target that owns the network
 * namespace of the socket; a shared namespace has no owner.
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
			found = by_ancestor(cgroup, settings->levels);
		if (found)
			return found;
	}
	return by_network(socket);
}

/* The remembered target of a socket, which is forgotten by this call. */
static __always_inline struct lookout_target *take_target(__u64 cookie)
{
	__u64 copy, *id = bpf_map_lookup_elem(&listeners, &cookie);
	struct lookout_target *target;
	__u32 *total;

	if (!id)
		return NULL;
	/* The entry may be reused by another CPU as soon as it is deleted. */
	copy = *id;
	/* Only the program that deletes the entry subtracts it. */
	if (bpf_map_delete_elem(&listeners, &cookie))
		return NULL;
	total = entries_of(LOOKOUT_SHARED_LISTENERS);
	if (total)
		count_down(total);
	target = bpf_map_lookup_elem(&targets, &copy);
	if (target)
		count_down(&target->listeners);
	return target;
}

/*
 * Keeps the target of a socket until the socket closes, where the socket does not identify it. If
 * the target has no share of the map left, the close will be missed, which counts as one loss.
 */
static __always_inline void remember_target(__u64 cookie, struct lookout_target *target)
{
	__u32 *total = entries_of(LOOKOUT_SHARED_LISTENERS);
	__u64 id = target->id;

	take_target(cookie);
	if (total && has_share(target->listeners, LOOKOUT_LISTENERS, total) &&
	    !bpf_map_update_elem(&listeners, &cookie, &id, BPF_NOEXIST)) {
		__sync_fetch_and_add(total, 1);
		__sync_fetch_and_add(&target->listeners, 1);
		return;
	}
	count_unshared(target);
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

static __always_inline void capture_address(struct lookout_port *port, struct sock *socket)
{
	struct sock_common *common = &socket->__sk_common;
	struct inet_sock *inet = (void *)socket;
	__u16 source = 0, number = 0, family = 0;

	READ(source, &inet->inet_sport);
	READ(number, &common->skc_num);
	READ(family, &common->skc_family);
	/* inet_sport outlives skc_num: see tcp.h. */
	port->port = source ? __builtin_bswap16(source) : number;
	if (family == AF_INET6 && EXISTS(common->skc_v6_rcv_saddr)) {
		bpf_probe_read_kernel(port->address, sizeof(port->address),
				      &common->skc_v6_rcv_saddr);
		port->flags |= LOOKOUT_INET6 | (BIT(common, skc_ipv6only) ? LOOKOUT_INET6_ONLY : 0);
	} else {
		bpf_probe_read_kernel(port->address, sizeof(__u32), &common->skc_rcv_saddr);
	}
}

static __always_inline __u64 inode_of(struct sock *socket)
{
	struct inode *inode = NULL;
	struct socket *file_side = NULL;
	unsigned long number = 0;
	struct file *file = NULL;

	/* NULL for a socket of the kernel itself, and once the last descriptor is closed. */
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

/* Reports a socket. LOOKOUT_LISTEN names the current process, LOOKOUT_UNLISTEN names none. */
static __always_inline void emit_port(struct lookout_target *target, struct sock *socket,
				      __u64 cookie, __u32 kind, __u32 flags)
{
	struct lookout_port *record = reserve(target, sizeof(*record));

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
	record->network_namespace = network_of(socket);
	record->flags = flags;
	capture_address(record, socket);
	/* Ports are rare and awaited by clients, so they are not collected: see wakeup_flags(). */
	bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
}

#endif
