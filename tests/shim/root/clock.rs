//! The wall clock of the machine is stepped while containers run. Only a guest's clock may be: see
//! `hack/test-vm`.

use std::{process::Command, time::Duration};

use crate::harness::containerd::{Containerd, ObservedEvent, Version};

/// Far more than all parts of the test take together.
const HOUR: Duration = Duration::from_secs(3600);

/// The steps of the wall clock, which are taken back when this is dropped.
struct Clock {
    offset_secs: i64,
}

impl Clock {
    fn step(&mut self, seconds: i64) {
        let by = format!("{seconds:+} seconds");
        let stepped = Command::new("date").args(["--set", &by]).output().expect("coreutils");
        assert!(stepped.status.success(), "{}", String::from_utf8_lossy(&stepped.stderr));
        self.offset_secs += seconds;
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let by = format!("{:+} seconds", -self.offset_secs);
        let _ = Command::new("date").args(["--set", &by]).output();
    }
}

fn monotonic(event: &ObservedEvent) -> Duration {
    Duration::from_nanos(event.number("/monotonic_ns").expect("always there"))
}

/// Check that events are in order by their number and by the monotonic clock, that run times are
/// right, and that exits reach containerd, although the wall clock is stepped by an hour in both
/// directions.
#[test]
#[ignore = "steps the clock of the machine: hack/test-vm"]
fn a_step_of_the_wall_clock_changes_neither_order_nor_durations() {
    let allowed = std::env::var_os("LOOKOUT_STEP_CLOCK").is_some();
    assert!(allowed, "LOOKOUT_STEP_CLOCK is not set: this test is for guests");
    let containerd = Containerd::start(Version::V1_7);
    let events = containerd.events();
    let subscriber = containerd.subscribe();
    containerd.detached("c", &[], &["sleep", "1000"]);
    // The programs are loaded for the first container, which takes long in an emulated guest.
    let begins = |event: &ObservedEvent| event.runs(&["sleep", "1000"]);
    subscriber.wait(Duration::from_secs(60), "the start of init", begins);
    let mut clock = Clock { offset_secs: 0 };
    let mut numbers = Vec::new();
    for (code, step) in [(3, 0), (4, -3600), (5, 7200), (6, -3600)] {
        let script = format!("sleep 0.{code}; exit {code}");
        let exec = containerd.exec("c", &[], &["sh", "-c", &script]).spawn();
        let start = subscriber.wait_run(&["sh", "-c", &script]);
        clock.step(step);
        let exit = subscriber.wait_of("process.exit", &start);
        exec.wait().exit_code(code);
        assert_eq!(exit.number("/status"), Some(u64::try_from(code).expect("small")));
        let took = monotonic(&exit) - monotonic(&start);
        assert!(took < HOUR / 60, "{took:?}");
        let run_time = exit.number("/run_time_ns").map(Duration::from_nanos);
        assert!(run_time.is_none_or(|run_time| run_time < HOUR / 60), "{exit:?}");
        for event in [start, exit] {
            numbers.push((event.number("/seq").expect("always there"), monotonic(&event)));
        }
    }
    assert!(numbers.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1), "{numbers:?}");
    containerd.ctr(&["task", "kill", "--signal", "KILL", "c"]).success();
    assert_eq!(events.wait_topic("/tasks/exit", "c").number("exit_status"), 137);
    assert_eq!(events.count(|event| event.topic == "/tasks/exit"), 5);
    containerd.remove("c");
    drop(subscriber);
    containerd.assert_nothing_left();
}
