//! An event as the JSON of an OCI runtime specification: the one message that every `ctr events` can print
//! and that has room for what we tell. What is ours is in `annotations`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{Body, Ended, Event, Port, Process, escaped};

/// The message's type, as containerd's typeurl knows it, without a host.
pub const TYPE_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// The version of the specification whose words are used.
const OCI_VERSION: &str = "1.0.2";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    oci_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<SpecProcess>,
    annotations: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct SpecProcess {
    user: User,
    args: Vec<String>,
    cwd: String,
}

/// Absent where it is not known, which Go reads as 0.
#[derive(Serialize)]
struct User {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
}

/// The event's JSON. `boot` as in [`ProcessKey::entity_id`](crate::model::ProcessKey::entity_id).
///
/// JSON has no bytes. Where anything of the process is not UTF-8, all of its arguments, its directory and
/// its executable are escaped, each byte that is not as `\xHH` and each backslash as two, and the
/// annotation `io.lookout.escaped` is `true`.
pub(super) fn encode(event: &Event, boot: u32) -> Vec<u8> {
    let mut annotations = BTreeMap::new();
    annotations.insert("io.lookout.type", event.body.type_name().to_owned());
    annotations.insert("io.lookout.seq", event.seq.to_string());
    annotations.insert("io.lookout.time", event.realtime_ns.to_string());
    annotations.insert("io.lookout.grade", event.grade.as_str().to_owned());
    if let Some(container) = &event.container {
        annotations.insert("io.lookout.container", container.id.clone());
    }
    let process = event.body.process().map(|process| describe(process, boot, &mut annotations));
    match &event.body {
        Body::Exit { ended, oom_killed, .. } => describe_end(*ended, *oom_killed, &mut annotations),
        Body::Gap(gap) => {
            annotations.insert("io.lookout.stage", gap.stage.as_str().to_owned());
            // Absent: nobody counted.
            annotations.extend(gap.lost.map(|lost| ("io.lookout.lost", lost.to_string())));
        }
        Body::PortOpen(port) | Body::PortClose(port) => describe_port(port, boot, &mut annotations),
        Body::Throttle { withheld, over_ns } => {
            annotations.insert("io.lookout.withheld", withheld.to_string());
            annotations.insert("io.lookout.over_ns", over_ns.to_string());
        }
        _ => {}
    }
    // Strings and numbers, with keys that are strings: nothing that JSON could refuse.
    serde_json::to_vec(&Spec { oci_version: OCI_VERSION, process, annotations }).unwrap_or_default()
}

fn describe(process: &Process, boot: u32, annotations: &mut BTreeMap<&'static str, String>) -> SpecProcess {
    let image = &process.image;
    let words = || image.args.iter().flat_map(|args| args.iter());
    let parts = || [&image.working_directory, &image.executable].into_iter().flatten().map(|part| &**part);
    let is_escaped = !words().chain(parts()).all(|bytes| std::str::from_utf8(bytes).is_ok());
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) if !is_escaped => text.to_owned(),
        _ => escaped(bytes),
    };
    annotations.insert("io.lookout.pid", process.key.pid.to_string());
    if process.key.start_ticks != 0 {
        annotations.insert("io.lookout.entity_id", process.key.entity_id(boot).to_string());
    }
    annotations.insert("io.lookout.origin", process.origin.as_str().to_owned());
    annotations.extend(process.exec_id.as_deref().map(|id| ("io.lookout.exec_id", id.to_owned())));
    annotations.extend(image.executable.as_deref().map(|path| ("io.lookout.executable", text(path))));
    if is_escaped {
        annotations.insert("io.lookout.escaped", "true".to_owned());
    }
    if let Some(args) = image.args.as_ref().filter(|args| args.truncated()) {
        annotations.insert("io.lookout.args_count", args.count.to_string());
        annotations.insert("io.lookout.args_truncated", "true".to_owned());
    }
    if image.args.as_ref().is_some_and(|args| args.redacted) {
        annotations.insert("io.lookout.args_redacted", "true".to_owned());
    }
    SpecProcess {
        user: User { uid: image.uid, gid: image.gid },
        args: words().map(text).collect(),
        cwd: image.working_directory.as_deref().map(text).unwrap_or_default(),
    }
}

/// The first owner as a process is described; the others by their pids.
fn describe_port(port: &Port, boot: u32, annotations: &mut BTreeMap<&'static str, String>) {
    let Port { endpoint, owners } = port;
    annotations.insert("io.lookout.transport", endpoint.transport.as_str().to_owned());
    annotations.insert("io.lookout.address", endpoint.address.to_string());
    annotations.insert("io.lookout.port", endpoint.port.to_string());
    annotations.insert("io.lookout.scope", endpoint.scope().as_str().to_owned());
    if endpoint.dual_stack {
        annotations.insert("io.lookout.dual_stack", "true".to_owned());
    }
    let Some(owner) = owners.first() else { return };
    let pids: Vec<String> = owners.iter().map(|owner| owner.key.pid.to_string()).collect();
    annotations.insert("io.lookout.pid", owner.key.pid.to_string());
    annotations.insert("io.lookout.owners", pids.join(","));
    if owner.key.start_ticks != 0 {
        annotations.insert("io.lookout.entity_id", owner.key.entity_id(boot).to_string());
    }
    annotations.extend(owner.exec_id.as_deref().map(|id| ("io.lookout.exec_id", id.to_owned())));
    if let Some(path) = owner.image.as_ref().and_then(|image| image.executable.as_deref()) {
        let is_escaped = std::str::from_utf8(path).is_err();
        let text = if is_escaped { escaped(path) } else { String::from_utf8_lossy(path).into_owned() };
        annotations.insert("io.lookout.executable", text);
        if is_escaped {
            annotations.insert("io.lookout.escaped", "true".to_owned());
        }
    }
}

fn describe_end(ended: Option<Ended>, oom_killed: bool, annotations: &mut BTreeMap<&'static str, String>) {
    annotations.extend(ended.and_then(Ended::code).map(|code| ("io.lookout.code", code.to_string())));
    annotations.extend(ended.and_then(Ended::signal_name).map(|name| ("io.lookout.signal", name)));
    annotations.extend(ended.map(|ended| ("io.lookout.status", ended.status().to_string())));
    if oom_killed {
        annotations.insert("io.lookout.oom_killed", "true".to_owned());
    }
}

#[cfg(test)]
mod tests;
