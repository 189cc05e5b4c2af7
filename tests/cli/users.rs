//! The command of a user who is not root. The tests need root, to start it as another user.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    daemon::Daemon,
    fake::{Node, Script},
    run::Ran,
};

/// The user and the group `nobody`.
const NOBODY: u32 = 65534;

/// A copy of the command that every user may run, since the target directory may be hidden.
struct Installed(tempfile::TempDir);

impl Installed {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        set_mode(directory.path(), 0o755);
        fs::copy(env!("CARGO_BIN_EXE_lookout"), directory.path().join("lookout")).expect("a copy");
        Self(directory)
    }

    /// Runs the command as nobody, with this runtime directory if one is given.
    fn run(&self, runtime: Option<&Path>, args: &[&str]) -> Ran {
        let mut command = Command::new(self.0.path().join("lookout"));
        command.args(args).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        command.env("XDG_RUNTIME_DIR", self.0.path().join("run"));
        if let Some(directory) = runtime {
            command.env("LOOKOUT_RUNTIME_DIR", directory);
        }
        let output = command.output().expect("it runs");
        Ran {
            code: output.status.code().expect("no signal ended it"),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("our own file");
}

/// Check that a denied access is reported as such by every command that asks the daemon or a shim,
/// with the path that denies it and what to do, and never as a daemon that does not run.
#[test]
fn a_denied_access_names_the_path_and_what_to_do() {
    let lookout = Installed::new();
    let node = Node::new();
    let _shim = node.shim("web", Script::default());
    let _daemon = Daemon::start(&node);
    let denied = |path: PathBuf, commands: &[&[&str]]| {
        let advice = format!(
            "permission denied on {}, which belongs to root: run this command as root\n",
            path.display()
        );
        for args in commands {
            let ran = lookout.run(Some(node.path()), args);
            assert_eq!(ran.code, 4, "{args:?} {ran:?}");
            assert!(ran.err.ends_with(&advice) && !ran.err.contains("start one"), "{ran:?}");
            assert!(!ran.err.contains("os error"), "{ran:?}");
        }
    };
    let daemons: &[&[&str]] = &[&["ping"], &["list"], &["stats"], &["ports", "--daemon"]];
    let shims: &[&[&str]] = &[
        &["ps"],
        &["tree"],
        &["ports"],
        &["ports", "-w"],
        &["exits", "-f"],
        &["events"],
        &["events", "-f"],
        &["capabilities"],
        &["inspect", "web"],
    ];
    set_mode(node.path(), 0o700);
    denied(node.path().to_owned(), &[daemons, shims].concat());
    set_mode(node.path(), 0o711);
    denied(node.path().join("daemon.sock"), daemons);
    set_mode(&node.path().join("shims"), 0o700);
    denied(node.path().join("shims"), shims);
    // The registrations can be read, and the socket of the shim denies the access.
    set_mode(&node.path().join("shims"), 0o755);
    let ran = lookout.run(Some(node.path()), &["ps"]);
    let socket = node.path().join("web.sock");
    let expected = format!(
        "lookout: failed to reach shim web: permission denied on {}, which belongs to root: run \
         this command as root\n",
        socket.display()
    );
    assert_eq!((ran.code, ran.err), (4, expected));
    // A registration that must not be read does not make a node without shims.
    set_mode(&node.path().join("shims/default/web.json"), 0o600);
    denied(node.path().join("shims"), &[&["ps"]]);
}

/// Check that a user without a daemon learns that root's daemon is another one.
#[test]
fn a_user_without_a_daemon_learns_of_roots() {
    let lookout = Installed::new();
    let ran = lookout.run(None, &["list"]);
    let expected = format!(
        "lookout: no daemon of this user answers at {}: start one with `lookout daemon`, or run \
         this command as root to ask root's daemon\n",
        lookout.0.path().join("run/lookout/daemon.sock").display()
    );
    assert_eq!((ran.code, ran.err), (4, expected));
}

/// Check that `doctor` makes the checks that need no root, and says of each other check why it
/// could not be made, also of `--sweep`.
#[test]
fn doctor_goes_as_far_as_it_can_without_root() {
    let lookout = Installed::new();
    let node = Node::new();
    set_mode(node.path(), 0o700);
    let file = lookout.0.path().join("config.toml");
    fs::write(&file, "bus = \"none\"").expect("a file");
    set_mode(&file, 0o600);
    let config = file.to_str().expect("UTF-8");
    let doctor = ["doctor", "--sweep", "--config", config];
    let ran = lookout.run(Some(node.path()), &doctor);
    // 5: no problem was found, and checks are missing.
    assert_eq!((ran.code, ran.err.as_str()), (5, ""), "{ran:?}");
    for line in [
        format!("unchecked the configuration: failed to read {config}: Permission denied"),
        format!("unchecked the shims: permission denied on {}", node.path().display()),
        "unchecked what a shim can observe: the table is what this user can observe".to_owned(),
        "process ".to_owned(),
        "runtimes  ".to_owned(),
    ] {
        assert!(ran.out.lines().any(|printed| printed.starts_with(&line)), "{line}: {}", ran.out);
    }
    assert!(!ran.out.contains("problem") && !ran.out.contains("shims     "), "{}", ran.out);
    let ran = lookout.run(Some(node.path()), &[&doctor[..], &["-o", "json"]].concat());
    let report: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    let checks: Vec<_> = report["unchecked"].as_array().expect("an array").iter().collect();
    assert!(checks.iter().any(|one| one["check"] == "the shims"), "{report}");
    // What was not read is absent.
    assert!(report.get("shims").is_none() && report["categories"].is_array(), "{report}");
    // If the pins cannot be read, nothing was removed, and the report must not say otherwise.
    let has_pins = report.get("bpf").is_some();
    assert_eq!(report.get("swept").is_some(), has_pins, "{report}");
}
