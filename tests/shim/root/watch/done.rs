//! Exit and done are separate events.

use std::time::Duration;

use crate::harness::{
    containerd::{Containerd, Version},
    tools::tool,
};

fn ns(event: &crate::harness::containerd::ObservedEvent) -> Duration {
    Duration::from_nanos(event.number("/monotonic_ns").expect("always there"))
}

/// Check that the exit of an exec is reported at once although its child keeps its output open, and
/// that the exec is done when the child ends.
#[test]
fn an_exec_is_done_when_the_last_holder_of_its_output_is() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    containerd.detached("c", &[], &["sleep", "1000"]);
    let exec = containerd.exec("c", &[], &["sh", "-c", "sleep 1.5 & exit 5"]).spawn();
    let shell = subscriber.wait_run(&["sh", "-c", "sleep 1.5 & exit 5"]);
    let sleep = subscriber.wait_run(&["sleep", "1.5"]);
    let exit = subscriber.wait_of("process.exit", &shell);
    assert_eq!(exit.number("/status"), Some(5), "{exit:?}");
    let done = subscriber.wait_of("process.done", &shell);
    let end_of_sleep = subscriber.wait_of("process.exit", &sleep);
    assert!(ns(&exit) < ns(&sleep) + Duration::from_secs(1), "the exit is late");
    assert!(ns(&done) >= ns(&end_of_sleep), "done before the holder's end");
    assert!(ns(&done) - ns(&exit) > Duration::from_secs(1), "{done:?}");
    exec.wait().exit_code(5);
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    containerd.remove("c");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that a process has one exit, at its end, if its first thread ends before the others.
#[test]
fn a_leader_that_ends_first_is_not_an_exit() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    let leader = tool("storm/bin/leader");
    let mount = format!("type=bind,src={},dst=/leader,options=rbind:ro", leader.display());
    containerd.run("c", &["--rm", "--mount", &mount], &["/leader", "300", "7"]).run().exit_code(7);
    let start = subscriber.wait_run(&["/leader", "300", "7"]);
    let exit = subscriber.wait_of("process.exit", &start);
    assert!(
        ns(&exit) - ns(&start) >= Duration::from_millis(300),
        "reported before the last thread ended"
    );
    assert_eq!(exit.number("/status"), Some(7), "{exit:?}");
    subscriber.wait_close("c");
    assert_eq!(subscriber.count(|event| event.is("process.exit", &start)), 1);
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that an exit by a signal is reported with the signal's name, without a code, and with
/// go-runc's status.
#[test]
fn a_signal_is_reported_by_its_name() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    containerd.run("c", &["--rm"], &["sh", "-c", "sh -c 'kill -SEGV $$'; exit 0"]).run().success();
    let start = subscriber.wait_run(&["sh", "-c", "kill -SEGV $$"]);
    let exit = subscriber.wait_of("process.exit", &start);
    assert_eq!(
        (exit.text("/process/exit/signal"), exit.number("/status")),
        ("SIGSEGV", Some(139)),
        "{exit:?}"
    );
    assert!(exit.at("/process/exit/code").is_null(), "{exit:?}");
    subscriber.wait_close("c");
    drop(subscriber);
    containerd.assert_nothing_left();
}
