//! Exit and done are two events.

use std::time::Duration;

use crate::harness::{
    containerd::{Containerd, Version},
    tools::tool,
};

fn ns(told: &crate::harness::containerd::Told) -> Duration {
    Duration::from_nanos(told.number("/monotonic_ns").expect("always there"))
}

/// Check that an exec whose child keeps its output open has exited at once and is done when the
/// child is.
#[test]
fn an_exec_is_done_when_the_last_holder_of_its_output_is() {
    let containerd = Containerd::start(Version::V1_7);
    let watching = containerd.watching();
    containerd.detached("c", &[], &["sleep", "1000"]);
    let exec = containerd.exec("c", &[], &["sh", "-c", "sleep 1.5 & exit 5"]).spawn();
    let shell = watching.wait_run(&["sh", "-c", "sleep 1.5 & exit 5"]);
    let sleep = watching.wait_run(&["sleep", "1.5"]);
    let exit = watching.wait_of("process.exit", &shell);
    assert_eq!(exit.number("/status"), Some(5), "{exit:?}");
    let done = watching.wait_of("process.done", &shell);
    let end_of_sleep = watching.wait_of("process.exit", &sleep);
    assert!(ns(&exit) < ns(&sleep) + Duration::from_secs(1), "exit is told at once");
    assert!(ns(&done) >= ns(&end_of_sleep), "done before the holder's end");
    assert!(ns(&done) - ns(&exit) > Duration::from_secs(1), "{done:?}");
    exec.wait().exit_code(5);
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    containerd.remove("c");
    drop(watching);
    containerd.assert_nothing_left();
}

/// Check that a process whose first thread ends before the others has one exit, at the end.
#[test]
fn a_leader_that_ends_first_is_no_exit() {
    let containerd = Containerd::start(Version::V1_7);
    let watching = containerd.watching();
    let leader = tool("storm/bin/leader");
    let mount = format!("type=bind,src={},dst=/leader,options=rbind:ro", leader.display());
    containerd.run("c", &["--rm", "--mount", &mount], &["/leader", "300", "7"]).run().exit_code(7);
    let start = watching.wait_run(&["/leader", "300", "7"]);
    let exit = watching.wait_of("process.exit", &start);
    assert!(
        ns(&exit) - ns(&start) >= Duration::from_millis(300),
        "told before the last thread ended"
    );
    assert_eq!(exit.number("/status"), Some(7), "{exit:?}");
    watching.wait_close("c");
    assert_eq!(watching.count(|told| told.is("process.exit", &start)), 1);
    drop(watching);
    containerd.assert_nothing_left();
}

/// Check that an end by a signal tells the signal's name and no code, and go-runc's status.
#[test]
fn a_signal_is_told_by_its_name() {
    let containerd = Containerd::start(Version::V1_7);
    let watching = containerd.watching();
    containerd.run("c", &["--rm"], &["sh", "-c", "sh -c 'kill -SEGV $$'; exit 0"]).run().success();
    let start = watching.wait_run(&["sh", "-c", "kill -SEGV $$"]);
    let exit = watching.wait_of("process.exit", &start);
    assert_eq!(
        (exit.text("/process/exit/signal"), exit.number("/status")),
        ("SIGSEGV", Some(139)),
        "{exit:?}"
    );
    assert!(exit.at("/process/exit/code").is_null(), "{exit:?}");
    watching.wait_close("c");
    drop(watching);
    containerd.assert_nothing_left();
}
