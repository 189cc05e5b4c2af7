//! The cgroup mounts that this shim can see.

use std::path::{Path, PathBuf};

use super::{CgroupError, Version};
use crate::linux::{cgroup::directory_in, mountinfo};

/// The mount point that runc, crun and containerd try before all others.
const CGROUPFS: &str = "/sys/fs/cgroup";

/// One mounted cgroup hierarchy, or a part of one.
#[derive(Debug)]
pub(super) struct Mount {
    /// The version of the hierarchy.
    pub(super) version: Version,
    /// Version 1: the controllers (`memory`) or the name (`name=systemd`), and options like `rw`.
    options: Vec<u8>,
    /// The cgroup that is mounted, as a path in the shim's cgroup namespace: `/` on a host; the
    /// outer container's cgroup if version 1 is bind-mounted into a container.
    root: PathBuf,
    /// The directory on which the cgroup is mounted.
    pub(super) point: PathBuf,
}

impl Mount {
    /// All cgroup mounts of this process's mount namespace, the oldest first.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Read`] if `/proc` cannot be read.
    pub(super) fn all() -> Result<Vec<Mount>, CgroupError> {
        let failed = |source| CgroupError::Read { path: mountinfo::FILE.into(), source };
        Ok(cgroup_mounts(&mountinfo::read().map_err(failed)?))
    }

    /// Whether this hierarchy has `controller` (`memory`, `name=systemd`).
    pub(super) fn has_controller(&self, controller: &str) -> bool {
        self.options.split(|byte| *byte == b',').any(|option| option == controller.as_bytes())
    }

    /// The directory of a cgroup, given by its path as `/proc/PID/cgroup` reports it; see
    /// [`directory_in`].
    pub(super) fn directory(&self, cgroup: &Path) -> Option<PathBuf> {
        directory_in(&self.root, &self.point, cgroup)
    }
}

/// The version that has the controllers. As in containerd and runc, the mount on `/sys/fs/cgroup`
/// decides (the last one, which is on top), because a host with the unified hierarchy may still
/// mount a single controller of version 1 (`net_cls`) below that directory.
pub(super) fn version(mounts: &[Mount]) -> Version {
    let on_top = mounts.iter().rfind(|mount| mount.point == Path::new(CGROUPFS));
    match on_top {
        Some(mount) => mount.version,
        None if mounts.iter().any(|mount| mount.version == Version::V1) => Version::V1,
        None => Version::V2,
    }
}

/// The cgroup mounts among all mounts.
pub(super) fn cgroup_mounts(mountinfo: &[u8]) -> Vec<Mount> {
    let mounts = mountinfo::parse(mountinfo).filter_map(|mount| {
        let version = match mount.kind {
            b"cgroup" => Version::V1,
            b"cgroup2" => Version::V2,
            _ => return None,
        };
        let options = mount.options.to_vec();
        Some(Mount { version, options, root: mount.root, point: mount.point })
    });
    mounts.collect()
}

#[cfg(test)]
mod tests;
