//! A container's own cgroup, whichever version the machine has.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::Containerd;

impl Containerd {
    /// The folder of the memory controller of a container.
    pub(crate) fn memory_cgroup(&self, id: &str) -> PathBuf {
        self.cgroup("memory", id)
    }

    /// The folder of a controller of a container.
    pub(crate) fn cgroup(&self, controller: &str, id: &str) -> PathBuf {
        let root = Path::new("/sys/fs/cgroup");
        let root = if is_unified() { root.to_owned() } else { root.join(controller) };
        root.join(self.namespace()).join(id)
    }

    /// The limit that the kernel has for a container's memory, in bytes.
    pub(crate) fn memory_limit(&self, id: &str) -> u64 {
        let file = if is_unified() { "memory.max" } else { "memory.limit_in_bytes" };
        let path = self.memory_cgroup(id).join(file);
        fs::read_to_string(path).expect("the container's cgroup").trim().parse().expect("a number")
    }
}

/// Whether the machine has cgroup v2 alone.
pub(crate) fn is_unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}
