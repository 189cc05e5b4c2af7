//! Exit and done are two events.

use super::*;

/// Check `sh -c 'sleep 1.5 & exit 5'`: the exit at once, done when no process holds the output.
#[test]
fn done_waits_for_a_descendant_that_holds_the_output() {
    let mut script = Script::running();
    script.fork(INIT, 201);
    script.fork(201, 202);
    script.exec(202, 201, "/bin/sleep", Some(false));
    script.lines();
    script.what(201, exit_holding(5 << 8));
    script.reap();
    assert_eq!(script.lines(), ["process.exit 201 5", "reaped? 201", "holders? 201 [202]"]);
    script.tracker.set_holders(HERE, key(201), &[key(202)], script.now);
    assert!(script.lines().is_empty());
    script.exit(202, 0);
    assert_eq!(script.lines(), ["process.exit 202 0", "reaped? 202", "process.done 201"]);
}

/// Check that when a holder exits, its children are queried, which may have inherited the output.
#[test]
fn when_a_holder_exits_the_rest_is_queried_again() {
    let mut script = Script::running();
    script.fork(INIT, 201);
    script.fork(201, 202);
    script.what(201, exit_holding(0));
    script.reap();
    script.tracker.set_holders(HERE, key(201), &[key(202)], script.now);
    script.fork(202, 203);
    script.lines();
    script.exit(202, 0);
    assert_eq!(script.lines(), ["process.exit 202 0", "reaped? 202", "holders? 201 [203]"]);
    script.fork(203, 204);
    script.exit(203, 0);
    script.lines();
    script.tracker.set_holders(HERE, key(201), &[], script.now);
    assert_eq!(script.lines(), ["holders? 201 [204]"], "204 was born after the query");
    script.tracker.set_holders(HERE, key(201), &[], script.now);
    assert_eq!(script.lines(), ["process.done 201"]);
}

/// Check that there is no query where no process can hold an output.
#[test]
fn without_descendants_or_outputs_done_comes_when_reaped() {
    let mut script = Script::running();
    script.fork(INIT, 201);
    script.fork(201, 202);
    script.lines();
    script.exit(201, 0);
    script.what(202, exit_holding(0));
    script.reap();
    assert_eq!(
        script.lines(),
        [
            "process.exit 201 0",
            "reaped? 201",
            "process.exit 202 0",
            "reaped? 202",
            "process.done 201",
            "process.done 202"
        ]
    );
}

/// Check that done of an exec waits for the end of the shim's own pipes, in either order.
#[test]
fn done_of_an_exec_waits_for_its_pipes() {
    for pipes_first in [true, false] {
        let mut script = Script::running();
        script.tracker.runtime_exec(HERE, &"probe".into(), 300);
        script.tracker.expect_output_end(HERE, &of_exec("probe"));
        script.tracker.exec_started(HERE, &"probe".into(), 302);
        script.exec(302, 300, "/bin/sh", Some(false));
        script.exit(302, 5 << 8);
        script.lines();
        if pipes_first {
            script.tracker.output_ended(HERE, &of_exec("probe"), 5000);
        }
        script.tracker.reaped_exit(HERE, &of_exec("probe"), 302, Ended::Code(5), 5000);
        if !pipes_first {
            assert!(script.lines().is_empty());
            script.tracker.output_ended(HERE, &of_exec("probe"), 6000);
        }
        assert_eq!(script.lines(), ["process.done 302"]);
    }
}

/// Check that the reaper's report is the exit where the source has not delivered it, and only once.
#[test]
fn an_exit_is_reported_once_by_source_or_reaper() {
    let mut script = Script::running();
    let at_ns = script.now + 10;
    script.tracker.reaped_exit(HERE, &ProcessId::Init, INIT, Ended::Signal(9), at_ns);
    script.at(at_ns - 1, INIT, exit(Some(9)));
    script.tracker.reaped_exit(HERE, &ProcessId::Init, INIT, Ended::Signal(9), at_ns);
    assert_eq!(script.lines(), ["process.exit 200 137", "reaped? 200", "process.done 200"]);

    let mut script = Script::running();
    script.exit(INIT, 130 << 8);
    script.tracker.reaped_exit(HERE, &ProcessId::Init, INIT, Ended::Signal(2), 5000);
    let exit = script.effects().iter().find_map(|effect| match effect {
        Effect::Emit(Emission { body: Body::Exit { ended, .. }, .. }) => *ended,
        _ => None,
    });
    assert_eq!(
        exit.and_then(crate::model::Ended::code),
        Some(130),
        "the kernel's exit code, not a signal"
    );
    assert_eq!(script.lines(), ["process.exit 200 130", "reaped? 200", "process.done 200"]);
}

/// Check that a source without statuses gets init's from the reaper, and the time from the source.
#[test]
fn a_missing_status_comes_from_the_reaper() {
    let mut script = Script::running();
    script.what(INIT, exit(None));
    assert!(script.lines().is_empty());
    let at_ns = script.now;
    script.tracker.reaped_exit(HERE, &ProcessId::Init, INIT, Ended::Code(3), at_ns + 50);
    assert!(matches!(&script.effects()[0], Effect::Emit(emission) if emission.at_ns == at_ns));
    assert_eq!(script.lines(), ["process.exit 200 3", "reaped? 200", "process.done 200"]);
}

/// Check that an exec that was reaped before any record of it is reported in full once they are
/// received.
#[test]
fn a_reaper_that_is_faster_than_the_source_loses_nothing() {
    let mut script = Script::running();
    script.tracker.runtime_exec(HERE, &"probe".into(), 300);
    script.tracker.exec_started(HERE, &"probe".into(), 302);
    script.tracker.reaped_exit(HERE, &of_exec("probe"), 302, Ended::Code(4), 5000);
    script.exec(302, SHIM, "/bin/id", Some(false));
    script.exit(302, 4 << 8);
    assert_eq!(
        script.lines(),
        [
            "process.start 302 /bin/id exec probe",
            "process.exit 302 4",
            "reaped? 302",
            "process.done 302"
        ]
    );
}

/// Check that the holders of an output that is held for long are reported once.
#[test]
fn a_held_output_is_reported_once() {
    let mut script = Script::running();
    script.fork(INIT, 201);
    script.fork(201, 202);
    script.what(201, exit_holding(0));
    let died = script.now;
    script.reap();
    script.tracker.set_holders(HERE, key(201), &[key(202)], script.now);
    script.lines();
    assert!(script.tracker.awaits_done());
    script.tracker.report_held(died + 10, 100);
    assert!(script.lines().is_empty());
    script.tracker.report_held(died + 100, 100);
    script.tracker.report_held(died + 200, 100);
    assert_eq!(script.lines(), ["process.held 201 [202]"]);
}

/// Check that the holders of the shim's own pipes are queried after a long time, and reported.
#[test]
fn the_holders_of_the_shims_own_pipes_are_reported_too() {
    let mut script = Script::running();
    script.tracker.expect_output_end(HERE, &ProcessId::Init);
    script.fork(INIT, 201);
    script.what(INIT, exit_holding(0));
    let died = script.now;
    script.tracker.reaped_exit(HERE, &ProcessId::Init, INIT, Ended::Code(0), died);
    script.lines();
    script.tracker.report_held(died + 100, 100);
    assert_eq!(script.lines(), ["holders? 200 [201]"]);
    script.tracker.set_holders(HERE, key(INIT), &[key(201)], died + 101);
    script.tracker.report_held(died + 102, 100);
    assert_eq!(script.lines(), ["process.held 200 [201]"]);
    script.exit(201, 0);
    script.reap();
    assert_eq!(script.lines(), ["process.exit 201 0", "reaped? 201", "process.done 201"]);
    script.tracker.output_ended(HERE, &ProcessId::Init, died + 300);
    assert_eq!(script.lines(), ["process.done 200"]);
    assert!(!script.tracker.awaits_done());
}

/// Check that held outputs beyond the limit become a gap, and that every other process is done.
#[test]
fn too_many_held_outputs_are_a_gap() {
    let mut script = Script::running();
    script.fork(INIT, 201);
    for pid in 1000..1257 {
        script.fork(INIT, pid);
        script.fork(pid, pid + 1000);
        script.what(pid, exit_holding(0));
        script.tracker.confirm_reaped(HERE, key(pid), script.now);
        script.lines();
        script.tracker.set_holders(HERE, key(pid), &[key(pid + 1000)], script.now);
    }
    assert_eq!(script.lines(), ["observer.gap Some(1) observer"]);
    script.end(None);
    let lines = script.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("process.done")).count(), 256 + 257 + 2);
}

/// Check that a dead process that its parent has not waited for is reported as held, once, and is
/// done when the parent has.
#[test]
fn a_zombie_is_held() {
    let mut script = Script::running();
    script.fork(INIT, 201);
    script.exit(201, 0);
    script.lines();
    let later = script.now + 10;
    script.tracker.report_held(later, 5);
    assert_eq!(script.lines(), ["process.held 201 []"]);
    script.tracker.report_held(later + 1, 5);
    assert!(script.lines().is_empty());
    script.tracker.confirm_reaped(HERE, key(201), later + 2);
    assert_eq!(script.lines(), ["process.done 201"]);
}
