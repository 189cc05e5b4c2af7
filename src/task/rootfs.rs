//! The root file system of a container: mounted from the list that containerd sends, unmounted
//! whole.
//!
//! Everything here blocks and belongs on the blocking pool. The working directory of the process
//! never changes. The semantics are those of containerd's `core/mount`, so that a snapshotter's
//! mounts mean the same under this shim; what is refused is refused by name
//! ([`MountError::Unsupported`]), before anything is mounted: `fuse.*` types, `loop`, and the
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

/// One mount, as containerd's `types.Mount` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// File system, such as `overlay`; `bind` by convention for bind mounts, where the options
    /// decide.
    pub kind: String,
    /// Device or directory; a name without meaning for file systems that have none.
    pub source: String,
    /// Below the root file system; empty for the root itself. It must exist there, made by an
    /// earlier mount of the list. Symbolic links are followed as if the root file system were `/`.
    pub target: String,
    /// As in fstab(5), one option a string.
    pub options: Vec<String>,
}

/// Why a root file system was not mounted or not unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A kind or an option that this shim does not know how to mount.
    #[error("mount of {source_path:?}: {what:?} is not supported")]
    Unsupported {
        /// What was to be mounted.
        source_path: String,
        /// The kind or the option.
        what: String,
    },
    /// Options that do not fit into the page that mount(2) takes, not even with relative lowerdirs.
    #[error("mount of {source_path:?}: {length} bytes of options are too many")]
    TooLong {
        /// What was to be mounted.
        source_path: String,
        /// After shortening.
        length: usize,
    },
    /// A target that is not there.
    #[error("failed to find the mount target {target:?} in {rootfs:?}")]
    Target {
        /// As containerd sent it.
        target: String,
        /// Where it was looked for.
        rootfs: PathBuf,
        /// What openat2(2) answered.
        source: io::Error,
    },
    /// mount(2) refused.
    #[error("failed to mount {kind} {source_path:?} at {target:?}")]
    Mount {
        /// The file system.
        kind: String,
        /// What was to be mounted.
        source_path: String,
        /// Where.
        target: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The mounts of this process cannot be read.
    #[error("failed to read the list of mounts")]
    List(#[source] io::Error),
    /// umount(2) refused, even lazily.
    #[error("failed to unmount {target:?}")]
    Unmount {
        /// The mount point.
        target: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// Mounts all of `mounts`, in their order, at or below `rootfs`, which must be absolute. Blocks.
///
/// # Errors
///
/// [`MountError`] of the first that fails. What was mounted before it is unmounted again.
pub fn mount_all(mounts: &[Mount], rootfs: &Path) -> Result<(), MountError> {
    let parsed = mounts.iter().map(|mount| Options::parse(mount).map(|options| (mount, options)));
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

/// Where a mount goes. A link in the root file system cannot lead out of it (`RESOLVE_IN_ROOT`,
/// Linux 5.6). The answer is a path, not a descriptor: nothing of the container runs yet that could
/// move it.
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
        .and_then(|target| fs::read_link(format!("/proc/self/fd/{}", target.as_raw_fd())))
        .map_err(|source| MountError::Target {
            target: mount.target.clone(),
            rootfs: rootfs.to_owned(),
            source,
        })
}

/// One mount: the mount itself, then its propagation, then what a bind mount is told by a remount
/// only, then the shift of its owners. Answers how many mounts the target has more than before.
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
    // A remount that changes nothing but flags is the last step's work.
    if !flags.contains(MsFlags::MS_REMOUNT) || !data.is_empty() {
        let (folder, data) = if is_overlay { overlay::fit(data) } else { (None, data) };
        let data = data.join(",");
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
    drop(layers);
    let count = usize::from(!flags.contains(MsFlags::MS_REMOUNT));
    let mut finished = change_propagation(target, propagation).map_err(io::Error::from);
    if flags.contains(MsFlags::MS_BIND | MsFlags::MS_RDONLY) {
        finished = finished.and_then(|()| remount(target, flags).map_err(io::Error::from));
    }
    let finished = match (namespace, is_overlay) {
        // A copy, over what was copied.
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

/// Lazily, so that nobody who looks into a mount can keep it. The error to tell is the one before.
fn undo(targets: impl Iterator<Item = impl AsRef<Path>>) {
    for target in targets {
        let _ = umount2(target.as_ref(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
}

fn change_propagation(target: &Path, propagation: MsFlags) -> nix::Result<()> {
    match propagation.is_empty() {
        true => Ok(()),
        false => raw_mount("", target, "", propagation, ""),
    }
}

/// mount(2) takes no more than `MS_REC` of the flags of a new bind mount; the others need this.
fn remount(target: &Path, flags: MsFlags) -> nix::Result<()> {
    let flags = flags | MsFlags::MS_REMOUNT;
    match raw_mount("", target, "", flags, "") {
        // In a user namespace, flags that came with the mount are locked
        // (`can_change_locked_flags`, Linux 6.18): they must be asked for again.
        Err(nix::Error::EPERM) => raw_mount("", target, "", flags | flags_of(target)?, ""),
        result => result,
    }
}

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
