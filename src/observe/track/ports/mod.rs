//! Which ports are open, and whose.
//!
//! ```text
//!  listen, unlisten   what a source saw of one socket: of TCP listening, of UDP bound
//!  look               what a dump of the kernel's sockets found, beside what was known
//!        ▼
//!  Change             a port opened with its first socket, or closed with its last
//! ```
//!
//! A port is one endpoint in one network namespace, as one target sees it; with `SO_REUSEPORT` it
//! has several sockets. Sockets are told apart by their cookie, which the kernel never uses again.
//! Pure: never reads a clock or a file, and keeps at most [`SOCKETS_MAX`] sockets of a target.
//!
//! Records and dumps may come in any order around each other: a socket that began after a dump is
//! not missing from it, and one that ended while it was taken is not found by it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    model::{Endpoint, Owner, Port, Socket, Transport},
    observe::record::TargetId,
};

/// How many sockets of one target are known at most; more are counted as lost.
pub const SOCKETS_MAX: usize = 16_384;

/// The open ports of every target.
#[derive(Debug, Default)]
pub struct Ports {
    targets: BTreeMap<TargetId, Target>,
}

#[derive(Debug, Default)]
struct Target {
    /// By cookie.
    sockets: HashMap<u64, Open>,
    /// The cookies of each port's sockets.
    ports: HashMap<Key, Vec<u64>>,
    /// How many sockets wait for their number.
    unnumbered: usize,
    /// Since when a dump is being taken, and what ended meanwhile.
    look: Option<(u64, HashSet<u64>)>,
}

/// One port of a target.
type Key = (u32, Endpoint);

#[derive(Debug)]
struct Open {
    socket: Socket,
    since_ns: u64,
    owners: Vec<Owner>,
}

/// A port opened or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When: `CLOCK_MONOTONIC`, in nanoseconds.
    pub at_ns: u64,
    /// Whether it opened.
    pub is_open: bool,
    /// Whether it is told later than it came, because its number was not known then.
    pub is_late: bool,
    /// What is told of it.
    pub port: Arc<Port>,
}

/// The target has [`SOCKETS_MAX`] sockets: this one is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Ports {
    /// A socket listens; `owner` called listen(2). No change if the port was open already, or if its
    /// number is not known yet.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn listen(
        &mut self,
        target: TargetId,
        at_ns: u64,
        socket: Socket,
        owner: Owner,
    ) -> Result<Vec<Change>, Full> {
        let target = self.targets.entry(target).or_default();
        if let Some(known) = target.sockets.get_mut(&socket.cookie) {
            // A dump was quicker, and knows no owner for certain.
            known.owners = vec![owner];
            return Ok(Vec::new());
        }
        if target.sockets.len() >= SOCKETS_MAX {
            return Err(Full);
        }
        let opened = target.open(Open { socket, since_ns: at_ns, owners: vec![owner] }, at_ns);
        Ok(opened.into_iter().collect())
    }

    /// A socket no longer listens. No change while another socket keeps the port open; two if the
    /// opening had waited for the number.
    pub fn unlisten(&mut self, target: TargetId, at_ns: u64, socket: Socket) -> Vec<Change> {
        let Some(target) = self.targets.get_mut(&target) else { return Vec::new() };
        if let Some((_, ended)) = &mut target.look {
            ended.insert(socket.cookie);
        }
        let Some(known) = target.sockets.get(&socket.cookie) else { return Vec::new() };
        let mut changes = Vec::new();
        if known.socket.endpoint.port == 0 && socket.endpoint.port != 0 {
            // It lived too shortly to be asked for its number; its end tells.
            changes.extend(target.number(socket.cookie, socket.endpoint));
        }
        changes.extend(target.close(socket.cookie, at_ns));
        changes
    }

    /// Whether a socket of this target waits for its number: a dump tells it.
    #[must_use]
    pub fn awaits_number(&self, target: TargetId) -> bool {
        self.targets.get(&target).is_some_and(|target| target.unnumbered > 0)
    }

    /// A dump of the target's sockets is about to be taken. Before it is [`found`](Self::found),
    /// give all records that were made until its end.
    pub fn look_began(&mut self, target: TargetId, at_ns: u64) {
        self.targets.entry(target).or_default().look = Some((at_ns, HashSet::new()));
    }

    /// The sockets among `found` whose owners nobody has told.
    #[must_use]
    pub fn strangers(&self, target: TargetId, found: &[Socket]) -> Vec<Socket> {
        let known = self.targets.get(&target).map(|target| &target.sockets);
        let is_known =
            |socket: &&Socket| known.is_none_or(|known| !known.contains_key(&socket.cookie));
        found.iter().filter(is_known).copied().collect()
    }

    /// What the dump found, each with its owners as far as they are known: all of the target's
    /// listening sockets. `udp` has the cookies of all of its UDP sockets, where they were looked
    /// for: what it lacks is gone, what it has beyond what records told opens no port. `at_ns` is
    /// the time of what the dump alone tells.
    pub fn found(
        &mut self,
        target: TargetId,
        at_ns: u64,
        found: Vec<(Socket, Vec<Owner>)>,
        udp: Option<&HashSet<u64>>,
    ) -> Vec<Change> {
        let Some(target) = self.targets.get_mut(&target) else { return Vec::new() };
        let Some((began_ns, ended)) = target.look.take() else { return Vec::new() };
        let mut changes = Vec::new();
        let alive: HashSet<u64> = found.iter().map(|(socket, _)| socket.cookie).collect();
        let is_missing = |socket: Socket| match socket.endpoint.transport {
            Transport::Tcp => !alive.contains(&socket.cookie),
            Transport::Udp => udp.is_some_and(|udp| !udp.contains(&socket.cookie)),
        };
        let is_gone = |open: &Open| open.since_ns < began_ns && is_missing(open.socket);
        let mut gone: Vec<&Open> = target.sockets.values().filter(|open| is_gone(open)).collect();
        gone.sort_unstable_by_key(|open| (open.since_ns, open.socket.cookie));
        let gone: Vec<u64> = gone.into_iter().map(|open| open.socket.cookie).collect();
        changes.extend(gone.into_iter().filter_map(|cookie| target.close(cookie, at_ns)));
        for (socket, owners) in found {
            if ended.contains(&socket.cookie) {
                continue;
            }
            match target.sockets.get(&socket.cookie) {
                Some(known) if known.socket.endpoint.port == 0 => {
                    changes.extend(target.number(socket.cookie, socket.endpoint));
                }
                Some(_) => {}
                None if target.sockets.len() >= SOCKETS_MAX => {}
                None => {
                    changes.extend(target.open(Open { socket, since_ns: at_ns, owners }, at_ns))
                }
            }
        }
        changes
    }

    /// The dump could not be had.
    pub fn look_failed(&mut self, target: TargetId) {
        if let Some(target) = self.targets.get_mut(&target) {
            target.look = None;
        }
    }

    /// Every socket that is known of a target.
    pub fn sockets(&self, target: TargetId) -> impl Iterator<Item = Socket> {
        self.targets
            .get(&target)
            .into_iter()
            .flat_map(|target| target.sockets.values().map(|open| open.socket))
    }

    /// Who holds a socket, where somebody was asked; none where nobody does changes nothing.
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

    /// Nothing more comes of a target: what is still open is closed.
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
    fn open(&mut self, open: Open, at_ns: u64) -> Option<Change> {
        let socket = open.socket;
        self.sockets.insert(socket.cookie, open);
        if socket.endpoint.port == 0 {
            self.unnumbered += 1;
            return None;
        }
        self.join(socket, at_ns, false)
    }

    /// A socket has its number: tells its port as opened when it was.
    fn number(&mut self, cookie: u64, endpoint: Endpoint) -> Option<Change> {
        let open = self.sockets.get_mut(&cookie)?;
        open.socket.endpoint = endpoint;
        let (socket, since_ns) = (open.socket, open.since_ns);
        self.unnumbered -= 1;
        self.join(socket, since_ns, true)
    }

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
        owners.sort_unstable_by_key(|owner| (owner.key.start_ticks, owner.key.pid));
        Port { endpoint: key.1, owners }
    }
}

fn key_of(socket: Socket) -> Key {
    (socket.network_namespace, socket.endpoint)
}

#[cfg(test)]
mod tests;
