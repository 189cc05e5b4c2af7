//! The cgroup mounts that this shim can see.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt as _,
    path::{Component, Path, PathBuf},
};

use procfs::process::MountInfo;

use super::{CgroupError, Version};

/// Where runc, crun and containerd all look first.
const CGROUPFS: &str = "/sys/fs/cgroup";

/// One mounted cgroup hierarchy, or a part of one.
#[derive(Debug)]
pub(super) struct Mount {
    /// The kind of hierarchy.
    pub(super) version: Version,
    /// Version 1: the controllers (`memory`) or the name (`name=systemd`), and options like `rw`.
    options: Vec<String>,
    /// The cgroup that is mounted, as the shim's cgroup namespace tells paths: `/` on a host, the
    /// outer container's cgroup where version 1 is bind-mounted into a container.
    root: PathBuf,
    /// The directory that it is mounted on.
    pub(super) point: PathBuf,
}

impl Mount {
    /// All cgroup mounts of this process's mount namespace, the oldest first.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Read`] without `/proc`.
    pub(super) fn all() -> Result<Vec<Mount>, CgroupError> {
        let path = Path::new("/proc/self/mountinfo");
        let content =
            fs::read(path).map_err(|source| CgroupError::Read { path: path.to_owned(), source })?;
        Ok(parse(&content))
    }

    /// Whether this hierarchy has `controller` (`memory`, `name=systemd`).
    pub(super) fn carries(&self, controller: &str) -> bool {
        self.options.iter().any(|option| option == controller)
    }

    /// The directory of a cgroup, given by its path as `/proc/PID/cgroup` tells it.
    ///
    /// `None` for a cgroup outside of this mount, and for the mount's own root: that one holds
    /// whatever was never moved, so it is no container's.
    pub(super) fn directory(&self, cgroup: &str) -> Option<PathBuf> {
        // Both paths are relative to the shim's cgroup namespace and begin with `/..` for what is
        // above its root. A `..` that is left has no name here.
        let below = Path::new(cgroup).strip_prefix(&self.root).ok()?;
        let mut components = below.components().peekable();
        components.peek()?;
        components
            .all(|component| matches!(component, Component::Normal(_)))
            .then(|| self.point.join(below))
    }
}

/// The version that holds the controllers: as containerd and runc, what is mounted (last, so on
/// top) on `/sys/fs/cgroup` decides, because hosts that are unified may still mount a single
/// version 1 controller (`net_cls`) elsewhere.
pub(super) fn version(mounts: &[Mount]) -> Version {
    let on_top = mounts.iter().rfind(|mount| mount.point == Path::new(CGROUPFS));
    match on_top {
        Some(mount) => mount.version,
        None if mounts.iter().any(|mount| mount.version == Version::V1) => Version::V1,
        None => Version::V2,
    }
}

/// Parses the cgroup mounts out of a `mountinfo` (proc_pid_mountinfo(5)).
///
/// A line that is not understood is skipped, so that a foreign mount with a strange name costs
/// nobody their container.
pub(super) fn parse(mountinfo: &[u8]) -> Vec<Mount> {
    mountinfo
        .split(|&byte| byte == b'\n')
        // Spaces in names are escaped: this is the separator, then the type of the file system.
        .filter(|line| line.windows(9).any(|window| window == b" - cgroup"))
        .filter_map(|line| MountInfo::from_line(str::from_utf8(line).ok()?).ok())
        .filter_map(|line| {
            let version = match line.fs_type.as_str() {
                "cgroup" => Version::V1,
                "cgroup2" => Version::V2,
                _ => return None,
            };
            let option = |(key, value): (String, Option<String>)| match value {
                Some(value) => format!("{key}={value}"),
                None => key,
            };
            Some(Mount {
                version,
                options: line.super_options.into_iter().map(option).collect(),
                root: unescape(&line.root),
                point: unescape(line.mount_point.to_str()?),
            })
        })
        .collect()
}

/// Undoes the kernel's `\040` for a space and its like (`mangle`, fs/proc_namespace.c).
fn unescape(name: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = |digits: &[u8]| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok();
        match after.split_at_checked(3).and_then(|(digits, after)| Some((octal(digits)?, after))) {
            Some((byte, after)) if first == b'\\' => {
                bytes.push(byte);
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests;
