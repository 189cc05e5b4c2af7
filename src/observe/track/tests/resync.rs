//! A loss, and the look at `/proc` that follows.

use super::*;

/// Check that a loss is a gap and asks for a look, and that its differences are marked.
#[test]
fn differences_after_a_loss_are_told_as_such() {
    let mut script = Script::running();
    script.fork(INIT, 201);
    script.fork(INIT, 202);
    script.fork(INIT, 203);
    script.exec(203, INIT, "/bin/a", Some(false));
    script.told();
    script.lost();
    assert_eq!(script.told(), ["observer.gap Some(3) kernel", "look"]);
    script.what(0, What::ScanBegan);
    script.what(205, alive(lineage(204, 0), "/bin/grandchild"));
    script.what(204, alive(lineage(202, 0), "/bin/child"));
    script.what(202, alive(lineage(INIT, 0), "/bin/started"));
    script.what(203, alive(lineage(INIT, 0), "/bin/b"));
    script.what(INIT, alive(lineage(SHIM, 0), "/bin/sh"));
    assert!(script.told().is_empty(), "a look counts when it is complete");
    script.what(0, What::ScanEnded);
    let mut told = script.told();
    told.sort();
    assert_eq!(
        told,
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

/// Check that records between the two ends of a look, and old ones after it, give no doubles.
#[test]
fn records_that_meet_a_look_are_told_once() {
    let mut script = Script::running();
    let before = script.now;
    script.now += 10;
    script.what(0, What::ScanBegan);
    script.what(INIT, alive(lineage(SHIM, 0), "/bin/sh"));
    script.what(201, alive(lineage(INIT, 0), "/bin/true"));
    script.what(202, alive(lineage(INIT, 0), "/bin/gone"));
    script.fork(INIT, 203);
    script.at(before + 3, 202, What::Fork(lineage(INIT, 0)));
    script.exit(202, 0);
    script.what(0, What::ScanEnded);
    script.at(before + 1, 201, What::Fork(lineage(INIT, 0)));
    script.at(before + 2, 201, exec(lineage(INIT, 0), "/bin/true", Some(false)));
    assert_eq!(
        script.told(),
        [
            "process.fork 203 /bin/sh descendant",
            "process.fork 202 /bin/sh descendant",
            "process.exit 202 0",
            "reaped? 202",
            "process.start 201 /bin/true descendant snapshot",
        ]
    );
}

/// Check that init's absence waits for the reaper, who knows how it ended.
#[test]
fn an_absent_init_is_left_to_the_reaper() {
    let mut script = Script::running();
    script.what(0, What::ScanBegan);
    script.what(0, What::ScanEnded);
    assert!(script.told().is_empty());
    script.tracker.reaped_exit(HERE, "", INIT, 7, script.now, &mut script.effects);
    assert_eq!(script.told(), ["process.exit 200 7", "reaped? 200", "process.done 200"]);
}

/// Check that a look before the user's program finds only a stage.
#[test]
fn a_look_before_start_tells_nothing() {
    let mut script = Script::new();
    script.tracker.runtime_path(HERE, b"/usr/bin/runc");
    script.what(0, What::ScanBegan);
    script.what(INIT, alive(lineage(SHIM, 0), "/usr/bin/runc"));
    script.what(0, What::ScanEnded);
    assert!(script.told().is_empty());
    script.exec(INIT, SHIM, "/bin/sh", None);
    assert_eq!(script.told(), ["process.start 200 /bin/sh init"]);
}

/// Check that a process which writes over its own arguments has not execed.
#[test]
fn a_new_title_is_no_exec() {
    let mut script = Script::running();
    script.what(0, What::ScanBegan);
    let titled = Image {
        args: Some(Args::from_nul_separated(b"sh: idle\0")),
        comm: Some(b"sh"[..].into()),
        executable: Some(b"/bin/sh (deleted)"[..].into()),
        ..Image::default()
    };
    script.what(
        INIT,
        What::Alive { lineage: lineage(SHIM, 0), image: Arc::new(titled), cgroup: None },
    );
    script.what(0, What::ScanEnded);
    assert!(script.told().is_empty());
}

/// Check that a look in the middle of an exec, which finds no arguments, is made good by the next
/// one, once.
#[test]
fn arguments_that_were_not_there_yet_are_news() {
    let mut script = Script::running();
    let found = |script: &mut Script, image: &Image| {
        script.what(0, What::ScanBegan);
        script.what(
            INIT,
            What::Alive { lineage: lineage(SHIM, 0), image: Arc::new(image.clone()), cgroup: None },
        );
        script.what(0, What::ScanEnded);
        script.told()
    };
    let whole = (*image("/bin/ls")).clone();
    let half = Image { args: None, unknown: Some(crate::model::Unknown::Faulted), ..whole.clone() };
    assert_eq!(found(&mut script, &half), ["process.exec 200 /bin/ls init snapshot"]);
    assert_eq!(found(&mut script, &whole), ["process.exec 200 /bin/ls init snapshot"]);
    assert!(found(&mut script, &whole).is_empty());
}

/// Check that a loss of unknown target looks at all of them.
#[test]
fn a_loss_of_no_target_looks_at_all() {
    let mut script = Script::running();
    script.tracker.begin(TargetId(8), Some(900));
    let lost = Record::Lost { target: None, at_ns: 9999, count: None, stage: Stage::Kernel };
    script.tracker.record(lost, &mut script.effects);
    assert_eq!(script.told(), ["observer.gap None kernel", "look", "look"]);
}
