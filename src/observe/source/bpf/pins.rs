//! The pinned maps and links by name, and the directory that holds them.

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

use libbpf_rs::{Link, MapCore as _, MapFlags, MapHandle, Program};
use nix::{
    mount::{MsFlags, mount},
    unistd::geteuid,
};

use super::{
    layout::{Config, Owner, Plain},
    refused,
};
use crate::{
    linux::{
        cgroup, mountinfo, namespace,
        process::{pids, start_ticks},
    },
    observe::source::SourceError,
    platform::lock::{Lock, lock_within},
};

/// The version of the interface between the pinned programs and a shim: `bpf/record.h` and the
/// maps. Two versions can be pinned at the same time, each in its own directory.
pub const ABI: u32 = 9;

/// The environment variable with the mount point of the bpffs to use, instead of the node's own.
pub const BPFFS_VARIABLE: &str = "LOOKOUT_BPFFS";

/// The usual mount point of bpffs. A bpffs is mounted there if the node has none.
const USUAL_MOUNT: &str = "/sys/fs/bpf";

/// The programs and the names under which their links are pinned.
pub(super) const LINKS: [(&str, &str); 4] = [
    ("lookout_on_fork", "fork"),
    ("lookout_on_exec", "exec"),
    ("lookout_on_exit", "exit"),
    ("lookout_on_state", "port"),
];

/// The program that a shim runs, and the name under which it is pinned.
pub(super) const MARK_SPAWNER: (&str, &str) = ("lookout_mark_spawner", "call");

/// The programs that see UDP, and the names under which their links are pinned. They are attached
/// to a cgroup, which not every node permits, so either all of them are pinned or none.
pub(super) const UDP_LINKS: [(&str, &str); 3] = [
    ("lookout_on_bind4", "bind4"),
    ("lookout_on_bind6", "bind6"),
    ("lookout_on_release", "release"),
];

/// The inode number of the root of every cgroup hierarchy (`kernfs_create_root`).
pub(super) const ROOT_INODE: u64 = 1;

/// The root directory of the unified hierarchy. `None` if the hierarchy is not mounted, or if only
/// a part of it is visible in this process's mount or cgroup namespace.
pub(super) fn unified_root() -> Option<PathBuf> {
    let mountinfo = mountinfo::read().ok()?;
    let mut unified = mountinfo::parse(&mountinfo)
        .filter(|mount| mount.kind == b"cgroup2")
        .map(|mount| mount.point);
    unified.find(|path| cgroup::id(path).is_ok_and(|id| id == ROOT_INODE))
}

/// Finds the bpffs that holds the pins, and mounts one if the node has none.
///
/// # Errors
///
/// [`SourceError::Kernel`] if the mounts cannot be read, or if the kernel refuses the mount.
pub fn bpffs() -> Result<PathBuf, SourceError> {
    if let Some(path) = env::var_os(BPFFS_VARIABLE).filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let mountinfo = mountinfo::read().map_err(refused("read the mounts"))?;
    let mut found: Vec<PathBuf> = mountinfo::parse(&mountinfo)
        // A bind mount of a subdirectory has another root, and would hide our pin directory.
        .filter(|mount| mount.kind == b"bpf" && mount.root == Path::new("/"))
        .map(|mount| mount.point)
        .collect();
    // All shims must agree on one mount, so the usual one is preferred to the first in the list.
    if let Some(usual) = found.iter().position(|path| path == Path::new(USUAL_MOUNT)) {
        return Ok(found.swap_remove(usual));
    }
    if let Some(other) = found.into_iter().next() {
        return Ok(other);
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), USUAL_MOUNT, Some("bpf"), flags, Some("mode=0700"))
        .map_err(refused("mount bpffs"))?;
    Ok(USUAL_MOUNT.into())
}

/// The project's directory in a bpffs. It has one directory for each pinned version.
#[derive(Debug, Clone)]
pub(super) struct PinDirectory {
    /// `<bpffs>/lookout`.
    pub(super) root: PathBuf,
}

impl PinDirectory {
    pub(super) fn new(bpffs: &Path) -> Self {
        Self { root: bpffs.join("lookout") }
    }

    /// The directory of this build's pins. Its name has no dot, because bpffs refuses names with
    /// dots (`bpf_lookup`).
    pub(super) fn set_directory(&self) -> PathBuf {
        self.root.join(format!("v{ABI}"))
    }

    /// The directory in which a set is pinned before it is renamed to [`set_directory`](Self::set).
    /// The rename is atomic, so other processes see a complete set or none.
    pub(super) fn unfinished_directory(&self) -> PathBuf {
        self.root.join("loading")
    }

    /// Creates the directory if it does not exist.
    pub(super) fn create(&self) -> Result<(), SourceError> {
        match DirBuilder::new().mode(0o700).create(&self.root) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(refused("create the pin directory")(error))
            }
            _ => self.check_owner(),
        }
    }

    /// Refuses a directory that another user can change. A bpffs is mounted with mode 1777 by
    /// default, so any user could have created the directory first, and could replace our pins.
    pub(super) fn check_owner(&self) -> Result<(), SourceError> {
        // symlink_metadata does not follow a symbolic link, so a link to a directory of root is
        // refused too.
        let metadata =
            fs::symlink_metadata(&self.root).map_err(refused("read the pin directory"))?;
        let is_private = metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o077 == 0;
        if metadata.is_dir() && is_private {
            return Ok(());
        }
        let source = io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the directory belongs to another user, or other users can access it",
        );
        Err(SourceError::Kernel { action: "trust the pin directory", source })
    }

    /// Waits for the lock that serialises loading, sweeping and changes of the node's settings. A
    /// process holds the lock for milliseconds.
    ///
    /// # Errors
    ///
    /// The error of [`lock_within`]: `TimedOut` if another process still has the lock after
    /// [`LOCK_TIMEOUT`].
    pub(super) fn lock(&self) -> io::Result<Lock> {
        lock_within(File::open(&self.root)?, LOCK_TIMEOUT)
    }
}

/// How long to wait for the lock. A process holds the lock for milliseconds, unless it was stopped
/// by a signal.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// The opened maps and links of the pinned set. `bpf/maps.h` describes each map.
#[derive(Debug)]
pub(super) struct Pins {
    pub(super) rings: MapHandle,
    pub(super) owners: MapHandle,
    pub(super) targets: MapHandle,
    pub(super) namespaces: MapHandle,
    pub(super) networks: MapHandle,
    pub(super) connections: MapHandle,
    pub(super) awaited: MapHandle,
    pub(super) listeners: MapHandle,
    pub(super) members: MapHandle,
    pub(super) calls: MapHandle,
    pub(super) spawners: MapHandle,
    pub(super) config: MapHandle,
    /// The program `lookout_mark_spawner`, which a shim runs itself; it is not attached.
    pub(super) call: OwnedFd,
    /// Whether the programs that see UDP are attached.
    pub(super) sees_udp: bool,
    /// The pin directory, for the lock. It is held open, because it may be removed from bpffs
    /// before the lock is taken.
    root: File,
    /// The descriptors of the links. They are held so that the programs stay attached when the pins
    /// are removed.
    _links: Vec<OwnedFd>,
}

impl Pins {
    /// Opens the set of this build. `None` if it is not pinned.
    ///
    /// # Errors
    ///
    /// [`SourceError::Kernel`] if the pin directory is not trusted, or if a pin cannot be opened.
    pub(super) fn open(directory: &PinDirectory) -> Result<Option<Self>, SourceError> {
        let set = directory.set_directory();
        if !set.try_exists().map_err(refused("read the pin directory"))? {
            return Ok(None);
        }
        directory.check_owner()?;
        let map = |name: &str| {
            MapHandle::from_pinned_path(set.join(name))
                .map_err(refused("open the pinned eBPF maps"))
        };
        let link = |name: &str| {
            let link = Link::open(set.join(name)).map_err(refused("open the pinned eBPF links"))?;
            // A duplicate of the descriptor, because the `Link` closes its descriptor when it is
            // dropped.
            link.as_fd()
                .try_clone_to_owned()
                .map_err(refused("duplicate the descriptor of a pinned eBPF link"))
        };
        let udp: Vec<OwnedFd> = match set
            .join(UDP_LINKS[0].1)
            .try_exists()
            .map_err(refused("read the pin directory"))?
        {
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
            connections: map("connections")?,
            awaited: map("awaited")?,
            listeners: map("listeners")?,
            members: map("members")?,
            calls: map("calls")?,
            spawners: map("spawners")?,
            call: Program::fd_from_pinned_path(set.join(MARK_SPAWNER.1))
                .map_err(refused("open a pinned eBPF program"))?,
            config: map("config")?,
            root: File::open(&directory.root).map_err(refused("open the pin directory"))?,
            sees_udp: !udp.is_empty(),
            _links: links.into_iter().chain(udp).collect(),
        }))
    }

    /// Waits for the lock of [`PinDirectory::lock`].
    pub(super) fn lock(&self) -> Result<Lock, SourceError> {
        let root = self.root.try_clone();
        root.and_then(|root| lock_within(root, LOCK_TIMEOUT))
            .map_err(refused("lock the pin directory"))
    }

    /// Changes the settings of the whole node. The caller holds the lock, because this function
    /// reads, changes and writes the settings.
    pub(super) fn configure(&self, change: impl FnOnce(&mut Config)) -> Result<(), SourceError> {
        let before: Config = map_value(&self.config, &0u32)?.unwrap_or_default();
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return Ok(());
        }
        self.config
            .update(&0u32.to_bytes(), &after.to_bytes(), MapFlags::ANY)
            .map_err(refused("change the settings of the eBPF programs"))
    }

    /// The process that owns a slot; `None` if the slot is free or cannot be read.
    pub(super) fn owner(&self, slot: u32) -> Option<Owner> {
        map_value(&self.owners, &slot).ok().flatten()
    }
}

/// The value of a key in a pinned map; `None` if the map does not have the key.
pub(super) fn map_value<K: Plain, V: Plain>(
    map: &MapHandle,
    key: &K,
) -> Result<Option<V>, SourceError> {
    let bytes =
        map.lookup(&key.to_bytes(), MapFlags::ANY).map_err(refused("read a pinned eBPF map"))?;
    Ok(bytes.as_deref().and_then(V::from_bytes))
}

/// All keys and values of a map. An entry that is added or deleted meanwhile may be left out.
pub(super) fn map_entries<K: Plain, V: Plain>(map: &MapHandle) -> Vec<(K, V)> {
    // All keys are read first, because callers delete entries, and the kernel begins again at the
    // first key if the current key was deleted (`htab_map_get_next_key`).
    let keys: Vec<K> = map.keys().filter_map(|key| K::from_bytes(&key)).collect();
    keys.into_iter()
        .filter_map(|key| map_value(map, &key).ok().flatten().map(|value| (key, value)))
        .collect()
}

/// The inode number of this process's pid namespace in the form that the programs use: 0 for the
/// initial namespace, which has a fixed number (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
pub(super) fn own_pid_namespace() -> u32 {
    const INITIAL: u32 = 0xEFFF_FFFC;
    let inode = namespace::own_inode(namespace::Kind::Pid).unwrap_or(INITIAL);
    if inode == INITIAL { 0 } else { inode }
}

impl Owner {
    /// Whether the owner still runs, as far as this process can know. The pid of an owner in
    /// another pid namespace has no meaning in this one. In the initial pid namespace, such an
    /// owner counts as alive while its namespace has processes. In any other namespace, it always
    /// counts as alive.
    pub(super) fn is_alive(&self) -> bool {
        let own = own_pid_namespace();
        if self.pid_namespace == own {
            let start = i32::try_from(self.pid).ok().and_then(start_ticks);
            // A tick more or less: the two processes may be in different time namespaces.
            return start.is_some_and(|start| start.abs_diff(self.start_ticks) <= 1);
        }
        // Expensive, but only needed for an owner in another pid namespace.
        own != 0 || has_processes(self.pid_namespace)
    }
}

/// Whether any process is in this pid namespace. Reads `/proc` of the whole node.
fn has_processes(inode: u32) -> bool {
    // If /proc cannot be read, the answer is yes, because a sweep must not remove the entries of a
    // living shim.
    let Ok(pids) = pids() else { return true };
    pids.into_iter()
        .any(|pid| namespace::inode(pid, namespace::Kind::Pid).is_ok_and(|of| of == inode))
}
