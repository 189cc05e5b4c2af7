//! Attribution by provenance: calls of the runtime, their stages and hooks, and what is left of
//! them.

use super::*;
use crate::observe::{
    record::{CallId, Provenance},
    track::calls::WAIT_MAX_NS,
};

const CALL: CallId = CallId(1);

/// A process that no call and no process of the target has made.
const ENTERED: Provenance =
    Provenance { start_ns: 0, call: None, is_born: false, is_inside: false };
/// A process that a process of the target has forked.
const BORN: Provenance = Provenance { start_ns: 0, call: None, is_born: true, is_inside: false };

/// A process of a call, outside of the container or inside.
fn of(call: CallId, is_inside: bool) -> Provenance {
    Provenance { call: Some(call), ..Provenance { is_inside, ..BORN } }
}

impl Script {
    fn with_provenance() -> Self {
        let mut tracker = Tracker::new(SHIM);
        tracker.set_knows_provenance(true);
        tracker.begin(HERE, Some(INIT));
        Self { tracker, ..Self::new() }
    }

    /// As [`with_provenance`](Self::with_provenance), with an init that has been reported.
    fn started() -> Self {
        let mut script = Self::with_provenance();
        script.record(INIT, ENTERED, exec(lineage(SHIM, 0), "/bin/sh", Some(false)));
        assert_eq!(script.lines(), ["process.start 200 /bin/sh init"]);
        script
    }

    fn record(&mut self, pid: i32, provenance: Provenance, what: What) {
        self.now += 1;
        self.tracker.record(Record::Process {
            target: HERE,
            at_ns: self.now,
            grade: Grade::Exact,
            key: key(pid),
            provenance: Some(provenance),
            what,
        });
    }

    /// The events without `process.done`.
    fn lives(&mut self) -> Vec<String> {
        let mut lines = self.lines();
        lines.retain(|line| !line.contains('?') && !line.starts_with("process.done"));
        lines
    }

    fn call(&mut self, call: CallId, exec_id: Option<&str>) {
        self.tracker.call_began(HERE, call, exec_id.map(Into::into), self.now);
    }

    /// The records of `runc exec`: the runtime 300, its stages 301 and 302, and the process 303.
    fn runc_exec(&mut self, call: CallId, path: &str) {
        self.record(300, of(call, false), What::Fork(lineage(SHIM, 0)));
        self.record(300, of(call, false), exec(lineage(SHIM, 0), "/usr/bin/runc", Some(true)));
        self.record(301, of(call, false), What::Fork(lineage(300, SHIM)));
        // From version 1.4 on, runc makes the first stage in the container's cgroup.
        self.record(301, of(call, true), exec(lineage(300, SHIM), "/proc/self/exe", Some(true)));
        self.record(302, of(call, true), What::Fork(lineage(301, 300)));
        self.record(303, of(call, true), What::Fork(lineage(302, 300)));
        self.record(302, of(call, true), exit(Some(0)));
        self.record(301, of(call, true), exit(Some(0)));
        self.record(303, of(call, true), exec(lineage(302, 300), path, Some(false)));
    }
}

/// Check that the records of a call wait until its process is known, and that then the process is
/// reported with its exec id, and the runtime and its stages are not.
#[test]
fn an_exec_is_reported_when_its_pid_is_known() {
    let mut script = Script::started();
    script.call(CALL, Some("probe"));
    script.runc_exec(CALL, "/bin/id");
    script.record(304, of(CALL, false), What::Fork(lineage(303, SHIM)));
    assert!(script.lines().is_empty());
    script.tracker.exec_started(HERE, &"probe".into(), 303);
    assert_eq!(
        script.lines(),
        ["process.start 303 /bin/id exec probe", "process.fork 304 /bin/id descendant probe"]
    );
    script.record(300, of(CALL, false), exit(Some(0)));
    script.tracker.call_ended(HERE, CALL);
    assert!(script.lines().is_empty());
}

/// Check that the pid may be known before the first record of the call is read.
#[test]
fn the_pid_of_an_exec_may_come_first() {
    let mut script = Script::started();
    script.call(CALL, Some("probe"));
    script.tracker.exec_started(HERE, &"probe".into(), 303);
    script.runc_exec(CALL, "/bin/id");
    script.tracker.call_ended(HERE, CALL);
    let lines = script.lines();
    assert!(lines.contains(&"process.start 303 /bin/id exec probe".to_owned()), "{lines:?}");
}

/// A process of this call that began at this nanosecond.
fn born_at(call: Option<CallId>, start_ns: u64) -> Provenance {
    Provenance { call, start_ns, ..BORN }
}

/// Check that a process of an exec is not hidden by another process that gets its pid (clone3 with
/// `set_tid`) before the pid of the exec is known.
#[test]
fn a_pid_that_is_used_again_hides_no_process_of_an_exec() {
    let mut script = Script::started();
    script.call(CALL, Some("probe"));
    script.runc_exec(CALL, "/bin/sh");
    let first = born_at(Some(CALL), 10);
    script.record(310, first, What::Fork(lineage(303, 302)));
    script.record(310, first, exec(lineage(303, 302), "/hidden", Some(false)));
    script.record(310, first, exit(Some(0)));
    let second = born_at(None, 20);
    script.record(310, second, What::Fork(lineage(INIT, SHIM)));
    script.record(310, second, exec(lineage(INIT, SHIM), "/open", Some(false)));
    script.record(311, BORN, What::Fork(lineage(310, INIT)));
    script.record(310, second, exit(Some(0)));
    script.tracker.exec_started(HERE, &"probe".into(), 303);
    assert_eq!(
        script.lives(),
        [
            "process.start 303 /bin/sh exec probe",
            "process.fork 310 /bin/sh descendant probe",
            "process.start 310 /hidden descendant probe",
            "process.exit 310 0",
            "process.fork 310 /bin/sh descendant",
            "process.start 310 /open descendant",
            "process.fork 311 /open descendant",
            "process.exit 310 0",
        ]
    );
}

/// Check the same where the second process belongs to another exec, of which the pid is known
/// before that of the first one, or after it.
#[test]
fn a_pid_that_two_execs_use_hides_no_process() {
    for first_known in ["a", "b"] {
        let mut script = Script::started();
        script.call(CALL, Some("a"));
        script.call(CallId(2), Some("b"));
        script.runc_exec(CALL, "/bin/a");
        let first = born_at(Some(CALL), 10);
        script.record(310, first, What::Fork(lineage(303, 302)));
        script.record(310, first, exit(Some(0)));
        script.record(401, of(CallId(2), true), What::Fork(lineage(400, SHIM)));
        script.record(401, of(CallId(2), true), exec(lineage(400, SHIM), "/bin/b", Some(false)));
        let second = born_at(Some(CallId(2)), 20);
        script.record(310, second, What::Fork(lineage(401, 400)));
        script.record(310, second, exit(Some(0)));
        let of_a = [
            "process.start 303 /bin/a exec a",
            "process.fork 310 /bin/a descendant a",
            "process.exit 310 0",
        ];
        let of_b = ["process.fork 310 /bin/b descendant b", "process.exit 310 0"];
        let start_of_b = ["process.start 401 /bin/b exec b"];
        if first_known == "a" {
            script.tracker.exec_started(HERE, &"a".into(), 303);
            assert_eq!(script.lives(), of_a);
            script.tracker.exec_started(HERE, &"b".into(), 401);
            assert_eq!(script.lives(), [&start_of_b[..], &of_b].concat());
        } else {
            script.tracker.exec_started(HERE, &"b".into(), 401);
            assert_eq!(script.lives(), start_of_b);
            script.tracker.exec_started(HERE, &"a".into(), 303);
            assert_eq!(script.lives(), [&of_a[..], &of_b].concat());
        }
    }
}

/// Check that a process of an exec that makes a child of the shim (CLONE_PARENT) while another exec
/// starts has made a descendant of its own exec.
#[test]
fn a_child_of_the_shim_is_no_exec() {
    let mut script = Script::started();
    script.call(CALL, Some("first"));
    script.runc_exec(CALL, "/bin/sh");
    script.tracker.exec_started(HERE, &"first".into(), 303);
    script.tracker.call_ended(HERE, CALL);
    script.lines();
    script.call(CallId(2), Some("second"));
    // The forker is the parent, whatever real_parent is.
    script.record(310, of(CALL, false), What::Fork(lineage(303, SHIM)));
    script.record(310, of(CALL, true), exec(lineage(303, SHIM), "/impostor", Some(false)));
    script.record(311, of(CALL, false), What::Fork(lineage(310, SHIM)));
    assert_eq!(
        script.lines(),
        [
            "process.fork 310 /bin/sh descendant first",
            "process.start 310 /impostor descendant first",
            "process.fork 311 /impostor descendant first",
        ]
    );
}

/// Check that two execs that start at the same time get their own processes.
#[test]
fn execs_at_the_same_time_are_not_mixed_up() {
    let mut script = Script::started();
    script.call(CALL, Some("a"));
    script.call(CallId(2), Some("b"));
    script.record(400, of(CallId(2), false), What::Fork(lineage(SHIM, 0)));
    script.record(401, of(CallId(2), true), What::Fork(lineage(400, SHIM)));
    script.record(401, of(CallId(2), true), exec(lineage(400, SHIM), "/bin/b", Some(false)));
    script.runc_exec(CALL, "/bin/a");
    script.tracker.exec_started(HERE, &"b".into(), 401);
    assert_eq!(script.lines(), ["process.start 401 /bin/b exec b"]);
    script.tracker.exec_started(HERE, &"a".into(), 303);
    assert_eq!(script.lines(), ["process.start 303 /bin/a exec a"]);
}

/// Check that a container without a mount namespace of its own is observed, and one whose program
/// is the runtime itself.
#[test]
fn no_mount_namespace_and_no_name_decides() {
    let mut script = Script::with_provenance();
    script.tracker.set_runtime_path(HERE, b"/usr/bin/runc");
    script.record(INIT, ENTERED, exec(lineage(SHIM, 0), "/usr/bin/runc", Some(true)));
    script.record(201, BORN, What::Fork(lineage(INIT, SHIM)));
    script.record(201, BORN, exec(lineage(INIT, SHIM), "/proc/self/exe", Some(true)));
    assert_eq!(
        script.lines(),
        [
            "process.start 200 /usr/bin/runc init",
            "process.fork 201 /usr/bin/runc descendant",
            "process.start 201 /proc/self/exe descendant",
        ]
    );
}

/// Check that what init runs before the container's program is reported as a hook, with its
/// descendants.
#[test]
fn a_hook_in_the_container_is_reported() {
    let mut script = Script::with_provenance();
    script.record(201, BORN, What::Fork(lineage(INIT, SHIM)));
    script.record(201, BORN, exec(lineage(INIT, SHIM), "/hook", Some(false)));
    script.record(202, BORN, What::Fork(lineage(201, INIT)));
    script.record(INIT, ENTERED, exec(lineage(SHIM, 0), "/bin/sh", Some(false)));
    assert_eq!(
        script.lines(),
        [
            "process.start 201 /hook hook",
            "process.fork 202 /hook descendant",
            "process.start 200 /bin/sh init",
        ]
    );
}

/// Check that a process of a call without an exec is reported if it runs in the container, and not
/// if it runs beside it.
#[test]
fn a_process_of_another_call_is_a_hook_in_the_container_only() {
    let mut script = Script::started();
    script.call(CALL, None);
    script.record(300, of(CALL, false), What::Fork(lineage(SHIM, 0)));
    script.record(300, of(CALL, false), exec(lineage(SHIM, 0), "/usr/bin/runc", Some(true)));
    script.record(301, of(CALL, false), What::Fork(lineage(300, SHIM)));
    script.record(301, of(CALL, false), exec(lineage(300, SHIM), "/host-hook", Some(true)));
    assert!(script.lines().is_empty());
    script.record(302, of(CALL, false), What::Fork(lineage(300, SHIM)));
    script.record(302, of(CALL, true), exec(lineage(300, SHIM), "/inner-hook", Some(false)));
    assert_eq!(script.lines(), ["process.start 302 /inner-hook hook"]);
}

/// Check that a process from outside is reported at its fork, because it may never exec.
#[test]
fn a_process_that_enters_is_reported_at_once() {
    let mut script = Script::started();
    script.record(500, ENTERED, What::Fork(lineage(499, 0)));
    script.record(501, BORN, What::Fork(lineage(500, 499)));
    script.record(501, BORN, exec(lineage(500, 499), "/bin/sh", Some(false)));
    assert_eq!(
        script.lines(),
        [
            "process.fork 500 - injected",
            "process.fork 501 - descendant",
            "process.start 501 /bin/sh descendant",
        ]
    );
}

/// Check that the records of a call that hangs are reported with an unknown origin, and that the
/// exec gets its id when its pid is known at last.
#[test]
fn a_call_that_hangs_withholds_nothing_for_ever() {
    let mut script = Script::started();
    script.call(CALL, Some("slow"));
    script.record(303, of(CALL, true), exec(lineage(300, SHIM), "/bin/id", Some(false)));
    script.tracker.report_overdue(script.now);
    assert!(script.tracker.has_waiting_records());
    assert!(script.lines().is_empty());
    script.tracker.report_overdue(script.now + WAIT_MAX_NS);
    assert_eq!(script.lines(), ["process.exec 303 /bin/id unknown"]);
    script.tracker.exec_started(HERE, &"slow".into(), 303);
    script.record(303, of(CALL, true), exec(lineage(300, SHIM), "/bin/ls", Some(false)));
    assert_eq!(script.lines(), ["process.exec 303 /bin/ls exec slow"]);
}

/// Check that records do not wait without bound.
#[test]
fn too_many_waiting_records_are_released() {
    let mut script = Script::started();
    script.call(CALL, Some("flood"));
    for pid in 1000..1000 + 5000 {
        script.record(pid, of(CALL, true), exec(lineage(300, SHIM), "/bin/id", Some(false)));
    }
    assert_eq!(script.lines().len(), 5000);
    assert!(!script.tracker.has_waiting_records());
}

/// Check that an exec that fails leaves nothing in the account but processes of the runtime.
#[test]
fn a_failed_exec_is_the_runtimes() {
    let mut script = Script::started();
    script.call(CALL, Some("typo"));
    script.record(300, of(CALL, false), What::Fork(lineage(SHIM, 0)));
    script.record(301, of(CALL, true), What::Fork(lineage(300, SHIM)));
    script.record(301, of(CALL, true), exit(Some(0x100)));
    script.record(300, of(CALL, false), exit(Some(0x100)));
    script.tracker.call_ended(HERE, CALL);
    assert!(script.lines().is_empty());
    script.end(Some((5, 0)));
    let lines = script.lines();
    assert_eq!(lines.last().unwrap(), "container.close Some(1) 1 Some(0) 4");
}

/// Check that a descendant of an exec whose parents are not known, because their records were lost,
/// gets the exec id of its call.
#[test]
fn a_lost_parent_does_not_lose_the_exec_id() {
    let mut script = Script::started();
    script.call(CALL, Some("probe"));
    script.runc_exec(CALL, "/bin/sh");
    script.tracker.exec_started(HERE, &"probe".into(), 303);
    script.record(300, of(CALL, false), exit(Some(0)));
    script.tracker.call_ended(HERE, CALL);
    script.lines();
    script.record(999, of(CALL, false), What::Fork(lineage(998, 0)));
    assert_eq!(script.lines(), ["process.fork 999 - descendant probe"]);
}

/// Check that a process that a hook has left in the container is reported when the call ends: the
/// tracker asks for a scan.
#[test]
fn what_a_call_leaves_behind_is_reported() {
    let mut script = Script::started();
    script.call(CALL, None);
    script.record(300, of(CALL, false), What::Fork(lineage(SHIM, 0)));
    script.record(301, of(CALL, false), What::Fork(lineage(300, SHIM)));
    script.record(300, of(CALL, false), exit(Some(0)));
    script.tracker.call_ended(HERE, CALL);
    assert_eq!(script.lines(), ["scan"]);
    script.scan(ScanStep::Began);
    script.what(INIT, alive(SHIM, "/bin/sh"));
    script.what(301, alive(1, "/hook"));
    script.scan(ScanStep::Ended);
    assert_eq!(script.lines(), ["process.start 301 /hook hook snapshot"]);
}

/// Check that several processes with one pid within one clock tick are reported each, with their
/// exits, and that each is done.
#[test]
fn lives_of_one_pid_within_a_tick_are_told_apart() {
    let mut script = Script::started();
    for life in 1..=8 {
        let provenance = Provenance { start_ns: 1000 + life, ..BORN };
        script.record(300, provenance, What::Fork(lineage(INIT, SHIM)));
        script.record(300, provenance, exit(Some(u32::try_from(life).unwrap() << 8)));
    }
    script.reap();
    let lines = script.lines();
    let count = |what: &str| lines.iter().filter(|line| line.starts_with(what)).count();
    assert_eq!(count("process.fork 300"), 8);
    assert_eq!(count("process.done 300"), 8);
    for life in 1..=8 {
        assert_eq!(count(&format!("process.exit 300 {life}")), 1, "{lines:?}");
    }
    script.end(Some((17, 0)));
    assert_eq!(script.lines().last().unwrap(), "container.close Some(17) 17 Some(0) 0");
}

/// A process that a scan lists.
fn alive(parent: i32, path: &str) -> What {
    What::Alive { lineage: lineage(parent, 0), image: image(path), cgroup: None }
}

/// Check that a process of an ended call, which still runs the runtime's code, is reported
/// when it executes the user's program, and that no scan reports it before.
#[test]
fn a_scan_does_not_report_the_runtimes_code_as_the_exec() {
    let mut script = Script::started();
    script.call(CALL, Some("probe"));
    script.record(300, of(CALL, false), What::Fork(lineage(SHIM, 0)));
    script.record(303, of(CALL, true), What::Fork(lineage(300, SHIM)));
    script.tracker.exec_started(HERE, &"probe".into(), 303);
    script.record(300, of(CALL, false), exit(Some(0)));
    script.tracker.call_ended(HERE, CALL);
    assert!(script.lines().is_empty(), "no scan is needed");
    script.scan(ScanStep::Began);
    script.what(INIT, alive(SHIM, "/bin/sh"));
    script.what(303, alive(SHIM, "/usr/bin/runc"));
    script.scan(ScanStep::Ended);
    assert!(script.lines().is_empty());
    script.record(303, of(CALL, true), exec(lineage(300, SHIM), "/bin/id", Some(false)));
    assert_eq!(script.lines(), ["process.start 303 /bin/id exec probe"]);
}

/// Check that a scan finds the process of an exec with a lost exec record.
#[test]
fn a_scan_reports_an_exec_whose_record_was_lost() {
    let mut script = Script::started();
    script.call(CALL, Some("probe"));
    script.record(303, of(CALL, true), What::Fork(lineage(300, SHIM)));
    script.tracker.exec_started(HERE, &"probe".into(), 303);
    script.lost();
    script.lines();
    script.tracker.call_ended(HERE, CALL);
    assert_eq!(script.lines(), ["scan"]);
    script.scan(ScanStep::Began);
    script.what(INIT, alive(SHIM, "/bin/sh"));
    script.what(303, alive(SHIM, "/bin/id"));
    script.scan(ScanStep::Ended);
    assert_eq!(script.lines(), ["process.start 303 /bin/id exec probe snapshot"]);
}

/// Check that the process of an exec that never executes anything, because the runtime runs the
/// user's program itself, is reported at last.
#[test]
fn an_exec_without_an_exec_is_reported_at_last() {
    let mut script = Script::started();
    script.call(CALL, Some("wasm"));
    script.record(303, of(CALL, true), What::Fork(lineage(300, SHIM)));
    script.tracker.exec_started(HERE, &"wasm".into(), 303);
    script.tracker.call_ended(HERE, CALL);
    assert!(script.tracker.has_waiting_records());
    script.tracker.report_overdue(script.now + WAIT_MAX_NS);
    assert!(!script.tracker.has_waiting_records());
    assert_eq!(script.lines(), ["scan"]);
    script.scan(ScanStep::Began);
    script.what(INIT, alive(SHIM, "/bin/sh"));
    script.what(303, alive(SHIM, "/usr/bin/crun"));
    script.scan(ScanStep::Ended);
    assert_eq!(script.lines(), ["process.start 303 /usr/bin/crun exec wasm snapshot"]);
}

/// Check that a scan takes nothing from the records that wait: a process that it lists, and that
/// has older records, is reported by these.
#[test]
fn a_scan_does_not_hide_what_waits() {
    let mut script = Script::started();
    script.call(CALL, Some("probe"));
    script.runc_exec(CALL, "/bin/sh");
    script.record(304, of(CALL, true), What::Fork(lineage(303, 302)));
    script.scan(ScanStep::Began);
    script.what(INIT, alive(SHIM, "/bin/sh"));
    script.what(303, alive(SHIM, "/bin/sh"));
    // Its parent has ended, and a reported process has become its parent.
    script.what(304, alive(INIT, "/bin/sh"));
    script.scan(ScanStep::Ended);
    assert!(script.lines().is_empty());
    script.tracker.exec_started(HERE, &"probe".into(), 303);
    assert_eq!(
        script.lines(),
        ["process.start 303 /bin/sh exec probe", "process.fork 304 /bin/sh descendant probe"]
    );
}

/// Check that init, which still runs the runtime's code when the call that starts it has ended, is
/// reported when it executes the container's program, and by no scan before.
#[test]
fn a_scan_after_the_start_does_not_report_the_runtimes_code_as_init() {
    let mut script = Script::with_provenance();
    script.call(CALL, None);
    script.record(301, of(CALL, true), What::Fork(lineage(INIT, SHIM)));
    script.tracker.call_ended(HERE, CALL);
    assert_eq!(script.lines(), ["scan"], "for what a hook may have left");
    script.scan(ScanStep::Began);
    script.what(INIT, alive(SHIM, "/usr/bin/runc"));
    script.scan(ScanStep::Ended);
    assert!(script.lines().is_empty());
    script.record(INIT, ENTERED, exec(lineage(SHIM, 0), "/bin/sh", Some(false)));
    assert_eq!(script.lines(), ["process.start 200 /bin/sh init"]);
}

/// Check that an init that was started before the container was observed is reported when its start
/// has ended, by a scan.
#[test]
fn an_init_that_started_unobserved_is_reported() {
    let mut script = Script::with_provenance();
    script.tracker.may_have_lost(HERE);
    let scan = |script: &mut Script| {
        script.scan(ScanStep::Began);
        script.what(INIT, alive(SHIM, "/bin/sh"));
        script.scan(ScanStep::Ended);
    };
    scan(&mut script);
    assert!(script.lines().is_empty(), "it may still be the runtime");
    script.call(CALL, None);
    script.tracker.call_ended(HERE, CALL);
    assert_eq!(script.lines(), ["scan"]);
    scan(&mut script);
    assert_eq!(script.lines(), ["process.start 200 /bin/sh init snapshot"]);
}

/// Check that a scan before the start does not report the runtime's code in init as the container's
/// program, and that one of a restored container does report init.
#[test]
fn a_scan_reports_init_only_if_it_may_run() {
    let mut script = Script::with_provenance();
    let scan = |script: &mut Script| {
        let alive =
            What::Alive { lineage: lineage(SHIM, 0), image: image("/bin/sh"), cgroup: None };
        script.scan(ScanStep::Began);
        script.what(INIT, alive);
        script.scan(ScanStep::Ended);
    };
    scan(&mut script);
    assert!(script.lines().is_empty());
    script.tracker.init_may_run(HERE);
    scan(&mut script);
    assert_eq!(script.lines(), ["process.start 200 /bin/sh init snapshot"]);
}

/// Check that an exec that ends before its descendants reports them after its exit, oldest first,
/// and that neither init nor an exec without living descendants reports any.
#[test]
fn an_exec_reports_what_it_has_left() {
    let mut script = Script::started();
    script.call(CALL, Some("probe"));
    script.runc_exec(CALL, "/bin/sh");
    script.tracker.exec_started(HERE, &"probe".into(), 303);
    for pid in [304, 305, 306] {
        script.record(pid, of(CALL, true), What::Fork(lineage(303, SHIM)));
    }
    script.record(307, of(CALL, true), What::Fork(lineage(305, 303)));
    script.record(304, of(CALL, true), exit(Some(0)));
    script.lives();
    script.record(303, of(CALL, true), exit(Some(0)));
    let left = script.effects().iter().find_map(|effect| match effect {
        Effect::Emit(Emission {
            body: Body::ExecLeft { survivors, survivors_count, .. }, ..
        }) => {
            let pids: Vec<i32> = survivors.iter().map(|one| one.key.pid).collect();
            Some((pids, *survivors_count))
        }
        _ => None,
    });
    assert_eq!(left, Some((vec![305, 306, 307], 3)));
    assert_eq!(script.lives(), ["process.exit 303 0", "exec.left 303"]);
    script.record(INIT, ENTERED, exit(Some(0)));
    assert_eq!(script.lives(), ["process.exit 200 0"]);
}
