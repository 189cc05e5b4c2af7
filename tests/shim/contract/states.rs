//! What State reports while a change of state is in progress.

use containerd_shim_protos::api::Status;

use crate::harness::Node;

/// Check that a container is reported as pausing while a pause is in progress, and its execs too.
#[test]
fn pausing_is_reported_while_a_pause_is_in_progress() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    shim.run_exec("web", "probe");
    let hold = node.runtime().hold("pause");
    let pause = shim.in_background(|task| task.pause("web"));
    hold.wait_until_reached();
    for exec_id in ["", "probe"] {
        assert_eq!(shim.state("web", exec_id).unwrap().status.enum_value(), Ok(Status::PAUSING));
    }
    hold.release();
    pause.join().unwrap().unwrap();
    for exec_id in ["", "probe"] {
        assert_eq!(shim.state("web", exec_id).unwrap().status.enum_value(), Ok(Status::PAUSED));
    }
    shim.resume("web").unwrap();
    assert_eq!(shim.state("web", "probe").unwrap().status.enum_value(), Ok(Status::RUNNING));
    daemon.wait_for("resumed web");
    assert_eq!(daemon.event_lines()[4..], ["paused web", "resumed web"]);
}

/// Check that a container stays running when its pause fails.
#[test]
fn a_container_whose_pause_fails_runs_on() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    node.runtime().before("pause", "fail 'no freezer'");
    assert_eq!(shim.pause("web").unwrap_err().message, "OCI runtime pause failed: no freezer");
    assert_eq!(shim.state("web", "").unwrap().status.enum_value(), Ok(Status::RUNNING));
}

/// Check that a paused container is thawed when its init dies, so that its other processes can die.
#[test]
fn a_paused_container_is_thawed_when_its_init_dies() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    shim.pause("web").unwrap();
    init.kill();
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 137);
    node.runtime().wait_for_calls("resume", 1);
    shim.delete("web", "").unwrap();
}

/// Check that no process of a container with a shared pid namespace outlives init.
#[test]
fn processes_that_outlive_init_in_a_shared_pid_namespace_are_killed() {
    let node = Node::new();
    let bundle = node.bundle("web").without_pid_namespace();
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    let exec = shim.run_exec("web", "probe");
    init.kill();
    shim.wait("web", "").unwrap();
    assert!(!exec.lives());
    assert!(node.runtime().calls("kill")[0].has("--all"));
    daemon.wait_for("exit web web 137");
    assert_eq!(daemon.event_lines()[4..], ["exit web probe 137", "exit web web 137"]);
}

/// Check that no runtime is run at the end of init if that ends the whole pid namespace.
#[test]
fn the_end_of_a_pid_namespace_needs_no_runtime() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle).kill();
    shim.wait("web", "").unwrap();
    assert_eq!(node.runtime().calls("kill"), []);
}
