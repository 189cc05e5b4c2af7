//! What watching does not do.

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

/// Check that during 2000 listeners of 5 ms the shim reads nothing of `/proc` and asks for the
/// kernel's list of sockets at most once, and tells them all.
#[test]
fn two_thousand_listeners_are_told_without_a_look() {
    const COUNT: usize = 2000;
    let containerd = Containerd::start(Version::V1_7);
    let watching = containerd.watching();
    let go = containerd.path("go");
    mkfifo(&go, Mode::S_IRWXU).expect("our folder is writable");
    let folder = mount_of_our_folder(&containerd);
    let script = "read line </host/go; exec /ports short 2000 5000 10000 stay >/dev/null";
    containerd.detached("c", &["--mount", &mount(), "--mount", &folder], &["sh", "-c", script]);
    watching.wait(SOON, "the container", |told| told.kind() == "process.start");
    let trace = containerd.path("trace");
    let shim = containerd.shim("c").pid.to_string();
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-p", &shim, "-e", "trace=open,openat,readlink,readlinkat,socket,setns", "-o"])
        .arg(&trace);
    let strace = Program::new(strace).within(Duration::from_secs(90)).spawn();
    deadline::until("strace to hold the shim", || is_traced(containerd.shim("c")));
    fs::write(&go, "go\n").expect("the container reads");
    watching.wait_for(Duration::from_secs(60), "the closings", |told| {
        (of(told, "port.close", "c").len() == COUNT).then_some(())
    });
    strace.signal(Signal::SIGINT);
    strace.wait();
    assert_eq!(of(&watching.all(), "port.open", "c").len(), COUNT);
    let calls = fs::read_to_string(&trace).expect("written by strace");
    assert!(calls.contains("AF_UNIX"), "the trace shows that the bus was told: {calls}");
    assert!(!calls.contains("\"/proc/"), "{calls}");
    assert!(calls.matches("NETLINK_SOCK_DIAG").count() <= 1, "{calls}");
    remove(&containerd, "c");
    drop(watching);
    containerd.assert_nothing_left();
}

/// Check that a shim with a container that listens and does nothing is not woken for 10 s.
#[test]
fn an_idle_sandbox_wakes_nobody() {
    let containerd = Containerd::start(Version::V1_7);
    let watching = containerd.watching();
    listener(&containerd, "c", &[], &["hold", "127.0.0.1", "700"]);
    wait(&watching, "port.open", "c", 700);
    drop(watching);
    let shim = containerd.shim("c");
    // Who followed has a place until the next heartbeat finds it gone.
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

/// How often the threads of a process were switched to.
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
