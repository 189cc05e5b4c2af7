//! Builds a crate that depends on the library by path, outside of this repository, and runs it.
//!
//! The program of the crate is the example in `docs/library.md`. So the example is true, and a
//! crate outside of this repository needs none of its settings.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The program on the page.
fn example() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/library.md");
    let text = fs::read_to_string(page).expect("UTF-8");
    let (_, code) = text.split_once("```rust\n").expect("the page has an example");
    code.split_once("```").expect("the example ends").0.to_owned()
}

/// Makes the crate in `directory` and builds it. Returns the path of its program.
#[expect(clippy::disallowed_methods, reason = "a test has no reaper")]
fn build(directory: &Path) -> PathBuf {
    let repository = env!("CARGO_MANIFEST_DIR");
    let manifest = format!(
        "[package]\n\
         name = \"dependent\"\n\
         edition = \"2024\"\n\
         [dependencies.lookout]\n\
         package = \"containerd-shim-lookout\"\n\
         path = \"{repository}\"\n\
         default-features = false\n"
    );
    let write = |name: &str, text: &str| {
        fs::write(directory.join(name), text).expect("a temporary directory is writable");
    };
    fs::create_dir(directory.join("src")).expect("a temporary directory is writable");
    write("Cargo.toml", &manifest);
    write("src/main.rs", &example());
    // The versions of this repository, which have been downloaded already.
    write("Cargo.lock", include_str!("../Cargo.lock"));
    // That of this test too, because building every dependency again takes minutes.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is tmp/ in the target");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--offline", "--quiet"]).current_dir(directory);
    let status = cargo.env("CARGO_TARGET_DIR", target).status().expect("cargo runs");
    assert!(status.success(), "the crate does not build: {status}");
    target.join("debug/dependent")
}

mod root {
    use std::process::Command;

    use super::build;

    /// Check that such a crate builds and runs, that the library chooses the best source by itself,
    /// and that paths and arguments are printed as text.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test has no reaper")]
    fn a_crate_that_depends_on_the_library_builds_and_runs() {
        let directory = tempfile::tempdir().unwrap();
        let program = build(directory.path());
        let bytes = std::fs::read(&program).unwrap();
        let library = |name: &[u8]| bytes.windows(name.len()).any(|window| window == name);
        assert!(!library(b"libelf.so") && !library(b"libz.so"), "not linked statically");

        // The pins of the eBPF programs disappear with the mount namespace.
        let ebpf = "mount -t bpf bpf \"$1\" && LOOKOUT_BPFFS=$1 exec \"$2\"";
        let no_ebpf = "LOOKOUT_BPFFS=$1/missing exec \"$2\"";
        let cases: [(&str, &[&str], &str); 3] = [
            (ebpf, &[], "exact"),
            (no_ebpf, &[], "snapshot"),
            // From within a pid namespace eBPF cannot watch a process tree.
            (ebpf, &["--pid", "--fork", "--mount-proc"], "snapshot"),
        ];
        for (script, namespaces, grade) in cases {
            let mut command = Command::new("unshare");
            command.arg("--mount").args(namespaces).args(["sh", "-c", script, "sh"]);
            let output = command.arg(directory.path()).arg(&program).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{output:?}");
            let is_sleep = |line: &str| {
                line.contains("/sleep: sleep 2 ") && line.ends_with(&format!("({grade})"))
            };
            assert!(text.lines().any(is_sleep), "{script}: {text}");
            assert!(text.contains("\nopened: tcp 127.0.0.1:"), "{text}");
            assert!(text.ends_with("\nexit code: 3\n"), "{text}");
        }
    }
}
