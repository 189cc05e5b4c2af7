//! The cgroup of one container: resource usage, member processes and OOM kills.
//!
//! ```text
//! mount   /proc/self/mountinfo: which hierarchies this shim can see, and which part of them
//! location   /proc/PID/cgroup combined with those mounts: the container's directories
//! dir     one such directory: its files, its tree
//! content the format of a cgroup file; pure
//!   stats_v1, stats_v2 (blkio, rdma, hugepages, pressure)   Metrics, as containerd decodes them
//!   pids         the member processes
//!   kill         signals to all member processes
//!   oom          OOM kills, counted and watched
//!   controllers  the enabled controllers (v2)
//!   join         moves the shim itself into a cgroup (the option ShimCgroup)
//!   leftover     ends what is in a cgroup that no runtime can clean up, and removes it
//! ```
//!
//! Call [`Cgroup::of_process`] right after create, while init waits for start. After init has
//! ended, version 1 lists it in `/` (`proc_cgroup_show`, Linux 6.18), so the container's cgroup
//! cannot be found through it.
//!
//! This module never creates, changes or removes the cgroup of a container that exists (the OCI
//! runtime does that, unless it cannot be run), never makes an `inotify` instance (by default a
//! node has 128 of them per user), and never starts a thread. All reads are blocking except those
//! of [`OomWatch`], so callers run them on [`workers`](crate::workers).

mod blkio;
mod controllers;
mod dir;
mod error;
mod file_format;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod hugepages;
mod join;
mod kill;
mod leftover;
mod location;
mod mount;
mod oom;
mod pids;
mod pressure;
mod rdma;
mod stats_v1;
mod stats_v2;
#[cfg(test)]
mod tests;

pub use error::CgroupError;
pub use join::join;
pub use leftover::{kill_leftover, remove_leftover};
pub use oom::OomWatch;

use std::sync::Arc;

use containerd_shim_protos::protobuf::{Message, well_known_types::any::Any};

use location::Location;

/// The location of a container's controllers. Clones share one location.
///
/// The value may be used after the cgroup was removed; every method then returns an error.
#[derive(Debug, Clone)]
pub struct Cgroup {
    location: Arc<Location>,
}

/// The kernel's cgroup interface that holds the controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy per controller or group of controllers (cgroups(7)). A unified hierarchy may
    /// be mounted as well (systemd's "hybrid" mode), but then it has no controller that matters.
    V1,
    /// The unified hierarchy (Documentation/admin-guide/cgroup-v2.rst).
    V2,
}

impl Cgroup {
    /// Finds the cgroup of a living process through `/proc/PID/cgroup` and the shim's own mounts.
    ///
    /// `pid` is a pid in the shim's pid namespace.
    ///
    /// # Errors
    ///
    /// [`CgroupError::NoProcess`] if there is no such process. [`CgroupError::NoCgroup`] if the
    /// process is in the root cgroup, is in a cgroup that no mount of this shim shows, or has ended
    /// (in that case version 1 lists `/`).
    pub fn of_process(pid: i32) -> Result<Cgroup, CgroupError> {
        let location = Arc::new(Location::of_process(pid)?);
        Ok(Cgroup { location })
    }

    /// The interface that holds this container's controllers.
    #[must_use]
    pub fn version(&self) -> Version {
        match *self.location {
            Location::V1(_) => Version::V1,
            Location::V2 { .. } => Version::V2,
        }
    }

    /// The container's resource usage: `io.containerd.cgroups.v1.Metrics` or `…v2.Metrics`, with
    /// the same fields that `containerd/cgroups` fills for the Go shim.
    ///
    /// The type URL has no prefix: `ctr metrics` compares it with the message's full name
    /// (`typeurl.Is`, containerd 1.6 to 2.x). A file that is missing or cannot be parsed leaves its
    /// own fields unset; the others are still filled.
    ///
    /// # Errors
    ///
    /// [`CgroupError::NotFound`] if the cgroup is gone.
    pub fn stats(&self) -> Result<Any, CgroupError> {
        let answer = match &*self.location {
            Location::V1(hierarchies) => any(stats_v1::TYPE_URL, &stats_v1::metrics(hierarchies)),
            Location::V2 { dir, .. } => any(stats_v2::TYPE_URL, &stats_v2::metrics(dir)),
        };
        // The check is last: if the cgroup exists now, it existed while all values above were read.
        self.location.check()?;
        Ok(answer)
    }

    /// The processes of the cgroup and of all cgroups below it, sorted, without duplicates.
    ///
    /// Pids are those of the shim's pid namespace; a process that is not visible in this namespace
    /// is left out. Zombies are not listed. The result is the same as that of `runc ps`, but runc
    /// is not run.
    ///
    /// # Errors
    ///
    /// [`CgroupError::NotFound`] if the cgroup is gone, otherwise the error of reading it.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        pids::list(self.location.procs_dir())
    }

    /// Sends `signal` to each process of the cgroup and of all cgroups below it. `SIGKILL` also
    /// reaches frozen processes. Returns the number of processes that were found.
    ///
    /// The runtime is not run, so this works when no process can be made. A process that is forked
    /// meanwhile may be missed, except by `SIGKILL` on version 2: repeat the call until it finds
    /// none.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Shared`] for a cgroup in which the shim or the init of the system is.
    /// [`CgroupError::NotFound`] if the cgroup is gone, otherwise the error of reading it.
    pub fn signal(&self, signal: i32) -> Result<usize, CgroupError> {
        kill::signal(&self.location, self.version(), signal)
    }

    /// Thaws the cgroup on version 1, where a frozen process cannot end.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Write`] if the state could not be changed.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        kill::thaw(&self.location)
    }

    /// The number of processes of the cgroup, and of all cgroups below it, that the kernel's OOM
    /// killer has ended.
    ///
    /// The kernel counts a kill before it sends the signal (`__oom_kill_process`, Linux 4.19 and
    /// later), so the count is up to date when the exit is known. Read it once more before an exit
    /// is published. 0 without a memory controller, and on version 1 before Linux 4.13.
    ///
    /// # Errors
    ///
    /// [`CgroupError::NotFound`] if the cgroup is gone, otherwise the error of reading it.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        oom::kills(&self.location)
    }

    /// Watches for OOM kills from now on. Kills that [`oom_kills`](Self::oom_kills) already counts
    /// are not reported. Call this before start.
    ///
    /// The watch holds two descriptors on version 2 and one on version 1, which are registered with
    /// tokio's own epoll.
    ///
    /// # Errors
    ///
    /// [`CgroupError::NoMemoryController`]; [`CgroupError::NotFound`] if the cgroup is gone;
    /// [`CgroupError::Watch`] outside of a tokio runtime, and for an error of the kernel.
    pub fn watch_oom(&self) -> Result<OomWatch, CgroupError> {
        OomWatch::new(&self.location)
    }

    /// On version 2, gives this cgroup the controllers that the hierarchy's root has and this
    /// cgroup lacks, by enabling them in each ancestor. Usually no controller is missing; see the
    /// module `controllers`. Does nothing on version 1.
    ///
    /// # Errors
    ///
    /// The error of the first write that the kernel refused. The other controllers were still
    /// tried.
    pub fn enable_controllers(&self) -> Result<(), CgroupError> {
        match &*self.location {
            // Version 1 has no counterpart: a mounted hierarchy has its controllers in every
            // cgroup.
            Location::V1(_) => Ok(()),
            Location::V2 { dir, mount } => controllers::enable(dir, mount),
        }
    }
}

/// Encodes a message as `google.protobuf.Any`.
fn any(type_url: &str, message: &impl Message) -> Any {
    Any {
        type_url: type_url.to_owned(),
        value: message.write_to_bytes().expect("proto3 has no required fields"),
        ..Any::default()
    }
}
