//! Bundles for a real runtime: busybox in its own namespaces. They need root.

use serde_json::json;

use super::{Bundle, Node, tools::tool};

impl Node {
    /// A bundle for runc 1.1; its init is busybox's shell running `script`.
    pub(crate) fn runc_bundle(&self, id: &str, script: &str) -> Bundle {
        let mut bundle = self.bundle(id);
        bundle.options.binary_name = tool("runc-1.1/bin/runc").to_string_lossy().into_owned();
        // Not nested, because runc removes only the last directory of the path.
        let node = self.path().file_name().expect("it has a name");
        let cgroup = format!("/{}-{id}", node.to_string_lossy());
        let namespaces =
            ["pid", "ipc", "uts", "mount", "network"].map(|kind| json!({ "type": kind }));
        bundle.write_config(&json!({
            "ociVersion": "1.0.2",
            "process": {
                "args": ["/bin/sh", "-c", script],
                "env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin"],
                "cwd": "/",
                "user": { "uid": 0, "gid": 0 },
            },
            "root": { "path": tool("rootfs"), "readonly": true },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
                { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" },
            ],
            "linux": {
                "namespaces": namespaces,
                "cgroupsPath": cgroup,
            },
        }));
        bundle
    }
}

/// The process document of an exec in a [`runc_bundle`](Node::runc_bundle).
pub(crate) fn process(script: &str) -> String {
    let arguments =
        if script.starts_with('/') { json!([script]) } else { json!(["/bin/sh", "-c", script]) };
    json!({
        "args": arguments,
        "env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin"],
        "cwd": "/",
        "user": { "uid": 0, "gid": 0 },
    })
    .to_string()
}
