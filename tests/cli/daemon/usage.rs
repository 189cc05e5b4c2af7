//! The resource usage that `stats` and `top` show.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    time::Instant,
};

use lookout::linux::process::{consumption, identify};

use super::{Daemon, Node, PATIENCE, Sleeper, command, ok, request, wait_for};

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

/// The value of a sample in the metrics.
#[track_caller]
fn metric(node: &Node, sample: &str) -> f64 {
    let text = request(&node.path().join("metrics.sock"), "GET /metrics HTTP/1.1\r\n\r\n");
    let prefix = format!("{sample} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
    value.unwrap_or_else(|| panic!("{sample} is not in {text}")).parse().expect("a number")
}

/// Check that the metrics of a tag and of a group are what the kernel says that their processes
/// have used since the scrape before.
#[test]
fn metrics_have_the_usage_by_tag_and_group() {
    let node = Node::new();
    let _daemon = Daemon::start(&node);
    // Works and writes when it is asked to, and says when it is done: it is idle at each scrape.
    let script = "while read x; do i=0; while [ $i -lt 50000 ]; do echo 0123456789; \
                  i=$((i+1)); done > \"$1\"; echo done >&2; done";
    let file = node.path().join("written");
    let mut worker = Command::new("/bin/sh");
    worker.args(["-c", script, "sh"]).arg(&file);
    worker.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut worker = worker.spawn().expect("it runs");
    let mut errors = BufReader::new(worker.stderr.take().expect("a pipe"));
    let mut stdin = worker.stdin.take().expect("a pipe");
    let mut work = || {
        stdin.write_all(b"go\n").expect("it reads");
        let mut line = String::new();
        errors.read_line(&mut line).expect("it writes");
        assert_eq!(line, "done\n");
    };
    let key = identify(worker.id().cast_signed()).expect("it lives");
    // The shell sleeps in read(2) a moment after its last line.
    let settled = || {
        let mut last = consumption(key).expect("it lives");
        loop {
            std::thread::sleep(std::time::Duration::from_millis(50));
            let now = consumption(key).expect("it lives");
            if now == last {
                return now;
            }
            last = now;
        }
    };
    work();
    let pid = worker.id().to_string();
    ok(&node, &["add", &pid, "--tag", "job", "--tag", "a \"quoted\\ tag", "--group", "batch"]);
    let sleeper = Sleeper::new();
    ok(&node, &["add", &sleeper.pid(), "--group", "batch"]);
    let before = settled();
    assert_eq!(metric(&node, "lookout_tag_cpu_seconds_total{tag=\"job\"}").to_string(), "0");
    work();
    let now = settled();
    let cpu = now.cpu_ns - before.cpu_ns;
    assert!(cpu > 0, "it has worked for less than a tick");
    for label in ["tag=\"job\"", "tag=\"a \\\"quoted\\\\ tag\"", "group=\"batch\""] {
        let kind = label.split('=').next().expect("a name");
        let of = |what: &str| metric(&node, &format!("lookout_{kind}_{what}{{{label}}}"));
        #[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
        let (seconds, written) =
            (cpu as f64 / 1e9, (now.io.expect("ours").1 - before.io.expect("ours").1) as f64);
        assert!((of("cpu_seconds_total") - seconds).abs() < 1e-9, "{label}");
        assert!((of("written_bytes_total") - written).abs() < 0.5, "{label}");
        let is_group = kind == "group";
        assert!((of("processes") - if is_group { 2.0 } else { 1.0 }).abs() < 0.1, "{label}");
        #[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
        let resident = now.rss_bytes as f64;
        let rest = of("resident_memory_bytes") - resident;
        assert!(if is_group { rest > 0.0 } else { rest.abs() < 0.5 }, "{label}: {rest}");
    }
    // The end of the process takes nothing back while the group has another process.
    worker.kill().expect("it lives");
    worker.wait().expect("a child");
    wait_for(&node, 1, |entry| entry["end"].is_object());
    let after = metric(&node, "lookout_group_cpu_seconds_total{group=\"batch\"}");
    #[expect(clippy::cast_precision_loss, reason = "the number is small")]
    let expected = cpu as f64 / 1e9;
    assert!((after - expected).abs() < 1e-9, "{after} {expected}");
    assert!((metric(&node, "lookout_group_processes{group=\"batch\"}") - 1.0).abs() < 0.1);
}
