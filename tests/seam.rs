//! Keeps the seam between what only Linux has and what any system could run.
//!
//! `hack/check-portable` shows that everything on this side compiles for another Unix. Here is what
//! it cannot show: that the conditions are where a reader looks for them, and that what decides,
//! keeps and shows is bound to no system at all, so that one without descriptors and signals
//! (Windows, for ETW) can have it too. Signals have names by POSIX; their numbers are the system's.

use std::{fs, path::Path};

/// What could run anywhere.
const PORTABLE: [&str; 20] = [
    "model",
    "config",
    "observe/record.rs",
    "observe/redact",
    "observe/stream",
    "observe/capability",
    "observe/track/mod.rs",
    "observe/track/target.rs",
    "observe/track/tree.rs",
    "observe/track/done.rs",
    "observe/track/idle.rs",
    "observe/track/ports",
    "observe/library/detector.rs",
    "client/json.rs",
    "registry/change.rs",
    "registry/entries.rs",
    "registry/entry.rs",
    "registry/refusal.rs",
    "registry/select.rs",
    "daemon/node/view.rs",
];

/// What names one system, or one kind.
const OF_ONE_SYSTEM: [&str; 7] =
    ["std::os::", "nix::", "libc::", "\"/proc", "\"/sys", "crate::sys::", "crate::linux::"];

/// Where the crate is divided by operating system: `platform`, and the modules that declare what
/// exists on Linux only.
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
    "cli/args.rs",
];

/// Check that no other file asks for which system it is compiled, and that each of these still
/// does.
#[test]
fn the_conditions_are_in_few_places() {
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
        let entries =
            fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path());
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
