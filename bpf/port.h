/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A socket that is a port: whose it is, and what is told of it. tcp.h and udp.h say when.
 *
 * Whose it is, is asked of the socket and never of the task that happens to run: a listener can be closed
 * by whoever holds it last, and by a kernel thread.
 *
 * Sockets are only probed here: to programs of a cgroup the verifier gives them as a bpf_sock, which has none of this.
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

static __always_inline struct lookout_target *by_network(__u32 inode)
{
	__u64 *id = bpf_map_lookup_elem(&networks, &inode);

	return id ? bpf_map_lookup_elem(&targets, id) : NULL;
}

static __always_inline struct cgroup *cgroup_of(struct sock *socket)
{
	struct cgroup *cgroup = NULL;

	if (EXISTS(socket->sk_cgrp_data))
		READ(cgroup, &socket->sk_cgrp_data.cgroup);
	return cgroup;
}

/* The cgroup that made the socket; else the namespace that it is in, if that is somebody's own. */
static __always_inline struct lookout_target *target_of_socket(struct sock *socket, __u32 network)
{
	const struct lookout_config *set = configuration();
	struct cgroup *cgroup = cgroup_of(socket);
	struct kernfs_node *node = NULL;
	struct lookout_target *found;
	__u64 id = 0;

	if (cgroup) {
		READ(node, &cgroup->kn);
		READ(id, &node->id);
		found = bpf_map_lookup_elem(&targets, &id);
		if (!found && set && set->levels)
			found = by_ancestor(cgroup, set->levels);
		if (found)
			return found;
	}
	return by_network(network);
}

/* Of a socket whose end does not say whose it is. */
static __always_inline void remember(__u64 cookie, struct lookout_target *target)
{
	__u64 id = target->id;

	if (bpf_map_update_elem(&listeners, &cookie, &id, BPF_ANY)) {
		/* No room: its end will be missed, which counts as one loss. */
		__sync_fetch_and_add(&target->seen, 1);
		lose(target);
	}
}

static __always_inline struct lookout_target *recall(__u64 cookie)
{
	__u64 copy, *id = bpf_map_lookup_elem(&listeners, &cookie);

	if (!id)
		return NULL;
	copy = *id;
	bpf_map_delete_elem(&listeners, &cookie);
	return bpf_map_lookup_elem(&targets, &copy);
}

/* The tree of the process that runs, if anybody watches trees. */
static __always_inline struct lookout_target *by_current_tree(void)
{
	const struct lookout_config *set = configuration();

	return set && set->trees ? by_tree(((struct task_struct *)bpf_get_current_task_btf())->tgid) : NULL;
}

static __always_inline void take_address(struct lookout_port *port, struct sock *socket)
{
	struct sock_common *common = &socket->__sk_common;
	struct inet_sock *inet = (void *)socket;
	__u16 source = 0, number = 0, family = 0;

	READ(source, &inet->inet_sport);
	READ(number, &common->skc_num);
	READ(family, &common->skc_family);
	port->port = source ? __builtin_bswap16(source) : number;
	if (family == AF_INET6 && EXISTS(common->skc_v6_rcv_saddr)) {
		bpf_probe_read_kernel(port->address, sizeof(port->address), &common->skc_v6_rcv_saddr);
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

	/* NULL for a socket of the kernel's, and of one whose last descriptor is closed */
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

/* Tells of a socket: LOOKOUT_LISTEN by whoever runs, LOOKOUT_UNLISTEN by nobody. */
static __always_inline void tell_port(struct lookout_target *target, struct sock *socket, __u64 cookie, __u32 kind,
				      __u32 flags)
{
	struct lookout_port *record = room(target, sizeof(*record));

	if (!record)
		return;
	__builtin_memset(record, 0, sizeof(*record));
	if (kind == LOOKOUT_LISTEN) {
		describe(&record->header, kind, sizeof(*record), bpf_get_current_task_btf(), target);
		record->inode = inode_of(socket);
	} else {
		address(&record->header, kind, sizeof(*record), target);
	}
	record->cookie = cookie;
	record->network_namespace = network_of(socket);
	record->flags = flags;
	take_address(record, socket);
	/* A port is worth a wake-up at once. */
	bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
}

#endif
