//! The containerd on `PATH`, and the runtimes of lookout in the configuration of its CRI plugin.
//!
//! containerd 2 reads the runtimes from another section than containerd 1. It converts a file of
//! version 2, but in one of version 3 it ignores the old section without an error, and
//! `config dump` leaves it out. So the files are read too.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use serde::Serialize;
use toml::{Table, Value};

use super::{Findings, Unchecked};

/// The sections with the runtimes: of containerd 1, and of containerd 2.
const SECTIONS: [&str; 2] = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"];

/// The file that containerd reads if it is given none.
const FILE: &str = "/etc/containerd/config.toml";

/// The file name of the shim's program.
const SHIM: &str = "containerd-shim-lookout-v2";

/// The most bytes of a message of containerd that are shown.
const MESSAGE_MAX: usize = 300;

/// What was found of containerd.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct FoundContainerd {
    /// The version as containerd prints it.
    version: String,
    /// The section from which this version reads the runtimes.
    section: &'static str,
    /// The runtimes of lookout that are in force.
    runtimes: Vec<Runtime>,
}

/// A runtime of lookout in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Runtime {
    name: String,
    #[serde(rename = "type")]
    runtime_type: String,
    /// The path of the shim; empty if containerd searches it by the type.
    #[serde(skip_serializing_if = "String::is_empty")]
    path: String,
}

/// What a program has printed.
#[derive(Debug)]
struct Printed {
    is_success: bool,
    stdout: String,
    stderr: String,
}

/// The containerd on `PATH`; `None` if there is none.
pub(super) fn find(findings: &mut Findings) -> Option<FoundContainerd> {
    let version = version(&ask(&["--version"])?.stdout)?;
    let dump = ask(&["config", "dump"])?;
    let read = |file: &str| Some((file.to_owned(), std::fs::read_to_string(file).ok()?));
    let found = FoundContainerd::new(version, &dump, read, findings);
    for Runtime { name, path, .. } in &found.runtimes {
        if !path.is_empty() && !Path::new(path).exists() {
            findings.wrong.push(format!(
                "the runtime {name} of containerd names {path}, which does not exist: \
                 `install {SHIM} {path}`"
            ));
        }
    }
    Some(found)
}

/// Runs `containerd ARGUMENTS`; `None` if there is no such program.
fn ask(arguments: &[&str]) -> Option<Printed> {
    let mut command = Command::new("containerd");
    command.args(arguments).stdin(Stdio::null());
    #[expect(clippy::disallowed_methods, reason = "the command has no reaper")]
    let output = command.output().ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(Printed {
        is_success: output.status.success(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    })
}

/// The version in `containerd github.com/containerd/containerd/v2 v2.1.4 75cb2b7`.
fn version(printed: &str) -> Option<String> {
    let version = printed.split_whitespace().nth(2)?;
    let version = version.strip_prefix('v').unwrap_or(version);
    Some(version.chars().filter(char::is_ascii_graphic).take(64).collect())
}

impl FoundContainerd {
    /// `read` reads a configuration file, and returns its path with its text.
    fn new(
        version: String,
        dump: &Printed,
        read: impl Fn(&str) -> Option<(String, String)>,
        findings: &mut Findings,
    ) -> Self {
        let is_old = version.starts_with("1.") || version.starts_with("0.");
        let (section, ignored) =
            if is_old { (SECTIONS[0], SECTIONS[1]) } else { (SECTIONS[1], SECTIONS[0]) };
        let parsed = Some(dump).filter(|dump| dump.is_success);
        let parsed: Option<Table> = parsed.and_then(|dump| dump.stdout.parse().ok());
        let Some(parsed) = parsed else {
            findings.record_unread(&dump.stderr);
            return Self { version, section, runtimes: Vec::new() };
        };
        let runtimes = runtimes_in(&parsed, section);
        let imports = parsed.get("imports").and_then(Value::as_array).into_iter().flatten();
        let files = std::iter::once(FILE).chain(imports.filter_map(Value::as_str));
        let mut lost: Vec<(String, Runtime)> = Vec::new();
        for (file, text) in files.filter_map(read) {
            let Ok(table) = text.parse::<Table>() else { continue };
            let of_file = runtimes_in(&table, ignored).into_iter();
            lost.extend(of_file.map(|runtime| (file.clone(), runtime)));
        }
        lost.retain(|(_, lost)| !runtimes.iter().any(|runtime| runtime.name == lost.name));
        for (file, Runtime { name, .. }) in &lost {
            findings.wrong.push(format!(
                "containerd {version} ignores the runtime {name} of {file}, which is in the \
                 section {ignored}: it reads {section}. {}",
                mend(ignored, section, file)
            ));
        }
        // containerd says this of a section with runtimes, in a file of any path.
        let is_ignored = |line: &str| {
            line.contains("key=containerd") && line.contains(&format!("plugin={ignored}"))
        };
        if lost.is_empty() && runtimes.is_empty() && dump.stderr.lines().any(is_ignored) {
            findings.wrong.push(format!(
                "containerd {version} ignores the runtimes in the section {ignored} of its \
                 configuration: it reads {section}. {}",
                mend(ignored, section, FILE)
            ));
        }
        Self { version, section, runtimes }
    }

    /// The line of the table.
    pub(super) fn line(&self) -> String {
        let Self { version, section, runtimes } = self;
        let runtime = |runtime: &Runtime| {
            let Runtime { name, runtime_type, path } = runtime;
            if path.is_empty() {
                format!("{name} ({runtime_type})")
            } else {
                format!("{name} ({runtime_type}, {path})")
            }
        };
        let runtimes: Vec<String> = runtimes.iter().map(runtime).collect();
        let runtimes = super::none_or(&runtimes);
        format!("containerd {version}; runtimes of lookout in {section}: {runtimes}\n")
    }
}

impl Findings {
    /// Records that the configuration of containerd could not be read.
    fn record_unread(&mut self, stderr: &str) {
        let line = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message");
        let line: String = line.chars().take(MESSAGE_MAX).collect();
        let is_root = nix::unistd::geteuid().is_root();
        if !is_root && line.contains("permission denied") {
            let reason = format!("{line}: run `lookout doctor` as root");
            self.unchecked.push(Unchecked { check: "the configuration of containerd", reason });
        } else {
            self.wrong.push(format!(
                "containerd cannot read its configuration: {line}. Correct it; `containerd config \
                 dump` checks it"
            ));
        }
    }
}

/// The command that moves the runtimes of a file to the section that is read.
fn mend(ignored: &str, section: &str, file: &str) -> String {
    let escaped = ignored.replace('.', "\\.");
    format!(
        "`sed -i -E \"s/{escaped}(['\\\"])\\.containerd/{section}\\1.containerd/\" {file}` moves \
         it; then `systemctl restart containerd`"
    )
}

/// The runtimes of lookout in a section, by name.
fn runtimes_in(config: &Table, section: &str) -> Vec<Runtime> {
    let path = ["plugins", section, "containerd", "runtimes"];
    let mut table = Some(config);
    for name in path {
        table = table.and_then(|table| table.get(name)).and_then(Value::as_table);
    }
    let text = |runtime: &Value, key: &str| {
        let text = runtime.get(key).and_then(Value::as_str).unwrap_or_default();
        crate::model::printable::safe_text(text.as_bytes())
    };
    let runtime = |(name, value): (&String, &Value)| Runtime {
        name: crate::model::printable::safe_text(name.as_bytes()),
        runtime_type: text(value, "runtime_type"),
        path: text(value, "runtime_path"),
    };
    let is_ours = |runtime: &Runtime| {
        runtime.runtime_type.split('.').any(|part| part == "lookout")
            || Path::new(&runtime.path).file_name().is_some_and(|name| name == SHIM)
    };
    table.into_iter().flatten().map(runtime).filter(is_ours).collect()
}
