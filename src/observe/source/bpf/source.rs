//! One shim's use of the pinned programs: its targets, and the records in its ring.

use std::{
    collections::BTreeMap,
    fs, io,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
    sync::Arc,
    time::Duration,
};

use libbpf_rs::{MapCore as _, MapFlags};
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    statfs::{CGROUP2_SUPER_MAGIC, statfs},
};

use super::{
    calls::Marker,
    decode::{Decoded, Malformed},
    layout::{ARGS_MAX, COLLECT_NS, ConnectionsValue, Plain as _, TARGETS, TargetValue},
    members,
    pins::{PinDirectory, Pins, ROOT_INODE, own_pid_namespace, value},
    refused,
    ring::Ring,
    slot,
    sweep::sweep,
};
use crate::{
    linux::process::pid_namespace,
    model::{Backend, ProcessKey, Stage},
    observe::{
        record::{Record, TargetId},
        source::{
            CallMarker, Connections, KernelCounts, PidNamespace, Source, SourceError, Target,
            is_ready_within,
        },
    },
};

/// How long records may collect after the first of them woke the reader. Most of the cost of a
/// record is the wake-up, not the capture.
const INTERVAL: Duration = Duration::from_nanos(COLLECT_NS as u64);

/// The source of one shim: the shared pinned programs, with a slot and a ring of its own.
#[derive(Debug)]
pub struct BpfSource {
    pins: Pins,
    slot: u32,
    marker: Arc<Marker>,
    ring: Ring,
    /// An edge-triggered epoll on the ring. The epoll is ready when an eBPF program wakes the
    /// reader, while the ring itself is readable as soon as it has a record.
    woken: Epoll,
    /// The watched targets, looked up for each record. A shim has only a few targets, for which an
    /// ordered map is faster than a hash map.
    watched: BTreeMap<TargetId, Watched>,
    /// The buffer of `read`. It is empty between two reads, and kept for its capacity.
    batch: Vec<Result<Decoded, Malformed>>,
    /// The latest time of a record, in nanoseconds of `CLOCK_MONOTONIC`. It is reported as the time
    /// of a loss that no record shows.
    last_at_ns: u64,
}

/// The entries of one target in the other maps.
#[derive(Debug, Default)]
struct Watched {
    /// The pid namespace that was added to its map for this target.
    namespace: Option<u32>,
    /// The cookie of the network namespace that was added to its map for this target.
    network: Option<u64>,
    /// The number of lost records that were reported.
    lost: u64,
}

impl BpfSource {
    /// Opens the pinned set, claims a slot and puts a ring of `ring_bytes` there. The size is
    /// rounded up to a power of two and to whole pages.
    ///
    /// If nothing is pinned, `loader` is called once. `loader` returns after another process has
    /// called [`load`](super::load). Opening can wait some 20 ms for an RCU grace period of the
    /// kernel, so `open` must not run on a thread for which other threads wait.
    ///
    /// # Errors
    ///
    /// [`SourceError::Missing`] if the loader pinned nothing, [`SourceError::Full`] if living shims
    /// own all slots, [`SourceError::Kernel`] otherwise.
    pub fn open(
        bpffs: &Path,
        ring_bytes: u32,
        loader: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<Self, SourceError> {
        let directory = PinDirectory::new(bpffs);
        let pins = match Pins::open(&directory)? {
            Some(pins) => pins,
            None => {
                loader().map_err(refused("run the loader of the eBPF programs"))?;
                Pins::open(&directory)?
                    .ok_or(SourceError::Missing { what: "the pinned set of eBPF programs" })?
            }
        };
        let ring = Ring::new(ring_bytes)?;
        let woken =
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(refused("wait for the ring"))?;
        let edge = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0);
        woken.add(ring.fd(), edge).map_err(refused("wait for the ring"))?;
        let slot = match slot::claim(&pins) {
            // A sweep reads all maps, so it is made only if no slot is free.
            Err(SourceError::Full { .. }) if sweep(bpffs)?.slots > 0 => slot::claim(&pins)?,
            claimed => claimed?,
        };
        // Created before the ring is put into the slot, so that the drop of `source` releases the
        // slot after an error.
        let marker =
            Arc::new(Marker::new(&pins, slot).inspect_err(|_| slot::release(&pins, slot))?);
        let source = Self {
            pins,
            slot,
            marker,
            ring,
            woken,
            watched: BTreeMap::new(),
            batch: Vec::new(),
            last_at_ns: 0,
        };
        slot::put_ring(&source.pins, source.slot, &source.ring)?;
        Ok(source)
    }

    /// Requests `bytes` of argv in each exec record, 16384 at most. The setting belongs to the node
    /// and only grows, so a shim may receive more bytes than it requested.
    ///
    /// # Errors
    ///
    /// [`SourceError::Kernel`] if the setting cannot be changed.
    pub fn capture_args(&mut self, bytes: u32) -> Result<(), SourceError> {
        let _lock = self.pins.lock()?;
        self.pins.configure(|config| config.args_max = config.args_max.max(bytes.min(ARGS_MAX)))
    }

    /// Adds a target to the map. An entry of a dead shim is replaced.
    fn add_target(&self, id: TargetId, is_tree: bool) -> Result<(), SourceError> {
        let target = TargetValue {
            slot: self.slot,
            pid_namespace: own_pid_namespace(),
            id: id.0,
            is_tree: u32::from(is_tree),
            ..TargetValue::default()
        };
        // NO_EXIST, because an entry of a living shim must not be replaced.
        let insert = |flags| self.pins.targets.update(&id.0.to_bytes(), &target.to_bytes(), flags);
        let Err(error) = insert(MapFlags::NO_EXIST) else { return Ok(()) };
        if error.kind() == libbpf_rs::ErrorKind::TooBig {
            return Err(SourceError::Full { what: "targets", limit: TARGETS });
        }
        let stale = error.kind() == libbpf_rs::ErrorKind::AlreadyExists
            && value::<_, TargetValue>(&self.pins.targets, &id.0)?
                .and_then(|other| self.pins.owner(other.slot))
                .is_none_or(|owner| !owner.is_alive());
        if !stale {
            return Err(refused("add the target to its eBPF map")(error));
        }
        insert(MapFlags::ANY).map_err(refused("add the target to its eBPF map"))
    }

    /// Removes a target from the map, unless another shim owns it.
    fn remove_target(&self, id: TargetId) {
        if self.counts(id).is_some() {
            let _ = self.pins.targets.delete(&id.0.to_bytes());
        }
    }

    /// Removes a pid namespace from its map, unless the namespace has ended and another target has
    /// a new one with the same number.
    fn remove_namespace(&self, id: TargetId, inode: u32) {
        if value(&self.pins.namespaces, &inode).is_ok_and(|of| of == Some(id.0)) {
            let _ = self.pins.namespaces.delete(&inode.to_bytes());
        }
    }

    /// Adds a cgroup and its pid namespace to the maps. A cgroup of another hierarchy than the
    /// unified one is accepted only with a pid namespace, because the programs then find its
    /// processes by the namespace.
    fn watch_cgroup(
        &self,
        id: TargetId,
        path: &Path,
        namespace: Option<PidNamespace>,
    ) -> Result<Watched, SourceError> {
        let levels = levels(path).map_err(|source| unwatchable(path, source))?;
        if levels.is_none() && (namespace.is_none() || !id.is_made_up()) {
            let source =
                io::Error::new(io::ErrorKind::Unsupported, "not a cgroup of the unified hierarchy");
            return Err(unwatchable(path, source));
        }
        self.add_target(id, false)?;
        members::enter_cgroup(&self.pins, id, path)?;
        let mut watched = Watched::default();
        if let Some(levels) = levels {
            // Locked, because all shims share the setting, and `configure` reads and writes it.
            let _lock = self.pins.lock()?;
            self.pins.configure(|config| config.levels |= levels)?;
        }
        if let Some(PidNamespace { inode, pid }) = namespace {
            let key = inode.to_bytes();
            // The containers of a pod may share a pid namespace. The namespace belongs to the first
            // container that is watched.
            if self.pins.namespaces.update(&key, &id.0.to_bytes(), MapFlags::NO_EXIST).is_ok() {
                watched.namespace = Some(inode);
                // If the namespace ended before its entry was added, no exit of its init will
                // delete the entry, and another namespace may get the number.
                if pid_namespace(pid) != Some(inode) {
                    self.remove_namespace(id, inode);
                    watched.namespace = None;
                }
            }
        }
        Ok(watched)
    }

    /// Adds a process and its descendants to the maps.
    fn watch_tree(&self, id: TargetId, root: i32) -> Result<Watched, SourceError> {
        let unwatchable =
            |source| SourceError::Target { target: format!("process {root}"), source };
        if !id.is_made_up() {
            return Err(unwatchable(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the id of the tree could also be the id of a cgroup",
            )));
        }
        if own_pid_namespace() != 0 {
            // The keys of `members` are pids of the initial namespace, which are not known in
            // another namespace.
            let why = "a tree can be watched from the initial pid namespace only";
            return Err(unwatchable(io::Error::new(io::ErrorKind::Unsupported, why)));
        }
        if !members::is_running(root) {
            return Err(unwatchable(io::Error::new(io::ErrorKind::NotFound, "no such process")));
        }
        self.add_target(id, true)?;
        members::enter_tree(&self.pins, id, root)?;
        Ok(Watched::default())
    }

    /// Passes one record to the sink, preceded by the loss that its header shows.
    fn deliver(&mut self, decoded: Result<Decoded, Malformed>, sink: &mut dyn FnMut(Record)) {
        match decoded {
            Ok(decoded) => {
                self.last_at_ns = self.last_at_ns.max(decoded.at_ns);
                self.report_loss(decoded.target, decoded.lost, decoded.at_ns, sink);
                sink(decoded.record);
            }
            Err(error) => {
                tracing::debug!(%error, "dropped a malformed record of the eBPF ring");
                // The header of such a record is not trusted, so the loss may concern any target.
                let at_ns = self.last_at_ns;
                sink(Record::Lost { target: None, at_ns, count: Some(1), stage: Stage::Source });
            }
        }
    }

    /// Reports the records that were lost since the last report. `lost` is the kernel's count of
    /// all lost records of the target.
    fn report_loss(
        &mut self,
        target: TargetId,
        lost: u64,
        at_ns: u64,
        sink: &mut dyn FnMut(Record),
    ) {
        let Some(watched) = self.watched.get_mut(&target) else { return };
        // The count of a record can be lower than that of the record before it, because two CPUs
        // may submit their records in the reverse order.
        let new = lost.saturating_sub(watched.lost);
        if new > 0 {
            watched.lost = lost;
            sink(Record::Lost {
                target: Some(target),
                at_ns,
                count: Some(new),
                stage: Stage::Kernel,
            });
        }
    }

    /// Handles a read that left the ring empty. If the ring may have been full, or the programs have
    /// woken the reader without a record, records may have been lost without a later record that
    /// shows it, so the counts of all targets are read.
    fn handle_empty_ring(&mut self, woken_for_nothing: bool, sink: &mut dyn FnMut(Record)) {
        // The counts are not read after every read of the ring, because each target costs a system
        // call.
        if !self.ring.note_empty() && !woken_for_nothing {
            return;
        }
        let ids: Vec<TargetId> = self.watched.keys().copied().collect();
        for id in ids {
            if let Some(counts) = self.counts(id) {
                self.report_loss(id, counts.lost, self.last_at_ns, sink);
            }
        }
    }
}

impl Source for BpfSource {
    fn backend(&self) -> Backend {
        Backend::Bpf
    }

    fn watch(&mut self, id: TargetId, target: &Target) -> Result<(), SourceError> {
        if self.watched.contains_key(&id) {
            return Ok(());
        }
        let watched = match target {
            Target::Cgroup { path, pid_namespace } => self.watch_cgroup(id, path, *pid_namespace),
            Target::Tree { pid } => self.watch_tree(id, *pid),
        };
        match watched {
            Ok(watched) => {
                self.watched.insert(id, watched);
                Ok(())
            }
            Err(error) => {
                self.remove_target(id);
                Err(error)
            }
        }
    }

    fn sees_ports(&self) -> bool {
        true
    }

    fn sees_udp(&self) -> bool {
        self.pins.sees_udp
    }

    fn watch_network(&mut self, id: TargetId, cookie: u64) -> bool {
        let Some(watched) = self.watched.get_mut(&id) else { return false };
        if watched.network.is_none() {
            let added =
                self.pins.networks.update(&cookie.to_bytes(), &id.0.to_bytes(), MapFlags::NO_EXIST);
            watched.network = added.is_ok().then_some(cookie);
        }
        watched.network == Some(cookie)
    }

    fn connections(&mut self, id: TargetId) -> Option<Connections> {
        if !self.watched.contains_key(&id) {
            return None;
        }
        // Begins the count of connections. NO_EXIST keeps a count that has already begun.
        let none = ConnectionsValue::default().to_bytes();
        let _ = self.pins.connections.update(&id.0.to_bytes(), &none, MapFlags::NO_EXIST);
        let ConnectionsValue { open, changed_ns } =
            value(&self.pins.connections, &id.0).ok().flatten()?;
        // The number is negative if connections were closed that had been established before the
        // count began. It is then reported as 0.
        let open = open.cast_signed().try_into().unwrap_or_default();
        Some(Connections { open, changed_ns })
    }

    fn await_connection(&mut self, id: TargetId) -> bool {
        // The value has no meaning; the program deletes the key at the first connection.
        let one = 1u32.to_bytes();
        self.watched.contains_key(&id)
            && self.pins.awaited.update(&id.0.to_bytes(), &one, MapFlags::ANY).is_ok()
    }

    fn is_watched(&self, cgroup: u64) -> bool {
        value::<_, TargetValue>(&self.pins.targets, &cgroup).is_ok_and(|target| target.is_some())
    }

    fn owner(&self, process: ProcessKey) -> Option<TargetId> {
        members::owner(&self.pins, process)
    }

    fn unwatch(&mut self, id: TargetId) {
        let Some(watched) = self.watched.remove(&id) else { return };
        if let Some(inode) = watched.namespace {
            self.remove_namespace(id, inode);
        }
        if let Some(cookie) = watched.network {
            let _ = self.pins.networks.delete(&cookie.to_bytes());
        }
        for map in [&self.pins.connections, &self.pins.awaited] {
            let _ = map.delete(&id.0.to_bytes());
        }
        // Entries of its processes and sockets stay until these end. Without the target they have
        // no effect.
        self.remove_target(id);
    }

    fn call_marker(&self) -> Option<Arc<dyn CallMarker>> {
        Some(self.marker.clone())
    }

    fn counts(&self, id: TargetId) -> Option<KernelCounts> {
        let target: TargetValue = value(&self.pins.targets, &id.0).ok().flatten()?;
        // If another shim watches the same cgroup, the counts are those of that shim's ring.
        (target.slot == self.slot).then_some(KernelCounts { seen: target.seen, lost: target.lost })
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.ring.fd())
    }

    fn interval(&self) -> Duration {
        INTERVAL
    }

    fn rest(&mut self, others: &[BorrowedFd<'_>]) -> bool {
        // In a storm of records the eBPF programs would end the second wait every millisecond, so
        // the first wait ignores the ring.
        let pause = self.ring.pause();
        if !pause.is_zero() && is_ready_within(others, pause) {
            return false;
        }
        // This waits for the epoll and not for the ring: `read` has cleared the edge, so only a
        // later wake-up by an eBPF program ends the wait, while records that may collect do not end
        // it.
        !is_ready_within(&[others, &[self.woken.0.as_fd()]].concat(), INTERVAL)
    }

    fn read(&mut self, limit: usize, sink: &mut dyn FnMut(Record)) -> Result<bool, SourceError> {
        // The edge is cleared before the ring is read, because a wake-up during the read must end
        // the next wait.
        let woken = self.woken.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO);
        let mut batch = std::mem::take(&mut self.batch);
        let more = self.ring.take(limit.max(1), &mut batch).map_err(refused("read the ring"))?;
        let woken_for_nothing = batch.is_empty() && woken.is_ok_and(|events| events > 0);
        for record in batch.drain(..) {
            self.deliver(record, sink);
        }
        // Put back for its capacity. It was taken out above, because `deliver` borrows the whole of
        // `self`.
        self.batch = batch;
        if !more {
            self.handle_empty_ring(woken_for_nothing, sink);
        }
        Ok(more)
    }
}

impl Drop for BpfSource {
    fn drop(&mut self) {
        let ids: Vec<TargetId> = self.watched.keys().copied().collect();
        for id in ids {
            self.unwatch(id);
        }
        // The ring stays in the slot until the next owner replaces it. To remove it, the kernel
        // would wait 12 ms for an RCU grace period, which is too long for the end of a shim. The
        // cost is that a node keeps as many rings as it ever had shims at the same time (a new shim
        // claims the lowest free slot). `doctor --sweep` frees the rings in slots without an owner.
        slot::release(&self.pins, self.slot);
    }
}

/// The possible depths of a cgroup in the unified hierarchy, as bits; `None` if the cgroup is in
/// another hierarchy.
///
/// More than one bit is set if a cgroup namespace or a mount hides the ancestors. A superfluous bit
/// costs a look-up for each event; a missing bit would lose events.
fn levels(path: &Path) -> io::Result<Option<u32>> {
    let path = fs::canonicalize(path)?;
    let device = fs::metadata(&path)?.dev();
    if statfs(&path)?.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return Ok(None);
    }
    // The ancestors on the same file system are cgroups too.
    let is_cgroup =
        |directory: &&Path| fs::metadata(directory).is_ok_and(|found| found.dev() == device);
    let above: Vec<&Path> = path.ancestors().skip(1).take_while(is_cgroup).collect();
    let depth = u32::try_from(above.len()).unwrap_or(u32::MAX);
    let top = above.last().copied().unwrap_or(&path);
    let is_whole = fs::metadata(top)?.ino() == ROOT_INODE;
    // If the cgroup is deeper than the mask has bits, the cgroups below it are not seen. No manager
    // is known to nest so deep.
    Ok(Some(
        if is_whole { 1u32.checked_shl(depth) } else { u32::MAX.checked_shl(depth) }.unwrap_or(0),
    ))
}

/// The error for a cgroup that cannot be watched.
fn unwatchable(path: &Path, source: io::Error) -> SourceError {
    SourceError::Target { target: path.display().to_string(), source }
}
