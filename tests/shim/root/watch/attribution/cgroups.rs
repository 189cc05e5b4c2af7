//! Processes that are moved into the cgroup of another container, or of none.

use std::fs;

use super::{end, ended_with, exec, move_into, sleeping};
use crate::{
    harness::{
        Process,
        containerd::{Containerd, ObservedEvent, Subscriber, Version},
        deadline::PATIENCE,
    },
    root::{mount_of_our_folder, ports},
};

/// Two containers beside each other, `c` and `neighbour`, that see the test's directory as `/host`.
fn neighbours() -> (Containerd, Subscriber) {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    let (folder, ports) = (mount_of_our_folder(&containerd), ports::mount());
    sleeping(&containerd, "neighbour", &[]);
    sleeping(&containerd, "c", &["--mount", &folder, "--mount", &ports]);
    (containerd, subscriber)
}

/// The pid of the process that has just been reported with these arguments, which have no spaces.
fn pid_of(subscriber: &Subscriber, command: &str) -> u64 {
    let args: Vec<&str> = command.split(' ').collect();
    subscriber.wait_run(&args).number("/process/pid").expect("a process has a pid")
}

/// Check that a process which was moved into another cgroup, its exit and its children are reported
/// for the container that reported the process first, and nothing for the neighbour.
#[test]
fn a_moved_process_stays_with_its_container() {
    let (containerd, subscriber) = neighbours();
    for (n, to) in [Some("neighbour"), None].into_iter().enumerate() {
        let (exec_id, n) = (format!("moved{n}"), 40 + 10 * u64::try_from(n).expect("small"));
        let command = format!(
            "/births await /host/go-{exec_id} child {n} child {} exec /births nap 10 {}",
            n + 1,
            n + 2
        );
        let client = containerd.program(&exec(&exec_id, "c", &command)).spawn();
        move_into(&containerd, to, pid_of(&subscriber, &command));
        fs::write(containerd.path(&format!("go-{exec_id}")), "").expect("our directory");
        client.wait().exit_code(i32::try_from(n).expect("small"));
    }
    let beside = end(&containerd, &subscriber, "neighbour");
    assert_eq!(beside.len(), 1, "{beside:#?}");
    let lives = end(&containerd, &subscriber, "c");
    for (exec_id, n) in [("moved0", 40), ("moved1", 50)] {
        ended_with(&lives, n).assert_is(&["start", "exit", "done"], "exec", exec_id);
        ended_with(&lives, n + 1).assert_is(&["fork", "exit", "done"], "descendant", exec_id);
        let kinds = ["fork", "start", "exit", "done"];
        ended_with(&lives, n + 2).assert_is(&kinds, "descendant", exec_id);
    }
    assert_eq!(lives.len(), 1 + 2 * 3, "{lives:#?}");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that a moved process that a container's own init has forked is reported as ended when it
/// is killed, and is no longer listed.
#[test]
fn a_moved_process_that_is_killed_is_no_longer_listed() {
    let (containerd, subscriber) = neighbours();
    let command = "/births nap 900000 1";
    let client = containerd.program(&exec("moved", "c", command)).spawn();
    let pid = pid_of(&subscriber, command);
    move_into(&containerd, Some("neighbour"), pid);
    let listed = || containerd.lookout(&["ps", "-o", "json"]).run().success().stdout_text();
    assert!(listed().contains("900000"), "{}", listed());
    Process::new(i32::try_from(pid).expect("a pid")).kill();
    client.wait().exit_code(137);
    let killed = subscriber.wait(PATIENCE, "its exit", |event| {
        event.kind() == "process.exit" && event.number("/process/pid") == Some(pid)
    });
    assert_eq!((killed.container(), killed.number("/status")), ("c", Some(137)), "{killed:?}");
    assert!(!listed().contains("900000"), "{}", listed());
    assert_eq!(end(&containerd, &subscriber, "neighbour").len(), 1);
    assert_eq!(end(&containerd, &subscriber, "c").len(), 2);
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that ports which a process opens after it was moved into another container's cgroup are
/// reported as opened and as closed for its own container.
#[test]
fn a_moved_processes_port_stays_with_its_container() {
    let (containerd, subscriber) = neighbours();
    for (exec_id, to, kind, port) in [
        ("a", Some("neighbour"), "hold", 700),
        ("b", Some("neighbour"), "udp", 701),
        ("c", None, "hold", 702),
        ("d", None, "udp", 703),
    ] {
        let command = format!("/births await /host/go-{port} exec /ports {kind} 0.0.0.0 {port}");
        let client = containerd.program(&exec(exec_id, "c", &command)).spawn();
        let pid = pid_of(&subscriber, &command);
        move_into(&containerd, to, pid);
        fs::write(containerd.path(&format!("go-{port}")), "").expect("our directory");
        let of = |event: &ObservedEvent, kind: &str| {
            event.kind() == kind && event.number("/network/local/port") == Some(port)
        };
        let wait = |kind: &str| {
            let what = format!("{kind} of {port}");
            subscriber.wait(PATIENCE, &what, |event| of(event, kind))
        };
        let open = wait("port.open");
        assert_eq!((open.container(), open.number("/owners/0/pid")), ("c", Some(pid)), "{open:?}");
        assert_eq!(open.text("/owners/0/exec_id"), exec_id, "{open:?}");
        Process::new(i32::try_from(pid).expect("a pid")).kill();
        client.wait().exit_code(137);
        let close = wait("port.close");
        assert_eq!((close.container(), close.text("/grade")), ("c", "exact"), "{close:?}");
        assert_eq!(subscriber.count(|event| of(event, "port.open")), 1);
    }
    assert_eq!(end(&containerd, &subscriber, "neighbour").len(), 1);
    end(&containerd, &subscriber, "c");
    drop(subscriber);
    containerd.assert_nothing_left();
}
