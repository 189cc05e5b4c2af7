//! The entries of a shim's targets in the maps.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use libbpf_rs::{MapCore as _, MapFlags};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::{
    super::{
        layout::{Plain as _, TARGETS, TargetValue},
        members,
        pins::{ROOT_INODE, map_value, own_pid_namespace},
        refused,
    },
    BpfSource, WatchedTarget,
};
use crate::{
    linux::process::pid_namespace,
    observe::{
        record::TargetId,
        source::{PidNamespace, Source as _, SourceError},
    },
};

impl BpfSource {
    /// Adds a target to the map. An entry of a dead shim is replaced.
    fn add_target(&self, id: TargetId, is_tree: bool) -> Result<(), SourceError> {
        let target = TargetValue {
            slot: self.slot,
            pid_namespace: own_pid_namespace(),
            id: id.0,
            is_tree: u32::from(is_tree),
            ..TargetValue::default()
        };
        // NO_EXIST, because an entry of a living shim must not be replaced.
        let insert = |flags| self.pins.targets.update(&id.0.to_bytes(), &target.to_bytes(), flags);
        let Err(error) = insert(MapFlags::NO_EXIST) else { return Ok(()) };
        if error.kind() == libbpf_rs::ErrorKind::TooBig {
            return Err(SourceError::Full { what: "targets", limit: TARGETS });
        }
        let stale = error.kind() == libbpf_rs::ErrorKind::AlreadyExists
            && map_value::<_, TargetValue>(&self.pins.targets, &id.0)?
                .and_then(|other| self.pins.owner(other.slot))
                .is_none_or(|owner| !owner.is_alive());
        if !stale {
            return Err(refused("add the target to its eBPF map")(error));
        }
        insert(MapFlags::ANY).map_err(refused("add the target to its eBPF map"))
    }

    /// Removes a target from the map, unless another shim owns it.
    pub(super) fn remove_target(&self, id: TargetId) {
        if self.counts(id).is_some() {
            let _ = self.pins.targets.delete(&id.0.to_bytes());
        }
    }

    /// Removes a pid namespace from its map, unless the namespace has ended and another target has
    /// a new one with the same number.
    pub(super) fn remove_namespace(&self, id: TargetId, inode: u32) {
        if map_value(&self.pins.namespaces, &inode).is_ok_and(|of| of == Some(id.0)) {
            let _ = self.pins.namespaces.delete(&inode.to_bytes());
        }
    }

    /// Adds a cgroup and its pid namespace to the maps. A cgroup of another hierarchy than the
    /// unified one is accepted only with a pid namespace, because the programs then find its
    /// processes by the namespace.
    pub(super) fn watch_cgroup(
        &self,
        id: TargetId,
        path: &Path,
        namespace: Option<PidNamespace>,
    ) -> Result<WatchedTarget, SourceError> {
        let levels = possible_depths(path).map_err(|source| unwatchable(path, source))?;
        if levels.is_none() && (namespace.is_none() || !id.is_made_up()) {
            let source =
                io::Error::new(io::ErrorKind::Unsupported, "not a cgroup of the unified hierarchy");
            return Err(unwatchable(path, source));
        }
        self.add_target(id, false)?;
        members::add_cgroup(&self.pins, id, path, None)?;
        let mut watched = WatchedTarget::default();
        if let Some(levels) = levels {
            // Locked, because all shims share the setting, and `configure` reads and writes it.
            let _lock = self.pins.lock()?;
            self.pins.configure(|config| config.levels |= levels)?;
        }
        if let Some(PidNamespace { inode, pid }) = namespace {
            let key = inode.to_bytes();
            // The containers of a pod may share a pid namespace. The namespace belongs to the first
            // container that is watched.
            if self.pins.namespaces.update(&key, &id.0.to_bytes(), MapFlags::NO_EXIST).is_ok() {
                watched.namespace = Some(inode);
                // If the namespace ended before its entry was added, no exit of its init will
                // delete the entry, and another namespace may get the number.
                if pid_namespace(pid) != Some(inode) {
                    self.remove_namespace(id, inode);
                    watched.namespace = None;
                }
            }
        }
        Ok(watched)
    }

    /// Adds a process and its descendants to the maps.
    pub(super) fn watch_tree(&self, id: TargetId, root: i32) -> Result<WatchedTarget, SourceError> {
        let unwatchable =
            |source| SourceError::Target { target: format!("process {root}"), source };
        if !id.is_made_up() {
            return Err(unwatchable(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the id of the tree could also be the id of a cgroup",
            )));
        }
        if own_pid_namespace() != 0 {
            // The keys of `members` are pids of the initial namespace, which are not known in
            // another namespace.
            let why = "a tree can be watched from the initial pid namespace only";
            return Err(unwatchable(io::Error::new(io::ErrorKind::Unsupported, why)));
        }
        if !members::is_running(root) {
            return Err(unwatchable(io::Error::new(io::ErrorKind::NotFound, "no such process")));
        }
        self.add_target(id, true)?;
        members::add_tree(&self.pins, id, root)?;
        Ok(WatchedTarget::default())
    }
}

/// The possible depths of a cgroup in the unified hierarchy, as bits; `None` if the cgroup is in
/// another hierarchy.
///
/// More than one bit is set if a cgroup namespace or a mount hides the ancestors. A superfluous bit
/// costs a look-up for each event; a missing bit would lose events.
fn possible_depths(path: &Path) -> io::Result<Option<u32>> {
    let path = fs::canonicalize(path)?;
    let device = fs::metadata(&path)?.dev();
    if statfs(&path)?.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return Ok(None);
    }
    // The ancestors on the same file system are cgroups too.
    let is_cgroup =
        |directory: &&Path| fs::metadata(directory).is_ok_and(|found| found.dev() == device);
    let above: Vec<&Path> = path.ancestors().skip(1).take_while(is_cgroup).collect();
    let depth = u32::try_from(above.len()).unwrap_or(u32::MAX);
    let top = above.last().copied().unwrap_or(&path);
    let is_whole = fs::metadata(top)?.ino() == ROOT_INODE;
    // If the cgroup is deeper than the mask has bits, the cgroups below it are not seen. No manager
    // is known to nest so deep.
    Ok(Some(
        if is_whole { 1u32.checked_shl(depth) } else { u32::MAX.checked_shl(depth) }.unwrap_or(0),
    ))
}

/// The error for a cgroup that cannot be watched.
fn unwatchable(path: &Path, source: io::Error) -> SourceError {
    SourceError::Target { target: path.display().to_string(), source }
}
