//! The restrictions of `dist/lookout.service`: how systemd rates them, and the daemon under those
//! that can be applied without systemd.

use std::{collections::BTreeSet, fs, path::Path, process::Command, thread};

use lookout::sys::{
    capabilities::{self, Capabilities},
    seccomp,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::{OF_THE_DAEMON, RunningDaemon, assert_confined, daemon_command, use_daemon};
use crate::harness::containerd::{Containerd, Program, Version};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/lookout.service");

/// The values of a setting of the unit, one for each of its lines.
fn setting(name: &str) -> Vec<String> {
    let text = fs::read_to_string(UNIT).expect("the unit");
    let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    values.map(str::to_owned).collect()
}

/// Runs `systemd-analyze ARGUMENTS` to its end.
fn analyze(arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).env("SYSTEMD_COLORS", "0").env("SYSTEMD_PAGER", "");
    let ended = Program::new(command).run();
    (ended.code, ended.stdout_text() + &ended.stderr_text())
}

/// Check that systemd rates the exposure of the unit below 3.0 of 10, and finds no mistake in it.
#[test]
fn systemd_rates_the_exposure_below_3() {
    let (code, report) =
        analyze(&["security", "--offline=true", "--threshold=29", "--no-pager", UNIT]);
    let rating = report.lines().last().unwrap_or_default();
    assert_eq!(code, 0, "{report}");
    assert!(rating.contains("Overall exposure level for lookout.service: "), "{report}");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let text = fs::read_to_string(UNIT).expect("the unit");
    let installed = text.replace("=lookout ", concat!("=", env!("CARGO_BIN_EXE_lookout"), " "));
    let path = directory.path().join("lookout.service");
    fs::write(&path, installed).expect("a temporary directory");
    let (code, report) = analyze(&["verify", "--man=no", &path.display().to_string()]);
    let ours = report.lines().filter(|line| line.contains("lookout.service"));
    assert_eq!((code, ours.collect::<Vec<_>>()), (0, Vec::new()), "{report}");
}

/// Check that systemd finds the command of the unit where an administrator installs it and where a
/// package does, without a change of the unit.
#[test]
fn the_unit_fits_each_place_of_the_command() {
    for place in ["/usr/local/bin", "/usr/bin"] {
        let verify = move || {
            unshare(CloneFlags::CLONE_NEWNS).expect("we are root");
            let none = None::<&str>;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(none, "/", none, private, none).expect("our own namespace");
            // The layer that has the command, above the directory as it is.
            let directory = tempfile::tempdir().expect("a temporary directory");
            mount(Some("none"), directory.path(), Some("tmpfs"), MsFlags::empty(), none)
                .expect("a tmpfs");
            let part = |name: &str| directory.path().join(name);
            for name in ["upper", "work"] {
                fs::create_dir(part(name)).expect("our tmpfs");
            }
            std::os::unix::fs::symlink(
                env!("CARGO_BIN_EXE_lookout"),
                part("upper").join("lookout"),
            )
            .expect("our tmpfs");
            let (upper, work) = (part("upper"), part("work"));
            let options =
                format!("lowerdir={place},upperdir={},workdir={}", upper.display(), work.display());
            mount(Some("none"), place, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
                .expect("an overlay");
            analyze(&["verify", "--man=no", UNIT])
        };
        let (code, report) = thread::spawn(verify).join().expect("the thread does not panic");
        let ours = report.lines().filter(|line| line.contains("lookout"));
        assert_eq!((code, ours.collect::<Vec<_>>()), (0, Vec::new()), "{place}: {report}");
    }
}

/// The system calls in a set of systemd such as `@system-service`, by name.
fn calls_of(set: &str) -> BTreeSet<String> {
    let (code, text) = analyze(&["syscall-filter", set]);
    assert_eq!(code, 0, "{text}");
    let words = text.lines().filter(|line| line.starts_with(' ')).map(str::trim);
    let names = words.filter(|word| !word.starts_with('#') && !word.is_empty());
    names.flat_map(expand).collect()
}

fn expand(name: &str) -> BTreeSet<String> {
    if name.starts_with('@') { calls_of(name) } else { BTreeSet::from([name.to_owned()]) }
}

/// The calls that the unit allows, by name. Of the two forms of its lines, `~` forbids.
fn allowed() -> BTreeSet<String> {
    let mut allowed = calls_of("@default");
    for line in setting("SystemCallFilter") {
        let (forbids, names) = match line.strip_prefix('~') {
            Some(names) => (true, names),
            None => (false, line.as_str()),
        };
        for call in names.split_whitespace().flat_map(expand) {
            if forbids {
                allowed.remove(&call)
            } else {
                allowed.insert(call)
            };
        }
    }
    allowed
}

/// The numbers of system calls on this architecture, from the headers of the C library.
fn numbers(names: &BTreeSet<String>) -> Vec<i64> {
    let mut command = Command::new("cc");
    command.args(["-dM", "-E", "-include", "sys/syscall.h", "-x", "c", "/dev/null"]);
    let text = Program::new(command).run().success().stdout_text();
    let defined = text.lines().filter_map(|line| {
        let (name, number) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
        names.contains(name).then(|| number.parse().ok())?
    });
    defined.collect()
}

/// Check that the filter of the unit is what its names say.
#[test]
fn the_units_filter_is_read_correctly() {
    let allowed = allowed();
    for call in ["openat", "pidfd_send_signal", "execve", "prctl", "seccomp", "inotify_init1"] {
        assert!(allowed.contains(call), "{call}");
    }
    for call in ["mount", "bpf", "ptrace", "capset", "setuid", "chroot", "init_module", "keyctl"] {
        assert!(!allowed.contains(call), "{call}");
    }
}

/// Makes the file system of the calling thread read-only, except for `writable`, and hides the
/// homes, as `ProtectSystem=strict` and `ProtectHome=yes` do.
fn protect_files(writable: &Path) {
    let nothing = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing).expect("the namespace is ours");
    mount(Some(writable), writable, nothing, MsFlags::MS_BIND, nothing).expect("it exists");
    let program = Path::new(env!("CARGO_BIN_EXE_lookout"));
    for home in ["/home", "/root"] {
        if Path::new(home).exists() && !program.starts_with(home) {
            mount(Some("tmpfs"), home, Some("tmpfs"), MsFlags::MS_RDONLY, Some("mode=000"))
                .expect("the namespace is ours");
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("proc(5)");
    for point in mounts.lines().filter_map(|line| line.split(' ').nth(4)) {
        let point = Path::new(point);
        if !point.starts_with(writable) && !point.starts_with("/proc") && !point.starts_with("/dev")
        {
            let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
            // A mount that another one covers cannot be reached by its path, and need not be.
            let _ = mount(nothing, point, nothing, read_only, nothing);
        }
    }
    assert!(fs::write("/var/lib/lookout-test", "").is_err(), "the file system is read-only");
}

/// Check that the daemon does all that it is for with the capabilities, the filter, the limits and
/// the read-only file system of the unit.
#[test]
fn under_the_units_restrictions_the_daemon_does_its_work() {
    assert_eq!(setting("CapabilityBoundingSet"), ["CAP_KILL CAP_SYS_PTRACE CAP_DAC_READ_SEARCH"]);
    assert_eq!(setting("NoNewPrivileges"), ["yes"]);
    let numbers = numbers(&allowed());
    assert!(numbers.len() > 150, "{} calls", numbers.len());
    let containerd = Containerd::start(Version::V1_7);
    let runtime_dir = containerd.path("lookout");
    fs::create_dir_all(&runtime_dir).expect("our directory is writable");
    // Without setpriv, which calls capset(2) in any case.
    let mut command = daemon_command(&containerd, &[]);
    thread::scope(|scope| {
        // What a thread gives up, its children do not have either.
        let restricted = scope.spawn(move || {
            protect_files(&runtime_dir);
            let kept = Capabilities::KILL | Capabilities::SYS_PTRACE;
            capabilities::keep_only(kept | Capabilities::DAC_READ_SEARCH).expect("we are root");
            nix::sys::prctl::set_no_new_privs().expect("it is always allowed");
            seccomp::allow_only(&numbers).expect("it is allowed with no_new_privs");
            command.spawn().expect("it is allowed to execute a program")
        });
        let child = restricted.join().expect("the thread ends with the daemon's process");
        let daemon = RunningDaemon::new(&containerd, child);
        use_daemon(&daemon);
        assert_confined(daemon.process(), OF_THE_DAEMON);
        let filters = &super::status(daemon.process().pid)["Seccomp_filters"];
        assert_eq!(filters, "2", "the unit's and its own");
    });
}
