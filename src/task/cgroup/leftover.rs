//! The cgroup that a create which died has left: the runtime makes it first, and records only later
//! that the container exists. And that of a container which its runtime cannot delete.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::libc::SIGKILL;

use super::{Cgroup, CgroupError, Version, mount::Mount};
use crate::linux::cgroup::{Hierarchy, Memberships, members};

/// The longest wait for the processes of the dead runtime, which end by themselves.
const GRACE: Duration = Duration::from_millis(300);
/// The time between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// Removes the cgroup `cgroups_path` (the field of `config.json`) from every hierarchy. `systemd`
/// says how the runtime interprets that path. A cgroup with a process, in itself or below, is not
/// changed: it belongs to others. It is not an error if there is no such cgroup. Blocks for 300 ms
/// at most.
///
/// # Errors
///
/// [`CgroupError`] if the cgroup is still in use, or cannot be removed.
pub fn remove_leftover(cgroups_path: &str, systemd: bool) -> Result<(), CgroupError> {
    let Some(path) = Location::parse(cgroups_path, systemd) else { return Ok(()) };
    let own = Memberships::of(std::process::id().cast_signed())
        .map_err(|source| CgroupError::Read { path: "/proc/self/cgroup".into(), source })?;
    let directories = Mount::all()?.into_iter().filter_map(|mount| {
        let cgroup = match &path {
            Location::Absolute(path) => path.clone(),
            Location::BelowOwn(path) => own_cgroup(&own, &mount)?.join(path),
        };
        mount.directory(&cgroup)
    });
    let deadline = Instant::now() + GRACE;
    let failures = directories.filter_map(|directory| remove_by(&directory, deadline).err());
    failures.reduce(|first, _| first).map_or(Ok(()), Err)
}

/// Kills every process of the container with this init, if init is still in the cgroup
/// `cgroups_path`, which [`remove_leftover`] then removes: for a runtime that cannot be run. Blocks
/// for 300 ms at most. Returns whether no process of the container is left.
///
/// # Errors
///
/// [`CgroupError`] if the cgroup is shared with this process, or cannot be read.
pub fn kill_leftover(init: i32, cgroups_path: &str, systemd: bool) -> Result<bool, CgroupError> {
    let Some(path) = Location::parse(cgroups_path, systemd) else { return Ok(false) };
    // The pid is from a file, and may be that of a process of others by now.
    let Ok(memberships) = Memberships::of(init) else { return Ok(true) };
    let is_there = |cgroup: &Path| match &path {
        Location::Absolute(path) => cgroup == path,
        Location::BelowOwn(path) => cgroup.ends_with(path),
    };
    if !memberships.iter().any(|(_, cgroup)| is_there(cgroup)) {
        return Ok(true);
    }
    let cgroup = Cgroup::of_process(init)?;
    let deadline = Instant::now() + GRACE;
    loop {
        match cgroup.signal(SIGKILL) {
            Ok(0) | Err(CgroupError::NotFound { .. }) => return Ok(true),
            Ok(_) if Instant::now() > deadline => return Ok(false),
            Ok(_) => thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
}

/// Where a runtime puts the cgroup that `cgroupsPath` names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// In the root of each hierarchy.
    Absolute(PathBuf),
    /// In the cgroup of the runtime, which is that of the shim.
    BelowOwn(PathBuf),
}

impl Location {
    /// `None` if the path is empty or the runtime would refuse it.
    pub(super) fn parse(cgroups_path: &str, systemd: bool) -> Option<Self> {
        if systemd {
            let [slice, prefix, name] = cgroups_path.split(':').collect::<Vec<_>>()[..] else {
                return None;
            };
            let unit = match name.ends_with(".slice") {
                true => name.to_owned(),
                false => format!("{prefix}-{name}.scope"),
            };
            let path = slice_path(slice)?.join(unit);
            return (!name.is_empty() && !name.contains('/')).then_some(Self::Absolute(path));
        }
        let path = Path::new(cgroups_path);
        let below = path.strip_prefix("/").unwrap_or(path);
        let leads_down = below != Path::new("")
            && below.components().all(|component| matches!(component, Component::Normal(_)));
        match path.is_absolute() {
            _ if !leads_down => None,
            true => Some(Self::Absolute(path.to_owned())),
            false => Some(Self::BelowOwn(path.to_owned())),
        }
    }
}

/// The path of a slice of systemd: each dash in its name separates a slice from one inside it
/// (systemd.slice(5)). An empty name stands for `system.slice`.
fn slice_path(slice: &str) -> Option<PathBuf> {
    let name = if slice.is_empty() { "system" } else { slice.strip_suffix(".slice")? };
    let mut path = PathBuf::from("/");
    if name == "-" {
        return Some(path);
    }
    if name.contains('/') || name.split('-').any(str::is_empty) {
        return None;
    }
    for (end, _) in name.match_indices('-').chain([(name.len(), "")]) {
        path.push(format!("{}.slice", &name[..end]));
    }
    Some(path)
}

/// This process's cgroup in the hierarchy of a mount.
fn own_cgroup<'a>(own: &'a Memberships, mount: &Mount) -> Option<&'a Path> {
    let mut cgroups = own.iter();
    let found = cgroups.find(|(hierarchy, _)| match hierarchy {
        Hierarchy::Version1 { controllers } => {
            mount.version == Version::V1
                && controllers.split(',').any(|controller| mount.has_controller(controller))
        }
        Hierarchy::Unified => mount.version == Version::V2,
    });
    found.map(|(_, cgroup)| cgroup)
}

/// Removes a cgroup and those below it, once they have no process.
fn remove_by(directory: &Path, deadline: Instant) -> Result<(), CgroupError> {
    loop {
        let error = match members(directory) {
            Ok(pids) if pids.is_empty() => match remove(directory) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            Ok(_) => io::ErrorKind::ResourceBusy.into(),
            Err(error) => error,
        };
        match error.kind() {
            io::ErrorKind::NotFound => return Ok(()),
            io::ErrorKind::ResourceBusy if Instant::now() < deadline => thread::sleep(PAUSE),
            _ => return Err(CgroupError::Remove { path: directory.to_owned(), source: error }),
        }
    }
}

/// Removes a cgroup and those below it. The kernel refuses to remove one that has a process.
fn remove(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absolute(cgroups_path: &str, systemd: bool) -> Option<String> {
        match Location::parse(cgroups_path, systemd) {
            Some(Location::Absolute(path)) => Some(path.display().to_string()),
            Some(Location::BelowOwn(_)) | None => None,
        }
    }

    /// Check the directories that runc makes for both forms of the path.
    #[test]
    fn both_forms_of_the_path_are_those_of_the_runtime() {
        assert_eq!(absolute("/k8s/pod/c", false).as_deref(), Some("/k8s/pod/c"));
        assert_eq!(Location::parse("c/d", false), Some(Location::BelowOwn("c/d".into())));
        assert_eq!(Location::parse("", false), None);
        let systemd = |path| absolute(path, true);
        assert_eq!(
            systemd("kubepods-burstable-pod1.slice:cri-containerd:c").as_deref(),
            Some(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/\
                 cri-containerd-c.scope"
            )
        );
        assert_eq!(systemd(":runc:c").as_deref(), Some("/system.slice/runc-c.scope"));
        assert_eq!(systemd("-.slice:x:c").as_deref(), Some("/x-c.scope"));
        assert_eq!(systemd("a.slice:x:b.slice").as_deref(), Some("/a.slice/b.slice"));
        for wrong in ["", "/k8s/c", "a.slice:c", "a:x:c", "a--b.slice:x:c", "../a.slice:x:c", "::"]
        {
            assert_eq!(systemd(wrong), None, "{wrong}");
        }
    }

    /// Check that neither a root cgroup nor a path that leads out of it is removed.
    #[test]
    fn a_path_that_leads_out_of_the_hierarchy_is_none() {
        for path in ["/", "/..", "/../x", "/x/../..", "..", "."] {
            assert_eq!(Location::parse(path, false), None, "{path}");
        }
    }
}
