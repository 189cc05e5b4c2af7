//! Processes that choose their parent, their pid, their executable or their arguments.

use super::{Life, end, ended_with, exec, host_pids, lives, running, sleeping};
use crate::harness::{
    containerd::{Containerd, ObservedEvent, Runtime, Version},
    deadline::PATIENCE,
};

under_each_runtime! {
    a_sibling_that_an_exec_clones_is_its_descendant,
    a_sibling_that_executes_is_no_exec,
    siblings_take_no_exec_id_of_others,
}

/// Check that a process which an exec clones as a child of the shim (CLONE_PARENT), and which
/// executes nothing, is reported as the exec's descendant, and so is all that it forks.
fn a_sibling_that_an_exec_clones_is_its_descendant(version: Version, runtime: Runtime) {
    let containerd = Containerd::start_with(version, runtime);
    let subscriber = containerd.subscribe();
    sleeping(&containerd, "c", &[]);
    let command = "/births sibling child 6 child 5 nap 10 4";
    containerd.ctr(&exec("forker", "c", command)).success();
    let lives = end(&containerd, &subscriber, "c");
    ended_with(&lives, 0).assert_is(&["start", "exit", "done"], "exec", "forker");
    // A process by its exit code, and the process that forked it.
    for (code, forker) in [(6, 0), (5, 6), (4, 5)] {
        let life = ended_with(&lives, code);
        life.assert_is(&["fork", "exit", "done"], "descendant", "forker");
        assert_eq!(life.parent_pid(), ended_with(&lives, forker).pid(), "{life:?}");
    }
    assert_eq!(lives.len(), 5, "init, the exec and three more: {lives:#?}");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that such a process is still a descendant of the exec when it executes a program, and that
/// its exit and those of its children have their true codes.
fn a_sibling_that_executes_is_no_exec(version: Version, runtime: Runtime) {
    let containerd = Containerd::start_with(version, runtime);
    let subscriber = containerd.subscribe();
    sleeping(&containerd, "c", &[]);
    let command = "/births sibling exec /births child 5 exec /births nap 10 4";
    containerd.ctr(&exec("forker", "c", command)).success();
    let lives = end(&containerd, &subscriber, "c");
    ended_with(&lives, 0).assert_is(&["start", "exit", "done"], "exec", "forker");
    for (code, forker) in [(5, 0), (4, 5)] {
        let life = ended_with(&lives, code);
        life.assert_is(&["fork", "start", "exit", "done"], "descendant", "forker");
        assert_eq!(life.parent_pid(), ended_with(&lives, forker).pid(), "{life:?}");
    }
    assert_eq!(lives.len(), 4, "init, the exec and two more: {lives:#?}");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that while an exec clones children of the shim which execute programs, each exec that
/// starts meanwhile has its own id, its own process and its own exit, and that none of the clones
/// has the id of any exec but the one that cloned it.
fn siblings_take_no_exec_id_of_others(version: Version, runtime: Runtime) {
    const IMPOSTOR: &str = "/births nap 300 99";
    let containerd = Containerd::start_with(version, runtime);
    let subscriber = containerd.subscribe();
    sleeping(&containerd, "c", &[]);
    let command = format!("/births siblings 150 10 exec {IMPOSTOR}");
    let forker = containerd.program(&exec("forker", "c", &command)).spawn();
    subscriber.wait_run(&IMPOSTOR.split(' ').collect::<Vec<_>>());
    for n in 0..6 {
        let (exec_id, command) = (format!("e{n}"), format!("/births nap 20 {}", 40 + n));
        containerd.ctr(&exec(&exec_id, "c", &command)).exit_code(40 + n);
    }
    forker.wait().success();
    let lives = end(&containerd, &subscriber, "c");
    for n in 0..6 {
        let life = ended_with(&lives, 40 + n);
        life.assert_is(&["start", "exit", "done"], "exec", &format!("e{n}"));
    }
    let impostors = running(&lives, IMPOSTOR);
    assert_eq!(impostors.len(), 150, "{lives:#?}");
    for life in impostors {
        life.assert_is(&["fork", "start", "exit", "done"], "descendant", "forker");
        assert_eq!(life.status, Some(99), "{life:?}");
    }
    assert_eq!(lives.len(), 1 + 1 + 6 + 150, "{lives:#?}");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that eight processes which get the same pid of their namespace, one after the other, are
/// eight processes with an exit each.
#[test]
fn many_lives_of_one_pid_of_a_namespace_are_as_many_processes() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    sleeping(&containerd, "c", &["--privileged"]);
    containerd.ctr(&exec("forker", "c", "/births lives 8 nap 0 20")).success();
    let lives = end(&containerd, &subscriber, "c");
    let vpid = |life: &Life| life.first.number("/process/vpid");
    for code in 20..28 {
        let life = ended_with(&lives, code);
        life.assert_is(&["fork", "exit", "done"], "descendant", "forker");
        assert_eq!(vpid(life), vpid(ended_with(&lives, 20)), "{life:?}");
    }
    assert_eq!(lives.len(), 1 + 1 + 8, "{lives:#?}");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that eight processes which get the same pid of the host, one after the other and faster
/// than the clock of `/proc` ticks, have a fork, an exit with its own code and a done each. Their
/// entity ids may be equal, because these have the start in clock ticks.
#[test]
fn many_lives_of_one_pid_of_the_host_are_reported_each() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    sleeping(&containerd, "c", &["--privileged", "--with-ns", &host_pids()]);
    containerd.ctr(&exec("forker", "c", "/births lives 8 nap 0 20")).success();
    end(&containerd, &subscriber, "c");
    let events = subscriber.all();
    let code = |event: &ObservedEvent| event.number("/process/exit/code");
    let pid = |event: &ObservedEvent| event.number("/process/pid");
    let first = events.iter().find(|event| code(event) == Some(20)).expect("its exit");
    let of_pid: Vec<_> = events.iter().filter(|event| pid(event) == pid(first)).collect();
    let count = |kind: &str| of_pid.iter().filter(|event| event.kind() == kind).count();
    let counts = ["process.fork", "process.exit", "process.done"].map(count);
    assert_eq!(counts, [8; 3], "{of_pid:#?}");
    let mut codes: Vec<_> = of_pid.iter().filter_map(|event| code(event)).collect();
    codes.sort_unstable();
    assert_eq!(codes, (20..28).collect::<Vec<_>>());
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that a process stays the same, with one exit, when another thread than its leader executes
/// a program.
#[test]
fn an_exec_by_another_thread_is_the_same_process() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    sleeping(&containerd, "c", &[]);
    containerd.ctr(&exec("e", "c", "/births thread exec /births nap 10 7")).exit_code(7);
    let lives = end(&containerd, &subscriber, "c");
    let life = ended_with(&lives, 7);
    life.assert_is(&["start", "exec", "exit", "done"], "exec", "e");
    assert_eq!(life.args, ["/births", "nap", "10", "7"]);
    assert_eq!(lives.len(), 2, "{lives:#?}");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that programs which have no path, because they are only in memory or are deleted, are
/// reported as what a process executes.
#[test]
fn a_program_without_a_path_is_reported() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    sleeping(&containerd, "c", &[]);
    for (exec_id, command, path, code) in [
        ("m", "/births memfd nap 10 4", "/memfd:births", 4),
        ("d", "/births deleted /gone nap 10 5", "/gone", 5),
    ] {
        containerd.ctr(&exec(exec_id, "c", command)).exit_code(code);
        let executed = subscriber.wait(PATIENCE, "the exec of the copy", |event| {
            event.kind() == "process.exec" && event.text("/containerd/exec_id") == exec_id
        });
        assert!(executed.text("/process/executable/path").starts_with(path), "{executed:?}");
        assert_eq!(executed.args()[1..], ["nap", "10", &code.to_string()], "{executed:?}");
    }
    let lives = end(&containerd, &subscriber, "c");
    for (exec_id, code) in [("m", 4), ("d", 5)] {
        ended_with(&lives, code).assert_is(&["start", "exec", "exit", "done"], "exec", exec_id);
    }
    assert_eq!(lives.len(), 3, "{lives:#?}");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that a process which overwrites its arguments has executed nothing, also after a loss,
/// when all processes are read from `/proc`.
#[test]
fn a_title_is_no_exec() {
    // An exec with more bytes of arguments than the ring has is lost.
    let containerd = Containerd::start_configured(Version::V1_7, "ring_size = \"4KiB\"\n");
    let subscriber = containerd.subscribe();
    sleeping(&containerd, "c", &[]);
    let titled = "/births title nginx:_master child 7 nap 2500 6";
    let server = containerd.program(&exec("server", "c", titled)).spawn();
    subscriber.wait_run(&titled.split(' ').collect::<Vec<_>>());
    let lost = format!("/births nap 1000 5 {}", "x".repeat(5000));
    containerd.ctr(&exec("lost", "c", &lost)).exit_code(5);
    let gap = subscriber.wait(PATIENCE, "a gap", |event| event.kind() == "observer.gap");
    assert_eq!(gap.text("/stage"), "kernel", "{gap:?}");
    server.wait().exit_code(7);
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    containerd.remove("c");
    subscriber.wait_close("c");
    let lives = lives(&subscriber.all(), "c");
    let found = ended_with(&lives, 5);
    assert_eq!((found.exec_id(), found.first.text("/grade")), ("lost", "snapshot"), "{found:?}");
    ended_with(&lives, 7).assert_is(&["start", "exit", "done"], "exec", "server");
    ended_with(&lives, 6).assert_is(&["fork", "exit", "done"], "descendant", "server");
    for code in [7, 6] {
        let life = ended_with(&lives, code);
        assert!(life.args.iter().eq(titled.split(' ')), "{life:?}");
    }
    drop(subscriber);
    containerd.assert_nothing_left();
}
