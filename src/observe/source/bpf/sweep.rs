//! What dead shims left behind, what is pinned at all, and taking it away.
//!
//! A shim that is killed cannot give its slot back: its ring and its targets stay. Whoever comes
//! next sweeps them. What belongs to a living shim is never touched, not even where its cgroup is
//! gone: it may still want the counts.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use libbpf_rs::{Link, MapCore as _};

use super::{
    layout::{Owner, Plain as _, SLOTS, TargetValue},
    loader::remove,
    pins::{LINKS, PinDirectory, Pins, UDP_LINKS, entries, value},
    refused,
};
use crate::{linux::process::start_ticks, observe::source::SourceError};

/// How much was swept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Rings of dead shims.
    pub slots: usize,
    /// Containers and trees that nobody watches any more.
    pub targets: usize,
    /// Pid and network namespaces of such.
    pub namespaces: usize,
    /// Processes of such trees, and dead ones.
    pub processes: usize,
}

/// What is pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The folder of the pins.
    pub folder: PathBuf,
    /// The versions that are pinned, as folders name them: `v1`.
    pub versions: Vec<String>,
    /// The programs of this build's version.
    pub links: Vec<PinnedLink>,
    /// Slots that a living shim has.
    pub slots: usize,
    /// Slots that a dead one left.
    pub stale_slots: usize,
    /// Containers and trees.
    pub targets: usize,
    /// Pid namespaces.
    pub namespaces: usize,
    /// Processes of trees.
    pub processes: usize,
}

/// A program's pinned attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedLink {
    /// `fork`, `exec`, `exit` or `port`; `bind4`, `bind6` or `release` where UDP is seen.
    pub name: String,
    /// The kernel's ids of the link and of the program; `None` where it cannot be opened.
    pub ids: Option<(u32, u32)>,
}

/// Takes the rings out of the slots that nobody has: see [`BpfSource`](super::BpfSource)'s drop.
/// Waits for the kernel's RCU, some 12 ms, for each.
///
/// # Errors
///
/// [`SourceError`] where the pins cannot be locked or opened.
pub fn free_rings(bpffs: &Path) -> Result<usize, SourceError> {
    let directory = PinDirectory::new(bpffs);
    if !directory.set().exists() {
        return Ok(0);
    }
    let Some(pins) = Pins::open(&directory)? else { return Ok(0) };
    let mut freed = 0;
    for slot in 0..SLOTS {
        let is_stale = matches!(value::<_, u32>(&pins.rings, &slot), Ok(Some(_)))
            && pins.owner(slot).is_none();
        freed += usize::from(is_stale && pins.rings.delete(&slot.to_bytes()).is_ok());
    }
    Ok(freed)
}

/// Removes what no living shim owns; its ring stays until the slot is taken again, or until
/// [`free_rings`]. Nothing pinned is no error.
///
/// # Errors
///
/// [`SourceError`] where the pins cannot be locked or opened.
pub fn sweep(bpffs: &Path) -> Result<Swept, SourceError> {
    let directory = PinDirectory::new(bpffs);
    if !directory.set().exists() {
        return Ok(Swept::default());
    }
    let _lock = directory.lock().map_err(refused("lock the pins"))?;
    let Some(pins) = Pins::open(&directory)? else { return Ok(Swept::default()) };
    let mut swept = Swept::default();
    let forget = |map: &libbpf_rs::MapHandle, key: Vec<u8>, count: &mut usize| {
        *count += usize::from(map.delete(&key).is_ok());
    };

    // Targets before owners: a shim takes its slot first and enters targets after, so a target
    // whose slot has no living owner now is nobody's.
    for (id, target) in entries::<u64, TargetValue>(&pins.targets) {
        if pins.owner(target.slot).is_none_or(|owner| !owner.is_alive()) {
            forget(&pins.targets, id.to_bytes(), &mut swept.targets);
        }
    }
    let targets: HashSet<u64> =
        entries::<u64, TargetValue>(&pins.targets).into_iter().map(|(id, _)| id).collect();
    for map in [&pins.namespaces, &pins.networks] {
        for (inode, id) in entries::<u32, u64>(map) {
            if !targets.contains(&id) {
                forget(map, inode.to_bytes(), &mut swept.namespaces);
            }
        }
    }
    for (cookie, id) in entries::<u64, u64>(&pins.listeners) {
        if !targets.contains(&id) {
            let _ = pins.listeners.delete(&cookie.to_bytes());
        }
    }
    for map in [&pins.connections, &pins.awaited] {
        let ids =
            map.keys().filter_map(|id| u64::from_bytes(&id)).filter(|id| !targets.contains(id));
        ids.collect::<Vec<_>>().into_iter().for_each(|id| drop(map.delete(&id.to_bytes())));
    }
    let mut trees = false;
    for (tgid, id) in entries::<u32, u64>(&pins.trees) {
        if targets.contains(&id) && i32::try_from(tgid).ok().and_then(start_ticks).is_some() {
            trees = true;
        } else {
            forget(&pins.trees, tgid.to_bytes(), &mut swept.processes);
        }
    }
    pins.configure(|config| {
        config.trees = u32::from(trees);
        if targets.is_empty() {
            config.levels = 0;
        }
    })?;
    for (slot, owner) in entries::<u32, Owner>(&pins.owners) {
        if !owner.is_alive() {
            forget(&pins.owners, slot.to_bytes(), &mut swept.slots);
        }
    }
    Ok(swept)
}

/// Looks at what is pinned, and changes nothing.
///
/// # Errors
///
/// [`SourceError`] where the pins cannot be read.
pub fn status(bpffs: &Path) -> Result<Status, SourceError> {
    let directory = PinDirectory::new(bpffs);
    let mut status = Status { folder: directory.root.clone(), ..Status::default() };
    match fs::read_dir(&directory.root) {
        Ok(folder) => {
            let names = folder.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            status.versions = names.filter(|name| name.starts_with('v')).collect();
            status.versions.sort();
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(status),
        Err(error) => return Err(refused("look at bpffs")(error)),
    }
    let has_udp = directory.set().join(UDP_LINKS[0].1).exists();
    for (_, name) in LINKS.into_iter().chain(UDP_LINKS.into_iter().filter(|_| has_udp)) {
        let info = Link::open(directory.set().join(name)).and_then(|link| link.info());
        let ids = info.ok().map(|info| (info.id, info.prog_id));
        status.links.push(PinnedLink { name: name.to_owned(), ids });
    }
    let Some(pins) = Pins::open(&directory)? else { return Ok(status) };
    let (alive, dead): (Vec<_>, Vec<_>) =
        entries::<u32, Owner>(&pins.owners).into_iter().partition(|(_, owner)| owner.is_alive());
    status.slots = alive.len();
    status.stale_slots = dead.len();
    status.targets = pins.targets.keys().count();
    status.namespaces = pins.namespaces.keys().count();
    status.processes = pins.trees.keys().count();
    Ok(status)
}

/// Unpins everything, of every version. Programs stay as long as a shim holds them.
///
/// # Errors
///
/// [`SourceError::Kernel`] where something cannot be removed.
pub fn unpin(bpffs: &Path) -> Result<(), SourceError> {
    let directory = PinDirectory::new(bpffs);
    if !directory.root.exists() {
        return Ok(());
    }
    let _lock = directory.lock().map_err(refused("lock the pins"))?;
    remove(&directory.root).map_err(refused("unpin the programs"))
}
