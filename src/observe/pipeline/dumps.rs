//! Dumps: the kernel's lists of a target's sockets, compared with what records have reported.
//!
//! A dump is taken when the observation begins, after a loss, and when the kernel chose the port
//! number after it had reported the socket; repeatedly for a source that does not see ports.
//!
//! One list has the sockets of one network namespace. A dump reads the target's own namespace, and
//! each other one in which a port of the target is open. A dump that follows a scan also reads the
//! other namespaces of the target's processes: listeners may be in them that no record had. A
//! target without such namespaces costs one list.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Pipeline, monotonic_ns, ports::Repeated};
use crate::{
    model::{
        Grade, ListedSocket, NetworkNamespace, Owners, ProcessKey, Socket, SocketState, Transport,
    },
    observe::{
        record::TargetId,
        source::Target,
        track::ports::{self, ReadNamespace},
    },
    platform::{cgroup, process::socket_holders, sockets},
};

/// How many living processes of a target are tried for access to its network namespace when its
/// init has ended.
const PIDS_TRIED: usize = 8;

/// How many further namespaces of a target are read for one dump: each costs a thread. The sockets
/// in those beyond are treated as those in namespaces that cannot be read.
const NESTED_MAX: usize = 64;

/// The sockets of a target at one moment, from the kernel's lists.
struct Dump {
    /// `CLOCK_MONOTONIC` just before the first list was read, in nanoseconds.
    at_ns: u64,
    /// The listening sockets, also those of other targets.
    listening: Vec<ListedSocket>,
    /// The cookies of these and, where UDP was read, of all UDP sockets that have a port, connected
    /// or not. Those only serve to close ports: the list does not distinguish a bound socket from
    /// one that got a port by sending.
    alive: HashSet<u64>,
    read: HashMap<u32, ReadNamespace>,
    /// Whether the sockets in other namespaces are looked for among the descriptors of processes.
    finds_released: bool,
}

/// A namespace to read: its inode number, and processes that may be in it.
type Place = (u32, Vec<i32>);

impl Pipeline {
    /// Takes the dumps that are due now.
    pub(super) fn run_due_dumps(&mut self) {
        for watched in self.targets.values_mut() {
            watched.dump_if_listener_destroyed();
        }
        let due = self.targets.iter().filter(|(_, watched)| watched.is_dump_due());
        let due: Vec<TargetId> = due.map(|(id, _)| *id).collect();
        for id in due {
            self.dump_target(id, false);
            self.run_effects();
        }
    }

    /// Takes a dump and reports what differs from the known ports, with grade `snapshot`.
    pub(super) fn dump_target(&mut self, id: TargetId, follows_scan: bool) {
        let Some(dump) = self.dump(id, follows_scan) else { return };
        // Every record that was made until now is tracked before the comparison. Otherwise a socket
        // that closed before the dump would be closed without its record.
        for record in self.read_all() {
            self.record(record);
        }
        self.compare_dump(id, dump);
    }

    /// Reads the kernel's lists of a target's sockets; `None` if its ports are not observed.
    fn dump(&mut self, id: TargetId, follows_scan: bool) -> Option<Dump> {
        let at_ns = monotonic_ns();
        let network = self.targets.get_mut(&id)?.network.as_mut()?;
        let own = network.inode;
        let repeated = network.note_dump();
        self.ports.begin_dump(id, at_ns);
        // A source that sees no ports counts no connections either.
        if repeated.is_some() {
            self.check_connections(id);
        }
        // While processes start and end, they may enter further namespaces.
        let is_full = follows_scan || repeated.is_some_and(|Repeated { is_settled }| !is_settled);
        let has_udp: HashSet<u32> = self
            .ports
            .sockets(id)
            .filter(|socket| socket.endpoint.transport == Transport::Udp)
            .map(|socket| socket.network_namespace.inode)
            .collect();
        let mut dump = Dump {
            at_ns,
            listening: Vec::new(),
            alive: HashSet::new(),
            read: HashMap::new(),
            finds_released: follows_scan || repeated.is_some(),
        };
        for place in self.places(id, is_full) {
            let inode = place.0;
            match list(&place, SocketState::Listening) {
                Ok((namespace, listening)) => {
                    // A second request to the kernel, which is made only if there is a port to
                    // close.
                    let udp = has_udp.contains(&inode).then(|| list(&place, SocketState::WithPort));
                    let udp = udp.and_then(Result::ok).filter(|(of, _)| *of == namespace);
                    dump.read.insert(inode, ReadNamespace { namespace, has_udp: udp.is_some() });
                    let udp = udp.iter().flat_map(|(_, udp)| udp);
                    dump.alive.extend(listening.iter().chain(udp).map(|one| one.socket.cookie));
                    dump.listening.extend(listening);
                }
                // Another namespace may have ended meanwhile.
                Err(error) if inode == own => {
                    tracing::warn!(target = id.0, %error, "failed to list the listening sockets");
                }
                Err(_) => {}
            }
        }
        Some(dump)
    }

    /// Compares a dump with the known ports and reports the differences.
    fn compare_dump(&mut self, id: TargetId, dump: Dump) {
        let Dump { at_ns, listening, alive, read, finds_released } = dump;
        let mut sockets = self.belonging(id, listening);
        // The record of such a socket has its owner.
        sockets.retain(|socket| !self.is_waiting_socket(socket.cookie));
        // Finding owners reads the descriptors of every process, so it is done for new sockets
        // only.
        let strangers = self.ports.unknown_sockets(id, &sockets);
        self.adopt(id, &strangers);
        let mut found = self.owners(id, strangers);
        let strangers: HashSet<u64> = found.iter().map(|(socket, _)| socket.cookie).collect();
        let known = sockets.into_iter().filter(|socket| !strangers.contains(&socket.cookie));
        let known: Vec<_> = known.map(|socket| (socket, Owners::default())).collect();
        found.extend(known);
        let released =
            if finds_released { self.released_sockets(id, &read) } else { HashSet::new() };
        let dump = ports::Dump { read, alive, found, released };
        let changes = self.ports.apply_dump(id, at_ns, dump);
        self.emit_changes(id, changes, Grade::Snapshot);
    }

    /// Makes the source report the close of sockets that listened before a tree was watched. The
    /// source finds those of a container by their cgroup.
    fn adopt(&mut self, id: TargetId, found: &[Socket]) {
        let Some(watched) = self.targets.get_mut(&id) else { return };
        if found.is_empty() || matches!(watched.target, Target::Cgroup { .. }) {
            return;
        }
        for socket in found {
            self.source.adopt_listener(id, socket.cookie);
        }
        // A socket that has closed before it was adopted has no record, so a dump follows.
        if let Some(network) = &mut watched.network {
            network.dump_pending = true;
        }
    }

    /// The cookies of the known sockets outside of the namespaces that were read which no process
    /// holds.
    fn released_sockets(&self, id: TargetId, read: &HashMap<u32, ReadNamespace>) -> HashSet<u64> {
        let is_unread = |socket: &Socket| {
            socket.inode != 0 && !read.contains_key(&socket.network_namespace.inode)
        };
        let unread: Vec<Socket> = self.ports.sockets(id).filter(is_unread).collect();
        if unread.is_empty() {
            return HashSet::new();
        }
        let (holders, is_complete) = self.socket_holders(id);
        let is_released = |socket: &Socket| is_complete && !holders.contains_key(&socket.inode);
        unread.into_iter().filter(is_released).map(|socket| socket.cookie).collect()
    }

    /// The established TCP connections of a target in its own namespace.
    ///
    /// # Errors
    ///
    /// `NotFound` if the target's ports are not observed; otherwise the error of the last process
    /// that was tried.
    pub(super) fn connections(&self, id: TargetId) -> std::io::Result<Vec<Socket>> {
        let own = self.own_place(id).ok_or(std::io::ErrorKind::NotFound)?;
        let (_, listed) = list(&own, SocketState::Established)?;
        Ok(self.belonging(id, listed))
    }

    /// The bound UDP sockets of a target in all namespaces of its processes.
    pub(super) fn bound_sockets(&self, id: TargetId) -> Vec<Socket> {
        let places = self.places(id, true);
        let listed = places.iter().filter_map(|place| list(place, SocketState::Bound).ok());
        self.belonging(id, listed.flat_map(|(_, sockets)| sockets).collect())
    }

    /// The namespaces that a dump reads: the target's own, and those in which it has a port. With
    /// `is_full` also all others that its processes are in.
    fn places(&self, id: TargetId, is_full: bool) -> Vec<Place> {
        let Some(own) = self.own_place(id) else { return Vec::new() };
        let sockets = self.ports.sockets(id).map(|socket| socket.network_namespace.inode);
        let known: HashSet<u32> = sockets.filter(|inode| *inode != own.0).collect();
        if known.is_empty() && !is_full {
            return vec![own];
        }
        let mut nested: BTreeMap<u32, i32> = BTreeMap::new();
        for (_, process) in self.tracker.snapshot(Some(id)) {
            let Ok(inode) = sockets::namespace_of(process.key.pid) else { continue };
            if inode != own.0 && (is_full || known.contains(&inode)) {
                nested.entry(inode).or_insert(process.key.pid);
            }
        }
        // Those in which a port is known to be open come first.
        let mut nested: Vec<(u32, i32)> = nested.into_iter().collect();
        nested.sort_by_key(|(inode, _)| !known.contains(inode));
        nested.truncate(NESTED_MAX);
        let nested = nested.into_iter().map(|(inode, pid)| (inode, vec![pid]));
        std::iter::once(own).chain(nested).collect()
    }

    /// The target's own namespace. Init may have ended, so other processes are tried too.
    fn own_place(&self, id: TargetId) -> Option<Place> {
        let network = self.targets.get(&id)?.network.as_ref()?;
        let living = self.tracker.snapshot(Some(id));
        let living = living.iter().map(|(_, process)| process.key.pid).take(PIDS_TRIED);
        Some((network.inode, std::iter::once(network.init).chain(living).collect()))
    }

    /// Those of the listed sockets that belong to a target.
    fn belonging(&self, id: TargetId, listed: Vec<ListedSocket>) -> Vec<Socket> {
        let Some(watched) = self.targets.get(&id) else { return Vec::new() };
        let Some(network) = &watched.network else { return Vec::new() };
        let Target::Cgroup { path, .. } = &watched.target else {
            // A tree has no cgroup and no namespace. Its sockets are those that its processes hold.
            let tree: Vec<ProcessKey> =
                self.tracker.snapshot(Some(id)).iter().map(|(_, process)| process.key).collect();
            let (holders, _) = socket_holders(&tree);
            let sockets = listed.into_iter().map(|listed| listed.socket);
            return sockets.filter(|socket| holders.contains_key(&socket.inode)).collect();
        };
        let cgroups = cgroup::ids_below(path);
        let belongs = |ListedSocket { socket, cgroup }: &ListedSocket| {
            // Of the sockets in further namespaces, only the cgroup shows the target.
            let is_whole = network.is_whole && socket.network_namespace.inode == network.inode;
            let Some(cgroup) = cgroup else { return is_whole };
            let is_of_another_target =
                || self.targets.contains_key(&TargetId(*cgroup)) || self.source.is_watched(*cgroup);
            cgroups.contains(cgroup) || (is_whole && !is_of_another_target())
        };
        listed.into_iter().filter(belongs).map(|listed| listed.socket).collect()
    }
}

/// Lists the sockets of a namespace through the first process that is in it.
fn list(
    (inode, pids): &Place,
    state: SocketState,
) -> std::io::Result<(NetworkNamespace, Vec<ListedSocket>)> {
    let mut listed = Err(std::io::ErrorKind::NotFound.into());
    for pid in pids {
        listed = sockets::list(*pid, *inode, state);
        if listed.is_ok() {
            break;
        }
    }
    listed
}
