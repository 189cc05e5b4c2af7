//! Tests of an idle daemon, and of a daemon with few descriptors.

use std::{fs, process::Command, time::Duration};

use super::{Daemon, Node, Sleeper, command, listed, ok};

/// Check that 1000 registered processes cost nothing while they sleep: no thread of the daemon
/// runs.
#[test]
fn a_thousand_sleeping_processes_cost_nothing() {
    let node = Node::new();
    // The line that is written at this interval must not fall into the measured seconds.
    let daemon =
        Daemon::spawn(command(&node, &["daemon"]).env("LOOKOUT_LAST_SEEN_INTERVAL", "1h"), &node);
    let marker = format!("8{}", std::process::id());
    let mut sleepers: Vec<_> =
        (0..1000).map(|_| Sleeper::of(Command::new("sleep").arg(&marker))).collect();
    let mut add = command(&node, &["add", "-q", "--match", &format!("^sleep {marker}$")]);
    let added = add.output().expect("it runs");
    // Wait until the daemon has finished the work of the last command: no thread runs for 100 ms.
    let mut before = context_switches(daemon.pid());
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(100));
        let now = context_switches(daemon.pid());
        if std::mem::replace(&mut before, now.clone()) == now {
            break;
        }
    }
    std::thread::sleep(Duration::from_secs(3));
    let after = context_switches(daemon.pid());
    let living = listed(&node, &["--alive"]).len();
    // All of them at once: the daemon must still notice every end.
    sleepers.iter_mut().for_each(Sleeper::end);
    assert_eq!((living, added.stdout.split(|byte| *byte == b'\n').count()), (1000, 1001));
    assert_eq!(before, after, "(thread, context switches)");
    let deadline = std::time::Instant::now() + super::PATIENCE;
    while listed(&node, &[]).iter().any(|entry| entry["end"]["signal"] != 9) {
        assert!(std::time::Instant::now() < deadline, "not all have ended");
    }
    assert_eq!(ok(&node, &["list", "-q", "--alive"]), "");
}

/// Check that more processes can be registered than the daemon has descriptors for, and that the
/// ends of the others are found by polling.
#[test]
fn processes_without_a_descriptor_are_polled() {
    let node = Node::new();
    let plain = command(&node, &[]);
    let mut limited = Command::new("prlimit");
    limited.args(["--nofile=100:100", env!("CARGO_BIN_EXE_lookout"), "daemon"]).env_clear();
    limited.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let _daemon = Daemon::spawn(limited.env("LOOKOUT_LIVENESS_INTERVAL", "100ms"), &node);
    let marker = format!("9{}", std::process::id());
    let mut sleepers: Vec<_> =
        (0..120).map(|_| Sleeper::of(Command::new("sleep").arg(&marker))).collect();
    ok(&node, &["add", "-q", "--match", &format!("^sleep {marker}$")]);
    assert_eq!(listed(&node, &["--alive"]).len(), 120);
    // The signal is sent through a pidfd that is opened for this one request.
    ok(&node, &["kill", "120", "-s", "KILL"]);
    sleepers.iter_mut().for_each(Sleeper::end);
    let deadline = std::time::Instant::now() + super::PATIENCE;
    while !listed(&node, &["--alive"]).is_empty() {
        assert!(std::time::Instant::now() < deadline, "{:?}", listed(&node, &["--alive"]).len());
    }
    let with_signal = listed(&node, &[]).iter().filter(|entry| entry["end"]["signal"] == 9).count();
    assert_eq!(with_signal, 50, "half of the 100 descriptors are for processes");
}

/// The context switches of each thread of a process. Threads of tokio's pool are left out: they end
/// at any time.
fn context_switches(pid: i32) -> Vec<(String, u64)> {
    let mut switches = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).expect("it lives").flatten() {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let count = |field| {
            status
                .lines()
                .find_map(|line: &str| line.strip_prefix(field)?.trim().parse::<u64>().ok())
        };
        if !name.starts_with("tokio") {
            let sum = count("voluntary_ctxt_switches:").unwrap_or(0)
                + count("nonvoluntary_ctxt_switches:").unwrap_or(0);
            switches.push((name.trim().to_owned(), sum));
        }
    }
    switches.sort();
    switches
}
