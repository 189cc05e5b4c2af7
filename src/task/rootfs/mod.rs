//! The root file system of a container: mounts the list that containerd sends, and unmounts all of
//! it.
//!
//! Everything here blocks, so callers run it on the blocking pool. The working directory of the
//! process never changes.
//!
//! The semantics are those of containerd's `core/mount`, so that a snapshotter's mounts mean the
//! same under this shim. Some kinds and options are refused before anything is mounted, with an
//! error that names them ([`MountError::Unsupported`]): `fuse.*` types, `loop`, and the
//! `X-containerd.*` options and types that containerd's mount manager should have resolved.

use std::{
    fs, io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    mount::{MntFlags, MsFlags, umount2},
    sys::{
        stat::Mode,
        statvfs::{FsFlags, statvfs},
    },
};

use self::{idmap::Layers, options::Options};
use crate::sys;

mod idmap;
mod options;
mod overlay;
#[cfg(test)]
mod tests;
mod unmount;

pub use unmount::unmount_recursive;

/// One mount, with the fields of containerd's `types.Mount`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// The file system, such as `overlay`. For a bind mount it is `bind` by convention, and the
    /// options decide.
    pub kind: String,
    /// The device or directory; a name without meaning for file systems that have neither.
    pub source: String,
    /// The mount point below the root file system; empty for the root itself. It must exist,
    /// possibly in an earlier mount of the list. Symbolic links are followed as if the root file
    /// system were `/`.
    pub target: String,
    /// The options, as in fstab(5), one option per string.
    pub options: Vec<String>,
}

/// Why a root file system was not mounted or not unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A kind or an option that this shim does not support.
    #[error("mount of {source_path:?}: {what:?} is not supported")]
    Unsupported {
        /// The source of the mount.
        source_path: String,
        /// The unsupported kind or option.
        what: String,
    },
    /// Options that do not fit into the page that mount(2) takes, not even with relative lower
    /// directories.
    #[error("mount of {source_path:?}: {length} bytes of options exceed a page")]
    TooLong {
        /// The source of the mount.
        source_path: String,
        /// Bytes of all options, after shortening.
        length: usize,
    },
    /// A target that does not exist.
    #[error("failed to find the mount target {target:?} in {rootfs:?}")]
    Target {
        /// The target, as containerd sent it.
        target: String,
        /// The root file system in which it was looked up.
        rootfs: PathBuf,
        /// The error of openat2(2).
        source: io::Error,
    },
    /// A mount that the kernel refused.
    #[error("failed to mount {kind} {source_path:?} at {target:?}")]
    Mount {
        /// The kind of file system.
        kind: String,
        /// The source of the mount.
        source_path: String,
        /// The mount point that was asked for.
        target: PathBuf,
        /// The error that the kernel returned.
        source: io::Error,
    },
    /// The list of mounts of this process could not be read.
    #[error("failed to read the list of mounts")]
    List(#[source] io::Error),
    /// An unmount that the kernel refused, even a lazy one.
    #[error("failed to unmount {target:?}")]
    Unmount {
        /// The mount point that was asked for.
        target: PathBuf,
        /// The error that the kernel returned.
        source: io::Error,
    },
}

/// Mounts all of `mounts`, in order, at or below `rootfs`, which must be absolute. Blocks.
///
/// # Errors
///
/// The [`MountError`] of the first mount that fails. The mounts before it are unmounted again.
pub fn mount_all(mounts: &[Mount], rootfs: &Path) -> Result<(), MountError> {
    let parsed = mounts.iter().map(|mount| Options::parse(mount).map(|options| (mount, options)));
    // All options are parsed first, so that an unsupported one is refused before any mount.
    let mut done = Vec::new();
    for (mount, options) in parsed.collect::<Result<Vec<_>, _>>()? {
        let mounted = find_target(mount, rootfs).and_then(|target| {
            let count = mount_one(mount, options, &target)?;
            Ok(std::iter::repeat_n(target, count))
        });
        match mounted {
            Ok(targets) => done.extend(targets),
            Err(error) => {
                undo(done.iter().rev());
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Finds the mount point of a mount. A symbolic link in the root file system cannot lead out of it
/// (`RESOLVE_IN_ROOT`, Linux 5.6). Returns a path and not a descriptor, because no process of the
/// container runs yet that could replace the path.
fn find_target(mount: &Mount, rootfs: &Path) -> Result<PathBuf, MountError> {
    if mount.target.is_empty() {
        return Ok(rootfs.to_owned());
    }
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let found = open(rootfs, flags | OFlag::O_DIRECTORY, Mode::empty()).and_then(|root| {
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        openat2(&root, mount.target.as_str(), how)
    });
    found
        .map_err(io::Error::from)
        // The link is the path of the target with all symbolic links resolved.
        .and_then(|target| fs::read_link(format!("/proc/self/fd/{}", target.as_raw_fd())))
        .map_err(|source| MountError::Target {
            target: mount.target.clone(),
            rootfs: rootfs.to_owned(),
            source,
        })
}

/// Does one mount, in up to four steps: the mount itself; its propagation; a remount, for flags
/// that the kernel ignores for a new bind mount; the mapping of its owners. Returns the number of
/// mounts that were added at the target.
fn mount_one(mount: &Mount, options: Options, target: &Path) -> Result<usize, MountError> {
    let failed = |source: io::Error| MountError::Mount {
        kind: mount.kind.clone(),
        source_path: mount.source.clone(),
        target: target.to_owned(),
        source,
    };
    let Options { flags, propagation, mut data, maps } = options;
    let is_overlay = mount.kind == "overlay";
    let namespace = maps.map(|maps| maps.namespace()).transpose().map_err(failed)?;
    let layers = match &namespace {
        Some(namespace) if is_overlay => Some(Layers::shift(&mut data, namespace).map_err(failed)?),
        _ => None,
    };
    // A remount that changes only flags is left to the last `remount` below.
    if !flags.contains(MsFlags::MS_REMOUNT) || !data.is_empty() {
        let (folder, data) = if is_overlay { overlay::fit(data) } else { (None, data) };
        let data = data.join(",");
        // mount(2) copies one page at most, and would cut off the rest.
        if data.len() >= overlay::page() {
            return Err(MountError::TooLong {
                source_path: mount.source.clone(),
                length: data.len(),
            });
        }
        let mounted =
            overlay::mount_in(folder.as_deref(), &mount.source, target, &mount.kind, flags, &data);
        mounted.map_err(|errno| failed(errno.into()))?;
    }
    // The overlay has its own reference to its layers by now, so the mounts of the layers can go.
    drop(layers);
    // A remount adds no mount, so there is none to undo after a later failure.
    let count = usize::from(!flags.contains(MsFlags::MS_REMOUNT));
    let mut finished = change_propagation(target, propagation).map_err(io::Error::from);
    if flags.contains(MsFlags::MS_BIND | MsFlags::MS_RDONLY) {
        finished = finished.and_then(|()| remount(target, flags).map_err(io::Error::from));
    }
    let finished = match (namespace, is_overlay) {
        // Mounts an idmapped copy over the mount that was copied.
        (Some(namespace), false) => finished
            .and_then(|()| sys::idmap::mount_shifted(target, target, namespace))
            .map(|()| count + 1),
        (Some(_), true) | (None, _) => finished.map(|()| count),
    };
    finished.map_err(|error| {
        undo(std::iter::repeat_n(target, count));
        failed(error)
    })
}

/// Unmounts `targets` again after a failure. Lazily, so that a process with an open file in a mount
/// cannot keep it. Errors are ignored: the caller reports the failure that came before.
fn undo(targets: impl Iterator<Item = impl AsRef<Path>>) {
    for target in targets {
        let _ = umount2(target.as_ref(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
}

/// Changes the propagation of a mount; nothing for empty flags.
fn change_propagation(target: &Path, propagation: MsFlags) -> nix::Result<()> {
    match propagation.is_empty() {
        true => Ok(()),
        false => raw_mount("", target, "", propagation, ""),
    }
}

/// Applies the flags of a bind mount. For a new bind mount, mount(2) ignores all flags except
/// `MS_REC`.
fn remount(target: &Path, flags: MsFlags) -> nix::Result<()> {
    let flags = flags | MsFlags::MS_REMOUNT;
    match raw_mount("", target, "", flags, "") {
        // In a user namespace, flags that the mount was created with are locked
        // (`can_change_locked_flags`, Linux 6.18), so a remount must repeat them.
        Err(nix::Error::EPERM) => raw_mount("", target, "", flags | flags_of(target)?, ""),
        result => result,
    }
}

/// The flags that the mount at `target` has.
fn flags_of(target: &Path) -> nix::Result<MsFlags> {
    let has = statvfs(target)?.flags();
    Ok([
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ]
    .into_iter()
    .filter_map(|(is, flag)| has.contains(is).then_some(flag))
    .collect())
}

fn raw_mount(
    source: &str,
    target: &Path,
    kind: &str,
    flags: MsFlags,
    data: &str,
) -> nix::Result<()> {
    let data = (!data.is_empty()).then_some(data);
    nix::mount::mount(Some(source), target, Some(kind), flags, data)
}
