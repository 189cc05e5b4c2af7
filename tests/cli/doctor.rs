//! `lookout doctor` and the runtimes on `PATH`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{fake::Node, run::command};

/// Writes a program that prints `version`.
fn runtime(directory: &Path, name: &str, version: &str) {
    let path = directory.join(name);
    fs::write(&path, format!("#!/bin/sh\nprintf '%s\\n' '{version}' 'spec: 1.0.0'\n"))
        .expect("a temporary directory is writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
}

/// The exit status and the output of `lookout doctor ARGUMENTS` with this `PATH`.
fn doctor(path: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let node = Node::new();
    let mut command = command(&node, &[&["doctor"], arguments].concat());
    let output = command.env("PATH", path).output().expect("it runs");
    (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
}

/// Writes a program `containerd` that runs a shell script with its arguments.
fn containerd(directory: &Path, script: &str) {
    let path = directory.join("containerd");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a temporary directory is writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
}

/// A script that answers as a containerd of this version, with these outputs of `config dump`. It
/// runs without any other program on `PATH`.
fn fake(version: &str, dump: &str, messages: &str) -> String {
    format!(
        "if test \"$1\" = --version; then\n\
         echo 'containerd github.com/containerd/containerd {version} 0'\nexit\nfi\n\
         printf '%s\\n' '{dump}'\nprintf '%s\\n' '{messages}' >&2"
    )
}

/// A configuration of this version with the runtime of lookout in this section.
fn config(version: u32, section: &str) -> String {
    format!(
        "version = {version}\n\
         [plugins.\"{section}\".containerd.runtimes.lookout]\n\
         runtime_type = \"io.containerd.runc.v2\"\n\
         runtime_path = \"/bin/../bin/containerd-shim-lookout-v2\"\n\
         [plugins.\"{section}\".containerd.runtimes.runc]\n\
         runtime_type = \"io.containerd.runc.v2\"\n"
    )
}

const OLD: &str = "io.containerd.grpc.v1.cri";
const NEW: &str = "io.containerd.cri.v1.runtime";

/// The problems about containerd in the report of `doctor`, and the report.
fn problems(path: &Path) -> (Vec<String>, Value) {
    let (_, json) = doctor(path, &["-o", "json"]);
    let report: Value = serde_json::from_str(&json).expect("JSON");
    let wrong = report["wrong"].as_array().expect("a list").iter();
    let wrong = wrong.map(|one| one.as_str().expect("text").to_owned());
    (wrong.filter(|text| text.contains("containerd")).collect(), report)
}

/// Check the version and the section of containerd 1 and 2, a runtime in the section that is not
/// read, a shim that does not exist, and a configuration that containerd refuses.
#[test]
fn the_section_of_containerds_configuration_that_is_in_force_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path();
    let ignored = "level=warning msg=\"Ignoring unknown key in TOML for plugin\" key=containerd \
                   plugin=io.containerd.grpc.v1.cri";
    for (version, file, section, has_runtime) in
        [("1.7.24", 2, OLD, true), ("v2.1.4", 3, NEW, true), ("2.2.0", 3, NEW, false)]
    {
        let (dump, messages) = match has_runtime {
            true => (config(file, section), ""),
            false => (format!("version = {file}"), ignored),
        };
        containerd(path, &fake(version, &dump, messages));
        let (wrong, report) = problems(path);
        let found = &report["containerd"];
        assert_eq!(found["version"], version.trim_start_matches('v'), "{report}");
        assert_eq!(found["section"], section, "{report}");
        assert_eq!(found["runtimes"].as_array().map(Vec::len), Some(usize::from(has_runtime)));
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        if has_runtime {
            assert_eq!(found["runtimes"][0]["name"], "lookout", "{report}");
            assert!(
                wrong[0].contains("which does not exist: `install containerd-shim-"),
                "{wrong:?}"
            );
        } else {
            assert!(wrong[0].contains(&format!("in the section {OLD}")), "{wrong:?}");
            assert!(wrong[0].contains("`sed -i -E ") && wrong[0].contains(NEW), "{wrong:?}");
        }
    }
    let refused = "containerd: failed to load TOML: unsupported config version `3`";
    containerd(path, &format!("{}\nexit 1", fake("1.7.24", "", refused)));
    let (wrong, _) = problems(path);
    assert_eq!(
        wrong,
        [format!(
            "containerd cannot read its configuration: {refused}. Correct it; `containerd config \
             dump` checks it"
        )]
    );
    fs::remove_file(path.join("containerd")).expect("our own file");
    let (wrong, report) = problems(path);
    assert!(wrong.is_empty() && report.get("containerd").is_none(), "{report}");
}

/// Check with a real containerd 2 that a runtime in the old section is reported in a file of
/// version 3 and not in one of version 2, which it converts, and that the printed command mends the
/// file.
#[test]
fn a_section_that_containerd_2_ignores_is_mended_by_the_printed_command() {
    let tools = std::env::var_os("LOOKOUT_TOOLS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools"), PathBuf::from);
    let real = tools.join("containerd-2.1/bin/containerd");
    assert!(real.exists(), "{} is missing: run hack/setup", real.display());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (path, file) = (directory.path(), directory.path().join("config.toml"));
    containerd(path, &format!("exec {} -c {} \"$@\"", real.display(), file.display()));
    let lost = |wrong: &[String]| wrong.iter().filter(|text| text.contains(" ignores ")).count();
    let runtimes = |report: &Value| report["containerd"]["runtimes"].as_array().map(Vec::len);
    fs::write(&file, config(2, OLD)).expect("our own file");
    let (wrong, report) = problems(path);
    assert_eq!((lost(&wrong), runtimes(&report)), (0, Some(1)), "{report}");
    fs::write(&file, config(3, OLD)).expect("our own file");
    let (wrong, report) = problems(path);
    assert_eq!((lost(&wrong), runtimes(&report)), (1, Some(0)), "{report}");
    let command = wrong[0].split('`').find(|part| part.starts_with("sed ")).expect("a command");
    let command = command.replace("/etc/containerd/config.toml", file.to_str().expect("UTF-8"));
    let mended = std::process::Command::new("sh").args(["-c", &command]).status();
    assert!(mended.expect("it runs").success(), "{command}");
    let (wrong, report) = problems(path);
    assert_eq!((lost(&wrong), runtimes(&report)), (0, Some(1)), "{report}");
    let (_, table) = doctor(path, &[]);
    let line =
        "; runtimes of lookout in io.containerd.cri.v1.runtime: lookout (io.containerd.runc.v2";
    assert!(table.contains("containerd 2.1") && table.contains(line), "{table}");
}

/// Check that the kernel and the mode of its cgroups are reported.
#[test]
fn the_kernel_is_reported() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (_, json) = doctor(directory.path(), &["-o", "json"]);
    let report: Value = serde_json::from_str(&json).expect("JSON");
    let kernel = &report["kernel"];
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel has it");
    assert_eq!(kernel["release"], release.trim());
    assert_eq!(kernel["btf"], Path::new("/sys/kernel/btf/vmlinux").exists(), "{kernel}");
    // Every kernel that the README names has a ring buffer. Not every one lets fentry be used.
    assert!(kernel["ring_buffer"] == true && kernel["fentry"].is_boolean(), "{kernel}");
    let (_, table) = doctor(directory.path(), &[]);
    let line = format!("kernel    {}: BTF ", release.trim());
    assert!(table.contains(&line) && table.contains("\ncgroups   "), "{table}");
    assert!(table.contains("containerd none on PATH\n"), "{table}");
}

/// Check that runtimes with known escapes are named with the fixed versions, in the table and in
/// JSON, that others are only listed, and that the exit status does not depend on it.
#[test]
fn runtimes_with_known_escapes_are_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (none, table) = doctor(directory.path(), &[]);
    assert!(table.contains("runtimes  none\n") && !table.contains("warning"), "{table}");
    runtime(directory.path(), "crun", "crun version 1.99");
    runtime(directory.path(), "runc", "runc version 1.1.5+ds1");
    let (warned, table) = doctor(directory.path(), &[]);
    assert_eq!(none, warned);
    assert!(table.contains("runtimes  runc 1.1.5+ds1, crun 1.99\n"), "{table}");
    let warning = "warning   runc 1.1.5+ds1 has known container escapes: \
                   CVE-2024-21626 (fixed in 1.1.12), CVE-2025-31133 (fixed in 1.2.8, 1.3.3, 1.4.0-rc.3)";
    assert!(table.contains(warning), "{table}");
    assert!(table.contains("may be patched by the distribution"), "{table}");
    let (_, json) = doctor(directory.path(), &["-o", "json"]);
    let report: Value = serde_json::from_str(&json).expect("JSON");
    let of_crun = serde_json::json!(
        {"name": "crun", "version": "1.99", "escapes": [], "may_be_patched": false}
    );
    assert_eq!(report["runtimes"][1], of_crun, "{json}");
    assert_eq!(report["runtimes"][0]["may_be_patched"], true, "{json}");
    assert_eq!(report["warnings"].as_array().map(Vec::len), Some(1), "{json}");
    runtime(directory.path(), "runc", "runc version 9.9.9");
    let (_, table) = doctor(directory.path(), &[]);
    assert!(table.contains("runc 9.9.9") && !table.contains("warning"), "{table}");
}
