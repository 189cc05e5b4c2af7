//! `lookout wait --port` against ports that open before, during and after the call.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::time::TimeValLike as _,
    time::{ClockId, clock_gettime},
};
use serde_json::Value;

use super::{super::setting, listener, remove};
use crate::harness::containerd::{Containerd, Version};

/// How many calls there are if `LOOKOUT_WAIT_RACES` is not set. A container may have 1024
/// descriptors by default, one for each port.
const RACES: u64 = 100;

/// The ports, and the time between two of them.
const FIRST: u64 = 20_000;
const STEP: Duration = Duration::from_millis(25);

/// How long before the expected opening of its port a call begins, and how long after it, at most.
const BEFORE: Duration = Duration::from_millis(150);
const AFTER: Duration = Duration::from_millis(50);

/// How long before its opening a call has to begin, so that it certainly waits for it.
const STARTED: Duration = Duration::from_millis(60);

/// The longest time from the arrival of the event at another subscriber to the line of the command.
/// The promise is 1 ms for 99 of 100 calls on an idle machine.
const LATE_MAX: Duration = Duration::from_millis(10);

/// A call that has returned.
struct Ended {
    port: u64,
    asked: Instant,
    code: Option<i32>,
    line: String,
    returned: Instant,
}

fn lookout(runtime_dir: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_lookout"))
        .args(arguments)
        .env("LOOKOUT_RUNTIME_DIR", runtime_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the command")
}

/// Waits for the port with this number, from up to 150 ms before its opening or 50 ms after it.
fn call(runtime_dir: &Path, begun: Instant, number: u64) -> Ended {
    // Spread over that time without random numbers: 61 has no common divisor with 100.
    let place = u32::try_from(number * 61 % 100).expect("it is below 100");
    let opens = begun + STEP * u32::try_from(number).expect("it is small");
    let at = (opens + (BEFORE + AFTER) * place / 100).checked_sub(BEFORE).unwrap_or(begun);
    thread::sleep(at.saturating_duration_since(Instant::now()));
    let (port, asked) = (FIRST + number, Instant::now());
    let text = port.to_string();
    let mut child = lookout(runtime_dir, &["wait", "c", "--port", &text, "--timeout", "20s"]);
    let mut line = String::new();
    let out = child.stdout.take().expect("a pipe");
    BufReader::new(out).read_line(&mut line).expect("a line");
    let returned = Instant::now();
    Ended { port, asked, code: child.wait().expect("our child").code(), line, returned }
}

fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("it exists");
    u64::try_from(now.num_nanoseconds()).expect("it is positive")
}

/// Check that no call misses its port, and that those that wait return with the event.
#[test]
fn no_opening_is_missed_by_a_call() {
    let races = setting("LOOKOUT_WAIT_RACES").unwrap_or(RACES);
    let containerd = Containerd::start(Version::V1_7);
    // Of one shim, so that its events are not held back for those of others.
    let events =
        ["events", "-f", "c", "--type", "port.open", "-o", "jsonl", "--since", "2020-01-01"];
    let mut subscriber = lookout(&containerd.path("lookout"), &events);
    let lines = BufReader::new(subscriber.stdout.take().expect("a pipe")).lines();
    let (arrival, arrivals) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let at = Instant::now();
            let event: Value = serde_json::from_str(&line).expect("JSON");
            if let Some(port) = event["network"]["local"]["port"].as_u64() {
                let opened_ns = event["monotonic_ns"].as_u64().expect("a time");
                let _ = arrival.send((port, at, opened_ns));
            }
        }
    });
    let (count, step) = (races.to_string(), STEP.as_micros().to_string());
    // The first ones open before any call.
    listener(&containerd, "c", &[], &["steps", &count, &step, &FIRST.to_string()]);
    let mut opened: HashMap<u64, Instant> = HashMap::new();
    let first = arrivals.recv_timeout(Duration::from_secs(20)).expect("the first port");
    opened.insert(first.0, first.1);
    // The subscriber may be late on a busy machine, which must not delay the calls as well.
    let begun = Instant::now()
        .checked_sub(Duration::from_nanos(monotonic_ns().saturating_sub(first.2)))
        .expect("since the boot");
    let calls: Vec<_> = (0..races)
        .map(|number| {
            let runtime_dir = containerd.path("lookout");
            thread::spawn(move || call(&runtime_dir, begun, number))
        })
        .collect();
    let ended: Vec<Ended> = calls.into_iter().map(|call| call.join().expect("no panic")).collect();
    while opened.len() < ended.len() {
        let (port, at, _) = arrivals.recv_timeout(Duration::from_secs(20)).expect("all ports");
        opened.insert(port, at);
    }
    let mut late = Vec::new();
    let mut before = 0;
    for Ended { port, asked, code, line, returned } in &ended {
        assert_eq!(*code, Some(0), "port {port}: {line}");
        assert!(line.contains(&format!(":{port}")), "{line}");
        // A call that began shortly before found the port in the list.
        let arrived = opened[port];
        before += usize::from(*asked > arrived);
        if arrived.saturating_duration_since(*asked) > STARTED {
            late.push(returned.saturating_duration_since(arrived));
        }
    }
    late.sort_unstable();
    assert!(late.len() > 5, "{} calls waited", late.len());
    let at = |percent: usize| late[(late.len() * percent / 100).min(late.len() - 1)];
    eprintln!(
        "{races} calls, {before} after the opening, {} waited: median {:?}, p99 {:?} after another \
         subscriber",
        late.len(),
        at(50),
        at(99),
    );
    // Other tests run beside this one, so only the median has a limit, ten times the promise.
    assert!(at(50) < LATE_MAX, "{late:?}");
    subscriber.kill().expect("our child");
    let _ = subscriber.wait();
    reader.join().expect("no panic");
    remove(&containerd, "c");
    containerd.assert_nothing_left();
}
