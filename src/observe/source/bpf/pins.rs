//! What is pinned, by name, and where.

use std::{
    env,
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use libbpf_rs::{Link, MapCore as _, MapFlags, MapHandle};
use nix::{
    mount::{MsFlags, mount},
    unistd::geteuid,
};

use super::{
    layout::{Config, Owner, Plain},
    refused,
};
use crate::{
    linux::{namespace, process::start_ticks},
    observe::source::SourceError,
    platform::lock::{Lock, lock_within},
};

/// The version of what the pinned programs and a shim agree on: `bpf/record.h` and the maps. Two
/// versions live side by side, each with its own pins.
pub const ABI: u32 = 4;

/// Names a bpffs to use in directory of the node's own: a folder where one is mounted.
pub const BPFFS_VARIABLE: &str = "LOOKOUT_BPFFS";

/// Where bpffs is mounted by custom, and where it is mounted if it is nowhere.
const CUSTOM: &str = "/sys/fs/bpf";

/// The programs' links, as they are pinned: function and name.
pub(super) const LINKS: [(&str, &str); 4] = [
    ("lookout_on_fork", "fork"),
    ("lookout_on_exec", "exec"),
    ("lookout_on_exit", "exit"),
    ("lookout_on_state", "port"),
];

/// Those that see UDP: attached to a cgroup, which not every node lets us. All of them are pinned,
/// or none.
pub(super) const UDP_LINKS: [(&str, &str); 3] = [
    ("lookout_on_bind4", "bind4"),
    ("lookout_on_bind6", "bind6"),
    ("lookout_on_release", "release"),
];

/// The inode of the root of every cgroup hierarchy: `kernfs_create_root`.
pub(super) const ROOT_INODE: u64 = 1;

/// The root of the unified hierarchy; `None` where it is not mounted, or only a part of it is seen
/// from here.
pub(super) fn unified_root() -> Option<PathBuf> {
    let mounts = procfs::process::Process::myself().and_then(|myself| myself.mountinfo()).ok()?;
    let unified = mounts
        .into_iter()
        .filter(|mount| mount.fs_type == "cgroup2")
        .map(|mount| mount.mount_point);
    unified
        .into_iter()
        .find(|path| fs::metadata(path).is_ok_and(|folder| folder.ino() == ROOT_INODE))
}

/// Finds the bpffs that holds the pins, and mounts one where the node has none.
///
/// # Errors
///
/// [`SourceError::Kernel`]: the mounts cannot be read, or the kernel refuses to mount it.
pub fn bpffs() -> Result<PathBuf, SourceError> {
    if let Some(path) = env::var_os(BPFFS_VARIABLE).filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let mounts = procfs::process::Process::myself().and_then(|myself| myself.mountinfo());
    let mounts = mounts.map_err(io::Error::other).map_err(refused("read the mounts"))?;
    let mut found: Vec<PathBuf> = mounts
        .into_iter()
        .filter(|mount| mount.fs_type == "bpf" && mount.root == "/")
        .map(|mount| mount.mount_point)
        .collect();
    if let Some(custom) = found.iter().position(|path| path == Path::new(CUSTOM)) {
        return Ok(found.swap_remove(custom));
    }
    if let Some(other) = found.into_iter().next() {
        return Ok(other);
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), CUSTOM, Some("bpf"), flags, Some("mode=0700"))
        .map_err(refused("mount bpffs"))?;
    Ok(CUSTOM.into())
}

/// Our folder in a bpffs, and the set of this build in it.
#[derive(Debug, Clone)]
pub(super) struct PinDirectory {
    /// `<bpffs>/lookout`.
    pub(super) root: PathBuf,
}

impl PinDirectory {
    pub(super) fn new(bpffs: &Path) -> Self {
        Self { root: bpffs.join("lookout") }
    }

    /// The pins of this build. Its name has no dot: bpffs refuses those.
    pub(super) fn set(&self) -> PathBuf {
        self.root.join(format!("v{ABI}"))
    }

    /// Where a set is made, before it is renamed to its directory. bpffs renames as any file system
    /// does, so a set is there whole or not at all.
    pub(super) fn unfinished(&self) -> PathBuf {
        self.root.join("loading")
    }

    /// Makes the folder where it is missing.
    pub(super) fn make(&self) -> Result<(), SourceError> {
        let made = DirBuilder::new().mode(0o700).create(&self.root);
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(refused("make a folder in bpffs")(error))
            }
            _ => self.check(),
        }
    }

    /// Refuses a folder that somebody else can change. A bpffs is mounted with mode 1777 by
    /// default, so anyone could have made it before us, and could put other pins in the directory of
    /// ours.
    pub(super) fn check(&self) -> Result<(), SourceError> {
        let folder = fs::symlink_metadata(&self.root).map_err(refused("look at bpffs"))?;
        if folder.is_dir() && folder.uid() == geteuid().as_raw() && folder.mode() & 0o077 == 0 {
            return Ok(());
        }
        let source = io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it belongs to another, or is open to others",
        );
        Err(SourceError::Kernel { action: "trust the folder of the pins", source })
    }

    /// Waits for the lock that every change of the whole takes: loading, sweeping, the node's
    /// settings. Held for milliseconds.
    pub(super) fn lock(&self) -> io::Result<Lock> {
        lock_within(File::open(&self.root)?, LOCK_WITHIN)
    }
}

/// How long the lock is waited for. It is held for milliseconds, unless its holder was stopped.
const LOCK_WITHIN: Duration = Duration::from_secs(1);

/// The pinned set, opened.
#[derive(Debug)]
pub(super) struct Pins {
    pub(super) rings: MapHandle,
    pub(super) owners: MapHandle,
    pub(super) targets: MapHandle,
    pub(super) namespaces: MapHandle,
    pub(super) networks: MapHandle,
    pub(super) listeners: MapHandle,
    pub(super) connections: MapHandle,
    pub(super) awaited: MapHandle,
    pub(super) trees: MapHandle,
    pub(super) config: MapHandle,
    /// Whether the programs that see UDP are attached.
    pub(super) sees_udp: bool,
    /// Our folder, for the lock: it may be gone from bpffs by the time that the lock is wanted.
    root: File,
    /// Keep the programs attached, whatever happens to the pins.
    _links: Vec<OwnedFd>,
}

impl Pins {
    /// Opens the set of this build.
    ///
    /// `Ok(None)`: nothing is pinned.
    pub(super) fn open(directory: &PinDirectory) -> Result<Option<Self>, SourceError> {
        let set = directory.set();
        if !set.try_exists().map_err(refused("look at bpffs"))? {
            return Ok(None);
        }
        directory.check()?;
        let map = |name: &str| {
            MapHandle::from_pinned_path(set.join(name)).map_err(refused("open the pinned maps"))
        };
        let link = |name: &str| {
            let link = Link::open(set.join(name)).map_err(refused("open the pinned links"))?;
            link.as_fd().try_clone_to_owned().map_err(refused("keep the pinned links"))
        };
        let udp: Vec<OwnedFd> =
            match set.join(UDP_LINKS[0].1).try_exists().map_err(refused("look at bpffs"))? {
                true => UDP_LINKS.iter().map(|(_, name)| link(name)).collect::<Result<_, _>>()?,
                false => Vec::new(),
            };
        let links = LINKS.iter().map(|(_, name)| link(name)).collect::<Result<Vec<_>, _>>()?;
        Ok(Some(Self {
            rings: map("rings")?,
            owners: map("owners")?,
            targets: map("targets")?,
            namespaces: map("namespaces")?,
            networks: map("networks")?,
            listeners: map("listeners")?,
            connections: map("connections")?,
            awaited: map("awaited")?,
            trees: map("trees")?,
            config: map("config")?,
            root: File::open(&directory.root).map_err(refused("open the folder of the pins"))?,
            sees_udp: !udp.is_empty(),
            _links: links.into_iter().chain(udp).collect(),
        }))
    }

    /// As [`PinDirectory::lock`].
    pub(super) fn lock(&self) -> Result<Lock, SourceError> {
        let root = self.root.try_clone();
        root.and_then(|root| lock_within(root, LOCK_WITHIN)).map_err(refused("lock the pins"))
    }

    /// Changes what is set for the whole node. The caller holds the lock.
    pub(super) fn configure(&self, change: impl FnOnce(&mut Config)) -> Result<(), SourceError> {
        let before: Config = value(&self.config, &0u32)?.unwrap_or_default();
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return Ok(());
        }
        self.config
            .update(&0u32.to_bytes(), &after.to_bytes(), MapFlags::ANY)
            .map_err(refused("set what is set"))
    }

    /// Who took a slot.
    pub(super) fn owner(&self, slot: u32) -> Option<Owner> {
        value(&self.owners, &slot).ok().flatten()
    }
}

/// A value of a map; `None` where it has no such key.
pub(super) fn value<K: Plain, V: Plain>(
    map: &MapHandle,
    key: &K,
) -> Result<Option<V>, SourceError> {
    let bytes =
        map.lookup(&key.to_bytes(), MapFlags::ANY).map_err(refused("look into a pinned map"))?;
    Ok(bytes.as_deref().and_then(V::from_bytes))
}

/// Every key and value of a map, as far as they stay while it is read.
pub(super) fn entries<K: Plain, V: Plain>(map: &MapHandle) -> Vec<(K, V)> {
    let keys: Vec<K> = map.keys().filter_map(|key| K::from_bytes(&key)).collect();
    keys.into_iter()
        .filter_map(|key| value(map, &key).ok().flatten().map(|value| (key, value)))
        .collect()
}

/// The inode number of this process's pid namespace, as the programs have it: 0 for the initial
/// one, whose number is fixed (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
pub(super) fn own_pid_namespace() -> u32 {
    const INITIAL: u32 = 0xEFFF_FFFC;
    let inode = namespace::own_inode(namespace::Kind::Pid).unwrap_or(INITIAL);
    if inode == INITIAL { 0 } else { inode }
}

impl Owner {
    /// Whether this very process still runs, as far as this one can know: in another pid namespace
    /// its number says nothing here. From the initial namespace it is seen whether that one still
    /// has processes.
    pub(super) fn is_alive(&self) -> bool {
        let own = own_pid_namespace();
        if self.pid_namespace == own {
            return i32::try_from(self.pid).ok().and_then(start_ticks) == Some(self.start_ticks);
        }
        own != 0 || is_inhabited(self.pid_namespace)
    }
}

/// Whether any process is in this pid namespace. Looks at all of the node.
fn is_inhabited(namespace: u32) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    let mut inodes =
        processes.flatten().filter_map(|entry| fs::metadata(entry.path().join("ns/pid")).ok());
    inodes.any(|found| found.ino() == u64::from(namespace))
}
