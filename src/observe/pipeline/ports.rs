//! Ports: which sockets are whose, and who holds them.
//!
//! A record costs a look into the tracker. `/proc` is read where a dump found a socket that no
//! record had told, and where somebody asks; a dump is taken at the beginning, after a loss, and
//! where the kernel chose a port after it had told of the socket.

use std::{
    collections::{BTreeMap, HashSet},
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{BETWEEN_LOOKS, Pipeline, Watched, monotonic_ns};
use crate::{
    model::{Body, Grade, ListedSocket, Owner, Port, ProcessKey, Socket, SocketState, Transport},
    observe::{
        record::{Record, TargetId},
        source::Target,
        track::{
            Effect, Emission, Outcome,
            ports::{Change, Full},
        },
    },
    platform::{
        cgroup,
        process::socket_holders,
        sockets::{self, DestroyedListeners},
    },
};

/// How many processes of a target are asked for their network namespace when its first one has
/// ended.
const ASKED: usize = 8;

/// Without a source that sees ports: how long after something happened to a process the kernel's
/// list is asked for, and then after each time. A server listens some time after its start, and
/// nothing tells when.
const ASK_AFTER_MS: [u64; 6] = [5, 20, 80, 320, 1280, 2000];

/// The least time between two dumps for that.
const BETWEEN_DUMPS: Duration = Duration::from_millis(ASK_AFTER_MS[0]);

/// Where a target's sockets are.
#[derive(Debug)]
pub(super) struct Network {
    /// The inode of the network namespace.
    inode: u32,
    /// Whether that is another than this process's.
    is_own: bool,
    /// Whether what listens there is the target's, whatever cgroup made it.
    is_whole: bool,
    /// Its first process.
    init: i32,
    /// A dump is wanted, as soon as it may be.
    pub(super) dump_wanted: bool,
    /// When the last one was taken.
    dumped: Option<Instant>,
    /// Where the source sees no ports.
    asking: Option<Asking>,
}

/// The target's sockets as the kernel lists them.
#[derive(Debug)]
pub(super) struct Dump {
    /// Just before.
    at_ns: u64,
    listening: Vec<Socket>,
    /// The cookies of all of UDP that have a port, connected or not; `None` where none is known to
    /// be open, or nobody could look. Only for what is gone: the list does not say whether a socket
    /// was bound or has just sent.
    udp: Option<HashSet<u64>>,
}

/// When the kernel's list is asked for.
#[derive(Debug)]
struct Asking {
    /// Says when a listener is gone; `None` where that cannot be had.
    destroyed: Option<DestroyedListeners>,
    next: Instant,
    /// Index in [`ASK_AFTER_MS`] of what comes after that.
    then: usize,
}

impl Pipeline {
    /// Tells of the ports of a target that is watched: of what its cgroup listens on, and where it
    /// has a network namespace of its own, or with others of a pod, of all there. `has_begun`: it
    /// may listen already.
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
                return tracing::warn!(target = id.0, %error, "its network namespace is not known");
            }
        };
        if let Some(watched) = self.targets.get_mut(&id) {
            watched.name = Some(name.into());
            let asking = None;
            let is_own = inode != own;
            watched.network = Some(Network {
                inode,
                is_own,
                is_whole: false,
                init,
                dump_wanted: has_begun,
                dumped: None,
                asking,
            });
        }
        self.attach(id);
    }

    /// Has the source tell of the ports of a target, or asks for them where it cannot.
    pub(super) fn attach(&mut self, id: TargetId) {
        let Some(watched) = self.targets.get(&id) else { return };
        let Some(&Network { inode, is_own, init, .. }) = watched.network.as_ref() else { return };
        // A tree has what its processes hold, wherever they are.
        let is_own = is_own && matches!(watched.target, Target::Cgroup { .. });
        let sees = self.source.sees_ports();
        let is_others = |(other, watched): (&TargetId, &Watched)| {
            *other != id
                && watched
                    .network
                    .as_ref()
                    .is_some_and(|network| network.inode == inode && network.is_whole)
        };
        let is_whole = is_own
            && if sees {
                self.source.watch_network(id, inode)
            } else {
                !self.targets.iter().any(is_others)
            };
        let asking = (!sees).then(|| Asking {
            destroyed: DestroyedListeners::listen(init, inode)
                .inspect_err(
                    |error| tracing::info!(target = id.0, %error, "ports are seen to close late"),
                )
                .ok(),
            next: Instant::now(),
            then: 0,
        });
        if let Some(network) =
            self.targets.get_mut(&id).and_then(|watched| watched.network.as_mut())
        {
            // A namespace may be older than the container, and what came into it from outside with
            // it.
            network.dump_wanted |= is_whole;
            network.is_whole = is_whole;
            network.asking = asking;
        }
    }

    /// How long until the kernel's list is to be asked for.
    pub(super) fn ask_ports_after(&self) -> Option<Duration> {
        let networks = self.targets.values().filter_map(|watched| watched.network.as_ref());
        let next = networks.filter_map(|network| Some(network.asking.as_ref()?.next)).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// The open ports of a target, with all who hold them now: those that were told, and those that
    /// the kernel lists and nobody told.
    pub(in crate::observe) fn ports(&mut self, id: TargetId) -> [Vec<Port>; 2] {
        let sockets: Vec<Socket> = self.ports.sockets(id).collect();
        for (socket, owners) in self.owners(id, sockets) {
            self.ports.set_owners(id, socket.cookie, owners);
        }
        let (mut ports, mut listed) = (self.ports.snapshot(id), Vec::<Port>::new());
        // UDP that no event told is looked for where somebody asks.
        let told: HashSet<u64> = self.ports.sockets(id).map(|socket| socket.cookie).collect();
        let mut bound = self.sockets(id, SocketState::Bound).unwrap_or_default();
        bound.retain(|socket| !told.contains(&socket.cookie));
        for (socket, owners) in self.owners(id, bound) {
            match ports.iter_mut().chain(&mut listed).find(|port| port.endpoint == socket.endpoint)
            {
                Some(port) => port.owners.extend(owners),
                None => listed.push(Port { endpoint: socket.endpoint, owners }),
            }
        }
        [ports, listed]
    }

    /// A record of a socket.
    pub(super) fn socket(&mut self, record: &Record) {
        let (id, at_ns, changes) = match *record {
            Record::Listen { target, at_ns, socket, by, vpid } => {
                let owner = self.owner(by).unwrap_or(Owner::unknown(by, vpid));
                (target, at_ns, self.ports.listen(target, at_ns, socket, owner))
            }
            Record::Unlisten { target, at_ns, socket } => {
                (target, at_ns, Ok(self.ports.unlisten(target, at_ns, socket)))
            }
            Record::Connected { target, at_ns } => return self.connected(target, at_ns),
            Record::Process { .. } | Record::Lost { .. } => return,
        };
        let Some(watched) = self.targets.get_mut(&id) else { return };
        if self.ports.awaits_number(id)
            && let Some(network) = &mut watched.network
        {
            network.dump_wanted = true;
        }
        let outcome = match changes {
            Ok(changes) if changes.is_empty() => Outcome::Silent,
            Ok(changes) => {
                self.changes(id, changes, Grade::Exact);
                Outcome::Reported
            }
            Err(Full) => Outcome::NoRoom,
        };
        self.tracker.socket(id, at_ns, outcome, &mut self.effects);
    }

    /// What the kernel lists; before [`compare`](Self::compare), have every record tracked
    /// that was made until now.
    pub(super) fn dump(&mut self, id: TargetId) -> Option<Dump> {
        let at_ns = monotonic_ns();
        let watched = self.targets.get_mut(&id)?;
        let network = watched.network.as_mut()?;
        network.dump_wanted = false;
        let now = Instant::now();
        network.dumped = Some(now);
        if let Some(asking) = &mut network.asking {
            asking.next = now + Duration::from_millis(ASK_AFTER_MS[asking.then]);
            asking.then = (asking.then + 1).min(ASK_AFTER_MS.len() - 1);
        }
        self.ports.look_began(id, at_ns);
        let is_asking = network.asking.is_some();
        let sockets = self.sockets(id, SocketState::Listening);
        if is_asking {
            self.look_for_connections(id);
        }
        match sockets {
            Ok(listening) => {
                let has_udp = self
                    .ports
                    .sockets(id)
                    .any(|socket| socket.endpoint.transport == Transport::Udp);
                let udp = has_udp.then(|| self.sockets(id, SocketState::WithPort));
                let udp = udp
                    .and_then(Result::ok)
                    .map(|found| found.iter().map(|socket| socket.cookie).collect());
                Some(Dump { at_ns, listening, udp })
            }
            Err(error) => {
                self.ports.look_failed(id);
                tracing::warn!(target = id.0, %error, "no look at what listens");
                None
            }
        }
    }

    /// Tells what a dump says and no record had.
    pub(super) fn compare(&mut self, id: TargetId, dump: Option<Dump>) {
        let Some(Dump { at_ns, listening: sockets, udp }) = dump else { return };
        let strangers = self.ports.strangers(id, &sockets);
        let mut owned = self.owners(id, strangers);
        let known = sockets
            .into_iter()
            .filter(|socket| owned.iter().all(|(other, _)| other.cookie != socket.cookie));
        let known: Vec<_> = known.map(|socket| (socket, Vec::new())).collect();
        owned.extend(known);
        let changes = self.ports.found(id, at_ns, owned, udp.as_ref());
        self.changes(id, changes, Grade::Snapshot);
    }

    /// The dumps that are wanted and may be taken now.
    pub(super) fn dump_again(&mut self) {
        for watched in self.targets.values_mut() {
            watched.ask_if_gone();
        }
        let due: Vec<TargetId> =
            self.targets.iter().filter(|(_, one)| one.is_dump_due()).map(|(id, _)| *id).collect();
        for id in due {
            let dump = self.dump(id);
            for record in self.read_all() {
                self.record(record);
            }
            self.compare(id, dump);
            self.perform();
        }
    }

    /// Nothing more comes of a target: its ports are closed, as far as anybody is told.
    pub(super) fn end_ports(&mut self, id: TargetId) {
        let changes = self.ports.end(id, monotonic_ns());
        self.changes(id, changes, Grade::Late);
    }

    /// Emission in their place among what the tracker tells.
    fn changes(&mut self, id: TargetId, changes: Vec<Change>, grade: Grade) {
        for Change { at_ns, is_open, is_late, port } in changes {
            if is_late {
                self.tracker.told_after_all(id);
            }
            let (grade, derived) =
                if is_late { (Grade::Late, false) } else { (grade, grade != Grade::Exact) };
            let body = if is_open { Body::PortOpen(port) } else { Body::PortClose(port) };
            self.effects.push(Effect::Emit(Emission {
                target: Some(id),
                at_ns,
                grade,
                derived,
                body,
            }));
        }
    }

    /// The target's sockets in a state, as the kernel lists them.
    pub(super) fn sockets(&self, id: TargetId, state: SocketState) -> std::io::Result<Vec<Socket>> {
        let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let watched = self.targets.get(&id).ok_or_else(gone)?;
        let network = watched.network.as_ref().ok_or_else(gone)?;
        let living = self
            .tracker
            .snapshot(Some(id))
            .into_iter()
            .map(|(_, process)| process.key.pid)
            .take(ASKED);
        let mut found = Err(gone());
        for pid in std::iter::once(network.init).chain(living) {
            found = sockets::list(pid, network.inode, state);
            if found.is_ok() {
                break;
            }
        }
        let cgroups = match &watched.target {
            Target::Cgroup { path, .. } => cgroup::ids_below(path),
            Target::Tree { .. } => HashSet::new(),
        };
        let is_its = |one: &ListedSocket| match one.cgroup {
            Some(cgroup) if cgroups.contains(&cgroup) => true,
            Some(cgroup) => {
                let is_others = || {
                    self.targets.contains_key(&TargetId(cgroup)) || self.source.is_watched(cgroup)
                };
                network.is_whole && !is_others()
            }
            None => network.is_whole,
        };
        let found = found?;
        if let Target::Tree { .. } = watched.target {
            // It has no cgroup and no namespace: its sockets are those that its processes hold.
            let tree: Vec<ProcessKey> =
                self.tracker.snapshot(Some(id)).iter().map(|(_, process)| process.key).collect();
            let holders = socket_holders(&tree);
            let sockets = found.into_iter().map(|one| one.socket);
            return Ok(sockets.filter(|socket| holders.contains_key(&socket.inode)).collect());
        }
        Ok(found.into_iter().filter(is_its).map(|one| one.socket).collect())
    }

    /// Who holds each of these now, by the descriptors of all processes that are watched.
    fn owners(&self, id: TargetId, sockets: Vec<Socket>) -> Vec<(Socket, Vec<Owner>)> {
        if sockets.is_empty() {
            return Vec::new();
        }
        let mut among: Vec<ProcessKey> = Vec::new();
        // Its own first: they are the likeliest, and the number of descriptors that are looked at
        // is bounded.
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
    pub(super) fn wants_dump(&self) -> bool {
        self.network.as_ref().is_some_and(|network| network.dump_wanted)
    }

    fn is_dump_due(&self) -> bool {
        let Some(network) = &self.network else { return false };
        match &network.asking {
            Some(asking) => asking.next <= Instant::now(),
            None => {
                network.dump_wanted
                    && network.dumped.is_none_or(|dumped| dumped.elapsed() >= BETWEEN_LOOKS)
            }
        }
    }

    /// Something happened to a process: a port may follow, or have gone.
    pub(super) fn ask_soon(&mut self) {
        let Some(network) = &mut self.network else { return };
        if let Some(asking) = &mut network.asking {
            asking.next = asking.next.min(Instant::now() + BETWEEN_DUMPS);
            asking.then = 1;
        }
    }

    /// A listener is gone: asks at once, but not without end.
    fn ask_if_gone(&mut self) {
        let Some(network) = &mut self.network else { return };
        let Some(asking) = &mut network.asking else { return };
        if asking.destroyed.as_ref().is_some_and(DestroyedListeners::take) {
            let earliest =
                network.dumped.map_or_else(Instant::now, |dumped| dumped + BETWEEN_DUMPS);
            asking.next = asking.next.min(earliest);
        }
    }
}

/// What says that a listener is gone.
pub(super) fn destroyed(
    targets: &BTreeMap<TargetId, Watched>,
) -> impl Iterator<Item = BorrowedFd<'_>> {
    let networks = targets.values().filter_map(|watched| watched.network.as_ref());
    networks.filter_map(|network| Some(network.asking.as_ref()?.destroyed.as_ref()?.fd()))
}
