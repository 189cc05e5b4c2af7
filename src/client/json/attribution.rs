//! The container to which an event or a process belongs, as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::api;

/// The container, and the exec if known, to which an event or a process belongs.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Attribution {
    /// What containerd knows. Absent in an event of the whole shim.
    #[serde(skip_serializing_if = "Option::is_none")]
    containerd: Option<Containerd>,
    /// The container. Absent in an event of the whole shim.
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<Container>,
    /// The pod of a container, and its names in Kubernetes. Absent outside Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    k8s: Option<Kubernetes>,
}

/// What containerd knows of the container.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Containerd {
    /// The namespace in containerd.
    namespace: String,
    /// The exec to which the process belongs. Absent for init and its descendants.
    #[serde(skip_serializing_if = "String::is_empty")]
    exec_id: String,
}

/// The container of an event or a process.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Container {
    /// Its id in containerd.
    id: String,
    /// The name that the client gave to it. Absent unless the container's configuration has it:
    /// nerdctl writes it.
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    /// The image. Absent unless the container's configuration has it: containerd's CRI plugin
    /// writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Name>,
    /// The annotations of the container's configuration. Only in `container.start` and in `hello`;
    /// without those of containerd, nerdctl and lookout, and without those that are too long.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// An object that has only a name, such as `k8s.namespace`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Name {
    /// The name.
    name: String,
}

/// The pod of a container, and its names in Kubernetes.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Kubernetes {
    /// The pod.
    pod: Pod,
    /// The namespace of the pod.
    namespace: Name,
    /// The container in the pod. Absent for the sandbox itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<Name>,
}

/// The pod of a container.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Pod {
    /// The name of the pod.
    name: String,
    /// The uid of the pod.
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
}

impl Attribution {
    pub(super) fn of(container: Option<&api::Container>, exec_id: &str) -> Self {
        let Some(container) = container else { return Self::default() };
        Self {
            containerd: Some(Containerd {
                namespace: container.namespace.clone(),
                exec_id: exec_id.to_owned(),
            }),
            container: Some(Container {
                id: container.id.clone(),
                name: container.name.clone(),
                image: name_of(&container.image),
                annotations: BTreeMap::new(),
            }),
            k8s: container.k8s.as_ref().map(|k8s| Kubernetes {
                pod: Pod { name: k8s.pod_name.clone(), uid: k8s.pod_uid.clone() },
                namespace: Name { name: k8s.namespace.clone() },
                container: name_of(&k8s.container_name),
            }),
        }
    }

    /// As [`of`](Self::of), with the annotations of the container.
    pub(super) fn with_annotations(container: &api::Container) -> Self {
        let mut attribution = Self::of(Some(container), "");
        if let Some(json) = &mut attribution.container {
            let pairs =
                container.annotations.iter().map(|one| (one.key.clone(), one.value.clone()));
            json.annotations = pairs.collect();
        }
        attribution
    }
}

/// `None` for an empty name.
fn name_of(name: &str) -> Option<Name> {
    (!name.is_empty()).then(|| Name { name: name.to_owned() })
}
