//! Tests that need root, because they create namespaces or change the user.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use super::{Daemon, Node, Sleeper, command, listed, ok, registry_of, run};

/// Starts a daemon in a mount namespace in which `state` is a small, nearly full disk. The daemon
/// finds there the registry that was saved as `state.kept`, if any.
fn start_on_small_disk(node: &Node, state: &Path) -> Daemon {
    let script = "mount -t tmpfs -o size=64k tmpfs \"$0\" \
                  && head -c 20000 /dev/zero > \"$0/room\" \
                  && cp -p \"$0.kept\" \"$0/registry.jsonl\" 2>/dev/null; exec \"$1\" daemon";
    let plain = command(node, &[]);
    let mut unshared = Command::new("unshare");
    unshared
        .args(["-m", "sh", "-c", script])
        .arg(state)
        .arg(env!("CARGO_BIN_EXE_lookout"))
        .env_clear();
    unshared.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    unshared.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    Daemon::spawn(&mut unshared, node)
}

/// Check that a change is refused as a whole when the disk is full, that confirmed changes survive
/// a kill, and that changes are accepted again when there is space.
#[test]
fn a_full_disk_refuses_changes_and_loses_none() {
    let node = Node::new();
    let sleeper = Sleeper::new();
    let state = node.path().join("registry");
    fs::create_dir(&state).expect("a folder");
    let start = || start_on_small_disk(&node, &state);
    let daemon = start();
    ok(&node, &["add", &sleeper.pid()]);
    let long = "x".repeat(100);
    let (mut confirmed, mut refusal) = (0, None);
    for number in 0..2000 {
        let tag = format!("{}-{long}", number % 50);
        let ran = run(&node, &[if number % 100 < 50 { "tag" } else { "untag" }, "1", &tag]);
        if ran.code != 0 {
            refusal = Some((ran, number));
            break;
        }
        confirmed = number + 1;
    }
    let (refusal, number) = refusal.expect("the disk is small");
    assert_eq!(refusal.code, 1, "{refusal:?}");
    assert!(
        refusal.err.contains("registry.jsonl") && refusal.err.contains("No space left"),
        "{refusal:?}"
    );
    assert!(confirmed > 50, "{confirmed} changes were confirmed");
    let tags = |node: &Node| listed(node, &[])[0]["tags"].clone();
    let wanted: std::collections::BTreeSet<String> = (0..50)
        .filter(|tag| {
            // A tag that was changed an odd number of times is set.
            let changes = (0..confirmed).filter(|number| number % 50 == *tag).count();
            changes % 2 == 1
        })
        .map(|tag| format!("{tag}-{long}"))
        .collect();
    assert_eq!(tags(&node), serde_json::json!(wanted), "refused at {number}");
    let seen = format!("/proc/{}/root{}", daemon.pid(), state.display());
    fs::copy(format!("{seen}/registry.jsonl"), format!("{}.kept", state.display()))
        .expect("a file");
    // With space on the disk, changes are accepted again.
    fs::remove_file(format!("{seen}/room")).expect("a file");
    ok(&node, &["tag", "1", "after"]);
    daemon.kill();
    // The copy that was made while the disk was full has all changes confirmed until then.
    let daemon = start();
    assert_eq!(tags(&node), serde_json::json!(wanted));
    assert!(!super::log_of(&node).contains("damaged"), "{}", super::log_of(&node));
    daemon.term();
    assert!(!registry_of(&node).exists(), "the daemon wrote outside of its mount namespace");
}

/// Runs in a pid namespace of its own, in which it chooses the next pid. `$0` is the directory of
/// the daemon's log, `$1` the `lookout` binary.
const REUSE_PIDS: &str = r#"
        set -e
        mount -t proc proc /proc
        "$1" daemon 2>"$0/daemon.log" & daemon=$!
        until "$1" ping 2>/dev/null; do sleep 0.02; done
        # Far from all pids that this script uses.
        echo 20000 >/proc/sys/kernel/ns_last_pid
        sleep 1000 & old=$!
        "$1" add $old --name old -q
        kill -9 $old; wait $old 2>/dev/null || true
        echo $((old - 1)) >/proc/sys/kernel/ns_last_pid
        sleep 1000 & new=$!
        echo "pids $old $new"
        "$1" list -o json
        "$1" kill 1 2>&1 || echo "kill $?"
        kill -0 $new && echo "the new process lives"
        "$1" add $new --name new -q
        "$1" list -q --pid $new --alive
        "$1" kill 2
        wait $new || echo "new ended with $?"
        # The same while no daemon runs.
        echo $((old - 1)) >/proc/sys/kernel/ns_last_pid
        sleep 1000 & unseen=$!
        "$1" add $unseen -q
        kill -9 $daemon; wait $daemon || true
        kill -9 $unseen; wait $unseen || true
        # Before Linux 6.9, two processes with one pid and one start tick have the same identity.
        case $(uname -r) in [1-5].*|6.[0-8]|6.[0-8][!0-9]*) sleep 0.03;; esac
        echo $((old - 1)) >/proc/sys/kernel/ns_last_pid
        sleep 1000 & last=$!
        "$1" daemon 2>>"$0/daemon.log" &
        until "$1" ping >/dev/null 2>&1; do sleep 0.02; done
        "$1" list --id 3
        "$1" kill 3 2>&1 || echo "kill $?"
        kill -0 $last && echo "$last lives, as $unseen did"
    "#;

/// Check that a process which reuses the pid of an ended entry is not taken for that entry, is not
/// signalled in its place, and can be registered itself.
#[test]
fn a_reused_pid_is_another_process() {
    let node = Node::new();
    let plain = command(&node, &[]);
    let mut unshared = Command::new("unshare");
    unshared
        .args(["-mpf", "--kill-child", "sh", "-c", REUSE_PIDS])
        .arg(node.path())
        .arg(env!("CARGO_BIN_EXE_lookout"));
    unshared.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    unshared.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let Output { stdout, stderr, .. } = unshared.output().expect("it runs");
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    let lines: Vec<&str> = out.lines().skip_while(|line| *line == "pong").collect();
    assert!(
        Path::new("/proc/sys/kernel/ns_last_pid").exists(),
        "the kernel cannot choose pids: CONFIG_CHECKPOINT_RESTORE is missing"
    );
    assert_eq!(lines.get(1).copied(), Some("pids 20001 20001"), "{out}{err}");
    let entries: Vec<serde_json::Value> = serde_json::from_str(lines[2]).expect("an array");
    assert_eq!(entries[0]["end"]["signal"], 9, "{out}{err}");
    assert_eq!(
        lines[3], "lookout: entry 1: process 20001 has ended, and another process has its pid now",
        "{out}{err}"
    );
    assert_eq!(
        &lines[4..10],
        ["kill 1", "the new process lives", "2", "2", "new ended with 143", "3"],
        "{out}{err}"
    );
    assert!(lines[11].contains(" dead "), "{out}{err}");
    assert_eq!(
        lines[12], "lookout: entry 3: process 20001 has ended, and another process has its pid now",
        "{out}{err}"
    );
    assert_eq!(&lines[13..], ["kill 1", "20001 lives, as 20001 did"], "{out}{err}");
}

/// Check that a user's daemon uses that user's directories, registers that user's processes only,
/// and answers that user and root only.
#[test]
fn a_users_daemon_serves_that_user() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    const USER: u32 = 65534;
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("our own folder");
    // The user may have no access to the build directory.
    fs::copy(env!("CARGO_BIN_EXE_lookout"), at("lookout")).expect("a program");
    for name in ["run", "home"] {
        fs::create_dir(at(name)).expect("a folder");
        chown(at(name), Some(USER), Some(USER)).expect("we are root");
    }
    let by = |user: u32, program: &Path, args: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args([format!("--reuid={user}"), format!("--regid={user}")])
            .args(["--clear-groups", "--pdeathsig=KILL"]);
        command.arg(program).args(args).env_clear().env("PATH", "/usr/bin:/bin");
        command
            .env("XDG_RUNTIME_DIR", at("run"))
            .env("HOME", at("home"))
            .stdin(std::process::Stdio::null());
        command
    };
    let own = Sleeper::of(&mut by(USER, Path::new("sleep"), &["1000"]));
    let foreign = Sleeper::new();
    let log = fs::File::create(at("log")).expect("a file");
    let _daemon = Sleeper::of(by(USER, &at("lookout"), &["daemon"]).stderr(log));
    let request = |user: u32, args: &[&str]| {
        let Output { status, stdout, stderr } =
            by(user, &at("lookout"), args).output().expect("setpriv(1)");
        (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
    };
    let deadline = std::time::Instant::now() + super::PATIENCE;
    while request(USER, &["ping"]) != (Some(0), "pong\n".to_owned()) {
        assert!(
            std::time::Instant::now() < deadline,
            "{}",
            fs::read_to_string(at("log")).unwrap_or_default()
        );
    }
    let mode = |path: &str| fs::metadata(at(path)).expect("it exists").permissions().mode() & 0o777;
    assert_eq!((mode("run/lookout"), mode("run/lookout/daemon.sock")), (0o700, 0o600));
    assert!(at("home/.local/state/lookout/registry.jsonl").exists());
    let (code, text) = request(USER, &["add", &own.pid(), "-q"]);
    assert_eq!((code, text.as_str()), (Some(0), "1\n"));
    let (code, text) = request(USER, &["add", &foreign.pid()]);
    assert_eq!((code, text.contains("another user's")), (Some(1), true), "{text}");
    let socket = at("run/lookout/daemon.sock");
    let root = Command::new(at("lookout"))
        .arg("ping")
        .env("LOOKOUT_SOCKET", &socket)
        .output()
        .expect("it runs");
    assert_eq!(String::from_utf8_lossy(&root.stdout), "pong\n");
    assert_eq!(request(USER - 1, &["ping"]).0, Some(4));
}
