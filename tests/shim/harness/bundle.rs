//! The bundle of a container, as containerd prepares it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use containerd_shim_protos::{
    api::CreateTaskRequest,
    protobuf::{Message as _, MessageField, well_known_types::any::Any},
    shim::oci,
};
use serde_json::{Value, json};

/// A directory with a `config.json`, and the runtime options for its container.
#[derive(Debug, Clone)]
pub(crate) struct Bundle {
    pub(crate) id: String,
    pub(crate) path: PathBuf,
    pub(crate) options: oci::Options,
}

impl Bundle {
    /// Creates the bundle of `id` in `directory`, for a container that `runtime` will run.
    pub(crate) fn make(directory: &Path, id: &str, runtime: &Path, root: &Path) -> Self {
        let path = directory.join(id);
        fs::create_dir(&path).expect("one bundle an id");
        let options = oci::Options {
            binary_name: runtime.to_string_lossy().into_owned(),
            root: root.to_string_lossy().into_owned(),
            ..Default::default()
        };
        let bundle = Self { id: id.to_owned(), path, options };
        bundle.write_config(&Self::config());
        bundle
    }

    /// A minimal configuration: the container has its own pid namespace.
    fn config() -> Value {
        json!({
            "ociVersion": "1.0.2",
            "process": { "args": ["sleep", "600"], "cwd": "/" },
            "root": { "path": "rootfs" },
            "linux": { "namespaces": [{ "type": "pid" }, { "type": "mount" }] },
        })
    }

    pub(crate) fn write_config(&self, config: &Value) {
        fs::write(self.path.join("config.json"), config.to_string())
            .expect("the bundle is writable");
    }

    /// Adds an annotation to its `config.json`.
    pub(crate) fn annotated(self, key: &str, value: &str) -> Self {
        let mut config = self.read_config();
        config["annotations"][key] = value.into();
        self.write_config(&config);
        self
    }

    /// Removes the pid namespace, so that the container uses the host's or another container's.
    pub(crate) fn without_pid_namespace(self) -> Self {
        let mut config = self.read_config();
        config["linux"]["namespaces"] = json!([{ "type": "mount" }]);
        self.write_config(&config);
        self
    }

    fn read_config(&self) -> Value {
        let text = fs::read(self.path.join("config.json")).expect("it was written");
        serde_json::from_slice(&text).expect("it was written as JSON")
    }

    /// The text of a file in the bundle; `None` if the file does not exist.
    pub(crate) fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path.join(name)).ok()
    }

    /// The runtime's options, as clients of runc send them.
    pub(crate) fn options(&self) -> Any {
        any(
            "containerd.runc.v1.Options",
            self.options.write_to_bytes().expect("proto3 has no required fields"),
        )
    }

    /// A request to create its container without streams.
    pub(crate) fn create(&self) -> CreateTaskRequest {
        CreateTaskRequest {
            id: self.id.clone(),
            bundle: self.path.to_string_lossy().into_owned(),
            options: MessageField::some(self.options()),
            ..Default::default()
        }
    }
}

/// A protobuf `Any` with an explicit type URL.
pub(crate) fn any(type_url: &str, value: impl Into<Vec<u8>>) -> Any {
    Any { type_url: type_url.to_owned(), value: value.into(), ..Default::default() }
}
