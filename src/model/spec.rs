//! The parts of a bundle's `config.json` that the shim reads.
//!
//! The shim never decodes the whole document. The crate `oci-spec` refuses values that it does not
//! know, such as a capability that is newer than the crate, and a shim must not refuse a container
//! because of such a value.

use std::collections::HashMap;

use serde::Deserialize;

/// The parts of an OCI runtime specification that the shim reads.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Spec {
    /// The annotations of the container: free-form keys and values. They include the shim's group
    /// and the names of Kubernetes.
    #[serde(default)]
    pub annotations: HashMap<String, String>,
    #[serde(default)]
    linux: LinuxSection,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct LinuxSection {
    #[serde(default)]
    namespaces: Vec<NamespaceEntry>,
    #[serde(rename = "cgroupsPath", default)]
    cgroups_path: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct NamespaceEntry {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    path: String,
}

impl Spec {
    /// Whether the container has a pid namespace of its own, so that the end of init ends every
    /// process in it.
    ///
    /// The container joins a namespace with a path and does not own it: other processes in it
    /// outlive init.
    #[must_use]
    pub fn owns_pid_namespace(&self) -> bool {
        self.linux
            .namespaces
            .iter()
            .any(|namespace| namespace.kind == "pid" && namespace.path.is_empty())
    }

    /// The cgroup of the container, as the OCI runtime interprets it: a path, or
    /// `slice:prefix:name` with systemd. Empty if the runtime chooses the cgroup.
    #[must_use]
    pub fn cgroups_path(&self) -> &str {
        &self.linux.cgroups_path
    }

    /// The id of the group of containers that share a shim: the first of two annotations that is
    /// set. `None` if the container has a shim of its own.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"]
            .into_iter()
            .find_map(|label| self.annotations.get(label))
            .map(String::as_str)
    }
}
