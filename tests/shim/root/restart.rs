//! containerd is killed and comes back: nothing that happened meanwhile is lost.

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
    what_happened_while_containerd_was_away_is_told_in_order,
    a_talking_container_outlives_containerd,
    a_container_whose_reader_was_killed_lives,
    a_create_that_containerd_did_not_outlive_leaves_nothing,
    a_stopped_containerd_stops_no_shim,
    a_stopped_shim_does_not_keep_containerd_from_serving,
}

/// How long containerd is away: longer than the Go shim's publisher tries.
const AWAY: Duration = Duration::from_secs(45);

/// What the wait may cost: far from a loop that finds neither containerd nor a reader of its log
/// (rust-extensions#240), which would be all of it.
const IDLE_TICKS: u64 = 100;

/// How late a client may connect and still hear what happened.
const LATE: Duration = Duration::from_secs(2);

/// Waits until `away` has passed since `begun`; that containerd is away is the very thing that is
/// waited for, so there is no event.
fn stay_away(begun: Instant, away: Duration) {
    thread::sleep(away.saturating_sub(begun.elapsed()));
}

fn exit_while_away(version: Version, away: Duration) {
    let mut containerd = Containerd::start(version);
    // A fifo's reader would be a client that lives on; there is none.
    let go = containerd.path("go").display().to_string();
    let mount = mount_of_our_folder(&containerd);
    let script = "until [ -e /host/go ]; do usleep 10000; done; exit 9";
    containerd.detached("c", &["--mount", &mount], &["sh", "-c", script]);
    let (pid, shim) = (Process::new(containerd.pid("c")), containerd.shim("c"));

    let (begun, ticks) = (Instant::now(), shim.cpu_ticks());
    containerd.kill_9();
    fs::write(go, "").expect("our folder is writable");
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

/// Check that an exit while containerd is away for 45 s is heard by a client that connects within
/// 2 s of its return, that the task is then STOPPED with its true status, and that the shim goes
/// with the task (containerd#6771); on all containerds at once, for the wait is the same.
#[test]
fn an_exit_while_containerd_is_away_is_not_lost() {
    thread::scope(|scope| {
        for version in Version::ALL {
            scope.spawn(move || exit_while_away(version, AWAY));
        }
    });
}

/// Check that all that happens while containerd is away is told in its order when it is back:
/// exits of execs before their init's.
fn what_happened_while_containerd_was_away_is_told_in_order(version: Version) {
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

/// Check that a container outlives its containerd, whether somebody reads its output or not,
/// and can be spoken to and heard again (containerd#9342, containerd#11511).
fn a_talking_container_outlives_containerd(version: Version) {
    let mut containerd = Containerd::start(version);
    let script = "read one; echo heard $one; read two; echo heard $two; exit 7";
    containerd.detached("heard", &[], &["sh", "-c", script]);
    containerd.detached("talking", &[], &["sh", "-c", "while :; do date; done"]);
    let (heard, talking) = (containerd.pid("heard"), containerd.pid("talking"));
    containerd.kill_9();
    // It has filled its fifo by the time that the daemon is back.
    containerd.restart();
    for (id, pid) in [("heard", heard), ("talking", talking)] {
        assert_eq!(containerd.status(id).as_deref(), Some("RUNNING"));
        assert_eq!(containerd.pid(id), pid);
        containerd.exec(id, &[], &["true"]).run().success();
    }
    let attached =
        containerd.program(&["task", "attach", "heard"]).stdin("one\ntwo\n").run().exit_code(7);
    assert_eq!(attached.stdout_text(), "heard one\nheard two\n");
    containerd.ctr(&["container", "rm", "heard"]).success();
    containerd.remove("talking");
    containerd.assert_nothing_left();
}

/// Check that a container whose client and containerd were killed while it talks to them is
/// not killed by a broken pipe.
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

/// Check that a containerd that was killed amid a create finds, when it is back, nothing that
/// it cannot remove (containerd#6860, containerd#5015).
fn a_create_that_containerd_did_not_outlive_leaves_nothing(version: Version) {
    let mut containerd = Containerd::start(version);
    let (began, go) = (containerd.path("began"), containerd.path("go"));
    containerd.script(
        "bin/runc",
        &format!(
            "case \"$*\" in *' create '*) touch {}; until [ -e {} ]; do sleep 0.02; done;; esac; exec {} \"$@\"",
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
    fs::write(go, "").expect("our folder is writable");
    // It took the task over (1.6), or gave the shim up.
    deadline::until("the end of the create", || {
        containerd.status("c").is_some_and(|status| status == "CREATED")
            || containerd.shims().is_empty()
    });
    containerd.ctr(&["task", "rm", "--force", "c"]);
    containerd.ctr(&["container", "rm", "c"]).success();
    containerd.assert_nothing_left_but_fifos();
}

/// Check that a containerd that is stopped stops no shim: State and Wait are answered over another
/// connection, and what happened is told when it continues (ttrpc@1b4f6f8).
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

/// Check that a containerd that starts beside a stopped shim serves, and works with the other
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
    // containerd has given the stopped one up, and killed its container; nobody will ever
    // speak to it again.
    shim.kill();
    deadline::until("the task to be gone", || {
        containerd.ctr(&["task", "rm", "--force", "stopped"]);
        containerd.status("stopped").is_none()
    });
    containerd.ctr(&["container", "rm", "stopped"]).success();
    containerd.assert_nothing_left_but_files_of("/run/containerd");
}
