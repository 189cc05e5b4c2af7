//! containerd is killed and comes back, and nothing that happened meanwhile is lost.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use super::mount_of_our_folder;
use crate::harness::{
    Process,
    containerd::{Containerd, Event, Version},
    deadline::{self, PATIENCE},
};

on_every_containerd! {
    events_while_containerd_was_away_are_delivered_in_order,
    a_container_that_writes_output_outlives_containerd,
    a_container_whose_reader_was_killed_lives,
    a_create_during_which_containerd_dies_leaves_nothing,
    a_stopped_containerd_stops_no_shim,
    a_stopped_shim_does_not_keep_containerd_from_serving,
}

/// How long containerd is away: longer than the Go shim's publisher retries.
const AWAY: Duration = Duration::from_secs(45);

/// The most processor time of the wait, in ticks of 10 ms. A loop that finds neither containerd nor
/// a reader of its log (rust-extensions#240) would use all of the time.
const IDLE_TICKS: u64 = 100;

/// How late a client may connect and still receive what happened.
const LATE: Duration = Duration::from_secs(2);

/// Sleeps until `away` has passed since `begun`. The absence of containerd is what is tested, so
/// there is no event to wait for.
fn stay_away(begun: Instant, away: Duration) {
    thread::sleep(away.saturating_sub(begun.elapsed()));
}

fn exit_while_away(version: Version, away: Duration) {
    let mut containerd = Containerd::start(version);
    // Without a reader of its fifo, because that would be a client that outlives containerd.
    let go = containerd.path("go").display().to_string();
    let mount = mount_of_our_folder(&containerd);
    let script = "until [ -e /host/go ]; do usleep 10000; done; exit 9";
    containerd.detached("c", &["--mount", &mount], &["sh", "-c", script]);
    let (pid, shim) = (Process::new(containerd.pid("c")), containerd.shim("c"));

    let (begun, ticks) = (Instant::now(), shim.cpu_ticks());
    containerd.kill_9();
    fs::write(go, "").expect("our directory is writable");
    deadline::until("init to exit", || !pid.lives());
    stay_away(begun, away);
    assert!(shim.lives(), "the shim keeps the exit until somebody takes it");
    let ticks = shim.cpu_ticks() - ticks;
    assert!(
        ticks <= IDLE_TICKS,
        "{version:?}: waiting cost {ticks} hundredths of a second of processor time"
    );
    containerd.restart();
    let back = Instant::now();
    thread::sleep(LATE.mul_f64(0.75));
    let events = containerd.events_at_once();
    assert!(back.elapsed() < LATE, "this machine is too slow to connect in time");

    let exit = events.wait_topic("/tasks/exit", "c");
    assert_eq!(
        (exit.number("pid"), exit.number("exit_status")),
        (pid.pid.unsigned_abs().into(), 9),
        "{version:?}"
    );
    assert_eq!(containerd.status("c").as_deref(), Some("STOPPED"), "{version:?}");
    let removed = containerd.ctr(&["task", "rm", "c"]).success();
    assert!(
        removed.stderr_text().contains("exit code 9"),
        "{version:?}: {}",
        removed.stderr_text()
    );
    containerd.ctr(&["container", "rm", "c"]).success();
    events.wait_topic("/tasks/delete", "c");
    containerd.assert_nothing_left();
    assert!(!shim.lives());
}

/// Check that an exit while containerd is away for 45 s is received by a client that connects
/// within 2 s of its return, that the task is then STOPPED with its true status, and that the shim
/// ends with the task (containerd#6771). All containerds are tested at once, because each waits for
/// the same time.
#[test]
fn an_exit_while_containerd_is_away_is_not_lost() {
    thread::scope(|scope| {
        for version in Version::ALL {
            scope.spawn(move || exit_while_away(version, AWAY));
        }
    });
}

/// Check that everything that happens while containerd is away is delivered in order when it is
/// back: exits of execs before their init's.
fn events_while_containerd_was_away_are_delivered_in_order(version: Version) {
    let mut containerd = Containerd::start(version);
    containerd.detached("c", &[], &["sh", "-c", "sleep 1000"]);
    let events = containerd.events();
    let running = ["e1", "e2"].map(|exec_id| {
        let exec = containerd
            .program(&["task", "exec", "--exec-id", exec_id, "c", "sleep", "1000"])
            .spawn();
        let is_it =
            |event: &Event| event.is("/tasks/exec-started", "c") && event.process() == exec_id;
        let pid = events.wait(PATIENCE, exec_id, is_it).number("pid");
        (exec, Process::new(pid))
    });
    let init = Process::new(containerd.pid("c"));
    containerd.kill_9();
    for process in [running[1].1, running[0].1, init] {
        process.signal(Signal::SIGKILL);
        deadline::until("the shim to reap it", || process.state().is_none());
    }
    containerd.restart();
    let events = containerd.events_at_once();
    events.wait_topic("/tasks/exit", "c");
    assert_eq!(events.of("c"), ["exit e2", "exit e1", "exit"]);
    for event in events.all().iter().filter(|event| event.topic == "/tasks/exit") {
        assert_eq!(event.number("exit_status"), 137, "{event:?}");
    }
    assert_eq!(containerd.status("c").as_deref(), Some("STOPPED"));
    containerd.remove("c");
    containerd.assert_nothing_left_but_fifos();
}

/// Check that a container outlives its containerd, with and without a reader of its output, and
/// that a client can attach to it again (containerd#9342, containerd#11511).
fn a_container_that_writes_output_outlives_containerd(version: Version) {
    let mut containerd = Containerd::start(version);
    let script = "read one; echo answered $one; read two; echo answered $two; exit 7";
    containerd.detached("answered", &[], &["sh", "-c", script]);
    containerd.detached("writing", &[], &["sh", "-c", "while :; do date; done"]);
    let (answered, writing) = (containerd.pid("answered"), containerd.pid("writing"));
    containerd.kill_9();
    // The container has filled its fifo by the time that the daemon is back.
    containerd.restart();
    for (id, pid) in [("answered", answered), ("writing", writing)] {
        assert_eq!(containerd.status(id).as_deref(), Some("RUNNING"));
        assert_eq!(containerd.pid(id), pid);
        containerd.exec(id, &[], &["true"]).run().success();
    }
    let attached =
        containerd.program(&["task", "attach", "answered"]).stdin("one\ntwo\n").run().exit_code(7);
    assert_eq!(attached.stdout_text(), "answered one\nanswered two\n");
    containerd.ctr(&["container", "rm", "answered"]).success();
    containerd.remove("writing");
    containerd.assert_nothing_left();
}

/// Check that a container is not killed by SIGPIPE when its client and containerd are killed while
/// it writes to them.
fn a_container_whose_reader_was_killed_lives(version: Version) {
    let mut containerd = Containerd::start(version);
    let client = containerd.run("c", &[], &["sh", "-c", "while :; do date; done"]).spawn();
    deadline::until("it to run", || {
        containerd.status("c").is_some_and(|status| status == "RUNNING")
    });
    client.signal(Signal::SIGKILL);
    containerd.kill_9();
    containerd.restart();
    assert_eq!(containerd.status("c").as_deref(), Some("RUNNING"));
    containerd.exec("c", &[], &["true"]).run().success();
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// Check that a containerd that is killed during a create finds nothing that it cannot remove when
/// it is back (containerd#6860, containerd#5015).
fn a_create_during_which_containerd_dies_leaves_nothing(version: Version) {
    let mut containerd = Containerd::start(version);
    let (began, go) = (containerd.path("began"), containerd.path("go"));
    containerd.script(
        "bin/runc",
        &format!(
            "case \"$*\" in *' create '*) touch {}; until [ -e {} ]; do sleep 0.02; done;; \
             esac; exec {} \"$@\"",
            began.display(),
            go.display(),
            containerd.runtime_binary(),
        ),
    );
    let client = containerd.run("c", &["--detach"], &["sleep", "1000"]).spawn();
    deadline::until("the create to begin", || began.exists());
    containerd.kill_9();
    client.wait();
    containerd.restart();
    fs::write(go, "").expect("our directory is writable");
    // containerd took over the task (1.6), or gave up on the shim.
    deadline::until("the end of the create", || {
        containerd.status("c").is_some_and(|status| status == "CREATED")
            || containerd.shims().is_empty()
    });
    containerd.ctr(&["task", "rm", "--force", "c"]);
    containerd.ctr(&["container", "rm", "c"]).success();
    containerd.assert_nothing_left_but_fifos();
}

/// Check that a stopped containerd does not block a shim: State and Wait are answered over another
/// connection, and events are delivered when it continues (ttrpc@1b4f6f8).
fn a_stopped_containerd_stops_no_shim(version: Version) {
    let containerd = Containerd::start(version);
    let events = containerd.events();
    containerd.detached("c", &[], &["sleep", "1000"]);
    let (shim, init) = (containerd.task_service("c"), Process::new(containerd.pid("c")));
    let shim = shim.with_deadline(Duration::from_secs(2));
    let daemon = Process::new(containerd.daemon_pid().expect("it runs"));
    daemon.signal(Signal::SIGSTOP);
    shim.state("c", "").expect("an answer");
    init.signal(Signal::SIGKILL);
    assert_eq!(shim.wait("c", "").expect("an answer").exit_status, 137);
    shim.state("c", "").expect("an answer");
    daemon.signal(Signal::SIGCONT);
    assert_eq!(events.wait_topic("/tasks/exit", "c").number("exit_status"), 137);
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// Check that a containerd that starts while a shim is stopped serves, and works with the other
/// shims (containerd#13954).
fn a_stopped_shim_does_not_keep_containerd_from_serving(version: Version) {
    let mut containerd = Containerd::start(version);
    containerd.detached("stopped", &[], &["sleep", "1000"]);
    containerd.detached("other", &[], &["sleep", "1000"]);
    let shim = containerd.shim("stopped");
    containerd.kill_9();
    shim.signal(Signal::SIGSTOP);
    containerd.restart();
    containerd.exec("other", &[], &["true"]).run().success();
    containerd.remove("other");
    // containerd has given up on the stopped shim and killed its container. No client will call
    // that shim again.
    shim.kill();
    deadline::until("the task to be gone", || {
        containerd.ctr(&["task", "rm", "--force", "stopped"]);
        containerd.status("stopped").is_none()
    });
    containerd.ctr(&["container", "rm", "stopped"]).success();
    containerd.assert_nothing_left_but_files_of("/run/containerd");
}
