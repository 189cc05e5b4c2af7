//! What can go wrong with a cgroup.

use std::{
    io,
    path::{Path, PathBuf},
};

use nix::errno::Errno;
use procfs::ProcError;

/// Why a question about a cgroup has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No process has this pid.
    #[error("process {pid} does not exist")]
    NoProcess {
        /// The pid that was asked for.
        pid: i32,
    },
    /// The process is in the root cgroup, or in none that is mounted here, or it has ended.
    #[error("process {pid} is in no cgroup of its own that is mounted here")]
    NotPlaced {
        /// The pid that was asked for.
        pid: i32,
    },
    /// The cgroup does not exist, or no longer.
    #[error("cgroup {path:?} does not exist")]
    NotFound {
        /// The directory, or for [`join`](super::join()) the path that was asked for.
        path: PathBuf,
    },
    /// The cgroup has no memory controller, so there is nothing to watch.
    #[error("cgroup has no memory controller")]
    NoMemoryController,
    /// A file could not be read.
    #[error("failed to read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// A file of `/proc` has a form that nobody knows.
    #[error("failed to parse {path:?}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ProcError,
    },
    /// A file could not be written.
    #[error("failed to write {path:?}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The watch could not be set up.
    #[error("failed to watch {path:?}")]
    Watch {
        /// The cgroup's directory.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
}

impl CgroupError {
    /// Whether a client is to be told that there is no such cgroup (gRPC's `NOT_FOUND`).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::NoProcess { .. } | Self::NotPlaced { .. } | Self::NotFound { .. } => true,
            Self::NoMemoryController
            | Self::Read { .. }
            | Self::Parse { .. }
            | Self::Write { .. }
            | Self::Watch { .. } => false,
        }
    }

    /// What setting up a watch answered.
    pub(super) fn watch(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_gone(&source) { Self::NotFound { path } } else { Self::Watch { path, source } }
    }

    /// What opening or reading a file of a cgroup answered.
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_gone(&source) { Self::NotFound { path } } else { Self::Read { path, source } }
    }
}

/// Whether a file answered so because its cgroup was removed: `ENOENT` on opening it, `ENODEV` on
/// one that was open before (`kernfs_get_active`, Linux 3.14 and later).
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ENODEV as i32)
}
