//! A shim's own part: its slot, its ring, its targets.

use std::{
    collections::BTreeMap,
    fs, io,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
    process, thread,
    time::{Duration, Instant},
};

use libbpf_rs::{MapCore as _, MapFlags, MapHandle};
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    statfs::{CGROUP2_SUPER_MAGIC, statfs},
};

use super::{
    decode::{Decoded, Malformed},
    layout::{
        ARGS_MAX, COLLECT_NS, ConnectionsValue, Owner, Plain as _, SLOTS, TARGETS, TargetValue,
    },
    pins::{PinDirectory, Pins, ROOT_INODE, entries, own_pid_namespace, value},
    refused,
    ring::Ring,
    sweep::sweep,
    tree::{descendants, runs},
};
use crate::{
    linux::process::start_ticks,
    model::{Backend, Stage},
    observe::{
        record::{Record, TargetId},
        source::{Connections, KernelCounts, Source, SourceError, Target, is_ready_within},
    },
};

/// How long records may collect after the first of them woke the reader. The wake-up, not the
/// capture, is what a record costs.
const INTERVAL: Duration = Duration::from_nanos(COLLECT_NS as u64);

/// How often `/proc` is read for a tree's processes before it is given up: each round finds what
/// was forked, by a process that was not yet known, during the one before.
const ROUNDS: u32 = 8;

/// The pinned programs, with a ring of one's own.
#[derive(Debug)]
pub struct BpfSource {
    pins: Pins,
    slot: u32,
    ring: Ring,
    /// Emission when the programs wake the reader, and not when there is something to read.
    woken: Epoll,
    /// A handful, looked into for each record: ordered is quicker than hashed.
    watching: BTreeMap<TargetId, Watching>,
    /// Read and not yet given on; kept for its room.
    taken: Vec<Result<Decoded, Malformed>>,
    last_at_ns: u64,
}

#[derive(Debug, Default)]
struct Watching {
    namespace: Option<u32>,
    network: Option<u32>,
    tree: bool,
    /// How much of its loss was told.
    lost: u64,
}

impl BpfSource {
    /// Opens the pinned set, takes a slot and puts a ring of `ring_bytes` there (rounded up to a
    /// power of two and to pages).
    ///
    /// `loader` is called once where nothing is pinned, and returns when another process has called
    /// [`load`](super::load). Waits up to some 20 ms for the kernel's RCU, so it does not belong on
    /// a thread that others wait for.
    ///
    /// # Errors
    ///
    /// [`SourceError::Missing`] where the loader pinned nothing, [`SourceError::Full`] where all
    /// slots are taken by the living, [`SourceError::Kernel`] for the rest.
    pub fn open(
        bpffs: &Path,
        ring_bytes: u32,
        loader: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<Self, SourceError> {
        let directory = PinDirectory::new(bpffs);
        let pins = match Pins::open(&directory)? {
            Some(pins) => pins,
            None => {
                loader().map_err(refused("run the loader"))?;
                Pins::open(&directory)?.ok_or(SourceError::Missing { what: "the pinned set" })?
            }
        };
        let ring = Ring::new(ring_bytes)?;
        let woken =
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(refused("wait for the ring"))?;
        let edge = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0);
        woken.add(ring.fd(), edge).map_err(refused("wait for the ring"))?;
        let slot = match take_slot(&pins) {
            Err(SourceError::Full { .. }) if sweep(bpffs)?.slots > 0 => take_slot(&pins)?,
            taken => taken?,
        };
        // From here on dropping it gives the slot back.
        let source = Self {
            pins,
            slot,
            ring,
            woken,
            watching: BTreeMap::new(),
            taken: Vec::new(),
            last_at_ns: 0,
        };
        source.put_ring()?;
        Ok(source)
    }

    /// Puts the ring in its slot, in the directory of one that an earlier owner has left there.
    ///
    /// The kernel exchanges the two at once and then waits for those who may still use the old one,
    /// some 12 ms: that wait is left to a thread that ends with it.
    fn put_ring(&self) -> Result<(), SourceError> {
        const WITHIN: Duration = Duration::from_secs(1);
        let new = self.ring.id().map_err(refused("look at the ring"))?;
        let rings =
            MapHandle::try_from(&self.pins.rings).map_err(refused("open the rings again"))?;
        let (slot, descriptor) = (self.slot.to_bytes(), self.ring.number().to_ne_bytes());
        let update = thread::Builder::new().name("ring".into()).stack_size(32 << 10);
        let update = update.spawn(move || rings.update(&slot, &descriptor, MapFlags::ANY));
        let update = update.map_err(refused("put the ring in its slot"))?;
        let begun = Instant::now();
        while !update.is_finished() {
            if value::<_, u32>(&self.pins.rings, &self.slot)? == Some(new) {
                return Ok(());
            }
            if begun.elapsed() > WITHIN {
                let source = io::Error::new(io::ErrorKind::TimedOut, "it is not there");
                return Err(SourceError::Kernel { action: "put the ring in its slot", source });
            }
            thread::sleep(Duration::from_micros(50));
        }
        let updated = update.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        updated.map_err(refused("put the ring in its slot"))
    }

    /// Asks for `bytes` of argv in each exec, 16384 at most. The node has one such setting, which
    /// the greediest shim decides: others may be given more than they asked for.
    ///
    /// # Errors
    ///
    /// [`SourceError::Kernel`] where the setting cannot be changed.
    pub fn capture_args(&mut self, bytes: u32) -> Result<(), SourceError> {
        let _lock = self.pins.lock()?;
        self.pins.configure(|config| config.args_max = config.args_max.max(bytes.min(ARGS_MAX)))
    }

    /// Enters an id; one that a dead shim left is taken over.
    fn enter(&self, id: TargetId) -> Result<(), SourceError> {
        let target = TargetValue {
            slot: self.slot,
            pid_namespace: own_pid_namespace(),
            id: id.0,
            ..TargetValue::default()
        };
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
            return Err(refused("enter a target")(error));
        }
        insert(MapFlags::ANY).map_err(refused("enter a target"))
    }

    fn watch_cgroup(
        &self,
        id: TargetId,
        path: &Path,
        namespace: Option<u32>,
    ) -> Result<Watching, SourceError> {
        let levels = levels(path).map_err(|source| unwatchable(path, source))?;
        if levels.is_none() && (namespace.is_none() || !id.is_made_up()) {
            let source =
                io::Error::new(io::ErrorKind::Unsupported, "not a cgroup of the unified hierarchy");
            return Err(unwatchable(path, source));
        }
        self.enter(id)?;
        let mut watching = Watching::default();
        if let Some(levels) = levels {
            let _lock = self.pins.lock()?;
            self.pins.configure(|config| config.levels |= levels)?;
        }
        if let Some(inode) = namespace {
            let added = self.pins.namespaces.update(
                &inode.to_bytes(),
                &id.0.to_bytes(),
                MapFlags::NO_EXIST,
            );
            // A pod's containers may share one: the first has it.
            watching.namespace = added.is_ok().then_some(inode);
        }
        Ok(watching)
    }

    fn watch_tree(&self, id: TargetId, root: i32) -> Result<Watching, SourceError> {
        let unwatchable =
            |source| SourceError::Target { target: format!("process {root}"), source };
        if !id.is_made_up() {
            return Err(unwatchable(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the id may be a cgroup's",
            )));
        }
        if own_pid_namespace() != 0 {
            let why = "trees are followed by the initial pid namespace's numbers";
            return Err(unwatchable(io::Error::new(io::ErrorKind::Unsupported, why)));
        }
        if !runs(root) {
            return Err(unwatchable(io::Error::new(io::ErrorKind::NotFound, "no such process")));
        }
        self.enter(id)?;
        let _lock = self.pins.lock()?;
        self.pins.configure(|config| config.trees = 1)?;
        let mut known = Vec::new();
        for _ in 0..ROUNDS {
            let found = if known.is_empty() { vec![root] } else { descendants(root) };
            let new: Vec<i32> = found.into_iter().filter(|pid| !known.contains(pid)).collect();
            if new.is_empty() {
                break;
            }
            for pid in new {
                let key = pid.unsigned_abs().to_bytes();
                // One that the kernel has entered meanwhile is fine.
                self.pins
                    .trees
                    .update(&key, &id.0.to_bytes(), MapFlags::ANY)
                    .map_err(refused("enter a process"))?;
                // Its end may have been told before it was entered.
                if !runs(pid) {
                    let _ = self.pins.trees.delete(&key);
                }
                known.push(pid);
            }
        }
        Ok(Watching { tree: true, ..Watching::default() })
    }

    /// Forgets the processes of a tree.
    fn fell(&self, id: TargetId) -> Result<(), SourceError> {
        let _lock = self.pins.lock()?;
        let mut others = false;
        for (tgid, tree) in entries::<u32, u64>(&self.pins.trees) {
            if tree == id.0 {
                let _ = self.pins.trees.delete(&tgid.to_bytes());
            } else {
                others = true;
            }
        }
        for (cookie, tree) in entries::<u64, u64>(&self.pins.listeners) {
            if tree == id.0 {
                let _ = self.pins.listeners.delete(&cookie.to_bytes());
            }
        }
        self.pins.configure(|config| config.trees = u32::from(others))
    }

    /// Gives one record to the sink, and before it what it shows to be lost.
    fn deliver(&mut self, decoded: Result<Decoded, Malformed>, sink: &mut dyn FnMut(Record)) {
        match decoded {
            Ok(decoded) => {
                self.last_at_ns = self.last_at_ns.max(decoded.at_ns);
                self.tell_loss(decoded.target, decoded.lost, decoded.at_ns, sink);
                sink(decoded.record);
            }
            Err(error) => {
                tracing::debug!(%error, "a record could not be read");
                let at_ns = self.last_at_ns;
                sink(Record::Lost { target: None, at_ns, count: Some(1), stage: Stage::Source });
            }
        }
    }

    fn tell_loss(&mut self, target: TargetId, lost: u64, at_ns: u64, sink: &mut dyn FnMut(Record)) {
        let Some(watching) = self.watching.get_mut(&target) else { return };
        // Two processors may put their records in the other order.
        let new = lost.saturating_sub(watching.lost);
        if new > 0 {
            watching.lost = lost;
            sink(Record::Lost {
                target: Some(target),
                at_ns,
                count: Some(new),
                stage: Stage::Kernel,
            });
        }
    }

    /// The ring is empty. Where it may have been full meanwhile, the counters tell what no record
    /// could.
    fn drained(&mut self, sink: &mut dyn FnMut(Record)) {
        if !self.ring.drained() {
            return;
        }
        let ids: Vec<TargetId> = self.watching.keys().copied().collect();
        for id in ids {
            if let Some(counts) = self.counts(id) {
                self.tell_loss(id, counts.lost, self.last_at_ns, sink);
            }
        }
    }
}

impl Source for BpfSource {
    fn backend(&self) -> Backend {
        Backend::Bpf
    }

    fn watch(&mut self, id: TargetId, target: &Target) -> Result<(), SourceError> {
        if self.watching.contains_key(&id) {
            return Ok(());
        }
        let watching = match target {
            Target::Cgroup { path, pid_namespace } => self.watch_cgroup(id, path, *pid_namespace),
            Target::Tree { pid } => self.watch_tree(id, *pid),
        };
        match watching {
            Ok(watching) => {
                self.watching.insert(id, watching);
                Ok(())
            }
            Err(error) => {
                self.withdraw(id);
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

    fn watch_network(&mut self, id: TargetId, namespace: u32) -> bool {
        let Some(watching) = self.watching.get_mut(&id) else { return false };
        if watching.network.is_none() {
            let added = self.pins.networks.update(
                &namespace.to_bytes(),
                &id.0.to_bytes(),
                MapFlags::NO_EXIST,
            );
            watching.network = added.is_ok().then_some(namespace);
        }
        watching.network == Some(namespace)
    }

    fn connections(&mut self, id: TargetId) -> Option<Connections> {
        if !self.watching.contains_key(&id) {
            return None;
        }
        // Kept where it is there.
        let none = ConnectionsValue::default().to_bytes();
        let _ = self.pins.connections.update(&id.0.to_bytes(), &none, MapFlags::NO_EXIST);
        let ConnectionsValue { open, changed_ns } =
            value(&self.pins.connections, &id.0).ok().flatten()?;
        // One from before the watch may have gone.
        let open = open.cast_signed().try_into().unwrap_or_default();
        Some(Connections { open, changed_ns })
    }

    fn await_connection(&mut self, id: TargetId) -> bool {
        let one = 1u32.to_bytes();
        self.watching.contains_key(&id)
            && self.pins.awaited.update(&id.0.to_bytes(), &one, MapFlags::ANY).is_ok()
    }

    fn is_watched(&self, cgroup: u64) -> bool {
        value::<_, TargetValue>(&self.pins.targets, &cgroup).is_ok_and(|target| target.is_some())
    }

    fn unwatch(&mut self, id: TargetId) {
        let Some(watching) = self.watching.remove(&id) else { return };
        if let Some(inode) = watching.namespace {
            let _ = self.pins.namespaces.delete(&inode.to_bytes());
        }
        if let Some(inode) = watching.network {
            let _ = self.pins.networks.delete(&inode.to_bytes());
        }
        for map in [&self.pins.connections, &self.pins.awaited] {
            let _ = map.delete(&id.0.to_bytes());
        }
        self.withdraw(id);
        if watching.tree
            && let Err(error) = self.fell(id)
        {
            tracing::warn!(%error, "a tree's processes stay entered until the next sweep");
        }
    }

    fn counts(&self, id: TargetId) -> Option<KernelCounts> {
        let target: TargetValue = value(&self.pins.targets, &id.0).ok().flatten()?;
        (target.slot == self.slot).then_some(KernelCounts { seen: target.seen, lost: target.lost })
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.ring.fd())
    }

    fn interval(&self) -> Duration {
        INTERVAL
    }

    fn rest(&mut self, others: &[BorrowedFd<'_>]) -> bool {
        // In a storm it would be woken each millisecond.
        let pause = self.ring.pause();
        if !pause.is_zero() && is_ready_within(others, pause) {
            return false;
        }
        // What it was woken for before the last read has been read.
        !is_ready_within(&[others, &[self.woken.0.as_fd()]].concat(), INTERVAL)
    }

    fn read(&mut self, limit: usize, sink: &mut dyn FnMut(Record)) -> Result<bool, SourceError> {
        let _ = self.woken.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO);
        let mut taken = std::mem::take(&mut self.taken);
        let more = self.ring.take(limit.max(1), &mut taken).map_err(refused("read the ring"))?;
        for record in taken.drain(..) {
            self.deliver(record, sink);
        }
        self.taken = taken;
        if !more {
            self.drained(sink);
        }
        Ok(more)
    }
}

impl BpfSource {
    /// Takes back what [`enter`](Self::enter) entered; another shim's stays.
    fn withdraw(&self, id: TargetId) {
        if self.counts(id).is_some() {
            let _ = self.pins.targets.delete(&id.0.to_bytes());
        }
    }
}

impl Drop for BpfSource {
    fn drop(&mut self) {
        let ids: Vec<TargetId> = self.watching.keys().copied().collect();
        for id in ids {
            self.unwatch(id);
        }
        // The ring stays in the slot, for to take it out the kernel waits 12 ms, which the end of a
        // shim cannot: the next owner's takes its directory. So a node keeps as many rings as it ever
        // had shims at once, since the lowest free slot is taken; `doctor --sweep` frees them.
        let _ = self.pins.owners.delete(&self.slot.to_bytes());
    }
}

/// Takes the lowest slot that nobody has: see [`BpfSource`]'s drop for why the lowest.
fn take_slot(pins: &Pins) -> Result<u32, SourceError> {
    let pid = process::id();
    let own = i32::try_from(pid).ok().and_then(start_ticks);
    let owner = Owner {
        pid,
        pid_namespace: own_pid_namespace(),
        start_ticks: own.ok_or(SourceError::Missing { what: "/proc" })?,
    };
    for slot in 0..SLOTS {
        match pins.owners.update(&slot.to_bytes(), &owner.to_bytes(), MapFlags::NO_EXIST) {
            Ok(()) => return Ok(slot),
            Err(error) if error.kind() == libbpf_rs::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(refused("take a slot")(error)),
        }
    }
    Err(SourceError::Full { what: "slots for rings", limit: SLOTS })
}

/// The depths that a cgroup may have in the unified hierarchy, as bits; `None` where it is in
/// another hierarchy. More than one where a cgroup namespace or a mount hides how much is above: a
/// bit too many costs a look-up, one too few costs events.
fn levels(path: &Path) -> io::Result<Option<u32>> {
    let path = fs::canonicalize(path)?;
    let device = fs::metadata(&path)?.dev();
    if statfs(&path)?.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return Ok(None);
    }
    let same = |folder: &&Path| fs::metadata(folder).is_ok_and(|folder| folder.dev() == device);
    let above: Vec<&Path> = path.ancestors().skip(1).take_while(same).collect();
    let depth = u32::try_from(above.len()).unwrap_or(u32::MAX);
    let top = above.last().copied().unwrap_or(&path);
    let whole = fs::metadata(top)?.ino() == ROOT_INODE;
    // Deeper than the mask has bits: what is below it goes unseen, which nobody has met.
    Ok(Some(if whole { 1u32.checked_shl(depth) } else { u32::MAX.checked_shl(depth) }.unwrap_or(0)))
}

fn unwatchable(path: &Path, source: io::Error) -> SourceError {
    SourceError::Target { target: path.display().to_string(), source }
}
