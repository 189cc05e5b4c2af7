//! Encodes an event as the JSON of an OCI runtime specification. It is the one message type that
//! every `ctr events` can print and that has fields for a process. All other facts are in its
//! `annotations`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    api::{Ended, Event, Port, Process, event::Body},
    model::escaped,
};

/// The type URL of the message, as containerd's `typeurl` package registers it.
pub const TYPE_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// The version of the OCI runtime specification that the message follows.
const OCI_VERSION: &str = "1.0.2";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    oci_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<SpecProcess>,
    annotations: Annotations,
}

type Annotations = BTreeMap<&'static str, String>;

#[derive(Serialize)]
struct SpecProcess {
    user: User,
    args: Vec<String>,
    cwd: String,
}

/// The user of a process. An unknown id is left out, which Go decodes as 0.
#[derive(Serialize)]
struct User {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
}

/// Encodes an event as JSON.
///
/// JSON strings cannot hold arbitrary bytes. If any argument, the directory or the executable of
/// the process is not UTF-8, all of them are escaped: each invalid byte as `\xHH`, each backslash
/// as two. The annotation `io.lookout.escaped` is `true` then.
pub(super) fn encode(event: &Event) -> Vec<u8> {
    let mut annotations = Annotations::new();
    annotations.insert("io.lookout.type", event.type_.clone());
    annotations.insert("io.lookout.seq", event.seq.to_string());
    annotations.insert("io.lookout.time", event.time_ns.to_string());
    annotations.insert("io.lookout.grade", event.grade.clone());
    if let Some(container) = event.container.as_ref() {
        annotations.insert("io.lookout.container", container.id.clone());
    }
    let mut described = None;
    match &event.body {
        Some(Body::Process(process)) => {
            described = Some(describe(process, &mut annotations));
            if let Some(ended) = process.ended.as_ref() {
                describe_end(ended, &mut annotations);
            }
        }
        Some(Body::Gap(gap)) => {
            annotations.insert("io.lookout.stage", gap.stage.clone());
            // The annotation is left out if the number is unknown.
            annotations.extend(gap.lost.map(|lost| ("io.lookout.lost", lost.to_string())));
        }
        Some(Body::Port(port)) => describe_port(port, &mut annotations),
        Some(Body::Throttle(throttle)) => {
            annotations.insert("io.lookout.withheld", throttle.withheld.to_string());
            annotations.insert("io.lookout.over_ns", throttle.over_ns.to_string());
        }
        // `Bus` has selected no event with another body.
        _ => {}
    }
    // The value consists of strings and numbers under string keys, which serde_json cannot fail to
    // write.
    serde_json::to_vec(&Spec { oci_version: OCI_VERSION, process: described, annotations })
        .unwrap_or_default()
}

/// Describes a process in the fields of the specification, and what has no field in annotations.
fn describe(process: &Process, annotations: &mut Annotations) -> SpecProcess {
    let parts = [&process.working_directory, &process.executable].into_iter().flatten();
    // A single annotation covers all fields, so either all of them are escaped or none.
    let is_escaped =
        !process.args.iter().chain(parts).all(|bytes| std::str::from_utf8(bytes).is_ok());
    let text = |bytes: &Vec<u8>| match std::str::from_utf8(bytes) {
        Ok(text) if !is_escaped => text.to_owned(),
        _ => escaped(bytes),
    };
    annotations.insert("io.lookout.pid", process.pid.to_string());
    insert_word("io.lookout.entity_id", &process.entity_id, annotations);
    annotations.insert("io.lookout.origin", process.origin.clone());
    insert_word("io.lookout.exec_id", &process.exec_id, annotations);
    annotations
        .extend(process.executable.as_ref().map(|path| ("io.lookout.executable", text(path))));
    if is_escaped {
        annotations.insert("io.lookout.escaped", "true".to_owned());
    }
    if process.args_truncated {
        annotations
            .insert("io.lookout.args_count", process.args_count.unwrap_or_default().to_string());
        annotations.insert("io.lookout.args_truncated", "true".to_owned());
    }
    if process.args_redacted {
        annotations.insert("io.lookout.args_redacted", "true".to_owned());
    }
    SpecProcess {
        user: User { uid: process.uid, gid: process.gid },
        args: process.args.iter().map(text).collect(),
        cwd: process.working_directory.as_ref().map(text).unwrap_or_default(),
    }
}

/// Describes a port. The first owner is described as a process is, the others by pid only.
fn describe_port(port: &Port, annotations: &mut Annotations) {
    annotations.insert("io.lookout.transport", port.transport.clone());
    annotations.insert("io.lookout.address", port.address.clone());
    annotations.insert("io.lookout.port", port.port.to_string());
    annotations.insert("io.lookout.scope", port.scope.clone());
    if port.dual_stack {
        annotations.insert("io.lookout.dual_stack", "true".to_owned());
    }
    annotations.extend(
        port.network_namespace.map(|inode| ("io.lookout.network_namespace", inode.to_string())),
    );
    // An event of a port that only the kernel's list showed may have no known owner.
    let Some(owner) = port.owners.first() else { return };
    let pids: Vec<String> = port.owners.iter().map(|owner| owner.pid.to_string()).collect();
    annotations.insert("io.lookout.pid", owner.pid.to_string());
    annotations.insert("io.lookout.owners", pids.join(","));
    annotations
        .extend(port.owners_count.map(|count| ("io.lookout.owners_count", count.to_string())));
    insert_word("io.lookout.entity_id", &owner.entity_id, annotations);
    insert_word("io.lookout.exec_id", &owner.exec_id, annotations);
    if let Some(path) = &owner.executable {
        let text = std::str::from_utf8(path);
        annotations.insert(
            "io.lookout.executable",
            text.map_or_else(|_| escaped(path), ToOwned::to_owned),
        );
        if text.is_err() {
            annotations.insert("io.lookout.escaped", "true".to_owned());
        }
    }
}

/// Describes how a process has ended, in annotations.
fn describe_end(ended: &Ended, annotations: &mut Annotations) {
    annotations.extend(ended.code.map(|code| ("io.lookout.code", code.to_string())));
    insert_word("io.lookout.signal", &ended.signal, annotations);
    annotations.extend(ended.status.map(|status| ("io.lookout.status", status.to_string())));
    if ended.oom_killed {
        annotations.insert("io.lookout.oom_killed", "true".to_owned());
    }
}

/// Inserts an annotation, except for an empty word, which means that it is unknown.
fn insert_word(name: &'static str, word: &str, annotations: &mut Annotations) {
    if !word.is_empty() {
        annotations.insert(name, word.to_owned());
    }
}

#[cfg(test)]
mod tests;
