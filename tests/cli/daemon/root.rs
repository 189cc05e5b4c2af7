//! What needs root: namespaces of one's own.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use super::{Daemon, Node, Sleeper, command, listed, ok, registry_of, run};

/// Check that a full disk refuses a command and takes nothing of it, that what was answered before is there after a
/// kill, and that it goes on when there is room again.
#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    let node = Node::new();
    let sleeper = Sleeper::new();
    let state = node.path().join("registry");
    fs::create_dir(&state).expect("a folder");
    // The daemon sees a small disk where we see an empty folder.
    let start = || {
        let script = "mount -t tmpfs -o size=64k tmpfs \"$0\" && head -c 20000 /dev/zero > \"$0/room\" && cp -p \"$0.kept\" \
                      \"$0/registry.jsonl\" 2>/dev/null; exec \"$1\" daemon";
        let plain = command(&node, &[]);
        let mut unshared = Command::new("unshare");
        unshared.args(["-m", "sh", "-c", script]).arg(&state).arg(env!("CARGO_BIN_EXE_lookout")).env_clear();
        unshared.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        unshared.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        Daemon::spawn(&mut unshared, &node)
    };
    let daemon = start();
    ok(&node, &["add", &sleeper.pid()]);
    let long = "x".repeat(100);
    let (mut answered, mut refusal) = (0, None);
    for number in 0..2000 {
        let tag = format!("{}-{long}", number % 50);
        let ran = run(&node, &[if number % 100 < 50 { "tag" } else { "untag" }, "1", &tag]);
        if ran.code != 0 {
            refusal = Some((ran, number));
            break;
        }
        answered = number + 1;
    }
    let (refusal, number) = refusal.expect("the disk is small");
    assert_eq!(refusal.code, 1, "{refusal:?}");
    assert!(refusal.err.contains("registry.jsonl") && refusal.err.contains("No space left"), "{refusal:?}");
    assert!(answered > 50, "{answered} commands were answered");
    let tags = |node: &Node| listed(node, &[])[0]["tags"].clone();
    let wanted: std::collections::BTreeSet<String> = (0..50)
        .filter(|tag| {
            let turns = (0..answered).filter(|number| number % 50 == *tag).count();
            turns % 2 == 1
        })
        .map(|tag| format!("{tag}-{long}"))
        .collect();
    assert_eq!(tags(&node), serde_json::json!(wanted), "refused at {number}");
    let seen = format!("/proc/{}/root{}", daemon.pid(), state.display());
    fs::copy(format!("{seen}/registry.jsonl"), format!("{}.kept", state.display())).expect("a file");
    // Room again: it goes on.
    fs::remove_file(format!("{seen}/room")).expect("a file");
    ok(&node, &["tag", "1", "after"]);
    daemon.kill();
    // What was on the disk when it was full has all that was answered then.
    let daemon = start();
    assert_eq!(tags(&node), serde_json::json!(wanted));
    assert!(!super::log_of(&node).contains("damaged"), "{}", super::log_of(&node));
    daemon.term();
    assert!(!registry_of(&node).exists(), "the test's own folder was used");
}

/// Check, in a pid namespace where the next pid can be chosen, that who has a dead entry's pid is neither it nor
/// killed for it, and can be added.
#[test]
fn a_reused_pid_is_a_stranger() {
    let node = Node::new();
    let script = r#"
        set -e
        mount -t proc proc /proc
        "$1" daemon 2>"$0/daemon.log" &
        until "$1" ping 2>/dev/null; do sleep 0.02; done
        # A pid that nothing else here comes near.
        echo 20000 >/proc/sys/kernel/ns_last_pid
        sleep 1000 & old=$!
        "$1" add $old --name old -q
        kill -9 $old; wait $old 2>/dev/null || true
        echo $((old - 1)) >/proc/sys/kernel/ns_last_pid
        sleep 1000 & new=$!
        echo "pids $old $new"
        "$1" list -o json
        "$1" kill 1 2>&1 || echo "kill $?"
        kill -0 $new && echo "the stranger lives"
        "$1" add $new --name new -q
        "$1" list -q --pid $new --alive
        "$1" kill 2
        wait $new || echo "new ended with $?"
    "#;
    let plain = command(&node, &[]);
    let mut unshared = Command::new("unshare");
    unshared.args(["-mpf", "--kill-child", "sh", "-c", script]).arg(node.path()).arg(env!("CARGO_BIN_EXE_lookout"));
    unshared.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    unshared.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let Output { stdout, stderr, .. } = unshared.output().expect("it runs");
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    let lines: Vec<&str> = out.lines().skip_while(|line| *line == "pong").collect();
    assert!(Path::new("/proc/sys/kernel/ns_last_pid").exists(), "the kernel lets nobody choose a pid");
    assert_eq!(lines.get(1).copied(), Some("pids 20001 20001"), "{out}{err}");
    let entries: Vec<serde_json::Value> = serde_json::from_str(lines[2]).expect("an array");
    assert_eq!(entries[0]["end"]["signal"], 9, "{out}{err}");
    assert_eq!(lines[3], "lookout: entry 1: process 20001 has ended, and its pid is another's by now", "{out}{err}");
    assert_eq!(&lines[4..], ["kill 1", "the stranger lives", "2", "2", "new ended with 143"], "{out}{err}");
}
