//! The root file system of a container: mounts the list of mounts that containerd sends, and
//! unmounts all of them.
//!
//! All functions block, so callers run them on [`workers`](crate::workers). They do not change the
//! working directory of the process.
//!
//! The semantics are those of containerd's `core/mount`, so that a snapshotter's mounts have the
//! same result with this shim. Some kinds and options are refused before anything is mounted, with
//! an error that names them ([`MountError::Unsupported`]): the `X-containerd.*` options and types
//! that containerd's mount manager should have resolved.

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
use crate::{
    reaper::Reaper,
    sys::{self, loop_device::LoopDevice},
};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod helper;
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
    /// The file system, such as `overlay`. For a bind mount it is `bind` by convention, but only
    /// the options make it a bind mount.
    pub kind: String,
    /// The device or directory. For file systems without either, a name that has no meaning.
    pub source: String,
    /// The mount point below the root file system; empty for the root itself. The mount point must
    /// exist, possibly in an earlier mount of the list. Symbolic links are followed as if the root
    /// file system were `/`.
    pub target: String,
    /// The options, as in fstab(5), one option per string.
    pub options: Vec<String>,
}

/// Why a root file system was not mounted or not unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mount has a kind or an option that this shim does not support.
    #[error("mount of {source_path:?}: {what:?} is not supported")]
    Unsupported {
        /// The source of the mount.
        source_path: String,
        /// The unsupported kind or option.
        what: String,
    },
    /// The options do not fit into the page that mount(2) takes, not even with relative lower
    /// directories.
    #[error("mount of {source_path:?}: {length} bytes of options exceed a page")]
    TooLong {
        /// The source of the mount.
        source_path: String,
        /// The size of all options in bytes, after shortening.
        length: usize,
    },
    /// The mount point of a mount does not exist or could not be opened.
    #[error("failed to find the mount target {target:?} in {rootfs:?}")]
    Target {
        /// The mount point below the root file system, as containerd sent it.
        target: String,
        /// The root file system in which the target was looked up.
        rootfs: PathBuf,
        /// The error of openat2(2).
        source: io::Error,
    },
    /// The program that makes mounts of this kind is not installed.
    #[error("failed to mount {kind}: {program} is not in PATH")]
    NoHelper {
        /// The kind of file system.
        kind: String,
        /// The name of the program.
        program: String,
    },
    /// The kernel or the mount helper refused a mount.
    #[error("failed to mount {kind} {source_path:?} at {target:?}")]
    Mount {
        /// The kind of file system.
        kind: String,
        /// The source of the mount.
        source_path: String,
        /// The mount point that was asked for.
        target: PathBuf,
        /// The error that the kernel returned, or that of the helper with its output.
        source: io::Error,
    },
    /// The list of mounts of this process could not be read.
    #[error("failed to read the list of mounts")]
    List(#[source] io::Error),
    /// The kernel refused an unmount, even a lazy one.
    #[error("failed to unmount {target:?}")]
    Unmount {
        /// The mount point that was asked for.
        target: PathBuf,
        /// The error that the kernel returned.
        source: io::Error,
    },
}

/// Mounts all of `mounts`, in order, at or below `rootfs`, which must be absolute. `reaper` spawns
/// the helpers of FUSE file systems. Blocks.
///
/// # Errors
///
/// The [`MountError`] of the first mount that fails. The mounts that were made before it are
/// unmounted.
pub fn mount_all(mounts: &[Mount], rootfs: &Path, reaper: &Reaper) -> Result<(), MountError> {
    let parsed = mounts.iter().map(|mount| Options::parse(mount).map(|options| (mount, options)));
    // All options are parsed first, so that an unsupported option is refused before anything is
    // mounted.
    let mut done = Vec::new();
    for (mount, options) in parsed.collect::<Result<Vec<_>, _>>()? {
        let mounted = find_target(mount, rootfs).and_then(|target| {
            let count = match helper::helper_of(&mount.kind) {
                Some(helper) => helper::mount(mount, helper, &target, reaper).map(|()| 1)?,
                None => mount_one(mount, options, &target)?,
            };
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
/// (`RESOLVE_IN_ROOT`, Linux 5.6). A path can be returned instead of a descriptor, because no
/// process of the container runs yet that could replace the path.
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
        // The link in `/proc` is the path of the target with all symbolic links resolved.
        .and_then(|target| fs::read_link(format!("/proc/self/fd/{}", target.as_raw_fd())))
        .map_err(|source| MountError::Target {
            target: mount.target.clone(),
            rootfs: rootfs.to_owned(),
            source,
        })
}

/// Performs one mount, in up to four steps: the mount itself; its propagation; a remount, for flags
/// that the kernel ignores for a new bind mount; the mapping of its owners. Returns the number of
/// mounts that were added at the target.
fn mount_one(mount: &Mount, options: Options, target: &Path) -> Result<usize, MountError> {
    let failed = |source: io::Error| MountError::Mount {
        kind: mount.kind.clone(),
        source_path: mount.source.clone(),
        target: target.to_owned(),
        source,
    };
    let Options { flags, propagation, mut data, maps, use_loop } = options;
    // The device is freed when it is closed and unmounted, so after a failure by the close alone.
    let device = match use_loop {
        true => {
            let read_only = flags.contains(MsFlags::MS_RDONLY);
            Some(LoopDevice::attach(Path::new(&mount.source), read_only).map_err(failed)?)
        }
        false => None,
    };
    let source = device
        .as_ref()
        .map_or_else(|| mount.source.clone(), |device| device.path().display().to_string());
    let is_overlay = mount.kind == "overlay";
    let namespace = maps.map(|maps| maps.namespace()).transpose().map_err(failed)?;
    let layers = match &namespace {
        Some(namespace) if is_overlay => Some(Layers::shift(&mut data, namespace).map_err(failed)?),
        _ => None,
    };
    // A remount that changes only flags is made by the last `remount` below.
    if !flags.contains(MsFlags::MS_REMOUNT) || !data.is_empty() {
        let (folder, data) = if is_overlay { overlay::fit_into_page(data) } else { (None, data) };
        let data = data.join(",");
        // mount(2) copies one page at most and ignores the rest.
        if data.len() >= sys::page_size() {
            return Err(MountError::TooLong {
                source_path: mount.source.clone(),
                length: data.len(),
            });
        }
        let mounted =
            overlay::mount_in(folder.as_deref(), &source, target, &mount.kind, flags, &data);
        mounted.map_err(|errno| failed(errno.into()))?;
    }
    // The overlay now has its own references to its layers, so the mounts of the layers can be
    // removed.
    drop(layers);
    // A remount adds no mount, so no mount must be undone after a later failure.
    let count = usize::from(!flags.contains(MsFlags::MS_REMOUNT));
    let mut finished = change_propagation(target, propagation).map_err(io::Error::from);
    if flags.contains(MsFlags::MS_BIND | MsFlags::MS_RDONLY) {
        finished = finished.and_then(|()| remount(target, flags).map_err(io::Error::from));
    }
    let finished = match (namespace, is_overlay) {
        // Mounts an idmapped copy of the mount at the same target, which hides the original.
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

/// Unmounts `targets` after a failure. The unmount is lazy, so that it succeeds even if a process
/// has a file of the mount open. Errors are ignored, because the caller reports the earlier
/// failure.
fn undo(targets: impl Iterator<Item = impl AsRef<Path>>) {
    for target in targets {
        let _ = umount2(target.as_ref(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
}

/// Changes the propagation of a mount. Does nothing if the flags are empty.
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
        // In a user namespace, the flags with which the mount was created are locked
        // (`can_change_locked_flags`, Linux 6.18), so a remount must repeat them.
        Err(nix::Error::EPERM) => raw_mount("", target, "", flags | flags_of(target)?, ""),
        result => result,
    }
}

/// The current flags of the mount at `target`.
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

/// Calls mount(2). Empty `data` is passed as null.
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
