//! Runs the `delete` verb as containerd runs it.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use containerd_shim_protos::{api::DeleteResponse, protobuf::Message as _};

use super::{Bundle, Node, deadline, node::NAMESPACE, tools};

/// containerd's timeout for the whole verb.
const DELETE: Duration = Duration::from_secs(5);

/// The result of a `delete` that succeeded.
#[derive(Debug)]
pub(crate) struct Deleted {
    pub(crate) response: DeleteResponse,
    /// Warnings, for containerd's log.
    pub(crate) stderr: String,
}

/// Runs `delete` for `bundle`, with the bundle as its working directory if it exists.
#[track_caller]
pub(crate) fn delete(node: &Node, bundle: &Bundle) -> Deleted {
    let mut command = Command::new(tools::SHIM);
    command.args([
        "-namespace",
        NAMESPACE,
        "-address",
        &node.address(),
        "-id",
        &bundle.id,
        "-bundle",
    ]);
    command.arg(&bundle.path).arg("delete");
    command.current_dir(if bundle.path.is_dir() { &bundle.path } else { node.path() });
    let marker = node.marker();
    command.envs(marker.split_once('=')).stdin(Stdio::null());
    let run = deadline::finish_within(DELETE, "delete", move || {
        command.output().expect("the binary is there")
    });
    let stderr = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "delete failed: {stderr}");
    let response =
        DeleteResponse::parse_from_bytes(&run.stdout).expect("the answer is a DeleteResponse");
    Deleted { response, stderr }
}
