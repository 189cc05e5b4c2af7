//! A loss, and the scan of `/proc` that follows.

use std::num::NonZeroU64;

use super::*;
use crate::observe::record::CallId;

/// Check that a loss is a gap and requests a scan, and that the differences are marked.
#[test]
fn differences_after_a_loss_are_marked() {
    let mut script = Script::running();
    script.fork(INIT, 201);
    script.fork(INIT, 202);
    script.fork(INIT, 203);
    script.exec(203, INIT, "/bin/a", Some(false));
    script.lines();
    script.lost();
    assert_eq!(script.lines(), ["observer.gap Some(3) kernel", "scan"]);
    script.scan(ScanStep::Began);
    script.what(205, alive(lineage(204, 0), "/bin/grandchild"));
    script.what(204, alive(lineage(202, 0), "/bin/child"));
    script.what(202, alive(lineage(INIT, 0), "/bin/started"));
    script.what(203, alive(lineage(INIT, 0), "/bin/b"));
    script.what(INIT, alive(lineage(SHIM, 0), "/bin/sh"));
    assert!(script.lines().is_empty(), "a scan has its effect when it is complete");
    script.scan(ScanStep::Ended);
    let mut lines = script.lines();
    lines.sort();
    assert_eq!(
        lines,
        [
            "process.done 201",
            "process.exec 203 /bin/b descendant snapshot",
            "process.exit 201 ? snapshot",
            "process.start 202 /bin/started descendant snapshot",
            "process.start 204 /bin/child descendant snapshot",
            "process.start 205 /bin/grandchild descendant snapshot",
        ]
    );
}

/// Check that records during a scan, and old ones after it, give no doubles.
#[test]
fn records_during_a_scan_are_reported_once() {
    let mut script = Script::running();
    let before = script.now;
    script.now += 10;
    script.scan(ScanStep::Began);
    script.what(INIT, alive(lineage(SHIM, 0), "/bin/sh"));
    script.what(201, alive(lineage(INIT, 0), "/bin/true"));
    script.what(202, alive(lineage(INIT, 0), "/bin/gone"));
    script.fork(INIT, 203);
    script.at(before + 3, 202, What::Fork(lineage(INIT, 0)));
    script.exit(202, 0);
    script.scan(ScanStep::Ended);
    script.at(before + 1, 201, What::Fork(lineage(INIT, 0)));
    script.at(before + 2, 201, exec(lineage(INIT, 0), "/bin/true", Some(false)));
    assert_eq!(
        script.lines(),
        [
            "process.fork 203 /bin/sh descendant",
            "process.fork 202 /bin/sh descendant",
            "process.exit 202 0",
            "reaped? 202",
            "process.start 201 /bin/true descendant snapshot",
        ]
    );
}

/// Check that an exec during a scan, which has read its image, is reported once, and that one of
/// another image is reported after what the scan has read.
#[test]
fn an_exec_during_a_scan_is_reported_once() {
    let mut script = Script::running();
    script.fork(INIT, 201);
    script.fork(INIT, 202);
    script.lines();
    script.lost();
    script.lines();
    script.scan(ScanStep::Began);
    // Everything that a scan finds has the time at which it began.
    let began = script.now;
    script.at(began, INIT, alive(lineage(SHIM, 0), "/bin/sh"));
    script.at(began, 201, alive(lineage(INIT, 0), "/bin/true"));
    script.at(began, 202, alive(lineage(INIT, 0), "/bin/one"));
    let during = began + 5;
    script.now += 10;
    script.scan(ScanStep::Ended);
    let started = |pid, name: &str| format!("process.start {pid} /bin/{name} descendant snapshot");
    assert_eq!(script.lines(), [started(201, "true"), started(202, "one")]);
    script.at(during, 201, exec(lineage(INIT, 0), "/bin/true", Some(false)));
    script.at(during, 202, exec(lineage(INIT, 0), "/bin/two", Some(false)));
    assert_eq!(script.lines(), ["process.exec 202 /bin/two descendant"]);
    // Long after the scan, the same image is another exec.
    script.now += 10;
    script.exec(201, INIT, "/bin/true", Some(false));
    assert_eq!(script.lines(), ["process.exec 201 /bin/true descendant"]);
}

/// Check that init's absence waits for the reaper, which knows its status.
#[test]
fn an_absent_init_is_left_to_the_reaper() {
    let mut script = Script::running();
    script.scan(ScanStep::Began);
    script.scan(ScanStep::Ended);
    assert!(script.lines().is_empty());
    script.tracker.reaped_exit(HERE, &ProcessId::Init, INIT, Ended::Code(7), script.now);
    assert_eq!(script.lines(), ["process.exit 200 7", "reaped? 200", "process.done 200"]);
}

/// Check that a scan before the user's program shows only a stage.
#[test]
fn a_scan_before_start_reports_nothing() {
    let mut script = Script::new();
    script.tracker.set_runtime_path(HERE, b"/usr/bin/runc");
    let start = CallId(1);
    script.tracker.call_began(HERE, start, None, script.now);
    script.scan(ScanStep::Began);
    script.what(INIT, alive(lineage(SHIM, 0), "/usr/bin/runc"));
    script.scan(ScanStep::Ended);
    script.tracker.call_ended(HERE, start);
    assert!(script.lines().is_empty(), "init will be reported by its record");
    script.exec(INIT, SHIM, "/bin/sh", None);
    assert_eq!(script.lines(), ["process.start 200 /bin/sh init"]);
}

/// Check that a process which overwrites its own arguments and its name has not called execve(2),
/// and that one whose stack has moved has, although nothing else differs.
#[test]
fn a_new_title_is_no_exec() {
    let mut script = Script::running();
    let scan = |script: &mut Script, image: Image| {
        script.scan(ScanStep::Began);
        let what = What::Alive { lineage: lineage(SHIM, 0), image: Arc::new(image), cgroup: None };
        script.what(INIT, what);
        script.scan(ScanStep::Ended);
        script.lines()
    };
    let titled = Image {
        args: Some(Args::from_nul_separated(b"sh: idle\0\0\0")),
        comm: Some(b"idle"[..].into()),
        executable: Some(b"/bin/sh"[..].into()),
        ..Image::default()
    };
    assert!(scan(&mut script, titled.clone()).is_empty());
    let stack = |address| Image { stack: NonZeroU64::new(address), ..titled.clone() };
    script.what(
        INIT,
        What::Exec {
            lineage: lineage(SHIM, 0),
            image: Arc::new(stack(5)),
            cgroup: None,
            in_host_mounts: Some(false),
        },
    );
    script.lines();
    assert!(scan(&mut script, stack(5)).is_empty());
    assert_eq!(scan(&mut script, stack(6)), ["process.exec 200 /bin/sh init snapshot"]);
}

/// Check that the scan after one in the middle of an exec, which read no arguments, reports them
/// once.
#[test]
fn arguments_that_could_not_be_read_are_reported_later() {
    let mut script = Script::running();
    let scan = |script: &mut Script, image: &Image| {
        script.scan(ScanStep::Began);
        script.what(
            INIT,
            What::Alive { lineage: lineage(SHIM, 0), image: Arc::new(image.clone()), cgroup: None },
        );
        script.scan(ScanStep::Ended);
        script.lines()
    };
    let whole = (*image("/bin/ls")).clone();
    let half =
        Image { args: None, unknown: Some(crate::model::UnknownReason::Faulted), ..whole.clone() };
    assert_eq!(scan(&mut script, &half), ["process.exec 200 /bin/ls init snapshot"]);
    assert_eq!(scan(&mut script, &whole), ["process.exec 200 /bin/ls init snapshot"]);
    assert!(scan(&mut script, &whole).is_empty());
}

/// Check that a loss of unknown target scans all of them.
#[test]
fn a_loss_of_unknown_target_scans_all() {
    let mut script = Script::running();
    script.tracker.begin(TargetId(8), Some(900));
    let lost = Record::Lost { target: None, at_ns: 9999, count: None, stage: Stage::Kernel };
    script.tracker.record(lost);
    assert_eq!(script.lines(), ["observer.gap None kernel", "scan", "scan"]);
}
