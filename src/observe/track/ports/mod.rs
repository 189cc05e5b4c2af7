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
//! Records and dumps may be received in any order: a socket that was opened after a dump began is
//! not closed because the dump lacks it, and a socket that was closed during the dump is not opened
//! again because the dump has it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    model::{Endpoint, Owner, Port, Socket, Transport},
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
    /// The cookies of each port's sockets.
    ports: HashMap<Key, Vec<u64>>,
    /// How many sockets have no port number yet.
    unnumbered: usize,
    /// During a dump: when it began, and the cookies of the sockets that were closed since.
    dump: Option<(u64, HashSet<u64>)>,
}

/// One port of a target: its network namespace and its endpoint.
type Key = (u32, Endpoint);

#[derive(Debug)]
/// A socket that listens, or that is bound if it is a UDP socket.
struct OpenSocket {
    socket: Socket,
    since_ns: u64,
    owners: Vec<Owner>,
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
            known.owners = vec![owner];
            return Ok(Vec::new());
        }
        if target.sockets.len() >= SOCKETS_MAX {
            return Err(Full);
        }
        let opened =
            target.open(OpenSocket { socket, since_ns: at_ns, owners: vec![owner] }, at_ns);
        Ok(opened.into_iter().collect())
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

    /// A dump is complete. `found` has all listening sockets of the target, each with its owners as
    /// far as they are known. `udp` has the cookies of all its UDP sockets; `None` if they were not
    /// read. A UDP socket that `udp` lacks is closed; an unknown one in it opens no port, because
    /// the kernel's list does not show whether a socket was bound or has just sent. `at_ns` is the
    /// time of the changes that only the dump shows.
    pub fn apply_dump(
        &mut self,
        target: TargetId,
        at_ns: u64,
        found: Vec<(Socket, Vec<Owner>)>,
        udp: Option<&HashSet<u64>>,
    ) -> Vec<Change> {
        let Some(target) = self.targets.get_mut(&target) else { return Vec::new() };
        let Some((began_ns, ended)) = target.dump.take() else { return Vec::new() };
        let mut changes = Vec::new();
        let alive: HashSet<u64> = found.iter().map(|(socket, _)| socket.cookie).collect();
        let is_missing = |socket: Socket| match socket.endpoint.transport {
            Transport::Tcp => !alive.contains(&socket.cookie),
            Transport::Udp => udp.is_some_and(|udp| !udp.contains(&socket.cookie)),
        };
        // A socket that was opened during the dump may be missing from it.
        let is_closed = |open: &OpenSocket| open.since_ns < began_ns && is_missing(open.socket);
        // The order of a hash map is random. Events are reported in the order in which the sockets
        // opened.
        let mut closed: Vec<&OpenSocket> =
            target.sockets.values().filter(|open| is_closed(open)).collect();
        closed.sort_unstable_by_key(|open| (open.since_ns, open.socket.cookie));
        let closed: Vec<u64> = closed.into_iter().map(|open| open.socket.cookie).collect();
        changes.extend(closed.into_iter().filter_map(|cookie| target.close(cookie, at_ns)));
        for (socket, owners) in found {
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

    /// The dump has failed.
    pub fn fail_dump(&mut self, target: TargetId) {
        if let Some(target) = self.targets.get_mut(&target) {
            target.dump = None;
        }
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
    pub fn set_owners(&mut self, target: TargetId, cookie: u64, owners: Vec<Owner>) {
        let open = self.targets.get_mut(&target).and_then(|target| target.sockets.get_mut(&cookie));
        if let Some(open) = open
            && !owners.is_empty()
        {
            open.owners = owners;
        }
    }

    /// The open ports of a target, by endpoint, each with all its owners.
    #[must_use]
    pub fn snapshot(&self, target: TargetId) -> Vec<Port> {
        let Some(target) = self.targets.get(&target) else { return Vec::new() };
        let ports: BTreeSet<Key> = target.ports.keys().copied().collect();
        ports.into_iter().map(|key| target.port(key)).collect()
    }

    /// Ends a target: closes the ports that are still open.
    pub fn end(&mut self, target: TargetId, at_ns: u64) -> Vec<Change> {
        let Some(target) = self.targets.remove(&target) else { return Vec::new() };
        let ports: BTreeSet<Key> = target.ports.keys().copied().collect();
        let close = |key| Change {
            at_ns,
            is_open: false,
            is_late: false,
            port: Arc::new(target.port(key)),
        };
        ports.into_iter().map(close).collect()
    }
}

impl Target {
    /// Adds a socket, and opens its port if the number is known.
    fn open(&mut self, open: OpenSocket, at_ns: u64) -> Option<Change> {
        let socket = open.socket;
        self.sockets.insert(socket.cookie, open);
        if socket.endpoint.port == 0 {
            self.unnumbered += 1;
            return None;
        }
        self.join(socket, at_ns, false)
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
        let key = key_of(socket);
        let cookies = self.ports.entry(key).or_default();
        cookies.push(socket.cookie);
        (cookies.len() == 1).then(|| Change {
            at_ns,
            is_open: true,
            is_late,
            port: Arc::new(self.port(key)),
        })
    }

    /// Removes a socket. The last one closes its port.
    fn close(&mut self, cookie: u64, at_ns: u64) -> Option<Change> {
        let socket = self.sockets.get(&cookie)?.socket;
        let key = key_of(socket);
        if socket.endpoint.port == 0 {
            self.unnumbered -= 1;
        }
        let is_last = self.ports.get(&key).is_some_and(|cookies| *cookies == [cookie]);
        let change = is_last.then(|| Change {
            at_ns,
            is_open: false,
            is_late: false,
            port: Arc::new(self.port(key)),
        });
        if is_last {
            self.ports.remove(&key);
        } else if let Some(cookies) = self.ports.get_mut(&key) {
            cookies.retain(|other| *other != cookie);
        }
        self.sockets.remove(&cookie);
        change
    }

    /// A port with the owners of all its sockets.
    fn port(&self, key: Key) -> Port {
        let cookies = self.ports.get(&key).into_iter().flatten();
        let mut owners: Vec<Owner> = Vec::new();
        for owner in
            cookies.filter_map(|cookie| self.sockets.get(cookie)).flat_map(|open| &open.owners)
        {
            if !owners.iter().any(|known| known.key == owner.key) {
                owners.push(owner.clone());
            }
        }
        owners.sort_unstable_by_key(|owner| (owner.key.start, owner.key.pid));
        Port { endpoint: key.1, owners }
    }
}

fn key_of(socket: Socket) -> Key {
    (socket.network_namespace, socket.endpoint)
}

#[cfg(test)]
mod tests;
