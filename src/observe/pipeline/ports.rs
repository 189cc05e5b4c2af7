//! Ports of the targets: which sockets belong to which target, and which processes hold them.
//!
//! The owner of a recorded socket comes from the tracker. `/proc` is read only for a socket that a
//! dump found and no record had, and for a client's query. A *dump* is the kernel's list of a
//! target's sockets. It is taken when the observation begins, after a loss, and when the kernel
//! chose the port number after it had reported the socket.

use std::{
    collections::{BTreeMap, HashSet},
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{MIN_SCAN_INTERVAL, Pipeline, Watched, monotonic_ns};
use crate::{
    model::{Body, Grade, ListedSocket, Owner, Port, ProcessKey, Socket, SocketState, Transport},
    observe::{
        record::{Record, TargetId},
        source::Target,
        track::{
            Emission, RecordOutcome,
            ports::{Change, Full},
        },
    },
    platform::{
        cgroup,
        process::socket_holders,
        sockets::{self, DestroyedListeners},
    },
};

/// How many living processes of a target are tried for access to its network namespace when its
/// init has ended.
const PIDS_TRIED: usize = 8;

/// The delays between dumps, in milliseconds, for a source that does not see ports: the first after
/// an event of a process, the others after each dump. A server starts to listen at some time after
/// its start, which nothing reports.
const DUMP_BACKOFF_MS: [u64; 6] = [5, 20, 80, 320, 1280, 2000];

/// The least time between two dumps of one target for a source that does not see ports.
const MIN_DUMP_INTERVAL: Duration = Duration::from_millis(DUMP_BACKOFF_MS[0]);

/// The network namespace of a target.
#[derive(Debug)]
pub(super) struct Network {
    /// The inode number of the namespace.
    inode: u32,
    /// Whether it is a different namespace from this process's own.
    is_own: bool,
    /// Whether every socket in the namespace counts as the target's, even if it was made in another
    /// cgroup.
    is_whole: bool,
    /// The pid of the target's first process.
    init: i32,
    /// A dump is due as soon as [`MIN_SCAN_INTERVAL`] allows it.
    pub(super) dump_pending: bool,
    /// When the last dump was taken; `None` before the first.
    last_dump: Option<Instant>,
    /// The repeated dumps; `None` if the source sees ports.
    polling: Option<Polling>,
}

/// The target's sockets at one moment, from the kernel's list.
#[derive(Debug)]
pub(super) struct Dump {
    /// `CLOCK_MONOTONIC` just before the list was read, in nanoseconds.
    at_ns: u64,
    listening: Vec<Socket>,
    /// The cookies of all UDP sockets that have a port, connected or not; `None` if no UDP port is
    /// open, or if the list could not be read. The cookies only serve to close ports: the list does
    /// not distinguish a bound socket from one that got a port by sending.
    udp: Option<HashSet<u64>>,
}

/// When the next repeated dump is due.
#[derive(Debug)]
struct Polling {
    /// The kernel's notifications of destroyed listeners; `None` if they are unavailable.
    destroyed: Option<DestroyedListeners>,
    next: Instant,
    /// The index in [`DUMP_BACKOFF_MS`] of the delay after `next`.
    step: usize,
}

impl Pipeline {
    /// Observes the ports of a target: those of the sockets that processes in its cgroup made. If
    /// the target is in another network namespace than this process, all sockets in that namespace
    /// count that no other target made.
    ///
    /// `init` is the pid of its first process, `name` the container's id. `has_begun` means that
    /// the program of the target may run already, and so may have open ports.
    pub(in crate::observe) fn watch_ports(
        &mut self,
        id: TargetId,
        init: i32,
        name: &str,
        has_begun: bool,
    ) {
        let namespaces = sockets::namespace_of(init)
            .and_then(|of_init| Ok((of_init, sockets::own_namespace()?)));
        let (inode, own) = match namespaces {
            Ok(namespaces) => namespaces,
            Err(error) => {
                return tracing::warn!(
                    target = id.0,
                    %error,
                    "failed to read the network namespace of a target; its ports are not observed"
                );
            }
        };
        if let Some(watched) = self.targets.get_mut(&id) {
            watched.name = Some(name.into());
            let is_own = inode != own;
            watched.network = Some(Network {
                inode,
                is_own,
                is_whole: false,
                init,
                dump_pending: has_begun,
                last_dump: None,
                polling: None,
            });
        }
        self.attach_ports(id);
    }

    /// Makes the source report the ports of a target, or prepares repeated dumps if it cannot.
    pub(super) fn attach_ports(&mut self, id: TargetId) {
        let Some(watched) = self.targets.get(&id) else { return };
        let Some(&Network { inode, is_own, init, .. }) = watched.network.as_ref() else { return };
        // The sockets of a process tree are those that its processes hold, in any namespace.
        let is_own = is_own && matches!(watched.target, Target::Cgroup { .. });
        let sees = self.source.sees_ports();
        // The containers of a pod share a namespace. A socket in it that no container made counts
        // for one of the containers only.
        let has_namespace = |(other, watched): (&TargetId, &Watched)| {
            *other != id
                && watched
                    .network
                    .as_ref()
                    .is_some_and(|network| network.inode == inode && network.is_whole)
        };
        let is_whole = is_own
            && if sees {
                // Without a cookie the namespace has ended, and nothing listens in it.
                sockets::cookie_of(init, inode)
                    .is_ok_and(|cookie| self.source.watch_network(id, cookie))
            } else {
                !self.targets.iter().any(has_namespace)
            };
        let polling = (!sees).then(|| Polling {
            destroyed: DestroyedListeners::listen(init, inode)
                .inspect_err(|error| {
                    tracing::info!(
                        target = id.0,
                        %error,
                        "the kernel gives no notifications of closed ports; these are reported late"
                    );
                })
                .ok(),
            next: Instant::now(),
            step: 0,
        });
        if let Some(network) =
            self.targets.get_mut(&id).and_then(|watched| watched.network.as_mut())
        {
            // The namespace may be older than the container and may have listeners already.
            network.dump_pending |= is_whole;
            network.is_whole = is_whole;
            network.polling = polling;
        }
    }

    /// How long until the next repeated dump; `None` if no target has any.
    pub(super) fn next_dump_after(&self) -> Option<Duration> {
        let networks = self.targets.values().filter_map(|watched| watched.network.as_ref());
        let next = networks.filter_map(|network| Some(network.polling.as_ref()?.next)).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// The open ports of a target with all processes that hold them now: first those that were
    /// reported, then those that only the kernel's list has.
    pub(in crate::observe) fn ports(&mut self, id: TargetId) -> [Vec<Port>; 2] {
        let sockets: Vec<Socket> = self.ports.sockets(id).collect();
        for (socket, owners) in self.owners(id, sockets) {
            self.ports.set_owners(id, socket.cookie, owners);
        }
        let (mut ports, mut listed) = (self.ports.snapshot(id), Vec::<Port>::new());
        // UDP sockets that no event reported are listed only here. In the kernel's list they look
        // like clients that wait for an answer, so they cannot open ports.
        let reported: HashSet<u64> = self.ports.sockets(id).map(|socket| socket.cookie).collect();
        let mut bound = self.sockets(id, SocketState::Bound).unwrap_or_default();
        bound.retain(|socket| !reported.contains(&socket.cookie));
        for (socket, owners) in self.owners(id, bound) {
            match ports.iter_mut().chain(&mut listed).find(|port| port.endpoint == socket.endpoint)
            {
                Some(port) => port.owners.extend(owners),
                None => listed.push(Port { endpoint: socket.endpoint, owners }),
            }
        }
        [ports, listed]
    }

    /// Processes a record of a socket; ignores all other records.
    pub(super) fn record_socket(&mut self, record: &Record) {
        let (id, at_ns, changes) = match *record {
            Record::Listen { target, at_ns, socket, by, vpid } => {
                let owner = self.owner(by).unwrap_or(Owner::unknown(by, vpid));
                (target, at_ns, self.ports.listen(target, at_ns, socket, owner))
            }
            Record::Unlisten { target, at_ns, socket } => {
                (target, at_ns, Ok(self.ports.unlisten(target, at_ns, socket)))
            }
            Record::Connected { target, at_ns } => return self.record_connection(target, at_ns),
            Record::Process { .. } | Record::Scan { .. } | Record::Lost { .. } => return,
        };
        let Some(watched) = self.targets.get_mut(&id) else { return };
        // listen(2) without bind(2): the kernel chooses the port after the record. The kernel's
        // list of sockets has the port.
        if self.ports.awaits_number(id)
            && let Some(network) = &mut watched.network
        {
            network.dump_pending = true;
        }
        let outcome = match changes {
            Ok(changes) if changes.is_empty() => RecordOutcome::Silent,
            Ok(changes) => {
                self.emit_changes(id, changes, Grade::Exact);
                RecordOutcome::Reported
            }
            Err(Full) => RecordOutcome::NoCapacity,
        };
        self.tracker.count_socket_record(id, at_ns, outcome);
    }

    /// Reads the kernel's list of a target's sockets; `None` if its ports are not observed or if
    /// the list cannot be read.
    ///
    /// Every record that was made until now must be tracked before the dump goes to
    /// [`compare_dump`](Self::compare_dump). Otherwise a socket that closed before the dump would
    /// be closed without its record.
    pub(super) fn dump(&mut self, id: TargetId) -> Option<Dump> {
        let at_ns = monotonic_ns();
        let watched = self.targets.get_mut(&id)?;
        let network = watched.network.as_mut()?;
        network.dump_pending = false;
        let now = Instant::now();
        network.last_dump = Some(now);
        if let Some(polling) = &mut network.polling {
            polling.next = now + Duration::from_millis(DUMP_BACKOFF_MS[polling.step]);
            polling.step = (polling.step + 1).min(DUMP_BACKOFF_MS.len() - 1);
        }
        self.ports.begin_dump(id, at_ns);
        let is_polled = network.polling.is_some();
        let sockets = self.sockets(id, SocketState::Listening);
        // A source that sees no ports counts no connections either.
        if is_polled {
            self.check_connections(id);
        }
        match sockets {
            Ok(listening) => {
                let has_udp = self
                    .ports
                    .sockets(id)
                    .any(|socket| socket.endpoint.transport == Transport::Udp);
                // A second request to the kernel, which is made only if there is a port to close.
                let udp = has_udp.then(|| self.sockets(id, SocketState::WithPort));
                let udp = udp
                    .and_then(Result::ok)
                    .map(|sockets| sockets.iter().map(|socket| socket.cookie).collect());
                Some(Dump { at_ns, listening, udp })
            }
            Err(error) => {
                self.ports.fail_dump(id);
                tracing::warn!(target = id.0, %error, "failed to list the listening sockets");
                None
            }
        }
    }

    /// Compares a dump with the known ports and reports the differences with grade `snapshot`.
    pub(super) fn compare_dump(&mut self, id: TargetId, dump: Option<Dump>) {
        let Some(Dump { at_ns, listening: mut sockets, udp }) = dump else { return };
        // The record of such a socket has its owner.
        sockets.retain(|socket| !self.is_waiting_socket(socket.cookie));
        // Finding owners reads the descriptors of every process, so it is done for new sockets
        // only.
        let strangers = self.ports.unknown_sockets(id, &sockets);
        let mut owned = self.owners(id, strangers);
        let known = sockets
            .into_iter()
            .filter(|socket| owned.iter().all(|(other, _)| other.cookie != socket.cookie));
        let known: Vec<_> = known.map(|socket| (socket, Vec::new())).collect();
        owned.extend(known);
        let changes = self.ports.apply_dump(id, at_ns, owned, udp.as_ref());
        self.emit_changes(id, changes, Grade::Snapshot);
    }

    /// Takes the dumps that are due now.
    pub(super) fn run_due_dumps(&mut self) {
        for watched in self.targets.values_mut() {
            watched.dump_if_listener_destroyed();
        }
        let due = self.targets.iter().filter(|(_, watched)| watched.is_dump_due());
        let due: Vec<TargetId> = due.map(|(id, _)| *id).collect();
        for id in due {
            let dump = self.dump(id);
            for record in self.read_all() {
                self.record(record);
            }
            self.compare_dump(id, dump);
            self.run_effects();
        }
    }

    /// Reports all open ports of a target as closed, because the target ends.
    pub(super) fn end_ports(&mut self, id: TargetId) {
        let changes = self.ports.end(id, monotonic_ns());
        self.emit_changes(id, changes, Grade::Late);
    }

    /// Emits the changes as events, in order with the events of the tracker.
    fn emit_changes(&mut self, id: TargetId, changes: Vec<Change>, grade: Grade) {
        for Change { at_ns, is_open, is_late, port } in changes {
            if is_late {
                // The record of the socket was counted as one without an event, because the port
                // number was unknown then.
                self.tracker.recount_as_delivered(id);
            }
            let (grade, derived) =
                if is_late { (Grade::Late, false) } else { (grade, grade != Grade::Exact) };
            let body = if is_open { Body::PortOpen(port) } else { Body::PortClose(port) };
            self.tracker.emit(Emission { target: Some(id), at_ns, grade, derived, body });
        }
    }

    /// The target's sockets in `state`, from the kernel's list.
    ///
    /// # Errors
    ///
    /// `NotFound` if the target's ports are not observed; otherwise the error of the last process
    /// that was tried.
    pub(super) fn sockets(&self, id: TargetId, state: SocketState) -> std::io::Result<Vec<Socket>> {
        let not_found = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let watched = self.targets.get(&id).ok_or_else(not_found)?;
        let network = watched.network.as_ref().ok_or_else(not_found)?;
        // The list is read in the namespace of a living process; init may have ended.
        let living = self
            .tracker
            .snapshot(Some(id))
            .into_iter()
            .map(|(_, process)| process.key.pid)
            .take(PIDS_TRIED);
        let mut listed = Err(not_found());
        for pid in std::iter::once(network.init).chain(living) {
            listed = sockets::list(pid, network.inode, state);
            if listed.is_ok() {
                break;
            }
        }
        let cgroups = match &watched.target {
            Target::Cgroup { path, .. } => cgroup::ids_below(path),
            Target::Tree { .. } => HashSet::new(),
        };
        let belongs = |socket: &ListedSocket| match socket.cgroup {
            Some(cgroup) if cgroups.contains(&cgroup) => true,
            Some(cgroup) => {
                let is_of_another_target = || {
                    self.targets.contains_key(&TargetId(cgroup)) || self.source.is_watched(cgroup)
                };
                network.is_whole && !is_of_another_target()
            }
            None => network.is_whole,
        };
        let listed = listed?;
        if let Target::Tree { .. } = watched.target {
            // A tree has no cgroup and no namespace. Its sockets are those that its processes hold.
            let tree: Vec<ProcessKey> =
                self.tracker.snapshot(Some(id)).iter().map(|(_, process)| process.key).collect();
            let holders = socket_holders(&tree);
            let sockets = listed.into_iter().map(|listed| listed.socket);
            return Ok(sockets.filter(|socket| holders.contains_key(&socket.inode)).collect());
        }
        Ok(listed.into_iter().filter(belongs).map(|listed| listed.socket).collect())
    }

    /// The processes that hold each of these sockets now, from the descriptors of all observed
    /// processes. Processes of other targets count too: a socket can be passed to them.
    fn owners(&self, id: TargetId, sockets: Vec<Socket>) -> Vec<(Socket, Vec<Owner>)> {
        if sockets.is_empty() {
            return Vec::new();
        }
        let mut among: Vec<ProcessKey> = Vec::new();
        // The target's own processes are the likeliest holders. They are examined first, because
        // the number of descriptors that are read is bounded.
        among.extend(self.tracker.snapshot(Some(id)).iter().map(|(_, process)| process.key));
        let others = self.tracker.snapshot(None);
        among.extend(
            others.iter().filter(|(other, _)| *other != id).map(|(_, process)| process.key),
        );
        let holders = socket_holders(&among);
        let owners = |socket: Socket| {
            let keys = holders.get(&socket.inode).into_iter().flatten();
            let owners = keys.map(|key| self.owner(*key).unwrap_or(Owner::unknown(*key, None)));
            (socket, owners.collect())
        };
        sockets.into_iter().map(owners).collect()
    }

    fn owner(&self, key: ProcessKey) -> Option<Owner> {
        let (id, process) = self.tracker.find(key)?;
        let container: Option<Arc<str>> =
            self.targets.get(&id).and_then(|watched| watched.name.clone());
        Some(Owner::of(process, container))
    }
}

impl Watched {
    /// Whether a dump was deferred.
    pub(super) fn is_dump_pending(&self) -> bool {
        self.network.as_ref().is_some_and(|network| network.dump_pending)
    }

    fn is_dump_due(&self) -> bool {
        let Some(network) = &self.network else { return false };
        match &network.polling {
            Some(polling) => polling.next <= Instant::now(),
            None => {
                network.dump_pending
                    && network.last_dump.is_none_or(|last| last.elapsed() >= MIN_SCAN_INTERVAL)
            }
        }
    }

    /// Brings the next repeated dump forward, because an event of a process may be followed by a
    /// change of a port.
    pub(super) fn dump_soon(&mut self) {
        let Some(network) = &mut self.network else { return };
        if let Some(polling) = &mut network.polling {
            polling.next = polling.next.min(Instant::now() + MIN_DUMP_INTERVAL);
            polling.step = 1;
        }
    }

    /// Brings the next repeated dump forward if a listener was destroyed. The dump is due at once,
    /// but [`MIN_DUMP_INTERVAL`] after the last one at the earliest.
    fn dump_if_listener_destroyed(&mut self) {
        let Some(network) = &mut self.network else { return };
        let Some(polling) = &mut network.polling else { return };
        if polling.destroyed.as_ref().is_some_and(DestroyedListeners::take) {
            let earliest =
                network.last_dump.map_or_else(Instant::now, |last| last + MIN_DUMP_INTERVAL);
            polling.next = polling.next.min(earliest);
        }
    }
}

/// The descriptors that become readable when a listener of a target is destroyed.
pub(super) fn destroyed_listener_fds(
    targets: &BTreeMap<TargetId, Watched>,
) -> impl Iterator<Item = BorrowedFd<'_>> {
    let networks = targets.values().filter_map(|watched| watched.network.as_ref());
    networks.filter_map(|network| Some(network.polling.as_ref()?.destroyed.as_ref()?.fd()))
}
