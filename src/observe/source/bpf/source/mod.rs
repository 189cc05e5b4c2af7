//! One shim's use of the pinned programs: its targets, and the records in its ring.

mod targets;

use std::{
    collections::{BTreeMap, HashSet},
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
    sync::Arc,
    time::Duration,
};

use libbpf_rs::{MapCore as _, MapFlags};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::{
    calls::SpawnMarker,
    decode::{Decoded, Malformed},
    layout::{ARGS_MAX, COLLECT_NS, ConnectionsValue, Listener, Plain as _, TargetValue},
    members,
    pins::{PinDirectory, Pins, map_value},
    queues::{Queued, Queues},
    refused,
    ring::Ring,
    slot,
    sweep::sweep,
};
use crate::{
    model::{Backend, ProcessKey, Stage},
    observe::{
        record::{Record, TargetId},
        source::{
            CallMarker, Connections, KernelCounts, Source, SourceError, Target, is_ready_within,
        },
    },
};

/// How long records may collect after the first of them woke the reader. Most of the cost of a
/// record is the wake-up, not the capture.
const COLLECT_INTERVAL: Duration = Duration::from_nanos(COLLECT_NS as u64);

/// The most records that one read moves from the ring into the queues of several targets. Few
/// enough that their memory is bounded, and more than the largest ring has of the smallest records
/// in a millisecond of a storm.
const QUEUED_AT_ONCE: usize = 4096;

/// The source of one shim: the shared pinned programs, with a slot and a ring of its own.
#[derive(Debug)]
pub struct BpfSource {
    pins: Pins,
    slot: u32,
    marker: Arc<SpawnMarker>,
    ring: Ring,
    /// An edge-triggered epoll on the ring. The epoll is ready when an eBPF program wakes the
    /// reader, while the ring itself is readable as soon as it has a record.
    woken: Epoll,
    /// The watched targets, looked up for each record. A shim has only a few targets, for which an
    /// ordered map is faster than a hash map.
    watched: BTreeMap<TargetId, WatchedTarget>,
    /// The records of several targets that wait for their turn.
    queues: Queues,
    /// Whether the last read has left records in the ring.
    has_unread: bool,
    /// Whether a target may have a loss that no record shows.
    may_have_lost: bool,
    /// The buffer of `read`. It is empty between two reads, and kept for its capacity.
    batch: Vec<Result<Decoded, Malformed>>,
    /// The latest time of a record, in nanoseconds of `CLOCK_MONOTONIC`. It is reported as the time
    /// of a loss that no record shows.
    last_at_ns: u64,
}

/// A target that this shim watches: its entries in the other maps, and the losses that were
/// reported.
#[derive(Debug, Default)]
struct WatchedTarget {
    /// The pid namespace that was added to its map for this target.
    namespace: Option<u32>,
    /// The cookie of the network namespace that was added to its map for this target.
    network: Option<u64>,
    /// The cookies of the listeners that were added to their map for this target.
    adopted: HashSet<u64>,
    /// The number of lost records of the target that were reported so far.
    lost: u64,
    /// The number of records of the target that were read from the ring and dropped.
    dropped: u64,
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
            Arc::new(SpawnMarker::new(&pins, slot).inspect_err(|_| slot::release(&pins, slot))?);
        let source = Self {
            pins,
            slot,
            marker,
            ring,
            woken,
            watched: BTreeMap::new(),
            queues: Queues::new(ring_bytes as usize),
            has_unread: false,
            may_have_lost: false,
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

    /// Queues a record until the turn of its target. If the target has used up its share of the
    /// queues, drops and counts the record.
    fn queue(&mut self, decoded: Decoded) {
        let (target, length) = (decoded.target, decoded.length);
        if self.queues.push(decoded, length)
            && let Some(watched) = self.watched.get_mut(&target)
        {
            watched.dropped += 1;
        }
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

    /// Reports losses after which no record was made: reads the counts of all targets. Those of a
    /// target with queued records are read later, because the loss came after these records.
    fn report_silent_losses(&mut self, sink: &mut dyn FnMut(Record)) {
        self.may_have_lost = false;
        let ids: Vec<TargetId> = self.watched.keys().copied().collect();
        for id in ids {
            if self.queues.has(id) {
                self.may_have_lost = true;
            } else if let Some(target) = self.target(id) {
                self.report_loss(id, target.lost, self.last_at_ns, sink);
            }
        }
    }

    /// The entry of a target of this shim. If another shim watches the same cgroup, the entry is
    /// that shim's.
    fn target(&self, id: TargetId) -> Option<TargetValue> {
        let target: TargetValue = map_value(&self.pins.targets, &id.0).ok().flatten()?;
        (target.slot == self.slot).then_some(target)
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

    fn add_created(&mut self, id: TargetId, path: &Path, init: i32) -> Result<(), SourceError> {
        members::add_created(&self.pins, id, path, init)
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

    fn adopt_listener(&mut self, id: TargetId, cookie: u64) {
        let Some(watched) = self.watched.get_mut(&id) else { return };
        let entry = Listener { target: id.0, ..Listener::default() };
        // NO_EXIST, because a program has made the entry if the socket listens again.
        let added =
            self.pins.listeners.update(&cookie.to_bytes(), &entry.to_bytes(), MapFlags::NO_EXIST);
        if added.is_ok() {
            watched.adopted.insert(cookie);
        }
    }

    fn connections(&mut self, id: TargetId) -> Option<Connections> {
        if !self.watched.contains_key(&id) {
            return None;
        }
        // Makes the programs count the connections. NO_EXIST keeps a count that has already begun.
        let none = ConnectionsValue::default().to_bytes();
        let _ = self.pins.connections.update(&id.0.to_bytes(), &none, MapFlags::NO_EXIST);
        let ConnectionsValue { open, changed_ns } =
            map_value(&self.pins.connections, &id.0).ok().flatten()?;
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
        map_value::<_, TargetValue>(&self.pins.targets, &cgroup)
            .is_ok_and(|target| target.is_some())
    }

    fn is_kept_from(&self, id: TargetId, process: ProcessKey) -> bool {
        members::is_kept_from(&self.pins, id, process)
    }

    fn unwatch(&mut self, id: TargetId) {
        let Some(watched) = self.watched.remove(&id) else { return };
        self.queues.forget(id);
        if let Some(inode) = watched.namespace {
            self.remove_namespace(id, inode);
        }
        if let Some(cookie) = watched.network {
            let _ = self.pins.networks.delete(&cookie.to_bytes());
        }
        // Most are gone, with their sockets. Cookies are not reused, so no entry of another target
        // is deleted.
        for cookie in watched.adopted {
            let _ = self.pins.listeners.delete(&cookie.to_bytes());
        }
        for map in [&self.pins.connections, &self.pins.awaited] {
            let _ = map.delete(&id.0.to_bytes());
        }
        // The entries of the target's processes and sockets stay until these end. Without the
        // target they have no effect.
        self.remove_target(id);
    }

    fn call_marker(&self) -> Option<Arc<dyn CallMarker>> {
        Some(self.marker.clone())
    }

    fn counts(&self, id: TargetId) -> Option<KernelCounts> {
        let target = self.target(id)?;
        let dropped = self.watched.get(&id).map_or(0, |watched| watched.dropped);
        Some(KernelCounts { seen: target.seen, lost: target.lost + dropped })
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.ring.fd())
    }

    fn interval(&self) -> Duration {
        COLLECT_INTERVAL
    }

    fn wait_to_collect(&mut self, others: &[BorrowedFd<'_>]) -> bool {
        // In a storm of records the eBPF programs would end the second wait every millisecond, so
        // the first wait ignores the ring.
        let pause = self.ring.pause();
        if !pause.is_zero() && is_ready_within(others, pause) {
            return false;
        }
        // This waits for the epoll on the ring and not for the ring itself, which is readable at
        // its first record. `read` has cleared the edge of the epoll, so only a later wake-up by an
        // eBPF program ends the wait.
        !is_ready_within(&[others, &[self.woken.0.as_fd()]].concat(), COLLECT_INTERVAL)
    }

    fn read(&mut self, limit: usize, sink: &mut dyn FnMut(Record)) -> Result<bool, SourceError> {
        // The edge is cleared before the ring is read, because a wake-up during the read must end
        // the next wait.
        let woken = self.woken.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO);
        let mut batch = std::mem::take(&mut self.batch);
        let takes_turns = self.watched.len() > 1 || !self.queues.is_empty();
        let most = if takes_turns { QUEUED_AT_ONCE } else { limit.max(1) };
        self.has_unread =
            self.ring.read_records(most, &mut batch).map_err(refused("read the ring"))?;
        let woken_for_nothing = batch.is_empty() && woken.is_ok_and(|events| events > 0);
        for decoded in batch.drain(..) {
            match decoded {
                Ok(decoded) if takes_turns && self.watched.contains_key(&decoded.target) => {
                    self.queue(decoded);
                }
                decoded => self.deliver(decoded, sink),
            }
        }
        // Put back for its capacity, but not for that of a whole ring. It was taken out above,
        // because `deliver` borrows the whole of `self`.
        batch.shrink_to(limit);
        self.batch = batch;
        let mut taken = Vec::new();
        self.queues.take(limit, |queued| taken.push(queued));
        for queued in taken {
            match queued {
                Queued::Record(decoded) => self.deliver(Ok(decoded), sink),
                Queued::Dropped { target, at_ns, count } => sink(Record::Lost {
                    target: Some(target),
                    at_ns,
                    count: Some(count),
                    stage: Stage::Source,
                }),
            }
        }
        if !self.has_unread {
            // If the ring may have been full, or the programs have woken the reader without a
            // record, records may have been lost without a later record that shows it. The counts
            // are not read after every read, because each target costs a system call.
            self.may_have_lost |= self.ring.note_empty() || woken_for_nothing;
            if self.may_have_lost {
                self.report_silent_losses(sink);
            }
        }
        Ok(self.has_unread || !self.queues.is_empty())
    }

    fn may_have_more(&self, id: TargetId) -> bool {
        self.has_unread || self.queues.has(id)
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
