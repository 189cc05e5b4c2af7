//! Finds the cgroup of a process: its id, its directory and its path.

use std::{io, path::PathBuf};

use super::{Memberships, directory_in, id};
use crate::linux::mountinfo::{self, Mount};

/// Controllers of version 1, the most reliable first: runc puts every container into a cgroup of
/// `devices`, and has no option to omit that controller.
const CONTROLLERS: [&str; 4] = ["devices", "freezer", "pids", "memory"];

/// The cgroup of a process: the one on the unified hierarchy if that is not the root cgroup,
/// otherwise the one on a hierarchy of version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupLocation {
    /// The id of the cgroup; `None` on version 1, because the eBPF programs do not see ids of
    /// version 1.
    pub id: Option<u64>,
    /// The directory of the cgroup, in this process's mount namespace.
    pub directory: PathBuf,
    /// The path of the cgroup under the hierarchy's root, as in `/proc/PID/cgroup`.
    pub path: String,
}

impl CgroupLocation {
    /// The cgroup of a living process.
    ///
    /// # Errors
    ///
    /// The error of reading `/proc`; `NotFound` if the process is only in root cgroups, which are
    /// not the cgroup of a container.
    pub fn of_process(pid: i32) -> io::Result<Self> {
        let memberships = Memberships::of(pid)?;
        let mountinfo = mountinfo::read()?;
        // The unified hierarchy is tried first, because only its cgroups have an id that the eBPF
        // programs see.
        if let Some((directory, path)) = directory(&mountinfo, &memberships, "") {
            return Ok(Self { id: Some(id(&directory)?), directory, path });
        }
        let mut of_version_1 =
            CONTROLLERS.iter().filter_map(|name| directory(&mountinfo, &memberships, name));
        let found = of_version_1.find(|(directory, _)| directory.is_dir());
        let (directory, path) = found.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "the process is only in root cgroups")
        })?;
        Ok(Self { id: None, directory, path })
    }
}

/// The directory and the path of a process's cgroup, in the hierarchy of a controller of version 1,
/// or in the unified hierarchy if `controller` is empty.
fn directory(
    mountinfo: &[u8],
    memberships: &Memberships,
    controller: &str,
) -> Option<(PathBuf, String)> {
    let path = memberships.path(controller)?;
    let has = |mount: &Mount<'_>| match controller {
        "" => mount.kind == b"cgroup2",
        name => mount.kind == b"cgroup" && mount.has_option(name),
    };
    let mut mounts = mountinfo::parse(mountinfo).filter(has);
    let directory = mounts.find_map(|mount| directory_in(&mount.root, &mount.point, path))?;
    Some((directory, path.to_string_lossy().into_owned()))
}
