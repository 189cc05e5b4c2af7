//! Ports of the targets: which sockets belong to which target, and which processes hold them.
//!
//! The owner of a recorded socket comes from the tracker. `/proc` is read only for a socket that a
//! dump found and no record had, and for a client's query. The dumps are in `dumps`.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{MIN_SCAN_INTERVAL, Pipeline, Watched, monotonic_ns};
use crate::{
    model::{Body, Endpoint, Grade, NetworkNamespace, Owner, Owners, Port, ProcessKey, Socket},
    observe::{
        record::{PortKey, Record, TargetId},
        source::Target,
        track::{
            Emission, RecordOutcome,
            ports::{Change, Full},
        },
    },
    platform::{
        process::socket_holders,
        sockets::{self, DestroyedListeners},
    },
};

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
    pub(super) inode: u32,
    /// Whether it is a different namespace from this process's own.
    is_own: bool,
    /// Whether every socket in the namespace counts as the target's, even if it was made in another
    /// cgroup.
    pub(super) is_whole: bool,
    /// The pid of the target's first process.
    pub(super) init: i32,
    /// A dump is due as soon as [`MIN_SCAN_INTERVAL`] allows it.
    pub(super) dump_pending: bool,
    /// When the last dump was taken; `None` before the first.
    last_dump: Option<Instant>,
    /// The repeated dumps; `None` if the source sees ports.
    polling: Option<Polling>,
}

/// One of the repeated dumps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repeated {
    /// Whether the target has had no event of a process for some seconds.
    pub(super) is_settled: bool,
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

    /// The open ports of a target with the processes that hold them now: those after a port, at
    /// most `most` of them. First those that were reported, then those that only the kernel's list
    /// has.
    pub(in crate::observe) fn ports(
        &mut self,
        id: TargetId,
        after: Option<PortKey>,
        most: usize,
    ) -> Vec<(PortKey, Port)> {
        let sockets: Vec<Socket> = self.ports.sockets(id).collect();
        for (socket, owners) in self.owners(id, sockets) {
            self.ports.set_owners(id, socket.cookie, owners);
        }
        let mut open: BTreeMap<PortKey, Port> = BTreeMap::new();
        if after.is_none_or(|after| !after.listed_only) {
            let after = after.map(|after| (after.endpoint, after.network_namespace));
            let reported = self.ports.snapshot(id, after, most).into_iter();
            open.extend(
                reported.map(|port| (key(false, port.endpoint, port.network_namespace), port)),
            );
        }
        // UDP sockets that no event reported are listed only here. In the kernel's list they look
        // like clients that wait for an answer, so they cannot open ports.
        let reported: HashSet<u64> = self.ports.sockets(id).map(|socket| socket.cookie).collect();
        let mut bound = self.bound_sockets(id);
        bound.retain(|socket| !reported.contains(&socket.cookie));
        for (socket, owners) in self.owners(id, bound) {
            let Socket { endpoint, network_namespace, .. } = socket;
            let is_reported = self.ports.is_open(id, endpoint, network_namespace);
            let key = key(!is_reported, endpoint, network_namespace);
            match open.get_mut(&key) {
                Some(port) => port.owners = Owners::union([&port.owners, &owners].into_iter()),
                // A reported port of another page.
                None if is_reported => {}
                None => drop(open.insert(key, Port { endpoint, network_namespace, owners })),
            }
        }
        open.into_iter()
            .filter(|(key, _)| after.is_none_or(|after| *key > after))
            .take(most)
            .collect()
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

    /// Reports all open ports of a target as closed, because the target ends.
    pub(super) fn end_ports(&mut self, id: TargetId) {
        let changes = self.ports.end(id, monotonic_ns());
        self.emit_changes(id, changes, Grade::Late);
    }

    /// Emits the changes as events, in order with the events of the tracker.
    pub(super) fn emit_changes(&mut self, id: TargetId, changes: Vec<Change>, grade: Grade) {
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

    /// The processes that hold each of these sockets now, from the descriptors of all observed
    /// processes. Processes of other targets count too: a socket can be passed to them.
    pub(super) fn owners(&self, id: TargetId, sockets: Vec<Socket>) -> Vec<(Socket, Owners)> {
        if sockets.is_empty() {
            return Vec::new();
        }
        let (holders, _) = self.socket_holders(id);
        let owners = |socket: Socket| {
            let keys = holders.get(&socket.inode).cloned().unwrap_or_default();
            let owner = |key| self.owner(key).unwrap_or(Owner::unknown(key, None));
            (socket, Owners::of(keys, owner))
        };
        sockets.into_iter().map(owners).collect()
    }

    /// The sockets that observed processes hold, by inode, and whether these are all.
    pub(super) fn socket_holders(&self, id: TargetId) -> (HashMap<u64, Vec<ProcessKey>>, bool) {
        let mut among: Vec<ProcessKey> = Vec::new();
        // The target's own processes are the likeliest holders. They are examined first, because
        // the number of descriptors that are read is bounded.
        among.extend(self.tracker.snapshot(Some(id)).iter().map(|(_, process)| process.key));
        let others = self.tracker.snapshot(None);
        among.extend(
            others.iter().filter(|(other, _)| *other != id).map(|(_, process)| process.key),
        );
        socket_holders(&among)
    }

    fn owner(&self, key: ProcessKey) -> Option<Owner> {
        let (id, process) = self.tracker.find(key)?;
        let container: Option<Arc<str>> =
            self.targets.get(&id).and_then(|watched| watched.name.clone());
        Some(Owner::of(process, container))
    }
}

impl Network {
    /// A dump is taken now. Returns whether it is one of a source that does not see ports.
    pub(super) fn note_dump(&mut self) -> Option<Repeated> {
        self.dump_pending = false;
        let now = Instant::now();
        self.last_dump = Some(now);
        let polling = self.polling.as_mut()?;
        polling.next = now + Duration::from_millis(DUMP_BACKOFF_MS[polling.step]);
        let last = DUMP_BACKOFF_MS.len() - 1;
        let is_settled = polling.step == last;
        polling.step = (polling.step + 1).min(last);
        Some(Repeated { is_settled })
    }
}

impl Watched {
    /// Whether a dump was deferred.
    pub(super) fn is_dump_pending(&self) -> bool {
        self.network.as_ref().is_some_and(|network| network.dump_pending)
    }

    pub(super) fn is_dump_due(&self) -> bool {
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
    pub(super) fn dump_if_listener_destroyed(&mut self) {
        let Some(network) = &mut self.network else { return };
        let Some(polling) = &mut network.polling else { return };
        if polling.destroyed.as_ref().is_some_and(DestroyedListeners::take) {
            let earliest =
                network.last_dump.map_or_else(Instant::now, |last| last + MIN_DUMP_INTERVAL);
            polling.next = polling.next.min(earliest);
        }
    }
}

fn key(listed_only: bool, endpoint: Endpoint, network_namespace: NetworkNamespace) -> PortKey {
    PortKey { listed_only, endpoint, network_namespace }
}

/// The descriptors that become readable when a listener of a target is destroyed.
pub(super) fn destroyed_listener_fds(
    targets: &BTreeMap<TargetId, Watched>,
) -> impl Iterator<Item = BorrowedFd<'_>> {
    let networks = targets.values().filter_map(|watched| watched.network.as_ref());
    networks.filter_map(|network| Some(network.polling.as_ref()?.destroyed.as_ref()?.fd()))
}
