//! Where a process's cgroup is.

use std::{fs, path::PathBuf};

use nix::errno::Errno;
use procfs::{FromBufRead as _, ProcessCGroups};

use super::{
    CgroupError, Version,
    dir::Dir,
    error::is_gone,
    mount::{self, Mount},
};

/// The directories of one container.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
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

/// One line of `/proc/PID/cgroup`: the controllers (none on version 2), and the path.
type Membership = (Vec<String>, String);

impl Place {
    /// Finds the cgroup of a process.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::of_process`](super::Cgroup::of_process).
    pub(super) fn of_process(pid: i32) -> Result<Place, CgroupError> {
        let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let content = match fs::read(&path) {
            Ok(content) => content,
            // `ESRCH`: it was reaped between open and read.
            Err(error) if is_gone(&error) || error.raw_os_error() == Some(Errno::ESRCH as i32) => {
                return Err(CgroupError::NoProcess { pid });
            }
            Err(source) => return Err(CgroupError::Read { path, source }),
        };
        let memberships = parse(&content).map_err(|source| CgroupError::Parse { path, source })?;
        Self::find(&memberships, &Mount::all()?, Dir::exists).ok_or(CgroupError::NotPlaced { pid })
    }

    /// The directories that `memberships` name, among those that `exists` knows.
    fn find(
        memberships: &[Membership],
        mounts: &[Mount],
        exists: impl Fn(&Dir) -> bool,
    ) -> Option<Place> {
        // A hierarchy can be mounted more than once: the first mount that shows the cgroup serves.
        let locate = |cgroup: &str, serves: &dyn Fn(&Mount) -> bool| {
            let mut shown = mounts.iter().filter(|mount| serves(mount)).filter_map(|mount| {
                let dir = Dir::new(mount.directory(cgroup)?);
                exists(&dir).then_some((dir, mount))
            });
            shown.next()
        };
        match mount::version(mounts) {
            Version::V1 => {
                let on_v1 = |(controllers, cgroup): &Membership| {
                    let serves = |mount: &Mount| {
                        mount.version == Version::V1
                            && controllers.iter().any(|controller| mount.carries(controller))
                    };
                    let (dir, _) = locate(cgroup, &serves)?;
                    Some(Hierarchy { controllers: controllers.clone(), dir })
                };
                let hierarchies: Vec<_> = memberships.iter().filter_map(on_v1).collect();
                (!hierarchies.is_empty()).then_some(Place::V1(hierarchies))
            }
            Version::V2 => {
                let (_, cgroup) =
                    memberships.iter().find(|(controllers, _)| controllers.is_empty())?;
                let (dir, mount) = locate(cgroup, &|mount| mount.version == Version::V2)?;
                Some(Place::V2 { dir, mount: mount.point.clone() })
            }
        }
    }

    /// The directory whose `cgroup.procs` tells who is in the container.
    ///
    /// Version 1 has many. runc asks `devices` first, because no option leaves that one out.
    pub(super) fn membership(&self) -> &Dir {
        match self {
            Place::V1(hierarchies) => ["devices", "freezer", "pids", "memory"]
                .iter()
                .find_map(|controller| controller_dir(hierarchies, controller))
                .unwrap_or(&hierarchies[0].dir),
            Place::V2 { dir, .. } => dir,
        }
    }

    /// The directory of the memory controller.
    pub(super) fn memory(&self) -> Option<&Dir> {
        match self {
            Place::V1(hierarchies) => controller_dir(hierarchies, "memory"),
            Place::V2 { dir, .. } => Some(dir),
        }
    }

    /// Asks whether the cgroup is still there, in any hierarchy.
    ///
    /// # Errors
    ///
    /// [`CgroupError::NotFound`] if it is not.
    pub(super) fn check(&self) -> Result<(), CgroupError> {
        let there = match self {
            Place::V1(hierarchies) => hierarchies.iter().any(|hierarchy| hierarchy.dir.exists()),
            Place::V2 { dir, .. } => dir.exists(),
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

/// Parses a `/proc/PID/cgroup` (cgroups(7)).
fn parse(content: &[u8]) -> procfs::ProcResult<Vec<Membership>> {
    let lines = ProcessCGroups::from_buf_read(content)?;
    Ok(lines.into_iter().map(|line| (line.controllers, line.pathname)).collect())
}

#[cfg(test)]
mod tests;
