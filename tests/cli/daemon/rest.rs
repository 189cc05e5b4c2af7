//! A daemon that has nothing to do.

use std::{fs, process::Command, time::Duration};

use super::{Daemon, Node, Sleeper, command, listed, ok};

/// Check that 1000 registered processes cost nothing while they rest: the daemon does not run at
/// all.
#[test]
fn a_thousand_that_rest_cost_nothing() {
    let node = Node::new();
    // Not in these seconds: it would be one line.
    let daemon =
        Daemon::spawn(command(&node, &["daemon"]).env("LOOKOUT_LAST_SEEN_INTERVAL", "1h"), &node);
    let marker = format!("8{}", std::process::id());
    let mut sleepers: Vec<_> =
        (0..1000).map(|_| Sleeper::of(Command::new("sleep").arg(&marker))).collect();
    let mut add = command(&node, &["add", "-q", "--match", &format!("^sleep {marker}$")]);
    let added = add.output().expect("it runs");
    // What the last command left to do is done when nothing ran for a while.
    let mut before = turns(daemon.pid());
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(100));
        let now = turns(daemon.pid());
        if std::mem::replace(&mut before, now.clone()) == now {
            break;
        }
    }
    std::thread::sleep(Duration::from_secs(3));
    let after = turns(daemon.pid());
    let living = listed(&node, &["--alive"]).len();
    // All of them at once.
    sleepers.iter_mut().for_each(Sleeper::end);
    assert_eq!((living, added.stdout.split(|byte| *byte == b'\n').count()), (1000, 1001));
    assert_eq!(before, after, "(thread, how often it was run)");
    let deadline = std::time::Instant::now() + super::PATIENCE;
    while listed(&node, &[]).iter().any(|entry| entry["end"]["signal"] != 9) {
        assert!(std::time::Instant::now() < deadline, "not all have ended");
    }
    assert_eq!(ok(&node, &["list", "-q", "--alive"]), "");
}

/// Check that with few descriptors everything is registered all the same, that the daemon still
/// answers, and that ends are seen: of some by looking.
#[test]
fn what_has_no_descriptor_is_looked_at() {
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
    // By a descriptor that is opened for it.
    ok(&node, &["kill", "120", "-s", "KILL"]);
    sleepers.iter_mut().for_each(Sleeper::end);
    let deadline = std::time::Instant::now() + super::PATIENCE;
    while !listed(&node, &["--alive"]).is_empty() {
        assert!(std::time::Instant::now() < deadline, "{:?}", listed(&node, &["--alive"]).len());
    }
    let told = listed(&node, &[]).iter().filter(|entry| entry["end"]["signal"] == 9).count();
    assert_eq!(told, 50, "as many as descriptors are for them");
}

/// How often each thread of a process was run: threads of the pool that end meanwhile are no more.
fn turns(pid: i32) -> Vec<(String, u64)> {
    let mut turns = Vec::new();
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
            turns.push((name.trim().to_owned(), sum));
        }
    }
    turns.sort();
    turns
}
