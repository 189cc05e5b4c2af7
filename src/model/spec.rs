//! The few words of `config.json` that the shim reads.
//!
//! Never the whole document: `oci-spec` refuses what it does not know (a capability that is newer
//! than itself), and a shim has no say in what a container may have.

use std::collections::HashMap;

use serde::Deserialize;

/// The part of an OCI runtime specification that concerns the shim.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Spec {
    /// Free-form; grouping and Kubernetes names travel here.
    #[serde(default)]
    pub annotations: HashMap<String, String>,
    #[serde(default)]
    linux: Linux,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Linux {
    #[serde(default)]
    namespaces: Vec<Namespace>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Namespace {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    path: String,
}

impl Spec {
    /// Whether the container has a pid namespace of its own, whose end takes every process in it.
    ///
    /// A namespace with a path is joined, not owned: its other processes outlive init.
    #[must_use]
    pub fn owns_pid_namespace(&self) -> bool {
        self.linux
            .namespaces
            .iter()
            .any(|namespace| namespace.kind == "pid" && namespace.path.is_empty())
    }

    /// The id under which containers share a shim: the first of the two annotations that is set.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"]
            .into_iter()
            .find_map(|label| self.annotations.get(label))
            .map(String::as_str)
    }
}
