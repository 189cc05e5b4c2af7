//! Which cgroups a process is in: `/proc/PID/cgroup` (cgroups(7)).
//!
//! The parser is our own and not that of the crate `procfs`, because `procfs` refuses a file in
//! which one name is not UTF-8. A container that may create cgroups chooses such names, and must
//! not be able to hide its processes with them.

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::super::{mountinfo, read::read};

/// The most bytes of `/proc/PID/cgroup` that are read. The file has a line for each hierarchy, a
/// dozen at most, each with a path of at most a page.
const CGROUP_FILE_LIMIT: usize = 64 << 10;

/// The cgroups of one process, one in each hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memberships(Vec<u8>);

impl Memberships {
    /// Reads the cgroups of a process.
    ///
    /// # Errors
    ///
    /// The error of reading the file: `ENOENT` or `ESRCH` if the process is gone.
    pub fn of(pid: i32) -> io::Result<Self> {
        read(&format!("/proc/{pid}/cgroup"), CGROUP_FILE_LIMIT).map(Self)
    }

    /// Parses the text of a `/proc/PID/cgroup`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        Self(text.to_vec())
    }

    /// Each hierarchy that the file lists, with the process's cgroup in that hierarchy.
    pub fn iter(&self) -> impl Iterator<Item = (Hierarchy<'_>, &Path)> {
        self.0.split(|byte| *byte == b'\n').filter_map(|line| {
            let mut fields = line.splitn(3, |byte| *byte == b':');
            let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let hierarchy = match (number, controllers) {
                (b"0", b"") => Hierarchy::Unified,
                _ => Hierarchy::Version1 { controllers: str::from_utf8(controllers).ok()? },
            };
            Some((hierarchy, Path::new(OsStr::from_bytes(path))))
        })
    }

    /// The process's cgroup in the hierarchy that has `controller` (`memory`, `name=systemd`), or
    /// in the unified hierarchy if `controller` is empty, as a path under the hierarchy's root.
    /// `None` if there is no such hierarchy.
    #[must_use]
    pub fn path(&self, controller: &str) -> Option<&Path> {
        self.iter()
            .find(|(hierarchy, _)| hierarchy.has_controller(controller))
            .map(|(_, path)| path)
    }
}

/// A hierarchy of cgroups that `/proc/PID/cgroup` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hierarchy<'a> {
    /// The hierarchy of version 2.
    Unified,
    /// A hierarchy of version 1.
    Version1 {
        /// The controllers, separated by commas, or one name (`name=systemd`).
        controllers: &'a str,
    },
}

impl Hierarchy<'_> {
    /// Whether the hierarchy has this controller of version 1. For an empty `controller`: whether
    /// it is the unified hierarchy.
    #[must_use]
    pub fn has_controller(&self, controller: &str) -> bool {
        match self {
            Self::Unified => controller.is_empty(),
            Self::Version1 { controllers } => controllers.split(',').any(|has| has == controller),
        }
    }
}

/// One cgroup: its hierarchy, and its path in that hierarchy. It is looked up once in the file
/// system, and can then be compared with the memberships of any number of processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupPath {
    /// One controller (or `name=systemd`) of a hierarchy of version 1; empty for the unified
    /// hierarchy.
    controller: Box<str>,
    /// The path under the hierarchy's root, with a leading slash.
    path: Box<[u8]>,
    directory: PathBuf,
}

/// The position of a process relative to a [`CgroupPath`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// The process is in the cgroup itself.
    Inside,
    /// The process is in a nested cgroup, which has this directory.
    Below(PathBuf),
}

impl CgroupPath {
    /// Finds the cgroup at `directory`.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such directory; `Unsupported` if the directory is not in a cgroup
    /// file system.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let directory = directory.canonicalize()?;
        Self::find(&directory, &mountinfo::read()?).ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// As [`of`](Self::of), with the text of a mountinfo file. `None` if `directory` is not in a
    /// cgroup file system.
    pub(crate) fn find(directory: &Path, mountinfo: &[u8]) -> Option<Self> {
        let mount = mountinfo::shown_at(mountinfo, directory)?;
        let controller = match mount.kind {
            b"cgroup2" => "",
            b"cgroup" => {
                let mut options = mount.options.split(|byte| *byte == b',');
                str::from_utf8(options.find(|option| !is_mount_flag(option))?).ok()?
            }
            _ => return None,
        };
        let below = directory.strip_prefix(&mount.point).ok()?.as_os_str();
        let mut path = mount.root.as_os_str().as_bytes().to_vec();
        if !below.is_empty() {
            if path.last() != Some(&b'/') {
                path.push(b'/');
            }
            path.extend_from_slice(below.as_bytes());
        }
        Some(Self {
            controller: controller.into(),
            path: path.into(),
            directory: directory.to_owned(),
        })
    }

    /// The position of a process with these memberships. `None` if the process is neither in this
    /// cgroup nor in a cgroup below it.
    #[must_use]
    pub fn relation(&self, memberships: &Memberships) -> Option<Relation> {
        // By components, so that `/ab` is not below `/a`, and the rest is never absolute.
        let own = Path::new(OsStr::from_bytes(&self.path));
        let below = memberships.path(&self.controller)?.strip_prefix(own).ok()?;
        Some(match below.as_os_str().is_empty() {
            true => Relation::Inside,
            false => Relation::Below(self.directory.join(below)),
        })
    }
}

/// Whether an option of a version 1 hierarchy's superblock is a flag and not a controller
/// (`cgroup1_show_options`, kernel/cgroup/cgroup-v1.c).
fn is_mount_flag(option: &[u8]) -> bool {
    const FLAGS: [&[u8]; 7] = [
        b"rw",
        b"ro",
        b"noprefix",
        b"clone_children",
        b"cpuset_v2_mode",
        b"xattr",
        b"favordynmods",
    ];
    FLAGS.contains(&option) || option.starts_with(b"release_agent=")
}

#[cfg(test)]
mod tests;
