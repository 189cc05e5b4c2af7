//! Checks where the code depends on one operating system.
//!
//! `hack/check-portable` shows that the portable code compiles for another Unix. It cannot show two
//! things, which are checked here: that the `cfg` conditions are only in the listed files, and that
//! the pure modules use nothing of any one system. So those modules could also serve a system
//! without file descriptors and signals (Windows, with ETW). Signals have names by POSIX; their
//! numbers are the system's.

use std::{fs, path::Path};

/// Modules and files that use nothing of one operating system.
const PORTABLE: [&str; 31] = [
    "model",
    "config",
    "observe/record.rs",
    "observe/redact",
    "observe/stream",
    "observe/capability",
    "observe/track/mod.rs",
    "observe/track/account.rs",
    "observe/track/early_exits.rs",
    "observe/track/exec_table.rs",
    "observe/track/image.rs",
    "observe/track/output.rs",
    "observe/track/recent_exits.rs",
    "observe/track/scan.rs",
    "observe/track/tree.rs",
    "observe/track/target/mod.rs",
    "observe/track/target/start.rs",
    "observe/track/target/exit.rs",
    "observe/track/target/execs.rs",
    "observe/track/target/done.rs",
    "observe/track/target/resync.rs",
    "observe/track/idle.rs",
    "observe/track/ports",
    "observe/library/detector",
    "client/json",
    "registry/change.rs",
    "registry/entries.rs",
    "registry/entry.rs",
    "registry/refusal.rs",
    "registry/select.rs",
    "daemon/node/view.rs",
];

/// Paths and strings that belong to one system, or to one kind of systems.
const OF_ONE_SYSTEM: [&str; 7] =
    ["std::os::", "nix::", "libc::", "\"/proc", "\"/sys", "crate::sys::", "crate::linux::"];

/// The only files with `cfg` conditions on the operating system: `platform`, and the modules that
/// declare what exists on Linux only.
const CONDITIONS: [&str; 10] = [
    "lib.rs",
    "sys/mod.rs",
    "platform/mod.rs",
    "observe/mod.rs",
    "observe/node/mod.rs",
    "observe/source/mod.rs",
    "registry/mod.rs",
    "daemon/mod.rs",
    "cli/mod.rs",
    "cli/args/mod.rs",
];

/// Check that no other file has a condition on the operating system, and that each of these still
/// has one.
#[test]
fn conditions_are_only_in_the_listed_files() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let asks = |text: &str| {
        ["target_os", "target_family", "cfg(unix", "cfg(windows"]
            .iter()
            .any(|word| text.contains(word))
    };
    let mut found: Vec<String> = files_of(&source)
        .into_iter()
        .filter(|(_, text)| asks(text))
        .map(|(file, _)| file)
        .collect();
    found.sort_unstable();
    let mut expected = CONDITIONS.map(|file| source.join(file).display().to_string());
    expected.sort_unstable();
    assert_eq!(found, expected);
}

/// Check that the portable files use nothing of one system.
#[test]
fn portable_code_names_no_system() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    for portable in PORTABLE {
        let files = files_of(&source.join(portable));
        assert!(!files.is_empty(), "{portable} does not exist");
        for (file, text) in files {
            seen += 1;
            // Unit tests run on Linux, so they may use it.
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in lines.filter(|line| !line.contains("nix::sys::signal::Signal")) {
                let bound = OF_ONE_SYSTEM.iter().find(|word| line.contains(*word));
                assert_eq!(bound, None, "{file}: {line}");
            }
        }
    }
    assert!(seen > 30, "only {seen} files: where is the source?");
}

fn files_of(path: &Path) -> Vec<(String, String)> {
    if path.is_dir() {
        let entries =
            fs::read_dir(path).expect("a directory").map(|entry| entry.expect("an entry").path());
        return entries
            .filter(|path| !path.ends_with("tests") && !path.ends_with("tests.rs"))
            .flat_map(|path| files_of(&path))
            .collect();
    }
    let read = || (path.display().to_string(), fs::read_to_string(path).expect("UTF-8"));
    if path.extension().is_some_and(|extension| extension == "rs") && path.exists() {
        vec![read()]
    } else {
        Vec::new()
    }
}
