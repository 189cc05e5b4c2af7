//! Errors of reading, watching and changing a cgroup.

use std::{
    io,
    path::{Path, PathBuf},
};

use nix::errno::Errno;

/// Why an operation on a cgroup failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No process has this pid.
    #[error("process {pid} does not exist")]
    NoProcess {
        /// The requested pid, in the shim's pid namespace.
        pid: i32,
    },
    /// The process is in the root cgroup, is in a cgroup that is not mounted in the shim's mount
    /// namespace, or has ended.
    #[error("process {pid} has no cgroup of its own that the shim can see")]
    NoCgroup {
        /// The requested pid, in the shim's pid namespace.
        pid: i32,
    },
    /// The cgroup does not exist, for example because it was removed.
    #[error("cgroup {path:?} does not exist")]
    NotFound {
        /// The directory of the cgroup; for [`join`](super::join()), the requested path.
        path: PathBuf,
    },
    /// The shim or the init of the system is in the cgroup, so it is not one container's, and its
    /// processes are not signalled.
    #[error("cgroup {path:?} is not that of one container")]
    Shared {
        /// The directory of the cgroup.
        path: PathBuf,
    },
    /// The cgroup has no memory controller, so OOM kills cannot be watched.
    #[error("the cgroup has no memory controller")]
    NoMemoryController,
    /// A file of the cgroup, or the list of mounts, could not be read.
    #[error("failed to read {path:?}")]
    Read {
        /// The path of the file that could not be read.
        path: PathBuf,
        /// The error that the kernel returned.
        #[source]
        source: io::Error,
    },
    /// A file of the cgroup could not be written.
    #[error("failed to write {path:?}")]
    Write {
        /// The path of the file that could not be written.
        path: PathBuf,
        /// The error that the kernel returned.
        #[source]
        source: io::Error,
    },
    /// The cgroup could not be removed, usually because it has processes.
    #[error("failed to remove {path:?}")]
    Remove {
        /// The directory of the cgroup.
        path: PathBuf,
        /// The error that the kernel returned.
        #[source]
        source: io::Error,
    },
    /// The watch for OOM kills could not be set up.
    #[error("failed to watch {path:?}")]
    Watch {
        /// The directory of the cgroup.
        path: PathBuf,
        /// The error that the kernel returned.
        #[source]
        source: io::Error,
    },
}

impl CgroupError {
    /// Whether the client receives gRPC's `NOT_FOUND` for this error.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::NoProcess { .. } | Self::NoCgroup { .. } | Self::NotFound { .. } => true,
            Self::NoMemoryController
            | Self::Shared { .. }
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::Remove { .. }
            | Self::Watch { .. } => false,
        }
    }

    /// Converts the error of setting up a watch.
    pub(super) fn watch(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_gone(&source) { Self::NotFound { path } } else { Self::Watch { path, source } }
    }

    /// Converts the error of opening or reading a file of a cgroup.
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_gone(&source) { Self::NotFound { path } } else { Self::Read { path, source } }
    }
}

/// Whether the error means that the cgroup was removed: `ENOENT` when one of its files is opened,
/// `ENODEV` when a file is read that was opened before the removal (`kernfs_get_active`, Linux 3.14
/// and later).
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ENODEV as i32)
}
