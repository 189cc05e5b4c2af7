//! Where a process's cgroup is.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{
    CgroupError, Version,
    dir::Dir,
    error::is_gone,
    mount::{self, Mount},
};
use crate::linux::cgroup::{Hierarchy as Hierarchies, Memberships};

/// The directories of one container.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// One for each mounted hierarchy that has the container in a cgroup of its own; never empty.
    V1(Vec<Hierarchy>),
    /// The one.
    V2 {
        /// The cgroup's directory.
        dir: Dir,
        /// The mount that it was found through.
        mount: PathBuf,
    },
}

/// The container's cgroup in one hierarchy of version 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Its controllers, or one name (`name=systemd`).
    pub(super) controllers: Vec<String>,
    /// The cgroup's directory in it.
    pub(super) dir: Dir,
}

impl Location {
    /// Finds the cgroup of a process.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::of_process`](super::Cgroup::of_process).
    pub(super) fn of_process(pid: i32) -> Result<Location, CgroupError> {
        let memberships = Memberships::of(pid).map_err(|source| {
            // `ESRCH`: it was reaped between open and read.
            if is_gone(&source) || source.raw_os_error() == Some(Errno::ESRCH as i32) {
                return CgroupError::NoProcess { pid };
            }
            CgroupError::Read { path: format!("/proc/{pid}/cgroup").into(), source }
        })?;
        Self::find(&memberships, &Mount::all()?, Dir::exists).ok_or(CgroupError::NoCgroup { pid })
    }

    /// The directories that `memberships` name, among those that `exists` knows.
    fn find(
        memberships: &Memberships,
        mounts: &[Mount],
        exists: impl Fn(&Dir) -> bool,
    ) -> Option<Location> {
        // A hierarchy can be mounted more than once: the first mount that shows the cgroup serves.
        let locate = |cgroup: &Path, serves: &dyn Fn(&Mount) -> bool| {
            let mut shown = mounts.iter().filter(|mount| serves(mount)).filter_map(|mount| {
                let dir = Dir::new(mount.directory(cgroup)?);
                exists(&dir).then_some((dir, mount))
            });
            shown.next()
        };
        match mount::version(mounts) {
            Version::V1 => {
                let on_v1 = |(hierarchy, cgroup): (Hierarchies<'_>, &Path)| {
                    let Hierarchies::Version1 { controllers } = hierarchy else { return None };
                    let controllers: Vec<&str> = controllers.split(',').collect();
                    let serves = |mount: &Mount| {
                        mount.version == Version::V1
                            && controllers.iter().any(|controller| mount.carries(controller))
                    };
                    let (dir, _) = locate(cgroup, &serves)?;
                    let controllers = controllers.into_iter().map(str::to_owned).collect();
                    Some(Hierarchy { controllers, dir })
                };
                let hierarchies: Vec<_> = memberships.iter().filter_map(on_v1).collect();
                (!hierarchies.is_empty()).then_some(Location::V1(hierarchies))
            }
            Version::V2 => {
                let cgroup = memberships.path("")?;
                let (dir, mount) = locate(cgroup, &|mount| mount.version == Version::V2)?;
                Some(Location::V2 { dir, mount: mount.point.clone() })
            }
        }
    }

    /// The directory whose `cgroup.procs` tells who is in the container.
    ///
    /// Version 1 has many. runc asks `devices` first, because no option leaves that one out.
    pub(super) fn membership(&self) -> &Dir {
        match self {
            Location::V1(hierarchies) => ["devices", "freezer", "pids", "memory"]
                .iter()
                .find_map(|controller| controller_dir(hierarchies, controller))
                .unwrap_or(&hierarchies[0].dir),
            Location::V2 { dir, .. } => dir,
        }
    }

    /// The directory of the memory controller.
    pub(super) fn memory(&self) -> Option<&Dir> {
        match self {
            Location::V1(hierarchies) => controller_dir(hierarchies, "memory"),
            Location::V2 { dir, .. } => Some(dir),
        }
    }

    /// Asks whether the cgroup is still there, in any hierarchy.
    ///
    /// # Errors
    ///
    /// [`CgroupError::NotFound`] if it is not.
    pub(super) fn check(&self) -> Result<(), CgroupError> {
        let there = match self {
            Location::V1(hierarchies) => hierarchies.iter().any(|hierarchy| hierarchy.dir.exists()),
            Location::V2 { dir, .. } => dir.exists(),
        };
        if there {
            Ok(())
        } else {
            Err(CgroupError::NotFound { path: self.membership().path().to_owned() })
        }
    }
}

/// The container's directory in the hierarchy that has `controller`.
pub(super) fn controller_dir<'a>(
    hierarchies: &'a [Hierarchy],
    controller: &str,
) -> Option<&'a Dir> {
    let carries =
        |hierarchy: &&Hierarchy| hierarchy.controllers.iter().any(|carried| carried == controller);
    hierarchies.iter().find(carries).map(|hierarchy| &hierarchy.dir)
}

#[cfg(test)]
mod tests;
