//! Keeps the seam between what only Linux has and what any system could run.
//!
//! On the far side: `sys`, `observe::proc`, the sources but the scripted one, the daemon's `liveness`, `look`,
//! `sample`, `kill` and `place`. On this side is what decides, keeps and shows: it names no kernel, no `/proc` and no
//! system call, so that another system's source (ETW, DTrace) and another way to hold a process can take their place.
//! Signals have names by POSIX; their numbers are the system's.

use std::{fs, path::Path};

/// What could run anywhere.
const PORTABLE: [&str; 16] = [
    "model",
    "config",
    "observe/record.rs",
    "observe/redact",
    "observe/redact.rs",
    "observe/hub",
    "observe/track/mod.rs",
    "observe/track/target.rs",
    "observe/track/tree.rs",
    "observe/track/done.rs",
    "observe/detector.rs",
    "client/entry.rs",
    "client/json.rs",
    "client/text.rs",
    "daemon/registry",
    "daemon/node/view.rs",
];

/// What names one system.
const OF_ONE_SYSTEM: [&str; 8] =
    ["std::os::", "nix::", "libc::", "\"/proc", "\"/sys", "crate::sys::", "procfs::", "libbpf_rs::"];

/// Check that what decides, keeps and shows is not bound to one system.
#[test]
fn what_decides_names_no_system() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    for portable in PORTABLE {
        let files = files_of(&source.join(portable));
        assert!(!files.is_empty(), "{portable} is not there");
        for (file, text) in files {
            seen += 1;
            // Tests run on Linux.
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
        let entries = fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path());
        return entries
            .filter(|path| !path.ends_with("tests") && !path.ends_with("tests.rs"))
            .flat_map(|path| files_of(&path))
            .collect();
    }
    let read = || (path.display().to_string(), fs::read_to_string(path).expect("UTF-8"));
    if path.extension().is_some_and(|extension| extension == "rs") && path.exists() { vec![read()] } else { Vec::new() }
}
