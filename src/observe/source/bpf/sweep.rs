//! Removes the entries of dead shims, reads the status of the pins, and removes all pins.
//!
//! A shim that is killed cannot give its slot back, so its ring and its targets stay in the maps. A
//! later shim or `doctor --sweep` removes them. The entries of a living shim are never removed,
//! even if their cgroup no longer exists, because the shim may still read their counts.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use libbpf_rs::{Link, MapCore as _};

use super::{
    layout::{CallContext, Member, Owner, Plain as _, SLOTS, TargetValue},
    loader::remove,
    pins::{LINKS, PinDirectory, Pins, UDP_LINKS, map_entries, map_value},
    refused,
    slot::free_ring,
};
use crate::{linux::process::start_ticks, observe::source::SourceError};

/// How many entries of each kind a sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// The number of slots that dead shims owned.
    pub slots: usize,
    /// The number of containers and process trees that dead shims watched.
    pub targets: usize,
    /// The number of pid and network namespaces of containers and trees that dead shims watched.
    pub namespaces: usize,
    /// The number of processes that were left in the map of members: of trees that dead shims
    /// watched, and dead processes of other trees.
    pub processes: usize,
}

/// The pinned programs, and the entries of the pinned maps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The directory of all pins: `<bpffs>/lookout`.
    pub directory: PathBuf,
    /// The pinned versions by the names of their directories, for example `v1`, sorted.
    pub versions: Vec<String>,
    /// The programs of this build's version; empty if nothing is pinned.
    pub links: Vec<PinnedLink>,
    /// The number of slots that living shims own.
    pub slots: usize,
    /// The number of slots that dead shims owned.
    pub stale_slots: usize,
    /// The number of watched containers and process trees.
    pub targets: usize,
    /// The number of watched pid namespaces.
    pub namespaces: usize,
    /// The number of processes of watched containers and trees.
    pub processes: usize,
    /// How many entries of shared maps the watched targets were refused, because they had used up
    /// their shares. Each is one lost record of its target.
    pub refused: u64,
}

/// The pinned link that keeps one program attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedLink {
    /// `fork`, `exec`, `exit` or `port`; also `bind4`, `bind6` or `release` if UDP is seen.
    pub name: String,
    /// The kernel's ids of the link and of the program; `None` if the link cannot be opened.
    pub ids: Option<(u32, u32)>,
}

/// Frees the rings in slots without an owner, and returns how many it has freed. A shim leaves its
/// ring in the slot when it ends: see the `Drop` of [`BpfSource`](super::BpfSource). For each ring
/// the kernel waits for an RCU grace period, some 12 ms.
///
/// # Errors
///
/// [`SourceError`] if the pins cannot be opened.
pub fn free_rings(bpffs: &Path) -> Result<usize, SourceError> {
    let directory = PinDirectory::new(bpffs);
    if !directory.set_directory().exists() {
        return Ok(0);
    }
    let Some(pins) = Pins::open(&directory)? else { return Ok(0) };
    let mut freed = 0;
    for slot in 0..SLOTS {
        freed += usize::from(free_ring(&pins, slot)?);
    }
    Ok(freed)
}

/// Removes all entries that no living shim owns. The rings of dead shims stay until their slots are
/// claimed again, or until [`free_rings`] is called. Succeeds if nothing is pinned.
///
/// # Errors
///
/// [`SourceError`] if the pins cannot be locked or opened.
pub fn sweep(bpffs: &Path) -> Result<Swept, SourceError> {
    let directory = PinDirectory::new(bpffs);
    if !directory.set_directory().exists() {
        return Ok(Swept::default());
    }
    let _lock = directory.lock().map_err(refused("lock the pin directory"))?;
    let Some(pins) = Pins::open(&directory)? else { return Ok(Swept::default()) };
    let mut swept = Swept::default();
    // An eBPF program may delete an entry meanwhile, so a failed delete is not an error.
    let forget = |map: &libbpf_rs::MapHandle, key: Vec<u8>, count: &mut usize| {
        *count += usize::from(map.delete(&key).is_ok());
    };

    // Targets are removed before owners: a shim claims its slot before it adds targets, so a target
    // in a slot without a living owner belongs to no shim.
    for (id, target) in map_entries::<u64, TargetValue>(&pins.targets) {
        if pins.owner(target.slot).is_none_or(|owner| !owner.is_alive()) {
            forget(&pins.targets, id.to_bytes(), &mut swept.targets);
        }
    }
    // The target is looked up anew for each entry, because a shim may add a target at any time. It
    // adds the target before the entries in the other maps.
    let is_watched = |id: &u64| !matches!(map_value::<_, TargetValue>(&pins.targets, id), Ok(None));
    for (inode, id) in map_entries::<u32, u64>(&pins.namespaces) {
        if !is_watched(&id) {
            forget(&pins.namespaces, inode.to_bytes(), &mut swept.namespaces);
        }
    }
    for (cookie, id) in map_entries::<u64, u64>(&pins.networks) {
        if !is_watched(&id) {
            forget(&pins.networks, cookie.to_bytes(), &mut swept.namespaces);
        }
    }
    // The values of these two maps have different types, so only the keys are decoded.
    for map in [&pins.connections, &pins.awaited] {
        let ids = map.keys().filter_map(|id| u64::from_bytes(&id)).filter(|id| !is_watched(id));
        ids.collect::<Vec<_>>().into_iter().for_each(|id| drop(map.delete(&id.to_bytes())));
    }
    for (tgid, member) in map_entries::<u32, Member>(&pins.members) {
        // The programs delete the entries that they have made (with flags). Of the entries that
        // shims have made, a shim that was killed while it added a tree can have left that of a
        // process that has ended.
        let is_dead = || i32::try_from(tgid).ok().and_then(start_ticks).is_none();
        if member.flags == 0 && (!is_watched(&member.target) || is_dead()) {
            forget(&pins.members, tgid.to_bytes(), &mut swept.processes);
        }
    }
    pins.configure(|config| {
        // `levels` has one bit for each depth of a cgroup. It is cleared as a whole, when no target
        // is left: no map shows which target needs which bit.
        if pins.targets.keys().next().is_none() {
            config.levels = 0;
        }
    })?;
    for (call, slot) in map_entries::<u64, u32>(&pins.calls) {
        if pins.owner(slot).is_none_or(|owner| !owner.is_alive()) {
            let _ = pins.calls.delete(&call.to_bytes());
        }
    }
    // A mark of a spawning thread exists for the moment of the spawn only, unless the shim was
    // killed then.
    for (tid, call) in map_entries::<u32, CallContext>(&pins.spawners) {
        if matches!(map_value::<_, u32>(&pins.calls, &call.id), Ok(None)) {
            let _ = pins.spawners.delete(&tid.to_bytes());
        }
    }
    for (slot, owner) in map_entries::<u32, Owner>(&pins.owners) {
        if !owner.is_alive() {
            forget(&pins.owners, slot.to_bytes(), &mut swept.slots);
        }
    }
    Ok(swept)
}

/// Reads the status of the pins, and changes nothing.
///
/// # Errors
///
/// [`SourceError`] if the pins cannot be read.
pub fn status(bpffs: &Path) -> Result<Status, SourceError> {
    let directory = PinDirectory::new(bpffs);
    let mut status = Status { directory: directory.root.clone(), ..Status::default() };
    match fs::read_dir(&directory.root) {
        Ok(versions) => {
            let names = versions.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            status.versions = names.filter(|name| name.starts_with('v')).collect();
            status.versions.sort();
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(status),
        Err(error) => return Err(refused("read the pin directory")(error)),
    }
    // Either all UDP programs are pinned or none is, so only the first one is checked.
    let has_udp = directory.set_directory().join(UDP_LINKS[0].1).exists();
    for (_, name) in LINKS.into_iter().chain(UDP_LINKS.into_iter().filter(|_| has_udp)) {
        let info = Link::open(directory.set_directory().join(name)).and_then(|link| link.info());
        let ids = info.ok().map(|info| (info.id, info.prog_id));
        status.links.push(PinnedLink { name: name.to_owned(), ids });
    }
    let Some(pins) = Pins::open(&directory)? else { return Ok(status) };
    let (alive, dead): (Vec<_>, Vec<_>) = map_entries::<u32, Owner>(&pins.owners)
        .into_iter()
        .partition(|(_, owner)| owner.is_alive());
    status.slots = alive.len();
    status.stale_slots = dead.len();
    let targets = map_entries::<u64, TargetValue>(&pins.targets);
    status.targets = targets.len();
    status.namespaces = pins.namespaces.keys().count();
    status.processes = pins.members.keys().count();
    status.refused = targets.iter().map(|(_, target)| u64::from(target.refused)).sum();
    Ok(status)
}

/// Unpins the programs and maps of every version. The kernel keeps them as long as a shim holds
/// their descriptors.
///
/// # Errors
///
/// [`SourceError::Kernel`] if a pin cannot be removed.
pub fn unpin(bpffs: &Path) -> Result<(), SourceError> {
    let directory = PinDirectory::new(bpffs);
    if !directory.root.exists() {
        return Ok(());
    }
    let _lock = directory.lock().map_err(refused("lock the pin directory"))?;
    remove(&directory.root).map_err(refused("remove the pins of the eBPF programs"))
}
