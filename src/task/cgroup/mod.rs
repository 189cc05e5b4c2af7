//! The cgroup of one container: what it uses, who is in it, whether the kernel killed in it.
//!
//! ```text
//! mount   /proc/self/mountinfo: which hierarchies this shim can see, and which part of them
//! place   /proc/PID/cgroup met with those mounts: the container's directories
//! dir     one such directory: its files, its tree
//! content what the kernel writes in a file of it; pure
//!   stats_v1, stats_v2 (blkio, rdma, hugepages, pressure)   Metrics, as containerd decodes them
//!   pids         who is in it
//!   oom          kernel OOM kills, counted and watched
//!   controllers  which controllers it has (v2)
//!   join         moves the shim itself into a cgroup (the option ShimCgroup)
//! ```
//!
//! Find the cgroup right after create, while init waits for start: an init that has ended tells `/`
//! on version 1 (`proc_cgroup_show`, Linux 6.18), and the root cgroup is nobody's container.
//!
//! Never here: creating, changing or removing a container's cgroup (the OCI runtime does that),
//! `inotify` instances (a node has 128 of them for each user by default), threads. All reads are
//! blocking but those of [`OomWatch`]; the caller puts them on a pool.

mod blkio;
mod content;
mod controllers;
mod dir;
mod error;
mod hugepages;
mod join;
mod mount;
mod oom;
mod pids;
mod place;
mod pressure;
mod rdma;
mod stats_v1;
mod stats_v2;
#[cfg(test)]
mod tests;

pub use error::CgroupError;
pub use join::join;
pub use oom::OomWatch;

use std::sync::Arc;

use containerd_shim_protos::protobuf::{Message, well_known_types::any::Any};

use place::Place;

/// Where a container's controllers live. Clones share it.
///
/// It stays valid after the cgroup was removed; every answer is an error then.
#[derive(Debug, Clone)]
pub struct Cgroup {
    place: Arc<Place>,
}

/// Which of the kernel's two cgroup interfaces holds the controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller or group of them (cgroups(7)). A unified hierarchy may be
    /// mounted beside (systemd's "hybrid"); it has no controller that matters then.
    V1,
    /// The one unified hierarchy (Documentation/admin-guide/cgroup-v2.rst).
    V2,
}

impl Cgroup {
    /// Finds the cgroup of a living process through `/proc/PID/cgroup` and the shim's own mounts.
    ///
    /// `pid` is a pid as the shim's pid namespace counts.
    ///
    /// # Errors
    ///
    /// [`CgroupError::NoProcess`], or [`CgroupError::NotPlaced`] for a process in the root cgroup,
    /// in one that no mount of this shim shows, or that has ended (version 1 tells `/` then).
    pub fn of_process(pid: i32) -> Result<Cgroup, CgroupError> {
        let place = Arc::new(Place::of_process(pid)?);
        Ok(Cgroup { place })
    }

    /// Which interface holds this container's controllers.
    #[must_use]
    pub fn version(&self) -> Version {
        match *self.place {
            Place::V1(_) => Version::V1,
            Place::V2 { .. } => Version::V2,
        }
    }

    /// What the container uses: `io.containerd.cgroups.v1.Metrics` or `…v2.Metrics`, with the same
    /// fields filled as `containerd/cgroups` fills for the Go shim.
    ///
    /// The type URL is bare: `ctr metrics` compares it whole with the message's full name
    /// (`typeurl.Is`, containerd 1.6 to 2.x). A file that is missing or that cannot be parsed
    /// leaves its fields unset and fails nothing else.
    ///
    /// # Errors
    ///
    /// [`CgroupError::NotFound`] if the cgroup is gone.
    pub fn stats(&self) -> Result<Any, CgroupError> {
        let answer = match &*self.place {
            Place::V1(hierarchies) => any(stats_v1::TYPE_URL, &stats_v1::metrics(hierarchies)),
            Place::V2 { dir, .. } => any(stats_v2::TYPE_URL, &stats_v2::metrics(dir)),
        };
        // Looked at last: if it is there now, all that was read before came from a living cgroup.
        self.place.check()?;
        Ok(answer)
    }

    /// Every process in the cgroup and in those below it: sorted, each once.
    ///
    /// Pids are as the shim's pid namespace counts; a process that it cannot see has none. Zombies
    /// are not listed. The same set as `runc ps` tells, without running it.
    ///
    /// # Errors
    ///
    /// [`CgroupError::NotFound`] if the cgroup is gone, else what reading it answered.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        pids::list(self.place.membership())
    }

    /// How many processes of the cgroup, and of those below it, the kernel's OOM killer has ended.
    ///
    /// The kernel counts before it sends the signal (`__oom_kill_process`, Linux 4.19 and later),
    /// so whoever has seen the exit sees the count: ask once more before an exit is published. 0
    /// where there is no memory controller, and on version 1 before Linux 4.13.
    ///
    /// # Errors
    ///
    /// [`CgroupError::NotFound`] if the cgroup is gone, else what reading it answered.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        oom::kills(&self.place)
    }

    /// Watches for OOM kills from now on: what [`oom_kills`](Self::oom_kills) tells at this moment
    /// is not told again. Take it before start.
    ///
    /// Costs two descriptors. They wait in the runtime's own epoll.
    ///
    /// # Errors
    ///
    /// [`CgroupError::NoMemoryController`]; [`CgroupError::NotFound`] if the cgroup is gone;
    /// [`CgroupError::Watch`] outside of a tokio runtime, and for what the kernel answered.
    pub fn watch_oom(&self) -> Result<OomWatch, CgroupError> {
        OomWatch::new(&self.place)
    }

    /// Version 2: gives this cgroup the controllers that the hierarchy's root has and it lacks, by
    /// enabling them in each ancestor. Best effort, and mostly nothing to do: see the module.
    ///
    /// # Errors
    ///
    /// The first write that the kernel refused; all others were still tried.
    pub fn enable_controllers(&self) -> Result<(), CgroupError> {
        match &*self.place {
            Place::V1(_) => Ok(()),
            Place::V2 { dir, mount } => controllers::enable(dir, mount),
        }
    }
}

fn any(type_url: &str, message: &impl Message) -> Any {
    Any {
        type_url: type_url.to_owned(),
        value: message.write_to_bytes().expect("proto3 has no required fields"),
        ..Any::default()
    }
}
