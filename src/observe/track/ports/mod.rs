//! The open ports of each target, and the processes that own them.
//!
//! ```text
//!  listen, unlisten   records of one socket: a TCP socket listens, a UDP socket is bound
//!  apply_dump         a dump of the kernel's sockets, compared with what is known
//!        ▼
//!  Change             a port opened with its first socket, or closed with its last
//! ```
//!
//! A port is one endpoint in one network namespace, as one target sees it; with `SO_REUSEPORT` it
//! has several sockets. A socket is identified by its cookie, which the kernel never uses again.
//! Pure: never reads a clock or a file, and keeps at most [`SOCKETS_MAX`] sockets of a target.
//!
//! A dump shows nothing of the network namespaces that were not read for it. Readers of the events
//! know a namespace by its inode number only, which the kernel reuses. So before a port opens in a
//! namespace, the ports of an ended namespace with the same number are closed.
//!
//! Records and dumps may be received in any order: a socket that was opened after a dump began is
//! not closed because the dump lacks it, and a socket that was closed during the dump is not opened
//! again because the dump has it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    model::{Endpoint, NetworkNamespace, Owner, Owners, Port, Socket, Transport},
    observe::record::TargetId,
};

/// How many sockets of one target are kept at most. Further ones are counted as lost.
pub const SOCKETS_MAX: usize = 16_384;

/// The open ports of every target.
#[derive(Debug, Default)]
pub struct Ports {
    targets: BTreeMap<TargetId, Target>,
}

#[derive(Debug, Default)]
struct Target {
    /// The open sockets, by cookie.
    sockets: HashMap<u64, OpenSocket>,
    /// The cookies of the sockets of each port, by namespace. No inner map is empty.
    ports: BTreeMap<NetworkNamespace, BTreeMap<Endpoint, Vec<u64>>>,
    /// How many sockets have no port number yet.
    unnumbered: usize,
    /// During a dump: when it began, and the cookies of the sockets that were closed since.
    dump: Option<(u64, HashSet<u64>)>,
}

/// The sockets of a target that the kernel's lists have: what was read for a dump.
#[derive(Debug, Default)]
pub struct Dump {
    /// The network namespaces that were read, by inode number. A socket of any other namespace is
    /// not missing.
    pub read: HashMap<u32, ReadNamespace>,
    /// The cookies of all sockets in the lists, of whatever target.
    pub alive: HashSet<u64>,
    /// The listening sockets of the target, each with its owners as far as they are known.
    pub found: Vec<(Socket, Owners)>,
    /// The cookies of known sockets in namespaces that could not be read, which no process holds
    /// any longer.
    pub released: HashSet<u64>,
}

/// A network namespace that was read for a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadNamespace {
    /// The namespace.
    pub namespace: NetworkNamespace,
    /// Whether the UDP sockets were read, beside the listening ones.
    pub has_udp: bool,
}

impl Dump {
    /// Whether the socket does not exist any longer.
    fn lacks(&self, socket: Socket) -> bool {
        let Some(read) = self.read.get(&socket.network_namespace.inode) else {
            return self.released.contains(&socket.cookie);
        };
        let is_read = socket.endpoint.transport == Transport::Tcp || read.has_udp;
        // If another namespace has the number now, the socket's namespace has ended.
        read.namespace != socket.network_namespace
            || (is_read && !self.alive.contains(&socket.cookie))
    }
}

/// A socket that listens, or that is bound if it is a UDP socket.
#[derive(Debug)]
struct OpenSocket {
    socket: Socket,
    since_ns: u64,
    owners: Owners,
}

/// A port opened or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The time of the change: `CLOCK_MONOTONIC`, in nanoseconds.
    pub at_ns: u64,
    /// Whether the port opened; otherwise it closed.
    pub is_open: bool,
    /// Whether the change is reported late, because the port number was not known in time.
    pub is_late: bool,
    /// The port with the owners of all its sockets.
    pub port: Arc<Port>,
}

/// The target has [`SOCKETS_MAX`] sockets: this socket is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Ports {
    /// A socket listens; `owner` is the process that called listen(2). Returns no change if the
    /// port was open already, or if its number is not known yet.
    ///
    /// # Errors
    ///
    /// [`Full`] if the target has [`SOCKETS_MAX`] sockets and this socket is not one of them.
    pub fn listen(
        &mut self,
        target: TargetId,
        at_ns: u64,
        socket: Socket,
        owner: Owner,
    ) -> Result<Vec<Change>, Full> {
        let target = self.targets.entry(target).or_default();
        if let Some(known) = target.sockets.get_mut(&socket.cookie) {
            // A dump has reported this socket before. The owners in a dump are all holders of a
            // descriptor; only the record names the process that called listen(2).
            known.owners = owner.into();
            return Ok(Vec::new());
        }
        if target.sockets.len() >= SOCKETS_MAX {
            return Err(Full);
        }
        Ok(target.open(OpenSocket { socket, since_ns: at_ns, owners: owner.into() }, at_ns))
    }

    /// A socket no longer listens. Returns no change while another socket keeps the port open, and
    /// two changes (opened, closed) if the port number was not known until now.
    pub fn unlisten(&mut self, target: TargetId, at_ns: u64, socket: Socket) -> Vec<Change> {
        let Some(target) = self.targets.get_mut(&target) else { return Vec::new() };
        if let Some((_, ended)) = &mut target.dump {
            ended.insert(socket.cookie);
        }
        let Some(known) = target.sockets.get(&socket.cookie) else { return Vec::new() };
        let mut changes = Vec::new();
        if known.socket.endpoint.port == 0 && socket.endpoint.port != 0 {
            // The socket was closed before a dump could give its port number; the record of the
            // close has the number.
            changes.extend(target.number(socket.cookie, socket.endpoint));
        }
        changes.extend(target.close(socket.cookie, at_ns));
        changes
    }

    /// Whether a socket of this target has no port number yet, so that a dump is needed.
    #[must_use]
    pub fn awaits_number(&self, target: TargetId) -> bool {
        self.targets.get(&target).is_some_and(|target| target.unnumbered > 0)
    }

    /// A dump of the target's sockets begins. Give all records that were made until its end before
    /// [`apply_dump`](Self::apply_dump).
    pub fn begin_dump(&mut self, target: TargetId, at_ns: u64) {
        self.targets.entry(target).or_default().dump = Some((at_ns, HashSet::new()));
    }

    /// The sockets among `found` that are not known: the caller must find their owners.
    #[must_use]
    pub fn unknown_sockets(&self, target: TargetId, found: &[Socket]) -> Vec<Socket> {
        let known = self.targets.get(&target).map(|target| &target.sockets);
        let is_known =
            |socket: &&Socket| known.is_none_or(|known| !known.contains_key(&socket.cookie));
        found.iter().filter(is_known).copied().collect()
    }

    /// A dump is complete. A known socket is closed if it was opened before the dump began and the
    /// dump lacks it. An unknown UDP socket in it opens no port, because the
    /// kernel's list does not show whether a socket was bound or has just sent. `at_ns` is the time
    /// of the changes that only the dump shows.
    pub fn apply_dump(&mut self, target: TargetId, at_ns: u64, dump: Dump) -> Vec<Change> {
        let Some(target) = self.targets.get_mut(&target) else { return Vec::new() };
        let Some((began_ns, ended)) = target.dump.take() else { return Vec::new() };
        let is_closed = |open: &OpenSocket| open.since_ns < began_ns && dump.lacks(open.socket);
        let mut changes = target.close_all(is_closed, at_ns);
        for (socket, owners) in dump.found {
            if ended.contains(&socket.cookie) {
                // The socket was closed during the dump, after the dump had read it.
                continue;
            }
            match target.sockets.get(&socket.cookie) {
                Some(known) if known.socket.endpoint.port == 0 => {
                    changes.extend(target.number(socket.cookie, socket.endpoint));
                }
                Some(_) => {}
                // The socket is not counted as lost, because no record is about it.
                None if target.sockets.len() >= SOCKETS_MAX => {}
                None => changes
                    .extend(target.open(OpenSocket { socket, since_ns: at_ns, owners }, at_ns)),
            }
        }
        changes
    }

    /// The known sockets of a target, in no order.
    pub fn sockets(&self, target: TargetId) -> impl Iterator<Item = Socket> {
        self.targets
            .get(&target)
            .into_iter()
            .flat_map(|target| target.sockets.values().map(|open| open.socket))
    }

    /// Sets the processes that hold a socket. An empty list changes nothing: the last known owners
    /// stay.
    pub fn set_owners(&mut self, target: TargetId, cookie: u64, owners: Owners) {
        let open = self.targets.get_mut(&target).and_then(|target| target.sockets.get_mut(&cookie));
        if let Some(open) = open
            && owners.count > 0
        {
            open.owners = owners;
        }
    }

    /// The open ports of a target, by endpoint and namespace, each with its owners: those after a
    /// port, at most `most` of them.
    #[must_use]
    pub fn snapshot(
        &self,
        target: TargetId,
        after: Option<(Endpoint, NetworkNamespace)>,
        most: usize,
    ) -> Vec<Port> {
        let target = self.targets.get(&target);
        target.map(|target| target.snapshot(after, most)).unwrap_or_default()
    }

    /// Whether a port of a target is open.
    #[must_use]
    pub fn is_open(
        &self,
        target: TargetId,
        endpoint: Endpoint,
        network_namespace: NetworkNamespace,
    ) -> bool {
        let target = self.targets.get(&target);
        target.is_some_and(|target| !target.cookies(network_namespace, endpoint).is_empty())
    }

    /// Ends a target: closes the ports that are still open.
    pub fn end(&mut self, target: TargetId, at_ns: u64) -> Vec<Change> {
        let Some(target) = self.targets.remove(&target) else { return Vec::new() };
        target
            .snapshot(None, usize::MAX)
            .into_iter()
            .map(|port| Change::closed(at_ns, port))
            .collect()
    }
}

impl Change {
    fn closed(at_ns: u64, port: Port) -> Self {
        Self { at_ns, is_open: false, is_late: false, port: Arc::new(port) }
    }
}

impl Target {
    /// Adds a socket, and opens its port if the number is known. Closes the ports of an ended
    /// namespace first.
    fn open(&mut self, open: OpenSocket, at_ns: u64) -> Vec<Change> {
        let (socket, since_ns) = (open.socket, open.since_ns);
        let mut changes = self.close_ended(socket.network_namespace, since_ns, at_ns);
        self.sockets.insert(socket.cookie, open);
        if socket.endpoint.port == 0 {
            self.unnumbered += 1;
            return changes;
        }
        changes.extend(self.join(socket, at_ns, false));
        changes
    }

    /// Closes the older sockets of other namespaces with the same inode number: a number has one
    /// namespace at a time.
    fn close_ended(&mut self, by: NetworkNamespace, since_ns: u64, at_ns: u64) -> Vec<Change> {
        let NetworkNamespace { inode, .. } = by;
        let of_number = NetworkNamespace { inode, cookie: None }..=NetworkNamespace {
            inode,
            cookie: Some(u64::MAX),
        };
        if self.ports.range(of_number).all(|(namespace, _)| *namespace == by) {
            return Vec::new();
        }
        let is_of_ended = |open: &OpenSocket| {
            let namespace = open.socket.network_namespace;
            namespace.inode == inode && namespace != by && open.since_ns < since_ns
        };
        self.close_all(is_of_ended, at_ns)
    }

    /// Closes the sockets that match, in the order in which they opened: the order of a hash map is
    /// random.
    fn close_all(&mut self, matches: impl Fn(&OpenSocket) -> bool, at_ns: u64) -> Vec<Change> {
        let mut closed: Vec<&OpenSocket> =
            self.sockets.values().filter(|open| matches(open)).collect();
        closed.sort_unstable_by_key(|open| (open.since_ns, open.socket.cookie));
        let closed: Vec<u64> = closed.into_iter().map(|open| open.socket.cookie).collect();
        closed.into_iter().filter_map(|cookie| self.close(cookie, at_ns)).collect()
    }

    /// Sets the port number of a socket. The port counts as open since the socket began to listen.
    fn number(&mut self, cookie: u64, endpoint: Endpoint) -> Option<Change> {
        let open = self.sockets.get_mut(&cookie)?;
        open.socket.endpoint = endpoint;
        let (socket, since_ns) = (open.socket, open.since_ns);
        self.unnumbered -= 1;
        self.join(socket, since_ns, true)
    }

    /// Adds a socket to its port. The first one opens the port.
    fn join(&mut self, socket: Socket, at_ns: u64, is_late: bool) -> Option<Change> {
        let ports = self.ports.entry(socket.network_namespace).or_default();
        let cookies = ports.entry(socket.endpoint).or_default();
        cookies.push(socket.cookie);
        let is_first = cookies.len() == 1;
        is_first.then(|| {
            let port = self.port(socket.network_namespace, socket.endpoint);
            Change { at_ns, is_open: true, is_late, port: Arc::new(port) }
        })
    }

    /// Removes a socket. The last one closes its port.
    fn close(&mut self, cookie: u64, at_ns: u64) -> Option<Change> {
        let Socket { network_namespace: namespace, endpoint, .. } =
            self.sockets.get(&cookie)?.socket;
        if endpoint.port == 0 {
            self.unnumbered -= 1;
        }
        let cookies = self.cookies(namespace, endpoint);
        let change =
            (*cookies == [cookie]).then(|| Change::closed(at_ns, self.port(namespace, endpoint)));
        self.sockets.remove(&cookie);
        if let Some(ports) = self.ports.get_mut(&namespace) {
            if change.is_some() {
                ports.remove(&endpoint);
            } else if let Some(cookies) = ports.get_mut(&endpoint) {
                cookies.retain(|other| *other != cookie);
            }
            if ports.is_empty() {
                self.ports.remove(&namespace);
            }
        }
        change
    }

    fn snapshot(&self, after: Option<(Endpoint, NetworkNamespace)>, most: usize) -> Vec<Port> {
        let of_namespace = |(namespace, ports): (&NetworkNamespace, &BTreeMap<Endpoint, _>)| {
            ports.keys().map(|endpoint| (*endpoint, *namespace)).collect::<Vec<_>>()
        };
        let ports: BTreeSet<(Endpoint, NetworkNamespace)> =
            self.ports.iter().flat_map(of_namespace).collect();
        let wanted = ports.into_iter().filter(|port| after.is_none_or(|after| *port > after));
        let port = |(endpoint, namespace)| self.port(namespace, endpoint);
        wanted.take(most).map(port).collect()
    }

    fn cookies(&self, namespace: NetworkNamespace, endpoint: Endpoint) -> &[u64] {
        let ports = self.ports.get(&namespace);
        ports.and_then(|ports| ports.get(&endpoint)).map(Vec::as_slice).unwrap_or_default()
    }

    /// A port with the owners of all its sockets.
    fn port(&self, network_namespace: NetworkNamespace, endpoint: Endpoint) -> Port {
        let cookies = self.cookies(network_namespace, endpoint);
        let sockets = cookies.iter().filter_map(|cookie| self.sockets.get(cookie));
        let owners = Owners::union(sockets.map(|open| &open.owners));
        Port { endpoint, network_namespace, owners }
    }
}

#[cfg(test)]
mod tests;
