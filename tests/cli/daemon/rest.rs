//! A daemon that has nothing to do.

use std::{fs, process::Command, time::Duration};

use super::{Daemon, Node, Sleeper, command, listed, ok};

/// Check that 1000 registered processes cost nothing while they rest: the daemon does not run at all.
#[test]
fn a_thousand_that_rest_cost_nothing() {
    let node = Node::new();
    // Not in these seconds: it would be one line.
    let daemon = Daemon::spawn(command(&node, &["daemon"]).env("LOOKOUT_LAST_SEEN_INTERVAL", "1h"), &node);
    let marker = format!("8{}", std::process::id());
    let mut sleepers: Vec<_> = (0..1000).map(|_| Sleeper::of(Command::new("sleep").arg(&marker))).collect();
    let mut add = command(&node, &["add", "-q", "--match", &format!("^sleep {marker}$")]);
    let added = add.output().expect("it runs");
    let before = turns(daemon.pid());
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

/// How often each thread of a process was run: threads of the pool that end meanwhile are no more.
fn turns(pid: i32) -> Vec<(String, u64)> {
    let mut turns = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).expect("it lives").flatten() {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let count = |field| status.lines().find_map(|line: &str| line.strip_prefix(field)?.trim().parse::<u64>().ok());
        if !name.starts_with("tokio") {
            let sum =
                count("voluntary_ctxt_switches:").unwrap_or(0) + count("nonvoluntary_ctxt_switches:").unwrap_or(0);
            turns.push((name.trim().to_owned(), sum));
        }
    }
    turns.sort();
    turns
}
