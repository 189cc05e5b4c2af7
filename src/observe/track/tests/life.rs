//! Fork, exec, exit: in order, out of order, doubled.

use super::*;

/// Check that a forked process that execs gives a fork and a start, and a second exec an exec.
#[test]
fn fork_and_exec_are_paired_and_a_second_exec_is_an_exec() {
    let mut script = Script::running();
    script.fork(INIT, 201);
    script.exec(201, INIT, "/bin/true", Some(false));
    script.exec(201, INIT, "/bin/false", Some(false));
    script.exit(201, 1 << 8);
    assert_eq!(
        script.lines(),
        [
            "process.fork 201 /bin/sh descendant",
            "process.start 201 /bin/true descendant",
            "process.exec 201 /bin/false descendant",
            "process.exit 201 1",
            "reaped? 201",
        ]
    );
}

/// Check that an exec without a fork is an exec, and that its late fork is not reported.
#[test]
fn an_exec_before_its_fork_gets_no_fork_event() {
    let mut script = Script::running();
    let forked = script.now + 1;
    script.now = forked;
    script.exec(201, INIT, "/bin/true", Some(false));
    script.at(forked, 201, What::Fork(lineage(INIT, 0)));
    script.exit(201, 0);
    assert_eq!(
        script.lines(),
        ["process.exec 201 /bin/true descendant", "process.exit 201 0", "reaped? 201"]
    );
}

/// Check that an exit that is received before its process is known is reported after its birth.
#[test]
fn an_early_exit_is_reported_after_its_birth() {
    let mut script = Script::running();
    let now = script.now;
    script.at(now + 3, 201, exit(Some(0)));
    assert!(script.lines().is_empty());
    script.at(now + 2, 201, exec(lineage(INIT, 0), "/bin/true", Some(false)));
    script.at(now + 1, 201, What::Fork(lineage(INIT, 0)));
    assert_eq!(
        script.lines(),
        ["process.exec 201 /bin/true descendant", "process.exit 201 0", "reaped? 201"]
    );
}

/// Check that a copy of any record changes nothing, before and after the process is forgotten.
#[test]
fn copies_are_not_reported() {
    let mut script = Script::running();
    let now = script.now;
    let records = [
        (now + 1, What::Fork(lineage(INIT, 0))),
        (now + 2, exec(lineage(INIT, 0), "/bin/true", Some(false))),
        (now + 3, exit(Some(9))),
    ];
    for (at_ns, what) in &records {
        script.at(*at_ns, 201, what.clone());
        script.at(*at_ns, 201, what.clone());
    }
    script.reap();
    for (at_ns, what) in &records {
        script.at(*at_ns, 201, what.clone());
    }
    assert_eq!(
        script.lines(),
        [
            "process.fork 201 /bin/sh descendant",
            "process.start 201 /bin/true descendant",
            "process.exit 201 137",
            "reaped? 201",
            "process.done 201",
        ]
    );
}

/// Check that a reused pid with another start is another process, and the exit of the old one is
/// reported.
#[test]
fn a_reused_pid_is_another_process() {
    let mut script = Script::running();
    script.fork(INIT, 201);
    script.now += 1;
    let younger = ProcessKey::new(201, key(201).start_ticks() + 100);
    let fork = Record::Process {
        target: HERE,
        at_ns: script.now,
        grade: Grade::Exact,
        key: younger,
        provenance: None,
        what: What::Fork(lineage(INIT, 0)),
    };
    script.tracker.record(fork);
    script.exit(201, 0);
    assert_eq!(
        script.lines(),
        [
            "process.fork 201 /bin/sh descendant",
            "process.exit 201 ? snapshot",
            "process.done 201",
            "process.fork 201 /bin/sh descendant",
        ]
    );
    assert_eq!(script.tracker.snapshot(None).len(), 2);
}

/// The lineage of a child of init, from a source without start times.
fn born_of_init() -> Lineage {
    let parent = ProcessKey { pid: INIT, start: None };
    Lineage { parent: Some(parent), ..Lineage::default() }
}

/// Check that a source without start times works: records are matched by pid with the living.
#[test]
fn records_without_a_start_mean_the_living_process() {
    let mut script = Script::running();
    let bare = |script: &mut Script, what: What| {
        script.now += 1;
        let key = ProcessKey { pid: 201, start: None };
        let record = Record::Process {
            target: HERE,
            at_ns: script.now,
            grade: Grade::Partial,
            key,
            provenance: None,
            what,
        };
        script.tracker.record(record);
    };
    for _ in 0..2 {
        bare(&mut script, What::Fork(born_of_init()));
        bare(&mut script, exec(born_of_init(), "/bin/true", None));
        bare(&mut script, exit(None));
        script.reap();
    }
    let life = [
        "process.fork 201 /bin/sh descendant",
        "process.start 201 /bin/true descendant",
        "process.exit 201 ?",
        "reaped? 201",
        "process.done 201",
    ];
    assert_eq!(script.lines(), [life, life].concat());
}

/// Check that a start time that is received late completes the identity.
#[test]
fn a_start_that_comes_with_the_exec_completes_the_key() {
    let mut script = Script::running();
    script.now += 1;
    let bare = ProcessKey { pid: 201, start: None };
    let what = What::Fork(born_of_init());
    let fork = Record::Process {
        target: HERE,
        at_ns: script.now,
        grade: Grade::Partial,
        key: bare,
        provenance: None,
        what,
    };
    script.tracker.record(fork);
    script.exec(201, INIT, "/bin/true", None);
    assert_eq!(
        script.lines(),
        ["process.fork 201 /bin/sh descendant", "process.start 201 /bin/true descendant"]
    );
    let snapshot = script.tracker.snapshot(Some(HERE));
    assert_eq!(snapshot[1].1.key, key(201));
    assert_eq!(snapshot[1].1.parent.as_ref().map(|parent| parent.key), Some(key(INIT)));
}

/// Check that an OOM kill is reported before the exit.
#[test]
fn an_oom_kill_comes_before_its_exit() {
    let mut script = Script::running();
    script.fork(INIT, 201);
    script.what(201, What::Exit { wait_status: Some(9), oom_killed: true, outputs: [None; 2] });
    assert_eq!(
        script.lines()[1..],
        ["process.oom_kill 201", "process.exit 201 137 oom", "reaped? 201"]
    );
}

/// Check that the parent at birth stays the parent in events after reparenting.
#[test]
fn the_parent_at_birth_is_kept_over_reparenting() {
    let mut script = Script::running();
    script.fork(INIT, 201);
    script.fork(201, 202);
    script.exit(201, 0);
    script.reap();
    script.exec(202, INIT, "/bin/sleep", Some(false));
    let snapshot = script.tracker.snapshot(Some(HERE));
    let orphan = &snapshot[1].1;
    assert_eq!(orphan.parent.as_ref().map(|parent| parent.key), Some(key(201)));
    assert_eq!(orphan.parent_pid, Some(INIT));
}

/// Check that records of another or an ended target have no effect.
#[test]
fn unknown_targets_are_ignored() {
    let mut script = Script::running();
    script.end(None);
    script.effects().clear();
    script.fork(INIT, 201);
    script.lost();
    assert!(script.lines().is_empty());
}
