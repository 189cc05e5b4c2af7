//! The cgroup of a container, with cgroup v1 or v2.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::Containerd;

impl Containerd {
    /// The directory of a container's memory controller.
    pub(crate) fn memory_cgroup(&self, id: &str) -> PathBuf {
        self.cgroup("memory", id)
    }

    /// The directory of one controller of a container.
    pub(crate) fn cgroup(&self, controller: &str, id: &str) -> PathBuf {
        let root = Path::new("/sys/fs/cgroup");
        let root = if is_unified() { root.to_owned() } else { root.join(controller) };
        root.join(self.namespace()).join(id)
    }

    /// A container's memory limit as the kernel reports it, in bytes.
    pub(crate) fn memory_limit(&self, id: &str) -> u64 {
        let file = if is_unified() { "memory.max" } else { "memory.limit_in_bytes" };
        let path = self.memory_cgroup(id).join(file);
        fs::read_to_string(path).expect("the container's cgroup").trim().parse().expect("a number")
    }
}

/// Whether the machine has cgroup v2 only.
pub(crate) fn is_unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}
