//! The location of a container's cgroup.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{
    CgroupError, Version,
    dir::Dir,
    error::is_gone,
    mount::{self, Mount},
};
use crate::linux::cgroup::{Hierarchy as Hierarchies, Memberships};

/// The directories of one container's cgroup.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// Version 1: one directory for each mounted hierarchy in which the container has a cgroup of
    /// its own. Never empty.
    V1(Vec<Hierarchy>),
    /// Version 2: one directory.
    V2 {
        /// The cgroup's directory in the unified hierarchy.
        dir: Dir,
        /// The mount point of the hierarchy.
        mount: PathBuf,
    },
}

/// The container's cgroup in one hierarchy of version 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// The controllers of the hierarchy, or the name of a hierarchy without controllers
    /// (`name=systemd`).
    pub(super) controllers: Vec<String>,
    /// The cgroup's directory in this hierarchy.
    pub(super) dir: Dir,
}

impl Location {
    /// Finds the cgroup of a process.
    ///
    /// # Errors
    ///
    /// The same as those of [`Cgroup::of_process`](super::Cgroup::of_process).
    pub(super) fn of_process(pid: i32) -> Result<Location, CgroupError> {
        let memberships = Memberships::of(pid).map_err(|source| {
            // `ESRCH`: the process was reaped after its file was opened and before it was read.
            if is_gone(&source) || source.raw_os_error() == Some(Errno::ESRCH as i32) {
                return CgroupError::NoProcess { pid };
            }
            CgroupError::Read { path: format!("/proc/{pid}/cgroup").into(), source }
        })?;
        Self::find(&memberships, &Mount::all()?, Dir::exists).ok_or(CgroupError::NoCgroup { pid })
    }

    /// The directories of the cgroups in `memberships`, without those for which `exists` is false.
    /// `None` if no directory exists.
    fn find(
        memberships: &Memberships,
        mounts: &[Mount],
        exists: impl Fn(&Dir) -> bool,
    ) -> Option<Location> {
        // A hierarchy can be mounted more than once. The first mount that shows the cgroup is used.
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
                            && controllers.iter().any(|controller| mount.has_controller(controller))
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

    /// The directory of the `cgroup.procs` that lists the container's processes.
    ///
    /// Version 1 has several such directories. As in runc, the one of `devices` is preferred,
    /// because no option omits that controller.
    pub(super) fn procs_dir(&self) -> &Dir {
        match self {
            Location::V1(hierarchies) => ["devices", "freezer", "pids", "memory"]
                .iter()
                .find_map(|controller| controller_dir(hierarchies, controller))
                // There is always a first hierarchy: `find` returns no location without
                // hierarchies.
                .unwrap_or(&hierarchies[0].dir),
            Location::V2 { dir, .. } => dir,
        }
    }

    /// The directory of the memory controller; `None` if the container has no such controller on
    /// version 1.
    pub(super) fn memory(&self) -> Option<&Dir> {
        match self {
            Location::V1(hierarchies) => controller_dir(hierarchies, "memory"),
            Location::V2 { dir, .. } => Some(dir),
        }
    }

    /// Checks whether the cgroup still exists, in any hierarchy.
    ///
    /// # Errors
    ///
    /// [`CgroupError::NotFound`] if it does not exist in any hierarchy.
    pub(super) fn check(&self) -> Result<(), CgroupError> {
        let exists = match self {
            Location::V1(hierarchies) => hierarchies.iter().any(|hierarchy| hierarchy.dir.exists()),
            Location::V2 { dir, .. } => dir.exists(),
        };
        if exists {
            Ok(())
        } else {
            Err(CgroupError::NotFound { path: self.procs_dir().path().to_owned() })
        }
    }
}

/// The container's directory in the hierarchy that has `controller`; `None` if no hierarchy has it.
pub(super) fn controller_dir<'a>(
    hierarchies: &'a [Hierarchy],
    controller: &str,
) -> Option<&'a Dir> {
    let has_controller =
        |hierarchy: &&Hierarchy| hierarchy.controllers.iter().any(|carried| carried == controller);
    hierarchies.iter().find(has_controller).map(|hierarchy| &hierarchy.dir)
}

#[cfg(test)]
mod tests;
