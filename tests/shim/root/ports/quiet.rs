//! What observing ports does not cost.

use std::{fs, process::Command, thread, time::Duration};

use nix::{
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};

use super::{super::mount_of_our_folder, SOON, listener, mount, of, remove, wait};
use crate::harness::{
    Process,
    containerd::{Containerd, Program, Version},
    deadline,
};

/// Check that for 2000 listeners of 5 ms the shim reads nothing from `/proc`, requests the kernel's
/// list of sockets at most once, and reports all of them.
#[test]
fn two_thousand_listeners_are_reported_without_a_scan() {
    const COUNT: usize = 2000;
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    let go = containerd.path("go");
    mkfifo(&go, Mode::S_IRWXU).expect("our directory is writable");
    let directory = mount_of_our_folder(&containerd);
    let script = "read line </host/go; exec /ports short 2000 5000 10000 stay >/dev/null";
    containerd.detached("c", &["--mount", &mount(), "--mount", &directory], &["sh", "-c", script]);
    subscriber.wait(SOON, "the container", |event| event.kind() == "process.start");
    let trace = containerd.path("trace");
    let shim = containerd.shim("c").pid.to_string();
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-p", &shim, "-e", "trace=open,openat,readlink,readlinkat,socket,setns", "-o"])
        .arg(&trace);
    let strace = Program::new(strace).within(Duration::from_secs(90)).spawn();
    deadline::until("strace to hold the shim", || is_traced(containerd.shim("c")));
    fs::write(&go, "go\n").expect("the container reads");
    subscriber.wait_for(Duration::from_secs(60), "the closings", |events| {
        (of(events, "port.close", "c").len() == COUNT).then_some(())
    });
    strace.signal(Signal::SIGINT);
    strace.wait();
    assert_eq!(of(&subscriber.all(), "port.open", "c").len(), COUNT);
    let calls = fs::read_to_string(&trace).expect("written by strace");
    assert!(calls.contains("AF_UNIX"), "the trace shows no message to the bus: {calls}");
    assert!(!calls.contains("\"/proc/"), "{calls}");
    assert!(calls.matches("NETLINK_SOCK_DIAG").count() <= 1, "{calls}");
    remove(&containerd, "c");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that a shim with a container that listens and does nothing is not woken for 10 s.
#[test]
fn an_idle_sandbox_does_not_wake_its_shim() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    listener(&containerd, "c", &[], &["hold", "127.0.0.1", "700"]);
    wait(&subscriber, "port.open", "c", 700);
    drop(subscriber);
    let shim = containerd.shim("c");
    // A subscriber that has left stays registered until the next heartbeat fails.
    let mut before = switches(shim);
    deadline::within(Duration::from_secs(30), "the shim to come to rest", || {
        thread::sleep(Duration::from_secs(6));
        let now = switches(shim);
        std::mem::replace(&mut before, now) == now
    });
    thread::sleep(Duration::from_secs(10));
    assert_eq!(switches(shim), before);
    remove(&containerd, "c");
    containerd.assert_nothing_left();
}

/// How often the threads of a process were scheduled so far.
fn switches(process: Process) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.pid)).expect("it lives").flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let counts = |text: String| -> u64 {
        let lines = text.lines().filter_map(|line| line.split_once("ctxt_switches:"));
        lines.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum()
    };
    texts.map(counts).sum()
}

fn is_traced(process: Process) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.pid)).expect("it lives").flatten();
    let mut texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    texts.all(|text| {
        text.lines()
            .any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
    })
}
