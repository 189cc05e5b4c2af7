//! The resource usage that `stats` and `top` show.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    time::Instant,
};

use super::{Daemon, Node, PATIENCE, Sleeper, command, ok};

type Rows = Vec<serde_json::Value>;

#[track_caller]
fn stats(node: &Node, args: &[&str]) -> Rows {
    let out = ok(node, &[&["stats", "-o", "json"], args].concat());
    serde_json::from_str(&out).expect("an array")
}

/// A process that uses a processor, registered as `busy`.
fn busy(node: &Node) -> Sleeper {
    let script = ["run", "--name", "busy", "--", "/bin/sh", "-c", "while :; do :; done"];
    let busy = Sleeper::of(&mut command(node, &script));
    let deadline = Instant::now() + PATIENCE;
    while ok(node, &["list", "-q", "--search", "while"]).is_empty() {
        assert!(Instant::now() < deadline);
    }
    busy
}

/// Check that one call of `stats`, and the first page of `top`, have the CPU rate of each process.
#[test]
fn a_single_call_shows_cpu_rates() {
    let node = Node::new();
    let _daemon = Daemon::start(&node);
    let _busy = busy(&node);
    let sleeper = Sleeper::new();
    ok(&node, &["add", &sleeper.pid(), "--name", "idle"]);
    let rows = stats(&node, &[]);
    let percent = |row: &serde_json::Value| row["cpu_percent"].as_f64().expect("a rate");
    // A share of a loaded machine; one processor is 100, and a tick more than the interval.
    assert!(percent(&rows[0]) > 1.0 && percent(&rows[0]) < 115.0, "{rows:?}");
    assert!(percent(&rows[1]) < 1.0, "{rows:?}");
    let table = ok(&node, &["stats"]);
    let cpu = |line: &str| line.split_whitespace().nth(3).map(str::to_owned);
    let cells: Vec<_> = table.lines().filter_map(cpu).collect();
    assert!(cells[0] == "CPU" && cells[1].parse::<f64>().expect("a rate") > 1.0, "{table}");
    // The first page comes before the interval has passed, and has rates.
    let top = ok(&node, &["top", "--count", "1", "--interval", "1h"]);
    let busy = top.lines().find(|line| line.contains("busy")).expect("a row");
    assert!(cpu(busy).expect("a cell").parse::<f64>().expect("a rate") > 1.0, "{top}");
    assert_eq!(ok(&node, &["stats", "-q"]).lines().count(), 2);
}

/// Check that usage that does not fit into one message is shown, each process once: registered
/// processes with descendants, of which some are registered too.
#[test]
fn more_usage_than_fits_into_a_message_is_shown() {
    const FORKS: usize = 1300;
    let node = Node::new();
    let _daemon = Daemon::start(&node);
    // Subshells keep the command line: with 4 KiB each, the answer has more than 4 MiB.
    let script = format!(
        "exec 3<&0; i=0; while [ $i -lt {FORKS} ]; do (read x <&3) & i=$((i+1)); done; wait"
    );
    let padding = "long ".repeat(780);
    let mut sh = Command::new("/bin/sh");
    let crowd = Sleeper::of(sh.args(["-c", &script, "sh", &padding]).stdin(Stdio::piped()));
    ok(&node, &["add", &crowd.pid(), "--name", "crowd"]);
    let deadline = Instant::now() + PATIENCE;
    let children = || {
        let path = format!("/proc/{0}/task/{0}/children", crowd.pid());
        let listed = std::fs::read_to_string(path).expect("it lives");
        listed.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    while children().len() < FORKS {
        assert!(Instant::now() < deadline, "{} of {FORKS}", children().len());
    }
    for pid in &children()[..20] {
        ok(&node, &["add", pid]);
    }
    let rows = stats(&node, &["--tree"]);
    let pids: BTreeSet<_> = rows.iter().map(|row| row["pid"].to_string()).collect();
    let expected: BTreeSet<_> = children().into_iter().chain([crowd.pid()]).collect();
    assert_eq!(pids, expected);
    assert_eq!(rows.len(), expected.len());
    let bytes: usize = rows.iter().map(|row| row["command"].as_str().expect("text").len()).sum();
    assert!(bytes > 4 << 20, "{bytes}: it fits into one message");
    let with = |key: &str| rows.iter().filter(|row| row.get(key).is_some()).count();
    assert_eq!((with("id"), with("descends_from")), (21, FORKS - 20));
    assert!(with("cpu_percent") == rows.len(), "{}", with("cpu_percent"));
}
